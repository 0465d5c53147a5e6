// The queue as controllers see it: the list in pages, and the stream of what happens from its cursor on.
import test from 'node:test'
import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { bullpen, programs, run, until } from './lib.mjs'
import { sql } from './api-help.mjs'
import { Peer } from './peer.mjs'
import { REPO, Watch, fleet, got, isFleetError, registerPool, waiting } from './fleet-help.mjs'

const list = (pool, query = '') => got(fleet(pool, 'GET', `/pending-requests${query}`))
const cursorOf = async (pool, query = '') => (await list(pool, query)).streamCursor
const cancel = (pool, a, key) => pool.http('POST', `/v1/agents/${a.id}/runs/${a.runId}/cancel`, key ? { key } : {})
const shop = [{ path: '/srv/shop', remote_url: REPO, host: 'git.example.test', repo: 'acme/shop' }]

// A cursor as the server itself would sign it, with other words.
function forged(pool, cursor, change) {
  const key = Buffer.from(sql(pool, "SELECT value FROM installation_keys WHERE name = 'cursor'")[0][0], 'hex')
  const words = Buffer.from(cursor, 'base64url').toString().split(' ').slice(0, -1)
  const text = change(words).join(' ')
  return Buffer.from(`${text} ${createHmac('sha256', key).update(text).digest('hex')}`).toString('base64url')
}
const listedAt = ms => w => [...w.slice(0, 3), String(ms), ...w.slice(4)]

async function pools(t, config) {
  const pool = await bullpen(t, { config })
  await registerPool(pool, 'gpu')
  await registerPool(pool, 'ci', { repoOwner: 'acme', repoName: 'shop' })
  return pool
}

test('the list has what a controller needs to know, oldest first, in pages', async t => {
  const pool = await pools(t)
  assert.deepEqual((await list(pool)).requests, [])
  const me = (await pool.http('GET', '/v1/me')).json
  const account = sql(pool, "SELECT id FROM service_accounts WHERE name = 'pool'")[0][0]
  const a = await waiting(pool, 'ci', { repos: [{ url: 'https://user:secret@git.example.test/Acme/Shop.git' }], extra: { labels: { gpu: ['a100', 'h100'] } } })
  const b = await waiting(pool, 'gpu', { repos: [{ url: REPO }, { url: 'https://github.com/acme/web' }], key: pool.poolKey })
  const c = await waiting(pool, 'gpu', { repos: null })
  const { requests, streamCursor, ...rest } = await list(pool)
  assert.deepEqual(rest, {})
  assert.match(streamCursor, /^[\w-]+$/)
  const bare = requests.map(({ createdAtMs, wait, ...r }) => { assert.ok(Math.abs(createdAtMs - Date.now()) < 600000); assert.equal(wait.code, 'no_workers'); return r })
  assert.deepEqual(bare[0], { id: a.id, userId: me.userId, userEmail: 'dev@example.test', repoOwner: 'Acme', repoName: 'Shop', repoUrl: 'https://git.example.test/Acme/Shop.git', labels: [{ key: 'repo', value: 'Acme/Shop' }, { key: 'pool', value: 'ci' }, { key: 'gpu', value: 'a100' }, { key: 'gpu', value: 'h100' }] })
  assert.deepEqual(bare[1], { id: b.id, userId: 0, serviceAccountId: account, repoOwner: 'acme', repoName: 'shop', repoUrl: REPO, repoUrls: [REPO, 'https://github.com/acme/web'], labels: [{ key: 'pool', value: 'gpu' }] })
  assert.deepEqual(bare[2], { id: c.id, userId: me.userId, userEmail: 'dev@example.test', labels: [{ key: 'pool', value: 'gpu' }] })

  // Every request once; all pages of a listing have the same cursor, whatever happens between them.
  const seen = [], cursors = new Set()
  for (let token, n = 0; n === 0 || token; n++) {
    const page = await list(pool, `?limit=1${token ? `&pageToken=${token}` : ''}`)
    seen.push(...page.requests.map(r => r.id))
    cursors.add(page.streamCursor)
    token = page.nextPageToken
    if (n === 0) await cancel(pool, a)
  }
  assert.deepEqual(seen, [a.id, b.id, c.id])
  assert.equal(cursors.size, 1)

  const ids = async query => (await list(pool, query)).requests.map(r => r.id)
  assert.deepEqual(await ids('?pool=gpu'), [b.id, c.id])
  assert.deepEqual(await ids('?pool=GPU'), [])
  assert.deepEqual(await ids('?repository=acme/web'), [b.id])
  assert.deepEqual(await ids('?repository=git@github.com:acme/web.git'), [b.id])
  assert.deepEqual(await ids(`?repository=${encodeURIComponent('http://GIT.example.test/ACME/shop/')}`), [b.id])
  assert.deepEqual(await ids('?repository=git.example.test/acme/shop&pool=ci'), [])
  assert.deepEqual(await ids('?repository=acme/shop'), [])

  // Tokens are for their filters, and only ours.
  const token = (await list(pool, '?limit=1&pool=gpu')).nextPageToken
  assert.deepEqual(await ids(`?limit=1&pool=gpu&pageToken=${token}`), [c.id])
  for (const query of [`?pageToken=${token}`, `?pool=ci&pageToken=${token}`, '?pageToken=', '?pageToken=x', `?pool=gpu&pageToken=${token.slice(0, -2)}`, `?pageToken=${streamCursor}`, '?limit=0', '?limit=101', '?pool=', '?repository=', '?repository=x', '?cursor=x', '?repository=%2Fx'])
    isFleetError(await fleet(pool, 'GET', `/pending-requests${query}`), 400, 'Invalid request')
})

