"""People, channels and a chain that is a table, for tests of gossip. Never for real keys.

truth = Truth()
channel = truth.open(person(1), person(2), capacity=1_000)
update = truth.update(channel, 0, timestamp=5, base_fee=3)        # signed by whom it takes
"""

from __future__ import annotations

from functools import lru_cache

import trio

from tallystick.channels.protocol.eip712 import channel_id, domain_separator
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, ZERO32, Address, ChannelId, Terms
from tallystick.router.gossip.announcements import ChannelUpdate, sign_update
from tallystick.router.gossip.store import ChannelFacts
from tallystick.router.objects import ForwardingPolicy
from tallystick.settlement.chain import GONE, OPEN, ContractChannel
from tallystick.settlement.errors import ChainUnavailable

CHAIN_ID = 7
CONTRACT = Address(bytes([7]) * 20)
DOMAIN = domain_separator(CHAIN_ID, CONTRACT)


@lru_cache(maxsize=1024)
def person(number: int) -> PrivateKey:
    """Return the key of a person, the same for the same number."""
    return PrivateKey(keccak(b"a person of a test, number %d" % number))


class ChainTruth:
    """What the chain knows. Serves as the part of `Chain` that gossip asks."""

    def __init__(self) -> None:
        self.views: dict[ChannelId, ContractChannel] = {}
        self.owners: dict[ChannelId, tuple[PrivateKey, PrivateKey]] = {}
        self.questions = 0
        """How often `channel` was called."""
        self.silent = False
        """While true, the chain node does not answer."""

    def open(
        self,
        first: PrivateKey,
        second: PrivateKey,
        *,
        capacity: int = 1_000_000,
        number: int = 0,
        asset: Address = NATIVE,
    ) -> ChannelId:
        """Open a channel; `number` tells channels of one pair apart."""
        owners = (first, second) if first.address < second.address else (second, first)
        participants = (owners[0].address, owners[1].address)
        terms = Terms(CHAIN_ID, CONTRACT, participants, asset, number, 600, ZERO32)
        channel = channel_id(terms)
        self.owners[channel] = owners
        self.views[channel] = ContractChannel(terms=terms, status=OPEN, deposits=(capacity, 0), withdrawn=(0, 0))
        return channel

    def close(self, channel: ChannelId) -> None:
        """Close a channel for good."""
        view = self.views[channel]
        self.views[channel] = ContractChannel(
            terms=view.terms, status=GONE, deposits=view.deposits, withdrawn=view.withdrawn
        )

    def facts(self, channel: ChannelId) -> ChannelFacts | None:
        """Return what gossip wants to know of a channel."""
        view = self.views.get(channel)
        if view is None or view.status != OPEN:
            return None
        return ChannelFacts(view.terms.participants, sum(view.deposits) - sum(view.withdrawn), view.terms.asset)

    def update(
        self, channel: ChannelId, side: int, timestamp: int, *, signer: PrivateKey | None = None, base_fee: int = 0
    ) -> ChannelUpdate:
        """Return an update signed by the participant on that side, or by somebody else."""
        policy = ForwardingPolicy(base_fee=base_fee)
        return sign_update(signer or self.owners[channel][side], DOMAIN, channel, side, timestamp, policy)

    async def channel(self, channel: ChannelId) -> ContractChannel | None:
        """Answer as a chain node does, after a moment."""
        await trio.sleep(0.01)
        if self.silent:
            raise ChainUnavailable("the chain node of this test does not answer")
        self.questions += 1
        return self.views.get(channel)
