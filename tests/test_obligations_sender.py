"""The sender's shell: what is stored before what is signed and sent; restarts; outages; who waits is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.storage.sqlite.store import SqliteStore, open_store
from tallystick.channels.storage.store import Moment
from tallystick.settlement.chain import Call, Header, SignedCall, TransactionReceipt, TransferCall
from tallystick.settlement.errors import ChainError, ChainUnavailable, Refusal, TransactionRefused
from tallystick.settlement.sending.moments import NoncesLowered, ObligationStored, read_book
from tallystick.settlement.sending.obligations import Obligation, ObligationStatus
from tallystick.settlement.sending.sender import Sender
from tallystick.settlement.sending.sqlite import SCHEMA

KEY = PrivateKey(b"\x07" * 32)
ELSEWHERE = Address(b"\x02" * 20)


class Ledger:
    """A chain reduced to nonces and receipts: the part of `Chain` that a sender uses."""

    chain_id = 31_337
    contract = ELSEWHERE

    def __init__(self) -> None:
        self.blocks: list[tuple[Header, list[bytes]]] = [(Header(0, bytes(32), bytes(32), 0), [])]
        self.pool: list[bytes] = []
        self.trouble: list[Exception] = []
        self.changed = trio.Event()

    def mine(self, drop: int = 0) -> None:
        """Drop blocks, whose transactions are lost, and mine one with all that waits."""
        del self.blocks[len(self.blocks) - drop :]
        parent = self.blocks[-1][0]
        digest = keccak(parent.hash + b"".join(self.pool) + bytes([drop]))
        self.blocks.append((Header(parent.number + 1, digest, parent.hash, parent.time + 10), self.pool))
        self.pool = []
        self.changed.set()
        self.changed = trio.Event()

    async def _answer(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.trouble:
            raise self.trouble[-1]

    async def head(self) -> Header:
        await self._answer()
        return self.blocks[-1][0]

    async def header(self, number: int) -> Header | None:
        await self._answer()
        return self.blocks[number][0] if number < len(self.blocks) else None

    async def wait(self, known: bytes) -> None:
        await self._answer()
        while self.blocks[-1][0].hash == known:
            await self.changed.wait()

    async def nonce(self, account: Address) -> int:
        await self._answer()
        return sum(len(raws) for _, raws in self.blocks)

    async def fee_price(self) -> int:
        await self._answer()
        return 7

    async def receipt(self, transaction: bytes) -> TransactionReceipt | None:
        await self._answer()
        for header, raws in self.blocks:
            if transaction in map(keccak, raws):
                return TransactionReceipt(transaction, header, True, 0, "")
        return None

    async def submit(self, raw: bytes) -> bytes:
        await self._answer()
        if raw not in self.pool and all(raw not in raws for _, raws in self.blocks):
            self.pool.append(raw)
        return keccak(raw)


class Desk:
    """A store, a sender on it, and a journal of what happened in which order."""

    def __init__(self, directory: Path, chain: Ledger) -> None:
        self.store: SqliteStore = open_store(directory, [SCHEMA], owner="a test", durable=False)
        self.journal: list[str] = []
        self.alarms: list[Alarm] = []
        self.dead = False
        self.sender = Sender(
            key=KEY,
            chain=chain,  # type: ignore[arg-type]  # Ledger has what a sender uses of a Chain
            store=self.store,
            commit=self.commit,
            sign=self.sign,
            gas=lambda call: 10,
            alarm=self.alarms.append,
            jitter=lambda: 0.5,
        )

    async def commit(self, moments: Sequence[Moment]) -> None:
        await trio.lowlevel.checkpoint()
        if self.dead:
            await trio.sleep_forever()
        self.store.commit(moments)
        for moment in moments:
            assert isinstance(moment, ObligationStored)
            obligation = moment.obligation
            hashed = obligation.attempts[-1:] and bool(obligation.attempts[-1].hash)
            self.journal.append(f"store nonce {obligation.nonce} {'signed' if hashed else 'unsigned'}")

    async def sign(self, key: PrivateKey, call: Call, nonce: int, price: int, tip: int, gas: int) -> SignedCall:
        self.journal.append(f"sign {nonce}")
        return SignedCall(msgspec.json.encode((call, nonce, price)), price)


@asynccontextmanager
async def running(desk: Desk) -> AsyncIterator[Sender]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.sender.run)
        yield desk.sender
        nursery.cancel_scope.cancel()
    desk.store.close()


def transfer(identifier: str = "o", amount: int = 1) -> Obligation:
    return Obligation(id=identifier, call=TransferCall(NATIVE, ELSEWHERE, amount), purpose="a test", budget=1_000)


@pytest.fixture
def chain() -> Ledger:
    return Ledger()


async def test_nonce_and_hash_are_stored_before_signing_and_sending(
    tmp_path: Path, chain: Ledger, autojump_clock: trio.testing.MockClock
) -> None:
    desk = Desk(tmp_path, chain)
    async with running(desk) as sender:
        await desk.commit(sender.require(transfer()))
        await trio.sleep(1)
        assert desk.journal == [
            "store nonce None unsigned",
            "store nonce 0 unsigned",
            "sign 0",
            "store nonce 0 signed",
        ]
        for _ in range(3):
            chain.mine()
            await trio.sleep(1)
        assert (await sender.wait("o")).status is ObligationStatus.DONE
        assert sender.statistics().done == 1


async def test_a_crash_before_any_commit_sends_the_same_transaction_after_the_restart(
    tmp_path: Path, chain: Ledger, autojump_clock: trio.testing.MockClock
) -> None:
    for commits in range(1, 4):
        chain.pool.clear()
        directory = tmp_path / str(commits)
        desk = Desk(directory, chain)
        async with running(desk) as sender:
            await desk.commit(sender.require(transfer(amount=commits)))
            while len(desk.journal) < commits:
                await trio.lowlevel.checkpoint()
            desk.dead = True
            await trio.sleep(1)
        before = list(chain.pool)
        desk = Desk(directory, chain)
        async with running(desk):
            await trio.sleep(1)
            assert len(chain.pool) == 1
            assert before in ([], chain.pool)


async def test_an_obligation_is_taken_on_once_whatever_became_of_it(
    tmp_path: Path, chain: Ledger, autojump_clock: trio.testing.MockClock
) -> None:
    desk = Desk(tmp_path, chain)
    async with running(desk) as sender:
        await desk.commit(sender.require(transfer()))
        assert sender.require(transfer()) == ()
        for _ in range(140):
            chain.mine()
            await trio.sleep(1)
        assert sender.obligations() == ()
        assert sender.require(transfer()) == ()
        assert (await sender.wait("o")).resting


async def test_it_is_sent_again_after_a_reorganisation(
    tmp_path: Path, chain: Ledger, autojump_clock: trio.testing.MockClock
) -> None:
    desk = Desk(tmp_path, chain)
    async with running(desk) as sender:
        await desk.commit(sender.require(transfer()))
        await trio.sleep(1)
        chain.mine()
        await trio.sleep(1)
        chain.mine(drop=1)
        await trio.sleep(1)
        assert len(chain.pool) == 1
        for _ in range(3):
            chain.mine()
            await trio.sleep(1)
        assert (await sender.wait("o")).status is ObligationStatus.DONE


@pytest.mark.parametrize(
    "trouble",
    [
        ChainUnavailable("no answer"),
        ChainError("error -32000: something nobody has heard of"),
        TransactionRefused("no coins for the fee", Refusal.INSUFFICIENT_FUNDS),
    ],
)
async def test_trouble_with_the_chain_is_outlived(
    tmp_path: Path, chain: Ledger, trouble: Exception, autojump_clock: trio.testing.MockClock
) -> None:
    desk = Desk(tmp_path, chain)
    if isinstance(trouble, TransactionRefused):
        submit = chain.submit

        async def refuse(raw: bytes) -> bytes:
            if chain.trouble:
                raise trouble
            return await submit(raw)

        chain.submit = refuse  # type: ignore[method-assign]  # only submitting fails in this case
        chain._answer = trio.lowlevel.checkpoint  # type: ignore[method-assign]
    chain.trouble.append(trouble)
    async with running(desk) as sender:
        await desk.commit(sender.require(transfer(amount=0)))  # with coins in it, a want of coins would end it
        for _ in range(20):
            chain.mine()
            await trio.sleep(10)
        assert chain.pool == []
        assert bool(desk.alarms) is isinstance(trouble, TransactionRefused), "of a silent node, who follows it tells"
        chain.trouble.clear()
        for _ in range(4):
            chain.mine()
            await trio.sleep(60)
        assert (await sender.wait("o")).status is ObligationStatus.DONE
        assert sender.statistics().troubled == ()


@pytest.mark.alarm("transaction-held-up")
@pytest.mark.parametrize("trouble", [ChainUnavailable("no state of that block"), ChainError("internal error")])
async def test_a_node_that_tells_heads_and_nothing_that_sending_takes_is_told_of_once(
    tmp_path: Path, chain: Ledger, autojump_clock: trio.testing.MockClock, trouble: Exception
) -> None:
    desk, nonce, ill = Desk(tmp_path, chain), chain.nonce, [True]

    async def unwell(account: Address) -> int:
        if ill:
            raise trouble
        return await nonce(account)

    chain.nonce = unwell  # type: ignore[method-assign]  # only this is not answered
    async with running(desk) as sender:
        for step in range(60):
            if step == 20:
                assert desk.alarms == [] and sender.statistics().troubled == (), "nothing is due"
                await desk.commit(sender.require(transfer()))
            if step == 24:
                assert desk.alarms == [], "an answer or two may be missing"
            chain.mine()
            await trio.sleep(10)
        assert [alarm.kind for alarm in desk.alarms] == [AlarmKind.TRANSACTION_HELD_UP]
        assert str(trouble) in desk.alarms[0].text
        assert len(sender.statistics().troubled) == 1
        ill.clear()
        for _ in range(5):
            chain.mine()
            await trio.sleep(10)
        assert (await sender.wait("o")).status is ObligationStatus.DONE
        assert sender.statistics().troubled == ()


async def test_a_reorganisation_in_mid_observation_leads_to_another_look(
    tmp_path: Path, chain: Ledger, autojump_clock: trio.testing.MockClock
) -> None:
    desk = Desk(tmp_path, chain)
    nonce = chain.nonce
    looks = 0

    async def shaky(account: Address) -> int:
        nonlocal looks
        looks += 1
        if looks == 1:
            chain.mine(drop=1)
        return await nonce(account)

    chain.mine()
    chain.nonce = shaky  # type: ignore[method-assign]  # a branch that changes under the sender's hands
    async with running(desk) as sender:
        await desk.commit(sender.require(transfer()))
        await trio.sleep(1)
        assert looks >= 2
        assert len(chain.pool) == 1


async def test_superseding_wakes_who_waits(
    tmp_path: Path, chain: Ledger, autojump_clock: trio.testing.MockClock
) -> None:
    desk = Desk(tmp_path, chain)
    ended: list[Obligation] = []
    async with running(desk) as sender, trio.open_nursery() as nursery:
        await desk.commit(sender.require(transfer()))

        async def wait() -> None:
            ended.append(await sender.wait("o"))

        nursery.start_soon(wait)
        await trio.sleep(1)
        assert ended == []
        await desk.commit(sender.supersede("o", "somebody else did it"))
        await trio.sleep(1)
        assert [obligation.reason for obligation in ended] == ["somebody else did it"]
        assert sender.supersede("o", "again") == ()
        assert len(chain.pool) == 1


async def test_waiting_for_what_was_never_required_is_an_error(
    tmp_path: Path, chain: Ledger, autojump_clock: trio.testing.MockClock
) -> None:
    desk = Desk(tmp_path, chain)
    with pytest.raises(InvalidInput, match="require it first"):
        await desk.sender.wait("nothing")
    with pytest.raises(InvalidInput, match="budget above zero"):
        desk.sender.require(msgspec.structs.replace(transfer(), budget=0))
    desk.store.close()


OLD_OBLIGATION = bytes.fromhex(
    "de0015a26964b86465706f7369743a30613233653766326231626334663063a463616c6c9502c42005050505050505050505050505050505"
    "0505050505050505050505050505050501ce000f4240c4140000000000000000000000000000000000000000a7707572706f7365a7646570"
    "6f736974a6627564676574cf016345785d8a0000a76368616e6e656cc4200505050505050505050505050505050505050505050505050505"
    "050505050505a8646561646c696e65c0aa6e6f745f6265666f726500a673746174757302a6726561736f6ea0a774726f75626c65a0a56e6f"
    "6e636507a8617474656d707473929405c2c4200101010101010101010101010101010101010101010101010101010101010101c4009409c2"
    "c4200202020202020202020202020202020202020202020202020202020202020202c403726177a666696c6c6572c2a5666c6f6f7200ab66"
    "697273745f626c6f636b0caa66697273745f74696d65cd04b0a772656365697074c0ad6d697373696e675f73696e63650ea5747269657301"
    "a57370656e7446a772657374696e67c2"
)
"""As version 0.1.0 stored it."""


def test_an_obligation_of_version_0_1_0_is_carried_on(tmp_path: Path) -> None:
    store = open_store(tmp_path, [SCHEMA], owner="a test", durable=False)
    store.commit([ObligationStored(31_337, KEY.address, transfer("deposit:0a23e7f2b1bc4f0c"))])
    store._writer.execute("UPDATE obligations SET data = ?, highest_nonce = 7", (OLD_OBLIGATION,))
    book = read_book(store, 31_337, KEY.address)
    store.close()
    (found,) = book.obligations.values()
    assert (found.nonce, found.status, found.missing_since, book.highest_nonce) == (7, ObligationStatus.SENT, 14, 7)
    assert [attempt.price for attempt in found.attempts] == [5, 9]
    assert (found.past, found.stalled, found.ended, found.far) == ((), False, None, False)


def test_nonces_that_turned_out_to_be_free_are_free_after_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path, [SCHEMA], owner="a test", durable=False)
    bound = msgspec.structs.replace(transfer(), status=ObligationStatus.SENT, nonce=1_000_000)
    moved = msgspec.structs.replace(bound, status=ObligationStatus.WAITING, nonce=None)
    store.commit([ObligationStored(31_337, KEY.address, bound)])
    assert read_book(store, 31_337, KEY.address).highest_nonce == 1_000_000
    store.commit([NoncesLowered(31_337, KEY.address, 4), ObligationStored(31_337, KEY.address, moved)])
    assert read_book(store, 31_337, KEY.address).highest_nonce == 4
    store.close()


async def test_a_duty_that_was_given_up_is_taken_on_again_after_a_pause_and_costs_no_more_in_all(
    tmp_path: Path, chain: Ledger, autojump_clock: trio.testing.MockClock
) -> None:
    desk = Desk(tmp_path, chain)
    sender, duty, names = desk.sender, transfer("duty"), []
    for head in range(40):
        for moment in sender.pursue(duty, head):
            assert isinstance(moment, ObligationStored)
            names.append((moment.obligation.id, head, moment.obligation.budget))
            given_up = msgspec.structs.replace(
                moment.obligation, status=ObligationStatus.QUARANTINED, spent=100, ended=head, resting=True
            )
            sender._book = sender._book.with_(given_up)
            desk.store.commit([ObligationStored(chain.chain_id, sender.account, given_up)])
    assert [name for name, _, _ in names] == ["duty", "duty/1", "duty/2", "duty/3", "duty/4", "duty/5"]
    assert [head for _, head, _ in names] == [0, 1, 2, 5, 12, 27]
    assert [budget for _, _, budget in names] == [1_000, 900, 800, 700, 600, 500]
    desk.store.close()


async def test_a_duty_that_ended_at_a_head_that_never_was_is_taken_on_again_once_the_true_one_is_told(
    tmp_path: Path, chain: Ledger, autojump_clock: trio.testing.MockClock
) -> None:
    desk = Desk(tmp_path, chain)
    given_up = msgspec.structs.replace(transfer("duty"), status=ObligationStatus.QUARANTINED, ended=2**62, resting=True)
    desk.store.commit([ObligationStored(chain.chain_id, desk.sender.account, given_up)])
    assert desk.sender.pursue(transfer("duty"), 5) == (), "nothing says yet that there is no such head"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(desk.sender.run)
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert len(desk.sender.pursue(transfer("duty"), 5)) == 1
    desk.store.close()


async def test_a_duty_under_way_may_cost_more_once_more_is_at_stake(
    tmp_path: Path, chain: Ledger, autojump_clock: trio.testing.MockClock
) -> None:
    desk = Desk(tmp_path, chain)
    desk.sender.pursue(transfer("duty"), 0)
    for budget, moments in ((900, 0), (1_200, 0), (5_000, 1), (4_000, 0)):
        assert len(desk.sender.pursue(msgspec.structs.replace(transfer("duty"), budget=budget), 1)) == moments
    found = desk.sender.find("duty")
    assert found is not None and found.budget == 5_000
    desk.store.close()


async def test_a_duty_that_ended_does_not_come_back_because_the_disk_has_not_heard_of_it(
    tmp_path: Path, chain: Ledger, autojump_clock: trio.testing.MockClock
) -> None:
    """It is at rest, and as it waits for the disk, which says that it is under way, more than before is at stake."""
    desk, answers = Desk(tmp_path, chain), list[Sequence[Moment]]()
    desk.store.commit(desk.sender.require(transfer("duty")))
    desk.sender.supersede("duty", "the channel has moved on")

    async def commit(moments: Sequence[Moment]) -> None:
        answers.append(desk.sender.pursue(msgspec.structs.replace(transfer("duty"), budget=5_000), 1))
        await desk.commit(moments)

    desk.sender.commit = commit
    async with running(desk) as sender:
        await trio.sleep(1)
        assert answers == [()] and sender.obligations() == ()
        found = sender.find("duty")
        assert found is not None and found.status is ObligationStatus.SUPERSEDED and found.budget == 1_000
