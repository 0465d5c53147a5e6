// What a worker says when it publishes or closes a session, and where a person finds it: branches, files that are not
// published, warnings, work that is kept on a machine, what it took; and the failures, with git's own words.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, tool, checkEvents, until } from './lib.mjs'
import { isError } from './api-help.mjs'
import { Peer } from './peer.mjs'

const there = { repo: 'https://github.com/acme/web' }
const sha = c => c.repeat(40)
const named = (name, more = {}) => ({ workerId: `w-${name}`, hello: { name, host: `host-${name}`, ...more } })
const lines = events => events.filter(e => e.event === 'interaction_update' && e.data.type === 'shell-output-delta').map(e => e.data.event.data.trimEnd())
async function oneRun(pool, peer, from) {
  const run = from ? await from.followUp(tool('act', { text: '1' })) : await pool.run(tool('act', { text: '1' }), there)
  peer.answer(await peer.expectCall('act'))
  return [run, await run.end()]
}
const agentOf = async (pool, run) => (await pool.http('GET', `/v1/agents/${run.agentId}`)).json

test('the detail names the worker, what it took, what was not published, and each branch', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool, named('build-3'))
  peer.publication = {
    branch: 'cursor/x-1', pushed: true, resources: { cpuMs: 1234, peakMemoryBytes: 5e9, writtenBytes: 7, nonsense: 'x', cpu: -1 },
    branches: [{ branch: 'cursor/x-1', commit: sha('a'), pushed: true }, { branch: 'feature/y', commit: sha('b'), pushed: true }, { branch: 'kept-back', commit: sha('c'), pushed: false }, { branch: 'bad..name', pushed: true }, 7],
    notPublished: [{ path: 'big.bin', reason: 'larger than 100 MB' }, { path: 'a\u202eb\n\x1b[1m.txt', reason: '' }, {}, 'x'], warnings: ['hooks were not run', '', 7],
  }
  const [run, r] = await oneRun(pool, peer)
  assert.equal(r.status, 'FINISHED')
  assert.deepEqual(r.worker, { id: 'w-build-3', name: 'build-3', host: 'host-build-3' })
  assert.deepEqual(r.resources, { cpuMs: 1234, peakMemoryBytes: 5e9, writtenBytes: 7 })
  assert.deepEqual(r.git.branches.map(b => b.branch), ['cursor/x-1', 'feature/y'])
  assert.deepEqual(r.notPublished, [{ path: 'big.bin', reason: 'larger than 100 MB' }, { path: 'a b  [1m.txt', reason: '' }])
  assert.deepEqual(r.warnings, ['hooks were not run'])
  assert.equal(r.keptWork, undefined)
  const events = await run.events()
  checkEvents(events)
  assert.deepEqual(lines(events), ['not published: big.bin: larger than 100 MB', 'not published: a b  [1m.txt', 'warning: hooks were not run'])
  assert.deepEqual(events.find(e => e.event === 'result').data.git.branches.map(b => b.branch), ['cursor/x-1', 'feature/y'])
  const logs = pool.cli(['logs', run.id])
  await logs.exited
  assert.match(logs.stdout, /not published: big\.bin: larger than 100 MB/)
  // A publication without a list has its one branch.
  peer.publication = { branch: 'cursor/x-1', pushed: true }
  const [, next] = await oneRun(pool, peer, run)
  assert.deepEqual(next.git.branches.map(b => b.branch), ['cursor/x-1'])
})

test('a flood of files and warnings is cut, and says so', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool, named('build-3'))
  peer.publication = { notPublished: Array.from({ length: 3000 }, (_, i) => ({ path: `f${i}`, reason: 'r'.repeat(500) })), warnings: Array.from({ length: 3000 }, (_, i) => `w${i}`) }
  const [run, r] = await oneRun(pool, peer)
  assert.equal(r.status, 'FINISHED')
  assert.equal(r.notPublished.length, 100)
  assert.equal(r.warnings.length, 50)
  const told = lines(await run.events())
  assert.equal(told.length, 42)
  assert.match(told[20], /^and 80 more files/)
})

