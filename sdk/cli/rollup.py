"""`tally rollup`: operate a rollup, watch one, and what its users do, on the simulated ledger or on an EVM."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, BadParameter, Option

from tallystick.sdk.cli.options import (
    LOCAL_CHAIN,
    AmountArgument,
    ChainUrl,
    Data,
    Json,
    PasswordFile,
    amount_option,
    limit_option,
    parse_account,
)
from tallystick.sdk.cli.screen import facts as show_facts
from tallystick.sdk.cli.screen import say, say_json
from tallystick.sdk.cli.shell import example, make_group, run_guarded

if TYPE_CHECKING:
    from tallystick.channels.protocol.keys import PrivateKey
    from tallystick.sdk.rollup.calls import RollupPlace
    from tallystick.sdk.rollup.chain import RollupChain
    from tallystick.sdk.rollup.promises import Promise
    from tallystick.sdk.rollup.user import RollupUser
    from tallystick.settlement.rollup.steps import Step

app = make_group("Settle by the thousand: operate a rollup, watch one, pay and close in one.")


def _parse_rollup(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,18}|0x[0-9a-fA-F]{40}", text):
        raise BadParameter(f"{text!r} is no rollup: on the ledger it is a number, on an EVM a contract's address")
    return text


def _parse_signature(text: str) -> str:
    if not re.fullmatch(r"(0x)?[0-9a-fA-F]{128}", text):
        raise BadParameter("a signature has 128 hex digits")
    return text.removeprefix("0x")


Rollup = Annotated[
    str,
    Option(
        "--rollup", parser=_parse_rollup, metavar="ROLLUP", envvar="TALLY_ROLLUP", help="Its number, or its contract."
    ),
]
DeskUrl = Annotated[str, Option("--desk", envvar="TALLY_DESK", help="URL of the operator's desk.")]
Start = Annotated[int, Option("--start", min=0, help="A block not after the rollup's first one; never change it.")]
ToArgument = Annotated[str, Argument(parser=parse_account, metavar="0x…", help="An account of the rollup.")]
ChannelNumber = Annotated[int, Argument(min=0, max=2**32 - 1, metavar="CHANNEL", help="The channel's number.")]
Until = Annotated[int, Option("--until", min=1, max=2**40 - 1, help="Until when it counts, in Unix seconds.")]
Listen = Annotated[str, Option("--listen", help="host:port; port 0 takes a free one.")]
DESK = "http://127.0.0.1:9921"
"""Where `tally rollup operate` listens, unless told otherwise."""


@app.command(epilog=example("rollup create --data ~/.tally-rollup --bond 1000000000000000000"))
def create(
    data: Data = None,
    password_file: PasswordFile = None,
    bond: Annotated[int, amount_option(help="What the operator has to pay in before it may post.")] = 10**18,
    window: Annotated[int, Option(min=1, help="Seconds within which a batch can be convicted.")] = 259_200,
    order_time: Annotated[int, Option(min=1, help="Seconds within which what the chain orders must be done.")] = 86_400,
    answer_time: Annotated[int, Option(min=1, help="Seconds within which signatures must be shown.")] = 14_400,
    fee: Annotated[
        int, limit_option(help="What a demand of signatures costs: half of it should pay for an answer.")
    ] = 10**15,
    chain: ChainUrl = LOCAL_CHAIN,
    as_json: Json = False,
) -> None:
    """Make a rollup whose operator is the key in --data. On an EVM it puts the contract onto the chain."""

    async def act(node: RollupChain, key: PrivateKey) -> None:
        made = await node.create(key, (bond, window, order_time, answer_time, fee))
        block = (await node.head()).number
        _print({"rollup": str(made), "operator": f"0x{key.address.hex()}", "block": block}, as_json)

    _run(act, chain, None, data, password_file)


@app.command(epilog=example("rollup operate --data ~/.tally-rollup --rollup 0 --pay-bond"))
def operate(
    rollup: Rollup,
    data: Data = None,
    password_file: PasswordFile = None,
    listen: Listen = "127.0.0.1:9921",
    pay_bond: Annotated[bool, Option("--pay-bond", help="Pay in what is wanting of the bond, at the start.")] = False,
    every: Annotated[int, Option(min=1, help="Seconds between two batches that are not full.")] = 12,
    promise: Annotated[int, Option(min=1, help="Seconds within which a step that was taken is in a batch.")] = 600,
    chain: ChainUrl = LOCAL_CHAIN,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Operate a rollup until Ctrl-C or SIGTERM: take steps at its desk, post batches, show signatures."""

    def work() -> None:
        from tallystick.sdk.rollup.operating import OperatorPolicy
        from tallystick.sdk.rollup.programs import run_operator

        host, port = _place(listen)

        async def run() -> None:
            await run_operator(
                _directory(data),
                _key(data, password_file),
                url=chain,
                rollup=_rollup(rollup),
                host=host,
                port=port,
                ready=lambda url: _tell(as_json, "listening", f"users reach {url}", url=url),
                say=lambda text: _tell(as_json, "said", text),
                pay_bond=pay_bond,
                start=start,
                policy=OperatorPolicy(every=every, promise=promise),
            )

        _until_stopped(run)

    run_guarded(work)


