// A worker id is its account's: nobody else is handed the session, the calls and the publishing of a worker that is away.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, sh, tool, until } from './lib.mjs'
import { Peer } from './peer.mjs'
import fs from 'node:fs'
import path from 'node:path'

const there = { repo: 'https://github.com/acme/web' }

test('a worker that is killed in the middle of a run is not replaced by another account with its id', async t => {
  const pool = await bullpen(t)
  const go = path.join(pool.dir, 'go'), begun = path.join(pool.dir, 'begun')
  const w = await pool.worker({ workerId: 'build-3' })
  const run = await pool.run(sh(`echo x >> ${begun}; until [ -e ${go} ]; do sleep 0.02; done`) + sh('echo done > done.txt', true))
  await until('the command runs', () => fs.existsSync(begun))
  await w.kill()
  await until('the server has lost it', async () => (await run.get()).wait?.code === 'waking')
  const thief = new Peer(t, pool, { workerId: 'build-3', key: await pool.createKey('service_account', 'another team of people') })
  await thief.connect()
  assert.equal(thief.refused?.code, 'worker_id_taken')
  assert.equal(thief.refused.fatal, true)
  assert.match(thief.refused.message, /^worker id build-3 is in use with another account's key/)
  assert.doesNotMatch(thief.refused.message, /pool|sa_/, 'it does not say whose')
  assert.deepEqual(thief.calls, [])
  // The agent program says so and ends.
  const other = await pool.worker({ workerId: 'build-3', key: thief.key, ready: false })
  assert.equal((await other.exited).code, 4)
  assert.match(other.stderr, /worker id build-3 is in use with another account's key/)
  fs.writeFileSync(go, '')
  await w.again()
  assert.equal((await run.end()).status, 'FINISHED')
})

test('while it is connected another account does not even learn whether it is alive; another key of its account does', async t => {
  const pool = await bullpen(t)
  const first = await Peer.connected(t, pool, { workerId: 'w' })
  const stranger = new Peer(t, pool, { workerId: 'w', key: await pool.createKey('service_account', 'stranger') })
  await stranger.connect()
  assert.equal(stranger.refused?.code, 'worker_id_taken')
  const sameAccount = await pool.createKey('service_account', 'pool')
  const second = new Peer(t, pool, { workerId: 'w', key: sameAccount })
  await second.connect()
  assert.equal(second.refused?.code, 'worker_connected')
  first.drop()
  await until('the other key of the account takes it', async () => { await second.reconnect(); return second.welcomes.length })
  const run = await pool.run(tool('act', { text: '1' }), there)
  second.answer(await second.expectCall('act'))
  assert.equal((await run.end()).status, 'FINISHED')
})

test('an account registers so many new ids in a minute, and another account is not held up by that', async t => {
  const pool = await bullpen(t, { config: '[limits]\nreads_per_minute = 0\nmutations_per_minute = 0\nmax_workers_per_team = 60\n' })
  const peers = await Promise.all(Array.from({ length: 60 }, (_, i) => Peer.connected(t, pool, { workerId: `w-${i}` })))
  assert.ok(peers.every(p => p.welcomes.length === 1))
  peers[0].drop()
  const connected = async () => [...(await pool.http('GET', '/metrics')).text.matchAll(/^bullpen_workers_connected\{.*\} (\d+)$/gm)].reduce((n, m) => n + Number(m[1]), 0)
  await until('one is gone', async () => await connected() === 59)
  const late = new Peer(t, pool, { workerId: 'w-late' })
  await late.connect()
  assert.equal(late.refused?.code, 'quota_exceeded')
  assert.match(late.refused.message, /60 new worker ids in the last minute/)
  assert.equal(late.refused.fatal, false)
  const known = new Peer(t, pool, { workerId: 'w-0' })
  await known.connect()
  assert.equal(known.welcomes.length, 1, 'one that is known comes back')
  known.drop()
  await until('it is gone', async () => await connected() === 59)
  await Peer.connected(t, pool, { workerId: 'of-another', key: await pool.createKey('service_account', 'another') })
})
