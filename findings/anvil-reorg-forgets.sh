#!/usr/bin/env bash
# anvil: a program that follows a contract's events is tested against a reorganisation, by `anvil_reorg`. How does it learn that
# the event is gone, and what becomes of the transaction?
#
# Guess: a filter's next changes have the log once more, `removed: true`, as the JSON-RPC says and geth does, and the transaction goes
# back to the pool, from where the new branch includes it. What happens (1.7.1): the filter tells nothing of the lost log, only the
# new branch's logs and blocks; the transaction is unknown, neither in the pool nor mined ever again, and its sender's
# nonce is free. A program has to find out by the hashes: `eth_getLogs` by the lost block's hash is an error ("unknown block").
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
  const [alice, bob] = await get("eth_accounts");
  const mined = async (transaction) => {
    const hash = await get("eth_sendTransaction", transaction);
    for (;;) {
      const receipt = await get("eth_getTransactionReceipt", hash);
      if (receipt) return receipt;
    }
  };
  const code = "0x600580600b6000396000f360006000a0"; // deploys 60006000a0: LOG0 of nothing
  const { contractAddress: to } = await mined({ from: alice, data: code });
  const filter = await get("eth_newFilter", { address: to });
  const changes = async () => (await get("eth_getFilterChanges", filter)).map((log) => [log.blockHash.slice(0, 10), log.removed]);
  const receipt = await mined({ from: alice, to });
  const nonce = await get("eth_getTransactionCount", alice, "latest");
  const before = await changes();
  await get("anvil_reorg", 1, [[{ from: bob, to, gas: "0x186a0" }, 0]]);
  const after = await changes();
  console.log("the filter before:", before, "after, with another's call on the new branch:", after);
  await get("evm_mine");
  const known = await get("eth_getTransactionByHash", receipt.transactionHash);
  const pool = await get("txpool_status");
  const free = await get("eth_getTransactionCount", alice, "pending");
  const byHash = await ask("eth_getLogs", { blockHash: receipt.blockHash });
  console.log("the lost transaction:", known, "the pool:", pool, "nonce before and after:", nonce, free, byHash.error?.message);
  stop();
  const told = before.length === 1 && after.length === 1 && !before[0][1] && !after[0][1] && after[0][0] !== before[0][0];
  const lost = known === null && Number(pool.pending) + Number(pool.queued) === 0 && Number(free) === Number(nonce) - 1;
  process.exit(told && lost && byHash.error?.message === "unknown block" ? 0 : 1);
})();
PROGRAM
node program.js
