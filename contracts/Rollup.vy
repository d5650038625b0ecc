# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title Tallystick's rollup of settlements
@license Apache-2.0
@notice The rules of docs/rollup.md: what `settlement/rollup/` says in Python, in the same order. An operator posts batches of
    steps; anybody proves a wrong step, and the operator's bond pays. Not audited.
@dev A proof of a step is 131 words: 0 position, 1 root before, 2 word, 3 root after, 4-13 the way to the root of all steps,
    14 accounts, 15 channels, 16 head, 17-22 the list's entry, then three leaves of 36 words: 4 of the leaf, 32 to the root.
"""

# `meta`: bits 0-39 when it was posted, 40-79 its time, 80-143 the list's end, 144-159 steps, 160-207 serial, 208-255 demands
struct Posted:
    steps: bytes32
    root: bytes32
    meta: uint256

# EIP-2098: the highest bit of `vs` says which of the two points, the rest is s.
struct Signature:
    r: bytes32
    vs: uint256

struct Demand:
    by: address
    number: uint256
    deadline: uint256

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

event EntryOrdered:
    index: indexed(uint256)
    kind: uint256
    leaf: uint256
    first: address
    second: address
    amount0: uint256
    amount1: uint256
    due: uint256

event BatchPosted:
    number: indexed(uint256)
    serial: uint256
    time: uint256
    queue_end: uint256
    accounts: bytes32
    channels: bytes32
    data: Bytes[DATA_MAX]

event BatchConvicted:
    number: indexed(uint256)
    position: uint256
    by: address

event SignatureDemanded:
    number: indexed(uint256)
    position: uint256
    by: address
    deadline: uint256

event SignatureShown:
    number: indexed(uint256)
    position: uint256
    by0: Signature
    by1: Signature

event RollupWithdrawn:
    account: indexed(address)
    amount: uint256

event RollupFrozen:
    batches: uint256

STEPS_MAX: constant(uint256) = 1_024
STEPS_DEPTH: constant(uint256) = 10
DEPTH: constant(uint256) = 32
DATA_MAX: constant(uint256) = 32 + 64 * 1_024
PROOF: constant(uint256) = 131
LEAVES: constant(uint256) = 23
LEAF: constant(uint256) = 36
WITHDRAWAL: constant(uint256) = 40
FINAL_MAX: constant(uint256) = 64
# How many windows after everything stopped the operator gets what is left of its bond, whoever has not left yet.
LEAVE_WINDOWS: constant(uint256) = 10
# Demands that may fall due within the time of one answer: of more, each is due that much later.
DEMANDS_AT_ONCE: constant(uint256) = 64

M32: constant(uint256) = 2**32 - 1
M40: constant(uint256) = 2**40 - 1
M48: constant(uint256) = 2**48 - 1
M64: constant(uint256) = 2**64 - 1
M88: constant(uint256) = 2**88 - 1
DEMANDS: constant(uint256) = 208
LAG: constant(uint256) = 3_600

DEPOSIT: constant(uint256) = 1
EXIT: constant(uint256) = 2
CLOSE: constant(uint256) = 3
OPEN: constant(uint256) = 1
CLOSED: constant(uint256) = 2

ACCOUNT_TAG: constant(bytes32) = keccak256("tallystick: an account of a rollup")
CHANNEL_TAG: constant(bytes32) = keccak256("tallystick: a channel of a rollup")
STATE_TAG: constant(bytes32) = keccak256("tallystick: a state of a rollup")
TRANSFER_TYPE: constant(bytes32) = keccak256("Transfer(address payer,address payee,uint128 amount,uint64 nonce)")
OPEN_TYPE: constant(bytes32) = keccak256("OpenChannel(bytes32 channel,uint128 deposit,uint64 nonce)")
FUND_TYPE: constant(bytes32) = keccak256("FundChannel(bytes32 channel,uint128 amount,uint64 nonce)")
EXIT_TYPE: constant(bytes32) = keccak256("ExitAccount(address account,uint128 amount,uint64 nonce)")
CLOSE_TYPE: constant(bytes32) = keccak256("CooperativeClose(bytes32 channel,uint128 balance0,uint128 balance1,uint64 validUntil)")
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168
S_MASK: constant(uint256) = 2**255 - 1
BURNT: constant(address) = 0x000000000000000000000000000000000000dEaD

CHAIN_ID: immutable(uint256)
DOMAIN: immutable(bytes32)
OPERATOR: immutable(address)
BOND: immutable(uint256)
# Seconds: in which a batch can be convicted; in which an entry must be carried out; in which signatures must be shown.
WINDOW: immutable(uint256)
ORDER_TIME: immutable(uint256)
ANSWER_TIME: immutable(uint256)
# What who demands signatures pays to who shows them.
DEMAND_FEE: immutable(uint256)

batches: public(HashMap[uint256, Posted])
# How many batches stand, how many of these are final, how many were ever posted.
count: public(uint256)
final: public(uint256)
serials: uint256
# By the number of its last entry: the running hash of the list.
queue: public(HashMap[uint256, bytes32])
dues: public(HashMap[uint256, uint256])
queue_length: public(uint256)
# Deposits that were given back after everything stopped.
reclaimed: HashMap[uint256, bool]
# Numbers of accounts, plus 1.
numbers: public(HashMap[address, uint256])
accounts: public(uint256)
# What accounts and channels hold in all, and what is on its way to them.
deposited: public(uint256)
paid: public(HashMap[address, uint256])
bonded: public(uint256)
owed: public(HashMap[address, uint256])
demands: public(HashMap[bytes32, Demand])
# The latest deadline of a demand.
last_due: uint256
# When everything stopped; zero while it runs.
frozen: public(uint256)
# Whether something was overdue then.
late: bool
# Channels that were paid out after everything stopped.
settled: public(HashMap[uint256, bool])

@deploy
def __init__(operator: address, bond: uint256, window: uint256, order_time: uint256, answer_time: uint256, demand_fee: uint256):
    assert operator != empty(address) and bond > 0 and window > 0, "bad-terms"
    OPERATOR = operator
    BOND = bond
    WINDOW = window
    ORDER_TIME = order_time
    ANSWER_TIME = answer_time
    DEMAND_FEE = demand_fee
    CHAIN_ID = chain.id
    DOMAIN = keccak256(abi_encode(
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
        keccak256("Tallystick"), keccak256("1"), chain.id, self))

# --- trees ------------------------------------------------------------------------------------------------------

@internal
@pure
def _state(accounts: uint256, channels: uint256, head: uint256, done: bytes32) -> bytes32:
    return keccak256(abi_encode(STATE_TAG, accounts, channels, head, done))

@internal
@view
def _done(count: uint256) -> bytes32:
    """The running hash of the list up to so many entries: what is made for another list fits no root of this one."""
    return empty(bytes32) if count == 0 else self.queue[count - 1]

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
        assert tag == CHANNEL_TAG or (words[0] != 0 and words[0] >> 160 == 0), "bad-proof"
    assert self._climb(leaf, index, p, at + 4, DEPTH) == root, "bad-proof"
    return words

@internal
@pure
def _put(tag: bytes32, words: uint256[4], index: uint256, p: DynArray[uint256, PROOF], slot: uint256) -> bytes32:
    return self._climb(self._leaf(tag, words), index, p, LEAVES + slot * LEAF + 4, DEPTH)

# --- the rules of a step ----------------------------------------------------------------------------------------

@internal
@pure
def _charge(p: DynArray[uint256, PROOF], slot: uint256, index: uint256, root: bytes32, amount: uint256, nonce: uint256, exited: uint256) -> Charged:
    """Take coins from an account for a step that its owner signed."""
    words: uint256[4] = self._open(ACCOUNT_TAG, index, root, p, slot)
    if words[0] == 0 or words[2] != nonce or words[1] < amount:
        return empty(Charged)
    after: uint256[4] = [words[0], words[1] - amount, nonce + 1, words[3] + exited]
    return Charged(ok=True, root=self._put(ACCOUNT_TAG, after, index, p, slot), owner=convert(convert(words[0], uint160), address))

@internal
@pure
def _credit(p: DynArray[uint256, PROOF], slot: uint256, index: uint256, root: bytes32, amount: uint256) -> Charged:
    words: uint256[4] = self._open(ACCOUNT_TAG, index, root, p, slot)
    if words[0] == 0:
        return empty(Charged)
    after: uint256[4] = [words[0], words[1] + amount, words[2], words[3]]
    return Charged(ok=True, root=self._put(ACCOUNT_TAG, after, index, p, slot), owner=convert(convert(words[0], uint160), address))

@internal
@view
def _name(first: address, second: address, index: uint256) -> bytes32:
    return keccak256(abi_encode(CHAIN_ID, self, first, second, empty(address), index))

@internal
@view
def _digest(struct_hash: bytes32) -> bytes32:
    return keccak256(concat(x"1901", DOMAIN, struct_hash))

@internal
@view
def _next(p: DynArray[uint256, PROOF], queue_end: uint256) -> Verdict:
    """The chain's next entry is carried out, or nothing is done if nothing follows from it."""
    head: uint256 = p[16]
    if head >= queue_end:
        return Verdict(wrong=True, digest=empty(bytes32), first=empty(address), second=empty(address))
    done: bytes32 = self.queue[head]
    assert keccak256(abi_encode(self._done(head), p[17], p[18], p[19], p[20], p[21], p[22])) == done, "bad-proof"
    accounts: bytes32 = convert(p[14], bytes32)
    channels: bytes32 = convert(p[15], bytes32)
    index: uint256 = p[18]
    if p[17] == CLOSE:
        words: uint256[4] = self._open(CHANNEL_TAG, index, channels, p, 0)
        if words[3] == OPEN and words[2] == p[21] + p[22]:
            first: Charged = self._credit(p, 1, words[0], accounts, p[21])
            second: Charged = empty(Charged)
            if first.ok:
                second = self._credit(p, 2, words[1], first.root, p[22])
            if not second.ok:
                return Verdict(wrong=True, digest=empty(bytes32), first=empty(address), second=empty(address))
            if convert(first.owner, uint256) == p[19] and convert(second.owner, uint256) == p[20]:
                accounts = second.root
                channels = self._put(CHANNEL_TAG, [words[0], words[1], 0, CLOSED], index, p, 0)
    else:
        words: uint256[4] = self._open(ACCOUNT_TAG, index, accounts, p, 0)
        if p[17] == DEPOSIT:
            if words[0] == 0:
                words[0] = p[19]
            words[1] += p[21]
            accounts = self._put(ACCOUNT_TAG, words, index, p, 0)
        elif words[0] != 0:
            accounts = self._put(ACCOUNT_TAG, [words[0], 0, words[2], words[3] + words[1]], index, p, 0)
    after: bytes32 = self._state(convert(accounts, uint256), convert(channels, uint256), head + 1, done)
    return Verdict(wrong=after != convert(p[3], bytes32), digest=empty(bytes32), first=empty(address), second=empty(address))

