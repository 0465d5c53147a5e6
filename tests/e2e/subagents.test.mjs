// Subagents: nested loops of the product, started by the tool `task`; built-in ones and those of customSubagents.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, sh, file, tool, checkEvents, until } from './lib.mjs'
import { isError } from './api-help.mjs'
import { modelServer, provider } from './models-help.mjs'

const task = (subagent_type, prompt, more = {}) => tool('task', { description: 'A piece of work', prompt, subagent_type, ...more })
const call = (name, args) => ({ name, arguments: args })
const lines = log => fs.existsSync(log) ? fs.readFileSync(log, 'utf8').trim().split('\n').filter(Boolean) : []
const twins = events => events.filter(e => e.event === 'interaction_update').map(e => e.data)
const system = body => body.messages.find(m => m.role === 'system').content
const toolNames = body => body.tools.map(x => x.function.name)
const reviewer = { name: 'rev', description: 'Reviews what was written.', prompt: 'You are the strict reviewer.' }

test('a task is done by a nested loop with a context of its own; its words and calls stand below the call', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const prompt = `Help.\n${file('inner.txt', 'INNER')}${sh('echo inside')}`
  const run = await pool.run(task('generalPurpose', prompt) + file('outer.txt', 'OUTER'))
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  const origin = await pool.origin()
  assert.equal(await origin.show(r.git.branches[0].branch, 'inner.txt'), 'INNER')
  assert.equal(await origin.show(r.git.branches[0].branch, 'outer.txt'), 'OUTER')
  const events = await run.events(), { completed } = checkEvents(events)
  const outer = [...completed.values()].find(c => c.name === 'task')
  assert.deepEqual(Object.keys(outer.result.success).sort(), ['agentId', 'durationMs', 'isBackground', 'text'])
  assert.match(outer.result.success.text, /2 of 2/)
  assert.deepEqual([...completed.values()].filter(c => c.parentCallId === outer.callId).map(c => c.name), ['write_file', 'run_terminal_cmd'])
  // The twin, as the client library has it.
  const [started, ended] = ['tool-call-started', 'tool-call-completed'].map(type => twins(events).find(u => u.type === type && u.callId === outer.callId))
  assert.deepEqual(started.toolCall, { type: 'task', args: { description: 'A piece of work', prompt, subagentType: { kind: 'generalPurpose' } } })
  const { durationMs, ...value } = ended.toolCall.result.value
  assert.ok(Number.isInteger(durationMs) && durationMs >= 0)
  assert.deepEqual(value, { agentId: outer.result.success.agentId, isBackground: false, backgroundReason: 'unspecified', conversationSteps: [{ type: 'assistantMessage', message: { text: outer.result.success.text } }] })
  // Updates of the nested loop.
  const told = twins(events).filter(u => u.type === 'tool-call-delta')
  assert.ok(told.every(u => u.callId === outer.callId && u.modelCallId === ''))
  const kinds = new Set(told.map(u => u.taskUpdate.type))
  for (const type of ['step-started', 'step-completed', 'tool-call-started', 'tool-call-completed', 'text-delta']) assert.ok(kinds.has(type), type)
  assert.ok(!kinds.has('shell-output-delta'), 'output names its own call')
  assert.ok(twins(events).some(u => u.type === 'shell-output-delta' && /inside/.test(u.event.data)))
  assert.ok(!events.some(e => e.event === 'assistant' && /inside/.test(e.data.text)), 'what it says is no word of the run')
  assert.equal(twins(events).filter(u => u.type === 'user-message-appended').length, 1)
  assert.equal(twins(events).filter(u => u.type === 'turn-ended').length, 1)
})

