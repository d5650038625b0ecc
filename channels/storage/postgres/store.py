"""The durable store in PostgreSQL: a schema of a database for each node or tower, which one process at a time owns.

Whoever opens it holds an advisory lock, which the server frees when its connection ends, and has an *epoch*: each owner
counts it up by one, and each commit is under the condition that it still is its own. So a process that was paused, or
cut off, and wakes up after another one has taken over commits nothing, and what it signed in that commit never leaves
it. With each commit the server also counts: after a connection was lost in the midst of one, the count tells whether it
took effect, and a server that has forgotten commits (restored, or replaced by one that lagged behind) is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn, TypeVar

import psycopg
from psycopg import sql
from psycopg.types.numeric import Int8BinaryDumper

from tallystick.channels.errors import InvalidInput, StoreError, StoreForeign, StoreInUse, StoreVersion
from tallystick.channels.storage.postgres.layout import layout
from tallystick.channels.storage.postgres.statements import PostgresRows
from tallystick.channels.storage.sqlite.schemas import Schema
from tallystick.channels.storage.store import Moment, Write
from tallystick.channels.storage.tables import Row, TableQuery
from tallystick.channels.values.arguments import checked

RECONNECT = 20.0
"""Seconds for which a server that is away is waited for, before the store fails."""

PAUSE = 0.2
"""Seconds between two tries to reach it."""

ATTEMPTS = 25
"""How often a lock is tried that is taken by force."""

CONNECT = 5
"""Seconds that one try may take."""

NAME_MAX = 63
"""Bytes of a schema's name."""

_OWNER = """
CREATE TABLE IF NOT EXISTS owner (
    one boolean PRIMARY KEY DEFAULT true CHECK (one), epoch bigint NOT NULL, commits bigint NOT NULL,
    holder text NOT NULL)
"""
_COUNT = "UPDATE owner SET commits = commits + 1, epoch = CASE WHEN epoch = %s THEN epoch END"
"""Fails, as an epoch cannot be nothing, and with it the whole commit, if the epoch is another owner's."""
_OWN = """
INSERT INTO owner (epoch, commits, holder) VALUES (1, 0, %s)
ON CONFLICT (one) DO UPDATE SET epoch = owner.epoch + 1, holder = excluded.holder RETURNING epoch, commits
"""
_END = """
SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid <> pg_backend_pid()
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND ((classid::bigint << 32) | objid::bigint) = %s AND objsubid = 1
"""
_MUST = (("fsync", "on"), ("full_page_writes", "on"))
"""What the server has to be set to, or a commit is durable in name only."""

T = TypeVar("T")
Connection = psycopg.Connection[Row]


