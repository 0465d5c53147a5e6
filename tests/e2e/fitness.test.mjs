// A worker that cannot work says so and takes no work; a run whose session cannot be opened for a reason of the machine goes
// to another one; and what waits says why, with names.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, sh, tool, git, checkEvents, until } from './lib.mjs'
import { Peer } from './peer.mjs'

const there = { repo: 'https://github.com/acme/web' }
const named = (name, host, more = {}) => ({ hello: { name, host, ...more } })
const unfit = (reason, code = 'origin_unreachable') => ({ fitness: { code, reason } })
const waitOf = async run => (await run.get()).wait
const waits = (run, code) => until(`the run waits: ${code}`, async () => { const w = await waitOf(run); return w?.code === code && w })
// What a person reads of the run, besides the model's words.
const lines = events => events.filter(e => e.event === 'interaction_update' && e.data.type === 'shell-output-delta').map(e => e.data.event.data)

test('a worker that is unfit from the beginning gets nothing, and says why in what waits; once it is fit it works', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool, { workerId: 'w-1f', ...named('build-3', 'host-7', unfit('cannot reach origin: connection refused')) })
  const run = await pool.run(tool('act', { text: '1' }), there)
  const w = await waits(run, 'all_unfit')
  assert.equal(w.text, 'all 1 matching workers are unfit: build-3 (w-1f on host-7) cannot reach origin: connection refused')
  const text = (await pool.http('GET', '/metrics')).text
  assert.match(text, /^bullpen_workers_connected\{pool="default",state="unfit"\} 1$/m)
  assert.match(pool.server.stderr, /worker\.unfit worker="w-1f" name="build-3 \(w-1f on host-7\)" code=origin_unreachable reason="cannot reach origin: connection refused"/)
  assert.deepEqual(peer.calls, [])
  peer.fitness('')
  peer.answer(await peer.expectCall('act'))
  assert.equal((await run.end()).status, 'FINISHED')
  assert.match(pool.server.stderr, /worker\.fit worker="w-1f"/)
})

test('a worker that becomes unfit keeps its agent and its run, and gets no other until it is fit', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool, named('build-1', 'here'))
  const run = await pool.run(tool('act', { text: '1' }), there)
  const call = await peer.expectCall('act')
  peer.fitness('no_space', 'has 3 MB left in /srv')
  const other = await pool.run(tool('act', { text: '2' }), there)
  const w = await waits(other, 'all_unfit')
  assert.match(w.text, /build-1 \(peer-\w+ on here\) has 3 MB left in \/srv/)
  peer.answer(call)
  assert.equal((await run.end()).status, 'FINISHED', 'the run that it has goes on')
  assert.equal((await waitOf(other)).code, 'all_unfit', 'the idle claim of an unfit worker is not taken over')
  peer.fitness('')
  peer.answer(await peer.expectCall('act'))
  assert.equal((await other.end()).status, 'FINISHED')
})

test('the state of a reconnected worker is that of its Hello, and words of before do not come back', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool, named('build-1', 'here'))
  peer.fitness('no_space', 'has no space')
  await until('the store knows it', async () => /state="unfit"\} 1/.test((await pool.http('GET', '/metrics')).text))
  const run = await pool.run(tool('act', { text: '1' }), there)
  await waits(run, 'all_unfit')
  peer.more = { ...peer.more, fitness: { code: '', reason: '' } }
  await peer.reconnect()
  peer.answer(await peer.expectCall('act'))
  assert.equal((await run.end()).status, 'FINISHED')
})

