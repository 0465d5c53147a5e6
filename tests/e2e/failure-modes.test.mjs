// What is blocked, and what goes on all the same: the host of one tool, the remote, the control plane.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { once } from 'node:events'
import { atEnd, bullpen, sh, file, until } from './lib.mjs'

// A port behind a firewall that drops: connections are made by the kernel, and nothing ever answers.
async function silent(t) {
  const sockets = new Set()
  const s = net.createServer(c => { sockets.add(c); c.on('error', () => {}) }).listen(0, '127.0.0.1')
  atEnd(t, () => { for (const c of sockets) c.destroy(); s.close() })
  await once(s, 'listening')
  return s.address().port
}

// A way to the control plane that can be shut: what is open hangs, what is new hangs too.
async function valve(t, to) {
  const v = { open: true, pairs: new Set() }
  const s = net.createServer(a => {
    const b = net.connect(to, '127.0.0.1')
    for (const x of [a, b]) { v.pairs.add(x); x.on('error', () => {}); x.on('close', () => { v.pairs.delete(x); a.destroy(); b.destroy() }) }
    a.on('data', d => { if (v.open) b.write(d) })
    b.on('data', d => { if (v.open) a.write(d) })
  }).listen(0, '127.0.0.1')
  atEnd(t, () => { for (const x of v.pairs) x.destroy(); s.close() })
  await once(s, 'listening')
  v.port = s.address().port
  v.cut = () => { for (const x of v.pairs) x.destroy() }
  return v
}

test('the host of one tool is blocked: that tool fails, the session and other tools go on', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const port = await silent(t)
  const r = await pool.run(sh(`timeout 2 bash -c 'exec 3<>/dev/tcp/127.0.0.1/${port}; echo GET >&3; cat <&3'`) + file('after.txt', 'it goes on\n') + sh('cat after.txt'))
  const end = await r.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  assert.match(end.result, /2 of 3 steps succeeded/)
  assert.equal(end.git.branches.length, 1)
})

test('the control plane is blocked in a session: what runs goes on, and the run ends as if nothing had been', async t => {
  const pool = await bullpen(t)
  const v = await valve(t, Number(new URL(pool.url).port))
  const go = path.join(pool.dir, 'go'), done = path.join(pool.dir, 'done')
  await pool.worker({ endpoint: `http://127.0.0.1:${v.port}` })
  const r = await pool.run(sh(`touch ${go}.here; until [ -e ${go} ]; do sleep 0.05; done; touch ${done}; echo through`))
  await until('it runs', () => fs.existsSync(`${go}.here`))
  v.open = false
  v.cut()
  fs.writeFileSync(go, '')
  await until('the command goes on behind the block', () => fs.existsSync(done))
  v.open = true
  const end = await r.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
})

test('the control plane is blocked at the start: the worker tries on, says so to those who ask, and comes when it can', async t => {
  const pool = await bullpen(t)
  const v = await valve(t, Number(new URL(pool.url).port))
  v.open = false
  const w = await pool.worker({ endpoint: `http://127.0.0.1:${v.port}`, ready: false })
  const r = await pool.run(sh('true'))
  await until('it is waited for', async () => (await r.get()).wait?.code === 'no_workers')
  assert.ok(w.alive)
  v.open = true
  v.cut()
  assert.equal((await r.end()).status, 'FINISHED')
})

test('the remote is blocked: the worker says that it cannot work, and why the run waits names it', async t => {
  const pool = await bullpen(t)
  const origin = await pool.origin(), away = `${origin.bare ?? origin.url.replace('file://', '')}.away`
  const bare = away.slice(0, -'.away'.length)
  await pool.worker()
  fs.renameSync(bare, away)
  const r = await pool.run(sh('true'))
  const wait = await until('it is unfit', async () => { const w = (await r.get()).wait; return w?.code === 'all_unfit' && w }, 60)
  assert.match(wait.text, /w1/)
  fs.renameSync(away, bare)
  assert.equal((await r.end()).status, 'FINISHED')
})
