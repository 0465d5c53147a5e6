// Signing in with an OpenID provider, and what people may do by their role.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { SignJWT } from 'jose'
import { browser, link, signIn } from './dashboard-help.mjs'
import { begin, comeBack, ownProvider, realProvider, settings, signInBy, withSecret } from './oidc-help.mjs'
import { isError } from './api-help.mjs'
import { bullpen, freePort, patience, programs, root, run, until } from './lib.mjs'

const session = (pool, cookie) => pool.http('GET', '/v1/session', { key: null, headers: { cookie } })
// Other pages come in between.
const arrives = (page, text) => page.waitForFunction(x => document.body?.innerText.includes(x), { timeout: 20000 * patience }, text)
const refusedAs = (r, code) => { assert.deepEqual([r.status, r.to], [302, `/login?refused=${code}`]); assert.equal(r.session, undefined, 'nobody is signed in') }

const records = async (t, pool) => (await run(t, programs.bullpen, ['admin', 'audit', '--data', pool.data])).stdout.trim().split('\n').map(l => JSON.parse(l))

test('a person signs in by the provider, comes to the page that was asked for, and out again', async t => {
  const provider = await realProvider(t)
  const pool = await bullpen(t, { config: settings(provider.origin, 'button = "Sign in with Corp"'), prepare: withSecret }), page = await browser(t, pool)
  provider.serve(`${pool.url}/v1/login/oidc/callback`)
  await page.goto(`${pool.url}/fleet?q=x`)
  await page.press('Sign in with Corp')
  await page.fill('input[name=login]', 'ann')
  await page.fill('input[name=password]', 'x')
  await page.click('button[type=submit]')
  await page.waitForFunction(() => document.querySelector('input[name=prompt][value=consent]'))
  await page.click('button[type=submit]')
  await arrives(page, 'ann@corp.example')
  page.problems.length = 0 // the provider's page wants fonts of another site
  assert.equal(page.url(), `${pool.url}/fleet?q=x`)
  await page.sees('None of the connected workers is yours')
  await page.isAccessible()
  const [cookie] = (await page.cookies()).filter(c => c.name === 'bullpen_session')
  assert.deepEqual([cookie.httpOnly, cookie.sameSite], [true, 'Strict'])
  await page.press('Sign out')
  await page.sees('You are signed out here.')
  await page.isAccessible()
  assert.equal((await session(pool, `bullpen_session=${cookie.value}`)).status, 401)
  const end = await page.$eval('p[role=status] a', a => a.href)
  assert.match(end, new RegExp(`^${provider.origin}/session/end\\?client_id=bullpen&post_logout_redirect_uri=`))
  assert.deepEqual(page.problems, [])
})

