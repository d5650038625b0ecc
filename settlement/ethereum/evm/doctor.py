"""What an Ethereum node can and cannot do for us: each thing that the client asks of one, tried once.

| grade   | what it means                                                                                |
| ------- | -------------------------------------------------------------------------------------------- |
| GOOD    | as it should be                                                                              |
| LIMITED | the client does without, at a price that the finding names                                   |
| BAD     | nothing works with this node, or not safely, until that is otherwise                         |
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.ports import Clock
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.errors import ChainError, ChainUnavailable, RpcError
from tallystick.settlement.ethereum.evm.court import check_court, court_of
from tallystick.settlement.ethereum.evm.deploy import check_contract
from tallystick.settlement.ethereum.evm.endpoint import Endpoint, NodeQuestion
from tallystick.settlement.ethereum.evm.evidence import UNKNOWN_METHOD
from tallystick.settlement.ethereum.evm.fees import HISTORY, PERCENTILE, read_history
from tallystick.settlement.ethereum.evm.headers import SeenHeader, read_seen
from tallystick.settlement.ethereum.evm.profiles import ChainProfile, profile_of
from tallystick.settlement.ethereum.evm.proofs import proven_value, read_proof
from tallystick.settlement.ethereum.evm.questions import LATEST, block_question, read_answer
from tallystick.settlement.ethereum.evm.refusals import client_of
from tallystick.settlement.ethereum.evm.reverts import revert_data
from tallystick.settlement.ethereum.evm.rollups import DataFee
from tallystick.settlement.ethereum.evm.starting import ask_if_late, late_text
from tallystick.settlement.ethereum.rpc_shapes import quantity, read_bytes, read_quantity, to_hex

RANGES = (1, 100, 1_000, 10_000, 100_000)
"""Blocks of which logs are asked for at once, as far as it goes."""

OLD_BLOCKS = 8
"""A newest block that is older than so many blocks should take is old."""

REVERTING = "0x6112345f526002601efd"
"""Code that reverts with the data 0x1234, wherever it runs."""

ANY = to_hex(bytes(31) + b"\1")
"""A hash of nothing."""


class Grade(enum.StrEnum):
    """How good a thing is."""

    GOOD = "good"
    LIMITED = "limited"
    BAD = "bad"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was tried."""

    what: str
    grade: Grade
    text: str


class Diagnosis(msgspec.Struct, frozen=True):
    """What was found of one node."""

    url: str
    chain_id: int
    chain: str
    client: str
    head: int
    findings: tuple[Finding, ...]

    @property
    def grade(self) -> Grade:
        """The worst of all findings."""
        grades = [finding.grade for finding in self.findings]
        return next((grade for grade in (Grade.BAD, Grade.LIMITED) if grade in grades), Grade.GOOD)


async def examine(
    endpoint: Endpoint,
    clock: Clock,
    contract: Address | None = None,
    bytecode: bytes | None = None,
    start: int | None = None,
) -> Diagnosis:
    """Try everything on one node. With `contract`, look at it, too; `bytecode` is what a deployment of it sends.

    `start` is from which block on it is to be followed, to look whether that is early enough; None: not known.

    Raise ChainUnavailable or ChainError if the node does not say so much as which chain it serves.
    """
    chain, version, newest = await endpoint.ask(
        (NodeQuestion("eth_chainId"), NodeQuestion("web3_clientVersion"), LATEST)
    )
    profile = profile_of(read_answer(read_quantity, chain))
    seen = read_answer(read_seen, newest)
    head = seen.header
    said = version if isinstance(version, str) else ""
    findings = [
        _client(said),
        _age(profile, clock() - head.time),
        Finding("batches", *_either(endpoint.batches, "several questions in one request", "it is asked one by one")),
        Finding(
            "headers", *_either(seen.proven and bool(seen.bloom), "prove their hashes and filters", "must be believed")
        ),
        *await _asked(endpoint, profile, head.number, to_hex(head.hash)),
        await _proofs(endpoint, newest, seen),
        await _ranges(endpoint, head.number, contract or NATIVE),
        *await _tags(endpoint, profile, head.number),
    ]
    if contract is not None and bytecode is not None:
        findings.append(await _contract(endpoint, profile.chain_id, contract, bytecode))
        findings.append(await _court(endpoint, contract))
    if contract is not None and start is not None:
        findings.append(await _start(endpoint, contract, start))
    return Diagnosis(endpoint.url, profile.chain_id, profile.name, said, head.number, tuple(findings))


