// Requests that two servers could take for different requests. Each is refused, once, and what is hidden behind it is not
// answered: the connection ends.
import test from 'node:test'
import assert from 'node:assert/strict'
import net from 'node:net'
import { bullpen, atEnd, until } from './lib.mjs'
import { H2, frame, flags, types } from './h2-raw.mjs'

const smuggled = 'GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n'
const head = (lines, body = '') => `POST /v1/agents HTTP/1.1\r\nhost: x\r\n${lines}\r\n${body}`
const chunk = '5\r\nhello\r\n0\r\n\r\n'

// Sends, and collects until the server ends the connection.
function talk(t, pool, bytes) {
  return new Promise((resolve, reject) => {
    const s = net.connect(Number(new URL(pool.url).port), '127.0.0.1')
    let text = ''
    s.setEncoding('latin1').on('data', d => { text += d }).on('error', () => {}).on('close', () => { clearTimeout(late); resolve(text) })
    const late = setTimeout(() => { s.destroy(); reject(new Error(`not ended: ${JSON.stringify(bytes.slice(0, 200))}; answered ${JSON.stringify(text)}`)) }, 40000)
    atEnd(t, () => s.destroy())
    s.write(Buffer.from(bytes, 'latin1'))
  })
}
const answers = text => [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(m => Number(m[1]))

const refused = {
  'Content-Length and Transfer-Encoding': head('content-length: 5\r\ntransfer-encoding: chunked\r\n', chunk),
  'Transfer-Encoding and Content-Length': head('transfer-encoding: chunked\r\ncontent-length: 5\r\n', chunk),
  'Content-Length zero and Transfer-Encoding': head('content-length: 0\r\ntransfer-encoding: chunked\r\n', chunk),
  'two equal Content-Lengths': head('content-length: 5\r\ncontent-length: 5\r\n', 'hello'),
  'two different Content-Lengths': head('content-length: 5\r\ncontent-length: 0\r\n', 'hello'),
  'a list of Content-Lengths': head('content-length: 5, 5\r\n', 'hello'),
  'a list of different Content-Lengths': head('content-length: 5,0\r\n', 'hello'),
  'a Content-Length with a sign': head('content-length: +5\r\n', 'hello'),
  'a negative Content-Length': head('content-length: -5\r\n', 'hello'),
  'a hexadecimal Content-Length': head('content-length: 0x5\r\n', 'hello'),
  'a Content-Length with a space inside': head('content-length: 5 0\r\n', 'hello'),
  'an empty Content-Length': head('content-length: \r\n', 'hello'),
  'a Content-Length that overflows': head('content-length: 18446744073709551621\r\n', 'hello'),
  'chunked, identity': head('transfer-encoding: chunked, identity\r\n', chunk),
  'identity, chunked': head('transfer-encoding: identity, chunked\r\n', chunk),
  'gzip, chunked': head('transfer-encoding: gzip, chunked\r\n', chunk),
  'xchunked': head('transfer-encoding: xchunked\r\n', chunk),
  'chunkedx': head('transfer-encoding: chunkedx\r\n', chunk),
  'chunked with a semicolon': head('transfer-encoding: chunked;q=1\r\n', chunk),
  'quoted chunked': head('transfer-encoding: "chunked"\r\n', chunk),
  'identity': head('transfer-encoding: identity\r\n', 'hello'),
  'an empty Transfer-Encoding': head('transfer-encoding: \r\n', chunk),
  'a vertical tab before chunked': head('transfer-encoding: \vchunked\r\n', chunk),
  'a form feed after chunked': head('transfer-encoding: chunked\f\r\n', chunk),
  'Transfer-Encoding twice': head('transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n', chunk),
  'Transfer-Encoding twice, the first harmless': head('transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n', chunk),
  'Transfer-Encoding twice, the last harmless': head('transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n', chunk),
  'chunked, chunked': head('transfer-encoding: chunked, chunked\r\n', chunk),
  'Transfer-Encoding in HTTP/1.0': `POST /v1/agents HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n${chunk}`,
  'a bare LF after the request line': 'GET /healthz HTTP/1.1\nhost: x\r\n\r\n',
  'a bare LF after a header': 'GET /healthz HTTP/1.1\r\nhost: x\nx-a: b\r\n\r\n',
  'bare LFs alone': 'GET /healthz HTTP/1.1\nhost: x\n\n',
  'a bare LF at the end of the head': 'GET /healthz HTTP/1.1\r\nhost: x\r\n\n',
  'a bare CR in a value': 'GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: b\rc: d\r\n\r\n',
  'a bare CR instead of a line end': head('x-a: b\rtransfer-encoding: chunked\r\n', chunk),
  'a bare CR before the end of the head': 'GET /healthz HTTP/1.1\r\nhost: x\r\n\r\r\n',
  'two CRs': 'GET /healthz HTTP/1.1\r\nhost: x\r\r\n\r\n',
  'a bare CR in the request line': 'GET /healthz\r HTTP/1.1\r\nhost: x\r\n\r\n',
  'a folded line with a space': 'GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: b\r\n c\r\n\r\n',
  'a folded line with a tab': head('transfer-encoding:\r\n\tchunked\r\n', chunk),
  'a first line that begins with a space': 'GET /healthz HTTP/1.1\r\n host: x\r\n\r\n',
  'a space before the colon': head('transfer-encoding : chunked\r\n', chunk),
  'a tab before the colon': head('content-length\t: 5\r\n', 'hello'),
  'a space in a name': 'GET /healthz HTTP/1.1\r\nhost: x\r\nx a: b\r\n\r\n',
  'an empty name': 'GET /healthz HTTP/1.1\r\nhost: x\r\n: b\r\n\r\n',
  'a line without a colon': 'GET /healthz HTTP/1.1\r\nhost: x\r\nhello\r\n\r\n',
  'a NUL in a value': 'GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: b\0c\r\n\r\n',
  'a NUL in a name': 'GET /healthz HTTP/1.1\r\nhost: x\r\nx\0a: b\r\n\r\n',
  'a NUL in the target': 'GET /heal\0thz HTTP/1.1\r\nhost: x\r\n\r\n',
  'a control character in a value': 'GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: b\x01c\r\n\r\n',
  'DEL in a value': 'GET /healthz HTTP/1.1\r\nhost: x\r\nx-a: b\x7fc\r\n\r\n',
  'no Host': 'GET /healthz HTTP/1.1\r\nx-a: b\r\n\r\n',
  'two Hosts': 'GET /healthz HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n',
  'two equal Hosts': 'GET /healthz HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n',
  'an authority as target': 'GET example.test:80 HTTP/1.1\r\nhost: x\r\n\r\n',
  'CONNECT': 'CONNECT example.test:80 HTTP/1.1\r\nhost: example.test:80\r\n\r\n',
  'a target of another scheme': 'GET ftp://x/healthz HTTP/1.1\r\nhost: x\r\n\r\n',
  'an absolute target for another host than Host says': 'GET http://other.test/healthz HTTP/1.1\r\nhost: x\r\n\r\n',
  'an absolute target with a user': 'GET http://x@other.test/healthz HTTP/1.1\r\nhost: other.test\r\n\r\n',
  'a fragment in the target': 'GET /healthz#x HTTP/1.1\r\nhost: x\r\n\r\n',
  'a space in the target': 'GET /heal thz HTTP/1.1\r\nhost: x\r\n\r\n',
  'two spaces in the request line': 'GET  /healthz HTTP/1.1\r\nhost: x\r\n\r\n',
  'a tab in the request line': 'GET\t/healthz HTTP/1.1\r\nhost: x\r\n\r\n',
  'no version': 'GET /healthz\r\nhost: x\r\n\r\n',
  'HTTP/1.2': 'GET /healthz HTTP/1.2\r\nhost: x\r\n\r\n',
  'HTTP/3.0': 'GET /healthz HTTP/3.0\r\nhost: x\r\n\r\n',
  'a version in small letters': 'GET /healthz http/1.1\r\nhost: x\r\n\r\n',
  'a method in small letters': 'get /healthz HTTP/1.1\r\nhost: x\r\n\r\n',
  'a space before the method': ' GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n',
  'a chunk size with a plus': head('transfer-encoding: chunked\r\n', '+5\r\nhello\r\n0\r\n\r\n'),
  'a chunk size with a minus': head('transfer-encoding: chunked\r\n', '-5\r\nhello\r\n0\r\n\r\n'),
  'a chunk size with 0x': head('transfer-encoding: chunked\r\n', '0x5\r\nhello\r\n0\r\n\r\n'),
  'an empty chunk size': head('transfer-encoding: chunked\r\n', '\r\nhello\r\n0\r\n\r\n'),
  'a chunk size with a space before it': head('transfer-encoding: chunked\r\n', ' 5\r\nhello\r\n0\r\n\r\n'),
  'a chunk size with a space after it': head('transfer-encoding: chunked\r\n', '5 \r\nhello\r\n0\r\n\r\n'),
  'a chunk size that overflows': head('transfer-encoding: chunked\r\n', '10000000000000005\r\nhello\r\n0\r\n\r\n'),
  'a chunk size of F alone': head('transfer-encoding: chunked\r\n', 'ffffffffffffffffff\r\nhello\r\n0\r\n\r\n'),
  'a chunk with bare LFs': head('transfer-encoding: chunked\r\n', '5\nhello\r\n0\r\n\r\n'),
  'a chunk that ends in a bare LF': head('transfer-encoding: chunked\r\n', '5\r\nhello\n0\r\n\r\n'),
  'a chunk that is longer than it says': head('transfer-encoding: chunked\r\n', '5\r\nhelloworld\r\n0\r\n\r\n'),
  'a last chunk that ends in a bare LF': head('transfer-encoding: chunked\r\n', '5\r\nhello\r\n0\n\n'),
  'a bare CR in a chunk extension': head('transfer-encoding: chunked\r\n', '5;a\rb\r\nhello\r\n0\r\n\r\n'),
  'a bare LF in a chunk extension': head('transfer-encoding: chunked\r\n', '5;a\nb\r\nhello\r\n0\r\n\r\n'),
  'a bomb of chunk extensions': head('transfer-encoding: chunked\r\n', `5;${'a'.repeat(70000)}\r\nhello\r\n0\r\n\r\n`),
  'many chunk extensions': head('transfer-encoding: chunked\r\n', '1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\nx\r\n'.repeat(1000) + '0\r\n\r\n'),
  'a bomb of trailers': head('transfer-encoding: chunked\r\n', `5\r\nhello\r\n0\r\n${'x-a: b\r\n'.repeat(10000)}\r\n`),
  'a Content-Length in a trailer': head('transfer-encoding: chunked\r\n', '5\r\nhello\r\n0\r\ncontent-length: 100\r\n\r\n'),
  'a Transfer-Encoding in a trailer': head('transfer-encoding: chunked\r\n', '5\r\nhello\r\n0\r\ntransfer-encoding: chunked\r\n\r\n'),
  'a Host in a trailer': head('transfer-encoding: chunked\r\n', '5\r\nhello\r\n0\r\nhost: y\r\n\r\n'),
  'an Authorization in a trailer': head('transfer-encoding: chunked\r\n', '5\r\nhello\r\n0\r\nauthorization: Bearer x\r\n\r\n'),
  'a bare LF in a trailer': head('transfer-encoding: chunked\r\n', '5\r\nhello\r\n0\r\nx-a: b\n\r\n'),
}

test('what could be read in two ways is refused once, and nothing behind it is answered', async t => {
  const pool = await bullpen(t)
  const wrong = []
  await Promise.all(Object.entries(refused).map(async ([name, bytes]) => {
    const text = await talk(t, pool, bytes + smuggled + smuggled).catch(e => e.message)
    const a = answers(text)
    if (a.length !== 1 || a[0] < 400 || a[0] === 401 || a[0] > 499) wrong.push(`${name}: ${a} ${JSON.stringify(text.slice(0, 160))}`)
    else if (!/\r\n\r\n\{"error":\{"code":"[a-z_]+","message":"[^"]+"\}\}$/.test(text)) wrong.push(`${name}: not an error of the API: ${text}`)
  }))
  assert.deepEqual(wrong, [])
  assert.equal((await pool.http('GET', '/healthz')).status, 200)
})

test('what is unusual and right is taken', async t => {
  const pool = await bullpen(t)
  const auth = `authorization: Bearer ${pool.userKey}\r\n`
  const body = '{"prompt":{"text":"x"},"bad":1}'
  const hex = body.length.toString(16)
  for (const [name, bytes, status] of [
    ['an absolute target', 'GET http://x/healthz HTTP/1.1\r\nhost: x\r\n\r\n', 200],
    ['an absolute target with a port', 'GET http://x:80/healthz HTTP/1.1\r\nhost: x:80\r\n\r\n', 200],
    ['white space around a value', 'GET /healthz HTTP/1.1\r\nhost: \t x \t\r\n\r\n', 200],
    ['an offer to upgrade to h2c', 'GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n', 200],
    ['CHUNKED in capitals', head(`${auth}content-type: application/json\r\nTransfer-Encoding: CHUNKED\r\n`, `${hex}\r\n${body}\r\n0\r\n\r\n`), 400],
    ['a short chunk extension and a harmless trailer', head(`${auth}transfer-encoding: chunked\r\n`, `${hex};a=b\r\n${body}\r\n0\r\nx-sum: 1\r\n\r\n`), 400],
    ['a chunk size with leading zeros', head(`${auth}transfer-encoding: chunked\r\n`, `000${hex}\r\n${body}\r\n0\r\n\r\n`), 400],
    ['Content-Encoding identity', head(`${auth}content-encoding: identity\r\ncontent-length: ${body.length}\r\n`, body), 400],
    ['an empty line before the request', '\r\nGET /healthz HTTP/1.1\r\nhost: x\r\n\r\n', 200],
  ]) {
    const text = await talk(t, pool, bytes + 'GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
    assert.deepEqual(answers(text), [status, 200], `${name}: ${text}`)
    if (status === 400) assert.match(text, /Unrecognized key|bad/, name)
  }
})

test('a body with a Content-Encoding is refused', async t => {
  const pool = await bullpen(t)
  for (const encoding of ['gzip', 'br', 'identity, gzip', '']) {
    const r = await pool.http('POST', '/v1/agents', { body: '{"prompt":{"text":"x"}}', headers: { 'content-encoding': encoding } })
    assert.equal(r.status, 415, encoding)
    assert.equal(r.json.error.code, 'validation_error')
  }
})

test('the preface of HTTP/2 on a connection that speaks HTTP/1.1 is refused', async t => {
  const pool = await bullpen(t)
  const text = await talk(t, pool, 'GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n' + smuggled)
  assert.deepEqual(answers(text), [200, 400])
})

const base = [[':method', 'GET'], [':scheme', 'http'], [':path', '/healthz'], [':authority', 'x']]
const without = name => base.filter(([n]) => n !== name)
const post = more => [[':method', 'POST'], [':scheme', 'http'], [':path', '/v1/agents'], [':authority', 'x'], ...more]
const malformed = {
  'connection': [...base, ['connection', 'keep-alive']],
  'keep-alive': [...base, ['keep-alive', '1']],
  'proxy-connection': [...base, ['proxy-connection', 'close']],
  'transfer-encoding': [...base, ['transfer-encoding', 'chunked']],
  'upgrade': [...base, ['upgrade', 'h2c']],
  'te other than trailers': [...base, ['te', 'gzip']],
  'an uppercase name': [...base, ['X-Upper', '1']],
  'a CR and LF in a value': [...base, ['x-a', 'b\r\ntransfer-encoding: chunked']],
  'a LF in a value': [...base, ['x-a', 'b\nc: d']],
  'a NUL in a value': [...base, ['x-a', 'b\0c']],
  'a CR and LF in a name': [...base, ['x-a\r\nb', 'c']],
  'a colon in a name': [...base, ['x:a', 'c']],
  'a space in a name': [...base, ['x a', 'c']],
  'an empty name': [...base, ['', 'c']],
  'a CR and LF in the path': [...without(':path'), [':path', '/healthz HTTP/1.1\r\nhost: y\r\n\r\n']],
  'a CR and LF in the method': [...without(':method'), [':method', 'GET / HTTP/1.1\r\n']],
  'no method': without(':method'),
  'no path': without(':path'),
  'no scheme': without(':scheme'),
  'an empty path': [...without(':path'), [':path', '']],
  'two paths': [...base, [':path', '/v1/me']],
  'two methods': [...base, [':method', 'POST']],
  'an unknown pseudo-header': [...base, [':unknown', 'x']],
  'a pseudo-header of responses': [...base, [':status', '200']],
  'a pseudo-header after a header': [...without(':path'), ['x-a', 'b'], [':path', '/healthz']],
  'a host that differs from the authority': [...base, ['host', 'y']],
  'two hosts': [...without(':authority'), ['host', 'x'], ['host', 'y']],
  'a path without a slash': [...without(':path'), [':path', 'healthz']],
  'CONNECT': [[':method', 'CONNECT'], [':authority', 'x:80']],
}

test('malformed requests of HTTP/2 are refused, and the connection serves on', async t => {
  const pool = await bullpen(t)
  const wrong = []
  for (const [name, headers] of Object.entries(malformed)) {
    const c = await H2.connect(t, pool)
    c.headers(1, headers, flags.END_STREAM)
    const end = await c.ended(1).catch(e => ({ error: e.message }))
    if (end.error || (end.status && !(end.status >= 400 && end.status < 500 && end.status !== 404))) wrong.push(`${name}: ${JSON.stringify(end)}`)
    if (!c.goaway) {
      c.headers(3, base, flags.END_STREAM)
      if ((await c.ended(3)).status !== 200) wrong.push(`${name}: the connection is lost`)
    }
    c.close()
  }
  assert.deepEqual(wrong, [])
})

test('a content-length of HTTP/2 that the body does not keep is refused', async t => {
  const pool = await bullpen(t)
  for (const [name, headers, data] of [
    ['too little', post([['content-length', '10']]), 'hello'],
    ['too much', post([['content-length', '2']]), 'hello'],
    ['none', post([['content-length', '5']]), null],
    ['two', post([['content-length', '5'], ['content-length', '6']]), 'hello'],
    ['no number', post([['content-length', '+5']]), 'hello'],
  ]) {
    const c = await H2.connect(t, pool)
    c.headers(1, headers, data === null ? flags.END_STREAM : 0)
    if (data !== null) c.send(frame(types.DATA, flags.END_STREAM, 1, Buffer.from(data)))
    const end = await c.ended(1)
    assert.ok(end.reset === 1 || c.goaway || end.status === 400, `${name}: ${JSON.stringify(end)}`)
    c.close()
  }
  await until('the server serves on', async () => (await pool.http('GET', '/healthz')).status === 200)
})

test('a refused HEAD request gets the head of the refusal and no body', async t => {
  const pool = await bullpen(t)
  for (const [what, bytes, status] of [
    ['a space before the colon', 'HEAD /healthz HTTP/1.1\r\nhost : x\r\n\r\n', 400], ['no Host', 'HEAD /healthz HTTP/1.1\r\n\r\n', 400], ['a version that is none', 'HEAD /healthz HTTP/9.9\r\nhost: x\r\n\r\n', 400],
    ['a bare LF', 'HEAD /healthz HTTP/1.1\nhost: x\n\n', 400], ['a head without an end', `HEAD /healthz HTTP/1.1\r\nhost: x\r\nx-long: ${'x'.repeat(40000)}`, 431], ['a malformed target', 'HEAD healthz HTTP/1.1\r\nhost: x\r\n\r\n', 400],
  ]) {
    const text = await talk(t, pool, bytes)
    assert.deepEqual(answers(text), [status], what)
    assert.match(text, /\r\ncontent-length: [1-9]\d*\r\n/, what)
    assert.match(text, /\r\n\r\n$/, `${what}: nothing behind the head`)
    assert.doesNotMatch(text, /error/, what)
  }
  // Others that begin alike have one.
  assert.match(await talk(t, pool, 'HEADER /healthz HTTP/1.1\r\nhost: x\r\n\r\n'), /"error"/)
  assert.match(await talk(t, pool, 'GET /healthz HTTP/1.1\r\n\r\n'), /"error"/)
})
