"""The adjudicator's contract as its callers see it: the calls of `settlement.chain` in its ABI, and its events.

Written from contracts/README.md alone, and not with the product's own encoder, so that each checks the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from simulation.evm import Evm, Outcome, calldata
from tallystick.channels.errors import InvalidSignature
from tallystick.channels.protocol.eip712 import (
    channel_id,
    digest_cooperative_close,
    digest_proof,
    digest_voucher,
    digest_withdrawal,
    domain_separator,
)
from tallystick.channels.protocol.keys import keccak, with_recovery_id
from tallystick.channels.protocol.objects import NATIVE, ZERO32, Address, ChannelId, Lock, SignedProof, Terms
from tallystick.settlement.chain import (
    Call,
    ChallengeCall,
    ClaimCall,
    CloseCall,
    CooperativeCloseCall,
    DepositCall,
    Event,
    OpenCall,
    RedeemCall,
    RegisterLinkCall,
    RegisterSecretCall,
    SettleCall,
    WithdrawCall,
)
from tallystick.settlement.errors import ChainError
from tallystick.settlement.ethereum.abi import Deployment, terms_values
from tallystick.settlement.ethereum.abi_values import decode_values
from tallystick.settlement.ethereum.event_logs import Log, decode_event
from tallystick.settlement.ethereum.views import CHANNEL

TERMS = "(address,address,address,uint64,uint64,bytes32)"
SIGNATURE = "(bytes32,uint256)"
HELD = "(uint128,bytes32)"
PERMIT = "(uint256,uint8,bytes32,bytes32)"

FEW = 32
"""Locks that `redeem` takes; `redeemMany` takes more."""


class LocksHeld(NamedTuple):
    """What a standing proof says of its locks."""

    channel: ChannelId
    sender: int
    locked: int
    root: bytes


class CallFailed(NamedTuple):
    """A call of a batch did nothing."""

    position: int
    answer: bytes


Extra = LocksHeld | CallFailed
_EXTRA: dict[bytes, tuple[Any, tuple[str, ...]]] = {
    keccak(f"{name}({','.join(types)})".encode()): (kind, types)
    for name, types, kind in (
        ("LocksHeld", ("bytes32", "uint8", "uint128", "bytes32"), LocksHeld),
        ("CallFailed", ("uint256", "bytes"), CallFailed),
    )
}


class Channel(NamedTuple):
    """What the contract's view says of a channel."""

    status: int
    deposits: tuple[int, int]
    withdrawn: tuple[int, int]
    closer: int | None
    deadline: int | None
    seqs: tuple[int, int]
    held: tuple[bytes, bytes]
    pots: tuple[int, int]
    convicted: bool


def packed(locks: Iterable[Lock]) -> bytes:
    """Return locks as `redeem` takes them."""
    return b"".join(
        lock.id.to_bytes(8, "big")
        + lock.amount.to_bytes(16, "big")
        + lock.expiry.to_bytes(8, "big")
        + bytes([lock.kind])
        + lock.condition
        for lock in locks
    )


def compact(digest: bytes, signature: bytes, signer: Address) -> tuple[bytes, int]:
    """Return a signature as EIP-2098 has it. One that is not the signer's keeps the bit at zero."""
    padded = signature.ljust(64, b"\0")[:64]
    try:
        odd = with_recovery_id(digest, signature, signer)[64] - 27
    except InvalidSignature:
        odd = 0
    return padded[:32], int.from_bytes(padded[32:], "big") | odd << 255


def commitment(locked: int, root: bytes) -> bytes:
    """Return the hash that the contract keeps of a simplex's locks."""
    return keccak(locked.to_bytes(32, "big") + root)


