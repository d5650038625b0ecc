"""What pympp and mppx wrote (tests/vectors/make_payments.sh) is read, and what we write in its place is the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tallystick.paid.scheme.challenges import PaymentChallenge, parse_challenges
from tallystick.paid.scheme.credentials import parse_credential, parse_receipt
from tallystick.paid.scheme.encoding import is_digest_of, write_object

VECTORS = Path(__file__).parent / "vectors"
SDKS = ("pympp", "mppx")


def read(sdk: str) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads((VECTORS / f"payments-{sdk}.json").read_text("utf-8"))
    assert whole["made_by"].startswith(f"{sdk} ") and len(whole["challenges"]) == 4
    return whole


def ours(case: dict[str, Any], key: str) -> PaymentChallenge:
    opaque = write_object(case["meta"]) if "meta" in case else ""
    parts = {name: text for name, text in case.items() if name != "meta"}
    return PaymentChallenge(**(parts | {"request": write_object(case["request"]), "opaque": opaque})).bind(key.encode())


@pytest.mark.parametrize("sdk", SDKS)
def test_their_challenges_are_read_and_have_the_ids_that_we_give(sdk: str) -> None:
    whole = read(sdk)
    for made in whole["challenges"]:
        assert parse_challenges([made["header"]]) == [ours(made["case"], whole["key"])]
        assert ours(made["case"], whole["key"]).id == made["id"]
    together = ", ".join(made["header"] for made in whole["challenges"])
    assert [challenge.id for challenge in parse_challenges([together])] == [made["id"] for made in whole["challenges"]]


@pytest.mark.parametrize("sdk", SDKS)
def test_their_credentials_are_read_and_bound_to_their_challenges(sdk: str) -> None:
    whole = read(sdk)
    cases = {made["id"]: made["case"] for made in whole["challenges"]}
    for made in whole["credentials"]:
        credential = parse_credential([made["header"]])
        assert credential is not None and credential.challenge == ours(cases[made["id"]], whole["key"])
        assert credential.challenge.is_bound(whole["key"].encode())
        assert (credential.proof, credential.source) == (made["payload"], whole["source"])


@pytest.mark.parametrize("sdk", SDKS)
def test_their_receipts_are_read_and_written_the_same_up_to_the_order_of_fields(sdk: str) -> None:
    for made in read(sdk)["receipts"]:
        receipt = parse_receipt(made["header"])
        assert (receipt.reference, receipt.external_id) == (
            made["case"]["reference"],
            made["case"].get("externalId", ""),
        )
        assert receipt == parse_receipt(write_object(made["case"])) == parse_receipt(receipt.to_header())


@pytest.mark.parametrize("sdk", SDKS)
def test_their_digests_are_known(sdk: str) -> None:
    for made in read(sdk)["digests"]:
        assert is_digest_of(made["digest"], made["body"].encode())
        assert not is_digest_of(made["digest"], made["body"].encode() + b"x")


def test_both_give_the_same_challenges_the_same_ids() -> None:
    first, second = ([made["id"] for made in read(sdk)["challenges"]] for sdk in SDKS)
    assert first == second
