"""What a node says when it does not take a transaction, in terms of ours: texts, which differ in each client. Pure.

JSON-RPC has no codes for it, so there is nothing but to read the texts; this is the one place that does. Who does not
find a text here must take it for "try again": nothing is ever concluded from words that are not understood.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping

from tallystick.settlement.errors import Refusal, RpcError

REVERTED = 3
"""JSON-RPC code of geth and anvil for a call that reverted."""


class Taken(enum.Enum):
    """Errors that mean that the transaction is there."""

    KNOWN = "known"
    """It waits already."""
    MINED = "mined"
    """It is in a block, and its call failed: hardhat and anvil mine at once, and answer with the failure."""


Meaning = Refusal | Taken

_COMMON: Mapping[str, Meaning] = {
    "already known": Taken.KNOWN,
    "known transaction": Taken.KNOWN,
    "already imported": Taken.KNOWN,
    "alreadyknown": Taken.KNOWN,
    "nonce too low": Refusal.NONCE_TOO_LOW,
    "nonce is too low": Refusal.NONCE_TOO_LOW,
    "nonce too high": Refusal.NONCE_TOO_HIGH,
    "nonce gap": Refusal.NONCE_TOO_HIGH,
    "replacement transaction underpriced": Refusal.UNDERPRICED,
    "underpriced": Refusal.UNDERPRICED,
    "could not replace": Refusal.UNDERPRICED,
    "less than block base fee": Refusal.UNDERPRICED,
    "below current base fee": Refusal.UNDERPRICED,
    "fee too low": Refusal.UNDERPRICED,
    "below configured minimum": Refusal.UNDERPRICED,
    "gas price below minimum": Refusal.UNDERPRICED,
    "insufficient funds": Refusal.INSUFFICIENT_FUNDS,
    "exceeds the configured cap": Refusal.FEE_CAPPED,
    "txpool is full": Refusal.MEMPOOL_FULL,
    "transaction pool is full": Refusal.MEMPOOL_FULL,
    "account limit exceeded": Refusal.MEMPOOL_FULL,
    "intrinsic gas too low": Refusal.MALFORMED,
    "insufficient gas for floor data gas": Refusal.MALFORMED,
    "gas limit too high": Refusal.MALFORMED,
    "exceeds block gas limit": Refusal.MALFORMED,
    "oversized data": Refusal.MALFORMED,
    "max initcode size exceeded": Refusal.MALFORMED,
    "tip higher than fee cap": Refusal.MALFORMED,
    "max priority fee per gas higher than max fee per gas": Refusal.MALFORMED,
    "transaction type not supported": Refusal.MALFORMED,
    "rlp:": Refusal.MALFORMED,
    "invalid chain id": Refusal.WRONG_CHAIN,
    "invalid chainid": Refusal.WRONG_CHAIN,
    "chain id mismatch": Refusal.WRONG_CHAIN,
    "invalid sender": Refusal.BAD_SIGNATURE,
    "invalid signature": Refusal.BAD_SIGNATURE,
    "only replay-protected": Refusal.MALFORMED,
}

_OF_CLIENT: Mapping[str, Mapping[str, Meaning]] = {
    "geth": {
        "in-flight transaction limit": Refusal.MEMPOOL_FULL,
        "future transaction tries to replace pending": Refusal.NONCE_TOO_HIGH,
        "gapped-nonce tx from delegated accounts": Refusal.NONCE_TOO_HIGH,
    },
    "anvil": {
        "intrinsic gas too high": Refusal.MALFORMED,
        "tx gas limit": Refusal.MALFORMED,
        "max fee per gas": Refusal.UNDERPRICED,
        "execution reverted": Taken.MINED,
    },
    "hardhat": {
        "nonce too high": Refusal.NONCE_TOO_HIGH,  # it goes on: "expected nonce to be"
        "doesn't have enough funds": Refusal.INSUFFICIENT_FUNDS,
        "is too low for the next block": Refusal.UNDERPRICED,
        "expected nonce to be": Refusal.NONCE_TOO_LOW,
        "reverted": Taken.MINED,
        "transaction ran out of gas": Taken.MINED,
        "gas limit is": Refusal.MALFORMED,
        "transaction requires": Refusal.MALFORMED,
        "is bigger than maxfeepergas": Refusal.MALFORMED,
        "init code length": Refusal.MALFORMED,
        "invalid transaction type": Refusal.MALFORMED,
        "input too short": Refusal.MALFORMED,
    },
    "nethermind": {
        "oldnonce": Refusal.NONCE_TOO_LOW,
        "noncegap": Refusal.NONCE_TOO_HIGH,
        "feetoolow": Refusal.UNDERPRICED,
        "replacementnotallowed": Refusal.UNDERPRICED,
        "insufficientfunds": Refusal.INSUFFICIENT_FUNDS,
        "gaslimitexceeded": Refusal.MALFORMED,
    },
    "besu": {
        "upfront cost exceeds account balance": Refusal.INSUFFICIENT_FUNDS,
        "exceeds_block_gas_limit": Refusal.MALFORMED,
    },
}
"""What a client alone says, or says in another sense; looked at before what all say."""

CLIENTS = tuple(_OF_CLIENT)


def client_of(version: str) -> str:
    """Return which client answers to `web3_clientVersion`: a name of `CLIENTS`, else empty (also for a provider's)."""
    said = version.lower()
    return next((name for name in CLIENTS if name in said), "")


def meaning_of(client: str, text: str) -> Meaning | None:
    """Return what it means that a node of this client answered a transaction with `text`. None: try again later."""
    said = text.lower()
    for table in (_OF_CLIENT.get(client, {}), _COMMON):
        found = next((meaning for words, meaning in table.items() if _says(said, words)), None)
        if found is not None:
            return found
    return None


def _says(said: str, words: str) -> bool:
    """Whether these words are in a text, and not the end of another one (an `unknown transaction`)."""
    return re.search(rf"(?<![a-z]){re.escape(words)}", said) is not None


_BUSY = (
    "rate limit",
    "too many requests",
    "exceeded its throughput",
    "request limit",
    "try again",
    "timeout",
    "timed out",
)


def is_passing(code: int, text: str) -> bool:
    """Whether an error says that the node is busy: providers say so with HTTP status 200, too.

    What a contract says when it reverts is no such word: whoever wrote the contract chose it.
    """
    said = text.lower()
    if _is_revert(code, said):
        return False
    return code in (-32005, -32029, -32097, 429) or any(words in said for words in _BUSY)


def is_revert(error: RpcError) -> bool:
    """Whether an error says that a call was made, and the contract refused it."""
    return _is_revert(error.code, error.said.lower())


def _is_revert(code: int, said: str) -> bool:
    return code == REVERTED or "revert" in said
