// Agents: creating, reading and listing them, and who may.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { randomUUID } from 'node:crypto'
import { bullpen, sh, file, git } from './lib.mjs'
import { isError, UUID, ISO, gate } from './api-help.mjs'

const REPO = 'https://git.example.test/acme/web'
const create = async (pool, extra = {}, options) => pool.http('POST', '/v1/agents', { body: { prompt: { text: 'hi' }, repos: [{ url: REPO }], ...extra }, ...options })

test('the answer to a create is the whole agent and its first run', async t => {
  const pool = await bullpen(t)
  const r = await create(pool, { prompt: { text: 'Tidy the changelog' }, repos: [{ url: REPO, startingRef: 'main' }], metadata: { ticket: 'X-1', 'ü': '' }, skipReviewerRequest: true })
  assert.equal(r.status, 201)
  assert.deepEqual(Object.keys(r.json).sort(), ['agent', 'run'])
  const { agent, run } = r.json
  assert.match(agent.id, /^bc-/)
  assert.match(agent.id.slice(3), UUID)
  assert.match(run.id.slice(4), UUID)
  assert.match(agent.createdAt, ISO)
  assert.ok(Math.abs(Date.parse(agent.createdAt) - Date.now()) < 60000)
  assert.deepEqual(agent, {
    id: agent.id, name: 'Tidy the changelog', status: 'ACTIVE', env: { type: 'cloud' }, repos: [{ url: REPO, startingRef: 'main' }], workOnCurrentBranch: false, autoCreatePR: false,
    skipReviewerRequest: true, openAsCursorGithubApp: false, metadata: { ticket: 'X-1', 'ü': '' }, url: `${pool.url}/agents/${agent.id}`, createdAt: agent.createdAt, updatedAt: agent.createdAt, latestRunId: run.id,
  })
  assert.match(run.requestId, UUID)
  assert.deepEqual(run, { id: run.id, agentId: agent.id, status: 'CREATING', createdAt: run.createdAt, updatedAt: run.createdAt, requestId: run.requestId })
  const { wait, isOwn, visibility, mayFollowUp, ...read } = (await pool.http('GET', `/v1/agents/${agent.id}`)).json
  assert.deepEqual([isOwn, visibility, mayFollowUp], [true, 'private', true])
  assert.deepEqual(read, agent, 'and it can be read at once')
  assert.equal(wait.code, 'no_workers', 'with the reason why it waits')
  const list = (await pool.http('GET', '/v1/agents')).json
  const { workOnCurrentBranch, autoCreatePR, skipReviewerRequest, ...summary } = agent
  assert.deepEqual(list, { items: [{ ...summary, repos: [{ url: REPO }] }] }, 'a list has the summary and no cursor at its end')
})

test('a plain agent has no optional member, and no null anywhere', async t => {
  const pool = await bullpen(t)
  const r = await create(pool)
  for (const k of ['skipReviewerRequest', 'metadata']) assert.ok(!(k in r.json.agent), k)
  assert.doesNotMatch(r.text, /null/)
  const sa = await create(pool, {}, { key: pool.poolKey })
  assert.equal(sa.json.agent.openAsCursorGithubApp, true, 'a service account opens pull requests as the app')
  assert.equal((await create(pool, { openAsCursorGithubApp: false }, { key: pool.poolKey })).json.agent.openAsCursorGithubApp, false)
})

test('the name is the given one, or comes from the prompt', async t => {
  const pool = await bullpen(t)
  const name = async (text, extra) => (await create(pool, { prompt: { text }, ...extra })).json.agent.name
  assert.equal(await name('x', { name: '  Mine  ü ' }), '  Mine  ü ')
  assert.equal(await name('Fix the build'), 'Fix the build')
  assert.equal(await name('\n \n\t  Fix \t the   build  \nand more'), 'Fix the build')
  assert.equal(await name(`${'word '.repeat(40)}`), 'word '.repeat(20).trim(), 'cut at a word')
  assert.equal(await name('ä'.repeat(150)), 'ä'.repeat(100), 'characters, not bytes')
  assert.equal(await name(`${'a'.repeat(99)} bc`), 'a'.repeat(99))
  assert.equal(await name(sh('true')), 'Untitled agent')
  assert.equal(await name(`Run this\n${sh('true')}`), 'Run this')
})

