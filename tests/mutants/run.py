"""Breaks the product on purpose, one known failure at a time, and shows that the fast tests notice each.

    python tests/mutants/run.py [NAME …]

A mutant is a small change of text in a copy of the tree; the tests run against the copy. A mutant that survives, or
whose text is no longer there, fails the run. The failures are those that other payment channels and towers have had.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SECONDS = 300
FORWARDING = ("test_forwarding_line.py", "test_session_locks.py")
CHAIN = (
    "test_chain_freshness.py",
    "test_chain_vigil.py",
    "test_chain_checked.py",
    "test_follower_lies.py",
    "test_chain_stale.py",
)
SIMULATIONS = ("test_simulation_campaigns.py", "test_simulation_regressions.py")


@dataclass(frozen=True)
class Mutant:
    """One failure: in which file, what text becomes what, and which tests must notice."""

    name: str
    file: str
    before: str
    after: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "leave a deposit in a channel whose opening had failed on another branch",
        "settlement/enforcement/onchain.py",
        "        restless = [self._brought_back(session) for session in restless]\n",
        "",
        ("test_openings_end.py",),
    ),
    Mutant(
        "keep an urgent transaction out while small ones fill what may be in flight",
        "settlement/sending/nonces.py",
        "    due = due[:room] + [o for o in due[room:] if pays_the_way(o)][: max(0, more)]\n",
        "    due = due[:room]\n",
        ("test_obligations_suppressed.py",),
    ),
    Mutant(
        "take any fee that a receipt tells from what is left of a duty's budget",
        "settlement/sending/rounds.py",
        "        fee = min(receipt.fee, attempt.price * self.gas(obligation.call))",
        "        fee = receipt.fee",
        ("test_obligations_suppressed.py",),
    ),
    Mutant(
        "believe for ever that a duty ended at a block that never was",
        "settlement/sending/obligations.py",
        "    most = math.inf if newest is None else max(newest, head) + AHEAD_MAX\n",
        "    most = math.inf\n",
        ("test_obligations_suppressed.py",),
    ),
    Mutant(
        "wait for a block that only a wrong head told of",
        "settlement/sending/nonces.py",
        "        and not 0 < obligation.again_at - seen.head.number <= AGAIN_MOST\n",
        "        and obligation.again_at <= seen.head.number\n",
        ("test_obligations_suppressed.py",),
    ),
    Mutant(
        "let a tower watch with another one's data",
        "watchtower/daemon.py",
        "            claim_directory(store, ours, said_by_tower(store), str(directory))\n",
        "",
        ("test_store_directory.py",),
    ),
    Mutant(
        "run a copy of a tower beside it",
        "watchtower/daemon.py",
        '            alone.enter_context(hold_identity("tower", ours))\n',
        "",
        ("test_store_directory.py",),
    ),
    Mutant(
        "make all answers of a tower before the first is read",
        "watchtower/appointments.py",
        "ANSWERS_AT_ONCE = 16",
        "ANSWERS_AT_ONCE = 1_000",
        ("test_tower_strangers.py",),
    ),
    Mutant(
        "refuse a whole graph for the least inbound fee of 32 bits",
        "router/pathfinding/imports.py",
        "    return -(2**31) <= number",
        "    return -(2**31) < number",
        ("test_router_inbound.py",),
    ),
    Mutant(
        "take seconds that no float can hold",
        "channels/values/argument_rules.py",
        "FLOAT_BITS = 1_024",
        "FLOAT_BITS = 10**9",
        ("test_arguments_numbers.py",),
    ),
    Mutant(
        "let what one connection makes the web server stumble over end the program",
        "channels/transport/webserver.py",
        "        except Exception:  # whatever",
        "        except ZeroDivisionError:  # whatever",
        ("test_webserver.py",),
    ),
    Mutant(
        "take a log with a damaged header for empty",
        "channels/storage/log_check.py",
        "    if bad:  # SQLite",
        "    if False:  # SQLite",
        ("test_store_damage.py",),
    ),
    Mutant(
        "seal the layout of the tables after they were changed for good",
        "channels/storage/store.py",
        "            install(self._writer, unsealed(self._writer, self.sealed))\n            seal_layout",
        '            self._writer.execute("COMMIT")\n            self._writer.execute("BEGIN")\n'
        "            install(self._writer, unsealed(self._writer, self.sealed))\n            seal_layout",
        ("test_store_damage.py",),
    ),
    Mutant(
        "forget the commits behind a damaged frame of the log",
        "channels/storage/log_check.py",
        "    if commits > 1:",
        "    if False:",
        ("test_store_damage.py",),
    ),
    Mutant(
        "end without a word on Ctrl-C",
        "sdk/cli/app.py",
        '        say("tally: interrupted; what a node was asked to do it may still do", err=True)\n',
        "",
        ("test_cli_words.py",),
    ),
    Mutant(
        "ignore inbound fees",
        "router/pathfinding/inbound.py",
        "return outbound if inbound is None else max(0, outbound + inbound.fee(amount + outbound))",
        "return outbound",
        ("test_router_inbound.py",),
    ),
    Mutant(
        "pay for being allowed to pay",
        "router/pathfinding/inbound.py",
        "max(0, outbound + inbound.fee(amount + outbound))",
        "outbound + inbound.fee(amount + outbound)",
        ("test_router_inbound.py",),
    ),
    Mutant(
        "hope for no discount",
        "router/pathfinding/planner.py",
        "slope, eager=1.0)",
        "slope, eager=0.0)",
        ("test_router_inbound.py",),
    ),
    Mutant(
        "name only the newest invoices by their beginning",
        "sdk/control/lookup_network.py",
        "found = invoices_beginning(node.store, prefix)",
        "found = [one for one in node.invoices(1_000) if one.payment_hash.hex().startswith(prefix)]",
        ("test_control_beginnings.py",),
    ),
    Mutant(
        "forget that a reader knows what is gone",
        "sdk/node/incoming.py",
        'cursor = f"{row.position}.{len(found) + 1}{suffix}"',
        'cursor = f"{row.position}.{len(found) + 1}"',
        ("test_channel_history.py",),
    ),
    Mutant(
        "say of a tower with a full disk that it does not run",
        "sdk/cli/tower.py",
        'holder = "" if found is not None else guarded(lambda: holder_of(data))',
        'holder = ""',
        ("test_control_beginnings.py",),
    ),
    Mutant(
        "print what strangers say as it is",
        "channels/words.py",
        "    if text.isprintable():",
        "    if True:",
        ("test_cli_screen.py",),
    ),
    Mutant(
        "let errors carry what strangers say as it is",
        "channels/errors.py",
        "return plain(super().__str__())",
        "return super().__str__()",
        ("test_cli_screen.py",),
    ),
    Mutant(
        "break figures at the terminal's width",
        "sdk/cli/screen.py",
        "_print(table, width=max(natural, 1) if natural > console.width else None)",
        "_print(table)",
        ("test_cli_screen.py",),
    ),
    Mutant(
        "wait for an absent peer without a word",
        "sdk/cli/patience.py",
        "        nursery.start_soon(_tell, node, name, meanwhile)\n",
        "",
        ("test_cli_words.py",),
    ),
    Mutant(
        "say of a signed payment that it was not made",
        "sdk/node/handle.py",
        "if ticket is not None and not ticket.withdrawn:",
        "if False:",
        ("test_cli_words.py",),
    ),
    Mutant(
        "take words that are no text",
        "sdk/cli/app.py",
        "if _torn(args) else None",
        "if False else None",
        ("test_cli_words.py",),
    ),
    Mutant(
        "leave half of the settings on a full disk",
        "sdk/daemon/configuration.py",
        "        write_new(path, text)",
        '        path.write_text(text, "utf-8")',
        ("test_cli_words.py",),
    ),
    Mutant(
        "open a directory that is another key's",
        "channels/storage/identity.py",
        "if theirs.account is not None and theirs.account != ours.account:",
        "if False:",
        ("test_store_directory.py",),
    ),
    Mutant(
        "open a directory of another chain",
        "channels/storage/identity.py",
        "if theirs.chain_id is not None and theirs.chain_id != ours.chain_id:",
        "if False:",
        ("test_store_directory.py",),
    ),
    Mutant(
        "let a tower open a node's directory",
        "channels/storage/store.py",
        "        _require_known(writer, schemas)\n",
        "",
        ("test_store_directory.py",),
    ),
    Mutant(
        "hold a directory by a file that can be removed",
        "channels/storage/directory.py",
        '            _take(folder, directory, "another process, and its file `lock` was removed")\n',
        "",
        ("test_store_directory.py",),
    ),
    Mutant(
        "run a copy of a directory beside it",
        "sdk/node/node.py",
        '            alone.enter_context(hold_identity("node", ours))',
        "            pass",
        ("test_store_directory.py",),
    ),
    Mutant(
        "rely on damaged rows",
        "channels/storage/store.py",
        "return verify(self._writer, self.sealed)",
        "return []",
        ("test_store_damage.py",),
    ),
    Mutant(
        "rely on damaged tables",
        "channels/storage/store.py",
        "        verify_layout(self._writer)\n        verify_structure(self._writer, self.sealed)\n",
        "",
        ("test_store_damage.py",),
    ),
    Mutant(
        "acknowledge and send before the commit",
        "channels/node/engine.py",
        "self.writer.add(effects.all_moments(), lambda: self._deliver(effects, wires))",
        "self._deliver(effects, wires)\n        self.writer.add(effects.all_moments())",
        SIMULATIONS,
    ),
    Mutant(
        "skip the commit",
        "channels/storage/writer.py",
        "                self.store.commit(due.moments)\n            due.release()",
        "                pass\n            due.release()",
        SIMULATIONS,
    ),
    Mutant(
        "acknowledge without a place in the journal",
        "channels/session/receiver.py",
        "effects.store(UpdateReceived(session.channel.id, message.seq, before.next_payment, count, frame, now))",
        "channel",
        SIMULATIONS,
    ),
    Mutant(
        "forget what is in flight at a restart",
        "channels/node/engine.py",
        "resync.restore_flight(session, schema.load_flight(writer.store, channel))",
        "pass",
        ("test_crashpoints_enumerated.py",),
    ),
    Mutant(
        "take a challenge a second after the window",
        "settlement/contract/adjudicator.py",
        "if situation.time > channel.deadline:",
        "if situation.time > channel.deadline + 1:",
        ("test_adjudicator_rules.py",),
    ),
    Mutant(
        "refuse a challenge in the window's last second",
        "settlement/contract/adjudicator.py",
        "if situation.time > channel.deadline:",
        "if situation.time >= channel.deadline:",
        ("test_adjudicator_rules.py",),
    ),
    Mutant(
        "let a stale proof replace a newer one",
        "settlement/contract/adjudicator.py",
        "if proof.seq <= channel.standing[proof.sender].seq:",
        "if proof.seq == channel.standing[proof.sender].seq:",
        ("test_adjudicator_rules.py",),
    ),
    Mutant(
        "convict a closer for what it never held",
        "settlement/contract/adjudicator.py",
        "convicts = proof.sender != channel.closer or proof.seen > channel.own_seq",
        "convicts = proof.sender != channel.closer or proof.seq > channel.own_seq",
        ("test_simulation_mallory.py",),
    ),
    Mutant(
        "state as seen what was only signed",
        "channels/protocol/core.py",
        "after = extend(before, operations, channel.ours.seq)",
        "after = extend(before, operations, before.proof.seq)",
        ("test_simulation_mallory.py", "test_session_rules.py", "test_core_accept.py"),
    ),
    Mutant(
        "cancel an expired lock whose secret was registered in time",
        "channels/session/timing.py",
        "        secret = chain.registered_in_time(lock)\n",
        "        secret = None\n",
        ("test_simulation_mallory.py",),
    ),
    Mutant(
        "miss a secret that is registered in the expiry's second",
        "settlement/contract/verdicts.py",
        "registered <= lock.expiry",
        "registered < lock.expiry",
        ("test_simulation_mallory.py",),
    ),
    Mutant(
        "let the reserve stay what it was at the opening",
        "channels/protocol/core.py",
        "return max(self.reserve, funding * self.reserve_ppm // 1_000_000)",
        "return self.reserve",
        ("test_reserve_follows.py",),
    ),
    Mutant(
        "ask for a reserve of deposits that the writer does not know of",
        "channels/protocol/core.py",
        "self.funding(self.peer_side) + self.counted - self.taken(self.side)",
        "self.funding(self.peer_side) + self.deposits[self.side] - self.taken(self.side)",
        ("test_reserve_follows.py", "test_session_machine.py"),
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
        "channels/session/resync.py",
        "code = Fault.UNKNOWN_CHANNEL if core.never_used(channel) else Fault.WRONG_PHASE",
        "code = Fault.WRONG_PHASE",
        ("test_openings_end.py",),
    ),
    Mutant(
        "let an opening that the chain refused wait for ever",
        "sdk/node/openings.py",
        "if self._waits(session) and self._onchain.opening_failed(session.channel.id):",
        "if False:",
        ("test_openings_end.py",),
    ),
    Mutant(
        "keep peers' openings for ever",
        "sdk/node/openings.py",
        "self._asked.setdefault(identity, now) + OPENING_SECONDS < now",
        "self._asked.setdefault(identity, now) + OPENING_SECONDS < 0",
        ("test_openings_end.py",),
    ),
    Mutant(
        "take openings of any number of strangers",
        "sdk/node/openings.py",
        "if len(waiting) < STRANGERS_OPENINGS:",
        "if True:",
        ("test_openings_end.py",),
    ),
    Mutant(
        "look at every opening of strangers at each block",
        "settlement/enforcement/onchain.py",
        "return (talk or channel.id in self._confirmed) and timeless(channel)",
        "return channel.id in self._confirmed and timeless(channel)",
        ("test_openings_end.py",),
    ),
    Mutant(
        "let an opener bind the other's coins for a year",
        "sdk/node/openings.py",
        "if terms.challenge_period > policy.challenge_period_max:",
        "if False:",
        ("test_openings_end.py",),
    ),
    Mutant(
        "open with coins that leave nothing for the fee",
        "settlement/enforcement/onchain.py",
        "if coins < max(1, fee):",
        "if coins < 0:",
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
        "look for acknowledgements only when something comes",
        "channels/node/peers.py",
        "wire.look_again = now + LOOK if waits else math.inf",
        "wire.look_again = math.inf",
        ("test_session_patience.py",),
    ),
    Mutant(
        "let anybody make a cooperative close void by a deposit",
        "settlement/contract/adjudicator.py",
        "first = channel.deposits[0] if then == now else situation.shared(then)",
        "first = channel.deposits[0] if then == now else None",
        ("test_cooperative_deposits.py",),
    ),
    Mutant(
        "pay to side 0 what was deposited after a cooperative close was signed",
        "settlement/contract/adjudicator.py",
        "late0 = channel.deposits[0] - first\n",
        "late0 = now - then\n",
        ("test_cooperative_deposits.py",),
    ),
    Mutant(
        "count a closing in the account and in the channel, too",
        "sdk/node/holdings.py",
        "view.status not in (OPEN, CLOSED)",
        "view.status < 0",
        ("test_closing_shown.py",),
    ),
    Mutant(
        "take a deposit into a channel that is about to close",
        "sdk/node/handle.py",
        "self._session.require_payable()\n        await self._node.onchain.require_balance",
        "await self._node.onchain.require_balance",
        ("test_closing_shown.py",),
    ),
    Mutant(
        "advise to deposit more into a channel that is about to close",
        "sdk/control/lookup.py",
        "[channel for channel in candidates if channel.session.payable]",
        "[channel for channel in candidates if channel.phase is Phase.OPEN]",
        ("test_closing_shown.py",),
    ),
    Mutant(
        "let a peer force claims for nothing",
        "router/forwarding/forced_claims.py",
        "if len(self._times.get(peer, ())) < FORCED_MAX:",
        "if True:",
        ("test_forced_claims.py",),
    ),
    Mutant(
        "blame a peer for claims that ran out while we were away",
        "router/forwarding/admission.py",
        "if now > self._looked + ATTENTION:",
        "if now < 0:",
        ("test_forced_claims.py",),
    ),
    Mutant(
        "leave an opening alone that its peer had forgotten when it was mined",
        "sdk/node/openings.py",
        "if state.reserve_ppm and state.newest.proof.seq == state.theirs.seq == 0:",
        "if False:",
        ("test_openings_end.py",),
    ),
    Mutant(
        "count capacity without the pending locks",
        "channels/protocol/core.py",
        "return bearable - channel.newest.committed",
        "return bearable - channel.newest.proof.transferred",
        (*SIMULATIONS, "test_session_rules.py"),
    ),
    Mutant(
        "accept updates without counting the pending locks",
        "channels/protocol/core.py",
        "if after.committed > spendable:",
        "if after.proof.transferred > spendable:",
        ("test_core_accept.py", "test_session_rules.py", "test_engine_hostile.py"),
    ),
    Mutant(
        "open the same channel twice",
        "sdk/node/openings.py",
        "if identity in self._asking or self._onchain.is_opening(identity):",
        "if False:",
        SIMULATIONS,
    ),
    Mutant(
        "give up a duty before what made it moot is confirmed",
        "settlement/enforcement/onchain.py",
        "if self.index.view(identity, self.following.final_number) == view:",
        "if True:",
        SIMULATIONS,
    ),
    Mutant(
        "never defend against an old proof",
        "settlement/enforcement/duties.py",
        "if statement is not None and statement.proof.seq > view.seqs[sender]:",
        "if statement is not None and statement.proof.seq < view.seqs[sender]:",
        ("test_simulation_mallory.py",),
    ),
    Mutant(
        "drop a transaction on an unknown error of the chain node",
        "settlement/sending/obligations.py",
        "        case _:\n            after = change(after, trouble=text)\n",
        "        case _:\n            after = finish(after, Status.SUPERSEDED, text)\n",
        ("test_obligations_core.py", "test_obligations_sender.py"),
    ),
    Mutant(
        "take one claimed nonce for the truth",
        "settlement/sending/nonces.py",
        "return least if len(recent) == heads and least > known else None",
        "return seen.nonce",
        ("test_obligations_lies.py",),
    ),
    Mutant(
        "leave what is bound beyond a gap where it is",
        "settlement/sending/nonces.py",
        "    if len(recent) <= policy.confirmations or base > book.highest_nonce:",
        "    if True:",
        ("test_obligations_lies.py",),
    ),
    Mutant(
        "give a duty up that is refused as malformed",
        "settlement/sending/obligations.py",
        "                if pays(after.call):\n",
        "                if True:\n",
        ("test_obligations_lies.py",),
    ),
    Mutant(
        "take one head of the future for the time",
        "settlement/sending/rounds.py",
        "if obligation.late_heads <= self.policy.confirmations:",
        "if False:",
        ("test_obligations_lies.py",),
    ),
    Mutant(
        "pay again what has no receipt yet",
        "settlement/sending/rounds.py",
        "if pays(obligation.call) and obligation.status in",
        "if False and obligation.status in",
        ("test_obligations_lies.py",),
    ),
    Mutant(
        "believe a receipt that was shown once",
        "settlement/sending/rounds.py",
        "        if not again:  # once is no word",
        "        if False:",
        ("test_obligations_lies.py",),
    ),
    Mutant(
        "let offers rise while nothing can be sent",
        "settlement/sending/rounds.py",
        "        if barred or obligation.status in FINAL",
        "        if obligation.status in FINAL",
        ("test_obligations_lies.py",),
    ),
    Mutant(
        "let gaps cost any number of budgets",
        "settlement/sending/pricing.py",
        "    if cost(high) <= own:",
        "    if True:",
        ("test_obligations_lies.py",),
    ),
    Mutant(
        "pay any price that is claimed once",
        "settlement/sending/rounds.py",
        "seen = change(seen, market=market_of(book))",
        "pass",
        ("test_obligations_lies.py",),
    ),
    Mutant(
        "give a duty up for ever (tower)",
        "watchtower/watch.py",
        "self._sender.pursue(duty, head.number)",
        "self._sender.require(duty)",
        ("test_tower_end_to_end.py",),
    ),
    Mutant(
        "give a duty up for ever (node)",
        "settlement/enforcement/onchain.py",
        "self.sender.pursue(duty, self.index.head_number)",
        "self.sender.require(duty)",
        ("test_sending_world.py",),
    ),
    Mutant(
        "spend on a duty whatever is at stake",
        "settlement/enforcement/budgets.py",
        "    return min(policy.budget, max(share, ordinary))",
        "    return policy.budget",
        ("test_duties_budgets.py",),
    ),
    Mutant(
        "pay more for a claim than it brings",
        "settlement/enforcement/budgets.py",
        "policy.token_budget if asset != NATIVE else 100 * stake // policy.worth_percent",
        "policy.budget",
        ("test_duties_budgets.py",),
    ),
    Mutant(
        "claim in tokens at any cost",
        "settlement/enforcement/budgets.py",
        "        return gas * price <= policy.token_budget",
        "        return True",
        ("test_duties_budgets.py",),
    ),
    Mutant(
        "drop claims at one absurd price",
        "settlement/enforcement/duties.py",
        "situation.stakes.get(lock.condition, 0))\n"
        "        if not is_worth(channel.terms.asset, stake, gas_of(call), situation.lowest,",
        "situation.stakes.get(lock.condition, 0))\n"
        "        if not is_worth(channel.terms.asset, stake, gas_of(call), situation.market,",
        ("test_duties_budgets.py",),
    ),
    Mutant(
        "redeem whatever it costs",
        "settlement/enforcement/duties.py",
        "            if is_worth(channel.terms.asset, stake, gas_of(call), situation.lowest, policy):",
        "            if True:",
        ("test_duties_budgets.py",),
    ),
    Mutant(
        "forget the locks of states that were left behind",
        "settlement/enforcement/onchain.py",
        "                found[sender] = left_behind",
        "                pass",
        ("test_channel_older_states.py",),
    ),
    Mutant(
        "prune what tells the locks of older states",
        "channels/session/history.py",
        "max(session.history, LOCK_HISTORY) if locks else session.history",
        "session.history",
        ("test_channel_history.py",),
    ),
    Mutant(
        "tell of an empty fee account once, however much worse it gets",
        "settlement/sending/fee_account.py",
        "if told is None or _is_worse(seen, told):",
        "if told is None:",
        ("test_fee_account.py",),
    ),
    Mutant(
        "tell nobody that a node cannot pay for what may be due",
        "sdk/node/node.py",
        "                nursery.start_soon(self.onchain.watch_fees)\n",
        "",
        ("test_fee_account.py",),
    ),
    Mutant(
        "tell nobody that a tower cannot pay for what it guards",
        "watchtower/tower.py",
        "account.look(Standing(held, soon))",
        "account.look(Standing(held, 0))",
        ("test_tower_end_to_end.py",),
    ),
    Mutant(
        "spend on a challenge whatever it earns",
        "watchtower/disputes.py",
        "return min(self.budget, max(self.courtesy, reward // 2))",
        "return self.budget",
        ("test_tower_end_to_end.py",),
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
        "release a forwarded payment on a reject alone",
        "router/forwarding/forwarder.py",
        "        return (Remember(entry.circuit, reason),)\n",
        "        return (Remember(entry.circuit, reason), self._release(entry, None))\n",
        FORWARDING,
    ),
    Mutant(
        "release a forwarded payment when it may yet be paid in its last second",
        "router/forwarding/forwarder.py",
        "(over or circuit.expiry < final)",
        "(over or circuit.expiry <= final + 12)",
        FORWARDING,
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
        "let a stranger into the protected bucket",
        "router/forwarding/jamming.py",
        "        return max(occupied, 1 / asked.slots) <= min(",
        "        return max(occupied, 1 / asked.slots) <= 2 + min(",
        ("test_jamming_buckets.py",),
    ),
    Mutant(
        "let a tower save its position only with a match",
        "watchtower/watch.py",
        "        await self._commit(moments)\n\n    async def _terms_of_closed",
        "        if len(moments) > 1:\n            await self._commit(moments)\n\n    async def _terms_of_closed",
        ("test_tower_end_to_end.py", "test_tower_appointments.py", "test_tower_seeded.py"),
    ),
    Mutant(
        "let a fault of the program in one request end the node",
        "sdk/control/server.py",
        "except Exception as error:  # of our own tree",
        "except TallystickError as error:  # of our own tree",
        ("test_control_faults.py",),
    ),
    Mutant(
        "let a stored order that cannot be planned end the node",
        "router/sending/outgoing.py",
        "except Exception as error:  # an order",
        "except AssertionError as error:  # an order",
        ("test_payment_orders.py",),
    ),
    Mutant(
        "tell a second payee of one hash that it was paid",
        "router/network/paying.py",
        "if order.target != payee:",
        "if False:",
        ("test_payment_orders.py",),
    ),
    Mutant(
        "take another amount for paid by a payment that was made",
        "router/network/paying.py",
        "if order.asset != asset or (",
        "if False and (",
        ("test_payment_orders.py",),
    ),
    Mutant(
        "ask the chain until a time that it cannot tell",
        "channels/session/streams.py",
        "if expiry > UINT64_MAX:",
        "if False:",
        ("test_control_faults.py",),
    ),
    Mutant(
        "show the secret of an invoice that is not paid",
        "router/receiving/issued.py",
        "class InvoiceRecord(Discreet, ",
        "class InvoiceRecord(",
        ("test_secrets_hidden.py",),
    ),
    Mutant(
        "take text for the bytes of a memo as it is",
        "channels/values/argument_rules.py",
        "                raw = value.encode()\n        elif",
        "                return value\n        elif",
        ("test_arguments_harmless.py", "test_arguments_doors.py"),
    ),
    Mutant(
        "let a method of a channel be called without looking",
        "sdk/node/handle.py",
        "    @checked\n    async def lock(",
        "    async def lock(",
        ("test_arguments_doors.py",),
    ),
    Mutant(
        "take True for a number",
        "channels/values/argument_rules.py",
        "if type(value) is int and (self.low",
        "if isinstance(value, int) and (self.low",
        ("test_arguments_doors.py",),
    ),
    Mutant(
        "use connections again that were idle for as long as nodes keep them",
        "sdk/control/client.py",
        "limits = httpx.Limits(keepalive_expiry=IDLE_SECONDS)",
        "limits = httpx.Limits()",
        ("test_control_idle.py",),
    ),
    Mutant(
        "send what does something twice",
        "sdk/control/client.py",
        'if request.method != "GET" or',
        "if",
        ("test_control_idle.py",),
    ),
    Mutant(
        "let a keystore take any memory",
        "sdk/daemon/keystore_format.py",
        "if 128 * n * r > SCRYPT_BYTES_MAX or",
        "if",
        ("test_keystore_files.py",),
    ),
    Mutant(
        "store text where bytes should be",
        "channels/storage/writer.py",
        "            check_types(moment)\n",
        "            pass\n",
        ("test_store_types.py",),
    ),
    Mutant(
        "let a stored address that is none keep a node from starting",
        "sdk/node/known_peers.py",
        "with contextlib.suppress(InvalidInput):",
        "with contextlib.suppress():",
        ("test_arguments_harmless.py",),
    ),
    Mutant(
        "take base64 in text for bytes",
        "channels/protocol/codec.py",
        "self.kind, builtin_types=(bytes,)))",
        "self.kind))",
        ("test_codec_canonical.py",),
    ),
    Mutant(
        "take a message in another encoding than its own",
        "channels/protocol/codec.py",
        "if self.canonical and self._write(value) != data:",
        "if False:",
        ("test_codec_canonical.py",),
    ),
    Mutant(
        "write what would be read back as something else",
        "channels/protocol/codec.py",
        "            same = self._read(data) == value",
        "            same = True",
        ("test_codec_canonical.py",),
    ),
    Mutant(
        "use one nonce for every revision of an appointment",
        "watchtower/sealing.py",
        "nonce = entropy(NONCE_SIZE)",
        "nonce = bytes(NONCE_SIZE)",
        ("test_tower_appointments.py", "test_tower_seeded.py"),
    ),
    Mutant(
        "let who lost data close with old proofs, in place of a confirmed close that left the chain",
        "settlement/enforcement/onchain.py",
        "(final, (SETTLED,)) if lost",
        "(final, (CLOSED, SETTLED)) if lost",
        ("test_simulation_thefts.py",),
    ),
    Mutant(
        "wait for ever for an answer of the chain node that goes on and on",
        "settlement/ethereum/rpc_client.py",
        "        with trio.move_on_after(timeout) as patience:\n",
        "        with trio.CancelScope() as patience:\n",
        ("test_chaos_wire.py",),
    ),
    Mutant(
        "take bytes that are no text for JSON",
        "settlement/ethereum/rpc_client.py",
        "except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error",
        "except (msgspec.DecodeError, RecursionError) as error",
        ("test_chaos_wire.py",),
    ),
    Mutant(
        "pass a chain node's control characters on",
        "settlement/ethereum/rpc_client.py",
        'letter if letter.isprintable() else "?"',
        "letter",
        ("test_chaos_wire.py",),
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
        "forget an opening because one block is dated wrong",
        "sdk/node/openings.py",
        "        now = self._engine.chain.sure\n        waiting",
        "        now = self._engine.chain.now\n        waiting",
        ("test_chain_future.py",),
    ),
    Mutant(
        "let every case of a stranger cost a tower something with every block",
        "watchtower/watch.py",
        "                del self._awake[channel]\n",
        "                pass\n",
        ("test_tower_sleep.py",),
    ),
    Mutant(
        "keep a stranger's case for ever that nobody settles",
        "watchtower/watch.py",
        "        moments += self._end_windows(head)\n",
        "",
        ("test_tower_sleep.py",),
    ),
    Mutant(
        "sleep through an appointment that comes late",
        "watchtower/watch.py",
        "        if channel in self.cases:\n            self._awake[channel] = None",
        "        if channel in self.cases:\n            pass",
        ("test_tower_sleep.py",),
    ),
    Mutant(
        "let the clock say when a payment's time is over",
        "router/sending/outgoing.py",
        "        self._now = steady or clock\n",
        "        self._now = clock\n",
        ("test_clock_steps.py",),
    ),
    Mutant(
        "believe the stored end of a payment after a restart, whatever the clock shows",
        "router/sending/outgoing.py",
        "min(record.order.gives_up, self._now() + record.order.timeout)",
        "record.order.gives_up",
        ("test_clock_steps.py",),
    ),
    Mutant(
        "count the rounds of gossip by the clock",
        "router/gossip/service.py",
        "        self._steady = steady or clock\n",
        "        self._steady = clock\n",
        ("test_clock_steps.py",),
    ),
    Mutant(
        "keep on saying what we once said by a clock that was ahead",
        "router/gossip/own_announcements.py",
        "        if there is not None and there.announcement.timestamp > date + self._policy.skew:\n",
        "        if False:\n",
        ("test_clock_steps.py",),
    ),
    Mutant(
        "let what others said by a clock that was ahead stand in the way of what they say now",
        "router/gossip/store.py",
        "not first <= kept.announcement.timestamp <= last",
        "kept.announcement.timestamp < first",
        ("test_clock_steps.py",),
    ),
    Mutant(
        "do not ask the chain again about what it confirmed in the future",
        "router/gossip/store.py",
        "if not since <= self._channels[channel].verified <= until]",
        "if self._channels[channel].verified < since]",
        ("test_clock_steps.py",),
    ),
    Mutant(
        "let beliefs of the future never fade",
        "router/pathfinding/liquidity.py",
        "time=min(belief.time, now)",
        "time=belief.time",
        ("test_clock_steps.py",),
    ),
    Mutant(
        "take the status of a tower out of the future for one of now",
        "watchtower/daemon.py",
        "abs(clock() - status.time) <= oldest",
        "clock() - status.time <= oldest",
        ("test_clock_steps.py",),
    ),
    Mutant(
        "let strangers' connections stay for ever",
        "channels/transport/guests.py",
        "while self._count > self._most:",
        "while False:",
        ("test_doors_strangers.py",),
    ),
    Mutant(
        "count what waits for a peer by its bytes alone",
        "channels/transport/wires.py",
        "self._queued += len(frame) + FRAME_MEMORY",
        "self._queued += len(frame)",
        ("test_doors_strangers.py",),
    ),
    Mutant(
        "answer whatever nobody pays for as fast as it is asked",
        "channels/node/peers.py",
        "wire.unpaid.charge(1, trio.current_time())",
        "pass",
        ("test_doors_strangers.py",),
    ),
    Mutant(
        "let strangers have all the time of the loop",
        "channels/transport/turns.py",
        "CREDIT / self._part) + seconds / self._part",
        "CREDIT / self._part) + seconds",
        ("test_doors_strangers.py",),
    ),
    Mutant(
        "let a flood of handshakes drive out those of partners",
        "channels/transport/links.py",
        "return count - FAVOURED_HANDSHAKES if source in self._favoured else count",
        "return count",
        ("test_doors_strangers.py",),
    ),
    Mutant(
        "replace a peer's address before it was reached there",
        "channels/node/dialer.py",
        "            self._given[key] = address\n",
        "            self._reached[key] = address\n",
        ("test_peers_addresses.py",),
    ),
    Mutant(
        "do not look for a peer where it says that it is",
        "channels/node/dialer.py",
        "for text in self.announced(key)[:ANNOUNCED_MAX]:",
        "for text in self.announced(key)[:0]:",
        ("test_peers_addresses.py",),
    ),
    Mutant(
        "announce an address that stands for every interface",
        "sdk/node/places.py",
        "if bound is None or is_wildcard(bound.host) or (",
        "if bound is None or (",
        ("test_peers_addresses.py",),
    ),
    Mutant(
        "let strangers ask the chain as often as they like",
        "router/gossip/pending_updates.py",
        "self._lookups.charge(1, now)",
        "pass",
        ("test_gossip_parking.py",),
    ),
    Mutant(
        "take the absence of an error for a fresh view of the chain",
        "settlement/following/freshness.py",
        "return math.inf if position is None else max(age(state, now), lag(state, position, now))",
        "return math.inf if position is None else 0.0",
        CHAIN,
    ),
    Mutant(
        "take a block that is repeated for news",
        "settlement/following/freshness.py",
        "if header.hash not in state.recent:",
        "if True:",
        CHAIN,
    ),
    Mutant(
        "judge the chain by a wall clock that was set back",
        "settlement/following/freshness.py",
        "if abs(asked + wall - header.time) > BOUND or (state.agreed and wall <= state.wall):",
        "if abs(asked + wall - header.time) > BOUND:",
        CHAIN,
    ),
    Mutant(
        "date an answer by when it came, not by when it was asked for",
        "settlement/following/follower.py",
        "            self._take(step, asked)",
        "            self._take(step, self._elapsed())",
        CHAIN,
    ),
    Mutant(
        "believe what a block was once said to hold",
        "settlement/following/follower.py",
        "if not 0 <= index < len(self.headers) or self.headers[index] != block.header:",
        "if not 0 <= index < len(self.headers) or self.headers[index].hash != block.header.hash:",
        CHAIN,
    ),
    Mutant(
        "never ask again for the events of a block",
        "settlement/following/follower.py",
        "if before.header == block.header and before.events != block.events",
        "if False",
        CHAIN,
    ),
    Mutant(
        "let a chain node's nonsense end the following",
        "settlement/following/follower.py",
        "except (ChainUnavailable, ChainError) as error:",
        "except ChainUnavailable as error:",
        CHAIN,
    ),
    Mutant(
        "follow no block while gas has no price",
        "settlement/enforcement/following.py",
        "        moments: list[Moment] = [step_moment",
        "        await self.market.ask()\n        moments: list[Moment] = [step_moment",
        CHAIN,
    ),
    Mutant(
        "take a chain that was begun anew for a reorganisation",
        "settlement/following/follower.py",
        "if state.root is not None and kept_up_to < state.root.number:",
        "if False:",
        ("test_chain_reset.py",),
    ),
    Mutant(
        "go on paying in channels that no chain knows",
        "sdk/node/node.py",
        "self.engine.stop_paying(lambda: self.onchain.following.lost)",
        "pass",
        ("test_chain_reset.py",),
    ),
    Mutant(
        "send on a chain that was begun anew",
        "settlement/enforcement/onchain.py",
        "chain=SameChain(chain, self.follower),",
        "chain=chain,",
        ("test_chain_reset.py",),
    ),
    Mutant(
        "answer nothing before the chain node does",
        "sdk/daemon/daemon.py",
        "at_once=True,",
        "at_once=False,",
        ("test_daemon_waits.py",),
    ),
    Mutant(
        "take any number of a chain node",
        "settlement/following/checked.py",
        "if type(value) is not int or not 0 <= value <= most:",
        "if type(value) is not int:",
        CHAIN,
    ),
    Mutant(
        "wait for ever for the end of an answer",
        "settlement/following/checked.py",
        "with trio.fail_after(ANSWER_SECONDS):",
        "with trio.fail_after(10**6):",
        CHAIN,
    ),
    Mutant(
        "tell nobody that the chain is lost",
        "settlement/following/vigil.py",
        "if sight.now - since >= (again if kind is vigil.told else first):",
        "if False:",
        CHAIN,
    ),
    Mutant(
        "let one address fill a tower",
        "watchtower/quotas.py",
        "if held >= max(1, free // SHARE) or not free:",
        "if not free:",
        ("test_tower_strangers.py",),
    ),
    Mutant(
        "drop what a tower promised to keep",
        "watchtower/quotas.py",
        "(int(now) - TERM, DROPPED_AT_ONCE),",
        "(int(now), DROPPED_AT_ONCE),",
        ("test_tower_strangers.py",),
    ),
    Mutant(
        "do not renew what a tower promised",
        "watchtower/client.py",
        "return channel in self._offers and self._clock() - received > RENEW",
        "return False",
        ("test_tower_strangers.py",),
    ),
    Mutant(
        "take a chain that was begun anew for the one that this node knows",
        "sdk/node/openings.py",
        "if known is not None and not core.never_used(known.channel):",
        "if False:",
        ("test_openings_forgotten.py",),
    ),
    Mutant(
        "begin on a loop that is not trio's",
        "channels/node/loops.py",
        "if not trio.lowlevel.in_trio_run():",
        "if False:",
        ("test_sdk_loops.py",),
    ),
    Mutant(
        "call a node ready that does not know the chain",
        "sdk/control/waiting.py",
        "if found.ready:",
        "if found.block >= 0:",
        ("test_cli_waits.py",),
    ),
    Mutant(
        "call a channel usable whose peer is away",
        "sdk/control/waiting.py",
        "if not channel.connected:",
        "if False:",
        ("test_cli_waits.py",),
    ),
    Mutant(
        "let strangers' connections crowd the owner out of the control API",
        "sdk/control/door.py",
        'guest = Guest("", lambda: Rank.PARTNER if client in self._trusted else Rank.STRANGER, scope.cancel)',
        'guest = Guest("", lambda: Rank.STRANGER, scope.cancel)',
        ("test_control_door.py",),
    ),
    Mutant(
        "let a peer begin our patience anew by dropping the link",
        "channels/session/patience.py",
        "or self._together > CONNECTIONS * self.bound",
        "or False",
        ("test_session_patience.py",),
    ),
)


def copy_tree(target: Path) -> None:
    """Lay out the tree so that `tallystick` is imported from it."""
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src" / "tallystick", target / "tallystick", ignore=without)  # its links become folders
    shutil.copytree(ROOT / "tests", target / "tests", ignore=without)
    shutil.copy(ROOT / "pyproject.toml", target)


def run_tests(target: Path, tests: tuple[str, ...]) -> bool:
    """Return whether these tests pass against the copy."""
    command = [sys.executable, "-m", "pytest", "-qx", "-p", "no:cacheprovider", *(f"tests/{test}" for test in tests)]
    environment = {**os.environ, "PYTHONPATH": str(target), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=target, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False  # a mutant that makes the product hang was noticed
    if done.returncode not in (0, 1):
        raise SystemExit(f"the tests could not be run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def main(names: list[str]) -> int:
    """Try the mutants (all, or those whose names contain one of `names`); return how many survived."""
    survivors = 0
    chosen = [mutant for mutant in MUTANTS if not names or any(name in mutant.name for name in names)]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder)
        copy_tree(target)
        for mutant in chosen:
            file = target / "tallystick" / mutant.file
            text = file.read_text()
            if text.count(mutant.before) != 1:
                print(f"GONE      {mutant.name}: its text is not in {mutant.file} exactly once", flush=True)
                survivors += 1
                continue
            file.write_text(text.replace(mutant.before, mutant.after))
            survived = run_tests(target, mutant.tests)
            file.write_text(text)
            survivors += survived
            print(f"{'SURVIVED' if survived else 'killed  '}  {mutant.name}", flush=True)
    print(f"{len(chosen)} mutants, {survivors} not killed")
    return survivors


if __name__ == "__main__":
    sys.exit(min(main(sys.argv[1:]), 100))
