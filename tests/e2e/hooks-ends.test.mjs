// Hooks at the ends of things: of sessions, background commands, failed runs, chains of follow-ups, worker processes.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { sh, file, tool, until } from './lib.mjs'
import { hooked, record, say, finished } from './hooks-help.mjs'
import { modelServer, provider } from './models-help.mjs'

const background = command => tool('run_terminal_cmd', { command, isBackground: true })

test('a command in the background is told when it ends, although the agent is idle', async t => {
  const pool = await hooked(t, log => ({ sessionEnd: [record(log)], afterShellExecution: [record(log)] }))
  const flag = path.join(pool.dir, 'flag')
  const { run } = await finished(pool, background(`echo early; until [ -e ${flag} ]; do sleep 0.05; done; echo late; exit 3`) + background('echo second; sleep 300'))
  assert.deepEqual(pool.events(), [])
  fs.writeFileSync(flag, '')
  await until('the end was told', () => pool.of('afterShellExecution').length === 1)
  const [told] = pool.of('afterShellExecution')
  assert.equal(told.output, 'early\nlate\n')
  assert.match(told.command, /^echo early/)
  assert.equal(told.conversation_id, run.agentId)
  assert.ok(told.duration > 0)
  // The session is used on, and what still runs is told at its end.
  assert.equal((await (await run.followUp(background('echo third'))).end()).status, 'FINISHED')
  await until('the third was told', () => pool.of('afterShellExecution').some(e => e.output === 'third\n'))
  assert.equal((await pool.http('DELETE', `/v1/agents/${run.agentId}`)).status, 200)
  await until('the session has ended', () => pool.events().includes('sessionEnd'))
  assert.deepEqual(pool.of('afterShellExecution').map(e => e.output), ['early\nlate\n', 'third\n', 'second\n'])
})

test('sessionEnd knows how the last run ended: archived, worker stopped, idle, cancelled, failed', async t => {
  const pool = await hooked(t, log => ({ sessionEnd: [record(log)], beforeSubmitPrompt: [{ command: 'if grep -q forbidden; then exit 2; fi' }] }))
  const ends = () => pool.of('sessionEnd').map(e => [e.reason, e.final_status])
  const first = await finished(pool, sh('echo one'))
  assert.equal((await pool.http('POST', `/v1/agents/${first.run.agentId}/archive`)).status, 200)
  await until('archived', () => ends().length === 1)
  const failed = await pool.run('forbidden')
  assert.equal((await failed.end()).status, 'ERROR')
  assert.equal((await pool.http('POST', `/v1/agents/${failed.agentId}/archive`)).status, 200)
  await until('failed', () => ends().length === 2)
  const cancelled = await pool.run(sh(`touch ${pool.dir}/begun; sleep 300`))
  await until('the command runs', () => fs.existsSync(path.join(pool.dir, 'begun')))
  await cancelled.cancel()
  assert.equal((await cancelled.end()).status, 'CANCELLED')
  assert.equal((await pool.http('POST', `/v1/agents/${cancelled.agentId}/archive`)).status, 200)
  await until('cancelled', () => ends().length === 3)
  assert.deepEqual(ends(), [['user_close', 'FINISHED'], ['user_close', 'ERROR'], ['user_close', 'CANCELLED']])
  // Another request takes the worker of an idle agent.
  await finished(pool, sh('echo two'))
  await finished(pool, sh('echo three'))
  await until('it made room', () => ends().length === 4)
  assert.deepEqual(ends()[3], ['completed', 'FINISHED'])
  pool.w.child.kill('SIGTERM')
  await pool.w.exited
  assert.deepEqual(ends()[4], ['aborted', 'FINISHED'])
})

test('a worker that was idle for long enough ends its session as completed', async t => {
  const pool = await hooked(t, log => ({ sessionEnd: [record(log)] }), { args: ['--idle-release-timeout', '1'] })
  await finished(pool, sh('echo one'))
  await pool.w.exited
  assert.deepEqual(pool.of('sessionEnd').map(e => [e.reason, e.final_status]), [['completed', 'FINISHED']])
})

test('sessionStart says resumed to a claim that goes on with a new process, also by a follow-up', async t => {
  const pool = await hooked(t, log => ({ sessionStart: [record(log)] }), { worker: { workerId: 'box-1' } })
  const { run } = await finished(pool, sh('echo one'))
  await pool.w.kill()
  await pool.w.again()
  assert.equal((await (await run.followUp(sh('echo two'))).end()).status, 'FINISHED')
  assert.deepEqual(pool.of('sessionStart').map(e => e.resumed), [undefined, true])
})

