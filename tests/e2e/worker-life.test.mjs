// How long a worker stays, and how it goes: the window for a follow-up, release, signals.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, sh, until } from './lib.mjs'
import { Plane, startWorker } from './plane.mjs'

const stay = { stay: true }, go = { stay: false }

test('after a session it asks, and goes with status 0 when it may', async t => {
  const plane = await Plane.start(t)
  plane.reply = () => go
  const w = startWorker(t, plane, ['--pool', '--idle-release-timeout', '1'])
  const link = await plane.link()
  await link.openSession()
  assert.deepEqual(await w.exited, { code: 0, signal: null })
  assert.deepEqual(link.goingAway, [{ reason: 'idle', idle: true }])
  assert.equal(plane.links.length, 1)
})

test('it stays when a run came first, asks again a whole window later, and works meanwhile', async t => {
  const plane = await Plane.start(t)
  let asked = 0
  plane.reply = () => (++asked <= 2 ? stay : go)
  const w = startWorker(t, plane, ['--pool', '--idle-release-timeout', '1'])
  const link = await plane.link()
  await link.openSession()
  await until('it was told to stay', () => asked >= 1)
  assert.equal((await link.call('TOOL', { name: 'run_terminal_cmd', args: { command: 'echo still here' } })).outcome, 'SUCCESS')
  await w.exited
  assert.equal(w.code, 0)
  assert.equal(asked, 3)
})

test('no answer counts as yes', async t => {
  const plane = await Plane.start(t)
  const w = startWorker(t, plane, ['--pool', '--idle-release-timeout', '1'])
  const link = await plane.link()
  await link.openSession()
  await w.exited
  assert.equal(w.code, 0)
  assert.match(w.stderr, /worker\.idle\.over no answer came/)
})

test('a call that runs longer than the window is not interrupted, and a worker that had nothing to do yet stays', async t => {
  const plane = await Plane.start(t)
  plane.reply = () => go
  const unused = startWorker(t, plane, ['--pool', '--idle-release-timeout', '4'])
  await plane.link()
  const w = startWorker(t, plane, ['--pool', '--idle-release-timeout', '4'])
  const link = await plane.link(1)
  await link.openSession()
  const r = await link.call('TOOL', { name: 'run_terminal_cmd', args: { command: 'sleep 6' } }) // says nothing, so nothing reminds the worker of it before its end
  assert.equal(r.outcome, 'SUCCESS')
  assert.equal(link.goingAway, undefined)
  await w.exited
  assert.equal(w.code, 0)
  assert.ok(unused.alive)
})

test('0 is never', async t => {
  const plane = await Plane.start(t)
  plane.reply = () => go
  const never = startWorker(t, plane, ['--pool', '--idle-release-timeout', '0'])
  await (await plane.link()).openSession()
  const w = startWorker(t, plane, ['--pool'], { env: { CURSOR_WORKER_IDLE_RELEASE_TIMEOUT: '2' } })
  await (await plane.link(1)).openSession()
  await w.exited
  assert.equal(w.code, 0)
  assert.ok(never.alive)
})

test('with the real control plane: it ends after its window, and a follow-up goes to another worker', async t => {
  const pool = await bullpen(t)
  const w = await pool.worker({ args: ['--idle-release-timeout', '1'] })
  const first = await pool.run(sh('echo one'))
  assert.equal((await first.end()).status, 'FINISHED')
  await w.exited
  assert.equal(w.code, 0)
  const second = await first.followUp(sh('echo two'))
  await pool.worker({ name: 'other' })
  const end = await second.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  assert.equal(end.worker.name, 'other')
})

test('a release that says so ends the process with status 0; another one only the session', async t => {
  const plane = await Plane.start(t)
  const w = startWorker(t, plane)
  const link = await plane.link()
  await link.openSession()
  link.send({ release: { reason: 'the agent was archived', exit: false } })
  await w.says(/worker\.released reason="the agent was archived" exit=0/, 'stderr')
  await link.openSession({ agent: 'bc-2', claim: 'claim-2' })
  assert.ok(w.alive)
  link.send({ release: { reason: 'by the API', exit: true } })
  await w.exited
  assert.equal(w.code, 0)
})

test('SIGTERM lets a call end, SIGINT does not wait, and a second signal waits for nothing', async t => {
  for (const [signals, code, outcome] of [[['SIGTERM'], 0, 'SUCCESS'], [['SIGINT'], 0, 'ERROR'], [['SIGTERM', 'SIGINT'], 130], [['SIGTERM', 'SIGTERM'], 143]]) {
    const plane = await Plane.start(t)
    const w = startWorker(t, plane)
    const link = await plane.link()
    await link.openSession()
    const command = outcome === 'SUCCESS' ? 'echo begun; sleep 2; echo done' : 'echo begun; sleep 600'
    const id = await link.call('TOOL', { name: 'run_terminal_cmd', args: { command }, wait: false })
    await until('the command runs', () => link.frames.some(f => f.body === 'output' && f.output.call_id === id))
    w.child.kill(signals[0])
    await until('it says that it goes', () => link.goingAway?.length)
    assert.deepEqual(link.goingAway.map(g => g.idle), [false])
    if (signals[1]) w.child.kill(signals[1])
    await w.exited
    assert.equal(w.code, code, `${signals}: ${w.stderr}`)
    if (outcome === 'SUCCESS') assert.equal(link.results.get(id).outcome, outcome)
    else if (outcome) assert.notEqual(link.results.get(id)?.outcome, 'SUCCESS')
  }
})

test('a worker that is stopped and started comes back to its session with the same id', async t => {
  const pool = await bullpen(t)
  const w = await pool.worker()
  const first = await pool.run(sh('echo one'))
  assert.equal((await first.end()).status, 'FINISHED')
  await w.kill('SIGTERM')
  assert.equal(w.code, 0)
  await w.again()
  const end = await (await first.followUp(sh('echo two'))).end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
})
