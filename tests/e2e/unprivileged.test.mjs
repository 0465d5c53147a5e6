// A worker that is not root, on a machine that allows user namespaces: its sessions are overlays at the seed's own path.
// Only root can start one as another user; others are that user themselves.
import test from 'node:test'
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { randomUUID } from 'node:crypto'
import { bullpen, run, programs, sh, until } from './lib.mjs'

const exec = promisify(execFile)
const isRoot = process.getuid() === 0
const as = (uid, ...more) => isRoot ? ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups', ...more] : []

// The folders of a worker of that user: clone, remote and data folder. What is in `foreign` stays root's.
async function belongs(pool, uid, { files, foreign = [] } = {}) {
  const remote = await pool.origin()
  const work = await remote.clone(path.join(pool.dir, 'work-1'))
  for (const [name, text] of Object.entries(files ?? {})) {
    fs.mkdirSync(path.dirname(path.join(work, name)), { recursive: true })
    fs.writeFileSync(path.join(work, name), text)
  }
  fs.appendFileSync(path.join(work, '.git/info/exclude'), '/cache/\n/made/\n') // what is ignored stays in a session
  fs.mkdirSync(path.join(pool.dir, 'worker-data-1'))
  fs.chmodSync(pool.dir, 0o711)
  if (isRoot)
    await exec('chown', ['-R', `${uid}:${uid}`, work, remote.bare, path.join(pool.dir, 'worker-data-1')])
  for (const name of foreign) fs.chownSync(path.join(work, name), 0, 0)
  return { dir: work, remote, env: { HOME: path.join(pool.dir, 'worker-data-1'), CURSOR_WORKER_SESSION_SHARE: '' } }
}

const show = async (pool, ref, file) =>
  (await exec('git', ['-c', 'safe.directory=*', '-C', (await pool.origin()).bare, 'show', `${ref}:${file}`])).stdout.trim()

// Starts it, and skips the test where the machine allows no overlays to it.
async function start(t, pool, options) {
  const w = await pool.worker({ ...options, args: ['--verbose', ...options.args ?? []] })
  const why = w.stderr.match(/worker\.copies reason=(.*)/)
  if (why) { t.skip(`no overlays here: ${why[1]}`); return null }
  return w
}

// Processes of the machine in whose view something is mounted below the folder.
const seers = dir => fs.readdirSync('/proc').filter(d => /^\d+$/.test(d)).filter(pid => {
  try { return fs.readFileSync(`/proc/${pid}/mountinfo`, 'utf8').includes(dir) } catch { return false }
})

test('a worker that is not root: an overlay where the seed is, published, the seed untouched', async t => {
  const pool = await bullpen(t)
  const folders = await belongs(pool, 65534, { files: { 'cache/deep/file': 'cached\n' } })
  const w = await start(t, pool, { ...folders, through: as(65534) })
  if (!w) return
  const r = await pool.run(sh('pwd > seen.txt; stat -f -c %T . >> seen.txt; cat cache/deep/file >> seen.txt', true)
    + sh('echo changed > README.md; mv cache moved; test -e moved/deep/file; git status --porcelain; ls -la .git', true)
    + sh('id -u >> seen.txt; ! cat /proc/1/environ; ! mount -t tmpfs none /mnt', true))
  const end = await r.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  const branch = end.git.branches[0].branch
  assert.equal(await show(pool, branch, 'seen.txt'), `${w.work}\noverlayfs\ncached\n${isRoot ? 65534 : process.getuid()}`)
  assert.equal(await show(pool, branch, 'README.md'), 'changed')
  assert.equal(fs.readFileSync(path.join(w.work, 'README.md'), 'utf8'), 'hello\n')
  assert.equal(fs.readFileSync(path.join(w.work, 'cache/deep/file'), 'utf8'), 'cached\n')
  assert.ok(!fs.existsSync(path.join(w.work, 'seen.txt')) && !fs.existsSync(path.join(w.work, 'moved')))
})

