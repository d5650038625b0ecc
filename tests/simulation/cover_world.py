"""A tower with a bond, a channel, and a client that asks for covers and promises over the wire; for tests."""

from __future__ import annotations

from pathlib import Path

import msgspec
import trio

from simulation.tower_house import Pair
from simulation.tower_world import ALICE, CAROL, MALLORY, TOWER, TowerWorld, settle_down
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.storage.sqlite.store import open_store
from tallystick.channels.testing.clock import virtual_clock
from tallystick.sdk.ledger import LedgerAccount
from tallystick.settlement.chain import CloseCall
from tallystick.settlement.errors import Reverted
from tallystick.settlement.modules.towers import TOWERS
from tallystick.watchtower.cover_schema import SignedCover, SignedPromise
from tallystick.watchtower.covering import CoverClient, find_broken
from tallystick.watchtower.covers import CoverPolicy
from tallystick.watchtower.ledger_registry import LedgerRegistry, accuse_call, reserve_call
from tallystick.watchtower.sqlite import CLIENT_COVERS_SCHEMA, CLIENT_SCHEMA
from tallystick.watchtower.tower import Tower

BOND = 10**15
COVER = 4 * 10**14


class CoverWorld(TowerWorld):
    """See above."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.store.close()
        schemas = [CLIENT_SCHEMA, CLIENT_COVERS_SCHEMA]
        self.store = open_store(directory / "alice", schemas, owner="alice", durable=False)
        covers = CoverPolicy(most=BOND)
        self.house.policy = msgspec.structs.replace(self.house.policy, covers=covers)
        self.house.registry = LedgerRegistry(self.chain)
        self.registry = LedgerRegistry(self.chain)

    async def bonded(self) -> None:
        """Open the channel, bond, and give the tower an appointment, as a client does."""
        await self.appointed()
        await self.called(TOWER, "bond", BOND, value=BOND)

    async def called(self, key: PrivateKey, function: str, *values: object, value: int = 0) -> None:
        """Call the registry, whose block is mined meanwhile."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._mine_soon)
            await LedgerAccount(self.chain, key).call(TOWERS.name, function, list(values), value=value)  # type: ignore[arg-type]  # what tests give

    async def _mine_soon(self) -> None:
        await trio.sleep(0.1)
        self.chain.mine()

    def covers(self, at: object) -> CoverClient:
        """Alice's client for covers."""

        async def commit(moments: object) -> None:
            await trio.lowlevel.checkpoint()
            self.store.commit(moments)  # type: ignore[arg-type]  # moments

        return CoverClient(
            party=ALICE.address,
            tower=at,  # type: ignore[arg-type]  # a PeerAddress
            network=self.network.endpoint(ALICE),
            store=self.store,
            commit=commit,
            clock=virtual_clock(),
            chain_id=self.chain.chain_id,
            registry=self.registry.address,
        )

    async def caught_up(self, tower: Tower) -> None:
        """Let the tower follow all there is, and have no trouble."""
        await settle_down(tower.follower.wait_reached, self.chain.newest.header.number)
        await trio.sleep(1)

    def until(self, seconds: int = 10_000) -> int:
        """Return a time from now."""
        return max(int(virtual_clock()()), self.chain.newest.header.time) + seconds

    async def reserve(self, held: SignedCover) -> None:
        """Set a cover apart; Carol pays."""
        receipt = await self.chain.call(CAROL, reserve_call(held))
        assert receipt.success, receipt.reason

    async def covered(self, tower: Tower, client: CoverClient) -> SignedCover:
        """Ask for a cover, and reserve it."""
        held = await client.ask_cover(self.pair.terms, COVER, self.until(), price_max=COVER)
        await self.reserve(held)
        await self.caught_up(tower)
        return held

    async def promised(self, client: CoverClient, held: SignedCover, seq: int = 9) -> SignedPromise:
        """Ask for a promise on newer proofs than the appointment has, and let it begin."""
        found = await client.ask_promise(held, self.proof(0, seq, 50), self.proof(1, seq, 60))
        await trio.sleep(2)
        return found

    async def cheat_pair(self, pair: Pair | None = None, closer: PrivateKey = MALLORY) -> None:
        """Close with nothing."""
        of = pair or self.pair
        receipt = await self.chain.call(closer, CloseCall(of.channel, None, None, of.close_key))
        assert receipt.success, receipt.reason

    async def accuse(self, channel: ChannelId | None = None) -> list[str]:
        """Accuse the tower of what Alice's data and the chain say; return what came of each, empty if it was paid."""
        of = channel or self.pair.channel
        view = await self.chain.channel(of)
        assert view is not None
        found = find_broken(self.store, view, of, self.chain.newest.header.time)
        said = []
        for each in found:
            try:
                await self.chain.view(accuse_call(each), CAROL.address)
            except Reverted as error:
                said.append(str(error.code))
                continue
            receipt = await self.chain.call(CAROL, accuse_call(each))
            said.append(str(receipt.revert or ""))
        return said

    async def bonds(self) -> tuple[int, int]:
        """Return the tower's bond and what of it is set apart."""
        said = await LedgerAccount(self.chain, CAROL).read(TOWERS.name, "tower", [TOWER.address])
        return int(said["bond"]), int(said["reserved"])
