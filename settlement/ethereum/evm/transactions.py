"""Transactions on a real chain: signed, handed to all nodes, and what became of them.

That a node has one already, or has mined it, is success; words that nobody understands conclude nothing. A receipt says
that a call failed, not why: it is made again as a question at the receipt's block.
"""

from __future__ import annotations

from typing import Any

import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.settlement.chain import (
    Call,
    DepositCall,
    Header,
    ModuleCall,
    OpenCall,
    SignedCall,
    TransactionReceipt,
    moved_by,
)
from tallystick.settlement.errors import (
    ChainError,
    ChainUnavailable,
    ReceiptUntold,
    Refusal,
    RpcError,
    TransactionRefused,
)
from tallystick.settlement.ethereum.abi import Deployment, Envelope
from tallystick.settlement.ethereum.evm import receipts
from tallystick.settlement.ethereum.evm.abi import CallContext, ChannelContext, encode_evm_call
from tallystick.settlement.ethereum.evm.blocks import BlockReader
from tallystick.settlement.ethereum.evm.channels import ChannelsHeard
from tallystick.settlement.ethereum.evm.endpoint import NodeQuestion
from tallystick.settlement.ethereum.evm.fees import HISTORY, PERCENTILE, FeeMarket, FeeOffer, offer_of, read_history
from tallystick.settlement.ethereum.evm.gas import ENVELOPE, limit_of
from tallystick.settlement.ethereum.evm.headers import read_seen
from tallystick.settlement.ethereum.evm.nodes import ChainNodes, NodeState
from tallystick.settlement.ethereum.evm.permits import NO_PERMIT, PERMIT_SECONDS, Permit, sign_permit, trial_of
from tallystick.settlement.ethereum.evm.profiles import ChainProfile
from tallystick.settlement.ethereum.evm.questions import block_question, call_of, read_answer, result
from tallystick.settlement.ethereum.evm.refusals import Meaning, Taken, is_revert, meaning_of
from tallystick.settlement.ethereum.evm.rollups import DataFee, data_fee, price_question, read_price
from tallystick.settlement.ethereum.evm.state import StateReader
from tallystick.settlement.ethereum.rpc_shapes import quantity, read_quantity, to_hex
from tallystick.settlement.ethereum.transactions import sign_envelope, transaction_hash
from tallystick.settlement.port import Charge

PRICE_SECONDS = 12.0
"""How long what gas costs is remembered for signing."""


