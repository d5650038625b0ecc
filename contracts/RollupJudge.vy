# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title The rules of a step of Tallystick's rollup of settlements
@license Apache-2.0
@notice What `settlement/rollup/rules.py` says in Python, in the same order: judges one step by what a proof shows. It keeps
    nothing and owns nothing; a rollup (Rollup.vy) makes its own, and asks it. Not audited.
@dev A proof of a step is 131 words: 0 position, 1 root before, 2 word, 3 root after, 4-13 the way to the root of all steps,
    14 accounts, 15 channels, 16 head, 17-22 the list's entry, then three leaves of 36 words: 4 of the leaf, 32 to the root.
    An account's leaf is its owner, balance, nonce (64 bits) and asset (160), and what it took out; a channel's is its two
    accounts, the total, and its standing (8 bits) and what the second side has paid in.
"""

# What is so of a step. Nobody need sign for the zero address.
struct Verdict:
    wrong: bool
    digest: bytes32
    first: address
    second: address

struct Charged:
    ok: bool
    root: bytes32
    owner: address
    asset: address

STEPS_MAX: constant(uint256) = 1_024
STEPS_DEPTH: constant(uint256) = 10
DEPTH: constant(uint256) = 32
PROOF: constant(uint256) = 131
LEAVES: constant(uint256) = 23
LEAF: constant(uint256) = 36

M8: constant(uint256) = 2**8 - 1
M32: constant(uint256) = 2**32 - 1
M40: constant(uint256) = 2**40 - 1
M64: constant(uint256) = 2**64 - 1
M88: constant(uint256) = 2**88 - 1

DEPOSIT: constant(uint256) = 1
EXIT: constant(uint256) = 2
CLOSE: constant(uint256) = 3
SETTLE: constant(uint256) = 4
OPEN: constant(uint256) = 1
CLOSED: constant(uint256) = 2

ACCOUNT_TAG: constant(bytes32) = keccak256("tallystick: an account of a rollup")
CHANNEL_TAG: constant(bytes32) = keccak256("tallystick: a channel of a rollup")
STATE_TAG: constant(bytes32) = keccak256("tallystick: a state of a rollup")
TRANSFER_TYPE: constant(bytes32) = keccak256("Transfer(address payer,address payee,address asset,uint128 amount,uint64 nonce)")
OPEN_TYPE: constant(bytes32) = keccak256("OpenChannel(bytes32 channel,uint128 deposit,uint64 nonce)")
FUND_TYPE: constant(bytes32) = keccak256("FundChannel(bytes32 channel,uint128 amount,uint64 nonce)")
EXIT_TYPE: constant(bytes32) = keccak256("ExitAccount(address account,address asset,uint128 amount,uint64 nonce)")
CLOSE_TYPE: constant(bytes32) = keccak256("CooperativeClose(bytes32 channel,uint128 balance0,uint128 balance1,uint64 validUntil)")

# --- trees ------------------------------------------------------------------------------------------------------

@internal
@pure
def _state(accounts: uint256, channels: uint256, head: uint256, done: bytes32) -> bytes32:
    return keccak256(abi_encode(STATE_TAG, accounts, channels, head, done))


@internal
@pure
def _leaf(tag: bytes32, words: uint256[4]) -> bytes32:
    return keccak256(abi_encode(tag, words))

@internal
@pure
def _climb(leaf: bytes32, index: uint256, p: DynArray[uint256, PROOF], begin: uint256, depth: uint256) -> bytes32:
    """The root to which a leaf leads."""
    node: bytes32 = leaf
    way: uint256 = index
    for level: uint256 in range(depth, bound=DEPTH):
        beside: bytes32 = convert(p[begin + level], bytes32)
        if node != empty(bytes32) or beside != empty(bytes32):
            node = keccak256(concat(beside, node)) if way & 1 == 1 else keccak256(concat(node, beside))
        way = way >> 1
    return node

@internal
@pure
def _open(tag: bytes32, index: uint256, root: bytes32, p: DynArray[uint256, PROOF], slot: uint256) -> uint256[4]:
    """The leaf that a proof shows; all zero if it is empty."""
    at: uint256 = LEAVES + slot * LEAF
    words: uint256[4] = [p[at], p[at + 1], p[at + 2], p[at + 3]]
    leaf: bytes32 = empty(bytes32)
    if words[0] | words[1] | words[2] | words[3] != 0:
        leaf = self._leaf(tag, words)
        assert tag == CHANNEL_TAG or (words[0] != 0 and words[0] >> 160 == 0 and words[2] >> 224 == 0), "bad-proof"
    assert self._climb(leaf, index, p, at + 4, DEPTH) == root, "bad-proof"
    return words

@internal
@pure
def _put(tag: bytes32, words: uint256[4], index: uint256, p: DynArray[uint256, PROOF], slot: uint256) -> bytes32:
    return self._climb(self._leaf(tag, words), index, p, LEAVES + slot * LEAF + 4, DEPTH)
# --- the rules of a step ----------------------------------------------------------------------------------------

@internal
@pure
def _charged(words: uint256[4], root: bytes32) -> Charged:
    return Charged(ok=True, root=root, owner=convert(convert(words[0], uint160), address), asset=convert(convert(words[2] >> 64, uint160), address))

@internal
@pure
def _charge(p: DynArray[uint256, PROOF], slot: uint256, index: uint256, root: bytes32, amount: uint256, nonce: uint256, exited: uint256) -> Charged:
    """Take coins from an account for a step that its owner signed."""
    words: uint256[4] = self._open(ACCOUNT_TAG, index, root, p, slot)
    if words[0] == 0 or words[2] & M64 != nonce or words[1] < amount:
        return empty(Charged)
    after: uint256[4] = [words[0], words[1] - amount, words[2] + 1, words[3] + exited]
    return self._charged(words, self._put(ACCOUNT_TAG, after, index, p, slot))

@internal
@pure
def _credit(p: DynArray[uint256, PROOF], slot: uint256, index: uint256, root: bytes32, amount: uint256) -> Charged:
    words: uint256[4] = self._open(ACCOUNT_TAG, index, root, p, slot)
    if words[0] == 0:
        return empty(Charged)
    after: uint256[4] = [words[0], words[1] + amount, words[2], words[3]]
    return self._charged(words, self._put(ACCOUNT_TAG, after, index, p, slot))

@internal
@view
def _name(asset: address, first: address, second: address, index: uint256) -> bytes32:
    return keccak256(abi_encode(chain.id, msg.sender, first, second, asset, index))

@internal
@view
def _digest(struct_hash: bytes32) -> bytes32:
    domain: bytes32 = keccak256(abi_encode(
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
        keccak256("Tallystick"), keccak256("1"), chain.id, msg.sender))
    return keccak256(concat(x"1901", domain, struct_hash))

@internal
@pure
def _next(p: DynArray[uint256, PROOF], queue_end: uint256, done: bytes32, then: bytes32) -> Verdict:
    """The chain's next entry is carried out, or nothing is done if nothing follows from it."""
    head: uint256 = p[16]
    if head >= queue_end:
        return Verdict(wrong=True, digest=empty(bytes32), first=empty(address), second=empty(address))
    assert keccak256(abi_encode(done, p[17], p[18], p[19], p[20], p[21], p[22])) == then, "bad-proof"
    accounts: bytes32 = convert(p[14], bytes32)
    channels: bytes32 = convert(p[15], bytes32)
    kind: uint256 = p[17] & M8
    asset: uint256 = p[17] >> 8
    index: uint256 = p[18]
    if kind == CLOSE or kind == SETTLE:
        words: uint256[4] = self._open(CHANNEL_TAG, index, channels, p, 0)
        stands: bool = words[3] & M8 == OPEN
        balance0: uint256 = p[21]
        if kind == CLOSE:
            stands = stands and words[2] == p[21] + p[22]
        elif stands:
            balance0 = self._balance0(words, p[21], p[22])
        if stands:
            first: Charged = self._credit(p, 1, words[0], accounts, balance0)
            second: Charged = empty(Charged)
            if first.ok:
                second = self._credit(p, 2, words[1], first.root, words[2] - balance0)
            if not second.ok:
                return Verdict(wrong=True, digest=empty(bytes32), first=empty(address), second=empty(address))
            if convert(first.owner, uint256) == p[19] and convert(second.owner, uint256) == p[20] and convert(first.asset, uint256) == asset:
                accounts = second.root
                channels = self._put(CHANNEL_TAG, [words[0], words[1], 0, CLOSED], index, p, 0)
    else:
        words: uint256[4] = self._open(ACCOUNT_TAG, index, accounts, p, 0)
        if kind == DEPOSIT:
            if words[0] == 0:
                words[0] = p[19]
                words[2] = asset << 64
            words[1] += p[21]
            accounts = self._put(ACCOUNT_TAG, words, index, p, 0)
        elif words[0] != 0:
            accounts = self._put(ACCOUNT_TAG, [words[0], 0, words[2], words[3] + words[1]], index, p, 0)
    after: bytes32 = self._state(convert(accounts, uint256), convert(channels, uint256), head + 1, then)
    return Verdict(wrong=after != convert(p[3], bytes32), digest=empty(bytes32), first=empty(address), second=empty(address))

