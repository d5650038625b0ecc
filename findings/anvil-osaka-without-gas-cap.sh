#!/usr/bin/env bash
# anvil: whether a batch fits into one transaction is tried out with `anvil --hardfork osaka`. Since Osaka no transaction may
# ask for more than 2**24 gas (EIP-7825).
#
# Guess: more is refused, for the fork is named. What happens (1.7.1): 20,000,000 gas is taken and mined, and used, although the node says
# of itself that it runs Osaka's rules (and it does: CLZ, which came with them, works). The cap is behind an option of its own,
# `--enable-tx-gas-limit`, that is off for every fork; with it, the same transaction is refused.
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

async function trial(...options) {
  const { ask, get, stop } = await start(...options);
  const [from] = await get("eth_accounts");
  const burner = "0x" + "77".repeat(20);
  await get("anvil_setCode", burner, "0x60011e505b600456"); // CLZ of 1, POP, then around in a loop until the gas is used up
  const { hardFork } = await get("anvil_nodeInfo");
  const { result, error } = await ask("eth_sendTransaction", { from, to: burner, gas: "0x1312d00" });
  let used = error?.message;
  while (result && !used) used = (await get("eth_getTransactionReceipt", result))?.gasUsed;
  const clz = await ask("eth_call", { to: from, data: "0x" }, "latest", { [from]: { code: "0x60011e60005260206000f3" } });
  console.log([hardFork, ...options].join(" "), "20,000,000 gas:", used, "CLZ of 1:", Number(clz.result));
  stop();
  return [result ? Number(used) : "refused", Number(clz.result)];
}
(async () => {
  const free = await trial("--hardfork", "osaka");
  const capped = await trial("--hardfork", "osaka", "--enable-tx-gas-limit");
  process.exit(free.join() === "20000000,255" && capped.join() === "refused,255" ? 0 : 1);
})();
PROGRAM
node program.js
