"""What the application answers to each of ABCI's requests, as messages. Pure: no sockets, no clock.

A fault of the ledger's own is raised: a validator that cannot be right must stop, and not vote. Vote extensions are not
used: none is made, and a vote that has one is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tallystick.channels.errors import InvalidInput
from tallystick.settlement.errors import TransactionRefused
from tallystick.settlement.modules.validator_blocks import BlockVote, Offence
from tallystick.settlement.replicated.application import Application
from tallystick.settlement.replicated.decision import Decision, ProposedBlock
from tallystick.settlement.replicated.genesis import APP_VERSION, EvidenceAge
from tallystick.settlement.replicated.schema import MESSAGES, write_response
from tallystick.settlement.replicated.snapshots import FORMAT, read_snapshot
from tallystick.settlement.simulated.journal import encode_value
from tallystick.settlement.simulated.ledger import Execution

ACCEPT, REJECT = 1, 2
"""What is said of proposals and vote extensions."""

_ABSENT, _FOR = 1, 2
"""How a validator voted on a block: not at all, or for it; 3 is a vote for none."""

_RECHECK = 1
_FAILED = 1
"""Code of whatever is refused."""

_TAKE, _ABORT, _RETRY, _REJECT_OFFER, _REJECT_SNAPSHOT = 1, 2, 3, 3, 5
"""What is said of snapshots and their chunks."""


def answer(app: Application, name: str, request: Any) -> bytes:
    """Return the response to a request."""
    return _ANSWERS[name](app, request)


def _echo(app: Application, request: Any) -> bytes:
    return write_response("echo", message=request.message)


def _flush(app: Application, request: Any) -> bytes:
    return write_response("flush")


def _info(app: Application, request: Any) -> bytes:
    return write_response(
        "info",
        data="tallystick",
        app_version=APP_VERSION,
        last_block_height=app.height,
        last_block_app_hash=app.app_hash if app.height else b"",
    )


def _init_chain(app: Application, request: Any) -> bytes:
    powers = {each.pub_key.ed25519: each.power for each in request.validators}
    limits = request.consensus_params.evidence
    evidence = EvidenceAge(limits.max_age_num_blocks, limits.max_age_duration.seconds)
    return write_response(
        "init_chain", app_hash=app.begin(request.app_state_bytes, request.initial_height, powers, evidence)
    )


def _query(app: Application, request: Any) -> bytes:
    """`entry`: one of the state's, by its key."""
    if request.path != "entry":
        return write_response("query", code=_FAILED, log="only `entry` can be asked for")
    value = app.branch.state.get(request.data)
    kept = b"" if value is None else encode_value(value)
    return write_response("query", key=request.data, value=kept, height=app.height)


def _check_tx(app: Application, request: Any) -> bytes:
    try:
        gas = app.check(request.tx, again=request.type == _RECHECK)
    except TransactionRefused as error:
        return write_response("check_tx", code=_FAILED, log=str(error), codespace=str(error.code))
    return write_response("check_tx", gas_wanted=gas)


def _prepare_proposal(app: Application, request: Any) -> bytes:
    return write_response(
        "prepare_proposal", txs=[*app.prepare(_proposed(request, request.local_last_commit), request.max_tx_bytes)]
    )


def _process_proposal(app: Application, request: Any) -> bytes:
    block = _proposed(request, request.proposed_last_commit)
    return write_response("process_proposal", status=ACCEPT if app.accepts(block) else REJECT)


def _finalize_block(app: Application, request: Any) -> bytes:
    decision: Decision = app.finalize(_proposed(request, request.decided_last_commit))
    results = [_result(done) for done in decision.results]
    updates = [
        MESSAGES["ValidatorUpdate"](pub_key=MESSAGES["PublicKey"](ed25519=update.public), power=update.power)
        for update in decision.updates
    ]
    return write_response("finalize_block", tx_results=results, validator_updates=updates, app_hash=decision.app_hash)


def _commit(app: Application, request: Any) -> bytes:
    app.commit()
    return write_response("commit")


def _list_snapshots(app: Application, request: Any) -> bytes:
    listed = [
        MESSAGES["Snapshot"](
            height=each.height, format=FORMAT, chunks=len(each.digests), hash=each.hash, metadata=each.metadata
        )
        for each in app.shelf.snapshots()
    ]
    return write_response("list_snapshots", snapshots=listed)


def _offer_snapshot(app: Application, request: Any) -> bytes:
    offered = request.snapshot
    try:
        snapshot = read_snapshot(offered.height, offered.format, offered.chunks, offered.hash, offered.metadata)
    except InvalidInput:
        return write_response("offer_snapshot", result=_REJECT_OFFER)
    return write_response("offer_snapshot", result=_TAKE if app.offer(snapshot, request.app_hash) else _ABORT)


def _load_snapshot_chunk(app: Application, request: Any) -> bytes:
    found = app.shelf.load(request.height, request.chunk) if request.format == FORMAT else b""
    return write_response("load_snapshot_chunk", chunk=found)


def _apply_snapshot_chunk(app: Application, request: Any) -> bytes:
    """A chunk that is not the one offered is asked for again, of others than who sent it."""
    try:
        if not app.restore(request.index, request.chunk):
            again = {"refetch_chunks": [request.index], "reject_senders": [request.sender]}
            return write_response("apply_snapshot_chunk", result=_RETRY, **again)
    except InvalidInput:
        return write_response("apply_snapshot_chunk", result=_REJECT_SNAPSHOT)
    return write_response("apply_snapshot_chunk", result=_TAKE)


def _extend_vote(app: Application, request: Any) -> bytes:
    return write_response("extend_vote")


def _verify_vote_extension(app: Application, request: Any) -> bytes:
    return write_response("verify_vote_extension", status=REJECT if request.vote_extension else ACCEPT)


_ANSWERS: dict[str, Callable[[Application, Any], bytes]] = {
    "echo": _echo,
    "flush": _flush,
    "info": _info,
    "init_chain": _init_chain,
    "query": _query,
    "check_tx": _check_tx,
    "commit": _commit,
    "list_snapshots": _list_snapshots,
    "offer_snapshot": _offer_snapshot,
    "load_snapshot_chunk": _load_snapshot_chunk,
    "apply_snapshot_chunk": _apply_snapshot_chunk,
    "prepare_proposal": _prepare_proposal,
    "process_proposal": _process_proposal,
    "extend_vote": _extend_vote,
    "verify_vote_extension": _verify_vote_extension,
    "finalize_block": _finalize_block,
}


def _proposed(request: Any, commit: Any) -> ProposedBlock:
    votes = tuple(
        BlockVote(
            vote.validator.address,
            vote.validator.power,
            signed=vote.block_id_flag == _FOR,
            absent=vote.block_id_flag == _ABSENT,
        )
        for vote in commit.votes
    )
    offences = tuple(Offence(each.validator.address, each.height, each.time.seconds) for each in request.misbehavior)
    return ProposedBlock(request.height, request.time.seconds, tuple(request.txs), votes, offences)


def _result(done: Execution | None) -> Any:
    if done is None:
        return MESSAGES["ExecTxResult"](code=_FAILED, log="it has no place in this block")
    return MESSAGES["ExecTxResult"](
        code=0 if done.success else _FAILED, log=done.reason, gas_wanted=done.gas, gas_used=done.gas
    )
