# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title Tallystick's adjudicator
@license Apache-2.0
@notice The rules of docs/protocol.md, sections 5 and 6, for the native coin and ERC-20 tokens: what
    `settlement/contract/` says in Python, in the same order and with the same words. Not audited.
@dev A channel's terms travel with each call; what is stored is found by keccak(id, challenge period, close hash), so
    wrong terms find nothing. contracts/README.md has the interface, docs/contracts.md the layout and the threats.
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

# EIP-2612; a deadline of 0 means: none.
struct Permit:
    deadline: uint256
    v: uint8
    r: bytes32
    s: bytes32

# What a proof that stands says of its locks: the contract keeps the hash of both alone.
struct Held:
    locked: uint128
    root: bytes32

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

interface Court:
    def kept(condition: bytes32) -> uint256: view

interface Token:
    def balanceOf(account: address) -> uint256: view
    def allowance(owner: address, spender: address) -> uint256: view

event ChannelOpened:
    channel: indexed(bytes32)
    p0: address
    p1: address
    asset: address
    number: uint64
    challenge_period: uint64
    close_hash: bytes32

event Deposited:
    channel: indexed(bytes32)
    side: uint8
    total: uint128

event Withdrawn:
    channel: indexed(bytes32)
    side: uint8
    total: uint128

event CooperativelyClosed:
    channel: indexed(bytes32)
    balance0: uint128
    balance1: uint128

event Closed:
    channel: indexed(bytes32)
    closer: uint8
    seq0: uint64
    seq1: uint64
    close_key: bytes32
    deadline: uint64

event Challenged:
    channel: indexed(bytes32)
    sender: uint8
    seq: uint64
    by: address
    convicts: bool

# Beside Closed and Challenged, before them: what `settle` and `redeem` must be told again.
event LocksHeld:
    channel: indexed(bytes32)
    sender: uint8
    locked: uint128
    root: bytes32

event Settled:
    channel: indexed(bytes32)
    net0: uint128
    net1: uint128
    reward: uint128
    pot0: uint128
    pot1: uint128
    convicted: bool

event Redeemed:
    channel: indexed(bytes32)
    sender: uint8
    paid: uint128
    refunded: uint128
    root: bytes32

event SecretRegistered:
    digest: indexed(bytes32)
    secret: bytes32
    time: uint64

event LinkRegistered:
    condition: indexed(bytes32)
    link: bytes32
    depth: uint64
    tip: bytes32
    unit: uint128
    length: uint64
    time: uint64

# A payout was refused, and is kept for its owner.
event Owed:
    account: indexed(address)
    asset: address
    amount: uint256

event Claimed:
    account: indexed(address)
    asset: address
    to: address
    amount: uint256

# Of a batch: the call of that index (from 0) did nothing; `answer` begins with what it reverted with.
event CallFailed:
    index: indexed(uint256)
    answer: Bytes[100]

# --- what is stored of a channel --------------------------------------------------------------------------------
#
# words[0]  bits 0-2 status: 0 never opened, else OPEN, CLOSED, SETTLED, GONE
#           while OPEN: bit 3 whose first deposit came first; 4 opened empty; 5 bits 16-255 hold the deposits (2 x 120
#           bits) that the first one to say more than that was added to; 7 something was withdrawn
#           later: bit 3 closer; 4 convicted; 5, 6 locks of simplex 0, 1 are held; 7 something was withdrawn; 8 words[6]
#           is set; bits 16-55 deadline; 56-119 seq 0; 120-183 seq 1; 184-247 the closer's own seq when it closed
# words[1]  deposits, side 0 in the lower half, until the settlement
# words[2]  transferred of the proofs that stand, then pots
# words[3]  withdrawn in all
# words[4]  keccak(locked, root) of simplex 0, if bit 5; words[5] of simplex 1, if bit 6
# words[6]  whom a voucher names

OPEN: constant(uint256) = 1
CLOSED: constant(uint256) = 2
SETTLED: constant(uint256) = 3
GONE: constant(uint256) = 4

FIRST: constant(uint256) = 8
EMPTY: constant(uint256) = 16
SHARED: constant(uint256) = 32

CLOSER: constant(uint256) = 8
CONVICTED: constant(uint256) = 16
HELD: constant(uint256) = 32
WITHDRAWN: constant(uint256) = 128
REWARDED: constant(uint256) = 256

LOW: constant(uint256) = 2**128 - 1
M120: constant(uint256) = 2**120 - 1
M64: constant(uint256) = 2**64 - 1
M40: constant(uint256) = 2**40 - 1

DEPOSITS_MAX: constant(uint256) = 2**120 - 1
CHALLENGE_PERIOD_MAX: constant(uint64) = 366 * 86_400
STREAM_LENGTH_MAX: constant(uint64) = 65_536
CHECKPOINT: constant(uint256) = 128
LOCK_SIZE: constant(uint256) = 65
PROOF_SIZE: constant(uint256) = 160
PROOF_MAX: constant(uint256) = 208
FEW: constant(uint256) = 32
MANY: constant(uint256) = 483
COIN_GAS: constant(uint256) = 60_000
TOKEN_GAS: constant(uint256) = 200_000
COURT_GAS: constant(uint256) = 100_000
CALL_SIZE: constant(uint256) = 1_024
CALLS_MAX: constant(uint256) = 100

HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168
BALANCE_PROOF: constant(bytes32) = keccak256("BalanceProof(bytes32 channel,uint8 sender,uint64 seq,uint128 transferred,uint128 locked,bytes32 locksRoot,uint64 seen)")
COOPERATIVE_CLOSE: constant(bytes32) = keccak256("CooperativeClose(bytes32 channel,uint128 balance0,uint128 balance1,uint64 validUntil)")
WITHDRAWAL: constant(bytes32) = keccak256("Withdrawal(bytes32 channel,uint8 participant,uint128 total,uint64 validUntil)")
VOUCHER: constant(bytes32) = keccak256("Voucher(bytes32 channel,address beneficiary)")

CHAIN_ID: immutable(uint256)
DOMAIN: immutable(bytes32)
REWARD_BPS: immutable(uint256)
COURT: immutable(address)

words: HashMap[bytes32, uint256[7]]
# How the deposits of a channel were shared when they had that sum: side 0's part, plus 1.
shares: HashMap[bytes32, HashMap[uint256, uint256]]
counts: HashMap[bytes32, uint64]
# Block times of registration, by sha256 of the secret.
secrets: HashMap[bytes32, uint64]
# Bits 0-127: what the deepest link is worth; 128-191: the depth of the one in `checkpoints`.
streams: HashMap[bytes32, uint256]
checkpoints: HashMap[bytes32, bytes32]
owed: public(HashMap[address, HashMap[address, uint256]])

@deploy
def __init__(reward_bps: uint256, court: address):
    """`court` decides locks of kind 1; the zero address: there is none, and they go back to their senders."""
    assert reward_bps <= 10_000 and (court == empty(address) or court.codesize > 0), "bad-terms"
    REWARD_BPS = reward_bps
    COURT = court
    CHAIN_ID = chain.id
    DOMAIN = keccak256(abi_encode(
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
        keccak256("Tallystick"), keccak256("1"), chain.id, self))

# --- what all calls share ---------------------------------------------------------------------------------------

@internal
@view
def _names(t: Terms) -> (bytes32, bytes32):
    """The channel's id, and by what its words are found."""
    id: bytes32 = keccak256(abi_encode(CHAIN_ID, self, t.p0, t.p1, t.asset, t.number))
    return id, keccak256(abi_encode(id, t.challenge_period, t.close_hash))

@internal
@view
def _find(t: Terms, status: uint256) -> (bytes32, bytes32, uint256):
    """The same and words[0], if the channel is in that status."""
    id: bytes32 = empty(bytes32)
    key: bytes32 = empty(bytes32)
    id, key = self._names(t)
    state: uint256 = self.words[key][0]
    assert state != 0, "unknown-channel"
    assert state & 7 == status, "wrong-status"
    return id, key, state

@internal
@pure
def _check(digest: bytes32, signature: Signature, signer: address):
    s: uint256 = signature.vs << 1 >> 1
    assert s <= HALF_ORDER and signer != empty(address) and ecrecover(digest, unsafe_add(27, signature.vs >> 255), convert(signature.r, uint256), s) == signer, "bad-signature"

@internal
@view
def _check_both(struct_hash: bytes32, first: address, second: address, by_first: Signature, by_second: Signature):
    digest: bytes32 = keccak256(concat(x"1901", DOMAIN, struct_hash))
    s: uint256 = by_first.vs << 1 >> 1
    assert s <= HALF_ORDER and first != empty(address) and ecrecover(digest, unsafe_add(27, by_first.vs >> 255), convert(by_first.r, uint256), s) == first, "bad-signature"
    s = by_second.vs << 1 >> 1
    assert s <= HALF_ORDER and second != empty(address) and ecrecover(digest, unsafe_add(27, by_second.vs >> 255), convert(by_second.r, uint256), s) == second, "bad-signature"

@internal
@view
def _digest(struct_hash: bytes32) -> bytes32:
    return keccak256(concat(x"1901", DOMAIN, struct_hash))

@internal
@pure
def _said_yes(answer: Bytes[32]) -> bool:
    # Tokens that answer nothing are taken at their word; others must say true.
    return len(answer) == 0 or (len(answer) == 32 and convert(answer, uint256) == 1)

@internal
def _moved(asset: address, to: address, amount: uint256, bound: uint256) -> bool:
    """Try to pay, with so much gas at most; return whether it was done."""
    done: bool = False
    if asset == empty(address):
        done = raw_call(to, b"", value=amount, gas=bound, revert_on_failure=False)
    else:
        answer: Bytes[32] = b""
        done, answer = raw_call(asset, abi_encode(to, amount, method_id=method_id("transfer(address,uint256)")), max_outsize=32, gas=bound, revert_on_failure=False)
        done = done and self._said_yes(answer)
    return done

