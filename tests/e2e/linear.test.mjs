// Linear: agent sessions in its wire format, answers through its GraphQL API, which a stand-in speaks.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { createHmac, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { atEnd, bullpen, programs, run, sh, until } from './lib.mjs'

class Linear {
  constructor() { Object.assign(this, { secret: 'a-linear-secret', token: 'lin_oauth_x', activities: [], links: [], updates: [], asked: [], labels: [], projectLabels: [], state: 'unstarted', interfere: null }) }
  async start(t) {
    this.server = http.createServer(async (req, res) => {
      let text = ''
      for await (const d of req) text += d
      const { query, variables } = JSON.parse(text), answer = (body, status = 200) => { res.writeHead(status, { 'content-type': 'application/json' }); res.end(JSON.stringify(body)) }
      this.asked.push(query)
      if (req.headers.authorization !== `Bearer ${this.token}`) return answer({ errors: [{ message: 'Authentication required', extensions: { code: 'AUTHENTICATION_ERROR' } }] }, 401)
      if (await this.interfere?.(query, variables, answer)) return
      const labels = l => ({ nodes: l.map(([group, name]) => ({ name, parent: { name: group } })) })
      if (query.includes('agentActivityCreate')) {
        if (this.activities.some(a => a.id === variables.input.id)) return answer({ errors: [{ message: 'Entity already exists: AgentActivity', extensions: { code: 'INPUT_ERROR' } }] })
        this.activities.push({ ...variables.input, at: Date.now() })
        return answer({ data: { agentActivityCreate: { success: true, agentActivity: { id: variables.input.id } } } })
      }
      if (query.includes('agentSessionUpdate')) { this.links.push(...variables.input.addedExternalUrls); return answer({ data: { agentSessionUpdate: { success: true } } }) }
      if (query.includes('issueUpdate')) { this.updates.push(variables); this.state = 'started'; return answer({ data: { issueUpdate: { success: true } } }) }
      if (query.includes('states')) return answer({ data: { issue: { state: { type: this.state }, team: { states: { nodes: [{ id: 'later', type: 'started', position: 2 }, { id: 'first', type: 'started', position: 1 }, { id: 'todo', type: 'unstarted', position: 0 }] } } } } })
      if (query.includes('labels')) return answer({ data: { issue: { labels: labels(this.labels), project: { labels: labels(this.projectLabels) } } } })
      answer({ errors: [{ message: 'Cannot query field' }] }, 400)
    })
    this.server.listen(0, '127.0.0.1')
    await once(this.server, 'listening')
    atEnd(t, () => { this.server.closeAllConnections(); this.server.close() })
    return this
  }
  settings(dir, repo) {
    fs.writeFileSync(path.join(dir, 'linear-token'), this.token)
    fs.writeFileSync(path.join(dir, 'linear-secret'), this.secret)
    return `\n[linear]\nwebhook_secret_file = "${dir}/linear-secret"\ntoken_file = "${dir}/linear-token"\napi_url = "http://127.0.0.1:${this.server.address().port}/graphql"\n${repo ? `default_repo = "${repo}"\n` : ''}`
  }
  event({ action = 'created', session = `s-${randomUUID()}`, comment, prompt, signal, user = 'u-ann', description = 'It says hello.', at = Date.now(), ...more }) {
    return { type: 'AgentSessionEvent', action, organizationId: 'org-1', webhookTimestamp: at, createdAt: new Date().toISOString(),
      agentSession: { id: session, creatorId: user, creator: { id: user, name: 'Ann' }, issue: { id: 'issue-1', identifier: 'ENG-7', title: 'The greeting is wrong', description, url: 'https://linear.app/x/issue/ENG-7' }, ...(comment ? { comment: { id: 'c1', body: comment, userId: user } } : {}) },
      ...(prompt !== undefined ? { agentActivity: { id: randomUUID(), userId: user, content: { type: 'prompt', body: prompt }, ...(signal ? { signal } : {}) } } : {}), ...more }
  }
  signed(event, id = randomUUID()) {
    const body = JSON.stringify(event)
    return { body, key: null, headers: { 'content-type': 'application/json', 'linear-delivery': id, 'linear-event': event.type, 'linear-signature': createHmac('sha256', this.secret).update(body).digest('hex') } }
  }
  said(type, what) { return this.activities.find(a => a.content.type === type && what.test(a.content.body)) }
}

