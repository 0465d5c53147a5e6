// Slack over TLS with a private authority, and through a proxy: the Web API and Socket Mode, which is another library.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { once } from 'node:events'
import { atEnd, bullpen, tempDir, until } from './lib.mjs'
import { Slack } from './slack-help.mjs'
import { Authority } from './tls.mjs'

// A proxy that knows CONNECT, asks for a password, and remembers who came.
async function proxy(t) {
  const p = { asked: [], user: 'me@corp', word: 's3:cret' }
  p.server = http.createServer((_, res) => { res.writeHead(405); res.end() })
  p.server.on('connect', (req, socket, head) => {
    p.asked.push({ to: req.url, by: Buffer.from((req.headers['proxy-authorization'] ?? '').replace(/^basic /i, ''), 'base64').toString() })
    socket.on('error', () => {})
    if (p.asked.at(-1).by !== `${p.user}:${p.word}`) return socket.end('HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm="x"\r\ncontent-length: 0\r\n\r\n')
    const far = net.connect(Number(req.url.split(':')[1]), '127.0.0.1', () => { socket.write('HTTP/1.1 200 Connection established\r\n\r\n'); far.write(head); far.pipe(socket).pipe(far) })
    far.on('error', () => socket.destroy())
    socket.on('close', () => far.destroy())
  })
  p.server.listen(0, '127.0.0.1')
  await once(p.server, 'listening')
  p.url = `http://${encodeURIComponent(p.user)}:${p.word}@127.0.0.1:${p.server.address().port}`
  atEnd(t, () => { p.server.closeAllConnections(); p.server.close() })
  return p
}
// A server whose Slack speaks TLS; `ca`: what the settings say; env: of the server.
async function secure(t, { ca = a => `ca_file = "${a.file}"`, env = {} } = {}) {
  const slack = new Slack(), authority = await Authority.make(tempDir(t))
  slack.tls = await authority.issue('slack')
  await slack.start(t)
  const pool = await bullpen(t, { start: false, prepare: p => { fs.mkdirSync(p.data); fs.appendFileSync(p.configFile, slack.settings(p.dir, { socket: true, signed: false, more: ca(authority) })) } })
  await pool.start({ env })
  return { pool, slack, authority }
}
const connected = (pool, slack) => until(`it connects; ${pool.server.stderr.slice(-800)}`, () => slack.sockets[0], 20)

test('Socket Mode over TLS with an authority of the settings: envelopes come and are acknowledged', async t => {
  const { pool, slack } = await secure(t)
  const socket = await connected(pool, slack)
  assert.equal((await slack.calls.find(c => c.method === 'apps.connections.open')) !== undefined, true)
  socket.send(JSON.stringify({ envelope_id: 'e-1', type: 'events_api', payload: slack.event('help') }))
  await until('it is acknowledged', () => slack.acks.some(a => a.envelope_id === 'e-1'))
  await until('it is answered over TLS, too', () => slack.ephemerals.some(m => /^Connect your account/.test(m.text)))
})

test('an authority of the system counts as well; an unknown one does not, and that is said', async t => {
  const known = await secure(t, { ca: () => '', env: { } })
  await until('nothing is sent to a server that is not known', () => /slack\.disconnected mode=socket reason="[^"]*certificate/i.test(known.pool.server.stderr), 20)
  assert.equal(known.slack.sockets.length, 0)
  await known.pool.stop()
  await known.pool.start({ env: { SSL_CERT_FILE: known.authority.file } })
  await connected(known.pool, known.slack)
})

test('a certificate of another host is not taken by the socket', async t => {
  const slack = new Slack(), authority = await Authority.make(tempDir(t))
  slack.tls = await authority.issue('slack', 'server', { names: 'DNS:localhost' })
  await slack.start(t)
  // The API is right, the socket's address is one that the certificate does not name.
  let asked = 0
  slack.apps_connections_open = (_, res) => { asked++; res.writeHead(200, { 'content-type': 'application/json' }); res.end(JSON.stringify({ ok: true, url: `wss://127.0.0.1:${slack.port}/link?x=1` })) }
  const pool = await bullpen(t, { prepare: p => fs.appendFileSync(p.configFile, slack.settings(p.dir, { socket: true, signed: false, more: `ca_file = "${authority.file}"` })) })
  await until(`it is refused twice; ${pool.server.stderr.slice(-500)}`, () => asked >= 2 && (pool.server.stderr.match(/slack\.disconnected/g) ?? []).length >= 1, 20)
  assert.deepEqual([slack.sockets.length, slack.acks.length], [0, 0])
})

test('through a proxy of the environment, with its password; NO_PROXY; a proxy that Socket Mode cannot use is said', async t => {
  const p = await proxy(t), { pool, slack } = await secure(t, { env: { HTTPS_PROXY: p.url, http_proxy: 'http://127.0.0.1:1' } })
  const socket = await connected(pool, slack)
  const to = `localhost:${slack.port}`
  assert.ok(p.asked.length >= 2 && p.asked.every(a => a.to === to && a.by === 'me@corp:s3:cret'), JSON.stringify(p.asked))
  socket.send(JSON.stringify({ envelope_id: 'e-1', type: 'events_api', payload: slack.event('help') }))
  await until('it is acknowledged', () => slack.acks.some(a => a.envelope_id === 'e-1'))
  await pool.stop()
  p.asked.length = 0
  await pool.start({ env: { HTTPS_PROXY: p.url, http_proxy: 'http://127.0.0.1:1', NO_PROXY: 'example.com, localhost' } })
  await connected(pool, slack)
  assert.equal(p.asked.length, 0)
  await pool.stop()
  await pool.start({ env: { HTTPS_PROXY: p.url.replace('s3:cret', 'wrong-word') } })
  await until('a refusal is said', () => /slack\.disconnected/.test(pool.server.stderr), 20)
  assert.doesNotMatch(pool.server.stderr, /wrong-word/)
})
