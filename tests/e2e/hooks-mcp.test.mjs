// Hooks around tools of MCP servers: of one that the worker starts, and of one that the control plane asks.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, tool } from './lib.mjs'
import { mcpCalls, odd } from './mcp-help.mjs'
import { CONFIG, ownServer } from './mcp-remote-help.mjs'
import { modelServer, provider } from './models-help.mjs'

const EVENTS = ['preToolUse', 'postToolUse', 'postToolUseFailure', 'beforeMCPExecution', 'afterMCPExecution']
const say = answer => ({ command: `cat >/dev/null; echo '${JSON.stringify(answer)}'` })
const schema = { type: 'object', properties: { text: { type: 'string' } } }

// Both kinds of server, each with the name `odd` and tools of the same names: what is true of one is true of the other.
const kinds = {
  stdio: async () => ({ server: odd('good', 'odd', { TOKEN: 'secret-of-server' }), shown: e => assert.match(e.command, /^\S*node\S* .*mcp-server\.mjs good$/) }),
  remote: async t => {
    const s = await ownServer(t, {
      tools: ['echo', 'fails', 'error'].map(name => ({ name, inputSchema: schema })),
      on: { 'tools/call': (req, res, m, reply) => {
        if (m.params.name === 'fails') reply({ content: [{ type: 'text', text: 'it failed: try another way' }], isError: true })
        else if (m.params.name === 'error') res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ jsonrpc: '2.0', id: m.id, error: { code: -32603, message: 'internal trouble' } }))
        else return false
        return true
      } },
    })
    return { remote: s, server: { name: 'odd', url: `${s.url}?key=secret-of-server`, headers: { 'X-Key': 'secret-of-server' } }, shown: e => assert.equal(e.url, s.url) }
  },
}

