// The stream of a run: order, ids, replay, resuming, readers.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, sh, file, tool, atEnd, until, checkEvents, Run } from './lib.mjs'
import { isError, h2, gate, UUID } from './api-help.mjs'

const ids = events => events.map(e => e.id).filter(Boolean)
const head = async run => { const s = await run.stream(); await s.until('a first frame', () => true); return s }

test('the first frame is the status without an id; then events with ids, twins, result and done', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const run = await pool.run(file('a.txt', 'A') + sh('echo hi'))
  const end = await run.end()
  const s = await run.stream()
  const events = await s.all()
  assert.equal(s.response.headers.get('content-type').split(';')[0], 'text/event-stream')
  assert.equal(s.response.headers.get('x-cursor-stream-retention-seconds'), '86400')
  assert.equal(s.response.headers.get('cache-control'), 'no-cache')
  assert.equal(s.response.headers.get('x-accel-buffering'), 'no')
  assert.equal(s.response.headers.get('content-encoding'), null)
  assert.match(s.response.headers.get('x-request-id'), UUID)
  // The frames, to the byte.
  assert.ok(!s.text.includes('\r'))
  for (const f of s.text.trimEnd().split('\n\n')) assert.match(f, /^(id: \d+-\d+\n)?event: [a-z_]+\ndata: \{.*\}$/)
  assert.deepEqual(events[0], { event: 'status', data: { runId: run.id, status: 'FINISHED' } })
  assert.equal(events.filter(e => e.event === 'status').length, 1, 'a status that does not change is not said again')
  checkEvents(events)
  const known = new Set(['status', 'assistant', 'thinking', 'tool_call', 'interaction_update', 'result', 'done', 'heartbeat'])
  for (const e of events) assert.ok(known.has(e.event), e.event)
  const kinds = events.map(e => e.event)
  assert.deepEqual(kinds.slice(-2), ['result', 'done'])
  const [result, done] = events.slice(-2)
  assert.equal(result.id, done.id)
  assert.deepEqual(done.data, {})
  assert.deepEqual(result.data, { runId: run.id, status: 'FINISHED', text: end.result, durationMs: end.durationMs, git: end.git })
  assert.equal(events.filter(e => e.event === 'assistant').map(e => e.data.text).join(''), end.result, 'the deltas are the result')
  // Each simplified event has a twin right behind it, with its id.
  for (const [i, e] of events.entries()) {
    if (!['assistant', 'tool_call'].includes(e.event)) continue
    const twin = events[i + 1]
    assert.deepEqual([twin.event, twin.id], ['interaction_update', e.id])
    if (e.event === 'assistant') assert.deepEqual(twin.data, { type: 'text-delta', text: e.data.text })
    else assert.equal(twin.data.callId, e.data.callId)
  }
  const calls = events.filter(e => e.event === 'tool_call').map(e => e.data)
  assert.deepEqual(calls.map(c => [c.name, c.status]), [['write_file', 'running'], ['write_file', 'completed'], ['run_terminal_cmd', 'running'], ['run_terminal_cmd', 'completed']])
  assert.deepEqual(calls[2].args, { command: 'echo hi' })
  assert.equal(calls[3].result.success.exitCode, 0)
  const updates = events.filter(e => e.event === 'interaction_update').map(e => e.data.type)
  assert.equal(updates.filter(u => u === 'user-message-appended').length, 1)
  assert.equal(updates.filter(u => u === 'step-started').length, updates.filter(u => u === 'step-completed').length, 'each step that began has ended')
  assert.equal(updates.filter(u => u === 'turn-ended').length, 1)
})

test('a replay is the same, byte for byte, also after a restart', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const run = await pool.run(file('a.txt', 'A') + sh('seq 1 2000') + tool('read_file', { path: 'a.txt' }))
  const live = await run.stream()
  await live.all()
  const replay = async () => { const s = await run.stream(); await s.all(); return s.text }
  const first = await replay()
  for (let i = 0; i < 3; i++) assert.equal(await replay(), first)
  const stored = text => text.split('\n\n').filter(f => f.startsWith('id: ')).join('\n\n')
  assert.equal(stored(live.text), stored(first), 'live and replay are the same events')
  await pool.crash()
  await pool.restart()
  assert.equal(await replay(), first)
  assert.equal(await pool.stop().then(r => r.code), 0)
})

test('resuming after each id gives exactly what comes after it', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const run = await pool.run(file('a.txt', 'A') + sh('echo 1; echo 2 >&2'))
  await run.end()
  const all = await run.events()
  const issued = [...new Set(ids(all))]
  assert.ok(issued.length > 8)
  for (const id of issued) {
    const events = await run.events({ lastEventId: id })
    const rest = all.slice(all.findLastIndex(e => e.id === id) + 1)
    const wanted = id === issued.at(-1) ? [all[0], all.at(-1)] : [all[0], ...rest]
    assert.deepEqual(events, wanted, `after ${id}`)
  }
  assert.deepEqual(await run.events({ lastEventId: '' }), all, 'an empty header is none')
})

