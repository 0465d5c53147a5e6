// Personal machines: one worker of a user serves several agents at once, each with a workspace of its own; what ends for
// one goes on for the others.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { randomUUID } from 'node:crypto'
import { atEnd, bullpen, checkEvents, git, Proc, programs, sh, until } from './lib.mjs'
import { found, kinds } from './sessions-help.mjs'

const sessions = 8

// A worker without --pool, in a clone of the origin, with the user's key. kind: how it runs.
async function machine(t, pool, kind = 'root', endpoint = pool.url) {
  const origin = await pool.origin()
  const work = await origin.clone(path.join(pool.dir, 'work'))
  const data = path.join(pool.dir, 'data-of-machine')
  const home = path.join(pool.dir, 'home')
  const { uid, args = [] } = kinds[kind]
  for (const d of [data, home]) fs.mkdirSync(d)
  if (uid !== undefined) {
    fs.chmodSync(pool.dir, 0o777)
    execFileSync('chown', ['-R', `${uid}:${uid}`, work, data, home, path.join(pool.dir, 'remotes')])
  }
  const start = () => Object.assign(new Proc(t, programs.agent, ['worker', 'start', '--name', 'box', '--worker-dir', work, '--endpoint', endpoint, '--data-dir', data, ...args],
    { uid, env: { CURSOR_API_KEY: pool.userKey, CURSOR_WORKER_SESSION_SHARE: pool.dir, HOME: home } }), { work, data, again: start })
  const w = start()
  await w.says(/^Worker is now running$/m)
  return w
}

