"""Reads graphs of others, for experiments: LND's `describegraph`, Core Lightning's `listchannels`, and a plain CSV.

    LND    {"nodes": [{"pub_key", "alias", …}], "edges": [{"channel_id", "node1_pub", "node2_pub", "capacity",
           "node1_policy": {"time_lock_delta", "min_htlc", "fee_base_msat", "fee_rate_milli_msat", "disabled",
           "max_htlc_msat", "inbound_fee_base_msat", "inbound_fee_rate_milli_msat"}, "node2_policy"}]}
    CLN    {"channels": [{"source", "destination", "short_channel_id", "amount_msat", "base_fee_millisatoshi",
           "fee_per_millionth", "delay", "htlc_minimum_msat", "htlc_maximum_msat", "active"}]}, one entry per direction
    CSV    channel, src, dst, capacity_sat, fee_base_msat, fee_ppm, cltv_delta, htlc_min_msat, htlc_max_msat, enabled,
           one line per direction; nodes and channels are numbers. Two more columns, inbound_base_msat and inbound_ppm,
           if there are inbound fees: what `dst` asks for what comes in over this direction

Any of them may be compressed by gzip. Amounts become millisatoshi. A direction without a policy is no edge; a disabled
one is an edge that carries nothing. Time locks in blocks have no meaning here, as all locks of a payment share one
expiry: margins are 0. A channel's id is the sha256 of its name in the file; nodes that the CSV only numbers get the
compressed key made of 0x02 and that number, which nobody can sign for.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import ChannelId
from tallystick.router.objects import Edge, ForwardingPolicy, NodeKey
from tallystick.router.pathfinding.graph import Direction
from tallystick.router.pathfinding.inbound import InboundFee

FILE_MAX = 1_000_000_000
"""Bytes of a file once it is uncompressed."""

DIGITS_MAX = 20
"""Digits of the largest whole number below 2**64."""

MSAT = 1_000
"""Millisatoshi in a satoshi."""

COLUMNS = (
    "channel", "src", "dst", "capacity_sat", "fee_base_msat", "fee_ppm", "cltv_delta", "htlc_min_msat", "htlc_max_msat",
    "enabled",
)  # fmt: skip
INBOUND_COLUMNS = ("inbound_base_msat", "inbound_ppm")
"""Of a graph with inbound fees, after the others."""


class ImportedGraph(msgspec.Struct, frozen=True):
    """What a file held."""

    source: str
    """`lnd`, `cln` or `csv`."""
    edges: list[Edge]
    aliases: Mapping[NodeKey, str]
    skipped: int
    """Directions without a policy, or between a node and itself."""
    inbound: Mapping[Direction, InboundFee] = {}
    """What a direction's target asks for what comes in over it, where that is something."""


# --- LND -------------------------------------------------------------------------------------------------------------

Amount = int | str
"""LND writes 64-bit numbers as text, CLN wrote amounts with a unit before version 23."""


class _LndPolicy(msgspec.Struct, gc=False):
    fee_base_msat: Amount = 0
    fee_rate_milli_msat: Amount = 0
    min_htlc: Amount = 0
    max_htlc_msat: Amount = 0
    disabled: bool = False
    inbound_fee_base_msat: Amount = 0
    inbound_fee_rate_milli_msat: Amount = 0


class _LndNode(msgspec.Struct, gc=False):
    pub_key: str
    alias: str = ""


class _LndEdge(msgspec.Struct, gc=False):
    channel_id: Amount
    node1_pub: str
    node2_pub: str
    capacity: Amount
    node1_policy: _LndPolicy | None = None
    node2_policy: _LndPolicy | None = None


class _LndGraph(msgspec.Struct):
    edges: list[_LndEdge]
    nodes: list[_LndNode] = []


# --- CLN -------------------------------------------------------------------------------------------------------------


class _ClnChannel(msgspec.Struct, gc=False):
    source: str
    destination: str
    short_channel_id: str
    base_fee_millisatoshi: int
    fee_per_millionth: int
    active: bool = True
    amount_msat: Amount | None = None
    satoshis: int | None = None
    htlc_minimum_msat: Amount = 0
    htlc_maximum_msat: Amount = 0


class _ClnGraph(msgspec.Struct):
    channels: list[_ClnChannel]


class _Shape(msgspec.Struct):
    """What tells the two JSON formats apart. What else there is may be of any shape: it is not looked at."""

    edges: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    channels: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def read_graph(data: bytes) -> ImportedGraph:
    """Return the graph in a file's bytes, whatever its format; raise InvalidInput, saying what is wrong with it."""
    data = _uncompressed(data)
    if data.lstrip()[:1] != b"{":
        return _gather("csv", _read_csv(data))
    try:
        shape = msgspec.json.decode(data, type=_Shape)
        if shape.edges is not msgspec.UNSET:
            lnd = msgspec.json.decode(data, type=_LndGraph)
            aliases = {_key(node.pub_key): node.alias for node in lnd.nodes if node.alias}
            return _gather("lnd", _read_lnd(lnd.edges), aliases)
        if shape.channels is not msgspec.UNSET:
            return _gather("cln", _read_cln(msgspec.json.decode(data, type=_ClnGraph).channels))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"this JSON is no graph of a Lightning node: {error}") from error
    raise InvalidInput(
        "this JSON is neither the output of `lncli describegraph` (it has no `edges`) nor that of `lightning-cli "
        "listchannels` (it has no `channels`)"
    )