test('the word of the provider is checked whole', async t => {
  const provider = await ownProvider(t)
  const pool = await bullpen(t, { config: settings(provider.origin) }), now = Math.floor(Date.now() / 1000)
  const refused = async (what, o, code = 'not_trusted') => { const r = await signInBy(pool, provider, o); try { refusedAs(r, code) } catch (e) { e.message = `${what}: ${e.message}`; throw e } }
  const good = await signInBy(pool, provider, { returnTo: '/agents?of=team' })
  assert.deepEqual([good.status, good.to], [302, '/agents?of=team'])
  const who = (await session(pool, good.session)).json
  assert.deepEqual([who.email, who.name, who.role], ['ann@corp.example', 'Ann', 'member'])
  assert.deepEqual((await records(t, pool)).slice(-2).map(e => [e.eventType, e.actor, e.actorName, e.ipAddress, e.data.by ?? e.data.email]),
    [['add_user', 'OpenID provider', 'ann@corp.example', '127.0.0.1', 'ann@corp.example'], ['login', `user:${who.userId}`, 'ann@corp.example', '127.0.0.1', 'oidc']])
  assert.deepEqual((await pool.http('GET', '/v1/api-keys', { key: null, headers: { cookie: good.session } })).json.items, [], 'the key that carries the session is nobody\'s to see')
  assert.match(good.set.find(c => c.startsWith('bullpen_login=;')), /Max-Age=0/)
  const form = provider.forms.at(-1)
  assert.deepEqual([form.get('grant_type'), form.get('code'), form.get('code_verifier').length, form.get('redirect_uri')], ['authorization_code', 'code', 64, `${pool.url}/v1/login/oidc/callback`])
  await refused('nonce of another sign-in', { claims: { nonce: 'f'.repeat(64) } })
  await refused('no nonce', { claims: { nonce: undefined } })
  await refused('another client', { claims: { aud: 'another' } })
  await refused('of several clients another', { claims: { aud: ['bullpen', 'another'], azp: 'another' } })
  await refused('of several clients none that is said', { claims: { aud: ['bullpen', 'another'] } })
  assert.equal((await signInBy(pool, provider, { claims: { aud: ['bullpen', 'another'], azp: 'bullpen' } })).to, '/agents')
  await refused('another issuer', { claims: { iss: 'https://another.example' } })
  await refused('expired', { claims: { exp: now - 120, iat: now - 300 } })
  await refused('no end', { claims: { exp: undefined } })
  await refused('of the future', { claims: { iat: now + 3600, exp: now + 7200 } })
  await refused('not yet', { claims: { nbf: now + 3600 } })
  await refused('old', { claims: { iat: now - 3600 } })
  await refused('nobody', { claims: { sub: undefined } })
  const b64 = o => Buffer.from(typeof o === 'string' ? o : JSON.stringify(o)).toString('base64url')
  await refused('alg none', { token: c => `${b64({ alg: 'none' })}.${b64(c)}.` })
  await refused('alg None', { token: c => `${b64({ alg: 'nOnE' })}.${b64(c)}.` })
  await refused('signed with the public key as a secret', { token: c => new SignJWT(c).setProtectedHeader({ alg: 'HS256' }).sign(new TextEncoder().encode(JSON.stringify(provider.jwks ?? 'x'.repeat(64)))) })
  await refused('another claim than was signed', { token: async c => { const [h, , s] = (await provider.sign(c)).split('.'); return `${h}.${b64({ ...c, sub: 'sub-2' })}.${s}` } })
  await refused('a key that it brings itself', { token: async c => { const own = await provider.rotate(); const other = await provider.rotate(); return provider.sign(c, { jwk: own.jwk, kid: other.jwk.kid }, own) } })
  await refused('what it must understand', { token: c => provider.sign(c, { crit: ['x'], x: 1 }).catch(() => provider.sign(c).then(x => `${b64({ alg: 'RS256', crit: ['x'] })}.${x.split('.').slice(1).join('.')}`)) })
  await refused('no token at all', { token: () => undefined })
  await refused('rubbish', { token: () => 'a.b.c' })
  await refused('rubbish in five parts', { token: () => 'a.b.c.d.e' })
  await refused('no address', { claims: { email: undefined } }, 'email_missing')
  await refused('no address in it', { claims: { email: 'ann' } }, 'email_missing')
  await refused('not verified', { claims: { email_verified: false } }, 'email_not_verified')
  await refused('nothing said of that', { claims: { email_verified: undefined } }, 'email_not_verified')
  await refused('another domain', { claims: { email: 'ann@corp.example.evil.example' } }, 'domain_not_allowed')
  await refused('a domain before the domain', { claims: { email: 'ann@evil.example@evil.example' } }, 'domain_not_allowed')
  await refused('the address is another person\'s now', { claims: { sub: 'sub-9' } }, 'other_account')
  assert.doesNotMatch(pool.server.stderr, /ERROR/)
  assert.doesNotMatch(pool.server.stderr, /eyJ/, 'no token is in the log')
})

test('keys that the provider changes are found; EC keys work; weak ones and those for something else do not', async t => {
  const provider = await ownProvider(t)
  const pool = await bullpen(t, { config: settings(provider.origin) })
  assert.equal((await signInBy(pool, provider)).to, '/agents')
  await provider.rotate()
  assert.equal((await signInBy(pool, provider)).to, '/agents')
  await provider.rotate('ES256')
  assert.equal((await signInBy(pool, provider)).to, '/agents')
  assert.equal(provider.asked.filter(p => p === '/jwks').length, 3, 'keys are kept, and asked for when none fits')
  assert.equal(provider.asked.filter(p => p === '/.well-known/openid-configuration').length, 1)
  const k = await provider.rotate()
  provider.jwks = [{ ...k.jwk, use: 'enc' }]
  refusedAs(await signInBy(pool, provider), 'not_trusted')
  provider.jwks = [{ kty: 'RSA', n: 5 }, null, 'x', { kty: 'EC', crv: 'P-256', x: 'AA', y: 'AA' }]
  refusedAs(await signInBy(pool, provider), 'not_trusted')
  provider.jwks = [{ kty: 'RSA', n: 'AQAB', e: 'AQAB' }, { ...k.jwk, kid: undefined, alg: undefined, use: undefined }]
  refusedAs(await signInBy(pool, provider), 'not_trusted')
  provider.jwks = undefined
  assert.equal((await signInBy(pool, provider)).to, '/agents')
})

