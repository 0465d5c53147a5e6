// Errors as the official SDK shows them: classes, codes, request ids; and what is not lost by them.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { bullpen } from '../lib.mjs'
import { UUID } from '../api-help.mjs'
import { both, sdkCall, tap, value } from './help.mjs'

const url = 'https://git.example.test/acme/web'
const pick = r => [r.error?.class, r.error?.code, r.error?.status, r.error?.isRetryable]

both('errors arrive as the classes that the library documents', async (t, gen) => {
  const pool = await bullpen(t, { config: '[limits]\nreads_per_minute = 100000\nmutations_per_minute = 4\n' })
  const bad = await sdkCall(t, gen, pool, async sdk => { return sdk.Cursor.me() }, {}, { key: 'crsr_wrong' })
  assert.deepEqual(pick(bad), ['AuthenticationError', 'unauthorized', 401, false])
  assert.match(bad.error.requestId ?? '', UUID)
  assert.equal(bad.error.endpoint, 'GET /v1/me')
  const v = await value(t, gen, pool, async (sdk, input, caught) => {
    const cloud = { repos: [{ url: input.url }] }
    const missing = await caught(() => sdk.Agent.get(input.none))
    const model = await caught(() => sdk.Agent.create({ model: { id: 'gpt-99' }, cloud }))
    const agent = await sdk.Agent.create({ cloud })
    const repo = await caught(async () => (await sdk.Agent.create({ cloud: { repos: [{ url: 'nonsense' }] } })).send('x'))
    await agent.send('first')
    const busy = await caught(() => agent.send('second'))
    const taken = await caught(async () => (await sdk.Agent.create({ agentId: agent.agentId, cloud })).send('x'))
    const limited = await caught(() => agent.send('third'))
    return { missing, model, repo, busy, taken, limited }
  }, { url, none: `bc-${randomUUID()}` })
  assert.deepEqual([v.missing.error.configuration, ...pick(v.missing).slice(1)], [true, 'agent_not_found', 404, false])
  assert.match(v.missing.error.requestId, UUID)
  assert.equal(v.model.error.code, 'invalid_model')
  assert.deepEqual(pick(v.repo).slice(1, 3), ['validation_error', 400])
  assert.deepEqual(pick(v.busy), ['AgentBusyError', 'agent_busy', 409, false])
  assert.deepEqual(pick(v.taken).slice(1, 3), ['agent_id_conflict', 409])
  assert.deepEqual(pick(v.limited), ['RateLimitError', 'rate_limit_exceeded', 429, true])
  const away = await sdkCall(t, gen, pool, async sdk => { return sdk.Cursor.me() }, {}, { url: 'http://127.0.0.1:1' })
  assert.deepEqual([away.error.class, away.error.isRetryable], ['NetworkError', true])
  const scoped = await sdkCall(t, gen, pool, async (sdk, input) => { return sdk.Agent.list({ runtime: 'cloud' }) }, {}, { key: await pool.createKey('service_account', 'narrow', null, 'workers:connect') })
  assert.deepEqual([scoped.error.class, scoped.error.code, scoped.error.status], ['UnknownAgentError', 'scope_required', 403])
})

both('a create that is refused does not keep the id: the same handle sends again', async (t, gen) => {
  const pool = await bullpen(t)
  const v = await value(t, gen, pool, async (sdk, input, caught) => {
    const agent = await sdk.Agent.create({ agentId: input.id, cloud: { repos: [{ url: input.url }] } })
    const refused = [await caught(() => agent.send('')), await caught(() => agent.send({ text: 'x', images: [{ data: 'aGVsbG8=', mimeType: 'image/png' }] }))]
    const run = await agent.send('now')
    return { refused, id: agent.agentId, of: run.agentId, status: run.status }
  }, { url, id: `bc-${randomUUID()}` })
  for (const r of v.refused) assert.deepEqual(pick(r).slice(1, 3), ['validation_error', 400])
  assert.deepEqual([v.of, v.status], [v.id, 'running'])
})

both('an answer to a create that is lost: the agent is there once', async (t, gen) => {
  const pool = await bullpen(t)
  await pool.worker()
  const via = await tap(t, pool)
  let lost = 0
  via.lose = r => r.method === 'POST' && r.url === '/v1/agents' && lost++ === 0
  const v = await value(t, gen, pool, async (sdk, input, caught) => {
    const agent = await sdk.Agent.create({ cloud: { repos: [{ url: input.url }] } })
    const first = await caught(() => agent.send('hello')), second = await caught(() => agent.send('hello'))
    const again = second.error ? undefined : await second.value.wait()
    return { id: agent.agentId, first, second: second.error ? second : {}, again, listed: (await sdk.Agent.list({ runtime: 'cloud' })).items.map(a => a.agentId) }
  }, { url: (await pool.origin()).url }, { url: via.url })
  assert.deepEqual([v.first.error.class, v.first.error.isRetryable], ['NetworkError', true])
  assert.deepEqual(v.listed, [v.id])
  // The newer generation takes the agent over that it finds; the older one says that the id is taken.
  if (gen === '32') assert.equal(v.again.status, 'finished', JSON.stringify(v.second))
  else assert.deepEqual(pick(v.second).slice(1, 3), ['agent_id_conflict', 409])
})

both('the same with an Idempotency-Key: the first answer comes again', async (t, gen) => {
  const pool = await bullpen(t)
  await pool.worker()
  const via = await tap(t, pool)
  let lost = 0
  via.lose = r => r.method === 'POST' && r.url.startsWith('/v1/agents') && lost++ % 2 === 0
  const v = await value(t, gen, pool, async (sdk, input, caught) => {
    const agent = await sdk.Agent.create({ cloud: { repos: [{ url: input.url }] } })
    const twice = async (text, idempotencyKey) => [await caught(() => agent.send(text, { idempotencyKey })), await (await agent.send(text, { idempotencyKey })).wait()]
    const [a, first] = await twice('hello', 'k1'), [b, second] = await twice('more', 'k2')
    return { lost: [a.error, b.error], first, second, runs: (await sdk.Agent.listRuns(agent.agentId, { runtime: 'cloud' })).items.map(r => r.id) }
  }, { url: (await pool.origin()).url }, { url: via.url })
  assert.deepEqual(v.lost.map(e => e.class), ['NetworkError', 'NetworkError'])
  assert.deepEqual([v.first.status, v.second.status], ['finished', 'finished'])
  assert.deepEqual(v.runs, [v.second.id, v.first.id], 'nothing was done twice')
})
