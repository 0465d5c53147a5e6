// The reference product's client library against this server: what it is used for here works as it does there.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { randomUUID } from 'node:crypto'
import { Proc, bullpen, root, sh, file, tool, until } from './lib.mjs'
import { gate, UUID } from './api-help.mjs'

const program = path.join(root, 'tests/e2e/sdk-client.mjs')

// Performs the function's body in a process with the SDK, and gives what it returned; its error is thrown as data.
function begin(t, pool, fn, input = {}, { key = pool.userKey, url = pool.url } = {}) {
  const text = fn.toString()
  const body = text.slice(text.indexOf('{', text.indexOf('=>')) + 1, text.lastIndexOf('}'))
  const p = new Proc(t, process.execPath, [program, body], { stdin: JSON.stringify(input), env: { CURSOR_BACKEND_URL: url, CURSOR_API_KEY: key }, cwd: pool.dir })
  p.answer = p.exited.then(() => {
    assert.equal(p.code, 0, p.stderr)
    return JSON.parse(p.stdout)
  })
  return p
}
async function sdkCall(t, pool, fn, input, options) { return begin(t, pool, fn, input, options).answer }
async function value(...args) {
  const r = await sdkCall(...args)
  assert.ok(!r.error, `${JSON.stringify(r.error)} ${r.stack}`)
  return r.value
}

test('create, send, stream, wait, conversation: a whole run as the library sees it', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const origin = await pool.origin()
  const prompt = `Make a file.\n${file('a.txt', 'A')}${sh('cat a.txt && ls')}`
  const v = await value(t, pool, async (sdk, input) => {
    const agent = await sdk.Agent.create({ model: { id: 'playbook' }, name: 'From the library', cloud: { repos: [{ url: input.url, startingRef: 'main' }] } })
    const run = await agent.send(input.prompt)
    const messages = []
    const atSend = run.status
    for await (const m of run.stream()) messages.push(m)
    const result = await run.wait()
    const conversation = await run.conversation()
    const second = await agent.send('And now?')
    const after = await second.wait()
    return { agentId: agent.agentId, id: run.id, atSend, messages, result, conversation, after, secondConversation: await second.conversation() }
  }, { url: origin.url, prompt })
  assert.equal(v.atSend, 'running')
  assert.equal(v.result.status, 'finished')
  assert.match(v.result.result, /2 of 2 steps succeeded/)
  assert.equal(v.result.id, v.id)
  assert.ok(v.result.durationMs >= 0)
  assert.match(v.result.requestId ?? '', UUID)
  const branch = v.result.git.branches[0].branch
  assert.equal(await origin.show(branch, 'a.txt'), 'A')
  // The stream.
  const calls = v.messages.filter(m => m.type === 'tool_call')
  assert.deepEqual(calls.map(c => [c.name, c.status]), [['write_file', 'running'], ['write_file', 'completed'], ['run_terminal_cmd', 'running'], ['run_terminal_cmd', 'completed']])
  assert.equal(calls[0].call_id, calls[1].call_id)
  const text = v.messages.filter(m => m.type === 'assistant').map(m => m.message.content.map(c => c.text).join('')).join('')
  assert.equal(text, v.result.result, 'what was streamed is the result')
  assert.ok(v.messages.some(m => m.type === 'status' && m.status === 'RUNNING'))
  // The conversation.
  assert.equal(v.conversation.length, 1)
  const { turn, type } = v.conversation[0]
  assert.equal(type, 'agentConversationTurn')
  assert.equal(turn.userMessage.text, prompt)
  assert.deepEqual(turn.steps.map(s => [s.type, s.message.type ?? s.message.text]), [['toolCall', 'write'], ['toolCall', 'shell'], ['assistantMessage', v.result.result]])
  assert.equal(turn.steps[0].message.args.path, 'a.txt')
  assert.equal(turn.steps[0].message.args.fileText, 'A\n')
  assert.equal(turn.steps[1].message.result.status, 'success')
  assert.match(turn.steps[1].message.result.value.stdout, /^A\n/)
  assert.equal(turn.steps[1].message.result.value.exitCode, 0)
  assert.equal(v.after.status, 'finished')
  assert.equal(v.secondConversation[0].turn.userMessage.text, 'And now?')
  const agent = (await pool.http('GET', `/v1/agents/${v.agentId}`)).json
  assert.equal(agent.name, 'From the library')
})

