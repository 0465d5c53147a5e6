// Agents that are put away, brought back, deleted: which calls are legal in which state, and that nothing stays behind.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, sh, tool, until } from './lib.mjs'
import { isError, sql } from './api-help.mjs'
import { Peer } from './peer.mjs'

const REPO = 'https://github.com/acme/web'
const post = (pool, r, verb, key) => pool.http('POST', `/v1/agents/${r.agentId}/${verb}`, { key })
const get = async (pool, r) => (await pool.http('GET', `/v1/agents/${r.agentId}`)).json

test('the table of states: what each call does to an agent that is active, idle, archived', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool)
  const r = await pool.run(tool('act', { text: '1' }), { repo: REPO })
  const call = await peer.expectCall('act')
  assert.equal((await get(pool, r)).status, 'ACTIVE')
  assert.deepEqual((await post(pool, r, 'unarchive')).json, { id: r.agentId }, 'nothing to do')
  isError(await pool.http('POST', `/v1/agents/${r.agentId}/runs`, { body: { prompt: { text: 'x' } } }), 409, 'agent_busy')
  // Archive cancels, and lets the worker go.
  assert.deepEqual((await post(pool, r, 'archive')).json, { id: r.agentId })
  assert.equal((await r.get()).status, 'CANCELLED')
  assert.equal((await get(pool, r)).status, 'ARCHIVED')
  await until('its call is cancelled', () => peer.cancelled.includes(call.call_id))
  peer.answer(call, { outcome: 'ERROR', result: { message: 'cancelled', code: 'cancelled' } })
  await until('its session is closed', () => peer.calls.some(c => c.kind === 'CLOSE_SESSION'))
  assert.equal((await post(pool, r, 'archive')).status, 200, 'twice is fine')
  isError(await pool.http('POST', `/v1/agents/${r.agentId}/runs`, { body: { prompt: { text: 'x' } } }), 409, 'agent_archived')
  isError(await r.cancel(), 409, 'run_not_cancellable')
  for (const p of ['', '/runs', `/runs/${r.id}`, '/usage']) assert.equal((await pool.http('GET', `/v1/agents/${r.agentId}${p}`)).status, 200, p)
  assert.ok((await r.events()).length > 0)
  const listed = async q => (await pool.http('GET', `/v1/agents${q}`)).json.items.map(a => a.id)
  assert.deepEqual([await listed(''), await listed('?includeArchived=true'), await listed('?includeArchived=false')], [[r.agentId], [r.agentId], []])
  assert.equal((await post(pool, r, 'unarchive')).status, 200)
  assert.equal((await get(pool, r)).status, 'IDLE')
  const again = await r.followUp(tool('act', { text: '2' }))
  peer.answer(await peer.expectCall('act'))
  assert.equal((await again.end()).status, 'FINISHED')
})

test('a deleted agent is gone for every call, its id stays taken, and its rows go', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const agentId = 'bc-11111111-2222-4333-8444-555555555555'
  const r = await pool.run(sh('echo hello; sleep 300'), { extra: { agentId, customSubagents: [{ name: 'rev', description: 'd', prompt: 'p' }] } })
  await r.status('RUNNING')
  assert.equal(sql(pool, `SELECT value FROM agent_inputs WHERE agent_id = '${agentId}'`).length, 1)
  assert.deepEqual((await pool.http('DELETE', `/v1/agents/${agentId}`)).json, { id: agentId })
  for (const [method, p, body] of [['GET', ''], ['GET', '/runs'], ['GET', `/runs/${r.id}`], ['GET', `/runs/${r.id}/stream`], ['GET', '/usage'], ['POST', '/archive'], ['POST', '/unarchive'], ['DELETE', ''], ['POST', `/runs/${r.id}/cancel`], ['POST', '/runs', { prompt: { text: 'x' } }]])
    isError(await pool.http(method, `/v1/agents/${agentId}${p}`, { body }), 404, 'agent_not_found')
  assert.deepEqual((await pool.http('GET', '/v1/agents')).json.items, [])
  const again = () => pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, agentId, repos: [{ url: REPO }] } })
  isError(await again(), 409, 'agent_id_conflict')
  // The worker is free for others at once.
  assert.equal((await (await pool.run(sh('true'))).end()).status, 'FINISHED')
  await until('nothing of it is in the store', () => ['agents WHERE id', 'runs WHERE agent_id', 'claims WHERE agent_id', 'agent_inputs WHERE agent_id'].every(of => Number(sql(pool, `SELECT COUNT(*) FROM ${of} = '${agentId}'`)[0][0]) === 0), 30)
  for (const of of ['events WHERE run_id', 'loops WHERE run_id', 'run_sessions WHERE run_id']) assert.equal(Number(sql(pool, `SELECT COUNT(*) FROM ${of} = '${r.id}'`)[0][0]), 0, of)
  isError(await again(), 409, 'agent_id_conflict')
})

test('nobody archives or deletes the agents of others', async t => {
  const pool = await bullpen(t)
  const r = await pool.run(sh('true'))
  const other = await pool.createKey('user', 'other', 'other@example.test')
  for (const verb of ['archive', 'unarchive']) isError(await post(pool, r, verb, other), 404, 'agent_not_found')
  isError(await pool.http('DELETE', `/v1/agents/${r.agentId}`, { key: other }), 404, 'agent_not_found')
  assert.equal((await get(pool, r)).status, 'ACTIVE')
})

test('an archived agent leaves the queue, and a controller hears of it', async t => {
  const pool = await bullpen(t)
  const r = await pool.run(sh('true'))
  const pending = async () => (await pool.http('GET', '/v0/private-workers/pending-requests', { key: pool.poolKey })).json.requests.map(x => x.id)
  assert.deepEqual(await pending(), [r.agentId])
  await post(pool, r, 'archive')
  assert.deepEqual(await pending(), [])
  await post(pool, r, 'unarchive')
  await pool.http('DELETE', `/v1/agents/${r.agentId}`)
  assert.deepEqual(await pending(), [])
})

test('the same from a terminal', async t => {
  const pool = await bullpen(t)
  const r = await pool.run(sh('true'))
  const cli = async (...args) => { const p = pool.cli(args); await p.exited; return p }
  assert.equal((await cli('archive', r.agentId)).stdout, `archived ${r.agentId}\n`)
  assert.equal((await get(pool, r)).status, 'ARCHIVED')
  assert.equal((await cli('unarchive', r.agentId)).code, 0)
  assert.equal((await cli('delete', r.agentId, '--json')).stdout, `{"id":"${r.agentId}"}\n`)
  const gone = await cli('delete', r.agentId)
  assert.deepEqual([gone.code, gone.stdout], [4, ''])
  assert.equal((await cli('archive', 'run-1')).code, 2)
})
