"""Treasuries that pay what their members vote for, once.

A vote is a unit of an asset that is locked in the treasury. Who has locked some may propose a payout; whoever had
locked before it was proposed may vote on it, with all of it, and cannot unlock before the vote has ended: no unit votes
twice, and none that was borrowed for a moment votes at all. A payout is made if more voted for it than against, and the
votes are a quorum of all that was locked when it was proposed.
"""

from __future__ import annotations

from typing import NamedTuple

from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.errors import Revert
from tallystick.settlement.modules.curves import MILLION
from tallystick.settlement.modules.interface import Module, ModuleState, get_address, put_address, refuse

GRACE = 30 * 86_400
"""Seconds after a vote's end in which its payout can be made."""

SECONDS_MAX = 365 * 86_400
"""Of a vote, at most."""

TREASURY = Module("treasury", "Keep funds together, and pay out what is voted for.")

CREATED = TREASURY.event("TreasuryCreated(address votes, uint64 treasury, uint64 quorum, uint64 seconds)")
LOCKED = TREASURY.event("VotesLocked(address account, uint64 treasury, uint128 amount)")
UNLOCKED = TREASURY.event("VotesUnlocked(address account, uint64 treasury, uint128 amount)")
FUNDED = TREASURY.event("TreasuryFunded(address account, uint64 treasury, address asset, uint128 amount)")
PROPOSED = TREASURY.event(
    "PayoutProposed(address account, uint64 treasury, uint64 proposal, address asset, uint128 amount, address to, "
    "bytes32 about, uint64 end)"
)
VOTED = TREASURY.event("Voted(address account, uint64 treasury, uint64 proposal, bool approves, uint128 votes)")
PAID = TREASURY.event("PaidOut(address to, uint64 treasury, uint64 proposal, address asset, uint128 amount)")


class TreasuryPlace(NamedTuple):
    """Where a treasury's words and coins are."""

    row: bytes

    def key(self, letter: bytes, more: bytes = b"") -> bytes:
        return letter + self.row + more

    @property
    def votes(self) -> Address:
        """The account that holds what is locked."""
        return TREASURY.account_of(b"votes" + self.row)

    @property
    def funds(self) -> Address:
        """The account that holds what can be paid out."""
        return TREASURY.account_of(b"funds" + self.row)


def _treasury(state: ModuleState, number: int) -> TreasuryPlace:
    refuse(number >= state.get(b"N"), Revert.UNKNOWN_ENTRY, f"there is no treasury {number}")
    return TreasuryPlace(number.to_bytes(8, "big"))


class ProposalPlace(NamedTuple):
    """Where a proposal's words are, and its times."""

    row: bytes
    created: int
    end: int

    def key(self, letter: bytes, account: bytes = b"") -> bytes:
        return letter + self.row + account


def _proposal(state: ModuleState, treasury: TreasuryPlace, number: int) -> ProposalPlace:
    known = state.get(treasury.key(b"n"))
    refuse(number >= known, Revert.UNKNOWN_ENTRY, f"this treasury has no proposal {number}")
    row = treasury.row + number.to_bytes(8, "big")
    return ProposalPlace(row, state.get(b"pc" + row), state.get(b"pe" + row))


@TREASURY.function("createTreasury(address votes, uint64 quorum, uint64 seconds)", "uint64 treasury", gas=120_000)
def create_treasury(state: ModuleState, votes: Address, quorum: int, seconds: int) -> tuple[int]:
    """Make a treasury: whose units vote, how many of a million locked ones must, and how long a vote lasts."""
    refuse(not 0 < quorum <= MILLION, Revert.BAD_TERMS, f"a quorum is from 1 to {MILLION} of a million votes")
    refuse(not 0 < seconds <= SECONDS_MAX, Revert.BAD_TERMS, f"a vote lasts from 1 to {SECONDS_MAX} seconds")
    number = state.get(b"N")
    state.put(b"N", number + 1)
    made = TreasuryPlace(number.to_bytes(8, "big"))
    put_address(state, made.key(b"A"), votes)
    state.put(made.key(b"q"), quorum)
    state.put(made.key(b"d"), seconds)
    state.emit(CREATED, votes, number, quorum, seconds)
    return (number,)


@TREASURY.function("fund(uint64 treasury, address asset, uint128 amount)", gas=80_000)
def fund(state: ModuleState, number: int, asset: Address, amount: int) -> tuple[()]:
    """Give an amount of any asset to a treasury; anybody may, and has no more right to it."""
    treasury = _treasury(state, number)
    state.take(asset, amount, treasury.funds)
    held = treasury.key(b"f", asset)
    state.put(held, state.get(held) + amount)
    state.emit(FUNDED, state.caller, number, asset, amount)
    return ()