def _uncompressed(data: bytes) -> bytes:
    if data[:2] == b"\x1f\x8b":
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                data = file.read(FILE_MAX + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise InvalidInput(f"the file begins as gzip does, but it is damaged: {error}") from error
    if len(data) > FILE_MAX:
        raise InvalidInput(f"a graph has at most {FILE_MAX:,} bytes")
    return data


def _key(text: str) -> NodeKey:
    try:
        key = bytes.fromhex(text)
    except ValueError as error:
        raise InvalidInput(f"a node is named by its public key in hex, not {text[:80]!r}") from error
    if len(key) != 33 or key[0] not in (2, 3):
        raise InvalidInput(f"a public key has 33 bytes and begins with 02 or 03, not {text[:80]!r}")
    return NodeKey(key)


def _number(value: Amount, name: str) -> int:
    if isinstance(value, str):
        text = value.removesuffix("msat")
        if not text.isascii() or not text.isdigit() or len(text) > DIGITS_MAX:
            raise InvalidInput(f"{name} must be a whole number, not {value[:80]!r}")
        value = int(text)
    if not 0 <= value < 2**64:
        raise InvalidInput(f"{name} must be a whole number below 2**64, not {value}")
    return value


def _signed(value: Amount, name: str) -> int:
    """Return a number that may be negative."""
    text = str(value)
    number = _number(text.removeprefix("-"), name) * (-1 if text.startswith("-") else 1)
    if not _fits(number):
        raise InvalidInput(f"{name} must be a whole number of 32 bits, not {value}")
    return number


def _fits(number: int) -> bool:
    """Whether a number is one of 32 bits, as inbound fees are."""
    return -(2**31) <= number < 2**31


def _channel(name: str) -> ChannelId:
    return ChannelId(hashlib.sha256(name.encode()).digest())


def _policy(fields: msgspec.Struct, names: str, enabled: bool) -> ForwardingPolicy:
    """Return the policy in these fields: base fee, rate, smallest and largest amount."""
    base, rate, low, high = (_number(getattr(fields, name), name) for name in names.split())
    return ForwardingPolicy(base_fee=base, fee_ppm=rate, minimum=low, maximum=high, enabled=enabled)


_Read = Iterator[tuple[Edge, InboundFee | None] | None]
"""Directions, and what their targets ask for what comes in; None for one that is skipped."""


def _gather(source: str, read: _Read, aliases: Mapping[NodeKey, str] = {}) -> ImportedGraph:
    edges: list[Edge] = []
    inbound: dict[Direction, InboundFee] = {}
    skipped = 0
    for found in read:
        if found is None:
            skipped += 1
            continue
        edge, fee = found
        edges.append(edge)
        if fee is not None and (fee.base or fee.ppm):
            inbound[edge.channel, edge.target] = fee
    return ImportedGraph(source, edges, aliases, skipped, inbound)


def _read_lnd(edges: list[_LndEdge]) -> _Read:
    key = cache(_key)
    for each in edges:
        one, other = key(each.node1_pub), key(each.node2_pub)
        channel, capacity = _channel(f"lnd {each.channel_id}"), _number(each.capacity, "capacity") * MSAT
        for source, target, policy, beyond in (
            (one, other, each.node1_policy, each.node2_policy),
            (other, one, each.node2_policy, each.node1_policy),
        ):
            if policy is None or source == target:
                yield None
                continue
            names = ("inbound_fee_base_msat", "inbound_fee_rate_milli_msat")
            fee = None if beyond is None else InboundFee(*(_signed(getattr(beyond, name), name) for name in names))
            names_out = "fee_base_msat fee_rate_milli_msat min_htlc max_htlc_msat"
            yield Edge(channel, source, target, capacity, _policy(policy, names_out, not policy.disabled)), fee


def _read_cln(channels: list[_ClnChannel]) -> _Read:
    for each in channels:
        source, target = _key(each.source), _key(each.destination)
        if each.amount_msat is not None:
            capacity = _number(each.amount_msat, "amount_msat")
        elif each.satoshis is not None:
            capacity = _number(each.satoshis, "satoshis") * MSAT
        else:
            raise InvalidInput(f"channel {each.short_channel_id} has neither amount_msat nor satoshis")
        if source == target:
            yield None
            continue
        names = "base_fee_millisatoshi fee_per_millionth htlc_minimum_msat htlc_maximum_msat"
        channel = _channel(f"cln {each.short_channel_id}")
        yield Edge(channel, source, target, capacity, _policy(each, names, each.active)), None


def _read_csv(data: bytes) -> _Read:
    try:
        lines = data.decode("ascii").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidInput("this file is neither JSON nor CSV") from error
    columns = tuple(lines[0].split(",")) if lines else ()
    if columns not in (COLUMNS, (*COLUMNS, *INBOUND_COLUMNS)):
        raise InvalidInput(f"a graph in CSV begins with the line {','.join(COLUMNS)}")
    key = cache(lambda number: NodeKey(b"\x02" + number.to_bytes(32, "big")))
    channel_of = cache(lambda number: _channel(f"csv {number}"))
    for line_number, line in enumerate(lines[1:], 2):
        try:
            channel, src, dst, capacity, base, ppm, _, low, high, enabled, *more = map(int, line.split(","))
            numbers = (channel, src, dst, capacity, base, ppm, low, high)
            if not all(0 <= number < 2**64 for number in numbers) or enabled not in (0, 1):
                raise ValueError
            if len(more) != len(columns) - len(COLUMNS) or not all(map(_fits, more)):
                raise ValueError
        except ValueError as error:
            raise InvalidInput(
                f"line {line_number} must have {len(columns)} whole numbers below 2**64, the last one 0 or 1: "
                f"{line[:200]!r}"
            ) from error
        if src == dst:
            yield None
            continue
        terms = ForwardingPolicy(base_fee=base, fee_ppm=ppm, minimum=low, maximum=high, enabled=bool(enabled))
        edge = Edge(channel_of(channel), key(src), key(dst), capacity * MSAT, terms)
        yield edge, InboundFee(*more) if more else None


# --- figures ---------------------------------------------------------------------------------------------------------


class Spread(msgspec.Struct, frozen=True):
    """How values are spread: the smallest, the quartiles, the 99th percentile, the largest."""

    smallest: int
    lower: int
    median: int
    upper: int
    p99: int
    largest: int


class GraphStatistics(msgspec.Struct, frozen=True):
    """Figures of a graph. Amounts in the graph's unit."""

    nodes: int
    channels: int
    directions: int
    disabled: int
    one_way: int
    """Channels of which only one direction has a policy."""
    capacity_total: int
    capacity: Spread
    """Of a channel."""
    degree: Spread
    """Channels of a node."""
    base_fee: Spread
    """Of enabled directions, as is what follows."""
    fee_ppm: Spread
    maximum: Spread


def spread(values: Iterable[int]) -> Spread:
    """Return how values are spread; all zeros if there are none."""
    ordered = sorted(values) or [0]
    last = len(ordered) - 1
    at = [ordered[round(last * share)] for share in (0, 0.25, 0.5, 0.75, 0.99, 1)]
    return Spread(*at)


def graph_statistics(edges: Iterable[Edge]) -> GraphStatistics:
    """Return the figures of a graph."""
    edges = list(edges)
    capacities = {edge.channel: edge.capacity for edge in edges}
    directions = Counter(edge.channel for edge in edges)
    ends = {(edge.channel, node) for edge in edges for node in (edge.source, edge.target)}
    degrees = Counter(node for _, node in ends)
    enabled = [edge.policy for edge in edges if edge.policy.enabled]
    return GraphStatistics(
        nodes=len(degrees),
        channels=len(capacities),
        directions=len(edges),
        disabled=len(edges) - len(enabled),
        one_way=sum(count == 1 for count in directions.values()),
        capacity_total=sum(capacities.values()),
        capacity=spread(capacities.values()),
        degree=spread(degrees.values()),
        base_fee=spread(policy.base_fee for policy in enabled),
        fee_ppm=spread(policy.fee_ppm for policy in enabled),
        maximum=spread(policy.maximum for policy in enabled),
    )


def to_csv(edges: Iterable[Edge], inbound: Mapping[Direction, InboundFee] | None = None) -> str:
    """Return a graph in our CSV, with nodes and channels numbered in order of appearance; capacities in whole sat."""
    priced = inbound or {}
    nodes: dict[NodeKey, int] = {}
    channels: dict[ChannelId, int] = {}
    lines = [",".join((*COLUMNS, *INBOUND_COLUMNS) if priced else COLUMNS)]
    for edge in edges:
        policy = edge.policy
        ends = nodes.setdefault(edge.source, len(nodes)), nodes.setdefault(edge.target, len(nodes))
        terms = policy.base_fee, policy.fee_ppm, 0, policy.minimum, policy.maximum, int(policy.enabled)
        row = [channels.setdefault(edge.channel, len(channels)), *ends, edge.capacity // MSAT, *terms]
        if priced:
            row += msgspec.structs.astuple(priced.get((edge.channel, edge.target), InboundFee(0, 0)))
        lines.append(",".join(map(str, row)))
    return "\n".join(lines) + "\n"
