"""The control API's table: handlers, routes and the client's methods are what it says, and nothing else."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any, get_type_hints
from urllib.parse import parse_qs

import httpx
import msgspec
import pytest
import trio

from tallystick.channels.apps.instance import AppPhase
from tallystick.channels.protocol.core import Phase
from tallystick.router.errors import Unpaid
from tallystick.router.forwarding import forwarder
from tallystick.router.receiving import issued
from tallystick.router.sending import payments
from tallystick.sdk.control import kinds
from tallystick.sdk.control.app_client import AppClient
from tallystick.sdk.control.app_handlers import AppHandlers
from tallystick.sdk.control.chain_handlers import ChainHandlers
from tallystick.sdk.control.client import ControlClient
from tallystick.sdk.control.faults import STATUSES
from tallystick.sdk.control.handlers import Handlers
from tallystick.sdk.control.operations import GET, Empty, Operation, operations
from tallystick.sdk.control.server import match
from tallystick.sdk.errors import ControlError

TABLE = operations()
BY_NAME = {one.name: one for one in TABLE}
OF_APPS = {name for name, one in BY_NAME.items() if one.path.startswith("/apps")}


def test_each_operation_stands_once_in_the_table() -> None:
    assert len(TABLE) == len(BY_NAME) == len({(one.method, one.path) for one in TABLE}) > 35
    kinds_of = (Handlers, ChainHandlers, AppHandlers)
    answered = [name for each in kinds_of for name in vars(each) if not name.startswith("_")]
    assert sorted(answered) == sorted(BY_NAME)
    for one in TABLE:
        assert one.does.endswith(".") and one.status in (200, 202)
        assert not one.is_late or (one.outlives and "wait" in one.asked.__struct_fields__)
        assert set(one.faults) <= STATUSES.keys(), one.name


def test_the_names_of_states_are_those_of_the_node() -> None:
    assert tuple(phase.name.lower() for phase in Phase) == kinds.PHASES
    assert tuple(issued.InvoiceState) == kinds.INVOICE_STATES
    assert tuple(Unpaid) == kinds.REASONS
    assert tuple(payments.PaymentKind) == kinds.PAYMENT_KINDS
    assert tuple(outcome.name.lower() for outcome in forwarder.ForwardOutcome) == kinds.OUTCOMES
    assert tuple(phase.name.lower() for phase in AppPhase) == kinds.APP_PHASES


class Right:
    async def show(self, channel: str) -> int: ...

    async def change(self, channel: str, asked: msgspec.Struct) -> int: ...


class Less:
    async def show(self, channel: str) -> int: ...


class More(Right):
    async def remove(self) -> int: ...


class AnswersOther(Less):
    async def change(self, channel: str, asked: msgspec.Struct) -> str: ...


class TakesOther(Less):
    async def change(self, asked: msgspec.Struct) -> int: ...


def test_a_handler_that_is_missing_superfluous_or_other_than_its_operation_is_refused() -> None:
    class Subject:
        show = Operation(GET, "/c/{channel}", Empty, int, "Shows.")
        change = Operation("POST", "/c/{channel}", msgspec.Struct, int, "Changes.")

    table = [Subject.show, Subject.change]
    match(table, Right)
    for wrong, text in (
        (Less, "no handler answers change"),
        (More, "remove has no operation"),
        (AnswersOther, "does not answer"),
        (TakesOther, "does not take"),
    ):
        with pytest.raises(TypeError, match=text):
            match(table, wrong)


# --- the client ---------------------------------------------------------------------------------------------------

VALUES: dict[str, Any] = {
    "name": "3f9a", "channel": "3f9a", "payment_hash": "3f9a", "out": "3f9a", "back": "77c2", "to": "3f9a",
    "peer": "02@host:1", "address": "02@host:1", "asset": "0x" + "77" * 20, "invoice": "tally1", "secret": "77" * 32,
    "deposit": 5, "amount": 6, "unit": 7, "length": 8, "lifetime": 90, "challenge_period": 600, "units": 2, "lock": 3,
    "max_fee": 4, "limit": 11, "before": 12, "wait": 13, "probes": True, "memo": "m", "key": "k", "timeout": 1.5,
    "hold": True, "hints": False, "after": "1.2", "most": 9, "makers": ("02" + 64 * "7" + "@host:1",),
    "app": "tictactoe", "stake": 5, "peer_stake": 6, "parameters": {"a": 1, "b": "x", "c": ["y", 2]}, "expiry": 7_000,
    "period": 60, "over": True, "ended": True, "why": "no", "move": {"cell": 4}, "number": 3, "gets": 1, "pays": 2,
    "source": "coin@1337", "target": "coin@1338", "get": "coin@1338", "take": 3, "give": 2, "base": 1, "least": 5,
    "hubs": ("3f9a",), "peer_deposit": 9, "seconds": 40_000, "route_base": 7, "route_ppm": 8,
}  # fmt: skip


def arguments(method: Any) -> dict[str, Any]:
    """Return an argument for each parameter of a method of the client, each other than what it is by itself."""
    given: dict[str, Any] = {}
    for name, parameter in list(inspect.signature(method).parameters.items()):
        if parameter.kind is parameter.VAR_KEYWORD:
            given["fee_ppm"] = 15
        elif name in ("wait", "on") and "bool" in str(parameter.annotation):
            given[name] = not parameter.default
        elif name == "after" and "Count" in str(parameter.annotation):
            given[name] = 14
        elif name == "give" and parameter.annotation == "str":
            given[name] = "coin@1337"
        elif name == "to" and "AnyAddress" in str(parameter.annotation):
            given[name] = "0x" + "66" * 20
        else:
            given[name] = VALUES[name]
    return given


@pytest.mark.parametrize("name", BY_NAME)
def test_the_client_asks_for_each_operation_by_its_own_name_as_the_table_says(name: str) -> None:
    operation = BY_NAME[name]
    sent: list[httpx.Request] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(409, json={"error": {"code": "failed", "text": "no"}})

    async def main() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(refuse), base_url="http://node") as http:
            client = ControlClient(http)
            method = getattr(client.apps if name in OF_APPS else client, name)
            answers = get_type_hints(inspect.unwrap(method))["return"]
            if operation.name != "stop":  # which says nothing more
                assert answers == (operation.answer | None if operation.is_late else operation.answer)
            with pytest.raises(ControlError, match="no"):
                await method(**arguments(method))

    trio.run(main)
    (request,) = sent
    assert request.method == operation.method
    assert re.fullmatch(re.sub(r"\{\w+\}", r"\\w+", operation.path), request.url.path)
    if operation.method == GET:
        fields = parse_qs(request.url.query.decode()).keys()
        assert fields == set(operation.asked.__struct_fields__) - {"follow"}, "each argument must reach the node"
    elif operation.asked is not Empty:
        assert json.loads(request.content).keys() == set(operation.asked.__struct_fields__)
        msgspec.json.decode(request.content, type=operation.asked)


def test_the_client_has_no_method_that_the_table_does_not_know() -> None:
    own, of_apps = (
        {name for name, _ in inspect.getmembers(each, inspect.isfunction) if not name.startswith("_")}
        for each in (ControlClient, AppClient)
    )
    assert own == {*BY_NAME.keys() - OF_APPS, "follow", "follow_paid"} and of_apps == OF_APPS