@internal
def _pay(asset: address, to: address, amount: uint256):
    """What the receiver or the token refuses is owed: nobody can block anybody else's money."""
    if amount == 0:
        return
    gas: uint256 = msg.gas
    bound: uint256 = COIN_GAS if asset == empty(address) else TOKEN_GAS
    if not self._moved(asset, to, amount, bound):
        # It was not for want of gas, which whoever sends the transaction chooses: 1/64 stays here, and up to 14,300 are
        # the call's own (coins that move, a cold account, its delegation).
        assert gas > bound + bound // 32 + 20_000, "out-of-gas"
        self.owed[asset][to] += amount
        log Owed(account=to, asset=asset, amount=amount)

@internal
def _take(asset: address, amount: uint256, permit: Permit):
    """Move tokens of the caller here, to the last unit. Coins came with the call."""
    if permit.deadline != 0:
        # Anybody may have used it before: what counts is the allowance.
        ignored: bool = raw_call(asset, abi_encode(msg.sender, self, amount, permit.deadline, permit.v, permit.r, permit.s, method_id=method_id("permit(address,address,uint256,uint256,uint8,bytes32,bytes32)")), revert_on_failure=False)
    before: uint256 = staticcall Token(asset).balanceOf(self)
    done: bool = False
    answer: Bytes[32] = b""
    done, answer = raw_call(asset, abi_encode(msg.sender, self, amount, method_id=method_id("transferFrom(address,address,uint256)")), max_outsize=32, revert_on_failure=False)
    if not done or not self._said_yes(answer):
        assert staticcall Token(asset).allowance(msg.sender, self) >= amount, "insufficient-allowance"
        assert staticcall Token(asset).balanceOf(msg.sender) >= amount, "insufficient-balance"
        raise "transfer-failed"
    assert staticcall Token(asset).balanceOf(self) == before + amount, "inexact-transfer"

# --- while both agree -------------------------------------------------------------------------------------------

@external
@payable
@nonreentrant
def open(t: Terms, deposit: uint128, permit: Permit = empty(Permit)):
    amount: uint256 = convert(deposit, uint256)
    assert convert(t.p0, uint160) < convert(t.p1, uint160), "bad-terms"
    assert msg.value == (amount if t.asset == empty(address) else 0), "bad-amount"
    pair: bytes32 = keccak256(abi_encode(t.p0, t.p1, t.asset))
    count: uint64 = self.counts[pair]
    assert t.number >= count, "channel-exists"
    assert msg.sender == t.p0 or msg.sender == t.p1, "not-a-participant"
    assert t.p0 != self and t.p1 != self, "bad-terms"
    assert t.asset == empty(address) or (t.asset.codesize > 0 and t.asset != self), "bad-terms"
    assert 1 <= t.challenge_period and t.challenge_period <= CHALLENGE_PERIOD_MAX, "bad-terms"
    assert t.number == count, "wrong-number"
    assert amount <= DEPOSITS_MAX, "bad-amount"
    self.counts[pair] = count + 1
    id: bytes32 = empty(bytes32)
    key: bytes32 = empty(bytes32)
    id, key = self._names(t)
    log ChannelOpened(channel=id, p0=t.p0, p1=t.p1, asset=t.asset, number=t.number, challenge_period=t.challenge_period, close_hash=t.close_hash)
    if amount == 0:
        self.words[key][0] = OPEN
        return
    side: uint256 = 0 if msg.sender == t.p0 else 1
    self.words[key][0] = OPEN | (side << 3)
    self.words[key][1] = amount << (side << 7)
    log Deposited(channel=id, side=convert(side, uint8), total=deposit)
    if t.asset != empty(address):
        self._take(t.asset, amount, permit)

@external
@payable
@nonreentrant
def deposit(t: Terms, side: uint8, amount: uint128, permit: Permit = empty(Permit)):
    added: uint256 = convert(amount, uint256)
    assert msg.value == (added if t.asset == empty(address) else 0), "bad-amount"
    id: bytes32 = keccak256(abi_encode(CHAIN_ID, self, t.p0, t.p1, t.asset, t.number))
    key: bytes32 = keccak256(abi_encode(id, t.challenge_period, t.close_hash))
    state: uint256 = self.words[key][0]
    assert state != 0, "unknown-channel"
    assert state & 7 == OPEN, "wrong-status"
    assert side < 2, "not-a-participant"
    deposits: uint256 = self.words[key][1]
    d0: uint256 = deposits & LOW
    d1: uint256 = deposits >> 128
    sum: uint256 = unsafe_add(d0, d1)
    assert added > 0 and unsafe_add(sum, added) <= DEPOSITS_MAX, "bad-amount"
    # How the sum was shared until now must stay known (see `_share`). It costs nothing in the usual case: the opener
    # deposits once, and then the other once.
    if state & SHARED != 0:
        self.shares[key][sum] = d0 + 1
    elif deposits == 0:
        self.words[key][0] = state | EMPTY | (convert(side, uint256) << 3)
    elif (d0 if side == 0 else d1) != 0:
        self.words[key][0] = state | SHARED | (d0 << 16) | (d1 << 136)
    total: uint256 = unsafe_add(d0 if side == 0 else d1, added)
    self.words[key][1] = unsafe_add(deposits, added if side == 0 else added << 128)
    log Deposited(channel=id, side=side, total=convert(total, uint128))
    if t.asset != empty(address):
        self._take(t.asset, added, permit)

