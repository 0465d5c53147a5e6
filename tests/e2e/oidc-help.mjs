// OpenID providers for tests: a published one (npm oidc-provider), and one of our own that says whatever a test wants.
import { generateKeyPair, exportJWK, SignJWT } from 'jose'
import fs from 'node:fs'
import path from 'node:path'
import { listening } from './mcp-remote-help.mjs'

// What [login.oidc] of the settings says for a provider. `more`: further lines.
export const settings = (issuer, more = '') => `[login.oidc]\nissuer = "${issuer}"\nclient_id = "bullpen"\nallowed_domains = "corp.example"\nauto_create = true\n${more}\n`
export const withSecret = pool => { fs.writeFileSync(path.join(pool.dir, 'oidc.secret'), 'a-secret\n'); fs.appendFileSync(pool.configFile, `\nclient_secret_file = "${path.join(pool.dir, 'oidc.secret')}"\n`) }

// `redirect`: set later, the server's port is not known before.
export async function realProvider(t, { people = {} } = {}) {
  const { default: Provider } = await import('oidc-provider')
  let provider
  const s = await listening(t, (req, res) => provider.callback()(req, res))
  s.serve = callback => {
    provider = new Provider(s.origin, {
      clients: [{ client_id: 'bullpen', client_secret: 'a-secret', redirect_uris: [callback], post_logout_redirect_uris: [new URL('/login', callback).href], grant_types: ['authorization_code'], response_types: ['code'] }],
      cookies: { keys: ['test'] }, pkce: { required: () => true },
      claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'groups'] },
      findAccount: (ctx, id) => ({ accountId: id, claims: () => ({ sub: id, email: `${id}@corp.example`, email_verified: true, name: `${id} of the corp`, ...people[id] }) }),
      features: { devInteractions: { enabled: true } },
    })
  }
  return s
}

export async function ownProvider(t) {
  let keys
  const s = await listening(t, async (req, res) => {
    const url = new URL(req.url, s.origin), json = o => res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(o))
    s.asked.push(url.pathname)
    await s.hangs
    if (s.down) return void res.writeHead(503).end()
    if (url.pathname === '/.well-known/openid-configuration') return void json({ issuer: s.origin, authorization_endpoint: `${s.origin}/auth`, token_endpoint: `${s.origin}/token`, jwks_uri: `${s.origin}/jwks`, ...s.document })
    if (url.pathname === '/jwks') return void json({ keys: s.jwks ?? keys.map(k => k.jwk) })
    if (url.pathname === '/userinfo') return void json(s.userinfo)
    if (url.pathname === '/token') {
      let body = ''
      for await (const part of req) body += part
      s.forms.push(new URLSearchParams(body))
      return void json({ access_token: 'access', token_type: 'Bearer', id_token: await s.token(s.forms.at(-1)) })
    }
    res.writeHead(404).end()
  })
  s.rotate = async (alg = 'RS256') => {
    const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true, modulusLength: 2048 })
    keys = [{ alg, privateKey, publicKey, jwk: { ...await exportJWK(publicKey), kid: `key-${Math.random()}`, use: 'sig', alg } }]
    return keys[0]
  }
  await s.rotate()
  // The claims of a good token for a sign-in that went to `location`.
  s.good = location => ({ iss: s.origin, aud: 'bullpen', sub: 'sub-1', nonce: new URL(location).searchParams.get('nonce'), email: 'ann@corp.example', email_verified: true, name: 'Ann', iat: Math.floor(Date.now() / 1000), exp: Math.floor(Date.now() / 1000) + 300 })
  s.sign = (claims, header = {}, key = keys[0]) => new SignJWT(claims).setProtectedHeader({ alg: key.alg, kid: key.jwk.kid, ...header }).sign(key.privateKey)
  return Object.assign(s, { asked: [], forms: [], document: {} })
}

const cookieOf = (res, name) => res.headers.getSetCookie().map(c => c.split(';')[0]).find(c => c.startsWith(`${name}=`))

// The first step: where the browser is sent, and its cookie.
export async function begin(pool, returnTo) {
  const res = await fetch(`${pool.url}/v1/login/oidc${returnTo === undefined ? '' : `?returnTo=${encodeURIComponent(returnTo)}`}`, { redirect: 'manual' })
  return { status: res.status, to: res.headers.get('location'), cookie: cookieOf(res, 'bullpen_login'), set: res.headers.getSetCookie() }
}
// The second: what the browser comes back with.
export async function comeBack(pool, { query, cookie }) {
  const res = await fetch(`${pool.url}/v1/login/oidc/callback?${new URLSearchParams(query)}`, { redirect: 'manual', headers: cookie ? { cookie } : {} })
  return { status: res.status, to: res.headers.get('location'), session: cookieOf(res, 'bullpen_session'), set: res.headers.getSetCookie() }
}
// Both, with our own provider. `claims`, `token`: what it says instead.
export async function signInBy(pool, provider, { claims = {}, token, returnTo, change = x => x } = {}) {
  const b = await begin(pool, returnTo)
  if (b.to?.startsWith('/login')) return b
  provider.token = token ? () => token(provider.good(b.to)) : () => provider.sign({ ...provider.good(b.to), ...claims })
  return comeBack(pool, change({ query: { code: 'code', state: new URL(b.to).searchParams.get('state') }, cookie: b.cookie }, b))
}
