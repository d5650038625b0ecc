"""Nodes in a line, wired in memory without an event loop: A, B, C with a channel between neighbours, routers included.

As `simulation.pair`, for tests that want every moment in their hands. A node works in steps: a frame arrives, or
a round is committed and its consequences leave. A crash can be put before or after any commit, and at any frame; the
chain is a clock and a registry of secrets that everybody sees at once.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from simulation.pair import CHAIN_ID, CONTRACT
from tallystick.channels.errors import PeerError, StoreError
from tallystick.channels.limits import Policy
from tallystick.channels.node.alarms import Alarm
from tallystick.channels.node.engine import Engine
from tallystick.channels.protocol.apps import APP
from tallystick.channels.protocol.conditions import HASH, digest_of
from tallystick.channels.protocol.core import Channel, Phase, new_channel
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.messages import Message, decode
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Lock, Puzzle, Terms
from tallystick.channels.protocol.virtual import VIRTUAL
from tallystick.channels.session.chaintime import ChainTime
from tallystick.channels.session.effects import Event
from tallystick.channels.session.expected import Expecter
from tallystick.channels.session.inputs import FundingConfirmed
from tallystick.channels.session.session import Session
from tallystick.channels.storage.sqlite.channels import SCHEMA as CHANNELS_SCHEMA
from tallystick.channels.storage.store import Moment
from tallystick.channels.storage.writer import Writer
from tallystick.channels.testing.clock import EPOCH
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.channels.values.discretion import Discreet
from tallystick.router.forwarding.admission import Admission, IncomingLocks
from tallystick.router.forwarding.policies import Policies
from tallystick.router.forwarding.ports import NodeChannels
from tallystick.router.forwarding.service import Router, RoutingOptions
from tallystick.router.objects import NodeKey
from tallystick.router.onion.failures import Failure, attribute
from tallystick.router.onion.payload import FinalLock, FinalPayload, ForwardPayload, encode_payload
from tallystick.router.onion.sphinx import BuiltOnion, build_onion
from tallystick.router.sqlite import CIRCUITS_SCHEMA, ONIONS_SCHEMA

SCHEMAS = (CHANNELS_SCHEMA, CIRCUITS_SCHEMA, ONIONS_SCHEMA)
CONFIRMED = 12
"""Seconds after which a block counts as confirmed."""


class Ended(Discreet, msgspec.Struct, frozen=True):
    """What became of a lock of a payer's."""

    channel: ChannelId
    lock: int
    secret: bytes
    reason: bytes


class Ends:
    """The simplest payer and payee: one remembers what came of its locks, the other opens those that it can."""

    def __init__(self, member: Member) -> None:
        self.member = member

    # --- payer ---------------------------------------------------------------------------------------------------

    def on_secret_learned(self, channel: ChannelId, lock: Lock, secret: bytes) -> Sequence[Moment]:
        """Remember the proof of payment."""
        self.member.receipts.add(secret)
        return ()

    def on_lock_rejected(self, channel: ChannelId, lock: Lock, reason: bytes) -> Sequence[Moment]:
        """Remember the reason."""
        self.member.reasons[channel, lock.id] = reason
        return ()

    def on_lock_ended(self, channel: ChannelId, lock: Lock, paid: int, secret: bytes) -> Sequence[Moment]:
        """Remember the end."""
        reason = self.member.reasons.get((channel, lock.id), b"")
        self.member.ended.append(Ended(channel, lock.id, secret, reason))
        return ()

    def on_lock_dropped(self, channel: ChannelId, lock: Lock) -> Sequence[Moment]:
        """Remember that it never was."""
        self.member.dropped.append(lock.id)
        return ()

    def on_channel_ready(self, channel: ChannelId) -> Sequence[Moment]:
        """Nothing waits."""
        return ()

    # --- payee ---------------------------------------------------------------------------------------------------

    def on_arrived(self, final: FinalLock) -> Sequence[Moment]:
        """Open it if the secret is known, else keep it."""
        self.member.finals.append(final)
        secret = self.member.secrets.get(final.lock.condition)
        if secret is not None:
            self.member.locks.reveal(final.channel, final.lock.id, secret)
        return ()

    def on_gone(self, channel: ChannelId, lock: Lock, secret: bytes) -> Sequence[Moment]:
        """Nothing is kept of it."""
        return ()

    def on_time_passed(self) -> Sequence[Moment]:
        """Nothing waits."""
        return ()