test('playbook: a block for a subagent is a playbook of its own; one without a name or prompt is told', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const run = await pool.run(`Go.\n\`\`\`\`subagent generalPurpose must\n${file('inner.txt', 'INNER')}\`\`\`\`\n\`\`\`subagent\n\`\`\`\n\`\`\`subagent explore\n\`\`\`\n${sh('cat inner.txt')}`)
  const r = await run.end(), calls = [...checkEvents(await run.events()).completed.values()]
  assert.deepEqual(calls.map(c => c.name), ['write_file', 'task', 'run_terminal_cmd'])
  assert.equal(calls[0].parentCallId, calls[1].callId)
  assert.match(calls[2].result.success.stdout, /INNER/)
  assert.match(r.result, /subagent generalPurpose: ok/)
  assert.match(r.result, /a subagent block needs a name/)
  assert.match(r.result, /a subagent block needs a prompt as its body/)
})

test('explore reads and shell runs commands: they are not given more, and what they call anyway is refused', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const out = path.join(pool.dir, 'out')
  const calls = file('x.txt', 'x') + sh(`echo hello >> ${out}`) + tool('read_file', { path: 'README.md' }) + task('generalPurpose', 'x')
  const run = await pool.run(task('explore', calls) + task('shell', calls) + task('generalPurpose', calls, { readonly: true }))
  assert.equal((await run.end()).status, 'FINISHED')
  const { completed } = checkEvents(await run.events())
  const all = [...completed.values()], below = i => all.filter(c => c.parentCallId === all.filter(x => x.name === 'task' && !x.parentCallId)[i].callId).map(c => [c.name, c.result.error?.code ?? 'success'])
  assert.deepEqual(below(0), [['write_file', 'plan_mode'], ['run_terminal_cmd', 'plan_mode'], ['read_file', 'success'], ['task', 'not_offered']])
  assert.deepEqual(below(1), [['write_file', 'not_offered'], ['run_terminal_cmd', 'success'], ['read_file', 'success'], ['task', 'not_offered']])
  assert.deepEqual(below(2), [['write_file', 'plan_mode'], ['run_terminal_cmd', 'plan_mode'], ['read_file', 'success'], ['task', 'success']])
  assert.deepEqual(lines(out), ['hello'])
})

