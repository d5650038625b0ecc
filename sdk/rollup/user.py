"""What a user of a rollup does: signs steps and hands them in at the operator's desk, and leaves by the chain alone.

For a way out nobody is asked: the state follows from what the chain told.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, cast

import httpx
import msgspec
import trio

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.eip712 import digest_cooperative_close
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import Address, AnyAddress, CooperativeClose, to_address
from tallystick.channels.values.arguments import checked
from tallystick.sdk.errors import CallFailed, NodeUnreachable
from tallystick.sdk.rollup.calls import RollupCall, RollupFacts
from tallystick.sdk.rollup.chain import BLOCKS_MAX, RollupChain
from tallystick.sdk.rollup.promises import Promise
from tallystick.settlement.errors import ChainError, Revert, Reverted
from tallystick.settlement.modules.rollups import FINAL_MAX
from tallystick.settlement.rollup.leaving import show_account
from tallystick.settlement.rollup.rules import (
    Place,
    Statement,
    channel_name,
    digest_exit,
    digest_fund,
    digest_open,
    digest_transfer,
)
from tallystick.settlement.rollup.steps import (
    EntryKind,
    RollupClose,
    RollupExit,
    RollupFund,
    RollupOpen,
    RollupTransfer,
    Step,
    encode_step,
)
from tallystick.settlement.rollup.watcher import RollupWatcher

AGAIN = 0.5
"""Seconds between two tries to reach an operator that is away."""

TIMEOUT = 15.0
"""Seconds for a whole answer of the operator's desk."""

ANSWER_MAX = 1024 * 1024
"""Bytes of one: the signatures of a full batch take a third of that."""


class RollupDesk:
    """The operator's desk, from outside. Make it with `open_desk`."""

    def __init__(self, client: httpx.AsyncClient, patience: float = 0.0) -> None:
        self._client = client
        self._patience = patience

    async def ask(self, path: str, body: object = None) -> Any:
        """Return what it answers; raise CallFailed if it refuses, NodeUnreachable if it does not answer.

        An operator that is away is asked again as long as patience lasts: to hand in a step twice does no harm.
        """
        with trio.move_on_after(self._patience):
            while True:
                try:
                    return await self._ask(path, body)
                except NodeUnreachable:
                    await trio.sleep(AGAIN)
        return await self._ask(path, body)

    async def _ask(self, path: str, body: object) -> Any:
        try:
            status, reply = await self._send(path, None if body is None else msgspec.json.encode(body))
            answer = msgspec.json.decode(reply)
        except (
            httpx.HTTPError,
            httpx.StreamError,
            httpx.InvalidURL,
            msgspec.DecodeError,
            UnicodeDecodeError,
            RecursionError,
            trio.TooSlowError,
        ) as error:
            why = str(error) or type(error).__name__
            raise NodeUnreachable(f"the operator at {self._client.base_url} does not answer: {why}") from error
        if status != 200:
            raise CallFailed(str(answer.get("error", "")) if isinstance(answer, dict) else "it refuses")
        return answer

    async def _send(self, path: str, content: bytes | None) -> tuple[int, bytes]:
        """Return status and answer. An operator may gain by an answer that never ends: it is whole in time, or none."""
        method, headers = "GET" if content is None else "POST", {"accept-encoding": "identity"}
        status, answer = 0, bytearray()
        with trio.move_on_after(TIMEOUT) as patience:
            async with self._client.stream(method, path, content=content, headers=headers, timeout=None) as response:
                status = response.status_code
                response.headers.pop("content-encoding", None)  # an answer is as long as what was sent
                async with aclosing(cast(AsyncGenerator[bytes, None], response.aiter_bytes())) as parts:
                    async for part in parts:
                        answer += part
                        if len(answer) > ANSWER_MAX:
                            patience.cancel()  # an error here would not reach what is open
        if patience.cancelled_caught:
            raise trio.TooSlowError(f"no whole answer of at most {ANSWER_MAX} bytes came within {TIMEOUT:g} seconds")
        return status, bytes(answer)

    async def signatures(self, number: int) -> tuple[tuple[bytes, ...], ...] | None:
        """Return the signatures of a batch, None if they cannot be had now."""
        try:
            answer = await self.ask(f"/batches/{number}/signatures")
            return tuple(tuple(bytes.fromhex(each[2:]) for each in step) for step in answer["signatures"])
        except (CallFailed, NodeUnreachable, KeyError, TypeError, ValueError):
            return None


@asynccontextmanager
async def open_desk(url: str, patience: float = 0.0) -> AsyncIterator[RollupDesk]:
    """Give the operator's desk at a URL; one that is away is asked again for `patience` seconds."""
    jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # it has nothing to remember with us
    async with httpx.AsyncClient(base_url=url, trust_env=False, cookies=jar) as client:
        yield RollupDesk(client, patience)


