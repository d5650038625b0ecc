"""Act four of the demo: a game for stakes over a hub that cannot see it, and a player who walks away.

         Fay ── Hal ── Gil       Fay and Gil have no channel with each other. Each locks a stake over Hal, and they
          └ ─ ─ ─ ─ ─ ─ ┘        play by speaking with each other; Hal sees two locks, and nothing else.

Gil walks away when he is about to lose. Fay's node takes the newest state that both signed to the chain's court; Gil's
clock runs there, and runs out. He loses by the rules, and Hal, between them, loses nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import trio
from stage import GAME, Stage

from tallystick import NATIVE
from tallystick.channels.protocol.app_court import AppStands
from tallystick.sdk.bench.launcher import DriverProcess, DriverProcesses
from tallystick.settlement.port import Chain

DEPOSIT, STAKE = 10_000_000, 4_000_000
BUDGET = 500_000
"""What one transaction may cost at most. Fees rise with each block waited, and blocks are short here: with the usual
budget, who is held up for half a second would pay more than a stake."""
FEES_MOST = 6 * BUDGET
"""What all transactions of one party may cost at most: less than a stake."""

MOVES = ((0, "fay", 4), (1, "gil", 1), (2, "fay", 0), (3, "gil", 2), (4, "fay", 6))
"""Noughts and crosses: Fay's crosses have two lines open after the last one, and it is Gil's turn."""

PATIENCE, PERIOD = 60, 90
"""Seconds of chain time for which Gil may stall; and which he then has in court."""


class Game:
    """Fay and Gil's game, and what the chain makes of it. Make it with `begin_game`."""

    def __init__(self, stage: Stage, chain: Chain, nodes: dict[str, DriverProcess], channel: str) -> None:
        self.stage = stage
        self.chain = chain
        self.nodes = nodes
        self.channel = channel
        """Between Hal and Gil."""
        self.id = ""
        self.before: dict[str, int] = {}

    async def judge(self) -> None:
        """Tell what the court says, wait until all is paid, and check who gets what."""
        stage, fay, hal = self.stage, self.nodes["fay"], self.nodes["hal"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            paid = (await fay.ask("game_paid", game=self.id))["paid"]
            nursery.cancel_scope.cancel()
        stage.check(paid == [0, STAKE], "Gil's clock has run out: by the rules, his stake is Fay's, and hers goes back")
        await fay.ask("game_over", game=self.id)
        await hal.ask("wait_gone", channel=self.channel)
        await self._check_books()
        for node in (fay, hal):
            await node.stop()

    async def _watch(self) -> None:
        """Tell of the state that comes to court."""
        number = (await self.chain.head()).number
        while True:
            head = await self.chain.head()
            for block in await self.chain.blocks(number, 100):
                number = block.header.number + 1
                for event in block.events:
                    if isinstance(event, AppStands) and event.instance.hex() == self.id:
                        self.stage.tell(
                            f"block {block.header.number}: Fay's node has brought state {event.number}, which both "
                            f"signed; Gil has {event.until - event.time} s of the chain's time to move there"
                        )
            await self.chain.wait(head.hash)

    async def _check_books(self) -> None:
        """Check what Fay and Hal own, on chain and in channels together, and that it came from Gil."""
        stage, gains = self.stage, dict[str, int]()
        with trio.fail_after(60):
            while True:
                for name in ("fay", "hal"):
                    gains[name] = (await self.nodes[name].ask("worth"))["worth"] - self.before[name]
                if gains["fay"] > STAKE - FEES_MOST and gains["hal"] > -FEES_MOST:
                    break
                await trio.sleep(0.05)
        court = STAKE - gains["fay"]
        told = f"Fay has {gains['fay']:,} more: Gil's {STAKE:,} less {court:,}, the fees of going to court"
        stage.check(STAKE - FEES_MOST < gains["fay"] <= STAKE, told)
        stage.check(-FEES_MOST < gains["hal"] <= 0, f"Hal, who passed both stakes on, paid {-gains['hal']:,} in fees")
        held = await self.chain.balance(stage.keys["gil"].address, NATIVE)
        lost = stage.before["gil"] - held
        stage.check(STAKE <= lost < STAKE + FEES_MOST, f"Gil lost {lost:,}: his stake, and the fees of his deposit")


async def begin_game(stage: Stage, processes: DriverProcesses, chain: Chain) -> Game:
    """Let Fay and Gil lock their stakes and play, until Gil walks away."""
    stage.act("Four. Fay and Gil play for stakes, who have no channel with each other; Hal stands between them")
    game = await _sit_down(stage, processes, chain)
    fay, gil = game.nodes["fay"], game.nodes["gil"]
    answers: dict[str, dict[str, Any]] = {}

    async def accept() -> None:
        answers["gil"] = await gil.ask("game_accept")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept)
        proposed = await fay.ask("game_propose", peer=gil.first["peer"], stake=STAKE, period=PERIOD)
    game.id = proposed["game"]
    stage.tell(f"Fay and Gil play noughts and crosses for {STAKE:,} each, locked in their channels with Hal")
    rows: list[str] = []
    for _, name, cell in MOVES:
        rows = (await game.nodes[name].ask("game_move", game=game.id, cell=cell))["rows"]
    stage.tell(f"five moves later the board is {' / '.join(rows)}: whatever Gil does now, Fay will win")
    known = {name: _knows(stage.folder / name, bytes.fromhex(game.id)) for name in GAME}
    played = (await game.nodes["hal"].ask("games"))["games"]
    blind = known == {"fay": True, "gil": True, "hal": False} and played == 0
    stage.check(blind, "the game's id is on Fay's disk and on Gil's, and not a byte of it on Hal's")
    await gil.kill()
    stage.tell("Gil walks away: his process is gone, and it is his turn")
    return game


async def _sit_down(stage: Stage, processes: DriverProcesses, chain: Chain) -> Game:
    """Start Fay, Gil and Hal, and let all have something in the channels between them."""
    roles = {name: msgspec.structs.replace(stage.role(name, patience=PATIENCE), budget=BUDGET) for name in GAME}
    nodes = await processes.start_parties(roles)
    hal, channels = nodes["hal"], dict[str, str]()

    async def open_channel(player: str) -> None:
        opened = await nodes[player].ask("open", peer=hal.first["peer"], deposit=DEPOSIT)
        channels[player] = opened["channel"]
        await hal.ask("deposit", channel=opened["channel"], amount=DEPOSIT)

    async with trio.open_nursery() as nursery:
        for player in ("fay", "gil"):
            nursery.start_soon(open_channel, player)
    for node in nodes.values():
        await node.ask("reach", channels=2)
    game = Game(stage, chain, nodes, channels["gil"])
    for name in GAME:
        game.before[name] = (await nodes[name].ask("worth"))["worth"]
    return game


def _knows(folder: Path, what: bytes) -> bool:
    """Whether some file in a folder holds these bytes."""
    return any(what in path.read_bytes() for path in folder.rglob("*") if path.is_file())
