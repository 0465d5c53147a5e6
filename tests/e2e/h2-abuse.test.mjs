// What a hostile peer can do with HTTP/2: it loses its own connection, within a deadline and with a line in the log.
// Others on the same server go on: after every case a connection that was open before still gets its answer, and the
// worker is still connected.
import { describe, test, after } from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import { bullpen, until } from './lib.mjs'
import { tlsPool } from './tls.mjs'
import { H2, frame, flags, types, u32, setting, block, literal, indexed } from './h2-raw.mjs'

const { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, WINDOW_UPDATE, CONTINUATION } = types
const { END_STREAM, END_HEADERS, PADDED } = flags
const get = path => [[':method', 'GET'], [':scheme', 'http'], [':path', path], [':authority', 'x']]
const health = block(get('/healthz'))
const repeat = (n, bytes) => Buffer.concat(Array(n).fill(bytes))
const MiB = 1 << 20
const sanitized = Boolean(process.env.ASAN_OPTIONS ?? process.env.TSAN_OPTIONS)

const rss = pool => Number(fs.readFileSync(`/proc/${pool.server.pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)[1]) * 1024

// Sends pieces until the connection is gone; fails if the server bears them all.
async function flood(c, pieces, piece) {
  for (let i = 0; i < pieces && !c.closed; i++) if (!await c.push(typeof piece === 'function' ? piece(i) : piece)) break
}

const cases = {
  'a rapid reset': {
    log: /too many requests were reset|flood|ENHANCE_YOUR_CALM|INTERNAL_ERROR/,
    run: c => flood(c, 500, i => Buffer.concat(Array.from({ length: 100 }, (_, k) => {
      const id = 2 * (i * 100 + k) + 1
      return Buffer.concat([frame(HEADERS, END_STREAM | END_HEADERS, id, health), frame(RST_STREAM, 0, id, u32(8))])
    }))),
  },
  'resets that the server is made to send': {
    log: /too many requests were reset|flood|FLOW_CONTROL|PROTOCOL_ERROR|ENHANCE_YOUR_CALM/,
    run: c => flood(c, 500, i => Buffer.concat(Array.from({ length: 50 }, (_, k) => {
      const id = 2 * (i * 50 + k) + 1
      return Buffer.concat([frame(HEADERS, END_HEADERS, id, block([[':method', 'POST'], [':scheme', 'http'], [':path', '/v1/agents'], [':authority', 'x']])), frame(WINDOW_UPDATE, 0, id, u32(0x7fffffff))])
    }))),
  },
  'endless CONTINUATION': {
    memory: true, log: /http\.cut/,
    run: async c => { c.send(frame(HEADERS, 0, 1, health)); await flood(c, 20000, frame(CONTINUATION, 0, 1, block([['x-a', 'b'.repeat(4000)]]))) },
  },
  'endless empty CONTINUATION': {
    log: /http\.cut/,
    run: async c => { c.send(frame(HEADERS, 0, 1, health)); await flood(c, 2000, repeat(1000, frame(CONTINUATION, 0, 1))) },
  },
  'a flood of SETTINGS': { log: /too many frames without content|flood/i, run: c => flood(c, 2000, repeat(1000, frame(SETTINGS, 0, 0, setting(4, 65535)))) },
  'a flood of SETTINGS that nobody reads the answers to': { memory: true, deaf: true, log: /too many frames without content|flood/i, run: c => flood(c, 2000, repeat(1000, frame(SETTINGS, 0, 0))) },
  'a flood of PING': { log: /too many frames without content|flood/i, run: c => flood(c, 2000, repeat(1000, frame(PING, 0, 0, Buffer.alloc(8)))) },
  'a flood of PING that nobody reads the answers to': { memory: true, deaf: true, log: /too many frames without content|flood/i, run: c => flood(c, 2000, repeat(1000, frame(PING, 0, 0, Buffer.alloc(8)))) },
  'a flood of PRIORITY': { memory: true, log: /too many frames without content|flood/i, run: c => flood(c, 2000, i => Buffer.concat(Array.from({ length: 1000 }, (_, k) => frame(PRIORITY, 0, 2 * (i * 1000 + k) + 1, Buffer.concat([u32(0), Buffer.from([1])]))))) },
  'a flood of empty DATA': {
    log: /too many frames without content|flood/i,
    run: async c => { c.headers(1, [...get('/v1/agents').slice(1), [':method', 'POST']]); await flood(c, 2000, repeat(1000, frame(DATA, 0, 1))) },
  },
  'a SETTINGS frame with thousands of entries': { log: /http\.cut/, run: c => flood(c, 100, frame(SETTINGS, 0, 0, repeat(2000, setting(4, 65535)))) },
  'a WINDOW_UPDATE over the maximum for the connection': { log: /FLOW_CONTROL_ERROR/, goaway: 3, run: c => c.send(frame(WINDOW_UPDATE, 0, 0, u32(0x7fffffff))) },
  'a WINDOW_UPDATE of zero for the connection': { log: /PROTOCOL_ERROR/, goaway: 1, run: c => c.send(frame(WINDOW_UPDATE, 0, 0, u32(0))) },
  'an initial window over the maximum': { log: /FLOW_CONTROL_ERROR/, goaway: 3, run: c => c.send(frame(SETTINGS, 0, 0, setting(4, 0x80000000))) },
  'DATA for a stream that never was': { log: /PROTOCOL_ERROR/, goaway: 1, run: c => c.send(frame(DATA, 0, 5, Buffer.from('x'))) },
  'RST_STREAM for a stream that never was': { log: /PROTOCOL_ERROR/, goaway: 1, run: c => c.send(frame(RST_STREAM, 0, 5, u32(8))) },
  'DATA on stream zero': { log: /PROTOCOL_ERROR/, goaway: 1, run: c => c.send(frame(DATA, 0, 0, Buffer.from('x'))) },
  'HEADERS on stream zero': { log: /PROTOCOL_ERROR/, goaway: 1, run: c => c.send(frame(HEADERS, END_STREAM | END_HEADERS, 0, health)) },
  'a stream of even number': { log: /PROTOCOL_ERROR/, goaway: 1, run: c => c.send(frame(HEADERS, END_STREAM | END_HEADERS, 2, health)) },
  'a CONTINUATION out of nowhere': { log: /http\.cut/, run: c => c.send(frame(CONTINUATION, END_HEADERS, 1, health)) },
  'another frame between HEADERS and CONTINUATION': { log: /http\.cut/, run: c => { c.send(frame(HEADERS, 0, 1, health)); c.send(frame(PING, 0, 0, Buffer.alloc(8))) } },
  'a PUSH_PROMISE of a client': { log: /PROTOCOL_ERROR/, goaway: 1, run: c => c.send(frame(PUSH_PROMISE, END_HEADERS, 1, Buffer.concat([u32(2), health]))) },
  'a frame over the maximum size': { log: /FRAME_SIZE_ERROR/, goaway: 6, run: c => c.send(frame(DATA, 0, 1, Buffer.alloc(16385))) },
  'a frame that says it has 16 MiB': { memory: true, log: /FRAME_SIZE_ERROR/, run: c => c.send(frame(HEADERS, END_HEADERS, 1, Buffer.alloc(100), 0xffffff)) },
  'padding longer than its frame': { log: /PROTOCOL_ERROR/, goaway: 1, run: c => { c.headers(1, [...get('/v1/agents').slice(1), [':method', 'POST']]); c.send(frame(DATA, PADDED, 1, Buffer.from([200, 1, 2]))) } },
  'a PING of seven bytes': { log: /FRAME_SIZE_ERROR/, goaway: 6, run: c => c.send(frame(PING, 0, 0, Buffer.alloc(7))) },
  'a header index that does not exist': { log: /COMPRESSION_ERROR/, goaway: 9, run: c => c.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, indexed(3000))) },
  'a header integer without end': { log: /COMPRESSION_ERROR/, goaway: 9, run: c => c.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, Buffer.from([0x7f, ...Array(20).fill(0xff), 0x7f]))) },
  'a header table larger than allowed': { log: /COMPRESSION_ERROR/, goaway: 9, run: c => c.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, Buffer.concat([Buffer.from([0x3f, 0xff, 0xff, 0x7f]), health]))) },
  'a broken preface': { log: /http\.cut|never/, run: c => c.send(Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')) },
}

for (const [kind, make] of [['cleartext', bullpen], ['TLS', tlsPool]]) {
  describe(`over ${kind}`, { concurrency: 1 }, () => {
    for (const [name, abuse] of Object.entries(cases)) {
      // Over TLS only what is about floods and memory: the rest is the same code.
      if (kind === 'TLS' && !/flood|endless|rapid/.test(name)) continue
      test(`${name} costs its own connection only`, async t => {
        const { pool, bystander, worker } = await scene(t, kind, make)
        const from = pool.server.stderr.length, beforeRss = rss(pool)
        const c = await H2.connect(t, pool)
        if (abuse.deaf) { c.socket.pause(); c.deaf = true }
        await abuse.run(c)
        if (abuse.deaf) c.socket.resume()
        const goaway = await c.cut(15)
        if (abuse.goaway !== undefined) assert.equal(goaway.code, abuse.goaway)
        await until(`the log says why; it says ${pool.server.stderr.slice(from)}`, () => /http\.cut peer=127\.0\.0\.1:\d+ reason=/.test(pool.server.stderr.slice(from)) && abuse.log.test(pool.server.stderr.slice(from)))
        if (abuse.memory && !sanitized) assert.ok(rss(pool) - beforeRss < 64 * MiB, `grew by ${(rss(pool) - beforeRss) / MiB} MiB`)
        await unharmed(pool, bystander, worker)
      })
    }
  })
}

// One server, worker and bystander for all cases of a kind: what a case leaves behind meets the next.
const scenes = new Map()
async function scene(t, kind, make) {
  if (!scenes.has(kind)) {
    // Belongs to the whole file, not to the first test that asks.
    const ends = []
    const whole = { after: fn => ends.push(fn) }
    const pool = await make(whole)
    const worker = await pool.worker({ env: pool.trust ?? {} })
    const bystander = await H2.connect(whole, pool)
    bystander.next = 1
    scenes.set(kind, { pool, worker, bystander, ends })
  }
  return scenes.get(kind)
}
after(async () => { for (const s of scenes.values()) for (const end of s.ends) await end() })

async function unharmed(pool, bystander, worker) {
  const id = bystander.next
  bystander.next += 2
  bystander.headers(id, get('/healthz'), END_STREAM)
  const answer = await bystander.ended(id, 10)
  assert.equal(answer.status, 200)
  assert.equal((await pool.http('GET', '/v1/me')).status, 200)
  assert.equal(worker.alive, true)
  assert.doesNotMatch(worker.stderr, /worker\.disconnected/)
}

describe('what is answered', { concurrency: 6 }, () => {
  test('a bomb of compressed headers is refused without being unpacked into memory', async t => {
    const pool = await bullpen(t)
    const beforeRss = rss(pool)
    const c = await H2.connect(t, pool)
    // One large entry for the table, then thousands of references to it: 16 KiB become 60 MiB.
    c.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, Buffer.concat([health, literal('x-large', 'a'.repeat(3900), 0x40)])))
    assert.equal((await c.ended(1)).status, 200)
    for (let i = 0; i < 20; i++) c.send(frame(HEADERS, END_STREAM | END_HEADERS, 3 + 2 * i, Buffer.concat([health, repeat(16000, indexed(62))])))
    await until('all are refused', () => c.closed || Array.from({ length: 20 }, (_, i) => c.stream(3 + 2 * i)).every(s => s.end))
    for (let i = 0; i < 20; i++) assert.notEqual(c.stream(3 + 2 * i).status, 200)
    if (!sanitized) assert.ok(rss(pool) - beforeRss < 32 * MiB)
    assert.equal((await pool.http('GET', '/healthz')).status, 200)
  })

  test('a peer that opens more streams than it was allowed loses its connection', async t => {
    const pool = await bullpen(t)
    const worker = await pool.worker()
    const c = await H2.connect(t, pool)
    await until('it has heard the limit', () => c.frames.some(f => f.type === SETTINGS && f.flag & flags.ACK))
    for (let i = 0; i < 150; i++) c.headers(2 * i + 1, [...get('/v1/agents').slice(1), [':method', 'POST']])
    assert.equal((await c.cut()).code, 1)
    assert.equal((await pool.http('GET', '/healthz')).status, 200)
    assert.doesNotMatch(worker.stderr, /worker\.disconnected/)
  })

  test('DATA on a stream that has ended is ignored or refused, and the connection serves on', async t => {
    const pool = await bullpen(t)
    const c = await H2.connect(t, pool)
    c.headers(1, get('/healthz'), END_STREAM)
    assert.equal((await c.ended(1)).status, 200)
    for (let i = 0; i < 20; i++) c.send(frame(DATA, 0, 1, Buffer.alloc(10000)))
    c.headers(3, get('/healthz'), END_STREAM)
    await c.ended(3)
    assert.ok(c.goaway?.code === 5 || c.stream(3).status === 200, JSON.stringify(c.goaway))
    assert.equal((await pool.http('GET', '/healthz')).status, 200)
  })

  test('a WINDOW_UPDATE over the maximum for a stream resets the stream only', async t => {
    const pool = await bullpen(t)
    const c = await H2.connect(t, pool)
    c.headers(1, [...get('/v1/agents').slice(1), [':method', 'POST']])
    c.send(frame(WINDOW_UPDATE, 0, 1, u32(0x7fffffff)))
    assert.equal((await c.ended(1)).reset, 3)
    c.headers(3, get('/healthz'), END_STREAM)
    assert.equal((await c.ended(3)).status, 200)
  })

  test('a peer that never opens its window loses its streams, and the memory they took', async t => {
    const pool = await bullpen(t)
    const beforeRss = rss(pool)
    const c = await H2.connect(t, pool, { settings: setting(4, 0) })
    for (let i = 0; i < 100; i++) c.headers(2 * i + 1, get('/healthz'), END_STREAM)
    await until('all are reset', () => c.closed || Array.from({ length: 100 }, (_, i) => c.stream(2 * i + 1)).every(s => s.reset !== undefined), 60)
    await until('the log says why', () => /reason="an answer is not taken"/.test(pool.server.stderr))
    if (!sanitized) assert.ok(rss(pool) - beforeRss < 32 * MiB)
    assert.equal((await pool.http('GET', '/healthz')).status, 200)
  })

  test('a peer that reads nothing while it asks and asks is cut, and its answers are not piled up', async t => {
    const pool = await bullpen(t)
    const beforeRss = rss(pool)
    const c = await H2.connect(t, pool, { settings: setting(4, 0x7fffffff) })
    c.send(frame(WINDOW_UPDATE, 0, 0, u32(0x7ffe0000)))
    c.socket.pause()
    let id = 1
    const cut = until('it is cut', () => {
      for (let i = 0; i < 200 && c.socket.writableLength < MiB && !c.closed; i++, id += 2) c.send(frame(HEADERS, END_STREAM | END_HEADERS, id, health))
      return /reason="(what is sent is not taken|an answer is not taken|PROTOCOL_ERROR|too many requests were reset)"/.test(pool.server.stderr)
    }, 70)
    await cut
    if (!sanitized) assert.ok(rss(pool) - beforeRss < 64 * MiB, `grew by ${(rss(pool) - beforeRss) / MiB} MiB`)
    assert.equal((await pool.http('GET', '/healthz')).status, 200)
  })

  test('half a head is waited for no longer than a head may take', async t => {
    const pool = await bullpen(t)
    const c = await H2.connect(t, pool)
    c.send(frame(HEADERS, 0, 1, health))
    await c.cut(40)
    assert.match(pool.server.stderr, /reason="a head did not arrive in time"/)
  })
})
