#!/usr/bin/env bash
# Do the SDKs of the "Payment" scheme buy from our middleware? Installs pinned pympp and mppx into a temporary folder, serves
# paid calls on a till in memory, and has each SDK's own client buy: pympp under asyncio and trio, mppx under Node.
#
# tests/peers/run.sh, from anywhere; needs the environment of `make setup`, python3 with venv, node and npm.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$(dirname "$here")")
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install pympp==0.16.0 trio==0.34.0
echo '{"private": true}' > "$folder/package.json"
(cd "$folder" && npm install --silent --no-fund --no-audit --legacy-peer-deps mppx@0.11.0 viem@2.57.20 >&2)
exec 3< <(PYTHONPATH="$root/tests" exec "$root/.venv/bin/python" "$here/serve.py")
server=$!
read -r url <&3
"$folder/venv/bin/python" "$here/with_pympp.py" "$url"
cp "$here/with_mppx.mjs" "$folder/"
(cd "$folder" && node with_mppx.mjs "$url")
