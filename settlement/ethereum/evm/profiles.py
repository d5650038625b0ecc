"""What is known of the chains that Tallystick can live on, as data; a chain that is not in the table is served too.

Depths are for money: how many blocks a node waits until it relies on one, by what is at risk. They are in blocks of
the chain, 1 is the newest. What is more than the last figure waits for the chain's own word (`finalized`).

| source of the figures                                                                                    |
| -------------------------------------------------------------------------------------------------------- |
| chain ids and block times: chainlist.org and each chain's own documentation                              |
| finality: Ethereum two epochs of 32 slots; rollups post to Ethereum, and are final when that is; Gnosis  |
| as Ethereum with 16 slots of 5 s; Polygon milestones of about 16 blocks                                  |
"""

from __future__ import annotations

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.conditions import HASH, STREAM
from tallystick.settlement.ethereum.evm.gas import TARIFF
from tallystick.settlement.ethereum.evm.rollups import DataFee
from tallystick.settlement.port import PACE, ChainFigures

COIN = 10**18
"""Smallest units of every native coin in the table."""


class Depth(msgspec.Struct, frozen=True):
    """So many blocks are enough for what is at risk up to `worth` (native coin, smallest unit)."""

    worth: int
    blocks: int


class ChainProfile(msgspec.Struct, frozen=True, kw_only=True):
    """What a client should know of one chain before it asks."""

    name: str
    chain_id: int
    coin: str
    block_seconds: float
    """Between two blocks, as a rule."""
    depths: tuple[Depth, ...]
    """In order; what is worth more waits for finality. Empty: any depth is as good, as on a chain of one's own."""
    final_blocks: int
    """How many blocks `finalized` is behind the head, as a rule; so many are waited for where there is no such tag."""
    range_max: int = 10_000
    """Blocks of which logs are asked for at once: halved where a node refuses, doubled again where it does not."""
    tip_min: int = 10**6
    """The least priority fee that is offered per unit of gas."""
    explorer: str = ""
    """Where people look at a transaction, with `{}` for its hash; empty if there is none."""
    data: DataFee = DataFee.NONE
    """How a transaction pays for its bytes on another chain."""
    pace_seconds: float = 0.0
    """What counts of blocks go by (`port.PACE`); 0: `block_seconds`. A development chain plays another one."""
    header_hash: bool = True
    """Whether a header's hash is that of its fields as Ethereum writes them, so that it can be checked."""

    @property
    def poll_seconds(self) -> float:
        """How long to wait between two looks for a new head."""
        return min(2.0, max(0.5, self.block_seconds / 4))

    @property
    def figures(self) -> ChainFigures:
        """What is known of it before it is asked, where it has no court that decides apps."""
        return ChainFigures(
            tariff=TARIFF,
            block_seconds=self.pace_seconds or self.block_seconds,
            final_blocks=self.final_blocks,
            confirmations=self.depth(0),
            kinds=(HASH, STREAM),
            has_evidence=True,
            depths=tuple((depth.worth, depth.blocks) for depth in self.depths),
        )

    def depth(self, at_risk: int) -> int:
        """Return how many blocks deep (1: the newest) a block has to be for what is at risk, in the native coin."""
        return next((depth.blocks for depth in self.depths if at_risk <= depth.worth), self.final_blocks)

    def link(self, transaction: bytes) -> str:
        """Return where people look at a transaction; empty if nowhere is known."""
        return self.explorer.format(f"0x{transaction.hex()}") if self.explorer else ""


def _rollup(name: str, chain_id: int, seconds: float, explorer: str, data: DataFee = DataFee.BESIDE) -> ChainProfile:
    """Return the profile of a rollup: its sequencer's word is enough for little, Ethereum's finality for the rest."""
    soft, final = round(30 / seconds), round(1_200 / seconds)
    return ChainProfile(
        name=name,
        chain_id=chain_id,
        coin="ETH",
        block_seconds=seconds,
        depths=(Depth(COIN // 100, soft), Depth(COIN, 4 * soft)),
        final_blocks=final,
        explorer=explorer,
        data=data,
    )


PROFILES = (
    ChainProfile(
        name="Ethereum",
        chain_id=1,
        coin="ETH",
        block_seconds=12,
        depths=(Depth(COIN // 20, 3), Depth(COIN, 12), Depth(10 * COIN, 32)),
        final_blocks=96,
        tip_min=10**7,
        explorer="https://etherscan.io/tx/{}",
    ),
    _rollup("OP Mainnet", 10, 2, "https://optimistic.etherscan.io/tx/{}"),
    ChainProfile(
        name="Gnosis",
        chain_id=100,
        coin="xDAI",
        block_seconds=5,
        depths=(Depth(100 * COIN, 4), Depth(3_000 * COIN, 16)),
        final_blocks=48,
        explorer="https://gnosisscan.io/tx/{}",
    ),
    ChainProfile(
        name="Polygon",
        chain_id=137,
        coin="POL",
        block_seconds=2,
        depths=(Depth(300 * COIN, 16), Depth(10_000 * COIN, 64)),
        final_blocks=128,
        tip_min=25 * 10**9,
        explorer="https://polygonscan.com/tx/{}",
    ),
    _rollup("Base", 8_453, 2, "https://basescan.org/tx/{}"),
    ChainProfile(
        name="a local chain",
        chain_id=31_337,
        coin="ETH",
        block_seconds=1,
        pace_seconds=PACE,
        depths=(),
        final_blocks=3,
    ),
    _rollup("Arbitrum One", 42_161, 0.25, "https://arbiscan.io/tx/{}", DataFee.AS_GAS),
)
"""In order of chain id."""

_BY_ID = {profile.chain_id: profile for profile in PROFILES}


def profile_of(chain_id: int) -> ChainProfile:
    """Return what is known of a chain; of one that is not in the table, what is safe on most."""
    found = _BY_ID.get(chain_id)
    if found is not None:
        return found
    if chain_id < 1:
        raise InvalidInput(f"a chain's id is 1 or more, not {chain_id}")
    return msgspec.structs.replace(_BY_ID[1], name=f"chain {chain_id}", chain_id=chain_id, explorer="", tip_min=10**6)
