// What hooks can read of a conversation.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { sh, file, tool, until } from './lib.mjs'
import { hooked, record, finished } from './hooks-help.mjs'

// A hook that copies the transcript as it is at that moment, by its variable, and says where the payload has it.
const copy = (log, name) => ({ command: `cat >> ${log}; echo >> ${log}; [ -z "$CURSOR_TRANSCRIPT_PATH" ] || { cat "$CURSOR_TRANSCRIPT_PATH" > ${log}.${name}; stat -c %a "$CURSOR_TRANSCRIPT_PATH" > ${log}.mode; }` })
const lines = path => fs.readFileSync(path, 'utf8').trim().split('\n').map(x => JSON.parse(x))
const shown = path => lines(path).map(l => [l.role, ...l.message.content.map(c => c.type === 'text' ? c.text.split('\n')[0] : `${c.type} ${c.name} ${JSON.stringify(c.input)}`)])

test('a transcript is the conversation so far, of one follow-up after the other, and goes with the claim', async t => {
  const pool = await hooked(t, log => ({ preToolUse: [copy(log, 'pre')], stop: [copy(log, 'stop')], sessionStart: [record(log)], sessionEnd: [record(log)] }))
  const { run } = await finished(pool, 'First.\n' + sh('echo one') + sh('echo two'))
  const pre = shown(`${pool.log}.pre`)
  assert.equal(pre[0][0], 'user')
  assert.equal(pre[0][1], 'First.')
  assert.deepEqual(pre.at(-1).slice(-1), ['tool_use run_terminal_cmd {"command":"echo two"}'])
  const first = shown(`${pool.log}.stop`)
  assert.deepEqual(first.map(l => l[0]), ['user', 'assistant', 'assistant', 'assistant'])
  assert.match(first.at(-1)[1], /2 of 2/)
  assert.equal(fs.readFileSync(`${pool.log}.mode`, 'utf8'), '600\n')
  assert.equal(pool.of('sessionStart')[0].transcript_path, null)
  const at = pool.of('stop')[0].transcript_path
  assert.ok(path.isAbsolute(at) && fs.existsSync(at))
  assert.equal((await (await run.followUp('Second.\n' + sh('echo three'))).end()).status, 'FINISHED')
  const second = shown(`${pool.log}.stop`)
  assert.deepEqual(second.slice(0, first.length), first)
  assert.deepEqual(second.slice(first.length).map(l => l[0]), ['user', 'assistant', 'assistant'])
  assert.equal(second[first.length][1], 'Second.')
  assert.equal((await pool.http('DELETE', `/v1/agents/${run.agentId}`)).status, 200)
  await until('the session has ended', () => pool.events().includes('sessionEnd'))
  assert.equal(pool.of('sessionEnd')[0].transcript_path, at)
  await until('the transcript is gone', () => !fs.existsSync(at))
})

test('a subagent has a transcript of its own; an operator may keep them all; a session cannot change them', async t => {
  const pool = await hooked(t, log => ({ subagentStop: [copy(log, 'sub')], stop: [copy(log, 'stop')], sessionEnd: [record(log)] }), { prepare: pool => pool.settings('keep_transcripts = true\n') })
  const { run, calls } = await finished(pool, tool('task', { description: 'A piece', prompt: 'Inner.\n' + sh('echo inner'), subagent_type: 'generalPurpose' }) + sh('for f in "${CURSOR_AGENT_SCRATCH%/scratch}"/transcripts/*.jsonl; do echo bad >> "$f"; done'))
  assert.match(JSON.stringify(calls.at(-1).result), /Read-only file system/)
  const [sub] = pool.of('subagentStop'), [stop] = pool.of('stop')
  assert.equal(sub.agent_transcript_path, sub.transcript_path)
  assert.notEqual(sub.transcript_path, stop.transcript_path)
  assert.equal(shown(`${pool.log}.sub`)[0][1], 'Inner.')
  const own = shown(`${pool.log}.stop`)
  assert.match(own[1].at(-1), /^tool_use task /)
  assert.ok(!JSON.stringify(own.slice(2)).includes('Inner.'))
  await pool.http('DELETE', `/v1/agents/${run.agentId}`)
  await until('the session has ended', () => !fs.existsSync(stop.transcript_path))
  const kept = path.join(stop.transcript_path, '../../../../transcripts')
  assert.deepEqual(fs.readdirSync(kept).sort(), [sub, stop].map(e => path.basename(e.transcript_path)).sort())
  assert.deepEqual(shown(path.join(kept, path.basename(stop.transcript_path))), own)
  assert.equal(fs.statSync(path.join(kept, path.basename(stop.transcript_path))).mode & 0o777, 0o600)
})

