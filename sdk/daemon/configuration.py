"""A node's settings: `config.toml` in its data directory, written with comments by `tally init`, edited by hand.

Unknown names and wrong types are refused, so that a slip of the pen is never silently without effect.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.limits import AMOUNT_MAX, CHALLENGE_PERIOD_MAX, Policy
from tallystick.channels.ports import PeerAddress
from tallystick.channels.protocol.objects import NATIVE, Address
from tallystick.channels.values.argument_rules import fits_checksum
from tallystick.router.gossip.announcements import ALIAS_BYTES_MAX
from tallystick.router.invoices.invoice import LOCK_LIFE_MAX
from tallystick.router.objects import ForwardingPolicy
from tallystick.router.pathfinding.kernels import compilable
from tallystick.sdk.chains.margins import ChainRisk, MakerRisk, risk_of
from tallystick.sdk.daemon.keystore import write_new
from tallystick.sdk.errors import ConfigurationError
from tallystick.sdk.node import places
from tallystick.settlement.enforcement.depths import DepthPolicy, DepthStep, TokenDepth
from tallystick.settlement.port import ChainFigures

T = TypeVar("T")

CONFIG = "config.toml"
"""Name of the file within the data directory."""

DATA_VARIABLE = "TALLY_DATA"
"""Environment variable that may name the data directory."""

DEFAULT_CHAIN_ID = 1337
DEFAULT_URL = "http://127.0.0.1:8545"
DEFAULT_LISTEN = "127.0.0.1:7735"

CHAIN_BLOCKS_MAX = 10_000
"""Blocks that a maker may take into account of its chain, at the most: what is more would be no chain to trade on."""

_USUAL = ChainRisk(block_seconds=1.0)
"""What is taken into account of any chain, unless told otherwise."""

_TEMPLATE = """\
# Settings of a Tallystick node. Change them while the node is stopped.

# Where the chain node answers JSON-RPC (`tally chain run` serves one), and which chain and contract it must be:
# the node refuses to work with any other. A real chain is named by the URLs of Ethereum nodes in rpc, one or several:
# the first is asked first, the others if it fails, and each is checked by the others. chain_url is not used then.
chain_url = {chain_url}
rpc = {rpc}
chain_id = {chain_id}
contract = {contract}

# On a real chain: the court that the contract asks about apps, as `tally chain deploy` says; the node refuses to work
# if it or its rules are others than this version's. Empty: this node neither signs nor takes locks of apps there.
court = {court}

# The first block to follow: that in which the contract was deployed, as `tally chain deploy` says. Never change it.
start_block = {start_block}

# Where peers connect, as host:port. Port 0 takes any free one; "" listens nowhere, so that this node only dials.
listen = {listen}

# The address that the network is told, as host:port, where others reach this node: needed behind a router, a proxy, or
# when listening on every interface. Empty: where it listens, if others can reach that (never 0.0.0.0 or loopback).
announce_address = {announce_address}

# Depth at which a block's word counts, at the least: 1 is the newest block. More is slower and safer. Locks and their
# secrets count by it, whatever they are worth.
confirmations = {confirmations}

# Deposits, openings and ends of channels have to be deeper where more is at risk: on a real chain as docs/evm.md says
# ([] here), or as this list says, of pairs [amount in the coin's smallest unit, depth], in order. What is more than the
# last amount counts once the chain calls its block final. In tokens token_confirmations counts for any amount; 0: the
# last depth of the list. A token's own table, below, goes before.
depths = {depths}
token_confirmations = {token_confirmations}

# Seconds of chain time that a unilateral close of the channels opened here can be challenged.
challenge_period = {challenge_period}

# The longest such time of a channel that a peer may open with this node: what this node has in it can be bound as long
# once the peer stops answering.
challenge_period_max = {challenge_period_max}

# How many of the newest updates to keep in each direction of each channel, as history: 0 keeps none, -1 keeps all.
history = {history}

# Watchtowers that guard this node's channels while it is down, each as <public key in hex>@<host>:<port>.
towers = {towers}

# Of how many of these towers receipts must be here before what a peer pays is acknowledged. 0: of none; payments wait
# for no tower, and `tally towers` shows what is at risk. With 1 or more, this much of each asset, in its smallest unit,
# may be taken in with fewer receipts, over all channels (0: nothing may). Beyond that, payments wait for the towers.
tower_receipts = {tower_receipts}
tower_unsecured = {tower_unsecured}

# What this node asks for carrying payments of others, where `tally channel policy` says nothing else: an amount for
# each, and so many per million units.
base_fee = {base_fee}
fee_ppm = {fee_ppm}

# Whether the network is told of this node's channels, so that others can pay it and through it, and by which name.
announce = {announce}
alias = {alias}

