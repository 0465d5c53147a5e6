// Resuming a stream: wherever a connection is cut, a reader that comes back with Last-Event-ID has in the end what an uncut reader
// has, nothing twice and nothing missing; also when the server was killed in between.
//
// The readers go by the rules of the official client: the resume point is the id of the last whole frame that is no simplified
// event (its twin, which has the same id, comes right behind it), and a simplified event that was seen since then is not taken again.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { once } from 'node:events'
import { atEnd, bullpen, checkEvents, file, sh, tool, until } from './lib.mjs'
import { gate } from './api-help.mjs'

const seed = Number(process.env.RESUME_SEED ?? Date.now() % 1_000_000_000)
// mulberry32: the same places again for the same seed.
function random(state) {
  return n => {
    state = state + 0x6d2b79f5 | 0
    let x = Math.imul(state ^ state >>> 15, 1 | state)
    x = x + Math.imul(x ^ x >>> 7, 61 | x) ^ x
    return ((x ^ x >>> 14) >>> 0) % n
  }
}

// A proxy that lets through so many bytes of a stream's body as the request's x-cut says, and then breaks the connection.
async function cutter(t, pool) {
  const s = http.createServer((req, res) => {
    const u = new URL(pool.url)
    const { 'x-cut': cut, ...headers } = req.headers
    let left = cut === undefined ? Infinity : Number(cut)
    const out = http.request({ host: u.hostname, port: u.port, path: req.url, headers, agent: false }, answer => {
      res.writeHead(answer.statusCode, answer.rawHeaders).flushHeaders()
      answer.on('error', () => res.destroy()).on('end', () => left > 0 && res.end())
      answer.on('data', d => {
        if (left <= 0) return
        const piece = d.subarray(0, left)
        left -= piece.length
        res.write(piece, () => { if (left <= 0) res.destroy() })
        if (left <= 0) out.destroy()
      })
      if (left <= 0) { res.destroy(); out.destroy() }
    })
    res.on('close', () => out.destroy())
    out.on('error', () => res.destroy())
    out.end()
  }).listen(0, '127.0.0.1')
  await once(s, 'listening')
  atEnd(t, () => { s.closeAllConnections(); s.close() })
  return `http://127.0.0.1:${s.address().port}`
}

class Reader {
  frames = [] // text of each frame with an id, in the order in which it was taken
  simplified = new Set() // ids of the simplified events since the resume point
  connections = 0
  constructor(url, run) { Object.assign(this, { url, run }) }
  // One connection, cut after so many bytes of its body. True: the stream has ended.
  async connect(cut) {
    this.connections++
    const req = http.get(this.url + this.run.path + '/stream', { agent: false, headers: { authorization: `Bearer ${this.run.key}`, ...(this.at ? { 'last-event-id': this.at } : {}), ...(cut === undefined ? {} : { 'x-cut': String(cut) }) } })
    const res = await once(req, 'response').then(([r]) => r, () => null)
    if (!res) return false // nobody there at the moment
    let body = ''
    res.setEncoding('utf8')
    res.on('data', d => { body += d })
    const whole = await new Promise(done => res.on('end', () => done(res.complete)).on('error', () => done(false)).on('close', () => done(res.complete)))
    if (res.statusCode === 503) return false // it stops
    assert.equal(res.statusCode, 200, body)
    const frames = body.split('\n\n')
    const rest = frames.pop()
    for (const f of frames) this.#take(f)
    if (whole) assert.equal(rest, '', 'an ended stream ends with a whole frame')
    return this.done === true
  }
  #take(frame) {
    const [, id, event] = frame.match(/^(?:id: (\S+)\n)?event: (\S+)\ndata: [^\n]*$/) ?? assert.fail(`not a frame: ${frame.slice(0, 200)}`)
    if (!id) return void assert.ok(event === 'status' || event === 'heartbeat', event)
    if (['assistant', 'thinking', 'tool_call'].includes(event)) {
      if (this.simplified.has(id)) return
      this.simplified.add(id)
    } else {
      this.at = id
      this.simplified.clear()
    }
    this.frames.push(frame)
    if (event === 'done') this.done = true
  }
}
const prompt = file('a.txt', 'A ü 🦊') + sh('echo one; echo two >&2') + tool('read_file', { path: 'a.txt' })
async function endedRun(t) {
  const pool = await bullpen(t)
  await pool.worker()
  const run = await pool.run(prompt)
  assert.equal((await run.end()).status, 'FINISHED')
  const url = await cutter(t, pool)
  const uncut = new Reader(url, run)
  assert.ok(await uncut.connect())
  const s = await run.stream()
  checkEvents(await s.all())
  assert.deepEqual(uncut.frames, s.text.split('\n\n').filter(f => f.startsWith('id: ')))
  return { pool, run, url, uncut, bytes: Buffer.from(s.text) }
}
// `jobs` of the list at once; the cap of readers of one run is 64.
async function atOnce(list, fn, jobs = 24) {
  const queue = list.values()
  await Promise.all(Array.from({ length: jobs }, async () => { for (const x of queue) await fn(x) }))
}

