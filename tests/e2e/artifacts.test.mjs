// Files that an agent leaves under artifacts/: how they get to the control plane, what is listed, who can fetch them.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import http2 from 'node:http2'
import path from 'node:path'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { bullpen, sh, until, atEnd, freePort } from './lib.mjs'
import { gate, isError, ISO } from './api-help.mjs'
import { uploadHostAt } from './artifacts-help.mjs'

const sha = bytes => createHash('sha256').update(bytes).digest('hex')
const list = async (pool, agentId) => {
  const r = await pool.http('GET', `/v1/agents/${agentId}/artifacts`)
  assert.equal(r.status, 200, r.text)
  return r.json.items
}
const listed = (pool, agentId, ...paths) => until(`${paths} are listed`, async () => {
  const items = await list(pool, agentId)
  return paths.every(p => items.some(i => i.path === p)) && items
})
const link = async (pool, agentId, p) => {
  const r = await pool.http('GET', `/v1/agents/${agentId}/artifacts/download?path=${encodeURIComponent(p)}`)
  assert.equal(r.status, 200, r.text)
  return r.json
}
// Without any header of ours.
const fetched = async url => {
  const res = await fetch(url)
  return { res, bytes: Buffer.from(await res.arrayBuffer()) }
}
const content = async (pool, agentId, p) => {
  const { res, bytes } = await fetched((await link(pool, agentId, p)).url)
  assert.equal(res.status, 200, bytes.toString())
  return bytes
}
// What lies in the storage: finished and arriving.
const stored = pool => fs.readdirSync(path.join(pool.data, 'artifacts'), { recursive: true, withFileTypes: true }).filter(e => e.isFile()).map(e => e.name)

test('artifacts are there while the run goes on, are fetched without a header, and are no part of the commit', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const g = gate(pool, fs)
  const big = randomBytes(5_500_000)
  fs.writeFileSync(path.join(pool.dir, 'big.bin'), big)
  const run = await pool.run(sh(`mkdir -p artifacts/deep && printf hello > artifacts/a.txt && cp ${pool.dir}/big.bin "artifacts/deep/b \\"q\\".bin" && : > artifacts/empty && echo x > kept.txt`) + sh(g.command))
  await until('the run is in its second call', () => g.reached())
  const items = await listed(pool, run.agentId, 'artifacts/a.txt', 'artifacts/deep/b "q".bin', 'artifacts/empty')
  assert.equal((await run.get()).status, 'RUNNING')
  assert.deepEqual(items.map(i => [i.path, i.sizeBytes]).sort(), [['artifacts/a.txt', 5], ['artifacts/deep/b "q".bin', big.length], ['artifacts/empty', 0]])
  for (const i of items) assert.match(i.updatedAt, ISO)
  const l = await link(pool, run.agentId, 'artifacts/deep/b "q".bin')
  assert.match(l.url, new RegExp(`^${pool.url}/v1/artifact-files/`))
  const left = Date.parse(l.expiresAt) - Date.now()
  assert.ok(left > 14 * 60_000 && left <= 15 * 60_000, l.expiresAt)
  const { res, bytes } = await fetched(l.url)
  assert.equal(res.status, 200)
  assert.equal(sha(bytes), sha(big))
  assert.equal(res.headers.get('content-length'), String(big.length))
  assert.equal(res.headers.get('content-disposition'), `attachment; filename="b _q_.bin"; filename*=UTF-8''b%20%22q%22.bin`)
  assert.equal(res.headers.get('x-content-type-options'), 'nosniff')
  assert.match(res.headers.get('content-security-policy'), /^sandbox/)
  assert.equal((await content(pool, run.agentId, 'artifacts/empty')).length, 0)
  g.go()
  const ended = await run.end()
  assert.equal(ended.status, 'FINISHED')
  assert.equal(ended.notUploaded, undefined)
  assert.equal(ended.notPublished, undefined)
  const origin = await pool.origin(), branch = ended.git.branches[0].branch
  assert.equal(await origin.show(branch, 'kept.txt'), 'x')
  await assert.rejects(origin.show(branch, 'artifacts/a.txt'))
  // A follow-up changes one and takes another away: what is changed is new, what was brought stays.
  const next = await run.followUp(sh('printf "hello again" > artifacts/a.txt; rm artifacts/empty; printf late > artifacts/late.txt'))
  assert.equal((await next.end()).status, 'FINISHED')
  assert.equal((await content(pool, run.agentId, 'artifacts/a.txt')).toString(), 'hello again')
  assert.deepEqual((await list(pool, run.agentId)).map(i => i.path).sort(), ['artifacts/a.txt', 'artifacts/deep/b "q".bin', 'artifacts/empty', 'artifacts/late.txt'], 'the end of the run brings what came last')
  assert.equal((await fetched(l.url)).res.status, 200)
})

