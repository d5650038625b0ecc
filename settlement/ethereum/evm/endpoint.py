"""One Ethereum node: questions in JSON-RPC 2.0 over HTTP, several at once where it takes them so.

| what the node does                                   | what becomes of it                                         |
| ---------------------------------------------------- | ---------------------------------------------------------- |
| no connection, or it ends before the whole answer    | it is asked once more at once; then ChainUnavailable       |
| no whole answer in time, HTTP 5xx                    | ChainUnavailable                                           |
| HTTP 429, or an error that says that it is busy      | Busy: ChainUnavailable with the pause that it asked for    |
| an error in answer to a question                     | RpcError, as one of the answers                            |
| anything that is no JSON-RPC                         | ChainError                                                 |
| it takes no batches, or answers a part of one        | from then on half as many are asked at once, down to one   |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import httpx
import msgspec

from tallystick.settlement.errors import ChainError, ChainUnavailable, RpcError
from tallystick.settlement.ethereum.evm.refusals import is_passing
from tallystick.settlement.ethereum.http import NodeClient, Reply, post

TIMEOUT = 10.0
"""Seconds for one answer."""

ANSWER_MAX = 64 * 1024 * 1024
"""Bytes of one answer."""

BATCH_MAX = 100
"""Questions in one request: what the strictest of the well-known providers take."""

PAUSE_MAX = 60.0
"""Seconds of a pause that a node may ask for."""

TEXT_MAX = 300
"""Characters of a node's own words that are passed on."""

INVALID_REQUEST = -32600
TOO_LARGE = 413


class NodeQuestion(NamedTuple):
    """A method and its parameters."""

    method: str
    params: tuple[Any, ...] = ()


class Busy(ChainUnavailable):
    """The node asks to be left alone for `seconds`."""

    def __init__(self, text: str, seconds: float) -> None:
        super().__init__(text)
        self.seconds = seconds


class _RefusalSaid(msgspec.Struct):
    code: int = 0
    message: str = ""
    data: Any = None


class _AnswerSaid(msgspec.Struct):
    id: int | str | None = None
    result: Any = None
    error: _RefusalSaid | None = None


_one = msgspec.json.Decoder(_AnswerSaid)
_many = msgspec.json.Decoder(list[_AnswerSaid])


class Endpoint:
    """Asks one node. It tries again only what ended with its connection: who has several nodes asks another one."""

    def __init__(self, client: NodeClient) -> None:
        self._client = client
        self._most = BATCH_MAX
        """Questions in one request: halved whenever so many were not answered."""

    @property
    def batches(self) -> bool:
        """Whether it has not refused several questions in one request."""
        return self._most > 1

    @property
    def url(self) -> str:
        """Where it is, less what may be a secret in it."""
        return self._client.shown

    def __repr__(self) -> str:
        return f"<Endpoint {self.url}>"

    async def ask(self, questions: Sequence[NodeQuestion], timeout: float = TIMEOUT) -> list[Any]:
        """Return the answers in order; an error in answer to one of them is an `RpcError` among them.

        Raise ChainUnavailable or ChainError.
        """
        answers: list[Any] = []
        while len(answers) < len(questions):
            rest = questions[len(answers) :]
            if not self.batches or len(rest) == 1:
                answers.append(await self._ask_one(rest[0], timeout))
            else:
                answers += await self._ask_many(rest[: self._most], timeout)
        return answers

    async def _ask_one(self, question: NodeQuestion, timeout: float) -> Any:
        reply = await self._post(_request(0, question), timeout)
        if reply.status == TOO_LARGE:
            return RpcError(TOO_LARGE, "the answer or the question is too large")
        return self._read(self._decode(_one, reply))

    async def _ask_many(self, questions: Sequence[NodeQuestion], timeout: float) -> list[Any]:
        reply = await self._post([_request(at, question) for at, question in enumerate(questions)], timeout)
        if reply.status == TOO_LARGE or not reply.body.lstrip().startswith(b"["):
            self._most = len(questions) // 2  # an error for all of them together
            return []
        by_id = {answer.id: answer for answer in self._decode(_many, reply)}
        if not by_id.keys() >= set(range(len(questions))):
            self._most = len(questions) // 2
            return []
        return [self._read(by_id[at]) for at in range(len(questions))]

    async def _post(self, body: Any, timeout: float) -> Reply:
        question = msgspec.json.encode(body)
        try:
            try:
                reply = await post(self._client, question, timeout, ANSWER_MAX)
            except (
                httpx.TransportError
            ):  # a connection that was kept may have ended: no question does harm if asked twice
                reply = await post(self._client, question, timeout, ANSWER_MAX)
        except (httpx.RequestError, httpx.StreamError, ChainUnavailable) as fault:
            why = (str(fault) or type(fault).__name__)[:TEXT_MAX]
            raise ChainUnavailable(f"the chain node at {self.url} does not answer: {why}") from fault
        if reply.status == 429:
            raise Busy(f"the chain node at {self.url} is asked too often", _pause(reply))
        if reply.status >= 500 or reply.status == 408:
            raise ChainUnavailable(f"the chain node at {self.url} answers with HTTP status {reply.status}")
        if reply.status not in (200, TOO_LARGE) and not reply.body.lstrip().startswith((b"{", b"[")):
            raise ChainError(f"the chain node at {self.url} answers with HTTP status {reply.status}")
        return reply

    def _decode(self, decoder: msgspec.json.Decoder[Any], reply: Reply) -> Any:
        try:
            return decoder.decode(reply.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ChainError(f"the answer of the chain node at {self.url} is no JSON-RPC: {error}") from error

    def _read(self, answer: _AnswerSaid) -> Any:
        error = answer.error
        if error is None:
            return answer.result
        text = error.message[:TEXT_MAX]
        if is_passing(error.code, text):
            raise Busy(f"the chain node at {self.url} is busy: {text}", 1.0)
        return RpcError(error.code, text, error.data)


def _request(id: int, question: NodeQuestion) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "method": question.method, "params": question.params}


def _pause(reply: Reply) -> float:
    """Return for how long a node asks to be left alone (RFC 9110, 10.2.3), in seconds; a second if it does not say."""
    text = reply.headers.get("retry-after", "")
    return min(PAUSE_MAX, float(text)) if text.isascii() and text.isdigit() else 1.0
