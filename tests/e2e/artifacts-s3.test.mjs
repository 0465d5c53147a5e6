// Artifacts in S3: a stand-in that checks every signature, and fails where a test wants it.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import https from 'node:https'
import path from 'node:path'
import { createHash, randomBytes } from 'node:crypto'
import { bullpen, sh, until, run as runProgram, programs, freePort, tempDir } from './lib.mjs'
import { gate, sql } from './api-help.mjs'
import { uploadHostAt } from './artifacts-help.mjs'
import { S3, s3Refusal } from './s3-help.mjs'
import { Authority } from './tls.mjs'
import { browser, signIn } from './dashboard-help.mjs'

const sha = bytes => createHash('sha256').update(bytes).digest('hex')
const DAY = 24 * 3600e3
const list = async (pool, agentId) => {
  const r = await pool.http('GET', `/v1/agents/${agentId}/artifacts`)
  assert.equal(r.status, 200, r.text)
  return r.json.items
}
const link = async (pool, agentId, p) => {
  const r = await pool.http('GET', `/v1/agents/${agentId}/artifacts/download?path=${encodeURIComponent(p)}`)
  assert.equal(r.status, 200, r.text)
  return r.json
}
const fetched = async (url, headers = {}) => {
  const res = await fetch(url, { headers })
  return { res, bytes: Buffer.from(await res.arrayBuffer()) }
}
// A server whose artifacts are in a stand-in, and a worker. make: what the commands find as $dir/NAME.
async function start(t, { s3 = new S3(), more = '', over = {}, config = '', worker = true, prepare } = {}) {
  await s3.start(t)
  const pool = await bullpen(t, { prepare: async p => {
    await prepare?.(p)
    fs.appendFileSync(p.configFile, config + s3.settings(p.dir, more, over))
  } })
  if (worker) await pool.worker()
  return { s3, pool }
}
const big = (pool, n) => { const b = randomBytes(n); fs.writeFileSync(path.join(pool.dir, 'big.bin'), b); return b }
const bring = (pool, name = 'big.bin') => sh(`mkdir -p artifacts && cp ${pool.dir}/big.bin artifacts/${name}`)
const brought = async (run) => {
  const ended = await run.end()
  assert.equal(ended.status, 'FINISHED')
  assert.equal(ended.notUploaded, undefined, JSON.stringify(ended.notUploaded))
}
const content = async (pool, agentId, p) => {
  const { res, bytes } = await fetched((await link(pool, agentId, p)).url)
  assert.equal(res.status, 200, bytes.toString().slice(0, 500))
  return bytes
}
// A file that arrived, byte by byte as it was; nothing is left half done.
async function arrived(pool, s3, run, bytes, p = 'artifacts/big.bin') {
  assert.equal(sha(await content(pool, run.agentId, p)), sha(bytes))
  assert.equal(s3.uploads.size, 0, 'no upload is left')
}