# Whether payments are taken that nobody asked for with an invoice.
keysend = {keysend}

# The directories of this owner's nodes on other chains, absolute or as seen from this one: `tally node run` runs them
# in the same process, each by its own settings, and any of them pays and swaps over the chains of all.
also = {also}

# The most that this node has in virtual channels (`tally channel open --virtual`), all together, for it to agree to one
# more that a peer asks for, in the asset's smallest unit: it can be bound for a day. 0: it agrees where it puts in
# nothing.
virtual_deposit = {virtual_deposit}

# Whether this node is a maker: it carries payments between its chains and assets at the rates that `tally rate` sets.
maker = {maker}

# What a maker takes into account: for how many seconds it may be down while a payment crosses, and by how many the
# clock of one chain may be ahead of the other's. More is safer, and binds payers' money for longer (`tally maker`).
maker_absence = {maker_absence}
maker_skew = {maker_skew}

# What a maker takes this chain to be capable of at its worst, while a payment crosses: how many blocks a reorganisation
# replaces (0: as many as count as final for this node), within how many blocks what pays enough is mined, and for how
# many seconds the chain stands still. Each node of a maker has its own. More is safer, and widens the margin, too.
chain_depth = {chain_depth}
chain_inclusion = {chain_inclusion}
chain_stall = {chain_stall}

# Whether ways through the network are searched by compiled code: an order of magnitude faster on large networks. It
# takes `pip install tallystick[fast]`, and some seconds at the very first start.
compiled = {compiled}

