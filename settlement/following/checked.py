"""A chain whose every word was looked at: what a node or a tower puts around the chain that it was given.

A chain node is a stranger. Its answers come in time or not at all, have the right sizes, and numbers that fit what they
are for and where they are stored; what can be checked without asking somebody else is checked (that a secret opens its
digest, that an event's time is its block's). Anything else is ChainError or ChainUnavailable, which every caller knows.
Of prices, which cannot be checked, no single one is believed (`Market`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import pairwise
from statistics import median_low
from typing import TypeVar

import msgspec
import trio

from tallystick.channels.errors import InvalidInput, TallystickError
from tallystick.channels.limits import KIND_MAX, PROOF_MAX, UINT64_MAX
from tallystick.channels.protocol.app_court import AppStands
from tallystick.channels.protocol.apps import APP, MOVE_MAX, STATE_MAX, OutcomeProof, instance_id, stake_condition
from tallystick.channels.protocol.conditions import digest_of
from tallystick.channels.protocol.eip712 import channel_id
from tallystick.channels.protocol.hashchain import StreamTerms
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import Address, ChannelId, Terms
from tallystick.channels.protocol.virtual import VIRTUAL, conditions_of, decode_proof, virtual_id
from tallystick.settlement.chain import (
    BATCH_MAX,
    Block,
    Call,
    ChannelOpened,
    ContractChannel,
    Event,
    Header,
    History,
    LinkRegistered,
    ProofRegistered,
    RegistryEvent,
    SecretRegistered,
    SignedCall,
    TransactionReceipt,
)
from tallystick.settlement.errors import ChainError, ChainUnavailable
from tallystick.settlement.port import Chain, ChainFigures, ChannelsThere, Charge, Tariff

T = TypeVar("T")

NUMBER_MAX = 2**63 - 1
"""Of a block, a nonce, a time, a count: what SQLite stores."""

AMOUNT_MAX = 2**256 - 1
"""Of coins: what a contract counts."""

PRICE_MAX = 2**128 - 1
"""Of a unit of gas."""

ANSWER_SECONDS = 45.0
"""For one answer, its repetitions included, however slowly it comes."""

WAIT_SECONDS = 25.0
"""After which a wait for a new head ends without one: then the head is asked for, as a wait may hang."""

ANSWERS = 3
"""Answers of which the middle one counts: a single lie changes nothing."""

REMEMBERED = 64
"""Answers that are remembered: of one block each, so some minutes."""

REASON_MAX = 300
"""Characters of a reason that are kept."""


class CheckedChain(Chain):
    """`chain`, with its answers bounded and checked."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain

    @property
    def chain_id(self) -> int:
        return self._chain.chain_id

    @property
    def contract(self) -> Address:
        return self._chain.contract

    @property
    def figures(self) -> ChainFigures:
        return self._chain.figures

    def __repr__(self) -> str:
        return f"<CheckedChain of {self._chain!r}>"

    async def head(self) -> Header:
        return await _answer(self._chain.head(), check_header)

    async def header(self, number: int) -> Header | None:
        found = await _answer(self._chain.header(number), _if_any(check_header))
        if found is not None and found.number != number:
            raise ChainError(f"the chain node was asked for block {number} and sent {found.number}")
        return found

    async def blocks(self, first: int, limit: int) -> tuple[Block, ...]:
        def check(blocks: tuple[Block, ...]) -> None:
            if len(blocks) > limit:
                raise ChainError(f"the chain node was asked for {limit} blocks and sent {len(blocks)}")
            for block in blocks:
                check_block(block)

        return await _answer(self._chain.blocks(first, limit), check)

    async def history(self, first: int) -> History | None:
        def check(history: History) -> None:
            check_header(history.last)
            numbers = [first - 1]
            for block in history.blocks:
                check_block(block)
                numbers.append(block.header.number)
            if any(before >= after for before, after in pairwise(numbers)) or numbers[-1] > history.last.number:
                raise ChainError(f"the chain node's history from block {first} on is not in order")

        return await _answer(self._chain.history(first), _if_any(check))

    async def final_number(self) -> int | None:
        return await _answer(self._chain.final_number(), _if_any(partial(_number, what="a block's number")))

    async def wait(self, known: bytes) -> None:
        """Return once the head's hash differs from `known`, or after WAIT_SECONDS."""
        with trio.move_on_after(WAIT_SECONDS):
            await self._chain.wait(known)

    async def charge(self, account: Address, call: Call) -> Charge:
        return await _answer(self._chain.charge(account, call), _check_charge)

    async def sign(self, key: PrivateKey, call: Call, nonce: int, price: int, tip: int = 0, gas: int = 0) -> SignedCall:
        return await _answer(self._chain.sign(key, call, nonce, price, tip, gas), _check_signed)

    async def submit(self, raw: bytes) -> bytes:
        return await _answer(self._chain.submit(raw), _check_hash)

    async def receipt(self, transaction: bytes) -> TransactionReceipt | None:
        found = await _answer(self._chain.receipt(transaction), _if_any(_check_receipt))
        if found is None:
            return None
        if found.transaction != transaction:
            raise ChainError("the chain node sent the receipt of another transaction than the one asked for")
        failures = tuple(msgspec.structs.replace(each, reason=plain(each.reason)) for each in found.failures)
        return msgspec.structs.replace(found, reason=plain(found.reason), failures=failures)

    async def nonce(self, account: Address) -> int:
        return await _answer(self._chain.nonce(account), partial(_number, what="a nonce"))

    async def fee_price(self) -> int:
        return await _answer(self._chain.fee_price(), partial(_number, what="a price", most=PRICE_MAX))

    async def data_price(self) -> int:
        return await _answer(self._chain.data_price(), partial(_number, what="a price", most=PRICE_MAX))

    async def balance(self, account: Address, asset: Address) -> int:
        check = partial(_number, what="a balance", most=AMOUNT_MAX)
        return await _answer(self._chain.balance(account, asset), check)

    async def owed(self, asset: Address, account: Address) -> int:
        check = partial(_number, what="what an account is owed", most=AMOUNT_MAX)
        return await _answer(self._chain.owed(asset, account), check)

    async def allowance(self, asset: Address, owner: Address) -> int:
        check = partial(_number, what="an allowance", most=AMOUNT_MAX)
        return await _answer(self._chain.allowance(asset, owner), check)

    async def takes_permits(self, asset: Address, key: PrivateKey) -> bool:
        return await _answer(self._chain.takes_permits(asset, key), lambda said: None) is True

    async def channel(self, channel: ChannelId) -> ContractChannel | None:
        found = await _answer(self._chain.channel(channel), _if_any(_check_view))
        if found is not None and channel_id(found.terms) != channel:
            raise ChainError("the chain node sent the state of another channel than the one asked for")
        return found

    async def channels(self, channels: Sequence[ChannelId]) -> tuple[ContractChannel | None, ...]:
        def check(views: tuple[ContractChannel | None, ...]) -> None:
            if len(views) != len(channels):
                raise ChainError(f"the chain node was asked for {len(channels)} channels and sent {len(views)}")
            for view, asked in zip(views, channels, strict=True):
                _if_any(_check_view)(view)
                if view is not None and channel_id(view.terms) != asked:
                    raise ChainError("the chain node sent the state of another channel than the one asked for")

        return await _answer(self._chain.channels(channels), check)

    async def evidence(self, block: Header, terms: Sequence[Terms]) -> ChannelsThere | None:
        def check(found: ChannelsThere) -> None:
            views = found.channels
            if len(views) != len(terms):
                raise ChainError(f"the chain node was asked for {len(terms)} channels and sent {len(views)}")
            for view, asked in zip(views, terms, strict=True):
                _if_any(_check_view)(view)
                if view is not None and view.terms != asked:
                    raise ChainError("the chain node sent the state of another channel than the one asked for")

        return await _answer(self._chain.evidence(block, terms), _if_any(check))

    async def events(self, channel: ChannelId, first: int, last: int) -> tuple[Block, ...]:
        def check(blocks: tuple[Block, ...]) -> None:
            for block in blocks:
                check_block(block)
                if not first <= block.header.number <= last:
                    raise ChainError(f"the chain node was asked for blocks {first} to {last} and sent another")

        return await _answer(self._chain.events(channel, first, last), check)

    def learn(self, terms: Terms) -> None:
        self._chain.learn(terms)

    async def channel_count(self, first: Address, second: Address, asset: Address) -> int:
        return await _answer(self._chain.channel_count(first, second, asset), partial(_number, what="a count"))

    async def secret_time(self, digest: bytes) -> int | None:
        return await _answer(self._chain.secret_time(digest), _if_any(partial(_number, what="a time")))


