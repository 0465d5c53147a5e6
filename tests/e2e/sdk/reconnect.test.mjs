// Streams that are cut, and servers that restart, under the official SDK.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, sh, file, until } from '../lib.mjs'
import { gate } from '../api-help.mjs'
import { tlsPool } from '../tls.mjs'
import { both, begin, tap, value } from './help.mjs'

both('the server restarts in the middle: the library reconnects and misses nothing', async (t, gen) => {
  const pool = await bullpen(t)
  await pool.worker()
  const g = gate(pool, fs, path)
  const p = begin(t, gen, pool, async (sdk, input) => {
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

both('a stream that has expired: the run still tells, the rest is empty without an error', async (t, gen) => {
  const pool = await bullpen(t, { config: '[runs]\nstream_retention = 1\n' })
  await pool.worker()
  const run = await pool.run(file('a.txt', 'A'))
  const end = await run.end()
  await until('it has expired', async () => { const s = await run.stream(); if (s.status === 200) s.close(); return s.status === 410 })
  const v = await value(t, gen, pool, async (sdk, input) => {
    const run = await sdk.Agent.getRun(input.id, { runtime: 'cloud', agentId: input.agentId })
    const messages = []
    for await (const m of run.stream()) messages.push(m)
    return { result: await run.wait(), conversation: await run.conversation(), messages }
  }, { id: run.id, agentId: run.agentId })
  assert.deepEqual([v.result.status, v.result.result], ['finished', end.result])
  assert.deepEqual([v.conversation, v.messages.filter(m => m.type !== 'status')], [[], []])
})

both('streams that are cut twice at any places: every handle has the same messages and the same conversation', async (t, gen) => {
  const pool = await bullpen(t)
  await pool.worker()
  const g = gate(pool, fs, path), via = await tap(t, pool), handles = 8, seed = Number(process.env.RESUME_SEED ?? Date.now() % 1e9)
  const run = await pool.run(file('a.txt', 'A') + sh('for i in $(seq 1 300); do echo "line $i"; done') + file('b.txt', 'B'.repeat(9000)) + sh('echo two') + file('c.txt', 'C'.repeat(9000)) + sh(g.command) + sh('echo three'))
  await until('it is at the gate', g.reached)
  let streams = 0
  // All first connections come before the second ones, a second later.
  via.cut = r => r.url.endsWith('/stream') && ++streams <= 2 * handles ? 1 + (seed * streams) % 7919 : undefined
  const p = begin(t, gen, pool, async (sdk, input) => {
    const read = async () => {
      const run = await sdk.Agent.getRun(input.id, { runtime: 'cloud', agentId: input.agentId })
      const messages = []
      for await (const m of run.stream()) if (m.type !== 'status') messages.push(m)
      return { status: run.status, messages, conversation: await run.conversation() }
    }
    return Promise.all(Array.from({ length: input.handles }, read))
  }, { id: run.id, agentId: run.agentId, handles }, { url: via.url })
  await until('each handle has its third connection', () => streams >= 3 * handles || (!p.alive && Promise.reject(new Error(p.stdout + p.stderr))), 60)
  g.go()
  const { value: got, error } = await p.answer
  assert.ok(!error, JSON.stringify(error))
  const uncut = await value(t, gen, pool, async (sdk, input) => {
    const run = await sdk.Agent.getRun(input.id, { runtime: 'cloud', agentId: input.agentId })
    const messages = []
    for await (const m of run.stream()) if (m.type !== 'status') messages.push(m)
    return { status: run.status, messages, conversation: await run.conversation() }
  }, { id: run.id, agentId: run.agentId })
  assert.ok(uncut.messages.length > 10)
  for (const h of got) assert.deepEqual(h, uncut, `RESUME_SEED=${seed}`)
})

both('over TLS, with a restart in the middle', async (t, gen) => {
  const pool = await tlsPool(t)
  await pool.worker({ env: pool.trust })
  const g = gate(pool, fs, path)
  const p = begin(t, gen, pool, async (sdk, input) => {
    const run = await (await sdk.Agent.create({ cloud: { repos: [{ url: input.url }] } })).send(input.prompt)
    return { result: await run.wait(), conversation: await run.conversation() }
  }, { url: (await pool.origin()).url, prompt: file('one', '1') + sh(g.command) + file('two', '2') }, { env: { NODE_EXTRA_CA_CERTS: pool.ca.file } })
  await until('the gate is reached', () => g.reached() || (!p.alive && Promise.reject(new Error(p.stdout + p.stderr))))
  assert.equal((await pool.stop()).code, 0)
  await pool.restart()
  g.go()
  const { value: v, error } = await p.answer
  assert.ok(!error, JSON.stringify(error))
  assert.equal(v.result.status, 'finished')
  assert.deepEqual(v.conversation[0].turn.steps.map(s => s.message.type ?? s.type), ['write', 'shell', 'write', 'assistantMessage'])
})
