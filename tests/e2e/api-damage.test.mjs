// Rows of the store that are not what the server wrote: each costs the request that meets it, never the server.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, sh, until } from './lib.mjs'
import { isError, sql } from './api-help.mjs'

const REPO = 'https://git.example.test/acme/web'
const valid = (extra = {}) => ({ prompt: { text: 'hi' }, repos: [{ url: REPO }], ...extra })
const create = async (pool, extra) => (await pool.http('POST', '/v1/agents', { body: valid(extra) })).json
const PIXEL = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='

// 500 in the documented form; the message gives the request's id, and the log names the row.
async function isOurFault(pool, r, row) {
  isError(r, 500, 'internal_error')
  assert.ok(r.json.error.message.includes(r.headers.get('x-request-id')), r.text)
  await until(`the log has ${row}`, () => row.test(pool.server.stderr))
}

test('a damaged row of an agent is 500 for that agent, with a line that names table and key; others are served', async t => {
  const pool = await bullpen(t)
  const bad = (await create(pool)).agent, good = (await create(pool)).agent
  for (const [column, value] of [['repos', '[{"url"'], ['repos', '{}'], ['repos', '[7]'], ['repos', ''], ['metadata', '{'], ['metadata', '[]'], ['metadata', '']]) {
    const [[before]] = sql(pool, `SELECT ${column} FROM agents WHERE id = ?`, bad.id)
    sql(pool, `UPDATE agents SET ${column} = ? WHERE id = ?`, value, bad.id)
    const row = new RegExp(`store\\.row\\.damaged table=agents key="${bad.id}" column=${column}`)
    await isOurFault(pool, await pool.http('GET', `/v1/agents/${bad.id}`), row)
    for (const [method, path, body] of [['GET', `/v1/agents/${bad.id}/runs`], ['GET', `/v1/agents/${bad.id}/runs/${bad.latestRunId}`], ['GET', `/v1/agents/${bad.id}/runs/${bad.latestRunId}/stream`],
      ['GET', `/v1/agents/${bad.id}/usage`], ['POST', `/v1/agents/${bad.id}/runs/${bad.latestRunId}/cancel`], ['POST', `/v1/agents/${bad.id}/runs`, { prompt: { text: 'x' } }], ['GET', '/v1/agents']])
      await isOurFault(pool, await pool.http(method, path, { body }), row)
    assert.equal((await pool.http('GET', `/v1/agents/${good.id}`)).status, 200)
    sql(pool, before === null ? `UPDATE agents SET ${column} = NULL WHERE id = ?` : `UPDATE agents SET ${column} = '${before}' WHERE id = ?`, bad.id)
    assert.equal((await pool.http('GET', '/v1/agents')).json.items.length, 2, 'mended, it is served again')
  }
})

test('a run whose agent is damaged ends, and its worker is free for others', async t => {
  const pool = await bullpen(t)
  const bad = await pool.run(sh('true'))
  sql(pool, `UPDATE agents SET metadata = '{' WHERE id = ?`, bad.agentId)
  await pool.worker()
  const state = () => sql(pool, 'SELECT status, error_code FROM runs WHERE id = ?', bad.id)[0]
  await until('the run has ended', () => state()[0] !== 'CREATING')
  assert.deepEqual(state(), ['ERROR', 'internal_error'])
  const run = await pool.run(sh('true'))
  assert.equal((await run.end()).status, 'FINISHED')
})

test('an internal error in the reading of a follow-up is 500, not a bad request without words', async t => {
  const pool = await bullpen(t)
  const a = (await create(pool)).agent
  const images = [{ data: PIXEL, mimeType: 'image/png' }]
  for (const model of ['', '{', '[]', '"x"']) {
    sql(pool, 'UPDATE agents SET model = ? WHERE id = ?', model, a.id)
    await isOurFault(pool, await pool.http('POST', `/v1/agents/${a.id}/runs`, { body: { prompt: { text: 'x', images } } }), new RegExp(`table=agents key="${a.id}" column=model`))
  }
  assert.equal((await pool.http('GET', '/readyz', { key: null })).status, 200)
})