test('and killed: nothing is mounted or running, and the next start keeps what was not published', async t => {
  const pool = await bullpen(t)
  const w = await start(t, pool, { ...await belongs(pool, 65534), through: as(65534) })
  if (!w) return
  const word = `word-${randomUUID()}`
  const running = () => fs.readdirSync('/proc').filter(d => /^\d+$/.test(d)).some(pid => {
    try { return fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(word) } catch { return false }
  })
  await pool.run(sh(`echo half > half.txt; exec sh -c 'while :; do sleep 1; done' ${word}`))
  await until('it runs', running)
  assert.notDeepEqual(seers(pool.dir), [])
  assert.ok(!fs.readFileSync('/proc/self/mountinfo', 'utf8').includes(pool.dir), 'the machine sees nothing of it')
  await w.kill('SIGKILL')
  await until('all has ended', () => !running() && seers(pool.dir).length === 0)
  assert.ok(!fs.existsSync(path.join(w.work, 'half.txt')))
  const again = await w.again()
  assert.match(again.stderr, /worker\.leftovers .*folders=1 kept=1 ended=yes/)
  const depot = async (...args) => (await exec('git', ['-c', 'safe.directory=*', '-C', again.depot(), ...args])).stdout.trim()
  const kept = (await depot('for-each-ref', '--format=%(refname)', 'refs/bullpen/agents')).split('\n').filter(r => r.endsWith('/work'))
  assert.equal(kept.length, 1)
  assert.equal(await depot('show', `${kept[0]}:half.txt`), 'half')
})

test('a seed with files of somebody else is copied, and the session may change them', { skip: !isRoot && 'needs root' }, async t => {
  for (const uid of [1, 65534]) await t.test(`as ${uid}`, async t => {
    const pool = await bullpen(t)
    const folders = await belongs(pool, uid, { files: { 'made/by-root': 'x\n' }, foreign: ['made/by-root', 'made'] })
    const w = await start(t, pool, { ...folders, through: as(uid) })
    if (!w) return
    const end = await (await pool.run(sh('stat -f -c %T . > seen.txt; echo y >> made/by-root; git add -f made', true))).end()
    assert.equal(end.status, 'FINISHED', JSON.stringify(end))
    assert.notEqual(await show(pool, end.git.branches[0].branch, 'seen.txt'), 'overlayfs')
    assert.equal(await show(pool, end.git.branches[0].branch, 'made/by-root'), 'x\ny')
    assert.match(w.stderr, /debug tree\.copied .*by-root|debug tree\.copied .*made/)
  })
})

test('a worker whose programs have capabilities goes on with copies, and says why only when asked', { skip: !isRoot && 'needs root' }, async t => {
  const pool = await bullpen(t)
  const folders = await belongs(pool, 1)
  const through = as(1, '--inh-caps=+net_bind_service', '--ambient-caps=+net_bind_service')
  const w = await pool.worker({ ...folders, through })
  assert.doesNotMatch(w.stderr, /copies/)
  const end = await (await pool.run(sh('stat -f -c %T . > seen.txt', true))).end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  assert.notEqual(await show(pool, end.git.branches[0].branch, 'seen.txt'), 'overlayfs')
  await w.kill('SIGTERM')
  const [program, ...rest] = [...through, programs.agent, 'worker', 'debug', '--pool', '--json', '--worker-dir', w.work, '--endpoint', pool.url, '--data-dir', w.data]
  const report = JSON.parse((await run(t, program, rest, { env: { ...folders.env, CURSOR_API_KEY: pool.poolKey } })).stdout)
  assert.match(report.isolation.workspace, /^(reflink|copy)$/)
  assert.match(report.isolation.mountsMissing, /capabilities/)
})

// Without an ssh server here: that ssh gets as far as its proxy shows that it took its configuration.
test('git over ssh with configuration that is owned by root', { skip: !isRoot && 'needs root' }, async t => {
  if (!fs.existsSync('/usr/bin/ssh') || !fs.existsSync('/etc/ssh/ssh_config.d')) return t.skip('needs ssh')
  const pool = await bullpen(t)
  const folders = await belongs(pool, 1)
  const reached = path.join(pool.dir, 'worker-data-1', 'reached')
  await exec('git', ['-c', 'safe.directory=*', '-C', folders.dir, 'remote', 'set-url', 'origin', 'ssh://git@probe.invalid/acme/web.git'])
  await exec('chown', ['-R', '1:1', folders.dir])
  // Its own view of that folder, so that the machine's stays what it is.
  const config = `Host probe.invalid\n ProxyCommand sh -c 'echo yes > ${reached}; exit 1'\n`
  const through = ['unshare', '--mount', 'sh', '-c', 'mount -t tmpfs -o mode=755 none /etc/ssh/ssh_config.d && printf %s "$1" > /etc/ssh/ssh_config.d/probe.conf && shift && exec "$@"', 'sh', config, ...as(1)]
  const w = await pool.worker({ ...folders, through, args: ['--verbose'], ready: false })
  await until(`ssh came to its proxy; the worker said ${w.stderr}`, () => fs.existsSync(reached) || /Bad owner/.test(w.stderr))
  assert.doesNotMatch(w.stderr, /Bad owner/)
  assert.ok(fs.existsSync(reached))
})
