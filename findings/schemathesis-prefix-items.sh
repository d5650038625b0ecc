#!/usr/bin/env bash
# schemathesis: an OpenAPI 3.1 document says of an answer that it is a pair, by `prefixItems`, as JSON Schema 2020-12 has it and
# msgspec writes it for `tuple[int, int]`. Is the answer [1, 2] checked by it?
#
# Guess: yes; documents of 3.1 are JSON Schema 2020-12, and openapi-spec-validator takes this one. What happens (4.32.5):
# the operation ends with "Schema Error": prefixItems is made into the `items` of older drafts, a list, and that is then
# found to be invalid by the new one: `is not of types "boolean", "object"`. The document holds no such list. With plain
# `items` and `minItems`, `maxItems` it passes.
#
# Exits with 0 if it is still so, and fails if not. Needs python3 and PyPI; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet schemathesis==4.32.5 openapi-spec-validator==0.9.0
cd "$folder"
cat > program.py <<'PROGRAM'
import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib.metadata import version

from openapi_spec_validator import validate


class Pair(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"[1, 2]")

    def log_message(self, *arguments: object) -> None:
        pass


def document(pair: dict) -> dict:
    answer = {"description": "a pair", "content": {"application/json": {"schema": pair}}}
    paths = {"/pair": {"get": {"responses": {"200": answer}}}}
    return {"openapi": "3.1.0", "info": {"title": "pairs", "version": "1"}, "paths": paths}


print("schemathesis", version("schemathesis"), "openapi-spec-validator", version("openapi-spec-validator"))
server = HTTPServer(("127.0.0.1", 0), Pair)
threading.Thread(target=server.serve_forever, daemon=True).start()
whole, two = {"type": "integer"}, {"type": "array", "minItems": 2, "maxItems": 2}
seen = []
for name, pair in {"items": {**two, "items": whole}, "prefixItems": {**two, "prefixItems": [whole, whole]}}.items():
    validate(document(pair))
    with open("api.json", "w") as file:
        json.dump(document(pair), file)
    command = ["env/bin/schemathesis", "run", "api.json", "--url", f"http://127.0.0.1:{server.server_port}"]
    options = ["--checks", "response_schema_conformance", "--phases", "fuzzing", "--max-examples", "3"]
    done = subprocess.run(command + options, capture_output=True, text=True, check=False)
    told = [line.strip() for line in done.stdout.splitlines() if "is not of types" in line]
    print(f"{name:12} exit {done.returncode}", *told)
    seen.append((done.returncode, bool(told)))
raise SystemExit(0 if seen == [(0, False), (1, True)] else "it behaves otherwise now")
PROGRAM
"$folder/env/bin/python" program.py
