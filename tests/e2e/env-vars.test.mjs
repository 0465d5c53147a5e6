// Variables of agents and runs: sealed in the store, in the environment of the agent's programs, and nowhere else.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import crypto from 'node:crypto'
import { bullpen, programs, run, sh } from './lib.mjs'
import { modelServer, provider } from './models-help.mjs'

const SECRET = 's3cret-Value/with+signs="42"'
const TAKES = ['--sync-dashboard-secrets']


const withWorker = async (t, { args = TAKES, config } = {}) => {
  const pool = await bullpen(t, { config })
  pool.w = await pool.worker({ args })
  return pool
}
const log = async r => JSON.stringify((await r.events()).map(e => e.data))

// Files below the data folders, and what the programs printed, with that text in it.
function traces(pool, text) {
  const found = []
  const look = dir => fs.readdirSync(dir, { withFileTypes: true }).forEach(e => {
    const p = path.join(dir, e.name)
    if (e.isDirectory()) look(p)
    else if (e.isFile() && fs.readFileSync(p).includes(text)) found.push(p)
  })
  look(pool.data)
  for (const p of [pool.server, pool.w]) if (p.stdout.includes(text) || p.stderr.includes(text)) found.push('output')
  return found
}

test('variables reach the programs of the agent, and neither store, log, events, errors nor the model', async t => {
  const m = await modelServer(t)
  const pool = await withWorker(t, { config: provider(m, 'openai') })
  const shell = command => ({ name: 'run_terminal_cmd', arguments: { command } })
  m.next({ answer: { text: 'Looking.', calls: [
    shell('printf "%s" "$DEPLOY_TOKEN" | sha256sum; echo "plain: $DEPLOY_TOKEN"; echo "err: $DEPLOY_TOKEN" >&2; printf "%s" "$DEPLOY_TOKEN" | base64 -w0; printf "%s" "$DEPLOY_TOKEN" > leak.txt'),
    shell('for i in 1 2 3 4 5 6 7 8 9; do printf "%s" "$(printf "%s" "$DEPLOY_TOKEN" | cut -c$i)"; sleep 0.05; done; printf "%s" "$DEPLOY_TOKEN" | tail -c +10; exit 3')] } })
  m.next({ answer: { text: 'Reading.', calls: [{ name: 'read_file', arguments: { path: 'leak.txt' } }, { name: 'grep_search', arguments: { pattern: 'Value' } }, shell('rm leak.txt; echo "$SHORT ${OTHER-unset} $CURSOR_AGENT"')] } })
  m.next({ answer: { text: 'Done.' } })
  const r = await pool.run('Use the token', { extra: { envVars: { DEPLOY_TOKEN: SECRET, SHORT: 'abc' } } })
  const end = await r.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))

  const text = await log(r)
  const sum = crypto.createHash('sha256').update(SECRET).digest('hex')
  assert.ok(text.includes(sum), 'the program had the true value')
  assert.match(text, /plain: \[REDACTED\]/)
  assert.match(text, /err: \[REDACTED\]/)
  assert.match(text, /abc unset 1/)
  assert.match(text, /the values of the variables SHORT are too short to be hidden/)
  const told = JSON.stringify(m.requests.map(q => q.body))
  assert.match(told, /plain: \[REDACTED\]/)
  for (const form of [SECRET, JSON.stringify(SECRET).slice(1, -1), Buffer.from(SECRET).toString('base64').slice(0, -4), encodeURIComponent(SECRET)]) {
    assert.ok(!text.includes(form) && !text.includes(JSON.stringify(form).slice(1, -1)), `events have ${form}`)
    assert.ok(!told.includes(form) && !told.includes(JSON.stringify(form).slice(1, -1)), `the model was told ${form}`)
    assert.deepEqual(traces(pool, form), [])
  }
  assert.ok(!JSON.stringify((await pool.http('GET', `/v1/agents/${r.agentId}`)).json).includes('DEPLOY_TOKEN'))
})

test('variables of one run are gone with it and beat those of the agent; those of the agent stay until it is deleted', async t => {
  const pool = await withWorker(t)
  const show = sh('echo "<$A|$B>"')
  const first = await pool.run(show, { extra: { envVars: { A: 'one', B: 'two' }, runEnvVars: { B: 'run' } } })
  await first.end()
  assert.match(await log(first), /<one\|run>/)
  const second = await first.followUp(show, { envVars: { A: 'mine' } })
  await second.end()
  assert.match(await log(second), /<mine\|two>/)
  await pool.crash()
  await pool.restart()
  const third = await second.followUp(show)
  await third.end()
  assert.match(await log(third), /<one\|two>/)
  assert.equal((await pool.http('DELETE', `/v1/agents/${first.agentId}`)).status, 200)
})

for (const [name, args, policy, why] of [
  ['a worker without the flag', [], null, /the variables TOKEN_A, TOKEN_B are not set: the worker was started without --sync-dashboard-secrets/],
  ['a team that has switched it off', TAKES, 'off', /the variables TOKEN_A, TOKEN_B are not set: an administrator has switched that off/],
]) test(`variables are withheld with a word about it: ${name}`, async t => {
  const pool = await withWorker(t, { args })
  if (policy) assert.equal((await run(t, programs.bullpen, ['admin', 'policy', '--data', pool.data, '--secret-sync', policy])).code, 0)
  const r = await pool.run(sh('echo "<${TOKEN_A-unset}>"'), { extra: { envVars: { TOKEN_A: 'a-long-value', TOKEN_B: 'b' } } })
  assert.equal((await r.end()).status, 'FINISHED')
  const text = await log(r)
  assert.match(text, /<unset>/)
  assert.match(text, why)
})

