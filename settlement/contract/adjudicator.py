"""The adjudicator: what each call does to a channel on chain (PROTOCOL sections 5 to 7), as pure rules.

`apply` takes a channel's state and a call and returns a `CallOutcome`, or raises `Reverted` and nothing has happened.
Nothing else changes a channel. Who may call what, and when:

| call              | by              | status       | block time              | status after                    |
| ----------------- | --------------- | ------------ | ----------------------- | ------------------------------- |
| open              | a participant   | (none)       |                         | OPEN                            |
| deposit           | anyone          | OPEN         |                         | OPEN                            |
| withdraw          | anyone          | OPEN         | up to validUntil        | OPEN                            |
| cooperative_close | anyone          | OPEN         | up to validUntil        | GONE                            |
| close             | a participant   | OPEN         |                         | CLOSED                          |
| challenge         | anyone          | CLOSED       | up to the deadline      | CLOSED                          |
| settle            | anyone          | CLOSED       | after the deadline      | SETTLED, or GONE with no pots   |
| redeem            | anyone          | SETTLED      |                         | SETTLED, GONE when pots are empty |

"Anyone" is safe where signatures or the stored state decide everything; the caller can only pay the fee. A cooperative
close does not count once somebody closed alone: else whoever holds an unexpired one could try an old proof at no risk,
and escape with the agreed balances as soon as a challenge shows up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import msgspec
from msgspec.structs import replace

from tallystick.channels.errors import InvalidSignature
from tallystick.channels.limits import CHALLENGE_PERIOD_MAX, DEPOSITS_MAX
from tallystick.channels.protocol.eip712 import (
    channel_id,
    digest_cooperative_close,
    digest_proof,
    digest_voucher,
    digest_withdrawal,
    domain_separator,
    locks_root,
)
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import NATIVE, Address, ChannelId, SignedProof
from tallystick.settlement.chain import (
    ChallengeCall,
    Challenged,
    ChannelOpened,
    CloseCall,
    Closed,
    CooperativeCloseCall,
    CooperativelyClosed,
    DepositCall,
    Deposited,
    OpenCall,
    RedeemCall,
    Redeemed,
    SettleCall,
    Settled,
    WithdrawCall,
    Withdrawn,
    with_side,
)
from tallystick.settlement.contract.state import (
    BPS,
    CallOutcome,
    ChannelStatus,
    ChannelStorage,
    Parameters,
    Payout,
    StandingProof,
)
from tallystick.settlement.contract.verdicts import Kept, decide
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.ethereum.signatures import verify_signer

Shared: TypeAlias = Callable[[int], int | None]
"""Returns what side 0 had deposited when the channel's deposits had that sum; None: they never had, or have it now."""

ChannelCall: TypeAlias = (
    OpenCall | DepositCall | WithdrawCall | CooperativeCloseCall | CloseCall | ChallengeCall | SettleCall | RedeemCall
)
"""The calls that touch a channel: each touches exactly one."""


Verify: TypeAlias = Callable[[bytes, bytes, Address], None]
"""Does as `verify_signer`: it may know the answer already."""


class CallContext(msgspec.Struct, frozen=True):
    """What a rule may know besides the channel and the call."""

    parameters: Parameters
    caller: Address
    time: int
    """Of the block."""
    count: int
    """Channels that the pair of an `open` has had in its asset."""
    asset_exists: bool
    """Whether the asset of an `open` is the native coin or a token of this chain."""
    kept: Kept
    shared: Shared = lambda total: None
    verify: Verify = verify_signer

    @property
    def domain(self) -> bytes:
        """Of all signatures that the contract checks."""
        return domain_separator(self.parameters.chain_id, self.parameters.contract)


def channel_of(call: ChannelCall) -> ChannelId:
    """Return the id of the one channel that `call` touches."""
    match call:
        case OpenCall(terms):
            return channel_id(terms)
        case WithdrawCall(withdrawal):
            return withdrawal.channel
        case CooperativeCloseCall(close):
            return close.channel
        case ChallengeCall(proof):
            return proof.proof.channel
        case _:
            return call.channel


