// What the rows of the bench share: real processes in a folder of their own, medians, the table.
import { spawn, execFileSync } from 'node:child_process'
import { once } from 'node:events'
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'

export const root = path.resolve(path.dirname(new URL(import.meta.url).pathname), '..')
export const build = path.resolve(process.env.BULLPEN_BUILD ?? path.join(root, 'build-bench'))
export const program = name => path.join(build, name.startsWith('bench-') ? 'bench' : '', name)
export const quick = process.env.QUICK === '1'

// The store lives under the build folder (a disk, one hopes); folders of workers outside of any clone.
fs.mkdirSync(path.join(build, 'data'), { recursive: true })
export const data = fs.mkdtempSync(path.join(build, 'data', 'run-'))
export const scratch = fs.mkdtempSync(path.join(os.tmpdir(), 'bullpen-bench-'))
const children = new Set()
process.on('exit', () => {
  for (const c of children) c.kill('SIGKILL')
  for (const dir of [data, scratch]) fs.rmSync(dir, { recursive: true, force: true, maxRetries: 5 })
})
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130))

let numbers = 0
export const fresh = (base, name) => { const d = path.join(base, `${name}-${++numbers}`); fs.mkdirSync(d, { recursive: true }); return d }
export function writeFile(name, text) { const f = path.join(fresh(scratch, 'file'), name); fs.writeFileSync(f, text); return f }

