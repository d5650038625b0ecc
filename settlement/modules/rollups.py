"""Rollups on the ledger: batches that one step proves wrong, bonds that pay for it, and ways out for everybody.

The same rules as `contracts/Rollup.vy`, which docs/rollup.md tells of; what a step does is in `settlement/rollup/`.
Anybody makes a rollup and is its operator. A module does not know its chain, so whoever makes one names the chain whose
signatures count in it: look at it before you deposit. Ways in and out are in `rollup_accounts`, which stands on this.
"""

from __future__ import annotations

from collections.abc import Sequence

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.objects import NATIVE, ZERO32, Address
from tallystick.settlement.errors import Revert, Reverted
from tallystick.settlement.modules.interface import (
    Module,
    ModuleState,
    get_address,
    get_wide,
    put_address,
    put_wide,
    refuse,
)
from tallystick.settlement.rollup.batches import Batch, Judgement, StepProof, judge, proof_of
from tallystick.settlement.rollup.packing import unpack_data
from tallystick.settlement.rollup.rules import Place, StepContext
from tallystick.settlement.rollup.state import BadOpening, RollupState

LAG = 3_600
"""Seconds that a batch's time may be behind the block's."""

FINAL_MAX = 64
"""Batches that one call makes final."""

LEAVE_WINDOWS = 10
"""How many windows after everything stopped the operator gets what is left of its bond, whoever has not left yet."""

DEMANDS_AT_ONCE = 64
"""Demands that may fall due within the time of one answer: of more, each is due that much later."""

BURNT = Address(bytes(18) + b"\xde\xad")
"""Is owed what nobody shall have."""

GENESIS = RollupState().root

ROLLUPS = Module("rollups", "Close, pay and deposit by the thousand: batches, which one step proves wrong.")

ROLLUP_CREATED = ROLLUPS.event("RollupCreated(address operator, uint64 rollup)")
BATCH_POSTED = ROLLUPS.event(
    "BatchPosted(bytes32 steps, uint64 rollup, uint64 number, uint64 serial, uint64 time, uint64 queueEnd, "
    "bytes32 accounts, bytes32 channels, bytes roots, bytes words)"
)
BATCH_CONVICTED = ROLLUPS.event("BatchConvicted(address by, uint64 rollup, uint64 number, uint64 position)")
SIGNATURE_DEMANDED = ROLLUPS.event(
    "SignatureDemanded(address by, uint64 rollup, uint64 number, uint64 position, uint64 deadline)"
)
SIGNATURE_SHOWN = ROLLUPS.event("SignatureShown(address by, uint64 rollup, uint64 number, uint64 position)")


