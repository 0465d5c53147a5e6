// What networks do to a worker: connections that are half open, proxies that die, servers that move. It is back within the
// deadline of the heartbeat, as the same process, with what it was doing. The tests wait side by side: that deadline is 45 s.
import { describe, test } from 'node:test'
import assert from 'node:assert/strict'
import net from 'node:net'
import { once } from 'node:events'
import { atEnd, bullpen, sh, until } from './lib.mjs'

// Forwards bytes to `port`, until it is told otherwise: freeze() leaves what is open open and lets nothing through, and
// takes new connections in the same way; deaf: new ones are taken and never answered.
class Gate {
  static async start(t, port, listen = 0) {
    const g = Object.assign(new Gate(), { port, pairs: new Set(), taken: 0 })
    g.server = net.createServer(c => g.#take(c)).listen(listen, '127.0.0.1')
    await once(g.server, 'listening')
    g.url = `http://127.0.0.1:${g.server.address().port}`
    atEnd(t, () => g.stop())
    return g
  }
  #take(c) {
    this.taken++
    const pair = { c }
    this.pairs.add(pair)
    c.on('error', () => {}).on('close', () => { this.pairs.delete(pair); if (!pair.frozen) pair.s?.destroy() })
    if (this.deaf) { c.resume(); pair.frozen = true; return }
    const s = pair.s = net.connect(this.port, '127.0.0.1').on('error', () => c.destroy()).on('close', () => { if (!pair.frozen) c.destroy() })
    c.on('data', d => { if (!pair.frozen) s.write(d) })
    s.on('data', d => { if (!pair.frozen) c.write(d) })
  }
  freeze() { for (const p of this.pairs) p.frozen = true }
  cut() { for (const p of this.pairs) { p.c.destroy(); p.s?.destroy() } }
  stop() { this.server.close(); for (const p of this.pairs) { p.frozen = true; p.c.destroy(); p.s?.destroy() } }
}
const portOf = pool => Number(new URL(pool.url).port)
const times = (w, what) => (w.stderr.match(what) ?? []).length

describe('networks', { concurrency: true }, () => {
  test('half open while idle: nothing arrives, nothing is refused', async t => {
    const pool = await bullpen(t)
    const gate = await Gate.start(t, portOf(pool))
    const w = await pool.worker({ endpoint: gate.url })
    gate.freeze()
    await until('the worker noticed and is back', () => times(w, /worker\.connected/g) === 2, 100)
    assert.match(w.stderr, /worker\.link\.dead reason="nothing was heard from the peer for 45000 ms"/)
    assert.ok(w.alive)
    assert.equal((await (await pool.run(sh('echo after'))).end()).status, 'FINISHED')
  })

  test('half open during a run: the command goes on, its result arrives, nothing is done twice', async t => {
    const pool = await bullpen(t)
    const gate = await Gate.start(t, portOf(pool))
    const w = await pool.worker({ endpoint: gate.url })
    const r = await pool.run(sh(`echo x >> ${pool.dir}/once; while [ ! -e ${pool.dir}/go ]; do sleep 0.1; done; echo done`))
    const { existsSync, readFileSync, writeFileSync } = await import('node:fs')
    await until('the command runs', () => existsSync(`${pool.dir}/once`))
    gate.freeze()
    writeFileSync(`${pool.dir}/go`, '')
    const end = await r.end().catch(() => r.end())
    assert.equal(end.status, 'FINISHED', JSON.stringify(end))
    assert.equal(readFileSync(`${pool.dir}/once`, 'utf8'), 'x\n')
    assert.equal(times(w, /worker\.connected .*/g), 2)
  })

  test('an endpoint that takes connections and says nothing does not hold the worker', async t => {
    const pool = await bullpen(t)
    const gate = await Gate.start(t, portOf(pool))
    gate.deaf = true
    const w = await pool.worker({ endpoint: gate.url, ready: false })
    await until('it tried', () => gate.taken >= 1)
    await until('it tries again by itself', () => gate.taken >= 2, 100)
    gate.deaf = false
    await until('it runs', () => /^Worker is now running$/m.test(w.stdout), 100)
  })

  test('a proxy that dies, and is started again', async t => {
    const pool = await bullpen(t)
    const gate = await Gate.start(t, portOf(pool))
    const port = Number(new URL(gate.url).port)
    const w = await pool.worker({ endpoint: gate.url })
    gate.stop()
    await w.says(/worker\.reconnect in_ms=[1-9]/, 'stderr')
    await Gate.start(t, portOf(pool), port)
    await until('it is back', () => times(w, /worker\.connected/g) === 2, 60)
    assert.ok(w.alive)
  })

  test('a server that moves: the same address leads to another place', async t => {
    const pool = await bullpen(t)
    const gate = await Gate.start(t, portOf(pool))
    const w = await pool.worker({ endpoint: gate.url })
    const first = await pool.run(sh('echo one'))
    assert.equal((await first.end()).status, 'FINISHED')
    await pool.stop()
    pool.listen = '127.0.0.1:0'
    await pool.start()
    gate.port = portOf(pool)
    gate.cut()
    await until('it is back', () => times(w, /worker\.connected/g) >= 2, 60)
    const end = await (await first.followUp(sh('echo two'))).end()
    assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  })

  test('a connection that is cut again and again is not hammered', async t => {
    const pool = await bullpen(t)
    const gate = await Gate.start(t, portOf(pool))
    const w = await pool.worker({ endpoint: gate.url })
    for (let n = 1; n <= 3; n++) {
      gate.cut()
      await until('it is back', () => times(w, /worker\.connected/g) === n + 1, 60)
    }
    // At once the first time, with pauses that grow after that.
    const pauses = [...w.stderr.matchAll(/worker\.reconnect in_ms=(\d+)/g)].map(m => Number(m[1]))
    assert.equal(pauses[0], 0)
    assert.ok(pauses.slice(1).every(p => p >= 500), `${pauses}`)
  })
})
