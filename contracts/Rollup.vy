# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title Tallystick's rollup of settlements
@license Apache-2.0
@notice The rules of docs/rollup.md: what `settlement/rollup/` says in Python, in the same order. An operator posts batches of
    steps; anybody proves a wrong step, and the operator's bond pays. Not audited.
@dev What a step does is in RollupJudge.vy, which has the form of proofs too: both would not fit into one contract. The asset is
    the zero address for the chain's own coin, else an ERC-20 token.
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

interface Judge:
    def judge(p: DynArray[uint256, PROOF], time: uint256, queue_end: uint256, steps: bytes32, done: bytes32, then: bytes32) -> Verdict: view

interface Token:
    def balanceOf(account: address) -> uint256: view
    def allowance(owner: address, spender: address) -> uint256: view

event EntryOrdered:
    index: indexed(uint256)
    kind: uint256
    leaf: uint256
    first: address
    second: address
    asset: address
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
    asset: address
    amount: uint256

# One side closes its channel alone: the other one may show newer proofs up to the deadline.
event ClosedAlone:
    channel: indexed(bytes32)
    leaf: uint256
    closer: uint256
    seq0: uint256
    seq1: uint256
    deadline: uint256

event CloseChallenged:
    channel: indexed(bytes32)
    leaf: uint256
    sender: uint256
    seq: uint256
    convicts: bool

event RollupFrozen:
    batches: uint256

STEPS_MAX: constant(uint256) = 1_024
STEPS_DEPTH: constant(uint256) = 10
DEPTH: constant(uint256) = 32
DATA_MAX: constant(uint256) = 32 + 64 * 1_024
PROOF: constant(uint256) = 131
WITHDRAWAL: constant(uint256) = 40
FINAL_MAX: constant(uint256) = 64
JUDGE_MAX: constant(uint256) = 24_576
BALANCE_PROOF_SIZE: constant(uint256) = 160
# How many windows after everything stopped the operator gets what is left of its bond, whoever has not left yet.
LEAVE_WINDOWS: constant(uint256) = 10
# Demands that may fall due within the time of one answer: of more, each is due that much later.
DEMANDS_AT_ONCE: constant(uint256) = 64

M8: constant(uint256) = 2**8 - 1
M32: constant(uint256) = 2**32 - 1
M40: constant(uint256) = 2**40 - 1
M48: constant(uint256) = 2**48 - 1
M64: constant(uint256) = 2**64 - 1
M88: constant(uint256) = 2**88 - 1
LOW: constant(uint256) = 2**128 - 1
DEMANDS: constant(uint256) = 208
LAG: constant(uint256) = 3_600

DEPOSIT: constant(uint256) = 1
EXIT: constant(uint256) = 2
CLOSE: constant(uint256) = 3
SETTLE: constant(uint256) = 4
OPEN: constant(uint256) = 1

# `disputes`: bits 0-1 status: 0 none, RUNNING, ORDERED; 2 which side closed; 3 whether it is convicted; 16-55 deadline;
# 56-119 seq of the first side's proof that stands; 120-183 of the second's; 184-247 the closer's own seq when it closed;
# then what these proofs say was transferred, the first side's in the lower half.
RUNNING: constant(uint256) = 1
ORDERED: constant(uint256) = 2
CLOSER: constant(uint256) = 2
CONVICTED: constant(uint256) = 8

ACCOUNT_TAG: constant(bytes32) = keccak256("tallystick: an account of a rollup")
CHANNEL_TAG: constant(bytes32) = keccak256("tallystick: a channel of a rollup")
STATE_TAG: constant(bytes32) = keccak256("tallystick: a state of a rollup")
CLOSE_TYPE: constant(bytes32) = keccak256("CooperativeClose(bytes32 channel,uint128 balance0,uint128 balance1,uint64 validUntil)")
BALANCE_PROOF_TYPE: constant(bytes32) = keccak256("BalanceProof(bytes32 channel,uint8 sender,uint64 seq,uint128 transferred,uint128 locked,bytes32 locksRoot,uint64 seen)")
HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168
S_MASK: constant(uint256) = 2**255 - 1
BURNT: constant(address) = 0x000000000000000000000000000000000000dEaD