test('a cut after any byte, then the rest: the same as uncut', { timeout: 240_000 }, async t => {
  const { run, url, uncut, bytes } = await endedRun(t)
  t.diagnostic(`${bytes.length} bytes, each of them`)
  await atOnce(Array.from(bytes.keys()), async cut => {
    const r = new Reader(url, run)
    assert.equal(await r.connect(cut), false, `cut after ${cut}`)
    if (!r.done) assert.ok(await r.connect(), `after ${cut} it goes on to the end`)
    assert.deepEqual(r.frames, uncut.frames, `cut after ${cut} of ${bytes.length} bytes`)
  })
})

test('cut again and again, at random places: the same as uncut', async t => {
  const { run, url, uncut } = await endedRun(t)
  const place = random(seed)
  await atOnce(Array.from({ length: 150 }), async () => {
    const r = new Reader(url, run), most = 300 + place(3000)
    for (let ended = false; !ended;) {
      // A frame that is larger than what a connection gets would never arrive.
      ended = await r.connect(r.connections % 4 === 3 ? 5000 + place(5000) : place(most))
      assert.ok(r.connections < 500, `RESUME_SEED=${seed}: no progress`)
    }
    assert.deepEqual(r.frames, uncut.frames, `RESUME_SEED=${seed}, ${r.connections} connections`)
  })
})

test('cut, the server is killed and started again, the rest: the same as uncut', async t => {
  const { pool, run, url, uncut, bytes } = await endedRun(t)
  const place = random(seed)
  const readers = Array.from({ length: 60 }, () => new Reader(url, run))
  await atOnce(readers, r => r.connect(place(bytes.length)))
  await pool.crash()
  await atOnce(readers.slice(0, 5), async r => assert.equal(await r.connect(), r.done === true))
  await pool.restart()
  await atOnce(readers, async r => { if (!r.done) assert.ok(await r.connect(), `RESUME_SEED=${seed}`) })
  for (const r of readers) assert.deepEqual(r.frames, uncut.frames, `RESUME_SEED=${seed}`)
})

test('while the run goes on: readers that are cut, a server that is killed twice, and all have the same', { timeout: 180_000 }, async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const url = await cutter(t, pool), place = random(seed)
  const gates = [gate(pool, fs), gate(pool, fs)]
  const chatter = tool('run_terminal_cmd', { command: 'for i in $(seq 1 200); do echo "line $i"; done' })
  const run = await pool.run(file('a.txt', 'A') + chatter + sh(gates[0].command) + chatter + file('b.txt', 'B') + sh(gates[1].command) + chatter)
  const stop = { now: false }
  const read = async r => {
    while (!stop.now && !await r.connect(r.connections % 3 === 2 ? undefined : 200 + place(6000)))
      await new Promise(x => setTimeout(x, 10)) // the interval of polling for a server that is away
  }
  const readers = Array.from({ length: 20 }, () => new Reader(url, run))
  const all = Promise.all(readers.map(read))
  atEnd(t, () => { stop.now = true })
  for (const g of gates) {
    await until('the run is at the gate', g.reached, 60)
    await pool.crash()
    await pool.restart()
    g.go()
  }
  assert.equal((await run.end()).status, 'FINISHED')
  await all
  const uncut = new Reader(url, run)
  assert.ok(await uncut.connect())
  checkEvents(await run.events())
  for (const r of readers) assert.deepEqual(r.frames, uncut.frames, `RESUME_SEED=${seed}, ${r.connections} connections`)
  assert.ok(readers.some(r => r.connections > 5), 'they were cut')
})
