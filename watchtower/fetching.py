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
    found: list[Appointment | None] = []
    address = PublicKey(tower.key).address
    link = await network.dial(tower)
    try:
        for at in range(0, len(wanted), FETCHES_AT_ONCE):
            asked = wanted[at : at + FETCHES_AT_ONCE]
            locators = [locator_of(one.close_key, address, party) for one in asked]
            answers = await ask(link, [Fetch(VERSION, locator) for locator in locators], within)
            found += [
                _read(answer, one, locator, address, party)
                for answer, one, locator in zip(answers, asked, locators, strict=True)
            ]
    finally:
        await link.aclose()
    return found


def _read(answer: Message, wanted: Wanted, locator: bytes, tower: Address, party: Address) -> Appointment | None:
    match answer:
        case Held(held, _, blob) if held == locator:
            appointment = unseal(blob, wanted.close_key, tower, party)
            if appointment.terms != wanted.terms:
                raise MalformedMessage("the tower holds an appointment of another channel under this locator")
            return appointment
        case Refused(why=TowerRefusal.UNKNOWN):
            return None
        case _:
            raise MalformedMessage(f"the tower answered a fetch with {type(answer).__name__}")


def is_newer(appointment: Appointment, wanted: Wanted, party: Address, tower: Address) -> bool:
    """Whether an appointment proves that our data lacks something: what both signed, above what it knows."""
    try:
        proofs = check(appointment, wanted.terms, party, tower).proofs
    except InvalidInput:
        return False
    return any(
        signed is not None and signed.proof.seq > known for signed, known in zip(proofs, wanted.seqs, strict=True)
    )
