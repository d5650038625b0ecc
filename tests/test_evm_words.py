"""What Ethereum nodes say, and what is made of it: refusals of transactions, reasons of failures, receipts."""

from __future__ import annotations

from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import ZERO32, Address, ChannelId
from tallystick.settlement.chain import FailedCall, Header, SecretRegistered, Settled
from tallystick.settlement.errors import Refusal, Revert, RpcError
from tallystick.settlement.ethereum.abi import Deployment, Envelope, encode_batch
from tallystick.settlement.ethereum.event_logs import Log, encode_event
from tallystick.settlement.ethereum.evm.abi import CALL_FAILED
from tallystick.settlement.ethereum.evm.receipts import failed, is_whole, read_receipt, read_sent, succeeded
from tallystick.settlement.ethereum.evm.refusals import CLIENTS, Taken, client_of, is_passing, meaning_of
from tallystick.settlement.ethereum.evm.reverts import ERROR, PANIC, read_reason, revert_data
from tallystick.settlement.ethereum.rpc_shapes import to_hex

SAID = [
    ("geth", "already known", Taken.KNOWN),
    ("geth", "nonce too low: next nonce 5, tx nonce 4", Refusal.NONCE_TOO_LOW),
    ("geth", "nonce too high", Refusal.NONCE_TOO_HIGH),
    ("geth", "replacement transaction underpriced", Refusal.UNDERPRICED),
    ("geth", "transaction underpriced", Refusal.UNDERPRICED),
    (
        "geth",
        "max fee per gas less than block base fee: address 0x12, maxFeePerGas: 1, baseFee: 7",
        Refusal.UNDERPRICED,
    ),
    (
        "geth",
        "insufficient funds for gas * price + value: balance 0, tx cost 1, overshot 1",
        Refusal.INSUFFICIENT_FUNDS,
    ),
    ("geth", "txpool is full", Refusal.MEMPOOL_FULL),
    ("geth", "in-flight transaction limit reached for delegated accounts", Refusal.MEMPOOL_FULL),
    ("geth", "intrinsic gas too low: gas 1, minimum needed 21000", Refusal.MALFORMED),
    ("geth", "transaction gas limit too high (cap: 16777216, tx: 30000000)", Refusal.MALFORMED),
    ("geth", "invalid sender: invalid chain id for signer: have 5 want 1", Refusal.WRONG_CHAIN),
    ("geth", "tx fee (2.10 ether) exceeds the configured cap (1.00 ether)", Refusal.FEE_CAPPED),
    ("geth", "gapped-nonce tx from delegated accounts", Refusal.NONCE_TOO_HIGH),
    ("geth", "account limit exceeded: pooled 16 txs", Refusal.MEMPOOL_FULL),
    ("anvil", "transaction already imported", Taken.KNOWN),
    ("anvil", "nonce too low", Refusal.NONCE_TOO_LOW),
    ("anvil", "replacement transaction underpriced", Refusal.UNDERPRICED),
    ("anvil", "Insufficient funds for gas * price + value", Refusal.INSUFFICIENT_FUNDS),
    ("anvil", "max fee per gas less than block base fee", Refusal.UNDERPRICED),
    ("hardhat", "Nonce too low. Expected nonce to be 1 but got 0.", Refusal.NONCE_TOO_LOW),
    ("hardhat", "Known transaction: 0x1234", Taken.KNOWN),
    ("hardhat", "Sender doesn't have enough funds to send tx.", Refusal.INSUFFICIENT_FUNDS),
    (
        "hardhat",
        "VM Exception while processing transaction: reverted with reason string 'not-newer'",
        Taken.MINED,
    ),
    ("nethermind", "AlreadyKnown", Taken.KNOWN),
    ("nethermind", "OldNonce, Current nonce: 4, nonce of rejected tx: 3", Refusal.NONCE_TOO_LOW),
    ("nethermind", "FeeTooLow, MaxFeePerGas too low.", Refusal.UNDERPRICED),
    ("besu", "Upfront cost exceeds account balance", Refusal.INSUFFICIENT_FUNDS),
    ("besu", "Known transaction", Taken.KNOWN),
    ("", "already known", Taken.KNOWN),
    ("", "the moon is in the wrong quarter", None),
    ("geth", "execution reverted", None),
    ("geth", "", None),
]


