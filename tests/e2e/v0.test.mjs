// The older agents API and its webhooks: a second view of the same agents, with real workers and a real receiver.
import test from 'node:test'
import assert from 'node:assert/strict'
import http from 'node:http'
import { createHmac, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { atEnd, bullpen, file, sh, until } from './lib.mjs'
import { isV0Error } from './api-help.mjs'
import { modelServer, provider } from './models-help.mjs'

const REPO = 'https://git.example.test/acme/web'
const HOOKS = '[server]\nallow_private_urls = true\n[webhooks]\nallow_http = true\n'
const launch = (pool, text, more = {}, options) => pool.http('POST', '/v0/agents', { body: { prompt: { text }, source: { repository: REPO }, usePrivateWorker: true, ...more }, ...options })
const followup = (pool, id, text, options) => pool.http('POST', `/v0/agents/${id}/followup`, { body: { prompt: { text } }, ...options })
const get = async (pool, id) => (await pool.http('GET', `/v0/agents/${id}`)).json
const has = (pool, id, status) => until(`${id} is ${status}`, async () => { const a = await get(pool, id); return a.status === status && a }, 60)
const messages = async (pool, id) => (await pool.http('GET', `/v0/agents/${id}/conversation`)).json.messages
const users = list => list.filter(m => m.type === 'user_message').map(m => m.text)

// Somebody's server: keeps what it gets, raw, and answers what answer(n, body) says: a status, or [status, headers].
async function receiver(t, answer = () => 200) {
  const got = []
  const server = http.createServer((q, s) => {
    const parts = []
    q.on('data', d => parts.push(d)).on('end', () => {
      const raw = Buffer.concat(parts)
      got.push({ method: q.method, path: q.url, headers: q.headers, raw, json: JSON.parse(raw.toString() || 'null') })
      const [status, headers] = [answer(got.length, got.at(-1))].flat()
      s.writeHead(status, headers).end('thanks')
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  atEnd(t, () => { server.closeAllConnections(); server.close() })
  return { got, url: `http://127.0.0.1:${server.address().port}/hook` }
}

test('an agent is launched, listed, read, asked again and deleted, and v1 sees the same one', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const repository = (await pool.origin()).url
  const r = await launch(pool, 'Tidy up\n' + file('a.txt', 'a'), { source: { repository, ref: 'main' }, model: 'default', target: { branchName: 'tidy/up', autoCreatePr: false }, unknown: { x: 1 } })
  assert.equal(r.status, 201, r.text)
  const { id } = r.json
  assert.match(id, /^bc-/)
  assert.equal(r.json.status, 'CREATING')
  const link = `${pool.url}/agents/${id}`
  const target = { url: link, branchName: 'tidy/up', autoCreatePr: false, openAsCursorGithubApp: false, skipReviewerRequest: false }
  assert.deepEqual({ ...r.json, createdAt: 0 }, { id, name: 'Tidy up', status: 'CREATING', source: { repository, ref: 'main' }, target, createdAt: 0 })
  const done = await has(pool, id, 'FINISHED')
  assert.match(done.summary, /1 of 1 steps succeeded/)
  assert.deepEqual(done.target, target)
  assert.equal(await (await pool.origin()).show('tidy/up', 'a.txt'), 'a')

  const first = await messages(pool, id)
  assert.deepEqual(first.map(m => m.id), ['turn-0:user', 'turn-0:step:1:assistant'])
  assert.equal((await followup(pool, 'bc_' + id.slice(3).toUpperCase(), 'and again')).text, JSON.stringify({ id }))
  await until('it is asked again', async () => (await messages(pool, id)).length === 4)
  await has(pool, id, 'FINISHED')
  const second = await messages(pool, id)
  assert.deepEqual(second.slice(0, 2), first, 'what was said stays as it is')
  assert.deepEqual(second.slice(2).map(m => [m.id, m.type]), [['turn-1:user', 'user_message'], ['turn-1:step:0:assistant', 'assistant_message']])

  // Each API reads what the other made.
  assert.equal((await pool.http('GET', `/v1/agents/${id}`)).json.name, 'Tidy up')
  const other = await pool.run('from v1')
  await other.end()
  const page = await pool.http('GET', '/v0/agents?limit=1')
  assert.deepEqual(page.json.agents.map(a => a.id), [other.agentId])
  const rest = await pool.http('GET', `/v0/agents?limit=1&cursor=${page.json.nextCursor}`)
  assert.deepEqual([rest.json.agents.map(a => a.id), Object.keys(rest.json)], [[id], ['agents']])
  assert.equal((await pool.http('POST', `/v1/agents/${other.agentId}/archive`)).status, 200)
  assert.deepEqual((await pool.http('GET', '/v0/agents')).json.agents.map(a => a.id), [id], 'archived ones are not listed')
  isV0Error(await followup(pool, other.agentId, 'more'), 409, 'agent_archived')

  assert.deepEqual(Object.keys((await pool.http('GET', '/v0/me')).json), ['apiKeyName', 'createdAt', 'userEmail'])
  assert.deepEqual(Object.keys((await pool.http('GET', '/v0/me', { key: pool.poolKey })).json), ['apiKeyName', 'createdAt'])
  assert.deepEqual((await pool.http('GET', '/v0/models')).json, { models: ['playbook'] })
  assert.deepEqual((await pool.http('GET', '/v0/repositories')).json, { repositories: [{ owner: 'acme', name: 'web', repository }] })

  assert.deepEqual((await pool.http('DELETE', `/v0/agents/${id}`)).json, { id })
  for (const [method, p, body] of [['GET', ''], ['GET', '/conversation'], ['POST', '/followup', { prompt: { text: 'x' } }], ['POST', '/stop'], ['DELETE', '']])
    isV0Error(await pool.http(method, `/v0/agents/${id}${p}`, { body }), 404, 'agent_not_found')
})

test('the conversation can be read while the agent works', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const gate = `${pool.dir}/gate`
  const { id } = (await launch(pool, sh(`until [ -e ${gate} ]; do sleep 0.05; done`), { source: { repository: (await pool.origin()).url } })).json
  await has(pool, id, 'RUNNING')
  assert.deepEqual((await messages(pool, id)).map(m => m.id), ['turn-0:user'])
  const fs = await import('node:fs')
  fs.writeFileSync(gate, '')
  await has(pool, id, 'FINISHED')
  assert.equal((await messages(pool, id)).length, 2)
})

test('follow-ups wait for their turn, twenty of them, also while the server is away', { timeout: 120_000 }, async t => {
  const pool = await bullpen(t)
  const repository = (await pool.origin()).url
  const { id } = (await launch(pool, 'first', { source: { repository } })).json
  const key = randomUUID()
  for (let i = 1; i <= 20; i++) assert.equal((await followup(pool, id, `next ${i}`, { headers: { 'idempotency-key': `${key}-${i}` } })).status, 200)
  isV0Error(await followup(pool, id, 'next 21'), 409, 'agent_busy', /20 follow-ups/)
  const again = await followup(pool, id, 'next 20', { headers: { 'idempotency-key': `${key}-20` } })
  assert.deepEqual([again.status, again.headers.get('idempotent-replayed')], [200, 'true'])
  const busy = await pool.http('POST', `/v1/agents/${id}/runs`, { body: { prompt: { text: 'x' } } })
  assert.deepEqual([busy.status, busy.json.error.code], [409, 'agent_busy'])
  assert.equal((await get(pool, id)).status, 'CREATING')
  await pool.crash()
  await pool.restart()
  await pool.worker()
  await until('some have begun', async () => (await messages(pool, id)).length > 6, 60)
  await pool.crash()
  await pool.restart()
  await until('all were asked', async () => users(await messages(pool, id)).length === 21, 60)
  await has(pool, id, 'FINISHED')
  assert.deepEqual(users(await messages(pool, id)), ['first', ...Array.from({ length: 20 }, (_, i) => `next ${i + 1}`)])
  const list = await messages(pool, id)
  assert.equal(new Set(list.map(m => m.id)).size, list.length)
})

test('a follow-up that waited keeps its images, and segments of text stand between tool calls', async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'openai', { model: 'images = true' }) })
  const png = Buffer.from('89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489', 'hex').toString('base64')
  const source = { repository: (await pool.origin()).url }
  m.next({ answer: { text: 'I look.', calls: [{ name: 'read', arguments: { path: 'README.md' } }] } }, { answer: { text: 'It says hello.' } }, { answer: { text: 'A dot.' } })
  const { id } = (await launch(pool, 'what is there?', { source, model: 'clever' })).json
  for (const [list, words] of [[Array(6).fill({ data: png }), /images/], [[{ data: Buffer.from('no image').toString('base64') }], /must be a PNG/]])
    isV0Error(await pool.http('POST', `/v0/agents/${id}/followup`, { body: { prompt: { text: 'x', images: list } } }), 400, 'validation_error', words)
  isV0Error(await pool.http('POST', `/v0/agents/${id}/followup`, { body: { prompt: { text: ' ' } } }), 400, 'validation_error', /prompt\.text/)
  assert.equal((await pool.http('POST', `/v0/agents/${id}/followup`, { body: { prompt: { text: 'and here?', images: [{ data: png }] } } })).status, 200)
  await pool.worker()
  await until('both were asked', () => m.requests.length === 3, 60)
  await has(pool, id, 'FINISHED')
  assert.deepEqual(m.requests[2].body.messages.at(-1).content, [{ type: 'text', text: 'and here?' }, { type: 'image_url', image_url: { url: `data:image/png;base64,${png}` } }])
  assert.deepEqual((await messages(pool, id)).map(x => [x.id.replace(/:\d+:/, ':N:'), x.text]), [['turn-0:user', 'what is there?'], ['turn-0:step:N:assistant', 'I look.'],
    ['turn-0:step:N:assistant', 'It says hello.'], ['turn-1:user', 'and here?'], ['turn-1:step:N:assistant', 'A dot.']])
})

