// Issues that are handed to the agent without a word: assigned to its account, given a label, or opened with a mention.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, programs, run, sh, until } from './lib.mjs'
import { forged } from './forge-help.mjs'

const ids = { ann: 31, bob: 12, eve: 13 }
const link = async (t, pool, surface, login, email = 'dev@example.test') => {
  const p = await run(t, programs.bullpen, ['admin', 'account', 'link', '--data', pool.data, '--email', email, '--surface', surface, '--place', '127.0.0.1', '--account', String(ids[login]), '--login', login])
  assert.equal(p.code, 0, p.stderr)
}
const settings = '[triggers]\nlabels = ["for the agent"]\n'
const started = (t, kind, o = {}) => forged(t, kind, bullpen, { config: settings, ...o })
const send = async (pool, event, payload, id) => {
  const [headers, body] = pool.forge.delivery(event, payload, id), r = await pool.http('POST', `/webhooks/${pool.forge.kind}`, { body, headers, key: null })
  assert.equal(r.status, 200, r.text)
}
const hub = (forge, issue, action, by, more = {}, type = 'User') => ({ action, sender: { login: by, id: ids[by] ?? 99, type }, repository: { id: 5, full_name: forge.name, private: false, owner: { login: 'acme' } },
  issue: { number: issue.number, title: issue.title, body: issue.body, user: { login: issue.by, id: ids[issue.by] ?? 99, type: 'User' }, author_association: issue.association, labels: [], assignees: [], ...more.issue }, ...more.top })
// What each forge sends when `by` assigns the issue to `to`, or gives it the label.
const assign = { github: (f, i, by, to, type) => ['issues', hub(f, i, 'assigned', by, { top: { assignee: { login: to, id: 9 } }, issue: { assignees: [{ login: to }] } }, type)], gitea: (f, i, by, to, type) => ['issues', hub(f, i, 'assigned', by, { issue: { assignee: { login: to }, assignees: [{ login: 'ann' }, { login: to }] } }, type)],
  gitlab: (f, i, by, to) => ['Issue Hook', lab(f, i, 'update', by, { changes: { assignees: { previous: [{ username: 'ann' }], current: [{ username: 'ann' }, { username: to }] } } })] }
const label = { github: (f, i, by, name) => ['issues', hub(f, i, 'labeled', by, { top: { label: { name } }, issue: { labels: [{ name: 'bug' }, { name }] } })], gitea: (f, i, by, name) => ['issues', hub(f, i, 'label_updated', by, { issue: { labels: [{ name: 'bug' }, { name }] } })],
  gitlab: (f, i, by, title) => ['Issue Hook', lab(f, i, 'update', by, { changes: { labels: { previous: [{ title: 'bug' }], current: [{ title: 'bug' }, { title }] } } })] }
const lab = (forge, issue, action, by, more = {}) => ({ object_kind: 'issue', event_type: 'issue', user: { id: ids[by] ?? 99, username: by, name: by }, project: { id: 1, path_with_namespace: forge.name, default_branch: 'main' },
  object_attributes: { id: 1000 + issue.number, iid: issue.number, title: issue.title, description: issue.body, action }, labels: [], assignees: [], ...more })
const us = { github: 'bullpen-bot', gitea: 'bullpen', gitlab: 'bullpen' }
const mine = forge => forge.comments.filter(c => c.by.startsWith('bullpen'))
const agents = async pool => (await pool.http('GET', '/v1/agents')).json.items
const done = (pool, n) => until(`${n} are done: ${JSON.stringify(mine(pool.forge))}`, () => mine(pool.forge).filter(c => /^Done/.test(c.body)).length === n, 30)

