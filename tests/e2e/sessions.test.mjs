// What one session does no other session, user or worker can feel. One worker gets sessions that spoil whatever they can
// reach; after each of them the seed is byte for byte what it was, nothing of the session runs, and the next user's run
// publishes exactly its own file to the true remote.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { execFileSync } from 'node:child_process'
import { sh } from './lib.mjs'
import { changes, kinds, place, plain, ran } from './sessions-help.mjs'

const finished = e => assert.equal(e.status, 'FINISHED', JSON.stringify(e))
const elsewhere = p => {
  const dir = path.join(p.pool.dir, 'elsewhere.git')
  if (!fs.existsSync(dir)) {
    execFileSync('git', ['init', '-q', '--bare', dir])
    fs.chmodSync(dir, 0o777)
    if (p.uid !== undefined) execFileSync('chown', ['-R', `${p.uid}`, dir])
  }
  return dir
}
const refsOf = dir => execFileSync('git', ['-c', 'safe.directory=*', '-C', dir, 'for-each-ref']).toString()
// Written by any program that a session planted and somebody else started.
const trap = p => path.join(p.pool.dir, 'trap')
const spring = p => { const f = path.join(p.pool.dir, 'spring'); if (!fs.existsSync(f)) { fs.writeFileSync(f, `#!/bin/sh\nreadlink /proc/self/ns/pid >> '${trap(p)}'\ncat\nexit 0\n`, { mode: 0o755 }); fs.writeFileSync(trap(p), ''); fs.chmodSync(trap(p), 0o666) } return f }