test('of several workers those that are busy and those that are unfit are told apart', async t => {
  const pool = await bullpen(t)
  const busy = await Peer.connected(t, pool, named('b', 'h1'))
  await Peer.connected(t, pool, named('u', 'h2', { ...unfit('cannot write \x1b[31m/srv\u202e') }))
  const run = await pool.run(tool('act', { text: '1' }), there)
  const call = await busy.expectCall('act')
  const other = await pool.run(tool('act', { text: '2' }), there)
  const w = await waits(other, 'all_busy')
  assert.match(w.text, /^of 2 matching workers 1 are busy and 1 unfit; position 1: u \(peer-\w+ on h2\) cannot write {2}\[31m\/srv $/)
  assert.equal(w.position, 1)
  // agent ls and agent logs show it as any reason to wait.
  const ls = pool.cli(['ls'])
  await ls.exited
  assert.match(ls.stdout, /1 are busy and 1 unfit/)
  busy.answer(call)
  await run.end()
  busy.answer(await busy.expectCall('act'))
  await other.end()
})

test('a run whose worker cannot open the session goes to another, and the log and the detail say what happened', async t => {
  const pool = await bullpen(t)
  const bad = new Peer(t, pool, { workerId: 'w-bad', ...named('build-bad', 'host-1') })
  bad.cannotOpen = { code: 'worker_unfit', message: 'cannot reach origin: timed out' }
  await bad.connect()
  const run = await pool.run(tool('act', { text: '1' }), there)
  const w = await waits(run, 'all_unfit')
  assert.match(w.text, /build-bad \(w-bad on host-1\) cannot reach origin: timed out/)
  const good = await Peer.connected(t, pool, { workerId: 'w-good', ...named('build-good', 'host-2') })
  good.answer(await good.expectCall('act'))
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.equal(r.attempts.length, 1)
  const { at, ...attempt } = r.attempts[0]
  assert.deepEqual(attempt, { workerId: 'w-bad', workerName: 'build-bad', host: 'host-1', code: 'worker_unfit', message: 'cannot reach origin: timed out' })
  assert.ok(Date.parse(at) > 0)
  assert.equal(bad.timesSeen(bad.calls[0].call_id), 1)
  await until('the bad worker closes the session of the claim that ended', () => bad.calls.some(c => c.kind === 'CLOSE_SESSION' && c.claim_id === bad.calls[0].claim_id))
  const events = await run.events()
  checkEvents(events)
  assert.deepEqual(lines(events), ['worker build-bad (w-bad on host-1) could not open the session: cannot reach origin: timed out; attempt 1 of 3\n'])
  const logs = pool.cli(['logs', run.id])
  await logs.exited
  assert.match(logs.stdout, /worker build-bad \(w-bad on host-1\) could not open the session: cannot reach origin: timed out; attempt 1 of 3/)
})

test('ten runs, one worker that cannot open and one that can: ten are finished', async t => {
  const pool = await bullpen(t)
  const bad = new Peer(t, pool, named('build-bad', 'host-1'))
  bad.cannotOpen = { code: 'worker_unfit', message: 'cannot reach origin' }
  await bad.connect()
  await pool.worker({ name: 'build-good' })
  const origin = await pool.origin()
  bad.more = { ...bad.more, roots: [{ path: '/nowhere', remote_url: origin.url, host: '', repo: 'acme/web' }] }
  bad.becomeNewProcess()
  await bad.reconnect()
  const runs = []
  for (let i = 0; i < 10; i++) runs.push(await pool.run(sh(`echo ${i}`)))
  const ends = []
  for (const r of runs) ends.push(await r.end())
  for (const r of ends) assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  // It was tried once; then it was out, although it never said so itself.
  assert.equal(ends.filter(r => r.attempts).length, 1)
})

test('ten runs, two real workers, one of which has lost its origin: ten are finished', async t => {
  const pool = await bullpen(t)
  const origin = await pool.origin()
  const lost = path.join(pool.dir, 'lost', 'acme', 'web.git')
  fs.cpSync(origin.bare, lost, { recursive: true })
  const dir = await origin.clone(path.join(pool.dir, 'work-lost'))
  await git(dir, 'remote', 'set-url', 'origin', `file://${lost}`)
  await pool.worker({ name: 'build-lost', dir })
  fs.rmSync(path.dirname(lost), { recursive: true })
  await pool.worker({ name: 'build-good' })
  const runs = []
  for (let i = 0; i < 10; i++) runs.push(await pool.run(sh(`echo ${i}`)))
  const ends = []
  for (const r of runs) ends.push(await r.end())
  for (const r of ends) assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  const attempts = ends.flatMap(r => r.attempts ?? [])
  // It found out by a run or by itself.
  await until('it says that it cannot work', () => /worker\.unfit worker="[^"]+" name="build-lost /.test(pool.server.stderr))
  for (const a of attempts) assert.deepEqual([a.workerName, a.code], ['build-lost', 'worker_unfit'])
})