@internal
@view
def _share(key: bytes32, state: uint256, d0: uint256, d1: uint256, total: uint256) -> uint256:
    """Side 0's part of the deposits when they had that sum; max_value if they never had it."""
    if total == d0 + d1:
        return d0
    first0: uint256 = d0
    first1: uint256 = d1
    if state & SHARED != 0:
        first0 = (state >> 16) & M120
        first1 = state >> 136
        if total == first0 + first1:
            return first0
        noted: uint256 = self.shares[key][total]
        if noted != 0:
            return noted - 1
    if total == 0 and state & EMPTY != 0:
        return 0
    if total != 0 and state & FIRST == 0 and total == first0:
        return total
    if total != 0 and state & FIRST != 0 and total == first1:
        return 0
    return max_value(uint256)

@external
@nonreentrant
def withdraw(t: Terms, side: uint8, total: uint128, valid_until: uint64, by0: Signature, by1: Signature):
    id: bytes32 = empty(bytes32)
    key: bytes32 = empty(bytes32)
    state: uint256 = 0
    id, key, state = self._find(t, OPEN)
    assert side < 2, "not-a-participant"
    assert block.timestamp <= convert(valid_until, uint256), "expired"
    self._check_both(keccak256(abi_encode(WITHDRAWAL, id, side, total, valid_until)), t.p0, t.p1, by0, by1)
    withdrawn: uint256 = 0
    if state & WITHDRAWN != 0:
        withdrawn = self.words[key][3]
    else:
        self.words[key][0] = state | WITHDRAWN
    before: uint256 = withdrawn & LOW if side == 0 else withdrawn >> 128
    assert convert(total, uint256) > before, "bad-amount"
    amount: uint256 = convert(total, uint256) - before
    deposits: uint256 = self.words[key][1]
    assert amount <= (deposits & LOW) + (deposits >> 128) - (withdrawn & LOW) - (withdrawn >> 128), "bad-amount"
    self.words[key][3] = withdrawn + (amount if side == 0 else amount << 128)
    log Withdrawn(channel=id, side=side, total=total)
    self._pay(t.asset, t.p0 if side == 0 else t.p1, amount)

@external
@nonreentrant
def cooperativeClose(t: Terms, balance0: uint128, balance1: uint128, valid_until: uint64, by0: Signature, by1: Signature):
    id: bytes32 = keccak256(abi_encode(CHAIN_ID, self, t.p0, t.p1, t.asset, t.number))
    key: bytes32 = keccak256(abi_encode(id, t.challenge_period, t.close_hash))
    state: uint256 = self.words[key][0]
    assert state != 0, "unknown-channel"
    assert state & 7 == OPEN, "wrong-status"
    assert block.timestamp <= convert(valid_until, uint256), "expired"
    self._check_both(keccak256(abi_encode(COOPERATIVE_CLOSE, id, balance0, balance1, valid_until)), t.p0, t.p1, by0, by1)
    deposits: uint256 = self.words[key][1]
    d0: uint256 = deposits & LOW
    d1: uint256 = deposits >> 128
    paid0: uint256 = convert(balance0, uint256)
    paid1: uint256 = convert(balance1, uint256)
    total: uint256 = unsafe_add(paid0, paid1)
    if state & WITHDRAWN != 0:
        withdrawn: uint256 = self.words[key][3]
        total = unsafe_add(total, unsafe_add(withdrawn & LOW, withdrawn >> 128))
        self.words[key][3] = 0
    if total != unsafe_add(d0, d1):
        # What was deposited since the balances were right is given back.
        first: uint256 = self._share(key, state, d0, d1, total)
        assert first != max_value(uint256), "bad-balances"
        paid0 += d0 - first
        paid1 += d1 - (total - first)
    self.words[key][0] = GONE
    self.words[key][1] = 0
    log CooperativelyClosed(channel=id, balance0=convert(paid0, uint128), balance1=convert(paid1, uint128))
    self._pay(t.asset, t.p0, paid0)
    self._pay(t.asset, t.p1, paid1)

# --- when one closes alone --------------------------------------------------------------------------------------

