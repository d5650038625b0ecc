"""A rollup on the ledger and the same one on an EVM: whatever is done to one is done to the other, and compared."""

from __future__ import annotations

from typing import Any

from eth_abi.abi import decode

from simulation.evm import Evm, EvmReverted, calldata
from simulation.evm_adjudicator import SIGNATURE, compact
from simulation.module_ledger import ModuleLedger
from simulation.rollup_house import Posted, RollupHouse
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address, SignedProof
from tallystick.sdk.rollup.calls import PAYING, compact_proof, creation_code
from tallystick.settlement.contract.state import Parameters
from tallystick.settlement.errors import Reverted
from tallystick.settlement.ethereum.abi import Signature
from tallystick.settlement.modules.rollups import BURNT, ROLLUPS, Books, owner_key
from tallystick.settlement.rollup.batches import Batch, StepProof, judge
from tallystick.settlement.rollup.disputes import pack_proof
from tallystick.settlement.rollup.execution import prove
from tallystick.settlement.rollup.packing import pack_data
from tallystick.settlement.rollup.rules import Place, Statement, Statements, StepContext
from tallystick.settlement.rollup.state import RollupState, Words
from tallystick.settlement.rollup.steps import QueueEntry
from tallystick.settlement.rollup.trees import Siblings
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.settlement.simulated.ledger import Mint, mint
from tallystick.settlement.simulated.module_calls import ModuleRun
from tallystick.settlement.testing.token import TOKEN, TRANSFER

OPERATOR = PrivateKey(keccak(b"the operator of a rollup")).address
WATCHER = PrivateKey(keccak(b"a watcher of a rollup")).address
BOND, WINDOW, ORDER_TIME, ANSWER_TIME, FEE = 10**9, 1_000, 500, 200, 10**6
RICH = 10**24
_BOTH = (SIGNATURE, SIGNATURE)
_CHANNEL = ("uint256", "address", "address", "address")
FORMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "bond": ("bond", ()),
    "unbond": ("unbond", ()),
    "post": ("post", ("uint256", "uint256", "bytes32", "bytes32", "bytes")),
    "convict": ("convict", ("uint256", "uint256[]")),
    "demand": ("demand", ("uint256", "uint256")),
    "answer": ("answer", ("uint256", "uint256[]", *_BOTH)),
    "silence": ("silence", ("uint256", "uint256")),
    "refund": ("refund", ("uint256", "uint256")),
    "deposit": ("deposit", ("address",)),
    "depositToken": ("deposit_token", ("address", "address", "uint256")),
    "forceExit": ("force_exit", ("address",)),
    "forceClose": (
        "force_close",
        ("uint256", "address", "address", *["uint256"] * 3, "address", *_BOTH),
    ),
    "closeAlone": ("close_alone", (*_CHANNEL, "uint256", "uint256[]", "bytes", "bytes")),
    "challengeClose": ("challenge_close", (*_CHANNEL, "uint256", "bytes")),
    "settleClose": ("settle_close", _CHANNEL),
    "withdraw": ("withdraw", ("uint256", "uint256[]")),
    "claim": ("claim", ("address",)),
    "finalise": ("finalise", ()),
    "freeze": ("freeze", ()),
    "escape": ("escape", ("uint256[]",)),
    "reclaim": ("reclaim", ("uint256", "uint256[6]")),
    "reclaimClose": ("reclaim_close", ("uint256", "uint256[6]", "uint256[]")),
}
"""By the function's name on the ledger: its name and arguments on an EVM."""

_BALANCE = Signature("balanceOf", ("address",), ("uint256",))
_APPROVE = Signature("approve", ("address", "uint256"))

Proofs = dict[str, tuple[tuple[SignedProof, tuple[Statement, Statement]] | None, ...]]
"""Balance proofs by where they count, each with what is signed of it."""

Answer = str | None
"""Why a call was refused; None if it was done."""


