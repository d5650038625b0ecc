"""A node's side of the chain: lets every channel react to each block, and does what must be done there.

`following` hands the blocks in, and commits what comes of each together with its position. Duties are
derived anew from the channels' and the chain's state whenever either changes (`duties`), so that none can be lost.
Channels at rest are left out: those in which nothing waits for time, whose place on chain is confirmed as it is at the
head, and for which nothing was due when they were last looked at. For them a look could not find anything.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

import trio

from tallystick.channels.errors import InsufficientFunds, InvalidInput, TallystickError
from tallystick.channels.node.alarms import Alarm, AlarmKind, OnAlarm
from tallystick.channels.node.engine import Engine
from tallystick.channels.ports import Clock, Elapsed
from tallystick.channels.protocol.confirmed import timeless
from tallystick.channels.protocol.core import Channel, Phase, never_used, new_channel
from tallystick.channels.protocol.keys import PrivateKey, PublicKey, close_key
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, Puzzle
from tallystick.channels.session.chaintime import ChainTime
from tallystick.channels.session.claims import pending_puzzles
from tallystick.channels.session.claims import stakes as stakes_of
from tallystick.channels.session.inputs import ForceClose, FundingConfirmed, PhaseReached
from tallystick.channels.session.session import Session
from tallystick.channels.storage.older import OlderState, older_state
from tallystick.channels.storage.store import Moment
from tallystick.channels.storage.writer import Writer
from tallystick.settlement.chain import ApproveCall, Call, Chain, ContractChannel, DepositCall, OpenCall
from tallystick.settlement.contract.verdicts import require_judged
from tallystick.settlement.enforcement.budgets import DutyPolicy, duty_budget, moved_by
from tallystick.settlement.enforcement.duties import (
    DUTY_NAMES,
    OFFERS,
    ChannelOnChain,
    claim_fee,
    duties,
    held_locks,
    judge,
    must_close,
)
from tallystick.settlement.enforcement.fee_needs import needed
from tallystick.settlement.enforcement.following import ChainFollowing, SameChain
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.ethereum.transactions import GAS, gas_of
from tallystick.settlement.following.follower import BlockAdded, Step
from tallystick.settlement.following.index import CLOSED, GONE, SETTLED, EventsSeen
from tallystick.settlement.sending.fee_account import LOOK_AGAIN, LOOK_EVERY, FeeAccount, FundsAndDuties
from tallystick.settlement.sending.obligations import Obligation, ObligationStatus, SendingPolicy
from tallystick.settlement.sending.sender import Sender

_UNMINED = (ObligationStatus.WAITING, ObligationStatus.SENT)

_CLOSED_PHASES = (Phase.OPENING, Phase.CLOSED, Phase.SETTLED, Phase.GONE)


class CloseKeys:
    """The keys that open channels' `close_hash`, derived once each."""

    def __init__(self, key: PrivateKey) -> None:
        self._key = key
        self._known: dict[ChannelId, bytes] = {}

    def __call__(self, channel: Channel) -> bytes:
        """Return a channel's close key, 32 bytes."""
        known = self._known.get(channel.id)
        if known is None:
            known = self._known[channel.id] = close_key(self._key, PublicKey(channel.peer_key), channel.id)
        return known


