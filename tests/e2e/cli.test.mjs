// The two programs at a terminal: what they print, and their exit statuses.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import net from 'node:net'
import { once } from 'node:events'
import path from 'node:path'
import { Proc, atEnd, bullpen, programs, run, tempDir, git, sh, file, until, root } from './lib.mjs'
import { gate, isError, UUID } from './api-help.mjs'

const version = fs.readFileSync(path.join(root, 'meson.build'), 'utf8').match(/version: '([^']+)'/)[1]
const agent = (t, args, options) => run(t, programs.agent, args, options)
const server = (t, args, options) => run(t, programs.bullpen, args, options)
const ended = async p => { await p.exited; return p }
const lines = text => text.split('\n').filter(Boolean)

// One line of words on stderr, nothing on stdout.
function isUsageError(p, pattern, code = 2) {
  assert.equal(p.code, code, `${p.stdout}${p.stderr}`)
  assert.equal(p.stdout, '')
  assert.match(p.stderr, /^error: [^\n]+\n$/)
  assert.match(p.stderr, pattern)
}

test('--version and --help of both programs and of every verb', async t => {
  for (const flag of ['--version', '-v']) {
    assert.deepEqual([(await agent(t, [flag])).stdout, (await server(t, [flag])).stdout], [`${version}\n`, `bullpen ${version}\n`])
  }
  for (const flag of ['--help', '-h']) {
    for (const p of [await agent(t, [flag]), await server(t, [flag]), ...await Promise.all(['run', 'ls', 'logs', 'cancel', 'worker'].map(v => agent(t, [v, flag])))]) {
      assert.equal(p.code, 0, p.stderr)
      assert.match(p.stdout, /^usage: /i)
      assert.equal(p.stderr, '')
    }
  }
  for (const p of [await agent(t, []), await server(t, []), await agent(t, ['worker'])]) {
    assert.equal(p.code, 2)
    assert.match(p.stderr, /^usage: /i)
  }
})

test('wrong usage: one line on stderr, exit 2', async t => {
  const env = { CURSOR_API_KEY: 'crsr_x', CURSOR_API_ENDPOINT: 'http://127.0.0.1:1' }
  const bad = [
    [['frobnicate'], /frobnicate/], [['--frob'], /--frob/], [['run'], /prompt/], [['run', '--frob', 'x'], /--frob/], [['run', 'a', 'b'], /unexpected argument b/], [['run', '-p', 'a', 'b'], /two prompts/],
    [['run', '--repo'], /--repo/], [['run', '--repo=', 'x'], /--repo/], [['run', '--detach=1', 'x'], /--detach/], [['ls', 'x'], /x/], [['ls', '--limit', '0'], /--limit/], [['ls', '--limit', 'many'], /--limit/], [['logs'], /run or an agent/], [['logs', 'x'], /neither/],
    [['cancel'], /run or an agent/], [['cancel', 'run-1'], /neither/], [['run', 'x', '--endpoint', 'ftp://x'], /https/], [['run', 'x', '--endpoint', 'http://example.test'], /clear/], [['run', 'x', '--endpoint', 'https://u:pw@example.test'], /user name/],
    [['worker', 'stop'], /stop/], [['worker', 'start', '--pool', '--frob'], /--frob/], [['worker', 'start', '--pool', '--worker-dir', '/nowhere/at/all'], /nowhere/], [['worker', 'start', '--pool', '--worker-dir'], /--worker-dir/], [['worker', 'start', '--pool', 'a', 'b'], /unexpected argument b/],
    [['worker', 'start', '--pool', 'a/b'], /pool name/], [['worker', 'start', '--pool', '--worker-id', 'a b'], /worker id/], [['worker', 'start', '--pool', '--endpoint', 'x'], /endpoint/], [['worker', 'start', '--pool', '--computer-use'], /not built in/], [['worker', 'start', '--pool', '--label', 'os'], /KEY=VALUE/],
  ]
  for (const [args, pattern] of bad) isUsageError(await agent(t, args, { env, stdin: '' }), pattern)
  isUsageError(await agent(t, ['run', '-'], { env, stdin: ' \n' }), /standard input/)
  isUsageError(await agent(t, ['ls'], { env: { CURSOR_API_ENDPOINT: 'http://127.0.0.1:1' } }), /CURSOR_API_KEY/, 3)
  assert.doesNotMatch((await agent(t, ['run', 'x', '--endpoint', 'https://u:pw@example.test'], { env })).stderr, /pw/)
  const dir = tempDir(t)
  for (const [args, pattern] of [
    [['frobnicate'], /frobnicate/], [['serve', '--frob'], /--frob/], [['serve', 'x'], /unexpected argument 'x'/], [['serve', '--listen'], /--listen/], [['serve', '--listen', 'nowhere'], /ADDRESS:PORT/], [['serve', '--listen', 'example.test:80'], /numeric/], [['serve', '--listen', '127.0.0.1:70000'], /ADDRESS:PORT/],
    [['serve', '--config', '/nowhere/x.toml'], /cannot read \/nowhere\/x\.toml/], [['admin'], /admin key/], [['admin', 'key'], /admin key/], [['admin', 'key', 'frob', '--data', dir], /frob|unexpected/], [['admin', 'key', 'create', '--data', dir], /--type/], [['admin', 'key', 'create', '--data', dir, '--type', 'root', '--name', 'x'], /--type/],
    [['admin', 'key', 'create', '--data', dir, '--type', 'user'], /--name/], [['admin', 'key', 'create', '--type', 'user', '--name', 'x'], /--data/], [['admin', 'key', 'create', '--data', dir, '--type', 'user', '--name', 'x', '--email', 'nonsense'], /--email/],
    ...['a\nkey_0123', 'a\x1b[2J', 'a\u009b2J'].flatMap(v => [[['admin', 'key', 'create', '--data', dir, '--type', 'user', '--name', v], /--name/], [['admin', 'key', 'create', '--data', dir, '--type', 'user', '--name', 'x', '--email', `${v}@b.test`], /--email/]]),
    [['admin', 'key', 'create', '--data', dir, '--type', 'service_account', '--name', 'x', '--email', 'a@b.test'], /--email/], [['admin', 'key', 'revoke', '--data', dir], /revoke/],
  ]) isUsageError(await server(t, args), pattern)
})

