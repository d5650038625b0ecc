"""A first block that is later than the contract's deployment is noticed: by `init`, by `doctor`, when a node starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from typer.testing import CliRunner

from simulation.evm_nodes import AT, FIXTURE, FakeChain, FakeInternet, FakeNode, refuse
from tallystick.channels.node.alarms import Alarm, AlarmKind
from tallystick.sdk.cli.app import app
from tallystick.sdk.daemon.configuration import Settings
from tallystick.sdk.daemon.daemon import open_configured_node
from tallystick.settlement.ethereum import http
from tallystick.settlement.ethereum.evm.client import EvmPlace, open_evm_chain
from tallystick.watchtower.daemon import run_tower

DEPLOYED = 4
CONTRACT = "0x" + AT.contract.hex()
ELSEWHERE = "0x" + 20 * "12"


class DeployedLately(FakeNode):
    """A node of a chain on which the contract is since a block; it keeps the state of all, or of the newest alone."""

    def __init__(self, keeps: bool = True) -> None:
        super().__init__(FakeChain(12))
        self.keeps = keeps

    def eth_getBlockByNumber(self, which: str, full: bool) -> dict[str, Any] | None:
        return super().eth_getBlockByNumber("finalized" if which == "safe" else which, full)

    def eth_getCode(self, account: str, at: str) -> str:
        if account != CONTRACT:
            return "0x"
        if at == "latest":
            return "0x60"
        if not self.keeps and int(at, 16) < len(self.known) - 1:
            refuse(-32000, "missing trie node")()
        return "0x60" if int(at, 16) >= DEPLOYED else "0x"


def init(directory: Path, *options: str) -> Any:
    """Return what came of `tally init`."""
    words = ["init", "--data", str(directory), "--light", *options]
    return CliRunner().invoke(app, words, env={"TALLY_PASSWORD": "a password"})


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let nodes answer under their host names, wherever a client is made."""

    def serve(**nodes: FakeNode) -> None:
        net, usual = FakeInternet(**nodes), http.make_client

        def make_client(url: str, timeout: float, transport: Any = None) -> Any:
            return usual(url, timeout, net)

        for module in ("client", "starting"):
            monkeypatch.setattr(f"tallystick.settlement.ethereum.evm.{module}.make_client", make_client)
        monkeypatch.setattr("tallystick.settlement.ethereum.http.make_client", make_client)

    return serve


@pytest.mark.parametrize(
    ("start", "nodes", "refused"),
    [
        (0, {"one": DeployedLately()}, False),
        (DEPLOYED, {"one": DeployedLately()}, False),
        (DEPLOYED + 1, {"one": DeployedLately()}, True),
        (DEPLOYED + 1, {"one": DeployedLately(keeps=False)}, False),
        (DEPLOYED + 1, {"one": DeployedLately(keeps=False), "two": DeployedLately()}, True),
        (DEPLOYED + 1, {"two": DeployedLately()}, True),
        (10**6, {"one": DeployedLately()}, True),
    ],
)
def test_init_refuses_a_start_that_a_node_calls_too_late(
    start: int, nodes: dict[str, FakeNode], refused: bool, served: Callable[..., None], tmp_path: Path
) -> None:
    served(**nodes)
    where = ["--rpc", "http://one", "--rpc", "http://two", "--contract", CONTRACT, "--start", str(start)]
    made = init(tmp_path, *where, "--chain-id", str(AT.chain_id))
    assert (made.exit_code != 0) is refused, made.output
    assert any(tmp_path.iterdir()) is not refused, "nothing is made that would have to be thrown away"
    if refused:
        assert f"before block {start}" in " ".join(made.output.split()) and "--start" in made.output


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--chain-id", "1", "--contract", CONTRACT], "serves chain 31337, not 1: see to --chain-id"),
        (["--chain-id", "31337", "--contract", ELSEWHERE], f"knows no contract at {ELSEWHERE}: see to --contract"),
        (["--contract", CONTRACT], "its number must be named, with --chain-id"),
        (["--chain-id", "31337", "--contract", CONTRACT.upper().replace("0X", "0x").replace("A", "a")], "is mistyped"),
    ],
)
def test_init_refuses_another_chain_or_contract_than_a_node_serves(
    options: list[str], complaint: str, served: Callable[..., None], tmp_path: Path
) -> None:
    served(one=DeployedLately())
    made = init(tmp_path, "--rpc", "http://one", "--start", str(DEPLOYED), *options)
    assert made.exit_code == 1 and complaint in " ".join(made.output.split()), made.output
    assert not any(tmp_path.iterdir())


def test_init_believes_a_start_that_a_node_has_not_come_to(served: Callable[..., None], tmp_path: Path) -> None:
    served(one=DeployedLately())
    where = ["--rpc", "http://one", "--chain-id", str(AT.chain_id), "--contract", ELSEWHERE, "--start", "13"]
    assert init(tmp_path, *where).exit_code == 0, "a node that lags knows nothing of a deployment of just now"


@pytest.mark.parametrize(
    ("start", "keeps", "grade"),
    [(10**6, True, "bad"), (DEPLOYED, True, "good"), (DEPLOYED + 1, True, "bad"), (DEPLOYED + 1, False, "limited")],
)
def test_the_doctor_looks_at_a_start(start: int, keeps: bool, grade: str, served: Callable[..., None]) -> None:
    served(one=DeployedLately(keeps))
    told = CliRunner().invoke(
        app, ["chain", "doctor", "http://one", "--contract", CONTRACT, "--start", str(start), "--json"]
    )
    (found,) = (each for each in json.loads(told.stdout)["findings"] if each["what"] == "start")
    assert found["grade"] == grade


@pytest.mark.parametrize(("start", "late"), [(DEPLOYED, False), (DEPLOYED + 1, True)])
@pytest.mark.alarm(AlarmKind.START_LATE)
async def test_a_node_and_a_tower_tell_that_they_began_too_late(
    start: int, late: bool, served: Callable[..., None], tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    served(one=DeployedLately(keeps=False), two=DeployedLately())
    alarms: list[Alarm] = []
    settings = Settings(
        rpc=("http://one", "http://two"), chain_id=AT.chain_id, contract=CONTRACT, start_block=start, listen=""
    )
    async with open_configured_node(tmp_path / "node", FIXTURE.keys[0], settings, alarm=alarms.append):
        await trio.sleep(60)
    assert [alarm.kind for alarm in alarms if alarm.kind is AlarmKind.START_LATE] == [AlarmKind.START_LATE] * late
    alarms.clear()
    place = EvmPlace(("http://one", "http://two"), AT, start)
    (tmp_path / "tower").mkdir()
    with trio.move_on_after(60):
        await run_tower(
            tmp_path / "tower",
            FIXTURE.keys[0],
            evm=place,
            host="127.0.0.1",
            port=0,
            ready=lambda status: None,
            alarm=alarms.append,
        )
    assert [alarm.kind for alarm in alarms if alarm.kind is AlarmKind.START_LATE] == [AlarmKind.START_LATE] * late


async def test_a_node_that_is_down_is_asked_again(autojump_clock: trio.testing.MockClock) -> None:
    node, alarms = DeployedLately(), list[Alarm]()
    node.status = 500
    async with (
        open_evm_chain(["http://one"], AT, jitter=lambda: 0.5, start=9, transport=FakeInternet(one=node)) as chain,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(chain.tell_if_late, alarms.append)
        await trio.sleep(100)
        assert not alarms
        node.status = 200
        await trio.sleep(1_000)
        assert [alarm.kind for alarm in alarms] == [AlarmKind.START_LATE]
        nursery.cancel_scope.cancel()