class Member:
    """One node: its key and disk survive; engine and router live between `start` and the next crash."""

    def __init__(self, line: Line, name: str, policy: Policy, options: RoutingOptions) -> None:
        self.line = line
        self.name = name
        self.key = PrivateKey(keccak(b"line " + name.encode()))
        self.node = NodeKey(bytes(self.key.public))
        self.policy = policy
        self.options = options
        self.disk = SimulatedDisk(SCHEMAS)
        self.incoming: deque[tuple[Member, bytes]] = deque()
        """Frames on their way here, with who sent them."""
        self.secrets: dict[bytes, bytes] = {}
        """What this node can open as a payee; survives everything."""
        self.receipts: set[bytes] = set()
        self.reasons: dict[tuple[ChannelId, int], bytes] = {}
        self.ended: list[Ended] = []
        self.dropped: list[int] = []
        self.finals: list[FinalLock] = []
        self.alarms: list[Alarm] = []
        self.events: list[Event] = []
        self.fresh = True
        self.claim_fee = 0
        """What claiming a secret on chain costs, as this node sees it."""
        self.mute: Callable[[Message], bool] = lambda message: False
        """Which of its messages never leave: how this node cheats."""
        self.start()

    def __repr__(self) -> str:
        return f"<{self.name} {list(self.engine.sessions.values())}>"

    def start(self) -> None:
        """Start from what is durable."""
        self.store = self.disk.open()
        self.writer = Writer(self.store, inline=True)
        self.engine = Engine(
            self.key,
            self.writer,
            lambda: self.line.now,
            self.policy,
            chain_id=CHAIN_ID,
            contract=CONTRACT,
            tell=self.events.append,
            fresh=lambda: self.fresh,
        )
        self.channels, options = NodeChannels(self.engine), self.options
        self.policies = Policies(self.channels, options)
        self.admission = Admission(self.channels, options, fee=lambda: self.claim_fee, alarm=self.alarms.append)
        self.locks, ends = IncomingLocks(self.channels, self.admission, lambda channel: b""), Ends(self)
        self.router = Router(
            self.channels,
            options,
            policies=self.policies,
            admission=self.admission,
            incoming=self.locks,
            payer=ends,
            payee=ends,
            alarm=self.alarms.append,
        )
        self.engine.keep_locks(self.router)
        if self.line.expecter is not None:
            for kind in (APP, VIRTUAL):
                self.engine.expected.register(kind, self.line.expecter)
        self.see_chain()
        self.router.start()

    def session(self, other: Member) -> Session:
        """Return the session of the first channel with a neighbour."""
        return self.engine.sessions_with(other.node)[0]

    def see_chain(self) -> None:
        """Take in the chain as it is."""
        self.engine.on_chain_moved(self.line.seen())

    def has_work(self) -> bool:
        """Whether a round would do anything."""
        return bool(self.engine._dirty or self.engine._effects or self.writer._moments)

    def step(self) -> None:
        """One round: sign what is due, commit, let the consequences out."""
        self.writer.finish(self.writer.gather())

    def receive(self) -> None:
        """Let the next frame arrive."""
        sender, frame = self.incoming.popleft()
        try:
            self.engine.receive(sender.node, decode(frame), frame)
        except PeerError as fault:
            self.line.faults.append((self.name, fault))
            self.line.disconnect(self, sender)


