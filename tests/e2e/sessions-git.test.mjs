// What becomes of an agent's work, whatever it and the repository do: it is on the remote, or it is kept and named.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { execFileSync } from 'node:child_process'
import { Proc, file, git, programs, sh, until } from './lib.mjs'
import { changes, inRemote, place, plain, ran, snapshot, unchanged } from './sessions-help.mjs'

const finished = e => assert.equal(e.status, 'FINISHED', JSON.stringify(e))
const failed = (e, code, message) => { assert.equal(e.status, 'ERROR', JSON.stringify(e)); assert.equal(e.error.code, code); assert.match(e.error.message, message) }
const branchesOf = e => e.git.branches.map(b => b.branch)
const notes = e => JSON.stringify(e.warnings ?? [])
const hook = (p, name, text) => fs.writeFileSync(path.join(p, '.git/hooks', name), `#!/bin/sh\n${text}\n`, { mode: 0o755 })
const logsOf = async (p, run) => { const c = p.pool.cli(['logs', run.id]); await c.exited; return c.stdout + c.stderr }

test('work is published wherever the agent left it', async t => {
  const p = await place(t, 'root')
  // Each with content of its own: the same commit would be on origin already, by the agent before.
  const cases = {
    'git checkout main after a commit': [`echo 1 > a; git add a; git commit -qm mine; git checkout -q main`, { '': ['a'] }],
    'a commit and work on main': [`echo 2 > a; git add a; git commit -qm mine; git checkout -q main; echo 3 > b; git add b; git commit -qm on-main`, { '': ['a'], '-main': ['b'] }],
    'a detached HEAD with a commit': [`git checkout -q --detach; echo 4 > a; git add a; git commit -qm mine`, { '': ['a'] }],
    'a commit only on another branch, and back': [`git checkout -qb feature/x; echo 5 > a; git add a; git commit -qm mine; git checkout -q -`, { '': ['a'] }],
    'two other branches': [`git checkout -qb one; echo 6 > a; git add a; git commit -qm a; git checkout -q main; git checkout -qb two; echo 7 > b; git add b; git commit -qm b; git checkout -q main`, null],
    'what is not committed, staged and not': [`echo 8 > a; git add a; echo 9 > b; rm README.md`, { '': ['README.md', 'a', 'b'] }],
    'a rebase that went well': [`echo 10 > a; git add a; git commit -qm one; git commit -qm two --allow-empty; git rebase -q --root -f`, null],
  }
  for (const [name, [does, wanted]] of Object.entries(cases))
    await t.test(name, async () => {
      const { end } = await ran(p, sh(does))
      finished(end)
      const [own] = branchesOf(end)
      if (wanted) {
        assert.deepEqual(branchesOf(end), Object.keys(wanted).map(s => own + s), JSON.stringify(end))
        for (const [suffix, files] of Object.entries(wanted)) assert.deepEqual(await changes(p, own + suffix), files)
      } else {
        assert.ok(end.git.branches.length >= 1)
        for (const b of branchesOf(end)) assert.notEqual(await inRemote(p, 'rev-parse', b), '')
      }
      await plain(p, name)
    })
})

