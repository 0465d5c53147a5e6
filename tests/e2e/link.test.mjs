// The worker protocol, seen from a worker that is not ours: who is let in, what is done once, and what a broken or hostile
// worker can spoil (its own connection and nothing else).
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import http from 'node:http'
import http2 from 'node:http2'
import { createHash } from 'node:crypto'
import { bullpen, sh, tool, atEnd, checkEvents, programs, run as runProgram, until } from './lib.mjs'
import { sql } from './api-help.mjs'
import { Peer, Wire, framed, encoded, aHello, connectPath, sessionInfo } from './peer.mjs'

const there = { repo: 'https://github.com/acme/web' } // what a Peer says it serves
const status = { invalidArgument: 3, resourceExhausted: 8, failedPrecondition: 9, permissionDenied: 7, unauthenticated: 16, cancelled: 1 }

test('a worker built on a stock gRPC client serves a run from session to pushed branch', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool)
  const run = await pool.run(tool('act', { text: 'hi' }), there)
  const call = await peer.expectCall('act')
  assert.deepEqual(JSON.parse(call.arguments_json), { text: 'hi' })
  assert.equal(call.run_id, run.id)
  assert.equal(call.agent_id, run.agentId)
  peer.say(call, 'working\n')
  peer.answer(call, { result: { said: 'hi there' } })
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.equal(r.git.branches[0].branch, 'cursor/peer')
  assert.deepEqual(peer.calls.map(c => c.kind), ['OPEN_SESSION', 'TOOL', 'PUBLISH'])
  assert.match(JSON.parse(peer.calls[0].arguments_json).repoUrl, /github\.com\/acme\/web/)
  assert.match(JSON.parse(peer.calls[0].arguments_json).branch, /^cursor\//)
  const events = await run.events()
  const { completed } = checkEvents(events)
  assert.deepEqual([...completed.values()].map(c => c.result), [{ success: { said: 'hi there' } }])
  assert.ok(events.some(e => e.event === 'interaction_update' && e.data.type === 'shell-output-delta' && e.data.event.data === 'working\n'), 'output is streamed')
  await until('all results are acknowledged', () => peer.acknowledged.size === 3)
})

test('tools are told once: a hash is enough for a server that heard of them, also after its restart', async t => {
  const pool = await bullpen(t)
  const tools_json = JSON.stringify([{ name: 'paint', class: 'mutating', sdkType: 'mcp', parameters: { type: 'object' } }])
  const tools_hash = createHash('sha256').update(tools_json).digest('hex')
  const first = await Peer.connected(t, pool, { hello: { tools_json } })
  first.drop()
  const stranger = await Peer.connected(t, pool, { hello: { tools_json: '', tools_hash: 'ab'.repeat(32) } })
  await stranger.ended()
  assert.equal(stranger.refused.code, 'tools_unknown')
  assert.equal(stranger.refused.fatal, false)
  await pool.stop()
  await pool.restart()
  const again = await Peer.connected(t, pool, { workerId: first.workerId, hello: { tools_json: '', tools_hash } })
  const run = await pool.run(tool('paint', {}), there)
  again.answer(await again.expectCall('paint'), { result: {} })
  assert.equal((await run.end()).status, 'FINISHED')
  assert.ok((await run.events()).some(e => e.data.type === 'tool-call-started' && e.data.toolCall.type === 'mcp'), 'the description of the tool is known')
})

test('a wrong key, no key and the key of a user are refused with the status that fits and a reason', async t => {
  const pool = await bullpen(t)
  for (const [key, code, reason] of [['key_nobody', 'unauthorized', /not valid/], [null, 'unauthorized', /missing/], [pool.userKey, 'key_not_supported', /service account/]]) {
    const peer = await Peer.connected(t, pool, { key })
    const end = await peer.ended()
    assert.equal(end.code, code === 'unauthorized' ? status.unauthenticated : status.permissionDenied)
    assert.match(end.details, reason)
    if (!key) { assert.equal(peer.refused, null, 'it never came to a handshake'); continue }
    assert.equal(peer.refused.code, code)
    assert.equal(peer.refused.fatal, true)
    assert.match(peer.refused.message, reason)
  }
})

