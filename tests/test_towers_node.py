"""The registry of towers on a real Ethereum node: a bond, covers, a broken promise that is paid, what is taken out."""

from __future__ import annotations

import msgspec
import pytest
from eth_abi.abi import decode, encode

from simulation.disputes import PERIOD, ChannelFixture
from simulation.evm import calldata
from simulation.evm_adjudicator import SIGNATURE, TERMS, compact
from simulation.evm_house import CAROL, EvmHouse
from simulation.local_evm import on_a_node
from simulation.tower_twins import COVER
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import Address
from tallystick.contracts import artifact
from tallystick.settlement.chain import DepositCall, OpenCall, SettleCall
from tallystick.settlement.ethereum.abi import Envelope, terms_values
from tallystick.settlement.ethereum.rpc_shapes import to_hex
from tallystick.settlement.modules.covers import ACCUSE_TIME, TowerCover, TowerPromise, digest_cover, digest_promise
from tallystick.settlement.testing.anvil import Anvil, start_anvil

BOND = 10**18
TOWER = PrivateKey(keccak(b"a tower on a node"))

pytestmark = [pytest.mark.processes, on_a_node]


class Registry:
    """The contract, and who calls it."""

    def __init__(self, node: Anvil, house: EvmHouse) -> None:
        self.node, self.house = node, house
        self.at = house.create(artifact("Towers").code + encode(["address"], [house.at.contract]))
        node.fund(TOWER.address)

    def call(
        self, key: PrivateKey, name: str, types: tuple[str, ...], values: tuple[object, ...], value: int = 0
    ) -> None:
        """Make a call that must succeed."""
        self.house.send(key, Envelope(self.at, value, calldata(name, types, values)))

    def bond(self) -> tuple[int, int]:
        """Return the tower's bond, and what of it is set apart."""
        data = to_hex(calldata("tower", ("address",), (TOWER.address,)))
        answer = self.node.ask("eth_call", {"to": to_hex(self.at), "data": data}, "latest")
        said = decode(("uint128", "uint128", "uint64", "uint64", "uint64", "uint128"), bytes.fromhex(answer[2:]))
        return said[0], said[1]

    def balance(self, account: Address) -> int:
        """Return what an account holds, as the node says."""
        return int(self.node.ask("eth_getBalance", to_hex(account), "latest"), 16)

    def now(self) -> int:
        """Return the newest block's time."""
        return int(self.node.ask("eth_getBlockByNumber", "latest", False)["timestamp"], 16)


def signed(digest: bytes) -> tuple[bytes, int]:
    return compact(digest, TOWER.sign(digest), TOWER.address)


async def test_a_broken_promise_is_paid_on_a_real_node_before_and_after_the_settlement() -> None:
    with start_anvil() as node:
        house = EvmHouse(node, node.url)
        registry = Registry(node, house)
        channel = ChannelFixture(chain_id=house.chain_id, contract=house.at.contract)
        terms, client = terms_values(channel.terms), channel.address(0)
        registry.call(TOWER, "bond", ("uint128",), (BOND,), BOND)
        async with house.client() as chain:
            await house.make(chain, channel.keys[0], OpenCall(channel.terms, 600))
            await house.make(chain, channel.keys[1], DepositCall(channel.id, 1, 400))
            now, covers = registry.now(), list[TowerCover]()
            for amount in (10**17, 2 * 10**17, 3 * 10**17):
                cover = TowerCover(channel.id, TOWER.address, client, amount, now + 3_600, PERIOD, 7, now + 600)
                words = msgspec.structs.astuple(cover)[1:]
                name = digest_cover(house.chain_id, registry.at, cover)
                registry.call(CAROL, "reserve", (TERMS, COVER, SIGNATURE), (terms, words, signed(name)), 7)
                covers.append(cover)
            assert registry.bond() == (BOND + 21, 6 * 10**17)
            since = registry.now() + 1
            node.advance(2)
            await house.make(chain, channel.keys[1], channel.close())
            node.advance(PERIOD + 1)
            for number, cover in enumerate(covers[:2]):
                before = registry.balance(client)
                accuse(registry, terms, cover, since)
                assert registry.balance(client) == before + cover.amount
                if not number:
                    await house.make(chain, channel.keys[1], SettleCall(channel.id))
            node.advance(3_600 + PERIOD + ACCUSE_TIME + 1)
            words = msgspec.structs.astuple(covers[2])[1:]
            registry.call(CAROL, "release", ("bytes32", COVER), (channel.id, words))
            left = BOND + 21 - 3 * 10**17
            assert registry.bond() == (left, 0)
            registry.call(TOWER, "withdraw", ("uint128",), (left,))
            assert registry.bond() == (0, 0) and registry.balance(registry.at) == 0


def accuse(registry: Registry, terms: tuple[object, ...], cover: TowerCover, since: int) -> None:
    """Show the promise of 3 and 4; Carol does."""
    chain_id, at = registry.house.chain_id, registry.at
    promise = TowerPromise(digest_cover(chain_id, at, cover), since, 3, 4)
    words = (terms, msgspec.structs.astuple(cover)[1:], since, 3, 4, signed(digest_promise(chain_id, at, promise)))
    registry.call(CAROL, "accuse", (TERMS, COVER, "uint64", "uint64", "uint64", SIGNATURE), words)
