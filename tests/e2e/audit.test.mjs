// The audit log and the API of the settings: who may, what is written down, and that nobody rewrites it unseen.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, programs, run, until } from './lib.mjs'
import { isError, sql } from './api-help.mjs'
import { FLEET } from './fleet-help.mjs'
import { Peer } from './peer.mjs'

// A person at the dashboard: requests with the cookie that a login link gave.
async function person(t, pool, email, role) {
  const p = await run(t, programs.bullpen, ['admin', 'login-link', '--data', pool.data, '--email', email, '--url', pool.url, ...(role ? ['--role', role] : [])])
  assert.equal(p.code, 0, p.stderr)
  const r = await pool.http('POST', '/v1/session', { key: null, body: { loginToken: p.stdout.trim().split('#')[1] } })
  assert.equal(r.status, 200, r.text)
  const cookie = r.headers.get('set-cookie').split(';')[0]
  return (method, path, body, headers = {}) => pool.http(method, path, { key: null, body, headers: { cookie, 'x-bullpen-request': '1', ...headers } })
}
const ok = (r, status = 200) => { assert.equal(r.status, status, r.text); return r.json }
const types = async (ask, query = '') => ok(await ask('GET', `/v1/audit-log?limit=500${query}`)).items.map(e => e.eventType)
const verify = (t, pool) => run(t, programs.bullpen, ['admin', 'audit', '--data', pool.data, '--verify'])

