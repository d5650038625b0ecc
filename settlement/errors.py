"""Every error that this package raises, below `TallystickError`.

    TallystickError
    ├── ChainUnavailable        the chain node did not answer; try again later, nothing was lost
    │   └── ReceiptUntold       it says that a batch was mined, and not of each of its calls what became of it
    ├── ChainError              the chain node answered, but not what the interface promises (wrong chain, bad data)
    │   ├── WrongChain          it serves another chain or contract, or one that was begun anew
    │   ├── RpcError            an Ethereum node answered a question with an error (see `code`, `data`)
    │   └── Contradicted        chain nodes do not say the same of a block or a channel
    ├── TransactionRefused      the chain node will not take this transaction at all (see `code`)
    ├── Reverted                a rule of the adjudicator, the registry or a token refuses this call (see `code`)
    └── LedgerBroken            the simulated ledger contradicts itself: coins were made or lost, or its data is damaged

`Reverted` is what the pure rules raise; on a chain it becomes a failed receipt with the same code and text.
"""

from __future__ import annotations

import enum

from tallystick.channels.errors import TallystickError


class ChainUnavailable(TallystickError):
    """The chain node could not be reached or answered with a passing fault. Retrying is right."""


class ReceiptUntold(ChainUnavailable):
    """A chain node says that a batch was mined, and leaves out what became of some of its calls."""


class ChainError(TallystickError):
    """The chain node's answer cannot be right: another chain, malformed data. Retrying does not help."""


class WrongChain(ChainError):
    """The chain node serves another chain or contract than the one expected, or the chain was begun anew."""


class RpcError(ChainError):
    """An Ethereum node answered a question with a JSON-RPC error. `said` are its words, `data` what it added."""

    def __init__(self, code: int, said: str, data: object = None) -> None:
        super().__init__(f"the chain node refuses the request ({code}): {said}")
        self.code = code
        self.said = said
        self.data = data


class Contradicted(ChainError):
    """What one chain node says of a block, or of channels after it, another one denies."""


class Refusal(enum.StrEnum):
    """Why a chain node refuses a transaction at its door."""

    WRONG_CHAIN = "wrong-chain"
    BAD_SIGNATURE = "bad-signature"
    NONCE_TOO_LOW = "nonce-too-low"
    NONCE_TOO_HIGH = "nonce-too-high"
    UNDERPRICED = "underpriced"
    INSUFFICIENT_FUNDS = "insufficient-funds"
    FEE_CAPPED = "fee-capped"
    """The fee is above what the node's owner lets it take: the transaction is well formed, and another node may take
    it."""
    MEMPOOL_FULL = "mempool-full"
    ALREADY_KNOWN = "already-known"
    MALFORMED = "malformed"


class TransactionRefused(TallystickError):
    """The chain node will not take the transaction. `code` says why."""

    def __init__(self, text: str, code: Refusal) -> None:
        super().__init__(text)
        self.code = code


class Revert(enum.StrEnum):
    """Why a contract refuses a call. The values stand in receipts (`read_revert`) and never change."""

    UNKNOWN_CHANNEL = "unknown-channel"
    CHANNEL_EXISTS = "channel-exists"
    WRONG_NUMBER = "wrong-number"
    BAD_TERMS = "bad-terms"
    NOT_A_PARTICIPANT = "not-a-participant"
    WRONG_STATUS = "wrong-status"
    BAD_SIGNATURE = "bad-signature"
    BAD_PROOF = "bad-proof"
    BAD_CLOSE_KEY = "bad-close-key"
    EXPIRED = "expired"
    WINDOW_OPEN = "window-open"
    WINDOW_OVER = "window-over"
    NOT_NEWER = "not-newer"
    BAD_LOCKS = "bad-locks"
    BAD_BALANCES = "bad-balances"
    BAD_AMOUNT = "bad-amount"
    INSUFFICIENT_BALANCE = "insufficient-balance"
    INSUFFICIENT_ALLOWANCE = "insufficient-allowance"
    ALREADY_REGISTERED = "already-registered"
    NOTHING_TO_REDEEM = "nothing-to-redeem"
    UNKNOWN_CALL = "unknown-call"
    TRANSFER_FAILED = "transfer-failed"
    INEXACT_TRANSFER = "inexact-transfer"
    NOTHING_OWED = "nothing-owed"
    UNKNOWN_ENTRY = "unknown-entry"
    LIMIT_MISSED = "limit-missed"
    NO_LIQUIDITY = "no-liquidity"
    NOT_COVERED = "not-covered"
    NOT_REPAID = "not-repaid"
    NOT_ALLOWED = "not-allowed"
    BAD_BATCH = "bad-batch"
    OVERDUE = "overdue"
    STEP_RIGHT = "step-right"
    STEP_WRONG = "step-wrong"
    OUT_OF_GAS = "out-of-gas"
    """The call used up all the gas that it was given, or left too little for a payout: nothing of it was done."""


class Reverted(TallystickError):
    """A contract's rule refuses the call; nothing but nonce and fee has changed. `code` says which rule."""

    def __init__(self, code: Revert, text: str) -> None:
        super().__init__(text)
        self.code = code


_REVERTS = {code.value: code for code in Revert}


def read_revert(text: str) -> tuple[Revert | None, str]:
    """Return what a failed receipt says as `<code>: <sentence>`; all of it is the sentence if the code is unknown."""
    code, _, sentence = text.partition(":")
    found = _REVERTS.get(code)
    return (None, text) if found is None else (found, sentence.removeprefix(" "))


class LedgerBroken(TallystickError):
    """The simulated ledger contradicts itself. It stops at once; nothing of the block in question was kept."""
