"""Who numbers an account's transactions: its node while it has one that runs, and commands otherwise.

A transaction carries its account's next number. A command that asked the chain for it beside a running node, or beside
what its node still has under way, would sign a second transaction under a number that the node has signed under: only
one of them is ever mined, and the other one, a deposit or a payment, never is. So a command holds the data directory
while it sends, and is refused where the node numbers. On another chain than its own a node numbers nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tallystick.channels.errors import StoreInUse
from tallystick.channels.protocol.objects import Address
from tallystick.channels.storage.directory import holder_of, lock_directory
from tallystick.channels.storage.sqlite.snapshots import open_snapshot
from tallystick.sdk.daemon.configuration import CONFIG, read_settings
from tallystick.sdk.errors import ConfigurationError
from tallystick.settlement.sending.moments import read_book
from tallystick.settlement.sending.sqlite import SCHEMA

_STORE = "tally.db"


@contextmanager
def hold_numbers(directory: Path, account: Address, chain_id: int) -> Iterator[None]:
    """Keep the node of a data directory from numbering its account's transactions on a chain meanwhile.

    Raise ConfigurationError if it runs, or has transactions under way: then nothing was done. A directory that holds
    a key alone, or a node of another chain, is left as it is.
    """
    if not (directory / _STORE).exists() or _is_elsewhere(directory, chain_id):
        yield
        return
    try:
        held = lock_directory(directory, "a command that sends a transaction")
    except StoreInUse as error:
        raise ConfigurationError(
            f"the key in {directory} is its node's, which numbers this account's transactions on this chain, and the "
            f"directory is in use by {holder_of(directory) or 'it'}: use a key of its own (`tally init --data OTHER "
            "--light`), or stop the node first"
        ) from error
    with held:
        with open_snapshot(directory, [SCHEMA]) as reader:  # a node keeps more than that, a tower something else
            book = read_book(reader, chain_id, account)
        under_way = [each for each in book.obligations.values() if not each.is_final]
        if under_way:
            raise ConfigurationError(
                f"the node of {directory} has {len(under_way)} transactions under way, the first for: "
                f"{under_way[0].purpose}. Run it until they are done, or use a key of its own (`tally init --data "
                "OTHER --light`)"
            )
        yield


def _is_elsewhere(directory: Path, chain_id: int) -> bool:
    """Whether the directory's settings name another chain; without settings, it may be any."""
    return (directory / CONFIG).exists() and read_settings(directory).chain_id != chain_id
