# pragma version 0.4.3
# pragma evm-version cancun
# pragma optimize gas
"""
@title The court of applications between two players
@license Apache-2.0
@notice The rules of docs/apps.md, "In court": what `settlement/contract/court.py` says in Python, in the same order and
    with the same words. Not audited. It holds no coins. Adjudicators ask it by `kept`; it serves all of its chain, as an
    instance names its adjudicator, under whose domain its players sign.
@dev Which contract has the rules of an app is said in the constructor and never again: there is no owner, no upgrade.
    Rules are asked by static calls of bounded gas, and what they do not answer is refused, with all that came before.
"""

struct AppTerms:
    adjudicator: address
    app: bytes32
    start: bytes32
    player0: address
    player1: address
    stake0: uint128
    stake1: uint128
    asset0: address
    asset1: address
    expiry: uint64
    period: uint64
    nonce: uint64

# A state of an instance stands, and decides after `until`.
event AppStands:
    instance: indexed(bytes32)
    number: uint64
    state: Bytes[STATE_MAX]
    move: Bytes[MOVE_MAX]
    signature0: Bytes[64]
    signature1: Bytes[64]
    expiry: uint64
    until: uint64
    paid0: uint128
    paid1: uint128
    time: uint64

event ProofRegistered:
    condition: indexed(bytes32)
    kind: uint8
    proof: Bytes[PROOF_MAX]
    time: uint64

APP: constant(uint8) = 1
STATE_MAX: constant(uint256) = 1_024
MOVE_MAX: constant(uint256) = 512
PROOF_MAX: constant(uint256) = 1_024
PROOF_SIZE: constant(uint256) = 388
PERIOD_LEAST: constant(uint64) = 60
PERIOD_MOST: constant(uint64) = 604_800
# Seconds after the terms' expiry at which an instance is decided at the latest.
COURT_MOST: constant(uint256) = 30 * 86_400
APPS_MAX: constant(uint256) = 64
# What the rules may take for one answer: ten times what those that ship take at most.
RULES_GAS: constant(uint256) = 2_000_000
FINAL: constant(uint256) = 2
LOW: constant(uint256) = 2**128 - 1
M64: constant(uint256) = 2**64 - 1

HALF_ORDER: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168
INSTANCE: constant(bytes32) = keccak256("tallystick app instance")
STAKE: constant(bytes32) = keccak256("tallystick app stake")
DOMAIN: constant(bytes32) = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
STATE: constant(bytes32) = keccak256("AppState(bytes32 instance,uint64 number,bytes32 state)")
OUTCOME: constant(bytes32) = keccak256("AppOutcome(bytes32 instance,uint128 paid0,uint128 paid1)")

CHAIN_ID: immutable(uint256)

# Of a stake, by the condition of its locks: 64 bits each of the expiry of its instance's terms and until when that is
# open (0: an outcome decided), then 128 of how much of it goes to the other player.
kept: public(HashMap[bytes32, uint256])
# Of an instance: 64 bits of the newest number that both signed, then 64 of the number that stands.
numbers: public(HashMap[bytes32, uint256])
# keccak of the state that stands.
states: public(HashMap[bytes32, bytes32])
# The contract with the rules of an app, by its id.
rules: public(HashMap[bytes32, address])

@deploy
def __init__(apps: DynArray[bytes32, APPS_MAX], rules: DynArray[address, APPS_MAX]):
    assert len(apps) == len(rules), "bad-terms"
    for at: uint256 in range(len(apps), bound=APPS_MAX):
        assert self.rules[apps[at]] == empty(address) and rules[at].codesize > 0, "bad-terms"
        self.rules[apps[at]] = rules[at]
    CHAIN_ID = chain.id

# --- what is brought to court -----------------------------------------------------------------------------------

@external
def registerState(t: AppTerms, number: uint64, state: Bytes[STATE_MAX], signature0: Bytes[64], signature1: Bytes[64]):
    """A state that both signed. It replaces what stands, also moves that were made here."""
    rules: address = self._rules(t)
    instance: bytes32 = self._instance(CHAIN_ID, t)
    known: uint256 = self.kept[self._stake(instance, 0)]
    self._check_time(known, t.expiry)
    if known != 0:
        assert convert(number, uint256) > self.numbers[instance] >> 64, "not-newer"
    digest: bytes32 = self._digest(CHAIN_ID, t.adjudicator, keccak256(abi_encode(STATE, instance, number, keccak256(state))))
    self._check(digest, signature0, t.player0)
    self._check(digest, signature1, t.player1)
    self._stand(instance, rules, t, convert(number, uint256), number, state, b"", signature0, signature1)