@app.command(epilog=example("rollup watch --data ~/.tally-watcher --rollup 0 --desk http://127.0.0.1:9921"))
def watch(
    rollup: Rollup,
    data: Data = None,
    password_file: PasswordFile = None,
    desk: Annotated[str, Option("--desk", envvar="TALLY_DESK", help="The operator's, to read signatures at.")] = "",
    chain: ChainUrl = LOCAL_CHAIN,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Watch a rollup until Ctrl-C or SIGTERM: convict wrong batches, demand signatures, and get what that earns."""

    def work() -> None:
        from tallystick.sdk.rollup.programs import run_watcher

        async def run() -> None:
            await run_watcher(
                _directory(data),
                _key(data, password_file),
                url=chain,
                rollup=_rollup(rollup),
                desk=desk,
                ready=lambda facts: _tell(as_json, "watching", f"watching, from {facts.batches} batches on"),
                say=lambda text: _tell(as_json, "said", text),
                start=start,
            )

        _until_stopped(run)

    run_guarded(work)


@app.command(epilog=example("rollup deposit 1000000 --rollup 0"))
def deposit(
    amount: AmountArgument,
    rollup: Rollup,
    data: Data = None,
    password_file: PasswordFile = None,
    chain: ChainUrl = LOCAL_CHAIN,
    as_json: Json = False,
) -> None:
    """Move coins of the key's account into the rollup; the first time makes an account there."""

    async def act(user: RollupUser) -> None:
        _print({"transaction": f"0x{(await user.deposit(amount)).hex()}"}, as_json)

    _as_user(act, chain, rollup, "", data, password_file)


@app.command(epilog=example("rollup pay 0x2b762adcd8360d8a9f63cf729909279f768d7962 250 --rollup 0"))
def pay(
    to: ToArgument,
    amount: AmountArgument,
    rollup: Rollup,
    data: Data = None,
    password_file: PasswordFile = None,
    desk: DeskUrl = DESK,
    chain: ChainUrl = LOCAL_CHAIN,
    as_json: Json = False,
) -> None:
    """Pay another account of the rollup; print the operator's promise."""

    async def act(user: RollupUser) -> None:
        _show(*await user.transfer(to, amount), as_json)

    _as_user(act, chain, rollup, desk, data, password_file)


@app.command("open", epilog=example("rollup open 7 0x2b762adcd8360d8a9f63cf729909279f768d7962 10000 --rollup 0"))
def open_channel(
    channel: ChannelNumber,
    other: ToArgument,
    amount: AmountArgument,
    rollup: Rollup,
    data: Data = None,
    password_file: PasswordFile = None,
    desk: DeskUrl = DESK,
    chain: ChainUrl = LOCAL_CHAIN,
    as_json: Json = False,
) -> None:
    """Open a channel in the rollup under a number that none has had."""

    async def act(user: RollupUser) -> None:
        _show(*await user.open_channel(channel, other, amount), as_json)

    _as_user(act, chain, rollup, desk, data, password_file)


@app.command(epilog=example("rollup fund 7 5000 --rollup 0"))
def fund(
    channel: ChannelNumber,
    amount: AmountArgument,
    rollup: Rollup,
    data: Data = None,
    password_file: PasswordFile = None,
    desk: DeskUrl = DESK,
    chain: ChainUrl = LOCAL_CHAIN,
    as_json: Json = False,
) -> None:
    """Pay into a channel of the rollup."""

    async def act(user: RollupUser) -> None:
        _show(*await user.fund(channel, amount), as_json)

    _as_user(act, chain, rollup, desk, data, password_file)


@app.command(epilog=example("rollup close 7 4000 --until 1900000000 --rollup 0"))
def close(
    channel: ChannelNumber,
    balance0: Annotated[
        int, Argument(min=0, metavar="BALANCE", help="What its first side gets; the rest is the other's.")
    ],
    until: Until,
    rollup: Rollup,
    signature: Annotated[
        str, Option(parser=_parse_signature, metavar="HEX", help="The other side's; without it ours is printed.")
    ] = "0" * 128,
    force: Annotated[
        bool, Option("--force", help="Order it by the chain: the operator must, or everything stops.")
    ] = False,
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
            _print({"signature": (await user.sign_close(channel, balance0, until)).hex()}, as_json)
        elif force:
            done = await user.force_close(channel, balance0, until, other, start)
            _print({"transaction": f"0x{done.hex()}"}, as_json)
        else:
            _show(*await user.close(channel, balance0, until, other), as_json)

    _as_user(act, chain, rollup, desk, data, password_file)


@app.command("exit", epilog=example("rollup exit 1000 --rollup 0"))
def exit_rollup(
    amount: AmountArgument,
    rollup: Rollup,
    data: Data = None,
    password_file: PasswordFile = None,
    desk: DeskUrl = DESK,
    chain: ChainUrl = LOCAL_CHAIN,
    as_json: Json = False,
) -> None:
    """Take coins out of the rollup: once the batch is final, `tally rollup withdraw` pays them."""

    async def act(user: RollupUser) -> None:
        _show(*await user.exit(amount), as_json)

    _as_user(act, chain, rollup, desk, data, password_file)


@app.command("force-exit", epilog=example("rollup force-exit --rollup 0"))
def force_exit(
    rollup: Rollup,
    data: Data = None,
    password_file: PasswordFile = None,
    chain: ChainUrl = LOCAL_CHAIN,
    as_json: Json = False,
) -> None:
    """Order by the chain that all that the account holds goes out: the operator must, or everything stops."""

    async def act(user: RollupUser) -> None:
        _print({"transaction": f"0x{(await user.force_exit()).hex()}"}, as_json)

    _as_user(act, chain, rollup, "", data, password_file)


@app.command(epilog=example("rollup withdraw --rollup 0"))
def withdraw(
    rollup: Rollup,
    data: Data = None,
    password_file: PasswordFile = None,
    chain: ChainUrl = LOCAL_CHAIN,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Have paid on the chain what was taken out, or all, if everything has stopped. It does not ask the operator."""

    async def act(user: RollupUser) -> None:
        done = await user.withdraw(start)
        _print({"transaction": f"0x{done.hex()}" if done else ""}, as_json)

    _as_user(act, chain, rollup, "", data, password_file)


@app.command(epilog=example("rollup show --rollup 0"))
def show(
    rollup: Rollup,
    account: Annotated[
        str, Option(parser=parse_account, metavar="0x…", help="Also what is to be said of this account.")
    ] = "0x" + "0" * 40,
    chain: ChainUrl = LOCAL_CHAIN,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Say what a rollup is, and where it stands, from what its chain tells alone."""

    async def act(node: RollupChain, _: object) -> None:
        from tallystick.channels.protocol.objects import to_address
        from tallystick.sdk.rollup.user import read_rollup

        facts, core = await node.facts(), await read_rollup(node, start)
        shown: dict[str, Any] = {name: value for name, value in facts._asdict().items() if name != "vault"}
        shown |= {"operator": f"0x{facts.operator.hex()}", "contract": f"0x{facts.vault.hex()}"}
        shown |= {"root": f"0x{core.state.root.hex()}", "wrong": core.is_wrong, "done": core.queue_end}
        whose = to_address(account)
        if any(whose):
            number, paid, owed = await node.account(whose)
            held = core.state.accounts.get(number) if number is not None else None
            shown |= {"account": number, "paid": paid, "owed": owed}
            shown |= {"balance": held.balance, "exited": held.exited} if held else {"balance": 0, "exited": 0}
        _print(shown, as_json)

    _run(act, chain, rollup, None, None, with_key=False)


def _rollup(text: str | None) -> RollupPlace:
    from tallystick.sdk.rollup.calls import RollupPlace

    return RollupPlace() if text is None else RollupPlace.read(text)


def _place(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
        raise BadParameter(f"{listen!r} is no place to listen at: it is written host:port")
    return host.strip("[]"), int(port)


def _directory(data: Any) -> Path:
    from tallystick.sdk.daemon.configuration import data_directory

    return data_directory(data)


def _key(data: Any, password_file: Any) -> PrivateKey:
    from tallystick.sdk.daemon.keystore import load_key

    return load_key(_directory(data), None, password_file)


def _tell(as_json: bool, event: str, text: str, **more: str) -> None:
    say_json({"event": event, "text": text, **more}) if as_json else say(text)


def _print(fields: dict[str, Any], as_json: bool) -> None:
    say_json(fields) if as_json else show_facts(fields)


def _show(_: Step, promise: Promise, as_json: bool) -> None:
    signature = f"0x{promise.signature.hex()}"
    _print({"step": f"0x{promise.step.hex()}", "until": promise.until, "promise": signature}, as_json)


def _until_stopped(run: Callable[[], Awaitable[None]]) -> None:
    import signal

    import trio

    async def work() -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run)
                await anext(signals)
                nursery.cancel_scope.cancel()

    trio.run(work)


def _run(
    act: Callable[[RollupChain, Any], Awaitable[None]],
    url: str,
    rollup: str | None,
    data: Any,
    password_file: Any,
    *,
    with_key: bool = True,
) -> None:
    def work() -> None:
        import trio

        key = _key(data, password_file) if with_key else None

        async def run() -> None:
            from tallystick.sdk.rollup.chain import open_rollup_chain

            async with open_rollup_chain(url, _rollup(rollup)) as node:
                await act(node, key)

        trio.run(run)

    run_guarded(work)


def _as_user(
    act: Callable[[RollupUser], Awaitable[None]], url: str, rollup: str, desk: str, data: Any, password_file: Any
) -> None:
    async def run(node: RollupChain, key: PrivateKey) -> None:
        from contextlib import AsyncExitStack

        from tallystick.sdk.rollup.user import RollupUser, open_desk

        async with AsyncExitStack() as stack:
            asked = await stack.enter_async_context(open_desk(desk)) if desk else None
            await act(RollupUser(node, await node.rules_of(), key, asked))

    _run(run, url, rollup, data, password_file)
