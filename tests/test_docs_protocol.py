"""docs/protocol.md says what the code does: phases, messages, operations, codes and limits."""

from __future__ import annotations

import importlib
import re
import typing
from pathlib import Path
from types import ModuleType

import msgpack
import msgspec
import pytest

from tallystick.channels import limits
from tallystick.channels.errors import Fault
from tallystick.channels.protocol import messages, objects, operations
from tallystick.channels.protocol.core import LEAVES, Phase
from tallystick.channels.protocol.eip712 import TYPES
from tallystick.channels.session import chaintime
from tallystick.channels.session.patience import EXCUSED
from tallystick.channels.session.rules import RULES
from tallystick.sdk.node import openings
from tallystick.settlement.contract.state import Parameters
from tallystick.settlement.enforcement import duties
from tallystick.watchtower import claims, sealing
from tallystick.watchtower import messages as tower_messages
from tallystick.watchtower.tower import TowerPolicy

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "protocol.md").read_text("utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text("utf-8")
POLICY = limits.Policy()


def section(title: str) -> str:
    """Return what stands under a heading, up to the next one."""
    _, found, rest = PAGE.partition(f"# {title}\n")
    assert found, title
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """Return the cells of all table rows, headings included."""
    return [
        [cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"
    ]


def test_the_diagram_of_phases_has_the_arrows_of_the_code_and_no_other() -> None:
    drawn = re.findall(r"^ +([A-Z]+) --> ([A-Z]+)$", section("Phases"), flags=re.MULTILINE)
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == {(before.name, after.name) for before, to in LEAVES.items() for after in to}


def test_the_table_of_phases_names_each_once_and_only_open_signs() -> None:
    table = {row[0]: row[2] for row in rows(section("Phases"))[2:]}
    assert table == {phase.name: "yes" if phase is Phase.OPEN else "no" for phase in Phase}


def test_the_page_prints_the_table_of_what_may_happen_when(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    made = importlib.import_module("rules")
    assert made.written(PAGE) == PAGE, "run: python tools/rules.py --write"
    listed = [row[0].strip("`") for row in rows(section("What may happen when")) if row[0].startswith("`")]
    assert listed.count("Update") == 1 and sorted(listed) == sorted(kind.__name__ for kind in RULES)


@pytest.mark.parametrize("module", [messages, tower_messages])
def test_every_message_is_listed_with_its_number_and_its_fields(module: ModuleType) -> None:
    listed = {int(row[0]): (row[1], row[2]) for row in rows(PAGE) if len(row) == 3 and row[0].isdigit()}
    for kind in typing.get_args(module.Message):
        fields = ", ".join(f"`{name}`" for name in kind.__struct_fields__)
        assert listed[kind.__struct_config__.tag] == (f"`{kind.__name__}`", fields)


def test_no_message_is_listed_that_does_not_exist() -> None:
    listed = {int(row[0]) for row in rows(section("9. Transport and messages")) if len(row) == 3 and row[0].isdigit()}
    kinds = [*typing.get_args(messages.Message), *typing.get_args(tower_messages.Message)]
    assert listed == {kind.__struct_config__.tag for kind in kinds}


def test_the_codes_of_errors_are_those_of_the_code() -> None:
    listed = {int(row[0]): row[1] for row in rows(PAGE) if len(row) == 2 and row[0].isdigit()}
    assert listed == {fault.value: fault.name for fault in Fault}


def test_signed_objects_have_the_fields_that_are_signed() -> None:
    text = section("2. Objects")
    for name, fields in TYPES.items():
        written = ", ".join(f"{field['name']}: {field['type']}" for field in fields)
        plain = re.sub(r"uint8 \(0 or 1\)", "uint8", text)
        assert f"`{name}`, signed" in plain and f"`{written}`" in plain, name


def test_the_operations_of_an_update_are_listed_with_their_numbers_and_fields() -> None:
    listed = {row[0]: (row[1], row[2]) for row in rows(section("4. Updates, off chain")) if row[1].isdigit()}
    kinds = typing.get_args(operations.Operation)
    assert listed == {
        f"`{kind.__name__}`": (
            str(kind.__struct_config__.tag),
            ", ".join(f"`{name}`" for name in kind.__struct_fields__),
        )
        for kind in kinds
    }


def nested(kind: object, found: set[type[msgspec.Struct]]) -> set[type[msgspec.Struct]]:
    """Collect the structs without a number that a type holds, however deep."""
    for inner in typing.get_args(kind):
        nested(inner, found)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if kind.__struct_config__.tag is None:
            found.add(kind)
        for hint in typing.get_type_hints(kind).values():
            nested(hint, found)
    return found


def test_the_objects_in_messages_are_listed_with_their_items_in_order() -> None:
    held: set[type[msgspec.Struct]] = set()
    for kind in typing.get_args(messages.Message):
        nested(kind, held)
    assert {kind.__name__ for kind in held} >= {"SignedProof", "Terms", "Lock"}
    listed = {row[0]: row[1] for row in rows(section("9. Transport and messages")) if len(row) == 2}
    for kind in held:
        assert listed[f"`{kind.__name__}`"] == ", ".join(f"`{name}`" for name in kind.__struct_fields__)
    proof = objects.SignedProof(objects.BalanceProof(objects.ChannelId(bytes(32)), 0, 1), b"w" * 64, b"r" * 64)
    frame = messages.encode(messages.Reestablish(objects.ChannelId(bytes(32)), 1, proof, None, 0))
    assert msgpack.unpackb(frame)[3] == [[bytes(32), 0, 1, 0, 0, bytes(32), 0], b"w" * 64, b"r" * 64]
    assert msgpack.unpackb(frame)[4] is None


@pytest.mark.parametrize(
    ("what", "bounds"),
    [
        ("any message", [limits.MESSAGE_MAX]),
        ("its `challenge_period`", [POLICY.challenge_period_min, POLICY.challenge_period_max]),
        ("`reserve_ppm`", [POLICY.reserve_ppm, limits.RESERVE_PPM_MAX]),
        (
            "how many openings",
            [
                openings.OPENINGS_PER_PEER,
                openings.STRANGERS_OPENINGS,
                openings.CONSIDERED_AT_ONCE,
                openings.OPENING_SECONDS,
            ],
        ),
        ("`Reestablish.signed_seq`", [limits.WINDOW_MAX]),
        (
            "`Update`: size",
            [limits.OPERATIONS_MAX, limits.BATCH_PAYMENTS_MAX, limits.LOCKS_MAX, limits.STREAM_LENGTH_MAX],
        ),
        ("`Update.seen`", [limits.WINDOW_MAX]),
        ("a lock's `expiry`", [POLICY.lock_expiry_min, POLICY.lock_expiry_max]),
        ("locks in number and value", [POLICY.locks]),
        ("how long an `Ack` is held back", [int(POLICY.ack_patience), int(EXCUSED)]),
        ("a secret it got and does not pay for", [POLICY.reveal_margin]),
        ("`Links`", [POLICY.link_margin]),
        ("`valid_until` of a `CloseOffer`", [POLICY.offer_lifetime_max, duties.STAND_IN]),
        ("`valid_until` of a `WithdrawRequest`", [POLICY.offer_lifetime_max]),
        ("texts and reasons", [limits.ERROR_TEXT_MAX]),
    ],
)
def test_what_a_peer_may_choose_is_bounded_as_the_page_says(what: str, bounds: list[int]) -> None:
    (row,) = [row for row in rows(section("What a peer chooses, and how far")) if row[0] == what]
    assert [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*", row[1])] == bounds
    assert limits.ERROR_TEXT_MAX == limits.REASON_MAX


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("fewer than {} pending", limits.LOCKS_MAX),
        ("At most {} updates may be in flight", limits.WINDOW_MAX),
        ("`seq − {} ≤ seen < seq`", limits.WINDOW_MAX),
        ("`seen` may lag at most {} updates", limits.WINDOW_MAX),
        ("(at most {})", limits.BATCH_PAYMENTS_MAX),
        ("before `expiry` ({} s by default)", POLICY.reveal_margin),
        ("only {} s of confirmed chain time", chaintime.MARGIN),
        ("challenge period of at least {} s", POLICY.challenge_period_min),
        ("and at most {} s (what it has", POLICY.challenge_period_max),
        ("the peer's after {} s of", openings.OPENING_SECONDS),
        ("One peer may have {} openings", openings.OPENINGS_PER_PEER),
        ("with this node) {} together", openings.STRANGERS_OPENINGS),
        ("one that has waited for {} s", openings.OPENING_GRACE),
        ("a reserve of {} % of all funding", POLICY.reserve_ppm // 10_000),
        ("live for {} s at most", POLICY.offer_lifetime_max),
        ("does for {} s by default", POLICY.offer_lifetime),
        ("the last {} s", duties.STAND_IN),
        ("`reward_bps`, {} by default", Parameters(1, sealing.Address(bytes(20))).reward_bps),
        ("acknowledges for {} s (by default", int(POLICY.ack_patience)),
        ("or CANCEL_REFUSED has {} s", int(EXCUSED)),
        ("up to {} bytes of onion", limits.ONION_MAX),
        ("frames of at most {} bytes", limits.MESSAGE_MAX),
        ("at most {} bytes each", tower_messages.TOWER_MESSAGE_MAX),
        ("up to {} bytes, or", sealing.PLAIN_SIZES[0]),
        ("or {} if it does not fit", sealing.PLAIN_SIZES[1]),
        ("registers these {} s before they expire", claims.ClaimPolicy().margin),
        ("(at most {}, without ids", claims.TIMELY_MAX),
        ("nonce ({} random bytes)", sealing.NONCE_SIZE),
    ],
)
def test_the_limits_that_the_protocol_page_quotes_are_in_force(sentence: str, value: int) -> None:
    assert sentence.format(f"{value:,}") in " ".join(PAGE.split())


@pytest.mark.parametrize(
    ("what", "value"),
    [
        ("payments in one update", f"{limits.BATCH_PAYMENTS_MAX:,}"),
        ("pending locks per direction", f"{limits.LOCKS_MAX}"),
        (
            "updates in flight",
            f"{POLICY.window} at most: as many as the round trip asks for, from {limits.WINDOW_FIRST} on",
        ),
        ("one message", f"{limits.MESSAGE_MAX:,} bytes"),
        ("memo", f"{limits.MEMO_MAX} bytes"),
        ("reserve", f"{POLICY.reserve_ppm // 10_000} % of all that is in the channel, for either side"),
        ("appointments per client of a tower", f"{TowerPolicy().quota:,}"),
    ],
)
def test_the_limits_that_operators_are_told_are_in_force(what: str, value: str) -> None:
    assert [what, value] in rows(OPERATIONS)