test('streams that do not say who they are have a limit, in all and for each address; workers that are known do not count', async t => {
  const pool = await bullpen(t, { config: '[limits]\nmax_unauthenticated = 5\nmax_unauthenticated_per_peer = 3\n' })
  const working = await Peer.connected(t, pool)
  const silent = Array.from({ length: 3 }, () => new Wire(t, pool))
  await until('three streams are open', () => silent.every(w => w.head))
  const refused = await new Wire(t, pool).ended()
  assert.equal(refused.status, status.resourceExhausted)
  assert.match(refused.message, /from this address/)
  assert.ok(working.alive)
  await working.reconnect().catch(() => {})
  assert.equal(working.end?.code, status.resourceExhausted, 'also a good worker has to wait for its turn')
  for (const w of silent) w.session.destroy()
  await until('there is room again', async () => (await working.reconnect()).alive)
  // What has no credential costs nothing: it is refused at once, however many there are.
  for (const authorization of ['', 'Bearer', 'Digest abc', 'Bearer two words', `Bearer ${'x'.repeat(2000)}`]) {
    const end = await new Wire(t, pool, { headers: { authorization } }).ended()
    assert.equal(end.status, status.unauthenticated, authorization)
  }
  assert.ok(working.alive)
})

test('a registration that is not acceptable is refused with a code and a reason', async t => {
  const pool = await bullpen(t)
  const tools = b => ({ tools_json: JSON.stringify([{ name: 'act', class: 'execute' }, typeof b === 'object' ? { name: 'b', class: 'read', ...b } : b]) })
  for (const [hello, reason] of [
    [{ worker_id: '' }, /worker_id/], [{ worker_id: 'a b' }, /worker_id/], [{ worker_id: 'pools' }, /reserved/], [{ worker_id: 'x'.repeat(129) }, /worker_id/],
    [{ pool: '-x' }, /pool/], [{ pool: 'a/b' }, /pool/], [{ pool: 'p'.repeat(64) }, /pool/],
    [{ tools_json: '{}' }, /array/], [{ tools_json: '[' }, /tools_json: / ],
    [tools(7), /tool 1 must be an object/], [tools({ name: 'a b' }), /name of tool 1/], [tools({ name: 'x'.repeat(65) }), /name of tool 1/],
    [tools({ name: 'Act' }), /two tools 'Act'/], [tools({ class: undefined }), /class of tool 'b' must be/], [tools({ class: 'other' }), /class of tool 'b' must be/],
    [tools({ parameters: [] }), /parameters of tool 'b' must be an object/], [tools({ parameters: { x: 'y'.repeat(70000) } }), /parameters of tool 'b' are larger/],
    [{ protocol_version: 2 }, /protocol version 2/], [{ protocol_version: 0 }, /protocol version 0/],
  ]) {
    const peer = await Peer.connected(t, pool, { hello })
    const end = await peer.ended()
    assert.equal(end.code, status.failedPrecondition, JSON.stringify([hello, end]))
    assert.equal(peer.refused?.code, 'invalid_registration', JSON.stringify([hello, end]))
    assert.equal(peer.refused.fatal, true)
    assert.match(end.details, reason)
  }
})

// What a worker does that hears nothing of the control plane for longer than its grace: it cancels what runs and closes.
for (const [what, answer] of [
  ['was cancelled', { outcome: 'ERROR', result: { message: 'cancelled', code: 'cancelled' } }],
  ['was done, but is closed since', { result: sessionInfo() }],
])
  for (const restarted of [false, true])
    test(`an opening that ${what} while the ${restarted ? 'server' : 'connection'} was away is made again`, async t => {
      const pool = await bullpen(t)
      const peer = await Peer.connected(t, pool, { attends: false })
      const run = await pool.run(tool('act', { text: '1' }), there)
      const open = await peer.expectCall('OPEN_SESSION')
      peer.drop()
      if (restarted) await pool.crash()
      peer.answer(open, answer)
      peer.attends = true
      if (restarted) await pool.restart()
      await peer.connect()
      const again = await peer.expectCall('OPEN_SESSION')
      assert.notEqual(again.call_id, open.call_id)
      peer.answer(await peer.expectCall('act'))
      const r = await run.end()
      assert.equal(r.status, 'FINISHED', JSON.stringify(r))
    })

