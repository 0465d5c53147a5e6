// Images in results of tools, MCP servers' and read_file's: what models see of them, in both wire formats; and bytes that none takes.
import test from 'node:test'
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { bullpen, sh, tool, until } from './lib.mjs'
import { everything, mcpCalls, odd } from './mcp-help.mjs'
import { CONFIG, ownServer } from './mcp-remote-help.mjs'
import { modelServer, provider } from './models-help.mjs'

const png = (more = '') => Buffer.concat([Buffer.from('89504e470d0a1a0a', 'hex'), Buffer.from(`the rest of an image ${more}`)])
const eyes = { model: 'images = true' }
const calls = (m, ...list) => list.forEach(([name, args]) => m.next({ answer: { text: '', calls: [{ name, arguments: args }] } }))

// The images of a request, as {after: the text they came with, type, data}.
const seen = {
  anthropic: body => body.messages.flatMap(x => Array.isArray(x.content) ? x.content : []).filter(b => b.type === 'tool_result' && Array.isArray(b.content))
    .flatMap(b => b.content.filter(c => c.type === 'image').map(c => ({ after: b.content[0].text, type: c.source.media_type, data: c.source.data }))),
  openai: body => body.messages.filter(x => x.role === 'user' && Array.isArray(x.content))
    .flatMap(x => x.content.filter(c => c.type === 'image_url').map(c => { const [, type, data] = c.image_url.url.match(/^data:(.*);base64,(.*)$/); return { type, data } })),
}

for (const type of ['anthropic', 'openai']) {
  test(`${type}: images of results are seen, in later requests and in the next run, too`, async t => {
    const m = await modelServer(t)
    const own = await ownServer(t, { on: { 'tools/call': (req, res, msg, reply) => { reply({ content: [{ type: 'image', data: png('remote').toString('base64'), mimeType: 'image/png' }] }); return true } } })
    const pool = await bullpen(t, { config: CONFIG + provider(m, type, eyes) })
    const remote = await pool.remote({ name: 'acme/pictures', files: { 'README.md': 'x\n', 'pic.png': png('file') } })
    await pool.worker({ remote })
    calls(m, ['mcp_everything_get-tiny-image', {}], ['mcp_odd_picture', { text: png('mislabelled').toString('base64') }], ['mcp_far_echo', { text: 'x' }], ['read_file', { path: 'pic.png' }])
    const r = await pool.run('go', { repo: remote.url, extra: { mcpServers: [everything(), odd('good'), { name: 'far', url: own.url }] } })
    const end = await r.end()
    assert.equal(end.status, 'FINISHED', JSON.stringify(end))
    const events = await r.events()
    const tiny = mcpCalls(events)[0].result.success.content.find(c => c.image).image
    const expected = [[tiny.mimeType, tiny.data], ['image/png', png('mislabelled').toString('base64')], ['image/png', png('remote').toString('base64')], ['image/png', png('file').toString('base64')]]
    m.requests.forEach((q, i) => assert.deepEqual(seen[type](q.body).map(s => [s.type, s.data]), expected.slice(0, i), `request ${i}`))
    assert.ok(!JSON.stringify(events).includes('seenImages'))
    assert.ok(!m.requests.some(q => q.refused))
    if (type === 'openai') {
      // Behind the results of the step, never between them.
      const roles = m.requests[1].body.messages.map(x => x.role).filter(x => x !== 'system')
      assert.deepEqual(roles, ['user', 'assistant', 'tool', 'user'])
    }
    const next = await r.followUp('what did you see?')
    assert.equal((await next.end()).status, 'FINISHED')
    assert.deepEqual(seen[type](m.requests.at(-1).body).map(s => [s.type, s.data]), expected, 'from the store')
  })
}

