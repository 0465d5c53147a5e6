// What a worker shows the control plane: its key exchanged for a token, a token as it is, a token in a file that somebody
// rotates; and what it does when it is refused.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, programs, run, tempDir, until } from './lib.mjs'
import { Plane, startWorker } from './plane.mjs'

const inAnHour = () => new Date(Date.now() + 3600_000).toISOString()
const token = (name, more = {}) => ({ status: 200, json: { accessToken: name, expiresAt: inAnHour(), keyType: 'service_account', ...more } })
const error = (status, code, message, headers) => ({ status, json: { error: { code, message } }, headers })
const seen = plane => plane.links.filter(l => l.hello).map(l => l.token)
// The worker ends with status 3 and this line.
async function refuses(w, line) {
  await w.exited
  assert.equal(w.code, 3, w.stderr)
  assert.match(w.stderr, line)
  assert.equal(w.stderr.match(/^error: /mg).length, 1)
}

test('an API key is exchanged before the worker connects, and never shown on the connection', async t => {
  let n = 0
  const plane = await Plane.start(t, { tokens: () => token(`token-${++n}`) })
  startWorker(t, plane)
  const link = await plane.link()
  assert.equal(link.token, 'token-1')
  const [q] = plane.requests
  assert.deepEqual([q.method, q.url, q.headers.authorization, q.headers['content-type'], q.body], ['POST', '/v0/worker-tokens', 'Bearer key', 'application/json', '{}'])
  // A token that lives long enough is shown again.
  link.stream.close()
  assert.equal((await plane.link(1)).token, 'token-1')
  assert.equal(n, 1)
})

test('a token with less than ten minutes left is exchanged anew', async t => {
  let n = 0
  const plane = await Plane.start(t, { tokens: () => token(`token-${++n}`, { expiresAt: new Date(Date.now() + 9 * 60_000).toISOString() }) })
  startWorker(t, plane)
  const link = await plane.link()
  link.stream.close()
  assert.equal((await plane.link(1)).token, 'token-2')
})

test('a refused token is exchanged anew once; refused again, the worker ends', async t => {
  let n = 0
  const plane = await Plane.start(t, { tokens: () => token(`token-${++n}`), refuse: (_, shown) => ['token-1', 'token-3', 'token-4'].includes(shown) && { code: 'unauthorized', message: 'this token is not known' } })
  const w = startWorker(t, plane)
  const link = await until('it is welcomed', () => plane.links.find(l => l.welcomed))
  assert.deepEqual(seen(plane), ['token-1', 'token-2'])
  // An accepted token is forgotten by a refusal as well: the next one may count.
  plane.refuse = () => ({ code: 'unauthorized', message: 'this token is not known' })
  link.stream.close()
  await refuses(w, /^error: this token is not known$/m)
  assert.deepEqual(seen(plane), ['token-1', 'token-2', 'token-2', 'token-3'])
})

test('a control plane without the exchange is shown the key', async t => {
  const plane = await Plane.start(t)
  startWorker(t, plane)
  assert.equal((await plane.link()).token, 'key')
})

test('keys of the wrong kind, unknown keys, and a control plane that cannot answer now', async t => {
  for (const [args, answer, line] of [
    [['--pool'], token('t', { keyType: 'user' }), /^error: pool workers need a service account API key$/m],
    [['--pool'], token('t', { keyType: 'team' }), /^error: pool workers need a service account API key$/m],
    [['--pool'], token('t', { keyType: 'user_scoped' }), /^error: user-scoped tokens cannot start pool workers; use a service account key$/m],
    [[], token('t'), /^error: service account keys only start pool workers; add --pool or use a personal credential$/m],
    [['--pool'], error(401, 'unauthorized', 'the key was revoked'), /^error: the key was revoked$/m],
    [['--pool'], error(403, 'scope_required', 'the key lacks workers:connect'), /^error: the key lacks workers:connect$/m],
  ]) {
    const plane = await Plane.start(t, { tokens: () => answer })
    await refuses(startWorker(t, plane, args), line)
    assert.equal(plane.links.length, 0)
  }
  for (const bad of [error(503, 'unavailable', 'later', { 'retry-after': '1' }), error(429, 'rate_limited', 'later'), { status: 200, json: { hello: 1 } }, { status: 404, json: { hello: 1 } }]) {
    let n = 0
    const plane = await Plane.start(t, { tokens: () => (++n === 1 ? bad : token('t')) })
    const w = startWorker(t, plane)
    assert.equal((await plane.link()).token, 't')
    assert.ok(w.alive)
  }
  const plane = await Plane.start(t, { tokens: () => token('mine', { keyType: 'user' }) })
  startWorker(t, plane, [])
  assert.equal((await plane.link()).token, 'mine')
})

