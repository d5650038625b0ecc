"""Are a rollup's times and fee such that its users can leave and its watchers can watch? Pure."""

from __future__ import annotations

from tallystick.channels.errors import InvalidInput

HOUR, DAY = 3_600, 86_400

WINDOW_LEAST, WINDOW_MOST = HOUR, 30 * DAY
"""Seconds: a watcher has to see a batch, read signatures and send a proof; who leaves waits for all of it."""

ORDER_LEAST, ORDER_MOST = 600, 7 * DAY
"""Seconds in which the operator does what the chain orders: until then nobody can stop one that does not."""

ANSWER_LEAST, ANSWER_MOST = 300, 7 * DAY
"""Seconds in which signatures are shown: a demand holds up what is final for so long."""

DEMAND_PART = 10
"""What a demand costs is at most this part of the bond: signatures that are too dear to ask for are none."""


def odd_terms(bond: int, window: int, order_time: int, answer_time: int, demand_fee: int) -> list[str]:
    """Return a sentence for each of a rollup's terms that harms who has coins in it; none if all make sense."""
    times = (
        ("a batch can be convicted", window, WINDOW_LEAST, WINDOW_MOST),
        ("the operator has to do what the chain orders", order_time, ORDER_LEAST, ORDER_MOST),
        ("signatures have to be shown", answer_time, ANSWER_LEAST, ANSWER_MOST),
    )
    found = []
    for what, seconds, least, most in times:
        if seconds < least:
            found.append(f"{what} within {seconds} seconds: that is too short to be relied on ({least} at least)")
        if seconds > most:
            found.append(f"{what} within {seconds} seconds: coins may be held up for so long ({most} at most)")
    if demand_fee * DEMAND_PART > bond:
        found.append(
            f"to demand signatures costs {demand_fee}, of a bond of {bond}: an operator may post what nobody signed, "
            f"and nobody can afford to ask (a {DEMAND_PART}th of the bond at most)"
        )
    return found


def check_terms(
    bond: int, window: int, order_time: int, answer_time: int, demand_fee: int, *, accept: bool = False
) -> None:
    """Raise InvalidInput if a rollup's terms make no sense, unless that is accepted."""
    found = odd_terms(bond, window, order_time, answer_time, demand_fee)
    if found and not accept:
        raise InvalidInput(
            f"this rollup's terms make no sense for real money: {'; '.join(found)}. Who accepts them says so: "
            "--accept-terms"
        )
