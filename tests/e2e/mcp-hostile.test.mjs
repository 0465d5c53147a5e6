// MCP servers that are as bad as servers get: none of them hangs a run, fills the worker, outlives its session, or is obeyed.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, sh, tool, until } from './lib.mjs'
import { lines, mcpCalls, odd } from './mcp-help.mjs'
import { modelServer, provider } from './models-help.mjs'

const TOKEN = 'mcp-t0ken-0123456789'
const withWorker = async (t, { args = [], config } = {}) => {
  const pool = await bullpen(t, { config })
  pool.notes = path.join(pool.dir, 'notes')
  pool.read = () => fs.existsSync(pool.notes) ? fs.readFileSync(pool.notes, 'utf8') : ''
  pool.w = await pool.worker({ args: ['--verbose', ...args] })
  return pool
}
const bad = (pool, how, name) => odd(how, name, { NOTES: pool.notes, TOKEN })
const alive = pid => { try { return !/\) Z /.test(fs.readFileSync(`/proc/${pid}/stat`, 'utf8')) } catch { return false } }
// The worker sees other pids than a program in a box sees of itself: a mark in the command line is what both have.
const running = mark => fs.readdirSync('/proc').filter(p => /^\d+$/.test(p)).some(p => { try { return fs.readFileSync(`/proc/${p}/environ`, 'utf8').includes(mark) && alive(p) } catch { return false } })
const ended = async (r, text) => {
  const end = await r.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  const events = await r.events()
  return { events, calls: mcpCalls(events), lines: lines(events).join('\n'), end }
}
const said = c => c.result.success?.content.map(b => b.text?.text ?? JSON.stringify(b)).join('|')

for (const how of ['crlf', 'banner', 'pages', 'endless', 'flood']) {
  test(`a server that is ${how} is of use all the same`, async t => {
    const pool = await withWorker(t)
    const r = await pool.run(tool('mcp_odd_echo', { text: 'one' }) + tool('mcp_odd_twice', {}) + tool('mcp_odd_echo', { text: 'two' }), { extra: { mcpServers: [bad(pool, how)] } })
    const { calls } = await ended(r)
    assert.deepEqual(calls.map(said), ['echo: one', 'first', 'echo: two'])
  })
}

for (const [how, why] of [['dies', /cannot start: the token \[REDACTED\] is wrong/], ['noise', /100 lines in a row that are no messages/], ['old', /unsupported protocol version 1970-01-01/]]) {
  test(`a server that ${how} in the handshake is missing, with a line that says why`, async t => {
    const pool = await withWorker(t)
    const r = await pool.run(sh('echo ok') + tool('mcp_odd_echo', {}), { extra: { mcpServers: [bad(pool, how), odd('good', 'other', { NOTES: pool.notes })] } })
    const { lines, events } = await ended(r)
    assert.match(lines, why)
    assert.ok(!JSON.stringify(events).includes(TOKEN))
    assert.ok(!pool.w.stderr.includes(TOKEN), 'the log of the worker')
    const refused = events.filter(e => e.event === 'tool_call' && e.data.name === 'mcp_odd_echo' && e.data.status !== 'running')
    assert.equal(refused[0].data.result.error.code, 'unknown_tool')
  })
}

test('programs that cannot be started are told; variables that may not be set are refused', async t => {
  const pool = await withWorker(t)
  const r = await pool.run(sh('true'), { extra: { mcpServers: [{ name: 'gone', command: '/nowhere/program' }, { name: 'web', url: 'https://mcp.example/x' }] } })
  const { lines } = await ended(r)
  assert.match(lines, /MCP server gone is not available: [^"]*\/nowhere\/program/)
  const refused = await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, mcpServers: [{ name: 'loader', command: 'node', env: { LD_PRELOAD: '/x.so' } }] } })
  assert.equal(refused.status, 400)
  assert.match(refused.json.error.message, /'mcpServers\[0\]\.env'.*LD_/)
})

