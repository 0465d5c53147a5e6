// Webhooks of a team: what is told of which end, how it is signed, what becomes of what cannot be delivered.
import test from 'node:test'
import assert from 'node:assert/strict'
import http from 'node:http'
import { createHmac } from 'node:crypto'
import { once } from 'node:events'
import { atEnd, bullpen, programs, run, sh, until } from './lib.mjs'
import { ISO, isError, sql } from './api-help.mjs'

const CONFIG = '[server]\nallow_private_urls = true\n[webhooks]\nallow_http = true\n'
const admin = pool => pool.createKey('service_account', 'ops', null, 'webhooks:write')
// Keeps what it is told; `status` is what it answers.
async function receiver(t) {
  const got = []
  const server = http.createServer(async (req, res) => {
    let body = ''
    for await (const d of req.setEncoding('utf8')) body += d
    got.push({ method: req.method, headers: req.headers, body, json: JSON.parse(body) })
    res.writeHead(self.status).end('not kept')
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const self = { got, status: 204, url: `http://127.0.0.1:${server.address().port}/hook` }
  atEnd(t, () => { server.closeAllConnections(); server.close() })
  return self
}
const add = async (pool, key, body) => {
  const r = await pool.http('POST', '/v1/webhooks', { key, body })
  assert.equal(r.status, 201, r.text)
  return r.json
}
const deliveries = async (pool, key, w, query = '') => {
  const r = await pool.http('GET', `/v1/webhooks/${w.id}/deliveries${query}`, { key })
  assert.equal(r.status, 200, r.text)
  return r.json.items
}

test('the end of every run of the team is told, signed, to those who want it', async t => {
  const pool = await bullpen(t, { config: CONFIG }), key = await admin(pool)
  await pool.worker()
  const all = await receiver(t), errors = await receiver(t)
  const w = await add(pool, key, { url: all.url, name: 'chat' }), e = await add(pool, key, { url: errors.url, events: ['statusChange.ERROR'], secret: 's'.repeat(32) })
  assert.match(w.secret, /^[0-9a-f]{64}$/)
  assert.deepEqual([w.events, e.secret], [['statusChange'], undefined], 'only one that was made here is shown')
  assert.match(w.createdAt, ISO)
  const good = await pool.run(sh('echo done > done.txt'))
  await good.end()
  const [told] = await until('it is told', () => all.got.length === 1 && all.got)
  assert.deepEqual([told.method, told.headers['content-type'], told.headers['x-webhook-event'], told.headers['user-agent']], ['POST', 'application/json', 'statusChange', 'Cursor-Agent-Webhook/1.0'])
  assert.deepEqual([told.json.event, told.json.id, told.json.status, told.json.target.url], ['statusChange', good.agentId, 'FINISHED', `${pool.url}/agents/${good.agentId}`])
  const sign = text => createHmac('sha256', w.secret).update(text).digest('hex'), at = told.headers['x-webhook-timestamp']
  assert.equal(told.headers['x-webhook-signature'], `sha256=${sign(told.body)}`)
  assert.equal(told.headers['x-webhook-signature-v2'], `t=${at},v1=${sign(`${at}.${told.body}`)}`)
  assert.ok(Math.abs(Date.now() / 1000 - Number(at)) < 120)
  const other = await pool.createKey('user', 'bob', 'bob@example.test')
  const bad = await pool.run(sh('true'), { key: other, extra: { repos: [{ url: (await pool.origin()).url, startingRef: 'nowhere' }] } })
  assert.equal((await bad.end()).status, 'ERROR')
  await until('both are told', () => all.got.length === 2 && errors.got.length === 1)
  assert.deepEqual(errors.got[0].json, all.got[1].json)
  assert.equal(errors.got[0].json.status, 'ERROR')
  const [d] = await until('it is marked', async () => { const l = await deliveries(pool, key, w, '?state=delivered'); return l.length === 2 && l })
  assert.deepEqual([d.id, d.agentId, d.status, d.attempts, d.event], [all.got[1].headers['x-webhook-id'], bad.agentId, 'ERROR', 1, 'statusChange'])
  const stopped = await pool.run(sh('sleep 60'))
  await stopped.status('RUNNING')
  await stopped.cancel()
  await stopped.end()
  assert.equal(sql(pool, "SELECT COUNT(*) FROM outbox WHERE kind = 'team-webhook'")[0][0], 3, 'what was cancelled is told to nobody')
  // Secrets are not in the store as they are.
  assert.ok(sql(pool, 'SELECT secret FROM team_webhooks').flat().every(s => s !== w.secret && !s.includes('ssss')))
})

test('what cannot be delivered is tried for a day, is dead then, and delivered again when asked for', async t => {
  const pool = await bullpen(t, { config: CONFIG }), key = await admin(pool)
  await pool.worker()
  const hook = await receiver(t)
  hook.status = 503
  const w = await add(pool, key, { url: hook.url })
  const r = await pool.run(sh('true'))
  await r.end()
  for (const [n, pause] of [[1, 10], [2, 60], [3, 600], [4, 3600], [5, 21600], [6, 61200]]) {
    await until(`attempt ${n} is over`, () => sql(pool, "SELECT attempts, lease_until FROM outbox WHERE kind = 'team-webhook'").join() === `${n},0`)
    const [d] = await deliveries(pool, key, w)
    const wait = Date.parse(d.nextAttemptAt) - Date.now()
    assert.ok(wait > (pause - 120) * 1000 && wait <= pause * 1000, `after attempt ${n} in ${wait} ms`)
    assert.deepEqual([d.state, d.error], ['waiting', 'the receiver answered 503'])
    if (n === 1) isError(await pool.http('POST', `/v1/webhooks/${w.id}/deliveries/${d.id}/redeliver`, { key }), 409, 'delivery_not_ended')
    // As if the time had come.
    sql(pool, "UPDATE outbox SET due_at = 1 WHERE kind = 'team-webhook'")
  }
  const [dead] = await until('it is dead', async () => { const l = await deliveries(pool, key, w, '?state=dead'); return l.length === 1 && l })
  assert.deepEqual([dead.attempts, dead.error], [7, 'the receiver answered 503'])
  assert.deepEqual(new Set(hook.got.map(g => g.headers['x-webhook-id'])), new Set([dead.id]))
  assert.equal(new Set(hook.got.map(g => g.body)).size, 1)
  assert.equal((await pool.http('GET', '/v1/webhooks', { key })).json.items[0].failed, 1)
  hook.status = 200
  const again = await pool.http('POST', `/v1/webhooks/${w.id}/deliveries/${dead.id}/redeliver`, { key })
  assert.deepEqual([again.status, again.json], [202, { id: dead.id }])
  await until('it is delivered', async () => (await deliveries(pool, key, w, '?state=delivered')).length === 1)
  assert.equal(hook.got.at(-1).headers['x-webhook-id'], dead.id)
  // By command, too.
  const cli = (...args) => run(t, programs.bullpen, ['admin', 'webhooks', ...args, '--data', pool.data])
  assert.match((await cli('ls')).stdout, new RegExp(`^${w.id}\t0 waiting\t0 dead\t${hook.url}\t\n$`))
  assert.match((await cli('ls', w.id)).stdout, new RegExp(`^${dead.id}\tdelivered\t.*${r.agentId}\tFINISHED\t1 attempts\t-\n$`))
  const n = hook.got.length
  assert.equal((await cli('redeliver', dead.id)).code, 0)
  await until('once more', () => hook.got.length === n + 1)
  for (const [args, code, text] of [[['redeliver', 'out-none'], 1, /no such delivery/], [['ls', 'wh-none'], 1, /no such webhook/], [['redeliver'], 2, /name the delivery/], [['push'], 2, /ls\|redeliver/]]) {
    const p = await cli(...args)
    assert.equal(p.code, code, p.stderr)
    assert.match(p.stderr, text)
  }
  // A refusal is final at once.
  hook.status = 410
  await (await pool.run(sh('true'))).end()
  assert.equal((await until('it is dead', async () => { const l = await deliveries(pool, key, w, '?state=dead'); return l.length === 1 && l }))[0].attempts, 1)
  assert.equal((await pool.http('DELETE', `/v1/webhooks/${w.id}`, { key })).status, 200)
  isError(await pool.http('GET', `/v1/webhooks/${w.id}/deliveries`, { key }), 404, 'webhook_not_found')
  assert.equal(sql(pool, "SELECT COUNT(*) FROM outbox WHERE kind = 'team-webhook'")[0][0], 0)
})

test('administrators only, and only addresses that may be told', async t => {
  const pool = await bullpen(t, { config: '' }), key = await admin(pool)
  isError(await pool.http('GET', '/v1/webhooks'), 403, 'scope_required', /webhooks:write/)
  isError(await pool.http('POST', '/v1/webhooks', { body: { url: 'https://hooks.example.test/x' }, key: pool.poolKey }), 403, 'scope_required')
  // In the browser: administrators, whatever else they have.
  for (const [role, status] of [['member', 403], ['admin', 200]]) {
    const link = await run(t, programs.bullpen, ['admin', 'login-link', '--data', pool.data, '--email', `${role}@example.test`, '--url', pool.url, '--role', role])
    const s = await pool.http('POST', '/v1/session', { key: null, body: { loginToken: link.stdout.trim().split('#')[1] } })
    assert.equal((await pool.http('GET', '/v1/webhooks', { key: null, headers: { cookie: s.headers.get('set-cookie').split(';')[0] } })).status, status, role)
  }
  const wrong = async (body, pattern) => isError(await pool.http('POST', '/v1/webhooks', { key, body }), 400, 'validation_error', pattern)
  await wrong({ url: 'http://hooks.example.test/x' }, /https/)
  await wrong({ url: 'ftp://hooks.example.test/x' }, /'url'/)
  await wrong({ url: 'https://a:b@hooks.example.test/x' }, /'url'/)
  await wrong({ url: 'https://hooks.example.test:22/x' }, /'url'/)
  await wrong({ url: `https://hooks.example.test/${'x'.repeat(2100)}` }, /2048/)
  const url = 'https://hooks.example.test/x'
  await wrong({ url, secret: 'short' }, /32 to 256/)
  await wrong({ url, events: [] }, /'events'/)
  await wrong({ url, events: ['everything'] }, /'events\[0\]'/)
  await wrong({ url, name: 'x'.repeat(101) }, /'name'/)
  for (let i = 0; i < 20; i++) await add(pool, key, { url })
  isError(await pool.http('POST', '/v1/webhooks', { key, body: { url } }), 409, 'webhook_limit')
  const [first] = (await pool.http('GET', '/v1/webhooks', { key })).json.items
  isError(await pool.http('POST', `/v1/webhooks/${first.id}/deliveries/out-none/redeliver`, { key }), 404, 'delivery_not_found')
  const auditor = await pool.createKey('service_account', 'auditor', null, 'audit:read')
  const log = (await pool.http('GET', '/v1/audit-log?eventTypes=team_webhook&limit=100', { key: auditor })).json.items
  assert.equal(log.length, 20)
  assert.deepEqual(log[19].data, { change: 'created', id: first.id, url })
  assert.ok(!JSON.stringify(log).includes('secret'))
})
