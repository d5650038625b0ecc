#!/usr/bin/env bash
# A server takes payments by two methods, vendor_pay and other. An mppx client that can pay by vendor_pay, and is told never to pay by
# other, says so in Accept-Payment: "vendor_pay/charge, other/charge;q=0". mppx takes _ and : in the names of methods.
#
# Guess: mppx's server offers vendor_pay alone, as it does for a method of the name vendor-pay.
# What happens (mppx 0.11.0): it offers both. Its parser of Accept-Payment knows no _ and no : in a name, though mppx's own client
# writes them there, and one entry that it does not parse makes it leave all of them aside without a word.
#
# Exits with 0 if it is still so, and fails if not. Needs node and npm; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
echo '{"private": true}' > package.json
npm install --silent --no-fund --no-audit --legacy-peer-deps mppx@0.11.0 viem@2.57.20
cat > program.mjs <<'PROGRAM'
import { Method, Receipt, z } from 'mppx'
import * as client from 'mppx/client'
import * as server from 'mppx/server'

const charge = (name) =>
  Method.from({
    intent: 'charge',
    name,
    schema: {
      credential: { payload: z.object({ proof: z.string() }) },
      request: z.object({ amount: z.string() }),
    },
  })
const verify = async () =>
  Receipt.from({ method: 'm', reference: 'r', status: 'success', timestamp: new Date().toISOString() })

const seen = []
for (const name of ['vendor-pay', 'vendor_pay', 'vendor:pay']) {
  let said
  const buyer = client.Mppx.create({
    fetch: async (input, init) => {
      said = new Request(input, init).headers.get('accept-payment')
      return new Response()
    },
    methods: [charge(name), charge('other')].map((method) => Method.toClient(method, { createCredential: async () => '' })),
    paymentPreferences: { 'other/charge': 0 },
    polyfill: false,
  })
  await buyer.fetch('https://shop/fortune')
  const seller = server.Mppx.create({
    methods: [charge(name), charge('other')].map((method) => Method.toServer(method, { verify })),
    realm: 'shop',
    secretKey: 'a key of 32 bytes for our finding',
  })
  const serve = seller.compose([`${name}/charge`, { amount: '1' }], ['other/charge', { amount: '1' }])
  const answer = await serve(new Request('https://shop/fortune', { headers: { 'accept-payment': said } }))
  const offered = [...answer.challenge.headers.get('www-authenticate').matchAll(/method="([^"]*)"/g)].map((found) => found[1])
  console.log(`its client says ${said}; its server offers ${offered.join(' and ')}`)
  seen.push(offered.length)
}
if (JSON.stringify(seen) !== '[1,2,2]') {
  console.log('it behaves otherwise now')
  process.exit(1)
}
PROGRAM
node program.mjs
