// A person allows Bullpen to use an MCP server: `agent mcp login`, a browser, and a real authorization server.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, until } from './lib.mjs'
import { login, loginInTerminal } from './mcp-login-help.mjs'
import { CONFIG, authorizationServer, browse, keep, listening, tryServer } from './mcp-remote-help.mjs'

const testAgain = async (pool, id, key) => (await pool.http('POST', `/v1/mcp-servers/${id}/test`, { key })).json

test('a login from the terminal through the browser and back; logout', async t => {
  const pool = await bullpen(t, { config: CONFIG })
  const as = await authorizationServer(t)
  const before = await tryServer(pool, { name: 'docs', url: as.resource.url })
  assert.equal(before.state, 'auth_required', JSON.stringify(before))
  assert.match(before.reason, /agent mcp login/)
  const p = await loginInTerminal(t, pool, 'docs')
  const u = new URL(p.url)
  assert.equal(u.searchParams.get('code_challenge_method'), 'S256')
  assert.equal(u.searchParams.get('resource'), as.resource.url)
  assert.equal(u.searchParams.get('scope'), 'mcp:read')
  assert.equal(u.searchParams.get('redirect_uri'), `${pool.url}/agents/mcp/oauth/callback`)
  const page = await browse(p.url)
  assert.equal(page.status, 200, page.text)
  assert.match(page.headers.get('content-security-policy'), /default-src 'none'/)
  // Somebody who was only sent the link has not logged anybody in.
  assert.equal((await testAgain(pool, before.id)).state, 'auth_required')
  p.type('0000-000x')
  await until('a wrong code is refused', () => /not the code/.test(p.err))
  p.type(page.code)
  assert.equal(await p.done, 0, p.err)
  const after = await testAgain(pool, before.id)
  assert.equal(after.state, 'ready', JSON.stringify(after))
  assert.deepEqual(after.tools.map(x => x.name), ['echo'])
  const list = await pool.cli(['mcp', 'ls', '--json'])
  await list.exited
  assert.equal(JSON.parse(list.stdout).loggedIn, true)
  // Registered once, also for the next login.
  const posts = () => as.asked.filter(r => r.method === 'POST' && r.url === '/reg').length
  assert.equal(posts(), 2) // the first one with scopes, which this server refuses
  await login(t, pool, 'docs')
  assert.equal(posts(), 2) // the first one with scopes, which this server refuses
  // The answer of the browser is good once.
  assert.equal((await fetch(page.url)).status, 400)
  const out = await pool.cli(['mcp', 'logout', 'docs'])
  await out.exited
  assert.equal(out.code, 0, out.stderr)
  await until('the token is revoked', () => as.asked.some(r => r.url === '/token/revocation'))
  assert.equal((await testAgain(pool, before.id)).state, 'auth_required')
})

test('what an authorization server answers that is not its own, or not ours, is refused', async t => {
  const pool = await bullpen(t, { config: CONFIG })
  const as = await authorizationServer(t)
  await keep(pool, { name: 'docs', url: as.resource.url })
  const callback = q => fetch(`${pool.url}/agents/mcp/oauth/callback?${new URLSearchParams(q)}`)
  assert.equal((await callback({ state: 'nobodys', code: 'x' })).status, 400)
  assert.equal((await callback({})).status, 400)
  const extra = await callback({ state: 'nobodys', code: 'x', authuser: '0', hd: 'example.test' })
  assert.match(await extra.text(), /of no use/, 'authorization servers add parameters of their own')
  // Another issuer than the one that was asked.
  let p = await loginInTerminal(t, pool, 'docs')
  const state = u => new URL(u).searchParams.get('state')
  let r = await callback({ state: state(p.url), code: 'x', iss: 'https://evil.example' })
  assert.equal(r.status, 400)
  assert.match(await r.text(), /not of the authorization server that was asked/)
  assert.equal(await p.done, 4)
  assert.match(p.err, /login failed/)
  // This one says its issuer always: an answer without is another's.
  p = await loginInTerminal(t, pool, 'docs')
  r = await callback({ state: state(p.url), code: 'x' })
  assert.equal(r.status, 400)
  // What is told is never what came.
  p = await loginInTerminal(t, pool, 'docs')
  r = await callback({ state: state(p.url), error: '<script>alert(1)</script>', error_description: '<b>', iss: as.origin })
  const page = await r.text()
  assert.ok(!page.includes('alert') && !page.includes('<b>x'), page)
  // Five wrong codes, and the login is over, whatever comes then.
  p = await loginInTerminal(t, pool, 'docs')
  const { code } = await browse(p.url)
  for (let i = 0; i < 5; i++) p.type('1111-111x')
  assert.equal(await p.done, 4)
  assert.match(p.err, /wrong too often/)
  const again = await loginInTerminal(t, pool, 'docs')
  again.type(code)
  await until('it does not wait for a code', () => /does not wait for a code/.test(again.err))
  again.child.kill()
})

