// MCP servers that the worker starts (stdio): from the list in a request to the tool that a model calls, with servers as they are
// published. Hostile ones are in mcp-hostile.test.mjs.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, sh, tool, until } from './lib.mjs'
import { everything, filesystem, lines, mcpCalls, memory, odd } from './mcp-help.mjs'
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
  assert.deepEqual(lines(events).filter(l => !l.includes('only be called as a task')), [])
})

test('published servers side by side: files, a memory, images, structured content, progress', async t => {
  const m = await modelServer(t)
  const pool = await withWorker(t, { config: provider(m, 'openai') })
  const calls = [['mcp_files_read_text_file', { path: 'README.md' }], ['mcp_memory_create_entities', { entities: [{ name: 'Ada', entityType: 'person', observations: ['counts'] }] }],
    ['mcp_memory_search_nodes', { query: 'Ada' }], ['mcp_everything_get-tiny-image', {}], ['mcp_everything_get-structured-content', { location: 'New York' }],
    ['mcp_everything_trigger-long-running-operation', { duration: 1, steps: 2 }], ['mcp_everything_get-annotated-message', { messageType: 'error' }], ['mcp_files_read_text_file', { path: pool.configFile }]]
  for (const [name, args] of calls) m.next({ answer: { text: '', calls: [{ name, arguments: args }] } })
  m.next({ answer: { text: 'Done.' } })
  const r = await pool.run('go', { extra: { mcpServers: [everything(), filesystem(pool.dir), memory(path.join(pool.dir, 'memory.json'))] } })
  const end = await r.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  const events = await r.events(), done = mcpCalls(events)
  assert.deepEqual(done.map(c => c.args.name), calls.map(c => c[0]))
  const texts = done.map(c => JSON.stringify(c.result))
  // It takes the roots that it is told in the place of its own folders.
  assert.match(texts[0], /hello/)
  assert.match(texts[2], /counts/)
  assert.match(texts[3], /"image":\{"mimeType":"image\/png","data":"[A-Za-z0-9+\/=]{100}/)
  assert.ok(done[4].result.success.structuredContent, texts[4])
  assert.match(JSON.stringify(events), /progress 2 of 2/)
  assert.equal(done[7].result.success.isError, true, texts[7])
  // The model sees its own calls, not how they are kept.
  const last = JSON.stringify(m.requests.at(-1).body)
  assert.match(last, /mcp_files_read_text_file/)
  assert.ok(!last.includes('providerIdentifier'))
})

test('more than sixty tools are told by name only, and get_mcp_tools describes them', async t => {
  const m = await modelServer(t)
  const pool = await withWorker(t, { config: provider(m, 'openai') })
  m.next({ answer: { text: '', calls: [{ name: 'get_mcp_tools', arguments: { pattern: 'tool42' } }] } })
  m.next({ answer: { text: '', calls: [{ name: 'mcp_odd_tool42', arguments: { text: 'found' } }] } })
  m.next({ answer: { text: 'Done.' } })
  const r = await pool.run('go', { extra: { mcpServers: [odd('many')] } })
  assert.equal((await r.end()).status, 'FINISHED')
  const events = await r.events()
  const offered = m.requests[0].body.tools.map(x => x.function ?? x).find(x => x.name === 'mcp_odd_tool42')
  assert.deepEqual(offered.parameters, { type: 'object' })
  assert.match(offered.description, /get_mcp_tools/)
  const described = events.filter(e => e.event === 'tool_call' && e.data.name === 'get_mcp_tools').at(-1).data.result.success
  assert.equal(described.tools.length, 1)
  assert.deepEqual(Object.keys(described.tools[0].inputSchema.properties), ['text', 'n'])
  assert.equal(mcpCalls(events)[0].result.success.content[0].text.text, 'tool42: found')
})

test('a server gets its own variables and none of the session or the worker', async t => {
  const pool = await withWorker(t, { args: ['--sync-dashboard-secrets'], env: { SECRET_OF_WORKER: 'worker-secret', HTTPS_PROXY: 'http://proxy.example:1' } })
  const r = await pool.run(tool('mcp_odd_env', {}), { extra: { envVars: { DEPLOY: 'deploy-secret-value', OTHER: 'other-secret-value' }, mcpServers: [odd('good', 'odd', { PLAIN: 'p', TAKEN: '${env:DEPLOY}', KEY: '${env:CURSOR_API_KEY}', AT: '${workspaceFolder}' })] } })
  assert.equal((await r.end()).status, 'FINISHED')
  const events = await r.events()
  const env = JSON.parse(mcpCalls(events)[0].result.success.content[0].text.text)
  assert.equal(env.PLAIN, 'p')
  assert.equal(env.TAKEN, '[REDACTED]')
  assert.equal(env.KEY, '')
  assert.equal(env.HTTPS_PROXY, 'http://proxy.example:1')
  assert.ok(env.PATH && env.AT.startsWith('/'))
  for (const n of ['SECRET_OF_WORKER', 'DEPLOY', 'OTHER', 'CURSOR_API_KEY', 'PAGER']) assert.ok(!(n in env), n)
  assert.ok(!JSON.stringify(events).includes('deploy-secret-value'))
})

test('files: mcp.json only where the worker was told to, narrowed by environment.json in any case', async t => {
  const pool = await withWorker(t)
  const server = odd('good', 'x')
  const config = { mcpServers: { own: { command: server.command, args: server.args, envFile: '.env', env: { ROOT: '${workspaceFolder}' } }, web: { url: 'https://mcp.example/' }, broken: 7, odd: { command: 'false' } } }
  const files = { '.cursor/mcp.json': JSON.stringify(config), '.env': '# of the server\nexport FROM_FILE="quoted value"\n', 'README.md': 'x\n' }
  const remote = await pool.remote({ name: 'acme/tools', files })
  await pool.worker({ pool: 'told', remote, args: ['--project-mcp'] })
  await pool.worker({ pool: 'untold', remote })
  const go = (p, repo = remote) => pool.run(tool('mcp_own_env', {}) + tool('mcp_odd_echo', { text: 'inline' }), { pool: p, repo: repo.url, extra: { mcpServers: [odd('good')] } })
  const told = await go('told'), untold = await go('untold')
  assert.equal((await told.end()).status, 'FINISHED')
  const events = await told.events(), calls = mcpCalls(events)
  assert.equal(calls.length, 2, JSON.stringify(events.filter(e => e.event === 'tool_call')))
  assert.equal(JSON.parse(calls[0].result.success.content[0].text.text).FROM_FILE, 'quoted value')
  assert.equal(calls[1].result.success.content[0].text.text, 'echo: inline', 'the stronger one')
  assert.equal((await untold.end()).status, 'FINISHED')
  assert.deepEqual(mcpCalls(await untold.events()).map(c => c.args.providerIdentifier), ['odd'])

  const narrow = await pool.remote({ name: 'acme/narrow', files: { ...files, '.cursor/environment.json': JSON.stringify({ mcpServerAllowlist: [{ command: server.command, name: 'odd', toolAllowlist: ['echo'] }] }) } })
  await pool.worker({ pool: 'narrow', remote: narrow, args: ['--project-mcp'] })
  const few = await pool.run(tool('mcp_own_env', {}) + tool('mcp_odd_echo', { text: 'still' }) + tool('mcp_odd_env', {}), { pool: 'narrow', repo: narrow.url, extra: { mcpServers: [odd('good')] } })
  assert.equal((await few.end()).status, 'FINISHED')
  assert.deepEqual(mcpCalls(await few.events()).map(c => c.args.name), ['mcp_odd_echo'])
  const none = await pool.remote({ name: 'acme/none', files: { ...files, '.cursor/environment.json': '{"disableAllMcpServers": true}' } })
  await pool.worker({ pool: 'none', remote: none, args: ['--project-mcp'] })
  const off = await pool.run(tool('mcp_odd_echo', {}), { pool: 'none', repo: none.url, extra: { mcpServers: [odd('good')] } })
  assert.equal((await off.end()).status, 'FINISHED')
  assert.deepEqual(mcpCalls(await off.events()), [])
})

test('a worker that was killed starts them again with the session', async t => {
  const pool = await withWorker(t)
  const notes = path.join(pool.dir, 'notes')
  const r = await pool.run(tool('mcp_odd_echo', { text: 'one' }) + tool('mcp_odd_wait', {}) + tool('mcp_odd_echo', { text: 'two' }), { extra: { mcpServers: [odd('good', 'odd', { NOTES: notes })] } })
  await until('a call is under way', () => fs.existsSync(notes) && fs.readFileSync(notes, 'utf8').includes('waiting'))
  await pool.w.kill('SIGKILL')
  pool.w = await pool.w.again()
  const end = await r.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  const calls = mcpCalls(await r.events())
  assert.deepEqual(calls.map(c => c.result.error?.code ?? c.result.success.content[0].text.text), ['echo: one', 'interrupted', 'echo: two'])
})

test('what came as news is known after a crash of the control plane, and the servers go on', async t => {
  const pool = await withWorker(t)
  const notes = path.join(pool.dir, 'notes')
  const steps = Array.from({ length: 40 }, (_, i) => sh(`echo ${i} >> ${notes}-steps; sleep 0.2`) + tool('mcp_odd_grown', { text: 'late' })).join('')
  const r = await pool.run(tool('mcp_odd_grow', {}) + steps + tool('mcp_odd_echo', { text: 'end' }), { extra: { mcpServers: [odd('good', 'odd', { NOTES: notes })] } })
  await until('it works', () => fs.existsSync(`${notes}-steps`) && fs.readFileSync(`${notes}-steps`, 'utf8').split('\n').length > 8)
  await pool.crash()
  await pool.restart()
  const end = await r.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  const events = await r.events(), calls = mcpCalls(events)
  assert.equal(calls.at(-1).result.success.content[0].text.text, 'echo: end')
  const grown = calls.filter(c => c.args.toolName === 'grown')
  assert.equal(grown.at(-1).result.success.content[0].text.text, 'grown: late', 'what came as news is known after the crash')
  assert.equal(fs.readFileSync(notes, 'utf8').match(/started/g).length, 1, 'the server of the session went on')
})
