"""What each app that ships takes, in words: who stakes what, what is agreed on at the beginning, what a move says.

A test holds it to what the rules take. docs/apps.md says what stalling costs in each, and what it cannot do.
"""

from __future__ import annotations

from typing import NamedTuple


class AppWords(NamedTuple):
    """An app, for people."""

    about: str
    stakes: str
    parameters: dict[str, str]
    moves: dict[str, str]


_GAME = "both, as a rule as much"
_TIME = "chain time, in seconds"

WORDS: dict[str, AppWords] = {
    "tictactoe": AppWords(
        "Three in a row take the other's stake; a draw pays nobody. Player 0, who proposes it, begins.",
        _GAME,
        {},
        {"cell": "0 to 8, from the top left"},
    ),
    "connectfour": AppWords(
        "Four in a line take the other's stake; a full board pays nobody. Player 0, who proposes it, begins.",
        _GAME,
        {},
        {"column": "0 to 6, from the left"},
    ),
    "rps": AppWords(
        "Rock, paper, scissors: player 0 commits to a hand, player 1 shows its own, player 0 shows what it had.",
        _GAME,
        {"commitment": "of player 0 to its hand: `tally app secret --hand` makes it"},
        {
            "hand": "rock, paper or scissors",
            "salt": "of player 0: the one of its commitment, 32 bytes in hex",
        },
    ),
    "raffle": AppWords(
        "A ticket with a chance of one in `odds`: its holder wins the prize, or loses the price.",
        "the holder the price, the other the prize",
        {
            "holder": "which player has the ticket: 0 or 1",
            "odds": "from 2 on; it is even if the prize is price × (odds - 1)",
            "commitment": "of player 0 to a secret: `tally app secret` makes both",
        },
        {
            "number": "of player 1: 32 random bytes in hex (`tally app secret` makes some)",
            "secret": "of player 0: the one of its commitment, 32 bytes in hex",
        },
    ),
    "option": AppWords(
        "A call or a put, covered in full, settled in cash by a price that an oracle signed.",
        "the holder the premium; the writer the cover: of a call `size`, of a put size × strike / unit",
        {
            "kind": "call or put",
            "holder": "which player: 0 or 1; the other one writes it",
            "oracle": "its address, in hex",
            "feed": "which price: 32 bytes in hex",
            "strike": "a price: units of cash for `unit` of what is traded",
            "size": "units of what is traded",
            "unit": "how many of them a price is for",
            "after": f"{_TIME}: the price must be of then or later",
            "before": f"{_TIME}: the price must be of then or earlier",
            "due": f"{_TIME}: the holder exercises until then, or the option lapses",
        },
        {
            "price": "what the oracle signed; with no word at all the option lapses",
            "time": f"{_TIME}: of the price",
            "signature": "the oracle's, 64 bytes in hex",
        },
    ),
    "loan": AppWords(
        "A loan against collateral, paid back in instalments: each one that is missing costs its worth.",
        "the borrower the collateral, at least `worth` for each instalment",
        {
            "borrower": "which player: 0 or 1; the other one lends",
            "worth": "what of the collateral an instalment is worth",
            "lend": f"{_TIME}: the lender pays the principal until then, or there is no loan",
            "first": f"{_TIME}: the first instalment is due then",
            "every": "seconds from one instalment to the next",
            "principal": "payment hash of the borrower's invoice for it",
            "instalments": "payment hashes of the lender's invoices, with commas, 1 to 16",
        },
        {"secret": "the receipt of what is to be paid next: first the principal, by the lender; 32 bytes in hex"},
    ),
    "escrow": AppWords(
        "A price that is held until the buyer lets it go, or an arbiter says how much of it the seller gets.",
        "the buyer the price, the seller nothing",
        {
            "buyer": "which player: 0 or 1",
            "arbiter": "its address, in hex",
            "default": "what the seller gets in a dispute if the arbiter is silent",
            "deadline": f"{_TIME}: the buyer disputes it until then; silence is consent",
            "decide": f"{_TIME}: the arbiter decides until then",
        },
        {
            "do": "release, dispute, pass, refund, accept or decision, as the state says",
            "paid": "with decision: what the seller gets",
            "signature": "with decision: the arbiter's, 64 bytes in hex",
        },
    ),
    "payout": AppWords(
        "A pay-out that members vote on: the payee gets as much as so many of them signed for.",
        "the treasurer the most that can be paid, the payee nothing",
        {
            "payee": "which player: 0 or 1",
            "members": "their addresses in hex, with commas, rising, 1 to 16",
            "needed": "how many must sign, 1 to 7",
            "due": f"{_TIME}: the payee shows the votes until then, or the stake goes back",
        },
        {
            "paid": "what they signed for",
            "members": "who signed, by their places from 0 on, rising, with commas",
            "signatures": "theirs in the same order, 64 bytes in hex each, with commas",
        },
    ),
}
"""By name."""
