// Slack: what holds where a request says nothing (repositories, machines, pools), whether results are said, and the menu.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { git, Proc, programs, run, sh, tool, until } from './lib.mjs'
import { agents, interact, link, post, say, seen, slacked, talk, told, whispered } from './slack-help.mjs'

// Two people: Ann, who administers the team, and Bob.
async function people(t, how) {
  const pool = await slacked(t, { worker: false, ...how }), { slack } = pool
  pool.bobKey = await pool.createKey('user', 'bob', 'bob@example.test')
  await link(pool, 'U0BOB', 'bob@example.test')
  const admin = await run(t, programs.bullpen, ['admin', 'login-link', '--data', pool.data, '--email', 'dev@example.test', '--url', pool.url, '--role', 'admin'])
  assert.equal(admin.code, 0, admin.stderr)
  // A worker of the default pool whose repository has another name.
  pool.serve = async name => {
    const url = pool.forge.repoUrl.replace('acme/web', name)
    await pool.worker({ remote: { clone: async to => { await git(pool.dir, 'clone', '-q', pool.forge.repoUrl, to); await git(to, 'remote', 'set-url', 'origin', url); return to } } })
  }
  pool.machineOf = async name => {
    const work = path.join(pool.dir, `work-${name}`), [data, home] = ['data', 'home'].map(d => path.join(pool.dir, `${d}-of-${name}`))
    await git(pool.dir, 'clone', '-q', pool.forge.repoUrl, work)
    for (const d of [data, home]) fs.mkdirSync(d)
    const w = new Proc(t, programs.agent, ['worker', 'start', '--name', name, '--worker-dir', work, '--endpoint', pool.url, '--data-dir', data], { env: { CURSOR_API_KEY: pool.userKey, CURSOR_WORKER_SESSION_SHARE: pool.dir, HOME: home } })
    await w.says(/^Worker is now running$/m)
  }
  pool.ask = async (text, want, o = {}) => {
    slack.ephemerals.length = 0
    await say(pool, text, o)
    return whispered(pool, want, o.by)
  }
  // The agent that a message makes, and what it is told first.
  pool.made = async (text, o) => {
    const n = slack.mine().length
    await say(pool, `${text} ${sh('true')}`, o)
    const m = await seen(pool, `${text} is taken`, () => slack.mine()[n])
    const [, id] = /agents\/(bc-[^|]+)\|/.exec(m.versions[0])
    const key = o?.by === 'U0BOB' ? pool.bobKey : pool.userKey
    return { first: m.versions[0], ...(await pool.http('GET', `/v1/agents/${id}`, { key })).json }
  }
  pool.policy = async (allow, require) => { const p = await run(t, programs.bullpen, ['admin', 'policy', '--data', pool.data, '--allow', allow, '--require', require]); assert.equal(p.code, 0, p.stderr) }
  pool.audited = async what => ((await run(t, programs.bullpen, ['admin', 'audit', '--data', pool.data])).stdout.match(new RegExp(what, 'g')) ?? []).length
  return pool
}

