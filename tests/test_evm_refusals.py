"""What geth 1.17.10 and hardhat 3.18.0 said to transactions that they do not take; geth says it again.

Each row was seen. Where a node did not refuse at all, the text is empty: geth keeps a transaction that offers less than
the base fee, or whose nonce is ahead, and hardhat has no cap on fees.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import rlp

from simulation.geth_world import on_geth
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.errors import Refusal, RpcError
from tallystick.settlement.ethereum.abi import Envelope
from tallystick.settlement.ethereum.evm.refusals import Meaning, Taken, meaning_of
from tallystick.settlement.ethereum.transactions import sign_creation, sign_envelope
from tallystick.settlement.testing.beacon import Beacon, start_beacon
from tallystick.settlement.testing.geth import CHAIN_ID

RICH, POOR, OTHER = (PrivateKey(keccak(name)) for name in (b"rich", b"poor", b"other"))
TO = Address(b"\x55" * 20)
GWEI = 10**9


def signed(
    nonce: int,
    *,
    cap: int = 100 * GWEI,
    tip: int = GWEI,
    gas: int = 21_000,
    value: int = 0,
    data: bytes = b"",
    key: PrivateKey = RICH,
    chain_id: int = CHAIN_ID,
) -> bytes:
    return sign_envelope(key, chain_id, Envelope(TO, value, data), nonce, cap, tip, gas)


def forged() -> bytes:
    fields = list(rlp.decode(signed(2)[1:]))
    return b"\x02" + bytes(rlp.encode([*fields[:-1], b"\xff" * 32]))


class Case(NamedTuple):
    """A transaction after RICH's nonce 0 was mined, and while 1 waits."""

    make: Callable[[], bytes]
    geth: str
    hardhat: str
    meaning: Meaning