@TREASURY.function("lock(uint64 treasury, uint128 amount)", gas=90_000)
def lock(state: ModuleState, number: int, amount: int) -> tuple[()]:
    """Lock units that vote. Whoever locks more can vote only on what is proposed after that."""
    treasury = _treasury(state, number)
    refuse(not amount, Revert.BAD_AMOUNT, "nothing would be locked")
    state.take(get_address(state, treasury.key(b"A")), amount, treasury.votes)
    for key in (treasury.key(b"v", state.caller), treasury.key(b"T")):
        state.put(key, state.get(key) + amount)
    state.put(treasury.key(b"s", state.caller), state.time)
    state.emit(LOCKED, state.caller, number, amount)
    return ()


@TREASURY.function("unlock(uint64 treasury, uint128 amount)", gas=90_000)
def unlock(state: ModuleState, number: int, amount: int) -> tuple[()]:
    """Take locked units back, once all votes in which they were cast have ended."""
    treasury = _treasury(state, number)
    held, until = state.get(treasury.key(b"v", state.caller)), state.get(treasury.key(b"u", state.caller))
    refuse(not 0 < amount <= held, Revert.BAD_AMOUNT, f"the caller has locked {held} here")
    refuse(state.time <= until, Revert.NOT_ALLOWED, f"the caller's votes are cast until {until}")
    state.put(treasury.key(b"v", state.caller), held - amount)
    state.put(treasury.key(b"T"), state.get(treasury.key(b"T")) - amount)
    state.give(get_address(state, treasury.key(b"A")), amount, treasury.votes, state.caller)
    state.emit(UNLOCKED, state.caller, number, amount)
    return ()


def _votes(state: ModuleState, treasury: TreasuryPlace, before: int) -> int:
    """Return what the caller had locked before a time, and has not added to since."""
    held = state.get(treasury.key(b"v", state.caller))
    refuse(not held, Revert.NOT_ALLOWED, "the caller has no votes in this treasury")
    since = state.get(treasury.key(b"s", state.caller))
    refuse(since >= before, Revert.NOT_ALLOWED, f"the caller locked votes at {since}, and not before {before}")
    return held


@TREASURY.function(
    "propose(uint64 treasury, address asset, uint128 amount, address to, bytes32 about)",
    "uint64 proposal",
    gas=150_000,
)
def propose(state: ModuleState, number: int, asset: Address, amount: int, to: Address, about: bytes) -> tuple[int]:
    """Propose a payout, and open the vote on it. `about` is for people: the hash of a text, or the text."""
    treasury = _treasury(state, number)
    refuse(not amount or to == NATIVE, Revert.BAD_TERMS, "a payout is of an amount, to an account")
    _votes(state, treasury, state.time)
    proposal = state.get(treasury.key(b"n"))
    state.put(treasury.key(b"n"), proposal + 1)
    row = treasury.row + proposal.to_bytes(8, "big")
    end = state.time + state.get(treasury.key(b"d"))
    put_address(state, b"pa" + row, asset)
    put_address(state, b"pt" + row, to)
    for letter, word in ((b"pm", amount), (b"pc", state.time), (b"pe", end), (b"pT", state.get(treasury.key(b"T")))):
        state.put(letter + row, word)
    state.emit(PROPOSED, state.caller, number, proposal, asset, amount, to, about, end)
    return (proposal,)


@TREASURY.function("vote(uint64 treasury, uint64 proposal, bool approves)", "uint128 votes", gas=90_000)
def vote(state: ModuleState, number: int, proposal: int, approves: bool) -> tuple[int]:
    """Vote for a payout or against it, once, with all that the caller had locked before it was proposed."""
    treasury = _treasury(state, number)
    found = _proposal(state, treasury, proposal)
    refuse(state.time > found.end, Revert.EXPIRED, f"the vote ended at {found.end}")
    refuse(bool(state.get(found.key(b"pv", state.caller))), Revert.NOT_ALLOWED, "the caller has voted on this")
    votes = _votes(state, treasury, found.created)
    _count(state, treasury, found)
    state.put(found.key(b"pv", state.caller), 1)
    until = treasury.key(b"u", state.caller)
    state.put(until, max(state.get(until), found.end))
    tally = found.key(b"py" if approves else b"pn")
    state.put(tally, state.get(tally) + votes)
    state.emit(VOTED, state.caller, number, proposal, approves, votes)
    return (votes,)


