// Routes are descriptions: the document that is made of them, every route under requests that do not fit its schema, and the
// kinds of routes that only bullpen-trial has (tests/trial/routes.c).
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { execFileSync } from 'node:child_process'
import { connect } from 'node:net'
import { build, bullpen, root, until } from './lib.mjs'
import { isError, raw, h2, UUID } from './api-help.mjs'

const openapi = (...args) => execFileSync(path.join(build, 'tools/openapi/openapi'), args, { encoding: 'utf8' })
const operations = doc => Object.entries(doc.paths).flatMap(([p, methods]) => Object.entries(methods).map(([method, o]) => ({ ...o, path: p, method: method.toUpperCase() })))
const REPO = 'https://git.example.test/acme/web'

async function trial(t, env = {}) {
  const pool = await bullpen(t, { start: false })
  await pool.start({ program: path.join(build, 'tests/trial/bullpen-trial'), env })
  return pool
}

test('docs/openapi.yaml, what the server serves and what the routes say are the same', async t => {
  const pool = await bullpen(t)
  const committed = fs.readFileSync(path.join(root, 'docs/openapi.yaml'), 'utf8')
  assert.equal(openapi(), committed, 'docs/openapi.yaml is old: make openapi')
  const served = await pool.http('GET', '/openapi.yaml', { key: null })
  assert.equal(served.status, 200)
  assert.equal(served.headers.get('content-type'), 'application/yaml')
  assert.equal(served.text, committed)
})

test('every route is in docs/api.md, and the table of who can do what has its scope', () => {
  const api = fs.readFileSync(path.join(root, 'docs/api.md'), 'utf8'), operating = fs.readFileSync(path.join(root, 'docs/operating.md'), 'utf8')
  const table = operating.slice(operating.indexOf('### Who can do what')).split(/\n##/)[0].split('\n').filter(l => l.startsWith('| `')).map(l => l.split('|').map(c => c.trim()))
  const documented = new Set()
  for (const o of operations(JSON.parse(openapi('json')))) {
    assert.ok(api.includes(`\`${o.method} ${o.path}\``), `docs/api.md has no ${o.method} ${o.path}`)
    const row = table.find(r => r[1].split(', ').includes(`\`${o.operationId}\``))
    assert.ok(row, `docs/operating.md says nothing of ${o.operationId}`)
    assert.equal(row[2], o.security?.length === 0 ? 'none asked' : o['x-scope'] === 'any' ? 'any key' : `\`${o['x-scope']}\``, o.operationId)
    documented.add(o.operationId)
  }
  for (const r of table) for (const name of r[1].split(', ')) if (!name.includes(' ')) assert.ok(documented.has(name.replaceAll('`', '')), `docs/operating.md names ${name}, which is no route`)
})

// Values that do not fit a schema, and some at its edges.
function* misfits(schema) {
  yield* [null, 0, -1, 1.5, 1e300, true, 'x', '', [], {}, [null], { x: null }, 'x'.repeat(70000), '\u202e\u0001\ud7ff', Array(3000).fill(0), JSON.parse('{"__proto__":{"a":1}}')]
  const min = schema?.minimum, max = schema?.maximum
  if (min !== undefined) yield min - 1
  if (max !== undefined) yield max + 1
  if (schema?.type === 'integer') yield* [9007199254740991, -9007199254740991]
}
// A value that fits.
function fitting(schema = {}, name = '') {
  if (schema.enum) return schema.enum[0]
  if (name === 'url') return REPO
  if (name === 'id') return 'playbook'
  switch (schema.type) {
    case 'object': return Object.fromEntries((schema.required ?? []).map(k => [k, fitting(schema.properties[k], k)]))
    case 'array': return []
    case 'string': return 'text'
    case 'integer': return schema.minimum ?? 0
    case 'boolean': return false
    default: return null
  }
}
// Bodies that differ from a fitting one in one place, at every depth.
function* mutations(schema, make = v => v) {
  for (const v of misfits(schema)) yield make(v)
  if (schema?.type === 'object') {
    const whole = fitting(schema)
    for (const k of schema.required ?? []) { const { [k]: _, ...rest } = whole; yield make(rest) }
    yield make({ ...whole, unknown: 1 })
    yield make({ ...whole, ...Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`k${i}`, 'v'])) })
    for (const [k, s] of Object.entries(schema.properties ?? {})) yield* mutations(s, v => make({ ...whole, [k]: v }))
    if (schema.additionalProperties?.type) yield* mutations(schema.additionalProperties, v => make({ ...whole, Name: v }))
  }
  if (schema?.type === 'array' && schema.items) yield* mutations(schema.items, v => make([v]))
}
function* queries(parameters) {
  for (const p of parameters.filter(p => p.in === 'query')) {
    for (const v of misfits(p.schema)) if (v === null || typeof v !== 'object') yield `${p.name}=${encodeURIComponent(String(v).slice(0, 3000))}`
    yield* [p.name, `${p.name}=1&${p.name}=1`, `${p.name}=%`, `${p.name}=%ff`, `${p.name}=%00`, `${p.name}[]=1`, `${p.name}=${'9'.repeat(400)}`]
  }
  yield* ['unknown=1', '=', '&&&', '%', '?', 'a=b=c']
}

