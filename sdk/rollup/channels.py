"""Paying in a rollup's channels: balance proofs that both sign, on disk before they leave, and both ways to close.

    async with open_rollup_channels(directory, key, url=url, rollup=place) as channels:
        payment = await channels.pay(7, 250, key="order-17")    # hand these bytes to the other side, by any way
        receipt = await channels.take(payment)                  # there: store, sign, hand the answer back
        await channels.take(receipt)                            # here: now the next payment may be made

The same bytes handed in again get the same answer. The chain is looked at now and then: what the other side has paid in
counts once its batch is final, and nothing is paid in a channel that somebody closes alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path

import trio
from msgspec.structs import replace

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.eip712 import digest_cooperative_close
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address, AnyAddress, CooperativeClose, SignedProof, to_address
from tallystick.channels.storage.directory import hold_identity
from tallystick.channels.storage.identity import Identity, claim_directory
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.channels.storage.store import Store
from tallystick.channels.values.arguments import checked
from tallystick.sdk.rollup.calls import RollupPlace
from tallystick.sdk.rollup.chain import RollupChain, open_rollup_chain
from tallystick.sdk.rollup.channel_book import ChannelBook, read_payment, write_payment
from tallystick.sdk.rollup.channel_record import (
    ChannelEnding,
    EndingTakenBack,
    ProofKept,
    ReceiptKept,
    read_by_key,
    read_ending,
    read_newest,
    read_proof,
)
from tallystick.sdk.rollup.disputing import RollupDisputes
from tallystick.sdk.rollup.reading import read_final_state, read_rollup
from tallystick.sdk.rollup.sqlite import PAYING_SCHEMAS
from tallystick.settlement.errors import Reverted
from tallystick.settlement.modules.rollups import LAG
from tallystick.settlement.rollup.disputes import ChannelParties
from tallystick.settlement.rollup.rules import Place
from tallystick.settlement.rollup.state import LeafStanding, RollupState
from tallystick.settlement.rollup.steps import EntryKind, QueueEntry
from tallystick.settlement.rollup.watcher import RollupWatcher

LOOK_SECONDS = 30.0
"""Between two looks at the chain while payments are made: a close by one side can be answered for far longer."""

UNTIL_BOUND = 2**40
"""Times of the chain are below it."""
FOREVER = 2**62
"""Until when a close by us alone counts."""


class RollupChannels:
    """The channels of one account of a rollup. Make it with `open_rollup_channels`."""

    def __init__(
        self,
        chain: RollupChain,
        place: Place,
        key: PrivateKey,
        store: Store,
        start: int = 0,
        asset: Address = NATIVE,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._chain = chain
        self._place = place
        self._key = key
        self._store = store
        self._start = start
        self._asset = asset
        self._clock = clock
        self._alone = trio.Lock()
        """One at a time reads what was signed, and signs what follows."""
        self._seen: tuple[float, RollupWatcher, RollupState, int] | None = None
        """When the chain was looked at, what it said, what of it is final, and the time of its final block."""
        self.disputes = RollupDisputes(chain, place, key, start)

    async def book(self, channel: int) -> ChannelBook:
        """Return a channel as we know it. Raise InvalidInput if it is not ours, or in no final batch."""
        _, final, _ = await self._look()
        found, sides = final.channels.get(channel), list[Address]()
        for number in (found.first, found.second) if found is not None else ():
            account = final.accounts.get(number)
            sides += [account.owner] if account is not None and account.asset == self._asset else []
        if found is None or len(sides) != 2:
            raise InvalidInput(f"no final batch has a channel {channel} of this asset: wait for the window to be over")
        if self._key.address not in sides:
            raise InvalidInput(f"this account is no side of channel {channel}")
        parties = ChannelParties(channel, sides[0], sides[1], self._asset)
        name, side = parties.name(self._place), sides.index(self._key.address)
        newest = (read_newest(self._store, name, 0), read_newest(self._store, name, 1))
        ours, before = newest[side], None
        if ours is not None and not ours.countersignature:
            before = read_proof(self._store, name, side, ours.proof.seq - 1)
        deposits = (found.total - found.second_paid, found.second_paid)
        return ChannelBook(self._place, parties, side, deposits, newest, before)

    async def pay(self, channel: int, amount: int, *, key: str | None = None) -> bytes:
        """Sign a payment and return the bytes to hand on. Under one `key` it is one payment, and the same bytes.

        Raise InvalidInput if the last payment waits for its receipt, the account has less, or the channel ends.
        """
        async with self._alone:
            book = await self.book(channel)
            known = read_by_key(self._store, book.name, key) if key is not None else None
            if known is not None:
                earlier = read_proof(self._store, book.name, book.side, known.proof.seq - 1)
                if known.proof.transferred - (earlier.proof.transferred if earlier else 0) != amount:
                    raise InvalidInput(f"{key!r} is the key of another payment: take a new one")
                return write_payment(book.parties, replace(known, countersignature=b""))
            await self._check_goes_on(book)
            proof = book.next_proof(amount)
            signed = SignedProof(proof, self.disputes.sign(book.parties, proof), b"")
            self._store.commit([ProofKept(proof, signed.signature, b"", key)])
            return write_payment(book.parties, signed)

    async def take(self, data: bytes) -> bytes | None:
        """Take what the other side handed on: for a payment return its receipt, to be handed back; for ours None.

        Raise InvalidInput or InvalidSignature if it does not count.
        """
        async with self._alone:
            handed = read_payment(data)
            book = await self.book(handed.channel)
            proof = handed.proof(book.name)
            known = read_proof(self._store, book.name, handed.sender, handed.seq)
            if known is not None and known.proof != proof:
                raise InvalidInput(f"payment {handed.seq} of this side is another one: it is in our record")
            if handed.sender == book.side:
                if known is None:
                    raise InvalidInput(
                        f"our payment {handed.seq} is not in this record: it was lost, or is an old copy"
                    )
                signed = replace(known, countersignature=handed.countersignature)
                book.parties.check(self._place, signed)
                if not known.countersignature:
                    self._store.commit([ReceiptKept(proof, signed.countersignature)])
                return None
            if known is None:
                await self._check_goes_on(book)
                book.check_theirs(proof, signed_by_us=bool(handed.countersignature))
                signed = SignedProof(proof, handed.signature, self.disputes.sign(book.parties, proof))
                book.parties.check(self._place, signed)
                self._store.commit([ProofKept(proof, signed.signature, signed.countersignature)])
                known = signed
            return write_payment(book.parties, known)

    async def sign_close(self, channel: int, until: int) -> tuple[int, bytes]:
        """Sign that both close as the newest proofs say: return what the first side gets, and our signature.

        It counts until this time of the chain, and nothing is paid in the channel before that is over. Raise
        InvalidInput if our last payment waits for its receipt, or a close was signed or begun already.
        """
        if not 0 < until < UNTIL_BOUND:
            raise InvalidInput(f"a close counts until a time in Unix seconds: {until} is none")
        async with self._alone:
            book = await self.book(channel)
            if book.pending is not None:
                raise InvalidInput("our last payment waits for its receipt: hand it on again first, or close alone")
            ending = read_ending(self._store, book.name)
            if ending is not None and ending.balance0 is None:
                raise InvalidInput("this account closes the channel alone already: answer for it, and settle")
            await self._check_goes_on(book, agreed=True)
            if ending is None or ending.balance0 != book.balance0 or ending.until < until:
                longest = until if ending is None else max(until, ending.until)  # what was signed counts as long
                self._store.commit([ChannelEnding(book.name, longest, book.balance0)])
            close = CooperativeClose(book.name, book.balance0, sum(book.deposits) - book.balance0, until)
            return book.balance0, self._key.sign(digest_cooperative_close(self._place.domain, close))

    async def close_alone(self, channel: int) -> bytes:
        """Begin to close a channel by the newest proofs of both sides; return the transaction. Raise as `disputes`.

        Nothing is paid or taken in the channel any more, from before it is sent.
        """
        async with self._alone:
            book = await self.book(channel)
            before = read_ending(self._store, book.name)
            self._store.commit([ChannelEnding(book.name, FOREVER, None)])
            try:
                return await self.disputes.close(channel, *_both(book.signed))
            except Reverted:  # it was tried, and never sent
                if before is None or before.balance0 is not None:
                    self._store.commit([before if before is not None else EndingTakenBack(book.name)])
                raise

    async def answer(self, channel: int, receipts: Sequence[bytes] = ()) -> list[bytes]:
        """Do what a close by one side asks for now: show newer proofs, or settle it once its window is over.

        `receipts` are of payments that both signed, of any channel, in place of our own record. Return the
        transactions. Raise as `disputes`.
        """
        if not receipts:
            return await self.disputes.answer(channel, *_both((await self.book(channel)).signed))
        parties, proofs = await self.disputes.parties(channel), list[SignedProof]()
        for each in map(read_payment, receipts):
            if each.channel != channel:
                raise InvalidInput(f"this is a receipt of channel {each.channel}, and not of {channel}")
            proof = each.proof(parties.name(self._place))
            proofs.append(SignedProof(proof, each.signature, each.countersignature))
        return await self.disputes.answer(channel, *proofs)

    async def _check_goes_on(self, book: ChannelBook, *, agreed: bool = False) -> None:
        """Raise InvalidInput if a channel ends; `agreed`: a close that we signed does not count."""
        core, _, time = await self._look()
        leaf = core.state.channels.get(book.parties.channel)
        if leaf is None or leaf.standing != LeafStanding.OPEN:
            raise InvalidInput(f"channel {book.parties.channel} is closed")
        if book.parties.channel in core.disputes:
            raise InvalidInput(f"channel {book.parties.channel} is being closed by one side: answer for it")
        if any(_closes(entry, book.parties) for entry in core.entries[core.state.head :]):
            raise InvalidInput(
                f"the chain has ordered that channel {book.parties.channel} is closed: it waits for that"
            )
        if agreed and leaf.total != sum(book.deposits):
            raise InvalidInput("more is paid in by a batch that is not final: wait until its window is over")
        ending = read_ending(self._store, book.name)
        if ending is None or (agreed and ending.balance0 is not None):
            return
        if time <= ending.until + LAG:
            how = "alone" if ending.balance0 is None else f"by agreement until {ending.until}"
            raise InvalidInput(f"this account has signed that channel {book.parties.channel} closes {how}")

    async def _look(self) -> tuple[RollupWatcher, RollupState, int]:
        """Return what the chain says, what of it is final, and its time, which is that of a block that stays.

        The time is read first: what counted up to then is in all that is read after it, whatever is reorganised.
        """
        now = self._clock()
        if self._seen is None or now >= self._seen[0] + LOOK_SECONDS:
            last = await self._chain.header(await self._chain.final_number())
            final = await read_final_state(self._chain, self._start)
            core = await read_rollup(self._chain, self._start)
            self._seen = now, core, final, last.time if last is not None else 0
        return self._seen[1:]


def _closes(entry: QueueEntry, parties: ChannelParties) -> bool:
    """Whether an entry of the chain's list closes a channel, once the operator carries it out."""
    closes = entry.kind in (EntryKind.CLOSE, EntryKind.SETTLE) and entry.index == parties.channel
    return closes and (entry.first, entry.second) == (parties.first, parties.second)


