// Which worker serves which request, through the public interfaces: labels in every form, policy, quotas, the reasons that a
// waiting request gives, and what a worker's idle release means for its agent and for others.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, run, programs, tool, until } from './lib.mjs'
import { isError } from './api-help.mjs'
import { Peer } from './peer.mjs'

const REPO = 'https://github.com/acme/web'
const pairs = text => text.split(' ').filter(Boolean).map(p => { const [key, value] = p.split('='); return { key, value } })
const root = (repo, host = 'github.com') => ({ path: `/srv/${repo}`, remote_url: `https://${host}/${repo}`, host, repo })
const worker = (t, pool, id, { labels = '', repos = ['acme/web'], ...hello } = {}) =>
  Peer.connected(t, pool, { workerId: id, hello: { labels: pairs(labels), roots: repos.map(r => root(r)), ...hello } })
const create = (pool, extra = {}, key) => pool.http('POST', '/v1/agents', { body: { prompt: { text: tool('act', { text: 'x' }) }, repos: [{ url: REPO }], ...extra }, key })
const agentOf = async (pool, r) => (await pool.http('GET', `/v1/agents/${r.json.agent.id}`)).json
// The call that the run makes, on the worker it should be on.
const served = async (pool, peer, extra) => {
  const r = await pool.run(tool('act', { text: 'x' }), { repo: REPO, extra })
  peer.answer(await peer.expectCall('act'))
  assert.equal((await r.end()).status, 'FINISHED')
  return r
}
const policy = async (t, pool, ...args) => {
  const p = await run(t, programs.bullpen, ['admin', 'policy', '--data', pool.data, ...args])
  assert.equal(p.code, 0, p.stderr)
  return p.stdout
}

test('labels are wanted in three forms, and all of them must be had', async t => {
  const pool = await bullpen(t)
  const gpu = await worker(t, pool, 'gpu', { pool: 'gpu', labels: 'caps=docker caps=cuda os=linux' })
  const env = { type: 'pool', name: 'gpu' }
  for (const labels of [['caps=cuda', 'caps=docker'], [{ key: 'caps', value: 'cuda' }], { caps: ['cuda', 'docker'], os: 'linux' }, { os: 'linux' }, [' caps = cuda '], []])
    await served(pool, gpu, { env, labels })
  // The pool and the repository may be named among them, if they are the same.
  await served(pool, gpu, { labels: ['pool=gpu', 'repo=Acme/Web', 'os=linux'] })
  for (const [labels, code] of [[{ caps: 'CUDA' }, 'label_mismatch'], [{ caps: ['cuda', 'tpu'] }, 'label_mismatch'], [['env=prod'], 'label_mismatch']]) {
    const r = await create(pool, { env, labels })
    assert.equal(r.status, 201, r.text)
    const { wait } = await agentOf(pool, r)
    assert.equal(wait.code, code)
    assert.match(wait.text, /^no worker of pool gpu has (caps=CUDA|caps=tpu|env=prod)$/)
    assert.match(wait.nearest[0].blockedBy[0], /^it lacks the label (caps=CUDA|caps=tpu|env=prod)$/)
    assert.equal(wait.nearest[0].workerId, undefined, 'a member learns no names')
  }
})

test('labels that contradict the rest of the request, and bad ones, are refused', async t => {
  const pool = await bullpen(t)
  await worker(t, pool, 'w', { pool: 'gpu' })
  const gpu = { env: { type: 'pool', name: 'gpu' } }
  for (const [body, pattern] of [
    [{ ...gpu, labels: ['pool=other'] }, /pool=other and 'env\.name' gpu contradict/],
    [{ ...gpu, labels: ['repo=acme/other'] }, /repo=acme\/other is not the repository/],
    [{ ...gpu, labels: ['machine=box'] }, /contradict/],
    [{ ...gpu, labels: ['novalue'] }, /'labels' must be/],
    [{ ...gpu, labels: ['=x'] }, /key/],
    [{ ...gpu, labels: ['k='] }, /value/],
    [{ ...gpu, labels: { k: 1 } }, /'labels' must be/],
    [{ ...gpu, labels: 'k=v' }, /'labels' must be/],
    [{ ...gpu, labels: { 'bad key': 'v' } }, /key 'bad key'/],
    [{ ...gpu, labels: Array.from({ length: 21 }, (_, i) => `k${i}=v`) }, /more than 20/],
    [{ ...gpu, usePrivateWorker: false }, /usePrivateWorker/],
    [{ env: { type: 'machine', name: 'box' }, labels: ['a=b'] }, /'labels' are for pools/],
    [{ env: { type: 'pool', name: 'nope' } }, /there is no pool 'nope'/],
  ]) isError(await create(pool, body), 400, 'validation_error', pattern)
  assert.deepEqual((await pool.http('GET', '/v1/agents')).json.items, [])
  assert.equal((await create(pool, { usePrivateWorker: true })).status, 201)
  const r = await create(pool, { labels: ['pool=gpu'] })
  assert.deepEqual(r.json.agent.env, { type: 'pool', name: 'gpu' })
})

