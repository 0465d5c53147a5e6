// Claims of controllers: a request is reserved for a worker id, its worker comes, is released, or cannot be started.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { Proc, bullpen, programs, run, sh, until } from './lib.mjs'
import { ISO, isError, sql } from './api-help.mjs'
import { Peer } from './peer.mjs'
import { REPO, Watch, fleet, got, isFleetError, registerPool, runOf, waiting } from './fleet-help.mjs'

const shop = [{ path: '/srv/shop', remote_url: REPO, host: 'git.example.test', repo: 'acme/shop' }]
const claim = (pool, id, workerId, more = {}) => fleet(pool, 'POST', '/claim', { body: { id, workerId, ...more } })
const release = (pool, id) => fleet(pool, 'POST', `/claims/${id}/release`)
const fail = (pool, id, message = 'no machine') => fleet(pool, 'POST', `/claims/${id}/fail`, { body: { message } })
const pending = async pool => (await got(fleet(pool, 'GET', '/pending-requests'))).requests.map(r => r.id)
const peer = (t, pool, workerId, options = {}) => Peer.connected(t, pool, { workerId, ...options, hello: { pool: 'gpu', roots: shop, ...options.hello } })
const ended = (pool, a) => until('the run ends', async () => { const r = await runOf(pool, a); return !['CREATING', 'RUNNING'].includes(r.status) && r })
const missing = 'bc-00000000-0000-4000-8000-000000000000'

async function gpu(t, config = '') {
  const pool = await bullpen(t, { config })
  await registerPool(pool, 'gpu', { repoOwner: 'acme', repoName: 'shop' })
  return pool
}

test('a claimed request waits for its worker and for no other, and begins when that connects', async t => {
  const pool = await gpu(t)
  const a = await waiting(pool, 'gpu')
  assert.deepEqual(await pending(pool), [a.id])
  assert.deepEqual(await got(claim(pool, a.id.toUpperCase().replace('BC-', 'bc-'), 'ctrl-1')), { id: a.id, workerId: 'ctrl-1' })
  assert.deepEqual(await pending(pool), [])
  // Again the same, by whoever; another worker is too late, and so is another request for this one.
  assert.deepEqual(await got(claim(pool, a.id, 'ctrl-1')), { id: a.id, workerId: 'ctrl-1' })
  isFleetError(await claim(pool, a.id, 'ctrl-2'), 409, 'Already claimed', /ctrl-1/)
  const b = await waiting(pool, 'gpu')
  isFleetError(await claim(pool, b.id, 'ctrl-1'), 409, 'Already claimed', /bound/)
  isFleetError(await claim(pool, missing, 'ctrl-3'), 404, 'Not found')
  isFleetError(await claim(pool, 'nothing', 'ctrl-3'), 404, 'Not found')

  // Another worker takes the other request, not this one.
  const other = await peer(t, pool, 'free')
  await ended(pool, b)
  assert.equal((await runOf(pool, a)).status, 'CREATING')
  assert.ok(other.calls.every(c => c.agent_id === b.id))
  // The reservation is on disk.
  await pool.crash()
  await pool.restart()
  isFleetError(await claim(pool, a.id, 'ctrl-2'), 409, 'Already claimed')
  const mine = await peer(t, pool, 'ctrl-1')
  assert.equal(mine.welcomes.length, 1)
  assert.equal((await ended(pool, a)).status, 'FINISHED')
  assert.ok(mine.calls.every(c => c.agent_id === a.id))
  isFleetError(await claim(pool, a.id, 'ctrl-9'), 404, 'Not found', /pending/)
})

test('of many claims of one request, and of one worker, one wins', async t => {
  const pool = await gpu(t)
  const a = await waiting(pool, 'gpu')
  const first = await Promise.all(Array.from({ length: 12 }, (_, i) => claim(pool, a.id, `ctrl-${i}`)))
  assert.deepEqual(first.map(r => r.status).sort(), [200, ...Array(11).fill(409)])
  const many = await Promise.all(Array.from({ length: 8 }, () => waiting(pool, 'gpu')))
  const second = await Promise.all(many.map(b => claim(pool, b.id, 'one')))
  assert.deepEqual(second.map(r => r.status).sort(), [200, ...Array(7).fill(409)])
  assert.equal((await pending(pool)).length, 7)
  assert.equal(sql(pool, 'SELECT COUNT(*) FROM claims')[0][0], 2)
})

