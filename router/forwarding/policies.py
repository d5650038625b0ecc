"""What this node asks for payments over its channels: what the owner said of one, else what its options say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.storage.store import Moment, Store
from tallystick.router.forwarding.circuits import PolicySet, load_policies
from tallystick.router.forwarding.ports import NodeChannels
from tallystick.router.objects import MARGIN_MAX, ForwardingPolicy


class Policies:
    """What this node asks for payments over its channels: see the module's docstring."""

    def __init__(self, channels: NodeChannels, store: Store, policy_in: Callable[[Address], ForwardingPolicy]) -> None:
        """`policy_in` says what is asked in an asset, where the owner says nothing else."""
        self._channels = channels
        self._policy_in = policy_in
        self._chosen = load_policies(store)

    def policy_of(self, channel: ChannelId) -> ForwardingPolicy:
        """Return what is asked for payments over a channel, outwards."""
        chosen = self._chosen.get(channel)
        if chosen is not None:
            return chosen
        view = self._channels.views.get(channel)
        return self._policy_in(NATIVE if view is None else view.channel.terms.asset)

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
