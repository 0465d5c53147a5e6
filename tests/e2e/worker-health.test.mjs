// A worker proves itself before it takes work: what it cannot do it says, and takes nothing until it can.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, run, programs, sh, file, git, until } from './lib.mjs'

const start = (pool, work, data, ...args) => run(pool.t, programs.agent, ['worker', 'start', '--pool', '--worker-dir', work, '--endpoint', pool.url, '--data-dir', data, ...args], { env: { CURSOR_API_KEY: pool.poolKey } })

// The remote of one worker is away: the folder it names is renamed.
async function brokenWorker(pool, args) {
  const dir = path.join(pool.dir, 'broken')
  fs.mkdirSync(dir)
  const origin = await pool.origin()
  fs.cpSync(origin.bare, path.join(dir, 'acme', 'web.git'), { recursive: true })
  const work = path.join(dir, 'work')
  await git(dir, 'clone', '-q', `file://${dir}/acme/web.git`, work)
  fs.renameSync(path.join(dir, 'acme'), path.join(dir, 'away'))
  const w = await pool.worker({ dir: work, name: 'broken', ...args })
  w.heal = () => fs.renameSync(path.join(dir, 'away'), path.join(dir, 'acme'))
  return w
}

test('ten runs beside one broken and one sound worker: ten FINISHED', async t => {
  const pool = await bullpen(t)
  await brokenWorker(pool)
  await pool.worker({ name: 'sound' })
  const runs = await Promise.all(Array.from({ length: 10 }, (_, n) => pool.run(file(`${n}.txt`, `${n}`))))
  for (const r of await Promise.all(runs.map(r => r.end()))) {
    assert.equal(r.status, 'FINISHED', JSON.stringify(r))
    assert.equal(r.worker.name, 'sound')
  }
})

test('a remote that is away makes a worker unfit, with a reason, until it is back', async t => {
  const pool = await bullpen(t)
  const w = await brokenWorker(pool)
  assert.match(w.stderr, /^warning: this worker takes no work until it can: origin \(file:\/\/\S+\) cannot be reached: /m)
  const waiting = await pool.run(file('a.txt', 'A'))
  const r = await until('it waits with the reason', async () => { const r = await waiting.get(); return r.wait?.code === 'all_unfit' && r })
  assert.match(r.wait.text, /broken \(\S+ on \S+\).*origin .* cannot be reached/)
  w.heal()
  const end = await waiting.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  assert.match(w.stderr, /worker\.fit /)
})

