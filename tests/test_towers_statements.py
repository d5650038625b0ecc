"""What a tower signs of its bond is EIP-712 as eth-account computes it, for every input."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from eth_account.messages import _hash_eip191_message, encode_typed_data  # isort: skip
from tallystick.channels.protocol.objects import Address, ChannelId
from tallystick.settlement.modules.covers import TYPES, TowerCover, TowerPromise, digest_cover, digest_promise

WORDS = st.binary(min_size=32, max_size=32)
ADDRESSES = st.binary(min_size=20, max_size=20).map(Address)
UINT64 = st.integers(0, 2**64 - 1)
AMOUNTS = st.integers(0, 2**128 - 1)
CHAINS = st.integers(1, 2**63 - 1)
COVERS = st.builds(TowerCover, WORDS.map(ChannelId), ADDRESSES, ADDRESSES, AMOUNTS, UINT64, UINT64, AMOUNTS, UINT64)


def official(chain_id: int, registry: Address, message: TowerCover | TowerPromise) -> bytes:
    domain = {
        "name": "Tallystick",
        "version": "1",
        "chainId": chain_id,
        "verifyingContract": "0x" + registry.hex(),
    }
    kind = type(message).__name__
    fields = [dict(zip(("type", "name"), each.split(), strict=True)) for each in TYPES[kind].split(",")]
    values: dict[str, Any] = {
        name: "0x" + value.hex() if isinstance(value, bytes) and len(value) == 20 else value
        for name, value in msgspec.structs.asdict(message).items()
    }
    return bytes(_hash_eip191_message(encode_typed_data(domain, {kind: fields}, values)))


@given(CHAINS, ADDRESSES, COVERS)
@settings(max_examples=60, deadline=None)
def test_covers(chain_id: int, registry: Address, cover: TowerCover) -> None:
    assert digest_cover(chain_id, registry, cover) == official(chain_id, registry, cover)


@given(CHAINS, ADDRESSES, st.builds(TowerPromise, WORDS, UINT64, UINT64, UINT64))
@settings(max_examples=60, deadline=None)
def test_promises(chain_id: int, registry: Address, promise: TowerPromise) -> None:
    assert digest_promise(chain_id, registry, promise) == official(chain_id, registry, promise)
