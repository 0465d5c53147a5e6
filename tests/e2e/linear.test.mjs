// Linear: agent sessions in its wire format, answers through its GraphQL API, which a stand-in speaks.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { createHmac, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { atEnd, bullpen, programs, run, sh, tool, until } from './lib.mjs'
import { sql } from './api-help.mjs'

class Linear {
  constructor() { Object.assign(this, { secret: 'a-linear-secret', token: 'lin_oauth_x', activities: [], links: [], updates: [], asked: [], labels: [], projectLabels: [], plans: [], comments: [], changes: [], grants: new Map(), grantsAsked: [], oauth: false, lives: 86400, state: 'unstarted', interfere: null }) }
  async start(t) {
    this.server = http.createServer(async (req, res) => {
      let text = ''
      for await (const d of req) text += d
      if (req.url === '/oauth/token') return this.grant(req, new URLSearchParams(text), res)
      const { query, variables } = JSON.parse(text), answer = (body, status = 200, headers = {}) => { res.writeHead(status, { 'content-type': 'application/json', ...headers }); res.end(JSON.stringify(body)) }
      this.asked.push(query)
      if (req.headers.authorization !== `Bearer ${this.token}`) return answer({ errors: [{ message: 'Authentication required', extensions: { code: 'AUTHENTICATION_ERROR' } }] }, 401)
      if (await this.interfere?.(query, variables, answer)) return
      const labels = l => ({ nodes: l.map(([group, name]) => ({ name, parent: { name: group } })) })
      if (query.includes('agentActivityCreate')) {
        if (this.activities.some(a => a.id === variables.input.id)) return answer({ errors: [{ message: 'Entity already exists: AgentActivity', extensions: { code: 'INPUT_ERROR' } }] })
        this.activities.push({ ...variables.input, at: Date.now() })
        return answer({ data: { agentActivityCreate: { success: true, agentActivity: { id: variables.input.id } } } })
      }
      if (query.includes('agentSessionUpdate') && variables.input.plan) { this.plans.push(variables); return answer({ data: { agentSessionUpdate: { success: true } } }) }
      if (query.includes('agentSessionUpdate')) { this.links.push(...variables.input.addedExternalUrls); return answer({ data: { agentSessionUpdate: { success: true } } }) }
      if (query.includes('viewer')) return answer({ data: { viewer: { id: 'u-bot', name: 'Bullpen', displayName: 'bull-pen' } } })
      if (query.includes('commentCreate')) {
        if (this.comments.some(c => c.id === variables.input.id)) return answer({ errors: [{ message: 'Entity already exists: Comment', extensions: { code: 'INPUT_ERROR' } }] })
        this.comments.push({ ...variables.input, versions: [variables.input.body] })
        return answer({ data: { commentCreate: { success: true, comment: { id: variables.input.id } } } })
      }
      if (query.includes('commentUpdate')) {
        const c = this.comments.find(c => c.id === variables.id)
        if (!c) return answer({ errors: [{ message: 'Entity not found: Comment', extensions: { code: 'INPUT_ERROR' } }] })
        c.body = variables.input.body
        c.versions.push(c.body)
        return answer({ data: { commentUpdate: { success: true } } })
      }
      if (query.includes('issueUpdate')) { this.updates.push(variables); this.state = 'started'; return answer({ data: { issueUpdate: { success: true } } }) }
      if (query.includes('states')) return answer({ data: { issue: { state: { type: this.state }, team: { states: { nodes: [{ id: 'later', type: 'started', position: 2 }, { id: 'first', type: 'started', position: 1 }, { id: 'todo', type: 'unstarted', position: 0 }] } } } } })
      if (query.includes('labels')) return answer({ data: { issue: { identifier: 'ENG-7', title: 'The greeting is wrong', description: this.description ?? 'It says hello.', url: 'https://linear.app/x/issue/ENG-7', labels: labels(this.labels), project: { labels: labels(this.projectLabels) }, comments: { nodes: [{ body: 'I saw it, too.', user: { name: 'Bob' } }] } } } })
      answer({ errors: [{ message: 'Cannot query field' }] }, 400)
    })
    this.server.listen(0, '127.0.0.1')
    await once(this.server, 'listening')
    atEnd(t, () => { this.server.closeAllConnections(); this.server.close() })
    return this
  }
  // Its authorization server: a refresh token is taken once, and gives another.
  grant(req, form, res) {
    const answer = (status, body) => { res.writeHead(status, { 'content-type': 'application/json' }); res.end(JSON.stringify(body)) }
    this.grantsAsked.push(Object.fromEntries(form))
    if (this.interfereGrant?.(form, res)) return
    if (form.get('client_id') !== 'lin-id' || form.get('client_secret') !== 'lin-secret/+&') return answer(401, { error: 'invalid_client' })
    const key = form.get(form.get('grant_type') === 'authorization_code' ? 'code' : 'refresh_token')
    if (!this.grants.get(key)) return answer(400, { error: 'invalid_grant' })
    this.grants.set(key, this.grants.get(key) - 1)
    this.token = `lin_${randomUUID()}`
    const refresh = `ref_${randomUUID()}`
    this.grants.set(refresh, 1)
    this.lastRefresh = refresh
    answer(200, { access_token: this.token, token_type: 'Bearer', expires_in: this.lives, scope: 'read write', refresh_token: refresh })
  }
  settings(dir, repo) {
    const file = (name, text) => { fs.writeFileSync(path.join(dir, name), text + '\n'); return `${dir}/${name}` }
    if (this.oauth) return `\n[linear]\nwebhook_secret_file = "${file('linear-secret', this.secret)}"\nclient_id = "lin-id"\nclient_secret_file = "${file('linear-client', 'lin-secret/+&')}"\n${this.oauth === true ? '' : `refresh_token_file = "${file('linear-refresh', this.oauth)}"\n`}api_url = "${this.url}/graphql"\ntoken_url = "${this.url}/oauth/token"\n${repo ? `default_repo = "${repo}"\n` : ''}`
    fs.writeFileSync(path.join(dir, 'linear-token'), this.token)
    fs.writeFileSync(path.join(dir, 'linear-secret'), this.secret)
    return `\n[linear]\nwebhook_secret_file = "${dir}/linear-secret"\ntoken_file = "${dir}/linear-token"\napi_url = "http://127.0.0.1:${this.server.address().port}/graphql"\n${repo ? `default_repo = "${repo}"\n` : ''}`
  }
  get url() { return `http://127.0.0.1:${this.server.address().port}` }
  comment(body, { id = `c-${randomUUID()}`, parent, user = 'u-ann', at = Date.now(), action = 'create', ...more } = {}) {
    return { type: 'Comment', action, organizationId: 'org-1', webhookTimestamp: at, createdAt: new Date().toISOString(), data: { id, body, issueId: 'issue-1', ...(parent ? { parentId: parent } : {}), userId: user, user: { id: user, name: 'Ann' }, issue: { id: 'issue-1', title: 'The greeting is wrong' }, ...more } }
  }
  event({ action = 'created', session = `s-${randomUUID()}`, comment, prompt, signal, user = 'u-ann', description = 'It says hello.', at = Date.now(), ...more }) {
    return { type: 'AgentSessionEvent', action, organizationId: 'org-1', webhookTimestamp: at, createdAt: new Date().toISOString(),
      agentSession: { id: session, creatorId: user, creator: { id: user, name: 'Ann' }, issue: { id: 'issue-1', identifier: 'ENG-7', title: 'The greeting is wrong', description, url: 'https://linear.app/x/issue/ENG-7' }, ...(comment ? { comment: { id: more.commentId ?? `c-${randomUUID()}`, body: comment, userId: user } } : {}) },
      ...(prompt !== undefined ? { agentActivity: { id: randomUUID(), userId: user, content: { type: 'prompt', body: prompt }, ...(signal ? { signal } : {}) } } : {}), ...more }
  }
  signed(event, id = randomUUID()) {
    const body = JSON.stringify(event)
    return { body, key: null, headers: { 'content-type': 'application/json', 'linear-delivery': id, 'linear-event': event.type, 'linear-signature': createHmac('sha256', this.secret).update(body).digest('hex') } }
  }
  said(type, what) { return this.activities.find(a => a.content.type === type && what.test(a.content.body)) }
}

