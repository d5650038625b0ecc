"""What a node does for each operation on apps between two players, as `handlers` does for the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import trio

from tallystick.channels.apps.instance import AppPhase
from tallystick.channels.apps.interface import Paid
from tallystick.channels.apps.table import APPS
from tallystick.channels.errors import InvalidInput
from tallystick.channels.node.app_store import PlayedApp
from tallystick.channels.protocol.objects import Time
from tallystick.channels.values.arguments import rule_of
from tallystick.sdk.control import app_views as views
from tallystick.sdk.control import lookup
from tallystick.sdk.control.describe_apps import app_info, app_rules
from tallystick.sdk.control.network_views import Waited
from tallystick.sdk.node.apps import AppHandle
from tallystick.sdk.node.node import Node


@dataclass(frozen=True)
class AppHandlers:
    """What is asked of the apps of one node."""

    _node: Node

    async def app_rules(self) -> list[views.AppRules]:
        return [app_rules(app) for app in sorted(APPS, key=lambda app: (app.name, app.version))]

    async def app_proposals(self, asked: Waited) -> list[views.AppInfo]:
        apps = self._node.apps
        with trio.move_on_after(asked.wait):
            await apps.until(lambda: bool(apps.apps.heard))
        return [app_info(self._node, heard) for heard in apps.apps.heard]

    async def played_apps(self, asked: views.AskedApps) -> list[views.AppInfo]:
        apps = self._node.apps.apps
        after = lookup.parse_hex(asked.after, 32, "an app's id") if asked.after else b""
        if asked.over:
            found = apps.history(after, asked.limit)
        else:
            found = sorted(apps.playing, key=lambda played: played.held.instance)
            found = [played for played in found if played.held.instance > after][: asked.limit]
        return [app_info(self._node, played) for played in found]

    async def app(self, app: str, asked: views.AskedApp) -> views.AppInfo:
        played = lookup.find_app(self._node, app)
        with trio.move_on_after(asked.wait):
            await self._node.apps.until(self._has_news(played, asked.ended))
        return app_info(self._node, self._newest(played))

    def _newest(self, played: PlayedApp) -> PlayedApp:
        """Return an app as it is now; as it was if nothing is known of it any more."""
        return self._node.apps.apps.find(played.held.instance) or played

    def _has_news(self, played: PlayedApp, ended: bool) -> Callable[[], bool]:
        apps, offered = self._node.apps.apps, played.held.theirs

        def has_news() -> bool:
            found = apps.find(played.held.instance)
            if found is None:  # a proposal, or one that was taken back
                return all(each.held.instance != played.held.instance for each in apps.heard)
            held = found.held
            if held.phase is AppPhase.ENDED:
                return True
            stuck = held.agreed is not None and held.turn is None
            return not ended and (held.is_ours or stuck or held.theirs != offered)

        return has_news

    async def open_app(self, asked: views.OpenApp) -> views.AppInfo:
        channel = lookup.find_channel(self._node, asked.channel)
        stakes = (asked.stake, asked.stake if asked.peer_stake is None else asked.peer_stake)
        expiry = None if asked.expiry is None else rule_of(Time).take(asked.expiry, "expiry")
        handle = self._node.apps.propose(
            channel.id, asked.app, stakes, expiry=expiry, period=asked.period, parameters=dict(asked.parameters)
        )
        return await self._begun(handle, asked.wait)

    async def accept_app(self, app: str, asked: views.AcceptApp) -> views.AppInfo:
        proposal = lookup.find_proposal(self._node, app)
        channel = None if asked.channel is None else lookup.find_channel(self._node, asked.channel).id
        return await self._begun(proposal.agree(channel), asked.wait)

    async def _begun(self, handle: AppHandle, wait: bool) -> views.AppInfo:
        await handle.wait_stored()
        if wait:
            await handle.wait_begun()
        return self._info(handle)

    async def refuse_app(self, app: str, asked: views.RefuseApp) -> views.AppInfo:
        found = lookup.find_app(self._node, app)
        for proposal in self._node.apps.proposed:
            if proposal.instance == found.held.instance:
                proposal.refuse(asked.why)
                return app_info(self._node, found)
        handle = lookup.find_played(self._node, app)
        handle.withdraw(asked.why)
        return await self._stored(handle)

    async def move_app(self, app: str, asked: views.MoveApp) -> views.AppInfo:
        handle = lookup.find_played(self._node, app)
        number = self._info(handle).number
        if asked.number is not None and asked.number != number + 1:
            raise InvalidInput(f"the next move leads to state {number + 1}, not {asked.number}: `tally app show` tells")
        if asked.wait:
            await handle.move(**asked.move)
        else:
            handle.make_move(**asked.move)
        return await self._stored(handle)

    async def offer_outcome(self, app: str, asked: views.Outcome) -> views.AppInfo:
        handle = lookup.find_played(self._node, app)
        given, taken = _paid(handle, asked)
        handle.offer(to_player_0=taken, to_player_1=given)
        return await self._stored(handle)

    async def take_offer(self, app: str, asked: views.Outcome) -> views.AppInfo:
        handle = lookup.find_played(self._node, app)
        if handle.offered is None:
            raise InvalidInput("the other offers nothing: `tally app offer` makes an offer of ours")
        if handle.offered != _paid(handle, asked):  # the peer can offer another one at any time
            offered = self._info(handle).offered
            assert offered is not None
            raise InvalidInput(
                f"the other offers that we get {offered.gets} and pay {offered.pays}, not what was asked to be taken"
            )
        handle.take_offer()
        return await self._stored(handle)

    async def resign_app(self, app: str) -> views.AppInfo:
        handle = lookup.find_played(self._node, app)
        handle.resign()
        return await self._stored(handle)

    async def dispute_app(self, app: str) -> views.AppInfo:
        handle = lookup.find_played(self._node, app)
        handle.dispute()
        return await self._stored(handle)

    async def _stored(self, handle: AppHandle) -> views.AppInfo:
        await handle.wait_stored()
        return self._info(handle)

    def _info(self, handle: AppHandle) -> views.AppInfo:
        played = self._node.apps.apps.find(handle.instance)
        assert played is not None  # what was played once is kept
        return app_info(self._node, played)


def _paid(handle: AppHandle, outcome: views.Outcome) -> Paid:
    """Return an outcome as the rules say it: what goes of player 0's stake, and of player 1's."""
    return (outcome.pays, outcome.gets) if handle.player == 0 else (outcome.gets, outcome.pays)
