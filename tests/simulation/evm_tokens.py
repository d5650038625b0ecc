"""Tokens for tests of the contract: an ordinary one, and those that break what others promise.

Compiling takes seconds, so tests/vectors/evm_contracts.json keeps what `python -m simulation.evm_tokens` made of them.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from simulation.evm import Evm, calldata, compiled
from tallystick.channels.protocol.objects import Address

_COMMON = """
# pragma version 0.4.3
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
nonces: public(HashMap[address, uint256])
blocked: public(HashMap[address, bool])
closed: public(HashMap[address, bool])
fee: public(uint256)
target: address
data: Bytes[2048]
DOMAIN: immutable(bytes32)

@deploy
def __init__():
    self.balanceOf[msg.sender] = 10**30
    DOMAIN = keccak256(abi_encode(
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
        keccak256("Token"), keccak256("1"), chain.id, self))

@external
@view
def DOMAIN_SEPARATOR() -> bytes32:
    return DOMAIN

@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    return True

@external
def permit(owner: address, spender: address, amount: uint256, deadline: uint256, v: uint8, r: bytes32, s: bytes32):
    assert block.timestamp <= deadline, "late"
    digest: bytes32 = keccak256(concat(x"1901", DOMAIN, keccak256(abi_encode(
        keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"),
        owner, spender, amount, self.nonces[owner], deadline))))
    assert ecrecover(digest, convert(v, uint256), convert(r, uint256), convert(s, uint256)) == owner, "not signed"
    self.nonces[owner] += 1
    self.allowance[owner][spender] = amount

@external
def block_account(account: address, yes: bool):
    self.blocked[account] = yes

@external
def block_to(account: address, yes: bool):
    self.closed[account] = yes

@external
def set_fee(fee: uint256):
    self.fee = fee

@external
def set_call(target: address, data: Bytes[2048]):
    self.target = target
    self.data = data

@external
def mint(to: address, amount: uint256):
    self.balanceOf[to] += amount

@internal
def _move(owner: address, to: address, amount: uint256):
    assert not self.blocked[owner] and not self.blocked[to] and not self.closed[to], "blocked"
    self.balanceOf[owner] -= amount
    self.balanceOf[to] += amount - self.fee
    if self.target != empty(address):
        ignored: bool = raw_call(self.target, self.data, revert_on_failure=False)

@internal
def _can(owner: address, amount: uint256) -> bool:
    return self.balanceOf[owner] >= amount and not self.blocked[owner]
"""
_ORDINARY = """
@external
def transfer(to: address, amount: uint256) -> bool:
    self._move(msg.sender, to, amount)
    return True

@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    self.allowance[owner][msg.sender] -= amount
    self._move(owner, to, amount)
    return True
"""
_SILENT = _ORDINARY.replace(" -> bool", "").replace("    return True\n", "")
_STRICT = """
@external
def approve(spender: address, amount: uint256):
    assert amount == 0 or self.allowance[msg.sender][spender] == 0, "take it back to 0 before"
    self.allowance[msg.sender][spender] = amount
"""
_APPROVE = """
@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    return True
"""
_FALSE = """
@external
def transfer(to: address, amount: uint256) -> bool:
    if not self._can(msg.sender, amount) or self.blocked[to] or self.closed[to]:
        return False
    self._move(msg.sender, to, amount)
    return True

@external
def transferFrom(owner: address, to: address, amount: uint256) -> bool:
    if self.allowance[owner][msg.sender] < amount or not self._can(owner, amount):
        return False
    if self.blocked[to] or self.closed[to]:
        return False
    self.allowance[owner][msg.sender] -= amount
    self._move(owner, to, amount)
    return True
"""
_PERMIT = _COMMON[_COMMON.index("@external\ndef permit") : _COMMON.index("@external\ndef block_account")]
_DAI = """
@external
def permit(
    owner: address, spender: address, nonce: uint256, expiry: uint256, yes: bool, v: uint8, r: bytes32, s: bytes32
):
    self.nonces[owner] += 1
    self.allowance[owner][spender] = max_value(uint256) if yes else 0

