"""Reading a contract's state over `eth_call`: the views' calldata and results, for both ends of JSON-RPC.

| view                                           | result                                          |
| ---------------------------------------------- | ----------------------------------------------- |
| channel(bytes32)                               | whether it exists, and all of `ContractChannel`     |
| channelCount(address, address, address)        | channels that the pair has had in that asset    |
| secretTime(bytes32)                            | block time of registration, 0 if there was none |
| owed(address, address)                         | what an account may claim of an asset           |
| balanceOf(address), of a token                 | ERC-20's                                        |
| allowance(address, address), of a token        | ERC-20's                                        |
"""

from __future__ import annotations

from tallystick.channels.errors import InvalidInput
from tallystick.settlement.chain import ContractChannel
from tallystick.settlement.errors import Reverted, read_revert
from tallystick.settlement.ethereum.abi import TERMS, Deployment, Signature, read_terms, terms_values
from tallystick.settlement.ethereum.rpc_shapes import read_bytes

_PAIR = ("uint128", "uint128")
CHANNEL = Signature(
    "channel",
    ("bytes32",),
    (
        *("bool", *TERMS, "uint8"),
        *(*_PAIR, *_PAIR, "bool", "uint8", "uint64"),
        *("uint64", "uint64", "bytes32", "bytes32", *_PAIR, "bool"),
    ),
)
CHANNEL_COUNT = Signature("channelCount", ("address", "address", "address"), ("uint64",))
SECRET_TIME = Signature("secretTime", ("bytes32",), ("uint64",))
OWED = Signature("owed", ("address", "address"), ("uint256",))
BALANCE_OF = Signature("balanceOf", ("address",), ("uint256",))
ALLOWANCE = Signature("allowance", ("address", "address"), ("uint256",))


_ERROR = Signature("Error", ("string",))


def encode_revert(error: Reverted) -> bytes:
    """Return why a call fails, as a contract says it."""
    return _ERROR.encode_call(f"{error.code}: {error}")


def read_revert_data(data: object) -> Reverted | None:
    """Return what such data in a node's answer says, None if it is none, or of no rule that we know."""
    try:
        raw = read_bytes(data)
        code, sentence = read_revert(_ERROR.decode_call(raw)[0]) if raw[:4] == _ERROR.selector else (None, "")
    except InvalidInput:
        return None
    return None if code is None else Reverted(code, sentence)


def encode_channel(view: ContractChannel | None) -> bytes:
    """Return the result of the view `channel`."""
    if view is None:
        return bytes(32 * len(CHANNEL.results))
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
