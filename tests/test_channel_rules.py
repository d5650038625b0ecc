"""The table of what may happen to a channel when: it is whole, and it is obeyed, row by row."""

from __future__ import annotations

import typing

import pytest

from simulation.pair import Pair
from tallystick.channels.errors import ChannelNotReady, Fault, InvalidSignature, InvalidUpdate, TallystickError
from tallystick.channels.protocol import messages
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.messages import Error, Message, channel_of, decode
from tallystick.channels.protocol.objects import ChannelId, CooperativeClose, Withdrawal
from tallystick.channels.session import inputs
from tallystick.channels.session.inputs import Asks, PeerMessage
from tallystick.channels.session.machine import process
from tallystick.channels.session.rules import ALL, RULES, Otherwise, Rule

OF_OPENINGS = {messages.OpenRequest, messages.OpenAccept, messages.OpenRefuse, messages.OpenProposal}
"""They are about a channel that is not there yet (`channels.node.opening`)."""


def sample(kind: type[Message], channel: ChannelId) -> Message:
    """Return a message of that kind about this channel."""
    numbers = {"seq": 1, "seen": 0, "signature": bytes(64), "operations": (), "depth": 1, "link": bytes(32)}
    numbers |= {"lock": 0, "secret": bytes(32), "reason": b"", "funding": 0, "deposits": 0, "taken": 0, "final_seq": 0}
    numbers |= {"signed_seq": 0, "ours": None, "theirs": None, "channel": channel}
    numbers |= {"close": CooperativeClose(channel, 0, 0, 0), "withdrawal": Withdrawal(channel, 1, 1, 0)}
    return kind(**{name: numbers[name] for name in kind.__struct_fields__})


def in_phase(phase: Phase, *, linked: bool = True) -> Pair:
    """Two nodes with a channel which Alice has in that phase."""
    pair = Pair((1_000, 1_000))
    pair.connect()
    if linked:
        pair.settle()
    session = pair.alice.session
    session.channel = typing.cast("typing.Any", type(session.channel))(
        **{name: getattr(session.channel, name) for name in session.channel.__struct_fields__} | {"phase": phase}
    )
    session.effects.take()
    return pair


def messages_of_channels() -> list[type[Message]]:
    """All kinds of messages that name a channel that is there."""
    kinds = set(typing.get_args(Message)) - OF_OPENINGS - {Error}
    found = []
    for kind in kinds:
        try:
            if channel_of(sample(kind, ChannelId(bytes(32)))) is not None:
                found.append(kind)
        except KeyError:
            continue
    return sorted(found, key=lambda kind: kind.__name__)


def test_every_input_and_every_message_of_a_channel_has_a_row_and_nothing_else_has() -> None:
    others = set(typing.get_args(inputs.Input)) - {PeerMessage}
    assert set(RULES) == others | set(messages_of_channels()) and len(messages_of_channels()) == 16


def test_every_frozen_input_of_the_page_is_in_the_union() -> None:
    defined = {
        kind for kind in vars(inputs).values() if isinstance(kind, type) and issubclass(kind, Asks) and kind is not Asks
    }
    assert defined == set(typing.get_args(inputs.Input))
    assert all(kind.__struct_config__.frozen for kind in defined)


def test_an_input_without_a_row_is_refused_loudly() -> None:
    pair = in_phase(Phase.OPEN)
    with pytest.raises(InvalidUpdate, match="no sense") as refused:
        process(pair.alice.session, PeerMessage(messages.Ping(1), b""), 0.0)
    assert refused.value.code is Fault.UNKNOWN_MESSAGE


def illegal() -> list[tuple[type, Rule, Phase]]:
    """Each row with each phase that it excludes."""
    return [(kind, rule, phase) for kind, rule in RULES.items() for phase in Phase if phase not in rule.phases]


@pytest.mark.parametrize(("kind", "rule", "phase"), illegal(), ids=lambda value: getattr(value, "__name__", None))
def test_what_is_not_legal_in_a_phase_is_refused_left_aside_or_ignored_as_the_table_says(
    kind: type, rule: Rule, phase: Phase
) -> None:
    pair = in_phase(phase)
    session = pair.alice.session
    before = session.channel
    if not kind.__module__.endswith(".messages"):
        blanks = dict.fromkeys(kind.__struct_fields__, 1)  # type: ignore[attr-defined]
        with pytest.raises(ChannelNotReady, match=phase.name.lower()):
            process(session, kind(**blanks), 0.0)
        said = []
    else:
        process(session, PeerMessage(sample(kind, pair.id), b""), 0.0)
        said = [decode(frame) for _, frame in session.effects.frames]
    assert session.channel is before and not session.effects.moments and not session.effects.events
    if rule.otherwise is Otherwise.IGNORE:
        assert said == []
    elif said:
        assert [(type(answer), answer.code) for answer in said] == [(Error, Fault.WRONG_PHASE)]  # type: ignore[union-attr]
    assert session.link.missed is (rule.otherwise is Otherwise.LEAVE_ASIDE)


@pytest.mark.parametrize("kind", messages_of_channels(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("phase", [Phase.OPEN, Phase.CLOSING])
def test_nothing_but_a_greeting_is_taken_before_both_have_greeted(kind: type[Message], phase: Phase) -> None:
    rule = RULES[kind]
    pair = in_phase(phase, linked=False)
    session = pair.alice.session
    before = session.channel
    if rule.unlinked is None:
        assert kind in (messages.Reestablish, messages.CloseRequest)
        return
    process(session, PeerMessage(sample(kind, pair.id), b""), 0.0)
    said = [decode(frame) for _, frame in session.effects.frames]
    assert session.channel is before and not session.ready and not session.effects.moments
    assert len(said) == (0 if rule.unlinked is Otherwise.IGNORE else 1)
    assert all(isinstance(answer, Error) and "greet first" in answer.text for answer in said)


@pytest.mark.parametrize("phase", list(Phase))
def test_what_may_always_happen_is_never_refused_for_the_phase(phase: Phase) -> None:
    for kind in (inputs.LinkDown, inputs.LinkUp, inputs.PeerExcused, inputs.GiveUpLocks, inputs.SignDue, inputs.Stop):
        assert RULES[kind].phases == ALL
        pair = in_phase(phase)
        try:
            process(pair.alice.session, kind(), 0.0)
        except TallystickError as error:  # pragma: no cover
            raise AssertionError(f"{kind.__name__} in {phase.name}") from error
        assert pair.alice.channel.phase is phase


@pytest.mark.parametrize("kind", [inputs.SubmitPayment, inputs.SubmitUnits])
def test_what_comes_by_the_hundred_thousand_does_not_ask_for_the_link(kind: type) -> None:
    """`machine.pay` looks at the phases of its row alone, and what `machine.giver` makes at none."""
    assert RULES[kind].unlinked is None
    assert kind is inputs.SubmitPayment or RULES[kind].phases == tuple(Phase)


@pytest.mark.parametrize("phase", Phase)
def test_a_forged_withdrawal_ends_the_connection_whatever_the_phase(phase: Phase) -> None:
    pair = in_phase(phase)
    forged = sample(messages.WithdrawRequest, pair.id)
    with pytest.raises(InvalidSignature):
        process(pair.alice.session, PeerMessage(forged, b""), 0.0)
