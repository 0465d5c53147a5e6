// `make soak M=10`: constant runs on 50 workers for M minutes while server and workers are killed and connections cut.
// In the end every run that was created has ended, each step left its mark exactly once or was reported as interrupted,
// and memory and descriptors of server and surviving workers are back near where they began. Exits 1 with a sentence
// for each thing that is not so. SEED=n repeats the choices (not the timing).
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { once } from 'node:events'
import { randomUUID } from 'node:crypto'

process.env.BULLPEN_PATIENCE ??= '6' // 50 workers share this machine with all else
const { bullpen, sh, file, tool, checkEvents, until, Run, git } = await import('../tests/e2e/lib.mjs')

const minutes = Number(process.env.M || 10), nWorkers = Number(process.env.WORKERS || 50), slots = Math.ceil(nWorkers * 1.2)
const seed = Number(process.env.SEED || Date.now() % 2 ** 31)
const stuckSeconds = 240
const wrong = []
const complain = text => { if (wrong.length < 200) { wrong.push(text); console.error(`WRONG: ${text}`) } }
const sleep = ms => new Promise(r => setTimeout(r, ms))

let state = seed
function random() { // mulberry32
  state = (state + 0x6d2b79f5) | 0
  let x = Math.imul(state ^ (state >>> 15), 1 | state)
  x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
  return ((x ^ (x >>> 14)) >>> 0) / 4294967296
}
const below = n => Math.floor(random() * n)

// The verbs of the end-to-end tests clean up after a test; here the test is the process.
const hooks = []
const t = { after: fn => hooks.push(fn), diagnostic: console.log }

// What goes through here can be cut.
class Relay {
  sockets = new Set()
  cuts = 0
  async start(pool) {
    this.server = net.createServer(a => {
      const b = net.connect({ port: Number(new URL(pool.url).port), host: '127.0.0.1' })
      const end = () => { for (const s of [a, b]) { this.sockets.delete(s); s.destroy() } }
      for (const s of [a, b]) { this.sockets.add(s); s.on('error', end).on('close', end) }
      a.pipe(b)
      b.pipe(a)
    }).listen(0, '127.0.0.1')
    await once(this.server, 'listening')
    this.url = `http://127.0.0.1:${this.server.address().port}`
    hooks.push(() => { for (const s of this.sockets) s.destroy(); this.server.close() })
  }
  cutOne() {
    const s = [...this.sockets][below(this.sockets.size || 1)]
    if (s) { this.cuts++; s.destroy() }
  }
}

const pool = await bullpen(t, { config: '[limits]\nreads_per_minute = 0\nmutations_per_minute = 0\n[pools]\nworker_loss_grace = 120\n' })
const relay = new Relay()
await relay.start(pool)
const marks = path.join(pool.dir, 'marks')
fs.mkdirSync(marks)
const origin = await pool.origin()
const workers = []
const kills = { server: 0, worker: 0 }
let stage = 'calm'

async function startWorkers() {
  for (let i = 0; i < nWorkers; i++) {
    const withRepo = i % 3 === 0
    const dir = withRepo ? undefined : path.join(pool.dir, `plain-${i}`)
    if (dir) { fs.mkdirSync(dir); fs.writeFileSync(path.join(dir, 'small.txt'), 'small\n') }
    const w = { name: `w${i}`, survivor: i % 5 === 4, kills: 0 }
    w.proc = await pool.worker({ name: w.name, workerId: w.name, pool: withRepo ? 'repo' : 'any', dir, endpoint: i % 2 ? relay.url : pool.url, ready: false })
    workers.push(w)
  }
  for (const w of workers) await w.proc.says(/^Worker is now running$/m)
}

// POST until there is an answer: the key makes it one creation however often it is sent.
async function post(pathname, body) {
  const headers = { 'idempotency-key': randomUUID() }
  return until(`POST ${pathname} is answered`, async () => {
    const r = await pool.http('POST', pathname, { body, headers }).catch(() => null)
    return r && r.status < 500 && r.status !== 429 && r
  }, 30)
}
const get = pathname => until(`GET ${pathname} is answered`, async () => {
  const r = await pool.http('GET', pathname).catch(() => null)
  return r && r.status === 200 && r.json
}, 30)

const all = new Map() // mark file -> lines when its run was looked at
const counts = { runs: 0, steps: 0, interrupted: 0, status: {}, codes: {} }
const open = new Set()
const lines = f => fs.existsSync(f) ? fs.readFileSync(f, 'utf8').split('\n').filter(Boolean) : []

