"""Apps as a program plays them: propose one over a channel, or take up what a peer proposes; move, end, go to court.

    async with node.open_app(address, "tictactoe", stake=100) as game:  # or channel.open_app("tictactoe", stake=100)
        await game.move(cell=4)
        await game.wait_turn()
        ...
        paid = await game.wait_ended()

    async for proposal in node.apps.proposals():                        # on the other side
        async with proposal.accept() as game:
            await game.wait_turn()

The node plays on by itself what needs no decision: it acknowledges, signs what the rules say of a final state, goes to
the chain's court once the other has stalled for `Config.app_patience` or a channel closes, and answers there. To leave
the block ends nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Any

from tallystick.channels.apps.inputs import (
    AppInput,
    MakeMove,
    OfferOutcome,
    Resign,
    TakeOffer,
    TakeToCourt,
    Withdraw,
)
from tallystick.channels.apps.instance import AppInstance, AppPhase
from tallystick.channels.apps.interface import App, InvalidMove, Paid
from tallystick.channels.apps.table import APPS
from tallystick.channels.errors import ChannelNotReady, InvalidInput
from tallystick.channels.node.app_store import PlayedApp
from tallystick.channels.node.apps import OVER_HUBS
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.apps import AppTerms, InstanceId
from tallystick.channels.protocol.keys import PublicKey, keccak
from tallystick.channels.protocol.objects import (
    NATIVE,
    Address,
    AnyAddress,
    Bytes32,
    ChannelId,
    Lifetime,
    Time,
    Total,
    to_address,
)
from tallystick.channels.values.argument_rules import Is
from tallystick.channels.values.arguments import checked
from tallystick.sdk.node.streams import NodeContext

EXPIRY = 86_400
"""Seconds of chain time from now at which stakes expire, unless told otherwise."""
HUBS_EXPIRY = 43_200
"""The same, of stakes that go over hubs: these bind no coins for longer than they like (`StakeLimits.expiry_max`)."""
PERIOD = 600
"""Seconds that a player has for a move in court, unless told otherwise."""


def _is_word(value: Any) -> bool:
    plain = isinstance(value, int | str | bytes) and not isinstance(value, bool)
    return plain or (isinstance(value, list | tuple) and all(map(_is_word, value)))


Word = Annotated[Any, Is("a number, text, bytes, or a list of these", _is_word)]
"""What apps take as parameters, and in moves."""


_PLAYED = (AppPhase.PLAYING, AppPhase.DISPUTED)


def _require_words(words: dict[str, Any]) -> None:
    """Raise InvalidInput for names that rules take for something else."""
    for name in ("self", "stakes"):
        if name in words:
            raise InvalidInput(f"there is no {name} here")


class AppHandle:
    """One instance of an app that this node plays. Amounts are in the smallest units of the stakes' assets."""

    def __init__(self, desk: AppDesk, instance: InstanceId) -> None:
        self._desk = desk
        self.instance = instance
        """Its id: 32 bytes."""

    def __repr__(self) -> str:
        held = self.held
        return f"<App {held.app.name} {self.instance.hex()[:8]} {held.phase.name} player={held.player}>"

    @property
    def held(self) -> AppInstance:
        """What this node holds of it: frozen, as it is now."""
        played = self._desk.apps.find(self.instance)
        if played is None:
            raise InvalidInput(f"no app {self.instance.hex()[:16]} is known here")
        return played.held

    @property
    def phase(self) -> AppPhase:
        """How far it is."""
        return self.held.phase

    @property
    def player(self) -> int:
        """Which player this node is: 0 proposed it."""
        return self.held.player

    @property
    def state(self) -> dict[str, Any]:
        """The newest state that this node signed, in words: see the app's `describe`."""
        held = self.held
        return held.app.describe(held.newest)

    @property
    def turn(self) -> int | None:
        """Which player moves, None if the state is final."""
        return self.held.turn

    @property
    def offered(self) -> Paid | None:
        """The outcome that the other offers, None if it offers none."""
        theirs = self.held.theirs
        return None if theirs is None else theirs.paid

    @property
    def paid(self) -> Paid | None:
        """How much of each stake goes to the other player, None before that is sure."""
        return self.held.paid

    async def wait_turn(self) -> bool:
        """Wait until it is this node's turn, or nobody moves any more; return whether it is."""

        def due() -> bool:
            held = self.held
            return held.is_ours or held.paid is not None or (held.agreed is not None and held.turn is None)

        await self._until(due)
        return self.held.is_ours

    @checked
    async def move(self, **words: Word) -> dict[str, Any]:
        """Move, in the app's words (`cell=4`); return the state once the other has it, or it is decided otherwise.

        Raise InvalidInput if it is not our turn or the rules forbid it (InvalidMove): nothing was signed then.
        """
        self.make_move(**words)

        def known() -> bool:
            held = self.held
            return held.move is None or held.phase is AppPhase.ENDED

        await self._until(known)
        return self.state

    @checked
    def make_move(self, **words: Word) -> None:
        """Move as `move` does, and wait for nothing: `wait_stored` returns once a crash changes nothing of it."""
        held = self.held
        if held.phase in _PLAYED and held.agreed is not None and held.move is None and held.turn != held.player:
            raise InvalidMove("it is the other player's turn" if held.turn is not None else "nobody moves any more")
        _require_words(words)
        self._ask(MakeMove(held.app.move(**words)))

    @checked
    def offer(self, to_player_0: Total, to_player_1: Total) -> None:
        """Offer to end it: so much of player 1's stake goes to player 0, and so much of player 0's to player 1.

        An offer never lapses: the other may take it whenever it likes, whatever is played since. So there is one.
        """
        self._ask(OfferOutcome((to_player_1, to_player_0)))

    def take_offer(self) -> None:
        """End it as the other offers; raise InvalidInput if that cannot be."""
        self._ask(TakeOffer())

    def resign(self) -> None:
        """Offer what the rules say of a player that does not move; raise InvalidInput if it is not our turn."""
        self._ask(Resign())

    @checked
    def withdraw(self, text: str = "") -> None:
        """Take back what has not begun, and say why; raise InvalidInput if we have signed state 0."""
        self._ask(Withdraw(text))

    def dispute(self) -> None:
        """Let the chain's court decide, from the newest state that both signed."""
        self._ask(TakeToCourt())

    async def wait_ended(self) -> Paid:
        """Wait until it is over; return how much of each stake goes to the other player."""
        await self._until(lambda: self.held.paid is not None)
        paid = self.held.paid
        assert paid is not None
        return paid

    async def wait_begun(self) -> None:
        """Wait until both have signed state 0; raise ChannelNotReady, with the reason, if it came to nothing."""
        await self._until(lambda: self.held.agreed is not None or self.held.phase is AppPhase.ENDED)
        if self.held.agreed is None:
            raise ChannelNotReady(f"the app did not begin: {self.held.text or 'the other player took it back'}")

    async def wait_stored(self) -> None:
        """Wait until all that has happened to it so far is on disk."""
        await self._until(lambda: self._desk.apps.is_stored(self.instance))

    async def _until(self, condition: Callable[[], bool]) -> None:
        await self._desk.until_of(self.instance, condition)

    def _ask(self, happened: AppInput) -> None:
        self._desk.apps.apply(self.instance, happened)


