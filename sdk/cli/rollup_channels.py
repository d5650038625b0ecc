"""What sides of a rollup's channel do between them, and what one does alone: `tally rollup channel-pay` and others."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, BadParameter, Option

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
    ChannelNumber,
    DeskUrl,
    Rollup,
    Start,
    Until,
    app,
    as_channels,
    as_user,
    parse_signature,
    print_fields,
    show_promise,
)
from tallystick.sdk.cli.shell import example
from tallystick.sdk.control.kinds import NATIVE_ASSET

if TYPE_CHECKING:
    from tallystick.sdk.rollup.channels import RollupChannels
    from tallystick.sdk.rollup.user import RollupUser


def parse_payment(text: str) -> str:
    """Return the bytes of a payment or a receipt as hex digits; raise BadParameter if they are none."""
    if not re.fullmatch(r"(0x)?([0-9a-fA-F]{202}|[0-9a-fA-F]{330})", text):
        raise BadParameter("a payment has 202 hex digits, and its receipt 330: hand on all that was printed")
    return text.removeprefix("0x")


PaymentKey = Annotated[
    str | None,
    Option("--key", metavar="TEXT", help="Makes it safe to ask again, also after a crash: one payment under one key."),
]
Receipts = Annotated[
    list[str] | None,
    Option("--receipt", parser=parse_payment, metavar="HEX", help="The newest of a side, if it is not in --data."),
]


@app.command("channel-pay", epilog=example("rollup channel-pay 7 250 --key order-17 --rollup 0"))
def channel_pay(
    channel: ChannelNumber,
    amount: AmountArgument,
    rollup: Rollup,
    key: PaymentKey = None,
    asset: Asset = NATIVE_ASSET,
    data: Data = None,
    password_file: PasswordFile = None,
    chain: ChainUrl = LOCAL_CHAIN,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Pay within a channel: print what is to be handed to the other side, which gives a receipt for it."""

    async def act(channels: RollupChannels) -> None:
        print_fields({"payment": (await channels.pay(channel, amount, key=key)).hex()}, as_json)

    as_channels(act, chain, rollup, data, password_file, start=start, asset=asset)


@app.command("channel-take", epilog=example("rollup channel-take 00000007… --rollup 0"))
def channel_take(
    handed: Annotated[str, Argument(parser=parse_payment, metavar="HEX", help="A payment, or the receipt of ours.")],
    rollup: Rollup,
    asset: Asset = NATIVE_ASSET,
    data: Data = None,
    password_file: PasswordFile = None,
    chain: ChainUrl = LOCAL_CHAIN,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Take a payment within a channel, and print the receipt that is to be handed back; or take such a receipt."""

    async def act(channels: RollupChannels) -> None:
        receipt = await channels.take(bytes.fromhex(handed))
        print_fields({"receipt": receipt.hex()} if receipt is not None else {"is": "signed by both"}, as_json)

    as_channels(act, chain, rollup, data, password_file, start=start, asset=asset)


@app.command("channel-show", epilog=example("rollup channel-show 7 --rollup 0"))
def channel_show(
    channel: ChannelNumber,
    rollup: Rollup,
    asset: Asset = NATIVE_ASSET,
    data: Data = None,
    password_file: PasswordFile = None,
    chain: ChainUrl = LOCAL_CHAIN,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Say what a channel's sides have by the newest that both signed, and which payment waits for its receipt."""

    async def act(channels: RollupChannels) -> None:
        from tallystick.sdk.rollup.channel_book import write_payment

        book = await channels.book(channel)
        shown: dict[str, Any] = {"ours": book.available(book.side), "theirs": book.available(1 - book.side)}
        shown |= {"first": f"0x{book.parties.first.hex()}", "second": f"0x{book.parties.second.hex()}"}
        shown |= {f"payments{side}": each.proof.seq if each else 0 for side, each in enumerate(book.signed)}
        signed = {side: each for side, each in enumerate(book.signed) if each}
        shown |= {f"receipt{side}": write_payment(book.parties, each).hex() for side, each in signed.items()}
        shown |= {"waits": write_payment(book.parties, book.pending).hex() if book.pending is not None else ""}
        print_fields(shown, as_json)

    as_channels(act, chain, rollup, data, password_file, start=start, asset=asset)


@app.command("channel-close", epilog=example("rollup channel-close 7 --until 1900000000 --rollup 0"))
def channel_close(
    channel: ChannelNumber,
    until: Until,
    rollup: Rollup,
    signature: Annotated[
        str, Option(parser=parse_signature, metavar="HEX", help="The other side's; without it ours is printed.")
    ] = "0" * 128,
    asset: Asset = NATIVE_ASSET,
    data: Data = None,
    password_file: PasswordFile = None,
    desk: DeskUrl = DESK,
    chain: ChainUrl = LOCAL_CHAIN,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Close a channel as its newest payments say: one side prints its signature, the other one hands in both."""
    other, agreed = bytes.fromhex(signature), list[int]()

    async def sign(channels: RollupChannels) -> None:
        balance0, ours = await channels.sign_close(channel, until)
        agreed.append(balance0)
        if not any(other):
            print_fields({"balance": balance0, "signature": ours.hex()}, as_json)

    async def hand_in(user: RollupUser) -> None:
        show_promise(*await user.close(channel, agreed[0], until, other), as_json)

    as_channels(sign, chain, rollup, data, password_file, start=start, asset=asset)
    if any(other):
        as_user(hand_in, chain, rollup, desk, data, password_file, start=start, asset=asset)


@app.command("close-alone", epilog=example("rollup close-alone 7 --rollup 0"))
def close_alone(
    channel: ChannelNumber,
    rollup: Rollup,
    asset: Asset = NATIVE_ASSET,
    data: Data = None,
    password_file: PasswordFile = None,
    chain: ChainUrl = LOCAL_CHAIN,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Begin to close a channel without its other side, by the newest payments in --data; then `tally rollup answer`.

    Whoever closes by older ones than it has signed loses all to the other side: never use an old copy of --data.
    """

    async def act(channels: RollupChannels) -> None:
        print_fields({"transaction": f"0x{(await channels.close_alone(channel)).hex()}"}, as_json)

    as_channels(act, chain, rollup, data, password_file, start=start, asset=asset)


@app.command(epilog=example("rollup answer 7 --rollup 0"))
def answer(
    channel: ChannelNumber,
    rollup: Rollup,
    receipt: Receipts = None,
    asset: Asset = NATIVE_ASSET,
    data: Data = None,
    password_file: PasswordFile = None,
    chain: ChainUrl = LOCAL_CHAIN,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Do what a close by one side asks for: show newer payments while that counts, and settle it afterwards.

    With receipts anybody may, of any channel: whoever is asked to look after somebody else's.
    """

    async def act(channels: RollupChannels) -> None:
        done = await channels.answer(channel, [bytes.fromhex(each) for each in receipt or ()])
        print_fields({"transactions": " ".join(f"0x{each.hex()}" for each in done)}, as_json)

    as_channels(act, chain, rollup, data, password_file, start=start, asset=asset)