test('--help at every level lists every option, and touches nothing', async t => {
  const dir = tempDir(t), data = path.join(dir, 'data')
  const cli = ['--json', '--endpoint', '--api-key', '--help'], prompt = ['-p, --print', '--model', '--mode', '--image', '--detach', '--no-follow', ...cli]
  const worker = ['--pool [NAME]', '--pool-name', '--single-use', '--worker-dir', '-e, --endpoint', '--api-key', '--name', '--worker-id', '--data-dir', '--wait', '--verbose', '--label', '--labels-file', '--idle-release-timeout', '--management-addr', '--auth-token', '--auth-token-file', '--debug']
  for (const [program, words, flags] of [
    [server, [], ['-v, --version', '--help']], [server, ['serve'], ['--config', '--listen', '--data']], [server, ['serve', '--data', data], ['--listen']], [server, ['admin'], ['--data', '--type', '--name', '--email', '--scopes']], [server, ['admin', 'key'], ['--data']],
    [server, ['admin', 'key', 'create', '--data', data], ['--data', '--type', '--name', '--email', '--scopes']], [server, ['admin', 'key', 'list'], ['--data']], [server, ['admin', 'key', 'revoke'], ['--data']],
    [agent, [], ['--api-key', '-v, --version', '--help', 'run ', 'send ', 'ls ', 'logs ', 'cancel ', 'worker ']], [agent, ['run'], ['--repo', '--ref', '--pool', '--label', '--machine', '--agent', ...prompt]], [agent, ['send'], prompt],
    [agent, ['ls'], ['-n, --limit', ...cli]], [agent, ['logs'], ['-f, --follow', ...cli]], [agent, ['cancel'], cli], [agent, ['worker'], worker], [agent, ['worker', 'start'], worker],
  ]) {
    const name = words.filter(w => !w.startsWith('-') && w !== data)
    for (const ask of [[...words, '--help'], [...words, '-h'], [...words, 'help'], ['help', ...name]]) {
      const p = await program(t, ask)
      assert.equal(p.code, 0, `${ask.join(' ')}: ${p.stderr}`)
      assert.equal(p.stderr, '')
      assert.match(p.stdout, /^Usage: (bullpen|agent)[ \n]/)
      const options = p.stdout.split('\n').filter(l => /^ {2}(-\w, | {4})--/.test(l))
      for (const f of flags) assert.ok(p.stdout.includes(`${f}`), `${ask.join(' ')}: ${f}`)
      for (const l of options) assert.match(l, /^ {2}(-\w, | {4})--[a-z-]+( [A-Za-z|:,=[\]]+)?( {2,}\S|$)/, 'each option has its line of help')
      if (program === agent && name[0] && name[0] !== 'worker') assert.match(p.stdout, /Exit status: 0/)
    }
  }
  assert.doesNotMatch((await server(t, ['admin', 'key', 'list', '--help'])).stdout, /--email/)
  assert.ok(!fs.existsSync(data))
})

test('serve and admin: a data folder with a database that is not ours is a sentence and 1', async t => {
  const dir = tempDir(t)
  fs.writeFileSync(path.join(dir, 'bullpen.db'), 'x'.repeat(8192))
  isUsageError(await server(t, ['serve', '--data', dir, '--listen', '127.0.0.1:0']), /not a database/, 1)
  isUsageError(await server(t, ['admin', 'key', 'list', '--data', dir]), /not a database/, 1)
})

test('a configuration file that is wrong is refused in words, before anything is touched', async t => {
  const dir = tempDir(t), config = path.join(dir, 'c.toml'), data = path.join(dir, 'data')
  for (const [text, pattern] of [
    ['[server]\nprot = 1\n', /unknown setting server\.prot/], ['[sever]\nlisten = "127.0.0.1:0"\n', /sever/], ['[runs]\nmax_steps = "many"\n', /runs\.max_steps must be an integer from 1 to/], ['[runs]\nmax_steps = 0\n', /runs\.max_steps/], ['[runs]\nmax_steps = 1.5\n', /runs\.max_steps/],
    ...['nonsense', 'ftp://x', 'http://', 'http://a b', 'http://a\\nb'].map(v => [`[server]\npublic_url = "${v}"\n`, /server\.public_url must be/]),
    ...['a b', '.x', '\\n', 'x'.repeat(64)].map(v => [`[pools]\ncloud_pool = "${v}"\n`, /pools\.cloud_pool must be/]),
    ...['bad prefix', '../', '-x', '/', 'a..', 'x'.repeat(101)].map(v => [`[git]\nbranch_prefix = "${v}"\n`, /git\.branch_prefix must be/]),
    ...['', '...', 'a\\nb', '<a>'].map(v => [`[git]\nauthor_name = "${v}"\n`, /git\.author_name must be/]), ['[git]\nauthor_email = "<a@b.test>"\n', /git\.author_email must be/],
    ['[node]\nname = "x\\u0000y"\n', /c\.toml: .*U\+0000/],
    ['[pools]\ncloud_pool = 7\n', /pools\.cloud_pool must be a string/], ['[server]\nlisten = "here"\n', /ADDRESS:PORT/], ['[server\n', /c\.toml/], ['listen = "127.0.0.1:0"\n', /listen/], ['[limits]\nreads_per_minute = -1\n', /reads_per_minute/], ['a = "\xff"\n', /c\.toml/],
  ]) {
    fs.writeFileSync(config, text, 'latin1')
    isUsageError(await server(t, ['serve', '--config', config, '--data', data]), pattern)
    assert.ok(!fs.existsSync(data))
  }
})

test('serve: a second one on the same data, or on the same port, is refused; SIGTERM and SIGINT end it with 0', async t => {
  const pool = await bullpen(t)
  isUsageError(await server(t, ['serve', '--data', pool.data, '--listen', '127.0.0.1:0']), /another bullpen/, 1)
  isUsageError(await server(t, ['serve', '--data', path.join(pool.dir, 'other'), '--listen', pool.listen]), /in use/, 1)
  fs.writeFileSync(path.join(pool.dir, 'a-file'), '')
  isUsageError(await server(t, ['serve', '--data', path.join(pool.dir, 'a-file'), '--listen', '127.0.0.1:0']), /a-file/, 1)
  assert.equal((await pool.http('GET', '/v1/me')).status, 200, 'the first is not disturbed')
  const w = await pool.worker()
  const one = await pool.run(sh('true'))
  await one.end()
  const waits = await pool.run('x', { repo: 'https://git.example.test/other/repo' })
  const s = await waits.stream()
  await s.until('a reader is there', () => true)
  assert.deepEqual(await pool.stop(), { code: 0, signal: null })
  await s.finished
  assert.ok(w.alive, 'the worker stays and tries again')
  await pool.restart()
  assert.equal((await waits.get()).status, 'CREATING')
  assert.equal((await pool.server.kill('SIGINT')).code, 0)
})

