"""What each call of the contract costs on a node, measured for `tally bench gas` by the receipts of its transactions.

The contract is deployed anew, so that the pair's first channel is its first. Every account has coins and tokens before,
as else whoever is paid first makes an entry for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tallystick.channels.apps.table import SHIPPED
from tallystick.channels.limits import AMOUNT_MAX
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.eip712 import (
    channel_id,
    digest_cooperative_close,
    digest_proof,
    domain_separator,
    locks_root,
)
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import (
    NATIVE,
    Address,
    BalanceProof,
    CooperativeClose,
    Lock,
    SignedProof,
    Terms,
)
from tallystick.contracts import RULES, artifact, court_code, creation_code
from tallystick.sdk.bench.evm_node import GAS_MAX, EvmNode
from tallystick.sdk.errors import MeasurementVoid
from tallystick.settlement.chain import (
    ApproveCall,
    Call,
    ChallengeCall,
    CloseCall,
    CooperativeCloseCall,
    DepositCall,
    OpenCall,
    RedeemCall,
    RegisterSecretCall,
    SettleCall,
)
from tallystick.settlement.ethereum.abi import Deployment, Envelope, Signature
from tallystick.settlement.ethereum.evm.abi import ChannelContext, HeldLocks, encode_evm_call
from tallystick.settlement.ethereum.views import BALANCE_OF
from tallystick.settlement.testing.token import TOKEN, TRANSFER

AMOUNT = 10**15
PERIOD = 60
"""Seconds of the channels' challenge window."""
FAR = 2**40 - 1
CLOSE_KEY = keccak(b"the close key of tally bench gas")
BATCH = 100
"""Cooperative closes, or registrations of secrets, in one transaction."""

TOKENS = 10**24
"""Of each account."""

_BATCH = Signature("batch", ("bytes[]",))


def accounts() -> tuple[PrivateKey, PrivateKey, PrivateKey]:
    """Return the keys of a channel's sides, in order, and of a third one who hands in."""
    keys = sorted((PrivateKey(keccak(b"tally bench gas %d" % at)) for at in (0, 1)), key=lambda key: key.address)
    return keys[0], keys[1], PrivateKey(keccak(b"tally bench gas, a third"))


