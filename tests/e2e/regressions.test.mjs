// What once broke, and must not again: each of these was a crash, a hang, a flood of memory or something left running.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { connect } from 'node:net'
import { randomBytes } from 'node:crypto'
import grpc from '@grpc/grpc-js'
import protoLoader from '@grpc/proto-loader'
import { root, bullpen, sh, tool, atEnd, checkEvents, until, patience } from './lib.mjs'
import { Peer, encoded, aHello } from './peer.mjs'

const there = { repo: 'https://github.com/acme/web' } // what a Peer says it serves
const MiB = 1 << 20

// The most memory that a process ever had. A sanitizer's own memory drowns what is measured.
const measured = patience === 1
const peakBytes = pid => Number(fs.readFileSync(`/proc/${pid}/status`, 'utf8').match(/^VmHWM:\s+(\d+) kB$/m)[1]) * 1024

// Runs, and is no zombie that nobody has reaped yet.
function runs(pid) {
  try {
    return !/\) [ZX] /.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

async function works(pool) {
  assert.ok(pool.server.alive, `the server ended: ${pool.server.stderr.slice(-2000)}`)
  assert.equal((await pool.http('GET', '/healthz', { key: null })).status, 200)
}

// The stream of an ended run is whole, and the same for everyone who asks again.
async function replays(run) {
  const steady = events => events.filter(e => e.event !== 'heartbeat').map(e => JSON.stringify(e))
  const first = await run.events(), second = await run.events()
  checkEvents(first)
  assert.deepEqual(first.slice(-2).map(e => e.event), ['result', 'done'])
  assert.deepEqual(steady(second), steady(first))
  return first
}

test('what a killed worker left running is ended by the next one on the same data folder', async t => {
  const pool = await bullpen(t)
  const w = await pool.worker({ workerId: 'w-1', args: ['--isolation=none'] })
  const note = path.join(pool.dir, 'note')
  const run = await pool.run(sh(`touch $CURSOR_AGENT_SCRATCH/stale; echo $$ $CURSOR_AGENT_SCRATCH > ${note}.new; mv ${note}.new ${note}; exec sleep 60`) + sh('echo on'))
  await until('the command runs', () => fs.existsSync(note))
  const [pid, scratch] = fs.readFileSync(note, 'utf8').trim().split(' ')
  atEnd(t, () => { if (runs(pid)) process.kill(pid, 'SIGKILL') })
  await w.kill('SIGKILL')
  assert.ok(runs(pid), 'a kill of the worker alone does not reach its commands')
  assert.ok(fs.existsSync(path.join(scratch, 'stale')))
  const next = await w.again()
  await until('the command is gone', () => !runs(pid), 5)
  assert.ok(!fs.existsSync(path.join(scratch, 'stale')))
  assert.match(next.stderr, /worker\.leftovers processes=1 folders=1/)
  assert.equal(next.stderr.match(/worker\.leftovers/g).length, 1)
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.match(r.result, /interrupted/)
  const { completed } = checkEvents(await run.events())
  assert.equal([...completed.values()][0].result.error.code, 'interrupted')
})

test('a worker that ended by itself leaves nothing, and spares what a worker with another data folder runs', async t => {
  const pool = await bullpen(t)
  const busy = await pool.worker({ workerId: 'w-busy' })
  const note = path.join(pool.dir, 'note'), go = path.join(pool.dir, 'go')
  const run = await pool.run(sh(`echo $$ > ${note}; until [ -e ${go} ]; do sleep 0.02; done; echo kept`))
  await until('the command runs', () => fs.existsSync(note))
  const other = await pool.worker({ workerId: 'w-other' })
  await other.kill('SIGTERM')
  const next = await other.again()
  assert.doesNotMatch(next.stderr, /worker\.leftovers/)
  fs.writeFileSync(go, '')
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.doesNotMatch(r.result, /interrupted/)
  assert.ok(busy.alive)
})

test('a message of many bytes that is cut between characters does not hurt the run, its agent or the server', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  // Each length shifts the place of the cut, so that one of them falls inside a character.
  for (const lead of ['', 'x', 'xy']) {
    const long = Array.from({ length: 5 }, (_, i) => (i === 0 ? lead : '') + 'é'.repeat(100)).join('/')
    const run = await pool.run(tool('read_file', { path: long }) + tool('no_such_tool_' + lead + 'é'.repeat(300), {}))
    const r = await run.end()
    assert.equal(r.status, 'FINISHED', JSON.stringify(r))
    const events = await replays(run)
    assert.ok(events.some(e => e.event === 'tool_call' && JSON.stringify(e.data.result ?? '').includes('ééé')), 'the message names the path')
    const second = await run.followUp(sh('echo $((6*7))'))
    assert.equal((await second.end()).status, 'FINISHED')
    assert.match(JSON.stringify(await second.events()), /42/)
  }
  await works(pool)
})

