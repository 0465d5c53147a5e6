// The fleet API: the team's workers and pools, as programs see them.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, until } from './lib.mjs'
import { isError, sql } from './api-help.mjs'
import { Peer } from './peer.mjs'
import { FLEET, REPO, fleet, got, isFleetError, registerPool, waiting } from './fleet-help.mjs'

const root = (repo, host = 'git.example.test') => [{ path: '/srv/' + repo, remote_url: `https://user:secret@${host}/${repo}.git`, host, repo }]
const list = (pool, query = '') => got(fleet(pool, 'GET', query))
const ids = page => page.workers.map(w => w.workerId)

test('workers are listed with what they say of themselves, newest first, in pages', async t => {
  const pool = await bullpen(t)
  assert.deepEqual(await list(pool), { workers: [], totalCount: 0 })
  assert.deepEqual(await got(fleet(pool, 'GET', '/summary')), { teamSummary: { totalConnected: 0, inUse: 0 } })
  const me = (await pool.http('GET', '/v1/me')).json
  const account = sql(pool, "SELECT id FROM service_accounts WHERE name = 'pool'")[0][0]
  const w1 = await Peer.connected(t, pool, { workerId: 'w-1', hello: { pool: 'ci', name: 'build-1', roots: root('Acme/Shop'), labels: [{ key: 'gpu', value: 'a100' }, { key: 'gpu', value: 'h100' }] } })
  await Peer.connected(t, pool, { workerId: 'w-2', hello: { pool: 'any', name: 'build-2', roots: [{ path: '/srv/any', remote_url: '', host: '', repo: '' }] } })
  await Peer.connected(t, pool, { workerId: 'mine', key: pool.userKey, hello: { personal: true, name: 'laptop', roots: root('acme/web') } })
  assert.equal(w1.welcomes.length, 1)

  const all = await list(pool)
  assert.deepEqual(ids(all), ['mine', 'w-2', 'w-1'])
  assert.equal(all.totalCount, 3)
  const [mine, any, shop] = all.workers.map(({ connectedAtMs, lastActivityMs, ...w }) => { for (const at of [connectedAtMs, lastActivityMs]) assert.ok(Math.abs(at - Date.now()) < 600000); return w })
  const more = { state: 'idle', sessions: 0, version: '1', os: 'linux', arch: 'x86_64' }, ofPool = { ...more, isPersonal: false, maxSessions: 1 }
  assert.deepEqual(shop, { ...ofPool, workerId: 'w-1', isInUse: false, repoOwner: 'Acme', repoName: 'Shop', repoUrl: 'https://git.example.test/Acme/Shop.git', workspaceRootPath: '/srv/Acme/Shop', userId: 0, teamId: 1, serviceAccountId: account, poolName: 'ci', name: 'build-1', tags: [{ key: 'gpu', value: 'a100' }, { key: 'gpu', value: 'h100' }] })
  assert.deepEqual(any, { ...ofPool, workerId: 'w-2', isInUse: false, repoOwner: '', repoName: '', workspaceRootPath: '/srv/any', userId: 0, teamId: 1, serviceAccountId: account, poolName: 'any', name: 'build-2' })
  assert.deepEqual(mine, { ...more, isPersonal: true, maxSessions: 8, workerId: 'mine', isInUse: false, repoOwner: 'acme', repoName: 'web', repoUrl: 'https://git.example.test/acme/web.git', workspaceRootPath: '/srv/acme/web', userId: me.userId, name: 'laptop' })

  // Pages: every worker once, and the same number on each.
  const seen = []
  for (let token, n = 0; n === 0 || token; n++) {
    const page = await list(pool, `?limit=1${token ? `&${n % 2 ? 'pageToken' : 'nextPageToken'}=${token}` : ''}`)
    assert.equal(page.totalCount, 3)
    assert.equal('nextPageToken' in page, n < 2)
    seen.push(...ids(page))
    token = page.nextPageToken
  }
  assert.deepEqual(seen, ['mine', 'w-2', 'w-1'])
  assert.deepEqual(ids(await list(pool, '?scope=team_pool')), ['w-2', 'w-1'])
  assert.deepEqual(ids(await list(pool, '?scope=personal')), ['mine'])
  assert.deepEqual(await list(pool, '?status=in_use'), { workers: [], totalCount: 0 })

  // One that has an agent is in use, also between its runs.
  const a = await waiting(pool, 'ci', { repos: [{ url: 'https://git.example.test/acme/shop' }] })
  const used = await until('the worker has it', async () => (await list(pool, '?status=in_use')).workers[0])
  assert.deepEqual([used.workerId, used.isInUse, used.activeBcId], ['w-1', true, a.id])
  assert.deepEqual(ids(await list(pool, '?status=idle')), ['mine', 'w-2'])
  assert.deepEqual(await got(fleet(pool, 'GET', '/summary')), { teamSummary: { totalConnected: 2, inUse: 1 } })
  await until('the run ends', async () => (await pool.http('GET', `/v1/agents/${a.id}`)).json.status === 'IDLE')
  const one = await got(fleet(pool, 'GET', '/w-1'))
  assert.deepEqual(Object.keys(one), ['worker'])
  assert.equal(one.worker.activeBcId, a.id)

  w1.drop()
  await until('it is gone', async () => (await list(pool)).totalCount === 2)
  isFleetError(await fleet(pool, 'GET', '/w-1'), 404, 'Not found')
})

