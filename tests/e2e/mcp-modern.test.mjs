// Servers of the stateless revision 2026-07-28, on the worker and from the control plane: how they are found, what they are sent,
// and what they may not do.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, tool, until } from './lib.mjs'
import { lines, mcpCalls, odd } from './mcp-help.mjs'
import { CONFIG, ownServer, tryServer } from './mcp-remote-help.mjs'

const META = 'io.modelcontextprotocol/'
const withWorker = async (t, { args = [], config = CONFIG, env } = {}) => {
  const pool = await bullpen(t, { config })
  pool.notes = path.join(pool.dir, 'notes')
  pool.methods = () => fs.existsSync(pool.notes) ? fs.readFileSync(pool.notes, 'utf8').split('\n').filter(l => l.startsWith('method ')).map(l => l.slice(7)) : []
  pool.w = await pool.worker({ args, env })
  return pool
}
const finished = async r => {
  const end = await r.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  const events = await r.events()
  return { events, calls: mcpCalls(events), lines: lines(events).join('\n') }
}
const said = c => c.result.success?.content.map(b => b.text?.text).join('|')
const isMeta = (params, what) => {
  assert.equal(params._meta[META + 'protocolVersion'], '2026-07-28', what)
  assert.deepEqual(params._meta[META + 'clientCapabilities'], {}, what)
  assert.equal(params._meta[META + 'clientInfo'].name, 'bullpen', what)
}

test('stdio: forward from initialize, calls, progress, a list that changes; the next start asks the right way first', async t => {
  const pool = await withWorker(t)
  const servers = { mcpServers: [odd('modern', 'odd', { NOTES: pool.notes })] }
  const r = await pool.run(tool('mcp_odd_echo', { text: 'one' }) + tool('mcp_odd_progress', {}) + tool('mcp_odd_fails', {}) + tool('mcp_odd_error', {}) + tool('mcp_odd_die', {}), { extra: servers })
  const { events, calls } = await finished(r)
  assert.deepEqual(calls.slice(0, 3).map(said), ['echo: one', 'progressed', 'it failed: try another way'])
  assert.match(JSON.stringify(events), /progress 3 of 3: step 3/)
  assert.match(calls[3].result.error.message, /internal trouble \(-32603\)/)
  assert.deepEqual(pool.methods().slice(0, 4), ['initialize', 'server/discover', 'subscriptions/listen', 'tools/list'])
  // It died: what it spoke is known when it is started again.
  await until('the second start', () => pool.methods().filter(m => m === 'server/discover').length === 2)
  await until('its list', () => pool.methods().filter(m => m === 'tools/list').length === 2)
  const grown = await pool.run(tool('mcp_odd_grow', {}) + tool('mcp_odd_echo', { text: 'two' }), { extra: servers })
  assert.equal((await finished(grown)).calls.at(-1).result.success?.content[0].text.text, 'echo: two')
  await until('the changed list is asked for', () => pool.methods().filter(m => m === 'tools/list').length >= 4)
  const all = pool.methods()
  assert.equal(all.filter(m => m === 'initialize').length, 1)
  for (const never of ['ping', 'notifications/initialized', 'logging/setLevel', 'answer']) assert.ok(!all.includes(never), never)
})

test('stdio: input that a server wants is declined once, its requests are not answered, odd results are errors', async t => {
  const pool = await withWorker(t)
  const names = ['asks', 'insists', 'model', 'dream', 'backwards']
  const r = await pool.run(names.map(n => tool(`mcp_odd_${n}`, {})).join(''), { extra: { mcpServers: [{ ...odd('modern-odd', 'odd', { NOTES: pool.notes }), protocol: 'modern' }] } })
  const { calls } = await finished(r)
  const by = Object.fromEntries(calls.map((c, i) => [names[i], c]))
  assert.deepEqual(JSON.parse(said(by.asks)), { inputResponses: { 'key 1': { action: 'decline' } }, requestState: 'kept: é' })
  assert.equal(by.insists.result.error.code, 'mcp_error')
  assert.match(by.insists.result.error.message, /asks a person again/)
  assert.equal(fs.readFileSync(pool.notes, 'utf8').match(/^insists /mg).length, 2)
  assert.match(by.model.result.error.message, /sampling\/createMessage/)
  assert.match(by.dream.result.error.message, /unknown type 'dream'/)
  assert.equal(said(by.backwards), 'nobody answered')
  assert.ok(!pool.methods().includes('answer'), 'no message is an answer')
  assert.ok(!pool.methods().includes('initialize'), 'protocol: modern')
})

