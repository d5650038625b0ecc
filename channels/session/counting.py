"""What the peer counts as put into a channel: what we may spend, and what reserve its updates leave. Sans-IO.

Deposits and withdrawals are confirmed at different moments for the two sides. So only what both count is spent: each
says what it counts of the other's. In channels whose reserve follows the funding it says so by `Counts`, which belongs
to a place in its stream of updates: what it signed before it counted a deposit may reach us after it said so. Not
before we have taken in all that came before that place do we spend such a deposit, and from then on the peer's updates
have to leave a reserve of it too (`core.Channel.counted`, which is durable). Hence no coin of ours reaches the peer
before its reserve follows, and no update is refused for a deposit that its writer did not know of.

On top of `session`.
"""

from __future__ import annotations

from tallystick.channels.errors import Fault, InvalidUpdate
from tallystick.channels.limits import AMOUNT_MAX, WINDOW_MAX
from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.messages import Counts, Funding, Reestablish
from tallystick.channels.protocol.offers import heeding, with_counted_deposits
from tallystick.channels.session.port import SessionPort


class Counting:
    """What one peer counts as ours: what it has said of it is in the session's `link`."""

    def __init__(self, session: SessionPort) -> None:
        self._session = session

    @property
    def _follows(self) -> bool:
        return self._session.channel.reserve_ppm > 0

    @property
    def is_agreed(self) -> bool:
        """Whether the peer counts just what we count as our funding."""
        channel, link = self._session.channel, self._session.link
        own = channel.funding(channel.side)
        if not self._follows:  # who has withdrawn what it received counts below zero; the wire says zero then
            return max(0, own) == link.funding
        return link.deposits is not None and link.taken is not None and own == link.deposits - link.taken

    # --- what we say -----------------------------------------------------------------------------------------------

    def tell(self) -> None:
        """Tell the peer what we count as its funding now, once we have greeted it."""
        session = self._session
        channel, peer = session.channel, session.channel.peer_side
        if session.link.greeted and self._follows:
            session.send(Counts(channel.id, channel.heeded, channel.taken(peer)))
        elif session.link.greeted:
            session.send(Funding(channel.id, max(0, channel.funding(peer))))

    def heed(self) -> bool:
        """Count the peer's new deposits once what was accepted before bears the reserve that they ask for; say whether.

        The peer gives us nothing of them before we have said to count them, so there is no hurry.
        """
        session, channel = self._session, self._session.channel
        waiting = session.outbox.total if len(session.outbox) else -AMOUNT_MAX
        new = self._follows and channel.heeded < channel.deposits[channel.peer_side]
        if new and session.standing.allowance >= waiting:
            session.change(heeding(channel))
            return True
        return False

    # --- what we hear ----------------------------------------------------------------------------------------------

    def on_reestablish(self, message: Reestablish) -> None:
        """The peer greets; raise InvalidUpdate if it says to have signed more than it may."""
        most = self._session.channel.theirs.seq + WINDOW_MAX
        if message.signed_seq > most:
            raise InvalidUpdate(f"nobody has signed {message.signed_seq} updates here", Fault.STATE_MISMATCH)
        self.on_signed(message.signed_seq)
        self.on_funding(message)

    def on_funding(self, message: Funding | Reestablish) -> None:
        """The peer counts our funding anew. Whoever opens a virtual channel waits for that, and for no block."""
        if not self._follows:
            self._session.learn(funding=message.funding)
            if self._session.channel.is_virtual:
                self._session.tell_changed()

    def on_counts(self, message: Counts) -> None:
        """The peer counts our deposits, and what we have taken out, anew."""
        if self._follows:
            newest = max(self._session.link.heard, self._session.channel.theirs.seq)
            self._session.learn(taken=message.taken, deposits_behind=(newest, message.deposits))
            self.advance()

    def on_signed(self, seq: int) -> None:
        """An update of that number was signed by the peer; whether we can take it in yet does not matter."""
        newest = min(seq, self._session.channel.theirs.seq + WINDOW_MAX)
        if newest > self._session.link.heard:
            self._session.learn(heard=newest)

    def advance(self) -> None:
        """The peer's updates were taken in: what it said to count may hold from here on."""
        session, waiting = self._session, self._session.link.deposits_behind
        if waiting is not None and session.channel.theirs.seq >= waiting[0]:
            session.learn(deposits=waiting[1], deposits_behind=None)
            self.reckon()

    def reckon(self) -> None:
        """Hold the peer to a reserve of all that both count."""
        deposits = self._session.link.deposits
        if deposits is not None:
            after = with_counted_deposits(self._session.channel, deposits)
            if after is not self._session.channel:
                self._session.change(after)

    def on_withdrawal_died(self, before: Channel) -> None:
        """A withdrawal of ours has died here. The peer may count it still: ask, and do without until it answers."""
        session, channel, link = self._session, self._session.channel, self._session.link
        if channel.taken(channel.side) < before.taken(channel.side):
            taken = None if link.taken is None else max(link.taken, before.taken(channel.side))
            session.learn(taken=taken, funding=min(link.funding, before.funding(channel.side)))
            if link.ready:
                session.greet()