// Every tool as a model would call it, with its fewest arguments and with others; the twin's type of each.
const calls = [
  ['write', file('src/a.txt', 'alpha\nbeta\n')], ['write', tool('write_file', { path: 'src/b.c', fileText: 'int alpha;\n' })], ['read', tool('read_file', { path: 'src/a.txt' })], ['read', tool('read_file', { path: 'src/a.txt', offset: -1, limit: 1 })],
  ['edit', tool('edit_file', { path: 'src/a.txt', oldText: 'beta', newText: 'gamma' })], ['edit', tool('edit_file', { path: 'new.txt', strReplace: { oldText: '', newText: 'x\n' } })],
  ['ls', tool('list_dir', {})], ['ls', tool('list_dir', { path: 'src', ignore: ['*.c'] })], ['glob', tool('file_search', { globPattern: '*.txt' })], ['glob', tool('file_search', { globPattern: '*.c', targetDirectory: 'src' })], ['glob', tool('file_search', { globPattern: '*.none' })],
  ['grep', tool('grep_search', { pattern: 'alpha' })], ['grep', tool('grep_search', { pattern: 'alpha', outputMode: 'files_with_matches' })], ['grep', tool('grep_search', { pattern: 'alpha', outputMode: 'count', path: 'src' })],
  ['grep', tool('grep_search', { pattern: 'a', outputMode: 'content', context: 2, caseInsensitive: true, glob: '*.txt', headLimit: 1, multiline: true })], ['grep', tool('grep_search', { pattern: 'nowhere at all' })],
  ['delete', tool('delete_file', { path: 'src/b.c' })], ['shell', sh('echo out; echo err >&2; exit 3')], ['shell', tool('run_terminal_cmd', { command: 'pwd', workingDirectory: 'src', timeout: 5000, description: 'where' })],
  ['shell', tool('run_terminal_cmd', { command: 'sleep 5', timeout: 100 })], ['shell', tool('run_terminal_cmd', { command: 'sleep 30', isBackground: true })],
  // What goes wrong.
  ['read', tool('read_file', { path: 'nothing.txt' })], ['edit', tool('edit_file', { path: 'src/a.txt', oldText: 'nowhere', newText: 'x' })], ['delete', tool('delete_file', { path: 'nothing.txt' })], ['ls', tool('list_dir', { path: 'nothing' })], ['grep', tool('grep_search', { pattern: '(' })],
  // Other names of tools and arguments, which models use.
  ['ls', tool('ls', { target_directory: 'src' })], ['read', tool('read', { target_file: 'src/a.txt' })], ['grep', tool('grep', { pattern: 'alpha' })],
  // Larger than the stream takes whole.
  ['write', tool('write_file', { path: 'large.txt', fileText: 'large line\n'.repeat(20000) })], ['shell', sh('head -c 200000 /dev/zero | tr "\\0" x')], ['read', tool('read_file', { path: 'large.txt' })],
]

test('every call of every tool is a step of the conversation, its end too', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const origin = await pool.origin()
  const v = await value(t, pool, async (sdk, input) => {
    const agent = await sdk.Agent.create({ cloud: { repos: [{ url: input.url }] } })
    const deltas = []
    const run = await agent.send(input.prompt, { onDelta: d => { deltas.push(d.update) } })
    const result = await run.wait()
    // Each update of the stream against the library's own schema.
    const res = await fetch(`${process.env.CURSOR_BACKEND_URL}/v1/agents/${agent.agentId}/runs/${run.id}/stream`, { headers: { authorization: `Bearer ${process.env.CURSOR_API_KEY}` } })
    const updates = (await res.text()).split('\n\n').filter(f => f.includes('event: interaction_update\n')).map(f => JSON.parse(f.split('\ndata: ')[1]))
    const bad = updates.map(u => [u, sdk.InteractionUpdateSchema.safeParse(u)]).filter(([, r]) => !r.success).map(([u, r]) => ({ update: JSON.stringify(u).slice(0, 300), why: JSON.stringify(r.error?.issues ?? r.error).slice(0, 600) }))
    return { result, conversation: await run.conversation(), deltas: deltas.length, updates: updates.length, bad }
  }, { url: origin.url, prompt: calls.map(c => c[1]).join('\n') })
  assert.equal(v.result.status, 'finished', JSON.stringify(v.result))
  const steps = v.conversation[0].turn.steps
  assert.deepEqual(v.bad, [], 'updates that the library drops')
  // Reads that follow each other end in any order.
  assert.deepEqual(steps.slice(0, -1).map(s => s.message.type).sort(), calls.map(c => c[0]).sort())
  for (const s of steps.slice(0, -1)) assert.ok(s.message.result || JSON.stringify(s).includes('large') || s.message.type === 'shell', JSON.stringify(s).slice(0, 200))
  const failed = steps.filter(s => s.message.result?.status === 'error').map(s => [s.message.type, s.message.args.path ?? s.message.args.pattern])
  assert.deepEqual(failed.sort(), [['delete', 'nothing.txt'], ['edit', 'src/a.txt'], ['grep', '('], ['ls', 'nothing'], ['read', 'nothing.txt']])
  assert.ok(steps.some(s => s.message.type === 'ls' && s.message.args.path === '.'), 'a default is shown')
  assert.ok(steps.some(s => s.message.type === 'write' && s.message.args.path === 'large.txt' && s.message.args.fileText.startsWith('large line')), 'a long argument is cut, not left out')
  assert.equal(steps.at(-1).message.text, v.result.result)
  assert.ok(v.deltas > calls.length * 2)
})

