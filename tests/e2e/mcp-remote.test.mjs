// MCP servers that the control plane asks: kept ones, over the real transports, and servers that misbehave.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen } from './lib.mjs'
import { CONFIG, everythingServer, keep, ownServer, tryServer } from './mcp-remote-help.mjs'

test('the published server over Streamable HTTP and over HTTP+SSE, whatever type it was given', async t => {
  const pool = await bullpen(t, { config: CONFIG })
  for (const transport of ['streamableHttp', 'sse']) {
    const s = await everythingServer(t, transport)
    for (const type of ['http', 'sse']) {
      const r = await tryServer(pool, { name: `${transport} as ${type}`, type, url: s.url })
      assert.equal(r.state, 'ready', JSON.stringify(r))
      assert.ok(r.tools.some(x => x.name === 'echo'), JSON.stringify(r.tools))
    }
  }
})

test('headers: what each request carries, the session id, the version; DELETE at the end', async t => {
  const pool = await bullpen(t, { config: CONFIG })
  const s = await ownServer(t, { version: '2025-06-18' })
  const r = await tryServer(pool, { name: 'own', url: s.url, headers: { 'X-Key': 'k1', Authorization: 'Bearer fixed' } })
  assert.equal(r.state, 'ready', JSON.stringify(r))
  const [init] = s.of('initialize')
  assert.equal(init.headers['mcp-protocol-version'], undefined)
  assert.equal(init.headers['mcp-session-id'], undefined)
  assert.deepEqual(init.message.params.capabilities, {}, 'a remote server learns of no roots')
  for (const m of ['notifications/initialized', 'tools/list']) {
    const [x] = s.of(m)
    assert.equal(x.headers['mcp-protocol-version'], '2025-06-18', m)
    assert.equal(x.headers['mcp-session-id'], 'session-1', m)
  }
  for (const x of s.seen) {
    assert.equal(x.headers['x-key'], 'k1')
    assert.equal(x.headers.authorization, 'Bearer fixed')
    assert.match(x.headers['user-agent'], /^bullpen\//)
    if (x.http === 'POST') {
      assert.equal(x.headers['content-type'], 'application/json')
      assert.equal(x.headers.accept, 'application/json, text/event-stream')
    }
  }
  await pool.stop()
  const last = s.seen.at(-1)
  assert.equal(last.http, 'DELETE')
  assert.equal(last.headers['mcp-session-id'], 'session-1')
})

const sse = (res, ...events) => { res.writeHead(200, { 'content-type': 'text/event-stream' }); for (const e of events) res.write(e) }
const message = (id, result, head = '') => `${head}data: ${JSON.stringify({ jsonrpc: '2.0', id, result })}\n\n`

test('answers as streams: server requests in between, odd line ends, a stream that breaks and is resumed, pages', async t => {
  const pool = await bullpen(t, { config: CONFIG })
  const tool = name => ({ name, inputSchema: { type: 'object' } })
  let resumed = 0
  const s = await ownServer(t, {
    on: {
      'tools/list': (req, res, m) => {
        if (m.params.cursor === 'p2') {
          // Broken off behind an event with an id: what is missing comes by GET.
          sse(res, 'retry: 10\nid: e7\ndata:\n\n')
          setImmediate(() => res.end())
          s.pending = m.id
          return true
        }
        sse(res, '\ufeff: hello\r\n\r\n', 'event: other\ndata: {}\n\n', 'data: this is no JSON\n\n', `data: ${JSON.stringify({ jsonrpc: '2.0', id: 'r1', method: 'roots/list' })}\r\r`,
          `data: ${JSON.stringify({ jsonrpc: '2.0', id: 'p1', method: 'ping' })}\n\n`, message(999, {}), message(m.id, { tools: [tool('one')], nextCursor: 'p2' }))
        // It is not waited for: this stream is left open.
        return true
      },
      GET: (req, res) => {
        if (req.headers['last-event-id'] !== 'e7') return false
        resumed++
        if (resumed === 1) { res.writeHead(200, { 'content-type': 'text/event-stream' }).end('retry: 10\n\n'); return true }
        sse(res, message(s.pending, { tools: [tool('two')] }))
        return true
      },
    },
  })
  const r = await tryServer(pool, { name: 'own', url: s.url })
  assert.equal(r.state, 'ready', JSON.stringify(r))
  assert.deepEqual(r.tools.map(x => x.name), ['one', 'two'])
  assert.equal(resumed, 2)
  const answers = s.seen.filter(x => x.http === 'POST' && x.message.method === undefined).map(x => x.message)
  assert.deepEqual(answers.find(a => a.id === 'p1'), { jsonrpc: '2.0', id: 'p1', result: {} })
  assert.equal(answers.find(a => a.id === 'r1').error.code, -32601)
})

test('servers that misbehave: each is failed with a sentence, and nothing else suffers', async t => {
  const pool = await bullpen(t, { config: CONFIG })
  const raw = (status, headers, body) => (req, res) => { res.writeHead(status, headers).end(body); return true }
  const init = f => ({ on: { initialize: f } })
  const cases = {
    'nonsense instead of JSON': [init(raw(200, { 'content-type': 'application/json' }, '{"jsonrpc": nonsense')), /without an answer/],
    'a page': [init(raw(200, { 'content-type': 'text/html' }, '<html>')), /without an answer/],
    'an empty stream': [init((req, res) => { sse(res); res.end(); return true }), /without an answer/],
    'a version that nobody knows': [{ version: '1999-01-01' }, /unsupported protocol version 1999-01-01/],
    'a session id with blanks': [{ session: 'a b' }, /session id/],
    'a redirect to another host': [init(raw(307, { location: 'http://localhost:1/mcp' })), /another host/],
    'a redirect without end': [init((req, res) => { res.writeHead(308, { location: req.url }).end(); return true }), /more than 3 times/],
    'status 500': [init(raw(500, {}, 'x'.repeat(100000))), /status 500/],
    'a cut connection': [init((req, res) => { req.socket.destroy(); return true }), /lost|unknown|reached/],
    'a message of 17 MiB': [{ on: { 'tools/list': (req, res, m) => { res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ jsonrpc: '2.0', id: m.id, result: { tools: [], x: 'x'.repeat(17 << 20) } })); return true } } }, /larger than/],
    'an event of 17 MiB': [{ on: { 'tools/list': (req, res) => { sse(res, `data: "${'x'.repeat(17 << 20)}`); res.end(); return true } } }, /larger than/],
    'nesting without end': [{ on: { 'tools/list': raw(200, { 'content-type': 'application/json' }, '['.repeat(200000)) } }, /without an answer/],
    'no tools': [{ on: { 'tools/list': (req, res, m, reply) => { reply({ tools: 'none' }); return true } } }, /tools/],
  }
  for (const [what, [options, pattern]] of Object.entries(cases)) {
    const s = await ownServer(t, options)
    const r = await tryServer(pool, { name: what, url: s.url })
    assert.equal(r.state, 'failed', `${what}: ${JSON.stringify(r).slice(0, 500)}`)
    assert.match(r.reason, pattern, what)
  }
  const good = await ownServer(t)
  assert.equal((await tryServer(pool, { name: 'good', url: good.url })).state, 'ready')
})

