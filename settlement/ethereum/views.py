"""Reading a contract's state over `eth_call`: the views' calldata and results, for both ends of JSON-RPC.

| view                                           | result                                          |
| ---------------------------------------------- | ----------------------------------------------- |
| channel(bytes32)                               | whether it exists, and all of `ContractChannel`     |
| channelCount(address, address, address)        | channels that the pair has had in that asset    |
| secretTime(bytes32)                            | block time of registration, 0 if there was none |
| balanceOf(address), of a token                 | ERC-20's                                        |
"""

from __future__ import annotations

from typing import Any, NamedTuple

from eth_abi.abi import encode

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import keccak
from tallystick.channels.protocol.objects import NATIVE, ZERO32
from tallystick.settlement.chain import ContractChannel
from tallystick.settlement.ethereum.abi import TERMS, Deployment, decode_values, read_terms, terms_values


class View(NamedTuple):
    """One view function."""

    name: str
    arguments: tuple[str, ...]
    results: tuple[str, ...]

    @property
    def selector(self) -> bytes:
        """The first four bytes of its calldata."""
        return keccak(f"{self.name}({','.join(self.arguments)})".encode())[:4]

    def encode_call(self, *values: Any) -> bytes:
        """Return the calldata."""
        return self.selector + encode(self.arguments, values)

    def decode_call(self, data: bytes) -> tuple[Any, ...]:
        """Return the arguments in calldata of this view; raise InvalidInput if they cannot be read."""
        return _decode(self.arguments, data[4:])

    def encode_result(self, *values: Any) -> bytes:
        """Return what the view answers."""
        return encode(self.results, values)

    def decode_result(self, data: bytes) -> tuple[Any, ...]:
        """Return what the view answered; raise InvalidInput if it cannot be read."""
        return _decode(self.results, data)


_PAIR = ("uint128", "uint128")
CHANNEL = View(
    "channel",
    ("bytes32",),
    (
        *("bool", *TERMS, "uint8"),
        *(*_PAIR, *_PAIR, "bool", "uint8", "uint64"),
        *("uint64", "uint64", "bytes32", "bytes32", *_PAIR, "bool"),
    ),
)
CHANNEL_COUNT = View("channelCount", ("address", "address", "address"), ("uint64",))
SECRET_TIME = View("secretTime", ("bytes32",), ("uint64",))
BALANCE_OF = View("balanceOf", ("address",), ("uint256",))

_ABSENT = (False, NATIVE, NATIVE, NATIVE, 0, 0, ZERO32, 0, *(0, 0, 0, 0, False, 0, 0), *(0, 0, ZERO32, ZERO32, 0, 0))


def encode_channel(view: ContractChannel | None) -> bytes:
    """Return the result of the view `channel`."""
    if view is None:
        return CHANNEL.encode_result(*_ABSENT, False)
    ended_alone = view.closer is not None
    return CHANNEL.encode_result(
        *(True, *terms_values(view.terms), view.status),
        *(*view.deposits, *view.withdrawn, ended_alone, view.closer or 0, view.deadline or 0),
        *(*view.seqs, *view.roots, *view.pots, view.convicted),
    )


def decode_channel(data: bytes, at: Deployment) -> ContractChannel | None:
    """Return what the view `channel` answered, None for a channel that never existed; raise InvalidInput."""
    values = CHANNEL.decode_result(data)
    if not values[0]:
        return None
    ended_alone = values[12]
    return ContractChannel(
        terms=read_terms(at, *values[1:7]),
        status=values[7],
        deposits=values[8:10],
        withdrawn=values[10:12],
        closer=values[13] if ended_alone else None,
        deadline=values[14] if ended_alone else None,
        seqs=values[15:17],
        roots=values[17:19],
        pots=values[19:21],
        convicted=values[21],
    )


def _decode(types: tuple[str, ...], data: bytes) -> tuple[Any, ...]:
    try:
        return decode_values(types, data)
    except InvalidInput as error:
        raise InvalidInput(f"this is not what the view takes or answers: {error}") from error
