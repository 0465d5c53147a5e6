// Random mutations of requests that are right: never one of our faults, never a hang, and a refusal always has the documented form.
// MUTATIONS_SEED=n for the same again, MUTATIONS=n for more.
import test from 'node:test'
import assert from 'node:assert/strict'
import http from 'node:http'
import { randomUUID } from 'node:crypto'
import { bullpen } from './lib.mjs'
import { UUID } from './api-help.mjs'

const seed = Number(process.env.MUTATIONS_SEED ?? Date.now() % 1_000_000_000), rounds = Number(process.env.MUTATIONS ?? 2000)
let state = seed
function pick(n) {
  state = state + 0x6d2b79f5 | 0
  let x = Math.imul(state ^ state >>> 15, 1 | state)
  x = x + Math.imul(x ^ x >>> 7, 61 | x) ^ x
  return ((x ^ x >>> 14) >>> 0) % n
}
const any = list => list[pick(list.length)]

const REPO = 'https://git.example.test/acme/web'
const png = Buffer.concat([Buffer.from('89504e470d0a1a0a', 'hex'), Buffer.from('more')]).toString('base64')
// Some of the members that a create may have; those that are refused for themselves seldom.
const members = {
  name: 'n', env: { type: 'pool', name: 'default' }, workOnCurrentBranch: false, autoCreatePR: false, skipReviewerRequest: true, openAsCursorGithubApp: false, mode: 'plan', envVars: { A: '1' }, runEnvVars: { B: '2' }, metadata: { k: 'v' }, agentServeAgent: {},
  labels: [{ key: 'a', value: 'b' }, 'c=d'], usePrivateWorker: true, model: { id: 'playbook', params: [] },
}
const seldom = { agentId: 1, mcpServers: [{ name: 'fs', command: 'false', args: ['x'], env: { A: '1' } }], customSubagents: [{ name: 'rev', description: 'd', prompt: 'p', model: 'inherit' }] }
function create() {
  const body = { prompt: { text: 'hi', ...(pick(10) ? {} : { images: [{ data: png, mimeType: 'image/png', dimension: { width: 1, height: 1 } }] }) }, repos: [{ url: REPO, startingRef: 'main', ...(pick(10) ? {} : { prUrl: `${REPO}/pull/1` }) }] }
  for (const [k, v] of Object.entries(members)) if (pick(3) === 0) body[k] = v
  for (const [k, v] of Object.entries(seldom)) if (pick(10) === 0) body[k] = k === 'agentId' ? `bc-${randomUUID()}` : v
  return body
}
const requests = a => any([
  () => ['POST', '/v1/agents', create()], () => ['POST', '/v1/agents', create()], () => ['POST', '/v1/agents', { prompt: { text: 'x' }, repos: [{ url: REPO }] }],
  () => ['POST', `/v1/agents/${a.id}/runs`, { prompt: { text: 'x' }, mode: 'agent', model: { id: 'playbook' }, envVars: { A: '1' }, mcpServers: [] }], () => ['POST', '/v1/sub-tokens', { forUserEmail: 'dev@example.test' }],
  () => ['GET', `/v1/agents?limit=5&prUrl=${encodeURIComponent(`${REPO}/pull/1`)}&includeArchived=true`], () => ['GET', `/v1/agents/${a.id}/runs?limit=5`], () => ['GET', `/v1/agents/${a.id}/runs/${a.run}`], () => ['GET', `/v1/agents/${a.id}/usage?runId=${a.run}`],
  () => ['POST', `/v1/agents/${a.id}/archive`], () => ['POST', `/v1/agents/${a.id}/unarchive`], () => ['POST', `/v1/agents/${a.id}/runs/${a.run}/cancel`],
])()
const odd = () => any([null, true, false, 0, -1, 1.5, 1e308, -0, 2 ** 53, '', ' ', 'x', 'x'.repeat(5000), '\u0000', '\ud800', '🦊', '\u202e', '../..', '%00', "'; DROP TABLE agents;--", '-x', '--upload-pack=x', [], {}, [[]], [null], { toString: 1 }, { $ref: '#' }, () => 0, REPO, `bc-${randomUUID()}`, 'file:///etc/passwd', 'http://169.254.169.254/', 'git@-x:a/b'])
// Changes one place of a value, somewhere.
function mutate(v, depth = 0) {
  if (v === null || typeof v !== 'object' || (depth > 0 && pick(4) === 0)) return odd()
  const keys = Object.keys(v)
  const out = Array.isArray(v) ? [...v] : { ...v }
  const kind = pick(10)
  if (kind === 0 && Array.isArray(out)) return [...out, ...out, odd()]
  if (kind === 0) { out[any(['x', '', '__proto__', 'constructor', 'Prompt', 'text', 'url', '\u0000', 'a.b', 'ü'])] = odd(); return out }
  if (keys.length === 0) return odd()
  const k = any(keys)
  if (kind === 1) { Array.isArray(out) ? out.splice(k, 1) : delete out[k]; return out }
  out[k] = mutate(v[k], depth + 1)
  return out
}
function garble(text) {
  const b = Buffer.from(text)
  for (let n = 1 + pick(3); n > 0 && b.length > 0; n--) b[pick(b.length)] = any([0, 0x22, 0x5c, 0x7b, 0x7d, 0x5b, 0x2c, 0xff, 0xc3, 0x30, 0x25, 0x26, pick(256)])
  return pick(4) === 0 ? b.subarray(0, pick(b.length + 1)) : b
}
// A path that Node still sends.
const garblePath = p => '/' + [...garble(p.slice(1))].map(c => c > 0x20 && c < 0x7f ? String.fromCharCode(c) : `%${c.toString(16).padStart(2, '0')}`).join('')

