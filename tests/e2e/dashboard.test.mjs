// The Grafana dashboard names only figures that exist: those of the server are compared with what a server says, those of the
// workers with the names that the worker's own tests check.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, root, sh } from './lib.mjs'

const workerFigures = /^cursor_self_hosted_worker_(connected|session_active|last_activity_unix_seconds|connect_attempts_total|connect_retry_total|session_ends_total)$/

test('every figure of the dashboard is one that a server or a worker has', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  await (await pool.run(sh('true'))).end()
  const have = new Set([...(await pool.http('GET', '/metrics')).text.matchAll(/^# TYPE (\S+)/gm)].map(m => m[1]))
  const { panels } = JSON.parse(fs.readFileSync(path.join(root, 'deploy/grafana/bullpen.json'), 'utf8'))
  let named = 0
  for (const p of panels) for (const { expr } of p.targets)
    for (const [name] of expr.matchAll(/\b(bullpen|cursor)_[a-z_]+/g)) {
      named++
      if (name.startsWith('cursor_')) assert.match(name, workerFigures, p.title)
      else assert.ok(have.has(name) || have.has(name.replace(/_(bucket|count|sum)$/, '')), `${p.title}: ${name}`)
    }
  assert.ok(named > 15)
})
