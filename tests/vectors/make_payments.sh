#!/usr/bin/env bash
# Writes payments-pympp.json and payments-mppx.json: what the SDKs of the "Payment" scheme write for the same challenges,
# credentials, receipts and bodies. tests/test_payment_vectors.py reads them, and holds what we write to them.
#
# Needs python3 with venv, node and npm; installs pinned packages into a temporary folder.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip --quiet --disable-pip-version-check install pympp==0.16.0
echo '{"private": true}' > package.json
npm install --silent --no-fund --no-audit --legacy-peer-deps mppx@0.11.0 viem@2.57.20 >&2
cat > cases.json <<'CASES'
{"key": "a key of 32 bytes for our vectors",
 "challenges": [
  {"realm": "api.example.com", "method": "tallystick", "intent": "charge", "request": {"amount": "5", "currency": "native"}},
  {"realm": "api.example.com", "method": "tempo", "intent": "charge",
   "request": {"recipient": "0x12", "amount": "1000000", "currency": "0x20c0", "methodDetails": {"feePayer": true, "chainId": 42431}},
   "expires": "2026-08-07T12:00:00Z", "meta": {"for": "GET /fortune?x=1", "b": "2", "a": "1"}},
  {"realm": "Caf\u00e9 \"a, b\" \\ c", "method": "tallystick", "intent": "session", "request": {"\u00f6": "\u20ac", "a": ["\ud83d\ude00", null, false]},
   "digest": "sha-256=LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=", "description": "Two \u2014 \"halves\", Payment id=\"1\" \ud83d\ude00"},
  {"realm": "r", "method": "a-b", "intent": "charge", "request": {}, "header": "X-Payment", "expires": "2030-01-01T00:00:00.000Z",
   "meta": {"k": "v"}}],
 "payloads": [{"secret": "00ff"}, {"signature": "0x\u20ac", "nested": {"b": [1, 2], "a": "\u00e9"}}],
 "source": "did:key:z6Mk",
 "receipts": [
  {"method": "tallystick", "reference": "00ff", "status": "success", "timestamp": "2026-08-07T12:00:00Z"},
  {"method": "tempo", "reference": "0x12", "status": "success", "timestamp": "2026-08-07T12:00:00Z", "externalId": "order 7",
   "challengeId": "abc"}],
 "bodies": ["", "hello", "{\"amount\":\"\u20ac\"}"]}
CASES
cat > write.py <<'PROGRAM'
import json
from datetime import datetime
from importlib.metadata import version

from mpp import Challenge, Credential, Receipt, _body_digest

cases = json.load(open("cases.json"))
challenges, credentials = [], []
for case in cases["challenges"]:
    made = Challenge.create(secret_key=cases["key"], **case)
    challenges.append({"case": case, "id": made.id, "header": made.to_www_authenticate(made.realm)})
    for payload in cases["payloads"]:
        shown = Credential(challenge=made.to_echo(), payload=payload, source=cases["source"])
        credentials.append({"id": made.id, "payload": payload, "header": shown.to_authorization()})
receipts = []
for case in cases["receipts"]:
    known = {"method": case["method"], "reference": case["reference"], "status": case["status"]}
    more = {"challengeId": case["challengeId"]} if "challengeId" in case else None
    when = datetime.fromisoformat(case["timestamp"])
    made = Receipt(timestamp=when, external_id=case.get("externalId"), extensions=more, **known)
    receipts.append({"case": case, "header": made.to_payment_receipt()})
digests = [{"body": body, "digest": _body_digest.compute(body)} for body in cases["bodies"]]
whole = {"made_by": f"pympp {version('pympp')}, by make_payments.sh", "key": cases["key"], "source": cases["source"]}
whole |= {"challenges": challenges, "credentials": credentials, "receipts": receipts, "digests": digests}
json.dump(whole, open("payments-pympp.json", "w"), indent=1, sort_keys=True)
PROGRAM
cat > write.mjs <<'PROGRAM'
import { readFileSync, writeFileSync } from 'node:fs'
import { BodyDigest, Challenge, Credential, Receipt } from 'mppx'

const cases = JSON.parse(readFileSync('cases.json', 'utf8'))
const { version } = JSON.parse(readFileSync('node_modules/mppx/package.json', 'utf8'))
const challenges = [], credentials = []
for (const one of cases.challenges) {
  const made = Challenge.from({ ...one, secretKey: cases.key })
  challenges.push({ case: one, header: Challenge.serialize(made), id: made.id })
  for (const payload of cases.payloads) {
    const shown = Credential.from({ challenge: made, payload, source: cases.source })
    credentials.push({ header: Credential.serialize(shown), id: made.id, payload })
  }
}
const receipts = cases.receipts.map((one) => ({ case: one, header: Receipt.serialize(Receipt.from(one)) }))
const digests = cases.bodies.map((body) => ({ body, digest: BodyDigest.compute(body) }))
const made_by = `mppx ${version}, by make_payments.sh`
const whole = { challenges, credentials, digests, key: cases.key, made_by, receipts, source: cases.source }
writeFileSync('payments-mppx.json', JSON.stringify(whole, null, 1))
PROGRAM
venv/bin/python write.py
node write.mjs
for name in pympp mppx; do
  python3 -c 'import json, sys; print(json.dumps(json.load(open(sys.argv[1])), indent=1, sort_keys=True))' \
    "payments-$name.json" > "$here/payments-$name.json"
done
