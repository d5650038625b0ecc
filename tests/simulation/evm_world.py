"""One chain with the contract, two parties, a tower, and accounts that misbehave when they are paid."""

from __future__ import annotations

import msgspec

from simulation.disputes import ChannelFixture
from simulation.evm import Evm, EvmReverted, calldata
from simulation.evm_adjudicator import EvmAdjudicator, Extra
from simulation.evm_tokens import EvmToken, code_of
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.contracts import creation_code
from tallystick.settlement.chain import Call, DepositCall, Event, OpenCall

TOWER = Address(b"\x77" * 20)
STRANGER = Address(b"\x88" * 20)
DEPLOYER = Address(b"\x99" * 20)
ELSEWHERE = Address(b"\xee" * 20)
FAR = 2**40 - 1
REFUSES, CALLS_BACK, BURNS_GAS = 1, 2, 3
"""What an account with code does when coins come."""


class EvmWorld:
    """See above. Both parties deposit 600 and 400 into the channel that `open` makes."""

    def __init__(self, *, token: str | None = None, reward_bps: int = 1_000) -> None:
        self.evm = Evm(time=1_000_000)
        self.evm.fund(DEPLOYER)
        self.contract = EvmAdjudicator(self.evm, self.evm.deploy(creation_code(reward_bps), DEPLOYER))
        self.at = self.contract.at
        self.token = None if token is None else EvmToken(self.evm, DEPLOYER, token)
        self.asset = NATIVE if self.token is None else self.token.at
        self.number = 0
        self.channel = self.fixture()
        self.parties = (self.channel.address(0), self.channel.address(1))
        for account in (*self.parties, TOWER, STRANGER):
            self.evm.fund(account, 10**18)
            if self.token is not None:
                self.token.mint(account, 10**18)
                self.token.approve(account, self.at, 10**18)

    def fixture(self) -> ChannelFixture:
        """Return the pair's next channel."""
        fixture = ChannelFixture(asset=self.asset, contract=self.at)
        fixture.terms = msgspec.structs.replace(fixture.terms, number=self.number)
        fixture.id = channel_id(fixture.terms)
        self.contract.know(fixture.terms)
        self.number += 1
        return fixture

    def open(self, deposit0: int = 600, deposit1: int = 400) -> ChannelFixture:
        """Open the next channel, with these deposits."""
        if self.number > 1 or self.contract.view(self.channel.id) is not None:
            self.channel = self.fixture()
        self.send(OpenCall(self.channel.terms, deposit0), self.parties[0])
        if deposit1:
            self.send(DepositCall(self.channel.id, 1, deposit1, self.asset), self.parties[1])
        return self.channel

    def send(self, call: Call, by: Address = TOWER) -> tuple[Event | Extra, ...]:
        """Make a call; return its events."""
        return self.contract.send(call, by)[0]

    def refused(self, call: Call, by: Address = TOWER) -> str:
        """Make a call that must do nothing; return which rule refused it."""
        try:
            self.send(call, by)
        except EvmReverted as error:
            return error.reason
        raise AssertionError(f"{call} was not refused")

    def balance(self, account: Address) -> int:
        """What an account holds of the world's asset."""
        return self.evm.balance(account) if self.token is None else self.token.balance(account)

    def owed(self, account: Address) -> int:
        """What is owed to an account of the world's asset."""
        return self.contract.owed(self.asset, account)

    def misbehave(self, account: Address, mode: int) -> None:
        """Put code at an account, and tell it what to do when coins come."""
        self.evm.attach(account, self.evm.deploy(code_of("receiver"), DEPLOYER))
        self.evm.send(STRANGER, account, calldata("set_mode", ("uint256",), (mode,)))

    def call_back(self, account: Address, to: Address, data: bytes) -> None:
        """Tell an account that misbehaves what to call when coins come."""
        self.evm.send(STRANGER, account, calldata("set_call", ("address", "bytes"), (to, data)))

    def act(self, account: Address, data: bytes) -> tuple[Event | Extra, ...]:
        """Have an account with code call the adjudicator."""
        data = calldata("act", ("address", "bytes", "uint256"), (self.at, data, 0))
        return self.contract.events(self.evm.send(STRANGER, account, data))

    def asked(self, account: Address, name: str) -> int:
        """Ask an account with code how often it was paid (`calls`), and how often it then did what it wanted."""
        return int.from_bytes(self.evm.call(account, calldata(name, (), ())), "big")
