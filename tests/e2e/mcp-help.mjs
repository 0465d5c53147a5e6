// MCP servers for tests: a published one, one of our own that can misbehave, and a real authorization server.
import { createServer } from 'node:http'
import { once } from 'node:events'
import path from 'node:path'
import { Proc, atEnd, freePort, root } from './lib.mjs'

export const CONFIG = '[mcp]\ninternal_hosts = "127.0.0.1"\n'
const everything = path.join(root, 'tests/e2e/node_modules/@modelcontextprotocol/server-everything/dist/index.js')

// The published server, over `streamableHttp` or `sse`.
export async function everythingServer(t, transport) {
  const port = await freePort()
  const p = new Proc(t, process.execPath, [everything, transport], { env: { PORT: String(port) } })
  await p.says(new RegExp(`port ${port}|listening|running`, 'i'), 'stderr')
  p.url = `http://127.0.0.1:${port}/${transport === 'sse' ? 'sse' : 'mcp'}`
  return p
}

export async function listening(t, handler) {
  const s = createServer(handler)
  s.listen(0, '127.0.0.1')
  await once(s, 'listening')
  atEnd(t, async () => { s.closeAllConnections(); s.close(); await once(s, 'close').catch(() => {}) })
  s.origin = `http://127.0.0.1:${s.address().port}`
  return s
}

const bodyOf = async req => { const parts = []; for await (const p of req) parts.push(p); return Buffer.concat(parts).toString() }

// A Streamable HTTP server whose every answer a test may replace: on[method](req, res, message) -> true: answered.
export async function ownServer(t, { on = {}, tools = [{ name: 'echo', inputSchema: { type: 'object', properties: { text: { type: 'string' } } } }], session = 'session-1', version = '2025-11-25', capabilities = { tools: {} }, gate } = {}) {
  const seen = []
  const s = await listening(t, async (req, res) => {
    const text = req.method === 'POST' ? await bodyOf(req) : ''
    const m = text ? JSON.parse(text) : {}
    seen.push({ http: req.method, url: req.url, headers: req.headers, message: m })
    if (gate && await gate(req, res, m)) return
    const reply = result => { res.writeHead(200, { 'content-type': 'application/json', ...(m.method === 'initialize' && session ? { 'mcp-session-id': session } : {}) }); res.end(JSON.stringify({ jsonrpc: '2.0', id: m.id, result })) }
    const f = on[req.method === 'POST' ? m.method ?? 'answer' : req.method]
    if (f && await f(req, res, m, reply)) return
    if (req.method === 'GET') { res.writeHead(405).end(); return }
    if (req.method === 'DELETE') { res.writeHead(204).end(); return }
    if (m.id === undefined || m.method === undefined) { res.writeHead(202).end(); return }
    if (m.method === 'initialize') return reply({ protocolVersion: version, capabilities, serverInfo: { name: 'own', version: '1' } })
    if (m.method === 'tools/list') return reply({ tools })
    if (m.method === 'tools/call') return reply({ content: [{ type: 'text', text: `echo: ${m.params.arguments.text}` }] })
    res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ jsonrpc: '2.0', id: m.id, error: { code: -32601, message: 'no' } }))
  })
  return Object.assign(s, { seen, url: `${s.origin}/mcp`, of: method => seen.filter(x => x.message.method === method) })
}

export async function keep(pool, server, { key } = {}) {
  const r = await pool.http('POST', '/v1/mcp-servers', { body: server, key })
  if (r.status !== 201) throw new Error(`POST /v1/mcp-servers: ${r.status} ${r.text}`)
  return r.json
}
export async function tryServer(pool, server, { key } = {}) {
  const kept = await keep(pool, server, { key })
  const r = await pool.http('POST', `/v1/mcp-servers/${kept.id}/test`, { key })
  if (r.status !== 200) throw new Error(`test: ${r.status} ${r.text}`)
  return { ...r.json, id: kept.id }
}
