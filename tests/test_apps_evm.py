"""The rules of an app as a contract give the answers that they give in Python, of every state and move."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from apps_play import APPS, INSTANCE, damaged, states
from eth_abi.abi import decode, encode
from hypothesis import given, settings
from hypothesis import strategies as st

from simulation.evm import Evm, EvmReverted
from tallystick.channels.apps.interface import App, Stakes
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import Address
from tallystick.contracts import artifact

CONTRACTS = {
    "connectfour": "ConnectFour",
    "tictactoe": "TicTacToe",
    "escrow": "Escrow",
    "loan": "Loan",
    "option": "Option",
    "payout": "Payout",
    "raffle": "Raffle",
    "rps": "RockPaperScissors",
}
FINAL = 2
REFUSED = "refused"
DEPLOYER = Address(b"\x07" * 20)


class Twin(NamedTuple):
    """An app in both forms."""

    app: App
    evm: Evm
    at: Address

    def python(self, name: str, *arguments: Any) -> Any:
        try:
            answer = getattr(self.app, name)(*arguments)
        except InvalidInput:
            return REFUSED
        return FINAL if answer is None else answer

    def contract(self, name: str, *arguments: Any) -> Any:
        inputs = {"valid": ["bytes", "bytes", "uint8", "bytes32"], "turn": ["bytes"], "due": ["bytes"]}
        types = inputs.get(name, ["bytes", "uint128[2]"])
        outputs = {"valid": "bytes", "turn": "uint8", "due": "uint64"}
        data = keccak(f"{name}({','.join(types)})".encode())[:4] + encode(types, arguments)
        try:
            (answer,) = decode([outputs.get(name, "uint128[2]")], self.evm.call(self.at, data))
        except EvmReverted:
            return REFUSED
        return answer

    def agree(self, state: bytes, stakes: Stakes, moves: list[bytes]) -> None:
        """Ask both all that there is to ask."""
        questions: list[tuple[Any, ...]] = [("turn", state), ("due", state)]
        questions += [(name, state, stakes) for name in ("outcome", "forfeit")]
        questions += [("valid", state, move, by, INSTANCE) for move in moves for by in (0, 1)]
        for question in questions:
            assert self.python(*question) == self.contract(*question), question


def deployed(name: str) -> Twin:
    evm = Evm()
    evm.fund(DEPLOYER)
    return Twin(APPS[name], evm, evm.deploy(artifact(CONTRACTS[name]).code, DEPLOYER))


TWINS: dict[str, Twin] = {}


@pytest.mark.parametrize("name", sorted(CONTRACTS))
@given(data=st.data())
@settings(max_examples=25)
def test_both_forms_of_an_app_agree(name: str, data: st.DataObject) -> None:
    """In a state that can be come to, and in one that is damaged; of legal moves, of damaged ones, of either player."""
    twin = TWINS.setdefault(name, deployed(name)) if name not in TWINS else TWINS[name]
    game, state = data.draw(states(name))
    moves = game.legal(state) if twin.app.turn(state) is not None else [b"", b"\0"]
    tried = data.draw(st.sampled_from(moves))
    twin.agree(state, game.stakes, [tried, data.draw(damaged(tried))])
    twin.agree(data.draw(damaged(state)), game.stakes, [tried])


@pytest.mark.parametrize("first", [1, 2])
def test_both_forms_agree_on_who_has_won_a_board_that_nobody_can_come_to(first: int) -> None:
    """Two players with four in a line, in either order of columns."""
    columns = [bytes([stone] * 4 + [0] * 2) for stone in (first, 3 - first)]
    twin = deployed("connectfour")
    twin.agree(b"".join(columns) + bytes(30), (5, 7), [b"\0", b"\3"])
    assert twin.contract("outcome", b"".join(columns) + bytes(30), (5, 7)) == (0, 7)


@pytest.mark.parametrize("name", ["escrow", "option", "payout"])
def test_a_contract_takes_signatures_for_its_instance_alone_and_of_one_form(name: str) -> None:
    """Another instance, and the same signature with high s, are refused by both."""
    twin = deployed(name)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    game, state = _example(name)
    for move in game.legal(state):
        if len(move) > 64:
            high = move[:-32] + (order - int.from_bytes(move[-32:], "big")).to_bytes(32, "big")
            twin.agree(state, game.stakes, [move, high])
            assert twin.contract("valid", state, move, twin.app.turn(state), INSTANCE) != REFUSED
            assert twin.contract("valid", state, high, twin.app.turn(state), INSTANCE) == REFUSED
            other = keccak(INSTANCE)
            says = [ask("valid", state, move, twin.app.turn(state), other) for ask in (twin.python, twin.contract)]
            assert says[0] == says[1] and (says[0] == REFUSED) == (name != "option")


def _example(name: str) -> Any:
    found: list[Any] = []

    @given(drawn=states(name).filter(lambda drawn: drawn[1] == drawn[0].start))
    @settings(max_examples=1, database=None, derandomize=True)
    def look(drawn: Any) -> None:
        found.append(drawn)

    look()
    return found[0]
