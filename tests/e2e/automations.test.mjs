// Automations: agents that begin by a schedule, by a signed webhook, or when they are asked to.
import test from 'node:test'
import assert from 'node:assert/strict'
import { createHmac, randomUUID } from 'node:crypto'
import { bullpen, sh, until } from './lib.mjs'
import { isError, sql } from './api-help.mjs'
import { REPO, registerPool } from './fleet-help.mjs'

const made = async (pool, body, key) => {
  const r = await pool.http('POST', '/v1/automations', { body: { name: 'nightly', prompt: sh('true'), repos: [{ url: REPO }], ...body }, key })
  assert.equal(r.status, 201, r.text)
  return r.json
}
const runs = async (pool, a, key) => (await pool.http('GET', `/v1/automations/${a.id}/runs?limit=100`, { key })).json.items
const agents = async pool => (await pool.http('GET', '/v1/agents?limit=100')).json.items
const change = async (pool, a, body) => {
  const r = await pool.http('PATCH', `/v1/automations/${a.id}`, { body })
  assert.equal(r.status, 200, r.text)
  return r.json
}
const is = (pool, a, n, state) => until(`${n} runs are ${state}`, async () => { const all = (await runs(pool, a)).filter(r => r.state === state); return all.length >= n && all }, 30)
// As if the time had come.
const due = (pool, a, at) => sql(pool, 'UPDATE automations SET next_at = ? WHERE id = ?', at, a.id)
const hmac = (secret, bytes) => 'sha256=' + createHmac('sha256', secret).update(bytes).digest('hex')
const hook = (pool, a, body, { secret = a.webhook.secret, at = Math.floor(Date.now() / 1000), id = randomUUID(), headers = {} } = {}) => {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  return pool.http('POST', `/webhooks/automations/${a.id}`, { key: null, body: text, headers: { 'x-hub-signature-256': hmac(secret, at === null ? text : `${at}.${text}`), ...(at === null ? {} : { 'x-webhook-timestamp': String(at) }), ...(id === null ? {} : { 'x-webhook-id': id }), ...headers } })
}

test('an automation is made, seen, changed and deleted by its owner only', async t => {
  const pool = await bullpen(t)
  const a = await made(pool, { repos: [{ url: 'https://git.example.test/acme/web', startingRef: 'main' }], env: { type: 'pool', name: 'default' }, autoCreatePR: false, mode: 'plan', schedule: { cron: '0 9 * * mon-fri', timeZone: 'Europe/Berlin' }, webhook: {} })
  assert.match(a.id, /^auto-[0-9a-f-]{36}$/)
  assert.deepEqual(a.schedule, { cron: '0 9 * * mon-fri', timeZone: 'Europe/Berlin', missed: 'skip' })
  assert.ok(Date.parse(a.nextRunAt) > Date.now())
  assert.match(a.webhook.secret, /^[0-9a-f]{64}$/)
  assert.equal(a.webhook.url, `${pool.url}/webhooks/automations/${a.id}`)
  const seen = (await pool.http('GET', `/v1/automations/${a.id}`)).json
  const { secret, ...webhook } = a.webhook
  assert.deepEqual(seen, { ...a, webhook }, 'the secret is shown once')
  const other = await pool.createKey('user', 'eve', 'eve@example.test')
  for (const [method, path] of [['GET', ''], ['PATCH', ''], ['DELETE', ''], ['POST', '/run'], ['GET', '/runs']]) isError(await pool.http(method, `/v1/automations/${a.id}${path}`, { key: other, ...(method === 'PATCH' ? { body: {} } : {}) }), 404, 'automation_not_found')
  assert.deepEqual((await pool.http('GET', '/v1/automations', { key: other })).json.items, [])
  const b = await change(pool, a, { name: 'other', enabled: false, concurrency: 'queue' })
  assert.deepEqual([b.name, b.enabled, b.concurrency, b.nextRunAt, b.mode], ['other', false, 'queue', undefined, 'plan'])
  const c = await change(pool, a, { schedule: null, webhook: null, enabled: true })
  assert.deepEqual([c.schedule, c.webhook, c.nextRunAt], [undefined, undefined, undefined])
  await made(pool, { name: 'second' })
  const page = (await pool.http('GET', '/v1/automations?limit=1')).json
  assert.equal(page.items[0].name, 'second')
  assert.equal((await pool.http('GET', `/v1/automations?limit=1&cursor=${page.nextCursor}`)).json.items[0].name, 'other')
  assert.equal((await pool.http('DELETE', `/v1/automations/${a.id}`)).status, 200)
  isError(await pool.http('GET', `/v1/automations/${a.id}`), 404, 'automation_not_found')
})

