// Short-lived credentials: what an API key is exchanged for, and what a service account makes for a user.
import test from 'node:test'
import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { bullpen, programs, run } from './lib.mjs'
import { ISO, isError, sql } from './api-help.mjs'
import { Peer } from './peer.mjs'

const body = { prompt: { text: 'hi' }, repos: [{ url: 'https://git.example.test/acme/web' }] }
const claimsOf = token => JSON.parse(Buffer.from(token.split('.')[1], 'base64url').toString())
const revoke = (t, pool, key) => run(t, programs.bullpen, ['admin', 'key', 'revoke', '--data', pool.data, key])

// A token as the server itself would sign it, saying what the test wants.
function signed(pool, claims) {
  const key = Buffer.from(sql(pool, "SELECT value FROM installation_keys WHERE name = 'token'")[0][0], 'hex')
  const text = [{ alg: 'HS256', typ: 'JWT' }, claims].map(x => Buffer.from(JSON.stringify(x)).toString('base64url')).join('.')
  return `${text}.${createHmac('sha256', key).update(text).digest('base64url')}`
}

async function connects(t, pool, key, hello = {}) {
  const p = new Peer(t, pool, { key, hello })
  await p.connect()
  return p
}

test('a worker exchanges its API key for a token of one hour, and connects with that', async t => {
  const pool = await bullpen(t)
  for (const [key, keyType] of [[pool.poolKey, 'service_account'], [pool.userKey, 'user']]) {
    for (const headers of [{}, { authorization: `Basic ${Buffer.from(`${key}:`).toString('base64')}` }]) {
      const r = await pool.http('POST', '/v0/worker-tokens', { body: {}, key, headers })
      assert.equal(r.status, 200, r.text)
      assert.deepEqual(Object.keys(r.json).sort(), ['accessToken', 'expiresAt', 'keyType'])
      assert.equal(r.json.keyType, keyType)
      assert.match(r.json.expiresAt, ISO)
      const { exp, iat, kind } = claimsOf(r.json.accessToken)
      assert.ok(kind === 'worker' && exp - iat >= 3599 && exp - iat <= 3600)
      assert.equal(Date.parse(r.json.expiresAt), exp * 1000)
    }
  }
  const token = (await pool.http('POST', '/v0/worker-tokens', { key: pool.poolKey })).json.accessToken
  assert.equal((await connects(t, pool, token)).welcomes.length, 1)
  // It is for connecting only: neither the API nor a further token.
  isError(await pool.http('GET', '/v1/agents', { key: token }), 403, 'key_not_supported')
  isError(await pool.http('POST', '/v0/worker-tokens', { body: {}, key: token }), 403, 'key_not_supported')
  isError(await pool.http('POST', '/v0/worker-tokens', { body: {}, key: null }), 401, 'unauthorized')
  isError(await pool.http('POST', '/v0/worker-tokens', { body: {}, key: `${token}x` }), 401, 'unauthorized')
  // A user's does not start pool workers, nor does one of a key that may not.
  const users = (await pool.http('POST', '/v0/worker-tokens', { body: {} })).json.accessToken
  assert.equal((await connects(t, pool, users)).refused.code, 'key_not_supported')
  const narrow = await pool.createKey('service_account', 'narrow', null, 'agents:read')
  const narrowToken = (await pool.http('POST', '/v0/worker-tokens', { body: {}, key: narrow })).json.accessToken
  assert.match((await connects(t, pool, narrowToken)).refused.message, /workers:connect/)
})

