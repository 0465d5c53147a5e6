// Every commit of the store, one after the other: it fails, or the server dies right before or right after it. Whatever
// the moment, a client that asks again and a server that is started again bring the run to its one end, and each step is
// performed exactly once.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { randomUUID } from 'node:crypto'
import { build, bullpen, sh, file, makeRemote, tempDir, checkEvents, until, Run } from './lib.mjs'

const faulty = path.join(build, 'tests/fault/bullpen-faulty')
const TOGETHER = 6 // scenarios side by side
// 1 tries every commit; a larger number is for machines that are slow.
const STRIDE = Number(process.env.BULLPEN_FAULT_STRIDE ?? 1)

// Asks until it is answered with something else than "not now".
async function insist(pool, method, pathname, options) {
  return until(`${method} ${pathname} is answered`, async () => {
    const r = await pool.http(method, pathname, options).catch(() => null)
    return r && r.status < 500 && r
  }, 30)
}

// One story with the fault at commit n; true if the story came to that commit.
async function story(t, remote, mode, n) {
  const pool = await bullpen(t, { start: false })
  pool.theOrigin = remote
  let fired = false, over = false
  const watch = async server => {
    const { signal, code } = await server.exited
    if (/fault: fired/.test(server.stderr) || signal === 'SIGKILL') fired = true
    if (over) return
    assert.ok(fired, `the server ended by itself (${code ?? signal}): ${server.stderr}`)
    await pool.start()
  }
  try {
    await pool.start({ program: faulty, env: { BULLPEN_FAULT: `${mode}:${n}` } })
  } catch (e) {
    // It died, or said why it could not start, before it was of use.
    await pool.server.exited
    fired = pool.server.signal === 'SIGKILL' || /fault: fired/.test(pool.server.stderr)
    assert.ok(fired, `${e.message}`)
    await pool.start()
  }
  const server = pool.server
  const watching = fired ? null : watch(server)
  const log = path.join(pool.dir, 'log')
  await pool.worker({ ready: false })
  const agentId = `bc-${randomUUID()}`
  const body = { agentId, prompt: { text: sh(`echo 0 >> ${log}`) + file('a.txt', 'A') + sh(`echo 1 >> ${log}`) }, repos: [{ url: remote.url }] }
  const created = await insist(pool, 'POST', '/v1/agents', { body, headers: { 'idempotency-key': agentId } })
  // 409: an earlier attempt was kept, and only its answer was lost.
  assert.ok([201, 409].includes(created.status), created.text)
  const list = (await insist(pool, 'GET', `/v1/agents/${agentId}/runs`)).json.items
  assert.equal(list.length, 1, JSON.stringify(list))
  const run = new Run(pool, agentId, list[0].id, pool.userKey)
  const r = await until('the run ends', async () => {
    const x = (await insist(pool, 'GET', run.path)).json
    return !['CREATING', 'RUNNING'].includes(x.status) && x
  }, 40)
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.match(r.result, /^3 of 3/)
  assert.equal(fs.readFileSync(log, 'utf8'), '0\n1\n')
  assert.equal(await remote.show(r.git.branches[0].branch, 'a.txt'), 'A')
  // The fault may come as late as this.
  const events = await until('the events are read', () => run.events().catch(() => null))
  const { running, completed } = checkEvents(events)
  assert.equal(running.size, 3)
  assert.equal(completed.size, 3)
  assert.equal(events.filter(e => e.event === 'result').length, 1)
  // Nothing is left that would hold the worker: the agent and a stranger are served at once.
  const other = await insist(pool, 'POST', '/v1/agents', { body: { prompt: { text: sh('true') }, repos: [{ url: remote.url }] }, headers: { 'idempotency-key': randomUUID() } })
  const otherRun = new Run(pool, other.json.agent.id, other.json.run.id, pool.userKey)
  assert.equal((await until('the next run ends', async () => {
    const x = (await insist(pool, 'GET', otherRun.path)).json
    return !['CREATING', 'RUNNING'].includes(x.status) && x
  }, 40)).status, 'FINISHED')
  assert.ok(!/fatal:|internal_error/.test(server.stderr + pool.server.stderr), server.stderr + pool.server.stderr)
  over = true
  if (!server.alive) await watching
  return fired || /fault: fired/.test(server.stderr)
}

for (const [mode, what] of [['fail', 'fails'], ['kill-before', 'is cut off by the death of the server'], ['kill-after', 'is the last thing the server does']])
  test(`whichever commit ${what}, the run comes to its one end`, { concurrency: TOGETHER }, async t => {
    assert.ok(fs.existsSync(faulty), `${faulty} is missing: ninja -C ${path.dirname(faulty)} tests/fault/bullpen-faulty`)
    const remote = await makeRemote(tempDir(t))
    let n = 1, reached = 0, missed = false
    while (!missed && n < 400) {
      const numbers = Array.from({ length: TOGETHER }, (_, i) => n + i * STRIDE)
      n = numbers.at(-1) + STRIDE
      await Promise.all(numbers.map(k => t.test(`commit ${k}`, async st => {
        if (await story(st, remote, mode, k)) reached++
        else missed = true
      })))
    }
    t.diagnostic(`${mode}: ${reached} commits were reached, every ${STRIDE}. was tried`)
    assert.ok(missed, 'the story ended without the fault at last')
    assert.ok(reached >= 10, `only ${reached} commits were reached`)
  })
