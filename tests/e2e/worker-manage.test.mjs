// What a worker says about itself over HTTP.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import path from 'node:path'
import { once } from 'node:events'
import { Proc, bullpen, freePort, sh, tempDir, until } from './lib.mjs'
import { Plane, startWorker } from './plane.mjs'

const reasons = ['stream_end', 'stream_error', 'session_closed', 'session_error', 'connection_timeout', 'session_aborted']

async function ask(port, pathname, method = 'GET', host = '127.0.0.1') {
  const q = http.request({ host, port, path: pathname, method, agent: false }).end()
  const [r] = await once(q, 'response')
  let text = ''
  for await (const d of r) text += d
  let json
  try { json = JSON.parse(text) } catch { /* metrics */ }
  return { status: r.statusCode, headers: r.headers, text, json }
}

// Every line of the exposition; comments are checked to stand before their family.
function metrics(text) {
  const values = new Map(), help = new Set(), type = new Map()
  assert.ok(text.endsWith('\n'))
  for (const line of text.trimEnd().split('\n')) {
    const h = line.match(/^# HELP (\S+) \S.*$/), k = line.match(/^# TYPE (\S+) (gauge|counter)$/), v = line.match(/^(([a-z_]+)(?:\{reason="([a-z_]+)"\})?) (\d+)$/)
    assert.ok(h || k || v, line)
    if (h) help.add(h[1])
    if (k) { assert.ok(help.has(k[1])); type.set(k[1], k[2]) }
    if (v) { assert.ok(type.has(v[2]), line); values.set(v[1].replace('cursor_self_hosted_worker_', ''), Number(v[4])) }
  }
  return { values, type }
}
const figures = async port => metrics((await ask(port, '/metrics')).text).values

// With a port that was free a moment ago.
async function managed(t, plane, args = ['--pool'], options) {
  const port = await freePort()
  const w = startWorker(t, plane, [...args, '--management-addr', `127.0.0.1:${port}`], options)
  w.port = port
  await until('it answers', () => ask(port, '/healthz').catch(() => { if (!w.alive) throw new Error(w.stderr) }))
  return w
}

test('/readyz follows the worker through its states, /healthz never wavers', async t => {
  const port = await freePort()
  const gone = { url: `http://127.0.0.1:${port}` }
  const w = await managed(t, gone)
  const states = []
  const state = async (status, expected) => {
    const r = await until(`/readyz is ${JSON.stringify(expected)}`, async () => {
      const r = await ask(w.port, '/readyz')
      return Object.entries(expected).every(([k, v]) => r.json[k] === v) && r
    })
    assert.equal(r.status, status)
    assert.equal(r.headers['content-type'], 'application/json')
    assert.match(r.text, /"timestamp":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"\}$/)
    const health = await ask(w.port, '/healthz')
    assert.equal(health.status, 200)
    assert.match(health.text, /^\{"status":"ok","timestamp":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"\}$/)
    states.push(status)
  }
  await state(503, { status: 'unavailable', reason: 'starting', connected: false, claimed: false })
  const plane = await Plane.start(t, { port })
  const link = await plane.link()
  await state(200, { status: 'ok', connected: true, claimed: false, reason: undefined })
  await link.openSession()
  await state(503, { status: 'unavailable', reason: 'claimed', connected: true, claimed: true })
  assert.equal((await figures(w.port)).get('session_active'), 1)
  await link.call('CLOSE_SESSION')
  await state(200, { status: 'ok', connected: true, claimed: false })
  await link.openSession({ claim: 'claim-2' })
  plane.stop()
  await state(503, { reason: 'disconnected', connected: false, claimed: true })
  assert.equal((await figures(w.port)).get('connected'), 0)
  assert.deepEqual(states, [503, 200, 503, 200, 503])
})

test('draining is said while a call ends', async t => {
  const plane = await Plane.start(t)
  const w = await managed(t, plane)
  const link = await plane.link()
  await link.openSession()
  await link.call('TOOL', { name: 'run_terminal_cmd', args: { command: 'echo begun; sleep 600' }, wait: false })
  w.child.kill('SIGTERM')
  await until('it says so', async () => { const r = await ask(w.port, '/readyz'); return r.status === 503 && r.json.reason === 'draining' && r.json.connected })
  w.child.kill('SIGTERM')
})

test('/metrics: six families, six reasons from the start, and each turn ends once', async t => {
  const plane = await Plane.start(t)
  const w = await managed(t, plane)
  const r = await ask(w.port, '/metrics')
  assert.equal(r.status, 200)
  assert.equal(r.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8')
  const { values, type } = metrics(r.text)
  assert.deepEqual([...type], [
    ['connected', 'gauge'], ['session_active', 'gauge'], ['last_activity_unix_seconds', 'gauge'],
    ['connect_attempts_total', 'counter'], ['connect_retry_total', 'counter'], ['session_ends_total', 'counter'],
  ].map(([n, k]) => [`cursor_self_hosted_worker_${n}`, k]))
  for (const reason of reasons) assert.equal(values.get(`session_ends_total{reason="${reason}"}`), 0)
  const link = await plane.link()
  const before = Math.floor(Date.now() / 1000)
  link.heartbeat()
  await until('the last word is remembered', async () => (await figures(w.port)).get('last_activity_unix_seconds') >= before)
  await until('connected', async () => (await figures(w.port)).get('connected') === 1)
  assert.equal((await figures(w.port)).get('connect_attempts_total'), 1)
  assert.equal((await figures(w.port)).get('connect_retry_total'), 0)
  const ends = async () => { const f = await figures(w.port); return reasons.map(x => f.get(`session_ends_total{reason="${x}"}`)) }
  // A turn of an agent without repository ends with the next one, or with the session.
  await link.openSession()
  await link.openSession()
  assert.deepEqual(await ends(), [1, 0, 0, 0, 0, 0])
  await link.call('CLOSE_SESSION')
  assert.deepEqual(await ends(), [2, 0, 0, 0, 0, 0])
  // A cancelled call that nothing follows: the turn was cancelled.
  await link.openSession({ claim: 'claim-2' })
  const id = await link.call('TOOL', { claim: 'claim-2', name: 'run_terminal_cmd', args: { command: 'sleep 600' }, wait: false })
  link.send({ cancel: { call_id: id } })
  await until('the call ended', () => link.results.get(id))
  await link.call('CLOSE_SESSION', { claim: 'claim-2' })
  assert.deepEqual(await ends(), [2, 0, 0, 0, 0, 1])
})

test('with the real control plane a published run ends its turn; attempts and retries count', async t => {
  const pool = await bullpen(t)
  const port = await freePort()
  const w = await pool.worker({ args: ['--management-addr', `127.0.0.1:${port}`] })
  assert.equal((await (await pool.run(sh('echo x > new.txt'))).end()).status, 'FINISHED')
  await until('the turn ended', async () => (await figures(port)).get('session_ends_total{reason="stream_end"}') === 1)
  assert.equal((await figures(port)).get('session_active'), 1)
  await pool.crash()
  await until('it tries again', async () => (await figures(port)).get('connect_retry_total') >= 1)
  const f = await figures(port)
  // The first attempt after a connection is no retry.
  assert.ok(f.get('connect_attempts_total') >= f.get('connect_retry_total') + 2, JSON.stringify([...f]))
  await pool.restart()
  await until('it is back', async () => (await figures(port)).get('connected') === 1)
  assert.ok(w.alive)
})

test('what is not there, and what is not asked so', async t => {
  const plane = await Plane.start(t)
  const w = await managed(t, plane)
  const post = await ask(w.port, '/metrics', 'POST')
  assert.deepEqual([post.status, post.headers.allow, Object.keys(post.json)], [405, 'GET, HEAD', ['error']])
  const missing = await ask(w.port, '/debug')
  assert.deepEqual([missing.status, Object.keys(missing.json)], [404, ['error']])
  assert.equal((await ask(w.port, '/')).status, 404)
  assert.equal((await ask(w.port, '/healthz?verbose=1')).status, 200)
  const head = await ask(w.port, '/metrics', 'HEAD')
  assert.deepEqual([head.status, head.text, head.headers['content-type']], [200, '', 'text/plain; version=0.0.4; charset=utf-8'])
  // A head that is too long, and a crowd.
  const s = net.connect(w.port, '127.0.0.1').on('error', () => {})
  let said = ''
  s.on('data', d => { said += d })
  s.write(`GET /healthz HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(9000)}\r\n\r\n`)
  await once(s, 'close')
  assert.match(said, /^HTTP\/1\.1 431 /)
  const crowd = Array.from({ length: 80 }, () => net.connect(w.port, '127.0.0.1').on('error', () => {}))
  t.after(() => crowd.forEach(c => c.destroy()))
  await until('some are turned away', () => crowd.filter(c => c.destroyed || c.readableEnded).length >= 16 || (crowd.forEach(c => c.resume()), false))
  crowd.forEach(c => c.destroy())
  await until('others are served again', () => ask(w.port, '/healthz').then(r => r.status === 200, () => false))
})

test('all addresses, a name, IPv6; a port that is taken ends the start', async t => {
  const plane = await Plane.start(t)
  for (const form of ['', 'localhost']) {
    const port = await freePort()
    startWorker(t, plane, ['--pool', '--management-addr', `${form}:${port}`])
    await until('it answers', () => ask(port, '/healthz', 'GET', 'localhost').catch(() => {}))
  }
  const taken = net.createServer().listen(0, '127.0.0.1')
  t.after(() => taken.close())
  await once(taken, 'listening')
  const { port } = taken.address()
  const w = startWorker(t, plane, ['--pool', '--management-addr', `127.0.0.1:${port}`])
  await w.exited
  assert.equal(w.code, 1)
  assert.match(w.stderr, new RegExp(`^error: the management server cannot serve on 127\\.0\\.0\\.1:${port}: .*address in use`, 'm'))
})

// BULLPEN_PROMETHEUS names one that is not on the PATH.
test('a real Prometheus scrapes it', async t => {
  const plane = await Plane.start(t)
  const w = await managed(t, plane)
  await plane.link()
  const dir = tempDir(t), port = await freePort()
  fs.writeFileSync(path.join(dir, 'p.yml'), `scrape_configs:\n- job_name: worker\n  scrape_interval: 1s\n  static_configs:\n  - targets: ['127.0.0.1:${w.port}']\n`)
  const p = new Proc(t, process.env.BULLPEN_PROMETHEUS ?? 'prometheus', [`--config.file=${dir}/p.yml`, `--storage.tsdb.path=${dir}/tsdb`, `--web.listen-address=127.0.0.1:${port}`])
  p.child.on('error', e => { p.stderr += `${e}` })
  const query = async q => (await ask(port, `/api/v1/query?query=${encodeURIComponent(q)}`).catch(() => null))?.json?.data?.result ?? []
  const [up] = await until('Prometheus has a sample', async () => { const r = await query('cursor_self_hosted_worker_connected == 1'); return r.length && r }, 60)
  assert.equal(up.metric.job, 'worker')
  assert.equal((await query('cursor_self_hosted_worker_session_ends_total')).length, 6)
  const metadata = (await ask(port, '/api/v1/metadata')).json.data
  assert.equal(metadata.cursor_self_hosted_worker_connect_attempts_total[0].type, 'counter')
  assert.equal(metadata.cursor_self_hosted_worker_session_active[0].type, 'gauge')
})
