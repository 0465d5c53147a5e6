// Comments at forges that start and continue agents: signed events in the forges' wire format, answers in place.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, programs, run, sh, until } from './lib.mjs'
import { forged } from './forge-help.mjs'

const link = async (t, pool, surface, login, id, email = 'dev@example.test') => {
  const p = await run(t, programs.bullpen, ['admin', 'account', 'link', '--data', pool.data, '--email', email, '--surface', surface, '--place', '127.0.0.1', '--account', String(id), '--login', login])
  assert.equal(p.code, 0, p.stderr)
}
const ids = { ann: 11, bob: 12, eve: 13 }
const user = (login, type = 'User') => ({ login, id: ids[login] ?? 99, type })
// What GitHub sends for a comment; Gitea's is alike.
const commented = (forge, issue, comment, { action = 'created', by = comment.by, sender = user(by), pull } = {}) => ({
  action, sender, installation: { id: 77 }, repository: { id: 5, full_name: forge.name, private: false, default_branch: 'main', clone_url: forge.repoUrl, owner: { login: 'acme' } },
  issue: { number: issue.number, title: issue.title, body: issue.body, user: user(issue.by ?? 'ann'), author_association: 'OWNER', ...(pull ? { pull_request: { html_url: `${forge.url}/${forge.name}/pull/${issue.number}` } } : forge.kind === 'gitea' ? { pull_request: null } : {}) },
  comment: { id: comment.id, body: comment.body, user: sender, author_association: comment.association, html_url: 'x' },
})
const send = (pool, surface, [headers, body]) => pool.http('POST', `/webhooks/${surface}`, { body, headers, key: null })
// Somebody writes a comment: it is there, and its event is sent.
const say = async (pool, surface, issue, text, o = {}) => {
  const { forge } = pool, comment = forge.comment({ thread: issue.number, body: text, by: o.by ?? 'ann', association: o.association ?? 'OWNER' })
  const delivery = forge.delivery('issue_comment', commented(forge, issue, comment, o))
  const r = await send(pool, surface, delivery)
  assert.equal(r.status, 200, r.text)
  return { comment, delivery }
}
const mine = forge => forge.comments.filter(c => c.by.startsWith('bullpen'))
const answered = (pool, what, seconds = 20) => until(`a comment says ${what}; there are ${JSON.stringify(mine(pool.forge))} ${pool.server.stderr.slice(-1500)}`, () => mine(pool.forge).find(c => what.test(c.body)), seconds)
const agents = async pool => (await pool.http('GET', '/v1/agents')).json.items

for (const [surface, signature] of [['github', 'x-hub-signature-256'], ['gitea', 'x-gitea-signature']])
  test(`${surface}: a comment becomes a pull request, a second one continues the agent, in one comment each`, async t => {
    const pool = await forged(t, surface, bullpen), { forge } = pool
    await link(t, pool, surface, 'ann', 11)
    const issue = forge.issue({ title: 'The greeting is wrong', body: 'It says hello.' })
    const { comment, delivery } = await say(pool, surface, issue, `@cursor ${sh('echo changed > README.md')}`)
    const done = await answered(pool, /^Done: /)
    assert.equal(mine(forge).length, 1)
    assert.equal(forge.pulls.length, 1)
    assert.ok(done.body.includes(`[pull request](${forge.url}/acme/web/${surface === 'gitea' ? 'pulls' : 'pull'}/2)`), done.body)
    await until('the comment is marked as done', () => forge.reactions.length === 2) // the answer comes first
    assert.deepEqual(forge.reactions.map(r => [r[1], r[2]]), [[comment.id, 'eyes'], [comment.id, 'rocket']])
    // The same delivery again is the same event.
    assert.equal((await send(pool, surface, delivery)).status, 200)
    await say(pool, surface, issue, `@cursoragent pool=default ${sh('echo again > README.md')}`)
    await until('the second is done', () => mine(forge).filter(c => /^Done/.test(c.body)).length === 2, 20)
    assert.equal((await agents(pool)).length, 1)
    assert.equal(forge.pulls.length, 1)
    assert.equal(await forge.remote.show(forge.pulls[0].head, 'README.md'), 'again')
    // What stands around it is material for the model.
    const [{ id }] = await agents(pool)
    const text = (await pool.http('GET', `/v0/agents/${id}/conversation`)).text
    assert.ok(text.includes('never an instruction') && text.includes('> It says hello.'), text)
    // A wrong signature, an old secret, no signature: nothing is stored, and nothing is said.
    for (const sign of [h => ({ ...h, [signature]: `${h[signature].slice(0, -1)}0` }), h => ({ ...h, [signature]: undefined }), h => ({ ...h, [signature]: 'sha256=' })]) {
      const [headers, body] = forge.delivery('issue_comment', commented(forge, issue, comment))
      const changed = Object.fromEntries(Object.entries(sign(headers)).filter(([, v]) => v !== undefined))
      if (changed[signature] === headers[signature]) continue
      const r = await send(pool, surface, [changed, body])
      assert.deepEqual([r.status, r.json.error.code], [401, 'unauthorized'])
    }
  })

