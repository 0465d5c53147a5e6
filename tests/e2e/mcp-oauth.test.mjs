// A person allows Bullpen to use an MCP server: `agent mcp login`, a browser, and a real authorization server.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { spawn } from 'node:child_process'
import { bullpen, programs, until, Proc } from './lib.mjs'
import { CONFIG, authorizationServer, browse, keep, listening, ownServer, tryServer } from './mcp-help.mjs'

// The login in a terminal, up to the URL.
async function loginInTerminal(t, pool, name, { key = pool.userKey } = {}) {
  const child = spawn(programs.agent, ['mcp', 'login', name], { env: { PATH: process.env.PATH, CURSOR_API_KEY: key, CURSOR_API_ENDPOINT: pool.url } })
  const p = { out: '', err: '', child, done: new Promise(r => child.on('close', code => r(code))) }
  t.after(() => child.kill('SIGKILL'))
  child.stdout.on('data', d => { p.out += d })
  child.stderr.on('data', d => { p.err += d })
  const ended = p.done.then(code => { p.code = code })
  p.url = await until(`the URL; ${p.out} ${p.err}`, () => { const m = p.out.match(/^ {2}(http\S+)$/m); if (!m && p.code !== undefined) throw new Error(`ended ${p.code}: ${p.out} ${p.err}`); return m?.[1] })
  p.type = text => child.stdin.write(`${text}\n`)
  p.ended = ended
  return p
}
export async function login(t, pool, name, o) {
  const p = await loginInTerminal(t, pool, name, o)
  const page = await browse(p.url)
  assert.ok(page.code, `${page.status} ${page.text}`)
  p.type(page.code)
  assert.equal(await p.done, 0, p.err)
  return { ...p, page }
}
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