test('keys: created, listed without their secret and revoked, also while the server runs', async t => {
  const pool = await bullpen(t)
  const admin = (...args) => server(t, ['admin', 'key', ...args, '--data', pool.data])
  const made = await admin('create', '--type', 'user', '--name', 'laptop', '--email', 'dev@example.test')
  assert.match(made.stdout, /^crsr_[0-9a-f]{64}\n$/)
  assert.equal(made.stderr, '')
  const key = made.stdout.trim()
  assert.equal((await pool.http('GET', '/v1/me', { key })).json.apiKeyName, 'laptop')
  const list = await admin('list')
  assert.equal(lines(list.stdout).length, 4)
  assert.match(lines(list.stdout)[0], /^ID +TYPE +ENDS IN +CREATED +REVOKED +SCOPES +NAME$/)
  for (const k of [key, pool.userKey, pool.poolKey]) {
    assert.ok(!list.stdout.includes(k))
    assert.ok(list.stdout.includes(` ${k.slice(-4)} `), 'the last characters tell which is which')
  }
  const row = lines(list.stdout).find(l => l.endsWith('laptop'))
  assert.match(row, /^key_\w+ +user +\w{4} +\d{4}-\S+Z +- +agents:read,agents:write,models:read,machines:connect,mcp:write +laptop$/)
  assert.equal((await admin('revoke', row.split(' ')[0])).code, 0)
  await until('it is revoked', async () => (await pool.http('GET', '/v1/me', { key })).status === 401)
  assert.match(lines((await admin('list')).stdout).find(l => l.endsWith('laptop')), /Z +\d{4}-\S+Z +\S+ +laptop$/)
  assert.equal((await admin('revoke', key)).code, 0, 'twice is fine')
  isUsageError(await admin('revoke', 'key_nothing'), /no such key/, 1)
  assert.equal((await pool.http('GET', '/v1/me')).status, 200, 'another key of the same person lives on')
  // Nowhere on the disk.
  for (const f of fs.readdirSync(pool.data, { recursive: true, withFileTypes: true }).filter(e => e.isFile()).map(e => path.relative(pool.data, path.join(e.parentPath ?? e.path, e.name)))) assert.ok(!fs.readFileSync(path.join(pool.data, f)).includes(pool.userKey.slice(5)), f)
})

test('a revoked key ends its worker within seconds', async t => {
  const pool = await bullpen(t)
  const key = await pool.createKey('service_account', 'second')
  const w = await pool.worker({ key }), stays = await pool.worker()
  assert.equal((await server(t, ['admin', 'key', 'revoke', '--data', pool.data, key])).code, 0)
  await until('the worker ends', () => !w.alive, 15)
  await w.exited
  assert.equal(w.code, 3)
  assert.match(w.stderr, /^error: the key of this worker was revoked$/m)
  assert.ok(stays.alive)
  await until('the server knows', async () => (await pool.http('GET', '/readyz')).json.workers === 1)
})

test('worker start: a wrong key, a user key and no key exit 3; a server that is away is tried again', async t => {
  const pool = await bullpen(t)
  const work = await (await pool.origin()).clone(path.join(pool.dir, 'w'))
  const start = (key, endpoint = pool.url) => new Proc(t, programs.agent, ['worker', 'start', '--pool', '--worker-dir', work, '--endpoint', endpoint, '--data-dir', path.join(pool.dir, 'wd')], { env: key ? { CURSOR_API_KEY: key } : {} })
  for (const [key, pattern] of [['crsr_wrong', /^error: the API key is missing or not valid$/m], [pool.userKey, /^error: pool workers need a service account API key$/m], [undefined, /^error: no credential/m]]) {
    const p = await ended(start(key))
    assert.equal(p.code, 3, p.stderr)
    assert.match(p.stderr, pattern)
    assert.doesNotMatch(p.stdout, /running/)
    if (key) assert.ok(!p.stderr.includes(key))
  }
  await pool.crash()
  const p = start(pool.poolKey)
  await p.says(/Connection refused/, 'stderr')
  await until('it tries again', () => p.stderr.match(/Connection refused/g).length >= 2)
  assert.ok(p.alive)
  await pool.restart()
  await p.says(/^Worker is now running$/m)
  // A second worker on the same data folder.
  const second = await ended(start(pool.poolKey))
  assert.equal(second.code, 5, second.stderr)
  assert.deepEqual(await p.kill('SIGTERM'), { code: 0, signal: null })
  // Without --worker-dir it serves the folder it is in.
  const here = new Proc(t, programs.agent, ['worker', 'start', '--pool', '--endpoint', pool.url, '--data-dir', path.join(pool.dir, 'wd')], { cwd: work, env: { CURSOR_API_KEY: pool.poolKey } })
  await here.says(/^Worker is now running$/m)
  assert.equal((await (await pool.run(file('a', 'b'))).end()).status, 'FINISHED')
})

test('the key does not show in the process list', async t => {
  const pool = await bullpen(t)
  const w = await pool.worker({ args: ['--api-key', pool.poolKey] })
  const secret = pool.poolKey.slice(5)
  assert.ok(!fs.readFileSync(`/proc/${w.pid}/cmdline`, 'utf8').includes(secret))
  assert.ok(!w.stderr.includes(secret) && !w.stdout.includes(secret))
})

