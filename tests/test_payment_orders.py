"""What was ordered and stored: it is what is paid for, and it never keeps a node from living or from starting."""

from __future__ import annotations

import pytest

from tallystick.channels.errors import InvalidInput
from tallystick.channels.node.alarms import AlarmKind
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.errors import PaymentFailed, Unpaid
from tallystick.router.objects import NodeKey
from tallystick.router.sending.payments import Order, PaymentOrdered
from tallystick.sdk.testing.world import open_world


def test_an_invoice_for_any_amount_is_not_paid_twice_with_another_amount() -> None:
    async def main() -> None:
        async with open_world(1) as world:
            alice, bob = await world.start("alice"), await world.start("bob")
            await alice.open_channel(world.address("bob"), 10_000_000)
            invoice = await bob.create_invoice(None, "what you like")
            receipt = await alice.pay(invoice.text, amount=100)
            with pytest.raises(InvalidInput, match="100"):
                await alice.pay(invoice.text, amount=5_000)
            assert await alice.pay(invoice.text, amount=100) == receipt
            assert await alice.pay(invoice.text) == receipt
            assert bob.invoice(invoice.payment_hash).received == 100

    simulate(main, 1)


def test_another_amount_is_refused_while_the_payment_is_on_its_way_too() -> None:
    async def main() -> None:
        async with open_world(1) as world:
            alice, bob = await world.start("alice"), await world.start("bob")
            await alice.open_channel(world.address("bob"), 10_000_000)
            held = await bob.create_invoice(1_000, hold=True)
            world.attempt("alice", lambda node: node.pay(held.text))
            assert await world.until(lambda: bool(bob.routing.receiving.held_payments), 30)
            with pytest.raises(InvalidInput):
                await alice.pay(held.text, amount=1_500)

    simulate(main, 1)


def test_two_payees_of_one_hash_are_not_told_to_be_paid_by_one_payment() -> None:
    async def main() -> None:
        async with open_world(1) as world:
            alice, bob, carol = [await world.start(name) for name in ("alice", "bob", "carol")]
            for name in ("bob", "carol"):
                await alice.open_channel(world.address(name), 10_000_000)
            first = await bob.create_invoice(1_000, "tea")
            second = await carol.create_invoice(1_000, "tea", payment_hash=first.payment_hash)
            await alice.pay(first.text)
            with pytest.raises(InvalidInput, match="somebody else"):
                await alice.pay(second.text)
            assert not carol.invoice(second.payment_hash).received

    simulate(main, 1)


@pytest.mark.alarm("payment-set-aside")
@pytest.mark.parametrize("flaw", ["its fee limit is negative", "it is for ourselves"])
def test_a_stored_order_that_cannot_be_planned_is_set_aside_and_the_node_starts(flaw: str) -> None:
    async def main() -> None:
        async with open_world(1) as world:
            alice, bob = await world.start("alice"), await world.start("bob")
            await alice.open_channel(world.address("bob"), 10_000_000)
            bad = Order(
                payment_hash=b"h" * 32,
                target=NodeKey(bytes((bob if "fee" in flaw else alice).key.public)),
                amount=1_000,
                max_fee=-1 if "fee" in flaw else 5,
                lock_seconds=3_600,
                gives_up=2e10,
                created=1.0,
            )
            await alice.writer.commit([PaymentOrdered(bad, first=True)])  # as a version did that looked less closely
            await world.crash("alice")
            alice = await world.start("alice")
            with pytest.raises(PaymentFailed) as failed:
                await alice.routing.paying.receipt(bad.payment_hash)
            assert failed.value.reason is Unpaid.FAULT
            assert [alarm.kind for alarm in alice.alarms] == [AlarmKind.PAYMENT_SET_ASIDE]
            assert bad.payment_hash.hex()[:8] in alice.alarms[0].text
            assert (await alice.pay((await bob.create_invoice(700)).text)).amount == 700
            await world.crash("alice")
            alice = await world.start("alice")
            assert not alice.alarms and alice.payment(bad.payment_hash).reason is Unpaid.FAULT

    simulate(main, 1)


def test_a_search_that_fails_ends_its_payment_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with open_world(1) as world:
            alice, bob = await world.start("alice"), await world.start("bob")
            await alice.open_channel(world.address("bob"), 10_000_000)
            planner = alice.routing.maps.of(NATIVE).planner
            plan, answers = planner.planning, iter([ZeroDivisionError("no sense"), None])

            def broken(*question: object, **more: object) -> object:
                error = next(answers, None)
                if error is not None:
                    raise error
                return plan(*question, **more)  # type: ignore[arg-type]  # as it came

            monkeypatch.setattr(planner, "planning", broken)
            with pytest.raises(PaymentFailed, match="ZeroDivisionError") as failed:
                await alice.pay((await bob.create_invoice(700)).text)
            assert failed.value.reason is Unpaid.FAULT and len(alice.alarms) == 1
            assert (await alice.pay((await bob.create_invoice(700)).text)).amount == 700

    simulate(main, 1)


def test_what_cannot_be_an_amount_is_not_probed_for() -> None:
    async def main() -> None:
        async with open_world(1) as world:
            alice, bob = await world.start("alice"), await world.start("bob")
            await alice.open_channel(world.address("bob"), 10_000_000)
            for amount in (0, -1, 2**128, 10**5_000):
                with pytest.raises(InvalidInput, match="amount"):
                    await alice.probe(NodeKey(bytes(bob.key.public)), amount)
            assert not alice.payments(probes=True)

    simulate(main, 1)