@TREASURY.function("recount(uint64 treasury, uint64 proposal)", "uint128 allVotes", gas=60_000)
def recount(state: ModuleState, number: int, proposal: int) -> tuple[int]:
    """Count again what is locked while a vote runs: if it is less by now, less is a quorum; anybody may."""
    treasury = _treasury(state, number)
    found = _proposal(state, treasury, proposal)
    refuse(state.time > found.end, Revert.EXPIRED, f"the vote ended at {found.end}")
    return (_count(state, treasury, found),)


def _count(state: ModuleState, treasury: TreasuryPlace, found: ProposalPlace) -> int:
    """Note and return the least that was locked, of what was counted since a proposal. Its vote has not ended."""
    least = min(state.get(found.key(b"pT")), state.get(treasury.key(b"T")))
    state.put(found.key(b"pT"), least)
    return least


@TREASURY.function("execute(uint64 treasury, uint64 proposal)", gas=110_000)
def execute(state: ModuleState, number: int, proposal: int) -> tuple[()]:
    """Make a payout that was voted for, once, after the vote has ended; anybody may."""
    treasury = _treasury(state, number)
    found = _proposal(state, treasury, proposal)
    refuse(state.time <= found.end, Revert.WINDOW_OPEN, f"the vote runs until {found.end}")
    refuse(state.time > found.end + GRACE, Revert.EXPIRED, f"this could be paid until {found.end + GRACE}")
    refuse(bool(state.get(found.key(b"pp"))), Revert.NOTHING_OWED, "this was paid")
    approving, opposed = state.get(found.key(b"py")), state.get(found.key(b"pn"))
    needed, all_votes = state.get(treasury.key(b"q")), state.get(found.key(b"pT"))
    refuse(
        approving <= opposed or (approving + opposed) * MILLION < needed * all_votes,
        Revert.NOT_ALLOWED,
        f"{approving} voted for it and {opposed} against, of {all_votes}, of which {needed} millionths must",
    )
    asset, to, amount = (
        get_address(state, found.key(b"pa")),
        get_address(state, found.key(b"pt")),
        state.get(found.key(b"pm")),
    )
    held = state.get(treasury.key(b"f", asset))
    refuse(held < amount, Revert.INSUFFICIENT_BALANCE, f"the treasury has {held} of the {amount} to be paid")
    state.put(found.key(b"pp"), 1)
    state.put(treasury.key(b"f", asset), held - amount)
    state.give(asset, amount, treasury.funds, to)
    state.emit(PAID, to, number, proposal, asset, amount)
    return ()


# --- looking ----------------------------------------------------------------------------------------------------


@TREASURY.view("treasuries()", "uint64 total")
def treasuries(state: ModuleState) -> tuple[int]:
    """Say how many treasuries there are: they have the numbers from 0 on."""
    return (state.get(b"N"),)


@TREASURY.view(
    "treasury(uint64 treasury)",
    "address votes, uint64 quorum, uint64 seconds, uint128 locked, uint64 proposals",
)
def treasury(state: ModuleState, number: int) -> tuple[Address, int, int, int, int]:
    """Say whose units vote, how many of a million must, how long a vote lasts, and what is locked."""
    found = _treasury(state, number)
    words = (state.get(found.key(letter)) for letter in (b"q", b"d", b"T", b"n"))
    quorum, seconds, locked, proposals = words
    return get_address(state, found.key(b"A")), quorum, seconds, locked, proposals


@TREASURY.view("funds(uint64 treasury, address asset)", "uint128 amount")
def funds(state: ModuleState, number: int, asset: Address) -> tuple[int]:
    """Say what a treasury has of an asset, to be paid out."""
    return (state.get(_treasury(state, number).key(b"f", asset)),)


@TREASURY.view("lockedBy(uint64 treasury, address account)", "uint128 votes, uint64 castUntil")
def locked_by(state: ModuleState, number: int, account: Address) -> tuple[int, int]:
    """Say what an account has locked, and until when those votes are cast."""
    found = _treasury(state, number)
    return state.get(found.key(b"v", account)), state.get(found.key(b"u", account))


@TREASURY.view(
    "proposal(uint64 treasury, uint64 proposal)",
    "address asset, uint128 amount, address to, uint64 end, uint128 approving, uint128 opposed, uint128 allVotes, "
    "bool paid",
)
def proposal(state: ModuleState, number: int, which: int) -> tuple[Address, int, Address, int, int, int, int, bool]:
    """Say what is proposed, until when the vote runs, how it stands, and whether it was paid."""
    found = _proposal(state, _treasury(state, number), which)
    asset, to = get_address(state, found.key(b"pa")), get_address(state, found.key(b"pt"))
    amount, approving, opposed, all_votes = (state.get(found.key(letter)) for letter in (b"pm", b"py", b"pn", b"pT"))
    return asset, amount, to, found.end, approving, opposed, all_votes, bool(state.get(found.key(b"pp")))