// What a session does, and what its own run shall say. `published`: it ends well, and exactly these files are on its branch.
const spoilers = {
  'its remote, push address, hooks, monitor, ssh and credentials point elsewhere': {
    does: p => sh(`git config remote.origin.pushurl ${elsewhere(p)}; git config remote.origin.url ${elsewhere(p)}; git config core.hooksPath ${p.pool.dir}/hooks
git config core.fsmonitor ${spring(p)}; git config core.sshCommand ${spring(p)}; git config credential.helper ${spring(p)}; git config url.${elsewhere(p)}.insteadOf ${p.remote.url}
git config uploadpack.packObjectsHook ${spring(p)}; git config core.pager ${spring(p)}; git config diff.external ${spring(p)}; git config gpg.program ${spring(p)}; git config commit.gpgSign true
for h in pre-commit post-commit post-checkout pre-push reference-transaction post-index-change; do cp ${spring(p)} .git/hooks/$h; done; echo 1 > mine.txt`),
    published: ['mine.txt'],
    then: p => assert.equal(refsOf(elsewhere(p)), '', 'nothing went elsewhere'),
  },
  'a configuration without origin': { does: () => sh('printf "[core]\\n" > .git/config; echo 1 > mine.txt'), published: ['mine.txt'] },
  'a configuration that is no configuration': { does: () => sh('echo "[[[" > .git/config; echo 1 > mine.txt'), error: /config/, kept: true },
  'a global configuration': { does: p => sh(`git config --global url.${elsewhere(p)}.insteadOf ${p.remote.url}; git config --global core.hooksPath /nowhere; echo "[[[" >> ~/.gitconfig; echo 1 > mine.txt`), only: ['root', 'nobody'], published: ['mine.txt'] },
  'objects borrowed from another repository': { does: p => sh(`echo ${p.data}/sessions/.repos/nothing.git/objects >> .git/objects/info/alternates; echo 1 > mine.txt`), published: ['mine.txt'] },
  'a left index.lock and config.lock': { does: () => sh('touch .git/index.lock .git/config.lock .git/HEAD.lock; echo 1 > mine.txt'), either: true },
  'an unfinished rebase': { does: () => sh('git config user.name a; git config user.email a@b.c; echo 1 > README.md; git commit -qam one; git checkout -qb other HEAD~1; echo 2 > README.md; git commit -qam two; git rebase -q - ; true'), error: /rebase is not finished.*README\.md/, kept: true },
  'an unfinished merge': { does: () => sh('git config user.name a; git config user.email a@b.c; echo 1 > README.md; git commit -qam one; git checkout -qb other HEAD~1; echo 2 > README.md; git commit -qam two; git merge -q - ; true'), error: /merge is not finished.*README\.md/, kept: true },
  'rm -rf .git': { does: () => sh('echo 1 > mine.txt; rm -rf .git'), error: /git repository/, kept: true },
  '.git as a file that names the seed': { does: p => sh(`echo 1 > mine.txt; rm -rf .git; echo 'gitdir: ${p.seedDir}/.git' > .git`), either: true },
  '.git as a link to another repository': { does: p => sh(`echo 1 > mine.txt; git init -q /tmp/other 2>/dev/null; rm -rf .git; ln -s /tmp/other/.git .git`), either: true },
  '.git as a link to the bare remote': { does: p => sh(`echo 1 > mine.txt; rm -rf .git; ln -s ${p.remote.bare} .git`), either: true },
  'pipes where git and the worker read': { does: () => sh('rm -f .git/index .git/config .git/packed-refs AGENTS.md; mkfifo .git/index .git/packed-refs AGENTS.md; mkdir -p .cursor/rules; mkfifo .cursor/rules/a.mdc .gitignore2; echo 1 > mine.txt; (sleep 1; exit 0)') + sh('true'), cancelled: true },
  'pipes in the place of files that git reads while it adds': { does: () => sh('mkfifo .gitmodules src/.gitattributes; rm -f .gitattributes; mkfifo .gitattributes; rm -rf .git; git init -q'), either: true },
  'pipes in the place of files that git reads, beside a change': { does: () => sh('mkfifo .gitattributes src/.gitattributes src/.gitignore; echo 1 > mine.txt'), published: ['mine.txt'] },
  'an index that is a link to a device': { does: () => sh('rm -f .git/index; ln -s /dev/zero .git/index; echo 1 > mine.txt'), either: true },
  'a filter in a repository inside, for whoever looks whether that is clean': {
    does: p => sh(`git init -q sub && cd sub && git config user.name a && git config user.email a@b.c && echo '* filter=x' > .gitattributes && echo 1 > f && git add -A && git commit -qm x && git config filter.x.clean ${spring(p)} && cd .. && git add sub 2>/dev/null && sleep 0.02 && echo 22 > sub/f; : > ${trap(p)}`),
    cancelled: true,
    then: p => { const host = fs.readlinkSync('/proc/self/ns/pid'); if (p.kind === 'root' || p.kind === 'nobody') assert.ok(!fs.readFileSync(trap(p), 'utf8').includes(host), 'a program of the session ran outside of its box') },
  },
  'a shallow file': { does: () => sh('git rev-parse HEAD > .git/shallow; echo 1 > mine.txt'), either: true },
  'grafts, replaced objects and a broken HEAD': { does: () => sh('git replace HEAD HEAD~1 2>/dev/null; git rev-parse HEAD > .git/info/grafts; echo 1 > mine.txt; echo garbage > .git/HEAD'), either: true },
  'thousands of refs': { does: () => sh('h=$(git rev-parse HEAD); for i in $(seq 3000); do echo "create refs/heads/x/$i $h"; done | git update-ref --stdin; echo 1 > mine.txt'), published: ['mine.txt'] },
  'thousands of refs, and then nobody publishes': { does: () => sh('h=$(git rev-parse HEAD); for i in $(seq 3000); do echo "create refs/heads/x/$i $h"; done | git update-ref --stdin; echo 1 > mine.txt'), cancelled: true },
  'submodule objects that are made writable': { does: () => sh('find .git -name "*.pack" -o -path "*/objects/??/*" | while read f; do chmod u+w "$f"; echo bad >> "$f"; done; echo 1 > mine.txt'), either: true },
  'ignored files': {
    does: () => sh('echo secret > cache/of-mine; echo changed > cache/warm; echo 1 > mine.txt'), published: ['mine.txt'],
    then: async p => assert.match((await ran(p, sh('test ! -e cache/of-mine && grep -qx warm cache/warm', true))).end.result, /^1 of 1/),
  },
  'all modes 000, and the folder too': { does: () => sh('echo 1 > mine.txt; mkdir -p d/e; echo 1 > d/e/f; chmod 000 d/e/f d/e d; chmod 000 .'), either: true },
  'everything removed': { does: () => sh('rm -rf ./* ./.[!.]*; true'), either: true },
  'writes to the seed, the data folder and the home': {
    does: p => sh(`for d in ${p.seedDir} ${p.data} ${p.data}/sessions ${p.data}/sessions/.repos/* ${p.data}/sessions/.seeds/0 ~; do echo bad > $d/bad.txt; echo bad > $d/.git/bad; rm -f $d/of-the-user; done 2>/dev/null; rm -f bad.txt .git/bad; echo 1 > mine.txt`),
    only: ['root', 'nobody'], published: ['mine.txt'],
    then: p => { assert.equal(fs.readFileSync(path.join(p.home, 'of-the-user'), 'utf8'), 'as it was\n'); assert.ok(!fs.existsSync(path.join(p.home, 'bad.txt'))); assert.ok(!fs.existsSync(path.join(p.data, 'bad.txt'))) },
  },
  'names that are no UTF-8, with newlines, and of 255 bytes': { does: () => sh(`printf 1 > "$(printf 'a\\377b')"; printf 1 > "$(printf 'c\\nd')"; printf 1 > "$(printf 'x%.0s' $(seq 255))"; printf 1 > '"q" \\'`), files: 4 },
  'a file of 200 MB': { does: () => sh('head -c 200000000 /dev/zero > big.bin'), published: ['big.bin'], once: true },
  '20,000 new files': { does: () => sh('mkdir n; cd n; seq 20000 | xargs touch'), files: 20000, once: true },
  'a fork bomb of a few hundred': { does: p => sh(`for i in $(seq 300); do (setsid sh -c 'sleep 300 & wait' ${p.word} >/dev/null 2>&1 &); done; echo 1 > mine.txt`), published: ['mine.txt'], once: true },
  'what forked twice with an empty environment': { does: p => sh(`(env -i setsid sh -c 'while :; do sleep 1; done' ${p.word} >/dev/null 2>&1 &); (env -i sh -c '(setsid sh -c "while :; do sleep 1; done" ${p.word} &) &' >/dev/null 2>&1 &); echo 1 > mine.txt`), published: ['mine.txt'], only: ['root', 'nobody', 'process'] },
  'what ignores signals and writes for ever': { does: p => sh(`(setsid sh -c "trap '' TERM INT HUP; while :; do echo 1 >> d/mine.log; sleep 0.01; done" ${p.word} >/dev/null 2>&1 &); mkdir -p d; echo '*.log' > d/.gitignore; echo 1 > mine.txt`), published: ['d/.gitignore', 'mine.txt'] },
}

