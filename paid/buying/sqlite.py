"""What was bought, in a file of its own in SQLite: each purchase is in it before anything is paid.

Several processes may share a file, and so a budget.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import msgspec

from tallystick.channels.errors import StoreError
from tallystick.paid.buying.budget import Budget
from tallystick.paid.errors import NotPaid
from tallystick.paid.scheme.challenges import PaymentChallenge, challenge_of

DAY = 86_400
BUSY_SECONDS = 30.0
"""How long another process may have the file."""

BEGUN, ANSWERED, FAILED = "begun", "answered", "failed"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS purchases (
    hash TEXT PRIMARY KEY, call TEXT NOT NULL, url TEXT NOT NULL, host TEXT NOT NULL, amount TEXT NOT NULL,
    cost TEXT NOT NULL, currency TEXT NOT NULL, challenge BLOB NOT NULL, began REAL NOT NULL, day INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('begun', 'answered', 'failed'))
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS purchases_by_call ON purchases (call) WHERE state = 'begun';
CREATE INDEX IF NOT EXISTS purchases_by_day ON purchases (day, host);
"""
_COLUMNS = "hash, call, url, host, amount, cost, currency, challenge, began, state"


class Purchase(msgspec.Struct, frozen=True, kw_only=True):
    """A call that was bought, or is being bought."""

    payment_hash: str
    call: str
    """The digest of the call: method, address and body."""
    url: str
    host: str
    amount: int
    cost: int
    """With fees: what it may cost at most while it is begun, what it has cost if that is known."""
    currency: str
    challenge: PaymentChallenge
    began: float
    state: str = BEGUN
    """`begun`, `answered` or `failed`: then nothing was paid."""


class PurchaseFile:
    """The file. Its calls wait for the disk: call them in a thread, one at a time."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            path.touch(mode=0o600)  # nobody else reads it: what is in it is worth an answer
            self._database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
            self._database.execute("PRAGMA journal_mode = WAL")
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.executescript(_SCHEMA)
        except (sqlite3.DatabaseError, OSError) as error:
            raise StoreError(f"{path} cannot be used for what is bought ({error}); fix the disk or the path") from error

    def close(self) -> None:
        """Give the file up."""
        self._database.close()

    def begin(self, purchase: Purchase, budget: Budget) -> None:
        """Note a purchase before it is paid. Raise NotPaid if that is more than the budget has left for its day."""
        day = int(purchase.began // DAY)
        values = (
            purchase.payment_hash,
            purchase.call,
            purchase.url,
            purchase.host,
            str(purchase.amount),
            str(purchase.cost),
            purchase.currency,
            msgspec.json.encode(purchase.challenge.written()),
            purchase.began,
            day,
        )
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._require_room(purchase, budget, day)
            self._database.execute("INSERT INTO purchases VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'begun')", values)
            self._database.execute("COMMIT")
        except sqlite3.IntegrityError as error:
            self._database.execute("ROLLBACK")
            raise NotPaid("this invoice was paid before, for another call: a server makes one for each") from error
        except sqlite3.Error as error:
            self._roll_back()
            raise StoreError(f"a purchase cannot be kept, so nothing was paid ({error})") from error
        except BaseException:
            self._roll_back()
            raise

    def _require_room(self, purchase: Purchase, budget: Budget, day: int) -> None:
        for limit, host in ((budget.per_day, None), (budget.per_host, purchase.host)):
            if limit is None:
                continue
            spent = self.spent(day, purchase.currency, host)
            if spent + purchase.cost > limit:
                who = "in all" if host is None else f"at {host}"
                raise NotPaid(
                    f"{purchase.host} was not paid: it may cost {purchase.cost}, fees included, and of the {limit} "
                    f"that may be spent a day {who}, {spent} are"
                )

    def spent(self, day: int, currency: str, host: str | None = None) -> int:
        """Return what was spent or may yet be on a day, counted from 1970: at a host, or in all."""
        rows = self._do(
            "SELECT cost FROM purchases WHERE day = ?1 AND currency = ?2 AND state != 'failed'"
            " AND (?3 IS NULL OR host = ?3)",
            (day, currency, host),
        )
        return sum(int(cost) for (cost,) in rows)

    def unfinished(self, call: str) -> list[Purchase]:
        """Return the purchases of a call that no answer came for yet, oldest first."""
        query = f"SELECT {_COLUMNS} FROM purchases WHERE call = ? AND state = 'begun' ORDER BY began"
        return [_read(row) for row in self._do(query, (call,))]

    def purchases(self, limit: int = 100) -> list[Purchase]:
        """Return what was bought, newest first."""
        return [
            _read(row) for row in self._do(f"SELECT {_COLUMNS} FROM purchases ORDER BY began DESC LIMIT ?", (limit,))
        ]

    def end(self, payment_hash: str, state: str, cost: int | None = None) -> None:
        """Note what became of a purchase, and what it has cost if that is known."""
        told = None if cost is None else str(cost)
        query = "UPDATE purchases SET state = ?, cost = COALESCE(?, cost) WHERE hash = ? AND state = 'begun'"
        self._do(query, (state, told, payment_hash))

    def _do(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._database.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise StoreError(f"what was bought cannot be kept or read ({error}); fix the disk") from error

    def _roll_back(self) -> None:
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")


def _read(row: tuple[Any, ...]) -> Purchase:
    payment_hash, call, url, host, amount, cost, currency, challenge, began, state = row
    return Purchase(
        payment_hash=payment_hash,
        call=call,
        url=url,
        host=host,
        amount=int(amount),
        cost=int(cost),
        currency=currency,
        challenge=challenge_of(msgspec.json.decode(challenge)),
        began=began,
        state=state,
    )
