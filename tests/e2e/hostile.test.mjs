// Random hostile sessions against one worker. Each is a few nasty steps in a row; after each of them the seed is byte for
// byte what it was, nothing of the session runs, and a plain run publishes exactly its own file. A failure names its seed:
// HOSTILE_SEED=… HOSTILE_SESSIONS=… HOSTILE_AS=root|nobody make test-hostile does it again.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { randomBytes } from 'node:crypto'
import { sh } from './lib.mjs'
import { place, plain, ran } from './sessions-help.mjs'

// Some as root, who shows the seed by an overlay, some as another user, who copies it.
const plan = process.env.HOSTILE_SESSIONS || process.env.HOSTILE_AS ? { [process.env.HOSTILE_AS || 'root']: Number(process.env.HOSTILE_SESSIONS || 15) } : { root: 8, nobody: 7 }
const seed = process.env.HOSTILE_SEED || randomBytes(4).toString('hex')

// mulberry32: the same numbers from the same seed.
function numbers(text) {
  let a = [...text].reduce((h, c) => Math.imul(h ^ c.charCodeAt(0), 16777619), 2166136261) >>> 0
  const next = () => {
    a = (a + 0x6d2b79f5) >>> 0
    let x = Math.imul(a ^ (a >>> 15), 1 | a)
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296
  }
  return { upTo: n => Math.floor(next() * n), of: list => list[Math.floor(next() * list.length)], chance: c => next() < c }
}

const names = ['README.md', 'src/a.txt', 'src/deep/b.txt', 'new.txt', 'src', 'd/e/f', 'lib', 'lib/l', 'cache/warm', '.gitignore', '.gitattributes', '.gitmodules', "it's a name", '-rf', '*']
const inGit = ['config', 'HEAD', 'index', 'packed-refs', 'refs', 'refs/heads', 'objects', 'objects/info/alternates', 'info', 'info/exclude', 'hooks', 'modules', 'modules/lib', 'logs', 'shallow', 'commondir', 'MERGE_HEAD', 'index.lock', 'HEAD.lock', 'refs/heads/main.lock', 'ORIG_HEAD', 'objects/pack']
const keys = ['remote.origin.url', 'remote.origin.pushurl', 'core.hooksPath', 'core.fsmonitor', 'core.sshCommand', 'core.worktree', 'core.bare', 'core.excludesFile', 'core.attributesFile', 'core.sparseCheckout', 'core.splitIndex', 'core.ignoreStat', 'core.fileMode', 'core.autocrlf', 'core.safecrlf', 'core.eol', 'core.precomposeUnicode', 'core.trustctime', 'core.repositoryFormatVersion', 'core.sharedRepository', 'core.logAllRefUpdates', 'core.compression', 'index.version', 'index.sparse', 'status.showUntrackedFiles', 'user.name', 'commit.gpgSign', 'commit.template', 'filter.x.clean', 'filter.x.smudge', 'filter.x.process', 'filter.x.required', 'diff.external', 'merge.x.driver', 'uploadpack.packObjectsHook', 'uploadpack.hideRefs', 'transfer.hideRefs', 'extensions.worktreeConfig', 'extensions.partialClone', 'extensions.objectFormat', 'submodule.lib.update', 'submodule.lib.url', 'include.path', 'protocol.allow', 'http.proxy', 'url./nowhere.insteadOf', 'i18n.commitEncoding', 'fetch.recurseSubmodules', 'diff.ignoreSubmodules']
const q = s => `'${s.replaceAll("'", "'\\''")}'`

