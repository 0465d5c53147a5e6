// A server is killed under a thousand connected workers and starts again: all of them are back soon, none is refused for
// good, and they do not come all at once. The workers are stand-ins (bench/workers.c), with the link, the HTTP/2
// stream and the rule of reconnecting that the product's own worker has.
import { describe, test } from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { build, bullpen, Proc, until } from './lib.mjs'

const program = path.join(build, 'tests/herd/bullpen-herd')
const N = 1000

async function herd(t, limits = '') {
  assert.ok(fs.existsSync(program), `${program} is missing: ninja -C build tests/herd/bullpen-herd`)
  const pool = await bullpen(t, { config: `[limits]\nreads_per_minute = 0\nmutations_per_minute = 0\nmax_workers_per_team = ${N}\n${limits}` })
  const crowd = new Proc(t, program, [pool.url, pool.poolKey, 'herd', 'w', String(N)])
  await until(`${N} workers are there: ${crowd.stderr}`, () => crowd.stdout.includes('ready'), 120)
  return { pool, crowd }
}

const connected = async pool => (await pool.http('GET', '/v0/private-workers/summary', { key: pool.poolKey })).json.teamSummary.totalConnected

async function back(crowd, times = 1) {
  const lines = () => [...crowd.stdout.matchAll(/^back (\{.*\})$/gm)]
  await until(`all are back: ${crowd.stdout} ${crowd.stderr}`, () => {
    assert.ok(crowd.alive, `the workers ended: ${crowd.stderr}`)
    return lines().length >= times
  }, 60)
  return JSON.parse(lines()[times - 1][1])
}

describe('a herd of workers', { concurrency: 2 }, () => {
  test('comes back spread out when its server was killed and started again, as often as that happens', async t => {
    const { pool, crowd } = await herd(t)
    for (let round = 1; round <= 2; round++) {
      await pool.crash()
      await pool.restart()
      const b = await back(crowd, round)
      assert.equal(b.n, N)
      assert.equal(b.fatal, 0, crowd.stderr)
      assert.equal(b.refusals, 0, crowd.stderr)
      // Of half a second or more, over which each is free to choose.
      assert.ok(b.most_planned_in_100_ms < 0.3 * N, `they mean to come at the same time: ${JSON.stringify(b)}`)
      assert.ok(b.attempts < 10 * N, `they hammered: ${JSON.stringify(b)}`)
    }
    assert.equal(await connected(pool), N)
  })

  test('comes back from one address too, of which only some may be at the door at once', async t => {
    const { pool, crowd } = await herd(t, 'max_unauthenticated_per_peer = 100\n')
    await pool.crash()
    await pool.restart()
    const b = await back(crowd)
    assert.equal(b.n, N)
    assert.equal(b.fatal, 0, crowd.stderr)
    assert.ok(b.most_planned_in_100_ms < 0.3 * N, `they mean to come at the same time: ${JSON.stringify(b)}`)
    assert.equal(await connected(pool), N)
  })
})
