"""Commands of `driver` about apps, for `bench apps`: many games at once, and lone moves beside lone payments.

Every game is one of Connect Four, played to a full board in which nobody has won: 42 moves, and the stakes go back. Two
drivers are told the same, each plays its side.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from tallystick.channels.node.apps import HEARD_MOST
from tallystick.channels.protocol.apps import InstanceId
from tallystick.channels.session.effects import PaymentsReceived
from tallystick.sdk.bench.latencies import Latencies, timing
from tallystick.sdk.node.apps import AppHandle
from tallystick.sdk.node.handle import ChannelHandle
from tallystick.sdk.node.node import Node

APP = "connectfour"
COLUMNS = "416210144241363310466123232265505465550030"
"""The column of each move: a whole game that nobody wins."""
STAKE = 1


class AppsDriver:
    """The commands about apps, by name: each method `do_NAME` is one."""

    def __init__(self, node: Node) -> None:
        self.node = node

    async def do_app_open(self, command: dict[str, Any]) -> dict[str, Any]:
        """Propose `games` games to the peer of the newest channel; return their ids once all have begun."""
        channel, games = self._channel, list[AppHandle]()
        for first in range(0, command["games"], HEARD_MOST):
            games += [self._propose(channel) for _ in range(min(HEARD_MOST, command["games"] - first))]
            for game in games[first:]:
                await game.wait_begun()
        return {"instances": [game.instance.hex() for game in games]}

    async def do_app_accept(self, command: dict[str, Any]) -> dict[str, Any]:
        """Say yes to `games` proposals, and wait until all have begun."""
        begun, proposals = list[AppHandle](), self.node.apps.proposals()
        while len(begun) < command["games"]:
            begun.append((await anext(proposals)).agree())
        for game in begun:
            await game.wait_begun()
        return {}

    async def do_app_play(self, command: dict[str, Any]) -> dict[str, Any]:
        """Play these `instances` to their ends at once, a task for each; report figures of this side.

        With `awaited`, the next move of a game is looked for once its last one is acknowledged, and has a latency.
        """
        games = [self._game(instance) for instance in command["instances"]]
        latencies, before, began = Latencies(), self._used(), time.perf_counter()

        async def play(game: AppHandle) -> None:
            while await game.wait_turn():
                asked = time.perf_counter()
                if command["awaited"]:
                    await game.move(column=_column(game))
                else:
                    game.make_move(column=_column(game))
                latencies.one(time.perf_counter() - asked)

        async with trio.open_nursery() as nursery:
            for game in games:
                nursery.start_soon(play, game)
        used = self._used()
        return timing(latencies, time.perf_counter() - began) | {name: used[name] - before[name] for name in used}

    async def do_app_over(self, command: dict[str, Any]) -> dict[str, Any]:
        """Wait until nothing is open of any game."""
        while list(self.node.apps):
            await self.node.engine.durable()  # the unlocks of the last stakes are told round by round
        return {}

    async def do_app_lone(self, command: dict[str, Any]) -> dict[str, Any]:
        """Pay and move in turn for `seconds`, with nothing else under way: each behind a payment that is not measured.

        The other side answers a move when the payment behind it has come (`do_app_answer`).
        """
        channel, deadline = self._channel, time.perf_counter() + command["seconds"]
        moves, payments, made = Latencies(), Latencies(), 0

        async def measured(act: Callable[[], Awaitable[object]], latencies: Latencies) -> None:
            await channel.pay(1)
            began = time.perf_counter()
            await act()
            latencies.one(time.perf_counter() - began)

        while time.perf_counter() < deadline:
            game = self._propose(channel)
            await game.wait_begun()
            while await game.wait_turn():
                column = _column(game)
                await measured(lambda: channel.pay(1), payments)
                await measured(lambda game=game, column=column: game.move(column=column), moves)  # type: ignore[misc]
                await channel.pay(1)
                made += 4
        return {"moves": timing(moves, 1.0), "payments": timing(payments, 1.0), "made": made}

    async def do_app_answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Accept what is proposed, and move whenever a payment comes and it is our turn, until the driver ends."""
        with self.node.events() as events:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._accept)
                async for event in events:
                    for game in self.node.apps if isinstance(event, PaymentsReceived) else ():
                        if game.held.is_ours:
                            game.make_move(column=_column(game))
        return {}

    async def _accept(self) -> None:
        async for proposal in self.node.apps.proposals():
            proposal.agree()

    @property
    def _channel(self) -> ChannelHandle:
        return self.node.channels[-1]

    def _propose(self, channel: ChannelHandle) -> AppHandle:
        return self.node.apps.propose(channel.id, APP, (STAKE, STAKE), parameters={})

    def _game(self, instance: str) -> AppHandle:
        return self.node.apps.find(InstanceId(bytes.fromhex(instance)))

    def _used(self) -> dict[str, float]:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {"commits": self.node.statistics().engine.commits, "cpu": usage.ru_utime + usage.ru_stime}


def _column(game: AppHandle) -> int:
    """Return the next move of a game."""
    board = game.held.newest
    return int(COLUMNS[len(board) - board.count(0)])
