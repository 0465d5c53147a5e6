// Bad networks: a relay between worker and server that cuts and stalls connections at random bytes, and both ends killed
// in turn. Runs finish, each step is performed exactly once, no event is lost or told twice. Each test prints its seed;
// BULLPEN_SEED repeats one.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { once } from 'node:events'
import { bullpen, sh, file, atEnd, checkEvents, until } from './lib.mjs'

const counted = (log, n) => Array.from({ length: n }, (_, i) => sh(`echo ${i} >> ${log}; sleep 0.05`)).join('')
const lines = log => fs.existsSync(log) ? fs.readFileSync(log, 'utf8').trim().split('\n').filter(Boolean).map(Number) : []
const upTo = n => Array.from({ length: n }, (_, i) => i)

function seeded(t) {
  const seed = Number(process.env.BULLPEN_SEED ?? Math.floor(Math.random() * 2 ** 31))
  t.diagnostic(`seed ${seed}`)
  let a = seed
  return () => { // mulberry32
    a = (a + 0x6d2b79f5) | 0
    let x = Math.imul(a ^ (a >>> 15), 1 | a)
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296
  }
}

// Relays to the server of the pool. Each connection gets, for each direction, a fate(random): { cut, stall } in bytes.
class Relay {
  static async to(t, pool, random, fate) {
    const r = new Relay()
    Object.assign(r, { pool, random, fate, cuts: 0, stalls: 0, connections: 0, sockets: new Set(), calm: false })
    r.server = net.createServer({ allowHalfOpen: true }, s => r.#accept(s))
    r.server.listen(0, '127.0.0.1')
    await once(r.server, 'listening')
    r.url = `http://127.0.0.1:${r.server.address().port}`
    atEnd(t, () => { r.cutAll(); r.server.close() })
    return r
  }
  #accept(a) {
    this.connections++
    const b = net.connect({ port: Number(new URL(this.pool.url).port), host: '127.0.0.1', allowHalfOpen: true })
    const end = () => { for (const s of [a, b]) { this.sockets.delete(s); s.destroy() } }
    for (const s of [a, b]) { this.sockets.add(s); s.on('error', end).on('close', end) }
    for (const [from, to] of [[a, b], [b, a]]) {
      const { cut = Infinity, stall = Infinity, stallMs = 0 } = this.calm ? {} : this.fate(this.random)
      let seen = 0, stalled = false
      from.on('data', d => {
        if (seen + d.length >= cut) {
          // The last bytes go through up to the very byte of the cut.
          this.cuts++
          to.write(d.subarray(0, cut - seen), end)
          from.pause()
          return
        }
        seen += d.length
        if (!to.write(d)) { from.pause(); to.once('drain', () => from.resume()) }
        if (seen >= stall && !stalled) {
          stalled = true
          this.stalls++
          from.pause()
          setTimeout(() => from.resume(), stallMs) // the stall is what is tested
        }
      }).on('end', () => to.end())
    }
  }
  cutAll() { for (const s of this.sockets) s.destroy() }
  // A worker that reaches the server only this way.
  worker(options) { return this.pool.worker({ ...options, endpoint: this.url }) }
}

async function finished(run, steps, log) {
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.deepEqual(lines(log), upTo(steps), 'each step exactly once and in order')
  const { completed } = checkEvents(await run.events())
  assert.equal(completed.size, steps)
  // What is too long for the stream is left out there, and said to be.
  for (const c of completed.values()) assert.ok(c.result?.success || c.truncated?.result, JSON.stringify(c))
  return r
}

for (const round of [1, 2]) {
  test(`connections are cut at random bytes, round ${round}`, async t => {
    const random = seeded(t)
    const pool = await bullpen(t)
    const relay = await Relay.to(t, pool, random, rnd => ({ cut: 200 + Math.floor(rnd() * 1500) }))
    // The first hello, which describes the tools, is longer than these connections live.
    relay.calm = true
    await relay.worker()
    relay.calm = false
    relay.cutAll()
    const log = path.join(pool.dir, 'log')
    const run = await pool.run(counted(log, 14))
    await until('connections were cut', () => relay.cuts >= 4, 40)
    relay.calm = true
    await finished(run, 14, log)
  })
}

test('connections that stall for a while lose nothing', async t => {
  const random = seeded(t)
  const pool = await bullpen(t)
  const relay = await Relay.to(t, pool, random, rnd => ({ stall: Math.floor(rnd() * 12000), stallMs: 100 + Math.floor(rnd() * 900) }))
  await relay.worker()
  const log = path.join(pool.dir, 'log')
  for (let i = 0; i < 3; i++) {
    const run = await pool.run(counted(`${log}-${i}`, 6))
    await finished(run, 6, `${log}-${i}`)
    relay.cutAll() // the next connection has its own fate
  }
  assert.ok(relay.stalls >= 1)
})

