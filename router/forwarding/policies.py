"""How a node takes part in the payment network, and what it asks for: first what its owner said of one channel."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.storage.store import Moment
from tallystick.channels.values.arguments import Options
from tallystick.router.forwarding.circuits import PolicySet, load_policies
from tallystick.router.forwarding.exposure import ExposureLimits
from tallystick.router.forwarding.forwarder import ForwardingLimits
from tallystick.router.forwarding.jamming import JammingLimits
from tallystick.router.forwarding.ports import NodeChannels
from tallystick.router.forwarding.stakes import StakeLimits
from tallystick.router.objects import MARGIN_MAX, ForwardingPolicy


class RoutingOptions(Options, frozen=True, kw_only=True):
    """How a node takes part in the payment network."""

    policy: ForwardingPolicy = ForwardingPolicy(base_fee=0, fee_ppm=1_000)
    """What it asks for payments over its channels, where the owner says nothing else."""
    policies: dict[Address, ForwardingPolicy] = msgspec.field(default_factory=dict)
    """The same for channels in other assets than the chain's coin. Where an asset is not named, it is the policy above
    without its amounts (no base fee, any amount): those are in units of the coin. And of all that is not named, few
    locks pend at once (`exposure`)."""
    limits: ForwardingLimits = ForwardingLimits()
    jamming: JammingLimits = JammingLimits()
    exposure: ExposureLimits = ExposureLimits()
    stakes: StakeLimits = StakeLimits()

    def policy_in(self, asset: Address) -> ForwardingPolicy:
        """Return what is asked for payments over channels in an asset, where the owner says nothing else."""
        if asset == NATIVE:
            return self.policy
        rates = msgspec.structs.replace(self.policy, base_fee=0, minimum=1, maximum=0)
        return self.policies.get(asset, rates)


class Policies:
    """What this node asks for payments over its channels: see the module's docstring."""

    def __init__(self, channels: NodeChannels, options: RoutingOptions) -> None:
        self._channels = channels
        self._options = options
        self._chosen = load_policies(channels.disk)

    def policy_of(self, channel: ChannelId) -> ForwardingPolicy:
        """Return what is asked for payments over a channel, outwards."""
        chosen = self._chosen.get(channel)
        if chosen is not None:
            return chosen
        view = self._channels.views.get(channel)
        return self._options.policy_in(NATIVE if view is None else view.channel.terms.asset)

    def set_policy(self, channel: ChannelId, policy: ForwardingPolicy) -> Sequence[Moment]:
        """Ask something else from now on; return what to commit. Locks that were forwarded before stay as they are.

        Raise InvalidInput if the channel is unknown, or the policy one that cannot be announced or carries nothing.
        """
        self._channels.view(channel)
        if flaw := policy.flaw():
            raise InvalidInput(flaw)
        if policy.enabled and 0 < policy.maximum < policy.minimum:
            raise InvalidInput("a policy whose maximum is below its minimum carries nothing: disable it instead")
        if policy.margin > MARGIN_MAX:
            raise InvalidInput(f"the margin of a policy is {MARGIN_MAX} s at most: payers leave no more")
        self._chosen[channel] = policy
        return (PolicySet(channel, policy),)
