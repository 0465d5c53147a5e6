// What goes wrong with a pool: claims whose worker, agent or key goes away at the wrong moment, servers that are killed, answers
// that a controller does not expect, and what others may see of it.
import test from 'node:test'
import assert from 'node:assert/strict'
import { Run, bullpen, tool, until } from './lib.mjs'
import { Peer } from './peer.mjs'
import { REPO, Watch, fleet, got, isFleetError, registerPool, runOf, waiting } from './fleet-help.mjs'

const shop = [{ path: '/srv/shop', remote_url: REPO, host: 'git.example.test', repo: 'acme/shop' }]
const claim = (pool, id, workerId, more = {}) => fleet(pool, 'POST', '/claim', { body: { id, workerId, ...more } })
const release = (pool, id) => fleet(pool, 'POST', `/claims/${id}/release`)
const pending = async pool => (await got(fleet(pool, 'GET', '/pending-requests'))).requests.map(r => r.id)
const peer = (t, pool, workerId, options = {}) => Peer.connected(t, pool, { workerId, ...options, hello: { pool: 'gpu', roots: shop, ...options.hello } })
const ended = (pool, a) => until('the run ends', async () => { const r = await runOf(pool, a); return !['CREATING', 'RUNNING'].includes(r.status) && r })
const cancel = (pool, a) => pool.http('POST', `/v1/agents/${a.id}/runs/${a.runId}/cancel`)
const followUp = async (pool, a) => ({ id: a.id, runId: (await pool.http('POST', `/v1/agents/${a.id}/runs`, { body: { prompt: { text: 'more' } } })).json.run.id })

async function gpu(t, config = '', more = {}) {
  const pool = await bullpen(t, { config })
  await registerPool(pool, 'gpu', { repoOwner: 'acme', repoName: 'shop', ...more })
  return pool
}

for (const [how, config] of [['is released', ''], ['is idle for too long', '[pools]\nidle_release = 3\n'], ['ends with its archived agent', ''], ['ends with its deleted agent', '']])
  test(`a worker with a session token goes when its claim ${how}, also if it does not obey`, async t => {
    const pool = await gpu(t, config)
    const start = async id => {
      const a = await waiting(pool, 'gpu')
      const { token } = await got(claim(pool, a.id, id, { sessionToken: true }))
      const w = await peer(t, pool, id, { key: token })
      return { a, w, token, end: await ended(pool, a) }
    }
    const one = await start('ctrl-1')
    assert.equal(one.end.status, 'FINISHED')
    if (how.includes('released')) await got(release(pool, one.a.id))
    if (how.includes('archived')) assert.equal((await pool.http('POST', `/v1/agents/${one.a.id}/archive`)).status, 200)
    if (how.includes('deleted')) assert.equal((await pool.http('DELETE', `/v1/agents/${one.a.id}`)).status, 200)
    // A peer does nothing when it is told to exit, so the server ends its connection.
    await until('it is told to exit', () => one.w.released?.exit)
    await one.w.ended(30)
    assert.equal(one.w.end.code, 16)
    assert.equal((await peer(t, pool, 'ctrl-1', { key: one.token })).refused.code, 'claim_ended')
    assert.equal((await got(fleet(pool, 'GET', ''))).totalCount, 0)
  })

const asks = (text, more = {}) => ({ extra: { prompt: { text }, ...more } })
const act = tool('act', { text: 'x' })
const status = async (pool, a) => (await runOf(pool, a)).status
const away = (pool, id) => until(`${id} is gone`, async () => (await fleet(pool, 'GET', `/${id}`)).status === 404)
const waitOf = async (pool, a) => (await runOf(pool, a)).wait
const noneRuns = async (pool, runs) => { for (const a of runs) assert.ok(!['CREATING', 'RUNNING'].includes(await status(pool, a))) }