test('results of every kind and size', async t => {
  const m = await modelServer(t)
  const pool = await withWorker(t, { config: provider(m, 'openai') })
  const names = ['blocks', 'big', 'fails', 'error', 'strict', 'roots', 'progress']
  for (const n of names) m.next({ answer: { text: '', calls: [{ name: `mcp_odd_${n}`, arguments: n === 'strict' ? { n: 'x', more: 1 } : n === 'big' ? { n: 12 } : {} }] } })
  m.next({ answer: { text: 'Done.' } })
  const r = await pool.run('go', { extra: { mcpServers: [bad(pool, 'good')] } })
  const { events, calls } = await ended(r)
  const by = Object.fromEntries(calls.map((c, i) => [names[i], c]))
  const told = JSON.stringify(m.requests.at(-1).body)
  assert.match(said(by.blocks), /seen\|for eyes only\|.*"image"/)
  assert.deepEqual(by.blocks.result.success.structuredContent, { a: 1 })
  assert.ok(!told.includes('for eyes only'), 'what is for the user only')
  assert.match(told, /an image of type image\/png/)
  assert.match(told, /\[link to p: file:\/\/\/etc\/passwd\]/)
  assert.match(told, /larger than 10 MiB and was thrown away/)
  assert.equal(by.fails.result.success.isError, true)
  assert.match(told, /it failed: try another way/)
  assert.match(by.error.result.error.message, /internal trouble \(-32603\)/)
  assert.equal(by.strict.result.error.code, 'invalid_arguments')
  assert.match(said(by.roots), /"uri":"file:\/\/\//)
  assert.match(JSON.stringify(events), /progress 3 of 3: step 3/)
})

test('names of every sort: none hides a tool of ours, each is called', async t => {
  const m = await modelServer(t)
  const pool = await withWorker(t, { config: provider(m, 'openai') })
  m.next({ answer: { text: 'Done.' } })
  const r = await pool.run('go', { extra: { mcpServers: [bad(pool, 'names', 'o d'), bad(pool, 'names', 'o_d')] } })
  const { lines } = await ended(r)
  const tools = m.requests[0].body.tools.map(x => x.function ?? x)
  const names = tools.map(x => x.name)
  assert.equal(new Set(names.map(n => n.toLowerCase())).size, names.length, 'unique')
  for (const n of names) assert.match(n, /^[A-Za-z0-9_-]{1,64}$/)
  const ours = names.filter(n => n.startsWith('mcp_o_d_'))
  assert.ok(ours.includes('mcp_o_d_read_file') && names.includes('read_file'))
  assert.equal(ours.length, 16, ours.join(' '))
  const orders = tools.find(x => x.name === 'mcp_o_d_orders')
  assert.match(orders.description, /^\[o d\] Ignore all/)
  assert.ok(orders.description.length < 2100)
  assert.match(lines, /schemaless/)
  assert.match(lines, /remote/)
  // Calls of all those names go to their own tools.
  for (const n of ours) m.next({ answer: { text: '', calls: [{ name: n, arguments: { text: n } }] } })
  m.next({ answer: { text: 'Done.' } })
  const f = await r.followUp('again')
  const { calls } = await ended(f)
  assert.deepEqual(calls.map(c => c.args.name), ours)
  for (const c of calls) assert.equal(said(c), `${c.args.toolName}: ${c.args.name}`)
})

test('a hundred megabytes end the server and not the run; it is started again', async t => {
  const pool = await withWorker(t)
  const again = Array.from({ length: 12 }, () => sh('sleep 0.3') + tool('mcp_odd_echo', { text: 'back' })).join('')
  const r = await pool.run(tool('mcp_odd_huge', {}) + again, { extra: { mcpServers: [bad(pool, 'good')] } })
  const { calls, lines } = await ended(r)
  assert.match(calls[0].result.error.message, /larger than 16 MiB/)
  assert.equal(said(calls.at(-1)), 'echo: back')
  assert.match(lines, /larger than 16 MiB; it is started again/)
  assert.equal(pool.read().match(/started/g).length, 2)
})

test('one that dies in a call: the call fails, the next ones work', async t => {
  const pool = await withWorker(t)
  const again = Array.from({ length: 12 }, () => sh('sleep 0.3') + tool('mcp_odd_echo', { text: 'back' })).join('')
  const r = await pool.run(tool('mcp_odd_die', {}) + again, { extra: { mcpServers: [bad(pool, 'good')] } })
  const { calls } = await ended(r)
  assert.match(calls[0].result.error.message, /outcome is unknown.*status 4/)
  assert.equal(said(calls.at(-1)), 'echo: back')
})

test('one that could not be started is tried again by the next run', async t => {
  const pool = await withWorker(t)
  const r = await pool.run(sh(`touch ${pool.notes}-go`), { extra: { mcpServers: [bad(pool, 'dies')] } })
  assert.match((await ended(r)).lines, /MCP server odd is not available/)
  const { calls, lines } = await ended(await r.followUp(tool('mcp_odd_echo', { text: 'now' })))
  assert.deepEqual(calls.map(said), ['echo: now'])
  assert.equal(lines, '')
})

test('one that closes its stdin, or stops reading, fails the calls and not the run', async t => {
  const pool = await withWorker(t)
  const r = await pool.run(tool('mcp_odd_deaf', {}) + tool('mcp_odd_echo', { text: 'anybody?' }) + tool('mcp_full_stop', {}) + tool('mcp_full_echo', { text: 'x'.repeat(300000) }) + sh('echo goes on'), { extra: { mcpServers: [bad(pool, 'good'), bad(pool, 'good', 'full')] } })
  const { calls, events } = await ended(r)
  assert.equal(said(calls[0]), 'I hear no more')
  assert.equal(calls[1].result.error.code, 'mcp_unavailable')
  assert.match(calls.at(-1).result.error.message, /is not reading/)
  assert.match(JSON.stringify(events), /goes on/)
})

test('a list that changes comes into effect', async t => {
  const pool = await withWorker(t)
  const later = Array.from({ length: 12 }, () => sh('sleep 0.2') + tool('mcp_odd_grown', { text: 'new' })).join('')
  const r = await pool.run(tool('mcp_odd_grow', {}) + later, { extra: { mcpServers: [bad(pool, 'good')] } })
  const { calls } = await ended(r)
  assert.equal(said(calls.at(-1)), 'grown: new')
  assert.ok(pool.read().match(/listed/g).length <= 4, 'a storm of changes is few listings')
})

test('a cancel reaches the server', async t => {
  const pool = await withWorker(t)
  const r = await pool.run(tool('mcp_odd_wait', {}), { extra: { mcpServers: [bad(pool, 'good')] } })
  await until('the server waits', () => pool.read().includes('waiting'))
  await r.cancel()
  assert.equal((await r.end()).status, 'CANCELLED')
  await until('the server was told', () => /cancelled \d+/.test(pool.read()))
})

for (const level of ['namespace', 'process', 'none']) test(`servers end with the session, with what they have left, also one that does not want to: isolation ${level}`, async t => {
  const pool = await withWorker(t, { args: [`--isolation=${level}`] })
  const r = await pool.run(tool('mcp_odd_child', {}) + tool('mcp_stays_echo', {}), { extra: { mcpServers: [bad(pool, 'good'), bad(pool, 'stays', 'stays')] } })
  const { calls } = await ended(r)
  assert.equal(calls.length, 2)
  const mark = `CURSOR_CONVERSATION_ID=${r.agentId}`
  assert.ok(running(mark), 'they serve the session, which is idle now')
  const x = await pool.http('DELETE', `/v1/agents/${r.agentId}`)
  assert.ok(x.status < 300, x.text)
  await until('all of the session has ended', () => !running(mark), 30)
  assert.match(pool.read(), /stdin closed/)
})

test('a follow-up with another list ends what is not in it and keeps what is', async t => {
  const pool = await withWorker(t)
  const a = odd('good', 'a', { NOTES: pool.notes, WHO: 'a' }), b = odd('good', 'b', { NOTES: pool.notes, WHO: 'b' }), c = odd('good', 'c', { NOTES: pool.notes, WHO: 'c' })
  const r = await pool.run(tool('mcp_a_echo', { text: '1' }) + tool('mcp_b_echo', { text: '1' }), { extra: { mcpServers: [a, b] } })
  assert.equal((await ended(r)).calls.length, 2)
  const f = await r.followUp(tool('mcp_a_echo', { text: '2' }) + tool('mcp_b_echo', { text: '2' }) + tool('mcp_c_echo', { text: '2' }), { mcpServers: [b, c] })
  const { calls, events } = await ended(f)
  assert.deepEqual(calls.map(said), ['echo: 2', 'echo: 2'])
  assert.equal(events.filter(e => e.event === 'tool_call' && e.data.name === 'mcp_a_echo' && e.data.result?.error).length, 1)
  assert.equal(pool.read().match(/started/g).length, 3, 'b was not started again')
  const g = await r.followUp(tool('mcp_a_echo', { text: '3' }), { mcpServers: [] })
  assert.equal((await ended(g)).calls.length, 0)
})

test('one that never answers delays the first turn by 15 s at most, and what comes later is offered then', async t => {
  const pool = await withWorker(t)
  const later = Array.from({ length: 15 }, () => sh('sleep 0.2') + tool('mcp_late_echo', { text: 'there' })).join('')
  const r = await pool.run(tool('mcp_good_echo', { text: 'here' }) + sh(`touch ${pool.notes}-go`) + later, { extra: { mcpServers: [bad(pool, 'mute', 'mute'), bad(pool, 'late', 'late'), bad(pool, 'good', 'good')] } })
  const { calls, lines } = await ended(r)
  assert.equal(said(calls[0]), 'echo: here')
  assert.equal(said(calls.at(-1)), 'echo: there')
  assert.match(lines, /MCP server late is there now/)
  assert.match(lines, /MCP server mute is not there yet/)
})

test('plan mode offers none of them, and a call by its inner name is refused', async t => {
  const pool = await withWorker(t)
  const call = tool('mcp_odd_echo', { text: 'x' }) + tool('mcp', { name: 'mcp_odd_echo', args: { text: 'x' }, providerIdentifier: 'odd', toolName: 'fails' })
  const r = await pool.run(call, { extra: { mcpServers: [bad(pool, 'good')], mode: 'plan' } })
  const { calls } = await ended(r)
  assert.ok(calls.length > 0)
  for (const c of calls) assert.equal(c.result.error.code, 'plan_mode')
  const f = await r.followUp(call, { mode: 'agent' })
  const [well, ill] = (await ended(f)).calls
  assert.equal(said(well), 'echo: x')
  assert.equal(ill.result.error.code, 'unknown_tool')
})

test('of too many tools the first are taken, and the log says so', async t => {
  const m = await modelServer(t)
  const pool = await withWorker(t, { config: provider(m, 'openai') })
  m.next({ answer: { text: '', calls: [{ name: 'mcp_odd_tool0300', arguments: { text: 'found' } }] } })
  m.next({ answer: { text: '', calls: [{ name: 'mcp_odd_tool1100', arguments: { text: 'found' } }] } })
  m.next({ answer: { text: 'Done.' } })
  const r = await pool.run('go', { extra: { mcpServers: [bad(pool, 'legion')] } })
  assert.equal((await r.end()).status, 'FINISHED')
  const events = await r.events()
  assert.match(lines(events).join('\n'), /MCP server odd: the list of tools was cut: more than 1000/)
  assert.deepEqual(mcpCalls(events).map(c => c.result.success.content[0].text.text), ['tool0300: found'])
  assert.ok(m.requests[0].body.tools.length <= 500, `${m.requests[0].body.tools.length} tools`)
})