test('stop ends what is active and forgets what waits; so do cancel, archive and delete', async t => {
  const pool = await bullpen(t)
  const ids = []
  for (let i = 0; i < 3; i++) ids.push((await launch(pool, 'first')).json.id)
  for (const id of ids) assert.equal((await followup(pool, id, 'never')).status, 200)
  const [a, b, c] = ids
  assert.deepEqual((await pool.http('POST', `/v0/agents/${a}/stop`)).json, { id: a })
  assert.equal((await get(pool, a)).status, 'STOPPED')
  isV0Error(await pool.http('POST', `/v0/agents/${a}/stop`), 409, 'run_not_cancellable')
  assert.deepEqual(users(await messages(pool, a)), ['first'])
  assert.equal((await followup(pool, a, 'go on')).status, 200)
  assert.equal((await get(pool, a)).status, 'CREATING', 'it goes on at once')
  const run = (await pool.http('GET', `/v1/agents/${b}`)).json.latestRunId
  assert.equal((await pool.http('POST', `/v1/agents/${b}/runs/${run}/cancel`)).status, 200)
  assert.equal((await get(pool, b)).status, 'STOPPED')
  assert.equal((await pool.http('POST', `/v1/agents/${b}/runs`, { body: { prompt: { text: 'x' } } })).status, 201, 'nothing waits')
  assert.equal((await pool.http('POST', `/v1/agents/${c}/archive`)).status, 200)
  assert.equal((await pool.http('POST', `/v1/agents/${c}/unarchive`)).status, 200)
  assert.deepEqual(users(await messages(pool, c)), ['first'])
  assert.equal((await pool.http('POST', `/v1/agents/${c}/runs`, { body: { prompt: { text: 'x' } } })).status, 201, 'nothing waits')
})

