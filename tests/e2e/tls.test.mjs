// TLS on the server's port: who is served how, what is refused, and certificates that change under open connections.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import tls from 'node:tls'
import { execFile } from 'node:child_process'
import { Proc, bullpen, programs, run, sh, atEnd, tempDir, until } from './lib.mjs'
import { Authority, tlsPool, tlsConfig, h2get, openssl } from './tls.mjs'

const port = pool => Number(new URL(pool.url).port)

// openssl s_client to its end: everything it said.
const client = (pool, args, input = '') => new Promise(resolve => {
  const p = execFile('openssl', ['s_client', '-connect', `127.0.0.1:${port(pool)}`, '-CAfile', pool.ca.file, ...args], { timeout: 20000 },
    (error, stdout, stderr) => resolve({ code: error?.code ?? 0, text: stdout + stderr }))
  p.stdin.on('error', () => {})
  p.stdin.end(input)
})

test('a worker, the command line, curl and node do a whole run over TLS', async t => {
  const pool = await tlsPool(t)
  assert.match(pool.url, /^https:/)
  await pool.worker({ env: pool.trust })
  const r = await pool.run(sh('echo secure > note.txt'))
  assert.equal((await r.end()).status, 'FINISHED')
  assert.ok((await r.events()).some(e => e.event === 'done'))
  const ls = pool.cli(['ls'], { env: pool.trust })
  assert.equal((await ls.exited).code, 0, ls.stderr)
  assert.match(ls.stdout, new RegExp(r.agentId))
  const done = pool.cli(['run', '--repo', (await pool.origin()).url, sh('echo by hand')], { env: pool.trust })
  assert.equal((await done.exited).code, 0, done.stderr)
  assert.match(done.stdout, /FINISHED/)
  for (const version of ['--http1.1', '--http2']) {
    const curl = await run(t, 'curl', ['-sS', version, '--cacert', pool.ca.file, '-w', ' %{http_version}', '-H', `authorization: Bearer ${pool.userKey}`, `${pool.url}/v1/me`])
    assert.equal(curl.code, 0, curl.stderr)
    assert.match(curl.stdout, version === '--http2' ? / 2$/ : / 1\.1$/)
    assert.match(curl.stdout, /dev/)
  }
  const two = await h2get(t, pool.url, '/v1/me', { ca: pool.ca.pem, headers: { authorization: `Bearer ${pool.userKey}` } })
  assert.equal(two.status, 200)
  assert.equal(two.session.alpnProtocol, 'h2')
  assert.equal((await pool.http('GET', '/v1/me')).status, 200)
})

test('a large body and a large stream pass TLS whole', async t => {
  const pool = await tlsPool(t)
  await pool.worker({ env: pool.trust })
  const r = await pool.run(`${'x'.repeat(700_000)}\n` + sh('for i in $(seq 100000); do echo line $i; done'))
  assert.equal((await r.end()).status, 'FINISHED')
  const said = (await r.events()).filter(e => e.event === 'interaction_update' && e.data.type === 'shell-output-delta').map(e => e.data.event.data).join('')
  const lines = said.split('\n')
  assert.ok(said.length > 900_000)
  lines.slice(0, 70_000).forEach((line, i) => assert.equal(line, `line ${i + 1}`))
})

test('ALPN chooses h2 first, then http/1.1; without it the first bytes decide; an unknown one is alert 120', async t => {
  const pool = await tlsPool(t)
  const get = 'GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n'
  for (const [offer, chosen] of [['h2,http/1.1', 'h2'], ['http/1.1,h2', 'h2'], ['http/1.1', 'http/1.1'], ['spdy/3,http/1.1', 'http/1.1']]) {
    const r = await client(pool, ['-alpn', offer])
    assert.match(r.text, new RegExp(`ALPN protocol: ${chosen}\\n`), offer)
  }
  const unknown = await client(pool, ['-alpn', 'spdy/3'])
  assert.match(unknown.text, /alert number 120/)
  assert.notEqual(unknown.code, 0)
  const none = await client(pool, ['-ign_eof', '-quiet'], get)
  assert.match(none.text, /HTTP\/1\.1 200 OK/)
  // HTTP/2 by its preface, byte by byte, inside TLS without ALPN.
  const s = tls.connect({ port: port(pool), host: '127.0.0.1', ca: pool.ca.pem })
  atEnd(t, () => s.destroy())
  let seen = Buffer.alloc(0)
  s.on('data', d => { seen = Buffer.concat([seen, d]) })
  for (const byte of Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0])])) s.write(Buffer.from([byte]))
  await until('the server sends its settings', () => seen.length >= 9 && seen[3] === 4)
  // Who chose http/1.1 cannot speak HTTP/2 all the same.
  const liar = await client(pool, ['-alpn', 'http/1.1', '-ign_eof', '-quiet'], 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
  assert.match(liar.text, /HTTP\/1\.1 400 /)
})