"""
_PHANTOM = """
# pragma version 0.4.3
# Like WETH9: whatever it does not know, it takes for a payment, and answers nothing.
balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])

@deploy
def __init__():
    self.balanceOf[msg.sender] = 10**30

@external
def approve(spender: address, amount: uint256) -> bool:
    self.allowance[msg.sender][spender] = amount
    return True

@external
@payable
def __default__():
    self.balanceOf[msg.sender] += msg.value

@internal
def _move(owner: address, to: address, amount: uint256):
    self.balanceOf[owner] -= amount
    self.balanceOf[to] += amount
"""
_BODIES = {"ordinary": _ORDINARY, "silent": _SILENT, "false": _FALSE}

RECEIVER = """
# pragma version 0.4.3
# An account with code: it may refuse coins, call somebody when it gets some, or call anybody for its owner.
mode: public(uint256)
target: address
data: Bytes[2048]
calls: public(uint256)
succeeded: public(uint256)

@external
def set_mode(mode: uint256):
    self.mode = mode

@external
def set_call(target: address, data: Bytes[2048]):
    self.target = target
    self.data = data

@external
@payable
def act(target: address, data: Bytes[4096], amount: uint256):
    raw_call(target, data, value=amount)

@external
@payable
def __default__():
    if self.mode == 1:
        raise "no coins, please"
    if self.mode == 2:
        self.calls += 1
        done: bool = raw_call(self.target, self.data, revert_on_failure=False)
        if done:
            self.succeeded += 1
    if self.mode == 3:
        for i: uint256 in range(1_000_000):
            self.calls += 1
"""


SOURCES = {
    **{kind: _COMMON + body for kind, body in _BODIES.items()},
    "strict": _COMMON.replace(_APPROVE, _STRICT).replace(_PERMIT, "") + _SILENT,
    "dai": _COMMON.replace(_PERMIT, _DAI) + _ORDINARY,
    "phantom": _PHANTOM + _ORDINARY,
    "receiver": RECEIVER,
}
"""What tests deploy beside the adjudicator: tokens that are `ordinary`, `silent` (they return nothing), `false` (they
return false, and never revert), `strict` (silent, without permits; an allowance goes to 0 or from 0 only), `dai` (with
another kind of permit) or `phantom` (with none, but no call of one fails), and an account with code."""

COMPILED = Path(__file__).resolve().parent.parent / "vectors" / "evm_contracts.json"


@cache
def _compiled() -> dict[str, str]:
    found: dict[str, str] = json.loads(COMPILED.read_text("utf-8"))
    return found


def code_of(name: str) -> bytes:
    """Return what deploys one of `SOURCES`."""
    return bytes.fromhex(_compiled()[name])


def compile_all() -> dict[str, str]:
    """Compile all of `SOURCES`; some seconds."""
    return {name: code.hex() for name, code in compiled(SOURCES).items()}


class EvmToken:
    """One token on a chain. It may be told to block accounts, to keep a fee, or to call somebody while it moves."""

    def __init__(self, evm: Evm, by: Address, kind: str = "ordinary") -> None:
        self.evm = evm
        self.by = by
        self.at = evm.deploy(code_of(kind), by)

    def send(self, by: Address, name: str, types: tuple[str, ...], *values: object) -> None:
        """Call a function of the token."""
        self.evm.send(by, self.at, calldata(name, types, values))

    def approve(self, owner: Address, spender: Address, amount: int) -> None:
        """Let `spender` take so much."""
        self.send(owner, "approve", ("address", "uint256"), spender, amount)

    def mint(self, to: Address, amount: int) -> None:
        """Make more of it."""
        self.send(self.by, "mint", ("address", "uint256"), to, amount)

    def balance(self, account: Address) -> int:
        """What an account holds."""
        return int.from_bytes(self.evm.call(self.at, calldata("balanceOf", ("address",), (account,))), "big")


if __name__ == "__main__":
    COMPILED.write_text(json.dumps(compile_all(), indent=1) + "\n", "utf-8")
