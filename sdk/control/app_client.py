"""The control API's client for apps between two players: `ControlClient.apps`.

    async with connect_control(directory) as node:
        game = await node.apps.open_app("3f9a", "tictactoe", 100, wait=True)
        game = await node.apps.move_app(game.id, {"cell": 4})

Each method asks for the operation of its name, and raises as those of `ControlClient` do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from tallystick.channels.protocol.objects import Count, Lifetime, Time, Total
from tallystick.channels.values.arguments import checked
from tallystick.sdk.control import app_views as views
from tallystick.sdk.control import operations as api
from tallystick.sdk.control.caller import Caller
from tallystick.sdk.control.network_views import Waited

Words: TypeAlias = Mapping[str, int | str | Sequence[int | str]]
"""What an app takes, by name: bytes are written in hex."""


class AppClient:
    """Asks one running node about its apps. Amounts are in the smallest units of the stakes' assets."""

    def __init__(self, caller: Caller) -> None:
        self._ask = caller.ask

    async def app_rules(self) -> list[views.AppRules]:
        """Return what the node has the rules of."""
        return await self._ask(api.OfApps.app_rules)

    @checked
    async def app_proposals(self, *, wait: Count = 0) -> list[views.AppInfo]:
        """Return what peers propose; if there is nothing, wait so many seconds for it."""
        return await self._ask(api.OfApps.app_proposals, Waited(wait))

    @checked
    async def played_apps(self, *, over: bool = False, limit: Count = 100, after: str = "") -> list[views.AppInfo]:
        """Return apps that the node plays, or (`over`) that are over, in order of their ids: those behind `after`."""
        return await self._ask(api.OfApps.played_apps, views.AskedApps(over, limit, after))

    @checked
    async def app(self, name: str, *, wait: Count = 0, ended: bool = False) -> views.AppInfo:
        """Return one app, named by the beginning of its id.

        Wait so many seconds for our turn, an offer or that nobody moves any more; or (`ended`) for the end alone.
        """
        return await self._ask(api.OfApps.app, views.AskedApp(wait, ended), app=name)

    @checked
    async def open_app(
        self,
        channel: str,
        app: str,
        stake: Total,
        *,
        peer_stake: Total | None = None,
        parameters: Words | None = None,
        expiry: Time | None = None,
        period: Lifetime = 600,
        wait: bool = False,
    ) -> views.AppInfo:
        """Propose an app to the peer of a channel; return it once that is on disk (`wait`: once it has begun).

        The peer stakes as much unless told otherwise, until chain time `expiry` (a day from now).
        """
        words = _plain(parameters or {})
        body = views.OpenApp(channel, app, stake, peer_stake, words, expiry, period, wait)
        return await self._ask(api.OfApps.open_app, body)

    @checked
    async def accept_app(self, name: str, *, channel: str = "", wait: bool = True) -> views.AppInfo:
        """Say yes to what a peer proposed, named by 16 digits of its id at least; return it once it has begun.

        `wait=False`: once that is on disk.
        """
        return await self._ask(api.OfApps.accept_app, views.AcceptApp(channel or None, wait), app=name)

    @checked
    async def refuse_app(self, name: str, why: str = "") -> views.AppInfo:
        """Say no to what a peer proposed, or take back what has not begun."""
        return await self._ask(api.OfApps.refuse_app, views.RefuseApp(why), app=name)

    @checked
    async def move_app(
        self, name: str, move: Words, *, number: Count | None = None, wait: bool = True
    ) -> views.AppInfo:
        """Move; return the app once the peer has the move (`wait=False`: once that is on disk).

        `number`: of the state that the move leads to, so that a move that is asked for again is made once.
        """
        return await self._ask(api.OfApps.move_app, views.MoveApp(_plain(move), number, wait), app=name)

    @checked
    async def offer_outcome(self, name: str, *, gets: Total = 0, pays: Total = 0) -> views.AppInfo:
        """Offer to end it: we get so much of the peer's stake, and pay so much of ours. An offer never lapses."""
        return await self._ask(api.OfApps.offer_outcome, views.Outcome(gets, pays), app=name)

    @checked
    async def take_offer(self, name: str, *, gets: Total = 0, pays: Total = 0) -> views.AppInfo:
        """End it as the peer offers, if that is exactly this."""
        return await self._ask(api.OfApps.take_offer, views.Outcome(gets, pays), app=name)

    @checked
    async def resign_app(self, name: str) -> views.AppInfo:
        """Give it up at our turn: what the rules say of a player that does not move."""
        return await self._ask(api.OfApps.resign_app, app=name)

    @checked
    async def dispute_app(self, name: str) -> views.AppInfo:
        """Let the chain's court decide, from the newest state that both signed."""
        return await self._ask(api.OfApps.dispute_app, app=name)


def _plain(words: Words) -> views.Words:
    """Return words as JSON has them."""
    return {name: word if isinstance(word, int | str) else list(word) for name, word in words.items()}
