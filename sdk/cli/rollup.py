"""`tally rollup`: operate a rollup, watch one, and look at one, on the simulated ledger or on an EVM."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from tallystick.sdk.cli.options import (
    LOCAL_CHAIN,
    Asset,
    ChainUrl,
    Data,
    Json,
    PasswordFile,
    amount_option,
    limit_option,
    parse_account,
)
from tallystick.sdk.cli.rollup_options import (
    AcceptTerms,
    Listen,
    Rollup,
    Start,
    app,
    as_user,
    directory_of,
    key_of,
    parse_token_fee,
    place_of,
    print_fields,
    rollup_place,
    run_act,
    tell,
    token_fees_of,
    until_stopped,
)
from tallystick.sdk.cli.shell import example, run_guarded
from tallystick.sdk.control.kinds import NATIVE_ASSET

if TYPE_CHECKING:
    from tallystick.channels.protocol.keys import PrivateKey
    from tallystick.sdk.rollup.chain import RollupChain
    from tallystick.sdk.rollup.user import RollupUser


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
    accept_terms: AcceptTerms = False,
    as_json: Json = False,
) -> None:
    """Make a rollup whose operator is the key in --data. On an EVM it puts the contract onto the chain."""

    async def act(node: RollupChain, key: PrivateKey) -> None:
        made = await node.create(key, (bond, window, order_time, answer_time, fee), accept_terms=accept_terms)
        block = (await node.head()).number
        print_fields({"rollup": str(made), "operator": f"0x{key.address.hex()}", "block": block}, as_json)

    run_act(act, chain, None, data, password_file)


@app.command(epilog=example("rollup operate --data ~/.tally-rollup --rollup 0 --pay-bond"))
def operate(
    rollup: Rollup,
    data: Data = None,
    password_file: PasswordFile = None,
    listen: Listen = "127.0.0.1:9921",
    pay_bond: Annotated[bool, Option("--pay-bond", help="Pay in what is wanting of the bond, at the start.")] = False,
    every: Annotated[int, Option(min=1, help="Seconds between two batches that are not full.")] = 12,
    step_fee: Annotated[int, limit_option(help="What a step costs its user, paid in the rollup.")] = 0,
    token_fee: Annotated[
        list[str] | None,
        Option(parser=parse_token_fee, metavar="0x…=N", help="The same for accounts in a token; give it for each."),
    ] = None,
    worth: Annotated[int, limit_option(help="A batch is posted once what waits pays so much in fees,")] = 0,
    wait: Annotated[int, Option(min=1, help="or has waited for so many seconds.")] = 300,
    promise: Annotated[int, Option(min=1, help="Seconds within which a step that was taken is in a batch.")] = 600,
    chain: ChainUrl = LOCAL_CHAIN,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Operate a rollup until Ctrl-C or SIGTERM: take steps at its desk, post batches, show signatures."""

    def work() -> None:
        from tallystick.sdk.rollup.operating import OperatorPolicy
        from tallystick.sdk.rollup.programs import run_operator

        host, port = place_of(listen)

        async def run() -> None:
            await run_operator(
                directory_of(data),
                key_of(data, password_file),
                url=chain,
                rollup=rollup_place(rollup),
                host=host,
                port=port,
                ready=lambda url: tell(as_json, "listening", f"users reach {url}", url=url),
                say=lambda text: tell(as_json, "said", text),
                pay_bond=pay_bond,
                start=start,
                policy=OperatorPolicy(
                    every=every,
                    fee=step_fee,
                    token_fees=token_fees_of(token_fee),
                    worth=worth,
                    wait=wait,
                    promise=promise,
                ),
            )

        until_stopped(run)

    run_guarded(work)