test('pools are registered, changed, hidden, and found again', async t => {
  const pool = await bullpen(t)
  const pools = async (query = '') => (await got(fleet(pool, 'GET', `/pools${query}`))).pools
  assert.deepEqual(await pools(), [])
  assert.deepEqual(await registerPool(pool, 'gpu', { workerReadyTimeoutSeconds: 300 }), { registered: true })
  const { firstSeenAtMs, lastSeenAtMs, ...row } = (await pools())[0]
  assert.deepEqual(row, { scope: 'team', ownerId: 1, poolName: 'gpu', connectedWorkerCount: 0, inUseWorkerCount: 0, isStale: false, workerReadyTimeoutSeconds: 300 })
  assert.ok(firstSeenAtMs === lastSeenAtMs && Math.abs(firstSeenAtMs - Date.now()) < 600000)

  // The same name for one repository is another row; an omitted window stays, a given one is the new one.
  await registerPool(pool, 'gpu', { repoOwner: 'Acme', repoName: 'Shop', repoUrl: 'https://x:y@git.example.test/acme/shop' })
  await registerPool(pool, 'gpu')
  let [any, shop] = await pools()
  assert.equal(any.workerReadyTimeoutSeconds, 300)
  assert.ok(!('repoName' in any))
  assert.deepEqual([shop.repoOwner, shop.repoName, shop.repoUrl, shop.workerReadyTimeoutSeconds], ['Acme', 'Shop', 'https://git.example.test/acme/shop', 0])
  await registerPool(pool, 'gpu', { repoOwner: 'acme', repoName: 'shop', workerReadyTimeoutSeconds: 60 })
  await registerPool(pool, 'gpu', { workerReadyTimeoutSeconds: 0 })
  ;[any, shop] = await pools()
  assert.deepEqual([any.workerReadyTimeoutSeconds, shop.workerReadyTimeoutSeconds], [0, 60])
  assert.equal((await pools()).length, 2)

  // A worker counts, and its window stays the registered one.
  const w = await Peer.connected(t, pool, { workerId: 'w', hello: { pool: 'gpu', roots: root('acme/shop') } })
  ;[any, shop] = await pools()
  assert.deepEqual([shop.connectedWorkerCount, shop.inUseWorkerCount, shop.workerReadyTimeoutSeconds], [1, 0, 60])
  const a = await waiting(pool, 'gpu')
  await until('it is in use', async () => (await pools())[1].inUseWorkerCount === 1)
  await until('the run ends', async () => (await pool.http('GET', `/v1/agents/${a.id}`)).json.status === 'IDLE')
  assert.deepEqual(await pools('?scope=personal'), [])
  assert.equal((await pools('?scope=team_pool')).length, 2)

  // Hidden: not listed, and new agents cannot name it; its worker stays connected.
  const remove = query => got(fleet(pool, 'DELETE', `/pools?scope=team&${query}`))
  assert.deepEqual(await remove('pool_name=gpu'), { deregistered: true })
  assert.deepEqual(await remove('pool_name=gpu'), { deregistered: false })
  assert.deepEqual(await remove('pool_name=gpu&repo_owner=ACME&repo_name=shop'), { deregistered: true })
  assert.deepEqual(await remove('pool_name=other'), { deregistered: false })
  assert.deepEqual(await pools('?includeStale=true'), [])
  assert.ok(w.alive)
  const body = { prompt: { text: 'hi' }, repos: [{ url: REPO }], env: { type: 'pool', name: 'gpu' } }
  isError(await pool.http('POST', '/v1/agents', { body }), 400, 'validation_error', /pool 'gpu'/)
  w.drop()
  await until('it is gone', async () => (await list(pool)).totalCount === 0)
  await Peer.connected(t, pool, { workerId: 'w2', hello: { pool: 'gpu', roots: root('acme/shop') } })
  assert.equal((await pools())[0].workerReadyTimeoutSeconds, 60)

  // Long without a worker and a request.
  await registerPool(pool, 'old')
  sql(pool, "UPDATE pools SET last_seen_at = 1, first_seen_at = 1 WHERE name = 'old'")
  assert.ok(!(await pools()).some(p => p.poolName === 'old'))
  assert.equal((await pools('?includeStale=true')).find(p => p.poolName === 'old').isStale, true)
  await registerPool(pool, 'old')
  assert.equal((await pools()).find(p => p.poolName === 'old').isStale, false)
})

