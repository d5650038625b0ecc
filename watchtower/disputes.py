"""The tower's disputes: channels that were closed unilaterally, folded from events, and what they call for. Pure.

| the chain says                                         | the tower                                                |
| ------------------------------------------------------ | -------------------------------------------------------- |
| closed by the other party, with a lower seq than held  | owes a challenge, until the deadline                     |
| challenged by somebody, still lower than held          | owes it still                                            |
| challenged by somebody, as high as held or higher      | owes nothing: superseded                                 |
| closed by its own client                               | owes nothing: a challenge would only convict the client  |
| the tower's challenge convicted, and the window over   | owes the settlement, by which it is paid                 |
| settled                                                | owes nothing any more; it is over when that is deep      |
| the block of any of these left the chain               | whatever the remaining events call for                   |

No duty is remembered as an event that could get lost: all are derived again at every block, from the events that
stand and the blobs that are held then.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tallystick.channels.errors import InvalidSignature
from tallystick.channels.protocol.eip712 import channel_id, digest_proof, digest_voucher, domain_separator
from tallystick.channels.protocol.objects import Address, ChannelId, SignedProof, Terms, Voucher
from tallystick.settlement.chain import ChallengeCall, Challenged, Closed, Header, SettleCall, Settled
from tallystick.settlement.enforcement.duties import COURTESY
from tallystick.settlement.ethereum.signatures import verify_signer
from tallystick.settlement.sending.obligations import Duty, Obligation
from tallystick.watchtower.claims import LockClaim
from tallystick.watchtower.sealing import Appointment

CaseEvent = Closed | Challenged | Settled


class DisputeEvent(msgspec.Struct, frozen=True, array_like=True):
    """One event of a dispute, and its block."""

    block: Header
    event: CaseEvent


class Dispute(msgspec.Struct, frozen=True):
    """A channel that was closed unilaterally, with its events since, in order."""

    terms: Terms
    sightings: tuple[DisputeEvent, ...] = ()

    @property
    def channel(self) -> ChannelId:
        """The channel's id."""
        return channel_id(self.terms)

    @property
    def closed(self) -> Closed | None:
        """How it was closed; None if the closing block has left the chain."""
        return next((s.event for s in self.sightings if isinstance(s.event, Closed)), None)

    @property
    def settled(self) -> DisputeEvent | None:
        """Its settlement, if there is one."""
        return next((s for s in self.sightings if isinstance(s.event, Settled)), None)

    def standing(self, sender: int) -> tuple[int, Address | None]:
        """Return the seq that stands for a simplex, and who challenged up to it (None: the closer gave it)."""
        seq, by = 0, None
        for sighting in self.sightings:
            match sighting.event:
                case Closed(seq0=seq0, seq1=seq1):
                    seq, by = (seq0, seq1)[sender], None
                case Challenged(sender=challenged, seq=higher, by=address) if challenged == sender:
                    seq, by = higher, address
        return seq, by

    def with_event(self, block: Header, event: CaseEvent) -> Dispute:
        """Return the dispute with one more event."""
        return msgspec.structs.replace(self, sightings=(*self.sightings, DisputeEvent(block, event)))

    def without_block(self, number: int) -> Dispute:
        """Return the dispute as it was before the block of that number."""
        kept = tuple(s for s in self.sightings if s.block.number < number)
        return msgspec.structs.replace(self, sightings=kept)


class Defence(msgspec.Struct, frozen=True):
    """An opened appointment, whose signatures were checked."""

    party: Address
    proofs: tuple[SignedProof | None, SignedProof | None]
    voucher: Voucher | None
    voucher_signature: bytes
    claims: tuple[LockClaim, ...] = ()
    """What it says to pay for the peer's pending locks: not looked at yet."""
    cover: int = 0
    """What the tower answers for with its bond, in the chain's coin."""


def check(appointment: Appointment, terms: Terms, party: Address, tower: Address) -> Defence:
    """Return what of an opened appointment is of use: valid proofs of this channel, and the voucher if it is right."""
    channel, domain = channel_id(terms), domain_separator(terms.chain_id, terms.contract)
    proofs = tuple(
        signed if signed is not None and _valid(signed, sender, terms, channel, domain) else None
        for sender, signed in enumerate(appointment.proofs)
    )
    voucher, signature = Voucher(channel, tower), appointment.voucher_signature
    if not _is_signed(digest_voucher(domain, voucher), signature, party):
        return Defence(party, (proofs[0], proofs[1]), None, b"", appointment.claims)
    return Defence(party, (proofs[0], proofs[1]), voucher, signature, appointment.claims)


