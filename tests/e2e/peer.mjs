// A foreign worker: built on a stock gRPC client and proto/worker.proto alone, so that the protocol is checked by an
// implementation that is not ours. It answers what it is told to answer and remembers everything it was sent. For what no
// gRPC client would send there is Wire: the same path, spoken byte by byte over HTTP/2.
import grpc from '@grpc/grpc-js'
import protoLoader from '@grpc/proto-loader'
import http2 from 'node:http2'
import path from 'node:path'
import { randomBytes } from 'node:crypto'
import { root, atEnd, until } from './lib.mjs'

const definition = protoLoader.loadSync(path.join(root, 'proto/worker.proto'),
  { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true })
const { WorkerLink } = grpc.loadPackageDefinition(definition).bullpen.worker.v1
export const connectPath = '/bullpen.worker.v1.WorkerLink/Connect'
const sequenced = new Set(['output', 'result', 'going_away', 'fitness'])
const random64 = () => (randomBytes(8).readBigUInt64BE() | 1n).toString()

// The tools this worker claims to have; `echo` is a read, so several go in one turn.
const tools = [
  { name: 'echo', description: 'gives back its text', class: 'read', sdkType: 'mcp', parameters: { type: 'object', properties: { text: { type: 'string' } } } },
  { name: 'act', description: 'does something', class: 'execute', sdkType: 'mcp', parameters: { type: 'object', properties: { text: { type: 'string' } } } },
]
export const sessionInfo = (more = {}) => ({
  workspaceRoots: ['/nowhere'], repoUrl: '', branch: '', baseCommit: '', headCommit: '', gitStatus: '', os: 'linux', arch: 'x86_64', shell: 'bash',
  rules: [], agentsMd: [], skills: [], subagents: [], warnings: [], resumed: false, ...more,
})

export class Peer {
  constructor(t, pool, { workerId = `peer-${randomBytes(4).toString('hex')}`, key = pool.poolKey, hello = {}, attends = true } = {}) {
    this.pool = pool
    this.workerId = workerId
    this.key = key
    this.more = hello
    this.attends = attends // opens sessions, publishes and closes by itself
    this.incarnation = random64()
    this.serverIncarnation = '0'
    this.received = 0
    this.seq = 0
    this.outbox = []
    this.calls = [] // every call frame, also repeated ones
    this.expected = new Set()
    this.results = new Map() // call id -> body, until it is acknowledged
    this.acknowledged = new Set()
    this.cancelled = []
    this.welcomes = []
    atEnd(t, () => this.drop())
  }

  static async connected(t, pool, options) {
    const p = new Peer(t, pool, options)
    await p.connect()
    return p
  }

  // One connection, up to the welcome or its end; `this.end` is { code, details } then.
  async connect() {
    this.end = null
    this.refused = null
    const metadata = new grpc.Metadata()
    if (this.key) metadata.set('authorization', `Bearer ${this.key}`)
    const client = new WorkerLink(new URL(this.pool.url).host, grpc.credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 })
    const stream = client.Connect(metadata)
    this.client = client
    this.stream = stream
    const before = this.welcomes.length
    stream.on('data', f => { if (this.stream === stream) this.#take(f) })
    stream.on('error', () => {})
    stream.on('status', s => { if (this.stream === stream) { this.end = { code: s.code, details: s.details }; client.close() } })
    stream.write({
      seq: 0, ack: 0,
      hello: {
        protocol_version: 1, incarnation: this.incarnation, server_incarnation: this.serverIncarnation, received_seq: this.received,
        worker_id: this.workerId, name: 'a foreign worker', pool: '',
        roots: [{ path: '/nowhere', remote_url: 'https://github.com/acme/web', host: 'github.com', repo: 'acme/web' }], agent_id: this.agentId ?? '', session_claim_id: this.claimId ?? '', version: '1', os: 'linux', arch: 'x86_64', tools_json: JSON.stringify(tools),
        calls: [...new Set(this.calls.map(c => c.call_id))].filter(id => !this.acknowledged.has(id)).map(call_id => ({ call_id, finished: this.results.has(call_id) })),
        ...this.more,
      },
    })
    await until(`${this.workerId} is answered`, () => this.welcomes.length > before || this.end, 30)
    return this
  }

  // The worker was started again: it knows nothing of what it did.
  becomeNewProcess() {
    Object.assign(this, { incarnation: random64(), serverIncarnation: '0', received: 0, seq: 0, outbox: [], calls: [], results: new Map(), agentId: '', claimId: '' })
  }

  get alive() { return this.stream && !this.end }

  #take(f) {
    const seq = Number(f.seq)
    if (seq) {
      this.outbox = this.outbox.filter(x => x.seq > Number(f.ack))
      if (seq > this.received + 1) throw new Error(`the server left out frames: ${seq} after ${this.received}`)
      if (seq <= this.received) this.repeatedFrames = (this.repeatedFrames ?? 0) + 1
      this.received = Math.max(this.received, seq)
    }
    switch (f.body) {
      case 'welcome': return this.#welcomed(f.welcome)
      case 'refuse': this.refused = f.refuse; break
      case 'heartbeat': if (!this.mute) this.raw({ heartbeat: { nonce: f.heartbeat.nonce } }); break
      case 'call': this.#called(f.call); break
      case 'cancel': this.cancelled.push(f.cancel.call_id); break
      case 'result_ack': this.acknowledged.add(f.result_ack.call_id); this.results.delete(f.result_ack.call_id); break
      case 'release': this.released = f.release; break
      case 'going_away_reply': this.leave = f.going_away_reply; break
    }
    if (seq && !this.silent) this.raw({})
  }

