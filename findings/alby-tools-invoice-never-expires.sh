#!/usr/bin/env bash
# @getalby/lightning-tools: a shop asks an invoice whether it has expired. The invoice does not say when, as the default of BOLT 11 will do.
#
# Guess: it expired an hour after its time, which is that default ("The default is 3600 (1 hour) if not specified").
# What happens (9.0.1): it has no expiry, no expiry date, and `hasExpired()` is false for ever: for the specification's own example of
# 2017, too. An example that names 60 seconds has expired. bolt11 (PyPI) 2.2.0 reads 3600 seconds from the same text.
#
# Exits with 0 if it is still so, and fails if not. Needs node and npm; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund @getalby/lightning-tools@9.0.1
cat > program.mjs <<'PROGRAM'
import { Invoice } from "@getalby/lightning-tools";

// Two examples of BOLT 11: a donation of any amount, and a cup of coffee within a minute; both of June 2017.
const donation =
  "lnbc1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqypq" +
  "dpl2pkx2ctnv5sxxmmwwd5kgetjypeh2ursdae8g6twvus8g6rfwvs8qun0dfjkxaq9qrsgq357wnc5r2ueh7ck6q93dj32dlqnls087fxdwk8qakdyafkq" +
  "3yap9us6v52vjjsrvywa6rt52cm9r9zqt8r2t7mlcwspyetp5h2tztugp9lfyql";
const coffee =
  "lnbc2500u1pvjluezsp5zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zyg3zygspp5qqqsyqcyq5rqwzqfqqqsyqcyq5rqwzqfqqqsyqcyq5rqwz" +
  "qfqypqdq5xysxxatsyp3k7enxv4jsxqzpu9qrsgquk0rl77nj30yxdy8j9vdx85fkpmdla2087ne0xh8nhedh8w27kyke0lp53ut353s06fv3qfegext0eh" +
  "0ymjpf39tuven09sam30g4vgpfna3rh";

const seen = [donation, coffee].map((pr) => {
  const invoice = new Invoice({ pr });
  const year = new Date(invoice.timestamp * 1000).getUTCFullYear();
  return `of ${year}, expiry ${invoice.expiry}, has expired: ${invoice.hasExpired()}`;
});
console.log("donation:", seen[0]);
console.log("coffee:  ", seen[1]);
const expected = ["of 2017, expiry undefined, has expired: false", "of 2017, expiry 60, has expired: true"];
if (JSON.stringify(seen) !== JSON.stringify(expected)) {
  console.log("it behaves otherwise now");
  process.exit(1);
}
PROGRAM
node program.mjs