test('what is no image, is too large or is for a model without eyes stays a note', async t => {
  const m = await modelServer(t), blind = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'anthropic', eyes) })
  await pool.worker({})
  calls(m, ['mcp_odd_picture', { text: 'aGVsbG8=' }], ['mcp_odd_picture', { text: png().toString('base64') + '!!!!' }], ['mcp_odd_large', {}])
  const r = await pool.run('go', { extra: { mcpServers: [odd('good')] } })
  assert.equal((await r.end()).status, 'FINISHED')
  for (const q of m.requests) assert.deepEqual(seen.anthropic(q.body), [])
  assert.match(JSON.stringify(m.requests.at(-1).body), /\[an image of type image\/jpeg and about 6 bytes\]/)
  assert.match(JSON.stringify(m.requests.at(-1).body), /\[an image of type image\/png and about \d+ bytes, not shown: too large\]/)

  const other = await bullpen(t, { config: provider(blind, 'openai') })
  await other.worker({})
  calls(blind, ['mcp_odd_picture', { text: png().toString('base64') }])
  const s = await other.run('go', { extra: { mcpServers: [odd('good')] } })
  assert.equal((await s.end()).status, 'FINISHED')
  assert.match(JSON.stringify(blind.requests.at(-1).body), /images left out: this model takes none/)
  assert.ok(!JSON.stringify(blind.requests.map(q => q.body)).includes('data:image'))
})

test('of many images the newest are shown', async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'anthropic', eyes) })
  await pool.worker({})
  for (let i = 0; i < 23; i++) calls(m, ['mcp_odd_picture', { text: png(`number ${i}`).toString('base64') }])
  const r = await pool.run('go', { extra: { mcpServers: [odd('good')] } })
  assert.equal((await r.end()).status, 'FINISHED')
  const newest = Array.from({ length: 20 }, (_, i) => png(`number ${i + 3}`).toString('base64'))
  assert.deepEqual(seen.anthropic(m.requests.at(-1).body).map(s => s.data), newest)
  const next = await r.followUp('again')
  assert.equal((await next.end()).status, 'FINISHED')
  assert.deepEqual(seen.anthropic(m.requests.at(-1).body).map(s => s.data), newest, 'from the store')
})

const hash = text => createHash('sha256').update(text).digest('hex').slice(0, 16)

test('audio and blobs are artifacts, whose names the model is told', async t => {
  const pool = await bullpen(t)
  await pool.worker({})
  const r = await pool.run(tool('mcp_odd_bytes', {}), { extra: { mcpServers: [odd('good')] } })
  assert.equal((await r.end()).status, 'FINISHED')
  const [sound, paper, other, broken] = mcpCalls(await r.events())[0].result.success.content.map(c => c.text.text)
  const files = { [`artifacts/mcp/${hash('sound')}.wav`]: 'sound', [`artifacts/mcp/${hash('paper')}.pdf`]: 'paper', [`artifacts/mcp/${hash('odd')}.bin`]: 'odd' }
  const [wav, pdf, bin] = Object.keys(files)
  assert.equal(sound, `[audio of type audio/wav and about 6 bytes, saved as ${wav}]`)
  assert.ok(paper.endsWith(`saved as ${pdf}]`), paper)
  assert.ok(other.endsWith(`saved as ${bin}]`), other)
  assert.match(broken, /not played/)
  const items = await until('they are listed', async () => { const x = (await pool.http('GET', `/v1/agents/${r.agentId}/artifacts`)).json.items; return x.length === 3 && x })
  assert.deepEqual(items.map(i => i.path).sort(), Object.keys(files).sort())
  for (const [name, text] of Object.entries(files)) {
    const link = (await pool.http('GET', `/v1/agents/${r.agentId}/artifacts/download?path=${encodeURIComponent(name)}`)).json
    assert.equal(await (await fetch(link.url)).text(), text)
  }
})

test('a link in the place of the folder leads nowhere: the note is as it was', async t => {
  const pool = await bullpen(t)
  await pool.worker({})
  const r = await pool.run(sh(`mkdir -p artifacts && ln -s ${pool.dir} artifacts/mcp`) + tool('mcp_odd_bytes', {}) + sh(`ls ${pool.dir} | grep -c '\\.wav$'`), { extra: { mcpServers: [odd('good')] } })
  assert.equal((await r.end()).status, 'FINISHED')
  const events = await r.events()
  assert.match(mcpCalls(events)[0].result.success.content[0].text.text, /not played\]$/)
  assert.equal(events.filter(e => e.event === 'tool_call' && e.data.status !== 'running').at(-1).data.result.success.stdout, '0\n')
})