test('a cancelled run keeps its steps, and the one it was cut off in', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const g = gate(pool, fs, path), stop = path.join(pool.dir, 'stop')
  const p = begin(t, pool, async (sdk, input) => {
    const { existsSync } = await import('node:fs')
    const agent = await sdk.Agent.create({ cloud: { repos: [{ url: input.url }] } })
    const run = await agent.send(input.prompt)
    const deadline = Date.now() + 120000
    while (!existsSync(input.stop)) { // polled: this process shares nothing with the test but files
      if (Date.now() > deadline) throw new Error('gave up waiting to be told to cancel')
      await new Promise(r => setTimeout(r, 20))
    }
    await run.cancel()
    const result = await run.wait()
    const again = await sdk.Agent.getRun(run.id, { runtime: 'cloud', agentId: agent.agentId })
    const refused = await fetch(`${process.env.CURSOR_BACKEND_URL}/v1/agents/${agent.agentId}/runs/${run.id}/cancel`, { method: 'POST', headers: { authorization: `Bearer ${process.env.CURSOR_API_KEY}` } })
    return { status: run.status, result, again: again.status, conversation: await again.conversation(), refused: refused.status }
  }, { url: (await pool.origin()).url, prompt: file('a', 'b') + sh(g.command), stop })
  await until('the run is in its second call', () => g.reached() || (!p.alive && Promise.reject(new Error(p.stdout + p.stderr))))
  fs.writeFileSync(stop, '')
  const { value: v, error } = await p.answer
  assert.ok(!error, JSON.stringify(error))
  assert.deepEqual([v.status, v.result.status, v.again, v.refused], ['cancelled', 'cancelled', 'cancelled', 409])
  assert.deepEqual(v.conversation[0].turn.steps.map(s => [s.message.type, s.message.result.status]), [['write', 'success'], ['shell', 'error']])
})

test('list, get, listRuns, getRun, me, models: the rest of the library', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const v = await value(t, pool, async (sdk, input) => {
    const agents = []
    for (let i = 0; i < 3; i++) {
      const agent = await sdk.Agent.create({ name: `n${i}`, cloud: { repos: [{ url: input.url }] } })
      const run = await agent.send('nothing to do')
      await run.wait()
      agents.push([agent.agentId, run.id])
    }
    const page = await sdk.Agent.list({ runtime: 'cloud', limit: 2 })
    const rest = await sdk.Agent.list({ runtime: 'cloud', limit: 2, cursor: page.nextCursor, includeArchived: true })
    const all = await sdk.Agent.list({ runtime: 'cloud' })
    const [agentId, runId] = agents[1]
    const run = await sdk.Agent.getRun(runId, { runtime: 'cloud', agentId })
    const resumed = sdk.Agent.resume(agentId)
    const followUp = await (await (await resumed).send('again')).wait()
    const prompt = await sdk.Agent.prompt('quick', { cloud: { repos: [{ url: input.url }] } })
    return {
      agents, page, rest, all: all.items.length, got: await sdk.Agent.get(agentId), runs: await sdk.Agent.listRuns(agentId, { runtime: 'cloud' }), waited: await run.wait(), said: await run.conversation(),
      me: await sdk.Cursor.me(), models: await sdk.Cursor.models.list(), followUp, prompt,
    }
  }, { url: (await pool.origin()).url })
  assert.deepEqual(v.page.items.map(a => a.name), ['n2', 'n1'])
  assert.deepEqual(v.rest.items.map(a => a.name), ['n0'])
  assert.equal(v.rest.nextCursor, undefined)
  assert.equal(v.all, 3)
  assert.equal(v.got.agentId, v.agents[1][0])
  assert.equal(v.got.name, 'n1')
  assert.equal(v.runs.items.length, 2)
  assert.equal(v.waited.status, 'finished')
  assert.match(v.waited.result, /playbook/)
  assert.equal(v.said[0].turn.steps.at(-1).message.text, v.waited.result, 'an ended run is replayed')
  assert.equal(v.followUp.status, 'finished')
  assert.equal(v.prompt.status, 'finished')
  assert.equal(v.me.userEmail, 'dev@example.test')
  assert.ok(v.models.some(m => m.id === 'playbook'))
})