for (const restarted of [false, true])
  test(`a worker that comes back with a call of a run that another worker has is told to end it${restarted ? ', by a restarted server too' : ''}`, async t => {
    const pool = await bullpen(t, { config: '[pools]\nworker_loss_grace = 1\n' })
    const first = await Peer.connected(t, pool, { attends: false })
    const run = await pool.run('Nothing to do.', there)
    const open = await first.expectCall('OPEN_SESSION')
    first.drop()
    await until('the run is in the queue again', () => sql(pool, "SELECT state FROM requests")[0][0] === 'queued')
    const second = await Peer.connected(t, pool, { attends: false })
    const theirs = await second.expectCall('OPEN_SESSION')
    if (restarted) { await pool.crash(); await pool.restart(); await second.reconnect() }
    await first.connect()
    await until('its call is cancelled', () => first.cancelled.includes(open.call_id))
    first.answer(open, { outcome: 'ERROR', result: { message: 'cancelled', code: 'cancelled' } })
    await until('nobody waits for the result', () => first.acknowledged.has(open.call_id))
    second.attends = true
    second.answer(theirs, { result: sessionInfo() })
    assert.equal((await run.end()).status, 'FINISHED')
  })

test('a worker that comes back with a session whose claim has ended is told to close it', async t => {
  const pool = await bullpen(t, { config: '[pools]\nworker_loss_grace = 1\n' })
  const peer = await Peer.connected(t, pool)
  const run = await pool.run('Nothing to do.', there)
  assert.equal((await run.end()).status, 'FINISHED')
  peer.drop()
  await until('the claim has ended', () => sql(pool, 'SELECT COUNT(*) FROM claims')[0][0] === 0)
  await peer.connect()
  const close = await peer.expectCall('CLOSE_SESSION')
  assert.equal(close.claim_id, peer.calls[0].claim_id)
  assert.equal(close.agent_id, run.agentId)
  // One whose claim lives keeps its session.
  await (await pool.run('Nothing to do.', there)).end()
  const before = peer.calls.length
  await peer.reconnect()
  assert.equal((await (await pool.run('Nothing to do.', there)).end()).status, 'FINISHED')
  assert.ok(!peer.calls.slice(before).some(c => c.kind === 'CLOSE_SESSION'))
})

test('a publication that was cancelled while the connection was away is made again', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool)
  const run = await pool.run(tool('act', { text: '1' }), there)
  const act = await peer.expectCall('act')
  peer.attends = false
  peer.answer(act)
  const publish = await peer.expectCall('PUBLISH')
  peer.drop()
  peer.answer(publish, { outcome: 'ERROR', result: { message: 'cancelled', code: 'cancelled' } })
  peer.claimId = ''
  peer.attends = true
  await peer.connect()
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.deepEqual(peer.calls.map(c => c.kind), ['OPEN_SESSION', 'TOOL', 'PUBLISH', 'OPEN_SESSION', 'PUBLISH'])
})

test('a worker whose key was revoked is gone, even if it keeps its connection and reads nothing', async t => {
  const pool = await bullpen(t)
  const key = await pool.createKey('service_account', 'doomed')
  const workers = () => sql(pool, 'SELECT COUNT(*) FROM workers')[0][0]
  // Without a window the server cannot send the end of its response.
  const wire = new Wire(t, pool, { key, settings: { initialWindowSize: 0 } })
  wire.write(framed(encoded(aHello())))
  await until('it is connected', () => workers() === 1)
  const talk = setInterval(() => wire.write(framed(encoded({ heartbeat: { nonce: 1 } }))), 500)
  atEnd(t, () => clearInterval(talk))
  assert.equal((await runProgram(t, programs.bullpen, ['admin', 'key', 'revoke', '--data', pool.data, key])).code, 0)
  await until('it is gone', () => workers() === 0, 10)
  await until('its stream is cut', () => wire.closed, 20)
})

