# pragma version 0.4.3
# pragma evm-version cancun
"""
@title What the rules of several apps need: fields of fixed width, and what others signed for a move to carry
@license Apache-2.0
@notice `channels/apps/fields.py` and `channels/apps/statements.py` in Vyper. Not audited.
"""

FINAL: constant(uint8) = 2

# Of the domain {name: "Tallystick", version: "1"}, and of AppDecision, AppVote, AppPrice.
DOMAIN: constant(bytes32) = 0x973784979c2775de0ebf4e35300dd79c1845aabfc34b5772c68902c42aedbc40
DECISION: constant(bytes32) = 0xc23212e787ce38c8b16223d46ee379f1bf1c62c2bd4dfb21b097e2b54255c837
VOTE: constant(bytes32) = 0x3c435573ff140a16a3cbefa93c39dedcdd7b0110299c9b677008d4dbdd918fc9
PRICE: constant(bytes32) = 0x9f00da0cbca3007c1d7e069f478b852f24b5f296a2a7cfb73ed9b16d365e91c2
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168


@internal
@pure
def number(data: Bytes[1024], at: uint256, size: uint256) -> uint256:
    """
    @notice The number in the field of `size` bytes (1 to 32) that begins at `at`, within the data
    """
    assert at + size <= len(data), "fields"
    return convert(extract32(concat(data, empty(bytes32)), at), uint256) >> (256 - 8 * size)


@internal
@pure
def seat(data: Bytes[1024], at: uint256) -> uint8:
    player: uint256 = self.number(data, at, 1)
    assert player <= 1, "seat"
    return convert(player, uint8)


@internal
@pure
def given(player: uint8, amount: uint128) -> uint128[2]:
    """
    @notice So much of this player's stake goes to the other one
    """
    return [amount, 0] if player == 0 else [0, amount]


@internal
@pure
def digest_decision(instance: bytes32, paid: uint128) -> bytes32:
    return self._digest(keccak256(concat(DECISION, instance, convert(paid, bytes32))))


@internal
@pure
def digest_vote(instance: bytes32, paid: uint128) -> bytes32:
    return self._digest(keccak256(concat(VOTE, instance, convert(paid, bytes32))))


@internal
@pure
def digest_price(feed: bytes32, price: uint128, time: uint64) -> bytes32:
    return self._digest(keccak256(concat(PRICE, feed, convert(price, bytes32), convert(time, bytes32))))


@internal
@pure
def is_signed(digest: bytes32, r: bytes32, s: bytes32, signer: address) -> bool:
    """
    @notice Whether the signer, who is not the empty address, made this signature: without v, with low s
    """
    if signer == empty(address) or convert(s, uint256) > HALF_ORDER:
        return False
    return ecrecover(digest, 27, r, s) == signer or ecrecover(digest, 28, r, s) == signer


@internal
@pure
def _digest(said: bytes32) -> bytes32:
    return keccak256(concat(x"1901", DOMAIN, said))
