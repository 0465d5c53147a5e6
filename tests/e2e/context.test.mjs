// What a language model is shown and what becomes of its answers: images, thinking, long conversations, answers that are none.
import { test } from 'node:test'
import assert from 'node:assert/strict'
import http from 'node:http'
import { once } from 'node:events'
import { atEnd, bullpen, checkEvents, until } from './lib.mjs'
import { ModelServer } from '../model-server/server.mjs'

const PNG = Buffer.concat([Buffer.from('89504e470d0a1a0a', 'hex'), Buffer.from('the rest of an image')])

async function withModel(t, { format = 'openai', model = '', config = '' } = {}) {
  const m = await ModelServer.start()
  atEnd(t, () => m.kill())
  const pool = await bullpen(t, { config: `${config}
[models]
default = "m"
[[models.providers]]
name = "stand-in"
type = "${format}"
base_url = "${m.url}${format === 'openai' ? '/v1' : ''}"
[[models.providers.models]]
id = "m"
images = true
${model}
[[models.providers.models]]
id = "blind"
` })
  await pool.worker()
  return { m, pool }
}
const call = (name, args, usage) => ({ answer: { calls: [{ name, arguments: args }], usage } })
// As a real server counts, roughly.
const count = body => ({ input: Math.round(JSON.stringify(body).length / 4), output: 5 })
const say = text => ({ answer: { text } })
const lastUser = body => body.messages.filter(m => m.role === 'user').at(-1).content
const updates = (events, type) => events.filter(e => e.event === 'interaction_update' && e.data.type === type).map(e => e.data)

test('images of a prompt reach the model, also in later turns, and a model without eyes is told that there were some', async t => {
  const { m, pool } = await withModel(t)
  const extra = { prompt: { text: 'what is this?', images: [{ data: PNG.toString('base64').replace(/=+$/, ''), mimeType: 'image/png', dimension: { width: 1, height: 2 } }] } }
  m.next(say('a picture'), say('still a picture'), say('cannot see'))
  const run = await pool.run('', { extra })
  assert.equal((await run.end()).result, 'a picture')
  const expected = { type: 'image_url', image_url: { url: `data:image/png;base64,${PNG.toString('base64')}` } }
  assert.deepEqual(m.requests[0].body.messages[1].content, [{ type: 'text', text: 'what is this?' }, expected])
  await (await run.followUp('and now?')).end()
  assert.deepEqual(m.requests[1].body.messages[1].content[1], expected)
  await (await run.followUp('and you?', { model: { id: 'blind' } })).end()
  assert.match(m.requests[2].body.messages[1].content, /what is this\?.*images left out/s)
  const refused = await pool.http('POST', `/v1/agents/${run.agentId}/runs`, { body: { ...extra, model: { id: 'blind' } } })
  assert.equal(refused.status, 400)
  assert.match(refused.json.error.message, /'blind' takes no images/)
})

// The first bytes of images of a width and height.
const image = (mimeType, hex) => ({ mimeType, data: Buffer.from(hex.replace(/ /g, ''), 'hex').toString('base64') })
const big = (n, bytes) => n.toString(16).padStart(2 * bytes, '0')
const little = (n, bytes) => Buffer.from(big(n, bytes), 'hex').reverse().toString('hex')
const png = (w, h) => image('image/png', `89504e470d0a1a0a 0000000d 49484452 ${big(w, 4)} ${big(h, 4)} 0806000000`)
const gif = (w, h) => image('image/gif', `474946383961 ${little(w, 2)} ${little(h, 2)} 000000`)
const jpeg = (w, h) => image('image/jpeg', `ffd8 ffe00010 4a46494600010100000100010000 ffff c40003 00 ffc2 0011 08 ${big(h, 2)} ${big(w, 2)} 03`)
const webp = (kind, hex) => image('image/webp', `52494646 00000000 57454250 ${Buffer.from(kind).toString('hex')} 0a000000 ${hex} 00000000000000000000`)
const vp8 = (w, h) => webp('VP8 ', `000000 9d012a ${little(w, 2)} ${little(h, 2)}`)
const vp8l = (w, h) => webp('VP8L', `2f ${little((h - 1) * 0x4000 + w - 1, 4)}`)
const vp8x = (w, h) => webp('VP8X', `00000000 ${little(w - 1, 3)} ${little(h - 1, 3)}`)