function story(mark, withRepo) {
  const n = 1 + below(6)
  const steps = Array.from({ length: n }, (_, i) => sh(`echo ${i} >> ${mark}; sleep 0.${below(6)}`))
  const more = withRepo ? file(`notes/${path.basename(mark)}.txt`, 'note') : tool('read_file', { path: 'small.txt' })
  return { n, calls: n + 1, text: steps.join('') + more }
}

const inOrder = list => list.every((v, i) => i === 0 || v > list[i - 1])

async function allEvents(run) {
  return until(`events of ${run.id}`, async () => {
    const s = await run.stream().catch(() => null)
    if (s?.status !== 200) return null
    await s.finished
    return s.complete && !s.error && s.events
  }, 30)
}

async function verify(run, mark, plan, r, cancelled) {
  const done = lines(mark).map(Number), what = `run ${run.id} (${r.status}${r.error ? ` ${r.error.code}` : ''})`
  all.set(mark, done.length)
  counts.steps += done.length
  counts.status[r.status] = (counts.status[r.status] ?? 0) + 1
  if (r.error) counts.codes[r.error.code] = (counts.codes[r.error.code] ?? 0) + 1
  if (!inOrder(done)) complain(`${what}: a step was performed twice or out of order: ${done}`)
  if (r.status !== 'FINISHED' && !(cancelled && r.status === 'CANCELLED')) complain(`${what} did not finish: ${JSON.stringify(r.error ?? null)}`)
  let completed
  try { completed = [...checkEvents(await allEvents(run)).completed.values()] } catch (e) { return complain(`${what}: ${e.message}`) }
  const interrupted = completed.filter(c => c.result?.error?.code === 'interrupted').length
  counts.interrupted += interrupted
  if (r.status !== 'FINISHED') return
  if (completed.length !== plan.calls) complain(`${what}: ${completed.length} calls are told, ${plan.calls} were asked for`)
  completed.slice(0, plan.n).forEach((c, i) => { if (c.result?.success && !done.includes(i)) complain(`${what}: step ${i} is told as done and left no mark`) })
  if (done.length < plan.n - interrupted) complain(`${what}: ${plan.n - done.length} steps left no mark, ${interrupted} are told as interrupted`)
  const branch = r.git?.branches?.[0]?.branch
  if (plan.repo && !interrupted) {
    const there = branch && await git(origin.bare, 'ls-tree', '--name-only', branch, 'notes/').catch(() => '')
    if (!there?.includes(`notes/${path.basename(mark)}.txt`)) complain(`${what}: its file is not on branch ${branch}`)
  }
}

async function oneRun(agent) {
  const withRepo = agent ? agent.repo : random() < 0.3
  const mark = path.join(marks, randomUUID()), plan = { ...story(mark, withRepo), repo: withRepo }
  const body = agent ? { prompt: { text: plan.text } }
    : { prompt: { text: plan.text }, env: { type: 'pool', name: withRepo ? 'repo' : 'any' }, ...(withRepo ? { repos: [{ url: origin.url }] } : {}) }
  const made = await post(agent ? `/v1/agents/${agent.id}/runs` : '/v1/agents', body)
  if (made.status !== 201) return complain(`create answered ${made.status}: ${made.text}`)
  const run = new Run(pool, agent?.id ?? made.json.agent.id, made.json.run.id, pool.userKey)
  counts.runs++
  open.add(run)
  const cancelAfter = random() < 0.03 ? Date.now() + below(2000) : Infinity, limit = Date.now() + stuckSeconds * 1000
  let cancelled = false
  for (;;) {
    const r = await get(run.path)
    if (['FINISHED', 'ERROR', 'CANCELLED', 'EXPIRED'].includes(r.status)) { await verify(run, mark, plan, r, cancelled); break }
    if (Date.now() > limit) { complain(`run ${run.id} is stuck: ${JSON.stringify(r)}`); break }
    if (!cancelled && Date.now() > cancelAfter) { cancelled = true; await run.cancel().catch(() => {}) }
    await sleep(200)
  }
  open.delete(run)
  return { id: run.agentId, repo: withRepo }
}

async function slot(stop) {
  let agent
  while (!stop()) agent = await oneRun(agent && random() < 0.25 ? agent : undefined).catch(e => { complain(e.message); return undefined })
}

async function load(seconds) {
  const until = Date.now() + seconds * 1000
  await Promise.all(Array.from({ length: slots }, () => slot(() => Date.now() > until)))
}