test('a transcript is whole after the server was killed, and after a new process of the worker', async t => {
  const pool = await hooked(t, log => ({ stop: [copy(log, 'stop')] }), { worker: { workerId: 'box-1' } })
  const { run } = await finished(pool, 'First.\n' + sh('echo one'))
  const first = shown(`${pool.log}.stop`)
  const next = await run.followUp('Second.\n' + sh(`touch ${pool.dir}/begun; until [ -e ${pool.dir}/go ]; do sleep 0.05; done`) + sh('echo two'))
  await until('the command runs', () => fs.existsSync(path.join(pool.dir, 'begun')))
  await pool.crash()
  fs.writeFileSync(path.join(pool.dir, 'go'), '')
  await pool.restart()
  assert.equal((await next.end()).status, 'FINISHED')
  const second = shown(`${pool.log}.stop`)
  assert.deepEqual(second.slice(0, first.length), first)
  assert.deepEqual(second.slice(first.length).map(l => l[0]), ['user', 'assistant', 'assistant', 'assistant'])
  await pool.w.kill()
  await pool.w.again()
  assert.equal((await (await run.followUp('Third.')).end()).status, 'FINISHED')
  const third = shown(`${pool.log}.stop`)
  assert.deepEqual(third.slice(0, second.length), second)
  assert.deepEqual(third.slice(second.length).map(l => l[0]), ['user', 'assistant'])
})

test('a conversation that is cut for the model stays whole for hooks; long texts are cut, secrets are not told', async t => {
  const { modelServer, provider } = await import('./models-help.mjs')
  const m = await modelServer(t)
  let asked = 0
  m.otherwise = body => {
    if (/You write the handover/.test(JSON.stringify(body))) return { answer: { text: 'A summary.' } }
    asked++
    const content = asked === 2 ? 'long '.repeat(14000) : 'short'
    return asked < 12 ? { answer: { text: `Step ${asked}.`, calls: [{ name: asked === 2 ? 'write_file' : 'run_terminal_cmd', arguments: asked === 2 ? { path: 'x.txt', content } : { command: `echo hunter2-secret; seq 1 3000` } }], usage: { input: 100, output: 10 } } } : { answer: { text: 'Done with hunter2-secret.', usage: { input: 100, output: 10 } } }
  }
  const pool = await hooked(t, log => ({ stop: [copy(log, 'stop')], preCompact: [record(log)] }), { config: provider(m, 'openai', { model: 'context_window = 20000' }) })
  const run = await pool.run('Work', { extra: { envVars: { PASSWORD: 'hunter2-secret' } } })
  assert.equal((await run.end()).status, 'FINISHED')
  assert.ok(pool.of('preCompact').length > 0)
  const all = lines(`${pool.log}.stop`)
  assert.deepEqual(all.map(l => l.role), ['user', ...Array(12).fill('assistant')])
  assert.deepEqual(all.slice(1, -1).map(l => l.message.content[0].text), Array.from({ length: 11 }, (_, i) => `Step ${i + 1}.`))
  assert.match(all[2].message.content[1].input, /long long .*bytes left out/s)
  assert.doesNotMatch(fs.readFileSync(`${pool.log}.stop`, 'utf8'), /hunter2/)
})

test('where no hook listens nothing is kept', async t => {
  const pool = await hooked(t, {})
  const { run, calls } = await finished(pool, sh('ls "${CURSOR_AGENT_SCRATCH%/scratch}"/transcripts | wc -l'))
  assert.equal(calls[0].result.success.stdout, '0\n')
  assert.ok(run)
})