// Announces a body and pours it: half before it looks for an answer, and the rest whatever the answer was.
function pour(pool, headers, bodyBytes) {
  return new Promise(resolve => {
    const u = new URL(pool.url), piece = Buffer.alloc(64 * 1024, 0x20)
    const s = connect({ port: Number(u.port), host: u.hostname, allowHalfOpen: true })
    let text = '', left = bodyBytes, pouring = false
    const done = () => { s.destroy(); resolve(text) }
    const pump = () => {
      pouring = false
      while (left > 0 && !s.destroyed && (left > bodyBytes / 2 || text)) {
        const n = Math.min(left, piece.length)
        left -= n
        if (!s.write(piece.subarray(0, n))) {
          pouring = true
          s.once('drain', () => setImmediate(pump))
          return
        }
      }
      if (left === 0 && text.includes('\r\n\r\n')) done()
    }
    s.setEncoding('utf8').on('data', d => { text += d; if (!pouring) pump() })
    s.on('end', () => { if (!text) done() }).on('error', done).on('close', done)
    s.setTimeout(20000 * patience, done)
    s.write(['POST /v1/agents HTTP/1.1', 'Host: x', 'Content-Type: application/json', `Content-Length: ${bodyBytes}`, ...headers, '', ''].join('\r\n'), pump)
  })
}

test('large bodies of strangers are refused and not kept in memory', async t => {
  const pool = await bullpen(t)
  await pool.http('GET', '/v1/agents')
  const before = peakBytes(pool.server.pid)
  const wrong = ['Authorization: Bearer crsr_' + '0'.repeat(64)]
  const answers = await Promise.all([[], wrong, [], wrong, [], wrong].map(h => pour(pool, h, 20 * MiB)))
  for (const a of answers) assert.match(a, /^HTTP\/1\.1 4(01|13) /)
  const grown = peakBytes(pool.server.pid) - before
  if (measured) assert.ok(grown < 16 * MiB, `six bodies of 20 MiB took ${grown} bytes`)
  await works(pool)
})

test('large bodies of people with a key are refused in words', async t => {
  const pool = await bullpen(t)
  const big = await pour(pool, [`Authorization: Bearer ${pool.userKey}`], 129 * MiB)
  assert.match(big, /^HTTP\/1\.1 413 /)
  assert.match(big, /"code":"validation_error"/)
  const prompt = await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x'.repeat(2 * MiB) } } })
  assert.equal(prompt.status, 400, prompt.text)
  assert.match(prompt.json.error.message, /1 MiB/)
  await works(pool)
})

test('a worker that starts anew whenever it is to open a session does not keep the run for ever', async t => {
  const pool = await bullpen(t, { config: '[pools]\nworker_loss_grace = 3\n' })
  const peer = await Peer.connected(t, pool, { attends: false })
  const run = await pool.run(sh('true'), there)
  let attempts = 0, r
  const ended = () => ['FINISHED', 'ERROR', 'CANCELLED', 'EXPIRED'].includes(r.status)
  for (;;) {
    await until('it is asked again, or the run ends', async () => {
      r = await run.get()
      return ended() || peer.calls.some(c => c.kind === 'OPEN_SESSION') || !peer.alive
    }, 30)
    if (ended()) break
    assert.ok(++attempts <= 20, `asked ${attempts} times: ${JSON.stringify(r)}`)
    // Another process with the same worker id: it knows of nothing.
    peer.drop()
    peer.calls = []
    peer.agentId = ''
    peer.incarnation = (randomBytes(8).readBigUInt64BE() | 1n).toString()
    peer.serverIncarnation = '0'
    peer.received = peer.seq = 0
    await peer.connect()
  }
  assert.equal(r.status, 'ERROR', JSON.stringify(r))
  assert.match(r.error.code, /^(clone_failed|worker_lost)$/)
  assert.ok(attempts >= 1)
  checkEvents(await run.events())
  await works(pool)
})

