// Calls go through one dispatcher, whoever performs them: a worker, the control plane itself, a nested loop. bullpen-trial is
// the server with four tools of the control plane that only tests have (tests/trial/tools.c).
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { build, bullpen, sh, file, tool, checkEvents, until } from './lib.mjs'

const program = path.join(build, 'tests/trial/bullpen-trial')

async function trial(t) {
  assert.ok(fs.existsSync(program), `${program} is missing: ninja -C build tests/trial/bullpen-trial`)
  const pool = await bullpen(t, { start: false })
  pool.start = (start => options => start.call(pool, { program, ...options }))(pool.start)
  await pool.start()
  return pool
}

const lines = log => fs.existsSync(log) ? fs.readFileSync(log, 'utf8').trim().split('\n').filter(Boolean) : []
const deltas = (events, callId) => events.filter(e => e.event === 'interaction_update' && e.data.type === 'tool-call-delta' && e.data.callId === callId).map(e => e.data.taskUpdate)

test('a tool of the control plane is performed, refused, bounded and told like any other', async t => {
  const pool = await trial(t)
  await pool.worker()
  const run = await pool.run(tool('trial_echo', { text: 'hello' }) + tool('trial_echo', {}) + tool('trial_flood', {}) + sh('echo there'))
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  const { running, completed } = checkEvents(await run.events())
  // Calls of the control plane are performed side by side: which ends first is left open, which started first is not.
  const calls = [...running.keys()].map(id => completed.get(id))
  assert.equal(running.size, 4)
  assert.deepEqual(calls[0].result, { success: { text: 'hello' } })
  assert.equal(calls[1].result.error.code, 'invalid_arguments')
  assert.equal(calls[2].result.error.code, 'bad_result', 'six megabytes are over the limit of a result')
  assert.equal(calls[3].result.success.exitCode, 0)
  assert.match(r.result, /2 of 4/)
})

test('a cancelled run ends a control-plane call that would go on for ever', async t => {
  const pool = await trial(t)
  await pool.worker()
  const run = await pool.run(tool('trial_wait', {}))
  const s = await run.stream()
  await s.until('the call runs', e => e.event === 'tool_call')
  assert.equal((await run.cancel()).status, 200)
  const r = await run.end()
  assert.equal(r.status, 'CANCELLED')
  // The worker is free again for another agent.
  assert.equal((await (await pool.run(sh('true'))).end()).status, 'FINISHED')
})

test('after a crash an open control-plane call is told as interrupted, or done again if that does no harm', async t => {
  const pool = await trial(t)
  await pool.worker()
  const run = await pool.run(tool('trial_wait', {}) + tool('trial_echo', { text: 'after' }))
  const s = await run.stream()
  await s.until('the call runs', e => e.event === 'tool_call')
  await pool.crash()
  await pool.restart()
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  const [wait, echo] = [...checkEvents(await run.events()).completed.values()]
  assert.equal(wait.result.error.code, 'interrupted')
  assert.deepEqual(echo.result, { success: { text: 'after' } })
})

test('a nested loop works on the same worker; its events name the call that started it, its usage counts', async t => {
  const pool = await trial(t)
  await pool.worker()
  const run = await pool.run(tool('trial_delegate', { prompt: 'Help.\n' + file('inner.txt', 'INNER') + sh('echo inside') }) + file('outer.txt', 'OUTER'))
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  const origin = await pool.origin()
  assert.equal(await origin.show(r.git.branches[0].branch, 'inner.txt'), 'INNER')
  assert.equal(await origin.show(r.git.branches[0].branch, 'outer.txt'), 'OUTER')
  const events = await run.events(), { completed } = checkEvents(events)
  const outer = [...completed.values()].find(c => c.name === 'trial_delegate')
  const inner = [...completed.values()].filter(c => c.parentCallId === outer.callId)
  assert.equal(inner.length, 2)
  assert.equal([...completed.values()].filter(c => !c.parentCallId).length, 2)
  assert.match(outer.result.success.text, /2 of 2/)
  // What the nested loop says is no word of the run's own.
  assert.ok(!events.some(e => e.event === 'assistant' && /inside/.test(e.data.text)))
  const told = deltas(events, outer.callId)
  assert.ok(told.some(u => u.type === 'text-delta' && /2 of 2/.test(u.text)))
  assert.ok(told.some(u => u.type === 'tool-call-started'))
  assert.equal(told.filter(u => u.type === 'step-started').length, 3, 'two calls and the answer')
  assert.ok(!told.some(u => u.type === 'turn-ended'))
  assert.match(r.result, /2 of 2/)
})

