// Several Slack workspaces with one app: each is installed by a browser, and answered with its own token.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { programs, run, sh, until } from './lib.mjs'
import { link, post, say, seen, slacked } from './slack-help.mjs'

const connect = (pool, ...more) => run(pool.t, programs.bullpen, ['admin', 'connect', 'slack', '--config', pool.configFile, '--url', pool.url, ...more])
const address = p => new URL(p.stdout.match(/https:\/\/slack\.com\/oauth\/v2\/authorize\S+/)?.[0] ?? assert.fail(p.stdout + p.stderr))
// What the browser ends at when the workspace has agreed.
async function install(pool, team) {
  const state = address(await connect(pool, '--data', pool.data)).searchParams.get('state'), code = `code-${team}-${Math.random()}`
  pool.slack.codes.set(code, team)
  return connect(pool, '--data', pool.data, '--answer', `${pool.url}/link?code=${code}&state=${encodeURIComponent(state)}`)
}
const inWorkspace = (pool, team, text, o = {}) => say(pool, text, { ...o, envelope: { team_id: team } })

test('workspaces are installed one by one, each has its token; one that uninstalls the app is forgotten, the others go on', async t => {
  const pool = await slacked(t, { install: true, linked: false }), { slack } = pool
  for (const team of ['T0ONE', 'T0TWO']) { slack.team = team; await link(pool, 'U0ANN') }
  await inWorkspace(pool, 'T0ONE', `repo=acme/web ${sh('true')}`)
  await until('a workspace without the app is left alone', () => /trigger\.end surface=slack place="T0ONE".*has not installed the app/.test(pool.server.stderr))
  const url = address(await connect(pool, '--data', pool.data))
  assert.deepEqual(['client_id', 'redirect_uri'].map(k => url.searchParams.get(k)), ['1.2', `${pool.url}/link`])
  assert.ok(url.searchParams.get('scope').split(',').includes('chat:write') && !url.searchParams.has('user_scope'))
  for (const team of ['T0ONE', 'T0TWO']) {
    const p = await install(pool, team)
    assert.equal(p.code, 0, p.stdout + p.stderr)
    assert.match(p.stdout, new RegExp(`^ok .*Slack, workspace Workspace ${team} is connected`, 'm'))
  }
  assert.equal(slack.granted.redirect_uri, `${pool.url}/link`)
  const answered = async (team, n) => {
    await inWorkspace(pool, team, `repo=acme/web ${sh('true')}`)
    await seen(pool, `${team} is answered`, () => slack.mine().length === n && /^Done/.test(slack.mine()[n - 1].text))
    const calls = slack.calls.filter(c => c.method === 'chat.postMessage')
    assert.deepEqual([calls.length, calls.at(-1).team], [n, team])
  }
  await answered('T0ONE', 1)
  await answered('T0TWO', 2)
  for (const f of fs.readdirSync(pool.data).filter(f => /\.db/.test(f))) for (const token of slack.tokens.keys()) assert.ok(!fs.readFileSync(path.join(pool.data, f)).includes(token), f)
  // Installed anew it has another token, and the event of the old one comes late: the new one is taken, so it stays.
  const [old] = [...slack.tokens].find(([, team]) => team === 'T0ONE')
  slack.tokens.delete(old)
  assert.equal((await install(pool, 'T0ONE')).code, 0)
  const system = (team, event) => post(pool, { ...slack.event('x', { envelope: { team_id: team } }), event })
  assert.equal((await system('T0ONE', { type: 'tokens_revoked', tokens: { oauth: [], bot: [slack.bot] } })).status, 200)
  await until('it is looked at', () => /the token is taken still, so it stays/.test(pool.server.stderr))
  await answered('T0ONE', 3)
  // Tokens of people are nothing to us.
  assert.equal((await system('T0TWO', { type: 'tokens_revoked', tokens: { oauth: ['U0ANN'] } })).status, 200)
  for (const [token, team] of slack.tokens) if (team === 'T0TWO') slack.tokens.delete(token)
  assert.equal((await system('T0TWO', { type: 'app_uninstalled' })).status, 200)
  await until('it is forgotten', () => /slack\.uninstalled workspace="T0TWO"/.test(pool.server.stderr))
  await inWorkspace(pool, 'T0TWO', `repo=acme/web ${sh('true')}`)
  await until('it is left alone', () => /place="T0TWO".*has not installed the app/.test(pool.server.stderr))
  await answered('T0ONE', 4)
  const listed = await connect(pool, '--data', pool.data)
  assert.equal(listed.stdout.match(/^ok .*Slack knows us as/mg).length, 1, listed.stdout)
  assert.equal(((await run(t, programs.bullpen, ['admin', 'audit', '--data', pool.data])).stdout.match(/service_connected/g) ?? []).length, 3)
})

test('what is no installation of ours is refused: states, codes, other apps, whole organisations, tokens that end', async t => {
  const pool = await slacked(t, { install: true, linked: false, worker: false }), { slack } = pool
  const state = address(await connect(pool, '--data', pool.data)).searchParams.get('state')
  const answer = (code, s = state) => connect(pool, '--data', pool.data, '--answer', `${pool.url}/link?code=${code}&state=${encodeURIComponent(s)}`)
  for (const s of ['', 'x', state.slice(1)]) { const p = await answer('c', s); assert.deepEqual([p.code, /does not answer an address of this command/.test(p.stderr)], [2, true], p.stderr) }
  // A state that was made for Linear, with the same key.
  fs.appendFileSync(pool.configFile, `\n[linear]\nclient_id = "x"\nclient_secret_file = "${pool.dir}/slack-client"\nwebhook_secret_file = "${pool.dir}/slack-client"\n`)
  const linear = await run(t, programs.bullpen, ['admin', 'connect', 'linear', '--config', pool.configFile, '--url', pool.url, '--data', pool.data])
  assert.equal((await answer('c', new URL(linear.stdout.match(/https:\/\/linear\.app\/oauth\/authorize\S+/)[0]).searchParams.get('state'))).code, 2)
  assert.equal(slack.granted, undefined)
  const refused = async (more, want) => {
    slack.codes.set('c', 'T0ONE')
    slack.grantMore = more
    const p = await answer('c')
    assert.equal(p.code, 1, p.stdout + p.stderr)
    assert.match(p.stdout, want)
  }
  await refused({ app_id: 'A0OTHER' }, /^missing .*another app than slack\.app_id/m)
  await refused({ is_enterprise_install: true, team: null }, /^missing .*whole organisation/m)
  await refused({ refresh_token: 'xoxe-1', expires_in: 43200 }, /^missing .*token rotation/m)
  await refused({ access_token: 'x y' }, /^missing .*without a token/m)
  slack.codes.clear()
  slack.grantMore = {}
  assert.match((await answer('c')).stdout, /^missing .*Slack refused oauth\.v2\.access: invalid_code$/m)
  // Nothing of it was kept.
  assert.match((await connect(pool, '--data', pool.data)).stdout, /^note .*whether it is connected shows/m)
  const wrong = fs.readFileSync(pool.configFile, 'utf8').replace(/client_secret_file = .*slack-client"\n(?=signing)/, '')
  fs.writeFileSync(`${pool.dir}/wrong.toml`, wrong)
  const p = await run(t, programs.bullpen, ['serve', '--config', `${pool.dir}/wrong.toml`, '--listen', '127.0.0.1:0', '--data', pool.data])
  assert.match(p.stderr, /slack\.client_secret_file must be given: they belong together/)
})