test('the user\'s subagents: told to the model, with their own prompt and model, and counted', async t => {
  const m = await modelServer(t)
  const options = 'aliases = ["smart"]\n[[models.providers.models.options]]\nid = "effort"\nvalues = ["low", "high"]\nfield = "reasoning.effort"'
  const pool = await bullpen(t, { config: provider(m, 'openai', { model: options }) + '[[models.providers.models]]\nid = "other"\nupstream = "other-1"\n' })
  await pool.worker()
  const custom = [reviewer, { name: 'Deep', description: 'Thinks hard.', prompt: 'You are deep.', model: { id: 'smart', params: [{ id: 'effort', value: 'high' }] } }, { ...reviewer, name: 'cheap', model: 'other' }, { ...reviewer, name: 'same', model: 'inherit' }]
  const asked = []
  m.otherwise = body => {
    const who = system(body).match(/subagent `(\w+)`/)?.[1] ?? 'main'
    asked.push({ who, body })
    if (who !== 'main') return { answer: { text: `Report of ${who}.`, usage: { input: 100, output: 10 } } }
    if (body.messages.at(-1).role === 'user') return { answer: { calls: custom.map(c => call('Task', { description: 'd', prompt: `Work, ${c.name}.`, subagentType: c.name.toUpperCase() })), usage: { input: 1000, output: 1 } } }
    return { answer: { text: 'All done.', usage: { input: 2000, output: 2 } } }
  }
  const run = await pool.run('A secret of the main conversation', { extra: { customSubagents: custom } })
  const r = await run.end()
  assert.equal(r.result, 'All done.', JSON.stringify(r))
  const main = asked.filter(a => a.who === 'main'), of = who => asked.filter(a => a.who === who)
  assert.equal(main.length, 2)
  assert.match(system(main[0].body), /- rev: Reviews what was written\./)
  assert.ok(toolNames(main[0].body).includes('task') && !toolNames(main[0].body).includes('create_plan'))
  assert.deepEqual(main[1].body.messages.filter(x => x.role === 'tool').map(x => x.content.replace(/\n\n\(agentId: loop-[0-9a-f-]+\)$/, '!')), ['Report of rev.!', 'Report of Deep.!', 'Report of cheap.!', 'Report of same.!'])
  for (const c of custom) assert.equal(of(c.name).length, 1)
  assert.match(system(of('rev')[0].body), /You are the strict reviewer\./)
  assert.deepEqual(of('rev')[0].body.messages.filter(x => x.role !== 'system').map(x => x.content), ['Work, rev.'])
  assert.ok(!JSON.stringify(of('rev')[0].body).includes('A secret of the main'))
  assert.deepEqual(custom.map(c => [of(c.name)[0].body.model, of(c.name)[0].body.reasoning?.effort]), [['clever-1', 'low'], ['clever-1', 'high'], ['other-1', undefined], ['clever-1', 'low']])
  // Usage.
  const usage = (await pool.http('GET', `/v1/agents/${run.agentId}/usage`)).json
  assert.deepEqual([usage.totalUsage.inputTokens, usage.totalUsage.outputTokens], [3400, 43])
  const ended = twins(await run.events()).find(u => u.type === 'turn-ended')
  assert.deepEqual([ended.usage.inputTokens, ended.usage.outputTokens], [3400, 43])
  // Never returned.
  for (const answer of [await pool.http('GET', `/v1/agents/${run.agentId}`), await pool.http('GET', '/v1/agents'), await run.get()]) assert.ok(!JSON.stringify(answer.json ?? answer).includes('strict reviewer'))
  // A later run has them, too, and another agent has not.
  const again = await run.followUp('Again')
  assert.equal((await again.end()).result, 'All done.')
  assert.equal(of('rev').length, 2)
  const other = await pool.run('Without')
  assert.equal((await other.end()).status, 'FINISHED')
  const { completed } = checkEvents(await other.events())
  assert.equal(completed.size, custom.length)
  for (const c of completed.values()) assert.match(c.result.error.message, /there is no subagent '\w+'; there are: generalPurpose, explore, shell, debug$/)
})

test('tasks of one turn go on side by side', async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'anthropic') })
  await pool.worker()
  const at = name => path.join(pool.dir, name)
  // Each waits for what the other makes.
  const steps = { one: `touch ${at('a')}; until [ -e ${at('b')} ]; do sleep 0.02; done`, two: `touch ${at('b')}; until [ -e ${at('a')} ]; do sleep 0.02; done` }
  m.otherwise = body => {
    const last = body.messages.at(-1).content, text = last[0].text
    if (last[0].type === 'tool_result') return { answer: { text: 'Done.' } }
    if (steps[text]) return { answer: { calls: [call('run_terminal_cmd', { command: steps[text], timeout: 15000 })] } }
    return { answer: { calls: Object.keys(steps).map(prompt => call('task', { description: prompt, prompt, subagent_type: 'generalPurpose' })) } }
  }
  const run = await pool.run('Go')
  const r = await run.end()
  assert.equal(r.result, 'Done.', JSON.stringify(r))
  const { completed } = checkEvents(await run.events())
  assert.deepEqual([...completed.values()].filter(c => c.name === 'run_terminal_cmd').map(c => c.result.success?.exitCode), [0, 0])
})

