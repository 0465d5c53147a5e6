// What holds for every request: names of requests, headers, the order of the checks, lists that change while they are read.
import test from 'node:test'
import assert from 'node:assert/strict'
import net from 'node:net'
import { once } from 'node:events'
import { randomUUID } from 'node:crypto'
import { atEnd, bullpen, until } from './lib.mjs'
import { UUID, h2, isError, raw } from './api-help.mjs'

const REPO = 'https://git.example.test/acme/web'
const valid = (more = {}) => ({ prompt: { text: 'hi' }, repos: [{ url: REPO }], ...more })
const create = async (pool, more) => { const r = await pool.http('POST', '/v1/agents', { body: valid(more) }); assert.equal(r.status, 201, r.text); return r.json }

test('answers of every kind have a request id of their own, are not to be kept, and open nothing to other origins', async t => {
  const pool = await bullpen(t)
  const { agent, run } = await create(pool)
  await pool.http('POST', `/v1/agents/${agent.id}/runs/${run.id}/cancel`)
  const narrow = await pool.createKey('service_account', 'narrow', null, 'workers:connect')
  const json = { 'content-type': 'application/json' }, key = k => ({ authorization: `Bearer ${k ?? pool.userKey}` })
  const asked = [
    [200, 'GET', '/v1/me', key()], [200, 'HEAD', '/v1/me', key()], [200, 'GET', `/v1/agents/${agent.id}`, key()], [200, 'GET', '/v1/agents?limit=1', key()], [200, 'GET', '/v1/repositories', key()],
    [201, 'POST', '/v1/agents', { ...key(), ...json }, JSON.stringify(valid())], [400, 'POST', '/v1/agents', { ...key(), ...json }, '{'], [400, 'POST', '/v1/agents', { ...key(), ...json }], [400, 'GET', '/v1/agents?x=1', key()],
    [401, 'GET', '/v1/me', {}], [401, 'GET', '/v1/me', key('crsr_x')], [403, 'GET', '/v1/agents', key(narrow)], [404, 'GET', '/v1/nothing', key()], [404, 'GET', `/v1/agents/bc-${randomUUID()}`, key()], [405, 'PUT', '/v1/me', key()], [405, 'OPTIONS', '/v1/agents', {}],
    [409, 'POST', `/v1/agents/${agent.id}/runs/${run.id}/cancel`, key()], [413, 'POST', '/v1/sub-tokens', { ...key(pool.poolKey), ...json }, JSON.stringify({ x: 'y'.repeat(1 << 20) })],
    [400, 'POST', '/v1/agents', { ...key(), ...json }, JSON.stringify(valid({ autoCreatePR: true }))], [404, 'GET', '/v0/private-workers/none', key(pool.poolKey)], [200, 'GET', '/healthz', {}],
  ]
  const seen = new Set()
  for (const [status, method, p, headers, body] of asked) {
    const r = await raw(pool.url, method, p, { headers: { ...headers, origin: 'https://elsewhere.test', 'access-control-request-method': 'POST', 'if-none-match': '*', 'x-request-id': 'mine' }, body })
    const what = `${method} ${p}: ${r.status} ${r.text}`
    assert.equal(r.status, status, what)
    assert.match(r.headers['x-request-id'] ?? '', UUID, what)
    seen.add(r.headers['x-request-id'])
    assert.equal(r.headers['cache-control'], 'no-store', what)
    assert.equal(r.headers.etag, undefined, what)
    assert.deepEqual(Object.keys(r.headers).filter(h => h.startsWith('access-control') || h.startsWith('x-ratelimit')), [], what)
    assert.match(r.headers['content-type'], /^application\/json/, what)
    assert.doesNotMatch(r.text, /:null/, what)
    if (method === 'HEAD') assert.equal(r.text, '')
  }
  assert.equal(seen.size, asked.length, 'each its own')
  const s = await raw(pool.url, 'GET', `/v1/agents/${agent.id}/runs/${run.id}/stream`, { headers: key() })
  assert.match(s.headers['x-request-id'], UUID)
  const c = h2(t, pool.url, pool.userKey)
  for (const [status, p] of [[200, '/v1/me'], [404, '/v1/nothing']]) {
    const r = await c.request('GET', p)
    assert.equal(r.status, status)
    assert.match(r.headers['x-request-id'], UUID)
    assert.ok(!seen.has(r.headers['x-request-id']))
  }
})

