"""The files that a validator's engine runs on: keys, genesis, settings. Pure: names and what is in them.

What is not set here is as CometBFT has it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import replace
from nacl.signing import SigningKey

from tallystick.channels.ports import Entropy
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.channels.protocol.objects import NATIVE
from tallystick.channels.values.discretion import Discreet
from tallystick.settlement.modules.validator_blocks import GenesisStake
from tallystick.settlement.modules.validator_records import StakeRules
from tallystick.settlement.modules.validators import address_of
from tallystick.settlement.replicated.bounds import BLOCK_BYTES
from tallystick.settlement.replicated.genesis import APP_VERSION, Genesis
from tallystick.settlement.simulated.ledger import Mint

GENESIS = "config/genesis.json"
KEY = "config/priv_validator_key.json"
NEXT = "config/next_validator_key.json"
"""The key that is to take its place, once the chain knows it. The engine does not read it."""
BEFORE = "config/validator_key_before.json"
"""The key that it took the place of: it never votes again."""
OPERATOR = "config/operator_key.json"
"""Of the account on the ledger whose stake the validator begins with. The engine does not read it."""
NODE_KEY = "config/node_key.json"
STATE = "data/priv_validator_state.json"
"""The newest that it has voted on: with the key, what must never be there twice."""
SETTINGS = "config/config.toml"

POWER = 10
"""Voting power of each validator where stake does not decide."""

OWN_STAKE = 10**18
"""Coins that each validator stakes at the beginning, unless told otherwise."""

PROPOSE_SECONDS = 1.0
"""How long the others wait for a validator whose turn it is, before it is the next one's."""


class ValidatorKeys(Discreet, msgspec.Struct, frozen=True):
    """Secrets of a validator: seeds of two Ed25519 keys, and its operator's key on the ledger.

    With one it votes, by the other its engine is known to others.
    """

    voting: bytes
    node: bytes
    operator: bytes

    @property
    def public(self) -> bytes:
        """The public key of its votes (32 bytes)."""
        return bytes(SigningKey(self.voting).verify_key)

    @property
    def address(self) -> bytes:
        """By what the consensus knows it (20 bytes)."""
        return address_of(self.public)

    @property
    def node_id(self) -> str:
        """By what other engines know its engine."""
        return hashlib.sha256(bytes(SigningKey(self.node).verify_key)).digest()[:20].hex()


def make_keys(entropy: Entropy) -> ValidatorKeys:
    """Return new keys."""
    return ValidatorKeys(entropy(32), entropy(32), entropy(32))


def with_stakes(genesis: Genesis, keys: Sequence[ValidatorKeys], rules: StakeRules) -> Genesis:
    """Return a genesis in which these validators have an equal stake, each its operator's."""
    amount = max(OWN_STAKE, rules.own_least)
    stakes = tuple(GenesisStake(PrivateKey(each.operator).address, each.public, amount) for each in keys)
    mints = tuple(Mint(each.operator, NATIVE, each.amount) for each in stakes)
    return replace(genesis, mints=(*genesis.mints, *mints), stakes=stakes, staking=rules)


class EngineAddress(msgspec.Struct, frozen=True):
    """Where a validator's engine is reached by the others."""

    host: str
    port: int


def write_home(
    number: int, keys: Sequence[ValidatorKeys], places: Sequence[EngineAddress], genesis: Genesis, interval: float
) -> dict[str, str]:
    """Return the files of one validator's home, by name. `interval`: seconds between two blocks, besides the votes."""
    own = keys[number]
    peers = [
        f"{other.node_id}@{place.host}:{place.port}"
        for other, place in zip(keys, places, strict=True)
        if other is not own
    ]
    return {
        GENESIS: _json(_genesis(keys, genesis)),
        **_own_files(own),
        SETTINGS: _settings(f"validator{number}", places[number], peers, interval),
    }


class TrustedBlock(msgspec.Struct, frozen=True):
    """A block that a newcomer takes for true, and for how long what it proves may be old."""

    height: int
    hash: str
    """Of the consensus's header, in hexadecimal."""
    seconds: int


