#!/usr/bin/env bash
# ethers on a chain whose base fee is zero, as that of private networks, some rollups and test chains is. What does a wallet send?
#
# Guess: a transaction of type 2 (EIP-1559): the chain's blocks have the field baseFeePerGas, and its value changes nothing.
# What happens (ethers 6.17.0, anvil 1.7.1): 0n counts as no field, so the chain is taken for one before London: `getFeeData()` has no
# maxFeePerGas, and a wallet signs a legacy transaction of type 0, without a word. A chain that takes type 2 alone refuses it. viem
# 2.57.20, asked the same, sends type 2. With a base fee of 1, ethers does, too.
#
# Exits with 0 if it is still so, and fails if not. Needs Linux on x86-64, node, npm; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund @foundry-rs/anvil-linux-amd64@1.7.1 ethers@6.17.0 viem@2.57.20
cat > program.mjs <<'PROGRAM'
import { spawn } from "node:child_process";
import { JsonRpcProvider, Wallet, version } from "ethers";
import { createPublicClient, createWalletClient, defineChain, http } from "viem";
import { privateKeyToAccount } from "viem/accounts";

const KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"; // anvil's first, in its own help
const TO = "0x" + "11".repeat(20);

async function types(baseFee) {
  const options = ["--port", "0", "--base-fee", `${baseFee}`, "--gas-price", "1"];
  const node = spawn("node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil", options);
  process.on("exit", () => node.kill());
  setTimeout(() => process.exit(1), 60_000).unref();
  const url = await new Promise((found) => {
    let text = "";
    node.stdout.on("data", (part) => {
      const told = /Listening on (\S+)/.exec((text += part));
      if (told) found(`http://${told[1]}`);
    });
  });
  const provider = new JsonRpcProvider(url);
  const { maxFeePerGas } = await provider.getFeeData();
  const sent = await new Wallet(KEY, provider).sendTransaction({ to: TO, value: 1n });
  await sent.wait();
  const nativeCurrency = { name: "coin", symbol: "C", decimals: 18 };
  const chain = defineChain({ id: 31337, name: "anvil", nativeCurrency, rpcUrls: { default: { http: [url] } } });
  const client = createPublicClient({ chain, transport: http() });
  const hash = await createWalletClient({ chain, account: privateKeyToAccount(KEY), transport: http() })
    .sendTransaction({ to: TO, value: 1n });
  await client.waitForTransactionReceipt({ hash });
  const other = await client.getTransaction({ hash });
  node.kill();
  return `ethers: maxFeePerGas ${maxFeePerGas === null ? "none" : "told"}, type ${sent.type}; viem: ${other.type}`;
}

console.log("ethers", version);
const seen = [await types(0), await types(1)];
console.log("base fee 0:", seen[0]);
console.log("base fee 1:", seen[1]);
const expected = ["ethers: maxFeePerGas none, type 0; viem: eip1559", "ethers: maxFeePerGas told, type 2; viem: eip1559"];
if (JSON.stringify(seen) !== JSON.stringify(expected)) {
  console.log("it behaves otherwise now");
  process.exit(1);
}
process.exit(0);
PROGRAM
node program.mjs
