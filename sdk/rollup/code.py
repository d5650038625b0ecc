"""Is the contract at an address the rollup of this release, and not one that looks like it and takes what it gets?"""

from __future__ import annotations

from typing import Any

from tallystick.channels.protocol.objects import Address
from tallystick.contracts import artifact
from tallystick.settlement.errors import ChainError
from tallystick.settlement.rollup.rules import Place


def read_judge(code: bytes, place: Place) -> Address:
    """Return where the judge of a rollup is whose code this is; raise ChainError if it is another contract's.

    What its maker wrote into it is looked at too: for which chain and contract signatures count.
    """
    compiled, layout = artifact("Rollup").deployed, artifact("Rollup").layout["code_layout"]
    values = code[len(compiled) :]
    if not code.startswith(compiled) or len(values) != sum(each["length"] for each in layout.values()):
        raise ChainError(
            f"the contract at 0x{place.contract.hex()} is not Rollup.vy of this release: whoever made it may take all "
            "that it is given"
        )
    if _value(values, layout["CHAIN_ID"]) != place.chain_id.to_bytes(32, "big"):
        raise ChainError(f"the rollup at 0x{place.contract.hex()} was made for another chain")
    if _value(values, layout["DOMAIN"]) != place.domain:
        raise ChainError(f"the rollup at 0x{place.contract.hex()} takes what is signed for another contract")
    return Address(_value(values, layout["JUDGE"])[12:])


def check_judge(code: bytes, judge: Address) -> None:
    """Raise ChainError unless this is the code of this release's judge: another one could call any step right."""
    if code != artifact("RollupJudge").deployed:
        raise ChainError(f"the judge at 0x{judge.hex()} is not RollupJudge.vy of this release: it may lie")


def _value(values: bytes, place: dict[str, Any]) -> bytes:
    return values[place["offset"] :][: place["length"]]