class TransactionDesk:
    """Part of `EvmChain`. Its methods raise ChainUnavailable and ChainError, or what they name."""

    def __init__(
        self,
        nodes: ChainNodes,
        at: Deployment,
        profile: ChainProfile,
        blocks: BlockReader,
        state: StateReader,
        heard: ChannelsHeard,
        court: Address | None,
    ) -> None:
        self._nodes = nodes
        self._at = at
        self._court = court
        self._profile = profile
        self._state = state
        self._heard = heard
        self._blocks = blocks
        self._market: tuple[float, FeeMarket] | None = None

    async def charge(self, account: Address, call: Call) -> Charge:
        """Return what a transaction of this call is to be given now. Raise as `sign` does."""
        permit = NO_PERMIT if isinstance(call, OpenCall | DepositCall) and call.permit else None
        context = await self._context(call)
        return await self._charge(account, call, context, self._written(call, context, permit))

    def _written(self, call: Call, context: CallContext, permit: Permit | None) -> Envelope:
        return encode_evm_call(call, self._at, context, permit, self._court)

    async def _charge(self, account: Address, call: Call, context: CallContext, envelope: Envelope) -> Charge:
        data, estimate = self._profile.data, await self._estimate(account, envelope)
        asset = context.terms.asset if isinstance(context, ChannelContext) else None
        limit, usual = (limit_of(call, estimate, data is DataFee.AS_GAS, paid) for paid in (asset, None))
        least = usual if usual < limit else 0
        if data is not DataFee.BESIDE:
            return Charge(limit, 0, estimate is None, least)
        try:
            price = await self.data_price()
        except ChainError:  # it holds nothing up that it is not known
            price = 0
        return Charge(limit, data_fee(ENVELOPE + len(envelope.data), price), estimate is None, least)

    async def _context(self, call: Call) -> CallContext:
        if isinstance(call, ModuleCall):
            raise InvalidInput("rule modules are of the simulated ledger alone: a real chain has contracts of its own")
        if isinstance(call, OpenCall):
            self._heard.learn(call.terms)
        return await self._state.context(call)

    async def sign(self, key: PrivateKey, call: Call, nonce: int, price: int, tip: int = 0, gas: int = 0) -> SignedCall:
        """Return `call` as a transaction at most `price` per unit of gas; `tip` is that of the one it replaces.

        `gas` is its limit, 0 takes what `charge` says. Raise InvalidInput if it cannot be written, ChainUnavailable if
        what it needs is not known now.
        """
        permit, context = await self._permit(key, call), await self._context(call)
        envelope = self._written(call, context, permit)
        offer = offer_of(price, await self.market(), FeeOffer(price, tip) if tip else None)
        limit = gas or (await self._charge(key.address, call, context, envelope)).gas
        return SignedCall(
            sign_envelope(key, self._at.chain_id, envelope, nonce, offer.cap, offer.tip, limit), offer.tip
        )

    async def _permit(self, key: PrivateKey, call: Call) -> Permit | None:
        """Return the permit that goes with a call, if one does; raise ChainUnavailable if the token tells nothing."""
        if not isinstance(call, OpenCall | DepositCall) or not call.permit:
            return None
        asset, amount = moved_by(call)
        domain = await self._state.permit_domain(asset, key.address)
        if domain is None:
            raise ChainUnavailable("a token that took permits does not say what it needs for one (now)")
        return sign_permit(key, domain, self._at.contract, amount, await self._permit_deadline())

    async def _permit_deadline(self) -> int:
        return (await self._blocks.head()).time + PERMIT_SECONDS

    async def takes_permits(self, asset: Address, key: PrivateKey) -> bool:
        """Whether a token takes a permit of this owner: it is asked to take one for nothing.

        Where bytes are paid for as gas, none is made: what a call with one takes is not known before it is signed.
        """
        if asset == NATIVE or self._profile.data is DataFee.AS_GAS:
            return False
        domain = await self._state.permit_domain(asset, key.address)
        if domain is None:
            return False
        trial = trial_of(key, domain, asset, self._at.contract, await self._permit_deadline())
        (answer,) = await self._nodes.ask(NodeQuestion("eth_call", (trial, "latest")))
        return not (isinstance(answer, RpcError) and is_revert(answer)) and read_answer(lambda _: True, answer)

    async def submit(self, raw: bytes) -> bytes:
        """Hand a signed transaction to all nodes and return its hash; raise TransactionRefused if none takes it."""
        made, refused = transaction_hash(raw), dict[Meaning | None, str]()
        for state, (answer,) in await self._nodes.ask_all(NodeQuestion("eth_sendRawTransaction", (to_hex(raw),))):
            if answer == to_hex(made):
                return made
            if not isinstance(answer, RpcError):
                answer = RpcError(0, "it calls the transaction by another hash than its own")
                self._nodes.blame(state, answer)
            meaning = meaning_of(state.client, answer.said)
            if isinstance(meaning, Taken):
                return made
            refused.setdefault(meaning, answer.said)
        if Refusal.NONCE_TOO_LOW in refused and await self._is_mined(made):
            return made
        code = next((meaning for meaning in refused if isinstance(meaning, Refusal)), None)
        if code is None:
            raise ChainError(f"the chain nodes do not take the transaction: {next(iter(refused.values()))}")
        raise TransactionRefused(refused[code], code)

    async def receipt(self, transaction: bytes) -> TransactionReceipt | None:
        """Return the receipt of a transaction that is in a block of the best branch.

        Raise ReceiptUntold if no node says what became of each call of a batch.
        """

        def read(state: NodeState, answers: list[Any]) -> receipts.EvmReceipt | None:
            return self._read_receipt(transaction, answers[0])

        question = NodeQuestion("eth_getTransactionReceipt", (to_hex(transaction),))
        state, receipt = await self._nodes.read(read, question)
        if receipt is None and len(self._nodes) > 1:  # it may lag, or have forgotten it
            state, answers = await self._nodes.ask_one(question, but=state)
            receipt = None if isinstance(answers[0], RpcError) else read(state, answers)
        if receipt is None:
            return None
        header = await self._header(receipt.number)
        if header is None or header.hash != receipt.block:
            return None  # its block has left the best branch
        question = NodeQuestion("eth_getTransactionByHash", (to_hex(transaction),))
        _, (asked,) = await self._nodes.ask_one(question)
        known = asked is not None and not isinstance(asked, RpcError)
        sent = read_answer(receipts.read_sent, asked) if known else None
        if receipt.success:
            if sent is not None and not receipts.is_whole(receipt, sent, self._at):
                receipt = await self._whole_receipt(transaction, header, sent)
            return receipts.succeeded(receipt, header)
        said: Any = None
        if sent is not None and receipt.gas_used < sent.gas:
            (said,) = await self._nodes.ask_this(
                state, NodeQuestion("eth_call", (sent.replay(), quantity(receipt.number)))
            )
        return receipts.failed(receipt, header, sent, said)

    def _read_receipt(self, transaction: bytes, answer: Any) -> receipts.EvmReceipt | None:
        if result(answer) is None:
            return None
        receipt = read_answer(lambda value: receipts.read_receipt(value, self._at), answer)
        if receipt.transaction != transaction:
            raise ChainError("the chain node sent the receipt of another transaction")
        return receipt

    async def _whole_receipt(self, transaction: bytes, header: Header, sent: receipts.SentCall) -> receipts.EvmReceipt:
        """Return a batch's receipt in that block from whichever node tells of all calls; raise ReceiptUntold."""

        def read(state: NodeState, answers: list[Any]) -> receipts.EvmReceipt:
            receipt = self._read_receipt(transaction, answers[0])
            if receipt is None or receipt.block != header.hash or not receipts.is_whole(receipt, sent, self._at):
                raise ChainUnavailable("it does not say what became of all calls")
            return receipt

        try:
            question = NodeQuestion("eth_getTransactionReceipt", (to_hex(transaction),))
            return (await self._nodes.read(read, question))[1]
        except (ChainUnavailable, ChainError) as error:
            raise ReceiptUntold("a chain node leaves out what became of some calls of a batch") from error

    async def _header(self, number: int) -> Header | None:
        """Return the header of that number as one node tells it, None if it knows no such block."""

        def read(state: NodeState, answers: list[Any]) -> Header | None:
            return None if result(answers[0]) is None else read_answer(read_seen, answers[0]).header

        return (await self._nodes.read(read, block_question(number), at_least=number))[1]

    async def market(self) -> FeeMarket:
        """Return what a unit of gas costs, as of some seconds ago at most."""
        now = trio.current_time()
        if self._market is None or now > self._market[0] + PRICE_SECONDS:
            await self.fee_price()
        assert self._market is not None
        return self._market[1]

    async def fee_price(self) -> int:
        """Return what a transaction should offer per unit of gas in all, to be mined within a few blocks."""
        question = NodeQuestion("eth_feeHistory", (quantity(HISTORY), "latest", [PERCENTILE]))
        now = trio.current_time()

        def read(state: NodeState, answers: list[Any]) -> FeeMarket:
            return read_answer(lambda value: read_history(value, self._profile.tip_min), answers[0])

        _, market = await self._nodes.read(read, question)
        self._market = now, market
        return market.cap

    async def data_price(self) -> int:
        """Return what a byte of a transaction costs besides the gas of its call; 0 if the chain does not say it."""
        kind = self._profile.data
        if kind is DataFee.NONE:
            return 0
        (answer,) = await self._nodes.ask(price_question(kind))
        return 0 if isinstance(answer, RpcError) else read_answer(lambda value: read_price(kind, value), answer)

    async def _estimate(self, sender: Address, envelope: Envelope) -> int | None:
        """Return how much gas a node thinks that it takes, None if it would fail now."""
        (answer,) = await self._nodes.ask(NodeQuestion("eth_estimateGas", (call_of(envelope, sender),)))
        return None if isinstance(answer, RpcError) else read_answer(read_quantity, answer)

    async def _is_mined(self, transaction: bytes) -> bool:
        answers = await self._nodes.ask_all(NodeQuestion("eth_getTransactionReceipt", (to_hex(transaction),)))
        return any(isinstance(answer, dict) for _, (answer,) in answers)
