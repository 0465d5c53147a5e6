// The same as with the stand-ins, with a real Gitea: pull requests exactly once, its own webhooks and signatures, answers in place. GITEA: a folder with
// the program and its source (tools/test-gitea.sh).
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, freePort, git, Proc, programs, run, sh, until } from '../lib.mjs'

const home = process.env.GITEA

async function gitea(t, pool) {
  const dir = path.join(pool.dir, 'gitea'), port = await freePort(), url = `http://127.0.0.1:${port}`
  fs.mkdirSync(path.join(dir, 'custom/conf'), { recursive: true })
  const ini = path.join(dir, 'custom/conf/app.ini')
  fs.writeFileSync(ini, `APP_NAME = forge\nRUN_USER = ${process.env.USER ?? 'root'}\nRUN_MODE = prod\nWORK_PATH = ${dir}\n[server]\nHTTP_ADDR = 127.0.0.1\nHTTP_PORT = ${port}\nROOT_URL = ${url}/\nSTATIC_ROOT_PATH = ${home}/source\nDISABLE_SSH = true\nOFFLINE_MODE = true\n[database]\nDB_TYPE = sqlite3\nPATH = ${dir}/gitea.db\n[repository]\nROOT = ${dir}/repositories\n[security]\nINSTALL_LOCK = true\nSECRET_KEY = x\n[webhook]\nALLOWED_HOST_LIST = *\n[log]\nLEVEL = warn\n[service]\nDISABLE_REGISTRATION = true\n[cron]\nENABLED = false\n`)
  const env = { GITEA_WORK_DIR: dir, I_AM_BEING_UNSAFE_RUNNING_AS_ROOT: 'true' }
  const admin = async (...args) => { const p = await run(t, path.join(home, 'gitea'), ['--config', ini, ...args], { env }); assert.equal(p.code, 0, p.stdout + p.stderr); return p.stdout.trim() }
  await admin('migrate')
  for (const name of ['ann', 'eve', 'agent']) await admin('admin', 'user', 'create', '--username', name, '--password', 'a-Password-1', '--email', `${name}@example.test`, '--must-change-password=false', ...(name === 'ann' ? ['--admin'] : []))
  const tokens = {}
  for (const name of ['ann', 'eve', 'agent']) tokens[name] = (await admin('admin', 'user', 'generate-access-token', '--username', name, '--token-name', 't', '--scopes', 'all', '--raw')).split('\n').at(-1)
  const p = new Proc(t, path.join(home, 'gitea'), ['--config', ini, 'web'], { env })
  await until(`gitea answers; it said ${p.stderr.slice(-500)}`, () => fetch(`${url}/api/v1/version`).then(r => r.ok, () => false), 60)
  const api = async (who, method, at, body) => {
    const r = await fetch(`${url}/api/v1${at}`, { method, headers: { authorization: `token ${tokens[who]}`, 'content-type': 'application/json' }, body: body && JSON.stringify(body) })
    const text = await r.text()
    if (!r.ok) throw new Error(`${method} ${at}: ${r.status} ${text}`)
    return text ? JSON.parse(text) : undefined
  }
  return { url, port, tokens, api, proc: p }
}

