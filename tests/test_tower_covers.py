"""Covers over the wire: a tower offers and promises only what it can keep, a client keeps only what it has checked, and
what a tower promised is answered for: by its challenge, or by its bond.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import trio
from trio.testing import MockClock

from simulation.cover_world import BOND, COVER, CoverWorld
from simulation.tower_house import Pair
from simulation.tower_world import ALICE, MALLORY, TOWER
from tallystick.channels.errors import LinkClosed, MalformedMessage
from tallystick.channels.protocol.objects import NATIVE
from tallystick.settlement.chain import DepositCall, OpenCall
from tallystick.settlement.modules.covers import digest_cover, digest_promise
from tallystick.watchtower.cover_schema import find_offered, read_offered, read_promised, read_promises, read_taken
from tallystick.watchtower.covering import SURELY, CoverClient
from tallystick.watchtower.covers import SLACK
from tallystick.watchtower.errors import BadReceipt, CoverRefused
from tallystick.watchtower.messages import VERSION, AskCover, AskPromise, CoverOffer, PromiseGiven, decode, encode

PERIOD = 600
STEP = 0.001


@pytest.fixture
def world(tmp_path: Path) -> Iterator[CoverWorld]:
    world = CoverWorld(tmp_path)
    yield world
    world.store.close()


async def test_a_tower_keeps_what_it_promised_though_the_appointment_is_older(
    world: CoverWorld, autojump_clock: MockClock
) -> None:
    await world.bonded()
    async with world.house.open() as (tower, at):
        await world.caught_up(tower)
        client = world.covers(at)
        await world.promised(client, await world.covered(tower, client))
        await world.cheat_pair()
        await world.mine(4)
        assert (await world.view()).seqs == (9, 9), "what was promised stands, not what was appointed"
    world.chain.advance(PERIOD + 1)
    assert await world.accuse() == []
    assert await world.bonds() == (BOND + COVER // 100, COVER)


async def test_a_tower_that_sleeps_pays_the_cover_to_its_client(world: CoverWorld, autojump_clock: MockClock) -> None:
    await world.bonded()
    async with world.house.open() as (tower, at):
        await world.caught_up(tower)
        client = world.covers(at)
        await world.promised(client, await world.covered(tower, client))
    await world.cheat_pair()
    assert await world.accuse() == [], "it has its time to answer"
    world.chain.advance(PERIOD + 1)
    before = await world.chain.balance(ALICE.address, NATIVE)
    assert await world.accuse() == [""]
    assert await world.chain.balance(ALICE.address, NATIVE) == before + COVER
    assert await world.bonds() == (BOND + COVER // 100 - COVER, 0)
    assert await world.accuse() == ["unknown-entry"], "once"


async def test_a_tower_that_comes_back_within_the_window_answers_by_what_it_stored(
    world: CoverWorld, autojump_clock: MockClock
) -> None:
    await world.bonded()
    async with world.house.open() as (tower, at):
        await world.caught_up(tower)
        client = world.covers(at)
        await world.promised(client, await world.covered(tower, client))
    await world.cheat_pair()
    world.chain.advance(PERIOD // 2)
    async with world.house.open() as (tower, at):
        await world.mine(4)
    world.chain.advance(PERIOD)
    assert (await world.view()).seqs == (9, 9) and await world.accuse() == []


async def test_what_a_client_was_promised_is_answered_though_the_tower_dies_at_any_moment_of_it(
    world: CoverWorld, autojump_clock: MockClock
) -> None:
    """A promise that reached the client is of proofs that were durable before."""
    await world.bonded()
    promised: list[int] = []
    async with world.house.open() as (tower, at):
        await world.caught_up(tower)
        held = await world.covered(tower, world.covers(at))

    async def ask(client: CoverClient, seq: int) -> None:
        with contextlib.suppress(LinkClosed, CoverRefused):
            await client.ask_promise(held, world.proof(0, seq, 5), world.proof(1, seq, 5))
            promised.append(seq)

    async with trio.open_nursery() as nursery:
        for moment in range(40):
            world.chain.mine()
            async with world.house.open() as (tower, at):
                await world.caught_up(tower)
                nursery.start_soon(ask, world.covers(at), 10 + moment)
                await trio.sleep(STEP * moment)
    assert 5 < len(promised) < 40, "some were broken off, and some were not"
    await world.cheat_pair()
    async with world.house.open():
        await world.mine(4)
    view = await world.view()
    assert min(view.seqs) >= max(promised)


async def test_what_was_shown_before_is_never_given_up_for_less(world: CoverWorld, autojump_clock: MockClock) -> None:
    """A client that shows less gets a promise of less; the tower goes on to answer with the highest."""
    await world.bonded()
    async with world.house.open() as (tower, at):
        await world.caught_up(tower)
        client = world.covers(at)
        held = await world.covered(tower, client)
        await world.promised(client, held, 9)
        less = await client.ask_promise(held, world.proof(0, 2, 5), None)
        assert (less.promise.seq0, less.promise.seq1) == (2, 0)
        await world.cheat_pair()
        await world.mine(4)
        assert (await world.view()).seqs == (9, 9)


async def test_a_challenge_for_a_cover_may_cost_up_to_the_cover(world: CoverWorld, autojump_clock: MockClock) -> None:
    """Without a reward a challenge is worth little to the tower; with a cover, not to answer costs it that."""
    world.house.policy = msgspec.structs.replace(world.house.policy, budget=1, courtesy=1)
    await world.bonded()
    async with world.house.open() as (tower, at):
        await world.caught_up(tower)
        client = world.covers(at)
        await world.promised(client, await world.covered(tower, client))
        await world.cheat_pair()
        await world.mine(4)
        assert (await world.view()).seqs == (9, 9)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"amount": 0}, "covers are of"),
        ({"amount": -1}, "covers are of"),
        ({"amount": BOND + 1}, "covers are of"),
        ({"amount": 2**127}, "covers are of"),
        ({"until": 10}, "a cover lasts for"),
        ({"until": 2**62}, "a cover lasts for"),
        ({"number": 5}, "no such channel"),
        ({"challenge_period": 599}, "shorter"),
        ({"challenge_period": 601}, "no such channel"),
        ({"chain_id": 4}, "its own chain"),
        ({"participants": tuple(sorted((MALLORY.address, TOWER.address)))}, "a participant"),
    ],
)
async def test_what_a_tower_does_not_offer(
    world: CoverWorld, autojump_clock: MockClock, changes: dict[str, object], said: str
) -> None:
    await world.bonded()
    async with world.house.open() as (tower, at):
        await world.caught_up(tower)
        amount, until = changes.pop("amount", COVER), changes.pop("until", world.until())
        terms = msgspec.structs.replace(world.pair.terms, **changes)
        with pytest.raises(CoverRefused, match=said):
            await world.covers(at).ask_cover(terms, amount, until, price_max=BOND)  # type: ignore[arg-type]
        assert tower.service.covers is not None and tower.service.covers.offers == 0
        assert read_offered(tower.sender.store) == []


async def test_offers_together_are_never_more_than_is_free_of_the_bond(
    world: CoverWorld, autojump_clock: MockClock
) -> None:
    await world.bonded()
    other = Pair(ALICE, MALLORY, chain_id=world.chain.chain_id, contract=world.chain.contract)
    other.terms = msgspec.structs.replace(other.terms, number=1)
    first, second = other.keys
    await world.chain.call(first, OpenCall(other.terms, 10))
    await world.chain.call(second, DepositCall(other.channel, 1, 10))
    async with world.house.open() as (tower, at):
        await world.caught_up(tower)
        client, until = world.covers(at), world.until()
        held = await client.ask_cover(world.pair.terms, BOND - 1, until, price_max=BOND)
        assert await client.ask_cover(world.pair.terms, BOND - 1, until, price_max=BOND) == held, "the same again"
        with pytest.raises(CoverRefused, match="another offer for this channel"):
            await client.ask_cover(world.pair.terms, 1, until, price_max=BOND)
        with pytest.raises(CoverRefused, match="1 is free"):
            await client.ask_cover(other.terms, 2, until, price_max=BOND)
        await client.ask_cover(other.terms, 1, until, price_max=BOND)
        await trio.sleep(PERIOD + SLACK + 100)
        world.chain.mine()
        await world.caught_up(tower)
        await client.ask_cover(world.pair.terms, BOND, world.until(), price_max=BOND)
        assert len(read_offered(tower.sender.store)) == 1, "what nobody reserved is forgotten"
    assert await world.bonds() == (BOND, 0)


async def test_a_reserved_cover_binds_no_more_than_itself(world: CoverWorld, autojump_clock: MockClock) -> None:
    await world.bonded()
    async with world.house.open() as (tower, at):
        await world.caught_up(tower)
        client = world.covers(at)
        await world.covered(tower, client)
        await client.ask_cover(world.pair.terms, BOND - COVER, world.until(), price_max=BOND)


async def test_a_stranger_without_an_appointment_is_offered_nothing(
    world: CoverWorld, autojump_clock: MockClock
) -> None:
    await world.open_channel()
    await world.called(TOWER, "bond", BOND, value=BOND)
    async with world.house.open() as (tower, at):
        await world.caught_up(tower)
        with pytest.raises(CoverRefused, match="upload an appointment first"):
            await world.covers(at).ask_cover(world.pair.terms, COVER, world.until(), price_max=BOND)


async def test_a_tower_without_a_bond_or_in_trouble_offers_and_promises_nothing(
    world: CoverWorld, autojump_clock: MockClock
) -> None:
    await world.bonded()
    async with world.house.open() as (tower, at):
        await world.caught_up(tower)
        client = world.covers(at)
        held = await world.covered(tower, client)
        world.house.free_space = 0
        with pytest.raises(CoverRefused, match="disk"):
            await client.ask_promise(held, world.proof(0, 1, 1), None)
        with pytest.raises(CoverRefused, match="disk"):
            await client.ask_cover(world.pair.terms, 1, world.until(), price_max=BOND)
        assert read_promised(tower.sender.store, world.pair.channel) == {}
    world.house.registry, world.house.free_space = None, 2**40
    async with world.house.open() as (tower, at):
        await world.caught_up(tower)
        with pytest.raises(CoverRefused, match="it has no bond"):
            await world.covers(at).ask_cover(world.pair.terms, 1, world.until(), price_max=BOND)


async def test_nothing_is_promised_but_under_a_reserved_cover_on_good_proofs_of_an_open_channel(
    world: CoverWorld, autojump_clock: MockClock
) -> None:
    await world.bonded()
    async with world.house.open() as (tower, at):
        await world.caught_up(tower)
        client = world.covers(at)
        held = await client.ask_cover(world.pair.terms, COVER, world.until(), price_max=BOND)
        good = world.proof(0, 5, 5)
        with pytest.raises(CoverRefused, match="reserve it first"):
            await client.ask_promise(held, good, None)
        await world.reserve(held)
        await world.caught_up(tower)
        with pytest.raises(CoverRefused, match="no such cover"):
            await client.ask_promise(held._replace(name=bytes(32)), good, None)
        bad = msgspec.structs.replace(good, countersignature=bytes(64))
        for proofs in ((bad, None), (None, good), (None, None), (good, bad)):
            with pytest.raises(CoverRefused, match="no proofs of the channel"):
                await client.ask_promise(held, *proofs)
        assert read_promised(tower.sender.store, world.pair.channel) == {}
        await world.cheat_pair(closer=ALICE)
        with pytest.raises(CoverRefused, match="that is open"):
            await client.ask_promise(held, good, None)
        assert read_promised(tower.sender.store, world.pair.channel) == {}
    assert read_promises(world.store, held.name) == []


async def test_a_promise_begins_when_no_close_can_have_been(world: CoverWorld, autojump_clock: MockClock) -> None:
    await world.bonded()
    async with world.house.open() as (tower, at):
        await world.caught_up(tower)
        client = world.covers(at)
        held = await world.covered(tower, client)
        made = await client.ask_promise(held, world.proof(0, 9, 50), None)
        assert made.promise.since > world.chain.newest.header.time
        assert read_promises(world.store, held.name) == [made]


async def test_both_keep_what_was_signed_before_it_was_relied_on(world: CoverWorld, autojump_clock: MockClock) -> None:
    await world.bonded()
    async with world.house.open() as (tower, at):
        await world.caught_up(tower)
        client = world.covers(at)
        held = await world.covered(tower, client)
        assert read_taken(world.store, world.pair.channel) == [held]
        offered = find_offered(tower.sender.store, held.name)
        assert offered is not None and offered.cover == held.cover and not offered.promised
        made = await world.promised(client, held)
        assert read_promises(world.store, held.name) == [made]
        stored = read_promised(tower.sender.store, world.pair.channel)[ALICE.address]
        assert [signed.proof.seq for signed in stored if signed] == [9, 9]
    async with world.house.open() as (tower, at):
        assert read_promised(tower.sender.store, world.pair.channel)[ALICE.address] == stored


async def test_a_client_keeps_nothing_that_is_not_what_it_asked_for(
    world: CoverWorld, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.bonded()
    async with world.house.open() as (tower, at):
        await world.caught_up(tower)
        client, until = world.covers(at), world.until()
        with pytest.raises(CoverRefused, match="more than 1"):
            await client.ask_cover(world.pair.terms, COVER, until, price_max=1)
        assert tower.service.covers is not None
        right = tower.service.covers.answer
        changes: dict[str, object] = {}

        async def lying(party: object, asked: AskCover | AskPromise) -> object:
            answer = await right(party, asked)  # type: ignore[arg-type]
            if isinstance(answer, CoverOffer):
                cover = msgspec.structs.replace(answer.cover, **changes)
                return CoverOffer(cover, signed(digest_cover, cover, answer.signature))
            assert isinstance(answer, PromiseGiven)
            promise = msgspec.structs.replace(answer.promise, **changes)
            return PromiseGiven(promise, signed(digest_promise, promise, answer.signature))

        def signed(digest: Callable[..., bytes], what: object, otherwise: bytes) -> bytes:
            """Sign anew what can be signed: who lies signs it."""
            try:
                return TOWER.sign(digest(world.chain.chain_id, world.registry.address, what))
            except OverflowError:
                return otherwise

        monkeypatch.setattr(tower.service.covers, "answer", lying)
        wrong: tuple[dict[str, object], ...] = (
            *({"amount": COVER - 1}, {"client": MALLORY.address}, {"tower": MALLORY.address}, {"until": until - 1}),
            *({"response": 601}, {"response": -1}, {"offered": 5}, {"offered": until + 1}, {"channel": bytes(32)}),
        )
        for each in wrong:
            changes = each
            with pytest.raises(BadReceipt):
                await client.ask_cover(world.pair.terms, COVER, until, price_max=BOND)
        assert read_taken(world.store) == []
        changes = {}
        held = await client.ask_cover(world.pair.terms, COVER, until, price_max=BOND)
        await world.reserve(held)
        await world.caught_up(tower)
        for each in ({"seq0": 4}, {"seq1": 1}, {"cover": bytes(32)}, {"since": 2**40}, {"since": -1}):
            changes = each
            with pytest.raises(BadReceipt):
                await client.ask_promise(held, world.proof(0, 5, 5), None)
        assert read_promises(world.store, held.name) == []


async def test_a_client_keeps_nothing_that_the_tower_has_not_signed(
    world: CoverWorld, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.bonded()
    async with world.house.open() as (tower, at):
        await world.caught_up(tower)
        client = world.covers(at)
        held = await world.covered(tower, client)
        assert tower.service.covers is not None
        monkeypatch.setattr(tower.service.covers, "key", MALLORY)
        with pytest.raises(BadReceipt, match="not signed"):
            await client.ask_promise(held, world.proof(0, 5, 5), None)
        monkeypatch.setattr(tower.service.covers, "key", TOWER)
        monkeypatch.setattr(tower.service.covers, "_signed", lambda cover: CoverOffer(cover, MALLORY.sign(bytes(32))))
        with pytest.raises(BadReceipt, match="not signed"):
            await client.ask_cover(world.pair.terms, 1, world.until(), price_max=BOND)
    assert read_taken(world.store) == [held] and read_promises(world.store, held.name) == []


async def test_of_two_promises_of_one_second_both_are_kept(world: CoverWorld, autojump_clock: MockClock) -> None:
    """What was promised once is owed, though less is promised after it."""
    world.house.policy = msgspec.structs.replace(world.house.policy, budget=1, courtesy=1)
    await world.bonded()
    async with world.house.open() as (tower, at):
        await world.caught_up(tower)
        client = world.covers(at)
        held = await world.covered(tower, client)
        more = await client.ask_promise(held, world.proof(0, 6, 5), world.proof(1, 6, 5))
        less = await client.ask_promise(held, None, world.proof(1, 2, 5))
        assert more.promise.since == less.promise.since
        assert read_promises(world.store, held.name) == [less, more]
        await trio.sleep(2)
    await world.cheat_pair()
    world.chain.advance(PERIOD + 1)
    assert await world.accuse() == [""]


async def test_a_promise_goes_when_another_that_has_begun_for_sure_says_as_much(
    world: CoverWorld, autojump_clock: MockClock
) -> None:
    await world.bonded()
    async with world.house.open() as (tower, at):
        await world.caught_up(tower)
        client = world.covers(at)
        held = await world.covered(tower, client)
        first = await world.promised(client, held, 3)
        second = await world.promised(client, held, 5)
        assert read_promises(world.store, held.name) == [first, second]
        await trio.sleep(SURELY)
        world.chain.mine()
        await world.caught_up(tower)
        third = await world.promised(client, held, 4)
        assert read_promises(world.store, held.name) == [second, third], (
            "the first says less than the second, which has begun"
        )


async def test_who_speaks_another_version_is_told(world: CoverWorld, autojump_clock: MockClock) -> None:
    for message in (AskCover(VERSION + 1, world.pair.terms, 1, 1), AskPromise(VERSION + 1, bytes(32), None, None)):
        with pytest.raises(MalformedMessage, match="version"):
            decode(encode(message))