@internal
def _stand(id: bytes32, key: bytes32, p0: address, p1: address, side: uint256, proof: Bytes[PROOF_MAX]) -> (uint256, bool):
    """Check a proof of simplex `side`, and note its locks; return seq (64 bits), seen (64) and transferred (128).

    A proof is these three, the signatures of its sender and its receiver, and, if there are locks, `locked` (16 bytes)
    and their root.
    """
    assert len(proof) == PROOF_SIZE or len(proof) == PROOF_MAX, "bad-proof"
    numbers: uint256 = convert(extract32(proof, 0), uint256)
    assert numbers >> 192 != 0, "bad-proof"
    locked: uint256 = 0
    root: bytes32 = empty(bytes32)
    if len(proof) == PROOF_MAX:
        locked = convert(extract32(proof, 160), uint256) >> 128
        root = extract32(proof, 176)
    struct_hash: bytes32 = keccak256(abi_encode(BALANCE_PROOF, id, side, numbers >> 192, numbers & LOW, locked, root, (numbers >> 128) & M64))
    by_sender: Signature = Signature(r=extract32(proof, 32), vs=convert(extract32(proof, 64), uint256))
    by_receiver: Signature = Signature(r=extract32(proof, 96), vs=convert(extract32(proof, 128), uint256))
    if side == 0:
        self._check_both(struct_hash, p0, p1, by_sender, by_receiver)
    else:
        self._check_both(struct_hash, p1, p0, by_sender, by_receiver)
    if locked == 0 and root == empty(bytes32):
        return numbers, False
    self.words[key][4 + side] = convert(keccak256(abi_encode(locked, root)), uint256)
    log LocksHeld(channel=id, sender=convert(side, uint8), locked=convert(locked, uint128), root=root)
    return numbers, True

@external
def close(t: Terms, proof0: Bytes[PROOF_MAX], proof1: Bytes[PROOF_MAX], close_key: bytes32):
    """The caller's newest proof of each simplex; what is empty is genesis."""
    id: bytes32 = keccak256(abi_encode(CHAIN_ID, self, t.p0, t.p1, t.asset, t.number))
    key: bytes32 = keccak256(abi_encode(id, t.challenge_period, t.close_hash))
    state: uint256 = self.words[key][0]
    assert state != 0, "unknown-channel"
    assert state & 7 == OPEN, "wrong-status"
    assert msg.sender == t.p0 or msg.sender == t.p1, "not-a-participant"
    assert keccak256(close_key) == t.close_hash, "bad-close-key"
    closer: uint256 = 0 if msg.sender == t.p0 else 1
    deadline: uint256 = unsafe_add(block.timestamp, convert(t.challenge_period, uint256))
    numbers0: uint256 = 0
    numbers1: uint256 = 0
    held: bool = False
    state = CLOSED | (closer << 3) | (state & WITHDRAWN) | (deadline << 16)
    if len(proof0) != 0:
        numbers0, held = self._stand(id, key, t.p0, t.p1, 0, proof0)
        if held:
            state |= HELD
    if len(proof1) != 0:
        numbers1, held = self._stand(id, key, t.p0, t.p1, 1, proof1)
        if held:
            state |= HELD << 1
    transferred: uint256 = (numbers0 & LOW) | (numbers1 << 128)
    if transferred != 0:
        self.words[key][2] = transferred
    seq0: uint256 = numbers0 >> 192
    seq1: uint256 = numbers1 >> 192
    self.words[key][0] = state | (seq0 << 56) | (seq1 << 120) | ((seq0 if closer == 0 else seq1) << 184)
    log Closed(channel=id, closer=convert(closer, uint8), seq0=convert(seq0, uint64), seq1=convert(seq1, uint64), close_key=close_key, deadline=convert(deadline, uint64))

@external
def challenge(t: Terms, sender: uint8, proof: Bytes[PROOF_MAX], beneficiary: address = empty(address), voucher: Signature = empty(Signature)):
    id: bytes32 = empty(bytes32)
    key: bytes32 = empty(bytes32)
    state: uint256 = 0
    id, key, state = self._find(t, CLOSED)
    assert block.timestamp <= (state >> 16) & M40, "window-over"
    assert sender < 2, "not-a-participant"
    assert len(proof) >= PROOF_SIZE, "bad-proof"
    side: uint256 = convert(sender, uint256)
    at: uint256 = 56 if side == 0 else 120
    seq: uint256 = convert(extract32(proof, 0), uint256) >> 192
    assert seq > (state >> at) & M64, "not-newer"
    numbers: uint256 = 0
    held: bool = False
    numbers, held = self._stand(id, key, t.p0, t.p1, side, proof)
    closer: uint256 = (state >> 3) & 1
    if beneficiary != empty(address):
        assert beneficiary != self, "bad-proof"
        self._check(self._digest(keccak256(abi_encode(VOUCHER, id, beneficiary))), voucher, t.p1 if closer == 0 else t.p0)
    convicts: bool = side != closer or (numbers >> 128) & M64 > state >> 184
    transferred: uint256 = self.words[key][2]
    if side == 0:
        self.words[key][2] = (transferred >> 128 << 128) | (numbers & LOW)
    else:
        self.words[key][2] = (transferred & LOW) | (numbers << 128)
    if held:
        state |= HELD << side
    elif state & (HELD << side) != 0:
        state ^= HELD << side
        self.words[key][4 + side] = 0
    state = (state & ~(M64 << at)) | (seq << at)
    if convicts and state & CONVICTED == 0:
        state |= CONVICTED
        if beneficiary != empty(address):
            state |= REWARDED
            self.words[key][6] = convert(beneficiary, uint256)
    self.words[key][0] = state
    log Challenged(channel=id, sender=sender, seq=convert(seq, uint64), by=msg.sender, convicts=convicts)

