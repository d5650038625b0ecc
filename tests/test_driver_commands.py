"""A party answers every command, whatever becomes of it: who drives it must never wait for ever."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.sdk.bench.driver import _perform


class Actor:
    async def do_many(self, command: dict[str, Any]) -> dict[str, Any]:
        async def fail() -> None:
            raise InvalidInput("one of many tasks failed")

        async with trio.open_nursery() as nursery:
            async with trio.open_nursery() as inner:
                inner.start_soon(fail)
            nursery.start_soon(fail)
        return {}

    async def do_one(self, command: dict[str, Any]) -> dict[str, Any]:
        raise InvalidInput("it failed")


@pytest.mark.parametrize(
    ("do", "error"), [("many", "one of many tasks failed"), ("one", "it failed"), ("fly", "unknown command 'fly'")]
)
async def test_a_command_that_fails_is_answered_with_its_error(
    do: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await _perform([Actor()], {"id": 7, "do": do})
    assert json.loads(capsys.readouterr().out) == {"id": 7, "ok": False, "error": error}
