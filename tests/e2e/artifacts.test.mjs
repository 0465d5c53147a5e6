// Files that an agent leaves under artifacts/: how they get to the control plane, what is listed, who can fetch them.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import path from 'node:path'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { bullpen, sh, until, atEnd, freePort } from './lib.mjs'
import { gate, isError, raw, ISO } from './api-help.mjs'

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
  const g = gate(pool, fs, path)
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