test('what is wrong is said when the automation is made', async t => {
  const pool = await bullpen(t)
  const wrong = async (body, pattern, code = 'validation_error') => isError(await pool.http('POST', '/v1/automations', { body: { name: 'n', prompt: 'p', ...body } }), 400, code, pattern)
  await wrong({ schedule: { cron: '61 * * * *' } }, /'schedule': the minute '61'/)
  await wrong({ schedule: { cron: '0 0 31 2 *' } }, /never comes/)
  await wrong({ schedule: { cron: '@daily', timeZone: 'Mars/Base' } }, /no time zone 'Mars\/Base'/)
  await wrong({ schedule: { cron: '@daily', timeZone: '../../etc/passwd' } }, /a name like/)
  await wrong({ schedule: { cron: '@daily', missed: 'all' } }, /skip or once/)
  await wrong({ schedule: { timeZone: 'UTC' } }, /'schedule.cron' is required/)
  await wrong({ schedule: { cron: '@daily', zone: 'UTC' } }, /zone/)
  await wrong({ schedule: 'daily' }, /object, or null/)
  await wrong({ webhook: true }, /object, or null/)
  await wrong({ name: ' ' }, /'name'/)
  await wrong({ prompt: ' ' }, /'prompt'/)
  await wrong({ prompt: 'x'.repeat(65537) }, /'prompt'/)
  await wrong({ concurrency: 'both' }, /skip or queue/)
  await wrong({ repos: [{ url: 'nowhere' }] }, /repos\[0\]/)
  await wrong({ model: { id: 'none' } }, /none/, 'invalid_model')
  await wrong({ surprise: 1 }, /surprise/)
})

test('a schedule starts one agent when its time comes, and awaits the next', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const a = await made(pool, { repos: [{ url: (await pool.origin()).url }], schedule: { cron: '0 0 1 1 *' } })
  const at = Date.now() - 1000
  due(pool, a, at)
  const [run] = await is(pool, a, 1, 'started')
  assert.deepEqual([run.cause, run.at, run.reason], ['schedule', new Date(at).toISOString(), undefined])
  assert.equal((await pool.http('GET', `/v1/automations/${a.id}`)).json.nextRunAt, a.nextRunAt)
  const [agent] = await agents(pool)
  assert.deepEqual([agent.id, agent.name], [run.agentId, 'nightly'])
  await until('it ends', async () => (await pool.http('GET', `/v1/agents/${agent.id}/runs/${agent.latestRunId}`)).json.status === 'FINISHED')
  // What is changed beside the schedule leaves its next time alone.
  due(pool, a, Date.now() + 3600_000)
  const later = (await pool.http('GET', `/v1/automations/${a.id}`)).json.nextRunAt
  assert.equal((await change(pool, a, { name: 'renamed' })).nextRunAt, later)
  assert.equal((await change(pool, a, { schedule: { cron: '0 0 1 1 *' } })).nextRunAt, a.nextRunAt)
  // The same moment once more, as another server would have it.
  due(pool, a, at)
  await until('it was looked at', () => sql(pool, 'SELECT next_at FROM automations WHERE id = ?', a.id)[0][0] > Date.now())
  assert.equal((await runs(pool, a)).length, 1)
  assert.equal((await agents(pool)).length, 1)
})

test('times that nobody was there for are stated, and with once made up for', async t => {
  const pool = await bullpen(t)
  await registerPool(pool, 'default')
  const skip = await made(pool, { schedule: { cron: '0 * * * *' } }), once = await made(pool, { schedule: { cron: '0 * * * *', missed: 'once' } })
  await pool.stop()
  // Full hours, the last one more than five minutes ago.
  const last = Math.floor((Date.now() - 360000) / 3600000) * 3600000, first = last - 3 * 3600000
  for (const a of [skip, once]) due(pool, a, first)
  const here = last + 3600000 <= Date.now() ? 5 : 4 // a full hour has passed just now
  await pool.restart()
  await is(pool, once, 1, 'started')
  await is(pool, skip, 1, 'missed')
  const [missed] = (await runs(pool, skip)).filter(r => r.state === 'missed')
  assert.match(missed.reason, new RegExp(`^4 times from ${new Date(first).toISOString()} on were missed`))
  assert.equal((await runs(pool, skip)).filter(r => r.state === 'started').length, here - 4)
  const all = await runs(pool, once)
  assert.equal(all.filter(r => r.state === 'missed').length, 1)
  if (here === 4) assert.match(JSON.stringify(sql(pool, 'SELECT tick FROM automation_runs WHERE automation_id = ? ORDER BY tick', once.id)), new RegExp(`schedule/${new Date(last).toISOString()}`))
})

