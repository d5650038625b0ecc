"""A chain node that behaves as bad ones do, from a seed: `ChaosChain` stands in front of a chain that tells the truth.

    chain = ChaosChain(LocalChain(), random.Random(7), Chaos(lies=(Lie.LAGS, Lie.NONCE_HIGH)))
    chain.start()                       # calm and spells of lies take turns from now on
    await chain.head()                  # the truth, or a lie
    chain.heal()                        # nothing but the truth from now on
    chain.told                          # how often which lie was told

It is several back ends behind one address. In a *spell*, which lasts some seconds or minutes, it tells some kinds of
lies (`Lie`, each says what is told), each answer being one with a probability of `Chaos.rate`. Between spells it tells
the truth.

What the system claims to survive is all of this: spells that are shorter than a challenge period and leave time between
them to do what is due, whichever lies are told in them. What it cannot survive, and what is not told here:

- lies about events, or silence, for longer than a challenge period, or than a lock's last minutes: who has nobody else
  to ask cannot know what was done to it (a watchtower with a chain node of its own can);
- an invented branch of more blocks than `confirmations`: no client without the chain's own proofs can tell;
- a lie about what was confirmed long ago, told to a node that follows the chain for the first time, and ever after.

`chaos_wire` is the same for the bytes of a chain node's answers.
"""

from __future__ import annotations

import enum
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec
import trio

from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.protocol.objects import Address, ChannelId, Terms
from tallystick.settlement.chain import Block, Call, ContractChannel, Header, History, SignedCall, TransactionReceipt
from tallystick.settlement.errors import ChainError, ChainUnavailable, Refusal, TransactionRefused
from tallystick.settlement.ethereum.transactions import transaction_hash
from tallystick.settlement.port import Chain, ChainFigures, ChannelsThere, Charge

T = TypeVar("T")

HANG = 40.0
"""Seconds that an answer takes at most when it hangs: a client of a real node gives up by then."""

LOOKS = 1.0
"""Seconds that a wait for a new head takes at least in a spell: back ends disagree about what is new."""

PATIENCE = 20.0
"""Seconds after which a back end that stands still lets a waiting client go."""

REMEMBERED = 8
"""Answers to one question that are remembered, to be repeated."""

ABSURD = (0, 2**53, 2**63, 2**64, 2**200, 2**256 - 1)
"""Numbers that the protocol can carry and nobody expects."""

REFUSALS = (
    Refusal.MALFORMED,
    Refusal.INSUFFICIENT_FUNDS,
    Refusal.UNDERPRICED,
    Refusal.NONCE_TOO_LOW,
    Refusal.NONCE_TOO_HIGH,
    Refusal.BAD_SIGNATURE,
    Refusal.WRONG_CHAIN,
    Refusal.MEMPOOL_FULL,
)
"""With what a transaction is refused that there is nothing wrong with."""


class Lie(enum.StrEnum):
    """What a bad chain node does."""

    SILENT = "silent"
    """It does not answer: ChainUnavailable."""
    REFUSES = "refuses"
    """It answers with an error: a rate limit, a 403, a page of HTML (ChainError)."""
    HANGS = "hangs"
    """The answer takes up to HANG seconds, or does not come then."""
    LAGS = "lags"
    """Back ends are some blocks behind, each by its own number, and each answer comes from another one."""
    STILL = "stands still"
    """The chain ends where it did when the spell began."""
    REPEATS = "repeats"
    """An answer that it gave to the same question before."""
    TRUNCATES = "truncates"
    """A list of blocks is cut short, lacks one, or is out of order."""
    NO_RECEIPT = "omits receipts"
    """A mined transaction has no receipt."""
    NO_EVENTS = "omits events"
    """The newest blocks come without their events."""
    NO_CHANNEL = "omits channels"
    """A channel that is there is said never to have been."""
    NONCE_LOW = "nonce too low"
    """An account's nonce of a back end that is behind."""
    NONCE_HIGH = "nonce too high"
    """An account's nonce of another chain, or that counts what only waits."""
    ABSURD = "absurd"
    """A number that is none: as time, nonce, price, balance or count."""
    TURNS_DOWN = "turns down"
    """A transaction that is fine is refused, for any reason there is."""
    DROPS = "drops"
    """A transaction is accepted and thrown away."""
    FUTURE = "future"
    """The head is far ahead, in number and time."""
    FORKS = "forks"
    """The newest block is another one, which nobody will build upon."""