test('a session token makes no pools, and serves no pool but that of its claim', async t => {
  const pool = await gpu(t)
  const a = await waiting(pool, 'gpu')
  const { token } = await got(claim(pool, a.id, 'ctrl-1', { sessionToken: true }))
  const w = await peer(t, pool, 'ctrl-1', { key: token })
  await ended(pool, a)
  const rows = async () => (await got(fleet(pool, 'GET', '/pools'))).pools.map(p => `${p.poolName} ${p.repoOwner}/${p.repoName}`)
  assert.deepEqual(await rows(), ['gpu acme/shop'])
  // Between turns nothing is asked of its labels.
  w.drop()
  await peer(t, pool, 'ctrl-1', { key: token, hello: { pool: 'made-up', roots: [{ ...shop[0], repo: 'acme/made-up' }] } })
  assert.deepEqual(await rows(), ['gpu acme/shop'])
  assert.match((await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, repos: [{ url: REPO }], env: { type: 'pool', name: 'made-up' } } })).json.error.message, /there is no pool/)
})

test('a hundred requests and a hundred workers come at once: each has one, and none is left', async t => {
  const pool = await gpu(t, '[limits]\nreads_per_minute = 0\nmutations_per_minute = 0\nmax_workers_per_team = 0\n')
  const N = 100
  const [requests, workers] = await Promise.all([
    Promise.all(Array.from({ length: N }, () => waiting(pool, 'gpu', asks(act)))),
    Promise.all(Array.from({ length: N }, (_, i) => peer(t, pool, `w-${i}`))),
  ])
  await until('all are called', () => workers.every(w => w.calls.some(c => c.name === 'act')), 40)
  assert.deepEqual(await pending(pool), [])
  assert.deepEqual(workers.map(w => w.calls.find(c => c.name === 'act').agent_id).sort(), requests.map(a => a.id).sort())
  assert.deepEqual((await got(fleet(pool, 'GET', '/summary'))).teamSummary, { totalConnected: N, inUse: N })
  for (const w of workers) w.answer(await w.expectCall('act'))
  for (const a of requests) assert.equal((await ended(pool, a)).status, 'FINISHED')
})

test('a request that no worker serves holds back no younger one, and one that is queued again keeps its place', async t => {
  const pool = await gpu(t, '[pools]\nworker_loss_grace = 1\n')
  await registerPool(pool, 'gpu', { repoOwner: 'acme', repoName: 'none' })
  const unmatched = await waiting(pool, 'gpu', { repos: [{ url: 'https://git.example.test/acme/none' }] })
  const w = await peer(t, pool, 'w1', { attends: false })
  const first = await waiting(pool, 'gpu')
  await until('its session is being opened', () => w.calls.length > 0)
  const younger = await waiting(pool, 'gpu')
  w.drop()
  await until('it is queued again', async () => (await pending(pool)).includes(first.id))
  assert.deepEqual(await pending(pool), [unmatched.id, first.id, younger.id])
  const next = await peer(t, pool, 'w2')
  await ended(pool, first)
  await ended(pool, younger)
  assert.deepEqual([...new Set(next.calls.map(c => c.agent_id))], [first.id, younger.id])
  assert.deepEqual(await pending(pool), [unmatched.id])
})

test('a worker is killed in each state of its claim, and no run is left behind', async t => {
  const pool = await gpu(t, '[pools]\nworker_loss_grace = 1\n')
  const idle = await peer(t, pool, 'idle')
  idle.drop()
  await away(pool, 'idle')

  // Its session is being opened: three times, then the run ends.
  const opening = await waiting(pool, 'gpu')
  for (const id of ['o1', 'o2', 'o3']) {
    const w = await peer(t, pool, id, { attends: false })
    await until('the session is being opened', () => w.calls.some(c => c.agent_id === opening.id))
    w.drop()
    if (id !== 'o3') await until('it is queued again', async () => (await pending(pool)).includes(opening.id))
  }
  assert.equal((await ended(pool, opening)).error.code, 'worker_lost')

  // A turn runs: it waits for its worker, shown as such, and ends; one that comes back goes on.
  const lost = await waiting(pool, 'gpu', asks(act))
  const w = await peer(t, pool, 'r1')
  await w.expectCall('act')
  w.drop()
  await until('it is shown', async () => (await waitOf(pool, lost))?.code === 'waking' || await status(pool, lost) === 'ERROR')
  const end = await ended(pool, lost)
  assert.equal(end.error.code, 'worker_lost')
  assert.match(end.error.message, /not pushed/)

  // Bound and idle: the claim ends, and the follow-up is another worker's.
  const bound = await waiting(pool, 'gpu')
  const b = await peer(t, pool, 'b1')
  assert.equal((await ended(pool, bound)).status, 'FINISHED')
  b.drop()
  await away(pool, 'b1')
  const more = await followUp(pool, bound)
  assert.deepEqual(await pending(pool), [bound.id])
  await peer(t, pool, 'b2')
  assert.equal((await ended(pool, more)).status, 'FINISHED')
  await noneRuns(pool, [opening, lost, bound, more])
})

