"""Secrets are in no repr: every struct of the product is made with planted ones, and shown."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from typing import Any

import msgspec
import pytest

import tallystick
from tallystick.channels.errors import InvalidInput
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.messages import Reveal
from tallystick.channels.protocol.objects import ChannelId
from tallystick.channels.testing.scheduling import simulate
from tallystick.channels.values.discretion import SECRETS, Discreet
from tallystick.sdk.testing.world import open_world

PLANTED = b"\x5e\xc3planted secret of 32 bytes...\x01"
FORMS = (repr(PLANTED)[2:-1], PLANTED.hex(), "planted secret")
LIKE_SECRETS = re.compile(
    r"secret|preimage|private|close_key|password|keysend|ephemeral|token$|^seed$|^(priv|key)_?bytes$"
)
OPEN = {
    "secret_time": "when the chain saw one",
    "secret_margin": "seconds",
    "private_max": "how many",
    "tokens": "assets",
}
"""Names that are like those of secrets, and are none."""


def structs() -> list[type[msgspec.Struct]]:
    found = []
    for part in ("channels", "settlement", "watchtower", "router", "paid", "sdk"):
        package = importlib.import_module(f"{tallystick.__name__}.{part}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith("__main__"):
                continue
            for value in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(value) and value.__module__ == module.name and issubclass(value, msgspec.Struct):
                    found.append(value)
    return found


def show(kind: type[msgspec.Struct], planted: Any) -> str:
    """Return the repr of a struct with `planted` in each field that may hold a secret, whether that fits or not."""
    unchecked = type(kind)(kind.__name__, (kind,), {"__post_init__": lambda self: None})
    values = {}
    for field in msgspec.structs.fields(kind):
        secret = field.name in SECRETS or (LIKE_SECRETS.search(field.name) and field.name not in OPEN)
        open_type = inspect.isclass(field.type) and issubclass(field.type, (int, msgspec.Struct))  # shown by itself
        values[field.name] = planted if secret and not open_type else 0
    made = unchecked(**values)
    return repr(made) + repr(made.__rich_repr__())


PLANTS = [PLANTED, (PLANTED,), PLANTED.hex(), [(PLANTED, 1)], {PLANTED: (1, PLANTED)}]


@pytest.mark.parametrize("planted", PLANTS, ids=["bytes", "a tuple", "text", "pairs", "a dict"])
def test_no_struct_shows_a_secret(planted: Any) -> None:
    kinds = structs()
    assert len(kinds) > 150 and sum(issubclass(kind, Discreet) for kind in kinds) > 45
    for kind in kinds:
        shown = show(kind, planted)
        assert not [form for form in FORMS if form in shown], f"{kind.__name__} shows a secret: make it Discreet"


def test_what_is_hidden_is_shown_by_its_size() -> None:
    shown = "Reveal(channel=b'cccccccccccccccccccccccccccccccc', lock=7, secret=<32 bytes>)"
    assert repr(Reveal(ChannelId(b"c" * 32), 7, PLANTED)) == shown


def test_an_unpaid_invoice_and_its_errors_show_no_secret() -> None:
    async def main() -> None:
        async with open_world(seed=3) as world:
            alice, bob = await world.start("alice"), await world.start("bob")
            await alice.open_channel(world.address("bob"), 10**6)
            invoice = await bob.create_invoice(500, "t")
            for secret in (invoice.secret, invoice.payment_secret):
                assert (
                    len(secret) == 32 and repr(secret)[2:-1] not in repr(invoice) and secret.hex() not in repr(invoice)
                )
            receipt = await alice.keysend(bob.key.public, 7, secret=PLANTED)
            record = alice.payment(receipt.payment_hash)
            assert record.is_paid and not [form for form in FORMS if form in repr((receipt, record, bob.invoices()))]
            for wrong in (PLANTED + b"x", PLANTED.hex() + "0"):
                with pytest.raises(InvalidInput) as refused:
                    await alice.keysend(bob.key.public, 7, secret=wrong)
                assert not [form for form in FORMS if form in str(refused.value)]

    simulate(main, 3)


def test_a_key_shows_its_address() -> None:
    assert not [form for form in FORMS if form in repr(PrivateKey(PLANTED))]
