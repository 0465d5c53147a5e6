// What the tests of sessions share: a place with a remote, a worker of one kind and its seed; the seed byte for byte; and
// the plain run of the next user, which must find a worker as good as new.
import assert from 'node:assert/strict'
import { createHash, randomUUID } from 'node:crypto'
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import path from 'node:path'
import { atEnd, bullpen, file, git, makeRemote } from './lib.mjs'

const NOBODY = 65534
// How a worker runs. Root shows the seed by an overlay, others copy it; boxes are namespaces where the machine has them.
export const kinds = {
  root: {},
  nobody: { uid: NOBODY },
  process: { args: ['--isolation=process'] },
  none: { args: ['--isolation=none'] },
}

// Everything below a folder: name, kind, mode, owner, time, and what is in it.
// loose: where nothing guards the seed git gives a pack a new time when it is told to store what the pack has.
export function snapshot(top, { loose = false } = {}) {
  const seen = new Map()
  const look = rel => {
    const at = Buffer.concat([Buffer.from(top + '/'), rel]), st = fs.lstatSync(at, { bigint: true })
    const facts = [st.mode.toString(8), st.uid, st.gid, loose && rel.toString('latin1').endsWith('.pack') ? 'any time' : st.mtimeNs]
    if (st.isFile()) facts.push(st.size, createHash('sha1').update(fs.readFileSync(at)).digest('hex'))
    else if (st.isSymbolicLink()) facts.push(fs.readlinkSync(at))
    seen.set(rel.toString('latin1'), facts.join(' '))
    if (st.isDirectory()) for (const name of fs.readdirSync(at, { encoding: 'buffer' })) look(rel.length ? Buffer.concat([rel, Buffer.from('/'), name]) : name)
  }
  look(Buffer.alloc(0))
  return seen
}

export function unchanged(before, top, what, options) {
  const after = snapshot(top, options), told = []
  for (const [name, facts] of after) if (before.get(name) !== facts) told.push(`${name}: ${before.get(name) ?? 'was not there'} -> ${facts}`)
  for (const name of before.keys()) if (!after.has(name)) told.push(`${name}: is gone`)
  assert.deepEqual(told, [], `the seed changed: ${what}`)
}

// Processes of the machine, zombies aside, whose command line has the word. It never is in ours.
export function found(word) {
  return fs.readdirSync('/proc').filter(d => /^\d+$/.test(d)).filter(pid => {
    try { return fs.readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(word) && !/^\S+ \(.*\) Z/.test(fs.readFileSync(`/proc/${pid}/stat`, 'latin1')) } catch { return false }
  }).map(Number)
}

// The remote gets a submodule `lib` with a file `l`.
export async function addLibrary(pool, remote) {
  const lib = await makeRemote(pool.dir, { name: 'acme/lib', files: { l: 'library\n' } })
  const by = await remote.clone(path.join(pool.dir, `by-${randomUUID()}`))
  await git(by, '-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'add', '../lib.git', 'lib')
  await git(by, 'commit', '-qm', 'a library')
  await git(by, 'push', '-q', 'origin', 'main')
  return lib
}

// A pool with one worker of a kind. files: of the first commit; seed(dir, place) changes the clone before the worker starts.
export async function place(t, kind = 'root', { files = { 'README.md': 'hello\n', 'src/a.txt': 'a\n', '.gitignore': 'cache/\n' }, seed, lib = false, config, worker = true, args = [], env = {} } = {}) {
  const pool = await bullpen(t, config ? { config } : {})
  const word = `word-${randomUUID()}`
  atEnd(t, () => { for (const pid of found(word)) process.kill(pid, 'SIGKILL') })
  const { uid, args: kindArgs = [] } = kinds[kind]
  const remote = await makeRemote(pool.dir, { files })
  pool.theOrigin = remote
  const home = path.join(pool.dir, 'home'), dir = path.join(pool.dir, 'seed'), data = path.join(pool.dir, 'wd')
  fs.mkdirSync(home)
  fs.mkdirSync(data)
  if (lib) await addLibrary(pool, remote)
  fs.writeFileSync(path.join(home, 'of-the-user'), 'as it was\n')
  await remote.clone(dir)
  fs.mkdirSync(path.join(dir, 'cache'))
  fs.writeFileSync(path.join(dir, 'cache/warm'), 'warm\n')
  const p = { pool, remote, word, home, seedDir: dir, data, uid, kind, n: 0 }
  if (lib) await git(dir, '-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'update', '--init')
  await seed?.(dir, p)
  // Another user's files must be reached by it, and be its own.
  if (uid !== undefined) {
    fs.chmodSync(pool.dir, 0o755)
    execFileSync('chown', ['-R', `${uid}:${uid}`, home, dir, data, path.join(pool.dir, 'remotes')])
  }
  // A library is fetched inside of the session, and this one is a folder of /tmp.
  p.startWorker = (more = {}) => pool.worker({ dir, data, uid, args: [...kindArgs, ...args, ...(more.args ?? [])], env: { HOME: home, CURSOR_WORKER_SESSION_SHARE: lib ? path.join(pool.dir, 'remotes') : '', ...env, ...more.env }, ready: more.ready })
  p.loose = kind === 'none'
  p.before = snapshot(dir, p)
  if (worker) p.worker = await p.startWorker()
  return p
}

// What a branch has beyond main.
export const inRemote = (p, ...args) => git(p.remote.bare, '-c', 'safe.directory=*', '-c', 'core.quotePath=false', ...args)
export const changes = async (p, branch) => (await inRemote(p, 'diff', '--name-only', '-z', `main...${branch}`)).split('\0').filter(Boolean)

// One run of an agent of its own, to its end.
export async function ran(p, prompt, options) {
  const run = await p.pool.run(prompt, options)
  const end = await run.end()
  return { run, end, branch: end.git?.branches?.[0]?.branch }
}

// The next user: a run that writes one file and publishes exactly that; and by then the session before has ended, so the
// seed is looked at, and what the session left running.
export async function plain(p, what = '') {
  const name = `plain-${++p.n}.txt`
  const { end, run, branch } = await ran(p, file(name, `${name}\n`))
  assert.equal(end.status, 'FINISHED', `${what}: the next run: ${JSON.stringify(end)}\n${p.worker?.stderr.slice(-2000)}`)
  assert.deepEqual(end.git.branches.map(b => b.branch), [branch], what)
  assert.deepEqual(await changes(p, branch), [name], what)
  assert.equal(await inRemote(p, 'show', `${branch}:${name}`), name)
  assert.equal(end.notPublished, undefined, what)
  assert.equal(end.keptWork, undefined, what)
  unchanged(p.before, p.seedDir, what, p)
  assert.deepEqual(found(p.word), [], `${what}: left running`)
  return { run, end, branch }
}
