"""A tower's figures as metrics, in the text that Prometheus and its like read (OpenMetrics). Pure.

Labels are kinds of things alone: no client, channel, address or transaction is named, so that nobody who reads the
metrics can tell one client's channel from another's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST, generate_latest

from tallystick.channels.node.alarms import AlarmKind
from tallystick.watchtower.claims import ClaimLeft
from tallystick.watchtower.figures import COMMIT_BOUNDS, CommitTimes, TowerStatistics, TowerStatus, Trouble, unready

CONTENT_TYPE = CONTENT_TYPE_LATEST

PREFIX = "tally_tower"


class _Collected:
    """What the exposition asks for its metrics: these here, and no registry of the whole process."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def exposition(status: TowerStatus | None, version: str) -> bytes:
    """Return what a tower says of itself as the body of an answer to a scrape. None: it is starting."""
    return bytes(generate_latest(_Collected(list(_metrics(status, version)))))  # type: ignore[no-untyped-call]


def _metrics(status: TowerStatus | None, version: str) -> Iterator[Metric]:
    yield InfoMetricFamily(f"{PREFIX}_build", "Which version runs.", {"version": version})
    yield _gauge("ready", "1 if it takes new appointments, and can defend what it has.", int(not unready(status)))
    figures = None if status is None else status.statistics
    if figures is None:
        return
    yield _kinds(
        "trouble",
        "1 for each kind of trouble that there is now, else 0.",
        "kind",
        {str(kind): int(kind in figures.trouble_kinds) for kind in Trouble},
        GaugeMetricFamily,
    )
    alarms = {str(kind): figures.alarm_kinds.get(str(kind), 0) for kind in AlarmKind}
    yield _kinds("alarms", "Alarms.", "kind", alarms, CounterMetricFamily)
    yield from _of_chain(figures)
    yield from _of_defence(figures)
    yield from _of_clients(figures)
    yield from _of_commits(figures.commits)


def _of_chain(figures: TowerStatistics) -> Iterator[Metric]:
    following = figures.follower
    yield _gauge("chain_position", "Number of the newest block that was followed; -1: none.", following.position)
    yield _gauge("chain_lag_blocks", "Blocks between the position and the chain's head.", following.lag)
    yield _gauge("chain_silence_seconds", "Since the chain node's last right answer.", following.silent, "seconds")
    if following.behind is not None:
        yield _gauge("chain_view_age_seconds", "How old the view of the chain is.", following.behind, "seconds")
    yield _counter("chain_removed_blocks", "Blocks that reorganisations removed.", following.removed)
    yield _counter("chain_faults", "Times that the chain node did not answer, or not rightly.", following.faults)


def _of_defence(figures: TowerStatistics) -> Iterator[Metric]:
    sending = figures.sender
    yield _gauge("disputes", "Channels that were closed alone, and are not over.", figures.cases)
    yield _gauge("disputes_at_work", "Of these, those for which something may have to be done.", figures.at_work)
    if figures.margin is not None:
        what = "Chain time to the nearest deadline of what has to be done; not there if nothing has to be."
        yield _gauge("deadline_margin_seconds", what, figures.margin, "seconds")
    yield _counter("challenges", "Challenges taken on.", figures.challenges)
    yield _counter("registrations", "Registrations taken on, of what pays for clients' locks.", figures.registrations)
    given_up = {str(why): figures.given_up.get(str(why), 0) for why in ClaimLeft}
    what = "Lock claims whose lock expired while they were left, by why."
    yield _kinds("claims_given_up", what, "reason", given_up, CounterMetricFamily)
    yield _kinds(
        "transactions",
        "What is on its way to the chain: without a nonce yet, or with one.",
        "status",
        {"waiting": sending.waiting, "sent": sending.sent},
        GaugeMetricFamily,
    )
    ends = {"done": sending.done, "superseded": sending.superseded, "quarantined": sending.quarantined}
    what = "What has ended of it: done, not needed any more, or given up for a person to see to."
    yield _kinds("transactions_ended", what, "end", ends, CounterMetricFamily)
    yield _gauge("transactions_held_up", "What is on its way and held up.", len(sending.troubled))
    yield _counter("submissions", "Transactions handed to the chain node, repetitions included.", sending.submitted)
    yield _counter("fees_spent", "Fees of confirmed transactions, in the coin's smallest unit.", sending.fees)
    if figures.fee_account is not None and figures.fees_needed is not None:
        yield _gauge("fee_account", "What the account for fees holds, in the same unit.", figures.fee_account)
        what = "What it has to hold for new appointments to be taken, in the same unit."
        yield _gauge("fee_account_needed", what, figures.fees_needed)


def _of_clients(figures: TowerStatistics) -> Iterator[Metric]:
    yield _gauge("appointments", "Appointments held.", figures.appointments)
    yield _gauge("clients", "Different clients whose appointments are held, as counted lately.", figures.clients)
    connections = {"clients": figures.connections, "strangers": figures.strangers}
    what = "Who is connected: clients whose appointments are held, and others."
    yield _kinds("connections", what, "of", connections, GaugeMetricFamily)
    yield _counter("appointments_accepted", "Appointments and revisions that were receipted.", figures.accepted)
    yield _counter("appointments_refused", "Requests of clients that were refused.", figures.refused)
    what = "Appointments that defended nothing when they were opened."
    yield _counter("appointments_useless", what, figures.useless)


def _of_commits(commits: Mapping[str, CommitTimes]) -> Iterator[Metric]:
    what = "How long a commit took, waiting for those before it included."
    family = HistogramMetricFamily(f"{PREFIX}_commit_seconds", what, labels=["of"], unit="seconds")
    names = (*map(str, COMMIT_BOUNDS), "+Inf")
    for of, times in sorted(commits.items()):
        family.add_metric([of], list(zip(names, map(float, times.up_to), strict=True)), times.seconds)
    yield family


def _gauge(name: str, what: str, value: float, unit: str = "") -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", what, value, unit=unit)


def _counter(name: str, what: str, value: float) -> Metric:
    return CounterMetricFamily(f"{PREFIX}_{name}", f"{what} Since the start.", value)


def _kinds(
    name: str,
    what: str,
    label: str,
    values: Mapping[str, float],
    family: type[GaugeMetricFamily] | type[CounterMetricFamily],
) -> Metric:
    since = " Since the start." if family is CounterMetricFamily else ""
    found = family(f"{PREFIX}_{name}", what + since, labels=[label])
    for kind, value in values.items():
        found.add_metric([kind], value)
    return found
