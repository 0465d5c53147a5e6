// Team follow-ups: with whose agents others may go on, everywhere that follow-ups come from, and what is written down.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, programs, run, sh, until } from './lib.mjs'
import { isError, isV0Error } from './api-help.mjs'
import { forged } from './forge-help.mjs'

const policy = async (t, pool, ...args) => {
  const p = await run(t, programs.bullpen, ['admin', 'policy', '--data', pool.data, ...args])
  assert.equal(p.code, 0, p.stderr)
}
const audited = async (t, pool) => (await run(t, programs.bullpen, ['admin', 'audit', '--data', pool.data])).stdout.trim().split('\n').map(l => JSON.parse(l)).filter(e => e.eventType === 'agent_followup_by_other')
const ended = async (pool, key, prompt) => { const r = await pool.run(prompt, { key }); assert.equal((await r.end()).status, 'FINISHED'); return r }
const share = async (pool, r, key) => assert.equal((await pool.http('PUT', `/v1/agents/${r.agentId}/sharing`, { key, body: { visibility: 'team' } })).status, 200)
const body = { prompt: { text: sh('true') } }
const post = (pool, r, key) => pool.http('POST', `/v1/agents/${r.agentId}/runs`, { key, body })
const v0post = (pool, r, key) => pool.http('POST', `/v0/agents/${r.agentId}/followup`, { key, body })
const isIdle = (pool, r, key) => until('it is idle', async () => (await pool.http('GET', `/v1/agents/${r.agentId}`, { key })).json.status === 'IDLE', 60)
const signIn = async (t, pool, email, role) => {
  const p = await run(t, programs.bullpen, ['admin', 'login-link', '--data', pool.data, '--email', email, '--url', pool.url, ...(role ? ['--role', role] : [])])
  assert.equal(p.code, 0, p.stderr)
  const r = await pool.http('POST', '/v1/session', { key: null, body: { loginToken: p.stdout.trim().split('#')[1] } })
  const cookie = r.headers.get('set-cookie').split(';')[0]
  return (method, path, b) => pool.http(method, path, { key: null, body: b, headers: { cookie, 'x-bullpen-request': '1' } })
}

test('over the API: nobody’s, those of service accounts, everybody’s that are shared; it is the owner’s agent as before', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const ben = await pool.createKey('user', 'ben', 'ben@example.test'), auditor = await signIn(t, pool, 'eve@example.test', 'auditor')
  const anns = await ended(pool, pool.userKey, sh('true')), shared = await ended(pool, pool.userKey, sh('true')), bots = await ended(pool, pool.poolKey, sh('true'))
  await share(pool, shared, pool.userKey)
  const refused = async r => {
    isError(await post(pool, r, ben), 404, 'agent_not_found')
    isV0Error(await v0post(pool, r, ben), 404, 'agent_not_found')
    isError(await pool.http('GET', `/v1/agents/${r.agentId}`, { key: ben }), 404, 'agent_not_found')
    isError(await pool.http('POST', `/v1/agents/${r.agentId}/runs/${r.id}/cancel`, { key: ben }), 404, 'agent_not_found')
  }
  const taken = async (r, key) => {
    const made = await post(pool, r, ben)
    assert.equal(made.status, 201, made.text)
    // Who goes on with it sees what comes of that.
    assert.equal((await pool.http('GET', `/v1/agents/${r.agentId}/runs/${made.json.run.id}`, { key: ben })).status, 200)
    const seen = (await pool.http('GET', `/v1/agents/${r.agentId}`, { key: ben })).json
    assert.deepEqual([seen.isOwn, seen.mayFollowUp], [false, true])
    // And may end it, if it is not over by now.
    assert.ok([200, 409].includes((await pool.http('POST', `/v1/agents/${r.agentId}/runs/${made.json.run.id}/cancel`, { key: ben })).status))
    await isIdle(pool, r, key)
    assert.equal((await v0post(pool, r, ben)).status, 200)
    await isIdle(pool, r, key)
    // The rest is the owner's.
    for (const [method, path] of [['POST', 'archive'], ['PUT', 'sharing']])
      isError(await pool.http(method, `/v1/agents/${r.agentId}/${path}`, { key: ben, body: path === 'sharing' ? { visibility: 'private' } : undefined }), 404, 'agent_not_found')
    isError(await pool.http('DELETE', `/v1/agents/${r.agentId}`, { key: ben }), 404, 'agent_not_found')
    assert.ok(!(await pool.http('GET', '/v1/agents', { key: ben })).json.items.some(a => a.id === r.agentId))
  }
  for (const r of [anns, shared, bots]) await refused(r)
  assert.deepEqual(await audited(t, pool), [])

  await policy(t, pool, '--follow-ups', 'service_accounts')
  for (const r of [anns, shared]) await refused(r)
  await taken(bots, pool.poolKey)
  await policy(t, pool, '--follow-ups', 'all')
  await refused(anns)
  await taken(shared, pool.userKey)
  await taken(bots, pool.poolKey)
  // One's own is nothing to note; who only reads goes on with nothing.
  assert.equal((await post(pool, anns, pool.userKey)).status, 201)
  isError(await auditor('POST', `/v1/agents/${shared.agentId}/runs`, body), 403, 'scope_required')
  assert.equal((await auditor('GET', `/v1/agents/${shared.agentId}`)).json.mayFollowUp, false)
  const log = await audited(t, pool)
  assert.deepEqual(log.map(e => e.data.agentId), [bots, bots, shared, shared, bots, bots].map(r => r.agentId))
  assert.ok(log.every(e => e.actor === log[0].actor && e.actorName === 'ben@example.test' && e.data.owner !== e.actor), JSON.stringify(log))
  await policy(t, pool, '--follow-ups', 'disabled')
  for (const r of [anns, shared, bots]) await refused(r)
  const p = await run(t, programs.bullpen, ['admin', 'policy', '--data', pool.data, '--follow-ups', 'some'])
  assert.deepEqual([p.code, p.stderr], [2, 'error: --follow-ups must be disabled, service_accounts or all, not \'some\'\n'])
})

