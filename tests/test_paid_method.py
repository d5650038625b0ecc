"""The method `tallystick`: what a challenge asks comes back as it was written, and what shows its payment."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulation.till import Till
from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.testing.scheduling import simulate
from tallystick.paid.method import CallCharge, charge_for, read_charge, shows_payment
from tallystick.paid.scheme.challenges import PaymentChallenge
from tallystick.paid.scheme.encoding import write_object

ASSETS = st.just("0x" + 40 * "0") | st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())


def charge(amount: int = 5, asset: str = "0x" + 40 * "0", *, is_held: bool = True) -> tuple[CallCharge, str]:
    """Return a charge for a fresh invoice, and the invoice's secret."""
    made = simulate(lambda: Till().create_invoice(amount, "x", lifetime=600, hold=True, asset=asset), 0)
    return charge_for(made.invoice, is_held=is_held), made.secret


@given(st.integers(1, AMOUNT_MAX), ASSETS, st.booleans())
def test_a_charge_comes_back(amount: int, asset: str, is_held: bool) -> None:
    asked, _ = charge(amount, asset, is_held=is_held)
    assert asked.amount == amount and asked.currency in ("native", asset)
    request = write_object(asked.to_request())
    challenge = PaymentChallenge(realm="r", method="tallystick", intent="charge", request=request)
    assert read_charge(challenge) == asked


def test_an_invoice_without_an_amount_is_no_charge() -> None:
    with pytest.raises(InvalidInput):
        charge_for("tally1337", is_held=True)


@pytest.mark.parametrize("is_held", [True, False])
def test_a_hash_shows_a_payment_only_where_the_payer_cannot_have_the_secret(is_held: bool) -> None:
    asked, secret = charge(is_held=is_held)
    assert hashlib.sha256(bytes.fromhex(secret)).hexdigest() == asked.payment_hash
    assert shows_payment({"secret": secret}, asked)
    assert shows_payment({"paymentHash": asked.payment_hash}, asked) == is_held
    for wrong in (
        {},
        {"secret": asked.payment_hash},
        {"paymentHash": secret},
        {"secret": "", "paymentHash": asked.payment_hash},
    ):
        assert not shows_payment(wrong, asked)
