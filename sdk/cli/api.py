"""The `tally api` command: the control API as a page to read, or as an OpenAPI document. It needs no node."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from tallystick.sdk.cli.screen import say, say_json
from tallystick.sdk.cli.shell import Commands, example

app = Commands(add_completion=False)


@app.command(epilog=example("api --openapi"))
def api(
    openapi: Annotated[bool, Option("--openapi", help="As an OpenAPI 3.1 document, in JSON.")] = False,
) -> None:
    """Show what programs can ask a node over HTTP: a page in Markdown, or an OpenAPI document."""
    if openapi:
        from tallystick.sdk.control.openapi import document

        say_json(document())
    else:
        from tallystick.sdk.control.openapi import page

        say(*page().splitlines())