test('stdio: a cancelled call is told to the server', async t => {
  const pool = await withWorker(t)
  const r = await pool.run(tool('mcp_odd_wait', {}), { extra: { mcpServers: [odd('modern', 'odd', { NOTES: pool.notes })] } })
  await until('the call', () => fs.existsSync(pool.notes) && /^waiting$/m.test(fs.readFileSync(pool.notes, 'utf8')))
  await r.cancel()
  await until('the word', () => pool.methods().includes('notifications/cancelled'))
  assert.match(fs.readFileSync(pool.notes, 'utf8'), /^cancelled \d+$/m)
})

test('protocol of a definition: legacy does not go forward, what is wrong is said, in requests, kept servers and files', async t => {
  const pool = await withWorker(t, { args: ['--project-mcp'] })
  const s = await ownServer(t, { modern: true })
  const old = await ownServer(t)
  let r = await tryServer(pool, { name: 'legacy', url: s.url, protocol: 'legacy' })
  assert.equal(r.state, 'failed')
  assert.match(r.reason, /-32020/)
  assert.equal(s.of('server/discover').length, 0)
  r = await tryServer(pool, { name: 'modern', url: old.url, protocol: 'modern' })
  assert.equal(r.state, 'failed')
  assert.match(r.reason, /refused server\/discover/)
  assert.equal(old.of('initialize').length, 0)
  const kept = (await pool.http('GET', '/v1/mcp-servers')).json.items
  assert.deepEqual(kept.map(k => [k.name, k.protocol]), [['legacy', 'legacy'], ['modern', 'modern']])
  for (const [server, pattern] of [[{ name: 'x', url: s.url, protocol: 'new' }, /protocol/], [{ name: 'x', url: s.url, protocol: 7 }, /protocol/], [{ name: 'x', type: 'sse', url: s.url, protocol: 'modern' }, /'.*protocol' modern does not go with 'type' sse/]]) {
    const refused = await pool.http('POST', '/v1/mcp-servers', { body: server })
    assert.equal(refused.status, 400, refused.text)
    assert.match(refused.json.error.message, pattern)
    const run = await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, mcpServers: [server] } })
    assert.equal(run.status, 400)
    assert.match(run.json.error.message, pattern)
  }
  const file = { filed: { ...odd('modern', 'filed', { NOTES: pool.notes }), protocol: 'modern' }, wrong: { ...odd('modern', 'wrong'), protocol: 'newest' } }
  const run = await pool.run(tool('write', { file_path: '.cursor/mcp.json', contents: JSON.stringify({ mcpServers: file }) }))
  await finished(run)
  const { calls, lines } = await finished(await run.followUp(tool('mcp_filed_echo', { text: 'of a file' })))
  assert.equal(said(calls[0]), 'echo: of a file')
  assert.ok(!pool.methods().includes('initialize'))
  assert.match(lines, /wrong is not available: its 'protocol' must be auto, legacy or modern/)
})

test('HTTP: headers and _meta of every request, no session, no GET, no DELETE; remembered for the definition', async t => {
  const pool = await withWorker(t)
  const region = { type: 'string', 'x-mcp-header': 'Region' }
  const tools = [{ name: 'echo', inputSchema: { type: 'object', properties: { text: { type: 'string' }, region, n: { type: 'integer', 'x-mcp-header': 'N' }, deep: { type: 'object', properties: { on: { type: 'boolean', 'x-mcp-header': 'On' } } } } } },
    { name: 'ü x', inputSchema: { type: 'object' } }, { name: 'wrong', inputSchema: { type: 'object', properties: { l: { type: 'array', items: region } } } }]
  const s = await ownServer(t, { modern: true, tools })
  const extra = { mcpServers: [{ name: 'own', url: s.url, headers: { 'X-Key': 'k1' } }] }
  const r = await pool.run(tool('mcp_own_echo', { text: 'hi', region: 'Zürich', n: -3, deep: { on: true } }) + tool('mcp_own_echo', { text: 'ho', n: 5 }) + tool('mcp_own____x', {}), { extra })
  const { calls, lines } = await finished(r)
  assert.deepEqual(calls.slice(0, 2).map(said), ['echo: hi', 'echo: ho'], JSON.stringify(calls))
  assert.match(lines, /'wrong' was left out: its inputSchema has an x-mcp-header somewhere else/)
  const asked = s.seen.slice(1)
  assert.equal(s.seen[0].message.method, 'initialize')
  assert.deepEqual(asked.map(x => x.message.method), ['server/discover', 'tools/list', 'tools/call', 'tools/call', 'tools/call'])
  for (const x of asked) {
    isMeta(x.message.params, x.message.method)
    assert.equal(x.http, 'POST')
    assert.equal(x.headers['mcp-protocol-version'], '2026-07-28')
    assert.equal(x.headers['mcp-method'], x.message.method)
    assert.equal(x.headers['mcp-session-id'], undefined)
    assert.equal(x.headers.accept, 'application/json, text/event-stream')
    assert.equal(x.headers['x-key'], 'k1')
  }
  const [full, part, odd_] = s.of('tools/call').map(x => x.headers)
  assert.equal(full['mcp-name'], 'echo')
  assert.equal(full['mcp-param-region'], `=?base64?${Buffer.from('Zürich').toString('base64')}?=`)
  assert.equal(full['mcp-param-n'], '-3')
  assert.equal(full['mcp-param-on'], 'true')
  assert.equal(part['mcp-param-region'], undefined)
  assert.equal(odd_['mcp-name'], `=?base64?${Buffer.from('ü x').toString('base64')}?=`)
  // Another agent: the definition is known.
  await finished(await pool.run(tool('mcp_own_echo', { text: 'again' }), { extra }))
  assert.equal(s.of('initialize').length, 1)
  await pool.stop()
  assert.ok(s.seen.every(x => x.http === 'POST'), 'neither GET nor DELETE')
})

