"""A new key of votes: in place when the chain has it in force and not before, and whole, whatever dies in between."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from simulation.replicas import GENESIS, application
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE
from tallystick.settlement.ethereum.module_calls import write_call
from tallystick.settlement.ethereum.transactions import sign_call
from tallystick.settlement.modules.validator_records import StakeRules
from tallystick.settlement.replicated.application import Application
from tallystick.settlement.replicated.decision import ProposedBlock
from tallystick.settlement.replicated.home import BEFORE, KEY, NEXT, STATE, EngineAddress, ValidatorKeys, write_home
from tallystick.settlement.replicated.home import with_stakes as staked
from tallystick.settlement.replicated.key_change import VoteKey, change_key, is_key_due, prepare_key, read_key
from tallystick.settlement.replicated.validator import prove_possession
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.settlement.simulated.ledger import Mint

OWN = ValidatorKeys(*(keccak(b"%d of the validator" % part) for part in range(3)))
OPERATOR = PrivateKey(OWN.operator)
STAKED = staked(replace(GENESIS, gas_limit=30_000_000), [OWN], StakeRules(unit=1_000, own_least=10_000))
PAID = replace(STAKED, mints=(*STAKED.mints, Mint(OPERATOR.address, NATIVE, 10**9)))


def home_in(folder: Path) -> Path:
    for name, text in write_home(0, [OWN], [EngineAddress("127.0.0.1", 1)], PAID, 1.0).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def entropy(size: int) -> bytes:
    return b"\x2a" * size


def public_in(home: Path, file: str = KEY) -> bytes:
    return bytes(read_key(home / file).verify_key)


def replacement(home: Path) -> bytes:
    """Return the call by which the operator replaces the key."""
    public, proof, _ = prove_possession(home, 1337, OPERATOR.address, NEXT)
    call = write_call("validators", "replaceKey", [OWN.address, public, proof])
    return sign_call(OPERATOR, 1337, ADJUDICATOR, call, 0, 2)


def grow(app: Application, *transactions: bytes) -> Any:
    decision = app.finalize(ProposedBlock(app.height + 1, 2_000 + app.height, transactions))
    app.commit()
    return decision


def test_it_is_due_when_the_next_block_is_voted_on_by_it(tmp_path: Path) -> None:
    home, app = home_in(tmp_path), application(genesis=PAID)
    prepare_key(home, entropy)
    public = public_in(home, NEXT)
    grow(app)
    assert not is_key_due(app.branch, public)
    decision = grow(app, replacement(home))
    assert [(update.public == public, update.power > 0) for update in decision.updates] in (
        [(True, True), (False, False)],
        [(False, False), (True, True)],
    )
    assert not is_key_due(app.branch, public), "the votes on block 3 are by the old one"
    grow(app)
    assert is_key_due(app.branch, public), "the votes on block 4 are by the new one"
    assert not is_key_due(app.branch, OWN.public), "the old one is due again"


def test_a_key_that_waits_is_made_once_and_an_unreadable_home_is_told(tmp_path: Path) -> None:
    home = home_in(tmp_path)
    prepare_key(home, entropy)
    made = (home / NEXT).read_bytes()
    prepare_key(home, lambda size: b"\x2b" * size)
    assert (home / NEXT).read_bytes() == made and oct((home / NEXT).stat().st_mode & 0o777) == "0o600"
    with pytest.raises(InvalidInput, match="no key of votes"):
        prepare_key(tmp_path / "nowhere", entropy)


async def test_the_engine_is_stopped_before_its_key_changes_and_starts_with_the_new_one(tmp_path: Path) -> None:
    home, app = home_in(tmp_path), application(genesis=PAID)
    prepare_key(home, entropy)
    new, state = public_in(home, NEXT), (home / STATE).read_bytes()
    runs: list[tuple[bytes, bytes]] = []
    told: list[str] = []
    keys = VoteKey(home, app.branch)

    async def engine() -> None:
        began = public_in(home)
        try:
            await trio.sleep_forever()
        finally:
            runs.append((began, public_in(home)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keys.keep, engine, told.append)
        for transactions in ((), (replacement(home),)):
            grow(app, *transactions)
            keys.look()
            await trio.testing.wait_all_tasks_blocked()
            assert not runs and public_in(home) == OWN.public
        grow(app)
        keys.look()
        await trio.testing.wait_all_tasks_blocked()
        assert runs == [(OWN.public, OWN.public)] and public_in(home) == new
        assert not (home / NEXT).exists() and public_in(home, BEFORE) == OWN.public
        assert (home / STATE).read_bytes() == state and told == ["votes are by the new key from block 4 on"]
        grow(app)
        keys.look()
        await trio.testing.wait_all_tasks_blocked()
        assert len(runs) == 1
        nursery.cancel_scope.cancel()
    assert runs[1] == (new, new)


@pytest.mark.parametrize("dies_at", range(1, 6))
async def test_whatever_dies_in_between_the_next_start_has_the_right_key(
    tmp_path: Path, dies_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine dies before the n-th thing that is done to the disk; all that it has then is a whole key."""
    home, app = home_in(tmp_path), application(genesis=PAID)
    prepare_key(home, entropy)
    new = public_in(home, NEXT)
    grow(app, replacement(home))
    grow(app)
    steps = 0

    def counted(real: Any) -> Any:
        def step(*arguments: Any, **named: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == dies_at:
                raise KeyboardInterrupt
            return real(*arguments, **named)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", counted(os.fsync))
        patch.setattr(Path, "replace", counted(Path.replace))
        with pytest.raises(KeyboardInterrupt):
            change_key(home)
    assert public_in(home) in (OWN.public, new)
    runs: list[bytes] = []

    async def engine() -> None:
        runs.append(public_in(home))
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(VoteKey(home, app.branch).keep, engine, lambda text: None)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert runs == [new]