test('HTTP+SSE: an endpoint elsewhere is refused, a relative one is taken', async t => {
  const pool = await bullpen(t, { config: CONFIG })
  const legacy = endpoint => ownServer(t, {
    on: { GET: (req, res) => { sse(res, `event: endpoint\ndata: ${endpoint}\n\n`); return true }, initialize: (req, res) => { if (req.url === '/mcp') { res.writeHead(405).end(); return true } } },
  })
  const evil = await ownServer(t)
  for (const endpoint of [evil.url, '//127.0.0.2/x', 'https://127.0.0.1/x']) {
    const s = await legacy(endpoint)
    const r = await tryServer(pool, { name: endpoint, type: 'sse', url: s.url, headers: { Authorization: 'Bearer mine' } })
    assert.equal(r.state, 'failed')
    assert.match(r.reason, /another host/)
  }
  assert.equal(evil.seen.length, 0, 'nothing was sent there')
  // A server of the old kind that was called http: 405, then the stream.
  let stream
  const old = await ownServer(t, {
    gate: (req, res, m) => {
      if (req.method === 'GET') { stream = res; sse(res, 'event: endpoint\ndata: messages?session=7\n\n'); return true }
      if (req.url === '/mcp') { res.writeHead(405).end(); return true }
      assert.equal(req.url, '/messages?session=7')
      res.writeHead(202).end()
      if (m.method === 'initialize') stream.write(message(m.id, { protocolVersion: '2024-11-05', capabilities: { tools: {} }, serverInfo: { name: 'old', version: '1' } }))
      if (m.method === 'tools/list') stream.write(message(m.id, { tools: [{ name: 'old', inputSchema: { type: 'object' } }] }))
      return true
    },
  })
  const r = await tryServer(pool, { name: 'old', url: old.url })
  assert.equal(r.state, 'ready', JSON.stringify(r))
  assert.deepEqual(r.tools.map(x => x.name), ['old'])
})

test('what only this server can reach is not asked, however it is written, unless the operator listed it', async t => {
  const inside = await ownServer(t)
  const port = new URL(inside.url).port
  const pool = await bullpen(t)
  const refused = async (url, pattern) => {
    const r = await pool.http('POST', '/v1/mcp-servers', { body: { name: url, url } })
    assert.equal(r.status, 400, `${url}: ${r.text}`)
    assert.match(r.json.error.message, pattern, url)
  }
  await refused(inside.url, /must be https/)
  await refused('http://mcp.example.test/', /must be https/)
  await refused(`https://mcp.example.test:${port}/`, /port/)
  await refused('https://a:b@mcp.example.test/', /user name/)
  await refused('ftp://mcp.example.test/', /http/)
  for (const host of ['127.0.0.1', '2130706433', '0x7f000001', '017700000001', '[::1]', '[::ffff:7f00:1]', '[::ffff:10.0.0.1]', '169.254.169.254', 'localhost']) {
    const r = await tryServer(pool, { name: host, url: `https://${host}/mcp` })
    assert.equal(r.state, 'failed', host)
    assert.match(r.reason, /not a public one/, host)
  }
  assert.equal(inside.seen.length, 0)
  // Listed with another port it is not listed.
  const other = await bullpen(t, { config: `[mcp]\ninternal_hosts = "127.0.0.1:1, mcp.example.test"\n` })
  assert.match((await other.http('POST', '/v1/mcp-servers', { body: { name: 'x', url: inside.url } })).json.error.message, /must be https/)
  const listed = await bullpen(t, { config: `[mcp]\ninternal_hosts = "127.0.0.1:${port}"\n` })
  assert.equal((await tryServer(listed, { name: 'x', url: inside.url })).state, 'ready')
})

