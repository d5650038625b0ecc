"""Whether who tells of a real chain is more than one: what to say to a user who relies on a single provider."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from tallystick.settlement.ethereum.evm.profiles import profile_of


def lone_word(urls: Sequence[str], chain_id: int) -> str:
    """Return what is to be said of these chain nodes of a public chain; empty if they are of two providers, or local.

    Raise InvalidInput if that is no chain's id.
    """
    profile = profile_of(chain_id)
    if not urls or not profile.depths or all(_is_here(url) for url in urls):
        return ""
    if len(urls) == 1:
        return (
            f"one chain node alone tells this program of {profile.name}: it is believed which blocks are the chain's. "
            "Name a second one, of another provider, in `rpc` (--rpc): then what makes money count is asked of both"
        )
    if len({_provider(url) for url in urls}) == 1:
        return (
            f"all chain nodes in `rpc` seem to be of one provider, {_provider(urls[0])}: what they say alike is "
            "believed. Name one of another provider, too"
        )
    return ""


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").lower()


def _is_here(url: str) -> bool:
    """Whether a node is on this machine: its user's own, most likely."""
    host = _host(url)
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _provider(url: str) -> str:
    """Return the last two labels of a host's name, or an address: who runs it, as a rule."""
    host = _host(url)
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return ".".join(host.split(".")[-2:])