class Twins:
    """Both, with the users of a house, an operator and a watcher."""

    def __init__(self, house: RollupHouse) -> None:
        self.house = house
        self.ledger = ModuleLedger()
        self.evm = Evm(time=house.time)
        self.people = (OPERATOR, WATCHER, *house.by_address)
        for person in self.people:
            self.evm.fund(person, RICH)
            mint(self.ledger.state, Parameters(1337, ADJUDICATOR, 1_000), Mint(person, NATIVE, RICH))
        numbers = (int.from_bytes(OPERATOR, "big"), BOND, WINDOW, ORDER_TIME, ANSWER_TIME, FEE)
        self.at = self.evm.deploy(creation_code(*numbers), WATCHER)
        self.set_time(house.time)
        self.ledger.call(OPERATOR, "rollups", "createRollup", 1337, *numbers[1:])
        self.vault: Address = self.ledger.read("rollups", "rollup", 0)[1]
        self.vault = Address(bytes.fromhex(self.vault[2:]) if isinstance(self.vault, str) else self.vault)
        self.assets = [NATIVE]
        self.places = {"ledger": Place(1337, self.vault), "evm": Place(1337, self.at)}

    def add_token(self, code: bytes = TOKEN) -> Address:
        """Put a token onto both, of which everybody has much and lets the contract take all; return its address."""
        token = self.evm.deploy(code, OPERATOR)
        for person in self.people:
            mint(self.ledger.state, Parameters(1337, ADJUDICATOR, 1_000), Mint(person, token, RICH))
            self.evm.send(OPERATOR, token, TRANSFER.encode_call(person, RICH))
            self.evm.send(person, token, _APPROVE.encode_call(self.at, 2**255))
        excess = 10**30 - len(self.people) * RICH
        mint(self.ledger.state, Parameters(1337, ADJUDICATOR, 1_000), Mint(OPERATOR, token, excess))
        self.assets.append(token)
        return token

    def balance(self, who: Address, asset: Address) -> tuple[int, int]:
        """Return what somebody holds, on the ledger and on the EVM."""
        there = self.evm.balance(who)
        if asset != NATIVE:
            there = int.from_bytes(self.evm.call(asset, _BALANCE.encode_call(who)), "big")
        return self.ledger.balance(who, asset), there

    def set_time(self, time: int) -> None:
        """Let it be this time on both."""
        self.house.time = self.evm.time = self.ledger.time = time

    def do(
        self,
        by: Address,
        name: str,
        *values: Any,
        value: int = 0,
        statements: dict[str, Statements] | None = None,
        proofs: Proofs | None = None,
    ) -> Answer:
        """Make a call on both; return why it was refused, None if it was done. `statements`: what is signed with it."""
        signed = statements or {}
        if name in ("claim", "forceExit", "forceClose") and len(values) == (6 if name == "forceClose" else 0):
            values = (*values, NATIVE)
        on_ledger = [self.vault, *values] if name in PAYING else list(values)
        if name in ("deposit", "bond"):
            on_ledger.append(value)
        if name in ("answer", "forceClose"):
            on_ledger.append(b"".join(self.house.sign(each) for each in signed.get("ledger", ())))
        if name == "post":
            *on_ledger, data = on_ledger
            on_ledger += pack_data(data) if len(data) % 64 == 32 else (data, b"")
        if proofs is not None:
            on_ledger += [pack_proof(each and each[0]) for each in proofs["ledger"]]
        refused = self.ledger_call(by, name, *on_ledger)
        on_evm = list(values)
        if name in ("answer", "forceClose"):
            made = [compact(each.digest, self.house.sign(each), each.signer) for each in signed.get("evm", ())]
            on_evm += [*made, (bytes(32), 0), (bytes(32), 0)][:2]
        if proofs is not None:
            on_evm += [compact_proof(each[0], *each[1]) if each else b"" for each in proofs["evm"]]
        there = self.evm_call(by, name, *on_evm, value=value)
        assert refused == there, f"{name}: the ledger says {refused}, the contract {there}"
        return refused

    def ledger_call(self, by: Address, name: str, *values: Any) -> Answer:
        """Make a call on the ledger alone."""
        try:
            self.ledger.call(by, "rollups", name, 0, *values)
        except Reverted as error:
            return str(error.code)
        return None

    def evm_call(self, by: Address, name: str, *values: Any, value: int = 0) -> Answer:
        """Make a call on the EVM alone."""
        function, types = FORMS[name]
        try:
            self.gas = self.evm.send(by, self.at, calldata(function, types, values), value, gas=30_000_000).gas
        except EvmReverted as error:
            return error.reason
        return None

    def statements(self, proof: StepProof, batch: Batch) -> dict[str, Statements]:
        """Return what must be signed for a step, on each of both."""
        done = self.house.done(proof.head), self.house.done(proof.head + 1)
        return {
            where: judge(proof, batch.steps_root, self.context(batch, place), *done).statements
            for where, place in self.places.items()
        }

    def context(self, batch: Batch, place: Place | None = None) -> StepContext:
        """Return what is known of a batch's steps."""
        return StepContext(place or self.places["ledger"], batch.time, batch.queue_end)

    def proof(self, batch: Batch, at: int, state: RollupState) -> StepProof:
        """Return the proof of a step; `state` is that before it."""
        return prove(batch, at, state, self.context(batch), self.house.entry)

    def post(self, batch: Batch, by: Address = OPERATOR) -> Answer:
        """Post a batch."""
        return self.do(by, "post", batch.time, batch.queue_end, batch.accounts, batch.channels, batch.data)

    def order(self, by: Address, name: str, entry: QueueEntry, *values: Any, value: int = 0) -> Answer:
        """Order something; the house's list follows."""
        refused = self.do(by, name, *values, value=value)
        if refused is None:
            self.house.order(entry)
        return refused

    def check_equal(self) -> None:
        """Raise AssertionError unless both keep the same."""
        books = Books(ModuleRun(self.ledger.state, ROLLUPS, NATIVE, self.ledger.time, [], 1, ADJUDICATOR), 0)
        ledger = {name: books.get(name.encode()) for name in ("count", "final", "bonded", "deposited")}
        evm = {name: self.number(name) for name in ledger}
        assert ledger == evm
        assert books.get(b"queue") == self.number("queue_length") == len(self.house.queue)
        assert books.get(b"frozen") == self.number("frozen")
        for asset in self.assets:
            for person in (*self.people, BURNT):
                for name, said in ((b"o", "owed"), (b"w", "paid"), (b"a", "numbers")):
                    assert books.get(owner_key(name, person, asset)) == self.number(said, bytes(12) + person, asset)
            held = books.get(owner_key(b"h", NATIVE, asset))
            assert held == self.number("held", bytes(32), asset)
            vaults = self.ledger.balance(self.vault, asset), self.balance(self.at, asset)[1]
            assert vaults[0] == vaults[1] >= held
            for person in self.people:
                ours, theirs = self.balance(person, asset)
                assert ours == theirs
        if ledger["count"]:
            data = self.evm.call(self.at, calldata("batches", ("uint256",), (ledger["count"] - 1,)))
            steps, root, _ = decode(["bytes32", "bytes32", "uint256"], data)
            assert (root, len(steps)) == (books.root, 32)

    def number(self, name: str, key: bytes = b"", asset: Address = NATIVE) -> int:
        """Return a public number of the contract."""
        by_asset = ("address",) if name == "held" else ("address", "address")
        data = calldata(name, by_asset, (asset, key[12:])[: len(by_asset)]) if key else calldata(name, (), ())
        return int.from_bytes(self.evm.call(self.at, data), "big")


def withdrawal(state: RollupState, number: int) -> list[int]:
    """Return the proof of an account in a state."""
    account = state.accounts.get(number)
    assert account is not None
    return _shown(state, number, account.words, state.accounts.siblings(number))


def channel_shown(state: RollupState, index: int) -> list[int]:
    """Return the proof of a channel in a state."""
    channel = state.channels.get(index)
    assert channel is not None
    return _shown(state, index, channel.words, state.channels.siblings(index))


def _shown(state: RollupState, number: int, words: Words, siblings: Siblings) -> list[int]:
    hashes = [int.from_bytes(each, "big") for each in (state.accounts.root, state.channels.root)]
    return [*hashes, state.head, number, *words, *(int.from_bytes(each, "big") for each in siblings)]


def remade(house: RollupHouse, posted: Posted) -> Posted:
    """Return the same; the house goes on from the state before it."""
    house.state = posted.before
    return posted
