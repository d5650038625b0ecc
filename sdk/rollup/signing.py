"""Signing steps under an account's numbers, each number once, and handing them in at the operator's desk.

What is signed is on disk before it is sent. After a refusal, a crash or a desk that is away the same bytes are handed
in again; another step is signed under a number only when a state that nothing takes back has made the first one
impossible. The numbers come from the record and from the chain: what the desk says of them only decides what is handed
in again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.storage.store import Store
from tallystick.sdk.errors import CallFailed
from tallystick.sdk.rollup.asking import DeskAccount, RollupDesk
from tallystick.sdk.rollup.chain import RollupChain
from tallystick.sdk.rollup.promises import Promise
from tallystick.sdk.rollup.reading import read_final_state, read_rollup
from tallystick.sdk.rollup.record import (
    RecordedStep,
    StepPromised,
    StepSettled,
    StepStanding,
    read_bundle,
    read_free,
    read_key,
    read_last,
    read_unsettled,
    sign_moment,
)
from tallystick.settlement.rollup.rules import Place, digest_transfer
from tallystick.settlement.rollup.state import LeafStanding, RollupState
from tallystick.settlement.rollup.steps import (
    RollupExit,
    RollupFund,
    RollupOpen,
    RollupTransfer,
    Step,
    encode_step,
)

SLACK = 60
"""Seconds by which the operator's view of the chain may be ahead of ours."""


class StepWaits(CallFailed):
    """A step that was signed is not taken: until it is, no other one is signed."""


class WantedStep(NamedTuple):
    """What a user wants to sign, under a number that is still to be found."""

    make: Callable[[int, int, int], Step]
    """Of the numbers of our account and of the other one, and the number to sign under."""
    digest: Callable[[int], bytes]
    """Of the statement, by that number."""
    cost: int
    """What it takes out of the account."""
    other: Address = NATIVE
    """Another account that the step names."""
    check: Callable[[], Awaitable[None]] | None = None
    """Raises InvalidInput if the operator could not take it: what is signed has its number for good."""


