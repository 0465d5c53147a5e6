// agent worker controller against a control plane that answers what no control plane should, and programs that do not end.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import os from 'node:os'
import path from 'node:path'
import { Proc, atEnd, programs, until } from './lib.mjs'

const pools = '/v0/private-workers/pools', list = '/v0/private-workers/pending-requests', stream = `${list}/stream`
const json = (res, body, status = 200) => { res.writeHead(status, { 'content-type': 'application/json' }); res.end(JSON.stringify(body)) }
const sse = res => res.writeHead(200, { 'content-type': 'text/event-stream' })
const request = (id, pool = 'gpu', more = {}) => ({ id, userId: 0, labels: [{ key: 'pool', value: pool }], createdAtMs: 1, ...more })

// A control plane of which each answer may be replaced: `on` has "METHOD path" -> (req, res, body, url).
async function plane(t, on = {}) {
  const p = { seen: [], streams: [], claims: [], on }
  const usual = {
    [`POST ${pools}`]: (req, res) => json(res, { registered: true }),
    [`GET ${list}`]: (req, res) => json(res, { requests: p.waiting?.splice(0) ?? [], streamCursor: 'c1' }),
    [`GET ${stream}`]: (req, res) => { sse(res); res.write(': connected\n\n'); p.streams.push(res) },
    'POST /v0/private-workers/claim': (req, res, body) => { p.claims.push(body); json(res, { id: body.id, workerId: body.workerId }) },
  }
  const server = http.createServer((req, res) => {
    let text = ''
    req.on('data', d => { text += d })
    req.on('end', () => {
      const url = new URL(req.url, 'http://x'), what = `${req.method} ${url.pathname}`
      p.seen.push({ what, url, at: Date.now() })
      const answer = p.on[what] ?? usual[what]
      if (answer) answer(req, res, text ? JSON.parse(text) : undefined, url)
      else json(res, { error: 'Not found: nothing' }, 404)
    })
  })
  await new Promise(done => server.listen(0, '127.0.0.1', done))
  atEnd(t, () => { server.closeAllConnections(); server.close() })
  p.url = `http://127.0.0.1:${server.address().port}`
  p.count = (method, path) => p.seen.filter(s => s.what === `${method} ${path}`).length
  p.tell = (event, data) => { for (const s of p.streams) s.write(`event: ${event}\nid: i${p.seen.length}\ndata: ${JSON.stringify(data)}\n\n`) }
  return p
}

function hookOf(t, script) {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'hook-'))
  const log = path.join(dir, 'log'), pids = path.join(dir, 'pids'), file = path.join(dir, 'hook.sh')
  fs.writeFileSync(file, `#!/bin/sh\necho $$ >> ${pids}\necho "$CURSOR_REQUEST_ID $CURSOR_POOL $CURSOR_AGENT_WORKER_ID" >> ${log}\n${script}\n`, { mode: 0o755 })
  const read = f => fs.existsSync(f) ? fs.readFileSync(f, 'utf8').trim().split('\n').filter(Boolean) : []
  atEnd(t, () => { for (const pid of read(pids)) try { process.kill(-Number(pid), 'SIGKILL') } catch { /* gone */ } fs.rmSync(dir, { recursive: true, force: true }) })
  return { file, told: () => read(log) }
}

async function controller(t, p, args) {
  const c = new Proc(t, programs.agent, ['worker', 'controller', ...args], { env: { CURSOR_API_KEY: `crsr_${'0'.repeat(64)}`, CURSOR_API_ENDPOINT: p.url, BULLPEN_ALLOW_HTTP: '1' } })
  await until('the controller runs', () => c.stderr.includes('controller.start') || c.code !== undefined)
  return c
}

// Long enough to see whether it comes again and again.
const watchFor = async (ms, what, fn) => { const end = Date.now() + ms; await until(what, () => fn() || Date.now() >= end, ms / 1000 + 5) }

for (const [how, answer] of [
  ['a page of HTML', (req, res) => { res.writeHead(200, { 'content-type': 'text/html' }); res.end('<html>hello</html>') }],
  ['nothing', (req, res) => { sse(res); res.end() }],
  ['an error', (req, res) => json(res, { error: 'Too many streams: four' }, 429)],
  ['what is not JSON', (req, res) => { sse(res); res.end('event: created\nid: 1\ndata: {{{\n\n') }],
  ['a line without end', (req, res) => { sse(res); res.end(`data: ${'x'.repeat(9 << 20)}\n\n`) }],
])
  test(`a stream that is ${how} is not asked for without pause`, async t => {
    const p = await plane(t, { [`GET ${stream}`]: answer })
    const c = await controller(t, p, ['--spawn', '/bin/true', '--pool', 'gpu'])
    await watchFor(6000, 'it comes again and again', () => p.count('GET', stream) > 8)
    assert.ok(p.count('GET', stream) >= 2, 'it tries again')
    assert.ok(p.count('GET', stream) <= 8, `${p.count('GET', stream)} streams in six seconds`)
    assert.ok(p.count('GET', list) <= 8, `${p.count('GET', list)} lists in six seconds`)
    assert.ok(c.alive)
  })