test('metadata that does not fit is refused: resource, issuer, PKCE, endpoints, redirects', async t => {
  const pool = await bullpen(t, { config: CONFIG })
  let answer = {}
  const doc = (res, o) => { res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(o)) }
  const as = await listening(t, (req, res) => answer.as(req, res))
  const rs = await listening(t, (req, res) => {
    if (req.url.startsWith('/.well-known/oauth-protected-resource') && answer.resource) return answer.resource(req, res)
    if (req.url === '/mcp') return res.writeHead(401, { 'www-authenticate': 'Bearer' }).end()
    res.writeHead(404).end()
  })
  const meta = extra => ({ issuer: as.origin, authorization_endpoint: `${as.origin}/a`, token_endpoint: `${as.origin}/t`, code_challenge_methods_supported: ['S256'], ...extra })
  const good = (req, res) => doc(res, { resource: `${rs.origin}/mcp`, authorization_servers: [as.origin] })
  const { id } = await keep(pool, { name: 'x', url: `${rs.origin}/mcp`, auth: { CLIENT_ID: 'me' } })
  const begin = () => pool.http('POST', `/v1/mcp-servers/${id}/login`)
  const cases = [
    ['another resource', { resource: (q, s) => doc(s, { resource: 'https://other.example/mcp', authorization_servers: [as.origin] }) }, /about another resource/],
    ['a deeper resource', { resource: (q, s) => doc(s, { resource: `${rs.origin}/mcp/deeper`, authorization_servers: [as.origin] }) }, /about another resource/],
    ['a resource that only begins alike', { resource: (q, s) => doc(s, { resource: `${rs.origin}/mc`, authorization_servers: [as.origin] }) }, /about another resource/],
    ['no authorization server', { resource: (q, s) => doc(s, { resource: `${rs.origin}/mcp` }) }, /names no authorization server/],
    ['another issuer', { resource: good, as: (q, s) => doc(s, meta({ issuer: `${as.origin}/` })) }, /another issuer/],
    ['no PKCE', { resource: good, as: (q, s) => doc(s, meta({ code_challenge_methods_supported: undefined })) }, /S256/],
    ['plain PKCE', { resource: good, as: (q, s) => doc(s, meta({ code_challenge_methods_supported: ['plain'] })) }, /S256/],
    ['an internal token endpoint', { resource: good, as: (q, s) => doc(s, meta({ token_endpoint: 'http://169.254.169.254/t' })) }, /must be https/],
    ['an authorization endpoint that is a script', { resource: good, as: (q, s) => doc(s, meta({ authorization_endpoint: 'javascript:alert(1)' })) }, /authorization_endpoint must be an http/],
    ['no document', { resource: good, as: (q, s) => s.writeHead(404).end() }, /no metadata document/],
    ['a redirect elsewhere', { resource: good, as: (q, s) => s.writeHead(302, { location: `${rs.origin}/x` }).end() }, /redirects to another host/],
    ['a document without end', { resource: good, as: (q, s) => s.writeHead(200).end('x'.repeat(70000)) }, /larger than/],
    ['an internal metadata URL', { resource: (q, s) => s.writeHead(307, { location: 'http://127.0.0.2/x' }).end() }, /redirects to another host/],
  ]
  for (const [what, a, pattern] of cases) {
    answer = { as: (q, s) => s.writeHead(404).end(), ...a }
    const r = await begin()
    assert.equal(r.status, 400, `${what}: ${r.text}`)
    assert.match(r.json.error.message, pattern, what)
  }
  // The three places of a metadata document, and the way of 2025-03-26.
  for (const [place, issuer] of [['/.well-known/oauth-authorization-server/t', '/t'], ['/.well-known/openid-configuration/t', '/t'], ['/t/.well-known/openid-configuration', '/t'], ['/.well-known/openid-configuration', '']]) {
    answer = { resource: (q, s) => doc(s, { resource: rs.origin, authorization_servers: [as.origin + issuer] }), as: (q, s) => q.url === place ? doc(s, meta({ issuer: as.origin + issuer })) : s.writeHead(404).end() }
    const r = await begin()
    assert.equal(r.status, 201, `${place}: ${r.text}`)
    assert.equal(new URL(r.json.authorizeUrl).searchParams.get('client_id'), 'me')
  }
  answer = {}
  const r = await begin()
  assert.equal(r.status, 201, r.text)
  assert.ok(r.json.authorizeUrl.startsWith(`${rs.origin}/authorize?`), r.text)
})

