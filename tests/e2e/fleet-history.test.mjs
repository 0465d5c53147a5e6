// What the queue and the pools looked like, from the outside.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, until } from './lib.mjs'
import { FLEET } from './fleet-help.mjs'
import { isError } from './api-help.mjs'

const config = '[history]\nsample_seconds = 1\n'
const sum = (points, name) => points.reduce((n, p) => n + p[name], 0)

test('what waits, how long, and how busy the workers are is seen, and survives a crash', async t => {
  const pool = await bullpen(t, { config }), begun = Date.now() - 60e3
  const history = async (query = '') => { const r = await pool.http('GET', `/v1/fleet/history?from=${begun}&step=60${query}`, { key: pool.poolKey }); assert.equal(r.status, 200, r.text); return r.json }
  // One that was there makes the pool known.
  const first = await pool.worker({ pool: 'gpu' })
  await first.kill('SIGTERM')
  await until('it is gone', async () => (await pool.http('GET', FLEET, { key: pool.poolKey })).json.totalCount === 0)
  const runs = [await pool.run('Say hello.', { pool: 'gpu' }), await pool.run('Say hello.', { pool: 'gpu' })]
  const seen = await until('both are seen to wait', async () => { const h = await history(); return h.points.some(p => p.queuedMax === 2) && h })
  assert.equal(seen.stepSeconds, 60)
  assert.equal(sum(seen.points, 'started'), 0)
  assert.ok(seen.points.every(p => p.waitP50Ms === undefined), 'what is not known is not said')
  await pool.worker({ pool: 'gpu' })
  for (const r of runs) await r.end()
  const after = await until('both are counted', async () => { const h = await history('&pool=gpu'); return sum(h.points, 'started') === 2 && h.points.some(p => p.workers > 0) && h })
  const last = after.points.findLast(p => p.started > 0)
  assert.ok(last.waitP95Ms >= last.waitP50Ms && last.waitP50Ms > 0, JSON.stringify(last))
  assert.equal(sum((await history('&pool=cpu')).points, 'started'), 0)
  const before = (await history()).points
  await pool.crash()
  await pool.restart()
  const again = await until('it looks again', async () => { const h = await history(); return sum(h.points, 'started') === 2 && h })
  assert.deepEqual(again.points[0].atMs, before[0].atMs)
  assert.equal(again.points.find(p => p.queuedMax === 2)?.queuedMax, 2, 'what was before the crash is there')
})

test('questions about the history that make no sense are refused with what would', async t => {
  const pool = await bullpen(t, { config }), key = pool.poolKey
  const ask = q => pool.http('GET', `/v1/fleet/history?${q}`, { key })
  const day = 86400e3, now = Date.now()
  isError(await ask(`from=${now}&to=${now}`), 400, 'validation_error', /before 'to'/)
  isError(await ask(`from=0&to=${now}`), 400, 'validation_error', /36 days/)
  isError(await ask(`from=${now - 30 * day}&to=${now}&step=60`), 400, 'validation_error', /'step' must be at least 1800 seconds/)
  isError(await ask('step=59'), 400, 'validation_error')
  isError(await ask('from=yesterday'), 400, 'validation_error')
  isError(await ask('nonsense=1'), 400, 'validation_error')
  isError(await pool.http('GET', '/v1/fleet/history', { key: pool.userKey }), 403, 'service_account_required')
  assert.equal((await ask(`from=${now - 35 * day}&to=${now}`)).json.stepSeconds, 14400)
  assert.equal((await ask(`from=${now - 7 * day}&to=${now}`)).json.stepSeconds, 3600)
  assert.equal((await ask(`from=${now - day}&to=${now}`)).json.stepSeconds, 300)
  assert.equal((await ask(`from=${now - 3 * day}&to=${now - 2.9 * day}`)).json.stepSeconds, 3600, 'what is old is kept by the hour')
})
