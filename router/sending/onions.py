"""The onion of one part: what each node on its way is told, and what the payee gets."""

from __future__ import annotations

from tallystick.channels.ports import Entropy
from tallystick.router.objects import Route
from tallystick.router.onion.payload import FinalPayload, ForwardPayload, encode_payload
from tallystick.router.onion.sphinx import BuiltOnion, build_onion
from tallystick.router.sending.payments import Order


def onion_of(order: Order, route: Route, expiry: int, entropy: Entropy) -> BuiltOnion:
    """Return the onion, for locks that expire then; raise InvalidInput if it cannot be built."""
    final = FinalPayload(
        route.delivered, expiry, order.payment_secret, order.amount, keysend=order.keysend, metadata=order.metadata
    )
    payloads = [encode_payload(ForwardPayload(hop.amount, expiry, hop.channel)) for hop in route.hops[1:]]
    payloads.append(encode_payload(final))
    return build_onion(entropy(32), [hop.node for hop in route.hops], payloads, order.payment_hash)
