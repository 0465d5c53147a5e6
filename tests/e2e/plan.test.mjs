// Plan mode: nothing that writes is there, whoever asks for it, and the run ends with a plan.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, sh, file, tool, checkEvents, until } from './lib.mjs'
import { modelServer, provider } from './models-help.mjs'

const call = (name, args) => ({ name, arguments: args })
const plan = '# Plan\n\n1. Write `größe.txt`.\n2. Test it.\n'
const twins = events => events.filter(e => e.event === 'interaction_update').map(e => e.data)

for (const type of ['openai', 'anthropic']) {
  const system = body => type === 'openai' ? body.messages[0].content : body.system.map(b => b.text).join('')
  const names = body => body.tools.map(x => type === 'openai' ? x.function.name : x.name)

  test(`${type}: the plan that create_plan is given is the run's result; a follow-up in agent mode carries it out`, async t => {
    const m = await modelServer(t)
    const pool = await bullpen(t, { config: provider(m, type) })
    await pool.worker()
    m.next({ answer: { text: 'I look first.', calls: [call('list_dir', { path: '.' })] } }, { answer: { text: 'Here it is.', calls: [call('create_plan', { plan })] } })
    const run = await pool.run('Plan it', { extra: { mode: 'plan' } })
    const r = await run.end()
    assert.equal(r.status, 'FINISHED', JSON.stringify(r))
    assert.equal(r.result, plan)
    assert.ok(!('git' in r))
    assert.deepEqual(await (await pool.origin()).branches(), ['main'])
    assert.equal(m.requests.length, 2, 'the plan ends the run')
    const writing = ['write_file', 'edit_file', 'delete_file', 'run_terminal_cmd']
    for (const { body } of m.requests) {
      assert.match(system(body), /Mode: plan\..*create_plan/s)
      assert.ok(names(body).includes('create_plan') && names(body).includes('read_file') && names(body).includes('task'))
      for (const name of writing) assert.ok(!names(body).includes(name), name)
    }
    const events = await run.events(), { completed } = checkEvents(events)
    const planned = [...completed.values()].find(c => c.name === 'create_plan')
    assert.deepEqual(planned.result, { success: {} })
    assert.deepEqual(twins(events).find(u => u.type === 'tool-call-completed' && u.callId === planned.callId).toolCall, { type: 'createPlan', args: { plan }, result: { status: 'success', value: {} } })
    assert.equal(events.filter(e => e.event === 'assistant').map(e => e.data.text).join(''), `I look first.Here it is.${plan}`, 'the result is said, too')
    assert.equal(events.find(e => e.event === 'result').data.text, plan)
    // Then it is done.
    m.next({ answer: { calls: [call('write_file', { path: 'größe.txt', fileText: 'x' })] } }, { answer: { text: 'Done as planned.' } })
    const now = await (await run.followUp('Do it', { mode: 'agent' })).end()
    assert.equal(now.result, 'Done as planned.')
    assert.equal(await (await pool.origin()).show(now.git.branches[0].branch, 'größe.txt'), 'x')
    assert.deepEqual(m.requests.map(q => q.refused), [null, null, null, null])
    const later = m.requests[2].body
    assert.ok(JSON.stringify(later.messages).includes('Write `größe.txt`.'), 'the plan is part of the conversation')
    assert.ok(!names(later).includes('create_plan') && names(later).includes('write_file'))
    assert.ok(!/Mode: plan/.test(system(later)))
  })
}

test('a model that just answers has given its plan; create_plan without one is told so, and in agent mode it is not there', async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'openai') })
  await pool.worker()
  m.next({ answer: { calls: [call('create_plan', {}), call('create_plan', { plan: ' \n' }), call('CreatePlan', { plan: 7 })] } }, { answer: { text: 'Plan: nothing to do.' } })
  const run = await pool.run('Plan it', { extra: { mode: 'plan' } })
  assert.equal((await run.end()).result, 'Plan: nothing to do.')
  const { completed } = checkEvents(await run.events())
  assert.deepEqual([...completed.values()].slice(0, 2).map(c => c.result.error.code), Array(2).fill('invalid_arguments'))
  m.next({ answer: { calls: [call('create_plan', { plan })] } }, { answer: { text: 'So be it.' } })
  const other = await run.followUp('Now', { mode: 'agent' })
  assert.equal((await other.end()).result, 'So be it.')
  const [refused] = [...checkEvents(await other.events()).completed.values()]
  assert.equal(refused.result.error.code, 'not_offered')
})

test('subagents that a planning run starts may only read, whatever they are asked for', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const out = path.join(pool.dir, 'out')
  const inner = file('x.txt', 'x') + sh(`touch ${out}`) + tool('create_plan', { plan }) + tool('read_file', { path: 'README.md' })
  const task = subagent_type => tool('task', { description: 'd', prompt: inner, subagent_type })
  const custom = { name: 'writer', description: 'Writes.', prompt: 'You write.' }
  const run = await pool.run(['generalPurpose', 'explore', 'debug', 'writer', 'shell'].map(task).join('') + tool('task', { description: 'd', prompt: task('generalPurpose'), subagent_type: 'generalPurpose' }), { extra: { mode: 'plan', customSubagents: [custom] } })
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  const all = [...checkEvents(await run.events()).completed.values()]
  assert.equal(all.find(c => c.args.subagent_type === 'shell').result.error.code, 'invalid_arguments')
  const of = name => all.filter(c => c.name === name && c.parentCallId)
  assert.equal(of('write_file').length, 5)
  for (const c of [...of('write_file'), ...of('run_terminal_cmd')]) assert.equal(c.result.error.code, 'plan_mode')
  for (const c of of('create_plan')) assert.equal(c.result.error.code, 'not_offered')
  for (const c of of('read_file')) assert.match(c.result.success.content, /hello/)
  assert.ok(!fs.existsSync(out))
  assert.ok(!('git' in r))
  assert.deepEqual(await (await pool.origin()).branches(), ['main'])
})

test('the server is killed between the plan and the end of its run: the plan stands', async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'openai') })
  await pool.worker()
  let held = true
  m.otherwise = body => {
    if (/subagent `/.test(body.messages[0].content)) return held ? { answer: { text: 'never ends' }, stallAt: 40 } : { answer: { text: 'Looked.' } }
    return { answer: { calls: [call('create_plan', { plan }), call('task', { description: 'd', prompt: 'p', subagent_type: 'explore' })] } }
  }
  const run = await pool.run('Plan it', { extra: { mode: 'plan' } })
  await until('the plan is there and the subagent works', () => m.stalled > 0)
  await pool.crash()
  held = false
  await pool.restart()
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.equal(r.result, plan)
  assert.equal(m.requests.filter(q => !/subagent `/.test(q.body.messages[0].content)).length, 1, 'the model is not asked again')
  assert.equal((await run.events()).filter(e => e.event === 'assistant').map(e => e.data.text).join(''), plan)
})