class StepSigner:
    """One account's steps."""

    def __init__(
        self,
        chain: RollupChain,
        place: Place,
        key: PrivateKey,
        store: Store,
        desk: RollupDesk,
        *,
        fee_max: int = 0,
        start: int = 0,
        asset: Address = NATIVE,
    ) -> None:
        """`fee_max` is what a step may cost at the desk; `start` a block not after the rollup's first one.

        `asset` is the account's; each has numbers of its own, and so takes a record of its own.
        """
        self._asset = asset
        self._chain = chain
        self._place = place
        self._key = key
        self._store = store
        self._desk = desk
        self._fee_max = fee_max
        self._start = start

    async def hand_in(self, wanted: WantedStep, key: str | None = None) -> tuple[Step, Promise | None]:
        """Sign a step, hand it in, and return it with the operator's promise; None if a batch on the chain has it.

        `key` makes it safe to ask again: what was asked for under it is one step. Without, it is the same only as long
        as nobody is known to have taken it. What was signed before and is not taken is handed in first. Raise
        StepWaits if it is refused, InvalidInput if the step makes no sense or its number is in doubt.
        """
        known = read_key(self._store, key) if key is not None else None
        if known is not None and known.standing != StepStanding.VOID:
            if wanted.digest(known.number) != known.digest:
                raise InvalidInput(f"{key!r} is the key of another step: take a new one")
            if known.standing == StepStanding.TAKEN:
                return known.step, known.promise
        for bundle in read_unsettled(self._store, (await self._account()).nonce):
            steps = read_bundle(self._store, bundle)
            made = await self._send(steps) if steps else None
            first = next((each for each in steps if each.standing == StepStanding.SIGNED), None)
            same = first is not None and first == steps[0] and first.key == key
            if made is not None and first is not None and same and wanted.digest(first.number) == first.digest:
                return made
        made = await self._send(await self._sign(wanted, key))
        if made is None:
            raise StepWaits("the step came to nothing: the chain shows that it is impossible")
        return made

    async def resend(self) -> list[tuple[Step, Promise | None]]:
        """Hand in again what was signed and may not have reached the operator; return what it promises now.

        Raise StepWaits if it refuses.
        """
        done = []
        for bundle in read_unsettled(self._store, (await self._account()).nonce):
            steps = read_bundle(self._store, bundle)
            made = await self._send(steps) if steps else None
            done += [made] if made else []
        return done

    async def _sign(self, wanted: WantedStep, key: str | None) -> list[RecordedStep]:
        """Sign a step, and the operator's fee for it; return what is in its bundle, once all is on disk."""
        ours, operator = await self._account(), (await self._chain.facts()).operator
        if wanted.check is not None:
            await wanted.check()
        free, last = read_free(self._store), read_last(self._store)
        bundle = free.bundle if free is not None else last.bundle + 1 if last is not None else 0
        beside = read_bundle(self._store, bundle)
        number = free.number if free is not None else await self._next(last, ours.nonce)
        if free is not None and wanted.digest(number) == free.digest:
            raise InvalidInput("the chain has made this very step impossible for good")
        fee = 0 if operator == self._key.address else await self._fee()
        if operator == wanted.other:
            fee -= min(fee, wanted.cost)
        fee -= sum(paid_to_other(each, operator) for each in beside)
        if ours.balance < wanted.cost + max(0, fee):
            raise InvalidInput(
                f"the account has {ours.balance} in the rollup: this takes {wanted.cost}, and a fee of {max(0, fee)}"
            )
        steps = [(await self._signed(bundle, number, wanted))._replace(key=key)]
        if fee > 0:
            top = max([number, *(each.number for each in beside), last.number if last is not None else 0])
            steps.append(await self._signed(bundle, top + 1, self._paying(operator, fee)))
        self._store.commit([sign_moment(steps, [encode_step(each.step) for each in steps])])
        return read_bundle(self._store, bundle)

    async def _top_up(self, steps: Sequence[RecordedStep]) -> bool:
        """Sign what the fee has risen by since steps were signed, which the desk refuses, if that is allowed.

        Return whether anything was signed, under a number of its own.
        """
        last, operator, fee = (
            read_last(self._store),
            (await self._chain.facts()).operator,
            (await self._desk.terms()).fee_of(self._asset),
        )
        missing = fee - sum(paid_to_other(each, operator) for each in steps)
        if operator == self._key.address:
            return False
        if last is None or missing <= 0 or fee > self._fee_max:
            return False
        more = await self._signed(steps[0].bundle, last.number + 1, self._paying(operator, missing))
        self._store.commit([sign_moment([more], [encode_step(more.step)])])
        return True

    async def _fee(self) -> int:
        fee = (await self._desk.terms()).fee_of(self._asset)
        if fee > self._fee_max:
            raise InvalidInput(f"the operator takes {fee} for a step, and {self._fee_max} at most is allowed")
        return fee

    def _paying(self, operator: Address, fee: int) -> WantedStep:
        def digest(number: int) -> bytes:
            return digest_transfer(self._place, self._key.address, operator, fee, number, self._asset)

        return WantedStep(lambda ours, theirs, number: RollupTransfer(ours, theirs, fee, number), digest, fee, operator)

    async def _signed(self, bundle: int, number: int, wanted: WantedStep) -> RecordedStep:
        theirs = await self._index(wanted.other) if wanted.other != NATIVE else 0
        step, digest = wanted.make(await self._index(), theirs, number), wanted.digest(number)
        return RecordedStep(digest, bundle, number, step, wanted.other, self._key.sign(digest))

    async def _next(self, last: RecordedStep | None, told: int) -> int:
        """Return the number to sign under: the one after the last that was signed.

        Where the record says nothing, or the desk knows later numbers, the chain's batches have to bear these out.
        """
        if last is not None and told <= last.number + 1:
            if told <= last.number:
                raise StepWaits(f"number {told} was signed under, and the operator took that, and asks for it again")
            return last.number + 1
        proven = self._number_in((await read_rollup(self._chain, self._start)).state, await self._index())
        if told > proven or (last is not None and proven <= last.number):
            raise InvalidInput(
                f"the operator knows steps of this account up to number {told - 1} that are not in this record, and "
                f"the chain's batches know those up to {proven - 1}: another program signs with this key, or a record "
                "was lost; wait until all are in batches"
            )
        return proven

    async def _send(self, steps: Sequence[RecordedStep]) -> tuple[Step, Promise | None] | None:
        """Hand in what can be carried out of a bundle; return its first step and the promise of it, if there is one.

        None if the chain shows that it cannot be carried out any more.
        """
        named = [await self._renamed(each) for each in steps]
        words = [encode_step(each) for each in named]
        body = [
            {"step": f"0x{word.hex()}", "signatures": [f"0x{each.signature.hex()}"]}
            for word, each in zip(words, steps, strict=True)
        ]
        try:
            answer = await self._desk.ask("/steps", {"steps": body})
        except CallFailed as error:
            done = await self._settle(steps)
            if done is not None:
                if done < len(steps):
                    await self._send(steps[done:])
                return named[0], steps[0].promise
            if await self._is_over(steps[0]):
                return None
            if await self._top_up(steps):
                return await self._send(read_bundle(self._store, steps[0].bundle))
            raise StepWaits(
                f"the operator does not take step number {steps[0].number}, which was signed ({error}). The same step "
                "may be handed in again, and no other one is signed under its number unless the chain makes it "
                f"impossible for good; what the account holds can leave by the chain{await self._wanting(steps)}"
            ) from error
        promises = read_promised(answer, words)
        await check_promises(self._chain, self._place, promises)
        self._store.commit(
            [
                StepPromised(each.digest, promise.step, promise.until, promise.signature)
                for each, promise in zip(steps, promises, strict=True)
            ]
        )
        return named[0], promises[0]

    async def _renamed(self, recorded: RecordedStep) -> Step:
        """Return a step with the numbers that its accounts have now: what was signed names them by address."""
        step = recorded.step
        if isinstance(step, RollupFund):
            return step
        ours = await self._index()
        if isinstance(step, RollupExit):
            return replace(step, account=ours)
        theirs = await self._index(recorded.other)
        if isinstance(step, RollupOpen):
            return replace(step, opener=ours, other=theirs)
        return replace(step, payer=ours, payee=theirs) if isinstance(step, RollupTransfer) else step

    async def _settle(self, steps: Sequence[RecordedStep]) -> int | None:
        """Ask the chain whether steps that the desk refuses were carried out; return how many were, None if none."""
        done = self._number_in((await read_rollup(self._chain, self._start)).state, await self._index())
        over = [StepSettled(each.digest, StepStanding.TAKEN) for each in steps if each.number < done]
        if over:
            self._store.commit(over)
        return len(over) or None

    async def _wanting(self, steps: Sequence[RecordedStep]) -> str:
        """Say what the account lacks for steps by the chain's own word, if it lacks anything: the rest waits for it."""
        account = (await read_rollup(self._chain, self._start)).state.accounts.get(await self._index())
        held = account.balance if account is not None and account.owner == self._key.address else 0
        lacking = sum(cost_of(each.step) for each in steps) - held
        if lacking <= 0:
            return ""
        return (
            f". By the chain's batches the account has {held}, {lacking} less than was signed for: the number is held "
            f"until coins come. Deposit {lacking} (or have them paid to it), and the step is carried out: `tally "
            "rollup resend`"
        )

    async def _is_over(self, step: RecordedStep) -> bool:
        """Whether a step can never be carried out: its number may be signed under again, what follows it waits."""
        if not is_void(step, await read_final_state(self._chain, self._start), await self._index()):
            return False
        self._store.commit([StepSettled(step.digest, StepStanding.VOID)])
        return True

    async def _index(self, owner: Address | None = None) -> int:
        """Return the number of an account in the rollup as the chain has it: a desk may name somebody else's."""
        number, _, _ = await self._chain.account(owner or self._key.address, self._asset)
        if number is None:
            raise InvalidInput(
                f"0x{(owner or self._key.address).hex()} has no account in the rollup: a deposit makes one"
            )
        return number

    def _number_in(self, state: RollupState, index: int) -> int:
        """Return the number that our account signs under next in a state; 0 if it has no account there yet."""
        account = state.accounts.get(index)
        return account.nonce if account is not None and account.owner == self._key.address else 0

    async def _account(self, owner: Address | None = None) -> DeskAccount:
        return await self._desk.account(owner or self._key.address, self._asset)


