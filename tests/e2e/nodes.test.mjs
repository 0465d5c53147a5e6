// Several servers on one PostgreSQL.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { randomBytes } from 'node:crypto'
import { bullpen, checkEvents, Run, sh, file, programs, run as runs, Stream, until } from './lib.mjs'
import { gate, sql } from './api-help.mjs'
import { another, balancer, ownPostgresql, postgresql } from './nodes-help.mjs'

// Two nodes behind a balancer, which sends to the first.
async function two(t, store = postgresql(t)) {
  const pool = await bullpen(t, { store, prepare: p => {
    fs.writeFileSync(path.join(p.dir, 'secret.key'), `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 })
    fs.appendFileSync(p.configFile, `\n[secrets]\nkey_file = "${p.dir}/secret.key"\n[node]\nname = "one"\n`)
  } })
  const other = await another(t, pool, 'two')
  const front = await balancer(t, pool.url)
  return { pool, other, front }
}
const via = (node, run) => new Run(node, run.agentId, run.id, run.key)
// Everything of a run from the present place of a stream that was cut, at another node.
const goOn = async (node, run, before) => { const s = await Stream.open(via(node, run), before.events.at(-1)?.id); return s }

// What the nodes tell each other meanwhile is lost: who listens for them is frozen, and then ended.
async function unheard(pool, what) {
  const listening = sql(pool, "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND (query LIKE 'LISTEN bullpen%' OR query LIKE 'SELECT pg_notify(%')").map(r => Number(r[0]))
  assert.ok(listening.length >= 2)
  for (const pid of listening) process.kill(pid, 'SIGSTOP')
  try {
    await what()
    sql(pool, `SELECT COUNT(pg_terminate_backend(pid)) AS n FROM pg_stat_activity WHERE pid IN (${listening.join(', ')})`)
  } finally { for (const pid of listening) process.kill(pid, 'SIGCONT') }
}

test('any node answers for all: creating, reading, streaming and cancelling where the worker is not', async t => {
  const { pool, other } = await two(t), g = gate(pool, fs)
  await pool.worker()
  assert.deepEqual((await other.http('GET', '/v1/me')).json.apiKeyName, 'dev')
  const run = await other.run(sh('echo one') + sh(g.command) + sh('echo three'))
  const stream = await run.stream()
  await until('the call is at it', () => g.reached())
  await until('its events come', () => stream.events.some(e => e.event === 'tool_call' && e.data.status === 'completed'))
  const here = await via(pool, run).get()
  assert.equal(here.status, 'RUNNING')
  g.go()
  assert.equal((await run.end()).status, 'FINISHED')
  await until('the stream ends', () => stream.events.some(e => e.event === 'done'))
  assert.deepEqual(stream.events.map(e => e.id).filter(Boolean), (await via(pool, run).events()).map(e => e.id).filter(Boolean))
  checkEvents(stream.events)
  // A command is stopped by the node that has the worker, whoever is asked.
  const g2 = gate(pool, fs)
  const second = await pool.run(sh(g2.command))
  await until('the call is at it', () => g2.reached())
  assert.equal((await via(other, second).cancel()).status, 200)
  assert.equal((await second.end()).status, 'CANCELLED')
  assert.equal((await (await other.run(sh('echo free'))).end()).status, 'FINISHED')
  // A key is revoked for all.
  const key = await pool.createKey('user', 'gone', 'gone@example.test')
  assert.equal((await other.http('GET', '/v1/me', { key })).status, 200)
  const third = await other.run(sh('sleep 600'), { key })
  const open = await third.stream()
  assert.equal((await runs(t, programs.bullpen, ['admin', 'key', 'revoke', '--data', pool.data, key])).code, 0)
  await until('its stream ends', () => open.finished && Promise.race([open.finished.then(() => true), new Promise(r => setTimeout(r, 10))]))
  for (const node of [pool, other]) assert.equal((await node.http('GET', '/v1/me', { key })).status, 401)
})

test('a node is killed: its run goes on at the other, its call runs once, its reader loses nothing', async t => {
  const { pool, other, front } = await two(t), g = gate(pool, fs)
  const log = path.join(pool.dir, 'log')
  await pool.worker({ endpoint: front.url })
  const run = await pool.run(sh(`echo 0 >> ${log}`) + sh(`echo 1 >> ${log}; ${g.command}`) + file('a.txt', 'A') + sh(`echo 2 >> ${log}`))
  const stream = await run.stream()
  await until('the call is at it', () => g.reached())
  await until('the first call is told', () => stream.events.some(e => e.event === 'tool_call' && e.data.status === 'completed'))
  front.to(other.url)
  await pool.crash()
  const later = await goOn(other, run, stream)
  await until('the worker is at the other node', () => /worker\.connected/.test(other.server.stderr), 60)
  g.go()
  assert.equal((await via(other, run).end()).status, 'FINISHED')
  await until('the stream ends', () => later.events.some(e => e.event === 'done'))
  const whole = await via(other, run).events()
  assert.deepEqual([...stream.events, ...later.events].map(e => e.id).filter(Boolean), whole.map(e => e.id).filter(Boolean))
  const { running, completed } = checkEvents(whole)
  assert.equal(running.size, 4)
  assert.equal(completed.size, 4)
  assert.equal(fs.readFileSync(log, 'utf8'), '0\n1\n2\n')
  // The killed one comes back and works along.
  await pool.start()
  assert.equal((await (await pool.run(sh('echo again'))).end()).status, 'FINISHED')
})

test('a node that leaves gives its worker away at once, and one that is frozen finds itself fenced', async t => {
  const { pool, other, front } = await two(t), g = gate(pool, fs), g2 = gate(pool, fs)
  await pool.worker({ endpoint: front.url })
  const run = await pool.run(sh(g.command) + sh('echo end'))
  await until('the call is at it', () => g.reached())
  front.to(other.url)
  await pool.stop()
  g.go()
  assert.equal((await via(other, run).end()).status, 'FINISHED')
  await pool.start()
  // Frozen with a run under way: the other takes it over when the lease is over.
  front.to(pool.url)
  const next = await other.run(sh(g2.command) + sh('echo end'))
  await until('the call is at it', () => g2.reached())
  process.kill(other.server.pid, 'SIGSTOP')
  front.cut()
  g2.go()
  assert.equal((await via(pool, next).end()).status, 'FINISHED')
  await until('it was taken over', () => /node\.taken_over node=two by=one/.test(pool.server.stderr), 40)
  process.kill(other.server.pid, 'SIGCONT')
  await other.server.exited
  assert.match(other.server.stderr, /node\.fenced/)
  await other.start()
  assert.equal((await (await other.run(sh('echo again'))).end()).status, 'FINISHED')
})

test('many at once on two nodes: each request is bound once, each run ends', async t => {
  const { pool, other } = await two(t)
  for (let i = 0; i < 4; i++) await pool.worker({ endpoint: i % 2 ? pool.url : other.url })
  const runs = await Promise.all(Array.from({ length: 24 }, (_, i) => (i % 2 ? pool : other).run(sh(`echo ${i}`))))
  for (const r of runs) assert.equal((await r.end()).status, 'FINISHED')
  for (const r of runs) assert.equal((await via(other, r).events()).filter(e => e.event === 'result').length, 1)
  assert.deepEqual(sql(pool, "SELECT agent_id, COUNT(*) AS n FROM queue_events WHERE kind = 'claimed' GROUP BY agent_id HAVING COUNT(*) > 1"), [])
  assert.equal(sql(pool, "SELECT COUNT(*) AS n FROM queue_events WHERE kind = 'claimed'")[0][0], 24)
  assert.deepEqual(sql(pool, 'SELECT worker_id, COUNT(*) AS n FROM claims GROUP BY worker_id HAVING COUNT(*) > 1'), [])
})

test('PostgreSQL is away for longer than a lease: when it is back all nodes go on, none takes another over', async t => {
  const pg = ownPostgresql(t), { pool, other } = await two(t, pg.url)
  await pool.worker({ endpoint: other.url })
  pg.kill()
  const over = Date.now() + 17000
  await until('all leases are over', () => Date.now() > over, 30)
  pg.again()
  const now = 'CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)'
  await until('each has its lease', () => sql(pool, `SELECT COUNT(*) AS n FROM nodes WHERE lease_until > ${now}`)[0][0] === 2, 30)
  assert.deepEqual(sql(pool, 'SELECT id, epoch FROM nodes ORDER BY id'), [['one', 1], ['two', 1]])
  assert.doesNotMatch(pool.server.stderr + other.server.stderr, /node\.(fenced|taken_over)/)
  for (const node of [pool, other]) assert.equal((await (await node.run(sh('echo on'))).end()).status, 'FINISHED')
})

test('a run is cancelled at one node while the other one does not hear of it: its command ends all the same', async t => {
  const { pool, other } = await two(t), log = path.join(pool.dir, 'beats')
  const worker = await pool.worker(), id = () => sql(pool, 'SELECT id FROM workers')[0][0]
  const run = await pool.run(sh(`while :; do echo x >> ${log}; sleep 0.1; done`))
  const beats = () => fs.existsSync(log) ? fs.statSync(log).size : 0
  await until('the command is at it', () => beats() > 0)
  await unheard(pool, async () => assert.equal((await via(other, run).cancel()).status, 200))
  assert.equal((await run.end()).status, 'CANCELLED')
  await until('the command has ended', async () => { const n = beats(); await new Promise(r => setTimeout(r, 500)); return beats() === n }) // nothing shall come, so a while has to pass
  // The same for one that is to go.
  await unheard(pool, async () => {
    assert.equal((await other.http('POST', `/v0/private-workers/${id()}/drain`, { body: {}, key: pool.poolKey })).status, 200)
    await until('it is to go', () => sql(pool, 'SELECT draining FROM workers')[0]?.[0] === 1)
  })
  await until('it has gone', () => !worker.alive, 30)
  assert.equal((await worker.exited).code, 0)
})

test('a server with another key for secrets than the first is not let in', async t => {
  const { pool, other } = await two(t)
  const config = path.join(pool.dir, 'third.toml'), key = path.join(pool.dir, 'third.key')
  fs.writeFileSync(key, `${randomBytes(32).toString('hex')}\n`, { mode: 0o600 })
  fs.writeFileSync(config, fs.readFileSync(pool.configFile, 'utf8').replace(`${pool.dir}/secret.key`, key))
  const third = await runs(t, programs.bullpen, ['serve', '--config', config, '--listen', '127.0.0.1:0', '--data', path.join(pool.dir, 'data-three'), '--node', 'three'])
  assert.deepEqual([third.code, third.stderr.split('\n').filter(l => l.startsWith('error:'))],
    [1, [`error: the key in ${key} is not that of the other servers of this database: give all of them the same secrets.key_file`]])
  assert.deepEqual(sql(pool, "SELECT id FROM nodes WHERE id = 'three'"), [])
  assert.equal((await other.http('GET', '/readyz')).status, 200)
})
