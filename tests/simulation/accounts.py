"""An account's sending as a model: for tests of `obligations` and what carries them out.

A chain reduced to what nonces and fees need, and the sender's shell reduced to its order of storing and sending. It
remembers everything that was ever signed. What its chain node says can be falsified by `lie`.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import msgspec

from tallystick.channels.node.alarms import Alarm
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.chain import (
    BatchCall,
    Call,
    FailedCall,
    Header,
    RegisterSecretCall,
    SignedCall,
    TransactionReceipt,
    TransferCall,
)
from tallystick.settlement.errors import Refusal, Revert
from tallystick.settlement.sending.obligations import (
    Obligation,
    ObligationBook,
    ObligationStatus,
    Observation,
    change,
)
from tallystick.settlement.sending.policy import SendingPolicy
from tallystick.settlement.sending.rounds import decide

ACCOUNT = Address(b"\x01" * 20)
ELSEWHERE = Address(b"\x02" * 20)
POLICY = SendingPolicy(
    confirmations=3, resting_depth=12, patience=10, in_flight=4, tries=3, together=1, filler_budget=10_000
)
TOGETHER = change(POLICY, together=4)
"""The same, with batches."""
GAS = 10


def gas(call: Call) -> int:
    """Return what each call takes in the model."""
    return 4 + 6 * len(call.calls) if isinstance(call, BatchCall) else GAS


def secret_of(identifier: str) -> RegisterSecretCall:
    """Return the call of a duty of that name."""
    return RegisterSecretCall(keccak(identifier.encode()))


class Tx(msgspec.Struct, frozen=True, kw_only=True):
    """A signed transaction of the model. `owner` is "" for another program's."""

    nonce: int
    price: int
    owner: str
    filler: bool
    fails: bool
    carries: tuple[str, ...] = ()
    """Whose calls a batch carries."""
    failing: tuple[str, ...] = ()
    """Whose of these do nothing."""

    @property
    def done(self) -> tuple[str, ...]:
        """Whose calls it does."""
        if self.filler or self.fails:
            return ()
        return tuple(name for name in self.carries if name not in self.failing) if self.carries else (self.owner,)

    @property
    def raw(self) -> bytes:
        """As it is sent."""
        return msgspec.json.encode(self)

    @property
    def hash(self) -> bytes:
        """By which its receipt is known."""
        return keccak(self.raw)


