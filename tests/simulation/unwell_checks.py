"""What must hold in an unwell world, asked of the chain's own node: nobody honest lost a unit, and nothing was in vain.

check_coins     everybody has what they should, but for fees; the contract keeps nothing back
check_fees      no obligation cost more than its budget; no call was mined twice, or in vain, beyond what is allowed
check_raises    of each nonce, what was sent later offers a tenth more at least, both in all and to the miner
check_alarms    what was told to be wrong was told to be well again
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec
import rlp

from simulation.unwell_story import CHEATED, LOCKED, Story
from simulation.unwell_world import HELD, TOWER, UnwellWorld
from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.channels.protocol.keys import keccak
from tallystick.sdk.testing.audit import Violation
from tallystick.settlement.sending.obligations import BUDGET_SHORT
from tallystick.settlement.sending.sender import Sender

HONEST = ("alice", "bob", TOWER)


class Mined(msgspec.Struct, frozen=True):
    """A transaction in a block."""

    hash: bytes
    block: int
    call: tuple[str, str, str]
    """To whom, with what, and which coins."""
    fee: int
    success: bool


def mined(unwell: UnwellWorld) -> dict[str, list[Mined]]:
    """Return what was mined of everybody, in order, as the chain's own node tells it."""
    names = {f"0x{unwell.key(name).address.hex()}": name for name in (*HONEST, "mallory")}
    found: dict[str, list[Mined]] = {name: [] for name in names.values()}
    for number in range(unwell.height + 1):
        for sent in unwell.block(hex(number), full=True)["transactions"]:
            name = names.get(sent["from"])
            if name is not None:
                receipt = unwell.anvil.ask("eth_getTransactionReceipt", sent["hash"])
                fee = int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
                call = (sent["to"], sent["input"], sent["value"])
                ok = int(receipt["status"], 16) == 1
                found[name].append(Mined(bytes.fromhex(sent["hash"][2:]), number, call, fee, ok))
    return found


def senders(unwell: UnwellWorld) -> Iterator[tuple[str, Sender]]:
    """Return who sends for whom is honest."""
    for name in ("alice", "bob"):
        yield name, unwell.world.node(name).onchain.sender
    assert unwell.tower is not None
    yield TOWER, unwell.tower.sender


def check_coins(story: Story) -> None:
    """Raise Violation unless everybody has what they should have."""
    unwell = story.unwell
    fees = {name: sum(one.fee for one in of) for name, of in mined(unwell).items()}
    more = {name: unwell.held(name) + fees[name] - HELD for name in fees}
    kept = int(unwell.anvil.ask("eth_getBalance", f"0x{unwell.evm.at.contract.hex()}", "latest"), 16)
    if kept or sum(more.values()):
        raise Violation(f"the contract keeps {kept}, and all together have {sum(more.values())} more than they had")
    bobs, alices = story.bobs, story.alices
    if not story.is_convicted and priced_out(unwell, TOWER):
        alices -= CHEATED  # no budget could follow
    if priced_out(unwell, "bob") and more["bob"] == bobs - LOCKED:
        bobs, alices = bobs - LOCKED, alices + LOCKED
    if more["bob"] != bobs:
        raise Violation(f"Bob should have {bobs} more, and has {more['bob']}")
    if more["alice"] < alices or more[TOWER] < 0:
        raise Violation(f"Alice should have {alices} more, and has {more['alice']}; the tower {more[TOWER]}")
    if story.is_convicted and not more["mallory"] < 0 < more[TOWER]:
        raise Violation(f"Mallory was convicted, and has {more['mallory']} more; the tower has {more[TOWER]}")


def priced_out(unwell: UnwellWorld, name: str) -> bool:
    """Whether somebody told that a budget is below the market's fees."""
    return any(BUDGET_SHORT in alarm.text for alarm in told(unwell, name))


