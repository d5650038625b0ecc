"""What nodes ask of each other while it storms: payments in every way there is (`storm`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from simulation.fault_rates import DEPOSIT, LOCK_SECONDS
from simulation.solvency import ledgers
from simulation.storm_network import StormNetwork
from tallystick.channels.errors import TallystickError
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.router.errors import PaymentFailed
from tallystick.router.network.paying import PaymentReceipt
from tallystick.router.objects import NodeKey
from tallystick.sdk.node.node import Node
from tallystick.sdk.testing.audit import Violation


class Load:
    """The payments of one storm, and what each payer was told of them."""

    def __init__(self, network: StormNetwork) -> None:
        self._network = network
        self._world, self._rng = network.world, network.rng
        self.shared: set[bytes] = set()
        """Invoices that two paid."""
        self._held: list[tuple[str, bytes, bytes]] = []
        """Payee, hash and secret of invoices to be settled or cancelled."""
        self._receipts: dict[tuple[str, bytes], PaymentReceipt] = {}
        self._failures: dict[tuple[str, bytes], PaymentFailed] = {}

    async def act(self) -> None:
        """Let somebody pay somebody."""
        loads = [self._invoice, self._invoice, self._parts, self._hold, self._decide, self._keysend, self._rebalance]
        await self._rng.choice([*loads, self._share] if self._network.rates.shares else loads)()

    def check(self) -> None:
        """What each payer was told is what its records say, which were checked against its coins."""
        records = {
            (name, record.order.payment_hash): record
            for name, ledger in ledgers(self._world).items()
            for record in ledger.payments
        }
        for (name, digest), receipt in self._receipts.items():
            record = records[name, digest]
            if not record.is_paid or (record.secret, record.fee) != (receipt.secret, receipt.fee):
                raise Violation(f"{name} has {receipt}, its record says {record}")
        for (name, digest), error in self._failures.items():
            if records[name, digest].is_paid and (name, digest) not in self._receipts:
                raise Violation(f"{name} was told that payment {digest.hex()[:8]} failed, and it was paid: {error}")

    def _two(self) -> tuple[str, str] | None:
        up = self._network.up()
        return (*self._rng.sample(up, 2),) if len(up) > 1 else None  # type: ignore[return-value]

    def _asset(self, name: str) -> Address:
        """Return the coin or the token: what one of a node's channels carries."""
        found = [handle.view.channel.terms.asset for handle in self._world.node(name).channels]
        return self._rng.choice(found or [NATIVE])

    async def _ask(self, payee: str, amount: int, *, hold: bool = False) -> tuple[str, bytes]:
        """Return an invoice and its hash; nothing if its payee crashed in that very moment."""
        try:
            asset = self._asset(payee)
            record = await self._world.node(payee).create_invoice(amount, hold=hold, lifetime=86_400, asset=asset)
        except TallystickError:
            return "", b""
        if hold:
            self._held.append((payee, record.payment_hash, record.secret))
        return record.text, record.payment_hash

    def _pay(self, payer: str, text: str, digest: bytes) -> None:
        timeout = self._rng.choice((20.0, 60.0, 300.0))

        async def pay(node: Node) -> None:
            await self._told(payer, digest, lambda: node.routing.paying.pay(text, timeout=timeout))

        if text:
            self._world.attempt(payer, pay)

    async def _told(self, payer: str, digest: bytes, pay: Callable[[], Awaitable[PaymentReceipt]]) -> None:
        try:
            receipt = await pay()
        except PaymentFailed as error:
            if digest:
                self._failures[payer, digest] = error
        else:
            self._receipts[payer, receipt.payment_hash] = receipt

    async def _pay_invoice(self, amount: int, *, hold: bool = False, payers: int = 1) -> None:
        chosen = self._rng.sample(self._network.up(), payers + 1) if len(self._network.up()) > payers else []
        if not chosen:
            return
        self._network.note(f"{'hold' if hold else 'pay'} {chosen[1:]} to {chosen[0]}: {amount}")
        text, digest = await self._ask(chosen[0], amount, hold=hold)
        if payers > 1:
            self.shared.add(digest)
        for payer in chosen[1:]:
            self._pay(payer, text, digest)

    async def _invoice(self) -> None:
        await self._pay_invoice(self._rng.choice((1, 5_000, 50_000, 200_000)))

    async def _parts(self) -> None:
        await self._pay_invoice(self._rng.randrange(DEPOSIT // 2, 3 * DEPOSIT))

    async def _hold(self) -> None:
        await self._pay_invoice(self._rng.choice((5_000, 50_000, DEPOSIT)), hold=True)

    async def _share(self) -> None:
        hold = self._rng.random() < 0.3
        await self._pay_invoice(self._rng.choice((50_000, 500_000, DEPOSIT)), hold=hold, payers=2)

    async def _decide(self) -> None:
        """Settle or cancel what was asked for to be held: most, some time or other."""
        if not self._held:
            await self._hold()
            return
        held = self._held.pop(self._rng.randrange(len(self._held)))
        settles = self._rng.random() < 0.7
        if self._rng.random() < 0.5:
            self._decide_on(held, settles)
        else:  # much later, perhaps when the locks are about to expire
            self._network.later(self._rng.uniform(0, LOCK_SECONDS), lambda: self._decide_on(held, settles))

    def _decide_on(self, held: tuple[str, bytes, bytes], settles: bool) -> None:
        payee, digest, secret = held
        self._network.note(f"{'settle' if settles else 'cancel'} {payee}")

        async def decide(node: Node) -> None:
            invoicing = node.routing.invoicing
            await (invoicing.settle_invoice(secret) if settles else invoicing.cancel_invoice(digest))

        self._world.attempt(payee, decide)

    async def _keysend(self) -> None:
        chosen = self._two()
        if chosen is None:
            return
        payer, payee = chosen
        key, amount = NodeKey(bytes(self._world.seats[payee].key.public)), self._rng.choice((1, 20_000, 100_000))
        asset = self._asset(payer)
        self._network.note(f"keysend {payer} to {payee}: {amount}")

        async def pay(node: Node) -> None:
            await self._told(payer, b"", lambda: node.routing.paying.keysend(key, amount, timeout=60.0, asset=asset))

        self._world.attempt(payer, pay)

    async def _rebalance(self) -> None:
        name = self._rng.choice(self._network.up() or [""])
        channels = self._network.open_channels(name) if name else []
        if len(channels) < 2:
            return
        out, back = self._rng.sample(channels, 2)
        amount = self._rng.choice((10_000, 300_000))
        self._network.note(f"rebalance {name}: {amount}")

        async def pay(node: Node) -> None:
            await self._told(name, b"", lambda: node.routing.paying.rebalance(out, back, amount, timeout=60.0))

        self._world.attempt(name, pay)
