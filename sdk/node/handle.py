"""A channel as a program sees it: pay, deposit, withdraw, close. Made by `Node`, never by hand."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import trio

from tallystick.channels.apps.interface import App
from tallystick.channels.errors import ChannelNotReady, InsufficientFunds, InvalidInput, StillPending
from tallystick.channels.limits import BATCH_PAYMENTS_MAX
from tallystick.channels.protocol.conditions import HASH
from tallystick.channels.protocol.core import CloseInitiator, Phase, require_real
from tallystick.channels.protocol.keys import PublicKey
from tallystick.channels.protocol.messages import Update, decode
from tallystick.channels.protocol.objects import (
    Address,
    Amount,
    AnyHash,
    AnyMemo,
    ChannelId,
    Count,
    Kind,
    Lifetime,
    Onion,
    PaymentKey,
    Reason,
    Seconds,
    Secret,
    Time,
    Total,
    Units,
    Whole64,
    to_hash,
    to_memo,
)
from tallystick.channels.protocol.operations import Pay
from tallystick.channels.session import inputs
from tallystick.channels.session.tickets import Receipt, Ticket
from tallystick.channels.session.view import ChannelView
from tallystick.channels.storage.schema import payment_of, sent_with
from tallystick.channels.values.arguments import checked
from tallystick.sdk.node.apps import PERIOD, AppDesk, AppHandle, Word
from tallystick.sdk.node.rolling import RollingStream
from tallystick.sdk.node.streams import IncomingStream, NodeContext, OutgoingStream, open_stream
from tallystick.settlement.chain import GONE, DepositCall
from tallystick.settlement.enforcement.depths import DepthAwaited


class ChannelHandle:
    """One channel of a node. Amounts are in the asset's smallest unit."""

    def __init__(self, context: NodeContext, view: ChannelView) -> None:
        self._context = context
        self._seen = view

    def __repr__(self) -> str:
        own, peers = self.balances
        ends = ", about to close" if self.closing else ""
        return f"<Channel {self.id.hex()[:8]} {self.phase.name}{ends} own={own} peer={peers}>"

    # --- what it is ----------------------------------------------------------------------------------------------

    @property
    def view(self) -> ChannelView:
        """The channel as it is now: all that is known of it. One that was forgotten stays as it was."""
        self._seen = self._context.engine.views.get(self.id) or self._seen
        return self._seen

    @property
    def id(self) -> ChannelId:
        """32 bytes; its name on chain and off."""
        return self._seen.channel.id

    @property
    def peer(self) -> PublicKey:
        """The other participant's key."""
        return self._seen.peer

    @property
    def asset(self) -> Address:
        """The asset that flows in it."""
        return self._seen.channel.terms.asset

    @property
    def phase(self) -> Phase:
        """Where it is in its life."""
        return self.view.channel.phase

    @property
    def closing(self) -> bool:
        """Whether a cooperative close was asked for, by either side: it takes nothing new, and ends soon."""
        channel = self.view.channel
        return channel.phase in (Phase.OPEN, Phase.FROZEN) and channel.shutdown is not CloseInitiator.NONE

    @property
    def awaited(self) -> DepthAwaited | None:
        """What of the channel the chain shows, and is not deep enough to count yet; None if all counts."""
        following = self._context.onchain.following
        return following.depths.awaited(self.view.channel)

    @property
    def balances(self) -> tuple[int, int]:
        """(Own, peer's) balance by the agreed statements; amounts in pending locks count as their sender's."""
        channel = self.view.channel
        first, second = channel.balances()
        return (first, second) if channel.side == 0 else (second, first)

    @property
    def spendable(self) -> int:
        """What can be paid now: 0 unless the channel is open."""
        view = self.view
        return view.spendable if view.payable else 0

    @property
    def unsecured(self) -> int:
        """What was accepted and is not secured yet: the payee cannot enforce it (capped by `Policy.unsecured`)."""
        return self.view.unsecured

    @property
    def connected(self) -> bool:
        """Whether the peer is connected and in step."""
        return self.view.ready

    @property
    def payments(self) -> tuple[int, int]:
        """How many payments were (sent and secured, received) over the channel's whole life."""
        channel = self.view.channel
        return channel.ours.simplex.next_payment, channel.theirs.simplex.next_payment

    # --- paying --------------------------------------------------------------------------------------------------

    @checked
    async def submit(self, amount: Amount, memo: AnyMemo = b"", *, key: PaymentKey = "") -> Ticket:
        """Accept a payment and return its ticket at once; waits only while the outbox is full.

        `memo` is text, written in UTF-8, or bytes: 256 at most. `key` makes it idempotent: a payment with the same key
        is made once, across crashes. Raise InsufficientFunds, ChannelNotReady or InvalidInput, and nothing was done.
        """
        await self._context.engine.turn()
        return await self._accept(amount, memo, key)

    @checked
    async def pay(
        self, amount: Amount, memo: AnyMemo = b"", *, key: PaymentKey = "", timeout: Seconds | None = None
    ) -> Receipt:
        """Pay and return the receipt once the payee's countersignature is stored.

        It waits for a peer that is away, for ever or for `timeout` seconds. Then the payment is taken back if it was
        not signed yet (ChannelNotReady); if it was, it will be made whether anyone waits or not (StillPending), and a
        `key` lets you ask again. The same holds if it is cancelled.
        """
        if timeout is None:
            return await (await self._accept(amount, memo, key)).wait()
        ticket: Ticket | None = None
        with trio.move_on_after(timeout):
            ticket = await self._accept(amount, memo, key)
            return await ticket.wait()
        if ticket is not None and not ticket.withdrawn:
            again = f"ask again under its key {key!r}" if key else "see `payments` before you pay again"
            raise StillPending(
                f"the payee has not acknowledged the payment within {timeout:g} s; it is signed, and will be made when "
                f"the payee is back: {again}"
            )
        raise ChannelNotReady(f"the payee did not take the payment within {timeout:g} s, and it was not made")

    async def _accept(self, amount: int, memo: bytes | str, key: str) -> Ticket:
        engine, identity = self._context.engine, self._seen.channel.id
        memo = memo if type(memo) is bytes else to_memo(memo)
        await engine.room(identity)
        known = self._known(key, amount, memo) if key else None
        return known or engine.pay(identity, amount, memo, key)

    @checked
    async def pay_many(self, amounts: Sequence[Amount]) -> list[Receipt]:
        """Make many payments, numbered consecutively, and return their receipts: one for each run that was signed.

        The fastest way to pay. It waits while the outbox is full. Raise InvalidInput, or InsufficientFunds if they do
        not fit together, and nothing was done.
        """
        self.view.require_payable()
        total = sum(amounts)
        if total > self.spendable:
            raise InsufficientFunds(f"this channel can send {self.spendable} now, {total} was asked")
        tickets: list[Ticket] = []
        for start in range(0, len(amounts), BATCH_PAYMENTS_MAX):
            await self._context.engine.room(self.id)
            tickets += self._context.engine.pay_many(self.id, amounts[start : start + BATCH_PAYMENTS_MAX])
        try:
            return [await ticket.wait() for ticket in tickets]
        except trio.Cancelled:
            for ticket in tickets:
                ticket.give_up()
            raise

    def _known(self, key: str, amount: int, memo: bytes) -> Ticket | None:
        """Return the ticket of the payment that was made under this key before."""
        waiting = self._context.engine.views.ticket(self.id, key)
        if waiting is None:
            signed = payment_of(self._context.engine.writer.store, key)
            if signed is None:
                return None
            if signed[0] != self.id:
                raise InvalidInput(f"the key {key!r} was used in another channel: choose another key")
            waiting = self._signed_ticket(signed[1], key)
        if (waiting.amount, waiting.memo) != (amount, memo):
            raise InvalidInput(f"the key {key!r} was used for another amount or memo: choose another key")
        return waiting

    def _signed_ticket(self, payment: int, key: str) -> Ticket:
        row = sent_with(self._context.engine.writer.store, self.id, payment)
        if row is None:
            raise InvalidInput(f"the payment with the key {key!r} was made; its record was pruned")
        update = decode(row.frame)
        runs = [op for op in update.operations if isinstance(op, Pay)] if isinstance(update, Update) else []
        run = next(op for op in runs if op.first <= payment < op.first + len(op.amounts))
        index = payment - run.first
        memo = run.memos[index] if run.memos else b""
        ticket = Ticket(self.id, (run.amounts[index],), memo, key, row.time, payment=payment)
        if row.seq <= self.view.channel.ours.seq:
            ticket.resolve((row.seq, row.time))
        elif self.phase in (Phase.SETTLED, Phase.GONE):
            ticket.fail(ChannelNotReady("the channel closed before the payee acknowledged this payment"))
        else:
            self._context.engine.apply(self.id, inputs.JoinUpdate(row.seq, ticket))
        return ticket

    # --- locks ---------------------------------------------------------------------------------------------------

    @checked
    async def lock(
        self, amount: Amount, expiry: Time, condition: AnyHash, onion: Onion = b"", kind: Kind = HASH
    ) -> int:
        """Queue a lock of `amount` until chain time `expiry`; return its id.

        A hash lock's `condition` is the sha256 digest of its secret; other kinds: `channels.protocol.conditions`.
        """
        asked = inputs.SubmitLock(amount, expiry, to_hash(condition, "condition"), onion, kind)
        return self._context.engine.apply(self.id, asked)

    @checked
    def reveal(self, lock_id: Whole64, secret: Secret) -> None:
        """Claim the peer's lock with its secret; it is registered on chain if the peer does not pay in time."""
        self._context.engine.apply(self.id, inputs.RevealSecret(lock_id, secret))

    @checked
    def reject(self, lock_id: Whole64, reason: Reason = b"") -> None:
        """Let the peer take its lock back."""
        self._context.engine.apply(self.id, inputs.RejectLock(lock_id, reason))

    # --- apps ----------------------------------------------------------------------------------------------------

    @checked
    def open_app(
        self,
        app: App | str,
        *,
        stake: Total,
        their_stake: Total | None = None,
        expiry: Time | None = None,
        period: Lifetime = PERIOD,
        **parameters: Word,
    ) -> AbstractAsyncContextManager[AppHandle]:
        """Propose an app (or the newest that is registered by a name) to the peer; enter once both stakes are locked.

        Both stake as much unless told otherwise, until chain time `expiry` (a day); in court a move has `period`
        seconds; `parameters` are the app's own. Raise InvalidInput if the rules or the channel refuse it,
        ChannelNotReady if the peer does: nothing was signed then, or the stakes go back.
        """
        stakes = (stake, stake if their_stake is None else their_stake)
        desk = AppDesk(self._context)
        return desk.open(self.id, app, stakes, expiry=expiry, period=period, parameters=parameters)

    # --- streams -------------------------------------------------------------------------------------------------

    @checked
    async def open_stream(self, unit: Amount, length: Units, *, expiry: Time) -> OutgoingStream:
        """Set `unit` × `length` aside for a stream of tiny payments until chain time `expiry`; return it once agreed.

        It settles itself a while before the expiry (`Policy.stream_margin`). Raise InsufficientFunds, ChannelNotReady
        or InvalidInput, and nothing was done.
        """
        return await open_stream(self._context, self.id, unit, length, expiry)

    @checked
    def rolling_stream(self, unit: Amount, length: Units, *, lifetime: Lifetime) -> RollingStream:
        """Return a stream without end: it goes on from one stream of `length` units to the next by itself.

        At most two of them are pending, for `lifetime` seconds each. What a crash left pending on these very terms is
        gone on with, so there should be one for each terms. Raise InvalidInput if it would not last long enough.
        """
        return RollingStream(self._context, self.id, unit, length, lifetime)

    @property
    def streamed(self) -> int:
        """What our streams have paid over the channel's whole life, ended or not: durable, so that it survives a crash.

        Whoever wants to pay an exact sum pays what is missing to it.
        """
        return self._context.engine.views.streamed(self.id)

    @property
    def streams(self) -> tuple[list[OutgoingStream], list[IncomingStream]]:
        """The streams whose locks are pending: (ours, the peer's)."""
        ours, theirs = self._context.engine.views.streams(self.id)
        outgoing = [OutgoingStream(self._context, self.id, stream) for stream in ours]
        return outgoing, [IncomingStream(self._context, stream) for stream in theirs]

    # --- funding -------------------------------------------------------------------------------------------------

    @checked
    async def deposit(self, amount: Amount) -> None:
        """Add to our deposit on chain, and return once the chain has confirmed it."""
        require_real(self.view.channel, "a deposit")
        self.view.require_payable()
        await self._context.onchain.account.require_balance(amount, self.asset, DepositCall)
        channel = self.view.channel
        side, target = channel.side, channel.deposits[channel.side] + amount
        async with self._context.onchain.account.allowance(self.asset, amount, self.id) as permit:
            identifier = await self._context.onchain.account.take_on(
                "deposit", DepositCall(self.id, side, amount, self.asset, permit), self.id
            )
        await self._context.onchain.account.outcome(identifier)
        await self._context.until(lambda: self.view.channel.deposits[side] >= target)

    @checked
    async def withdraw(self, amount: Amount) -> None:
        """Take `amount` out of the channel with the peer's consent; return once the chain has confirmed it.

        Raise InsufficientFunds or ChannelNotReady; if the peer does not consent in time, ChannelNotReady, and the
        amount is in the channel again.
        """
        if not self.connected:
            raise ChannelNotReady(f"the peer 0x{self.peer.address.hex()} is not connected now: try again when it is")
        withdrawal = self._context.engine.apply(self.id, inputs.RequestWithdrawal(amount))
        side = self.view.channel.side
        await self._context.until(lambda: self.view.channel.withdrawals[side] is None)
        if self.view.channel.withdrawn[side] < withdrawal.total:
            raise _offer_died("withdrawal")

    @checked
    async def keep_history(self, updates: Count | None) -> None:
        """Keep that many of the newest agreed updates in each direction from now on; None: all, 0: none.

        Returns once the choice is stored; it lasts. What is more is pruned now and then, not at every update. Who reads
        `incoming` behind what was pruned gets HistoryGone; a key of a pruned payment still is never paid twice.
        """
        self._context.engine.apply(self.id, inputs.KeepHistory(updates))
        await self._context.engine.durable()

    # --- closing -------------------------------------------------------------------------------------------------

    @checked
    async def close(self, *, timeout: Seconds | None = None) -> None:
        """Close with the peer's consent: paid out at once. Return when it is confirmed.

        It waits for a peer that is away, for ever or for `timeout` seconds: StillPending then, as the wish to close
        stays; `force_close` closes without the peer. Raise ChannelNotReady if the offer died unmined; the channel is
        open again then.
        """
        if timeout is None:
            return await self._close()
        with trio.move_on_after(timeout):
            return await self._close()
        raise StillPending(
            f"the channel is not closed after {timeout:g} s: it will be once its peer agrees, and takes no payments "
            "until then; force_close closes it without the peer, after the challenge period"
        )

    async def _close(self) -> None:
        self._context.engine.apply(self.id, inputs.RequestClose())
        offered = False

        def ended() -> bool:
            nonlocal offered
            offered = offered or self.phase is Phase.FROZEN
            if self.view.channel.is_virtual:
                return self.phase is Phase.GONE
            waits = (Phase.OPEN, Phase.FROZEN, Phase.CLOSED) if self._is_gone_at_head() else (Phase.OPEN, Phase.FROZEN)
            return self.phase not in waits or (offered and self.phase is Phase.OPEN)

        await self._context.until(ended)
        if self.phase is Phase.OPEN:
            raise _offer_died("cooperative close")

    def _is_gone_at_head(self) -> bool:
        """Whether the newest block has nothing of the channel left, however shallow that is."""
        index = self._context.onchain.index
        view = index.view(self.id, index.head_number)
        return view is not None and view.status == GONE

    async def force_close(self) -> None:
        """Close without the peer: freezes the channel for good, then takes the challenge period. Returns when stored.

        The node submits the close, settles after the window and redeems locks by itself; `wait_gone` waits for it.
        """
        self._context.engine.apply(self.id, inputs.ForceClose())
        await self._context.engine.durable()

    async def wait_gone(self) -> None:
        """Return when nothing of the channel is left on chain."""
        await self._context.until(lambda: self.phase is Phase.GONE)

    async def wait_usable(self) -> None:
        """Return when the channel is open, the peer is in step, and both count our confirmed funding."""

        def usable() -> bool:
            view, channel = self.view, self.view.channel
            return view.ready and channel.phase is Phase.OPEN and view.funding == channel.funding(channel.side)

        await self._context.until(usable)


def _offer_died(what: str) -> ChannelNotReady:
    """The error for an offer that expired before it was mined."""
    return ChannelNotReady(f"the {what} was not mined in time and is dead; the channel goes on, try again")