CHAIN_ID: immutable(uint256)
# What a step does; it keeps nothing.
JUDGE: public(immutable(address))
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
# Numbers of accounts, plus 1, by asset and owner, as all that follows.
numbers: public(HashMap[address, HashMap[address, uint256]])
accounts: public(uint256)
# What accounts and channels hold of an asset, and what is on its way to them; and the sum of units of all assets, which is
# zero only if nobody has anything.
held: public(HashMap[address, uint256])
deposited: public(uint256)
paid: public(HashMap[address, HashMap[address, uint256]])
bonded: public(uint256)
owed: public(HashMap[address, HashMap[address, uint256]])
demands: public(HashMap[bytes32, Demand])
# The latest deadline of a demand.
last_due: uint256
# When everything stopped; zero while it runs.
frozen: public(uint256)
# Whether something was overdue then.
late: bool
# Channels that one side closes, by their ids.
disputes: public(HashMap[bytes32, uint256[2]])
# Channels that were paid out after everything stopped.
settled: public(HashMap[uint256, bool])

@deploy
def __init__(operator: address, bond: uint256, window: uint256, order_time: uint256, answer_time: uint256, demand_fee: uint256, judge: Bytes[JUDGE_MAX]):
    """`judge` is the code that creates the judge."""
    assert operator != empty(address) and bond > 0 and window > 0, "bad-terms"
    OPERATOR = operator
    BOND = bond
    WINDOW = window
    ORDER_TIME = order_time
    ANSWER_TIME = answer_time
    DEMAND_FEE = demand_fee
    CHAIN_ID = chain.id
    JUDGE = raw_create(judge)
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
@view
def _name(asset: address, first: address, second: address, index: uint256) -> bytes32:
    return keccak256(abi_encode(CHAIN_ID, self, first, second, asset, index))

@internal
@view
def _digest(struct_hash: bytes32) -> bytes32:
    return keccak256(concat(x"1901", DOMAIN, struct_hash))

@internal
@pure
def _check(digest: bytes32, signature: Signature, signer: address):
    s: uint256 = signature.vs & S_MASK
    assert s <= HALF_ORDER and signer != empty(address) and ecrecover(digest, unsafe_add(27, signature.vs >> 255), convert(signature.r, uint256), s) == signer, "bad-signature"

@internal
@view
def _judge(p: DynArray[uint256, PROOF], meta: uint256, steps: bytes32) -> Verdict:
    assert len(p) == PROOF, "bad-proof"
    return staticcall Judge(JUDGE).judge(p, (meta >> 40) & M40, (meta >> 80) & M64, steps, self._done(p[16]), self.queue[p[16]])

# --- assets -----------------------------------------------------------------------------------------------------

@internal
@pure
def _said_yes(answer: Bytes[32]) -> bool:
    # Tokens that answer nothing are taken at their word; others must say true.
    return len(answer) == 0 or (len(answer) == 32 and convert(answer, uint256) == 1)

@internal
def _pay(asset: address, to: address, amount: uint256):
    if asset == empty(address):
        raw_call(to, b"", value=amount)
    else:
        done: bool = False
        answer: Bytes[32] = b""
        done, answer = raw_call(asset, abi_encode(to, amount, method_id=method_id("transfer(address,uint256)")), max_outsize=32, revert_on_failure=False)
        assert done and self._said_yes(answer), "transfer-failed"

