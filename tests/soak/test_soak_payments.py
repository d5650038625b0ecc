"""Every crash point of a payment over three hops."""

from __future__ import annotations

import msgspec
import pytest

from tallystick.sdk.testing.journeys import check_crash, crash_points, make_payment

pytestmark = pytest.mark.soak


def test_every_crash_point_of_a_payment_over_three_hops() -> None:
    expected = make_payment(None)
    for crash in crash_points(expected.effects):
        check_crash(crash, expected)


@pytest.mark.parametrize("again", range(12))
def test_every_crash_point_with_a_crash_in_the_recovery(again: int) -> None:
    expected = make_payment(None)
    for crash in crash_points(expected.effects, every=2):
        check_crash(msgspec.structs.replace(crash, again=again), expected)
