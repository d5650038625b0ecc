"""What each block asks of a node's channels: they follow the chain, and what must be done there is taken on.

Duties are derived anew from the channels' and the chain's state whenever either changes (`duties`), so that none can
be lost. Channels at rest are left out: those in which nothing waits for time, whose place on chain is confirmed as it
is at the head, and for which nothing was due when they were last looked at. For them a look could not find anything.
"""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.channels.protocol.core import Channel, Phase, is_unused, new_channel
from tallystick.channels.protocol.objects import ChannelId, Puzzle
from tallystick.channels.protocol.offers import timeless
from tallystick.channels.protocol.simplex import OlderState
from tallystick.channels.session.chaintime import ChainTime
from tallystick.channels.session.inputs import ForceClose, FundingConfirmed, PhaseReached
from tallystick.channels.storage.older import older_state
from tallystick.channels.storage.store import Moment
from tallystick.settlement.chain import CLOSED, GONE, SETTLED, ContractChannel
from tallystick.settlement.enforcement.claims import amounts_at_stake, pending_puzzles
from tallystick.settlement.enforcement.depths import counted
from tallystick.settlement.enforcement.duties import OFFERS, ChannelOnChain, duties, held_locks, is_moot, must_close
from tallystick.settlement.enforcement.following import ChainFollowing, EnforcingNode
from tallystick.settlement.enforcement.witness import Witness, raises
from tallystick.settlement.following.follower import BlockAdded, Step
from tallystick.settlement.following.index import EventsSeen
from tallystick.settlement.sending.obligations import Obligation
from tallystick.settlement.sending.sender import Sender

URGENT = 600
"""Seconds before its deadline from which a duty does not wait for the known blocks to be followed."""

_AGREED = (Phase.OPEN, Phase.FROZEN, Phase.CLOSING)
_CLOSED_PHASES = (Phase.OPENING, Phase.CLOSED, Phase.SETTLED, Phase.GONE)


