// Which call is legal in which state: the table, cell by cell; that what has ended stays ended; and random walks against a model.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, sh, until } from './lib.mjs'
import { isError, sql } from './api-help.mjs'

const REPO = 'https://git.example.test/acme/web'
const prompt = { text: 'x' }
const call = (pool, method, p, body) => pool.http(method, p, { body })
const agentOf = async (pool, id) => (await call(pool, 'GET', `/v1/agents/${id}`)).json

// An agent with one run that waits, brought into a state.
const into = {
  CREATING: async () => {},
  RUNNING: async (pool, r) => { await r.status('RUNNING') },
  IDLE: async (pool, r) => { await r.cancel() },
  ARCHIVED: async (pool, r) => { await call(pool, 'POST', `/v1/agents/${r.agentId}/archive`) },
  UNARCHIVED: async (pool, r) => { for (const verb of ['archive', 'unarchive']) await call(pool, 'POST', `/v1/agents/${r.agentId}/${verb}`) },
  DELETED: async (pool, r) => { await call(pool, 'DELETE', `/v1/agents/${r.agentId}`) },
}
const calls = {
  'get': r => ['GET', r.agent], 'list runs': r => ['GET', `${r.agent}/runs`], 'get run': r => ['GET', r.run], 'usage': r => ['GET', `${r.agent}/usage`],
  'create run': r => ['POST', `${r.agent}/runs`, { prompt }], 'cancel': r => ['POST', `${r.run}/cancel`],
  'archive': r => ['POST', `${r.agent}/archive`], 'unarchive': r => ['POST', `${r.agent}/unarchive`], 'delete': r => ['DELETE', r.agent],
}
const reads = ['get', 'list runs', 'get run', 'usage']
// state: { call: [status, code or the agent's status afterwards] }
const busy = { 'create run': [409, 'agent_busy'], cancel: [200, 'IDLE'], archive: [200, 'ARCHIVED'], unarchive: [200, 'ACTIVE'], delete: [200, 'gone'] }
const idle = { 'create run': [201, 'ACTIVE'], cancel: [409, 'run_not_cancellable'], archive: [200, 'ARCHIVED'], unarchive: [200, 'IDLE'], delete: [200, 'gone'] }
const table = {
  CREATING: busy, RUNNING: busy, IDLE: idle, UNARCHIVED: idle,
  ARCHIVED: { 'create run': [409, 'agent_archived'], cancel: [409, 'run_not_cancellable'], archive: [200, 'ARCHIVED'], unarchive: [200, 'IDLE'], delete: [200, 'gone'] },
  DELETED: Object.fromEntries([...Object.keys(calls)].map(c => [c, [404, 'agent_not_found']])),
}
const agentStatus = { CREATING: 'ACTIVE', RUNNING: 'ACTIVE', IDLE: 'IDLE', UNARCHIVED: 'IDLE', ARCHIVED: 'ARCHIVED' }

test('the table of states, cell by cell', async t => {
  const pool = await bullpen(t)
  await pool.worker({ pool: 'work' })
  await pool.createKey('service_account', 'unused') // nothing here depends on who else there is
  let cells = 0
  for (const [state, row] of Object.entries(table)) for (const name of Object.keys(calls)) {
    const r = state === 'RUNNING' ? await pool.run(sh('sleep 300'), { pool: 'work' }) : await pool.run('x', { repo: REPO })
    const what = `${name} while ${state}`
    await into[state](pool, r)
    const at = { agent: `/v1/agents/${r.agentId}`, run: r.path }
    const before = state === 'DELETED' ? null : await r.get()
    const [status, then] = row[name] ?? [200, agentStatus[state]]
    const a = await call(pool, ...calls[name](at))
    assert.equal(a.status, status, `${what}: ${a.text}`)
    cells++
    if (status >= 400) isError(a, status, then)
    if (state === 'DELETED') continue
    if (then === 'gone') isError(await call(pool, 'GET', at.agent), 404, 'agent_not_found')
    else assert.equal((await agentOf(pool, r.agentId)).status, status >= 400 ? agentStatus[state] : then, what)
    if (status === 200 && !reads.includes(name)) assert.deepEqual(a.json, { id: name === 'cancel' ? r.id : r.agentId }, what)
    if (then === 'gone') continue
    // What was said of the run: cancelled by cancel, archive and delete; otherwise as before.
    const after = await r.get()
    if (['CREATING', 'RUNNING'].includes(before.status)) assert.equal(after.status, ['cancel', 'archive'].includes(name) ? 'CANCELLED' : before.status, what)
    else assert.deepEqual({ ...after, updatedAt: 0 }, { ...before, updatedAt: 0 }, what)
    if (state === 'RUNNING' && after.status === 'RUNNING') await r.cancel()
  }
  assert.equal(cells, Object.keys(table).length * Object.keys(calls).length)
})