class ProposedApp:
    """What a peer proposes: look at it, then accept or refuse it."""

    def __init__(self, desk: AppDesk, heard: PlayedApp) -> None:
        self._desk, self._heard = desk, heard
        self.terms = heard.held.terms
        self.app = heard.held.app.name
        """Its name."""
        self.peer = PublicKey(heard.peer)

    def __repr__(self) -> str:
        return f"<ProposedApp {self.app} stakes={self.terms.stakes} by {self.peer!r}>"

    @property
    def state(self) -> dict[str, Any]:
        """The first state in words, which holds its parameters."""
        return self._heard.held.app.describe(self._heard.held.start)

    @property
    def instance(self) -> InstanceId:
        """Its id: 32 bytes."""
        return self._heard.held.instance

    @checked
    @asynccontextmanager
    async def accept(self, channel: ChannelId | None = None) -> AsyncIterator[AppHandle]:
        """Say yes, lock our stake in a channel (any that has room, else over hubs), and play once it has begun.

        Raise InvalidInput if our stake does not fit, ChannelNotReady if it came to nothing.
        """
        handle = self.agree(channel)
        await handle.wait_begun()
        yield handle

    @checked
    def agree(self, channel: ChannelId | None = None) -> AppHandle:
        """Say yes as `accept` does, and wait for nothing."""
        self._desk.apps.agree(self.instance, channel or self._desk._channel_for(self._heard))
        return AppHandle(self._desk, self.instance)

    @checked
    def refuse(self, text: str = "") -> None:
        """Say no, and why."""
        self._desk.apps.refuse(self.instance, text)