test('the stream tells what happened after the list, and goes on from any event', async t => {
  const pool = await pools(t)
  const before = await waiting(pool, 'gpu')
  const cursor = await cursorOf(pool)
  const a = await waiting(pool, 'gpu')
  const w = await Watch.open(pool, `?cursor=${cursor}`)
  assert.equal(w.status, 200)
  assert.match(w.headers.get('content-type'), /^text\/event-stream/)
  assert.equal(w.headers.get('cache-control'), 'no-cache')
  await w.event('created', a.id)
  assert.equal(w.comment, ': connected')
  const b = await waiting(pool, 'ci')
  await w.event('created', b.id)
  await cancel(pool, a)
  await w.event('expired', a.id)
  const peer = await Peer.connected(t, pool, { hello: { pool: 'ci', roots: shop } })
  await w.event('claimed', b.id)
  // An idle worker takes it at once: both are told, in this order.
  await until('the worker is idle', async () => (await pool.http('GET', `/v1/agents/${b.id}`)).json.status === 'IDLE')
  const c = await waiting(pool, 'ci')
  await w.event('claimed', c.id)
  assert.deepEqual(w.told, [`created ${a.id}`, `created ${b.id}`, `expired ${a.id}`, `claimed ${b.id}`, `created ${c.id}`, `claimed ${c.id}`].filter(x => w.told.includes(x)))
  assert.ok(!w.told.some(x => x.includes(before.id)))
  const created = w.frames.find(f => f.event === 'created' && f.data.id === b.id)
  assert.deepEqual(created.data.labels, [{ key: 'repo', value: 'acme/shop' }, { key: 'pool', value: 'ci' }])
  assert.deepEqual(w.frames.find(f => f.event === 'expired').data, { id: a.id })
  assert.equal(new Set(w.frames.map(f => f.id)).size, w.frames.length)
  w.close()
  peer.drop()

  // From any event on, by Last-Event-ID, which goes before the cursor; also after a restart.
  await pool.crash()
  await pool.restart()
  for (let i = 0; i < w.frames.length - 1; i++) {
    const rest = await until('there is room', async () => { const x = await Watch.open(pool, i % 2 ? `?cursor=${cursor}` : '', { lastEventId: w.frames[i].id }); return x.status === 200 && x })
    await rest.event('claimed', c.id)
    assert.deepEqual(rest.told.slice(-1), [`claimed ${c.id}`])
    assert.ok(!rest.frames.some(f => f.id === w.frames[i].id))
    rest.close()
  }
})