test('a run that has ended stays as it ended, whatever is asked', async t => {
  const pool = await bullpen(t, { config: '[runs]\nqueue_timeout = 1\n' })
  const expired = await pool.run('x', { repo: REPO })
  assert.equal((await expired.end()).status, 'EXPIRED')
  await pool.worker()
  const runs = { EXPIRED: expired, FINISHED: await pool.run(sh('true')), ERROR: await pool.run('x', { extra: { repos: [{ url: (await pool.origin()).url, startingRef: 'none' }] } }), CANCELLED: await pool.run(sh('sleep 300')) }
  await runs.FINISHED.end()
  await runs.ERROR.end()
  await runs.CANCELLED.cancel()
  for (const [status, r] of Object.entries(runs)) {
    const before = await r.get(), stream = JSON.stringify(await r.events())
    assert.equal(before.status, status)
    assert.ok(Number.isInteger(before.durationMs))
    isError(await r.cancel(), 409, 'run_not_cancellable')
    for (const verb of ['archive', 'unarchive']) assert.equal((await call(pool, 'POST', `/v1/agents/${r.agentId}/${verb}`)).status, 200)
    const { updatedAt: _, git: __, ...was } = before, { updatedAt: ___, git: ____, ...is } = await r.get()
    assert.deepEqual(is, was, status)
    assert.equal(JSON.stringify(await r.events()), stream, status)
    assert.equal((await agentOf(pool, r.agentId)).status, 'IDLE')
  }
})

test('who reads the stream of a run whose agent is archived or deleted hears its end', async t => {
  const pool = await bullpen(t)
  for (const [method, verb] of [['POST', '/archive'], ['DELETE', '']]) {
    const r = await pool.run('x', { repo: REPO })
    const s = await r.stream()
    await s.until('a first frame', () => true)
    assert.equal((await call(pool, method, `/v1/agents/${r.agentId}${verb}`)).status, 200)
    await until(`the stream ends after ${method} ${verb}`, () => s.complete || s.error)
    if (verb) assert.deepEqual(s.events.slice(-2).map(e => e.event), ['result', 'done'])
    if (verb) assert.equal(s.events.at(-2).data.status, 'CANCELLED')
  }
})

const seed = Number(process.env.STATES_SEED ?? Date.now() % 1_000_000_000)
function random(state) {
  return n => {
    state = state + 0x6d2b79f5 | 0
    let x = Math.imul(state ^ state >>> 15, 1 | state)
    x = x + Math.imul(x ^ x >>> 7, 61 | x) ^ x
    return ((x ^ x >>> 14) >>> 0) % n
  }
}

test('random walks: each answer is what the model of the table says', async t => {
  const pool = await bullpen(t), pick = random(seed)
  for (let walk = 0; walk < 12; walk++) {
    const r = await pool.run('x', { repo: REPO })
    const m = { active: true, archived: false, deleted: false, runs: [r.id] }
    const agent = `/v1/agents/${r.agentId}`, said = []
    for (let i = 0; i < 40; i++) {
      const name = ['get', 'list runs', 'get run', 'create run', 'create run', 'cancel', 'cancel', 'archive', 'unarchive', 'unarchive', ...(i > 30 ? ['delete'] : [])][pick(i > 30 ? 11 : 10)]
      const which = name === 'cancel' || name === 'get run' ? pick(m.runs.length) : m.runs.length - 1
      const a = await call(pool, ...calls[name]({ agent, run: `${agent}/runs/${m.runs[which]}` }))
      said.push(`${name} ${which}: ${a.status}`)
      const wanted = m.deleted ? [404, 'agent_not_found'] : {
        'create run': m.archived ? [409, 'agent_archived'] : m.active ? [409, 'agent_busy'] : [201],
        'cancel': m.active && which === m.runs.length - 1 ? [200] : [409, 'run_not_cancellable'],
      }[name] ?? [200]
      const where = `STATES_SEED=${seed}: ${said.join(', ')}: ${a.text}`
      assert.deepEqual([a.status, a.json.error?.code], [wanted[0], wanted[1]], where)
      if (a.status >= 400) continue
      if (name === 'create run') { m.runs.push(a.json.run.id); m.active = true }
      if (name === 'cancel' || name === 'archive' || name === 'delete') m.active = false
      if (name === 'archive') m.archived = true
      if (name === 'unarchive') m.archived = false
      if (name === 'delete') m.deleted = true
      if (name === 'get') assert.deepEqual([a.json.status, a.json.latestRunId], [m.archived ? 'ARCHIVED' : m.active ? 'ACTIVE' : 'IDLE', m.runs.at(-1)], where)
      if (name === 'list runs') assert.deepEqual(a.json.items.map(x => [x.id, x.status]), m.runs.map((id, n) => [id, m.active && n === m.runs.length - 1 ? 'CREATING' : 'CANCELLED']).reverse().slice(0, 20), where)
      if (name === 'get run') assert.equal(a.json.status, m.active && which === m.runs.length - 1 ? 'CREATING' : 'CANCELLED', where)
    }
  }
})