test('a sign-in belongs to the browser that began it, and leads to no other site', async t => {
  const provider = await ownProvider(t)
  const pool = await bullpen(t, { config: settings(provider.origin) })
  const b = await begin(pool)
  assert.match(b.set[0], /HttpOnly; SameSite=Lax/)
  const u = new URL(b.to)
  assert.deepEqual(['response_type', 'client_id', 'code_challenge_method', 'scope'].map(n => u.searchParams.get(n)), ['code', 'bullpen', 'S256', 'openid email profile'])
  provider.token = () => provider.sign(provider.good(b.to))
  const other = await begin(pool), query = { code: 'c', state: u.searchParams.get('state') }
  refusedAs(await comeBack(pool, { query, cookie: other.cookie }), 'begin_again')
  refusedAs(await comeBack(pool, { query }), 'begin_again')
  refusedAs(await comeBack(pool, { query: { code: 'c' }, cookie: b.cookie }), 'begin_again')
  refusedAs(await comeBack(pool, { query, cookie: b.cookie.replace(/.$/, x => x === 'A' ? 'B' : 'A') }), 'begin_again')
  refusedAs(await comeBack(pool, { query, cookie: `bullpen_login=${'x'.repeat(5000)}` }), 'begin_again')
  refusedAs(await comeBack(pool, { query: { ...query, iss: 'https://mix-up.example' }, cookie: b.cookie }), 'not_trusted')
  refusedAs(await comeBack(pool, { query: { state: query.state, error: 'access_denied', error_description: '<b>call 555</b>' }, cookie: b.cookie }), 'provider_refused')
  assert.equal(provider.forms.length, 0, 'no code was redeemed')
  assert.equal((await comeBack(pool, { query, cookie: `a=b; ${b.cookie}; c=d` })).to, '/agents')
  for (const evil of ['https://evil.example/', '//evil.example', '/\\evil.example', '/a\nb', '/a b', 'agents', '', `/${'x'.repeat(2000)}`, '/\t/evil.example'])
    assert.equal((await signInBy(pool, provider, { returnTo: evil })).to, '/agents', evil)
  assert.doesNotMatch(pool.server.stderr, /ERROR/)
})

test('a provider that is down is said in words, and asked again later; the page survives any code', async t => {
  const provider = await ownProvider(t)
  provider.down = true
  const pool = await bullpen(t, { config: settings(provider.origin) }), page = await browser(t, pool)
  await page.goto(`${pool.url}/agents`)
  await page.press('Sign in with single sign-on')
  await arrives(page, 'The sign-in provider does not answer')
  await page.isAccessible()
  await page.goto(`${pool.url}/login?refused=${encodeURIComponent('<img src=x>Call 555')}`)
  await page.sees('You were not signed in.')
  assert.doesNotMatch(await page.text(), /555/)
  // Each code of docs/api.md has words of its own.
  const codes = fs.readFileSync(path.join(root, 'docs/api.md'), 'utf8').split('## Signing in with an OpenID provider')[1].split('\n## ')[0].split('\n').filter(l => l.startsWith('| `')).flatMap(l => l.split('|')[1].match(/\w+/g))
  assert.ok(codes.length >= 10)
  for (const code of codes) {
    await page.goto(`${pool.url}/login?refused=${code}`)
    await page.waitForSelector('[role=alert]')
    assert.doesNotMatch(await page.$eval('[role=alert]', x => x.textContent), /You were not signed in\./, code)
  }
  for (let i = 0; i < 20; i++) refusedAs(await begin(pool), 'provider_unreachable')
  assert.ok(provider.asked.length < 10, 'it is not asked by each who comes')
  // The rest of the page goes on to work.
  await page.fill('#key', pool.userKey)
  await page.press('Sign in')
  await page.sees('What is to be done?')
})