test('the repository: what is said, what the asker used here last, the channel’s, her own, the workspace’s; and who may set them', async t => {
  const pool = await people(t), { ask } = pool
  for (const name of ['acme/web', 'acme/api', 'acme/docs', 'acme/tools']) await pool.serve(name)
  const repo = async (text, o) => (await pool.made(text, o)).repos[0].url.split('/').slice(-2).join('/').replace('.git', '')
  const bob = channel => ({ by: 'U0BOB', channel })
  await ask('go on', /^I could not tell which repository you mean/)
  await ask('repo', /^Default repository of the workspace: none\. Of this channel: none\. Yours: none\.$/)
  await ask('repo set acme/docs', /^Only an administrator of the team changes the default repository of the workspace\. With `channel`/, bob('C0A'))
  await ask('repo set acme/docs', /^Done\. Default repository of the workspace: acme\/docs\. Of this channel: none\. Yours: none\.$/)
  assert.equal(await repo('go', bob('C0A')), 'acme/docs')
  await ask('repo set <http://github.com/acme/api|github.com/acme/api> me', /Yours: github\.com\/acme\/api\.$/, bob('C0B'))
  await ask('repo set acme/api me', /Yours: acme\/api\.$/, bob('C0B'))
  assert.equal(await repo('go', bob('C0B')), 'acme/api')
  await ask('repo set acme/tools channel', /Of this channel: acme\/tools\. Yours: acme\/api\.$/, bob('C0C'))
  assert.equal(await repo('go', bob('C0C')), 'acme/tools')
  // What she did in this channel goes before what it says, and that is said to her. It is nobody else's.
  assert.equal(await repo('repo=acme/web go', bob('C0C')), 'acme/web')
  await ask('settings', /workspace: none\. Of this channel: none\.\nDefault repository of the workspace: acme\/docs\. Of this channel: acme\/tools\. Yours: acme\/api\. You worked here last in acme\/web, which goes before them\.\nYour default machine: none\.\nSummaries in the workspace: on\./, bob('C0C'))
  const recent = await pool.made('go', bob('C0C'))
  assert.match(recent.repos[0].url, /acme\/web(\.git)?$/)
  assert.match(recent.first, /I work in acme\/web, as you did here last; `repo=owner\/name` says another one\./)
  assert.equal(await repo('go', { channel: 'C0C' }), 'acme/tools')
  assert.equal(await repo('in acme/docs, go', bob('C0C')), 'acme/docs', 'words that choose')
  await ask('repo unset channel', /Of this channel: none/, bob('C0C'))
  await ask('repo unset me', /Yours: none/, bob('C0D'))
  assert.equal(await repo('go', bob('C0D')), 'acme/docs')
  await ask('repo set acme/web channel', /^What is set for a channel is for public ones, and this is none\.$/, { type: 'message', channel: 'D0ANN', mention: false })
  pool.slack.closed = { C0PRIV: { is_private: true } }
  for (const text of ['repo set acme/web channel', 'pool set default channel', 'summaries off channel', 'repo unset channel']) await ask(text, /^What is set for a channel is for public ones/, { channel: 'C0PRIV' })
  await ask('repo unset', /^Only an administrator/, bob('C0E'))
  await ask('repo unset', /workspace: none/)
  await ask('go on', /^I could not tell which repository you mean/, bob('C0E'))
  // What only looks like a command is a prompt.
  for (const text of ['repo set up the CI', 'repo set acme/web please', 'machine set up the CI', 'summaries off and on']) assert.equal(await repo(`repo=acme/web ${text}`, { channel: 'C0F' }), 'acme/web', text)
  assert.equal(await pool.audited('slack_repo_changed'), 7)
})