test('--auth-token is shown as it is and cannot be renewed', async t => {
  const plane = await Plane.start(t, { tokens: () => token('never') })
  const w = startWorker(t, plane, ['--pool', '--auth-token', 'made-elsewhere'])
  const link = await plane.link()
  assert.equal(link.token, 'made-elsewhere')
  assert.equal(plane.requests.length, 0)
  assert.ok(!fs.readFileSync(`/proc/${w.pid}/cmdline`, 'latin1').includes('made-elsewhere'))
  plane.refuse = () => ({ code: 'unauthorized', message: 'it expired' })
  link.stream.close()
  await refuses(w, /^error: it expired$/m)
})

test('refusals that end a worker are printed with their code', async t => {
  for (const code of ['token_expired', 'claim_ended', 'key_revoked', 'wrong_worker', 'wrong_endpoint']) {
    const plane = await Plane.start(t, { refuse: () => ({ code, message: 'at 2026-05-09T13:30:00Z' }) })
    const dir = tempDir(t)
    fs.writeFileSync(path.join(dir, 'token'), 'session-token\n')
    const args = code === 'wrong_worker' ? ['--auth-token', 'session-token'] : ['--auth-token-file', path.join(dir, 'token')]
    await refuses(startWorker(t, plane, ['--pool', ...args], { dir }), new RegExp(`^error: ${code}: at 2026-05-09T13:30:00Z$`, 'm'))
    assert.equal(plane.links.length, 1)
  }
})

test('a token file is read before each connection: rotated through a link, by the same process', async t => {
  const plane = await Plane.start(t)
  const dir = tempDir(t), file = path.join(dir, 'token')
  fs.writeFileSync(path.join(dir, 'one'), '  token-1\n')
  fs.symlinkSync('one', file)
  const w = startWorker(t, plane, ['--pool', '--auth-token-file', file], { dir })
  const link = await plane.link()
  assert.equal(link.token, 'token-1')
  assert.equal(plane.requests.length, 0)
  fs.writeFileSync(path.join(dir, 'two'), 'token-2')
  fs.symlinkSync('two', path.join(dir, 'new'))
  fs.renameSync(path.join(dir, 'new'), file)
  link.stream.close()
  assert.equal((await plane.link(1)).token, 'token-2')
  assert.equal((await plane.link(1)).hello.incarnation, link.hello.incarnation)
  assert.ok(w.alive)
})

test('a token file may come later, be empty for a while, and be gone for a while', async t => {
  const plane = await Plane.start(t)
  const dir = tempDir(t), file = path.join(dir, 'token')
  const late = startWorker(t, plane, ['--pool', '--verbose', '--auth-token-file', file], { dir })
  await late.says(/workspacePaths/, 'stderr')
  fs.writeFileSync(file, '\n')
  fs.writeFileSync(`${file}.new`, 'at-last')
  fs.renameSync(`${file}.new`, file)
  const link = await plane.link()
  assert.equal(link.token, 'at-last')
  fs.rmSync(file)
  link.stream.close()
  await late.says(/worker\.disconnected reason="the token file \S+ cannot be read: No such file or directory"/, 'stderr')
  fs.writeFileSync(file, 'again')
  assert.equal((await plane.link(1)).token, 'again')
})

