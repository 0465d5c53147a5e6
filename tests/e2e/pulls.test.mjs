// Pull requests of agents, over stand-ins that speak the forges' wire formats and a real git remote.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, file, git, root, sh, until } from './lib.mjs'
import { forged } from './forge-help.mjs'

const want = (pool, prompt, extra = {}, key) => pool.run(prompt, { repo: pool.forge.repoUrl, extra: { autoCreatePR: true, ...extra }, ...(key ? { key } : {}) })
const work = text => `Change the greeting\n\n${sh(`echo ${text} > README.md`)}`
const branchOf = run => run.git?.branches?.[0]

for (const [kind, title, page] of [['github', 'Change the greeting', 'pull'], ['gitlab', 'Draft: Change the greeting', '-/merge_requests'], ['gitea', 'WIP: Change the greeting', 'pulls']])
  test(`${kind}: a run opens a pull request once, its follow-up brings it up to date`, async t => {
    const pool = await forged(t, kind, bullpen), { forge } = pool
    const run = await want(pool, work('one'))
    const end = await run.end()
    assert.equal(end.status, 'FINISHED', JSON.stringify(end))
    assert.equal(forge.pulls.length, 1)
    const [p] = forge.pulls, url = `${forge.url}/acme/web/${page}/${p.number}`
    assert.deepEqual([p.title, p.base, p.head.startsWith('cursor/')], [title, 'main', true])
    assert.equal(branchOf(end).prUrl, url, JSON.stringify(end.git))
    assert.match(p.body, /- run_terminal_cmd `echo one > README\.md`/)
    assert.ok(p.body.includes(`${pool.url}/agents/${run.agentId}`) && p.body.includes(`<!-- bullpen agent=${run.agentId} -->`), p.body)
    const agent = (await pool.http('GET', `/v1/agents/${run.agentId}`)).json
    assert.equal(agent.autoCreatePR, true)
    assert.deepEqual((await pool.http('GET', `/v1/agents?prUrl=${encodeURIComponent(url + '/')}`)).json.items.map(a => a.id), [run.agentId])
    assert.deepEqual((await pool.http('GET', `/v1/agents?prUrl=${encodeURIComponent(url)}9`)).json.items, [])
    const v0 = (await pool.http('GET', `/v0/agents/${run.agentId}`)).json
    assert.deepEqual([v0.target.autoCreatePr, v0.target.prUrl], [true, url])
    const next = await run.followUp(sh('echo two > README.md'))
    assert.equal(branchOf(await next.end()).prUrl, url)
    assert.equal(forge.pulls.length, 1)
    assert.match(forge.pulls[0].body, /echo two/)
    // What a person wrote stays a person's.
    forge.pulls[0].body = 'my own words'
    await (await run.followUp(sh('echo three > README.md'))).end()
    assert.equal(forge.pulls[0].body, 'my own words')
    // It was merged: what comes later needs a new one.
    forge.pulls[0].state = 'closed'
    forge.pulls[0].merged = true
    await (await run.followUp(sh('echo four > README.md'))).end()
    assert.equal(forge.pulls.length, 2)
  })

test('nothing to merge is no pull request and no error; without the flag there is none', async t => {
  const pool = await forged(t, 'github', bullpen), { forge } = pool
  const end = await (await want(pool, sh('true'))).end()
  assert.equal(end.status, 'FINISHED')
  await (await pool.run(work('one'), { repo: forge.repoUrl })).end()
  assert.deepEqual(forge.pulls, [])
  for (const [body, code, text] of [[{ autoCreatePR: true }, 'validation_error', /needs a repository/], [{ autoCreatePR: true, repos: [{ url: 'https://nowhere.test/a/b' }] }, 'integration_not_connected', /knows no forge/]]) {
    const r = await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, ...body } })
    assert.deepEqual([r.status, r.json.error.code], [400, code], r.text)
    assert.match(r.json.error.message, text)
    if (code !== 'integration_not_connected') continue
    // What the official client makes an error of its own of; the address says how it is done.
    assert.deepEqual([r.json.error.provider, r.json.error.helpUrl], ['nowhere.test', `${pool.url}/assets/forges.md`])
    const help = await pool.http('GET', '/assets/forges.md', { key: null })
    assert.deepEqual([help.status, help.headers.get('content-type'), help.text], [200, 'text/plain; charset=utf-8', fs.readFileSync(path.join(root, 'docs/forges.md'), 'utf8')])
  }
  for (const [url, provider] of [['https://github.com/a/b', 'github'], ['https://gitlab.example.com/a/b', 'gitlab'], ['https://dev.azure.com/a/b', 'azure-devops'], ['git@bitbucket.org:a/b.git', 'bitbucket']]) {
    const r = await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, autoCreatePR: true, repos: [{ url }] } })
    assert.deepEqual([r.status, r.json.error.code, r.json.error.provider], [400, 'integration_not_connected', provider], r.text)
  }
})