test('webhooks: signed, tried again after 500 with the same id and over a crash, in order, and not after 400', { timeout: 120_000 }, async t => {
  const hook = await receiver(t, n => n === 1 ? 500 : 200)
  const refuses = await receiver(t, (n) => n === 1 ? 400 : 200)
  const pool = await bullpen(t, { config: HOOKS })
  await pool.worker()
  await pool.worker()
  const source = { repository: (await pool.origin()).url }
  const secret = 'ü'.repeat(32)
  const { id } = (await launch(pool, 'one', { source, webhook: { url: hook.url, secret } })).json
  const other = (await launch(pool, 'three', { source, webhook: { url: refuses.url } })).json.id
  await until('it was tried', () => hook.got.length === 1)
  assert.equal((await followup(pool, id, 'two')).status, 200)
  await until('the second run', async () => (await messages(pool, id)).length === 4)
  await has(pool, id, 'FINISHED')
  // 400 ends a delivery, and the next is not held up by it.
  await until('it was refused', () => refuses.got.length === 1)
  await has(pool, other, 'FINISHED')
  assert.equal((await followup(pool, other, 'four')).status, 200)
  await until('the next one', () => refuses.got.length === 2)
  assert.notEqual(refuses.got[0].headers['x-webhook-id'], refuses.got[1].headers['x-webhook-id'])
  assert.equal(refuses.got[0].headers['x-webhook-signature'], undefined, 'no secret, no signature')
  assert.equal(hook.got.length, 1, 'the second event waits for the first')
  await pool.crash()
  await pool.restart()
  await until('it was tried again', () => hook.got.length === 3, 40)
  const [first, second, third] = hook.got
  for (const d of hook.got) {
    assert.equal(d.method, 'POST')
    assert.equal(d.path, '/hook')
    assert.equal(d.headers['content-type'], 'application/json')
    assert.equal(d.headers['x-webhook-event'], 'statusChange')
    assert.equal(d.headers['user-agent'], 'Cursor-Agent-Webhook/1.0')
    assert.equal(d.headers['x-webhook-signature'], 'sha256=' + createHmac('sha256', secret).update(d.raw).digest('hex'))
    assert.deepEqual(Object.keys(d.json), ['event', 'timestamp', 'id', 'status', 'source', 'target', 'summary'])
    assert.deepEqual([d.json.event, d.json.id, d.json.status, d.json.source], ['statusChange', id, 'FINISHED', source])
    assert.equal(d.json.target.url, (await get(pool, id)).target.url)
  }
  assert.deepEqual(second.raw, first.raw)
  assert.equal(second.headers['x-webhook-id'], first.headers['x-webhook-id'])
  assert.notEqual(third.headers['x-webhook-id'], first.headers['x-webhook-id'])
  assert.ok(third.json.timestamp > first.json.timestamp)
  // Runs of v1 fire, too; what was stopped does not.
  assert.equal((await pool.http('POST', `/v1/agents/${id}/runs`, { body: { prompt: { text: 'five' } } })).status, 201)
  await until('a run of v1', () => hook.got.length === 4)
  assert.equal(refuses.got.length, 2)
  for (const what of [secret, hook.url]) assert.ok(!pool.server.stderr.includes(what), 'the log has no secrets')
})