test('TLS 1.1, old ciphers, renegotiation and compression are refused; 1.2 and 1.3 are spoken', async t => {
  const pool = await tlsPool(t)
  for (const [args, good] of [[['-tls1_3'], true], [['-tls1_2'], true], [['-tls1_1', '-cipher', 'ALL:@SECLEVEL=0'], false], [['-tls1', '-cipher', 'ALL:@SECLEVEL=0'], false],
    [['-tls1_2', '-cipher', 'AES128-SHA:AES256-SHA:@SECLEVEL=0'], false], [['-tls1_2', '-cipher', 'ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0'], false]]) {
    const r = await client(pool, args)
    assert.equal(/Verify return code: 0 \(ok\)/.test(r.text) && r.code === 0, good, `${args}: ${r.text.slice(-300)}`)
    if (good) assert.match(r.text, /Compression: NONE/)
  }
  const s = tls.connect({ port: port(pool), host: '127.0.0.1', ca: pool.ca.pem, maxVersion: 'TLSv1.2' })
  atEnd(t, () => s.destroy())
  const refused = await new Promise(resolve => { s.on('error', resolve); s.on('secureConnect', () => s.renegotiate({}, e => resolve(e))) })
  assert.match(String(refused), /no.renegotiation/i)
  assert.equal((await pool.http('GET', '/healthz')).status, 200)
})

