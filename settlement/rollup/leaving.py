"""Proofs by which accounts and channels leave a rollup: what `withdraw`, `escape` and `reclaimClose` take."""

from __future__ import annotations

from tallystick.channels.errors import InvalidInput
from tallystick.settlement.rollup.state import RollupState, Words
from tallystick.settlement.rollup.trees import Siblings


def show_account(state: RollupState, number: int) -> list[int]:
    """Return the proof of an account in the state after a batch; raise InvalidInput if there is none."""
    account = state.accounts.get(number)
    if account is None:
        raise InvalidInput(f"there is no account {number}")
    return _shown(state, number, account.words, state.accounts.siblings(number))


def show_channel(state: RollupState, index: int) -> list[int]:
    """Return the proof of a channel in the state after a batch; raise InvalidInput if there is none."""
    channel = state.channels.get(index)
    if channel is None:
        raise InvalidInput(f"there is no channel {index}")
    return _shown(state, index, channel.words, state.channels.siblings(index))


def _shown(state: RollupState, number: int, words: Words, siblings: Siblings) -> list[int]:
    hashes = [int.from_bytes(each, "big") for each in (state.accounts.root, state.channels.root)]
    return [*hashes, state.head, number, *words, *(int.from_bytes(each, "big") for each in siblings)]