test('a remote that moved: a worker that is unfit sees the new address as soon as a person gives it', async t => {
  const pool = await bullpen(t)
  const w = await brokenWorker(pool)
  const waiting = await pool.run(file('a.txt', 'A'))
  await until('it waits with the reason', async () => (await waiting.get()).wait?.code === 'all_unfit')
  const dir = path.join(pool.dir, 'broken', 'moved')
  fs.mkdirSync(dir)
  fs.renameSync(path.join(pool.dir, 'broken', 'away'), path.join(dir, 'acme'))
  await git(w.work, 'remote', 'set-url', 'origin', `file://${dir}/acme/web.git`)
  const end = await waiting.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  assert.match(w.stderr, /worker\.fit /)
  assert.match(await git(dir, '-C', 'acme/web.git', 'branch', '--list'), /cursor\//)
})

test('a remote that goes away while the worker serves: the run goes to another worker, and the failed attempt is told', async t => {
  const pool = await bullpen(t)
  const w = await brokenWorker(pool).then(async w => { w.heal(); await w.says(/worker\.fit /, 'stderr'); return w })
  assert.equal((await (await pool.run(sh('true'))).end()).status, 'FINISHED')
  fs.renameSync(path.join(pool.dir, 'broken', 'acme'), path.join(pool.dir, 'broken', 'away'))
  const first = await pool.run(file('a.txt', 'A'))
  await w.says(/worker\.unfit code=remote_unreachable/, 'stderr')
  await pool.worker({ name: 'sound' })
  const end = await first.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  assert.equal(end.worker.name, 'sound')
  assert.equal(end.attempts.length, 1)
  assert.equal(end.attempts[0].workerName, 'broken')
  assert.match(end.attempts[0].message, /git ls-remote failed/)
})

test('what is fatal ends the start with one line: a damaged checkout, a folder of somebody else', async t => {
  const pool = await bullpen(t)
  const origin = await pool.origin()
  const work = await origin.clone(path.join(pool.dir, 'damaged'))
  fs.writeFileSync(path.join(work, '.git', 'HEAD'), 'nonsense\n')
  const damaged = await start(pool, work, path.join(pool.dir, 'd1'))
  assert.equal(damaged.code, 1)
  assert.match(damaged.stderr, /^error: \S+damaged is not a sound git checkout: .*\n$/)
  if (process.getuid() !== 0) return
  const foreign = await origin.clone(path.join(pool.dir, 'foreign'))
  for (const f of [foreign, path.join(foreign, '.git')]) fs.chownSync(f, 12345, 12345)
  const refused = await start(pool, foreign, path.join(pool.dir, 'd2'))
  assert.equal(refused.code, 1)
  assert.match(refused.stderr, /^error: \S+foreign belongs to another user, so git does not use it; if that is right, run: git config --global --add safe\.directory \S+foreign\n$/)
})

test('a folder that is no checkout, or has no origin, serves requests without a repository, and says so', async t => {
  const pool = await bullpen(t)
  const plain = path.join(pool.dir, 'plain')
  fs.mkdirSync(plain)
  fs.writeFileSync(path.join(plain, 'seed.txt'), 'seed\n')
  const w = await pool.worker({ dir: plain, pool: 'tools' })
  assert.match(w.stderr, /^warning: \S+plain is not a git checkout: this worker serves only requests without a repository$/m)
  const r = await (await pool.run(sh('cat seed.txt; echo mine > seed.txt; echo new > new.txt', true), { repo: null, extra: { env: { type: 'pool', name: 'tools' } } })).end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.equal(fs.readFileSync(path.join(plain, 'seed.txt'), 'utf8'), 'seed\n')
  assert.deepEqual(fs.readdirSync(plain), ['seed.txt'])
  const lone = path.join(pool.dir, 'lone')
  await git(pool.dir, 'init', '-q', lone)
  const x = await pool.worker({ dir: lone })
  assert.match(x.stderr, /^warning: \S+lone has no remote named origin: /m)
})

test('one worker for each folder and for each id: the second is told who has it', async t => {
  const pool = await bullpen(t)
  const w = await pool.worker({ workerId: 'only-me' })
  const second = await start(pool, w.work, path.join(pool.dir, 'other'))
  assert.equal(second.code, 5)
  assert.match(second.stderr, new RegExp(`^error: the folder ${w.work} is served by another worker, process ${w.pid} \\(data folder ${w.data}\\): one worker for each folder\n$`))
  const below = path.join(w.work, 'sub')
  fs.mkdirSync(below)
  assert.equal((await start(pool, below, path.join(pool.dir, 'other2'))).code, 5, 'a folder of the same checkout')
  const clone = await (await pool.origin()).clone(path.join(pool.dir, 'clone'))
  const same = await start(pool, clone, path.join(pool.dir, 'other3'), '--worker-id', 'only-me')
  assert.equal(same.code, 5)
  assert.match(same.stderr, new RegExp(`^error: worker id only-me is in use on this machine by process ${w.pid} `))
  // The locks die with the process, however it dies.
  await w.kill('SIGKILL')
  const third = await pool.worker({ dir: w.work, workerId: 'only-me' })
  assert.equal((await (await pool.run(sh('true'))).end()).status, 'FINISHED')
  assert.ok(third.alive)
})

test('a data folder inside the worker’s folder is refused', async t => {
  const pool = await bullpen(t)
  const work = await (await pool.origin()).clone(path.join(pool.dir, 'work'))
  const p = await start(pool, work, path.join(work, '.data'))
  assert.equal(p.code, 2)
  assert.match(p.stderr, /^error: the data directory \S+ lies inside the worker's folder \S+; give another --data-dir\n$/)
})

test('agent worker debug says what would work, how sessions are kept apart, and what is missing', async t => {
  const pool = await bullpen(t)
  const work = await (await pool.origin()).clone(path.join(pool.dir, 'work'))
  const debug = (...args) => run(t, programs.agent, ['worker', 'debug', '--pool', 'ci', '--worker-dir', work, '--endpoint', pool.url, '--data-dir', path.join(pool.dir, 'none'), ...args], { env: { CURSOR_API_KEY: pool.poolKey } })
  const p = await debug('--json')
  const report = JSON.parse(p.stdout)
  assert.equal(p.code, 0, p.stdout + p.stderr)
  assert.equal(report.ok, true)
  assert.equal(report.worker.pool, 'ci')
  assert.deepEqual(report.labels, [{ key: 'repo', value: 'acme/web' }, { key: 'pool', value: 'ci' }])
  assert.match(report.isolation.level, /^(namespace|process|none)$/)
  assert.match(report.isolation.workspace, /^(overlay|reflink|copy)$/)
  if (report.isolation.level !== 'namespace') assert.notEqual(report.isolation.missing, '')
  for (const name of ['git', 'rg', 'bash', 'space', 'folder', 'remote', 'connectivity', 'auth']) assert.equal(report.checks.find(c => c.name === name)?.status, 'pass', name)
  assert.deepEqual(fs.readdirSync(work).sort(), ['.git', 'README.md'])
  assert.ok(!fs.existsSync(path.join(pool.dir, 'none')), 'nothing is made')
  const text = await debug('--isolation', 'none')
  assert.match(text.stdout, /^Isolation: none$/m)
  fs.renameSync((await pool.origin()).bare, `${(await pool.origin()).bare}.away`)
  const bad = await debug('--api-key', 'nonsense')
  assert.equal(bad.code, 1)
  assert.match(bad.stdout, /^remote: fail: origin \(\S+\) cannot be reached: /m)
  assert.match(bad.stdout, /^auth: fail: the key is not known/m)
  assert.match(bad.stdout, /^OK: no$/m)
  assert.match((await debug('--api-key', pool.userKey)).stdout, /^auth: fail: this is a person's key; pool workers need a service account API key$/m)
  assert.equal((await run(t, programs.agent, ['worker', 'start', '--pool', '--json'], { env: { CURSOR_API_KEY: 'k' } })).code, 2)
})