test('many at once: no two runs of an agent are active, nothing fails, and the end is one of the table', async t => {
  const pool = await bullpen(t), pick = random(seed)
  const r = await pool.run('x', { repo: REPO }), agent = `/v1/agents/${r.agentId}`
  let latest = r.id
  await Promise.all(Array.from({ length: 8 }, async () => {
    for (let i = 0; i < 40; i++) {
      const name = ['create run', 'create run', 'cancel', 'archive', 'unarchive', 'list runs'][pick(6)]
      const a = await call(pool, ...calls[name]({ agent, run: `${agent}/runs/${latest}` }))
      assert.ok([200, 201, 409].includes(a.status), `STATES_SEED=${seed}: ${name}: ${a.status} ${a.text}`)
      if (a.status === 201) latest = a.json.run.id
      if (name === 'list runs') assert.ok(a.json.items.filter(x => x.status === 'CREATING').length <= 1, `STATES_SEED=${seed}: ${a.text}`)
    }
  }))
  const { status, latestRunId } = await agentOf(pool, r.agentId)
  const { items } = (await call(pool, 'GET', `${agent}/runs?limit=100`)).json
  assert.equal(items[0].id, latestRunId)
  assert.deepEqual(items.map(x => x.status), [status === 'ACTIVE' ? 'CREATING' : 'CANCELLED', ...items.slice(1).map(() => 'CANCELLED')], `STATES_SEED=${seed}`)
  const pending = (await pool.http('GET', '/v0/private-workers/pending-requests', { key: pool.poolKey })).json.requests.map(x => x.id)
  assert.deepEqual(pending, status === 'ACTIVE' ? [r.agentId] : [])
})

test('the same while workers really work: what was put away stays away and holds nobody', { timeout: 180_000 }, async t => {
  const pool = await bullpen(t), pick = random(seed + 1)
  await pool.worker()
  await pool.worker()
  const prompts = [sh('true'), sh('sleep 0.05'), 'nothing', sh('sleep 300')]
  const url = (await pool.origin()).url
  const agents = await Promise.all(Array.from({ length: 6 }, async () => {
    const r = await pool.run(prompts[0], { repo: url })
    const m = { agent: `/v1/agents/${r.agentId}`, id: r.agentId, archived: false, runs: [r.id] }
    for (let i = 0; i < 30; i++) {
      const name = ['create run', 'create run', 'create run', 'cancel', 'archive', 'unarchive', 'unarchive', 'get', 'list runs'][pick(9)]
      const [method, p, body] = calls[name]({ agent: m.agent, run: `${m.agent}/runs/${m.runs.at(-1)}` })
      const a = await call(pool, method, p, body && { prompt: { text: prompts[pick(4)] } })
      const where = `STATES_SEED=${seed}: ${name}: ${a.status} ${a.text}`
      assert.ok(a.status === 200 || a.status === 201 || a.status === 409, where)
      if (m.archived && name === 'create run') isError(a, 409, 'agent_archived')
      if (!m.archived && name === 'create run') assert.notEqual(a.json.error?.code, 'agent_archived', where)
      if (name === 'get' && m.archived) assert.equal(a.json.status, 'ARCHIVED', where)
      if (name === 'get' && !m.archived) assert.notEqual(a.json.status, 'ARCHIVED', where)
      if (name === 'cancel' && a.status === 200) assert.equal((await call(pool, 'GET', p.replace('/cancel', ''))).json.status, 'CANCELLED', where)
      if (a.status === 201) m.runs.push(a.json.run.id)
      if (name === 'archive') m.archived = true
      if (name === 'unarchive') m.archived = false
      if (name === 'list runs') assert.ok(a.json.items.filter(x => ['CREATING', 'RUNNING'].includes(x.status)).length <= (m.archived ? 0 : 1), where)
    }
    return m
  }))
  for (const [i, m] of agents.entries()) {
    assert.equal((await agentOf(pool, m.id)).status === 'ARCHIVED', m.archived)
    assert.equal((await call(pool, ...(i % 2 ? ['DELETE', m.agent] : ['POST', `${m.agent}/archive`]))).status, 200)
  }
  // Both workers are free for others, at once.
  const next = await Promise.all([pool.run(sh('sleep 0.2'), { repo: url }), pool.run(sh('sleep 0.2'), { repo: url })])
  for (const r of next) assert.equal((await r.end()).status, 'FINISHED')
  for (const [i, m] of agents.entries()) {
    if (i % 2) { isError(await call(pool, 'GET', m.agent), 404, 'agent_not_found'); continue }
    assert.equal((await agentOf(pool, m.id)).status, 'ARCHIVED')
    const { items } = (await call(pool, 'GET', `${m.agent}/runs?limit=100`)).json
    assert.deepEqual(items.map(x => x.id).reverse(), m.runs)
    for (const x of items) assert.ok(['FINISHED', 'CANCELLED'].includes(x.status), JSON.stringify(x))
  }
  const left = agents.map(m => `'${m.id}'`).join()
  await until('no claim is left', () => Number(sql(pool, `SELECT COUNT(*) FROM claims WHERE agent_id IN (${left})`)[0][0]) === 0)
  assert.equal(Number(sql(pool, `SELECT COUNT(*) FROM requests WHERE agent_id IN (${left})`)[0][0]), 0)
  assert.doesNotMatch(pool.server.stderr, / ERROR /)
})
