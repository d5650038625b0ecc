// Buys calls of serve.py through mppx's own client: `node with_mppx.mjs URL`.
import assert from 'node:assert'
import { Credential, Method, z } from 'mppx'
import { Mppx } from 'mppx/client'

const url = process.argv[2]
const charge = Method.from({
  intent: 'charge',
  name: 'tallystick',
  schema: {
    credential: { payload: z.object({ paymentHash: z.string() }) },
    request: z.object({ amount: z.string(), currency: z.string(), methodDetails: z.any() }),
  },
})
const client = Method.toClient(charge, {
  async createCredential({ challenge }) {
    const { invoice, paymentHash } = challenge.request.methodDetails
    assert((await fetch(`${url}/pay`, { body: invoice, method: 'POST' })).ok)
    return Credential.serialize(Credential.from({ challenge, payload: { paymentHash } }))
  },
})
const mppx = Mppx.create({ methods: [client], polyfill: false })
const before = await (await fetch(`${url}/paid`)).json()
const answer = await mppx.fetch(`${url}/fortune`)
assert.equal(answer.status, 200)
assert.deepEqual(await answer.json(), { number: before.made + 1 })
assert(answer.headers.get('payment-receipt'))
assert.equal(await (await mppx.fetch(`${url}/echo`, { body: 'hello', method: 'POST' })).text(), 'hello')
const after = await (await fetch(`${url}/paid`)).json()
assert.equal(after.paid - before.paid, 12)
console.log('mppx buys')
