"""Methods of a whole that one of its parts does: same name, same arguments, same words about it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
Part = TypeVar("Part")
Whole = TypeVar("Whole")


def done_by(
    part: Callable[[Whole], Part], method: Callable[Concatenate[Part, P], R]
) -> Callable[Concatenate[Whole, P], R]:
    """Return the method of the whole that has this part of it do this."""

    def done(whole: Whole, /, *arguments: P.args, **named: P.kwargs) -> R:
        return method(part(whole), *arguments, **named)

    functools.update_wrapper(done, method)
    return done
