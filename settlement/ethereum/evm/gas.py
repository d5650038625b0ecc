"""How much gas a transaction is given: by what was measured of its call, and by what a node estimates now. Pure.

What is not used is not paid, but a limit that is too low costs the whole fee and does nothing. So the limit is the
higher of both, with a margin on the estimate, as the state may be another one when it is mined; and never more than a
transaction may have (EIP-7825). A call that a node says would fail now is given what was measured: what it waits for
may be in a transaction before it. If it pays out, that is with the receivers, or the token, refusing: no node can tell.
"""

from __future__ import annotations

from tallystick.channels.protocol.app_court import CourtMoveCall, RegisterStateCall
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.chain import (
    ApproveCall,
    BatchCall,
    Call,
    ChallengeCall,
    ClaimCall,
    CloseCall,
    CooperativeCloseCall,
    DepositCall,
    OpenCall,
    RedeemCall,
    RegisterLinkCall,
    RegisterProofCall,
    RegisterSecretCall,
    SettleCall,
    TransferCall,
    WithdrawCall,
)
from tallystick.settlement.port import Each, Tariff

GAS_MAX = 2**24
"""Of one transaction (EIP-7825)."""

MARGIN = (5, 4)
"""On an estimate."""

BELIEVED = 4
"""Times what was measured that an estimate is believed: forks made calls up to three times as dear."""

MEASURED: dict[type[Call], int] = {
    OpenCall: 180_000,
    DepositCall: 130_000,
    WithdrawCall: 160_000,
    CooperativeCloseCall: 220_000,
    CloseCall: 180_000,
    ChallengeCall: 150_000,
    SettleCall: 260_000,
    RedeemCall: 200_000,
    RegisterSecretCall: 60_000,
    RegisterLinkCall: 120_000,
    RegisterProofCall: 130_000,
    RegisterStateCall: 200_000,
    CourtMoveCall: 180_000,
    TransferCall: 100_000,
    ApproveCall: 80_000,
    ClaimCall: 130_000,
    BatchCall: 30_000,
}
"""The most that each call took on an EVM of today's prices, with a token of 60,000 a transfer, and a third on top."""

REFUSING: dict[type[Call], tuple[int, int]] = {
    WithdrawCall: (20_000, 140_000),
    CooperativeCloseCall: (40_000, 310_000),
    SettleCall: (20_000, 270_000),
    RedeemCall: (50_000, 310_000),
}
"""What comes on top in coins, and in a token, if each payout is refused and burns all the gas that it gets (60,000 and
200,000). The contract owes it then, but only if more than that was left, and 20,000: else it was for want of gas."""

PERMIT_GAS = 80_000
"""Of a permit that goes with a deposit, likewise."""

ENVELOPE = 180
"""Bytes of a transaction around its calldata: nonce, fees, limit, addresses, signature."""

WORDS: dict[type[Call], int] = {
    OpenCall: 7,
    DepositCall: 8,
    WithdrawCall: 13,
    CooperativeCloseCall: 13,
    CloseCall: 25,
    ChallengeCall: 19,
    SettleCall: 10,
    RedeemCall: 11,
    RegisterSecretCall: 1,
    RegisterLinkCall: 6,
    RegisterProofCall: 4,
    RegisterStateCall: 24,
    CourtMoveCall: 36,
    TransferCall: 2,
    ApproveCall: 2,
    ClaimCall: 2,
    BatchCall: 2,
}
"""Of calldata, 32 bytes each, at most."""

SIZES = {call: ENVELOPE + 4 + 32 * words for call, words in WORDS.items()}
"""Bytes of a transaction of each call, at most."""

BATCH_SAVES = 20_000
"""What a call in a batch takes less than alone: it pays for no transaction of its own."""

LOCK_GAS = 8_000
"""Of each lock in a redeem, likewise."""

LINK_GAS = 260
"""Of each step from a registered link towards its stream's tip, likewise."""

PROOF_GAS = 80
"""Of each byte of a proof of any other kind, likewise; and of a state in court."""

APP_GAS = 300_000
"""Of what the rules of any app that ships are asked with one call, above those of noughts and crosses, likewise."""


def _app_gas(app: bytes) -> int:
    return APP_GAS


TARIFF = Tariff(
    calls=MEASURED,
    each={
        RedeemCall: Each("locks", LOCK_GAS, size=65),
        RegisterLinkCall: Each("depth", LINK_GAS),
        RegisterProofCall: Each("proof", PROOF_GAS, size=1),
        RegisterStateCall: Each("state", PROOF_GAS, size=1),
        CourtMoveCall: Each("state", 2 * PROOF_GAS, size=1),
    },
    app_gas=_app_gas,
    most=GAS_MAX,
    sizes=SIZES,
    permit=PERMIT_GAS,
    batched=BATCH_SAVES,
)
"""What is counted with before a node is asked."""


def measured(call: Call) -> int:
    """Return the most that a call should take."""
    return TARIFF.gas(call)


def limit_of(call: Call, estimate: int | None, data_in_gas: bool = False, pays_in: Address | None = None) -> int:
    """Return the limit to sign; `estimate` is a node's, None if it says that the call would fail now.

    `pays_in` is the asset of what it pays out, if that may be refused.

    No estimate is believed that is far above what was measured, unless the chain takes gas for data (`data_in_gas`): it
    may be a lie, and a token may burn all that it is given.
    """
    if estimate is not None and not data_in_gas:
        estimate = min(estimate, BELIEVED * measured(call))
    if estimate is None:
        refused = (0, 0) if pays_in is None else REFUSING.get(type(call), (0, 0))
        wanted = measured(call) + refused[pays_in != NATIVE]
    else:
        wanted = max(measured(call), estimate * MARGIN[0] // MARGIN[1])
    return min(wanted, GAS_MAX)
