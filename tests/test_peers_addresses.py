"""Where peers are: a slip of the pen costs nothing, who moves is found, nobody is sent to a wildcard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
import trio
import typer

from tallystick.channels.errors import ChannelNotReady, InvalidInput
from tallystick.channels.ports import Link, PeerAddress
from tallystick.channels.protocol.keys import PrivateKey, keccak
from tallystick.channels.testing.clock import seeded_entropy, virtual_clock
from tallystick.channels.testing.disk import SimulatedDisk
from tallystick.channels.testing.network import MemoryNetwork
from tallystick.channels.testing.scheduling import simulate
from tallystick.router.network.routing import PaymentOptions
from tallystick.sdk.cli.options import parse_amount
from tallystick.sdk.daemon.configuration import Settings, parse_place, read_settings, write_settings
from tallystick.sdk.daemon.daemon import node_config
from tallystick.sdk.errors import ConfigurationError
from tallystick.sdk.node.node import Config, Node
from tallystick.sdk.node.places import is_one_machine, places_to_announce, places_to_dial, write_place
from tallystick.sdk.node.running import open_node
from tallystick.sdk.node.sqlite import SCHEMAS
from tallystick.sdk.node.whereabouts import known_peers
from tallystick.settlement.testing.local import LocalChain

KEYS = {name: PrivateKey(keccak(name.encode())) for name in ("alice", "bob", "carol")}
CONTRACT = "0x" + "11" * 20


class Network:
    """Nodes by name, which may live several lives, each at a place of its own."""

    def __init__(self) -> None:
        self.chain = LocalChain(funds={key.address: 10**18 for key in KEYS.values()})
        self.network = MemoryNetwork(1)
        self.disks = {name: SimulatedDisk(SCHEMAS) for name in KEYS}
        self.lives = 0

    def live(self, name: str, host: str | None, *, announce: bool = True) -> AbstractAsyncContextManager[Node]:
        self.lives += 1
        return open_node(
            name,
            key=KEYS[name],
            chain=self.chain,
            config=Config(listen=None if host is None else (host, 7735), payments=PaymentOptions(announce=announce)),
            network=self.network.endpoint(KEYS[name]),
            clock=virtual_clock(),
            entropy=seeded_entropy(f"{name}{self.lives}"),
            store=self.disks[name].open(),
            inline=True,
        )


def play(story: Callable[[Network], Awaitable[None]]) -> None:
    async def main() -> None:
        nodes = Network()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(nodes.chain.run)
            await story(nodes)
            nursery.cancel_scope.cancel()

    simulate(main, 1)


def at(name: str, host: str, port: int = 7735) -> PeerAddress:
    return PeerAddress(bytes(KEYS[name].public), host, port)


def test_a_wrong_address_of_a_connected_peer_is_refused_and_neither_cuts_the_link_nor_stays() -> None:
    async def story(nodes: Network) -> None:
        async with nodes.live("alice", "alice") as alice, nodes.live("bob", "bob") as bob:
            channel = await alice.open_channel(bob.listening or "", 10**6)
            dials = alice.statistics().peers.dials
            with pytest.raises(ChannelNotReady, match="is not at"):
                await alice.connect(at("bob", "bob", 7753))
            await trio.sleep(600)
            assert channel.connected and alice.statistics().peers.dials == dials
            await channel.pay(1)
            assert known_peers(alice.store) == [at("bob", "bob")]

    play(story)


def test_a_right_address_of_a_connected_peer_is_checked_and_kept() -> None:
    async def story(nodes: Network) -> None:
        async with nodes.live("alice", None) as alice, nodes.live("bob", "bob") as bob:
            channel = await alice.open_channel(bob.listening or "", 10**6)
            async with trio.open_nursery() as nursery:
                endpoint = nodes.network.endpoint(KEYS["bob"])

                async def stay(link: Link) -> None:
                    await trio.sleep_forever()

                async def serve() -> None:
                    await endpoint.serve("second", 1, stay, started=lambda address: None)

                nursery.start_soon(serve)
                await trio.testing.wait_all_tasks_blocked()
                await alice.connect(at("bob", "second", 1))
                assert channel.connected and known_peers(alice.store) == [at("bob", "second", 1)]
                nursery.cancel_scope.cancel()

    play(story)


def test_a_wrong_address_of_an_absent_peer_does_not_replace_the_one_where_it_was() -> None:
    async def story(nodes: Network) -> None:
        async with nodes.live("alice", None) as alice:
            async with nodes.live("bob", "bob", announce=False) as bob:
                channel = await alice.open_channel(bob.listening or "", 10**6)
            await trio.sleep(60)
            with pytest.raises(ChannelNotReady, match="goes on dialing"):
                await alice.connect(at("bob", "nowhere"))
            assert known_peers(alice.store) == [at("bob", "bob")]
            async with nodes.live("bob", "bob", announce=False):
                await trio.sleep(200)
                assert channel.connected

    play(story)


def test_a_peer_that_moved_is_found_where_it_says_that_it_is() -> None:
    """Alice listens nowhere, so that Bob cannot come to her; she hears of his new place from Carol."""

    async def story(nodes: Network) -> None:
        async with nodes.live("alice", None) as alice, nodes.live("carol", "carol") as carol:
            async with nodes.live("bob", "at-home") as bob:
                channel = await alice.open_channel(bob.listening or "", 10**6)
                await carol.open_channel(bob.listening or "", 10**6)
                await alice.open_channel(carol.listening or "", 10**6)
                await trio.sleep(120)
            async with nodes.live("bob", "elsewhere") as bob:
                await carol.connect(bob.listening or "")
                await trio.sleep(900)
                assert channel.connected
                assert at("bob", "elsewhere") in known_peers(alice.store)

    play(story)


def test_a_peer_that_always_dialed_us_is_looked_for_once_it_stays_away() -> None:
    async def story(nodes: Network) -> None:
        async with nodes.live("bob", "bob") as bob:
            async with nodes.live("alice", "alice") as alice:
                await alice.open_channel(bob.listening or "", 10**6)
                await trio.sleep(120)
                assert known_peers(bob.store) == []
            forgetful = SimulatedDisk(SCHEMAS)
            nodes.disks["alice"], kept = forgetful, nodes.disks["alice"]
            async with nodes.live("alice", "alice") as alice:  # it knows nothing of Bob, and so does not come by itself
                await trio.sleep(300)
                assert bytes(KEYS["alice"].public) in bob.peers.connected_peers()
                assert known_peers(bob.store) == [at("alice", "alice")]
            nodes.disks["alice"] = kept

    play(story)


# --- what is announced -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "one_machine", "told"),
    [
        ("0.0.0.0", True, ()),
        ("::", True, ()),
        ("", False, ()),
        ("127.0.0.1", False, ()),
        ("::1", False, ()),
        ("127.0.0.1", True, ("127.0.0.1:7735",)),
        ("::1", True, ("[::1]:7735",)),
        ("192.0.2.7", False, ("192.0.2.7:7735",)),
        ("2001:db8::7", False, ("[2001:db8::7]:7735",)),
        ("node.example", False, ("node.example:7735",)),
    ],
)
def test_what_others_cannot_reach_is_not_announced(host: str, one_machine: bool, told: tuple[str, ...]) -> None:
    assert places_to_announce("", at("bob", host), one_machine) == told
    assert places_to_announce("hub.example:80", at("bob", host), one_machine) == ("hub.example:80",)
    assert not any(place in places_to_dial(["0.0.0.0:1", "[::]:1", "nonsense", "a:99999"], True) for place in told)


def test_loopback_is_announced_and_dialed_only_where_all_that_is_known_is_on_this_machine() -> None:
    here, far = at("bob", "127.0.0.1"), at("carol", "198.51.100.1")
    assert is_one_machine(here, [at("carol", "::1")]) and is_one_machine(None, [])
    assert not is_one_machine(here, [far]) and not is_one_machine(at("bob", "0.0.0.0"), [])
    announced = ["127.0.0.1:1", "[::1]:2", "localhost:3", "198.51.100.1:4"]
    assert places_to_dial(announced, one_machine=False) == ("198.51.100.1:4",)
    assert places_to_dial(announced, one_machine=True) == tuple(announced)


def test_the_setting_is_written_read_checked_and_used(tmp_path: Path) -> None:
    settings = Settings(chain_id=1, contract=CONTRACT, listen="0.0.0.0:7735", announce_address="[2001:db8::1]:443")
    write_settings(tmp_path, settings)
    assert read_settings(tmp_path) == settings
    assert node_config(settings).announce_address == "[2001:db8::1]:443"
    for wrong in ("0.0.0.0:7735", "[::]:7735", "2001:db8::1:443", "host", "host:99999", "host:" + "1" * 5_000):
        with pytest.raises(ConfigurationError, match="announce_address"):
            Settings(chain_id=1, contract=CONTRACT, announce_address=wrong)
        with pytest.raises(InvalidInput):
            Config(announce_address=wrong)


# --- what is written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place",
    [
        "h:" + "1" * 5_000,
        "h:65536",
        "h:",
        ":1",
        "h:１",
        "a b:1",
        "a\x1b[2J:1",
        "h" * 300 + ":1",
        "h\n:1",
    ],
)
def test_what_is_no_place_is_refused_in_a_sentence_of_bounded_length(place: str) -> None:
    key = bytes(KEYS["bob"].public).hex()
    with pytest.raises(InvalidInput) as caught:
        PeerAddress.parse(f"{key}@{place}")
    assert len(str(caught.value)) < 400
    with pytest.raises(ConfigurationError):
        parse_place(place)
    with pytest.raises(InvalidInput):
        PeerAddress.parse("f" * 10_000 + "@h:1")


def test_an_amount_of_thousands_of_digits_is_no_amount() -> None:
    with pytest.raises(typer.BadParameter):
        parse_amount("1" * 5_000)


def test_written_places_are_read_back() -> None:
    for host in ("192.0.2.1", "2001:db8::1", "name.example"):
        assert parse_place(write_place(host, 80)) == (host, 80)
        assert PeerAddress.parse(str(at("bob", host))) == at("bob", host)