test('webhooks go where they were sent and nowhere else', async t => {
  const trap = await receiver(t)
  const redirects = await receiver(t, () => [302, { location: trap.url }])
  const pool = await bullpen(t, { config: HOOKS })
  await pool.worker()
  const source = { repository: (await pool.origin()).url }
  const { id } = (await launch(pool, 'x', { source, webhook: { url: redirects.url } })).json
  await has(pool, id, 'FINISHED')
  await pool.server.says(new RegExp(`outbox.failed.*kind=webhook.*answered 302`), 'stderr')
  assert.deepEqual([redirects.got.length, trap.got.length], [1, 0])

  // The address, not the name, decides.
  const strict = await bullpen(t)
  await strict.worker()
  const own = { repository: (await strict.origin()).url }
  assert.equal((await launch(strict, 'x', { source: own, webhook: { url: 'https://localhost/hook' } })).status, 201)
  await strict.server.says(/outbox\.failed.*kind=webhook.*attempts=1 .*not a public one/, 'stderr')
  isV0Error(await launch(strict, 'x', { source: own, webhook: { url: 'http://hooks.example.test/' } }), 400, 'validation_error', /https/)
  isV0Error(await launch(strict, 'x', { source: own, webhook: { url: 'https://hooks.example.test:22/' } }), 400, 'validation_error', /port/)
})

