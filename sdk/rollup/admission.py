"""What an operator takes at its desk: a fee for each step, and from each account only so much at a time. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import Address
from tallystick.settlement.rollup.state import RollupState
from tallystick.settlement.rollup.steps import RollupExit, RollupFund, RollupOpen, RollupTransfer, Step

RATE_SECONDS = 60
"""Of the chain's time, over which the steps of an account are counted."""


def payer_of(step: Step, state: RollupState) -> int | None:
    """Return the number of the account that signs a step under its numbers; None if none does, or it is not there."""
    match step:
        case RollupTransfer():
            return step.payer
        case RollupOpen():
            return step.opener
        case RollupFund():
            channel = state.channels.get(step.channel)
            return (channel.first, channel.second)[step.side] if channel is not None and step.side < 2 else None
        case RollupExit():
            return step.account
    return None


def paid_to(steps: Iterable[Step], operator: int | None) -> int:
    """Return what transfers among these steps give to the operator's account."""
    return sum(each.amount for each in steps if isinstance(each, RollupTransfer) and each.payee == operator)


def check_fee(
    steps: Sequence[Step],
    state: RollupState,
    operator: Callable[[Address], int | None],
    fee: Callable[[Address], int | None],
) -> None:
    """Raise InvalidInput unless steps that come at once pay the fee of each that is signed under a number.

    Both ask by an asset: `operator` gives the number of the operator's account, `fee` what a step costs, None if none
    is taken. Each asset pays for its own steps. Transfers to the operator pay the fee, and are not charged themselves,
    unless there is nothing else. A close is free: the channel was opened for a fee, and is closed once. So is what the
    operator itself signs.
    """
    of_asset: dict[Address, list[Step]] = {}
    for each in steps:
        account = state.accounts.get(payer) if (payer := payer_of(each, state)) is not None else None
        if account is not None:
            of_asset.setdefault(account.asset, []).append(each)
    for asset, group in of_asset.items():
        ours, each_costs = operator(asset), fee(asset)
        if each_costs is None:
            raise InvalidInput(f"the operator takes a fee for each step, and none in 0x{asset.hex()}")
        signed = [each for each in group if payer_of(each, state) != ours]
        charged = [each for each in signed if not (isinstance(each, RollupTransfer) and each.payee == ours)]
        due, paid = each_costs * (len(charged) or min(1, len(signed))), paid_to(group, ours)
        if paid < due:
            raise InvalidInput(
                f"these steps pay {paid} to the operator, and it takes {due}: {each_costs} for each step, by a "
                "transfer to its account that is handed in at once with them"
            )


class AccountLimits:
    """Counts what each account hands in, within the limits of the operator."""

    def __init__(self, per_minute: int, waiting_max: int) -> None:
        self._per_minute = per_minute
        self._waiting_max = waiting_max
        self._begun = 0
        self._taken: Counter[int] = Counter()
        """Steps of each account since then."""

    def check(self, steps: Sequence[Step], done: RollupState, ahead: RollupState, operator: int | None) -> Counter[int]:
        """Return how many steps of each account these are; raise InvalidInput if it has too many on their way.

        `done` is the state after all batches that were made, `ahead` that after all that waits.
        """
        payers = (payer_of(each, ahead) for each in steps)
        counts = Counter(payer for payer in payers if payer is not None and payer != operator)
        for payer, count in counts.items():
            before, after = done.accounts.get(payer), ahead.accounts.get(payer)
            waiting = (after.nonce if after else 0) - (before.nonce if before else 0)
            if waiting + count > self._waiting_max:
                raise InvalidInput(f"{waiting} steps of account {payer} wait for a batch: {self._waiting_max} may")
            if self._taken[payer] + count > self._per_minute:
                raise InvalidInput(
                    f"account {payer} has handed in {self._taken[payer]} steps within {RATE_SECONDS} seconds, and may "
                    f"{self._per_minute}: hand in the same step later"
                )
        return counts

    def on_time(self, time: int) -> None:
        """It is this time on the chain: count anew where the last time span is over."""
        if not self._begun <= time < self._begun + RATE_SECONDS:
            self._begun = time
            self._taken.clear()

    def on_taken(self, counts: Counter[int]) -> None:
        """So many steps of these accounts were taken: they were theirs, and right."""
        self._taken += counts
