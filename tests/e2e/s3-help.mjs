// A stand-in for S3, as far as its documentation goes: objects in memory, multipart uploads, lists in pages, errors in XML. Every request must be
// signed (version 4, in the header or in the address), and is checked by an implementation of its own, not the server's. It can fail on demand.
import http from 'node:http'
import https from 'node:https'
import fs from 'node:fs'
import path from 'node:path'
import { createHash, createHmac, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { atEnd } from './lib.mjs'

const sha = b => createHash('sha256').update(b).digest('hex')
const mac = (k, t) => createHmac('sha256', k).update(t).digest()
const md5 = b => createHash('md5').update(b).digest('hex')
const xmlText = s => String(s).replace(/[&<>"']/g, c => `&#${c.charCodeAt(0)};`)
const encode = s => encodeURIComponent(s).replace(/[!'()*]/g, c => '%' + c.charCodeAt(0).toString(16).toUpperCase())
const refuse = (status, code, message = code, more = '') => Object.assign(new Error(code), { status, code, xml: `<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>${code}</Code><Message>${xmlText(message)}</Message>${more}<RequestId>r-${randomUUID()}</RequestId></Error>` })

export class S3 {
  constructor({ bucket = 'artifacts', region = 'eu-test-1', prefix = 'bull/pen', minPart = 5 << 20 } = {}) {
    Object.assign(this, { bucket, region, prefix, minPart, accessKey: 'AKIDTEST', secretKey: `s/+${randomUUID()}`, sessionToken: undefined, objects: new Map(), uploads: new Map(), requests: [], skewMs: 0, pageSize: 1000, denied: () => false })
    // Asked before a request is performed, which is known to be signed well: may answer ('done'), or throw refuse(…).
    this.interfere = null
  }
  get url() { return `${this.tls ? 'https' : 'http'}://127.0.0.1:${this.port}` }
  // The settings; `more` are further lines, `over` other values.
  settings(dir, more = '', over = {}) {
    const file = (name, text) => { fs.writeFileSync(path.join(dir, name), text + '\n', { mode: 0o600 }); return path.join(dir, name) }
    this.keyFiles = { access: file('s3-access', this.accessKey), secret: file('s3-secret', this.secretKey), ...(this.sessionToken ? { session: file('s3-session', this.sessionToken) } : {}) }
    const all = { endpoint: this.url, region: this.region, bucket: this.bucket, prefix: this.prefix, access_key_file: this.keyFiles.access, secret_key_file: this.keyFiles.secret, ...(this.sessionToken ? { session_token_file: this.keyFiles.session } : {}), ...over }
    return `\n[s3]\n${Object.entries(all).filter(([, v]) => v !== undefined).map(([k, v]) => `${k} = ${JSON.stringify(v)}`).join('\n')}\n${more}\n`
  }
  // tls: {cert, key}, PEM.
  async start(t, tls) {
    this.tls = tls
    const on = (req, res) => { this.serve(req, res).catch(e => this.fail(res, e)) }
    this.server = tls ? https.createServer(tls, on) : http.createServer(on)
    this.server.listen(0, '127.0.0.1')
    await once(this.server, 'listening')
    this.port = this.server.address().port
    atEnd(t, () => { this.server.closeAllConnections(); this.server.close() })
    return this
  }
  fail(res, e) {
    if (res.destroyed) return
    if (!e.status) console.error(e)
    const body = e.xml ?? `<Error><Code>InternalError</Code><Message>${xmlText(e.stack)}</Message></Error>`
    if (!res.headersSent) res.writeHead(e.status ?? 500, { 'content-type': 'application/xml', ...e.headers })
    res.end(res.req.method === 'HEAD' ? '' : body)
  }
  now() { return Date.now() + this.skewMs }
  // The keys of content, as its objects are called.
  contents() { return [...this.objects.keys()].filter(k => /\/[0-9a-f]{2}\/[0-9a-f-]{36}$/.test('/' + k)) }
  put(name, body, at = this.now()) { this.objects.set(name, { body: Buffer.from(body), at, etag: md5(body), type: 'application/octet-stream' }) }

  // --- signatures
  check(req, url, body) {
    const presigned = url.searchParams.has('X-Amz-Signature')
    const p = name => url.searchParams.get(`X-Amz-${name}`)
    let credential, signedHeaders, signature, at, payload
    if (presigned) {
      if (req.headers.authorization) throw refuse(400, 'InvalidRequest', 'two kinds of signature')
      if (p('Algorithm') !== 'AWS4-HMAC-SHA256') throw refuse(400, 'AuthorizationQueryParametersError')
      ;[credential, signedHeaders, signature, at] = [p('Credential'), p('SignedHeaders'), p('Signature'), p('Date')]
      payload = 'UNSIGNED-PAYLOAD'
    } else {
      const m = /^AWS4-HMAC-SHA256 Credential=([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/.exec(req.headers.authorization ?? '')
      if (!m) throw refuse(403, 'AccessDenied', 'not signed')
      ;[, credential, signedHeaders, signature] = m
      at = req.headers['x-amz-date']
      payload = req.headers['x-amz-content-sha256']
      if (!/^[0-9a-f]{64}$/.test(payload ?? '')) throw refuse(400, 'InvalidRequest', 'x-amz-content-sha256 must be a hash')
    }
    const m = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(at ?? '')
    if (!m) throw refuse(403, 'AccessDenied', 'no date')
    const [key, day, region, service, end] = credential.split('/')
    if (day !== at.slice(0, 8) || service !== 's3' || end !== 'aws4_request') throw refuse(400, 'AuthorizationHeaderMalformed', 'the scope is wrong')
    if (region !== this.region) throw refuse(400, 'AuthorizationHeaderMalformed', `the region '${region}' is wrong; expecting '${this.region}'`, `<Region>${this.region}</Region>`)
    if (key !== this.accessKey) throw refuse(403, 'InvalidAccessKeyId')
    const names = signedHeaders.split(';')
    if (names.join() !== [...names].sort().join() || !names.includes('host')) throw refuse(403, 'SignatureDoesNotMatch', 'the list of headers')
    // Whatever a request says with x-amz- must be signed, and its content type.
    for (const h of Object.keys(req.headers)) if ((h.startsWith('x-amz-') || (h === 'content-type' && !presigned)) && !names.includes(h)) throw refuse(403, 'AccessDenied', `${h} is not signed`)
    const raw = url.search.slice(1).split('&').filter(Boolean).map(pair => { const i = pair.indexOf('='); return i < 0 ? [pair, ''] : [pair.slice(0, i), pair.slice(i + 1)] })
      .map(([k, v]) => [encode(decodeURIComponent(k)), encode(decodeURIComponent(v))]).filter(([k]) => k !== 'X-Amz-Signature')
    const query = raw.sort(([a, b], [c, d]) => (a < c ? -1 : a > c ? 1 : b < d ? -1 : b > d ? 1 : 0)).map(([k, v]) => `${k}=${v}`).join('&')
    const pathname = url.pathname.split('/').map(s => encode(decodeURIComponent(s))).join('/')
    const canonical = [req.method, pathname, query, ...names.map(n => `${n}:${String(req.headers[n] ?? '').trim().replace(/ +/g, ' ')}`), '', signedHeaders, payload].join('\n')
    const scope = `${day}/${region}/s3/aws4_request`
    const k = mac(mac(mac(mac('AWS4' + this.secretKey, day), region), 's3'), 'aws4_request')
    const wanted = mac(k, ['AWS4-HMAC-SHA256', at, scope, sha(canonical)].join('\n')).toString('hex')
    if (wanted !== signature) throw refuse(403, 'SignatureDoesNotMatch', `of ${canonical}`)
    if (this.sessionToken && (presigned ? p('Security-Token') : req.headers['x-amz-security-token']) !== this.sessionToken) throw refuse(400, 'ExpiredToken')
    const signedMs = Date.UTC(m[1], m[2] - 1, m[3], m[4], m[5], m[6])
    if (presigned) {
      const seconds = Number(p('Expires'))
      if (!(seconds > 0 && seconds <= 604800)) throw refuse(400, 'AuthorizationQueryParametersError')
      if (signedMs + seconds * 1000 < this.now() || signedMs > this.now() + 900e3) throw refuse(403, 'AccessDenied', 'Request has expired')
    } else if (Math.abs(signedMs - this.now()) > 900e3) {
      throw refuse(403, 'RequestTimeTooSkewed')
    }
    if (payload !== 'UNSIGNED-PAYLOAD' && payload !== sha(body)) throw refuse(400, 'XAmzContentSHA256Mismatch')
    return presigned
  }

  // --- requests
  async serve(req, res) {
    const url = new URL(req.url, this.url)
    res.setHeader('date', new Date(this.now()).toUTCString())
    const chunks = []
    req.on('error', () => {})
    for await (const c of req) chunks.push(c)
    const body = Buffer.concat(chunks)
    const presigned = this.check(req, url, body)
    // The bucket is in the host's name, or in the path.
    const inHost = req.headers.host.startsWith(`${this.bucket}.`)
    const [, bucket, ...rest] = ((inHost ? `/${this.bucket}` : '') + decodeURIComponent(url.pathname)).split('/')
    const entry = { method: req.method, name: rest.join('/'), query: url.searchParams, presigned, bytes: body.length, headers: req.headers, inHost }
    this.requests.push(entry)
    if (bucket !== this.bucket) throw refuse(404, 'NoSuchBucket')
    if (this.denied(entry)) throw refuse(403, 'AccessDenied', 'Access Denied')
    if (presigned && req.method !== 'GET') throw refuse(403, 'AccessDenied')
    if (await this.interfere?.(entry, req, res) === 'done') return
    const q = url.searchParams
    if (entry.name === '') {
      if (req.method === 'GET' && q.has('uploads')) return this.listUploads(q, res)
      if (req.method === 'GET' && q.get('list-type') === '2') return this.listObjects(q, res)
      throw refuse(501, 'NotImplemented')
    }
    if (req.method === 'POST' && q.has('uploads')) return this.create(entry.name, res)
    if (q.has('uploadId')) return this.part(req.method, entry.name, q, body, res)
    if (req.method === 'PUT') { this.put(entry.name, body); res.writeHead(200, { etag: `"${md5(body)}"` }).end(); return }
    if (req.method === 'DELETE') { this.objects.delete(entry.name); res.writeHead(204).end(); return }
    if (req.method === 'GET') return this.get(entry.name, req, q, res)
    throw refuse(405, 'MethodNotAllowed')
  }
  xml(res, root, inner) { res.writeHead(200, { 'content-type': 'application/xml' }).end(`<?xml version="1.0" encoding="UTF-8"?>\n<${root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">\n${inner}</${root}>`) }
  get(name, req, q, res) {
    const o = this.objects.get(name)
    if (!o) throw refuse(404, 'NoSuchKey')
    const headers = { etag: `"${o.etag}"`, 'content-type': q.get('response-content-type') ?? o.type, 'accept-ranges': 'bytes' }
    if (q.has('response-content-disposition')) headers['content-disposition'] = q.get('response-content-disposition')
    if (q.has('response-cache-control')) headers['cache-control'] = q.get('response-cache-control')
    const m = /^bytes=(\d+)-(\d*)$/.exec(req.headers.range ?? '')
    if (!m) { res.writeHead(200, { ...headers, 'content-length': o.body.length }).end(o.body); return }
    const first = Number(m[1]), last = Math.min(m[2] === '' ? Infinity : Number(m[2]), o.body.length - 1)
    if (first >= o.body.length) throw refuse(416, 'InvalidRange')
    res.writeHead(206, { ...headers, 'content-length': last - first + 1, 'content-range': `bytes ${first}-${last}/${o.body.length}` }).end(o.body.subarray(first, last + 1))
  }
  page(list, from) { const rest = list.slice(from); return { items: rest.slice(0, this.pageSize), next: rest.length > this.pageSize ? from + this.pageSize : undefined } }
  listObjects(q, res) {
    const names = [...this.objects.keys()].filter(k => k.startsWith(q.get('prefix') ?? '')).sort()
    // A token is the last name, as S3's are, so that deleting meanwhile skips nothing.
    const after = q.has('continuation-token') ? Buffer.from(q.get('continuation-token'), 'base64').toString() : ''
    const { items, next } = this.page(names.filter(n => n > after), 0)
    this.xml(res, 'ListBucketResult', `<Name>${this.bucket}</Name><IsTruncated>${next !== undefined}</IsTruncated>` +
      (next !== undefined ? `<NextContinuationToken>${Buffer.from(items.at(-1)).toString('base64')}</NextContinuationToken>` : '') +
      items.map(k => { const o = this.objects.get(k); return `\n<Contents><Key>${xmlText(k)}</Key><LastModified>${new Date(o.at).toISOString()}</LastModified><ETag>&quot;${o.etag}&quot;</ETag><Size>${o.body.length}</Size><StorageClass>STANDARD</StorageClass><Owner><ID>x</ID></Owner></Contents>` }).join(''))
  }
  listUploads(q, res) {
    const all = [...this.uploads].filter(([, u]) => u.name.startsWith(q.get('prefix') ?? '')).map(([id, u]) => ({ id, ...u })).sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.id < b.id ? -1 : 1))
    const from = q.has('key-marker') ? all.filter(u => u.name > q.get('key-marker') || (u.name === q.get('key-marker') && u.id > (q.get('upload-id-marker') ?? '\uffff'))) : all
    const { items, next } = this.page(from, 0)
    this.xml(res, 'ListMultipartUploadsResult', `<Bucket>${this.bucket}</Bucket><IsTruncated>${next !== undefined}</IsTruncated>` +
      (next !== undefined ? `<NextKeyMarker>${xmlText(items.at(-1).name)}</NextKeyMarker><NextUploadIdMarker>${items.at(-1).id}</NextUploadIdMarker>` : '') +
      items.map(u => `<Upload><Key>${xmlText(u.name)}</Key><UploadId>${u.id}</UploadId><Initiated>${new Date(u.at).toISOString()}</Initiated></Upload>`).join(''))
  }
  create(name, res) {
    const id = `u-${randomUUID()}`
    this.uploads.set(id, { name, at: this.now(), parts: new Map() })
    this.xml(res, 'InitiateMultipartUploadResult', `<Bucket>${this.bucket}</Bucket><Key>${xmlText(name)}</Key><UploadId>${id}</UploadId>`)
  }
  part(method, name, q, body, res) {
    const id = q.get('uploadId'), u = this.uploads.get(id)
    if (!u || u.name !== name) throw refuse(404, 'NoSuchUpload')
    if (method === 'DELETE') { this.uploads.delete(id); res.writeHead(204).end(); return }
    if (method === 'PUT') {
      const n = Number(q.get('partNumber'))
      if (!(n >= 1 && n <= 10000)) throw refuse(400, 'InvalidArgument')
      u.parts.set(n, { body, etag: md5(body) })
      res.writeHead(200, { etag: `"${this.wrongEtag?.(u, n) ?? md5(body)}"` }).end()
      return
    }
    if (method === 'GET') {
      const all = [...u.parts].sort((a, b) => a[0] - b[0]).filter(([n]) => n > Number(q.get('part-number-marker') ?? 0))
      const { items, next } = this.page(all, 0)
      this.xml(res, 'ListPartsResult', `<Key>${xmlText(name)}</Key><UploadId>${id}</UploadId><IsTruncated>${next !== undefined}</IsTruncated><NextPartNumberMarker>${items.at(-1)?.[0] ?? 0}</NextPartNumberMarker>` +
        items.map(([n, p]) => `<Part><PartNumber>${n}</PartNumber><LastModified>${new Date(this.now()).toISOString()}</LastModified><ETag>"${p.etag}"</ETag><Size>${p.body.length}</Size></Part>`).join(''))
      return
    }
    const wanted = [...body.toString().matchAll(/<Part><PartNumber>(\d+)<\/PartNumber><ETag>([^<]*)<\/ETag><\/Part>/g)].map(m => [Number(m[1]), m[2].replaceAll('"', '').replaceAll('&quot;', '')])
    if (wanted.length === 0) throw refuse(400, 'MalformedXML')
    const parts = wanted.map(([n, etag]) => { const p = u.parts.get(n); if (!p || p.etag !== etag) throw refuse(400, 'InvalidPart'); return p })
    if (wanted.some(([n], i) => i > 0 && n <= wanted[i - 1][0])) throw refuse(400, 'InvalidPartOrder')
    if (parts.slice(0, -1).some(p => p.body.length < this.minPart)) throw refuse(400, 'EntityTooSmall')
    this.put(name, Buffer.concat(parts.map(p => p.body)))
    this.uploads.delete(id)
    this.xml(res, 'CompleteMultipartUploadResult', `<Key>${xmlText(name)}</Key><ETag>"${md5(parts.map(p => p.etag).join())}-${parts.length}"</ETag>`)
  }
}
export { refuse as s3Refusal }
