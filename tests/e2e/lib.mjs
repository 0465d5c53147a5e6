// The verbs of the end-to-end tests. A test reads like a story: bullpen(t) starts a server, pool.worker() a worker in a
// clone of a real remote, pool.run(prompt) an agent. Everything is started on free ports in a folder of the test's own
// and is gone when the test ends. Nothing waits by the clock: until() polls a condition, with a deadline.
import { spawn, execFile } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { randomUUID } from 'node:crypto'
import { checkAnswer } from './document.mjs'

export const root = path.resolve(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), '../..')
export const build = process.env.BULLPEN_BUILD ?? path.join(root, 'build')
export const programs = { bullpen: path.join(build, 'bullpen'), agent: path.join(build, 'agent') }
// Some tests of root start them as another user, who may not reach a clone in a folder of root's own: then they are copies.
const isOpen = dir => dir === path.dirname(dir) || ((fs.statSync(dir).mode & 0o001) !== 0 && isOpen(path.dirname(dir)))
if (process.getuid() === 0 && fs.existsSync(programs.agent) && !isOpen(build)) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'bullpen-programs-'))
  fs.chmodSync(dir, 0o755)
  process.on('exit', () => fs.rmSync(dir, { recursive: true, force: true }))
  for (const name of Object.keys(programs)) { fs.copyFileSync(programs[name], path.join(dir, name)); programs[name] = path.join(dir, name) }
}
// Sanitizer builds are slower; deadlines stretch with them.
export const patience = Number(process.env.BULLPEN_PATIENCE ?? 1)

const gitEnv = {
  GIT_CONFIG_GLOBAL: '/dev/null', GIT_CONFIG_NOSYSTEM: '1', GIT_TERMINAL_PROMPT: '0',
  GIT_AUTHOR_NAME: 'Test', GIT_AUTHOR_EMAIL: 'test@example.test', GIT_COMMITTER_NAME: 'Test', GIT_COMMITTER_EMAIL: 'test@example.test',
}
const inherited = { PATH: process.env.PATH, HOME: process.env.HOME ?? '/root', TMPDIR: os.tmpdir(), LANG: 'C.UTF-8', ...gitEnv }
for (const k of ['ASAN_OPTIONS', 'TSAN_OPTIONS', 'UBSAN_OPTIONS', 'LSAN_OPTIONS']) if (process.env[k]) inherited[k] = process.env[k]

// Polls until fn gives something truthy, and returns it.
export async function until(what, fn, seconds = 20) {
  const deadline = Date.now() + seconds * 1000 * patience
  for (;;) {
    const v = await fn()
    if (v) return v
    if (Date.now() > deadline) throw new Error(`gave up waiting: ${what}`)
    await new Promise(r => setTimeout(r, 15)) // the interval of polling, not a wait for luck
  }
}

// Cleaning up goes backwards, what came last first (processes before the folder they write to), and one failure does not
// keep the rest from being done.
const cleanups = new WeakMap()
export function atEnd(t, fn) {
  let list = cleanups.get(t)
  if (!list) {
    cleanups.set(t, list = [])
    t.after(async () => {
      const failures = []
      while (list.length) await Promise.resolve().then(list.pop()).catch(e => failures.push(e))
      if (failures.length) throw failures[0]
    })
  }
  list.push(fn)
}

// A port that nobody has at the moment, for programs that cannot be asked which one they took.
export async function freePort() {
  const s = net.createServer().listen(0, '127.0.0.1')
  await once(s, 'listening')
  const { port } = s.address()
  s.close()
  await once(s, 'close')
  return port
}

export function tempDir(t) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'bullpen-e2e-'))
  // What was killed a moment ago may still write there.
  atEnd(t, () => fs.promises.rm(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 }))
  return dir
}

const exec = promisify(execFile)
export async function git(cwd, ...args) {
  const { stdout } = await exec('git', args, { cwd, env: inherited, maxBuffer: 64 << 20 })
  return stdout.trim()
}

// A bare repository with one commit on main: the real remote of a test.
export async function makeRemote(dir, { name = 'acme/web', files = { 'README.md': 'hello\n' } } = {}) {
  const bare = path.join(dir, 'remotes', `${name}.git`)
  const seed = path.join(dir, `seed-${randomUUID()}`)
  fs.mkdirSync(path.dirname(bare), { recursive: true })
  await git(dir, 'init', '-q', '--bare', '-b', 'main', bare)
  await git(dir, 'init', '-q', '-b', 'main', seed)
  for (const [file, text] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(seed, file)), { recursive: true })
    fs.writeFileSync(path.join(seed, file), text)
  }
  await git(seed, 'add', '-A')
  await git(seed, 'commit', '-q', '-m', 'first')
  await git(seed, 'push', '-q', bare, 'main')
  return {
    bare, url: `file://${bare}`,
    branches: async () => (await git(bare, 'for-each-ref', '--format=%(refname:short)', 'refs/heads')).split('\n').filter(Boolean),
    show: (ref, file) => git(bare, 'show', `${ref}:${file}`),
    log: ref => git(bare, 'log', '--format=%s', ref),
    clone: async to => { await git(dir, 'clone', '-q', `file://${bare}`, to); return to },
  }
}