test('megabytes of output that is not text make a stream that is whole and replays the same', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const run = await pool.run(sh("printf 'a\\342\\200\\250b\\302\\205c\\r\\n\\377'; head -c 3000000 /dev/urandom") + sh('echo after'))
  const live = await run.stream()
  const seen = await live.all()
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  const events = await replays(run)
  const { completed } = checkEvents(events)
  assert.equal(completed.size, 2)
  assert.match(JSON.stringify([...completed.values()][1]), /after/)
  const told = new Set(events.filter(e => e.id).map(e => JSON.stringify(e)))
  for (const e of seen) if (e.id) assert.ok(told.has(JSON.stringify(e)), `told and then gone: ${JSON.stringify(e).slice(0, 300)}`)
  await works(pool)
})

test('a prompt of control characters, six times as large as JSON, makes a stream that is whole and replays the same', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const run = await pool.run('\u0001'.repeat(900_000) + '\n' + sh('echo after'))
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r).slice(0, 500))
  const { completed } = checkEvents(await replays(run))
  assert.equal(completed.size, 1)
  await works(pool)
})

test('a run that reads much takes neither long nor much memory of the server', async t => {
  const pool = await bullpen(t)
  const line = n => `${n} `.padEnd(199, 'abcdefghij') + '\n'
  const text = Array.from({ length: 1536 }, (_, n) => line(n)).join('') // 300 KiB
  const remote = await pool.remote({ files: { 'big.txt': text } })
  await pool.worker({ remote })
  const start = Date.now()
  const run = await pool.run(tool('read_file', { path: 'big.txt' }).repeat(120), { repo: remote.url })
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r).slice(0, 500))
  assert.match(r.result, /^120 of 120 steps succeeded/)
  assert.ok(Date.now() - start < 60_000 * patience)
  const peak = peakBytes(pool.server.pid)
  if (measured) assert.ok(peak < 120 * MiB, `the server took ${peak} bytes`)
})

test('what a foreign worker calls itself never makes an answer that is not JSON', async t => {
  const pool = await bullpen(t, { config: '[pools]\nworker_loss_grace = 60\n' })
  // A lone surrogate becomes bytes that are not UTF-8 on the wire.
  const bad = 'a\ud800b'
  assert.ok(encoded(aHello({ name: bad })).includes(Buffer.from([0xed, 0xa0, 0x80])))
  const place = { path: '/nowhere', remote_url: 'https://github.com/acme/web', host: 'github.com', repo: 'acme/web' }
  const sane = async (where, wanted = 200) => {
    const res = await fetch(pool.url + where, { headers: { authorization: `Bearer ${pool.userKey}` } })
    assert.equal(res.status, wanted)
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(await res.arrayBuffer()))
  }
  for (const hello of [
    { name: bad }, { name: '"\\\n\u0001' }, { pool: bad }, { version: bad, os: bad, arch: bad }, { agent_id: bad },
    { roots: [{ ...place, repo: bad }] }, { roots: [{ ...place, host: bad }] }, { roots: [{ ...place, path: bad, remote_url: bad }] },
    { roots: [{ ...place, repo: 'acme/"w\\e\nb' }] },
  ]) {
    const peer = await Peer.connected(t, pool, { hello })
    await works(pool)
    // Refused with a reason, or taken; then the runs that wait tell of it.
    if (!peer.alive) assert.ok(peer.refused?.message || peer.end.details, JSON.stringify([hello, peer.end]))
    const run = await pool.run(sh('true'), { repo: 'https://github.com/acme/nobody-serves-this' })
    const r = await sane(run.path)
    assert.equal(typeof r.wait?.text, 'string', JSON.stringify(r))
    await sane('/v1/agents')
    await run.cancel()
    peer.drop()
  }
})