test('a nested loop may start one, but that may not: the third level is refused in words', async t => {
  const pool = await trial(t)
  await pool.worker()
  const log = path.join(pool.dir, 'log')
  const third = tool('trial_delegate', { prompt: sh(`echo third >> ${log}`) }), second = tool('trial_delegate', { prompt: sh(`echo second >> ${log}`) + third })
  const run = await pool.run(tool('trial_delegate', { prompt: second }))
  assert.equal((await run.end()).status, 'FINISHED')
  assert.deepEqual(lines(log), ['second'])
  const { completed } = checkEvents(await run.events())
  const refused = [...completed.values()].filter(c => c.result.error)
  assert.equal(refused.length, 1)
  assert.match(refused[0].result.error.message, /2 deep at most/)
})

test('the server is killed while a nested loop works: the loop goes on where it was, and each call runs once', async t => {
  const pool = await trial(t)
  await pool.worker()
  const log = path.join(pool.dir, 'log'), go = path.join(pool.dir, 'go')
  const steps = sh(`echo 0 >> ${log}`) + sh(`echo 1 >> ${log}; until [ -e ${go} ]; do sleep 0.02; done`) + sh(`echo 2 >> ${log}`)
  const run = await pool.run(tool('trial_delegate', { prompt: steps }) + sh(`echo 3 >> ${log}`))
  for (let i = 0; i < 3; i++) {
    await until('the nested loop is in its second step', () => lines(log).length >= 2)
    await pool.crash()
    if (i === 2) fs.writeFileSync(go, '')
    await pool.restart()
  }
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.deepEqual(lines(log), ['0', '1', '2', '3'])
  const { running, completed } = checkEvents(await run.events())
  assert.equal(running.size, 5)
  assert.equal(completed.size, 5)
})

test('cancelling a run ends its nested loops and what they run on the worker', async t => {
  const pool = await trial(t)
  await pool.worker()
  const log = path.join(pool.dir, 'log')
  const run = await pool.run(tool('trial_delegate', { prompt: sh(`echo began >> ${log}; sleep 600; echo ended >> ${log}`) }))
  await until('the nested call runs', () => lines(log).length === 1)
  assert.equal((await run.cancel()).status, 200)
  assert.equal((await run.end()).status, 'CANCELLED')
  assert.equal((await (await pool.run(sh(`echo next >> ${log}`))).end()).status, 'FINISHED')
  assert.deepEqual(lines(log), ['began', 'next'])
  const { running, completed } = checkEvents(await run.events())
  assert.equal(running.size, 2)
  assert.equal(completed.size, 2, 'both calls are told as ended')
})

test('a server that stops while nested loops work ends soon, and the loops go on after its start', async t => {
  const pool = await trial(t)
  await pool.worker()
  const log = path.join(pool.dir, 'log'), go = path.join(pool.dir, 'go')
  const inner = sh(`echo 0 >> ${log}; until [ -e ${go} ]; do sleep 0.02; done`) + sh(`echo 1 >> ${log}`)
  const run = await pool.run(tool('trial_delegate', { prompt: tool('trial_delegate', { prompt: inner }) }) + sh(`echo 2 >> ${log}`))
  await until('the innermost loop works', () => lines(log).length === 1)
  const began = Date.now()
  const { code } = await pool.stop()
  assert.equal(code, 0, pool.server.stderr.slice(-2000))
  assert.ok(Date.now() - began < 10000, 'it does not wait for the loops')
  fs.writeFileSync(go, '')
  await pool.restart()
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.deepEqual(lines(log), ['0', '1', '2'])
})

test('the worker is lost while nested loops work: their calls are interrupted, and the loops go on', async t => {
  const pool = await trial(t)
  const w = await pool.worker({ workerId: 'w-1' })
  const log = path.join(pool.dir, 'log')
  const run = await pool.run(tool('trial_delegate', { prompt: sh(`echo 0 >> ${log}; sleep 600`) + sh(`echo 1 >> ${log}`) }) + sh(`echo 2 >> ${log}`))
  await until('the nested loop works', () => lines(log).length === 1)
  await w.kill('SIGKILL')
  await w.again()
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.deepEqual(lines(log), ['0', '1', '2'])
})
