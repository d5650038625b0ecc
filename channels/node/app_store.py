"""What a node keeps of the apps that it plays: one row for each instance, replaced with each step of it."""

from __future__ import annotations

import msgspec

from tallystick.channels.apps.instance import AppInstance
from tallystick.channels.protocol.apps import InstanceId
from tallystick.channels.protocol.codec import Codec
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.storage.store import Moment, Store, Subject
from tallystick.channels.storage.tables import Row, Rows, above, beginning, decode_column, find, table


class PlayedApp(msgspec.Struct, frozen=True):
    """An instance, and with whom and where it is played."""

    held: AppInstance
    peer: bytes
    """Public key of the other player: 33 bytes."""
    channel: ChannelId
    """In which our stake is locked; empty if it goes over hubs."""


class AppSaved(Moment, frozen=True):
    """Something has happened to an instance. From now on what it holds was signed."""

    played: PlayedApp
    over: bool = False
    """Nothing of it is open any more: it is kept as history."""


_APPS = table("apps", "instance peer channel over held")
_HELD: Codec[AppInstance] = Codec(AppInstance, canonical=False)


def _saved(rows: Rows, moment: AppSaved) -> None:
    played = moment.played
    held = played.held
    rows.put(_APPS, held.instance, played.peer, played.channel, int(moment.over), _HELD.encode(held))


APPS_PLAYED = Subject("apps", (_APPS,), {AppSaved: _saved})


def load_apps(store: Store, *, over: bool, after: bytes = b"", limit: int | None = None) -> list[PlayedApp]:
    """Return the instances that are over, or those that are not, in order of their ids: `limit` of those behind one."""
    query = _APPS.rows(above("instance", after), over=int(over), order=("instance",), limit=limit)
    return [_played(row) for row in store.read(query)]


def find_app(store: Store, instance: InstanceId) -> PlayedApp | None:
    """Return one instance, over or not; None if there is none."""
    row = find(store, _APPS, instance)
    return None if row is None else _played(row)


def apps_beginning(store: Store, digits: str, limit: int = 100) -> list[PlayedApp]:
    """Return the instances whose id begins with these hex digits, over or not."""
    return [_played(row) for row in store.read(_APPS.rows(*beginning("instance", digits), limit=limit))]


def count_apps(store: Store) -> int:
    """Return how many instances were ever stored."""
    return int(store.read(_APPS.groups())[0][0])


def _played(row: Row) -> PlayedApp:
    instance, peer, channel, _, held = row
    return PlayedApp(decode_column(_HELD, held, "apps", instance), peer, ChannelId(channel))