test('HTTP: which refusals lead on, and which do not', async t => {
  const pool = await bullpen(t, { config: CONFIG })
  const refusing = (status, body, type = 'application/json') => ownServer(t, { gate: (req, res, m) => {
    if (m.method !== 'initialize') return false
    res.writeHead(status, { 'content-type': type }).end(typeof body === 'function' ? body(m) : body)
    return true
  }, modern: true })
  const error = (code, id) => m => JSON.stringify({ jsonrpc: '2.0', id: id === undefined ? m.id : id, error: { code, message: 'no' } })
  for (const [status, body] of [[200, error(-32601)], [200, error(-32602)], [400, error(-32020, null)], [400, error(-32022)], [404, error(-32601)], [404, error(-32602, null)]]) {
    const s = await refusing(status, body)
    const r = await tryServer(pool, { name: s.url, url: s.url })
    assert.equal(r.state, 'ready', `${status}: ${JSON.stringify(r)}`)
  }
  for (const [status, body, type] of [[200, error(-32603)], [400, error(-32000)], [400, 'no'], [404, '<html>', 'text/html'], [400, error(-32601, 'other')], [500, error(-32000)]]) {
    const s = await refusing(status, body, type)
    const r = await tryServer(pool, { name: s.url, url: s.url })
    assert.equal(r.state, 'failed', `${status}: ${JSON.stringify(r)}`)
    assert.equal(s.of('server/discover').length, 0, `${status}`)
  }
  // What was modern may be of an older revision the next time.
  let modern = true
  const s = await ownServer(t, { gate: (req, res, m) => {
    if (!modern) return false
    if (m.method === 'server/discover' || m.method === 'tools/list') { res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ jsonrpc: '2.0', id: m.id, result: m.method === 'tools/list' ? { tools: [] } : { supportedVersions: ['2026-07-28'], capabilities: { tools: {} } } })); return true }
    res.writeHead(404, { 'content-type': 'application/json' }).end(JSON.stringify({ jsonrpc: '2.0', id: m.id, error: { code: -32601, message: 'no' } }))
    return true
  } })
  const kept = await tryServer(pool, { name: 'both', url: s.url })
  assert.equal(kept.state, 'ready')
  modern = false
  s.seen.length = 0
  const again = await tryServer(pool, { name: 'both again', url: s.url })
  assert.equal(again.state, 'ready', JSON.stringify(again))
  assert.ok(s.of('initialize').length > 0)
})

