"""Words of strangers: what is safe to print, to log and to put into an error.

A peer, a tower, a chain node, an invoice or an imported graph may say anything: sequences that clear the screen, name
the window or recolour what follows, characters that turn the direction of writing, line ends that make a line of its
own look like ours. All text passes `plain` on its way into errors and alarms, and on its way to a terminal.
"""

from __future__ import annotations


def plain(text: str) -> str:
    """Return the text with everything that is not printable (or a space) written as an escape, as `repr` does."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