test('small files are objects, large ones come in parts, and clients fetch them from there', async t => {
  const { s3, pool } = await start(t)
  const bytes = big(pool, 21_000_000)
  const run = await pool.run(sh(`mkdir -p artifacts/d && printf '<script>' > 'artifacts/d/a "ü".html' && : > artifacts/empty && cp ${pool.dir}/big.bin artifacts/big.bin`))
  await brought(run)
  assert.equal((await list(pool, run.agentId)).length, 3)
  const l = await link(pool, run.agentId, 'artifacts/d/a "ü".html')
  assert.ok(l.url.startsWith(`${s3.url}/${s3.bucket}/bull/pen/`), l.url)
  const left = Date.parse(l.expiresAt) - Date.now()
  assert.ok(left > 14 * 60_000 && left <= 15 * 60_000, l.expiresAt)
  assert.equal(new URL(l.url).searchParams.get('X-Amz-Expires'), '900')
  const { res, bytes: small } = await fetched(l.url)
  assert.equal(res.status, 200, small.toString())
  assert.equal(small.toString(), '<script>')
  assert.equal(res.headers.get('content-disposition'), `attachment; filename="a ____.html"; filename*=UTF-8''a%20%22%C3%BC%22.html`)
  assert.equal(res.headers.get('content-type'), 'application/octet-stream', 'nothing that a browser runs')
  assert.equal(res.headers.get('cache-control'), 'private, no-store')
  // The link is for that object, that answer and that time.
  for (const change of [u => u.searchParams.set('response-content-type', 'text/html'), u => u.searchParams.set('X-Amz-Expires', '9000'), u => { u.pathname = u.pathname.replace(/.$/, c => c === '0' ? '1' : '0') }]) {
    const u = new URL(l.url)
    change(u)
    assert.equal((await fetched(u)).res.status, 403)
  }
  s3.skewMs = 901e3
  assert.equal((await fetched(l.url)).res.status, 403, 'it is over')
  s3.skewMs = 0
  assert.equal((await content(pool, run.agentId, 'artifacts/empty')).length, 0)
  await arrived(pool, s3, run, bytes)
  const parts = s3.requests.filter(r => r.method === 'PUT' && r.query.has('partNumber'))
  assert.deepEqual(parts.map(r => r.bytes), [8 << 20, 8 << 20, 21_000_000 - (16 << 20)])
  assert.deepEqual(s3.requests.filter(r => r.query.get('prefix')?.length > 'bull/pen/'.length), [], 'nobody looks for what cannot be there')
  assert.equal(s3.contents().length, 3)
  assert.ok(!fs.existsSync(path.join(pool.data, 'artifacts')), 'nothing is kept in the data folder')
})

test('through the server, where clients do not reach the bucket: ranges, and as much as there is', async t => {
  const { s3, pool } = await start(t, { over: { direct_downloads: false } })
  const bytes = big(pool, 3_000_000)
  const run = await pool.run(bring(pool) + sh(': > artifacts/empty'))
  await brought(run)
  const { url } = await link(pool, run.agentId, 'artifacts/big.bin')
  assert.ok(url.startsWith(`${pool.url}/v1/artifact-files/`), url)
  assert.ok((await fetched(url)).bytes.equals(bytes))
  for (const [range, from, to] of [['bytes=0-0', 0, 1], ['bytes=524287-524289', 524287, 524290], ['bytes=-5', 2_999_995, 3_000_000], ['bytes=1000000-', 1_000_000, 3_000_000]]) {
    const { res, bytes: part } = await fetched(url, { range })
    assert.equal(res.status, 206)
    assert.ok(part.equals(bytes.subarray(from, to)), range)
  }
  assert.equal((await content(pool, run.agentId, 'artifacts/empty')).length, 0)
  // What is gone there is no artifact; what does not answer is later.
  const name = s3.contents().find(n => s3.objects.get(n).body.length === 3_000_000)
  const kept = s3.objects.get(name)
  s3.objects.delete(name)
  assert.equal((await fetched(url)).res.status, 404)
  s3.objects.set(name, kept)
  s3.denied = () => true
  const r = await fetched(url)
  assert.equal(r.res.status, 503)
  assert.match(r.bytes.toString(), /the storage of artifacts does not answer, or refuses it/)
  await pool.server.says(/access to the bucket 'artifacts' is denied/, 'stderr')
})