test('with a window: a follow-up is held, its worker is lost again, it lapses; cancelled, it leaves nothing', async t => {
  const pool = await gpu(t, '[pools]\nworker_loss_grace = 1\n', { workerReadyTimeoutSeconds: 4 })
  const a = await waiting(pool, 'gpu')
  const w = await peer(t, pool, 'vm')
  assert.equal((await ended(pool, a)).status, 'FINISHED')
  w.drop()
  await away(pool, 'vm')
  const b = await followUp(pool, a)
  assert.equal((await waitOf(pool, b)).code, 'waking')
  // Another worker does not get it before its time, and gets it then.
  const other = await peer(t, pool, 'other')
  assert.equal((await got(fleet(pool, 'GET', '/pending-requests'))).requests[0].claimedWorkerId, 'vm')
  assert.equal((await ended(pool, b)).status, 'FINISHED')
  assert.ok(other.calls.some(c => c.agent_id === a.id))
  // Cancelled while it is held: the claim is what it was, and the next one is held anew.
  other.drop()
  await away(pool, 'other')
  const c = await followUp(pool, a)
  assert.equal((await waitOf(pool, c)).code, 'waking')
  assert.equal((await cancel(pool, c)).status, 200)
  assert.deepEqual(await pending(pool), [])
  const d = await followUp(pool, a)
  assert.equal((await waitOf(pool, d)).code, 'waking')
  // The window is taken away meanwhile: what is held is held to its end, what comes later is not.
  await registerPool(pool, 'gpu', { repoOwner: 'acme', repoName: 'shop', workerReadyTimeoutSeconds: 0 })
  await until('it lapses', async () => (await waitOf(pool, d))?.code === 'no_workers')
  const last = await peer(t, pool, 'last')
  assert.equal((await ended(pool, d)).status, 'FINISHED')
  last.drop()
  await away(pool, 'last')
  const e = await followUp(pool, a)
  assert.equal((await waitOf(pool, e)).code, 'no_workers')
})

test('a reserved request that is cancelled frees its worker id, and a follow-up finds another way', async t => {
  const pool = await gpu(t, '[pools]\nclaim_connect_timeout = 3\n', { workerReadyTimeoutSeconds: 600 })
  const a = await waiting(pool, 'gpu')
  await got(claim(pool, a.id, 'ctrl-1'))
  assert.equal((await cancel(pool, a)).status, 200)
  const b = await followUp(pool, a)
  const w = await peer(t, pool, 'free')
  // Held for a worker that never was, no longer than that was given to come.
  assert.equal((await ended(pool, b)).status, 'FINISHED')
  assert.ok(w.calls.some(c => c.agent_id === a.id))
  const other = await waiting(pool, 'gpu', asks(act))
  await until('it is bound', async () => !(await pending(pool)).includes(other.id))
  const third = await waiting(pool, 'gpu')
  await got(claim(pool, third.id, 'ctrl-1'))
})