def apply(channel: ChannelStorage | None, call: ChannelCall, situation: CallContext) -> CallOutcome:
    """Return what `call` does to `channel` (None: it never existed); raise Reverted if a rule refuses it."""
    if isinstance(call, OpenCall):
        return _open(channel, call, situation)
    if channel is None:
        raise Reverted(Revert.UNKNOWN_CHANNEL, f"there is no channel {channel_of(call).hex()} on this chain")
    needed, rule = _RULES[type(call)]
    if channel.status != needed:
        now = ChannelStatus(channel.status).name.lower()
        raise Reverted(Revert.WRONG_STATUS, f"the channel is {now}; this call needs one that is {needed.name.lower()}")
    return rule(channel, call, situation)


# --- while both agree -------------------------------------------------------------------------------------------


def _open(channel: ChannelStorage | None, call: OpenCall, situation: CallContext) -> CallOutcome:
    terms, rules = call.terms, situation.parameters
    if (terms.chain_id, terms.contract) != (rules.chain_id, rules.contract):
        raise Reverted(Revert.BAD_TERMS, "the terms name another chain or another contract")
    if channel is not None:
        raise Reverted(Revert.CHANNEL_EXISTS, f"channel {channel_of(call).hex()} is on the chain already")
    if situation.caller not in terms.participants:
        raise Reverted(Revert.NOT_A_PARTICIPANT, "only one of its two participants can open a channel")
    if rules.contract in terms.participants:
        raise Reverted(Revert.BAD_TERMS, "the adjudicator itself cannot take part in a channel")
    if not situation.asset_exists:
        raise Reverted(Revert.BAD_TERMS, f"there is no token 0x{terms.asset.hex()} on this chain")
    if not 1 <= terms.challenge_period <= CHALLENGE_PERIOD_MAX:
        raise Reverted(Revert.BAD_TERMS, f"a challenge period must be from 1 to {CHALLENGE_PERIOD_MAX} seconds")
    if terms.number != situation.count:
        raise Reverted(
            Revert.WRONG_NUMBER,
            f"this pair's next channel in this asset has number {situation.count}, not {terms.number}",
        )
    if call.deposit > DEPOSITS_MAX:
        raise Reverted(Revert.BAD_AMOUNT, "the sum of a channel's deposits must stay below 2**120")
    side = terms.side_of(situation.caller)
    opened = ChannelStorage(terms, with_side((0, 0), side, call.deposit))
    id = channel_id(terms)
    deposited = (Deposited(id, side, call.deposit),) if call.deposit else ()
    return CallOutcome(opened, (ChannelOpened(id, terms), *deposited), taken=call.deposit)


def _deposit(channel: ChannelStorage, call: DepositCall, situation: CallContext) -> CallOutcome:
    _check_side(call.side)
    if call.asset != channel.terms.asset:
        raise Reverted(Revert.BAD_TERMS, f"the channel's asset is 0x{channel.terms.asset.hex()}, not the one named")
    if call.amount <= 0 or sum(channel.deposits) + call.amount > DEPOSITS_MAX:
        raise Reverted(Revert.BAD_AMOUNT, "a deposit must be positive and keep the sum of deposits below 2**120")
    total = channel.deposits[call.side] + call.amount
    deposited = replace(channel, deposits=with_side(channel.deposits, call.side, total))
    event = Deposited(call.channel, call.side, total)
    return CallOutcome(deposited, (event,), taken=call.amount, outgrown=channel.deposits)