test('run shows what happens, and exits 0 when the run finished', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const origin = await pool.origin()
  const p = await ended(pool.cli(['run', '--repo', origin.url, '--ref', 'main', '--pool', 'default', '--model', 'playbook', `${file('a.txt', 'A')}${sh('echo one; echo two')}${sh('exit 4')}`]))
  assert.equal(p.code, 0, p.stderr)
  assert.equal(p.stderr, '')
  const [, agentId] = p.stdout.match(/^agent (bc-\S+)$/m), [, runId] = p.stdout.match(/^run +(run-\S+)$/m)
  for (const pattern of [/^● RUNNING$/m, /^→ write_file a\.txt$/m, /^✓ write_file: ok/m, /^→ run_terminal_cmd echo one/m, /^ {2}│ one$/m, /^ {2}│ two$/m, /✗.*exit status 4/, /2 of 3 steps succeeded/, /^● FINISHED$/m, /^branch cursor\/\S+ of \S*acme\/web$/m, /^took \d+ ms$/m]) assert.match(p.stdout, pattern)
  assert.ok(!p.stdout.includes('\x1b'), 'no colours into a pipe')
  const order = ['write_file', 'echo one', '│ two', '✗', '2 of 3', 'FINISHED', 'took']
  assert.deepEqual(order.map(w => p.stdout.indexOf(w)), order.map(w => p.stdout.indexOf(w)).sort((a, b) => a - b))
  assert.equal((await pool.http('GET', `/v1/agents/${agentId}`)).json.latestRunId, runId)
  const failed = await ended(pool.cli(['run', '--repo', origin.url, '--ref', 'no-such-branch', 'x']))
  assert.equal(failed.code, 1)
  assert.match(failed.stdout, /clone_failed: .*no-such-branch/)
  // What the run printed cannot drive the terminal.
  const evil = await ended(pool.cli(['run', '--repo', origin.url, sh("printf '\\033[2J\\033]0;x\\007\\r'; echo ok")]))
  assert.equal(evil.code, 0)
  assert.ok(!/[\x00-\x08\x0b-\x1f\x7f]/.test(evil.stdout), JSON.stringify(evil.stdout))
})

test('run --json prints one JSON object a line', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const p = await ended(pool.cli(['run', '--json', '--repo', (await pool.origin()).url, file('a.txt', 'A')]))
  assert.equal(p.code, 0, p.stderr)
  const [created, ...events] = lines(p.stdout).map(l => JSON.parse(l))
  assert.equal(created.agent.latestRunId, created.run.id)
  for (const e of events) assert.ok(['event,data', 'event,id,data'].includes(Object.keys(e).join()), JSON.stringify(e))
  assert.deepEqual(events.slice(-2).map(e => e.event), ['result', 'done'])
  assert.equal(events.at(-2).data.status, 'FINISHED')
  const logs = await ended(pool.cli(['logs', '--json', created.run.id]))
  assert.equal(logs.code, 0)
  assert.deepEqual(lines(logs.stdout).map(l => JSON.parse(l)).filter(e => e.id), events.filter(e => e.id))
  const refused = await ended(pool.cli(['run', '--json', '--pool', 'nowhere', '--repo', (await pool.origin()).url, 'x']))
  assert.equal(refused.code, 2)
  assert.equal(JSON.parse(refused.stdout).error.code, 'validation_error')
})

test('run takes the prompt from standard input and the repository from the folder it is in', async t => {
  const pool = await bullpen(t)
  const w = await pool.worker()
  const origin = await pool.origin()
  const here = await origin.clone(path.join(pool.dir, 'here'))
  const p = await ended(pool.cli(['run', '-'], { cwd: here, stdin: file('from-stdin.txt', 'yes') }))
  assert.equal(p.code, 0, p.stderr + p.stdout)
  assert.equal(await origin.show(p.stdout.match(/^branch (\S+)/m)[1], 'from-stdin.txt'), 'yes')
  const bare = await ended(pool.cli(['run', '-p', file('x.txt', 'x')], { cwd: path.join(pool.dir, 'remotes') }))
  assert.equal(bare.code, 2, 'no origin here: the default pool needs a repository')
  assert.match(bare.stderr, /^error: [^\n]*: give --repo URL, or run it in a clone \(repository_required, HTTP 400\)\n$/)
  // A path is a repository too.
  const byPath = await ended(pool.cli(['run', '--detach', '--repo', origin.bare, '--', '--not-an-option']))
  assert.equal(byPath.code, 0, byPath.stderr)
  const made = (await pool.http('GET', '/v1/agents?limit=1')).json.items[0]
  assert.equal(made.name, '--not-an-option')
  assert.deepEqual(made.repos, [{ url: origin.url }])
})

test('run --detach prints the ids and goes; logs and cancel take agent or run; ls lists', async t => {
  const pool = await bullpen(t)
  assert.equal((await ended(pool.cli(['ls']))).stdout, 'no agents (--archived shows those that were put away)\n')
  assert.equal((await ended(pool.cli(['ls', '--json']))).stdout, '')
  const origin = await pool.origin()
  const detached = await ended(pool.cli(['run', '--detach', '--repo', origin.url, 'Wait for it']))
  assert.equal(detached.code, 0)
  const [, agentId, runId] = detached.stdout.match(/^agent (bc-\S+)\nrun +(run-\S+)\n$/)
  const ls = await ended(pool.cli(['ls']))
  assert.match(ls.stdout, new RegExp(`^AGENT +STATUS +RUN +CREATED +NAME\\n${agentId} +ACTIVE +CREATING +\\d{4}-\\S+ +Wait for it\\n +no worker is connected to pool default\\n$`))
  const json = lines((await ended(pool.cli(['ls', '--json']))).stdout).map(l => JSON.parse(l))
  assert.deepEqual(json.map(a => [a.id, a.run.id, a.run.wait.code]), [[agentId, runId, 'no_workers']])
  const waiting = await ended(pool.cli(['logs', agentId]))
  assert.equal(waiting.code, 0)
  assert.match(waiting.stdout, /^● CREATING: no worker is connected/)
  const cancelled = await ended(pool.cli(['cancel', agentId]))
  assert.deepEqual([cancelled.code, cancelled.stdout], [0, `cancelled ${runId}\n`])
  const again = await ended(pool.cli(['cancel', runId]))
  assert.equal(again.code, 4)
  assert.match(again.stderr, /^error: .*run_not_cancellable/)
  for (const id of [agentId, runId, runId.toUpperCase().replace('RUN', 'run')]) assert.match((await ended(pool.cli(['logs', id]))).stdout, /^● CANCELLED$/m)
  const follow = await ended(pool.cli(['logs', '-f', runId]))
  assert.equal(follow.code, 130, 'following says how the run ended')
  const none = await ended(pool.cli(['logs', `bc-${agentId.slice(3).replace(/./g, '0').replace(/^(.{8}).(.{4}).(.{4}).(.{4})./, '$1-$2-$3-$4-')}`]))
  assert.equal(none.code, 4)
  assert.match(none.stderr, /agent_not_found/)
  const noRun = await ended(pool.cli(['logs', 'run-00000000-0000-4000-8000-000000000000']))
  assert.equal(noRun.code, 4)
  assert.match(noRun.stderr, /^error: none of your/)
  const denied = await ended(pool.cli(['ls'], { key: 'crsr_wrong' }))
  assert.equal(denied.code, 3)
  assert.match(denied.stderr, /^error: .*unauthorized, HTTP 401/)
  for (let i = 0; i < 3; i++) await ended(pool.cli(['run', '--detach', '--repo', origin.url, `n${i}`]))
  const two = lines((await ended(pool.cli(['ls', '-n', '2', '--json']))).stdout).map(l => JSON.parse(l).name)
  assert.deepEqual(two, ['n2', 'n1'])
})