test('a registration with a reserved or a bad label is refused by name', async t => {
  const pool = await bullpen(t)
  for (const [labels, pattern] of [['repo=a/b', /label repo is reserved/], ['pool=x', /label pool is reserved/], ['k=', /value of label k/]]) {
    const p = await worker(t, pool, 'w', { labels })
    assert.equal(p.refused.code, 'invalid_registration')
    assert.match(p.refused.message, pattern)
  }
})

test('the most special worker is kept free, and a repository on another host is another repository', async t => {
  const pool = await bullpen(t)
  const special = await worker(t, pool, 'special', { labels: 'caps=cuda zone=a' })
  const plain = await worker(t, pool, 'plain')
  await served(pool, plain, {})
  const other = await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, repos: [{ url: 'https://git.example.test/acme/web' }] } })
  const { wait } = await agentOf(pool, other)
  assert.equal(wait.code, 'no_repo')
  assert.match(wait.nearest[0].blockedBy[0], /it serves acme\/web of github\.com, not acme\/web/)
  await served(pool, special, { labels: ['caps=cuda'] })
})

test('Allow and Require: what a request asks for and what it gets', async t => {
  const pool = await bullpen(t)
  assert.match(await policy(t, pool), /^allow: on\nrequire: on\nmax-active-per-user: 0\nsecret-sync: on\nmcp-allow: any\npublic-artifacts: off\nfollow-ups: disabled\n$/, 'a fresh installation requires')
  await worker(t, pool, 'w', { pool: 'gpu' })
  const asks = { nothing: {}, cloud: { env: { type: 'cloud' } }, own: { usePrivateWorker: true }, pool: { env: { type: 'pool', name: 'gpu' } }, machine: { env: { type: 'machine', name: 'box' } } }
  const got = async () => Object.fromEntries(await Promise.all(Object.entries(asks).map(async ([k, body]) => {
    const r = await create(pool, body)
    return [k, r.status === 201 ? r.json.agent.env.name ?? r.json.agent.env.type : r.json.error.code]
  })))
  // No machine of that name: that rule was reached.
  const allowed = { nothing: 'cloud', cloud: 'cloud', own: 'default', pool: 'gpu', machine: 'validation_error' }
  assert.deepEqual(await got(), allowed)
  await policy(t, pool, '--require', 'off')
  assert.deepEqual(await got(), allowed)
  await policy(t, pool, '--allow', 'off')
  assert.deepEqual(await got(), { nothing: 'cloud', cloud: 'cloud', own: 'feature_unavailable', pool: 'feature_unavailable', machine: 'feature_unavailable' })
  assert.match(await policy(t, pool, '--require', 'on'), /^allow: on\nrequire: on/, 'Require implies Allow')
  assert.deepEqual(await got(), allowed)
  const bad = await run(t, programs.bullpen, ['admin', 'policy', '--data', pool.data, '--allow', 'yes'])
  assert.deepEqual([bad.code, bad.stderr], [2, "error: --allow must be on or off, not 'yes'\n"])
})

test('a user at the cap waits with that reason, and another user does not', async t => {
  const pool = await bullpen(t)
  await policy(t, pool, '--max-active-per-user', '1')
  const [w1, w2] = [await worker(t, pool, 'w1'), await worker(t, pool, 'w2')]
  const first = await pool.run(tool('act', { text: '1' }), { repo: REPO })
  const call = await until('it runs', () => [w1, w2].find(w => w.calls.some(c => c.kind === 'TOOL')))
  const second = await create(pool)
  const { wait } = await agentOf(pool, second)
  assert.deepEqual([wait.code, wait.text], ['user_cap', 'you already run 1 agents, which is as many as a user may (max_active_per_user)'])
  call.answer(await call.expectCall('act'))
  await first.end()
  await until('the second gets a worker', async () => !(await agentOf(pool, second)).wait)
})

test('a run that ends lets the next of its user begin, also on a worker of another pool that was idle all the time', async t => {
  const pool = await bullpen(t)
  await policy(t, pool, '--max-active-per-user', '1')
  const w1 = await worker(t, pool, 'w1')
  const w2 = await Peer.connected(t, pool, { workerId: 'w2', hello: { pool: 'other', roots: [root('acme/web')] } })
  const act = { prompt: { text: tool('act', { text: '1' }) }, repos: [{ url: REPO }] }
  const first = await create(pool, act)
  const call = await w1.expectCall('act')
  const second = await create(pool, { ...act, env: { type: 'pool', name: 'other' } })
  assert.equal((await agentOf(pool, second)).wait.code, 'user_cap')
  w1.answer(call)
  w2.answer(await w2.expectCall('act'))
  await until('both end', async () => (await Promise.all([first, second].map(async x => (await pool.http('GET', `/v1/agents/${x.json.agent.id}/runs/${x.json.run.id}`)).json.status))).every(s => s === 'FINISHED'))
})

