// Where hooks come from: a team, a machine, flags, a person's home; and that a session cannot change them.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { sh, until, Proc, programs, run as runProgram } from './lib.mjs'
import { hooked, record, say, finished } from './hooks-help.mjs'

const gate = '#!/bin/sh\ngrep -q forbidden && { echo "not in this team" >&2; exit 2; }\nexit 0\n'
const admin = pool => pool.createKey('user', 'admin', 'admin@example.test', 'hooks:write')
const put = async (pool, body) => {
  const r = await pool.http('PUT', '/v1/hooks', { key: pool.adminKey ??= await admin(pool), body })
  assert.equal(r.status, 200, r.text)
  return r.json.hash
}

test('a session cannot change the scripts of its team or of its machine', async t => {
  const pool = await hooked(t, null, { prepare: pool => {
    pool.machine = path.join(pool.dir, 'etc')
    fs.mkdirSync(pool.machine)
    fs.writeFileSync(path.join(pool.machine, 'own.sh'), '#!/bin/sh\ngrep -q secret && exit 2\nexit 0\n', { mode: 0o755 })
    fs.writeFileSync(path.join(pool.machine, 'hooks.json'), JSON.stringify({ hooks: { preToolUse: [{ matcher: 'Shell', command: './own.sh' }] } }))
    return { CURSOR_ENTERPRISE_HOOKS_DIR: pool.machine }
  } })
  const hash = await put(pool, { hooks: { preToolUse: [{ matcher: 'Shell', command: './gate.sh' }] }, files: { 'gate.sh': gate } })
  const team = path.join(pool.w.data, 'hooks', hash)
  const { calls } = await finished(pool, sh('echo forbidden') + [`${team}/gate.sh`, `${team}/hooks.json`, `${team}.json`, `${pool.machine}/own.sh`].map(f => sh(`echo "exit 0" > ${f}`) + sh(`rm -f ${f}`) + sh(`mv ${f} ${f}.away`)).join('') +
    sh(`mv ${pool.w.data}/hooks ${pool.w.data}/other`) + sh('echo forbidden') + sh('echo secret'))
  const [first, ...tries] = calls
  const last = tries.splice(-2)
  for (const c of [first, ...last]) assert.match(JSON.stringify(c.result), /hook_denied/)
  assert.equal(tries.length, 13)
  for (const c of tries) assert.match(c.result.success.stderr, /Read-only file system|Device or resource busy/, JSON.stringify(c))
  assert.equal(fs.readFileSync(path.join(team, 'gate.sh'), 'utf8'), gate)
})

test('a worker that was started again knows a team\'s hooks by their hash; spoiled, it asks for them', async t => {
  const pool = await hooked(t, null, {})
  const hash = await put(pool, { hooks: { preToolUse: [{ matcher: 'Shell', command: './gate.sh' }] }, files: { 'gate.sh': gate } })
  const denied = async () => assert.match(JSON.stringify((await finished(pool, sh('echo forbidden'))).calls[0].result), /not in this team/)
  await denied()
  const file = path.join(pool.w.data, 'hooks', `${hash}.json`)
  const before = fs.statSync(file)
  await pool.w.kill()
  // What was beside it is made again from what has the hash.
  fs.rmSync(path.join(pool.w.data, 'hooks', hash), { recursive: true })
  let w = await pool.w.again()
  await denied()
  assert.equal(fs.statSync(file).ino, before.ino, 'it was not sent again')
  await w.kill()
  fs.rmSync(file)
  fs.writeFileSync(file, '{"hooks":{}}')
  w = await w.again()
  await denied()
  assert.notEqual(fs.readFileSync(file, 'utf8'), '{"hooks":{}}')
})

test('an entry of a team may be for one operating system', async t => {
  const pool = await hooked(t, null, {})
  const entry = (os, word) => ({ os, ...say({ permission: 'deny', user_message: word }) })
  await put(pool, { hooks: { preToolUse: [entry('linux', 'for linux'), entry('windows', 'for windows'), entry(['macos', 'linux'], 'for two'), entry(['macos', 'windows'], 'for others')] } })
  const said = JSON.stringify((await finished(pool, sh('echo hi'))).calls[0].result)
  assert.match(said, /for linux.*for two/)
  assert.doesNotMatch(said, /for windows|for others/)
  for (const os of ['plan9', 7, [], ['linux', 7], {}]) {
    const r = await pool.http('PUT', '/v1/hooks', { key: pool.adminKey, body: { hooks: { stop: [{ command: 'x', os }] } } })
    assert.equal(r.status, 400)
    assert.match(r.json.error.message, /hooks\.stop\[0\]\.os must be "linux", "macos" or "windows"/)
  }
})