class Chaos(msgspec.Struct, frozen=True, kw_only=True):
    """How bad a chain node is."""

    lies: tuple[Lie, ...] = tuple(Lie)
    """What it tells; each spell has some of them."""
    rate: float = 0.3
    """Share of a spell's answers that are lies."""
    spell: tuple[float, float] = (5.0, 120.0)
    """Seconds that a spell lasts, at least and at most."""
    calm: tuple[float, float] = (60.0, 300.0)
    """Seconds between two spells."""
    backends: int = 3
    lag: int = 6
    """Blocks that a back end is behind, at most."""
    ahead: int = 2 * 86_400
    """Seconds that a head of the future is ahead."""


class _Spell(msgspec.Struct):
    """One spell: which lies, and how far each back end is behind."""

    lies: tuple[Lie, ...]
    lags: tuple[int, ...]
    began: int
    """Number of the newest block when it began."""


_ALWAYS = (Lie.SILENT, Lie.REFUSES, Lie.HANGS)


class ChaosChain:
    """Stands in front of `chain` (see the module's docstring). It tells the truth before `start` and after `heal`."""

    def __init__(self, chain: Chain, rng: random.Random, chaos: Chaos | None = None) -> None:
        self._chain = chain
        self._rng = rng
        self.chaos = chaos or Chaos()
        self.told: Counter[str] = Counter()
        """How often which lie was told."""
        self._spell: _Spell | None = None
        self._until: float | None = None
        """When the present spell or calm ends; None: there are no spells."""
        self._past: dict[tuple[object, ...], deque[tuple[int, Any]]] = {}
        """By question: the answers that were given, and at which head."""

    def __repr__(self) -> str:
        return f"<ChaosChain {'lying' if self._spell else 'calm'}, told {sum(self.told.values())} lies>"

    @property
    def chain_id(self) -> int:
        """EIP-155 chain id."""
        return self._chain.chain_id

    @property
    def contract(self) -> Address:
        """Address of the adjudicator."""
        return self._chain.contract

    @property
    def figures(self) -> ChainFigures:
        """What is known of the chain before it is asked."""
        return self._chain.figures

    # --- spells --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Let calm and spells take turns from now on. Must be called within trio."""
        self._until = trio.current_time() + self._rng.uniform(*self.chaos.calm)

    def heal(self) -> None:
        """Tell nothing but the truth from now on."""
        self._spell = self._until = None

    @property
    def lying(self) -> bool:
        """Whether a spell is on, or was when it was last asked."""
        self._pass_time()
        return self._spell is not None

    def _pass_time(self) -> None:
        """Let spells begin and end up to now. They are drawn from the seed, however often it is asked."""
        while self._until is not None and trio.current_time() >= self._until:
            if self._spell is None:
                lies = self._rng.sample(self.chaos.lies, min(self._rng.choice((1, 2, 4)), len(self.chaos.lies)))
                lags = [self._rng.randrange(self.chaos.lag + 1) for _ in range(self.chaos.backends)]
                self._spell = _Spell(tuple(lies), tuple(lags), -1)
                self._until += self._rng.uniform(*self.chaos.spell)
            else:
                self._spell = None
                self._until += self._rng.uniform(*self.chaos.calm)

    async def _draw(self, *fitting: Lie) -> Lie | None:
        """Return which lie the next answer is, of those that fit the question; None: it is the truth.

        Errors are raised, and hanging takes its time, here.
        """
        await trio.lowlevel.checkpoint()
        self._pass_time()
        spell = self._spell
        if spell is None:
            return None
        possible = [lie for lie in spell.lies if lie in fitting or lie in _ALWAYS]
        if not possible or self._rng.random() >= self.chaos.rate:
            return None
        lie = self._rng.choice(possible)
        self.told[lie] += 1
        if lie is Lie.HANGS:
            seconds = self._rng.uniform(1.0, HANG)
            await trio.sleep(seconds)
            if seconds < HANG / 2:
                return None
        if lie in (Lie.SILENT, Lie.HANGS):
            raise ChainUnavailable("the lying chain node does not answer")
        if lie is Lie.REFUSES:
            status = self._rng.choice((403, 404, 410, 451))
            raise ChainError(f"the lying chain node answers with HTTP status {status}")
        return lie

    async def _sight(self) -> int:
        """Return the number of the newest block that the back end knows whose turn it is."""
        newest, spell = (await self._chain.head()).number, self._spell
        if spell is None:
            return newest
        if spell.began < 0:
            spell.began = newest
        if Lie.STILL in spell.lies:
            newest = min(newest, spell.began)
            self.told[Lie.STILL] += 1
        if Lie.LAGS in spell.lies:
            lag = self._rng.choice(spell.lags)
            newest = max(0, newest - lag)
            self.told[Lie.LAGS] += lag > 0
        return newest

    async def _known(self, question: tuple[object, ...], ask: Callable[[], Awaitable[T]], lie: Lie | None) -> T:
        """Return what the back end whose turn it is has to say: the truth, or what was said at an earlier head."""
        sight, answer = await self._sight(), await ask()
        past = self._past.setdefault(question, deque(maxlen=REMEMBERED))
        earlier: list[T] = [said for number, said in past if number <= sight]
        newest = (await self._chain.head()).number
        past.append((newest, answer))
        if lie is Lie.REPEATS and len(past) > 1:
            repeated: T = self._rng.choice([said for _, said in past])
            return repeated
        return earlier[-1] if sight < newest and earlier else answer

    # --- blocks --------------------------------------------------------------------------------------------------

    async def head(self) -> Header:
        """Return the newest block's header."""
        lie = await self._draw(Lie.REPEATS, Lie.FUTURE, Lie.FORKS, Lie.ABSURD)
        sight = await self._sight()
        header = await self._chain.header(sight) or await self._chain.head()
        past = self._past.setdefault(("head",), deque(maxlen=REMEMBERED))
        past.append((sight, header))
        if lie is Lie.REPEATS:
            header = self._rng.choice([said for _, said in past])
        elif lie is Lie.ABSURD:
            return msgspec.structs.replace(header, time=self._rng.choice(ABSURD), hash=_invented(header))
        elif lie is Lie.FUTURE:
            number, time = header.number + self._rng.randrange(1, 2_000), header.time + self.chaos.ahead
            return Header(number, _invented(header), keccak(header.hash), time)
        elif lie is Lie.FORKS:
            return msgspec.structs.replace(header, hash=_invented(header))
        return header

    async def header(self, number: int) -> Header | None:
        """Return the header of that number on the best branch, None above the head."""
        lie = await self._draw(Lie.FORKS)
        header = await self._chain.header(number) if number <= await self._sight() else None
        if lie is Lie.FORKS and header is not None and number == (await self._chain.head()).number:
            return msgspec.structs.replace(header, hash=_invented(header))
        return header

    async def blocks(self, first: int, limit: int) -> tuple[Block, ...]:
        """Return up to `limit` consecutive blocks from number `first` on."""
        lie = await self._draw(Lie.TRUNCATES, Lie.NO_EVENTS, Lie.FORKS, Lie.FUTURE)
        sight = await self._sight()
        blocks = list(await self._chain.blocks(first, max(0, min(limit, sight - first + 1))))
        if lie is Lie.TRUNCATES and blocks:
            self._damage(blocks)
        elif lie is Lie.NO_EVENTS and blocks:
            blocks[-1] = Block(blocks[-1].header, ())
        elif lie in (Lie.FORKS, Lie.FUTURE) and blocks:
            header = blocks[-1].header
            time = header.time + (self.chaos.ahead if lie is Lie.FUTURE else 0)
            blocks[-1] = Block(msgspec.structs.replace(header, hash=_invented(header), time=time), ())
        return tuple(blocks)

    def _damage(self, blocks: list[Block]) -> None:
        where, how = self._rng.randrange(len(blocks)), self._rng.randrange(3)
        if how == 0:
            del blocks[where:]
        elif how == 1:
            del blocks[where]
        else:
            self._rng.shuffle(blocks)

    async def history(self, first: int) -> History | None:
        """Return what is known of blocks that stay."""
        return await self._chain.history(first)

    async def final_number(self) -> int | None:
        """Return the newest block that no reorganisation reaches."""
        await self._draw()
        return await self._chain.final_number()

    async def evidence(self, block: Header, terms: Sequence[Terms]) -> ChannelsThere | None:
        """Return these channels after a block, as more than one node's word bears out."""
        await self._draw()
        return await self._chain.evidence(block, terms)

    async def events(self, channel: ChannelId, first: int, last: int) -> tuple[Block, ...]:
        """Return the blocks of a short range that hold events of a channel."""
        await self._draw()
        return await self._chain.events(channel, first, last)

    async def wait(self, known: bytes) -> None:
        """Return once the head's hash differs from `known`, or earlier."""
        await self._draw()
        if self._spell is None:
            await self._chain.wait(known)
            return
        still = Lie.STILL in self._spell.lies
        await trio.sleep(LOOKS)
        newest = (await self._chain.head()).hash
        if newest == known or still:
            with trio.move_on_after(PATIENCE):
                await self._chain.wait(newest)

    # --- transactions --------------------------------------------------------------------------------------------

    async def charge(self, account: Address, call: Call) -> Charge:
        """Return what a transaction is to be given."""
        return await self._chain.charge(account, call)

    async def sign(self, key: PrivateKey, call: Call, nonce: int, price: int, tip: int = 0, gas: int = 0) -> SignedCall:
        """Return a call as a transaction."""
        return await self._chain.sign(key, call, nonce, price, tip, gas)

    async def submit(self, raw: bytes) -> bytes:
        """Hand in a signed transaction and return its hash."""
        lie = await self._draw(Lie.TURNS_DOWN, Lie.DROPS)
        if lie is Lie.TURNS_DOWN:
            code = self._rng.choice(REFUSALS)
            raise TransactionRefused(f"the lying chain node does not take it: {code}", code)
        if lie is Lie.DROPS:
            return transaction_hash(raw)
        return await self._chain.submit(raw)

    async def receipt(self, transaction: bytes) -> TransactionReceipt | None:
        """Return the receipt if the transaction is in a block of the best branch."""
        lie = await self._draw(Lie.NO_RECEIPT)
        receipt = await self._chain.receipt(transaction)
        if lie is Lie.NO_RECEIPT or receipt is None or receipt.block.number > await self._sight():
            return None
        return receipt

    async def nonce(self, account: Address) -> int:
        """Return the account's next nonce to be mined."""
        lie = await self._draw(Lie.REPEATS, Lie.NONCE_LOW, Lie.NONCE_HIGH, Lie.ABSURD)
        nonce = await self._known(("nonce", account), lambda: self._chain.nonce(account), lie)
        if lie is Lie.NONCE_LOW:
            return max(0, nonce - self._rng.choice((1, 2, 100)))
        if lie is Lie.NONCE_HIGH:
            return nonce + self._rng.choice((1, 2, 1_000))
        return self._rng.choice(ABSURD) if lie is Lie.ABSURD else nonce

    async def fee_price(self) -> int:
        """Return what a transaction should offer per unit of gas."""
        lie = await self._draw(Lie.REPEATS, Lie.ABSURD)
        price = await self._known(("price",), self._chain.fee_price, lie)
        return self._rng.choice(ABSURD) if lie is Lie.ABSURD else price

    # --- views ---------------------------------------------------------------------------------------------------

    async def data_price(self) -> int:
        """Return what a byte of a transaction costs."""
        return await self._chain.data_price()

    async def balance(self, account: Address, asset: Address) -> int:
        """Return what the account holds."""
        lie = await self._draw(Lie.REPEATS, Lie.ABSURD)
        held = await self._known(("balance", account, asset), lambda: self._chain.balance(account, asset), lie)
        return self._rng.choice(ABSURD) if lie is Lie.ABSURD else held

    async def owed(self, asset: Address, account: Address) -> int:
        """Return what the contract owes the account."""
        lie = await self._draw(Lie.REPEATS, Lie.ABSURD)
        owed = await self._known(("owed", asset, account), lambda: self._chain.owed(asset, account), lie)
        return self._rng.choice(ABSURD) if lie is Lie.ABSURD else owed

    async def allowance(self, asset: Address, owner: Address) -> int:
        """Return what the adjudicator may take of the owner's tokens."""
        lie = await self._draw(Lie.REPEATS, Lie.ABSURD)
        allowed = await self._known(("allowance", asset, owner), lambda: self._chain.allowance(asset, owner), lie)
        return self._rng.choice(ABSURD) if lie is Lie.ABSURD else allowed

    async def takes_permits(self, asset: Address, key: PrivateKey) -> bool:
        """Return whether a token takes a permit of this owner."""
        return await self._chain.takes_permits(asset, key)

    async def channel(self, channel: ChannelId) -> ContractChannel | None:
        """Return the contract's state of a channel, None if it never existed."""
        lie = await self._draw(Lie.REPEATS, Lie.NO_CHANNEL)
        view = await self._known(("channel", channel), lambda: self._chain.channel(channel), lie)
        return None if lie is Lie.NO_CHANNEL else view

    async def channels(self, channels: Sequence[ChannelId]) -> tuple[ContractChannel | None, ...]:
        """Return what `channel` says of each."""
        return tuple([await self.channel(each) for each in channels])

    def learn(self, terms: Terms) -> None:
        """Hear the terms of a channel that exists."""
        self._chain.learn(terms)

    async def channel_count(self, first: Address, second: Address, asset: Address) -> int:
        """Return how many channels this pair ever opened in this asset."""
        lie = await self._draw(Lie.REPEATS, Lie.ABSURD)
        question = ("count", min(first, second), max(first, second), asset)
        count = await self._known(question, lambda: self._chain.channel_count(first, second, asset), lie)
        return self._rng.choice(ABSURD) if lie is Lie.ABSURD else count

    async def secret_time(self, digest: bytes) -> int | None:
        """Return the block time at which the secret of this sha256 digest was registered."""
        lie = await self._draw(Lie.REPEATS, Lie.ABSURD)
        time = await self._known(("secret", digest), lambda: self._chain.secret_time(digest), lie)
        return self._rng.choice(ABSURD) if lie is Lie.ABSURD else time


def _invented(header: Header) -> bytes:
    """Return the hash of a block that is not there."""
    return keccak(b"invented" + header.hash)
