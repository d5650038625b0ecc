"""How a node behaves: everything that its owner may choose, with the defaults that suit most."""

from __future__ import annotations

from typing import Annotated

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import CHALLENGE_PERIOD_MAX, Policy
from tallystick.channels.node.custody import CustodyPolicy
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.objects import Count, Lifetime, Total
from tallystick.channels.values.argument_rules import Whole
from tallystick.channels.values.arguments import Options
from tallystick.router.forwarding.service import RoutingOptions
from tallystick.router.network.routing import PaymentOptions
from tallystick.router.objects import MARGIN_MAX
from tallystick.sdk.node.places import check_announced
from tallystick.settlement.enforcement.budgets import DutyPolicy
from tallystick.settlement.enforcement.depths import DepthPolicy
from tallystick.watchtower.offers import ClientPolicy

Port = Annotated[int, Whole(0, 65_535)]
Depth = Annotated[int, Whole(1, 2**31)]
"""In blocks; 1: the newest one."""
Period = Annotated[int, Whole(1, CHALLENGE_PERIOD_MAX)]
"""A challenge period that the adjudicator takes, in seconds."""


class Config(Options, frozen=True, kw_only=True):
    """How a node behaves. Times in seconds of chain time."""

    listen: tuple[str, Port] | None = ("127.0.0.1", 0)
    """Where to accept peers (port 0: any free one); None: only dial."""
    announce_address: str = ""
    """What the network is told as this node's address, <host>:<port>; empty: where it listens, if others can reach
    that. Never a wildcard, and loopback only where every known peer is on loopback, too (`places`)."""
    confirmations: Depth = 3
    """Depth (1: in the head block) at which the chain's word counts, at the least."""
    depths: DepthPolicy = DepthPolicy()
    """How deep deposits, openings and ends of channels must be, by what is at risk: as the chain's profile says."""
    challenge_period: Period = 86_400
    """Of the channels that this node opens."""
    channels: Policy = Policy()
    duties: DutyPolicy = DutyPolicy()
    start_block: Count = 0
    """The first block to follow, for a node that is new; blocks before it cannot hold its channels."""
    towers: tuple[PeerAddress, ...] = ()
    """Watchtowers that guard the channels while this node is down."""
    tower_policy: ClientPolicy = ClientPolicy()
    custody: CustodyPolicy = CustodyPolicy()
    """What towers must have before it is acknowledged to peers."""
    routing: RoutingOptions = RoutingOptions()
    """How it forwards payments of others."""
    payments: PaymentOptions = PaymentOptions()
    """How it pays and is paid over several hops."""
    app_patience: Lifetime = 900
    """Seconds that the other player of an app may keep this node waiting before it goes to the chain's court."""
    virtual_deposit: Total = 0
    """The most that this node has in virtual channels of an asset, all together, if it agrees to one more that a peer
    asks for. 0: it agrees to those in which it puts nothing."""
    keep_closing: bool = True
    """Whether to close for a peer that proved to have lost its data."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_announced(self.announce_address)
        if self.custody.receipts > len(self.towers):
            raise InvalidInput(
                f"custody waits for receipts of {self.custody.receipts} towers, and {len(self.towers)} are named: name "
                "more in `towers`, or ask for fewer"
            )
        if self.duties.secret_margin < self.channels.reveal_margin:
            raise InvalidInput(
                f"secrets are paid for until {self.channels.reveal_margin} s before a lock expires, and claimed only "
                f"{self.duties.secret_margin} s before: raise duties.secret_margin to at least the former"
            )
        if self.routing.policy.margin > MARGIN_MAX:
            raise InvalidInput(f"payers leave a margin of {MARGIN_MAX} s at most: lower routing.policy.margin")
        if self.payments.patience.claim // 2 < self.channels.reveal_margin:
            raise InvalidInput(
                f"a held payment may be taken until {self.payments.patience.claim // 2} s before its locks expire, and "
                f"peers pay for secrets until {self.channels.reveal_margin} s before: raise payments.patience.claim to "
                "at least twice the latter"
            )