test('the server says close_notify when it ends a connection', async t => {
  const pool = await tlsPool(t)
  const r = await client(pool, ['-ign_eof', '-msg', '-alpn', 'http/1.1'], 'GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
  assert.match(r.text, /<<< TLS 1\.3, Alert \[length 0002\], warning close_notify/)
})

test('cleartext on the TLS port, garbage and a handshake that never ends cost only their own connection', async t => {
  const pool = await tlsPool(t)
  const plain = await run(t, 'curl', ['-sS', '-m', '10', `http://127.0.0.1:${port(pool)}/healthz`])
  assert.notEqual(plain.code, 0)
  const worker = await pool.worker({ env: pool.trust, endpoint: pool.url.replace('https:', 'http:'), ready: false })
  await worker.says(/speaks TLS|does not speak|broke|closed/, 'stderr')
  const silent = net.createConnection(port(pool), '127.0.0.1'), slow = net.createConnection(port(pool), '127.0.0.1')
  const ends = [silent, slow].map(s => new Promise(r => s.on('close', r).on('error', () => {}).resume()))
  slow.write(Buffer.from([0x16, 3, 1, 2, 0]))
  const noise = net.createConnection(port(pool), '127.0.0.1')
  noise.on('error', () => {}).write(Buffer.alloc(5000, 0xff))
  assert.equal((await pool.http('GET', '/healthz')).status, 200)
  await Promise.race([Promise.all(ends), new Promise((_, no) => setTimeout(() => no(new Error('half a handshake stays open')), 30000).unref())])
  assert.equal((await pool.http('GET', '/healthz')).status, 200)
})

test('SIGHUP brings a new certificate; open connections stay, a bad file changes nothing', async t => {
  const pool = await tlsPool(t)
  const worker = await pool.worker({ env: pool.trust })
  const r = await pool.run(sh('echo begun; until test -e ../go; do sleep 0.05; done'))
  const stream = await r.stream()
  await stream.until('the call runs', e => e.event === 'tool_call')
  const subject = () => new Promise((resolve, reject) => {
    const s = tls.connect({ port: port(pool), host: '127.0.0.1', ca: pool.ca.pem }, () => { resolve(s.getPeerCertificate().subject.CN); s.destroy() }).on('error', reject)
  })
  assert.equal(await subject(), 'first')
  await pool.ca.issue('second')
  process.kill(pool.server.pid, 'SIGHUP')
  await pool.server.says(/server\.reload /, 'stderr')
  assert.equal(await subject(), 'second')
  fs.writeFileSync(pool.files.cert, 'no certificate')
  process.kill(pool.server.pid, 'SIGHUP')
  await pool.server.says(/server\.reload\.failed .*is not a certificate/, 'stderr')
  assert.equal(await subject(), 'second')
  fs.writeFileSync(path.join(pool.dir, 'go'), '')
  assert.equal((await r.end()).status, 'FINISHED')
  await stream.all()
  assert.doesNotMatch(worker.stderr, /worker\.disconnected/)
  assert.equal(pool.server.stderr.match(/server\.reload\.failed/g).length, 1)
})

test('files that cannot be used are refused at the start, with what to do', async t => {
  const dir = tempDir(t)
  const ca = await Authority.make(dir)
  const one = await ca.issue('one', 'one'), two = await ca.issue('two', 'two')
  const open = path.join(dir, 'open.key'), locked = path.join(dir, 'locked.key')
  fs.copyFileSync(one.key, open)
  fs.chmodSync(open, 0o644)
  await openssl('ec', '-in', one.key, '-aes128', '-passout', 'pass:secret', '-out', locked)
  fs.chmodSync(locked, 0o600)
  const pipe = path.join(dir, 'pipe')
  assert.equal((await run(t, 'mkfifo', [pipe])).code, 0)
  for (const [config, status, message] of [
    [`[server]\ntls_cert = "${one.cert}"\n`, 2, /server\.tls_key is missing/],
    [`[server]\ntls_key = "${one.key}"\n`, 2, /server\.tls_cert is missing/],
    [tlsConfig({ cert: path.join(dir, 'no.pem'), key: one.key }), 1, /cannot read the TLS certificate .*no\.pem: No such file/],
    [tlsConfig({ cert: one.cert, key: path.join(dir, 'no.key') }), 1, /cannot read the TLS key .*no\.key: No such file/],
    [tlsConfig({ cert: one.key, key: one.key }), 1, /is not a certificate chain/],
    [tlsConfig({ cert: one.cert, key: one.cert }), 1, /chmod o=|is not a private key/],
    [tlsConfig({ cert: one.cert, key: two.key }), 1, /two\.key does not belong to the certificate .*one\.pem/],
    [tlsConfig({ cert: one.cert, key: open }), 1, /open to every user .* chmod o= /],
    [tlsConfig({ cert: one.cert, key: locked }), 1, /has a passphrase/],
    [tlsConfig({ cert: dir, key: one.key }), 1, /is not a file/],
    [tlsConfig({ cert: pipe, key: one.key }), 1, /pipe: it is not a file/],
    [tlsConfig({ cert: one.cert, key: pipe }), 1, /pipe: it is not a file/],
  ]) {
    fs.writeFileSync(path.join(dir, 'c.toml'), config)
    const p = await run(t, programs.bullpen, ['serve', '--config', path.join(dir, 'c.toml'), '--listen', '127.0.0.1:0', '--data', path.join(dir, 'data')])
    assert.match(p.stderr, message)
    assert.equal(p.code, status, p.stderr)
  }
})

test('listening for others without TLS is warned about once; with TLS or on loopback it is not', async t => {
  const pool = await bullpen(t)
  assert.doesNotMatch(pool.server.stderr, /server\.cleartext/)
  const secure = await tlsPool(t)
  for (const [p, warned] of [[pool, 1], [secure, 0]]) {
    await p.stop()
    const s = new Proc(t, programs.bullpen, ['serve', '--config', p.configFile, '--listen', '0.0.0.0:0', '--data', p.data])
    await s.says(/listening on/)
    assert.equal((s.stderr.match(/server\.cleartext/g) ?? []).length, warned)
    await s.kill('SIGTERM')
  }
})
