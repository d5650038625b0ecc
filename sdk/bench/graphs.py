"""What benchmarks of the router take from a graph file: edges, and random pairs of payer and payee."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from tallystick.channels.errors import InvalidInput
from tallystick.router.objects import Edge, NodeKey
from tallystick.router.pathfinding.graph import Graph
from tallystick.router.pathfinding.imports import read_graph


def read_edges(path: Path) -> list[Edge]:
    """Return all directions of a graph file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    found = read_graph(data)
    if found.inbound:
        raise InvalidInput(f"{path} has inbound fees, which benchmarks do not count; `tally graph route` does")
    return found.edges


def connected_nodes(graph: Graph) -> list[NodeKey]:
    """Return the nodes with channels to and from two others at least, in a fixed order."""
    return sorted(
        node
        for node in graph.nodes
        if len({edge.target for edge in graph.leaving(node)}) >= 2
        and len({edge.source for edge in graph.reaching(node)}) >= 2
    )


def random_pairs(nodes: Sequence[NodeKey], count: int, rng: random.Random) -> list[tuple[NodeKey, NodeKey]]:
    """Return pairs of different nodes: payer and payee."""
    if len(nodes) < 2:
        raise InvalidInput("the graph needs two nodes at least that have channels to two others each")
    return [(one, other) for one, other in (rng.sample(nodes, 2) for _ in range(count))]


def percentile(ordered: Sequence[float], percent: int) -> float:
    """Return the smallest value that this share of the ordered values does not exceed."""
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]