@internal
@view
def _judge(p: DynArray[uint256, PROOF], meta: uint256, steps: bytes32) -> Verdict:
    """Whether the step is wrong, and what must be signed if it is not. Reverts if nothing follows from the proof."""
    assert len(p) == PROOF, "bad-proof"
    assert p[0] < STEPS_MAX, "bad-proof"
    assert self._climb(keccak256(abi_encode(p[1], p[2], p[3])), p[0], p, 4, STEPS_DEPTH) == steps, "bad-proof"
    done: bytes32 = self._done(p[16])
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
        return self._next(p, (meta >> 80) & M64)
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
        if not second.ok:
            return wrong
        accounts = second.root
        signer = first.owner
        digest = keccak256(abi_encode(TRANSFER_TYPE, first.owner, second.owner, amount, nonce))
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
        if not second.ok:
            return wrong
        accounts = second.root
        words: uint256[4] = self._open(CHANNEL_TAG, index, channels, p, 2)
        if words[0] | words[1] | words[2] | words[3] != 0:
            return wrong
        channels = self._put(CHANNEL_TAG, [opener, partner, amount, OPEN], index, p, 2)
        signer = first.owner
        digest = keccak256(abi_encode(OPEN_TYPE, self._name(first.owner, second.owner, index), amount, nonce))
    elif op == 4:
        # one side pays in
        side: uint256 = (word >> 208) & 255
        amount: uint256 = (word >> 120) & M88
        nonce: uint256 = (word >> 88) & M32
        if word & M88 != 0 or side > 1:
            return wrong
        words: uint256[4] = self._open(CHANNEL_TAG, index, channels, p, 0)
        if words[3] != OPEN:
            return wrong
        channels = self._put(CHANNEL_TAG, [words[0], words[1], words[2] + amount, OPEN], index, p, 0)
        first = self._charge(p, 1, words[side], accounts, amount, nonce, 0)
        if not first.ok:
            return wrong
        second = self._credit(p, 2, words[1 - side], first.root, 0)
        if not second.ok:
            return wrong
        accounts = second.root
        signer = first.owner
        name: bytes32 = self._name(first.owner, second.owner, index) if side == 0 else self._name(second.owner, first.owner, index)
        digest = keccak256(abi_encode(FUND_TYPE, name, amount, nonce))
    elif op == 5:
        # both close
        balance0: uint256 = (word >> 128) & M88
        valid_until: uint256 = (word >> 88) & M40
        if word & M88 != 0 or (meta >> 40) & M40 > valid_until:
            return wrong
        words: uint256[4] = self._open(CHANNEL_TAG, index, channels, p, 0)
        if words[3] != OPEN or balance0 > words[2]:
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
        digest = keccak256(abi_encode(CLOSE_TYPE, self._name(signer, other, index), balance0, balance1, valid_until))
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
        digest = keccak256(abi_encode(EXIT_TYPE, signer, amount, nonce))
    else:
        return wrong
    if self._state(convert(accounts, uint256), convert(channels, uint256), p[16], done) != convert(p[3], bytes32):
        return wrong
    return Verdict(wrong=False, digest=self._digest(digest), first=signer, second=other)