class Market:
    """What calls cost on one chain: the price of gas, and of bytes, asked for now and then."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._answers: deque[int] = deque(maxlen=REMEMBERED)
        self._data: deque[int] = deque(maxlen=ANSWERS)

    @property
    def price(self) -> int | None:
        """In the native coin's smallest unit, None before the first answer."""
        return median_low(list(self._answers)[-ANSWERS:]) if self._answers else None

    @property
    def lowest(self) -> int | None:
        """The lowest of all that are remembered: what is worth this is worth a try, which costs nothing if it fails."""
        return min(self._answers, default=None)

    @property
    def tariff(self) -> Tariff:
        """What each call takes, and what bytes cost."""
        tariff = self._chain.figures.tariff
        return msgspec.structs.replace(tariff, data_price=median_low(self._data)) if any(self._data) else tariff

    async def ask(self) -> None:
        """Ask once. Raise ChainUnavailable or ChainError: then the answers before stand."""
        self._answers.append(await self._chain.fee_price())
        self._data.append(await self._chain.data_price())


def with_checks(chain: Chain) -> Chain:
    """Return the chain with checks around it, once."""
    return chain if isinstance(chain, CheckedChain) else CheckedChain(chain)


def plain(text: str, longest: int = REASON_MAX) -> str:
    """Return a stranger's words fit for a person's screen: printable, of bounded length."""
    shown = "".join(character if character.isprintable() else "?" for character in text[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def check_header(header: Header) -> None:
    """Raise ChainError if a header's sizes or numbers cannot be right."""
    _number(header.number, "a block's number")
    _number(header.time, "a block's time")
    _bytes(header.hash, 32, "a block's hash")
    _bytes(header.parent, 32, "a block's parent")


def check_block(block: Block) -> None:
    """Raise ChainError if a block or one of its events cannot be right."""
    check_header(block.header)
    for event in block.events:
        _check_event(event, block.header)


async def _answer(asked: Awaitable[T], check: Callable[[T], None]) -> T:
    try:
        with trio.fail_after(ANSWER_SECONDS):
            found = await asked
    except trio.TooSlowError:
        raise ChainUnavailable(f"the chain node has not finished an answer within {ANSWER_SECONDS:g} s") from None
    try:
        check(found)
    except TallystickError:
        raise
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:  # of another type than it should be
        raise ChainError(f"the chain node's answer cannot be right: {plain(str(error))}") from error
    return found


def _if_any(check: Callable[[T], None]) -> Callable[[T | None], None]:
    return lambda value: None if value is None else check(value)


def _number(value: int, what: str, most: int = NUMBER_MAX) -> None:
    if type(value) is not int or not 0 <= value <= most:
        raise ChainError(f"the chain node says {plain(repr(value), 80)}, which {what} cannot be")


def _bytes(value: bytes, size: int, what: str) -> None:
    if type(value) is not bytes or len(value) != size:
        raise ChainError(f"the chain node sent something that cannot be {what}")


def _check_signed(signed: SignedCall) -> None:
    _number(len(signed.raw), "the length of a transaction")
    _number(signed.tip, "a tip", PRICE_MAX)


def _check_charge(charge: Charge) -> None:
    _number(charge.gas, "a limit of gas", UINT64_MAX)
    _number(charge.least, "a limit of gas", charge.gas)
    _number(charge.data, "what a transaction's bytes cost", AMOUNT_MAX)


def _check_hash(value: bytes) -> None:
    _bytes(value, 32, "a transaction's hash")


def _check_receipt(receipt: TransactionReceipt) -> None:
    check_header(receipt.block)
    _check_hash(receipt.transaction)
    _number(receipt.fee, "a fee", AMOUNT_MAX)
    before = -1
    for failure in receipt.failures:
        _number(failure.index, "the number of a call in a batch", BATCH_MAX - 1)
        if failure.index <= before:
            raise ChainError("the chain node tells the failures of a batch out of order, or one twice")
        before = failure.index


def _check_view(view: ContractChannel) -> None:
    _number(view.status, "a channel's status", 3)
    for amount in (*view.deposits, *view.withdrawn, *view.pots):
        _number(amount, "an amount", AMOUNT_MAX)
    for seq in view.seqs:
        _number(seq, "a seq", UINT64_MAX)
    if view.closer is not None:
        _number(view.closer, "a side", 1)
    if view.deadline is not None:
        _number(view.deadline, "a deadline")
    _number(view.terms.challenge_period, "a challenge period")


_NUMBERS: dict[str, tuple[str, int]] = {
    **dict.fromkeys(("side", "closer", "sender"), ("a side", 1)),
    **dict.fromkeys(("seq", "seq0", "seq1"), ("a seq", UINT64_MAX)),
    **dict.fromkeys(("total", "balance0", "balance1", "net0", "net1", "reward"), ("an amount", AMOUNT_MAX)),
    **dict.fromkeys(("pot0", "pot1", "paid", "refunded"), ("an amount", AMOUNT_MAX)),
    **dict.fromkeys(("deadline", "until"), ("a deadline", NUMBER_MAX)),
    **dict.fromkeys(("paid0", "paid1"), ("an amount", AMOUNT_MAX)),
    "number": ("a state's number", UINT64_MAX),
    "amount": ("what an account is owed", AMOUNT_MAX),  # somebody's own token may have any number of units
    "kind": ("a kind of locks", KIND_MAX),
}
_SIZES = {
    "channel": (32, "a channel's id"),
    "condition": (32, "a condition"),
    "instance": (32, "an app's instance"),
    "secret": (32, "a secret"),
    "link": (32, "a link"),
    "close_key": (32, "a close key"),
    **dict.fromkeys(("by", "account", "asset", "to"), (20, "an address")),
    "root": (32, "a root"),
}
"""What fields of events may be, by their names. What is in neither is a flag, the terms, or looked at by itself."""


def _check_outcome(condition: bytes, proof: bytes) -> None:
    try:
        outcome = OutcomeProof.decode(proof)
    except InvalidInput as error:
        raise ChainError(f"the chain node shows the outcome of an app that cannot be: {error}") from error
    if not outcome.holds() or condition not in map(partial(stake_condition, instance_id(outcome.terms)), (0, 1)):
        raise ChainError("the chain node shows the outcome of an app that its players have not signed")


def _check_virtual(condition: bytes, proof: bytes) -> None:
    try:
        known = decode_proof(proof)
    except InvalidInput as error:
        raise ChainError(f"the chain node shows what cannot be of a virtual channel: {error}") from error
    if not known.holds() or condition not in conditions_of(virtual_id(known.terms)):
        raise ChainError("the chain node shows what the players of a virtual channel have not signed")


def _check_event(event: Event, block: Header) -> None:
    for name in event.__struct_fields__:
        if name in _NUMBERS:
            _number(getattr(event, name), *_NUMBERS[name])
        elif name in _SIZES:
            _bytes(getattr(event, name), *_SIZES[name])
    if isinstance(event, RegistryEvent) and event.time != block.time:
        raise ChainError(f"the chain node says that a block of time {block.time} registered something at {event.time}")
    _check_contents(event)


def _check_contents(event: Event) -> None:
    match event:
        case ChannelOpened(channel, terms):
            _number(terms.challenge_period, "a challenge period")
            if channel_id(terms) != channel:
                raise ChainError("the chain node shows a channel whose terms are not its own")
        case SecretRegistered(digest, secret):
            if digest_of(secret) != digest:
                raise ChainError("the chain node shows a secret that does not open its digest")
        case LinkRegistered(_, _, depth, tip, unit, length):
            try:
                StreamTerms(tip, unit, length)
            except InvalidInput as error:
                raise ChainError(f"the chain node shows a stream that cannot be: {error}") from error
            _number(depth, "a link's depth", length)
        case ProofRegistered(condition, kind, proof):
            _number(len(proof), "the length of a proof", PROOF_MAX)
            if kind == APP:
                _check_outcome(condition, proof)
            elif kind == VIRTUAL:
                _check_virtual(condition, proof)
        case AppStands(state=state, move=move):
            _number(len(state), "the length of a state", STATE_MAX)
            _number(len(move), "the length of a move", MOVE_MAX)