async function start(t, { policy, repo = true } = {}) {
  const linear = await new Linear().start(t)
  let origin
  const pool = await bullpen(t, { prepare: async p => { origin = await p.origin(); fs.appendFileSync(p.configFile, linear.settings(p.dir, repo && origin.url)) } })
  if (policy) await run(t, programs.bullpen, ['admin', 'policy', '--data', pool.data, ...policy])
  const linked = await run(t, programs.bullpen, ['admin', 'account', 'link', '--data', pool.data, '--email', 'dev@example.test', '--surface', 'linear', '--place', 'org-1', '--account', 'u-ann', '--login', 'Ann'])
  assert.equal(linked.code, 0, linked.stderr)
  return { pool, linear, send: async (e, id) => { const r = await pool.http('POST', '/webhooks/linear', linear.signed(e, id)); assert.equal(r.status, 200, r.text) }, says: (type, what) => until(`${type} ${what}; ${JSON.stringify(linear.activities)} ${pool.server.stderr.slice(-1000)}`, () => linear.said(type, what), 20) }
}
const agents = async pool => (await pool.http('GET', '/v1/agents')).json.items

test('a mention is seen at once, works, answers; a prompt continues it; a delegation works on the issue', async t => {
  const { pool, linear, send, says } = await start(t)
  await pool.worker()
  const session = 's-1', e = linear.event({ session, comment: `please\n${sh('echo changed > README.md')}` }), id = randomUUID()
  await send(e, id)
  await send(e, id)
  await says('thought', /I have it/)
  await says('thought', new RegExp(`I am on it: ${pool.url}/agents/bc-`))
  await says('response', /1 of 1 steps succeeded/)
  assert.equal(linear.activities.filter(a => a.content.type === 'response').length, 1)
  assert.ok(linear.links.some(l => l.label === 'Agent' && l.url.startsWith(`${pool.url}/agents/bc-`)))
  assert.deepEqual(linear.updates, [{ id: 'issue-1', input: { stateId: 'first' } }])
  await send(linear.event({ action: 'prompted', session, prompt: sh('echo again > README.md') }))
  await until('it answers again', () => linear.activities.filter(a => a.content.type === 'response').length === 2, 20)
  assert.equal((await agents(pool)).length, 1)
  const [{ id: agent }] = await agents(pool)
  assert.match((await pool.http('GET', `/v0/agents/${agent}/conversation`)).text, /quoted from ENG-7/)
  await send(linear.event({ session: 's-2' }))
  await until('the delegation is answered', () => linear.activities.some(a => a.agentSessionId === 's-2' && a.content.type === 'response'), 20)
  assert.equal((await agents(pool))[0].name, 'Resolve ENG-7: The greeting is wrong')
})

