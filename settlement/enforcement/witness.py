"""What makes money count is borne out first, where the chain can bear anything out: not on one node's word alone.

A deposit, an opening or an end that is deep enough waits until the channel's state after its block was said by a second
node, or proven (`Chain.evidence`). Then it counts, up to that block. What is denied counts for nothing, and is told.

Besides, all channels are looked at now and then, as they are after the newest block that counts: a close that a node
leaves out of its answers would else be noticed by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.channels.protocol.core import Channel, Phase
from tallystick.channels.protocol.objects import ChannelId
from tallystick.settlement.chain import CLOSED, GONE, OPEN, SETTLED, ContractChannel, Header
from tallystick.settlement.enforcement.following import ChainFollowing, EnforcingNode
from tallystick.settlement.errors import ChainError, ChainUnavailable, Contradicted
from tallystick.settlement.following.index import fold
from tallystick.settlement.following.vigil import AGAIN, spell

STATE_BLOCKS = 100
"""How many of the newest blocks nodes keep the state after: of older ones, few can say what was there."""

AT_ONCE = 32
"""Channels in one question."""

LOOK_SECONDS = 120.0
"""Between two looks at channels of which nothing is new; well within the shortest challenge period."""

PATIENCE = 300.0
"""Seconds for which something waits to be borne out until a person is told."""

CONTRADICTED = "that counts for nothing until it ends: find out who is right, and name nodes that you trust in `rpc`"
OUTVOTED = "two other chain nodes agree, so that what they say counts: find out what is wrong, or name another in `rpc`"
ALONE = "name a second chain node, of another provider, in `rpc`"


class Witness:
    """Part of `OnChain`. `run` it, where the chain has evidence."""

    def __init__(self, node: EnforcingNode, following: ChainFollowing, recount: Callable[[], None]) -> None:
        """`recount` is called when more counts than did before."""
        self._node = node
        self._following = following
        self._index = following.index
        self._recount = recount
        self._has_evidence = node.chain.figures.has_evidence
        self._borne: dict[ChannelId, int] = {}
        """Up to which block the events of a channel are borne out."""
        self._wanted: dict[ChannelId, int] = {}
        """Up to which block they have to be."""
        self._waits_since: float | None = None
        self._looked = -LOOK_SECONDS
        self._next = 0
        """Where the next look goes on, among all channels."""
        self._told: dict[str, float] = {}

    def bears_out(self, channel: ChannelId, number: int) -> bool:
        """Whether a channel's events up to a block are borne out; if not, that is asked for."""
        if not self._has_evidence or self._borne.get(channel, -1) >= number:
            return True
        self._wanted[channel] = number
        return False

    def borne(self, channel: ChannelId) -> int:
        """Return up to which block a channel's events are borne out, -1 if none are."""
        return self._borne.get(channel, -1)

    def ask_anew(self) -> None:
        """Forget what has to be borne out: the channels are about to say it again."""
        self._wanted.clear()

    def on_removed(self, number: int) -> None:
        """The block of that number left the chain: what was said of it, and of later ones, counts no more."""
        self._borne = {channel: block for channel, block in self._borne.items() if block < number}

    async def run(self) -> None:
        """Ask for evidence whenever something waits for it, until cancelled."""
        while self._has_evidence:
            await self._following.wait_block()
            if self._following.fresh:  # not while we catch up: old state is kept by few
                await self._look()

    async def _look(self) -> None:
        now = self._node.elapsed()
        blocks: dict[int, list[ChannelId]] = {}
        wanted = dict(self._wanted)
        for channel, number in wanted.items():
            blocks.setdefault(self._block_for(number), []).append(channel)
        if now >= self._looked + LOOK_SECONDS:
            self._looked = now
            blocks.setdefault(self._following.final_number, []).extend(self._some())
        before = dict(self._borne)
        for number, channels in blocks.items():
            for at in range(0, len(channels), AT_ONCE):
                await self._ask(number, channels[at : at + AT_ONCE])
        if any(self._borne.get(channel, -1) > before.get(channel, -1) for channel in wanted):
            self._recount()
        if not self._wanted:
            self._waits_since = None
        elif self._waits_since is None:
            self._waits_since = now

    def _block_for(self, number: int) -> int:
        """Return the block after which to ask for what has to be there since block `number`."""
        headers = self._following.follower.followed.headers
        oldest = max(headers[0].number if headers else 0, self._index.head_number - STATE_BLOCKS)
        return min(max(number, oldest), self._following.final_number)

    def _some(self) -> list[ChannelId]:
        """Return some of the channels that the chain knows, and others the next time."""
        alive = [channel.id for channel in self._node.views.channels if self._is_there(channel)]
        first = self._next if self._next < len(alive) else 0
        self._next = first + AT_ONCE
        return [channel for channel in alive[first : self._next] if channel not in self._wanted]

    def _is_there(self, channel: Channel) -> bool:
        view = self._index.view(channel.id, self._following.final_number)
        return channel.phase is not Phase.GONE and view is not None and view.terms == channel.terms

    def _header(self, number: int) -> Header | None:
        """Return the header that was followed at a height, None if it is not remembered."""
        headers = self._following.follower.followed.headers
        return next((header for header in reversed(headers) if header.number == number), None)

    async def _ask(self, number: int, channels: list[ChannelId]) -> None:
        """Ask what channels are after one block, and compare it with what their events make of them."""
        header = self._header(number)
        known = [view.channel for view in map(self._node.views.get, channels) if view is not None]
        if header is None or not known:
            return
        try:
            there = await self._node.chain.evidence(header, [channel.terms for channel in known])
        except Contradicted as error:
            self._tell(AlarmKind.CHAIN_CONTRADICTED, f"{error}: {CONTRADICTED}", f"{number}")
            return
        except (ChainUnavailable, ChainError) as error:
            self._tell_waiting(error)
            return
        if self._header(number) != header:
            return  # it left the branch meanwhile
        if there is None:
            if self._node.chain.figures.depths:  # else it is a chain of one's own
                text = f"nothing but one chain node's word says what is in this node's channels: {ALONE}"
                self._tell(AlarmKind.CHAIN_UNPROVEN, text, "alone")
            for channel in known:
                self._bear_out(channel.id, number)
            return
        for url, said in there.denied:
            self._tell(AlarmKind.CHAIN_CONTRADICTED, f"{said}: {OUTVOTED}", url)
        for channel, seen in zip(known, there.channels, strict=True):
            await self._compare(channel, number, seen)

    async def _compare(self, channel: Channel, number: int, seen: ContractChannel | None) -> None:
        """Hold what a channel's events make of it, up to a block, against what was seen there."""
        flaw, name = contradiction(self._index.view(channel.id, number), seen), channel.id.hex()[:8]
        if not flaw:
            self._bear_out(channel.id, number)
        elif await self._mend(channel, number, seen):
            text = f"a chain node left out events of channel {name} ({flaw}), which another one told"
            self._tell(AlarmKind.CHAIN_CONTRADICTED, f"{text}: name nodes that tell all in `rpc`", text)
        else:
            text = f"the chain nodes left out or invented events of channel {name}: {flaw}"
            self._tell(AlarmKind.CHAIN_CONTRADICTED, f"{text}; {CONTRADICTED}", channel.id.hex())

    def _bear_out(self, channel: ChannelId, number: int) -> None:
        if channel in self._wanted:  # of others it is not known how deep their events really are
            self._borne[channel] = max(number, self._borne.get(channel, -1))

    async def _mend(self, channel: Channel, number: int, seen: ContractChannel | None) -> bool:
        """Read a channel's events again, of all nodes; return whether they now make of it what was borne out.

        Nothing else is taken in: what is told too much makes of it something else.
        """
        headers = self._following.follower.followed.headers
        try:
            blocks = await self._node.chain.events(channel.id, headers[0].number, number)
        except (ChainUnavailable, ChainError):
            return False
        ours = [block for block in blocks if self._header(block.header.number) == block.header]
        history = self._index.mended(channel.id, ours)
        if contradiction(fold(history, number), seen):
            return False
        self._node.engine.writer.add(self._index.mend(channel.id, history))
        self._recount()
        return True

    def _tell_waiting(self, error: Exception) -> None:
        since, now = self._waits_since, self._node.elapsed()
        if self._wanted and since is not None and now >= since + PATIENCE:
            text = f"for {spell(now - since)} nobody has borne out what was put into, or ended, {_named(self._wanted)}"
            self._tell(AlarmKind.CHAIN_UNPROVEN, f"{text}: it does not count until then ({error})", "waits")

    def _tell(self, kind: AlarmKind, text: str, about: str) -> None:
        """Raise an alarm, and again only after a while."""
        now = self._node.elapsed()
        self._told = {name: told for name, told in self._told.items() if now < told + AGAIN}
        if about not in self._told:
            self._told[about] = now
            self._node.alarm(Alarm(kind, text))


def _named(channels: Iterable[ChannelId]) -> str:
    first, *more = (channel.hex()[:8] for channel in channels)
    return f"channel {first}" + (f" and {len(more)} others" if more else "")


def contradiction(told: ContractChannel | None, seen: ContractChannel | None) -> str:
    """Say what of a channel is another than its events told; empty if nothing of what money depends on is."""
    if told is None or seen is None:
        return "" if told is seen else f"it {'was never' if seen is None else 'was'} opened"
    names = ["status"]
    if told.status in (OPEN, CLOSED):
        names += ["deposits", "withdrawn"]
    if told.status == CLOSED:
        names += ["closer", "deadline", "seqs"]
    if told.status == SETTLED:
        names += ["pots"]
    other = [name for name in names if getattr(told, name) != getattr(seen, name)]
    return ", ".join(f"{name} {getattr(seen, name)}, not {getattr(told, name)}" for name in other)


def raises(channel: Channel, relied: ContractChannel) -> bool:
    """Whether it would make more count, or less be guarded, to rely on that state of a channel."""
    more = any(now > before for now, before in zip(relied.deposits, channel.deposits, strict=True))
    return more or relied.status == GONE or (channel.phase is Phase.RECOVERING and relied.status == SETTLED)
