// `bullpen admin connect`: what it prints, what it finds missing at stand-ins of the services, and its signed event through a server.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { once } from 'node:events'
import { atEnd, bullpen, freePort, programs, run } from './lib.mjs'
import { forged } from './forge-help.mjs'

const connect = (t, words, { config, url }) => run(t, programs.bullpen, ['admin', 'connect', ...words.split(' '), '--config', config, ...(url ? ['--url', url] : [])])
// Exit 0 and nothing missing.
const good = p => { assert.doesNotMatch(p.stdout, /^missing/m); assert.equal(p.code, 0, p.stdout + p.stderr); assert.match(p.stdout, /^ok /m) }
const bad = (p, ...what) => { assert.equal(p.code, 1, p.stdout + p.stderr); for (const w of what) assert.match(p.stdout, w) }
// A service over HTTP: answer(request, body) is [status, JSON, headers] or [status, text].
async function service(t, answer) {
  const s = { asked: [] }
  s.server = http.createServer(async (req, res) => {
    let body = ''
    for await (const d of req) body += d
    s.asked.push({ url: req.url, headers: req.headers, body })
    const [status, value, headers = {}] = answer(req, body)
    res.writeHead(status, { 'content-type': 'application/json', ...headers })
    res.end(typeof value === 'string' ? value : JSON.stringify(value))
  })
  s.server.listen(0, '127.0.0.1')
  await once(s.server, 'listening')
  s.url = `http://127.0.0.1:${s.server.address().port}`
  atEnd(t, () => { s.server.closeAllConnections(); s.server.close() })
  return s
}
const tempConfig = (pool, name, text) => { const file = path.join(pool.dir, name); fs.writeFileSync(file, text); return file }
const secret = (pool, name, text) => tempConfig(pool, name, text + '\n')