test('a worker that is connected and idle gets its request at once, one that does not serve it is refused', async t => {
  const pool = await gpu(t)
  // One run of a user at a time: so the second one waits beside an idle worker.
  sql(pool, 'UPDATE teams SET max_active_per_user = 1')
  await peer(t, pool, 'first', { attends: false })
  const a = await waiting(pool, 'gpu')
  const w = await peer(t, pool, 'here')
  const b = await waiting(pool, 'gpu')
  assert.deepEqual(await pending(pool), [b.id])
  isFleetError(await claim(pool, b.id, 'first'), 409, 'Already claimed', /bound/)
  await got(claim(pool, b.id, 'here'))
  assert.equal((await ended(pool, b)).status, 'FINISHED')
  assert.ok(w.calls.length > 0)
  assert.equal((await runOf(pool, a)).status, 'CREATING')

  await registerPool(pool, 'other')
  const c = await waiting(pool, 'other')
  isFleetError(await claim(pool, c.id, 'here'), 409, 'Already claimed', /bound/)
  await peer(t, pool, 'third')
  isFleetError(await claim(pool, c.id, 'third'), 400, 'Invalid request', /another pool/)
  await Peer.connected(t, pool, { workerId: 'laptop', key: pool.userKey, hello: { personal: true, roots: shop } })
  isFleetError(await claim(pool, c.id, 'laptop'), 400, 'Invalid request', /personal/)
  const d = await waiting(pool, 'gpu', { extra: { labels: { os: 'mac' } } })
  isFleetError(await claim(pool, d.id, 'third'), 400, 'Invalid request', /label/)
  assert.deepEqual((await pending(pool)).sort(), [c.id, d.id].sort())
  // A worker that is not there yet is taken at its word.
  await got(claim(pool, d.id, 'fourth'))
})

test('a claim with a session token: one worker id connects with it, as long as the claim lives', async t => {
  const pool = await gpu(t)
  const a = await waiting(pool, 'gpu')
  const r = await got(claim(pool, a.id, 'ctrl-1', { sessionToken: true }))
  assert.deepEqual(Object.keys(r), ['id', 'workerId', 'token', 'expiresAt'])
  assert.match(r.expiresAt, ISO)
  assert.ok(Math.abs(Date.parse(r.expiresAt) - Date.now() - 7 * 86400000) < 600000)
  isError(await pool.http('GET', '/v1/agents', { key: r.token }), 403, 'key_not_supported')
  const wrong = await peer(t, pool, 'ctrl-2', { key: r.token })
  assert.deepEqual([wrong.refused.code, wrong.refused.fatal], ['wrong_worker', true])
  const personal = await Peer.connected(t, pool, { workerId: 'ctrl-1', key: r.token, hello: { personal: true, roots: shop } })
  assert.equal(personal.refused.code, 'key_not_supported')
  const w = await peer(t, pool, 'ctrl-1', { key: r.token })
  assert.equal(w.welcomes.length, 1)
  assert.equal((await ended(pool, a)).status, 'FINISHED')
  // Another agent's request is not for it, though it is idle.
  const b = await waiting(pool, 'gpu')
  assert.deepEqual(await pending(pool), [b.id])

  // A further token of the same claim; the earlier one stays good.
  const tokens = body => fleet(pool, 'POST', '/tokens', { body })
  const more = await got(tokens({ id: a.id, workerId: 'ctrl-1' }))
  assert.deepEqual(Object.keys(more), ['id', 'workerId', 'token', 'expiresAt'])
  w.drop()
  await until('it is gone', async () => (await got(fleet(pool, 'GET', ''))).totalCount === 0)
  assert.equal((await peer(t, pool, 'ctrl-1', { key: r.token })).welcomes.length, 1)
  isFleetError(await tokens({ id: a.id, workerId: 'ctrl-2' }), 404, 'Not found')
  isFleetError(await tokens({ id: missing, workerId: 'ctrl-1' }), 404, 'Not found')
  isFleetError(await tokens({ id: a.id }), 400, 'Invalid request')

  await got(release(pool, a.id))
  const late = await peer(t, pool, 'ctrl-1', { key: more.token })
  assert.deepEqual([late.refused.code, late.refused.fatal], ['claim_ended', true])
  isFleetError(await tokens({ id: a.id, workerId: 'ctrl-1' }), 404, 'Not found')

  // It dies with the key that it was made with, also while it is connected.
  const key = await pool.createKey('service_account', 'controller')
  const c = await got(fleet(pool, 'POST', '/claim', { body: { id: b.id, workerId: 'ctrl-4', sessionToken: true }, key }))
  const x = await peer(t, pool, 'ctrl-4', { key: c.token })
  assert.equal(x.welcomes.length, 1)
  await run(t, programs.bullpen, ['admin', 'key', 'revoke', '--data', pool.data, key])
  await until('the connection ends', () => x.end)
  assert.equal((await peer(t, pool, 'ctrl-4', { key: c.token })).refused.code, 'key_revoked')
})