@internal
@pure
def _balance0(words: uint256[4], transferred0: uint256, transferred1: uint256) -> uint256:
    """What the first side of a channel gets that one side closed: what it paid in and was given, less what it gave."""
    plus: uint256 = words[2] + transferred1
    minus: uint256 = (words[3] >> 8) + transferred0
    return 0 if plus <= minus else min(plus - minus, words[2])

@external
@view
def judge(p: DynArray[uint256, PROOF], time: uint256, queue_end: uint256, steps: bytes32, done: bytes32, then: bytes32) -> Verdict:
    """Whether the step is wrong, and what must be signed if it is not. Reverts if nothing follows from the proof.
    Whoever asks is the rollup. `time`, `queue_end` and `steps` are the batch's; `done` is the running hash of the list up
    to the proof's head, `then` that of one entry more."""
    assert len(p) == PROOF, "bad-proof"
    assert p[0] < STEPS_MAX, "bad-proof"
    assert self._climb(keccak256(abi_encode(p[1], p[2], p[3])), p[0], p, 4, STEPS_DEPTH) == steps, "bad-proof"
    assert self._state(p[14], p[15], p[16], done) == convert(p[1], bytes32), "bad-proof"
    wrong: Verdict = Verdict(wrong=True, digest=empty(bytes32), first=empty(address), second=empty(address))
    accounts: bytes32 = convert(p[14], bytes32)
    channels: bytes32 = convert(p[15], bytes32)
    word: uint256 = p[2]
    op: uint256 = word >> 248
    index: uint256 = (word >> 216) & M32
    digest: bytes32 = empty(bytes32)
    first: Charged = empty(Charged)
    second: Charged = empty(Charged)
    signer: address = empty(address)
    other: address = empty(address)
    if op == 1:
        if word << 8 != 0:
            return wrong
        return self._next(p, queue_end, done, then)
    elif op == 2:
        # a transfer
        payee: uint256 = (word >> 184) & M32
        amount: uint256 = (word >> 96) & M88
        nonce: uint256 = (word >> 64) & M32
        if word & M64 != 0 or index == payee:
            return wrong
        first = self._charge(p, 0, index, accounts, amount, nonce, 0)
        if not first.ok:
            return wrong
        second = self._credit(p, 1, payee, first.root, amount)
        if not second.ok or second.asset != first.asset:
            return wrong
        accounts = second.root
        signer = first.owner
        digest = keccak256(abi_encode(TRANSFER_TYPE, first.owner, second.owner, first.asset, amount, nonce))
    elif op == 3:
        # a channel is opened
        opener: uint256 = (word >> 184) & M32
        partner: uint256 = (word >> 152) & M32
        amount: uint256 = (word >> 64) & M88
        nonce: uint256 = (word >> 32) & M32
        if word & M32 != 0 or opener == partner:
            return wrong
        first = self._charge(p, 0, opener, accounts, amount, nonce, 0)
        if not first.ok:
            return wrong
        second = self._credit(p, 1, partner, first.root, 0)
        if not second.ok or second.asset != first.asset:
            return wrong
        accounts = second.root
        words: uint256[4] = self._open(CHANNEL_TAG, index, channels, p, 2)
        if words[0] | words[1] | words[2] | words[3] != 0:
            return wrong
        channels = self._put(CHANNEL_TAG, [opener, partner, amount, OPEN], index, p, 2)
        signer = first.owner
        digest = keccak256(abi_encode(OPEN_TYPE, self._name(first.asset, first.owner, second.owner, index), amount, nonce))
    elif op == 4:
        # one side pays in
        side: uint256 = (word >> 208) & 255
        amount: uint256 = (word >> 120) & M88
        nonce: uint256 = (word >> 88) & M32
        if word & M88 != 0 or side > 1:
            return wrong
        words: uint256[4] = self._open(CHANNEL_TAG, index, channels, p, 0)
        if words[3] & M8 != OPEN:
            return wrong
        paid: uint256 = 0 if side == 0 else amount << 8
        channels = self._put(CHANNEL_TAG, [words[0], words[1], words[2] + amount, words[3] + paid], index, p, 0)
        first = self._charge(p, 1, words[side], accounts, amount, nonce, 0)
        if not first.ok:
            return wrong
        second = self._credit(p, 2, words[1 - side], first.root, 0)
        if not second.ok:
            return wrong
        accounts = second.root
        signer = first.owner
        name: bytes32 = self._name(first.asset, first.owner, second.owner, index) if side == 0 else self._name(first.asset, second.owner, first.owner, index)
        digest = keccak256(abi_encode(FUND_TYPE, name, amount, nonce))
    elif op == 5:
        # both close
        balance0: uint256 = (word >> 128) & M88
        valid_until: uint256 = (word >> 88) & M40
        if word & M88 != 0 or time > valid_until:
            return wrong
        words: uint256[4] = self._open(CHANNEL_TAG, index, channels, p, 0)
        if words[3] & M8 != OPEN or balance0 > words[2]:
            return wrong
        balance1: uint256 = words[2] - balance0
        channels = self._put(CHANNEL_TAG, [words[0], words[1], 0, CLOSED], index, p, 0)
        first = self._credit(p, 1, words[0], accounts, balance0)
        if not first.ok:
            return wrong
        second = self._credit(p, 2, words[1], first.root, balance1)
        if not second.ok:
            return wrong
        accounts = second.root
        signer = first.owner
        other = second.owner
        digest = keccak256(abi_encode(CLOSE_TYPE, self._name(first.asset, signer, other, index), balance0, balance1, valid_until))
    elif op == 6:
        # an exit
        amount: uint256 = (word >> 128) & M88
        nonce: uint256 = (word >> 96) & M32
        if word & (2**96 - 1) != 0:
            return wrong
        first = self._charge(p, 0, index, accounts, amount, nonce, amount)
        if not first.ok:
            return wrong
        accounts = first.root
        signer = first.owner
        digest = keccak256(abi_encode(EXIT_TYPE, signer, first.asset, amount, nonce))
    else:
        return wrong
    if self._state(convert(accounts, uint256), convert(channels, uint256), p[16], done) != convert(p[3], bytes32):
        return wrong
    return Verdict(wrong=False, digest=self._digest(digest), first=signer, second=other)
