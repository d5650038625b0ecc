"""The control API's server: the routes of the table (`operations`), how a request becomes an answer, and Starlette on
Hypercorn's trio worker, in the node's nursery. Loopback only.
"""

from __future__ import annotations

import inspect
import ipaddress
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_type_hints

import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tallystick.channels.errors import TallystickError
from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.channels.node.loops import require_trio
from tallystick.channels.ports import Entropy, system_entropy
from tallystick.channels.transport.connection_limit import ConnectionLimit
from tallystick.channels.values.arguments import checked
from tallystick.sdk.chains.company import Company
from tallystick.sdk.control.app_handlers import AppHandlers
from tallystick.sdk.control.faults import status_of
from tallystick.sdk.control.files import announce
from tallystick.sdk.control.handlers import Handlers
from tallystick.sdk.control.http import TokenCheck, answer, fault, http_fault, place_of, read_body, read_query
from tallystick.sdk.control.operations import GET, Empty, Needs, Operation, operations
from tallystick.sdk.control.views import Accepted
from tallystick.sdk.errors import ConfigurationError
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.places import write_place
from tallystick.settlement.errors import ChainUnavailable

READY_SECONDS = 5.0
"""How long a request waits for a node that has just begun."""

TROUBLE_SECONDS = 0.1
"""Between two looks at whether something stands in the way of a node that has just begun."""

PROMPT_SECONDS = 0.25
"""With `wait: false`: how long an operation may take to be refused in the answer rather than in an alarm."""

FAILURES_KEPT = 100
"""Failed operations that nobody waited for and that `/info` still tells of."""

_FAULT = "this request met a fault of the program ({}), and came to nothing; please report it. The node goes on"

AnyOperation = Operation[Any, Any]


def match(table: Sequence[AnyOperation], *handlers: type) -> None:
    """Raise TypeError if the public methods of these classes do not match the table exactly."""
    methods = [one for each in handlers for one in inspect.getmembers(each, inspect.isfunction)]
    found = {name: one for name, one in methods if not name.startswith("_")}
    for name, handler in found.items():
        _match(next((one for one in table if one.name == name), None), name, handler)
    if missing := {one.name for one in table} - found.keys():
        raise TypeError(f"no handler answers {', '.join(sorted(missing))}")


def _match(operation: AnyOperation | None, name: str, handler: Callable[..., Any]) -> None:
    if operation is None:
        raise TypeError(f"the handler {name} has no operation in the table")
    hints = get_type_hints(handler)
    answers = hints.pop("return")
    asked = {} if operation.asked is Empty else {"asked": operation.asked}
    if hints != dict.fromkeys(operation.names, str) | asked:
        raise TypeError(f"the handler {name} does not take what its operation is asked")
    if answers != operation.answer and operation.answer not in get_args(answers):
        raise TypeError(f"the handler {name} does not answer what its operation does")


match(operations(), Handlers, AppHandlers)