class AccountWorld:
    """The chain of the model, the sender's disk and memory, and the record of all that was signed."""

    def __init__(self, seed: int, policy: SendingPolicy = POLICY) -> None:
        self.policy = policy
        self.random = random.Random(seed)
        self.blocks: list[tuple[Header, tuple[Tx, ...]]] = [(Header(0, bytes(32), bytes(32), 0), ())]
        self.pool: dict[int, Tx] = {}
        self.market = 5
        self.disk: dict[str, Obligation] = {}
        self.disk_highest = -1
        self.book = ObligationBook({}, -1)
        self.signed: dict[int, set[tuple[str, int]]] = {}
        self.alarms: list[Alarm] = []
        self.fails: set[str] = set()
        self.revert: Revert | None = Revert.NOT_NEWER
        """Why they fail."""
        self.serial = 0
        self.pays: set[str] = set()
        """Who must not be executed twice."""
        self.lie: Callable[[Observation], Observation] | None = None
        """What the chain node makes of the truth."""
        self.lied = False

    # the chain

    @property
    def head(self) -> Header:
        """The newest block."""
        return self.blocks[-1][0]

    def mined(self) -> dict[int, tuple[Header, Tx]]:
        """Return what is on the chain, by nonce."""
        return {tx.nonce: (header, tx) for header, txs in self.blocks for tx in txs}

    def mine(self, *, minimum: int = 0) -> None:
        """Mine a block of what waits and offers so much."""
        nonce = len(self.mined())
        txs = []
        while (tx := self.pool.get(nonce)) is not None and tx.price >= minimum:
            txs.append(tx)
            nonce += 1
        self.serial += 1
        digest = hashlib.sha256(self.head.hash + self.serial.to_bytes(4, "big")).digest()
        self.blocks.append((Header(self.head.number + 1, digest, self.head.hash, self.head.time + 10), tuple(txs)))

    def reorganise(self, depth: int, *, forget: bool) -> None:
        """Replace the newest blocks; their transactions wait again, or are forgotten."""
        depth = min(depth, len(self.blocks) - 1)
        for _, txs in self.blocks[len(self.blocks) - depth :]:
            for tx in txs:
                if not forget:
                    self.pool.setdefault(tx.nonce, tx)
        if forget:
            self.pool.clear()
        del self.blocks[len(self.blocks) - depth :]
        for _ in range(depth):
            self.mine(minimum=self.random.choice([0, 10**9]))

    def foreign(self) -> None:
        """Mine a transaction of another program that has the key."""
        nonce = len(self.mined())
        self.pool[nonce] = Tx(nonce=nonce, price=10**6, owner="", filler=False, fails=False)
        self.mine()

    # the sender

    def store(self, *changed: Obligation, lowered: int | None = None) -> None:
        """Make durable, as `moments` does."""
        if lowered is not None:
            self.disk_highest = lowered
        for obligation in changed:
            self.disk[obligation.id] = obligation
            if obligation.nonce is not None and not obligation.far:
                self.disk_highest = max(self.disk_highest, obligation.nonce)

    def restart(self) -> None:
        """Begin anew from the disk."""
        self.book = ObligationBook({}, self.disk_highest).with_(*(o for o in self.disk.values() if not o.resting))

    def observe(self) -> Observation:
        """Return what the chain node says."""
        receipts = {
            tx.hash: TransactionReceipt(
                tx.hash,
                header,
                not tx.fails,
                tx.price * (4 + 6 * len(tx.carries) if tx.carries else GAS),
                *(("stands", self.revert) if tx.fails else ("", None)),
                tuple(
                    FailedCall(index, "stands", self.revert)
                    for index, name in enumerate(tx.carries)
                    if name in tx.failing
                ),
            )
            for header, tx in self.mined().values()
        }
        deep = self.blocks[max(0, len(self.blocks) - self.policy.confirmations)][0]
        truth = Observation(self.head, deep.time, len(self.mined()), self.market, receipts)
        said = truth if self.lie is None else self.lie(truth)
        self.lied |= said != truth
        return said

    def round(self, crash: int = -1, refusal: Refusal | None = None) -> None:
        """One look at the chain, with a crash at the given point, if any."""
        outcome = decide(self.book, self.observe(), account=ACCOUNT, gas=gas, policy=self.policy)
        self.book = outcome.book
        if crash == 0:
            return self.restart()
        self.store(*outcome.changed, lowered=outcome.lowered)
        self.alarms += outcome.alarms
        if crash == 1:
            return self.restart()
        for identifier in outcome.send:
            self.sign(identifier)
        if crash == 2:
            return self.restart()
        for identifier in outcome.send:
            self.store(self.book.obligations[identifier])
        for identifier in outcome.send[: 1 if crash == 3 else None]:
            self.submit(identifier, refusal)
        if crash == 3:
            self.restart()
        return None

    def sign(self, identifier: str) -> None:
        """Sign the newest attempt."""
        obligation = self.book.obligations[identifier]
        attempt = obligation.attempts[-1]
        assert obligation.nonce is not None
        if not attempt.raw:
            fails = identifier in self.fails and not attempt.filler
            tx = Tx(
                nonce=obligation.nonce,
                price=attempt.price,
                owner=identifier,
                filler=attempt.filler,
                fails=fails,
                carries=() if attempt.filler else obligation.members,
                failing=tuple(name for name in obligation.members if name in self.fails),
            )
            self.signed.setdefault(tx.nonce, set()).add((identifier, tx.filler))
            self.book = self.book.with_(obligation.with_attempt_signed(SignedCall(tx.raw, attempt.price)))

    def submit(self, identifier: str, refusal: Refusal | None) -> None:
        """Hand the newest attempt in, which is refused if so said."""
        obligation = self.book.obligations[identifier]
        if refusal is not None:
            after = obligation.refuse(refusal, "refused", self.policy)
            alarm = after.news_since(obligation)
            self.alarms += [alarm] if alarm else []
            self.book = self.book.with_(after)
            self.store(after)
            return
        tx = msgspec.json.decode(obligation.attempts[-1].raw, type=Tx)
        standing = self.pool.get(tx.nonce)
        if tx.nonce >= len(self.mined()) and (standing is None or tx.price > standing.price):
            self.pool[tx.nonce] = tx
        self.book = self.book.with_(obligation.with_attempt_taken())

    def require(self, identifier: str, *, deadline: int | None, budget: int, paying: bool = True) -> None:
        """Take on a payment, or what does no harm if it is done twice."""
        call: Call = TransferCall(NATIVE, ELSEWHERE, 1 + self.serial) if paying else secret_of(identifier)
        obligation = Obligation(id=identifier, call=call, purpose="a test", budget=budget, deadline=deadline)
        self.pays |= {identifier} if obligation.pays else set()
        self.book = self.book.with_(obligation)
        self.store(obligation)

    def supersede(self, identifier: str) -> None:
        """Say that it is moot."""
        obligation = self.book.obligations.get(identifier)
        if obligation is not None and not obligation.is_final:
            obligation = obligation.finish(ObligationStatus.SUPERSEDED, "moot")
            self.book = self.book.with_(obligation)
            self.store(obligation)

    # what must hold

    def check(self) -> None:
        """Raise Violation if a payment was, or could be, made twice, or a nonce served two calls without a lie."""
        nonces: dict[str, set[int]] = {}
        for nonce, owners in self.signed.items():
            calls = {owner for owner, filler in owners if not filler}
            if len(calls) > 1 and not self.lied:
                raise Violation(f"nonce {nonce} was used for different calls")
            for owner in calls & self.pays:
                nonces.setdefault(owner, set()).add(nonce)
        for owner, under in nonces.items():
            if len(under) > 1:
                raise Violation(f"the payment {owner} was signed under the nonces {under}")
        executed = [name for _, tx in self.mined().values() for name in tx.done]
        if any(executed.count(owner) > 1 for owner in self.pays):
            raise Violation("a payment was made twice")


class Violation(Exception):
    """What must never happen did."""
