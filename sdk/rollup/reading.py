"""A rollup's state and history, read from its chain alone: what a user needs who keeps no copy of it."""

from __future__ import annotations

from tallystick.channels.errors import InvalidInput
from tallystick.sdk.rollup.chain import BLOCKS_MAX, RollupChain
from tallystick.settlement.errors import ChainError
from tallystick.settlement.modules.rollups import LAG
from tallystick.settlement.rollup.events import RollupEvent
from tallystick.settlement.rollup.state import RollupState
from tallystick.settlement.rollup.watcher import RollupWatcher


async def read_rollup(chain: RollupChain, start: int = 0, last: int | None = None) -> RollupWatcher:
    """Return a rollup's state and history, from what the chain tells from a block on, up to a block or the newest."""
    core = RollupWatcher(await chain.rules_of())
    for event in await read_events(chain, start, last):
        try:
            core.on_event(event)
        except InvalidInput as error:
            raise ChainError(f"{error}: is block {start} after the rollup's first one?") from error
    return core


async def read_events(chain: RollupChain, start: int = 0, last: int | None = None) -> list[RollupEvent]:
    """Return what the chain tells of a rollup from a block on, up to a block or the newest, in order."""
    end, found = (await chain.head()).number if last is None else last, list[RollupEvent]()
    for first in range(start, end + 1, BLOCKS_MAX):
        logs = await chain.logs(first, min(end, first + BLOCKS_MAX - 1))
        found += [event for log in logs if (event := chain.event(log)) is not None]
    return found


async def read_final_state(chain: RollupChain, start: int = 0) -> RollupState:
    """Return the state after the newest batch that nothing takes back: no conviction, and no reorganisation.

    Its window was over, and no demand waited, in a block that the chain calls final.
    """
    window, last = (await chain.facts()).window, await chain.final_number()
    header = await chain.header(last)
    core, final = await read_rollup(chain, start, last), RollupState()
    after = [*(each.before for each in core.standing[1:]), core.state]
    held = min((number for number, _ in core.waiting), default=len(core.standing))
    for each, state in zip(core.standing[:held], after, strict=False):
        if header is None or each.batch.time + LAG + window >= header.time:
            break
        final = state
    return final
