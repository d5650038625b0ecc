"""`tally tower bond`, `unbond` and `claims`: a tower's bond on a simulated ledger, and what it answers for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from tallystick.sdk.cli.ledger import run_with_key
from tallystick.sdk.cli.options import LOCAL_CHAIN, AmountArgument, ChainUrl, Json, PasswordFile, parse_amount
from tallystick.sdk.cli.screen import facts, say, say_json
from tallystick.sdk.cli.shell import example
from tallystick.sdk.cli.tower_options import TowerData, app

if TYPE_CHECKING:
    from tallystick.sdk.ledger import LedgerAccount
    from tallystick.settlement.port import LedgerChain
    from tallystick.watchtower.cover_schema import OfferedCover

TOWERS = "towers"

Timeout = Annotated[float, Option(min=0.1, help="Seconds to wait for a block.")]


@app.command(epilog=example("tower bond 1000000000 --data ~/.tally-tower"))
def bond(
    amount: AmountArgument,
    data: TowerData,
    password_file: PasswordFile = None,
    timeout: Timeout = 60,
    chain: ChainUrl = LOCAL_CHAIN,
    as_json: Json = False,
) -> None:
    """Pay coins into the tower's bond, from its own account. The tower must not run meanwhile."""

    async def act(account: LedgerAccount, node: LedgerChain) -> None:
        await account.call(TOWERS, "bond", [amount], value=amount, timeout=timeout)
        _show(await _standing(account), as_json)

    run_with_key(act, chain, data, password_file, as_json)


@app.command(epilog=example("tower unbond --data ~/.tally-tower"))
def unbond(
    data: TowerData,
    amount: Annotated[
        int | None,
        Argument(parser=parse_amount, metavar="AMOUNT", help="How much.", show_default="all that no cover holds"),
    ] = None,
    password_file: PasswordFile = None,
    timeout: Timeout = 60,
    chain: ChainUrl = LOCAL_CHAIN,
    as_json: Json = False,
) -> None:
    """Take coins out of the tower's bond, which no cover holds. The tower must not run meanwhile.

    Covers that have ended are given back to the bond first. What the others hold stays until their end: `tally tower
    claims` says when that is.
    """

    async def act(account: LedgerAccount, node: LedgerChain) -> None:
        import msgspec

        from tallystick.channels.errors import InvalidInput

        for each, state in await _covers(data, account, node):
            if state == "ended":
                await account.call(TOWERS, "release", list(msgspec.structs.astuple(each.cover)), timeout=timeout)
        free = (await _standing(account))["free"]
        taken = free if amount is None else amount
        if not taken:
            raise InvalidInput("nothing of the bond is free: `tally tower claims` says until when covers hold it")
        await account.call(TOWERS, "withdraw", [taken], timeout=timeout)
        _show(await _standing(account), as_json)

    run_with_key(act, chain, data, password_file, as_json)


@app.command(epilog=example("tower claims --data ~/.tally-tower --json"))
def claims(
    data: TowerData, password_file: PasswordFile = None, chain: ChainUrl = LOCAL_CHAIN, as_json: Json = False
) -> None:
    """Show the tower's bond, and each cover of it: whom it could be claimed by, and until when. It may run meanwhile.

    A cover is offered (nobody has reserved it yet), held, ended (it can be given back), or over.
    """

    async def act(account: LedgerAccount, node: LedgerChain) -> None:
        found = [
            {
                "cover": f"0x{each.name.hex()}",
                "channel": f"0x{each.cover.channel.hex()}",
                "client": f"0x{each.cover.client.hex()}",
                "amount": each.cover.amount,
                "until": each.cover.until,
                "ends": _end(each),
                "promised": each.promised,
                "state": state,
            }
            for each, state in await _covers(data, account, node)
        ]
        standing = await _standing(account)
        if as_json:
            say_json({**standing, "covers": found})
            return
        facts({**standing})
        for cover in found:
            promised = ", promised under" if cover["promised"] else ""
            say(
                f"{cover['state']:<9}{cover['amount']} to {cover['client']} in channel {str(cover['channel'])[2:10]}, "
                f"set apart until {cover['ends']}{promised}"
            )

    run_with_key(act, chain, data, password_file, as_json, sends=False)


def _end(offered: OfferedCover) -> int:
    from tallystick.settlement.modules.covers import end_of

    return end_of(offered.cover, offered.terms.challenge_period)


async def _covers(data: Any, account: LedgerAccount, node: LedgerChain) -> list[tuple[OfferedCover, str]]:
    """Return the covers that the tower has offered, as its data says, and what the chain says of each."""
    from tallystick.channels.storage.sqlite.snapshots import open_snapshot
    from tallystick.watchtower.cover_schema import read_offered
    from tallystick.watchtower.sqlite import TOWER_COVERS_SCHEMA

    if not (data / "tally.db").is_file():  # it has not run yet
        return []
    with open_snapshot(data, [TOWER_COVERS_SCHEMA]) as reader:
        offered = [each for each in read_offered(reader) if each.cover.tower == account.address]
    now, found = (await node.head()).time, []
    for each in offered:
        said = await account.read(TOWERS, "cover", [each.name])
        if said["amount"]:
            state = "held" if now <= said["end"] else "ended"
        else:
            state = "over" if said["ended"] or now > each.cover.offered else "offered"
        found.append((each, state))
    return found


async def _standing(account: LedgerAccount) -> dict[str, int]:
    said = await account.read(TOWERS, "tower", [account.address])
    return {"bond": said["bond"], "reserved": said["reserved"], "free": said["bond"] - said["reserved"]}


def _show(standing: dict[str, int], as_json: bool) -> None:
    say_json(standing) if as_json else facts({**standing})
