// Which MCP servers and tools runs may use: what an administrator allows the team, and what environment.json leaves of it.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, programs, run, tool } from './lib.mjs'
import { lines, mcpCalls, odd } from './mcp-help.mjs'
import { CONFIG, keep, ownServer } from './mcp-remote-help.mjs'
import { modelServer, provider } from './models-help.mjs'

const policy = (t, pool, value) => run(t, programs.bullpen, ['admin', 'policy', '--data', pool.data, '--mcp-allow', value])
const allow = async (t, pool, rules) => {
  const file = path.join(pool.dir, 'rules.json')
  fs.writeFileSync(file, JSON.stringify(rules))
  const r = await policy(t, pool, file)
  assert.equal(r.code, 0, r.stderr)
  assert.match(r.stdout, /^mcp-allow: \[/m)
}
const tools = [{ name: 'echo', inputSchema: { type: 'object', properties: { text: { type: 'string' } } } }, { name: 'erase', inputSchema: { type: 'object' } }]
const offered = m => m.requests[0].body.tools.map(x => (x.function ?? x).name).filter(n => n.startsWith('mcp_')).sort()

test('what the team does not allow is not started, not asked, not shown, and refused if called; the log says so once', async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: CONFIG + provider(m, 'openai') })
  await pool.worker({})
  const good = await ownServer(t, { tools }), bad = await ownServer(t, { tools }), server = odd('good'), notes = path.join(pool.dir, 'notes')
  const stranger = { ...odd('good', 'stranger', { NOTES: notes }), args: [...server.args, 'more'] }
  await keep(pool, { name: 'kept', url: `${bad.origin}/kept` })
  const servers = [server, stranger, { name: 'good', url: good.url + '?key=1' }, { name: 'bad', url: bad.url }, { name: 'sly', url: `${good.origin}/mcp/../other` }]
  const go = async (...calls) => {
    m.requests.length = 0
    for (const name of calls) m.next({ answer: { text: '', calls: [{ name, arguments: {} }] } })
    const r = await pool.run('go', { extra: { mcpServers: servers } })
    assert.equal((await r.end()).status, 'FINISHED')
    return r.events()
  }
  await allow(t, pool, [{ command: `${server.command} ${server.args.join(' ')}`, name: 'odd', toolAllowlist: ['echo', 'fails'] }, { serverUrl: `${good.origin}/mcp/*` }, { serverUrl: `${good.url}/`, toolAllowlist: ['echo'] }])
  const events = await go('mcp_odd_env', 'mcp_good_erase', 'mcp_bad_echo', 'mcp_odd_echo', 'mcp_good_echo', 'mcp_stranger_echo')
  assert.deepEqual(offered(m), ['mcp_good_echo', 'mcp_odd_echo', 'mcp_odd_fails'])
  assert.deepEqual(mcpCalls(events).map(c => c.args.name), ['mcp_odd_echo', 'mcp_good_echo'])
  const told = lines(events)
  for (const name of ['stranger', 'bad', 'kept', 'sly']) assert.equal(told.filter(l => new RegExp(`MCP server ${name} is not available: the team's policy does not allow it`).test(l)).length, 1, name + told.join('\n'))
  assert.ok(!fs.existsSync(notes), 'it was not started')
  assert.deepEqual(bad.seen, [])
  assert.equal(good.of('tools/call').length, 1)

  assert.equal((await policy(t, pool, 'none')).code, 0)
  await go()
  assert.deepEqual(offered(m), [])
  assert.equal((await policy(t, pool, 'any')).code, 0)
  await go()
  assert.ok(offered(m).includes('mcp_bad_erase') && offered(m).includes('mcp_stranger_env'))
})

test('a server from a file of the worker is held against the policy by its program', async t => {
  const pool = await bullpen(t)
  const server = odd('good')
  const remote = await pool.remote({ name: 'acme/files', files: { 'README.md': 'x\n', '.cursor/mcp.json': JSON.stringify({ mcpServers: { own: { command: server.command, args: server.args }, other: { command: server.command, args: [...server.args, 'x'] } } }) } })
  await pool.worker({ remote, args: ['--project-mcp'] })
  await allow(t, pool, [{ command: `${server.command} ${server.args.join(' ')}`, toolAllowlist: ['echo'] }])
  const r = await pool.run(tool('mcp_own_echo', { text: 'x' }) + tool('mcp_own_env', {}) + tool('mcp_other_echo', { text: 'x' }), { repo: remote.url })
  assert.equal((await r.end()).status, 'FINISHED')
  assert.deepEqual(mcpCalls(await r.events()).map(c => c.args.name), ['mcp_own_echo'])
})

test('environment.json narrows servers with a URL, too', async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: CONFIG + provider(m, 'openai') })
  const one = await ownServer(t, { tools }), two = await ownServer(t, { tools })
  const servers = [{ name: 'one', url: one.url }, { name: 'two', url: two.url }]
  const go = async (name, environment, more = []) => {
    const remote = await pool.remote({ name: `acme/${name}`, files: { 'README.md': 'x\n', '.cursor/environment.json': JSON.stringify(environment) } })
    await pool.worker({ pool: name, remote })
    m.requests.length = 0
    const r = await pool.run('go', { pool: name, repo: remote.url, extra: { mcpServers: [...servers, ...more] } })
    assert.equal((await r.end()).status, 'FINISHED')
    return { names: offered(m), told: lines(await r.events()).join('\n') }
  }
  const few = await go('few', { mcpServerAllowlist: [{ serverUrl: one.url, toolAllowlist: ['echo'] }] })
  assert.deepEqual(few.names, ['mcp_one_echo'])
  assert.match(few.told, /MCP server two is not available: environment\.json of the repository does not allow it/)
  assert.deepEqual((await go('off', { disableAllMcpServers: true }, [odd('good')])).names, [])
  assert.deepEqual((await go('all', {})).names, ['mcp_one_echo', 'mcp_one_erase', 'mcp_two_echo', 'mcp_two_erase'])
})

test('rules that are none are refused by place and reason, and what held before holds', async t => {
  const pool = await bullpen(t)
  await allow(t, pool, [{ serverUrl: 'https://mcp.example/*' }])
  const file = path.join(pool.dir, 'bad.json')
  for (const [text, message, code = 2] of [['{}', /must be a list of rules/], ['[7]', /rule 1 must be an object/], ['[{"command":"x"},{"name":"x"}]', /rule 2 must have either 'serverUrl' or 'command'/],
    ['[{"serverUrl":"mcp.example"}]', /rule 1: 'serverUrl' must begin with https/], ['[{"command":"x","toolAllowlist":[1]}]', /rule 1: 'toolAllowlist' must be a list of names/], ['[{"command":"x","tools":[]}]', /rule 1: .*tools/], ['[', /bad\.json: /]]) {
    fs.writeFileSync(file, text)
    const r = await policy(t, pool, file)
    assert.equal(r.code, code, r.stderr)
    assert.match(r.stderr, message)
    assert.equal(r.stderr.trim().split('\n').length, 1)
  }
  const gone = await policy(t, pool, path.join(pool.dir, 'nowhere'))
  assert.equal(gone.code, 1)
  assert.match(gone.stderr, /nowhere cannot be read/)
  assert.match((await run(t, programs.bullpen, ['admin', 'policy', '--data', pool.data])).stdout, /^mcp-allow: \[{"serverUrl":"https:\/\/mcp\.example\/\*"}\]$/m)
})