// What any answer must be: in time, none of our faults, an error in its documented form and one that the route's document lists.
function isAnswer(r, o, what) {
  const where = `${o.method} ${o.path} ${what}`.slice(0, 300)
  assert.ok(r.status < 500, `${where}: ${r.status} ${r.text}`)
  if (r.status < 400) return
  // A page for people.
  if (r.status === 400 && o.responses['400']?.content?.['text/html']) return assert.match(r.headers['content-type'], /^(text\/html|application\/json)/, where)
  const fleet = o.path.startsWith('/v0/private-workers'), older = /^\/v0\/(agents|me|models|repositories)(\/|$)/.test(o.path)
  assert.deepEqual(Object.keys(r.json ?? {}).sort(), older ? ['code', 'error', 'message'] : ['error'], `${where}: ${r.text}`)
  if (older) assert.equal(r.json.error, r.json.message, where)
  else if (fleet) assert.match(r.json.error, /^[A-Z][a-z ]+: ./, where)
  else assert.deepEqual(Object.keys(r.json.error).sort(), ['code', 'message'], where)
  const message = fleet || older ? r.json.error : r.json.error.message
  assert.ok(message.length > 0, where)
  assert.match(r.headers['x-request-id'], UUID)
  assert.ok(message.length < 600, where)
  assert.ok(String(r.status) in o.responses, `${where}: ${r.status} is not in the document`)
}

async function hammer(t, pool, doc) {
  const a = (await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, repos: [{ url: REPO }] } })).json
  let sent = 0
  const send = async (o, p, options, what) => {
    sent++
    const answer = raw(pool.url, o.method, p, options)
    const late = new Promise((_, no) => setTimeout(() => no(new Error(`${o.method} ${p.slice(0, 200)} ${what}: no answer`)), 20000).unref())
    isAnswer(await Promise.race([answer, late]), o, what)
  }
  for (const o of operations(doc)) {
    const auth = { authorization: `Bearer ${o['x-service-account'] ? pool.poolKey : pool.userKey}` }
    const ids = o['x-streams'] ? [`bc-${randomUUID()}`, `run-${randomUUID()}`] : [a.agent.id, a.run.id]
    const real = o.path.replace(/\{(\w+)\}/g, (_, n) => ({ id: ids[0], runId: ids[1] })[n] ?? 'x')
    const content = o.requestBody?.content ?? {}
    const [type, { schema } = {}] = Object.entries(content)[0] ?? []
    const body = type === 'application/json' ? JSON.stringify(fitting(schema)) : type ? 'x' : undefined
    const headers = { ...auth, ...(type ? { 'content-type': type } : {}) }
    for (const q of queries(o.parameters ?? [])) await send(o, `${real}?${q}`, { headers, body }, `?${q}`)
    for (const hostile of ['%00', '%ff', '..%2f..', 'x'.repeat(4000), '%F0%9F%A6%8A', "';--", '%25', '.'])
      await send({ ...o, responses: { ...o.responses, 404: 1, 405: 1 } }, o.path.replace(/\{\w+\}/g, hostile), { headers, body }, hostile)
    if (!type) continue
    for (const text of ['', '{', 'null', '[]', '"x"', '{"a":'.repeat(70), '[' + '{},'.repeat(60000) + '{}]', '\xff', 'a=b&c', '%', '\0'])
      await send(o, real, { headers, body: text }, text.slice(0, 50))
    for (const wrong of ['text/plain', 'application/json; x', 'a', '', '\t'])
      await send(o, real, { headers: { ...auth, 'content-type': wrong }, body }, wrong)
    await send({ ...o, responses: { ...o.responses, 415: 1 } }, real, { headers: { ...headers, 'content-encoding': 'gzip' }, body }, 'gzip')
    if (type !== 'application/json') continue
    for (const v of mutations(schema)) await send(o, real, { headers, body: JSON.stringify(v) }, JSON.stringify(v).slice(0, 150))
  }
  assert.equal((await pool.http('GET', '/readyz', { key: null })).status, 200)
  assert.ok(pool.server.alive)
  assert.doesNotMatch(pool.server.stderr, /request\.failed/)
  return sent
}

