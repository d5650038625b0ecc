"""`tally towers`: what each tower guards; bring back from them what a lost disk took."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Context, Option

from tallystick.sdk.cli.options import Data, Json, PasswordFile
from tallystick.sdk.cli.screen import say, say_json
from tallystick.sdk.cli.shell import ask_node, example, fail, make_group, print_result, run_guarded
from tallystick.sdk.cli.tables import show_recovery, show_towers

if TYPE_CHECKING:
    from tallystick.sdk.node.recovering import Recovery

app = make_group(
    "Show the node's watchtowers, bring back from them what was lost.", name="towers", invoke_without_command=True
)


@app.callback()
def default(context: Context, data: Data = None, as_json: Json = False) -> None:
    """Show the node's watchtowers: whether each is reached, what it does not guard yet, and what waits for receipts."""
    if context.invoked_subcommand is None:
        found = ask_node(data, lambda node: node.statistics())
        print_result(found["towers"], as_json, lambda towers: show_towers(towers, found["custody"]))


@app.command(epilog=example("towers recover --tower 02a1…c3@tower.example:9911"))
def recover(
    data: Data = None,
    password_file: PasswordFile = None,
    tower: Annotated[
        list[str] | None,
        Option(help="A tower's address; may be given several times.", show_default="`towers` of config.toml"),
    ] = None,
    within: Annotated[float, Option(min=1, help="Seconds that a tower may take for each answer.")] = 30.0,
    as_json: Json = False,
) -> None:
    """Bring the node's channels back from its towers, after its disk was lost: with nothing but the key.

    Put keystore.json and config.toml into an empty directory (or use the old one, if its data is an old copy); the
    node must not run. Nothing that is newer is overwritten. In each channel that comes back nothing is signed any
    more: start the node, it asks the peers to close and takes its money home. Exit code 1 if no tower answered, or
    nothing was found.
    """

    def work() -> Recovery:
        import trio

        from tallystick.channels.ports import PeerAddress
        from tallystick.sdk.daemon.configuration import data_directory, read_settings
        from tallystick.sdk.daemon.keystore import load_key
        from tallystick.sdk.node.recovering import recover as bring_back

        directory = data_directory(data)
        settings, key = read_settings(directory), load_key(directory, None, password_file)
        towers = tuple(PeerAddress.parse(text) for text in tower or ()) or settings.tower_addresses

        async def ask() -> Recovery:
            return await bring_back(
                Path(directory),
                key=key,
                chain_id=settings.chain_id,
                contract=settings.contract_address,
                towers=towers,
                within=within,
            )

        return trio.run(ask)

    found = run_guarded(work)
    if as_json:
        say_json(found)
    else:
        show_recovery(found)
    for fault in () if as_json else found.faults:
        say(f"tally: {fault}", err=True)
    if not found.answered:
        fail("no tower answered: see that they run, and that their addresses are right; nothing was changed")
    if not found.channels:
        fail("the towers that answered hold nothing for this key: is it the right keystore, and are these its towers?")
