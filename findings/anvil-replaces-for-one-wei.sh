#!/usr/bin/env bash
# anvil: a wallet's code for a stuck transaction is tested: it sends the same nonce once more, with higher fees. How much higher?
#
# Guess: a tenth, on both fees, as geth's pool demands and wallets take for granted; less is "replacement transaction
# underpriced". What happens (1.7.1): one wei more of `maxFeePerGas` is enough, and the tip may then fall, to nothing too; only
# the same `maxFeePerGas` is refused. A wallet that raises too little passes its tests here and stays stuck on mainnet.
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
  const { ask, get, stop } = await start("--no-mining");
  const [from, to] = await get("eth_accounts");
  const seen = [];
  const steps = [[10_000_000_000, 1_000_000_000], [10_000_000_000, 2_000_000_000], [10_000_000_001, 1_000_000_000], [10_000_000_002, 0]];
  for (const [fee, tip] of steps) {
    const fees = { maxFeePerGas: "0x" + fee.toString(16), maxPriorityFeePerGas: "0x" + tip.toString(16) };
    const { error } = await ask("eth_sendTransaction", { from, to, nonce: "0x0", gas: "0x5208", value: "0x1", ...fees });
    console.log(`  fee ${fee}, tip ${tip}:`, error?.message ?? "taken");
    seen.push(error ? error.message : "taken");
  }
  const { pending } = await get("txpool_content");
  const [held] = Object.values(Object.values(pending)[0]);
  console.log("  in the pool:", Number(held.maxFeePerGas), Number(held.maxPriorityFeePerGas));
  stop();
  const asDescribed = seen.join() === "taken,replacement transaction underpriced,taken,taken";
  process.exit(asDescribed && Number(held.maxFeePerGas) === 10_000_000_002 ? 0 : 1);
})();
PROGRAM
node program.js