class PostgresStore:
    """A `Store` in a schema of a PostgreSQL database. Make it with `open_postgres`."""

    healed: tuple[str, ...] = ()

    def __init__(self, url: str, name: str, schemas: Iterable[Schema], owner: str, *, force: bool = False) -> None:
        schemas = tuple(schemas)
        self._url = url
        self._name = name
        self._holder = f"{owner} (process {os.getpid()} of {socket.gethostname()})"
        self._writes: dict[type[Moment], Write] = {}
        for schema in schemas:
            self._writes.update(schema.subject.writes)
        self._made = layout(schemas)
        self._versions = {schema.name: len(schema.migrations) for schema in schemas}
        self._epoch = 0
        self._server_commits = 0
        self._broken = ""
        """Why nothing is written any more, "" while all is well."""
        self.commits = 0
        self._writer: Connection | None = None
        self._reader: Connection | None = None
        self._rows: PostgresRows
        self._durable: PostgresRows
        self._lock = int.from_bytes(hashlib.sha256(f"tallystick/{name}".encode()).digest()[:8], "big", signed=True)
        self._open(force=force)
        self._connect_reader()

    def commit(self, moments: Sequence[Moment]) -> None:
        """Write all moments in one transaction that is durable. Raise StoreError, with nothing written, if that fails.

        It waits for a server that is away, and finds out what became of a commit that was cut off. After StoreError
        for that the server does not come back, or somebody else owns the store, nothing is ever written.
        """
        if self._broken:
            raise StoreError(self._broken)
        try:
            self._transact(moments)
        except psycopg.Error as error:
            if not _lost(self._writer):
                raise StoreError(
                    f"the store could not write ({_said(error)}); see to the server, then restart"
                ) from error
            if not self._retake(self._server_commits):
                self._transact_again(moments)
        self._server_commits += 1
        self.commits += 1

    def _transact(self, moments: Sequence[Moment]) -> None:
        """Send the whole transaction at once, and wait for what becomes of it."""
        assert self._writer is not None
        rows, writes = self._rows, self._writes
        try:
            with self._writer.pipeline(), self._writer.transaction():
                self._writer.execute(_COUNT, (self._epoch,))
                for moment in moments:
                    writes[type(moment)](rows, moment)
        except psycopg.errors.NotNullViolation as error:
            if error.diag.table_name != "owner":
                raise
            self._refuse(
                f"the store was taken over by {self._owner_now()}: this process writes nothing any more", error
            )

    def _transact_again(self, moments: Sequence[Moment]) -> None:
        try:
            self._transact(moments)
        except psycopg.Error as error:
            self._refuse(f"the store could not write ({_said(error)}), twice; see to the server, then restart", error)

    def read(self, query: TableQuery) -> list[Row]:
        """Return the rows of a query over what is durable. Meanwhile a server that is away is waited for."""
        try:
            if self._reader is None or self._reader.closed:
                self._connect_reader()
            return self._durable.read(query)
        except psycopg.Error as error:
            if not _lost(self._reader):
                raise StoreError(
                    f"the store could not be read ({_said(error)}); see to the server, then restart"
                ) from error
        self._connect_reader()
        try:
            return self._durable.read(query)
        except psycopg.Error as error:
            raise StoreError(
                f"the store could not be read ({_said(error)}); see to the server, then restart"
            ) from error

    def close(self) -> None:
        """Give up the store."""
        self._broken = self._broken or "the store is closed"
        for connection in (self._writer, self._reader):
            if connection is not None:
                connection.close()

    def _open(self, *, force: bool) -> None:
        """Take the store, whose tables are made at the first time, or fail with the reason."""
        try:
            writer = self._connect()
        except psycopg.Error as error:
            raise StoreError(f"the database cannot be reached: {_said(error)}") from error
        try:
            self._take(writer, force=force)
            with writer.transaction():
                self._bring_up(writer)
                row = writer.execute(_OWN, (self._holder,)).fetchone()
            assert row is not None
            self._epoch, self._server_commits = row
        except psycopg.Error as error:
            writer.close()
            raise StoreError(f"the store {self._name} cannot be opened: {_said(error)}") from error
        except BaseException:
            writer.close()
            raise
        self._set_writer(writer)

    def _set_writer(self, writer: Connection) -> None:
        self._writer, self._rows = writer, PostgresRows(writer, self._made)

    def _connect_reader(self) -> None:
        reader = self._patiently(self._connect)
        reader.execute("SET default_transaction_read_only TO on")
        self._reader, self._durable = reader, PostgresRows(reader, self._made)

    def _connect(self) -> Connection:
        connection = psycopg.connect(
            self._url,
            autocommit=True,
            connect_timeout=CONNECT,
            prepare_threshold=1,
            target_session_attrs="read-write",
            application_name="tallystick",
            keepalives_idle=5,
            keepalives_interval=2,
            keepalives_count=3,
        )
        connection.adapters.register_dumper(int, Int8BinaryDumper)
        connection.prepared_max = 1_000
        connection.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(self._name)))
        connection.execute("SET synchronous_commit TO on")
        connection.execute("SET lock_timeout TO '5s'")
        return connection

    def _patiently(self, act: Callable[[], T]) -> T:
        """Do what needs the server, waiting for it up to RECONNECT seconds."""
        until = time.monotonic() + RECONNECT
        while True:
            try:
                return act()
            except psycopg.OperationalError as error:
                if time.monotonic() > until:
                    self._refuse(f"the database does not come back ({_said(error)}); see to it, then restart", error)
            time.sleep(PAUSE)

    def _retake(self, before: int) -> bool:
        """Connect anew as the owner that this process is; return whether the commit after `before` took effect."""
        if self._writer is not None:
            self._writer.close()
        writer, commits = self._patiently(self._again)
        if commits not in (before, before + 1):
            writer.close()
            self._refuse(
                f"the database has forgotten commits (it counts {commits}, and has confirmed {before}): it was "
                "restored, or replaced by one that lagged behind; going on would sign numbers twice: see 'Damage' in "
                "docs/operations.md"
            )
        self._set_writer(writer)
        return commits == before + 1

    def _again(self) -> tuple[Connection, int]:
        """Connect, hold the lock, and return how many commits there are. Refuse if somebody else has the store."""
        writer = self._connect()
        try:
            row = writer.execute("SELECT epoch, commits FROM owner").fetchone()
            if row is None or row[0] != self._epoch:
                self._refuse(f"the store was taken over by {self._owner_now()}: this process writes nothing any more")
            writer.execute(_END, (self._lock,))  # the connection that was lost, which the server may hold for alive
            self._take(writer)
            return writer, int(row[1])
        except StoreInUse as error:
            writer.close()
            raise psycopg.OperationalError(str(error)) from error  # to be tried again
        except BaseException:
            writer.close()
            raise

    def _take(self, writer: Connection, *, force: bool = False) -> None:
        """Hold the lock of this store on a connection. Raise StoreInUse, naming the holder, unless by `force`."""
        for attempt in range(ATTEMPTS):
            row = writer.execute("SELECT pg_try_advisory_lock(%s)", (self._lock,)).fetchone()
            if row is not None and row[0]:
                return
            if not force:
                break
            if attempt:
                time.sleep(PAUSE)
            writer.execute(_END, (self._lock,))
        raise StoreInUse(
            f"the store {self._name} is in use by {self._owner_now()}; stop that program first, or choose another store"
        )

    def _owner_now(self) -> str:
        """Return who has the store, as it called itself."""
        with contextlib.suppress(psycopg.Error), contextlib.closing(self._connect()) as connection:
            row = connection.execute("SELECT holder FROM owner").fetchone()
            if row is not None:
                return str(row[0])
        return "another process"

    def _bring_up(self, writer: Connection) -> None:
        """Make the tables if there are none. Raise StoreVersion or StoreForeign if they are not ours."""
        for name, value in _MUST:
            row = writer.execute("SELECT current_setting(%s)", (name,)).fetchone()
            if row is None or row[0] != value:
                raise StoreError(
                    f"the server's setting {name} is not {value}: what it confirms may be lost, and with it money"
                )
        writer.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(self._name)))
        writer.execute("CREATE TABLE IF NOT EXISTS schemas (name text PRIMARY KEY, version integer NOT NULL)")
        writer.execute(_OWNER)
        found: dict[str, int] = dict(writer.execute("SELECT name, version FROM schemas").fetchall())
        unknown = sorted(found.keys() - self._versions.keys())
        if unknown:
            raise StoreForeign(
                f"the store {self._name} has parts ({', '.join(unknown)}) that this program does not know: it is of "
                "another kind of program, or of a newer version"
            )
        for name, version in found.items():
            if version != self._versions[name]:
                raise StoreVersion(
                    f"the store's {name} part has version {version}, this program writes {self._versions[name]}: use "
                    "the program that wrote it, or move the store with `tally store move`"
                )
        if not found:
            self._create(writer)

    def _create(self, writer: Connection) -> None:
        for made in self._made.values():
            for statement in made.statements():
                writer.execute(statement.encode())
        for name, version in self._versions.items():
            writer.execute("INSERT INTO schemas VALUES (%s, %s)", (name, version))

    def _refuse(self, why: str, error: Exception | None = None) -> NoReturn:
        self._broken = why
        raise StoreError(why) from error

    def __repr__(self) -> str:
        return f"<PostgresStore {self._name} epoch={self._epoch} commits={self.commits}>"


def _lost(connection: Connection | None) -> bool:
    return connection is None or connection.broken or connection.closed


def _said(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@checked
def open_postgres(url: str, schemas: Iterable[Schema], *, name: str, owner: str, force: bool = False) -> PostgresStore:
    """Open or create the store `name` (a schema) in the database at `url` for `owner` (a name for error messages).

    `force`: take it from another process that has it, which writes nothing any more. Raise InvalidInput for a URL or a
    name that is none, StoreInUse, StoreForeign, StoreVersion or StoreError.
    """
    if not name.replace("_", "").isalnum() or not name.isascii() or name != name.lower() or len(name) > NAME_MAX:
        raise InvalidInput(f"{name!r} is no name of a store: up to {NAME_MAX} small letters, digits and underscores")
    try:
        psycopg.conninfo.conninfo_to_dict(url)
    except psycopg.Error as error:
        raise InvalidInput(f"that is no address of a database: {_said(error)}") from error
    return PostgresStore(url, name, schemas, owner, force=force)