@internal
@view
def _locked(key: bytes32, state: uint256, side: uint256, held: Held) -> uint256:
    if state & (HELD << side) == 0:
        return 0
    assert convert(keccak256(abi_encode(held.locked, held.root)), uint256) == self.words[key][4 + side], "bad-locks"
    return convert(held.locked, uint256)

@external
@nonreentrant
def settle(t: Terms, held0: Held = empty(Held), held1: Held = empty(Held)):
    id: bytes32 = empty(bytes32)
    key: bytes32 = empty(bytes32)
    state: uint256 = 0
    id, key, state = self._find(t, CLOSED)
    assert block.timestamp > (state >> 16) & M40, "window-open"
    deposits: uint256 = self.words[key][1]
    transferred: uint256 = self.words[key][2]
    total: uint256 = unsafe_add(deposits & LOW, deposits >> 128)
    plus: uint256 = unsafe_add(deposits & LOW, transferred >> 128)
    minus: uint256 = transferred & LOW
    if state & WITHDRAWN != 0:
        withdrawn: uint256 = self.words[key][3]
        total -= (withdrawn & LOW) + (withdrawn >> 128)
        minus += withdrawn & LOW
        self.words[key][3] = 0
    net0: uint256 = 0 if plus <= minus else min(plus - minus, total)
    net1: uint256 = total - net0
    pot0: uint256 = min(self._locked(key, state, 0, held0), net0)
    pot1: uint256 = min(self._locked(key, state, 1, held1), net1)
    net0 -= pot0
    net1 -= pot1
    reward: uint256 = 0
    beneficiary: address = empty(address)
    if state & CONVICTED != 0:
        if state & REWARDED != 0:
            beneficiary = convert(convert(self.words[key][6], uint160), address)
            self.words[key][6] = 0
            reward = (net0 if state & CLOSER == 0 else net1) * REWARD_BPS // 10_000
        if state & CLOSER == 0:
            net1 += net0 - reward
            net0 = 0
        else:
            net0 += net1 - reward
            net1 = 0
    pots: uint256 = pot0 | (pot1 << 128)
    self.words[key][0] = (state & ~convert(7, uint256)) | (GONE if pots == 0 else SETTLED)
    self.words[key][1] = 0
    if transferred != pots:
        self.words[key][2] = pots
    log Settled(channel=id, net0=convert(net0, uint128), net1=convert(net1, uint128), reward=convert(reward, uint128), pot0=convert(pot0, uint128), pot1=convert(pot1, uint128), convicted=state & CONVICTED != 0)
    self._pay(t.asset, t.p0, net0)
    self._pay(t.asset, t.p1, net1)
    self._pay(t.asset, beneficiary, reward)

# --- pending locks ----------------------------------------------------------------------------------------------

struct Judged:
    leaf: bytes32
    share: uint256
    paid: uint256
    kept: bool

@internal
@view
def _judge(head: uint256, kind: uint256, condition: bytes32, left: uint256) -> Judged:
    """What becomes of a lock. `head` is its id (64 bits), amount (128) and expiry (64)."""
    amount: uint256 = (head >> 64) & LOW
    expiry: uint256 = head & M64
    share: uint256 = min(amount, left)
    paid: uint256 = 0
    kept: bool = block.timestamp <= expiry
    if kind == 0:
        registered: uint256 = convert(self.secrets[condition], uint256)
        if registered != 0 and registered <= expiry:
            paid = share
            kept = False
    elif kind == 1 and COURT != empty(address):
        # When the terms of the stake expire (64 bits), until when it is open (64), how much of it is paid (128).
        said: uint256 = staticcall Court(COURT).kept(condition, gas=COURT_GAS)
        if said != 0 and said >> 192 <= expiry:
            kept = block.timestamp <= (said >> 128) & M64
            if not kept:
                paid = min(said & LOW, share)
    elif kind == 2 and not kept:
        paid = min(self.streams[condition] & LOW, share)
    return Judged(leaf=keccak256(abi_encode(head >> 192, amount, expiry, kind, condition)), share=share, paid=paid, kept=kept)

struct Redeeming:
    id: bytes32
    key: bytes32
    state: uint256
    pots: uint256
    pot: uint256

@internal
@view
def _redeeming(t: Terms, sender: uint8) -> Redeeming:
    id: bytes32 = empty(bytes32)
    key: bytes32 = empty(bytes32)
    state: uint256 = 0
    id, key, state = self._find(t, SETTLED)
    assert sender < 2, "not-a-participant"
    pots: uint256 = self.words[key][2]
    pot: uint256 = pots & LOW if sender == 0 else pots >> 128
    assert pot != 0, "nothing-to-redeem"
    return Redeeming(id=id, key=key, state=state, pots=pots, pot=pot)