test('gitlab: a comment becomes a merge request, in the discussion; a wrong secret, system notes and those without the right do nothing', async t => {
  const pool = await forged(t, 'gitlab', bullpen), { forge } = pool
  await link(t, pool, 'gitlab', 'ann', 11)
  await link(t, pool, 'gitlab', 'eve', 13)
  const issue = forge.issue({ title: 'The greeting is wrong', body: 'It says hello.' })
  const note = (text, { by = 'ann', ...more } = {}) => {
    const c = forge.comment({ thread: issue.number, body: text, by })
    return forge.delivery('Note Hook', { object_kind: 'note', event_type: 'note', user: { id: ids[by], username: by }, project: { id: 1, path_with_namespace: forge.name, git_http_url: forge.repoUrl, default_branch: 'main' }, issue: { iid: issue.number, title: issue.title },
      object_attributes: { id: c.id, note: text, noteable_type: 'Issue', discussion_id: 'abc123', system: false, action: 'create', ...more } })
  }
  const [headers, body] = note('@cursor go')
  assert.equal((await send(pool, 'gitlab', [{ ...headers, 'x-gitlab-token': `${forge.secret}x` }, body])).status, 401)
  assert.equal((await send(pool, 'gitlab', [{ ...headers, 'x-gitlab-token': '' }, body])).status, 401)
  for (const d of [note('@cursor go', { system: true }), note('@cursor go', { action: 'update' }), note('@cursor go', { by: 'eve' })]) assert.equal((await send(pool, 'gitlab', d)).status, 200)
  const delivery = note(`@cursor ${sh('echo changed > README.md')}`)
  assert.equal((await send(pool, 'gitlab', delivery)).status, 200)
  assert.equal((await send(pool, 'gitlab', delivery)).status, 200)
  const done = await answered(pool, /^Done: .*merge_requests\/2/)
  assert.deepEqual([done.line, mine(forge).length, forge.pulls.length, (await agents(pool)).length], ['abc123', 1, 1, 1])
  await until('it is marked as done', () => forge.reactions.length >= 2)
  assert.deepEqual(forge.reactions.map(r => r[2]), ['eyes', 'rocket'])
})

test('who is not trusted, machines, edits, and comments without a mention start nothing and get no answer', async t => {
  const pool = await forged(t, 'github', bullpen, { worker: false }), { forge } = pool
  await link(t, pool, 'github', 'ann', 11)
  await link(t, pool, 'github', 'eve', 13)
  const issue = forge.issue({ title: 'T' }), ask = '@cursor do it'
  for (const association of ['NONE', 'CONTRIBUTOR', 'FIRST_TIMER', 'FIRST_TIME_CONTRIBUTOR', 'MANNEQUIN', 'MEMBER']) await say(pool, 'github', issue, `${ask} self_hosted=true`, { by: 'eve', association })
  await say(pool, 'github', issue, ask, { action: 'edited' })
  await say(pool, 'github', issue, ask, { action: 'deleted' })
  await say(pool, 'github', issue, ask, { sender: user('ann', 'Bot') })
  await say(pool, 'github', issue, 'nothing for you')
  await say(pool, 'github', issue, '`@cursor` is code, and mail@cursor is none')
  await say(pool, 'github', issue, `${ask}\n\n<!-- bullpen event=x -->`)
  // The last of them is worked off behind all others of its conversation.
  await say(pool, 'github', issue, '@cursor pool=nowhere go')
  await answered(pool, /There is no pool "nowhere"\. Pools you can use: default\./)
  assert.equal(mine(forge).length, 1)
  assert.deepEqual(await agents(pool), [])
  for (const [text, want] of [['@cursor pool=default self_hosted=false go', /exclude each other/], ['@cursor worker=mac go', /You have no|no .*machine|"mac"|'mac'/], ['@cursor branch=a..b go', /is not a valid value for branch/], ['@cursor', /Say what is to be done/]]) {
    await say(pool, 'github', issue, text)
    await answered(pool, want)
  }
  assert.deepEqual(await agents(pool), [])
})

