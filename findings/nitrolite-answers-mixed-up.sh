#!/usr/bin/env bash
# @erc7824/nitrolite, the client of a state-channel network: a program asks for a hundred things at once, and matches answers to requests
# by `generateRequestId`, `isValidResponseRequestId` and `isValidResponseTimestamp`, as the package offers.
#
# Guess: request ids differ, and an answer that is not older than its request is valid.
# What happens (0.5.3): an id is the time in milliseconds plus a random number below 10,000, so that of 500 made at once a dozen or so
# are ids of others, and ids are not in order either. And an answer that carries the same millisecond as its request, as one from the
# same machine does, counts as invalid: its time must be larger.
#
# Exits with 0 if it is still so, and fails if not. Needs node and npm; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund @erc7824/nitrolite@0.5.3
cat > program.cjs <<'PROGRAM'
const { generateRequestId, getCurrentTimestamp, isValidResponseTimestamp } = require("@erc7824/nitrolite");

let repeated = 0; // over 20 bursts: that none of them repeats an id happens once in 10^90 runs
for (let burst = 0; burst < 20; burst++) {
  const ids = Array.from({ length: 500 }, generateRequestId);
  repeated += ids.length - new Set(ids).size;
}
const now = getCurrentTimestamp();
const request = { req: [1, "ping", [], now] };
const answered = [0, 1].map((later) => isValidResponseTimestamp(request, { res: [1, "pong", [], now + later] }));
console.log("ids that were given out already, of 20 times 500:", repeated);
console.log("an answer of the same millisecond is valid:", answered[0], "- of the next:", answered[1]);
if (repeated === 0 || answered[0] || !answered[1]) {
  console.log("it behaves otherwise now");
  process.exit(1);
}
PROGRAM
node program.cjs