@internal
def _left(asset: address, amount: uint256):
    """So much of an asset is in no account and in no channel any more."""
    self.held[asset] -= amount
    self.deposited -= amount

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
    self.owed[empty(address)][msg.sender] += amount

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
    self.owed[empty(address)][by] += reward
    self.owed[empty(address)][BURNT] += bonded - reward
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
    self.owed[empty(address)][OPERATOR] += DEMAND_FEE // 2
    self.owed[empty(address)][BURNT] += DEMAND_FEE - DEMAND_FEE // 2
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
    self.owed[empty(address)][found.by] += DEMAND_FEE
    self._convicted(number, position, found.by)

@external
def refund(serial: uint256, position: uint256):
    """Give back what a demand cost whose batch is gone."""
    name: bytes32 = keccak256(abi_encode(serial, position))
    found: Demand = self.demands[name]
    assert found.deadline != 0, "nothing-owed"
    assert found.number >= self.count or (self.batches[found.number].meta >> 160) & M48 != serial, "window-open"
    self.demands[name].deadline = 0
    self.owed[empty(address)][found.by] += DEMAND_FEE

@external
@view
def demand_name(serial: uint256, position: uint256) -> bytes32:
    return keccak256(abi_encode(serial, position))

# --- in and out -------------------------------------------------------------------------------------------------

@internal
def _order(kind: uint256, asset: address, index: uint256, first: address, second: address, amount0: uint256, amount1: uint256):
    # What ends a channel is taken to the end: without it what is in a channel would be nobody's.
    assert kind >= CLOSE or self.frozen == 0, "wrong-status"
    at: uint256 = self.queue_length
    due: uint256 = block.timestamp + ORDER_TIME
    self.queue[at] = keccak256(abi_encode(self._done(at), kind | (convert(asset, uint256) << 8), index, first, second, amount0, amount1))
    self.dues[at] = due
    self.queue_length = at + 1
    log EntryOrdered(index=at, kind=kind, leaf=index, first=first, second=second, asset=asset, amount0=amount0, amount1=amount1, due=due)

@internal
def _deposit(asset: address, owner: address, amount: uint256):
    total: uint256 = self.held[asset] + amount
    assert amount > 0 and total <= M88, "bad-amount"
    assert owner != empty(address), "bad-terms"
    self.held[asset] = total
    self.deposited += amount
    number: uint256 = self.numbers[asset][owner]
    if number == 0:
        number = self.accounts + 1
        assert number <= M32, "bad-terms"
        self.accounts = number
        self.numbers[asset][owner] = number
    self._order(DEPOSIT, asset, number - 1, owner, empty(address), amount, 0)

@external
@payable
@nonreentrant
def deposit(owner: address):
    """Coins for an account, which is made if it is new."""
    self._deposit(empty(address), owner, msg.value)

@external
@nonreentrant
def deposit_token(owner: address, asset: address, amount: uint256):
    """Tokens of the caller, who has allowed it, for an account, which is made if it is new. They must come to the last unit."""
    assert asset.codesize > 0 and asset != self, "bad-terms"
    self._deposit(asset, owner, amount)
    before: uint256 = staticcall Token(asset).balanceOf(self)
    done: bool = False
    answer: Bytes[32] = b""
    done, answer = raw_call(asset, abi_encode(msg.sender, self, amount, method_id=method_id("transferFrom(address,address,uint256)")), max_outsize=32, revert_on_failure=False)
    if not done or not self._said_yes(answer):
        assert staticcall Token(asset).allowance(msg.sender, self) >= amount, "insufficient-allowance"
        assert staticcall Token(asset).balanceOf(msg.sender) >= amount, "insufficient-balance"
        raise "transfer-failed"
    assert staticcall Token(asset).balanceOf(self) == before + amount, "inexact-transfer"

@external
def force_exit(asset: address):
    """Order all that the caller's account of an asset holds out: the operator must, or everything stops."""
    number: uint256 = self.numbers[asset][msg.sender]
    assert number != 0, "not-a-participant"
    self._order(EXIT, asset, number - 1, msg.sender, empty(address), 0, 0)

