// A certificate authority of the test's own, a server that uses it, and clients that trust it.
import { execFile } from 'node:child_process'
import fs from 'node:fs'
import https from 'node:https'
import http2 from 'node:http2'
import path from 'node:path'
import { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { bullpen, atEnd } from './lib.mjs'

const exec = promisify(execFile)
export const openssl = (...args) => exec('openssl', args)

export class Authority {
  static async make(dir, name = 'ca') {
    const a = new Authority()
    Object.assign(a, { dir, file: path.join(dir, `${name}.pem`), key: path.join(dir, `${name}.key`), serial: 0 })
    await openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', `/CN=${name}`, '-keyout', a.key, '-out', a.file)
    a.pem = fs.readFileSync(a.file, 'utf8')
    return a
  }
  // Certificate and key for 127.0.0.1 and localhost, in two files; `subject` tells them apart. `from` and `to`: of its
  // validity, as YYYYMMDDHHMMSSZ.
  async issue(subject, name = 'server', { names = 'DNS:localhost,IP:127.0.0.1', from, to } = {}) {
    const cert = path.join(this.dir, `${name}.pem`), key = path.join(this.dir, `${name}.key`), csr = path.join(this.dir, `${name}.csr`), ext = path.join(this.dir, `${name}.ext`)
    fs.writeFileSync(ext, `subjectAltName=${names}\n`)
    await openssl('req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', `/CN=${subject}`, '-keyout', `${key}.new`, '-out', csr)
    if (from) await this.#issueDated(csr, ext, `${cert}.new`, from, to)
    else await openssl('x509', '-req', '-in', csr, '-CA', this.file, '-CAkey', this.key, '-set_serial', String(++this.serial), '-days', '2', '-extfile', ext, '-out', `${cert}.new`)
    fs.chmodSync(`${key}.new`, 0o600)
    fs.renameSync(`${key}.new`, key)
    fs.renameSync(`${cert}.new`, cert)
    return { cert, key }
  }
  // Only `openssl ca` takes dates, and it wants a folder of its own.
  async #issueDated(csr, ext, out, from, to) {
    const at = name => path.join(this.dir, `dated-${++this.serial}-${name}`)
    const index = at('index'), serial = at('serial'), config = at('ca.cnf')
    fs.writeFileSync(index, '')
    fs.writeFileSync(serial, '1000\n')
    fs.writeFileSync(config, `[ca]\ndefault_ca = c\n[c]\ndatabase = ${index}\nserial = ${serial}\nnew_certs_dir = ${this.dir}\ndefault_md = sha256\npolicy = p\n[p]\ncommonName = supplied\n`)
    await openssl('ca', '-batch', '-notext', '-config', config, '-in', csr, '-out', out, '-cert', this.file, '-keyfile', this.key, '-extfile', ext, '-startdate', from, '-enddate', to)
  }
}

export const tlsConfig = ({ cert, key }) => `[server]\ntls_cert = "${cert}"\ntls_key = "${key}"\n`

// A pool whose server speaks TLS; its workers and the command line trust the test's authority by SSL_CERT_FILE.
export async function tlsPool(t, { config = '', ...options } = {}) {
  const pool = await bullpen(t, { start: false, ...options, config })
  pool.ca = await Authority.make(pool.dir)
  pool.files = await pool.ca.issue('first')
  fs.appendFileSync(pool.configFile, tlsConfig(pool.files))
  pool.trust = { SSL_CERT_FILE: pool.ca.file }
  pool.agent = new https.Agent({ ca: pool.ca.pem, keepAlive: true })
  atEnd(t, () => pool.agent.destroy())
  pool.fetch = (url, { method = 'GET', headers, body, signal } = {}) => new Promise((resolve, reject) => {
    const rq = https.request(url, { method, headers, agent: pool.agent, signal }, res =>
      resolve(new Response(res.statusCode === 204 ? null : Readable.toWeb(res), { status: res.statusCode, headers: Object.entries(res.headers).map(([k, v]) => [k, String(v)]) })))
    rq.on('error', reject)
    rq.end(body)
  })
  if (options.start !== false) await pool.start()
  return pool
}

// One request of a fresh HTTP/2 session: { status, text }.
export async function h2get(t, url, pathname, { ca, headers = {} } = {}) {
  const session = http2.connect(url, { ca })
  atEnd(t, () => session.destroy())
  return new Promise((resolve, reject) => {
    session.on('error', reject)
    const rq = session.request({ ':path': pathname, ...headers })
    let status, text = ''
    rq.on('response', h => { status = h[':status'] }).on('data', d => { text += d }).on('end', () => resolve({ status, text, session })).on('error', reject)
    rq.end()
  })
}