test('a worker that comes for a claim and serves something else is refused, three times, then the run ends', async t => {
  const pool = await gpu(t)
  const a = await waiting(pool, 'gpu')
  const wrong = [{ pool: 'other' }, { roots: [{ ...shop[0], repo: 'acme/else' }] }, { roots: [{ ...shop[0], host: 'elsewhere.test' }] }]
  for (const [i, hello] of wrong.entries()) {
    await got(claim(pool, a.id, `ctrl-${i}`))
    const w = await peer(t, pool, `ctrl-${i}`, { hello })
    assert.deepEqual([w.refused.code, w.refused.fatal], ['claim_mismatch', true])
    assert.match(w.refused.message, i === 0 ? /pool gpu/ : /repository acme\/shop/)
    assert.equal((await got(fleet(pool, 'GET', ''))).totalCount, 0)
    if (i < 2) assert.deepEqual(await pending(pool), [a.id])
  }
  const end = await ended(pool, a)
  assert.deepEqual([end.status, end.error.code], ['ERROR', 'worker_start_failed'])
  // What is not told by labels is taken on trust: whoever claimed chose the worker.
  const b = await waiting(pool, 'gpu', { extra: { labels: ['gpu=a100'] } })
  await got(claim(pool, b.id, 'ctrl-9'))
  await peer(t, pool, 'ctrl-9', { hello: { roots: [{ path: '/srv/empty', remote_url: '', host: '', repo: '' }] } })
  assert.equal((await ended(pool, b)).status, 'FINISHED')
  // And the user of the run is told.
  const events = await new Run(pool, b.id, b.runId, pool.userKey).events()
  assert.match(JSON.stringify(events), /warning: worker [^"]*ctrl-9[^"]* does not have the label gpu=a100 that was asked for/)
})

test('the server is killed again and again while claims are made: each run has one session, and all end', { timeout: 180000 }, async t => {
  const pool = await gpu(t)
  const workers = []
  for (let i = 0; i < 3; i++) workers.push(await peer(t, pool, `w-${i}`))
  const all = []
  for (let round = 0; round < 4; round++) {
    const asked = Array.from({ length: 6 }, async () => { try { all.push(await waiting(pool, 'gpu')) } catch { /* the server was killed: it may have it or not */ } })
    await new Promise(done => setTimeout(done, 15 * round)) // the moment of the kill is what varies: somewhere between the acceptance and the end
    await pool.crash()
    await Promise.all(asked)
    await pool.restart()
    for (const w of workers) await w.reconnect()
  }
  for (const a of all) assert.equal((await ended(pool, a)).status, 'FINISHED')
  await until('nothing waits', async () => (await pending(pool)).length === 0)
  for (const a of all) {
    const opened = workers.flatMap(w => w.calls.filter(c => c.kind === 'OPEN_SESSION' && c.agent_id === a.id).map(c => `${w.workerId} ${c.claim_id}`))
    assert.equal(new Set(opened).size, 1, opened.join(', '))
  }
  assert.equal((await got(fleet(pool, 'GET', '/summary'))).teamSummary.totalConnected, 3)
})

test('an unknown pool is refused and leaves nothing; a repository is the same in any case', async t => {
  const pool = await gpu(t)
  for (const env of [{ type: 'pool', name: 'GPU' }, { type: 'pool', name: 'nowhere' }]) {
    const r = await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, repos: [{ url: REPO }], env } })
    assert.equal(r.status, 400, r.text)
    assert.match(r.json.error.message, new RegExp(env.name))
  }
  assert.deepEqual(await pending(pool), [])
  assert.equal((await pool.http('GET', '/v1/agents')).json.items.length, 0)
  const w = await peer(t, pool, 'w', { hello: { roots: [{ ...shop[0], repo: 'Acme/SHOP', host: 'GIT.example.test' }], labels: [{ key: 'run', value: 'a=b=c' }] } })
  const a = await waiting(pool, 'gpu', { repos: [{ url: 'https://Git.Example.Test/ACME/shop.git' }], extra: { labels: ['run=a=b=c'] } })
  assert.equal((await ended(pool, a)).status, 'FINISHED')
  assert.deepEqual((await got(fleet(pool, 'GET', '/w'))).worker.tags, [{ key: 'run', value: 'a=b=c' }])
  assert.ok(w.alive)
})

