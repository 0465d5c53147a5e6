// MCP servers that the worker starts (stdio): from the list in a request to the tool that a model calls, with servers as they are
// published. Hostile ones are in mcp-hostile.test.mjs.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, sh, tool, until } from './lib.mjs'
import { everything, filesystem, lines, mcpCalls, memory } from './mcp-help.mjs'
import { modelServer, provider } from './models-help.mjs'

const withWorker = async (t, { args = [], config, env } = {}) => {
  const pool = await bullpen(t, { config })
  pool.w = await pool.worker({ args, env })
  return pool
}

test('a tool of a published server is called under its name and shown as mcp', async t => {
  const pool = await withWorker(t)
  const r = await pool.run(tool('mcp_everything_echo', { message: 'hello there' }), { extra: { mcpServers: [everything()] } })
  const end = await r.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  const events = await r.events()
  const [running, done] = events.filter(e => e.event === 'tool_call').map(e => e.data)
  assert.equal(running.name, 'mcp')
  assert.equal(running.status, 'running')
  assert.deepEqual(running.args, { name: 'mcp_everything_echo', args: { message: 'hello there' }, providerIdentifier: 'everything', toolName: 'echo' })
  assert.equal(done.status, 'completed')
  assert.deepEqual(done.result, { success: { content: [{ text: { text: 'Echo: hello there' } }], isError: false } })
  const twin = events.filter(e => e.event === 'interaction_update' && e.data.type === 'tool-call-completed').map(e => e.data)
  assert.equal(twin[0].toolCall.type, 'mcp', JSON.stringify(twin[0]))
  assert.deepEqual(lines(events), [])
})