test('quotas: as many workers as the setting says, and the refusal names it', async t => {
  const pool = await bullpen(t, { config: '[limits]\nmax_workers_per_team = 2\n' })
  const peers = [await worker(t, pool, 'a'), await worker(t, pool, 'b'), await worker(t, pool, 'c')]
  assert.deepEqual(peers.map(p => p.refused?.code ?? 'in'), ['in', 'in', 'quota_exceeded'])
  assert.match(peers[2].refused.message, /^limit exceeded: 2 workers of this team are connected \(limits\.max_workers_per_team\)$/)
  assert.equal(peers[2].refused.fatal, false)
  peers[0].drop()
  await until('there is room', async () => { const p = await worker(t, pool, 'c'); return !p.refused })
})

test('a worker with an idle release of its own keeps its claim for the follow-up; one without yields it', async t => {
  const pool = await bullpen(t)
  const w = await worker(t, pool, 'w', { idle_release_s: 600, idle_release_given: true })
  const first = await served(pool, w, {})
  const other = await create(pool)
  const { wait } = await agentOf(pool, other)
  assert.equal(wait.code, 'all_busy')
  assert.deepEqual(wait.nearest[0].blockedBy, ['it is kept for a follow-up of another agent'])
  const again = await first.followUp(tool('act', { text: '2' }))
  w.answer(await w.expectCall('act'))
  assert.equal((await again.end()).status, 'FINISHED')
  // Its time is over: it asks, goes, and the claim ends with it; who waits gets the next one.
  w.send({ going_away: { reason: 'idle', idle: true } })
  await until('it may go', () => w.leave?.stay === false)
  w.drop()
  const next = await worker(t, pool, 'next')
  await until('the other is served', () => next.calls.some(c => c.kind === 'TOOL'))
})

test('a worker that wants to go while a run is bound to it stays', async t => {
  const pool = await bullpen(t)
  const w = await worker(t, pool, 'w', { idle_release_s: 600, idle_release_given: true })
  const r = await pool.run(tool('act', { text: '1' }), { repo: REPO })
  const call = await w.expectCall('act')
  w.send({ going_away: { reason: 'idle', idle: true } })
  await until('it is told to stay', () => w.leave?.stay === true)
  w.answer(call)
  assert.equal((await r.end()).status, 'FINISHED')
  const again = await r.followUp(tool('act', { text: '2' }))
  w.answer(await w.expectCall('act'))
  assert.equal((await again.end()).status, 'FINISHED')
})

test('why a request waits changes when the cause changes, and is told to who reads the stream', async t => {
  const pool = await bullpen(t)
  const r = await pool.run(tool('act', { text: 'x' }), { repo: REPO, extra: { labels: ['os=linux'] } })
  const stream = await r.stream()
  const code = async () => (await r.get()).wait?.code
  const told = what => stream.until(what, e => e.event === 'status' && JSON.stringify(e.data).includes(what))
  assert.equal(await code(), 'no_workers')
  await told('no worker is connected to pool default')
  const other = await worker(t, pool, 'other', { repos: ['acme/api'] })
  await told('serves acme/web')
  const bare = await worker(t, pool, 'bare')
  await told('no worker of pool default has os=linux')
  assert.equal(await code(), 'label_mismatch')
  const none = await worker(t, pool, 'repoless', { repos: [] })
  for (const p of [bare, none, other]) p.drop()
  await told('no worker is connected to pool default')
  const right = await worker(t, pool, 'right', { labels: 'os=linux' })
  right.answer(await right.expectCall('act'))
  assert.equal((await r.end()).status, 'FINISHED')
})

test('agent run asks for labels and machines', async t => {
  const pool = await bullpen(t)
  const w = await worker(t, pool, 'w', { pool: 'gpu', labels: 'caps=cuda os=linux' })
  const cli = async (...args) => { const p = pool.cli(['run', ...args]); await p.exited; return p }
  const p = cli('--repo', REPO, '--pool', 'gpu', '--label', 'caps=cuda', '--label', 'os=linux', tool('act', { text: '1' }))
  w.answer(await w.expectCall('act'))
  assert.equal((await p).code, 0, (await p).stderr)
  assert.match((await cli('--repo', REPO, '--machine', 'box', 'x')).stderr, /^error: you have no machine 'box'/)
  assert.match((await cli('--repo', REPO, '--pool', 'gpu', '--label', 'novalue', 'x')).stderr, /^error: 'labels' must be/)
  assert.deepEqual((await cli('--pool', 'gpu', '--machine', 'box', 'x')).stderr, 'error: --pool and --machine exclude each other\n')
})
