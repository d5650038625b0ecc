"""The client of one tower: keeps the tower's appointments as new as the policy asks, in O(1) per channel.

There is no queue of uploads and no dirty flag to write with every payment. A channel is *dirty* when the node's newest
doubly signed proofs have higher seqs than the tower has acknowledged, or other locks of the peer's wait to be paid.
Both sides of that comparison are durable (the node's in its own tables, the tower's acknowledgement in
`tower_coverage`), so it comes out right after any crash, and the hot path writes nothing: this has the effect of
PROTOCOL section 7's flag without its cost.

Order of an upload: commit the revision that it will have, send, verify the receipt, commit what it covers. A crash
anywhere in between leaves a gap in the revisions and nothing else: the next upload has a higher one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec
import trio

from tallystick.channels.errors import LinkClosed, MalformedMessage, PeerError
from tallystick.channels.node.alarms import Alarm, AlarmKind, OnAlarm
from tallystick.channels.ports import Clock, Entropy, Link, Network, PeerAddress
from tallystick.channels.protocol.eip712 import channel_id, digest_voucher, domain_separator
from tallystick.channels.protocol.keys import PrivateKey, PublicKey
from tallystick.channels.protocol.objects import NATIVE, ChannelId, SignedProof, Terms, Voucher
from tallystick.channels.storage.store import Store
from tallystick.channels.transport.retries import Jitter, Pauses, Retry
from tallystick.settlement.following.vigil import spell
from tallystick.settlement.sending.sender import Commit
from tallystick.watchtower.claims import LockClaim, mark_of, said_worth, timely
from tallystick.watchtower.errors import TowerRefusal
from tallystick.watchtower.fetching import Wanted, ask, fetch, is_newer
from tallystick.watchtower.messages import (
    VERSION,
    Message,
    Refused,
    TowerReceipt,
    Upload,
    UploadTimely,
    decode,
    encode,
    verify_receipt,
)
from tallystick.watchtower.offers import ClientPolicy, Offer, PageOffer
from tallystick.watchtower.quotas import RENEW
from tallystick.watchtower.schema import Coverage, read_coverage
from tallystick.watchtower.sealing import Appointment, PendingLocks, locator_of

LOOK_EVERY = 3_600.0
"""Seconds between two looks at which receipts are so old that they should be renewed."""

UNCOVERED_FIRST = 600.0
"""Seconds after which it is told that a tower takes nothing of what depends on it; then less and less often."""

UNCOVERED_AGAIN = 86_400.0
"""Seconds until it is told again, at most."""

UNCOVERED_LOOK = 60.0
"""Seconds between two looks."""

AGAIN_MIN = 0.01
"""Seconds before a tower is tried again, at least, whatever the policy says."""

UPLOADS_AT_ONCE = 32
"""Uploads sent before their receipts are waited for."""


class TowerClientStatistics(msgspec.Struct, frozen=True):
    """How well a tower covers this node."""

    tower: str
    """Where it is: its key, host and port."""
    connected: bool
    channels: int
    dirty: int
    """Channels whose newest proofs the tower has not acknowledged."""
    exposed: int
    """Units moved in them since what is acknowledged."""
    uploads: int
    refused: int
    last_fault: str


@dataclass(kw_only=True, eq=False, repr=False)
class TowerClient:
    """Uploads this node's appointments to one tower. Run `run` in a nursery."""

    key: PrivateKey
    tower: PeerAddress
    network: Network
    store: Store
    commit: Commit
    entropy: Entropy
    jitter: Jitter
    alarm: OnAlarm
    """Is told what a person should know."""
    clock: Clock
    policy: ClientPolicy = field(default_factory=ClientPolicy)

    def __post_init__(self) -> None:
        self._tower = PublicKey(self.tower.key)
        self._coverage: dict[ChannelId, Coverage] = read_coverage(self.store, self._tower.address)
        self._receipted = {channel: _time_of(held.receipt) for channel, held in self._coverage.items() if held.receipt}
        """By the tower's clock."""
        self._renewed: dict[ChannelId, float] = {}
        """When we last had a receipt, by our own clock."""
        self._offers: dict[ChannelId, Offer | PageOffer] = {}
        self._dirty: dict[ChannelId, None] = {}
        self._not_before: dict[ChannelId, float] = {}
        self._vouchers: dict[ChannelId, bytes] = {}
        self._sealed_only: set[ChannelId] = set()
        """Channels of which the tower refused what is timely."""
        self._exposed = 0
        self._link: Link | None = None
        self._wake = trio.Event()
        self._urgent = trio.Event()
        self._clean = trio.Event()
        self._receipts: Callable[[ChannelId], None] = lambda channel: None
        self._uploads = self._refused = 0
        self._last_fault = ""

    # --- what the node uses ---------------------------------------------------------------------------------

    def offer(
        self,
        terms: Terms,
        close_key: bytes,
        proof0: SignedProof | None,
        proof1: SignedProof | None,
        claims: tuple[LockClaim, ...] = (),
        pending: PendingLocks = ((), ()),
        *,
        urgent: bool = False,
    ) -> None:
        """Tell the newest durable proofs of a channel, what pays for the peer's pending locks, and all that pend in
        both states, by side: the newest counts.

        Cheap, never waits. Call it after each commit that brought newer ones, and once per channel after a start.
        If somebody waits for the receipt, it is `urgent`."""
        channel = channel_id(terms)
        known = self._offers.get(channel)
        mark = known.mark if known is not None and known.claims == claims else mark_of(claims)
        self._take(channel, Offer(terms, close_key, proof0, proof1, claims, mark, pending), urgent)

    def offer_page(self, name: ChannelId, page: PageOffer) -> None:
        """Tell a page of the list of channels, as it is now; `name` stands for it where channels are named."""
        self._take(name, page)

    def covered_mark(self, name: ChannelId) -> bytes:
        """Return by which mark the tower holds a channel's claims, or a page: empty for nothing."""
        return self._coverage_of(name).claims

    def _take(self, channel: ChannelId, offer: Offer | PageOffer, urgent: bool = False) -> None:
        before = self._exposure(channel)
        self._offers[channel] = offer
        self._exposed += self._exposure(channel) - before
        if self._is_dirty(channel):
            self._dirty[channel] = None
            self._wake.set()
            if urgent or 0 < self.policy.units <= self._exposed:
                self._urgent.set()

    def tell(self, receipts: Callable[[ChannelId], None]) -> None:
        """Let `receipts` be told of each channel that the tower gives a receipt for, once that is stored."""
        self._receipts = receipts

    def covered_seqs(self, channel: ChannelId) -> tuple[int, int]:
        """Return the numbers of both sides' proofs that the tower gave a receipt for, 0 for none."""
        return (held := self._coverage_of(channel)).seq0, held.seq1

    def forget(self, channel: ChannelId) -> None:
        """Upload nothing more for a channel that is gone."""
        self._exposed -= self._exposure(channel)
        for memory in (self._receipted, self._renewed, self._offers, self._dirty, self._not_before, self._vouchers):
            memory.pop(channel, None)
        self._sealed_only.discard(channel)
        self._note_clean()

    async def wait_covered(self) -> None:
        """Wait until the tower has acknowledged everything that was offered."""
        while self._dirty:
            await self._clean.wait()

    def statistics(self) -> TowerClientStatistics:
        """Return the figures of this moment."""
        return TowerClientStatistics(
            tower=str(self.tower),
            connected=self._link is not None,
            channels=sum(isinstance(offer, Offer) for offer in self._offers.values()),
            dirty=sum(isinstance(self._offers.get(channel), Offer) for channel in self._dirty),
            exposed=self._exposed,
            uploads=self._uploads,
            refused=self._refused,
            last_fault=self._last_fault,
        )

    async def fetch(self, terms: Terms, close_key: bytes) -> Appointment | None:
        """Return the newest appointment that the tower holds for a channel, None if it has none: after data loss.

        Opens a connection of its own. Raise LinkClosed or PeerError if the tower cannot be reached or answers wrongly.
        """
        wanted = [Wanted(terms, close_key)]
        (found,) = await fetch(self.network, self.tower, self.key.address, wanted, self.policy.answer_within)
        return found

    async def find_newer(self, wanted: Sequence[Wanted]) -> list[ChannelId]:
        """Return the channels of which the tower holds more than our data knows; nothing if it does not answer in time.

        Takes `ClientPolicy.ask_within` at most, and never raises what a tower does.
        """
        try:
            with trio.move_on_after(self.policy.ask_within):
                party, within = self.key.address, self.policy.ask_within
                found = await fetch(self.network, self.tower, party, wanted, within)
                newer = zip(found, wanted, strict=True)
                tower = self._tower.address
                return [channel_id(w.terms) for held, w in newer if held and is_newer(held, w, party, tower)]
        except (LinkClosed, PeerError) as error:
            self._last_fault = str(error)
        return []

    # --- the uploader ---------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep the tower up to date until cancelled, and tell the owner when that does not succeed."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch)
            await self._upload_forever()

    async def _watch(self) -> None:
        """Tell the owner that the tower has long taken nothing of what depends on it, and when it does again."""
        since, uploads, told = trio.current_time(), self._uploads, 0
        while True:
            await trio.sleep(UNCOVERED_LOOK)
            now = trio.current_time()
            if not self._dirty or not self._exposed or self._uploads != uploads:
                if told:
                    text = f"the tower at {self.tower} takes appointments again"
                    self.alarm(Alarm(AlarmKind.TOWER_BACK, text))
                since, uploads, told = now, self._uploads, 0
            elif now - since >= min(UNCOVERED_FIRST * 2**told, UNCOVERED_AGAIN * max(told, 1)):
                text = (
                    f"the tower at {self.tower} has taken nothing for {spell(now - since)}, and {self._exposed} "
                    f"units moved that it does not guard ({self._last_fault or 'it does not answer'})"
                )
                self.alarm(Alarm(AlarmKind.TOWER_UNREACHABLE, text))
                told += 1

    async def _upload_forever(self) -> None:
        """Upload; connect again, with growing pauses, when the connection ends."""
        policy = self.policy
        most = max(policy.backoff_max, AGAIN_MIN)
        first = min(max(policy.backoff_first, AGAIN_MIN), most)
        retry = Retry(Pauses("uploading to the tower", first, most), self.jitter)
        while True:
            try:
                await self._next_round()
                link = await self.network.dial(self.tower)
                try:
                    self._link = link
                    while True:
                        await self._upload_all(link)
                        retry.on_success()
                        await self._next_round()
                finally:
                    self._link = None
                    await link.aclose()
            except (LinkClosed, PeerError) as error:
                self._last_fault = str(error)
                if isinstance(error, PeerError):
                    text = f"the tower at {self.tower} misbehaves: {error}"
                    self.alarm(Alarm(AlarmKind.TOWER_MISBEHAVES, text))
            await retry.pause()

    async def _next_round(self) -> None:
        """Wait until something is dirty, then until it is time or urgent."""
        while not self._ready():
            self._wake = trio.Event()
            soonest = min((self._not_before.get(c, 0) for c in self._dirty), default=math.inf)
            with trio.move_on_at(min(soonest, trio.current_time() + LOOK_EVERY)):
                await self._wake.wait()
            self._dirty.update(dict.fromkeys(c for c in self._offers if self._is_old(c)))
        with trio.move_on_after(self.policy.every):
            await self._urgent.wait()
        self._urgent = trio.Event()

    def _ready(self) -> list[ChannelId]:
        """Return the dirty channels, without those that the tower has refused lately, or for good."""
        now = trio.current_time()
        return [c for c in self._dirty if self._not_before.get(c, 0) <= now]

    async def _upload_all(self, link: Link) -> None:
        while ready := self._ready()[:UPLOADS_AT_ONCE]:
            sent = await self._prepare(ready)
            answers = await ask(link, [upload for _, _, upload in sent], self.policy.answer_within)
            for (channel, offer, upload), answer in zip(sent, answers, strict=True):
                await self._conclude(channel, offer, upload, answer)

    async def _prepare(
        self, channels: list[ChannelId]
    ) -> list[tuple[ChannelId, Offer | PageOffer, Upload | UploadTimely]]:
        """Commit the revisions that the uploads will have; return what to send."""
        moments = []
        for channel in channels:
            held = self._coverage_of(channel)
            self._coverage[channel] = msgspec.structs.replace(held, revision=held.revision + 1)
            moments.append(self._coverage[channel])
        await self.commit(moments)
        party, tower = self.key.address, self._tower.address
        sent: list[tuple[ChannelId, Offer | PageOffer, Upload | UploadTimely]] = []
        for channel, moment in zip(channels, moments, strict=True):
            offer = self._offers.get(channel)
            if offer is None:
                continue
            voucher = self._voucher(channel, offer.terms) if isinstance(offer, Offer) else b""
            blob = offer.sealed(voucher, tower, party, self.entropy)
            named = VERSION, locator_of(offer.close_key, tower, party), moment.revision, blob
            upload: Upload | UploadTimely = Upload(*named)
            if isinstance(offer, Offer) and self._is_timely(channel, offer):
                upload = UploadTimely(*named, offer.terms.asset == NATIVE, timely(offer.claims))
            sent.append((channel, offer, upload))
        return sent

    def _is_timely(self, channel: ChannelId, offer: Offer) -> bool:
        return bool(offer.claims) and self.policy.timely and channel not in self._sealed_only

    async def _conclude(
        self, channel: ChannelId, offer: Offer | PageOffer, upload: Upload | UploadTimely, answer: Message
    ) -> None:
        match answer:
            case TowerReceipt():
                verify_receipt(answer, self._tower, self.key.address, upload)
                await self._cover(channel, offer, upload, encode(answer))
            case Refused(locator, why, held, text) if locator == upload.locator:
                self._refused += 1
                if isinstance(upload, UploadTimely) and why is TowerRefusal.QUOTA and held:
                    self._sealed_only.add(channel)  # the proofs at least, at once; then all of it again
                    return
                self._not_before[channel] = trio.current_time() + self.policy.backoff_max
                if why is TowerRefusal.STALE:
                    self._stale(channel, held)
                elif text != self._last_fault:
                    said = f"the tower at {self.tower} refused an appointment: {text}"
                    self.alarm(Alarm(AlarmKind.TOWER_REFUSES, said))
                self._last_fault = text
            case _:
                raise MalformedMessage(f"the tower answered an upload with {type(answer).__name__}")

    async def _cover(
        self, channel: ChannelId, offer: Offer | PageOffer, upload: Upload | UploadTimely, receipt: bytes
    ) -> None:
        seq0, seq1 = offer.seqs
        mark = offer.mark
        if channel in self._sealed_only:
            self._sealed_only.discard(channel)
            self._not_before[channel] = trio.current_time() + self.policy.backoff_max
            mark = b""
        covered = Coverage(self._tower.address, channel, upload.revision, seq0, seq1, offer.moved, receipt, mark)
        await self.commit([covered])
        before = self._exposure(channel)
        self._coverage[channel] = covered
        self._receipted[channel], self._renewed[channel] = _time_of(receipt), self.clock()
        self._exposed += self._exposure(channel) - before
        self._uploads += 1
        if not self._is_dirty(channel):
            self._dirty.pop(channel, None)
            self._note_clean()
        self._receipts(channel)

    def _stale(self, channel: ChannelId, held: int) -> None:
        """The tower has a revision that this node's data knows nothing of: the data is older than what was uploaded."""
        self._not_before[channel] = math.inf
        is_page = isinstance(self._offers.get(channel), PageOffer)
        name = "the list of channels" if is_page else f"channel {channel.hex()[:8]}"
        text = (
            f"the tower at {self.tower} holds revision {held} of {name}, newer than this node's data: the data is an "
            "old copy. Nothing is overwritten; stop the node, and take in what towers hold by `tally towers recover`"
        )
        self.alarm(Alarm(AlarmKind.OLD_DATA, text))

    def _coverage_of(self, channel: ChannelId) -> Coverage:
        return self._coverage.get(channel) or Coverage(self._tower.address, channel)

    def _is_dirty(self, channel: ChannelId) -> bool:
        offer, held = self._offers.get(channel), self._coverage_of(channel)
        behind = offer is not None and (
            offer.seqs[0] > held.seq0 or offer.seqs[1] > held.seq1 or offer.mark != held.claims
        )
        return behind or self._is_old(channel)

    def _is_old(self, channel: ChannelId) -> bool:
        """Whether what the tower promised for a channel should be promised anew, before its term is over."""
        received = max(self._receipted.get(channel, math.inf), self._renewed.get(channel, -math.inf))
        return channel in self._offers and self.clock() - received > RENEW

    def _exposure(self, channel: ChannelId) -> int:
        offer = self._offers.get(channel)
        if offer is None:
            return 0
        held = self._coverage_of(channel)
        pending = 0 if offer.mark == held.claims else sum(said_worth(claim) for claim in offer.claims)
        return max(0, offer.moved - held.moved) + pending

    def _note_clean(self) -> None:
        if not self._dirty:
            self._clean.set()
            self._clean = trio.Event()

    def _voucher(self, channel: ChannelId, terms: Terms) -> bytes:
        """Return the signature, made once, by which the tower earns the reward if it convicts the peer."""
        signature = self._vouchers.get(channel)
        if signature is None:
            domain = domain_separator(terms.chain_id, terms.contract)
            signature = self.key.sign(digest_voucher(domain, Voucher(channel, self._tower.address)))
            self._vouchers[channel] = signature
        return signature

    def __repr__(self) -> str:
        return f"<TowerClient of {self.tower}: {len(self._dirty)} of {len(self._offers)} channels uncovered>"


def _time_of(receipt: bytes) -> float:
    """Return when a stored receipt was given, by the tower's clock."""
    message = decode(receipt)
    return message.time if isinstance(message, TowerReceipt) else -math.inf
