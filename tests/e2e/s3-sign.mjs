// Addresses signed by Signature Version 4, for tests that ask an S3 server themselves.
import { createHash, createHmac } from 'node:crypto'

const mac = (k, t) => createHmac('sha256', k).update(t).digest()
const encode = s => encodeURIComponent(s).replace(/[!'()*]/g, c => '%' + c.charCodeAt(0).toString(16).toUpperCase())

export function presignedRequest({ method, url, query = {}, accessKey, secretKey, region, seconds = 60 }) {
  const u = new URL(url), at = new Date().toISOString().replace(/[-:]|\.\d+/g, ''), scope = `${at.slice(0, 8)}/${region}/s3/aws4_request`
  const all = { ...query, 'X-Amz-Algorithm': 'AWS4-HMAC-SHA256', 'X-Amz-Credential': `${accessKey}/${scope}`, 'X-Amz-Date': at, 'X-Amz-Expires': seconds, 'X-Amz-SignedHeaders': 'host' }
  const text = Object.entries(all).map(([k, v]) => [encode(k), encode(String(v))]).sort(([a], [b]) => (a < b ? -1 : 1)).map(p => p.join('=')).join('&')
  const canonical = [method, u.pathname, text, `host:${u.host}`, '', 'host', 'UNSIGNED-PAYLOAD'].join('\n')
  const key = mac(mac(mac(mac('AWS4' + secretKey, at.slice(0, 8)), region), 's3'), 'aws4_request')
  const signature = mac(key, ['AWS4-HMAC-SHA256', at, scope, createHash('sha256').update(canonical).digest('hex')].join('\n')).toString('hex')
  return `${u.origin}${u.pathname}?${text}&X-Amz-Signature=${signature}`
}