const agent = new http.Agent({ keepAlive: true, maxSockets: 8 })
const send = (pool, method, p, headers, body) => new Promise((resolve, reject) => {
  const u = new URL(pool.url)
  const req = http.request({ host: u.hostname, port: u.port, method, path: p, headers, agent, timeout: 20_000 }, res => {
    let text = ''
    res.setEncoding('utf8').on('data', d => { text += d }).on('end', () => resolve({ status: res.statusCode, headers: res.headers, text })).on('error', reject)
  })
  req.on('timeout', () => req.destroy(new Error('no answer'))).on('error', reject)
  req.end(body)
})

test('random mutations of requests that are right', { timeout: 300_000 }, async t => {
  const pool = await bullpen(t)
  t.after(() => agent.destroy())
  const made = (await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, repos: [{ url: REPO }] } })).json
  const a = { id: made.agent.id, run: made.run.id }, statuses = {}
  const one = async () => {
    let [method, p, body] = requests(a)
    const how = pick(10), key = p === '/v1/sub-tokens' ? pool.poolKey : pool.userKey
    let text = body === undefined ? undefined : JSON.stringify(body)
    if (body !== undefined && how < 7) { for (let n = 1 + pick(3); n > 0; n--) body = mutate(body); text = JSON.stringify(body) ?? '' }
    else if (body !== undefined && how < 9) text = garble(text)
    else if (p.includes('?') && pick(4)) p = `${p.slice(0, p.indexOf('?'))}?${garblePath(p.slice(p.indexOf('?'))).slice(1)}`
    else if (pick(2)) p = garblePath(p)
    const headers = { authorization: `Bearer ${key}`, ...(text === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }), ...(pick(20) === 0 ? { 'idempotency-key': any(['k', 'x'.repeat(300), ' ', 'ü']) } : {}) }
    if (/\/stream/.test(p)) return
    const where = `MUTATIONS_SEED=${seed}: ${method} ${p} ${String(text).slice(0, 600)}`
    const r = await send(pool, method, p, headers, text).catch(e => assert.fail(`${where}: ${e.message}`))
    statuses[r.status] = (statuses[r.status] ?? 0) + 1
    assert.ok(r.status < 500, `${where}: ${r.status} ${r.text}`)
    assert.match(r.headers['x-request-id'] ?? '', UUID, where)
    if (r.status === 200 && /^text\/html/.test(r.headers['content-type'])) return // a page of the dashboard, which a path became
    const json = JSON.parse(r.text)
    if (r.status < 300) return
    if (p.startsWith('/v0/')) return
    assert.deepEqual(Object.keys(json), ['error'], `${where}: ${r.text}`)
    assert.deepEqual(Object.keys(json.error).sort(), ['code', 'message'], `${where}: ${r.text}`)
    assert.match(json.error.code, /^[a-z_]+$/)
    assert.ok(json.error.message.length > 0 && json.error.message.length < 700, `${where}: ${r.text}`)
  }
  await Promise.all(Array.from({ length: 8 }, async (_, i) => { for (let n = i; n < rounds; n += 8) await one() }))
  t.diagnostic(JSON.stringify(statuses))
  assert.ok(statuses[400] > 0 && statuses[201] > 0, 'some are refused, some are taken')
  assert.ok(pool.server.alive)
  assert.equal((await pool.http('GET', `/v1/agents/${a.id}`)).status, 200)
  assert.doesNotMatch(pool.server.stderr, /request\.failed| ERROR /)
})
