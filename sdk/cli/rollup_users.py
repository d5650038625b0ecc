"""What users of a rollup do: `tally rollup deposit`, `pay`, `close`, `withdraw` and the like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from tallystick.sdk.cli.options import (
    LOCAL_CHAIN,
    AmountArgument,
    Asset,
    ChainUrl,
    Data,
    Json,
    PasswordFile,
)
from tallystick.sdk.cli.rollup_options import (
    DESK,
    AcceptTerms,
    ChannelNumber,
    DeskUrl,
    FeeMax,
    Rollup,
    Start,
    StepKey,
    ToArgument,
    Until,
    app,
    as_user,
    parse_signature,
    print_fields,
    show_promise,
)
from tallystick.sdk.cli.shell import example
from tallystick.sdk.control.kinds import NATIVE_ASSET

if TYPE_CHECKING:
    from tallystick.sdk.rollup.user import RollupUser


@app.command(epilog=example("rollup deposit 1000000 --rollup 0"))
def deposit(
    amount: AmountArgument,
    rollup: Rollup,
    asset: Asset = NATIVE_ASSET,
    data: Data = None,
    password_file: PasswordFile = None,
    chain: ChainUrl = LOCAL_CHAIN,
    accept_terms: AcceptTerms = False,
    as_json: Json = False,
) -> None:
    """Move coins of the key's account into the rollup; the first time makes an account there."""

    async def act(user: RollupUser) -> None:
        print_fields({"transaction": f"0x{(await user.deposit(amount)).hex()}"}, as_json)

    as_user(act, chain, rollup, "", data, password_file, accept_terms=accept_terms, asset=asset)