test('a subagent may hand on a task, its subagent may not; what is wrong with a task is told in words', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const log = path.join(pool.dir, 'log')
  const third = task('debug', sh(`echo third >> ${log}`)), second = task('generalPurpose', sh(`echo second >> ${log}`) + third)
  const wrong = [[{ subagent_type: 'browser', prompt: 'x' }, /no subagent 'browser' in this version; there are: generalPurpose, explore, shell, debug$/], [{ subagent_type: 'explore' }, /'prompt' must be/], [{ prompt: 'x' }, /'subagent_type' must be/],
    [{ subagent_type: 'explore', prompt: 'x', model: 'gpt-9' }, /no model 'gpt-9'; there are: playbook$/], [{ subagent_type: 'explore', prompt: 'x', run_in_background: 'yes' }, /'run_in_background' must be true or false/], [{ subagent_type: 'explore', prompt: 'x', resume: 'loop-1' }, /agentId of an earlier task of this agent; 'loop-1' is none/],
    [{ subagent_type: 'explore', prompt: 'x'.repeat(256 * 1024 + 1) }, /at most 256 KiB/], [{ subagent_type: 7, prompt: {} }, /'prompt' must be/]]
  const run = await pool.run(task('generalPurpose', second) + wrong.map(([args]) => tool('task', args)).join('') + task('EXPLORE', 'x', { model: 'playbook' }))
  assert.equal((await run.end()).status, 'FINISHED')
  assert.deepEqual(lines(log), ['second'])
  const { completed } = checkEvents(await run.events())
  const all = [...completed.values()], top = all.filter(c => !c.parentCallId)
  assert.match(all.find(c => c.result.error && c.parentCallId).result.error.message, /2 deep at most/)
  for (const [i, [, pattern]] of wrong.entries()) {
    assert.equal(top[i + 1].result.error.code, 'invalid_arguments')
    assert.match(top[i + 1].result.error.message, pattern)
  }
  assert.ok(top.at(-1).result.success)
})

test('the server is killed while a subagent works: it goes on where it was, and each call runs once', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const log = path.join(pool.dir, 'log'), go = path.join(pool.dir, 'go')
  const steps = sh(`echo 0 >> ${log}`) + sh(`echo 1 >> ${log}; until [ -e ${go} ]; do sleep 0.02; done`) + sh(`echo 2 >> ${log}`) + file('not.txt', 'x')
  const run = await pool.run(task('shell', steps) + sh(`echo 3 >> ${log}`), { extra: { customSubagents: [reviewer] } })
  for (let i = 0; i < 2; i++) {
    await until('the subagent is in its second step', () => lines(log).length >= 2)
    await pool.crash()
    if (i === 1) fs.writeFileSync(go, '')
    await pool.restart()
  }
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.deepEqual(lines(log), ['0', '1', '2', '3'])
  const { running, completed } = checkEvents(await run.events())
  assert.equal(running.size, 6)
  assert.equal(completed.size, 6)
  assert.equal([...completed.values()].find(c => c.name === 'write_file').result.error.code, 'not_offered', 'what it is not given stays so')
})

test('cancelling the run ends its subagents and what they run', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const log = path.join(pool.dir, 'log')
  const run = await pool.run(task('generalPurpose', sh(`echo began >> ${log}; sleep 600; echo ended >> ${log}`)))
  await until('its call runs', () => lines(log).length === 1)
  assert.equal((await run.cancel()).status, 200)
  assert.equal((await run.end()).status, 'CANCELLED')
  assert.equal((await (await pool.run(sh(`echo next >> ${log}`))).end()).status, 'FINISHED')
  assert.deepEqual(lines(log), ['began', 'next'])
  const events = await run.events(), { running, completed } = checkEvents(events)
  assert.equal(running.size, 2)
  assert.equal(completed.size, 2, 'both calls are told as ended')
  assert.ok(twins(events).some(u => u.type === 'tool-call-completed' && u.toolCall.type === 'task' && u.toolCall.result.status === 'error'))
})

