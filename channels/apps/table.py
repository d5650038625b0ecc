"""The apps that ship. A program adds its own by `APPS.register`, before it opens a node (`interface`)."""

from __future__ import annotations

from tallystick.channels.apps.interface import AppTable
from tallystick.channels.apps.tictactoe import TicTacToe

SHIPPED = (TicTacToe(),)

APPS = AppTable(*SHIPPED)
