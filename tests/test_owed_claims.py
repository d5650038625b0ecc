"""What the contract owes a node or a tower it claims by itself: if that is worth it, later and later, a few times."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import pytest
import trio

from simulation.refusals import TOKEN, refuse_payout
from simulation.tower_house import TowerHouse
from tallystick.channels.errors import InsufficientFunds, TallystickError
from tallystick.channels.node.alarms import AlarmKind
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.testing.network import MemoryNetwork
from tallystick.channels.testing.scheduling import simulate
from tallystick.sdk.node.node import Node
from tallystick.sdk.node.options import Config
from tallystick.sdk.testing.world import World, open_world
from tallystick.settlement.chain import Call, ClaimCall
from tallystick.settlement.enforcement.budgets import DutyPolicy
from tallystick.settlement.enforcement.owed_claims import CLAIM_PAUSE, CLAIM_TRIES, claim_owed, judge_claim
from tallystick.settlement.errors import Revert
from tallystick.settlement.ethereum.transactions import gas_of
from tallystick.settlement.port import Charge
from tallystick.settlement.sending.obligations import Duty, Obligation, ObligationStatus
from tallystick.settlement.simulated.chain import SimulatedChain
from tallystick.settlement.simulated.world import owed_key
from tallystick.settlement.testing.local import LocalChain
from tallystick.watchtower.tower import TowerPolicy

ELSEWHERE = Address(b"\xee" * 20)
ACCOUNT = Address(b"\x01" * 20)
TOWER = PrivateKey(b"\x0a" * 32)
FEE = 1_000
POLICY = DutyPolicy()


class Book(dict[str, Obligation]):
    """What was taken on, and what became of it."""

    def due(self, head: int, amount: int = CLAIM_TRIES * FEE, asset: Address = NATIVE, fee: int | None = FEE) -> bool:
        """Take on what is due at that block; return whether anything was."""
        found = claim_owed(self.get, asset, amount, ACCOUNT, head=head, pace=1, fee=fee, policy=POLICY)
        if found is None:
            return False
        assert found.call == ClaimCall(asset, ACCOUNT) and found.id not in self
        assert 0 < found.budget <= 3 * FEE
        self[found.id] = found
        return True

    def end(self, status: ObligationStatus, head: int) -> None:
        """Let the newest end."""
        name, newest = list(self.items())[-1]
        self[name] = msgspec.structs.replace(newest, status=status, ended=head)


def test_a_claim_that_is_refused_again_and_again_is_made_four_times_later_and_later() -> None:
    book, made = Book(), []
    for head in range(40 * CLAIM_PAUSE):
        if book.due(head):
            made.append(head)
            assert not book.due(head), "it is under way"
            book.end(ObligationStatus.SUPERSEDED, head)
    assert len(made) == CLAIM_TRIES
    pauses = [later - earlier for earlier, later in itertools.pairwise(made)]
    assert pauses == [CLAIM_PAUSE << failed for failed in (1, 2, 3)]
    assert book.due(40 * CLAIM_PAUSE, CLAIM_TRIES * FEE + 1), "more of it is another matter"


def test_the_same_amount_is_claimed_again_once_it_is_owed_again() -> None:
    book = Book()
    for head in range(0, 10 * CLAIM_PAUSE, CLAIM_PAUSE):
        assert book.due(head)
        assert not book.due(head + CLAIM_PAUSE)
        book.end(ObligationStatus.DONE, head)
        assert not book.due(head + CLAIM_PAUSE - 1), "a chain node may lag behind its own word"


def test_only_what_is_worth_all_its_tries_is_claimed() -> None:
    assert not Book().due(0, CLAIM_TRIES * FEE - 1)
    assert not Book().due(0, fee=None), "there is no hurry"
    assert not Book().due(0, 0)
    assert Book().due(0, 1, TOKEN)
    dear = POLICY.token_budget // CLAIM_TRIES + 1
    assert claim_owed({}.get, TOKEN, 10**30, ACCOUNT, head=0, pace=1, fee=dear, policy=POLICY) is None


def test_a_claim_that_fails_is_no_alarm_and_not_repeated_at_once() -> None:
    claim = Obligation(id="o", duty=Duty.CLAIM_OWED, call=ClaimCall(NATIVE, ACCOUNT), purpose="p", budget=1)
    for revert in (Revert.TRANSFER_FAILED, Revert.OUT_OF_GAS, None):
        assert judge_claim(claim, revert) is ObligationStatus.SUPERSEDED
        assert judge_claim(msgspec.structs.replace(claim, duty=None), revert) is None, "a user's own claim is his"


@pytest.mark.parametrize("asset", [NATIVE, TOKEN], ids=["coin", "token"])
def test_a_node_has_what_it_is_owed_once_it_is_refused_no_more(asset: Address) -> None:
    async def main() -> None:
        async with open_world(1, config=Config(challenge_period=600)) as world:
            alice = await refuse_payout(world, asset, 700_000)
            assert await world.until(lambda: bool(alice.alarms), 60)
            await trio.sleep(600)
            assert await alice.owed() == {asset: 700_000}, "the first claim was refused as the payout was"
            before = await world.chain.balance(alice.address, asset)
            world.chain.refuse(alice.address, asset, refuses=False)
            with trio.fail_after(3 * CLAIM_PAUSE * 5):
                while await alice.owed():  # noqa: ASYNC110 (it is asked for anew each time)
                    await trio.sleep(60)
            gained = await world.chain.balance(alice.address, asset) - before
            assert gained == 700_000 if asset == TOKEN else 0 < gained <= 700_000
            kinds = {alarm.kind for alarm in alice.alarms}
            assert kinds == {AlarmKind.PAYOUT_OWED}, "what failed on the way concerns nobody"

    simulate(main, 1)


def test_one_claim_of_an_asset_is_under_way_at_a_time() -> None:
    """It takes all: another one, as somebody saw to it that a little more is owed, would be paid for in vain."""

    async def main() -> None:
        async with open_world(1, config=Config(challenge_period=600)) as world:
            alice = await world.start("alice")
            account, sender = alice.onchain.account, alice.onchain.sender
            await account._market.ask()
            for asset, amount in ((TOKEN, 5), (TOKEN, 6), (NATIVE, 10**15), (NATIVE, 10**15 + 1)):
                await account._claim_owed({asset: amount})
            claims = [one.call for one in sender.obligations()]
            assert claims == [ClaimCall(TOKEN, alice.address), ClaimCall(NATIVE, alice.address)]

    simulate(main, 1)


def claims_of(alice: Node) -> list[Obligation]:
    return [one for one in alice.onchain.sender.obligations() if isinstance(one.call, ClaimCall)]


async def wait_refused(alice: Node) -> None:
    """Wait for her first claim, which is refused as the payout was."""
    for claim in claims_of(alice):
        await alice.onchain.sender.wait(claim.id)
    await alice.onchain.account._market.ask()


async def claiming(world: World, refuses: bool) -> tuple[Node, Obligation]:
    """Let Alice claim again what she is owed, by herself; return that, which is under way."""
    alice = await refuse_payout(world, TOKEN, 700_000)
    await wait_refused(alice)
    world.chain.refuse(alice.address, TOKEN, refuses=refuses)
    await alice.onchain.account._claim_owed({TOKEN: 700_001})
    (claim,) = (one for one in claims_of(alice) if not one.is_final)
    assert claim.duty is Duty.CLAIM_OWED
    return alice, claim


@pytest.mark.parametrize("refuses", [False, True])
def test_a_user_joins_the_claim_that_is_under_way_by_itself_or_waits_for_it(refuses: bool) -> None:
    """One of both would find nothing, and its fee be paid in vain."""

    async def main() -> None:
        async with open_world(1, config=Config(challenge_period=600)) as world:
            alice, _ = await claiming(world, refuses)
            before = len(claims_of(alice))

            async def elsewhere() -> None:
                if refuses:
                    assert await alice.claim(TOKEN, ELSEWHERE) == 700_000
                else:
                    with pytest.raises(InsufficientFunds, match="nothing"):
                        await alice.claim(TOKEN, ELSEWHERE)

            async def joins() -> None:
                if refuses:
                    with pytest.raises(TallystickError, match="transfer-failed"):
                        await alice.claim(TOKEN)
                else:
                    assert await alice.claim(TOKEN) == 700_000

            async with trio.open_nursery() as nursery:
                nursery.start_soon(elsewhere)
                nursery.start_soon(joins)
            assert len(claims_of(alice)) == before + refuses, "there is one more only if the one failed"
            assert await alice.owed() == {}

    simulate(main, 1)


def test_a_claim_that_ends_while_the_chain_is_asked_is_not_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with open_world(1, config=Config(challenge_period=600)) as world:
            alice, claim = await claiming(world, refuses=False)
            account, sender = alice.onchain.account, alice.onchain.sender
            owed = await alice.chain.owed(TOKEN, alice.address)

            async def late(asset: Address, account: Address) -> int:
                await sender.wait(claim.id)
                return owed

            monkeypatch.setattr(account._node.chain, "owed", late)
            assert await account.take_on_claim(TOKEN, alice.address) == (claim.id, 700_000)

    simulate(main, 1)


def test_nothing_is_claimed_by_itself_that_its_user_has_begun_to_claim(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with open_world(1, config=Config(challenge_period=600)) as world:
            alice = await refuse_payout(world, TOKEN, 700_000)
            account = alice.onchain.account
            await wait_refused(alice)

            async def charge(sender: Address, call: Call) -> Charge:
                await account.take_on_claim(TOKEN, ELSEWHERE)
                return Charge(gas_of(call))

            monkeypatch.setattr(account._node.chain, "charge", charge)
            await account._claim_owed({TOKEN: 700_001})
            assert [one.duty for one in claims_of(alice) if not one.is_final] == [None]

    simulate(main, 1)


def test_what_the_chain_says_would_fail_now_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def charge(self: SimulatedChain, account: Address, call: Call) -> Charge:
        return Charge(gas_of(call), fails=isinstance(call, ClaimCall))

    async def main() -> None:
        monkeypatch.setattr(SimulatedChain, "charge", charge)
        async with open_world(1, config=Config(challenge_period=600)) as world:
            alice = await refuse_payout(world, NATIVE, 700_000)
            before = await alice.balance()
            await trio.sleep(3_600)
            assert await alice.owed() == {NATIVE: 700_000} and await alice.balance() == before

    simulate(main, 1)


async def test_a_tower_claims_the_coins_that_it_is_owed(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    chain = LocalChain(funds={TOWER.address: 10**18})
    chain._branch._world[owed_key(NATIVE, TOWER.address)] = 10**9
    chain._branch._world[owed_key(TOKEN, TOWER.address)] = 10**9
    network = MemoryNetwork(1).endpoint(TOWER)
    house = TowerHouse(key=TOWER, directory=tmp_path, network=network, chain=chain, policy=TowerPolicy(), alarms=[])
    async with house.open() as (tower, _):
        await trio.sleep(200)
        (claim,) = tower.sender.obligations()
        assert claim.call == ClaimCall(NATIVE, TOWER.address) and claim.attempts
        chain._branch._world[owed_key(NATIVE, TOWER.address)] = 10**9 + 1
        await trio.sleep(200)
        assert len(tower.sender.obligations()) == 1, "that one takes all"