@internal
def _redeemed(t: Terms, sender: uint8, locked: uint128, r: Redeeming, roots: bytes32[2], decided: bool, any: bool, paid: uint256, waiting: uint256, left: uint256):
    """`roots`: of all locks, and of those that wait. `left` is what of the pot is no lock's."""
    slot: uint256 = 4 + convert(sender, uint256)
    assert convert(keccak256(abi_encode(locked, roots[0])), uint256) == self.words[r.key][slot], "bad-locks"
    assert decided or not any, "nothing-to-redeem"
    rest: uint256 = waiting + left if roots[1] != empty(bytes32) else 0
    refunded: uint256 = r.pot - paid - rest
    pots: uint256 = (r.pots >> 128 << 128) | rest if sender == 0 else (r.pots & LOW) | (rest << 128)
    self.words[r.key][2] = pots
    self.words[r.key][slot] = 0 if rest == 0 else convert(keccak256(abi_encode(locked, roots[1])), uint256)
    if pots == 0:
        self.words[r.key][0] = (r.state & ~convert(7, uint256)) | GONE
    log Redeemed(channel=r.id, sender=sender, paid=convert(paid, uint128), refunded=convert(refunded, uint128), root=roots[1])
    self._pay(t.asset, t.p1 if sender == 0 else t.p0, paid)
    self._pay(t.asset, t.p0 if sender == 0 else t.p1, refunded)

@external
@nonreentrant
def redeem(t: Terms, sender: uint8, locked: uint128, locks: Bytes[LOCK_SIZE * FEW]):
    """Up to 32 locks, of 65 bytes each: id, amount, expiry, kind, condition. `redeemMany` takes more."""
    r: Redeeming = self._redeeming(t, sender)
    assert len(locks) % LOCK_SIZE == 0, "bad-locks"
    count: uint256 = len(locks) // LOCK_SIZE
    leaves: DynArray[bytes32, FEW] = []
    kept: DynArray[bytes32, FEW] = []
    paid: uint256 = 0
    waiting: uint256 = 0
    left: uint256 = r.pot
    for i: uint256 in range(count, bound=FEW):
        at: uint256 = i * LOCK_SIZE
        lock: Judged = self._judge(convert(extract32(locks, at), uint256), convert(extract32(locks, at + 32), uint256) >> 248, extract32(locks, at + 33), left)
        leaves.append(lock.leaf)
        left -= lock.share
        paid += lock.paid
        if lock.kept:
            waiting += lock.share
            kept.append(lock.leaf)
    self._redeemed(t, sender, locked, r, [self._root_few(leaves), self._root_few(kept)], len(kept) != count, count != 0, paid, waiting, left)

@external
@nonreentrant
def redeemMany(t: Terms, sender: uint8, locked: uint128, locks: Bytes[LOCK_SIZE * MANY]):
    """The same for up to 483 locks; dearer for few, as memory is paid for that many."""
    r: Redeeming = self._redeeming(t, sender)
    assert len(locks) % LOCK_SIZE == 0, "bad-locks"
    count: uint256 = len(locks) // LOCK_SIZE
    leaves: DynArray[bytes32, MANY] = []
    kept: DynArray[bytes32, MANY] = []
    paid: uint256 = 0
    waiting: uint256 = 0
    left: uint256 = r.pot
    for i: uint256 in range(count, bound=MANY):
        at: uint256 = i * LOCK_SIZE
        lock: Judged = self._judge(convert(extract32(locks, at), uint256), convert(extract32(locks, at + 32), uint256) >> 248, extract32(locks, at + 33), left)
        leaves.append(lock.leaf)
        left -= lock.share
        paid += lock.paid
        if lock.kept:
            waiting += lock.share
            kept.append(lock.leaf)
    self._redeemed(t, sender, locked, r, [self._root_many(leaves), self._root_many(kept)], len(kept) != count, count != 0, paid, waiting, left)

@internal
@pure
def _root_few(leaves: DynArray[bytes32, FEW]) -> bytes32:
    if len(leaves) == 0:
        return empty(bytes32)
    return keccak256(slice(abi_encode(leaves), 64, 32 * len(leaves)))

@internal
@pure
def _root_many(leaves: DynArray[bytes32, MANY]) -> bytes32:
    if len(leaves) == 0:
        return empty(bytes32)
    return keccak256(slice(abi_encode(leaves), 64, 32 * len(leaves)))

# --- the registry -----------------------------------------------------------------------------------------------

@external
def registerSecret(secret: bytes32):
    digest: bytes32 = sha256(secret)
    assert self.secrets[digest] == 0, "already-registered"
    self.secrets[digest] = convert(block.timestamp, uint64)
    log SecretRegistered(digest=digest, secret=secret, time=convert(block.timestamp, uint64))

