// Workers of several folders, of none that is a repository, and those that clone what a request names.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, git, run, programs, sh, file, until } from './lib.mjs'

const folder = (pool, name) => { const d = path.join(pool.dir, name); fs.mkdirSync(d); return d }
const results = async r => JSON.stringify(await r.events())

test('a worker of several folders serves the repository of each, and the agent sees all of them', async t => {
  const pool = await bullpen(t)
  const web = await pool.origin(), api = await pool.remote({ name: 'acme/api', files: { 'api.txt': 'api\n' } })
  const [one, two, plain] = [await web.clone(path.join(pool.dir, 'one')), await api.clone(path.join(pool.dir, 'two')), folder(pool, 'plain')]
  fs.writeFileSync(path.join(plain, 'notes.txt'), 'notes\n')
  const w = await pool.worker({ dir: one, args: ['--worker-dir', two, '--worker-dir', plain, '--verbose'] })
  assert.match(w.stdout + w.stderr, /^repo=acme\/web$/m)
  assert.match(w.stdout + w.stderr, /^repo=acme\/api$/m)
  for (const [origin, name] of [[web, 'one'], [api, 'two'], [web, 'one']]) {
    const r = await pool.run(sh('basename $PWD; ls') + file('new.txt', 'new\n'), { repo: origin.url })
    const end = await r.end()
    assert.equal(end.status, 'FINISHED', JSON.stringify(end))
    const { branch, repoUrl } = end.git.branches[0]
    assert.equal(`file://${repoUrl}.git`, origin.url)
    assert.equal(await git(origin.bare ?? origin.url.replace('file://', ''), 'show', `${branch}:new.txt`), 'new')
    const said = await results(r)
    assert.ok(said.includes(name === 'one' ? 'README.md' : 'api.txt'), 'it begins in the folder of its repository')
  }
})

test('an agent of a pool for any repository works in the folder as it is; what it names is not cloned', async t => {
  const pool = await bullpen(t)
  const dir = folder(pool, 'any')
  fs.writeFileSync(path.join(dir, 'tools.txt'), 'tools\n')
  await pool.worker({ pool: 'any', dir })
  for (const repo of [null, (await pool.origin()).url]) {
    const r = await pool.run(sh('cat tools.txt'), { pool: 'any', repo })
    const end = await r.end()
    assert.equal(end.status, 'FINISHED', JSON.stringify(end))
    assert.ok((await results(r)).includes('tools'))
    assert.equal(end.git?.branches?.[0]?.commit, undefined, 'nothing was published')
  }
})

test('--clone-git-repos clones what a request names, works on a branch of it and publishes', async t => {
  const pool = await bullpen(t)
  const web = await pool.origin(), api = await pool.remote({ name: 'acme/api', files: { 'api.txt': 'api\n' } })
  const dir = folder(pool, 'any')
  const w = await pool.worker({ pool: 'any', dir, name: null, args: ['--clone-git-repos'] })
  const first = await pool.run(sh('cat README.md; ls ..') + file('a.txt', '1\n'), { pool: 'any', repo: web.url })
  let end = await first.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  const branch = end.git.branches[0].branch
  assert.equal(await git(web.url.replace('file://', ''), 'show', `${branch}:a.txt`), '1')
  // A follow-up finds its workspace; another agent gets another repository, and two of them.
  end = await (await first.followUp(sh('cat a.txt >> b.txt'))).end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  assert.equal(await git(web.url.replace('file://', ''), 'show', `${branch}:b.txt`), '1')
  const both = await pool.run(sh('cat api.txt; cat ../*/README.md') + file('c.txt', '2\n'), { pool: 'any', repo: api.url, extra: { repos: [{ url: api.url }, { url: web.url }] } })
  end = await both.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  assert.equal(await git(api.url.replace('file://', ''), 'show', `${end.git.branches[0].branch}:c.txt`), '2')
  // None at all.
  assert.equal((await (await pool.run(sh('true'), { pool: 'any', repo: null })).end()).status, 'FINISHED')
  assert.equal((await (await pool.run(file('d.txt', '3\n'), { pool: 'any', repo: web.url })).end()).status, 'FINISHED')
  assert.equal((w.stderr.match(/worker\.cloned/g) ?? []).length, 2, 'each was cloned once')
  assert.deepEqual(fs.readdirSync(dir), [], 'nothing is left in the folder of the worker')
})

test('a checkout that lies in the folder is taken instead, and a repository that is not there ends the run with what git said', async t => {
  const pool = await bullpen(t)
  const web = await pool.origin(), dir = folder(pool, 'any')
  await web.clone(path.join(dir, 'ready'))
  fs.writeFileSync(path.join(dir, 'ready', 'mine.txt'), 'mine\n')
  const w = await pool.worker({ pool: 'any', dir, name: null, args: ['--clone-git-repos'] })
  const r = await pool.run(sh('ls') + file('a.txt', '1\n'), { pool: 'any', repo: web.url })
  const first = await r.end()
  assert.equal(first.status, 'FINISHED', JSON.stringify(first))
  assert.ok(!(await results(r)).includes('mine.txt'), 'what is not committed there is nobody else\'s')
  assert.ok(!w.stderr.includes('worker.cloned'))
  assert.deepEqual(fs.readdirSync(path.join(dir, 'ready')).sort(), ['.git', 'README.md', 'mine.txt'])
  const gone = await pool.run(sh('true'), { pool: 'any', repo: `file://${pool.dir}/acme/nowhere.git` })
  const end = await gone.end()
  assert.deepEqual([end.status, end.error.code], ['ERROR', 'clone_failed'])
  assert.match(end.error.message, /nowhere/)
  assert.equal((await (await pool.run(sh('true'), { pool: 'any', repo: web.url })).end()).status, 'FINISHED', 'the worker goes on')
})