test('images that are none are refused by place and reason', async t => {
  const { pool } = await withModel(t)
  const data = PNG.toString('base64')
  for (const [images, words] of [
    [[{ data }], /mimeType.*required/], [[{ data, mimeType: 'image/jpeg' }], /image\/jpeg, but the image is image\/png/], [[{ data: 'aGVsbG8=', mimeType: 'image/png' }], /PNG, JPEG, GIF or WebP/],
    [[{ data: `data:image/png;base64,${data}`, mimeType: 'image/png' }], /base64/], [[{ data: `${data.slice(0, 20)}\n${data.slice(20)}`, mimeType: 'image/png' }], /base64/],
    [[{ data, mimeType: 'image/png' }, {}], /images\[1\].*'data' or 'url'/], [[{ data, url: 'https://x.test/', mimeType: 'image/png' }], /either/], [[{ data, mimeType: 'image/png', dimension: { width: 0, height: 1 } }], /width/],
    [[{ data, mimeType: 'image/png', alt: 'x' }], /alt/], [[{ url: 'file:///etc/passwd' }], /http or https/], [[{ url: 'http://u:p@x.test/' }], /user name/],
    ...[png(8001, 8000), png(0xffffffff, 0xffffffff), gif(65535, 65535), jpeg(65535, 1000), vp8(16383, 16383), vp8l(16384, 16384), vp8x(1 << 24, 1 << 24)].map(i => [[i], /images\[0\].*64 megapixels/]),
    [[png(8000, 8000), gif(8000, 8000), jpeg(8000, 8000), vp8(8000, 8000), {}], /images\[4\].*'data' or 'url'/],
    [[vp8l(8000, 8000), vp8x(8000, 8000), { data: '/9j/', mimeType: 'image/jpeg' }, { data: '/9j/4P////8=', mimeType: 'image/jpeg' }, {}], /images\[4\].*'data' or 'url'/],
    [[{ data: Buffer.alloc(15 * 1024 * 1024 + 1).toString('base64'), mimeType: 'image/png' }], /15 MiB|too large/],
  ]) {
    const r = await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x', images }, repos: [{ url: (await pool.origin()).url }] } })
    assert.ok([400, 413].includes(r.status), r.text)
    assert.match(r.json.error.message, words)
  }
})

async function imageServer(t, reply) {
  const s = http.createServer(reply).listen(0, '127.0.0.1')
  await once(s, 'listening')
  atEnd(t, () => { s.closeAllConnections(); s.close() })
  return `http://127.0.0.1:${s.address().port}`
}

test('an image is fetched by its URL, but not from where only the server can reach', async t => {
  let asked = 0
  const url = await imageServer(t, (req, res) => {
    asked++
    if (req.url === '/redirect') res.writeHead(302, { location: '/image.png' }).end()
    else if (req.url === '/loop') res.writeHead(302, { location: '/loop' }).end()
    else if (req.url === '/large') res.end(Buffer.alloc(16 * 1024 * 1024))
    else if (req.url === '/missing') res.writeHead(404).end('secret page')
    else res.end(PNG)
  })
  const open = await withModel(t, { config: '[server]\nallow_private_urls = true\n' })
  const create = (pool, path) => pool.http('POST', '/v1/agents', { body: { prompt: { text: 'look', images: [{ url: url + path }] }, env: { type: 'pool', name: 'default' }, repos: [{ url: pool.originUrl }] } })
  open.pool.originUrl = (await open.pool.origin()).url
  const r = await create(open.pool, '/redirect')
  assert.equal(r.status, 201, r.text)
  await until('the model was asked', () => open.m.requests.length)
  assert.match(JSON.stringify(open.m.requests[0].body.messages[1].content), new RegExp(PNG.toString('base64').slice(0, 30)))
  for (const [path, words] of [['/loop', /redirects more than 3/], ['/large', /larger than/], ['/missing', /status 404/]]) {
    const bad = await create(open.pool, path)
    assert.equal(bad.status, 400)
    assert.match(bad.json.error.message, words)
    assert.doesNotMatch(bad.json.error.message, /secret/)
  }
  const closed = await withModel(t)
  closed.pool.originUrl = (await closed.pool.origin()).url
  const before = asked
  const refused = await create(closed.pool, '/image.png')
  assert.equal(refused.status, 400)
  assert.match(refused.json.error.message, /port \d+ is not allowed|not a public one/)
  assert.equal(asked, before, 'nothing was asked')
})

