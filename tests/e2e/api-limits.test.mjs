// Each limit of a request: taken at the limit, refused one over it.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen } from './lib.mjs'
import { isError } from './api-help.mjs'
import { modelServer, provider } from './models-help.mjs'

const REPO = 'https://git.example.test/acme/web'
const valid = (more = {}) => ({ prompt: { text: 'hi' }, repos: [{ url: REPO }], ...more })
const fill = (n, f) => Object.fromEntries(Array.from({ length: n }, (_, i) => f(i)))
const list = (n, f) => Array.from({ length: n }, (_, i) => f(i))
// An image of so many bytes.
const image = bytes => ({ mimeType: 'image/gif', data: Buffer.concat([Buffer.from('474946383961', 'hex'), Buffer.from([1, 0, 1, 0, 0, 0, 0]), Buffer.alloc(bytes - 13)]).toString('base64') })
const MB = 1024 * 1024
const nested = levels => { let v = 1; for (let i = 0; i < levels; i++) v = { v }; return v } // the body is one level more

// what: [makes a body from a number, the greatest number that is taken, what the refusal names]
const limits = {
  'characters of a name': [n => valid({ name: '🦊'.repeat(n) }), 100, /name/],
  'bytes of a prompt': [n => ({ ...valid(), prompt: { text: 'x'.repeat(n) } }), MB, /prompt\.text/],
  'variables': [n => valid({ envVars: fill(n, i => [`N${i}`, 'x']) }), 50, /envVars/],
  'variables of a run': [n => valid({ runEnvVars: fill(n, i => [`N${i}`, 'x']) }), 50, /runEnvVars/],
  'bytes of the name of a variable': [n => valid({ envVars: { ['A'.repeat(n)]: 'x' } }), 255, /envVars/],
  'bytes of a variable': [n => valid({ envVars: { A: 'x'.repeat(n) } }), 4096, /envVars/],
  'tags': [n => valid({ metadata: fill(n, i => [`k${i}`, 'x']) }), 50, /metadata/],
  'characters of the key of a tag': [n => valid({ metadata: { ['ü'.repeat(n)]: 'x' } }), 64, /metadata/],
  'bytes of a tag': [n => valid({ metadata: { k: 'x'.repeat(n) } }), 1024, /metadata/],
  'repositories': [n => valid({ env: { type: 'pool', name: 'any' }, repos: list(n, i => ({ url: `${REPO}${i}` })) }), 20, /repos/],
  'bytes of an address': [n => valid({ repos: [{ url: `${REPO}/`.padEnd(n, 'x') }] }), 2048, /repos\[0\]\.url/],
  'images': [n => valid({ prompt: { text: 'x', images: list(n, () => image(13)) }, model: { id: 'clever' } }), 5, /images/],
  'bytes of an image': [n => valid({ prompt: { text: 'x', images: [image(n)] }, model: { id: 'clever' } }), 15 * MB, /15 MiB/],
  'labels': [n => valid({ labels: list(n, i => `l${i}=x`) }), 20, /labels/],
  'levels of a body': [n => valid({ agentServeAgent: nested(n - 1) }), 64, /deep|nest|level/],
}

test('each limit of a create, at it and one over', { timeout: 120_000 }, async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'openai', { model: 'images = true' }) })
  assert.equal((await pool.http('POST', '/v0/private-workers/pools', { key: pool.poolKey, body: { scope: 'team', poolName: 'any' } })).status, 200)
  for (const [what, [make, most, words]] of Object.entries(limits)) {
    const at = await pool.http('POST', '/v1/agents', { body: make(most) })
    assert.equal(at.status, 201, `${most} ${what}: ${at.text.slice(0, 300)}`)
    const over = await pool.http('POST', '/v1/agents', { body: make(most + 1) })
    assert.equal(over.status, 400, `${most + 1} ${what}: ${over.text.slice(0, 300)}`)
    isError(over, 400, 'validation_error', words)
    assert.ok(over.text.length < 700, `${what}: the refusal does not repeat what was sent`)
  }
})

test('limits of a follow-up, of a page, of headers', async t => {
  const pool = await bullpen(t)
  const { agent, run } = (await pool.http('POST', '/v1/agents', { body: valid() })).json
  await pool.http('POST', `/v1/agents/${agent.id}/runs/${run.id}/cancel`)
  const runs = body => pool.http('POST', `/v1/agents/${agent.id}/runs`, { body: { prompt: { text: 'x' }, ...body } })
  isError(await runs({ envVars: fill(51, i => [`N${i}`, 'x']) }), 400, 'validation_error', /envVars/)
  isError(await runs({ envVars: { A: 'x'.repeat(4097) } }), 400, 'validation_error', /envVars/)
  isError(await runs({ envVars: { CURSOR_X: 'x' } }), 400, 'validation_error', /envVars/)
  isError(await runs({ prompt: { text: 'x'.repeat(MB + 1) } }), 400, 'validation_error', /prompt\.text/)
  assert.equal((await runs({ envVars: fill(50, i => [`N${i}`, 'x'.repeat(4096)]) })).status, 201)
  for (const p of ['/v1/agents', `/v1/agents/${agent.id}/runs`]) {
    for (const n of [1, 100]) assert.equal((await pool.http('GET', `${p}?limit=${n}`)).status, 200)
    for (const n of [0, 101]) isError(await pool.http('GET', `${p}?limit=${n}`), 400, 'validation_error', /limit/)
  }
  const post = key => pool.http('POST', '/v1/agents', { body: valid(), headers: { 'idempotency-key': key } })
  assert.equal((await post('k'.repeat(255))).status, 201)
  isError(await post('k'.repeat(256)), 400, 'validation_error', /Idempotency-Key/i)
})
