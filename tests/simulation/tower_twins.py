"""Both registries of towers, the ledger's and the contract's: each call is made on both, and all they say compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from eth_abi.abi import decode, encode

from simulation.disputes import PERIOD, ChannelFixture
from simulation.evm import Evm, EvmReverted, calldata
from simulation.evm_adjudicator import SIGNATURE, TERMS, compact
from simulation.evm_storage import slot_of, slots_in_use
from simulation.evm_twins import CHAIN_ID, DEPLOYER, STRANGER, Twins
from simulation.module_ledger import calldata as module_calldata
from simulation.module_ledger import signature as module_signature
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.contracts import artifact
from tallystick.settlement.chain import DepositCall, ModuleCall, OpenCall, SingleCall
from tallystick.settlement.errors import Reverted
from tallystick.settlement.ethereum.abi import terms_values
from tallystick.settlement.modules.covers import TowerCover, TowerPromise, digest_cover, digest_promise
from tallystick.settlement.modules.towers import TOWERS, VAULT
from tallystick.settlement.simulated import ledger
from tallystick.settlement.simulated.module_calls import ask_module
from tallystick.settlement.simulated.world import Layer, balance_key

HONEST, SLEEPY = (PrivateKey(keccak(name)) for name in (b"an honest tower", b"a tower that sleeps"))
RICH = 10**24
COVER = "(address,address,uint128,uint64,uint64,uint128,uint64)"
_VIEWS = {
    "tower": ("uint128", "uint128", "uint64", "uint64", "uint64", "uint128"),
    "cover": ("uint128", "uint64", "bool"),
}


class TowerTwins(Twins):
    """See above; the channels of one pair, one after the other."""

    def __init__(self, *, time: int = 1_000_000) -> None:
        super().__init__(time=time)
        self.registry = self.evm.deploy(artifact("Towers").code + encode(["address"], [self.at]), DEPLOYER)
        self.deployed_gas = self.evm.deployed_gas
        for key in (HONEST, SLEEPY):
            self.evm.fund(key.address, RICH)
            ledger.mint(self.state, self.rules, ledger.Mint(key.address, NATIVE, RICH))
        self.accounts = (*self.accounts, HONEST.address, SLEEPY.address)
        self.channels = 0
        self.gas: dict[str, int] = {}
        """Of the newest call of each kind, as a transaction of its own finds the chain; if `meters`."""
        self.meters = False
        self.names: set[bytes] = set()
        """Of covers that the contract was told of."""

    def channel_fixture(self) -> ChannelFixture:
        """Return the pair's next channel, with 600 and 400 in it."""
        fixture = ChannelFixture(contract=self.at)
        fixture.terms = msgspec.structs.replace(fixture.terms, number=self.channels)
        fixture.id = channel_id(fixture.terms)
        self.channels += 1
        self.know(fixture.terms)
        assert self.send(OpenCall(fixture.terms, 600), fixture.address(0), fixture.id) == ""
        assert self.send(DepositCall(fixture.id, 1, 400), fixture.address(1), fixture.id) == ""
        return fixture

    def cover(self, fixture: ChannelFixture, key: PrivateKey = HONEST, side: int = 0, **changes: Any) -> TowerCover:
        """Return a cover of 100 for side `client`, for an hour, that costs nothing."""
        now = self.time
        made = TowerCover(fixture.id, key.address, fixture.address(side), 100, now + 3_600, PERIOD, 0, now + 60)
        return msgspec.structs.replace(made, **changes)

    def do(self, by: Address, name: str, *values: Any, value: int = 0) -> str:
        """Call what takes numbers alone; return why it was refused, or nothing."""
        form = TOWERS.functions[name].form
        return self._both(by, module_calldata("towers", name, *values), calldata(name, form.types, values), value)

    def reserve(
        self,
        fixture: ChannelFixture,
        cover: TowerCover,
        *,
        by: Address = STRANGER,
        key: PrivateKey = HONEST,
        value: int | None = None,
        high: bool = False,
    ) -> str:
        """Reserve a cover that `key` has signed; `high`: by a signature that anybody can make of its own."""
        mine, theirs = self._signed(key, lambda at: digest_cover(CHAIN_ID, at, cover), high)
        carried = cover.price if value is None else value
        data = module_calldata("towers", "reserve", *msgspec.structs.astuple(cover), mine)
        words = (terms_values(fixture.terms), _on_evm(cover), theirs)
        return self._both(by, data, calldata("reserve", (TERMS, COVER, SIGNATURE), words), carried, cover)

    def release(self, cover: TowerCover, by: Address = STRANGER) -> str:
        """Give a cover back."""
        data = module_calldata("towers", "release", *msgspec.structs.astuple(cover))
        words = (cover.channel, _on_evm(cover))
        return self._both(by, data, calldata("release", ("bytes32", COVER), words), 0, cover)

    def accuse(
        self,
        fixture: ChannelFixture,
        cover: TowerCover,
        since: int,
        seq0: int,
        seq1: int,
        *,
        by: Address = STRANGER,
        key: PrivateKey = HONEST,
        signed: tuple[TowerCover, int, int, int] | None = None,
    ) -> str:
        """Show a promise; `signed`: what the tower signed in truth."""
        mine, theirs = self.accusation(fixture, cover, since, seq0, seq1, key=key, signed=signed)
        return self._both(by, mine, theirs, 0, cover)

    def accusation(
        self,
        fixture: ChannelFixture,
        cover: TowerCover,
        since: int,
        seq0: int,
        seq1: int,
        *,
        key: PrivateKey = HONEST,
        signed: tuple[TowerCover, int, int, int] | None = None,
        places: tuple[Address, Address] | None = None,
    ) -> tuple[bytes, bytes]:
        """Return the data of an accusation on the ledger and for the contract; `places`: where the promise counts."""
        promised, *numbers = signed or (cover, since, seq0, seq1)

        def digest(at: Address) -> bytes:
            name = digest_cover(CHAIN_ID, at, promised)
            return digest_promise(CHAIN_ID, at, TowerPromise(name, *numbers))

        mine, theirs = self._signed(key, digest, places=places)
        data = module_calldata("towers", "accuse", *msgspec.structs.astuple(cover), since, seq0, seq1, mine)
        types = (TERMS, COVER, "uint64", "uint64", "uint64", SIGNATURE)
        words = (terms_values(fixture.terms), _on_evm(cover), since, seq0, seq1, theirs)
        return data, calldata("accuse", types, words)

    def show(self, by: Address, data: tuple[bytes, bytes], cover: TowerCover) -> str:
        """Make a call that was encoded before."""
        return self._both(by, *data, 0, cover)

    def cold(self) -> Evm:
        """Return the chain of the contracts as the next block finds it."""
        slots = [*range(8)]
        for key in (HONEST, SLEEPY):
            slots += [slot_of(name, bytes(12) + key.address, of="Towers") for name in ("bonds", "terms")]
        slots += [slot_of("covers", name, of="Towers") for name in self.names]
        return self.evm.settled({self.at: slots_in_use(self.contract), self.registry: slots})

    def bond_of(self, key: PrivateKey) -> tuple[int, int]:
        """Return a tower's bond and what of it is set apart; raise Differs unless both say the same."""
        there = self._asked("tower", "address", key.address, key.address)
        return int(there[0]), int(there[1])

    def held(self, cover: TowerCover) -> tuple[Any, ...]:
        """Return what is set apart for a cover, until when, and whether that has ended."""
        return self._asked("cover", "bytes32", *(digest_cover(CHAIN_ID, at, cover) for at in self._places))

    def vault(self) -> int:
        """Return what the contract holds, and see that the ledger holds as much."""
        there = self.evm.balance(self.registry)
        self._compare_values("vault", self.state.number(balance_key(NATIVE, VAULT)), there)
        return there

    @property
    def _places(self) -> tuple[Address, Address]:
        return TOWERS.address, self.registry

    def _signed(
        self,
        key: PrivateKey,
        digest: Callable[[Address], bytes],
        high: bool = False,
        *,
        places: tuple[Address, Address] | None = None,
    ) -> tuple[bytes, tuple[bytes, int]]:
        mine, theirs = map(digest, places or self._places)
        by_key = [key.sign(each) for each in (mine, theirs)]
        pair = compact(theirs, by_key[1], key.address)
        if high:
            order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
            flipped = [order - int.from_bytes(each[32:], "big") for each in by_key]
            by_key[0] = by_key[0][:32] + flipped[0].to_bytes(32, "big")
            pair = pair[0], flipped[1] | (1 - (pair[1] >> 255)) << 255
        return by_key[0], pair

    def _asked(self, name: str, type: str, mine: bytes, theirs: bytes) -> tuple[Any, ...]:
        real = decode(_VIEWS[name], self.evm.call(self.registry, calldata(name, (type,), (theirs,))))
        call = ModuleCall(TOWERS.address, module_calldata("towers", name, mine), 0)
        answer = ask_module(self.state, call, STRANGER, self.time, self.at)
        self._compare_values(name, module_signature("towers", name).decode_result(answer), real)
        return real

    def _both(self, by: Address, mine: bytes, theirs: bytes, value: int, cover: TowerCover | None = None) -> str:
        self.calls += 1
        call = ModuleCall(TOWERS.address, mine, value)
        attempt = Layer(self.state)
        told: Sequence[Any] = ()
        try:
            told = ledger._run(attempt, self.rules, by, call, self.time)
            self.state.changes.update(attempt.changes)
            simulated = ""
        except Reverted as error:
            simulated = str(error.code)
        events: list[tuple[bytes, ...]] = []
        if self.meters:
            self.gas[str(theirs[:4].hex())] = self.cold().send(by, self.registry, theirs, value).gas
        try:
            done, said = self._run(by, self.registry, theirs, value), ""
            events = [(*map(_bytes, log.topics), log.data) for at, log in done.logs if at == self.registry]
        except EvmReverted as error:
            said = error.reason
        self.verdicts[TOWERS.name, said] += 1
        self._compare("verdict", call, simulated, said)
        names = [digest_cover(CHAIN_ID, at, cover) if cover else b"" for at in self._places]
        self.names.add(names[1])
        expected = [(*(names[1] if topic == names[0] else topic for topic in each.topics), each.data) for each in told]
        self._compare("events", call, expected, events)
        self._compare("balances", call, *self._balances())
        if cover is not None:
            self.held(cover)
        for key in (HONEST, SLEEPY):
            self.bond_of(key)
        self.vault()
        return said

    def _compare_values(self, what: str, simulated: object, real: object) -> None:
        self._compare(what, _NO_CALL, simulated, real)


_NO_CALL: SingleCall = ModuleCall(TOWERS.address, b"", 0)


def _bytes(topic: Any) -> bytes:
    return bytes.fromhex(topic.removeprefix("0x")) if isinstance(topic, str) else bytes(topic)


def _on_evm(cover: TowerCover) -> tuple[Any, ...]:
    _, *words = msgspec.structs.astuple(cover)
    return tuple(words)
