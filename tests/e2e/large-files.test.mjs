// git-lfs: what a session's commits point to goes to the remote with them, and nothing else does.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { createHash } from 'node:crypto'
import { bullpen, sh, git } from './lib.mjs'

const oid = text => createHash('sha256').update(text).digest('hex')
const stored = (origin, id) => path.join(origin.bare, 'lfs', 'objects', id.slice(0, 2), id.slice(2, 4), id)

async function lfsSeed(pool, name, hooks) {
  const origin = await pool.origin()
  const seed = await origin.clone(path.join(pool.dir, name))
  await git(seed, 'lfs', 'install', '--local', ...(hooks ? [] : ['--skip-repo']))
  if (!fs.existsSync(path.join(seed, '.gitattributes'))) {
    await git(seed, 'lfs', 'track', '*.bin')
    for (const text of ['zero\n', 'one\n']) {
      fs.writeFileSync(path.join(seed, 'a.bin'), text)
      await git(seed, 'add', '-A')
      await git(seed, 'commit', '-qm', 'large files')
    }
    await git(seed, 'lfs', 'push', 'origin', 'HEAD')
    await git(seed, 'push', '-q', 'origin', 'HEAD:main')
    // As in a clone: what only history names is on the remote alone.
    fs.rmSync(path.join(seed, '.git', 'lfs', 'objects', oid('zero\n').slice(0, 2)), { recursive: true })
  }
  // `track` and `push` of git-lfs put it there too.
  if (!hooks) fs.rmSync(path.join(seed, '.git', 'hooks', 'pre-push'), { force: true })
  return seed
}

for (const hooks of [true, false])
  test(`large files go with the branch, ${hooks ? 'by the hook of the seed' : 'also if the seed has no hook of git-lfs'}`, async t => {
    const pool = await bullpen(t)
    const origin = await pool.origin()
    const seed = await lfsSeed(pool, 'seed', hooks)
    await pool.worker({ dir: seed })
    const secret = path.join(pool.dir, 'secret')
    fs.writeFileSync(secret, 'of the machine\n')
    const planted = oid('planted')
    const r = await (await pool.run(sh(`test "$(cat a.bin)" = one && printf two > b.bin && git add b.bin &&
      mkdir -p .git/lfs/objects/${planted.slice(0, 2)}/${planted.slice(2, 4)} && ln -s ${secret} .git/lfs/objects/${planted.slice(0, 2)}/${planted.slice(2, 4)}/${planted}`, true))).end()
    assert.equal(r.status, 'FINISHED', JSON.stringify(r))
    const branch = r.git.branches[0].branch
    assert.match(await origin.show(branch, 'b.bin'), new RegExp(`^oid sha256:${oid('two')}$`, 'm'))
    assert.equal(fs.readFileSync(stored(origin, oid('two')), 'utf8'), 'two')
    assert.ok(!fs.existsSync(stored(origin, planted)), 'a link out of the session is not followed')
    assert.deepEqual(fs.readdirSync(path.join(seed, '.git', 'lfs', 'objects')), [oid('one\n').slice(0, 2)], 'the seed has nothing of it')
  })
