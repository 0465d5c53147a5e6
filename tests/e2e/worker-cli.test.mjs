// The command line of a worker as its reference writes it, word for word, and what the worker then says of itself: to a
// control plane that is not ours, and to the people who started it.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { Proc, bullpen, makeRemote, programs, run, tempDir } from './lib.mjs'
import { Plane } from './plane.mjs'

// A folder to work in, whose origin is acme/web unless `plain`.
async function folder(t, { plain = false } = {}) {
  const dir = tempDir(t)
  if (plain) { fs.mkdirSync(path.join(dir, 'work')); return { dir, work: path.join(dir, 'work') } }
  const origin = await makeRemote(dir)
  return { dir, work: await origin.clone(path.join(dir, 'work')) }
}

// The line of the reference, in the folder, with the settings around it in the environment.
async function start(t, plane, line, { plain, env = {}, at } = {}) {
  const f = at ?? await folder(t, { plain })
  const [, ...args] = line.split(' ')
  const p = new Proc(t, programs.agent, args, { cwd: f.work, env: { CURSOR_API_KEY: 'key', CURSOR_API_ENDPOINT: plane.url, XDG_DATA_HOME: path.join(f.dir, 'share'), ...env } })
  return Object.assign(p, { dir: f.dir, work: f.work })
}
const labels = hello => hello.labels.map(l => `${l.key}=${l.value}`)

test('the three spellings register the same', async t => {
  for (const line of [
    'agent worker start --pool --pool-name ci --label os=linux',
    'agent worker --pool ci --label os=linux start',
    'agent worker --label os=linux start --pool ci',
  ]) {
    const plane = await Plane.start(t)
    const w = await start(t, plane, line)
    const { hello } = await plane.link()
    assert.deepEqual([hello.pool, labels(hello), hello.personal, hello.roots.map(r => r.repo)], ['ci', ['os=linux'], false, ['acme/web']], line)
    await w.says(/^Worker is now running\nRegistering to worker pool\nRepo: acme\/web\nPool: ci\n/)
  }
})

test('lines of the reference: pools', async t => {
  const lines = {
    'agent worker start --pool': 'default',
    'agent worker --pool start': 'default',
    'agent worker --pool=start start': 'start',
    'agent worker start --single-use': 'default',
    'agent worker start --single-use --pool-name gpu': 'gpu',
    'agent worker start --pool gpu --pool-name gpu': 'gpu',
    'agent --api-key K worker start --pool ci': 'ci',
    'agent worker --pool ci --worker-dir . start': 'ci',
  }
  for (const [line, pool] of Object.entries(lines)) {
    const plane = await Plane.start(t)
    await start(t, plane, line)
    const { hello, token } = await plane.link()
    assert.equal(hello.pool, pool, line)
    assert.equal(token, line.includes(' K ') ? 'K' : 'key')
  }
  const plane = await Plane.start(t)
  await start(t, plane, 'agent worker start --pool', { env: { CURSOR_WORKER_POOL_NAME: 'from-env' } })
  assert.equal((await plane.link()).hello.pool, 'from-env')
})

test('a Hello says all that is registered', async t => {
  const plane = await Plane.start(t)
  await start(t, plane, 'agent worker start --pool ci --name box-1 --worker-id ctrl-7 --idle-release-timeout 600 --label tools=podman --label tools=cuda')
  const { hello } = await plane.link()
  assert.equal(hello.worker_id, 'ctrl-7')
  assert.equal(hello.name, 'box-1')
  assert.equal(hello.idle_release_s, 600)
  assert.equal(hello.idle_release_given, true)
  assert.equal(hello.max_sessions, 0)
  assert.equal(hello.os, 'linux')
  assert.match(hello.arch, /^(x86_64|aarch64)$/)
  assert.deepEqual(labels(hello), ['tools=podman', 'tools=cuda'])
  assert.deepEqual(hello.capabilities, [])
})

test('a worker that clones says so', async t => {
  const plane = await Plane.start(t)
  await start(t, plane, 'agent worker start --pool any --clone-git-repos', { plain: true, env: { CURSOR_WORKER_NAME: 'box' } })
  assert.deepEqual((await plane.link()).hello.capabilities, ['clone_git_repos'])
})