# Other assets than the chain's coin that this node knows, each in a table named by its contract's address. Channels in
# any asset can be used; what is named here is taken without an invoice, too, in any number of locks at once (in other
# assets, few may pend with a peer, as each may cost a claim on chain), and comes first where room is short. All
# amounts are in the asset's smallest unit. base_fee (0), fee_ppm (as above) and minimum (1) are what is asked for
# carrying payments, part_min (1000) is the smallest part that a payment is split into, fee_units (0) is what a payment
# may cost besides 5 %. confirmations (0: token_confirmations) is the depth at which deposits in it count; or else
# unit_worth is what its smallest unit is worth in the coin's smallest units: then they count as that much of the coin.
# [assets.0x70…70]
# base_fee = 2
{assets}"""


class AssetSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of `assets`. See the comment in `config.toml`."""

    base_fee: int = 0
    fee_ppm: int | None = None
    minimum: int = 1
    part_min: int = 1_000
    fee_units: int = 0
    confirmations: int = 0
    unit_worth: float = 0.0

    def policy(self, fee_ppm: int) -> ForwardingPolicy:
        """Return what is asked for carrying payments in this asset; `fee_ppm` is for where the table names none."""
        rate = fee_ppm if self.fee_ppm is None else self.fee_ppm
        return ForwardingPolicy(base_fee=self.base_fee, fee_ppm=rate, minimum=self.minimum)


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `config.toml` says. See the comments there."""

    chain_url: str = DEFAULT_URL
    rpc: tuple[str, ...] = ()
    chain_id: int
    contract: str
    court: str = ""
    start_block: int = 0
    listen: str = DEFAULT_LISTEN
    announce_address: str = ""
    confirmations: int = 3
    depths: tuple[tuple[int, int], ...] = ()
    token_confirmations: int = 0
    challenge_period: int = 86_400
    challenge_period_max: int = Policy().challenge_period_max
    history: int = -1
    towers: tuple[str, ...] = ()
    tower_receipts: int = 0
    tower_unsecured: int = 0
    base_fee: int = 0
    fee_ppm: int = 1_000
    announce: bool = True
    alias: str = ""
    keysend: bool = True
    compiled: bool = False
    also: tuple[str, ...] = ()
    virtual_deposit: int = 0
    maker: bool = False
    maker_absence: int = MakerRisk().absence
    maker_skew: int = MakerRisk().skew
    chain_depth: int = 0
    chain_inclusion: int = _USUAL.inclusion
    chain_stall: int = math.ceil(_USUAL.stall)
    assets: dict[str, AssetSettings] = {}

    def __post_init__(self) -> None:
        parse_place(self.listen)
        _read("announce_address", places.check_announced, self.announce_address)
        parse_address(self.contract, "contract")
        self._check_court()
        _ = self.tower_addresses
        self._check_times()
        self._check_bounds()
        policies = {"": ForwardingPolicy(base_fee=self.base_fee, fee_ppm=self.fee_ppm)}
        for asset, found in self.assets.items():
            if parse_address(asset, "an asset") == NATIVE:
                raise ConfigurationError("assets names the chain's own coin: its settings are outside of all tables")
            policies[f" of asset {asset}"] = found.policy(self.fee_ppm)
            for name, value in (("part_min", found.part_min), ("fee_units", found.fee_units)):
                if not 0 <= value < 1 << 63:
                    raise ConfigurationError(f"{name} of asset {asset} must be from 0 to 2**63 - 1, not {value}")
        for of, policy in policies.items():
            if flaw := policy.flaw():
                raise ConfigurationError(f"base_fee = {policy.base_fee}, fee_ppm = {policy.fee_ppm}{of}: {flaw}")
        _ = self.depth_policy, self.maker_risk
        self._check_chain_risk()
        for url in (self.chain_url, *self.rpc):
            if not re.match(r"https?://[^/\s]", url):
                raise ConfigurationError(
                    f"the URL of a chain node begins with http:// or https:// and a host, unlike {url!r}"
                )
        if self.start_block < 0:
            raise ConfigurationError(f"start_block must be the number of a block, not {self.start_block}")
        if len(self.alias.encode()) > ALIAS_BYTES_MAX or not self.alias.isprintable():
            raise ConfigurationError(f"alias must be printable and have at most {ALIAS_BYTES_MAX} bytes in UTF-8")
        if self.compiled and not compilable():
            raise ConfigurationError("compiled needs numba: `pip install tallystick[fast]`, or set it to false")

    def _check_court(self) -> None:
        if self.court_address is not None and not self.rpc:
            raise ConfigurationError("court is of a real chain, which rpc names: leave it empty for a simulated one")

    def _check_bounds(self) -> None:
        if not 0 <= self.tower_receipts <= len(self.towers):
            raise ConfigurationError(
                f"tower_receipts must be from 0 to the number of towers, {len(self.towers)}, not {self.tower_receipts}"
            )
        if not 0 <= self.tower_unsecured <= AMOUNT_MAX:
            raise ConfigurationError(f"tower_unsecured must be from 0 to {AMOUNT_MAX}, not {self.tower_unsecured}")
        if not 0 <= self.virtual_deposit <= AMOUNT_MAX:
            raise ConfigurationError(f"virtual_deposit must be from 0 to {AMOUNT_MAX}, not {self.virtual_deposit}")
        if self.history < -1:
            raise ConfigurationError(f"history must be a number of updates, or -1 for all, not {self.history}")

    def _check_times(self) -> None:
        for name, value in (("confirmations", self.confirmations), ("challenge_period", self.challenge_period)):
            if value < 1:
                raise ConfigurationError(f"{name} must be at least 1, not {value}")
        if not self.challenge_period <= self.challenge_period_max <= CHALLENGE_PERIOD_MAX:
            raise ConfigurationError(
                f"challenge_period_max must be from challenge_period, {self.challenge_period}, to "
                f"{CHALLENGE_PERIOD_MAX}, not {self.challenge_period_max}"
            )

    @property
    def place(self) -> tuple[str, int] | None:
        """Host and port of `listen`, None if the node only dials."""
        return parse_place(self.listen)

    @property
    def asset_settings(self) -> dict[Address, AssetSettings]:
        """The tables of `assets`, by their contracts' 20 bytes."""
        return {parse_address(asset, "an asset"): found for asset, found in self.assets.items()}

    @property
    def depth_policy(self) -> DepthPolicy:
        """How deep what moves money has to be; raise ConfigurationError if that makes no sense."""
        try:
            return DepthPolicy(
                ladder=tuple(DepthStep(worth=worth, blocks=blocks) for worth, blocks in self.depths) or None,
                token_confirmations=self.token_confirmations,
                tokens={
                    asset: TokenDepth(confirmations=found.confirmations, unit_worth=found.unit_worth)
                    for asset, found in self.asset_settings.items()
                },
            )
        except InvalidInput as error:
            raise ConfigurationError(f"depths, token_confirmations, assets: {error}") from error

    @property
    def maker_risk(self) -> MakerRisk:
        """What a maker takes into account of itself; raise ConfigurationError if that is more than locks may live."""
        for name, value in (("maker_absence", self.maker_absence), ("maker_skew", self.maker_skew)):
            if not 0 <= value <= LOCK_LIFE_MAX // 2:
                raise ConfigurationError(f"{name} must be from 0 to {LOCK_LIFE_MAX // 2} seconds, not {value}")
        return MakerRisk(absence=self.maker_absence, skew=self.maker_skew)

    def chain_risk(self, figures: ChainFigures) -> ChainRisk:
        """Return what a maker takes the chain to be capable of, which moves as these figures say."""
        usual = risk_of(figures, self.confirmations)
        changes = {"inclusion": self.chain_inclusion, "stall": self.chain_stall}
        return msgspec.structs.replace(usual, depth=self.chain_depth or usual.depth, **changes)

    def _check_chain_risk(self) -> None:
        bounds = (
            ("chain_depth", self.chain_depth, 0, CHAIN_BLOCKS_MAX, "blocks"),
            ("chain_inclusion", self.chain_inclusion, 1, CHAIN_BLOCKS_MAX, "blocks"),
            ("chain_stall", self.chain_stall, 0, LOCK_LIFE_MAX // 2, "seconds"),
        )
        for name, value, least, most, unit in bounds:
            if not least <= value <= most:
                raise ConfigurationError(f"{name} must be from {least} to {most} {unit}, not {value}")

    @property
    def contract_address(self) -> Address:
        """The adjudicator's 20 bytes."""
        return parse_address(self.contract, "contract")

    @property
    def court_address(self) -> Address | None:
        """The 20 bytes of the court on a real chain, None if none is named."""
        return parse_address(self.court, "court") if self.court else None

    @property
    def tower_addresses(self) -> tuple[PeerAddress, ...]:
        """Where the watchtowers are, and their keys."""
        return tuple(_read("towers", PeerAddress.parse, text) for text in self.towers)


def parse_place(text: str) -> tuple[str, int] | None:
    """Read `host:port`; empty is None. Raise ConfigurationError if it is neither."""
    return _read("listen", places.parse_place, text) if text else None


def _read(name: str, read: Callable[[str], T], text: str) -> T:
    """Return what `read` makes of a setting; what it does not take is a ConfigurationError that names the setting."""
    try:
        return read(text)
    except InvalidInput as error:
        raise ConfigurationError(f"{name}: {error}") from error


def parse_address(text: str, what: str) -> Address:
    """Read 0x and 40 hex digits, in mixed case with their checksum; raise ConfigurationError if it is not that."""
    try:
        raw = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != 20:
        raise ConfigurationError(f"{what} is written 0x and 40 hex digits, not {text!r}")
    if not fits_checksum(text.removeprefix("0x")):
        raise ConfigurationError(f"{what} {text} is mistyped: its capitals, a checksum (EIP-55), do not fit its digits")
    return Address(raw)


def data_directory(given: Path | None) -> Path:
    """Return the data directory: `given`, else TALLY_DATA, else ~/.tallystick."""
    if given is not None:
        return given
    named = os.environ.get(DATA_VARIABLE)
    return Path(named) if named else Path.home() / ".tallystick"


def write_settings(directory: Path, settings: Settings) -> Path:
    """Write a commented config.toml; raise ConfigurationError if there is one already."""
    path = directory / CONFIG
    tables = "".join(_table(asset, found) for asset, found in settings.assets.items())
    values = {name: _written(value) for name, value in msgspec.structs.asdict(settings).items()}
    text = _TEMPLATE.format(**{**values, "assets": tables})
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_new(path, text)  # whole or not at all: what a full disk cuts off would be read as settings
    except FileExistsError as error:
        raise ConfigurationError(f"{path} exists already, and it is not overwritten") from error
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error
    return path


def read_settings(directory: Path) -> Settings:
    """Read config.toml; raise ConfigurationError, saying what is wrong with it."""
    path = directory / CONFIG
    try:
        return msgspec.convert(tomllib.loads(path.read_text("utf-8")), Settings)
    except FileNotFoundError:
        raise ConfigurationError(f"there is no node in {directory}: run `tally init` first") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"{path} is not right: {error}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{path} is not right: {error}") from error


def other_settings(directory: Path, settings: Settings) -> list[tuple[Path, Settings]]:
    """Return the directories that `also` names, with their settings; raise ConfigurationError if they cannot be run."""
    found = list[tuple[Path, Settings]]()
    chains = {settings.chain_id: directory}
    for name in settings.also:
        path = directory / name
        theirs = read_settings(path)
        if theirs.also or theirs.maker:
            raise ConfigurationError(
                f"{path / CONFIG}: `also` and `maker` are for the first node, in {directory}, alone"
            )
        if (same := chains.setdefault(theirs.chain_id, path)) != path:
            raise ConfigurationError(f"{same} and {path} are on one chain: a node carries all of its assets")
        found.append((path, theirs))
    return found


def _table(asset: str, settings: AssetSettings) -> str:
    named = {name: value for name, value in msgspec.structs.asdict(settings).items() if value is not None}
    return f"\n[assets.{asset}]\n" + "".join(f"{name} = {value}\n" for name, value in named.items())


def _written(value: object) -> str:
    """Write a value in TOML, which takes JSON's texts, numbers, flags and lists as they are."""
    return msgspec.json.encode(value).decode()
