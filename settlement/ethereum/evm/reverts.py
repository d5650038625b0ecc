"""Why a call failed, out of what a node answers to it: the data of a revert, wherever a client puts it. Pure.

A receipt says that a call failed, never why. It is made again as a mere question (`eth_call`) at the receipt's block;
then the node answers with an error that carries what the contract said: Solidity's `Error(string)`, `Panic(uint256)`,
or nothing. Our contracts say the code of a rule (`Revert`), tokens what they like.
"""

from __future__ import annotations

from typing import Any

from tallystick.channels.errors import InvalidInput
from tallystick.settlement.errors import Revert, read_revert
from tallystick.settlement.ethereum.abi_values import decode_values

ERROR = bytes.fromhex("08c379a0")
"""Selector of `Error(string)`."""

PANIC = bytes.fromhex("4e487b71")
"""Selector of `Panic(uint256)`."""

REASON_MAX = 300
"""Characters of a contract's own words that are kept."""

_DEPTH = 4
"""How deep in an answer the data is looked for."""

_ENTAILS = {
    "insufficient allowance": Revert.INSUFFICIENT_ALLOWANCE,
    "exceeds allowance": Revert.INSUFFICIENT_ALLOWANCE,
    "exceeds balance": Revert.INSUFFICIENT_BALANCE,
    "insufficient balance": Revert.INSUFFICIENT_BALANCE,
}
"""What tokens say for two of our rules, in lower case: OpenZeppelin's and Solmate's words."""


def revert_data(value: Any, depth: int = _DEPTH) -> bytes | None:
    """Return what a contract said, out of the `data` of an error: hex, hex after a word, or deeper in. None: nothing.

    geth and anvil put the hex there, hardhat an object with a `data`, Nethermind and OpenEthereum `Reverted 0x…`.
    """
    if isinstance(value, dict):
        if depth == 0:
            return None
        found = (revert_data(each, depth - 1) for key, each in value.items() if key in ("data", "output", "result"))
        return next((each for each in found if each is not None), None)
    if not isinstance(value, str):
        return None
    text = value.removeprefix("Reverted ").strip()
    if not text.startswith("0x"):
        return None
    try:
        return bytes.fromhex(text[2:])
    except ValueError:
        return None


def read_reason(data: bytes | None) -> tuple[Revert | None, str]:
    """Return which rule refused the call, None if none that we know, and the reason as a sentence."""
    if not data:
        return None, "the contract refused the call without a word"
    selector, rest = data[:4], data[4:]
    if selector == ERROR:
        text = _text(rest)
        return (None, "the contract's reason cannot be read") if text is None else _rule(text)
    if selector == PANIC and len(rest) >= 32:
        return None, f"the contract's code met an error of kind 0x{int.from_bytes(rest[:32], 'big'):02x}"
    return None, f"the contract refused the call with the error 0x{selector.hex()}"


def _rule(text: str) -> tuple[Revert | None, str]:
    code, sentence = read_revert(text)
    if code is not None:
        return code, sentence or f"the contract's rule {code} refuses it"
    said = text.lower()
    return next((rule for words, rule in _ENTAILS.items() if words in said), None), text


def _text(data: bytes) -> str | None:
    try:
        (text,) = decode_values(("string",), data)
    except InvalidInput:
        return None
    return "".join(each if each.isprintable() else "?" for each in text[:REASON_MAX])