test('a workspace that was opened often is not given up while it is open', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool)
  const run = await pool.run(tool('act', { text: '1' }).repeat(20), there)
  const opened = new Set()
  for (let i = 1; i < 20; i++) { // the twentieth opening is the last that is allowed
    await peer.expectCall('act')
    for (const c of peer.calls) if (c.kind === 'OPEN_SESSION') opened.add(c.call_id)
    peer.drop()
    peer.becomeNewProcess()
    await peer.connect()
  }
  const act = await peer.expectCall('act')
  assert.equal(opened.size, 19)
  await pool.crash()
  await pool.restart()
  await peer.reconnect()
  peer.answer(act)
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
})

test('a call is not repeated when the connection was lost and resumed', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool)
  const run = await pool.run(tool('act', { text: '1' }) + tool('act', { text: '2' }), there)
  const first = await peer.expectCall('act')
  await peer.reconnect()
  assert.equal(peer.welcomes.at(-1).resumed, true)
  peer.answer(first)
  const second = await peer.expectCall('act')
  // This time the result is on its way when the connection goes.
  peer.drop()
  peer.answer(second, { result: { n: 2 } })
  await peer.connect()
  assert.equal(peer.welcomes.at(-1).resumed, true)
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.equal(peer.timesSeen(first.call_id), 1)
  assert.equal(peer.timesSeen(second.call_id), 1)
  const { completed } = checkEvents(await run.events())
  assert.equal(completed.size, 2)
  assert.deepEqual(completed.get(second.call_id).result, { success: { n: 2 } })
})

test('frames that the worker did not acknowledge come again after a resume, and only those', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool)
  peer.silent = true // acknowledges nothing but in its hello
  const run = await pool.run(tool('act', {}), there)
  const call = await peer.expectCall('act')
  // As if the call had been lost on the way.
  peer.received -= 1
  peer.calls.pop()
  peer.expected.delete(call.call_id)
  await peer.reconnect()
  const again = await peer.expectCall('act')
  assert.equal(again.call_id, call.call_id)
  peer.answer(again)
  assert.equal((await run.end()).status, 'FINISHED')
  assert.equal(peer.calls.filter(c => c.kind === 'OPEN_SESSION').length, 1)
})

test('a result that is sent again to a restarted server is taken once', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool)
  const run = await pool.run(tool('act', { text: '1' }) + tool('act', { text: '2' }), there)
  const first = await peer.expectCall('act')
  await pool.crash()
  await peer.ended()
  peer.answer(first, { result: { n: 1 } })
  await pool.restart()
  await peer.connect()
  assert.equal(peer.welcomes.at(-1).resumed, false)
  const second = await peer.expectCall('act')
  assert.notEqual(second.call_id, first.call_id)
  assert.ok(peer.acknowledged.has(first.call_id))
  // And once more, although it was acknowledged, with another content.
  peer.send({ result: { call_id: first.call_id, outcome: 'SUCCESS', result_json: '{"n":99}', model_text: '' } })
  peer.answer(second, { result: { n: 2 } })
  assert.equal((await run.end()).status, 'FINISHED')
  assert.equal(peer.timesSeen(first.call_id), 1, 'the call is not made again')
  const { completed } = checkEvents(await run.events())
  assert.deepEqual([...completed.values()].map(c => c.result), [{ success: { n: 1 } }, { success: { n: 2 } }])
})

