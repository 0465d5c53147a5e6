// Artifacts that pull requests show at addresses without a key: only where the policy says so, with what headers, and their end.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, programs, run as program, sh, until } from './lib.mjs'
import { isError } from './api-help.mjs'
import { forged } from './forge-help.mjs'

// One pixel.
const PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
const leaves = 'mkdir -p artifacts/shots; echo $RANDOM >> README.md'
const picture = name => `echo ${PNG} | base64 -d > artifacts/${name}`
const want = (pool, prompt) => pool.run(prompt, { repo: pool.forge.repoUrl, extra: { autoCreatePR: true } })
const policy = async (t, pool, ...args) => {
  const p = await program(t, programs.bullpen, ['admin', 'policy', '--data', pool.data, ...args])
  assert.equal(p.code, 0, p.stderr)
  return p.stdout
}
const audited = async (t, pool) => (await program(t, programs.bullpen, ['admin', 'audit', '--data', pool.data])).stdout.trim().split('\n').map(l => JSON.parse(l))
  .filter(e => e.eventType === 'artifact_shared_public').map(e => [e.actor, e.data.action, e.data.path ?? e.data.count])
const addresses = body => [...body.matchAll(/\((http[^)]*\/public\/artifacts\/[0-9a-f]{64})\)/g)].map(m => m[1])
const fetched = async (url, options) => { const res = await fetch(url, options); return { res, bytes: Buffer.from(await res.arrayBuffer()) } }
const isGone = async url => { const { res, bytes } = await fetched(url); assert.equal(res.status, 404, bytes.toString()); return bytes.toString() }
const header = (res, ...names) => names.map(n => res.headers.get(n))

test('switched off, which is how it comes: artifacts are named with a link to the agent, and nothing is public', async t => {
  const pool = await forged(t, 'github', bullpen)
  await (await want(pool, sh(`${leaves}; ${picture('a.png')}`))).end()
  const [p] = pool.forge.pulls
  assert.match(p.body, /\nArtifacts: \[`artifacts\/a\.png`\]\(http:\/\/127\.0\.0\.1:\d+\/agents\/bc-[^)]*\)\n/)
  assert.deepEqual([addresses(p.body), await audited(t, pool)], [[], []])
})

for (const kind of ['github', 'gitlab', 'gitea'])
  test(`${kind}: pictures are shown, other files linked; a follow-up that changes one says its new address`, async t => {
    const pool = await forged(t, kind, bullpen), { forge } = pool
    assert.match(await policy(t, pool, '--public-artifacts', 'on'), /\npublic-artifacts: on\n/)
    const run = await want(pool, sh(`${leaves}; ${picture('shots/a.png')}; ${picture('same.png')}; echo '<script>alert(1)</script>' > artifacts/evil.png; echo hello > artifacts/notes.txt; echo x > 'artifacts/x](y)@ann.txt'`))
    assert.equal((await run.end()).status, 'FINISHED')
    const { body } = forge.pulls[0], [link, odd, evil, same, shot] = addresses(body)
    assert.equal(addresses(body).length, 5, body)
    assert.ok(body.includes(`[\`artifacts/notes.txt\`](${link})`) && body.includes(`[\`artifacts/x__y__ann.txt\`](${odd})`) && body.includes(`\n![artifacts/shots/a.png](${shot})\n`), body)
    assert.ok(!body.includes('bullpen-artifact:'))

    const png = await fetched(shot)
    assert.equal(png.bytes.toString('base64'), PNG)
    assert.deepEqual([png.res.status, ...header(png.res, 'content-type', 'content-disposition', 'x-content-type-options', 'content-security-policy', 'cache-control')], [200, 'image/png', 'inline', 'nosniff', 'sandbox; default-src \'none\'', 'private, no-store'])
    const text = await fetched(link)
    assert.equal(text.bytes.toString(), 'hello\n')
    assert.deepEqual(header(text.res, 'content-type', 'x-content-type-options'), ['application/octet-stream', 'nosniff'])
    assert.match(text.res.headers.get('content-disposition'), /^attachment; filename="notes\.txt"/)
    // What is only called a picture is none.
    const lie = await fetched(evil)
    assert.equal(lie.res.headers.get('content-type'), 'application/octet-stream')
    assert.match(lie.res.headers.get('content-disposition'), /^attachment/)
    assert.equal((await fetched(shot, { method: 'HEAD' })).res.headers.get('content-length'), `${png.bytes.length}`)
    assert.deepEqual((await pool.http('GET', `/v1/agents/${run.agentId}/public-artifacts`)).json.items.map(i => i.path), ['artifacts/evil.png', 'artifacts/notes.txt', 'artifacts/same.png', 'artifacts/shots/a.png', 'artifacts/x](y)@ann.txt'])
    assert.deepEqual((await audited(t, pool)).map(([, ...rest]) => rest.join(' ')), ['evil.png', 'notes.txt', 'same.png', 'shots/a.png', 'x](y)@ann.txt'].map(n => `created artifacts/${n}`))
    assert.match((await audited(t, pool))[0][0], /^user:\d+$/)
    // The store has no address in it.
    for (const f of fs.readdirSync(pool.data).filter(n => n.startsWith('bullpen.db')))
      for (const url of addresses(body)) assert.ok(!fs.readFileSync(path.join(pool.data, f)).includes(url.slice(-64)), f)

    await (await run.followUp(sh(`${leaves}; echo more >> artifacts/notes.txt; printf x >> artifacts/shots/a.png`))).end()
    const later = forge.pulls[0].body, [newLink, , , stays, newShot] = addresses(later)
    assert.equal(addresses(later).length, 5, later)
    assert.ok(stays === same && newLink !== link && newShot !== shot)
    assert.equal((await fetched(newLink)).bytes.toString(), 'hello\nmore\n')
    assert.equal((await fetched(stays)).res.status, 200)
    await isGone(link)
    await isGone(shot)
  })