// A child process whose output is collected; it is killed with the test.
export class Proc {
  constructor(t, file, args, { env = {}, cwd, stdin, uid } = {}) {
    this.name = path.basename(file)
    this.stdout = ''
    this.stderr = ''
    this.child = spawn(file, args, { cwd, ...(uid !== undefined ? { uid, gid: uid } : {}), env: { ...inherited, ...env }, stdio: [stdin === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] })
    this.child.stdout.setEncoding('utf8').on('data', d => { this.stdout += d })
    this.child.stderr.setEncoding('utf8').on('data', d => { this.stderr += d })
    // A program that refuses its arguments may be gone before it read anything.
    if (stdin !== undefined) this.child.stdin.on('error', () => {}).end(stdin)
    this.exited = once(this.child, 'close').then(([code, signal]) => { this.code = code; this.signal = signal; return { code, signal } })
    atEnd(t, async () => { this.child.kill('SIGKILL'); await this.exited })
  }
  get pid() { return this.child.pid }
  get alive() { return this.child.exitCode === null && this.child.signalCode === null }
  async says(pattern, from = 'stdout') {
    return until(`${this.name} says ${pattern}; it said: ${this[from].slice(-500)} / ${this.stderr.slice(-800)}`, () => {
      const m = this[from].match(pattern)
      if (!m && !this.alive) throw new Error(`${this.name} ended (${this.child.exitCode ?? this.child.signalCode}): ${this.stdout}${this.stderr}`)
      return m
    })
  }
  async kill(signal = 'SIGKILL') { this.child.kill(signal); return this.exited }
}

// Runs a program to its end.
export async function run(t, file, args, options) {
  const p = new Proc(t, file, args, options)
  await p.exited
  return p
}

// prepare(pool) happens before anything is in the data folder; start: false leaves starting the server to the test.
// store: the URL of a PostgreSQL, with NAME for the name of a database, that is used whatever STORE_URL says.
export async function bullpen(t, { config = '', unlimited = true, start = true, prepare, store = process.env.STORE_URL } = {}) {
  const dir = tempDir(t)
  const pool = new Pool(t, dir)
  if (store) {
    pool.store = await database(t, store)
  }
  const limits = unlimited ? '[limits]\nreads_per_minute = 0\nmutations_per_minute = 0\nrepositories_per_minute = 0\nrepositories_per_hour = 0\n' : ''
  fs.writeFileSync(pool.configFile, config.includes('[limits]') ? config : limits + config)
  await prepare?.(pool)
  if (start) await pool.start()
  pool.userKey = await pool.createKey('user', 'dev', 'dev@example.test')
  pool.poolKey = await pool.createKey('service_account', 'pool')
  return pool
}

// A database of its own.
async function database(t, url) {
  const name = `test_${randomUUID().replaceAll('-', '')}`, at = n => url.replace('NAME', n)
  const psql = sql => promisify(execFile)('psql', ['-X', '-q', at('postgres'), '-c', sql])
  await psql(`CREATE DATABASE ${name}`)
  atEnd(t, () => psql(`DROP DATABASE ${name} WITH (FORCE)`))
  return at(name)
}

class Pool {
  constructor(t, dir) {
    this.t = t
    this.dir = dir
    this.data = path.join(dir, 'data')
    this.configFile = path.join(dir, 'bullpen.toml')
    this.listen = '127.0.0.1:0'
    this.workers = 0
    this.fetch = fetch // tests over TLS have one that trusts their authority
  }

  async start({ program = programs.bullpen, env } = {}) {
    if (this.store && !fs.readFileSync(this.configFile, 'utf8').includes('[store]')) fs.appendFileSync(this.configFile, `\n[store]\nurl = "${this.store}"\n`)
    this.server = new Proc(this.t, program, ['serve', '--config', this.configFile, '--listen', this.listen, '--data', this.data], { env })
    const m = await this.server.says(/^bullpen: listening on (https?:\/\/127\.0\.0\.1:(\d+))$/m)
    this.url = m[1]
    // A restarted server must be found where the workers and clients knew it.
    this.listen = `127.0.0.1:${m[2]}`
  }
  async crash() { await this.server.kill('SIGKILL') }
  async restart() { await this.start() }
  async stop() { return this.server.kill('SIGTERM') }

