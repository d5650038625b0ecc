"""What follows in a node from what its engine, its peers and its payments tell, after the commit that it stands in."""

from __future__ import annotations

from dataclasses import dataclass

from tallystick.channels.errors import Fault
from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.channels.node.engine import Engine
from tallystick.channels.protocol.core import Phase
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.session import effects
from tallystick.channels.session.inputs import ForceClose
from tallystick.router.network.routing import Routing
from tallystick.router.receiving.service import Paid, PaymentHeld
from tallystick.sdk.node.incoming import Journal
from tallystick.sdk.node.news import News
from tallystick.sdk.node.openings import Openings
from tallystick.sdk.node.options import Config
from tallystick.settlement.enforcement.claims import owed_for
from tallystick.settlement.enforcement.onchain import OnChain


@dataclass(frozen=True, slots=True)
class Reactions:
    """Part of a `Node`."""

    engine: Engine
    onchain: OnChain
    openings: Openings
    routing: Routing
    journal: Journal
    news: News
    config: Config

    def on_event(self, event: effects.Event) -> None:
        """Take an event of the engine or the peers."""
        self.routing.on_event(event)
        if isinstance(event, effects.PaymentsReceived):
            self.journal.notify()
        elif isinstance(event, effects.AppChanged):
            self.news.tell_changed_of(event.instance)
        elif isinstance(event, effects.ChannelChanged):
            self.onchain.enforcer.pursue([event.channel])
            self.openings.remind(event.channel)
        elif isinstance(event, effects.SecretLearned):
            self._claim_in_time(event)
        elif isinstance(event, effects.OpenRequested):
            self.openings.consider_soon(event)
        elif isinstance(event, effects.CloseRequested) and self.config.keep_closing:
            self._close_for_peer(event.channel)
        elif isinstance(event, effects.PeerNotice) and event.ours and event.code == Fault.UNACKNOWLEDGED:
            self._warn_of_stuck(event.peer)
        elif isinstance(event, effects.PeerNotice) and not event.ours and event.code == Fault.UNKNOWN_CHANNEL:
            self.openings.remind(ChannelId(event.channel), event.peer)
        self.news.publish(event)

    def on_paid(self, event: Paid | PaymentHeld) -> None:
        """Take in what became of payments to us."""
        self.routing.invoicing.paid.notify(event.payment_hash)
        self.news.publish(event)

    def _claim_in_time(self, event: effects.SecretLearned) -> None:
        """Go to the chain at once with a secret that was learned so late that the next block may be too late."""
        if event.lock.expiry - self.engine.chain.now <= self.config.duties.secret_margin:
            self.onchain.enforcer.pursue(owed_for(self.engine.views.channels, event.lock.condition))

    def _warn_of_stuck(self, peer: bytes) -> None:
        """Tell the owner of channels that another connection did not help."""
        for view in self.engine.views.with_peer(peer):
            if view.cuts > 1:
                text = (
                    f"the peer of channel {view.channel.id.hex()[:8]} acknowledges nothing, {view.cuts} "
                    "connections in a row: no locks go over it, what is signed waits; close it alone if that goes on"
                )
                self.news.alarm(Alarm(AlarmKind.PEER_STUCK, text))

    def _close_for_peer(self, channel: ChannelId) -> None:
        if self.engine.views.channel(channel).phase in (Phase.OPEN, Phase.FROZEN):
            self.engine.apply(channel, ForceClose())