test('Ctrl-C cancels the run: exit 130, and the command on the worker is gone', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const g = gate(pool, fs, path), log = path.join(pool.dir, 'log')
  const p = pool.cli(['run', '--repo', (await pool.origin()).url, sh(`${g.command}; echo late > ${log}`)])
  await until('it runs', g.reached)
  await p.says(/run_terminal_cmd/)
  p.child.kill('SIGINT')
  await p.exited
  assert.equal(p.code, 130, p.stderr)
  assert.match(p.stdout, /^● CANCELLED$/m)
  assert.match(p.stderr, /cancelling/)
  const runs = (await pool.http('GET', '/v1/agents')).json.items
  assert.equal(runs[0].status, 'IDLE')
  g.go()
  // The worker is free at once, and the command did not go on.
  const next = await ended(pool.cli(['run', '--repo', (await pool.origin()).url, sh('true')]))
  assert.equal(next.code, 0)
  assert.ok(!fs.existsSync(log))
})

test('Ctrl-C while the run waits for a worker cancels it too', async t => {
  const pool = await bullpen(t)
  const p = pool.cli(['run', '--repo', (await pool.origin()).url, 'x'])
  await p.says(/● CREATING: no worker/)
  p.child.kill('SIGINT')
  await p.exited
  assert.equal(p.code, 130, p.stderr)
  assert.match(p.stdout, /^● CANCELLED$/m)
})

test('run follows over a crash and a restart of the server: nothing twice, nothing lost', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const g = gate(pool, fs, path)
  const p = pool.cli(['run', '--json', '--repo', (await pool.origin()).url, sh('echo before') + sh(g.command) + sh('echo after')])
  await until('it is in the middle', g.reached)
  await pool.crash()
  await pool.restart()
  g.go()
  await p.exited
  assert.equal(p.code, 0, p.stderr)
  const events = lines(p.stdout).map(l => JSON.parse(l)).filter(e => e.id)
  const calls = events.filter(e => e.event === 'tool_call' && e.data.status === 'completed')
  assert.equal(calls.length, 3)
  const keys = events.map(e => `${e.id} ${e.event}`)
  assert.equal(new Set(keys).size, keys.length, 'no event twice')
  const { agentId, runId } = { agentId: (await pool.http('GET', '/v1/agents')).json.items[0].id, runId: (await pool.http('GET', '/v1/agents')).json.items[0].latestRunId }
  const stored = await (await fetch(`${pool.url}/v1/agents/${agentId}/runs/${runId}/stream`, { headers: { authorization: `Bearer ${pool.userKey}` } })).text()
  assert.equal(events.length, stored.split('\n\n').filter(f => f.startsWith('id: ')).length, 'and none missing')
})

test('run: an unreachable server is said in one line, exit 5', async t => {
  const p = await agent(t, ['run', '--repo', 'https://git.example.test/a/b', 'x'], { env: { CURSOR_API_KEY: 'crsr_x', CURSOR_API_ENDPOINT: 'http://127.0.0.1:1' }, stdin: '' })
  isUsageError(p, /127\.0\.0\.1:1/, 5)
})

