// Streams that come and go: strangers.mjs URL N [KEY]. Opens N worker streams, 256 at a time over eight connections, and gives
// each up at once; prints "begun", then {per_s}. Without KEY they have a key that nobody owns, which has its form.
import http2 from 'node:http2'

const [url, count, key = 'crsr_0123456789abcdef0123456789abcdef'] = process.argv.slice(2)
const total = Number(count), path = '/bullpen.worker.v1.WorkerLink/Connect', at_once = 32
const headers = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers', authorization: `Bearer ${key}` }
let begun = 0, ended = 0
const from = process.hrtime.bigint()

function finish() {
  console.log(JSON.stringify({ per_s: total / (Number(process.hrtime.bigint() - from) / 1e9) }))
  process.exit(0)
}

function next(session) {
  if (begun === total) return
  if (begun++ === 0) console.log('begun')
  const s = session.request(headers)
  s.on('error', () => {})
  s.on('response', () => s.close(http2.constants.NGHTTP2_CANCEL))
  s.on('close', () => { if (++ended === total) finish(); else if (!session.destroyed) next(session) })
}

// A server may cut who resets too many streams: then there is another connection, as an attacker would have it.
function dial() {
  const session = http2.connect(url, { rejectUnauthorized: false })
  session.on('error', () => {})
  session.on('close', () => { if (ended < total) dial() })
  session.on('connect', () => { for (let i = 0; i < at_once; i++) next(session) })
}
for (let i = 0; i < 8; i++) dial()
