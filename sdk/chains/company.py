"""A company: the nodes of one owner in one process, each on a chain of its own, and the maker among them, if it is one.

    company = Company([on_one_chain, on_another], maker)
    await company.wallet().swap(1_000, give=company.place("coin@1337"), get=company.place("coin@1338"))
    await company.run()                  # until cancelled: answers payers, if it is a maker

Each node has its own channels, fees, finality and obligations: nothing is shared but the process. All wallets and the
maker speak over the same talks, as a node can have but one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tallystick.channels.errors import InvalidInput
from tallystick.channels.ports import PeerAddress
from tallystick.sdk.chains.assets import ChainAsset, read_asset
from tallystick.sdk.chains.maker import Maker
from tallystick.sdk.chains.talks import Talks
from tallystick.sdk.chains.wallet import Wallet
from tallystick.sdk.errors import NoMaker
from tallystick.sdk.node.node import Node


class Company:
    """See the module's docstring."""

    def __init__(self, nodes: Sequence[Node], maker: Maker | None = None) -> None:
        """`maker` is one of the same nodes. Raise InvalidInput if two nodes are on one chain."""
        if len({node.chain.chain_id for node in nodes}) < len(nodes):
            raise InvalidInput("two nodes of one process are on one chain: one of them carries all its assets")
        self.nodes = tuple(nodes)
        self._maker = maker
        self._talks: Mapping[Node, Talks] = {node: Talks(node) for node in nodes} if maker is None else maker.talks

    @property
    def maker(self) -> Maker:
        """The maker; raise NoMaker if this is none."""
        if self._maker is None:
            raise NoMaker("this node is no maker: set maker = true in its config.toml, and start it again")
        return self._maker

    def wallet(self, makers: Sequence[tuple[ChainAsset, PeerAddress]] = ()) -> Wallet:
        """Return what pays and swaps with these nodes over those makers; without, over those of which gossip tells."""
        return Wallet(self.nodes, makers, talks=self._talks)

    def node(self, place: ChainAsset) -> Node:
        """Return our node where an asset lives; raise InvalidInput if there is none."""
        return self.wallet().node(place)

    def place(self, text: str) -> ChainAsset:
        """Return the asset of one of our chains that `text` names, as ASSET@CHAIN; raise InvalidInput."""
        asset, chain_id = read_asset(text)
        for node in self.nodes:
            if node.chain.chain_id == chain_id:
                return ChainAsset(chain_id, node.chain.contract, asset)
        ours = ", ".join(str(node.chain.chain_id) for node in self.nodes)
        raise InvalidInput(
            f"this node is not on chain {chain_id}, but on {ours}: name the directory of yours there in `also` of its "
            "config.toml, and start it again"
        )

    async def run(self) -> None:
        """Answer payers once all nodes know their chains, until cancelled; return at once if this is no maker."""
        if self._maker is not None:
            for node in self.nodes:
                await node.ready.wait()
            await self._maker.run()
