"""Mutants of towers and their clients. How they are used is in `run`."""

from __future__ import annotations

from mutant import Mutant

MUTANTS = (
    Mutant(
        "challenge at once what may have been challenged in a newer block",
        "watchtower/watch.py",
        "            if not self.is_catching_up(head.number):\n",
        "            if True:\n",
        ("test_enforcement_catching_up.py",),
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
        "give a duty up for ever (tower)",
        "watchtower/watch.py",
        "self.sender.pursue(duty, head.number)",
        "self.sender.require(duty)",
        (
            "test_tower_end_to_end.py",
            "test_tower_troubles.py",
        ),
    ),
    Mutant(
        "tell nobody that a tower cannot pay for what it guards",
        "watchtower/tower.py",
        "account.look(FundsAndDuties(held, soon))",
        "account.look(FundsAndDuties(held, 0))",
        (
            "test_tower_end_to_end.py",
            "test_tower_troubles.py",
        ),
    ),
    Mutant(
        "spend on a challenge whatever it earns",
        "watchtower/disputes.py",
        "return min(self.budget, max(self.courtesy, reward // 2))",
        "return self.budget",
        (
            "test_tower_end_to_end.py",
            "test_tower_troubles.py",
        ),
    ),
    Mutant(
        "let a tower save its position only with a match",
        "watchtower/watch.py",
        "        await self.sender.commit(moments)\n        return taken",
        "        if len(moments) > taken:\n            await self.sender.commit(moments)\n        return taken",
        (
            "test_tower_end_to_end.py",
            "test_tower_troubles.py",
            "test_tower_appointments.py",
            "test_tower_client.py",
            "test_tower_seeded.py",
        ),
    ),
    Mutant(
        "use one nonce for every revision of an appointment",
        "watchtower/sealing.py",
        "nonce = entropy(NONCE_SIZE)",
        "nonce = bytes(NONCE_SIZE)",
        ("test_tower_appointments.py", "test_tower_client.py", "test_tower_seeded.py"),
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
        "        if channel in self.disputes:\n            self._awake[channel] = None",
        "        if channel in self.disputes:\n            pass",
        ("test_tower_sleep.py",),
    ),
    Mutant(
        "take the status of a tower out of the future for one of now",
        "watchtower/daemon.py",
        "abs(clock() - status.time) <= oldest",
        "clock() - status.time <= oldest",
        ("test_clock_steps.py",),
    ),
    Mutant(
        "pay for challenges with signatures that the contract refuses",
        "watchtower/disputes.py",
        "from tallystick.settlement.ethereum.signatures import verify_signer\n",
        "from tallystick.channels.protocol.keys import with_recovery_id as verify_signer\n",
        ("test_tower_appointments.py",),
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
        "int(now) - TERM, DROPPED_AT_ONCE",
        "int(now), DROPPED_AT_ONCE",
        ("test_tower_strangers.py",),
    ),
    Mutant(
        "do not renew what a tower promised",
        "watchtower/client.py",
        "return channel in self._offers and self.clock() - received > RENEW",
        "return False",
        ("test_tower_strangers.py",),
    ),
)
