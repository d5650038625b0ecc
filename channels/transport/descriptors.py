"""How many file descriptors this process may have, and who gets how many of them.

A process that has none left can neither reach its chain node nor open its own files. So strangers share a small part,
and a part is never given to connections at all: the chain, the disk and the control API live from that.
"""

from __future__ import annotations

import contextlib
import resource

import msgspec

DESCRIPTORS_WANTED = 65_536
"""Descriptors to which a daemon raises its own limit, if the system allows as many."""

DESCRIPTORS_UNLIMITED = 1_048_576
"""What a system without a limit is taken for."""

RESERVED = 256
"""Descriptors that no connection of a peer may take: for chain, disk, control API, dials, and as a margin."""

CONTROL_STRANGERS_MAX = 64
"""Connections of the control API, at most, on which the token was not shown yet."""

STRANGERS_MAX = 256
"""Inbound connections, at most, of all peers together that have no funded channel with us."""

HANDSHAKES_MAX = 128
"""Inbound connections, at most, that have not proved a key yet."""

LINKS_MAX = 4_096
"""Inbound connections, at most, that have proved one."""


class Allowance(msgspec.Struct, frozen=True):
    """Who may have how many descriptors."""

    handshakes: int
    """Connections that have not proved a key yet."""
    strangers: int
    """Those that have, of peers without a funded channel."""
    links: int
    """Those that have, strangers included."""


def allowance(limit: int) -> Allowance:
    """Divide `limit` descriptors: the reserve first, then a quarter for strangers, an eighth for handshakes."""
    free = max(8, limit - RESERVED if limit >= 2 * RESERVED else limit // 2)
    handshakes, strangers = min(HANDSHAKES_MAX, free // 8), min(STRANGERS_MAX, free // 4)
    return Allowance(handshakes, strangers, min(LINKS_MAX, free - handshakes))


def descriptor_limit() -> int:
    """Return how many descriptors this process may have now."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return DESCRIPTORS_UNLIMITED if soft == resource.RLIM_INFINITY else soft


def raise_descriptor_limit() -> int:
    """Raise this process's limit to DESCRIPTORS_WANTED, or as near to it as the system allows; return the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else min(DESCRIPTORS_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # as it is, it is divided as well as it can be
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return descriptor_limit()