test('hooks of the repository that refuse: their words are shown, the work waits for its agent, and comes back', async t => {
  const p = await place(t, 'root')
  const dir = path.join(p.seedDir, '.git/hooks')
  for (const [name, words, prefix] of [['pre-commit', 'tabs are not allowed', ''], ['commit-msg', 'a ticket is missing', ''], ['pre-push', 'no pushing on Fridays', '']])
    await t.test(name, async () => {
      hook(p.seedDir, name, `echo '${words}' >&2; echo "in $(pwd)" >&2; exit 1`)
      p.before = snapshot(p.seedDir)
      const { run, end } = await ran(p, file('mine.txt', `${name}\n`))
      failed(end, 'push_failed', new RegExp(words))
      assert.match(end.keptWork.ref, /^refs\/bullpen\/agents\//)
      assert.match(await logsOf(p, run), new RegExp(words))
      // Another agent is between, with the same refusal; then the hook is mended.
      failed((await ran(p, file('other.txt', 'x\n'))).end, 'push_failed', new RegExp(words))
      fs.rmSync(path.join(dir, name))
      p.before = snapshot(p.seedDir)
      await plain(p, name)
      const next = await run.followUp(sh('cat mine.txt', true))
      const e = await next.end()
      finished(e)
      assert.deepEqual(await changes(p, branchesOf(e)[0]), ['mine.txt'])
      assert.equal(e.keptWork, undefined)
      await plain(p, `${name}, after it`)
    })
})

test('a branch that the remote protects, and one that moved on: said in the words of the remote, kept, and not overwritten', async t => {
  const p = await place(t, 'root')
  fs.writeFileSync(path.join(p.remote.bare, 'hooks/pre-receive'), '#!/bin/sh\necho "GL-HOOK-ERR: branch is protected by policy 7" >&2\nexit 1\n', { mode: 0o755 })
  const { run, end } = await ran(p, file('mine.txt', 'x\n'))
  failed(end, 'push_failed', /policy 7/)
  assert.match(end.error.message, /a rule of the remote refused the push/)
  fs.rmSync(path.join(p.remote.bare, 'hooks/pre-receive'))
  await plain(p)
  const back = await (await run.followUp(sh('cat mine.txt', true))).end()
  finished(back)
  const branch = branchesOf(back)[0]
  // Somebody pushes to the agent's branch while it is at work.
  const other = await p.remote.clone(path.join(p.pool.dir, 'other'))
  await git(other, 'checkout', '-q', branch)
  fs.writeFileSync(path.join(other, 'theirs.txt'), 'theirs\n')
  await git(other, 'add', '-A')
  await git(other, 'commit', '-qm', 'theirs')
  const go = path.join(p.remote.bare, 'go')
  const third = await run.followUp(file('third.txt', 'x\n') + sh(`touch ${go}.here; until [ -e ${go} ]; do sleep 0.02; done`))
  await until('it is at work', () => fs.existsSync(`${go}.here`))
  await git(other, 'push', '-q', 'origin', branch)
  fs.writeFileSync(go, '')
  const e = await third.end()
  failed(e, 'push_failed', /has moved on origin and was not overwritten/)
  assert.match(e.keptWork.commit, /^[0-9a-f]{40}$/)
  assert.equal(await inRemote(p, 'log', '-1', '--format=%s', branch), 'theirs')
})

test('cancelled with work, another agent\'s run, and then the follow-up has it again', async t => {
  const p = await place(t, 'root')
  const run = await p.pool.run(file('mine.txt', 'half done\n') + sh('echo 2 > staged; git add staged; echo rea$((1))dy; exec sleep 300'))
  const stream = await run.stream()
  await stream.until('it is at work', e => JSON.stringify(e.data).includes('rea1dy'))
  await run.cancel()
  assert.equal((await run.end()).status, 'CANCELLED')
  await plain(p)
  const kept = (await run.get()).keptWork ?? (await p.pool.http('GET', `/v1/agents/${run.agentId}`)).json.keptWork
  const e = await (await run.followUp(sh('cat mine.txt staged', true))).end()
  finished(e)
  assert.match(e.result, /^1 of 1/)
  assert.deepEqual(await changes(p, branchesOf(e)[0]), ['mine.txt', 'staged'])
  await plain(p)
  void kept
})

test('a worker that is killed in the middle: the next one of the same data folder has the work', async t => {
  for (const kind of ['root', 'nobody']) {
    const p = await place(t, kind, { args: ['--worker-id', `w-${kind}`] })
    const run = await p.pool.run(file('mine.txt', 'half done\n') + sh('echo rea$((1))dy; exec sleep 300') + sh('cat mine.txt', true))
    const stream = await run.stream()
    await stream.until('it is at work', e => JSON.stringify(e.data).includes('rea1dy'))
    await p.worker.kill('SIGKILL')
    p.worker = await p.startWorker()
    const e = await run.end()
    finished(e)
    assert.deepEqual(await changes(p, branchesOf(e)[0]), ['mine.txt'])
    await plain(p)
    assert.deepEqual(fs.readdirSync(path.join(p.data, 'sessions')).filter(n => !n.startsWith('.') && n !== e.agentId).length, 1, 'only the session that is open')
  }
})

test('unpublished work on one worker, a follow-up on another: the person reads where it is', async t => {
  const p = await place(t, 'root')
  hook(p.seedDir, 'pre-commit', 'echo never; exit 1')
  const { run, end } = await ran(p, file('mine.txt', 'x\n'))
  failed(end, 'push_failed', /never/)
  await p.worker.kill('SIGTERM')
  await p.pool.worker({ name: 'second' })
  const next = await run.followUp(sh('ls'))
  finished(await next.end())
  const text = await logsOf(p, next)
  assert.match(text, new RegExp(`unpublished work of this agent is on worker w1 .*${end.keptWork.commit}`))
  assert.equal((await next.get()).keptWork.commit, end.keptWork.commit)
})

test('submodules: a pointer that origin moved stays, one that the agent moved is said', async t => {
  const p = await place(t, 'root', { lib: true })
  const by = await p.remote.clone(path.join(p.pool.dir, 'moves'))
  await git(by, '-c', 'protocol.file.allow=always', 'submodule', '--quiet', 'update', '--init')
  fs.writeFileSync(path.join(by, 'lib/l'), 'newer\n')
  await git(path.join(by, 'lib'), 'commit', '-qam', 'newer')
  await git(path.join(by, 'lib'), 'push', '-q', 'origin', 'HEAD:main')
  await git(by, 'commit', '-qam', 'moved')
  await git(by, 'push', '-q', 'origin', 'main')
  const { end } = await ran(p, file('a', 'a\n') + sh('grep -q newer lib/l', true))
  finished(end)
  assert.match(end.result, /^2 of 2/)
  assert.deepEqual(await changes(p, branchesOf(end)[0]), ['a'])
  await plain(p)
  const moved = (await ran(p, sh('cd lib; echo mine > l; git commit -qam mine'))).end
  finished(moved)
  assert.match(notes(moved), /Submodule lib was moved/)
  await plain(p)
})

test('repositories inside: everything else is published, they are named', async t => {
  const p = await place(t, 'root')
  const { end } = await ran(p, sh('mkdir app lone; cd lone; git init -q; echo 1 > m; cd ../app; git init -q; echo 1 > m; git add m; git commit -qm inner; cd ..; echo 1 > a'))
  finished(end)
  assert.deepEqual(await changes(p, branchesOf(end)[0]), ['a'])
  assert.deepEqual(end.notPublished.map(n => n.path).sort(), ['app', 'lone'])
  await plain(p)
  const added = (await ran(p, sh('mkdir app; cd app; git init -q; echo 1 > m; git add m; git commit -qm inner; cd ..; git add app 2>/dev/null; echo 1 > a'))).end
  finished(added)
  assert.match(JSON.stringify(added.notPublished), /"path":"app","reason":"only a link/)
  await plain(p)
})

test('seeds as people have them: private files, hidden ones, sparse, a subfolder, a worktree, a folder of something else', async t => {
  const arrange = {
    'untracked files of the seed, which status does not show': { seed: async d => { fs.writeFileSync(path.join(d, 'private.txt'), 'secret\n'); await git(d, 'config', 'status.showUntrackedFiles', 'no') } },
    'sparse, and a file beyond the cone': { seed: async d => { await git(d, 'sparse-checkout', 'set', 'src') }, files: ['docs/new'] },
    'carriage returns that may not be': { seed: async d => { await git(d, 'config', 'core.safecrlf', 'true'); await git(d, 'config', 'core.autocrlf', 'input') }, does: sh(`printf 'a\\r\\nb\\r\\n' > crlf.txt`), files: ['crlf.txt'] },
    'on another branch, with changes': { seed: async d => { await git(d, 'checkout', '-qb', 'mine'); fs.writeFileSync(path.join(d, 'README.md'), 'changed\n'); fs.rmSync(path.join(d, 'src/a.txt')) } },
    'an unfinished merge of the operator': { seed: async d => { fs.writeFileSync(path.join(d, '.git/MERGE_HEAD'), (await git(d, 'rev-parse', 'HEAD')) + '\n'); fs.writeFileSync(path.join(d, '.git/index.lock'), '') } },
    'a post-checkout hook of a git-lfs that is not there': { seed: d => { hook(d, 'post-checkout', 'git lfs post-checkout "$@" || exit 2'); hook(d, 'post-commit', 'git lfs post-commit "$@" || exit 2') } },
    'an address that is rewritten': { seed: async (d, p) => { await git(d, 'config', `url.file://${p.pool.dir}/remotes/.insteadOf`, 'https://git.example.test/'); await git(d, 'config', 'remote.origin.url', 'https://git.example.test/acme/web.git') }, repo: 'https://git.example.test/acme/web' },
  }
  for (const [name, a] of Object.entries(arrange))
    await t.test(name, async t => {
      const p = await place(t, 'root', { seed: a.seed })
      const repo = a.repo
      const { end } = await ran(p, a.does ?? file(a.files?.[0] ?? 'new.txt', 'x\n'), repo ? { repo } : {})
      finished(end)
      assert.deepEqual(await changes(p, branchesOf(end)[0]), a.files ?? ['new.txt'])
      // The next user, and the seed.
      const next = (await ran(p, file('next.txt', 'x\n'), repo ? { repo } : {})).end
      finished(next)
      assert.deepEqual(await changes(p, branchesOf(next)[0]), ['next.txt'])
      unchanged(p.before, p.seedDir, name)
    })
  for (const kind of ['root', 'nobody']) {
    await t.test(`${kind}: a linked worktree, a subfolder, and an untracked folder`, async t => {
      const p = await place(t, kind, { worker: false, seed: async (d, p) => {
        await git(d, 'worktree', 'add', '-q', path.join(p.pool.dir, 'linked'), '-b', 'linked')
        fs.mkdirSync(path.join(d, 'untracked/deep'), { recursive: true })
      } })
      if (p.uid) execFileSync('chown', ['-R', `${p.uid}`, path.join(p.pool.dir, 'linked')])
      for (const [i, dir] of [path.join(p.pool.dir, 'linked'), path.join(p.seedDir, 'src'), path.join(p.seedDir, 'untracked/deep')].entries()) {
        const data = path.join(p.pool.dir, `data-${i}`)
        fs.mkdirSync(data)
        if (p.uid) fs.chownSync(data, p.uid, p.uid)
        const before = snapshot(dir)
        const w = await p.pool.worker({ dir, data, pool: `p${i}`, uid: p.uid, env: { HOME: p.home, CURSOR_WORKER_SESSION_SHARE: '' } })
        for (let k = 0; k < 2; k++) {
          const { end } = await ran(p, sh(`test "$(git rev-parse --is-inside-work-tree)" = true && echo ${k} > new-${k}.txt`, true), { pool: `p${i}` })
          finished(end)
          assert.deepEqual(await changes(p, branchesOf(end)[0]), [`${['', 'src/', 'untracked/deep/'][i]}new-${k}.txt`], `${dir}: ${JSON.stringify(end)}`)
        }
        await w.kill() // the next one is given another folder of the same checkout
        unchanged(before, dir, dir)
      }
    })
  }
})

test('rules of what is ignored are rewritten: private files and caches of the seed stay where they are', async t => {
  for (const kind of ['root', 'nobody']) {
    const p = await place(t, kind, { seed: d => fs.writeFileSync(path.join(d, '.git/info/exclude'), '.env\n') || fs.writeFileSync(path.join(d, '.env'), 'SECRET=1\n') })
    const { end } = await ran(p, sh('grep -q SECRET .env && test -e cache/warm && rm .gitignore .git/info/exclude && echo "*.log" > .gitignore && echo 1 > a', true))
    finished(end)
    assert.match(end.result, /^1 of 1/)
    assert.deepEqual(await changes(p, branchesOf(end)[0]), ['.gitignore', 'a'])
    assert.deepEqual(end.notPublished?.map(n => n.path).sort(), ['.env', 'cache'])
    await plain(p)
  }
})

test('an empty origin: two agents', async t => {
  const p = await place(t, 'root', { worker: false })
  const bare = path.join(p.pool.dir, 'remotes/acme/empty.git')
  await git(p.pool.dir, 'init', '-q', '--bare', '-b', 'main', bare)
  const dir = path.join(p.pool.dir, 'empty')
  await git(p.pool.dir, 'clone', '-q', `file://${bare}`, dir)
  await p.pool.worker({ dir })
  for (const name of ['one', 'two']) {
    const { end } = await ran(p, file(name, 'x\n'), { repo: `file://${bare}` })
    finished(end)
    assert.equal(await git(bare, 'ls-tree', '--name-only', branchesOf(end)[0]), name)
  }
})

test('names that stand in each other\'s way: release became release/1.0, and origin has a branch of our prefix', async t => {
  const p = await place(t, 'root')
  await git(p.remote.bare, 'branch', 'release', 'main')
  finished((await ran(p, file('a', 'x\n'), { extra: { repos: [{ url: p.remote.url, startingRef: 'release' }] } })).end)
  await git(p.remote.bare, 'branch', '-D', 'release')
  await git(p.remote.bare, 'branch', 'release/1.0', 'main')
  finished((await ran(p, file('b', 'x\n'), { extra: { repos: [{ url: p.remote.url, startingRef: 'release/1.0' }] } })).end)
  const first = (await ran(p, file('c', 'x\n'))).end
  const prefix = branchesOf(first)[0].split('/')[0]
  for (const b of (await p.remote.branches()).filter(b => b.startsWith(`${prefix}/`))) await git(p.remote.bare, 'branch', '-D', b)
  await git(p.remote.bare, 'branch', prefix, 'main')
  const { end } = await ran(p, file('d', 'x\n'))
  finished(end)
  assert.match(branchesOf(end)[0], new RegExp(`^${prefix}-`))
  assert.match(notes(end) + JSON.stringify(end), /instead|-/)
  assert.deepEqual(await changes(p, branchesOf(end)[0]), ['d'])
  await plain(p)
})

test('starting refs as people write them', async t => {
  const p = await place(t, 'root')
  await git(p.remote.bare, 'tag', 'v1', 'main')
  for (const ref of ['refs/heads/main', 'refs/tags/v1', 'origin/main', 'HEAD', 'v1'])
    finished((await ran(p, file('a', 'x\n'), { extra: { repos: [{ url: p.remote.url, startingRef: ref }] } })).end)
})

test('two workers on one folder, with data folders of their own: no file of one run is on the branch of the other', async t => {
  const p = await place(t, 'root', { worker: false })
  await p.startWorker()
  const second = p.pool.worker({ dir: p.seedDir, data: path.join(p.pool.dir, 'wd2'), ready: false })
  await second
  const go = path.join(p.remote.bare, 'go')
  const runs = await Promise.all(['one', 'two'].map(n => p.pool.run(file(`${n}.txt`, 'x\n') + sh(`touch ${go}.${n}; echo done`))))
  for (const [i, r] of runs.entries()) {
    const e = await r.end()
    finished(e)
    assert.deepEqual(await changes(p, branchesOf(e)[0]), [`${['one', 'two'][i]}.txt`])
  }
})

test('an agent commits, fetches and pushes by itself on a machine without a name', async t => {
  for (const kind of ['root', 'nobody', 'none']) {
    const p = await place(t, kind)
    const { end, run } = await ran(p, sh('unset GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_COMMITTER_NAME GIT_COMMITTER_EMAIL; echo 1 > a && git add a && git commit -qm own && git fetch -q && git push -q origin HEAD:by-hand && git pull -q origin main && git log -1 --format=%ae', true))
    finished(end)
    assert.match(end.result, /^1 of 1/, JSON.stringify((await run.events()).filter(e => e.event === 'tool_call').map(e => e.data.result)))
    assert.deepEqual(await changes(p, 'by-hand'), ['a'])
    assert.equal(await inRemote(p, 'log', '-1', '--format=%ae', branchesOf(end)[0]), 'bullpen@localhost')
    await plain(p)
  }
})

test('a disk that is full: the run goes on or says so, the work is not half there, and with space again all is well', { skip: process.getuid() !== 0 && 'a small file system needs root' }, async t => {
  const p = await place(t, 'root', { worker: false })
  // The worker alone sees the small file system: it is mounted in a namespace of its own.
  const start = path.join(p.pool.dir, 'small.sh')
  fs.writeFileSync(start, `#!/bin/sh\nmount -t tmpfs -o size=300m none '${p.data}' && exec "$@"\n`, { mode: 0o755 })
  const w = new Proc(t, 'unshare', ['-m', start, programs.agent, 'worker', 'start', '--pool', '--worker-dir', p.seedDir, '--endpoint', p.pool.url, '--data-dir', p.data],
    { env: { CURSOR_API_KEY: p.pool.poolKey, HOME: p.home } })
  await w.says(/^Worker is now running$/m)
  p.worker = w
  const { end, branch } = await ran(p, sh('head -c 400000000 /dev/zero > big.bin; rm -f big.bin; echo small > small.txt'))
  finished(end)
  assert.deepEqual(await changes(p, branch), ['small.txt'])
  await plain(p)
  const full = (await ran(p, sh('head -c 400000000 /dev/zero > big.bin; echo small > small.txt'))).end
  failed(full, 'push_failed', /space/i)
  assert.doesNotMatch(JSON.stringify(await p.remote.branches()), /never/)
  await plain(p, 'after a full disk')
})

test('what root left behind: files of others, of mode 000, immutable names', { skip: process.getuid() !== 0 && 'only root can make them' }, async t => {
  const p = await place(t, 'root')
  for (const does of ['mkdir -p d/e; echo 1 > d/e/f; chown -R 12345:12345 d; chmod 000 d/e/f d/e d; echo 1 > a1', 'install -d -m 0 x/y; chown 1:1 .git .git/config; chmod 000 .git/config; echo 1 > a2', 'chmod -R 000 .git src; echo 1 > a3']) {
    const { end } = await ran(p, sh(does))
    assert.ok(['FINISHED', 'ERROR'].includes(end.status))
    await plain(p, does)
  }
  await until('no folder of a session is left but the last one', () => fs.readdirSync(path.join(p.data, 'sessions')).filter(n => !n.startsWith('.')).length === 1)
})

test('a local folder as origin is no repository of a host', async t => {
  const p = await place(t, 'root')
  const run = await p.pool.run(file('a', 'x\n'), { repo: 'https://h.example.test/acme/web' })
  const r = await until('it waits, and says for what', async () => { const r = await run.get(); return r.wait?.code === 'no_repo' && r })
  assert.match(r.wait.text, /h\.example\.test|acme\/web/)
  await run.cancel()
  await plain(p)
  assert.deepEqual((await p.remote.branches()).length, 2)
})

test('git\'s own words: a ref that is not there, an origin that went away', async t => {
  const p = await place(t, 'root')
  failed((await ran(p, file('a', 'x\n'), { extra: { repos: [{ url: p.remote.url, startingRef: 'no/such' }] } })).end, 'clone_failed', /'no\/such' was not found on origin/)
  fs.renameSync(p.remote.bare, `${p.remote.bare}.away`)
  const run = await p.pool.run(file('a', 'x\n'))
  const r = await until('it waits for another worker', async () => { const r = await run.get(); return r.wait && r })
  assert.match(r.wait.text, /origin|unfit/)
  fs.renameSync(`${p.remote.bare}.away`, p.remote.bare)
  await run.cancel()
})
