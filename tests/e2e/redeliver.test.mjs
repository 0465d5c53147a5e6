// Events that a GitHub App could not deliver are asked for again, and each starts one agent.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { randomUUID } from 'node:crypto'
import { bullpen, programs, run, sh, until } from './lib.mjs'
import { forged } from './forge-help.mjs'

const user = { login: 'ann', id: 11, type: 'User' }

async function start(t, o = {}) {
  const pool = await forged(t, 'github', bullpen, { app: true, config: '[triggers]\nredeliver_seconds = 1\n', ...o }), { forge } = pool
  const p = await run(t, programs.bullpen, ['admin', 'account', 'link', '--data', pool.data, '--email', 'dev@example.test', '--surface', 'github', '--place', '127.0.0.1', '--account', '11', '--login', 'ann'])
  assert.equal(p.code, 0, p.stderr)
  let id = 9000
  // An attempt as it stands in GitHub's list; `age` in seconds.
  const tried = (guid, status, { event = 'issue_comment', action = 'created', age = 60, ...more } = {}) => {
    const d = { id: ++id, guid, delivered_at: new Date(Date.now() - age * 1000).toISOString().replace(/\.\d+Z/, 'Z'), redelivery: false, duration: 0.3, status: status === 200 ? 'OK' : 'failed', status_code: status, event, action, installation_id: 77, repository_id: 5, ...more }
    forge.deliveries.push(d)
    return d.id
  }
  // A comment, and what GitHub makes of it: one try, and later those that are asked for.
  const send = async (guid, delivery) => (await pool.http('POST', '/webhooks/github', { body: delivery[1], headers: delivery[0], key: null }).catch(() => ({ status: 502 }))).status
  const deliveries = new Map()
  const say = async (text, guid = randomUUID()) => {
    const issue = forge.issue({ title: 'T' }), c = forge.comment({ thread: issue.number, body: text })
    deliveries.set(guid, forge.delivery('issue_comment', { action: 'created', sender: user, installation: { id: 77 }, repository: { id: 5, full_name: forge.name, default_branch: 'main', clone_url: forge.repoUrl, owner: { login: 'acme' } }, issue: { number: issue.number, title: 'T', user, author_association: 'OWNER' }, comment: { id: c.id, body: text, user, author_association: 'OWNER' } }, guid))
    return tried(guid, await send(guid, deliveries.get(guid)), { age: 0 })
  }
  forge.redeliver = async d => { tried(d.guid, deliveries.has(d.guid) ? await send(d.guid, deliveries.get(d.guid)) : 502, { age: 0, redelivery: true }) }
  const asked = () => forge.requests.filter(r => r.method === 'GET' && r.path === '/app/hook/deliveries' && !r.query.get('cursor')).length
  const sweeps = async n => { const from = asked(); await until(`${n} sweeps more`, () => asked() >= from + n) }
  return { pool, forge, tried, say, sweeps }
}
const agents = async pool => (await pool.http('GET', '/v1/agents')).json.items

test('a comment that came while the server was away is asked for again, and is one agent', async t => {
  const { pool, forge, say, sweeps } = await start(t)
  await pool.crash()
  const id = await say(`@cursor ${sh('echo changed > README.md')}`)
  assert.equal(forge.deliveries.at(-1).status_code, 502)
  await pool.restart()
  await until('it is done', () => forge.comments.some(c => /^Done/.test(c.body)), 30)
  await sweeps(2)
  assert.deepEqual([forge.redelivered, (await agents(pool)).length, forge.pulls.length], [[id], 1, 1])
  assert.match((await pool.http('GET', '/metrics', { key: pool.poolKey })).text, /bullpen_trigger_redeliveries_total\{forge="github",result="asked"\} 1/)
  // One that GitHub believes to be lost, but was stored: the same event.
  const guid = randomUUID()
  await say(`@cursor ${sh('echo again > README.md')}`, guid)
  forge.deliveries.at(-1).status_code = 504
  await until('it is asked for', () => forge.redelivered.length === 2)
  await sweeps(2)
  assert.deepEqual([forge.redelivered.length, (await agents(pool)).length, forge.deliveries.at(-1).status_code], [2, 2, 200])
})

test('what was taken, is old, refused for its form, of no use or was tried often is left alone; pages are followed', async t => {
  const { forge, tried, sweeps } = await start(t, { worker: false })
  forge.redeliver = null
  tried('too-old', 502, { age: 2 * 24 * 3600 })
  const first = tried('lost-a', 502), second = tried('lost-b', 0)
  for (let i = 0; i < 4; i++) tried('often', 503)
  tried('taken', 502)
  tried('taken', 200, { redelivery: true })
  tried('form', 400)
  tried('push', 502, { event: 'push', action: null })
  tried('edited', 502, { action: 'edited' })
  tried('', 502)
  tried('no-id', 502, { id: 'x' })
  await until('both are asked for', () => forge.redelivered.length >= 2)
  await sweeps(2)
  assert.deepEqual(forge.redelivered.slice(0, 2), [first, second], 'the older one first')
  assert.deepEqual([...new Set(forge.redelivered)], [first, second])
  // What the forge answers is no list, or a refusal: it goes on.
  for (const [status, body] of [[200, '{"message":"no"}'], [200, '['], [500, '{}'], [404, '{"message":"Not Found"}']]) {
    forge.interfere = (r, res) => { if (r.path !== '/app/hook/deliveries') return false; res.writeHead(status, { 'content-type': 'application/json', link: '<x>; rel="next"' }); res.end(body); return true }
    await sweeps(1)
  }
  const before = forge.redelivered.length
  forge.interfere = null
  await until('it is asked for after that', () => forge.redelivered.length > before)
})

const threads = pool => fs.readdirSync(`/proc/${pool.server.child.pid}/task`).map(id => fs.readFileSync(`/proc/${pool.server.child.pid}/task/${id}/comm`, 'utf8').trim())

test('without an app, or with 0, nobody asks; other values are refused', async t => {
  for (const [o, asks] of [[{}, true], [{ app: false }, false], [{ config: '[triggers]\nredeliver_seconds = 0\n' }, false]]) assert.equal(threads((await start(t, { worker: false, ...o })).pool).includes('redeliver'), asks)
  const pool = await bullpen(t)
  for (const value of ['-1', '86401', '"x"', 'true']) {
    const file = path.join(pool.dir, 'wrong.toml')
    fs.writeFileSync(file, `[triggers]\nredeliver_seconds = ${value}\n`)
    const p = await run(t, programs.bullpen, ['serve', '--config', file, '--data', path.join(pool.dir, 'none')])
    assert.equal(p.code, 2, p.stderr)
    assert.match(p.stderr, /triggers\.redeliver_seconds must be/)
  }
})
