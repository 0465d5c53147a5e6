// agent worker debug: what is wrong with a worker that does not serve, and what to do about it.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { once } from 'node:events'
import { bullpen, freePort, git, programs, run, tempDir } from './lib.mjs'
import { Plane } from './plane.mjs'
import { tlsPool } from './tls.mjs'

const ok = json => () => ({ status: 200, json })
const inAnHour = () => new Date(Date.now() + 3600_000).toISOString()
const exchange = keyType => () => ({ status: 200, json: { accessToken: 'tok', expiresAt: inAnHour(), keyType } })
const me = { apiKeyName: 'k', createdAt: '2026-01-01T00:00:00.000Z' }

async function debug(t, url, args = ['--pool', 'ci'], { env = {}, work = tempDir(t) } = {}) {
  const argv = ['worker', 'debug', ...args, '--worker-dir', work, '--endpoint', url, '--data-dir', path.join(work, '..', 'none-of-it')]
  const options = { env: { CURSOR_API_KEY: 'key', ...env } }
  const p = await run(t, programs.agent, [...argv, '--json'], options)
  let report
  try { report = JSON.parse(p.stdout) } catch { throw new Error(`no report: ${p.stdout} ${p.stderr}`) }
  const text = (await run(t, programs.agent, argv, options)).stdout
  assert.equal(p.code, report.ok ? 0 : 1)
  assert.equal(report.ok, report.checks.every(c => c.status !== 'fail'))
  for (const c of report.checks) assert.match(c.status, /^(pass|warn|fail)$/)
  return { report, text, check: name => report.checks.find(c => c.name === name) }
}

test('the report has every field, for programs and for people', async t => {
  const workers = [{ workerId: 'w-1', isInUse: true, repoOwner: 'acme', repoName: 'shop', name: 'build-7', activeBcId: 'bc-1' }]
  const plane = await Plane.start(t, { tokens: exchange('service_account'), routes: {
    '/v1/me': ok(me), '/v0/private-workers': ok({ workers, totalCount: 3 }), '/v0/private-workers/pools': ok({ pools: [{ poolName: 'ci' }] }) } })
  const work = tempDir(t)
  await git(work, 'init', '-q')
  await git(work, 'remote', 'add', 'origin', 'https://user:secret@github.example/acme/web.git')
  const { report, text, check } = await debug(t, plane.url, ['--pool', 'ci', '--name', 'box-1', '--worker-id', 'ctrl-1', '--label', 'os=linux', '--idle-release-timeout', '600'], { work })
  assert.equal(report.version, '0.1.0')
  assert.deepEqual({ ...report.worker, dataDir: '' }, { id: 'ctrl-1', name: 'box-1', mode: 'pool', pool: 'ci', idleReleaseTimeoutSeconds: 600, dataDir: '' })
  assert.deepEqual(report.auth, { method: 'api-key', keyType: 'service_account', status: 'pass', detail: "the key is a service account's" })
  assert.equal(report.connectivity.length, 1)
  assert.deepEqual({ ...report.connectivity[0], latencyMs: 0 }, { host: new URL(plane.url).host, status: 'pass', latencyMs: 0 })
  assert.equal(typeof report.connectivity[0].latencyMs, 'number')
  assert.deepEqual(report.privacy, { mode: 'enabled', status: 'pass' })
  assert.deepEqual(report.roots, [{ path: fs.realpathSync(work), primary: true, git: true, remote: 'https://github.example/acme/web.git', repo: 'acme/web' }])
  assert.deepEqual(report.labels, [['repo', 'acme/web'], ['pool', 'ci'], ['os', 'linux']].map(([key, value]) => ({ key, value })))
  assert.equal(report.visibilityProbe.privacy.totalCount, 3)
  assert.deepEqual(report.visibilityProbe.privacy.workers, [{ workerId: 'w-1', name: 'build-7', isInUse: true, repoOwner: 'acme', repoName: 'shop' }])
  assert.deepEqual(report.computerUse, { requested: false, ready: false, checks: [] })
  assert.equal(check('git').status, 'pass')
  assert.equal(check('pool').status, 'pass')
  assert.equal(check('clock').status, 'pass')
  for (const line of ['Version: 0.1.0', 'Worker id: ctrl-1', 'Name: box-1', 'Mode: pool', 'Pool: ci', 'Idle release (seconds): 600', 'Credential: api-key', 'Key type: service_account', 'Git: yes', 'Remote: https://github.example/acme/web.git', 'Label: repo=acme/web', 'Label: os=linux', 'Visible workers: 3', 'Computer use: no'])
    assert.ok(text.split('\n').includes(line), `${line} in ${text}`)
  assert.doesNotMatch(JSON.stringify(report) + text, /secret/)
  // Nothing was registered, and nothing made.
  assert.equal(plane.links.length, 0)
  assert.ok(!fs.existsSync(path.join(work, '..', 'none-of-it')))
})

