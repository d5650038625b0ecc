"""Mutants of the machine of one channel. How they are used is in `run`."""

from __future__ import annotations

from mutant import FORWARDING, SIMULATIONS, Mutant

MUTANTS = (
    Mutant(
        "acknowledge without a place in the journal",
        "channels/session/receiver.py",
        "effects.store(UpdateReceived(session.channel.id, message.seq, before.next_payment, count, frame, now))",
        "channel",
        SIMULATIONS,
    ),
    Mutant(
        "cancel an expired lock whose secret was registered in time",
        "channels/session/timing.py",
        "        secret = chain.registered_in_time(lock)\n",
        "        secret = None\n",
        ("test_simulation_mallory.py",),
    ),
    Mutant(
        "spend a deposit before the peer's reserve follows it",
        "channels/session/counting.py",
        "min(channel.deposits[channel.side], channel.counted)",
        "channel.deposits[channel.side]",
        ("test_reserve_follows.py", "test_session_machine.py"),
    ),
    Mutant(
        "count what the peer says behind what it may have signed before",
        "channels/session/counting.py",
        "session.channel.theirs.seq >= self._waiting[0]",
        "self._waiting[0] >= 0",
        ("test_reserve_follows.py",),
    ),
    Mutant(
        "let a channel that is proposed anew forget that the peer has greeted",
        "channels/session/resync.py",
        "session.ready = old.ready",
        "session.ready = False",
        ("test_openings_end.py",),
    ),
    Mutant(
        "answer a greeting about a failed opening as if it had been a channel",
        "channels/session/machine.py",
        "Fault.UNKNOWN_CHANNEL if anew else Fault.WRONG_PHASE",
        "Fault.WRONG_PHASE",
        ("test_openings_end.py",),
    ),
    Mutant(
        "close at our cost for a peer that has lost nothing",
        "channels/session/resync.py",
        "if session.ready and not session.peer_behind and not session.streams.forgotten:",
        "if False:",
        ("test_close_requests.py",),
    ),
    Mutant(
        "prune what tells the locks of older states",
        "channels/session/history.py",
        "max(session.history, LOCK_HISTORY) if locks else session.history",
        "session.history",
        ("test_channel_history.py",),
    ),
    Mutant(
        "send a stream's link before it is stored",
        "channels/session/streams.py",
        "            self._save(self._session.channel.side, stream.lock, stream.proof)\n\n    def _say",
        "\n    def _say",
        ("test_streams_session.py",),
    ),
    Mutant(
        "acknowledge a link that is not stored",
        "channels/session/streams.py",
        "self._save(self._session.channel.peer_side, stream.lock, stream.proof)",
        "pass",
        ("test_streams_session.py",),
    ),
    Mutant(
        "go on with a stream until it expires",
        "channels/session/streams.py",
        "return self._session.chain.now > expiry - self._session.policy.stream_margin",
        "return self._session.chain.now > expiry",
        ("test_streams_session.py", "test_streams_world.py"),
    ),
    Mutant(
        "take an unlock for less than the deepest link",
        "channels/session/streams.py",
        "operation.amount < stream.proof.amount:",
        "operation.amount < 0:",
        ("test_streams_session.py", "test_streams_hostile.py"),
    ),
    Mutant(
        "let an older link replace a deeper one",
        "channels/session/streams.py",
        "        if message.depth <= stream.depth:\n            stream.must_ack = True\n"
        "        elif not self._is_late_to_claim(stream):\n            before = stream.waiting or stream.proof\n"
        "            proof = StreamProof(message.link, message.depth, stream.terms)\n"
        "            if message.depth > before.depth:\n                if not proof.follows(before):\n",
        "        if message.depth == stream.depth:\n            stream.must_ack = True\n"
        "        elif not self._is_late_to_claim(stream):\n            before = stream.waiting or stream.proof\n"
        "            proof = StreamProof(message.link, message.depth, stream.terms)\n"
        "            if message.depth != before.depth:\n"
        "                if message.depth > before.depth and not proof.follows(before):\n",
        ("test_streams_session.py", "test_streams_hostile.py"),
    ),
    Mutant(
        "take links of a stream that was rejected",
        "channels/session/streams.py",
        "return channel.phase is Phase.OPEN and not rejected",
        "return channel.phase is Phase.OPEN",
        ("test_streams_session.py", "test_streams_hostile.py"),
    ),
    Mutant(
        "claim only once the peer has acknowledged that it was paid",
        "channels/session/locks.py",
        "            self._store(self.keeper.secret_learned(channel, lock, secret))\n",
        "            pass\n",
        FORWARDING,
    ),
    Mutant(
        "sign an outgoing lock without its circuit",
        "channels/session/locks.py",
        "                    self._session.effects.store(companion)\n",
        "                    pass\n",
        FORWARDING,
    ),
    Mutant(
        "store a circuit before its lock is signed",
        "channels/session/locks.py",
        "            self._companions[lock] = companion\n",
        "            self._session.effects.store(companion)\n",
        FORWARDING,
    ),
    Mutant(
        "forget the onion of a pending lock",
        "channels/session/locks.py",
        "            self._session.effects.store(OnionKept(channel, added.lock.id, added.onion))\n",
        "            pass\n",
        FORWARDING,
    ),
    Mutant(
        "look only at the newest state for secrets that the chain shows",
        "channels/session/locks.py",
        "        for state in (channel.ours, *channel.flight):\n",
        "        for state in [channel.flight[-1] if channel.flight else channel.ours]:\n",
        FORWARDING,
    ),
    Mutant(
        "ask the chain until a time that it cannot tell",
        "channels/session/streams.py",
        "if expiry > UINT64_MAX:",
        "if False:",
        ("test_control_faults.py",),
    ),
    Mutant(
        "set a lock's expiry by one block that is dated wrong",
        "channels/session/chaintime.py",
        "        return min(self.now, self.final + LEAD) if self.final else self.now\n",
        "        return self.now\n",
        ("test_chain_future.py",),
    ),
    Mutant(
        "let an offer to close live for days because one block is dated wrong",
        "channels/session/negotiation.py",
        "offers.closing_statement(channel, session.chain.sure + session.policy.offer_lifetime)",
        "offers.closing_statement(channel, session.chain.now + session.policy.offer_lifetime)",
        ("test_chain_future.py",),
    ),
    Mutant(
        "let a withdrawal live for days because one block is dated wrong",
        "channels/session/negotiation.py",
        "    valid_until = session.chain.sure + session.policy.offer_lifetime\n",
        "    valid_until = session.chain.now + session.policy.offer_lifetime\n",
        ("test_chain_future.py",),
    ),
    Mutant(
        "let a peer begin our patience anew by dropping the link",
        "channels/session/patience.py",
        "or self._together > CONNECTIONS * self.bound",
        "or False",
        ("test_session_patience.py",),
    ),
    Mutant(
        "show what waits to be signed as free to be signed",
        "channels/session/view.py",
        "core.capacity(self.channel, self.funding) - reserve - self.queued)",
        "core.capacity(self.channel, self.funding) - reserve)",
        ("test_channel_view.py",),
    ),
    Mutant(
        "show a channel whose peer holds back acknowledgements as one that takes locks",
        "channels/session/view.py",
        "return self.ready and not self.stuck",
        "return self.ready",
        ("test_session_patience.py", "test_channel_view.py"),
    ),
    Mutant(
        "show a channel of a chain that is lost as one that can be paid in",
        "channels/session/view.py",
        "return not self.lost and Headroom.of(self.channel).payable",
        "return Headroom.of(self.channel).payable",
        ("test_channel_view.py",),
    ),
    Mutant(
        "number the next lock without those that wait",
        "channels/session/view.py",
        "self.channel.newest.next_lock + self.queued_locks",
        "self.channel.newest.next_lock",
        ("test_channel_view.py",),
    ),
)