def check_fees(unwell: UnwellWorld, *, vain: int = 0) -> None:
    """Raise Violation if something cost more than its budget, or if more than so many were mined in vain."""
    all_mined = mined(unwell)
    for name, sender in senders(unwell):
        fees = {one.hash: one.fee for one in all_mined[name]}
        for obligation in sender.obligations():
            hashes = {attempt.hash for attempt in obligation.attempts} | {past.hash for past in obligation.past}
            cost = sum(fees.get(hash, 0) for hash in hashes)
            if cost > obligation.budget:
                raise Violation(f"{name}'s {obligation.purpose} cost {cost}, its budget is {obligation.budget}")
        done = [one.call for one in all_mined[name] if one.success]
        lost = sum(not one.success for one in all_mined[name])
        lost += sum(count - 1 for count in Counter(done).values())
        if lost > vain:
            raise Violation(f"{name} sent {lost} in vain: {all_mined[name]}")


def check_raises(unwell: UnwellWorld) -> None:
    """Raise Violation if a node was offered a replacement that it must refuse."""
    for name, wires in unwell.wires.items():
        for wire in wires:
            offers: dict[int, tuple[bytes, int, int]] = {}
            for text in wire.sent:
                raw = bytes.fromhex(text[2:])
                fields = rlp.decode(raw[1:])
                nonce, tip, cap = (int.from_bytes(fields[at], "big") for at in (1, 2, 3))
                before = offers.get(nonce)
                if before is not None and (10 * tip < 11 * before[1] or 10 * cap < 11 * before[2]):
                    raise Violation(f"{name} offers {cap} and {tip} for nonce {nonce} after {before[1:]}")
                offers[nonce] = keccak(raw), tip, cap


_ENDS = {
    AlarmKind.CHAIN_UNREACHABLE: AlarmKind.CHAIN_BACK,
    AlarmKind.CHAIN_NONSENSE: AlarmKind.CHAIN_BACK,
    AlarmKind.CHAIN_STANDS_STILL: AlarmKind.CHAIN_BACK,
    AlarmKind.FEE_ACCOUNT: AlarmKind.FEE_ACCOUNT_FUNDED,
}
_NEVER = (
    *(AlarmKind.CHAIN_RESET, AlarmKind.TRANSACTION_GIVEN_UP, AlarmKind.NONCE_TAKEN, AlarmKind.LOCKS_UNKNOWN),
    *(AlarmKind.OTHER_TERMS, AlarmKind.OLD_DATA, AlarmKind.PROGRAM_FAULT, AlarmKind.PAYMENT_SET_ASIDE),
)


def told(unwell: UnwellWorld, name: str) -> list[Alarm]:
    """Return what somebody's node, or the tower, told of late."""
    return unwell.alarms if name == TOWER else list(unwell.world.seats[name].alarms)


def since_start(unwell: UnwellWorld, name: str) -> list[Alarm]:
    """Return what they told since they were started last: nobody tells the end of what was before a crash."""
    return unwell.alarms[unwell.alarms_before :] if name == TOWER else unwell.world.node(name).alarms


def check_alarms(unwell: UnwellWorld) -> None:
    """Raise Violation if something was told that cannot be, or that did not end."""
    for name in HONEST:
        for alarm in told(unwell, name):
            if alarm.kind in _NEVER:
                raise Violation(f"{name} tells {alarm.kind}: {alarm}")
        begun: dict[AlarmKind, Alarm] = {}
        for alarm in since_start(unwell, name):
            if alarm.kind in _ENDS:
                begun[_ENDS[alarm.kind]] = alarm
            begun.pop(alarm.kind, None)
        if begun:
            raise Violation(f"{name} has not told the end of {list(begun.values())}")


def counts(unwell: UnwellWorld) -> dict[str, Counter[str]]:
    """Return what was told, by whom and of which kind."""
    return {name: Counter(alarm.kind.value for alarm in told(unwell, name)) for name in HONEST}