async def read_rollup(chain: RollupChain, start: int = 0) -> RollupWatcher:
    """Return a rollup's state and history, from what the chain tells from a block on."""
    core, newest = RollupWatcher(await chain.rules_of()), await chain.head()
    for first in range(start, newest.number + 1, BLOCKS_MAX):
        for log in await chain.logs(first, min(newest.number, first + BLOCKS_MAX - 1)):
            event = chain.event(log)
            if event is not None:
                try:
                    core.on_event(event)
                except InvalidInput as error:
                    raise ChainError(f"{error}: is block {start} after the rollup's first one?") from error
    return core


class RollupUser:
    """An account of a rollup, by its key. Without a desk it leaves by the chain."""

    @checked
    def __init__(self, chain: RollupChain, place: Place, key: PrivateKey, desk: RollupDesk | None = None) -> None:
        self._chain = chain
        self._place = place
        self._key = key
        self._desk = desk

    @property
    def address(self) -> Address:
        """Of the account."""
        return self._key.address

    async def account(self, owner: AnyAddress | None = None) -> dict[str, Any]:
        """Return what the operator says of an account (`number`, `balance`, `nonce`, `exited`), ours by default."""
        found: dict[str, Any] = await self._ask(f"/accounts/0x{to_address(owner or self.address).hex()}")
        return found

    async def where(self, step: Step) -> dict[str, Any]:
        """Return what the operator says of a step: what it `is`, and its `batch`."""
        found: dict[str, Any] = await self._ask(f"/steps/0x{encode_step(step).hex()}")
        return found

    async def deposit(self, amount: int) -> bytes:
        """Move coins of the account into the rollup; return the transaction's hash. Raise Reverted."""
        return await self._chain.act(self._key, RollupCall("deposit", (self.address,), amount))

    async def transfer(self, to: AnyAddress, amount: int) -> tuple[Step, Promise]:
        """Pay another account of the rollup; return the step and the operator's promise of it."""
        ours, theirs = await self.account(), await self.account(to)
        step = RollupTransfer(ours["number"], theirs["number"], amount, ours["nonce"])
        digest = digest_transfer(self._place, self.address, to_address(to), amount, step.nonce)
        return step, await self.hand_in(step, self._key.sign(digest))

    async def open_channel(self, channel: int, other: AnyAddress, deposit: int) -> tuple[Step, Promise]:
        """Open a channel under a number that none has had."""
        ours, theirs = await self.account(), await self.account(other)
        step = RollupOpen(channel, ours["number"], theirs["number"], deposit, ours["nonce"])
        name = channel_name(self._place, self.address, to_address(other), channel)
        return step, await self.hand_in(step, self._key.sign(digest_open(self._place, name, deposit, step.nonce)))

    async def fund(self, channel: int, amount: int) -> tuple[Step, Promise]:
        """Pay into a channel, on our side."""
        ours, found = await self.account(), await self._ask(f"/channels/{channel}")
        first, second = to_address(found["first"]), to_address(found["second"])
        step = RollupFund(channel, int(self.address == second), amount, ours["nonce"])
        digest = digest_fund(self._place, channel_name(self._place, first, second, channel), amount, step.nonce)
        return step, await self.hand_in(step, self._key.sign(digest))

    async def sign_close(self, channel: int, balance0: int, valid_until: int) -> bytes:
        """Return our signature of a close: the first side gets `balance0`, the second one the rest."""
        return self._key.sign((await self._close(channel, balance0, valid_until))[0].digest)

    async def close(self, channel: int, balance0: int, valid_until: int, other: bytes) -> tuple[Step, Promise]:
        """Hand in a close with the other side's signature."""
        statements = await self._close(channel, balance0, valid_until)
        ours = self._key.sign(statements[0].digest)
        signatures = [ours if each.signer == self.address else other for each in statements]
        step = RollupClose(channel, balance0, valid_until)
        return step, await self.hand_in(step, *signatures)

    async def exit(self, amount: int) -> tuple[Step, Promise]:
        """Take coins out: once the batch is final, `withdraw` pays them."""
        ours = await self.account()
        step = RollupExit(ours["number"], amount, ours["nonce"])
        return step, await self.hand_in(
            step, self._key.sign(digest_exit(self._place, self.address, amount, step.nonce))
        )

    async def hand_in(self, step: Step, *signatures: bytes) -> Promise:
        """Hand in a signed step; return the operator's promise, which is checked. Raise CallFailed if it refuses."""
        word = encode_step(step)
        body = {"step": f"0x{word.hex()}", "signatures": [f"0x{each.hex()}" for each in signatures]}
        answer = await self._ask("/steps", body)
        promise = Promise(word, answer["until"], bytes.fromhex(answer["signature"][2:]))
        if not promise.is_signed(self._place, (await self._chain.facts()).operator):
            raise CallFailed("the operator took the step, and its promise is not signed by it: watch for the step")
        return promise

    async def force_exit(self) -> bytes:
        """Order all that the account holds out, by the chain: the operator must, or everything stops."""
        return await self._chain.act(self._key, RollupCall("forceExit"))

    async def force_close(self, channel: int, balance0: int, valid_until: int, other: bytes, start: int = 0) -> bytes:
        """Order a close that both signed by the chain, without asking the operator for anything."""
        core = await read_rollup(self._chain, start)
        found = core.state.channels.get(channel)
        owners = [core.state.accounts.get(each) for each in (found.first, found.second)] if found else []
        if found is None or len(owners) != 2 or owners[0] is None or owners[1] is None:
            raise InvalidInput(f"there is no channel {channel}")
        first, second = owners[0].owner, owners[1].owner
        statements = self._closing(channel, first, second, balance0, found.total, valid_until)
        ours = self._key.sign(statements[0].digest)
        signatures = tuple(ours if each.signer == self.address else other for each in statements)
        values = (channel, first, second, balance0, found.total - balance0, valid_until)
        call = RollupCall("forceClose", values, statements=statements, signatures=signatures)
        return await self._chain.act(self._key, call)

    async def withdraw(self, start: int = 0) -> bytes | None:
        """Have paid what the account took out and was not paid yet: all that it holds, if everything has stopped.

        Return the transaction's hash, None if there is nothing to be paid now. Raise Reverted.
        """
        facts, (number, paid, _) = await self._chain.facts(), await self._chain.account(self.address)
        core = await read_rollup(self._chain, start)
        if number is None:
            raise InvalidInput("this account has nothing in the rollup")
        await self._finalise(core, facts)
        if facts.frozen:
            return await self._escape(core, number)
        return await self._withdraw_newest(core, number, paid)

    async def _finalise(self, core: RollupWatcher, facts: RollupFacts) -> None:
        """Have batches counted as final where more wait than one call counts: without an operator nobody else does."""
        now, last = (await self._chain.head()).time, facts.final + FINAL_MAX - 1
        while last < len(core.standing) and now > core.standing[last].batch.time + facts.window:
            await self._chain.act(self._key, RollupCall("finalise"))
            before, last = last, (await self._chain.facts()).final + FINAL_MAX - 1
            if last == before:
                return  # a demand waits

    async def _withdraw_newest(self, core: RollupWatcher, number: int, paid: int) -> bytes | None:
        """Withdraw by the newest batch that is final: the chain says which one is, as it counts them when asked."""
        states = [*(each.before for each in core.standing[1:]), core.state]
        for at in reversed(range(len(core.standing))):
            account = states[at].accounts.get(number)
            if account is None or account.exited <= paid:
                return None
            try:
                return await self._chain.act(self._key, RollupCall("withdraw", (at, show_account(states[at], number))))
            except Reverted as error:
                if error.code != Revert.WINDOW_OPEN:
                    raise
        return None

    async def _escape(self, core: RollupWatcher, number: int) -> bytes | None:
        """Leave a rollup that has stopped: with what the account holds, and with deposits that no batch has."""
        calls = [RollupCall("escape", (show_account(core.state, number),))] if core.state.accounts.get(number) else []
        calls += [
            RollupCall("reclaim", (at, list(entry.words)))
            for at, entry in enumerate(core.entries)
            if at >= core.queue_end and entry.first == self.address and entry.kind == EntryKind.DEPOSIT
        ]
        done = None
        for call in calls:
            try:
                done = await self._chain.act(self._key, call)
            except Reverted as error:
                if error.code != Revert.NOTHING_OWED:
                    raise
        return done

    async def _close(self, channel: int, balance0: int, valid_until: int) -> tuple[Statement, Statement]:
        found = await self._ask(f"/channels/{channel}")
        sides = to_address(found["first"]), to_address(found["second"])
        return self._closing(channel, *sides, balance0, found["total"], valid_until)

    def _closing(
        self, channel: int, first: Address, second: Address, balance0: int, total: int, valid_until: int
    ) -> tuple[Statement, Statement]:
        if not 0 <= balance0 <= total:
            raise InvalidInput(f"channel {channel} holds {total}: its first side cannot get {balance0}")
        name = channel_name(self._place, first, second, channel)
        close = CooperativeClose(name, balance0, total - balance0, valid_until)
        digest = digest_cooperative_close(self._place.domain, close)
        return Statement(first, digest), Statement(second, digest)

    async def _ask(self, path: str, body: object = None) -> Any:
        if self._desk is None:
            raise InvalidInput("this takes the operator's desk: give its URL")
        return await self._desk.ask(path, body)