// A way to the server that can be cut.
async function relay(t, pool) {
  const sockets = new Set()
  const server = net.createServer(a => {
    const b = net.connect(Number(new URL(pool.url).port), '127.0.0.1')
    for (const s of [a, b]) { sockets.add(s); s.on('error', () => {}).on('close', () => { sockets.delete(s); a.destroy(); b.destroy() }) }
    a.pipe(b).pipe(a)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const cut = () => { for (const s of sockets) s.destroy() }
  atEnd(t, () => { cut(); server.close() })
  return { url: `http://127.0.0.1:${server.address().port}`, cut }
}

const on = (pool, prompt) => pool.run(prompt, { extra: { env: { type: 'machine', name: 'box' } } })

// A turn that says that it is there, and goes on when the test lets it.
class Held {
  constructor(pool, word) {
    this.word = word
    this.here = path.join(pool.dir, `here-${word}`)
    this.go = path.join(pool.dir, `go-${word}`)
    this.prompt = sh(`pwd > "${this.here}.new"; mv "${this.here}.new" "${this.here}"; while [ ! -e "${this.go}" ]; do sleep 0.05; done; ls *.mine; echo ${word} > ${word}.mine`)
  }
  isHere() { return fs.existsSync(this.here) }
  begun() { return until(`${this.word} has begun`, () => this.isHere(), 60) }
  release() { fs.writeFileSync(this.go, '') }
  get folder() { return fs.readFileSync(this.here, 'utf8').trim() }
}

// What is on the remote of an ended run.
async function published(pool, end) {
  const branch = end.git.branches[0].branch
  const remote = async (...args) => git((await pool.origin()).bare, '-c', 'safe.directory=*', ...args)
  return { files: (await remote('ls-tree', '--name-only', branch)).split('\n'), show: f => remote('show', `${branch}:${f}`) }
}

for (const kind of Object.keys(kinds)) test(`two agents of one user work on one machine at the same time, each in its own folder (${kind})`, async t => {
  const pool = await bullpen(t)
  const box = await machine(t, pool, kind)
  const a = new Held(pool, 'alpha')
  const b = new Held(pool, 'beta')
  const runs = [await on(pool, a.prompt), await on(pool, b.prompt)]
  await Promise.all([a.begun(), b.begun()])
  assert.notEqual(a.folder, b.folder)
  assert.notEqual(a.folder, box.work)
  a.release()
  const first = await runs[0].end()
  assert.equal(first.status, 'FINISHED', JSON.stringify(first))
  assert.equal((await runs[1].get()).status, 'RUNNING', 'the other goes on')
  b.release()
  const second = await runs[1].end()
  assert.equal(second.status, 'FINISHED', JSON.stringify(second))
  const one = await published(pool, first)
  const two = await published(pool, second)
  assert.deepEqual(one.files, ['README.md', 'alpha.mine'])
  assert.deepEqual(two.files, ['README.md', 'beta.mine'])
  assert.equal(await two.show('beta.mine'), 'beta')
  assert.deepEqual(fs.readdirSync(box.work).sort(), ['.git', 'README.md'], 'the folder of the person is as it was')
  // The next turn of the first goes on in its workspace, while the other agent's session is still open.
  const next = await (await runs[0].followUp(sh('cat alpha.mine && ls && echo more >> alpha.mine', true))).end()
  assert.equal(next.status, 'FINISHED', JSON.stringify(next))
  assert.equal(await (await published(pool, next)).show('alpha.mine'), 'alpha\nmore')
})

test('one agent is cancelled while the other goes on', async t => {
  const pool = await bullpen(t)
  const box = await machine(t, pool)
  const a = new Held(pool, 'alpha')
  const b = new Held(pool, 'beta')
  const runs = [await on(pool, a.prompt), await on(pool, b.prompt)]
  await Promise.all([a.begun(), b.begun()])
  assert.equal((await runs[0].cancel()).status, 200)
  assert.equal((await runs[0].get()).status, 'CANCELLED')
  assert.equal((await runs[1].get()).status, 'RUNNING')
  // The place of the first is of use while the second goes on.
  const c = await on(pool, sh('echo c > c.mine'))
  assert.equal((await c.end()).status, 'FINISHED')
  assert.equal((await runs[1].get()).status, 'RUNNING')
  b.release()
  const end = await runs[1].end()
  assert.equal(end.status, 'FINISHED', `${JSON.stringify(end)}\n${box.stderr}`)
  assert.deepEqual((await published(pool, end)).files, ['README.md', 'beta.mine'])
})

test('the ninth agent waits until one of eight has ended', async t => {
  const pool = await bullpen(t)
  await machine(t, pool)
  const held = Array.from({ length: sessions + 1 }, (_, i) => new Held(pool, `n${i}`))
  const runs = []
  for (const h of held.slice(0, sessions)) runs.push(await on(pool, h.prompt))
  await Promise.all(held.slice(0, sessions).map(h => h.begun()))
  assert.equal(new Set(held.slice(0, sessions).map(h => h.folder)).size, sessions)
  const ninth = held[sessions]
  runs.push(await on(pool, ninth.prompt))
  const waiting = await runs[sessions].get()
  assert.equal(waiting.status, 'CREATING')
  assert.equal(waiting.wait.code, 'machine_full', JSON.stringify(waiting))
  assert.equal(ninth.isHere(), false)
  held[3].release()
  assert.equal((await runs[3].end()).status, 'FINISHED')
  await ninth.begun()
  for (const h of held) h.release()
  const ends = await Promise.all(runs.map(r => r.end()))
  for (const [i, end] of ends.entries()) {
    assert.equal(end.status, 'FINISHED', JSON.stringify(end))
    assert.deepEqual((await published(pool, end)).files, ['README.md', `n${i}.mine`])
  }
})

test('agents that have ended keep nobody waiting', async t => {
  const pool = await bullpen(t)
  const box = await machine(t, pool)
  const ended = []
  for (let i = 0; i < sessions; i++) ended.push(await on(pool, sh(`echo ${i} > n.mine`)))
  for (const r of ended) assert.equal((await r.end()).status, 'FINISHED')
  const more = await Promise.all([1, 2, 3].map(i => on(pool, sh(`echo more ${i} > m.mine`))))
  for (const r of more) {
    const end = await r.end()
    assert.equal(end.status, 'FINISHED', `${JSON.stringify(end)}\n${box.stderr.slice(-3000)}`)
  }
  // And whoever lost its place comes back to what it had.
  const back = await (await ended[0].followUp(sh('cat n.mine && echo again >> n.mine', true))).end()
  assert.equal(back.status, 'FINISHED', JSON.stringify(back))
  assert.equal(await (await published(pool, back)).show('n.mine'), '0\nagain')
})

test('a machine that is killed and started again goes on with all its agents', async t => {
  const pool = await bullpen(t)
  const box = await machine(t, pool)
  const a = new Held(pool, 'alpha')
  const b = new Held(pool, 'beta')
  const runs = [await on(pool, sh('echo before > before.txt') + a.prompt), await on(pool, b.prompt)]
  await Promise.all([a.begun(), b.begun()])
  await box.kill('SIGKILL')
  a.release()
  b.release()
  const again = await box.again()
  await again.says(/^Worker is now running$/m)
  for (const r of runs) {
    const end = await r.end()
    assert.equal(end.status, 'FINISHED', `${JSON.stringify(end)}\n${again.stderr.slice(-3000)}`)
  }
  // Both are served afterwards, side by side.
  const more = await Promise.all(runs.map(r => r.followUp(sh('echo after > after.txt'))))
  for (const r of more) {
    const end = await r.end()
    assert.equal(end.status, 'FINISHED', JSON.stringify(end))
    assert.ok((await published(pool, end)).files.includes('after.txt'))
  }
  const first = await published(pool, await more[0].get())
  assert.equal(await first.show('before.txt'), 'before')
})

test('the server is killed and started again: both agents go on where they were', async t => {
  const pool = await bullpen(t)
  await machine(t, pool)
  const a = new Held(pool, 'alpha')
  const b = new Held(pool, 'beta')
  const runs = [await on(pool, a.prompt), await on(pool, b.prompt)]
  await Promise.all([a.begun(), b.begun()])
  await pool.crash()
  a.release()
  await pool.restart()
  b.release()
  const ends = await Promise.all(runs.map(r => r.end()))
  for (const [i, end] of ends.entries()) {
    assert.equal(end.status, 'FINISHED', JSON.stringify(end))
    assert.deepEqual((await published(pool, end)).files, ['README.md', `${[a, b][i].word}.mine`])
    // The command went on meanwhile: it was not begun a second time.
    const calls = (await runs[i].events()).filter(e => e.event === 'tool_call' && e.data.status === 'running')
    assert.equal(calls.length, 1)
  }
})

test('the connection is cut again and again: each step of each agent is done once', async t => {
  const pool = await bullpen(t)
  const way = await relay(t, pool)
  await machine(t, pool, 'root', way.url)
  const steps = 8
  const logs = [0, 1, 2, 3].map(i => path.join(pool.dir, `log-${i}`))
  const lines = log => fs.existsSync(log) ? fs.readFileSync(log, 'utf8').trim().split('\n').map(Number) : []
  const runs = await Promise.all(logs.map(log => on(pool, Array.from({ length: steps }, (_, i) => sh(`echo ${i} >> "${log}"; sleep 0.1`)).join(''))))
  const done = () => logs.reduce((n, log) => n + lines(log).length, 0)
  for (let at = 1; at < 4 * steps - 8; at += 4) {
    await until(`${at} steps are done`, () => done() >= at, 60)
    way.cut()
  }
  for (const [i, r] of runs.entries()) {
    const end = await r.end()
    assert.equal(end.status, 'FINISHED', JSON.stringify(end))
    assert.deepEqual(lines(logs[i]), Array.from({ length: steps }, (_, k) => k))
    assert.equal(checkEvents(await r.events()).completed.size, steps)
  }
})

test('the server is away for longer than the grace: all sessions are given up, and begun again', async t => {
  const pool = await bullpen(t, { config: '[pools]\nworker_loss_grace = 1\n' })
  const box = await machine(t, pool)
  const held = [new Held(pool, 'alpha'), new Held(pool, 'beta')]
  const runs = []
  for (const h of held) runs.push(await on(pool, sh(`echo ${h.word} > of-${h.word}`) + h.prompt))
  await Promise.all(held.map(h => h.begun()))
  await pool.crash()
  await until('it gives up', () => box.stderr.includes('worker.session.lost'))
  await until('what ran is over', () => fs.readdirSync(path.join(box.data, 'sessions')).every(f => f.startsWith('.')))
  for (const h of held) h.release()
  await pool.restart()
  for (const [i, r] of runs.entries()) {
    const end = await r.end()
    // It came back within the grace of the new server, or too late for it: nothing of the work is lost.
    assert.ok(end.status === 'FINISHED' || end.error?.code === 'worker_lost', JSON.stringify(end))
    const next = await (await r.followUp(sh(`cat of-${held[i].word} && echo end > end`, true))).end()
    assert.equal(next.status, 'FINISHED', `${JSON.stringify(next)}\n${box.stderr.slice(-3000)}`)
    assert.equal(await (await published(pool, next)).show(`of-${held[i].word}`), held[i].word)
  }
})

test('a machine stops in order with several sessions open', async t => {
  const pool = await bullpen(t)
  const box = await machine(t, pool)
  const runs = [await on(pool, sh('echo one > one.mine')), await on(pool, sh('echo two > two.mine'))]
  for (const r of runs) assert.equal((await r.end()).status, 'FINISHED')
  const left = path.join(box.data, 'sessions')
  assert.equal(fs.readdirSync(left).filter(f => !f.startsWith('.')).length, 2, 'both wait for a next turn')
  const { code } = await box.kill('SIGTERM')
  assert.equal(code, 0, box.stderr)
  assert.deepEqual(fs.readdirSync(left).filter(f => !f.startsWith('.')), [])
})

test('a second signal ends at once what all agents left running', async t => {
  const pool = await bullpen(t)
  const box = await machine(t, pool)
  const word = `left-${randomUUID()}`
  const held = [new Held(pool, 'alpha'), new Held(pool, 'beta')]
  for (const h of held) await on(pool, sh(`(exec -a ${word} sleep 3600) > /dev/null 2>&1 &`) + h.prompt)
  await Promise.all(held.map(h => h.begun()))
  assert.ok(found(word).length >= 2)
  box.child.kill('SIGTERM')
  await until('it is stopping', () => box.stderr.includes('worker.stop'))
  box.child.kill('SIGTERM')
  const { code } = await box.exited
  assert.equal(code, 143, box.stderr)
  await until('nothing is left running', () => found(word).length === 0)
})
