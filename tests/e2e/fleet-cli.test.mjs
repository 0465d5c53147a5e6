// agent fleet, agent why and agent worker controller: what an operator does in a terminal, and a controller that knows nothing but
// the fleet API; and the script of docs/ that does the same.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { atEnd, bullpen, programs, Proc, root, sh, tool, until } from './lib.mjs'
import { Peer } from './peer.mjs'

const REPO = 'https://github.com/acme/web'
const ended = async p => { await p.exited; return p }
const fleet = (pool, ...args) => ended(pool.cli(['fleet', ...args], { key: pool.poolKey }))

test('fleet shows workers, pools and the queue with its reasons; why says the same to its owner', async t => {
  const pool = await bullpen(t)
  const w = await Peer.connected(t, pool, { workerId: 'build-7', hello: { name: 'build-7', pool: 'gpu', labels: [{ key: 'os', value: 'linux' }] } })
  const busy = await pool.run(tool('act', { text: '1' }), { repo: REPO, pool: 'gpu' })
  await w.expectCall('act')
  const waits = await pool.run(tool('act', { text: '2' }), { repo: REPO, pool: 'gpu', extra: { labels: ['os=bsd'] } })
  const workers = await fleet(pool, 'workers')
  assert.equal(workers.code, 0, workers.stderr)
  assert.match(workers.stdout, /^build-7 +gpu +in use +acme\/web +\d+ s +bc-\S+ +os=linux$/m)
  assert.match((await fleet(pool, 'pools')).stdout, /^gpu +acme\/web +1 +1 +0 /m)
  const queue = (await fleet(pool, 'queue')).stdout
  assert.match(queue, new RegExp(`^${waits.agentId} +\\d+ s +gpu +acme/web +dev@example\\.test +os=bsd$`, 'm'))
  assert.match(queue, /no worker of pool gpu has os=bsd \(label_mismatch, since /)
  assert.match(queue, /build-7\n.*it lacks the label os=bsd\n.*it is busy with another agent/)
  const summary = (await fleet(pool)).stdout
  assert.match(summary, /^1 worker connected, 1 in use, 0 idle \(100% used\)$/m)
  const one = await fleet(pool, 'why', waits.agentId)
  assert.match(one.stdout, /label_mismatch/)
  assert.match((await fleet(pool, 'why', busy.agentId)).stdout, /not waiting/)
  const lines = (await fleet(pool, 'queue', '--json')).stdout.trim().split('\n').map(l => JSON.parse(l))
  assert.deepEqual([lines.length, lines[0].id, lines[0].wait.code, lines[0].wait.nearest[0].workerId], [1, waits.agentId, 'label_mismatch', 'build-7'])
  const why = await ended(pool.cli(['why', waits.agentId]))
  assert.match(why.stdout, /^CREATING, it waits: no worker of pool gpu has os=bsd/m)
  assert.match(why.stdout, /^  a worker\n    it lacks the label os=bsd$/m, 'a member learns no names')
  assert.match((await ended(pool.cli(['why', busy.agentId]))).stdout, /^RUNNING on worker build-7; it does not wait$/m)
  const refused = await ended(pool.cli(['fleet', 'workers']))
  assert.deepEqual([refused.code, refused.stderr.split('\n').length], [3, 2])
})

test('a worker that is drained ends its run, gets nothing new, and exits with 0; an idle one exits at once', async t => {
  const pool = await bullpen(t)
  const busy = await pool.worker({ workerId: 'busy' }), go = path.join(pool.dir, 'go')
  const r = await pool.run(sh(`touch ${go}.here; until [ -e ${go} ]; do sleep 0.05; done`))
  await until('it runs', () => fs.existsSync(`${go}.here`))
  assert.match((await fleet(pool, 'drain', 'busy')).stdout, /^busy gets nothing new/)
  const next = await pool.run(sh('true'))
  assert.equal((await pool.http('GET', '/v0/private-workers/busy', { key: pool.poolKey })).json.worker.isDraining, true)
  const { wait } = await next.get()
  assert.deepEqual([wait.code, wait.text], ['no_workers', 'no worker is connected to pool default (1 is stopping)'])
  fs.writeFileSync(go, '')
  assert.equal((await r.end()).status, 'FINISHED')
  await busy.exited
  assert.equal(busy.code, 0, busy.stderr)
  const other = await pool.worker({ workerId: 'other' })
  assert.equal((await next.end()).status, 'FINISHED')
  await fleet(pool, 'drain', 'other')
  await other.exited
  assert.equal(other.code, 0, other.stderr)
  assert.equal((await fleet(pool, 'drain', 'other')).code, 4)
})

test('a worker that is drained is drained also after its connection was lost; its next process is not', async t => {
  const pool = await bullpen(t)
  const w = await Peer.connected(t, pool, { workerId: 'flaky' })
  const is = async () => (await pool.http('GET', '/v0/private-workers/flaky', { key: pool.poolKey })).json.worker?.isDraining
  const r = await pool.run(tool('act', { text: '1' }), { repo: 'https://github.com/acme/web' })
  const call = await w.expectCall('act')
  await fleet(pool, 'drain', 'flaky')
  w.drop()
  await w.connect()
  assert.equal(await is(), true)
  const next = await pool.run(tool('act', { text: '2' }), { repo: 'https://github.com/acme/web' })
  w.answer(call)
  assert.equal((await r.end()).status, 'FINISHED')
  await until('it is told to exit', () => w.released?.exit)
  assert.equal((await next.get()).wait.code, 'no_workers')
  w.drop()
  w.becomeNewProcess()
  await until('the id is free', async () => { await w.connect(); return !w.refused })
  assert.ok(!await is())
  w.answer(await w.expectCall('act'))
  assert.equal((await next.end()).status, 'FINISHED')
})

test('--watch shows it again and again until Ctrl-C, also when the server was away', async t => {
  const pool = await bullpen(t)
  const p = pool.cli(['fleet', 'workers', '--watch'], { key: pool.poolKey })
  await p.says(/^WORKER/m)
  await Peer.connected(t, pool, { workerId: 'late', hello: { name: 'late' } })
  await p.says(/^late +default +idle/m)
  // A server that goes away is waited for.
  await pool.crash()
  await p.says(/^error: /m, 'stderr')
  await pool.restart()
  await Peer.connected(t, pool, { workerId: 'later', hello: { name: 'later' } })
  await p.says(/^later +default +idle/m)
  await p.kill('SIGINT')
  assert.equal(p.code, 0)
})

// The company's program: it writes down what it was told, and starts a worker in the background as `then` says.
async function hook(pool, then) {
  const log = path.join(pool.dir, 'hook.log'), file = path.join(pool.dir, 'hook.sh')
  fs.writeFileSync(file, `#!/bin/sh\necho "$CURSOR_REQUEST_ID $CURSOR_POOL $CURSOR_AGENT_WORKER_ID wake=$CURSOR_WAKE key=\${CURSOR_API_KEY:+set} token=\${CURSOR_AUTH_TOKEN:+set} repo=$CURSOR_REPO_OWNER/$CURSOR_REPO_NAME" >> ${log}\necho hello from the hook\n${then}\n`, { mode: 0o755 })
  return { file, told: () => fs.existsSync(log) ? fs.readFileSync(log, 'utf8').trim().split('\n') : [] }
}

async function controller(t, pool, args, { env = {} } = {}) {
  const p = new Proc(t, programs.agent, ['worker', 'controller', ...args], { env: { CURSOR_API_KEY: pool.poolKey, CURSOR_API_ENDPOINT: pool.url, ...env } })
  await until('the controller runs', () => p.stderr.includes('controller.start') || p.code !== undefined)
  return p
}
// A hook that starts a worker of ours; it goes by what the controller set. The worker is ended with the test.
async function spawning(t, pool, more = '') {
  const origin = await pool.origin(), work = path.join(pool.dir, 'hook-work')
  const data = path.join(pool.dir, 'hook-data'), pids = path.join(pool.dir, 'pids')
  atEnd(t, async () => {
    const all = fs.existsSync(pids) ? fs.readFileSync(pids, 'utf8').split('\n').filter(Boolean) : []
    for (const pid of all) try { process.kill(Number(pid), 'SIGKILL') } catch { /* gone */ }
    await until('the spawned workers are gone', () => all.every(pid => !fs.existsSync(`/proc/${pid}/exe`)))
  })
  return hook(pool, `[ -d ${work}-$CURSOR_AGENT_WORKER_ID ] || git clone -q ${origin.url} ${work}-$CURSOR_AGENT_WORKER_ID\nnohup ${programs.agent} worker --pool "$CURSOR_POOL" --worker-dir ${work}-$CURSOR_AGENT_WORKER_ID --data-dir ${data}-$CURSOR_AGENT_WORKER_ID ${more} start > ${pool.dir}/spawned.log 2>&1 &\necho $! >> ${pids}`)
}

test('a controller claims what waits and starts a worker for it, once a request', async t => {
  const pool = await bullpen(t)
  const h = await spawning(t, pool)
  await controller(t, pool, ['--spawn', h.file, '--pool', 'gpu'])
  await until('the pool is known', async () => (await pool.http('GET', '/v0/private-workers/pools', { key: pool.poolKey })).json.pools.some(p => p.poolName === 'gpu'))
  const r = await pool.run(sh('echo done by a spawned worker'), { pool: 'gpu' })
  assert.equal((await r.end()).status, 'FINISHED')
  assert.equal(h.told().length, 1)
  assert.match(h.told()[0], new RegExp(`^${r.agentId} gpu ctrl-[0-9a-f-]{36} wake= key=set token= repo=acme/web$`))
  assert.match((await pool.http('GET', '/v0/private-workers', { key: pool.poolKey })).json.workers[0].workerId, /^ctrl-/)
})

test('with session tokens the program gets a token for its claim, and no key', async t => {
  const pool = await bullpen(t)
  const h = await spawning(t, pool, '--auth-token "$CURSOR_AUTH_TOKEN"')
  await controller(t, pool, ['--spawn', h.file, '--pool', 'gpu', '--session-token'])
  await until('the pool is known', async () => (await pool.http('GET', '/v0/private-workers/pools', { key: pool.poolKey })).json.pools.length)
  const r = await pool.run(sh('true'), { pool: 'gpu' })
  assert.equal((await r.end()).status, 'FINISHED')
  assert.match(h.told()[0], / key= token=set /)
})

test('a program that fails is tried again, and then the run ends with what it said', { timeout: 120000 }, async t => {
  const pool = await bullpen(t)
  const h = await hook(pool, 'echo no machine is left >&2; exit 7')
  const p = await controller(t, pool, ['--spawn', h.file, '--all-pools'])
  const r = await pool.run(sh('true'))
  const end = await r.end()
  assert.equal(end.status, 'ERROR')
  assert.equal(end.error.code, 'worker_start_failed')
  assert.match(end.error.message, /^The pool could not start a worker for this agent: .*hook\.sh ended with status 7: no machine is left$/)
  assert.equal(h.told().length, 3)
  assert.match(p.stderr, /controller\.hook\.output .*hello from the hook/)
})

test('warm mode keeps workers idle and never claims', async t => {
  const pool = await bullpen(t)
  const h = await spawning(t, pool)
  const p = await controller(t, pool, ['--spawn', h.file, '--pool', 'gpu', '--warm-idle', '2'])
  const idle = async () => (await pool.http('GET', '/v0/private-workers', { key: pool.poolKey })).json.workers.filter(w => !w.isInUse).length
  await until('two are idle', async () => await idle() === 2, 40)
  const r = await pool.run(sh('true'), { pool: 'gpu' })
  assert.equal((await r.end()).status, 'FINISHED')
  await until('there are two again', async () => await idle() === 2, 90)
  assert.ok(h.told().every(l => /^ ?gpu ctrl-.* wake= /.test(l)), h.told().join('\n'))
  await p.kill('SIGTERM')
  assert.equal(p.code, 0)
  assert.ok(await idle() >= 2, 'the workers stay')
})

test('a hibernated worker is woken for a follow-up; one that is gone is given up at once', async t => {
  const pool = await bullpen(t)
  // The process that goes may still hold its folder when it is woken.
  const h = await spawning(t, pool, '--idle-release-timeout 1 --wait')
  const register = await pool.http('POST', '/v0/private-workers/pools', { key: pool.poolKey, body: { scope: 'team', poolName: 'gpu', repoOwner: 'acme', repoName: 'web', workerReadyTimeoutSeconds: 60 } })
  assert.equal(register.status, 200, register.text)
  await controller(t, pool, ['--spawn', h.file, '--pool', 'gpu'])
  const first = await pool.run(sh('echo 1'), { pool: 'gpu' })
  assert.equal((await first.end()).status, 'FINISHED')
  await until('the worker has gone', async () => (await pool.http('GET', '/v0/private-workers', { key: pool.poolKey })).json.totalCount === 0, 40)
  const again = await first.followUp(sh('echo 2'))
  assert.equal((await again.end()).status, 'FINISHED')
  const [one, two] = h.told()
  assert.match(two, / wake=1 /)
  assert.equal(one.split(' ')[2], two.split(' ')[2], 'the same worker id')
})

test('a key that may not use the fleet ends the controller with 3, a bad command line with 2', async t => {
  const pool = await bullpen(t)
  const p = await controller(t, pool, ['--spawn', '/bin/true', '--pool', 'gpu'], { env: { CURSOR_API_KEY: pool.userKey } })
  await p.exited
  assert.equal(p.code, 3)
  assert.match(p.stderr, /^error: .*does not accept the credential/m)
  for (const [args, pattern] of [[[], /--spawn PATH is required/], [['--spawn', '/bin/true'], /--pool NAME or --all-pools/], [['--spawn', '/bin/true', '--pool', 'a', '--warm-idle', '0'], /from 1 to 10000/]]) {
    const bad = await ended(new Proc(t, programs.agent, ['worker', 'controller', ...args], { env: { CURSOR_API_KEY: 'x' } }))
    assert.equal(bad.code, 2)
    assert.match(bad.stderr, pattern)
  }
})

test('the controller of docs/, which knows nothing but the description, starts workers too', async t => {
  const pool = await bullpen(t)
  const h = await spawning(t, pool)
  const p = new Proc(t, 'python3', [path.join(root, 'docs/controller.py'), 'gpu', h.file], { env: { CURSOR_API_KEY: pool.poolKey, CURSOR_API_ENDPOINT: pool.url } })
  await until('the pool is known', async () => (await pool.http('GET', '/v0/private-workers/pools', { key: pool.poolKey })).json.pools.length || !p.alive)
  const r = await pool.run(sh('true'), { pool: 'gpu' })
  assert.equal((await r.end()).status, 'FINISHED', p.stdout + p.stderr)
  assert.match(p.stdout, new RegExp(`^${r.agentId}: starting ctrl-`, 'm'))
})
