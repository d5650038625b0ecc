"""The tower: follows the chain, defends its clients, takes their appointments. All its authorities are parameters.

    follower ──steps──▶ Watch ──obligations──▶ Sender ──transactions──▶ chain
                          ▲ blobs, by locator
    network ──uploads──▶ AppointmentService ──▶ store

A chain node that talks nonsense, or a full disk, does not end a tower: it raises the alarm, refuses what is new, and
keeps trying to defend what it has.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import trio

from tallystick.channels.errors import InvalidInput, StoreError
from tallystick.channels.node.alarms import Alarm, AlarmKind, OnAlarm
from tallystick.channels.ports import Clock, Elapsed, Network, PeerAddress, system_elapsed
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.storage.store import Moment, Store
from tallystick.channels.transport.retries import Jitter, Pauses, Retry
from tallystick.channels.values.arguments import Options, checked
from tallystick.settlement.chain import ChallengeCall, ClaimCall
from tallystick.settlement.enforcement.budgets import DutyPolicy
from tallystick.settlement.enforcement.owed_claims import claim_owed, claim_under_way, judge_claim
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.following.checked import Market, with_checks
from tallystick.settlement.following.follower import RECHECKED, Follower, headers_kept
from tallystick.settlement.following.vigil import TICK, begin_vigil, look
from tallystick.settlement.port import Chain
from tallystick.settlement.sending.fee_account import AT_ONCE, REST_PERCENT, FeeAccount, FundsAndDuties
from tallystick.settlement.sending.moments import read_followed
from tallystick.settlement.sending.policy import SendingPolicy, policy_for
from tallystick.settlement.sending.sender import Sender
from tallystick.watchtower.appointments import AppointmentService
from tallystick.watchtower.claims import ClaimPolicy
from tallystick.watchtower.covers import CoverPolicy, CoverService, Registry
from tallystick.watchtower.disputes import ChallengeBudget
from tallystick.watchtower.figures import CommitTimes, SparingCount, TowerStatistics, Trouble
from tallystick.watchtower.intake import here
from tallystick.watchtower.quotas import APPOINTMENTS_MAX, NEW_BURST, NEW_RATE, AppointmentQuota
from tallystick.watchtower.schema import ClientCount, count_appointments
from tallystick.watchtower.watch import Watch

DISK_AGAIN = Pauses("writing to the disk", 0.5, 30.0)


class TowerPolicy(Options, frozen=True, kw_only=True):
    """What a tower promises and asks for."""

    start: int = 0
    """First block to follow: at or before the opening of every channel that it will be given."""
    quota: int = 10_000
    """Appointments per client."""
    appointments: int = APPOINTMENTS_MAX
    """Appointments of all clients: each address may hold a sixteenth of what is still free."""
    new_rate: float = NEW_RATE
    """New appointments that are taken from one address per second, in the long run."""
    new_burst: float = NEW_BURST
    """The same, at once."""
    budget: int = 10**17
    """The most to pay in fees for one challenge, in the native coin."""
    courtesy: int = 10**16
    """The same for one that earns less: clients may be in league with those who cheat them, to make the tower pay."""
    reward_bps: int = 1_000
    """Ten-thousandths of what a convict forfeits that the adjudicator gives to the tower."""
    fee_reserve: int = 10**16
    """Nothing new is taken while the fee account holds less, or less than what it guards may cost."""
    lag_max: int = 6
    """Nothing new is taken while more blocks than this wait to be followed; of `port.PACE` seconds, or as many more."""
    silence_max: float = 120.0
    """Nor after so many seconds without an answer of the chain node."""
    free_space: int = 64 * 2**20
    """Nor with fewer free bytes on the disk than this."""
    claims: ClaimPolicy = ClaimPolicy()
    """What it does for its clients' pending locks."""
    sending: SendingPolicy | None = None
    """None: by the chain's pace and depth."""
    covers: CoverPolicy = CoverPolicy()
    """What it offers to answer for with its bond: nothing."""