@external
def moveInCourt(t: AppTerms, state: Bytes[STATE_MAX], move: Bytes[MOVE_MAX], signature: Bytes[64]):
    """A move on the state that stands, with the mover's signature under the state that follows."""
    rules: address = self._rules(t)
    instance: bytes32 = self._instance(CHAIN_ID, t)
    known: uint256 = self.kept[self._stake(instance, 0)]
    assert known != 0, "unknown-entry"
    self._check_time(known, t.expiry)
    numbers: uint256 = self.numbers[instance]
    assert keccak256(state) == self.states[instance] and numbers & M64 != M64, "not-newer"
    mover: uint256 = self._turn(rules, state)
    assert mover != FINAL, "not-allowed"
    after: Bytes[STATE_MAX] = self._valid(rules, state, move, mover, instance)
    number: uint64 = convert((numbers & M64) + 1, uint64)
    digest: bytes32 = self._digest(CHAIN_ID, t.adjudicator, keccak256(abi_encode(STATE, instance, number, keccak256(after))))
    self._check(digest, signature, t.player0 if mover == 0 else t.player1)
    if mover == 0:
        self._stand(instance, rules, t, numbers >> 64, number, after, move, signature, b"")
    else:
        self._stand(instance, rules, t, numbers >> 64, number, after, move, b"", signature)

@external
def registerProof(kind: uint8, condition: bytes32, proof: Bytes[PROOF_MAX]):
    """An outcome that both signed: it decides both stakes, at once. It needs no rules."""
    assert kind == APP, "unknown-call"
    assert len(proof) == PROOF_SIZE, "bad-proof"
    chain_id: uint256 = self._number(proof, 0, 8)
    t: AppTerms = AppTerms(
        adjudicator=self._address(proof, 8), app=extract32(proof, 28), start=extract32(proof, 60),
        player0=self._address(proof, 92), player1=self._address(proof, 112),
        stake0=convert(self._number(proof, 132, 16), uint128), stake1=convert(self._number(proof, 148, 16), uint128),
        asset0=self._address(proof, 164), asset1=self._address(proof, 184),
        expiry=convert(self._number(proof, 204, 8), uint64), period=convert(self._number(proof, 212, 8), uint64),
        nonce=convert(self._number(proof, 220, 8), uint64))
    assert self._is_sound(t), "bad-proof"
    paid0: uint256 = self._number(proof, 228, 16)
    paid1: uint256 = self._number(proof, 244, 16)
    assert paid0 <= convert(t.stake0, uint256) and paid1 <= convert(t.stake1, uint256), "bad-signature"
    instance: bytes32 = self._instance(chain_id, t)
    digest: bytes32 = self._digest(chain_id, t.adjudicator, keccak256(abi_encode(OUTCOME, instance, paid0, paid1)))
    self._check(digest, slice(proof, 260, 64), t.player0)
    self._check(digest, slice(proof, 324, 64), t.player1)
    first: bytes32 = self._stake(instance, 0)
    second: bytes32 = self._stake(instance, 1)
    assert condition == first or condition == second, "bad-proof"
    known: uint256 = self.kept[first]
    self._check_time(known, t.expiry)
    expiry: uint256 = convert(t.expiry, uint256)
    self.kept[first] = (expiry << 192) | paid0
    self.kept[second] = (expiry << 192) | paid1
    log ProofRegistered(condition=condition, kind=kind, proof=proof, time=convert(block.timestamp, uint64))

@internal
def _stand(instance: bytes32, rules: address, t: AppTerms, agreed: uint256, number: uint64, state: Bytes[STATE_MAX], move: Bytes[MOVE_MAX], signature0: Bytes[64], signature1: Bytes[64]):
    """Let a state stand: keep what is paid if nothing follows, and until when something may."""
    ends: bool = self._turn(rules, state) == FINAL
    paid: uint256[2] = self._paid(rules, state, t, ends)
    due: uint256 = 0 if ends else self._due(rules, state)
    expiry: uint256 = convert(t.expiry, uint256)
    until: uint256 = min(max(block.timestamp + convert(t.period, uint256), min(due, expiry)), min(expiry + COURT_MOST, M64))
    self.kept[self._stake(instance, 0)] = (expiry << 192) | (until << 128) | paid[0]
    self.kept[self._stake(instance, 1)] = (expiry << 192) | (until << 128) | paid[1]
    self.numbers[instance] = (agreed << 64) | convert(number, uint256)
    self.states[instance] = keccak256(state)
    log AppStands(instance=instance, number=number, state=state, move=move, signature0=signature0, signature1=signature1, expiry=t.expiry, until=convert(until, uint64), paid0=convert(paid[0], uint128), paid1=convert(paid[1], uint128), time=convert(block.timestamp, uint64))

# --- what the rules say -----------------------------------------------------------------------------------------