def _withdraw(channel: ChannelStorage, call: WithdrawCall, situation: CallContext) -> CallOutcome:
    offer = call.withdrawal
    _check_side(offer.participant)
    if situation.time > offer.valid_until:
        raise Reverted(Revert.EXPIRED, f"the withdrawal was valid until {offer.valid_until}; sign a new one")
    _check_both(channel, digest_withdrawal(situation.domain, offer), call.signature0, call.signature1, situation)
    amount = offer.total - channel.withdrawn[offer.participant]
    if amount <= 0:
        raise Reverted(
            Revert.BAD_AMOUNT, f"{channel.withdrawn[offer.participant]} was withdrawn already; the total must exceed it"
        )
    if amount > channel.total:
        raise Reverted(Revert.BAD_AMOUNT, f"the channel holds {channel.total}, less than the {amount} to be withdrawn")
    withdrawn = replace(channel, withdrawn=with_side(channel.withdrawn, offer.participant, offer.total))
    return CallOutcome(
        withdrawn,
        (Withdrawn(offer.channel, offer.participant, offer.total),),
        payouts=(Payout(channel.terms.participants[offer.participant], amount),),
    )


def _cooperative_close(channel: ChannelStorage, call: CooperativeCloseCall, situation: CallContext) -> CallOutcome:
    offer = call.close
    if situation.time > offer.valid_until:
        raise Reverted(Revert.EXPIRED, f"the cooperative close was valid until {offer.valid_until}; sign a new one")
    digest = digest_cooperative_close(situation.domain, offer)
    _check_both(channel, digest, call.signature0, call.signature1, situation)
    late0, late1 = _deposited_since(channel, offer.balance0 + offer.balance1, situation)
    paid = (offer.balance0 + late0, offer.balance1 + late1)
    return CallOutcome(
        replace(channel, status=ChannelStatus.GONE),
        (CooperativelyClosed(offer.channel, *paid),),
        payouts=_payouts(zip(channel.terms.participants, paid, strict=True)),
    )


def _deposited_since(channel: ChannelStorage, balances: int, situation: CallContext) -> tuple[int, int]:
    """Return what was deposited for each side since the channel held just `balances`.

    Each deposit makes the sum of deposits grow, so the sum tells when that was. Anybody may deposit, so that what came
    later may neither make the close void nor go to the other side.
    """
    now, then = sum(channel.deposits), balances + sum(channel.withdrawn)
    first = channel.deposits[0] if then == now else situation.shared(then)
    if first is None:
        raise Reverted(
            Revert.BAD_BALANCES,
            f"the balances must sum to what the channel holds ({channel.total}) or once held, to the last unit",
        )
    late0 = channel.deposits[0] - first
    return late0, now - then - late0


# --- when one closes alone --------------------------------------------------------------------------------------


def _close(channel: ChannelStorage, call: CloseCall, situation: CallContext) -> CallOutcome:
    if situation.caller not in channel.terms.participants:
        raise Reverted(Revert.NOT_A_PARTICIPANT, "only one of its two participants can close a channel alone")
    if len(call.close_key) != 32 or keccak(call.close_key) != channel.terms.close_hash:
        raise Reverted(Revert.BAD_CLOSE_KEY, "the close key does not open the channel's close_hash")
    closer = channel.terms.side_of(situation.caller)
    standing = (
        _checked(channel, call.channel, 0, call.proof0, situation),
        _checked(channel, call.channel, 1, call.proof1, situation),
    )
    closed = replace(
        channel,
        status=ChannelStatus.CLOSED,
        closer=closer,
        deadline=situation.time + channel.terms.challenge_period,
        standing=standing,
        own_seq=standing[closer].seq,
    )
    event = Closed(call.channel, closer, standing[0].seq, standing[1].seq, call.close_key, closed.deadline)
    return CallOutcome(closed, (event,))