test('tokens are fetched anew before they end and after a 401, once for all who need them; a withdrawn one is gone', async t => {
  const pool = await bullpen(t, { config: CONFIG })
  const as = await authorizationServer(t)
  as.resource.revoked = new Set()
  as.ttl = 30 // less than the minute that a token must have left: each use fetches a new one
  const { id } = await keep(pool, { name: 'docs', url: as.resource.url })
  await login(t, pool, 'docs')
  const fetches = () => as.asked.filter(r => r.method === 'POST' && r.url === '/token').length
  assert.equal(fetches(), 1)
  as.ttl = 3600
  // Several at once: the refresh token is used once (this server revokes everything when one is used twice).
  const all = await Promise.all([1, 2, 3, 4].map(() => testAgain(pool, id)))
  assert.deepEqual(all.map(r => r.state), ['ready', 'ready', 'ready', 'ready'], JSON.stringify(all))
  assert.equal(fetches(), 2)
  assert.ok(as.resources.every(r => r === as.resource.url), 'each request for a token names the resource')
  // The server takes none of the tokens any more: fresh ones once.
  for (const jti of as.resource.tokens) as.resource.revoked.add(jti)
  assert.equal((await testAgain(pool, id)).state, 'ready')
  assert.equal(fetches(), 3)
  // The person has withdrawn it at the authorization server.
  as.provider.RefreshToken.find = async () => undefined
  for (const jti of as.resource.tokens) as.resource.revoked.add(jti)
  const r = await testAgain(pool, id)
  assert.equal(r.state, 'auth_required', JSON.stringify(r))
  const list = await pool.http('GET', '/v1/mcp-servers')
  assert.equal(list.json.items[0].loggedIn, false)
})

