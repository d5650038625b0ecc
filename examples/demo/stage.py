"""What all acts of the demo share: the chain, the keys, the screen, and the checks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from tallystick import PrivateKey, TallystickError, keccak
from tallystick.channels.protocol.objects import Address
from tallystick.sdk.bench.driver import DriverOptions

WINDOW = 60
"""Seconds of chain time in which a close can be challenged."""

RING = ("ann", "ben", "cid", "dot", "eve")
"""Who pays over several hops."""

GAME, TRADE = ("fay", "hal", "gil"), ("ina", "max")
"""Who plays for stakes, with the hub between them; who swaps, and the maker. On the simulated chain alone."""


class Wrong(TallystickError):
    """Something in the demo is not as it must be."""


class Stage:
    """See the module's docstring."""

    def __init__(self, folder: Path, console: Console, more: tuple[str, ...] = ()) -> None:
        """`more`: who takes part besides those whom every chain sees."""
        self.folder = folder
        self.console = console
        names = ("alice", "bob", "mallory", "tower", *RING, *more)
        self.keys = {name: PrivateKey(keccak(b"tallystick demo " + name.encode())) for name in names}
        self.place: Callable[[str], dict[str, Any]] = lambda name: {}
        """Which chain a party is on, as fields of `DriverOptions`."""
        self.unit = 1
        """How much of the chain's coin is one in the story."""
        self.before: dict[str, int] = {}
        self._began = time.monotonic()

    def act(self, title: str) -> None:
        """Print what the next lines are about."""
        self.console.print(f"\n[bold]{title}[/]", highlight=False)

    def tell(self, text: str) -> None:
        """Print what happens, with the seconds since the start."""
        self.console.print(f"[dim]{time.monotonic() - self._began:6.1f} s[/]  {text}", highlight=False)

    def check(self, holds: bool, text: str) -> None:
        """Print what was checked; raise Wrong if it does not hold."""
        self.tell(f"[green]✓[/] {text}" if holds else f"[red]✗ {text}[/]")
        if not holds:
            raise Wrong(f"this should hold and does not: {text}")

    def amount(self, coins: int) -> str:
        """Return coins of the chain as the story counts them, exactly."""
        whole, rest = divmod(abs(coins), self.unit)
        after = f"{rest:0{len(str(self.unit)) - 1}d}".rstrip("0") if rest else ""
        return f"{'-' if coins < 0 else ''}{whole:,}" + (f".{after}" if after else "")

    def role(
        self, name: str, *, towers: list[str] | None = None, port: int = 0, lock_seconds: int = 0, patience: int = 0
    ) -> DriverOptions:
        """Return the part that a process plays."""
        return DriverOptions(
            data=str(self.folder / name),
            **self.place(name),
            key=self.keys[name].reveal().hex(),
            challenge_period=WINDOW,
            towers=towers or [],
            port=port,
            lock_seconds=lock_seconds,
            patience=patience,
        )

    def accounts(self) -> dict[str, Address]:
        """Return every party's account by name."""
        return {name: key.address for name, key in self.keys.items()}