test('a subagent whose model fails is an error of the task, not of the run', async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'openai') })
  await pool.worker()
  m.otherwise = body => /subagent `/.test(system(body)) ? { status: 400, message: 'I do not like it' } : body.messages.at(-1).role === 'user' ? { answer: { calls: [call('task', { description: 'd', prompt: 'p', subagent_type: 'debug' })] } } : { answer: { text: body.messages.at(-1).content } }
  const r = await (await pool.run('Go')).end()
  assert.equal(r.status, 'FINISHED')
  assert.match(r.result, /I do not like it/)
})

test('customSubagents: what may be said, what may not, and where', async t => {
  const pool = await bullpen(t)
  const repos = [{ url: (await pool.origin()).url }]
  const post = customSubagents => pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, repos, customSubagents } })
  const many = n => Array.from({ length: n }, (_, i) => ({ ...reviewer, name: `r${i}` }))
  const without = key => { const { [key]: _, ...rest } = reviewer; return rest }
  const good = [[], [reviewer], many(20), [{ ...reviewer, name: `0${'a'.repeat(63)}` }], [{ ...reviewer, name: 'A_b-9' }], ...['inherit', 'playbook', 'default', { id: 'auto' }, { id: 'playbook', params: [] }].map(model => [{ ...reviewer, model }]),
    [{ ...reviewer, description: 'd'.repeat(4096), prompt: 'p'.repeat(128 * 1024) }]]
  for (const list of good) assert.equal((await post(list)).status, 201, JSON.stringify(list).slice(0, 200))
  const bad = [[many(21), /'customSubagents' may have at most 20/], [[reviewer, { ...reviewer, name: 'REV' }], /customSubagents\[1\].name': there are two subagents 'REV'/],
    ...['explore', 'Debug', 'shell', 'computeruse', 'generalPurpose', 'browser', 'plan', 'agent', 'task', 'bash'].map(name => [[{ ...reviewer, name }], /is a name of Bullpen's own/]),
    ...['', '-a', '_a', 'a b', 'a'.repeat(65), 'ä', 'a.b'].map(name => [[{ ...reviewer, name }], /customSubagents\[0\].name' must be/]),
    ...['name', 'description', 'prompt'].map(key => [[reviewer, without(key)], new RegExp(`customSubagents\\[1\\].${key}' is required`)]), ...['description', 'prompt'].flatMap(key => [[[{ ...reviewer, [key]: '' }], /must be a non-empty/], [[{ ...reviewer, [key]: ' \n' }], /must not be blank/], [[{ ...reviewer, [key]: 7 }], /must be a string/]]),
    [[{ ...reviewer, description: 'd'.repeat(4097) }], /at most 4096 bytes/], [[{ ...reviewer, prompt: 'd'.repeat(128 * 1024 + 1) }], /at most 131072 bytes/],
    [[{ ...reviewer, tools: [] }], /Unrecognized key\(s\) in 'customSubagents\[0\]': 'tools'/], [['rev'], /must be an object/], [{}, /must be an array/],
    ...[null, 7, '', [], {}, { id: '' }, { id: 'playbook', more: 1 }].map(model => [[{ ...reviewer, model }], /customSubagents\[0\].model' must be a model's id, \{id, params\?\} or "inherit"/]), ...[{}, [7], [{ id: 'a' }], [{ id: 'a', value: '' }], [{ id: 'a', value: 'b', c: 'd' }]].map(params => [[{ ...reviewer, model: { id: 'playbook', params } }], /model.params' must be an array of/])]
  for (const [list, pattern] of bad) {
    const r = await post(list)
    isError(r, 400, 'validation_error')
    assert.match(r.json.error.message, pattern, JSON.stringify(list).slice(0, 200))
  }
  for (const model of ['nothing', { id: 'nothing' }, { id: 'playbook', params: [{ id: 'effort', value: 'high' }] }]) isError(await post([{ ...reviewer, model }]), 400, 'invalid_model')
  const agent = (await post([reviewer])).json.agent
  isError(await pool.http('POST', `/v1/agents/${agent.id}/runs`, { body: { prompt: { text: 'x' }, customSubagents: [] } }), 400, 'validation_error')
})
