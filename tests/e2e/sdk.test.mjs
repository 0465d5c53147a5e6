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
  ['shell', tool('run_terminal_cmd', { command: 'sleep 5', timeout: 100 })], ['shell', tool('run_terminal_cmd', { command: 'sleep 600', isBackground: true })],
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
  assert.deepEqual(steps.slice(0, -1).map(s => s.message.type), calls.map(c => c[0]))
  for (const [i, s] of steps.slice(0, -1).entries()) assert.ok(s.message.result, `${calls[i][1].slice(0, 80)}: ${JSON.stringify(s).slice(0, 200)}`)
  assert.equal(steps.at(-1).message.text, v.result.result)
  assert.ok(v.deltas > calls.length * 2)
})