test('while the last one runs the next is left out, or waits for its end', async t => {
  const pool = await bullpen(t)
  await registerPool(pool, 'default') // without a worker: they stay CREATING
  const run = async a => { const r = await pool.http('POST', `/v1/automations/${a.id}/run`); assert.equal(r.status, 202, r.text); return r.json }
  const skip = await made(pool, { enabled: false }), queue = await made(pool, { concurrency: 'queue', enabled: false })
  for (const a of [skip, queue]) { await run(a); await is(pool, a, 1, 'started') }
  const second = await run(skip)
  assert.deepEqual([second.cause, second.state], ['manual', 'new'])
  const [left] = await is(pool, skip, 1, 'skipped')
  assert.deepEqual([left.id, left.reason, left.agentId], [second.id, 'the one before is not over', undefined])
  await run(queue)
  await is(pool, queue, 1, 'queued')
  for (let i = 0; i < 10; i++) await run(queue)
  const [tooMany] = await is(pool, queue, 1, 'skipped')
  assert.match(tooMany.reason, /ten wait/)
  const [first] = await is(pool, queue, 1, 'started')
  const agent = (await pool.http('GET', `/v1/agents/${first.agentId}`)).json
  assert.equal((await pool.http('POST', `/v1/agents/${agent.id}/runs/${agent.latestRunId}/cancel`)).status, 200)
  await is(pool, queue, 2, 'started')
  assert.equal((await runs(pool, queue)).filter(r => r.state === 'queued').length, 9)
  await pool.http('DELETE', `/v1/automations/${queue.id}`)
  isError(await pool.http('GET', `/v1/automations/${queue.id}/runs`), 404, 'automation_not_found')
  assert.equal((await pool.http('GET', `/v1/agents/${agent.id}`)).status, 200)
})

