"""All that can happen to a channel, on one page. Frozen values; what is legal when, and what follows, is in `rules`.

    Command   what this node's own programs ask for: payments, locks, streams, closing
    Peer      PeerMessage, TakeDeferred, LinkUp, LinkDown, PeerExcused
    Chain     ChainMoved, FundingConfirmed, PhaseReached
    Time      Tick (the peer's patience is looked at), SignDue (a round begins), Stop

An input of type `Asks[R]` is answered by an R. The time at which it comes is told beside it, by whose clock the input
names. Amounts are in units of the channel's asset, times in seconds.
"""

from __future__ import annotations

from typing import Generic, TypeAlias, TypeVar

import msgspec

from tallystick.channels.protocol.conditions import HASH
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.hashchain import HashChain
from tallystick.channels.protocol.messages import Message, Update
from tallystick.channels.protocol.objects import Withdrawal
from tallystick.channels.session.chaintime import ChainTime
from tallystick.channels.session.streamed import OutgoingStreamState
from tallystick.channels.session.tickets import Ticket
from tallystick.channels.storage.store import Moment
from tallystick.channels.values.discretion import Discreet

R_co = TypeVar("R_co", covariant=True)


class Asks(msgspec.Struct, Generic[R_co], frozen=True):
    """Something that happens to a channel; whoever tells it gets an R back."""


# --- commands: payments -----------------------------------------------------------------------------------------


class SubmitPayment(Asks[Ticket], frozen=True, gc=False):
    """Queue a payment. `key` names it for whoever might ask twice; empty: none."""

    amount: int
    memo: bytes = b""
    key: str = ""


class SubmitPayments(Asks[list[Ticket]], frozen=True):
    """Queue payments in runs, each of which fits into one update."""

    amounts: tuple[int, ...]


class JoinUpdate(Asks[None], frozen=True):
    """Let a ticket resolve with update `seq`, which is in flight: its own was lost in a restart."""

    seq: int
    ticket: Ticket


# --- commands: locks --------------------------------------------------------------------------------------------


class SubmitLock(Asks[int], frozen=True):
    """Queue a lock; answered by its id. `attach` is stored in the very commit that stores the lock's signature."""

    amount: int
    expiry: int
    condition: bytes
    onion: bytes = b""
    kind: int = HASH
    attach: Moment | None = None


class RevealSecret(Discreet, Asks[None], frozen=True):
    """Record the secret of the peer's lock, and ask to be paid."""

    lock: int
    secret: bytes


class RejectLock(Asks[None], frozen=True):
    """Consent to the cancellation of the peer's lock."""

    lock: int
    reason: bytes = b""


class PayLock(Discreet, Asks[None], frozen=True):
    """Unlock a lock of ours by that proof, unless it is ending already."""

    lock: int
    proof: bytes


class ShowProof(Discreet, Asks[None], frozen=True):
    """Show the peer a proof by which it may unlock its lock. It is not recorded, and nothing is claimed by it."""

    lock: int
    proof: bytes


class GiveUpLocks(Asks[None], frozen=True):
    """Give up the queued locks with companions, newest first, as far as no other lock stands behind them."""

    accompanied: bool = True
    """False: give up every one that waits."""


# --- commands: streams ------------------------------------------------------------------------------------------


class BeginStream(Asks[OutgoingStreamState], frozen=True):
    """Queue the lock of a stream over a chain that was made for the next lock."""

    chain: HashChain
    unit: int
    expiry: int


class SubmitUnits(Asks[int], frozen=True):
    """Pay more units of our stream on that lock; answered by the depth that covers them."""

    lock: int
    condition: bytes
    """Of the lock: one that was dropped unsigned leaves its number to another."""
    units: int


class FinishStream(Asks[None], frozen=True):
    """Take no more units, and unlock what was submitted."""

    lock: int
    condition: bytes


# --- commands: the channel --------------------------------------------------------------------------------------


class RequestClose(Asks[None], frozen=True):
    """Close with the peer's consent. Waiting payments go first, new ones are refused."""


class ForceClose(Asks[None], frozen=True):
    """Freeze the channel for a unilateral close, durably; whoever watches the chain submits it."""


class RequestWithdrawal(Asks[Withdrawal], frozen=True):
    """Sign a withdrawal of our own, and ask for the peer's signature."""

    amount: int


class KeepHistory(Asks[None], frozen=True):
    """Keep that many agreed updates in each journal from now on; None: all."""

    updates: int | None


# --- what the peer does -----------------------------------------------------------------------------------------


class PeerMessage(Discreet, Asks[None], frozen=True):
    """A message about this channel came from its peer; `frame` is its bytes. What may come when is in `rules`."""

    message: Message
    frame: bytes


class TakeDeferred(Discreet, Asks[None], frozen=True):
    """The chain decides, and the peer's next update was countersigned for towers alone (`node.custody`): it counts."""

    update: Update


class LinkUp(Asks[None], frozen=True):
    """A link to the peer is up: nothing that was said on an earlier one counts any more."""


class LinkDown(Asks[None], frozen=True):
    """The link is gone, or the peer does not know this channel on it."""


class PeerExcused(Asks[None], frozen=True):
    """The peer said why it leaves an update aside: it will ask for it again."""


# --- what the chain does ----------------------------------------------------------------------------------------


class ChainMoved(Asks[bool], frozen=True):
    """Time has passed on the chain, and perhaps it shows secrets; answered by whether anything waited for that."""

    chain: ChainTime


class FundingConfirmed(Asks[None], frozen=True):
    """The chain has confirmed these deposits and withdrawals, by side."""

    deposits: tuple[int, int]
    withdrawn: tuple[int, int] = (0, 0)


class PhaseReached(Asks[None], frozen=True):
    """The chain, or what became of an opening, puts the channel into this phase."""

    phase: Phase


# --- what time does ---------------------------------------------------------------------------------------------


class Tick(Asks[bool], frozen=True):
    """Look at how long the oldest update has waited; answered by whether there is one. Time: any steady clock's."""

    rounds: tuple[int, int]
    """How many were prepared, and how many of them are durable."""
    queued: bool
    """Whether frames for the peer wait on our side."""


class SignDue(Asks[None], frozen=True):
    """A round begins: repeat what the peer asked for, countersign, sign what is due, go on with a close."""


class Stop(Asks[None], frozen=True):
    """The node goes down: end what waits unsigned."""


PaymentCommand: TypeAlias = SubmitPayment | SubmitPayments | JoinUpdate
LockCommand: TypeAlias = SubmitLock | RevealSecret | RejectLock | PayLock | ShowProof | GiveUpLocks
StreamCommand: TypeAlias = BeginStream | SubmitUnits | FinishStream
ChannelCommand: TypeAlias = RequestClose | ForceClose | RequestWithdrawal | KeepHistory
Command: TypeAlias = PaymentCommand | LockCommand | StreamCommand | ChannelCommand
PeerInput: TypeAlias = PeerMessage | TakeDeferred | LinkUp | LinkDown | PeerExcused
ChainInput: TypeAlias = ChainMoved | FundingConfirmed | PhaseReached
Input: TypeAlias = Command | PeerInput | ChainInput | Tick | SignDue | Stop