test('a refused token of a file: at once when it changed, with pauses when it did not', async t => {
  const plane = await Plane.start(t)
  const dir = tempDir(t), file = path.join(dir, 'token')
  fs.writeFileSync(file, 'old')
  plane.refuse = (_, shown) => shown === 'old' && { code: 'unauthorized', message: 'no' }
  const w = startWorker(t, plane, ['--pool', '--auth-token-file', file], { dir })
  await plane.link(1) // refused twice, and alive
  fs.writeFileSync(file, 'new')
  await until('it is welcomed', () => plane.links.find(l => l.welcomed && l.token === 'new'))
  // Expired: another one is in the file already.
  plane.refuse = (_, shown) => { if (shown !== 'new') return null; fs.writeFileSync(file, 'newest'); return { code: 'token_expired', message: 'at noon' } }
  plane.links.at(-1).stream.close()
  await until('it is welcomed', () => plane.links.find(l => l.welcomed && l.token === 'newest'))
  assert.match(w.stderr, /worker\.token\.renewed code=token_expired/)
  assert.ok(w.alive)
})

test('what cannot be a token ends the start when waiting for it is over', async t => {
  const plane = await Plane.start(t)
  const dir = tempDir(t)
  const w = startWorker(t, plane, ['--pool', '--auth-token-file', path.join(dir, 'never')], { dir })
  await until('it ends', () => !w.alive, 60)
  await refuses(w, /^error: the token file \S+\/never cannot be read: No such file or directory$/m)
})

test('neither key nor token is in the environment of what an agent runs', async t => {
  let n = 0
  const plane = await Plane.start(t, { tokens: () => token(`token-${++n}`) })
  startWorker(t, plane, ['--pool', '--isolation', 'none'], { env: { CURSOR_API_KEY: 'secret-key', CURSOR_AUTH_TOKEN: 'secret-token', MINE: 'secret-key', OTHER: 'kept' } })
  const link = await plane.link()
  await link.openSession()
  const r = await link.call('TOOL', { name: 'run_terminal_cmd', args: { command: 'env' } })
  assert.match(r.model_text + r.result_json, /OTHER=kept/)
  assert.doesNotMatch(r.model_text + r.result_json, /secret-|token-1/)
})

test('with the real control plane: an unknown key is status 3', async t => {
  const pool = await bullpen(t)
  const w = await pool.worker({ key: 'bp_nobody', ready: false })
  await refuses(w, /^error: /m)
})

test('with the real control plane: a key that is revoked while its worker is connected', async t => {
  const pool = await bullpen(t)
  const key = await pool.createKey('service_account', 'to-go')
  const w = await pool.worker({ key })
  const list = await run(t, programs.bullpen, ['admin', 'key', 'list', '--data', pool.data])
  const id = list.stdout.split('\n').find(l => l.includes('to-go')).split(/\s+/)[0]
  assert.equal((await run(t, programs.bullpen, ['admin', 'key', 'revoke', '--data', pool.data, id])).code, 0)
  // The token of an hour does not outlive its key.
  await pool.crash()
  await pool.restart()
  await refuses(w, /^error: .*(revoked|not known|unknown)/m)
})

test('with the real control plane: a user-scoped token is a token, no key, and starts no pool worker', async t => {
  const pool = await bullpen(t)
  const minter = await pool.createKey('service_account', 'minter', undefined, 'tokens:mint')
  const r = await pool.http('POST', '/v1/sub-tokens', { key: minter, body: { forUserEmail: 'dev@example.test' } })
  assert.equal(r.status, 200, r.text)
  const plane = { url: pool.url }
  await refuses(startWorker(t, plane, [], { env: { CURSOR_API_KEY: r.json.accessToken } }), /^error: .*give a token as --auth-token or --auth-token-file$/m)
  await refuses(startWorker(t, plane, ['--pool', '--auth-token', r.json.accessToken]), /^error: .*user-scoped tokens cannot start pool workers; use a service account key/m)
  const w = startWorker(t, plane, ['--auth-token', r.json.accessToken])
  await w.says(/^Run agents: /m)
})
