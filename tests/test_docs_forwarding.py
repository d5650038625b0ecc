"""docs/forwarding.md says what the code does: limits, failures and margins."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tallystick.channels.limits import LOCKS_MAX, Policy
from tallystick.router import forwarder, service
from tallystick.router.codes import Code
from tallystick.router.forwarder import ForwardingLimits
from tallystick.router.jamming import JammingLimits
from tallystick.router.service import RoutingOptions
from tallystick.sdk.duties import DutyPolicy

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "forwarding.md").read_text("utf-8")
LIMITS, JAMMING, DUTIES = ForwardingLimits(), JammingLimits(), DutyPolicy()


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("or {} s of chain time pass", LIMITS.unsigned_max),
        ("has to leave {} s for others", LIMITS.expiry_min),
        ("bind money for {} s at most", LIMITS.expiry_max),
        ("the fee is {} millionths", RoutingOptions().policy.fee_ppm),
        ("is registered {} s before its lock expires", DUTIES.secret_margin),
        ("a secret is paid for ({} s)", Policy().reveal_margin),
        ("left it unpaid for {} s", DUTIES.unlock_patience),
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


def test_the_failures_that_the_page_lists_are_those_that_the_forwarder_gives() -> None:
    listed = set(re.findall(r"[A-Z]+(?:_[A-Z]+)+", PAGE))
    assert listed <= set(Code.__members__)
    given = set()
    for module in (forwarder, service):
        assert module.__file__ is not None
        given |= set(re.findall(r"Code\.([A-Z_]+)", Path(module.__file__).read_text("utf-8")))
    of_the_payee = {"FINAL_INCORRECT_EXPIRY", "INCORRECT_OR_UNKNOWN_PAYMENT_DETAILS"}
    of_the_onion = {"INVALID_ONION_HMAC", "INVALID_ONION_KEY", "INVALID_ONION_VERSION", "INVALID_ONION_PAYLOAD"}
    assert listed - of_the_onion == given - of_the_payee - of_the_onion