test('the one that is there already is taken, whoever opened it, and a time-out behind a success makes no second one', async t => {
  const pool = await forged(t, 'github', bullpen), { forge } = pool
  // It was created, but the answer never came.
  let cut = 0
  forge.interfere = async (r, res) => {
    if (r.method !== 'POST' || !r.path.endsWith('/pulls') || cut++) return false
    await forge.hub_create(r.body, { writeHead() {}, end() {} }, () => {})
    res.socket.destroy()
    return true
  }
  const run = await want(pool, work('one'))
  const end = await run.end()
  assert.equal(end.status, 'FINISHED')
  const shown = await until('it is shown', async () => branchOf((await run.get()))?.prUrl, 20)
  assert.equal(shown, `${forge.url}/acme/web/pull/1`)
  assert.equal(forge.pulls.length, 1)
})

test('the server dies between asking the forge and writing it down: there is one pull request, and it is known', async t => {
  const pool = await forged(t, 'github', bullpen), { forge } = pool
  let asked
  const died = new Promise(resolve => { asked = resolve })
  let once = true
  forge.interfere = async (r, res) => {
    if (r.method !== 'POST' || !r.path.endsWith('/pulls') || !once) return false
    once = false
    await forge.hub_create(r.body, { writeHead() {}, end() {} }, () => {})
    await pool.crash()
    res.socket.destroy()
    asked()
    return true
  }
  const run = await want(pool, work('one'))
  await died
  await pool.restart()
  const end = await run.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  assert.equal(forge.pulls.length, 1)
  assert.equal(branchOf(end).prUrl, `${forge.url}/acme/web/pull/1`)
})

test('a forge that refuses leaves the run finished and says why; one that limits is asked again', async t => {
  const pool = await forged(t, 'github', bullpen), { forge } = pool
  forge.interfere = (r, res) => {
    if (r.method !== 'POST' || !r.path.endsWith('/pulls')) return false
    res.writeHead(403, { 'content-type': 'application/json' }).end(JSON.stringify({ message: 'Resource not accessible by integration', status: '403' }))
    return true
  }
  const run = await want(pool, work('one')), stream = await run.stream()
  const events = await stream.all()
  assert.equal((await run.end()).status, 'FINISHED')
  assert.match(JSON.stringify(events), /the pull request could not be opened: 127\.0\.0\.1 answered 403: Resource not accessible by integration/)
  // A follow-up tries again; a secondary limit is waited for by a sender.
  let limited = 0
  forge.interfere = (r, res) => {
    if (r.method !== 'POST' || !r.path.endsWith('/pulls') || limited++) return false
    res.writeHead(403, { 'content-type': 'application/json', 'retry-after': '1' }).end(JSON.stringify({ message: 'You have exceeded a secondary rate limit. Please wait a few minutes before you try again.' }))
    return true
  }
  const next = await run.followUp(sh('echo two > README.md'))
  assert.equal((await next.end()).status, 'FINISHED')
  await until('the pull request is open', () => forge.pulls.length === 1, 20)
})