for (const [how, answer] of [
  ['a page of HTML', (req, res) => { res.writeHead(200, { 'content-type': 'text/html' }); res.end('<html>hello</html>') }],
  ['empty', (req, res) => res.end()],
  ['too large', (req, res) => res.end(`{"requests":["${'x'.repeat(20 << 20)}"]}`)],
  ['of other types', (req, res) => json(res, { requests: [1, null, { id: 7 }, { id: 'bc-1', labels: 5, userId: 'x' }, 'x', []], streamCursor: 9, nextPageToken: {} })],
  ['a list where an object should be', (req, res) => json(res, [[]])],
  ['an error', (req, res) => json(res, {}, 500)],
  ['cut', (req, res) => { res.writeHead(200, { 'content-length': 100 }); res.write('{', () => res.destroy()) }],
])
  test(`a list that is ${how} does not end the controller, and it goes on when that is over`, async t => {
    const p = await plane(t, { [`GET ${list}`]: answer, 'POST /v0/private-workers/claim': (req, res) => { res.writeHead(200); res.end('<html>') } })
    const h = hookOf(t, 'exit 0')
    const c = await controller(t, p, ['--spawn', h.file, '--all-pools'])
    await until('it was asked twice', () => p.count('GET', list) >= 2 || !c.alive)
    assert.ok(c.alive, c.stderr)
    p.on = {}
    p.waiting = [request('bc-2')]
    await until('it goes on', () => h.told().some(l => l.startsWith('bc-2 gpu ctrl-')), 30)
  })

test('five pools take one stream of the four that an account may have, and only what is for them is claimed', async t => {
  const p = await plane(t)
  const h = hookOf(t, 'exit 0')
  p.waiting = [request('bc-1', 'e'), request('bc-2', 'other')]
  const c = await controller(t, p, ['--spawn', h.file, ...['a', 'b', 'c', 'd', 'e'].flatMap(n => ['--pool', n])])
  await until('it has listed', () => p.streams.length > 0 && h.told().length > 0)
  p.tell('created', request('bc-3', 'other'))
  p.tell('created', request('bc-4', 'a'))
  await until('the last one is claimed', () => h.told().length >= 2)
  assert.deepEqual(p.claims.map(x => x.id), ['bc-1', 'bc-4'])
  assert.equal(p.count('GET', stream), 1)
  assert.equal(p.count('POST', pools), 5)
  assert.ok(c.alive)
})

test('a request that comes back while its program still runs is claimed for another worker', async t => {
  const p = await plane(t)
  // As a program that is the worker itself, or one that hangs.
  const h = hookOf(t, 'sleep 1000')
  p.waiting = [request('bc-1')]
  await controller(t, p, ['--spawn', h.file, '--pool', 'gpu'])
  await until('the first runs', () => h.told().length === 1 && p.streams.length === 1)
  // What was said before the claim counts for nothing; what comes after it does.
  p.tell('created', request('bc-1'))
  p.tell('claimed', { id: 'bc-1' })
  p.tell('created', request('bc-2'))
  await until('the other runs', () => h.told().length === 2)
  assert.deepEqual(p.claims.map(x => x.id), ['bc-1', 'bc-2'])
  p.tell('created', request('bc-1'))
  await until('it is claimed again', () => p.claims.length === 3)
  await until('the program runs for it', () => h.told().length === 3)
  const [one, , three] = h.told()
  assert.equal(p.claims[2].id, 'bc-1')
  assert.notEqual(one, three, 'with another worker id')
})

test('SIGTERM ends it at once, also while the control plane says nothing', async t => {
  const p = await plane(t, { 'POST /v0/private-workers/claim': () => {} })
  p.waiting = Array.from({ length: 20 }, (_, i) => request(`bc-${i}`))
  const c = await controller(t, p, ['--spawn', '/bin/true', '--pool', 'gpu'])
  await until('it claims', () => p.count('POST', '/v0/private-workers/claim') > 0)
  c.child.kill('SIGTERM')
  await until('it has ended', () => c.code !== undefined, 15)
  assert.equal(c.code, 0)
})

test('programs that never end take at most 32 places, and the others are started when one is free', async t => {
  const p = await plane(t)
  const h = hookOf(t, 'sleep 1000')
  p.waiting = Array.from({ length: 40 }, (_, i) => request(`bc-${i}`))
  const c = await controller(t, p, ['--spawn', h.file, '--pool', 'gpu'])
  await until('all are claimed and as many run as may', () => p.claims.length === 40 && h.told().length === 32)
  await until('it says so', () => /controller\.hooks\.full/.test(c.stderr))
  assert.equal(h.told().length, 32)
  const pid = Number(fs.readFileSync(path.join(path.dirname(h.file), 'pids'), 'utf8').split('\n')[0])
  process.kill(-pid, 'SIGKILL')
  await until('another runs', () => h.told().length === 33)
})
