// The table "Who can do what" of docs/operating.md, read as it stands there, each cell against a running server.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, root, until } from './lib.mjs'
import { isError, isV0Error } from './api-help.mjs'
import { Peer } from './peer.mjs'
import { FLEET, Watch, isFleetError } from './fleet-help.mjs'

const body = { prompt: { text: 'hi' }, repos: [{ url: 'https://git.example.test/acme/web' }] }
const missing = 'bc-00000000-0000-4000-8000-000000000000'

// [{ routes: [name], scope, cells: { column: word } }]
function table() {
  const text = fs.readFileSync(path.join(root, 'docs/operating.md'), 'utf8').split('### Who can do what')[1].split('\n### ')[0]
  const lines = text.split('\n').filter(l => l.startsWith('|')).map(l => l.split('|').slice(1, -1).map(c => c.trim()))
  const [head, , ...rows] = lines
  return rows.map(r => ({ routes: r[0].split(', ').map(n => n.replaceAll('`', '')), scope: r[1].replaceAll('`', ''), cells: Object.fromEntries(head.slice(2).map((h, i) => [h.replaceAll('`', ''), r[i + 2]])) }))
}

test('every cell of the table is what the server does', async t => {
  const pool = await bullpen(t, { config: '[server]\npublic_url = "https://bullpen.example.test"\n' })
  const key = (type, name, scopes) => pool.createKey(type, name, type === 'user' ? `${name}@example.test` : null, scopes)
  const columns = {
    'user\'s key': await key('user', 'ann'), 'service account\'s key': await key('service_account', 'bot'),
    'with agents:team': await key('service_account', 'fleet', 'agents:read,agents:write,agents:team,models:read'),
    'machine\'s key': await key('service_account', 'machine', 'workers:connect'), 'no key': null,
  }
  const others = [await key('user', 'ben'), await key('service_account', 'another')]
  const rows = table()
  assert.ok(rows.length >= 10)
  const names = (await pool.http('GET', '/openapi.yaml', { key: null })).text.match(/operationId"?: "?\w+/g).map(s => s.match(/\w+$/)[0])
  assert.deepEqual(rows.flatMap(r => r.routes).filter(n => !n.startsWith('connecting ')).sort(), names.sort(), 'the table has every route')

  // A fresh agent with its run: a cancelled one has a stream that ends.
  const agentOf = async (k, { cancelled } = {}) => {
    const r = await pool.http('POST', '/v1/agents', { body, key: k })
    assert.equal(r.status, 201, r.text)
    const a = { id: r.json.agent.id, run: r.json.run.id }
    if (cancelled) assert.equal((await pool.http('POST', `/v1/agents/${a.id}/runs/${a.run}/cancel`, { key: k })).status, 200)
    return a
  }
  // What the fleet's routes act on: a worker, requests that wait, claims.
  const poolKey = columns['service account\'s key']
  await Peer.connected(t, pool, { workerId: 'w-table', key: poolKey, hello: { pool: 'table' } })
  assert.equal((await pool.http('POST', `${FLEET}/pools`, { body: { scope: 'team', poolName: 'waits' }, key: poolKey })).status, 200)
  const waits = {}
  for (const [i, name] of ['claim', 'token', 'release', 'fail'].entries()) {
    const r = await pool.http('POST', '/v1/agents', { body: { ...body, env: { type: 'pool', name: 'waits' } }, key: poolKey })
    waits[name] = r.json.agent.id
    if (i > 0) assert.equal((await pool.http('POST', `${FLEET}/claim`, { body: { id: waits[name], workerId: `ctrl-${i + 1}` }, key: poolKey })).status, 200)
  }
  const cursor = (await pool.http('GET', `${FLEET}/pending-requests`, { key: poolKey })).json.streamCursor
  let servers = 0
  const isV0 = name => name.startsWith('v0') || name.endsWith('V0')
  const refused = (r, name, what, pattern) => isV0(name) ? isV0Error(r, 403, what, pattern) : of[name]({ id: missing, run: 'run-x' })[1].startsWith(FLEET) ? isFleetError(r, 403, 'Forbidden', pattern) : isError(r, 403, what, pattern)
  const of = {
    pageHome: () => ['GET', '/'], pageLogin: () => ['GET', '/login'], pageAgents: () => ['GET', '/agents'], pageAgent: () => ['GET', `/agents/${missing}`], pageFleet: () => ['GET', '/fleet'], pageLink: () => ['GET', '/link'], pageSettings: () => ['GET', '/settings'], pageSettingsOf: () => ['GET', '/settings/keys'],
    getDashboardFile: () => ['GET', '/assets/app.js'], signIn: () => ['POST', '/v1/session', { apiKey: 'nobody\'s' }], signOut: () => ['DELETE', '/v1/session'], getSession: () => ['GET', '/v1/session'], getLoginWays: () => ['GET', '/v1/login'], beginOidc: () => ['GET', '/v1/login/oidc'], oidcCallback: () => ['GET', '/v1/login/oidc/callback?state=none'], getFleetHistory: () => ['GET', '/v1/fleet/history'],
    getHealth: () => ['GET', '/healthz'], getReadiness: () => ['GET', '/readyz'], getOpenapi: () => ['GET', '/openapi.yaml'], getMe: () => ['GET', '/v1/me'],
    listAgents: () => ['GET', '/v1/agents'], createAgent: () => ['POST', '/v1/agents', body], listModels: () => ['GET', '/v1/models'], listRepositories: () => ['GET', '/v1/repositories'], getMetrics: () => ['GET', '/metrics'],
    getAgent: a => ['GET', `/v1/agents/${a.id}`], listRuns: a => ['GET', `/v1/agents/${a.id}/runs`], getRun: a => ['GET', `/v1/agents/${a.id}/runs/${a.run}`],
    getUsage: a => ['GET', `/v1/agents/${a.id}/usage`], streamRun: a => ['GET', `/v1/agents/${a.id}/runs/${a.run}/stream`],
    listArtifacts: a => ['GET', `/v1/agents/${a.id}/artifacts`], listArtifactsV0: a => ['GET', `/v0/agents/${a.id}/artifacts`],
    downloadArtifact: a => ['GET', `/v1/agents/${a.id}/artifacts/download?path=artifacts/x`], downloadArtifactV0: a => ['GET', `/v0/agents/${a.id}/artifacts/download?path=/opt/cursor/artifacts/x`],
    getArtifactFile: () => ['GET', `/v1/artifact-files/${missing.slice(3)}?expires=9999999999999&signature=x`],
    getPublicArtifact: () => ['GET', `/public/artifacts/${'0'.repeat(64)}`], listPublicArtifacts: a => ['GET', `/v1/agents/${a.id}/public-artifacts`], revokePublicArtifacts: a => ['DELETE', `/v1/agents/${a.id}/public-artifacts`],
    announceArtifact: () => ['POST', '/v1/artifact-uploads', { path: 'artifacts/x', sizeBytes: 0, sha256: 'x' }], uploadArtifact: () => ['PUT', `/v1/artifact-uploads/${missing.slice(3)}?offset=0`, Buffer.from('x')],
    getTeamRules: () => ['GET', '/v1/rules'], putTeamRules: () => ['PUT', '/v1/rules', { rules: [] }],
    getPolicy: () => ['GET', '/v1/policy'], putPolicy: () => ['PUT', '/v1/policy', {}], listUsers: () => ['GET', '/v1/users'], putUserRole: () => ['PUT', '/v1/users/1/role', { role: 'admin' }], getAuditLog: () => ['GET', '/v1/audit-log'],
    listServiceAccounts: () => ['GET', '/v1/service-accounts'], createServiceAccount: () => ['POST', '/v1/service-accounts', { name: 'x' }], archiveServiceAccount: () => ['POST', '/v1/service-accounts/x/archive'],
    listServiceAccountKeys: () => ['GET', '/v1/service-accounts/x/keys'], createServiceAccountKey: () => ['POST', '/v1/service-accounts/x/keys', { name: 'x' }],
    listApiKeys: () => ['GET', '/v1/api-keys'], createApiKey: () => ['POST', '/v1/api-keys', { name: 'x' }], revokeApiKey: () => ['DELETE', '/v1/api-keys/x'], rotateApiKey: () => ['POST', '/v1/api-keys/x/rotate'],
    getUserRules: () => ['GET', '/v1/user-rules'], putUserRules: () => ['PUT', '/v1/user-rules', { text: '' }],
    getTeamHooks: () => ['GET', '/v1/hooks'], putTeamHooks: () => ['PUT', '/v1/hooks', { hooks: {} }],
    listAutomations: () => ['GET', '/v1/automations'], createAutomation: () => ['POST', '/v1/automations', { name: 'x', prompt: 'x' }],
    getAutomation: () => ['GET', `/v1/automations/auto-${missing.slice(3)}`], listAutomationRuns: () => ['GET', `/v1/automations/auto-${missing.slice(3)}/runs`], changeAutomation: () => ['PATCH', `/v1/automations/auto-${missing.slice(3)}`, {}],
    deleteAutomation: () => ['DELETE', `/v1/automations/auto-${missing.slice(3)}`], runAutomation: () => ['POST', `/v1/automations/auto-${missing.slice(3)}/run`],
    listTeamWebhooks: () => ['GET', '/v1/webhooks'], createTeamWebhook: () => ['POST', '/v1/webhooks', { url: 'https://hooks.example.test/x' }], deleteTeamWebhook: () => ['DELETE', '/v1/webhooks/wh-none'],
    listTeamWebhookDeliveries: () => ['GET', '/v1/webhooks/wh-none/deliveries'], redeliverTeamWebhook: () => ['POST', '/v1/webhooks/wh-none/deliveries/out-none/redeliver'],
    takeAccountLink: () => ['POST', '/v1/account-links', { token: 'none' }], receiveWebhook: () => ['POST', '/webhooks/github', {}],
    createSubToken: () => ['POST', '/v1/sub-tokens', { forUserEmail: 'ann@example.test' }], createWorkerToken: () => ['POST', '/v0/worker-tokens'],
    listPrivateWorkers: () => ['GET', FLEET], getPrivateWorkersSummary: () => ['GET', `${FLEET}/summary`], getPrivateWorker: () => ['GET', `${FLEET}/w-table`],
    drainPrivateWorker: () => ['POST', `${FLEET}/w-table/drain`],
    listPrivateWorkerPools: () => ['GET', `${FLEET}/pools`], registerPrivateWorkerPool: () => ['POST', `${FLEET}/pools`, { scope: 'team', poolName: 'gpu' }], deregisterPrivateWorkerPool: () => ['DELETE', `${FLEET}/pools?scope=team&pool_name=none`],
    listPendingRequests: () => ['GET', `${FLEET}/pending-requests`], watchPendingRequests: () => ['GET', `${FLEET}/pending-requests/stream?cursor=${cursor}`],
    claimPendingRequest: () => ['POST', `${FLEET}/claim`, { id: waits.claim, workerId: 'ctrl-1' }], createSessionToken: () => ['POST', `${FLEET}/tokens`, { id: waits.token, workerId: 'ctrl-2' }],
    releaseClaim: () => ['POST', `${FLEET}/claims/${waits.release}/release`], failClaim: () => ['POST', `${FLEET}/claims/${waits.fail}/fail`, { message: 'none' }],
    listMcpServers: () => ['GET', '/v1/mcp-servers'], createMcpServer: () => ['POST', '/v1/mcp-servers', { name: `n${++servers}`, command: '/bin/true' }], deleteMcpServer: () => ['DELETE', '/v1/mcp-servers/mcp-none'],
    testMcpServer: () => ['POST', '/v1/mcp-servers/mcp-none/test'], beginMcpLogin: () => ['POST', '/v1/mcp-servers/mcp-none/login'], endMcpLogin: () => ['DELETE', '/v1/mcp-servers/mcp-none/login'],
    getMcpLogin: () => ['GET', '/v1/mcp-logins/login-none'], confirmMcpLogin: () => ['POST', '/v1/mcp-logins/login-none/confirm', { code: 'x' }],
    mcpOauthCallback: () => ['GET', '/agents/mcp/oauth/callback?state=none'], getMcpClientDocument: () => ['GET', '/.well-known/mcp-client.json'],
    putSharing: a => ['PUT', `/v1/agents/${a.id}/sharing`, { visibility: 'team' }],
    archiveAgent: a => ['POST', `/v1/agents/${a.id}/archive`], unarchiveAgent: a => ['POST', `/v1/agents/${a.id}/unarchive`], deleteAgent: a => ['DELETE', `/v1/agents/${a.id}`],
    v0GetMe: () => ['GET', '/v0/me'], v0ListModels: () => ['GET', '/v0/models'], v0ListRepositories: () => ['GET', '/v0/repositories'],
    v0ListAgents: () => ['GET', '/v0/agents'], v0CreateAgent: () => ['POST', '/v0/agents', { prompt: body.prompt, source: { repository: body.repos[0].url }, usePrivateWorker: true }],
    v0GetAgent: a => ['GET', `/v0/agents/${a.id}`], v0GetConversation: a => ['GET', `/v0/agents/${a.id}/conversation`], v0DeleteAgent: a => ['DELETE', `/v0/agents/${a.id}`],
    v0AddFollowup: a => ['POST', `/v0/agents/${a.id}/followup`, { prompt: { text: 'more' } }], v0StopAgent: a => ['POST', `/v0/agents/${a.id}/stop`],
    createRun: a => ['POST', `/v1/agents/${a.id}/runs`, { prompt: { text: 'more' } }], cancelRun: a => ['POST', `/v1/agents/${a.id}/runs/${a.run}/cancel`],
  }
  const ask = (name, k, a) => { const [method, p, b] = of[name](a ?? { id: missing, run: 'run-x' }); return pool.http(method, p, { key: k, body: b, headers: b instanceof Uint8Array ? { 'content-type': 'application/octet-stream' } : {} }) }
  // Of the fresh agents none has the artifact: that this is said shows that the agent is seen.
  // That the server, or login, is looked for shows that the key may.
  const isDone = (r, what) => /^(get|change|delete|run)Automation |^listAutomationRuns /.test(what) ? isError(r, 404, 'automation_not_found') : /^(delete|test|begin|end|get|confirm)Mcp/.test(what) ? isError(r, 404, /Login with/.test(what) && /^(get|confirm)/.test(what) ? 'mcp_login_not_found' : 'mcp_server_not_found') : what.startsWith('downloadArtifact') ? (what.startsWith('downloadArtifactV0') ? isV0Error : isError)(r, 404, 'artifact_not_found') : assert.ok(r.status >= 200 && r.status < 300, `${what}: ${r.status} ${r.text}`)
  const isHidden = async (name, k, a, what) => {
    const r = await ask(name, k, a), none = await ask(name, k, { id: missing, run: a.run })
    ;(isV0(name) ? isV0Error : isError)(r, 404, 'agent_not_found')
    assert.equal(r.text.replaceAll(a.id, missing), none.text, `${what}: as for an id that nobody has`)
  }
  let cells = 0
  for (const row of rows) for (const name of row.routes) for (const [column, word] of Object.entries(row.cells)) {
    const k = columns[column], what = `${name} with ${column}: ${word}`
    assert.notEqual(k, undefined, column)
    cells++
    if (name.startsWith('connecting ')) {
      const p = new Peer(t, pool, { key: k, hello: { personal: name.endsWith('machine') } })
      await p.connect()
      assert.equal(p.welcomes.length === 1, word === 'yes', what)
      p.drop()
      continue
    }
    const fresh = o => agentOf(o, { cancelled: name !== 'cancelRun' && name !== 'v0StopAgent' })
    const needsAgent = of[name].length === 1
    if (word === '401' && of[name]({ id: missing })[1].startsWith(FLEET)) isFleetError(await ask(name, k), 401, 'Unauthorized')
    else if (word === '401') (isV0(name) ? isV0Error : isError)(await ask(name, k), 401, 'unauthorized')
    else if (word === 'by body') isError(await ask(name, k), 401, 'unauthorized')
    else if (word === 'link') isError(await ask(name, k), 403, 'link_not_valid')
    else if (word === 'address') isError(await ask(name, k), 404, 'artifact_not_found')
    else if (word === 'token') isError(await ask(name, k), 401, 'unauthorized')
    // No forge is in the settings of this server.
    else if (word === 'signature') isError(await ask(name, k), 404, 'not_found')
    else if (name === 'takeAccountLink' && word === 'yes') isError(await ask(name, k), 404, 'not_found', /link was used/)
    else if (word === 'page') assert.equal((await ask(name, k)).status, name === 'mcpOauthCallback' ? 400 : 404, what)
    else if (word === '403 ‡') refused(await ask(name, k), name, 'user_required', /person/)
    else if (word === '403 §') refused(await ask(name, k), name, 'key_not_supported', /dashboard/)
    else if (word === '403 †') refused(await ask(name, k), name, 'service_account_required', /service account/)
    else if (word === '403') refused(await ask(name, k, needsAgent ? await fresh(others[0]) : undefined), name, 'scope_required', new RegExp(row.scope))
    else if (name === 'watchPendingRequests') {
      const w = await Watch.open(pool, `?cursor=${cursor}`, { key: k })
      assert.equal(w.status, 200, what)
      w.close()
    }
    else if (name === 'listAgents' || name === 'v0ListAgents') {
      const mine = await agentOf(k), theirs = await agentOf(others[0])
      const r = await ask(name, k)
      isDone(r, what)
      const ids = (r.json.items ?? r.json.agents).map(a => a.id)
      assert.ok(ids.includes(mine.id) && !ids.includes(theirs.id), what)
    } else if (!needsAgent) {
      isDone(await ask(name, k), what)
    } else {
      isDone(await ask(name, k, await fresh(k)), what)
      for (const o of others) {
        const a = await fresh(o)
        if (word === 'team') isDone(await ask(name, k, a), what)
        else await isHidden(name, k, a, what)
        if (name === 'cancelRun' && word === 'own') assert.equal((await pool.http('GET', `/v1/agents/${a.id}/runs/${a.run}`, { key: o })).json.status, 'CREATING', 'it was not cancelled')
      }
    }
  }
  assert.equal(cells, 115 * 5 + 2 * 5)
  await until('the log is quiet', () => !/ERROR/.test(pool.server.stderr))
})