def _either(good: bool, well: str, otherwise: str) -> tuple[Grade, str]:
    return (Grade.GOOD, well) if good else (Grade.LIMITED, otherwise)


def _client(version: str) -> Finding:
    name = client_of(version)
    if name:
        return Finding("client", Grade.GOOD, f"{version}: its words are known")
    return Finding("client", Grade.LIMITED, f"{version or 'it does not say'}: what it refuses is tried again")


def _age(profile: ChainProfile, age: float) -> Finding:
    if age > max(30.0, OLD_BLOCKS * profile.block_seconds):
        return Finding("newest block", Grade.BAD, f"is {age:.0f} s old: the node does not keep up with the chain")
    return Finding("newest block", Grade.GOOD, f"is {max(0.0, age):.0f} s old")


async def _asked(endpoint: Endpoint, profile: ChainProfile, head: int, hash: str) -> list[Finding]:
    """Ask all that takes one question."""
    account, code = to_hex(NATIVE), {"data": REVERTING}
    tried: tuple[tuple[str, NodeQuestion, Callable[[Any], tuple[Grade, str]]], ...] = (
        ("syncing", NodeQuestion("eth_syncing"), _syncing),
        ("state by hash", NodeQuestion("eth_getBalance", (account, {"blockHash": hash})), _state),
        ("old state", NodeQuestion("eth_getBalance", (account, quantity(max(0, head - 100)))), _old_state),
        (
            "fees",
            NodeQuestion("eth_feeHistory", (quantity(HISTORY), "latest", [PERCENTILE])),
            lambda a: _fees(a, profile),
        ),
        ("gas estimates", NodeQuestion("eth_estimateGas", ({"from": account, "to": account},)), _estimate),
        ("reasons", NodeQuestion("eth_call", (code, "latest")), _reasons),
        ("receipts", NodeQuestion("eth_getTransactionReceipt", (ANY,)), _receipts),
        ("sending", NodeQuestion("eth_sendRawTransaction", ("0x02c0",)), _sending),
    )
    answers = await endpoint.ask([question for _, question, _ in tried])
    return [Finding(what, *judge(answer)) for (what, _, judge), answer in zip(tried, answers, strict=True)]


async def _proofs(endpoint: Endpoint, newest: Any, seen: SeenHeader) -> Finding:
    """Ask for a proof of an account at the newest block."""
    none = "what is in channels is its word alone, where no second node is named"
    question = NodeQuestion("eth_getProof", (to_hex(NATIVE), [], {"blockHash": to_hex(seen.header.hash)}))
    (answer,) = await endpoint.ask((question,))
    if isinstance(answer, RpcError):
        return Finding("proofs", Grade.LIMITED, f"none: {none}: {answer.said}")
    try:
        proven_value(read_bytes(newest.get("stateRoot"), "stateRoot", 32), NATIVE, read_proof(answer["accountProof"]))
    except (InvalidInput, LookupError, TypeError) as error:
        return Finding("proofs", Grade.LIMITED, f"of no use: {none}: {error}")
    if not seen.proven:
        return Finding("proofs", Grade.LIMITED, f"of a block whose hash proves nothing: {none}")
    text = "what is in channels is proven by blocks' hashes; which blocks are the chain's, a second node can say"
    return Finding("proofs", Grade.GOOD, text)


def _syncing(answer: Any) -> tuple[Grade, str]:
    if answer is False:
        return Grade.GOOD, "no, it is up to date"
    if isinstance(answer, RpcError):
        return Grade.LIMITED, "it does not say"
    return Grade.BAD, "it still follows the chain from its beginning"


def _state(answer: Any) -> tuple[Grade, str]:
    if isinstance(answer, RpcError):
        return Grade.BAD, f"it reads no state at a block named by its hash (EIP-1898): {answer.said}"
    return Grade.GOOD, "balances, nonces and channels are read at one block"


def _old_state(answer: Any) -> tuple[Grade, str]:
    if isinstance(answer, RpcError):
        return Grade.LIMITED, "it keeps no state 100 blocks deep: why an old transaction failed stays unknown"
    return Grade.GOOD, "is kept for 100 blocks at least"


def _fees(answer: Any, profile: ChainProfile) -> tuple[Grade, str]:
    try:
        market = read_answer(lambda value: read_history(value, profile.tip_min), answer)
    except ChainError as error:
        return Grade.BAD, f"it does not tell what gas costs: {error}"
    data = "; what is taken for a transaction's data comes on top" if profile.data is not DataFee.NONE else ""
    return Grade.GOOD, f"base fee {market.base}, tip {market.tip}: {market.cap} would be offered{data}"


