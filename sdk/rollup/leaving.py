"""Ways out of a rollup by the chain alone: nobody is asked, as the state follows from what the chain told."""

from __future__ import annotations

from collections.abc import Iterable

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.sdk.rollup.calls import RollupCall, RollupFacts
from tallystick.sdk.rollup.chain import RollupChain
from tallystick.sdk.rollup.reading import read_events, read_rollup
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.modules.rollups import FINAL_MAX
from tallystick.settlement.rollup.events import (
    BatchConvicted,
    BatchPosted,
    RollupEvent,
    SignatureDemanded,
    SignatureShown,
)
from tallystick.settlement.rollup.leaving import show_account, show_channel
from tallystick.settlement.rollup.steps import EntryKind
from tallystick.settlement.rollup.watcher import RollupWatcher


class RollupLeaving:
    """One account's ways out."""

    def __init__(self, chain: RollupChain, key: PrivateKey, start: int = 0, asset: Address = NATIVE) -> None:
        """`asset` is what the account holds: who has several has several accounts."""
        self._asset = asset
        self._chain = chain
        self._key = key
        self._start = start

    async def withdraw(self) -> bytes | None:
        """Have paid what the account took out and was not paid yet: all that it holds, if everything has stopped.

        Return the transaction's hash, None if there is nothing to be paid now. Raise Reverted.
        """
        facts, (number, paid, _) = (
            await self._chain.facts(),
            await self._chain.account(self._key.address, self._asset),
        )
        core = await read_rollup(self._chain, self._start)
        if number is None:
            raise InvalidInput("this account has nothing in the rollup")
        await self._finalise(core, facts)
        if facts.frozen:
            return await self._escape(core, number)
        return await self._withdraw_newest(core, number, paid)

    async def reclaim(self, channel: int) -> bytes:
        """Have a channel of a rollup that has stopped paid out, by an order that ends it and that no batch has.

        Both sides are owed what is theirs, and claim it. Return the transaction's hash; raise Reverted, or
        InvalidInput if there is no such order.
        """
        core = await read_rollup(self._chain, self._start)
        await self._finalise(core, await self._chain.facts())
        orders = [
            (at, entry)
            for at, entry in enumerate(core.entries)
            if at >= core.queue_end and entry.kind in (EntryKind.CLOSE, EntryKind.SETTLE) and entry.index == channel
        ]
        if not orders:
            raise InvalidInput(f"no order to close channel {channel} waits: give one by a close that both signed")
        proof, refused = show_channel(core.state, channel), None
        for at, entry in orders:
            try:
                return await self._chain.act(self._key, RollupCall("reclaimClose", (at, list(entry.words), proof)))
            except Reverted as error:
                if error.code != Revert.NOTHING_OWED:
                    raise
                refused = refused or error
        raise refused or InvalidInput("the order is gone")

    async def refund(self, events: Iterable[RollupEvent] | None = None) -> int:
        """Have given back what the account paid for demands whose batch is gone: it is owed then. Return for how many.

        `events` is what the chain told, in order; without, it is asked.
        """
        told = await read_events(self._chain, self._start) if events is None else events
        done = 0
        for demand in lost_demands(told, self._key.address):
            try:
                await self._chain.act(self._key, RollupCall("refund", demand))
            except Reverted as error:
                if error.code != Revert.NOTHING_OWED:
                    raise
                continue  # it was given back already
            done += 1
        return done

    async def claim(self) -> bytes | None:
        """Have paid what its owner is owed of the asset; return the transaction's hash, None if nothing is."""
        if not (await self._chain.account(self._key.address, self._asset))[2]:
            return None
        return await self._chain.act(self._key, RollupCall("claim", (self._asset,)))

    async def stop(self) -> bytes:
        """Stop everything, as the operator may at any time, and anybody may if an entry is overdue. Raise Reverted."""
        return await self._chain.act(self._key, RollupCall("freeze"))

    async def unbond(self) -> bytes:
        """As the operator take the bond back, once everybody has left: it is owed then. Raise Reverted."""
        await self._finalise(await read_rollup(self._chain, self._start), await self._chain.facts())
        return await self._chain.act(self._key, RollupCall("unbond"))

    async def _finalise(self, core: RollupWatcher, facts: RollupFacts) -> None:
        """Have batches counted as final where more wait than one call counts: without an operator nobody else does."""
        now, last = (await self._chain.head()).time, facts.final + FINAL_MAX - 1
        while last < len(core.standing) and now > core.standing[last].batch.time + facts.window:
            await self._chain.act(self._key, RollupCall("finalise"))
            before, last = last, (await self._chain.facts()).final + FINAL_MAX - 1
            if last == before:
                return  # a demand waits

    async def _withdraw_newest(self, core: RollupWatcher, number: int, paid: int) -> bytes | None:
        """Withdraw by the newest batch that is final: the chain says which one is, as it counts them when asked."""
        states = [*(each.before for each in core.standing[1:]), core.state]
        for at in reversed(range(len(core.standing))):
            account = states[at].accounts.get(number)
            if account is None or account.exited <= paid:
                return None
            try:
                return await self._chain.act(self._key, RollupCall("withdraw", (at, show_account(states[at], number))))
            except Reverted as error:
                if error.code != Revert.WINDOW_OPEN:
                    raise
        return None

    async def _escape(self, core: RollupWatcher, number: int) -> bytes | None:
        """Leave a rollup that has stopped: with what the account holds, and with deposits that no batch has."""
        calls = [RollupCall("escape", (show_account(core.state, number),))] if core.state.accounts.get(number) else []
        calls += [
            RollupCall("reclaim", (at, list(entry.words)))
            for at, entry in enumerate(core.entries)
            if at >= core.queue_end
            and (entry.first, entry.asset, entry.kind) == (self._key.address, self._asset, EntryKind.DEPOSIT)
        ]
        done = None
        for call in calls:
            try:
                done = await self._chain.act(self._key, call)
            except Reverted as error:
                if error.code != Revert.NOTHING_OWED:
                    raise
        return done


def lost_demands(events: Iterable[RollupEvent], by: Address) -> list[tuple[int, int]]:
    """Return the demands of an account whose batch is gone, each by the batch's serial and the step.

    Of one that was not answered the fee was given back with the conviction; the chain knows.
    """
    serials: list[int] = []
    waiting: dict[tuple[int, int], None] = {}
    for event in events:
        match event:
            case BatchPosted():
                serials.append(event.serial)
            case BatchConvicted():
                del serials[event.number :]
            case SignatureDemanded() if event.by == by:
                waiting[serials[event.number], event.position] = None
            case SignatureShown():
                waiting.pop((serials[event.number], event.position), None)
    return [demand for demand in waiting if demand[0] not in serials]
