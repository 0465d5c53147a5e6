// MCP servers with a URL in runs: from the request, the user and the team, to the tools that a model calls.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { login } from './mcp-login-help.mjs'
import { bullpen, checkEvents, sh, tool, until } from './lib.mjs'
import { CONFIG, authorizationServer, everythingServer, keep, ownServer } from './mcp-remote-help.mjs'

const withWorker = async (t, o) => { const pool = await bullpen(t, { config: CONFIG, ...o }); await pool.worker(); return pool }
const calls = events => events.filter(e => e.event === 'tool_call' && e.data.status === 'completed').map(e => e.data)

test('the published server over both transports: calls, structured content, errors, progress, images', async t => {
  const pool = await withWorker(t)
  for (const transport of ['streamableHttp', 'sse']) {
    const s = await everythingServer(t, transport)
    const prompt = tool('mcp_every_echo', { message: 'over there' }) + tool('mcp_every_get-sum', { a: 2, b: 40 }) + tool('mcp_every_get-tiny-image', {}) +
      tool('mcp_every_get-structured-content', { location: 'New York' }) + tool('mcp_every_trigger-long-running-operation', { duration: 0.2, steps: 2 }) + tool('mcp_every_echo', { wrong: 1 })
    const r = await pool.run(prompt, { extra: { mcpServers: [{ name: 'every', url: s.url }] } })
    assert.equal((await r.end()).status, 'FINISHED', JSON.stringify(await r.get()))
    const events = await r.events()
    checkEvents(events)
    const done = calls(events)
    assert.deepEqual(done[0].args, { name: 'mcp_every_echo', args: { message: 'over there' }, providerIdentifier: 'every', toolName: 'echo' })
    assert.deepEqual(done[0].result, { success: { content: [{ text: { text: 'Echo: over there' } }], isError: false } })
    assert.match(JSON.stringify(done[1].result), /42/)
    assert.match(JSON.stringify(done[2].result), /image\/png/)
    assert.match(JSON.stringify(done[3].result), /temperature/)
    assert.match(JSON.stringify(done[4].result), /completed/i)
    assert.ok(events.some(e => JSON.stringify(e.data).includes('progress 1 of 2')), 'progress is told')
    assert.match(JSON.stringify(done[5].result), /message/)
    assert.ok(!JSON.stringify(done[5].result).includes('success'), JSON.stringify(done[5].result))
  }
})

test('who is stronger: request, user, team; a follow-up\'s list; a stored server that a worker starts', async t => {
  const pool = await withWorker(t)
  const named = text => ownServer(t, { on: { 'tools/call': (req, res, m, reply) => { reply({ content: [{ type: 'text', text }] }); return true } } })
  const [a, b, c, d] = [await named('request'), await named('user'), await named('team'), await named('follow-up')]
  await keep(pool, { name: 'x', url: b.url })
  await keep(pool, { name: 'y', url: b.url })
  for (const name of ['x', 'y', 'z']) await keep(pool, { name, url: c.url }, { key: pool.poolKey })
  const all = ['x', 'y', 'z'].map(n => tool(`mcp_${n}_echo`, { text: '' })).join('')
  const said = async r => { assert.equal((await r.end()).status, 'FINISHED'); return calls(await r.events()).map(x => x.result.success?.content[0].text.text) }
  const r = await pool.run(all, { extra: { mcpServers: [{ name: 'x', url: a.url }] } })
  assert.deepEqual(await said(r), ['request', 'user', 'team'])
  assert.deepEqual(await said(await r.followUp(all, { mcpServers: [{ name: 'z', url: d.url }] })), ['user', 'user', 'follow-up'])
  assert.deepEqual(await said(await r.followUp(all)), ['request', 'user', 'team'])
  // One session an agent and server, over its runs.
  assert.equal(a.of('initialize').length, 1)
  const everything = path.join(import.meta.dirname, 'node_modules/@modelcontextprotocol/server-everything/dist/index.js')
  await keep(pool, { name: 'local', command: process.execPath, args: [everything] }, { key: pool.poolKey })
  assert.match((await said(await pool.run(tool('mcp_local_echo', { message: 'hi' }))))[0], /Echo: hi/)
})

