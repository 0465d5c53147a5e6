// A foreign control plane: node's http2 and proto/worker.proto alone. It says to a real worker what a test wants said, and
// remembers what it was told; for what the real one says only by luck, or not yet. Requests over HTTP/1.1 come to the same port.
import grpc from '@grpc/grpc-js'
import protoLoader from '@grpc/proto-loader'
import fs from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import net from 'node:net'
import path from 'node:path'
import { once } from 'node:events'
import { randomBytes } from 'node:crypto'
import { Proc, root, atEnd, programs, tempDir, until } from './lib.mjs'
import { connectPath, framed } from './peer.mjs'

const definition = protoLoader.loadSync(path.join(root, 'proto/worker.proto'),
  { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true })
const { WorkerLink } = grpc.loadPackageDefinition(definition).bullpen.worker.v1
const { requestDeserialize: decode, responseSerialize: encode } = WorkerLink.service.Connect
const random64 = () => (randomBytes(8).readBigUInt64BE() | 1n).toString()

export class Plane {
  // tokens(request, body) answers POST /v0/worker-tokens: { status, json, headers }; without it there is no such route.
  // routes: the same for other paths.
  // refuse(hello, token): a Refuse, or nothing.
  static async start(t, { tokens, routes, refuse, port = 0 } = {}) {
    const p = new Plane()
    Object.assign(p, { tokens, routes, refuse, links: [], requests: [], sockets: new Set(), incarnation: random64() })
    const h1 = http.createServer((q, s) => p.#answer(q, s))
    const h2 = http2.createServer()
    h2.on('stream', (s, headers) => { if (headers[':path'] === connectPath) p.links.push(new PlaneLink(p, s, headers)); else { s.respond({ ':status': 404 }); s.end() } })
    h2.on('sessionError', () => {})
    // Who speaks HTTP/2 says so at once.
    p.server = net.createServer(c => {
      p.sockets.add(c)
      c.on('close', () => p.sockets.delete(c)).on('error', () => {})
      c.once('data', first => {
        const inner = net.connect((first.toString('latin1').startsWith('PRI ') ? h2 : h1).address().port, '127.0.0.1')
        inner.on('error', () => c.destroy()).on('close', () => c.destroy()).write(first)
        c.on('close', () => inner.destroy())
        c.pipe(inner).pipe(c)
      })
    })
    for (const s of [h1, h2]) { s.listen(0, '127.0.0.1'); await once(s, 'listening') }
    p.inner = [h1, h2]
    p.server.listen(port, '127.0.0.1')
    await once(p.server, 'listening')
    p.port = p.server.address().port
    p.url = `http://127.0.0.1:${p.port}`
    atEnd(t, () => p.stop())
    return p
  }
  stop() { for (const s of [this.server, ...this.inner]) s.close(); for (const c of this.sockets) c.destroy() }
  async #answer(q, s) {
    let body = ''
    for await (const d of q) body += d
    this.requests.push({ method: q.method, url: q.url, headers: q.headers, body })
    const route = q.url === '/v0/worker-tokens' ? this.tokens : this.routes?.[q.url.split('?')[0]]
    const r = route ? route(q, body) : { status: 404, json: { error: { code: 'not_found', message: 'no' } } }
    s.writeHead(r.status, { 'content-type': 'application/json', ...r.headers }).end(JSON.stringify(r.json ?? {}))
  }
  // The n-th connection whose Hello came.
  link(n = 0) { return until(`the worker connects ${n + 1} times`, () => this.links.filter(l => l.hello)[n], 60) }
}

// A worker of that control plane, in an empty folder of its own.
export function startWorker(t, plane, args = ['--pool'], { env = {}, dir = tempDir(t) } = {}) {
  const work = path.join(dir, 'work')
  fs.mkdirSync(work, { recursive: true })
  const p = new Proc(t, programs.agent, ['worker', 'start', '--worker-dir', work, '--data-dir', path.join(dir, 'data'), '--endpoint', plane.url, ...args],
    { env: { CURSOR_API_KEY: 'key', ...env } })
  return Object.assign(p, { dir, work })
}

export class PlaneLink {
  constructor(plane, stream, headers) {
    Object.assign(this, { plane, stream, token: headers.authorization?.replace(/^Bearer /, ''), frames: [], seq: 0, received: 0, results: new Map() })
    let rest = Buffer.alloc(0)
    stream.on('error', () => {}).on('close', () => { this.closed = true })
    stream.on('data', d => {
      rest = Buffer.concat([rest, d])
      while (rest.length >= 5 && rest.length >= 5 + rest.readUInt32BE(1)) {
        const n = 5 + rest.readUInt32BE(1)
        this.#take(decode(rest.subarray(5, n)))
        rest = rest.subarray(n)
      }
    })
    if (plane.deny) { stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '16', 'grpc-message': 'no' }, { endStream: true }); return }
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
    stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }))
  }
  #take(f) {
    this.frames.push(f)
    if (f.body === 'hello') return this.#hello(f.hello)
    if (Number(f.seq)) { this.received = Math.max(this.received, Number(f.seq)); this.raw({}) }
    if (f.body === 'result') { this.results.set(f.result.call_id, f.result); this.send({ result_ack: { call_id: f.result.call_id } }) }
    if (f.body === 'going_away') { this.goingAway ??= []; this.goingAway.push(f.going_away); const r = this.plane.reply?.(f.going_away); if (r) this.send({ going_away_reply: r }) }
  }
  #hello(h) {
    this.hello = h
    const refusal = this.plane.refuse?.(h, this.token)
    if (refusal) { this.raw({ refuse: { code: 'x', message: '', fatal: true, retry_after_ms: 0, ...refusal } }); this.stream.end(); return }
    this.raw({ welcome: { server_incarnation: this.plane.incarnation, received_seq: '0', resumed: false, heartbeat_interval_ms: 15000, loss_grace_ms: this.plane.lossGrace ?? '0' } })
    this.welcomed = true
  }
  raw(frame) { if (!this.closed && !this.stream.destroyed) this.stream.write(framed(encode({ seq: 0, ack: this.received, ...frame }))) }
  send(body) { this.raw({ seq: ++this.seq, ...body }) }
  heartbeat() { this.raw({ heartbeat: { nonce: '1' } }) }
  // A call, up to its result.
  async call(kind, { agent = 'bc-1', claim = 'claim-1', name = '', args = {}, id = `call-${randomBytes(6).toString('hex')}`, wait = true } = {}) {
    this.send({ call: { call_id: id, agent_id: agent, claim_id: claim, run_id: 'run-1', kind, name, arguments_json: JSON.stringify(args), limit_ms: '0' } })
    if (!wait) return id
    return until(`the worker answers ${kind} ${name}`, () => this.results.get(id), 30)
  }
  openSession(more = {}) { return this.call('OPEN_SESSION', { args: { repoUrl: '', startingRef: '', branch: '', workOnCurrentBranch: false }, ...more }) }
}
