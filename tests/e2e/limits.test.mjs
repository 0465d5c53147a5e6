// Limits and deadlines of the edge, end to end: how many connections, how slow, how large, and who is asked for the key
// before anything is kept. The deadlines are the real ones, so these tests take their time, all at once.
import { describe, test } from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import net from 'node:net'
import http2 from 'node:http2'
import { once } from 'node:events'
import { bullpen, tool, atEnd, until } from './lib.mjs'
import { Peer } from './peer.mjs'

const MiB = 1 << 20
const rss = pool => Number(fs.readFileSync(`/proc/${pool.server.pid}/status`, 'utf8').match(/VmRSS:\s+(\d+)/)[1]) * 1024
const sanitized = Boolean(process.env.ASAN_OPTIONS ?? process.env.TSAN_OPTIONS)

// A raw connection that remembers what came and when it ended.
async function raw(t, pool, { from = '127.0.0.1' } = {}) {
  const s = net.connect({ port: Number(new URL(pool.url).port), host: '127.0.0.1', localAddress: from })
  s.text = ''
  s.setEncoding('latin1').on('data', d => { s.text += d }).on('error', () => {}).on('close', () => { s.gone = true })
  atEnd(t, () => s.destroy())
  await Promise.race([once(s, 'connect'), once(s, 'close')])
  return s
}
const get = 'GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n'
const answered = s => until('an answer', () => s.text.includes('200 OK'))

