// The processes of a session are kept apart from the machine, and nothing of them outlives it: through real processes.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { randomUUID } from 'node:crypto'
import { atEnd, bullpen, git, programs, run, sh, until } from './lib.mjs'

// Processes of the machine whose command line has the word. It never is in ours.
function found(word) {
  return fs.readdirSync('/proc').filter(d => /^\d+$/.test(d)).filter(pid => {
    try { return fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(word) && !/^\S+ \(.*\) Z/.test(fs.readFileSync(`/proc/${pid}/stat`, 'latin1')) } catch { return false }
  }).map(Number)
}
function endAll(t, word) { atEnd(t, () => { for (const pid of found(word)) process.kill(pid, 'SIGKILL') }) }

// One that wiped its environment and left the group, and one that forked twice on top of that.
const survivors = word => [
  `(env -i setsid sh -c 'while :; do sleep 1; done' ${word} >/dev/null 2>&1 &)`,
  `(env -i sh -c '(setsid sh -c "while :; do sleep 1; done" ${word} &) &' >/dev/null 2>&1 &)`,
].join('\n') + '\n'

const levels = ['namespace', 'process']
// Where the machine has no namespaces to give, the worker says so and goes on.
async function boxed(t, pool, level, options = {}) {
  const w = await pool.worker({ ...options, args: level === 'namespace' ? [] : [`--isolation=${level}`] })
  if (level === 'namespace' && /worker\.isolation level=/.test(w.stderr)) { t.skip('no namespaces here'); return null }
  return w
}

for (const level of levels) {
  test(`${level}: what wiped its environment and forked twice is gone after the session's end`, async t => {
    const pool = await bullpen(t)
    if (!await boxed(t, pool, level)) return
    const word = `word-${randomUUID()}`
    endAll(t, word)
    const r = await pool.run(sh(survivors(word)) + sh('echo on'))
    assert.equal((await r.end()).status, 'FINISHED')
    await until('both run on while the session is open', () => found(word).length >= 2)
    // The worker is taken over by a run of another agent, which ends the session.
    assert.equal((await (await pool.run(sh('echo other'))).end()).status, 'FINISHED')
    assert.deepEqual(found(word), [])
  })

  for (const signal of ['SIGINT', 'SIGKILL'])
    test(`${level}: and after the worker's ${signal}`, async t => {
      const pool = await bullpen(t)
      const w = await boxed(t, pool, level)
      if (!w) return
      const word = `word-${randomUUID()}`
      endAll(t, word)
      await pool.run(sh(survivors(word) + 'exec sleep 300'))
      await until('both run', () => found(word).length >= 2)
      await w.kill(signal)
      await until('both are gone', () => found(word).length === 0)
    })
}

test('namespace: a session has its own /proc, /tmp and ~, and the machine keeps what it had', async t => {
  const pool = await bullpen(t)
  const home = path.join(pool.dir, 'home')
  fs.mkdirSync(home)
  fs.writeFileSync(path.join(home, 'kept'), 'as it was\n')
  const w = await boxed(t, pool, 'namespace', { env: { HOME: home, CURSOR_WORKER_SESSION_SHARE: '' } })
  if (!w) return
  const name = `bullpen-${randomUUID()}`
  const outside = path.join('/tmp', name)
  atEnd(t, () => fs.rmSync(outside, { force: true }))
  const r = await pool.run(sh(`echo x > /tmp/${name} && mkdir /tmp/d && echo changed > ~/kept && echo new > ~/fresh && cat ~/kept > seen.txt`, true)
    + sh(`test -e /tmp/${name} && test -d /tmp/d && grep -q changed ~/kept`, true)
    + sh(`! ls /proc/${w.pid} && ! cat /proc/${w.pid}/environ && ! kill -0 ${w.pid} && ! cat /proc/1/environ`, true)
    + sh('git config --global user.name "of the session" && git log --oneline && cat /proc/1/comm', true))
  const end = await r.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  assert.ok(!fs.existsSync(outside))
  assert.equal(fs.readFileSync(path.join(home, 'kept'), 'utf8'), 'as it was\n')
  assert.ok(!fs.existsSync(path.join(home, 'fresh')))
  assert.ok(!fs.existsSync(path.join(home, '.gitconfig')))
  assert.equal(await (await pool.origin()).show(end.git.branches[0].branch, 'seen.txt'), 'changed')
})

test('namespace: --session-home=shared and --session-share leave the real folders', async t => {
  const pool = await bullpen(t)
  const home = path.join(pool.dir, 'home')
  fs.mkdirSync(path.join(home, 'cache'), { recursive: true })
  const w = await boxed(t, pool, 'namespace', { pool: 'a', env: { HOME: home, CURSOR_WORKER_SESSION_SHARE: path.join(home, 'cache') } })
  if (!w) return
  assert.equal((await (await pool.run(sh('echo x > ~/cache/file && echo x > ~/other', true), { pool: 'a' })).end()).status, 'FINISHED')
  assert.ok(fs.existsSync(path.join(home, 'cache/file')))
  assert.ok(!fs.existsSync(path.join(home, 'other')))
  await pool.worker({ pool: 'b', env: { HOME: home, CURSOR_WORKER_SESSION_SHARE: home, CURSOR_WORKER_SESSION_HOME: 'shared' } })
  assert.equal((await (await pool.run(sh('echo x > ~/other', true), { pool: 'b' })).end()).status, 'FINISHED')
  assert.ok(fs.existsSync(path.join(home, 'other')))
})

