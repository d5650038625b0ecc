"""docs/onions.md says what the code does: records, codes, sizes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tallystick.router.codes import BADONION, NODE, PERM, UPDATE, Code
from tallystick.router.invoices import invoice
from tallystick.router.onion import payload, sphinx
from tallystick.router.onion.failures import NOTICE_SIZE, Failure, first_wrap

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "onions.md").read_text("utf-8")


def rows(section: str) -> list[list[str]]:
    """Return the cells of the rows of the first table under a heading."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_failure_code_is_there_with_its_number_flags_and_words() -> None:
    flags = {"BADONION": BADONION, "PERM": PERM, "NODE": NODE, "UPDATE": UPDATE}
    assert [(int(row[0].strip("`"), 16), row[1], row[4]) for row in rows("Failures")] == [
        (int(code), code.name.lower(), code.meaning) for code in Code
    ]
    for row in rows("Failures"):
        number = int(row[0].strip("`"), 16)
        assert row[2].replace("—", "").split() == [name for name, flag in flags.items() if number & flag]
        assert ("update" in row[3]) == bool(number & UPDATE)


def test_every_record_of_a_payload_and_of_an_invoice_is_there() -> None:
    assert {int(row[0]) for row in rows("Onion packets")} == set(payload._ALL)
    assert {int(row[0]) for row in rows("Onion packets") if row[1] != "payee"} == set(payload._FOR_FORWARDER)
    assert {int(row[0]) for row in rows("Invoices")} == set(invoice._KNOWN)
    assert {int(row[0]) for row in rows("Invoices") if row[1] == "yes"} == invoice._REQUIRED


@pytest.mark.parametrize(
    ("sentence", "value"),
    [
        ("payload area ({})", sphinx.AREA_SIZE),
        ("{} bytes at every", sphinx.PACKET_SIZE),
        ("Routes of up to {} hops", payload.HOPS_MAX),
        ("metadata, at most {} bytes", payload.METADATA_MAX),
        ("a packet of {} bytes", len(first_wrap(bytes(32), Failure(Code.MPP_TIMEOUT)))),
        ("a notice of {} bytes", NOTICE_SIZE),
        ("At most {} characters", invoice.TEXT_MAX),
        ("route hints, at most {}", invoice.HINTS_MAX),
        ("; {} and ", invoice.MULTI_PART),
    ],
)
def test_the_sizes_that_the_page_quotes_are_in_force(sentence: str, value: int) -> None:
    assert sentence.format(f"{value:,}") in PAGE