@internal
@pure
def _check(digest: bytes32, signature: Signature, signer: address):
    s: uint256 = signature.vs & S_MASK
    assert s <= HALF_ORDER and signer != empty(address) and ecrecover(digest, unsafe_add(27, signature.vs >> 255), convert(signature.r, uint256), s) == signer, "bad-signature"

# --- batches ----------------------------------------------------------------------------------------------------

@internal
def _finalise():
    """Batches whose window is over, and of which no signature is wanting, are final, in their order."""
    final: uint256 = self.final
    count: uint256 = self.count
    start: uint256 = final
    for i: uint256 in range(FINAL_MAX):
        if final >= count:
            break
        meta: uint256 = self.batches[final].meta
        if meta >> DEMANDS != 0 or block.timestamp <= (meta & M40) + WINDOW:
            break
        final += 1
    if final != start:
        self.final = final

@external
def finalise():
    """Count what is final, and keep it: a call that wants all to be final cannot, where more wait than one counts."""
    self._finalise()

@internal
@view
def _standing(number: uint256) -> Posted:
    """A batch that can still be convicted."""
    assert number < self.count and number >= self.final, "wrong-status"
    return self.batches[number]

@internal
@view
def _queue_end() -> uint256:
    count: uint256 = self.count
    return 0 if count == 0 else (self.batches[count - 1].meta >> 80) & M64