class _Wire:
    def __init__(self, sender: Member, receiver: Member) -> None:
        self._sender, self._receiver = sender, receiver

    def put_all(self, frames: list[bytes]) -> None:
        for frame in frames:
            if not self._sender.mute(decode(frame)):
                self._receiver.incoming.append((self._sender, frame))


class Line:
    """See the module's docstring. Members are `line["A"]` and so on; `line.channel("AB")` is between A and B."""

    expecter: Expecter | None = None
    """Who expects stakes in apps, on all nodes."""

    def __init__(
        self,
        names: str = "ABC",
        deposit: int = 1_000_000,
        *,
        policy: Policy | None = None,
        options: RoutingOptions | None = None,
        twins: Sequence[str] = (),
        assets: tuple[Address, Address] = (NATIVE, NATIVE),
    ) -> None:
        """`twins`: pairs of neighbours with a second channel of the same size between them.

        `assets`: what first channels carry, and second ones.
        """
        self.assets = assets
        self.time = int(EPOCH)
        self.now = EPOCH
        self.registered: dict[bytes, tuple[int, bytes]] = {}
        self.faults: list[tuple[str, PeerError]] = []
        self.deposit = deposit
        self._sessions = 0
        self.members = {name: Member(self, name, policy or Policy(), options or RoutingOptions()) for name in names}
        self.links = [(self[one], self[other]) for one, other in itertools.pairwise(names)]
        for one, other in self.links:
            for number in range(1 + ((one.name + other.name) in twins)):
                self._open(one, other, number)
        self.connect()
        self.settle()

    def __getitem__(self, name: str) -> Member:
        return self.members[name]

    def _open(self, one: Member, other: Member, number: int) -> None:
        terms = self._terms(one, other, number)
        for member, peer in ((one, other), (other, one)):
            side = terms.side_of(member.key.address)
            session = member.engine.add_channel(new_channel(terms, side, peer.node, 0))
            member.engine.apply(session.channel.id, FundingConfirmed((self.deposit, self.deposit)))
            member.step()

    def channel(self, pair: str, number: int = 0) -> ChannelId:
        """Return the id of a channel between two neighbours."""
        return channel_id(self._terms(self[pair[0]], self[pair[1]], number))

    def _terms(self, one: Member, other: Member, number: int) -> Terms:
        first, second = sorted((one.key.address, other.key.address))
        return Terms(CHAIN_ID, CONTRACT, (first, second), self.assets[min(number, 1)], number, 86_400, bytes(32))

    # --- connections ---------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect all neighbours anew; what was on its way is lost."""
        for one, other in self.links:
            self.disconnect(one, other)
            one.engine.on_connected(other.node, _Wire(one, other))
            other.engine.on_connected(one.node, _Wire(other, one))

    def disconnect(self, one: Member, other: Member) -> None:
        """Break a connection; what was on its way is lost."""
        for member, peer in ((one, other), (other, one)):
            member.incoming = deque(item for item in member.incoming if item[0] is not peer)
            member.engine.on_disconnected(peer.node)

    def crash(self, member: Member) -> None:
        """End a node at once and start it again from what is durable; its links are gone."""
        member.store.kill()
        for one, other in self.links:
            if member in (one, other):
                self.disconnect(one, other)
        member.start()

    # --- the chain -----------------------------------------------------------------------------------------------

    def confirmed(self) -> dict[Puzzle, tuple[int, bytes]]:
        """Return the registered secrets that are confirmed."""
        return {(HASH, digest): seen for digest, seen in self.registered.items() if seen[0] <= self.time - CONFIRMED}

    def seen(self) -> ChainTime:
        """Return the chain as everybody sees it."""
        return ChainTime(self.time, self.time - CONFIRMED, dict(self.confirmed()))

    def register(self, secret: bytes, time: int | None = None) -> None:
        """A secret becomes public on chain."""
        self.registered.setdefault(digest_of(secret), (time or self.time, secret))

    def claim(self, margin: int = 120) -> None:
        """Let everybody register what it revealed and was not paid for, shortly before the lock expires."""
        for member in self.members.values():
            for session in member.engine.sessions.values():
                for known in session.channel.secrets:
                    lock = session.channel.theirs.simplex.lock(known.lock)
                    if lock is not None and self.time <= lock.expiry <= self.time + margin:
                        self.register(known.secret)

    def pass_time(self, seconds: int) -> None:
        """Chain time moves on, and everybody sees it."""
        self.time += seconds
        self.now += seconds
        for member in self.members.values():
            member.see_chain()

    # --- payments ------------------------------------------------------------------------------------------------

    def onion(
        self, names: str, amounts: Sequence[int], expiry: int, condition: bytes, *, seed: bytes = b"", number: int = 0
    ) -> BuiltOnion:
        """Return the onion of a route over these nodes (the payer not among them); `amounts[i]` reaches `names[i]`."""
        payloads: list[bytes] = []
        for index, name in enumerate(names[:-1]):
            channel = self.channel(name + names[index + 1], number)
            payloads.append(encode_payload(ForwardPayload(amounts[index + 1], expiry, channel)))
        payloads.append(encode_payload(FinalPayload(amounts[-1], expiry, bytes(32), amounts[-1])))
        session_key = keccak(b"session" + seed + condition + bytes(str(names), "ascii"))
        return build_onion(session_key, [self[name].node for name in names], payloads, condition)

    def send(
        self,
        route: str,
        amounts: Sequence[int],
        secret: bytes,
        *,
        lifetime: int = 3_600,
        seed: bytes = b"",
        number: int = 0,
    ) -> BuiltOnion:
        """Let the first node of `route` lock `amounts[0]` for the second, and so on; return the onion."""
        condition, expiry = digest_of(secret), self.time + lifetime
        built = self.onion(route[1:], amounts, expiry, condition, seed=seed, number=number)
        channel = self.channel(route[:2], number)
        self[route[0]].channels.send_lock(channel, amounts[0], expiry, condition, built.packet)
        return built

    def failure(self, payer: str, built: BuiltOnion) -> tuple[int, Failure] | None:
        """Return which hop failed the last ended lock of a payer's, and why."""
        return attribute(built.secrets, self[payer].ended[-1].reason)

    # --- moments -------------------------------------------------------------------------------------------------

    def moments(self) -> list[tuple[Member, str]]:
        """Return what can happen next: rounds that have work, and frames that can arrive."""
        rounds = [(member, "round") for member in self.members.values() if member.has_work()]
        return rounds + [(member, "frame") for member in self.members.values() if member.incoming]

    def do(self, member: Member, what: str) -> None:
        """Let one moment happen."""
        if what == "round":
            member.step()
        else:
            member.receive()

    def settle(self, limit: int = 2_000) -> None:
        """Let everything happen that can, in a fixed order."""
        for _ in range(limit):
            possible = self.moments()
            if not possible:
                return
            self.do(*possible[0])
        raise AssertionError("the line does not come to rest")

    def crash_in_commit(self, member: Member, *, takes_effect: bool) -> None:
        """Let a node die in the commit of its next round, before or after it is durable, and start it again."""
        member.store.fail_at(0, takes_effect=takes_effect)
        with contextlib.suppress(StoreError):
            member.step()
        self.crash(member)

    # --- money ---------------------------------------------------------------------------------------------------

    def wealth(self, name: str) -> int:
        """Return what a node owns in all its channels, its own pending locks counted as its own."""
        return sum(_own(session.channel) for session in self[name].engine.sessions.values())

    def pending(self) -> list[tuple[str, int]]:
        """Return (node, lock) of every lock that is not gone."""
        return [
            (name, lock.id)
            for name, member in self.members.items()
            for session in member.engine.sessions.values()
            for state in (session.channel.ours, *session.channel.flight)
            for lock in state.simplex.locks
            if session.channel.phase is Phase.OPEN
        ]


def _own(channel: Channel) -> int:
    return channel.balances()[channel.side]
