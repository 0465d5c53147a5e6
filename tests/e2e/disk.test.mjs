// A full disk: what cannot be kept is refused in words, what can be read is still read, runs wait, and when there is space
// again everything goes on and nothing that was acknowledged is gone. The data folder is a small file system of its own,
// so this test must be run as root (it mounts a tmpfs).
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { execFileSync } from 'node:child_process'
import { bullpen, sh, file, atEnd, checkEvents, until } from './lib.mjs'

// PostgreSQL's disk is another one.
const elsewhere = Boolean(process.env.STORE_URL)

async function onSmallDisk(t, options = {}) {
  return bullpen(t, {
    ...options,
    prepare: pool => {
      fs.mkdirSync(pool.data, { mode: 0o700 })
      try {
        execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=6m,mode=0700', 'tmpfs', pool.data], { stdio: 'pipe' })
      } catch (e) {
        throw new Error(`this test needs to mount a tmpfs (run it as root): ${e.stderr}`)
      }
      atEnd(t, () => execFileSync('umount', ['-l', pool.data]))
    },
  })
}

const filler = pool => path.join(pool.data, 'filler')
function fill(pool) {
  const fd = fs.openSync(filler(pool), 'a')
  for (const size of [65536, 4096]) {
    try { for (;;) fs.writeSync(fd, Buffer.alloc(size, 1)) } catch (e) { assert.equal(e.code, 'ENOSPC') }
  }
  fs.closeSync(fd)
}
const free = pool => fs.rmSync(filler(pool))

// Creates agents until one is refused: the log of the store has some room of its own left.
async function createUntilRefused(pool, kept) {
  const origin = await pool.origin()
  return until('a write is refused', async () => {
    const r = await pool.http('POST', '/v1/agents', { body: { prompt: { text: sh('true') + 'x'.repeat(20000) }, repos: [{ url: origin.url }], env: { type: 'pool', name: 'nobody' } } })
    if (r.status === 201) { kept.push(r.json); return false }
    return r
  })
}

test('on a full disk writes are refused, reads and waiting runs survive, and with space again all goes on', { skip: elsewhere }, async t => {
  const pool = await onSmallDisk(t)
  const w = await pool.worker()
  const other = await pool.worker({ pool: 'nobody' }) // makes the pool known
  await other.kill('SIGKILL')
  const log = path.join(pool.dir, 'log'), go = path.join(pool.dir, 'go')
  const before = await pool.run(file('before.txt', 'B'))
  const beforeEnd = await before.end()
  const run = await pool.run(sh(`echo began >> ${log}; until [ -e ${go} ]; do sleep 0.02; done`) + sh(`echo second >> ${log}`) + file('a.txt', 'A'))
  await until('the run is at work', () => fs.existsSync(log))

  fill(pool)
  const kept = []
  const refused = await createUntilRefused(pool, kept)
  assert.equal(refused.status, 503, refused.text)
  assert.equal(refused.json.error.code, 'service_unavailable')
  assert.ok(Number(refused.headers.get('retry-after')) > 0)
  for (const [method, where, body] of [['POST', `/v1/agents/${before.agentId}/runs`, { prompt: { text: 'more' } }], ['POST', `${run.path}/cancel`]]) {
    const r = await pool.http(method, where, { body })
    assert.equal(r.status, 503, `${where}: ${r.text}`)
    assert.equal(r.json.error.code, 'service_unavailable')
  }

  // What can be read is read, all of it.
  assert.deepEqual(await before.get(), beforeEnd)
  checkEvents(await before.events())
  for (const k of kept) assert.equal((await pool.http('GET', `/v1/agents/${k.agent.id}/runs/${k.run.id}`)).status, 200)

  // The run under way gets its command's result, which cannot be kept, and waits.
  fs.writeFileSync(go, '')
  await until('the store was tried several times', async () => {
    for (let i = 0; i < 20; i++) await pool.http('POST', `/v1/agents/${before.agentId}/runs`, { body: { prompt: { text: 'more' } } })
    return Date.now() > fs.statSync(go).mtimeMs + 1500
  })
  assert.equal((await run.get()).status, 'RUNNING')
  assert.equal(fs.readFileSync(log, 'utf8'), 'began\n')
  const complaints = pool.server.stderr.split('\n').filter(l => /store\.unavailable/.test(l))
  assert.equal(complaints.length, 1, complaints.join('\n'))
  assert.match(complaints[0], /disk|space/i)
  assert.ok(pool.server.stderr.split('\n').length < 60, 'it does not talk itself hoarse')
  assert.ok(pool.server.alive && w.alive)

  free(pool)
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.match(r.result, /^3 of 3/)
  assert.equal(fs.readFileSync(log, 'utf8'), 'began\nsecond\n')
  assert.equal(checkEvents(await run.events()).completed.size, 3)
  assert.equal(await (await pool.origin()).show(r.git.branches[0].branch, 'a.txt'), 'A')
  assert.equal((await (await before.followUp(sh('cat before.txt', true))).end()).status, 'FINISHED')
  for (const k of kept) {
    const x = await pool.http('GET', `/v1/agents/${k.agent.id}/runs/${k.run.id}`)
    assert.equal(x.json.status, 'CREATING')
  }
})

test('a server that is killed on a full disk keeps what it had acknowledged', { skip: elsewhere }, async t => {
  const pool = await onSmallDisk(t)
  await pool.worker()
  const other = await pool.worker({ pool: 'nobody' })
  await other.kill('SIGKILL')
  const log = path.join(pool.dir, 'log'), go = path.join(pool.dir, 'go')
  const run = await pool.run(sh(`echo began >> ${log}; until [ -e ${go} ]; do sleep 0.02; done`) + sh(`echo second >> ${log}`))
  await until('the run is at work', () => fs.existsSync(log))
  fill(pool)
  const kept = []
  await createUntilRefused(pool, kept)
  fs.writeFileSync(go, '')
  await pool.crash()
  // A start on the full disk either works or says what is wrong.
  let started = true
  await pool.restart().catch(() => { started = false })
  if (!started) assert.match(pool.server.stderr, /full|space/i)
  else await pool.crash()
  free(pool)
  await pool.restart()
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.equal(fs.readFileSync(log, 'utf8'), 'began\nsecond\n')
  checkEvents(await run.events())
  for (const k of kept) assert.equal((await pool.http('GET', `/v1/agents/${k.agent.id}/runs/${k.run.id}`)).json.status, 'CREATING')
})
