// Row x: the same runs on SQLite and on PostgreSQL with one, two and three servers, all on this machine; and how long a run
// stands still when its server is killed.
import crypto from 'node:crypto'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { data, fresh, good, Proc, program, quick, root, scratch, Server } from './lib.mjs'

const script = path.join(root, 'tools/private-postgresql.sh')

// With fsync, as one would run it.
function postgresql() {
  fs.chmodSync(data, 0o755)
  const dir = fresh(data, 'postgresql')
  const url = execFileSync(script, ['start', dir], { encoding: 'utf8', env: { ...process.env, FSYNC: 'on' }, stdio: ['ignore', 'pipe', 'inherit'] }).trim()
  let n = 0
  return {
    database: () => {
      const name = `bench${++n}`
      execFileSync('psql', ['-X', '-q', url.replace('NAME', 'postgres'), '-c', `CREATE DATABASE ${name}`])
      return url.replace('NAME', name)
    },
    stop: () => execFileSync(script, ['stop', dir]),
  }
}

async function servers(url, n, settings = '') {
  const key = path.join(fresh(scratch, 'key'), 'secret.key'), all = []
  fs.writeFileSync(key, crypto.randomBytes(32).toString('hex'), { mode: 0o600 })
  for (let i = 0; i < n; i++) all.push(await Server.start({ settings: url ? `[store]\nurl = "${url}"\n[secrets]\nkey_file = "${key}"\n[node]\nname = "n${i}"\n${settings}` : '' }))
  return all
}

async function rate(all, body, together, count) {
  const each = await Promise.all(all.map(s => s.load('runs', body, together / all.length, count / all.length)))
  return each.reduce((sum, r) => sum + good(r).per_s, 0)
}

// From the kill to the next event of the run, which waits for nothing but its new server.
async function standstill(pg, body, block) {
  const [one, two] = await servers(pg.database(), 2)
  let target = one
  const open = new Set(), front = net.createServer(a => {
    const b = net.connect(Number(target.port), '127.0.0.1'), end = () => { a.destroy(); b.destroy() }
    for (const s of [a, b]) open.add(s.on('error', end).on('close', end))
    a.pipe(b).pipe(a)
  }).listen(0, '127.0.0.1')
  await once(front, 'listening')
  const w = new Proc(program('agent'), two.workerArgs().map(x => x === two.url ? `http://127.0.0.1:${front.address().port}` : x), { env: { CURSOR_API_KEY: one.pool } })
  await w.says(/Worker is now running/)
  const call = async (pathname, init) => (await fetch(two.url + pathname, { headers: { authorization: `Bearer ${two.user}`, 'content-type': 'application/json' }, ...init })).json()
  const steps = block('sh', 'sleep 0.05').repeat(400)
  const { agent, run } = await call('/v1/agents', { method: 'POST', body: JSON.stringify({ prompt: { text: steps }, env: { type: 'pool', name: 'bench' } }) })
  const stream = await fetch(`${two.url}/v1/agents/${agent.id}/runs/${run.id}/stream`, { headers: { authorization: `Bearer ${two.user}` } })
  const reader = stream.body.getReader()
  for (let seen = 0; seen < 40;) seen += (Buffer.from((await reader.read()).value).toString().match(/"status":"completed"/g) ?? []).length
  target = two
  const killed = Date.now()
  one.crash()
  let at
  do { const { value } = await reader.read(); at = /event: tool_call/.test(Buffer.from(value).toString()) ? Date.now() : 0 } while (!at || !/worker\.connected/.test(two.proc.errors ?? ''))
  const ms = at - killed
  await call(`/v1/agents/${agent.id}/runs/${run.id}/cancel`, { method: 'POST' })
  reader.cancel()
  front.close()
  for (const s of open) s.destroy()
  await one.stop(w)
  await two.stop()
  return ms
}

export async function rowX(table, rounds, body, readStep, block) {
  const pg = postgresql(), count = quick ? 384 : 1536
  const kinds = [['SQLite', null, 1], ['PostgreSQL, one server', true, 1], ['PostgreSQL, two servers', true, 2], ['PostgreSQL, three servers', true, 3]]
  const values = kinds.map(() => [])
  for (let round = 0; round < rounds; round++)
    for (const [i, [, url, n]] of kinds.entries()) {
      const all = await servers(url && pg.database(), n)
      const workers = await Promise.all(all.map(s => s.workers(Math.floor(48 / n))))
      await rate(all, body(readStep), 48, 96)
      values[i].push(await rate(all, body(readStep), 48, count))
      for (const [k, s] of all.entries()) await s.stop(workers[k])
    }
  for (const [i, [name, , n]] of kinds.entries())
    table.add('x', `runs with one call, 48 at once: ${name}`, '/s', values[i], i ? { floor: { name: 'SQLite', values: values[0] }, ...(n === 1 ? { goal: { text: 'half of SQLite', ok: (_, ratio) => ratio >= 0.5 } } : {}) } : {})
  const ms = []
  for (let round = 0; round < rounds; round++) ms.push(await standstill(pg, body, block))
  table.add('x', 'a server is killed: its run stands still for', 'ms', ms, { goal: { text: 'lease + 1 s', ok: v => v <= 16000 } })
  pg.stop()
}
