"""How one side closes its channel in a rollup alone: on the chain, by balance proofs that the other one may answer.

The rules of a dispute are in `settlement/rollup/disputes.py`; the same ones are in `contracts/Rollup.vy`.
"""

from __future__ import annotations

from tallystick.channels.errors import InvalidInput, InvalidSignature
from tallystick.channels.protocol.objects import Address, BalanceProof, ChannelId
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.modules.interface import ModuleState, refuse
from tallystick.settlement.modules.rollup_accounts import check_sides, order, shown_channel
from tallystick.settlement.modules.rollups import ROLLUPS, Books, open_books
from tallystick.settlement.rollup.disputes import ChannelDispute, ChannelParties, begun, challenged, unpack_proof
from tallystick.settlement.rollup.state import LeafStanding
from tallystick.settlement.rollup.steps import INDEX_MAX, EntryKind, QueueEntry

__all__ = ("ROLLUPS",)

RUNNING, ORDERED = 1, 2

CLOSED_ALONE = ROLLUPS.event(
    "ClosedAlone(bytes32 channel, uint64 rollup, uint64 leaf, uint64 closer, uint64 seq0, uint64 seq1, uint64 deadline)"
)
CLOSE_CHALLENGED = ROLLUPS.event(
    "CloseChallenged(bytes32 channel, uint64 rollup, uint64 leaf, uint64 sender, uint64 seq, bool convicts)"
)


def _read(books: Books, name: ChannelId) -> ChannelDispute:
    """Return a dispute that runs; raise Reverted if none does."""
    key = b"c" + name
    refuse(books.get(key) != RUNNING, Revert.WRONG_STATUS, "nobody closes this channel alone now")
    closer, deadline, seq0, seq1, given0, given1, own, convicted = (books.get(key + bytes([at])) for at in range(8))
    return ChannelDispute(closer, deadline, (seq0, seq1), (given0, given1), own, convicted > 0)


def _keep(books: Books, name: ChannelId, dispute: ChannelDispute) -> None:
    key = b"c" + name
    books.put(key, RUNNING)
    numbers = (dispute.closer, dispute.deadline, *dispute.seqs, *dispute.transferred, dispute.own_seq)
    for at, number in enumerate((*numbers, int(dispute.is_convicted))):
        books.put(key + bytes([at]), number)


def _proven(books: Books, parties: ChannelParties, sender: int, data: bytes) -> BalanceProof:
    """Return a balance proof of one side; raise Reverted unless it counts."""
    try:
        signed = unpack_proof(data, parties.name(books.place), sender)
        parties.check(books.place, signed)
    except InvalidInput as error:
        raise Reverted(Revert.BAD_PROOF, str(error)) from error
    except InvalidSignature as error:
        raise Reverted(Revert.BAD_SIGNATURE, str(error)) from error
    return signed.proof


@ROLLUPS.function(
    "closeAlone(uint64 rollup, uint64 channel, address first, address second, address asset, uint64 number, "
    "uint256[] shown, bytes proof0, bytes proof1)",
    gas=300_000,
    gas_per_byte=16,
)
def close_alone(
    state: ModuleState,
    rollup: int,
    channel: int,
    first: Address,
    second: Address,
    asset: Address,
    number: int,
    shown: list[int],
    proof0: bytes,
    proof1: bytes,
) -> tuple[()]:
    """Begin to close a channel by the caller's newest balance proof of each side; what is empty is genesis.

    A final batch must have the channel: of one that is not there yet somebody could let the window pass before
    anything is paid in it.
    """
    books, parties = open_books(state, rollup), ChannelParties(channel, first, second, asset)
    refuse(channel > INDEX_MAX, Revert.BAD_AMOUNT, "the channel's number is too large for a rollup")
    name = parties.name(books.place)
    refuse(bool(books.get(b"c" + name)), Revert.WRONG_STATUS, "one side has closed this channel alone already")
    refuse(state.caller not in (first, second), Revert.NOT_A_PARTICIPANT, "only its sides can close a channel alone")
    books.finalise()
    leaf = shown_channel(books, number, shown, channel)
    refuse(leaf.standing != LeafStanding.OPEN, Revert.NOTHING_OWED, "the channel was closed")
    check_sides(books, leaf, first, second, asset)
    given = (proof0, proof1)
    proofs = [_proven(books, parties, side, data) if data else None for side, data in enumerate(given)]
    closer = int(state.caller != first)
    dispute = begun(closer, state.time + books.get(b"window"), (proofs[0], proofs[1]))
    _keep(books, name, dispute)
    state.emit(CLOSED_ALONE, name, rollup, channel, closer, *dispute.seqs, dispute.deadline)
    return ()


@ROLLUPS.function(
    "challengeClose(uint64 rollup, uint64 channel, address first, address second, address asset, uint64 sender, "
    "bytes proof)",
    gas=150_000,
    gas_per_byte=16,
)
def challenge_close(
    state: ModuleState,
    rollup: int,
    channel: int,
    first: Address,
    second: Address,
    asset: Address,
    sender: int,
    proof: bytes,
) -> tuple[()]:
    """Show a newer balance proof of a channel that one side closes. Anybody may, up to the deadline.

    One that the closer must have known convicts it, and then all is the other side's.
    """
    books, parties = open_books(state, rollup), ChannelParties(channel, first, second, asset)
    name = parties.name(books.place)
    dispute = _read(books, name)
    refuse(state.time > dispute.deadline, Revert.WINDOW_OVER, f"proofs counted until {dispute.deadline}")
    refuse(sender > 1, Revert.NOT_A_PARTICIPANT, "a channel has two sides")
    newer = _proven(books, parties, sender, proof)
    refuse(newer.seq <= dispute.seqs[sender], Revert.NOT_NEWER, f"seq {dispute.seqs[sender]} stands already")
    after = challenged(dispute, newer)
    _keep(books, name, after)
    convicts = newer.sender != dispute.closer or newer.seen > dispute.own_seq
    state.emit(CLOSE_CHALLENGED, name, rollup, channel, sender, newer.seq, convicts)
    return ()


@ROLLUPS.function(
    "settleClose(uint64 rollup, uint64 channel, address first, address second, address asset)", gas=150_000
)
def settle_close(
    state: ModuleState, rollup: int, channel: int, first: Address, second: Address, asset: Address
) -> tuple[()]:
    """Order what came of a close by one side, once its window is over. Anybody may.

    The operator must carry it out, or everything stops, and `reclaimClose` pays it out.
    """
    books, parties = open_books(state, rollup), ChannelParties(channel, first, second, asset)
    name = parties.name(books.place)
    dispute = _read(books, name)
    refuse(state.time <= dispute.deadline, Revert.WINDOW_OPEN, f"it can be answered until {dispute.deadline}")
    books.put(b"c" + name, ORDERED)
    return order(books, QueueEntry(EntryKind.SETTLE, channel, first, second, *dispute.outcome, asset))