test('a repeated request gets its first answer although the image is gone; who waits for images does not keep others waiting', async t => {
  let gone = false
  const held = []
  const url = await imageServer(t, (req, res) => {
    if (req.url === '/slow') held.push(res)
    else if (gone) res.writeHead(404).end()
    else res.end(PNG)
  })
  const { pool } = await withModel(t, { config: '[server]\nallow_private_urls = true\nhandler_threads = 4\n' })
  const repos = [{ url: (await pool.origin()).url }]
  const create = (path, key) => pool.http('POST', '/v1/agents', { body: { prompt: { text: 'look', images: [{ url: url + path }] }, repos }, headers: key ? { 'idempotency-key': key } : {} })
  const first = await create('/image.png', 'k')
  assert.equal(first.status, 201, first.text)
  gone = true
  const again = await create('/image.png', 'k')
  assert.equal(again.status, 201, again.text)
  assert.deepEqual(again.json, first.json)
  const slow = create('/slow')
  await until('the image is asked for', () => held.length)
  const refused = await create('/slow')
  assert.equal(refused.status, 503, refused.text)
  assert.equal((await pool.http('GET', '/v1/me')).status, 200)
  held[0].end(PNG)
  assert.equal((await slow).status, 201)
})

for (const format of ['openai', 'anthropic']) {
  test(`thinking is an event of its own, before what is said (${format})`, async t => {
    const { m, pool } = await withModel(t, { format })
    m.next({ answer: { thinking: 'hm, let me see…', text: 'I know.', usage: { input: 100, output: 7, cached: 20 } } })
    const run = await pool.run('think')
    assert.equal((await run.end()).result, 'I know.')
    const events = await run.events()
    checkEvents(events)
    assert.equal(events.filter(e => e.event === 'thinking').map(e => e.data.text).join(''), 'hm, let me see…')
    assert.equal(updates(events, 'thinking-delta').map(u => u.text).join(''), 'hm, let me see…')
    const kinds = events.filter(e => e.event === 'interaction_update').map(e => e.data.type)
    assert.equal(kinds.filter(k => k === 'thinking-completed').length, 1)
    assert.ok(kinds.lastIndexOf('thinking-delta') < kinds.indexOf('thinking-completed') && kinds.indexOf('thinking-completed') < kinds.indexOf('text-delta'))
    assert.ok(Number.isInteger(updates(events, 'thinking-completed')[0].thinkingDurationMs))
  })
}

test('an answer that is cut off goes on where it ended; one that never ends says what to do', async t => {
  const { m, pool } = await withModel(t)
  const cut = text => ({ answer: { text, stop: 'length' } })
  m.next(cut('The answer is '), cut('forty'), say('-two.'))
  const run = await pool.run('long answer')
  assert.equal((await run.end()).result, 'The answer is forty-two.')
  assert.match(lastUser(m.requests[1].body), /cut off.*Go on/)
  m.otherwise = () => cut('more and ')
  const endless = await (await pool.run('endless')).end()
  assert.equal(endless.status, 'ERROR')
  assert.equal(endless.error.code, 'model_error')
  assert.match(endless.error.message, /cut off 4 times.*max_output_tokens/)
  assert.equal(endless.result, 'more and '.repeat(4))
})

