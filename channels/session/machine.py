"""The one door to a channel: every input goes through `process`, which obeys the table of rules.

What it works on is a `Session`. Of that, what is signed (`channel`) and what the present link has brought (`link`) are
frozen values, replaced as a whole; the queue of what waits, the tickets, the streams and the companions of locks are
mutable beside them, for speed: a payment passes the whole door in 1.6 µs, and to replace a single frozen value takes
0.4 µs (CPython 3.11), which is little for an update and much for each payment in it. Nothing else comes in: no clock,
no key but by signing, no event loop. So the same inputs give the same states: `recording` builds on it. What follows is
appended to the session's `effects`, in the order store, send, tell. An input that raises has changed nothing that is
signed or stored.

Two inputs come by the hundred thousand a second: `pay` and `giver` are `process` for these, by the same rows of the
table, and make the input itself only for who records the channel, or if it is declined.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from tallystick.channels.errors import ChannelNotReady, Fault, InvalidUpdate
from tallystick.channels.protocol import core
from tallystick.channels.protocol.messages import Error, Reestablish, Update
from tallystick.channels.session import receiver
from tallystick.channels.session.inputs import Asks, PeerMessage, SubmitPayment, SubmitUnits
from tallystick.channels.session.rules import OPEN, RULES, Otherwise, Rule
from tallystick.channels.session.session import Session
from tallystick.channels.session.streamed import OutgoingStreamState
from tallystick.channels.session.tickets import Ticket

R = TypeVar("R")

_PAYS = RULES[SubmitPayment]


def process(session: Session, given: Asks[R], now: float, recorded: bool = False) -> R:
    """Let something happen to a channel and return its answer; what follows from it is in the session's `effects`.

    Raise TallystickError for a command that is refused, PeerError for a message that must not be: nothing was done.
    `recorded`: whoever takes down what happens has it already. One function, not two, and no `cast`: for speed.
    """
    answer: R
    if session.recorder is not None and not recorded:
        answer = session.recorder.take(given, now, process)
        return answer
    rule = RULES.get(type(given)) or _rule_of_message(given)
    if rule.unlinked is not None and not session.link.ready:
        answer = _decline(session, given, rule.unlinked, "this channel was not resumed: greet first")
    elif session.channel.phase not in rule.phases:
        answer = _out_of_phase(session, given, rule)
    else:
        answer = rule.handler(session, given, now)
    return answer


def pay(session: Session, amount: int, memo: bytes, key: str, now: float) -> Ticket:
    """Process a `SubmitPayment`. Raises as `process` does."""
    if session.recorder is None and session.channel.phase in _PAYS.phases:
        return session.pay(amount, memo, key, now)
    return process(session, SubmitPayment(amount, memo, key), now)


def giver(
    session: Session, stream: OutgoingStreamState, due: Callable[[], None], clock: Callable[[], float]
) -> Callable[[int], int]:
    """Return a function that processes a `SubmitUnits` of so many units. Raises as `process` does.

    The table lets these through whatever the phase. `due` is called if what was given does not wait for the peer.
    """
    refuse = session.streams.refuse

    def give(units: int) -> int:
        if session.recorder is not None:
            depth = process(session, SubmitUnits(stream.lock, stream.condition, units), clock())
        else:  # as `Streams.submit`, but for a call that would cost as much as all of it
            depth = stream.wanted + units
            if units < 1 or stream.closing or depth > stream.limit:
                refuse(stream, units)
            stream.wanted = depth
        if not stream.frames:  # else the next acknowledgement goes on with it
            due()
        return depth

    return give


def _rule_of_message(given: Asks[Any]) -> Rule:
    kind = type(given.message) if type(given) is PeerMessage else type(given)
    rule = RULES.get(kind)
    if rule is None:
        raise InvalidUpdate(f"{kind.__name__} makes no sense now", Fault.UNKNOWN_MESSAGE)
    return rule


def _out_of_phase(session: Session, given: Asks[Any], rule: Rule) -> Any:
    phase = session.channel.phase.name.lower()
    if isinstance(given, PeerMessage):
        open_only = ", not open" if rule.otherwise is Otherwise.LEAVE_ASIDE else ""
        _decline(session, given, rule.otherwise, f"this channel is {phase} here{open_only}")
    elif rule.phases is OPEN:
        core.require_open(session.channel)
    else:
        raise ChannelNotReady(f"channel {session.channel.id.hex()[:8]} is {phase}: that cannot be done now")


def _decline(session: Session, given: Asks[Any], otherwise: Otherwise, text: str) -> Any:
    """Do what the table says of a message that comes at the wrong time."""
    message = cast(PeerMessage, given).message
    if otherwise is Otherwise.REFUSE:
        # One that was never used may be opened anew: the peer has to greet it again then.
        anew = isinstance(message, Reestablish) and core.is_unused(session.channel)
        session.send(Error(session.channel.id, Fault.UNKNOWN_CHANNEL if anew else Fault.WRONG_PHASE, text))
    elif otherwise is Otherwise.LEAVE_ASIDE:
        receiver.leave_aside(session, cast(Update, message), Fault.WRONG_PHASE, text)