test('a personal machine: another repository, another user, offline, two of one name; a full one counts right', async t => {
  const pool = await bullpen(t, { config: '[pools]\nmachine_wait = 1\nworker_loss_grace = 1\n' })
  const other = await pool.createKey('user', 'other', 'other@example.test')
  const machine = (id, name, more = {}, key = pool.userKey) => Peer.connected(t, pool, { workerId: id, key, hello: { personal: true, name, roots: shop, ...more } })
  const ask = (env, { url = REPO, key = pool.userKey, text = 'hi' } = {}) => pool.http('POST', '/v1/agents', { key, body: { prompt: { text }, repos: [{ url }], env: { type: 'machine', ...env } } })
  const made = async r => { assert.equal(r.status, 201, r.text); return { id: r.json.agent.id, runId: r.json.run.id } }
  const box = await machine('m1', 'box', { max_sessions: 2 })
  const wrong = await ask({ name: 'box' }, { url: 'https://git.example.test/acme/else' })
  assert.deepEqual([wrong.status, wrong.json.error.code], [400, 'validation_error'])
  assert.match(wrong.json.error.message, /does not serve acme\/else; it serves acme\/shop/)
  const unknown = await ask({ name: 'boxx' }), foreign = await ask({ name: 'box' }, { key: other })
  assert.equal(unknown.status, 400)
  assert.equal(foreign.json.error.message, unknown.json.error.message.replace('boxx', 'box'), 'unknown and not yours are one')
  assert.match((await ask({ name: 'BOX' })).json.error.message, /did you mean 'box'/)
  assert.equal((await ask({ name: 'box' }, { key: pool.poolKey })).json.error.code, 'user_required')
  assert.equal((await ask({}, { url: 'https://git.example.test/acme/else' })).status, 400)

  // Two agents fill it, a third waits and says why; it is not in the queue of pools.
  const [a, b] = [await made(await ask({ name: 'box' }, { text: act })), await made(await ask({}, { text: act }))]
  await until('both run', () => box.calls.filter(c => c.name === 'act').length === 2)
  const c = await made(await ask({ name: 'box' }))
  assert.deepEqual([(await waitOf(pool, c)).code, (await waitOf(pool, c)).text], ['machine_full', 'machine box already runs 2 sessions'])
  assert.deepEqual(await pending(pool), [])
  isFleetError(await claim(pool, c.id, 'ctrl-1'), 404, 'Not found')
  isFleetError(await release(pool, a.id), 404, 'Not found')
  // The counter is right after a cancel, an end and a reconnect.
  assert.equal((await cancel(pool, a)).status, 200)
  assert.equal((await ended(pool, c)).status, 'FINISHED')
  await box.reconnect()
  box.answer(await box.expectCall('act'))
  for (const call of box.calls.filter(x => x.name === 'act' && x.agent_id === b.id)) if (!box.results.has(call.call_id)) box.answer(call)
  assert.equal((await ended(pool, b)).status, 'FINISHED')
  const again = []
  for (let i = 0; i < 4; i++) again.push(await made(await ask({ name: 'box' })))
  for (const x of again) assert.equal((await ended(pool, x)).status, 'FINISHED')

  // Of two with one name the one that serves the repository, with the fewest sessions.
  const two = await machine('m2', 'box', { roots: [{ ...shop[0], repo: 'acme/else' }] })
  const d = await made(await ask({ name: 'box' }, { url: 'https://git.example.test/acme/else' }))
  assert.equal((await ended(pool, d)).status, 'FINISHED')
  assert.ok(two.calls.some(x => x.agent_id === d.id))
  // Offline: known, so it is accepted, and ends soon.
  box.drop(); two.drop()
  await until('they are gone', async () => (await got(fleet(pool, 'GET', '?scope=personal'))).totalCount === 0)
  const e = await made(await ask({ name: 'box' }))
  const end = await ended(pool, e)
  assert.deepEqual([end.status, end.error.code, end.error.message], ['ERROR', 'worker_lost', 'machine box is not connected'])
})

