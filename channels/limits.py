"""Every limit of the channel layer, named once, with its unit. Raising one is a protocol decision, not a tweak."""

from __future__ import annotations

from typing import Annotated

from tallystick.channels.errors import InvalidInput
from tallystick.channels.values.argument_rules import Whole
from tallystick.channels.values.arguments import Options

UINT64_MAX = 2**64 - 1
AMOUNT_MAX = 2**128 - 1
"""Largest amount and largest cumulative total, in the asset's smallest unit."""

DEPOSITS_MAX = 2**120 - 1
"""What both sides may have deposited into a channel in all: the contract keeps two such sums in one word."""

MESSAGE_MAX = 65_535
"""Bytes of one encoded message (the length field of a BOLT 8 packet has 16 bits)."""

MEMO_MAX = 256
"""Bytes of a payment's memo."""

KEY_MAX = 1_024
"""Bytes of a payment's idempotency key."""

ONION_MAX = 1_366
"""Bytes of the onion that travels with a lock (BOLT 4: 1 + 33 + 1300 + 32)."""

PROOF_MAX = 1_024
"""Bytes of what satisfies a lock's condition."""

REASON_MAX = 512
"""Bytes of a reject's reason (onion-encrypted to the payer)."""

ERROR_TEXT_MAX = 512
"""Bytes of the human-readable text in an error message."""

BATCH_PAYMENTS_MAX = 6_000
"""Payments in one update. With 9-byte amounts and no memos these fill about 54 kB."""

BATCH_BYTES_MAX = 60_000
"""Estimated bytes of the operations in one update; below MESSAGE_MAX by more than the other fields take."""

KIND_MAX = 255
"""Of a lock: a kind is one byte wherever a contract reads it."""

LOCKS_MAX = 483
"""Pending locks per simplex (as BOLT 2's max_accepted_htlcs): the whole list must fit one `redeem` transaction."""

WINDOW_MAX = 128
"""Updates that may be in flight per simplex: a receiver refuses `seen` further back than this."""

WINDOW_FIRST = 8
"""Updates that may be in flight before anything is known of the path."""

OPERATIONS_MAX = 1_000
"""Operations in one update (a run of payments is one operation)."""

STREAM_LENGTH_MAX = 65_536
"""Links of one stream: a contract must be able to follow a chain to its tip within one block's gas."""

CHALLENGE_PERIOD_MAX = 366 * 86_400
"""Seconds. A longer window would lock funds up for ever by mistake, and could overflow the deadline."""

RESERVE_PPM_MAX = 100_000
"""Millionths of a channel's funding that its reserve is at most: a tenth."""

HISTORY_BATCH = 256
"""Updates after which what is too much of a channel's history is pruned, all at once."""


class Policy(Options, frozen=True, kw_only=True):
    """What one node asks of its channels. Amounts in the asset's smallest unit, times in seconds of chain time."""

    window: int = WINDOW_MAX
    """Updates in flight per simplex before the writer waits for an ack, at most: it adapts to the path (`window`)."""

    outbox: int = 20_000
    """Payments that wait in memory per channel before `pay` makes its caller wait."""

    unsecured: int = AMOUNT_MAX
    """Amount per channel that was accepted and not yet secured at which `pay` makes its caller wait. Until a payment is
    secured, the payee cannot enforce it: whoever delivers before that gives credit."""

    locks: int = LOCKS_MAX
    """Pending locks per simplex beyond which a new one is accepted, and rejected at once."""

    locked_value: int = AMOUNT_MAX
    """Total value of pending locks per simplex beyond which a new one is rejected."""

    kinds: tuple[int, ...] | None = None
    """Kinds of locks that the chain decides: others are not signed, and a peer's are rejected. None: all that this
    program knows. A node sets it by its chain."""

    lock_expiry_min: int = 120
    """A lock that expires sooner than this from now is rejected: its secret would be too late to be paid (below)."""

    lock_expiry_max: int = 14 * 86_400
    """A lock that expires later than this from now is rejected."""

    reveal_margin: int = 120
    """The writer pays for a `Reveal` only while this much time is left before the lock's expiry: it may have to
    register the secret itself, for a lock that it forwarded. Its view of the chain may be 30 s old; of the rest, the
    fee takes 60 % to rise to all that may be spent (54 s), and three blocks of 12 s may be reorganised away."""

    stream_margin: int = 300
    """The payer settles a stream at the latest this much time before its lock's expiry: no link is released after."""

    link_margin: int = 150
    """The payee takes no link when less time than this is left before the lock's expiry: it must have been able to
    register it, once, by itself (`settlement.enforcement.duties`)."""

    stream_unsecured: int = 65_536
    """Units of one stream that may be waiting or released without the payee's acknowledgement."""

    ack_patience: float = 30.0
    """Seconds (of the node's own clock, seen to within some 20) that an update may wait for its acknowledgement while
    the peer's link is up, before the connection is ended: the next greeting settles it (`patience`)."""

    reserve_ppm: int = 10_000
    """Millionths of the channel's total funding that each side keeps: what a cheater has to lose. In openings of our
    own it is what we ask for, in a peer's it is the least."""

    challenge_period_min: int = 600
    """Channels whose challenge window is shorter than this are not used."""

    challenge_period_max: int = 7 * 86_400
    """Channels whose challenge window is longer are not used: what this node has in one may be bound as long."""

    history: Annotated[int, Whole(0, 2**62)] | None = None
    """Agreed updates to keep in each journal of a channel whose owner did not choose; None: all, 0: none."""

    offer_lifetime: int = 600
    """How long our cooperative closes and withdrawals stay valid."""

    offer_lifetime_max: int = 3_600
    """The longest life of a peer's offer that we countersign: until then the channel is frozen."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_reserve_ppm(self.reserve_ppm)
        if not 1 <= self.offer_lifetime <= self.offer_lifetime_max:
            raise InvalidInput(f"an offer lives from 1 to {self.offer_lifetime_max} s, not {self.offer_lifetime!r}")


def check_reserve_ppm(value: int) -> int:
    """Return `value` if a reserve may be that many millionths of the funding; raise InvalidInput otherwise."""
    if type(value) is not int or not 0 <= value <= RESERVE_PPM_MAX:
        raise InvalidInput(f"a reserve is from 0 to {RESERVE_PPM_MAX} millionths of the funding, not {value!r}")
    return value
