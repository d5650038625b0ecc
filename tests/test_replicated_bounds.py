"""What a validator takes at all: proposals within bounds, told before a signature is recovered, and rules that ship."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from simulation.court_bench import GAME
from simulation.replicas import GENESIS, KEYS, application, transfer
from tallystick.channels.apps.interface import AppTable
from tallystick.channels.apps.table import APPS, SHIPPED
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.conditions.kinds import KindTable
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.contract import verdicts
from tallystick.settlement.errors import TransactionRefused
from tallystick.settlement.ethereum import transactions
from tallystick.settlement.ethereum.abi import Envelope
from tallystick.settlement.ethereum.transactions import GAS, TARIFF, sign_envelope
from tallystick.settlement.replicated import bounds, shipped
from tallystick.settlement.replicated.application import Application
from tallystick.settlement.replicated.bounds import BLOCK_BYTES, FRAMING, GAS_LEAST, MINTS_MAX, fitting
from tallystick.settlement.replicated.decision import MINT_BYTES, MINT_MARK, MintOrder, ProposedBlock, encode_order
from tallystick.settlement.replicated.genesis import APP_VERSION
from tallystick.settlement.simulated.ledger import Mint

TRANSFERS = tuple(transfer(0, nonce) for nonce in range(20))
DATA = bytes(65_000)


def order(number: int, amount: int = 1) -> bytes:
    return encode_order(MintOrder(Mint(KEYS[0].address, NATIVE, amount), number.to_bytes(8, "big")))


def proposed(*raws: bytes) -> ProposedBlock:
    return ProposedBlock(1, 1_000, raws)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Application:
    """A ledger at which nobody can find out who signed what."""
    monkeypatch.setattr(transactions, "recover", lambda *said: pytest.fail("a signature is recovered"))
    return application()


def test_a_proposal_of_more_transactions_than_there_is_gas_for_is_refused_unread(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = app.rules.gas_limit // GAS_LEAST
    assert not app.accepts(proposed(*(b"",) * room)), "they have no place"
    monkeypatch.setattr(bounds, "read_unsigned", lambda *said: pytest.fail("it is read"))
    assert not app.accepts(proposed(*(b"",) * (room + 1)))
    called = [gas + 4 * each for gas, each in TARIFF.functions.values() if gas]  # those without are views
    assert min(*GAS.values(), *called) >= GAS_LEAST


def test_a_proposal_of_more_gas_than_a_block_has_is_refused_unrecovered(app: Application) -> None:
    fits = app.rules.gas_limit // transactions.read_unsigned(TRANSFERS[0], app.rules.at).gas
    assert fits + 1 < app.rules.gas_limit // GAS_LEAST, "the count alone does not tell"
    assert not app.accepts(proposed(*TRANSFERS[: fits + 1]))


def test_what_a_block_has_gas_for_is_taken_whether_it_was_seen_before_or_not() -> None:
    app = application()
    fits = app.rules.gas_limit // transactions.read_unsigned(TRANSFERS[0], app.rules.at).gas
    assert app.accepts(proposed(*TRANSFERS[:fits]))
    assert not app.accepts(proposed(*TRANSFERS[: fits + 1])), "all but one were seen"


@pytest.mark.parametrize("last", [b"", b"\x02nothing", b"\x01" * 50])
def test_what_is_no_transaction_has_all_beside_it_refused_unrecovered(app: Application, last: bytes) -> None:
    assert not app.accepts(proposed(TRANSFERS[0], last))


def test_a_proposal_of_more_bytes_than_a_block_has_is_refused_unrecovered(app: Application) -> None:
    to = Envelope(Address(bytes([7]) * 20), 0, DATA)
    app.rules = replace(app.rules, gas_limit=10**12)
    raws = [sign_envelope(KEYS[0], 1337, to, nonce, 2, 2, 10**6) for nonce in range(2)] * 33
    assert sum(len(raw) + FRAMING for raw in raws) > BLOCK_BYTES
    assert not app.accepts(proposed(*raws))
    held = fitting(raws, 10**9)
    assert len(held) < len(raws) and sum(len(raw) + FRAMING for raw in held) <= BLOCK_BYTES
    assert fitting(raws, len(raws[0]) + FRAMING) == (raws[0],)


def test_a_block_makes_so_many_mints_and_no_more() -> None:
    one, two = application(), application()
    orders = tuple(order(number) for number in range(MINTS_MAX + 1))
    chosen = one.prepare(proposed(*orders), BLOCK_BYTES)
    assert chosen == orders[:MINTS_MAX], "the last one waits"
    assert two.accepts(proposed(*chosen))
    assert not two.accepts(proposed(*orders))
    assert not application(genesis=replace(GENESIS, dev=False)).accepts(proposed(orders[0]))


def test_a_mint_has_a_size() -> None:
    app = application()
    longest = encode_order(MintOrder(Mint(Address(b"\xff" * 20), Address(b"\xff" * 20), 2**128 - 1), b"\xff" * 8))
    assert len(longest) <= MINT_BYTES
    long = MINT_MARK + bytes(MINT_BYTES)
    assert not app.accepts(proposed(long))
    with pytest.raises(TransactionRefused, match="at most 128 bytes"):
        app.check(long)


class Own(type(GAME)):  # type: ignore[misc]
    """An app that does not ship."""

    name = "own"


class OwnVerdict(verdicts.HashVerdict):
    """A kind of locks that does not ship."""

    number = 9


@pytest.mark.parametrize(
    ("table", "own", "said"),
    [
        ("APPS", AppTable(*SHIPPED, Own()), f"app own/{GAME.version}"),
        ("VERDICTS", KindTable(*verdicts.SHIPPED, OwnVerdict()), "kind 9 of locks"),
    ],
)
def test_a_program_that_judges_by_rules_of_its_own_runs_no_validator(
    table: str, own: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipped, table, own)
    with pytest.raises(InvalidInput, match=f"registered {said}"):
        application()


def test_no_rules_can_be_registered_once_there_is_a_validator() -> None:
    application()
    with pytest.raises(InvalidInput, match="too late"):
        APPS.register(Own())
    with pytest.raises(InvalidInput, match="too late"):
        verdicts.VERDICTS.register(OwnVerdict())


def test_validators_of_one_version_judge_by_the_same_apps() -> None:
    """Whoever ships another app raises APP_VERSION: a validator that does not know it would part from the others."""
    assert (APP_VERSION, keccak(b"".join(sorted(app.id for app in SHIPPED))).hex()[:16]) == (2, "3296113769f038ce")
