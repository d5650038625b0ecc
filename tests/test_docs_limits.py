"""docs/operations.md tells the limits that the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tallystick.channels import limits
from tallystick.channels.node import peers
from tallystick.channels.transport import connection_limit, descriptors, turns, wires
from tallystick.channels.transport import links as transport
from tallystick.router.gossip.policy import DAY, GossipPolicy
from tallystick.sdk.bench.hostile import ATTACKS
from tallystick.watchtower import appointments, intake, monitoring, quotas
from tallystick.watchtower.claims import SHARE, ClaimPolicy

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "operations.md").read_text("utf-8")
ROWS = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?(?: \| [^|]+?)?) \|$", PAGE, flags=re.MULTILINE))
GOSSIP = GossipPolicy()
CLAIMS = ClaimPolicy()


@pytest.mark.parametrize(
    ("row", "values"),
    [
        ("payments in one update", (limits.BATCH_PAYMENTS_MAX,)),
        ("pending locks per direction", (limits.LOCKS_MAX,)),
        ("updates in flight", (limits.WINDOW_MAX,)),
        ("one message", (limits.MESSAGE_MAX,)),
        ("memo", (limits.MEMO_MAX,)),
        ("descriptors that no peer's connection may take", (descriptors.RESERVED,)),
        ("descriptors that a daemon asks the system for", (descriptors.DESCRIPTORS_WANTED,)),
        ("inbound connections before they have proved a key", (descriptors.HANDSHAKES_MAX,)),
        ("inbound connections of strangers", (descriptors.STRANGERS_MAX,)),
        ("inbound connections in all", (descriptors.LINKS_MAX,)),
        (
            "connections taken from the system per second",
            (int(transport.ACCEPTS_RATE), int(transport.ACCEPTS_BURST), transport.BACKLOG),
        ),
        (
            "connections of the control API on which its token was not shown yet",
            (descriptors.CONTROL_STRANGERS_MAX,),
        ),
        ("the loop's time for requests without the token", (round(100 * connection_limit.REFUSALS_PART),)),
        ("the loop's time for handshakes", (round(100 * transport.HANDSHAKE_PART),)),
        (
            "the loop's time for strangers' messages",
            (round(100 * peers.STRANGERS_PART), round(1e3 * turns.TURN_SECONDS)),
        ),
        ("memory of what waits to be sent to them", (wires.STRANGERS_QUEUE_MAX,)),
        (
            "questions to the chain for their gossip",
            (round(GOSSIP.strangers_lookup_rate), round(GOSSIP.strangers_lookup_burst)),
        ),
        (
            "gossip that is sent in answer to them",
            (round(GOSSIP.strangers_serve_rate), round(GOSSIP.strangers_serve_burst)),
        ),
        (
            "memory of what waits to be sent, before no more is read from it",
            (wires.STRANGER_QUEUE_MAX, wires.QUEUE_BYTES_MAX),
        ),
        (
            "pings, errors, messages about unknown channels and the like, per second",
            (int(wires.STRANGER_UNPAID_RATE), int(wires.UNPAID_RATE)),
        ),
        (
            "time for which a receipt promises that an appointment is kept",
            (quotas.TERM // DAY, quotas.RENEW // DAY),
        ),
        ("appointments of all clients", (quotas.APPOINTMENTS_MAX,)),
        ("appointments from one address", (quotas.SHARE,)),
        ("new appointments from one address per second", (int(quotas.NEW_RATE), int(quotas.NEW_BURST))),
        ("the loop's time for clients", (round(100 * appointments.CLIENTS_PART),)),
        ("appointments in one commit, for which a block's commit waits at most", (intake.GROUP_MAX,)),
        (
            "connections of those who read its metrics, and the loop's time for them",
            (monitoring.MONITORS_MAX, round(100 * monitoring.MONITORS_PART)),
        ),
        ("seconds before a lock expires at which what pays for it is registered (`--claim-margin`)", (CLAIMS.margin,)),
        ("fees for registering what pays for one lock (`--claim-budget`)", (10, len(str(CLAIMS.budget)) - 1)),
        (
            "the same for all in a day of chain time (`--claims-daily`), and the part of it for one address",
            (10, len(str(CLAIMS.daily)) - 1, SHARE),
        ),
        ("the same at once", (int(wires.STRANGER_UNPAID_BURST), int(wires.UNPAID_BURST))),
    ],
)
def test_a_row_tells_the_values_of_the_code_in_their_order(row: str, values: tuple[int, ...]) -> None:
    told = [int(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\d|\d", ROWS[row])]
    assert tuple(told[: len(values)]) == values


def test_every_attack_of_the_hostile_measurement_is_explained_with_its_rate() -> None:
    page = (Path(__file__).resolve().parent.parent / "docs" / "performance.md").read_text("utf-8")
    section = page.partition("## While strangers flood the doors")[2].partition("## Over several hops")[0]
    told = dict(re.findall(r"^\| (\w+) \| ([^|]*[a-z][^|]*) \|$", section, flags=re.MULTILINE))
    told.pop("attack", None)
    assert set(told) == set(ATTACKS)
    for attack, (count, rate) in ATTACKS.items():
        assert f"{count if attack == 'idle' else round(rate):,}" in told[attack]