class Meter:
    """The contract on a node, two parties that sign anything, and a third one who hands in."""

    def __init__(self, node: EvmNode) -> None:
        self.node = node
        first, second, self.third = accounts()
        self.keys = (first, second)
        self.pay_in(NATIVE)

    def pay_in(self, asset: Address) -> None:
        """Let the next channels be in this asset, in which the pair has had none."""
        self.asset = asset
        self.number = 0

    async def deploy(self) -> None:
        """Fill the accounts, and put the court and the contract onto the chain."""
        await self.node.fund(*(key.address for key in (*self.keys, self.third)))
        codes = {app.id: artifact(RULES[app.name, app.version]).code for app in SHIPPED}
        rules = {app: await self.node.create(self.third, code) for app, code in codes.items()}
        self.court = await self.node.create(self.third, court_code(rules))
        code = creation_code(court=self.court)
        self.at = Deployment(self.node.chain_id, await self.node.create(self.third, code))
        self.domain = domain_separator(*self.at)

    def terms(self) -> Terms:
        """Return the terms of the pair's next channel."""
        participants = (self.keys[0].address, self.keys[1].address)
        self.number += 1
        return Terms(*self.at, participants, self.asset, self.number - 1, PERIOD, keccak(CLOSE_KEY))

    async def call(self, key: PrivateKey, terms: Terms, call: Call, *held: HeldLocks) -> int:
        """Make a call about a channel; return its gas."""
        return await self.node.send(key, self.envelope(terms, call, *held), GAS_MAX // 4)

    def envelope(self, terms: Terms, call: Call, *held: HeldLocks) -> Envelope:
        """Return what a transaction carries for a call; `held` is of simplex 0."""
        context = ChannelContext(terms, (held[0], HeldLocks())) if held else ChannelContext(terms)
        return encode_evm_call(call, self.at, context)

    async def opened(self, count: int) -> list[Terms]:
        """Return channels that both have paid into."""
        made = [self.terms() for _ in range(count)]
        await self.node.send_all(self.keys[0], [self.envelope(terms, OpenCall(terms, AMOUNT)) for terms in made])
        deposits = [self.envelope(terms, DepositCall(channel_id(terms), 1, AMOUNT, self.asset)) for terms in made]
        await self.node.send_all(self.keys[1], deposits)
        return made

    async def held(self) -> int:
        """Return what the contract holds of the asset."""
        if self.asset == NATIVE:
            return int(await self.node.ask("eth_getBalance", f"0x{self.at.contract.hex()}", "latest"), 16)
        call = {"to": f"0x{self.asset.hex()}", "data": f"0x{BALANCE_OF.encode_call(self.at.contract).hex()}"}
        return int(await self.node.ask("eth_call", call, "latest"), 16)

    async def batch(self, envelopes: list[Envelope]) -> int:
        """Make calls in one transaction; return its gas."""
        data = _BATCH.encode_call([each.data for each in envelopes])
        return await self.node.send(self.third, Envelope(self.at.contract, 0, data), GAS_MAX)

    def close(self, terms: Terms) -> CooperativeCloseCall:
        """Return a close that both have signed, with another division than the deposits'."""
        close = CooperativeClose(channel_id(terms), AMOUNT // 2, AMOUNT + AMOUNT // 2, FAR)
        digest = digest_cooperative_close(self.domain, close)
        return CooperativeCloseCall(close, self.keys[0].sign(digest), self.keys[1].sign(digest))

    def proof(self, terms: Terms, sender: int, seq: int, transferred: int, locks: tuple[Lock, ...] = ()) -> SignedProof:
        """Return a balance proof that both have signed."""
        locked = sum(lock.amount for lock in locks)
        proof = BalanceProof(channel_id(terms), sender, seq, transferred, locked, locks_root(locks), seq - 1)
        digest = digest_proof(self.domain, proof)
        return SignedProof(proof, self.keys[sender].sign(digest), self.keys[1 - sender].sign(digest))


async def _agreed(meter: Meter) -> dict[str, object]:
    """Measure what both agree on."""
    before = await meter.held()
    first, later = meter.terms(), meter.terms()
    opener, other = meter.keys
    figures: dict[str, object] = {"open": await meter.call(opener, first, OpenCall(first, AMOUNT))}
    figures["deposit"] = await meter.call(other, first, DepositCall(channel_id(first), 1, AMOUNT, meter.asset))
    figures["open_later"] = await meter.call(opener, later, OpenCall(later, AMOUNT))
    figures["cooperative_close"] = await meter.call(opener, first, meter.close(first))
    closes = [meter.envelope(terms, meter.close(terms)) for terms in await meter.opened(BATCH)]
    figures["batch_close_each"] = await meter.batch(closes) // BATCH
    await _check_closed(meter, before)
    return figures


async def _check_closed(meter: Meter, before: int) -> None:
    """Raise MeasurementVoid unless the contract holds the coins of one channel more: in a batch, each may fail."""
    held = await meter.held() - before
    if held != AMOUNT:
        raise MeasurementVoid(f"a close of the batch failed: the contract still holds {held}")


async def _alone(meter: Meter, counts: Sequence[int]) -> dict[str, object]:
    """Measure what is done without the other's consent."""
    closed, challenged, *locked = await meter.opened(2 + len(counts))
    opener = meter.keys[0]
    figures: dict[str, object] = {}
    for terms in (closed, challenged):
        proofs = meter.proof(terms, 0, 1_000, 10**12), meter.proof(terms, 1, 1_001, 2 * 10**12)
        figures["close"] = await meter.call(opener, terms, CloseCall(channel_id(terms), *proofs, CLOSE_KEY))
    newer = ChallengeCall(meter.proof(challenged, 0, 2_000, 10**12 + 5))
    figures["challenge"] = await meter.call(meter.third, challenged, newer)
    pending: dict[int, tuple[Lock, ...]] = {}
    for count, terms in zip(counts, locked, strict=True):
        secrets = [keccak(b"%d of %d" % (at, count) + meter.asset.lstrip(b"\0")) for at in range(count)]
        pending[count] = tuple(Lock(at, 10**9 + at, FAR, 0, digest_of(secret)) for at, secret in enumerate(secrets))
        proof = meter.proof(terms, 0, 1_000, 10**12, pending[count])
        await meter.call(opener, terms, CloseCall(channel_id(terms), proof, None, CLOSE_KEY))
        calls = [meter.envelope(terms, RegisterSecretCall(secret)) for secret in secrets]
        for begin in range(0, count, BATCH):
            await meter.batch(calls[begin : begin + BATCH])
    await meter.node.pass_time(meter.third, PERIOD + 1)
    figures["settle"] = await meter.call(meter.third, closed, SettleCall(channel_id(closed)))
    redeems = figures["redeem"] = {}
    for count, terms in zip(counts, locked, strict=True):
        locks = pending[count]
        held = HeldLocks(sum(lock.amount for lock in locks), locks_root(locks))
        await meter.call(meter.third, terms, SettleCall(channel_id(terms)), held)
        redeems[str(count)] = await meter.call(meter.third, terms, RedeemCall(channel_id(terms), 0, locks), held)
    return figures


async def measure_coins(meter: Meter, counts: Sequence[int]) -> dict[str, Any]:
    """Return the gas of each call about channels in the native coin; redeems are of so many locks."""
    return {**await _agreed(meter), **await _alone(meter, counts)}


async def measure_tokens(meter: Meter, counts: Sequence[int]) -> dict[str, Any]:
    """Return the same of channels in a token that is put onto the chain, and what an `approve` costs."""
    keys, tokens = (*meter.keys, meter.third), await meter.node.create(meter.third, TOKEN)
    holders = [*(key.address for key in keys), meter.at.contract]
    gifts = [Envelope(tokens, 0, TRANSFER.encode_call(holder, TOKENS)) for holder in holders]
    await meter.node.send_all(meter.third, gifts)
    allow = ApproveCall(tokens, AMOUNT_MAX)
    used = [await meter.node.send(key, encode_evm_call(allow, meter.at, None)) for key in meter.keys]
    meter.pay_in(tokens)
    return {"approve": used[0], **await _agreed(meter), **await _alone(meter, counts)}
