"""Validators judge by what ships alone: a program that registered rules of its own would part from all others.

Apps and kinds of locks are tables that a program may add to before it opens a node. A court case of an app that one
validator knows and the others do not, or a lock that it alone decides, would come out otherwise at that validator.
"""

from __future__ import annotations

from tallystick.channels.apps.table import APPS
from tallystick.channels.apps.table import SHIPPED as APPS_SHIPPED
from tallystick.channels.errors import InvalidInput
from tallystick.settlement.contract.verdicts import SHIPPED as VERDICTS_SHIPPED
from tallystick.settlement.contract.verdicts import VERDICTS


def check_shipped() -> None:
    """Raise InvalidInput if this program registered rules of its own. It looks at the tables, which closes them."""
    own = [f"app {app.name}/{app.version}" for app in APPS if app not in APPS_SHIPPED]
    own += [f"kind {verdict.number} of locks" for verdict in VERDICTS if verdict not in VERDICTS_SHIPPED]
    if own:
        raise InvalidInput(
            f"this program registered {', '.join(own)}, by which no other validator judges: its ledger would part from "
            "theirs. Run a validator in a program that registers nothing (`tally chain validate`)"
        )