test('a refusal ends the run with the words of the model', async t => {
  const { m, pool } = await withModel(t, { format: 'anthropic' })
  m.next({ answer: { text: 'I will not do that.', stop: 'refusal' } })
  const r = await (await pool.run('do evil')).end()
  assert.equal(r.status, 'ERROR')
  assert.match(r.error.message, /declined to answer: I will not do that\..*another model/)
})

test('arguments that are no JSON are told back to the model, nothing is done, and the run goes on', async t => {
  const { m, pool } = await withModel(t)
  m.next({ answer: { calls: [{ name: 'run_terminal_cmd', arguments: '{"command": "touch bad"' }, { name: 'run_terminal_cmd', arguments: { command: 'ls' } }] } }, say('mended'))
  const run = await pool.run('go')
  assert.equal((await run.end()).result, 'mended')
  const results = m.requests[1].body.messages.filter(x => x.role === 'tool').map(x => x.content)
  assert.match(results[0], /not valid JSON.*Nothing was done/)
  assert.match(results[1], /README\.md/)
  assert.doesNotMatch(results[1], /bad/)
  const { completed } = checkEvents(await run.events())
  assert.match([...completed.values()][0].result.error.message, /not valid JSON/)
})

// Each result is some 3,000 tokens; the window takes a few of them.
const LONG = { command: "head -c 10000 /dev/zero | tr '\\0' x" }

test('near the end of the window older results are cut, then the older part becomes a summary, and the run goes on', async t => {
  const { m, pool } = await withModel(t, { model: 'context_window = 60000' })
  let turn = 0
  const summaries = []
  m.otherwise = body => {
    if (!body.tools) { summaries.push(lastUser(body)); return { answer: { text: `summary ${summaries.length}: the task is well under way`, usage: { input: 1000, output: 10 } } } }
    if (++turn === 1) return call('todo_write', { todos: [{ id: '1', content: 'peel the persimmon', status: 'in_progress' }, { id: '2', content: 'buy it', status: 'completed' }] }, count(body))
    return turn <= 40 ? call('run_terminal_cmd', LONG, count(body)) : say('finished after all')
  }
  const run = await pool.run('a very long task with the word persimmon')
  const end = await run.end()
  assert.equal(end.result, 'finished after all', JSON.stringify(end.error))
  assert.ok(summaries.length >= 1, 'it was summarised')
  assert.match(summaries[0], /persimmon/)
  assert.match(summaries[0], /calls run_terminal_cmd/)
  for (const r of m.requests) assert.equal(r.refused, null)
  const shown = m.requests.at(-1).body.messages
  assert.match(shown[1].content, /summary \d.*persimmon/s, 'the summary and the words of the user stand at the beginning')
  assert.match(shown[1].content, /Open on your list \(todo_write\):\n\[in_progress\] 1: peel the persimmon\n\n/, 'what is open stays, what is done does not')
  assert.ok(Math.max(...m.requests.map(r => r.text.length)) < 60000 * 3.5, 'no request was larger than the window')
  const events = await run.events()
  checkEvents(events)
  assert.equal(updates(events, 'summary').length, summaries.length)
  assert.equal(updates(events, 'summary-completed').length, summaries.length)
  const usage = (await pool.http('GET', `/v1/agents/${run.agentId}/usage`)).json
  const calls = m.requests.filter(r => r.body.tools).slice(0, -1)
  assert.equal(usage.totalUsage.inputTokens, calls.reduce((sum, r) => sum + count(r.body).input, 10) + summaries.length * 1000)
  assert.equal(usage.totalUsage.totalTokens, usage.totalUsage.inputTokens + usage.totalUsage.outputTokens)
  assert.equal(usage.runs[0].id, run.id)
  // What was cut stays cut, and the next run sees the same beginning.
  m.next(say('again'))
  await (await run.followUp('go on')).end()
  assert.deepEqual(m.requests.at(-1).body.messages.slice(1, shown.length), shown.slice(1))
})

