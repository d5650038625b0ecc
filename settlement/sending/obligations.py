"""Transactions as persistent obligations: what they are, and the rules they live by (`rounds` carries them out).

An obligation is a call that must get onto the chain: within a budget, before a deadline if there is one, through
crashes, reorganisations, congestion and refusals, and whatever a chain node says. Every word of a chain node may be
wrong, so no single answer, and no number of them, ends what is still due. Rules:

1. A nonce is bound to an obligation, and stored, before anything is signed under it. A call that pays (`pays`) is
   signed under one nonce in its life. Any other does no harm if it is mined twice; it may take another nonce.
2. A nonce is left only when the chain has shown for `confirmations` heads in a row that it is used up, or that lower
   ones are free that nobody holds (`nonces`). What was signed before is remembered: its receipt counts all the same.
3. If a nonce is used up without a receipt of ours, a call that pays is not sent again: perhaps the chain node only
   hides the receipt. After `resting_depth` heads of that a person is told that its fate is unknown.
4. It is done when its receipt is `confirmations` deep, and is watched until it is `resting_depth` deep: if its block
   goes away before, for as many heads in a row, it is sent again. What is final takes two looks that say the same.
5. A deadline has passed when the block `confirmations` deep is later, for as many heads in a row.
6. Nothing is deleted on an error. A refusal or failure means: try again, superseded (the aim was reached or is moot),
   or quarantine, with an alarm. Refusals quarantine nothing but calls that pay: somebody waits for these.
7. Calls that may travel together go as one batch (`batches`): an obligation of the sender's own, which has the nonce.
   Each member stays what it is, and ends by what the batch's receipt says of its call; what failed goes on alone.
8. A nonce can only be mined after all lower ones. So an obligation offers at least what the most urgent one behind
   it offers; what that costs beyond its own budget is paid from the urgent one's budget (`pricing`).

    WAITING ──bind──▶ SENT ──receipt, deep enough──▶ DONE
       ▲  ▲             │
       │  └─ try again ─┤ failed, refused for long, nonce used by another program
       │                └──────────▶ SUPERSEDED, QUARANTINED (also straight from WAITING)
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import msgspec

from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import ChannelId
from tallystick.settlement.chain import (
    Call,
    DepositCall,
    Header,
    OpenCall,
    SignedCall,
    TransactionReceipt,
    TransferCall,
    value_of,
)
from tallystick.settlement.errors import Refusal
from tallystick.settlement.port import Charge
from tallystick.settlement.sending.policy import SendingPolicy

OBLIGATIONS_MAX = 10_000
"""Obligations not at rest that one account may have."""

ATTEMPTS_MAX = 48
"""Transactions signed under one nonce: 48 bumps raise a fee by a factor beyond 40,000."""

PAST_MAX = 16
"""Transactions under earlier nonces that are remembered of one obligation."""

TRIES_MAX = 256
"""Times that one duty is taken on. Each takes a reorganisation that made the last one fail, or a lie, and a pause."""

UNKNOWN_FATE = "its nonce is used up, and the chain node shows no receipt of it: whether it was mined is not known"
BUDGET_SHORT = "what is left of its budget is below the market's fees"

UNTOLD = "it was mined, and no chain node says what became of each of its calls: those that are still due go alone"

FEE_CAPPED_HELP = "the chain node takes no fee as high; raise its cap (geth: --rpc.txfeecap), or add another node"

BUMP = 4
"""A replacement offers at least a BUMP-th more (chain nodes ask for a tenth to an eighth)."""

Gas: TypeAlias = Callable[[Call], int]
"""Returns how much gas a call is charged for at most."""


_S = TypeVar("_S", bound=msgspec.Struct)


def change(struct: _S, **fields: object) -> _S:
    """Return a copy with other fields."""
    return msgspec.structs.replace(struct, **fields)


def bumped(price: int) -> int:
    """Return the least offer that replaces one of `price`."""
    return price + price // BUMP + 1


class Duty(enum.StrEnum):
    """What an obligation does that its owner did not ask for. The values are part of the disk format."""

    COOPERATIVE_CLOSE = "cooperative-close"
    WITHDRAW = "withdraw"
    CLOSE = "close"
    CHALLENGE = "challenge"
    SETTLE = "settle"
    REDEEM = "redeem"
    REGISTER_SECRET = "register-secret"
    REGISTER_LINK = "register-link"
    REGISTER_PROOF = "register-proof"
    REGISTER_STATE = "register-state"
    COURT_MOVE = "court-move"
    REGISTER_OUTCOME = "register-outcome"
    REGISTER_BALANCES = "register-balances"
    REGISTER_ENDING = "register-ending"
    CLAIM_OWED = "claim-owed"
    USE_NONCE = "filler"
    """A transfer of nothing, which only uses a nonce up."""
    BATCH = "batch"
    """A transaction that carries the calls of others, its members."""


class ObligationStatus(enum.IntEnum):
    """Where an obligation stands. The numbers are part of the disk format."""

    WAITING = 1
    SENT = 2
    DONE = 3
    SUPERSEDED = 4
    QUARANTINED = 5


FINAL = frozenset({ObligationStatus.DONE, ObligationStatus.SUPERSEDED, ObligationStatus.QUARANTINED})


class Attempt(msgspec.Struct, frozen=True, array_like=True):
    """One transaction under the obligation's nonce. The hash is empty until it is signed: then it was never sent."""

    price: int
    filler: bool = False
    """It is the transfer of nothing that uses the nonce up, not the call."""
    hash: bytes = b""
    raw: bytes = b""
    """The signed transaction, kept of the newest attempt only: it is sent again byte for byte."""
    tip: int = 0
    """Of the price, what goes to the miner (`SignedCall.tip`); 0 if it is not signed, or was by 0.1.0: that knew the
    simulated chain alone, which has no use for the tip of a transaction that is replaced."""
    gas: int = 0
    """The limit that it is signed with; 0 if it was by 0.1.0."""
    data: int = 0
    """What its bytes cost besides its gas, when it was made."""

    @property
    def charge(self) -> Charge | None:
        """What it is given, None if that was not stored."""
        return Charge(self.gas, self.data) if self.gas else None

    @property
    def most(self) -> int | None:
        """The most that it can cost, None if its limit was not stored."""
        return self.gas * self.price + self.data if self.gas else None