test('in the dashboard: what is shared can be gone on with; an administrator’s follow-up is written down, too', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const r = await ended(pool, pool.userKey, sh('true'))
  const ben = await signIn(t, pool, 'ben@example.test'), ada = await signIn(t, pool, 'ada@example.test', 'admin')
  await share(pool, r, pool.userKey)
  assert.equal((await ben('GET', `/v1/agents/${r.agentId}`)).json.mayFollowUp, false)
  isError(await ben('POST', `/v1/agents/${r.agentId}/runs`, body), 404, 'agent_not_found')
  const before = await ada('GET', '/v1/policy')
  await policy(t, pool, '--follow-ups', 'all')
  assert.deepEqual([before.json.followUps, (await ada('GET', '/v1/policy')).json.followUps], ['disabled', 'all'])
  assert.equal((await ben('POST', `/v1/agents/${r.agentId}/runs`, body)).status, 201)
  await isIdle(pool, r, pool.userKey)
  assert.equal((await ada('POST', `/v1/agents/${r.agentId}/runs`, body)).status, 201)
  assert.deepEqual((await audited(t, pool)).map(e => e.actorName), ['ben@example.test', 'ada@example.test'])
})

test('in a thread: the policy decides, also about what is not shared', async t => {
  const pool = await forged(t, 'github', bullpen), { forge } = pool
  const link = async (login, id, email) => { const p = await run(t, programs.bullpen, ['admin', 'account', 'link', '--data', pool.data, '--email', email, '--surface', 'github', '--place', '127.0.0.1', '--account', `${id}`, '--login', login]); assert.equal(p.code, 0, p.stderr) }
  await pool.createKey('user', 'bob', 'bob@example.test')
  await link('ann', 11, 'dev@example.test')
  await link('bob', 12, 'bob@example.test')
  const issue = forge.issue({ title: 'T' })
  const say = async (text, by, id) => {
    const c = forge.comment({ thread: issue.number, body: text, by })
    const [headers, sent] = forge.delivery('issue_comment', { action: 'created', sender: { login: by, id, type: 'User' }, repository: { full_name: forge.name, private: false, owner: { login: 'acme' } }, issue: { number: issue.number, title: issue.title, user: { login: 'ann' }, author_association: 'OWNER' }, comment: { id: c.id, body: c.body, user: { login: by, id, type: 'User' }, author_association: 'OWNER' } })
    assert.equal((await pool.http('POST', '/webhooks/github', { body: sent, headers, key: null })).status, 200)
  }
  const mine = what => forge.comments.filter(c => c.by.startsWith('bullpen') && what.test(c.body)).length
  await say(`@cursor ${sh('true')}`, 'ann', 11)
  await until('it is done', () => mine(/^Done/) === 1, 30)
  await say(`@cursor ${sh('echo by-bob')}`, 'bob', 12)
  await until('he is told that he may not', () => mine(/You cannot follow up on this agent\. Start your own with `agent …`\./) === 1, 30)
  await policy(t, pool, '--follow-ups', 'all')
  await say(`@cursor ${sh('echo by-bob')}`, 'bob', 12)
  await until('it is done, too', () => mine(/^Done/) === 2, 30)
  const items = (await pool.http('GET', '/v1/agents')).json.items
  assert.equal(items.length, 1)
  assert.match((await pool.http('GET', `/v0/agents/${items[0].id}/conversation`)).text, /by-bob/)
  assert.deepEqual((await audited(t, pool)).map(e => [e.actorName, e.data.agentId]), [['bob@example.test', items[0].id]])
})