test('a prompt comes with the rules that were given with it', async t => {
  const pool = await hooked(t, log => ({ beforeSubmitPrompt: [record(log)] }), { files: { 'AGENTS.md': 'Be kind.\n', '.cursor/rules/always.mdc': '---\nalwaysApply: true\n---\nAlways.\n', '.cursor/rules/some.mdc': '---\ndescription: some\nalwaysApply: false\n---\nSome.\n' } })
  await finished(pool, sh('echo hi'))
  const [asked] = pool.of('beforeSubmitPrompt'), [root] = asked.workspace_roots
  assert.deepEqual(asked.attachments, [{ type: 'rule', file_path: `${root}/AGENTS.md` }, { type: 'rule', file_path: `${root}/.cursor/rules/always.mdc` }])
})

test('subagents of one turn are parallel workers; one that is told to go on does', async t => {
  const m = await modelServer(t)
  const task = prompt => ({ name: 'task', arguments: { description: prompt, prompt, subagent_type: 'generalPurpose' } })
  m.otherwise = body => {
    const last = body.messages.at(-1), text = JSON.stringify(last.content)
    if (last.role !== 'user') return { answer: { text: 'All done.' } }
    if (/Start two/.test(text)) return { answer: { calls: [task('left'), task('right')] } }
    if (/Start one/.test(text)) return { answer: { calls: [task('alone')] } }
    return { answer: { text: /More please/.test(text) ? 'More.' : 'Less.' } }
  }
  const pool = await hooked(t, log => ({ subagentStart: [record(log)], subagentStop: [record(log), { matcher: 'generalPurpose', loop_limit: 2, command: `if grep -q '"task":"alone"'; then echo '{"followup_message":"More please"}'; fi` }] }), { config: provider(m, 'openai') })
  await finished(pool, 'Start two')
  assert.deepEqual(pool.of('subagentStart').map(e => e.is_parallel_worker), [true, true])
  const { calls } = await finished(pool, 'Start one')
  assert.equal(pool.of('subagentStart')[2].is_parallel_worker, false)
  const stops = pool.of('subagentStop').filter(e => e.task === 'alone')
  assert.deepEqual(stops.map(e => [e.loop_count, e.summary, e.status]), [[0, 'Less.', 'completed'], [1, 'More.', 'completed'], [2, 'More.', 'completed']])
  assert.equal(calls[0].result.success.text, 'More.')
})

test('a run that failed goes on if a hook of stop says so', async t => {
  const m = await modelServer(t)
  m.otherwise = body => {
    return /Try again/.test(JSON.stringify(body.messages.at(-1))) ? { answer: { text: 'Now it works.' } } : { status: 400, message: 'no such thing' }
  }
  const pool = await hooked(t, log => ({ stop: [record(log), { command: `if grep -q '"status":"error"'; then echo '{"followup_message":"Try again"}'; fi` }] }), { config: provider(m, 'openai') })
  const { r } = await finished(pool, 'Do it')
  assert.deepEqual(pool.of('stop').map(e => [e.status, e.loop_count]), [['error', 0], ['completed', 1]])
  assert.equal(r.result, 'Now it works.')
})

test('nobody goes on for ever: a hundred follow-ups in one run', async t => {
  const pool = await hooked(t, log => ({ stop: [{ command: `echo x >> ${log}.n; echo '{"followup_message":"Again."}'`, loop_limit: null }] }))
  const { r } = await finished(pool, 'Begin.')
  assert.equal(r.status, 'FINISHED')
  assert.equal(fs.readFileSync(`${pool.log}.n`, 'utf8').length / 2, 101)
  assert.match(pool.server.stderr, /run\.hooks\.followups/)
})

test('a session that is given up, because the server was away for too long or the claim ended meanwhile, ends with error', async t => {
  const pool = await hooked(t, log => ({ sessionEnd: [record(log)] }), { config: '[pools]\nworker_loss_grace = 1\n' })
  const run = await pool.run(sh(`touch ${pool.dir}/begun; sleep 300`))
  await until('the call runs', () => fs.existsSync(path.join(pool.dir, 'begun')))
  await pool.crash()
  await until('the session was given up', () => pool.events().includes('sessionEnd'))
  await pool.restart()
  await run.end()
  assert.deepEqual(pool.of('sessionEnd').map(e => [e.reason, e.conversation_id]), [['error', run.agentId]])
})