test('two calls of one turn may be answered in any order', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool)
  const run = await pool.run(tool('echo', { text: 'a' }) + tool('echo', { text: 'b' }), there)
  const a = await peer.expectCall('echo'), b = await peer.expectCall('echo')
  assert.deepEqual([a, b].map(c => JSON.parse(c.arguments_json).text), ['a', 'b'])
  peer.answer(b, { result: { was: 'b' } })
  await until('the second result is stored', () => peer.acknowledged.has(b.call_id))
  assert.equal((await run.get()).status, 'RUNNING')
  peer.answer(a, { result: { was: 'a' } })
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.match(r.result, /^2 of 2/)
  const { completed } = checkEvents(await run.events())
  assert.deepEqual(completed.get(a.call_id).result, { success: { was: 'a' } })
  assert.deepEqual(completed.get(b.call_id).result, { success: { was: 'b' } })
})

test('a result that is no JSON object is an error to the model, and the run goes on', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool)
  const bad = ['', 'nonsense', '[1,2]', '{"a":', '{"a":1}{"b":2}', 'null']
  const run = await pool.run(bad.map(() => tool('act', {})).join('') + tool('act', { text: 'good' }), there)
  for (const json of bad) peer.answer(await peer.expectCall('act'), { json })
  peer.answer(await peer.expectCall('act'), { result: { fine: true } })
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.match(r.result, /^1 of 7/)
  const { completed } = checkEvents(await run.events())
  const results = [...completed.values()].map(c => c.result)
  for (const x of results.slice(0, -1)) assert.equal(x.error?.code, 'bad_result', JSON.stringify(x))
  assert.deepEqual(results.at(-1), { success: { fine: true } })
})

test('a session that cannot be opened ends the run with the reason the worker gave', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool, { attends: false })
  const run = await pool.run(tool('act', {}), there)
  peer.answer(await peer.expectCall('OPEN_SESSION'), { outcome: 'ERROR', result: { message: 'the disk is on fire', code: 'io' } })
  const r = await run.end()
  assert.equal(r.status, 'ERROR')
  assert.match(r.error.message, /the disk is on fire/)
})

test('nonsense on the wire ends that connection with a status and a reason, and nothing else', async t => {
  const pool = await bullpen(t)
  const other = await pool.worker()
  const log = path.join(pool.dir, 'log'), go = path.join(pool.dir, 'go')
  const run = await pool.run(sh(`echo began >> ${log}; until [ -e ${go} ]; do sleep 0.02; done`) + sh(`echo second >> ${log}`))
  await until('the other worker is at work', () => fs.existsSync(log))
  const wire = () => new Wire(t, pool)
  const result = (seq, call_id = 'nobody') => framed(encoded({ seq, result: { call_id, outcome: 'SUCCESS', result_json: '{}' } }))
  const nonsense = [
    ['bytes that are no protobuf instead of a hello', async () => wire().write(framed(Buffer.from('GET / HTTP/1.1\r\n\r\n'))), status.invalidArgument, /decoded|body/],
    ['bytes that are no protobuf after the welcome', async () => (await wire().welcomed()).write(framed(Buffer.alloc(40, 0xff))), status.invalidArgument, /decoded/],
    ['a frame before the hello', async () => wire().write(result(1)), status.invalidArgument, /handshake/],
    ['a hello without an incarnation', async () => wire().write(framed(encoded(aHello({ incarnation: '0' })))), status.invalidArgument, /incarnation/],
    ['a second hello', async () => (await wire().welcomed()).write(framed(encoded(aHello()))), status.invalidArgument, /handshake/],
    ['a gap in the numbers', async () => (await wire().welcomed()).write(result(1)).write(result(3)), status.invalidArgument, /left out/],
    ['a sequenced frame without a number', async () => (await wire().welcomed()).write(result(0)), status.invalidArgument, /number/],
    ['a numbered frame without a body', async () => (await wire().welcomed()).write(framed(encoded({ seq: 1 }))), status.invalidArgument, /body/],
    ['an acknowledgement of what was never sent', async () => (await wire().welcomed()).write(framed(encoded({ ack: 1000 }))), status.invalidArgument, /acknowledged/],
    ['an answer to a heartbeat that was never sent', async () => (await wire().welcomed()).write(framed(encoded({ heartbeat: { nonce: 77 } }))), status.invalidArgument, /heartbeat/],
    ['a length of 4 GiB', async () => wire().write(framed(Buffer.alloc(10), { length: 0xffffffff })), status.invalidArgument, /too large|size/],
    ['a hello of a megabyte', async () => wire().write(framed(encoded(aHello({ version: 'x'.repeat(1 << 20) })))), status.invalidArgument, /too large|size/],
    ['a length of 5 MiB after the welcome', async () => (await wire().welcomed()).write(framed(Buffer.alloc(10), { length: 5 << 20 })), status.invalidArgument, /too large|size/],
    ['the compressed flag', async () => wire().write(framed(encoded(aHello()), { flag: 1 })), status.invalidArgument, /compressed|gRPC message/],
    ['text that is not UTF-8', async () => (await wire().welcomed()).write(framed(Buffer.concat([encoded({ seq: 1 }), Buffer.from([0x32, 4, 0x0a, 2, 0xff, 0xfe])]))), status.invalidArgument, /./],
  ]
  for (const [what, begin, code, reason] of nonsense) {
    const end = await (await begin()).ended()
    assert.equal(end.status, code, `${what}: ${JSON.stringify(end)}`)
    assert.match(end.message, reason, what)
  }
  fs.writeFileSync(go, '')
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.equal(fs.readFileSync(log, 'utf8'), 'began\nsecond\n')
  assert.ok(other.alive)
  assert.ok(!/disconnected/.test(other.stderr), other.stderr)
})

