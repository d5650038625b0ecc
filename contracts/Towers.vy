# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title The registry of towers
@license Apache-2.0
@notice Bonds of watchtowers, the covers that are set apart of them, and accusations: what `settlement/modules/towers.py`
    says in Python, in the same order and with the same words, beside one adjudicator. Not audited.
@dev It asks the adjudicator what it keeps of a channel, which stays after the settlement: numbers, closer, deadline.
    docs/watchtower.md says what it is for and why it is sound.
"""

struct Terms:
    p0: address
    p1: address
    asset: address
    number: uint64
    challenge_period: uint64
    close_hash: bytes32

# EIP-2098: the highest bit of `vs` says which of the two points, the rest is s.
struct Signature:
    r: bytes32
    vs: uint256

# What a tower offers for a channel: docs/watchtower.md has the meaning of each.
struct Cover:
    tower: address
    client: address
    amount: uint128
    until: uint64
    response: uint64
    price: uint128
    offered: uint64

struct View:
    exists: bool
    p0: address
    p1: address
    asset: address
    number: uint64
    challenge_period: uint64
    close_hash: bytes32
    status: uint8
    deposit0: uint128
    deposit1: uint128
    withdrawn0: uint128
    withdrawn1: uint128
    ended_alone: bool
    closer: uint8
    deadline: uint64
    seq0: uint64
    seq1: uint64
    held0: bytes32
    held1: bytes32
    pot0: uint128
    pot1: uint128
    convicted: bool

interface Adjudicator:
    def channel(t: Terms) -> View: view

event TowerBonded:
    tower: indexed(address)
    bond: uint128

event TowerTerms:
    tower: indexed(address)
    response: uint64
    validity: uint64
    period: uint64
    price: uint128

event BondWithdrawn:
    tower: indexed(address)
    amount: uint128

event Covered:
    cover: indexed(bytes32)
    tower: address
    client: address
    channel: bytes32
    amount: uint128
    end: uint64

event CoverReleased:
    cover: indexed(bytes32)
    tower: address
    amount: uint128

event TowerSlashed:
    cover: indexed(bytes32)
    tower: address
    client: address
    channel: bytes32
    amount: uint128

OPEN: constant(uint8) = 0
LOW: constant(uint256) = 2**128 - 1
M64: constant(uint256) = 2**64 - 1
M32: constant(uint256) = 2**32 - 1
BOND_MAX: constant(uint256) = 2**120 - 1
ENDED: constant(uint256) = 2**127
ACCUSE_TIME: constant(uint256) = 7 * 86_400
VALIDITY_MAX: constant(uint256) = 366 * 86_400
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168
COVER: constant(bytes32) = keccak256("TowerCover(bytes32 channel,address tower,address client,uint128 amount,uint64 until,uint64 response,uint128 price,uint64 offered)")
PROMISE: constant(bytes32) = keccak256("TowerPromise(bytes32 cover,uint64 since,uint64 seq0,uint64 seq1)")

CHAIN_ID: immutable(uint256)
DOMAIN: immutable(bytes32)
ADJUDICATOR: immutable(address)

# Bits 0-127: the bond; 128-255: what of it covers hold apart.
bonds: HashMap[address, uint256]
# Bits 0-127: price; 128-159 response; 160-191 validity; 192-223 longest period.
terms: HashMap[address, uint256]
# By a cover's digest, bits 0-127: its amount, ENDED once it was paid out or released; 128-191: its end.
covers: HashMap[bytes32, uint256]

@deploy
def __init__(adjudicator: address):
    assert adjudicator.codesize > 0, "bad-terms"
    ADJUDICATOR = adjudicator
    CHAIN_ID = chain.id
    DOMAIN = keccak256(abi_encode(
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
        keccak256("Tallystick"), keccak256("1"), chain.id, self))

@internal
@view
def _digest(struct_hash: bytes32) -> bytes32:
    return keccak256(concat(x"1901", DOMAIN, struct_hash))

@internal
@pure
def _check(digest: bytes32, signature: Signature, signer: address):
    s: uint256 = signature.vs << 1 >> 1
    assert s <= HALF_ORDER and signer != empty(address) and ecrecover(digest, unsafe_add(27, signature.vs >> 255), convert(signature.r, uint256), s) == signer, "bad-signature"

@internal
@view
def _id(t: Terms) -> bytes32:
    return keccak256(abi_encode(CHAIN_ID, ADJUDICATOR, t.p0, t.p1, t.asset, t.number))

@internal
@view
def _name(channel: bytes32, c: Cover) -> bytes32:
    return self._digest(keccak256(abi_encode(COVER, channel, c)))

@internal
@view
def _held(channel: bytes32, c: Cover) -> (bytes32, uint256):
    """The name of a cover that is set apart, and its word."""
    name: bytes32 = self._name(channel, c)
    word: uint256 = self.covers[name]
    assert word != 0 and word & ENDED == 0, "unknown-entry"
    return name, word

@internal
def _end(name: bytes32, word: uint256, c: Cover):
    self.covers[name] = word >> 128 << 128 | ENDED
    self.bonds[c.tower] -= convert(c.amount, uint256) << 128

# --- what a tower does ------------------------------------------------------------------------------------------

@external
@payable
def bond(amount: uint128):
    added: uint256 = convert(amount, uint256)
    assert msg.value == added and added != 0, "bad-amount"
    word: uint256 = self.bonds[msg.sender]
    assert (word & LOW) + added <= BOND_MAX, "bad-amount"
    self.bonds[msg.sender] = word + added
    log TowerBonded(tower=msg.sender, bond=convert((word & LOW) + added, uint128))

@external
def announce(response: uint64, validity: uint64, period: uint64, price: uint128):
    """On what terms the caller offers covers; what binds it is what it signs."""
    r: uint256 = convert(response, uint256)
    v: uint256 = convert(validity, uint256)
    p: uint256 = convert(period, uint256)
    assert max(max(r, v), p) <= M32, "bad-terms"
    self.terms[msg.sender] = convert(price, uint256) | r << 128 | v << 160 | p << 192
    log TowerTerms(tower=msg.sender, response=response, validity=validity, period=period, price=price)

@external
@nonreentrant
def withdraw(amount: uint128):
    """Take what no cover holds apart."""
    taken: uint256 = convert(amount, uint256)
    assert taken != 0, "bad-amount"
    word: uint256 = self.bonds[msg.sender]
    assert taken <= (word & LOW) - (word >> 128), "insufficient-balance"
    self.bonds[msg.sender] = word - taken
    log BondWithdrawn(tower=msg.sender, amount=amount)
    assert raw_call(msg.sender, b"", value=taken, revert_on_failure=False), "transfer-failed"

# --- covers -----------------------------------------------------------------------------------------------------

@external
@payable
def reserve(t: Terms, c: Cover, by_tower: Signature):
    """Set a cover apart that a tower has offered, and pay its price into the tower's bond."""
    price: uint256 = convert(c.price, uint256)
    amount: uint256 = convert(c.amount, uint256)
    until: uint256 = convert(c.until, uint256)
    assert msg.value == price, "bad-amount"
    assert block.timestamp <= convert(c.offered, uint256), "expired"
    assert amount != 0 and amount <= BOND_MAX, "bad-amount"
    assert c.offered <= c.until and until <= block.timestamp + VALIDITY_MAX, "bad-terms"
    v: View = staticcall Adjudicator(ADJUDICATOR).channel(t)
    assert v.exists, "unknown-channel"
    assert v.status == OPEN, "wrong-status"
    assert c.client == t.p0 or c.client == t.p1, "not-a-participant"
    assert t.challenge_period >= c.response, "bad-terms"
    channel: bytes32 = self._id(t)
    name: bytes32 = self._name(channel, c)
    self._check(name, by_tower, c.tower)
    assert self.covers[name] == 0, "already-registered"
    word: uint256 = self.bonds[c.tower]
    assert amount <= (word & LOW) - (word >> 128), "insufficient-balance"
    assert (word & LOW) + price <= BOND_MAX, "bad-amount"
    end: uint256 = until + convert(t.challenge_period, uint256) + ACCUSE_TIME
    self.covers[name] = amount | end << 128
    self.bonds[c.tower] = word + price + (amount << 128)
    log Covered(cover=name, tower=c.tower, client=c.client, channel=channel, amount=c.amount, end=convert(end, uint64))

