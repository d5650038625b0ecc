"""Nothing is stored that would be read back as something else: rows take what their moments' types say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE, ChannelId
from tallystick.channels.storage.schema import UpdateSigned
from tallystick.channels.storage.store import Moment
from tallystick.channels.storage.writer import Writer
from tallystick.router.receiving.issued import InvoiceIssued
from tallystick.sdk.node.whereabouts import PeerKnown

ID = ChannelId(b"c" * 32)
WRONG: list[Moment] = [
    PeerKnown("key", "address"),  # type: ignore[arg-type]
    PeerKnown(b"key", b"address"),  # type: ignore[arg-type]
    PeerKnown(bytearray(b"key"), "address"),  # type: ignore[arg-type]
    UpdateSigned(ID, True, 0, 1, b"frame", 1.0, ()),
    UpdateSigned(ID, 1.0, 0, 1, b"frame", 1.0, ()),  # type: ignore[arg-type]
    UpdateSigned(ID, 1, 0, 1, "frame", 1.0, ()),  # type: ignore[arg-type]
    UpdateSigned(ID, 1, 0, 1, b"frame", "now", ()),  # type: ignore[arg-type]
    InvoiceIssued(b"h" * 32, b"s" * 32, b"", 5, 1, 1, 2, "memo", "text"),  # type: ignore[arg-type]
    InvoiceIssued(b"h" * 32, b"s" * 32, b"", 5, True, 1, 2, b"memo", "text"),  # type: ignore[arg-type]
    InvoiceIssued(b"h" * 32, b"s" * 32, b"", 5, True, 1, 2, "\ud800", "text"),
]


class NoStore:
    """A disk that nothing may reach."""

    commits = 0

    def commit(self, moments: Any) -> None:
        raise AssertionError("nothing may be stored")


@pytest.mark.parametrize("moment", WRONG, ids=range(len(WRONG)))
def test_what_does_not_fit_is_refused_where_it_is_handed_in(moment: Moment) -> None:
    writer = Writer(NoStore(), inline=True)  # type: ignore[arg-type]  # the rest of a store is not asked for
    with pytest.raises(InvalidInput, match=type(moment).__name__) as refused:
        writer.add([moment])
    assert "address" not in str(refused.value).partition("must")[2] and not writer.gather().moments


def test_what_fits_is_taken(tmp_path: Path) -> None:
    writer = Writer(NoStore(), inline=True)  # type: ignore[arg-type]
    good: list[Moment] = [
        PeerKnown(b"key", "address"),
        UpdateSigned(ID, 1, 0, 1, b"frame", 1.0, ()),
        UpdateSigned(ID, 1, 0, 1, b"frame", 1, ()),
        InvoiceIssued(b"h" * 32, b"s" * 32, b"", 2**127, True, 1, 2, "Tüte", "text", asset=NATIVE),
    ]
    writer.add(good)
    assert writer.gather().moments == good
