"""`tally graph`: graphs of payment networks from files, for experiments."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tallystick.sdk.cli.shell import Json, example, fail, guarded, make_group, print_json

if TYPE_CHECKING:
    from tallystick.router.imports import ImportedGraph

app = make_group("Read graphs of payment networks, and tell what they are like.")

GraphFile = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="Output of `lncli describegraph` or `lightning-cli listchannels`, or a graph in CSV; .gz is fine.",
    ),
]


@app.callback()
def graph() -> None:
    """Read graphs of payment networks, and tell what they are like."""


@app.command("import", epilog=example("graph import describegraph.json network.csv.gz"))
def import_graph(
    file: GraphFile,
    output: Annotated[Path, typer.Argument(metavar="CSV", help="Where to write it; compressed if it ends in .gz.")],
    as_json: Json = False,
) -> None:
    """Write a graph as the CSV that experiments take, without names and keys. Refuses to overwrite."""
    from tallystick.router.imports import to_csv

    found = _read(file)
    data = to_csv(found.edges).encode()
    try:
        with output.open("xb") as target:
            target.write(gzip.compress(data, mtime=0) if output.suffix == ".gz" else data)
    except FileExistsError:
        fail(f"{output} exists already; give another name, or delete it first")
    except OSError as error:
        fail(f"{output} cannot be written: {error.strerror}")
    if as_json:
        print_json({"source": found.source, "directions": len(found.edges), "skipped": found.skipped})
    else:
        typer.echo(f"{len(found.edges)} directions from {found.source}, {found.skipped} skipped")


@app.command(epilog=example("graph stats network.csv.gz --json"))
def stats(file: GraphFile, as_json: Json = False) -> None:
    """Tell how many nodes and channels a graph has, and how capacities, degrees and fees are spread."""
    from tallystick.router.imports import graph_statistics
    from tallystick.sdk.cli.tables import show_graph

    found = _read(file)
    figures = graph_statistics(found.edges)
    if as_json:
        print_json(figures)
    else:
        show_graph(figures)


def _read(file: Path) -> ImportedGraph:
    from tallystick.router.imports import read_graph

    try:
        data = file.read_bytes()
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}")
    return guarded(lambda: read_graph(data))
