#!/usr/bin/env bash
# anvil: a program estimates fees by `eth_feeHistory`, and names a newest block that the node does not have (yet), because another node
# told it the number.
#
# Guess: an error, as `eth_getBalance` at that block is one here, and as geth has it ("request beyond head block"). What happens (1.7.1):
# an answer without an error, about blocks that do not exist: `oldestBlock` is right below the number asked for, the lists of
# blocks are empty, and `baseFeePerGas` has one entry, which is the next block's after the node's own head. And percentiles that
# fall, or are above 100, for which geth gives errors, are answered too.
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
  for (let i = 0; i < 3; i++) await get("evm_mine");
  const next = (await get("eth_feeHistory", "0x1", "latest", [])).baseFeePerGas.at(-1);
  const future = await get("eth_feeHistory", "0x2", "0x1388", [50]);
  const balance = await ask("eth_getBalance", "0x" + "11".repeat(20), "0x1388");
  const odd = await ask("eth_feeHistory", "0x2", "latest", [90, 10, 120]);
  console.log("head 3, history of 2 blocks up to 5000:", JSON.stringify(future));
  console.log("balance at 5000:", balance.error?.message);
  console.log("percentiles 90, 10, 120:", JSON.stringify(odd.result?.reward ?? odd.error));
  stop();
  const invented = Number(future.oldestBlock) === 4999 && future.gasUsedRatio.length === 0 && future.baseFeePerGas.join() === next;
  process.exit(invented && balance.error && odd.result?.reward.every((each) => each.length === 3) ? 0 : 1);
})();
PROGRAM
node program.js
