// What a key may do: scopes, their defaults, and what is answered without them.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, programs, run, until } from './lib.mjs'
import { isError, sql } from './api-help.mjs'

const REPO = 'https://git.example.test/acme/web'
const body = { prompt: { text: 'hi' }, repos: [{ url: REPO }] }
const ALL = ['agents:read', 'agents:write', 'agents:team', 'models:read', 'metrics:read', 'workers:connect', 'fleet:read', 'fleet:write', 'tokens:mint', 'hooks:write', 'rules:write', 'team:admin', 'audit:read']

test('each route asks for its scope and for nothing else', async t => {
  const pool = await bullpen(t, { config: '[server]\npublic_url = "https://bullpen.example.test"\n' })
  const a = (await pool.http('POST', '/v1/agents', { body })).json
  const id = a.agent.id, runId = a.run.id
  const keys = Object.fromEntries(await Promise.all(ALL.map(async s => [s, await pool.createKey('service_account', 'one', null, s)])))
  const routes = [
    ['agents:read', 'GET', '/v1/agents'], ['agents:read', 'GET', `/v1/agents/${id}`], ['agents:read', 'GET', `/v1/agents/${id}/runs`], ['agents:read', 'GET', `/v1/agents/${id}/runs/${runId}`],
    ['agents:read', 'GET', `/v1/agents/${id}/usage`], ['agents:write', 'POST', '/v1/agents', body], ['agents:write', 'POST', `/v1/agents/${id}/runs`, { prompt: { text: 'x' } }],
    ['agents:write', 'POST', `/v1/agents/${id}/runs/${runId}/cancel`], ['models:read', 'GET', '/v1/models'], ['metrics:read', 'GET', '/metrics'], [null, 'GET', '/v1/me'],
  ]
  for (const [scope, method, path, b] of routes) {
    for (const [has, key] of Object.entries(keys)) {
      const r = await pool.http(method, path, { body: b, key })
      if (scope !== null && has !== scope) isError(r, 403, 'scope_required', new RegExp(scope))
      else assert.notEqual(r.status, 403, `${method} ${path} with ${has}`)
    }
    isError(await pool.http(method, path, { body: b, key: null }), 401, 'unauthorized')
  }
  // Nothing is told of what exists before the scope is there.
  isError(await pool.http('GET', '/v1/agents/bc-none', { key: keys['workers:connect'] }), 403, 'scope_required')
})

test('without --scopes a key may do what its type always could', async t => {
  const pool = await bullpen(t)
  for (const key of [pool.userKey, pool.poolKey]) {
    const a = await pool.http('POST', '/v1/agents', { body, key })
    assert.equal(a.status, 201)
    assert.equal((await pool.http('GET', '/v1/models', { key })).status, 200)
    assert.equal((await pool.http('POST', `/v1/agents/${a.json.agent.id}/runs/${a.json.run.id}/cancel`, { key })).status, 200)
  }
  const list = await run(t, programs.bullpen, ['admin', 'key', 'list', '--data', pool.data])
  const [head, ...rows] = list.stdout.trim().split('\n').map(l => l.trim().split(/\s+/))
  assert.equal(head.at(-2), 'SCOPES')
  assert.equal(rows.find(r => r[1] === 'user').at(-2), 'agents:read,agents:write,models:read,machines:connect,mcp:write')
  assert.equal(rows.find(r => r[1] === 'service_account').at(-2), 'agents:read,agents:write,models:read,workers:connect,fleet:read,fleet:write,tokens:mint,mcp:write')
})