test('what a model or a name holds cannot command the terminal or start a line of its own', async t => {
  const pool = await bullpen(t, { config: '[runs]\nstream_retention = 1\n' })
  await pool.worker()
  const run = await pool.run('```tool \x1b[2Jgone\u009b1A\n{}\n```\n', { extra: { name: 'one\nbc-two \x1b[31m' } })
  const live = await ended(pool.cli(['logs', '-f', run.id]))
  const isPlain = text => assert.doesNotMatch(text, /[\x00-\x08\x0b-\x1f\x7f-\x9f]/)
  isPlain(live.stdout)
  assert.match(live.stdout, /^→ \ufffd\[2Jgone\ufffd1A/m)
  await until('the events are forgotten', async () => (await run.stream()).status !== 200)
  const late = await ended(pool.cli(['logs', run.id]))
  isPlain(late.stdout)
  assert.match(late.stdout, /\ufffd\[2Jgone/)
  const ls = await ended(pool.cli(['ls']))
  isPlain(ls.stdout)
  assert.match(ls.stdout, /one bc-two \ufffd\[31m$/m)
})

test('nothing that comes from outside turns the order of a line or hides in JSON', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const evil = 'a\u202eb\u2066c\u061cd\u200fe'
  const run = await pool.run(`Say ${evil}\n${sh(`printf '${evil}\\n\\tkept\\n' ; printf '\\302\\233' >&2; exit 3`)}`, { extra: { name: evil } })
  await run.end()
  const bad = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/
  for (const args of [['logs', run.id], ['logs', '-f', run.id], ['ls'], ['logs', '--json', run.id], ['ls', '--json'], ['logs', evil], ['run', '--model', evil, 'x'], [evil]]) {
    const p = await ended(pool.cli(args))
    assert.doesNotMatch(p.stdout + p.stderr, bad, args.join(' '))
  }
  assert.match((await ended(pool.cli(['logs', run.id]))).stdout, /│ \tkept$/m)
  const lines_ = lines((await ended(pool.cli(['ls', '--json']))).stdout)
  assert.equal(JSON.parse(lines_[0]).name, evil, 'JSON loses nothing')
})

test('send, and run --agent, give an agent its next prompt', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const first = await ended(pool.cli(['run', '--repo', (await pool.origin()).url, file('a.txt', 'A')]))
  const [, agentId] = first.stdout.match(/^agent (bc-\S+)$/m), [, firstRun] = first.stdout.match(/^run +(run-\S+)$/m)
  const second = await ended(pool.cli(['send', agentId, '-'], { stdin: `\ufeff${file('b.txt', 'B')}` }))
  assert.equal(second.code, 0, second.stderr)
  assert.match(second.stdout, new RegExp(`^agent ${agentId}\\nrun +run-`))
  assert.match(second.stdout, /^✓ write_file: ok/m)
  const third = await ended(pool.cli(['run', '--agent', firstRun, '--no-follow', '--mode', 'plan', '--model', 'playbook', sh('true')]))
  assert.equal(third.code, 0, third.stderr)
  const [, runId] = third.stdout.match(/^run +(run-\S+)$/m)
  const runs = (await pool.http('GET', `/v1/agents/${agentId}/runs`)).json.items
  assert.deepEqual(runs.map(r => r.id).slice(0, 1), [runId])
  assert.equal(runs.length, 3)
  await ended(pool.cli(['logs', '-f', runId]))
  const picture = path.join(pool.dir, 'p.png'), text = path.join(pool.dir, 'p.txt')
  fs.writeFileSync(picture, Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64'))
  fs.writeFileSync(text, 'no image')
  const seen = await ended(pool.cli(['send', agentId, '--image', picture, sh('true')]))
  assert.ok(seen.code === 0 || /playbook.*image|image.*playbook/i.test(seen.stderr), seen.stderr)
  for (const [args, pattern, code] of [
    [['send'], /AGENT/, 2], [['send', agentId], /prompt/, 2], [['send', agentId, 'a', 'b'], /unexpected argument b/, 2], [['send', agentId, '-p', 'a', 'b'], /two prompts/, 2], [['send', 'x', 'y'], /neither/, 2],
    [['run', '--agent', agentId, '--repo', '/x', 'y'], /for a new agent/, 2], [['send', agentId, '--mode', 'wild', 'x'], /--mode/, 2], [['send', agentId, '--image', text, 'x'], /no PNG/, 2], [['send', agentId, '--image', '/nowhere/x.png', 'x'], /cannot read the image/, 2],
    [['send', 'bc-00000000-0000-4000-8000-000000000000', 'x'], /agent_not_found/, 4],
  ]) isUsageError(await ended(pool.cli(args, { stdin: '' })), pattern, code)
  const utf16 = await ended(pool.cli(['send', agentId, '-'], { stdin: Buffer.from('\ufeffhello', 'utf16le') }))
  isUsageError(utf16, /not UTF-8/)
})

test('Ctrl-C on logs -f leaves the run alone and says how to cancel it', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const g = gate(pool, fs, path)
  const run = await pool.run(sh(g.command))
  await until('it runs', g.reached)
  const p = pool.cli(['logs', '-f', run.id])
  await p.says(/run_terminal_cmd/)
  p.child.kill('SIGINT')
  await p.exited
  assert.equal(p.code, 130, p.stderr)
  assert.equal(p.stderr, `left; the run goes on. To cancel it: agent cancel ${run.agentId}\n`)
  assert.equal((await run.get()).status, 'RUNNING')
  g.go()
  assert.equal((await run.end()).status, 'FINISHED')
})

test('Ctrl-C while the run is being created cancels it as soon as it is there', async t => {
  const pool = await bullpen(t)
  let reached = false, go
  const gone = new Promise(r => { go = r })
  // Hands requests on; the one that creates waits.
  const between = http.createServer(async (q, a) => {
    const parts = []
    for await (const p of q) parts.push(p)
    if (q.method === 'POST' && q.url === '/v1/agents') { reached = true; await gone }
    const up = http.request(pool.url + q.url, { method: q.method, headers: q.headers }, r => { a.writeHead(r.statusCode, r.headers); r.pipe(a) })
    up.on('error', () => a.destroy())
    up.end(Buffer.concat(parts))
  }).listen(0, '127.0.0.1')
  atEnd(t, () => { between.closeAllConnections(); between.close() })
  await once(between, 'listening')
  const p = pool.cli(['run', '--repo', (await pool.origin()).url, 'x'], { env: { CURSOR_API_ENDPOINT: `http://127.0.0.1:${between.address().port}` } })
  await until('the request is there', () => reached)
  p.child.kill('SIGINT')
  go()
  await p.exited
  assert.equal(p.code, 130, p.stderr)
  const [agent] = (await pool.http('GET', '/v1/agents')).json.items
  assert.equal((await pool.http('GET', `/v1/agents/${agent.id}/runs/${agent.latestRunId}`)).json.status, 'CANCELLED')
})

test('a second Ctrl-C on run leaves at once, also when the server does not answer', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const g = gate(pool, fs, path)
  const p = pool.cli(['run', '--repo', (await pool.origin()).url, sh(g.command)])
  await until('it runs', g.reached)
  await p.says(/run_terminal_cmd/)
  pool.server.child.kill('SIGSTOP')
  try {
    p.child.kill('SIGINT')
    await p.says(/cancelling the run/, 'stderr')
    p.child.kill('SIGINT')
    await until('it left', () => !p.alive)
    await p.exited
    assert.equal(p.code, 130, p.stderr)
    assert.match(p.stderr, /^left; /m)
  } finally { pool.server.child.kill('SIGCONT') }
})