export class Proc {
  constructor(file, args, { env = {}, cwd = scratch } = {}) {
    this.what = `${path.basename(file)} ${args.slice(0, 2).join(' ')}`
    this.said = this.errors = ''
    this.child = spawn(file, args, { cwd, env: { PATH: process.env.PATH, HOME: process.env.HOME ?? '/root', LANG: 'C.UTF-8', ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
    children.add(this.child)
    this.child.stdout.setEncoding('utf8').on('data', d => { this.said += d })
    this.child.stderr.setEncoding('utf8').on('data', d => { this.errors = (this.errors + d).slice(-4000) })
    this.ended = once(this.child, 'close').then(([code]) => { children.delete(this.child); this.code = code; return code })
  }
  get pid() { return this.child.pid }
  async says(pattern, seconds = 60) {
    for (const until = Date.now() + seconds * 1000; ;) {
      const m = this.said.match(pattern)
      if (m) return m
      if (this.code !== undefined) throw new Error(`${this.what} ended with ${this.code}: ${this.errors}`)
      if (Date.now() > until) throw new Error(`${this.what} did not say ${pattern}: ${this.errors}`)
      await new Promise(r => setTimeout(r, 5))
    }
  }
  async end(signal = 'SIGKILL') { this.child.kill(signal); return this.ended }
}

// Runs one of our programs to its end; its last line is JSON.
export async function json(name, args, options) {
  const p = new Proc(program(name), args.map(String), options)
  if (await p.ended !== 0) throw new Error(`${p.what} failed: ${p.errors.trim()}`)
  return JSON.parse(p.said.trim().split('\n').at(-1))
}

export class Server {
  static async start({ limits = '', settings = '', env = {} } = {}) {
    const s = new Server()
    s.data = fresh(data, 'server')
    const config = path.join(fresh(scratch, 'config'), 'bullpen.toml')
    fs.writeFileSync(config, `[limits]\nreads_per_minute = 0\nmutations_per_minute = 0\nmax_workers_per_team = 20000\n${limits}\n${settings}`)
    s.start = [config, env]
    await s.again('127.0.0.1:0')
    s.user = s.#key('user', '--email', 'bench@example.test')
    s.pool = s.#key('service_account')
    return s
  }
  // After crash(): on the same port and data.
  async again(listen = `127.0.0.1:${this.port}`) {
    const [config, env] = this.start
    this.proc = new Proc(program('bullpen'), ['serve', '--config', config, '--listen', listen, '--data', this.data], { env })
    const m = await this.proc.says(/listening on (https?:\/\/[^:]+:(\d+))/)
    this.url = m[1]
    this.port = m[2]
  }
  crash() { return this.proc.end('SIGKILL') }
  #key(type, ...more) {
    return execFileSync(program('bullpen'), ['admin', 'key', 'create', '--data', this.data, '--type', type, '--name', 'bench', ...more], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()
  }
  get pid() { return this.proc.pid }
  workerArgs() {
    const dir = fresh(scratch, 'work')
    fs.writeFileSync(path.join(dir, 'small.txt'), 'A small file.\n')
    return ['worker', 'start', '--pool', 'bench', '--worker-dir', dir, '--endpoint', this.url, '--data-dir', fresh(scratch, 'worker-data')]
  }
  // n workers that serve any repository.
  async workers(n) {
    const all = Array.from({ length: n }, () => new Proc(program('agent'), this.workerArgs(), { env: { CURSOR_API_KEY: this.pool } }))
    for (const w of all) await w.says(/Worker is now running/)
    return all
  }
  load(what, ...args) { return json('bench-load', [what, this.port, this.user, ...args]) }
  async get(pathname) {
    const r = await fetch(this.url + pathname, { headers: { authorization: `Bearer ${this.user}` } })
    return r.json()
  }
  async text(pathname) {
    const r = await fetch(this.url + pathname, { headers: { authorization: `Bearer ${this.user}` } })
    if (!r.ok) throw new Error(`GET ${pathname} answered ${r.status}`)
    return r.text()
  }
  async stop(...others) {
    for (const p of [...others.flat(), this.proc]) await p.end('SIGKILL')
    fs.rmSync(this.data, { recursive: true, force: true })
  }
}

// Static files, as the floor of what a server can deliver. Every path is a file without a type.
export class Nginx {
  static async start(files) {
    const s = new Nginx(), dir = fresh(data, 'nginx'), config = path.join(dir, 'nginx.conf')
    for (const [name, text] of Object.entries(files)) {
      fs.mkdirSync(path.join(dir, 'www', path.dirname(name)), { recursive: true })
      fs.writeFileSync(path.join(dir, 'www', name), text)
    }
    s.port = await freePort()
    fs.writeFileSync(config, `daemon off; worker_processes auto; pid ${dir}/pid; error_log stderr;
      events { worker_connections 1024; }
      http { access_log off; sendfile on; keepalive_requests 100000000; default_type application/json;
        client_body_temp_path ${dir}/a; proxy_temp_path ${dir}/b; fastcgi_temp_path ${dir}/c; uwsgi_temp_path ${dir}/d; scgi_temp_path ${dir}/e;
        server { listen 127.0.0.1:${s.port}; root ${dir}/www; } }`)
    fs.chmodSync(data, 0o755)
    s.proc = new Proc('/usr/sbin/nginx', ['-p', dir, '-c', config, ...(process.getuid() === 0 ? ['-g', 'user root;'] : [])])
    for (const until = Date.now() + 10000; ;) {
      if (await fetch(`http://127.0.0.1:${s.port}${Object.keys(files)[0]}`).then(r => r.status === 200, () => false)) return s
      if (s.proc.code !== undefined || Date.now() > until) throw new Error(`nginx does not serve: ${s.proc.errors}`)
      await new Promise(r => setTimeout(r, 20))
    }
  }
  load(what, ...args) { return json('bench-load', [what, this.port, 'none', ...args]) }
  stop() { return this.proc.end('SIGTERM') }
}

export async function freePort() {
  const s = net.createServer().listen(0, '127.0.0.1')
  await once(s, 'listening')
  const { port } = s.address()
  s.close()
  await once(s, 'close')
  return port
}

// Makes a run's log as long as n events, by its own rows again and again.
export function multiplyEvents(file, run, n) {
  execFileSync('python3', ['-c', `
import sqlite3, sys
db = sqlite3.connect(sys.argv[1]); run = sys.argv[2]; n = int(sys.argv[3])
rows = db.execute("SELECT kind, data, twin FROM events WHERE run_id = ? ORDER BY seq", (run,)).fetchall()
seq, ms, k = db.execute("SELECT MAX(seq), MAX(id_ms), MAX(id_n) FROM events WHERE run_id = ?", (run,)).fetchone()
last = rows[-1]; body = [r for r in rows if r[0] not in ('result', 'done', 'status')]
db.execute("DELETE FROM events WHERE run_id = ? AND seq = ?", (run, seq))
def more():
    for i in range(seq, n): yield (run, i, ms, k + 1 + i, *body[i % len(body)])
    yield (run, n, ms + 1, 0, *last)
db.executemany("INSERT INTO events(run_id, seq, id_ms, id_n, kind, data, twin) VALUES(?, ?, ?, ?, ?, ?, ?)", more())
db.execute("UPDATE runs SET last_seq = ? WHERE id = ?", (n, run)); db.commit()`, file, run, String(n)])
}

// Seconds of CPU that a process took; `children` those of its ended children.
export function cpu(pid) {
  const f = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /, '').split(' ').map(Number)
  return { own: (f[11] + f[12]) / 100, children: (f[13] + f[14]) / 100 }
}

export function memory(pid) {
  const m = {}
  for (const line of fs.readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8').split('\n')) {
    const f = line.match(/^(\w+): +(\d+) kB/)
    if (f) m[f[1]] = Number(f[2])
  }
  return m
}

export function good(r) {
  if (r.bad) throw new Error(`${r.bad} of ${r.count ?? r.good + r.bad} failed`)
  return r
}

export function spread(list) {
  const s = [...list].sort((a, b) => a - b)
  return { median: s[Math.floor((s.length - 1) / 2)], low: s[0], high: s.at(-1), runs: s.length }
}

// Calls fn (at least once) and collects what it gives.
export async function times(n, fn) {
  const all = []
  for (let i = 0; i < n; i++) all.push(await fn(i))
  return all
}

const digits = v => v >= 1000 ? Math.round(v).toString() : v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2)
const range = (s, unit) => `${digits(s.median)} [${digits(s.low)}-${digits(s.high)}] ${unit}`

export class Table {
  lines = []
  // floor: { name, values }; goal: { text, ok(figure, ratio) }. More is better where `rising`.
  add(row, what, unit, values, { floor, goal, note = '' } = {}) {
    const s = spread(values), f = floor && spread(floor.values)
    const ratio = f && s.median / f.median
    const line = { row, what, unit, ...s, floor: f && { name: floor.name, ...f }, ratio, goal: goal?.text, met: goal ? goal.ok(s.median, ratio) : undefined, note }
    this.lines.push(line)
    const cells = [line.row, what, range(s, unit), f ? `${range(f, floor.unit ?? unit)} ${floor.name}` : '', ratio ? `${digits(ratio)}x` : '', goal ? `${goal.text}: ${line.met ? 'met' : 'MISSED'}` : '', note]
    line.cells = cells
    process.stderr.write(`${cells.filter(Boolean).join(' | ')}\n`)
  }
  skip(row, why) {
    const cells = [row, why, 'not measured', '', '', '', '']
    this.lines.push({ row, what: why, skipped: true, cells })
    process.stderr.write(`${row} | ${why}\n`)
  }
  text() {
    const head = ['', 'what', 'median [lowest-highest]', 'floor, same run', 'ratio', 'goal', '']
    const all = [head, ...this.lines.map(l => l.cells)]
    return [all[0], head.map(() => '---'), ...all.slice(1)].map(c => `| ${c.join(' | ')} |`).join('\n')
  }
}

export function machine() {
  const line = (cmd, ...args) => { try { return execFileSync(cmd, args, { encoding: 'utf8', cwd: root, stdio: ['ignore', 'pipe', 'ignore'] }).trim() } catch { return 'unknown' } }
  const options = (() => { try { return JSON.parse(fs.readFileSync(path.join(build, 'meson-info/intro-buildoptions.json'), 'utf8')) } catch { return [] } })()
  return {
    cores: os.cpus().length, cpu: os.cpus()[0]?.model.trim(), kernel: os.release(), memory_gib: Math.round(os.totalmem() / 2 ** 30),
    filesystem: line('df', '--output=source,fstype', data).split('\n').at(-1).replace(/\s+/g, ' '),
    commit: line('git', 'rev-parse', '--short=12', 'HEAD') + (line('git', 'status', '--porcelain', '-uno') ? ' (with changes)' : ''),
    build: options.find(o => o.name === 'buildtype')?.value, load: os.loadavg().map(n => n.toFixed(2)).join(' '), date: new Date().toISOString().slice(0, 16),
  }
}