test('every route takes every request that does not fit in the documented way', async t => {
  const doc = JSON.parse(openapi('json'))
  const sent = await hammer(t, await bullpen(t), doc)
  assert.ok(sent > 500, `${sent} requests`)
})

test('a value that does not fit is named with its place', async t => {
  const pool = await bullpen(t)
  const ask = (extra, text = 'hi') => pool.http('POST', '/v1/agents', { body: { prompt: { text, ...extra.prompt }, repos: [{ url: REPO }], ...extra.body } })
  for (const [extra, message] of [
    [{ body: { repos: [{ url: REPO }, { url: 5 }] } }, "'repos[1].url' must be a string"],
    [{ body: { model: { id: 'playbook', params: [{ id: 'a', value: 1 }] } } }, "'model.params[0].value' must be a string"],
    [{ body: { model: { id: 'playbook', params: [{ id: 'a', value: '1', x: 1 }] } } }, "Unrecognized key(s) in 'model.params[0]': 'x'"],
    [{ body: { env: { type: 'vm' } } }, "'env.type' must be cloud, pool or machine"],
    [{ body: { mode: 'ask' } }, "'mode' must be agent or plan"],
    [{ prompt: { images: [{ dimension: { width: 0, height: 1 } }] } }, "'prompt.images[0].dimension.width' must be an integer of at least 1"],
    [{ body: { colour: 1 } }, "Unrecognized key(s) in the request body: 'colour'"],
  ]) assert.equal((await ask(extra)).json.error.message, message)
  for (const [q, message] of [['limit=0', "'limit' must be an integer from 1 to 100"], ['includeArchived=1', "'includeArchived' must be true or false"], ['x=1', "Unrecognized key(s) in the query: 'x'"]])
    assert.equal((await pool.http('GET', `/v1/agents?${q}`)).json.error.message, message)
})

test('a failure without a sentence is never a bad request without words', async t => {
  const pool = await trial(t)
  const r = await pool.http('GET', '/trial/fail')
  isError(r, 500, 'internal_error')
  assert.ok(r.json.error.message.includes(r.headers.get('x-request-id')))
  await until("the log names it", () => /request\.failed .*path="\/trial\/fail" error=ERR_INVALID/.test(pool.server.stderr))
})

test('a form is read like a query; what does not fit is named', async t => {
  const pool = await trial(t)
  const post = (body, type = 'application/x-www-form-urlencoded') => raw(pool.url, 'POST', '/trial/form', { body, headers: type ? { 'content-type': type } : {} })
  assert.deepEqual((await post('code=a%20b+c&deep=true')).json, { code: 'a b c', deep: true, count: 1 })
  assert.deepEqual((await post('code=%C3%BC&count=9&', 'application/x-www-form-urlencoded; charset=utf-8')).json, { code: 'ü', count: 9 })
  for (const [body, message] of [['count=1', /'code' is required/], ['code=', /'code' must be a non-empty/], ['code=a&count=10', /'count' must be an integer from 0 to 9/], ['code=a&count=x', /'count'/], ['code=a&deep=1', /'deep' must be true or false/],
    ['code=a&code=b', /given twice/], ['code=a&x=1', /in the form: 'x'/], ['code=%zz', /the form is not valid/], ['code=%00', /the form/], ['code=a\0', /the form/]])
    isError(await post(body), 400, 'validation_error', message)
  isError(await post(''), 400, 'missing_body', /form/)
  isError(await post('code=' + 'x'.repeat(1 << 20)), 413, 'validation_error', /large/)
  isError(await post('code=a', 'application/json'), 400, 'validation_error', /x-www-form-urlencoded/)
})