test('what a launch may hold', { timeout: 120_000 }, async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'openai', { model: 'images = true' }) })
  const takes = async (more, text = 'x') => { const r = await launch(pool, text, more); assert.equal(r.status, 201, r.text.slice(0, 300)); return r.json }
  const refuses = async (more, words, code = 'validation_error', status = 400) => {
    const r = await launch(pool, 'x', more)
    isV0Error(r, status, code, words)
    assert.ok(r.text.length < 1200)
  }
  const https = n => 'https://hooks.example.test/'.padEnd(n, 'x')
  // At the limit, and one over.
  await takes({ webhook: { url: https(2048), secret: 's'.repeat(32) } })
  await takes({ webhook: { url: https(20), secret: 'ü'.repeat(256) } })
  await refuses({ webhook: { url: https(2049) } }, /webhook\.url/)
  await refuses({ webhook: { url: https(20), secret: 's'.repeat(31) } }, /webhook\.secret/)
  await refuses({ webhook: { url: https(20), secret: 's'.repeat(257) } }, /webhook\.secret/)
  for (const url of ['', 'x', 'ftp://a.example.test/', 'https://user:secret@a.example.test/', 'https://user@a.example.test/', 'https://a b/', 'https://', 'javascript:alert(1)', 'https://a.example.test/\r\nX: y'])
    await refuses({ webhook: { url } }, /webhook\.url/)
  await refuses({ webhook: {} }, /webhook/)
  await refuses({ webhook: { secret: 's'.repeat(32) } }, /url/)
  await refuses({ webhook: null }, /webhook/)
  // Images: their type is in their bytes.
  const gif = Buffer.concat([Buffer.from('474946383961', 'hex'), Buffer.from([1, 0, 1, 0, 0, 0, 0])]).toString('base64')
  const png = Buffer.from('89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c489', 'hex').toString('base64')
  const images = list => ({ prompt: { text: 'x', images: list }, model: 'clever' })
  await takes(images([gif, png, gif, png, gif].map(data => ({ data, dimension: { width: 1, height: 1 }, extra: 1 }))))
  await refuses(images(Array(6).fill({ data: gif })), /images/)
  await refuses(images([{ data: Buffer.from('no image at all').toString('base64') }]), /must be a PNG/)
  await refuses(images([{ data: '*' }]), /base64/)
  await refuses(images([{ url: 'https://a.example.test/x.png' }]), /data/)
  await refuses({ prompt: { text: ' ' } }, /prompt\.text/)
  await takes({ prompt: { text: 'x'.repeat(1024 * 1024) } })
  await refuses({ prompt: { text: 'x'.repeat(1024 * 1024 + 1) } }, /prompt\.text/)
  // Places are named as this API has them.
  await refuses({ source: {} }, /'source\.repository' is required/)
  await refuses({ source: { repository: 'nonsense' } }, /'source\.repository'/)
  await refuses({ source: { repository: REPO, ref: '..' } }, /'source\.ref'/, 'invalid_branch_name')
  await refuses({ source: { prUrl: 'https://github.com/a/b/pull/1' } }, /'source\.prUrl' is no pull request of a forge/, 'pr_resolution_failed')
  await refuses({ model: 'none-such' }, /\/v0\/models/, 'invalid_model')
  await refuses({ target: { autoCreatePr: true } }, /'target\.autoCreatePr': this server knows no forge/, 'integration_not_connected')
  await refuses({ target: { openAsCursorGithubApp: true } }, /needs 'target\.autoCreatePr'/)
  await refuses({ target: { skipReviewerRequest: true } }, /needs 'target\.autoCreatePr'/)
  await refuses({ target: { autoBranch: false } }, /needs 'source\.prUrl'/)
  await takes({ target: { autoBranch: true, branchName: 'mine' } })
  await refuses({ target: { branchName: 'mine' } }, /another agent/, 'invalid_branch_name')
  await refuses({ target: { branchName: 'a..b' } }, /branchName/, 'invalid_branch_name')
  await refuses({ source: { repository: REPO, ref: 'main' }, target: { branchName: 'main' } }, /branchName/, 'invalid_branch_name')
  // Broken requests.
  isV0Error(await pool.http('POST', '/v0/agents', { body: '' }), 400, 'missing_body')
  isV0Error(await pool.http('POST', '/v0/agents', { body: '{' }), 400, 'validation_error')
  isV0Error(await pool.http('GET', '/v0/agents?limit=101'), 400, 'validation_error', /limit/)
  isV0Error(await pool.http('GET', '/v0/agents?limit=0'), 400, 'validation_error', /limit/)
  assert.equal((await pool.http('GET', '/v0/agents?limit=100')).status, 200)
  isV0Error(await pool.http('GET', '/v0/agents?cursor='), 400, 'validation_error', /cursor/)
  assert.deepEqual((await pool.http('GET', '/v0/agents?prUrl=https://github.com/a/b/pull/1')).json, { agents: [] })
  for (const id of ['x', 'bc-x', 'bc_', `run-${randomUUID()}`]) isV0Error(await pool.http('GET', `/v0/agents/${id}`), 400, 'validation_error', /bc-/)
  isV0Error(await pool.http('GET', `/v0/agents/bc-${randomUUID()}`), 404, 'agent_not_found')
  isV0Error(await pool.http('PUT', '/v0/agents', { body: {} }), 405, 'method_not_allowed')
  isV0Error(await pool.http('GET', '/v0/agents', { key: null }), 401, 'unauthorized')
  // The same key, the same answer.
  const headers = { 'idempotency-key': randomUUID() }
  const one = await launch(pool, 'once', { webhook: { url: https(20) } }, { headers }), two = await launch(pool, 'once', { webhook: { url: https(20) } }, { headers })
  assert.equal(two.text, one.text)
  isV0Error(await launch(pool, 'twice', {}, { headers }), 409, 'idempotency_key_conflict')
})