for (const [kind, make] of Object.entries(kinds)) {
  const hooked = async (t, hooks, model) => {
    const it = await make(t)
    const pool = await bullpen(t, { config: CONFIG + (model ? provider(model, 'openai') : '') })
    const log = path.join(pool.dir, 'seen.log')
    const all = Object.fromEntries(EVENTS.map(e => [e, [{ command: `{ cat; echo; } >> ${log}` }, ...(hooks[e] ?? [])]]))
    const remote = await pool.remote({ name: 'acme/hooked', files: { 'README.md': 'x\n', '.cursor/hooks.json': JSON.stringify({ version: 1, hooks: all }) } })
    await pool.worker({ remote })
    return { ...it, pool, log,
      go: async (prompt, options = {}) => {
        fs.rmSync(log, { force: true })
        const r = await pool.run(prompt, { repo: remote.url, extra: { mcpServers: [it.server] }, ...options })
        const end = await r.end()
        assert.equal(end.status, 'FINISHED', JSON.stringify(end))
        const seen = fs.readFileSync(log, 'utf8')
        assert.ok(!seen.includes('secret-of-server'), 'hooks are not told of secrets')
        return { events: await r.events(), calls: mcpCalls(await r.events()), seen: seen.trim().split('\n').map(x => JSON.parse(x)) }
      } }
  }

  test(`${kind}: the order of events and what they tell, of calls that work and of those that fail`, async t => {
    const h = await hooked(t, {})
    const { seen, calls } = await h.go(tool('mcp_odd_echo', { text: 'hi' }) + tool('mcp_odd_fails', {}) + tool('mcp_odd_error', {}))
    assert.equal(calls.length, 3)
    const around = end => ['preToolUse', 'beforeMCPExecution', 'afterMCPExecution', end]
    assert.deepEqual(seen.map(e => e.hook_event_name), [...around('postToolUse'), ...around('postToolUseFailure'), ...around('postToolUseFailure')])
    const [pre, before, after, post] = seen
    assert.equal(pre.tool_name, 'MCP:echo')
    assert.deepEqual(pre.tool_input, { text: 'hi' })
    for (const e of [before, after]) {
      assert.equal(e.tool_name, 'echo')
      assert.equal(e.server_name, 'odd')
      assert.deepEqual(JSON.parse(e.tool_input), { text: 'hi' })
      assert.deepEqual(['url', 'command'].filter(k => k in e), [kind === 'stdio' ? 'command' : 'url'])
      h.shown(e)
    }
    const result = { content: [{ text: { text: 'echo: hi' } }], isError: false }
    assert.deepEqual(JSON.parse(after.result_json), result)
    assert.equal(typeof after.duration, 'number')
    assert.equal(post.tool_name, 'MCP:echo')
    assert.deepEqual(JSON.parse(post.tool_output), result)
    const [failed, broken] = seen.filter(e => e.hook_event_name === 'postToolUseFailure')
    assert.equal(failed.tool_name, 'MCP:fails')
    assert.match(failed.error_message, /it failed: try another way/)
    assert.match(broken.error_message, /internal trouble/)
    for (const e of [failed, broken]) { assert.equal(e.failure_type, 'error'); assert.equal(e.is_interrupt, false) }
  })

  test(`${kind}: a matcher names a tool, whose call is then refused; another one is not`, async t => {
    const h = await hooked(t, { preToolUse: [{ matcher: 'MCP:echo', ...say({ permission: 'deny', user_message: 'no echoes' }) }] })
    const { seen, calls } = await h.go(tool('mcp_odd_echo', { text: 'hi' }) + tool('mcp_odd_fails', {}))
    assert.match(JSON.stringify(calls[0].result), /no echoes/)
    assert.match(JSON.stringify(calls[0].result), /hook_denied/)
    assert.equal(calls[1].result.success.isError, true)
    assert.deepEqual(seen.slice(0, 2).map(e => e.hook_event_name), ['preToolUse', 'postToolUseFailure'])
    assert.equal(seen[1].failure_type, 'permission_denied')
    assert.equal(seen[2].tool_name, 'MCP:fails')
    if (h.remote) assert.deepEqual(h.remote.of('tools/call').map(x => x.message.params.name), ['fails'])
  })

  test(`${kind}: beforeMCPExecution denies, and asks where nobody is there to be asked`, async t => {
    for (const [permission, message] of [['deny', /not today/], ['ask', /needs an approval that cannot be given in this run: not today/]]) {
      const h = await hooked(t, { beforeMCPExecution: [{ matcher: 'MCP:echo', ...say({ permission, user_message: 'not today' }) }] })
      const { seen, calls } = await h.go(tool('mcp_odd_echo', { text: 'hi' }))
      assert.match(JSON.stringify(calls[0].result), message)
      assert.deepEqual(seen.map(e => e.hook_event_name), ['preToolUse', 'beforeMCPExecution', 'postToolUseFailure'])
      assert.equal(seen[2].failure_type, 'permission_denied')
      if (h.remote) assert.equal(h.remote.of('tools/call').length, 0)
    }
  })

  test(`${kind}: a hook changes the input; what does not fit the tool fails the call`, async t => {
    const h = await hooked(t, { preToolUse: [{ matcher: 'MCP:echo', command: `if grep -q spoil; then echo '{"updated_input":{"text":7}}'; else echo '{"permission":"allow","updated_input":{"text":"changed"}}'; fi` }] })
    const { seen, calls } = await h.go(tool('mcp_odd_echo', { text: 'original' }) + tool('mcp_odd_echo', { text: 'spoil' }))
    assert.deepEqual(calls[0].args.args, { text: 'original' })
    assert.equal(calls[0].result.success.content[0].text.text, 'echo: changed')
    assert.deepEqual(calls[0].result.success.hookUpdatedInput, { text: 'changed' })
    assert.deepEqual(JSON.parse(seen.find(e => e.hook_event_name === 'beforeMCPExecution').tool_input), { text: 'changed' })
    assert.deepEqual(seen.find(e => e.hook_event_name === 'postToolUse').tool_input, { text: 'changed' })
    assert.match(JSON.stringify(calls[1].result), /'text' must be (of type .*string|a string)/)
    if (h.remote) assert.deepEqual(h.remote.of('tools/call').map(x => x.message.params.arguments.text), ['changed'])
  })

  test(`${kind}: what the model is told of a result is a hook's to replace and to add to; the log keeps the result`, async t => {
    const m = await modelServer(t)
    m.next({ answer: { text: '', calls: [{ name: 'mcp_odd_echo', arguments: { text: 'private' } }] } })
    m.next({ answer: { text: '', calls: [{ name: 'mcp_odd_fails', arguments: {} }] } })
    m.next({ answer: { text: 'Done.' } })
    const h = await hooked(t, {
      postToolUse: [{ matcher: 'MCP:echo', ...say({ updated_mcp_tool_output: { content: [{ type: 'text', text: 'reviewed' }, { type: 'text', text: 'twice' }] }, additional_context: 'It was reviewed.' }) }],
      postToolUseFailure: [{ matcher: 'MCP:fails', ...say({ additional_context: 'Ask the owner.' }) }],
    }, m)
    const { calls } = await h.go('go')
    assert.equal(calls[0].result.success.content[0].text.text, 'echo: private')
    const told = m.requests.at(-1).body.messages.filter(x => x.role === 'tool').map(x => x.content)
    assert.equal(told[0], 'reviewed\ntwice\n\nIt was reviewed.')
    assert.match(told[1], /it failed: try another way[\s\S]*Ask the owner\.$/)
  })
}
