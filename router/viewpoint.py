"""The planner as one payment of one node sees it: what `payer` calls a map."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tallystick.router.objects import Edge, NodeKey, Route
from tallystick.router.planner import Planner


class Viewpoint:
    """Routes from `source`, and what its payments learn. Close it once the payment has ended.

    `hints` are channels that the payee names; they are in the graph until then. `learn` takes in channel updates that
    come with failures, and returns whether they were valid and news.
    """

    def __init__(
        self,
        planner: Planner,
        source: NodeKey,
        *,
        hints: Sequence[Edge] = (),
        learn: Callable[[bytes], bool] = lambda update: False,
    ) -> None:
        self.planner = planner
        self.source = source
        self._hints = hints
        self._learn = learn
        planner.graph.hint(hints)
        knowledge = planner.knowledge
        self.reserve = knowledge.reserve
        self.release = knowledge.release
        self.passed = knowledge.passed
        self.failed = knowledge.failed
        self.settled = knowledge.settled
        self.avoid = knowledge.avoid
        self.avoid_node = knowledge.avoid_node

    def plan(self, target: NodeKey, amount: int, *, max_fee: int, max_parts: int, now: float) -> tuple[Route, ...]:
        """Return at most `max_parts` routes that deliver `amount` together for at most `max_fee`; raise NoRoute."""
        return self.planner.plan(self.source, target, amount, max_fee=max_fee, max_parts=max_parts, now=now)

    def route(self, target: NodeKey, amount: int, *, max_fee: int, now: float) -> Route:
        """Return one route that delivers `amount` for at most `max_fee`; raise NoRoute."""
        return self.planner.route(self.source, target, amount, max_fee=max_fee, now=now)

    def learn_policy(self, update: bytes) -> bool:
        """Take in a channel update from a failure; return whether it was valid and news."""
        return self._learn(update)

    def close(self) -> None:
        """The payment has ended: take back its hints."""
        self.planner.graph.unhint(self._hints)
        self._hints = ()
