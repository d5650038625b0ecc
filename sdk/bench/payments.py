"""`tally bench payments`: how often payments through a real network succeed, against balances that nobody knows.

The balances hidden in all channels are drawn once per seed. Each payment begins with nothing learned but the payer's
own balances, and runs the product's own state machine (`router.sending.payer`) over its planner: plan, try each
part hop by hop against the hidden balances and the forwarders' policies, learn, split, try again. Between payments the
balances are as drawn. Whether a payment could have succeeded at all is what a maximum flow over the hidden balances
says.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tallystick.router.objects import MILLION, Hop, NodeKey, Route
from tallystick.router.pathfinding.beliefs import BIMODAL, UNIFORM
from tallystick.router.pathfinding.columns import floats
from tallystick.router.pathfinding.flow import Demand
from tallystick.router.pathfinding.graph import Graph
from tallystick.router.pathfinding.imports import MSAT
from tallystick.router.pathfinding.kernels import PAUSE, PLAIN, compiled_kernels
from tallystick.router.pathfinding.liquidity import Knowledge
from tallystick.router.pathfinding.planner import Costs, Planner
from tallystick.router.pathfinding.steps import Steps, finish
from tallystick.router.sending.asset_graph import OrderRoutes, RetryPlan
from tallystick.router.sending.attribution import Attribution, PartFailure
from tallystick.router.sending.payer import Limits, Payment
from tallystick.router.testing.networks import HiddenBalances
from tallystick.sdk.bench.graphs import connected_nodes, percentile, random_pairs, read_edges

PRIORS = {"uniform": UNIFORM, "bimodal": BIMODAL}
FEE_SHARE = 20
"""A payment may cost a twentieth of its amount …"""

FEE_BASE = 5 * MSAT
"""… and that much more."""

PART_MIN = 1_000 * MSAT
NOW = 1e9
MAX_FLOW_ROUNDS = 10_000


METHODS = ("flow", "halving", "single")


class PaymentsRow(msgspec.Struct, frozen=True, kw_only=True):
    """What became of payments of one amount. Shares in percent."""

    amount: int
    """In satoshi."""
    liquidity: str
    payments: int
    feasible_pct: float
    """Possible by any algorithm."""
    success_pct: float
    of_feasible_pct: float
    """Successes among the feasible."""
    attempts: float
    """Parts sent, per success."""
    parts: float
    """Parts that were paid, per success."""
    fee_ppm_median: float
    fee_ppm_mean: float
    plan_ms_median: float
    """All planning of one payment."""
    plan_ms_p99: float


class PaymentsResult(msgspec.Struct, frozen=True, kw_only=True):
    """What `--json` prints."""

    nodes: int
    channels: int
    compiled: bool
    method: str
    pairs: int
    seeds: int
    rows: list[PaymentsRow]


class _Tried(msgspec.Struct, frozen=True):
    feasible: bool
    paid: bool
    attempts: int
    parts: int
    fee_ppm: float
    plan_ms: float


def run_payments(
    graph_file: Path,
    amounts: Sequence[int],
    liquidity: Sequence[str],
    pairs: int,
    seeds: int,
    *,
    use_numba: bool,
    say: Callable[[str], None],
    method: str = "flow",
    first_seed: int = 0,
    costs: Costs | None = None,
) -> PaymentsResult:
    """Try `pairs` random payments of each amount (satoshi) for each of `seeds` draws of hidden balances.

    `method`: `flow` is the product's; `halving` begins with one path and halves what finds none, `single` never splits.
    """
    edges = read_edges(graph_file)
    graph = Graph(edges, compiled=use_numba)
    nodes = connected_nodes(graph)
    rows = []
    for kind in liquidity:
        tried: dict[int, list[_Tried]] = {amount: [] for amount in amounts}
        for seed in range(first_seed, first_seed + seeds):
            hidden = HiddenBalances(edges, PRIORS[kind], random.Random(seed))
            stage = _HiddenDraw(Planner(graph, Knowledge(graph, prior=PRIORS[kind]), costs), hidden, method)
            for amount, results in tried.items():
                for payer, payee in random_pairs(nodes, pairs, random.Random(seed)):
                    results.append(stage.pay(payer, payee, amount * MSAT))
                say(f"{kind}, draw {seed}: {pairs} payments of {amount:,} sat")
        rows += [_row(amount, kind, results) for amount, results in tried.items()]
    channels = len({edge.channel for edge in edges})
    return PaymentsResult(
        nodes=len(graph.nodes),
        channels=channels,
        compiled=use_numba,
        method=method,
        pairs=pairs,
        seeds=seeds,
        rows=rows,
    )


def _row(amount: int, kind: str, tried: Sequence[_Tried]) -> PaymentsRow:
    feasible = [one for one in tried if one.feasible]
    paid = [one for one in tried if one.paid]
    times = sorted(one.plan_ms for one in tried)
    fees = [one.fee_ppm for one in paid] or [0.0]
    return PaymentsRow(
        amount=amount,
        liquidity=kind,
        payments=len(tried),
        feasible_pct=100 * len(feasible) / len(tried),
        success_pct=100 * len(paid) / len(tried),
        of_feasible_pct=100 * len([one for one in feasible if one.paid]) / max(1, len(feasible)),
        attempts=sum(one.attempts for one in paid) / max(1, len(paid)),
        parts=sum(one.parts for one in paid) / max(1, len(paid)),
        fee_ppm_median=statistics.median(fees),
        fee_ppm_mean=statistics.mean(fees),
        plan_ms_median=statistics.median(times),
        plan_ms_p99=percentile(times, 99),
    )


class _PlannedRoutes(OrderRoutes):
    """Routes by the planner alone, for payments of no node. `flow`: whether it plans many parts."""

    def __init__(self, planner: Planner, source: NodeKey, *, flow: bool) -> None:
        self._planner = planner
        self._source = source
        self._flow = flow
        self.knowledge = planner.knowledge
        self.learn_policy = lambda update: False  # no failure brings one here: policies are as announced

    def plan(
        self, target: NodeKey, amount: int, *, max_fee: int, max_parts: int, now: float
    ) -> Steps[tuple[Route, ...]]:
        """Find routes that deliver `amount` together; raise NoRoute."""
        parts = max_parts if self._flow else 1
        return self._planner.planning(self._source, target, amount, max_fee=max_fee, max_parts=parts, now=now)

    def route(self, target: NodeKey, amount: int, *, max_fee: int, now: float) -> Steps[Route]:
        """Find one route; raise NoRoute."""
        return self._planner.routing(self._source, target, amount, max_fee=max_fee, now=now)

    def retry_plan(
        self, target: NodeKey, amount: int, *, max_fee: int, max_parts: int, now: float
    ) -> Steps[RetryPlan | None]:
        """Nothing comes back here by waiting."""
        yield from ()
        return None

    def reserve(self, route: Route) -> None:
        """A part goes this way."""
        self.knowledge.reserve(route)

    def release(self, route: Route) -> None:
        """The part has ended."""
        self.knowledge.release(route)

    def margin(self, route: Route) -> int:
        """No lock is made here."""
        return 0

    def allows(self, hop: Hop, fee: int) -> bool:
        """Policies do not change here."""
        return True

    def close(self) -> None:
        """There is nothing to take back."""


class _HiddenDraw:
    """One draw of hidden balances, and one planner that starts every payment knowing nothing."""

    def __init__(self, planner: Planner, hidden: HiddenBalances, method: str) -> None:
        self._flow = method == "flow"
        self._limits = Limits(part_min=PART_MIN, parts=1 if method == "single" else Limits().parts, waits=False)
        self._planner = planner
        self._hidden = hidden
        self._kernel = compiled_kernels() if planner.graph.compiled else PLAIN
        columns, graph = planner.graph.columns, planner.graph
        self._none = floats([0.0] * len(columns.base), compiled=graph.compiled)
        self._balances = floats([0.0] * len(columns.base), compiled=graph.compiled)
        for (channel, target), balance in hidden.balances.items():
            slot = graph.slot(channel, target)
            if slot is not None:
                self._balances[slot] = float(balance)

    def pay(self, payer: NodeKey, payee: NodeKey, amount: int) -> _Tried:
        """Try one payment, and leave the balances as they were."""
        knowledge = self._planner.knowledge
        knowledge.reset()
        for edge in self._planner.graph.leaving(payer):
            knowledge.own(edge.channel, edge.target, self._hidden.balances[edge.channel, edge.target])
        max_fee = amount // FEE_SHARE + FEE_BASE
        view = _PlannedRoutes(self._planner, payer, flow=self._flow)
        payment = Payment(view, payee, amount, max_fee=max_fee, limits=self._limits)
        spent = self._run(payment)
        paid = payment.owed == 0
        locked = payment.parts if paid else []
        tried = _Tried(
            feasible=paid or self._feasible(payer, payee, amount),
            paid=paid,
            attempts=payment.attempts,
            parts=len(locked),
            fee_ppm=payment.fee / amount * MILLION,
            plan_ms=spent * 1000,
        )
        for part in payment.parts:
            self._hidden.unlock(part.route)
        return tried

    def _run(self, payment: Payment) -> float:
        """Let a payment run until it is paid or gives up; return the seconds spent planning."""
        spent = 0.0
        began = time.perf_counter()
        waiting = finish(payment.start(NOW))
        spent += time.perf_counter() - began
        while waiting:
            part = waiting.pop(0)
            refused = self._hidden.lock(part.route)
            if refused is None:
                continue
            began = time.perf_counter()
            if refused == 0:
                waiting += finish(payment.part_unsent(part.number, NOW))
            else:
                failure = PartFailure(Attribution.LIQUIDITY, refused - 1)
                waiting += finish(payment.on_part_failed(part.number, failure, NOW))
            spent += time.perf_counter() - began
        return spent

    def _feasible(self, payer: NodeKey, payee: NodeKey, amount: int) -> bool:
        """Whether the maximum flow over the hidden balances is `amount` at least."""
        graph, none, balances = self._planner.graph, self._none, self._balances
        source, target = graph.index(payer), graph.index(payee)
        if source is None or target is None:
            return False
        columns = graph.columns._replace(
            base=none, weight=none, minimum=none, limit=balances, lower=balances, upper=balances, held=none
        )
        demand = Demand(
            nodes=graph.count,
            source=source,
            target=target,
            amount=float(amount),
            unit=1.0,
            risk=0.0,
            hop=1.0,
            spread=0.0,
            least=0.0,
            rounds=MAX_FLOW_ROUNDS,
            ends=floats([1.0], compiled=graph.compiled),
            slopes=floats([0.0], compiled=graph.compiled),
        )
        steps = self._kernel.cheapest_flow(columns, demand, PAUSE)
        return sum(units for slot, units in finish(steps) if columns.source[slot] == source) >= amount
