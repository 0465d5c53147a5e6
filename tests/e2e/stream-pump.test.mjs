// The pump: readers hear why their run waits although the run itself does not change, and none is left behind at a stop.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, sh, until } from './lib.mjs'
import { Peer } from './peer.mjs'

const statuses = s => s.events.filter(e => e.event === 'status').map(e => e.data)

test('readers of queued runs hear when the reason changes, each once', async t => {
  const pool = await bullpen(t)
  const first = await pool.worker({ pool: 'p' })
  await first.kill('SIGTERM')
  const go = path.join(pool.dir, 'go')
  const wait = sh(`until [ -e ${go} ]; do sleep 0.02; done`)
  const runs = []
  for (let i = 0; i < 3; i++) runs.push(await pool.run(wait, { pool: 'p' }))
  const streams = await Promise.all(runs.map(r => r.stream()))
  for (const s of streams) await s.until('no worker', e => e.event === 'status' && /no worker is connected/.test(e.data.message ?? ''))
  await pool.worker({ pool: 'p' })
  await streams[0].until('it runs', e => e.event === 'status' && e.data.status === 'RUNNING')
  for (const s of streams.slice(1)) await s.until('all are busy', e => e.event === 'status' && /busy/.test(e.data.message ?? ''))
  fs.writeFileSync(go, '')
  for (const r of runs) assert.equal((await r.end()).status, 'FINISHED')
  for (const s of streams) {
    await s.all()
    const said = statuses(s)
    for (let i = 1; i < said.length; i++) assert.notDeepEqual(said[i], said[i - 1], JSON.stringify(said))
    assert.equal(said.at(-1).status, 'FINISHED')
  }
})

test('a lost worker is told to the readers of its run, and so is its return', async t => {
  const pool = await bullpen(t)
  const w = await pool.worker({ workerId: 'w-1' })
  const run = await pool.run(sh('sleep 60') + sh('true'))
  const s = await run.stream()
  await s.until('the call runs', e => e.event === 'tool_call')
  await w.kill('SIGKILL')
  await s.until('the worker is away', e => e.event === 'status' && /disconnected/.test(e.data.message ?? ''))
  await w.again()
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  await s.all()
  const away = statuses(s).findIndex(x => /disconnected/.test(x.message ?? ''))
  assert.ok(statuses(s).slice(away + 1).some(x => x.status === 'RUNNING' && !x.message), JSON.stringify(statuses(s)))
})

test('a run that goes back to the queue says so to its readers', async t => {
  const pool = await bullpen(t, { config: '[pools]\nworker_loss_grace = 2\n' })
  const peer = await Peer.connected(t, pool, { attends: false })
  const run = await pool.run(sh('true'), { repo: 'https://github.com/acme/web' })
  const s = await run.stream()
  await peer.expectCall('OPEN_SESSION')
  peer.drop()
  await s.until('the worker is away', e => e.event === 'status' && /disconnected/.test(e.data.message ?? ''))
  await s.until('it is in the queue again', e => e.event === 'status' && /no worker is connected/.test(e.data.message ?? ''))
  assert.equal((await run.cancel()).status, 200)
})

// The sanitizer builds see what a stream that is being opened at this moment would leave behind.
test('a server that stops while streams are being opened ends well', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const runs = []
  for (let i = 0; i < 5; i++) runs.push(await pool.run(sh('true')))
  for (const r of runs) await r.end()
  const opening = Array.from({ length: 200 }, (_, i) => runs[i % 5].stream().catch(() => null))
  await opening[0]
  const { code, signal } = await pool.stop()
  assert.equal(signal, null)
  assert.equal(code, 0, pool.server.stderr.slice(-2000))
  for (const s of await Promise.all(opening)) s?.close?.()
  await until('nothing is open', () => !pool.server.alive)
})
