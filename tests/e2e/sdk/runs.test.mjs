// Runs through the official SDK, in both of its published generations: what it is used for here works as it does there.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, sh, file, tool, until } from '../lib.mjs'
import { gate, UUID } from '../api-help.mjs'
import { modelServer, provider } from '../models-help.mjs'
import { both, begin, value } from './help.mjs'

both('create, send, stream, wait, conversation: a whole run as the library sees it', async (t, gen) => {
  const pool = await bullpen(t)
  await pool.worker()
  const origin = await pool.origin()
  const prompt = `Make a file.\n${file('a.txt', 'A')}${sh('cat a.txt && ls')}`
  const v = await value(t, gen, pool, async (sdk, input) => {
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

both('every call of every tool is a step of the conversation, its end too', async (t, gen) => {
  const pool = await bullpen(t)
  await pool.worker()
  const origin = await pool.origin()
  const v = await value(t, gen, pool, async (sdk, input) => {
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

both('a cancelled run keeps its steps, and the one it was cut off in', async (t, gen) => {
  const pool = await bullpen(t)
  await pool.worker()
  const g = gate(pool, fs, path), stop = path.join(pool.dir, 'stop')
  const p = begin(t, gen, pool, async (sdk, input) => {
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

both('a failed run is an error with its reason, not an exception', async (t, gen) => {
  const pool = await bullpen(t)
  await pool.worker()
  const v = await value(t, gen, pool, async (sdk, input) => {
    const run = await (await sdk.Agent.create({ cloud: { repos: [{ url: input.url, startingRef: 'no-such' }] } })).send('x')
    return { result: await run.wait(), conversation: await run.conversation() }
  }, { url: (await pool.origin()).url })
  assert.equal(v.result.status, 'error')
  if (gen === '32') assert.equal(v.result.error.code, 'clone_failed')
  if (gen === '32') assert.match(v.result.error.message, /no-such/)
  assert.deepEqual(v.conversation, [])
})

both('thinking, deltas and steps arrive as the run goes on', async (t, gen) => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'openai') })
  await pool.worker()
  m.next({ answer: { thinking: 'hm, let me see', text: 'First a look.', calls: [{ name: 'run_terminal_cmd', arguments: { command: 'echo hi' } }], usage: { input: 10, output: 5 } } }, { answer: { text: 'Done now.', usage: { input: 20, output: 5 } } })
  const v = await value(t, gen, pool, async (sdk, input) => {
    const agent = await sdk.Agent.create({ model: { id: 'clever' }, cloud: { repos: [{ url: input.url }] } })
    const deltas = [], steps = [], messages = [], statuses = []
    const run = await agent.send('go', { onDelta: d => { deltas.push(d.update) }, onStep: s => { steps.push(s.step) } })
    run.onDidChangeStatus(s => statuses.push(s))
    for await (const x of run.stream()) messages.push(x)
    return { deltas, steps, messages, statuses, result: await run.wait(), conversation: await run.conversation() }
  }, { url: (await pool.origin()).url })
  assert.equal(v.result.status, 'finished', JSON.stringify(v.result))
  assert.equal(v.result.result, 'Done now.')
  assert.deepEqual(v.statuses, ['finished'])
  const types = v.conversation[0].turn.steps.map(s => s.type)
  assert.deepEqual(types, ['thinkingMessage', 'assistantMessage', 'toolCall', 'assistantMessage'])
  assert.equal(v.conversation[0].turn.steps[0].message.text, 'hm, let me see')
  assert.deepEqual(v.steps.map(s => s.type), types, 'onStep saw the same')
  assert.equal(v.messages.filter(x => x.type === 'thinking').map(x => x.text).join(''), 'hm, let me see')
  for (const type of ['user-message-appended', 'step-started', 'thinking-delta', 'thinking-completed', 'text-delta', 'tool-call-started', 'tool-call-completed', 'step-completed', 'turn-ended'])
    assert.ok(v.deltas.some(d => d.type === type), `${type} in ${v.deltas.map(d => d.type)}`)
  assert.equal(v.deltas.filter(d => d.type === 'turn-ended').length, 1)
  const ended = v.deltas.find(d => d.type === 'turn-ended').usage
  assert.deepEqual([ended.inputTokens, ended.outputTokens], [30, 10])
})

both('closing the handle leaves the run alone', async (t, gen) => {
  const pool = await bullpen(t)
  await pool.worker()
  const gates = gate(pool, fs, path)
  const v = await value(t, gen, pool, async (sdk, input) => {
    const agent = await sdk.Agent.create({ cloud: { repos: [{ url: input.url }] } })
    const run = await agent.send(input.prompt)
    const waits = run.wait()
    agent.close()
    return { id: run.id, agentId: agent.agentId, waited: (await waits).status }
  }, { url: (await pool.origin()).url, prompt: sh(gates.command) })
  assert.equal(v.waited, 'error')
  const get = async () => (await pool.http('GET', `/v1/agents/${v.agentId}/runs/${v.id}`)).json.status
  assert.ok(['CREATING', 'RUNNING'].includes(await get()))
  await until('it is at the gate', gates.reached)
  gates.go()
  await until('it ends by itself', async () => await get() === 'FINISHED')
})
