"""The registry of towers on a chain of blocks: reorganisations around the answer, the window's end, the accusation."""

from __future__ import annotations

from typing import Any

import msgspec

from simulation.disputes import PERIOD, ChannelFixture
from simulation.module_ledger import calldata, signature
from simulation.tower_twins import HONEST
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.chain import DepositCall, ModuleCall, OpenCall
from tallystick.settlement.modules.covers import TowerCover, TowerPromise, digest_cover, digest_promise
from tallystick.settlement.modules.towers import TOWERS
from tallystick.settlement.testing.local import LocalChain

STRANGER = PrivateKey(keccak(b"whoever accuses"))
BOND = 10**18


class Chain:
    """A chain with a bonded tower, a channel and a cover for side 0."""

    def __init__(self) -> None:
        self.channel = ChannelFixture()
        keys = (*self.channel.keys, HONEST, STRANGER)
        self.chain = LocalChain(funds={key.address: 10**20 for key in keys})

    async def prepare(self) -> None:
        """Open the channel, bond, and reserve the cover."""
        await self.sent(self.channel.keys[0], OpenCall(self.channel.terms, 600))
        await self.sent(self.channel.keys[1], DepositCall(self.channel.id, 1, 400))
        await self.called(HONEST, "bond", BOND, value=BOND)
        now = (await self.chain.head()).time
        client = self.channel.address(0)
        self.cover = TowerCover(self.channel.id, HONEST.address, client, 1_000, now + 10_000, PERIOD, 0, now + 100)
        self.name = digest_cover(1337, TOWERS.address, self.cover)
        await self.called(STRANGER, "reserve", *msgspec.structs.astuple(self.cover), HONEST.sign(self.name))
        self.since = (await self.chain.head()).time + 1

    async def sent(self, key: PrivateKey, call: Any) -> None:
        """Send a call, mine it, and see that it was done."""
        receipt = await self.chain.call(key, call)
        assert receipt.success, receipt.reason

    async def called(self, key: PrivateKey, name: str, *values: Any, value: int = 0) -> None:
        """Call the registry."""
        await self.sent(key, ModuleCall(TOWERS.address, calldata("towers", name, *values), value))

    async def accuse(self) -> str:
        """Show the promise of 5 and 5; return why it was refused, or nothing."""
        promise = TowerPromise(self.name, self.since, 5, 5)
        signed = HONEST.sign(digest_promise(1337, TOWERS.address, promise))
        values = (*msgspec.structs.astuple(self.cover), self.since, 5, 5, signed)
        call = ModuleCall(TOWERS.address, calldata("towers", "accuse", *values), 0)
        return str((await self.chain.call(STRANGER, call)).revert or "")

    async def cheat(self) -> None:
        """Side 1 closes with nothing."""
        await self.sent(self.channel.keys[1], self.channel.close())

    async def answer(self) -> None:
        """The tower shows both proofs."""
        for side in (0, 1):
            await self.sent(HONEST, self.channel.challenge(self.channel.proof(side, 5, seen=4)))

    async def bonds(self) -> tuple[int, int]:
        """Return the tower's bond, and what of it is set apart."""
        bond, apart, *_ = await self.asked("tower", HONEST.address)
        return bond, apart

    async def asked(self, view: str, *values: Any) -> tuple[Any, ...]:
        """Ask the registry."""
        answer = await self.chain.view(ModuleCall(TOWERS.address, calldata("towers", view, *values), 0))
        return signature("towers", view).decode_result(answer)

    async def money(self, account: Address) -> int:
        """Return what an account holds."""
        return await self.chain.balance(account, NATIVE)


async def test_an_accusation_that_a_reorganisation_takes_back_is_paid_once_when_it_comes_again() -> None:
    story = Chain()
    await story.prepare()
    client = story.channel.address(0)
    await story.cheat()
    before = await story.money(client)
    story.chain.advance(PERIOD)
    assert await story.accuse() == "" and await story.money(client) == before + 1_000
    story.chain.reorganise(1, keep=lambda transaction: False)
    assert await story.money(client) == before and await story.bonds() == (BOND, 1_000)
    assert await story.accuse() == "" and await story.money(client) == before + 1_000
    assert await story.bonds() == (BOND - 1_000, 0)
    story.chain.reorganise(1)
    assert await story.money(client) == before + 1_000 and await story.bonds() == (BOND - 1_000, 0)
    assert await story.accuse() == "unknown-entry"


async def test_a_tower_whose_answer_a_reorganisation_takes_back_is_acquitted_by_the_one_that_it_makes_again() -> None:
    story = Chain()
    await story.prepare()
    await story.cheat()
    await story.answer()
    story.chain.reorganise(2, keep=lambda transaction: False)
    await story.answer()
    story.chain.advance(PERIOD)
    assert await story.accuse() == "not-newer" and await story.bonds() == (BOND, 1_000)


async def test_a_tower_whose_answer_a_reorganisation_takes_back_for_good_is_guilty() -> None:
    """What the chain keeps in the end is all that counts: a tower sees to its answers until they are final."""
    story = Chain()
    await story.prepare()
    await story.cheat()
    await story.answer()
    story.chain.reorganise(2, keep=lambda transaction: False)
    story.chain.advance(PERIOD)
    assert await story.accuse() == "" and await story.bonds() == (BOND - 1_000, 0)