class Enforcer:
    """Part of `OnChain`."""

    def __init__(self, node: EnforcingNode, following: ChainFollowing, sender: Sender) -> None:
        self.witness = Witness(node, following, self._recount)
        self._node = node
        self._engine = node.engine
        self._following = following
        self._index = following.index
        self._depths = following.depths
        self._sender = sender
        self._told: set[ChannelId] = set()
        self._left_behind: dict[tuple[ChannelId, int, int], OlderState | None] = {}
        """Old states that stand on chain, read back from the journals once each."""
        self._due: dict[ChannelId, frozenset[str]] = {}
        """Names of what was due for each channel when that was last derived."""
        self._confirmed: set[ChannelId] = set()
        """Channels that the chain has not touched since nothing was due for them, and all they were was confirmed."""

    def on_step(self, step: Step, seen: Sequence[EventsSeen]) -> list[Moment]:
        """Let the channels react to one block, and derive the duties; return what belongs into its commit."""
        if isinstance(step, BlockAdded):
            self._confirmed.difference_update(s.event.channel for found in seen for s in found.sightings)
        else:
            self._confirmed.clear()
            self.witness.on_removed(step.header.number)
        return self.react()

    def react(self) -> list[Moment]:
        """Let every channel that is not at rest react to the chain as it is now; return the duties' moments."""
        views = self._engine.views
        self.witness.ask_anew()
        restless = [channel.id for channel in views.channels if not self.at_rest(channel)]
        for identity in restless:
            self._bring_back(views.channel(identity))
        for identity in restless:
            self._follow(views.channel(identity))
        puzzles, final = pending_puzzles(views.channels), self._following.final_number
        proofs, stakes = self._index.proofs(puzzles, final), self._index.stakes(puzzles, final)
        self._engine.on_chain_moved(ChainTime(self._index.head_time, self._following.final_time, proofs, stakes))
        for identity in restless:
            self._close_if_must(views.channel(identity))
        return self.derive(restless)

    def _at_head(self, channel: ChannelId) -> ContractChannel | None:
        return self._index.view(channel, self._index.head_number)

    def _bring_back(self, channel: Channel) -> None:
        """Take a channel in anew if the chain has it after all, though its opening had come to nothing."""
        contract = self._at_head(channel.id)
        if channel.phase is Phase.GONE and contract is not None and contract.status != GONE and is_unused(channel):
            reserves = channel.reserve, channel.reserve_ppm
            self._engine.add_channel(new_channel(channel.terms, channel.side, channel.peer_key, *reserves))

    def at_rest(self, channel: Channel) -> bool:
        """Whether a look at the channel would change nothing: not in it, and not in what is due for it."""
        if channel.is_virtual:
            return True
        talk = channel.phase is Phase.OPENING and self._at_head(channel.id) is None
        return (talk or channel.id in self._confirmed) and timeless(channel)

    def _close_if_must(self, channel: Channel) -> None:
        """Close a channel whose peer has long not paid for locks that the chain shows to be ours."""
        contract, chain = self._at_head(channel.id), self._engine.chain
        shown = chain.proofs.keys() | chain.stakes.keys()
        if contract is None or not any(lock.puzzle in shown for lock in channel.theirs.simplex.locks):
            return
        if must_close(channel, self._situation(channel, contract, {}), self._node.policy):
            name = channel.id.hex()[:8]
            text = f"channel {name} is being closed: its peer does not pay for locks that the chain shows as ours"
            self._node.alarm(Alarm(AlarmKind.PEER_OWES, text))
            self._engine.apply(channel.id, ForceClose())

    def _follow(self, channel: Channel) -> None:
        """Bring one channel's phase and funding in line with the chain."""
        identity = channel.id
        if channel.phase is Phase.GONE:
            return
        head, final = self._at_head(identity), self._index.view(identity, self._following.final_number)
        relied = self._relied(channel)
        if head is not None and head.terms != channel.terms:
            if identity not in self._told:
                self._told.add(identity)
                text = f"channel {identity.hex()[:8]} was opened on other terms than agreed: it is not used"
                self._node.alarm(Alarm(AlarmKind.OTHER_TERMS, text))
            return
        if final is not None and channel.phase is not Phase.SETTLED and (relied or channel.phase is not Phase.OPENING):
            self._engine.apply(identity, FundingConfirmed(counted(channel, relied, final), final.withdrawn))
        # Who lost data must never close, not even in place of a close that left the chain, however deep it was: it
        # goes on recovering until the settlement stays, for which a window of challenges had to pass.
        lost = self._phase(identity) is Phase.RECOVERING
        closed, statuses = (relied, (SETTLED,)) if lost else (head, (CLOSED, SETTLED))
        if closed is not None and closed.status in statuses and self._phase(identity) not in _CLOSED_PHASES:
            self._engine.apply(identity, PhaseReached(Phase.CLOSED))
        if final is not None and final.status == SETTLED and self._phase(identity) is Phase.CLOSED:
            self._engine.apply(identity, PhaseReached(Phase.SETTLED))
        if relied is not None and relied.status == GONE and self._phase(identity) is not Phase.OPENING:
            self._engine.apply(identity, PhaseReached(Phase.GONE))
        elif final is not None and final.status == GONE and self._phase(identity) in _AGREED:
            # not for good yet: but its offer must not seem to have died unmined, and nothing is signed for it any more
            self._engine.apply(identity, PhaseReached(Phase.CLOSED))

    def _relied(self, channel: Channel) -> ContractChannel | None:
        """Return a channel's state by what is deep enough, and borne out if that makes more count."""
        relied, waiting = self._depths.look(channel)
        if relied is None or relied.terms != channel.terms or not raises(channel, relied):
            return relied
        newest = self._depths.newest(channel.id, waiting)
        if self.witness.bears_out(channel.id, newest):
            return relied
        return self._index.view(channel.id, self.witness.borne(channel.id))  # what came since waits, and holds up none

    def _recount(self) -> None:
        """Let the channels react once more to the newest block: more of it is known, or counts."""
        self._confirmed.clear()
        self._engine.writer.add(self.react())

    def _phase(self, channel: ChannelId) -> Phase:
        return self._engine.views.channel(channel).phase

    # --- duties --------------------------------------------------------------------------------------------------

    def pursue(self, channels: Sequence[ChannelId]) -> None:
        """Take on what these channels' new state asks for."""
        moments = self.derive(channels)
        if moments:
            self._engine.writer.add(moments)

    def hold(self, obligation: Obligation, now: int) -> bool:
        """Whether a duty had better not be begun now: by the newest block it is not due, as somebody has done it; or
        blocks that are known are not followed yet, in which somebody may have, and there is time to find out.

        `now` is the chain's time at its head: who catches up follows blocks whose times are long over.
        """
        if obligation.duty is None or obligation.channel is None:
            return False
        follower = self._following.follower
        if not follower.is_current and follower.fault is None:
            left = None if obligation.deadline is None else obligation.deadline - max(now, self._index.head_time)
            return left is None or left > URGENT
        due = self._due.get(obligation.channel)
        return due is not None and obligation.name not in due

    def derive(self, channels: Sequence[ChannelId]) -> list[Moment]:
        """Take on what must be done on chain for these channels now, give up what need not; return what to store."""
        moments: list[Moment] = []
        unfinished, views = self._unfinished(), self._engine.views
        known = [view.channel for view in map(views.get, channels) if view is not None]  # some openings came to nothing
        at_stake = amounts_at_stake(views.channels) if any(channel.secrets for channel in known) else {}
        for channel in known:
            identity, contract = channel.id, self._at_head(channel.id)
            self._due[identity] = frozenset()
            if contract is None or contract.terms != channel.terms:
                continue
            due: list[Obligation] = []
            if channel.phase is not Phase.GONE or contract.status != GONE:
                situation = self._situation(channel, contract, at_stake)
                due = duties(channel, situation, self._node.policy, self._node.close_key)
            self._due[identity] = frozenset(obligation.id for obligation in due)
            for obligation in due:
                moments += self._take_on(obligation)
            self._confirmed.discard(identity)
            if self._relied(channel) == contract:  # what made one moot stays
                for waiting in unfinished.get(identity, ()):
                    if is_moot(waiting, self._due[identity]):
                        moments += self._sender.supersede(waiting.id, "the channel has moved on")
                if not due and identity not in unfinished:
                    self._confirmed.add(identity)
        return moments

    def _unfinished(self) -> dict[ChannelId, list[Obligation]]:
        """Return what is on its way to the chain, by channel."""
        found: dict[ChannelId, list[Obligation]] = {}
        for obligation in self._sender.obligations():
            if obligation.channel is not None and not obligation.is_final:
                found.setdefault(obligation.channel, []).append(obligation)
        return found

    def _take_on(self, duty: Obligation) -> Sequence[Moment]:
        """Take a duty on, under a further name if what was done about it before came to nothing."""
        earlier = self._sender.find(duty.id)
        if earlier is not None and earlier.receipt is not None and isinstance(duty.call, OFFERS):
            return ()  # offers die by themselves, and are not mended by being sent again
        return self._sender.pursue(duty, self._index.head_number)

    def _situation(self, channel: Channel, contract: ContractChannel, at_stake: dict[Puzzle, int]) -> ChannelOnChain:
        states = (channel.ours, *channel.flight, channel.theirs)
        older = self._older(channel, contract)
        puzzles = {lock.puzzle for state in states for lock in state.simplex.locks}
        puzzles |= {lock.puzzle for state in older.values() for lock in state.locks}
        proofs = self._index.proofs(puzzles, self._index.head_number) if puzzles else {}
        redeemed = (self._index.redeems(channel.id, 0), self._index.redeems(channel.id, 1))
        claims = self._engine.views.claims(channel.id)
        market = self._following.market
        prices = (market.lowest, market.tariff)
        stakes = self._index.stakes(puzzles, self._index.head_number)
        return ChannelOnChain(
            contract,
            self._index.head_time,
            proofs,
            redeemed,
            claims,
            market.price,
            at_stake,
            older,
            *prices,
            stakes,
            self._following.final_time,
        )

    def _older(self, channel: Channel, contract: ContractChannel) -> dict[int, OlderState]:
        """Return what stands on chain for good of states that were left behind."""
        found: dict[int, OlderState] = {}
        for sender, pot in enumerate(contract.pots):
            if contract.status != SETTLED or not pot or held_locks(channel, contract, sender) is not None:
                continue
            name = (channel.id, sender, contract.seqs[sender])
            if name not in self._left_behind:
                state = older_state(self._engine.writer.store, channel, sender, contract.seqs[sender])
                self._left_behind[name] = state
                if state is None:
                    short = channel.id.hex()[:8]
                    text = f"channel {short} ended with an old state whose locks this node's history does not tell"
                    self._node.alarm(Alarm(AlarmKind.LOCKS_UNKNOWN, f"{text}: {pot} wait on chain for who knows them"))
            left_behind = self._left_behind[name]
            if left_behind is not None:
                found[sender] = left_behind
        return found