test('what is changed is in the log with who did it, without secrets; what is refused is not', async t => {
  const pool = await bullpen(t), ada = await person(t, pool, 'ada@example.test', 'admin')
  const account = ok(await ada('POST', '/v1/service-accounts', { name: 'ci' }), 201).id
  const made = ok(await ada('POST', `/v1/service-accounts/${account}/keys`, { name: 'runner', scopes: ['agents:read', 'tokens:mint', 'fleet:read', 'fleet:write'] }), 201)
  ok(await pool.http('POST', `${FLEET}/pools`, { key: made.key, body: { scope: 'team', poolName: 'gpu' } }))
  ok(await pool.http('DELETE', `${FLEET}/pools?scope=team&pool_name=gpu`, { key: made.key }))
  await Peer.connected(t, pool, { workerId: 'w-1', key: pool.poolKey, hello: { pool: 'p' } })
  ok(await ada('POST', `${FLEET}/w-1/drain`))
  ok(await pool.http('POST', '/v1/sub-tokens', { key: made.key, body: { forUserEmail: 'dev@example.test' } }))
  const rotated = ok(await ada('POST', `/v1/api-keys/${made.id}/rotate`))
  assert.equal((await pool.http('GET', '/v1/me', { key: made.key })).status, 401, 'the old key is invalid at once')
  ok(await pool.http('GET', '/v1/me', { key: rotated.key }))
  isError(await ada('PUT', '/v1/hooks', { hooks: { nonsense: 1 } }), 400, 'validation_error')
  ok(await ada('PUT', '/v1/rules', { rules: [{ name: 'kind', text: 'Be kind to persimmons.' }] }))
  const server = ok(await ada('POST', '/v1/mcp-servers?scope=team', { name: 'docs', command: '/bin/true', env: { TOKEN: 'hush-hush' } }), 201)
  assert.equal(server.scope, 'team')
  ok(await ada('DELETE', `/v1/mcp-servers/${server.id}`))
  const policy = await ada('GET', '/v1/policy'), tag = policy.headers.get('etag')
  ok(await ada('PUT', '/v1/policy', { ...policy.json, maxActivePerUser: 3 }, { 'if-match': tag }))
  isError(await ada('PUT', '/v1/policy', { ...policy.json, maxActivePerUser: 4 }, { 'if-match': tag }), 412, 'precondition_failed')
  const agent = ok(await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, repos: [{ url: 'https://git.example.test/a/b' }] } }), 201).agent
  ok(await pool.http('DELETE', `/v1/agents/${agent.id}`))
  ok(await ada('POST', `/v1/service-accounts/${account}/archive`))
  assert.equal((await pool.http('GET', '/v1/me', { key: rotated.key })).status, 401, 'archiving revokes')

  const items = ok(await ada('GET', '/v1/audit-log?limit=500')).items
  const told = items.map(e => [e.eventType, e.data.action].filter(Boolean).join(' ')).reverse()
  const at = told.indexOf('update_user_role')
  assert.deepEqual(told.slice(at), ['update_user_role', 'login', 'service_account created', 'service_account_key created', 'pool_registered', 'pool_deregistered', 'worker_drained', 'sub_token_minted',
    'service_account_key rotated', 'team_rule', 'mcp_server_config created', 'mcp_server_config deleted', 'self_hosted_policy', 'agent_deleted', 'service_account archived', 'export_audit'])
  const one = type => items.find(e => e.eventType === type)
  assert.deepEqual([one('self_hosted_policy').data.before.maxActivePerUser, one('self_hosted_policy').data.after.maxActivePerUser], [0, 3])
  assert.deepEqual([one('self_hosted_policy').actorName, one('self_hosted_policy').ipAddress], ['ada@example.test', '127.0.0.1'])
  assert.equal(one('update_user_role').actor, 'admin command')
  assert.equal(one('pool_registered').actor, `sa:${account}`)
  for (const secret of [made.key, rotated.key, 'persimmons', 'hush-hush']) assert.ok(!JSON.stringify(items).includes(secret), secret)
  // Reading is written once a session, not once a request.
  assert.equal((await types(ada)).filter(x => x === 'export_audit').length, 1)
  ok(await ada('DELETE', '/v1/session'))
  const again = await person(t, pool, 'ada@example.test')
  assert.equal((await types(again)).filter(x => x === 'export_audit').length, 2)
  assert.ok((await types(again)).includes('logout'))
  // Filters, and pages that meet without a gap.
  assert.deepEqual(await types(again, '&eventTypes=agent_deleted,team_rule'), ['agent_deleted', 'team_rule'])
  assert.deepEqual(await types(again, `&search=${agent.id}`), ['agent_deleted'])
  assert.deepEqual(await types(again, '&search=%25'), [], 'a wildcard is a character')
  assert.deepEqual(await types(again, '&endTime=2001-01-01'), [])
  isError(await again('GET', '/v1/audit-log?startTime=yesterday'), 400, 'validation_error', /startTime/)
  const seqs = []
  for (let cursor = ''; cursor !== undefined;) {
    const page = ok(await again('GET', `/v1/audit-log?limit=3${cursor && `&cursor=${cursor}`}`))
    seqs.push(...page.items.map(e => e.seq))
    cursor = page.nextCursor
  }
  assert.deepEqual(seqs, seqs.map((_, i) => seqs.length - i))
  const p = await verify(t, pool)
  assert.equal(p.code, 0, p.stderr + p.stdout)
  assert.equal(JSON.parse(p.stdout).records, seqs.length)
  const lines = (await run(t, programs.bullpen, ['admin', 'audit', '--data', pool.data])).stdout.trim().split('\n').map(l => JSON.parse(l))
  assert.deepEqual(lines.map(l => l.seq), [...seqs].reverse())
  assert.equal(JSON.parse(p.stdout).lastHash, lines.at(-1).hash)
})

test('a record that is changed, removed, cut off or made anew: --verify says where', async t => {
  const pool = await bullpen(t), ada = await person(t, pool, 'ada@example.test', 'admin')
  for (const name of ['a', 'b', 'c']) ok(await ada('POST', '/v1/service-accounts', { name }), 201)
  const broken = async (what, pattern) => {
    const p = await verify(t, pool)
    assert.equal(p.code, 1, what)
    const said = JSON.parse(p.stdout)
    assert.equal(said.whole, false)
    assert.match(said.reason, pattern, what)
    assert.match(p.stderr, /^error: the audit log is not whole: [^\n]+\n$/)
  }
  const [[last]] = sql(pool, 'SELECT MAX(seq) FROM audit_log')
  const [row] = sql(pool, 'SELECT * FROM audit_log WHERE seq = ?', `${last - 1}`)
  sql(pool, 'UPDATE audit_log SET data = replace(data, \'"b"\', \'"x"\') WHERE seq = ?', `${last - 1}`)
  await broken('one letter', new RegExp(`record ${last - 1} was changed`))
  sql(pool, 'UPDATE audit_log SET data = ? WHERE seq = ?', row[8], `${last - 1}`)
  assert.equal((await verify(t, pool)).code, 0, 'as it was')
  sql(pool, 'UPDATE audit_log SET ip = NULL WHERE seq = ?', `${last}`)
  await broken('the address', new RegExp(`record ${last} was changed`))
  sql(pool, 'UPDATE audit_log SET ip = \'127.0.0.1\' WHERE seq = ?', `${last}`)
  sql(pool, 'DELETE FROM audit_log WHERE seq = ?', `${last - 1}`)
  await broken('one is out', new RegExp(`record ${last - 1} is missing`))
  sql(pool, `INSERT INTO audit_log VALUES(${row.map(() => '?').join(',')})`, ...row.map(String))
  assert.equal((await verify(t, pool)).code, 0, 'as it was')
  sql(pool, 'DELETE FROM audit_log WHERE seq = ?', `${last}`)
  await broken('the end is off', new RegExp(`record ${last} is missing`))
})