test('namespace: a workspace that is a linked worktree keeps its commits, in a checkout below ~', async t => {
  const pool = await bullpen(t)
  const home = path.join(pool.dir, 'home')
  fs.mkdirSync(home)
  const origin = await pool.origin()
  await origin.clone(path.join(home, 'main'))
  await git(path.join(home, 'main'), 'worktree', 'add', '-q', '--detach', path.join(home, 'linked'))
  const w = await boxed(t, pool, 'namespace', { dir: path.join(home, 'linked'), env: { HOME: home, CURSOR_WORKER_SESSION_SHARE: '' } })
  if (!w) return
  const end = await (await pool.run(sh('echo x > made.txt && touch ~/fresh', true))).end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  const branch = end.git.branches[0].branch
  assert.equal(await origin.show(branch, 'made.txt'), 'x')
  assert.equal(await git(path.join(home, 'main'), 'branch', '--list', branch), '', 'the clone behind it has nothing of it')
  assert.ok(!fs.existsSync(path.join(home, 'fresh')))
})

test('--isolation=process and none run commands, and one line says what there is not', async t => {
  const pool = await bullpen(t)
  for (const level of ['process', 'none']) {
    const w = await pool.worker({ pool: level, args: [`--isolation=${level}`] })
    assert.equal(w.stderr.match(/worker\.isolation/g)?.length, 1, w.stderr)
    assert.match(w.stderr, new RegExp(`worker\\.isolation level=${level} reason=`))
    const end = await (await pool.run(sh('echo it ran > out.txt', true), { pool: level })).end()
    assert.equal(end.status, 'FINISHED', JSON.stringify(end))
    assert.equal(await (await pool.origin()).show(end.git.branches[0].branch, 'out.txt'), 'it ran')
  }
})

test('bad values of the flags and their variables: one line, exit 2', async t => {
  const cases = [
    [['--isolation=jail'], {}, /isolation jail is not known: .*namespace, process or none/],
    [['--session-memory', '2X'], {}, /session memory 2X/], [['--session-memory=1K'], {}, /at least 16M/],
    [['--session-cpus', 'many'], {}, /session cpus many/], [['--session-cpus=0'], {}, /at least 0\.01/],
    [['--session-pids', '1'], {}, /session pids 1/], [['--session-home', 'mine'], {}, /session home mine/],
    [['--session-share', '/nowhere/at/all'], {}, /session-share \/nowhere\/at\/all/],
    [[], { CURSOR_WORKER_ISOLATION: 'jail' }, /isolation jail/], [[], { CURSOR_WORKER_SESSION_MEMORY: 'x' }, /session memory x/],
    [[], { CURSOR_WORKER_SESSION_CPUS: '-1' }, /session cpus -1/], [[], { CURSOR_WORKER_SESSION_PIDS: '1.5' }, /session pids 1\.5/],
    [[], { CURSOR_WORKER_SESSION_HOME: '' , CURSOR_WORKER_SESSION_SHARE: '/nowhere' }, /\/nowhere is not a directory/],
  ]
  for (const [args, env, pattern] of cases) {
    const p = await run(t, programs.agent, ['worker', 'start', '--pool', ...args], { env: { CURSOR_API_KEY: 'k', ...env } })
    assert.equal(p.code, 2, `${args} ${JSON.stringify(env)}: ${p.stderr}`)
    assert.match(p.stderr, pattern)
    assert.equal(p.stderr.trim().split('\n').length, 1, p.stderr)
  }
})

test('limits that cannot be kept are refused at the start', async t => {
  const p = await run(t, programs.agent, ['worker', 'start', '--pool', '--isolation=none', '--session-memory=2G'], { env: { CURSOR_API_KEY: 'k' } })
  assert.equal(p.code, 1, p.stderr)
  assert.match(p.stderr, /limits need/)
})

test('what a session of root installs or breaks on the machine ends with it', async t => {
  if (process.getuid() !== 0) return
  const pool = await bullpen(t)
  const w = await boxed(t, pool, 'namespace', {})
  if (!w) return
  const mark = path.basename(pool.dir)
  const places = ['/etc', '/usr/local/bin', '/var/lib', '/opt', '/srv'].filter(d => fs.existsSync(d)).map(d => path.join(d, mark))
  const r = await (await pool.run(sh(`for f in ${places.join(' ')}; do echo mine > $f && test "$(cat $f)" = mine || exit 1; done
    mv /etc/hostname /etc/hostname.away 2>/dev/null; touch /${mark} && test -e /etc/passwd && id`, true))).end()
  assert.match(r.result, /^1 of 1/, JSON.stringify(r))
  for (const f of [...places, `/${mark}`, '/etc/hostname.away']) assert.ok(!fs.existsSync(f), f)
  await w.kill('SIGTERM')
  const shared = await pool.worker({ name: 'shared', args: ['--session-home', 'shared'] })
  assert.match((await (await pool.run(sh(`echo x > /var/tmp/../lib/${mark} && rm /var/lib/${mark}`, true))).end()).result, /^1 of 1/)
  assert.ok(shared.alive)
})
