// What PostgreSQL itself can do to a server: it is restarted, it fails over, it is silent, it refuses, it cuts connections.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { execFileSync } from 'node:child_process'
import { bullpen, checkEvents, programs, run as command, sh, until } from './lib.mjs'
import { gate, sql } from './api-help.mjs'
import { ownPostgresql } from './nodes-help.mjs'

const psql = (url, text) => execFileSync('psql', ['-X', '-q', '-A', '-t', url, '-c', text], { encoding: 'utf8' }).trim()
const ready = pool => until('it is ready', async () => (await pool.http('GET', '/readyz')).status === 200, 60)

test('PostgreSQL is away: requests are refused in words, a run waits, and all goes on by itself', async t => {
  const pg = ownPostgresql(t), pool = await bullpen(t, { store: pg.url }), g = gate(pool, fs)
  const log = path.join(pool.dir, 'log')
  await pool.worker()
  const run = await pool.run(sh(`echo 0 >> ${log}; ${g.command}`) + sh(`echo 1 >> ${log}`))
  await until('the call is at it', () => g.reached())
  pg.kill()
  const refused = await until('it says that it is not ready', async () => { const r = await pool.http('GET', '/readyz'); return r.status === 503 && r })
  assert.equal(refused.json.reason, 'store')
  const create = await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, repos: [{ url: (await pool.origin()).url }] } })
  assert.equal(create.status, 503)
  g.go()
  await until('the log says so', () => /store\.unavailable/.test(pool.server.stderr))
  pg.again()
  await ready(pool)
  assert.equal((await run.end()).status, 'FINISHED')
  checkEvents(await run.events())
  assert.equal(fs.readFileSync(log, 'utf8'), '0\n1\n')
  assert.equal(sql(pool, 'SELECT COUNT(*) AS n FROM agents')[0][0], 1)
  // An administrator's command says it, too.
  pg.kill()
  const key = await command(t, programs.bullpen, ['admin', 'key', 'list', '--data', pool.data])
  assert.equal(key.code, 1)
  assert.match(key.stderr, /^error: the store in postgresql:\/\/bullpen@.* cannot be opened: PostgreSQL does not answer as it should: .*\n$/)
  pg.again()
})

test('a standby takes over: what was answered is there, and runs go on', async t => {
  const pg = ownPostgresql(t), second = pg.standby()
  const both = pg.url.replace(/host=.*/, `host=${encodeURIComponent(pg.dir)},${encodeURIComponent(second.dir)}`)
  const pool = await bullpen(t, { store: both }), g = gate(pool, fs)
  const log = path.join(pool.dir, 'log')
  await pool.worker()
  const run = await pool.run(sh(`echo 0 >> ${log}; ${g.command}`) + sh(`echo 1 >> ${log}`))
  await until('the call is at it', () => g.reached())
  // Agents are made without a pause while the first one dies.
  const answered = []
  let over = false
  const maker = (async () => {
    while (!over) {
      const r = await pool.http('POST', '/v1/agents', { body: { prompt: { text: sh('true') }, repos: [{ url: (await pool.origin()).url }] } })
      if (r.status === 201) answered.push(r.json.agent.id)
      else assert.equal(r.status, 503, r.text)
    }
  })()
  await until('some were answered', () => answered.length > 20)
  pg.kill()
  second.promote()
  g.go()
  const then = answered.length
  await until('they are made again', () => answered.length > then + 20, 60)
  over = true
  await maker
  assert.equal((await run.end()).status, 'FINISHED')
  assert.equal(fs.readFileSync(log, 'utf8'), '0\n1\n')
  const there = new Set(sql(pool, 'SELECT id FROM agents').map(r => r[0]))
  assert.deepEqual(answered.filter(id => !there.has(id)), [])
})

