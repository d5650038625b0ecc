#!/usr/bin/env bash
# msgspec: a message holds bytes that are no UTF-8 where text stands. What does a server that catches
# `msgspec.DecodeError`, which its documents name as the error of malformed messages, meet?
#
# Guess: DecodeError, wherever it stands. What happens (0.22.0), in JSON and in MessagePack alike: in a field that the type has,
# UnicodeDecodeError, which is no msgspec error, and whose position counts from the start of the text, not of the message;
# in a field that the type does not have, or in a key, nothing: the message is taken. Only an escaped lone surrogate is a
# DecodeError, and of a short text it says "Input data was truncated". Both errors are ValueErrors: catch that.
#
# Exits with 0 if it is still so, and fails if not. Needs python3 and PyPI; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet msgspec==0.22.0
"$folder/env/bin/python" - <<'PROGRAM'
import msgspec

print("msgspec", msgspec.__version__)


class Order(msgspec.Struct):
    memo: str = ""


def attempt(name, read):
    try:
        result = repr(read())
    except ValueError as error:
        result = f"{type(error).__name__}: {error}"
    print(f"{name:38} {result}")
    return result


json, pack = msgspec.json.decode, msgspec.msgpack.decode
seen = [
    attempt("JSON, in a field", lambda: json(b'{"memo":"\xff"}', type=Order)),
    attempt("JSON, in an unknown field", lambda: json(b'{"note":"\xff","memo":"tea"}', type=Order)),
    attempt("JSON, in a key", lambda: json(b'{"\xff":1,"memo":"tea"}', type=Order)),
    attempt("JSON, a lone surrogate as an escape", lambda: json(b'"\\ud800"', type=str)),
    attempt("MessagePack, in a field", lambda: pack(b"\x81\xa4memo\xa1\xff", type=Order)),
    attempt("MessagePack, in an unknown field", lambda: pack(b"\x81\xa4note\xa1\xff", type=Order)),
]
utf8 = "UnicodeDecodeError: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"
taken, empty = repr(Order("tea")), repr(Order())
as_before = seen == [utf8, taken, taken, "DecodeError: Input data was truncated", utf8, empty]
assert not issubclass(UnicodeDecodeError, msgspec.MsgspecError)
raise SystemExit(0 if as_before else "it behaves otherwise now")
PROGRAM