test('an upload that is cut goes on at the byte where the server stands', async t => {
  const port = await freePort()
  const pool = await bullpen(t, { config: `[artifacts]\nupload_url = "http://127.0.0.1:${port}"\n` })
  const host = await uploadHostAt(t, pool, port)
  let cuts = 0
  host.cutAfter = e => e.method === 'PUT' && cuts++ < 3 ? 300_000 : undefined
  await pool.worker()
  const big = randomBytes(4_000_000)
  fs.writeFileSync(path.join(pool.dir, 'big.bin'), big)
  const run = await pool.run(sh(`mkdir artifacts && cp ${pool.dir}/big.bin artifacts/big.bin`))
  const ended = await run.end()
  assert.equal(ended.status, 'FINISHED')
  assert.equal(ended.notUploaded, undefined, JSON.stringify(ended.notUploaded))
  assert.equal(sha(await content(pool, run.agentId, 'artifacts/big.bin')), sha(big))
  const puts = host.requests.filter(e => e.method === 'PUT')
  const offsets = puts.map(e => Number(new URL(e.url, pool.url).searchParams.get('offset')))
  assert.ok(puts.filter(e => e.cut).length === 3, JSON.stringify(puts))
  assert.deepEqual(offsets, [...offsets].sort((a, b) => a - b), 'never from the beginning again')
  assert.ok(offsets[1] > 0 && offsets[1] < 2_000_000, `what came before the cut counts: ${offsets}`)
  assert.ok(puts.reduce((n, e) => n + e.bytes, 0) < big.length + 3 * 2_000_000)
  assert.deepEqual(new Set(puts.map(e => e.url.split('?')[0])).size, 1, 'one upload')
})

test('a restart of the server in the middle of an upload', async t => {
  const port = await freePort()
  const pool = await bullpen(t, { config: `[artifacts]\nupload_url = "http://127.0.0.1:${port}"\n` })
  const host = await uploadHostAt(t, pool, port)
  let first = true
  const g = gate(pool, fs)
  host.cutAfter = e => { if (e.method !== 'PUT' || !first) return undefined; first = false; return 500_000 }
  await pool.worker()
  const big = randomBytes(3_000_000)
  fs.writeFileSync(path.join(pool.dir, 'big.bin'), big)
  const run = await pool.run(sh(`mkdir artifacts && cp ${pool.dir}/big.bin artifacts/big.bin`) + sh(g.command))
  await until('the first piece was cut', () => host.requests.some(e => e.cut))
  await pool.crash()
  await pool.restart()
  g.go()
  assert.equal((await run.end()).status, 'FINISHED')
  await listed(pool, run.agentId, 'artifacts/big.bin')
  assert.equal(sha(await content(pool, run.agentId, 'artifacts/big.bin')), sha(big))
  assert.ok(host.requests.some(e => e.method === 'PUT' && /offset=[1-9]/.test(e.url)), 'it went on')
  assert.deepEqual(stored(pool).filter(n => n.endsWith('.part')), [])
})