test('HTTP: a stream that breaks is not resumed, a cancelled call is its end, input is declined once', async t => {
  const pool = await withWorker(t)
  let closed = false
  const named = n => ({ name: n, inputSchema: { type: 'object' } })
  const s = await ownServer(t, { modern: true, tools: ['cut', 'asks', 'insists', 'unknown', 'wait'].map(named), on: {
    'tools/call': (req, res, m, reply) => {
      const ask = () => reply({ resultType: 'input_required', inputRequests: { k: { method: 'elicitation/create', params: {} } }, requestState: 'st' })
      switch (m.params.name) {
        case 'cut': res.writeHead(200, { 'content-type': 'text/event-stream' }); res.write('id: e1\nretry: 1\ndata:\n\n', () => res.end()); return true
        case 'asks': if (m.params.inputResponses) reply({ content: [{ type: 'text', text: JSON.stringify([m.params.inputResponses, m.params.requestState]) }] }); else ask(); return true
        case 'insists': ask(); return true
        case 'unknown': res.writeHead(404, { 'content-type': 'application/json' }).end(JSON.stringify({ jsonrpc: '2.0', id: m.id, error: { code: -32602, message: 'no such tool' } })); return true
        default: res.writeHead(200, { 'content-type': 'text/event-stream' }); res.write(': open\n\n'); res.on('close', () => { closed = true }); return true
      }
    } } })
  const r = await pool.run(['cut', 'asks', 'insists', 'unknown', 'wait'].map(n => tool(`mcp_own_${n}`, {})).join(''), { extra: { mcpServers: [{ name: 'own', url: s.url }] } })
  await until('the last call', () => s.of('tools/call').some(x => x.message.params.name === 'wait'))
  await r.cancel()
  await until('the end of the stream', () => closed)
  const calls = mcpCalls(await r.events())
  assert.match(JSON.stringify(calls[0].result), /outcome is unknown/)
  assert.deepEqual(JSON.parse(said(calls[1])), [{ k: { action: 'decline' } }, 'st'])
  const asks = s.of('tools/call').filter(x => x.message.params.name === 'asks').map(x => x.message)
  assert.equal(asks.length, 2)
  assert.notEqual(asks[0].id, asks[1].id)
  assert.match(JSON.stringify(calls[2].result), /asks a person again/)
  assert.match(JSON.stringify(calls[3].result), /no such tool/)
  assert.equal(s.of('initialize').length, 1, 'a 404 is no end of a session')
  assert.equal(s.of('notifications/cancelled').length, 0)
  assert.ok(s.seen.every(x => x.http === 'POST'))
})

test('HTTP: a subscription tells of changes; one that breaks is made anew', async t => {
  const pool = await withWorker(t)
  const streams = []
  let tools = [{ name: 'first', inputSchema: { type: 'object' } }]
  const s = await ownServer(t, { modern: true, capabilities: { tools: { listChanged: true } }, on: {
    'tools/list': (req, res, m, reply) => { reply({ tools, ttlMs: 0, cacheScope: 'private' }); return true },
    'tools/call': (req, res, m, reply) => { reply({ content: [{ type: 'text', text: m.params.name }] }); return true },
    'subscriptions/listen': (req, res, m) => {
      const tell = method => res.write(`data: ${JSON.stringify({ jsonrpc: '2.0', method, params: { notifications: m.params.notifications, _meta: { [META + 'subscriptionId']: m.id } } })}\n\n`)
      res.writeHead(200, { 'content-type': 'text/event-stream' })
      tell('notifications/subscriptions/acknowledged')
      streams.push({ res, change: () => tell('notifications/tools/list_changed') })
      return true
    } } })
  const extra = { mcpServers: [{ name: 'own', url: s.url }] }
  const r = await pool.run(tool('mcp_own_first', {}), { extra })
  assert.equal(said((await finished(r)).calls[0]), 'first')
  await until('the subscription', () => streams.length === 1)
  const [sub] = s.of('subscriptions/listen')
  isMeta(sub.message.params, 'listen')
  assert.deepEqual(sub.message.params.notifications, { toolsListChanged: true })
  assert.equal(sub.headers['mcp-method'], 'subscriptions/listen')
  tools = [{ name: 'second', inputSchema: { type: 'object' } }]
  streams[0].change()
  // The notice is on its way: a run that begins after it was taken has the new list.
  await until('the new tool', async () => {
    const { calls } = await finished(await r.followUp(tool('mcp_own_second', {})))
    return calls.length > 0 && said(calls.at(-1)) === 'second'
  })
  streams[0].res.end()
  await until('another subscription', () => streams.length === 2)
  assert.notEqual(s.of('subscriptions/listen')[1].message.id, sub.message.id)
})

test('agent mcp add --protocol', async t => {
  const pool = await bullpen(t, { config: CONFIG })
  const s = await ownServer(t, { modern: true })
  const mcp = async (...args) => { const p = pool.cli(['mcp', ...args]); await p.exited; return p }
  let p = await mcp('add', 'own', s.url, '--protocol', 'modern')
  assert.equal(p.code, 0, p.stderr)
  p = await mcp('test', 'own')
  assert.match(p.stdout, /^ready\n {2}echo/)
  assert.equal(s.of('initialize').length, 0)
  p = await mcp('add', 'other', s.url, '--protocol', 'future')
  assert.notEqual(p.code, 0)
  assert.match(p.stderr, /protocol/)
})
