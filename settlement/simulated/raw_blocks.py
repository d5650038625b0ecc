"""A block from transactions as they came, in a given order, prepared by whoever helps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import msgspec

from tallystick.settlement.contract.signed import parties_of
from tallystick.settlement.errors import Refusal, TransactionRefused
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.execution.prepared import ALONE, Crew, Prepared, prepare_all
from tallystick.settlement.simulated.ledger import BlockRecord, Mint, Plan, build_block, next_nonce
from tallystick.settlement.simulated.world import Layer


class RawBlock(msgspec.Struct, frozen=True):
    """A block, and which of what was given is no transaction that it could have held, by index."""

    record: BlockRecord
    refused: tuple[tuple[int, Refusal], ...]
    again: int
    """How many of them were prepared twice, as a helper was not ready in time."""


def build_raw_block(
    state: Layer, plan: Plan, mints: Sequence[Mint], raws: Sequence[bytes], crew: Crew = ALONE
) -> RawBlock:
    """Return a block of these transactions in their order; its effects are in `state`, a fresh layer.

    What is refused, or left out (`build_block`), is not in the block and does nothing. Who helps changes no result.
    """
    refused: list[tuple[int, Refusal]] = []
    at = Deployment(plan.rules.chain_id, plan.rules.contract)
    bundles = prepare_all(raws, at, lambda id: parties_of(state.channel(id)), crew)
    prepared = chain.from_iterable(bundle.transactions for bundle in bundles)
    record = build_block(state, plan, mints, _mineable(state, plan, prepared, refused))
    return RawBlock(record, tuple(refused), sum(map(len, bundles.again)))


def _mineable(
    state: Layer, plan: Plan, prepared: Iterable[Prepared | TransactionRefused], refused: list[tuple[int, Refusal]]
) -> Iterator[Prepared]:
    """Yield those that a pool would have given: valid, of enough gas, and the next of their sender."""
    for index, each in enumerate(prepared):
        if isinstance(each, TransactionRefused):
            refused.append((index, each.code))
            continue
        transaction = each.transaction
        upcoming = next_nonce(state, transaction.sender)
        if not each.reading.gas <= transaction.gas <= plan.gas_limit:
            refused.append((index, Refusal.MALFORMED))
        elif transaction.nonce != upcoming:
            low = transaction.nonce < upcoming
            refused.append((index, Refusal.NONCE_TOO_LOW if low else Refusal.NONCE_TOO_HIGH))
        else:
            yield each