class Proposals:
    """An async iterator over what peers propose. Make one with `AppDesk.proposals`."""

    def __init__(self, desk: AppDesk) -> None:
        self._desk = desk
        self._told: set[InstanceId] = set()

    def __aiter__(self) -> Proposals:
        return self

    async def __anext__(self) -> ProposedApp:
        """Wait for the next one."""
        await self._desk.until(lambda: bool(self._untold()))
        first = self._untold()[0]
        self._told.intersection_update(each.held.instance for each in self._desk.apps.heard)
        self._told.add(first.held.instance)
        return ProposedApp(self._desk, first)

    def _untold(self) -> list[PlayedApp]:
        return [each for each in self._desk.apps.heard if each.held.instance not in self._told]


class AppDesk:
    """All apps of a node: `Node.apps`."""

    def __init__(
        self,
        context: NodeContext,
        connect: Callable[[PeerAddress | str], Awaitable[PublicKey]] | None = None,
    ) -> None:
        """`connect` reaches a node by its address, and returns its key."""
        self._context = context
        self._connect = connect
        self.apps = context.apps
        self.until, self.until_of = context.until, context.until_of

    def __iter__(self) -> Iterator[AppHandle]:
        """All that are not over."""
        return iter([AppHandle(self, played.held.instance) for played in self.apps.playing])

    def history(self) -> list[AppHandle]:
        """Return those that are over."""
        return [AppHandle(self, played.held.instance) for played in self.apps.history()]

    @checked
    def find(self, instance: Bytes32) -> AppHandle:
        """Return one by its id, over or not; raise InvalidInput if there is none."""
        handle = AppHandle(self, InstanceId(instance))
        if self.apps.find(handle.instance) is None:
            raise InvalidInput(f"no app {instance.hex()[:16]} is known here")
        return handle

    def proposals(self) -> Proposals:
        """Iterate over what peers propose, for ever: each once, also those that came before."""
        return Proposals(self)

    @property
    def proposed(self) -> list[ProposedApp]:
        """What peers propose and nobody has answered."""
        return [ProposedApp(self, heard) for heard in self.apps.heard]

    @checked
    def open_with(
        self,
        peer: PeerAddress | PublicKey | str,
        app: App | str,
        /,
        *,
        stake: Total,
        their_stake: Total | None = None,
        asset: AnyAddress = NATIVE,
        expiry: Time | None = None,
        period: Lifetime = PERIOD,
        **parameters: Word,
    ) -> AbstractAsyncContextManager[AppHandle]:
        """Propose an app to any node; enter once both stakes are locked. Nobody needs a channel with it.

        Moves go from node to node: name it by its address, KEY@HOST:PORT, or by its key if it is connected. Our stake
        is locked in a channel with it, if one has room, else it goes over hubs (docs/apps.md). Unless told otherwise
        both stake as much, in the chain's coin, until chain time `expiry`: a day from now, or half of one over hubs.
        In court a move has `period` seconds; `parameters` are the app's own. Raise InvalidInput if the rules refuse it
        or nothing leads to that node, ChannelNotReady if it is not there or refuses: then nothing was signed, or the
        stakes go back.
        """
        stakes = (stake, stake if their_stake is None else their_stake)
        return self._open_with(peer, app, stakes, to_address(asset, "asset"), expiry, period, parameters)

    @asynccontextmanager
    async def _open_with(
        self,
        peer: PeerAddress | PublicKey | str,
        app: App | str,
        stakes: tuple[int, int],
        asset: Address,
        expiry: int | None,
        period: int,
        parameters: dict[str, Any],
    ) -> AsyncIterator[AppHandle]:
        if not isinstance(peer, PublicKey):
            if self._connect is None:
                raise InvalidInput("name a node by its key here")
            peer = await self._connect(peer)
        key = bytes(peer)
        if not self._context.engine.is_connected(key):
            raise ChannelNotReady("that node is not connected: name it by its address, KEY@HOST:PORT")
        channel = self._place(key, asset, stakes[0])
        if expiry is None and not channel:
            expiry = self._context.engine.chain.now + HUBS_EXPIRY
        handle = self._propose(channel, key, asset, app, stakes, expiry, period, parameters)
        await handle.wait_begun()
        yield handle

    @checked
    @asynccontextmanager
    async def open(
        self,
        channel: ChannelId,
        app: App | str,
        stakes: tuple[Total, Total],
        *,
        expiry: Time | None = None,
        period: Lifetime = PERIOD,
        parameters: dict[str, Word],
    ) -> AsyncIterator[AppHandle]:
        """Propose an app to a channel's peer, and play once it has begun. Raises as `ChannelHandle.open_app` does."""
        handle = self.propose(channel, app, stakes, expiry=expiry, period=period, parameters=parameters)
        await handle.wait_begun()
        yield handle

    @checked
    def propose(
        self,
        channel: ChannelId,
        app: App | str,
        stakes: tuple[Total, Total],
        *,
        expiry: Time | None = None,
        period: Lifetime = PERIOD,
        parameters: dict[str, Word],
    ) -> AppHandle:
        """Propose an app as `open` does, and wait for nothing: the peer's owner may answer when it likes."""
        view = self._context.engine.view(channel).channel
        return self._propose(channel, view.peer_key, view.terms.asset, app, stakes, expiry, period, parameters)

    def _propose(
        self,
        channel: ChannelId,
        peer: bytes,
        asset: Address,
        app: App | str,
        stakes: tuple[int, int],
        expiry: int | None,
        period: int,
        parameters: dict[str, Any],
    ) -> AppHandle:
        """Propose an app to a node, our stake in that channel; empty: over hubs."""
        rules = APPS.named(app) if isinstance(app, str) else app
        _require_words(parameters)
        start = rules.init(stakes, **parameters)
        engine = self._context.engine
        other = PublicKey(peer).address
        terms = AppTerms(
            chain_id=engine.chain_id,
            contract=engine.contract,
            app=rules.id,
            start=keccak(start),
            players=(engine.key.address, other),
            stakes=stakes,
            assets=(asset, asset),
            expiry=engine.chain.now + EXPIRY if expiry is None else expiry,
            period=period,
            nonce=self.apps.next_nonce,
        )
        return AppHandle(self, self.apps.propose(channel, terms, start, peer))

    def _channel_for(self, heard: PlayedApp) -> ChannelId:
        """Return a channel with the peer in which our stake has room, empty if it is to go over hubs."""
        return self._place(heard.peer, heard.held.terms.assets[1], heard.held.terms.stakes[1])

    def _place(self, peer: bytes, asset: Address, stake: int) -> ChannelId:
        for view in self._context.engine.views.with_peer(peer):
            if view.payable and view.channel.terms.asset == asset and view.spendable >= stake:
                return view.channel.id
        return OVER_HUBS
