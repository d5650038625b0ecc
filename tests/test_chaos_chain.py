"""The lying chain node: it tells every lie, in spells, the same for the same seed, and the truth between them."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId
from tallystick.channels.testing.scheduling import simulate
from tallystick.settlement.chain import TransferCall
from tallystick.settlement.errors import ChainError, ChainUnavailable, TransactionRefused
from tallystick.settlement.ethereum.transactions import sign_call
from tallystick.settlement.testing.chaos import HANG, Chaos, ChaosChain, Lie
from tallystick.settlement.testing.local import LocalChain

ALICE, BOB = PrivateKey(b"\1" * 32), PrivateKey(b"\2" * 32)
FAULTS = (ChainUnavailable, ChainError, TransactionRefused)
ALWAYS_ON = {"calm": (0.0, 0.0), "spell": (1_000.0, 1_000.0), "rate": 1.0}


def a_chain() -> LocalChain:
    """A chain of twelve blocks, with a transaction of Alice's in each of the last ten."""
    chain = LocalChain(funds={ALICE.address: 10**18})
    chain.mine()
    for nonce in range(10):
        chain._branch.submit(pay(chain, nonce))
        chain.mine()
    return chain


def pay(chain: LocalChain, nonce: int) -> bytes:
    call = TransferCall(NATIVE, BOB.address, 5)
    return sign_call(ALICE, chain.chain_id, chain.contract, call, nonce, 10)


def questions(chain: ChaosChain, honest: LocalChain) -> list[Callable[[], Awaitable[Any]]]:
    """Everything that can be asked; the answer of none changes the chain."""
    newest = honest.newest
    (entry,) = newest.entries
    return [
        chain.head,
        lambda: chain.header(newest.header.number),
        lambda: chain.blocks(0, 100),
        lambda: chain.receipt(entry.hash),
        lambda: chain.nonce(ALICE.address),
        chain.fee_price,
        lambda: chain.balance(BOB.address, NATIVE),
        lambda: chain.channel(ChannelId(bytes(32))),
        lambda: chain.channel_count(ALICE.address, BOB.address, NATIVE),
        lambda: chain.secret_time(bytes(32)),
        lambda: chain.submit(entry.raw),
    ]


async def answer_to(ask: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await ask()
    except FAULTS as error:
        return f"{type(error).__name__}: {error}"


def a_run(seed: int, chaos: Chaos) -> tuple[str, Counter[str]]:
    """Return a hash of everything that was answered in half an hour, and what lies were told."""

    async def main() -> tuple[str, Counter[str]]:
        honest = a_chain()
        chain = ChaosChain(honest, random.Random(seed), chaos)
        chain.start()
        heard = hashlib.sha256()
        for _ in range(180):
            for ask in questions(chain, honest):
                heard.update(repr((trio.current_time(), await answer_to(ask))).encode())
            await trio.sleep(10)
            honest.mine()
            honest._branch.submit(pay(honest, await honest.nonce(ALICE.address)))
            honest.mine()
        return heard.hexdigest(), chain.told

    return simulate(main, seed)


def test_the_same_seed_tells_the_same_lies_at_the_same_times() -> None:
    one, other, third = a_run(1, Chaos()), a_run(1, Chaos()), a_run(2, Chaos())
    assert one == other and one[0] != third[0]


@pytest.mark.parametrize("lie", list(Lie))
def test_each_lie_is_told(lie: Lie) -> None:
    honest = simulate(_honest, 1)

    async def main() -> tuple[list[Any], int]:
        inner = a_chain()
        chain = ChaosChain(inner, random.Random(4), Chaos(lies=(lie,), **ALWAYS_ON))
        chain.start()
        heard = []
        for _ in range(6):
            heard += [await answer_to(ask) for ask in questions(chain, inner)]
        return heard, chain.told[lie]

    heard, told = simulate(main, 1)
    assert told
    if lie not in (Lie.STILL, Lie.REPEATS, Lie.DROPS, Lie.NO_EVENTS, Lie.NO_CHANNEL):  # nothing has changed meanwhile
        assert [str(answer) for answer in heard] != [str(answer) for answer in 6 * honest]


async def _honest() -> list[Any]:
    inner = a_chain()
    return [await answer_to(ask) for ask in questions(ChaosChain(inner, random.Random(4)), inner)]


def test_what_changed_meanwhile_is_kept_back_by_who_stands_still_repeats_omits_or_drops() -> None:
    async def main() -> None:
        inner = a_chain()
        before = (await inner.head(), await inner.nonce(ALICE.address))

        async def after(lie: Lie) -> ChaosChain:
            chain = ChaosChain(inner, random.Random(1), Chaos(lies=(lie,), **ALWAYS_ON))
            chain.start()
            await chain.nonce(ALICE.address)
            await chain.head()
            return chain

        still, repeats = await after(Lie.STILL), await after(Lie.REPEATS)
        drops, omits = await after(Lie.DROPS), await after(Lie.NO_EVENTS)
        raw = pay(inner, before[1])
        await drops.submit(raw)
        assert inner.waiting() == ()
        await inner.submit(raw)
        inner.mine()
        assert (await still.head(), await still.nonce(ALICE.address)) == before
        assert await still.receipt(inner.newest.entries[0].hash) is None
        assert before[1] in [await repeats.nonce(ALICE.address) for _ in range(20)]
        assert (await omits.blocks(0, 100))[-1].events == ()

    simulate(main, 1)


def test_between_spells_and_after_it_has_healed_it_tells_the_truth() -> None:
    async def main() -> None:
        inner = a_chain()
        chain = ChaosChain(inner, random.Random(1), Chaos(rate=1.0, spell=(50, 60), calm=(70, 80)))
        truth = [await answer_to(ask) for ask in questions(chain, inner)]
        chain.start()
        spells = 0
        for second in range(1_000):
            await trio.sleep_until(second)
            spells += chain.lying
            if not chain.lying:
                assert [await answer_to(ask) for ask in questions(chain, inner)] == truth
        assert 300 < spells < 500
        for _ in range(100):
            await trio.sleep(0 if chain.lying else 1)
        assert chain.lying
        chain.heal()
        assert [await answer_to(ask) for ask in questions(chain, inner)] == truth

    simulate(main, 1)


def test_whatever_it_does_every_answer_comes_within_a_bounded_time() -> None:
    async def main() -> None:
        inner = a_chain()
        chain = ChaosChain(inner, random.Random(3), Chaos(**ALWAYS_ON))
        chain.start()
        for _ in range(10):
            for ask in [*questions(chain, inner), lambda: chain.wait(bytes(32))]:
                with trio.fail_after(2 * HANG):
                    await answer_to(ask)

    simulate(main, 1)


def test_it_can_be_asked_for_a_channel_that_is_there() -> None:
    async def main() -> None:
        chain = ChaosChain(_WithChannel(), random.Random(1), Chaos(lies=(Lie.NO_CHANNEL,), **ALWAYS_ON))
        assert await chain.channel(ChannelId(bytes(32))) is not None
        chain.start()
        assert await chain.channel(ChannelId(bytes(32))) is None

    simulate(main, 1)


class _WithChannel(LocalChain):
    async def channel(self, channel: ChannelId) -> Any:
        return Address(bytes(20))