test('output that was lost while the server was away is filled in from the stored result, in its place', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const log = path.join(pool.dir, 'steps'), at = n => `until test -e ${log}-${n}; do sleep 0.05; done`
  const run = await pool.run(sh(`echo first; ${at(1)}; echo second; touch ${log}-told; ${at(2)}; echo third`))
  const live = pool.cli(['logs', '-f', run.id])
  await live.says(/│ first$/m)
  await pool.crash()
  fs.writeFileSync(`${log}-1`, '')
  await until('the command went on', () => fs.existsSync(`${log}-told`))
  // Its output has nowhere to go while nobody is there.
  await pool.restart()
  fs.writeFileSync(`${log}-2`, '')
  assert.equal((await run.end()).status, 'FINISHED')
  await live.exited
  const told = (await run.events()).filter(e => e.data.type === 'shell-output-delta').map(e => e.data.event.data).join('')
  assert.doesNotMatch(told, /second/, 'it was lost, or this test tests nothing')
  const stored = await ended(pool.cli(['logs', run.id]))
  for (const p of [live, stored]) {
    const shown = lines(p.stdout).filter(l => l.startsWith('  │ ') && !l.includes('[')).map(l => l.slice(4))
    assert.deepEqual([...new Set(shown)], ['first', 'second', 'third'], p.stdout)
    const order = ['→ run_terminal_cmd', '│ first', '│ second', '│ third', '✓ run_terminal_cmd', '● FINISHED'].map(w => p.stdout.indexOf(w))
    assert.deepEqual(order, [...order].sort((a, b) => a - b))
  }
})

test('output that was lost on the link of a worker, and is too much to be told again, is marked as missing', async t => {
  const pool = await bullpen(t)
  const sockets = new Set()
  let open = true
  const relay = net.createServer(a => {
    if (!open) return a.destroy()
    const b = net.connect(Number(new URL(pool.url).port), '127.0.0.1')
    for (const [from, to] of [[a, b], [b, a]]) { sockets.add(from); from.on('error', () => {}).on('close', () => { sockets.delete(from); to.destroy() }).pipe(to) }
  }).listen(0, '127.0.0.1')
  atEnd(t, () => { for (const s of sockets) s.destroy(); relay.close() })
  await once(relay, 'listening')
  await pool.worker({ endpoint: `http://127.0.0.1:${relay.address().port}` })
  const g = gate(pool, fs, path), done = path.join(pool.dir, 'printed')
  const run = await pool.run(sh(`echo first; ${g.command}; for i in $(seq 40); do head -c 15000 /dev/zero | tr '\\0' x; echo; done; touch ${done}`))
  await until('it runs', g.reached)
  open = false
  for (const s of sockets) s.destroy()
  g.go()
  await until('all was printed', () => fs.existsSync(done), 90)
  open = true
  assert.equal((await run.end()).status, 'FINISHED')
  const p = await ended(pool.cli(['logs', run.id]))
  assert.match(p.stdout, /^ {2}│ first$/m)
  assert.match(p.stdout, /^ {2}│ \[output was lost on the way: at least \d+ bytes are missing, and there is too much of it to be told again\]\n✓ run_terminal_cmd: ended/m)
})

test('a key with white space around it is trimmed, one with white space inside is refused without being shown', async t => {
  const pool = await bullpen(t)
  const work = await (await pool.origin()).clone(path.join(pool.dir, 'w'))
  for (const key of [`${pool.userKey}\n`, ` ${pool.userKey}\r\n`]) {
    assert.equal((await ended(pool.cli(['ls'], { key }))).code, 0)
    assert.equal((await ended(pool.cli(['ls', '--api-key', key], { key: 'crsr_wrong' }))).code, 0)
  }
  const w = await pool.worker({ key: `${pool.poolKey}\n` })
  const environ = () => fs.readFileSync(`/proc/${w.pid}/environ`, 'utf8')
  assert.ok(!environ().includes(pool.poolKey.slice(5)))
  const run = await pool.run(sh('env'))
  await run.end()
  assert.ok(!JSON.stringify(await run.events()).includes(pool.poolKey.slice(5)))
  const [a, b] = [pool.poolKey.slice(0, 20), pool.poolKey.slice(20)]
  for (const p of [await ended(pool.cli(['ls'], { key: `${a} ${b}` })), await agent(t, ['worker', 'start', '--pool', '--worker-dir', work, '--endpoint', pool.url], { env: { CURSOR_API_KEY: `${a}\n${b}` } })]) {
    isUsageError(p, /CURSOR_API_KEY has white space inside/, 3)
    assert.ok(!p.stderr.includes(a) && !p.stderr.includes(b))
  }
  isUsageError(await agent(t, ['ls'], { env: { CURSOR_API_KEY: ' \n', CURSOR_API_ENDPOINT: pool.url } }), /no API key/, 3)
})

test('an endpoint that ends in /v1 or / is taken by the command line and the worker', async t => {
  const pool = await bullpen(t)
  for (const end of ['/', '/v1', '/v1/', '//']) assert.equal((await ended(pool.cli(['ls', '--endpoint', pool.url + end]))).code, 0, end)
  await pool.worker({ endpoint: `${pool.url}/v1/` })
  assert.equal((await (await pool.run(sh('true'))).end()).status, 'FINISHED')
})

test('variables whose values make no sense are refused at the start', async t => {
  const dir = tempDir(t), env = { CURSOR_API_KEY: 'crsr_x', CURSOR_API_ENDPOINT: 'http://127.0.0.1:1' }
  const start = more => agent(t, ['worker', 'start', '--pool', '--worker-dir', dir, '--data-dir', path.join(dir, 'wd')], { env: { ...env, ...more } })
  for (const [name, value, pattern] of [['CURSOR_WORKER_LABELS_FILE', '/nowhere/CURSOR_WORKER_LABELS_FILE.json', /cannot be read/], ['CURSOR_WORKER_IDLE_RELEASE_TIMEOUT', '1h', /whole number of seconds/], ['CURSOR_WORKER_STOP_GRACE', 'soon', /number of seconds from 0 to 86400, not 'soon'/], ['CURSOR_WORKER_STOP_GRACE', '-1', /STOP_GRACE/]]) {
    isUsageError(await start({ [name]: value }), pattern)
    isUsageError(await start({ [name]: value }), new RegExp(name))
  }
  assert.ok(!fs.existsSync(path.join(dir, 'wd')))
})

test('serve --config: a folder, a missing and a closed file and a mistake in a line are told apart', async t => {
  const dir = tempDir(t), config = path.join(dir, 'c.toml')
  isUsageError(await server(t, ['serve', '--config', dir]), /is a folder/)
  isUsageError(await server(t, ['serve', '--config', path.join(dir, 'no.toml')]), /no\.toml: there is no such file/)
  fs.writeFileSync(config, '[server]\nlisten = "127.0.0.1:0"\ndata = \n')
  isUsageError(await server(t, ['serve', '--config', config]), /c\.toml:3:/)
  isUsageError(await server(t, ['serve', '--config', '/dev/null/x']), /cannot read \/dev\/null\/x/)
})