test('a signed webhook starts an agent with values of its body as material, once', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const a = await made(pool, { repos: [{ url: (await pool.origin()).url }], prompt: sh('true') + 'Look at {{issue.title}} by {{issue.by.name}}: {{issue.text}}', webhook: {} })
  const body = { issue: { title: 'Broken "door"', text: 'It is\nbroken.\n```sh\nfalse\n```', by: {} } }
  const at = Math.floor(Date.now() / 1000)
  const r = await hook(pool, a, body, { id: 'd-1', at })
  assert.equal(r.status, 200, r.text)
  const [run] = await is(pool, a, 1, 'started')
  assert.deepEqual([run.id, run.cause], [r.json.id, 'webhook'])
  const { text } = await pool.http('GET', `/v0/agents/${run.agentId}/conversation`)
  assert.match(text, /Look at \\"Broken \\\\\\"door\\\\\\"\\" by \(not given\): \(issue\.text, number 1 below\)/)
  assert.match(text, /> It is\\n> broken\.\\n> ```sh\\n> false/)
  // The same delivery, and the same signature under another name.
  for (const o of [{ id: 'd-1' }, { id: 'd-1', at: at - 1 }, { id: 'd-2', at }, { id: null, at }]) assert.deepEqual((await hook(pool, a, body, o)).json, { repeated: true })
  assert.equal((await runs(pool, a)).length, 1)
  await until('it ends', async () => { const g = (await pool.http('GET', `/v1/agents/${run.agentId}`)).json; return (await pool.http('GET', `/v1/agents/${g.id}/runs/${g.latestRunId}`)).json.status === 'FINISHED' })
  await hook(pool, a, body, { id: 'd-3', at: at - 2 })
  await is(pool, a, 2, 'started')
})

test('nothing but a signed body of the right form is taken', async t => {
  const pool = await bullpen(t)
  const a = await made(pool, { prompt: '{{x}}', webhook: {} }), none = await made(pool, {})
  const now = Math.floor(Date.now() / 1000)
  for (const o of [{ secret: 'wrong' }, { at: null }, { at: now - 400 }, { at: now + 400 }, { headers: { 'x-hub-signature-256': 'sha256=00' } }, { headers: { 'x-hub-signature-256': `sha256=${'z'.repeat(64)}` } }, { headers: { 'x-hub-signature-256': hmac(a.webhook.secret, '{}') } }, { headers: { 'x-webhook-timestamp': `${now}x` } }]) assert.equal((await hook(pool, a, {}, o)).status, 401, JSON.stringify(o))
  for (const body of ['', '{', '[]', '"x"', '\0', '{"a":'.repeat(200), '{"x":"' + 'y'.repeat(1024 * 1024) + '"}']) assert.equal((await hook(pool, a, body)).status, 400, body.slice(0, 50))
  assert.equal((await hook(pool, a, {}, { id: 'a/b' })).status, 400)
  for (const id of [none.id, 'auto-none', randomUUID(), '%2e%2e', `${a.id}/x`]) assert.equal((await hook(pool, { id, webhook: a.webhook }, {})).status, 404, id)
  assert.equal((await runs(pool, a)).length, 0)
  // Another secret: both hold for a day.
  const b = await change(pool, a, { webhook: { rotateSecret: true } })
  assert.notEqual(b.webhook.secret, a.webhook.secret)
  for (const secret of [a.webhook.secret, b.webhook.secret]) assert.equal((await hook(pool, a, { x: 1 }, { secret })).status, 200)
  sql(pool, 'UPDATE automations SET old_until = 1 WHERE id = ?', a.id)
  assert.equal((await hook(pool, a, { x: 2 })).status, 401)
  // As a forge signs: without a time.
  await change(pool, a, { webhook: { timestamp: false } })
  const plain = { secret: b.webhook.secret, at: null }
  assert.match((await hook(pool, a, { x: 3 }, plain)).json.id, /^arun-/)
  assert.deepEqual((await hook(pool, a, { x: 3 }, plain)).json, { repeated: true }, 'the same bytes are the same event')
  await change(pool, a, { enabled: false })
  assert.match((await hook(pool, a, { x: 4 }, plain)).text, /switched off/)
})

test('in a terminal: agent automations', async t => {
  const pool = await bullpen(t)
  await registerPool(pool, 'default')
  const cli = async (...args) => { const p = pool.cli(['automations', ...args]); await p.exited; return p }
  assert.equal((await cli()).stdout, 'no automations (docs/automations.md)\n')
  const a = await made(pool, { schedule: { cron: '0 9 1 1 *' }, name: 'yearly\u001b[2J' }), b = await made(pool, { webhook: {} }), c = await made(pool, { enabled: false })
  const { stdout } = await cli('ls')
  assert.ok(!stdout.includes('\u001b'))
  assert.match(stdout, new RegExp(`${a.id}  0 9 1 1 \\* +${a.nextRunAt.slice(0, 19)}  yearly`))
  assert.match(stdout, new RegExp(`${b.id}  webhook +- +nightly`))
  assert.match(stdout, new RegExp(`${c.id}  switched off +- +nightly`))
  assert.match((await cli('log', a.id)).stdout, /has not begun/)
  assert.match((await cli('run', a.id)).stdout, /manual    new/)
  const [run] = await is(pool, a, 1, 'started')
  assert.match((await cli('log', a.id)).stdout, new RegExp(`manual    started  ${run.agentId}\n$`))
  assert.deepEqual(JSON.parse((await cli('log', a.id, '--json')).stdout), run)
  for (const [args, code, text] of [[['run', 'nightly'], 4, /several of your/], [['run', 'none'], 4, /you have no automation none/], [['run'], 2, /name the automation/], [['stop'], 2, /ls, run or log/], [['ls', 'x'], 2, /unexpected/]]) {
    const p = await cli(...args)
    assert.deepEqual([p.code, text.test(p.stderr)], [code, true], p.stderr)
  }
})

test('the server dies at any time: one agent a tick', async t => {
  const pool = await bullpen(t)
  await registerPool(pool, 'default')
  const all = []
  for (let i = 0; i < 8; i++) all.push(await made(pool, { name: `n${i}`, schedule: { cron: '0 0 1 1 *' } }))
  for (let round = 0; round < 4; round++) {
    await pool.crash()
    for (const a of all.slice(2 * round, 2 * round + 2)) due(pool, a, Date.now() - 1000)
    await pool.restart()
    if (round % 2 === 0) await until('one is there', async () => (await agents(pool)).length > 2 * round)
  }
  for (const a of all) await is(pool, a, 1, 'started')
  const ids = (await agents(pool)).map(a => a.id)
  assert.equal(ids.length, 8)
  assert.deepEqual(new Set((await Promise.all(all.map(a => runs(pool, a)))).flat().map(r => r.agentId)), new Set(ids))
})

test('an automation may do what its owner may', async t => {
  const pool = await bullpen(t)
  await registerPool(pool, 'default')
  isError(await pool.http('POST', '/v1/automations', { body: { name: 'n', prompt: 'p' }, key: await pool.createKey('user', 'reader', 'r@example.test', 'agents:read') }), 403, 'scope_required')
  const bot = await pool.createKey('service_account', 'bot')
  const a = await made(pool, { webhook: {} }, bot)
  assert.match(a.owner, /^sa:/)
  assert.equal((await hook(pool, a, {})).status, 200)
  const [run] = await until('it is started', async () => { const r = await runs(pool, a, bot); return r[0]?.state === 'started' && r })
  assert.equal((await pool.http('GET', `/v1/agents/${run.agentId}`, { key: bot })).status, 200)
  // An account that is archived starts nothing more.
  sql(pool, 'UPDATE service_accounts SET archived_at = 1 WHERE id = ?', a.owner.slice(3))
  sql(pool, "UPDATE runs SET status = 'CANCELLED'")
  assert.equal((await hook(pool, a, { again: 1 })).status, 200)
  await until('it is refused', async () => sql(pool, "SELECT reason FROM automation_runs WHERE state = 'failed'")[0]?.[0].includes('its owner is gone'))
})