@external
def force_close(index: uint256, first: address, second: address, balance0: uint256, balance1: uint256, valid_until: uint256, asset: address, by0: Signature, by1: Signature):
    """Order a close that both signed: the operator must, or everything stops, and `reclaim_close` pays it out."""
    assert index <= M32 and balance0 <= M88 and balance1 <= M88, "bad-amount"
    assert block.timestamp <= valid_until, "expired"
    digest: bytes32 = self._digest(keccak256(abi_encode(CLOSE_TYPE, self._name(asset, first, second, index), balance0, balance1, valid_until)))
    self._check(digest, by0, first)
    self._check(digest, by1, second)
    self._order(CLOSE, asset, index, first, second, balance0, balance1)

@internal
@view
def _shown(number: uint256, p: DynArray[uint256, WITHDRAWAL], tag: bytes32) -> uint256[4]:
    """A leaf of a final state: accounts, channels, head, the leaf's number, the leaf, and the way up."""
    assert number < self.final, "window-open"
    assert len(p) == WITHDRAWAL, "bad-proof"
    assert self._state(p[0], p[1], p[2], self._done(p[2])) == self.batches[number].root, "bad-proof"
    words: uint256[4] = [p[4], p[5], p[6], p[7]]
    assert tag == CHANNEL_TAG or (words[0] != 0 and words[0] >> 160 == 0 and words[2] >> 224 == 0), "bad-proof"
    wide: DynArray[uint256, PROOF] = []
    for i: uint256 in range(WITHDRAWAL):
        wide.append(p[i])
    root: uint256 = p[0] if tag == ACCOUNT_TAG else p[1]
    assert self._climb(self._leaf(tag, words), p[3], wide, 8, DEPTH) == convert(root, bytes32), "bad-proof"
    return words

@internal
def _pay_out(words: uint256[4], total: uint256):
    """Pay an account what of a total was not paid yet."""
    owner: address = convert(convert(words[0], uint160), address)
    asset: address = convert(convert(words[2] >> 64, uint160), address)
    before: uint256 = self.paid[asset][owner]
    assert total > before, "nothing-owed"
    self.paid[asset][owner] = total
    self._left(asset, total - before)
    log RollupWithdrawn(account=owner, asset=asset, amount=total - before)
    self._pay(asset, owner, total - before)

@external
@nonreentrant
def withdraw(number: uint256, proof: DynArray[uint256, WITHDRAWAL]):
    """Pay an account what it took out, as a final batch shows. Anybody may ask for it."""
    self._finalise()
    words: uint256[4] = self._shown(number, proof, ACCOUNT_TAG)
    self._pay_out(words, words[3])

@external
@nonreentrant
def claim(asset: address):
    """Pay the caller what it is owed: rewards, fees, a bond, and what `reclaim_close` gave."""
    amount: uint256 = self.owed[asset][msg.sender]
    assert amount > 0, "nothing-owed"
    self.owed[asset][msg.sender] = 0
    self._pay(asset, msg.sender, amount)

# --- when one side closes alone ---------------------------------------------------------------------------------

@internal
@view
def _proven(name: bytes32, side: uint256, first: address, second: address, proof: Bytes[BALANCE_PROOF_SIZE]) -> uint256:
    """Check a balance proof of one side, and return its seq (64 bits), seen (64) and transferred (128). It has no locks:
    here nothing would ever decide them."""
    assert len(proof) == BALANCE_PROOF_SIZE, "bad-proof"
    numbers: uint256 = convert(extract32(proof, 0), uint256)
    assert numbers >> 192 != 0, "bad-proof"
    digest: bytes32 = self._digest(keccak256(abi_encode(BALANCE_PROOF_TYPE, name, side, numbers >> 192, numbers & LOW, empty(uint256), empty(bytes32), (numbers >> 128) & M64)))
    self._check(digest, Signature(r=extract32(proof, 32), vs=convert(extract32(proof, 64), uint256)), first if side == 0 else second)
    self._check(digest, Signature(r=extract32(proof, 96), vs=convert(extract32(proof, 128), uint256)), second if side == 0 else first)
    return numbers