test('a grant is one person\'s: not another\'s, not a service account\'s; secrets are in no answer, log or file', async t => {
  const pool = await bullpen(t, { config: CONFIG })
  const as = await authorizationServer(t)
  const team = await keep(pool, { name: 'docs', url: as.resource.url }, { key: pool.poolKey })
  assert.equal(team.scope, 'team')
  await login(t, pool, 'docs')
  assert.equal((await testAgain(pool, team.id)).state, 'ready')
  const other = await pool.createKey('user', 'ben', 'ben@example.test')
  assert.equal((await testAgain(pool, team.id, other)).state, 'auth_required')
  const bot = await testAgain(pool, team.id, pool.poolKey)
  assert.equal(bot.state, 'auth_required')
  assert.match(bot.reason, /service account/)
  const r = await pool.http('POST', `/v1/mcp-servers/${team.id}/login`, { key: pool.poolKey })
  assert.equal(r.status, 403)
  assert.equal(r.json.error.code, 'user_required')
  // What was sent as a token, and configured secrets.
  const secrets = as.resource.seen.map(x => x.headers.authorization?.slice(7)).filter(Boolean)
  assert.ok(secrets.length > 0)
  await keep(pool, { name: 'h', url: 'https://mcp.example.test/', headers: { 'X-Key': 'secret-header-1' }, auth: { CLIENT_ID: 'me', CLIENT_SECRET: 'secret-client-1' } })
  await keep(pool, { name: 's', command: '/bin/true', env: { KEY: 'secret-env-1' } })
  secrets.push('secret-header-1', 'secret-client-1', 'secret-env-1')
  const list = await pool.http('GET', '/v1/mcp-servers')
  const h = list.json.items.find(x => x.name === 'h')
  assert.deepEqual([h.headers, h.auth], [{ 'X-Key': '***' }, { CLIENT_ID: 'me', CLIENT_SECRET: '***' }])
  await pool.stop()
  const files = fs.readdirSync(pool.data).filter(f => fs.statSync(path.join(pool.data, f)).isFile()).map(f => fs.readFileSync(path.join(pool.data, f), 'latin1'))
  for (const s of secrets) {
    assert.ok(!list.text.includes(s), 'not in an answer')
    assert.ok(!pool.server.stderr.includes(s) && !pool.server.stdout.includes(s), 'not in the log')
    assert.ok(!files.some(f => f.includes(s)), 'not in the store as it is')
  }
})

test('a team\'s server that is deleted takes the grants with it', async t => {
  const pool = await bullpen(t, { config: CONFIG })
  const as = await authorizationServer(t)
  const team = await keep(pool, { name: 'docs', url: as.resource.url }, { key: pool.poolKey })
  await login(t, pool, 'docs')
  const no = await pool.http('DELETE', `/v1/mcp-servers/${team.id}`)
  assert.equal(no.status, 404)
  assert.equal((await pool.http('DELETE', `/v1/mcp-servers/${team.id}`, { key: pool.poolKey })).status, 200)
  const mine = await tryServer(pool, { name: 'docs', url: as.resource.url })
  assert.equal(mine.state, 'auth_required')
})

test('the document that says who we are, where authorization servers can read it', async t => {
  const pool = await bullpen(t, { config: `[server]\npublic_url = "https://bullpen.example.test"\n[mcp]\nclient_document = true\ninternal_hosts = "127.0.0.1"\n` })
  const doc = await pool.http('GET', '/.well-known/mcp-client.json', { key: null })
  assert.deepEqual(doc.json, { client_id: 'https://bullpen.example.test/.well-known/mcp-client.json', client_name: 'Bullpen', redirect_uris: ['https://bullpen.example.test/agents/mcp/oauth/callback'], grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'], token_endpoint_auth_method: 'none' })
  const as = await listening(t, (req, res) => res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ issuer: as.origin, authorization_endpoint: `${as.origin}/a`, token_endpoint: `${as.origin}/t`, code_challenge_methods_supported: ['S256'], client_id_metadata_document_supported: true, resource: `${as.origin}/mcp`, authorization_servers: [as.origin] })))
  const kept = await keep(pool, { name: 'x', url: `${as.origin}/mcp`, auth: undefined })
  const s2 = await listening(t, (req, res) => req.url === '/mcp' ? res.writeHead(401).end() : res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ resource: `${s2.origin}/mcp`, authorization_servers: [as.origin] })))
  const second = await keep(pool, { name: 'y', url: `${s2.origin}/mcp` })
  assert.equal((await pool.http('POST', `/v1/mcp-servers/${kept.id}/login`)).status, 400, 'it asks for nothing')
  const r = await pool.http('POST', `/v1/mcp-servers/${second.id}/login`)
  assert.equal(r.status, 201, r.text)
  assert.equal(new URL(r.json.authorizeUrl).searchParams.get('client_id'), doc.json.client_id)
  const without = await bullpen(t)
  assert.equal((await without.http('GET', '/.well-known/mcp-client.json', { key: null })).status, 404)
})