test('the key of another installation opens nothing, and a key file that is not there stops the start', async t => {
  const pool = await withWorker(t)
  await pool.w.kill('SIGTERM')
  const waiting = await pool.run(sh('echo "<$A>"'), { extra: { envVars: { A: 'sealed' } } })
  await pool.stop()
  fs.unlinkSync(path.join(pool.data, 'secret.key'))
  await pool.start()
  await pool.worker({ args: TAKES })
  const end = await waiting.end()
  assert.equal(end.status, 'ERROR')
  assert.equal(end.error.code, 'internal_error')
  assert.match(pool.server.stderr, /seal\.not_opened/)
  await pool.stop()
  const p = await run(t, programs.bullpen, ['serve', '--data', pool.data, '--listen', '127.0.0.1:0', '--config', (fs.writeFileSync(path.join(pool.dir, 'k.toml'), `[secrets]\nkey_file = "${pool.dir}/missing.key"\n`), path.join(pool.dir, 'k.toml'))])
  assert.equal(p.code, 1)
  assert.match(p.stderr, /missing\.key cannot be opened/)
})

test('limits of variables and MCP servers', async t => {
  const pool = await bullpen(t)
  const ask = (body, path = '/v1/agents') => pool.http('POST', path, { body: { prompt: { text: 'x' }, repos: [{ url: 'https://git.example/a/b' }], ...body } })
  const many = n => Object.fromEntries(Array.from({ length: n }, (_, i) => [`V${i}`, 'x']))
  const servers = n => Array.from({ length: n }, (_, i) => ({ name: `s${i}`, command: 'true' }))
  for (const [want, body, message] of [
    [201, { envVars: many(50) }],
    [400, { envVars: many(51) }, /envVars/],
    [201, { envVars: { ['N'.repeat(255)]: 'x' } }],
    [400, { envVars: { ['N'.repeat(256)]: 'x' } }, /1 to 255/],
    [201, { envVars: { A: 'x'.repeat(4096) } }],
    [400, { envVars: { A: 'x'.repeat(4097) } }, /1 to 4096 bytes/],
    [400, { envVars: { A: '' } }, /1 to 4096 bytes/],
    [400, { runEnvVars: { CURSOR_X: 'x' } }, /CURSOR_/],
    [201, { envVars: { cursor_x: 'x' }, runEnvVars: { A: 'x' } }],
    [201, { mcpServers: servers(50) }],
    [400, { mcpServers: servers(51) }, /mcpServers/],
    [400, { mcpServers: [...servers(2), { name: 's1', url: 'https://x' }] }, /mcpServers\[2\]\.name.*two servers/],
    [400, { mcpServers: [{ name: ' ', command: 'x' }] }, /mcpServers\[0\]\.name/],
    [400, { mcpServers: [{ name: 'a' }] }, /either 'command' or 'url'/],
    [400, { mcpServers: [{ name: 'a', command: 'x', url: 'https://x' }] }, /either 'command' or 'url'/],
    [400, { mcpServers: [{ name: 'a', command: 'x', type: 'http' }] }, /type' http goes with 'url'/],
    [400, { mcpServers: [{ name: 'a', url: 'https://x', type: 'stdio' }] }, /type' stdio goes with 'command'/],
    [400, { mcpServers: [{ name: 'a', url: 'https://x', args: [] }] }, /args' does not go with 'url'/],
    [400, { mcpServers: [{ name: 'a', command: 'x', headers: {} }] }, /headers' does not go with 'command'/],
    [400, { mcpServers: [{ name: 'a', command: 'x', cwd: '/' }] }, /cwd/],
    [400, { mcpServers: [{ name: 'a', url: 'ftp://x' }] }, /http\(s\) URL/],
    [400, { mcpServers: [{ name: 'a', url: 'https://u:p@x/' }] }, /without user name/],
    [201, { mcpServers: [{ name: 'a', type: 'sse', url: 'https://x/@y', headers: { authorization: 'Bearer k' }, auth: { CLIENT_ID: 'c', CLIENT_SECRET: 's', scopes: ['r'] } }] }],
    [400, { mcpServers: [{ name: 'a', url: 'https://x', auth: { CLIENT_SECRET: 's' } }] }, /CLIENT_ID/],
  ]) {
    const r = await ask(body)
    assert.equal(r.status, want, `${JSON.stringify(body).slice(0, 200)}: ${r.text}`)
    if (message) {
      assert.match(r.json.error.message, message)
      assert.equal(r.json.error.code, 'validation_error')
    } else {
      assert.ok(!/mcpServers|envVars/.test(r.text), 'never returned')
    }
  }
})

test('MCP servers are kept sealed with the agent, and the run says which cannot be used', async t => {
  const pool = await withWorker(t)
  const r = await pool.run(sh('echo hello'), { extra: { mcpServers: [{ name: 'files', command: 'false', env: { KEY: SECRET } }] } })
  assert.equal((await r.end()).status, 'FINISHED')
  assert.match(await log(r), /MCP server files is not available/)
  assert.deepEqual(traces(pool, 's3cret-Value'), [])
  const none = await r.followUp(sh('echo hello'), { mcpServers: [] })
  await none.end()
  assert.doesNotMatch(await log(none), /MCP server/)
  const again = await none.followUp(sh('echo hello'))
  await again.end()
  assert.match(await log(again), /MCP server files is not available/)
})
