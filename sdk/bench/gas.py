"""`tally bench gas`: what each call of the contract costs on a real node, in coins and in a token (ERC-20).

By the receipts of transactions (`gas_meter`), on a node that is named or started (`gas_nodes`).
"""

from __future__ import annotations

import msgspec
import trio
from rich.box import SIMPLE_HEAD
from rich.table import Table

from tallystick.sdk.bench.evm_node import EvmNode, open_evm_node
from tallystick.sdk.bench.gas_court import CourtGas, measure_court
from tallystick.sdk.bench.gas_meter import BATCH, Meter, measure_coins, measure_tokens
from tallystick.sdk.bench.gas_nodes import start_gas_node

LOCKS = (1, 10, 483)
TOKEN_LOCKS = (1, 10)
"""Of redeems in a token: each further lock costs as much as in coins."""
STAKED_LOCKS = (1, 10)
"""Of redeems of stakes in apps."""


class CallGas(msgspec.Struct, frozen=True):
    """Gas of each call. `open` is the pair's first, `batch_close_each` one of BATCH cooperative closes."""

    open: int
    open_later: int
    deposit: int
    cooperative_close: int
    close: int
    """With two proofs, without locks."""
    challenge: int
    settle: int
    redeem: dict[str, int]
    """By the number of locks."""
    batch_close_each: int


class TokenGas(CallGas, frozen=True):
    """The same of channels in a token of which everybody holds some; `approve` is its own call, before a deposit."""

    approve: int


class GasResult(msgspec.Struct, frozen=True):
    """What `tally bench gas` found."""

    client: str
    fork: str
    calls: CallGas
    """In the native coin."""
    erc20: TokenGas
    court: CourtGas

    @property
    def dear(self) -> list[str]:
        """Which calls cost more than they may; none where gas has other prices than the limits are for."""
        return [name for name, used, limit, *_ in _rows(self) if limit is not None and used > limit]


LIMITS = {
    "open, a later one of the pair": 80_000,
    "deposit": 34_000,
    "cooperative close": 58_000,
    "close with two proofs": 76_000,
    "challenge": 48_000,
    "settle": 54_000,
    **{f"redeem, locks: {count}": 50_000 + 4_400 * count for count in LOCKS},
    f"cooperative close, each of {BATCH}": 40_000,
    "court: register a state": 155_000,
    "court: make a move": 140_000,
    "court: register an outcome": 100_000,
    "redeem, stakes in apps: 10": 110_000,
}
"""The most that a call may cost by Osaka's prices."""

SAME_PRICES = ("cancun", "prague", "osaka")
"""Forks by whose rules these calls cost the same."""

OTHERS = {
    "open, the pair's first": ("146,956 with the deposit", "", "328,861"),
    "deposit": ("56,000", "29,408 to 46,496", "93,318"),
    "cooperative close": ("112,270", "111,514", "129,257"),
    "close with two proofs": ("118,501 + 90,516", "113,146", "up to 464,887"),
    "challenge": ("224,262 by a tower", "73,936", ""),
    "settle": ("108,569", "82,026", "80,215"),
    "redeem, locks: 1": ("38,619", "", "8,883"),
}
"""What Raiden's, Nitro's and Celer's own files say of theirs; a call of theirs is not always the same as ours."""


def run_gas(url: str | None, client: str | None = None, fork: str | None = None) -> GasResult:
    """Measure on the node at `url`, or else on one that is started: this client, by this fork's rules.

    Raise MeasurementVoid if it is not there, or knows no such fork.
    """
    return trio.run(_run, url, client, fork)


async def _run(url: str | None, client: str | None, fork: str | None) -> GasResult:
    async with open_evm_node(url) if url is not None else start_gas_node(client, fork) as node:
        return await measure(node)


async def measure(node: EvmNode) -> GasResult:
    """Measure on a node, which must give coins for nothing."""
    meter = Meter(node)
    await meter.deploy()
    calls = msgspec.convert(await measure_coins(meter, LOCKS), CallGas)
    court = await measure_court(meter, STAKED_LOCKS)
    erc20 = msgspec.convert(await measure_tokens(meter, TOKEN_LOCKS), TokenGas)
    return GasResult(await node.client(), await node.fork(), calls, erc20, court)


def _rows(result: GasResult) -> list[tuple[str, int, int | None, int | None, str, str, str]]:
    """Return of each call its name, gas, limit, gas in a token, and what it costs elsewhere."""
    limits = LIMITS if result.fork in SAME_PRICES else {}
    tokens = _named(result.erc20)
    return [
        (name, used, limits.get(name), tokens.get(name), *OTHERS.get(name, ("", "", "")))
        for name, used in (_named(result.calls) | _of_court(result.court)).items()
    ]


def _of_court(court: CourtGas) -> dict[str, int]:
    """Return the gas of each call about an app by its name for people."""
    return {
        "court: register a state": court.register_state,
        "court: make a move": court.move_in_court,
        "court: register an outcome": court.register_outcome,
        **{f"redeem, stakes in apps: {count}": used for count, used in court.redeem_stakes.items()},
    }


def _named(calls: CallGas) -> dict[str, int]:
    """Return the gas of each call by its name for people."""
    return {
        "open, the pair's first": calls.open,
        "open, a later one of the pair": calls.open_later,
        "deposit": calls.deposit,
        "cooperative close": calls.cooperative_close,
        f"cooperative close, each of {BATCH}": calls.batch_close_each,
        "close with two proofs": calls.close,
        "challenge": calls.challenge,
        "settle": calls.settle,
        **{f"redeem, locks: {count}": used for count, used in calls.redeem.items()},
    }


def gas_table(result: GasResult) -> Table:
    """Return the table of a `tally bench gas`."""
    caption = "gas: in coins; all by receipts. Raiden, Nitro and Celer as their own files say, whose calls are not ours"
    rows = Table(title=f"gas of each call: {result.client}, {result.fork}", caption=caption, box=SIMPLE_HEAD, padding=0)
    rows.add_column("call", min_width=len("cooperative"))
    for heading in ("gas", "limit", "ERC-20", "Raiden", "Nitro", "Celer"):
        rows.add_column(heading, justify="right", min_width=len("2,000,000"))
    for name, used, limit, token, *others in _rows(result):
        rows.add_row(name, f"{used:,}", *("" if each is None else f"{each:,}" for each in (limit, token)), *others)
    rows.add_row("approve, of the token", "", "", f"{result.erc20.approve:,}", "", "", "")
    return rows