test('a GitHub App: the link that registers it, its permissions, events, address and clock', async t => {
  const pool = await forged(t, 'github', bullpen, { app: true, worker: false }), { forge } = pool, at = { config: pool.configFile, url: pool.url }
  Object.assign(forge.app, { events: ['issue_comment', 'issues'], permissions: { contents: 'write', pull_requests: 'read' }, hookUrl: 'https://elsewhere.example/hook' })
  const first = await connect(t, 'github', at)
  bad(first, /^missing .*permission pull_requests: read and write$/m, /^missing .*permission issues: read and write$/m, /^missing .*event pull_request_review_comment$/m, /^missing .*event pull_request_review$/m, /^missing .*sends its events to https:\/\/elsewhere\.example\/hook, not to http:\/\/127\.0\.0\.1:\d+\/webhooks\/github$/m)
  assert.doesNotMatch(first.stdout, /permission contents|event issue_comment$/m)
  const link = new URL(first.stdout.match(/https:\/\/\S+\/settings\/apps\/new\?\S+/)[0])
  assert.deepEqual([link.searchParams.get('webhook_url'), link.searchParams.get('contents'), link.searchParams.getAll('events[]')], [`${pool.url}/webhooks/github`, 'write', ['issue_comment', 'pull_request_review_comment', 'pull_request_review', 'issues']])
  Object.assign(forge.app, { events: link.searchParams.getAll('events[]'), permissions: { contents: 'write', pull_requests: 'write', issues: 'write', metadata: 'read' }, hookUrl: link.searchParams.get('webhook_url') })
  good(await connect(t, 'github', at))
  // A service whose clock is elsewhere, one that does not take us, one whose words would move the cursor.
  forge.interfere = (r, res) => { res.writeHead(200, { 'content-type': 'application/json', date: new Date(Date.now() - 300e3).toUTCString() }); res.end(JSON.stringify({ slug: 'x\u001b[2J' })); return true }
  const skewed = await connect(t, 'github', at)
  bad(skewed, /^missing .*clock is (29\d|30\d) s ahead of GitHub's/m)
  assert.ok(!skewed.stdout.includes('\u001b'))
  forge.interfere = (r, res) => { res.writeHead(401, { 'content-type': 'application/json' }); res.end('{"message":"Bad credentials"}'); return true }
  bad(await connect(t, 'github', at), /^missing .*does not take the credential: .*Bad credentials$/m)
  // Where nobody listens.
  bad(await connect(t, 'github', { ...at, url: `http://127.0.0.1:${await freePort()}` }), /^missing .*cannot be reached from here/m)
})

test('a GitHub App with a token beside it: both are looked at', async t => {
  const pool = await forged(t, 'github', bullpen, { both: true, worker: false }), { forge } = pool, at = { config: pool.configFile, url: pool.url }
  Object.assign(forge.app, { events: ['issue_comment', 'pull_request_review_comment', 'pull_request_review', 'issues'], hookUrl: `${pool.url}/webhooks/github` })
  forge.scopes = 'repo'
  const fine = await connect(t, 'github', at)
  good(fine)
  assert.match(fine.stdout, /^ok .*knows us as bullpen$/m)
  assert.match(fine.stdout, /^ok .*knows the token beside the app as bullpen-bot$/m)
  forge.both = false // the token was revoked
  bad(await connect(t, 'github', at), /^missing .*token_file beside the app: .*Bad credentials$/m)
})

for (const [kind, token] of [['github', /^missing .*scope repo$/m], ['gitlab', null], ['gitea', null]])
  test(`${kind}: tokens, and a signed event through the server`, async t => {
    const pool = await forged(t, kind, bullpen, { worker: false }), { forge } = pool, at = { config: pool.configFile, url: pool.url }
    if (token) {
      forge.scopes = 'public_repo, read:org'
      bad(await connect(t, kind, at), token)
      forge.scopes = 'read:org, repo'
    }
    const p = await connect(t, kind, at)
    good(p)
    assert.ok(p.stdout.includes(`${pool.url}/webhooks/${kind}`), p.stdout)
    const sent = await connect(t, `test ${kind}`, at)
    good(sent)
    assert.match(sent.stdout, /it is stored \(delivery [0-9a-f-]{36}\)/)
    assert.deepEqual((await pool.http('GET', '/v1/agents')).json.items, [])
    assert.match((await pool.http('GET', '/metrics', { key: pool.poolKey })).text, new RegExp(`bullpen_trigger_received_total\\{surface="${kind}",result="stored"\\} 1`))
    // Another secret than the server was started with; a server that does not know the forge; no server; another program.
    fs.writeFileSync(path.join(pool.dir, 'hook-secret'), 'another\n')
    bad(await connect(t, `test ${kind}`, at), /401: the secrets differ/)
    const other = await bullpen(t)
    bad(await connect(t, `test ${kind}`, { ...at, url: other.url }), /404: .* is not configured there/)
    bad(await connect(t, `test ${kind}`, { ...at, url: `http://127.0.0.1:${await freePort()}` }), /cannot be reached/)
    const page = await service(t, () => [200, '<h1>Sign in</h1>'])
    bad(await connect(t, `test ${kind}`, { ...at, url: page.url }), /something else stands there/)
    // Without the secret nothing is taken, and that is said.
    const bare = tempConfig(pool, 'bare.toml', fs.readFileSync(pool.configFile, 'utf8').replace(/webhook_secret_file = .*/, ''))
    bad(await connect(t, kind, { ...at, config: bare }), /^missing .*webhook_secret_file of/m)
    bad(await connect(t, `test ${kind}`, { ...at, config: bare }), /^missing .*webhook_secret_file of/m)
  })

test('linear: who the token is, its clock, and a signed event through the server', async t => {
  let answer = { data: { viewer: { id: 'u-bot', name: 'Bullpen' }, organization: { id: 'org-1' } } }
  const linear = await service(t, (req, body) => req.headers.authorization === 'Bearer lin_x' && /viewer/.test(JSON.parse(body).query) ? [200, answer] : [401, { errors: [{ message: 'Authentication required' }] }])
  const pool = await bullpen(t, { prepare: p => fs.appendFileSync(p.configFile, `\n[linear]\nwebhook_secret_file = "${secret(p, 'hook', 's1')}"\ntoken_file = "${secret(p, 'token', 'lin_x')}"\napi_url = "${linear.url}/graphql"\n`) })
  const at = { config: pool.configFile, url: pool.url }
  const p = await connect(t, 'linear', at)
  good(p)
  assert.ok(p.stdout.includes(`${pool.url}/webhooks/linear`) && /knows us as Bullpen \(u-bot\), organisation org-1/.test(p.stdout), p.stdout)
  good(await connect(t, 'test linear', at))
  fs.writeFileSync(path.join(pool.dir, 'hook'), 's2\n')
  bad(await connect(t, 'test linear', at), /401: the secrets differ/)
  fs.writeFileSync(path.join(pool.dir, 'token'), 'lin_y\n')
  bad(await connect(t, 'linear', at), /^missing .*does not take the token: it answered 401: Authentication required$/m)
  fs.rmSync(path.join(pool.dir, 'token'))
  bad(await connect(t, 'linear', at), /^missing .*linear\.token_file/m)
  // What is not there at all, with the address of the settings, which is nothing for a service far away.
  const none = tempConfig(pool, 'none.toml', `[server]\npublic_url = "${pool.url}"\n`)
  bad(await connect(t, 'linear', { config: none }), /^missing .*table \[linear\]/m, /^missing .*this machine's own address/m)
  bad(await connect(t, 'test linear', { config: none }), /^missing .*table \[linear\]/m)
})

test('slack: the manifest, the scopes of the bot, Socket Mode, and a signed challenge', async t => {
  let scopes = ''
  const slack = await service(t, req => {
    const token = req.headers.authorization, ok = { '/api/auth.test': 'Bearer xoxb-1', '/api/apps.connections.open': 'Bearer xapp-1' }[req.url] === token
    return [200, ok ? { ok: true, user: 'bullpen', user_id: 'U1', team: 'Acme', team_id: 'T1', url: 'wss://x' } : { ok: false, error: 'invalid_auth' }, { date: new Date().toUTCString(), ...(ok ? { 'x-oauth-scopes': scopes } : {}) }]
  })
  const files = p => `bot_token_file = "${secret(p, 'bot', 'xoxb-1')}"\napi_url = "${slack.url}/api"\n`
  const pool = await bullpen(t, { prepare: p => fs.appendFileSync(p.configFile, `\n[slack]\n${files(p)}signing_secret_file = "${secret(p, 'sign', 'sign-1')}"\n`) }), { url, configFile: http1 } = pool
  const socket = tempConfig(pool, 'socket.toml', `[slack]\n${files(pool)}app_token_file = "${secret(pool, 'app', 'xapp-1')}"\n`)
  const manifest = p => JSON.parse(p.stdout.match(/^\{$[^]*?^\}$/m)[0])
  const first = await connect(t, 'slack', { config: http1, url }), m = manifest(first), want = m.oauth_config.scopes.bot
  bad(first, /^missing .*scope users:read \(/m)
  assert.deepEqual([m.settings.event_subscriptions, m.settings.interactivity, m.settings.socket_mode_enabled], [{ bot_events: ['app_mention', 'message.im', 'app_uninstalled', 'tokens_revoked'], request_url: `${url}/webhooks/slack/events` }, { is_enabled: true, request_url: `${url}/webhooks/slack/interactive` }, false])
  scopes = want.filter(s => s !== 'files:read').join(',')
  const second = await connect(t, 'slack', { config: http1, url })
  bad(second, /^missing .*scope files:read \(/m)
  assert.equal(second.stdout.match(/^missing/mg).length, 1, second.stdout)
  scopes = want.join(',')
  good(await connect(t, 'slack', { config: http1, url }))
  const overSocket = await connect(t, 'slack', { config: socket })
  good(overSocket)
  assert.deepEqual([manifest(overSocket).settings.socket_mode_enabled, manifest(overSocket).settings.event_subscriptions], [true, { bot_events: ['app_mention', 'message.im', 'app_uninstalled', 'tokens_revoked'] }])
  good(await connect(t, 'test slack', { config: http1, url }))
  bad(await connect(t, 'test slack', { config: socket, url }), /Socket Mode alone there is no route/)
  fs.writeFileSync(path.join(pool.dir, 'sign'), 'sign-2\n')
  bad(await connect(t, 'test slack', { config: http1, url }), /401: the secrets differ/)
  fs.writeFileSync(path.join(pool.dir, 'app'), 'xapp-2\n')
  bad(await connect(t, 'slack', { config: socket }), /^missing .*does not take app_token_file: it answered 200 invalid_auth$/m)
  bad(await connect(t, 'slack', { config: tempConfig(pool, 'half.toml', `[slack]\n${files(pool)}`), url }), /^missing .*signing_secret_file, or slack\.app_token_file/m)
})

test('usage: one line that says what would be right', async t => {
  const pool = await bullpen(t, { start: false, prepare: p => fs.mkdirSync(p.data) }), { configFile: file } = pool
  for (const [args, want] of [[[], /usage: bullpen admin connect/], [['teams', '--config', file], /'teams' cannot be connected: github/], [['github'], /--config FILE is required/], [['github', '--config', '/nowhere.toml'], /cannot read \/nowhere\.toml/], [['test', 'github', '--config', file], /--url URL is required/],
    [['github', '--config', file, '--url', 'bullpen.example'], /--url must be where/], [['github', '--config', file, '--url', 'https://x"y'], /--url must be where/], [['github', 'gitlab', '--config', file], /usage/], [['test', 'a', 'b', '--config', file], /argument|usage/]]) {
    const p = await run(t, programs.bullpen, ['admin', 'connect', ...args])
    assert.deepEqual([p.code, p.stdout, p.stderr.trim().split('\n').length], [2, '', 1], `${args}: ${p.stderr}`)
    assert.match(p.stderr, want)
  }
  bad(await connect(t, 'github', { config: tempConfig(pool, 'wrong.toml', '[[forges]]\nkind = "github"\ntoken_file = "/nowhere"\n') }), /^missing .*forges\[0\]\.token_file/m, /^missing .*server\.public_url \(or --url\)/m)
  const help = await run(t, programs.bullpen, ['admin', 'connect', '--help'])
  assert.equal(help.code, 0)
  assert.match((await run(t, programs.bullpen, ['admin', '--help'])).stdout, /admin connect/)
})
