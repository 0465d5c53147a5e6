// Artifacts in a real MinIO (tools/test-s3.sh builds it): what a stand-in cannot prove, that a server of somebody else's takes our signatures and
// parts.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { createHash, randomBytes } from 'node:crypto'
import { bullpen, sh, until, run as runProgram, programs, freePort, tempDir, Proc } from '../lib.mjs'
import { S3 } from '../s3-help.mjs'
import { gate } from '../api-help.mjs'
import { presignedRequest } from '../s3-sign.mjs'

const place = process.env.MINIO
const sha = bytes => createHash('sha256').update(bytes).digest('hex')

class Minio {
  bucket = 'bull-artifacts'
  prefix = 'team/a'
  async start(t) {
    this.dir = tempDir(t)
    this.port = await freePort()
    this.secretKey = `secret+/${randomBytes(8).toString('hex')}`
    this.process = new Proc(t, path.join(place, 'minio'), ['server', '--quiet', '--address', `127.0.0.1:${this.port}`, path.join(this.dir, 'data')], { env: { MINIO_ROOT_USER: 'minioadmin', MINIO_ROOT_PASSWORD: this.secretKey, MINIO_BROWSER: 'off', MINIO_SITE_REGION: 'eu-test-1', HOME: this.dir } })
    await until(`MinIO answers; it said ${this.process.stdout} ${this.process.stderr}`, async () => (await fetch(`${this.url}/minio/health/ready`).catch(() => null))?.ok, 60)
    await until('MinIO makes a bucket', async () => (await this.ask('PUT', '')).status === 200)
    return this
  }
  get url() { return `http://127.0.0.1:${this.port}` }
  ask(method, name, query = {}) { return fetch(presignedRequest({ method, url: `${this.url}/${this.bucket}${name ? '/' + name : ''}`, query, accessKey: 'minioadmin', secretKey: this.secretKey, region: 'eu-test-1' }), { method }) }
  async names() { return [...(await (await this.ask('GET', '', { 'list-type': '2', prefix: this.prefix })).text()).matchAll(/<Key>([^<]*)<\/Key>/g)].map(m => m[1]).filter(n => !n.includes('.bullpen')) }
  async uploads(name) { return [...(await (await this.ask('GET', '', { uploads: '', prefix: name })).text()).matchAll(/<UploadId>/g)].length }
  settings(dir, more = '', over = {}) { return S3.prototype.settings.call({ accessKey: 'minioadmin', secretKey: this.secretKey, url: this.url, region: 'eu-test-1', bucket: this.bucket, prefix: this.prefix }, dir, more, over) }
}
const start = async (t, minio, options = {}) => {
  const pool = await bullpen(t, { config: options.config ?? '', prepare: p => fs.appendFileSync(p.configFile, minio.settings(p.dir, '', options.over)) })
  await pool.worker()
  return pool
}
const link = async (pool, run, p) => (await pool.http('GET', `/v1/agents/${run.agentId}/artifacts/download?path=${encodeURIComponent(p)}`)).json.url

test('a real server takes what is brought, whole and in parts, and gives it to whom has the link', async t => {
  const minio = await new Minio().start(t)
  const pool = await start(t, minio)
  const big = randomBytes(19_000_001)
  fs.writeFileSync(path.join(pool.dir, 'big.bin'), big)
  const run = await pool.run(sh(`mkdir artifacts && cp ${pool.dir}/big.bin artifacts/big.bin && printf '<b>' > 'artifacts/ü "x".html' && : > artifacts/empty`))
  const ended = await run.end()
  assert.equal(ended.status, 'FINISHED')
  assert.equal(ended.notUploaded, undefined, JSON.stringify(ended.notUploaded))
  const url = await link(pool, run, 'artifacts/big.bin')
  const res = await fetch(url)
  assert.equal(res.status, 200)
  assert.equal(sha(Buffer.from(await res.arrayBuffer())), sha(big))
  const html = await fetch(await link(pool, run, 'artifacts/ü "x".html'))
  assert.equal(html.headers.get('content-type'), 'application/octet-stream')
  assert.match(html.headers.get('content-disposition'), /^attachment; .*filename\*=UTF-8''%C3%BC%20%22x%22.html$/)
  assert.equal(await html.text(), '<b>')
  const changed = new URL(url)
  changed.searchParams.set('response-content-type', 'text/html')
  assert.equal((await fetch(changed)).status, 403)
  assert.equal((await minio.names()).length, 3)
  assert.equal((await pool.http('DELETE', `/v1/agents/${run.agentId}`)).status, 200)
  await until('its objects are gone', async () => (await minio.names()).length === 0)
})

test('a crash in the middle of an upload: it goes on behind the parts that are there', async t => {
  const minio = await new Minio().start(t)
  const pool = await start(t, minio, { over: { direct_downloads: false } })
  const g = gate(pool, fs)
  const big = randomBytes(60_000_000)
  fs.writeFileSync(path.join(pool.dir, 'big.bin'), big)
  const run = await pool.run(sh(`mkdir artifacts && cp ${pool.dir}/big.bin artifacts/big.bin`) + sh(g.command))
  const parts = () => fs.readdirSync(path.join(minio.dir, 'data'), { recursive: true }).filter(n => /\.minio\.sys\/multipart\/.*part\.\d+$/.test(n)).length
  await until('parts are there', () => parts() >= 2)
  await pool.crash()
  await pool.restart()
  g.go()
  const ended = await run.end()
  assert.equal(ended.notUploaded, undefined, JSON.stringify(ended.notUploaded))
  const res = await fetch(await link(pool, run, 'artifacts/big.bin'))
  assert.ok(res.url.startsWith(pool.url), 'through the server')
  assert.equal(sha(Buffer.from(await res.arrayBuffer())), sha(big))
  assert.equal(await minio.uploads((await minio.names())[0]), 0)
})

test('the check says what is wrong, in words', async t => {
  const minio = await new Minio().start(t)
  const dir = tempDir(t)
  const check = async (over = {}, secret) => {
    const file = path.join(dir, 'c.toml')
    fs.writeFileSync(file, minio.settings(dir, '', over))
    if (secret) fs.writeFileSync(path.join(dir, 's3-secret'), secret)
    const p = await runProgram(t, programs.bullpen, ['admin', 'storage', 'check', '--config', file])
    return { code: p.code, text: p.stdout + p.stderr }
  }
  assert.deepEqual(await check(), { code: 0, text: `ok: objects can be put, fetched, listed and deleted in '${minio.bucket}' below 'team/a' at 127.0.0.1:${minio.port}\n` })
  assert.match((await check({}, 'wrongwrong')).text, /^error: .*refuses the signature: the secret key in /)
  assert.match((await check({ bucket: 'nothere' })).text, /^error: .*has no bucket 'nothere'/)
  assert.match((await check({ region: 'us-west-2' })).text, /^error: .*eu-test-1/)
  assert.deepEqual(await minio.names(), [])
})
