"""Registers what pays for its clients' locks: at a close what was sealed, and near their expiry what is timely.

Clients are strangers, and registering earns nothing. So each claim is held against its fee before anything else is
done about it, then against what is left of the day (`FreeClaims`), and only then are its hashes followed: so many in a
block at most, and the rest with the next one, in the order in which they expire. No challenge waits for that.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.conditions import HASH, STREAM
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Puzzle, Terms
from tallystick.channels.storage.store import Moment
from tallystick.settlement.chain import Block, Call, Header, LinkRegistered, SecretRegistered
from tallystick.settlement.sending.sender import Sender
from tallystick.watchtower.claims import ClaimLeft, ClaimPolicy, FreeClaims, LockClaim, registration, said_worth
from tallystick.watchtower.schema import TimelyOver, read_source, read_timely

HASHES_PER_BLOCK = 2 * 65_536
"""Hashes that are followed with one block, at least one stream's."""

NOTED_MAX = 10_000
"""Registrations of anybody that are remembered, and claims that were judged."""

OVER = 3_600
"""Seconds of chain time after the last expiry at which what was timely is dropped: no reorganisation reaches back."""

Name = tuple[Address, bytes]
"""Client and locator."""


class Registrar:
    """What one tower registers. `price` returns what a unit of gas costs, None if that is not known."""

    def __init__(self, sender: Sender, policy: ClaimPolicy, price: Callable[[], int | None]) -> None:
        self.registered = 0
        """Registrations taken on since the start."""
        self._sender = sender
        self._policy = policy
        self._price = price
        self._free = FreeClaims(policy.daily)
        self._timely = read_timely(sender.store)
        self._soonest: int | None = 0
        """The time at which the first of them is due, None if there are none."""
        self._proven: dict[Puzzle, list[tuple[int, int]]] = {}
        """What was registered since the start: (block number, worth)."""
        self._judged: dict[tuple[Puzzle, bytes], bool] = {}
        """Which claims were found to be worth anything, of those that are timely or in a dispute."""
        self._hashes = 0
        self.given_up = Counter[ClaimLeft]()
        """Claims whose lock expired while they were left, since the start, by why."""
        self._left: dict[tuple[Puzzle, bytes], tuple[int, ClaimLeft]] = {}
        """Those that are left, with their expiry."""
        self._is_fresh = True
        """Whether nothing was looked through since the start."""

    def on_stored(self, client: Address, locator: bytes, timely: bool) -> None:
        """Take in what is timely in an appointment that was stored, if anything is."""
        name = (client, locator)
        if self._timely.pop(name, None) is not None or timely:
            self._timely.update(read_timely(self._sender.store, *name))
            self._soonest = 0

    def on_block(self, block: Block) -> None:
        """Note what was registered in a block."""
        self._hashes = 0
        for event in block.events:
            if isinstance(event, SecretRegistered):
                self._proven.setdefault((HASH, event.digest), []).append((block.header.number, AMOUNT_MAX))
            elif isinstance(event, LinkRegistered):
                worth = event.depth * event.unit
                self._proven.setdefault((STREAM, event.condition), []).append((block.header.number, worth))
        while len(self._proven) > NOTED_MAX:
            del self._proven[next(iter(self._proven))]
        while len(self._judged) > NOTED_MAX:
            del self._judged[next(iter(self._judged))]
        while len(self._left) > NOTED_MAX:
            del self._left[next(iter(self._left))]
        if self._left and block.header.time > min(expiry for expiry, _ in self._left.values()):
            for key, (expiry, why) in list(self._left.items()):
                if block.header.time > expiry:
                    self.given_up[why] += 1
                    del self._left[key]

    def on_removed(self, number: int) -> None:
        """Forget what was registered in a block that left the chain."""
        self._soonest = 0
        for puzzle, found in list(self._proven.items()):
            self._proven[puzzle] = [one for one in found if one[0] < number]
            if not self._proven[puzzle]:
                del self._proven[puzzle]

    def work(self, head: Header) -> list[Moment]:
        """Take on what is timely at that block; return what to store."""
        if self._soonest is None or head.time < self._soonest:
            return []
        moments: list[Moment] = []
        over, due, later = [], list[tuple[LockClaim, Name, bool]](), list[int]()
        for name, (is_coin, claims) in self._timely.items():
            if head.time > max(claim.lock.expiry for claim in claims) + OVER:
                over.append(name)
                continue
            for claim in claims:
                begin = claim.lock.expiry - self._policy.margin
                later += [begin] if begin > head.time else []
                if begin <= head.time <= claim.lock.expiry:
                    due.append((claim, name, is_coin))
                elif self._is_fresh and head.time > claim.lock.expiry and self._is_missed(claim):
                    self.given_up[ClaimLeft.TOO_LATE] += 1
        self._is_fresh = False
        for name in over:
            del self._timely[name]
        if over:
            moments.append(TimelyOver(tuple(over)))
        due.sort(key=lambda found: (found[0].lock.expiry, -said_worth(found[0])))
        for claim, name, is_coin in due:
            moments += self._take_on(claim, name, head, None, is_coin=is_coin)
        ends = [max(claim.lock.expiry for claim in claims) + OVER for _, claims in self._timely.values()]
        self._soonest = head.time if due else min([*later, *ends], default=None)
        return moments

    def pursue(
        self, claims: Iterable[tuple[LockClaim, Name]], terms: Terms, channel: ChannelId, head: Header
    ) -> list[Moment]:
        """Take on what pays for the locks of a channel that was closed; return what to store."""
        moments: list[Moment] = []
        for claim, name in sorted(claims, key=lambda found: (found[0].lock.expiry, -said_worth(found[0]))):
            if head.time <= claim.lock.expiry:
                moments += self._take_on(claim, name, head, channel, is_coin=terms.asset == NATIVE)
        return moments

    def _take_on(
        self, claim: LockClaim, name: Name, head: Header, channel: ChannelId | None, *, is_coin: bool
    ) -> Sequence[Moment]:
        """Take a registration on, if it is worth its fee and there is something left to pay for it."""
        if not claim.is_sane:
            return self._leave(claim, ClaimLeft.PAYS_NOTHING)
        proven = max((worth for _, worth in self._proven.get(claim.lock.puzzle, ())), default=0)
        gain = said_worth(claim) - proven
        worth = max(0, min(gain, self._policy.budget)) if is_coin or gain <= 0 else self._policy.budget
        duty = registration(claim, worth, channel)
        if duty is None or not worth:
            pays = duty is not None and gain > 0
            return self._leave(claim, ClaimLeft.FEE_ABOVE_WORTH if pays else None if proven else ClaimLeft.PAYS_NOTHING)
        if self._sender.find(duty.id) is None:
            fee = self._fee(duty.call)
            if fee is not None and fee > worth:
                return self._leave(claim, ClaimLeft.FEE_ABOVE_WORTH)
            if why := self._judge(claim, name, head, worth if fee is None else fee):
                return self._leave(claim, why)
            self.registered += 1
        self._leave(claim, None)
        return self._sender.pursue(duty, head.number)

    def _leave(self, claim: LockClaim, why: ClaimLeft | None) -> Sequence[Moment]:
        """Note why a claim is left, or (None) that it is not; return that there is nothing to store."""
        key = (claim.lock.puzzle, claim.proof)
        self._left.pop(key, None)
        if why is not None:
            self._left[key] = (claim.lock.expiry, why)
        return ()

    def _is_missed(self, claim: LockClaim) -> bool:
        """Whether nobody, as far as is known, has registered what pays for a lock."""
        duty = registration(claim, 1, None)
        return duty is not None and claim.lock.puzzle not in self._proven and self._sender.find(duty.id) is None

    def _fee(self, call: Call) -> int | None:
        price = self._price()
        return None if price is None else self._sender.chain.figures.tariff.fee(call, price)

    def _judge(self, claim: LockClaim, name: Name, head: Header, fee: int) -> ClaimLeft | None:
        """Return why a claim is left: it pays nothing, or nothing is left of the day for its fee. Counts it."""
        key = (claim.lock.puzzle, claim.proof)
        if key not in self._judged:
            if self._hashes and self._hashes + claim.steps > HASHES_PER_BLOCK:
                return ClaimLeft.TOO_MANY_HASHES
            if not self._free.take(read_source(self._sender.store, *name), fee, head.time):
                return ClaimLeft.DAY_SPENT
            self._hashes += claim.steps
            self._judged[key] = claim.worth > 0
        return None if self._judged[key] else ClaimLeft.PAYS_NOTHING