test('definitions: what is wrong is said, of kept ones and in requests', async t => {
  const pool = await bullpen(t, { config: CONFIG })
  const cases = [
    [{ name: 'x', url: 'http://127.0.0.1/', headers: { 'Mcp-Session-Id': 'x' } }, /set by the control plane/],
    [{ name: 'x', url: 'http://127.0.0.1/', headers: { 'A B': 'x' } }, /token of HTTP/],
    [{ name: 'x', url: 'http://127.0.0.1/', headers: { A: 'x\r\nB: y' } }, /one line/],
    [{ name: 'x', url: 'http://127.0.0.1/', headers: Object.fromEntries([...Array(33).keys()].map(i => [`h${i}`, ''])) }, /at most 32/],
    [{ name: 'x', url: 'http://127.0.0.1/', auth: { CLIENT_ID: 'a', scopes: ['a b'] } }, /one word/],
    [{ name: 'x\ny', url: 'http://127.0.0.1/' }, /control characters/],
    [{ name: 'é'.repeat(129), url: 'http://127.0.0.1/' }, /128 characters/],
    [{ name: 'x', command: 'a', env: { LD_PRELOAD: 'x' } }, /LD_/],
    [{ name: 'x', command: 'a', args: ['x'.repeat(9000)] }, /args\[0\].*8192/],
    [{ name: 'x', command: 'a', url: 'http://127.0.0.1/' }, /either/],
    [{ name: 'x', type: 'sse', command: 'a' }, /goes with/],
  ]
  for (const [server, pattern] of cases) {
    const r = await pool.http('POST', '/v1/mcp-servers', { body: server })
    assert.equal(r.status, 400, r.text)
    assert.match(r.json.error.message, pattern)
    const run = await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, repos: [{ url: 'https://git.example.test/a/b' }], mcpServers: [server] } })
    assert.equal(run.status, 400)
    assert.match(run.json.error.message, /mcpServers\[0\]/)
    assert.match(run.json.error.message, pattern)
  }
  await keep(pool, { name: 'twice', command: '/bin/true' })
  const twice = await pool.http('POST', '/v1/mcp-servers', { body: { name: 'twice', command: '/bin/true' } })
  assert.equal(twice.status, 409)
  assert.equal(twice.json.error.code, 'mcp_server_exists')
})

test('agent mcp: add, ls, test, rm, and what is wrong with the command line', async t => {
  const pool = await bullpen(t, { config: CONFIG })
  const s = await ownServer(t)
  const mcp = async (...args) => { const p = pool.cli(['mcp', ...args]); await p.exited; return p }
  let p = await mcp('add', 'own', s.url, '--header', 'X-Key: a b')
  assert.equal(p.code, 0, p.stderr)
  assert.match(p.stdout, /added for your agents/)
  p = await mcp('add', 'prog', '--command', '/bin/echo', '--arg', 'x', '--env', 'K=V')
  assert.equal(p.code, 0, p.stderr)
  p = await mcp('ls')
  assert.match(p.stdout, /^own +user +http +no +http:/m)
  assert.match(p.stdout, /^prog +user +stdio +- +\/bin\/echo$/m)
  p = await mcp('test', 'own')
  assert.equal(p.code, 0, p.stderr)
  assert.match(p.stdout, /^ready\n {2}echo/)
  assert.equal(s.of('initialize')[0].headers['x-key'], 'a b')
  p = await mcp('test', 'prog')
  assert.equal(p.code, 2)
  p = await mcp('login', 'own')
  assert.equal(p.code, 2)
  assert.match(p.stderr, /asks for no authorization/)
  p = await mcp('rm', 'own')
  assert.equal(p.code, 0, p.stderr)
  for (const [args, code, pattern] of [[['rm', 'own'], 4, /no MCP server is kept/], [['add', 'x'], 2, /give a URL/], [['frob'], 2, /unknown command/], [['add', 'x', 'http://127.0.0.1/', '--header', 'x'], 2, /NAME: VALUE/], [['login'], 2, /name the server/], [['ls', 'x'], 2, /unexpected/]]) {
    p = await mcp(...args)
    assert.equal(p.code, code, args.join(' ') + p.stderr)
    assert.match(p.stderr, pattern)
    assert.equal(p.stderr.trim().split('\n').length, 1)
  }
})