class EvmAdjudicator:
    """One contract on a chain. Remembers terms, and what `LocksHeld` said, as a node must."""

    def __init__(self, evm: Evm, at: Address, court: Address | None = None) -> None:
        self.evm = evm
        self.at = at
        self.court = court
        self.deployment = Deployment(evm.chain_id, at)
        self.domain = domain_separator(evm.chain_id, at)
        self.terms: dict[ChannelId, Terms] = {}
        self.held: dict[tuple[ChannelId, int], tuple[int, bytes]] = {}
        self.puzzles: set[bytes] = set()
        """Conditions of which something may be registered."""

    def know(self, terms: Terms) -> None:
        """Learn the terms of a channel."""
        self.terms[channel_id(terms)] = terms

    def encode(self, call: Call) -> tuple[bytes, int]:
        """Return a call's data and value."""
        types: tuple[str, ...]
        values: tuple[Any, ...]
        match call:
            case OpenCall(terms, deposit):
                self.know(terms)
                data = calldata("open", (TERMS, "uint128"), (terms_values(terms), deposit))
                return data, deposit if terms.asset == NATIVE else 0
            case DepositCall(channel, side, amount, asset):
                types = (TERMS, "uint8", "uint128")
                data = calldata("deposit", types, (self._terms(channel), side, amount))
                return data, amount if asset == NATIVE else 0
            case WithdrawCall(offer):
                both = self._both(offer.channel, digest_withdrawal(self.domain, offer), call)
                types = (TERMS, "uint8", "uint128", "uint64", SIGNATURE, SIGNATURE)
                values = (offer.participant, offer.total, offer.valid_until)
                return calldata("withdraw", types, (self._terms(offer.channel), *values, *both)), 0
            case CooperativeCloseCall(offer):
                both = self._both(offer.channel, digest_cooperative_close(self.domain, offer), call)
                types = (TERMS, "uint128", "uint128", "uint64", SIGNATURE, SIGNATURE)
                values = (offer.balance0, offer.balance1, offer.valid_until)
                return calldata("cooperativeClose", types, (self._terms(offer.channel), *values, *both)), 0
            case CloseCall(channel, proof0, proof1, close_key):
                proofs = [b"" if proof is None else self.proof(channel, proof) for proof in (proof0, proof1)]
                types = (TERMS, "bytes", "bytes", "bytes32")
                return calldata("close", types, (self._terms(channel), *proofs, close_key)), 0
            case ChallengeCall(proof, voucher, signature):
                channel = proof.proof.channel
                values = (self._terms(channel), proof.proof.sender, self.proof(channel, proof))
                if voucher is None:
                    return calldata("challenge", (TERMS, "uint8", "bytes"), values), 0
                digest = digest_voucher(self.domain, voucher)
                pair = self._by_either(channel, digest, signature)
                types = (TERMS, "uint8", "bytes", "address", SIGNATURE)
                return calldata("challenge", types, (*values, voucher.beneficiary, pair)), 0
            case SettleCall(channel):
                held = [self.held.get((channel, side)) for side in (0, 1)]
                if held == [None, None]:
                    return calldata("settle", (TERMS,), (self._terms(channel),)), 0
                values = (self._terms(channel), *(pair or (0, ZERO32) for pair in held))
                return calldata("settle", (TERMS, HELD, HELD), values), 0
            case RedeemCall(channel, sender, locks):
                return self.redeem(channel, sender, locks), 0
            case ClaimCall(asset, to):
                return calldata("claim", ("address", "address"), (asset, to)), 0
            case RegisterSecretCall(secret):
                return calldata("registerSecret", ("bytes32",), (secret,)), 0
            case RegisterLinkCall():
                types = ("bytes32", "uint64", "bytes32", "uint128", "uint64", "uint64")
                return calldata("registerLink", types, msgspec.structs.astuple(call)), 0
        raise TypeError(f"the adjudicator has no call {call}")

    def redeem(self, channel: ChannelId, sender: int, locks: Sequence[Lock], *, many: bool = False) -> bytes:
        """Return the data of a redeem."""
        locked, _ = self.held.get((channel, sender), (sum(lock.amount for lock in locks), b""))
        name = "redeemMany" if many or len(locks) > FEW else "redeem"
        values = (self._terms(channel), sender, locked, packed(locks))
        return calldata(name, (TERMS, "uint8", "uint128", "bytes"), values)

    def send(self, call: Call, by: Address) -> tuple[tuple[Event | Extra, ...], int]:
        """Make a call; return its events and gas. Raise EvmReverted."""
        data, value = self.encode(call)
        outcome = self.evm.send(by, self.at, data, value)
        return self.events(outcome), outcome.gas

    def events(self, outcome: Outcome) -> tuple[Event | Extra, ...]:
        """Return the events of the adjudicator and its court, and learn from them."""
        events = tuple(self._event(log) for address, log in outcome.logs if address in (self.at, self.court))
        for event in events:
            if isinstance(event, LocksHeld):
                self.held[event.channel, event.sender] = (event.locked, event.root)
        return events

    def view(self, channel: ChannelId) -> Channel | None:
        """Ask the contract for a channel."""
        data = self.evm.call(self.at, calldata("channel", (TERMS,), (self._terms(channel),)))
        values = decode_values(CHANNEL.results, data)
        if not values[0]:
            return None
        if values[1:7] != self._terms(channel):
            raise ChainError("the contract answers for other terms")
        alone = values[12]
        return Channel(
            status=values[7],
            deposits=values[8:10],
            withdrawn=values[10:12],
            closer=values[13] if alone else None,
            deadline=values[14] if alone else None,
            seqs=values[15:17],
            held=values[17:19],
            pots=values[19:21],
            convicted=values[21],
        )

    def owed(self, asset: Address, account: Address) -> int:
        """What an account can claim."""
        data = calldata("owed", ("address", "address"), (asset, account))
        return int.from_bytes(self.evm.call(self.at, data), "big")

    def claim(self, asset: Address, by: Address, to: Address) -> tuple[Event | Extra, ...]:
        """Claim what is owed."""
        outcome = self.evm.send(by, self.at, calldata("claim", ("address", "address"), (asset, to)))
        return self.events(outcome)

    def batch(self, calls: Sequence[bytes], by: Address) -> tuple[tuple[Event | Extra, ...], int]:
        """Make many calls at once."""
        outcome = self.evm.send(by, self.at, calldata("batch", ("bytes[]",), (list(calls),)))
        return self.events(outcome), outcome.gas

    def proof(self, channel: ChannelId, signed: SignedProof) -> bytes:
        """Return a proof as the contract takes it."""
        proof = signed.proof
        first = self.terms[channel].participants[proof.sender % 2]
        second = self.terms[channel].participants[1 - proof.sender % 2]
        digest = digest_proof(self.domain, proof)
        signatures = (compact(digest, signed.signature, first), compact(digest, signed.countersignature, second))
        locks = proof.locked.to_bytes(16, "big") + proof.locks_root if proof.locked or any(proof.locks_root) else b""
        return b"".join(
            (
                *(proof.seq.to_bytes(8, "big"), proof.seen.to_bytes(8, "big"), proof.transferred.to_bytes(16, "big")),
                *(r + vs.to_bytes(32, "big") for r, vs in signatures),
                locks,
            )
        )

    def _event(self, log: Log) -> Event | Extra:
        if log.topics[0] not in _EXTRA:
            return decode_event(log, self.deployment)
        kind, types = _EXTRA[log.topics[0]]
        values = (
            decode_values(types, log.topics[1] + log.data)
            if types[-1] != "bytes"
            else (
                int.from_bytes(log.topics[1], "big"),
                *decode_values(("bytes",), log.data),
            )
        )
        extra: Extra = kind(*values)
        return extra

    def _terms(self, channel: ChannelId) -> tuple[Any, ...]:
        return terms_values(self.terms[channel])

    def _both(
        self, channel: ChannelId, digest: bytes, call: WithdrawCall | CooperativeCloseCall
    ) -> tuple[tuple[bytes, int], tuple[bytes, int]]:
        first, second = self.terms[channel].participants
        return compact(digest, call.signature0, first), compact(digest, call.signature1, second)

    def _by_either(self, channel: ChannelId, digest: bytes, signature: bytes) -> tuple[bytes, int]:
        pairs = [compact(digest, signature, address) for address in self.terms[channel].participants]
        return max(pairs, key=lambda pair: pair[1])