@pytest.mark.parametrize(("client", "text", "meaning"), SAID)
def test_each_client_is_understood_in_its_own_words(client: str, text: str, meaning: object) -> None:
    assert meaning_of(client, text) is meaning
    assert meaning_of(client, text.upper()) is meaning


@given(st.sampled_from(["", *CLIENTS]), st.text(max_size=60))
def test_any_words_have_one_meaning_or_none(client: str, text: str) -> None:
    meaning = meaning_of(client, text)
    assert meaning is None or isinstance(meaning, (Refusal, Taken))


def test_clients_are_told_by_their_versions() -> None:
    assert client_of("Geth/v1.17.10-stable/linux-amd64/go1.24") == "geth"
    assert client_of("anvil/v1.7.1") == "anvil"
    assert client_of("HardhatNetwork/3.18.0/@nomicfoundation/edr") == "hardhat"
    assert client_of("Nethermind/v1.30.0") == "nethermind"
    assert client_of("some provider") == ""


def test_a_busy_node_is_known_by_code_or_words() -> None:
    assert is_passing(-32005, "limit exceeded")
    assert is_passing(429, "")
    assert is_passing(-32000, "Your app has exceeded its throughput limit")
    assert is_passing(-32603, "request timed out")
    assert not is_passing(-32000, "nonce too low") and not is_passing(3, "execution reverted")


# --- reasons ------------------------------------------------------------------------------------------------------


def reason(text: str) -> bytes:
    return ERROR + encode(("string",), (text,))


@pytest.mark.parametrize(
    "where",
    (
        lambda data: data,
        lambda data: f"Reverted {data}",
        lambda data: {"message": "it reverted", "data": data},
        lambda data: {"data": {"result": data}},
        lambda data: {"output": data},
    ),
    ids=("geth", "nethermind", "hardhat", "deep", "output"),
)
def test_what_a_contract_said_is_found_wherever_a_client_puts_it(where: Any) -> None:
    assert revert_data(where("0x1234")) == b"\x12\x34"


@pytest.mark.parametrize("value", (None, 7, "", "reverted", "0x1", "0xzz", [], {}, {"data": None}))
def test_what_is_no_data_is_none(value: object) -> None:
    assert revert_data(value) is None


def test_data_that_is_too_deep_is_not_looked_for() -> None:
    value: object = "0x12"
    for _ in range(200):
        value = {"data": value}
    assert revert_data(value) is None


def test_our_rules_are_read_from_their_codes_and_tokens_by_their_words() -> None:
    for code in Revert:
        assert read_reason(reason(code.value))[0] is code
    assert read_reason(reason("not-newer: seq 3 is not above 4")) == (Revert.NOT_NEWER, "seq 3 is not above 4")
    assert read_reason(reason("ERC20: transfer amount exceeds balance"))[0] is Revert.INSUFFICIENT_BALANCE
    assert read_reason(reason("ERC20: insufficient allowance"))[0] is Revert.INSUFFICIENT_ALLOWANCE
    assert read_reason(reason("go away")) == (None, "go away")


def test_other_errors_are_told_in_words() -> None:
    assert read_reason(b"") == read_reason(None) == (None, "the contract refused the call without a word")
    assert read_reason(PANIC + (0x11).to_bytes(32, "big")) == (None, "the contract's code met an error of kind 0x11")
    assert "0xe450d38c" in read_reason(bytes.fromhex("e450d38c"))[1]
    assert read_reason(ERROR + b"nonsense") == (None, "the contract's reason cannot be read")


@given(st.binary(max_size=200))
def test_no_bytes_of_a_contract_harm(data: bytes) -> None:
    for each in (data, ERROR + data, PANIC + data):
        _, text = read_reason(each)
        assert text.isprintable() and len(text) <= 400


# --- receipts -----------------------------------------------------------------------------------------------------

HEADER = Header(9, b"\2" * 32, b"\3" * 32, 1_000)
RECEIPT = {
    "transactionHash": "0x" + "01" * 32,
    "blockHash": "0x" + "02" * 32,
    "blockNumber": "0x9",
    "status": "0x0",
    "gasUsed": "0x5208",
    "effectiveGasPrice": "0xa",
    "logs": [],
}
AT = Deployment(1, Address(b"\xad" * 20))
SENT = read_sent({"from": "0x01", "to": "0x02", "gas": "0x7530", "value": "0x0", "input": "0x1234", "nonce": "0x1"})


