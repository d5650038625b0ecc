"""What a user of a rollup does: signs steps and hands them in at the operator's desk, and leaves by the chain alone."""

from __future__ import annotations

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.eip712 import digest_cooperative_close
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address, AnyAddress, CooperativeClose, to_address
from tallystick.channels.storage.store import Store
from tallystick.channels.values.arguments import checked
from tallystick.sdk.errors import CallFailed
from tallystick.sdk.rollup.asking import DeskAccount, DeskStep, RollupDesk
from tallystick.sdk.rollup.calls import RollupCall
from tallystick.sdk.rollup.chain import RollupChain
from tallystick.sdk.rollup.disputing import RollupDisputes
from tallystick.sdk.rollup.leaving import RollupLeaving
from tallystick.sdk.rollup.promises import Promise
from tallystick.sdk.rollup.reading import read_rollup
from tallystick.sdk.rollup.signing import StepSigner, WantedStep, check_promises, read_promised
from tallystick.sdk.rollup.terms import check_terms
from tallystick.settlement.rollup.rules import (
    Place,
    Statement,
    channel_name,
    digest_exit,
    digest_fund,
    digest_open,
    digest_transfer,
)
from tallystick.settlement.rollup.steps import (
    RollupClose,
    RollupExit,
    RollupFund,
    RollupOpen,
    RollupTransfer,
    Step,
    encode_step,
)


