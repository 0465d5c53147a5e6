// Artifacts in S3: a stand-in that checks every signature, and fails where a test wants it.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { createHash, randomBytes } from 'node:crypto'
import { bullpen, sh, until, run as runProgram, programs, freePort } from './lib.mjs'
import { gate } from './api-help.mjs'
import { S3, s3Refusal } from './s3-help.mjs'

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
  assert.equal(s3.contents().length, 3)
  assert.ok(!fs.existsSync(path.join(pool.data, 'artifacts')), 'nothing is kept in the data folder')
})