  #welcomed(w) {
    this.welcomes.push(w)
    this.serverIncarnation = w.server_incarnation
    if (w.resumed) {
      this.outbox = this.outbox.filter(x => x.seq > Number(w.received_seq))
      for (const x of this.outbox) this.raw(x)
      return
    }
    // A fresh start: numbers begin again, and what the server has not on disk is said again.
    this.outbox = []
    this.received = this.seq = 0
    for (const body of this.results.values()) this.send({ result: body })
  }

  #called(c) {
    this.calls.push(c)
    this.agentId = c.agent_id
    if (!this.attends || this.timesSeen(c.call_id) > 1) return
    const args = JSON.parse(c.arguments_json || '{}')
    if (c.kind === 'OPEN_SESSION' && this.cannotOpen) {
      this.answer(c, { outcome: 'ERROR', result: this.cannotOpen })
    } else if (c.kind === 'OPEN_SESSION') {
      this.claimId = c.claim_id
      this.answer(c, { result: sessionInfo({ branch: args.branch, repoUrl: args.repoUrl, ...this.session }) })
    }
    if (c.kind === 'PUBLISH' && this.cannotPublish) this.answer(c, { outcome: 'ERROR', result: this.cannotPublish })
    else if (c.kind === 'PUBLISH')
      this.answer(c, { result: { branch: 'cursor/peer', repoUrl: '', commit: '0'.repeat(40), committed: true, pushed: true, filesChanged: 1, linesAdded: 2, linesRemoved: 0, diffStat: '', ...this.publication } })
    if (c.kind === 'CLOSE_SESSION') {
      if (c.claim_id === this.claimId) this.claimId = ''
      this.answer(c, { result: this.closing ?? {} })
    }
  }

  // A frame as it is.
  raw(frame) { if (this.alive) this.stream.write({ seq: 0, ack: this.silent ? 0 : this.received, ...frame }) }

  // A sequenced frame: kept until the server has it.
  send(body) {
    if (!Object.keys(body).some(k => sequenced.has(k))) throw new Error('not a sequenced frame')
    const frame = { seq: ++this.seq, ...body }
    this.outbox.push(frame)
    this.raw(frame)
  }

  // The next call of that tool or kind that was not expected before.
  expectCall(name) {
    return until(`${this.workerId} is called: ${name}; it was: ${this.calls.map(c => c.name || c.kind)}`, () => {
      const c = this.calls.find(x => !this.expected.has(x.call_id) && (x.kind === name || x.name === name))
      if (c) this.expected.add(c.call_id)
      return c
    })
  }
  answer(call, { result = {}, outcome = 'SUCCESS', text, json } = {}) {
    const body = { call_id: call.call_id, outcome, result_json: json ?? JSON.stringify(result), model_text: text ?? 'done', sdk_json: '', duration_ms: 1 }
    this.results.set(call.call_id, body)
    this.send({ result: body })
  }
  // code '': fit.
  fitness(code, reason = '') { this.send({ fitness: { code, reason } }) }
  // What an opening is doing.
  progress(call, text) { this.send({ output: { call_id: call.call_id, stream: 3, data: Buffer.from(text) } }) }
  say(call, text) { this.send({ output: { call_id: call.call_id, stream: 1, data: Buffer.from(text) } }) }
  timesSeen(id) { return this.calls.filter(c => c.call_id === id).length }

  // The connection is gone without a word; both sides keep what was not acknowledged.
  drop() {
    const stream = this.stream
    this.stream = null
    stream?.cancel()
    this.client?.close()
  }
  reconnect() { this.drop(); return this.connect() }
  ended(seconds) { return until(`the server ends the connection of ${this.workerId}`, () => this.end, seconds) }
}

// A gRPC message: flag, length, bytes.
export function framed(bytes, { flag = 0, length = bytes.length } = {}) {
  const head = Buffer.alloc(5)
  head[0] = flag
  head.writeUInt32BE(length, 1)
  return Buffer.concat([head, bytes])
}
// The bytes of a WorkerFrame.
export const encoded = frame => WorkerLink.service.Connect.requestSerialize(frame)
export const aHello = more => ({
  hello: { protocol_version: 1, incarnation: random64(), worker_id: `wire-${randomBytes(4).toString('hex')}`, name: 'wire', version: '1', os: 'linux', arch: 'x86_64', ...more },
})

export class Wire {
  constructor(t, pool, { key = pool.poolKey, headers = {}, settings } = {}) {
    this.session = http2.connect(pool.url, { settings })
    this.session.on('error', e => { this.failed = e })
    this.stream = this.session.request({
      ':method': 'POST', ':path': connectPath, 'content-type': 'application/grpc', te: 'trailers', authorization: `Bearer ${key}`, ...headers,
    })
    this.received = Buffer.alloc(0)
    this.stream.on('response', h => { this.head = h; if (h['grpc-status'] !== undefined) this.trailers ??= h })
    this.stream.on('trailers', h => { this.trailers = h })
    this.stream.on('data', d => { this.received = Buffer.concat([this.received, d]) })
    this.stream.on('error', e => { this.failed = e })
    this.stream.on('close', () => { this.closed = true })
    atEnd(t, () => this.session.destroy())
  }
  write(bytes) { if (!this.closed && !this.stream.destroyed) this.stream.write(bytes); return this }
  async welcomed(hello) { this.write(framed(encoded(aHello(hello)))); await until('the wire is welcomed', () => this.received.length > 5 || this.trailers); return this }
  // How it ended: { status, message }.
  async ended(seconds) {
    await until('the connection ends with a status', () => this.trailers || (this.closed && this.failed), seconds)
    if (!this.trailers) throw this.failed
    return { status: Number(this.trailers['grpc-status']), message: decodeURIComponent(this.trailers['grpc-message'] ?? '') }
  }
}
