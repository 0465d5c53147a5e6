// A control-plane process has a name and an epoch in the store, and hears there what other processes did.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, run, programs, until } from './lib.mjs'
import { sql } from './api-help.mjs'
import { Peer } from './peer.mjs'

test('a process whose name another one has taken ends with status 1 and says why', async t => {
  const pool = await bullpen(t)
  sql(pool, "UPDATE nodes SET epoch = epoch + 1")
  assert.deepEqual(await pool.server.exited, { code: 1, signal: null })
  assert.match(pool.server.stderr, /node\.fenced/)
})

test('workers and claims name the node; its name is a setting', async t => {
  const pool = await bullpen(t, { config: '[node]\nname = "north.1"\n' })
  const peer = await Peer.connected(t, pool)
  assert.deepEqual(sql(pool, 'SELECT node_id, node_epoch FROM workers'), [['north.1', 1]])
  await pool.crash()
  await pool.restart()
  await peer.reconnect()
  assert.deepEqual(sql(pool, 'SELECT node_id, node_epoch FROM workers'), [['north.1', 2]])
})

test('a node name that is none is refused', async t => {
  const pool = await bullpen(t, { config: '[node]\nname = "no name"\n', start: false })
  const p = await run(t, programs.bullpen, ['serve', '--config', pool.configFile, '--data', pool.data])
  assert.equal(p.code, 2)
  assert.match(p.stderr, /node\.name must be/)
})

test('a revoked key ends the connections that were made with it, and no others', async t => {
  const pool = await bullpen(t)
  const otherKey = await pool.createKey('service_account', 'second')
  const [a, b, stays] = [await Peer.connected(t, pool), await Peer.connected(t, pool), await Peer.connected(t, pool, { key: otherKey })]
  const p = await run(t, programs.bullpen, ['admin', 'key', 'revoke', '--data', pool.data, pool.poolKey])
  assert.equal(p.code, 0, p.stderr)
  for (const gone of [a, b]) {
    assert.equal((await gone.ended()).code, 16)
    assert.match(gone.end.details, /revoked/)
  }
  await until('the server has two workers less', async () => (await pool.http('GET', '/healthz')).json?.workers !== 3)
  assert.ok(stays.alive)
})