test('where it runs: what is said, the asker’s own machine, the channel’s pool, the workspace’s, what the policy requires', async t => {
  const pool = await people(t), { ask } = pool
  for (const name of ['gpu', 'mac', 'default']) await pool.workerOf(name)
  await pool.serve('acme/api')
  await pool.machineOf('box')
  const where = async (text, o) => { const { env } = await pool.made(`repo=acme/web ${text}`, o); return env.type === 'cloud' ? 'cloud' : `${env.type} ${env.name}` }
  const inMac = { channel: 'C0MAC' }
  assert.equal(await where('go'), 'pool default')
  await ask('pool set gpu', /^Done/)
  await ask('pool set mac channel', /^Done/, inMac)
  assert.deepEqual([await where('go'), await where('go', inMac)], ['pool gpu', 'pool mac'])
  await ask('machine', /^Your default machine: none\.$/)
  await ask('machine set nowhere', /^It stays as it is: you have no machine 'nowhere'/)
  await ask('machine set box', /^It stays as it is: you have no machine 'box'/, { by: 'U0BOB' })
  await ask('machine set "box"', /^Done\. Your default machine: box\. It goes before the default pools\.$/)
  assert.deepEqual([await where('go'), await where('go', inMac), await where('pool=gpu go', inMac), await where('self_hosted=true go', inMac)], ['machine box', 'machine box', 'pool gpu', 'pool mac'])
  assert.equal(await where('go', { by: 'U0BOB', ...inMac }), 'pool mac', 'it is hers alone')
  // Never another one instead.
  const n = pool.slack.mine().length
  await ask('repo=acme/api go', /machine 'box' does not serve acme\/api/)
  assert.equal(pool.slack.mine().length, n)
  await pool.policy('on', 'off')
  assert.deepEqual([await where('go'), await where('self_hosted=false go')], ['machine box', 'cloud'])
  await pool.policy('off', 'off')
  assert.deepEqual([await where('go'), await where('go', inMac)], ['cloud', 'cloud'], 'defaults count while they are allowed')
  await pool.policy('on', 'off')
  await ask('machine unset', /^Done\. Your default machine: none\.$/)
  assert.deepEqual([await where('go'), await where('go', inMac)], ['pool gpu', 'pool mac'])
  assert.equal(await pool.audited('slack_machine_changed'), 2)
})

test('results are left out of the answers where that is said; a question is one', async t => {
  const pool = await people(t, { worker: true }), { slack, ask } = pool
  const ended = async (prompt, o, line = /^Done/) => {
    const n = slack.mine().length
    await say(pool, `repo=acme/web ${prompt}`, o)
    return seen(pool, 'it has ended', () => slack.mine()[n]?.text.match(line) && slack.mine()[n])
  }
  const says = async (o, want) => { const m = await ended(sh('echo the-result'), o); assert.equal(/\n\n/.test(m.text), want, m.text); assert.equal(m.blocks.length, want ? 3 : 2) }
  const shared = { channel: 'C0EXT', envelope: { is_ext_shared_channel: true } }
  await says({}, true)
  await ask('summaries off', /^Only an administrator of the team changes the setting for summaries/, { by: 'U0BOB' })
  await ask('summaries OFF channel', /^Done\. Summaries in the workspace: on\. In this channel: off\. In shared channels: off\.$/, { by: 'U0BOB', channel: 'C0QUIET' })
  await says({ channel: 'C0QUIET' }, false)
  await says({ channel: 'C0LOUD' }, true)
  await ask('summaries off', /workspace: off/)
  await says({ channel: 'C0LOUD' }, false)
  await ask('summaries on channel', /In this channel: on/, { channel: 'C0LOUD' })
  await says({ channel: 'C0LOUD' }, true)
  await ask('summaries on', /workspace: on/)
  await says(shared, false)
  await ask('summaries on shared', /In shared channels: on\.$/)
  await says(shared, true)
  await ask('summaries unset channel', /as in the workspace/, { channel: 'C0QUIET' })
  await says({ channel: 'C0QUIET' }, true)
  const q = await ended(tool('ask_question', { question: 'Red or blue?' }), {}, /^I have a question/)
  assert.match(q.text, /Red or blue\?/)
  assert.equal(await pool.audited('slack_summaries_changed'), 6)
})