test('a host that is blocked: the run goes on, each artifact is reported with the host\'s name', async t => {
  const port = await freePort()
  const pool = await bullpen(t, { config: `[artifacts]\nupload_url = "http://127.0.0.1:${port}"\n` })
  await pool.worker()
  const run = await pool.run(sh('mkdir artifacts && echo 1 > artifacts/one.txt && echo 2 > artifacts/two.txt; echo code > code.txt'))
  const ended = await run.end()
  assert.equal(ended.status, 'FINISHED')
  assert.deepEqual(ended.notUploaded.map(f => f.path).sort(), ['artifacts/one.txt', 'artifacts/two.txt'])
  for (const f of ended.notUploaded) assert.match(f.reason, new RegExp(`artifact host 127\\.0\\.0\\.1:${port} cannot be reached`))
  assert.equal(await (await pool.origin()).show(ended.git.branches[0].branch, 'code.txt'), 'code')
  assert.deepEqual(await list(pool, run.agentId), [])
  const logs = pool.cli(['logs', run.id])
  await logs.exited
  assert.match(logs.stdout, new RegExp(`not uploaded: artifacts/one\\.txt: the artifact host 127\\.0\\.0\\.1:${port}`))
  // When the host is there again, the same session brings them.
  const host = await uploadHostAt(t, pool, port)
  const next = await run.followUp(sh('true'))
  const after = await next.end()
  assert.equal(after.status, 'FINISHED')
  assert.equal(after.notUploaded, undefined)
  assert.deepEqual((await list(pool, run.agentId)).map(i => i.path).sort(), ['artifacts/one.txt', 'artifacts/two.txt'])
  assert.ok(host.requests.length >= 4)
})

test('an agent without a repository, too', async t => {
  const pool = await bullpen(t)
  const dir = path.join(pool.dir, 'plain')
  fs.mkdirSync(dir)
  await pool.worker({ pool: 'any', dir })
  const run = await pool.run(sh('mkdir artifacts && echo report > artifacts/report.md && ln -s /etc/passwd artifacts/link'), { repo: null, pool: 'any' })
  const ended = await run.end()
  assert.equal(ended.status, 'FINISHED')
  assert.deepEqual((await list(pool, run.agentId)).map(i => i.path), ['artifacts/report.md'])
  assert.deepEqual(ended.notUploaded, [{ path: 'artifacts/link', reason: 'it is a symbolic link' }])
})

test('names and kinds of files that are not taken, and one that is as hostile as it may be', async t => {
  const pool = await bullpen(t, { config: '[artifacts]\nmax_file_mib = 1\n' })
  await pool.worker()
  const run = await pool.run(sh(`mkdir -p artifacts/sub && cd artifacts
printf x > "$(printf 'new\\nline')"; printf x > 'back\\slash'; printf x > "$(printf 'bad\\377byte')"
ln -s ../README.md inside; ln -s /etc/passwd outside; ln -s /etc sub/etc; mkfifo fifo
head -c 1048576 /dev/zero > at-limit; head -c 1048577 /dev/zero > over-limit
printf 1 > "a'; DROP TABLE artifacts;--\\"<script>.html"; printf 2 > "..."; printf 3 > "zażółć 🦆.txt"; printf 4 > ' '`))
  const ended = await run.end()
  assert.equal(ended.status, 'FINISHED')
  const items = await list(pool, run.agentId)
  assert.deepEqual(items.map(i => i.path).sort(), ['artifacts/ ', 'artifacts/...', 'artifacts/a\'; DROP TABLE artifacts;--"<script>.html', 'artifacts/at-limit', 'artifacts/zażółć 🦆.txt'].sort())
  const why = Object.fromEntries(ended.notUploaded.map(f => [f.path, f.reason]))
  assert.match(why['artifacts/over-limit'], /larger than 1 MiB/)
  for (const l of ['inside', 'outside', 'sub/etc']) assert.equal(why[`artifacts/${l}`], 'it is a symbolic link')
  assert.equal(why['artifacts/fifo'], 'it is not a regular file')
  assert.match(why['artifacts/new line'], /control character/)
  assert.match(why['artifacts/back\\slash'], /backslash/)
  assert.match(why['artifacts/bad\ufffdbyte'], /not UTF-8/)
  const { res } = await fetched((await link(pool, run.agentId, 'artifacts/a\'; DROP TABLE artifacts;--"<script>.html')).url)
  assert.match(res.headers.get('content-disposition'), /^attachment; filename="a'_ DROP TABLE artifacts_--_<script>\.html"; filename\*=UTF-8''a%27%3B/)
  assert.equal(res.headers.get('content-type'), 'application/octet-stream')
  assert.equal((await content(pool, run.agentId, 'artifacts/zażółć 🦆.txt')).toString(), '3')
})