test('a conversation that the model refuses as too long is cut until it fits', async t => {
  const { m, pool } = await withModel(t)
  let turn = 0, refused = 0
  m.otherwise = body => {
    if (!body.tools) return { answer: { text: 'in short: much was seen' } }
    if (JSON.stringify(body.messages).length > 60000) { refused++; return { status: 400, message: "This model's maximum context length is 16000 tokens.", code: 'context_length_exceeded' } }
    return ++turn <= 12 ? call('run_terminal_cmd', LONG) : say('done in spite of it')
  }
  const run = await pool.run('many results')
  const end = await run.end()
  assert.equal(end.result, 'done in spite of it', JSON.stringify(end.error))
  assert.ok(refused > 0)
  assert.match(JSON.stringify(m.requests.at(-1).body.messages), /in short: much was seen/)
})

test('a prompt that cannot fit at all says so', async t => {
  const { m, pool } = await withModel(t)
  m.otherwise = () => ({ status: 400, message: 'prompt is too long: 300000 tokens > 200000 maximum', code: 'context_length_exceeded' })
  const end = await (await pool.run('x'.repeat(100000))).end()
  assert.equal(end.status, 'ERROR')
  assert.match(end.error.message, /does not fit the context of model m.*shorten the prompt/)
})

test('rules that came with a file come again after the conversation was cut', async t => {
  const { m, pool } = await withModel(t, { model: 'context_window = 40000' })
  const remote = await pool.remote({ name: 'acme/rules', files: { '.cursor/rules/c.mdc': '---\nglobs: "*.c"\n---\nAlways greet the heron.\n', 'a.c': 'int a;\n' } })
  await pool.worker({ remote, pool: 'rules' })
  let turn = 0
  m.otherwise = body => {
    if (!body.tools) return { answer: { text: 'short' } }
    turn++
    return turn === 1 || turn === 30 ? call('read_file', { path: 'a.c' }) : turn < 30 ? call('run_terminal_cmd', LONG, count(body)) : say('ok')
  }
  const run = await pool.run('read', { pool: 'rules', repo: remote.url })
  assert.equal((await run.end()).result, 'ok')
  const results = m.requests.at(-1).body.messages.filter(x => x.role === 'tool').map(x => x.content)
  assert.match(results.at(-1), /heron/, 'the rule came again')
})

test('a server that is killed while the conversation is cut goes on with it', async t => {
  const { m, pool } = await withModel(t, { model: 'context_window = 40000' })
  let turn = 0, killed = false
  m.otherwise = body => {
    if (!body.tools) {
      if (!killed) { killed = true; pool.crash(); return { answer: { text: 'lost' }, stallAt: 10 } }
      return { answer: { text: 'short' } }
    }
    return ++turn <= 25 ? call('run_terminal_cmd', LONG, count(body)) : say('survived')
  }
  const run = await pool.run('crash in between')
  await until('the server was killed', () => killed && !pool.server.alive, 40)
  await pool.restart()
  assert.equal((await run.end()).result, 'survived')
  checkEvents(await run.events())
})

test('what was said before the model found the context too long is not said twice', async t => {
  const { m, pool } = await withModel(t)
  const text = 'y'.repeat(3000)
  const chunk = delta => `data: ${JSON.stringify({ choices: [{ index: 0, delta }] })}\n\n`
  let turn = 0, failed = false
  m.otherwise = body => {
    if (!body.tools) return { answer: { text: 'short' } }
    if (++turn <= 12) return call('run_terminal_cmd', LONG)
    if (!failed) { failed = true; return { raw: chunk({ content: text }) + `data: ${JSON.stringify({ error: { code: 'context_length_exceeded', message: 'too long' } })}\n\n` } }
    return say(text)
  }
  const run = await pool.run('talk')
  assert.equal((await run.end()).result, text)
  assert.ok(failed)
  assert.equal((await run.events()).filter(e => e.event === 'assistant').map(e => e.data.text).join(''), text)
})