test('work that is kept on a worker is shown, told when another one opens the session, and forgotten when it is published', async t => {
  const pool = await bullpen(t)
  const a = await Peer.connected(t, pool, named('build-a'))
  a.publication = { pushed: false, kept: { ref: 'refs/bullpen/agents/x', commit: sha('a'), reason: 'the remote refused it\n\x1b[1m' } }
  const [run, r] = await oneRun(pool, a)
  const { at, ...kept } = r.keptWork
  assert.deepEqual(kept, { workerId: 'w-build-a', workerName: 'build-a', host: 'host-build-a', ref: 'refs/bullpen/agents/x', commit: sha('a'), reason: 'the remote refused it  [1m' })
  assert.ok(Date.parse(at) > 0)
  assert.deepEqual((await agentOf(pool, run)).keptWork, r.keptWork)
  a.drop()
  await until('it is gone', async () => /bullpen_claims_lost 1/.test((await pool.http('GET', '/metrics')).text))
  const b = await Peer.connected(t, pool, named('build-b'))
  b.publication = { kept: null } // of another worker: it cannot know
  const [second, r2] = await oneRun(pool, b, run)
  assert.deepEqual(lines(await second.events()), [`unpublished work of this agent is on worker build-a (w-build-a on host-build-a), ref refs/bullpen/agents/x, commit ${sha('a')}`])
  assert.equal(r2.keptWork.workerId, 'w-build-a')
  b.drop()
  await until('it is gone', async () => /bullpen_claims_lost [12]/.test((await pool.http('GET', '/metrics')).text))
  a.publication = { kept: null }
  await a.reconnect()
  const [third, r3] = await oneRun(pool, a, second)
  assert.deepEqual(lines(await third.events()), [], 'it is the worker that keeps it')
  assert.equal(r3.keptWork, undefined)
  assert.equal((await agentOf(pool, third)).keptWork, undefined)
})

test('what a worker says when it closes a session is kept, too', async t => {
  const pool = await bullpen(t, { config: '[pools]\nidle_release = 1\n' })
  const peer = await Peer.connected(t, pool, named('build-a'))
  peer.closing = { resources: { cpuMs: 99 }, kept: { ref: 'refs/bullpen/agents/x', commit: sha('d'), reason: 'it was left' } }
  const [run] = await oneRun(pool, peer)
  const r = await until('the session is closed', async () => { const r = await run.get(); return r.keptWork && r })
  assert.equal(r.keptWork.commit, sha('d'))
  assert.deepEqual(r.resources, { cpuMs: 99 })
})

test('a push that failed: the run says what git said, within bounds, and where the work is', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool, named('build-3'))
  peer.cannotPublish = {
    code: 'push_failed', message: "git push: fatal: unable to access 'https://me:secret@git.example.test/acme/web.git?private_token=secret': 403", output: `remote: denied\n${'x'.repeat(10_000)}\nremote: end`,
    kept: { ref: 'refs/bullpen/agents/x', commit: sha('e'), reason: 'push failed' },
  }
  const [run, r] = await oneRun(pool, peer)
  assert.equal(r.status, 'ERROR')
  assert.equal(r.error.code, 'push_failed')
  assert.match(r.error.message, /^the work could not be published and stays on worker build-3 \(w-build-3 on host-build-3\), branch \S+: git push: fatal: unable to access 'https:\/\/git\.example\.test\/acme\/web\.git': 403\nremote: denied\n/)
  assert.match(r.error.message, /remote: end$/)
  assert.ok(r.error.message.length < 2300)
  assert.equal(r.keptWork.commit, sha('e'))
  assert.doesNotMatch(JSON.stringify([r, await run.events()]) + pool.server.stderr, /secret/)
})

test('a publication that ran out of time: the run names the work that was kept', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool, named('build-3'))
  peer.cannotPublish = { code: 'timeout', message: 'git push took too long', output: 'remote: still counting', kept: { ref: 'refs/bullpen/agents/x', commit: sha('f'), reason: 'git push took too long' } }
  const [run, r] = await oneRun(pool, peer)
  assert.equal(r.status, 'ERROR')
  assert.equal(r.error.code, 'push_failed')
  assert.match(r.error.message, /git push took too long\nremote: still counting$/)
  assert.equal(r.keptWork.commit, sha('f'))
  assert.equal((await agentOf(pool, run)).keptWork.ref, 'refs/bullpen/agents/x')
})

test('credentials in a repository\'s address are refused or dropped, and never told back', async t => {
  const pool = await bullpen(t)
  const create = url => pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, repos: [{ url }] } })
  for (const url of ['https://git.example.test/acme/web?private_token=secret', 'https://git.example.test/acme/web#secret', 'git@git.example.test:acme/web?secret', 'https://git.example.test/acme/web.git?secret#x', 'me:secret@git.example.test:acme/web', 'git@secret@git.example.test:acme/web']) {
    const r = await create(url)
    isError(r, 400, 'validation_error')
    assert.doesNotMatch(r.text, /secret/)
  }
  const r = await create('https://me:secret@git.example.test/acme/web')
  assert.equal(r.status, 201)
  assert.deepEqual(r.json.agent.repos, [{ url: 'https://git.example.test/acme/web' }])
  assert.doesNotMatch(r.text + pool.server.stderr, /secret/)
})

test('an id with a NUL in it is nobody\'s id', async t => {
  const pool = await bullpen(t)
  const peer = new Peer(t, pool, { workerId: 'a\0b' })
  await peer.connect()
  assert.equal(peer.welcomes.length, 0)
  assert.match(peer.end.details, /NUL/)
})