async function killWorkers(stop) {
  while (!stop()) {
    await sleep(1000 + below(4000))
    const w = workers[below(workers.length)]
    if (w.survivor || stop()) continue
    kills.worker++
    w.busy = true
    await w.proc.kill('SIGKILL')
    await sleep(below(1500))
    w.proc = await w.proc.again()
    w.busy = false
  }
}
async function killServer(stop) {
  while (!stop()) {
    await sleep(8000 + below(20000))
    if (stop()) break
    kills.server++
    await pool.crash()
    await sleep(below(2000))
    await pool.restart()
  }
}
async function cut(stop) {
  while (!stop()) { await sleep(200 + below(2000)); relay.cutOne() }
}

function usage(pid) {
  const f = fs.readFileSync(`/proc/${pid}/status`, 'utf8')
  return { rss: Number(f.match(/VmRSS:\s+(\d+)/)[1]) / 1024, descriptors: fs.readdirSync(`/proc/${pid}/fd`).length, threads: Number(f.match(/Threads:\s+(\d+)/)[1]) }
}
// Nothing runs; what was kept warm for a moment is let go.
async function measure() {
  await until('the queue is empty', () => open.size === 0, 60)
  await sleep(8000)
  return { server: usage(pool.server.pid), workers: workers.filter(w => w.survivor).map(w => usage(w.proc.pid)) }
}

function compare(first, last) {
  const rows = []
  const row = (what, key, a, b, slack) => {
    const max = a * 1.5 + slack
    rows.push([what, key, a.toFixed(1), b.toFixed(1), max.toFixed(1), b <= max ? 'ok' : 'TOO MUCH'])
    if (b > max) complain(`${what}: ${key} went from ${a.toFixed(1)} to ${b.toFixed(1)}, at most ${max.toFixed(1)} is fine`)
  }
  const worst = (m, key) => Math.max(...m.workers.map(w => w[key]))
  row('server', 'rss MiB', first.server.rss, last.server.rss, 16)
  row('server', 'descriptors', first.server.descriptors, last.server.descriptors, 16)
  row('server', 'threads', first.server.threads, last.server.threads, 8)
  row('worst surviving worker', 'rss MiB', worst(first, 'rss'), worst(last, 'rss'), 8)
  row('worst surviving worker', 'descriptors', worst(first, 'descriptors'), worst(last, 'descriptors'), 4)
  row('worst surviving worker', 'threads', worst(first, 'threads'), worst(last, 'threads'), 4)
  console.log(`\n| process | what | after warm-up | at the end | allowed | |\n| --- | --- | --- | --- | --- | --- |\n${rows.map(r => `| ${r.join(' | ')} |`).join('\n')}\n`)
}

async function cleanUp() { for (const fn of hooks.reverse()) await Promise.resolve().then(fn).catch(() => {}) }

async function soak() {
  const seconds = minutes * 60, from = Date.now()
  console.log(`soak for ${minutes} minutes: ${nWorkers} workers, ${slots} runs at once, seed ${seed}`)
  await startWorkers()
  await load(seconds * 0.2)
  const first = await measure()
  stage = 'storm'
  const over = () => stage !== 'storm'
  const storm = [killWorkers(over), killServer(over), cut(over)].map(p => p.catch(e => complain(e.message)))
  const beat = setInterval(() => console.log(`${Math.round((Date.now() - from) / 1000)} s: ${counts.runs} runs, ${open.size} open, ${kills.worker} workers and ${kills.server} servers killed, ${relay.cuts} cuts`), 30000)
  await load(seconds * 0.6)
  stage = 'calm again'
  await Promise.all(storm)
  await load(seconds * 0.2)
  clearInterval(beat)
  const last = await measure()
  for (const [mark, n] of all) if (lines(mark).length !== n) complain(`${mark}: a step was performed after the end of its run`)
  const files = fs.readdirSync(marks).filter(f => !all.has(path.join(marks, f)))
  if (files.length) complain(`${files.length} runs left marks that nobody created`)
  for (const w of workers) if (!w.proc.alive) complain(`worker ${w.name} ended by itself (${w.proc.code ?? w.proc.signal}): ${w.proc.stderr.slice(-300)}`)
  if (!pool.server.alive) complain(`the server ended by itself: ${pool.server.stderr.slice(-500)}`)
  console.log(`${counts.runs} runs ${JSON.stringify(counts.status)} ${JSON.stringify(counts.codes)}, ${counts.steps} steps performed, ${counts.interrupted} reported as interrupted; ` +
    `killed: ${kills.worker} workers, ${kills.server} servers; ${relay.cuts} connections cut`)
  compare(first, last)
}

process.on('SIGINT', () => cleanUp().then(() => process.exit(130)))
await soak().catch(e => complain(e.stack))
await cleanUp()
console.log(wrong.length ? `soak failed, ${wrong.length} complaints; the first: ${wrong[0]}` : 'soak passed: nothing stuck, lost or doubled')
process.exit(wrong.length ? 1 : 0)