def _challenge(channel: ChannelStorage, call: ChallengeCall, situation: CallContext) -> CallOutcome:
    proof = call.proof.proof
    if situation.time > channel.deadline:
        raise Reverted(Revert.WINDOW_OVER, f"challenges counted until {channel.deadline}; the channel can be settled")
    _check_side(proof.sender)
    if proof.seq <= channel.standing[proof.sender].seq:
        raise Reverted(
            Revert.NOT_NEWER, f"seq {channel.standing[proof.sender].seq} stands, seq {proof.seq} does not replace it"
        )
    newer = _checked(channel, proof.channel, proof.sender, call.proof, situation)
    beneficiary = _beneficiary(channel, call, situation)
    convicts = proof.sender != channel.closer or proof.seen > channel.own_seq
    first = convicts and not channel.convicted
    challenged = replace(
        channel,
        standing=with_side(channel.standing, proof.sender, newer),
        convicted=channel.convicted or convicts,
        beneficiary=beneficiary if first else channel.beneficiary,
    )
    return CallOutcome(challenged, (Challenged(proof.channel, proof.sender, proof.seq, situation.caller, convicts),))


def _settle(channel: ChannelStorage, call: SettleCall, situation: CallContext) -> CallOutcome:
    if situation.time <= channel.deadline:
        raise Reverted(Revert.WINDOW_OPEN, f"the challenge window runs until {channel.deadline}; settle after it")
    deposit0 = channel.deposits[0] - channel.withdrawn[0]
    first, second = channel.standing
    gross0 = min(max(deposit0 + second.transferred - first.transferred, 0), channel.total)
    gross = (gross0, channel.total - gross0)
    pots = (min(first.locked, gross[0]), min(second.locked, gross[1]))
    nets, reward = _sentence(channel, (gross[0] - pots[0], gross[1] - pots[1]), situation.parameters)
    settled = replace(channel, status=ChannelStatus.SETTLED if any(pots) else ChannelStatus.GONE, pots=pots)
    paid = list(zip(channel.terms.participants, nets, strict=True))
    if channel.beneficiary is not None:
        paid.append((channel.beneficiary, reward))
    event = Settled(call.channel, nets[0], nets[1], reward, pots[0], pots[1], channel.convicted)
    return CallOutcome(settled, (event,), payouts=_payouts(paid))


def _sentence(channel: ChannelStorage, nets: tuple[int, int], rules: Parameters) -> tuple[tuple[int, int], int]:
    """Return what each side is paid, and the beneficiary's reward, after a conviction if there was one."""
    if not channel.convicted:
        return nets, 0
    forfeited = nets[channel.closer]
    reward = forfeited * rules.reward_bps // BPS if channel.beneficiary is not None else 0
    return with_side((0, 0), 1 - channel.closer, sum(nets) - reward), reward


def _redeem(channel: ChannelStorage, call: RedeemCall, situation: CallContext) -> CallOutcome:
    """Decide the locks of one simplex.

    Each lock has a share of the pot: its amount while the pot lasts, in the order that both signed (that of id). A
    waiting lock keeps its share, so it does not matter when which lock is redeemed, or by whom.
    """
    _check_side(call.sender)
    pot = channel.pots[call.sender]
    if pot == 0:
        raise Reverted(Revert.NOTHING_TO_REDEEM, f"nothing is held back for locks of side {call.sender}")
    if locks_root(call.locks) != channel.standing[call.sender].root:
        raise Reverted(Revert.BAD_LOCKS, "these locks are not the pending ones that both parties signed")
    paid = refunded = 0
    kept, left = [], pot
    for lock in call.locks:
        share = min(lock.amount, left)
        left -= share
        due = decide(lock, situation.time, situation.kept)
        if due is None:
            kept.append(lock)
        else:
            paid += min(due, share)
            refunded += share - min(due, share)
    if kept and len(kept) == len(call.locks):
        raise Reverted(Revert.NOTHING_TO_REDEEM, "no lock is decided yet: no secret is registered and none has expired")
    refunded += 0 if kept else left
    pots = with_side(channel.pots, call.sender, pot - paid - refunded)
    root = locks_root(kept)
    standing = with_side(channel.standing, call.sender, replace(channel.standing[call.sender], root=root))
    redeemed = replace(
        channel, status=ChannelStatus.SETTLED if any(pots) else ChannelStatus.GONE, pots=pots, standing=standing
    )
    sender, receiver = channel.terms.participants[call.sender], channel.terms.participants[1 - call.sender]
    event = Redeemed(call.channel, call.sender, paid, refunded, root)
    return CallOutcome(redeemed, (event,), payouts=_payouts([(receiver, paid), (sender, refunded)]))