test('several workers behind one bad network finish all runs, each step once', async t => {
  const random = seeded(t)
  const pool = await bullpen(t)
  const relay = await Relay.to(t, pool, random, rnd => ({ cut: rnd() < 0.6 ? 2000 + Math.floor(rnd() * 20000) : Infinity, stall: Math.floor(rnd() * 20000), stallMs: Math.floor(rnd() * 300) }))
  for (let i = 0; i < 3; i++) await relay.worker()
  const log = i => path.join(pool.dir, `log-${i}`)
  const runs = []
  for (let i = 0; i < 6; i++) runs.push(await pool.run(counted(log(i), 5) + file(`${i}.txt`, `${i}`)))
  const origin = await pool.origin()
  for (const [i, run] of runs.entries()) {
    const r = await run.end()
    assert.equal(r.status, 'FINISHED', JSON.stringify(r))
    assert.deepEqual(lines(log(i)), upTo(5))
    checkEvents(await run.events())
    assert.equal(await origin.show(r.git.branches[0].branch, `${i}.txt`), `${i}`)
  }
})

test('a connection that is cut in the middle of a large result is taken up where it was', async t => {
  const random = seeded(t)
  const pool = await bullpen(t)
  let cuts = 0
  const relay = await Relay.to(t, pool, random, rnd => ({ cut: cuts++ < 8 ? 20000 + Math.floor(rnd() * 60000) : Infinity }))
  await relay.worker()
  const log = path.join(pool.dir, 'log')
  const run = await pool.run(sh(`echo 0 >> ${log}; head -c 300000 /dev/urandom | base64`) + sh(`echo 1 >> ${log}`))
  await finished(run, 2, log)
  assert.ok(relay.cuts >= 1)
})

for (const round of [1, 2, 3]) {
  test(`worker and server are killed at random, together and apart, round ${round}`, async t => {
    const random = seeded(t)
    const pool = await bullpen(t)
    let worker = await pool.worker({ workerId: 'w-1' })
    const log = path.join(pool.dir, 'log'), steps = 10
    const run = await pool.run(counted(log, steps))
    let workerKills = 0
    for (let i = 0; i < 4; i++) {
      const progress = lines(log).length + Math.floor(random() * 3)
      await until('some progress', async () => lines(log).length >= Math.min(progress, steps) || (await run.get()).status === 'FINISHED')
      const who = random()
      const kills = []
      if (who < 0.7) kills.push(pool.crash())
      if (who > 0.4) { workerKills++; kills.push(worker.kill('SIGKILL')) }
      await Promise.all(kills)
      if (who < 0.7) await pool.restart()
      if (who > 0.4) worker = await worker.again()
    }
    const r = await run.end()
    assert.equal(r.status, 'FINISHED', JSON.stringify(r))
    const { completed } = checkEvents(await run.events())
    assert.equal(completed.size, steps)
    const calls = [...completed.values()]
    const interrupted = calls.filter(c => c.result.error?.code === 'interrupted').length
    assert.ok(interrupted <= workerKills, `${interrupted} calls interrupted by ${workerKills} kills of the worker`)
    const done = lines(log)
    assert.deepEqual(done, [...new Set(done)].sort((a, b) => a - b), 'no step twice, all in order')
    // A step that is reported as performed was performed; an interrupted one may have been.
    calls.forEach((c, i) => { if (c.result.success) assert.ok(done.includes(i), `step ${i} is told as done and was not performed`) })
    assert.ok(done.length >= steps - interrupted)
  })
}

test('a worker that waits for its welcome does not give its session up meanwhile', async t => {
  const pool = await bullpen(t, { config: '[pools]\nworker_loss_grace = 3\n' })
  const log = path.join(pool.dir, 'log')
  let answers = 0
  // Of the second connection the server's side comes to a halt behind its first bytes, for longer than the grace.
  const relay = await Relay.to(t, pool, seeded(t), () => relay.connections === 2 && answers++ === 1 ? { stall: 1, stallMs: 5000 } : {})
  await relay.worker()
  const run = await pool.run(sh(`echo 0 >> ${log}; sleep 7; echo 1 >> ${log}`) + sh(`echo 2 >> ${log}`))
  await until('the call runs', () => lines(log).length === 1)
  relay.cutAll()
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.deepEqual(lines(log), upTo(3), 'nothing was cancelled')
  assert.equal(relay.stalls, 1)
})