test('artifacts itself may be a link: nothing behind it is read', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const run = await pool.run(sh('ln -s /etc artifacts'))
  const ended = await run.end()
  assert.equal(ended.status, 'FINISHED')
  assert.deepEqual(await list(pool, run.agentId), [])
  assert.deepEqual(ended.notUploaded, [{ path: 'artifacts', reason: 'it is a symbolic link' }])
})

test('files that the repository has under artifacts/ stay part of its commits; new ones do not become it', async t => {
  const pool = await bullpen(t)
  const remote = await pool.remote({ files: { 'README.md': 'r\n', 'artifacts/tracked.txt': 'before\n' } })
  await pool.worker({ remote })
  const run = await pool.run(sh('echo after > artifacts/tracked.txt; echo new > artifacts/new.txt'), { repo: remote.url })
  const ended = await run.end()
  assert.equal(ended.status, 'FINISHED')
  assert.equal(ended.notPublished, undefined)
  const branch = ended.git.branches[0].branch
  assert.equal(await remote.show(branch, 'artifacts/tracked.txt'), 'after')
  await assert.rejects(remote.show(branch, 'artifacts/new.txt'))
  assert.deepEqual((await list(pool, run.agentId)).map(i => i.path).sort(), ['artifacts/new.txt', 'artifacts/tracked.txt'])
  const other = await (await pool.run(sh('true'), { repo: remote.url })).end()
  assert.deepEqual(await list(pool, other.agentId), [], 'what was there before the agent is not its')
})

test('at the limit and one over: the oldest goes', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const run = await pool.run(sh('mkdir artifacts; for i in $(seq 100); do echo $i > artifacts/$i.txt; done'))
  assert.equal((await run.end()).status, 'FINISHED')
  const before = await list(pool, run.agentId)
  assert.equal(before.length, 100)
  assert.deepEqual(before.map(i => i.updatedAt), before.map(i => i.updatedAt).sort().reverse(), 'newest first')
  const next = await run.followUp(sh('echo one more > artifacts/more.txt'))
  assert.equal((await next.end()).status, 'FINISHED')
  const after = await list(pool, run.agentId)
  assert.equal(after.length, 100)
  assert.equal(after[0].path, 'artifacts/more.txt')
  assert.equal(after.some(i => i.path === before.at(-1).path), false)
  await until('the storage forgets it, too', () => stored(pool).length === 100)
})