def test_a_receipt_tells_its_fee_with_what_a_rollup_takes_for_data() -> None:
    receipt = read_receipt({**RECEIPT, "status": "0x1"}, AT)
    assert succeeded(receipt, HEADER).fee == 210_000 and succeeded(receipt, HEADER).success
    assert read_receipt({**RECEIPT, "l1Fee": "0x64"}, AT).fee == 210_100
    for broken in ("transactionHash", "blockHash", "blockNumber", "status", "gasUsed", "logs"):
        with pytest.raises(InvalidInput):
            read_receipt({**RECEIPT, broken: None}, AT)


def test_why_a_call_failed_is_what_it_says_when_it_is_made_again() -> None:
    receipt = read_receipt(RECEIPT, AT)
    said = RpcError(3, "execution reverted: not-newer", "0x" + reason("not-newer").hex())
    assert failed(receipt, HEADER, SENT, said).revert is Revert.NOT_NEWER
    assert failed(receipt, HEADER, SENT, "0x").reason.startswith("unknown")
    assert failed(receipt, HEADER, SENT, RpcError(-32000, "missing trie node")).reason == (
        "unknown: the chain node says 'missing trie node'"
    )
    assert failed(receipt, HEADER, None, None).revert is None


def test_a_call_that_used_all_its_gas_ran_out_of_it() -> None:
    receipt = read_receipt({**RECEIPT, "gasUsed": "0x7530"}, AT)
    assert failed(receipt, HEADER, SENT, None).revert is Revert.OUT_OF_GAS


def test_a_call_is_made_again_as_it_was() -> None:
    assert SENT.replay() == {"from": "0x01", "to": "0x02", "gas": "0x7530", "value": "0x0", "data": "0x1234"}


# --- batches ------------------------------------------------------------------------------------------------------


def shown(log: Log, by: bytes = AT.contract) -> dict[str, Any]:
    return {"address": to_hex(by), "topics": [to_hex(topic) for topic in log.topics], "data": to_hex(log.data)}


def call_failed(index: int, answer: bytes) -> dict[str, Any]:
    return shown(Log((CALL_FAILED, index.to_bytes(32, "big")), encode(("bytes",), (answer,))))


SETTLED = shown(encode_event(Settled(ChannelId(ZERO32), 1, 2, 0, 0, 0, False)))
REGISTERED = shown(encode_event(SecretRegistered(ZERO32, ZERO32, 5)))
LOGS = [SETTLED, call_failed(1, reason("not-newer")), REGISTERED, call_failed(3, b"")]
BATCH = encode_batch([Envelope(AT.contract, 0, bytes([number]) * 36) for number in range(4)], AT)


def batched(logs: list[dict[str, Any]]) -> dict[str, Any]:
    return {**RECEIPT, "status": "0x1", "logs": logs}


def test_a_batch_tells_which_calls_did_nothing_and_why() -> None:
    receipt = read_receipt(batched(LOGS), AT)
    found = succeeded(receipt, HEADER).failures
    assert found == (
        FailedCall(1, "the contract's rule not-newer refuses it", Revert.NOT_NEWER),
        FailedCall(3, "the contract refused the call without a word", None),
    )


def test_what_another_contract_says_of_a_batch_is_not_heard() -> None:
    said = [{**each, "address": to_hex(b"\x55" * 20)} for each in LOGS]
    receipt = read_receipt(batched(said), AT)
    assert receipt.failures == () and receipt.effects == 0


@pytest.mark.parametrize("missing", range(4))
def test_a_receipt_that_leaves_out_what_became_of_a_call_is_not_whole(missing: int) -> None:
    sent = read_sent({"to": to_hex(BATCH.to), "gas": "0x7530", "input": to_hex(BATCH.data)})
    assert is_whole(read_receipt(batched(LOGS), AT), sent, AT)
    left = [each for index, each in enumerate(LOGS) if index != missing]
    assert not is_whole(read_receipt(batched(left), AT), sent, AT)
    assert is_whole(read_receipt(batched([]), AT), SENT, AT), "it is no batch"


@pytest.mark.parametrize("logs", [None, {}, [5], [{**LOGS[1], "data": "0x12"}], [{**LOGS[1], "topics": ["0x12"]}]])
def test_logs_that_cannot_be_read_are_refused(logs: Any) -> None:
    with pytest.raises(InvalidInput):
        read_receipt({**RECEIPT, "logs": logs}, AT)