test('a real worker with a session token in a file: it serves its claim, exits on release, and is told why it may not come back', async t => {
  const pool = await bullpen(t)
  const remote = await pool.origin()
  await registerPool(pool, 'ci', { repoOwner: 'acme', repoName: 'web' })
  const r = await pool.run(sh`echo hello`, { pool: 'ci' })
  const { token } = await got(claim(pool, r.agentId, 'vm-1', { sessionToken: true }))
  const file = path.join(pool.dir, 'token'), work = await remote.clone(path.join(pool.dir, 'vm'))
  fs.writeFileSync(file, `${token}\n`, { mode: 0o600 })
  const start = id => new Proc(t, programs.agent, ['worker', 'start', '--pool', 'ci', '--worker-dir', work, '--endpoint', pool.url, '--data-dir', path.join(pool.dir, 'vm-data'), '--worker-id', id, '--auth-token-file', file])
  const other = start('vm-2')
  assert.equal((await other.exited).code, 3, other.stderr)
  assert.match(other.stderr, /wrong_worker/)
  const w = start('vm-1')
  assert.equal((await r.end()).status, 'FINISHED', w.stderr)
  await got(release(pool, r.agentId))
  assert.equal((await w.exited).code, 0, w.stderr)
  const late = start('vm-1')
  assert.equal((await late.exited).code, 3, late.stderr)
  assert.match(late.stderr, /claim_ended/)
})

test('release: what waits is queued again, an idle worker exits, a turn is not disturbed', async t => {
  const pool = await gpu(t)
  // Before its worker came.
  const a = await waiting(pool, 'gpu')
  await got(claim(pool, a.id, 'ctrl-1'))
  assert.deepEqual(await got(release(pool, a.id)), { id: a.id, workerId: 'ctrl-1' })
  assert.deepEqual(await pending(pool), [a.id])
  isFleetError(await release(pool, a.id), 404, 'Not found')
  isFleetError(await release(pool, missing), 404, 'Not found')
  // A replacement may claim as soon as the call has returned.
  await got(claim(pool, a.id, 'ctrl-2'))

  // During a turn.
  const w = await peer(t, pool, 'ctrl-2', { attends: false })
  await until('the session is being opened', () => w.calls.length > 0)
  isFleetError(await release(pool, a.id), 400, 'Worker in use')
  assert.equal((await runOf(pool, a)).status, 'CREATING')
  assert.equal(w.released, undefined)
  await pool.http('POST', `/v1/agents/${a.id}/runs/${a.runId}/cancel`)

  // Between turns: the worker is told to exit, and gets nothing before it does.
  assert.deepEqual(await got(release(pool, a.id)), { id: a.id, workerId: 'ctrl-2' })
  await until('it is told', () => w.released)
  assert.equal(w.released.exit, true)
  const b = await waiting(pool, 'gpu')
  assert.deepEqual(await pending(pool), [b.id])
  assert.ok(w.calls.every(c => c.agent_id === a.id))
})

test('release of a real worker: it exits with status 0', async t => {
  const pool = await bullpen(t)
  const w = await pool.worker({ pool: 'ci' })
  const r = await pool.run(sh`echo hello`, { pool: 'ci' })
  await r.end()
  const { workerId } = await got(release(pool, r.agentId))
  assert.ok(workerId)
  const { code } = await w.exited
  assert.equal(code, 0, w.stderr)
  // The next turn is another worker's.
  const next = await r.followUp(sh`echo again`)
  await until('it waits', async () => (await pending(pool)).includes(r.agentId))
  await pool.worker({ pool: 'ci' })
  assert.equal((await next.end()).status, 'FINISHED')
})