test('links: only as they were signed, and only while the artifact is there', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const run = await pool.run(sh('mkdir artifacts; printf 0123456789 > artifacts/a.txt; printf b > artifacts/b.txt'))
  await run.end()
  const { url } = await link(pool, run.agentId, 'artifacts/a.txt')
  const other = new URL((await link(pool, run.agentId, 'artifacts/b.txt')).url)
  const refused = async (u, what) => { const r = await pool.http('GET', u.slice(pool.url.length), { key: null }); isError(r, 403, 'link_not_valid'); assert.ok(r, what) }
  const changed = fn => { const u = new URL(url); fn(u); return u.href }
  await refused(changed(u => u.searchParams.set('expires', String(Date.now() - 1000))), 'another end')
  await refused(changed(u => u.searchParams.set('expires', String(Number(u.searchParams.get('expires')) + 60_000))), 'a later end')
  await refused(changed(u => u.searchParams.set('signature', `A${u.searchParams.get('signature').slice(1)}` === u.searchParams.get('signature') ? 'B' : `A${u.searchParams.get('signature').slice(1)}`)), 'another signature')
  await refused(changed(u => u.searchParams.set('signature', '')), 'none')
  await refused(changed(u => { u.pathname = other.pathname }), 'another file')
  for (const k of ['expires', 'signature']) isError(await pool.http('GET', changed(u => u.searchParams.delete(k)).slice(pool.url.length), { key: null }), 400, 'validation_error')
  // Ranges, and HEAD.
  const range = async r => { const res = await fetch(url, { headers: { range: r } }); return [res.status, res.headers.get('content-range'), res.status === 416 ? '' : await res.text()] }
  assert.deepEqual(await range('bytes=2-4'), [206, 'bytes 2-4/10', '234'])
  assert.deepEqual(await range('bytes=7-'), [206, 'bytes 7-9/10', '789'])
  assert.deepEqual(await range('bytes=-3'), [206, 'bytes 7-9/10', '789'])
  assert.deepEqual(await range('bytes=9-99'), [206, 'bytes 9-9/10', '9'])
  assert.deepEqual(await range('bytes=10-'), [416, 'bytes */10', ''])
  assert.deepEqual(await range('bytes=0-1,3-4'), [200, null, '0123456789'])
  const head = await fetch(url, { method: 'HEAD' })
  assert.deepEqual([head.status, head.headers.get('content-length'), (await head.arrayBuffer()).byteLength], [200, '10', 0])
  // Paths.
  const ask = p => pool.http('GET', `/v1/agents/${run.agentId}/artifacts/download${p}`)
  for (const p of ['/etc/passwd', '/opt/cursor/artifacts/a.txt', 'artifacts/../a.txt', 'artifacts/./a.txt', 'artifacts//a.txt', 'artifacts/', 'artifacts', 'a.txt', '', 'artifacts/a\nb', 'artifacts/a\\b', `artifacts/${'x'.repeat(503)}`])
    isError(await ask(`?path=${encodeURIComponent(p)}`), 400, 'validation_error')
  isError(await ask(''), 400, 'validation_error')
  isError(await ask(`?path=${encodeURIComponent(`artifacts/${'x'.repeat(502)}`)}`), 404, 'artifact_not_found')
  isError(await ask('?path=artifacts/none'), 404, 'artifact_not_found')
  const stranger = await pool.createKey('user', 'ann', 'ann@example.test')
  isError(await pool.http('GET', `/v1/agents/${run.agentId}/artifacts`, { key: stranger }), 404, 'agent_not_found')
  isError(await pool.http('GET', `/v1/agents/${run.agentId}/artifacts/download?path=artifacts/a.txt`, { key: stranger }), 404, 'agent_not_found')
  // Archived they stay; deleted they are gone, files and all.
  assert.equal((await pool.http('POST', `/v1/agents/${run.agentId}/archive`)).status, 200)
  assert.equal((await list(pool, run.agentId)).length, 2)
  assert.equal((await fetched(url)).bytes.toString(), '0123456789')
  assert.equal((await pool.http('DELETE', `/v1/agents/${run.agentId}`)).status, 200)
  isError(await pool.http('GET', url.slice(pool.url.length), { key: null }), 404, 'artifact_not_found')
  isError(await pool.http('GET', `/v1/agents/${run.agentId}/artifacts`), 404, 'agent_not_found')
  await until('the files are removed', () => stored(pool).length === 0)
})