test('a provider that hangs holds few threads: whoever comes too much is told so at once, the rest goes on', async t => {
  const provider = await ownProvider(t)
  let release
  provider.hangs = new Promise(r => { release = r })
  const pool = await bullpen(t, { config: settings(provider.origin) + '[server]\nhandler_threads = 8\n' })
  const done = [], all = Array.from({ length: 6 }, () => begin(pool).then(r => done.push(r)))
  await until('the others are refused', () => done.length === 5)
  for (const r of done) refusedAs(r, 'busy')
  assert.equal((await pool.http('GET', '/v1/agents')).status, 200)
  release()
  await Promise.all(all)
  assert.match(done[5].to, new RegExp(`^${provider.origin}/auth`))
})

test('an address of which the provider says nothing is trusted only if the settings say so', async t => {
  const provider = await ownProvider(t)
  const pool = await bullpen(t, { config: settings(provider.origin, 'trust_email = true') })
  assert.equal((await signInBy(pool, provider, { claims: { email_verified: undefined } })).to, '/agents')
  refusedAs(await signInBy(pool, provider, { claims: { email_verified: false } }), 'email_not_verified')
})

test('whom the provider may bring: accounts that are there, or new ones; and who is an admin', async t => {
  const provider = await ownProvider(t), issuer = provider.origin
  const config = `[login.oidc]\nissuer = "${issuer}"\nclient_id = "bullpen"\nadmin_groups = "ops, admins"\n`
  const pool = await bullpen(t, { config })
  refusedAs(await signInBy(pool, provider), 'no_account')
  const mine = { sub: 'dev-1', email: 'DEV@example.test' }
  const first = await signInBy(pool, provider, { claims: mine })
  const key = (await pool.http('GET', '/v1/me')).json
  assert.equal((await session(pool, first.session)).json.userId, key.userId, 'the account of the key')
  const role = async groups => (await session(pool, (await signInBy(pool, provider, { claims: { ...mine, groups } })).session)).json.role
  assert.equal(await role(['staff', 'ops']), 'admin')
  assert.equal((await session(pool, first.session)).json.role, 'admin', 'sessions that are there know it, too')
  // The provider alone says who is an admin, so there is no owner; the last one stays all the same.
  const act = (method, p, body) => pool.http(method, p, { key: null, body, headers: { cookie: first.session, 'x-bullpen-request': '1' } })
  isError(await act('PUT', `/v1/users/${key.userId}/role`, { role: 'auditor' }), 409, 'last_admin')
  const boss = (await act('POST', '/v1/api-keys', { name: 'boss', scopes: ['team:admin'] })).json.key
  assert.equal((await pool.http('GET', '/v1/users', { key: boss })).status, 200)
  assert.equal(await role(['opsx']), 'member')
  assert.equal((await pool.http('GET', '/v1/users', { key: boss })).status, 401, 'what only admins give goes with the role')
  assert.equal(await role('admins'), 'admin')
  assert.equal(await role(undefined), 'member')
  assert.deepEqual((await records(t, pool)).filter(e => e.eventType === 'update_user_role').map(e => [e.actor, e.data.userId, e.data.before, e.data.after]),
    [['member', 'admin'], ['admin', 'member'], ['member', 'admin'], ['admin', 'member']].map(x => ['OpenID provider', key.userId, ...x]))
  // The address is only how it was found first.
  assert.equal((await session(pool, (await signInBy(pool, provider, { claims: { ...mine, email: 'new@example.test' } })).session)).json.email, 'dev@example.test')
  // What one sees in `key list` ends the sessions.
  const keys = (await run(t, programs.bullpen, ['admin', 'key', 'list', '--data', pool.data])).stdout
  const id = keys.split('\n').find(l => l.includes('browser sessions')).match(/key_[0-9a-f]+/)[0]
  await run(t, programs.bullpen, ['admin', 'key', 'revoke', '--data', pool.data, id])
  assert.equal((await session(pool, first.session)).status, 401)
  assert.equal((await signInBy(pool, provider, { claims: mine })).to, '/agents')
})

test('an address that only the userinfo endpoint tells is taken from there, if it is of the same person', async t => {
  const provider = await ownProvider(t)
  provider.document = { userinfo_endpoint: `${provider.origin}/userinfo` }
  const pool = await bullpen(t, { config: settings(provider.origin) })
  provider.userinfo = { sub: 'sub-1', email: 'ann@corp.example', email_verified: true }
  assert.equal((await signInBy(pool, provider, { claims: { email: undefined, email_verified: undefined } })).to, '/agents')
  provider.userinfo.sub = 'sub-2'
  refusedAs(await signInBy(pool, provider, { claims: { email: undefined, email_verified: undefined } }), 'not_trusted')
})

