// Workers and the command line behind a real proxy (squid) and private authorities: what works, and what is said when it
// does not.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import https from 'node:https'
import net from 'node:net'
import path from 'node:path'
import { once } from 'node:events'
import { bullpen, sh, atEnd, until } from './lib.mjs'
import { Authority, tlsPool } from './tls.mjs'
import { Squid } from './squid.mjs'

const count = (text, pattern) => (text.match(new RegExp(pattern, 'g')) ?? []).length
// The same line again and again: it says what is wrong and goes on trying.
const retries = (worker, pattern) => until(`${pattern} is said twice; it said ${worker.stderr.slice(-600)}`, () => count(worker.stderr, pattern.source) >= 2 && worker.alive, 30)

test('a worker and the command line go through a proxy with credentials in its URL', async t => {
  const pool = await tlsPool(t)
  const squid = await Squid.start(t, pool.dir)
  const env = { ...pool.trust, HTTPS_PROXY: squid.url }
  const worker = await pool.worker({ env })
  const r = await pool.run(sh('echo through > proxied.txt'))
  assert.equal((await r.end()).status, 'FINISHED')
  const ls = pool.cli(['ls'], { env })
  assert.equal((await ls.exited).code, 0, ls.stderr)
  assert.match(ls.stdout, new RegExp(r.agentId))
  const again = pool.cli(['run', '--repo', (await pool.origin()).url, sh('echo by hand')], { env })
  assert.equal((await again.exited).code, 0, again.stderr)
  assert.match(again.stdout, /FINISHED/)
  await worker.kill('SIGTERM')
  const host = new URL(pool.url).host
  await until('squid has seen all of them', () => squid.log().filter(l => l.includes(`CONNECT ${host} worker`)).length >= 3)
  assert.doesNotMatch(worker.stderr + worker.stdout + ls.stderr, /pass(%20| )word/)
})

test('a cleartext endpoint is tunnelled through a proxy too', async t => {
  const pool = await bullpen(t)
  const squid = await Squid.start(t, pool.dir, { more: `acl CONNECT method CONNECT` })
  await pool.worker({ env: { http_proxy: squid.url } })
  assert.equal((await (await pool.run(sh('true'))).end()).status, 'FINISHED')
})

test('wrong credentials for the proxy: one clear line an attempt, no secret in it, and it goes on trying', async t => {
  const pool = await tlsPool(t)
  const squid = await Squid.start(t, pool.dir)
  const worker = await pool.worker({ ready: false, env: { ...pool.trust, HTTPS_PROXY: squid.wrongUrl } })
  await retries(worker, /the proxy refuses the credentials \(407\): set HTTPS_PROXY=http:\/\/USER:PASSWORD@HOST:PORT/)
  assert.equal(count(worker.stderr, 'refuses the credentials'), count(worker.stderr, 'worker\\.disconnected'), 'one line an attempt')
  assert.ok(squid.refusals() >= 2)
  assert.doesNotMatch(worker.stderr, /wrong-secret/)
  const ls = pool.cli(['ls'], { env: { ...pool.trust, HTTPS_PROXY: squid.wrongUrl } })
  assert.equal((await ls.exited).code, 5)
  assert.match(ls.stderr, /407/)
  assert.doesNotMatch(ls.stderr, /wrong-secret/)
})

test('a proxy that is no address is told without its password', async t => {
  const pool = await bullpen(t)
  for (const proxy of ['ftp://eve:wrong-secret@proxy.test', 'http://eve:wrong-secret@[', 'eve:wrong-secret@[']) {
    const worker = await pool.worker({ ready: false, env: { http_proxy: proxy } })
    await retries(worker, /the proxy of HTTPS_PROXY, http_proxy or ALL_PROXY is not an address/)
    assert.doesNotMatch(worker.stderr, /wrong-secret/)
    const ls = pool.cli(['ls'], { env: { http_proxy: proxy } })
    assert.equal((await ls.exited).code, 5)
    assert.match(ls.stderr, /^error: .*is not an address/)
    assert.doesNotMatch(ls.stderr, /wrong-secret/)
  }
})