test('a worker that floods the server is cut off with RESOURCE_EXHAUSTED while another works on', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const log = path.join(pool.dir, 'log'), go = path.join(pool.dir, 'go')
  const run = await pool.run(sh(`echo began >> ${log}; until [ -e ${go} ]; do sleep 0.02; done`))
  await until('the other worker is at work', () => fs.existsSync(log))
  const wire = await new Wire(t, pool).welcomed()
  const batch = n => Buffer.concat(Array.from({ length: 1000 }, (_, i) => framed(encoded({ seq: n * 1000 + i + 1, output: { call_id: 'nobody', stream: 1, data: Buffer.from('x') } }))))
  const batches = Array.from({ length: 30 }, (_, n) => batch(n))
  for (const b of batches) wire.write(b)
  const end = await wire.ended()
  assert.equal(end.status, status.resourceExhausted, JSON.stringify(end))
  assert.match(end.message, /messages in a second/)
  fs.writeFileSync(go, '')
  assert.equal((await run.end()).status, 'FINISHED')
})

test('a worker that never acknowledges is cut off, and its next connection begins anew', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool)
  peer.silent = true
  const big = tool('act', { text: 'x'.repeat(900_000) })
  let run = await pool.run(big, there)
  for (let sent = 0; peer.alive && sent < 20; sent++) {
    const call = await until('a call or the end', () => peer.end ?? peer.calls.find(c => c.kind === 'TOOL' && !peer.expected.has(c.call_id)))
    if (peer.end) break
    peer.expected.add(call.call_id)
    peer.answer(call)
    await until('the run ends', async () => peer.end || (await run.get()).status === 'FINISHED')
    if (!peer.end) run = await run.followUp(big)
  }
  const end = await peer.ended()
  assert.equal(end.code, status.resourceExhausted, JSON.stringify(end))
  assert.match(end.details, /acknowledge/)
  peer.silent = false
  await peer.connect()
  assert.equal(peer.welcomes.at(-1).resumed, false)
  const serve = until('the run ends', async () => {
    for (const c of peer.calls) if (c.kind === 'TOOL' && !peer.expected.has(c.call_id)) { peer.expected.add(c.call_id); peer.answer(c) }
    return (await run.get()).status === 'FINISHED'
  })
  await serve
  // Nothing was done twice, only what had not arrived was said again.
  for (const c of peer.calls) assert.equal(peer.timesSeen(c.call_id), 1, c.kind)
})