test('a real Gitea: a comment becomes one pull request, the answer is in place, follow-ups and strangers', { skip: !home && 'no Gitea here' }, async t => {
  let forge
  const pool = await bullpen(t, { prepare: async p => {
    forge = await gitea(t, p)
    fs.writeFileSync(path.join(p.dir, 'token'), forge.tokens.agent)
    fs.writeFileSync(path.join(p.dir, 'secret'), 'a-secret-of-a-hook')
    fs.appendFileSync(p.configFile, `\n[[forges]]\nkind = "gitea"\nurl = "${forge.url}"\ntoken_file = "${p.dir}/token"\nwebhook_secret_file = "${p.dir}/secret"\n`)
  } })
  const { api } = forge
  await api('ann', 'POST', '/user/repos', { name: 'web', auto_init: true, default_branch: 'main', private: false })
  await api('ann', 'PUT', '/repos/ann/web/collaborators/agent', { permission: 'write' })
  await api('ann', 'POST', '/repos/ann/web/hooks', { type: 'gitea', active: true, events: ['issue_comment', 'pull_request_comment', 'issues'], config: { url: `${pool.url}/webhooks/gitea`, content_type: 'json', secret: 'a-secret-of-a-hook' } })
  const { id } = await api('ann', 'GET', '/user')
  const linked = await run(t, programs.bullpen, ['admin', 'account', 'link', '--data', pool.data, '--email', 'dev@example.test', '--surface', 'gitea', '--place', '127.0.0.1', '--account', String(id), '--login', 'ann'])
  assert.equal(linked.code, 0, linked.stderr)
  // Workers push as the agent.
  const url = `http://agent:${forge.tokens.agent}@127.0.0.1:${forge.port}/ann/web.git`
  await pool.worker({ remote: { url, clone: async to => { await git(pool.dir, 'clone', '-q', url, to); return to } } })
  const issue = await api('ann', 'POST', '/repos/ann/web/issues', { title: 'The greeting is wrong', body: 'It says hello.' })
  const comments = () => api('ann', 'GET', `/repos/ann/web/issues/${issue.number}/comments`)
  const say = (who, body) => api(who, 'POST', `/repos/ann/web/issues/${issue.number}/comments`, { body })
  const answer = what => until(`a comment says ${what}; ${pool.server.stderr.slice(-1500)}`, async () => (await comments()).find(c => c.user.login === 'agent' && what.test(c.body)), 60)
  await say('eve', '@cursor do what I say')
  const asked = await say('ann', `@cursor ${sh('echo changed > README.md')}`)
  const done = await answer(/^Done: /)
  const pulls = await api('ann', 'GET', '/repos/ann/web/pulls?state=open')
  assert.equal(pulls.length, 1)
  assert.ok(pulls[0].title.startsWith('WIP: ') && pulls[0].draft, pulls[0].title)
  assert.ok(done.body.includes(`[pull request](${pulls[0].html_url})`), done.body)
  assert.deepEqual((await api('ann', 'GET', `/repos/ann/web/issues/comments/${asked.id}/reactions`)).map(r => r.content).sort(), ['eyes', 'rocket'])
  await say('ann', `@cursor ${sh('echo again > README.md')}`)
  await until('the second is done', async () => (await comments()).filter(c => /^Done/.test(c.body)).length === 2, 60)
  assert.equal((await api('ann', 'GET', '/repos/ann/web/pulls?state=open')).length, 1)
  assert.equal(Buffer.from((await api('ann', 'GET', `/repos/ann/web/contents/README.md?ref=${pulls[0].head.ref}`)).content, 'base64').toString(), 'again\n')
  // At the pull request itself: on its branch.
  await api('ann', 'POST', `/repos/ann/web/issues/${pulls[0].number}/comments`, { body: `@cursor ${sh('echo more > more.txt')}` })
  await until('it is on the branch', () => api('ann', 'GET', `/repos/ann/web/contents/more.txt?ref=${pulls[0].head.ref}`).then(() => true, () => false), 60)
  // prUrl and autoCreatePR over the API.
  const r = await pool.http('POST', '/v1/agents', { body: { prompt: { text: sh('echo x > x.txt') }, repos: [{ url: `${forge.url}/ann/web`, prUrl: pulls[0].html_url }], workOnCurrentBranch: true } })
  assert.equal(r.status, 201, r.text)
  await until('it is on the branch', () => api('ann', 'GET', `/repos/ann/web/contents/x.txt?ref=${pulls[0].head.ref}`).then(() => true, () => false), 60)
  const other = await pool.run(sh('echo y > y.txt'), { repo: `${forge.url}/ann/web`, extra: { autoCreatePR: true } })
  assert.match((await other.end()).git.branches[0].prUrl, /\/pulls\/\d+$/)
  assert.equal((await pool.http('GET', '/v1/agents')).json.items.length, 4)
  assert.equal((await comments()).filter(c => c.user.login === 'agent').length, 2)
})