test('JSON, TOML, a JSON list and the environment give the same labels', async t => {
  const dir = tempDir(t)
  const forms = {
    'labels.json': '{ "tier": "gold", "tools": ["podman", "cuda"] }',
    'labels.toml': 'tier = "gold"\ntools = ["podman", "cuda"]\n',
    'list.json': '[{"key":"tier","value":"gold"},{"key":"tools","value":"podman"},{"key":"tools","value":"cuda"}]',
    labels: 'tier = "gold"\ntools = [\n  "podman", # and\n  "cuda",\n]\n',
  }
  for (const [name, text] of Object.entries(forms)) {
    fs.writeFileSync(path.join(dir, name), text)
    for (const env of [false, true]) {
      const plane = await Plane.start(t)
      const file = path.join(dir, name)
      await start(t, plane, `agent worker start --pool${env ? '' : ` --labels-file ${file}`}`, { env: env ? { CURSOR_WORKER_LABELS_FILE: file } : {} })
      assert.deepEqual(labels((await plane.link()).hello), ['tier=gold', 'tools=podman', 'tools=cuda'], name)
    }
  }
})

test('a personal worker says whose machine it is and where to find it', async t => {
  const plane = await Plane.start(t)
  const w = await start(t, plane, 'agent worker start --name laptop')
  const { hello } = await plane.link()
  assert.deepEqual([hello.personal, hello.pool, hello.max_sessions, hello.idle_release_s, hello.idle_release_given], [true, '', 8, 0, false])
  await w.says(/^Worker is now running\nRepo: acme\/web\nName: laptop\nDirectory: .*\/work\nRun agents: http:\/\/127\.0\.0\.1:\d+#workerId=[0-9a-f-]{36}\n$/)
  assert.ok(w.stdout.includes(`Directory: ${fs.realpathSync(w.work)}\n`))
  assert.ok(w.stdout.includes(`#workerId=${hello.worker_id}\n`))
})

test('--verbose shows what is registered', async t => {
  const plane = await Plane.start(t)
  const f = await folder(t)
  const api = await (await makeRemote(f.dir, { name: 'acme/api' })).clone(path.join(f.dir, 'api'))
  const w = await start(t, plane, `agent worker start --verbose --worker-dir ${f.work} --worker-dir ${api} --label os=linux`, { at: f, env: { CURSOR_WORKER_POOL_NAME: 'ci' } })
  await plane.link()
  await w.says(/^repo=acme\/web\nrepo=acme\/api\nos=linux\nworkspacePaths: \[work, api\]\nx-repository-urls: \["file:\/\/\S+\/acme\/web\.git","file:\/\/\S+\/acme\/api\.git"\]$/m, 'stderr')
  await w.says(/CURSOR_WORKER_POOL_NAME counts with --pool only/, 'stderr')
})

test('a mistake is one line, and the status of a mistake', async t => {
  const f = await folder(t)
  const many = Array.from({ length: 21 }, () => `--worker-dir ${f.dir}`).join(' ')
  const cases = [
    ['agent worker', 2, null],
    ['agent worker start --pool --frobnicate', 2, /unknown option --frobnicate/],
    ['agent worker start --pool --label a=b --labels-file x', 2, /exclude each other/],
    ['agent worker start --pool-name x', 2, /--pool-name needs --pool/],
    [`agent worker start --pool ${many}`, 2, /at most 20 --worker-dir/],
    ['agent worker start --pool --worker-dir /nonexistent/x', 2, /\/nonexistent\/x is not a directory/],
    ['agent worker start --pool --label os', 2, /KEY=VALUE/],
    ['agent worker start --pool --label repo=a/b', 2, /derived from the git remote/],
    ['agent worker start --pool --label pool=ci', 2, /--pool ci/],
    ['agent worker start --pool --labels-file /nonexistent.json', 2, /\/nonexistent\.json/],
    ['agent worker start --pool --idle-release-timeout 1h', 2, /whole number of seconds/],
    ['agent worker start --pool --management-addr 8080', 2, /must be :PORT/],
    ['agent worker start --pool ci --clone-git-repos', 2, /checkout of acme\/web/],
    ['agent worker start --clone-git-repos', 2, /--clone-git-repos needs --pool/],
    ['agent worker start --pool --clone-git-repos', 2, /named pool/],
    ['agent worker start --pool any --clone-git-repos --name box', 2, /does not go with --name/],
    ['agent worker start --sync-dashboard-secrets', 2, /--sync-dashboard-secrets needs --pool/],
    ['agent worker start --pool --mint-github-token', 2, /--mint-github-token is not built in/],
    ['agent worker start --computer-use', 2, /--computer-use is not built in/],
    ['agent worker start --pool --api-key a --auth-token b', 2, /exclude each other/],
    ['agent worker start --pool', 3, /no credential/, { CURSOR_API_KEY: '' }],
    ['agent worker start', 3, /no credential/, { CURSOR_API_KEY: '' }],
  ]
  for (const [line, code, says, env = {}] of cases)
    for (const words of [line.split(' ').slice(1), line.replace(/ start (.*)/, ' $1 start').split(' ').slice(1)]) {
      const p = await run(t, programs.agent, words, { cwd: f.work, env: { CURSOR_API_KEY: 'key', XDG_DATA_HOME: path.join(f.dir, 'share'), ...env } })
      assert.equal(p.code, code, `${words.join(' ')}: ${p.stderr}`)
      if (says) { assert.match(p.stderr, says); assert.match(p.stderr, /^error: [^\n]+\n$/) }
    }
})

test('a data folder in use is status 5', async t => {
  const plane = await Plane.start(t)
  const w = await start(t, plane, 'agent worker start --pool')
  await plane.link()
  const p = await start(t, plane, 'agent worker start --pool', { at: { dir: w.dir, work: (await folder(t)).work } })
  await p.exited
  assert.equal(p.code, 5)
  assert.match(p.stderr, new RegExp(`in use by process ${w.pid}`))
})

test('--debug prints the report, then the worker starts', async t => {
  const plane = await Plane.start(t)
  const w = await start(t, plane, 'agent worker start --pool ci --debug')
  await plane.link()
  await w.says(/^Version: [^]*^OK: (yes|no)$[^]*^Worker is now running$/m)
})

test('with the real control plane: user keys start no pool workers, service accounts no personal ones', async t => {
  const pool = await bullpen(t)
  const f = await folder(t)
  for (const [args, key, line] of [
    [['--pool'], pool.userKey, /^error: pool workers need a service account API key$/m],
    [[], pool.poolKey, /^error: service account keys only start pool workers; add --pool or use a personal credential$/m],
  ]) {
    const p = await run(t, programs.agent, ['worker', 'start', ...args], { cwd: f.work, env: { CURSOR_API_KEY: key, CURSOR_API_ENDPOINT: pool.url, XDG_DATA_HOME: path.join(f.dir, 'share') } })
    assert.equal(p.code, 3)
    assert.match(p.stderr, line)
  }
  const mine = new Proc(t, programs.agent, ['worker', 'start', '--name', 'laptop'], { cwd: f.work, env: { CURSOR_API_KEY: pool.userKey, CURSOR_API_ENDPOINT: pool.url, XDG_DATA_HOME: path.join(f.dir, 'share') } })
  await mine.says(/^Name: laptop$/m)
})

test('the id is kept over restarts, and is another one for another kind of worker', async t => {
  const plane = await Plane.start(t)
  const first = await start(t, plane, 'agent worker start --pool')
  const one = (await plane.link(0)).hello.worker_id
  await first.kill('SIGTERM')
  const second = await start(t, plane, 'agent worker start --pool', { at: first })
  assert.equal((await plane.link(1)).hello.worker_id, one)
  await second.kill('SIGTERM')
  await start(t, plane, 'agent worker start', { at: first })
  assert.notEqual((await plane.link(2)).hello.worker_id, one)
})
