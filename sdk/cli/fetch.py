"""The `tally fetch` command: get what is at an address, and pay for it from the node if that is asked and allowed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from tallystick.sdk.cli.files import require_new, write_file
from tallystick.sdk.cli.options import Data, Json, parse_amount, parse_fee
from tallystick.sdk.cli.screen import say, say_json
from tallystick.sdk.cli.shell import Commands, ask_node, example, fail

if TYPE_CHECKING:
    import httpx

    from tallystick.paid.buying.sqlite import Purchase
    from tallystick.sdk.control.client import ControlClient

app = Commands(add_completion=False)

PURCHASES = "purchases.db"
"""What was bought, in the node's data directory."""
PATIENCE = 120.0
"""Seconds that a server may be silent."""


@app.command(epilog=example("fetch https://fortunes.example/fortune --budget 10"))
def fetch(
    url: Annotated[str, Argument(help="What to get.")],
    budget: Annotated[
        int, Option(parser=parse_amount, metavar="AMOUNT", help="The most that it may cost, fees included.")
    ],
    max_fee: Annotated[
        int, Option(parser=parse_fee, metavar="AMOUNT", help="Of that, the most that the payment's way may cost.")
    ] = 1_000,
    per_day: Annotated[
        int | None, Option(parser=parse_amount, metavar="AMOUNT", help="The most that all calls of a day may cost.")
    ] = None,
    method: Annotated[str, Option(help="GET, POST, …")] = "GET",
    body: Annotated[Path | None, Option(metavar="FILE", help="What to send with it.")] = None,
    output: Annotated[Path | None, Option(metavar="FILE", help="Write the answer to this new file.")] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Get what is at an address, and pay for it by the "Payment" scheme, once: after a crash or a lost connection, the
    same command goes on with the same payment."""
    from tallystick.channels.limits import AMOUNT_MAX
    from tallystick.paid.buying.budget import Budget
    from tallystick.sdk.daemon.configuration import data_directory

    if output is not None:
        require_new(output)
    limits = Budget(per_call=budget, per_day=per_day or AMOUNT_MAX, max_fee=max_fee)
    store = data_directory(data) / PURCHASES
    content = b"" if body is None else body.read_bytes()

    async def ask(node: ControlClient) -> tuple[httpx.Response, Purchase | None]:
        import httpx

        from tallystick.paid.buying.auth import PaidAuth

        auth = PaidAuth(node, limits, store=store)
        try:
            async with httpx.AsyncClient(auth=auth, trust_env=False, timeout=PATIENCE) as http:
                answer = await http.request(method, url, content=content)
            paid = _payment(answer)
            return answer, next((bought for bought in await auth.purchases() if bought.payment_hash == paid), None)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            fail(f"no whole answer came from {url} ({error!r}): if anything was paid, the same command goes on with it")
        finally:
            auth.close()

    answer, bought = ask_node(data, ask)
    cost = bought.cost if bought is not None and bought.state == "answered" else 0
    if output is not None:
        write_file(output, answer.content)
    if as_json:
        text = None if output else answer.text
        payment = bought.payment_hash if bought is not None else None
        say_json({"status": answer.status_code, "cost": cost, "payment_hash": payment, "body": text})
    elif output is None:
        say(*answer.text.splitlines())
    if not answer.is_success:
        fail(f"{url} answered {answer.status_code}; it cost {cost}")


def _payment(answer: httpx.Response) -> str:
    """Return the hash that the answer's receipt names; nothing if it has none."""
    from tallystick.paid.errors import MalformedPayment
    from tallystick.paid.scheme.credentials import parse_receipt

    try:
        return parse_receipt(answer.headers.get("payment-receipt", "")).reference
    except MalformedPayment:
        return ""
