// Several agents on few workers: who comes first, who does not wait for whom, one at a time on each worker, and the ends
// that a waiting or running turn can come to by the clock.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, sh, file, tool, git, checkEvents, until } from './lib.mjs'
import { Peer, Wire, framed, encoded, aHello } from './peer.mjs'

const words = name => fs.existsSync(name) ? fs.readFileSync(name, 'utf8').trim().split('\n').filter(Boolean) : []
const waitFor = go => `until [ -e ${go} ]; do sleep 0.02; done`

test('a session is opened and closed for a claim: each turn after an idle release has a new one, a follow-up before it the same', async t => {
  const pool = await bullpen(t, { config: '[pools]\nidle_release = 1\n' })
  const peer = await Peer.connected(t, pool)
  const there = { repo: 'https://github.com/acme/web' }
  const first = await pool.run(tool('act', { text: '1' }), there)
  peer.answer(await peer.expectCall('act'))
  await first.end()
  const second = await first.followUp(tool('act', { text: '2' }))
  peer.answer(await peer.expectCall('act'))
  await second.end()
  await until('the idle claim ends', () => peer.calls.some(c => c.kind === 'CLOSE_SESSION'))
  const third = await second.followUp(tool('act', { text: '3' }))
  peer.answer(await peer.expectCall('act'))
  await third.end()
  const claims = kind => peer.calls.filter(c => c.kind === kind).map(c => c.claim_id)
  const [a, b, c] = claims('OPEN_SESSION')
  assert.match(a, /^claim-/)
  // The pool may have released the worker between the two turns of a slow machine.
  assert.equal(claims('CLOSE_SESSION').includes(b), true, 'a close names the claim that ended')
  assert.notEqual(c, b)
  if (claims('CLOSE_SESSION').indexOf(b) === 0) assert.equal(b, a)
  assert.deepEqual(claims('TOOL'), [a, b, c])
})

test('those who wait are served in the order in which they came', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const log = path.join(pool.dir, 'log'), go = path.join(pool.dir, 'go')
  const first = await pool.run(sh(`echo first >> ${log}; ${waitFor(go)}`))
  await until('the worker is busy', () => words(log).length === 1)
  const runs = [first]
  for (const name of ['a', 'b', 'c', 'd', 'e']) runs.push(await pool.run(sh(`echo ${name} >> ${log}`)))
  const waits = []
  for (const r of runs.slice(1)) waits.push((await r.get()).wait)
  assert.deepEqual(waits.map(w => [w.code, w.position]), [1, 2, 3, 4, 5].map(n => ['all_busy', n]))
  fs.writeFileSync(go, '')
  for (const r of runs) assert.equal((await r.end()).status, 'FINISHED')
  assert.deepEqual(words(log), ['first', 'a', 'b', 'c', 'd', 'e'])
})

test('a request that nobody can serve does not hold back younger ones', async t => {
  const pool = await bullpen(t)
  const other = await pool.remote({ name: 'acme/api' })
  const go = path.join(pool.dir, 'go'), log = path.join(pool.dir, 'log')
  const special = await pool.worker({ pool: 'special' })
  await pool.worker()
  const busy = await pool.run(sh(`echo busy >> ${log}; ${waitFor(go)}`), { pool: 'special' })
  await until('the special worker is busy', () => words(log).length === 1)
  const samePool = await pool.run(sh(`echo later >> ${log}`), { pool: 'special' })
  const otherRepo = await pool.run(sh(`echo api >> ${log}`), { repo: other.url })
  const young = await pool.run(sh(`echo young >> ${log}`))
  assert.equal((await young.end()).status, 'FINISHED', 'the youngest finds a free worker')
  assert.equal((await samePool.get()).wait.code, 'all_busy')
  const wait = (await otherRepo.get()).wait
  assert.equal(wait.code, 'no_repo', JSON.stringify(wait))
  assert.match(wait.text, /acme\/api/)
  await pool.worker({ remote: other })
  assert.equal((await otherRepo.end()).status, 'FINISHED')
  fs.writeFileSync(go, '')
  assert.equal((await busy.end()).status, 'FINISHED')
  assert.equal((await samePool.end()).status, 'FINISHED')
  assert.deepEqual(words(log), ['busy', 'young', 'api', 'later'])
  assert.ok(special.alive)
})

