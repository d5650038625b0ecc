"""The apps that ship. A program adds its own by `APPS.register`, before it opens a node (`interface`)."""

from __future__ import annotations

from tallystick.channels.apps.connectfour import ConnectFour
from tallystick.channels.apps.escrow import Escrow
from tallystick.channels.apps.interface import AppTable
from tallystick.channels.apps.loan import Loan
from tallystick.channels.apps.option import Option
from tallystick.channels.apps.payout import VotedPayout
from tallystick.channels.apps.raffle import Raffle
from tallystick.channels.apps.rps import RockPaperScissors
from tallystick.channels.apps.tictactoe import TicTacToe

SHIPPED = (ConnectFour(), Escrow(), Loan(), Option(), VotedPayout(), Raffle(), RockPaperScissors(), TicTacToe())

APPS = AppTable(*SHIPPED)