test('--on-session-end runs after the hooks of files, of pool workers only', async t => {
  const pool = await hooked(t, log => ({ sessionEnd: [record(log)] }), { worker: null })
  pool.w = await pool.worker({ args: ['--on-session-end', `{ cat | sed 's/sessionEnd/flag/'; echo; } >> ${pool.log}`] })
  const { run } = await finished(pool, sh('echo hi'))
  assert.equal((await pool.http('DELETE', `/v1/agents/${run.agentId}`)).status, 200)
  await until('both ran', () => pool.seen().length === 2)
  assert.deepEqual(pool.seen().map(e => [e.hook_event_name, e.reason]), [['sessionEnd', 'user_close'], ['flag', 'user_close']])
  const p = new Proc(t, programs.agent, ['worker', 'start', '--on-session-end', 'true', '--worker-dir', pool.w.work, '--endpoint', pool.url], { env: { CURSOR_API_KEY: pool.userKey } })
  await p.exited
  assert.equal(p.code, 2)
  assert.match(p.stderr, /--on-session-end.*--pool/)
})

test('the hooks of a person\'s home run on their machine, from ~/.cursor, and never for a pool', async t => {
  const pool = await hooked(t, null, { worker: null })
  const home = path.join(pool.dir, 'home')
  fs.mkdirSync(path.join(home, '.cursor'), { recursive: true })
  fs.writeFileSync(path.join(home, '.cursor', 'gate.sh'), '#!/bin/sh\necho "from $PWD" >&2\nexit 2\n', { mode: 0o755 })
  fs.writeFileSync(path.join(home, '.cursor', 'hooks.json'), JSON.stringify({ version: 1, hooks: { beforeShellExecution: [{ command: './gate.sh' }] } }))
  const w = await pool.worker({ env: { HOME: home } })
  assert.ok((await finished(pool, sh('echo hi'))).calls[0].result.success)
  await w.kill()
  const origin = await pool.origin()
  const work = await origin.clone(path.join(pool.dir, 'mine'))
  const machine = new Proc(t, programs.agent, ['worker', 'start', '--name', 'box', '--worker-dir', work, '--endpoint', pool.url, '--data-dir', path.join(pool.dir, 'mine-data')], { env: { CURSOR_API_KEY: pool.userKey, HOME: home } })
  await machine.says(/^Worker is now running$/m)
  const { calls } = await finished(pool, sh('echo hi'), { extra: { env: { type: 'machine', name: 'box' } } })
  assert.match(JSON.stringify(calls[0].result), new RegExp(`from ${home}/.cursor`))
})

test('agent worker debug shows the hooks of a folder and what is wrong with them', async t => {
  const pool = await hooked(t, null, { worker: null })
  const work = path.join(pool.dir, 'folder'), machine = path.join(pool.dir, 'etc')
  fs.mkdirSync(path.join(work, '.cursor'), { recursive: true })
  fs.mkdirSync(machine)
  fs.writeFileSync(path.join(work, '.cursor', 'hooks.json'), JSON.stringify({ hooks: { stop: [{ command: 'make check' }], preToolUse: [{ command: 'x', matcher: '(' }], Stop: [] } }))
  const debug = async () => {
    const argv = ['worker', 'debug', '--pool', '--worker-dir', work, '--endpoint', pool.url, '--data-dir', path.join(pool.dir, 'none')]
    const env = { CURSOR_API_KEY: pool.poolKey, CURSOR_ENTERPRISE_HOOKS_DIR: machine, HOME: pool.dir, XDG_CONFIG_HOME: pool.dir }
    const json = await runProgram(t, programs.agent, [...argv, '--json'], { env }), text = await runProgram(t, programs.agent, argv, { env })
    return { report: JSON.parse(json.stdout), text: text.stdout, code: json.code }
  }
  const { report, text, code } = await debug()
  assert.equal(code, 0, text)
  assert.deepEqual(report.hooks.map(s => [s.source, s.valid, s.hooks.map(h => h.event)]), [['project', true, ['stop', 'preToolUse']]])
  const checks = report.checks.filter(c => c.name === 'hooks')
  assert.deepEqual(checks.map(c => c.status), ['warn', 'warn'])
  assert.match(checks[0].detail, /preToolUse\[0\]\.matcher is not a regular expression/)
  assert.match(checks[1].detail, /hooks\.Stop is not an event/)
  assert.match(text, /^Hook: project stop: make check$/m)
  assert.match(text, /^hooks: warn: .*hooks\.Stop is not an event/m)
  fs.writeFileSync(path.join(machine, 'hooks.json'), '{')
  const bad = await debug()
  assert.equal(bad.code, 1)
  assert.equal(bad.report.checks.find(c => c.name === 'hooks').status, 'fail')
})
