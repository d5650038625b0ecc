"""Two players of one instance, whose links lose what is under way and whose nodes crash between storing and sending."""

from __future__ import annotations

import contextlib
from collections import deque

from simulation.court_bench import EXPIRY, GAME, INSTANCE, KEYS, START, TERMS
from tallystick.channels.apps import inputs, machine
from tallystick.channels.apps.inputs import AppEnv, AppInput
from tallystick.channels.apps.instance import AppInstance
from tallystick.channels.apps.table import APPS
from tallystick.channels.errors import InvalidInput, InvalidUpdate
from tallystick.channels.protocol import messages
from tallystick.channels.protocol.app_court import CourtMoveCall, RegisterStateCall
from tallystick.channels.protocol.app_messages import AppMessage, AppProposal
from tallystick.channels.protocol.keys import keccak
from tallystick.settlement.contract import court

MARGIN = 600


class Player:
    """One of them, and what is stored of its instance."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.held: AppInstance | None = None
        self.locked = False
        self.signed: dict[int, bytes] = {}
        """Hashes of states, by their numbers."""
        self.outcomes: set[tuple[int, int]] = set()

    def note(self) -> None:
        """Look at all that it has signed. Raise AssertionError if those are two statements with one number."""
        held = self.held
        if held is None:
            return
        found: list[tuple[int, bytes]] = []
        if held.begun[self.number]:
            found.append((0, held.terms.start))
        if held.agreed is not None:
            assert held.agreed.holds(held.terms) and keccak(held.state) == held.agreed.state.state
            found.append((held.agreed.state.number, held.agreed.state.state))
        if held.move is not None:
            found.append((held.move.number, keccak(held.move.after)))
        for number, state in found:
            assert self.signed.setdefault(number, state) == state, f"two statements with the number {number}"
        self.outcomes |= {each.paid for each in (held.offer, held.closing) if each is not None}
        if held.outcome is not None:
            assert held.outcome.holds() and held.outcome.paid == held.paid
            self.outcomes.add(held.outcome.paid)


class Match:
    """Both, and the link between them."""

    def __init__(self) -> None:
        self.now = 1_000
        self.players = Player(0), Player(1)
        self.up = True
        self.ways: tuple[deque[AppMessage], deque[AppMessage]] = (deque(), deque())
        """What is on its way to each."""
        self._after(self.players[0], machine.propose(TERMS, START, self.env(0)), crash=False)

    def env(self, player: int) -> AppEnv:
        """What a player's machine may know."""
        return AppEnv(KEYS[player], self.now, MARGIN)

    def happens(self, number: int, happened: AppInput, *, crash: bool = False) -> None:
        """Let something happen to a player; `crash`: its node ends once that is stored, before anything is sent."""
        player = self.players[number]
        assert player.held is not None
        self._after(player, machine.process(player.held, happened, self.env(number)), crash=crash)

    def _after(self, player: Player, step: inputs.AppStep, *, crash: bool) -> None:
        player.held = step.held
        player.note()
        if crash:
            self.cut()
        elif self.up:
            for message in step.messages:
                decoded = messages.decode(messages.encode(message))
                assert decoded == message
                self.ways[1 - player.number].append(message)

    def deliver(self, number: int, *, crash: bool = False) -> None:
        """Let a player have the next message."""
        message, player = self.ways[number].popleft(), self.players[number]
        if player.held is not None:
            self.happens(number, message, crash=crash)
        elif isinstance(message, AppProposal):
            with contextlib.suppress(InvalidInput):  # it came too late
                player.held = machine.hear(message, self.env(number))

    def cut(self) -> None:
        """Lose the link, and what is on it."""
        self.up = False
        for way in self.ways:
            way.clear()

    def connect(self) -> None:
        """Be connected again."""
        self.up = True
        for player in self.players:
            if player.held is not None:
                self.happens(player.number, inputs.LinkBack())

    def settle(self) -> None:
        """Reconnect, and let all messages arrive."""
        self.cut()
        self.connect()
        for _ in range(200):
            for number in (0, 1):
                if self.ways[number]:
                    self.deliver(number)
            if not any(self.ways):
                return
        raise AssertionError("they never stop talking")


def refuses(match: Match, number: int, message: AppMessage) -> bool:
    """Whether a player refuses to hear that, and is as it was."""
    held = match.players[number].held
    assert held is not None
    try:
        step = machine.process(held, message, match.env(number))
    except InvalidUpdate:
        return True
    return step.held == held and not step.messages


def in_court(player: Player, other: Player) -> court.CourtRecord | None:
    """Return what stands after the other brought all that it has to court, and then this one what it needs to."""
    record: court.CourtRecord | None = None
    time = EXPIRY - 100
    for each in (other, player):
        held = each.held
        if held is None or held.agreed is None:
            continue
        agreed = held.agreed
        if record is None or agreed.state.number > record.agreed:
            call = RegisterStateCall(TERMS, agreed.state.number, held.state, agreed.signatures)
            if record is None or record.number < agreed.state.number or record.agreed < agreed.state.number:
                record, _ = court.apply(record, call, time, APPS.find)
        if held.move is not None and record.state == keccak(held.move.before) and record.number < held.move.number:
            move = CourtMoveCall(TERMS, held.move.before, held.move.move, held.move.signature)
            record, _ = court.apply(record, move, time, APPS.find)
    return record


def paid_in(state: bytes) -> tuple[int, int]:
    """What the rules say is paid if nothing follows."""
    return (GAME.outcome if GAME.turn(state) is None else GAME.forfeit)(state, TERMS.stakes)


__all__ = ["EXPIRY", "INSTANCE", "MARGIN", "Match", "Player", "in_court", "paid_in", "refuses"]