test('a session that the server forgets is begun anew and the call repeated; a list that changes; a call that was cut is not repeated', async t => {
  const pool = await withWorker(t)
  let sessions = 0, forgotten = false, cut = 0, stream
  const tools = [{ name: 'echo', inputSchema: { type: 'object' } }, { name: 'cut', inputSchema: { type: 'object' } }]
  const s = await ownServer(t, {
    tools, capabilities: { tools: { listChanged: true } },
    on: {
      GET: (req, res) => { if (req.headers['mcp-session-id'] === 's2') stream = res; res.writeHead(200, { 'content-type': 'text/event-stream' }); res.write(': here\n\n'); return true },
      initialize: (req, res, m) => { res.writeHead(200, { 'content-type': 'application/json', 'mcp-session-id': `s${++sessions}` }).end(JSON.stringify({ jsonrpc: '2.0', id: m.id, result: { protocolVersion: '2025-06-18', capabilities: { tools: { listChanged: true } }, serverInfo: { name: 'o', version: '1' } } })); return true },
      'tools/call': async (req, res, m, reply) => {
        if (m.params.name === 'cut') { cut++; req.socket.destroy(); return true }
        if (!forgotten) { forgotten = true; res.writeHead(404).end(); return true }
        assert.equal(req.headers['mcp-session-id'], 's2')
        tools.push({ name: 'fresh', inputSchema: { type: 'object' } })
        await until('the general stream is open', () => stream)
        stream.write(`data: ${JSON.stringify({ jsonrpc: '2.0', method: 'notifications/tools/list_changed' })}\n\n`)
        reply({ content: [{ type: 'text', text: 'done' }] })
        return true
      },
    },
  })
  const r = await pool.run(tool('mcp_own_echo', {}) + tool('mcp_own_cut', {}), { extra: { mcpServers: [{ name: 'own', url: s.url }] } })
  assert.equal((await r.end()).status, 'FINISHED')
  const done = calls(await r.events())
  assert.deepEqual(done[0].result.success?.content, [{ text: { text: 'done' } }], JSON.stringify(done[0]))
  assert.match(JSON.stringify(done[1].result), /outcome is unknown/)
  assert.equal(cut, 1)
  assert.equal(sessions, 2)
  const next = await r.followUp(tool('mcp_own_fresh', {}))
  assert.equal((await next.end()).status, 'FINISHED')
  assert.ok(s.of('tools/list').length >= 2)
  assert.match(JSON.stringify(calls(await next.events())[0].args), /"toolName":"fresh"/)
})

test('a cancel reaches a call that hangs, and the server is told; a server that hangs delays nothing but itself', async t => {
  const pool = await withWorker(t)
  const s = await ownServer(t, { on: { 'tools/call': () => true } })
  const r = await pool.run(tool('mcp_own_echo', { text: '' }), { extra: { mcpServers: [{ name: 'own', url: s.url }] } })
  await until('the call is there', () => s.of('tools/call').length)
  assert.equal((await r.cancel()).status, 200)
  assert.equal((await r.end()).status, 'CANCELLED')
  await until('the server is told', () => s.of('notifications/cancelled').length)
  assert.equal(s.of('notifications/cancelled')[0].message.params.requestId, s.of('tools/call')[0].message.id)
  // A cancel while the run waits for the list.
  const slow = await ownServer(t, { on: { initialize: () => true } })
  const w = await pool.run(sh('true'), { extra: { mcpServers: [{ name: 'slow', url: slow.url }] } })
  await until('it is asked', () => slow.of('initialize').length)
  await w.status('RUNNING')
  await w.cancel()
  assert.equal((await w.end()).status, 'CANCELLED')
})