test('results of a foreign worker that are not UTF-8 end the call, not the server', async t => {
  const pool = await bullpen(t, { config: '[pools]\nworker_loss_grace = 1\n' })
  const bad = 'a\ud800b'
  for (const answer of [{ text: bad }, { json: `{"said":"${bad}"}` }, { outcome: 'ERROR', json: `{"code":"${bad}","message":"${bad}"}`, text: bad }]) {
    const peer = await Peer.connected(t, pool)
    const run = await pool.run(tool('act', { text: 'hi' }), there)
    peer.answer(await peer.expectCall('act'), answer)
    const r = await run.end()
    // A frame that is no good costs the worker its connection, and that one does not come back.
    assert.ok(r.status === 'FINISHED' || r.error.code === 'worker_lost', JSON.stringify(r))
    checkEvents(await run.events())
    await works(pool)
    peer.drop()
  }
})

const { WorkerLink } = grpc.loadPackageDefinition(protoLoader.loadSync(path.join(root, 'proto/worker.proto'),
  { keepCase: true, longs: String, enums: String, oneofs: true })).bullpen.worker.v1

// A control plane that says what it is told to say to a worker of ours, on a stock gRPC server.
class ForeignServer {
  static async started(t) {
    const s = new ForeignServer()
    s.seq = 0
    s.received = 0
    s.results = new Map()
    const grpcServer = new grpc.Server()
    grpcServer.addService(WorkerLink.service, { Connect: stream => s.#serve(stream) })
    const port = await new Promise((resolve, reject) =>
      grpcServer.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (e, p) => e ? reject(e) : resolve(p)))
    s.url = `http://127.0.0.1:${port}`
    atEnd(t, () => grpcServer.forceShutdown())
    return s
  }
  #serve(stream) {
    this.stream = stream
    stream.on('error', () => {})
    stream.on('end', () => stream.end())
    stream.on('data', f => {
      if (Number(f.seq)) { this.received = Number(f.seq); stream.write({ seq: 0, ack: this.received }) }
      if (f.hello) stream.write({ seq: 0, ack: 0, welcome: { server_incarnation: '7', received_seq: 0, resumed: false, heartbeat_interval_ms: 10000 } })
      if (!f.result) return
      this.results.set(f.result.call_id, { ...f.result, json: JSON.parse(f.result.result_json) })
      this.say({ result_ack: { call_id: f.result.call_id } })
    })
  }
  say(body) { this.stream.write({ seq: ++this.seq, ack: this.received, ...body }) }
  async call(agent_id, kind) {
    const call_id = `call-${randomBytes(8).toString('hex')}`
    this.say({ call: { call_id, agent_id, run_id: 'run-1', limit_ms: 0, ...kind } })
    await until(`${call_id} is answered`, () => this.results.has(call_id))
    return this.results.get(call_id)
  }
}

test('a worker that is released ends what its agent left running; told to exit, it ends with status 0', async t => {
  const pool = await bullpen(t, { start: false })
  const server = await ForeignServer.started(t)
  const w = await pool.worker({ endpoint: server.url, args: ['--isolation=process'] })
  const note = path.join(pool.dir, 'note')
  const shell = command => ({ kind: 'TOOL', name: 'run_terminal_cmd', arguments_json: JSON.stringify({ command, is_background: command.includes('sleep') }) })
  assert.equal((await server.call('bc-1', { kind: 'OPEN_SESSION' })).outcome, 'SUCCESS')
  assert.equal((await server.call('bc-1', shell(`echo $$ > ${note}; exec sleep 300`))).outcome, 'SUCCESS')
  await until('the command runs', () => fs.existsSync(note) && fs.readFileSync(note, 'utf8').endsWith('\n'))
  const pid = fs.readFileSync(note, 'utf8').trim()
  // Closing the session of another agent is not meant for this one.
  assert.equal((await server.call('bc-2', { kind: 'CLOSE_SESSION' })).outcome, 'SUCCESS')
  assert.ok(runs(pid))
  assert.equal((await server.call('bc-1', shell('true'))).outcome, 'SUCCESS')
  server.say({ release: { reason: 'the claim ended', exit: false } })
  await until('the command is gone', () => !runs(pid))
  assert.equal((await server.call('bc-1', shell('true'))).json.code, 'no_session')
  assert.ok(w.alive)
  server.say({ release: { reason: 'go home', exit: true } })
  assert.deepEqual(await w.exited, { code: 0, signal: null })
  assert.match(w.stderr, /worker\.released reason="?go home/)
})
