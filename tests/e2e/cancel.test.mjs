// Cancelling: wherever a run is, it ends at once, what it started on the worker is gone, what comes late is dropped, and
// agent and worker go on with the next run.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { execFileSync } from 'node:child_process'
import { bullpen, sh, file, tool, atEnd, checkEvents, until } from './lib.mjs'
import { Peer } from './peer.mjs'

// A git that stops at a subcommand while a file hold-SUBCOMMAND is there, for the PATH of a worker.
function slowGit(dir) {
  const bin = path.join(dir, 'slow-git')
  const real = execFileSync('sh', ['-c', 'command -v git'], { encoding: 'utf8' }).trim()
  fs.mkdirSync(bin)
  fs.writeFileSync(path.join(bin, 'git'), `#!/bin/sh
for a in "$@"; do
  if [ -e "${bin}/hold-$a" ]; then
    echo $$ >> "${bin}/held-$a"
    while [ -e "${bin}/hold-$a" ]; do sleep 0.02; done
  fi
done
exec "${real}" "$@"
`, { mode: 0o755 })
  return {
    env: { PATH: `${bin}:${process.env.PATH}` },
    hold: what => fs.writeFileSync(path.join(bin, `hold-${what}`), ''),
    release: what => fs.rmSync(path.join(bin, `hold-${what}`)),
    held: what => until(`git ${what} is held`, () => fs.existsSync(path.join(bin, `held-${what}`)) && Number(fs.readFileSync(path.join(bin, `held-${what}`), 'utf8').trim().split('\n')[0])),
  }
}

// Gone, or dead and only not yet buried.
function gone(pid) {
  try { return fs.readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').pop().startsWith('Z') } catch { return true }
}

async function cancelled(run) {
  const r = await run.cancel()
  assert.equal(r.status, 200, r.text)
  assert.deepEqual(r.json, { id: run.id })
  const now = await run.get()
  assert.equal(now.status, 'CANCELLED', 'on 200 it is cancelled already')
  const again = await run.cancel()
  assert.equal(again.status, 409)
  assert.equal(again.json.error.code, 'run_not_cancellable')
  return now
}

// The run stays as it ended; its agent and its worker are of use again.
async function goesOn(pool, run) {
  const events = await run.events()
  checkEvents(events)
  assert.equal(events.filter(e => e.event === 'result').length, 1)
  assert.equal(events.find(e => e.event === 'result').data.status, 'CANCELLED')
  const next = await run.followUp(sh('echo next > next.txt'))
  const other = await pool.run(sh('echo other > other.txt'))
  const [a, b] = await Promise.all([next.end(), other.end()])
  assert.equal(a.status, 'FINISHED', JSON.stringify(a))
  assert.equal(b.status, 'FINISHED', JSON.stringify(b))
  const origin = await pool.origin()
  assert.equal(await origin.show(a.git.branches[0].branch, 'next.txt'), 'next')
  assert.equal(await origin.show(b.git.branches[0].branch, 'other.txt'), 'other')
  assert.equal((await run.get()).status, 'CANCELLED')
  assert.deepEqual(await run.events(), events, 'nothing was added to the log after the end')
}

test('a run that waits in the queue is cancelled and never reaches a worker', async t => {
  const pool = await bullpen(t)
  const log = path.join(pool.dir, 'log')
  const run = await pool.run(sh(`echo never >> ${log}`))
  await cancelled(run)
  await pool.worker()
  await goesOn(pool, run)
  assert.ok(!fs.existsSync(log))
})

test('a run is cancelled while its workspace is prepared', async t => {
  const pool = await bullpen(t)
  const git = slowGit(pool.dir)
  await pool.worker({ env: git.env, args: ['--isolation=process'] })
  const log = path.join(pool.dir, 'log')
  git.hold('--symref')
  const run = await pool.run(sh(`echo never >> ${log}`))
  const pid = await git.held('--symref')
  assert.equal((await run.get()).status, 'CREATING')
  await cancelled(run)
  await until('the git command is gone', () => gone(pid), 2)
  git.release('--symref')
  await goesOn(pool, run)
  assert.ok(!fs.existsSync(log))
})

test('a run is cancelled during a command: it and all it started are gone within two seconds', async t => {
  const pool = await bullpen(t)
  await pool.worker({ args: ['--isolation=process'] }) // pids are those of the machine
  const pids = path.join(pool.dir, 'pids')
  const run = await pool.run(sh([
    `echo $$ >> ${pids}`,
    `setsid sh -c 'echo $$ >> ${pids}; exec sleep 601' &`,
    `(setsid sh -c 'setsid sh -c "trap : TERM INT HUP; echo \\$\\$ >> ${pids}; while :; do sleep 1; done" & echo $! > /dev/null' &)`,
    `(nohup sleep 602 & echo $! >> ${pids})`,
    'sleep 600',
  ].join('\n')) + sh(`echo never >> ${pids}.never`))
  const started = await until('all four run', () => {
    const list = fs.existsSync(pids) ? fs.readFileSync(pids, 'utf8').trim().split('\n').map(Number) : []
    return list.length === 4 && list
  })
  atEnd(t, () => { for (const pid of started) if (!gone(pid)) process.kill(pid, 'SIGKILL') })
  assert.ok(started.every(pid => !gone(pid)))
  await cancelled(run)
  await until(`all are gone: ${started}`, () => started.every(gone), 2)
  const { completed } = checkEvents(await run.events())
  assert.deepEqual([...completed.values()].map(c => c.result.error.code), ['cancelled'])
  await goesOn(pool, run)
  assert.ok(!fs.existsSync(`${pids}.never`))
})

test('a run is cancelled between its steps: no further step begins', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const log = path.join(pool.dir, 'log')
  for (const after of [1, 3]) {
    const run = await pool.run(Array.from({ length: 30 }, (_, i) => sh(`echo ${i} >> ${log}-${after}`)).join(''))
    const stream = await run.stream()
    await stream.until('some steps are done', () => stream.events.filter(e => e.event === 'tool_call' && e.data.status === 'completed').length >= after)
    await cancelled(run)
    await stream.all()
    await goesOn(pool, run)
    const done = fs.readFileSync(`${log}-${after}`, 'utf8').trim().split('\n').map(Number)
    assert.deepEqual(done, done.map((_, i) => i), 'no step twice, none left out')
    assert.ok(done.length < 30, 'it was cut short')
    const { completed } = checkEvents(stream.events)
    assert.ok(done.length <= completed.size, `${done.length} steps were performed, ${completed.size} are told`)
  }
})