test('a damaged first answer: 500 for that Idempotency-Key, nothing is done twice, other keys work', async t => {
  const pool = await bullpen(t)
  const post = key => pool.http('POST', '/v1/agents', { body: valid(), headers: { 'idempotency-key': key } })
  assert.equal((await post('one')).status, 201)
  assert.equal((await post('one')).headers.get('idempotent-replayed'), 'true')
  for (const [column, value] of [['response', '{"agent":'], ['response', ''], ['response', '[]'], ['status', '0'], ['status', '99999']]) {
    const [[before]] = sql(pool, `SELECT ${column} FROM idempotency WHERE key = 'one'`)
    sql(pool, `UPDATE idempotency SET ${column} = ? WHERE key = 'one'`, value)
    await isOurFault(pool, await post('one'), /store\.row\.damaged table=idempotency principal=user:\d+ endpoint="POST \/v1\/agents" key="one"/)
    await isOurFault(pool, await post('one'), /table=idempotency/)
    assert.equal((await pool.http('GET', '/v1/agents')).json.items.length, 1)
    sql(pool, `UPDATE idempotency SET ${column} = ? WHERE key = 'one'`, String(before))
  }
  sql(pool, `UPDATE idempotency SET response = '{'`)
  assert.equal((await post('two')).status, 201)
  // It is no trap: the key is free again when its day is over.
  sql(pool, `UPDATE idempotency SET created_at = created_at - 86400001 WHERE key = 'one'`)
  assert.equal((await post('one')).status, 201)
})

// PostgreSQL keeps nothing of the wrong kind.
test('times, texts and flags of the wrong kind are served as well as they can be', { skip: Boolean(process.env.STORE_URL) }, async t => {
  const pool = await bullpen(t)
  pool.damaged = true // what is stored has no form that a document could tell
  const a = (await create(pool)).agent
  for (const value of ['9223372036854775807', '-9223372036854775808', 'yesterday', '']) {
    sql(pool, 'UPDATE agents SET created_at = ?, updated_at = ?1, team_id = team_id WHERE id = ?2', value, a.id)
    sql(pool, 'UPDATE runs SET created_at = ?1, updated_at = ?1, ended_at = ?1 WHERE agent_id = ?2', value, a.id)
    sql(pool, 'UPDATE api_keys SET created_at = ?', value)
    for (const path of ['/v1/me', `/v1/agents/${a.id}`, '/v1/agents', `/v1/agents/${a.id}/runs`, `/v1/agents/${a.id}/runs/${a.latestRunId}`])
      assert.ok((await pool.http('GET', path)).status < 500, path)
  }
  sql(pool, 'UPDATE agents SET name = CAST(x\'fffe\' AS TEXT), status = 7, env_type = NULL, latest_run_id = x\'00\' WHERE id = ?'.replace('env_type = NULL, ', ''), a.id)
  assert.equal((await pool.http('GET', `/v1/agents/${a.id}`)).status, 200)
})

test('a key without an owner is nobody, and two of them are not the same somebody', async t => {
  const pool = await bullpen(t)
  const lost = await pool.createKey('user', 'lost', 'lost@example.test')
  sql(pool, "UPDATE api_keys SET user_id = NULL WHERE name = 'lost'")
  isOurFault(pool, await pool.http('GET', '/v1/agents', { key: lost }), /store\.row\.damaged table=api_keys key="key_\w+" column=user_id/)
  assert.equal((await pool.http('GET', '/v1/agents')).status, 200)
})

test('lists: pages of every size hold the same items in the same order', async t => {
  const pool = await bullpen(t)
  for (let i = 0; i < 7; i++) await create(pool, { name: `n${i}` })
  sql(pool, 'UPDATE agents SET created_at = 1700000000000 + (created_at % 2)') // several of the same time
  const all = (await pool.http('GET', '/v1/agents?limit=100')).json
  assert.equal(all.items.length, 7)
  assert.equal(all.nextCursor, undefined)
  for (const limit of [1, 2, 3, 6, 7, 8]) {
    const got = []
    let cursor = ''
    do {
      const page = (await pool.http('GET', `/v1/agents?limit=${limit}${cursor && `&cursor=${cursor}`}`)).json
      assert.ok(page.items.length >= 1 && page.items.length <= limit)
      got.push(...page.items)
      cursor = page.nextCursor
    } while (cursor)
    assert.deepEqual(got, all.items, `limit ${limit}`)
  }
})
