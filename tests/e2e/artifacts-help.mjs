// What tests of artifacts share.
import http from 'node:http'
import { once } from 'node:events'
import { atEnd } from './lib.mjs'

// A proxy to the server for what is uploaded. cutAfter(request): after how many bytes of its body it breaks, or undefined.
export async function uploadHostAt(t, pool, port) {
  const it = { requests: [], cutAfter: () => undefined }
  const s = http.createServer((req, res) => {
    const u = new URL(pool.url)
    const entry = { method: req.method, url: req.url, bytes: 0 }
    const limit = it.cutAfter(entry)
    it.requests.push(entry)
    const out = http.request({ host: u.hostname, port: u.port, method: req.method, path: req.url, headers: req.headers, agent: false }, answer => {
      entry.status = answer.statusCode
      res.writeHead(answer.statusCode, answer.rawHeaders)
      answer.on('error', () => res.destroy()).pipe(res)
    })
    out.on('error', () => res.destroy())
    req.on('error', () => {}).on('close', () => { if (!req.complete) out.destroy() })
    req.on('data', d => {
      entry.bytes += d.length
      if (limit !== undefined && entry.bytes > limit) { entry.cut = true; out.write(d, () => { out.destroy(); req.destroy() }); return req.pause() }
      if (!out.write(d)) { req.pause(); out.once('drain', () => req.resume()) }
    }).on('end', () => out.end())
  }).listen(port, '127.0.0.1')
  await once(s, 'listening')
  atEnd(t, () => { s.closeAllConnections(); s.close() })
  return it
}