test('a bucket that is slow, breaks off or damages what it gets is asked again', async t => {
  const { s3, pool } = await start(t, { over: { direct_downloads: false } })
  const met = new Map()
  // Each kind of request fails twice, in another way each time, before it is performed.
  const kind = e => `${e.method} ${e.query.has('partNumber') ? 'part' + e.query.get('partNumber') : e.query.has('uploads') ? 'uploads' : e.query.has('uploadId') ? 'complete' : e.query.has('list-type') ? 'list' : 'object'}`
  s3.interfere = (e, req) => {
    const n = met.get(kind(e)) ?? 0
    met.set(kind(e), n + 1)
    if (n === 0) throw Object.assign(s3Refusal(503, 'SlowDown', 'Please reduce your request rate.'), { headers: { 'retry-after': '0' } })
    if (n === 1) { req.socket.destroy(); return 'done' }
    if (n === 2) throw s3Refusal(500, 'InternalError')
  }
  const bytes = big(pool, 10_000_000)
  const run = await pool.run(bring(pool))
  await brought(run)
  await arrived(pool, s3, run, bytes)
  s3.interfere = null
  for (const k of ['POST uploads', 'PUT part1', 'PUT part2', 'POST complete', 'GET object']) assert.ok(met.get(k) >= 4, `${k}: ${JSON.stringify([...met])}`)
})

test('an upload that is cut goes on at the byte where the server stands', async t => {
  const port = await freePort()
  const { s3, pool } = await start(t, { worker: false, config: `[artifacts]\nupload_url = "http://127.0.0.1:${port}"\n` })
  const host = await uploadHostAt(t, pool, port)
  let cuts = 0
  host.cutAfter = e => e.method === 'PUT' && cuts++ < 3 ? 300_000 : undefined
  await pool.worker()
  const bytes = big(pool, 10_000_000)
  const run = await pool.run(bring(pool))
  await brought(run)
  const puts = host.requests.filter(e => e.method === 'PUT'), offsets = puts.map(e => Number(new URL(e.url, pool.url).searchParams.get('offset')))
  assert.equal(puts.filter(e => e.cut).length, 3)
  assert.deepEqual(offsets, [...offsets].sort((a, b) => a - b), 'never from the beginning again')
  assert.ok(offsets[1] > 0, `what came before the cut counts: ${offsets}`)
  await arrived(pool, s3, run, bytes)
  assert.deepEqual(s3.requests.filter(r => r.method === 'PUT' && r.query.has('partNumber')).map(r => r.bytes), [8 << 20, 10_000_000 - (8 << 20)])
})

test('an error in an answer of 200, and one whose answer is lost: completed once, and right', async t => {
  const { s3, pool } = await start(t)
  let errors = 0, lost = 0
  s3.interfere = async (e, req, res) => {
    if (e.method !== 'POST' || !e.query.has('uploadId')) return
    if (errors++ === 0) { res.writeHead(200, { 'content-type': 'application/xml' }); res.write('<?xml version="1.0"?>\n   \n'); res.end('<Error><Code>InternalError</Code><Message>again</Message></Error>'); return 'done' }
    if (lost++ === 0) {
      // It is performed, and nobody hears of it.
      const u = s3.uploads.get(e.query.get('uploadId'))
      s3.put(e.name, Buffer.concat([...u.parts].sort((a, b) => a[0] - b[0]).map(([, p]) => p.body)))
      s3.uploads.delete(e.query.get('uploadId'))
      req.socket.destroy()
      return 'done'
    }
  }
  const bytes = big(pool, 9_000_000)
  const run = await pool.run(bring(pool))
  await brought(run)
  assert.equal(errors, 3)
  await arrived(pool, s3, run, bytes)
  assert.equal(s3.contents().length, 1)
})

test('a part that S3 has under another name: the upload begins anew, and nothing is left of the first', async t => {
  const { s3, pool } = await start(t)
  let wrong = 0
  s3.wrongEtag = (u, n) => (n === 1 && wrong++ === 0 ? 'f'.repeat(32) : undefined)
  const bytes = big(pool, 9_500_000)
  const run = await pool.run(bring(pool))
  await brought(run)
  assert.ok(wrong >= 2)
  assert.equal(s3.requests.filter(r => r.method === 'POST' && r.query.has('uploads')).length, 2)
  await arrived(pool, s3, run, bytes)
})