@external
@payable
def bond():
    """Pay into the operator's bond. Anybody may."""
    self.bonded += msg.value

@external
def unbond():
    """The operator takes its bond back, once all its batches are final and nobody's coins are left in the rollup.
    Ten windows after everything stopped it gets what is left of it all the same."""
    assert msg.sender == OPERATOR, "not-allowed"
    self._finalise()
    assert self.final == self.count, "window-open"
    frozen: uint256 = self.frozen
    assert self.deposited == 0 or (frozen != 0 and block.timestamp > frozen + LEAVE_WINDOWS * WINDOW), "wrong-status"
    amount: uint256 = self.bonded
    self.bonded = 0
    self.owed[msg.sender] += amount

@external
def post(time: uint256, queue_end: uint256, accounts: bytes32, channels: bytes32, data: Bytes[DATA_MAX]):
    """A batch: the root before, and of each step its word and the root after it."""
    assert msg.sender == OPERATOR, "not-allowed"
    assert self.frozen == 0, "wrong-status"
    assert self.bonded >= BOND, "insufficient-balance"
    assert len(data) % 64 == 32 and len(data) > 32, "bad-batch"
    steps: uint256 = len(data) // 64
    number: uint256 = self.count
    before: bytes32 = keccak256(abi_encode(STATE_TAG, empty(bytes32), empty(bytes32), empty(uint256), empty(bytes32)))
    meta: uint256 = 0
    if number > 0:
        before = self.batches[number - 1].root
        meta = self.batches[number - 1].meta
    assert time >= (meta >> 40) & M40 and time <= block.timestamp and time + LAG >= block.timestamp, "expired"
    assert queue_end >= (meta >> 80) & M64 and queue_end <= self.queue_length, "bad-batch"
    # What is overdue must be in this batch.
    assert queue_end == self.queue_length or block.timestamp <= self.dues[queue_end], "overdue"
    root: bytes32 = keccak256(abi_encode(STATE_TAG, accounts, channels, queue_end, self._done(queue_end)))
    assert extract32(data, 0) == before and extract32(data, len(data) - 32) == root, "bad-batch"
    nodes: bytes32[STEPS_MAX] = empty(bytes32[STEPS_MAX])
    for i: uint256 in range(steps, bound=STEPS_MAX):
        nodes[i] = keccak256(slice(data, 64 * i, 96))
    width: uint256 = steps
    for level: uint256 in range(STEPS_DEPTH):
        if width & 1 == 1:
            nodes[width] = empty(bytes32)
        width = (width + 1) >> 1
        for i: uint256 in range(width, bound=STEPS_MAX // 2):
            nodes[i] = keccak256(concat(nodes[2 * i], nodes[2 * i + 1]))
    serial: uint256 = self.serials + 1
    self.serials = serial
    self.batches[number] = Posted(steps=nodes[0], root=root, meta=block.timestamp | (time << 40) | (queue_end << 80) | (steps << 144) | (serial << 160))
    self.count = number + 1
    self._finalise()
    log BatchPosted(number=number, serial=serial, time=time, queue_end=queue_end, accounts=accounts, channels=channels, data=data)

@internal
def _convicted(number: uint256, position: uint256, by: address):
    """The batch and all after it are gone; half of the bond is the prover's, half is burnt."""
    self.count = number
    bonded: uint256 = self.bonded
    self.bonded = 0
    reward: uint256 = bonded // 2
    self.owed[by] += reward
    self.owed[BURNT] += bonded - reward
    log BatchConvicted(number=number, position=position, by=by)

@external
def convict(number: uint256, proof: DynArray[uint256, PROOF]):
    """Show a wrong step of a batch that is not final."""
    self._finalise()
    batch: Posted = self._standing(number)
    found: Verdict = self._judge(proof, batch.meta, batch.steps)
    assert found.wrong, "step-right"
    self._convicted(number, proof[0], msg.sender)

@external
@payable
def demand(number: uint256, position: uint256):
    """Ask for the signatures of a step: whoever cannot show them is convicted."""
    assert msg.value == DEMAND_FEE, "bad-amount"
    self._finalise()
    batch: Posted = self._standing(number)
    assert block.timestamp <= (batch.meta & M40) + WINDOW, "window-over"
    assert position < (batch.meta >> 144) & 65_535, "bad-proof"
    name: bytes32 = keccak256(abi_encode((batch.meta >> 160) & M48, position))
    assert self.demands[name].by == empty(address), "already-registered"
    deadline: uint256 = max(block.timestamp + ANSWER_TIME, self.last_due + ANSWER_TIME // DEMANDS_AT_ONCE)
    self.last_due = deadline
    self.demands[name] = Demand(by=msg.sender, number=number, deadline=deadline)
    self.batches[number].meta = batch.meta + (1 << DEMANDS)
    log SignatureDemanded(number=number, position=position, by=msg.sender, deadline=deadline)

@external
def answer(number: uint256, proof: DynArray[uint256, PROOF], by0: Signature, by1: Signature):
    """Show what was demanded. Anybody may; half of the fee is the operator's. Half is burnt, so that one that demands
    its own steps, and holds up what is final, pays for it."""
    batch: Posted = self._standing(number)
    found: Verdict = self._judge(proof, batch.meta, batch.steps)
    assert not found.wrong, "step-wrong"
    name: bytes32 = keccak256(abi_encode((batch.meta >> 160) & M48, proof[0]))
    assert self.demands[name].deadline != 0, "nothing-owed"
    if found.first != empty(address):
        self._check(found.digest, by0, found.first)
    if found.second != empty(address):
        self._check(found.digest, by1, found.second)
    self.demands[name].deadline = 0
    self.batches[number].meta = batch.meta - (1 << DEMANDS)
    self.owed[OPERATOR] += DEMAND_FEE // 2
    self.owed[BURNT] += DEMAND_FEE - DEMAND_FEE // 2
    log SignatureShown(number=number, position=proof[0], by0=by0, by1=by1)

@external
def silence(number: uint256, position: uint256):
    """Convict a batch of which a signature was demanded and not shown in time."""
    batch: Posted = self._standing(number)
    name: bytes32 = keccak256(abi_encode((batch.meta >> 160) & M48, position))
    found: Demand = self.demands[name]
    assert found.deadline != 0, "nothing-owed"
    assert block.timestamp > found.deadline, "window-open"
    self.demands[name].deadline = 0
    self.owed[found.by] += DEMAND_FEE
    self._convicted(number, position, found.by)

@external
def refund(serial: uint256, position: uint256):
    """Give back what a demand cost whose batch is gone."""
    name: bytes32 = keccak256(abi_encode(serial, position))
    found: Demand = self.demands[name]
    assert found.deadline != 0, "nothing-owed"
    assert found.number >= self.count or (self.batches[found.number].meta >> 160) & M48 != serial, "window-open"
    self.demands[name].deadline = 0
    self.owed[found.by] += DEMAND_FEE

@external
@view
def demand_name(serial: uint256, position: uint256) -> bytes32:
    return keccak256(abi_encode(serial, position))

# --- in and out -------------------------------------------------------------------------------------------------

@internal
def _order(kind: uint256, index: uint256, first: address, second: address, amount0: uint256, amount1: uint256):
    # A close is taken to the end: without it what is in a channel would be nobody's.
    assert kind == CLOSE or self.frozen == 0, "wrong-status"
    at: uint256 = self.queue_length
    due: uint256 = block.timestamp + ORDER_TIME
    self.queue[at] = keccak256(abi_encode(self._done(at), kind, index, first, second, amount0, amount1))
    self.dues[at] = due
    self.queue_length = at + 1
    log EntryOrdered(index=at, kind=kind, leaf=index, first=first, second=second, amount0=amount0, amount1=amount1, due=due)

@external
@payable
def deposit(owner: address):
    """Coins for an account, which is made if it is new."""
    total: uint256 = self.deposited + msg.value
    assert msg.value > 0 and total <= M88, "bad-amount"
    assert owner != empty(address), "bad-terms"
    self.deposited = total
    number: uint256 = self.numbers[owner]
    if number == 0:
        number = self.accounts + 1
        assert number <= M32, "bad-terms"
        self.accounts = number
        self.numbers[owner] = number
    self._order(DEPOSIT, number - 1, owner, empty(address), msg.value, 0)

@external
def force_exit():
    """Order all that the caller's account holds out: the operator must, or everything stops."""
    number: uint256 = self.numbers[msg.sender]
    assert number != 0, "not-a-participant"
    self._order(EXIT, number - 1, msg.sender, empty(address), 0, 0)

@external
def force_close(index: uint256, first: address, second: address, balance0: uint256, balance1: uint256, valid_until: uint256, by0: Signature, by1: Signature):
    """Order a close that both signed: the operator must, or everything stops, and `reclaim_close` pays it out."""
    assert index <= M32 and balance0 <= M88 and balance1 <= M88, "bad-amount"
    assert block.timestamp <= valid_until, "expired"
    digest: bytes32 = self._digest(keccak256(abi_encode(CLOSE_TYPE, self._name(first, second, index), balance0, balance1, valid_until)))
    self._check(digest, by0, first)
    self._check(digest, by1, second)
    self._order(CLOSE, index, first, second, balance0, balance1)

@internal
@view
def _shown(number: uint256, p: DynArray[uint256, WITHDRAWAL], tag: bytes32) -> uint256[4]:
    """A leaf of a final state: accounts, channels, head, the leaf's number, the leaf, and the way up."""
    assert number < self.final, "window-open"
    assert len(p) == WITHDRAWAL, "bad-proof"
    assert self._state(p[0], p[1], p[2], self._done(p[2])) == self.batches[number].root, "bad-proof"
    words: uint256[4] = [p[4], p[5], p[6], p[7]]
    assert tag == CHANNEL_TAG or (words[0] != 0 and words[0] >> 160 == 0), "bad-proof"
    wide: DynArray[uint256, PROOF] = []
    for i: uint256 in range(WITHDRAWAL):
        wide.append(p[i])
    root: uint256 = p[0] if tag == ACCOUNT_TAG else p[1]
    assert self._climb(self._leaf(tag, words), p[3], wide, 8, DEPTH) == convert(root, bytes32), "bad-proof"
    return words

@internal
def _pay_out(owner: address, total: uint256):
    """Pay what of a total was not paid yet."""
    before: uint256 = self.paid[owner]
    assert total > before, "nothing-owed"
    self.paid[owner] = total
    self.deposited -= total - before
    log RollupWithdrawn(account=owner, amount=total - before)
    raw_call(owner, b"", value=total - before)

@external
@nonreentrant
def withdraw(number: uint256, proof: DynArray[uint256, WITHDRAWAL]):
    """Pay an account what it took out, as a final batch shows. Anybody may ask for it."""
    self._finalise()
    words: uint256[4] = self._shown(number, proof, ACCOUNT_TAG)
    self._pay_out(convert(convert(words[0], uint160), address), words[3])

@external
@nonreentrant
def claim():
    """Pay the caller what it is owed: rewards, fees, a bond."""
    amount: uint256 = self.owed[msg.sender]
    assert amount > 0, "nothing-owed"
    self.owed[msg.sender] = 0
    raw_call(msg.sender, b"", value=amount)

# --- when the operator does not do what it must -----------------------------------------------------------------

@external
def freeze():
    """Stop everything, as an entry is overdue. What stands can still be convicted, and then everybody leaves.
    It costs the operator half of its bond; whoever calls gets what a demand costs of it, the rest is burnt. The
    operator itself may stop at any time, and loses nothing if nothing is overdue."""
    assert self.frozen == 0, "wrong-status"
    end: uint256 = self._queue_end()
    self.frozen = block.timestamp
    if end < self.queue_length and block.timestamp > self.dues[end]:
        self.late = True
        lost: uint256 = self.bonded // 2
        reward: uint256 = min(DEMAND_FEE, lost)
        self.bonded -= lost
        self.owed[msg.sender] += reward
        self.owed[BURNT] += lost - reward
    else:
        assert msg.sender == OPERATOR, "window-open"
    log RollupFrozen(batches=self.count)

@internal
def _ended():
    """Frozen, and all that stands is final."""
    self._finalise()
    assert self.frozen != 0, "wrong-status"
    assert self.final == self.count, "window-open"

@external
@nonreentrant
def escape(proof: DynArray[uint256, WITHDRAWAL]):
    """Pay an account all that it held and took out by the last final batch.
    If something was overdue, the operator's bond pays who brings the proof as much as the account gets, and no more
    than what a demand costs: an account of dust is worth dust."""
    self._ended()
    assert self.count > 0, "wrong-status"
    words: uint256[4] = self._shown(self.count - 1, proof, ACCOUNT_TAG)
    owner: address = convert(convert(words[0], uint160), address)
    total: uint256 = words[1] + words[3]
    if self.late:
        before: uint256 = self.paid[owner]
        assert total > before, "nothing-owed"
        reward: uint256 = min(min(DEMAND_FEE, self.bonded), total - before)
        self.bonded -= reward
        self.owed[msg.sender] += reward
    self._pay_out(owner, total)

@internal
@view
def _ordered(kind: uint256, index: uint256, entry: uint256[6]):
    """These are the words of that entry of the list."""
    assert entry[0] == kind and keccak256(abi_encode(self._done(index), entry)) == self.queue[index], "bad-proof"

@external
@nonreentrant
def reclaim(index: uint256, entry: uint256[6]):
    """Give back a deposit that no final batch has."""
    self._ended()
    assert index >= self._queue_end(), "wrong-status"
    self._ordered(DEPOSIT, index, entry)
    assert not self.reclaimed[index], "nothing-owed"
    self.reclaimed[index] = True
    self.deposited -= entry[4]
    raw_call(convert(convert(entry[2], uint160), address), b"", value=entry[4])

@external
def reclaim_close(index: uint256, entry: uint256[6], proof: DynArray[uint256, WITHDRAWAL]):
    """Owe both sides of a channel what they signed, if the order to close it is in no final batch."""
    self._ended()
    assert self.count > 0 and index >= self._queue_end(), "wrong-status"
    self._ordered(CLOSE, index, entry)
    words: uint256[4] = self._shown(self.count - 1, proof, CHANNEL_TAG)
    assert proof[3] == entry[1], "bad-proof"
    assert words[3] == OPEN and words[2] == entry[4] + entry[5] and not self.settled[entry[1]], "nothing-owed"
    first: address = convert(convert(entry[2], uint160), address)
    second: address = convert(convert(entry[3], uint160), address)
    assert self.numbers[first] == words[0] + 1 and self.numbers[second] == words[1] + 1, "nothing-owed"
    self.settled[entry[1]] = True
    self.deposited -= words[2]
    self.owed[first] += entry[4]
    self.owed[second] += entry[5]

@external
@view
def terms() -> (address, uint256, uint256, uint256, uint256, uint256):
    """What was agreed when it was made: the operator, the bond, the window, an order's time, an answer's, the fee."""
    return OPERATOR, BOND, WINDOW, ORDER_TIME, ANSWER_TIME, DEMAND_FEE

@external
@view
def domainSeparator() -> bytes32:
    return DOMAIN