class PastAttempt(msgspec.Struct, frozen=True, array_like=True):
    """A transaction that was signed under a nonce that the obligation has left since."""

    nonce: int
    hash: bytes


def without_raw(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """Return the attempts without what would be sent."""
    return tuple(change(attempt, raw=b"") if attempt.raw else attempt for attempt in attempts)


class Obligation(msgspec.Struct, frozen=True, kw_only=True):
    """A call that must get onto the chain. Callers give the first seven fields; the rest is this module's."""

    id: str
    """The caller's name for it: whoever requires it again under that name adds nothing."""
    call: Call
    purpose: str
    """What it is for, in words: for alarms and for people."""
    budget: int
    """The most to pay in fees, over all tries, in the native coin."""
    channel: ChannelId | None = None
    deadline: int | None = None
    """The last block time (chain time) at which it still helps; None if it always does."""
    not_before: int = 0
    """It is not sent before the head's time has reached this."""
    status: ObligationStatus = ObligationStatus.WAITING
    reason: str = ""
    """Why it is superseded or quarantined."""
    trouble: str = ""
    """What stands in its way at the moment; an alarm was given when this was set."""
    nonce: int | None = None
    attempts: tuple[Attempt, ...] = ()
    filler: bool = False
    """Chain nodes refuse the call itself, so its nonce is used up by a transfer of nothing."""
    floor: int = 0
    """Chain nodes ask for at least this price."""
    first_block: int | None = None
    first_time: int | None = None
    """The head when it was first looked at and could be sent: where its fee curve starts."""
    receipt: TransactionReceipt | None = None
    missing_since: int | None = None
    """Block number since when the nonce is used up without a receipt of ours."""
    missing_heads: int = 0
    """At how many heads in a row that was so."""
    late_heads: int = 0
    """At how many heads in a row the confirmed time was past its deadline."""
    past: tuple[PastAttempt, ...] = ()
    """What was signed for it under earlier nonces, the newest last."""
    waited_blocks: int = 0
    waited_time: int = 0
    """How long it could have been mined: blocks, and seconds of chain time. Its fee curve goes by that."""
    stalled: bool = False
    """The newest attempt did not get through to a chain node, or the account cannot pay for it."""
    refused: int = 0
    """Times that its call was refused as malformed, under this nonce."""
    again_at: int = 0
    """It gets no nonce before this block."""
    ended: int | None = None
    """The block at which it was seen to be final."""
    far: bool = False
    """It pays, and its nonce is so far ahead that it will hardly ever be mined: it holds nothing up."""
    tries: int = 0
    spent: int = 0
    """Fees paid for tries that failed."""
    resting: bool = False
    """Nothing more can happen to it."""
    duty: Duty | None = None
    """None: its owner asked for it."""
    attempt: int = 0
    """How many obligations came before it under the same `name`."""
    batch: str | None = None
    """Id of the batch that carries its call; it has no nonce of its own then."""
    members: tuple[str, ...] = ()
    """It is a batch: the ids of those whose calls it carries, in the same order."""
    alone: bool = False
    """It travels in no batch any more: one did not do it."""

    @property
    def name(self) -> str:
        """Its id, less the number of the attempt."""
        return self.id.removesuffix(f"/{self.attempt}")

    def again(self, attempt: int, budget: int) -> Obligation:
        """Return the same as a further attempt, with an id of its own."""
        return change(self, id=f"{self.name}/{attempt}" if attempt else self.name, attempt=attempt, budget=budget)

    @property
    def left(self) -> int:
        """What is left of its budget."""
        return max(0, self.budget - self.spent)

    @property
    def fee_price(self) -> int:
        """What its newest transaction offers, 0 if there is none."""
        return self.attempts[-1].price if self.attempts else 0

    @property
    def is_bound(self) -> bool:
        """Whether it has a nonce, or travels in a batch, which has one."""
        return self.nonce is not None or self.batch is not None

    @property
    def is_final(self) -> bool:
        """Whether it was done or given up. If it has a nonce, that may have to be used up yet."""
        return self.status in FINAL

    @property
    def pays(self) -> bool:
        """Whether its call moves value each time that it is mined: then it must not be sent twice."""
        call = self.call
        return isinstance(call, OpenCall | DepositCall) or (isinstance(call, TransferCall) and call.amount > 0)

    def is_unmined(self, nonce: int) -> bool:
        """Whether it has a nonce that is not used up, if `nonce` is the account's next."""
        return self.nonce is not None and self.nonce >= nonce and self.receipt is None and not self.far

    def finish(self, status: ObligationStatus, reason: str) -> Obligation:
        """Return it superseded or quarantined. If it has a nonce, that must still be used up."""
        return change(self, status=status, reason=reason)

    def rest(self) -> Obligation:
        """Return it at rest: nothing more can happen to it."""
        return change(self, resting=True, attempts=without_raw(self.attempts))

    def without_nonce(self) -> Obligation:
        """Return it without its nonce; what was signed under that is remembered. It waits for another if it has to."""
        past = self.past
        if self.nonce is not None:
            past += tuple(PastAttempt(self.nonce, attempt.hash) for attempt in self.attempts if attempt.hash)
        return change(
            self,
            status=ObligationStatus.WAITING if self.status is ObligationStatus.SENT else self.status,
            nonce=None,
            attempts=(),
            past=past[-PAST_MAX:],
            filler=False,
            refused=0,
            stalled=False,
            floor=0,
            receipt=None,
            missing_since=None,
            missing_heads=0,
        )

    def off_batch(self) -> Obligation:
        """Return it as it is once no batch carries it any more: it goes on alone, if it has to."""
        if self.batch is None:
            return self
        status = ObligationStatus.WAITING if self.status is ObligationStatus.SENT else self.status
        return change(self, batch=None, alone=True, status=status)

    @property
    def tip_before(self) -> int:
        """The highest tip that was offered under its nonce: a replacement has to offer more."""
        return max((attempt.tip for attempt in self.attempts), default=0)

    def with_attempt_signed(self, signed: SignedCall) -> Obligation:
        """Return it with its newest attempt signed, before that is sent."""
        *older, newest = self.attempts
        newest = change(newest, raw=signed.raw, hash=keccak(signed.raw), tip=signed.tip)
        return change(self, attempts=(*older, newest))

    def with_attempt_taken(self) -> Obligation:
        """Return it after a chain node took its newest attempt: nothing stands in its way."""
        kept = self.trouble in (BUDGET_SHORT, UNKNOWN_FATE)
        return change(self, trouble=self.trouble if kept else "", stalled=False)

    def unheard(self) -> Obligation:
        """Return it after its newest attempt did not get through to a chain node."""
        return change(self, stalled=True)

    def refuse(self, code: Refusal | None, text: str, policy: SendingPolicy) -> Obligation:
        """Return it after a chain node refused its newest attempt.

        `code` None stands for an answer that makes no sense: it is retried for ever, and nothing is concluded from it.
        """
        match code:
            case Refusal.NONCE_TOO_LOW | Refusal.NONCE_TOO_HIGH | Refusal.ALREADY_KNOWN:
                return (
                    self  # the next look at the chain shows which nonces are used up, and predecessors are sent first
                )
            case Refusal.UNDERPRICED | Refusal.MEMPOOL_FULL:
                short = self.trouble == BUDGET_SHORT  # which is why
                trouble = BUDGET_SHORT if short else f"{code}: chain nodes ask for higher fees"
                return change(self, floor=bumped(self.fee_price), trouble=trouble)
            case _ if (
                code is Refusal.MALFORMED
                or (code is Refusal.INSUFFICIENT_FUNDS and value_of(self.call))
                or (code in (Refusal.INSUFFICIENT_FUNDS, Refusal.FEE_CAPPED) and self.members)
            ):
                # coins that are not there must not hold up what waits behind them, nor calls that could go alone
                after = change(self, refused=self.refused + 1, trouble=text, stalled=True)
                if after.refused >= policy.tries and after.status is ObligationStatus.SENT:
                    after = change(after, filler=True)
                    if after.pays:
                        after = after.finish(ObligationStatus.QUARANTINED, text)
                return after
            case Refusal.INSUFFICIENT_FUNDS:
                return change(self, trouble=text, stalled=True)
            case Refusal.FEE_CAPPED:
                return change(self, trouble=f"{code}: {FEE_CAPPED_HELP} ({text})", stalled=True)
            case _:
                return change(self, trouble=text)

    def news_since(self, before: Obligation) -> Alarm | None:
        """Return the alarm that it calls for to have become this."""
        name = f"{self.purpose} ({self.id})"
        if self.status is ObligationStatus.QUARANTINED and before.status is not ObligationStatus.QUARANTINED:
            return Alarm(AlarmKind.TRANSACTION_GIVEN_UP, f"{name} is quarantined: {self.reason}; see to it by hand")
        if before.status is ObligationStatus.DONE and self.status is ObligationStatus.SENT:
            text = (
                f"{name} was done, but its block left the chain in an unusually deep reorganisation; it is sent again"
            )
            return Alarm(AlarmKind.TRANSACTION_UNDONE, text)
        if before.missing_heads and self.nonce != before.nonce:
            text = f"nonce {before.nonce} of {name} was used by another program; give this key to one program only"
            return Alarm(AlarmKind.NONCE_TAKEN, text)
        if self.trouble and self.trouble != before.trouble:
            return Alarm(AlarmKind.TRANSACTION_HELD_UP, f"{name} is held up: {self.trouble}")
        return None


class Look(msgspec.Struct, frozen=True, array_like=True):
    """What the chain said at one head: of several answers, the least and the greatest nonce, and the lowest price."""

    number: int
    time: int
    low: int
    high: int
    market: int


class ObligationBook(msgspec.Struct, frozen=True):
    """One account's obligations that are not at rest, by id, in the order they were required."""

    obligations: Mapping[str, Obligation]
    highest_nonce: int
    """The highest nonce that was bound, -1 if none was. It falls if nonces turn out to be free."""
    looks: Sequence[Look] = ()
    """The last heads that were looked at since the start, the newest last."""

    def with_(self, *changed: Obligation) -> ObligationBook:
        """Return the book with these obligations in it, in their newest version."""
        highest = max([self.highest_nonce, *(o.nonce for o in changed if o.nonce is not None and not o.far)])
        merged = {**self.obligations, **{o.id: o for o in changed}}
        return ObligationBook({key: o for key, o in merged.items() if not o.resting}, highest, self.looks)


class Observation(msgspec.Struct, frozen=True):
    """What the chain says at one head."""

    head: Header
    confirmed: int
    """Time of the block that is `confirmations` deep."""
    nonce: int
    """The account's next nonce to be mined."""
    market: int
    """The fee price at which transactions are mined soon."""
    receipts: Mapping[bytes, TransactionReceipt]
    """Of the account's transactions that are on the best branch, by their hash."""
    untold: frozenset[bytes] = frozenset()
    """Batches that are mined, by their hash, of which is not told what became of each call."""
    charges: Mapping[str, Charge] = {}
    """Of obligations that may be signed now, as far as the chain was asked: what they are to be given, by id."""


class SendingRound(msgspec.Struct, frozen=True):
    """What one look at the chain leads to, in this order: store `changed`, sign and send `send`, raise `alarms`."""

    book: ObligationBook
    changed: tuple[Obligation, ...]
    send: tuple[str, ...]
    """Ids in order of nonce; of each, the newest attempt is to be sent (again)."""
    alarms: tuple[Alarm, ...]
    lowered: int | None = None
    """If given, the highest nonce that was bound is this: what was bound above is free again. Store it, too."""
