"""One direction of an in-memory link: messages on their way, each with the time at which it is due."""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

import msgspec
import trio

from tallystick.channels.protocol.keys import PublicKey

JITTER = (1e-6, 1e-4)
"""Seconds, at least and at most, added to every delay, so that no two deadlines are equal."""


class Delivery(msgspec.Struct, frozen=True):
    """One message as it reached its receiver: what a trace hook is called with."""

    time: float
    """Virtual time, in trio's seconds."""
    link: int
    sender: PublicKey
    receiver: PublicKey
    message: bytes


class Wires(Protocol):
    """What a pipe asks of the network that it is in."""

    buffer: int
    """Messages on their way at which a sender must wait."""

    def draw_delay(self) -> float:
        """Draw how long one thing takes to cross the network."""

    def distance(self, a: PublicKey, b: PublicKey) -> float:
        """Return the seconds that two nodes are farther apart than others."""

    def draw_split(self, size: int) -> int:
        """Draw how many of so many messages arrive first."""

    def is_silent(self, a: PublicKey, b: PublicKey) -> bool:
        """Whether nothing passes between two nodes, and nobody is told."""

    def record(self, pipe: Pipe, messages: list[bytes]) -> None:
        """Show deliveries to whoever traces them."""


class Pipe:
    """One direction of a link: messages with the time at which each is due."""

    def __init__(self, network: Wires, number: int, sender: PublicKey, receiver: PublicKey) -> None:
        self.network = network
        self.number = number
        self.sender = sender
        self.receiver = receiver
        self.queue: deque[tuple[float, bytes]] = deque()
        self.last_due = 0.0
        self.end = math.inf
        """When the receiver learns that nothing more will come."""
        self.lossy = False
        """Nobody will read again: what is sent is lost."""
        self.lost = 0
        """Messages lost so; they fill the buffer as others do, so that a sender cannot run on for ever."""
        self.changed = trio.Event()

    def notify(self) -> None:
        """Wake whoever waits for this pipe to change."""
        self.changed.set()
        self.changed = trio.Event()

    def due(self) -> float:
        """Draw the time at which something sent now arrives: never before what was sent earlier."""
        delay = self.network.draw_delay() + self.network.distance(self.sender, self.receiver)
        self.last_due = max(self.last_due + JITTER[0], trio.current_time() + delay)
        return self.last_due

    def put(self, messages: list[bytes]) -> None:
        """Send messages off. They arrive together or, one time in eight, in two parts."""
        if self.lossy:
            self.lost += len(messages)
        if self.lossy or not messages:
            return
        split = self.network.draw_split(len(messages))
        for part in (messages[:split], messages[split:]):
            if part:
                due = self.due()
                self.queue.extend((due, message) for message in part)
        self.notify()

    def is_full(self) -> bool:
        """Whether a sender must wait."""
        return len(self.queue) + self.lost >= self.network.buffer

    def take(self) -> list[bytes]:
        """Remove and return the messages that have arrived."""
        now = trio.current_time()
        taken: list[bytes] = []
        if self.network.is_silent(self.sender, self.receiver):
            return taken
        while self.queue and self.queue[0][0] <= now:
            taken.append(self.queue.popleft()[1])
        if taken:
            self.notify()
        return taken

    def next_event(self) -> float:
        """When there will be something to take, or the end, as far as is known now."""
        if self.queue and not self.network.is_silent(self.sender, self.receiver):
            return self.queue[0][0]
        return self.known_end()

    def known_end(self) -> float:
        """When the receiver's side learns that the link is over, as far as is known now."""
        return math.inf if self.network.is_silent(self.sender, self.receiver) else self.end

    def finish(self) -> None:
        """The sender closes: what is on its way still arrives, then the end."""
        if self.end == math.inf:
            self.end = self.due()
        self.notify()

    def sever(self) -> None:
        """The wire is cut: what is on its way is lost, and so is what follows."""
        now = trio.current_time()
        while self.queue and self.queue[-1][0] > now:
            self.queue.pop()
        self.lossy = True
        self.end = min(self.end, now + self.network.draw_delay())
        self.notify()

    def abandon(self) -> None:
        """The receiver closes: nothing is read any more."""
        self.queue.clear()
        self.lossy = True
        self.notify()

    def resume(self) -> None:
        """A silent partition is over: what was held back sets out again, in order."""
        held, self.queue = self.queue, deque()
        for due, message in held:
            self.last_due = max(due, self.due())
            self.queue.append((self.last_due, message))
        if self.end < math.inf:
            self.end = self.due()
        self.notify()
