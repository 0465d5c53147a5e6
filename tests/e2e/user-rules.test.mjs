// Rules of a user: hers alone, told behind those of team and project, to runs that have a user.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, until } from './lib.mjs'
import { isError } from './api-help.mjs'
import { modelServer, provider } from './models-help.mjs'

const system = body => body.messages.find(m => m.role === 'system').content

test('rules of a user: kept by her, told behind those of the project to her runs and their subagents, and to nobody else\'s', async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'openai') })
  const remote = await pool.remote({ name: 'acme/own', files: { 'AGENTS.md': 'Project text.\n' } })
  await pool.worker({ remote, pool: 'own' })
  const admin = await pool.createKey('user', 'admin', 'admin@example.test', 'rules:write')
  assert.equal((await pool.http('PUT', '/v1/rules', { key: admin, body: { rules: [{ name: 'tone', text: 'Team text.' }] } })).status, 200)
  const bob = await pool.createKey('user', 'bob', 'bob@example.test'), robot = await pool.createKey('service_account', 'robot')
  const get = async key => (await pool.http('GET', '/v1/user-rules', { key })).json, put = (body, key = pool.userKey) => pool.http('PUT', '/v1/user-rules', { key, body })
  assert.deepEqual(await get(pool.userKey), { text: '' })
  for (const [body, words] of [[{}, /'text' is required/], [{ text: 7 }, /'text' must be a string/], [{ text: 'x', more: 1 }, /more/], [{ text: 'x'.repeat(64 * 1024 + 1) }, /64 KiB/]]) {
    const r = await put(body)
    isError(r, 400, 'validation_error')
    assert.match(r.json.error.message, words)
  }
  for (const method of ['GET', 'PUT']) isError(await pool.http(method, '/v1/user-rules', { key: robot, body: method === 'PUT' ? { text: 'x' } : undefined }), 403, 'user_required')
  const kept = await put({ text: 'Own text: ä.' })
  assert.equal(kept.status, 200, kept.text)
  assert.equal(kept.json.text, 'Own text: ä.')
  assert.deepEqual(await get(pool.userKey), kept.json)
  assert.deepEqual(await get(bob), { text: '' })
  m.otherwise = body => ({ answer: body.messages.at(-1).role === 'user' && body.messages.at(-1).content === 'x' ? { calls: [{ name: 'task', arguments: { description: 'd', prompt: 'y', subagent_type: 'explore' } }] } : { text: 'done' } })
  const told = async key => {
    const from = m.requests.length
    const r = await (await pool.run('x', { pool: 'own', repo: remote.url, key })).end()
    assert.equal(r.status, 'FINISHED', JSON.stringify(r))
    return m.requests.slice(from).map(q => system(q.body))
  }
  const own = await told(pool.userKey)
  assert.equal(own.length, 3)
  for (const s of own) assert.match(s, /Team text\.[^]*Project text\.[^]*# Rules of the user \(where rules differ, those of the team and of the project go before these\)\nOwn text: ä\./)
  for (const key of [bob, robot]) for (const s of await told(key)) assert.ok(/Project text/.test(s) && !/Own text|Rules of the user/.test(s))
  assert.deepEqual((await put({ text: ' ' })).json, { text: '' })
  for (const s of await told(pool.userKey)) assert.ok(!/Own text/.test(s))
  await until('each change is in the log', () => pool.server.stderr.match(/audit\.user_rules /g)?.length === 2)
})
