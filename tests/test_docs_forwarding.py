"""docs/forwarding.md says what the code does: limits, failures and margins."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tallystick.channels.limits import LOCKS_MAX, Policy
from tallystick.router.codes import Code
from tallystick.router.forwarding import forwarder, relay, service
from tallystick.router.forwarding.exposure import ExposureLimits
from tallystick.router.forwarding.forwarder import ForwardingLimits
from tallystick.router.forwarding.jamming import JammingLimits
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.objects import MARGIN_MAX
from tallystick.router.receiving.payee import PayeeOptions
from tallystick.router.sending.outgoing import SLACK
from tallystick.settlement.chain import CooperativeCloseCall, OpenCall, RegisterSecretCall
from tallystick.settlement.enforcement.budgets import DutyPolicy
from tallystick.settlement.enforcement.following import BEHIND_SECONDS
from tallystick.settlement.ethereum.transactions import GAS

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "forwarding.md").read_text("utf-8")
LIMITS, JAMMING, DUTIES, EXPOSURE = ForwardingLimits(), JammingLimits(), DutyPolicy(), ExposureLimits()


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("or {} s of chain time pass", LIMITS.unsigned_max),
        ("has to leave {} s for others", LIMITS.expiry_min),
        ("bind money for {} s at most", LIMITS.expiry_max),
        ("of more than {} s is refused", MARGIN_MAX),
        ("all locks live {} s longer", SLACK),
        ("the fee is {} millionths", RoutingOptions().policy.fee_ppm),
        ("is registered {} s before its lock expires", DUTIES.secret_margin),
        ("a secret is paid for ({} s)", Policy().reveal_margin),
        ("left it unpaid for {} s", DUTIES.unlock_patience),
        ("with less than {} s left", Policy().lock_expiry_min),
        ("lets a held payment go {} s before", PayeeOptions().claim // 2),
        ("claim costs ({} gas)", GAS[RegisterSecretCall]),
        ("{} times the cost of a claim in value", EXPOSURE.claims),
        ("and {} in number", EXPOSURE.count),
        ("small below {} times that cost", EXPOSURE.rise),
        ("a channel costs {} gas", GAS[OpenCall] + GAS[CooperativeCloseCall]),
        ("the limit is worth {}", EXPOSURE.claims * GAS[RegisterSecretCall]),
        ("The slots ({})", LOCKS_MAX),
        ("{} % of the slots", JAMMING.general_slots),
        ("{} % of the value are for everybody", JAMMING.general_value),
        ("In {} % of each", JAMMING.congestion_slots),
        ("holds it for more than {} s", JAMMING.patience),
        ("a half-life of {} days", JAMMING.half_life // 86_400),
    ],
)
def test_the_limits_that_the_page_quotes_are_in_force(sentence: str, value: int) -> None:
    assert sentence.format(f"{value:,}") in " ".join(PAGE.split())


def test_the_words_for_shares_and_weeks_are_true() -> None:
    assert JAMMING.stranger == 50 and JAMMING.congestion_value == JAMMING.congestion_slots
    assert JAMMING.banned == 14 * 86_400


def test_the_time_to_register_a_secret_that_was_paid_at_the_last_moment_adds_up() -> None:
    left = Policy().reveal_margin - BEHIND_SECONDS
    assert f"may be {BEHIND_SECONDS} s old; of the other {left} s" in " ".join(PAGE.split())
    assert left * 6 // 10 + 3 * 12 <= left and DUTIES.secret_margin >= Policy().reveal_margin
    assert Policy().lock_expiry_min >= Policy().reveal_margin
    assert PayeeOptions().claim // 2 >= Policy().reveal_margin + BEHIND_SECONDS
    assert LIMITS.expiry_min > Policy().reveal_margin + BEHIND_SECONDS


def test_nobody_gains_by_taking_all_that_is_not_worth_a_claim() -> None:
    assert EXPOSURE.claims * GAS[RegisterSecretCall] < GAS[OpenCall] + GAS[CooperativeCloseCall]


def test_the_failures_that_the_page_lists_are_those_that_the_forwarder_gives() -> None:
    listed = set(re.findall(r"[A-Z]+(?:_[A-Z]+)+", PAGE))
    assert listed <= set(Code.__members__)
    given = set()
    for module in (forwarder, relay, service):
        assert module.__file__ is not None
        given |= set(re.findall(r"Code\.([A-Z_]+)", Path(module.__file__).read_text("utf-8")))
    of_the_payee = {"FINAL_INCORRECT_EXPIRY", "INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS"}
    of_the_onion = {"INVALID_ONION_HMAC", "INVALID_ONION_KEY", "INVALID_ONION_VERSION", "INVALID_ONION_PAYLOAD"}
    assert listed - of_the_onion == given - of_the_payee - of_the_onion