test('connections are cut again and again, also while they commit: nothing is lost or done twice', async t => {
  const pg = ownPostgresql(t), pool = await bullpen(t, { store: pg.url })
  const log = path.join(pool.dir, 'log')
  await pool.worker()
  await pool.worker()
  let over = false
  const cutter = (async () => {
    for (let n = 0; !over; n++) {
      psql(pg.url.replace('NAME', 'postgres'), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'bullpen'")
      await until('it works again', async () => (await pool.http('GET', '/readyz')).status === 200)
    }
  })()
  const created = []
  while (created.length < 12) {
    const i = created.length
    const r = await pool.http('POST', '/v1/agents', { body: { prompt: { text: sh(`echo ${i} >> ${log}`) }, repos: [{ url: (await pool.origin()).url }] }, headers: { 'idempotency-key': `k${i}` } })
    if (r.status === 201) created.push(r.json)
  }
  over = true
  await cutter
  for (const { agent, run } of created)
    await until('it has ended', async () => { const r = await pool.http('GET', `/v1/agents/${agent.id}/runs/${run.id}`); return r.json?.status === 'FINISHED' }, 60)
  assert.deepEqual(fs.readFileSync(log, 'utf8').trim().split('\n').sort((a, b) => a - b), created.map((_, i) => String(i)))
  assert.equal(sql(pool, 'SELECT COUNT(*) AS n FROM agents')[0][0], 12)
})

test('a server that is silent for a while, and one that has no connection left', async t => {
  const pg = ownPostgresql(t), pool = await bullpen(t, { store: pg.url })
  await pool.worker()
  process.kill(pg.pid(), 'SIGSTOP') // takes no new connections; those that are there go on
  t.after(() => { try { process.kill(pg.pid(), 'SIGCONT') } catch { /* it was stopped */ } })
  assert.equal((await pool.http('GET', '/readyz')).status, 200)
  process.kill(pg.pid(), 'SIGCONT')
  assert.equal((await (await pool.run(sh('echo 1'))).end()).status, 'FINISHED')
  // Fewer connections than would be used: everybody is served all the same.
  psql(pg.url.replace('NAME', 'postgres'), 'ALTER SYSTEM SET max_connections = 10')
  pg.kill()
  pg.again()
  await ready(pool)
  const many = await Promise.all(Array.from({ length: 60 }, (_, i) => pool.http('GET', i % 2 ? '/v1/agents' : '/v1/me')))
  assert.deepEqual(many.filter(r => r.status !== 200).map(r => r.text), [])
  assert.equal((await (await pool.run(sh('echo 2'))).end()).status, 'FINISHED')
})

test('what the settings must be: a URL, a password file, a folder that belongs to this store', async t => {
  const pg = ownPostgresql(t), pool = await bullpen(t, { store: pg.url })
  await pool.stop()
  const serve = async (config, data = pool.data) => {
    const f = path.join(pool.dir, 'x.toml')
    fs.writeFileSync(f, config)
    const p = await command(t, programs.bullpen, ['serve', '--config', f, '--listen', '127.0.0.1:0', '--data', data])
    return [p.code, p.stderr.replaceAll(pool.dir, 'DIR')]
  }
  assert.deepEqual(await serve(''), [1, 'error: store.url is not set, but DIR/data belongs to a database in PostgreSQL: set it, or name another data folder\n'])
  assert.deepEqual(await serve('[store]\nurl = "mysql://x"\n'), [1, 'error: store.url must be a URL: postgresql://USER@HOST:PORT/DATABASE\n'])
  assert.deepEqual(await serve('[store]\npassword_file = "x"\n'), [2, 'error: store.password_file needs store.url\n'])
  const [code, text] = await serve(`[store]\nurl = "${pool.store}"\npassword_file = "${pool.dir}/none"\n`)
  assert.equal(code, 1)
  assert.match(text, /^error: the store in postgresql:\/\/bullpen@.* cannot be opened: store\.password_file: DIR\/none cannot be read: /)
  const other = path.join(pool.dir, 'sqlite')
  assert.equal((await command(t, programs.bullpen, ['admin', 'key', 'create', '--data', other, '--init', '--type', 'user', '--name', 'x'])).code, 0)
  assert.match((await serve(`[store]\nurl = "${pool.store}"\n`, other))[1], /^error: store\.url is set, but DIR\/sqlite has a database of its own, bullpen\.db: /)
  assert.match((await serve('[store]\nurl = "postgresql://bullpen:secret@127.0.0.1:1/x"\n', path.join(pool.dir, 'third')))[1], /^error: (?!.*secret)the store in postgresql:\/\/bullpen@127\.0\.0\.1:1\/x cannot be opened: /)
})

test('an installation moves from SQLite to PostgreSQL with all it has, once and whole', { skip: Boolean(process.env.STORE_URL) }, async t => {
  const pg = ownPostgresql(t), pool = await bullpen(t)
  await pool.worker()
  const odd = 'ü "quoted" \\ back\tslash 😀 \u2028 end'
  const run = await pool.run(sh(`printf '%s' '${odd}'`) + sh('echo two'))
  assert.equal((await run.end()).status, 'FINISHED')
  const before = { events: await run.events(), agents: (await pool.http('GET', '/v1/agents')).json }
  const database = name => { psql(pg.url.replace('NAME', 'postgres'), `CREATE DATABASE ${name}`); return pg.url.replace('NAME', name) }
  const to = database('moved')
  const copy = (...more) => command(t, programs.bullpen, ['admin', 'store', 'copy', '--data', pool.data, ...more])
  const busy = await copy('--to', to)
  assert.deepEqual([busy.code, busy.stderr], [1, `error: a server uses ${pool.data}: stop it first\n`])
  await pool.stop()
  assert.equal((await copy()).code, 2)
  assert.match((await copy('--to', 'mysql://x')).stderr, /^error: --to must be a URL: /)
  // One that somebody uses is left as it is.
  const used = database('used')
  assert.equal((await command(t, programs.bullpen, ['admin', 'key', 'create', '--init', '--data', used, '--type', 'user', '--name', 'x'])).code, 0)
  const refused = await copy('--to', used)
  assert.equal(refused.code, 1)
  assert.match(refused.stderr, /^error: the database is in use, its table \w+ has rows: name an empty one\n$/)
  const done = await copy('--to', to)
  assert.equal(done.code, 0, done.stderr)
  assert.match(done.stdout, /^runs +1$/m)
  assert.match(done.stdout, /\d+ rows were copied, each was compared\./)
  assert.ok(fs.existsSync(path.join(pool.data, 'bullpen.db.copied')) && !fs.existsSync(path.join(pool.data, 'bullpen.db')))
  assert.deepEqual([(await copy('--to', to)).code], [1])
  // The same server, its worker and its clients go on.
  pool.store = to
  await pool.start()
  assert.deepEqual(await run.events(), before.events)
  assert.deepEqual((await pool.http('GET', '/v1/agents')).json, before.agents)
  assert.equal((await (await run.followUp(sh('echo three'))).end()).status, 'FINISHED')
  assert.equal((await command(t, programs.bullpen, ['admin', 'audit', '--data', pool.data, '--verify'])).code, 0)
})