async function start(t, { policy, repo = true, oauth = false, prepare } = {}) {
  const linear = await new Linear().start(t)
  Object.assign(linear, { oauth })
  await prepare?.(linear)
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
  await send({ type: 'OAuthApp', action: 'revoked', organizationId: 'org-1', oauthClientId: 'x', webhookTimestamp: Date.now() })
  await until('it is said', () => /linear\.broken organisation="org-1" reason="the workspace has revoked/.test(pool.server.stderr))
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
    if (refused++ === 0) answer({ errors: [{ message: 'Rate limit exceeded', extensions: { code: 'RATELIMITED' } }] }, 400, { 'retry-after': '1' })
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

test('the plan of a run, whole each time, with what it came to in the end; a question waits for its answer, which continues the agent', async t => {
  const { pool, linear, send, says } = await start(t), gate = `${pool.dir}/gate`
  await pool.worker()
  const todos = (...l) => tool('todo_write', { merge: false, todos: l.map(([content, status], i) => ({ id: String(i), content, status })) })
  await send(linear.event({ session: 's-1', comment: `${todos(['look', 'completed'], ['mend', 'in_progress'], ['test', 'pending'], ['drop', 'cancelled'])}${sh(`until [ -e ${gate} ]; do sleep 0.1; done`)}${todos(['look', 'completed'], ['mend', 'completed'])}${tool('ask_question', { question: 'Which greeting do you want, @ann?' })}` }))
  const first = await until(`a plan; ${pool.server.stderr.slice(-500)}`, () => linear.plans[0], 30)
  assert.deepEqual(first, { id: 's-1', input: { plan: [{ content: 'look', status: 'completed' }, { content: 'mend', status: 'inProgress' }, { content: 'test', status: 'pending' }, { content: 'drop', status: 'canceled' }] } })
  fs.writeFileSync(gate, '')
  await says('elicitation', /^Which greeting do you want/)
  assert.deepEqual(linear.plans.at(-1).input.plan.map(p => p.status), ['completed', 'completed'])
  assert.equal(linear.activities.filter(a => ['response', 'error'].includes(a.content.type)).length, 0)
  await send(linear.event({ action: 'prompted', session: 's-1', prompt: sh('echo "good day" > README.md') }))
  await says('response', /1 of 1 steps succeeded/)
  assert.equal((await agents(pool)).length, 1)
  assert.match((await pool.http('GET', `/v0/agents/${(await agents(pool))[0].id}/conversation`)).text, /good day/)
})

test('comments outside of sessions: a mention by name or word is answered by a reply that is changed; its thread goes on; machines, edits and others start nothing', async t => {
  const { pool, linear, send } = await start(t)
  await pool.worker()
  const done = n => until(`${n} are done: ${JSON.stringify(linear.comments)} ${pool.server.stderr.slice(-800)}`, () => linear.comments.filter(c => /What I did/.test(c.body)).length === n, 30)
  const e = linear.comment(`@bull-pen please\n${sh('echo changed > README.md')}`, { id: 'c-root' }), id = randomUUID()
  await send(e, id)
  await send(e, id)
  await send(e)
  await done(1)
  const [c] = linear.comments
  assert.deepEqual([c.issueId, c.parentId, linear.comments.length, linear.activities.length], ['issue-1', 'c-root', 1, 0])
  assert.match(c.versions[0], new RegExp(`^I am on it: ${pool.url}/agents/bc-`))
  assert.match(c.body, /1 of 1 steps succeeded/)
  assert.deepEqual(linear.updates, [{ id: 'issue-1', input: { stateId: 'first' } }])
  const [{ id: agent }] = await agents(pool), talk = (await pool.http('GET', `/v0/agents/${agent}/conversation`)).text
  assert.ok(/quoted from ENG-7/.test(talk) && talk.includes('I saw it, too.') && !talk.includes('@bull-pen'), talk)
  // In the thread it goes on; the reply was removed meanwhile, so there is a new one.
  linear.interfere = (query, variables) => { if (query.includes('commentUpdate')) linear.comments = linear.comments.filter(c => c.id !== variables.id); return false }
  await send(linear.comment(`and again @cursor ${sh('true')}`, { parent: 'c-root' }))
  await done(2)
  linear.interfere = null
  assert.equal((await agents(pool)).length, 1)
  // Nobody's business: without a mention, by ourselves, by a machine, edited, another's name, without an author.
  for (const [body, how] of [['no mention', {}], ['@bull-pen go', { user: 'u-bot' }], ['@bull-pen go', { botActor: { id: 'b', type: 'integration' } }], ['@bull-pen go', { action: 'update' }], ['@bull-pen-two and x@bull-pen go', {}], ['`@bull-pen` go', {}], ['@bull-pen go', { user: null }]]) await send(linear.comment(body, how))
  await send(linear.comment('@Bullpen go', { user: 'u-eve' }))
  await until('she is told how', () => linear.comments.some(c => /^Connect your account to start agents/.test(c.body)))
  assert.equal((await agents(pool)).length, 1)
})

test('a comment that begins an agent session, too, is answered once, whichever event comes first', async t => {
  const { pool, linear, send, says } = await start(t)
  await pool.worker()
  // The session first: its comment is left to it.
  await send(linear.event({ session: 's-1', comment: `@bull-pen\n${sh('true')}`, commentId: 'c-1' }))
  await send(linear.comment(`@bull-pen\n${sh('true')}`, { id: 'c-1' }))
  await says('response', /1 of 1 steps succeeded/)
  // The comment first: it waits for the session that this workspace has.
  await send(linear.comment(`@bull-pen\n${sh('true')}`, { id: 'c-2' }))
  await send(linear.event({ session: 's-2', comment: `@bull-pen\n${sh('true')}`, commentId: 'c-2' }))
  await until('the second is answered', () => linear.activities.some(a => a.agentSessionId === 's-2' && a.content.type === 'response' && /1 of 1/.test(a.content.body)), 30)
  // A session that comes when the comment is answered says so.
  await send(linear.comment(`@bull-pen\n${sh('true')}`, { id: 'c-3' }))
  await until('it is answered by a reply', () => linear.comments.some(c => c.parentId === 'c-3'), 30)
  await send(linear.event({ session: 's-3', comment: `@bull-pen\n${sh('true')}`, commentId: 'c-3' }))
  await until('the session says where', () => linear.activities.some(a => a.agentSessionId === 's-3' && a.content.type === 'response' && /in the comments/.test(a.content.body)), 30)
  await send(linear.event({ action: 'prompted', session: 's-2', prompt: sh('true'), commentId: 'c-4' }))
  assert.deepEqual([(await agents(pool)).length, linear.comments.filter(c => c.parentId !== 'c-3').length], [3, 0])
})

// A server whose token is renewed: by the refresh token of a file, or by the one that the browser of an administrator brought.
test('tokens that are renewed: before they end, when Linear refuses one, each refresh token once, through a crash', async t => {
  const { pool, linear, send, says } = await start(t, { oauth: 'ref_first', prepare: l => { l.grants.set('ref_first', 1); l.token = 'none yet' } })
  await pool.worker()
  const said = n => until(`answer ${n}; ${JSON.stringify(linear.grantsAsked)} ${pool.server.stderr.slice(-800)}`, () => linear.activities.filter(a => a.content.type === 'response').length === n, 60)
  const mention = session => send(linear.event({ session, comment: sh('true') }))
  await mention('s-1')
  await said(1)
  assert.deepEqual(linear.grantsAsked.map(({ grant_type, refresh_token }) => [grant_type, refresh_token]), [['refresh_token', 'ref_first']])
  // Linear does not take it any more: it is renewed once, with the refresh token that came with it.
  const second = linear.lastRefresh
  linear.token = 'revoked'
  await mention('s-2')
  await said(2)
  assert.deepEqual([linear.grantsAsked.length, linear.grantsAsked[1].refresh_token], [2, second])
  // The store has it: another process goes on from there, and the file's is not asked again.
  await pool.stop()
  await pool.restart()
  await mention('s-3')
  await said(3)
  assert.equal(linear.grantsAsked.length, 2)
  for (const f of fs.readdirSync(pool.data).filter(f => /\.db/.test(f))) assert.ok(!fs.readFileSync(path.join(pool.data, f)).includes(linear.lastRefresh) && !fs.readFileSync(path.join(pool.data, f)).includes(linear.token), f)
  // The server dies when Linear has given new ones and before they are kept: the old one is taken once more within the time that Linear grants.
  linear.lives = 60
  linear.token = 'revoked'
  linear.grants.set(linear.lastRefresh, 3)
  const third = linear.lastRefresh
  linear.interfereGrant = form => { if (form.get('refresh_token') !== third || linear.died) return false; linear.died = true; process.kill(pool.server.pid, 'SIGKILL'); return false }
  await mention('s-4')
  await until('it died', () => !pool.server.alive)
  await pool.restart()
  linear.lives = 86400
  await said(4)
  assert.equal(linear.grantsAsked[3].refresh_token, third)
  // Another token in the file is another beginning.
  linear.grants.set('ref_new', 1)
  fs.writeFileSync(path.join(pool.dir, 'linear-refresh'), 'ref_new\n')
  await pool.stop()
  await pool.restart()
  await mention('s-5')
  await said(5)
  assert.equal(linear.grantsAsked.at(-1).refresh_token, 'ref_new')
  // Tokens of a minute are renewed before each use, by one of those who need them at once.
  linear.lives = 60
  linear.token = 'revoked'
  await mention('s-6')
  await said(6)
  const used = linear.grantsAsked.slice(5).map(g => g.refresh_token)
  assert.equal(new Set(used).size, used.length, 'each refresh token is used once')
})

test('bullpen admin connect linear leads through it: the address, the answer, the token that is kept; nothing else is taken', async t => {
  const { pool, linear, send, says } = await start(t, { oauth: true, prepare: l => { l.token = 'none yet' } })
  await pool.worker()
  const connect = (...more) => run(t, programs.bullpen, ['admin', 'connect', 'linear', '--config', pool.configFile, '--url', pool.url, ...more])
  await send(linear.event({ session: 's-1', comment: sh('true') }))
  await until('it says that it is not connected', () => /not connected/.test(JSON.stringify(sql(pool, 'SELECT error FROM outbox'))))
  const first = await connect('--data', pool.data), url = new URL(first.stdout.match(/https:\/\/linear\.app\/oauth\/authorize\S+/)[0])
  assert.deepEqual(['client_id', 'redirect_uri', 'response_type', 'actor', 'scope'].map(k => url.searchParams.get(k)), ['lin-id', `${pool.url}/link`, 'code', 'app', 'read,write,app:assignable,app:mentionable'])
  linear.grants.set('code-1', 1)
  const answer = state => `${pool.url}/link?code=code-1&state=${encodeURIComponent(state)}`
  for (const [bad, want] of [[answer('x'), /does not answer an address of this command/], [answer(url.searchParams.get('state').slice(0, -2)), /does not answer/], [`${pool.url}/link?code=code-1`, /does not answer/], [`${pool.url}/link?error=access_denied&state=${encodeURIComponent(url.searchParams.get('state'))}`, /no code: Linear says access_denied/]]) {
    const p = await connect('--data', pool.data, '--answer', bad)
    assert.deepEqual([p.code, p.stderr.trim().split('\n').length], [2, 1], p.stderr)
    assert.match(p.stderr, want)
  }
  assert.match((await connect('--answer', answer('x'))).stderr, /--answer needs --data DIR/)
  assert.equal(linear.grantsAsked.length, 0)
  const good = await connect('--data', pool.data, '--answer', answer(url.searchParams.get('state')))
  assert.equal(good.code, 0, good.stdout + good.stderr)
  assert.match(good.stdout, /^ok .*Linear is connected/m)
  assert.deepEqual([linear.grantsAsked[0].grant_type, linear.grantsAsked[0].redirect_uri], ['authorization_code', `${pool.url}/link`])
  // The server that runs has it, and what waited is said.
  await says('response', /1 of 1 steps succeeded/)
  const again = await connect('--data', pool.data, '--answer', answer(url.searchParams.get('state')))
  assert.match(again.stdout, /^missing .*answered 400, invalid_grant$/m)
  const checked = await connect('--data', pool.data)
  assert.match(checked.stdout, /^ok .*knows us as Bullpen \(u-bot\)/m)
  assert.match((await run(t, programs.bullpen, ['admin', 'audit', '--data', pool.data])).stdout, /service_connected/)
  const bare = await connect()
  assert.match(bare.stdout, /^missing .*--data DIR/m)
})

test('settings of Linear that cannot be are refused by name', async t => {
  const pool = await bullpen(t, { start: false }), good = fs.readFileSync(pool.configFile, 'utf8'), secret = `${pool.dir}/s`
  fs.writeFileSync(secret, 'x\n')
  for (const [lines, want] of [['token_file = "X"', /webhook_secret_file is missing/], ['webhook_secret_file = "X"', /token_file is missing, or client_id/], ['webhook_secret_file = "X"\nclient_id = "a"', /client_secret_file is missing/], ['webhook_secret_file = "X"\ntoken_file = "X"\nclient_id = "a"\nclient_secret_file = "X"', /exclude each other/], ['webhook_secret_file = "X"\ntoken_file = "X"\ntoken_url = "x"', /linear\.token_url must be a URL/], ['webhook_secret_file = "X"\ntoken_file = "X"\ncomments = "yes"', /linear\.comments/]]) {
    fs.writeFileSync(pool.configFile, `${good}\n[linear]\n${lines.replaceAll('X', secret)}\n`)
    const p = await run(t, programs.bullpen, ['serve', '--config', pool.configFile, '--listen', '127.0.0.1:0', '--data', pool.data])
    assert.deepEqual([p.code, p.stderr.trim().split('\n').length], [2, 1], p.stderr)
    assert.match(p.stderr, want)
  }
})

test('which repository: the comment, a label of the issue, of its project, the settings; and nothing else', async t => {
  const { pool, linear, send } = await start(t)
  const origin = await pool.origin()
  const chosen = async comment => {
    const n = (await agents(pool)).length
    await send(linear.event({ comment }))
    return until(`it is taken: ${JSON.stringify(linear.activities.at(-1))}`, async () => { const list = await agents(pool); return list.length > n && (await pool.http('GET', `/v1/agents/${list[0].id}`)).json.repos[0].url })
  }
  linear.labels = [['Repo', 'acme/of-issue'], ['repo', 'acme/a-first'], ['size', 'acme/none'], ['', 'acme/none']]
  linear.projectLabels = [['repo', 'acme/of-project']]
  assert.equal(await chosen('repo=acme/of-comment go'), 'https://github.com/acme/of-comment')
  assert.equal(await chosen('go'), 'https://github.com/acme/a-first', 'of two labels of a group the first by name')
  linear.labels = [['size', 'acme/none']]
  assert.equal(await chosen('go'), 'https://github.com/acme/of-project')
  linear.projectLabels = []
  assert.equal(await chosen('go'), origin.url)
})