test('a server that fails or wants a login is one line; the run goes on; secrets go nowhere but there', async t => {
  const pool = await bullpen(t, { config: CONFIG })
  const w = await pool.worker({ env: { BULLPEN_LOG: 'debug' } })
  const as = await authorizationServer(t)
  const good = await ownServer(t)
  const r = await pool.run(sh('env; echo went on') + tool('mcp_good_echo', { text: 'x' }), { extra: { mcpServers: [{ name: 'docs', url: as.resource.url }, { name: 'gone', url: 'http://127.0.0.1:1/' }, { name: 'good', url: good.url, headers: { 'X-Key': 'canary-header-77' }, auth: { CLIENT_ID: 'c', CLIENT_SECRET: 'canary-client-77' } }] } })
  assert.equal((await r.end()).status, 'FINISHED')
  const stream = await r.stream()
  const events = await stream.all()
  assert.match(stream.text, /warning: MCP server docs is not available: it wants authorization: log in with `agent mcp login`/)
  assert.match(stream.text, /warning: MCP server gone is not available/)
  assert.match(stream.text, /went on/)
  assert.match(JSON.stringify(calls(events).at(-1).result), /echo: x/)
  assert.equal(good.of('tools/call')[0].headers['x-key'], 'canary-header-77')
  const agent = await pool.http('GET', `/v1/agents/${r.agentId}`)
  await pool.stop()
  await w.kill('SIGTERM')
  const places = { stream: stream.text, agent: agent.text, run: pool.server.stderr + pool.server.stdout, worker: w.stderr + w.stdout }
  for (const dir of [pool.data, w.data]) for (const f of fs.readdirSync(dir, { recursive: true })) if (fs.statSync(path.join(dir, f), { throwIfNoEntry: false })?.isFile()) places[f] = fs.readFileSync(path.join(dir, f), 'latin1')
  for (const [place, text] of Object.entries(places)) assert.ok(!/canary-(header|client)-77/.test(text), place)
})

test('a server that wants more rights: the model is told which, and the next login asks for them', async t => {
  const pool = await withWorker(t)
  const as = await authorizationServer(t, { protect: { tools: ['echo', 'write'].map(name => ({ name, inputSchema: { type: 'object' } })) } })
  await keep(pool, { name: 'docs', url: as.resource.url })
  await login(t, pool, 'docs')
  const prompt = tool('mcp_docs_echo', { text: 'a' }) + tool('mcp_docs_write', { text: 'b' })
  const r = await pool.run(prompt)
  assert.equal((await r.end()).status, 'FINISHED', JSON.stringify(await r.get()))
  let done = calls(await r.events())
  assert.match(JSON.stringify(done[0].result), /echo: a/)
  assert.match(JSON.stringify(done[1].result), /more rights.*mcp:write/)
  const { url } = await login(t, pool, 'docs')
  assert.deepEqual(new URL(url).searchParams.get('scope').split(' ').sort(), ['mcp:read', 'mcp:write'])
  const next = await r.followUp(prompt)
  await next.end()
  done = calls(await next.events())
  assert.match(JSON.stringify(done[1].result), /echo: b/)
})

test('a crash of the server in the middle of a call: it is told as interrupted and not made again; logins stay', async t => {
  const pool = await withWorker(t)
  const s = await ownServer(t, { tools: ['echo', 'hang'].map(name => ({ name, inputSchema: { type: 'object' } })), on: { 'tools/call': (req, res, m) => m.params.name === 'hang' } })
  const as = await authorizationServer(t)
  const kept = await keep(pool, { name: 'docs', url: as.resource.url })
  await login(t, pool, 'docs')
  const r = await pool.run(tool('mcp_own_hang', {}) + tool('mcp_own_echo', { text: 'after' }) + tool('mcp_docs_echo', { text: 'in' }), { extra: { mcpServers: [{ name: 'own', url: s.url }] } })
  await until('the call is there', () => s.of('tools/call').length)
  await pool.crash()
  await pool.restart()
  assert.equal((await r.end()).status, 'FINISHED', JSON.stringify(await r.get()))
  const done = calls(await r.events())
  assert.match(JSON.stringify(done[0].result), /interrupted/)
  assert.match(JSON.stringify(done[1].result), /echo: after/)
  assert.match(JSON.stringify(done[2].result), /echo: in/)
  assert.equal(s.of('tools/call').filter(x => x.message.params.name === 'hang').length, 1)
  assert.equal((await pool.http('POST', `/v1/mcp-servers/${kept.id}/test`)).json.state, 'ready')
})
