"""A helper that is a process of its own: it answers questions on the socket that is its standard input.

`processes` starts it. It ends with its owner, however that ends, as nobody else holds the other end of the socket.
"""

from __future__ import annotations

import signal
import socket
import struct
from contextlib import suppress

FRAME = struct.Struct(">I")
"""What stands before a question, or an answer with its name: how many bytes follow."""


def serve(connection: socket.socket) -> None:
    """Answer in order, until there is nothing more to read."""
    from tallystick.settlement.execution.questions import name_of, write_answer

    with connection.makefile("rb") as questions:
        while len(head := questions.read(FRAME.size)) == FRAME.size:
            (size,) = FRAME.unpack(head)
            question = questions.read(size)
            if len(question) < size:
                return
            answer = name_of(question)
            with suppress(Exception):  # whatever it is, the owner meets it in its turn
                answer += write_answer(question)
            connection.sendall(FRAME.pack(len(answer)) + answer)


def main() -> None:
    """Serve, whatever signals the terminal sends to all: the owner says when it is over."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=0) as connection, suppress(ConnectionError):
        serve(connection)


if __name__ == "__main__":
    main()