test('a limit says until when: nothing is asked before, and then the pull request is opened', async t => {
  const pool = await forged(t, 'github', bullpen), { forge } = pool
  let reset, refused = 0
  const early = []
  forge.interfere = (r, res) => {
    if (reset && Date.now() < reset * 1000) { early.push(r.path); return false }
    if (refused || r.method !== 'POST' || !r.path.endsWith('/pulls')) return false
    refused++
    reset = Math.floor(Date.now() / 1000) + 6
    res.writeHead(403, { 'content-type': 'application/json', date: new Date().toUTCString(), 'x-ratelimit-remaining': '0', 'x-ratelimit-reset': String(reset) }).end(JSON.stringify({ message: 'API rate limit exceeded for user ID 1.' }))
    return true
  }
  const run = await want(pool, work('one')), events = await (await run.stream()).all()
  assert.match(JSON.stringify(events), /limits its requests and is asked again in [3-6] s: API rate limit exceeded/)
  await until('the pull request is open', () => forge.pulls.length === 1, 30)
  assert.ok(Date.now() >= reset * 1000)
  assert.deepEqual([refused, early], [1, []])
})

test('what was asked before is asked for its changes alone', async t => {
  const pool = await forged(t, 'github', bullpen), { forge } = pool
  const run = await want(pool, work('one'))
  await run.end()
  // A person has changed it, so it is looked at and left alone: twice the same answer.
  forge.pulls[0].body = 'my own words'
  for (const text of ['two', 'three']) await (await run.followUp(work(text))).end()
  assert.deepEqual(forge.unchanged, ['/repos/acme/web/pulls/1'])
  assert.equal(forge.pulls[0].body, 'my own words')
  // What has changed is seen.
  forge.pulls[0].state = 'closed'
  await (await run.followUp(work('four'))).end()
  assert.equal(forge.pulls.length, 2)
  const metrics = (await pool.http('GET', '/metrics')).text
  assert.match(metrics, new RegExp(`bullpen_forge_requests_total\\{forge="github",result="unchanged"\\} ${forge.unchanged.length}\\b`))
})

test('no drafts in this repository: it is opened as a whole one; a reviewer who is none does not matter', async t => {
  const pool = await forged(t, 'github', bullpen), { forge } = pool
  forge.interfere = (r, res) => {
    if (r.method !== 'POST' || !r.path.endsWith('/pulls') || !r.body.draft) return false
    res.writeHead(422, { 'content-type': 'application/json' }).end(JSON.stringify({ message: 'Draft pull requests are not supported in this repository.', status: '422' }))
    return true
  }
  await (await want(pool, work('one'))).end()
  assert.deepEqual(forge.pulls.map(p => p.draft), [undefined])
})

test('an app: a token for one repository, signed by its key, used again, and a new one when it was revoked', async t => {
  const pool = await forged(t, 'github', bullpen, { app: true }), { forge } = pool
  const run = await want(pool, work('one'))
  await run.end()
  assert.equal(forge.pulls.length, 1)
  assert.equal(forge.minted.length, 1)
  assert.deepEqual(forge.requests.find(r => r.path.endsWith('/access_tokens')).body, { repositories: ['web'] })
  forge.minted = []
  await (await run.followUp(sh('echo two > README.md'))).end()
  assert.match(forge.pulls[0].body, /echo two/)
  forge.minted = []
  forge.installed = false
  const events = await (await (await run.followUp(sh('echo three > README.md'))).stream()).all()
  assert.match(JSON.stringify(events), /the app is not installed for acme\/web/)
})

test('an app and a token: the agent says who opens the pull request; a service account\'s is the app\'s', async t => {
  const pool = await forged(t, 'github', bullpen, { both: true }), { forge } = pool
  const openers = () => forge.requests.filter(r => r.method === 'POST' && r.path.endsWith('/pulls')).map(r => r.headers.authorization === `Bearer ${forge.token}` ? 'token' : forge.minted.some(m => r.headers.authorization === `Bearer ${m}`) ? 'app' : 'nobody')
  await (await want(pool, work('one'))).end()
  await (await want(pool, work('two'), { openAsCursorGithubApp: true })).end()
  await (await want(pool, work('three'), { openAsCursorGithubApp: false }, pool.poolKey)).end()
  await (await want(pool, work('four'), {}, pool.poolKey)).end()
  assert.deepEqual(openers(), ['token', 'app', 'token', 'app'])
  assert.equal(forge.pulls.length, 4)
})

