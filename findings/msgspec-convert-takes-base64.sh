#!/usr/bin/env bash
# msgspec: MessagePack is decoded without a schema, and the result given to `convert`. Is text taken for bytes?
#
# Guess: no. `msgspec.msgpack.decode(data, type=bytes)` refuses text, and convert is strict by default (it refuses 5.0 for
# int). What happens (0.22.0): convert takes base64 in text for bytes, as its default builtin_types are JSON's, so a message
# has several encodings, and "tea1" comes out as three other bytes. With `builtin_types=(bytes,)` both ways agree.
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


def attempt(name, read):
    try:
        result = repr(read())
    except msgspec.ValidationError as error:
        result = f"ValidationError: {error}"
    print(f"{name:45} {result}")
    return result


packed = msgspec.msgpack.encode("tea1")
untyped = msgspec.msgpack.decode(packed)
typed = attempt("msgpack.decode(data, type=bytes)", lambda: msgspec.msgpack.decode(packed, type=bytes))
plain = attempt("convert(untyped, bytes)", lambda: msgspec.convert(untyped, bytes))
told = attempt("convert(untyped, bytes, builtin_types=(bytes,))", lambda: msgspec.convert(untyped, bytes, builtin_types=(bytes,)))
float_for_int = attempt("convert(5.0, int)", lambda: msgspec.convert(5.0, int))
refused = "ValidationError: Expected `bytes`, got `str`"
as_before = (typed, plain, told) == (refused, repr(b"\xb5\xe6\xb5"), refused) and "Expected `int`" in float_for_int
raise SystemExit(0 if as_before else "it behaves otherwise now")
PROGRAM
