"""`tally ledger`: call the rule modules of a simulated ledger, and look at them; pay on the ledger itself."""

from __future__ import annotations

import re
import shlex
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, BadParameter, Exit, Option

from tallystick.sdk.cli.options import (
    LOCAL_CHAIN,
    AmountArgument,
    Asset,
    ChainUrl,
    Data,
    Json,
    PasswordFile,
    parse_account,
    parse_fee,
)
from tallystick.sdk.cli.screen import facts, say, say_json
from tallystick.sdk.cli.shell import FAILED, MISUSED, UNREACHABLE, example, make_group, run_guarded
from tallystick.sdk.control.kinds import NATIVE_ASSET

if TYPE_CHECKING:
    from tallystick.sdk.ledger import LedgerAccount
    from tallystick.settlement.chain import ModuleCall
    from tallystick.settlement.modules.interface import Argument as Declared
    from tallystick.settlement.modules.interface import Function
    from tallystick.settlement.port import LedgerChain

app = make_group("Call the modules of a simulated ledger (exchange, lending, staking, treasury), or look at them.")

ModuleName = Annotated[str, Argument(metavar="MODULE", help="One of `tally ledger modules`.")]
Values = Annotated[
    list[str] | None,
    Argument(
        metavar="VALUE", help="In order: numbers, addresses (0x…), native, me, yes, no, +SECONDS from now; lists: 0,1."
    ),
]
WORDS = {"yes": True, "true": True, "no": False, "false": False}


