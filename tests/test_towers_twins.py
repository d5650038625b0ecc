"""The registry of towers on the ledger and the contract judge alike: each rule, each boundary of time, each liar."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from simulation.disputes import PERIOD, ChannelFixture
from simulation.evm_twins import STRANGER
from simulation.tower_twins import HONEST, SLEEPY, TowerTwins
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.chain import SettleCall
from tallystick.settlement.modules.covers import ACCUSE_TIME, BOND_MAX, VALIDITY_MAX, TowerCover
from tallystick.settlement.simulated.world import balance_key

BOND = 250


class Story:
    """A tower with a bond of 250, a channel, and a cover of 100 for side 0, whose peer is side 1."""

    def __init__(self) -> None:
        self.twins = TowerTwins()
        assert self.twins.do(HONEST.address, "bond", BOND, value=BOND) == ""
        self.channel = self.twins.channel_fixture()
        self.cover = self.twins.cover(self.channel)
        assert self.twins.reserve(self.channel, self.cover) == ""
        self.since = self.twins.time

    def send(self, call: Any, by: int = 1) -> None:
        """Make a call of the adjudicator."""
        assert self.twins.send(call, self.channel.address(by), self.channel.id) == ""

    def cheat(self, *, closer: int = 1, answered: bool = False) -> None:
        """Close with genesis; the window is over then."""
        self.send(self.channel.close(), closer)
        if answered:
            for side in (0, 1):
                self.send(self.channel.challenge(self.channel.proof(side, 7, seen=6)))
        self.twins.time += PERIOD + 1

    def accuse(self, cover: TowerCover | None = None, since: int | None = None, **more: Any) -> str:
        """Accuse the tower of 7 and 7."""
        at = self.since if since is None else since
        return self.twins.accuse(self.channel, cover or self.cover, at, 7, 7, **more)


def test_who_did_not_answer_pays_the_cover_to_the_client_once() -> None:
    story = Story()
    story.cheat()
    client = story.channel.address(0)
    before = story.twins.evm.balance(client)
    assert story.accuse() == ""
    assert story.twins.evm.balance(client) == before + 100
    assert story.twins.bond_of(HONEST) == (BOND - 100, 0)
    assert story.accuse() == "unknown-entry"
    assert story.twins.reserve(story.channel, story.cover) == "expired"
    assert story.twins.release(story.cover) == "unknown-entry"
    assert story.twins.held(story.cover)[::2] == (0, True)


def test_a_cover_is_reserved_once_though_its_offer_stands() -> None:
    story = Story()
    assert story.twins.reserve(story.channel, story.cover) == "already-registered"
    short = story.twins.cover(
        story.channel, offered=story.twins.time + 10 * PERIOD, until=story.twins.time + 10 * PERIOD
    )
    assert story.twins.reserve(story.channel, short) == ""
    story.cheat()
    assert story.accuse(short) == ""
    assert story.twins.reserve(story.channel, short) == "wrong-status", (
        "though the offer stands: one failure is paid once"
    )


@pytest.mark.parametrize("settled", [False, True])
def test_guilt_is_the_same_before_and_after_the_settlement_for_as_long_as_the_cover_lasts(settled: bool) -> None:
    story = Story()
    story.cheat()
    if settled:
        story.send(SettleCall(story.channel.id))
    end = story.cover.until + PERIOD + ACCUSE_TIME
    assert story.twins.held(story.cover) == (100, end, False)
    story.twins.time = end
    assert story.twins.release(story.cover) == "window-open"
    assert story.twins.do(HONEST.address, "withdraw", BOND) == "insufficient-balance"
    assert story.accuse() == ""


def test_an_answer_acquits_for_ever() -> None:
    story = Story()
    story.cheat(answered=True)
    assert story.accuse() == "not-newer"
    story.send(SettleCall(story.channel.id))
    assert story.accuse() == "not-newer"


@pytest.mark.parametrize("side", [0, 1])
def test_one_number_that_is_too_low_is_enough(side: int) -> None:
    story = Story()
    story.send(story.channel.close())
    story.send(story.channel.challenge(story.channel.proof(side, 7, seen=6)))
    story.twins.time += PERIOD + 1
    assert story.accuse() == ""


def test_nobody_is_accused_before_the_window_is_over_or_without_one() -> None:
    story = Story()
    assert story.accuse() == "wrong-status"
    story.send(story.channel.close())
    story.twins.time += PERIOD
    assert story.accuse() == "window-open"
    story.twins.time += 1
    assert story.accuse() == ""


def test_what_both_agreed_on_accuses_nobody() -> None:
    story = Story()
    story.send(story.channel.cooperative_close(600, 400, story.twins.time + 5))
    story.twins.time += 10 * PERIOD
    assert story.accuse() == "wrong-status"


def test_who_closes_by_itself_has_nobody_to_accuse() -> None:
    story = Story()
    story.cheat(closer=0)
    assert story.accuse() == "not-allowed"


def test_a_promise_counts_from_its_first_second_on() -> None:
    story = Story()
    story.twins.time += 10
    closed = story.twins.time
    story.cheat()
    assert story.accuse(since=closed + 1) == "expired"
    assert story.accuse(since=closed) == ""


def test_a_close_after_the_covers_time_is_not_answered_for() -> None:
    story = Story()
    story.twins.time = story.cover.until
    again = story.twins.cover(story.channel, until=story.twins.time, offered=story.twins.time)
    assert story.twins.reserve(story.channel, again) == ""
    story.twins.time += 1
    story.cheat()
    assert story.accuse() == "expired" == story.accuse(again)


def test_a_close_in_the_covers_last_second_is() -> None:
    story = Story()
    story.twins.time = story.cover.until
    story.cheat()
    assert story.accuse() == ""


def test_what_the_tower_has_not_signed_just_so_counts_for_nothing() -> None:
    story = Story()
    other = story.twins.channel_fixture()
    elsewhere = story.twins.cover(other)
    assert story.twins.reserve(other, elsewhere) == ""
    story.cheat()
    signed = (story.cover, story.since, 7, 7)
    for numbers in ((story.since - 1, 7, 7), (story.since, 8, 7), (story.since, 7, 8)):
        assert story.twins.accuse(story.channel, story.cover, *numbers, signed=signed) == "bad-signature"
    assert story.accuse(key=SLEEPY) == "bad-signature"
    assert story.twins.accuse(story.channel, story.cover, story.since, 7, 7, signed=(elsewhere, story.since, 7, 7)) == (
        "bad-signature"
    )
    for changes in ({"amount": 101}, {"client": other.address(1)}, {"until": story.cover.until + 1}, {"response": 0}):
        assert story.accuse(msgspec.structs.replace(story.cover, **changes)) == "unknown-entry"
    assert story.accuse() == ""


def test_terms_that_are_not_the_channels_find_nothing_in_the_contract() -> None:
    story = Story()
    story.cheat()
    wrong = ChannelFixture(contract=story.twins.at)
    wrong.terms = msgspec.structs.replace(story.channel.terms, challenge_period=1)
    wrong.id = story.channel.id  # which says nothing of the period
    try:
        story.twins.accuse(wrong, story.cover, story.since, 7, 7)
    except AssertionError as error:  # the ledger has no terms to be wrong about, so it convicts: they differ
        assert "simulated \n  contract  unknown-channel" in str(error)
    else:
        raise AssertionError("the contract took wrong terms")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"offered": -1}, "expired"),
        ({"amount": 0}, "bad-amount"),
        ({"amount": BOND_MAX + 1}, "bad-amount"),
        ({"amount": 151}, "insufficient-balance"),
        ({"until": 59}, "bad-terms"),
        ({"until": VALIDITY_MAX + 1}, "bad-terms"),
        ({"response": PERIOD + 1}, "bad-terms"),
        ({"client": STRANGER}, "not-a-participant"),
        ({"price": BOND_MAX}, "bad-amount"),
        ({"amount": 150, "until": VALIDITY_MAX}, ""),
        ({"amount": 150, "until": 60, "price": 11}, ""),
        ({"offered": 0}, ""),
    ],
)
def test_each_rule_of_a_reservation(changes: dict[str, Any], said: str) -> None:
    story = Story()
    now = story.twins.time
    moved = {name: value + now if name in ("offered", "until") else value for name, value in changes.items()}
    cover = story.twins.cover(story.channel, **moved)
    if cover.price > 2**100:
        story.twins.evm.fund(STRANGER, 2**125)
        story.twins.state.changes[_purse(STRANGER)] = 2**125
        story.twins.accounts = tuple(each for each in story.twins.accounts if each != STRANGER)
    assert story.twins.reserve(story.channel, cover) == said
    bond = BOND + (cover.price if not said else 0)
    assert story.twins.bond_of(HONEST) == (bond, 100 + (0 if said else cover.amount))


def _purse(account: Address) -> bytes:
    return balance_key(NATIVE, account)


def test_a_reservation_is_of_an_open_channel_and_what_the_tower_signed() -> None:
    story = Story()
    cover = story.twins.cover(story.channel, amount=50)
    assert story.twins.reserve(story.channel, cover, key=SLEEPY) == "bad-signature"
    assert story.twins.reserve(story.channel, cover, high=True) == "bad-signature"
    assert story.twins.reserve(story.channel, msgspec.structs.replace(cover, price=5), value=4) == "bad-amount"
    unknown = ChannelFixture(contract=story.twins.at)
    unknown.terms = msgspec.structs.replace(unknown.terms, number=9)
    lost = msgspec.structs.replace(cover, channel=keccak(b"no channel"))
    assert story.twins.reserve(unknown, lost) == "unknown-channel"
    story.send(story.channel.close())
    assert story.twins.reserve(story.channel, cover) == "wrong-status"


def test_a_bond_leaves_but_for_what_is_set_apart_and_that_after_its_end() -> None:
    story = Story()
    twins, office = story.twins, HONEST.address
    assert twins.do(office, "bond", 0) == "bad-amount"
    assert twins.do(office, "bond", 5, value=4) == "bad-amount"
    assert twins.do(office, "withdraw", 0) == "bad-amount"
    assert twins.do(office, "withdraw", 151) == "insufficient-balance"
    assert twins.do(STRANGER, "withdraw", 1) == "insufficient-balance"
    assert twins.do(office, "withdraw", 150) == ""
    twins.time = story.cover.until + PERIOD + ACCUSE_TIME + 1
    assert twins.do(office, "withdraw", 100) == "insufficient-balance", "somebody must release it"
    assert twins.release(story.cover) == ""
    assert twins.release(story.cover) == "unknown-entry" == story.accuse()
    assert twins.do(office, "withdraw", 100) == "" and twins.vault() == 0


def test_terms_are_told_and_bind_nobody() -> None:
    story = Story()
    assert story.twins.do(HONEST.address, "announce", 600, 86_400, 172_800, 2**128 - 1) == ""
    assert story.twins.do(HONEST.address, "announce", 2**32, 1, 1, 1) == "bad-terms"
    assert story.twins._asked("tower", "address", HONEST.address, HONEST.address) == (
        BOND, 100, 600, 86_400, 172_800, 2**128 - 1,
    )  # fmt: skip


def test_a_bond_has_a_largest_amount() -> None:
    twins = TowerTwins()
    office: PrivateKey = HONEST
    twins.evm.fund(office.address, 2**121)
    twins.state.changes[_purse(office.address)] = 2**121
    assert twins.do(office.address, "bond", BOND_MAX, value=BOND_MAX) == ""
    assert twins.do(office.address, "bond", 1, value=1) == "bad-amount"