test('a Last-Event-ID that this run never gave out is refused', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const run = await pool.run(sh('true')), other = await pool.run(sh('true'))
  await run.end()
  await other.end()
  const foreign = ids(await other.events()), own = ids(await run.events())
  const bad = ['x', '0', '-', '1-', '-1', '1-0', `${own[0]}0`, `${own[0]} x`, ` ${own[0].replace('-', ' -')}`, '99999999999999999999-0', `${own[0].split('-')[0]}-99`, 'a'.repeat(1000), ...foreign.filter(id => !own.includes(id)).slice(0, 3)]
  for (const lastEventId of bad) {
    const s = await run.stream({ lastEventId })
    assert.equal(s.status, 400, lastEventId)
    assert.equal(s.body.error.code, 'invalid_last_event_id')
  }
})

test('a reader that comes early is held: the status, why it waits, then everything', async t => {
  const pool = await bullpen(t)
  const run = await pool.run(file('a.txt', 'A'))
  const s = await head(run)
  assert.deepEqual(s.events[0], { event: 'status', data: { runId: run.id, status: 'CREATING', message: 'no worker is connected to pool default' } })
  await pool.worker()
  const events = await s.all()
  const statuses = events.filter(e => e.event === 'status').map(e => e.data.status)
  assert.deepEqual([...new Set(statuses)], ['CREATING', 'RUNNING', 'FINISHED'])
  assert.deepEqual(statuses.slice(-1), ['FINISHED'])
  assert.ok(events.findIndex(e => e.data.status === 'RUNNING') < events.findIndex(e => e.event === 'tool_call'))
  assert.deepEqual(events.slice(-3).map(e => e.event), ['status', 'result', 'done'])
  checkEvents(events)
})

test('output of a command is seen while it runs', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const g = gate(pool, fs, path)
  const run = await pool.run(sh(`echo first; echo oops >&2; ${g.command}; echo last`))
  const s = await run.stream()
  const delta = text => e => e.data.type === 'shell-output-delta' && e.data.event.data.includes(text)
  const first = await s.until('the first line', delta('first'))
  const err = await s.until('the error line', delta('oops'))
  assert.equal(first.data.event.stream, 'stdout')
  assert.equal(err.data.event.stream, 'stderr')
  assert.ok(first.id)
  assert.ok(!s.events.some(delta('last')))
  g.go()
  await s.all()
  const call = s.events.find(e => e.event === 'tool_call' && e.data.status === 'completed')
  assert.equal(first.data.event.callId, call.data.callId)
  assert.equal(call.data.result.success.stdout, 'first\nlast\n')
  assert.equal(s.events.filter(e => e.data.type === 'shell-output-delta' && e.data.event.stream === 'stdout').map(e => e.data.event.data).join(''), 'first\nlast\n')
})

test('large arguments and results are left out of the stream and flagged', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const run = await pool.run(tool('write_file', { path: 'a.txt', fileText: 'x'.repeat(100000) }) + tool('read_file', { path: 'a.txt' }))
  assert.equal((await run.end()).status, 'FINISHED')
  const [w, , r, rEnd] = (await run.events()).filter(e => e.event === 'tool_call').map(e => e.data)
  assert.deepEqual([w.truncated, 'args' in w], [{ args: true }, false])
  assert.deepEqual(r.args, { path: 'a.txt' })
  if (rEnd.truncated) assert.deepEqual([rEnd.truncated, 'result' in rEnd], [{ result: true }, false])
})

test('many readers at once see the same; one that does not read holds up nobody', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const g = gate(pool, fs, path)
  const run = await pool.run(sh(g.command) + sh('head -c 3000000 /dev/zero | tr "\\0" x | fold -w 100') + file('a', 'b'))
  const lazy = await fetch(`${pool.url}${run.path}/stream`, { headers: { authorization: `Bearer ${pool.userKey}` } }) // its body is not read yet
  const streams = await Promise.all(Array.from({ length: 20 }, () => run.stream()))
  await until('the call runs', g.reached)
  streams[0].close() // one leaves early
  g.go()
  assert.equal((await run.end()).status, 'FINISHED')
  const texts = await Promise.all(streams.slice(1).map(async s => { await s.all(); return JSON.stringify(s.events.filter(e => e.id)) }))
  assert.equal(new Set(texts).size, 1)
  const late = await run.events()
  assert.equal(JSON.stringify(late.filter(e => e.id)), texts[0])
  assert.match(await lazy.text(), /event: done\ndata: \{\}\n\n$/, 'it may still read to the end')
})

