"""Which address a node tells the network, and which of those that others tell it goes to.

Nobody reaches a wildcard, and a loopback address leads everybody to a machine of their own. So neither is told to
others, and neither is dialed because others told it, unless the whole setup is of one machine: this node listens on
loopback, and so does every peer that it knows an address of (as in demonstrations and tests).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from tallystick.channels.errors import InvalidInput
from tallystick.channels.ports import PeerAddress, is_host, is_port, shorten


def parse_place(text: str) -> tuple[str, int]:
    """Read `<host>:<port>`, an IPv6 address in brackets; raise InvalidInput if it is not that."""
    host, colon, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not is_host(bare) or not is_port(port) or (":" in bare) is not host.startswith("["):
        raise InvalidInput(f"an address is written <host>:<port>, IPv6 as [<address>]:<port>, not {shorten(text)!r}")
    return bare, int(port)


def write_place(host: str, port: int) -> str:
    """Return `<host>:<port>`, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def check_announced(text: str) -> None:
    """Raise InvalidInput if this is no address to tell others. Empty is fine: where one listens is told."""
    if text and is_wildcard(parse_place(text)[0]):
        raise InvalidInput(f"nobody reaches {text}: announce_address names the host under which others reach this node")


def is_wildcard(host: str) -> bool:
    """Whether that stands for every interface."""
    try:
        return not host or ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether that is everybody's own machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_one_machine(bound: PeerAddress | None, known: Iterable[PeerAddress]) -> bool:
    """Whether all that a node knows of the network is on its own machine."""
    return (bound is None or is_loopback(bound.host)) and all(is_loopback(address.host) for address in known)


def places_to_announce(setting: str, bound: PeerAddress | None, one_machine: bool) -> tuple[str, ...]:
    """Return what to tell others: the setting, else where we listen, if others can reach that."""
    if setting:
        return (write_place(*parse_place(setting)),)
    if bound is None or is_wildcard(bound.host) or (is_loopback(bound.host) and not one_machine):
        return ()
    return (write_place(bound.host, bound.port),)


def places_to_dial(announced: Iterable[str], one_machine: bool) -> tuple[str, ...]:
    """Return those of the addresses that another node tells of itself that may lead to it."""
    found = []
    for text in announced:
        try:
            host, _ = parse_place(text)
        except InvalidInput:
            continue
        if not is_wildcard(host) and (one_machine or not is_loopback(host)):
            found.append(text)
    return tuple(found)