@external
def close_alone(index: uint256, first: address, second: address, asset: address, number: uint256, shown: DynArray[uint256, WITHDRAWAL], proof0: Bytes[BALANCE_PROOF_SIZE], proof1: Bytes[BALANCE_PROOF_SIZE]):
    """Begin to close a channel by the caller's newest balance proof of each side; what is empty is genesis. A final batch must
    have the channel: of one that is not there yet somebody could let the window pass before anything is paid in it."""
    # A larger number leads to the same leaf.
    assert index <= M32, "bad-amount"
    name: bytes32 = self._name(asset, first, second, index)
    assert self.disputes[name][0] == 0, "wrong-status"
    assert msg.sender == first or msg.sender == second, "not-a-participant"
    self._finalise()
    words: uint256[4] = self._shown(number, shown, CHANNEL_TAG)
    assert shown[3] == index, "bad-proof"
    assert words[3] & M8 == OPEN and self.numbers[asset][first] == words[0] + 1 and self.numbers[asset][second] == words[1] + 1, "nothing-owed"
    closer: uint256 = 0 if msg.sender == first else 1
    numbers0: uint256 = 0
    numbers1: uint256 = 0
    if len(proof0) != 0:
        numbers0 = self._proven(name, 0, first, second, proof0)
    if len(proof1) != 0:
        numbers1 = self._proven(name, 1, first, second, proof1)
    deadline: uint256 = block.timestamp + WINDOW
    own: uint256 = (numbers0 if closer == 0 else numbers1) >> 192
    self.disputes[name][0] = RUNNING | (closer << CLOSER) | (deadline << 16) | ((numbers0 >> 192) << 56) | ((numbers1 >> 192) << 120) | (own << 184)
    self.disputes[name][1] = (numbers0 & LOW) | (numbers1 << 128)
    log ClosedAlone(channel=name, leaf=index, closer=closer, seq0=numbers0 >> 192, seq1=numbers1 >> 192, deadline=deadline)

@external
def challenge_close(index: uint256, first: address, second: address, asset: address, sender: uint256, proof: Bytes[BALANCE_PROOF_SIZE]):
    """Show a newer proof of a channel that one side closes. Anybody may, up to the deadline. One that the closer must have
    known convicts it, and then all is the other side's."""
    name: bytes32 = self._name(asset, first, second, index)
    state: uint256 = self.disputes[name][0]
    assert state & 3 == RUNNING, "wrong-status"
    assert block.timestamp <= (state >> 16) & M40, "window-over"
    assert sender < 2, "not-a-participant"
    numbers: uint256 = self._proven(name, sender, first, second, proof)
    at: uint256 = 56 if sender == 0 else 120
    seq: uint256 = numbers >> 192
    assert seq > (state >> at) & M64, "not-newer"
    convicts: bool = sender != (state >> CLOSER) & 1 or (numbers >> 128) & M64 > state >> 184
    if convicts:
        state |= CONVICTED
    self.disputes[name][0] = (state & ~(M64 << at)) | (seq << at)
    transferred: uint256 = self.disputes[name][1]
    self.disputes[name][1] = (transferred & ~LOW) | (numbers & LOW) if sender == 0 else (transferred & LOW) | (numbers << 128)
    log CloseChallenged(channel=name, leaf=index, sender=sender, seq=seq, convicts=convicts)