test('a crash between the deletion of an agent and that of its files leaves nothing', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const run = await pool.run(sh('mkdir artifacts; echo a > artifacts/a.txt'))
  await run.end()
  const aside = path.join(pool.dir, 'aside'), there = path.join(pool.data, 'artifacts')
  const [two] = fs.readdirSync(there)
  // The storage cannot forget: in place of the file's folder there is a file.
  fs.renameSync(path.join(there, two), aside)
  fs.writeFileSync(path.join(there, two), '')
  assert.equal((await pool.http('DELETE', `/v1/agents/${run.agentId}`)).status, 200)
  await pool.server.says(/artifacts\.forget\.failed/, 'stderr')
  await pool.crash()
  fs.rmSync(path.join(there, two))
  fs.renameSync(aside, path.join(there, two))
  assert.equal(stored(pool).length, 1)
  await pool.restart()
  await until('it is removed', () => stored(pool).length === 0)
})

test('the older API: absolute paths, and its own limits', async t => {
  const pool = await bullpen(t, { unlimited: false, config: '[limits]\nreads_per_minute = 0\nmutations_per_minute = 0\nv0_artifacts_per_minute = 9\n' })
  await pool.worker()
  const run = await pool.run(sh('mkdir -p artifacts/d; echo a > artifacts/d/a.txt'))
  await run.end()
  const v0 = run.agentId.replace('bc-', 'bc_')
  for (const id of [run.agentId, v0]) {
    const r = await pool.http('GET', `/v0/agents/${id}/artifacts`)
    assert.equal(r.status, 200, r.text)
    assert.deepEqual(r.json.artifacts.map(a => [a.absolutePath, a.sizeBytes]), [['/opt/cursor/artifacts/d/a.txt', 2]])
    assert.match(r.json.artifacts[0].updatedAt, ISO)
  }
  const get = p => pool.http('GET', `/v0/agents/${v0}/artifacts/download?path=${encodeURIComponent(p)}`)
  const r = await get('/opt/cursor/artifacts/d/a.txt')
  assert.equal(r.status, 200, r.text)
  assert.equal((await fetched(r.json.url)).bytes.toString(), 'a\n')
  for (const p of ['artifacts/d/a.txt', '/opt/cursor/artifacts/../x', '/opt/cursor/artifacts/']) assert.equal((await get(p)).status, 400)
  assert.equal((await get('/opt/cursor/artifacts/none')).status, 404)
  assert.equal((await pool.http('GET', '/v0/agents/nonsense/artifacts')).status, 400)
  assert.equal((await pool.http('GET', '/v0/agents/bc-00000000-0000-4000-8000-000000000000/artifacts')).status, 404)
  const over = await pool.http('GET', `/v0/agents/${v0}/artifacts`)
  assert.equal(over.status, 429)
  assert.ok(over.headers.get('retry-after'))
})