  async createKey(type, name, email, scopes) {
    const p = await run(this.t, programs.bullpen, ['admin', 'key', 'create', '--data', this.server ? this.data : this.store ?? this.data, ...(this.server ? [] : ['--init']), '--type', type, '--name', name, ...(email ? ['--email', email] : []), ...(scopes ? ['--scopes', scopes] : [])])
    if (p.code !== 0) throw new Error(p.stderr)
    return p.stdout.trim()
  }

  remote(options) { return makeRemote(this.dir, options) }

  // The remote most tests need: one for the whole pool.
  origin() { return (this.theOrigin ??= this.remote()) }

  // A pool worker in a clone of the origin.
  // `through`: a command that starts it, such as ['setpriv', '--reuid=1', …].
  async worker({ name, pool, remote, args = [], env = {}, ready = true, key = this.poolKey, workerId, dir, data: dataDir, uid, endpoint = this.url, through = [] } = {}) {
    const n = ++this.workers
    const origin = remote ?? await this.origin()
    const work = dir ?? await origin.clone(path.join(this.dir, `work-${n}`))
    const data = dataDir ?? path.join(this.dir, `worker-data-${n}`)
    const argv = ['worker', 'start', ...(pool ? ['--pool', pool] : ['--pool']), '--worker-dir', work, '--endpoint', endpoint,
      '--data-dir', data, ...(name === null ? [] : ['--name', name ?? `w${n}`]), ...(workerId ? ['--worker-id', workerId] : []), ...args]
    // What a test's commands write beside the workspace, the test reads: /tmp is the session's own. The programs that tests have
    // sessions start are here, and here may be below /tmp, too.
    const [program, ...rest] = [...through, programs.agent, ...argv]
    const startIt = () => new Proc(this.t, program, rest, { env: { CURSOR_API_KEY: key, CURSOR_WORKER_SESSION_SHARE: `${this.dir}:${path.join(root, 'tests/e2e')}`, ...env }, uid })
    const w = startIt()
    w.work = work
    w.data = data
    // The worker's own repository beside its clone.
    w.depot = () => path.join(data, 'sessions', '.repos', fs.readdirSync(path.join(data, 'sessions', '.repos')).find(d => d.endsWith('-own.git')))
    w.again = async () => { const x = startIt(); Object.assign(x, { work, data, depot: w.depot, again: w.again }); await x.says(/^Worker is now running$/m); return x }
    if (ready) await w.says(/^Worker is now running$/m)
    return w
  }

  async http(method, pathname, { body, key = this.userKey, headers = {} } = {}) {
    const res = await this.fetch(this.url + pathname, {
      method,
      headers: { ...(key ? { authorization: `Bearer ${key}` } : {}), ...(body !== undefined ? { 'content-type': 'application/json' } : {}), ...headers },
      body: body === undefined ? undefined : typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body),
    }).catch(e => { throw new Error(`${method} ${pathname}: ${e.cause?.message ?? e.message}; the server ${this.server.alive ? 'is up' : `ended: ${this.server.stderr.slice(-2000)}`}`, { cause: e }) })
    const text = await res.text()
    let json
    try { json = JSON.parse(text) } catch { /* not JSON: the test looks at text */ }
    const answer = { status: res.status, headers: res.headers, text, json }
    if (!this.damaged) checkAnswer(method, pathname, answer)
    return answer
  }

  // POST /v1/agents for the origin; the result follows its run.
  async run(prompt, { pool, extra = {}, key = this.userKey, repo } = {}) {
    const origin = repo === null ? null : repo ?? (await this.origin()).url
    const body = { prompt: { text: prompt }, ...(origin ? { repos: [{ url: origin }] } : {}), ...(pool ? { env: { type: 'pool', name: pool } } : {}), ...extra }
    const r = await this.http('POST', '/v1/agents', { body, key })
    if (r.status !== 201) throw new Error(`create answered ${r.status}: ${r.text}`)
    return new Run(this, r.json.agent.id, r.json.run.id, key)
  }

  // The client in a terminal.
  cli(args, { env = {}, cwd = this.dir, stdin, key = this.userKey } = {}) {
    return new Proc(this.t, programs.agent, args, { cwd, stdin, env: { CURSOR_API_KEY: key, CURSOR_API_ENDPOINT: this.url, ...env } })
  }
}