@external
def settle_close(index: uint256, first: address, second: address, asset: address):
    """Order what came of a close by one side, once its window is over: the operator must, or everything stops, and
    `reclaim_close` pays it out. Anybody may."""
    name: bytes32 = self._name(asset, first, second, index)
    state: uint256 = self.disputes[name][0]
    assert state & 3 == RUNNING, "wrong-status"
    assert block.timestamp > (state >> 16) & M40, "window-open"
    self.disputes[name][0] = (state ^ RUNNING) | ORDERED
    transferred: uint256 = self.disputes[name][1]
    if state & CONVICTED != 0:
        # as if it had given away everything
        transferred = LOW if (state >> CLOSER) & 1 == 0 else LOW << 128
    self._order(SETTLE, asset, index, first, second, transferred & LOW, transferred >> 128)

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
        self.owed[empty(address)][msg.sender] += reward
        self.owed[empty(address)][BURNT] += lost - reward
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
    than what a demand costs: an account of dust is worth dust, and one of a token nothing."""
    self._ended()
    assert self.count > 0, "wrong-status"
    words: uint256[4] = self._shown(self.count - 1, proof, ACCOUNT_TAG)
    total: uint256 = words[1] + words[3]
    if self.late and words[2] >> 64 == 0:
        before: uint256 = self.paid[empty(address)][convert(convert(words[0], uint160), address)]
        assert total > before, "nothing-owed"
        reward: uint256 = min(min(DEMAND_FEE, self.bonded), total - before)
        self.bonded -= reward
        self.owed[empty(address)][msg.sender] += reward
    self._pay_out(words, total)

@internal
@view
def _ordered(index: uint256, entry: uint256[6]) -> address:
    """These are the words of that entry of the list; return its asset."""
    assert keccak256(abi_encode(self._done(index), entry)) == self.queue[index], "bad-proof"
    return convert(convert(entry[0] >> 8, uint160), address)

@external
@nonreentrant
def reclaim(index: uint256, entry: uint256[6]):
    """Give back a deposit that no final batch has."""
    self._ended()
    assert index >= self._queue_end(), "wrong-status"
    asset: address = self._ordered(index, entry)
    assert entry[0] & M8 == DEPOSIT, "bad-proof"
    assert not self.reclaimed[index], "nothing-owed"
    self.reclaimed[index] = True
    self._left(asset, entry[4])
    self._pay(asset, convert(convert(entry[2], uint160), address), entry[4])

@external
def reclaim_close(index: uint256, entry: uint256[6], proof: DynArray[uint256, WITHDRAWAL]):
    """Owe both sides of a channel what is theirs, if the order to close it, of both or of one, is in no final batch."""
    self._ended()
    assert self.count > 0 and index >= self._queue_end(), "wrong-status"
    asset: address = self._ordered(index, entry)
    kind: uint256 = entry[0] & M8
    assert kind >= CLOSE, "bad-proof"
    words: uint256[4] = self._shown(self.count - 1, proof, CHANNEL_TAG)
    assert proof[3] == entry[1], "bad-proof"
    assert words[3] & M8 == OPEN and not self.settled[entry[1]], "nothing-owed"
    balance0: uint256 = entry[4]
    if kind == CLOSE:
        assert words[2] == entry[4] + entry[5], "nothing-owed"
    else:
        plus: uint256 = words[2] + entry[5]
        minus: uint256 = (words[3] >> 8) + entry[4]
        balance0 = 0 if plus <= minus else min(plus - minus, words[2])
    first: address = convert(convert(entry[2], uint160), address)
    second: address = convert(convert(entry[3], uint160), address)
    assert self.numbers[asset][first] == words[0] + 1 and self.numbers[asset][second] == words[1] + 1, "nothing-owed"
    self.settled[entry[1]] = True
    self._left(asset, words[2])
    self.owed[asset][first] += balance0
    self.owed[asset][second] += words[2] - balance0

@external
@view
def terms() -> (address, uint256, uint256, uint256, uint256, uint256):
    """What was agreed when it was made: the operator, the bond, the window, an order's time, an answer's, the fee."""
    return OPERATOR, BOND, WINDOW, ORDER_TIME, ANSWER_TIME, DEMAND_FEE

@external
@view
def domainSeparator() -> bytes32:
    return DOMAIN