class ControlServer:
    """A running control server."""

    def __init__(self, node: Node, nursery: trio.Nursery, url: str = "", company: Company | None = None) -> None:
        self.node = node
        self.url = url
        self.stop_asked = trio.Event()
        """Set when a client asked the node to stop."""
        self._nursery = nursery
        self._failures: deque[Alarm] = deque(maxlen=FAILURES_KEPT)
        self._handlers = Handlers(node, company or Company([node]), lambda: tuple(self._failures), self.stop_asked.set)
        self._app_handlers = AppHandlers(node)

    def app(self) -> Starlette:
        """Return the application, without the check of the token."""
        paths: dict[str, dict[str, AnyOperation]] = {}  # so that a refusal of a method names all that a path takes
        for one in operations():
            paths.setdefault(one.path, {})[one.method] = one
        routes = [Route(path, partial(self._answer, those), methods=list(those)) for path, those in paths.items()]
        app = Starlette(routes=routes, exception_handlers={HTTPException: http_fault})
        app.router.redirect_slashes = False  # no path is answered but those of the table
        return app

    async def _answer(self, operations: dict[str, AnyOperation], request: Request) -> Response:
        """Answer one request; its errors become JSON, and a fault of the program is this request's alone."""
        operation = operations.get(request.method) or operations[GET]  # for HEAD
        try:
            await self._wait_for(operation.needed)
            handlers = self._app_handlers if hasattr(AppHandlers, operation.name) else self._handlers
            handler = getattr(handlers, operation.name)
            given: dict[str, Any] = request.path_params
            wait = True
            if operation.asked is not Empty:
                read = read_query(request, operation.asked) if operation.method == GET else None
                asked = read or await read_body(request, operation.asked)
                given, wait = given | {"asked": asked}, not operation.is_late or asked.wait
            act = partial(handler, **given)
            result = await self._perform(operation.outlives, act, wait) if operation.outlives else await act()
        except TallystickError as error:
            status, code = status_of(error)
            return fault(code, str(error), status)
        except Exception as error:  # a fault of the program: it is this request's alone
            self._note_fault(f"answer {operation.method} {operation.path}", error)
            return fault("program-fault", _FAULT.format(place_of(error)), 500)
        if isinstance(result, Response):
            return result
        return answer(result, 202 if isinstance(result, Accepted) else operation.status)

    async def _wait_for(self, needed: Needs) -> None:
        """Wait until the node is as far as is needed; raise ChainUnavailable if it takes long.

        Reading waits too, as long as nothing stands in the way of the start: whoever asks where a node listens that was
        started a moment ago is told, not that it will listen.
        """
        ready = self.node.ready
        if ready.is_set() or needed is Needs.NOTHING:
            return
        with trio.move_on_after(READY_SECONDS):
            while not ready.is_set() and not self.node.alarms:
                with trio.move_on_after(TROUBLE_SECONDS):
                    await ready.wait()
        if needed is Needs.CHAIN:
            with trio.move_on_after(READY_SECONDS) as timeout:
                await ready.wait()
            if timeout.cancelled_caught:
                text = f"this node waits for {self.node.waiting_for}; until then it does nothing of that kind"
                raise ChainUnavailable(text)

    async def _perform(self, name: str, act: Callable[[], Awaitable[Any]], wait: bool) -> Any:
        """Do something in the node's nursery, so that it outlives the request; return its result, or Accepted."""
        result: Any = None
        fault: Exception | None = None
        done, left = trio.Event(), False

        async def run() -> None:
            nonlocal result, fault
            try:
                result = await act()
            except Exception as error:  # of our own tree, or a fault of the program: it is this request's alone
                fault = error
                if left and isinstance(error, TallystickError):
                    self._raise(Alarm(AlarmKind.REQUEST_FAILED, f"cannot {name}: {error}"))
                elif left:
                    self._note_fault(name, error)
            done.set()

        self._nursery.start_soon(run)
        try:
            if wait:
                await done.wait()
            else:
                with trio.move_on_after(PROMPT_SECONDS):
                    await done.wait()
        finally:
            left = not done.is_set()
        if fault is not None:
            raise fault
        return Accepted() if left else result

    def _note_fault(self, what: str, error: Exception) -> None:
        """Raise the alarm for a fault of the program that a request met: where it is, and nothing secret."""
        self._raise(Alarm(AlarmKind.PROGRAM_FAULT, f"cannot {what}: a fault of this program, {place_of(error)}"))

    def _raise(self, alarm: Alarm) -> None:
        self._failures.append(alarm)
        self.node.news.on_alarm(alarm)


STUCK_SECONDS = 10.0
"""How long a client may leave what is sent to it unread. Hypercorn shields its sends from cancellation, so a client
that never reads would keep the node from stopping."""

IDLE_SECONDS = 30.0
"""How long a connection may be idle. Much longer than our client uses one again, so that both never part at once."""

GRACE = 1.0
"""Seconds that requests on their way may take when the node stops."""


@checked
@asynccontextmanager
async def serve_control(
    node: Node, token: str, *, host: str = "127.0.0.1", port: int = 0, company: Company | None = None
) -> AsyncIterator[ControlServer]:
    """Serve the node's control API inside the block; port 0 takes a free one.

    `company`: the nodes with which it pays, swaps and makes across chains; without, it alone. Raise ConfigurationError
    if `host` is not this machine's own, or the address cannot be used.
    """
    require_trio("serve_control")
    if not _is_loopback(host):
        raise ConfigurationError(f"the control API listens on loopback only (127.0.0.1 or ::1), not on {host}")
    config = Config()
    sock, connections = _bind(host, port), ConnectionLimit()
    config.graceful_timeout = config.shutdown_timeout = GRACE
    config.keep_alive_timeout = IDLE_SECONDS
    config.loglevel = "WARNING"
    config.include_server_header = False
    async with trio.open_nursery() as nursery:
        control = ControlServer(node, nursery, f"http://{write_place(*sock.getsockname()[:2])}", company)
        checked_app = TokenCheck(control.app(), token, connections)

        async def run(task_status: trio.TaskStatus[None]) -> None:
            await connections.serve(checked_app, config, sock, task_status=task_status)

        await nursery.start(run)
        try:
            yield control
        finally:
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_control(
    node: Node, directory: str | Path, *, entropy: Entropy = system_entropy, company: Company | None = None
) -> AsyncIterator[ControlServer]:
    """Serve the node's control API inside the block, and leave in `directory` what finds it: `tally` works on it then.

    `directory` is the node's own; `company` is as for `serve_control`. Raise ConfigurationError if it cannot be
    written. `stop_asked` is set once somebody runs `tally node stop`.
    """
    token = entropy(32).hex()
    async with serve_control(node, token, company=company) as control:
        with announce(Path(directory), control.url, token):
            yield control


def _bind(host: str, port: int) -> socket.socket:
    """Return a bound socket whose connections end when their client has read nothing for STUCK_SECONDS."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections inherit it
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(STUCK_SECONDS * 1000))
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise ConfigurationError(f"the control API cannot listen on {host}:{port}: {error.strerror}") from error
    return sock


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
