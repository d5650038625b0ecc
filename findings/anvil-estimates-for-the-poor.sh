#!/usr/bin/env bash
# anvil: a program asks `eth_estimateGas` before it sends, and takes an error as the word that the account cannot pay.
#
# Guess: a transfer of more than the sender has cannot be estimated, as `eth_call` of it is an error, and as geth has it.
# What happens (1.7.1): a plain transfer, to an account without code and without data, is 21000 for whatever value, from an account
# that has nothing too. With a byte of data, or to a contract, the same is refused with "Insufficient funds". So a test with
# plain accounts says nothing of whether the program notices.
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
  const [from, to] = await get("eth_accounts");
  const [empty, contract] = ["0x" + "77".repeat(20), "0x" + "88".repeat(20)];
  await get("anvil_setCode", contract, "0x00");
  const value = "0x" + (10n ** 30n).toString(16);
  const seen = [];
  for (const [name, method, call] of [
    ["estimate, to an account", "eth_estimateGas", { from, to, value }],
    ["estimate, from an empty one", "eth_estimateGas", { from: empty, to, value }],
    ["estimate, with a byte of data", "eth_estimateGas", { from, to, value, data: "0x00" }],
    ["estimate, to a contract", "eth_estimateGas", { from, to: contract, value }],
    ["call, to an account", "eth_call", { from, to, value }],
  ]) {
    const { result, error } = await ask(method, call);
    console.log(`  ${name}:`, result ?? error.message);
    seen.push(result ?? error.message.slice(0, 18));
  }
  stop();
  const refused = "Insufficient funds";
  process.exit(seen.join() === ["0x5208", "0x5208", refused, refused, refused].join() ? 0 : 1);
})();
PROGRAM
node program.js
