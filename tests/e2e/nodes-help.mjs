// Several servers over one PostgreSQL, and what stands before them: a PostgreSQL of the test's own, and a balancer that can be
// told where new connections go and to cut those that are there.
import { execFileSync } from 'node:child_process'
import fs from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { once } from 'node:events'
import { atEnd, programs, Proc, root, tempDir } from './lib.mjs'

const script = path.join(root, 'tools/private-postgresql.sh')

const ask = (...args) => execFileSync(script, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).trim()

// A server of the test's own; its URL has NAME in the place of a database's name.
export function ownPostgresql(t) {
  const outside = tempDir(t), dir = path.join(outside, 'p')
  fs.chmodSync(outside, 0o755) // its programs do not run as root
  const p = {
    dir, url: ask('start', dir),
    pid: () => Number(fs.readFileSync(path.join(dir, 'data/postmaster.pid'), 'utf8').split('\n')[0]),
    kill: () => ask('kill', dir),
    again: () => ask('again', dir),
    standby: () => {
      const second = path.join(outside, 's')
      atEnd(t, () => ask('stop', second))
      ask('standby', second, dir)
      return { dir: second, promote: () => ask('promote', second) }
    },
  }
  atEnd(t, () => ask('stop', dir))
  return p
}

// The one of the whole suite, if there is one.
export const postgresql = t => process.env.STORE_URL ?? ownPostgresql(t).url

// Another node of the same installation: the same database and key, a folder of its own.
export async function another(t, pool, name) {
  const dir = path.join(pool.dir, `data-${name}`)
  const node = Object.create(pool)
  node.data = dir
  node.listen = '127.0.0.1:0'
  node.start = async () => {
    node.server = new Proc(t, programs.bullpen, ['serve', '--config', pool.configFile, '--listen', node.listen, '--data', dir, '--node', name])
    const m = await node.server.says(/^bullpen: listening on (http:\/\/127\.0\.0\.1:(\d+))$/m)
    node.url = m[1]
    node.listen = `127.0.0.1:${m[2]}`
  }
  await node.start()
  return node
}

export async function balancer(t, first) {
  let target = first
  const open = new Set()
  const server = net.createServer(a => {
    const b = net.connect({ host: '127.0.0.1', port: Number(new URL(target).port) })
    open.add(a).add(b)
    const end = () => { a.destroy(); b.destroy(); open.delete(a); open.delete(b) }
    for (const s of [a, b]) s.on('error', end).on('close', end)
    a.pipe(b).pipe(a)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  atEnd(t, () => { for (const s of open) s.destroy(); server.close() })
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    to: url => { target = url },
    cut: () => { for (const s of open) s.destroy() },
  }
}
