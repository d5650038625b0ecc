"""What the contract owes a node's account: payouts that were refused. Told once, and again if it is more. Pure.

Every figure comes from a chain node, so that only what was said twice counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.channels.protocol.objects import NATIVE, Address

LOOK_AGAIN = 3.0
"""Seconds until the next look, if something is in doubt."""


class Owings(msgspec.Struct, frozen=True):
    """What was said of each asset last, and what was told of it."""

    last: Mapping[Address, int] = {}
    told: Mapping[Address, int] = {}

    @property
    def pause(self) -> float:
        """Seconds until the next look, unless something happens: it comes soon if that is not as it was told."""
        in_doubt = self.last != self.told
        return LOOK_AGAIN if in_doubt else math.inf

    def look(self, seen: Mapping[Address, int]) -> tuple[Owings, tuple[Alarm, ...]]:
        """Take in what is owed of each asset now; return this after it, and alarms for what is news."""
        sure = [asset for asset in {**seen, **self.last, **self.told} if seen.get(asset) == self.last.get(asset)]
        news = {asset: seen[asset] for asset in sure if seen.get(asset, 0) > self.told.get(asset, 0)}
        told = {asset: amount for asset, amount in self.told.items() if asset not in sure}
        told |= {asset: seen[asset] for asset in sure if asset in seen}
        return Owings(seen, told), tuple(_alarm(asset, amount) for asset, amount in news.items())


def _alarm(asset: Address, amount: int) -> Alarm:
    of, option = ("the chain's own coin", "") if asset == NATIVE else (f"0x{asset.hex()}", f" --asset 0x{asset.hex()}")
    return Alarm(
        AlarmKind.PAYOUT_OWED,
        f"the contract owes this node's account {amount} of {of}, as the payout was refused: the node tries to claim "
        f"it where it is worth the fee; `tally chain claim{option} --to ADDRESS` has it paid to another account",
    )
