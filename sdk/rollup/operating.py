"""The operator's program: it takes steps, makes batches, posts them, shows signatures. It stores, then promises, posts.

It can end at any moment. On disk are the steps that it promised, and each batch with all its signatures from before it
is posted. Under one number another batch is made only when the chain can take the earlier one no more: its list has
changed by a reorganisation, its time is over, or another batch has the number. All stay on disk until that is final.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from msgspec import field

from tallystick.channels.errors import InvalidInput, TallystickError
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, ZERO32, Address
from tallystick.channels.storage.store import Store
from tallystick.channels.values.arguments import Options
from tallystick.sdk.rollup.admission import AccountLimits, check_fee, paid_to
from tallystick.sdk.rollup.calls import RollupCall, RollupFacts, post_call
from tallystick.sdk.rollup.chain import RollupChain
from tallystick.sdk.rollup.follower import RollupFollower
from tallystick.sdk.rollup.promises import Promise, sign_promise
from tallystick.sdk.rollup.schema import (
    BatchesForgotten,
    BatchMade,
    KeptStep,
    StepsForgotten,
    StepTaken,
    read_batch,
    read_batches,
    read_steps,
    word_of,
    words_of,
)
from tallystick.settlement.errors import Reverted
from tallystick.settlement.modules.rollups import LAG
from tallystick.settlement.rollup.batches import STEPS_MAX
from tallystick.settlement.rollup.operator import (
    PENDING_MAX,
    PostBatch,
    RollupOperator,
    SignedStep,
    show_signatures,
)
from tallystick.settlement.rollup.state import state_root
from tallystick.settlement.rollup.steps import EntryKind, Op
from tallystick.settlement.rollup.watcher import RollupWatcher

KEPT_SECONDS = 86_400
"""For how long a step that came to nothing is tried again: a reorganisation may make it right."""

ANSWERS = 8
"""Demands that are answered before the next batch: a flood of them must not hold up what the chain has ordered."""

Say = Callable[[str], None]


class OperatorPolicy(Options, frozen=True, kw_only=True):
    """How an operator works."""

    every: int = 12
    """Seconds between two batches, at least, unless one is full."""
    fee: int = 0
    """For a step that its user signs under a number, paid in the rollup to the operator's account."""
    token_fees: dict[Address, int] = field(default_factory=dict)
    """The same for steps of an account of a token, in that token; while there is a fee, other tokens' are refused."""
    worth: int = 0
    """A batch is posted once what waits for it pays so much in fees, in coins,"""
    wait: int = 300
    """or has waited for so many seconds."""
    promise: int = 600
    """Seconds within which a step that was taken is in a batch."""
    steps_max: int = STEPS_MAX
    per_minute: int = 600
    """Steps that an account may hand in within a minute of the chain's time."""
    waiting_max: int = STEPS_MAX
    """Steps of one account that may wait for a batch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.wait + self.every > self.promise:
            raise InvalidInput(
                f"a step may wait {self.wait} s and {self.every} s more, and is promised for {self.promise} s: promise "
                "more, or wait less"
            )
        if NATIVE in self.token_fees:
            raise InvalidInput("the chain's own coin is no token: `fee` is what a step costs in coins")

    def fee_of(self, asset: Address) -> int | None:
        """Return what a step of an account of this asset costs, in the asset; None if none is taken."""
        if asset == NATIVE:
            return self.fee
        return self.token_fees.get(asset, None if self.fee else 0)


class _Seen(NamedTuple):
    """What of the chain an operator's core stands on."""

    core: RollupWatcher
    entries: int
    number: int
    serials: list[int]


class _FinalSeen(NamedTuple):
    """At this block so many batches were final: a reorganisation may replace it, and open a window again."""

    number: int
    hash: bytes
    final: int


