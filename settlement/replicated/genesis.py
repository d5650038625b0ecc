"""What all validators begin with: the ledger's settings and first coins, as the application's part of the genesis."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple, TypeAlias

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.modules.validator_blocks import GenesisStake, StakeFounding
from tallystick.settlement.modules.validator_records import MILLION, SEATS, StakeRules
from tallystick.settlement.simulated.branch import ChainSettings
from tallystick.settlement.simulated.ledger import Mint

APP_VERSION = 2
"""Of the rules of blocks: validators of two versions do not agree. 2: delegations move, keys and commissions change."""

Powers: TypeAlias = dict[bytes, int]
"""Voting power, by the public key of the votes."""


class EvidenceAge(NamedTuple):
    """How old evidence may be, in blocks and in seconds; it is too old if it is older by both."""

    blocks: int
    seconds: int


class Genesis(msgspec.Struct, frozen=True, kw_only=True):
    """The beginning of a replicated chain. Two that are equal begin equal chains."""

    time: int
    """Of block 0, in whole seconds."""
    chain_id: int
    contract: Address
    reward_bps: int
    gas_limit: int
    dev: bool
    mints: tuple[Mint, ...]
    stakes: tuple[GenesisStake, ...] = ()
    """Of the validators; the coins are in `mints`."""
    staking: StakeRules | None = None
    """None: stake does not decide, and the validators stay those of the consensus's genesis."""

    def founding(self) -> StakeFounding | None:
        """With what stakes the chain begins."""
        return None if self.staking is None else StakeFounding(self.chain_id, self.staking, self.stakes)

    def powers(self) -> Powers:
        """The voting powers that the stakes give."""
        return {each.public: each.amount // self.staking.unit for each in self.stakes} if self.staking else {}

    def settings(self) -> ChainSettings:
        """What kind of chain it is."""
        return ChainSettings(
            chain_id=self.chain_id,
            contract=self.contract,
            reward_bps=self.reward_bps,
            gas_limit=self.gas_limit,
            dev=self.dev,
        )

    def written(self) -> dict[str, Any]:
        """Return it as JSON: bytes in hexadecimal, amounts as text."""
        return {
            **{name: getattr(self, name) for name in ("time", "chain_id", "reward_bps", "gas_limit", "dev")},
            "contract": self.contract.hex(),
            "mints": [[order.account.hex(), order.asset.hex(), str(order.amount)] for order in self.mints],
            **({} if self.staking is None else self._staked(self.staking)),
        }

    def _staked(self, rules: StakeRules) -> dict[str, Any]:
        return {
            "stakes": [
                [each.operator.hex(), each.public.hex(), str(each.amount), each.commission] for each in self.stakes
            ],
            "staking": {name: str(value) for name, value in msgspec.structs.asdict(rules).items()},
        }


class _Written(msgspec.Struct, forbid_unknown_fields=True):
    time: int
    chain_id: int
    reward_bps: int
    gas_limit: int
    dev: bool
    contract: str
    mints: list[tuple[str, str, str]]
    stakes: list[tuple[str, str, str, int]] = []
    staking: dict[str, str] | None = None


def read_genesis(data: bytes) -> Genesis:
    """Read what `written` gave, as JSON; raise InvalidInput."""
    try:
        read = msgspec.json.decode(data, type=_Written)
        mints = tuple(
            Mint(Address(bytes.fromhex(account)), Address(bytes.fromhex(asset)), int(amount))
            for account, asset, amount in read.mints
        )
        contract = Address(bytes.fromhex(read.contract))
        stakes = tuple(
            GenesisStake(Address(bytes.fromhex(operator)), bytes.fromhex(public), int(amount), commission)
            for operator, public, amount, commission in read.stakes
        )
        staking = None if read.staking is None else msgspec.convert(read.staking, StakeRules, strict=False)
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidInput(f"this is no genesis of a replicated ledger: {error}") from error
    genesis = Genesis(
        time=read.time,
        chain_id=read.chain_id,
        contract=contract,
        reward_bps=read.reward_bps,
        gas_limit=read.gas_limit,
        dev=read.dev,
        mints=mints,
        stakes=stakes,
        staking=staking,
    )
    check_stakes(genesis)
    return genesis


def check_stakes(genesis: Genesis) -> None:
    """Raise InvalidInput unless a chain can begin with these stakes."""
    rules, stakes = genesis.staking, genesis.stakes
    if rules is None:
        if stakes:
            raise InvalidInput("there are stakes at genesis, and no rules for them")
        return
    least = min(rules.unit, rules.validators_max, rules.evidence_blocks, rules.evidence_seconds, rules.absences_max)
    if least < 1 or rules.own_least < rules.unit or not 0 <= rules.slash <= MILLION or rules.validators_max > SEATS:
        raise InvalidInput(f"no chain can have these rules for stakes: {rules}")
    held = Counter[Address]()
    for order in genesis.mints:
        if order.asset == NATIVE:
            held[order.account] += order.amount
    for each in stakes:
        held[each.operator] -= each.amount
        if not rules.own_least <= each.amount or each.amount // rules.unit > rules.power_max:
            raise InvalidInput(f"a validator begins with {each.amount} staked, too little or too much")
        if len(each.public) != 32 or len(each.operator) != 20 or not 0 <= each.commission <= MILLION:
            raise InvalidInput("a validator has a key (32 bytes), an operator, and a commission in millionths")
        if held[each.operator] < 0:
            raise InvalidInput(f"0x{each.operator.hex()} stakes more than it has at genesis")
    if not 1 <= len(stakes) <= rules.validators_max or len({each.public for each in stakes}) < len(stakes):
        raise InvalidInput(f"from 1 to {rules.validators_max} validators can begin a chain, each with its own key")
