// A real squid of the test's own: unprivileged, on a free port, with everything in the test's folder.
import fs from 'node:fs'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { once } from 'node:events'
import { Proc, atEnd, freePort, run, until } from './lib.mjs'

const program = '/usr/sbin/squid', helper = '/usr/lib/squid/basic_ncsa_auth'

export class Squid {
  static async start(t, dir, { user = 'worker', password = 'pass word', more = '' } = {}) {
    const s = new Squid()
    s.dir = path.join(dir, 'squid')
    fs.mkdirSync(s.dir)
    const { stdout } = await run(t, 'openssl', ['passwd', '-apr1', password])
    fs.writeFileSync(path.join(s.dir, 'users'), `${user}:${stdout.trim()}\n`)
    s.accessLog = path.join(s.dir, 'access.log')
    // Squid gives up root for the user "proxy", who must be able to work here.
    if (os.userInfo().uid === 0) { for (const d of [dir, s.dir]) fs.chmodSync(d, 0o755); await run(t, 'chown', ['-R', 'proxy', s.dir]) }
    for (let tries = 0; ; tries++) {
      s.port = await freePort()
      fs.writeFileSync(path.join(s.dir, 'squid.conf'), `
http_port 127.0.0.1:${s.port}
auth_param basic program ${helper} ${path.join(s.dir, 'users')}
auth_param basic children 2
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
cache deny all
cache_log ${path.join(s.dir, 'cache.log')}
access_log stdio:${s.accessLog}
logfile_rotate 0
pid_filename none
coredump_dir ${s.dir}
shutdown_lifetime 0 seconds
netdb_filename none
pinger_enable off
buffered_logs off
${more}
`)
      // Only this process listens at once (-N): no daemon is left behind.
      s.proc = new Proc(t, program, ['-N', '-n', `test${process.pid}${s.port}`, '-f', path.join(s.dir, 'squid.conf')])
      if (await until('squid listens', () => !s.proc.alive ? 'dead' : s.#answers(), 60).then(v => v !== 'dead', () => false)) break
      if (tries === 3) throw new Error(`squid does not start: ${s.proc.stderr} ${fs.existsSync(path.join(s.dir, 'cache.log')) ? fs.readFileSync(path.join(s.dir, 'cache.log')) : ''}`)
    }
    s.url = `http://${encodeURIComponent(user)}:${encodeURIComponent(password)}@127.0.0.1:${s.port}`
    s.wrongUrl = `http://${encodeURIComponent(user)}:wrong-secret@127.0.0.1:${s.port}`
    atEnd(t, () => s.proc.kill('SIGTERM'))
    return s
  }
  #answers() {
    return new Promise(resolve => {
      const c = net.connect(this.port, '127.0.0.1', () => { c.destroy(); resolve(true) }).on('error', () => resolve(false))
    })
  }
  // The lines of its log: one a tunnel that ended.
  log() { return fs.existsSync(this.accessLog) ? fs.readFileSync(this.accessLog, 'utf8').split('\n').filter(Boolean) : [] }
  // Tunnels that were refused for their credentials.
  refusals() { return this.log().filter(l => /TCP_DENIED\/407/.test(l)).length }
}