test('more readers than a run may have: 429, and the others go on', async t => {
  const pool = await bullpen(t)
  const run = await pool.run('x')
  const c = h2(t, pool.url, pool.userKey), d = h2(t, pool.url, pool.userKey)
  const open = s => new Promise((resolve, reject) => {
    const x = s.open('GET', `${run.path}/stream`)
    x.on('response', h => resolve({ x, status: h[':status'] })).on('error', reject)
    x.on('data', () => {})
  })
  const first = await Promise.all(Array.from({ length: 64 }, (_, i) => open(i % 2 ? c : d)))
  assert.ok(first.every(s => s.status === 200))
  const r = await c.request('GET', `${run.path}/stream`)
  isError(r, 429, 'rate_limit_exceeded')
  first[0].x.close()
  await until('a place is free', async () => { const s = await open(d); s.x.close(); return s.status === 200 })
  await run.cancel()
})

test('more streams than a principal may have: 429, until one is closed; others are not concerned', async t => {
  const pool = await bullpen(t, { config: '[limits]\nreads_per_minute = 0\nmutations_per_minute = 0\nmax_streams_per_principal = 2\n' })
  const runs = await Promise.all(['x', 'y', 'z'].map(text => pool.run(text)))
  const open = async (run, key = pool.userKey) => {
    const away = new AbortController()
    atEnd(t, () => away.abort())
    const r = await fetch(`${pool.url}${run.path}/stream`, { headers: { authorization: `Bearer ${key}` }, signal: away.signal })
    return { status: r.status, r, away }
  }
  const first = await open(runs[0]), second = await open(runs[1])
  assert.deepEqual([first.status, second.status], [200, 200])
  const third = await open(runs[2])
  assert.equal(third.status, 429)
  assert.ok(Number(third.r.headers.get('retry-after')) > 0)
  assert.equal((await third.r.json()).error.code, 'rate_limit_exceeded')
  const team = await pool.createKey('service_account', 'fleet', null, 'agents:read,agents:team')
  assert.equal((await open(runs[2], team)).status, 200, 'another principal has its own')
  first.away.abort()
  await until('a place is free', async () => { const s = await open(runs[2]); s.away.abort(); return s.status === 200 })
  // Streams that end by themselves give their place back too.
  await runs[1].cancel()
  await second.r.text()
  await until('two places are free', async () => { const a = await open(runs[0]), b = await open(runs[2]); a.away.abort(); b.away.abort(); return a.status === 200 && b.status === 200 })
})

test('over HTTP/2 a stream has the same events', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const run = await pool.run(file('a', 'b') + sh('seq 1 5000'))
  const c = h2(t, pool.url, pool.userKey)
  const s = c.open('GET', `${run.path}/stream`)
  let text = '', headers
  s.setEncoding('utf8').on('response', h => { headers = h }).on('data', d => { text += d })
  await until('the stream ends', () => s.destroyed || s.readableEnded)
  assert.equal(headers[':status'], 200)
  assert.equal(headers['content-type'], 'text/event-stream')
  const one = await run.stream()
  await one.all()
  const stored = x => x.split('\n\n').filter(f => f.startsWith('id: '))
  assert.deepEqual(stored(text), stored(one.text))
  assert.match(text, /event: done\ndata: \{\}\n\n$/)
})

test('after the retention: 410, and the run itself still tells', async t => {
  const pool = await bullpen(t, { config: '[runs]\nstream_retention = 1\n' })
  const waits = await pool.run('x')
  const early = await head(waits)
  assert.equal(early.response.headers.get('x-cursor-stream-retention-seconds'), '1')
  await pool.worker()
  const end = await waits.end()
  const { response, body } = await until('it has expired', async () => {
    const s = await waits.stream()
    if (s.status === 200) s.close()
    return s.status === 410 && s
  })
  assert.equal(body.error.code, 'stream_expired')
  assert.equal(response.headers.get('x-cursor-stream-retention-seconds'), null)
  assert.deepEqual((await waits.get()).result, end.result)
  assert.deepEqual((await early.all()).at(-1).event, 'done', 'who was there in time heard all')
  const s = await waits.stream({ lastEventId: 'nonsense' })
  assert.equal(s.status, 410, 'also with a Last-Event-ID')
})

test('a long silence is filled with heartbeats', { timeout: 60000 }, async t => {
  const pool = await bullpen(t)
  const run = await pool.run('x')
  const s = await head(run)
  const began = Date.now()
  const beat = await s.until('a heartbeat', e => e.event === 'heartbeat', 20)
  assert.deepEqual(beat, { event: 'heartbeat', data: {} })
  assert.ok(Date.now() - began > 10000, 'not before there was a silence')
  s.close()
})