test('revoked for one path, then for all, by the policy, and with the agent; each is written down', async t => {
  const pool = await forged(t, 'github', bullpen), { forge } = pool
  await policy(t, pool, '--public-artifacts', 'on')
  const run = await want(pool, sh(`${leaves}; ${picture('a.png')}; ${picture('b.png')}; ${picture('c.png')}`))
  await run.end()
  const [a, b, c] = addresses(forge.pulls[0].body), at = `/v1/agents/${run.agentId}/public-artifacts`
  assert.deepEqual((await pool.http('DELETE', `${at}?path=artifacts/a.png`)).json, { revoked: 1 })
  assert.deepEqual((await pool.http('DELETE', `${at}?path=artifacts/a.png`)).json, { revoked: 0 })
  const gone = await isGone(a)
  assert.equal(gone.replace(/"requestId":"[^"]*"/, ''), (await isGone(`${pool.url}/public/artifacts/${'0'.repeat(64)}`)).replace(/"requestId":"[^"]*"/, ''), 'as one that never was')
  await isGone(`${pool.url}/public/artifacts/x`)
  assert.equal((await fetched(b)).res.status, 200)
  // It is not made anew, although the file is another one now.
  await (await run.followUp(sh(`${leaves}; printf x >> artifacts/a.png`))).end()
  assert.deepEqual(addresses(forge.pulls[0].body), [b, c])
  assert.match(forge.pulls[0].body, /\[`artifacts\/a\.png`\]\(http[^)]*\/agents\/bc-/)
  // The policy closes all of them, and opens them again.
  await policy(t, pool, '--public-artifacts', 'off')
  await isGone(b)
  await policy(t, pool, '--public-artifacts', 'on')
  assert.equal((await fetched(b)).res.status, 200)
  const other = await pool.createKey('user', 'eve', 'eve@example.test')
  isError(await pool.http('DELETE', at, { key: other }), 404, 'agent_not_found')
  isError(await pool.http('GET', at, { key: other }), 404, 'agent_not_found')
  assert.deepEqual((await pool.http('DELETE', `${at}?path=artifacts/b.png`)).json, { revoked: 1 })
  assert.deepEqual((await pool.http('GET', at)).json.items.map(i => i.path), ['artifacts/c.png'])
  await isGone(b)
  await pool.http('DELETE', `/v1/agents/${run.agentId}`)
  await isGone(c)
  assert.deepEqual((await audited(t, pool)).map(([, ...rest]) => rest.join(' ')), ['created artifacts/a.png', 'created artifacts/b.png', 'created artifacts/c.png', 'revoked artifacts/a.png', 'revoked artifacts/b.png', 'revoked 1'])
})

test('the address is counted like other reads; a forge that was away gets the addresses later, also after a restart', async t => {
  const pool = await forged(t, 'github', bullpen, { config: '[limits]\nreads_per_minute = 3\nmutations_per_minute = 0\n' }), { forge } = pool
  await policy(t, pool, '--public-artifacts', 'on')
  let tell
  const asked = new Promise(resolve => { tell = resolve })
  let away = true
  forge.interfere = (r, res) => {
    if (!away || r.method !== 'POST' || !r.path.endsWith('/pulls')) return false
    tell()
    res.socket.destroy()
    return true
  }
  await want(pool, sh(`${leaves}; ${picture('a.png')}`))
  await asked
  await pool.crash()
  away = false
  await pool.restart()
  await until('it is open', () => forge.pulls.length === 1, 60)
  const [url] = addresses(forge.pulls[0].body)
  assert.ok(url?.startsWith(pool.url), forge.pulls[0].body)
  const answers = []
  for (let i = 0; i < 5; i++) answers.push((await fetched(url)).res)
  assert.deepEqual([answers[0].status, answers.at(-1).status], [200, 429])
  assert.ok(Number(answers.at(-1).headers.get('retry-after')) > 0)
})

test('more than fits: twenty are shown, a large picture is a link, and the rest is with the agent', async t => {
  const pool = await forged(t, 'github', bullpen), { forge } = pool
  await policy(t, pool, '--public-artifacts', 'on')
  await (await want(pool, sh(`${leaves}; for i in $(seq 10 31); do ${picture('p$i.png')}; done; head -c 5500000 /dev/zero > artifacts/large.png`))).end()
  const { body } = forge.pulls[0]
  assert.equal(addresses(body).length, 20, body)
  assert.match(body, /\nArtifacts: \[`artifacts\/large\.png`\]\(http[^)]*\/public\/artifacts\/[0-9a-f]{64}\), \[more\]\(http[^)]*\/agents\/bc-[^)]*\)\n/)
  assert.equal([...body.matchAll(/\n!\[artifacts\/p\d\d\.png\]/g)].length, 19)
  assert.equal((await audited(t, pool)).length, 20, 'what is not shown is not public')
})