describe('the edge', { concurrency: 12 }, () => {
  test('an address gets so many connections and no more; others are served, and what ended makes room', async t => {
    const pool = await bullpen(t, { start: false, config: '[limits]\nreads_per_minute = 0\nmutations_per_minute = 0\nmax_connections_per_peer = 20\n' })
    await pool.start()
    const all = await Promise.all(Array.from({ length: 60 }, () => raw(t, pool)))
    await until('the surplus is closed', () => all.filter(s => s.gone).length === 40)
    const kept = all.filter(s => !s.gone)
    for (const s of kept) s.write(get)
    await Promise.all(kept.map(answered))
    const other = await raw(t, pool, { from: '127.0.0.2' })
    other.write(get)
    await answered(other)
    const lines = pool.server.stderr.match(/http\.surplus peer=\S+ limit=max_connections_per_peer more=\d+/g)
    assert.ok(lines.length >= 1 && lines.length <= 6, `${lines.length} lines for 40 connections, on two loops`)
    kept[0].destroy()
    await until('there is room again', async () => { const s = await raw(t, pool); s.write(get); return until('an answer or the end', () => s.gone || s.text.includes('200')).then(() => !s.gone) })
  })

  test('the server takes so many connections in all', async t => {
    const pool = await bullpen(t, { config: '[limits]\nreads_per_minute = 0\nmutations_per_minute = 0\nmax_connections = 10\n' })
    const all = await Promise.all(Array.from({ length: 30 }, () => raw(t, pool)))
    await until('the surplus is closed', () => all.filter(s => s.gone).length >= 20)
    assert.match(pool.server.stderr, /http\.surplus peer=\S+ limit=max_connections /)
    const s = all.find(x => !x.gone)
    s.write(get)
    await answered(s)
  })

  test('a head that comes byte by byte is waited for ten seconds in all', async t => {
    const pool = await bullpen(t)
    const s = await raw(t, pool)
    const begin = Date.now()
    s.write('GET /healthz HTTP/1.1\r\nhost: x\r\n')
    const drip = setInterval(() => { if (!s.destroyed) s.write('x-a: b\r\n') }, 500)
    t.after(() => clearInterval(drip))
    await until('it is answered', () => s.text.includes('408'), 40)
    assert.ok(Date.now() - begin > 9000)
    assert.match(pool.server.stderr, /http\.cut peer=127\.0\.0\.1:\d+ reason="a head did not arrive in time"/)
    await until('and closed', () => s.gone)
  })

  for (const [what, interval] of [['stops', 0], ['trickles', 1000]]) {
    test(`a body that ${what} is given up`, async t => {
      const pool = await bullpen(t)
      const s = await raw(t, pool)
      s.write(`POST /v1/agents HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${pool.userKey}\r\ncontent-length: 60000\r\n\r\n{`)
      const c = http2.connect(pool.url)
      atEnd(t, () => c.destroy())
      c.on('error', () => {})
      const two = c.request({ ':method': 'POST', ':path': '/v1/agents', authorization: `Bearer ${pool.userKey}` }, { endStream: false })
      let over = false
      two.on('error', () => {}).on('close', () => { over = true }).resume()
      two.write('{')
      const drip = interval ? setInterval(() => { if (!s.destroyed) s.write(' '); if (!two.destroyed) two.write(' ') }, interval) : null
      t.after(() => clearInterval(drip))
      await until('the body of HTTP/1.1 is given up', () => s.text.includes('408'), 60)
      await until('the body of HTTP/2 is given up', () => over, 60)
      assert.match(pool.server.stderr, /reason="a body did not arrive in time"/)
    })
  }

  test('a reader that does not read its events is dropped, and costs no more than its share', async t => {
    const pool = await bullpen(t)
    // Results of files are always in the log, whereas output may be left out under load.
    const remote = await pool.remote({ name: 'acme/big', files: { 'big.txt': `${'x'.repeat(99)}\n`.repeat(450) } })
    await pool.worker({ remote })
    const run = await pool.run(tool('read_file', { path: 'big.txt' }).repeat(250), { repo: remote.url })
    assert.equal((await run.end()).status, 'FINISHED')
    const s = await raw(t, pool)
    s.pause()
    const before = rss(pool)
    s.write(`GET ${run.path}/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${run.key}\r\n\r\n`)
    await until('the server gives up', () => /http\.cut .*reason="what is sent is not taken"| stream\.slow run=/.test(pool.server.stderr), 90)
    if (!sanitized) assert.ok(rss(pool) - before < 32 * MiB, `grew by ${(rss(pool) - before) / MiB} MiB`)
    s.resume()
    await until('the connection ends', () => s.gone, 60)
    assert.doesNotMatch(s.text, /event: done/)
    const events = await run.events()
    assert.ok(events.some(e => e.event === 'done'), 'another reader gets all of it')
  })

  test('a worker that answers no heartbeats is dropped, one that does is kept', async t => {
    const pool = await bullpen(t)
    const dead = await Peer.connected(t, pool), alive = await Peer.connected(t, pool)
    dead.mute = dead.silent = true
    const begin = Date.now()
    const end = await dead.ended(90)
    assert.equal(end.code, 4, JSON.stringify(end))
    assert.ok(Date.now() - begin > 40000 && Date.now() - begin < 75000, `after ${Date.now() - begin} ms`)
    assert.ok(alive.alive)
  })

  test('a wrong key is refused before the body is taken', async t => {
    const pool = await bullpen(t)
    for (const [key, size, extra] of [['crsr_wrong', 100 * MiB, ''], [`crsr_${'0'.repeat(64)}`, 2 * MiB, ''], ['crsr_wrong', 100000, ''], ['crsr_wrong', 100 * MiB, 'expect: 100-continue\r\n']]) {
      const s = await raw(t, pool)
      s.write(`POST /v1/agents HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\n${extra}content-length: ${size}\r\n\r\n{`)
      await until('it is refused', () => s.text.includes('401'))
      assert.match(s.text, /^HTTP\/1\.1 401 [^]*"unauthorized"/)
      await until('the connection ends', () => s.gone)
    }
    // Chunks do not announce: it is noticed as they come.
    const s = await raw(t, pool)
    s.write('POST /v1/agents HTTP/1.1\r\nhost: x\r\nauthorization: Bearer crsr_wrong\r\ntransfer-encoding: chunked\r\n\r\n')
    s.write(`20000\r\n${' '.repeat(0x20000)}\r\n`)
    await until('it is refused', () => s.text.includes('401'))
    const c = http2.connect(pool.url)
    atEnd(t, () => c.destroy())
    const two = c.request({ ':method': 'POST', ':path': '/v1/agents', authorization: 'Bearer crsr_wrong', 'content-length': 50 * MiB }, { endStream: false })
    two.on('error', () => {})
    two.write('{')
    const [head] = await once(two, 'response')
    assert.equal(head[':status'], 401)
    // Without a body at all there is nothing to wait for either.
    const three = c.request({ ':method': 'POST', ':path': '/v1/agents', authorization: 'Bearer crsr_wrong' }, { endStream: false })
    three.on('error', () => {})
    three.end(Buffer.alloc(200000, 0x20))
    assert.equal((await once(three, 'response'))[0][':status'], 401)
  })

  test('a right key may send a hundred megabytes to agents and runs, one to everything else', async t => {
    const pool = await bullpen(t)
    const auth = { authorization: `Bearer ${pool.userKey}` }
    const body = Buffer.alloc(100 * MiB, 0x20)
    body.write('{"prompt":{"text":"x"},"unknown":1}')
    const large = await pool.http('POST', '/v1/agents', { body })
    assert.equal(large.status, 400)
    assert.match(large.text, /unknown/)
    const c = http2.connect(pool.url)
    atEnd(t, () => c.destroy())
    const two = c.request({ ':method': 'POST', ':path': '/v1/agents', 'content-type': 'application/json', ...auth })
    let text = ''
    two.on('data', d => { text += d })
    two.end(body.subarray(0, 20 * MiB))
    await once(two, 'end')
    assert.match(text, /unknown/)
    const s = await raw(t, pool)
    s.write(`POST /v1/agents HTTP/1.1\r\nhost: x\r\nauthorization: ${auth.authorization}\r\nexpect: 100-continue\r\ncontent-length: 200000\r\n\r\n`)
    await until('it may send', () => s.text.includes('100 Continue'))
    s.write(Buffer.alloc(200000, 0x20))
    await until('it is answered', () => s.text.includes('400 Bad'))
    const over = await raw(t, pool)
    over.write(`POST /v1/agents HTTP/1.1\r\nhost: x\r\nauthorization: ${auth.authorization}\r\ncontent-length: ${128 * MiB + 1}\r\n\r\n`)
    await until('it is too large', () => over.text.includes('413'))
    const elsewhere = await raw(t, pool)
    elsewhere.write(`GET /v1/me HTTP/1.1\r\nhost: x\r\nauthorization: ${auth.authorization}\r\ncontent-length: ${MiB + 1}\r\n\r\n`)
    await until('it is too large', () => elsewhere.text.includes('413'))
  })

  test('the bodies of all requests together have a limit; it is given back', async t => {
    const pool = await bullpen(t, { config: '[limits]\nreads_per_minute = 0\nmutations_per_minute = 0\nrequest_memory = 32\n' })
    const held = await Promise.all(Array.from({ length: 4 }, () => raw(t, pool)))
    for (const s of held) {
      s.write(`POST /v1/agents HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${pool.userKey}\r\ncontent-length: ${4 * MiB}\r\n\r\n`)
      s.write(Buffer.alloc(3 * MiB, 0x20))
    }
    await until('one finds no room', () => held.some(s => /503 [^]*service_unavailable/.test(s.text)))
    for (const s of held) s.destroy()
    await until('there is room again', async () => (await pool.http('POST', '/v1/agents', { body: Buffer.alloc(7 * MiB, 0x20) })).status === 400)
    // What is made of a body is counted with it.
    assert.equal((await pool.http('POST', '/v1/agents', { body: Buffer.alloc(9 * MiB, 0x20) })).status, 503)
  })
})