test('a token is worth what the store says now: revoked, expired, forged', async t => {
  const pool = await bullpen(t)
  const key = await pool.createKey('service_account', 'other')
  const token = (await pool.http('POST', '/v0/worker-tokens', { body: {}, key })).json.accessToken
  const peer = await connects(t, pool, token)
  assert.equal(peer.welcomes.length, 1)
  const claims = claimsOf(token)
  const late = await connects(t, pool, signed(pool, { ...claims, exp: 1700000000 }))
  assert.equal(late.refused.code, 'token_expired')
  assert.match(late.refused.message, /2023-11-14T22:13:20\.000Z/)
  assert.equal((await connects(t, pool, signed(pool, { ...claims, keyId: 'key_none' }))).refused.code, 'unauthorized')
  assert.equal((await connects(t, pool, signed(pool, { ...claims, team: 2 }))).refused.code, 'unauthorized')
  assert.equal((await connects(t, pool, token.replace(/\.[^.]*$/, '.'))).refused.code, 'unauthorized')
  const gone = signed(pool, { iss: 'bullpen', aud: 'bullpen', kind: 'session', team: 1, keyId: claims.keyId, agent: 'bc-1', worker: 'w', claimSeq: 'claim-1', exp: claims.exp })
  assert.equal((await connects(t, pool, gone)).refused.code, 'claim_ended')
  isError(await pool.http('GET', '/v1/me', { key: gone }), 401, 'unauthorized')
  await revoke(t, pool, key)
  assert.equal((await connects(t, pool, token)).refused.code, 'key_revoked')
})

test('a service account makes a token that acts as a user of its team', async t => {
  const pool = await bullpen(t)
  const mint = (b, key = pool.poolKey) => pool.http('POST', '/v1/sub-tokens', { body: b, key })
  const me = (await pool.http('GET', '/v1/me')).json
  const r = await mint({ forUserEmail: 'DEV@example.test' })
  assert.equal(r.status, 200, r.text)
  assert.deepEqual(Object.keys(r.json).sort(), ['accessToken', 'expiresAt', 'teamId', 'userId'])
  assert.equal(r.json.userId, me.userId)
  assert.equal(r.json.teamId, 1)
  const token = r.json.accessToken
  assert.equal((await mint({ forUserId: me.userId })).json.userId, me.userId)

  // It is that user: what it makes is the user's, what the user made is there.
  const made = await pool.http('POST', '/v1/agents', { body, key: token })
  assert.equal(made.status, 201, made.text)
  assert.equal((await pool.http('GET', `/v1/agents/${made.json.agent.id}`)).status, 200)
  const who = (await pool.http('GET', '/v1/me', { key: token })).json
  assert.deepEqual([who.userId, who.userEmail, who.apiKeyName], [me.userId, 'dev@example.test', 'pool'])
  isError(await mint({ forUserId: me.userId }, token), 403, 'service_account_required')
  isError(await pool.http('POST', '/v0/worker-tokens', { body: {}, key: token }), 403, 'key_not_supported')
  const refused = (await connects(t, pool, token)).refused
  assert.deepEqual([refused.code, refused.fatal], ['key_not_supported', true])
  assert.equal(refused.message, 'user-scoped tokens cannot start pool workers; use a service account key')
  assert.match((await connects(t, pool, pool.poolKey, { personal: true })).refused.message, /^service account keys only start pool workers; add --pool or use a personal credential$/)

  // What is asked for in another way.
  for (const b of [{}, { forUserId: 1, forUserEmail: 'dev@example.test' }, { forUserId: 0 }, { forUserId: '1' }, { forUserEmail: '' }, { forUser: 1 }])
    isError(await mint(b), 400, 'validation_error')
  isError(await mint(''), 400, 'missing_body')
  isError(await mint({ forUserId: 4711 }), 404, 'user_not_found')
  isError(await mint({ forUserEmail: 'nobody@example.test' }), 404, 'user_not_found')
  isError(await mint({ forUserId: 1 }, pool.userKey), 403, 'service_account_required')
  isError(await mint({ forUserId: 1 }, await pool.createKey('service_account', 'narrow', null, 'agents:write')), 403, 'scope_required', /tokens:mint/)

  // It dies with its user and with the key that made it.
  sql(pool, 'UPDATE users SET team_id = 2')
  isError(await pool.http('GET', '/v1/agents', { key: token }), 401, 'unauthorized')
  sql(pool, 'UPDATE users SET team_id = 1')
  assert.equal((await pool.http('GET', '/v1/agents', { key: token })).status, 200)
  await revoke(t, pool, pool.poolKey)
  isError(await pool.http('GET', '/v1/agents', { key: token }), 401, 'unauthorized')
})
