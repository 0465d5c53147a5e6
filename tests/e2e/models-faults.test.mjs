// Whatever a model server does wrong, the run ends: with the answer after all, or with a sentence that says what to do.
import { describe, it as test } from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, until } from './lib.mjs'
import { modelServer, provider } from './models-help.mjs'
import { openai, anthropic } from '../model-server/wire.mjs'

const answer = { text: 'Let me see: ä€😀.', calls: [{ name: 'read_file', arguments: { path: 'README.md' } }] }
const formats = { openai, anthropic }

// One server and worker for many faults: each is a run of its own.
async function bench(t, type, more = 'retries = 2', model = '') {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, type, { more, model }) })
  await pool.worker()
  return { m, pool, ask: async (...replies) => { m.next(...replies); const r = await pool.run('Go'); const end = await r.end(); m.queue.length = 0; return { ...end, run: r } } }
}
const finished = r => assert.equal(r.status, 'FINISHED', JSON.stringify(r))
function failed(r, pattern) {
  assert.equal(r.status, 'ERROR', JSON.stringify(r))
  assert.match(JSON.stringify(r), pattern)
}

// Most of the time is spent in pauses between tries.
for (const type of ['openai', 'anthropic']) describe(type, { concurrency: 4 }, () => {
  test(`${type}: a stream that breaks off is asked for again, wherever it breaks`, async t => {
    const { m, ask } = await bench(t, type)
    const length = Buffer.byteLength(formats[type].stream(answer, { model: 'clever-1', stream_options: { include_usage: true } }))
    // The answer is whole from its reason to stop on.
    const all = formats[type].stream(answer, { model: 'clever-1', stream_options: { include_usage: true } })
    const whole = Buffer.byteLength(all.slice(0, all.search(/"(finish_reason":"tool_calls|stop_reason":"tool_use)/)))
    for (const [i, part] of [0, 0.1, 0.3, 0.5, 0.7, 0.9].entries()) {
      const before = m.requests.length
      const r = await ask({ answer, cutAt: Math.floor(whole * part), how: ['cut', 'reset', 'end'][i % 3] }, { answer })
      finished(r)
      assert.equal(m.requests.length - before, 3, `cut at ${part}`)
      const sent = m.requests.at(-1).body.messages
      assert.equal(JSON.stringify(sent).split('Let me see').length, 2, 'what was said is told once')
    }
    const before = m.requests.length
    finished(await ask({ answer, cutAt: length - 3 }))
    assert.equal(m.requests.length - before, 2, 'what was whole is not asked for again')
  })

  test(`${type}: what passes by itself is waited for`, async t => {
    const { m, ask } = await bench(t, type)
    for (const reply of [
      { status: 429, headers: { 'retry-after': '0' } },
      { status: 503, raw: '<html>Service Unavailable</html>', type: 'text/html' },
      { status: 529, message: 'Overloaded' },
      { raw: '<html>We will be back</html>', type: 'text/html' },
      { raw: '' },
      { raw: '{"error":{"type":"overloaded_error","message":"busy"}}', type: 'application/json' },
      { raw: type === 'openai' ? 'data: {"error":{"message":"worker died","code":500}}\n\n' : 'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n' },
      { answer: { text: '' } },
      { answer, mangle: s => s.replace(/\n\ndata: \{|\n\nevent/, '\n\ndata: {{{\n\n$&') },
    ]) {
      const before = m.requests.length
      finished(await ask(reply))
      assert.equal(m.requests.length - before, 2, JSON.stringify(reply))
    }
  })

  test(`${type}: forms that are odd but whole are taken at once`, async t => {
    const { m, ask } = await bench(t, type)
    for (const reply of [
      { answer, split: 1 },
      { answer, type: 'text/plain' },
      { answer, close: true },
      { answer, mangle: s => s.replaceAll('\n', '\r\n') },
      { answer, mangle: s => s.replaceAll('\n\n', '\n\n: keep-alive\n\n') },
      { answer, mangle: s => s.replace(/data: \[DONE\]\n\n|event: message_stop[^]*/, '') },
      { answer, mangle: s => s.trimEnd() },
      { answer: { ...answer, text: 'x'.repeat(300_000).match(/[^]{1,150000}/g) } },
      { answer, stallAt: 1e9 },
      { answer, mangle: s => s.replace(/(finish_reason":"tool_calls|stop_reason":"tool_use)[^]*?\n\n/, '$&data: {{{\n\n') },
    ]) {
      const before = m.requests.length
      finished(await ask(reply))
      assert.equal(m.requests.length - before, 2, JSON.stringify(reply))
    }
  })

  test(`${type}: what a person must mend ends the run at once and says how`, async t => {
    const { m, ask } = await bench(t, type)
    for (const [reply, pattern] of [
      [{ status: 401, message: 'invalid key' }, /answered 401: invalid key: check api_key_file of provider 'stand-in'/],
      [{ status: 403, message: 'not for you' }, /answered 403: not for you: check api_key_file of provider 'stand-in'/],
      [{ status: 404, message: 'no such model' }, /answered 404: no such model: check base_url of provider 'stand-in' and that it has a model 'clever-1'/],
      [{ status: 400, message: "Unrecognized request argument supplied: stream_options" }, /set stream_usage = false for provider 'stand-in'/],
      [{ status: 302, headers: { location: 'http://127.0.0.1:1/' } }, /redirects, which is not followed: correct base_url/],
    ]) {
      const before = m.requests.length
      failed(await ask(reply), pattern)
      assert.equal(m.requests.length - before, 1, JSON.stringify(reply))
    }
  })

  test(`${type}: what does not pass ends the run after the tries of the settings`, async t => {
    const { m, ask } = await bench(t, type, 'retries = 1')
    for (const [reply, pattern] of [
      [{ status: 500, message: 'broken' }, /answered 500: broken \(asked 2 times in \d+ s\): look at that server/],
      [{ status: 429, message: 'slow down' }, /answered 429: slow down \(asked 2 times in \d+ s\): wait, or ask for a higher limit/],
      [{ raw: '<html>', type: 'text/html' }, /answered with an HTML page \(content type text\/html\) instead of a message/],
      [{ answer: { text: ' \n' } }, /gave an empty answer/],
      [{ answer, cutAt: 50, how: 'reset' }, /127\.0\.0\.1:\d+\/?v?1? (broke off its answer|gave no answer)/],
      [{ raw: 'nothing of the kind\n', type: 'text/plain' }, /ended its answer in the middle/],
    ]) {
      const before = m.requests.length
      failed(await ask(reply, reply), pattern)
      assert.equal(m.requests.length - before, 2, JSON.stringify(reply))
    }
  })

  test(`${type}: a stall ends the try, and cancelling ends a stall`, async t => {
    const { m, pool, ask } = await bench(t, type, 'retries = 1\nstall_timeout = 1')
    finished(await ask({ answer, stallAt: 200 }, { answer }))
    failed(await ask({ answer, stallAt: 0 }, { answer, stallAt: 200 }), /nothing was received from 127\.0\.0\.1:\d+ for 1000 ms \(asked 2 times/)
  })

  test(`${type}: cancelling ends a run whose model says nothing more, or is waited for`, async t => {
    const { m, pool } = await bench(t, type)
    m.next({ answer, stallAt: 150 })
    const stalled = await pool.run('Go')
    await until('the model stalls', () => m.stalled === 1)
    await stalled.cancel()
    await stalled.status('CANCELLED')
    m.next({ status: 429, headers: { 'retry-after': '50' } })
    const waiting = await pool.run('Go')
    await until('the model was asked', () => m.requests.length === 2)
    await waiting.cancel()
    await waiting.status('CANCELLED')
  })

  test(`${type}: a model server that is killed in the middle and comes back loses nothing`, async t => {
    let m = await modelServer(t)
    const pool = await bullpen(t, { config: provider(m, type) })
    await pool.worker()
    m.next({ answer, stallAt: 300 })
    const r = await pool.run('Go')
    await until('the model is in the middle', () => m.stalled === 1)
    await m.kill()
    m = await modelServer(t, { port: m.port })
    m.next({ answer })
    finished(await r.end())
    assert.equal(m.requests.length, 2)
    // Connections that were kept are gone with it.
    m.dropIdle()
    finished(await (await pool.run('Again')).end())
  })

  test(`${type}: calls that cannot be understood go back to the model`, async t => {
    const { m, ask } = await bench(t, type)
    const bad = args => ({ answer: { text: 'x', calls: [{ name: 'read_file', arguments: args }] } })
    for (const reply of [bad('{"path":'), bad('[1]'), bad('{"path":"README.md"} and more'), { answer: { ...bad('{"path":"RE').answer, stop: type === 'openai' ? 'length' : 'max_tokens' } },
      { answer: { text: 'x', calls: [{ name: 'no_such_tool', arguments: {} }] } }]) {
      const before = m.requests.length
      finished(await ask(reply))
      assert.equal(m.requests.length - before, 2)
      assert.equal(m.requests.at(-1).refused, null)
    }
  })

  test(`${type}: an endless answer is cut off`, async t => {
    const { ask } = await bench(t, type)
    failed(await ask({ raw: 'data: ' + 'x'.repeat(9 << 20) }), /sent an event of more than \d+ bytes|answered with more than/)
  })
})

test('nobody there: the run says where it asked', async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'openai', { more: 'retries = 1' }) })
  await pool.worker()
  await m.kill()
  failed(await (await pool.run('Go')).end(), /cannot connect to 127\.0\.0\.1:\d+: Connection refused.* \(asked 2 times in \d+ s\): look at that server/)
})

test('a key that a server repeats does not get out', async t => {
  const m = await modelServer(t, { key: 'another' })
  const pool = await bullpen(t, { config: provider(m, 'openai', { more: 'api_key_env = "MODEL_KEY"' }), start: false })
  await pool.start({ env: { MODEL_KEY: 'sk-very-secret' } })
  await pool.worker()
  const r = await (await pool.run('Go')).end()
  failed(r, /Incorrect API key provided: \*{14}\..*: check the environment variable MODEL_KEY of provider 'stand-in'/)
  assert.ok(!(JSON.stringify(r) + pool.server.stderr).includes('sk-very-secret'))
})