test('of the output of one call a megabyte is taken, in pieces of 64 KiB at most', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool)
  const run = await pool.run(tool('act', {}) + tool('act', { text: 'more' }), there)
  const call = await peer.expectCall('act')
  for (let i = 0; i < 4; i++) peer.say(call, `${i}`.repeat(700_000))
  peer.answer(call)
  const next = await peer.expectCall('act')
  peer.say(next, 'small\n')
  peer.answer(next)
  assert.equal((await run.end()).status, 'FINISHED')
  const pieces = (await run.events()).filter(e => e.event === 'interaction_update' && e.data.type === 'shell-output-delta').map(e => e.data.event.data)
  const said = pieces.join('')
  assert.ok(pieces.every(p => p.length <= 65536), `${pieces.map(p => p.length)}`)
  assert.equal(said.length, 1024 * 1024 + 'small\n'.length)
  assert.equal(said, '0'.repeat(700_000) + '1'.repeat(1024 * 1024 - 700_000) + 'small\n')
})

test('ids of more than 128 bytes are refused', async t => {
  const pool = await bullpen(t)
  const id = n => 'i'.repeat(n)
  const fine = await new Wire(t, pool).welcomed({ agent_id: id(128), calls: [{ call_id: id(128) }] })
  assert.equal(fine.trailers, undefined)
  for (const begin of [
    w => w.write(framed(encoded(aHello({ agent_id: id(129) })))), w => w.write(framed(encoded(aHello({ calls: [{ call_id: id(129) }] })))),
    async w => (await w.welcomed()).write(framed(encoded({ seq: 1, result: { call_id: id(129), outcome: 'SUCCESS', result_json: '{}' } }))),
  ]) {
    const end = await (await begin(new Wire(t, pool))).ended()
    assert.equal(end.status, status.invalidArgument, JSON.stringify(end))
    assert.match(end.message, /longer than 128/)
  }
})

test('a cancel right after a restart reaches the call that the worker kept', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool)
  const run = await pool.run(tool('act', {}), there)
  const call = await peer.expectCall('act')
  await pool.crash()
  await peer.ended()
  await pool.restart()
  await peer.connect()
  assert.equal(peer.welcomes.at(-1).resumed, false)
  await run.cancel()
  await until('the worker is told', () => peer.cancelled.includes(call.call_id))
})

test('of two workers with one id the second is refused while the first answers, and nothing of the first is disturbed', async t => {
  const pool = await bullpen(t)
  const first = await Peer.connected(t, pool, { workerId: 'twin' })
  const run = await pool.run(tool('act', {}), there)
  const call = await first.expectCall('act')
  const second = await Peer.connected(t, pool, { workerId: 'twin', hello: { pool: 'elsewhere' } })
  const end = await second.ended()
  assert.equal(end.code, status.failedPrecondition)
  assert.equal(second.refused.code, 'worker_connected')
  assert.equal(second.refused.fatal, false)
  assert.ok(Number(second.refused.retry_after_ms) > 0)
  first.answer(call)
  assert.equal((await run.end()).status, 'FINISHED')
  // The pool of the refused one was never there, and the first is still what it was.
  const r = await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, env: { type: 'pool', name: 'elsewhere' } } })
  assert.ok(r.status >= 400, r.text)
  const next = await pool.run(tool('act', {}), there)
  first.answer(await first.expectCall('act'))
  assert.equal((await next.end()).status, 'FINISHED')
  // When the first goes, nobody is there: a run waits and says so.
  first.drop()
  const waiting = await until('a run waits for a worker', async () => {
    const w = await pool.run(tool('act', {}), there)
    return (await w.get()).wait?.code === 'no_workers' && w
  })
  await first.connect()
  // Those that were started while the server had not noticed the loss come first.
  const serve = (async () => { while (first.alive && (await waiting.get()).status !== 'FINISHED') for (const c of first.calls) if (c.kind === 'TOOL' && !first.expected.has(c.call_id)) { first.expected.add(c.call_id); first.answer(c) } else await new Promise(r => setImmediate(r)) })()
  assert.equal((await waiting.end()).status, 'FINISHED')
  await serve
})

