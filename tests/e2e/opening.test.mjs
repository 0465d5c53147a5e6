// Opening a session that takes long: what waits says so, by name and with what the worker is doing; it ends by itself, and at
// once when the run is cancelled.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, tool, until } from './lib.mjs'
import { Peer } from './peer.mjs'

const there = { repo: 'https://github.com/acme/web' }
const slow = (t, pool, name, more = {}) => Peer.connected(t, pool, { workerId: `w-${name}`, hello: { name, host: 'host-7' }, attends: false, ...more })
const waits = (run, pattern) => until(`the run waits: ${pattern}`, async () => { const w = (await run.get()).wait; return w && pattern.test(w.text) && w })
// The rest of a run with a peer that does nothing by itself.
async function finish(peer, run, open) {
  peer.answer(open, { result: { workspaceRoots: ['/nowhere'], repoUrl: '', branch: '', baseCommit: '', headCommit: '', rules: [], agentsMd: [], warnings: [] } })
  peer.answer(await peer.expectCall('act'))
  peer.answer(await peer.expectCall('PUBLISH'), { result: { branch: 'cursor/peer', pushed: true } })
  assert.equal((await run.end()).status, 'FINISHED')
}

test('an opening that takes long says on which worker, and what it is doing; the last word holds', async t => {
  const pool = await bullpen(t)
  const peer = await slow(t, pool, 'build-3')
  const run = await pool.run(tool('act', { text: '1' }), there)
  const open = await peer.expectCall('OPEN_SESSION')
  const stream = await run.stream()
  assert.equal((await run.get()).wait, undefined)
  const silent = await waits(run, /^opening the session on worker build-3 \(w-build-3 on host-7\) since 1\d s$/)
  assert.equal(silent.code, 'opening')
  assert.ok(Date.now() - Date.parse(silent.since) >= 10_000)
  for (let i = 0; i < 200; i++) peer.progress(open, `checking out ${i} of 10,000 files`)
  peer.progress(open, 'fetching \x1b[31mfrom\u202e origin\n')
  const said = await waits(run, /: fetching  \[31mfrom  origin  since \d+ s$/)
  assert.equal(said.since, silent.since)
  const told = await stream.until('readers are told', e => e.event === 'status' && /fetching/.test(e.data.message ?? ''))
  assert.equal(told.data.status, 'CREATING')
  assert.ok(stream.events.filter(e => e.event === 'status').length < 10, 'not each word is told')
  const ls = pool.cli(['ls'])
  await ls.exited
  assert.match(ls.stdout, /opening the session on worker build-3/)
  await finish(peer, run, open)
  assert.equal((await run.get()).wait, undefined)
  const texts = (await run.events()).filter(e => e.event === 'interaction_update' && e.data.type === 'shell-output-delta')
  assert.deepEqual(texts, [], 'it is not output of the run')
})

test('an opening that does not end is given up after open_timeout, and the run goes to another worker', async t => {
  const pool = await bullpen(t, { config: '[runs]\nopen_timeout = 2\n' })
  const peer = await slow(t, pool, 'build-3')
  const run = await pool.run(tool('act', { text: '1' }), there)
  const open = await peer.expectCall('OPEN_SESSION')
  peer.progress(open, 'fetching from origin')
  // One that talks all the time does not put it off.
  const talk = setInterval(() => peer.progress(open, `fetching ${Date.now()}`), 20)
  t.after(() => clearInterval(talk))
  const other = await slow(t, pool, 'build-4')
  const again = await other.expectCall('OPEN_SESSION')
  clearInterval(talk)
  const { attempts } = await run.get()
  assert.equal(attempts.length, 1)
  assert.equal(attempts[0].workerId, 'w-build-3')
  assert.equal(attempts[0].code, 'open_timeout')
  assert.match(attempts[0].message, /^the session was not open within 2 s: fetching \d+ \(runs\.open_timeout\)$/)
  await until('the opening is cancelled', () => peer.cancelled.includes(open.call_id))
  await finish(other, run, again)
})

test('a run whose session is being opened is cancelled at once', async t => {
  const pool = await bullpen(t)
  const peer = await slow(t, pool, 'build-3')
  const run = await pool.run(tool('act', { text: '1' }), there)
  const open = await peer.expectCall('OPEN_SESSION')
  assert.equal((await run.cancel()).status, 200)
  assert.equal((await run.get()).status, 'CANCELLED')
  await until('the worker is told', () => peer.cancelled.includes(open.call_id))
})

test('the time of an opening goes on over a restart of the server', async t => {
  const pool = await bullpen(t, { config: '[runs]\nopen_timeout = 4\nopen_retries = 0\n' })
  const peer = await slow(t, pool, 'build-3')
  const run = await pool.run(tool('act', { text: '1' }), there)
  await peer.expectCall('OPEN_SESSION')
  await pool.crash()
  await pool.restart()
  await peer.reconnect()
  const r = await run.end()
  assert.equal(r.status, 'ERROR')
  assert.equal(r.error.code, 'clone_failed')
  assert.match(r.error.message, /build-3 \(w-build-3 on host-7\): the session was not open within 4 s/)
})