@external
def registerLink(link: bytes32, depth: uint64, tip: bytes32, unit: uint128, length: uint64, expiry: uint64):
    """The deepest link stands. It need only lead to the last checkpoint, so a long chain can be registered in steps."""
    assert 1 <= length and length <= STREAM_LENGTH_MAX, "bad-proof"
    assert unit > 0 and convert(unit, uint256) * convert(length, uint256) <= LOW, "bad-proof"
    assert block.timestamp <= convert(expiry, uint256), "expired"
    condition: bytes32 = keccak256(concat(b"tallystick stream", tip, convert(unit, bytes16), convert(length, bytes8), convert(expiry, bytes8)))
    known: uint256 = self.streams[condition]
    worth: uint256 = convert(depth, uint256) * convert(unit, uint256)
    assert worth > known & LOW, "not-newer"
    assert depth <= length, "bad-proof"
    steps: uint256 = convert(depth, uint256)
    end: bytes32 = tip
    if known >> 128 != 0:
        steps -= known >> 128
        end = self.checkpoints[condition]
    at: bytes32 = link
    for i: uint256 in range(steps // 8, bound=8_192):
        at = sha256(sha256(sha256(sha256(sha256(sha256(sha256(sha256(at))))))))
    for i: uint256 in range(steps % 8, bound=7):
        at = sha256(at)
    assert at == end, "bad-proof"
    if steps >= CHECKPOINT:
        self.checkpoints[condition] = link
        known = convert(depth, uint256) << 128
    self.streams[condition] = (known >> 128 << 128) | worth
    log LinkRegistered(condition=condition, link=link, depth=depth, tip=tip, unit=unit, length=length, time=convert(block.timestamp, uint64))

# --- what was refused, and many at once -------------------------------------------------------------------------

@external
@nonreentrant
def claim(asset: address, to: address):
    """Take what is owed to the caller, at any account that accepts it."""
    amount: uint256 = self.owed[asset][msg.sender]
    assert amount != 0, "nothing-owed"
    self.owed[asset][msg.sender] = 0
    log Claimed(account=msg.sender, asset=asset, to=to, amount=amount)
    # There it would be nobody's: tokens take what is sent to themselves, and some of them zero.
    assert to != asset and to != empty(address) and to != self and self._moved(asset, to, amount, msg.gas), "transfer-failed"

@external
def batch(calls: DynArray[Bytes[CALL_SIZE], CALLS_MAX]):
    """Many calls of this contract, as the caller, each by itself: one that fails does nothing, and stops none.

    It takes no coins, so that no call in it can count them twice.
    """
    index: uint256 = 0
    for data: Bytes[CALL_SIZE] in calls:
        done: bool = False
        answer: Bytes[100] = b""
        done, answer = raw_call(self, data, max_outsize=100, is_delegate_call=True, revert_on_failure=False)
        if not done:
            log CallFailed(index=index, answer=answer)
        index += 1

# --- views ------------------------------------------------------------------------------------------------------

@external
@view
def channel(t: Terms) -> View:
    """`held` is keccak(locked, root) of a simplex whose locks are held. What is paid out is not kept."""
    id: bytes32 = empty(bytes32)
    key: bytes32 = empty(bytes32)
    id, key = self._names(t)
    state: uint256 = self.words[key][0]
    if state == 0:
        return empty(View)
    status: uint256 = state & 7
    v: View = View(
        exists=True, p0=t.p0, p1=t.p1, asset=t.asset, number=t.number, challenge_period=t.challenge_period,
        close_hash=t.close_hash, status=convert(status - 1, uint8), deposit0=0, deposit1=0, withdrawn0=0, withdrawn1=0,
        ended_alone=False, closer=0, deadline=0, seq0=0, seq1=0, held0=empty(bytes32), held1=empty(bytes32), pot0=0,
        pot1=0, convicted=False)
    deposits: uint256 = self.words[key][1]
    withdrawn: uint256 = self.words[key][3]
    v.deposit0 = convert(deposits & LOW, uint128)
    v.deposit1 = convert(deposits >> 128, uint128)
    v.withdrawn0 = convert(withdrawn & LOW, uint128)
    v.withdrawn1 = convert(withdrawn >> 128, uint128)
    deadline: uint256 = (state >> 16) & M40
    if status != OPEN and deadline != 0:
        v.ended_alone = True
        v.closer = convert((state >> 3) & 1, uint8)
        v.deadline = convert(deadline, uint64)
        v.seq0 = convert((state >> 56) & M64, uint64)
        v.seq1 = convert((state >> 120) & M64, uint64)
        v.held0 = convert(self.words[key][4], bytes32)
        v.held1 = convert(self.words[key][5], bytes32)
        v.convicted = state & CONVICTED != 0
        if status != CLOSED:
            pots: uint256 = self.words[key][2]
            v.pot0 = convert(pots & LOW, uint128)
            v.pot1 = convert(pots >> 128, uint128)
    return v

@external
@view
def channelCount(p0: address, p1: address, asset: address) -> uint64:
    return self.counts[keccak256(abi_encode(p0, p1, asset))]

@external
@view
def secretTime(digest: bytes32) -> uint64:
    return self.secrets[digest]

@external
@view
def streamWorth(condition: bytes32) -> uint128:
    """What the deepest link of a stream is worth."""
    return convert(self.streams[condition] & LOW, uint128)

@external
@view
def streamCheckpoint(condition: bytes32) -> (uint64, bytes32):
    """The depth and link to which a deeper one must lead; (0, 0) if that is the tip."""
    return convert(self.streams[condition] >> 128, uint64), self.checkpoints[condition]

@external
@view
def domainSeparator() -> bytes32:
    return DOMAIN

@external
@view
def rewardBps() -> uint256:
    return REWARD_BPS

@external
@view
def court() -> address:
    return COURT