test('settings are for administrators: a member\'s keys and browser are refused, and nobody gives herself more', async t => {
  const pool = await bullpen(t), ada = await person(t, pool, 'ada@example.test', 'admin'), bob = await person(t, pool, 'bob@example.test')
  for (const [method, path, body] of [['GET', '/v1/policy'], ['GET', '/v1/service-accounts'], ['POST', '/v1/service-accounts', { name: 'x' }], ['GET', '/v1/users'], ['GET', '/v1/audit-log']])
    for (const r of [await bob(method, path, body), await pool.http(method, path, { body }), await pool.http(method, path, { body, key: pool.poolKey })]) isError(r, 403, 'scope_required')
  // Her own keys, in the browser only.
  isError(await pool.http('POST', '/v1/api-keys', { body: { name: 'x' } }), 403, 'key_not_supported')
  isError(await bob('POST', '/v1/api-keys', { name: 'x', scopes: ['agents:read', 'team:admin'] }), 403, 'scope_required')
  isError(await bob('POST', '/v1/api-keys', { name: 'x', scopes: ['fleet:read'] }), 403, 'scope_required')
  isError(await ada('POST', '/v1/api-keys', { name: 'x', scopes: ['fleet:read'] }), 400, 'validation_error', /'scopes'/)
  isError(await ada('POST', '/v1/api-keys', { name: ' ' }), 400, 'validation_error', /'name'/)
  const key = ok(await bob('POST', '/v1/api-keys', { name: 'laptop', expiresInDays: 30 }), 201)
  ok(await pool.http('GET', '/v1/me', { key: key.key }))
  const list = ok(await bob('GET', '/v1/api-keys'))
  assert.deepEqual(list.items.map(k => [k.name, k.suffix, k.type]), [['laptop', key.key.slice(-4), 'user']], 'and not what the link made')
  assert.ok(list.items[0].lastUsedAt && list.items[0].expiresAt)
  assert.ok(!list.scopes.some(s => s.name === 'team:admin'))
  assert.ok(!JSON.stringify(list).includes(key.key))
  isError(await bob('GET', '/v1/api-keys?scope=team'), 403, 'scope_required')
  const ofDev = ok(await ada('GET', '/v1/api-keys?scope=team')).items.find(k => k.owner === 'dev@example.test')
  isError(await bob('DELETE', `/v1/api-keys/${ofDev.id}`), 404, 'api_key_not_found')
  isError(await bob('POST', `/v1/api-keys/${ofDev.id}/rotate`), 404, 'api_key_not_found')
  // Who signs in with a small key makes no large one, and does not turn a large one into a new one.
  const small = await pool.createKey('user', 'bob', 'bob@example.test', 'agents:read')
  const signed = await pool.http('POST', '/v1/session', { key: null, body: { apiKey: small } })
  const little = (method, path, body) => pool.http(method, path, { key: null, body, headers: { cookie: signed.headers.get('set-cookie').split(';')[0], 'x-bullpen-request': '1' } })
  isError(await little('POST', '/v1/api-keys', { name: 'y' }), 403, 'scope_required')
  isError(await little('POST', `/v1/api-keys/${key.id}/rotate`), 403, 'scope_required')
  ok(await little('POST', '/v1/api-keys', { name: 'y', scopes: ['agents:read'] }), 201)
  // An admin revokes anybody's.
  ok(await ada('DELETE', `/v1/api-keys/${key.id}`))
  assert.equal((await pool.http('GET', '/v1/me', { key: key.key })).status, 401)
  isError(await bob('POST', `/v1/api-keys/${key.id}/rotate`), 404, 'api_key_not_found')
  // A key with the scope does what the browser does; it goes with its owner's role.
  const boss = ok(await ada('POST', '/v1/api-keys', { name: 'boss', scopes: ['team:admin', 'audit:read', 'agents:read'] }), 201).key
  const users = ok(await pool.http('GET', '/v1/users', { key: boss })).items, id = email => users.find(u => u.email === email).id
  const auditor = ok(await ada('POST', '/v1/api-keys', { name: 'auditor', scopes: ['audit:read'] }), 201).key
  isError(await pool.http('GET', '/v1/users', { key: auditor }), 403, 'scope_required', /team:admin/)
  for (let i = 0; i < 2; i++) ok(await pool.http('GET', '/v1/audit-log', { key: auditor }))
  assert.deepEqual(await types((method, path) => pool.http(method, path, { key: auditor }), '&eventTypes=export_audit'), ['export_audit'], 'once, for this key')
  // Ada is the owner: her role is hers, whatever key asks, and she makes other owners.
  const account = ok(await ada('POST', '/v1/service-accounts', { name: 'hr' }), 201).id
  const hr = ok(await ada('POST', `/v1/service-accounts/${account}/keys`, { name: 'hr', scopes: ['team:admin'] }), 201).key
  isError(await pool.http('PUT', `/v1/users/${id('ada@example.test')}/role`, { key: hr, body: { role: 'member' } }), 403, 'role_required', /nobody else/)
  isError(await pool.http('PUT', `/v1/users/${id('bob@example.test')}/role`, { key: hr, body: { role: 'owner' } }), 403, 'role_required', /only an owner/)
  isError(await ada('PUT', '/v1/users/99999/role', { role: 'admin' }), 404, 'user_not_found')
  ok(await ada('PUT', `/v1/users/${id('bob@example.test')}/role`, { role: 'owner' }))
  ok(await bob('GET', '/v1/policy'))
  ok(await ada('PUT', `/v1/users/${id('ada@example.test')}/role`, { role: 'member' }))
  isError(await ada('GET', '/v1/policy'), 403, 'scope_required')
  assert.equal((await pool.http('GET', '/v1/users', { key: boss })).status, 401, 'her key with the scope is revoked')
  isError(await bob('PUT', '/v1/policy', ok(await bob('GET', '/v1/policy'))), 428, 'precondition_required')
  isError(await bob('PUT', '/v1/policy', { allow: false, require: true, secretSync: true, maxActivePerUser: 0 }, { 'if-match': '*' }), 400, 'validation_error', /'allow'/)
  isError(await bob('PUT', '/v1/policy', { allow: true, require: true, secretSync: true, maxActivePerUser: 0, mcpAllow: [{}] }, { 'if-match': '*' }), 400, 'validation_error', /'mcpAllow'/)
  const ben = await person(t, pool, 'ben@example.test')
  isError(await ben('POST', '/v1/mcp-servers?scope=team', { name: 'ours', command: '/bin/true' }), 403, 'scope_required')
  assert.equal(ok(await ben('POST', '/v1/mcp-servers?scope=user', { name: 'mine', command: '/bin/true' }), 201).scope, 'user')
})

test('a key that has expired is refused, and its worker is sent away', async t => {
  const pool = await bullpen(t), ada = await person(t, pool, 'ada@example.test', 'admin')
  const account = ok(await ada('POST', '/v1/service-accounts', { name: 'ci' }), 201).id
  const key = ok(await ada('POST', `/v1/service-accounts/${account}/keys`, { name: 'short', expiresInDays: 1 }), 201)
  const peer = await Peer.connected(t, pool, { workerId: 'w-1', key: key.key, hello: { pool: 'p' } })
  sql(pool, 'UPDATE api_keys SET expires_at = ? WHERE id = ?', `${Date.now() - 1}`, key.id)
  assert.equal((await pool.http('GET', '/v1/me', { key: key.key })).status, 401)
  await until('the worker is gone', async () => ok(await ada('GET', FLEET)).workers.length === 0)
  peer.drop()
})
