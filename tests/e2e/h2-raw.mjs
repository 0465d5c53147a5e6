// A peer that speaks HTTP/2 frame by frame over a socket, and may break every rule. Header blocks are literals without
// indexing, so that any bytes can be said.
import net from 'node:net'
import tls from 'node:tls'
import { once } from 'node:events'
import { atEnd, until } from './lib.mjs'

export const types = { DATA: 0, HEADERS: 1, PRIORITY: 2, RST_STREAM: 3, SETTINGS: 4, PUSH_PROMISE: 5, PING: 6, GOAWAY: 7, WINDOW_UPDATE: 8, CONTINUATION: 9 }
export const flags = { END_STREAM: 1, ACK: 1, END_HEADERS: 4, PADDED: 8, PRIORITY: 32 }
export const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'

export function frame(type, flag, stream, payload = Buffer.alloc(0), length = payload.length) {
  const h = Buffer.alloc(9)
  h.writeUIntBE(length, 0, 3)
  h[3] = type
  h[4] = flag
  h.writeUInt32BE(stream, 5)
  return Buffer.concat([h, payload])
}
export const u32 = (...n) => { const b = Buffer.alloc(4 * n.length); n.forEach((v, i) => b.writeUInt32BE(v, 4 * i)); return b }
export const setting = (id, value) => { const b = Buffer.alloc(6); b.writeUInt16BE(id, 0); b.writeUInt32BE(value, 2); return b }

// HPACK integers and literals (RFC 7541, 5.1 and 6.2.2).
function integer(n, bits, first) {
  const max = (1 << bits) - 1
  if (n < max) return Buffer.from([first | n])
  const out = [first | max]
  for (n -= max; n >= 128; n = Math.floor(n / 128)) out.push((n % 128) | 128)
  return Buffer.from([...out, n])
}
export const literal = (name, value, first = 0) => {
  const n = Buffer.from(name, 'latin1'), v = Buffer.from(value, 'latin1')
  return Buffer.concat([Buffer.from([first]), integer(n.length, 7, 0), n, integer(v.length, 7, 0), v])
}
export const block = list => Buffer.concat(list.map(([n, v]) => literal(n, v)))
export const indexed = n => integer(n, 7, 0x80)

export class H2 {
  // After the exchange of settings. `settings`: payload of our own.
  static async connect(t, pool, { settings = Buffer.alloc(0), ca } = {}) {
    const c = new H2(), url = new URL(pool.url), secure = url.protocol === 'https:'
    const to = { port: Number(url.port), host: '127.0.0.1' }
    c.socket = secure ? tls.connect({ ...to, ca: ca ?? pool.ca.pem, ALPNProtocols: ['h2'] }) : net.connect(to)
    Object.assign(c, { frames: [], streams: new Map(), rest: Buffer.alloc(0), closed: false, received: 0 })
    c.socket.on('data', d => c.#take(d)).on('error', e => { c.error = e }).on('close', () => { c.closed = true })
    atEnd(t, () => c.socket.destroy())
    await once(c.socket, secure ? 'secureConnect' : 'connect')
    c.send(Buffer.concat([Buffer.from(preface), frame(types.SETTINGS, 0, 0, settings)]))
    await until('the server sends its settings', () => c.frames.some(f => f.type === types.SETTINGS && !(f.flag & flags.ACK)))
    c.send(frame(types.SETTINGS, flags.ACK, 0))
    return c
  }
  send(bytes) { if (!this.closed && this.socket.writable) return this.socket.write(bytes) }
  // As send, but waits while the socket is full; false when it is gone.
  async push(bytes) {
    if (this.closed || !this.socket.writable) return false
    if (!this.socket.write(bytes)) await until('the socket drains', () => this.closed || !this.socket.writableNeedDrain || this.stuck, 60)
    return !this.closed
  }
  headers(stream, list, flag = 0) { return this.send(frame(types.HEADERS, flag | flags.END_HEADERS, stream, block(list))) }
  close() { this.socket.destroy() }
  stream(id) { if (!this.streams.has(id)) this.streams.set(id, { id, data: '' }); return this.streams.get(id) }
  #take(d) {
    this.rest = Buffer.concat([this.rest, d])
    this.received += d.length
    while (this.rest.length >= 9) {
      const length = this.rest.readUIntBE(0, 3)
      if (this.rest.length < 9 + length) return
      const f = { type: this.rest[3], flag: this.rest[4], stream: this.rest.readUInt32BE(5) & 0x7fffffff, payload: this.rest.subarray(9, 9 + length) }
      this.rest = this.rest.subarray(9 + length)
      if (this.frames.length < 100000) this.frames.push(f)
      const s = f.stream ? this.stream(f.stream) : null
      if (f.type === types.HEADERS) { s.status ??= statusOf(f.payload); if (f.flag & flags.END_STREAM) s.end = true }
      if (f.type === types.DATA) { s.data += f.payload.toString('latin1'); if (f.flag & flags.END_STREAM) s.end = true }
      if (f.type === types.RST_STREAM) { s.reset = f.payload.readUInt32BE(0); s.end = true }
      if (f.type === types.GOAWAY) this.goaway = { last: f.payload.readUInt32BE(0), code: f.payload.readUInt32BE(4), text: f.payload.subarray(8).toString() }
    }
  }
  // How the stream ended: { status, reset, data }; or the connection did.
  async ended(id, seconds) {
    await until(`stream ${id} ends`, () => this.stream(id).end || this.closed, seconds)
    return this.stream(id)
  }
  // The server cut the connection: { code, text } of its GOAWAY, if it said one.
  async cut(seconds = 20) {
    await until('the server cuts the connection', () => this.closed, seconds)
    return this.goaway ?? {}
  }
}

// The first field of a response of ours is its status: indexed, or a literal in clear or Huffman digits.
function statusOf(payload) {
  const known = { 0x88: 200, 0x89: 204, 0x8a: 206, 0x8b: 304, 0x8c: 400, 0x8d: 404, 0x8e: 500 }
  while ((payload[0] & 0xe0) === 0x20) payload = payload.subarray(1)
  if (known[payload[0]]) return known[payload[0]]
  const huffman = payload[1] & 0x80, bytes = payload.subarray(2, 2 + (payload[1] & 0x7f))
  if (!huffman) return Number(bytes.toString())
  // The ten digits in the code of RFC 7541, appendix B.
  const codes = { '00000': 0, '00001': 1, '00010': 2, '011001': 3, '011010': 4, '011011': 5, '011100': 6, '011101': 7, '011110': 8, '011111': 9 }
  let bits = [...bytes].map(b => b.toString(2).padStart(8, '0')).join(''), text = ''
  while (text.length < 3) {
    const code = Object.keys(codes).find(k => bits.startsWith(k))
    if (!code) return NaN
    text += codes[code]
    bits = bits.slice(code.length)
  }
  return Number(text)
}