test('filters hold for the stream as for the list', async t => {
  const pool = await pools(t)
  const gpu = await Watch.open(pool, `?pool=gpu&cursor=${await cursorOf(pool, '?pool=gpu')}`)
  const web = await Watch.open(pool, `?repository=acme/web&cursor=${await cursorOf(pool, '?repository=https://github.com/acme/web')}`)
  const a = await waiting(pool, 'ci')
  const b = await waiting(pool, 'gpu', { repos: [{ url: REPO }] })
  const c = await waiting(pool, 'gpu', { repos: [{ url: 'https://github.com/acme/web' }] })
  for (const x of [a, b, c]) await cancel(pool, x)
  await gpu.event('expired', c.id)
  await web.event('expired', c.id)
  const of = (w, x) => w.told.filter(s => s.endsWith(x.id)).map(s => s.split(' ')[0])
  assert.deepEqual([of(gpu, a), of(gpu, b).at(-1), of(gpu, c).at(-1)], [[], 'expired', 'expired'])
  assert.deepEqual([of(web, a), of(web, b), of(web, c).at(-1)], [[], [], 'expired'])
  const cursor = await cursorOf(pool)
  for (const query of ['', '?cursor=', '?cursor=x', `?cursor=${cursor}&pool=gpu`, `?cursor=${cursor}&repository=acme/web`, `?cursor=${cursor}&limit=1`, `?cursor=${cursor}&pageToken=x`, `?cursor=${cursor.slice(1)}`, `?cursor=${forged(pool, cursor, w => [w[0], '2', ...w.slice(2)])}`,
    `?cursor=${Buffer.from('1 1 0 1 0123456789abcdef ' + '0'.repeat(64)).toString('base64url')}`])
    isFleetError(await fleet(pool, 'GET', `/pending-requests/stream${query}`), 400, 'Invalid request')
  isFleetError(await fleet(pool, 'GET', `/pending-requests/stream?cursor=${cursor}`, { headers: { 'last-event-id': 'x' } }), 400, 'Invalid request', /Last-Event-ID/)
  gpu.close()
  web.close()
})

test('a chain of cursors ends five minutes after its list, and where events are not kept any more', async t => {
  const pool = await pools(t)
  const a = await waiting(pool, 'gpu')
  const cursor = await cursorOf(pool)
  const isOver = async (query, options) => {
    const r = await Watch.open(pool, query, options)
    assert.deepEqual([r.status, r.text], [410, '{"code":"cursor_expired"}'])
  }
  await isOver(`?cursor=${forged(pool, cursor, listedAt(Date.now() - 300001))}`)
  await isOver('', { lastEventId: forged(pool, cursor, listedAt(Date.now() + 900000)) })
  // An open one is closed after its last event.
  const w = await Watch.open(pool, `?cursor=${forged(pool, forged(pool, cursor, listedAt(Date.now() - 290000)), x => [...x.slice(0, 2), '0', ...x.slice(3)])}`)
  assert.equal(w.status, 200)
  await w.event('created', a.id)
  await until('it is closed', () => w.complete, 30)
  assert.equal(w.error, undefined)
  await isOver('', { lastEventId: w.frames.at(-1).id })
  // What came after the place was forgotten, or the store is an older one.
  await cancel(pool, a)
  await isOver(`?cursor=${forged(pool, cursor, x => [...x.slice(0, 2), '999', ...x.slice(3)])}`)
  sql(pool, 'DELETE FROM queue_events WHERE seq < (SELECT MAX(seq) FROM queue_events)')
  await isOver(`?cursor=${forged(pool, cursor, x => [...x.slice(0, 2), '0', ...x.slice(3)])}`)
})

test('four streams for an account; a heartbeat when it is quiet; the end with the key', async t => {
  const pool = await pools(t)
  const key = await pool.createKey('service_account', 'controller')
  const cursor = (await got(fleet(pool, 'GET', '/pending-requests', { key }))).streamCursor
  const open = (k = key) => Watch.open(pool, `?cursor=${cursor}`, { key: k })
  const four = await Promise.all([open(), open(), open(), open()])
  const fifth = await open()
  assert.equal(fifth.status, 429)
  assert.match(fifth.json.error, /^Too many streams: /)
  // Another account has its own; a place that is given back is free.
  const other = await open(pool.poolKey)
  assert.equal(other.status, 200)
  four[0].close()
  const again = await until('there is room', async () => { const x = await open(); return x.status === 200 && x })
  // Quiet for a while: a heartbeat, from whose id one can go on. What a filter left out lies before it.
  const beat = await again.until('a heartbeat', fs => fs.find(f => f.event === 'heartbeat'), 40)
  assert.deepEqual(beat.data, {})
  const a = await waiting(pool, 'gpu')
  const rest = await Watch.open(pool, '', { key: pool.poolKey, lastEventId: beat.id })
  await rest.event('created', a.id)
  await run(t, programs.bullpen, ['admin', 'key', 'revoke', '--data', pool.data, key])
  for (const w of [...four.slice(1), again]) await until('it ends', () => w.complete || w.error)
  assert.ok(!other.complete)
  for (const w of [other, rest]) w.close()
})
