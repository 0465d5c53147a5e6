// The data folder under a running server: it is removed, replaced, or cannot be written any more. That is said at once and in
// words, and nothing is acknowledged that nobody will remember. Making a folder read-only needs root (a bind mount).
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { execFileSync } from 'node:child_process'
import { bullpen, programs, run, tempDir, sh, atEnd, until } from './lib.mjs'
import { isError } from './api-help.mjs'

const body = { prompt: { text: 'hi' }, repos: [{ url: 'https://git.example.test/acme/web' }] }
const lines = (pool, what) => pool.server.stderr.split('\n').filter(l => l.includes(` ${what} `))

async function isGone(pool, reason) {
  const r = await until('the server notices', async () => { const r = await pool.http('GET', '/readyz', { key: null }); return r.status === 503 && r }, 5)
  assert.equal(r.json.status, 'unavailable')
  assert.match(r.json.reason, reason)
  assert.match(r.json.reason, /restarted/)
  const refused = await pool.http('POST', '/v1/agents', { body })
  isError(refused, 503, 'service_unavailable', /data folder of the server .*restarted/)
  assert.equal((await pool.http('GET', '/healthz', { key: null })).status, 200)
  assert.equal(lines(pool, 'store.gone').length, 1)
  assert.match(lines(pool, 'store.gone')[0], new RegExp(`error store\\.gone path="${pool.data}" reason="`))
  assert.match(lines(pool, 'store.gone')[0], reason)
}

test('a data folder that is removed', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  assert.equal((await (await pool.run(sh('true'))).end()).status, 'FINISHED')
  fs.rmSync(pool.data, { recursive: true })
  await isGone(pool, /No such file or directory/)
  // What the command line does meanwhile is no help for the server, and it does not make things worse.
  const key = await run(t, programs.bullpen, ['admin', 'key', 'list', '--data', pool.data])
  assert.equal(key.code, 1)
  assert.match(key.stderr, new RegExp(`^error: there is no store in ${pool.data}: .*--init\n$`))
  assert.ok(!fs.existsSync(pool.data))
  assert.deepEqual(await pool.stop(), { code: 0, signal: null })
})

test('a data folder that is replaced by another, and comes back', async t => {
  const pool = await bullpen(t)
  const aside = `${pool.data}-aside`
  fs.renameSync(pool.data, aside)
  fs.cpSync(aside, pool.data, { recursive: true })
  await isGone(pool, /is another one than at the start/)
  const second = await run(t, programs.bullpen, ['serve', '--listen', '127.0.0.1:0', '--data', aside])
  assert.match(second.stderr, /another bullpen serves the data folder/)
  fs.rmSync(pool.data, { recursive: true })
  fs.renameSync(aside, pool.data)
  await until('it says that a restart is needed', () => /store\.back path=.*restart/.test(pool.server.stderr))
  isError(await pool.http('POST', '/v1/agents', { body }), 503, 'service_unavailable')
  await pool.stop()
  await pool.restart()
  assert.equal((await pool.http('GET', '/readyz', { key: null })).status, 200)
  assert.equal((await pool.http('POST', '/v1/agents', { body })).status, 201)
})

test('a database file that is replaced, and a log that is removed', async t => {
  for (const name of ['bullpen.db', 'bullpen.db-wal']) {
    const pool = await bullpen(t)
    const file = path.join(pool.data, name)
    fs.copyFileSync(file, `${file}.copy`)
    fs.renameSync(`${file}.copy`, file)
    // Requests that come before it is noticed need connections to the store that it has not opened yet.
    await Promise.all(Array.from({ length: 40 }, () => pool.http('GET', '/v1/agents')))
    await isGone(pool, new RegExp(`${name} is another one`))
    const log = path.join(pool.data, 'bullpen.db-wal'), { ino } = fs.statSync(log)
    await pool.stop()
    assert.equal(fs.statSync(log).ino, ino, 'what is there now is not the server\'s to delete')
  }
})

test('a data folder that becomes read-only', async t => {
  const pool = await bullpen(t)
  try {
    execFileSync('mount', ['--bind', pool.data, pool.data], { stdio: 'pipe' })
  } catch (e) {
    throw new Error(`this test needs to mount (run it as root): ${e.stderr}`)
  }
  atEnd(t, () => execFileSync('umount', ['-l', pool.data]))
  execFileSync('mount', ['-o', 'remount,bind,ro', pool.data])
  await isGone(pool, /cannot be written: Read-only file system/)
})

test('admin makes a store only with --init', async t => {
  const dir = path.join(tempDir(t), 'new')
  const create = (...more) => run(t, programs.bullpen, ['admin', 'key', 'create', '--data', dir, '--type', 'user', '--name', 'x', ...more])
  const refused = await create()
  assert.equal(refused.code, 1)
  assert.equal(refused.stdout, '')
  assert.match(refused.stderr, /there is no store in .*new: .*--init/)
  assert.ok(!fs.existsSync(dir))
  assert.equal((await create('--init')).code, 0)
  assert.equal((await create()).code, 0)
})
