// A key that is revoked ends what was opened with it.
import test from 'node:test'
import assert from 'node:assert/strict'
import http from 'node:http'
import { bullpen, programs, run, until, Run, Stream } from './lib.mjs'
import { h2 } from './api-help.mjs'

// The end of a response as HTTP/1.1 tells it: `complete` only if the last chunk came.
function openRaw(t, pool, path, key) {
  const seen = { text: '' }
  const req = http.get(pool.url + path, { headers: { authorization: `Bearer ${key}` }, agent: false }, res => {
    seen.status = res.statusCode
    res.on('data', d => { seen.text += d }).on('error', e => { seen.error = e }).on('close', () => { seen.ended = true; seen.complete = res.complete })
  })
  req.on('error', e => { seen.error = e })
  t.after(() => req.destroy())
  return seen
}

test('a revoked key ends its open streams within five seconds and nobody else\'s', async t => {
  const pool = await bullpen(t)
  const mine = await pool.run('hi', { repo: 'https://git.example.test/acme/web' }) // nobody serves it: it waits
  // Another key of the same person: the owner sees the same agents.
  const second = await pool.createKey('user', 'second', 'dev@example.test')
  const path = `${mine.path}/stream`
  const doomed = openRaw(t, pool, path, second)
  const stays = await mine.stream()
  const over2 = h2(t, pool.url, second).open('GET', path)
  let over2Code, over2End = false
  over2.on('data', () => {}).on('end', () => { over2End = true }).on('close', () => { over2Code = over2.rstCode })
  await until('all three streams have begun', () => doomed.text.includes('event: status') && stays.events.length > 0)
  assert.equal((await run(t, programs.bullpen, ['admin', 'key', 'revoke', '--data', pool.data, second])).code, 0)
  await until('its streams end', () => doomed.ended && over2Code !== undefined, 5)
  assert.equal(doomed.complete, true, 'the response has its end')
  assert.equal(doomed.error, undefined)
  assert.ok(over2End)
  assert.equal(over2Code, 0)
  const again = await Stream.open(new Run(pool, mine.agentId, mine.id, second))
  assert.equal(again.status, 401)
  assert.equal(again.body.error.code, 'unauthorized')
  // The other key's stream goes on: what happens next is seen on it.
  assert.equal(stays.complete, undefined)
  assert.equal((await mine.cancel()).status, 200)
  await stays.until('the cancel', e => e.event === 'result' && e.data.status === 'CANCELLED')
})
