"""Another key for a validator's votes, at home: made, kept until the chain knows it, and put in place in time.

The new key is on disk, in a file that the engine does not read, before the chain hears of it. From the ledger alone
follows when it is in force: two blocks after the one that replaced the old key. Then the engine is stopped, the key
takes the old one's place by one rename, and the engine starts again. Whatever dies in between, the next start sees the
same and goes on. What was voted on so far (`data/priv_validator_state.json`) stays: neither key votes below it.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import trio
from nacl.signing import SigningKey

from tallystick.channels.errors import InvalidInput
from tallystick.channels.ports import Entropy
from tallystick.channels.protocol.objects import NATIVE
from tallystick.settlement.modules.validator_changes import told_in
from tallystick.settlement.modules.validator_records import DELAY
from tallystick.settlement.modules.validators import VALIDATORS
from tallystick.settlement.replicated.home import BEFORE, KEY, NEXT, key_file
from tallystick.settlement.simulated.branch import Branch
from tallystick.settlement.simulated.module_calls import ModuleRun
from tallystick.settlement.simulated.world import Layer


class VoteKey:
    """Which key of a home's votes is in place, as the chain goes on."""

    def __init__(self, home: Path, branch: Branch) -> None:
        self._home = home
        self._branch = branch
        self._due = trio.Event()

    def __repr__(self) -> str:
        return f"<VoteKey in {self._home}>"

    def look(self) -> None:
        """See whether the next key is due: with each block."""
        waits = not self._due.is_set() and (self._home / NEXT).exists()
        if waits and is_key_due(self._branch, bytes(read_key(self._home / NEXT).verify_key)):
            self._due.set()

    async def keep(self, run: Callable[[], Awaitable[None]], told: Callable[[str], None]) -> None:
        """Run the engine, and again each time that another key is in place; raise what `run` raises."""
        while True:
            self.look()
            if self._due.is_set():
                change_key(self._home)
                self._due = trio.Event()
                told(f"votes are by the new key from block {self._branch.newest.header.number + 1} on")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run)
                await self._due.wait()
                nursery.cancel_scope.cancel()


def read_key(file: Path) -> SigningKey:
    """Return the key of votes in a file; raise InvalidInput if there is none."""
    try:
        return SigningKey(base64.b64decode(msgspec.json.decode(file.read_bytes())["priv_key"]["value"])[:32])
    except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{file} holds no key of votes: {type(error).__name__}") from None


def prepare_key(home: Path, entropy: Entropy) -> None:
    """Make the next key of a home's votes, on disk; one that waits there already, stays. Raise InvalidInput."""
    read_key(home / KEY)
    if not (home / NEXT).exists():
        _write(home / NEXT, key_file(entropy(32)).encode())


def is_key_due(branch: Branch, public: bytes) -> bool:
    """Whether the votes on the next block are to be by this key, of those that were replaced."""
    newest = branch.newest.header
    told = told_in(
        ModuleRun(Layer(branch.world), VALIDATORS, NATIVE, newest.time, [], 1, branch.rules.contract), public
    )
    return told is not None and newest.number + 1 >= told + DELAY


def change_key(home: Path) -> None:
    """Put the next key in the old one's place, while no engine runs; the old one stays beside it."""
    _write(home / BEFORE, (home / KEY).read_bytes())
    (home / NEXT).replace(home / KEY)
    _sync(home / KEY)


def _write(file: Path, data: bytes) -> None:
    """Have a file on disk whole, or not at all."""
    part = file.with_suffix(".part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    part.replace(file)
    _sync(file)


def _sync(file: Path) -> None:
    """Have on disk what a folder says of a file."""
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