// Where less is guarded, what does not depend on the guard.
const lesser = ['process', 'none'], basic = /^(its remote|a configuration without|rm -rf|\.git as a link|pipes|a shallow|ignored|all modes|everything|what )/

for (const kind of Object.keys(kinds))
  test(`sessions that spoil what they can: ${kind}`, { skip: process.getuid() !== 0 && kind === 'nobody' && 'not root' }, async t => {
    if (process.env.KIND && kind !== process.env.KIND) return t.skip()
    const p = await place(t, kind, { files: { 'README.md': 'hello\n', 'src/a.txt': 'a\n', '.gitignore': 'cache/\n' } })
    for (const [name, s] of Object.entries(spoilers)) {
      if ((s.only && !s.only.includes(kind)) || (s.once && kind !== 'root') || (lesser.includes(kind) && !basic.test(name))) continue
      if (process.env.ONLY && !name.includes(process.env.ONLY)) continue
      await t.test(name, async () => {
        let end, branch
        if (s.cancelled) {
          const run = await p.pool.run(s.does(p) + sh('echo rea$((1))dy; exec sleep 300'))
          const stream = await run.stream()
          await stream.until('it is done', e => e.event === 'interaction_update' && JSON.stringify(e.data).includes('rea1dy'))
          await run.cancel()
          end = await run.end()
          assert.equal(end.status, 'CANCELLED', JSON.stringify(end))
        } else {
          ({ end, branch } = await ran(p, s.does(p)))
        }
        if (s.published) { finished(end); assert.deepEqual(await changes(p, branch), s.published) }
        if (s.files) { finished(end); assert.equal((await changes(p, branch)).length, s.files) }
        if (s.error) { assert.equal(end.status, 'ERROR', JSON.stringify(end)); assert.match(end.error.message, s.error) }
        if (s.kept) assert.match(end.keptWork?.commit ?? '', /^[0-9a-f]{40}$/, JSON.stringify(end))
        // Whatever became of it, it is said: on the remote, or kept, or an error.
        if (s.either) assert.ok(end.status === 'ERROR' ? end.error.message : end.status === 'FINISHED', JSON.stringify(end))
        if (process.env.SHOW) console.log(name, JSON.stringify(end).slice(0, 1500))
        await plain(p, name)
        await s.then?.(p)
      })
    }
  })