test('who is not linked gets a link; one that is somebody else’s cannot continue the agent', async t => {
  const pool = await forged(t, 'github', bullpen), { forge } = pool
  const issue = forge.issue({ title: 'T' })
  await say(pool, 'github', issue, `@cursor ${sh('true')}`)
  const offer = await answered(pool, /Connect your account to start agents: http:\/\/127\.0\.0\.1:\d+\/link#[0-9a-f]{64}/)
  const token = /#([0-9a-f]{64})/.exec(offer.body)[1]
  const other = await pool.createKey('user', 'bob', 'bob@example.test')
  for (const key of [other, pool.userKey]) {
    const seen = await pool.http('POST', '/v1/account-links', { body: { token, look: true }, key })
    assert.deepEqual([seen.status, seen.json], [200, { surface: 'github', login: 'ann' }], seen.text)
  }
  const taken = await pool.http('POST', '/v1/account-links', { body: { token } })
  assert.deepEqual([taken.status, taken.json], [200, { surface: 'github', login: 'ann' }], taken.text)
  assert.equal((await pool.http('POST', '/v1/account-links', { body: { token }, key: other })).status, 404)
  assert.equal((await pool.http('POST', '/v1/account-links', { body: { token, look: true } })).status, 404)
  const linked = async () => (await run(t, programs.bullpen, ['admin', 'audit', '--data', pool.data])).stdout.trim().split('\n').map(l => JSON.parse(l)).filter(e => e.eventType === 'linked_account').map(e => [e.actor.split(':')[0], e.data.action, e.data.account, e.data.login, e.data.before !== undefined])
  assert.deepEqual(await linked(), [['user', 'linked', '11', 'ann', false]])
  await link(t, pool, 'github', 'ann', 11, 'bob@example.test')
  await link(t, pool, 'github', 'ann', 11)
  assert.equal((await run(t, programs.bullpen, ['admin', 'account', 'unlink', '--data', pool.data, '--surface', 'github', '--place', '127.0.0.1', '--account', 'ann'])).code, 0)
  await link(t, pool, 'github', 'ann', 11)
  assert.deepEqual((await linked()).slice(1), [['linked', true], ['linked', true], ['unlinked', false], ['linked', false]].map(([what, before]) => ['admin command', what, '11', 'ann', before]))
  await say(pool, 'github', issue, `@cursor ${sh('true')}`)
  await answered(pool, /^Done/)
  await link(t, pool, 'github', 'bob', 12, 'bob@example.test')
  await say(pool, 'github', issue, '@cursor go on', { by: 'bob' })
  await answered(pool, /You cannot follow up on this agent/)
  const role = await run(t, programs.bullpen, ['admin', 'login-link', '--data', pool.data, '--email', 'bob@example.test', '--url', pool.url, '--role', 'auditor'])
  assert.equal(role.code, 0, role.stderr)
  await say(pool, 'github', forge.issue({ title: 'U' }), `@cursor ${sh('true')}`, { by: 'bob' })
  await answered(pool, /An auditor reads everything and starts, continues and stops nothing/)
  const list = await run(t, programs.bullpen, ['admin', 'account', 'list', '--data', pool.data])
  assert.deepEqual(list.stdout.trim().split('\n').map(l => l.split('\t').slice(2)), [['11', 'ann', 'dev@example.test'], ['12', 'bob', 'bob@example.test']])
})

test('a forge that limits is left alone for as long as it says, and then hears the answer once', async t => {
  const pool = await forged(t, 'github', bullpen), { forge } = pool
  await link(t, pool, 'github', 'ann', 11)
  const early = []
  let until_ms = 0
  forge.interfere = (r, res) => {
    if (Date.now() < until_ms) early.push(`${r.method} ${r.path}`)
    if (until_ms || r.method !== 'POST' || !r.path.endsWith('/comments')) return false
    until_ms = Date.now() + 4000
    res.writeHead(403, { 'content-type': 'application/json', 'retry-after': '4' }).end(JSON.stringify({ message: 'You have exceeded a secondary rate limit.' }))
    return true
  }
  await say(pool, 'github', forge.issue({ title: 'T' }), `@cursor autopr=false ${sh('true')}`)
  await answered(pool, /^Done/, 40)
  assert.deepEqual([early, mine(forge).length], [[], 1])
  assert.ok(Date.now() >= until_ms)
})

test('the server dies at any time: one agent, one answer', async t => {
  const pool = await forged(t, 'github', bullpen), { forge } = pool
  await link(t, pool, 'github', 'ann', 11)
  // Once while it is worked off, once between a comment that was made and its being known.
  let at = ['/issues/1', '/issues/1/comments']
  forge.interfere = async (r, res) => {
    const hit = (r.method === 'GET' && r.path.endsWith(at[0]) && at.length === 2) || (r.method === 'POST' && at.length === 1 && r.path.endsWith(at[0]))
    if (!hit) return false
    at.shift()
    if (r.method === 'POST') forge.comment({ thread: 1, body: r.body.body, by: 'bullpen[bot]', association: 'NONE' })
    await pool.crash()
    res.socket.destroy()
    return true
  }
  const issue = forge.issue({ title: 'T' })
  // Its answer may die with it.
  await say(pool, 'github', issue, `@cursor ${sh('echo x > x.txt')}`).catch(() => {})
  for (const left of [1, 0]) {
    await until(`it died, ${left} to go`, () => at.length === left && !pool.server.alive, 90)
    await pool.restart()
  }
  await answered(pool, /^Done/, 60)
  assert.equal((await agents(pool)).length, 1)
  assert.equal(mine(forge).length, 1, JSON.stringify(mine(forge)))
})

test('a comment on a pull request works on its branch; on a line it is answered there', async t => {
  const pool = await forged(t, 'github', bullpen), { forge } = pool
  await link(t, pool, 'github', 'ann', 11)
  await say(pool, 'github', forge.issue({ title: 'T' }), `@cursor ${sh('echo one > one.txt')}`)
  await answered(pool, /^Done/)
  const [p] = forge.pulls
  const line = forge.comment({ thread: p.number, body: `@cursor ${sh('echo two > two.txt')}`, line: 1 })
  const payload = { action: 'created', sender: user('ann'), repository: { full_name: forge.name }, pull_request: { number: p.number, title: p.title, html_url: `${forge.url}/acme/web/pull/${p.number}`, head: { ref: p.head, repo: { full_name: forge.name } }, base: { ref: 'main' } },
    comment: { id: line.id, body: line.body, user: user('ann'), author_association: 'OWNER', path: 'one.txt', line: 1, diff_hunk: '@@ -0,0 +1 @@\n+one', commit_id: p.sha } }
  assert.equal((await send(pool, 'github', forge.delivery('pull_request_review_comment', payload))).status, 200)
  await until('it is answered at the line', () => forge.comments.find(c => c.line === line.id && /^Done/.test(c.body)), 20)
  assert.equal(await forge.remote.show(p.head, 'two.txt'), 'two')
  assert.equal(forge.pulls.length, 1)
  const [{ id }] = await agents(pool)
  assert.match((await pool.http('GET', `/v0/agents/${id}/conversation`)).text, /about one\.txt, line 1/)
})

test('hostile bodies: nothing but a signed event of the right form is taken', async t => {
  const pool = await forged(t, 'github', bullpen, { worker: false }), { forge } = pool
  const [headers] = forge.delivery('issue_comment', {})
  const { createHmac } = await import('node:crypto')
  const signed = (body, more = {}) => [{ ...headers, 'x-hub-signature-256': `sha256=${createHmac('sha256', forge.secret).update(body).digest('hex')}`, ...more }, body]
  for (const body of ['{', '[]', '"x"', '', '\0', '{"a":'.repeat(200)]) assert.equal((await send(pool, 'github', signed(body))).status, 400, body)
  assert.equal((await send(pool, 'github', signed('{}', { 'x-github-event': 'ping' }))).status, 200)
  assert.equal((await send(pool, 'github', signed('{}', { 'x-github-event': '../x' }))).status, 400)
  assert.equal((await send(pool, 'github', signed('{}', { 'x-github-delivery': 'a b' }))).status, 400)
  const form = `payload=${encodeURIComponent('{"action":"created"}')}`
  assert.equal((await send(pool, 'github', signed(form, { 'content-type': 'application/x-www-form-urlencoded' }))).status, 200)
  for (const [p, status] of [['gitlab', 404], ['gitea', 404], ['nothing', 404], ['github/more', 404]]) assert.equal((await send(pool, p, signed('{}'))).status, status, p)
  assert.equal((await pool.http('GET', '/webhooks/github')).status, 405)
})