test('what is asked for in a wrong way is refused with a title, and only service accounts are let in', async t => {
  const pool = await bullpen(t)
  const asking = [['GET', ''], ['GET', '/summary'], ['GET', '/w-1'], ['GET', '/pools'], ['POST', '/pools', { scope: 'team', poolName: 'x' }], ['DELETE', '/pools?scope=team&pool_name=x'], ['GET', '/pending-requests'],
    ['GET', '/pending-requests/stream?cursor=x'], ['POST', '/claim', { id: 'x', workerId: 'w' }], ['POST', '/tokens', { id: 'x', workerId: 'w' }], ['POST', '/claims/x/release'], ['POST', '/claims/x/fail', { message: 'm' }]]
  const token = (await pool.http('POST', '/v0/worker-tokens', { body: {}, key: pool.poolKey })).json.accessToken
  const narrow = await pool.createKey('service_account', 'narrow', null, 'agents:read')
  for (const [method, path, body] of asking) {
    isFleetError(await fleet(pool, method, path, { body, key: null }), 401, 'Unauthorized')
    isFleetError(await fleet(pool, method, path, { body, key: 'crsr_' + '0'.repeat(64) }), 401, 'Unauthorized')
    isFleetError(await fleet(pool, method, path, { body, key: pool.userKey }), 403, 'Forbidden', /service account/)
    isFleetError(await fleet(pool, method, path, { body, key: token }), 403, 'Forbidden')
    isFleetError(await fleet(pool, method, path, { body, key: narrow }), 403, 'Forbidden', /fleet:/)
  }
  const reads = await pool.createKey('service_account', 'reads', null, 'fleet:read')
  assert.equal((await fleet(pool, 'GET', '', { key: reads })).status, 200)
  isFleetError(await fleet(pool, 'POST', '/pools', { key: reads, body: { scope: 'team', poolName: 'x' } }), 403, 'Forbidden', /fleet:write/)

  for (const query of ['?limit=0', '?limit=101', '?limit=x', '?limit=', '?status=busy', '?scope=team', '?pageToken=', '?pageToken=x', '?pageToken=MTIz', '?nextPageToken=%00', '?what=1', '?limit=1&limit=1'])
    isFleetError(await fleet(pool, 'GET', query), 400, 'Invalid request')
  for (const query of ['?scope=user', '?includeStale=1', '?includeStale=TRUE']) isFleetError(await fleet(pool, 'GET', `/pools${query}`), 400, 'Invalid request')
  const row = { scope: 'team', poolName: 'x' }
  for (const body of [{}, { scope: 'team' }, { poolName: 'x' }, { ...row, scope: 'all' }, { ...row, scope: 'user' }, { ...row, poolName: '' }, { ...row, poolName: 'a b' }, { ...row, poolName: '-x' }, { ...row, poolName: 'x'.repeat(64) },
    { ...row, repoOwner: 'acme' }, { ...row, repoName: 'shop' }, { ...row, repoOwner: 'a', repoName: 'b/c' }, { ...row, repoOwner: '', repoName: '' }, { ...row, repoUrl: REPO }, { ...row, repoOwner: 'acme', repoName: 'web', repoUrl: REPO },
    { ...row, repoOwner: 'acme', repoName: 'shop', repoUrl: 'x' }, { ...row, workerReadyTimeoutSeconds: -1 }, { ...row, workerReadyTimeoutSeconds: 3601 }, { ...row, workerReadyTimeoutSeconds: 1.5 }, { ...row, workerReadyTimeoutSeconds: '1' }, { ...row, more: 1 }, '[]', '{', ''])
    isFleetError(await fleet(pool, 'POST', '/pools', { body }), 400, 'Invalid request')
  assert.deepEqual((await got(fleet(pool, 'GET', '/pools'))).pools, [], 'nothing of that was kept')
  for (const query of ['', '?scope=team', '?pool_name=x', '?scope=user&pool_name=x', '?scope=team&pool_name=x&repo_owner=a', '?scope=team&pool_name=x&poolName=x'])
    isFleetError(await fleet(pool, 'DELETE', `/pools${query}`), 400, 'Invalid request')

  const wrong = await fleet(pool, 'PUT', '/summary')
  isFleetError(wrong, 405, 'Method not allowed')
  assert.equal(wrong.headers.get('allow'), 'GET')
  isFleetError(await fleet(pool, 'GET', '/a/b/c'), 404, 'Not found')
  isFleetError(await fleet(pool, 'POST', '/pools', { body: '"'.padEnd(2 << 20, 'x') }), 413, 'Invalid request')
  isError(await pool.http('GET', `${FLEET}x`), 404, 'not_found')
})

test('a service account has its own rate', async t => {
  const pool = await bullpen(t, { config: '[limits]\nreads_per_minute = 3\nmutations_per_minute = 2\n' })
  for (let i = 0; i < 3; i++) assert.equal((await fleet(pool, 'GET', '/summary')).status, 200)
  const r = await fleet(pool, 'GET', '/summary')
  isFleetError(r, 429, 'Too many requests')
  assert.ok(Number(r.headers.get('retry-after')) > 0)
})