test('path and query: names before parameters, the rest of a path, defaults and requirements', async t => {
  const pool = await trial(t)
  const get = p => pool.http('GET', p, { key: null })
  assert.equal((await get('/trial/things/summary')).json.route, 'trialByName')
  assert.equal((await get('/trial/things/summarx')).json.route, 'trialById')
  assert.deepEqual((await get('/trial/a%2Fb/below/c/d%20e/f?who=me')).json, { query: { who: 'me', n: 7 }, id: 'a/b', rest: 'c/d e/f' })
  assert.equal((await get('/trial/a/below/c?who=me&n=-5&kind=b')).json.query.n, -5)
  for (const [q, message] of [['', /'who' is required/], ['?who=', /non-empty/], ['?who=x&n=-6', /at least -5/], ['?who=x&kind=c', /'kind' must be a or b/]])
    isError(await get(`/trial/a/below/c${q}`), 400, 'validation_error', message)
  for (const p of ['/trial/a/below', '/trial/a/below/', '/trial//below/c', '/trial/things']) assert.equal((await get(p)).status, 404, p)
})

test('bytes and uploads: content and size arrive, over both protocols; types, limits, scopes and missing ends are refused', async t => {
  const pool = await trial(t)
  const metrics = await pool.createKey('service_account', 'scraper', null, 'metrics:read')
  const content = randomBytes(5 << 20), small = Buffer.from('x')
  const digest = b => ({ bytes: b.length, sha256: createHash('sha256').update(b).digest('hex') })
  const post = (p, body, headers = {}, key = p.endsWith('bytes') ? metrics : pool.userKey) => raw(pool.url, 'POST', p, { body, headers: { authorization: `Bearer ${key}`, 'content-type': 'image/png', ...headers } })
  for (const p of ['/trial/bytes', '/trial/upload'])
    for (const b of [content, small, Buffer.alloc(0), content.subarray(0, 65536)]) assert.deepEqual((await post(p, b)).json, digest(b), `${p} ${b.length}`)
  // Pieces without a length, as a client streams.
  assert.deepEqual((await pool.http('POST', '/trial/upload', { body: content })).json, digest(content))
  const c = h2(t, pool.url, pool.userKey)
  const over2 = await new Promise((resolve, reject) => {
    const s = c.open('POST', '/trial/upload')
    let text = ''
    s.setEncoding('utf8').on('data', d => { text += d }).on('end', () => resolve(JSON.parse(text))).on('error', reject)
    s.end(content)
  })
  assert.deepEqual(over2, digest(content))
  isError(await post('/trial/bytes', small, { 'content-type': 'text/plain' }), 400, 'validation_error', /application\/octet-stream or image\/png/)
  isError(await post('/trial/upload', small, {}, `${pool.userKey}x`), 401, 'unauthorized')
  isError(await post('/trial/upload', small, {}, metrics), 403, 'scope_required', /agents:write/)
  isError(await post('/trial/bytes', small, {}, pool.userKey), 403, 'scope_required', /metrics:read/)
  isError(await post('/trial/bytes', Buffer.alloc((8 << 20) + 1)), 413, 'validation_error', /large/)
  isError(await post('/trial/upload', Buffer.alloc((8 << 20) + 1)), 413, 'validation_error', /large/)
  // A client that goes away in the middle holds nothing for long.
  const s = connect(Number(new URL(pool.url).port), '127.0.0.1')
  t.after(() => s.destroy())
  await new Promise(resolve => s.write(`POST /trial/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${pool.userKey}\r\nContent-Length: 1000\r\n\r\nabc`, resolve))
  s.destroy()
  await until('uploads go on', async () => (await post('/trial/upload', small)).status === 200)
})

test('uploads that wait are limited, and the others are served meanwhile', async t => {
  const pool = await trial(t)
  const slow = Array.from({ length: 8 }, () => {
    const s = connect(Number(new URL(pool.url).port), '127.0.0.1', () => s.write(`POST /trial/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${pool.userKey}\r\nContent-Length: 1000\r\n\r\nabc`))
    t.after(() => s.destroy())
    s.text = ''
    s.on('data', d => { s.text += d }).on('error', e => { s.text += ` ${e.message}` }).on('close', () => { s.text += ' closed' })
    return s
  })
  const told = () => slow.map(s => /^HTTP\/1\.1 (\d+)/.exec(s.text)?.[1] ?? s.text).sort().join()
  await until('some are refused', () => told() === ',,,,503,503,503,503').catch(() => assert.fail(`told: ${told()}`))
  assert.equal((await pool.http('GET', '/v1/me')).status, 200)
  // Those that say nothing more are ended.
  await until('the others are ended', () => told() === '408,408,408,408,503,503,503,503', 30).catch(() => assert.fail(`told: ${told()}\n${pool.server.stderr.slice(-2000)}`))
})

