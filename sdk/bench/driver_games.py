"""Commands of `driver` about one game for stakes with a node that we have no channel with: for the demo."""

from __future__ import annotations

from typing import Any

from tallystick.channels.protocol.apps import InstanceId
from tallystick.channels.protocol.objects import NATIVE
from tallystick.sdk.bench.driver_network import look_for
from tallystick.sdk.node.apps import AppHandle
from tallystick.sdk.node.holdings import holdings
from tallystick.sdk.node.node import Node

APP = "tictactoe"


class GamesDriver:
    """The commands about one game, by name: each method `do_NAME` is one."""

    def __init__(self, node: Node) -> None:
        self.node = node

    async def do_reach(self, command: dict[str, Any]) -> dict[str, Any]:
        """Wait until gossip has told of `channels` channels, and ours are usable."""
        graph, count = self.node.routing.graph, 2 * command["channels"]
        ours = self.node.channels
        await look_for(lambda: len(graph) >= count and bool(ours) and all(each.view.ready for each in ours))
        return {}

    async def do_game_propose(self, command: dict[str, Any]) -> dict[str, Any]:
        """Play with the node at `peer` for `stake` of each, with `period` seconds for a move in court; tell its id."""
        stake, period = command["stake"], command["period"]
        async with self.node.open_app(command["peer"], APP, stake=stake, period=period) as game:
            return {"game": game.instance.hex()}

    async def do_game_accept(self, command: dict[str, Any]) -> dict[str, Any]:
        """Take up the first game that is proposed."""
        proposal = await anext(self.node.apps.proposals())
        async with proposal.accept() as game:
            return {"game": game.instance.hex()}

    async def do_game_move(self, command: dict[str, Any]) -> dict[str, Any]:
        """Once it is our turn in `game`, put our mark into `cell`, and wait until the other has it; tell the board."""
        game = self._game(command)
        await game.wait_turn()
        return {"rows": (await game.move(cell=command["cell"]))["rows"]}

    async def do_game_paid(self, command: dict[str, Any]) -> dict[str, Any]:
        """Wait until `game` is decided; tell how much of each stake goes to the other player."""
        return {"paid": await self._game(command).wait_ended()}

    async def do_game_over(self, command: dict[str, Any]) -> dict[str, Any]:
        """Wait until no stake of `game` is pending any more."""
        instance = self._game(command).instance
        await self.node.until(lambda: all(game.instance != instance for game in self.node.apps))
        return {}

    async def do_games(self, command: dict[str, Any]) -> dict[str, Any]:
        """Tell how many games this node plays, or has played."""
        return {"games": len([*self.node.apps, *self.node.apps.history()])}

    async def do_worth(self, command: dict[str, Any]) -> dict[str, Any]:
        """Tell what is ours at the newest block, in the account and in channels together; locks are nobody's yet."""
        return {"worth": sum(await holdings(self.node, NATIVE))}

    def _game(self, command: dict[str, Any]) -> AppHandle:
        return self.node.apps.find(InstanceId(bytes.fromhex(command["game"])))