export class Run {
  constructor(pool, agentId, id, key) { Object.assign(this, { pool, agentId, id, key }) }
  get path() { return `/v1/agents/${this.agentId}/runs/${this.id}` }
  async get() {
    const r = await this.pool.http('GET', this.path, { key: this.key })
    if (r.status !== 200) throw new Error(`GET run answered ${r.status}: ${r.text}`)
    return r.json
  }
  status(...wanted) { return until(`run is ${wanted}`, async () => { const r = await this.get(); return wanted.includes(r.status) && r }, 60) }
  end() { return this.status('FINISHED', 'ERROR', 'CANCELLED', 'EXPIRED') }
  cancel() { return this.pool.http('POST', `${this.path}/cancel`, { key: this.key }) }
  async followUp(prompt, extra = {}) {
    const r = await this.pool.http('POST', `/v1/agents/${this.agentId}/runs`, { body: { prompt: { text: prompt }, ...extra }, key: this.key })
    if (r.status !== 201) throw new Error(`follow-up answered ${r.status}: ${r.text}`)
    return new Run(this.pool, this.agentId, r.json.run.id, this.key)
  }
  // The whole stream of an ended run, as events.
  async events(options) { const s = await this.stream(options); return s.all() }
  async stream({ lastEventId } = {}) { return Stream.open(this, lastEventId) }
}

// Server-sent events, read by hand so that the exact bytes are seen.
export class Stream {
  static async open(run, lastEventId) {
    const s = new Stream()
    s.abort = new AbortController()
    s.response = await run.pool.fetch(run.pool.url + run.path + '/stream', {
      headers: { authorization: `Bearer ${run.key}`, ...(lastEventId !== undefined ? { 'last-event-id': lastEventId } : {}) }, signal: s.abort.signal,
    })
    s.status = s.response.status
    s.text = ''
    s.events = []
    if (s.status === 200) s.finished = s.#read().catch(e => { s.error = e })
    else s.body = await s.response.json()
    return s
  }
  async #read() {
    const decoder = new TextDecoder()
    let rest = ''
    for await (const chunk of this.response.body) {
      const piece = decoder.decode(chunk, { stream: true })
      this.text += piece
      rest += piece
      let at
      while ((at = rest.indexOf('\n\n')) >= 0) {
        this.events.push(parseFrame(rest.slice(0, at)))
        rest = rest.slice(at + 2)
      }
    }
    this.complete = true
  }
  async until(what, fn, seconds) { return until(`stream: ${what}; seen ${this.events.map(e => e.event).join(' ')}`, () => this.events.find(fn), seconds) }
  async all() { await until('the stream ends', () => this.complete || this.error, 60); if (this.error) throw this.error; return this.events }
  close() { this.abort.abort() }
}

function parseFrame(text) {
  const e = {}
  for (const line of text.split('\n')) {
    const m = line.match(/^(id|event|data): ([^\r\n]*)$/)
    if (!m) throw new Error(`not a line of an event: ${JSON.stringify(line)}`)
    if (m[1] in e) throw new Error(`two ${m[1]} lines: ${text}`)
    e[m[1]] = m[1] === 'data' ? JSON.parse(m[2]) : m[2]
  }
  return e
}

// The prompt for playbook: sh`…` blocks and others.
export const sh = (command, must) => '```sh' + (must ? ' must' : '') + '\n' + command + '\n```\n'
export const file = (name, text) => '```file ' + name + '\n' + text + '\n```\n'
export const tool = (name, args) => '```tool ' + name + '\n' + JSON.stringify(args) + '\n```\n'

// What every log must satisfy: ids strictly increasing, no gap or double in what was told, calls paired.
export function checkEvents(events) {
  const key = id => id.split('-').map(Number)
  let last = [0, -1], lastKind
  const running = new Map(), completed = new Map()
  for (const e of events) {
    if (e.event === 'status' || e.event === 'heartbeat') { if (e.id !== undefined) throw new Error(`${e.event} has an id`); continue }
    const k = key(e.id)
    const twin = k[0] === last[0] && k[1] === last[1]
    if (twin ? !(e.event === 'interaction_update' || (e.event === 'done' && lastKind === 'result')) : !(k[0] > last[0] || (k[0] === last[0] && k[1] > last[1])))
      throw new Error(`event ${e.id} (${e.event}) after ${last.join('-')} (${lastKind})`)
    last = k
    lastKind = e.event
    if (e.event === 'tool_call') {
      const map = e.data.status === 'running' ? running : completed
      if (map.has(e.data.callId)) throw new Error(`call ${e.data.callId} is ${e.data.status} twice`)
      if (e.data.status === 'completed' && !running.has(e.data.callId)) throw new Error(`call ${e.data.callId} completed but never ran`)
      map.set(e.data.callId, e.data)
    }
  }
  return { running, completed }
}