class Books:
    """What the ledger keeps of one rollup."""

    def __init__(self, state: ModuleState, rollup: int) -> None:
        self.state = state
        self.rollup = rollup
        self.prefix = b"r" + rollup.to_bytes(8, "big")

    def get(self, name: bytes) -> int:
        """Return a word."""
        return self.state.get(self.prefix + name)

    def put(self, name: bytes, word: int) -> None:
        """Set a word."""
        self.state.put(self.prefix + name, word)

    def add(self, name: bytes, amount: int) -> None:
        """Add to a word."""
        self.put(name, self.get(name) + amount)

    def hash(self, name: bytes) -> bytes:
        """Return 32 bytes."""
        return get_wide(self.state, self.prefix + name).to_bytes(32, "big")

    def put_hash(self, name: bytes, value: bytes) -> None:
        """Set 32 bytes."""
        put_wide(self.state, self.prefix + name, int.from_bytes(value, "big"))

    def address(self, name: bytes) -> Address:
        """Return an account."""
        return get_address(self.state, self.prefix + name)

    def put_address(self, name: bytes, account: Address) -> None:
        """Set an account."""
        put_address(self.state, self.prefix + name, account)

    @property
    def vault(self) -> Address:
        """Holds the rollup's coins, and names it in signatures: see `vault_of`."""
        made = self.address(b"vault")
        return made if made != NATIVE else ROLLUPS.account_of(self.prefix)  # of a ledger from before names had more

    @property
    def place(self) -> Place:
        """Which rollup it is."""
        return Place(self.get(b"chain"), self.vault)

    @property
    def queue_end(self) -> int:
        """How many entries are done after all batches that stand."""
        count = self.get(b"count")
        return self.get(_batch(count - 1, b"e")) if count else 0

    def done(self, count: int) -> bytes:
        """Return the running hash of the list up to so many entries; zero if it has not so many."""
        return self.hash(entry_key(count - 1)) if 0 < count <= self.get(b"queue") else ZERO32

    @property
    def is_overdue(self) -> bool:
        """Whether an entry should have been carried out, and was not."""
        end = self.queue_end
        return end < self.get(b"queue") and self.state.time > self.get(due_key(end))

    @property
    def root(self) -> bytes:
        """After all batches that stand."""
        count = self.get(b"count")
        return self.hash(_batch(count - 1, b"r")) if count else GENESIS

    def owe(self, account: Address, amount: int, asset: Address = NATIVE) -> None:
        """Keep coins or tokens for an account to claim."""
        self.add(owner_key(b"o", account, asset), amount)

    def number_of(self, owner: Address, asset: Address) -> int:
        """Return the number of an owner's account of an asset, plus 1; 0 if there is none."""
        return self.get(owner_key(b"a", owner, asset))

    def finalise(self) -> None:
        """Make batches final whose window is over and of which no signature is wanting, in their order."""
        final, count = self.get(b"final"), self.get(b"count")
        for _ in range(FINAL_MAX):
            if final >= count or self.get(_batch(final, b"d")):
                break
            if self.state.time <= self.get(_batch(final, b"p")) + self.get(b"window"):
                break
            final += 1
        self.put(b"final", final)

    def check_standing(self, number: int) -> None:
        """Raise Reverted unless a batch can still be convicted."""
        stands = self.get(b"final") <= number < self.get(b"count")
        refuse(not stands, Revert.WRONG_STATUS, f"batch {number} is final, or does not stand")

    def judged(self, number: int, words: list[int]) -> tuple[StepProof, Judgement]:
        """Return a proof of a batch's step, and what is so of it; raise Reverted if nothing follows from it."""
        try:
            proof = proof_of(words)
            context = StepContext(self.place, self.get(_batch(number, b"t")), self.get(_batch(number, b"e")))
            then = self.done(proof.head + 1) if proof.head < context.queue_end else ZERO32
            return proof, judge(proof, self.hash(_batch(number, b"s")), context, self.done(proof.head), then)
        except (BadOpening, InvalidInput) as error:
            raise Reverted(Revert.BAD_PROOF, str(error)) from error

    def convict(self, number: int, position: int, by: Address) -> None:
        """Drop a batch and all after it; half of the bond is `by`'s, half is burnt."""
        bonded = self.get(b"bonded")
        self.put(b"count", number)
        self.put(b"bonded", 0)
        self.owe(by, bonded // 2)
        self.owe(BURNT, bonded - bonded // 2)
        self.state.emit(BATCH_CONVICTED, by, self.rollup, number, position)

    def demand(self, number: int, position: int) -> bytes:
        """Return where a demand is kept: another batch under the same number has others."""
        return demand_key(self.get(_batch(number, b"n")), position)


def _batch(number: int, name: bytes) -> bytes:
    return b"b" + number.to_bytes(8, "big") + name


def owner_key(name: bytes, owner: Address, asset: Address) -> bytes:
    """Return where something of an owner's and of an asset is kept."""
    return name + owner + (asset if asset != NATIVE else b"")


def due_key(index: int) -> bytes:
    """Return where is kept until when an entry must be done."""
    return b"u" + index.to_bytes(32, "big")


def entry_key(index: int) -> bytes:
    """Return where the running hash of the list up to an entry is kept, the entry included."""
    return b"q" + index.to_bytes(32, "big")


def root_key(number: int) -> bytes:
    """Return where the root after a batch is kept."""
    return _batch(number, b"r")


def demand_key(serial: int, position: int) -> bytes:
    """Return where a demand for a step's signatures is kept."""
    return b"d" + serial.to_bytes(8, "big") + position.to_bytes(8, "big")


def vault_of(rollup: int, operator: Address, terms: Sequence[int]) -> Address:
    """Return the account that names a rollup, by its number, its operator, and the six numbers it was made with.

    Where a reorganisation undoes a rollup, whoever gets its number next has another vault: nothing that was signed for
    the first one counts there. The same operator's transaction, mined again, makes the same rollup.
    """
    numbers = b"".join(number.to_bytes(32, "big") for number in terms)
    return ROLLUPS.account_of(b"r" + rollup.to_bytes(8, "big") + operator + numbers)


def open_named(state: ModuleState, rollup: int, vault: Address) -> Books:
    """Return what is kept of a rollup that a caller pays into; raise Reverted if it is not the one that is meant."""
    books = open_books(state, rollup)
    other = vault != books.vault
    refuse(other, Revert.UNKNOWN_ENTRY, f"rollup {rollup} is not 0x{vault.hex()}: look at it again before you pay")
    return books


def open_books(state: ModuleState, rollup: int) -> Books:
    """Return what is kept of a rollup; raise Reverted if there is none of that number."""
    refuse(rollup >= state.get(b"rollups"), Revert.UNKNOWN_ENTRY, f"there is no rollup {rollup}")
    return Books(state, rollup)


@ROLLUPS.function(
    "createRollup(uint64 chainId, uint128 bond, uint64 window, uint64 orderTime, uint64 answerTime, uint128 demandFee)",
    "uint64 rollup",
    gas=200_000,
)
def create_rollup(
    state: ModuleState, chain_id: int, bond: int, window: int, order_time: int, answer_time: int, demand_fee: int
) -> tuple[int]:
    """Make a rollup whose operator the caller is. Times are in seconds, the bond and the fee in the native coin."""
    refuse(bond == 0 or window == 0, Revert.BAD_TERMS, "a rollup has a bond and a window")
    rollup = state.get(b"rollups")
    state.put(b"rollups", rollup + 1)
    books = Books(state, rollup)
    books.put_address(b"operator", state.caller)
    numbers = (chain_id, bond, window, order_time, answer_time, demand_fee)
    for name, number in zip((b"chain", b"bond", b"window", b"order", b"answer", b"fee"), numbers, strict=True):
        books.put(name, number)
    books.put_address(b"vault", vault_of(rollup, state.caller, numbers))
    state.emit(ROLLUP_CREATED, state.caller, rollup)
    return (rollup,)


@ROLLUPS.view(
    "rollup(uint64 rollup)",
    "address operator, address vault, uint64 chainId, uint128 bond, uint64 window, uint64 orderTime, "
    "uint64 answerTime, uint128 demandFee, uint128 bonded, uint64 count, uint64 finalCount, uint64 queueLength, "
    "bytes32 root, uint64 frozen",
)
def rollup(state: ModuleState, rollup: int) -> tuple[object, ...]:
    """Return what a rollup is, and where it stands; `frozen` is when everything stopped, zero while it runs."""
    books = open_books(state, rollup)
    names = (b"chain", b"bond", b"window", b"order", b"answer", b"fee", b"bonded", b"count", b"final", b"queue")
    numbers = [books.get(name) for name in names]
    return (books.address(b"operator"), books.vault, *numbers, books.root, books.get(b"frozen"))


@ROLLUPS.function("bond(uint64 rollup, address vault, uint128 amount)", gas=40_000)
def bond(state: ModuleState, rollup: int, vault: Address, amount: int) -> tuple[()]:
    """Pay into the operator's bond. Anybody may."""
    books = open_named(state, rollup, vault)
    state.take(NATIVE, amount, books.vault)
    books.add(b"bonded", amount)
    return ()


@ROLLUPS.function("unbond(uint64 rollup)", gas=60_000)
def unbond(state: ModuleState, rollup: int) -> tuple[()]:
    """The operator takes its bond back, once all its batches are final and nobody's coins are left in the rollup.

    Ten windows after everything stopped it gets what is left of it all the same.
    """
    books = open_books(state, rollup)
    refuse(state.caller != books.address(b"operator"), Revert.NOT_ALLOWED, "the bond is the operator's")
    books.finalise()
    refuse(books.get(b"final") != books.get(b"count"), Revert.WINDOW_OPEN, "a batch can still be convicted")
    frozen, window = books.get(b"frozen"), books.get(b"window")
    over = frozen > 0 and state.time > frozen + LEAVE_WINDOWS * window
    refuse(books.get(b"deposited") > 0 and not over, Revert.WRONG_STATUS, "not everybody has left the rollup")
    books.owe(state.caller, books.get(b"bonded"))
    books.put(b"bonded", 0)
    return ()


@ROLLUPS.function(
    "post(uint64 rollup, uint64 time, uint64 queueEnd, bytes32 accounts, bytes32 channels, bytes roots, bytes words)",
    "uint64 number",
    gas=200_000,
    gas_per_byte=16,
)
def post(
    state: ModuleState,
    rollup: int,
    time: int,
    queue_end: int,
    accounts: bytes,
    channels: bytes,
    roots: bytes,
    words: bytes,
) -> tuple[int]:
    """Post a batch: the root before and after each step, and the words of all, by columns and deflated."""
    books = open_books(state, rollup)
    refuse(state.caller != books.address(b"operator"), Revert.NOT_ALLOWED, "only the operator posts batches")
    refuse(bool(books.get(b"frozen")), Revert.WRONG_STATUS, "the rollup is frozen")
    refuse(books.get(b"bonded") < books.get(b"bond"), Revert.INSUFFICIENT_BALANCE, "the bond is not paid in")
    number, length = books.get(b"count"), books.get(b"queue")
    earlier = books.get(_batch(number - 1, b"t")) if number else 0
    late = not earlier <= time <= state.time <= time + LAG
    refuse(late, Revert.EXPIRED, f"a batch's time is at most {LAG} seconds ago, and not before the last one's")
    refuse(not books.queue_end <= queue_end <= length, Revert.BAD_BATCH, "the list has no such end")
    overdue = queue_end < length and state.time > books.get(due_key(queue_end))
    refuse(overdue, Revert.OVERDUE, f"entry {queue_end} of the list is overdue, and the batch leaves it out")
    try:
        batch = Batch(time, queue_end, accounts, channels, unpack_data(roots, words))
        batch.check_form(books.done(queue_end))
    except InvalidInput as error:
        raise Reverted(Revert.BAD_BATCH, str(error)) from error
    refuse(batch.data[:32] != books.root, Revert.BAD_BATCH, "the batch does not begin where the last one ends")
    serial = books.get(b"serials") + 1
    books.put(b"serials", serial)
    facts = {b"p": state.time, b"t": time, b"e": queue_end, b"c": batch.count, b"n": serial, b"d": 0}
    for name, word in facts.items():
        books.put(_batch(number, name), word)
    steps = batch.steps_root
    books.put_hash(_batch(number, b"s"), steps)
    books.put_hash(_batch(number, b"r"), batch.root)
    books.put(b"count", number + 1)
    books.finalise()
    state.emit(BATCH_POSTED, steps, rollup, number, serial, time, queue_end, accounts, channels, roots, words)
    return (number,)


@ROLLUPS.function("finalise(uint64 rollup)", gas=100_000)
def finalise(state: ModuleState, rollup: int) -> tuple[()]:
    """Count what is final, and keep it: a call that wants all to be final cannot, where more wait than one counts."""
    open_books(state, rollup).finalise()
    return ()


@ROLLUPS.function("convict(uint64 rollup, uint64 number, uint256[] proof)", gas=150_000, gas_per_byte=16)
def convict(state: ModuleState, rollup: int, number: int, proof: list[int]) -> tuple[()]:
    """Show a wrong step of a batch that is not final; half of the bond is the caller's."""
    books = open_books(state, rollup)
    books.finalise()
    books.check_standing(number)
    shown, found = books.judged(number, proof)
    refuse(not found.fault, Revert.STEP_RIGHT, f"step {shown.position} is right")
    books.convict(number, shown.position, state.caller)
    return ()


@ROLLUPS.function("demand(uint64 rollup, address vault, uint64 number, uint64 position)", gas=80_000)
def demand(state: ModuleState, rollup: int, vault: Address, number: int, position: int) -> tuple[()]:
    """Ask for the signatures of a step, for a fee: if nobody shows them in time, the batch can be convicted."""
    books = open_named(state, rollup, vault)
    books.finalise()
    books.check_standing(number)
    over = state.time > books.get(_batch(number, b"p")) + books.get(b"window")
    refuse(over, Revert.WINDOW_OVER, f"the window of batch {number} is over")
    refuse(position >= books.get(_batch(number, b"c")), Revert.BAD_PROOF, f"batch {number} has no step {position}")
    key = books.demand(number, position)
    refuse(books.address(key + b"a") != NATIVE, Revert.ALREADY_REGISTERED, "these signatures were demanded before")
    state.take(NATIVE, books.get(b"fee"), books.vault)
    wait = books.get(b"answer")
    deadline = max(state.time + wait, books.get(b"due") + wait // DEMANDS_AT_ONCE)
    books.put(b"due", deadline)
    books.put_address(key + b"a", state.caller)
    books.put(key + b"n", number)
    books.put(key + b"t", deadline)
    books.add(_batch(number, b"d"), 1)
    state.emit(SIGNATURE_DEMANDED, state.caller, rollup, number, position, deadline)
    return ()


@ROLLUPS.function(
    "answer(uint64 rollup, uint64 number, uint256[] proof, bytes signatures)", gas=150_000, gas_per_byte=16
)
def answer(state: ModuleState, rollup: int, number: int, proof: list[int], signatures: bytes) -> tuple[()]:
    """Show what was demanded: the step's signatures, of 64 bytes each. Anybody may.

    Half of the fee is the operator's, half is burnt: one that demands its own steps pays for it.
    """
    books = open_books(state, rollup)
    books.check_standing(number)
    shown, found = books.judged(number, proof)
    refuse(bool(found.fault), Revert.STEP_WRONG, f"step {shown.position} is wrong: {found.fault}")
    key = books.demand(number, shown.position)
    refuse(not books.get(key + b"t"), Revert.NOTHING_OWED, "nobody waits for these signatures")
    for at, statement in enumerate(found.statements):
        good = statement.is_signed(signatures[64 * at : 64 * at + 64])
        refuse(not good, Revert.BAD_SIGNATURE, f"signature {at} is not that of 0x{statement.signer.hex()}")
    books.put(key + b"t", 0)
    books.add(_batch(number, b"d"), -1)
    fee = books.get(b"fee")
    books.owe(books.address(b"operator"), fee // 2)
    books.owe(BURNT, fee - fee // 2)
    state.emit(SIGNATURE_SHOWN, state.caller, rollup, number, shown.position)
    return ()


@ROLLUPS.function("silence(uint64 rollup, uint64 number, uint64 position)", gas=100_000)
def silence(state: ModuleState, rollup: int, number: int, position: int) -> tuple[()]:
    """Convict a batch of which signatures were demanded and not shown in time; whoever demanded them is paid."""
    books = open_books(state, rollup)
    books.check_standing(number)
    key = books.demand(number, position)
    deadline, by = books.get(key + b"t"), books.address(key + b"a")
    refuse(not deadline, Revert.NOTHING_OWED, "nobody waits for these signatures")
    refuse(state.time <= deadline, Revert.WINDOW_OPEN, f"they may be shown until {deadline}")
    books.put(key + b"t", 0)
    books.owe(by, books.get(b"fee"))
    books.convict(number, position, by)
    return ()


@ROLLUPS.function("refund(uint64 rollup, uint64 serial, uint64 position)", gas=60_000)
def refund(state: ModuleState, rollup: int, serial: int, position: int) -> tuple[()]:
    """Give back the fee of a demand whose batch does not stand any more."""
    books = open_books(state, rollup)
    key = demand_key(serial, position)
    refuse(not books.get(key + b"t"), Revert.NOTHING_OWED, "nobody waits for these signatures")
    number = books.get(key + b"n")
    stands = number < books.get(b"count") and books.get(_batch(number, b"n")) == serial
    refuse(stands, Revert.WINDOW_OPEN, "the batch stands")
    books.put(key + b"t", 0)
    books.owe(books.address(key + b"a"), books.get(b"fee"))
    return ()