@app.command(epilog=example("rollup pay 0x2b762adcd8360d8a9f63cf729909279f768d7962 250 --rollup 0"))
def pay(
    to: ToArgument,
    amount: AmountArgument,
    rollup: Rollup,
    key: StepKey = None,
    asset: Asset = NATIVE_ASSET,
    data: Data = None,
    password_file: PasswordFile = None,
    desk: DeskUrl = DESK,
    chain: ChainUrl = LOCAL_CHAIN,
    fee_max: FeeMax = 0,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Pay another account of the rollup; print the operator's promise."""

    async def act(user: RollupUser) -> None:
        show_promise(*await user.transfer(to, amount, key=key), as_json)

    as_user(act, chain, rollup, desk, data, password_file, fee_max=fee_max, start=start, asset=asset)


@app.command("open", epilog=example("rollup open 7 0x2b762adcd8360d8a9f63cf729909279f768d7962 10000 --rollup 0"))
def open_channel(
    channel: ChannelNumber,
    other: ToArgument,
    amount: AmountArgument,
    rollup: Rollup,
    key: StepKey = None,
    asset: Asset = NATIVE_ASSET,
    data: Data = None,
    password_file: PasswordFile = None,
    desk: DeskUrl = DESK,
    chain: ChainUrl = LOCAL_CHAIN,
    fee_max: FeeMax = 0,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Open a channel in the rollup under a number that none has had."""

    async def act(user: RollupUser) -> None:
        show_promise(*await user.open_channel(channel, other, amount, key=key), as_json)

    as_user(act, chain, rollup, desk, data, password_file, fee_max=fee_max, start=start, asset=asset)


@app.command(epilog=example("rollup fund 7 5000 --rollup 0"))
def fund(
    channel: ChannelNumber,
    amount: AmountArgument,
    rollup: Rollup,
    key: StepKey = None,
    asset: Asset = NATIVE_ASSET,
    data: Data = None,
    password_file: PasswordFile = None,
    desk: DeskUrl = DESK,
    chain: ChainUrl = LOCAL_CHAIN,
    fee_max: FeeMax = 0,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Pay into a channel of the rollup."""

    async def act(user: RollupUser) -> None:
        show_promise(*await user.fund(channel, amount, key=key), as_json)

    as_user(act, chain, rollup, desk, data, password_file, fee_max=fee_max, start=start, asset=asset)


@app.command(epilog=example("rollup close 7 4000 --until 1900000000 --rollup 0"))
def close(
    channel: ChannelNumber,
    balance0: Annotated[
        int, Argument(min=0, metavar="BALANCE", help="What its first side gets; the rest is the other's.")
    ],
    until: Until,
    rollup: Rollup,
    signature: Annotated[
        str, Option(parser=parse_signature, metavar="HEX", help="The other side's; without it ours is printed.")
    ] = "0" * 128,
    force: Annotated[
        bool, Option("--force", help="Order it by the chain: the operator must, or everything stops.")
    ] = False,
    asset: Asset = NATIVE_ASSET,
    data: Data = None,
    password_file: PasswordFile = None,
    desk: DeskUrl = DESK,
    chain: ChainUrl = LOCAL_CHAIN,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Close a channel as both agree: one side prints its signature, the other one hands in both."""
    other = bytes.fromhex(signature)

    async def act(user: RollupUser) -> None:
        if not any(other):
            print_fields({"signature": (await user.sign_close(channel, balance0, until)).hex()}, as_json)
        elif force:
            done = await user.force_close(channel, balance0, until, other)
            print_fields({"transaction": f"0x{done.hex()}"}, as_json)
        else:
            show_promise(*await user.close(channel, balance0, until, other), as_json)

    as_user(act, chain, rollup, desk, data, password_file, start=start, asset=asset)


@app.command("exit", epilog=example("rollup exit 1000 --rollup 0"))
def exit_rollup(
    amount: AmountArgument,
    rollup: Rollup,
    key: StepKey = None,
    asset: Asset = NATIVE_ASSET,
    data: Data = None,
    password_file: PasswordFile = None,
    desk: DeskUrl = DESK,
    chain: ChainUrl = LOCAL_CHAIN,
    fee_max: FeeMax = 0,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Take coins out of the rollup: once the batch is final, `tally rollup withdraw` pays them."""

    async def act(user: RollupUser) -> None:
        show_promise(*await user.exit(amount, key=key), as_json)

    as_user(act, chain, rollup, desk, data, password_file, fee_max=fee_max, start=start, asset=asset)


@app.command("force-exit", epilog=example("rollup force-exit --rollup 0"))
def force_exit(
    rollup: Rollup,
    asset: Asset = NATIVE_ASSET,
    data: Data = None,
    password_file: PasswordFile = None,
    chain: ChainUrl = LOCAL_CHAIN,
    as_json: Json = False,
) -> None:
    """Order by the chain that all that the account holds goes out: the operator must, or everything stops."""

    async def act(user: RollupUser) -> None:
        print_fields({"transaction": f"0x{(await user.force_exit()).hex()}"}, as_json)

    as_user(act, chain, rollup, "", data, password_file, asset=asset)


@app.command(epilog=example("rollup withdraw --rollup 0"))
def withdraw(
    rollup: Rollup,
    asset: Asset = NATIVE_ASSET,
    data: Data = None,
    password_file: PasswordFile = None,
    chain: ChainUrl = LOCAL_CHAIN,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Have paid on the chain what was taken out, or all, if everything has stopped. It does not ask the operator."""

    async def act(user: RollupUser) -> None:
        done = await user.withdraw()
        print_fields({"transaction": f"0x{done.hex()}" if done else ""}, as_json)

    as_user(act, chain, rollup, "", data, password_file, start=start, asset=asset)


@app.command(epilog=example("rollup resend --rollup 0"))
def resend(
    rollup: Rollup,
    asset: Asset = NATIVE_ASSET,
    data: Data = None,
    password_file: PasswordFile = None,
    desk: DeskUrl = DESK,
    chain: ChainUrl = LOCAL_CHAIN,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Hand in again what was signed and may not have reached the operator: the same bytes, under the same numbers."""

    async def act(user: RollupUser) -> None:
        for made in await user.resend():
            show_promise(*made, as_json)

    as_user(act, chain, rollup, desk, data, password_file, start=start, asset=asset)


@app.command(epilog=example("rollup reclaim 7 --rollup 0"))
def reclaim(
    channel: ChannelNumber,
    rollup: Rollup,
    asset: Asset = NATIVE_ASSET,
    data: Data = None,
    password_file: PasswordFile = None,
    chain: ChainUrl = LOCAL_CHAIN,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Pay out a channel of a rollup that has stopped, as an order to close it says that no batch has; then claim.

    Such an order is given by `tally rollup close --force`, before or after everything stopped.
    """

    async def act(user: RollupUser) -> None:
        print_fields({"transaction": f"0x{(await user.leaving.reclaim(channel)).hex()}"}, as_json)

    as_user(act, chain, rollup, "", data, password_file, start=start, asset=asset)


@app.command(epilog=example("rollup claim --rollup 0"))
def claim(
    rollup: Rollup,
    asset: Asset = NATIVE_ASSET,
    data: Data = None,
    password_file: PasswordFile = None,
    chain: ChainUrl = LOCAL_CHAIN,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Have paid on the chain what is owed to the account: a reclaimed channel, a reward, a fee, a bond.

    What demands cost whose batch is gone is given back first.
    """

    async def act(user: RollupUser) -> None:
        await user.leaving.refund()
        done = await user.leaving.claim()
        print_fields({"transaction": f"0x{done.hex()}" if done else ""}, as_json)

    as_user(act, chain, rollup, "", data, password_file, start=start, asset=asset)
