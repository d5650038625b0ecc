"""Our hand-packed digests are those of EIP-712 as eth-account computes them, for every input."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from eth_account.messages import _hash_eip191_message, encode_typed_data  # isort: skip
from tallystick.channels.protocol.eip712 import (
    TYPES,
    digest_cooperative_close,
    digest_proof,
    digest_voucher,
    digest_withdrawal,
    domain_separator,
)
from tallystick.channels.protocol.objects import Address, BalanceProof, ChannelId, CooperativeClose, Voucher, Withdrawal

WORDS = st.binary(min_size=32, max_size=32).map(ChannelId)
ADDRESSES = st.binary(min_size=20, max_size=20).map(Address)
SIDES = st.integers(0, 255)
UINT64 = st.integers(0, 2**64 - 1)
AMOUNTS = st.integers(0, 2**128 - 1)
CHAINS = st.integers(1, 2**63 - 1)


def official(kind: str, chain_id: int, contract: Address, message: dict[str, Any]) -> bytes:
    domain = {
        "name": "Tallystick",
        "version": "1",
        "chainId": chain_id,
        "verifyingContract": "0x" + contract.hex(),
    }
    return bytes(_hash_eip191_message(encode_typed_data(domain, {kind: TYPES[kind]}, message)))


def message(kind: str, values: tuple[Any, ...]) -> dict[str, Any]:
    return dict(zip([field["name"] for field in TYPES[kind]], values, strict=True))


@given(CHAINS, ADDRESSES, st.tuples(WORDS, SIDES, UINT64, AMOUNTS, AMOUNTS, WORDS, UINT64))
@settings(max_examples=60, deadline=None)
def test_balance_proofs(chain_id: int, contract: Address, values: tuple[Any, ...]) -> None:
    expected = official("BalanceProof", chain_id, contract, message("BalanceProof", values))
    assert digest_proof(domain_separator(chain_id, contract), BalanceProof(*values)) == expected


@given(CHAINS, ADDRESSES, st.tuples(WORDS, AMOUNTS, AMOUNTS, UINT64))
@settings(max_examples=60, deadline=None)
def test_cooperative_closes(chain_id: int, contract: Address, values: tuple[Any, ...]) -> None:
    expected = official("CooperativeClose", chain_id, contract, message("CooperativeClose", values))
    assert digest_cooperative_close(domain_separator(chain_id, contract), CooperativeClose(*values)) == expected


@given(CHAINS, ADDRESSES, st.tuples(WORDS, SIDES, AMOUNTS, UINT64))
@settings(max_examples=60, deadline=None)
def test_withdrawals(chain_id: int, contract: Address, values: tuple[Any, ...]) -> None:
    expected = official("Withdrawal", chain_id, contract, message("Withdrawal", values))
    assert digest_withdrawal(domain_separator(chain_id, contract), Withdrawal(*values)) == expected


@given(CHAINS, ADDRESSES, WORDS, ADDRESSES)
@settings(max_examples=60, deadline=None)
def test_vouchers(chain_id: int, contract: Address, channel: ChannelId, beneficiary: Address) -> None:
    values = {"channel": channel, "beneficiary": "0x" + beneficiary.hex()}
    expected = official("Voucher", chain_id, contract, values)
    assert digest_voucher(domain_separator(chain_id, contract), Voucher(channel, beneficiary)) == expected
