"""A real node answers what its OpenAPI document offers as the document says; `make soak` asks far more of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulation.api_fuzz import fuzz
from tallystick.sdk.control.operations import operations

HARD = {
    *("POST /invoices/{payment_hash}/settle", "POST /rebalance", "POST /claim", "POST /pay/across", "POST /swap"),
    *("GET /rates", "POST /rates", "POST /rates/remove", "GET /maker", "POST /virtual"),
}
"""What takes more than a request that is right: a payment that is held, a peer that has received enough, a payout that
was refused, a maker between two chains; to be one; a hub."""


@pytest.mark.processes
async def test_a_node_answers_as_its_document_says(tmp_path: Path) -> None:
    asked = await fuzz(tmp_path, seed=1, examples=5, phases="fuzzing")
    assert not asked.has_failed, asked.said
    assert asked.asked == {f"{one.method} {one.path}" for one in operations()}
    assert asked.asked - asked.done <= HARD, "it is refused whatever it asks: see api_hooks"