test('keys that cannot start this worker, no key, a token that is not there yet', async t => {
  const cases = [
    [['--pool'], 'user', { ...me, userId: 1 }, 'fail', /pool workers need a service account API key/],
    [['--pool'], 'user_scoped', { ...me, userId: 1 }, 'fail', /user-scoped tokens cannot start pool workers; use a service account key/],
    [['--pool'], 'team', me, 'fail', /pool workers need a service account API key/],
    [[], 'service_account', me, 'fail', /service account keys only start pool workers; add --pool or use a personal credential/],
    [[], 'user', { ...me, userId: 1 }, 'pass', /a person's/],
  ]
  for (const [args, type, who, status, detail] of cases) {
    const plane = await Plane.start(t, { tokens: exchange(type), routes: { '/v1/me': ok(who) } })
    const { report, check } = await debug(t, plane.url, args)
    assert.deepEqual([report.auth.status, report.auth.keyType, check('auth').status], [status, type, status], JSON.stringify(report.auth))
    assert.match(report.auth.detail, detail)
    assert.equal(report.visibilityProbe.privacy.totalCount, null)
  }
  const plane = await Plane.start(t, { routes: { '/v1/me': () => ({ status: 401, json: { error: { code: 'unauthorized', message: 'no' } } }) } })
  const none = await debug(t, plane.url, ['--pool'], { env: { CURSOR_API_KEY: '' } })
  assert.deepEqual([none.report.auth.method, none.report.auth.status], ['none', 'fail'])
  assert.match(none.report.auth.detail, /set CURSOR_API_KEY or give --api-key/)
  assert.match((await debug(t, plane.url)).report.auth.detail, /not known to the control plane, or was revoked/)
  const file = await debug(t, plane.url, ['--pool', '--auth-token-file', '/nonexistent/token'])
  assert.deepEqual([file.report.auth.method, file.check('token-file').status], ['auth-token-file', 'warn'])
  plane.routes['/v1/me'] = () => ({ status: 403, json: { error: { code: 'wrong_endpoint', message: 'no' } } })
  const session = await debug(t, plane.url, ['--pool', '--auth-token', 'tok'])
  assert.deepEqual([session.report.auth.method, session.report.auth.keyType, session.report.auth.status], ['auth-token', 'session_token', 'pass'])
})

test('a clock that is off, by the Date of the answer or by how long a token lives', async t => {
  const date = s => new Date(Date.now() + s * 1000).toUTCString()
  for (const [seconds, says] of [[-3600, /36\d\d s ahead of/], [3600, /3[56]\d\d s behind/]]) {
    const plane = await Plane.start(t, { routes: { '/v1/me': () => ({ status: 200, json: me, headers: { date: date(seconds) } }) } })
    const { check } = await debug(t, plane.url)
    assert.equal(check('clock').status, 'warn')
    assert.match(check('clock').detail, says)
    assert.match(check('clock').detail, /set it by NTP/)
  }
  const plane = await Plane.start(t, {
    tokens: () => ({ status: 200, json: { accessToken: 't', keyType: 'service_account', expiresAt: new Date(Date.now() + 7200_000).toISOString() } }),
    routes: { '/v1/me': () => ({ status: 200, json: me, headers: { date: 'nonsense' } }) } })
  const { check } = await debug(t, plane.url)
  assert.match(check('clock').detail, /3[56]\d\d s behind/)
})

test('an endpoint that is wrong, dead, or silent behind a proxy', async t => {
  const plane = await Plane.start(t) // answers 404 to everything
  const wrong = await debug(t, plane.url)
  assert.equal(wrong.report.connectivity[0].status, 'fail')
  assert.match(wrong.check('connectivity').detail, /answers, but not as a control plane \(HTTP 404\): is the endpoint right\?/)
  const dead = await debug(t, `http://127.0.0.1:${await freePort()}`)
  assert.match(dead.check('connectivity').detail, /Connection refused: is the server running there\?/)
  assert.equal(dead.report.privacy.mode, 'unknown')
  // A proxy that refuses.
  const proxy = net.createServer(c => c.on('error', () => {}).once('data', () => c.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n'))).listen(0, '127.0.0.1')
  t.after(() => proxy.close())
  await once(proxy, 'listening')
  const blocked = await debug(t, 'https://bullpen.invalid', ['--pool'], { env: { HTTPS_PROXY: `http://127.0.0.1:${proxy.address().port}` } })
  assert.match(blocked.check('connectivity').detail, /HTTPS_PROXY/)
  assert.match(blocked.check('connectivity').detail, /403/)
})

test('a certificate authority that is missing', async t => {
  const pool = await tlsPool(t)
  const missing = await debug(t, pool.url, ['--pool'], { env: { CURSOR_API_KEY: pool.poolKey } })
  assert.equal(missing.report.connectivity[0].status, 'fail')
  assert.match(missing.check('connectivity').detail, /certificate.*: name a private CA's file in SSL_CERT_FILE/)
  const named = await debug(t, pool.url, ['--pool'], { env: { CURSOR_API_KEY: pool.poolKey, ...pool.trust } })
  assert.deepEqual([named.report.connectivity[0].status, named.report.auth.status, named.report.auth.keyType], ['pass', 'pass', 'service_account'])
})

test('a pool whose name nobody knows, spelled beside those that are', async t => {
  const plane = await Plane.start(t, { tokens: exchange('service_account'), routes: { '/v1/me': ok(me), '/v0/private-workers/pools': ok({ pools: [{ poolName: 'gpu' }, { poolName: 'ci-large' }] }) } })
  const { report, check } = await debug(t, plane.url, ['--pool', 'cii'])
  assert.equal(check('pool').status, 'warn')
  assert.match(check('pool').detail, /the pool cii is not known yet; .* Known are: gpu, ci-large$/)
  assert.equal(report.ok, true)
})

test('no git, no remote', async t => {
  const plane = await Plane.start(t, { routes: { '/v1/me': ok(me) } })
  const work = tempDir(t)
  await git(work, 'init', '-q')
  const { check, report } = await debug(t, plane.url, ['--pool'], { work })
  assert.deepEqual([check('folder').status, report.roots[0].git, report.roots[0].repo], ['warn', true, ''])
  assert.match(check('folder').detail, /no remote named origin/)
  const p = await run(t, programs.agent, ['worker', 'debug', '--pool', '--worker-dir', work, '--endpoint', plane.url], { env: { CURSOR_API_KEY: 'key', PATH: '/nonexistent' } })
  assert.equal(p.code, 2)
  assert.match(p.stderr, /^error: git is not on PATH, and \S+ is a git checkout: install git$/m)
})

test('with the real control plane: the kind of the key, the workers in sight, the pool by name', async t => {
  const pool = await bullpen(t)
  await pool.worker({ pool: 'ci', name: 'there' })
  const ask = (args, key = pool.poolKey) => debug(t, pool.url, args, { env: { CURSOR_API_KEY: key } })
  const known = await ask(['--pool', 'ci'])
  assert.deepEqual([known.report.auth.keyType, known.report.auth.status, known.check('pool').status, known.check('clock').status], ['service_account', 'pass', 'pass', 'pass'])
  assert.equal(known.report.visibilityProbe.privacy.totalCount, 1)
  assert.equal(known.report.visibilityProbe.privacy.workers[0].name, 'there')
  assert.match((await ask(['--pool', 'cii'])).check('pool').detail, /the pool cii is not known yet; .*Known are: .*ci/)
  const mine = await ask([], pool.userKey)
  assert.deepEqual([mine.report.worker.mode, mine.report.auth.keyType, mine.report.auth.status], ['personal', 'user', 'pass'])
  assert.equal((await ask(['--pool'], pool.userKey)).report.auth.status, 'fail')
  assert.equal((await ask([])).report.auth.status, 'fail')
})
