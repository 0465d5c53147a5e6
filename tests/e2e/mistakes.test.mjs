// Mistakes with addresses, certificates and proxies: the command line and the worker give the same advice, and the worker
// goes on trying.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import https from 'node:https'
import net from 'node:net'
import { once } from 'node:events'
import { bullpen, atEnd } from './lib.mjs'
import { Authority, tlsPool } from './tls.mjs'

async function listens(t, server) {
  const sockets = new Set()
  server.on('connection', s => { sockets.add(s.on('error', () => {}).on('close', () => sockets.delete(s))) }).on('tlsClientError', () => {})
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  atEnd(t, () => { for (const s of sockets) s.destroy(); server.close() })
  return server.address().port
}

// Both programs say it: `cli` and `worker` are patterns, the worker's is the same if there is none.
async function bothSay(pool, endpoint, env, cli, worker = cli, code = 5) {
  const ls = pool.cli(['ls', '--endpoint', endpoint], { env })
  const w = await pool.worker({ ready: false, endpoint, env })
  await ls.exited
  assert.match(ls.stderr, /^error: [^\n]+\n$/, `${endpoint}: one line`)
  assert.match(ls.stderr, cli)
  assert.equal(ls.code, code)
  await w.says(worker, 'stderr')
  assert.ok(w.alive, 'it goes on trying')
  await w.kill('SIGKILL')
  return { ls, w }
}

test('https to a port in the clear, http to a port with TLS', async t => {
  const plain = await bullpen(t), secure = await tlsPool(t)
  await bothSay(plain, plain.url.replace('http:', 'https:'), {}, /does not speak TLS: the address must begin with http:\/\//)
  await bothSay(secure, secure.url.replace('https:', 'http:'), secure.trust, /does it speak TLS\? Then the address must begin with https:\/\//, /speaks? TLS.* the address must begin with https:\/\//)
})

test('certificates: expired, not yet valid, for another name, of an authority that nobody named', async t => {
  const pool = await tlsPool(t)
  const server = async files => `https://127.0.0.1:${await listens(t, https.createServer({ cert: fs.readFileSync(files.cert), key: fs.readFileSync(files.key), ALPNProtocols: ['h2', 'http/1.1'] }))}`
  for (const [files, pattern] of [
    [await pool.ca.issue('old', 'old', { from: '20200101000000Z', to: '20200201000000Z' }), /its certificate has expired: renew it there \(if this machine's clock, \d{4}-\d\d-\d\d \d\d:\d\d UTC, is right\)/],
    [await pool.ca.issue('early', 'early', { from: '20900101000000Z', to: '20910101000000Z' }), /its certificate is not valid yet: check the clock of this machine \(\d{4}/],
    [await pool.ca.issue('else', 'else', { names: 'DNS:elsewhere.test' }), /its certificate is for another name: use the name that the certificate has/],
  ]) await bothSay(pool, await server(files), pool.trust, pattern)
  const other = await Authority.make(pool.dir, 'other')
  await bothSay(pool, pool.url, { SSL_CERT_FILE: other.file }, /certificate.*: name a private CA's file in SSL_CERT_FILE/)
  await bothSay(pool, pool.url, {}, /certificate.*: name a private CA's file in SSL_CERT_FILE/)
})

test('proxies: dead, unknown, without credentials, unwilling; the variable is named', async t => {
  const pool = await tlsPool(t), plain = await bullpen(t)
  const tunnel = status => {
    const s = http.createServer((q, a) => { a.writeHead(status, { 'content-type': 'text/html' }).end('<html>no</html>') })
    s.on('connect', (q, socket) => socket.end(`HTTP/1.1 ${status} No\r\nproxy-authenticate: Basic realm="x"\r\ncontent-length: 0\r\n\r\n`))
    return listens(t, s)
  }
  const at = port => `http://eve:wrong-secret@127.0.0.1:${port}`
  for (const [variable, proxy, pattern] of [
    ['HTTPS_PROXY', at(1), /the proxy of HTTPS_PROXY cannot be reached: Connection refused: correct or unset HTTPS_PROXY/],
    ['https_proxy', at(1), /the proxy of https_proxy cannot be reached/],
    ['ALL_PROXY', at(1), /the proxy of ALL_PROXY cannot be reached/],
    ['HTTPS_PROXY', 'http://no-such-proxy.invalid:3128', /the name of the proxy of HTTPS_PROXY is not known: correct or unset HTTPS_PROXY/],
    ['HTTPS_PROXY', at(await tunnel(407)), /the proxy refuses the credentials \(407\): set HTTPS_PROXY=/],
    ['HTTPS_PROXY', at(await tunnel(403)), /the proxy of HTTPS_PROXY does not allow it \(403\): allow it there, or name the host in NO_PROXY/],
    ['HTTPS_PROXY', at(await tunnel(502)), /the proxy of HTTPS_PROXY answered 502/],
  ]) {
    const { ls, w } = await bothSay(pool, pool.url, { ...pool.trust, [variable]: proxy }, pattern)
    assert.doesNotMatch(ls.stderr + w.stderr, /wrong-secret/)
  }
  // In the clear the command line speaks to the proxy itself.
  await bothSay(plain, plain.url, { http_proxy: at(await tunnel(407)) }, /the proxy of http_proxy refuses the request .*HTTP 407/)
})

test('a name that is not known, and a port where nobody listens', async t => {
  const pool = await bullpen(t)
  await bothSay(pool, 'https://no-such-host.invalid', {}, /the name is not known: check its spelling and this machine's DNS/)
  await bothSay(pool, 'http://127.0.0.1:1', {}, /cannot connect to 127\.0\.0\.1:1: Connection refused: is the server running there\?/)
})

test('another server on the port, a gateway without one behind it, and one that does not speak HTTP/2', async t => {
  const pool = await bullpen(t)
  const web = (status, type, body, headers = {}) => listens(t, http.createServer((q, a) => a.writeHead(status, { 'content-type': type, ...headers }).end(body)))
  for (const [status, type, body, pattern] of [
    [200, 'text/html', '<!doctype html><title>Welcome</title>', /answered HTTP 200 with an HTML page, not as a control plane does: is the endpoint right\?/],
    [404, 'text/html', '<html>', /answered HTTP 404 with an HTML page/],
    [200, 'application/json', '[1]', /answered HTTP 200 with something, not as a control plane/],
    [404, 'application/json', '{"message":"no"}', /answered HTTP 404 with something/],
    [502, 'text/html', '<html>', /answered HTTP 502 .*: what stands in front of the control plane does not reach it/],
  ]) await bothSay(pool, `http://127.0.0.1:${await web(status, type, body)}`, {}, pattern)
  await bothSay(pool, `http://127.0.0.1:${await web(301, 'text/html', '', { location: 'https://elsewhere.test/' })}`, {}, /redirects \(HTTP 301\), which is not followed/)
  const two = await listens(t, http2.createServer().on('stream', s => { s.respond({ ':status': 404, 'content-type': 'text/html' }); s.end('<html>') }))
  const w = await pool.worker({ ready: false, endpoint: `http://127.0.0.1:${two}` })
  await w.says(/answered HTTP 404 with an HTML page, not as a control plane does/, 'stderr')
  assert.ok(w.alive)
  const mute = await listens(t, net.createServer(s => s.on('data', () => s.end())))
  const ls = pool.cli(['ls', '--endpoint', `http://127.0.0.1:${mute}`])
  await ls.exited
  assert.match(ls.stderr, /does it speak TLS\?/)
})
