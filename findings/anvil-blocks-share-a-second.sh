#!/usr/bin/env bash
# anvil: a test mines blocks one after another, and looks for the block of a time, or counts on time having passed between two.
#
# Guess: each block is later than the one before it, as the protocol demands of every block (a header whose timestamp is not
# above its parent's is invalid). What happens (1.7.1): blocks mined within one second of the clock carry one timestamp,
# whether by `evm_mine` or by transactions, and `evm_setNextBlockTimestamp` takes the time of the block before it, and refuses an
# earlier one alone. So code that orders blocks by time meets here what it meets on no chain, and a period of one second that
# has to pass between two transactions has not.
#
# Exits with 0 if it is still so, and fails if not. Needs Linux on x86-64, node, npm; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund @foundry-rs/anvil-linux-amd64@1.7.1
node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil --version | head -1
cat > program.js <<'PROGRAM'
const { spawn } = require("node:child_process");

async function start(...options) {
  const node = spawn("node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil", ["--port", "0", ...options]);
  process.on("exit", () => node.kill());
  setTimeout(() => process.exit(1), 60_000).unref();
  const url = await new Promise((found) => {
    let text = "";
    node.stdout.on("data", (part) => {
      const told = /Listening on (\S+)/.exec((text += part));
      if (told) found(`http://${told[1]}`);
    });
  });
  const ask = async (method, ...params) => {
    const headers = { "content-type": "application/json" };
    const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
    return await (await fetch(url, { method: "POST", headers, body })).json();
  };
  const get = async (method, ...params) => {
    const answer = await ask(method, ...params);
    if (answer.error) throw new Error(answer.error.message);
    return answer.result;
  };
  return { ask, get, stop: () => node.kill() };
}

(async () => {
  const { ask, get, stop } = await start();
  const time = async (block) => Number((await get("eth_getBlockByNumber", block, false)).timestamp);
  for (let i = 0; i < 20; i++) await get("evm_mine");
  const mined = [];
  for (let i = 1; i <= 20; i++) mined.push(await time("0x" + i.toString(16)));
  const steps = mined.slice(1).map((each, i) => each - mined[i]);
  console.log("seconds between 20 blocks:", steps.join(" "));
  const last = await time("latest");
  const same = await ask("evm_setNextBlockTimestamp", last + 100);
  await get("evm_mine");
  const again = await ask("evm_setNextBlockTimestamp", last + 100);
  await get("evm_mine");
  const earlier = await ask("evm_setNextBlockTimestamp", last + 99);
  const pair = [await time("0x15"), await time("0x16")].map((each) => each - last);
  console.log("asked for +100, +100:", ...pair, "asked for +99:", earlier.error?.message);
  stop();
  const asDescribed = steps.includes(0) && !same.error && !again.error && pair.join() === "100,100" && Boolean(earlier.error);
  process.exit(asDescribed ? 0 : 1);
})();
PROGRAM
node program.js
