// What the tests with the official SDK share: both generations of it, each call in a process of its own, and a proxy between it
// and the server that writes down what is asked and can lose answers.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { once } from 'node:events'
import { Proc, atEnd, root } from '../lib.mjs'

const folder = path.join(root, 'tests/e2e/sdk')
export const generations = ['18', '32']

// The same test for both generations; fn(t, generation).
export function both(name, fn, options = {}) {
  for (const g of generations) test(`${name} [${JSON.parse(fs.readFileSync(path.join(root, `tests/e2e/node_modules/cursor-sdk-${g}/package.json`))).version}]`, options, t => fn(t, g))
}

// Performs the function's body in a process with the SDK, and gives what it returned; its error is thrown as data.
export function begin(t, g, pool, fn, input = {}, { key = pool.userKey, url = pool.url, env = {} } = {}) {
  const text = fn.toString()
  const body = text.slice(text.indexOf('{', text.indexOf('=>')) + 1, text.lastIndexOf('}'))
  const p = new Proc(t, process.execPath, [path.join(folder, 'client.mjs'), g, body], { stdin: JSON.stringify(input), env: { CURSOR_BACKEND_URL: url, CURSOR_API_KEY: key, ...env }, cwd: pool.dir })
  p.answer = p.exited.then(() => {
    assert.equal(p.code, 0, p.stderr)
    return JSON.parse(p.stdout)
  })
  return p
}
export const sdkCall = (...args) => begin(...args).answer
export async function value(...args) {
  const r = await sdkCall(...args)
  assert.ok(!r.error, `${JSON.stringify(r.error)} ${r.stack}`)
  return r.value
}

// A proxy to the server. seen: [{ method, url, headers, body, status }]; lose(request): true breaks the connection in place of
// the answer, after the server has given it; cut(request): after how many bytes of the answer's body it breaks, or undefined.
export async function tap(t, pool) {
  const it = { seen: [], lose: () => false, cut: () => undefined }
  const s = http.createServer((req, res) => {
    const chunks = []
    req.on('data', d => chunks.push(d)).on('end', () => {
      const entry = { method: req.method, url: req.url, headers: req.headers, body: Buffer.concat(chunks).toString() }
      it.seen.push(entry)
      const u = new URL(pool.url)
      const out = http.request({ host: u.hostname, port: u.port, method: req.method, path: req.url, headers: req.headers, agent: false }, answer => {
        entry.status = answer.statusCode
        if (it.lose(entry)) return answer.resume().on('end', () => res.destroy())
        res.writeHead(answer.statusCode, answer.rawHeaders)
        let left = it.cut(entry) ?? Infinity
        answer.on('error', () => res.destroy()).on('end', () => left > 0 && res.end()).on('data', d => {
          if (left <= 0) return
          const piece = d.subarray(0, left)
          left -= piece.length
          res.write(piece, () => { if (left <= 0) res.destroy() })
        })
      })
      res.on('close', () => out.destroy())
      out.on('error', () => res.destroy())
      out.end(entry.body)
    })
  }).listen(0, '127.0.0.1')
  await once(s, 'listening')
  atEnd(t, () => { s.closeAllConnections(); s.close() })
  it.url = `http://127.0.0.1:${s.address().port}`
  return it
}