test('closed standard files are no door for the log; a key that cannot be shown is an error', async t => {
  const dir = tempDir(t), data = path.join(dir, 'data')
  const shell = new Proc(t, '/bin/sh', ['-c', 'exec "$0" serve --listen 127.0.0.1:0 --data "$1" <&- >&- 2>&-', programs.bullpen, data])
  const numbers = () => { try { return [0, 1, 2].map(n => fs.readlinkSync(`/proc/${shell.pid}/fd/${n}`)) } catch { return [] } }
  await until('the server has its folder', () => fs.existsSync(path.join(data, 'bullpen.db')))
  assert.deepEqual(numbers(), ['/dev/null', '/dev/null', '/dev/null'])
  assert.deepEqual(await shell.kill('SIGTERM'), { code: 0, signal: null })
  assert.equal(fs.readFileSync(path.join(data, 'bullpen.lock'), 'utf8'), '')
  const create = '"$0" admin key create --data "$1" --type user --name x > /dev/full'
  isUsageError(await run(t, '/bin/sh', ['-c', create, programs.bullpen, data]), /cannot be printed/, 1)
})

test('run --env, --mcp and --plan; ls --archived; usage', async t => {
  const pool = await bullpen(t)
  await pool.worker({ args: ['--sync-dashboard-secrets'] })
  const url = (await pool.origin()).url
  const mcp = path.join(pool.dir, 'mcp.json')
  fs.writeFileSync(mcp, JSON.stringify({ mcpServers: { files: { command: 'false', args: ['x'] } } }))
  const p = await ended(pool.cli(['run', '--repo', url, '--env', 'A=one=1', '--env', 'FROM_SHELL', '--mcp', mcp, '-p', sh('echo "<$A|$FROM_SHELL>"')], { env: { FROM_SHELL: 'two' } }))
  assert.equal(p.code, 0, p.stderr)
  assert.match(p.stdout, /<one=1\|two>/)
  assert.match(p.stdout, /MCP server files is not available/)
  const plan = await ended(pool.cli(['run', '--repo', url, '--plan', '-p', sh('echo x > y')]))
  assert.match(plan.stdout, /plan|read/i)
  const [id] = p.stdout.match(/bc-[0-9a-f-]{36}/)
  assert.equal((await ended(pool.cli(['archive', id]))).code, 0)
  assert.ok(!(await ended(pool.cli(['ls']))).stdout.includes(id))
  assert.ok((await ended(pool.cli(['ls', '--archived']))).stdout.includes(id))
  const usage = await ended(pool.cli(['usage', id]))
  assert.match(usage.stdout, /^RUN +INPUT +OUTPUT .*\nrun-[0-9a-f-]{36} .*\nall +/)
  const run1 = usage.stdout.match(/run-[0-9a-f-]{36}/)[0]
  assert.equal(lines((await ended(pool.cli(['usage', run1]))).stdout).length, 3)
  assert.deepEqual(Object.keys(JSON.parse((await ended(pool.cli(['usage', id, '--json']))).stdout)).sort(), ['runs', 'totalUsage'])

  const bad = path.join(pool.dir, 'bad.json')
  fs.writeFileSync(bad, '{"mcpServers": []}')
  for (const [args, pattern] of [[['--env', '=x'], /NAME=VALUE/], [['--env', 'NOT_THERE_AT_ALL'], /no such variable/], [['--mcp', '/nowhere.json'], /nowhere/], [['--mcp', bad], /bad\.json: it must be an object/],
    [['--plan', '--mode', 'agent'], /exclude/], [['--env', '1A=x'], /envVars/]]) {
    isUsageError(await ended(pool.cli(['run', '--repo', url, ...args, 'x'])), pattern)
  }
  isUsageError(await ended(pool.cli(['usage'])), /name an agent/)
})

test('shells complete verbs, options and agents', async t => {
  const pool = await bullpen(t)
  const created = (await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, repos: [{ url: 'https://git.example/a/b' }] } })).json.agent.id
  const env = { CURSOR_API_KEY: pool.userKey, CURSOR_API_ENDPOINT: pool.url, PATH: `${path.dirname(programs.agent)}:${process.env.PATH}`, HOME: pool.dir }
  const bash = async words => {
    const script = `eval "$(agent completion bash)"; COMP_WORDS=(agent ${words.map(w => `'${w}'`).join(' ')}); COMP_CWORD=${words.length}; _agent; printf '%s\\n' "\${COMPREPLY[@]}"`
    return lines((await run(t, 'bash', ['-c', script], { env })).stdout)
  }
  assert.deepEqual(await bash(['un']), ['unarchive'])
  assert.deepEqual(await bash(['run', '--ma']), ['--machine'])
  assert.deepEqual(await bash(['cancel', 'bc-']), [created])
  assert.deepEqual(await bash(['fleet', 'wo']), ['workers'])
  const fish = async line => lines((await run(t, 'fish', ['-c', `agent completion fish | source; complete -C '${line}'`], { env })).stdout).map(l => l.split('\t')[0])
  assert.deepEqual(await fish('agent un'), ['unarchive'])
  assert.deepEqual((await fish('agent run --ma')), ['--machine'])
  assert.deepEqual(await fish('agent cancel bc-'), [created])
  // Without a terminal zsh completes nothing; its functions are asked as its own completion asks them.
  const zsh = async words => {
    const script = `compdef() { }; compadd() { shift; print -l -- "$@" }; eval "$(agent completion zsh)"; words=(agent ${words.map(w => `'${w}'`).join(' ')}); CURRENT=${words.length + 1}; _agent`
    const p = await run(t, 'zsh', ['-f', '-c', script], { env })
    assert.equal(p.stderr, '')
    return lines(p.stdout)
  }
  assert.ok((await zsh([''])).includes('unarchive'))
  assert.ok((await zsh(['run', '--'])).includes('--machine'))
  assert.deepEqual(await zsh(['cancel', '']), [created])
  isUsageError(await agent(t, ['completion', 'tcsh']), /bash, zsh or fish/)
})
