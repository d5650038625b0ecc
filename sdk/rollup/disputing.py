"""Closing a rollup's channel by one side alone, and answering who does: by the chain, without any operator."""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import BalanceProof, SignedProof
from tallystick.sdk.rollup.calls import RollupCall
from tallystick.sdk.rollup.chain import RollupChain
from tallystick.sdk.rollup.reading import read_rollup
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.rollup.disputes import ChannelParties
from tallystick.settlement.rollup.leaving import show_channel
from tallystick.settlement.rollup.rules import Place
from tallystick.settlement.rollup.state import RollupState
from tallystick.settlement.rollup.watcher import RollupWatcher


class RollupDisputes:
    """What an account does about channels that end without one side. A watchtower's account may answer for any."""

    def __init__(self, chain: RollupChain, place: Place, key: PrivateKey, start: int = 0) -> None:
        self._chain = chain
        self._place = place
        self._key = key
        self._start = start

    async def parties(self, channel: int) -> ChannelParties:
        """Return whose channel it is, by the chain alone; raise InvalidInput if there is none of that number."""
        return _parties(await read_rollup(self._chain, self._start), channel)

    def next_proof(self, parties: ChannelParties, amount: int, last: SignedProof | None = None) -> BalanceProof:
        """Return the balance proof by which we pay so much more than by `last`, our newest that both have signed.

        Nothing is signed yet. Raise InvalidInput if we are no side of the channel.
        """
        if self._key.address not in (parties.first, parties.second):
            raise InvalidInput("this account is no side of the channel")
        seq, before = (last.proof.seq, last.proof.transferred) if last is not None else (0, 0)
        sender = int(self._key.address == parties.second)
        return BalanceProof(parties.name(self._place), sender, seq + 1, before + amount, seen=seq)

    def sign(self, parties: ChannelParties, proof: BalanceProof) -> bytes:
        """Return our signature of a balance proof, as its sender or its receiver.

        Nothing is recorded here: store a proof before it is handed on, and sign each number once. Raise InvalidInput.
        """
        for statement in parties.statements(self._place, proof):
            if statement.signer == self._key.address:
                if proof.locked or any(proof.locks_root) or proof.channel != parties.name(self._place):
                    raise InvalidInput("this proof counts for nothing in the channel: it has locks, or is of another")
                return self._key.sign(statement.digest)
        raise InvalidInput("this account is no side of the channel")

    async def close(self, channel: int, *proofs: SignedProof) -> bytes:
        """Begin to close a channel alone, by the newest proofs of both sides that we have; return the transaction.

        A final batch must have the channel. Give the newest of either side that this account has signed or holds with
        both signatures: whoever leaves one out, or shows an older one, loses all to the other side. Raise InvalidInput
        or InvalidSignature if a proof does not count, Reverted if the chain refuses.
        """
        core = await read_rollup(self._chain, self._start)
        parties = _parties(core, channel)
        given = self._newest(parties, proofs)
        states = [*(each.before for each in core.standing[1:]), core.state]
        refused: Reverted | None = None
        for number in reversed(range(len(core.standing))):  # the chain says which one is final
            if not _has(states[number], channel):
                break
            shown = show_channel(states[number], channel)
            try:
                return await self._chain.act(self._key, self._call("closeAlone", parties, number, shown, proofs=given))
            except Reverted as error:
                if error.code != Revert.WINDOW_OPEN:
                    raise
                refused = error
        raise refused or InvalidInput(f"no batch has channel {channel}")

    async def answer(self, channel: int, *proofs: SignedProof) -> list[bytes]:
        """Do what a close by one side asks for now: show newer proofs, or settle it once its window is over.

        Return the transactions, none if nothing is to be done. Raise as `close`.
        """
        core = await read_rollup(self._chain, self._start)
        running = core.disputes.get(channel)
        if running is None:
            return []
        parties, time = _parties(core, channel), (await self._chain.head()).time
        if time > running.deadline:
            return [await self._chain.act(self._key, self._call("settleClose", parties))]
        done = []
        for each in self._newest(parties, proofs):
            if each is not None and each.proof.seq > running.seqs[each.proof.sender]:
                call = self._call("challengeClose", parties, each.proof.sender, proofs=[each])
                done.append(await self._chain.act(self._key, call))
        return done

    def _newest(self, parties: ChannelParties, proofs: Sequence[SignedProof]) -> list[SignedProof | None]:
        """Return the newest proof of either side, in whatever order they come; raise if one does not count."""
        newest: list[SignedProof | None] = [None, None]
        for each in proofs:
            parties.check(self._place, each)
            before = newest[each.proof.sender]
            if before is None or before.proof.seq < each.proof.seq:
                newest[each.proof.sender] = each
        return newest

    def _call(
        self, name: str, parties: ChannelParties, *values: object, proofs: Sequence[SignedProof | None] = ()
    ) -> RollupCall:
        signed = [each for each in proofs if each is not None]
        statements = [one for each in signed for one in parties.statements(self._place, each.proof)]
        return RollupCall(name, (*parties, *values), statements=tuple(statements), proofs=tuple(proofs))


def _has(state: RollupState, channel: int) -> bool:
    return state.channels.get(channel) is not None


def _parties(core: RollupWatcher, channel: int) -> ChannelParties:
    found = core.state.channels.get(channel)
    sides = [core.state.accounts.get(each) for each in (found.first, found.second)] if found else []
    if len(sides) != 2 or sides[0] is None or sides[1] is None:
        raise InvalidInput(f"there is no channel {channel}")
    return ChannelParties(channel, sides[0].owner, sides[1].owner, sides[0].asset)
