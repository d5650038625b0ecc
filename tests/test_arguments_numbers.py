"""Numbers that no float can hold are refused at the door, not met by arithmetic behind it."""

from __future__ import annotations

import pytest

from tallystick.channels.errors import InvalidInput
from tallystick.channels.values.argument_rules import Real


@pytest.mark.parametrize("huge", [10**400, -(10**400), 2**1024], ids=["large", "small", "edge"])
def test_a_whole_number_beyond_floats_is_no_number_of_seconds(huge: int) -> None:
    with pytest.raises(InvalidInput, match="timeout must be a number"):
        Real().take(huge, "timeout")


def test_the_largest_numbers_that_floats_hold_pass() -> None:
    assert Real().take(2**1022, "timeout") + 1.0 == float(2**1022)