test('uploads ask for the token of a living session, and believe nothing else', async t => {
  const port = await freePort()
  const pool = await bullpen(t, { config: `[artifacts]\nmax_file_mib = 1\nupload_url = "http://127.0.0.1:${port}"\n` })
  // What the worker shows is seen on the way.
  let token
  const s = http.createServer((req, res) => { token = req.headers.authorization; req.resume().on('end', () => { res.writeHead(403); res.end() }) }).listen(port, '127.0.0.1')
  await once(s, 'listening')
  atEnd(t, () => { s.closeAllConnections(); s.close() })
  await pool.worker()
  const g = gate(pool, fs)
  const run = await pool.run(sh('mkdir artifacts; echo a > artifacts/a.txt') + sh(g.command))
  await until('the worker has shown its token', () => token)
  const post = (body, authorization = token) => pool.http('POST', '/v1/artifact-uploads', { body, key: null, headers: authorization ? { authorization } : {} })
  const put = (id, bytes, { offset = 0, authorization = token, type = 'application/octet-stream' } = {}) => pool.http('PUT', `/v1/artifact-uploads/${id}?offset=${offset}`, { body: bytes, key: null, headers: { authorization, 'content-type': type } })
  const of = (bytes, more = {}) => ({ path: 'artifacts/x.txt', sizeBytes: bytes.length, sha256: sha(bytes), ...more })
  const x = Buffer.from('content')
  for (const a of [null, 'Bearer x', `Bearer ${pool.userKey}`, `${token}x`, token.replace('bau1.', 'bau2.'), token.replace(/bc-........-/, 'bc-00000000-')]) isError(await post(of(x), a), 401, 'unauthorized')
  for (const p of ['/etc/x', 'artifacts/../x', 'x', 'artifacts/', `artifacts/${'x'.repeat(503)}`, 'artifacts/a\u0000b', 'artifacts/a\u001bb']) isError(await post(of(x, { path: p })), 400, 'validation_error')
  isError(await post(of(x, { sha256: 'A'.repeat(64) })), 400, 'validation_error')
  isError(await post(of(x, { sizeBytes: -1 })), 400, 'validation_error')
  assert.equal((await post(of(x, { sizeBytes: 1048577 }))).status, 413)
  assert.equal((await post(of(x, { sizeBytes: 1048576 }))).status, 200)
  const first = (await post(of(x))).json
  assert.deepEqual([first.receivedBytes, first.ready], [0, false])
  assert.equal((await post(of(x))).json.id, first.id, 'the same one is gone on with')
  isError(await put('00000000-0000-4000-8000-000000000000', x), 404, 'artifact_not_found')
  isError(await put('..%2f..%2fx', x), 404, 'artifact_not_found')
  isError(await put(first.id, x, { authorization: 'Bearer x' }), 401, 'unauthorized')
  assert.equal((await put(first.id, x, { type: 'text/plain' })).status, 400)
  const wrong = await put(first.id, x, { offset: 3 })
  assert.deepEqual([wrong.status, wrong.json.receivedBytes], [409, 0])
  assert.deepEqual((await put(first.id, x.subarray(0, 3))).json, { id: first.id, receivedBytes: 3, ready: false })
  assert.equal((await put(first.id, Buffer.from('tent and more'), { offset: 3 })).status, 413)
  assert.deepEqual((await put(first.id, x.subarray(3), { offset: 3 })).json, { id: first.id, receivedBytes: 7, ready: true })
  assert.deepEqual((await put(first.id, x, { offset: 0 })).json, { id: first.id, receivedBytes: 7, ready: true }, 'twice is fine')
  assert.equal((await content(pool, run.agentId, 'artifacts/x.txt')).toString(), 'content')
  // Other bytes than were announced are thrown away; what was there stays.
  const lie = (await post(of(Buffer.from('another')))).json
  isError(await put(lie.id, Buffer.from('ANOTHER')), 400, 'validation_error', /SHA-256/)
  isError(await put(lie.id, Buffer.from('another')), 404, 'artifact_not_found')
  assert.equal((await content(pool, run.agentId, 'artifacts/x.txt')).toString(), 'content')
  // Unfinished ones of one agent are few.
  const ids = []
  for (let i = 0; i < 6; i++) ids.push((await post(of(x, { path: `artifacts/${i}` }))).json.id)
  isError(await put(ids[0], x), 404, 'artifact_not_found')
  assert.equal((await put(ids[5], x)).status, 200)
  g.go()
  await run.end()
  assert.equal((await pool.http('POST', `/v1/agents/${run.agentId}/archive`)).status, 200)
  isError(await post(of(x)), 401, 'unauthorized')
})

