"""What a kind of lock is on chain: who is due what, and how a proof becomes public."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from tallystick.channels.limits import PROOF_MAX
from tallystick.channels.protocol.objects import Lock
from tallystick.settlement.chain import ProofRegistered, RegisterProofCall, RegistryCall, RegistryEvent
from tallystick.settlement.errors import Revert, Reverted

KEPT_BITS = 128
"""Of what is kept of a puzzle."""


class Registration(NamedTuple):
    """What comes of a proof that the registry takes: what it keeps of the condition from now on, and what it says."""

    condition: bytes
    kept: int
    event: RegistryEvent
    others: tuple[tuple[bytes, int], ...] = ()
    """Further conditions that are decided with it, and what is kept of these."""


class Verdict(ABC):
    """How the contract decides the locks of one kind, and how a node has one decided. Entries have no state."""

    number: ClassVar[int]
    """`Lock.kind`: the same as that of its `LockKind`."""
    call: ClassVar[type[Any]]
    """The type of the calls by which proofs are registered."""
    early: ClassVar[bool] = False
    """Whether the first proof decides a lock at once. If not, better ones may come until its expiry."""
    wide: ClassVar[bool] = False
    """Whether what it keeps may have more than KEPT_BITS, and up to twice as many."""

    @abstractmethod
    def registration(self, lock: Lock, proof: bytes) -> RegistryCall:
        """Return the call that makes a proof public, which pays by `LockKind.amount_paid`."""

    @abstractmethod
    def register(self, call: Any, kept: Callable[[bytes], int], time: int) -> Registration:
        """Take a proof in a block of `time`; raise Reverted. `kept` says what is kept of a condition until now."""

    @abstractmethod
    def due(self, lock: Lock, time: int, kept: int) -> int | None:
        """Return what the receiver is due in a block of `time`, None while that is open. Once said, it stays so."""

    def slot(self, condition: bytes) -> bytes:
        """Return where the ledger keeps the number of a condition."""
        return b"k" + bytes([self.number]) + condition

    def mark(self, proof: bytes) -> str:
        """Return what tells a better proof from the one before it, in the name of an obligation."""
        return ""


class PlainVerdict(Verdict):
    """A kind without a function of its own in the contract: what `registerProof` carries, `keep` judges."""

    call = RegisterProofCall

    @abstractmethod
    def keep(self, condition: bytes, proof: bytes, known: int, time: int) -> int:
        """Return what is kept of the condition from a block of `time` on, above 0; raise Reverted.

        `known` is what was kept until now: a proof that adds nothing to it must be refused.
        """

    def registration(self, lock: Lock, proof: bytes) -> RegistryCall:
        """Return a call of `registerProof`."""
        return RegisterProofCall(self.number, lock.condition, proof)

    def register(self, call: RegisterProofCall, kept: Callable[[bytes], int], time: int) -> Registration:
        """Take a proof that `keep` takes."""
        if len(call.condition) != 32 or len(call.proof) > PROOF_MAX:
            raise Reverted(Revert.BAD_PROOF, f"a condition has 32 bytes, and a proof at most {PROOF_MAX}")
        now = self.keep(call.condition, call.proof, kept(call.condition), time)
        return Registration(call.condition, now, ProofRegistered(call.condition, self.number, call.proof, time))
