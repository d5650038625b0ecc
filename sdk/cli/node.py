"""`tally node`: run a node, wait until it is ready, ask what it is, stop it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from typer import Option

from tallystick.sdk.cli.options import Data, Json, PasswordFile
from tallystick.sdk.cli.screen import say
from tallystick.sdk.cli.shell import ask_node, example, fail, make_group, print_result, run_guarded, show_alarm
from tallystick.sdk.cli.tables import show_node
from tallystick.sdk.daemon.configuration import data_directory, other_settings, read_settings

if TYPE_CHECKING:
    from tallystick.sdk.control.views import NodeInfo
    from tallystick.sdk.daemon.daemon import Ready

app = make_group("Run a node, wait until it is ready, ask what it is, stop it.", name="node")


@app.command(epilog=example("node run --password-file ~/.tally-password"))
def run(
    data: Data = None,
    password_file: PasswordFile = None,
    listen: Annotated[str | None, Option(help="host:port, instead of the settings'.")] = None,
    chain: Annotated[str | None, Option(help="URL of the chain node, likewise.")] = None,
    as_json: Json = False,
) -> None:
    """Run the node in the foreground until SIGTERM, Ctrl-C or `tally node stop`.

    Once it is ready it prints its addresses; with --json as one line: address, public_key, peer_address, control_url.
    With nodes on other chains (`also` in config.toml), it runs those, too, and prints as much for each, its own first.
    Alarms go to stderr, each with its time and kind. The other commands answer while it still waits for its chain node.
    """

    def work() -> None:
        import msgspec
        import trio

        from tallystick.sdk.daemon.daemon import NodeHome, run_daemon
        from tallystick.sdk.daemon.garbage import look_rarely
        from tallystick.sdk.daemon.keystore import load_key
        from tallystick.sdk.daemon.providers import lone_word
        from tallystick.sdk.daemon.supervisor import supervisor

        directory = data_directory(data)
        settings = read_settings(directory)
        named = (
            {"listen": listen, "rpc": chain and (chain,)} if settings.rpc else {"listen": listen, "chain_url": chain}
        )
        changes = {name: value for name, value in named.items() if value is not None}
        settings = msgspec.structs.replace(settings, **changes)
        if lone := lone_word(settings.rpc, settings.chain_id):
            say(f"tally: {lone}.", err=True)
        homes = [
            NodeHome(path, load_key(path, None, password_file), found)
            for path, found in ((directory, settings), *other_settings(directory, settings))
        ]

        manager = supervisor()

        def tell(ready: Ready) -> None:
            look_rarely()
            manager.tell("READY=1")
            print_result(ready, as_json, _show_ready)

        async def daemon() -> None:
            alarm = partial(show_alarm, as_json=as_json)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(manager.keep_alive)
                await run_daemon(homes[0], also=homes[1:], ready=tell, alarm=alarm)
                manager.tell("STOPPING=1")
                nursery.cancel_scope.cancel()

        trio.run(daemon)

    run_guarded(work)


@app.command(epilog=example("node wait --timeout 30"))
def wait(
    data: Data = None,
    timeout: Annotated[float, Option(min=0, help="Seconds to wait at most.")] = 60,
    as_json: Json = False,
) -> None:
    """Return once the node that was just started answers and knows the chain as it is now.

    For scripts that start it in the background: `tally node run & tally node wait`.
    """

    import trio

    from tallystick.sdk.control.waiting import wait_for_node

    found = run_guarded(lambda: trio.run(wait_for_node, data_directory(data), timeout))
    print_result(found, as_json, _show_running)


def _show_ready(node: Ready) -> None:
    say(f"address       {node.address}", f"public key    {node.public_key}")
    say(f"peers reach   {node.peer_address or 'nothing here: it only dials'}")
    say(f"control API   {node.control_url}", "The node is running; Ctrl-C stops it.")


def _show_running(node: NodeInfo) -> None:
    say(f"The node runs, at block {node.block}; {node.peer_address or 'it only dials'}")


@app.command(epilog=example("node info --json"))
def info(data: Data = None, as_json: Json = False) -> None:
    """Show what the running node is: addresses, chain, alarms."""
    print_result(ask_node(data, lambda node: node.info()), as_json, show_node)


@app.command(epilog=example("node stop"))
def stop(
    data: Data = None,
    timeout: Annotated[float, Option(min=0, help="Seconds to wait for its end.")] = 30,
) -> None:
    """Stop the running node cleanly, and return when it has ended."""
    import trio

    from tallystick.sdk.control.files import wait_ended

    async def wait() -> bool:
        with trio.move_on_after(timeout) as scope:
            await wait_ended(data_directory(data))
        return not scope.cancelled_caught

    ask_node(data, lambda node: node.stop())
    if not run_guarded(lambda: trio.run(wait)):
        fail(f"the node has not ended within {timeout:g} s: see its output")
    say("The node has stopped.")