test('NO_PROXY goes past the proxy', async t => {
  const pool = await tlsPool(t)
  // Nothing listens there: whoever asks this proxy fails.
  const env = { ...pool.trust, HTTPS_PROXY: 'http://127.0.0.1:1', NO_PROXY: 'example.test,127.0.0.1' }
  await pool.worker({ env })
  assert.equal((await (await pool.run(sh('true'))).end()).status, 'FINISHED')
  const ls = pool.cli(['ls'], { env })
  assert.equal((await ls.exited).code, 0, ls.stderr)
  const lost = pool.cli(['ls'], { env: { ...env, NO_PROXY: '' } })
  assert.equal((await lost.exited).code, 5)
})

test('an unknown authority, a wrong file and a wrong name are told with what to do', async t => {
  const pool = await tlsPool(t)
  const other = await Authority.make(pool.dir, 'other')
  const stranger = await pool.worker({ ready: false, env: { SSL_CERT_FILE: other.file, SSL_CERT_DIR: '/nonexistent' } })
  await retries(stranger, /certificate.*: name a private CA's file in SSL_CERT_FILE/)
  const nothing = await pool.worker({ ready: false })
  await retries(nothing, /certificate.*: name a private CA's file in SSL_CERT_FILE/)
  const missing = await pool.worker({ ready: false, env: { SSL_CERT_FILE: path.join(pool.dir, 'no-such.pem') } })
  await retries(missing, /the file in SSL_CERT_FILE cannot be used: .*no-such\.pem/)
  const ls = pool.cli(['ls'], { env: { SSL_CERT_FILE: other.file } })
  assert.equal((await ls.exited).code, 5)
  assert.match(ls.stderr, /certificate/)
})

test('an endpoint without HTTP/2, in TLS or not, and a scheme that is wrong are told', async t => {
  const pool = await tlsPool(t)
  const { cert, key } = await pool.ca.issue('old', 'old')
  // A control plane that a proxy makes speak HTTP/1.1 only.
  const answer = (q, s) => s.writeHead(404, { 'content-type': 'application/json' }).end('{"error":{"code":"not_found","message":"no such route"}}')
  const old = https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key), ALPNProtocols: ['http/1.1'] }, answer)
  const silent = https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key), ALPNCallback: () => undefined }, answer)
  const plain = http.createServer(answer)
  for (const s of [old, silent, plain]) {
    s.listen(0, '127.0.0.1')
    await once(s, 'listening')
    atEnd(t, () => { s.closeAllConnections(); s.close() })
  }
  const at = (s, scheme = 'https') => `${scheme}://127.0.0.1:${s.address().port}`
  for (const [endpoint, pattern] of [
    [at(old), /does not speak HTTP\/2: a proxy in front of the control plane must pass it/],
    [at(plain, 'http'), /does not speak HTTP\/2/],
    [pool.url.replace('https', 'http'), /speaks? TLS/],
  ]) await retries(await pool.worker({ ready: false, endpoint, env: pool.trust }), pattern)
})

test('a proxy that cuts silent tunnels does not cut a waiting worker, and a worker that was cut comes back', async t => {
  const pool = await tlsPool(t)
  const squid = await Squid.start(t, pool.dir, { more: 'read_timeout 18 seconds\nclient_lifetime 1 hour' })
  const env = { ...pool.trust, HTTPS_PROXY: squid.url }
  const worker = await pool.worker({ env })
  // A tunnel as silent as the worker's, begun later: when squid cuts it, squid would have cut the worker's.
  const silent = net.connect(squid.port, '127.0.0.1').on('error', () => {})
  atEnd(t, () => silent.destroy())
  const ended = once(silent, 'close')
  const credentials = Buffer.from('worker:pass word').toString('base64')
  silent.write(`CONNECT ${new URL(pool.url).host} HTTP/1.1\r\nhost: x\r\nproxy-authorization: Basic ${credentials}\r\n\r\n`)
  assert.match(String(await once(silent, 'data')), /^HTTP\/1\.1 200 /)
  await ended
  assert.doesNotMatch(worker.stderr, /worker\.disconnected/)
  await squid.proc.kill('SIGKILL')
  await worker.says(/worker\.disconnected/, 'stderr')
  assert.equal(worker.alive, true)
})