test('a crash in the middle of an upload: the parts that are there are not brought again', async t => {
  const { s3, pool } = await start(t)
  const g = gate(pool, fs)
  let release
  const held = new Promise(r => { release = r })
  // The third part waits until the server is dead.
  s3.interfere = async e => { if (e.query.get('partNumber') === '3') await held }
  const bytes = big(pool, 30_000_000)
  const run = await pool.run(bring(pool) + sh(g.command))
  await until('two parts are there', () => s3.requests.some(r => r.query.get('partNumber') === '3'))
  await pool.crash()
  s3.interfere = null
  s3.requests.length = 0
  await pool.restart()
  release()
  g.go()
  await brought(run)
  await arrived(pool, s3, run, bytes)
  const numbers = s3.requests.filter(r => r.method === 'PUT').map(r => Number(r.query.get('partNumber')))
  assert.ok(numbers.length > 0 && numbers.every(n => n >= 3), `parts ${numbers}`)
  assert.equal(s3.requests.filter(r => r.method === 'POST' && r.query.has('uploads')).length, 0, 'one upload')
})

test('a crash after the last word to S3, before the row says so: the object is looked at, and is it', async t => {
  const { s3, pool } = await start(t)
  const g = gate(pool, fs)
  let crashed = false
  s3.interfere = async (e, req, res) => {
    if (crashed || e.method !== 'POST' || !e.query.has('uploadId')) return
    crashed = true
    await pool.crash()
    s3.part('POST', e.name, e.query, Buffer.from([...s3.uploads.get(e.query.get('uploadId')).parts].map(([n, p]) => `<Part><PartNumber>${n}</PartNumber><ETag>${p.etag}</ETag></Part>`).join('')), res)
    return 'done'
  }
  const bytes = big(pool, 10_000_000)
  const run = await pool.run(bring(pool) + sh(g.command))
  await until('it is complete, and nobody knows', () => crashed && s3.contents().length === 1)
  s3.requests.length = 0
  await pool.restart()
  g.go()
  await brought(run)
  await arrived(pool, s3, run, bytes)
  assert.deepEqual(s3.requests.filter(r => r.method !== 'GET' && r.name.includes('/')).map(r => r.name).filter(n => !n.includes('.bullpen')), [], 'nothing was brought again')
})

test('parts that were changed while the server was away: what is wrong is thrown away, and brought anew', async t => {
  const { s3, pool } = await start(t)
  const g = gate(pool, fs)
  let release
  const held = new Promise(r => { release = r })
  s3.interfere = async e => { if (e.query.get('partNumber') === '2') await held }
  const bytes = big(pool, 20_000_000)
  const run = await pool.run(bring(pool) + sh(g.command))
  await until('a part is there', () => s3.requests.some(r => r.query.get('partNumber') === '2'))
  await pool.crash()
  s3.interfere = null
  for (const u of s3.uploads.values()) u.parts.get(1).body[5] ^= 1
  await pool.restart()
  release()
  g.go()
  await run.end()
  await until('it is listed', async () => (await list(pool, run.agentId)).length === 1)
  await until('the wrong one is gone', () => s3.contents().length === 1)
  await arrived(pool, s3, run, bytes)
})

test('a bucket that is away holds up nobody but artifacts, and what was not brought comes when it is back', async t => {
  const { s3, pool } = await start(t)
  let asked = 0
  s3.interfere = () => { asked++; throw s3Refusal(503, 'SlowDown') }
  const bytes = big(pool, 100_000)
  const g = gate(pool, fs)
  const run = await pool.run(bring(pool) + sh(g.command))
  await until('it was tried for long enough', () => asked >= 6)
  await pool.server.says(/artifacts\.s3\.failed error=.*SlowDown/, 'stderr')
  assert.deepEqual(await list(pool, run.agentId), [])
  s3.interfere = null
  await until('it is there', async () => (await list(pool, run.agentId)).length === 1)
  g.go()
  await brought(run)
  await arrived(pool, s3, run, bytes)
})

