// `make bench`: one table of figures, each beside a floor of the same run. docs/performance.md says what the rows mean.
import crypto from 'node:crypto'
import fs from 'node:fs'
import path from 'node:path'
import { execFileSync } from 'node:child_process'
import { build, cpu, data, freePort, fresh, good, json, machine, memory, multiplyEvents, Nginx, Proc, program, quick, root, scratch, Server, spread, Table, times, writeFile } from './lib.mjs'

const table = new Table()
const only = (process.env.ONLY ?? '').split(',').map(s => s.trim()).filter(Boolean)
const rounds = quick ? 2 : 5
const about = machine() // now, before our own load

const block = (info, body) => '```' + info + '\n' + body + '\n```\n'
const readStep = block('tool read_file must', '{"path":"small.txt"}')
const body = (text, extra = {}) => writeFile('body.json', JSON.stringify({ prompt: { text }, env: { type: 'pool', name: 'bench' }, ...extra }))
const upTo = n => ({ text: `at most ${n}x`, ok: (_, ratio) => ratio <= n })
const sync = async (dir = data) => (await json('bench-floor', ['sync', dir, quick ? 200 : 500])).sync.p50
const spawnFloor = async (...cmd) => (await json('bench-floor', ['spawn', quick ? 50 : 100, ...cmd])).spawn.p50

// Of a server on 127.0.0.1, and what makes a client trust it.
function certificate() {
  const dir = fresh(scratch, 'tls'), [key, cert] = ['key.pem', 'cert.pem'].map(f => path.join(dir, f))
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=bench', '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', key, '-out', cert], { stdio: 'ignore' })
  return { cert, key, env: { SSL_CERT_FILE: cert } }
}