class Operating:
    """The operator of one rollup, with a disk and a chain."""

    def __init__(
        self,
        chain: RollupChain,
        follower: RollupFollower,
        store: Store,
        key: PrivateKey,
        facts: RollupFacts,
        say: Say,
        policy: OperatorPolicy | None = None,
    ) -> None:
        if facts.operator != key.address:
            raise InvalidInput(f"the operator of this rollup is 0x{facts.operator.hex()}, not 0x{key.address.hex()}")
        self._chain = chain
        self._follower = follower
        self._store = store
        self._key = key
        self._say = say
        self.policy = policy or OperatorPolicy()
        self._limits = AccountLimits(self.policy.per_minute, self.policy.waiting_max)
        self.facts = facts
        self._steps = read_steps(store)
        self._posted: dict[bytes, int] = {}
        """Of the steps that are in batches on the chain: the number of the batch."""
        self._settled = 0
        """How many of the steps on disk these are: until their batch is final they stay."""
        self._finals: list[_FinalSeen] = []
        """In order, until nothing takes them back."""
        self._beyond = 0
        """How many batches are final by a block that no reorganisation reaches: nobody can demand anything of them."""
        self._made: PostBatch | None = None
        self._seen: _Seen | None = None
        self._numbers: dict[tuple[Address, Address], int] = {}
        self._numbered = 0
        self.core = self._begin()

    @property
    def time(self) -> int:
        """The chain's."""
        return self._follower.head.time

    async def step(self) -> None:
        """Look at the chain once, and do what must be done. Raise ChainUnavailable or ChainError."""
        await self._follower.follow()
        self.facts = await self._chain.facts()
        self._agree()
        await self._answer()
        if not self.facts.frozen and not self._follower.core.is_wrong:
            await self._post()
        await self._note_final()
        self._forget()

    def take(self, bundle: Sequence[SignedStep]) -> list[Promise]:
        """Take steps of users', all or none, and promise that they come into a batch.

        The same steps again give the same promises. Raise WrongStep, InvalidSignature or InvalidInput.
        """
        words = [word_of(each) for each in bundle]
        fresh = [(word, each) for word, each in zip(words, bundle, strict=True) if word not in self._steps]
        if fresh:
            self._check(fresh)
            until = self.time + self.policy.promise
            self._store.commit([StepTaken(word, each.signatures, until) for word, each in fresh])
            self._steps |= {word: KeptStep(each, until) for word, each in fresh}
        return [sign_promise(self._key, self._follower.core.place, each, self._steps[each].until) for each in words]

    def _check(self, fresh: list[tuple[bytes, SignedStep]]) -> None:
        """Hand steps to the core that are not known yet; raise as `take` does."""
        if self.facts.frozen:
            raise InvalidInput("everything has stopped here: leave by the chain")
        if (waiting := len(self._steps) - self._settled) + len(fresh) > PENDING_MAX:
            raise InvalidInput(f"{waiting} steps are on their way already")
        for word, _ in fresh:
            if word in self._posted:
                raise InvalidInput(f"this step is in batch {self._posted[word]} already")
        steps = [each.step for _, each in fresh]  # a fee that was paid before pays for nothing else

        def ours(asset: Address) -> int | None:
            return self.number_of(self.facts.operator, asset)

        check_fee(steps, self.core.ahead, ours, self.policy.fee_of)
        self._limits.on_time(self.time)
        counts = self._limits.check(steps, self.core.state, self.core.ahead, ours(NATIVE))
        self.core.submit(*[each for _, each in fresh], time=self.time)
        self._limits.on_taken(counts)

    def where(self, word: bytes) -> tuple[str, int | None]:
        """Return what became of a step (unknown, waiting, refused, posted, final), and the number of its batch."""
        number = self._posted.get(word)
        if number is not None:
            return ("final" if number < self.facts.final else "posted"), number
        if word not in self._steps:
            return "unknown", None
        waiting = {word_of(each) for each in self.core.pending}
        made = words_of(self._made.batch) if self._made else ()
        return ("waiting" if word in waiting or word in made else "refused"), None

    def number_of(self, owner: Address, asset: Address = NATIVE) -> int | None:
        """Return the number of an owner's account of an asset, by the chain's list; None if it has none."""
        for entry in self._follower.core.entries[self._numbered :]:
            if entry.kind == EntryKind.DEPOSIT:
                self._numbers[entry.first, entry.asset] = entry.index
        self._numbered = len(self._follower.core.entries)
        return self._numbers.get((owner, asset))

    def signatures(self, number: int) -> tuple[tuple[bytes, ...], ...] | None:
        """Return those of a batch that stands, None if it is not there, or is final and forgotten."""
        found = self._ours(number)
        return found.signatures if found else None

    def _ours(self, number: int) -> PostBatch | None:
        """Return a batch that stands, with its signatures; None if it is not there, or is final and forgotten.

        After a reorganisation it may have another number than it was made for: then it is put together from its steps.
        """
        standing = self._follower.core.standing
        if number >= len(standing):
            return None
        batch = standing[number].batch
        found = read_batch(self._store, number, batch)
        if found is not None or number < self.facts.final:
            return found
        kept = [(word[0] == Op.NEXT, self._steps.get(word)) for word in words_of(batch)]
        if not all(is_next or each for is_next, each in kept):
            return None
        return PostBatch(number, batch, tuple(each.signed.signatures if each else () for _, each in kept))

    # --- what is on the chain, and what is made ------------------------------------------------------------------

    def _begin(self) -> RollupOperator:
        """Return an operator's core at the state of the chain, with all that waits."""
        seen = self._follower.core
        self._index(seen)
        self._made = next((each for each in read_batches(self._store, seen.count) if self._is_good(each)), None)
        core = RollupOperator(
            seen.place, self.policy.steps_max, state=seen.state, number=seen.count, entries=seen.entries
        )
        self._settled = sum(word in self._posted for word in self._steps)
        for word, kept in self._steps.items():
            if word not in self._posted:
                try:
                    core.submit(kept.signed, time=self.time)
                except TallystickError:
                    continue  # it fits no more; perhaps again after a reorganisation
        return core

    def _index(self, seen: RollupWatcher) -> None:
        """Note which steps are in batches; only what is new is looked at, unless the chain took something back."""
        before, serials = self._seen, [each.serial for each in seen.standing]
        known = len(before.serials) if before is not None and before.core is seen else 0
        if not known or before is None or before.serials != serials[:known]:
            self._posted, self._numbers, self._numbered, known = {}, {}, 0, 0
        for at, each in enumerate(seen.standing[known:], known):
            self._posted |= dict.fromkeys(words_of(each.batch), at)
        self._seen = _Seen(seen, len(seen.entries), seen.count, serials)

    def _is_good(self, made: PostBatch) -> bool:
        """Whether the chain may still take a batch."""
        seen, batch = self._follower.core, made.batch
        if made.number != seen.count or batch.data[:32] != seen.state.root or batch.queue_end > len(seen.entries):
            return False
        done = seen.done(batch.queue_end) if batch.queue_end else ZERO32
        if state_root(batch.accounts, batch.channels, batch.queue_end, done) != batch.root:
            return False
        left_out = seen.due(batch.queue_end)
        return self.time <= batch.time + LAG and (left_out is None or self.time <= left_out)

    def _agree(self) -> None:
        """See to it that the core stands on what the chain has."""
        seen, before = self._follower.core, self._seen
        same = before is not None and seen is before.core and seen.count == before.number
        if before is None or not same or (self._made is not None and not self._is_good(self._made)):
            self.core = self._begin()
        elif len(seen.entries) > before.entries:
            for entry in seen.entries[before.entries :]:
                self.core.on_entry(entry)
            self._seen = before._replace(entries=len(seen.entries))

    async def _post(self) -> None:
        if self._made is None and self._is_due():
            self._made = self.core.next_batch(self.time)
            if self._made is not None:
                self._store.commit([BatchMade(self._made)])
        if self._made is None:
            return
        if self.facts.bonded < self.facts.bond:
            self._say(f"no batch can be posted: the bond is {self.facts.bonded}, and must be {self.facts.bond}")
            return
        made = self._made
        if await self._act(post_call(made.batch)):
            self._say(f"posted batch {made.number} of {made.batch.count} steps")

    def _is_due(self) -> bool:
        core, seen = self.core, self._follower.core
        if core.is_idle:
            return False
        last = seen.standing[-1].batch.time if seen.standing else 0
        due = seen.due(seen.queue_end)
        urgent = due is not None and self.time + self.facts.order_time // 2 >= due
        if urgent or len(core.pending) >= self.policy.steps_max:
            return True
        return self.time >= last + self.policy.every and (self._is_worth_it() or self.time >= self._since(due))

    def _is_worth_it(self) -> bool:
        """Whether what waits pays for a batch."""
        steps = [each.step for each in self.core.pending]
        return paid_to(steps, self.number_of(self.facts.operator)) >= self.policy.worth

    def _since(self, due: int | None) -> int:
        """Return when what waits has waited for long enough; `due` is that of the first entry of the list, if any."""
        kept = [self._steps[word].until for each in self.core.pending[:1] if (word := word_of(each)) in self._steps]
        waits = [until - self.policy.promise for until in kept]
        waits += [due - self.facts.order_time] if due is not None else []
        return min(waits, default=0) + self.policy.wait

    async def _answer(self) -> None:
        """Show what was demanded."""
        seen = self._follower.core
        for number, position in sorted(seen.waiting, key=lambda each: (seen.waiting[each], each))[:ANSWERS]:
            standing = seen.standing[number] if number < len(seen.standing) else None
            made = self._ours(number)
            if standing is None or made is None:
                self._say(f"the signatures of batch {number} are demanded, and are not on this disk")
                continue
            shown = show_signatures(made, position, standing.before, seen.place, seen.entry)
            call = RollupCall(
                "answer",
                (number, list(shown.proof.words)),
                statements=standing.statements[position],
                signatures=shown.signatures,
            )
            if await self._act(call):
                self._say(f"showed the signatures of step {position} of batch {number}")

    async def _act(self, call: RollupCall) -> bool:
        """Make a call; say why if the chain refuses it: the next look at the chain finds out what is to be done."""
        try:
            await self._chain.act(self._key, call)
        except Reverted as error:
            self._say(f"the chain refuses {call.name}: {error.code} {error}".rstrip())
            return False
        return True

    async def _note_final(self) -> None:
        """Note where the chain called batches final, and believe it once that block is beyond all reorganisations."""
        if self.facts.final > (self._finals[-1].final if self._finals else self._beyond):
            head = await self._chain.head()
            self._finals.append(_FinalSeen(head.number, head.hash, self.facts.final))
        if not self._finals:
            return
        last = await self._chain.final_number()
        while self._finals and self._finals[0].number <= last:
            seen = self._finals.pop(0)
            header = await self._chain.header(seen.number)
            if header is not None and header.hash == seen.hash:
                self._beyond = seen.final

    def _forget(self) -> None:
        """Drop what nobody can demand any more, and what came to nothing long ago."""
        over = [
            word
            for word, kept in self._steps.items()
            if self._posted.get(word, self._beyond) < self._beyond
            or (word not in self._posted and self.time > kept.until + KEPT_SECONDS)
        ]
        if over:
            self._store.commit([StepsForgotten(tuple(over))])
            for word in over:
                del self._steps[word]
            self._settled = sum(word in self._posted for word in self._steps)
        if self._beyond and read_batches(self._store, self._beyond - 1):
            self._store.commit([BatchesForgotten(self._beyond)])