test('a server that changes over from its folder: the folder is copied as it is', async t => {
  const s3 = await new S3().start(t)
  const pool = await bullpen(t)
  await pool.worker()
  const run = await pool.run(sh('mkdir artifacts; printf before > artifacts/a'))
  await brought(run)
  await pool.stop()
  const from = path.join(pool.data, 'artifacts')
  for (const e of fs.readdirSync(from, { recursive: true, withFileTypes: true })) if (e.isFile()) s3.put(`${s3.prefix}/${path.relative(from, path.join(e.path, e.name))}`, fs.readFileSync(path.join(e.path, e.name)))
  fs.appendFileSync(pool.configFile, s3.settings(pool.dir))
  await pool.restart()
  assert.equal((await content(pool, run.agentId, 'artifacts/a')).toString(), 'before')
})

test('a clock that is wrong, and one that is right again', async t => {
  const { s3, pool } = await start(t)
  s3.skewMs = 20 * 60e3
  const bytes = big(pool, 100_000)
  const run = await pool.run(bring(pool))
  const ended = await run.end()
  assert.equal(ended.status, 'FINISHED', 'a run does not fail for it')
  assert.match(ended.notUploaded[0].reason, /the storage of artifacts does not answer, or refuses it/)
  await pool.server.says(/the clock of this machine is (119\d|120\d) s behind that of 127\.0\.0\.1:\d+/, 'stderr')
  s3.skewMs = 0
  const next = await run.followUp(sh('true'))
  await brought(next)
  await arrived(pool, s3, run, bytes)
})

test('keys that are replaced in their files are taken without a restart; a session token is shown', async t => {
  const s3 = new S3()
  s3.sessionToken = 'token/+1=='
  const { pool } = await start(t, { s3 })
  const run = await pool.run(sh('mkdir artifacts; printf one > artifacts/a'))
  await brought(run)
  assert.equal((await content(pool, run.agentId, 'artifacts/a')).toString(), 'one')
  Object.assign(s3, { accessKey: 'AKIDNEW', secretKey: 'another', sessionToken: 'token/+2==' })
  s3.settings(pool.dir)
  const next = await run.followUp(sh('printf two > artifacts/a'))
  await brought(next)
  assert.equal((await content(pool, run.agentId, 'artifacts/a')).toString(), 'two')
})

test('what is deleted goes from the bucket, an upload under way too', async t => {
  const { s3, pool } = await start(t)
  const g = gate(pool, fs)
  big(pool, 30_000_000)
  let release
  const held = new Promise(r => { release = r })
  const run = await pool.run(sh('mkdir artifacts; printf a > artifacts/a; printf b > artifacts/b') + sh(`cp ${pool.dir}/big.bin artifacts/big.bin`) + sh(g.command))
  s3.interfere = async e => { if (e.query.get('partNumber') === '2') await held }
  await until('the large one is under way', () => s3.requests.some(r => r.query.get('partNumber') === '2'))
  assert.equal(s3.contents().length, 2)
  assert.equal((await pool.http('POST', `/v1/agents/${run.agentId}/runs/${run.id}/cancel`)).status, 200)
  assert.equal((await pool.http('DELETE', `/v1/agents/${run.agentId}`)).status, 200)
  await until('all is gone', () => s3.contents().length === 0 && s3.uploads.size === 0)
  s3.interfere = null
  release()
  g.go()
  await until('the worker has given up', async () => (await pool.http('GET', `/v1/agents/${run.agentId}`)).status === 404)
  assert.equal(s3.contents().length, 0)
})