def write_joining_home(
    keys: ValidatorKeys,
    place: EngineAddress,
    peers: Sequence[str],
    genesis: Any,
    sources: Sequence[str],
    trusted: TrustedBlock,
) -> dict[str, str]:
    """Return the files of a home that joins a chain by a snapshot, by name; `genesis` is the consensus's, as JSON.

    `sources` are the URLs by which a light client asks, `peers` are whom the engine is to connect to.
    """
    synced = f"""
[statesync]
enable = true
rpc_servers = "{",".join(sources)}"
trust_height = {trusted.height}
trust_hash = "{trusted.hash}"
trust_period = "{trusted.seconds}s"
discovery_time = "5s"
chunk_request_timeout = "10s"
"""
    return {**_own_files(keys), GENESIS: _json(genesis), SETTINGS: _settings("joined", place, peers, 1.0) + synced}


def _own_files(own: ValidatorKeys) -> dict[str, str]:
    operator = PrivateKey(own.operator).address
    return {
        KEY: key_file(own.voting),
        NODE_KEY: _json(_secret(own.node)),
        OPERATOR: _json({"address": f"0x{operator.hex()}", "key": own.operator.hex()}),
        STATE: _json({"height": "0", "round": 0, "step": 0}),
    }


def key_file(seed: bytes) -> str:
    """Return a key of votes as the engine keeps it."""
    public = bytes(SigningKey(seed).verify_key)
    return _json({"address": address_of(public).hex().upper(), **_public(public), **_secret(seed)})


def _genesis(keys: Sequence[ValidatorKeys], genesis: Genesis) -> dict[str, Any]:
    rules, powers = genesis.staking or StakeRules(), genesis.powers()
    return {
        "genesis_time": datetime.fromtimestamp(genesis.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "chain_id": f"tally-{genesis.chain_id}",
        "initial_height": "1",
        "consensus_params": {
            "block": {"max_bytes": str(BLOCK_BYTES), "max_gas": "-1"},
            "evidence": {
                "max_age_num_blocks": str(rules.evidence_blocks),
                "max_age_duration": str(rules.evidence_seconds * 10**9),
                "max_bytes": "1048576",
            },
            "validator": {"pub_key_types": ["ed25519"]},
            "version": {"app": str(APP_VERSION)},
            "abci": {"vote_extensions_enable_height": "0"},
        },
        "validators": [
            {
                "address": own.address.hex().upper(),
                **_public(own.public),
                "power": str(powers.get(own.public, POWER)),
                "name": f"validator{at}",
            }
            for at, own in enumerate(keys)
        ],
        "app_hash": "",
        "app_state": genesis.written(),
    }


def _public(key: bytes) -> dict[str, Any]:
    return {"pub_key": {"type": "tendermint/PubKeyEd25519", "value": base64.b64encode(key).decode()}}


def _secret(seed: bytes) -> dict[str, Any]:
    both = seed + bytes(SigningKey(seed).verify_key)
    return {"priv_key": {"type": "tendermint/PrivKeyEd25519", "value": base64.b64encode(both).decode()}}


def _json(value: dict[str, Any]) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def _settings(name: str, place: EngineAddress, peers: Sequence[str], interval: float) -> str:
    return f"""\
moniker = "{name}"
log_level = "error"

[p2p]
laddr = "tcp://{place.host}:{place.port}"
persistent_peers = "{",".join(peers)}"
persistent_peers_max_dial_period = "1s"
addr_book_strict = false
allow_duplicate_ip = true
pex = false
flush_throttle_timeout = "10ms"
send_rate = 51200000
recv_rate = 51200000

[mempool]
size = 20000
cache_size = 40000

[consensus]
timeout_propose = "{round(PROPOSE_SECONDS * 1000)}ms"
timeout_prevote = "500ms"
timeout_precommit = "500ms"
timeout_commit = "{round(interval * 1000)}ms"
peer_gossip_sleep_duration = "20ms"

[storage]
discard_abci_responses = true

[tx_index]
indexer = "null"
"""