@app.command(epilog=example("rollup watch --data ~/.tally-watcher --rollup 0 --desk http://127.0.0.1:9921"))
def watch(
    rollup: Rollup,
    data: Data = None,
    password_file: PasswordFile = None,
    desk: Annotated[str, Option("--desk", envvar="TALLY_DESK", help="The operator's, to read signatures at.")] = "",
    chain: ChainUrl = LOCAL_CHAIN,
    start: Start = 0,
    accept_terms: AcceptTerms = False,
    as_json: Json = False,
) -> None:
    """Watch a rollup until Ctrl-C or SIGTERM: convict wrong batches, demand signatures, and get what that earns."""

    def work() -> None:
        from tallystick.sdk.rollup.programs import run_watcher

        async def run() -> None:
            await run_watcher(
                directory_of(data),
                key_of(data, password_file),
                url=chain,
                rollup=rollup_place(rollup),
                desk=desk,
                ready=lambda facts: tell(as_json, "watching", f"watching, from {facts.batches} batches on"),
                say=lambda text: tell(as_json, "said", text),
                start=start,
                accept_terms=accept_terms,
            )

        until_stopped(run)

    run_guarded(work)


@app.command(epilog=example("rollup stop --data ~/.tally-rollup --rollup 0"))
def stop(
    rollup: Rollup,
    data: Data = None,
    password_file: PasswordFile = None,
    chain: ChainUrl = LOCAL_CHAIN,
    as_json: Json = False,
) -> None:
    """Stop a rollup for good: its operator at any time, anybody if something that the chain ordered is overdue."""

    async def act(user: RollupUser) -> None:
        print_fields({"transaction": f"0x{(await user.leaving.stop()).hex()}"}, as_json)

    as_user(act, chain, rollup, "", data, password_file)


@app.command(epilog=example("rollup unbond --data ~/.tally-rollup --rollup 0"))
def unbond(
    rollup: Rollup,
    data: Data = None,
    password_file: PasswordFile = None,
    chain: ChainUrl = LOCAL_CHAIN,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Take the operator's bond back and have it paid, once everybody has left, or ten windows after it stopped."""

    async def act(user: RollupUser) -> None:
        await user.leaving.unbond()
        done = await user.leaving.claim()
        print_fields({"transaction": f"0x{done.hex()}" if done else ""}, as_json)

    as_user(act, chain, rollup, "", data, password_file, start=start)


@app.command(epilog=example("rollup show --rollup 0"))
def show(
    rollup: Rollup,
    account: Annotated[
        str, Option(parser=parse_account, metavar="0x…", help="Also what is to be said of this account.")
    ] = "0x" + "0" * 40,
    chain: ChainUrl = LOCAL_CHAIN,
    asset: Asset = NATIVE_ASSET,
    start: Start = 0,
    as_json: Json = False,
) -> None:
    """Say what a rollup is, and where it stands, from what its chain tells alone."""

    async def act(node: RollupChain, _: object) -> None:
        from tallystick.channels.protocol.objects import to_address
        from tallystick.sdk.rollup.reading import read_rollup
        from tallystick.sdk.rollup.terms import odd_terms

        facts, core = await node.facts(), await read_rollup(node, start)
        shown: dict[str, Any] = {name: value for name, value in facts._asdict().items() if name != "vault"}
        if node.is_ledger:
            del shown["deposited"]  # its view does not tell
        shown |= {"operator": f"0x{facts.operator.hex()}", "contract": f"0x{facts.vault.hex()}"}
        shown |= {"root": f"0x{core.state.root.hex()}", "wrong": core.is_wrong, "done": core.queue_end}
        shown |= {"warnings": odd_terms(*facts.terms)}
        whose = to_address(account)
        if any(whose):
            number, paid, owed = await node.account(whose, to_address(asset))
            held = core.state.accounts.get(number) if number is not None else None
            shown |= {"account": number, "paid": paid, "owed": owed}
            shown |= {"balance": held.balance, "exited": held.exited} if held else {"balance": 0, "exited": 0}
        print_fields(shown, as_json)

    run_act(act, chain, rollup, None, None, with_key=False)


from tallystick.sdk.cli import rollup_users  # noqa: E402, I001 (help shows commands in the order in which they are made)
from tallystick.sdk.cli import rollup_channels  # noqa: E402 (likewise)

__all__ = ("app", "rollup_channels", "rollup_users")