test('a sweep forgets what no row knows, page by page, and nothing of anybody else', async t => {
  const s3 = new S3()
  s3.pageSize = 2
  const { pool } = await start(t, { s3 })
  const run = await pool.run(sh('mkdir artifacts; for i in 1 2 3 4 5; do printf $i > artifacts/$i; done'))
  await brought(run)
  const mine = s3.contents()
  assert.equal(mine.length, 5)
  const uuid = n => `${n}1111111-2222-4333-8444-555555555555`
  const object = id => `bull/pen/${id.slice(0, 2)}/${id}`
  const old = Date.now() - 25 * 3600e3
  for (const n of mine) s3.objects.get(n).at = old
  await pool.stop()
  const stray = [0, 1, 2, 3, 4].map(n => object(uuid(n)))
  for (const n of stray) s3.put(n, 'lost', old)
  const others = [object(uuid(5)), 'bull/pen/notes.txt', `bull/pen/zz/${uuid(6)}`, `bull/pen/61/${uuid(6)}/x`, `bull/penguin/61/${uuid(6)}`, `other/61/${uuid(6)}`]
  for (const n of others) s3.put(n, 'kept', n === others[0] ? Date.now() : old)
  const upload = (name, at) => { const id = `u-${Math.random()}`; s3.uploads.set(id, { name, at, parts: new Map() }); return id }
  const lost = [upload(object(uuid(7)), old), upload(object(uuid(7)), old), upload(mine[0], old), upload(object(uuid(8)), old)]
  const kept = [upload(object(uuid(9)), Date.now()), upload('other/x', old)]
  await pool.restart()
  await until('what is lost is gone', () => !stray.some(n => s3.objects.has(n)) && !lost.some(id => s3.uploads.has(id)))
  for (const n of [...mine, ...others]) assert.ok(s3.objects.has(n), `${n} is kept`)
  for (const id of kept) assert.ok(s3.uploads.has(id))
  assert.equal((await content(pool, run.agentId, 'artifacts/3')).toString(), '3')
  // Another installation with the same settings leaves alone what it does not know.
  s3.put(stray[0], 'lost', old)
  const second = await bullpen(t, { prepare: p => fs.appendFileSync(p.configFile, s3.settings(p.dir)) })
  await second.server.says(/another installation keeps its artifacts in 'artifacts' below 'bull\/pen'/, 'stderr')
  assert.ok(s3.objects.has(stray[0]))
})

test('artifacts are over after as many days as the settings say, in the bucket and in the folder', async t => {
  const { s3, pool } = await start(t, { config: '[retention]\nartifacts_days = 7\n' })
  const plain = await bullpen(t, { config: '[retention]\nartifacts_days = 7\n' })
  await plain.worker()
  for (const p of [pool, plain]) {
    const run = await p.run(sh('mkdir artifacts; printf old > artifacts/old; printf young > artifacts/young'))
    await brought(run)
    await p.stop()
    sql(p, 'UPDATE artifacts SET updated_at = ? WHERE path = ?', String(Date.now() - 7 * DAY - 60e3), 'artifacts/old')
    sql(p, 'UPDATE artifacts SET updated_at = ? WHERE path = ?', String(Date.now() - 7 * DAY + 3600e3), 'artifacts/young')
    await p.restart()
    await until('the old one is over', async () => (await list(p, run.agentId)).length === 1)
    assert.equal((await list(p, run.agentId))[0].path, 'artifacts/young')
    assert.equal((await content(p, run.agentId, 'artifacts/young')).toString(), 'young')
  }
  const files = () => fs.readdirSync(path.join(plain.data, 'artifacts'), { recursive: true, withFileTypes: true }).filter(e => e.isFile()).length
  await until('their content is gone', () => s3.contents().length === 1 && files() === 1)
})

test('the client gets it from there, and the dashboard shows it', async t => {
  const { s3, pool } = await start(t)
  const bytes = big(pool, 2_000_000)
  const run = await pool.run(bring(pool))
  await brought(run)
  const to = path.join(pool.dir, 'got.bin')
  const p = pool.cli(['artifacts', run.agentId, 'get', 'artifacts/big.bin', '-o', to])
  await p.exited
  assert.equal(p.code, 0, p.stderr)
  assert.equal(sha(fs.readFileSync(to)), sha(bytes))
  // The dashboard may show pictures from there, and from nowhere else.
  const policy = (await fetch(`${pool.url}/`)).headers.get('content-security-policy')
  assert.ok(policy.includes(`img-src 'self' data: blob: ${s3.url};`) && policy.includes(`media-src 'self' blob: ${s3.url};`) && policy.includes("connect-src 'self';"), policy)
})

