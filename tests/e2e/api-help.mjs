// What the suites of the REST API share: the form of errors, requests that fetch() would not send, HTTP/2.
import assert from 'node:assert/strict'
import path from 'node:path'
import { execFileSync } from 'node:child_process'
import http from 'node:http'
import http2 from 'node:http2'

export const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/
export const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/

// An error is exactly {"error":{"code","message"}}, with the headers that every answer has.
export function isError(r, status, code, message) {
  assert.equal(r.status, status, `${status} ${code} was wanted; the answer was ${r.status} ${r.text}`)
  assert.deepEqual(Object.keys(r.json), ['error'], r.text)
  assert.deepEqual(Object.keys(r.json.error).sort(), code === 'integration_not_connected' ? ['code', 'helpUrl', 'message', 'provider'] : ['code', 'message'], r.text)
  assert.equal(r.json.error.code, code, r.text)
  assert.equal(typeof r.json.error.message, 'string')
  assert.ok(r.json.error.message.length > 0)
  if (message) assert.match(r.json.error.message, message)
  hasHeaders(r)
}

// Of /v0/agents, /v0/me, /v0/models and /v0/repositories.
export function isV0Error(r, status, code, message) {
  assert.equal(r.status, status, `${status} ${code} was wanted; the answer was ${r.status} ${r.text}`)
  assert.deepEqual(Object.keys(r.json).sort(), ['code', 'error', 'message'], r.text)
  assert.equal(r.json.code, code, r.text)
  assert.equal(r.json.error, r.json.message)
  assert.ok(typeof r.json.error === 'string' && r.json.error.length > 0, r.text)
  if (message) assert.match(r.json.message, message)
  hasHeaders(r)
}

export function hasHeaders(r) {
  const get = k => r.headers.get ? r.headers.get(k) : r.headers[k]
  assert.match(get('content-type') ?? '', /^application\/json/)
  assert.match(get('x-request-id') ?? '', UUID)
  assert.equal(get('cache-control'), 'no-store')
  assert.equal(get('etag') ?? null, null)
}

// One HTTP/1.1 request with exactly these headers; a header may be an array: one line for each.
export function raw(url, method, path, { headers = {}, body } = {}) {
  return new Promise((resolve, reject) => {
    const u = new URL(url)
    const req = http.request({ host: u.hostname, port: u.port, method, path, headers, agent: false }, res => {
      const chunks = []
      res.on('data', d => chunks.push(d))
      res.on('error', reject)
      res.on('end', () => {
        const text = Buffer.concat(chunks).toString()
        let json
        try { json = JSON.parse(text) } catch { /* the test looks at text */ }
        resolve({ status: res.statusCode, headers: res.headers, text, json })
      })
    })
    req.on('error', reject)
    req.end(body)
  })
}

// Changes the server's database under its hands, as a person or a bad disk does.
export function sql(pool, statement, ...values) {
  if (pool.store) {
    const text = statement.replace(/\?/g, () => `'${String(values.shift()).replaceAll("'", "''")}'`)
    const rows = /^\s*SELECT/i.test(text) ? `SELECT COALESCE(json_agg(to_json(t)), '[]') FROM (${text}) t` : text
    const out = execFileSync('psql', ['-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1', pool.store, '-c', rows], { encoding: 'utf8' }).trim()
    return out ? JSON.parse(out).map(r => Object.values(r)) : []
  }
  const script = 'import sqlite3,sys,json\nc=sqlite3.connect(sys.argv[1],timeout=20)\nr=c.execute(sys.argv[2],sys.argv[3:]).fetchall()\nc.commit()\nprint(json.dumps(r))'
  return JSON.parse(execFileSync('python3', ['-c', script, path.join(pool.data, 'bullpen.db'), statement, ...values], { encoding: 'utf8' }))
}

// A session of HTTP/2 without TLS.
export function h2(t, url, key) {
  const session = http2.connect(url)
  session.on('error', () => {})
  t.after(() => session.destroy())
  const open = (method, path, headers = {}) => session.request({ ':method': method, ':path': path, ...(key ? { authorization: `Bearer ${key}` } : {}), ...headers }, { endStream: method === 'GET' })
  const request = (method, path, { body, headers = {} } = {}) => new Promise((resolve, reject) => {
    const s = open(method, path, { ...(body !== undefined ? { 'content-type': 'application/json' } : {}), ...headers })
    let head, text = ''
    s.setEncoding('utf8').on('response', h => { head = h }).on('data', d => { text += d }).on('error', reject)
    s.on('end', () => resolve({ status: head[':status'], headers: head, text, json: text ? JSON.parse(text) : undefined }))
    if (method !== 'GET') s.end(body === undefined ? undefined : JSON.stringify(body))
  })
  return { session, open, request }
}

// A run that waits inside its first call until go() is called.
export function gate(pool, fs) {
  const dir = fs.mkdtempSync(path.join(pool.dir, 'gate-'))
  const there = path.join(dir, 'there'), file = path.join(dir, 'go')
  return {
    command: `touch ${there}; until [ -e ${file} ]; do sleep 0.02; done`,
    reached: () => fs.existsSync(there),
    go: () => fs.writeFileSync(file, ''),
  }
}