test('what a model says calls nobody and closes nothing', async t => {
  const pool = await forged(t, 'github', bullpen), { forge } = pool
  await (await want(pool, `Thank @acme/owners and close #12 now\n\n${sh('echo "@ann closes #3" > README.md')}`)).end()
  const [p] = forge.pulls
  assert.equal(p.title, 'Thank @\u200dacme/owners and c\u200dlose #\u200d12 now')
  assert.ok(p.body.includes('`echo "@ann closes #3" > README.md`'), p.body)
})

test('prUrl: a new branch from its base, or its own branch; forks, closed ones and strangers are refused in words', async t => {
  const pool = await forged(t, 'github', bullpen), { forge } = pool
  const dir = await forge.remote.clone(path.join(pool.dir, 'mine'))
  await git(dir, 'checkout', '-qb', 'topic')
  fs.writeFileSync(path.join(dir, 'topic.txt'), 'topic\n')
  await git(dir, 'add', '-A')
  await git(dir, 'commit', '-qm', 'topic')
  await git(dir, 'push', '-q', 'origin', 'topic')
  const pull = o => { const p = { id: 1, number: ++forge.number, state: 'open', title: 'T', body: 'b', head: 'topic', base: 'main', sha: 'x', ...o }; forge.pulls.push(p); return `${forge.url}/acme/web/pull/${p.number}` }
  const url = pull({})
  const create = (prUrl, extra = {}) => pool.http('POST', '/v1/agents', { body: { prompt: { text: sh('ls; echo mine > mine.txt') }, repos: [{ url: forge.repoUrl, prUrl }], ...extra } })
  const on = await create(`${url}/files`, { workOnCurrentBranch: true, autoCreatePR: true })
  assert.equal(on.status, 201, on.text)
  assert.deepEqual(on.json.agent.repos, [{ url: forge.repoUrl, prUrl: url }])
  const end = await until('it ends', async () => { const r = (await pool.http('GET', `/v1/agents/${on.json.agent.id}/runs/${on.json.run.id}`)).json; return ['FINISHED', 'ERROR'].includes(r.status) && r }, 30)
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  assert.deepEqual(end.git.branches.map(b => [b.branch, b.prUrl]), [['topic', url]])
  assert.equal(await forge.remote.show('topic', 'mine.txt'), 'mine')
  assert.equal(forge.pulls.length, 1)
  const off = await create(url)
  const ended = await until('it ends', async () => { const r = (await pool.http('GET', `/v1/agents/${off.json.agent.id}/runs/${off.json.run.id}`)).json; return ['FINISHED', 'ERROR'].includes(r.status) && r }, 30)
  const [b] = ended.git.branches
  assert.ok(b.branch.startsWith('cursor/') && b.prUrl === undefined, JSON.stringify(b))
  await assert.rejects(forge.remote.show(b.branch, 'topic.txt'), 'from the base')
  const v0 = await pool.http('POST', '/v0/agents', { body: { prompt: { text: sh('true') }, source: { prUrl: url }, target: { autoBranch: false } } })
  assert.equal(v0.status, 201, v0.text)
  assert.equal(v0.json.source.repository, `${forge.url}/acme/web`)
  for (const [prUrl, extra, text] of [
    [pull({ fork: 'stranger/web' }), { workOnCurrentBranch: true }, /comes from the fork stranger\/web/], [pull({ state: 'closed' }), {}, /is closed/], [pull({ state: 'closed', merged: true }), {}, /is merged/],
    [`${forge.url}/acme/web/pull/999`, {}, /answered 404/], ['https://nowhere.test/acme/web/pull/1', {}, /no pull request of a forge that this server knows/], [`${forge.url}/acme/other/pull/1`, {}, /another repository/],
    [`${forge.url}/acme/../web/pull/1`, {}, /no pull request/],
  ]) {
    const r = await create(prUrl, extra)
    assert.deepEqual([r.status, r.json.error.code], [400, 'pr_resolution_failed'], r.text)
    assert.match(r.json.error.message, text)
  }
})