Rule: TypeAlias = Callable[[ChannelStorage, Any, CallContext], CallOutcome]
_RULES: dict[type[Any], tuple[ChannelStatus, Rule]] = {
    DepositCall: (ChannelStatus.OPEN, _deposit),
    WithdrawCall: (ChannelStatus.OPEN, _withdraw),
    CooperativeCloseCall: (ChannelStatus.OPEN, _cooperative_close),
    CloseCall: (ChannelStatus.OPEN, _close),
    ChallengeCall: (ChannelStatus.CLOSED, _challenge),
    SettleCall: (ChannelStatus.CLOSED, _settle),
    RedeemCall: (ChannelStatus.SETTLED, _redeem),
}


# --- checks -----------------------------------------------------------------------------------------------------


def _checked(
    channel: ChannelStorage, id: ChannelId, sender: int, signed: SignedProof | None, situation: CallContext
) -> StandingProof:
    """Return what counts of the proof of simplex `sender` once all of it is found right; None is genesis."""
    if signed is None:
        return StandingProof()
    proof = signed.proof
    if proof.channel != id or proof.sender != sender:
        raise Reverted(Revert.BAD_PROOF, f"this is no proof of simplex {sender} of channel {id.hex()}")
    if proof.seq == 0:
        raise Reverted(Revert.BAD_PROOF, "genesis needs no proof: leave the proof of seq 0 out")
    digest = digest_proof(situation.domain, proof)
    _check_signature(channel, sender, digest, signed.signature, situation)
    _check_signature(channel, 1 - sender, digest, signed.countersignature, situation)
    return StandingProof(proof.seq, proof.transferred, proof.locked, proof.locks_root)


def _beneficiary(channel: ChannelStorage, call: ChallengeCall, situation: CallContext) -> Address | None:
    """Return whom the victim's voucher names, if the challenge carries one that is right."""
    if call.voucher is None or call.voucher.beneficiary == NATIVE:  # in a call's bytes the zero address is no voucher
        return None
    if call.voucher.channel != call.proof.proof.channel or call.voucher.beneficiary == situation.parameters.contract:
        raise Reverted(Revert.BAD_PROOF, "the voucher is for another channel, or names the adjudicator")
    digest = digest_voucher(situation.domain, call.voucher)
    _check_signature(channel, 1 - channel.closer, digest, call.voucher_signature, situation)
    return call.voucher.beneficiary


def _check_both(
    channel: ChannelStorage, digest: bytes, signature0: bytes, signature1: bytes, situation: CallContext
) -> None:
    _check_signature(channel, 0, digest, signature0, situation)
    _check_signature(channel, 1, digest, signature1, situation)


def _check_signature(
    channel: ChannelStorage, side: int, digest: bytes, signature: bytes, situation: CallContext
) -> None:
    try:
        situation.verify(digest, signature, channel.terms.participants[side])
    except InvalidSignature as error:
        raise Reverted(Revert.BAD_SIGNATURE, f"side {side} has not signed this: {error}") from error


def _check_side(side: int) -> None:
    if side not in (0, 1):
        raise Reverted(Revert.NOT_A_PARTICIPANT, f"a channel has sides 0 and 1, not {side}")


def _payouts(shares: Iterable[tuple[Address, int]]) -> tuple[Payout, ...]:
    return tuple(Payout(to, amount) for to, amount in shares if amount)
