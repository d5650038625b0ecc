"""`tally channel record`, `export` and `replay`: from a node that runs to a table that tells why."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import trio
from test_control_api import two_nodes
from test_recording_replay import connected, with_streams
from typer.testing import CliRunner

from simulation.pair import Pair
from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.session.inputs import RequestClose, RevealSecret, SubmitLock, SubmitPayment
from tallystick.channels.session.recording.document import Recording, read, written
from tallystick.channels.session.recording.replay import Replay
from tallystick.channels.testing.clock import EPOCH
from tallystick.sdk.cli.app import app
from tallystick.sdk.errors import ControlError

SECRET = b"s" * 32


def story(deposits: tuple[int, int] = (1_000, 1_000)) -> Recording:
    """A payment, a lock that is revealed with a wrong secret first, and a close."""
    pair = Pair(deposits)
    pair.connect()
    pair.settle()
    pair.bob.engine.recordings.begin(pair.id)
    pair.alice.apply(SubmitPayment(deposits[0] // 2, b"memo"))
    pair.settle()
    pair.alice.apply(SubmitLock(7, int(EPOCH) + 900, digest_of(SECRET)))
    pair.settle()
    with pytest.raises(Exception, match="does not open"):
        pair.bob.apply(RevealSecret(0, b"t" * 32))
    pair.bob.apply(RevealSecret(0, SECRET))
    pair.settle()
    pair.bob.apply(RequestClose())
    pair.settle()
    return pair.bob.engine.recordings.of(pair.id)


def test_a_replay_shows_state_by_state_what_happened_and_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "channel.recording"
    file.write_bytes(written(story()))
    monkeypatch.setenv("COLUMNS", "300")
    shown = CliRunner().invoke(app, ["channel", "replay", str(file)])
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    assert any("RevealSecret" in line and "does not open lock 0" in line for line in lines)
    assert any("Update" in line and "open" in line and "in step" in line for line in lines)
    assert "frozen" in shown.output and "CloseAccept" in shown.output


@pytest.mark.parametrize("deposit", [1_000, AMOUNT_MAX // 4])
def test_programs_get_every_state_as_json(tmp_path: Path, deposit: int) -> None:
    file = tmp_path / "channel.recording"
    file.write_bytes(written(story((deposit, 1_000))))
    shown = CliRunner().invoke(app, ["channel", "replay", str(file), "--json"])
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.output)
    assert found["whole"] is True and all(step["agrees"] for step in found["steps"])
    assert sum("does not open" in step["refused"] for step in found["steps"]) == 1
    assert [step["number"] for step in found["steps"]] == list(range(len(found["steps"])))


def test_a_replay_that_departs_says_where_and_fails(tmp_path: Path) -> None:
    recording = story()
    without = tuple(step for step in recording.steps if step.kind != "RevealSecret")
    file = tmp_path / "channel.recording"
    file.write_bytes(written(Recording(recording.start, without, False)))
    shown = CliRunner().invoke(app, ["channel", "replay", str(file)])
    assert shown.exit_code == 1 and "the states are not those that were recorded" in shown.output
    assert "more happened since" in shown.output


def test_what_is_no_recording_is_refused_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "channel.recording"
    for data, says in ((None, "cannot be read"), (b"nonsense", "no recording"), (written(story())[:-9], "damaged")):
        if data is not None:
            file.write_bytes(data)
        shown = CliRunner().invoke(app, ["channel", "replay", str(file)])
        assert shown.exit_code == 1 and says in shown.output and "Traceback" not in shown.output


def test_a_recording_that_cannot_have_been_is_refused_in_a_sentence_too(tmp_path: Path) -> None:
    pair = connected()
    with_streams(pair)
    pair.alice.engine.recordings.begin(pair.id)
    found = pair.alice.engine.recordings.of(pair.id)
    (stream,) = found.start.outgoing
    start = msgspec.structs.replace(found.start, outgoing=(msgspec.structs.replace(stream, length=0),))
    file = tmp_path / "channel.recording"
    file.write_bytes(written(Recording(start, (), True)))
    shown = CliRunner().invoke(app, ["channel", "replay", str(file)])
    assert shown.exit_code == 1 and "a stream has from 1 to" in shown.output


async def test_a_running_node_records_a_channel_and_hands_out_the_file(tmp_path: Path) -> None:
    async with two_nodes(tmp_path) as pair:
        channel = (await pair.alice.open_channel(pair.bob_address, 1_000_000)).id
        with pytest.raises(ControlError, match="tally channel record"):
            await pair.alice.recording(channel)
        await pair.alice.record(channel[:8])
        await pair.alice.pay(channel, 250, memo="a private memo", key="order-17")
        with trio.fail_after(10):
            text = (await pair.alice.recording(channel[:8])).file
        lived = list(Replay(read(text.encode())).run())
        assert all(one.agrees for one in lived) and "SubmitPayment" in {one.what for one in lived}
        assert lived[-1].state.channel.newest.proof.transferred == 250
        assert "order-17" not in text and "private" not in text
        await pair.alice.record(channel, on=False)
        with pytest.raises(ControlError, match="not being recorded"):
            await pair.alice.recording(channel)
