"""An account that pays fees: told when it holds too little, before that is needed, and again when it gets worse. Pure.

Every figure comes from a chain node, so that only what was said twice counts.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.channels.protocol.objects import Address

WORSE = 2
"""It is told again when it holds so many times less than it did, or so many times more is needed."""

LOOK_EVERY = 30.0
"""Seconds between two looks."""

LOOK_AGAIN = 3.0
"""The same, if it is in doubt."""

AT_ONCE = 8
"""So many of the dearest ends of channels have to be paid for at one time."""

REST_PERCENT = 10
"""And this share of all others: they do not all end at once."""


class FundsAndDuties(msgspec.Struct, frozen=True):
    """What an account holds, and what its duties may cost."""

    held: int
    needed: int

    @property
    def is_short(self) -> bool:
        """Whether duties may have to wait for coins."""
        return self.held < self.needed


class FeeAccount(msgspec.Struct, frozen=True):
    """What is known of an account, and what was told of it."""

    account: Address
    last: FundsAndDuties | None = None
    told: FundsAndDuties | None = None

    @property
    def pause(self) -> float:
        """Seconds until the next look: it comes soon if the account seems to be short, and that was said only once."""
        in_doubt = self.told is None and self.last is not None and self.last.is_short
        return LOOK_AGAIN if in_doubt else LOOK_EVERY

    def look(self, seen: FundsAndDuties) -> tuple[FeeAccount, Alarm | None]:
        """Take in how it stands now; return the account after that, and an alarm if there is news."""
        before, alarm, told = self.last, None, self.told
        if before is not None and before.is_short and seen.is_short:
            if told is None or _is_worse(seen, told):
                text = f"the account 0x{self.account.hex()} holds {seen.held}, and what may be due on chain costs about"
                told, alarm = seen, Alarm(AlarmKind.FEE_ACCOUNT, f"{text} {seen.needed}: pay coins into it")
        elif before is not None and not before.is_short and not seen.is_short and told is not None:
            text = f"the account 0x{self.account.hex()} holds enough for fees again: {seen.held}"
            told, alarm = None, Alarm(AlarmKind.FEE_ACCOUNT_FUNDED, text)
        return FeeAccount(self.account, seen, told), alarm


def _is_worse(seen: FundsAndDuties, told: FundsAndDuties) -> bool:
    poorer = seen.held * WORSE <= told.held and seen.held < told.held
    return poorer or seen.needed >= WORSE * max(1, told.needed)


def at_one_time(certain: Iterable[int], possible: Iterable[int]) -> int:
    """Return what to hold for costs of which some are certain, and the others will not all come at once."""
    dearest = sorted(possible, reverse=True)
    return sum(certain) + sum(dearest[:AT_ONCE]) + sum(dearest[AT_ONCE:]) * REST_PERCENT // 100
