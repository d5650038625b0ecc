"""Asks a tower for what it holds of a node's channels, and says which of them are older on our disk than there.

A node asks before it speaks to any peer, and before it acts on chain: what comes of an old copy of its data is money
lost (PROTOCOL section 5). A tower cannot make this up: what it shows has our own signature on it, under a number that
our data does not know. A tower that does not answer holds up nothing for longer than it is given.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import trio

from tallystick.channels.errors import InvalidInput, LinkClosed, MalformedMessage
from tallystick.channels.ports import Link, Network, PeerAddress
from tallystick.channels.protocol.keys import PublicKey
from tallystick.channels.protocol.objects import Address, Terms
from tallystick.channels.values.discretion import Discreet
from tallystick.watchtower.disputes import check
from tallystick.watchtower.errors import TowerRefusal
from tallystick.watchtower.messages import VERSION, Fetch, Held, Message, Refused, decode, encode
from tallystick.watchtower.sealing import Appointment, locator_of, unseal

FETCHES_AT_ONCE = 64
"""Fetches that are sent before their answers are waited for."""


class Wanted(Discreet, msgspec.Struct, frozen=True):
    """A channel whose appointment is asked for, and up to where our own data knows it."""

    terms: Terms
    close_key: bytes
    seqs: tuple[int, int] = (0, 0)
    """The highest number of each side's statements that our data has."""


async def ask(link: Link, messages: Sequence[Message], within: float) -> list[Message]:
    """Send messages and return as many answers, in order; raise LinkClosed if they do not come within so long."""
    if not messages:
        return []
    answers: list[Message] = []
    with trio.move_on_after(within):
        await link.send([encode(message) for message in messages])
        while len(answers) < len(messages):
            answers += [decode(data) for data in await link.receive()]
    if len(answers) != len(messages):
        raise LinkClosed(f"the tower gave {len(answers)} answers to {len(messages)} messages; connecting afresh")
    return answers


async def fetch(
    network: Network, tower: PeerAddress, party: Address, wanted: Sequence[Wanted], within: float
) -> list[Appointment | None]:
    """Return the newest appointment that a tower holds for each channel, None where it has none.

    Opens a connection of its own. Raise LinkClosed or PeerError if the tower cannot be reached or answers wrongly.
    """
    address = PublicKey(tower.key).address
    locators = [locator_of(one.close_key, address, party) for one in wanted]
    link = await network.dial(tower)
    try:
        answers = await fetch_held(link, locators, within)
    finally:
        await link.aclose()
    return [
        None if held is None else _read(held, one, address, party) for held, one in zip(answers, wanted, strict=True)
    ]


async def fetch_held(link: Link, locators: Sequence[bytes], within: float) -> list[Held | None]:
    """Return what the tower at the other end holds under each locator, None where that is nothing.

    Raise LinkClosed or PeerError. `within`: seconds that it has for FETCHES_AT_ONCE of them.
    """
    found: list[Held | None] = []
    for at in range(0, len(locators), FETCHES_AT_ONCE):
        asked = locators[at : at + FETCHES_AT_ONCE]
        for answer, locator in zip(
            await ask(link, [Fetch(VERSION, locator) for locator in asked], within), asked, strict=True
        ):
            match answer:
                case Held() if answer.locator == locator:
                    found.append(answer)
                case Refused(why=TowerRefusal.UNKNOWN):
                    found.append(None)
                case _:
                    raise MalformedMessage(f"the tower answered a fetch with {type(answer).__name__}")
    return found


def _read(held: Held, wanted: Wanted, tower: Address, party: Address) -> Appointment:
    appointment = unseal(held.blob, wanted.close_key, tower, party)
    if appointment.terms != wanted.terms:
        raise MalformedMessage("the tower holds an appointment of another channel under this locator")
    return appointment


def is_newer(appointment: Appointment, wanted: Wanted, party: Address, tower: Address) -> bool:
    """Whether an appointment proves that our data lacks something: what both signed, above what it knows."""
    try:
        proofs = check(appointment, wanted.terms, party, tower).proofs
    except InvalidInput:
        return False
    return any(
        signed is not None and signed.proof.seq > known for signed, known in zip(proofs, wanted.seqs, strict=True)
    )
