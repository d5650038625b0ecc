"""docs/gossip.md says what the code does: announcements, messages, limits."""

from __future__ import annotations

import re
import typing
from pathlib import Path

import msgspec
import pytest

from tallystick.router.gossip import announcements, markets, reconciliation
from tallystick.router.gossip import wire as gossip_wire
from tallystick.router.gossip.policy import GossipPolicy
from tallystick.router.network import private_channels

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "gossip.md").read_text("utf-8")
POLICY = GossipPolicy()
MESSAGES = (*typing.get_args(gossip_wire.Message), private_channels.Told)


def test_the_announcements_have_the_fields_that_are_signed() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| `(\w+: .*)` \|$", PAGE, flags=re.MULTILINE))
    assert listed == {
        name: ", ".join(f"{field['name']}: {field['type']}" for field in fields)
        for name, fields in announcements.TYPES.items()
    }


def test_every_message_is_listed_with_its_number_and_its_fields() -> None:
    listed = re.findall(r"^\| (\d+) \| (.*?) \| (.*?) \|$", PAGE, flags=re.MULTILINE)
    assert {int(number): (name, fields) for number, name, fields in listed} == {
        kind.__struct_config__.tag: (f"`{kind.__name__}`", ", ".join(f"`{name}`" for name in kind.__struct_fields__))
        for kind in MESSAGES
    }
    assert {kind.__struct_config__.tag for kind in MESSAGES} <= set(gossip_wire.TAGS)


def test_every_limit_is_listed_with_its_default() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| ([\d,.]+) \|$", PAGE, flags=re.MULTILINE))
    assert listed == {name: f"{value:,}" for name, value in msgspec.structs.asdict(POLICY).items()}


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("at most {} bytes of printable", announcements.ALIAS_BYTES_MAX),
        ("announces at most {} addresses", announcements.ADDRESSES_MAX),
        ("older than {} days or", int(POLICY.stale) // 86_400),
        ("or more than {} s ahead", POLICY.skew),
        ("News of the last {} s", POLICY.young),
        ("and every {} s, a node compares", POLICY.reconcile),
        ("compares {} digests", reconciliation.BUCKETS),
        ("renewed after {} days", int(POLICY.refresh) // 86_400),
        ("each channel again after {} s", POLICY.recheck),
        ("At most {} channels are kept in the chain's coin", POLICY.channels_max),
        ("and {} in each other asset", POLICY.asset_channels_max),
        ("share another {}.", POLICY.asset_channels_max),
        ("counts for {} announcements", POLICY.lookup_cost),
        ("{} offers at most", markets.OFFERS_MAX),
        ("no longer than {} s", markets.MARKET_LIFE_MAX),
        ("Of {} makers at most", POLICY.markets_max),
        ("after {} s, and it stands", int(POLICY.market_refresh)),
        ("it stands for {} s", POLICY.market_life),
        ("may change {} times at once", int(POLICY.update_burst)),
        ("every {} s. What is kept", POLICY.update_every),
        ("At most {} announcements are in one message", gossip_wire.ITEMS_MAX),
        ("An invoice names up to {} of the channels", private_channels.OFFERED),
        ("digests of {} bytes", reconciliation.DIGEST_SIZE),
        ("the first {} of the channel updates", reconciliation.UPDATE_BUCKETS),
        ("the first {} bytes of an announcement's digest", reconciliation.FINGERPRINT_SIZE),
    ],
)
def test_the_limits_that_the_page_quotes_are_in_force(sentence: str, value: float) -> None:
    assert sentence.format(f"{value:,}") in " ".join(PAGE.split())
