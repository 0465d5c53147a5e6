// A stand-in for model servers: /v1/chat/completions and /v1/messages on one port, byte for byte as the real ones, and every
// fault they have. What it is asked is recorded; what breaks the rules of the real ones is answered 400 in their words.
//
//   const m = await ModelServer.start()
//   m.next({ answer: { text: 'Hello' } })                        answers in turn; each may be a function of the request
//   m.next({ status: 429, headers: { 'retry-after': '1' } })     an error in the format's own shape
//   m.next({ answer, cutAt: 100 })                               ends the connection after so many bytes of the stream
//   m.otherwise = body => ({ answer: … })                        when nothing is queued
//
// Members of a reply: answer, or status (+ message, code), or raw (+ type, status: these bytes as they are); and how it is
// delivered: cutAt, how ('end' as if complete, 'reset', default 'cut'), stallAt (says no more, keeps the connection),
// split (bytes a write), headers, whole (no stream), close (no keep-alive), mangle(text) (the stream changed before it is sent).
//
// start({ tls: { key, cert } }) serves https.
// As a program: node tests/model-server/server.mjs [PORT] [TEXT] answers everything with TEXT.
import http from 'node:http'
import https from 'node:https'
import { anthropic, openai } from './wire.mjs'

export class ModelServer {
  static async start({ port = 0, key, tls } = {}) {
    const m = new ModelServer()
    m.key = key
    m.server = (tls ? https : http).createServer({ keepAliveTimeout: 600_000, ...tls }, (req, res) => m.#handle(req, res).catch(e => { m.faults.push(e); res.destroy() }))
    m.server.on('connection', s => { m.connections++; m.sockets.add(s); s.on('close', () => m.sockets.delete(s)) })
    await new Promise((done, fail) => m.server.once('error', fail).listen(port, '127.0.0.1', done))
    m.port = m.server.address().port
    m.url = `http${tls ? 's' : ''}://127.0.0.1:${m.port}`
    return m
  }

  requests = [] // { format, body, headers, refused }
  queue = []
  faults = [] // of this program itself
  sockets = new Set()
  connections = 0
  stalled = 0
  models = []
  otherwise = () => ({ answer: { text: 'Done.' } })

  next(...replies) { this.queue.push(...replies); return this }
  // As a killed process: the port refuses, what was under way is reset.
  async kill() {
    if (!this.server.listening) return
    const closed = new Promise(done => this.server.close(done))
    for (const s of this.sockets) s.resetAndDestroy()
    await closed
  }
  dropIdle() { this.server.closeIdleConnections() }

  async #handle(req, res) {
    const parts = []
    for await (const p of req) parts.push(p)
    if (req.method === 'GET' && req.url.endsWith('/models')) return res.end(JSON.stringify({ object: 'list', data: this.models.map(id => ({ id, object: 'model' })) }))
    const format = req.url === '/v1/chat/completions' ? openai : req.url === '/v1/messages' ? anthropic : null
    if (!format) return res.writeHead(404, { 'content-type': 'text/html' }).end('<html><h1>404</h1></html>')
    const text = Buffer.concat(parts).toString()
    const refuse = (status, message, type) => res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(format.error(status, message, type)))
    const given = format === openai ? req.headers.authorization?.replace(/^Bearer /, '') : req.headers['x-api-key']
    if (this.key && given !== this.key) return refuse(401, `Incorrect API key provided: ${given}. You can find your API key in the settings.`, format === openai ? 'invalid_api_key' : undefined)
    const record = { format: format === openai ? 'openai' : 'anthropic', headers: req.headers, text }
    this.requests.push(record)
    try {
      record.body = JSON.parse(text)
      record.refused = format.complaint(record.body, req.headers)
    } catch (e) { record.refused = String(e.message) }
    if (record.refused) return refuse(400, record.refused)
    let reply = this.queue.shift() ?? this.otherwise
    if (typeof reply === 'function') reply = reply(record.body, this.requests.length)
    await this.#deliver(res, format, record.body, reply)
  }

  async #deliver(res, format, body, r) {
    const headers = { ...(r.close ? { connection: 'close' } : {}), ...r.headers }
    let status = r.status ?? 200, type = r.type ?? 'text/event-stream; charset=utf-8', bytes
    if (r.raw !== undefined) bytes = r.raw
    else if (r.answer && r.whole) { type = r.type ?? 'application/json'; bytes = JSON.stringify(format.whole(r.answer)) }
    else if (r.answer) bytes = format.stream(r.answer, body)
    else { type = r.type ?? 'application/json'; bytes = JSON.stringify(format.error(status, r.message ?? 'a fault made for a test', r.code)) }
    if (r.mangle) bytes = r.mangle(bytes)
    const all = Buffer.from(bytes)
    const end = Math.min(r.cutAt ?? r.stallAt ?? all.length, all.length)
    res.writeHead(status, { 'content-type': type, ...headers })
    res.flushHeaders()
    res.socket.setNoDelay(true)
    for (let at = 0; at < end; at += r.split ?? end) {
      if (res.destroyed) return
      await new Promise(done => res.write(all.subarray(at, Math.min(at + (r.split ?? end), end)), done))
      if (r.split) await new Promise(setImmediate)
    }
    if (r.stallAt !== undefined) { this.stalled++; return }
    if (r.cutAt === undefined || r.how === 'end') return void res.end()
    // What was written must have left before the connection ends.
    await new Promise(setImmediate)
    if (r.how === 'reset') res.socket.resetAndDestroy()
    else res.socket.destroySoon()
  }
}

if (process.argv[1] === new URL(import.meta.url).pathname) {
  const m = await ModelServer.start({ port: Number(process.argv[2] ?? 0) })
  m.otherwise = () => ({ answer: { text: process.argv[3] ?? 'Done.' } })
  console.log(m.url)
}