@internal
@view
def _turn(rules: address, state: Bytes[STATE_MAX]) -> uint256:
    """Whose turn it is, FINAL if it is nobody's."""
    done: bool = False
    answer: Bytes[32] = b""
    done, answer = raw_call(rules, abi_encode(state, method_id=method_id("turn(bytes)")), max_outsize=32, gas=RULES_GAS, is_static_call=True, revert_on_failure=False)
    assert done and len(answer) == 32, "bad-proof"
    turn: uint256 = convert(answer, uint256)
    assert turn <= FINAL, "bad-proof"
    return turn

@internal
@view
def _valid(rules: address, state: Bytes[STATE_MAX], move: Bytes[MOVE_MAX], mover: uint256, instance: bytes32) -> Bytes[STATE_MAX]:
    """The state that follows."""
    done: bool = False
    answer: Bytes[STATE_MAX + 64] = b""
    done, answer = raw_call(rules, abi_encode(state, move, mover, instance, method_id=method_id("valid(bytes,bytes,uint8,bytes32)")), max_outsize=STATE_MAX + 64, gas=RULES_GAS, is_static_call=True, revert_on_failure=False)
    assert done, "not-allowed"
    return abi_decode(answer, Bytes[STATE_MAX])

@internal
@view
def _paid(rules: address, state: Bytes[STATE_MAX], t: AppTerms, ends: bool) -> uint256[2]:
    """What is paid of each stake if nothing follows: at most the stake."""
    method: Bytes[4] = method_id("outcome(bytes,uint128[2])") if ends else method_id("forfeit(bytes,uint128[2])")
    stakes: uint128[2] = [t.stake0, t.stake1]
    done: bool = False
    answer: Bytes[64] = b""
    done, answer = raw_call(rules, concat(method, abi_encode(state, stakes)), max_outsize=64, gas=RULES_GAS, is_static_call=True, revert_on_failure=False)
    assert done and len(answer) == 64, "bad-proof"
    paid: uint256[2] = [convert(extract32(answer, 0), uint256), convert(extract32(answer, 32), uint256)]
    assert paid[0] <= convert(t.stake0, uint256) and paid[1] <= convert(t.stake1, uint256), "bad-proof"
    return paid

@internal
@view
def _due(rules: address, state: Bytes[STATE_MAX]) -> uint256:
    """The time before which whose turn it is cannot be late."""
    done: bool = False
    answer: Bytes[32] = b""
    done, answer = raw_call(rules, abi_encode(state, method_id=method_id("due(bytes)")), max_outsize=32, gas=RULES_GAS, is_static_call=True, revert_on_failure=False)
    assert done and len(answer) == 32, "bad-proof"
    return convert(answer, uint256)

# --- checks -----------------------------------------------------------------------------------------------------

@internal
@pure
def _is_sound(t: AppTerms) -> bool:
    return t.player0 != t.player1 and t.stake0 | t.stake1 != 0 and PERIOD_LEAST <= t.period and t.period <= PERIOD_MOST

@internal
@view
def _rules(t: AppTerms) -> address:
    """Where the rules of these terms are."""
    assert self._is_sound(t), "bad-terms"
    rules: address = self.rules[t.app]
    assert rules != empty(address), "unknown-entry"
    return rules

@internal
@view
def _check_time(known: uint256, expiry: uint64):
    if known == 0:
        assert block.timestamp <= convert(expiry, uint256), "expired"
    else:
        assert block.timestamp <= (known >> 128) & M64, "window-over"

@internal
@pure
def _check(digest: bytes32, signature: Bytes[64], signer: address):
    """Of 64 bytes, without a recovery id, with low s."""
    assert len(signature) == 64 and signer != empty(address), "bad-signature"
    r: uint256 = convert(extract32(signature, 0), uint256)
    s: uint256 = convert(extract32(signature, 32), uint256)
    assert s <= HALF_ORDER and (ecrecover(digest, 27, r, s) == signer or ecrecover(digest, 28, r, s) == signer), "bad-signature"

@internal
@pure
def _instance(chain_id: uint256, t: AppTerms) -> bytes32:
    return keccak256(abi_encode(INSTANCE, chain_id, t))

@internal
@pure
def _stake(instance: bytes32, player: uint256) -> bytes32:
    """The condition of the locks that are a player's stake."""
    return keccak256(abi_encode(STAKE, instance, player))

@internal
@pure
def _digest(chain_id: uint256, adjudicator: address, struct_hash: bytes32) -> bytes32:
    domain: bytes32 = keccak256(abi_encode(DOMAIN, keccak256("Tallystick"), keccak256("1"), chain_id, adjudicator))
    return keccak256(concat(x"1901", domain, struct_hash))

@internal
@pure
def _number(proof: Bytes[PROOF_MAX], at: uint256, size: uint256) -> uint256:
    return convert(extract32(proof, at), uint256) >> (256 - 8 * size)

@internal
@pure
def _address(proof: Bytes[PROOF_MAX], at: uint256) -> address:
    return convert(convert(self._number(proof, at, 20), uint160), address)