def _valid(signed: SignedProof, sender: int, terms: Terms, channel: ChannelId, domain: bytes) -> bool:
    if (signed.proof.channel, signed.proof.sender) != (channel, sender):
        return False
    digest = digest_proof(domain, signed.proof)
    return _is_signed(digest, signed.signature, terms.participants[sender]) and _is_signed(
        digest, signed.countersignature, terms.participants[1 - sender]
    )


def _is_signed(digest: bytes, signature: bytes, signer: Address) -> bool:
    """Whether the contract would take the signature: else the tower would pay for a challenge that is refused."""
    try:
        verify_signer(digest, signature, signer)
    except InvalidSignature:
        return False
    return True


class ChallengeBudget(msgspec.Struct, frozen=True):
    """What a tower pays for challenges, in the native coin. Clients may be in league with those who cheat them."""

    budget: int
    """The most for one challenge, whatever it earns."""
    courtesy: int
    """The most for one challenge that earns less than this."""
    reward_bps: int
    """Ten-thousandths of what a convict forfeits that the adjudicator gives to the tower."""

    def for_challenge(self, defence: Defence, closer: int, funds: tuple[int, int] | None) -> int:
        """Return what one of a defence's two challenges may cost: half of the reward, if that is more than courtesy.

        `funds` is what each side has in the channel, in the coin; None if that is not known: then it may earn anything.
        """
        if funds is None:
            return self.budget if defence.voucher is not None else min(self.budget, self.courtesy)
        paid = [0 if signed is None else signed.proof.transferred for signed in defence.proofs]
        forfeited = max(0, funds[closer] + paid[1 - closer] - paid[closer])
        reward = forfeited * self.reward_bps // 10_000 if defence.voucher is not None else 0
        return min(self.budget, max(self.courtesy, reward // 2))


def duties(
    dispute: Dispute, defences: Iterable[Defence], budget: ChallengeBudget, funds: tuple[int, int] | None = None
) -> list[Obligation]:
    """Return the challenges that the dispute calls for now; after a reorganisation, under the same names again."""
    closed = dispute.closed
    if closed is None or dispute.settled is not None:
        return []
    mine = [each for each in defences if each.party != dispute.terms.participants[closed.closer]]
    most = max((max(budget.for_challenge(each, closed.closer, funds), each.cover) for each in mine), default=0)
    reward = next(((each.voucher, each.voucher_signature) for each in mine if each.voucher is not None), (None, b""))
    found, name = list[Obligation](), dispute.channel.hex()
    for sender in (0, 1):
        held = [signed for each in mine if (signed := each.proofs[sender]) is not None]
        signed = max(held, key=lambda held: held.proof.seq, default=None)
        if signed is None or signed.proof.seq <= dispute.standing(sender)[0]:
            continue
        found.append(
            Obligation(
                id=f"challenge:{name}:{sender}:{signed.proof.seq}",
                call=ChallengeCall(signed, *reward),
                purpose=f"challenge the close of channel {name[:8]} on side {sender}",
                budget=most,
                channel=dispute.channel,
                duty=Duty.CHALLENGE,
                deadline=closed.deadline,
            )
        )
    return found


def settlement(
    dispute: Dispute, defences: Iterable[Defence], budget: ChallengeBudget, tower: Address, now: int
) -> list[Obligation]:
    """Return the settlement that the dispute calls for at that time: only if it brings the tower its reward.

    Everybody may settle, and mostly somebody does: the tower waits twice as long as a node would (`COURTESY`),
    so that it is not in the same block as its client's.
    """
    closed = dispute.closed
    if closed is None or dispute.settled is not None or now <= closed.deadline + 2 * COURTESY:
        return []
    if not any(isinstance(s.event, Challenged) and s.event.convicts and s.event.by == tower for s in dispute.sightings):
        return []
    if not any(defence.voucher is not None for defence in defences):
        return []
    return [
        Obligation(
            id=f"settle:{dispute.channel.hex()}",
            call=SettleCall(dispute.channel),
            purpose=f"settle channel {dispute.channel.hex()[:8]}, whose closer was convicted",
            budget=budget.courtesy,
            channel=dispute.channel,
            duty=Duty.SETTLE,
        )
    ]


def moot(dispute: Dispute | None, obligation: Obligation, tower: Address) -> str:
    """Return why a challenge is not needed any more, empty if it is, or if its own success is why it is not."""
    call = obligation.call
    if isinstance(call, SettleCall):
        return "the close has left the chain" if dispute is None or dispute.closed is None else ""
    if not isinstance(call, ChallengeCall):
        return ""
    if dispute is None or dispute.closed is None:
        return "the close has left the chain"
    seq, by = dispute.standing(call.proof.proof.sender)
    if dispute.settled is not None and by != tower:
        return "the channel is settled"
    if seq >= call.proof.proof.seq and by != tower:
        return f"seq {seq} stands already"
    return ""
