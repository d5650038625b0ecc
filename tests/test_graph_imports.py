"""Graphs of others: read right from three formats, refused with a reason when they are none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tallystick.channels.errors import InvalidInput
from tallystick.router.objects import ForwardingPolicy
from tallystick.router.pathfinding.imports import COLUMNS, Spread, graph_statistics, read_graph, spread, to_csv
from tallystick.sdk.cli.app import app

REAL = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "lightning-2026-02-03.csv.gz"
ANN, BEA = "02" + "aa" * 32, "03" + "bb" * 32
LND: dict[str, Any] = {
    "nodes": [
        {"last_update": 1, "pub_key": ANN, "alias": "Ann", "addresses": [], "color": "#3399ff", "features": {}},
        {"last_update": 1, "pub_key": BEA, "alias": "", "addresses": []},
    ],
    "edges": [
        {
            "channel_id": "745413463154458625",
            "chan_point": "aa:1",
            "node1_pub": ANN,
            "node2_pub": BEA,
            "capacity": "250000",
            "node1_policy": {
                "time_lock_delta": 40,
                "min_htlc": "1000",
                "fee_base_msat": "1000",
                "fee_rate_milli_msat": "5",
                "disabled": False,
                "max_htlc_msat": "247500000",
                "last_update": 1710000000,
            },
            "node2_policy": {
                "time_lock_delta": 144,
                "min_htlc": "1",
                "fee_base_msat": "0",
                "fee_rate_milli_msat": "900",
                "disabled": True,
                "max_htlc_msat": "0",
            },
        },
        {
            "channel_id": "745413463154458626",
            "node1_pub": ANN,
            "node2_pub": BEA,
            "capacity": "7",
            "node1_policy": None,
            "node2_policy": {"fee_base_msat": "3", "fee_rate_milli_msat": "4", "min_htlc": "1"},
        },
    ],
}
CLN: dict[str, Any] = {
    "channels": [
        {
            "source": ANN,
            "destination": BEA,
            "short_channel_id": "103x1x0",
            "direction": 0,
            "public": True,
            "amount_msat": 1_000_000_000,
            "active": True,
            "base_fee_millisatoshi": 1,
            "fee_per_millionth": 10,
            "delay": 6,
            "htlc_minimum_msat": 0,
            "htlc_maximum_msat": 990_000_000,
            "features": "",
        },
        {
            "source": BEA,
            "destination": ANN,
            "short_channel_id": "103x1x0",
            "satoshis": 1_000_000,
            "amount_msat": "1000000000msat",
            "active": False,
            "base_fee_millisatoshi": 2,
            "fee_per_millionth": 20,
            "htlc_minimum_msat": "5msat",
        },
    ]
}
CSV = ",".join(COLUMNS) + "\n0,5,6,100,1,2,40,3,4000,1\n0,6,5,100,0,7,40,0,0,0\n"


def as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def test_lnd() -> None:
    graph = read_graph(as_json(LND))
    assert (graph.source, graph.skipped, dict(graph.aliases)) == ("lnd", 1, {bytes.fromhex(ANN): "Ann"})
    first, second, third = graph.edges
    assert (first.source.hex(), first.target.hex(), first.capacity) == (ANN, BEA, 250_000_000)
    assert first.policy == ForwardingPolicy(base_fee=1_000, fee_ppm=5, minimum=1_000, maximum=247_500_000)
    assert second.policy == ForwardingPolicy(fee_ppm=900, enabled=False)
    assert (second.channel, second.source.hex()) == (first.channel, BEA)
    assert (third.source.hex(), third.capacity, third.policy.fee_ppm) == (BEA, 7_000, 4)
    assert third.channel != first.channel


def test_cln_with_amounts_of_either_kind() -> None:
    graph = read_graph(as_json(CLN))
    first, second = graph.edges
    assert (graph.source, first.channel, first.capacity) == ("cln", second.channel, second.capacity)
    assert first.capacity == 1_000_000_000
    assert first.policy == ForwardingPolicy(base_fee=1, fee_ppm=10, minimum=0, maximum=990_000_000)
    assert second.policy == ForwardingPolicy(base_fee=2, fee_ppm=20, minimum=5, enabled=False)


def test_what_else_a_file_holds_is_not_looked_at() -> None:
    """As in CLN's channels and nodes in one file, whose nodes are not like LND's."""
    graph = read_graph(as_json(CLN | {"nodes": [{"nodeid": ANN, "alias": "Ann"}]}))
    assert (graph.source, len(graph.edges), dict(graph.aliases)) == ("cln", 2, {})
    graph = read_graph(as_json(LND | {"channels": 7}))
    assert (graph.source, graph.skipped, dict(graph.aliases)) == ("lnd", 1, {bytes.fromhex(ANN): "Ann"})


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_csv(pack: Any) -> None:
    graph = read_graph(pack(CSV.encode()))
    first, second = graph.edges
    assert (graph.source, first.channel, first.capacity) == ("csv", second.channel, 100_000)
    assert (first.source, first.target) == (second.target, second.source)
    assert first.policy == ForwardingPolicy(base_fee=1, fee_ppm=2, minimum=3, maximum=4_000)
    assert second.policy == ForwardingPolicy(fee_ppm=7, minimum=0, enabled=False)


def test_every_format_survives_our_csv() -> None:
    for data in (as_json(LND), as_json(CLN), CSV.encode()):
        edges = read_graph(data).edges
        again = read_graph(to_csv(edges).encode()).edges
        assert [(edge.capacity, edge.policy) for edge in again] == [(edge.capacity, edge.policy) for edge in edges]
        assert graph_statistics(again) == graph_statistics(edges)


def spoiled(name: str, value: Any) -> bytes:
    return as_json({"channels": [{**CLN["channels"][0], name: value}]})


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "begins with the line"),
        (b"\x00\xff", "neither JSON nor CSV"),
        (b"a,b\n1,2\n", "begins with the line"),
        (CSV.encode() + b"1,2,3\n", "line 4"),
        (CSV.encode() + b"1,2,3,4,5,6,7,8,9,2\n", "line 4"),
        (CSV.encode() + b"1,2,3,-4,5,6,7,8,9,1\n", "line 4"),
        (gzip.compress(CSV.encode())[:-9], "damaged"),
        (b"{", "no graph"),
        (b"{}", "neither the output"),
        (b'{"edges": 5}', "no graph"),
        (b'{"channels": [{"source": "x"}]}', "no graph"),
        (as_json({"edges": [{**LND["edges"][0], "node1_pub": "zz"}]}), "public key"),
        (as_json({"edges": [{**LND["edges"][0], "capacity": "-5"}]}), "capacity"),
        (as_json({"edges": [{**LND["edges"][0], "capacity": "many"}]}), "capacity"),
        (spoiled("source", "05" + "aa" * 32), "public key"),
        (spoiled("amount_msat", None), "neither amount_msat"),
        (spoiled("amount_msat", 2**64), "below"),
        (spoiled("fee_per_millionth", "x"), "no graph"),
        (spoiled("fee_per_millionth", -1), "fee_per_millionth"),
        (spoiled("base_fee_millisatoshi", 2**64), "base_fee"),
        (as_json({"channels": [{**CLN["channels"][0], "amount_msat": None, "satoshis": -1}]}), "satoshis"),
        (as_json({"edges": [{**LND["edges"][0], "capacity": "9" * 5_000}]}), "capacity"),
        (CSV.encode() + b"1,2,%d,4,5,6,7,8,9,1\n" % 2**300, "line 4"),
        (b'{"edges":' + 100_000 * b"[", "no graph"),
        (b'{"edges":[{"channel_id":"\xff', "no graph"),
    ],
)
def test_what_is_no_graph_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        read_graph(data)


def test_spreads_are_those_of_the_sorted_values() -> None:
    assert spread(reversed(range(101))) == Spread(0, 25, 50, 75, 99, 100)
    assert spread([]) == Spread(0, 0, 0, 0, 0, 0)


@pytest.mark.skipif(not REAL.exists(), reason=f"{REAL} is not there")
def test_the_real_graph_has_the_figures_that_its_source_states() -> None:
    graph = read_graph(REAL.read_bytes())
    figures = graph_statistics(graph.edges)
    assert (figures.nodes, figures.channels, figures.directions, graph.skipped) == (17_324, 50_808, 101_616, 0)
    assert (figures.disabled, figures.degree.largest) == (35_807, 1_989)


def test_the_command_line_imports_and_describes(tmp_path: Path) -> None:
    runner, environment = CliRunner(), {"COLUMNS": "200", "TERM": "dumb"}
    source, target = tmp_path / "graph.json", tmp_path / "graph.csv.gz"
    source.write_bytes(as_json(LND))
    done = runner.invoke(app, ["graph", "import", str(source), str(target)], env=environment)
    assert (done.exit_code, done.output) == (0, "3 directions from lnd, 1 skipped\n")
    told = runner.invoke(app, ["graph", "stats", str(target), "--json"], env=environment)
    assert json.loads(told.output)["channels"] == 2
    shown = runner.invoke(app, ["graph", "stats", str(target)], env=environment)
    assert "capacity total  250007000" in shown.output
    again = runner.invoke(app, ["graph", "import", str(source), str(target)], env=environment)
    assert again.exit_code == 1 and "exists already" in again.output
    absent = runner.invoke(app, ["graph", "stats", str(tmp_path / "nothing")], env=environment)
    assert absent.exit_code == 1 and "cannot be read" in absent.output
    source.write_bytes(b"{}")
    wrong = runner.invoke(app, ["graph", "stats", str(source)], env=environment)
    assert wrong.exit_code == 1 and "listchannels" in wrong.output


def test_the_command_line_finds_routes_between_nodes_by_key_alias_or_number(tmp_path: Path) -> None:
    runner, environment = CliRunner(), {"COLUMNS": "200", "TERM": "dumb"}
    file = tmp_path / "line.csv"
    rows = ["0,1,2,1000,0,0,40,1,0,1", "1,2,3,1000,1000,10000,40,1,0,1", "2,2,3,1000,0,20000,40,1,0,1"]
    file.write_text("\n".join([",".join(COLUMNS), *rows]))
    key = "02" + 31 * "00" + "03"
    told = runner.invoke(app, ["graph", "route", str(file), "1", key, "100", "--json"], env=environment)
    assert told.exit_code == 0, told.output
    result = json.loads(told.output)
    assert [hop["amount_msat"] for hop in result["routes"][0]] == [102_000, 100_000] and result["fee_msat"] == 2_000
    shown = runner.invoke(app, ["graph", "route", str(file), "1", "3", "900", "--parts", "4"], env=environment)
    assert shown.exit_code == 0 and "delivers 900000 msat for a fee of" in shown.output
    dear = runner.invoke(app, ["graph", "route", str(file), "1", "3", "100", "--max-fee", "1"], env=environment)
    assert dear.exit_code == 1 and "more than the limit of 1000" in dear.output
    for name in ("9", "x02"):
        unknown = runner.invoke(app, ["graph", "route", str(file), "1", name, "100"], env=environment)
        assert unknown.exit_code == 1 and "nodes of this graph match" in unknown.output
