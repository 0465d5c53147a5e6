// A worker built on Debian's stock Python gRPC client, with code generated from the protocol file; and a stock Python
// gRPC server that drives our worker.
import test from 'node:test'
import assert from 'node:assert/strict'
import path from 'node:path'
import { bullpen, run, tool, root, programs, checkEvents, until, Proc } from './lib.mjs'
import { tlsPool } from './tls.mjs'

const python = '/usr/bin/python3'

function peer(t, pool, what) {
  const p = new Proc(t, python, [path.join(root, 'tests/interop/grpcio_peer.py'), what, new URL(pool.url).host.replace('127.0.0.1', pool.ca ? 'localhost' : '127.0.0.1'), ...(pool.ca ? [pool.ca.file] : [])],
    { env: { POOL_KEY: pool.poolKey, USER_KEY: pool.userKey, NO_PROXY: '*' } })
  p.lines = () => p.stdout.split('\n').filter(Boolean).map(l => JSON.parse(l))
  p.line = (what, fn) => until(`the peer says ${what}; it said ${p.stdout.slice(-500)} ${p.stderr.slice(-1500)}`, () => {
    const found = p.lines().find(fn)
    if (!found && !p.alive) throw new Error(`the peer ended: ${p.stdout}${p.stderr}`)
    return found
  }, 60)
  return p
}

for (const [kind, make] of [['cleartext', bullpen], ['TLS', tlsPool]]) {
  test(`a grpcio client over ${kind} serves a run to its end`, async t => {
    const pool = await make(t)
    const p = peer(t, pool, 'serve')
    await p.line('that it is registered', l => l.ready)
    const r = await pool.run(tool('act', { text: 'hi' }), { repo: 'https://github.com/acme/web' })
    const end = await r.end()
    assert.equal(end.status, 'FINISHED', JSON.stringify(end))
    assert.equal(end.git.branches[0].branch, 'cursor/grpcio')
    const ended = await p.line('how it ended', l => l.ended)
    assert.equal(ended.ended, 'OK', ended.details)
    assert.deepEqual(p.lines().filter(l => l.call).map(l => l.call), ['OPEN_SESSION', 'TOOL', 'PUBLISH'])
    assert.deepEqual(JSON.parse(p.lines().find(l => l.call === 'TOOL').arguments), { text: 'hi' })
    const { completed } = checkEvents(await r.events())
    assert.deepEqual([...completed.values()].map(c => c.result), [{ success: { said: 'hello from grpcio' } }])
  })

  test(`a grpcio client over ${kind} gets the status that belongs to what it did wrong`, async t => {
    const pool = await make(t)
    const p = peer(t, pool, 'statuses')
    await p.line('that it is connected', l => l.connected)
    await pool.stop()
    await p.line('what the shutdown was', l => l.case === 'shutdown')
    const got = Object.fromEntries(p.lines().filter(l => l.case).map(l => [l.case, l]))
    const expected = {
      'no key': /^UNAUTHENTICATED: .*missing/, 'wrong key': /^UNAUTHENTICATED: .*not valid/, 'user key': /^PERMISSION_DENIED: .*service account/,
      'unknown method': /^UNIMPLEMENTED: .*Nothing/, 'unknown method without key': /^UNIMPLEMENTED/, 'unknown method, streaming': /^UNIMPLEMENTED: .*Other/,
      'garbage': /^INVALID_ARGUMENT: ./, 'too large': /^(INVALID_ARGUMENT|RESOURCE_EXHAUSTED): ./, 'registration': /^FAILED_PRECONDITION: .*protocol version/,
      'cancel': /^CANCELLED/, 'deadline': /^DEADLINE_EXCEEDED/, 'shutdown': /^UNAVAILABLE/,
    }
    for (const [name, pattern] of Object.entries(expected)) assert.match(`${got[name].code}: ${got[name].details}`, pattern, name)
    for (const worker of ['cancels', 'overdue']) assert.match(pool.server.stderr, new RegExp(`worker\\.disconnected worker="${worker}"`))
  })
}

test('a stock gRPC server drives our worker', async t => {
  const p = await run(t, python, [path.join(root, 'tests/interop/worker_interop.py'), programs.agent])
  assert.equal(p.code, 0, p.stdout + p.stderr)
  assert.equal(p.stdout.match(/^ok /gm).length, 7)
})