test('a slow upload does not keep the server from stopping', async t => {
  const pool = await trial(t)
  const s = connect(Number(new URL(pool.url).port), '127.0.0.1', () => s.write(`POST /trial/upload HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${pool.userKey}\r\nContent-Length: 4000000\r\n\r\n`))
  const drip = setInterval(() => s.write('x'.repeat(2000)), 200)
  t.after(() => { clearInterval(drip); s.destroy() })
  let text = ''
  s.on('data', d => { text += d }).on('error', () => {})
  await until('the upload is under way', async () => (await pool.http('GET', '/v1/me')).status === 200 && s.bytesWritten > 2000)
  pool.server.child.kill('SIGTERM')
  await until('the server ends', () => !pool.server.alive, 20)
  assert.deepEqual(await pool.server.exited, { code: 0, signal: null })
  assert.match(text, /^HTTP\/1\.1 (408|503) /)
})

test('files: type, tag, HEAD, nothing outside of the folder', async t => {
  const pool = await bullpen(t, { start: false, prepare: p => {
    const dir = path.join(p.dir, 'files')
    fs.mkdirSync(path.join(dir, 'sub/.git'), { recursive: true })
    fs.writeFileSync(path.join(p.dir, 'secret.txt'), 'secret')
    fs.writeFileSync(path.join(dir, 'index.html'), '<p>hi')
    fs.writeFileSync(path.join(dir, 'sub/app.js'), 'let a')
    fs.writeFileSync(path.join(dir, 'sub/.hidden'), 'secret')
    fs.writeFileSync(path.join(dir, 'sub/.git/config'), 'secret')
    fs.writeFileSync(path.join(dir, 'data.bin'), '')
    fs.symlinkSync(path.join(p.dir, 'secret.txt'), path.join(dir, 'link.txt'))
    fs.symlinkSync(p.dir, path.join(dir, 'up'))
    execFileSync('mkfifo', [path.join(dir, 'pipe')])
  } })
  await pool.start({ program: path.join(build, 'tests/trial/bullpen-trial'), env: { BULLPEN_TRIAL_FILES: path.join(pool.dir, 'files') } })
  const get = (p, headers = {}, method = 'GET') => raw(pool.url, method, `/trial/files/${p}`, { headers })
  for (const [p, type, text] of [['index.html', 'text/html; charset=utf-8', '<p>hi'], ['sub/app.js', 'text/javascript; charset=utf-8', 'let a'], ['data.bin', 'application/octet-stream', '']]) {
    const r = await get(p)
    assert.deepEqual([r.status, r.headers['content-type'], r.text, r.headers['x-content-type-options']], [200, type, text, 'nosniff'], p)
    const again = await get(p, { 'if-none-match': r.headers.etag })
    assert.deepEqual([again.status, again.text, again.headers.etag], [304, '', r.headers.etag])
    assert.equal((await get(p, { 'if-none-match': '"other"' })).status, 200)
    const head = await get(p, {}, 'HEAD')
    assert.deepEqual([head.status, head.text, head.headers['content-length'], head.headers.etag], [200, '', String(text.length), r.headers.etag])
  }
  for (const p of ['../secret.txt', '..%2fsecret.txt', '%2e%2e/secret.txt', 'sub/../../secret.txt', 'sub/%2e%2e%2f%2e%2e%2fsecret.txt', 'link.txt', 'up/secret.txt', 'sub/.hidden', 'sub/.git/config', 'sub', 'sub/', 'pipe', 'nothing',
    'index.html/x', 'sub//app.js', '%2fetc/passwd', '/etc/passwd', 'index.html%00.js', 'sub\\app.js', `${'a/'.repeat(500)}x`]) {
    const r = await get(p)
    isError(r, 404, 'not_found')
    assert.doesNotMatch(r.text, /secret"?$/)
  }
})