test('metrics are open on loopback only', async t => {
  const local = await bullpen(t)
  const r = await local.http('GET', '/metrics', { key: null })
  assert.equal(r.status, 200)
  assert.match(r.headers.get('content-type'), /^text\/plain; version=0\.0\.4/)
  assert.match(r.text, /^# TYPE bullpen_\w+ (counter|gauge|histogram)$/m)
  const known = await bullpen(t, { config: '[server]\npublic_url = "https://bullpen.example.test"\n' })
  isError(await known.http('GET', '/metrics', { key: null }), 401, 'unauthorized')
  isError(await known.http('GET', '/metrics'), 403, 'scope_required', /metrics:read/)
  assert.equal((await known.http('GET', '/metrics', { key: await known.createKey('user', 'm', null, 'metrics:read') })).status, 200)
})

test('a machine\'s key connects workers and nothing else; a key without the scope connects none', async t => {
  const pool = await bullpen(t)
  const machine = await pool.createKey('service_account', 'machine', null, 'workers:connect')
  await pool.worker({ key: machine })
  isError(await pool.http('POST', '/v1/agents', { body, key: machine }), 403, 'scope_required', /agents:write/)
  const refused = await pool.worker({ key: await pool.createKey('service_account', 'bot', null, 'agents:read,agents:write'), ready: false })
  await refused.exited
  assert.notEqual(refused.code, 0)
  assert.match(refused.stderr, /workers:connect/)
})

test('what cannot be a scope is refused on the command line in one line, with status 2', async t => {
  const pool = await bullpen(t)
  const create = (type, scopes) => run(t, programs.bullpen, ['admin', 'key', 'create', '--data', pool.data, '--type', type, '--name', 'x', '--scopes', scopes])
  for (const [type, scopes, message] of [['user', 'agents:fly', /unknown scope 'agents:fly'; known are: agents:read, agents:write, agents:team, models:read, metrics:read, workers:connect, machines:connect, fleet:read, fleet:write, tokens:mint, mcp:write, hooks:write, rules:write, team:admin, audit:read/], ['user', 'agents:read,', /unknown scope ''/],
    ['user', 'agents:read agents:write', /unknown scope/], ['service_account', ',', /unknown scope/], ['user', 'AGENTS:READ', /unknown scope/], ['user', 'workers:connect', /--type service_account/], ['user', 'fleet:read', /--type service_account/], ['user', 'tokens:mint', /--type service_account/], ['service_account', 'machines:connect', /--type user/], ['user', 'x'.repeat(5000), /unknown scope/]]) {
    const p = await create(type, scopes)
    assert.equal(p.code, 2, scopes)
    assert.match(p.stderr, message)
    assert.equal(p.stderr.trim().split('\n').length, 1)
    assert.equal(p.stdout, '')
  }
  assert.equal((await create('user', 'agents:read,agents:read')).code, 0)
  // A stored name that this version does not know gives no right, and takes none of the others.
  const key = await pool.createKey('user', 'later', 'later@example.test')
  sql(pool, "UPDATE api_keys SET scopes = 'fleet:manage agents:read  x' WHERE name = 'later'")
  assert.equal((await pool.http('GET', '/v1/agents', { key })).status, 200)
  isError(await pool.http('POST', '/v1/agents', { body, key }), 403, 'scope_required')
  sql(pool, "UPDATE api_keys SET scopes = '' WHERE name = 'later'")
  isError(await pool.http('GET', '/v1/agents', { key }), 403, 'scope_required')
  assert.equal((await pool.http('GET', '/v1/me', { key })).status, 200)
})

test('many keys created at the same time: one user an e-mail, one account a name, a number for each', async t => {
  const pool = await bullpen(t)
  await Promise.all(Array.from({ length: 12 }, (_, i) => i % 3 === 0 ? pool.createKey('user', `n${i}`, 'Same@example.test') : i % 3 === 1 ? pool.createKey('user', `n${i}`, `u${i}@example.test`) : pool.createKey('service_account', 'same')))
  const ids = sql(pool, 'SELECT id, email FROM users ORDER BY id')
  assert.equal(ids.filter(r => r[1]?.toLowerCase() === 'same@example.test').length, 1)
  assert.equal(new Set(ids.map(r => r[0])).size, 1 + 1 + 4)
  assert.equal(sql(pool, "SELECT COUNT(*) FROM service_accounts WHERE name = 'same'")[0][0], 1)
})