def is_void(recorded: RecordedStep, final: RollupState, index: int) -> bool:
    """Whether a step of an account can never be carried out after a state that nothing takes back.

    A channel's number is used once, and a closed channel stays closed; for anything else coins may come.
    """
    account = final.accounts.get(index)
    if account is None or account.nonce > recorded.number:
        return False
    step = recorded.step
    if isinstance(step, RollupOpen):
        return final.channels.get(step.channel) is not None
    if isinstance(step, RollupFund):
        channel = final.channels.get(step.channel)
        return channel is not None and channel.standing == LeafStanding.CLOSED
    return False


def cost_of(step: Step) -> int:
    """Return what a step takes out of the account that signs it."""
    match step:
        case RollupTransfer() | RollupFund() | RollupExit():
            return step.amount
        case RollupOpen():
            return step.deposit
    return 0


def paid_to_other(recorded: RecordedStep, other: Address) -> int:
    """Return what a step pays to another account by a transfer."""
    return recorded.step.amount if isinstance(recorded.step, RollupTransfer) and recorded.other == other else 0


def read_promised(answer: Any, words: Sequence[bytes]) -> list[Promise]:
    """Return the promises in a desk's answer; raise CallFailed if there is not one for each word."""
    try:
        promises = [
            Promise(word, int(each["until"]), bytes.fromhex(each["signature"][2:]))
            for word, each in zip(words, answer["promises"], strict=True)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise CallFailed("the operator's answer to a step is no promise: watch for the step") from error
    return promises


async def check_promises(chain: RollupChain, place: Place, promises: Sequence[Promise]) -> None:
    """Raise CallFailed unless the operator signed these promises, for no later than the chain would order as much."""
    facts, head = await chain.facts(), await chain.head()
    for each in promises:
        if not each.is_signed(place, facts.operator):
            raise CallFailed("the operator took the step, and its promise is not signed by it: watch for the step")
        if each.until > head.time + facts.order_time + SLACK:
            raise CallFailed(
                f"the operator took the step, and promises it for {each.until} only: the chain orders what it must do "
                f"within {facts.order_time} seconds; watch for the step"
            )
