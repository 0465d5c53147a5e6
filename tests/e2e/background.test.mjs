// Subagents in the background: the run goes on beside them, collects what they say, and does not end before they do.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, sh, tool, checkEvents, until } from './lib.mjs'
import { modelServer, provider } from './models-help.mjs'

const call = (name, args) => ({ name, arguments: args })
const behind = (prompt, more = {}) => call('task', { description: prompt, prompt, subagent_type: 'generalPurpose', run_in_background: true, ...more })
const lines = log => fs.existsSync(log) ? fs.readFileSync(log, 'utf8').trim().split('\n').filter(Boolean) : []
const system = body => body.messages.find(m => m.role === 'system').content
const idOf = text => text.match(/agentId: (loop-[0-9a-f-]+)/)[1]
const results = body => body.messages.filter(m => m.role === 'tool').map(m => m.content)

// `sub(prompt, said, body)` answers for subagents, `main(turn, body)` for the run's own loop, whose turns are counted.
async function scene(t, { sub, main, files }) {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'openai') })
  const remote = files && await pool.remote({ name: 'acme/behind', files })
  await pool.worker(remote ? { remote, pool: 'behind' } : {})
  const bodies = []
  m.otherwise = body => {
    if (!/You are the subagent `/.test(system(body))) {
      const turn = body.messages.filter(x => x.role === 'assistant').length
      bodies[turn] = body
      return { answer: main(turn, body) }
    }
    return { answer: sub(body.messages.find(x => x.role === 'user').content, body.messages.filter(x => x.role === 'tool').length, body) }
  }
  const at = name => path.join(pool.dir, name)
  const run = () => remote ? pool.run('Go', { pool: 'behind', repo: remote.url }) : pool.run('Go')
  return { m, pool, bodies, at, run }
}
const waitFor = (file, then) => call('run_terminal_cmd', { command: `until [ -e ${file} ]; do sleep 0.02; done; ${then}`, timeout: 60000 })

test('a call answers at once, the run goes on beside it, and await brings the report', async t => {
  const s = await scene(t, {
    sub: (_, done) => done ? { text: 'The inner report.', usage: { input: 100, output: 10 } } : { calls: [waitFor(s.at('go'), `echo inner >> ${s.at('log')}`)], usage: { input: 100, output: 10 } },
    main: (turn, body) => turn === 0 ? { calls: [behind('work')] } : turn === 1 ? { calls: [call('await', { ids: [idOf(results(body)[0])], timeoutMs: 0 })] } : turn === 2 ? { calls: [call('run_terminal_cmd', { command: `echo outer >> ${s.at('log')}; touch ${s.at('go')}` })] }
      : turn === 3 ? { calls: [call('await', { ids: [idOf(results(body)[0])] })] } : { text: 'All done.', usage: { input: 1000, output: 1 } },
  })
  const run = await s.run(), r = await run.end()
  assert.equal(r.result, 'All done.', JSON.stringify(r))
  assert.deepEqual(lines(s.at('log')), ['outer', 'inner'])
  assert.equal(s.bodies.length, 5, 'what was collected is not told once more')
  const events = await run.events(), { running, completed } = checkEvents(events)
  assert.deepEqual([...running.keys()].sort(), [...completed.keys()].sort())
  const of = name => [...completed.values()].filter(c => c.name === name && !c.parentCallId)
  const started = of('task')[0].result.success
  assert.deepEqual(Object.keys(started).sort(), ['agentId', 'isBackground'])
  assert.equal(started.isBackground, true)
  assert.deepEqual(of('await').map(c => c.result.success.items), [[{ id: started.agentId, status: 'running' }], [{ id: started.agentId, status: 'done', text: 'The inner report.' }]])
  assert.match(results(s.bodies[4]).at(-1), /The inner report\./)
  assert.equal([...completed.values()].filter(c => c.parentCallId === of('task')[0].callId).length, 1)
  const twin = events.find(e => e.event === 'interaction_update' && e.data.type === 'tool-call-completed' && e.data.callId === of('task')[0].callId).data.toolCall
  assert.deepEqual([twin.result.value.isBackground, twin.result.value.agentId], [true, started.agentId])
  const usage = (await s.pool.http('GET', `/v1/agents/${run.agentId}/usage`)).json.totalUsage
  assert.ok(usage.inputTokens >= 1200 && usage.outputTokens >= 21, JSON.stringify(usage))
})

test('nobody collects: the run waits for them, and the model hears their reports in one more turn', async t => {
  const s = await scene(t, {
    sub: (prompt, done) => prompt === 'fails' ? { calls: [behind('deeper')] , ...(done && { calls: undefined, text: 'Second.' }) } : prompt === 'deeper' ? { text: 'Deep.' } : done ? { text: 'First.' } : { calls: [waitFor(s.at('go'), 'true')] },
    main: turn => turn === 0 ? { calls: [behind('waits'), behind('fails')] } : turn === 1 ? (fs.writeFileSync(s.at('go'), ''), { text: 'Too early.' }) : { text: 'With reports.' },
  })
  const run = await s.run(), r = await run.end()
  assert.equal(r.result, 'With reports.', JSON.stringify(r))
  assert.equal(s.bodies.length, 3)
  const last = s.bodies[2].messages.at(-1)
  assert.equal(last.role, 'user')
  assert.match(last.content, /from your subagents, not from the user[^]*First\.[^]*Second\./)
  const { completed } = checkEvents(await run.events()), tasks = [...completed.values()].filter(c => c.name === 'task')
  assert.deepEqual(tasks.map(c => [!!c.parentCallId, c.result.success.isBackground]).sort(), [[false, true], [false, true], [true, false]], 'a subagent waits for its own')
})

test('is_background of a file; what the call says itself counts more', async t => {
  const agent = 'Agent text.', s = await scene(t, {
    files: { '.cursor/agents/slow.md': `---\nname: slow\ndescription: Slow.\nis_background: true\n---\n${agent}\n`, 'a.txt': 'a' },
    sub: prompt => ({ text: `Report of ${prompt}.` }),
    main: turn => turn === 0 ? { calls: [call('task', { description: 'd', prompt: 'one', subagent_type: 'slow' }), call('task', { description: 'd', prompt: 'two', subagent_type: 'slow', run_in_background: false })] } : { text: `Answer ${turn}.` },
  })
  const run = await s.run(), r = await run.end()
  assert.equal(r.result, 'Answer 2.', JSON.stringify(r))
  const { completed } = checkEvents(await run.events())
  assert.deepEqual([...completed.values()].map(c => c.result.success.isBackground), [true, false])
  assert.match(s.bodies[2].messages.at(-1).content, /Report of one\./)
})

test('cancelling the run ends those in the background and what they run', async t => {
  const s = await scene(t, {
    sub: () => ({ calls: [call('run_terminal_cmd', { command: `echo began >> ${s.at('log')}; sleep 600; echo ended >> ${s.at('log')}` })] }),
    main: turn => turn === 0 ? { calls: [behind('work')] } : { text: 'Answer.' },
  })
  const run = await s.run()
  await until('its call runs', () => lines(s.at('log')).length === 1)
  assert.equal((await run.cancel()).status, 200)
  assert.equal((await run.end()).status, 'CANCELLED')
  const { running, completed } = checkEvents(await run.events())
  assert.equal(running.size, 2)
  assert.equal(completed.size, 2)
  s.m.otherwise = () => ({ answer: { text: 'Next.' } })
  assert.equal((await (await s.pool.run('next')).end()).result, 'Next.')
  assert.deepEqual(lines(s.at('log')), ['began'])
})

test('the server is killed, or stopped, meanwhile: each goes on where it was, once, and what they say arrives', async t => {
  const s = await scene(t, {
    sub: (prompt, done) => done === 2 ? { text: `Report of ${prompt}.` } : { calls: [done === 0 ? call('run_terminal_cmd', { command: `echo ${prompt} 0 >> ${s.at('log')}` }) : waitFor(s.at('go'), `echo ${prompt} 1 >> ${s.at('log')}`)] },
    main: turn => turn === 0 ? { calls: [behind('a'), behind('b')] } : { text: `Answer ${turn}.` },
  })
  const run = await s.run()
  for (let i = 0; i < 2; i++) {
    await until('both have begun', () => lines(s.at('log')).length === 2)
    if (i === 0) await s.pool.crash()
    else assert.equal((await s.pool.stop()).code, 0)
    if (i === 1) fs.writeFileSync(s.at('go'), '')
    await s.pool.restart()
  }
  const r = await run.end()
  assert.equal(r.result, 'Answer 2.', JSON.stringify(r))
  assert.deepEqual(lines(s.at('log')).sort(), ['a 0', 'a 1', 'b 0', 'b 1'])
  assert.match(s.bodies[2].messages.at(-1).content, /Report of a\.[^]*Report of b\./)
  const { running, completed } = checkEvents(await run.events())
  assert.deepEqual([running.size, completed.size], [6, 6])
})

for (const seed of [1, 2]) test(`the server is killed at random moments, round ${seed}: nothing runs twice, nothing is lost`, async t => {
  const names = ['a', 'b', 'c'], steps = 4, s = await scene(t, {
    sub: (prompt, done) => done === steps ? { text: `Report of ${prompt}.` } : { calls: [call('run_terminal_cmd', { command: `echo ${prompt} ${done} >> ${s.at('log')}; sleep 0.2` })] },
    main: (turn, body) => turn === 0 ? { calls: names.map(n => behind(n)) } : turn === 1 ? { calls: [call('run_terminal_cmd', { command: `echo main >> ${s.at('log')}` })] } : turn === 2 ? { calls: [call('await', { ids: [idOf(results(body)[0])] })] } : { text: `Answer ${turn}.` },
  })
  const run = await s.run()
  let x = seed
  const random = () => (x = x * 48271 % 2147483647) / 2147483647
  for (let kills = 0; kills < 3; kills++) {
    const enough = Math.floor(random() * 4) + kills * 2
    await until('some more is done', async () => lines(s.at('log')).length >= enough)
    await s.pool.crash()
    await s.pool.restart()
  }
  const r = await run.end()
  assert.equal(r.result, 'Answer 4.', JSON.stringify(r))
  assert.deepEqual(lines(s.at('log')).sort(), [...names.flatMap(n => Array.from({ length: steps }, (_, i) => `${n} ${i}`)), 'main'].sort())
  assert.match(results(s.bodies[3]).at(-1), /done\nReport of a\./)
  const told = s.bodies[4].messages.filter(m => m.role === 'user').at(-1).content
  assert.match(told, /Report of b\.[^]*Report of c\./)
  assert.ok(!/Report of a/.test(told), 'what was collected is not told again')
  const { running, completed } = checkEvents(await run.events())
  assert.deepEqual([...running.keys()].sort(), [...completed.keys()].sort())
  assert.equal(completed.size, names.length * (steps + 1) + 2)
})

test('at most 8 work at once, the others wait for a place', async t => {
  const n = 11, began = [], over = []
  let most = 0
  const s = await scene(t, {
    sub: (prompt, done) => {
      if (done) { over.push(prompt); return { text: `Report ${prompt}.` } }
      began.push(prompt)
      most = Math.max(most, began.length - over.length)
      return { calls: [waitFor(s.at(`go${prompt}`), 'true')] }
    },
    main: turn => turn === 0 ? { calls: Array.from({ length: n }, (_, i) => behind(String(i))) } : turn === 1 ? { calls: [call('run_terminal_cmd', { command: 'true' })] } : turn === 2 ? { calls: [call('task', { description: 'd', prompt: 'fore', subagent_type: 'explore' })] } : { text: `Answer ${turn}.` },
  })
  const run = await s.run()
  await until('the run goes on beside them, and 8 have begun', () => s.bodies.length >= 3 && began.length === 8)
  fs.writeFileSync(s.at(`go${began[0]}`), '')
  await until('the next has its place', () => began.length === 9)
  for (const name of [...Array(n).keys(), 'fore']) fs.writeFileSync(s.at(`go${name}`), '')
  const r = await run.end()
  assert.equal(r.result, 'Answer 4.', JSON.stringify(r))
  assert.equal(most, 8)
  assert.deepEqual(began.filter(x => x !== 'fore').map(Number).sort((a, b) => a - b), [...Array(n).keys()])
})

test('playbook, and a plan: it stays the last word, and the next run knows the report', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const flag = path.join(pool.dir, 'flag')
  const args = (subagent_type, prompt) => ({ description: 'd', prompt, subagent_type, run_in_background: true })
  const run = await pool.run(tool('task', args('generalPurpose', sh(`until [ -e ${flag} ]; do sleep 0.02; done; echo inside`))) + sh(`touch ${flag}`)), r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  const { completed } = checkEvents(await run.events())
  assert.deepEqual([...completed.values()].map(c => [c.name, c.result.success?.exitCode ?? c.result.success.isBackground]).sort(), [['run_terminal_cmd', 0], ['run_terminal_cmd', 0], ['task', true]])
  const plan = await pool.run(tool('task', args('explore', 'Look.')) + tool('create_plan', { plan: 'The plan.', title: 'T', body: 'The plan.' }), { extra: { mode: 'plan' } }), p = await plan.end()
  assert.equal(p.status, 'FINISHED')
  assert.match(p.result, /The plan\./)
  const told = (await plan.events()).filter(e => e.event === 'interaction_update' && e.data.type === 'user-message-appended').map(e => e.data.userMessage)
  assert.deepEqual(told.map(m => m.origin), [undefined, 'background'])
  assert.equal((await (await plan.followUp(sh('true'), { mode: 'agent' })).end()).status, 'FINISHED')
})

test('what is wrong with an await is told in words; a busy one is not resumed, an ended one is', async t => {
  const wrong = [{ }, { ids: [] }, { ids: [7] }, { ids: ['loop-none'] }, { ids: ['0123456789abcdef'] }, { ids: ['x'], timeoutMs: 600001 }, { ids: ['x'], timeoutMs: 'soon' }]
  const s = await scene(t, {
    sub: (prompt, done, body) => body.messages.filter(x => x.role === 'user').length > 1 ? { text: 'Resumed.' } : done ? { text: 'First.' } : { calls: [waitFor(s.at('go'), 'true')] },
    main: (turn, body) => turn === 0 ? { calls: [behind('work')] } : turn === 1 ? { calls: [...wrong.map(args => call('await', args)), behind('more', { resume: idOf(results(body)[0]) })] } : turn === 2 ? (fs.writeFileSync(s.at('go'), ''), { calls: [call('await', { ids: [idOf(results(body)[0])] })] })
      : turn === 3 ? { calls: [behind('more', { resume: idOf(results(body)[0]) })] } : turn === 4 ? { calls: [call('await', { ids: [idOf(results(body)[0])] })] } : { text: 'End.' },
  })
  const run = await s.run(), r = await run.end()
  assert.equal(r.result, 'End.', JSON.stringify(r))
  const told = results(s.bodies[2]).slice(1)
  for (const [i, pattern] of [/1 to 32 ids/, /1 to 32 ids/, /ids\[0\]' must be a text/, /'loop-none' is none/, /background shell cannot be awaited/, /from 0 to 600000/, /from 0 to 600000/, /still at work/].entries()) assert.match(told[i], pattern)
  assert.match(results(s.bodies[5]).at(-1), /Resumed\./)
  // A later run may ask, too.
  s.m.otherwise = body => ({ answer: body.messages.at(-1).role === 'user' ? { calls: [call('await', { ids: [idOf(results(body)[0])] })] } : { text: body.messages.at(-1).content } })
  assert.match((await (await run.followUp('Again')).end()).result, /done\nResumed\./)
})
