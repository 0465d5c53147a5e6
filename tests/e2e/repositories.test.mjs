// GET /v1/repositories: what is listed, how it is spelled, for whom, how often.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen } from './lib.mjs'
import { isError } from './api-help.mjs'

const urls = async (pool, key) => {
  const r = await pool.http('GET', '/v1/repositories', { key })
  assert.equal(r.status, 200, r.text)
  assert.deepEqual(Object.keys(r.json), ['items'])
  for (const i of r.json.items) assert.deepEqual(Object.keys(i), ['url'])
  return r.json.items.map(i => i.url)
}
const create = async (pool, repos, key, extra = {}) => {
  const r = await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, repos: repos.map(url => ({ url })), ...extra }, key })
  assert.equal(r.status, 201, r.text)
  return r.json.agent.id
}

test('of pools, machines and own agents: each once, by URL, without credentials; not those of others', async t => {
  const pool = await bullpen(t)
  const other = await pool.createKey('user', 'other', 'other@example.test')
  assert.deepEqual(await urls(pool), [])
  const register = (poolName, repoUrl, repoName = 'web') => pool.http('POST', '/v0/private-workers/pools', { key: pool.poolKey, body: { scope: 'team', poolName, repoOwner: 'acme', repoName, repoUrl } })
  assert.equal((await register('a', 'https://github.com/acme/web')).status, 200)
  assert.equal((await register('b', 'https://github.com/acme/web.git')).status, 200)
  await create(pool, ['https://u:p@github.com/Acme/Web/'])
  await create(pool, ['https://git.example.test/group/sub/api'])
  await create(pool, ['https://git.example.test/group/sub/api'])
  await create(pool, ['git@git.example.test:acme/tools.git'])
  const gone = await create(pool, ['https://git.example.test/acme/gone'])
  const archived = await create(pool, ['https://git.example.test/acme/archived'])
  assert.equal((await pool.http('DELETE', `/v1/agents/${gone}`)).status, 200)
  assert.equal((await pool.http('POST', `/v1/agents/${archived}/archive`)).status, 200)
  await create(pool, ['https://git.example.test/acme/private'], other)
  const team = ['https://github.com/acme/web']
  assert.deepEqual(await urls(pool), ['git@git.example.test:acme/tools.git', 'https://git.example.test/acme/archived', 'https://git.example.test/group/sub/api', ...team])
  assert.deepEqual(await urls(pool, other), ['https://git.example.test/acme/private', ...team])
  assert.deepEqual(await urls(pool, pool.poolKey), team)
  // A pool that was removed is not the reason any more.
  for (const name of ['a', 'b']) assert.equal((await pool.http('DELETE', `/v0/private-workers/pools?scope=team&pool_name=${name}&repo_owner=acme&repo_name=web`, { key: pool.poolKey })).status, 200)
  assert.deepEqual(await urls(pool, pool.poolKey), [])
  assert.ok((await urls(pool)).some(u => /Acme\/Web/.test(u)), 'the agent still is')
})

test('all repositories of an agent with several, and what a worker serves', async t => {
  const pool = await bullpen(t)
  const origin = await pool.origin()
  await pool.worker()
  assert.deepEqual(await urls(pool), [origin.url])
  assert.equal((await pool.http('POST', '/v0/private-workers/pools', { key: pool.poolKey, body: { scope: 'team', poolName: 'any' } })).status, 200)
  await create(pool, ['https://git.example.test/acme/b', 'https://git.example.test/acme/a'], pool.userKey, { env: { type: 'pool', name: 'any' } })
  assert.deepEqual(await urls(pool), [origin.url, 'https://git.example.test/acme/a', 'https://git.example.test/acme/b'])
})

test('once a minute and thirty times an hour unless the settings say otherwise', async t => {
  const pool = await bullpen(t, { unlimited: false })
  const get = key => pool.http('GET', '/v1/repositories', { key })
  assert.equal((await get()).status, 200)
  const r = await get()
  isError(r, 429, 'rate_limit_exceeded')
  assert.equal(r.headers.get('x-ratelimit-limit'), '1')
  assert.equal(r.headers.get('x-ratelimit-remaining'), '0')
  assert.ok(Number(r.headers.get('retry-after')) > 0 && Number(r.headers.get('retry-after')) <= 61)
  assert.equal((await get(pool.poolKey)).status, 200, 'another principal has its own')
  assert.equal((await pool.http('GET', '/v1/me')).status, 200, 'other reads are counted apart')
})

test('the limit of an hour is a limit of its own', async t => {
  const pool = await bullpen(t, { config: '[limits]\nrepositories_per_minute = 0\nrepositories_per_hour = 2\n' })
  const get = () => pool.http('GET', '/v1/repositories')
  assert.deepEqual([(await get()).status, (await get()).status], [200, 200])
  const r = await get()
  isError(r, 429, 'rate_limit_exceeded')
  assert.equal(r.headers.get('x-ratelimit-limit'), '2')
  const wait = Number(r.headers.get('retry-after'))
  assert.ok(wait > 60 && wait <= 1801, `retry-after ${wait}`)
})