class OnChain:
    """The chain, as far as one node is concerned. Run `following` and the sender in a nursery."""

    def __init__(
        self,
        *,
        key: PrivateKey,
        chain: Chain,
        writer: Writer,
        engine: Engine,
        duties: DutyPolicy,
        confirmations: int,
        start_block: int,
        close_keys: CloseKeys,
        rng: random.Random,
        alarm: OnAlarm,
        changed: Callable[[], None],
        observe: Callable[[Step], None],
        clock: Clock,
        elapsed: Elapsed,
    ) -> None:
        """`alarm` is told what a person should know; `changed` is called after each block, `observe` before."""
        require_judged()
        self._key = key
        self._chain = chain
        self._writer = writer
        self._engine = engine
        self._duties = duties
        self._close_keys = close_keys
        self._rng = rng
        self._alarm = alarm
        self._observe = observe
        self._allowing: Counter[Address] = Counter()
        """What calls that are no obligations yet will take of each token."""
        self._told: set[ChannelId] = set()
        self._left_behind: dict[tuple[ChannelId, int, int], OlderState | None] = {}
        """Old states that stand on chain, read back from the journals once each."""
        self._confirmed: set[ChannelId] = set()
        """Channels that the chain has not touched since nothing was due for them, and all they were was confirmed."""
        self.following = ChainFollowing(
            account=key.address,
            chain=chain,
            writer=writer,
            confirmations=confirmations,
            start_block=start_block,
            rng=rng,
            alarm=alarm,
            react=self._on_step,
            changed=changed,
            clock=clock,
            elapsed=elapsed,
        )
        self.following.wants_market, self.following.at_stake = self._has_channels, self._at_stake
        self.index, self.follower = self.following.index, self.following.follower
        self.sender = Sender(
            key=key,
            chain=SameChain(chain, self.follower),
            store=writer.store,
            commit=writer.commit,
            alarm=alarm,
            jitter=rng.random,
            policy=SendingPolicy(confirmations=confirmations),
            judge=judge,
        )

    # --- what the chain brings ------------------------------------------------------------------------------------

    @property
    def fresh(self) -> bool:
        """Whether our view of the chain is up to date: on the word of an old one no secret is paid for."""
        return self.following.fresh

    @property
    def claim_fee(self) -> int:
        """Below what worth (in the native coin) a secret is not claimed on chain now; 0: all are claimed."""
        return claim_fee(self.following.market.price, self._duties)

    def _on_step(self, step: Step, seen: Sequence[EventsSeen]) -> list[Moment]:
        """Let the channels react to one block, and derive the duties; return what belongs into its commit."""
        if isinstance(step, BlockAdded):
            self._confirmed.difference_update(s.event.channel for found in seen for s in found.sightings)
        else:
            self._confirmed.clear()
        moments = self.react()
        self._observe(step)
        return moments

    def _has_channels(self) -> bool:
        """Whether there is, or may come, something whose worth must be held against its fee."""
        return any(session.channel.phase is not Phase.GONE for session in self._engine.sessions.values())

    def _at_stake(self) -> float | None:
        """Return the shortest time within which something may have to be done on chain, None if nothing is there."""
        live = [s.channel for s in self._engine.sessions.values() if s.channel.phase is not Phase.GONE]
        times = [float(channel.terms.challenge_period) for channel in live]
        for channel in live:
            for lock in (*channel.ours.simplex.locks, *channel.theirs.simplex.locks):
                times.append(max(0.0, float(lock.expiry - self._engine.chain.now)))
        return min(times, default=None)

    def react(self) -> list[Moment]:
        """Let every channel that is not at rest react to the chain as it is now; return the duties' moments."""
        restless = [session for session in self._engine.sessions.values() if not self.at_rest(session)]
        restless = [self._brought_back(session) for session in restless]
        for session in restless:
            self._follow(session)
        proofs = self.index.proofs(pending_puzzles(self._engine.sessions.values()), self.following.final_number)
        self._engine.chain_moved(ChainTime(self.index.head_time, self.following.final_time, proofs))
        for session in restless:
            self._close_if_must(session)
        return self.derive([session.channel.id for session in restless])

    def _brought_back(self, session: Session) -> Session:
        """Return the session anew if the chain has its channel after all, though its opening had come to nothing."""
        channel, view = session.channel, self.index.view(session.channel.id, self.index.head_number)
        if channel.phase is not Phase.GONE or view is None or view.status == GONE or not never_used(channel):
            return session
        anew = new_channel(channel.terms, channel.side, channel.peer_key, channel.reserve, channel.reserve_ppm)
        return self._engine.add_channel(anew)

    def at_rest(self, session: Session) -> bool:
        """Whether a look at the channel would change nothing: not in it, and not in what is due for it."""
        channel = session.channel
        talk = channel.phase is Phase.OPENING and self.index.view(channel.id, self.index.head_number) is None
        return (talk or channel.id in self._confirmed) and timeless(channel)

    def _close_if_must(self, session: Session) -> None:
        """Close a channel whose peer has long not paid for locks that the chain shows to be ours."""
        view = self.index.view(session.channel.id, self.index.head_number)
        shown = self._engine.chain.proofs
        if view is None or not any(lock.puzzle in shown for lock in session.channel.theirs.simplex.locks):
            return
        if must_close(session.channel, self._situation(session, view, {}), self._duties):
            name = session.channel.id.hex()[:8]
            text = f"channel {name} is being closed: its peer does not pay for locks that the chain shows as ours"
            self._alarm(Alarm(AlarmKind.PEER_OWES, text))
            self._engine.apply(session.channel.id, ForceClose())

    def _follow(self, session: Session) -> None:
        """Bring one channel's phase and funding in line with the chain."""
        channel = session.channel
        if channel.phase is Phase.GONE:
            return
        head = self.index.view(channel.id, self.index.head_number)
        final = self.index.view(channel.id, self.following.final_number)
        if head is not None and head.terms != channel.terms:
            if channel.id not in self._told:
                self._told.add(channel.id)
                name = channel.id.hex()[:8]
                text = f"channel {name} was opened on other terms than agreed: it is not used"
                self._alarm(Alarm(AlarmKind.OTHER_TERMS, text))
            return
        if final is not None and channel.phase is not Phase.SETTLED:
            self._engine.apply(channel.id, FundingConfirmed(final.deposits, final.withdrawn))
        # Who lost data must never close, not even in place of a close that left the chain, however deep it was: it
        # goes on recovering until the settlement stays, for which a window of challenges had to pass.
        lost = session.channel.phase is Phase.RECOVERING
        closed, statuses = (final, (SETTLED,)) if lost else (head, (CLOSED, SETTLED))
        if closed is not None and closed.status in statuses and session.channel.phase not in _CLOSED_PHASES:
            self._engine.apply(channel.id, PhaseReached(Phase.CLOSED))
        if final is not None and final.status == SETTLED and session.channel.phase is Phase.CLOSED:
            self._engine.apply(channel.id, PhaseReached(Phase.SETTLED))
        if final is not None and final.status == GONE and session.channel.phase is not Phase.OPENING:
            self._engine.apply(channel.id, PhaseReached(Phase.GONE))

    # --- duties --------------------------------------------------------------------------------------------------

    def pursue(self, channels: Sequence[ChannelId]) -> None:
        """Take on what these channels' new state asks for."""
        moments = self.derive(channels)
        if moments:
            self._writer.add(moments)

    def derive(self, channels: Sequence[ChannelId]) -> list[Moment]:
        """Take on what must be done on chain for these channels now, give up what need not; return what to store."""
        moments: list[Moment] = []
        unfinished, sessions = self._unfinished(), self._engine.sessions
        stakes = (
            stakes_of(sessions.values())
            if any(identity in sessions and sessions[identity].channel.secrets for identity in channels)
            else {}
        )
        for identity in channels:
            session = sessions.get(identity)
            if session is None:
                continue  # an opening that came to nothing
            view = self.index.view(identity, self.index.head_number)
            if view is None or view.terms != session.channel.terms:
                continue
            due: list[Obligation] = []
            if session.channel.phase is not Phase.GONE:
                situation = self._situation(session, view, stakes)
                due = duties(session.channel, situation, self._duties, self._close_keys)
            for obligation in due:
                moments += self._take_on(obligation)
            self._confirmed.discard(identity)
            if self.index.view(identity, self.following.final_number) == view:  # what made a duty moot is confirmed
                moments += self._give_up(unfinished.get(identity, ()), {obligation.id for obligation in due})
                if not due and identity not in unfinished:
                    self._confirmed.add(identity)
        return moments

    def _unfinished(self) -> dict[ChannelId, list[Obligation]]:
        """Return what is on its way to the chain, by channel."""
        found: dict[ChannelId, list[Obligation]] = {}
        for obligation in self.sender.obligations():
            if obligation.channel is not None and obligation.status in (
                ObligationStatus.WAITING,
                ObligationStatus.SENT,
            ):
                found.setdefault(obligation.channel, []).append(obligation)
        return found

    def _take_on(self, duty: Obligation) -> Sequence[Moment]:
        """Take a duty on, under a further name if what was done about it before came to nothing."""
        earlier = self.sender.find(duty.id)
        if earlier is not None and earlier.receipt is not None and isinstance(duty.call, OFFERS):
            return ()  # offers die by themselves, and are not mended by being sent again
        try:
            return self.sender.pursue(duty, self.index.head_number)
        except InvalidInput as error:  # derived again at the next block
            self._alarm(Alarm(AlarmKind.DUTY_WAITS, f"{duty.purpose} must wait: {error}"))
            return ()

    def _give_up(self, unfinished: Sequence[Obligation], due: set[str]) -> list[Moment]:
        moments: list[Moment] = []
        for obligation in unfinished:
            duty = obligation.id.partition("/")[0]
            if obligation.status is ObligationStatus.WAITING and duty not in due and duty.startswith(DUTY_NAMES):
                moments += self.sender.supersede(obligation.id, "the channel has moved on")
        return moments

    def _situation(self, session: Session, view: ContractChannel, stakes: dict[Puzzle, int]) -> ChannelOnChain:
        channel = session.channel
        states = (channel.ours, *channel.flight, channel.theirs)
        older = self._older(session, view)
        puzzles = {lock.puzzle for state in states for lock in state.simplex.locks}
        puzzles |= {lock.puzzle for state in older.values() for lock in state.locks}
        proofs = self.index.proofs(puzzles, self.index.head_number) if puzzles else {}
        redeemed = (self.index.redeems(channel.id, 0), self.index.redeems(channel.id, 1))
        claims = session.streams.claims()
        market = self.following.market
        return ChannelOnChain(
            view, self.index.head_time, proofs, redeemed, claims, market.price, stakes, older, market.lowest
        )

    def _older(self, session: Session, view: ContractChannel) -> dict[int, OlderState]:
        """Return what stands on chain for good of states that were left behind."""
        found: dict[int, OlderState] = {}
        for sender, pot in enumerate(view.pots):
            if view.status != SETTLED or not pot or held_locks(session.channel, view, sender) is not None:
                continue
            name = (session.channel.id, sender, view.seqs[sender])
            if name not in self._left_behind:
                state = older_state(self._writer.store, session.channel, sender, view.seqs[sender])
                self._left_behind[name] = state
                if state is None:
                    short = session.channel.id.hex()[:8]
                    text = f"channel {short} ended with an old state whose locks this node's history does not tell"
                    self._alarm(Alarm(AlarmKind.LOCKS_UNKNOWN, f"{text}: {pot} wait on chain for who knows them"))
            left_behind = self._left_behind[name]
            if left_behind is not None:
                found[sender] = left_behind
        return found

    async def watch_fees(self) -> None:
        """Tell, for ever, when the account holds less than what may be due costs; raise nothing."""
        account = FeeAccount(self._key.address)
        while True:
            channels = [session.channel for session in self._engine.sessions.values()]
            need = needed(channels, self.following.market.price, self._duties)
            with contextlib.suppress(ChainError, ChainUnavailable):  # that has alarms of its own
                held = await self._chain.balance(self._key.address, NATIVE)
                account, alarm = account.look(FundsAndDuties(held, need))
                if alarm is not None:
                    self._alarm(alarm)
            await trio.sleep(LOOK_AGAIN if account.in_doubt else LOOK_EVERY)

    # --- the user's own transactions -----------------------------------------------------------------------------

    async def transact(self, name: str, call: Call, channel: ChannelId | None = None) -> None:
        """Get a call onto the chain and wait until it is confirmed; raise TallystickError if it fails."""
        await self.outcome(await self.take_on(name, call, channel))

    async def take_on(self, name: str, call: Call, channel: ChannelId | None = None) -> str:
        """Store that a call has to get onto the chain; return the obligation's id, for `outcome`."""
        identifier, moments = self.prepare(name, call, channel)
        await self._writer.commit(moments)
        return identifier

    @contextlib.asynccontextmanager
    async def allowance(self, asset: Address, amount: int, channel: ChannelId | None = None) -> AsyncIterator[None]:
        """Allow the adjudicator to take `amount` of a token, for a call that is taken on within the block.

        An approval replaces the one before (EIP-20), so each is for everything that calls of ours are yet to take. What
        is mined in between only leaves some of it over, for the adjudicator alone. The coin needs none. Raise
        TallystickError if the chain refuses.
        """
        self._allowing[asset] += amount
        try:
            if asset != NATIVE:
                await self.transact(
                    "approve", ApproveCall(asset, self._allowing[asset] + self._to_take(asset)), channel
                )
            yield
        finally:
            self._allowing[asset] -= amount

    def _to_take(self, asset: Address) -> int:
        """Return what calls of ours that are not mined yet will take of a token."""
        taken = 0
        for obligation in self.sender.obligations():
            call = obligation.call
            if obligation.status not in _UNMINED:
                continue
            if isinstance(call, OpenCall) and call.terms.asset == asset:
                taken += call.deposit
            elif isinstance(call, DepositCall) and call.asset == asset:
                taken += call.amount
        return taken

    def prepare(self, name: str, call: Call, channel: ChannelId | None = None) -> tuple[str, Sequence[Moment]]:
        """Take a call on as an obligation; return its id and what to commit."""
        identifier = f"{name}:{self._rng.getrandbits(64):016x}"
        asset, moved = moved_by(call)
        budget = duty_budget(asset, moved, gas_of(call), self.following.market.price, self._duties)
        obligation = Obligation(id=identifier, call=call, purpose=name, budget=budget, channel=channel)
        return identifier, self.sender.require(obligation)

    async def outcome(self, identifier: str) -> None:
        """Wait for an obligation; raise TallystickError with the reason if it was not done."""
        done = await self.sender.wait(identifier)
        if done.status is not ObligationStatus.DONE:
            raise TallystickError(f"the chain refused the {done.purpose}: {done.reason or done.trouble}")

    def is_opening(self, channel: ChannelId) -> bool:
        """Whether this node is on its way to the chain with that very channel."""
        return any(
            obligation.channel == channel and isinstance(obligation.call, OpenCall) and obligation.status in _UNMINED
            for obligation in self.sender.obligations()
        )

    def opening_failed(self, channel: ChannelId) -> bool | None:
        """Whether all that this node did to open that channel has come to nothing; None if it did nothing of late."""
        tried = [
            obligation
            for obligation in self.sender.obligations()
            if obligation.channel == channel and isinstance(obligation.call, OpenCall)
        ]
        if not tried:
            return None
        given_up = (ObligationStatus.SUPERSEDED, ObligationStatus.QUARANTINED)
        return all(
            one.status in given_up and (one.receipt is not None or one.nonce is None or one.resting) for one in tried
        )

    async def require_balance(self, amount: int, asset: Address, *calls: type[Call]) -> None:
        """Raise InsufficientFunds unless the account holds `amount` on chain, and what these calls cost in fees now."""
        account = f"account 0x{self._key.address.hex()}"
        held = await self._chain.balance(self._key.address, asset)
        if amount > held:
            raise InsufficientFunds(f"{account} holds {held} of {_named(asset)}, not {amount}")
        approve = (ApproveCall,) if asset != NATIVE else ()
        price = self.following.market.price or await self._chain.fee_price()
        fee = sum(GAS[call] for call in (*calls, *approve)) * price
        coins = held - amount if asset == NATIVE else await self._chain.balance(self._key.address, NATIVE)
        if coins < max(1, fee):
            raise InsufficientFunds(
                f"{account} would have {coins} left for fees, which are about {fee} now: use less, or put coins into it"
            )


def _named(asset: Address) -> str:
    """Return what an asset is called in a sentence."""
    return "the chain's own coin" if asset == NATIVE else f"the token 0x{asset.hex()}, if there is such a token"
