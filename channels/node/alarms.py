"""Alarms: what a person who runs a node or a tower must know, each a kind and a sentence.

A kind is a short name that programs and docs go by; docs/operations.md says of every kind what it means and what to do
(a test compares them). The sentence tells the case: which channel, which peer, how much. Who notices something hands an
`Alarm` to the `OnAlarm` that it was given; nothing here stores, prints or sends.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from tallystick.channels.words import plain


class AlarmKind(enum.StrEnum):
    """What an alarm is about. The names are part of the control API: a kind is never renamed."""

    CHAIN_UNREACHABLE = "chain-unreachable"
    """The chain node does not answer."""
    CHAIN_NONSENSE = "chain-nonsense"
    """The chain node's answers cannot be right."""
    CHAIN_STANDS_STILL = "chain-stands-still"
    """The chain node answers, and shows no new block, or only old ones."""
    CHAIN_BACK = "chain-back"
    """The notice that ends one of those above: the chain is followed again."""
    CHAIN_RESET = "chain-reset"
    """The chain is another one than was followed: it was begun anew, or the chain node serves another."""
    CHAIN_CONTRADICTED = "chain-contradicted"
    """Chain nodes deny each other's word on a block or a channel, or what was told of one is proven wrong."""
    CHAIN_UNPROVEN = "chain-unproven"
    """What is in channels is one chain node's word alone, or was not borne out for long."""
    NODE_SLEPT = "node-slept"
    """The process or its machine stood still for some time."""
    PRICE_UNKNOWN = "price-unknown"
    """The chain node does not say what gas costs."""
    DUTY_WAITS = "duty-waits"
    """Something that is due on chain cannot be taken on yet."""
    TRANSACTION_HELD_UP = "transaction-held-up"
    """A transaction is not taken or not mined for now; it is tried again."""
    TRANSACTION_GIVEN_UP = "transaction-given-up"
    """A transaction is not tried any more: a person must see to it."""
    TRANSACTION_UNDONE = "transaction-undone"
    """A transaction that counted as done left the chain; it is sent again."""
    NONCE_TAKEN = "nonce-taken"
    """Another program sends with this node's key."""
    FEE_ACCOUNT = "fee-account"
    """The account that pays for transactions holds too little."""
    FEE_ACCOUNT_FUNDED = "fee-account-funded"
    """It holds enough again."""
    START_LATE = "start-late"
    """The contract was on the chain before the first block that is followed."""
    PAYOUT_OWED = "payout-owed"
    """The contract keeps a payout that this node's account, or the token, refused."""
    DISK = "disk"
    """The disk refuses to write."""
    DATA_HEALED = "data-healed"
    """Damaged rows on the disk were dropped: what they said is learned anew."""
    LOCKS_UNKNOWN = "locks-unknown"
    """A channel ended on chain with an old state, and its locks are not in the history any more."""
    OTHER_TERMS = "other-terms"
    """A channel was opened on other terms than agreed."""
    PEER_STUCK = "peer-stuck"
    """A channel's peer acknowledges nothing."""
    PEER_OWES = "peer-owes"
    """A peer does not pay for locks that the chain shows to be ours: the channel is being closed."""
    PEER_BARRED = "peer-barred"
    """A peer took a secret without paying for it: nothing is forwarded for it for some time."""
    LOCK_UNPAID = "lock-unpaid"
    """A claimed lock expired unpaid, and its peer may not be to blame."""
    FORWARD_UNPAID = "forward-unpaid"
    """A payment was forwarded, and what was to pay for it is gone."""
    OLD_DATA = "old-data"
    """The data directory is an old copy."""
    PAYMENTS_WAIT = "payments-wait"
    """What peers pay is not taken in until more towers answer, as this node's policy wants it."""
    TOWER_UNREACHABLE = "tower-unreachable"
    """A tower has long taken nothing of what depends on it."""
    TOWER_BACK = "tower-back"
    """The notice that ends that."""
    TOWER_REFUSES = "tower-refuses"
    """A tower refused an appointment."""
    TOWER_MISBEHAVES = "tower-misbehaves"
    """A tower says what no tower may say."""
    APPOINTMENT_USELESS = "appointment-useless"
    """(tower) A client's appointment defends nothing."""
    APPOINTMENT_UNREWARDED = "appointment-unrewarded"
    """(tower) A client's appointment promises no reward."""
    PAYMENT_SET_ASIDE = "payment-set-aside"
    """A payment's order, or what came of it, met a fault of the program: it is not tried any more."""
    PROGRAM_FAULT = "program-fault"
    """A request met a fault of the program: it alone failed."""
    REQUEST_FAILED = "request-failed"
    """Something that was asked for without waiting for it came to nothing."""


class Alarm(msgspec.Struct, frozen=True):
    """Something that a person should know."""

    kind: AlarmKind
    text: str
    """One sentence: what happened where, and what to do if that is not always the same."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "text", plain(self.text))

    def __str__(self) -> str:
        return self.text


OnAlarm: TypeAlias = Callable[[Alarm], None]
"""Is told of every alarm, once each, in order. Must return at once."""