def _both(signed: Iterable[SignedProof | None]) -> list[SignedProof]:
    return [each for each in signed if each is not None]


@checked
@contextlib.asynccontextmanager
async def open_rollup_channels(
    directory: Path,
    key: PrivateKey,
    *,
    url: str,
    rollup: RollupPlace,
    start: int = 0,
    asset: AnyAddress = NATIVE,
) -> AsyncIterator[RollupChannels]:
    """Give the channels of a key's account; what is signed is kept in `directory`, which must not be lost or copied.

    `start` is a block not after the rollup's first one, `asset` what the account holds. Raise StoreInUse,
    StoreForeign, ChainUnavailable or ChainError.
    """
    held = to_address(asset)
    async with open_rollup_chain(url, rollup) as chain, contextlib.AsyncExitStack() as stack:
        place = await chain.rules_of()
        of_token = f"-{held.hex()}" if held != NATIVE else ""
        kept = directory / "rollups" / f"{place.chain_id}-{place.contract.hex()}-{key.address.hex()}{of_token}-channels"
        store = open_store(kept, PAYING_SCHEMAS, owner="a user of a rollup's channels")
        stack.callback(store.close)
        ours = Identity(key.address, place.chain_id, place.contract)
        claim_directory(store, ours, (), str(kept))
        stack.enter_context(hold_identity(f"rollup channels{of_token}", ours))
        yield RollupChannels(chain, place, key, store, start, held)
