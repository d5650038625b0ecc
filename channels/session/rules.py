"""What may happen to a channel when: one table, a row for each command, each message of the peer's, and the rest.

A row says in which phases its handler is called, what is done in any other phase, and what is done while the peer is
not in step on the present link (both have greeted), if that matters. `machine` obeys it; docs/protocol.md prints it.
What a handler still asks of the phase belongs to what it works out, and is said there.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from tallystick.channels.protocol import messages
from tallystick.channels.protocol.core import Phase
from tallystick.channels.session import inputs, negotiation, receiver, resync, timing
from tallystick.channels.session.session import Session

Handler: TypeAlias = Callable[[Session, Any, float], Any]


class Otherwise(enum.Enum):
    """What becomes of an input that comes when it is not legal."""

    REFUSE = "refused"
    """A command raises ChannelNotReady, a message is answered by an Error."""
    LEAVE_ASIDE = "left aside"
    """The peer is told why, and asked to repeat it once it may be right."""
    IGNORE = "ignored"


REFUSE, ASIDE, IGNORE = Otherwise.REFUSE, Otherwise.LEAVE_ASIDE, Otherwise.IGNORE


class Rule(msgspec.Struct, frozen=True, gc=False):
    """One row."""

    handler: Handler
    phases: tuple[Phase, ...] = tuple(Phase)
    otherwise: Otherwise = REFUSE
    """In any other phase."""
    unlinked: Otherwise | None = None
    """While the peer is not in step; None: it does not matter."""


OPEN = (Phase.OPEN,)
SIGNED = (Phase.OPEN, Phase.FROZEN)
"""What was signed may still be acknowledged, and either side may still close."""
GREETS = (Phase.OPENING, Phase.OPEN, Phase.FROZEN, Phase.RECOVERING)
CLOSES = (Phase.OPEN, Phase.FROZEN, Phase.CLOSING)
DECIDED = (Phase.CLOSING, Phase.CLOSED)
"""The chain decides by the newest that both signed."""
ALL = tuple(Phase)

# fmt: off
RULES: dict[type, Rule] = {
    # what our own programs ask for
    inputs.SubmitPayment: Rule(lambda s, g, now: s.pay(g.amount, g.memo, g.key, now), OPEN),
    inputs.SubmitPayments: Rule(lambda s, g, now: s.pay_many(g.amounts, now), OPEN),
    inputs.JoinUpdate: Rule(lambda s, g, now: s.join(g.seq, g.ticket), ALL),
    inputs.SubmitLock: Rule(lambda s, g, now: s.add_lock(g), OPEN),
    inputs.RevealSecret: Rule(lambda s, g, now: s.reveal(g.lock, g.secret), ALL),
    inputs.RejectLock: Rule(lambda s, g, now: s.reject(g.lock, g.reason), ALL),
    inputs.PayLock: Rule(lambda s, g, now: s.locks.unlock(g.lock, g.proof), ALL),
    inputs.ShowProof: Rule(lambda s, g, now: s.locks.show(g.lock, g.proof), ALL),
    inputs.GiveUpLocks: Rule(lambda s, g, now: s.locks.drop(accompanied=g.accompanied), ALL),
    inputs.BeginStream: Rule(lambda s, g, now: s.streams.open(g.chain, g.unit, g.expiry), OPEN),
    inputs.SubmitUnits: Rule(lambda s, g, now: s.streams.submit(s.streams.find(g.lock, g.condition), g.units), ALL),
    inputs.FinishStream: Rule(lambda s, g, now: s.streams.finish(g.lock, g.condition), ALL),
    inputs.RequestClose: Rule(lambda s, g, now: negotiation.request_close(s), OPEN),
    inputs.ForceClose: Rule(lambda s, g, now: s.enter(Phase.CLOSING), CLOSES),
    inputs.RequestWithdrawal: Rule(lambda s, g, now: negotiation.request_withdrawal(s, g.amount), OPEN),
    inputs.KeepHistory: Rule(lambda s, g, now: s.keep_history(g.updates), ALL),
    # what the peer may send
    messages.Reestablish: Rule(lambda s, g, now: resync.on_reestablish(s, g.message), GREETS, REFUSE),
    messages.CloseRequest: Rule(lambda s, g, now: resync.on_close_request(s), SIGNED, IGNORE),
    messages.Update: Rule(lambda s, g, now: receiver.on_update(s, g.message, g.frame, now), OPEN, ASIDE, REFUSE),
    messages.Ack: Rule(lambda s, g, now: s.on_ack(g.message, now), SIGNED, IGNORE, REFUSE),
    messages.Reveal: Rule(lambda s, g, now: s.locks.on_reveal(g.message), OPEN, IGNORE, REFUSE),
    messages.Reject: Rule(lambda s, g, now: s.locks.on_reject(g.message), OPEN, IGNORE, REFUSE),
    messages.Links: Rule(lambda s, g, now: s.streams.on_links(g.message), OPEN, IGNORE, REFUSE),
    messages.LinksAck: Rule(lambda s, g, now: s.streams.on_ack(g.message), ALL, IGNORE, REFUSE),
    messages.LinksHeld: Rule(lambda s, g, now: s.streams.on_held(g.message), ALL, IGNORE, REFUSE),
    messages.Funding: Rule(lambda s, g, now: s.counting.on_funding(g.message), ALL, IGNORE, REFUSE),
    messages.Counts: Rule(lambda s, g, now: s.counting.on_counts(g.message), ALL, IGNORE, IGNORE),
    messages.Shutdown: Rule(lambda s, g, now: negotiation.on_shutdown(s, g.message), OPEN, IGNORE, REFUSE),
    messages.CloseOffer: Rule(lambda s, g, now: negotiation.on_close_offer(s, g.message), ALL, REFUSE, REFUSE),
    messages.CloseAccept: Rule(lambda s, g, now: negotiation.on_close_accept(s, g.message), ALL, IGNORE, REFUSE),
    messages.WithdrawRequest: Rule(lambda s, g, now: negotiation.on_withdrawal(s, g.message), ALL, REFUSE, REFUSE),
    messages.WithdrawGrant: Rule(lambda s, g, now: negotiation.on_withdraw_grant(s, g.message), ALL, IGNORE, REFUSE),
    # what happens by itself
    inputs.TakeDeferred: Rule(lambda s, g, now: receiver.take_deferred(s, g.update, now), DECIDED),
    inputs.LinkUp: Rule(lambda s, g, now: resync.on_connected(s), ALL),
    inputs.LinkDown: Rule(lambda s, g, now: resync.on_disconnected(s), ALL),
    inputs.PeerExcused: Rule(lambda s, g, now: s.learn(excused=True), ALL),
    inputs.ChainMoved: Rule(lambda s, g, now: timing.on_chain_moved(s, g.chain), ALL),
    inputs.FundingConfirmed: Rule(lambda s, g, now: resync.set_funding(s, g.deposits, g.withdrawn), ALL),
    inputs.PhaseReached: Rule(lambda s, g, now: s.enter(g.phase), ALL),
    inputs.Tick: Rule(lambda s, g, now: timing.look(s, g.rounds, now, queued=g.queued), ALL),
    inputs.SignDue: Rule(lambda s, g, now: timing.sign_due(s, now), ALL),
    inputs.Stop: Rule(lambda s, g, now: timing.stop(s), ALL),
}
# fmt: on
