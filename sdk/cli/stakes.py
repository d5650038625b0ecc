"""`tally chain validators` and `register`: who votes on a replicated chain, by what stake, and being one of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Option

from tallystick.sdk.cli.options import LOCAL_CHAIN, ChainUrl, Json, parse_fee
from tallystick.sdk.cli.screen import say, say_json, show_table
from tallystick.sdk.cli.shell import run_guarded

if TYPE_CHECKING:
    from tallystick.settlement.port import LedgerChain


def show_validators(chain: ChainUrl = LOCAL_CHAIN, as_json: Json = False) -> None:
    """Show who agrees on the blocks of a chain: stakes, powers, and who is jailed or signed twice."""
    found = run_guarded(lambda: _ask(chain))
    if as_json:
        say_json(found)
        return
    rows = [
        [each["validator"], *(str(each[name]) for name in ("power", "stake", "ownStake", "absences")), _state(each)]
        for each in found
    ]
    show_table(["validator", "state"], [[row[0], row[5], *row[1:5]] for row in rows], figures=FIGURES)


FIGURES = ("power", "stake", "of its own", "absences")


def _state(validator: dict[str, Any]) -> str:
    if validator["signedTwiceIn"]:
        return f"signed twice in block {validator['signedTwiceIn']}"
    if validator["jailedUntil"]:
        return f"jailed until {validator['jailedUntil']}"
    return "votes" if validator["power"] else "does not vote"


def register(
    data: Annotated[Path, Option(help="The validator's home; its operator pays, and needs the coins.")],
    stake: Annotated[int, Option(parser=parse_fee, metavar="N", help="Coins of its own that it stakes.")] = 10**18,
    commission: Annotated[
        int, Option(min=0, max=1_000_000, help="What it keeps of its delegators' rewards, in millionths.")
    ] = 50_000,
    chain: ChainUrl = LOCAL_CHAIN,
    as_json: Json = False,
) -> None:
    """Make a home a validator: with a stake of its operator's, and the proof that the key of its votes is here."""
    done = run_guarded(lambda: _register(data, stake, commission, chain))
    if as_json:
        say_json(done)
    else:
        say(f"validator {done['validator']} has delegation {done['delegation']} of {stake}, in block {done['block']}")


def _ask(url: str) -> list[dict[str, Any]]:
    import trio

    from tallystick.settlement.ethereum.module_calls import shown

    async def read(node: LedgerChain, view: str, *values: Any) -> dict[str, Any]:
        from tallystick.settlement.ethereum.module_calls import read_answer, write_call

        call = write_call("validators", view, list(values))
        return read_answer(call, await node.view(call))

    async def act() -> list[dict[str, Any]]:
        async with _open(url) as node:
            total = (await read(node, "validators"))["total"]
            found = []
            for index in range(total):
                address = (await read(node, "validatorAt", index))["validator"]
                about = await read(node, "validator", address)
                found.append({name: shown(value) for name, value in {"validator": address, **about}.items()})
            return found

    return trio.run(act)


def _register(home: Path, stake: int, commission: int, url: str) -> dict[str, Any]:
    import trio

    from tallystick.sdk.ledger import LedgerAccount
    from tallystick.settlement.replicated.validator import operator_of, prove_possession

    async def act() -> dict[str, Any]:
        async with _open(url) as node:
            operator = operator_of(home)
            public, proof, address = prove_possession(home, node.chain_id, operator.address)
            account = LedgerAccount(node, operator)
            done = await account.call("validators", "register", [public, proof, stake, commission], value=stake)
            return {"validator": f"0x{address.hex()}", "block": done.block, **done.expected}

    return trio.run(act)


def replace_key(
    data: Annotated[Path, Option(help="The validator's home, whose operator pays the fee.")],
    chain: ChainUrl = LOCAL_CHAIN,
    as_json: Json = False,
) -> None:
    """Let a validator vote by a new key; the old one votes for two blocks more, and is answered for.

    The new key is made in the home before the chain hears of it. The validator puts it in place by itself when it is in
    force, whether it runs now or starts later. Call it again if it fails: it goes on with the key that it made.
    """
    done = run_guarded(lambda: _replace_key(data, chain))
    if as_json:
        say_json(done)
    else:
        say(f"validator {done['before']} is {done['validator']} from the second block on after the one with this call")


def _replace_key(home: Path, url: str) -> dict[str, Any]:
    import trio

    from tallystick.channels.ports import system_entropy
    from tallystick.sdk.ledger import LedgerAccount
    from tallystick.settlement.ethereum.module_calls import read_answer, write_call
    from tallystick.settlement.replicated.home import KEY, NEXT
    from tallystick.settlement.replicated.key_change import prepare_key
    from tallystick.settlement.replicated.validator import operator_of, prove_possession

    async def act() -> dict[str, Any]:
        async with _open(url) as node:
            operator = operator_of(home)
            _, _, address = prove_possession(home, node.chain_id, operator.address, KEY)
            prepare_key(home, system_entropy)
            public, proof, new = prove_possession(home, node.chain_id, operator.address, NEXT)
            call = write_call("validators", "key", [address])
            if read_answer(call, await node.view(call))["key"] != public:  # else a call before had no answer
                await LedgerAccount(node, operator).call("validators", "replaceKey", [address, public, proof])
            return {"validator": f"0x{new.hex()}", "before": f"0x{address.hex()}"}

    return trio.run(act)


def _open(url: str) -> Any:
    from tallystick.channels.ports import system_entropy
    from tallystick.settlement.ethereum.rpc_client import open_rpc_chain

    return open_rpc_chain(url, jitter=lambda: system_entropy(1)[0] / 256)
