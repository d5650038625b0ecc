"""Desks of a rollup's operator that are away, refuse, lose answers, and lie, and keep all that they were given."""

from __future__ import annotations

import collections
import random
from collections.abc import Callable
from typing import Any

import httpx

from tallystick.sdk.errors import CallFailed, NodeUnreachable
from tallystick.sdk.rollup.asking import RollupDesk
from tallystick.settlement.rollup.steps import RollupExit, RollupFund, RollupOpen, RollupTransfer, decode_step


class HostileDesk(RollupDesk):
    """A desk between a user and the operator: it keeps all that is handed in, and lies as it is told."""

    def __init__(self, honest: Callable[[], RollupDesk], rng: random.Random | None = None) -> None:
        """`honest` gives the operator's desk as it runs now; with `rng` some requests go wrong by themselves."""
        super().__init__(httpx.AsyncClient(base_url="http://hostile"))
        self._honest = honest
        self._random = rng
        self.rate = 0.0
        self.refuses = False
        self.is_away = self.loses = False
        self.says: dict[str, Any] = {}
        """What is said of every account besides the truth."""
        self.hidden = ""
        self.seen: list[Any] = []

    async def ask(self, path: str, body: Any = None) -> Any:
        """Answer."""
        if self._random is not None and body is not None:
            self.refuses, self.is_away, self.loses = (self._random.random() < self.rate for _ in range(3))
        if path == "/steps":
            if self.is_away:
                raise NodeUnreachable("away")
            self.seen += body["steps"]
            if self.refuses:
                raise CallFailed("not today")
        if self.hidden and path == self.hidden:
            raise CallFailed("there is no channel")
        answer = await self._honest().ask(path, body)
        if path == "/steps" and self.loses:
            raise NodeUnreachable("the answer was lost")
        return answer | self.says if path.startswith("/accounts") else answer

    def statements(self) -> dict[int, set[str]]:
        """Return all signatures that it ever saw, by their numbers: it could have any of them carried out."""
        found = collections.defaultdict(set)
        for each in self.seen:
            step = decode_step(bytes.fromhex(each["step"][2:]))
            if isinstance(step, RollupTransfer | RollupOpen | RollupFund | RollupExit):
                found[step.nonce].add(each["signatures"][0])
        return found
