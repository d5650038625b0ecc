"""A subject's part of the store as SQLite keeps it: data alone, which stands beside the subject in modules `sqlite`."""

from __future__ import annotations

import msgspec

from tallystick.channels.storage.store import Subject


class Schema(msgspec.Struct, frozen=True):
    """One subject's part of the store, as SQLite keeps it."""

    subject: Subject
    migrations: tuple[str, ...]
    """SQL scripts; script i brings version i to version i + 1. Once released, a script never changes."""

    @property
    def name(self) -> str:
        """The subject's name."""
        return self.subject.name
