// kill -9 of either side, at any moment: the run goes on or ends with a reason; nothing runs twice; the log has no gap.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, sh, file, checkEvents, until } from './lib.mjs'

// Each step leaves a line in a file outside the repository, so that a second execution shows.
const counted = (log, n) => Array.from({ length: n }, (_, i) => sh(`echo ${i} >> ${log}; sleep 0.05`)).join('')
const lines = log => fs.existsSync(log) ? fs.readFileSync(log, 'utf8').trim().split('\n').filter(Boolean).map(Number) : []

test('the server is killed in the middle of a call: the run goes on and the call runs once', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const log = path.join(pool.dir, 'log'), go = path.join(pool.dir, 'go')
  const run = await pool.run(sh(`echo once >> ${log}; until [ -e ${go} ]; do sleep 0.02; done; echo done >> ${log}`) + file('a.txt', 'A'))
  await until('the call runs', () => fs.existsSync(log))
  await pool.crash()
  fs.writeFileSync(go, '')
  await pool.restart()
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.equal(fs.readFileSync(log, 'utf8'), 'once\ndone\n')
  assert.equal(await (await pool.origin()).show(r.git.branches[0].branch, 'a.txt'), 'A')
  const { completed } = checkEvents(await run.events())
  assert.equal(completed.size, 2)
})

test('the server is away for longer than the loss grace: the worker gives its session up, gets a new one, and the run goes on', async t => {
  const pool = await bullpen(t, { config: '[pools]\nworker_loss_grace = 1\n' })
  const w = await pool.worker()
  const log = path.join(pool.dir, 'log')
  const run = await pool.run(sh(`echo began >> ${log}; sleep 300`) + file('a.txt', 'A'))
  await until('the call runs', () => fs.existsSync(log))
  await pool.crash()
  await w.says(/worker\.session\.lost/, 'stderr')
  await pool.restart()
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.equal(fs.readFileSync(log, 'utf8'), 'began\n', 'what was given up is not done again')
  assert.equal(await (await pool.origin()).show(r.git.branches[0].branch, 'a.txt'), 'A')
  assert.ok(w.alive, 'it is the same worker process')
  const { completed } = checkEvents(await run.events())
  assert.deepEqual([...completed.values()].map(c => Object.keys(c.result)[0]), ['error', 'success'])
})

for (const seed of [1, 2, 3]) {
  test(`the server is killed at random moments, round ${seed}`, async t => {
    const pool = await bullpen(t)
    await pool.worker()
    const log = path.join(pool.dir, 'log'), steps = 12
    const run = await pool.run(counted(log, steps))
    const told = []
    for (let kills = 0; kills < 4; kills++) {
      const at = Math.floor(Math.random() * steps)
      // A client that listens until the crash, and remembers what it was told.
      const s = await run.stream().catch(() => null)
      await until('some progress', async () => lines(log).length >= Math.min(at, lines(log).length + 2) || Math.random() < 0.02)
      await pool.crash()
      if (s) { await s.finished; told.push(...s.events.filter(e => e.id)) }
      await pool.restart()
    }
    const r = await run.end()
    assert.equal(r.status, 'FINISHED', JSON.stringify(r))
    assert.deepEqual(lines(log), Array.from({ length: steps }, (_, i) => i), 'each step exactly once and in order')
    const events = await run.events()
    const { completed } = checkEvents(events)
    assert.equal(completed.size, steps)
    const final = new Set(events.filter(e => e.id).map(e => JSON.stringify(e)))
    for (const e of told) assert.ok(final.has(JSON.stringify(e)), `told and then gone: ${JSON.stringify(e)}`)
  })
}

test('the worker is killed and comes back: the call in flight is reported as interrupted, the run goes on', async t => {
  const pool = await bullpen(t)
  const w = await pool.worker({ workerId: 'w-1' })
  const log = path.join(pool.dir, 'log')
  const run = await pool.run(sh(`echo began >> ${log}; sleep 60`) + sh(`echo second >> ${log}`))
  await until('the call runs', () => fs.existsSync(log))
  await w.kill('SIGKILL')
  await w.again()
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.match(r.result, /interrupted/)
  assert.equal(fs.readFileSync(log, 'utf8'), 'began\nsecond\n')
  const { completed } = checkEvents(await run.events())
  assert.equal([...completed.values()][0].result.error.code, 'interrupted')
})

test('the worker is killed and does not come back: ERROR worker_lost', async t => {
  const pool = await bullpen(t, { config: '[pools]\nworker_loss_grace = 2\n' })
  const w = await pool.worker()
  const log = path.join(pool.dir, 'log')
  const run = await pool.run(sh(`echo began >> ${log}; sleep 60`))
  await until('the call runs', () => fs.existsSync(log))
  await w.kill('SIGKILL')
  await until('the wait is explained', async () => (await run.get()).wait?.code === 'waking')
  const r = await run.end()
  assert.equal(r.status, 'ERROR')
  assert.equal(r.error.code, 'worker_lost')
  checkEvents(await run.events())
})