test('agent artifacts lists them and gets one', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const bytes = randomBytes(3_000_000)
  fs.writeFileSync(path.join(pool.dir, 'src.bin'), bytes)
  const run = await pool.run(sh(`mkdir artifacts; cp ${pool.dir}/src.bin artifacts/some.bin; echo hi > artifacts/hi.txt`))
  await run.end()
  const cli = async (...args) => { const p = pool.cli(['artifacts', ...args]); await p.exited; return p }
  const ls = await cli(run.agentId)
  assert.equal(ls.code, 0, ls.stderr)
  assert.match(ls.stdout, /3000000 .*artifacts\/some\.bin/)
  const json = (await cli(run.agentId, '--json')).stdout.trim().split('\n').map(JSON.parse)
  assert.deepEqual(json.map(i => i.path).sort(), ['artifacts/hi.txt', 'artifacts/some.bin'])
  const got = await cli(run.agentId, 'get', 'artifacts/some.bin')
  assert.equal(got.code, 0, got.stderr)
  assert.equal(sha(fs.readFileSync(path.join(pool.dir, 'some.bin'))), sha(bytes))
  assert.equal((await cli(run.agentId, 'get', 'artifacts/hi.txt', '-o', path.join(pool.dir, 'out'))).code, 0)
  assert.equal(fs.readFileSync(path.join(pool.dir, 'out'), 'utf8'), 'hi\n')
  assert.equal((await cli(run.agentId, 'get', 'artifacts/hi.txt', '-o', '-')).stdout, 'hi\n')
  const again = await cli(run.agentId, 'get', 'artifacts/some.bin')
  assert.equal(again.code, 1)
  assert.match(again.stderr, /some\.bin.*exists/)
  assert.equal((await cli(run.agentId, 'get', 'artifacts/none')).code, 4)
  for (const args of [[], ['nonsense'], [run.agentId, 'put', 'x'], [run.agentId, 'get'], [run.agentId, '-o', 'x']]) assert.equal((await cli(...args)).code, 2, args.join(' '))
})

test('a large file over HTTP/2, beside one that nobody reads on; and after an answer with a known length the connection goes on', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const big = randomBytes(9_000_000)
  fs.writeFileSync(path.join(pool.dir, 'big.bin'), big)
  const run = await pool.run(sh(`mkdir artifacts; cp ${pool.dir}/big.bin artifacts/big.bin`))
  assert.equal((await run.end()).status, 'FINISHED')
  const u = new URL((await link(pool, run.agentId, 'artifacts/big.bin')).url)
  const session = http2.connect(pool.url)
  session.on('error', () => {})
  atEnd(t, () => session.destroy())
  const idle = session.request({ ':path': u.pathname + u.search })
  const get = async headers => {
    const s = session.request({ ':path': u.pathname + u.search, ...headers }), chunks = []
    let head
    s.on('response', h => { head = h })
    for await (const c of s) chunks.push(c)
    return { head, bytes: Buffer.concat(chunks) }
  }
  const whole = await get({})
  assert.equal(whole.head['content-length'], String(big.length))
  assert.equal(sha(whole.bytes), sha(big))
  const part = await get({ range: 'bytes=8999990-' })
  assert.deepEqual([part.head[':status'], part.head['content-length'], sha(part.bytes)], [206, '10', sha(big.subarray(8_999_990))])
  const head = await get({ ':method': 'HEAD' })
  assert.deepEqual([head.head['content-length'], head.bytes.length], [String(big.length), 0])
  idle.close()
  // Two requests on one connection of HTTP/1.1.
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
  atEnd(t, () => agent.destroy())
  const ports = []
  for (let i = 0; i < 2; i++) {
    const bytes = await new Promise((resolve, reject) => http.get(u, { agent }, res => {
      ports.push(res.socket.localPort)
      const chunks = []
      res.on('data', d => chunks.push(d)).on('end', () => resolve(Buffer.concat(chunks))).on('error', reject)
    }).on('error', reject))
    assert.equal(sha(bytes), sha(big))
  }
  assert.equal(ports[0], ports[1])
})
