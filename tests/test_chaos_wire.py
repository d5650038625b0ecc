"""A client of a chain node whose answers are damaged: it errs as it says, in time, and believes no nonsense."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, ChannelId
from tallystick.settlement.chain import Block, Header, TransactionReceipt, TransferCall
from tallystick.settlement.errors import ChainError, ChainUnavailable, TransactionRefused
from tallystick.settlement.ethereum.abi import Deployment
from tallystick.settlement.ethereum.rpc_client import RpcChain, open_rpc_chain
from tallystick.settlement.ethereum.transactions import sign_call
from tallystick.settlement.simulated.rpc_server import make_app
from tallystick.settlement.testing.chaos_wire import ChaosWire, Damage
from tallystick.settlement.testing.local import LocalChain

KEY = PrivateKey(b"\1" * 32)
FAULTS = (ChainUnavailable, ChainError, TransactionRefused)


def questions(chain: RpcChain, honest: LocalChain, raw: bytes) -> list[tuple[type, Callable[[], Awaitable[Any]]]]:
    newest = honest.newest
    return [
        (Header, chain.head),
        (Header, lambda: chain.header(newest.header.number)),
        (tuple, lambda: chain.blocks(0, 10)),
        (TransactionReceipt, lambda: chain.receipt(newest.entries[0].hash)),
        (int, lambda: chain.nonce(KEY.address)),
        (int, chain.fee_price),
        (int, lambda: chain.balance(KEY.address, NATIVE)),
        (int, lambda: chain.channel_count(KEY.address, bytes(20), NATIVE)),  # type: ignore[arg-type]
        (object, lambda: chain.channel(ChannelId(bytes(32)))),
        (object, lambda: chain.secret_time(bytes(32))),
        (bytes, lambda: chain.submit(raw)),
    ]


def a_chain() -> tuple[LocalChain, bytes]:
    chain = LocalChain(funds={KEY.address: 10**18})
    call = TransferCall(NATIVE, KEY.address, 5)
    raw = sign_call(KEY, chain.chain_id, chain.contract, call, 0, 10)
    chain._branch.submit(raw)
    chain.mine()
    return chain, raw


@pytest.mark.parametrize("damage", list(Damage))
async def test_each_kind_of_damage_is_an_error_or_does_no_harm(damage: Damage, autojump_clock: MockClock) -> None:
    honest, raw = a_chain()
    rng = random.Random(f"wire {damage}")
    wire = ChaosWire(httpx.ASGITransport(make_app(honest)), rng, rate=0.0, damages=(damage,))
    at = Deployment(honest.chain_id, honest.contract)
    faults = 0
    async with open_rpc_chain("http://node", jitter=rng.random, expected=at, transport=wire) as chain:
        truth = [await ask() for _, ask in questions(chain, honest, raw)]
        wire.rate = 0.5
        asked = questions(chain, honest, raw)
        for _ in range(6 if damage is not Damage.FLOODS else 1):
            for kind, ask in asked if damage is not Damage.FLOODS else asked[:3]:
                with trio.fail_after(200):
                    try:
                        _check(kind, await ask())
                    except FAULTS as error:
                        assert "\x1b" not in str(error) and len(str(error)) < 1_000
                        faults += 1
        wire.rate = 0.0
        assert [await ask() for _, ask in questions(chain, honest, raw)] == truth
    assert wire.done[damage] and (faults or damage in (Damage.WRONG_ID,))


def _check(kind: type, answer: Any) -> None:
    assert isinstance(answer, kind) or (kind in (Header, TransactionReceipt) and answer is None)
    match answer:
        case bool():
            pass
        case int():
            assert 0 <= answer < 2**256
        case Header():
            assert 0 <= answer.number < 2**63 and 0 <= answer.time < 2**63 and len(answer.hash) == 32
        case TransactionReceipt():
            assert 0 <= answer.fee < 2**256 and answer.block.number < 2**63
        case (Block(), *_):
            for block in answer:
                _check(Header, block.header)
        case _:
            pass
