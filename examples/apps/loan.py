"""A micro-loan against collateral, paid back in instalments; the receipts of invoices are what proves each payment.

Bob lends to Alice. Both nodes run, and have a channel with coins on both sides. First the lender makes its invoices,
then the borrower asks, the lender lends, and the borrower pays back:

    python examples/apps/loan.py quote --node demo/bob --each 350 --count 3 > quote.json
    python examples/apps/loan.py borrow a055 quote.json loan.json --node demo/alice --amount 1000 --worth 400
    python examples/apps/loan.py lend quote.json loan.json --node demo/bob --amount 1000
    python examples/apps/loan.py repay quote.json loan.json --node demo/alice     # once for each instalment

What makes it safe: the lender accepts only what its own invoices are in, for what they are, and pays the principal once
the collateral is locked, while there is time. A receipt (an invoice's secret) is known to who paid it alone, so no
payment is denied. Each step can be run again after a crash: an invoice is paid once, and a move that was made is not
made again. An instalment that is late costs its `worth` of the collateral, and no more: it is not paid any more then.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import trio

from tallystick import ControlClient, ControlError, TallystickError, connect_control, decode_invoice
from tallystick.sdk.control.app_views import AppInfo

WAIT = 20
"""Seconds that one question for news stands."""
MARGIN = 60
"""Seconds before something is due from which on it is not paid any more."""


async def quote(arguments: argparse.Namespace) -> None:
    """Make the invoices of the instalments, as the lender: they are good for long enough."""
    async with connect_control(arguments.node) as node:
        lifetime = arguments.seconds * (arguments.count + 3)
        made = [
            await node.create_invoice(arguments.each, f"instalment {number + 1}", lifetime=lifetime)
            for number in range(arguments.count)
        ]
    print(json.dumps({"each": arguments.each, "seconds": arguments.seconds, "invoices": [one.invoice for one in made]}))


async def borrow(arguments: argparse.Namespace) -> None:
    """Ask for the loan, as the borrower: the collateral is locked once the lender accepts."""
    quoted = json.loads(arguments.quote.read_text())
    instalments = [decode_invoice(text) for text in quoted["invoices"]]
    if any(one.amount != quoted["each"] for one in instalments):
        sys.exit("loan: the invoices are not for what was quoted")
    async with connect_control(arguments.node) as node:
        now, seconds = (await node.info()).block_time, quoted["seconds"]
        principal = await node.create_invoice(arguments.amount, "principal", lifetime=2 * seconds)
        times = {"lend": now + seconds, "first": now + 2 * seconds, "every": seconds}
        hashes = {"principal": principal.payment_hash, "instalments": [one.payment_hash.hex() for one in instalments]}
        made = await node.apps.open_app(
            arguments.channel,
            "loan",
            arguments.worth * len(instalments),
            peer_stake=0,
            parameters={"borrower": 0, "worth": arguments.worth} | times | hashes,
            expiry=now + (len(instalments) + 3) * seconds,
        )
    arguments.loan.write_text(json.dumps({"id": made.id, "principal": principal.invoice}))
    print(f"loan {made.id} is asked for; {made.stakes[0]} of collateral will be locked", flush=True)


def objection(asked: AppInfo, quoted: dict[str, Any], principal: str, amount: int) -> str:
    """Return why we do not lend that; empty: we do."""
    state, invoice = asked.state, decode_invoice(principal)
    if asked.app != "loan" or state["borrower"] == asked.player:
        return "we lend only"
    if state["instalments"] != [decode_invoice(text).payment_hash.hex() for text in quoted["invoices"]]:
        return "these are not our invoices"
    if (invoice.payment_hash.hex(), invoice.amount) != (state["principal"], amount):
        return f"the principal is not an invoice for {amount}"
    if state["worth"] < quoted["each"] or asked.assets[1] != "0x" + 40 * "0":
        return f"an instalment is worth {quoted['each']} at least, in the chain's own coin"
    return "" if state["every"] <= quoted["seconds"] else "that is too slow for us"


async def is_paying(node: ControlClient, invoice: str) -> bool:
    """Whether we have begun to pay that: then its receipt counts, however late it is."""
    try:
        return (await node.payment(decode_invoice(invoice).payment_hash.hex())).state != "failed"
    except ControlError as error:
        if error.code != "unknown-hash":
            raise
        return False


async def pay_in_time(node: ControlClient, loan: AppInfo, invoice: str) -> AppInfo:
    """Pay what is next in a loan, and show the receipt; pay nothing if that would not count any more."""
    if loan.turn != "own" and not loan.pending:
        sys.exit(f"loan: it is not our turn to pay: it is {loan.phase}")
    number = loan.number + (not loan.pending)
    late = (await node.info()).block_time + MARGIN > loan.due
    if late and not await is_paying(node, invoice):
        sys.exit("loan: it is too late to pay that: it would not count")
    paid = await node.pay_invoice(invoice, timeout=MARGIN)
    return await moved(node, loan.id, None if paid is None else paid.secret, number)


async def moved(node: ControlClient, name: str, secret: str | None, number: int) -> AppInfo:
    """Show a receipt in the loan, unless that was done before a crash."""
    loan = await node.apps.app(name)
    if loan.number < number:
        if secret is None:
            sys.exit("loan: that payment has no receipt")
        loan = await node.apps.move_app(name, {"secret": secret}, number=number)
    return loan


async def lend(arguments: argparse.Namespace) -> None:
    """Look at what is asked for, accept it, pay the principal, and show its receipt: as the lender."""
    quoted, asked_for = json.loads(arguments.quote.read_text()), json.loads(arguments.loan.read_text())
    name, principal = asked_for["id"], asked_for["principal"]
    async with connect_control(arguments.node) as node:
        for text in quoted["invoices"]:  # they are ours, and for so much: the node itself refuses to know others
            if (await node.invoice(decode_invoice(text).payment_hash.hex())).amount != quoted["each"]:
                sys.exit("loan: this quote is not ours")
        loan = await node.apps.app(name)
        if why := objection(loan, quoted, principal, arguments.amount):
            sys.exit(f"loan: {why}")
        if loan.phase == "proposed":
            loan = await node.apps.accept_app(name)  # once it has begun, the collateral is locked
        if not loan.state["drawn"]:
            loan = await pay_in_time(node, loan, principal)
    print(f"loan {name[:16]}: {arguments.amount} is lent, {loan.state['owed']} is owed", flush=True)


async def repay(arguments: argparse.Namespace) -> None:
    """Pay the next instalment, and show its receipt: as the borrower."""
    quoted, asked_for = json.loads(arguments.quote.read_text()), json.loads(arguments.loan.read_text())
    async with connect_control(arguments.node) as node:
        loan = await node.apps.app(asked_for["id"], wait=WAIT)
        if not loan.state["drawn"]:
            sys.exit("loan: it is not lent yet")
        count = loan.state["repaid"]
        if count < len(quoted["invoices"]):
            loan = await pay_in_time(node, loan, quoted["invoices"][count])
            print(f"loan {loan.id[:16]}: instalment {count + 1} is paid, {loan.state['owed']} is owed", flush=True)
        if loan.state["owed"] == 0:
            loan = await node.apps.app(loan.id, wait=WAIT, ended=True)
            print(f"loan {loan.id[:16]} is paid back; the collateral is free")


def main() -> None:
    """Read the command line, and lend or borrow."""
    parser = argparse.ArgumentParser(description="A loan against collateral.")
    commands = parser.add_subparsers(required=True)
    maker = commands.add_parser("quote", help="make the invoices of the instalments, as the lender")
    maker.add_argument("--each", type=int, required=True, help="what an instalment is")
    maker.add_argument("--count", type=int, default=3, help="of instalments, 16 at most")
    maker.add_argument("--seconds", type=int, default=3_600, help="from one to the next")
    maker.set_defaults(act=quote)
    steps = [maker]
    for act, text in ((borrow, "ask for a loan"), (lend, "lend, if all fits"), (repay, "pay the next instalment")):
        step = commands.add_parser(act.__name__, help=text)
        if act is borrow:
            step.add_argument("channel", help="the beginning of a channel's id")
            step.add_argument("--worth", type=int, required=True, help="of the collateral, for each instalment")
        step.add_argument("quote", type=Path, help="file that the lender's `quote` printed")
        step.add_argument("loan", type=Path, help="file about the loan: `borrow` writes it")
        if act is not repay:
            step.add_argument("--amount", type=int, required=True, help="the principal")
        step.set_defaults(act=act)
        steps.append(step)
    for step in steps:
        step.add_argument("--node", type=Path, required=True, help="data directory of the running node")
    arguments = parser.parse_args()
    try:
        trio.run(arguments.act, arguments)
    except* KeyboardInterrupt:
        pass
    except* (TallystickError, OSError) as group:
        sys.exit(f"loan: {', '.join(map(str, group.exceptions))}")


if __name__ == "__main__":
    main()