@app.command(epilog=example("ledger call exchange swap native 0x7070707070707070707070707070707070707070 0 1000 1 +60"))
def call(
    module: ModuleName,
    function: Annotated[str, Argument(metavar="FUNCTION", help="One of `tally ledger modules MODULE`.")],
    values: Values = None,
    value: Annotated[
        int, Option(parser=parse_fee, metavar="N", help="The most of the chain's own coin that may leave the account.")
    ] = 0,
    then: Annotated[
        list[str] | None,
        Option(metavar="CALL", help="With flash: a call to make meanwhile, in quotes: 'exchange swap …'. Repeatable."),
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Say what it would answer, and do nothing.")] = False,
    data: Data = None,
    password_file: PasswordFile = None,
    timeout: Annotated[float, Option(min=0.1, help="Seconds to wait for a block.")] = 60,
    chain: ChainUrl = LOCAL_CHAIN,
    as_json: Json = False,
) -> None:
    """Call a function of a module, paid by the key in --data, and return when it is in a block.

    It is tried first: a call that would fail costs nothing. A node that runs on that key numbers its transactions
    itself: use a key of its own.
    """
    from tallystick.settlement.ethereum.module_calls import shown

    async def act(account: LedgerAccount, node: LedgerChain) -> None:
        now = (await node.head()).time
        inner = [_inner(text, account, now) for text in then or ()]
        given = _read_values(_function(module, function), values or [], account, now, bool(inner))
        if dry_run:
            from tallystick.sdk.ledger import module_call

            answer = await account.quote(module_call(module, function, given, value=value, then=inner))
            _show(answer, as_json)
            return
        done = await account.call(module, function, given, value=value, then=inner, timeout=timeout)
        if as_json:
            say_json(
                {
                    "transaction": shown(done.transaction),
                    "block": done.block,
                    "fee": done.fee,
                    "expected": shown_fields(done.expected),
                    "told": [
                        {"module": told.module, "event": told.event, "fields": shown_fields(told.fields)}
                        for told in done.told
                    ],
                }
            )
            return
        say(f"transaction {shown(done.transaction)} in block {done.block}, for a fee of {done.fee}")
        for told in done.told:
            text = ", ".join(f"{name} {each}" for name, each in shown_fields(told.fields).items())
            say(f"{told.module}: {told.event}: {text}")

    run_with_key(act, chain, data, password_file, as_json, sends=not dry_run)


@app.command(epilog=example("ledger read exchange pool native 0x7070707070707070707070707070707070707070 0"))
def read(
    module: ModuleName,
    view: Annotated[str, Argument(metavar="VIEW", help="One of `tally ledger modules MODULE`.")],
    values: Values = None,
    chain: ChainUrl = LOCAL_CHAIN,
    as_json: Json = False,
) -> None:
    """Say what a view of a module says now. `me` is not known here: give an address."""

    async def act(node: LedgerChain) -> None:
        from tallystick.settlement.ethereum.module_calls import read_answer, write_call

        now = (await node.head()).time
        made = write_call(module, view, _read_values(_function(module, view), values or [], None, now, False))
        answer = read_answer(made, await node.view(made))
        _show(answer, as_json)

    _run(act, chain, as_json)


@app.command(epilog=example("ledger modules exchange"))
def modules(
    module: Annotated[str | None, Argument(metavar="MODULE", help="One of them; all if left out.")] = None,
    as_json: Json = False,
) -> None:
    """List the modules, where they are, and what each can do."""
    from tallystick.settlement.ethereum.module_calls import module_named
    from tallystick.settlement.modules.table import MODULES

    def work() -> None:
        chosen = MODULES.values() if module is None else [module_named(module)]
        if as_json:
            say_json([_described(each) for each in chosen])
            return
        for each in chosen:
            say(f"{each.name}  0x{each.address.hex()}  {each.about}")
            for name, function in each.functions.items():
                arguments = " ".join(argument.name for argument in function.form.arguments)
                kind = "read" if function.is_view else "call"
                say(f"  {kind}  {name} {arguments}".rstrip(), f"          {function.about}")

    _guarded(work, as_json)


@app.command(epilog=example("ledger account"))
def account(data: Data = None, password_file: PasswordFile = None, as_json: Json = False) -> None:
    """Say the address of the key in --data: the account that calls are made by."""

    def work() -> None:
        address = f"0x{_key(data, password_file).address.hex()}"
        say_json({"account": address}) if as_json else say(address)

    _guarded(work, as_json)


@app.command(epilog=example("ledger balance --asset 0x7070707070707070707070707070707070707070"))
def balance(
    account: Annotated[
        str | None, Argument(parser=parse_account, metavar="0x…", help="Whose.", show_default="the key's in --data")
    ] = None,
    asset: Asset = NATIVE_ASSET,
    data: Data = None,
    password_file: PasswordFile = None,
    chain: ChainUrl = LOCAL_CHAIN,
    as_json: Json = False,
) -> None:
    """Say what an account holds on the ledger, of the chain's own coin or a token."""

    async def act(node: LedgerChain) -> None:
        from tallystick.settlement.ethereum.rpc_shapes import read_address

        holder = read_address(account) if account else _key(data, password_file).address
        held = await node.balance(holder, read_address(asset))
        fields = {"account": f"0x{holder.hex()}", "asset": asset, "balance": held}
        say_json(fields) if as_json else say(str(held))

    _run(act, chain, as_json)


@app.command(epilog=example("ledger pay 0x2b762adcd8360d8a9f63cf729909279f768d7962 250"))
def pay(
    to: Annotated[str, Argument(parser=parse_account, metavar="0x…", help="The account that gets it.")],
    amount: AmountArgument,
    asset: Asset = NATIVE_ASSET,
    data: Data = None,
    password_file: PasswordFile = None,
    timeout: Annotated[float, Option(min=0.1, help="Seconds to wait for a block.")] = 60,
    chain: ChainUrl = LOCAL_CHAIN,
    as_json: Json = False,
) -> None:
    """Pay an account on the ledger itself, and return when it is in a block. It takes a fee; a channel does not."""

    async def act(account: LedgerAccount, node: LedgerChain) -> None:
        done = f"0x{(await account.pay(to, amount, asset, timeout=timeout)).hex()}"
        say_json({"transaction": done}) if as_json else say(f"transaction {done}")

    run_with_key(act, chain, data, password_file, as_json)


# --- what is given ----------------------------------------------------------------------------------------------


def _function(module: str, name: str) -> Function:
    from tallystick.settlement.ethereum.module_calls import function_named, module_named

    return function_named(module_named(module), name)


def _inner(text: str, account: LedgerAccount, now: int) -> ModuleCall:
    from tallystick.sdk.ledger import module_call

    words = shlex.split(text)
    if len(words) < 2:
        raise BadParameter(f"{text!r} is no call: it is written as MODULE FUNCTION VALUES…, in quotes")
    module, function, *values = words
    return module_call(module, function, _read_values(_function(module, function), values, account, now, False))


def _read_values(
    function: Function, given: list[str], account: LedgerAccount | None, now: int, calls: bool
) -> list[Any]:
    from tallystick.settlement.ethereum.module_calls import INNER

    arguments = function.form.arguments
    if function.form.types[-2:] == INNER:
        arguments = arguments[:-2]
    elif calls:
        raise BadParameter(f"{function.form.name} makes no calls of others: --then is for flash")
    if len(given) != len(arguments):
        names = " ".join(argument.name for argument in arguments) or "no values"
        raise BadParameter(f"{function.form.name} takes {names}: {len(arguments)} values, not {len(given)}")
    return [_read_value(text, argument, account, now) for text, argument in zip(given, arguments, strict=True)]


def _read_value(text: str, argument: Declared, account: LedgerAccount | None, now: int) -> Any:
    from tallystick.settlement.modules.table import MODULES

    if argument.type in ("address[]", "uint64[]", "uint256[]"):
        single = argument._replace(type=argument.type[:-2])
        return [_read_value(each, single, account, now) for each in text.split(",")] if text else []
    wrong = f"{argument.name} is no {argument.type}: {text!r}"
    match argument.type:
        case "address" if text == "native":
            return NATIVE_ASSET
        case "address" if text == "me" and account is not None:
            return account.address
        case "address" if text in MODULES:
            return MODULES[text].address
        case "address" if re.fullmatch(r"0x[0-9a-fA-F]{40}", text):
            return text
        case "address":
            raise BadParameter(f"{wrong}; give 0x and 40 hex digits, native, or a module's name; in calls also me")
        case "bool" if text.lower() in WORDS:
            return WORDS[text.lower()]
        case "bytes32" if re.fullmatch(r"0x[0-9a-fA-F]{64}", text):
            return text
        case "bytes32" if len(text.encode()) <= 32:
            return text.encode().ljust(32, b"\0")
        case "bytes" if re.fullmatch(r"0x([0-9a-fA-F]{2})*", text):
            return text
        case "uint64" if re.fullmatch(r"\+[0-9]{1,10}", text):
            return now + int(text)
        case "uint64" | "uint128" | "uint256" if re.fullmatch(r"[0-9][0-9_]{0,90}", text):
            return int(text.replace("_", ""))
    raise BadParameter(wrong)


def shown_fields(fields: Any) -> dict[str, Any]:
    """Return what is shown of a module's answer: addresses and bytes as hex."""
    from tallystick.settlement.ethereum.module_calls import shown

    return {name: shown(value) for name, value in fields.items()}


def _show(answer: Any, as_json: bool) -> None:
    if as_json:
        say_json(shown_fields(answer))
    elif answer:
        facts(shown_fields(answer))
    else:
        say("nothing to say, and nothing against it")


def _described(module: Any) -> dict[str, Any]:
    return {
        "module": module.name,
        "address": f"0x{module.address.hex()}",
        "about": module.about,
        "functions": [
            {
                "name": name,
                "kind": "view" if function.is_view else "call",
                "about": function.about,
                "arguments": [argument._asdict() for argument in function.form.arguments],
                "results": [result._asdict() for result in function.results],
                "gas": function.gas,
            }
            for name, function in module.functions.items()
        ],
    }


# --- running ----------------------------------------------------------------------------------------------------


def _key(data: Any, password_file: Any) -> Any:
    from tallystick.sdk.daemon.configuration import data_directory
    from tallystick.sdk.daemon.keystore import load_key

    directory = data_directory(data)
    if (directory / "config" / "operator_key.json").exists():
        from tallystick.settlement.replicated.validator import operator_of

        return operator_of(directory)
    return load_key(directory, None, password_file)


def _run(act: Callable[[LedgerChain], Awaitable[None]], url: str, as_json: bool) -> None:
    def work() -> None:
        import trio

        from tallystick.channels.ports import system_entropy
        from tallystick.settlement.ethereum.rpc_client import open_rpc_chain

        async def run() -> None:
            async with open_rpc_chain(url, jitter=lambda: system_entropy(1)[0] / 256) as node:
                await act(node)

        trio.run(run)

    _guarded(work, as_json)


def run_with_key(
    act: Callable[[LedgerAccount, LedgerChain], Awaitable[None]],
    url: str,
    data: Any,
    password_file: Any,
    as_json: bool,
    *,
    sends: bool = True,
) -> None:
    """Do something with the account of the key in a data directory, on a chain node's ledger; `sends`: transactions."""

    async def run(node: LedgerChain) -> None:
        from tallystick.sdk.daemon.configuration import data_directory
        from tallystick.sdk.daemon.numbering import hold_numbers
        from tallystick.sdk.ledger import LedgerAccount

        account = LedgerAccount(node, key)
        with hold_numbers(data_directory(data), account.address, node.chain_id) if sends else nullcontext():
            await act(account, node)

    key: Any = None

    def take() -> None:
        nonlocal key
        key = _key(data, password_file)

    _guarded(take, as_json)
    _run(run, url, as_json)


def _guarded(work: Callable[[], None], as_json: bool) -> None:
    def refuse(error: Exception) -> Any:
        from tallystick.channels.errors import InvalidInput
        from tallystick.settlement.errors import ChainUnavailable

        say_json({"error": str(error)}, err=True) if as_json else say(f"tally: {error}", err=True)
        codes = {InvalidInput: MISUSED, ChainUnavailable: UNREACHABLE}
        raise Exit(next((code for kind, code in codes.items() if isinstance(error, kind)), FAILED))

    run_guarded(work, refuse)
