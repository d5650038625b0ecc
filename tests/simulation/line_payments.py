"""One payment over a line of three nodes, and what must be so when it was made, or was not."""

from __future__ import annotations

from simulation.line import Line
from tallystick.router.forwarding.circuits import load_circuits
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.objects import ForwardingPolicy

SECRET = b"s" * 32
OTHER = b"o" * 32
FREE = RoutingOptions(policy=ForwardingPolicy(fee_ppm=1_000))
AMOUNTS = (100_100, 100_000)
"""What A locks for B, and B for C: the fee is exactly what B asks for."""
WEALTH = {"A": 1_000_000, "B": 2_000_000, "C": 1_000_000}


def paid(world: Line, amounts: tuple[int, ...] = AMOUNTS, times: int = 1) -> None:
    """The payment was made once, by everybody, and nothing pends."""
    assert world.faults == [] and world.pending() == []
    assert world.wealth("A") == WEALTH["A"] - times * amounts[0]
    assert world.wealth("B") == WEALTH["B"] + times * (amounts[0] - amounts[1])
    assert world.wealth("C") == WEALTH["C"] + times * amounts[1]
    assert load_circuits(world["B"].store) == []


def unpaid(world: Line) -> None:
    """Everybody has what it had, and nothing pends."""
    assert world.faults == [] and world.pending() == []
    assert {name: world.wealth(name) for name in "ABC"} == WEALTH
    assert load_circuits(world["B"].store) == []