test('labels and usePrivateWorker say where a launch goes', async t => {
  const pool = await bullpen(t)
  await pool.worker({ name: 'plain' })
  await pool.worker({ name: 'gpu', args: ['--label', 'gpu=yes'] })
  const source = { repository: (await pool.origin()).url }
  const where = async id => { const a = await has(pool, id, 'FINISHED'), v1 = (await pool.http('GET', `/v1/agents/${a.id}`)).json; return [v1.env, (await pool.http('GET', `/v1/agents/${a.id}/runs/${v1.latestRunId}`)).json.worker.name] }
  const r = await launch(pool, 'x', { source, usePrivateWorker: undefined, labels: [{ key: 'gpu', value: 'yes' }] })
  assert.equal(r.status, 201, r.text)
  const [env, worker] = await where(r.json.id)
  assert.deepEqual(env, { type: 'pool', name: 'default' })
  assert.match(worker, /gpu/)
  assert.equal((await pool.http('POST', '/v0/private-workers/pools', { key: pool.poolKey, body: { scope: 'team', poolName: 'other' } })).status, 200)
  const named = await launch(pool, 'x', { source, usePrivateWorker: true, labels: [{ key: 'pool', value: 'other' }] })
  assert.equal(named.status, 201, named.text)
  assert.deepEqual((await pool.http('GET', `/v1/agents/${named.json.id}`)).json.env, { type: 'pool', name: 'other' })
  isV0Error(await launch(pool, 'x', { source, usePrivateWorker: false, labels: [{ key: 'gpu', value: 'yes' }] }), 400, 'validation_error', /contradicts/)
  const unmanaged = await bullpen(t, { config: '[pools]\ncloud_pool = ""\n' })
  isV0Error(await launch(unmanaged, 'x', { usePrivateWorker: undefined }), 403, 'feature_unavailable', /usePrivateWorker/)
})

test('the repositories of both APIs count against one limit', async t => {
  const pool = await bullpen(t, { unlimited: false })
  assert.equal((await pool.http('GET', '/v0/repositories')).status, 200)
  isV0Error(await pool.http('GET', '/v0/repositories'), 429, 'rate_limit_exceeded')
  assert.equal((await pool.http('GET', '/v1/repositories')).status, 429)
})

test('a server that stops gives up a receiver that never answers, and asks it again after the start', { timeout: 60_000 }, async t => {
  const hook = await receiver(t, () => 200)
  const seen = []
  const silent = http.createServer(q => seen.push(q.headers['x-webhook-id'])).listen(0, '127.0.0.1')
  atEnd(t, () => { silent.closeAllConnections(); silent.close() })
  await once(silent, 'listening')
  const pool = await bullpen(t, { config: HOOKS })
  await pool.worker()
  const source = { repository: (await pool.origin()).url }
  assert.equal((await launch(pool, 'x', { source, webhook: { url: `http://127.0.0.1:${silent.address().port}/` } })).status, 201)
  await until('it was asked', () => seen.length === 1)
  // Nor does it keep others waiting.
  assert.equal((await launch(pool, 'y', { source, webhook: { url: hook.url } })).status, 201)
  await until('another agent is told', () => hook.got.length === 1)
  assert.deepEqual(await pool.stop(), { code: 0, signal: null })
  await pool.restart()
  await until('it is asked again', () => seen.length === 2, 40)
  assert.equal(seen[1], seen[0])
})
