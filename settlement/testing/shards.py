"""A group of shards for tests, each a `LocalChain`, and what carries receipts between them when told to.

    shards = LocalShards(2, funds={alice.address: 10**9})
    await shards.send(0, alice, Sending(1, NATIVE, bob.address, 500))   # mined on shard 0
    shards.finish(0)                                                    # its block becomes final
    shards.carry(0, 1)                                                  # what is final of shard 0 is offered to shard 1
    shards[1].mine()                                                    # and executed there

No coin is ever lost: `check_conservation` counts those of all shards, and those on their way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tallystick.channels.ports import Clock
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.storage.store import Store
from tallystick.settlement.errors import LedgerBroken
from tallystick.settlement.shards.group import FINAL_BLOCKS, ShardGroup
from tallystick.settlement.shards.outbox import Sending, sign_sending
from tallystick.settlement.simulated.branch import ADJUDICATOR, ChainSettings
from tallystick.settlement.simulated.crossing import NUMBERS, came_from, left_for
from tallystick.settlement.simulated.shard import Shard
from tallystick.settlement.simulated.world import Layer, supply_key
from tallystick.settlement.testing.local import LocalChain

FIRST = 7_000
"""Chain id of shard 0."""


def shard_key(number: int) -> PrivateKey:
    """Return the key under which a shard of such a group signs its final blocks."""
    return PrivateKey(keccak(b"the key of shard %d" % number))


def local_group(count: int, *, final_blocks: int = FINAL_BLOCKS) -> ShardGroup:
    """Return a group of so many shards."""
    keys = tuple(bytes(shard_key(number).public) for number in range(count))
    return ShardGroup(chain_id=FIRST, contract=ADJUDICATOR, keys=keys, final_blocks=final_blocks)


def local_shard(
    group: ShardGroup,
    number: int,
    *,
    funds: Mapping[Address, int] | None = None,
    clock: Clock | None = None,
    store: Store | None = None,
) -> LocalChain:
    """Return one shard of it, with these coins on it or with what is in its store."""
    settings = ChainSettings(chain_id=group.chain_of(number), contract=group.contract, dev=True)
    return LocalChain(funds=funds, settings=settings, clock=clock, store=store, shard=local_role(group, number))


def local_role(group: ShardGroup, number: int) -> Shard:
    """Return what makes a chain that shard of the group."""
    return Shard(group, number, shard_key(number))


class LocalShards:
    """All shards of a group."""

    def __init__(
        self, count: int, *, funds: Mapping[Address, int] | None = None, final_blocks: int = FINAL_BLOCKS
    ) -> None:
        """Begin them, each with the coins of `funds`."""
        self.group = local_group(count, final_blocks=final_blocks)
        self._chains = [local_shard(self.group, number, funds=funds) for number in range(count)]

    def __getitem__(self, number: int) -> LocalChain:
        return self._chains[number]

    def __iter__(self) -> Iterator[LocalChain]:
        return iter(self._chains)

    def __len__(self) -> int:
        return len(self._chains)

    async def send(self, source: int, key: PrivateKey, sending: Sending) -> bytes:
        """Send coins from a shard and mine the block that does; return the transaction's hash."""
        chain = self[source]
        price, nonce = await chain.fee_price(), await chain.nonce(key.address)
        transaction = await chain.submit(sign_sending(key, chain.chain_id, sending, nonce, price))
        chain.mine()
        return transaction

    def finish(self, *shards: int) -> None:
        """Let what is in the newest blocks of these shards (none named: of all) become final."""
        for number in shards or range(len(self)):
            self[number].mine(self.group.final_blocks)

    def carry(self, source: int, destination: int) -> int:
        """Offer to a shard what is final for it on another one; return how many parcels there were."""
        wanted = next(other.expected for other in self[destination].others() if other.number == source)
        parcels = self[source].parcels(destination, wanted)
        for parcel in parcels:
            self[destination].offer(parcel)
        return len(parcels)

    def carry_all(self) -> None:
        """Make all final, carry all, and have it executed, until nothing is on its way."""
        for _ in range(3):  # receipts, refunds, and once more to see that nothing is left
            self.finish()
            for source in range(len(self)):
                for destination in range(len(self)):
                    if source != destination:
                        self.carry(source, destination)
            for chain in self:
                chain.mine()

    def in_flight(self, asset: Address = NATIVE) -> int:
        """Return how much is on its way between shards."""
        return in_flight([chain.state for chain in self], asset)

    def check_conservation(self, total: int, asset: Address = NATIVE) -> None:
        """Raise LedgerBroken unless all shards, and what is on its way, hold `total` together."""
        for chain in self:
            chain.check_conservation()
        check_total([chain.state for chain in self], total, asset)


def in_flight(states: Sequence[Layer], asset: Address) -> int:
    """Return how much of an asset has left one shard and has not come to the other, over all pairs."""
    return sum(
        (left_for(source, destination_number, asset) - came_from(destination, source_number, asset)) % NUMBERS
        for source_number, source in enumerate(states)
        for destination_number, destination in enumerate(states)
        if source_number != destination_number
    )


def check_total(states: Sequence[Layer], total: int, asset: Address) -> None:
    """Raise LedgerBroken unless the shards of these states, and what is on its way, hold `total` together."""
    held = sum(state.number(supply_key(asset)) for state in states)
    moving = in_flight(states, asset)
    if held + moving != total:
        raise LedgerBroken(f"the shards hold {held} and {moving} is on its way, of {total} in all")