test('https with an authority of the company, and the bucket in the name of the host', async t => {
  const dir = tempDir(t), authority = await Authority.make(dir)
  await authority.issue('s3', 's3', { names: 'DNS:artifacts.localhost' })
  const s3 = await new S3().start(t, { cert: fs.readFileSync(path.join(dir, 's3.pem')), key: fs.readFileSync(path.join(dir, 's3.key')) })
  const endpoint = `https://localhost:${s3.port}`
  const pool = await bullpen(t, { prepare: p => fs.appendFileSync(p.configFile, s3.settings(p.dir, '', { endpoint, path_style: false, ca_file: authority.file })) })
  await pool.worker()
  const bytes = big(pool, 9_000_000)
  const run = await pool.run(bring(pool))
  await brought(run)
  const url = new URL((await link(pool, run.agentId, 'artifacts/big.bin')).url)
  assert.equal(url.origin, `https://artifacts.localhost:${s3.port}`)
  const got = await new Promise((resolve, reject) => https.get({ host: '127.0.0.1', port: s3.port, servername: url.hostname, path: url.pathname + url.search, headers: { host: url.host }, ca: authority.pem, agent: false }, async res => { const all = []; for await (const d of res) all.push(d); resolve(Buffer.concat(all)) }).on('error', reject))
  assert.equal(sha(got), sha(bytes))
  assert.ok(s3.requests.every(r => r.inHost))
  // Without the authority it says which setting it is.
  const file = path.join(pool.dir, 'check.toml')
  fs.writeFileSync(file, s3.settings(pool.dir, '', { endpoint, path_style: false }))
  const p = await runProgram(t, programs.bullpen, ['admin', 'storage', 'check', '--config', file])
  assert.equal(p.code, 1)
  assert.match(p.stderr, /^error: [^\n]*s3\.ca_file[^\n]*\n$/)
})

test('clients that reach the bucket under another address get links for that', async t => {
  const s3 = await new S3().start(t)
  const pool = await bullpen(t, { prepare: p => fs.appendFileSync(p.configFile, s3.settings(p.dir, '', { public_endpoint: `http://localhost:${s3.port}` })) })
  await pool.worker()
  const run = await pool.run(sh('mkdir artifacts; printf a > artifacts/a'))
  await brought(run)
  const { url } = await link(pool, run.agentId, 'artifacts/a')
  assert.ok(url.startsWith(`http://localhost:${s3.port}/artifacts/bull/pen/`), url)
  assert.equal((await fetched(url)).bytes.toString(), 'a')
  assert.equal((await fetched(url.replace('localhost', '127.0.0.1'))).res.status, 403, 'and for no other')
})

test('the dashboard shows a picture that is in the bucket', async t => {
  const { s3, pool } = await start(t)
  const page = await browser(t, pool)
  const run = await pool.run(sh('mkdir artifacts && echo iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg== | base64 -d > artifacts/shot.png'))
  await brought(run)
  await signIn(pool, page)
  await page.goto(`${pool.url}/agents/${run.agentId}`)
  await page.sees('shot.png')
  await until('the picture is seen', () => page.evaluate(() => document.querySelector('figure img')?.naturalWidth === 1))
  assert.ok(await page.evaluate(origin => document.querySelector('figure img').src.startsWith(origin), s3.url))
  assert.deepEqual(page.problems, [])
})

