"""Leaving out of a recording what nobody else may have, so that it still can be lived through by the real rules.

    secrets      of a hash lock: a stand-in that is made of its condition, and the condition made anew of the stand-in
    streams      another chain of the same length, from a stand-in of its tip, and the condition from that
    outcomes     of apps: that of another instance, of players who are nobody, which pays the same (`outcomes`)
    signatures   one value for those that held, another for one that did not
    memos, reasons, onions, idempotency keys: their length alone

So hashes still fit what they are hashed from, and nothing that is left can be turned back. Names of fields decide, as
for what is shown (`values.discretion`).
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Any, TypeVar, cast

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol import apps
from tallystick.channels.protocol.conditions import BY_COURT, digest_of
from tallystick.channels.protocol.eip712 import locks_root
from tallystick.channels.protocol.hashchain import PROOF_SIZE, TERMS_SIZE, HashChain, StreamProof, StreamTerms, walk
from tallystick.channels.protocol.messages import Links, LinksHeld
from tallystick.channels.protocol.objects import ZERO32, BalanceProof, Lock
from tallystick.channels.protocol.simplex import Simplex
from tallystick.channels.session.recording.document import PaidStream
from tallystick.channels.session.recording.outcomes import StandInApp
from tallystick.channels.session.recording.snapshots import BAD, GOOD

SIGNATURES = frozenset({"signature", "countersignature", "peer_signature"})
BLANKED = frozenset({"memo", "memos", "reason"})

T = TypeVar("T")


def stand_in(secret_of: bytes) -> bytes:
    """Return what stands for the secret of a condition, or for the seed of a tip."""
    return hashlib.sha256(b"tallystick recording" + secret_of).digest()


class Redactor:
    """Replaces secrets in all parts of one recording alike. Tell it of all streams and outcomes (`learn`) first."""

    def __init__(self) -> None:
        self._streams: dict[bytes, StreamTerms] = {}
        self._chains: dict[bytes, HashChain] = {}
        self._expiries: dict[bytes, int] = {}
        """Of locks, by condition."""
        self._conditions: dict[bytes, bytes] = {}
        self._apps: dict[apps.AppTerms, StandInApp] = {}
        self._keys: dict[str, str] = {}
        self._roots: dict[bytes, bytes] = {ZERO32: ZERO32}
        self.holds = True
        """Whether signatures are such that hold."""

    # --- what there is --------------------------------------------------------------------------------------------

    def learn(self, value: Any) -> None:
        """Find the streams in a value, whose terms say of which chain a link is, and what apps' stakes are of."""
        if isinstance(value, PaidStream):
            self.know(StreamTerms(value.seed, value.unit, value.length))
        if isinstance(value, (Lock, PaidStream)):
            self._expiries[value.condition] = value.expiry
        if isinstance(value, msgspec.Struct):
            for name in value.__struct_fields__:
                self.learn(getattr(value, name))
        elif isinstance(value, (tuple, list)) and value and not isinstance(value[0], int):
            for item in value:
                self.learn(item)
        elif isinstance(value, bytes) and len(value) in (TERMS_SIZE, PROOF_SIZE):
            try:
                self.know(StreamTerms.decode(value[-TERMS_SIZE:]))
            except InvalidInput:
                return
        elif isinstance(value, bytes) and len(value) == apps.PROOF_SIZE:
            with suppress(InvalidInput):
                self._conditions |= self._app(apps.OutcomeProof.decode(value).terms).conditions

    def _app(self, terms: apps.AppTerms) -> StandInApp:
        """Return what stands for an instance."""
        if terms not in self._apps:
            self._apps[terms] = StandInApp(terms, stand_in)
        return self._apps[terms]

    def know(self, terms: StreamTerms, expiry: int | None = None) -> None:
        """There is a stream on these terms, with a lock of that expiry."""
        self._streams[terms.encode()] = terms
        if expiry is not None:
            self._expiries[terms.condition(expiry)] = expiry

    # --- what stands for it ---------------------------------------------------------------------------------------

    def chain(self, tip: bytes, length: int) -> HashChain:
        """Return the chain that stands for the one with that tip."""
        name = tip + length.to_bytes(8, "big")
        if name not in self._chains:
            self._chains[name] = HashChain.built(stand_in(tip), length)
        return self._chains[name]

    def terms(self, terms: StreamTerms) -> StreamTerms:
        """Return the terms over that chain."""
        return StreamTerms(self.chain(terms.tip, terms.length).tip, terms.unit, terms.length)

    def condition(self, condition: bytes) -> bytes:
        """Return what stands for the condition of a lock."""
        if condition not in self._conditions:
            expiry = self._expiries.get(condition, 0)
            fitting = [terms for terms in self._streams.values() if terms.condition(expiry) == condition]
            made = self.terms(fitting[0]).condition(expiry) if fitting else digest_of(stand_in(condition))
            self._conditions[condition] = made
        return self._conditions[condition]

    def proof(self, proof: bytes) -> bytes:
        """Return what stands for a secret, or the proof of a stream or of an app's outcome. A wrong one stays wrong.

        The word of the court is no secret, and stays.
        """
        if proof == BY_COURT:
            return proof
        if len(proof) == apps.PROOF_SIZE:
            try:
                outcome = apps.OutcomeProof.decode(proof)
            except InvalidInput:
                return bytes(len(proof))
            return self._app(outcome.terms).outcome(outcome).encode()
        if len(proof) == PROOF_SIZE:
            try:
                claim = StreamProof.decode(proof)
            except InvalidInput:
                return bytes(len(proof))
            link = self._link(claim.terms, claim.depth) if claim.holds() else bytes(32)
            return StreamProof(link, claim.depth, self.terms(claim.terms)).encode()
        return stand_in(digest_of(proof)) if len(proof) == 32 else bytes(len(proof))

    def _link(self, terms: StreamTerms, depth: int) -> bytes:
        return self.chain(terms.tip, terms.length).link(depth)

    def _said(self, link: bytes, depth: int) -> bytes:
        for terms in self._streams.values():
            if 0 <= depth <= terms.length and walk(link, depth) == terms.tip:
                return self._link(terms, depth)
        return bytes(len(link))

    def onion(self, onion: bytes) -> bytes:
        """Return what stands for an onion: the terms of a stream are one, too."""
        try:
            return self.terms(StreamTerms.decode(onion)).encode()
        except InvalidInput:
            return bytes(len(onion))

    # --- values ---------------------------------------------------------------------------------------------------

    def redact(self, value: T) -> T:
        """Return a value without secrets."""
        found: Any = value
        if isinstance(found, Simplex):
            found = self._simplex(found)
        elif isinstance(found, BalanceProof):
            found = _replaced(found, locks_root=self._roots.get(found.locks_root, found.locks_root))
        elif isinstance(found, (Links, LinksHeld)):
            found = _replaced(found, link=self._said(found.link, found.depth))
        elif isinstance(found, msgspec.Struct):
            names = found.__struct_fields__
            found = _replaced(found, **{name: self._field(name, getattr(found, name)) for name in names})
        elif isinstance(found, (tuple, list)) and found and not isinstance(found[0], int):
            found = type(found)(self.redact(item) for item in found)
        elif isinstance(found, bytes) and len(found) == PROOF_SIZE:
            found = self.proof(found)  # of a stream, in a list of such
        return cast(T, found)

    def _field(self, name: str, value: Any) -> Any:
        if name in BLANKED:
            return bytes(len(value)) if isinstance(value, bytes) else tuple(bytes(len(item)) for item in value)
        if name == "key" and value:
            return self._keys.setdefault(value, f"key {len(self._keys)}")
        if not isinstance(value, bytes) or not value:
            return self.redact(value)
        if name in SIGNATURES:
            return GOOD if self.holds else BAD
        made = {"secret": self.proof, "proof": self.proof, "onion": self.onion, "condition": self.condition}.get(name)
        return stand_in(value) if name == "seed" else self.redact(value) if made is None else made(value)

    def _simplex(self, simplex: Simplex) -> Simplex:
        locks = self.redact(simplex.locks)
        self._roots[simplex.proof.locks_root] = locks_root(locks) if locks else ZERO32
        return cast(Simplex, _replaced(simplex, proof=self.redact(simplex.proof), locks=locks))


def _replaced(value: Any, **changes: Any) -> Any:
    changed = {name: new for name, new in changes.items() if new is not getattr(value, name)}
    return msgspec.structs.replace(value, **changed) if changed else value