test('what a member and a token may not see or do', async t => {
  const pool = await gpu(t)
  const w = await peer(t, pool, 'w')
  const a = await waiting(pool, 'gpu')
  await ended(pool, a)
  for (const [method, path] of [['GET', ''], ['GET', '/w'], ['GET', '/summary'], ['GET', '/pools'], ['POST', '/pools'], ['DELETE', '/pools?scope=team&pool_name=gpu'], ['GET', '/pending-requests'],
    ['GET', '/pending-requests/stream?cursor=x'], ['POST', '/claim'], ['POST', '/tokens'], ['POST', `/claims/${a.id}/release`], ['POST', `/claims/${a.id}/fail`]])
    for (const key of [pool.userKey, 'crsr_' + '0'.repeat(64), null]) {
      const r = await fleet(pool, method, path, { key, ...(method === 'POST' ? { body: {} } : {}) })
      assert.ok([401, 403].includes(r.status), `${method} ${path}: ${r.status} ${r.text}`)
      assert.doesNotMatch(r.text, /acme|ctrl|"w"/)
    }
  assert.ok(w.alive)
  // A session token is refused by everything but the link of its worker, and stands in no log.
  const b = await waiting(pool, 'gpu', { extra: { labels: ['x=y'] } })
  const { token } = await got(claim(pool, b.id, 'ctrl-1', { sessionToken: true }))
  const worker = (await got(pool.http('POST', '/v0/worker-tokens', { key: pool.poolKey }))).accessToken
  for (const key of [token, worker])
    for (const [method, path] of [['GET', '/v1/agents'], ['GET', `/v1/agents/${b.id}`], ['GET', '/v1/me'], ['POST', '/v0/worker-tokens'], ['POST', '/v1/sub-tokens'], ['GET', '/v0/private-workers'],
      ['POST', `/v0/private-workers/claims/${b.id}/release`], ['POST', '/v0/private-workers/tokens'], ['GET', '/v1/models'], ['GET', `/v1/agents/${b.id}/runs/${b.runId}/stream`]]) {
      const r = await pool.http(method, path, { key, ...(method === 'POST' ? { body: {} } : {}) })
      assert.equal(r.status, 403, `${method} ${path}: ${r.status} ${r.text}`)
    }
  // What keeps others from the request is told to its owner without names.
  const c = await waiting(pool, 'gpu', { extra: { labels: ['x=z'] } })
  const wait = (await got(pool.http('GET', `/v1/agents/${c.id}`))).wait
  assert.equal(wait.code, 'label_mismatch')
  assert.ok(wait.nearest.every(n => n.workerId === undefined && n.name === undefined), JSON.stringify(wait))
  for (const secret of [token, worker, token.split('.')[2], pool.poolKey]) assert.ok(!pool.server.stderr.includes(secret))
})

test('a watch goes on from every cursor, also after the server was killed, without a gap; its place is given back', async t => {
  const pool = await gpu(t)
  const { streamCursor } = await got(fleet(pool, 'GET', '/pending-requests'))
  const all = await Watch.open(pool, `?cursor=${streamCursor}`)
  const agents = []
  for (let i = 0; i < 6; i++) agents.push(await waiting(pool, 'gpu'))
  await got(claim(pool, agents[0].id, 'ctrl-1'))
  await cancel(pool, agents[1])
  await got(release(pool, agents[0].id))
  await all.until('all is told', fs => fs.filter(f => f.event !== 'heartbeat').length >= 9)
  const frames = all.frames.filter(f => f.event !== 'heartbeat')
  // A request is shown as it is now, so of one that is gone "created" is left out when it is told again.
  const later = from => frames.slice(from).filter(f => f.event !== 'created' || f.data.id !== agents[1].id).map(f => `${f.event} ${f.data.id}`)
  await pool.crash()
  await pool.restart()
  for (let i = 0; i < frames.length; i++) {
    const w = await Watch.open(pool, '?cursor=ignored', { lastEventId: frames[i].id })
    assert.equal(w.status, 200, w.text)
    const wanted = later(i + 1)
    await w.until('the rest', fs => fs.length >= wanted.length)
    assert.deepEqual(w.told, wanted, `from ${i}`)
    w.close()
  }
  // Readers that vanish leave room for others: as often as one likes.
  for (let i = 0; i < 12; i++) {
    const w = await until('there is room', async () => { const x = await Watch.open(pool, `?cursor=${streamCursor}`); return x.status === 200 && x })
    w.close()
  }
})

