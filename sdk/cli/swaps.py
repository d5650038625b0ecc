"""`tally swap`: one asset for another over makers; `tally markets`: what they ask; `tally maker`: this node as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from typer import Argument, BadParameter, Option

from tallystick.sdk.cli.options import (
    AmountArgument,
    Data,
    Json,
    WaitForIt,
    limit_option,
    parse_peer,
    parse_place,
)
from tallystick.sdk.cli.screen import facts, say, say_json, show_table
from tallystick.sdk.cli.shell import ask_node, fail, print_result

if TYPE_CHECKING:
    from tallystick.sdk.control.chain_views import MakerInfo, MarketInfo, RateInfo, SwapInfo


def parse_for(text: str) -> str:
    """Take the word between what is given and what is got; raise BadParameter for another one."""
    if text != "for":
        raise BadParameter(f"{text!r}: write `tally swap AMOUNT GIVE for GET`")
    return text


def swap(
    amount: AmountArgument,
    give: Annotated[str, Argument(parser=parse_place, metavar="GIVE", help="What to give, as ASSET@CHAIN.")],
    word: Annotated[str, Argument(parser=parse_for, metavar="for", help="The word itself.")],
    get: Annotated[str, Argument(parser=parse_place, metavar="GET", help="What to get, of a chain of this node's.")],
    least: Annotated[int, limit_option("--min", help="Get at least so much, or nothing is given.")],
    maker: Annotated[
        list[str] | None,
        Option(
            parser=parse_peer,
            metavar="PEER",
            help="Whom to ask. May be repeated.",
            show_default="those that `tally markets` lists",
        ),
    ] = None,
    wait: WaitForIt = True,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Give at most AMOUNT of one asset for another, over the best makers, as many as it takes, or some in a row.

    Nothing is given if makers do not agree to --min in all. Then each part is made or not: what its maker is paid, and
    what it pays, go together. A part that fails costs nothing, and is made up by other makers if that still comes to
    --min; if less was got, the exit code is 1. Run again, it swaps again. Makers are found on the chain of GIVE; GET is
    paid to the node of the same process there.
    """
    made = ask_node(
        data, lambda node: node.swap(amount, give=give, get=get, least=least, makers=maker or [], wait=wait)
    )
    if made is None:
        if as_json:
            say_json({"accepted": True})
        else:
            say("It is on its way; `tally payments` tells how it ends.")
        return
    print_result(made, as_json, _show_swap)
    if made.got < max(1, least):
        fail(f"got {made.got}, and not {least}: a maker did not keep to its word; what it was to be paid was not given")


def markets(
    give: Annotated[
        str | None, Option("--give", parser=parse_place, metavar="ASSET@CHAIN", help="Only what takes this.")
    ] = None,
    get: Annotated[
        str | None, Option("--get", parser=parse_place, metavar="ASSET@CHAIN", help="Only what pays this.")
    ] = None,
    limit: Annotated[int, Option("--limit", min=1, max=1_000, help="Of each pair, so many makers at most.")] = 10,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show the order book: what makers ask for between chains and assets, as the network tells, the cheapest first.

    It binds nobody: a maker is asked when something is paid or swapped, and its quote does. The largest amounts are
    rounded down by makers. A price is that of one unit, for the largest amount that is told of.
    """
    found = ask_node(data, lambda node: node.markets(give or "", get or "", limit=limit))
    print_result(found, as_json, _show_markets)


def maker(data: Data = None, as_json: Json = False) -> None:
    """Show how this node stands as a maker: what it asks for, what it could pay now, what became of crossings."""
    print_result(ask_node(data, lambda node: node.maker()), as_json, _show_maker)


def _show_swap(made: SwapInfo) -> None:
    rows = [
        (part.maker[:16], part.payment_hash[:16] if not part.why else part.why, part.given, part.fee, part.got)
        for part in made.parts
    ]
    show_table(("maker", "payment"), rows, figures=("given", "fee", "got"))
    say(f"Gave {made.given} of {made.give}, fees included, and got {made.got} of {made.get}.")


def _show_markets(found: list[MarketInfo]) -> None:
    rows = [
        (
            one.maker[:16],
            f"{one.take} {market.give}" + (f" + {one.base}" if one.base else ""),
            f"{one.give} {market.get}",
            "yes" if one.connected else "no",
            f"{one.age} s",
            "refused" if one.refused else f"{one.kept}, not {one.broken}",
            one.least,
            one.most,
        )
        for market in found
        for one in market.offers
    ]
    show_table(("maker", "takes", "gives", "connected", "age", "word kept"), rows, figures=("min", "max"))


def _show_maker(found: MakerInfo) -> None:
    rows = [(*rate_cells(one.rate), f"{one.margin} s", one.free) for one in found.rates]
    show_table(("takes", "gives", "margin"), rows, figures=("free",))
    facts(
        {
            "quotes open": found.quotes,
            "crossings open": found.open,
            "paid": found.paid,
            "given back": found.given_back,
            "lapsed": found.lapsed,
            "lost": found.lost,
        }
    )


def rate_cells(rate: RateInfo) -> tuple[str, str]:
    """Return what a rate takes and gives, as tables show it."""
    base = f" + {rate.base}" if rate.base else ""
    return f"{rate.take} {rate.source}{base}", f"{rate.give} {rate.target}"
