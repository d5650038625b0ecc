"""What a group of shards keeps on disk: who they are, and the key of each.

    DATA/shards.json       the group: chain ids, public keys, depth of what is final
    DATA/shard-0/key       the key under which shard 0 signs its final blocks, mode 0600
    DATA/shard-0/…         the ledger of shard 0, as of any simulated chain

A key guards what the other shards believe of its shard. It is not encrypted, as its process starts without a person.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from tallystick.channels.errors import InvalidInput
from tallystick.channels.ports import Entropy
from tallystick.channels.protocol.keys import PrivateKey
from tallystick.sdk.daemon.keystore import write_new
from tallystick.sdk.errors import ConfigurationError
from tallystick.settlement.shards.group import ShardGroup
from tallystick.settlement.simulated.branch import ADJUDICATOR

GROUP = "shards.json"
KEY = "key"


class _GroupFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    chain_id: int
    contract: str
    keys: list[str]
    final_blocks: int


def shard_folder(data: Path, number: int) -> Path:
    """Return where a shard keeps its ledger."""
    return data / f"shard-{number}"


def prepare_group(data: Path, count: int, chain_id: int, final_blocks: int, entropy: Entropy) -> ShardGroup:
    """Return the group in a directory; a new one, with new keys, if there is none. Raise ConfigurationError."""
    if (data / GROUP).exists():
        group = read_group(data)
        if (len(group), group.chain_id, group.final_blocks) != (count, chain_id, final_blocks):
            raise ConfigurationError(
                f"{data} holds {len(group)} shards from chain id {group.chain_id} on, final after {group.final_blocks} "
                "blocks: that cannot be changed; use these options, or another directory"
            )
        return group
    try:
        keys = [_make_key(shard_folder(data, number), entropy) for number in range(count)]
        public = [bytes(key.public) for key in keys]
        group = ShardGroup(chain_id=chain_id, contract=ADJUDICATOR, keys=tuple(public), final_blocks=final_blocks)
        file = _GroupFile(chain_id, group.contract.hex(), [key.hex() for key in public], final_blocks)
        write_new(data / GROUP, msgspec.json.format(msgspec.json.encode(file), indent=2).decode() + "\n")
    except OSError as error:
        raise ConfigurationError(f"{data} cannot be used for shards: {error.strerror}") from error
    return group


def read_group(data: Path) -> ShardGroup:
    """Return the group in a directory; raise ConfigurationError."""
    path = data / GROUP
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_GroupFile)
        keys = tuple(bytes.fromhex(key) for key in file.keys)
        contract = type(ADJUDICATOR)(bytes.fromhex(file.contract))
        return ShardGroup(chain_id=file.chain_id, contract=contract, keys=keys, final_blocks=file.final_blocks)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, ValueError, InvalidInput) as error:
        raise ConfigurationError(f"{path} does not say which shards there are: {error}") from error


def read_shard_key(data: Path, number: int) -> PrivateKey:
    """Return the key of a shard; raise ConfigurationError."""
    path = shard_folder(data, number) / KEY
    try:
        return PrivateKey(bytes.fromhex(path.read_text("ascii").strip()))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, InvalidInput):
        raise ConfigurationError(f"{path} does not hold a key: 64 hex digits") from None


def _make_key(folder: Path, entropy: Entropy) -> PrivateKey:
    """Make the key of a shard, or take the one that a start that was cut short left there."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if (folder / KEY).exists():
        return read_shard_key(folder.parent, int(folder.name.rpartition("-")[2]))
    key = PrivateKey(entropy(32))
    write_new(folder / KEY, key.reveal().hex() + "\n")
    return key
