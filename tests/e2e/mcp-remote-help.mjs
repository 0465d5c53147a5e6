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

const plain = v => v?.startsWith('=?base64?') ? Buffer.from(v.slice(9, -2), 'base64').toString() : v
// What a server of the stateless revision takes; others are refused with the status and the code that it has for them.
function isModern(req, res, m) {
  const refuse = (status, code, message) => { res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify({ jsonrpc: '2.0', id: m.id ?? null, error: { code, message } })); return false }
  if (req.method !== 'POST') { res.writeHead(405).end(); return false }
  const version = m.params?._meta?.['io.modelcontextprotocol/protocolVersion']
  if (req.headers['mcp-protocol-version'] !== version || req.headers['mcp-method'] !== m.method || plain(req.headers['mcp-name']) !== m.params?.name) return refuse(400, -32020, 'the headers are not those of the body')
  if (version !== '2026-07-28') return refuse(400, -32022, 'which version?')
  return ['server/discover', 'tools/list', 'tools/call', 'subscriptions/listen'].includes(m.method) || refuse(404, -32601, 'no such method')
}

// A Streamable HTTP server whose every answer a test may replace: on[method](req, res, message) -> true: answered.
export async function ownServer(t, { on = {}, tools = [{ name: 'echo', inputSchema: { type: 'object', properties: { text: { type: 'string' } } } }], session = 'session-1', version = '2025-11-25', capabilities = { tools: {} }, gate, modern = false } = {}) {
  const seen = []
  const s = await listening(t, async (req, res) => {
    const text = req.method === 'POST' ? await bodyOf(req) : ''
    const m = text ? JSON.parse(text) : {}
    seen.push({ http: req.method, url: req.url, headers: req.headers, message: m })
    if (gate && await gate(req, res, m)) return
    if (modern && !isModern(req, res, m)) return
    const reply = given => replyWith(modern ? { resultType: 'complete', ...given } : given)
    const replyWith = result => { res.writeHead(200, { 'content-type': 'application/json', ...(m.method === 'initialize' && session ? { 'mcp-session-id': session } : {}) }); res.end(JSON.stringify({ jsonrpc: '2.0', id: m.id, result })) }
    const f = on[req.method === 'POST' ? m.method ?? 'answer' : req.method]
    if (f && await f(req, res, m, reply)) return
    if (req.method === 'GET') { res.writeHead(405).end(); return }
    if (req.method === 'DELETE') { res.writeHead(204).end(); return }
    if (m.id === undefined || m.method === undefined) { res.writeHead(202).end(); return }
    if (modern && m.method === 'server/discover') return reply({ supportedVersions: ['2026-07-28'], capabilities, ttlMs: 0, cacheScope: 'private' })
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

// A real authorization server (npm oidc-provider), in this process, and the resource that it protects.
export async function authorizationServer(t, { features = {}, settings = {}, protect = {} } = {}) {
  const { default: Provider } = await import('oidc-provider')
  let provider
  const s = await listening(t, (req, res) => { s.asked.push({ method: req.method, url: req.url }); provider.callback()(req, res) })
  s.asked = []
  const resource = await ownServer(t, {
    ...protect,
    gate: async (req, res, m) => {
      if (req.url.startsWith('/.well-known/oauth-protected-resource')) {
        res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ resource: resource.url, authorization_servers: [s.origin], scopes_supported: ['mcp:read'], ...resource.metadata }))
        return true
      }
      const token = await provider.AccessToken.find((req.headers.authorization ?? '').replace(/^Bearer /, ''))
      if (!token || token.isExpired || token.aud !== resource.url || resource.revoked?.has(token.jti)) {
        res.writeHead(401, { 'www-authenticate': resource.challenge ?? `Basic realm="x, y", Bearer error="invalid_token", resource_metadata="${resource.origin}/.well-known/oauth-protected-resource/mcp", scope="mcp:read"` }).end()
        return true
      }
      resource.tokens.add(token.jti)
      if (m.method === 'tools/call' && m.params.name === 'write' && !token.scope.split(' ').includes('mcp:write')) {
        res.writeHead(403, { 'www-authenticate': 'Bearer error="insufficient_scope", scope="mcp:write"' }).end()
        return true
      }
    },
  })
  resource.tokens = new Set()
  resource.metadata = {}
  provider = new Provider(s.origin, {
    clients: [], jwks: undefined, cookies: { keys: ['test'] },
    pkce: { required: () => true },
    scopes: ['openid', 'offline_access'],
    issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
    rotateRefreshToken: true,
    features: {
      devInteractions: { enabled: true }, registration: { enabled: true }, revocation: { enabled: true },
      resourceIndicators: { enabled: true, useGrantedResource: () => true, getResourceServerInfo: (ctx, r) => { s.resources.push(r); return { scope: 'mcp:read mcp:write', accessTokenFormat: 'opaque', accessTokenTTL: s.ttl } } },
      ...features,
    },
    ...settings,
  })
  return Object.assign(s, { provider, resource, resources: [], ttl: 3600 })
}

// What a person does in a browser: follows links, logs in, agrees. Returns the last page.
export async function browse(url) {
  const cookies = new Map()
  let body, hops = 0
  for (;;) {
    if (++hops > 20) throw new Error(`the browser goes in circles at ${url}`)
    const res = await fetch(url, { redirect: 'manual', method: body ? 'POST' : 'GET', body, headers: { cookie: [...cookies].map(c => c.join('=')).join('; '), ...(body ? { 'content-type': 'application/x-www-form-urlencoded' } : {}) } })
    for (const c of res.headers.getSetCookie()) { const [pair] = c.split(';'); const at = pair.indexOf('='); cookies.set(pair.slice(0, at), pair.slice(at + 1)) }
    body = undefined
    if (res.headers.get('location')) { url = new URL(res.headers.get('location'), url).href; continue }
    const text = await res.text()
    const form = text.match(/<form[^>]*action="([^"]+)"[\s\S]*?name="prompt" value="(\w+)"/)
    if (!form) return { url, status: res.status, text, headers: res.headers, code: text.match(/\d{4}-\d{4}/)?.[0] }
    url = new URL(form[1], url).href
    body = form[2] === 'login' ? 'prompt=login&login=ann&password=x' : 'prompt=consent'
  }
}