test('settings that cannot work are refused with what is missing; without them there is no such way', async t => {
  const port = await freePort(), dir = fs.mkdtempSync('/tmp/bullpen-oidc-')
  t.after(() => fs.rmSync(dir, { recursive: true, force: true }))
  const refuses = async (text, pattern) => {
    fs.writeFileSync(path.join(dir, 'b.toml'), text)
    const p = await run(t, programs.bullpen, ['serve', '--config', path.join(dir, 'b.toml'), '--data', path.join(dir, 'data'), '--listen', `127.0.0.1:${port}`])
    assert.ok(p.code === 2 || p.code === 1, `${text}: ${p.code}`)
    assert.match(p.stderr, pattern)
  }
  const base = '[login.oidc]\nissuer = "https://id.example"\nclient_id = "x"\n'
  await refuses('[login.oidc]\nclient_id = "x"\n', /login\.oidc\.issuer is missing/)
  await refuses('[login.oidc]\nissuer = "http://id.example"\nclient_id = "x"\n', /must be an https/)
  await refuses('[login.oidc]\nissuer = "http://127.0.0.1.evil.example"\nclient_id = "x"\n', /must be an https/)
  await refuses('[login.oidc]\nissuer = "https://id.example"\n', /client_id is missing/)
  await refuses(`${base}auto_create = true\n`, /auto_create needs login\.oidc\.allowed_domains/)
  await refuses(`${base}scopes = "email"\n`, /must have openid/)
  await refuses(`${base}client_secret_file = "/none/there"\n`, /client_secret_file \/none\/there/)
  await refuses(`${base}nonsense = 1\n`, /unknown setting login\.oidc\.nonsense/)
  await refuses('[login.saml]\nx = 1\n', /unknown setting login\.saml/)
  const pool = await bullpen(t)
  assert.deepEqual((await pool.http('GET', '/v1/login', { key: null })).json, { key: true, link: true })
  for (const p of ['', '/callback?state=x']) isError(await pool.http('GET', `/v1/login/oidc${p}`, { key: null }), 404, 'not_found', /no OpenID provider/)
})

// The table "In the browser" of docs/operating.md, cell by cell.
test('what each role may do in the browser is what the table says', async t => {
  const pool = await bullpen(t, { config: '[server]\npublic_url = "http://bullpen.example.test"\n' })
  const text = fs.readFileSync(path.join(root, 'docs/operating.md'), 'utf8').split('### In the browser')[1].split('\n### ')[0]
  const [head, , ...rows] = text.split('\n').filter(l => l.startsWith('|')).map(l => l.split('|').slice(1, -1).map(c => c.trim()))
  assert.deepEqual(head.slice(1), ['member', 'auditor', 'admin', 'owner'])
  const cookies = {}
  const enter = async (name, role) => {
    const p = await run(t, programs.bullpen, ['admin', 'login-link', '--data', pool.data, '--email', `${name}@example.test`, '--url', pool.url, '--role', role])
    assert.equal(p.code, 0, p.stderr)
    const r = await pool.http('POST', '/v1/session', { key: null, body: { loginToken: p.stdout.trim().split('#')[1] } })
    return r.headers.get('set-cookie').split(';')[0]
  }
  for (const role of ['owner', 'admin', 'auditor', 'member']) cookies[role] = await enter(role, role)
  for (const role of Object.keys(cookies)) assert.equal((await session(pool, cookies[role])).json.role, role)
  const body = { prompt: { text: 'x' }, repos: [{ url: 'https://git.example.test/acme/web' }] }
  const theirs = async () => (await pool.http('POST', '/v1/agents', { body })).json.agent
  const ids = Object.fromEntries((await pool.http('GET', '/v1/users', { key: null, headers: { cookie: cookies.owner } })).json.items.map(m => [m.email.split('@')[0], m.id]))
  const of = {
    listPrivateWorkers: () => ['GET', '/v0/private-workers'], listPrivateWorkerPools: () => ['GET', '/v0/private-workers/pools'], listPendingRequests: () => ['GET', '/v0/private-workers/pending-requests'],
    getFleetHistory: () => ['GET', '/v1/fleet/history'], registerPrivateWorkerPool: () => ['POST', '/v0/private-workers/pools', { scope: 'team', poolName: 'gpu' }],
    getTeamHooks: () => ['GET', '/v1/hooks'], putTeamHooks: () => ['PUT', '/v1/hooks', { hooks: {} }], getTeamRules: () => ['GET', '/v1/rules'], putTeamRules: () => ['PUT', '/v1/rules', { rules: [] }],
    getMetrics: () => ['GET', '/metrics'], listUsers: () => ['GET', '/v1/users'], putUserRole: () => ['PUT', `/v1/users/${ids.dev}/role`, { role: 'member' }],
    getPolicy: () => ['GET', '/v1/policy'], listServiceAccounts: () => ['GET', '/v1/service-accounts'], createServiceAccount: () => ['POST', '/v1/service-accounts', { name: `x${Math.random()}` }], getAuditLog: () => ['GET', '/v1/audit-log'],
    'listApiKeys of the team': () => ['GET', '/v1/api-keys?scope=team'], createApiKey: () => ['POST', '/v1/api-keys', { name: 'x' }],
    createAgent: () => ['POST', '/v1/agents', body], 'listAgents of the team': () => ['GET', '/v1/agents?scope=team'], putUserRules: () => ['PUT', '/v1/user-rules', { text: 'x' }],
    'getAgent of another': a => ['GET', `/v1/agents/${a.id}`], 'cancelRun of another': a => ['POST', `/v1/agents/${a.id}/runs/${a.latestRunId}/cancel`], 'archiveAgent of another': a => ['POST', `/v1/agents/${a.id}/archive`], 'deleteAgent of another': a => ['DELETE', `/v1/agents/${a.id}`],
  }
  const seen = new Set()
  for (const [names, ...cells] of rows) for (const name of names.split(', ').map(n => n.replaceAll('`', ''))) {
    seen.add(name)
    for (const [i, word] of cells.entries()) {
      const role = head[i + 1], a = of[name].length ? await theirs() : undefined, [method, p, b] = of[name](a)
      const r = await pool.http(method, p, { key: null, body: b, headers: { cookie: cookies[role], 'x-bullpen-request': '1' } })
      const want = { yes: [200, 201], own: [200], '403': [403], '404': [404] }[word]
      assert.ok(want.includes(r.status), `${name} as ${role}: ${word}, but ${r.status} ${r.text}`)
    }
  }
  assert.deepEqual([...seen].sort(), Object.keys(of).sort())
})

