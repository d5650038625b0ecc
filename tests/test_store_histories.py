"""Whatever history of the product's own moments two engines of the store are given, all reads of both tell the same."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simulation.court_bench import START, TERMS
from simulation.engines import ALL, created, is_taken, memory_disk
from simulation.simulated_network import NetworkPlan, run_network
from simulation.tower_house import Pair
from tallystick.channels.apps.instance import AppInstance
from tallystick.channels.node.app_store import AppSaved, PlayedApp, count_apps, find_app, load_apps
from tallystick.channels.node.virtual_store import (
    VirtualForgotten,
    VirtualHolding,
    VirtualPhase,
    VirtualSaved,
    count_virtuals,
    find_virtual,
    load_virtuals,
)
from tallystick.channels.protocol.core import Channel
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Lock
from tallystick.channels.protocol.virtual import VirtualTerms, WayIn
from tallystick.channels.storage.schema import (
    ChannelForgotten,
    ChannelSaved,
    HistoryChosen,
    HistoryPruned,
    StreamEnded,
    StreamSaved,
    UpdateDeferred,
    UpdateReceived,
    UpdateSigned,
    load_channels,
    load_choices,
    load_flight,
    payment_of,
    pruned_of,
    received_after,
    sent_with,
)
from tallystick.channels.storage.store import Moment, Store
from tallystick.channels.storage.tables import CAME
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.channels.testing.memory import MemoryDisk, MemoryEngine
from tallystick.router.forwarding.circuits import (
    CircuitOpened,
    CircuitOwed,
    CircuitRejected,
    ForwardsPruned,
    PeerBarred,
    forwards_after,
    forwards_before,
    load_circuits,
)
from tallystick.router.onion.replay import OnionsForgotten
from tallystick.router.pathfinding.beliefs import BeliefLearned, BeliefsForgotten, load_beliefs
from tallystick.router.receiving.issued import (
    InvoiceCancelled,
    InvoiceIssued,
    InvoicesPruned,
    KeysendClaimed,
    find_invoice,
    list_invoices,
    paid_after,
)
from tallystick.router.sending.payments import (
    PaymentOrdered,
    PaymentsPruned,
    list_payments,
    load_parts,
    parts_under_way,
    payments_beginning,
    pending_payments,
)
from tallystick.sdk.node.sqlite import SCHEMAS
from tallystick.sdk.node.standings import Role, WordNoted, find_standing, load_standings
from tallystick.settlement.chain import Closed
from tallystick.settlement.following.index import ChainIndex, EventsUndone
from tallystick.settlement.modules.covers import TowerCover, TowerPromise
from tallystick.settlement.sending.moments import (
    ChainAdvanced,
    ChainRewound,
    NoncesLowered,
    ObligationStored,
    read_book,
)
from tallystick.watchtower.claims import TIMELY, LockClaim
from tallystick.watchtower.cover_schema import (
    CoverOffered,
    CoversOver,
    CoverTaken,
    PromiseTaken,
    ProofsPromised,
    find_offered,
    read_offered,
    read_promised,
    read_promises,
    read_taken,
)
from tallystick.watchtower.disputes import DisputeEvent
from tallystick.watchtower.schema import (
    AppointmentsDropped,
    AppointmentStored,
    Coverage,
    DisputeOver,
    DisputeSeen,
    DisputesUndone,
    TimelyOver,
    count_appointments,
    count_sources,
    count_timely,
    oldest_of_largest_source,
    read_appointments,
    read_coverage,
    read_disputes,
    read_source,
    read_timely,
    timely_data,
)
from tallystick.watchtower.sqlite import TOWER_COVERS_SCHEMA, TOWER_SCHEMA

PAIR = Pair(*(PrivateKey(bytes([n]) * 32) for n in (1, 2)), chain_id=1337, contract=Address(b"c" * 20))
PROMISES = tuple(TowerPromise(bytes(32), 7, n, 4 - n) for n in range(4))
COVERS = [
    TowerCover(PAIR.channel, Address(b"t" * 20), Address(bytes([n]) * 20), 5, 900 * n, 600, 3, 700) for n in (1, 2, 1)
]

APPS = [
    AppInstance(terms=msgspec.structs.replace(TERMS, nonce=nonce), player=player, start=START)
    for nonce in (1, 2)
    for player in (0, 1)
]

_CONTRACT, _FIRST, _SECOND = (Address(letter * 20) for letter in (b"c", b"a", b"b"))
_VIRTUAL_TERMS = VirtualTerms(5, _CONTRACT, (_FIRST, _SECOND), NATIVE, (5, 0), 9, 600, 1)
VIRTUAL_ONE = VirtualHolding(
    _VIRTUAL_TERMS,
    1,
    b"p" * 33,
    (b"h" * 33,),
    (WayIn(b"h" * 33, ChannelId(b"w" * 32)),),
    VirtualPhase.OPEN,
    asked=True,
)


@functools.cache
def recorded() -> tuple[tuple[Moment, ...], ...]:
    """Some moments of each kind that a simulated network commits, and those that owners and chains add to them."""
    seen: dict[type[Moment], list[Moment]] = {}
    with pytest.MonkeyPatch.context() as patched:
        commit = MemoryEngine.commit

        def recording(self: MemoryEngine, moments: Sequence[Moment]) -> None:
            commit(self, moments)
            for moment in moments:
                kept = seen.setdefault(type(moment), [])
                if len(kept) < 5 and moment not in kept:
                    kept.append(moment)

        patched.setattr(MemoryEngine, "commit", recording)
        patched.setattr("tallystick.sdk.testing.world.SimulatedDisk", memory_disk)
        run_network(NetworkPlan(nodes=5, payments=15, faults=0.1, tokens=1), 5)
    channel = seen[UpdateSigned][0].channel  # type: ignore[attr-defined]
    digests = [moment.payment_hash for moment in seen[InvoiceIssued]]  # type: ignore[attr-defined]
    terms_of: Channel = seen[ChannelSaved][0].channel  # type: ignore[attr-defined]
    header = seen[ChainAdvanced][0].header  # type: ignore[attr-defined]
    circuits = [moment.circuit for moment in seen[CircuitOpened]]  # type: ignore[attr-defined]
    stored: Any = seen[ObligationStored][0]
    closed = Closed(terms_of.id, 0, 1, 1, bytes(32), 99)
    clients, locators = [Address(bytes([n]) * 20) for n in (1, 2)], [bytes([n]) * 32 for n in (1, 2, 3)]
    timely = TIMELY.encode((True, (LockClaim(Lock(0, 4, 99, 0, bytes(32)), b"secret"),)))
    more: list[Moment] = [
        *(HistoryPruned(channel, n, n) for n in (1, 3, 10**6)),
        *(HistoryChosen(channel, keep) for keep in (None, 7)),
        *(UpdateDeferred(channel, b"frame %d" % n, bytes([n]) * 65) for n in (1, 2)),
        *(StreamSaved(channel, 0, n, bytes([n])) for n in (1, 2)),
        *(StreamEnded(channel, 0, n, n * 10) for n in (0, 1)),
        *(UpdateReceived(channel, n, n, n % 3, b"frame", 1) for n in range(5)),
        *(UpdateSigned(channel, n, n, n % 3, b"frame", 1, ((f"key {n}", n),)) for n in range(4)),
        *(InvoiceCancelled(digest, 9) for digest in digests[:2]),
        *(KeysendClaimed(digest, b"s" * 32, 4, 9) for digest in (*digests[:2], b"k" * 32)),
        *(kind(before) for kind in (PaymentsPruned, InvoicesPruned, ForwardsPruned) for before in (9, 10**12)),
        BeliefsForgotten(10.0**12, seen[BeliefLearned][0].asset),  # type: ignore[attr-defined]
        *(EventsUndone(number) for number in (2, 10**6)),
        *(ChainRewound(moment.chain_id, moment.header) for moment in seen[ChainAdvanced][1:3]),  # type: ignore[attr-defined]
        *(AppointmentStored(c, at, n, bytes([n]), n, b"s") for c in clients for at in locators for n in (1, 2)),
        AppointmentStored(clients[0], locators[0], 3, b"newest", 5, b"other source"),
        AppointmentStored(clients[0], locators[2], 3, b"newest", 5, b"source", timely),
        AppointmentStored(clients[1], locators[2], 3, b"newest", 5, b"source", timely),
        TimelyOver(((clients[1], locators[2]), (clients[1], locators[0]))),
        AppointmentsDropped(((clients[0], locators[1]), (clients[1], locators[0]))),
        *(DisputeSeen(terms_of.id, terms_of.terms, n, DisputeEvent(header, closed)) for n in (0, 1)),
        *(DisputesUndone(number) for number in (header.number, 10**6)),
        *(DisputeOver(of, (locators[2],)) for of in (terms_of.id, ChannelId(bytes(32)))),
        *(Coverage(client, channel, n, n, n, n, b"receipt", b"m" * n) for client in clients for n in (2, 1, 0)),
        *(CoverOffered(bytes([n]) * 32, PAIR.terms, each) for n, each in enumerate(COVERS)),
        *(ProofsPromised(bytes(32), PAIR.channel, c, (PAIR.proof(0, n, 1), None)) for c in clients for n in (2, 1)),
        *(CoversOver(names) for names in ((bytes([1]) * 32,), (bytes(32), bytes([2]) * 32))),
        *(CoverTaken(bytes([n]) * 32, each, b"signature") for n, each in enumerate(COVERS)),
        *(PromiseTaken(PROMISES[n], b"signature", PROMISES[n - 1 : n]) for n in (1, 2, 3)),
        *(CircuitOwed(msgspec.structs.replace(one, owed=b"proof")) for one in circuits),
        *(CircuitRejected(one.outgoing, one.outgoing_lock, b"no") for one in circuits),
        *(PeerBarred(b"peer", until) for until in (5, 6)),
        *(OnionsForgotten(before) for before in (1, 10**12)),
        *(NoncesLowered(stored.chain_id, stored.account, highest) for highest in (-1, 0, 1)),
        *(ChannelForgotten(of) for of in (channel, terms_of.id)),
        *(AppSaved(PlayedApp(held, b"p" * 33, channel), held.player > 0) for held in APPS),
        *(VirtualSaved(msgspec.structs.replace(VIRTUAL_ONE, phase=phase)) for phase in VirtualPhase),
        VirtualForgotten(VIRTUAL_ONE.id),
        VirtualSaved(msgspec.structs.replace(VIRTUAL_ONE, phase=VirtualPhase.OVER)),
        *(WordNoted(peer=b"peer", role=role, kept=kept, now=5) for role in Role for kept in (True, False)),
    ]
    for moment in more:
        seen.setdefault(type(moment), []).append(moment)
    return tuple(map(tuple, seen.values()))


def everything(store: Store) -> Iterator[object]:
    """Give what is in the tables, and what the typed reads say of it."""
    kinds = {type(kind[0]): kind for kind in recorded()}
    for schema in ALL:
        for each in schema.subject.tables:
            yield each.name, store.read(each.rows())
            if "WITHOUT ROWID" not in created()[each.name]:
                yield each.name, store.read(each.rows(order=(CAME,)))
    channel: ChannelId = kinds[UpdateSigned][0].channel
    for known in load_channels(store):
        yield load_flight(store, known)
    for limit in (1, 3, 100):
        for at in (0, 2):
            yield received_after(store, at, limit), received_after(store, at, limit, channel)
            yield paid_after(store, at, limit), forwards_after(store, at, limit), forwards_before(store, at, limit)
        yield list_invoices(store, limit), list_invoices(store, limit, 3, own=True)
        yield list_payments(store, limit), list_payments(store, limit, 3, probes=False)
        yield oldest_of_largest_source(store, 2, limit)
    yield pruned_of(store), pruned_of(store, channel), load_choices(store)
    yield [sent_with(store, channel, payment) for payment in range(8)], payment_of(store, "key 2")
    yield pending_payments(store), parts_under_way(store), load_circuits(store)
    for ordered in kinds[PaymentOrdered]:
        digest = ordered.order.payment_hash
        yield load_parts(store, digest), payments_beginning(store, digest.hex()[:2]), find_invoice(store, digest)
    yield load_virtuals(store, over=False), load_virtuals(store, over=True), count_virtuals(store)
    yield find_virtual(store, VIRTUAL_ONE.id)
    yield list(load_standings(store)), [find_standing(store, role, b"peer") for role in Role]
    yield load_apps(store, over=False), load_apps(store, over=True), count_apps(store)
    yield [find_app(store, held.instance) for held in APPS]
    yield list(load_beliefs(store, kinds[BeliefLearned][0].asset))
    stored = kinds[ObligationStored][0]
    yield read_book(store, stored.chain_id, stored.account).highest_nonce
    index = ChainIndex(stored.account, store)
    yield index._histories, index.proofs([(0, bytes(32))], 10**6)
    yield count_appointments(store), count_sources(store, b"s"), read_appointments(store, bytes([1]) * 32)
    yield read_disputes(store), list(read_disputes(store)), read_coverage(store, Address(bytes([1]) * 20))
    yield (
        count_timely(store),
        count_timely(store, b"source"),
        read_timely(store),
        read_source(store, Address(bytes([1]) * 20), bytes([1]) * 32),
    )
    yield timely_data(store, Address(bytes([1]) * 20), bytes([3]) * 32)
    yield read_offered(store), read_offered(store, PAIR.channel), find_offered(store, bytes(32))
    yield read_promised(store, PAIR.channel), read_taken(store), read_taken(store, PAIR.channel)
    yield read_promises(store, bytes(32))


MOMENTS = st.deferred(lambda: st.sampled_from(recorded()).flatmap(st.sampled_from))


@settings(max_examples=60, deadline=None)
@example(commits=[[PromiseTaken(PROMISES[n], b"signature", PROMISES[n - 1 : n]) for n in (2, 1)]])
@given(commits=st.lists(st.lists(MOMENTS, min_size=1, max_size=6), min_size=1, max_size=10))
def test_whatever_history_of_real_moments_both_engines_tell_the_same_of_it(commits: list[list[Moment]]) -> None:
    disks = (SimulatedDisk(ALL), memory_disk(ALL))
    one, other = (disk.open() for disk in disks)
    for commit in commits:
        first, second = (is_taken(store, commit) for store in (one, other))
        assert first == second, commit
    for first, second in zip(everything(one), everything(other), strict=True):
        assert first == second
    image = disks[1].image()
    again = MemoryDisk([schema.subject for schema in ALL], image).open()
    assert list(everything(again)) == list(everything(other))
    disks[0].close()


def test_the_recorded_moments_are_of_every_kind_that_money_hangs_on() -> None:
    kinds = {type(kind[0]) for kind in recorded()}
    missing = {
        kind for schema in (*SCHEMAS, TOWER_SCHEMA, TOWER_COVERS_SCHEMA) for kind in schema.subject.writes
    } - kinds
    assert {kind.__name__ for kind in missing} == set()
    assert CircuitOpened in kinds
