"""A slice of the campaign of `simulation.shards`: whatever happens, no coin is lost or made, and none is paid twice."""

from __future__ import annotations

from simulation.shards import ShardHistory, campaign


def test_no_history_loses_or_makes_a_coin() -> None:
    happened = campaign(11, 120)
    for what in ("crash", "reorganisation", "replay refused", "forgery refused", "already-known", "refunded", "paid"):
        assert happened[what] > 0, what


def test_a_history_is_the_same_whenever_it_is_played() -> None:
    first, second = ShardHistory(5), ShardHistory(5)
    first.play(60)
    second.play(60)
    assert first.happened == second.happened
    assert [chain.newest.header for chain in first.chains] == [chain.newest.header for chain in second.chains]