test('the third worker that cannot open the session ends the run, which names all three', async t => {
  const pool = await bullpen(t)
  for (const n of [1, 2, 3, 4]) {
    const p = new Peer(t, pool, { workerId: `w-${n}`, ...named(`build-${n}`, `host-${n}`) })
    p.cannotOpen = { code: 'worker_unfit', message: `has no space on disk ${n}` }
    await p.connect()
  }
  const run = await pool.run(tool('act', { text: '1' }), there)
  const r = await run.end()
  assert.equal(r.status, 'ERROR')
  assert.equal(r.error.code, 'clone_failed')
  assert.equal(r.attempts.length, 3)
  for (const a of r.attempts) {
    assert.ok(r.error.message.includes(`${a.workerName} (${a.workerId} on ${a.host}): ${a.message}`), r.error.message)
  }
  assert.equal(new Set(r.attempts.map(a => a.workerId)).size, 3, 'three different workers')
})

test('any other code is the request\'s: the run ends at once, and the worker is fit', async t => {
  const pool = await bullpen(t)
  const peer = new Peer(t, pool, named('build-1', 'host-1'))
  peer.cannotOpen = { code: 'clone_failed', message: 'there is no ref nowhere' }
  await peer.connect()
  await Peer.connected(t, pool, named('build-2', 'host-2'))
  const run = await pool.run(tool('act', { text: '1' }), there)
  const r = await run.end()
  assert.equal(r.status, 'ERROR')
  assert.equal(r.error.code, 'clone_failed')
  assert.match(r.error.message, /^worker build-1 \(peer-\w+ on host-1\) could not prepare the workspace: there is no ref nowhere$/)
  assert.equal(r.attempts, undefined)
  // Nothing was opened, so nothing is held for the agent.
  await until('the session is closed', () => peer.calls.some(c => c.kind === 'CLOSE_SESSION' && c.claim_id === peer.calls[0].claim_id))
  assert.match((await pool.http('GET', '/metrics')).text, /state="free"\} 2/)
})

test('a worker that could not open a session waits for others to try, and gets the run again when there is no other', async t => {
  const pool = await bullpen(t)
  const first = new Peer(t, pool, { workerId: 'first', ...named('first', 'h1') })
  first.cannotOpen = { code: 'worker_unfit', message: 'cannot reach origin' }
  await first.connect()
  const run = await pool.run(tool('act', { text: '1' }), there)
  await waits(run, 'all_unfit')
  const second = await Peer.connected(t, pool, { workerId: 'second', ...named('second', 'h2'), attends: false })
  const open = await second.expectCall('OPEN_SESSION')
  const other = await pool.run(tool('act', { text: '2' }), there)
  await waits(other, 'all_busy')
  // The first one is well again: it takes the other run, and this one it gets when the second has failed as well.
  first.cannotOpen = null
  first.fitness('')
  first.answer(await first.expectCall('act'))
  assert.equal((await other.end()).status, 'FINISHED')
  second.fitness('no_space', 'has no space')
  second.answer(open, { outcome: 'ERROR', result: { code: 'worker_unfit', message: 'has no space' } })
  first.answer(await first.expectCall('act'))
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.deepEqual(r.attempts.map(a => a.workerId), ['first', 'second'])
})

test('a follow-up of an agent whose worker became unfit goes to another, and the old session is closed', async t => {
  const pool = await bullpen(t)
  const first = await Peer.connected(t, pool, { workerId: 'first', ...named('first', 'h1') })
  const run = await pool.run(tool('act', { text: '1' }), there)
  first.answer(await first.expectCall('act'))
  await run.end()
  first.fitness('no_space', 'has no space')
  await until('the server knows it', () => /worker\.unfit worker="first"/.test(pool.server.stderr))
  const second = await Peer.connected(t, pool, { workerId: 'second', ...named('second', 'h2') })
  await until('the store knows it', async () => /state="unfit"\} 1/.test((await pool.http('GET', '/metrics')).text))
  const next = await run.followUp(tool('act', { text: '2' }))
  second.answer(await second.expectCall('act'))
  assert.equal((await next.end()).status, 'FINISHED')
  await until('the session on the first is closed', () => first.calls.some(c => c.kind === 'CLOSE_SESSION'))
})

test('a fitness that is not one ends the connection', async t => {
  const pool = await bullpen(t)
  for (const [code, reason] of [['two words', ''], ['x'.repeat(65), ''], ['no_space', 'x'.repeat(1025)]]) {
    const peer = await Peer.connected(t, pool)
    peer.fitness(code, reason)
    assert.match((await peer.ended()).details, /fitness/)
  }
})
