"""`tally rate`: what this node asks for as a maker: set, list, remove."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

from typer import Argument, BadParameter

from tallystick.channels.limits import AMOUNT_MAX
from tallystick.sdk.cli.options import Data, Json, amount_option, limit_option, parse_amount, parse_place
from tallystick.sdk.cli.screen import say, show_table
from tallystick.sdk.cli.shell import ask_node, example, make_group, print_result
from tallystick.sdk.cli.swaps import rate_cells

if TYPE_CHECKING:
    from tallystick.sdk.control.chain_views import RateInfo, RatePair

app = make_group("Set what this node asks for as a maker between its chains and assets.", name="rate")

Source = Annotated[str, Argument(parser=parse_place, metavar="TAKEN", help="What it is paid in, as ASSET@CHAIN.")]
Target = Annotated[str, Argument(parser=parse_place, metavar="GIVEN", help="What it pays in, likewise.")]


def parse_fraction(text: str) -> str:
    """Check the form of a rate, TAKE:GIVE; raise BadParameter if it is none."""
    if not re.fullmatch(r"[0-9_]+:[0-9_]+", text):
        raise BadParameter(f"{text!r} is no rate: write TAKE:GIVE, as in 3:2, two whole numbers from 1 on")
    for part in text.split(":"):
        parse_amount(part)
    return text


@app.command("set", epilog=example("rate set coin@1337 coin@1338 3:2 --base 7"))
def set_(
    source: Source,
    target: Target,
    rate: Annotated[
        str, Argument(parser=parse_fraction, metavar="TAKE:GIVE", help="So many units are taken for so many.")
    ],
    base: Annotated[int, limit_option(help="On top of each price, in units of TAKEN.")] = 0,
    least: Annotated[int, amount_option("--min", help="The smallest amount of GIVEN.")] = 1,
    most: Annotated[int, amount_option("--max", help="The largest, if there is as much.", show_default="any")] = (
        AMOUNT_MAX
    ),
    route_base: Annotated[int, limit_option(help="What the way to the payee may cost at most: so much …")] = 0,
    route_ppm: Annotated[int, limit_option(help="… and so many millionths of the amount. The payer pays for it.")] = 0,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Ask that from now on; it is stored. Quotes that were given and crossings that were agreed stay as they are."""
    take, give = map(parse_amount, rate.split(":"))
    found = ask_node(
        data,
        lambda node: node.set_rate(
            source,
            target,
            take=take,
            give=give,
            base=base,
            least=least,
            most=most,
            route_base=route_base,
            route_ppm=route_ppm,
        ),
    )
    print_result(found, as_json, lambda one: _show([one]))


@app.command("list", epilog=example("rate list --json"))
def list_(data: Data = None, as_json: Json = False) -> None:
    """Show what this node asks for. `tally maker` shows what stands behind it, too."""
    print_result(ask_node(data, lambda node: node.rates()), as_json, _show)


@app.command(epilog=example("rate remove coin@1337 coin@1338"))
def remove(source: Source, target: Target, data: Data = None, as_json: Json = False) -> None:
    """Trade one asset for another no more. What was quoted and agreed is carried still."""
    print_result(ask_node(data, lambda node: node.remove_rate(source, target)), as_json, _show_removed)


def _show(rates: list[RateInfo]) -> None:
    rows = [(*rate_cells(rate), rate.least, "any" if rate.most == AMOUNT_MAX else rate.most) for rate in rates]
    show_table(("takes", "gives"), rows, figures=("min", "max"))


def _show_removed(pair: RatePair) -> None:
    say(f"This node takes no {pair.source} for {pair.target} any more.")
