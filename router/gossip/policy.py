"""Every limit and every period of gossip, named once, with its unit."""

from __future__ import annotations

from tallystick.channels.values.arguments import Options

DAY = 86_400


class GossipPolicy(Options, frozen=True, kw_only=True):
    """What one node allows its peers, and how often it does what. Times in seconds, rates per second."""

    stale: float = 14 * DAY
    """Age at which an announcement that was not renewed is dropped, as by Lightning's nodes."""
    refresh: float = 4 * DAY
    """Age at which our own announcements are renewed."""
    skew: float = 600
    """How far ahead of our clock a timestamp may be."""
    recheck: float = DAY
    """Age of the chain's word on a channel at which it is asked again, whatever events we may have missed."""
    young: float = 3_600
    """Age up to which news is told on at once; older news spreads by reconciliation."""
    channels_max: int = 200_000
    """Channels in the chain's coin that are kept: those of the largest capacity. Each takes about 1.2 kB of memory."""
    asset_channels_max: int = 20_000
    """The same in each other asset in which this node has channels, and in all further assets together."""
    markets_max: int = 1_000
    """Makers of which it is kept what they ask for: those with the largest channels. Each takes 10 kB at most."""
    market_life: int = 1_800
    """How long what we ask for as a maker stands …"""
    market_refresh: float = 600
    """… and the age at which it is renewed."""
    parked_max: int = 20_000
    """Updates that wait for the chain's word on their channel, of all peers together."""
    parked_per_peer: int = 2_000
    """The same, of one peer."""
    refused_max: int = 20_000
    """Channels that are remembered as refused by the chain."""
    refused_seconds: float = 60
    """How long such a channel is not asked about again."""
    lookup_cost: float = 20
    """Announcements that a question to the chain which came to nothing counts for, in its sender's budget."""
    items_rate: float = 500
    """Announcements that are taken from one peer, per second; each costs well below 0.1 ms."""
    items_burst: float = 5_000
    """The same, at once."""
    bytes_rate: float = 250_000
    """Bytes of gossip that are taken from one peer, per second."""
    bytes_burst: float = 4_000_000
    """The same, at once."""
    serve_rate: float = 250_000
    """Bytes that one peer gets in answer to its requests, per second."""
    serve_burst: float = 1_000_000
    """The same, at once."""
    strangers_serve_rate: float = 500_000
    """The same, of all peers without a funded channel together."""
    strangers_serve_burst: float = 4_000_000
    """The same, at once."""
    strangers_lookup_rate: float = 5
    """Questions to the chain per second for what such peers say, all together."""
    strangers_lookup_burst: float = 50
    """The same, at once."""
    items_per_step: int = 8
    """Announcements that are looked at before others have their turn: below a millisecond's work."""
    requests_max: int = 8
    """Requests of one peer that wait to be answered."""
    window: int = 4
    """Buckets that we ask one peer for at a time."""
    update_every: float = 300
    """One announcement may change so often, in the long run."""
    update_burst: float = 6
    """So many changes of one announcement are taken at once."""
    news_max: int = 5_000
    """News that waits to be told to one peer; what is beyond is left to reconciliation."""
    private_max: int = 1_000
    """Updates that came with failures of our own payments, which are kept from others."""
    reconcile: float = 600
    """Time between two rounds of reconciliation with one peer."""
    soon: float = 5
    """Time until a round that has become urgent."""
    stalled: float = 60
    """Time without progress after which a round is begun anew."""
    check_own: float = 60
    """Time between two looks at whether our own announcements are still what we want them to be."""
    own_per_tick: int = 100
    """Own announcements that are signed in one second."""
    gone_max: int = 1_000
    """Peers whose budgets are remembered after they left."""