test('a frozen worker loses its id to a new process, and the run goes on there', async t => {
  const pool = await bullpen(t)
  const w = await pool.worker({ workerId: 'frozen' })
  const log = path.join(pool.dir, 'log')
  const run = await pool.run(sh(`echo began >> ${log}; sleep 600`) + sh(`echo second >> ${log}`))
  await until('the call runs', () => fs.existsSync(log))
  w.child.kill('SIGSTOP')
  atEnd(t, () => w.child.kill('SIGCONT'))
  const heir = await Peer.connected(t, pool, { workerId: 'frozen' })
  assert.equal(heir.refused, null)
  assert.equal(heir.welcomes.length, 1)
  heir.session = { tools: [{ name: 'run_terminal_cmd', class: 'execute', sdkType: 'shell' }] }
  const call = await heir.expectCall('run_terminal_cmd')
  assert.match(call.arguments_json, /second/, 'the call whose outcome is unknown is not repeated')
  heir.answer(call, { result: { exitCode: 0 } })
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  assert.match(r.result, /interrupted/)
  checkEvents(await run.events())
})

test('a worker that is going away gets nothing new and finishes what it has', async t => {
  const pool = await bullpen(t)
  const leaving = await Peer.connected(t, pool)
  const run = await pool.run(tool('act', {}) + tool('act', {}), there)
  const call = await leaving.expectCall('act')
  leaving.send({ going_away: { reason: 'maintenance' } })
  const later = await until('the server knows', async () => {
    const r = await pool.run(tool('act', {}), there)
    const w = (await r.get()).wait
    if (w && w.code !== 'starting') return r
    await r.cancel()
  })
  leaving.answer(call)
  leaving.answer(await leaving.expectCall('act'))
  assert.equal((await run.end()).status, 'FINISHED')
  assert.equal((await later.get()).status, 'CREATING')
  const staying = await Peer.connected(t, pool)
  staying.answer(await staying.expectCall('act'))
  assert.equal((await later.end()).status, 'FINISHED')
  assert.ok(!leaving.calls.some(c => c.run_id === later.id))
})

test('the worker path refuses HTTP/1.1 in words, and gRPC methods that do not exist', async t => {
  const pool = await bullpen(t)
  const answer = await new Promise((resolve, reject) => {
    const rq = http.request(pool.url + connectPath, { method: 'POST', headers: { 'content-type': 'application/grpc', authorization: `Bearer ${pool.poolKey}` } }, res => {
      let text = ''
      res.on('data', d => { text += d }).on('end', () => resolve({ status: res.statusCode, text }))
    })
    rq.on('error', reject).end('x')
  })
  assert.equal(answer.status, 400, JSON.stringify(answer))
  assert.match(JSON.parse(answer.text).error.message, /HTTP\/2/)
  const session = http2.connect(pool.url)
  atEnd(t, () => session.destroy())
  session.on('error', e => { throw new Error(`session: ${e}`) })
  const unknown = await new Promise((resolve, reject) => {
    const s = session.request({ ':method': 'POST', ':path': '/bullpen.worker.v1.WorkerLink/Nothing', 'content-type': 'application/grpc', te: 'trailers' })
    s.on('response', h => { resolve(h); s.close() }).on('error', reject)
    s.end()
  })
  assert.equal(unknown[':status'], 200)
  assert.equal(unknown['grpc-status'], '12')
})

test('a session that brings nonsense as tools does not fill the log', async t => {
  const pool = await bullpen(t)
  const peer = await Peer.connected(t, pool)
  peer.session = { tools: [{ name: 'extra', class: 'read' }, ...Array(5000).fill(7)] }
  const run = await pool.run(tool('extra', {}), there)
  peer.answer(await peer.expectCall('extra'))
  assert.equal((await run.end()).status, 'FINISHED')
  const lines = pool.server.stderr.split('\n').filter(l => l.includes('run.session_tool.left_out'))
  assert.equal(lines.length, 11, lines.slice(0, 20).join('\n'))
  assert.match(lines.at(-1), /more=4990/)
})