def _estimate(answer: Any) -> tuple[Grade, str]:
    if isinstance(answer, RpcError):
        return Grade.LIMITED, f"none, so that limits are what was measured: {answer.said}"
    return Grade.GOOD, "limits are checked before anything is sent"


def _reasons(answer: Any) -> tuple[Grade, str]:
    if isinstance(answer, RpcError) and revert_data(answer.data) == b"\x12\x34":
        return Grade.GOOD, "why a call failed is told"
    return Grade.LIMITED, "why a call failed is not told: failures are for a person to look into"


def _receipts(answer: Any) -> tuple[Grade, str]:
    if answer is None:
        return Grade.GOOD, "are told"
    return Grade.BAD, "are not told: nothing that was sent would ever be known to be done"


def _sending(answer: Any) -> tuple[Grade, str]:
    if isinstance(answer, RpcError) and answer.code != UNKNOWN_METHOD:
        return Grade.GOOD, "transactions are taken"
    return Grade.BAD, "transactions are not taken: nothing could be claimed or challenged"


async def _ranges(endpoint: Endpoint, head: int, contract: Address) -> Finding:
    """Find the longest range of blocks of which logs are told at once."""
    longest, refused = 0, ""
    for size in RANGES:
        first = max(0, head - size + 1)
        where = {"address": to_hex(contract), "fromBlock": quantity(first), "toBlock": quantity(head)}
        try:
            (answer,) = await endpoint.ask((NodeQuestion("eth_getLogs", (where,)),))
        except (ChainUnavailable, ChainError) as error:
            answer = RpcError(0, str(error))
        if isinstance(answer, RpcError):
            refused = answer.said
            break
        longest = size
        if first == 0:
            break
    if not longest:
        return Finding("logs", Grade.BAD, f"are not told: {refused}")
    grade = Grade.GOOD if not refused or longest >= 1_000 else Grade.LIMITED
    return Finding("logs", grade, f"of {min(longest, head + 1)} blocks at once" + (", of no more" if refused else ""))


async def _tags(endpoint: Endpoint, profile: ChainProfile, head: int) -> list[Finding]:
    """Ask for what the chain itself calls safe and final."""
    tags = ("safe", "finalized")
    answers = await endpoint.ask([NodeQuestion("eth_getBlockByNumber", (tag, False)) for tag in tags])
    found = []
    for tag, answer in zip(tags, answers, strict=True):
        if isinstance(answer, dict):
            behind = head - read_answer(read_seen, answer).header.number
            found.append(Finding(tag, Grade.GOOD, f"{max(0, behind)} blocks behind the newest"))
        else:
            found.append(Finding(tag, Grade.LIMITED, f"it knows no such block: {profile.final_blocks} are waited for"))
    (old,) = await endpoint.ask((block_question(max(0, head - profile.final_blocks)),))
    if not isinstance(old, dict):
        found.append(Finding("old blocks", Grade.BAD, f"it does not know the block {profile.final_blocks} below"))
    return found


async def _start(endpoint: Endpoint, contract: Address, start: int) -> Finding:
    try:
        late = await ask_if_late(endpoint.ask, contract, start)
    except (ChainError, ChainUnavailable) as error:
        return Finding("start", Grade.LIMITED, str(error))
    if late is None:
        return Finding("start", Grade.LIMITED, f"it keeps no state of block {start - 1}: see to it by hand")
    if late:
        return Finding("start", Grade.BAD, late_text(contract, start))
    return Finding("start", Grade.GOOD, f"the contract was not there before block {start}")


async def _contract(endpoint: Endpoint, chain_id: int, contract: Address, bytecode: bytes) -> Finding:
    try:
        reward = await check_contract(endpoint, chain_id, contract, bytecode)
    except ChainError as error:
        return Finding("contract", Grade.BAD, str(error))
    return Finding("contract", Grade.GOOD, f"is this version's adjudicator; towers earn {reward / 100:g} %")


async def _court(endpoint: Endpoint, contract: Address) -> Finding:
    """Look at the court that the contract asks about apps, and at its rules."""
    try:
        court = await court_of(endpoint, contract)
        if court is None:
            return Finding("court", Grade.LIMITED, "the contract asks none: no apps are played on it")
        await check_court(endpoint, court)
    except (ChainError, ChainUnavailable) as error:
        return Finding("court", Grade.BAD, f"{error}: play no apps there")
    return Finding(
        "court", Grade.GOOD, f"0x{court.hex()} is this version's, and so are the rules of all apps that ship"
    )