// What a step does; r picks, p knows the places.
const steps = [
  (r, p) => `git config ${r.of(keys)} ${q(r.of(['true', 'false', '/nowhere', '1', 'no', '!touch /tmp/x', p.seedDir, `${p.pool.dir}/trap`, 'ö\\"', '']))}`,
  r => `git config --global ${r.of(keys)} ${q(r.of(['true', '/nowhere', '1']))}`,
  r => `rm -rf -- ${q('.git/' + r.of(inGit))}`,
  r => `rm -rf -- ${q('.git/' + r.of(inGit))}; mkfifo ${q('.git/' + r.of(inGit))}`,
  r => `f=${q('.git/' + r.of(inGit))}; rm -rf "$f"; ln -s ${q(r.of(['/dev/zero', '/etc/passwd', '/nowhere', '.', '..', '/']))} "$f"`,
  (r, p) => `f=${q('.git/' + r.of(inGit))}; rm -rf "$f"; ln -s ${p.seedDir}/${q('.git/' + r.of(inGit))} "$f"`,
  (r, p) => `f=${q('.git/' + r.of(inGit))}; rm -rf "$f"; ln -s ${p.data}/sessions/.repos/$(ls ${p.data}/sessions/.repos 2>/dev/null | head -1)/${q(r.of(inGit))} "$f"`,
  r => `head -c ${r.upTo(3000)} /dev/urandom > ${q('.git/' + r.of(inGit))}`,
  r => `touch ${q('.git/' + r.of(inGit))}`,
  r => `chmod ${r.of(['000', '444', '777', '4755', '1000'])} ${q(r.of(['.git/' + r.of(inGit), r.of(names), '.', '.git', '..']))}`,
  r => `chmod -R ${r.of(['000', 'a-w', 'a+rwx'])} ${q(r.of(['.git', 'src', '.']))}`,
  r => `rm -rf -- ${q(r.of(names))}`,
  r => `rm -rf -- ${q(r.of(names))}; ln -s ${q(r.of(['/', '/etc', '..', '.', '/proc/self/fd', '/nowhere', '.git']))} ${q(r.of(names))}`,
  r => `mkdir -p -- ${q(r.of(names))}; echo ${r.upTo(1e6)} > ${q(r.of(names))}`,
  r => `mkfifo -- ${q(r.of(names))}`,
  r => `printf %s ${q(r.of(['* filter=x\n', '* text=auto\n', '* working-tree-encoding=UTF-16\n', '*.txt export-subst ident\n']))} > .gitattributes`,
  () => `mv .git .got`, () => `mv .git ../.git`, () => `rm -rf .git; git init -q`, () => `rm -rf .git; git init -q --bare .git`,
  (r, p) => `rm -rf .git; ln -s ${p.seedDir}/.git .git`, (r, p) => `rm -rf .git; echo 'gitdir: ${p.seedDir}/.git' > .git`,
  () => `cd .git && find objects -type f | head -50 | while read f; do chmod u+w "$f"; echo bad > "$f"; done`,
  () => `find .git/modules -type f | head -50 | while read f; do chmod u+w "$f"; echo bad >> "$f"; done`,
  (r, p) => `for d in ${p.seedDir} ${p.seedDir}/.git ${p.data} ${p.data}/sessions ${p.data}/sessions/* ${p.data}/sessions/.repos/* ${p.data}/sessions/.seeds/* ${p.home} ~ /tmp /var/tmp /dev/shm; do echo bad > "$d/${r.of(['bad.txt', 'config', 'HEAD', 'of-the-user', 'identity.json'])}"; done`,
  (r, p) => `rm -rf ${r.of([`${p.data}/sessions/.repos`, `${p.data}/sessions/.seeds/0/src`, `${p.data}/*`, `${p.home}/*`, '/dev/shm/*', `${p.seedDir}/.git`, `${p.seedDir}/*`])}`,
  r => `git commit -qm ${r.upTo(100)} --allow-empty`, () => 'git add -A && git commit -qm all', r => `git checkout -qb b${r.upTo(5)}`, () => 'git checkout -q main', () => 'git checkout -q --detach',
  r => `git checkout -qb m${r.upTo(1000)} HEAD~0; echo 1 > README.md; git commit -qam x; git checkout -q -; echo 2 > README.md; git commit -qam y; git ${r.of(['merge', 'rebase', 'cherry-pick', 'merge --squash', 'rebase -i'])} -`,
  () => 'git stash -u', () => 'git worktree add -q wt', () => 'git rm -rq --cached .', () => 'git update-ref -d HEAD', () => 'git tag -f v1', () => 'git gc -q --prune=now', () => 'git repack -adq', () => 'git pack-refs --all', () => 'git update-index --split-index', () => 'git update-index --index-version 4', () => 'git sparse-checkout set src', () => 'git replace HEAD $(git commit-tree -m x HEAD^{tree})', () => 'git submodule deinit -f lib', () => 'git symbolic-ref HEAD refs/heads/a/b/c', () => 'git symbolic-ref refs/heads/loop refs/heads/loop', () => 'git fetch -q', () => 'git push -q origin HEAD:main --dry-run',
  r => `git init -q ${q(r.of(['nested', 'src/nested', 'd']))}; cd ${q(r.of(['nested', 'src/nested', 'd']))} && git config filter.x.clean 'touch /tmp/x; cat' && echo '* filter=x' > .gitattributes && echo 1 > f && git add -A && git commit -qm n; cd - >/dev/null; git add . 2>/dev/null`,
  (r, p) => `(env -i setsid sh -c 'while :; do sleep 1; done' ${p.word} >/dev/null 2>&1 &)`,
  (r, p) => `(env -i sh -c '(setsid sh -c "trap \\"\\" TERM INT HUP; while :; do echo 1 >> late.txt; sleep 0.05; done" ${p.word} &) &' >/dev/null 2>&1 &)`,
  (r, p) => `for i in $(seq ${r.upTo(40)}); do (setsid sh -c 'sleep 300 & wait' ${p.word} >/dev/null 2>&1 &); done`,
  (r, p) => `(setsid sh -c 'while :; do rm -rf .git/refs/heads/x; ln -s /dev/zero .git/refs/heads/x; done' ${p.word} >/dev/null 2>&1 &)`,
  () => `printf 1 > "$(printf 'a\\377b')"; printf 1 > "$(printf 'c\\nd')"`, r => `d=.; for i in $(seq ${r.upTo(300)}); do d=$d/x; done; mkdir -p $d`, r => `mkdir -p many; cd many; seq ${r.upTo(2000)} | xargs touch; cd ..`, () => `head -c 5000000 /dev/urandom > big.bin`, () => 'kill -9 -1', () => 'mount -t tmpfs none . ; umount -l .', () => 'chown -R 1:1 .', () => 'chattr +i README.md', () => 'setfattr -n user.x -v y README.md; setfattr -n trusted.overlay.opaque -v y src', () => 'mknod dev c 1 3; mknod .git/dev c 1 5',
  () => 'cd / && rm -rf "$OLDPWD"', () => 'ln README.md hard; ln .git/HEAD h', () => 'touch -d 1970-01-01 README.md src; touch -d 2100-01-01 .gitignore',
]

for (const [kind, sessions] of Object.entries(plan)) test(`${sessions} random hostile sessions as ${kind}, HOSTILE_SEED=${seed}`, { timeout: sessions * 30_000 + 60_000, skip: kind === 'nobody' && process.getuid() !== 0 && 'only root can be another user' }, async t => {
  const p = await place(t, kind, { lib: true, files: { 'README.md': 'hello\n', 'src/a.txt': 'a\n', 'src/deep/b.txt': 'b\n', '.gitignore': 'cache/\n' } })
  const ended = {}
  for (let i = 0; i < sessions; i++) {
    const r = numbers(`${seed}-${i}`)
    if (process.env.HOSTILE_ONLY && Number(process.env.HOSTILE_ONLY) !== i) continue
    const chosen = Array.from({ length: 1 + r.upTo(6) }, () => r.of(steps)(r, p))
    // No step keeps the next from being tried, and none waits for a pipe that nobody writes.
    const script = 'exec 2>/dev/null </dev/null\n' + chosen.map((s, n) => `cat > /tmp/step-${n} <<'STEP'\n${s}\nSTEP\n(timeout -k 1 3 bash /tmp/step-${n})`).join('\n') + '\ntrue\n'
    const cancelled = r.chance(0.2)
    try {
      let end
      if (cancelled) {
        const run = await p.pool.run(sh(script + 'echo rea$((1))dy\nexec sleep 300'))
        const stream = await run.stream()
        await stream.until('its steps are done', e => e.event === 'interaction_update' && JSON.stringify(e.data).includes('rea1dy') || e.event === 'result')
        stream.close()
        await run.cancel()
        end = await run.end()
      } else {
        end = (await ran(p, sh(script))).end
      }
      const key = end.status + (end.error ? ` ${end.error.code}` : '')
      ended[key] = (ended[key] ?? 0) + 1
      // A session cannot make it look as if the worker's machine were broken.
      assert.ok(['FINISHED', 'CANCELLED'].includes(end.status) || end.error.code === 'push_failed', JSON.stringify(end))
      await plain(p, `after session ${i}`)
      assert.deepEqual(fs.readdirSync(p.home), ['of-the-user'])
      assert.equal(fs.readFileSync(path.join(p.home, 'of-the-user'), 'utf8'), 'as it was\n')
    } catch (e) {
      throw new Error(`HOSTILE_SEED=${seed} HOSTILE_AS=${kind} session ${i}${cancelled ? ', cancelled' : ''}:\n${chosen.join('\n')}\n${e.message}\nworker: ${p.worker.stderr.slice(-1500)}`, { cause: e })
    }
  }
  t.diagnostic(`${sessions} sessions as ${kind}: ${JSON.stringify(ended)}`)
})