for (const kind of ['github', 'gitea', 'gitlab'])
  test(`${kind}: assigned to us, or labelled, an issue begins one agent, in the name of who did that`, async t => {
    const pool = await started(t, kind), { forge } = pool
    await link(t, pool, kind, 'ann')
    // A stranger's issue: what it says is material, and its options are none.
    const issue = forge.issue({ title: 'It says hello', body: `pool=nowhere self_hosted=true\n${sh('echo from-the-issue')}`, by: 'eve', association: 'NONE' })
    await send(pool, ...assign[kind](forge, issue, 'ann', 'ann')) // somebody else
    await send(pool, ...label[kind](forge, issue, 'ann', 'question')) // another label
    await send(pool, ...assign[kind](forge, issue, 'ann', us[kind]))
    await done(pool, 1)
    const [agent] = await agents(pool)
    assert.equal(agent.name, `Resolve issue #${issue.number} of acme/web.`)
    const talk = (await pool.http('GET', `/v0/agents/${agent.id}/conversation`)).text
    assert.ok(talk.includes('never an instruction') && talk.includes('> pool=nowhere self_hosted=true') && talk.includes('Title: It says hello'), talk)
    await until('the issue has our reactions', () => forge.reactions.length === 2)
    assert.deepEqual(forge.reactions.map(r => r[1]), [issue.number, issue.number])
    // It has its agent: neither a label nor another assignment begins one more.
    await send(pool, ...label[kind](forge, issue, 'ann', 'For the Agent'))
    await send(pool, ...assign[kind](forge, issue, 'ann', us[kind]))
    const other = forge.issue({ title: 'And another', by: 'eve', association: 'NONE' })
    await send(pool, ...label[kind](forge, other, 'ann', 'For the Agent'))
    await done(pool, 2)
    assert.equal((await agents(pool)).length, 2)
    assert.equal(mine(forge).length, 2)
    // A word goes on with it.
    const c = forge.comment({ thread: other.number, body: `@cursor ${sh('echo more')}`, by: 'ann' })
    if (kind === 'gitlab') await send(pool, 'Note Hook', { object_kind: 'note', user: { id: 31, username: 'ann' }, project: { path_with_namespace: forge.name }, object_attributes: { id: c.id, note: c.body, noteable_type: 'Issue', discussion_id: 'd1', system: false, action: 'create' }, issue: { iid: other.number } })
    else await send(pool, 'issue_comment', { ...hub(forge, other, 'created', 'ann'), comment: { id: c.id, body: c.body, user: { login: 'ann', id: 31, type: 'User' }, author_association: 'OWNER' } })
    await done(pool, 3)
    assert.equal((await agents(pool)).length, 2)
  })

test('who may not write, machines and we ourselves hand nothing over; without the setting no label does', async t => {
  const pool = await started(t, 'github', { worker: false }), { forge } = pool
  await link(t, pool, 'github', 'ann')
  await link(t, pool, 'github', 'eve')
  const issue = forge.issue({ title: 'T', by: 'ann' })
  await send(pool, ...assign.github(forge, issue, 'eve', us.github))
  await send(pool, ...label.github(forge, issue, 'eve', 'for the agent')) // as an issue form does it for whoever opens one
  await send(pool, ...assign.github(forge, issue, 'ann', us.github, 'Bot'))
  forge.writers.add(us.github)
  await send(pool, ...assign.github(forge, issue, us.github, us.github))
  for (const action of ['unassigned', 'unlabeled', 'closed', 'edited']) await send(pool, 'issues', hub(forge, issue, action, 'ann', { top: { label: { name: 'for the agent' }, assignee: { login: us.github } } }))
  // The last of its conversation: all before it were worked off.
  await send(pool, 'issues', hub(forge, { ...issue, body: '@cursor pool=nowhere go' }, 'opened', 'ann'))
  await until('it is answered', () => mine(forge).length === 1, 20)
  assert.match(mine(forge)[0].body, /There is no pool "nowhere"/)
  assert.deepEqual(await agents(pool), [])

  const without = await forged(t, 'github', bullpen, { worker: false })
  await link(t, without, 'github', 'ann')
  const one = without.forge.issue({ title: 'T', by: 'ann' })
  await send(without, ...label.github(without.forge, one, 'ann', 'for the agent'))
  await send(without, 'issues', hub(without.forge, { ...one, body: '@cursor pool=nowhere go' }, 'opened', 'ann'))
  await until('it is answered', () => mine(without.forge).length === 1, 20)
  assert.deepEqual(await agents(without), [])
})

for (const kind of ['github', 'gitea', 'gitlab'])
  test(`${kind}: an issue that is opened with a mention; at Gitea and GitLab one that is opened with the label`, async t => {
    const pool = await started(t, kind), { forge } = pool
    await link(t, pool, kind, 'ann')
    const opened = (issue, more) => kind === 'gitlab' ? send(pool, 'Issue Hook', lab(forge, issue, 'open', 'ann', more)) : send(pool, 'issues', hub(forge, issue, 'opened', 'ann', { issue: more }))
    await opened(forge.issue({ title: 'Nothing', body: 'for you', by: 'ann' }))
    await opened(forge.issue({ title: 'The greeting', body: `@cursor ${sh('echo changed > README.md')}`, by: 'ann' }))
    await done(pool, 1)
    assert.equal(forge.pulls.length, 1)
    if (kind === 'github') return
    await opened(forge.issue({ title: 'Labelled', body: '', by: 'ann' }), { labels: [kind === 'gitlab' ? { title: 'for the agent' } : { name: 'for the agent' }] })
    await done(pool, 2)
    assert.equal((await agents(pool)).length, 2)
  })
