// MCP servers that the control plane asks: kept ones, over the real transports, and servers that misbehave.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen } from './lib.mjs'
import { CONFIG, everythingServer, keep, ownServer, tryServer } from './mcp-help.mjs'

test('the published server over Streamable HTTP and over HTTP+SSE, whatever type it was given', async t => {
  const pool = await bullpen(t, { config: CONFIG })
  for (const transport of ['streamableHttp', 'sse']) {
    const s = await everythingServer(t, transport)
    for (const type of ['http', 'sse']) {
      const r = await tryServer(pool, { name: `${transport} as ${type}`, type, url: s.url })
      assert.equal(r.state, 'ready', JSON.stringify(r))
      assert.ok(r.tools.some(x => x.name === 'echo'), JSON.stringify(r.tools))
    }
  }
})