test('a client may choose the id; it is taken for ever, whoever comes, in any case', async t => {
  const pool = await bullpen(t)
  const agentId = `bc-${randomUUID()}`
  isError(await create(pool, { agentId, env: { type: 'pool', name: 'nowhere' } }), 400, 'validation_error')
  const r = await create(pool, { agentId: `bc-${agentId.slice(3).toUpperCase()}` })
  assert.equal(r.status, 201, 'a refused create does not take the id')
  assert.equal(r.json.agent.id, agentId, 'stored and shown in lower case')
  assert.equal(r.json.run.agentId, agentId)
  isError(await create(pool, { agentId }), 409, 'agent_id_conflict')
  isError(await create(pool, { agentId: `bc-${agentId.slice(3).toUpperCase()}`, prompt: { text: 'other' } }), 409, 'agent_id_conflict')
  isError(await create(pool, { agentId }, { key: pool.poolKey }), 409, 'agent_id_conflict')
  const upper = `bc-${agentId.slice(3).toUpperCase()}`
  assert.equal((await pool.http('GET', `/v1/agents/${upper}`)).json.id, agentId)
  assert.equal((await pool.http('GET', `/v1/agents/BC-${agentId.slice(3)}`)).json.id, agentId)
  assert.equal((await pool.http('GET', `/v1/agents/${upper}/runs`)).json.items[0].id, r.json.run.id)
  assert.equal((await pool.http('GET', `/v1/agents/${upper}/runs/${r.json.run.id}`)).json.agentId, agentId)
})

test('many creates of one id at once: exactly one wins', async t => {
  const pool = await bullpen(t)
  const agentId = `bc-${randomUUID()}`
  const all = await Promise.all(Array.from({ length: 20 }, () => create(pool, { agentId })))
  assert.deepEqual(all.map(r => r.status).sort(), [201, ...Array(19).fill(409)])
  assert.equal((await pool.http('GET', `/v1/agents/${agentId}/runs`)).json.items.length, 1)
})

test('Idempotency-Key: the first answer again, a conflict for another body, apart for each principal and endpoint', async t => {
  const pool = await bullpen(t)
  const body = { prompt: { text: 'hi' }, repos: [{ url: REPO }] }
  const post = (key, b = body, who = pool.userKey, p = '/v1/agents') => pool.http('POST', p, { body: b, key: who, headers: { 'idempotency-key': key } })
  const first = await post('k1')
  assert.equal(first.status, 201)
  assert.equal(first.headers.get('idempotent-replayed'), null)
  const again = await post('k1')
  assert.equal(again.status, 201)
  assert.equal(again.headers.get('idempotent-replayed'), 'true')
  assert.deepEqual(again.json, first.json)
  assert.notEqual(again.headers.get('x-request-id'), first.headers.get('x-request-id'))
  isError(await post('k1', { ...body, name: 'other' }), 409, 'idempotency_key_conflict')
  assert.notEqual((await post('k2')).json.agent.id, first.json.agent.id)
  assert.notEqual((await post('k1', body, pool.poolKey)).json.agent.id, first.json.agent.id)
  isError(await post('k'.repeat(256)), 400, 'validation_error', /255/)
  assert.equal((await post('k'.repeat(255))).status, 201)
  // A refused request keeps nothing: the key is free for the corrected one.
  isError(await post('k3', { ...body, env: { type: 'pool', name: 'nowhere' } }), 400, 'validation_error')
  assert.equal((await post('k3')).status, 201)
  const many = await Promise.all(Array.from({ length: 10 }, () => post('k4')))
  assert.equal(new Set(many.map(r => r.json.agent.id)).size, 1, 'at once: one agent')
  assert.equal((await pool.http('GET', '/v1/agents')).json.items.length, 5)
  // It survives a restart.
  await pool.crash()
  await pool.restart()
  assert.deepEqual((await post('k1')).json, first.json)
  // A follow-up: the replay comes even though the agent is busy by then.
  await pool.http('POST', `/v1/agents/${first.json.agent.id}/runs/${first.json.run.id}/cancel`)
  const runs = `/v1/agents/${first.json.agent.id}/runs`
  const next = await post('k1', { prompt: { text: 'go on' } }, pool.userKey, runs)
  assert.equal(next.status, 201, next.text)
  const replay = await post('k1', { prompt: { text: 'go on' } }, pool.userKey, runs)
  assert.deepEqual([replay.status, replay.json, replay.headers.get('idempotent-replayed')], [201, next.json, 'true'])
  isError(await post('k9', { prompt: { text: 'go on' } }, pool.userKey, runs), 409, 'agent_busy')
})

