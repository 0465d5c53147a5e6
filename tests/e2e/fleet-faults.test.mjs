// What goes wrong with a pool: claims whose worker, agent or key goes away at the wrong moment, servers that are killed, answers
// that a controller does not expect, and what others may see of it.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, until } from './lib.mjs'
import { Peer } from './peer.mjs'
import { REPO, Watch, fleet, got, isFleetError, registerPool, runOf, waiting } from './fleet-help.mjs'

const shop = [{ path: '/srv/shop', remote_url: REPO, host: 'git.example.test', repo: 'acme/shop' }]
const claim = (pool, id, workerId, more = {}) => fleet(pool, 'POST', '/claim', { body: { id, workerId, ...more } })
const release = (pool, id) => fleet(pool, 'POST', `/claims/${id}/release`)
const pending = async pool => (await got(fleet(pool, 'GET', '/pending-requests'))).requests.map(r => r.id)
const peer = (t, pool, workerId, options = {}) => Peer.connected(t, pool, { workerId, ...options, hello: { pool: 'gpu', roots: shop, ...options.hello } })
const ended = (pool, a) => until('the run ends', async () => { const r = await runOf(pool, a); return !['CREATING', 'RUNNING'].includes(r.status) && r })
const cancel = (pool, a) => pool.http('POST', `/v1/agents/${a.id}/runs/${a.runId}/cancel`)
const followUp = async (pool, a) => ({ id: a.id, runId: (await pool.http('POST', `/v1/agents/${a.id}/runs`, { body: { prompt: { text: 'more' } } })).json.run.id })

async function gpu(t, config = '', more = {}) {
  const pool = await bullpen(t, { config })
  await registerPool(pool, 'gpu', { repoOwner: 'acme', repoName: 'shop', ...more })
  return pool
}

for (const [how, config] of [['is released', ''], ['is idle for too long', '[pools]\nidle_release = 3\n']])
  test(`a worker with a session token goes when its claim ${how}, also if it does not obey`, async t => {
    const pool = await gpu(t, config)
    const start = async id => {
      const a = await waiting(pool, 'gpu')
      const { token } = await got(claim(pool, a.id, id, { sessionToken: true }))
      const w = await peer(t, pool, id, { key: token })
      return { a, w, token, end: await ended(pool, a) }
    }
    const one = await start('ctrl-1')
    assert.equal(one.end.status, 'FINISHED')
    if (!config) await got(release(pool, one.a.id))
    // A peer does nothing when it is told to exit, so the server ends its connection.
    await until('it is told to exit', () => one.w.released?.exit)
    await one.w.ended(30)
    assert.equal(one.w.end.code, 16)
    assert.equal((await peer(t, pool, 'ctrl-1', { key: one.token })).refused.code, 'claim_ended')
    assert.equal((await got(fleet(pool, 'GET', ''))).totalCount, 0)
  })