test('of several problems the first is told: key, limit, scope, body, schema, the agent, its state', async t => {
  const pool = await bullpen(t)
  const none = `bc-${randomUUID()}`
  const narrow = await pool.createKey('user', 'narrow', 'narrow@example.test', 'agents:read')
  const { agent } = await create(pool)
  await pool.http('POST', `/v1/agents/${agent.id}/archive`)
  const runs = (id, body, key) => pool.http('POST', `/v1/agents/${id}/runs`, { body, key })
  const good = { prompt: { text: 'x' } }
  isError(await runs(none, '{', 'crsr_wrong'), 401, 'unauthorized')
  isError(await runs(none, '{', narrow), 403, 'scope_required')
  isError(await runs(none, '', pool.userKey), 400, 'missing_body')
  isError(await runs(none, '{'), 400, 'validation_error')
  isError(await runs(none, { ...good, extra: 1 }), 400, 'validation_error', /extra/)
  isError(await runs(none, { prompt: { text: 5 } }), 400, 'validation_error', /text/)
  isError(await runs(none, good), 404, 'agent_not_found')
  isError(await runs(agent.id, { ...good, extra: 1 }), 400, 'validation_error', /extra/)
  isError(await runs(agent.id, good), 409, 'agent_archived')
  isError(await pool.http('GET', `/v1/agents/${none}/runs?limit=x`), 400, 'validation_error', /limit/)
  isError(await pool.http('GET', `/v1/agents/${none}/runs/run-${randomUUID()}`), 404, 'agent_not_found')
  const limited = await bullpen(t, { config: '[limits]\nmutations_per_minute = 1\n' })
  const other = await limited.createKey('user', 'narrow', 'narrow@example.test', 'agents:read')
  isError(await limited.http('POST', '/v1/agents', { key: other, body: '{' }), 403, 'scope_required')
  isError(await limited.http('POST', '/v1/agents', { key: other, body: '{' }), 429, 'rate_limit_exceeded')
  isError(await limited.http('POST', '/v1/agents', { key: 'crsr_wrong', body: '{' }), 401, 'unauthorized')
})

test('opening a stream counts once, staying there does not', async t => {
  const pool = await bullpen(t, { config: '[limits]\nreads_per_minute = 3\n' })
  const { agent, run } = await create(pool)
  const path = `/v1/agents/${agent.id}/runs/${run.id}`
  const away = new AbortController()
  atEnd(t, () => away.abort())
  const res = await fetch(`${pool.url}${path}/stream`, { headers: { authorization: `Bearer ${pool.userKey}` }, signal: away.signal })
  assert.equal(res.status, 200)
  await res.body.getReader().read()
  assert.equal((await pool.http('GET', path)).status, 200)
  assert.equal((await pool.http('GET', path)).status, 200)
  isError(await pool.http('GET', path), 429, 'rate_limit_exceeded')
  isError(await pool.http('GET', `${path}/stream`), 429, 'rate_limit_exceeded')
})

test('what takes no body ignores whatever is sent', async t => {
  const pool = await bullpen(t)
  const { agent, run } = await create(pool)
  const at = `/v1/agents/${agent.id}`
  const headers = { authorization: `Bearer ${pool.userKey}`, 'content-type': 'application/json' }
  for (const [method, p] of [['POST', `${at}/runs/${run.id}/cancel`], ['POST', `${at}/archive`], ['POST', `${at}/unarchive`], ['GET', at], ['DELETE', at]])
    assert.equal((await raw(pool.url, method, p, { headers, body: '{"what": nonsense' })).status, 200, `${method} ${p}`)
})

test('a query is strict: unknown, repeated and malformed parameters', async t => {
  const pool = await bullpen(t)
  const { agent, run } = await create(pool)
  const at = `/v1/agents/${agent.id}`
  for (const p of ['/v1/agents?limit=1&limit=1', '/v1/agents?limit=1&limit=2', '/v1/agents?name=x', '/v1/agents?q=x', '/v1/agents?status=ACTIVE', '/v1/agents?sort=asc', '/v1/agents?Limit=1', `${at}?x=1`, `${at}/runs?status=x`, `${at}/runs/${run.id}?x=`, `${at}/usage?runId=a&runId=a`, '/v1/me?x', '/v1/models?limit=1', '/v1/repositories?limit=1'])
    isError(await pool.http('GET', p), 400, 'validation_error')
  isError(await pool.http('GET', `${at}/usage?runId=run-${randomUUID()}`), 404, 'run_not_found')
})