const rows = {
  async a() {
    const n = quick ? 4000 : 12000, tls = certificate()
    for (const [name, cores] of [['split cores', [0, 1]], ['same core', [0, 0]]]) {
      const worker = [program('bench-agent'), fresh(scratch, 'echo')]
      const all = await times(rounds, async () => ({
        echo: (await json('bench-floor', ['echo', ...cores, n])).echo.p50,
        link: (await json('bench-call', ['measure', ...cores, n, fresh(data, 'call'), '-', '-'])).call,
        tls: (await json('bench-call', ['measure', ...cores, n, fresh(data, 'call'), tls.cert, tls.key], { env: tls.env })).call,
        worker: (await json('bench-call', ['measure', ...cores, n, fresh(data, 'call'), '-', '-', ...worker])).call,
      }))
      const floor = { name: 'TCP echo', values: all.map(x => x.echo) }

      table.add('a', `call to a worker's loop and back, ${name}, p50`, 'us', all.map(x => x.link.p50), { floor, goal: upTo(3), note: `p99 ${spread(all.map(x => x.link.p99)).median.toFixed(0)} us` })
      table.add('a', `the same over TLS, ${name}, p50`, 'us', all.map(x => x.tls.p50), { floor, note: `p99 ${spread(all.map(x => x.tls.p99)).median.toFixed(0)} us` })
      table.add('a', `call of an empty tool, ${name}, p50`, 'us', all.map(x => x.worker.p50), { floor, note: `p99 ${spread(all.map(x => x.worker.p99)).median.toFixed(0)} us` })
    }
  },

  async b() {
    const s = await Server.start(), w = await s.workers(1)
    const long = body(readStep.repeat(41)), short = body(readStep), run = async b => good(await s.load('runs', b, 1, 1)).whole.p50
    await run(long)
    const all = await times(rounds * 2, async () => ({ sync: await sync(), wal: (await json('bench-floor', ['wal', fresh(data, 'wal'), 300])).wal.p50, step: (await run(long) - await run(short)) / 40 }))
    await s.stop(w)
    table.add('b', 'one step of a playbook run', 'us', all.map(x => x.step), { floor: { name: 'fdatasync of 4 KiB', values: all.map(x => x.sync) }, goal: upTo(2) })
    table.add('b', 'the same', 'us', all.map(x => x.step), { floor: { name: 'SQLite WAL commit', values: all.map(x => x.wal) } })
  },

  async c() {
    for (const [n, count] of [[1, quick ? 100 : 300], [64, quick ? 640 : 2560]]) {
      const s = await Server.start(), w = await s.workers(n)
      await s.load('runs', body(readStep), n, n * 2)
      let before = cpu(s.pid).own
      const all = await times(rounds, async () => {
        const floor = (await s.load('requests', 'GET', '/healthz', '-', n, 1)).per_s
        before = cpu(s.pid).own
        const r = good(await s.load('runs', body(readStep), n, count))
        return { floor, per_s: r.per_s, cpu_ms: (cpu(s.pid).own - before) * 1000 / count, client_ms: r.client_cpu_s * 1000 / count, p99: r.whole.p99 / 1000 }
      })
      const m = k => spread(all.map(x => x[k])).median.toFixed(2)
      await s.stop(w)
      table.add('c', `runs with one call, ${n} at once`, '/s', all.map(x => x.per_s), { floor: { name: 'GET /healthz', values: all.map(x => x.floor) },
        goal: n === 64 ? { text: '500/s', ok: v => v >= 500 } : undefined, note: `CPU a run: server ${m('cpu_ms')} ms, client ${m('client_ms')} ms; p99 ${m('p99')} ms` })
    }
  },

  async d() {
    const s = await Server.start(), w = await s.workers(1)
    await w[0].end('SIGTERM') // the pool is known, nobody serves it: everything queues
    for (const n of [1, 64]) {
      const all = await times(rounds, async () => {
        const floor = (await s.load('requests', 'GET', '/healthz', '-', n, 1)).per_s
        const before = cpu(s.pid).own
        const r = good(await s.load('requests', 'POST', '/v1/agents', body('Hello.'), n, 2))
        return { floor, per_s: r.per_s, cpu_us: (cpu(s.pid).own - before) * 1e6 / r.good, client_us: r.client_cpu_s * 1e6 / r.good }
      })
      const m = k => spread(all.map(x => x[k])).median.toFixed(0)
      table.add('d', `POST /v1/agents, ${n} connection${n > 1 ? 's' : ''}`, '/s', all.map(x => x.per_s), { floor: { name: 'GET /healthz', values: all.map(x => x.floor) }, goal: n === 64 ? { text: '2000/s', ok: v => v >= 2000 } : undefined, note: `CPU a request: server ${m('cpu_us')} us, client ${m('client_us')} us` })
    }
    await s.stop()
  },

  // An agent is read from the store each time; the same bytes from a file are as fast as it gets.
  async q() {
    const s = await Server.start(), w = await s.workers(1)
    good(await s.load('runs', body('Hello.'), 1, 1))
    const agent = (await s.get('/v1/agents')).items[0].id, page = `/v1/agents/${agent}`
    const file = await Nginx.start({ [page]: JSON.stringify(await s.get(page)) })
    for (const n of [1, 64]) {
      const all = await times(rounds, async () => ({
        floor: good(await file.load('requests', 'GET', page, '-', n, 2)).per_s,
        r: good(await s.load('requests', 'GET', page, '-', n, 2)),
      }))
      table.add('q', `GET an agent, ${n} connection${n > 1 ? 's' : ''}`, '/s', all.map(x => x.r.per_s), { floor: { name: 'the same bytes as a file from nginx', values: all.map(x => x.floor) }, goal: { text: 'at least 0.5x', ok: (_, ratio) => ratio >= 0.5 } })
    }
    await file.stop()
    await s.stop(w)
  },

  // A long run, read from its beginning: rows of a real one, repeated.
  async r() {
    const s = await Server.start(), w = await s.workers(1), n = quick ? 20000 : 100000
    good(await s.load('runs', body(readStep.repeat(40)), 1, 1))
    const { items: [{ id }] } = await s.get('/v1/agents'), { items: [{ id: run }] } = await s.get(`/v1/agents/${id}/runs`)
    await s.proc.end('SIGTERM')
    multiplyEvents(path.join(s.data, 'bullpen.db'), run, n)
    await s.again()
    const page = `/v1/agents/${id}/runs/${run}/stream`, text = await s.text(page)
    const file = await Nginx.start({ [page]: text })
    const all = await times(rounds, async () => {
      const before = cpu(s.pid).own
      return { floor: good(await file.load('whole', page)).mb_per_s, ...good(await s.load('whole', page)), cpu: cpu(s.pid).own - before }
    })
    await file.stop()
    await s.stop(w)
    table.add('r', `replay of a run with ${n} events, ${(text.length / 2 ** 20).toFixed(1)} MiB`, 'MB/s', all.map(x => x.mb_per_s), { floor: { name: 'the same bytes as a file from nginx', values: all.map(x => x.floor) }, goal: { text: '100 MB/s', ok: v => v >= 100 },
      note: `${(n / spread(all.map(x => x.seconds)).median).toFixed(0)} events/s; server CPU an event ${(spread(all.map(x => x.cpu)).median * 1e6 / n).toFixed(2)} us` })
  },

  // The dashboard in a browser.
  async w() { await (await import('./web.mjs')).rowW(table, body, readStep) },

  async x() { await (await import('./nodes.mjs')).rowX(table, rounds, body, readStep, block) },
  async v() { await (await import('./triggers.mjs')).rowV(table, body, readStep) },

  async e() {
    await idleWorkers('plain', 16, {})
    const { cert, key, env } = certificate()
    await idleWorkers('TLS', 32, { settings: `[server]\ntls_cert = "${cert}"\ntls_key = "${key}"\n`, env })
  },

  async f() {
    const s = await Server.start(), n = quick ? 5 : 20
    const all = await times(rounds, async () => ({
      floor: await spawnFloor('/bin/true') / 1000,
      start: await json('bench-floor', ['start', n, 'Worker is now running', program('agent'), ...s.workerArgs()], { env: { CURSOR_API_KEY: s.pool } }),
    }))
    await s.stop()
    const m = k => all.map(x => x.start[k] / 1024)
    table.add('f', 'worker from exec to registered, p50', 'ms', all.map(x => x.start.start.p50 / 1000), { floor: { name: 'exec of /bin/true', values: all.map(x => x.floor) }, goal: { text: '30 ms', ok: v => v <= 30 } })
    table.add('f', 'idle worker, PSS', 'MiB', m('Pss'), { goal: { text: '5 MiB', ok: v => v <= 5 }, note: `RSS ${spread(m('Rss')).median.toFixed(1)}, private dirty ${spread(m('Private_Dirty')).median.toFixed(1)} MiB` })
  },

  async g() {
    const s = await Server.start(), w = await s.workers(1), b = body(readStep)
    await s.load('runs', b, 1, 20)
    const all = await times(quick ? 1 : 3, async () => ({ sync: await sync() / 1000, ...good(await s.load('runs', b, 1, 300)) }))
    await s.stop(w)
    const floor = { name: 'fdatasync of 4 KiB', values: all.map(x => x.sync) }
    table.add('g', 'POST /v1/agents to the first tool call, p50', 'ms', all.map(x => x.first_call.p50 / 1000), { floor })
    table.add('g', 'the same, p99 of 300', 'ms', all.map(x => x.first_call.p99 / 1000), { floor, goal: { text: '20 ms', ok: v => v <= 20 } })
  },

  async h() {
    const steps = quick ? 60 : 200
    const one = async (runs, readers) => {
      const s = await Server.start({ limits: 'max_streams_per_run = 1000' }), w = await s.workers(runs), go = await freePort()
      const b = body(block('sh', `until (exec 3<>/dev/tcp/127.0.0.1/${go}) 2>/dev/null; do sleep 0.02; done`) + readStep.repeat(steps))
      const before = cpu(s.pid).own, began = memory(s.pid).Pss
      let peak = 0
      const sampler = setInterval(() => { peak = Math.max(peak, memory(s.pid).Pss) }, 20)
      const r = await s.load('readers', b, runs, readers, go).finally(() => clearInterval(sampler))
      r.grown = peak - began
      r.cpu = cpu(s.pid).own - before
      await s.stop(w)
      return r
    }
    for (const [runs, readers] of [[1, 64], [4, 200], [1, 1000]]) {
      const all = await times(Math.min(rounds, 3), async () => ({ alone: await one(runs, runs), crowd: await one(runs, readers) }))
      const what = `${readers} readers of ${runs} busy run${runs > 1 ? 's' : ''}`, m = f => spread(all.map(f)).median
      table.add('h', `${what}: events delivered`, '/s', all.map(x => x.crowd.per_s), { floor: { name: 'one reader a run', values: all.map(x => x.alone.per_s) },
        note: `server CPU an event ${(m(x => x.crowd.cpu / x.crowd.delivered) * 1e6).toFixed(1)} us, client ${(m(x => x.crowd.client_cpu_s / x.crowd.delivered) * 1e6).toFixed(1)} us; the run takes ${m(x => x.crowd.seconds).toFixed(2)} s, with one reader ${m(x => x.alone.seconds).toFixed(2)} s` })
      if (readers === 1000) table.add('h', `${what}: memory of the server a reader, at its highest`, 'KiB', all.map(x => (x.crowd.grown - x.alone.grown) / (readers - runs)), { goal: { text: '20 KiB', ok: v => v <= 20 } })
      table.add('h', `${what}: from the first to the last reader, p50`, 'ms', all.map(x => x.crowd.lag.p50 / 1000), { note: `p99 ${m(x => x.crowd.lag.p99 / 1000).toFixed(2)} ms` })
    }
  },

  async k() {
    const n = quick ? 2000 : 10000
    const all = await times(Math.min(rounds, 3), async () => {
      const s = await Server.start({ limits: 'max_streams_per_principal = 100000' }), w = await s.workers(1)
      await w[0].end('SIGTERM') // the pool is known, nobody serves it: everything queues
      const r = await s.load('waiting', body('Hello.'), n, s.pid, quick ? 5 : 10)
      await s.stop()
      return r.core_percent
    })
    table.add('k', `${n} readers of ${n} queued runs: CPU of the server`, '% of a core', all, { goal: { text: 'under 5 %', ok: v => v < 5 } })
  },

  async i() {
    await turns('20 turns of playbook, `sh` with `true`', await Server.start(), block('sh', 'true').repeat(20), {}, undefined)
    const model = new Proc(program('bench-model'), ['20'])
    const [, port] = await model.says(/^(\d+)$/m)
    const s = await Server.start({ env: { OPENAI_API_KEY: 'bench', OPENAI_BASE_URL: `http://127.0.0.1:${port}/v1` } })
    const id = (await s.get('/v1/models')).items?.map(m => m.id).find(m => m !== 'playbook' && m !== 'default')
    if (id) await turns('20 turns of an instant model, one shell call each', s, 'Go.', { model: { id } }, 3)
    else {
      table.skip('i', 'no provider takes OPENAI_BASE_URL in this build')
      await s.stop()
    }
    await model.end()
  },

  // The cost of a namespace per session and per call.
  async l() {
    const n = quick ? 50 : 200, levels = ['process', 'namespace']
    const all = await times(rounds, async () => {
      const one = {}
      for (const level of ['none', ...levels]) one[level] = await json('bench-box', [level, fresh(data, 'box'), n])
      return one
    })
    const floor = { name: 'posix_spawn of /bin/true', values: all.map(x => x.none.spawn.p50) }
    for (const level of levels) {
      table.add('l', `a box opened and closed, ${level}, p50`, 'us', all.map(x => x[level].session.p50), { floor })
      table.add('l', `/bin/true in it, ${level}, p50`, 'us', all.map(x => x[level].spawn.p50), { floor, goal: { text: '1 ms more', ok: v => v <= spread(floor.values).median + 1000 } })
    }
  },

  // One hook around a tool call, against starting the same program: a C program, and a bash script.
  async s() {
    const n = quick ? 50 : 200, script = '#!/bin/bash\nread -r input\necho \'{"permission":"allow"}\'\n'
    const kinds = { 'a C program': `${program('bench-hook')} answer`, 'a bash script': './hook.sh' }
    for (const [what, command] of Object.entries(kinds)) {
      const dir = fresh(scratch, 'hooks')
      fs.mkdirSync(path.join(dir, '.cursor'))
      fs.writeFileSync(path.join(dir, '.cursor', 'hooks.json'), JSON.stringify({ hooks: { preToolUse: [{ command }] } }))
      fs.writeFileSync(path.join(dir, 'hook.sh'), script, { mode: 0o755 })
      const words = command.startsWith('./') ? [path.join(dir, command)] : command.split(' ')
      const all = await times(rounds, async () => ({
        floor: (await json('bench-hook', ['spawn', n, ...words])).spawn.p50 / 1000,
        none: (await json('bench-hook', ['run', 'none', dir, fresh(data, 'state'), n])).hook.p50 / 1000,
        namespace: (await json('bench-hook', ['run', 'namespace', dir, fresh(data, 'state'), n])).hook.p50 / 1000,
      }))
      const floor = { name: 'fork and exec of it', values: all.map(x => x.floor) }
      for (const level of ['none', 'namespace'])
        table.add('s', `hook ${what}, isolation ${level}, p50`, 'ms', all.map(x => x[level]), { floor, goal: { text: '1 ms more', ok: v => v <= spread(floor.values).median + 1 } })
    }
  },

  // What a private copy of the workspace costs. On the disk of the store, as a worker's data folder would be.
  async m() {
    for (const files of quick ? [100, 10000] : [100, 10000, 100000]) {
      const { dir, seed, remote } = repository(files), n = files > 10000 ? 3 : quick ? 5 : 20
      const all = await times(files > 10000 ? 2 : Math.min(rounds, 3), async () => ({
        cp: timed(dir, to => ['cp', '-a', seed, to]),
        clone: timed(dir, to => ['git', 'clone', '-q', '--local', seed, to]),
        worktree: timed(dir, to => ['git', '-C', seed, 'worktree', 'add', '-q', '--detach', to]),
        best: await json('bench-session', ['namespace', seed, remote, fresh(data, 'state'), n]),
        copy: await json('bench-session', ['none', seed, remote, fresh(data, 'state'), files >= 10000 ? 2 : 5]),
      }))
      const ms = (kind, what) => all.map(x => x[kind][what].p50 / 1000), floor = (name, k) => ({ name, values: all.map(x => x[k]) })
      const line = (kind, what, text, floor, more) => table.add('m', `${text}, ${files} files, ${all[0][kind].method}, p50`, 'ms', ms(kind, what), { floor, ...more })
      for (const kind of ['best', 'copy']) {
        line(kind, 'open', 'a session opened', floor('git worktree add', 'worktree'), { note: `CPU ${spread(ms(kind, 'open_cpu')).median.toFixed(1)} ms; ${steps(all[0][kind])}`, goal: kind === 'best' && files === 10000 ? { text: '20 ms', ok: v => v <= 20 } : undefined })
        line(kind, 'first', 'the first of a worker', floor('git clone --local', 'clone'))
        line(kind, 'close', 'closed at once', floor('cp -a', 'cp'), { note: kind === 'copy' ? `${(all[0].copy.bytes / 2 ** 20).toFixed(1)} MiB copied` : '' })
        line(kind, 'publish', 'one changed file published')
        line(kind, 'close_published', 'closed after that')
        line(kind, 'close_unpublished', 'closed with a changed file, which is kept')
      }
      fs.rmSync(dir, { recursive: true })
    }
    if (quick) return
    const dir = fresh(data, 'large'), seed = fresh(dir, 'seed'), gib = 3, chunk = crypto.randomBytes(32 * 2 ** 20)
    for (let i = 0; i < gib * 32; i++) fs.writeFileSync(path.join(seed, `part-${i}`), chunk)
    const all = await times(2, async () => ({
      cp: timed(dir, to => ['cp', '-a', seed, to]),
      best: await json('bench-session', ['namespace', seed, '-', fresh(data, 'state'), 3]),
      copy: await json('bench-session', ['none', seed, '-', fresh(data, 'state'), 1]),
    }))
    for (const kind of ['best', 'copy'])
      table.add('m', `a session opened, ${gib} GiB in ${gib * 32} files, no repository, ${all[0][kind].method}`, 'ms', all.map(x => x[kind].open.p50 / 1000),
        { floor: { name: 'cp -a', values: all.map(x => x.cp) }, note: `${(all[0][kind].bytes / 2 ** 20).toFixed(0)} MiB copied` })
    fs.rmSync(dir, { recursive: true })
  },

  // A fleet that does nothing, and what it costs when its server starts anew.
  async n() {
    const tls = certificate(), withTls = { settings: `[server]\ntls_cert = "${tls.cert}"\ntls_key = "${tls.key}"\n`, env: tls.env }
    await idleFleet([quick ? 2000 : 10000], 'plain', { memory: 12, back: 10 })
    await idleFleet([quick ? 2000 : 10000], 'TLS', { memory: 32, back: 10 }, withTls)
    if (quick) return
    await idleFleet([18000], 'plain', { memory: 12 })
    await idleFleet([16667, 16667, 16666], 'plain', { memory: 12, rest: 3 })
  },

  // From a request to the commit of its claim: over HTTP that is the answer to the POST, which comes after it.
  async o() {
    const n = quick ? 2000 : 10000, count = quick ? 200 : 1000, ms = (all, f) => all.map(x => f(x) / 1000)
    const goal = { text: '5 ms', ok: v => v <= 5 }
    const inStore = await times(Math.min(rounds, 3), async () => ({ sync: await sync(), ...await json('bench-match', [fresh(data, 'match'), n, count]) }))
    const overHttp = await times(Math.min(rounds, 3), async () => ({ sync: await sync(), empty: await claims(1, count), full: await claims(n, count) }))
    for (const [kind, what] of [['empty', 'nothing waits'], ['full', `${n} idle workers, ${n} waiting requests of 1000 label shapes`]]) {
      const floor = all => ({ name: 'fdatasync of 4 KiB', values: ms(all, x => x.sync) })
      table.add('o', `POST /v1/agents to its claim, ${what}, p50`, 'ms', ms(overHttp, x => x[kind].p50), { floor: floor(overHttp) })
      table.add('o', `the same, p99 of ${count}`, 'ms', ms(overHttp, x => x[kind].p99), { floor: floor(overHttp), goal })
      table.add('o', `the store alone, begin to commit, ${what}, p50`, 'ms', ms(inStore, x => x[kind].claim.p50), { floor: floor(inStore),
        note: `p99 ${spread(ms(inStore, x => x[kind].claim.p99)).median.toFixed(2)}; the match without the commit ${spread(ms(inStore, x => x[kind].match.p50)).median.toFixed(3)}, of a freed worker ${spread(ms(inStore, x => x[kind].freed.p50)).median.toFixed(3)}` })
    }
  },

  // One worker of the product that waits for work.
  async p() {
    const all = await times(quick ? 1 : 3, async () => {
      const s = await Server.start(), [w] = await s.workers(1), seconds = quick ? 20 : 60
      await pause(3)
      const pids = family(w.pid), before = wakeUps(pids), m = pids.map(memory), mib = k => m.reduce((n, x) => n + x[k], 0) / 1024
      await pause(seconds)
      const one = { pss: mib('Pss'), anon: mib('Pss_Anon'), rss: m[0].Rss / 1024, threads: pids.flatMap(tasks).length, processes: pids.length, wake: (wakeUps(pids) - before) * 60 / seconds }
      await s.stop(w)
      return one
    })
    const m = k => spread(all.map(x => x[k])).median.toFixed(1)
    table.add('p', 'one idle worker and its keeper, PSS', 'MiB', all.map(x => x.pss), { goal: { text: '5 MiB', ok: v => v <= 5 }, note: `of it no file's ${m('anon')} MiB; RSS of the worker ${m('rss')} MiB` })
    table.add('p', `threads of these ${m('processes').replace('.0', '')} processes`, '', all.map(x => x.threads))
    table.add('p', 'its wake-ups', '/min', all.map(x => x.wake))
  },

  async t() {
    const server = [process.execPath, path.join(root, 'tests/e2e/node_modules/@modelcontextprotocol/server-everything/dist/index.js'), 'stdio'], n = quick ? 300 : 2000
    const direct = async () => { const p = new Proc(process.execPath, [path.join(root, 'bench/mcp_direct.mjs'), String(n), ...server]); if (await p.ended) throw new Error(p.errors); return JSON.parse(p.said.trim().split('\n').at(-1)) }
    const worker = count => json('bench-mcp', [fresh(scratch, 'mcp'), fresh(scratch, 'mcp-state'), count, n, ...server])
    const all = await times(rounds, async () => ({ direct: await direct(), one: await worker(1), five: await worker(5) }))
    table.add('t', 'MCP call through the worker, p50', 'us', all.map(x => x.one.call.p50), { floor: { name: 'TypeScript client', values: all.map(x => x.direct.p50) }, goal: upTo(1.3), note: `p99 ${spread(all.map(x => x.one.call.p99)).median.toFixed(0)} us` })
    table.add('t', 'start of one MCP server until its tools are there', 'ms', all.map(x => x.one.open_ms), { floor: { name: 'TypeScript client', values: all.map(x => x.direct.open_ms) } })
    table.add('t', 'start of five side by side', 'ms', all.map(x => x.five.open_ms), { floor: { name: 'one', values: all.map(x => x.one.open_ms) } })
    table.add('t', 'memory of the worker for each MCP server', 'KiB', all.map(x => x.five.kib_each))
  },

  async j() {
    const s = await Server.start(), w = await s.workers(1), b = body(readStep), n = quick ? 20000 : 100000
    await s.load('runs', b, 1, 20)
    const all = await times(quick ? 1 : 3, async () => {
      const quiet = good(await s.load('runs', b, 1, 300)).first_call
      const crowd = new Proc(process.execPath, [path.join(root, 'bench/strangers.mjs'), s.url, String(n)])
      const before = cpu(s.pid).own, during = []
      await crowd.says(/begun/)
      while (crowd.code === undefined) during.push(good(await s.load('runs', b, 1, 50)).first_call)
      const said = crowd.said.match(/per_s":([\d.]+)/)
      if (!said) throw new Error(`strangers: ${crowd.errors}`)
      return { quiet, p50: spread(during.map(d => d.p50)).median, p99: Math.max(...during.map(d => d.p99)), per_s: Number(said[1]), cpu: (cpu(s.pid).own - before) / n }
    })
    await s.stop(w)
    const m = f => spread(all.map(f)).median, floor = k => ({ name: 'the same without strangers', values: all.map(x => x.quiet[k] / 1000) })
    table.add('j', `POST to the first tool call while ${n} streams of strangers come and go, p50`, 'ms', all.map(x => x.p50 / 1000), { floor: floor('p50'), note: `${m(x => x.per_s).toFixed(0)} streams/s, server CPU a stream ${(m(x => x.cpu) * 1e6).toFixed(0)} us` })
    table.add('j', 'the same, worst p99 of 50', 'ms', all.map(x => x.p99 / 1000), { floor: floor('p99'), goal: { text: '100 ms', ok: v => v <= 100 } })
  },
}

// A bare remote and its clone, with files of 140 bytes to 3 KiB in nested folders, and a cache that git ignores.
function repository(files) {
  const dir = fresh(data, 'repository'), first = path.join(dir, 'first'), remote = path.join(dir, 'remote.git'), seed = path.join(dir, 'seed')
  const git = (...args) => execFileSync('git', ['-c', 'user.name=Bench', '-c', 'user.email=bench@example.test', ...args], { stdio: 'ignore' })
  const folders = Math.max(1, files / 50)
  git('init', '-q', '-b', 'main', first)
  for (let i = 0; i < files - 1; i++) {
    const at = path.join(first, `d${i % 10}`, `e${Math.floor(i / 10) % Math.ceil(folders / 10)}`)
    fs.mkdirSync(at, { recursive: true })
    fs.writeFileSync(path.join(at, `f${i}.txt`), `file ${i}\n`.repeat(20 + i % 300))
  }
  fs.writeFileSync(path.join(first, '.gitignore'), 'cache/\n')
  git('-C', first, 'add', '-A')
  git('-C', first, 'commit', '-qm', 'one')
  git('clone', '-q', '--bare', first, remote)
  fs.rmSync(first, { recursive: true })
  git('clone', '-q', remote, seed)
  fs.mkdirSync(path.join(seed, 'cache'))
  for (let i = 0; i < 200; i++) fs.writeFileSync(path.join(seed, 'cache', `c${i}`), 'x'.repeat(10000))
  return { dir, seed, remote }
}

// Milliseconds of a program that makes the folder it is given, which is removed again.
function timed(dir, command) {
  const to = path.join(fresh(dir, 'made'), 'it'), [file, ...args] = command(to), from = performance.now()
  execFileSync(file, args, { stdio: 'ignore' })
  const ms = performance.now() - from
  fs.rmSync(to, { recursive: true })
  return ms
}

// Where an opening's time goes, the longest first.
const steps = r => Object.entries(r.steps).sort((a, b) => b[1].us - a[1].us).slice(0, 7).map(([name, s]) => `${name} ${(s.us / 1000).toFixed(1)}`).join(', ')

// Memory of the server for each worker that is connected and does nothing.
async function idleWorkers(kind, goalKib, { settings, env }) {
  for (const n of quick ? [1000] : [1000, 10000]) {
    const pss = [], rss = []
    for (let round = 0; round < (n > 1000 || quick ? 1 : 3); round++) {
      const s = await Server.start({ settings })
      const before = memory(s.pid), crowds = []
      for (let at = 0; at < n; at += 2500)
        crowds.push(new Proc(program('bench-workers'), [s.url, s.pool, '', `w${at}`, String(Math.min(2500, n - at))], { env }))
      for (const c of crowds) await c.says(/ready/, 300)
      await new Promise(r => setTimeout(r, 3000)) // idle: handshakes and registrations are over
      const after = memory(s.pid)
      pss.push((after.Pss - before.Pss) / n)
      rss.push((after.Rss - before.Rss) / n)
      await s.stop(crowds)
    }
    table.add('e', `server, for each of ${n} idle workers, ${kind}, PSS`, 'KiB', pss, { goal: { text: `${goalKib} KiB`, ok: v => v <= goalKib }, note: `RSS ${spread(rss).median.toFixed(1)} KiB` })
  }
}

const pause = seconds => new Promise(r => setTimeout(r, seconds * 1000))
const tasks = pid => fs.readdirSync(`/proc/${pid}/task`)
const inTasks = (pid, file) => tasks(pid).map(t => fs.readFileSync(`/proc/${pid}/task/${t}/${file}`, 'utf8'))
const family = pid => [pid, ...inTasks(pid, 'children').flatMap(c => c.split(' ').filter(Boolean)).flatMap(family)]
const wakeUps = pids => pids.flatMap(pid => inTasks(pid, 'status')).reduce((n, s) => n + Number(s.match(/^voluntary_ctxt_switches:\s+(\d+)/m)[1]), 0)

// Workers on servers of their own data, so many on each. Memory is measured on the first, which starts anew in the end.
async function idleFleet(counts, kind, goal, { settings, env } = {}) {
  const all = await times(counts.length > 1 || counts[0] > 10000 ? 1 : Math.min(rounds, 3), async () => {
    const servers = await Promise.all(counts.map(() => Server.start({ settings }))), crowds = [], before = memory(servers[0].pid)
    for (const [i, s] of servers.entries())
      for (let at = 0; at < counts[i]; at += 6000)
        crowds.push(new Proc(program('bench-workers'), [s.url, s.pool, '', `w${at}`, String(Math.min(6000, counts[i] - at))], { env }))
    for (const c of crowds) await c.says(/ready/, 600)
    await pause(5) // handshakes and registrations are over
    const after = memory(servers[0].pid), seconds = quick ? 15 : 45, used = () => servers.reduce((n, s) => n + cpu(s.pid).own, 0)
    const from = used()
    await pause(seconds)
    const rest = (used() - from) * 100 / seconds, killed = Date.now()
    await servers[0].crash()
    await servers[0].again()
    const up = Date.now() - killed, mine = crowds.slice(0, Math.ceil(counts[0] / 6000)), back = []
    for (const c of mine) back.push(JSON.parse((await c.says(/back (\{.*\})/, 300))[1]))
    const took = Math.max(...back.map(b => b.at)) - killed, sum = k => back.reduce((n, b) => n + b[k], 0)
    const one = { pss: (after.Pss - before.Pss) / counts[0], rss: (after.Rss - before.Rss) / counts[0], rest, took: took / 1000, up: up / 1000,
      attempts: sum('attempts') / counts[0], refusals: sum('refusals'), most: sum('most_in_100_ms'), cpu: cpu(servers[0].pid).own * 1000 / counts[0] }
    for (const s of servers) await s.stop()
    for (const c of crowds) await c.end()
    return one
  })
  const m = (k, digits = 1) => spread(all.map(x => x[k])).median.toFixed(digits), total = counts.reduce((a, b) => a + b)
  const what = `${total} idle workers${counts.length > 1 ? ` on ${counts.length} servers` : ''}, ${kind}`
  table.add('n', `${what}: memory of a server for each, PSS`, 'KiB', all.map(x => x.pss), { goal: { text: `${goal.memory} KiB`, ok: v => v <= goal.memory }, note: `RSS ${m('rss')} KiB` })
  table.add('n', `${what}: CPU of the server${counts.length > 1 ? 's together' : ''} at rest`, '% of a core', all.map(x => x.rest), { goal: goal.rest && { text: `${goal.rest} %`, ok: v => v <= goal.rest } })
  table.add('n', `${counts[0]} workers, ${kind}: all back after a kill of their server`, 's', all.map(x => x.took), { goal: goal.back && { text: `${goal.back} s`, ok: v => v <= goal.back },
    note: `listening again after ${m('up')} s; attempts a worker ${m('attempts', 2)}, refused ${m('refusals', 0)}, most in 100 ms ${m('most', 0)}; server CPU a registration ${m('cpu', 2)} ms` })
}

// Requests that one idle worker each may have, one after the other, beside n - 1 others and as many that nobody may have.
async function claims(n, count) {
  const s = await Server.start(), workers = Math.max(n, count), crowds = []
  const post = labels => JSON.stringify({ prompt: { text: 'Hello.' }, env: { type: 'pool', name: 'bench' }, labels })
  for (let at = 0; at < workers; at += 5000)
    crowds.push(new Proc(program('bench-workers'), [s.url, s.pool, 'bench', `w${at}`, String(Math.min(5000, workers - at)), 'labels']))
  for (const c of crowds) await c.says(/ready/, 300)
  const waiting = n > 1 ? Array.from({ length: n }, (_, i) => post({ os: 'linux', [i % 2 ? 'kind' : 'arch']: `k${i % 500}` })) : []
  if (waiting.length) await s.load('each', writeFile('waiting', waiting.join('\n')), 16)
  await pause(3)
  const wanted = Array.from({ length: count }, (_, i) => post({ os: 'linux', host: `w0-${i % Math.min(5000, workers)}` }))
  const r = await s.load('each', writeFile('wanted', wanted.join('\n')), 1)
  await s.stop(crowds)
  return r.post
}

async function turns(what, s, prompt, extra, goalMs) {
  const w = await s.workers(1), b = body(prompt, extra), n = 20
  good(await s.load('runs', b, 1, 2))
  const all = await times(rounds, async () => {
    const spawned = await spawnFloor('/bin/bash', '-c', 'true') / 1000, synced = await sync() / 1000
    const before = { s: cpu(s.pid), w: cpu(w[0].pid) }, count = 5
    const r = good(await s.load('runs', b, 1, count))
    const after = { s: cpu(s.pid), w: cpu(w[0].pid) }
    return { floor: spawned + synced, turn: r.whole.p50 / 1000 / n, server: (after.s.own - before.s.own) * 1000 / count / n,
      worker: (after.w.own - before.w.own) * 1000 / count / n, shell: (after.w.children - before.w.children) * 1000 / count / n }
  })
  await s.stop(w)
  const m = k => spread(all.map(x => x[k])).median.toFixed(2)
  table.add('i', `${what}, for each turn`, 'ms', all.map(x => x.turn), { floor: { name: 'the shell and one fdatasync', values: all.map(x => x.floor) },
    goal: goalMs && { text: `${goalMs} ms`, ok: v => v <= goalMs }, note: `CPU a turn: server ${m('server')} ms, worker ${m('worker')} ms, shell ${m('shell')} ms` })
}

const unknown = only.filter(r => !(r in rows))
if (unknown.length) {
  console.error(`there is no row ${unknown.join(', ')}; rows: ${Object.keys(rows).join(', ')}`)
  process.exit(2)
}
let failed = false
for (const [name, row] of Object.entries(rows)) {
  if (only.length && !only.includes(name)) continue
  try {
    await row()
  } catch (e) {
    failed = true
    table.skip(name, `failed: ${e.message.slice(0, 300).replace(/[|\n]/g, ' ')}`)
  }
}
about.fdatasync_us = await sync()
fs.writeFileSync(path.join(root, 'bench/results.json'), JSON.stringify({ about, lines: table.lines }, null, 1))
console.log(`\n${about.cores} cores (${about.cpu}), ${about.memory_gib} GiB, Linux ${about.kernel}, store on ${about.filesystem} (fdatasync of 4 KiB: ${about.fdatasync_us.toFixed(0)} us),`)
console.log(`commit ${about.commit}, build ${about.build} in ${path.relative(root, build)}, load ${about.load}, ${about.date}${quick ? ', QUICK' : ''}\n`)
console.log(table.text())
process.exit(failed ? 1 : 0)
