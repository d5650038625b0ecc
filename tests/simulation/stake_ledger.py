"""Stakes on a ledger without a consensus: blocks of votes and evidence as a test says, and a model of what they do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nacl.signing import SigningKey

from simulation.module_ledger import PEOPLE, ModuleLedger
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.modules.validator_blocks import (
    BlockVote,
    GenesisStake,
    Offence,
    PowerUpdate,
    StakeFounding,
    begin_block,
    end_block,
    found_stakes,
)
from tallystick.settlement.modules.validator_records import BURNT, REWARDS, STAKES, StakeRules
from tallystick.settlement.modules.validators import VALIDATORS, address_of, possession
from tallystick.settlement.simulated.branch import ADJUDICATOR
from tallystick.settlement.simulated.ledger import MINER
from tallystick.settlement.simulated.module_calls import ModuleRun
from tallystick.settlement.simulated.world import move

SEEDS = [SigningKey(keccak(b"votes of validator %d" % number)) for number in range(6)]
PUBLIC = [bytes(seed.verify_key) for seed in SEEDS]
ADDRESSES = [address_of(public) for public in PUBLIC]
RULES = StakeRules(
    unit=100,
    own_least=1_000,
    validators_max=3,
    evidence_blocks=5,
    evidence_seconds=50,
    slash=70_000,
    absences_max=4,
    jail_seconds=40,
)
OWN = 10_000


class StakeLedger(ModuleLedger):
    """A ledger with two genesis validators, of the first two people."""

    def __init__(self, rules: StakeRules = RULES, count: int = 2, commission: int = 100_000) -> None:
        super().__init__()
        self.height, self.clock = 0, 1_000
        self.powers: list[dict[bytes, int]] = []
        """Of the votes in each block, by address, from block 1 on."""
        self.times: list[int] = [self.clock]
        stakes = tuple(GenesisStake(PEOPLE[at], PUBLIC[at], OWN, commission) for at in range(count))
        self._founding: StakeFounding | None = StakeFounding(1337, rules, stakes)
        self._now: dict[bytes, int] = dict.fromkeys(ADDRESSES[:count], OWN // rules.unit)
        self._next = dict(self._now)
        self.block()

    def resume(self, powers: list[dict[bytes, int]]) -> None:
        """Go on from the powers of the blocks so far and of the next one, as they were."""
        *self.powers, self._now = powers
        self._next = dict(self._now)

    def run(self, caller: Address) -> ModuleRun:
        return ModuleRun(self.state, VALIDATORS, caller, self.time, [], 1, ADJUDICATOR)

    def block(
        self, seconds: int = 10, away: Sequence[int] = (), offences: Sequence[Offence] = (), fees: int = 0
    ) -> tuple[PowerUpdate, ...]:
        """End the block, and begin the next one; return what the consensus was told of the one that ended."""
        updates: tuple[PowerUpdate, ...] = ()
        if self.height:
            updates = end_block(self.run(MINER))
            changed: dict[bytes, int] = {address_of(update.public): update.power for update in updates}
            assert list(changed) == sorted(changed)
            for address, power in changed.items():
                assert self._next.get(address, 0) != power, "the consensus is told of no change"
            self._next = {each: power for each, power in {**self._next, **changed}.items() if power}
            assert self._next, "the set of validators is empty"
        voted = self.powers[-1] if self.powers else {}
        self.height, self.clock = self.height + 1, self.clock + seconds
        self.powers.append(self._now)
        self._now, self._next = self._next, dict(self._next)
        self.times.append(self.clock)
        if fees:
            move(self.state, NATIVE, PEOPLE[3], MINER, fees)
        if self._founding is not None:
            found_stakes(self.run, self._founding)
            self._founding = None
        votes = [
            BlockVote(
                each,
                power,
                signed=ADDRESSES.index(Address(each)) not in away,
                absent=ADDRESSES.index(Address(each)) in away,
            )
            for each, power in sorted(voted.items(), key=lambda pair: (-pair[1], pair[0]))
        ]
        begin_block(self.run(MINER), self.height, self.clock, votes, offences)
        return updates

    def offence(self, who: int, block: int) -> Offence:
        """Return that a validator signed two blocks of a height."""
        return Offence(ADDRESSES[who], block, self.times[block])

    def register(self, by: Address, who: int, amount: int, commission: int = 0) -> int:
        """Return the number of the own delegation of a new validator."""
        proof = SEEDS[who].sign(possession(1337, by, PUBLIC[who])).signature
        (number,) = self.call(by, "validators", "register", PUBLIC[who], proof, amount, commission)
        return int(number)

    def validator(self, who: int) -> dict[str, Any]:
        """Return what the view says of a validator."""
        results = VALIDATORS.functions["validator"].results
        return dict(
            zip([each.name for each in results], self.read("validators", "validator", ADDRESSES[who]), strict=True)
        )

    def worth(self, number: int) -> int:
        """Return the amount of a delegation."""
        return int(self.read("validators", "delegation", number)[2])

    @property
    def held(self) -> tuple[int, int, int]:
        """What is in the accounts of stakes, of rewards, and of what was slashed."""
        stakes, rewards, burnt = (self.balance(account, NATIVE) for account in (STAKES, REWARDS, BURNT))
        return stakes, rewards, burnt