test('follow-ups while claims yield, workers drop and runs are cancelled: all end, and no worker serves two', { timeout: 180000 }, async t => {
  const pool = await gpu(t, '[pools]\nworker_loss_grace = 30\n')
  let seed = 7
  const draw = n => { seed = (seed * 1664525 + 1013904223) >>> 0; return (seed >>> 8) % n }
  const workers = []
  for (let i = 0; i < 3; i++) workers.push(await peer(t, pool, `w-${i}`))
  const agents = await Promise.all(Array.from({ length: 8 }, () => waiting(pool, 'gpu')))
  let going = true
  const dropping = (async () => { for (let i = 0; going; i++) { await workers[i % 3].reconnect(); await new Promise(done => setTimeout(done, 10)) } })() // how often connections drop, not a wait for something
  await Promise.all(agents.map(async a => {
    for (let i = 0; i < 40; i++) {
      if (draw(4) === 0) await cancel(pool, a)
      const end = await ended(pool, a)
      assert.ok(['FINISHED', 'CANCELLED'].includes(end.status), JSON.stringify(end))
      a.runId = (await followUp(pool, a)).runId
      assert.ok(a.runId)
    }
    await ended(pool, a)
  }))
  going = false
  await dropping
  assert.deepEqual(await pending(pool), [])
  for (const w of workers) {
    let open = null
    for (const c of w.calls.filter((c, i) => w.calls.findIndex(x => x.call_id === c.call_id) === i)) {
      if (c.kind === 'OPEN_SESSION') open = c.claim_id
      else if (c.kind === 'PUBLISH') assert.equal(c.claim_id, open, 'a call of a session that another has replaced')
    }
  }
  const { workers: shown } = await got(fleet(pool, 'GET', ''))
  assert.equal(shown.length, 3)
  assert.equal(new Set(shown.map(x => x.activeBcId).filter(Boolean)).size, shown.filter(x => x.isInUse).length)
})

for (const how of ['archived', 'deleted'])
  test(`an agent that is ${how} in each state of its claim leaves no request and no claim`, async t => {
    const pool = await gpu(t, '', { workerReadyTimeoutSeconds: 600 })
    const end = async a => { const r = await pool.http(how === 'archived' ? 'POST' : 'DELETE', `/v1/agents/${a.id}${how === 'archived' ? '/archive' : ''}`); assert.equal(r.status, 200, r.text) }
    const page = await got(fleet(pool, 'GET', '/pending-requests'))
    const watch = await Watch.open(pool, `?cursor=${page.streamCursor}`)
    // Queued, and reserved for a worker that has not come, which is free for another then.
    const queued = await waiting(pool, 'gpu')
    await end(queued)
    await watch.event('expired', queued.id)
    const reserved = await waiting(pool, 'gpu')
    await got(claim(pool, reserved.id, 'ctrl-1'))
    await end(reserved)
    isFleetError(await release(pool, reserved.id), 404, 'Not found')
    const next = await waiting(pool, 'gpu')
    await got(claim(pool, next.id, 'ctrl-1'))
    const w = await peer(t, pool, 'ctrl-1')
    assert.equal((await ended(pool, next)).status, 'FINISHED')
    // While it runs, and between turns: the worker is free for others.
    const running = await waiting(pool, 'gpu', asks(act))
    await w.expectCall('act')
    await end(running)
    const after = await waiting(pool, 'gpu')
    assert.equal((await ended(pool, after)).status, 'FINISHED')
    await end(after)
    const last = await waiting(pool, 'gpu')
    assert.equal((await ended(pool, last)).status, 'FINISHED')
    // Held for a worker that sleeps.
    w.drop()
    await away(pool, 'ctrl-1')
    await followUp(pool, last)
    await watch.event('claimed_offline', last.id)
    await end(last)
    await watch.event('expired', last.id)
    isFleetError(await release(pool, last.id), 404, 'Not found')
    assert.deepEqual(await pending(pool), [])
    watch.close()
  })