@external
def release(channel: bytes32, c: Cover):
    """Give a cover whose time is over back to the tower's free bond."""
    name: bytes32 = empty(bytes32)
    word: uint256 = 0
    name, word = self._held(channel, c)
    assert block.timestamp > word >> 128, "window-open"
    self._end(name, word, c)
    log CoverReleased(cover=name, tower=c.tower, amount=c.amount)

@external
@nonreentrant
def accuse(t: Terms, c: Cover, since: uint64, seq0: uint64, seq1: uint64, by_tower: Signature):
    """Show a promise that a tower broke: all of the cover is paid to the client."""
    channel: bytes32 = self._id(t)
    name: bytes32 = empty(bytes32)
    word: uint256 = 0
    name, word = self._held(channel, c)
    self._check(self._digest(keccak256(abi_encode(PROMISE, name, since, seq0, seq1))), by_tower, c.tower)
    v: View = staticcall Adjudicator(ADJUDICATOR).channel(t)
    assert v.exists, "unknown-channel"
    assert v.ended_alone, "wrong-status"
    assert block.timestamp > convert(v.deadline, uint256), "window-open"
    assert c.client == (t.p1 if v.closer == 0 else t.p0), "not-allowed"
    closed: uint64 = v.deadline - t.challenge_period
    assert since <= closed and closed <= c.until, "expired"
    assert v.seq0 < seq0 or v.seq1 < seq1, "not-newer"
    self._end(name, word, c)
    amount: uint256 = convert(c.amount, uint256)
    self.bonds[c.tower] -= amount
    log TowerSlashed(cover=name, tower=c.tower, client=c.client, channel=channel, amount=c.amount)
    assert raw_call(c.client, b"", value=amount, revert_on_failure=False), "transfer-failed"

# --- views ------------------------------------------------------------------------------------------------------

@external
@view
def tower(account: address) -> (uint128, uint128, uint64, uint64, uint64, uint128):
    """Bond, what of it is set apart, response, validity, longest period, price."""
    word: uint256 = self.bonds[account]
    said: uint256 = self.terms[account]
    return convert(word & LOW, uint128), convert(word >> 128, uint128), convert((said >> 128) & M32, uint64), convert((said >> 160) & M32, uint64), convert((said >> 192) & M32, uint64), convert(said & LOW, uint128)

@external
@view
def cover(name: bytes32) -> (uint128, uint64, bool):
    """What is set apart, until when, and whether it was, and nothing is any more."""
    word: uint256 = self.covers[name]
    ended: bool = word & ENDED != 0
    return 0 if ended else convert(word & LOW, uint128), convert(word >> 128, uint64), ended

@external
@view
def adjudicator() -> address:
    return ADJUDICATOR

@external
@view
def domainSeparator() -> bytes32:
    return DOMAIN