test('a list is walked page by page, newest first, each agent once, while others are added', async t => {
  const pool = await bullpen(t)
  const ids = []
  for (let i = 0; i < 23; i++) ids.unshift((await create(pool)).json.agent.id)
  const walk = async (limit, between = () => {}) => {
    const seen = []
    let cursor
    do {
      const r = await pool.http('GET', `/v1/agents?limit=${limit}${cursor ? `&cursor=${cursor}` : ''}`)
      assert.equal(r.status, 200, r.text)
      assert.ok(r.json.items.length === limit || !r.json.nextCursor, 'only the last page may be short')
      assert.ok(r.json.items.length > 0)
      seen.push(...r.json.items.map(a => a.id))
      cursor = r.json.nextCursor
      if (cursor) assert.match(cursor, /^[A-Za-z0-9_-]+$/)
      assert.ok(cursor !== null, 'left out, not null')
      await between()
    } while (cursor)
    return seen
  }
  const byTime = (await pool.http('GET', '/v1/agents?limit=100')).json.items
  assert.deepEqual(byTime.map(a => [a.createdAt, a.id]), byTime.map(a => [a.createdAt, a.id]).sort((a, b) => a[0] < b[0] || (a[0] === b[0] && a[1] < b[1]) ? 1 : -1))
  assert.deepEqual(byTime.map(a => a.id).sort(), [...ids].sort())
  assert.equal((await pool.http('GET', '/v1/agents')).json.items.length, 20, '20 unless asked otherwise')
  for (const limit of [1, 7, 23, 100]) assert.deepEqual(await walk(limit), byTime.map(a => a.id), `limit ${limit}`)
  assert.deepEqual(await walk(5, () => create(pool)), byTime.map(a => a.id), 'what comes newly does not shift the pages')
})

test('runs of an agent are listed newest first, page by page, without their results', async t => {
  const pool = await bullpen(t)
  const { agent, run } = (await create(pool)).json
  const ids = [run.id]
  for (let i = 0; i < 5; i++) {
    assert.equal((await pool.http('POST', `/v1/agents/${agent.id}/runs/${ids[0]}/cancel`)).status, 200)
    ids.unshift((await pool.http('POST', `/v1/agents/${agent.id}/runs`, { body: { prompt: { text: `${i}` } } })).json.run.id)
  }
  const all = (await pool.http('GET', `/v1/agents/${agent.id}/runs`)).json
  assert.deepEqual(all.items.map(r => r.id), ids)
  assert.ok(!('nextCursor' in all))
  for (const r of all.items) for (const k of ['result', 'durationMs']) assert.ok(!(k in r))
  assert.deepEqual(all.items.map(r => r.status), ['CREATING', ...Array(5).fill('CANCELLED')])
  const seen = []
  let cursor
  do {
    const r = (await pool.http('GET', `/v1/agents/${agent.id}/runs?limit=4${cursor ? `&cursor=${cursor}` : ''}`)).json
    seen.push(...r.items.map(x => x.id))
    cursor = r.nextCursor
  } while (cursor)
  assert.deepEqual(seen, ids)
  assert.equal((await pool.http('GET', `/v1/agents/${agent.id}`)).json.latestRunId, ids[0])
})

test("another principal's agents are not there; a key with agents:team may read and cancel, not follow up", async t => {
  const pool = await bullpen(t)
  const other = await pool.createKey('user', 'other', 'other@example.test')
  const team = await pool.createKey('service_account', 'fleet', null, 'agents:read,agents:write,agents:team')
  const { agent, run } = (await create(pool)).json
  const paths = [['GET', `/v1/agents/${agent.id}`], ['GET', `/v1/agents/${agent.id}/runs`], ['GET', `/v1/agents/${agent.id}/runs/${run.id}`], ['GET', `/v1/agents/${agent.id}/runs/${run.id}/stream`], ['POST', `/v1/agents/${agent.id}/runs/${run.id}/cancel`]]
  for (const key of [other, pool.poolKey]) {
    for (const [method, p] of paths) isError(await pool.http(method, p, { key }), 404, 'agent_not_found')
    isError(await pool.http('POST', `/v1/agents/${agent.id}/runs`, { key, body: { prompt: { text: 'x' } } }), 404, 'agent_not_found')
  }
  for (const key of [other, pool.poolKey, team]) assert.deepEqual((await pool.http('GET', '/v1/agents', { key })).json, { items: [] }, 'a list has only the own ones')
  for (const [, p] of paths.slice(0, 3)) assert.equal((await pool.http('GET', p, { key: team })).status, 200)
  isError(await pool.http('POST', `/v1/agents/${agent.id}/runs`, { key: team, body: { prompt: { text: 'x' } } }), 404, 'agent_not_found')
  const stream = await fetch(`${pool.url}${paths[3][1]}`, { headers: { authorization: `Bearer ${team}` } })
  assert.equal(stream.status, 200)
  assert.deepEqual((await pool.http(...paths[4], { key: team })).json, { id: run.id })
  assert.match(await stream.text(), /"status":"CANCELLED"/)
  // Two keys of one person are one principal.
  const second = await pool.createKey('user', 'laptop', 'dev@example.test')
  assert.equal((await pool.http('GET', `/v1/agents/${agent.id}`, { key: second })).status, 200)
  // A service account's agent is not the user's.
  const sa = (await create(pool, {}, { key: pool.poolKey })).json.agent
  isError(await pool.http('GET', `/v1/agents/${sa.id}`), 404, 'agent_not_found')
})