test('a run is cancelled while its branch is published', async t => {
  const pool = await bullpen(t)
  const git = slowGit(pool.dir)
  await pool.worker({ env: git.env, args: ['--isolation=process'] })
  const origin = await pool.origin()
  git.hold('push')
  const run = await pool.run(file('a.txt', 'A'))
  const pid = await git.held('push')
  assert.equal((await run.get()).status, 'RUNNING')
  await cancelled(run)
  await until('the git command is gone', () => gone(pid), 2)
  git.release('push')
  assert.deepEqual(await origin.branches(), ['main'])
  await goesOn(pool, run)
})

test('a run that has ended cannot be cancelled', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const run = await pool.run(file('a.txt', 'A'))
  const before = await run.end()
  const r = await run.cancel()
  assert.equal(r.status, 409)
  assert.equal(r.json.error.code, 'run_not_cancellable')
  assert.deepEqual(await run.get(), before)
})

test('what a worker still says about a cancelled call is dropped', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool)
  const run = await pool.run(tool('act', {}), { repo: 'https://github.com/acme/web' })
  const call = await peer.expectCall('act')
  peer.say(call, 'before\n')
  const stream = await run.stream()
  await stream.until('output is told', e => e.event === 'interaction_update' && e.data.event?.data === 'before\n')
  await cancelled(run)
  await stream.all()
  await until('the worker is told', () => peer.cancelled.includes(call.call_id))
  peer.say(call, 'after\n')
  peer.answer(call, { result: { late: true } })
  await until('the late result is acknowledged', () => peer.acknowledged.has(call.call_id))
  const next = await run.followUp(tool('act', { n: 2 }))
  peer.answer(await peer.expectCall('act'), { result: { n: 2 } })
  assert.equal((await next.end()).status, 'FINISHED')
  const events = await run.events()
  assert.deepEqual(events.filter(e => e.id), stream.events.filter(e => e.id))
  assert.ok(!JSON.stringify(events).includes('late') && !JSON.stringify(events).includes('after\\n'))
  const { completed } = checkEvents(events)
  assert.equal(completed.get(call.call_id).result.error.code, 'cancelled')
})

test('a cancellation holds although the server is killed right after it', async t => {
  const pool = await bullpen(t)
  await pool.worker({ args: ['--isolation=process'] }) // pids are those of the machine
  const pids = path.join(pool.dir, 'pids')
  const run = await pool.run(sh(`echo $$ >> ${pids}; sleep 600`) + sh(`echo never >> ${pids}`))
  const pid = await until('the command runs', () => fs.existsSync(pids) && Number(fs.readFileSync(pids, 'utf8')))
  const r = await run.cancel()
  assert.equal(r.status, 200)
  await pool.crash()
  await pool.restart()
  await until('the command is gone', () => gone(pid))
  await goesOn(pool, run)
  assert.equal(fs.readFileSync(pids, 'utf8'), `${pid}\n`)
})