test('bullpen admin storage check says in words what is wrong', async t => {
  const { s3, pool } = await start(t, { worker: false })
  const check = async (over = {}, before = () => {}) => {
    const file = path.join(pool.dir, 'check.toml')
    fs.writeFileSync(file, s3.settings(pool.dir, '', over))
    before()
    const p = await runProgram(t, programs.bullpen, ['admin', 'storage', 'check', '--config', file])
    return { code: p.code, out: p.stdout, err: p.stderr }
  }
  assert.deepEqual(await check(), { code: 0, out: `ok: objects can be put, fetched, listed and deleted in 'artifacts' below 'bull/pen' at 127.0.0.1:${s3.port}\n`, err: '' })
  assert.deepEqual([[...s3.objects.keys()].filter(k => k.includes('probe')), s3.uploads.size], [[], 0])
  const wrong = async (pattern, over, before) => {
    const r = await check(over, before)
    assert.equal(r.code, 1)
    assert.match(r.err, /^error: [^\n]*\n$/, 'one line')
    assert.match(r.err, pattern)
  }
  await wrong(/has no bucket 'nothere': make it, or mend s3\.bucket/, { bucket: 'nothere' })
  await wrong(/is in the region eu-test-1: set s3\.region/, { region: 'us-east-1' })
  await wrong(/refuses the signature: the secret key in .*s3-secret is not that of/, {}, () => fs.writeFileSync(s3.keyFiles.secret, 'wrong'))
  await wrong(/does not know the access key in .*s3-access/, {}, () => fs.writeFileSync(s3.keyFiles.access, 'AKIDOTHER'))
  await wrong(/127\.0\.0\.1:\d+.*(refused|connect)/i, { endpoint: `http://127.0.0.1:${await freePort()}` })
  await wrong(/a word of S3's/, { endpoint: pool.url })
  s3.denied = e => e.method === 'DELETE' && !e.query.has('uploadId')
  await wrong(/cannot be deleted: access to the bucket 'artifacts' is denied/)
  s3.denied = e => e.method === 'DELETE' && e.query.has('uploadId')
  await wrong(/an upload cannot be aborted: access to the bucket 'artifacts' is denied/)
  s3.uploads.clear()
  s3.denied = e => e.method === 'PUT'
  await wrong(/cannot be put: access to the bucket 'artifacts' is denied/)
  s3.denied = () => false
  s3.skewMs = -20 * 60e3
  await wrong(/the clock of this machine is \d+ s ahead of that of/)
})

test('settings that cannot be right are refused at the start', async t => {
  const s3 = await new S3().start(t)
  const pool = await bullpen(t, { start: false, prepare: p => fs.writeFileSync(path.join(p.dir, 'empty'), '\n') })
  const refused = async (pattern, over, more = '') => {
    fs.writeFileSync(pool.configFile, s3.settings(pool.dir, more, over))
    const p = await runProgram(t, programs.bullpen, ['serve', '--config', pool.configFile, '--listen', '127.0.0.1:0', '--data', pool.data])
    assert.notEqual(p.code, 0)
    assert.match(p.stderr, pattern)
  }
  await refused(/s3\.bucket is missing/, { bucket: undefined })
  await refused(/s3\.bucket must be the name of a bucket/, { bucket: 'a/b' })
  await refused(/s3\.endpoint must be https:\/\/ or http:\/\//, { endpoint: 'ftp://x' })
  await refused(/s3\.endpoint must be/, { endpoint: 'https://host/path' })
  await refused(/s3\.public_endpoint must be/, { public_endpoint: 'https://user@host' })
  await refused(/s3\.prefix must be/, { prefix: '../x' })
  await refused(/s3\.region must be/, { region: 'a b' })
  await refused(/s3\.secret_key_file: cannot read .*none/, { secret_key_file: path.join(pool.dir, 'none') })
  await refused(/s3\.access_key_file must be/, { access_key_file: path.join(pool.dir, 'empty') })
  await refused(/unknown setting s3\.regoin/, { regoin: 'x' })
  await refused(/artifacts\.max_file_mib must be at most 80000 with \[s3\]/, {}, '[artifacts]\nmax_file_mib = 80001\n')
})