test('me, models, health: what they say', async t => {
  const pool = await bullpen(t)
  const me = (await pool.http('GET', '/v1/me')).json
  assert.match(me.createdAt, ISO)
  assert.deepEqual({ ...me, userFirstName: 0 }, { apiKeyName: 'dev', createdAt: me.createdAt, userId: me.userId, userEmail: 'dev@example.test', userFirstName: 0 })
  assert.ok(Number.isInteger(me.userId) && me.userId > 0)
  const sa = (await pool.http('GET', '/v1/me', { key: pool.poolKey })).json
  assert.deepEqual(sa, { apiKeyName: 'pool', createdAt: sa.createdAt })
  const { items, ...rest } = (await pool.http('GET', '/v1/models')).json
  assert.deepEqual(rest, {})
  assert.ok(items.some(m => m.id === 'playbook'))
  for (const m of items) {
    assert.equal(typeof m.displayName, 'string')
    assert.ok(m.variants.length >= 1)
    assert.equal(m.variants.filter(v => v.isDefault).length, 1)
    for (const v of m.variants) assert.ok(Array.isArray(v.params))
  }
  const open = { key: null }
  assert.deepEqual((await pool.http('GET', '/healthz', open)).json, { status: 'ok' })
  assert.deepEqual((await pool.http('GET', '/readyz', open)).json, { status: 'ok', workers: 0 })
  await pool.worker()
  assert.deepEqual((await pool.http('GET', '/readyz', open)).json, { status: 'ok', workers: 1 })
})

test('a pool that serves one repository refuses another, and none; nothing is queued', async t => {
  const pool = await bullpen(t)
  await pool.worker({ pool: 'web' })
  const origin = await pool.origin(), other = await pool.remote({ name: 'acme/api' })
  const post = repos => create(pool, { env: { type: 'pool', name: 'web' }, repos })
  isError(await post([{ url: other.url }]), 400, 'validation_error', /does not serve this repository; it serves .*acme\/web/)
  isError(await post([]), 400, 'repository_required')
  isError(await post([{ url: origin.url }, { url: other.url }]), 400, 'validation_error', /any-repo/)
  assert.deepEqual((await pool.http('GET', '/v1/agents')).json.items, [])
  const run = await pool.run(file('a', 'b'), { pool: 'web' })
  assert.equal((await run.end()).status, 'FINISHED')
  assert.deepEqual((await pool.http('GET', `/v1/agents/${run.agentId}`)).json.env, { type: 'pool', name: 'web' })
})

test('an any-repo pool takes agents without a repository and with several', async t => {
  const pool = await bullpen(t)
  const dir = path.join(pool.dir, 'bare'), origin = await pool.origin()
  fs.mkdirSync(dir)
  await pool.worker({ pool: 'tools', dir })
  const env = { type: 'pool', name: 'tools' }
  const none = await pool.run(sh('pwd; git rev-parse --is-inside-work-tree || echo none'), { repo: null, extra: { env } })
  const r = await none.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.ok(!('git' in r), 'there is nothing to push')
  assert.deepEqual((await pool.http('GET', `/v1/agents/${none.agentId}`)).json.repos, [])
  const several = await create(pool, { env, repos: [{ url: origin.url }, { url: REPO }], prompt: { text: 'two' } })
  assert.equal(several.status, 201, several.text)
  assert.deepEqual(several.json.agent.repos, [{ url: origin.url }, { url: REPO }])
})
