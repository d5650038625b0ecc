"""Payments between two chains while anybody dies at any step, chains are rewritten or stop: nobody loses on either.

    PYTHONPATH=tests python -m simulation.crossings --seed 1 --payments 3000

Payer, maker and payee with whole nodes, on two chains of different paces (`two_chains`). A *case* is one thing that
goes wrong while some payments cross at once, in worlds of its own: a node dies just before or after one of its effects
(commits, messages, transactions; the maker's two nodes also both at once), the newest blocks are replaced just before
or after a secret was registered in one, with its registration in them or lost, or a chain stops. A dry run counts the
effects, and all are gone through: for payments whose secret comes from hand to hand, for those that the payee refuses,
and for those whose secret no message carries, so that it goes over both chains' registries.

In the end each payment was made on both chains or on neither; everybody holds to the unit what that makes; and closing
all channels pays that out. A case that fails says how to see it again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import product

import msgspec

from simulation.one_crossing import (
    DEPTH,
    MOMENTS,
    PACES,
    SEATS,
    STALLS,
    Case,
    Death,
    Nothing,
    Outcome,
    Rewrite,
    Stop,
    Way,
    live_through,
)
from simulation.seeds import Failed, replayed
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.testing.gates import RECEIVE, SUBMIT

AT_ONCE = 4
"""Payments of one case."""
WINDOW = range(-1, 4)
"""Effects before and after a first registration at which nodes die, where secrets go over the registries."""


def play(case: Case, seed: int, count: int = AT_ONCE) -> Outcome:
    """Play a case; raise Failed, with the line that plays it again, if anything is wrong."""
    text = msgspec.json.encode(case).decode()
    with replayed("crossings", f"--seed {seed} --at-once {count} --case '{text}'", lambda: f"{case}"):
        return simulate(live_through, seed, case, seed, count)


# --- all cases -----------------------------------------------------------------------------------------------------


def cases(seed: int, pace: int, count: int = AT_ONCE) -> Iterator[Case]:
    """Yield all cases of a seed and a pace: dry runs say which effects there are."""
    for way in Way:
        dry = play(Case(way, Nothing(), pace), seed, count)
        if dry.paid != (0 if way is Way.REFUSED else count):
            raise Failed(f"{dry.paid} of {count} were paid though nothing went wrong")
        yield Case(way, Nothing(), pace)
        for seat in SEATS:
            effects = dry.effects[seat]
            for effect in _deadly(way, effects, dry.steps[seat]):
                afterwards = (False,) if effects[effect] == RECEIVE else (False, True)
                for after, both in product(afterwards, (False, True) if seat.name == "hub" else (False,)):
                    yield Case(way, Death(seat, effect, after, both), pace)
    for chain, depth, keep in product((0, 1), range(1, DEPTH + 1), (True, False)):
        for later in range(-1, depth):
            yield Case(Way.REGISTRY, Rewrite(chain, depth, later, keep), pace)
    for way, chain, moment, seconds in product(Way, (0, 1), MOMENTS, STALLS):
        if way is Way.REGISTRY or moment not in ("shown", "claimed"):
            yield Case(way, Stop(chain, moment, seconds), pace)


def _deadly(way: Way, effects: list[str], steps: list[int]) -> list[int]:
    """Return the effects at which a node dies: all, or those around the registrations and each transaction's."""
    if way is not Way.REGISTRY:
        return list(range(len(effects)))
    near = {step + offset for step in steps for offset in WINDOW}
    sent = [number for number, kind in enumerate(effects) if kind == SUBMIT][:1]
    return sorted(number for number in near.union(sent) if 0 <= number < len(effects))


class Line(msgspec.Struct):
    """A line of the table."""

    played: int = 0
    struck: int = 0
    payments: int = 0
    paid: int = 0


def run_crossings(seed: int, payments: int, at_once: int, tell: Callable[[str], None]) -> dict[tuple[str, str], Line]:
    """Play cases until so many payments were asked for: all if there are enough, else evenly chosen ones.

    Return what came of them, by fault and way. Raise Failed if anything is wrong.
    """
    table: dict[tuple[str, str], Line] = {}
    wanted, done, lap = -(-payments // at_once), 0, 0
    while done < wanted:
        number = seed + 1_000 * lap
        known = [case for pace in range(len(PACES)) for case in cases(number, pace, at_once)]
        left = wanted - done
        chosen = known if left >= len(known) else [known[at * len(known) // left] for at in range(left)]
        tell(f"seed {number}: {len(chosen)} of {len(known)} cases")
        for case in chosen:
            outcome = play(case, number, at_once)
            line = table.setdefault((case.fault.kind, case.way.value), Line())
            line.played += 1
            line.struck += bool(outcome.struck)
            line.payments += at_once
            line.paid += outcome.paid
            done += 1
            if done % 50 == 0:
                tell(f"  {done} of {wanted}")
        lap += 1
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign of a seed, or one case of it; print a table; return 1 if anybody lost."""
    parser = argparse.ArgumentParser(description="Payments between two chains, with everything that goes wrong.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--payments", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    parser.add_argument("--case", help="play this one alone, as a failure prints it")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.case:
            print(play(msgspec.json.decode(chosen.case, type=Case), chosen.seed, chosen.at_once).paid, "were paid")
            return 0
        table = run_crossings(chosen.seed, chosen.payments, chosen.at_once, lambda text: print(text, flush=True))
    except Failed as error:
        print(f"seed {chosen.seed}: FAILED {error}", flush=True)
        return 1
    print(f"{'what went wrong':16}{'secrets go':14}{'cases':>8}{'it struck':>12}{'payments':>10}{'paid':>8}")
    for (kind, way), line in sorted(table.items()):
        print(f"{kind:16}{way:14}{line.played:>8}{line.struck:>12}{line.payments:>10}{line.paid:>8}")
    asked, paid = (sum(getattr(line, name) for line in table.values()) for name in ("payments", "paid"))
    print(f"seed {chosen.seed}: {asked} payments, {paid} made on both chains, {asked - paid} on neither; nobody lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
