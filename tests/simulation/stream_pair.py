"""Two connected parties with a stream between them, for tests of what a session does with it."""

from __future__ import annotations

from simulation.pair import Pair, Party
from tallystick.channels.limits import Policy
from tallystick.channels.protocol.hashchain import HashChain, StreamProof, stream_seed
from tallystick.channels.session.effects import StreamReceived
from tallystick.channels.session.inputs import (
    BeginStream,
    FinishStream,
    SubmitUnits,
)
from tallystick.channels.session.streamed import OutgoingStreamState
from tallystick.channels.storage.schema import load_streams
from tallystick.channels.testing.clock import EPOCH

NOW = int(EPOCH)
EXPIRY = NOW + 10_000
UNIT = 3


def connected(policy: Policy | None = None, deposits: tuple[int, int] = (1_000, 1_000)) -> Pair:
    pair = Pair(deposits, policy=policy)
    pair.connect()
    pair.settle()
    return pair


def begin(pair: Pair, length: int = 100, unit: int = UNIT, expiry: int = EXPIRY) -> OutgoingStreamState:
    session = pair.alice.session
    chain = HashChain(stream_seed(session.key, session.channel.id, session.next_lock), length)
    for _ in chain.build():
        pass
    stream = pair.alice.apply(BeginStream(chain, unit, expiry))
    pair.settle()
    return stream


def submit(pair: Pair, stream: OutgoingStreamState, units: int) -> None:
    pair.alice.apply(SubmitUnits(stream.lock, stream.condition, units))


def close(pair: Pair, stream: OutgoingStreamState) -> None:
    pair.alice.apply(FinishStream(stream.lock, stream.condition))
    pair.settle()


def received(party: Party) -> int:
    """Units that the application was told of, by this run of the node."""
    return sum(event.units for event in party.events if isinstance(event, StreamReceived))


def held(party: Party, lock: int = 0) -> int:
    """Units that the disk of the payee holds."""
    rows = [row for row in load_streams(party.store, party.channel.id) if row.sender == 0 and row.lock == lock]
    return StreamProof.decode(rows[0].proof).depth if rows else 0


def transferred(pair: Pair) -> int:
    return pair.bob.channel.theirs.simplex.proof.transferred