class RollupUser:
    """An account of a rollup, by its key. Make it with `open_rollup_user`. Without a desk it leaves by the chain."""

    @checked
    def __init__(
        self,
        chain: RollupChain,
        place: Place,
        key: PrivateKey,
        desk: RollupDesk | None = None,
        store: Store | None = None,
        *,
        fee_max: int = 0,
        start: int = 0,
        accept_terms: bool = False,
        asset: AnyAddress = NATIVE,
    ) -> None:
        """`store` records what is signed: nothing is without it. `fee_max` is what the operator may take for a step.

        `start` is a block not after the rollup's first one; `accept_terms` is for deposits where its terms make no
        sense. `asset` is what the account holds: for each token there is an account, and a `store`, of its own.
        """
        self.asset = to_address(asset)
        self._chain = chain
        self._place = place
        self._key = key
        self._desk = desk
        self._start = start
        self._accept_terms = accept_terms
        self._signer = None
        if desk is not None and store is not None:
            self._signer = StepSigner(chain, place, key, store, desk, fee_max=fee_max, start=start, asset=self.asset)
        self.leaving = RollupLeaving(chain, key, start, self.asset)
        """Its ways out by the chain alone."""
        self.disputes = RollupDisputes(chain, place, key, start)
        """How it closes channels without their other side, and answers who does."""

    @property
    def address(self) -> Address:
        """Of the account."""
        return self._key.address

    async def account(self, owner: AnyAddress | None = None) -> DeskAccount:
        """Return what the operator says of an account, ours by default."""
        return await self._asked.account(to_address(owner or self.address), self.asset)

    async def where(self, step: Step) -> DeskStep:
        """Return what the operator says became of a step."""
        return await self._asked.step(encode_step(step))

    async def deposit(self, amount: int) -> bytes:
        """Move coins or tokens of the account into the rollup, which is allowed to take them; return the transaction.

        Raise Reverted, or InvalidInput if the rollup's terms make no sense, unless that was accepted.
        """
        check_terms(*(await self._chain.facts()).terms, accept=self._accept_terms)
        if self.asset == NATIVE:
            return await self._chain.act(self._key, RollupCall("deposit", (self.address,), amount))
        await self._chain.allow(self._key, self.asset, amount)
        return await self._chain.act(self._key, RollupCall("depositToken", (self.address, self.asset, amount)))

    async def transfer(self, to: AnyAddress, amount: int, *, key: str | None = None) -> tuple[Step, Promise | None]:
        """Pay another account of the rollup; return the step and the operator's promise of it.

        The promise is None if a batch on the chain has it already. `key` makes it safe to ask again, also after a
        crash: under one key there is one step.
        """
        payee = to_address(to)

        def digest(number: int) -> bytes:
            return digest_transfer(self._place, self.address, payee, amount, number, self.asset)

        wanted = WantedStep(
            lambda ours, theirs, number: RollupTransfer(ours, theirs, amount, number), digest, amount, payee
        )
        return await self._signs.hand_in(wanted, key)

    async def open_channel(
        self, channel: int, other: AnyAddress, deposit: int, *, key: str | None = None
    ) -> tuple[Step, Promise | None]:
        """Open a channel under a number that none has had."""
        partner = to_address(other)
        name = channel_name(self._place, self.address, partner, channel, self.asset)

        def digest(number: int) -> bytes:
            return digest_open(self._place, name, deposit, number)

        async def check() -> None:
            try:
                await self._asked.channel(channel)
            except CallFailed:
                return
            raise InvalidInput(f"number {channel} is a channel's already")

        def make(ours: int, theirs: int, number: int) -> Step:
            return RollupOpen(channel, ours, theirs, deposit, number)

        return await self._signs.hand_in(WantedStep(make, digest, deposit, partner, check), key)

    async def fund(self, channel: int, amount: int, *, key: str | None = None) -> tuple[Step, Promise | None]:
        """Pay into a channel, on our side."""
        first, second = (await self._asked.channel(channel)).sides
        name = channel_name(self._place, first, second, channel, self.asset)

        def digest(number: int) -> bytes:
            return digest_fund(self._place, name, amount, number)

        async def check() -> None:
            if self.address not in (first, second) or not (await self._asked.channel(channel)).open:
                raise InvalidInput(f"channel {channel} is not open, or not this account's")

        def make(ours: int, theirs: int, number: int) -> Step:
            return RollupFund(channel, int(self.address == second), amount, number)

        return await self._signs.hand_in(WantedStep(make, digest, amount, check=check), key)

    async def exit(self, amount: int, *, key: str | None = None) -> tuple[Step, Promise | None]:
        """Take out what the account holds, or a part: once the batch is final, `withdraw` pays them."""

        def digest(number: int) -> bytes:
            return digest_exit(self._place, self.address, amount, number, self.asset)

        return await self._signs.hand_in(
            WantedStep(lambda ours, theirs, number: RollupExit(ours, amount, number), digest, amount), key
        )

    async def resend(self) -> list[tuple[Step, Promise | None]]:
        """Hand in again what was signed and may not have reached the operator; return what it promises now."""
        return await self._signs.resend()

    async def sign_close(self, channel: int, balance0: int, valid_until: int) -> bytes:
        """Return our signature of a close: the first side gets `balance0`, the second one the rest."""
        return self._key.sign((await self._close(channel, balance0, valid_until))[0].digest)

    async def close(self, channel: int, balance0: int, valid_until: int, other: bytes) -> tuple[Step, Promise]:
        """Hand in a close with the other side's signature. It has no number: a channel is closed once."""
        statements = await self._close(channel, balance0, valid_until)
        ours = self._key.sign(statements[0].digest)
        signatures = [ours if each.signer == self.address else other for each in statements]
        step = RollupClose(channel, balance0, valid_until)
        word = encode_step(step)
        body = {"step": f"0x{word.hex()}", "signatures": [f"0x{each.hex()}" for each in signatures]}
        (promise,) = read_promised(await self._asked.ask("/steps", {"steps": [body]}), [word])
        await check_promises(self._chain, self._place, [promise])
        return step, promise

    async def force_exit(self) -> bytes:
        """Order all that the account holds out, by the chain: the operator must, or everything stops."""
        return await self._chain.act(self._key, RollupCall("forceExit", (self.asset,)))

    async def force_close(self, channel: int, balance0: int, valid_until: int, other: bytes) -> bytes:
        """Order a close that both signed by the chain, without asking the operator for anything."""
        core = await read_rollup(self._chain, self._start)
        found = core.state.channels.get(channel)
        owners = [core.state.accounts.get(each) for each in (found.first, found.second)] if found else []
        if found is None or len(owners) != 2 or owners[0] is None or owners[1] is None:
            raise InvalidInput(f"there is no channel {channel}")
        if owners[0].asset != self.asset:
            raise InvalidInput(f"channel {channel} is one of 0x{owners[0].asset.hex()}")
        first, second = owners[0].owner, owners[1].owner
        statements = self._closing(channel, first, second, balance0, found.total, valid_until)
        ours = self._key.sign(statements[0].digest)
        signatures = tuple(ours if each.signer == self.address else other for each in statements)
        values = (channel, first, second, balance0, found.total - balance0, valid_until, self.asset)
        call = RollupCall("forceClose", values, statements=statements, signatures=signatures)
        return await self._chain.act(self._key, call)

    async def withdraw(self) -> bytes | None:
        """Have paid what the account took out, or all if everything has stopped: see `RollupLeaving.withdraw`."""
        return await self.leaving.withdraw()

    async def _close(self, channel: int, balance0: int, valid_until: int) -> tuple[Statement, Statement]:
        found = await self._asked.channel(channel)
        return self._closing(channel, *found.sides, balance0, found.total, valid_until)

    def _closing(
        self, channel: int, first: Address, second: Address, balance0: int, total: int, valid_until: int
    ) -> tuple[Statement, Statement]:
        if not 0 <= balance0 <= total:
            raise InvalidInput(f"channel {channel} holds {total}: its first side cannot get {balance0}")
        name = channel_name(self._place, first, second, channel, self.asset)
        close = CooperativeClose(name, balance0, total - balance0, valid_until)
        digest = digest_cooperative_close(self._place.domain, close)
        return Statement(first, digest), Statement(second, digest)

    @property
    def _asked(self) -> RollupDesk:
        if self._desk is None:
            raise InvalidInput("this takes the operator's desk: give its URL")
        return self._desk

    @property
    def _signs(self) -> StepSigner:
        if self._signer is None:
            raise InvalidInput("this takes the operator's desk, and a directory that records what is signed")
        return self._signer