test('errors arrive as the classes that the library documents', async t => {
  const pool = await bullpen(t, { config: '[limits]\nreads_per_minute = 100000\nmutations_per_minute = 4\n' })
  const url = 'https://git.example.test/acme/web'
  const bad = await sdkCall(t, pool, async sdk => { return sdk.Cursor.me() }, {}, { key: 'crsr_wrong' })
  assert.deepEqual([bad.error.class, bad.error.status, bad.error.code, bad.error.isRetryable], ['AuthenticationError', 401, 'unauthorized', false])
  assert.match(bad.error.requestId ?? '', UUID)
  const v = await value(t, pool, async (sdk, input) => {
    const caught = async fn => { try { return { value: await fn() } } catch (e) { return { name: e.name, code: e.code, status: e.status, configuration: e instanceof sdk.ConfigurationError, retry: e.isRetryable, requestId: e.requestId, message: e.message } } }
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
  const pick = e => [e.name, e.code, e.status]
  assert.deepEqual(pick(v.missing).slice(1), ['agent_not_found', 404])
  assert.ok(v.missing.configuration && v.missing.requestId)
  assert.equal(v.model.code, 'invalid_model')
  assert.deepEqual(pick(v.repo).slice(1), ['validation_error', 400])
  assert.deepEqual([...pick(v.busy), v.busy.retry], ['AgentBusyError', 'agent_busy', 409, false])
  assert.deepEqual(pick(v.taken).slice(1), ['agent_id_conflict', 409])
  assert.deepEqual([...pick(v.limited), v.limited.retry], ['RateLimitError', 'rate_limit_exceeded', 429, true])
  const away = await sdkCall(t, pool, async sdk => { return sdk.Cursor.me() }, {}, { url: 'http://127.0.0.1:1' })
  assert.deepEqual([away.error.class, away.error.isRetryable], ['NetworkError', true])
})

test('a failed run is an error with its reason, not an exception', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const v = await value(t, pool, async (sdk, input) => {
    const run = await (await sdk.Agent.create({ cloud: { repos: [{ url: input.url, startingRef: 'no-such' }] } })).send('x')
    return { result: await run.wait(), conversation: await run.conversation() }
  }, { url: (await pool.origin()).url })
  assert.equal(v.result.status, 'error')
  assert.deepEqual(v.conversation, [])
})

test('the server restarts in the middle: the library reconnects and misses nothing', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const g = gate(pool, fs, path)
  const p = begin(t, pool, async (sdk, input) => {
    const run = await (await sdk.Agent.create({ cloud: { repos: [{ url: input.url }] } })).send(input.prompt)
    const messages = []
    for await (const m of run.stream()) messages.push(m)
    return { messages, result: await run.wait(), conversation: await run.conversation() }
  }, { url: (await pool.origin()).url, prompt: file('one', '1') + sh(g.command) + file('two', '2') })
  await until('the gate is reached', () => g.reached() || (!p.alive && Promise.reject(new Error(p.stdout + p.stderr))))
  await pool.crash()
  await pool.restart()
  g.go()
  const { value: v, error } = await p.answer
  assert.ok(!error, JSON.stringify(error))
  assert.equal(v.result.status, 'finished')
  assert.deepEqual(v.conversation[0].turn.steps.map(s => s.message.type ?? s.type), ['write', 'shell', 'write', 'assistantMessage'])
  const ended = v.messages.filter(m => m.type === 'tool_call' && m.status === 'completed')
  assert.deepEqual(ended.map(m => m.name), ['write_file', 'run_terminal_cmd', 'write_file'], 'nothing twice, nothing lost')
})