test('thirty agents on five workers all finish, and each worker serves one at a time', async t => {
  const pool = await bullpen(t)
  await Promise.all(Array.from({ length: 5 }, () => pool.worker()))
  const log = path.join(pool.dir, 'log')
  const mark = (n, what) => sh(`echo ${n} ${what} $(date +%s%N) $(git rev-parse --show-toplevel) >> ${log}; sleep 0.02`)
  const runs = await Promise.all(Array.from({ length: 30 }, (_, n) => pool.run(mark(n, 'begin') + file(`${n}.txt`, `${n}`) + mark(n, 'end'))))
  const ends = await Promise.all(runs.map(r => r.end()))
  for (const e of ends) assert.equal(e.status, 'FINISHED', JSON.stringify(e))
  const spans = new Map()
  for (const line of words(log)) {
    const [n, what, at, top] = line.split(' ')
    const where = top.match(/work(?:er-data)?-(\d+)/)[1] // of which worker the folder is
    const s = spans.get(n) ?? { n, where }
    assert.equal(s.where, where, 'one agent, one worker')
    assert.ok(!(what in s), `${line}: performed twice`)
    s[what] = BigInt(at)
    spans.set(n, s)
  }
  assert.equal(spans.size, 30)
  assert.equal(new Set([...spans.values()].map(s => s.where)).size, 5, 'all workers were of use')
  for (const where of new Set([...spans.values()].map(s => s.where))) {
    const here = [...spans.values()].filter(s => s.where === where).sort((a, b) => (a.begin < b.begin ? -1 : 1))
    for (let i = 1; i < here.length; i++) assert.ok(here[i].begin > here[i - 1].end, `${here[i].n} began before ${here[i - 1].n} had ended in ${where}`)
  }
  const origin = await pool.origin()
  const branches = await origin.branches()
  assert.equal(branches.length, 31)
  for (const [n, e] of ends.entries()) {
    const files = (await git(origin.bare, 'ls-tree', '--name-only', e.git.branches[0].branch)).split('\n')
    assert.deepEqual(files, ['README.md', `${n}.txt`].sort((a, b) => (a < b ? -1 : 1)), 'nothing of another agent is on the branch')
  }
})

test('the worker of an agent between two turns takes the next agent, and the first goes on later from its branch', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const a = await pool.run(file('a.txt', 'A'))
  const branchA = (await a.end()).git.branches[0].branch
  const b = await pool.run(sh('test ! -e a.txt', true) + file('b.txt', 'B'))
  const rb = await b.end()
  assert.equal(rb.status, 'FINISHED')
  assert.match(rb.result, /^2 of 2/, rb.result)
  const a2 = await a.followUp(sh('test ! -e b.txt && cat a.txt', true) + file('a2.txt', 'A2'))
  const ra = await a2.end()
  assert.match(ra.result, /^2 of 2/, ra.result)
  const origin = await pool.origin()
  // The branch of a run is what the agent has, also in the first run.
  assert.equal(ra.git.branches[0].branch, branchA)
  assert.equal(await origin.show(branchA, 'a.txt'), 'A')
  assert.equal(await origin.show(branchA, 'a2.txt'), 'A2')
  assert.equal(await origin.show(rb.git.branches[0].branch, 'b.txt'), 'B')
  assert.equal((await origin.log(branchA)).split('\n').length, 3)
})