test('the menu: the request’s id, and the same prompt in another repository', async t => {
  const pool = await people(t), { slack } = pool
  await pool.serve('acme/api')
  await pool.workerOf()
  slack.messages.push({ channel: 'C0GEN', thread_ts: undefined, ts: slack.ts(), user: 'U0BOB', text: 'The greeting is wrong since Tuesday' })
  const root = slack.messages.at(-1).ts
  await say(pool, `repo=acme/web ${sh('echo from-the-prompt')}`, { thread: root })
  const done = await told(pool, /^Done/), [first] = await agents(pool)
  const more = (message, value, o) => { const c = slack.click(message, 'bullpen_more', o); c.actions[0] = { type: 'overflow', action_id: 'bullpen_more', selected_option: { text: { type: 'plain_text', text: 'x' }, value } }; return c }
  const choices = done.blocks.find(b => b.type === 'actions').elements.find(e => e.action_id === 'bullpen_more')
  assert.deepEqual(choices.options.map(o => o.text.text), ['Switch repository', 'View request id'])
  assert.ok(choices.options.every(o => o.value.length <= 75))
  const [elsewhere, id] = choices.options.map(o => o.value)
  assert.equal((await interact(pool, more(done, id))).status, 200)
  const shown = await whispered(pool, /^Request \S+, run run-\S+, agent bc-/)
  assert.ok(shown.text.includes(first.id) && shown.text.includes(first.latestRunId), shown.text)
  // The form knows the repositories of the person who asks for it.
  assert.equal((await interact(pool, more(done, elsewhere, { by: 'U0BOB' }))).status, 200)
  const opened = await until('a form is opened', () => slack.views[0]), blocks = opened.view.blocks
  assert.deepEqual([opened.view.callback_id, blocks.map(b => b.block_id)], ['bullpen_switch', ['repo', 'other']])
  const options = blocks[0].element.options
  assert.deepEqual(options.map(o => o.text.text).sort(), ['acme/api', 'acme/web'])
  const submit = (values, by = 'U0BOB') => ({ ...slack.submit(opened, '', { by }), view: { ...opened.view, id: 'V1', state: { values } } })
  const choose = value => ({ repo: { choice: { type: 'static_select', selected_option: value && { value } } }, other: { text: { type: 'plain_text_input', value: null } } })
  assert.equal((await interact(pool, submit(choose(options.find(o => o.text.text === 'acme/api').value)))).status, 200)
  const again = await seen(pool, 'it begins anew, in the same thread', () => slack.mine()[1])
  assert.equal(again.thread_ts, root)
  const [, second] = /agents\/(bc-[^|]+)\|/.exec(again.versions[0]), made = (await pool.http('GET', `/v1/agents/${second}`, { key: pool.bobKey })).json
  assert.match(made.repos[0].url, /acme\/api\.git$/)
  const prompt = (await pool.http('GET', `/v0/agents/${second}/conversation`, { key: pool.bobKey })).text
  assert.ok(prompt.includes('echo from-the-prompt') && prompt.includes('since Tuesday') && !prompt.includes('repo=acme'), prompt)
  // One that is typed goes before; neither, and what is no repository, is answered.
  slack.ephemerals.length = 0
  await interact(pool, submit({ ...choose(options[0].value), other: { text: { value: 'acme/none' } } }))
  const typed = await seen(pool, 'it begins there', () => slack.mine()[2])
  assert.match((await pool.http('GET', `/v1/agents/${/agents\/(bc-[^|]+)\|/.exec(typed.versions[0])[1]}`, { key: pool.bobKey })).json.repos[0].url, /acme\/none$/)
  await interact(pool, submit(choose(null)))
  await whispered(pool, /^"" is not a valid value for repo/, 'U0BOB')
  await interact(pool, submit({ ...choose(null), other: { text: { value: 'not a repo' } } }))
  await whispered(pool, /^"not a repo" is not a valid value for repo/, 'U0BOB')
  // What is none of ours changes nothing.
  const n = slack.views.length
  for (const value of ['switch:../x', 'switch:', 'id:', 'delete:all', 'switch:0b8a4a4e-0000-4000-8000-000000000000']) assert.equal((await interact(pool, more(done, value))).status, 200)
  await interact(pool, { ...submit(choose(options[0].value)), view: { ...opened.view, private_metadata: '{"event":"0b8a4a4e-0000-4000-8000-000000000000"}', state: { values: choose(options[0].value) } } })
  await pool.made('repo=acme/web the last one')
  assert.equal((await agents(pool)).length + (await pool.http('GET', '/v1/agents', { key: pool.bobKey })).json.items.length, 4)
  assert.ok(slack.views.length <= n + 2)
})