CASES = {
    "mined": Case(
        lambda: signed(0, value=1),
        "nonce too low: next nonce 1, tx nonce 0",
        "Transaction nonce too low. Expected nonce to be at least 4 but got 3.",
        Refusal.NONCE_TOO_LOW,
    ),
    "known": Case(
        lambda: signed(1, tip=10 * GWEI),
        "already known",
        "Known transaction: 0xd5719ca5788f4a2e7c5e8eb5e19cb74cb4b945a3664ce8dc53af4063e91a20eb",
        Taken.KNOWN,
    ),
    "a replacement at 5 % more": Case(
        lambda: signed(1, cap=105 * GWEI, tip=21 * GWEI // 2, value=1),
        "replacement transaction underpriced",
        "Replacement transaction underpriced. A gasPrice/maxFeePerGas of at least 110000000000 is necessary to replace "
        "the existing transaction with nonce 4.",
        Refusal.UNDERPRICED,
    ),
    "no coins": Case(
        lambda: signed(0, key=POOR),
        "insufficient funds for gas * price + value: balance 0, tx cost 2100000000000000, overshot 2100000000000000",
        "Sender doesn't have enough funds to send tx. The max upfront cost is: 2100000000000000 and the sender's "
        "balance is: 0.",
        Refusal.INSUFFICIENT_FUNDS,
    ),
    "too few coins": Case(
        lambda: signed(2, value=10**60),
        "insufficient funds for gas * price + value: balance",
        "Sender doesn't have enough funds to send tx. The max upfront cost is: 1000",
        Refusal.INSUFFICIENT_FUNDS,
    ),
    "too little gas": Case(
        lambda: signed(2, gas=20_999),
        "intrinsic gas too low: gas 20999, minimum needed 21000",
        "Transaction requires at least 21000 gas but got 20999",
        Refusal.MALFORMED,
    ),
    "too little gas for its data": Case(
        lambda: signed(2, gas=24_200, data=b"\x01" * 200),
        "insufficient gas for floor data gas cost: gas 24200, minimum needed 29000",
        "Transaction requires gas floor of 29000 but got limit of 24200",
        Refusal.MALFORMED,
    ),
    "more gas than a transaction may have": Case(
        lambda: signed(2, gas=2**24 + 1, cap=20 * GWEI),
        "transaction gas limit too high (cap: 16777216, tx: 16777217)",
        "Transaction gas limit is 16777217 and exceeds transaction gas cap of 16777216",
        Refusal.MALFORMED,
    ),
    "more gas than a block": Case(
        lambda: signed(2, gas=10**8, cap=GWEI),
        "transaction gas limit too high (cap: 16777216, tx: 100000000)",
        "Transaction gas limit is 100000000 and exceeds transaction gas cap of 16777216",
        Refusal.MALFORMED,
    ),
    "a fee above the node's cap": Case(
        lambda: signed(2, gas=10**7, cap=1_000 * GWEI),
        "tx fee (10.00 ether) exceeds the configured cap (1.00 ether)",
        "",
        Refusal.FEE_CAPPED,
    ),
    "a tip above the cap": Case(
        lambda: sign_creation(RICH, CHAIN_ID, b"", 2, GWEI, 2 * GWEI, 60_000),
        "max priority fee per gas higher than max fee per gas",
        "maxPriorityFeePerGas (2000000000) is bigger than maxFeePerGas (1000000000)",
        Refusal.MALFORMED,
    ),
    "too long": Case(
        lambda: signed(2, gas=2**24, data=b"\x01" * 131_072, cap=20 * GWEI),
        "oversized data: transaction size 131191, limit 131072",
        "",
        Refusal.MALFORMED,
    ),
    "too long a constructor": Case(
        lambda: sign_creation(RICH, CHAIN_ID, b"\x01" * 49_153, 2, 20 * GWEI, GWEI, 2**24),
        "max initcode size exceeded: code size 49153 limit 49152",
        "\nTrying to send a deployment transaction whose init code length is 49153. The max length allowed by EIP-3860 "
        "is 49152.",
        Refusal.MALFORMED,
    ),
    "of another chain": Case(
        lambda: signed(2, chain_id=999),
        "invalid sender: invalid chain id for signer: have 999 want 31337",
        "Trying to send a raw transaction with an invalid chainId. The expected chainId is 31337",
        Refusal.WRONG_CHAIN,
    ),
    "a bad signature": Case(
        forged, "invalid sender: invalid transaction v, r, s values", "Invalid Signature", Refusal.BAD_SIGNATURE
    ),
    "cut short": Case(
        lambda: b"\x02\xc0",
        "rlp: too few elements for types.DynamicFeeTx",
        "input too short",
        Refusal.MALFORMED,
    ),
    "of no type": Case(
        lambda: b"\x05" + signed(2)[1:],
        "transaction type not supported",
        "Invalid transaction type 5.",
        Refusal.MALFORMED,
    ),
}

MORE = [
    ("hardhat", "Nonce too high. Expected nonce to be 3 but got 9. Note that transactions can't be queued when",
     Refusal.NONCE_TOO_HIGH),
    ("hardhat", "Nonce too low. Expected nonce to be 1 but got 0. Note that transactions can't be queued when",
     Refusal.NONCE_TOO_LOW),
    ("hardhat", "Transaction maxFeePerGas (500000000) is too low for the next block, which has a baseFeePerGas of 586",
     Refusal.UNDERPRICED),
    ("hardhat", "Replacement transaction underpriced. A gasPrice/maxPriorityFeePerGas of at least 2 is necessary to",
     Refusal.UNDERPRICED),
    ("geth", "transaction underpriced", Refusal.UNDERPRICED),
    ("geth", "future transaction tries to replace pending", Refusal.NONCE_TOO_HIGH),
    ("geth", "transaction gas price below minimum: gas tip cap 5, minimum needed 1000000000", Refusal.UNDERPRICED),
]  # fmt: skip
"""What else was seen: of a node that mines at once, of one whose pool is full, of one that asks for a tip."""


@pytest.mark.parametrize("name", CASES)
def test_what_was_seen_is_understood(name: str) -> None:
    case = CASES[name]
    for client, text in (("geth", case.geth), ("hardhat", case.hardhat)):
        assert not text or meaning_of(client, text) is case.meaning, text


@pytest.mark.parametrize(("client", "text", "meaning"), MORE)
def test_what_else_was_seen_is_understood(client: str, text: str, meaning: Meaning) -> None:
    assert meaning_of(client, text) is meaning


@asynccontextmanager
async def geth(*flags: str) -> AsyncIterator[Beacon]:
    funds = {f"0x{key.address.hex()}": 10**24 for key in (RICH, OTHER)}
    async with start_beacon(*flags, funds=funds) as beacon:
        yield beacon


async def said(beacon: Beacon, raw: bytes) -> str:
    """Return with what words geth does not take a transaction; empty if it takes it."""
    try:
        await beacon.node.ask("eth_sendRawTransaction", f"0x{raw.hex()}")
    except RpcError as error:
        return error.said
    return ""


@pytest.mark.processes
@on_geth
async def test_geth_says_what_it_said() -> None:
    async with geth() as beacon:
        await beacon.mine([f"0x{signed(0).hex()}"])
        assert await said(beacon, signed(1, tip=10 * GWEI)) == ""
        for name, case in CASES.items():
            text = await said(beacon, case.make())
            assert text.startswith(case.geth) and text, f"{name}: {text}"
        assert await said(beacon, signed(9)) == "", "a nonce ahead waits"
        assert await said(beacon, signed(2, cap=1, tip=1)) == "", "and so does what offers less than the base fee"


@pytest.mark.processes
@on_geth
async def test_geth_whose_pool_is_full_says_what_it_said() -> None:
    one = ("--txpool.globalslots", "1", "--txpool.globalqueue", "1", "--txpool.accountslots", "1")
    async with geth(*one) as beacon:
        for nonce in range(3):
            await said(beacon, signed(nonce))
        assert await said(beacon, signed(0, key=OTHER)) == "transaction underpriced"
        await beacon.node.ask("miner_setGasPrice", hex(GWEI))
        below = "transaction gas price below minimum: gas tip cap 5, minimum needed 1000000000"
        assert await said(beacon, signed(0, key=OTHER, tip=5)) == below