test('fail: the turn ends with the message, and the next one is queued', async t => {
  const pool = await gpu(t)
  const a = await waiting(pool, 'gpu')
  isFleetError(await fail(pool, a.id), 404, 'Not found')
  await got(claim(pool, a.id, 'ctrl-1'))
  for (const body of [{}, { message: '' }, { message: ' \n\t ' }, { message: '\u0000\u0007' }, { message: 'x'.repeat(501) }, { message: 1 }, { message: 'x', more: 1 }, '[]', ''])
    isFleetError(await fleet(pool, 'POST', `/claims/${a.id}/fail`, { body }), 400, 'Invalid request')
  assert.equal((await runOf(pool, a)).status, 'CREATING')
  assert.deepEqual(await got(fail(pool, a.id, `  no \u001b[31mgpu\u009b left:\n\tnode é${'é'.repeat(400)}\u0007 `)), { id: a.id, workerId: 'ctrl-1' })
  const ended = await runOf(pool, a)
  assert.equal(ended.status, 'ERROR')
  assert.deepEqual(ended.error, { code: 'worker_start_failed', message: `The pool could not start a worker for this agent: no [31mgpu left:\n\tnode é${'é'.repeat(400)}` })
  assert.equal((await pool.http('GET', `/v1/agents/${a.id}`)).json.status, 'IDLE')
  // A second report finds nothing.
  isFleetError(await fail(pool, a.id), 404, 'Not found')
  const next = await pool.http('POST', `/v1/agents/${a.id}/runs`, { body: { prompt: { text: 'again' } } })
  assert.equal(next.status, 201, next.text)
  assert.deepEqual(await pending(pool), [a.id])

  // The worker came first; and a claim without a turn.
  await got(claim(pool, a.id, 'ctrl-2'))
  const w = await peer(t, pool, 'ctrl-2', { attends: false })
  await until('the session is being opened', () => w.calls.length > 0)
  isFleetError(await fail(pool, a.id), 400, 'Worker connected')
  await pool.http('POST', `/v1/agents/${a.id}/runs/${next.json.run.id}/cancel`)
  isFleetError(await fail(pool, a.id), 400, 'No turn waiting')
})

test('a worker that does not come in time loses its claim', async t => {
  const pool = await gpu(t, '[pools]\nclaim_connect_timeout = 1\n')
  const a = await waiting(pool, 'gpu')
  await got(claim(pool, a.id, 'ctrl-1'))
  const page = await got(fleet(pool, 'GET', '/pending-requests'))
  const w = await Watch.open(pool, `?cursor=${page.streamCursor}`)
  await w.event('created', a.id)
  assert.deepEqual(await pending(pool), [a.id])
  w.close()
})

test('a follow-up that waits for a machine that sleeps: listed, woken by its id, or given up', async t => {
  const pool = await bullpen(t)
  await registerPool(pool, 'gpu', { repoOwner: 'acme', repoName: 'shop', workerReadyTimeoutSeconds: 600 })
  const a = await waiting(pool, 'gpu')
  await got(claim(pool, a.id, 'vm-1'))
  const first = await peer(t, pool, 'vm-1')
  await ended(pool, a)
  first.drop()
  await until('it sleeps', async () => (await got(fleet(pool, 'GET', ''))).totalCount === 0)
  assert.deepEqual(await pending(pool), [], 'nothing is listed before a follow-up comes')
  const page = await got(fleet(pool, 'GET', '/pending-requests'))
  const watch = await Watch.open(pool, `?cursor=${page.streamCursor}`)
  const more = async () => ({ id: a.id, runId: (await pool.http('POST', `/v1/agents/${a.id}/runs`, { body: { prompt: { text: 'more' } } })).json.run.id })
  const b = await more()
  const told = await watch.event('claimed_offline', a.id)
  const { requests: [shown] } = await got(fleet(pool, 'GET', '/pending-requests'))
  for (const o of [told.data, shown]) {
    assert.equal(o.claimedWorkerId, 'vm-1')
    assert.ok(o.wakeTimeoutMs > 500000 && o.wakeTimeoutMs <= 600000)
  }
  isFleetError(await claim(pool, a.id, 'vm-2'), 409, 'Already claimed')
  assert.deepEqual(await got(claim(pool, a.id, 'vm-1')), { id: a.id, workerId: 'vm-1' })
  const again = await peer(t, pool, 'vm-1')
  await watch.event('claimed', a.id)
  assert.equal((await ended(pool, b)).status, 'FINISHED')
  again.drop()
  await until('it sleeps', async () => (await got(fleet(pool, 'GET', ''))).totalCount === 0)
  // Given up: any worker may have it.
  await more()
  await got(release(pool, a.id))
  const { requests: [free] } = await got(fleet(pool, 'GET', '/pending-requests'))
  assert.deepEqual([free.id, free.claimedWorkerId], [a.id, undefined])
  await watch.event('created', a.id)
  watch.close()
})