test('stop ends the run; a stranger to the team gets a link; signatures and times are checked', async t => {
  const { pool, linear, send, says } = await start(t)
  await pool.worker()
  await send(linear.event({ session: 's-1', comment: sh('sleep 300') }))
  await says('thought', /I am on it/)
  await until('it runs', async () => { const [a] = await agents(pool); return a && (await pool.http('GET', `/v1/agents/${a.id}/runs/${a.latestRunId}`)).json.status === 'RUNNING' }, 20)
  await send(linear.event({ action: 'prompted', session: 's-1', prompt: 'stop', signal: 'stop' }))
  await until('it is stopped', async () => { const [a] = await agents(pool); return (await pool.http('GET', `/v1/agents/${a.id}/runs/${a.latestRunId}`)).json.status === 'CANCELLED' }, 20)
  await send(linear.event({ user: 'u-eve', comment: 'go' }))
  await says('error', /Connect your account to start agents: http.*\/link#[0-9a-f]{64}/)
  const good = linear.signed(linear.event({ comment: 'x' }))
  for (const change of [{ 'linear-signature': 'x' }, { 'linear-signature': `${good.headers['linear-signature'].slice(0, -1)}!` }]) assert.equal((await pool.http('POST', '/webhooks/linear', { ...good, headers: { ...good.headers, ...change } })).status, 401)
  for (const at of [Date.now() - 61_000, Date.now() + 120_000, null]) assert.equal((await pool.http('POST', '/webhooks/linear', linear.signed(linear.event({ comment: 'x', at })))).status, 401)
  assert.equal((await pool.http('POST', '/webhooks/linear', linear.signed({ ...linear.event({}), type: 'Issue' }))).status, 200)
  assert.equal((await agents(pool)).length, 1)
})

test('where it runs: the comment, then the description, then labels of the issue, then of the project; the policy; no repository', async t => {
  const { pool, linear, send, says } = await start(t, { policy: ['--require', 'off', '--allow', 'on'] })
  const wants = async (e, pattern) => { linear.activities.length = 0; await send(linear.event(e)); return says('error', pattern) }
  linear.labels = [['Pool', 'zz'], ['pool', 'label-pool'], ['other', 'aa']]
  linear.projectLabels = [['pool', 'project-pool']]
  await wants({ comment: 'pool=comment-pool go', description: 'pool=text-pool' }, /There is no pool "comment-pool"/)
  await wants({ comment: 'go', description: 'see [pool=text-pool]' }, /There is no pool "text-pool"/)
  await wants({ comment: 'go' }, /There is no pool "label-pool"/)
  linear.labels = []
  await wants({ comment: 'go' }, /There is no pool "project-pool"/)
  linear.projectLabels = []
  await wants({ comment: 'pool=a self_hosted=false go' }, /exclude each other/)
  linear.labels = [['machine', 'mac']]
  await wants({ comment: 'go' }, /mac/)
  await run(t, programs.bullpen, ['admin', 'policy', '--data', pool.data, '--require', 'off', '--allow', 'off'])
  await wants({ comment: 'pool=default go' }, /This team has not enabled self-hosted workers/)
  assert.deepEqual(await agents(pool), [])
  const none = await start(t, { repo: false })
  await none.send(none.linear.event({ comment: 'go' }))
  await none.says('error', /I could not tell which repository you mean\. Add `repo=owner\/name`\.|pool 'default' needs/)
})

test('Linear away, limiting, and the server dying in between: each thing is said once', async t => {
  const { pool, linear, send, says } = await start(t)
  await pool.worker()
  let refused = 0
  linear.interfere = (query, variables, answer) => {
    if (!query.includes('agentActivityCreate') || refused >= 2) return false
    if (refused++ === 0) answer({ errors: [{ message: 'Rate limit exceeded', extensions: { code: 'RATELIMITED' } }] }, 400)
    else answer({}, 502)
    return true
  }
  await send(linear.event({ session: 's-1', comment: sh('true') }))
  await says('response', /succeeded/)
  // It was said, and the server did not hear that it was.
  let once = true
  linear.interfere = async (query, variables) => {
    if (!query.includes('agentActivityCreate') || variables.input.content.type !== 'response' || !once) return false
    once = false
    linear.activities.push(variables.input)
    await pool.crash()
    return true
  }
  await send(linear.event({ session: 's-2', comment: sh('true') }))
  await until('it died', () => !pool.server.alive, 20)
  await pool.restart()
  await until('nothing is left to say', () => linear.asked.length > 0 && linear.activities.some(a => a.agentSessionId === 's-2' && a.content.type === 'response'), 20)
  await send(linear.event({ action: 'prompted', session: 's-2', prompt: sh('true') }))
  await until('the next answer', () => linear.activities.filter(a => a.agentSessionId === 's-2' && a.content.type === 'response').length === 2, 30)
})