test('an owner is removed by nobody else, and the team keeps one; an auditor\'s key changes nothing either', async t => {
  const pool = await bullpen(t)
  const enter = async (name, role) => {
    const url = await link(t, pool, ...role ? ['--role', role] : [], '--email', `${name}@example.test`)
    const r = await pool.http('POST', '/v1/session', { key: null, body: { loginToken: url.split('#')[1] } })
    const cookie = r.headers.get('set-cookie').split(';')[0]
    return { cookie, id: (await session(pool, cookie)).json.userId, role: async () => (await session(pool, cookie)).json.role }
  }
  const first = await enter('first', 'admin'), second = await enter('second', 'admin'), eve = await enter('eve')
  assert.deepEqual([await first.role(), await second.role(), await eve.role()], ['owner', 'admin', 'member'])
  const set = (by, id, role) => pool.http('PUT', `/v1/users/${id}/role`, { key: null, body: { role }, headers: { cookie: by.cookie, 'x-bullpen-request': '1' } })
  isError(await set(second, first.id, 'member'), 403, 'role_required', /nobody else/)
  isError(await set(second, second.id, 'owner'), 403, 'role_required', /only an owner/)
  isError(await set(eve, eve.id, 'admin'), 403, 'scope_required')
  isError(await set(first, first.id, 'admin'), 403, 'role_required', /needs an owner/)
  isError(await set(first, 999, 'admin'), 404, 'user_not_found')
  isError(await set(first, 'x', 'admin'), 404, 'user_not_found')
  assert.equal((await set(first, second.id, 'owner')).status, 200)
  isError(await set(second, first.id, 'member'), 403, 'role_required', /nobody else/)
  assert.equal((await set(first, first.id, 'member')).status, 200)
  assert.equal(await first.role(), 'member')
  assert.equal((await set(second, eve.id, 'auditor')).status, 200)
  const key = await pool.createKey('user', 'eve', 'eve@example.test')
  assert.equal((await pool.http('GET', '/v1/agents', { key })).status, 200)
  isError(await pool.http('POST', '/v1/agents', { key, body: { prompt: { text: 'x' } } }), 403, 'scope_required')
  assert.equal((await pool.http('GET', '/v0/private-workers', { key })).status, 403, 'a key is not the browser')
})