test('what was said is seen while the arguments of a call are still on their way', async t => {
  const { m, pool } = await withModel(t)
  const chunk = delta => `data: ${JSON.stringify({ choices: [{ index: 0, delta }] })}\n\n`
  const begin = chunk({ content: 'Now I write the file.' }) + chunk({ tool_calls: [{ index: 0, id: 'c', function: { name: 'write_file', arguments: '{"path":"a' } }] })
  m.next({ raw: begin + ' '.repeat(100), stallAt: begin.length })
  const run = await pool.run('write')
  await run.status('RUNNING')
  const stream = await run.stream()
  await stream.until('the text is there', e => e.event === 'assistant' && e.data.text === 'Now I write the file.', 10)
  assert.equal((await run.get()).status, 'RUNNING')
  await run.cancel()
  stream.close()
})

test('a window that is too small for tools and rules costs no summary at every step', async t => {
  const { m, pool } = await withModel(t, { model: 'context_window = 2000' })
  let turn = 0
  m.otherwise = body => !body.tools ? { answer: { text: 'short' } } : ++turn <= 12 ? call('run_terminal_cmd', { command: 'true' }, count(body)) : say('ok')
  const run = await pool.run('many small steps')
  assert.equal((await run.end()).result, 'ok')
  const summaries = m.requests.filter(r => !r.body.tools).length
  assert.ok(summaries <= 6, `${summaries} summaries for ${turn} turns`)
})

test('a summary that the model does not give is made of pieces, and the run goes on', async t => {
  const { m, pool } = await withModel(t)
  let turn = 0
  m.otherwise = body => {
    if (!body.tools) return { answer: { text: 'I cannot help with that.', stop: 'content_filter' } }
    if (JSON.stringify(body.messages).length > 60000) return { status: 400, message: 'maximum context length', code: 'context_length_exceeded' }
    return ++turn <= 12 ? call('run_terminal_cmd', LONG) : say('done')
  }
  const run = await pool.run('a task about walruses')
  const end = await run.end()
  assert.equal(end.result, 'done', JSON.stringify(end.error))
  assert.match(JSON.stringify(m.requests.at(-1).body.messages), /No summary could be made.*walruses/)
  assert.match(pool.server.stderr, /run\.summary\.failed/)
})

test('calls that come with a refusal are not performed', async t => {
  const { m, pool } = await withModel(t, { format: 'anthropic' })
  m.next({ answer: { text: 'No.', calls: [{ name: 'run_terminal_cmd', arguments: { command: 'touch x' } }], stop: 'refusal' } })
  const run = await pool.run('evil')
  const r = await run.end()
  assert.match(r.error.message, /declined to answer: No\./)
  assert.ok(!(await run.events()).some(e => e.event === 'tool_call'))
})

test('of many images the newest are sent', async t => {
  const { m, pool } = await withModel(t)
  const image = n => ({ data: Buffer.concat([PNG, Buffer.alloc(11 * 1024 * 1024, n)]).toString('base64'), mimeType: 'image/png' })
  const run = await pool.run('', { extra: { prompt: { text: 'first', images: [image(1)] } } })
  await run.end()
  await (await run.followUp('second', { prompt: { text: 'second', images: [image(2)] } })).end()
  await (await run.followUp('third', { prompt: { text: 'third', images: [image(3)] } })).end()
  const users = m.requests.at(-1).body.messages.filter(x => x.role === 'user').map(x => x.content)
  assert.match(typeof users[0] === 'string' ? users[0] : JSON.stringify(users[0]).slice(0, 300), /first.*images left out/s)
  for (const u of users.slice(1)) assert.equal(u[1].type, 'image_url')
})
