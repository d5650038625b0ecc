#!/usr/bin/env bash
# @metamask/eth-sig-util 8.2.0 (npm): a struct named with a dollar sign, which is an identifier in Solidity and so a name under EIP-712,
# is not found when the description of a type that uses it is put together: `Order($Item item)` instead of
# `Order($Item item)$Item(uint256 price)`. ethers 6.17.0 and viem 2.57.20 agree with each other and with the EIP. So one and the same
# typed data has two digests, and a signature made with the one library is another signer's for the others.
# We guessed that all three agree on every type that Solidity can name.
# Exit 0: as described. Exit 1: it has changed.
set -euo pipefail
place=$(mktemp -d); trap 'rm -rf "$place"' EXIT
cd "$place"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund @metamask/eth-sig-util@8.2.0 ethers@6.17.0 viem@2.57.20
node <<'JS'
const { TypedDataUtils, SignTypedDataVersion } = require("@metamask/eth-sig-util");
const { TypedDataEncoder } = require("ethers");
const { hashTypedData } = require("viem");
const domain = { name: "shop" };
const message = { item: { price: 5 } };
let asDescribed = true;
for (const [name, agree] of [["Item", true], ["$Item", false]]) {
  const types = { Order: [{ name: "item", type: name }], [name]: [{ name: "price", type: "uint256" }] };
  const whole = { types: { EIP712Domain: [{ name: "name", type: "string" }], ...types }, primaryType: "Order", domain, message };
  const digests = {
    "eth-sig-util": "0x" + Buffer.from(TypedDataUtils.eip712Hash(whole, SignTypedDataVersion.V4)).toString("hex"),
    ethers: TypedDataEncoder.hash(domain, types, message),
    viem: hashTypedData(whole),
  };
  console.log(name, TypedDataUtils.encodeType("Order", types), digests);
  asDescribed &&= digests.ethers === digests.viem && (digests["eth-sig-util"] === digests.viem) === agree;
}
process.exit(asDescribed ? 0 : 1);
JS