const seed = Number(process.env.LIST_SEED ?? Date.now() % 1_000_000_000)
function random(state) {
  return n => {
    state = state + 0x6d2b79f5 | 0
    let x = Math.imul(state ^ state >>> 15, 1 | state)
    x = x + Math.imul(x ^ x >>> 7, 61 | x) ^ x
    return ((x ^ x >>> 14) >>> 0) % n
  }
}

test('lists are walked while agents are added, deleted and archived: what stays is there once, in order', async t => {
  const pool = await bullpen(t), pick = random(seed)
  let there = []
  for (let i = 0; i < 40; i++) there.unshift((await create(pool)).agent.id)
  for (let walk = 0; walk < 12; walk++) {
    const stays = new Set(there), limit = 1 + pick(9), seen = [], archived = walk % 3 === 2 ? '&includeArchived=false' : ''
    let cursor
    for (;;) {
      const r = await pool.http('GET', `/v1/agents?limit=${limit}${archived}${cursor ? `&cursor=${cursor}` : ''}`)
      assert.equal(r.status, 200, `LIST_SEED=${seed}: ${r.text}`)
      assert.ok(r.json.items.length === limit || !r.json.nextCursor, `LIST_SEED=${seed}: only the last page is short`)
      seen.push(...r.json.items.map(a => [a.createdAt, a.id]))
      cursor = r.json.nextCursor
      if (!cursor) break
      // The last one of the page, whose key is the cursor, goes; so do others, and new ones come.
      const gone = [r.json.items.at(-1).id, there[pick(there.length)]].slice(0, 1 + pick(2))
      if (pick(2)) for (const id of gone) {
        if (archived) await pool.http('POST', `/v1/agents/${id}/archive`)
        else await pool.http('DELETE', `/v1/agents/${id}`)
        there = there.filter(x => x !== id)
        stays.delete(id)
      }
      if (pick(2)) there.unshift((await create(pool)).agent.id)
    }
    const ids = seen.map(x => x[1])
    assert.equal(new Set(ids).size, ids.length, `LIST_SEED=${seed}: nothing twice`)
    if (!archived) for (const id of stays) assert.ok(ids.includes(id), `LIST_SEED=${seed}: ${id} is missing`)
    for (let i = 1; i < seen.length; i++) assert.ok(seen[i - 1][0] > seen[i][0] || (seen[i - 1][0] === seen[i][0] && seen[i - 1][1] > seen[i][1]), `LIST_SEED=${seed}: in order`)
    if (archived) for (const a of (await pool.http('GET', '/v1/agents?limit=100&includeArchived=false')).json.items) assert.notEqual(a.status, 'ARCHIVED')
    while (there.length < 30) there.unshift((await create(pool)).agent.id)
  }
})

test('what is no HTTP gets an answer that names itself, too', async t => {
  const pool = await bullpen(t)
  const u = new URL(pool.url)
  for (const text of ['GET /v1/me\r\n\r\n', 'GET /v1/me HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n', 'POST /v1/agents HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n', `GET /${'x'.repeat(70000)} HTTP/1.1\r\nhost: x\r\n\r\n`, `GET / HTTP/1.1\r\nhost: x\r\na: ${'x'.repeat(200000)}\r\n\r\n`]) {
    const s = net.connect(Number(u.port), u.hostname)
    atEnd(t, () => s.destroy())
    await once(s, 'connect')
    let got = ''
    s.setEncoding('utf8').on('data', d => { got += d }).on('error', () => {})
    s.write(text)
    await until(`an answer to ${text.slice(0, 40)}`, () => s.destroyed || s.readableEnded || /\r\n\r\n/.test(got))
    assert.match(got, /^HTTP\/1\.1 4\d\d /, text.slice(0, 40))
    assert.match(got, /\r\nx-request-id: [0-9a-f]{8}-[0-9a-f-]{27}\r\n/i, text.slice(0, 40))
  }
  const r = await h2(t, pool.url, pool.userKey).request('GET', '/v1/me', { headers: Object.fromEntries(Array.from({ length: 400 }, (_, i) => [`x-${i}`, 'x'])) })
  assert.equal(r.status, 431, r.text)
  assert.match(r.headers['x-request-id'] ?? '', UUID)
  assert.equal(r.headers['cache-control'], 'no-store')
})