test('what a person left uncommitted in the folder of a worker stays there, and is nobody else’s', async t => {
  const pool = await bullpen(t)
  const w = await pool.worker()
  fs.writeFileSync(path.join(w.work, 'notes.txt'), 'my notes\n')
  fs.writeFileSync(path.join(w.work, 'README.md'), 'half a sentence\n')
  const run = await pool.run(sh('test ! -e notes.txt', true) + file('a.txt', 'A'))
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.match(r.result, /^2 of 2/, r.result)
  const origin = await pool.origin()
  const branch = r.git.branches[0].branch
  assert.equal(await git(origin.bare, 'ls-tree', '--name-only', branch), 'README.md\na.txt')
  assert.equal(await origin.show(branch, 'README.md'), 'hello')
  assert.equal(fs.readFileSync(path.join(w.work, 'notes.txt'), 'utf8'), 'my notes\n')
  assert.equal(fs.readFileSync(path.join(w.work, 'README.md'), 'utf8'), 'half a sentence\n')
  assert.equal(await git(w.work, 'stash', 'list'), '')
})

test('a run that no worker takes in time is EXPIRED with queue_timeout', async t => {
  const pool = await bullpen(t, { config: '[runs]\nqueue_timeout = 1\n' })
  const log = path.join(pool.dir, 'log')
  const run = await pool.run(sh(`echo never >> ${log}`))
  assert.equal((await run.get()).wait.code, 'no_workers')
  const r = await run.end()
  assert.equal(r.status, 'EXPIRED')
  assert.equal(r.error.code, 'queue_timeout')
  checkEvents(await run.events())
  await pool.worker()
  assert.equal((await (await run.followUp(sh('true'))).end()).status, 'FINISHED')
  assert.ok(!fs.existsSync(log))
})

test('a run that takes too long is EXPIRED with run_timeout, and its command is killed', async t => {
  const pool = await bullpen(t, { config: '[runs]\nrun_timeout = 2\n' })
  await pool.worker({ args: ['--isolation=process'] }) // pids are those of the machine
  const pids = path.join(pool.dir, 'pids')
  const run = await pool.run(sh(`echo $$ >> ${pids}; sleep 600`) + sh(`echo never >> ${pids}`))
  const pid = await until('the command runs', () => words(pids)[0])
  const r = await run.end()
  assert.equal(r.status, 'EXPIRED')
  assert.equal(r.error.code, 'run_timeout')
  await until('the command is gone', () => { try { return fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').pop().startsWith('Z') } catch { return true } }, 3)
  const { completed } = checkEvents(await run.events())
  assert.equal([...completed.values()][0].result.error.code, 'interrupted')
  assert.equal((await (await run.followUp(sh('true'))).end()).status, 'FINISHED')
  assert.deepEqual(words(pids), [pid])
})

test('a run that takes too many steps ends with step_limit', async t => {
  const pool = await bullpen(t, { config: '[runs]\nmax_steps = 3\n' })
  await pool.worker()
  const log = path.join(pool.dir, 'log')
  const step = i => sh(`echo ${i} >> ${log}`)
  const run = await pool.run(Array.from({ length: 9 }, (_, i) => step(i)).join(''))
  const r = await run.end()
  assert.equal(r.status, 'ERROR')
  assert.equal(r.error.code, 'step_limit')
  const done = words(log)
  assert.ok(done.length >= 3 && done.length <= 4, `performed: ${done}`)
  checkEvents(await run.events())
  assert.equal((await (await run.followUp(step(10) + step(11))).end()).status, 'FINISHED')
})

test('workers of more pools than /metrics has room for are still all counted', async t => {
  const pool = await bullpen(t, { config: '[limits]\nmax_workers_per_team = 0\n' })
  const names = Array.from({ length: 230 }, (_, i) => `pool-${i}`)
  const wires = names.map(name => new Wire(t, pool).write(framed(encoded(aHello({ pool: name })))))
  await until('all are welcomed', () => wires.every(w => w.received.length > 5))
  const text = (await pool.http('GET', '/metrics')).text
  const counts = [...text.matchAll(/^bullpen_workers_connected\{pool="([^"]+)",state="([^"]+)"\} (\d+)$/gm)]
  assert.equal(counts.reduce((sum, m) => sum + Number(m[3]), 0), names.length, text)
  assert.ok(counts.length <= 201, `${counts.length} series`)
})
