"""One rule book, two executions: the simulated ledger and the contract's bytecode are given the same calls.

After each call verdict, events, the channel's state and all balances must be equal: else `Differs`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from simulation.disputes import ChannelFixture
from simulation.evm import Evm, EvmReverted, Outcome, calldata, reason_in
from simulation.evm_adjudicator import CallFailed, Channel, EvmAdjudicator, LocksHeld, commitment
from simulation.evm_court import COURT_CALLS, CourtPlace, deploy_court, encode, record_of
from simulation.evm_tokens import EvmToken, code_of
from tallystick.channels.protocol.apps import InstanceId
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Terms
from tallystick.contracts import creation_code
from tallystick.settlement.chain import BATCHED_SIZE, FailedCall, LedgerEvent, SingleCall, value_of
from tallystick.settlement.contract.state import ChannelStatus, ChannelStorage, Parameters
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.simulated import ledger, registry
from tallystick.settlement.simulated.world import Layer, allowance_key, balance_key, refusal_key

TOWER = Address(b"\x77" * 20)
STRANGER = Address(b"\x88" * 20)
DEPLOYER = Address(b"\x99" * 20)
CHAIN_ID = 1337
FUNDS = 2**100


class Differs(AssertionError):
    """The two executions of the rule book do not say the same."""


class Twins:
    """A simulated ledger and an EVM with the same accounts, the same token, and the same contract address."""

    def __init__(self, *, token: str = "ordinary", time: int = 1_000_000, court: bool = False) -> None:
        """`court`: the contract has one, as the simulated ledger always does."""
        self.evm = Evm(chain_id=CHAIN_ID, time=time)
        self.evm.fund(DEPLOYER)
        self.court: CourtPlace | None = deploy_court(self.evm, DEPLOYER) if court else None
        judge = Address(bytes(20)) if self.court is None else self.court.at
        self.at = self.evm.deploy(creation_code(court=judge), DEPLOYER)
        self.contract = EvmAdjudicator(self.evm, self.at, judge)
        self.token = EvmToken(self.evm, DEPLOYER, token)
        self.rules = Parameters(CHAIN_ID, self.at)
        self.state = Layer({})
        self.with_code: set[Address] = set()
        """Accounts that have code, so that others must send what they call."""
        self.accounts = (*(ChannelFixture().address(side) for side in (0, 1)), TOWER, STRANGER)
        for account in self.accounts:
            self.evm.fund(account, FUNDS)
            self.token.mint(account, FUNDS)
            self.approve(account, 2**120)
            for asset in (NATIVE, self.token.at):
                ledger.mint(self.state, self.rules, ledger.Mint(account, asset, FUNDS))
        self.calls = 0
        self.verdicts: Counter[tuple[str, str]] = Counter()

    @property
    def time(self) -> int:
        """The time of the next call's block, on both."""
        return self.evm.time

    @time.setter
    def time(self, time: int) -> None:
        self.evm.time = time

    def channel(self, channel: ChannelId) -> ChannelStorage | None:
        """The simulated ledger's state of a channel."""
        return self.state.channel(channel)

    def approve(self, account: Address, amount: int) -> None:
        """Let the contract take so many of an account's tokens."""
        self._run(account, self.token.at, calldata("approve", ("address", "uint256"), (self.at, amount)))
        self.state.put(allowance_key(self.token.at, account), amount)

    def refuse(self, account: Address, asset: Address, refuses: bool) -> None:
        """Let an account refuse to be paid in an asset, or take it again."""
        self.state.changes[refusal_key(asset, account)] = 1 if refuses else None
        if asset != NATIVE:
            self.token.send(STRANGER, "block_to", ("address", "bool"), account, refuses)
            return
        if account not in self.with_code:
            self.evm.attach(account, self.evm.deploy(code_of("receiver"), DEPLOYER))
            self.with_code.add(account)
        self.evm.send(STRANGER, account, calldata("set_mode", ("uint256",), (1 if refuses else 0,)))

    def _run(self, account: Address, to: Address, data: bytes, value: int = 0) -> Outcome:
        """Have an account call somebody; one with code is sent by somebody else."""
        if account not in self.with_code:
            return self.evm.send(account, to, data, value)
        types = ("address", "bytes", "uint256")
        return self.evm.send(STRANGER, account, calldata("act", types, (to, data, value)))

    def know(self, terms: Terms) -> None:
        """Tell the contract's caller of a channel's terms."""
        self.contract.know(terms)

    def send(self, call: SingleCall, by: Address, channel: ChannelId | None = None) -> str:
        """Make a call on both; return the name of the rule that refused it, or nothing."""
        self.calls += 1
        if isinstance(call, COURT_CALLS):
            if self.court is None:
                raise TypeError("these twins have no court")
            to, data, value = self.court.at, encode(call), 0
        else:
            to, (data, value) = self.at, self.contract.encode(call)
        simulated, expected = self._simulated(call, by)
        events: tuple[Any, ...] = ()
        try:
            events = self.contract.events(self._run(by, to, data, value))
            said = ""
        except EvmReverted as error:
            said = error.reason
        self.verdicts[type(call).__name__, said] += 1
        told = tuple(event for event in events if not isinstance(event, (LocksHeld, CallFailed)))
        self._compare("verdict", call, simulated, said)
        self._compare("events", call, expected, told)
        if channel is not None:
            self._compare("state", call, _relevant(self._seen(channel)), _relevant(self.contract.view(channel)))
        if not said:
            self._compare("balances", call, *self._balances())
        return said

    def compare_court(self, instance: InstanceId) -> None:
        """Look whether both courts keep the same of an instance that no outcome decided."""
        if self.court is not None:
            real = record_of(self.evm, self.court.at, instance)
            simulated = registry.record_of(self.state, instance)
            if simulated != real:
                raise Differs(f"court of {instance.hex()}:\n  simulated {simulated}\n  contract  {real}")

    def batch(self, calls: Sequence[SingleCall], by: Address, channel: ChannelId) -> list[str]:
        """Make calls together on both; return of each the name of the rule that refused it, or nothing.

        One that is too long for a batch makes the contract refuse all of them, before it looks at any.
        """
        self.calls += len(calls)
        encoded = [self.contract.encode(call)[0] for call in calls]
        if any(len(data) > BATCHED_SIZE for data in encoded):
            self._compare("too long", calls[0], True, self._refuses(by, encoded))
            self._compare("state", calls[0], _relevant(self._seen(channel)), _relevant(self.contract.view(channel)))
            return ["too long"] * len(calls)
        runs = [partial(self._one, by=by, call=call) for call in calls]
        expected, failures = ledger.run_each(self.state, runs)
        events = self.contract.events(self._run(by, self.at, calldata("batch", ("bytes[]",), (encoded,))))
        told = tuple(event for event in events if not isinstance(event, (LocksHeld, CallFailed)))
        failed = {event.position: reason_in(event.answer) for event in events if isinstance(event, CallFailed)}
        self._compare("failures", calls[0], {each.index: str(each.revert) for each in failures}, failed)
        self._compare("events", calls[0], expected, told)
        self._compare("state", calls[0], _relevant(self._seen(channel)), _relevant(self.contract.view(channel)))
        self._compare("balances", calls[0], *self._balances())
        said = [failed.get(index, "") for index in range(len(calls))]
        for call, each in zip(calls, said, strict=True):
            self.verdicts[f"{type(call).__name__} in a batch", each] += 1
        return said

    def _refuses(self, by: Address, encoded: Sequence[bytes]) -> bool:
        """Whether the contract takes none of a batch."""
        try:
            self._run(by, self.at, calldata("batch", ("bytes[]",), (encoded,)))
        except EvmReverted:
            return True
        return False

    def _one(
        self, state: Layer, by: Address, call: SingleCall
    ) -> tuple[tuple[LedgerEvent, ...], tuple[FailedCall, ...]]:
        if value_of(call):  # as whoever reads such a transaction says
            raise Reverted(Revert.BAD_AMOUNT, "a batch carries no coins")
        return ledger._run(state, self.rules, by, call, self.time), ()

    def _simulated(self, call: SingleCall, by: Address) -> tuple[str, tuple[LedgerEvent, ...]]:
        attempt = Layer(self.state)
        try:
            events = ledger._run(attempt, self.rules, by, call, self.time)
        except Reverted as error:
            return str(error.code), ()
        self.state.changes.update(attempt.changes)
        return "", events

    def _seen(self, id: ChannelId) -> Channel | None:
        channel = self.channel(id)
        if channel is None:
            return None
        alone = channel.status != ChannelStatus.OPEN and channel.deadline > 0
        paid_out = channel.status in (ChannelStatus.SETTLED, ChannelStatus.GONE)
        return Channel(
            status=int(channel.status),
            deposits=(0, 0) if paid_out else channel.deposits,
            withdrawn=(0, 0) if paid_out else channel.withdrawn,
            closer=channel.closer if alone else None,
            deadline=channel.deadline if alone else None,
            seqs=(channel.standing[0].seq, channel.standing[1].seq),
            held=(self._held(channel, 0), self._held(channel, 1)),
            pots=channel.pots,
            convicted=channel.convicted,
        )

    @staticmethod
    def _held(channel: ChannelStorage, side: int) -> bytes:
        standing = channel.standing[side]
        nothing = not standing.locked and standing.root == bytes(32)
        return bytes(32) if nothing else commitment(standing.locked, standing.root)

    def _balances(self) -> tuple[dict[Any, int], dict[Any, int]]:
        accounts = (*self.accounts, self.at)
        simulated = {
            (asset, account): self.state.number(balance_key(asset, account))
            for asset in (NATIVE, self.token.at)
            for account in accounts
        }
        real = {(NATIVE, account): self.evm.balance(account) for account in accounts}
        real |= {(self.token.at, account): self.token.balance(account) for account in accounts}
        return simulated, real

    def _compare(self, what: str, call: SingleCall, simulated: object, real: object) -> None:
        if simulated != real:
            raise Differs(f"{what} of {call} at {self.time}:\n  simulated {simulated}\n  contract  {real}")


def _relevant(channel: Channel | None) -> Channel | None:
    """Return a channel without what is said of locks that nothing is held back for any more."""
    if channel is None or channel.status in (ChannelStatus.OPEN, ChannelStatus.CLOSED):
        return channel
    first, second = (held if pot else bytes(32) for held, pot in zip(channel.held, channel.pots, strict=True))
    return channel._replace(held=(first, second))
