"""What calls cost, by route or by a function, and the same for programs: `x-payment-info` in /openapi.json. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX

TARGET_MAX = 200
"""Characters of a call that stand in its invoice's memo and in its challenge; of longer ones the hash does."""

_ROUTE = re.compile(r"([A-Z]+) (/[^?#\s]*)")
_METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")


class PaidCall(msgspec.Struct, frozen=True):
    """A call as it came: what a price is asked for."""

    method: str
    path: str
    query: str
    """As it stands in the address, after the question mark."""
    headers: tuple[tuple[str, str], ...]
    """Names in small letters."""
    body: bytes

    @property
    def target(self) -> str:
        """What the payment is for: method, path and query."""
        return f"{self.method} {self.path}" + (f"?{self.query}" if self.query else "")

    def values(self, name: str) -> list[str]:
        """Return the values of a header, by its name in small letters."""
        return [value for other, value in self.headers if other == name]


PriceRule = Callable[[PaidCall], int | None]
"""The price of a call in the asset's smallest unit; None: it is free."""


class PriceList:
    """Prices by route, as in `{"GET /fortune": 5, "POST /items/{item}": 20}`. HEAD costs what GET does."""

    def __init__(self, prices: Mapping[str, int]) -> None:
        self.prices = dict(prices)
        self._routes: list[tuple[str, re.Pattern[str], int]] = []
        for route, price in prices.items():
            match = _ROUTE.fullmatch(route)
            if match is None:
                raise InvalidInput(f"a paid route is a method and a path, as in 'GET /items/{{item}}', not {route!r}")
            if isinstance(price, bool) or not isinstance(price, int) or not 0 < price <= AMOUNT_MAX:
                raise InvalidInput(f"the price of {route} is a whole number above 0, in the asset's smallest unit")
            pieces = re.split(r"\{[^{}/]*\}", match[2])
            self._routes.append((match[1], re.compile("[^/]+".join(map(re.escape, pieces))), price))

    def __call__(self, call: PaidCall) -> int | None:
        """Return what a call costs."""
        method = "GET" if call.method == "HEAD" else call.method
        for known, path, price in self._routes:
            if known == method and path.fullmatch(call.path):
                return price
        return None


def with_offers(document: dict[str, Any], prices: Mapping[str, int], currency: str) -> dict[str, Any]:
    """Return an OpenAPI document that says of each paid operation what it costs, and that 402 may come."""
    paths = document.get("paths")
    if not isinstance(paths, dict):
        return document
    told = {}
    for path, item in paths.items():
        told[path] = dict(item) if isinstance(item, dict) else item
        for method in _METHODS:
            price = prices.get(f"{method.upper()} {path}")
            if price is None or not isinstance(told[path], dict) or not isinstance(told[path].get(method), dict):
                continue
            offer = {"intent": "charge", "method": "tallystick", "amount": str(price), "currency": currency}
            operation = dict(told[path][method])
            answers = {"402": {"description": "Payment Required"}} | (operation.get("responses") or {})
            told[path][method] = operation | {"x-payment-info": {"offers": [offer]}, "responses": answers}
    return document | {"paths": told}
