"""A channel without a node: two parties that sign anything, and the adjudicator's rules applied to one channel at a
time.

For tests of the rules without a chain. `ChannelFixture` makes signed statements; `DisputeFixture` holds the channel's
contract state, its clock and what was paid, and applies calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from tallystick.channels.protocol.conditions import HASH, digest_of
from tallystick.channels.protocol.eip712 import (
    channel_id,
    digest_cooperative_close,
    digest_proof,
    digest_voucher,
    digest_withdrawal,
    domain_separator,
    locks_root,
)
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import (
    NATIVE,
    Address,
    BalanceProof,
    ChannelId,
    CooperativeClose,
    Lock,
    Puzzle,
    SignedProof,
    Terms,
    Voucher,
    Withdrawal,
)
from tallystick.settlement.chain import (
    ChallengeCall,
    ChannelEvent,
    CloseCall,
    CooperativeCloseCall,
    OpenCall,
    WithdrawCall,
)
from tallystick.settlement.contract.adjudicator import CallContext, ChannelCall, apply
from tallystick.settlement.contract.state import ChannelStorage, Parameters
from tallystick.settlement.simulated.branch import ADJUDICATOR

CLOSE_KEY = keccak(b"the close key of the channel on paper")
PERIOD = 600
"""Seconds of its challenge window."""


class ChannelFixture:
    """A channel's terms and both of its keys, in order of side."""

    def __init__(self, *, asset: Address = NATIVE, chain_id: int = 1337, contract: Address = ADJUDICATOR) -> None:
        keys = sorted((PrivateKey(keccak(name)) for name in (b"paper one", b"paper two")), key=lambda key: key.address)
        self.keys = (keys[0], keys[1])
        participants = (self.keys[0].address, self.keys[1].address)
        self.terms = Terms(chain_id, contract, participants, asset, 0, PERIOD, keccak(CLOSE_KEY))
        self.id: ChannelId = channel_id(self.terms)
        self._domain = domain_separator(chain_id, contract)

    def address(self, side: int) -> Address:
        """The address of a side."""
        return self.keys[side].address

    def proof(
        self, sender: int, seq: int, transferred: int = 0, locks: Sequence[Lock] = (), seen: int = 0
    ) -> SignedProof:
        """Return a balance proof that both have signed."""
        locked = sum(lock.amount for lock in locks)
        return self.sign(BalanceProof(self.id, sender, seq, transferred, locked, locks_root(locks), seen))

    def sign(self, proof: BalanceProof) -> SignedProof:
        """Return any proof with both signatures."""
        digest = digest_proof(self._domain, proof)
        return SignedProof(proof, self.keys[proof.sender].sign(digest), self.keys[1 - proof.sender].sign(digest))

    def cooperative_close(self, balance0: int, balance1: int, valid_until: int) -> CooperativeCloseCall:
        """Return a cooperative close that both have signed."""
        close = CooperativeClose(self.id, balance0, balance1, valid_until)
        digest = digest_cooperative_close(self._domain, close)
        return CooperativeCloseCall(close, self.keys[0].sign(digest), self.keys[1].sign(digest))

    def withdrawal(self, participant: int, total: int, valid_until: int) -> WithdrawCall:
        """Return a withdrawal that both have signed."""
        withdrawal = Withdrawal(self.id, participant, total, valid_until)
        digest = digest_withdrawal(self._domain, withdrawal)
        return WithdrawCall(withdrawal, self.keys[0].sign(digest), self.keys[1].sign(digest))

    def close(self, proof0: SignedProof | None = None, proof1: SignedProof | None = None) -> CloseCall:
        """Return a close with these proofs."""
        return CloseCall(self.id, proof0, proof1, CLOSE_KEY)

    def challenge(self, proof: SignedProof, *, tower: Address | None = None, victim: int = 0) -> ChallengeCall:
        """Return a challenge, with a voucher for `tower` that side `victim` has signed."""
        if tower is None:
            return ChallengeCall(proof)
        voucher = Voucher(self.id, tower)
        return ChallengeCall(proof, voucher, self.keys[victim].sign(digest_voucher(self._domain, voucher)))


class DisputeFixture:
    """One channel before the adjudicator. `paid` counts who got how much, `taken` what was deposited."""

    def __init__(self, fixture: ChannelFixture, *, time: int = 1_000, reward_bps: int = 1_000) -> None:
        self.fixture = fixture
        self.time = time
        self.channel: ChannelStorage | None = None
        self.kept: Counter[Puzzle] = Counter()
        """What the registry keeps of each puzzle: of a hash lock, when its secret became public; of a stream, what its
        deepest link is worth."""
        self.shared: dict[int, int] = {}
        """What side 0 had deposited, by the sum of both sides' deposits."""
        self.paid: Counter[Address] = Counter()
        self.taken = 0
        self.events: list[ChannelEvent] = []
        self.count = 0
        self.asset_exists = True
        self.parameters = Parameters(fixture.terms.chain_id, fixture.terms.contract, reward_bps)

    @property
    def state(self) -> ChannelStorage:
        """The channel's state; it must have been opened."""
        if self.channel is None:
            raise LookupError("the channel was never opened in this dispute")
        return self.channel

    def apply(self, call: ChannelCall, by: int | Address = 0) -> tuple[ChannelEvent, ...]:
        """Apply a call of a side, or of an address; return its events. Raise Reverted, with nothing changed."""
        caller = self.fixture.address(by) if isinstance(by, int) else by
        situation = CallContext(
            self.parameters,
            caller,
            self.time,
            self.count,
            self.asset_exists,
            self.kept.__getitem__,
            self.shared.get,
        )
        outcome = apply(self.channel, call, situation)
        self.channel = outcome.channel
        if outcome.outgrown is not None:
            self.shared[sum(outcome.outgrown)] = outcome.outgrown[0]
        self.taken += outcome.taken
        for payout in outcome.payouts:
            self.paid[payout.to] += payout.amount
        self.events.extend(outcome.events)
        return outcome.events

    def open(self, deposit0: int, deposit1: int) -> None:
        """Open the channel with these deposits."""
        self.apply(OpenCall(self.fixture.terms, deposit0), 0)
        self.channel = msgspec.structs.replace(self.state, deposits=(deposit0, deposit1))
        self.taken += deposit1

    def register(self, secret: bytes) -> None:
        """Make a secret public now."""
        self.kept.setdefault((HASH, digest_of(secret)), self.time)

    def received(self, side: int) -> int:
        """What a side was paid so far."""
        return self.paid[self.fixture.address(side)]