class Tower:
    """A watchtower. Run `run` in a nursery.

    `alarm` is told what a person should know; `free_space` returns the free bytes on its disk;
    `jitter` returns a number in [0, 1); `inline` commits on the loop instead of in a thread, for virtual time;
    `registry` is that of towers' bonds, None if there is none on its chain.
    """

    @checked
    def __init__(
        self,
        *,
        key: PrivateKey,
        store: Store,
        network: Network,
        chain: Chain,
        clock: Clock,
        elapsed: Elapsed = system_elapsed,
        jitter: Jitter,
        alarm: OnAlarm,
        free_space: Callable[[], int],
        policy: TowerPolicy | None = None,
        inline: bool = False,
        registry: Registry | None = None,
    ) -> None:
        chain = with_checks(chain)
        self._elapsed = elapsed
        self._policy = policy or TowerPolicy()
        self._network = network
        self._on_alarm = alarm
        self._free_space = free_space
        self._inline = inline
        self._disk = trio.Lock()
        self._disk_failing = False
        self._fees: FundsAndDuties | None = None
        self._alarms = Counter[AlarmKind]()
        self._commits = {"chain": CommitTimes(), "appointments": CommitTimes()}
        self._appointments = SparingCount(partial(count_appointments, store), trio.current_time)
        self._clients = ClientCount(store)
        self.address = key.address
        sending = self._policy.sending or policy_for(chain.figures)
        self._lag_max = self._policy.lag_max * sending.pace
        self.sender = Sender(
            key=key,
            chain=chain,
            store=store,
            commit=self._commit_surely,
            alarm=self._alarm,
            jitter=jitter,
            policy=sending,
            judge=judge_claim,
        )
        budget = ChallengeBudget(self._policy.budget, self._policy.courtesy, self._policy.reward_bps)
        self._market = Market(chain)
        self.watch = Watch(self.sender, budget, self._policy.claims, lambda: self._market.lowest, self._is_catching_up)
        covers = None
        if registry is not None and self._policy.covers.most:
            covers = CoverService(
                key=key,
                store=store,
                commit=self._commit_once,
                clock=clock,
                chain=chain,
                registry=registry,
                policy=self._policy.covers,
                troubles=self.troubles,
                position=lambda: self.follower.followed.position,
                promised=self.watch.on_promised,
            )
        self.service = AppointmentService(
            key=key,
            store=store,
            commit=self._commit_once,
            clock=clock,
            troubles=self.troubles,
            quota=self._policy.quota,
            alarm=self._alarm,
            new_quota=AppointmentQuota(
                store,
                keccak(b"tallystick/tower/addresses/1" + key.reveal()),
                self._policy.appointments,
                self._policy.new_rate,
                self._policy.new_burst,
            ),
            kept=self.watch.locators,
            stored=self.watch.on_appointed,
            work=here if inline else trio.to_thread.run_sync,
            covers=covers,
        )
        rechecked = max(RECHECKED, sending.confirmations)
        followed = read_followed(store, chain.chain_id, self._policy.start, rechecked, headers_kept(chain.figures))
        self.follower = Follower(chain, followed, self.watch.on_steps, jitter=jitter, elapsed=elapsed, clock=clock)

    def _is_catching_up(self, number: int) -> bool:
        return self.follower.is_catching_up(number)

    @checked
    async def run(self, host: str, port: int, *, started: Callable[[PeerAddress], None]) -> None:
        """Watch and serve until cancelled; `started` is called with the address once clients can connect."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.follower.run)
            nursery.start_soon(self._guard)
            nursery.start_soon(self.sender.run)
            nursery.start_soon(self._check_fees)
            await self._network.serve(host, port, self.service.handle, started=started)

    def diagnose(self) -> dict[Trouble, str]:
        """Return why nothing new should be taken now, a sentence for each kind of trouble; empty if all is well."""
        following, policy = self.follower.statistics(), self._policy
        found = dict[Trouble, str]()
        if isinstance(self.follower.fault, ChainError):
            found[Trouble.CHAIN_NONSENSE] = str(self.follower.fault)
        if following.position < 0 or following.lag > self._lag_max:
            found[Trouble.CHAIN_BEHIND] = f"it is {following.lag} blocks behind the chain"
        if following.silent > policy.silence_max:
            silent = f"its chain node has not answered for {following.silent:.0f} seconds"
            found[Trouble.CHAIN_SILENT] = silent
        elif self.follower.is_behind(policy.silence_max):
            found[Trouble.CHAIN_STANDS_STILL] = f"its chain stands still: {_age(following.behind)}"
        if self._disk_failing or self._free_space() < policy.free_space:
            found[Trouble.DISK] = "its disk is full or failing"
        if self._fees is None or self._fees.is_short:
            found[Trouble.FEES] = "its fee account holds too little"
        return found

    def troubles(self) -> tuple[str, ...]:
        """Return why nothing new should be taken now; empty if all is well."""
        return tuple(self.diagnose().values())

    def statistics(self) -> TowerStatistics:
        """Return the figures of this moment. Must be called within trio."""
        troubles = self.diagnose()
        connections, strangers = self.service.connected
        return TowerStatistics(
            appointments=self._appointments.look(),
            accepted=self.service.accepted,
            refused=self.service.refused,
            cases=len(self.watch.disputes),
            challenges=self.watch.challenged,
            registrations=self.watch.registrar.registered,
            troubles=tuple(troubles.values()),
            alarms=self._alarms.total(),
            follower=self.follower.statistics(),
            sender=self.sender.statistics(),
            trouble_kinds=tuple(troubles),
            at_work=len(self.watch.at_work),
            margin=self._margin(),
            clients=self._clients.look(),
            connections=connections,
            strangers=strangers,
            useless=self._alarms[AlarmKind.APPOINTMENT_USELESS],
            given_up={str(why): count for why, count in self.watch.registrar.given_up.items()},
            alarm_kinds={str(kind): count for kind, count in self._alarms.items()},
            commits=dict(self._commits),
            fee_account=None if self._fees is None else self._fees.held,
            fees_needed=None if self._fees is None else self._fees.needed,
        )

    def _margin(self) -> int | None:
        """Return the seconds of chain time to the nearest deadline of what is to be done, None if nothing is."""
        position = self.follower.followed.position
        if position is None:
            return None
        ends = [o.deadline for o in self.sender.obligations() if o.deadline is not None and not o.is_final]
        return min((end - position.time for end in ends), default=None)

    def _alarm(self, alarm: Alarm) -> None:
        self._alarms[alarm.kind] += 1
        self._on_alarm(alarm)

    def _at_stake(self) -> float | None:
        """Return how long the first of the windows that are open is open yet, None if there is none."""
        position = self.follower.followed.position
        if position is None:
            return None
        closed = [dispute.closed for dispute in self.watch.at_work if dispute.settled is None]
        left = [found.deadline - position.time for found in closed if found is not None]
        return min((float(time) for time in left if time >= 0), default=None)

    async def _guard(self) -> None:
        """Tell the owner when the chain is not followed, in time for the windows that are open."""
        vigil = begin_vigil(self._elapsed())
        while True:
            await trio.sleep(TICK)
            seen = self.follower.sight(self._at_stake())
            vigil, alarms = look(vigil, seen, "this tower cannot defend its clients, and takes nothing new,")
            for alarm in alarms:
                self._alarm(alarm)

    async def _check_fees(self) -> None:
        """Tell, for ever, when the account holds less than what may be due costs; until then nothing new is taken."""
        account, market, owed = FeeAccount(self.address), self._market, 0
        while True:
            with contextlib.suppress(ChainUnavailable, ChainError):  # the follower counts this, and raises the alarm
                await market.ask()
                held = await self.sender.chain.balance(self.address, NATIVE)
                now, soon = self._needed(market.tariff.fee_of(ChallengeCall, market.price or 0))
                self._fees = FundsAndDuties(held, now)
                account, alarm = account.look(FundsAndDuties(held, soon))
                if alarm is not None:
                    self._alarm(alarm)
                said, owed = owed, await self.sender.chain.owed(NATIVE, self.address)
                await self._claim_owed(min(said, owed), market)  # once is no word
            await trio.sleep(account.pause)

    async def _claim_owed(self, amount: int, market: Market) -> None:
        """Take on to claim what the contract owes this account of the coin, where that is due.

        Of tokens it claims nothing: anybody could let it be owed some of his own, and pay fees for them.
        """
        call, head = ClaimCall(NATIVE, self.address), self.follower.followed.position
        fee = None if market.price is None else market.tariff.fee(call, market.price + 1)
        if not amount or head is None or claim_under_way(self.sender.obligations(), NATIVE) is not None:
            return
        due = claim_owed(
            self.sender.find,
            NATIVE,
            amount,
            self.address,
            head=head.number,
            pace=self.sender.policy.pace,
            fee=fee,
            policy=DutyPolicy(budget=self._policy.courtesy),
        )
        if due is not None and not (await self.sender.chain.charge(self.address, call)).fails:
            with contextlib.suppress(InvalidInput):  # too much is under way
                await self.sender.commit(self.sender.require(due))

    def _needed(self, fee: int) -> tuple[int, int]:
        """Return what to hold for the disputes that are open, or as a reserve, and for some of the appointments, too.

        `fee` is what a challenge costs. The latter is for the owner only: strangers may leave as many appointments as
        they like.
        """
        challenge = min(2 * fee, self._policy.budget)
        guarded = count_appointments(self.sender.store)
        now = max(self._policy.fee_reserve, 2 * challenge * len(self.watch.at_work))
        many = challenge * max(0, guarded - AT_ONCE) * REST_PERCENT // 100
        return now, max(now, challenge * min(guarded, AT_ONCE) + many)

    async def _commit_once(self, moments: Sequence[Moment]) -> None:
        if self._disk_failing:
            raise StoreError("the disk has been failing; what was asked for is not done")
        began = trio.current_time()
        async with self._disk:
            await self._write(moments)
        self._note_commit("appointments", began)

    async def _commit_surely(self, moments: Sequence[Moment]) -> None:
        """Commit, in the order of the calls, trying again for as long as the disk refuses."""

        def on_fault(error: Exception) -> None:
            if not self._disk_failing:
                text = f"the disk refuses ({error}); the tower cannot act until there is space again"
                self._alarm(Alarm(AlarmKind.DISK, text))
            self._disk_failing = True

        began = trio.current_time()
        async with self._disk:
            write = partial(self._write, moments)
            await Retry(DISK_AGAIN, self.sender.jitter).until_done(write, StoreError, on_fault=on_fault)
        self._note_commit("chain", began)

    def _note_commit(self, what: str, began: float) -> None:
        self._commits[what] = self._commits[what].with_one(trio.current_time() - began)

    async def _write(self, moments: Sequence[Moment]) -> None:
        if self._inline:
            self.sender.store.commit(moments)
            await trio.lowlevel.checkpoint()
        else:
            await trio.to_thread.run_sync(self.sender.store.commit, moments)
        self._disk_failing = False


def _age(behind: float | None) -> str:
    return "it has shown no new block yet" if behind is None else f"what it shows is {behind:.0f} seconds old"
