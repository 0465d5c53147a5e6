// What the API refuses, and in which words: bodies, queries, paths, credentials, sizes, rates. No worker is needed.
import test from 'node:test'
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { randomUUID } from 'node:crypto'
import { Proc, bullpen, run, programs, until } from './lib.mjs'
import { isError, hasHeaders, raw, h2 } from './api-help.mjs'

const REPO = 'https://git.example.test/acme/web'
const valid = (extra = {}) => ({ prompt: { text: 'hi' }, repos: [{ url: REPO }], ...extra })
const none = `bc-${randomUUID()}`
const noRun = `run-${randomUUID()}`
const agents = async (pool, key) => (await pool.http('GET', '/v1/agents', { key })).json.items
const bytes = (...parts) => Buffer.concat(parts.map(p => Buffer.from(p)))
const nested = depth => '{"a":'.repeat(depth - 1) + '{}' + '}'.repeat(depth - 1)

test('a body that is missing, no JSON, no object, not UTF-8 or nested too deep is refused', async t => {
  const pool = await bullpen(t)
  const a = (await pool.http('POST', '/v1/agents', { body: valid() })).json.agent
  for (const path of ['/v1/agents', `/v1/agents/${a.id}/runs`]) {
    const post = body => pool.http('POST', path, { body })
    isError(await pool.http('POST', path), 400, 'missing_body')
    isError(await post(''), 400, 'missing_body')
    for (const body of ['{', '{"prompt":{"text":"hi"}', '{"prompt":{"text":"hi"}} x', "{'prompt':1}", '{"prompt":{"text":"hi"},}', 'nonsense', ' '])
      isError(await post(body), 400, 'validation_error')
    for (const body of ['[]', '"text"', '12', 'true', 'null'])
      isError(await post(body), 400, 'validation_error', /object/)
    isError(await post(bytes('{"prompt":{"text":"', [0xff, 0xfe], '"}}')), 400, 'validation_error')
    isError(await post(bytes('{"prompt":{"text":"', [0xc0, 0x80], '"}}')), 400, 'validation_error')
    isError(await post('{"prompt":{"text":"a\\u0000b"}}'), 400, 'validation_error', /^text must not hold the character U\+0000: field 'prompt\.text'$/)
    isError(await post('{"prompt":{"text":"hi"},"prompt":{"text":"ho"}}'), 400, 'validation_error', /^the field 'prompt' is given twice$/)
    isError(await post('{"prompt":{"text":"hi","text":"hi"}}'), 400, 'validation_error', /^the field 'text' is given twice$/)
    isError(await post('{"prompt":{"text":"\\ud800"}}'), 400, 'validation_error')
    isError(await post(nested(65)), 400, 'validation_error', /nested/)
    isError(await post('['.repeat(100000)), 400, 'validation_error')
    isError(await post(nested(64)), 400, 'validation_error', /Unrecognized key\(s\).*'a'/)
  }
  assert.equal((await agents(pool)).length, 1, 'nothing was created')
})

test('another content type than JSON is refused; none, and JSON with a charset, is taken', async t => {
  const pool = await bullpen(t)
  const post = (type, body = JSON.stringify(valid())) => raw(pool.url, 'POST', '/v1/agents', { body, headers: { authorization: `Bearer ${pool.userKey}`, ...(type ? { 'content-type': type } : {}) } })
  for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'application/jsonp', 'multipart/form-data; boundary=x'])
    isError(await post(type), 400, 'validation_error', /application\/json/)
  for (const type of [null, 'application/json', 'application/json; charset=utf-8', 'APPLICATION/JSON;charset=latin1'])
    assert.equal((await post(type)).status, 201, `${type}`)
})

test('unknown keys are refused by name, at every level and in the query', async t => {
  const pool = await bullpen(t)
  const bodies = [
    [{ ...valid(), colour: 1 }, /'colour'/], [{ ...valid(), branchName: 'x' }, /'branchName'/], [{ ...valid(), autoGenerateBranch: true }, /'autoGenerateBranch'/],
    [{ ...valid(), privateWorker: true }, /'privateWorker'/], [{ ...valid(), tags: [] }, /'tags'/],
    [{ prompt: { text: 'hi', tone: 'x' } }, /'tone'/], [valid({ env: { type: 'cloud', size: 1 } }), /'size'/],
    [{ prompt: { text: 'hi' }, repos: [{ url: REPO, branch: 'x' }] }, /'branch'/], [valid({ model: { id: 'playbook', speed: 1 } }), /'speed'/],
  ]
  for (const [body, message] of bodies) {
    const r = await pool.http('POST', '/v1/agents', { body })
    isError(r, 400, 'validation_error', /Unrecognized key\(s\)/)
    assert.match(r.json.error.message, message)
  }
  const a = (await pool.http('POST', '/v1/agents', { body: valid() })).json.agent
  isError(await pool.http('POST', `/v1/agents/${a.id}/runs`, { body: { prompt: { text: 'x' }, name: 'x' } }), 400, 'validation_error', /'name'/)
  for (const path of ['/v1/agents?status=ACTIVE', '/v1/agents?q=x', '/v1/agents?limit=5&sort=asc', '/v1/agents?name=x', '/v1/agents?Limit=5', `/v1/agents/${a.id}?x=1`,
    `/v1/agents/${a.id}/runs?status=x`, `/v1/agents/${a.id}/runs/${a.latestRunId}?verbose=true`, `/v1/agents/${a.id}/runs/${a.latestRunId}/stream?from=0`, '/v1/me?x', '/v1/models?x='])
    isError(await pool.http('GET', path), 400, 'validation_error', /Unrecognized key\(s\)/)
  isError(await pool.http('POST', '/v1/agents?dryRun=true', { body: valid() }), 400, 'validation_error', /'dryRun'/)
  isError(await pool.http('GET', '/v1/agents?limit=5&limit=5'), 400, 'validation_error', /limit/)
})

test('a value of the wrong type, null, empty or out of range is refused by name', async t => {
  const pool = await bullpen(t)
  const many = n => Object.fromEntries(Array.from({ length: n }, (_, i) => [`N${i}`, 'v']))
  const wrong = [
    [{}, /prompt/], [{ prompt: 'hi' }, /prompt/], [{ prompt: null }, /prompt/], [{ prompt: [] }, /prompt/], [{ prompt: {} }, /text/],
    [{ prompt: { text: 5 } }, /text/], [{ prompt: { text: null } }, /text/], [{ prompt: { text: '' } }, /text/], [{ prompt: { text: ' \n\t ' } }, /text/],
    [{ prompt: { text: 'x'.repeat(1024 * 1024 + 1) } }, /1 MiB/], [{ prompt: { text: 'x', images: {} } }, /images/], [{ prompt: { text: 'x', images: null } }, /images/],
    [{ prompt: { text: 'x', images: [{ url: 'https://x.test/a.png' }] } }, /takes no images/], [{ prompt: { text: 'x', images: Array(6).fill({ url: 'https://x.test/a.png' }) } }, /5/],
    [valid({ name: null }), /name/], [valid({ name: 7 }), /name/], [valid({ name: '' }), /name/], [valid({ name: '  ' }), /name/], [valid({ name: 'ü'.repeat(101) }), /name/],
    [valid({ model: 'playbook' }), /model/], [valid({ model: null }), /model/], [valid({ model: {} }), /id/], [valid({ model: { id: '' } }), /id/], [valid({ model: { id: 'playbook', params: {} } }), /params/],
    [valid({ model: { id: 'playbook', params: [{ id: 'a' }] } }), /value/], [valid({ model: { id: 'playbook', params: ['a'] } }), /params/],
    [valid({ env: null }), /env/], [valid({ env: 'pool' }), /env/], [valid({ env: {} }), /type/], [valid({ env: { type: 'vm' } }), /env\.type/], [valid({ env: { type: 'pool', name: '' } }), /name/],
    [valid({ env: { type: 'pool', name: null } }), /name/], [valid({ env: { type: 'cloud', name: 'saved' } }), /saved/],
    [{ prompt: { text: 'x' }, repos: {} }, /repos/], [{ prompt: { text: 'x' }, repos: null }, /repos/], [{ prompt: { text: 'x' }, repos: [REPO] }, /repos\[0\]/], [{ prompt: { text: 'x' }, repos: [{}] }, /url/],
    [{ prompt: { text: 'x' }, repos: [{ url: 1 }] }, /url/], [{ prompt: { text: 'x' }, repos: Array(21).fill({ url: REPO }) }, /20/],
    [valid({ workOnCurrentBranch: 'yes' }), /workOnCurrentBranch/], [valid({ workOnCurrentBranch: null }), /workOnCurrentBranch/], [valid({ skipReviewerRequest: 1 }), /skipReviewerRequest/],
    [valid({ openAsCursorGithubApp: 'x' }), /openAsCursorGithubApp/], [valid({ autoCreatePR: 'x' }), /autoCreatePR/],
    [valid({ mode: 'ask' }), /mode/], [valid({ mode: null }), /mode/], [valid({ agentId: 'bc-1' }), /agentId/], [valid({ agentId: randomUUID() }), /agentId/], [valid({ agentId: null }), /agentId/],
    [valid({ agentId: none, envVars: { A: '1' } }), /envVars/],
    [valid({ envVars: [] }), /envVars/], [valid({ envVars: many(51) }), /50/], [valid({ envVars: { CURSOR_X: '1' } }), /CURSOR_/], [valid({ envVars: { '1A': 'x' } }), /name/], [valid({ envVars: { 'A-B': 'x' } }), /name/],
    [valid({ envVars: { '': 'x' } }), /name/], [valid({ envVars: { [`A${'x'.repeat(255)}`]: 'x' } }), /name/], [valid({ envVars: { A: '' } }), /A/], [valid({ envVars: { A: 1 } }), /A/], [valid({ envVars: { A: 'x'.repeat(4097) } }), /4096/],
    [valid({ envVars: { A: 'a\0b' } }), /A/], [valid({ runEnvVars: { 'x y': '1' } }), /runEnvVars/],
    [valid({ metadata: [] }), /metadata/], [valid({ metadata: { a: 1 } }), /metadata/], [valid({ metadata: { a: 'x'.repeat(1025) } }), /1024/], [valid({ metadata: { ['k'.repeat(65)]: 'x' } }), /64/], [valid({ metadata: many(51) }), /50/],
    [valid({ mcpServers: {} }), /mcpServers/], [valid({ customSubagents: 'x' }), /customSubagents/],
  ]
  for (const [body, message] of wrong) {
    const r = await pool.http('POST', '/v1/agents', { body })
    isError(r, 400, 'validation_error')
    assert.match(r.json.error.message, message, JSON.stringify(body).slice(0, 200))
  }
  assert.deepEqual(await agents(pool), [], 'nothing was created')
})

test('what a message of an error says never holds the value of a variable or the prompt', async t => {
  const pool = await bullpen(t)
  const secret = 'hunter2'.repeat(1000)
  for (const body of [valid({ envVars: { A: secret } }), { prompt: { text: secret, x: 1 } }]) {
    const r = await pool.http('POST', '/v1/agents', { body })
    assert.equal(r.status, 400)
    assert.doesNotMatch(r.text, /hunter2/)
  }
})

test('the greatest values that are allowed are taken', async t => {
  const pool = await bullpen(t)
  const names = n => Object.fromEntries(Array.from({ length: n }, (_, i) => [`N${i}`, 'v']))
  const ok = [
    valid({ name: 'ü'.repeat(100) }), valid({ envVars: names(50) }), valid({ envVars: { ['A'.repeat(255)]: 'x'.repeat(4096) } }), valid({ runEnvVars: { A: '1' } }),
    valid({ metadata: { ...names(49), ['k'.repeat(64)]: 'x'.repeat(1024) } }), valid({ mcpServers: [], customSubagents: [], autoCreatePR: false }), { ...valid(), prompt: { text: 'hi', images: [] } },
    { ...valid(), prompt: { text: 'x'.repeat(1024 * 1024) } }, valid({ agentServeAgent: { any: ['thing'] } }), valid({ model: { id: 'playbook', params: [] } }), valid({ env: { type: 'cloud' } }),
  ]
  for (const body of ok) {
    const r = await pool.http('POST', '/v1/agents', { body })
    assert.equal(r.status, 201, `${JSON.stringify(body).slice(0, 100)}: ${r.text.slice(0, 300)}`)
    for (const k of ['prompt', 'envVars', 'runEnvVars', 'mcpServers', 'customSubagents', 'model', 'agentServeAgent']) assert.ok(!(k in r.json.agent), `${k} is not returned`)
  }
  // The mark at the beginning of a file of Windows is no part of a prompt.
  assert.equal((await pool.http('POST', '/v1/agents', { body: { ...valid(), prompt: { text: '\ufeffFix it' } } })).json.agent.name, 'Fix it')
  isError(await pool.http('POST', '/v1/agents', { body: { ...valid(), prompt: { text: '\ufeff \n' } } }), 400, 'validation_error', /blank/)
  // Of a key that is given twice nobody knows which one counts.
  const r = await pool.http('POST', '/v1/agents', { body: `{"name":"first","prompt":{"text":"hi"},"repos":[{"url":"${REPO}"}],"name":"last"}` })
  isError(r, 400, 'validation_error', /^the field 'name' is given twice$/)
})

test('what needs a forge is refused where there is none, not taken and forgotten', async t => {
  const pool = await bullpen(t)
  await pool.http('POST', '/v1/agents', { body: valid() })
  isError(await pool.http('POST', '/v1/agents', { body: valid({ autoCreatePR: true }) }), 400, 'integration_not_connected', /'autoCreatePR'/)
  assert.equal((await agents(pool)).length, 1)
})

test('a model that is not offered is refused', async t => {
  const pool = await bullpen(t)
  isError(await pool.http('POST', '/v1/agents', { body: valid({ model: { id: 'gpt-99' } }) }), 400, 'invalid_model', /gpt-99/)
  isError(await pool.http('POST', '/v1/agents', { body: valid({ model: { id: 'playbook', params: [{ id: 'effort', value: 'high' }] } }) }), 400, 'invalid_model', /effort/)
  for (const id of ['default', 'auto']) assert.equal((await pool.http('POST', '/v1/agents', { body: valid({ model: { id } }) })).status, 201)
})

test('repository references: what is taken is echoed without credentials, the rest is refused', async t => {
  const pool = await bullpen(t)
  const taken = [
    [REPO, REPO], ['https://user:tok%40en@git.example.test/acme/web.git', 'https://git.example.test/acme/web.git'], ['http://git.example.test:8443/group/sub/project', 'http://git.example.test:8443/group/sub/project'],
    ['ssh://git@git.example.test:22/acme/web.git', 'ssh://git.example.test:22/acme/web.git'],
  ]
  for (const [url, echoed] of taken) {
    const r = await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, repos: [{ url }] } })
    assert.equal(r.status, 201, `${url}: ${r.text}`)
    assert.deepEqual(r.json.agent.repos, [{ url: echoed }])
    assert.doesNotMatch(r.text, /tok|user:/)
  }
  const scp = await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, repos: [{ url: 'git@git.example.test:acme/web.git' }] } })
  assert.equal(scp.status, 201, scp.text)
  assert.match(scp.json.agent.repos[0].url, /^(git@)?git\.example\.test:acme\/web\.git$/)
  for (const url of ['', 'acme', 'ftp://x.test/a/b', 'javascript:alert(1)', 'https://', 'https://git.example.test', 'https://git.example.test/web', 'https://git.example.test/a b/c', '-uhttps://x.test/a/b', 'ssh://-oX/a/b', 'ssh://-oX@h.test/a/b', 'ssh://git@-oX/a/b', 'ssh://h.test/-oX/b', 'git@-oX:a/b', 'git@h.test:-oX/b', 'https://-x/a/b', '--upload-pack=x@y:z/w', 'ext::sh -c x', 'https://x.test/a/b\n'])
    isError(await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, repos: [{ url }] } }), 400, 'validation_error')
})

test('a repository in a folder of this machine is taken only while the server listens on loopback', async t => {
  const pool = await bullpen(t)
  const body = { prompt: { text: 'x' }, repos: [{ url: 'file:///srv/git/acme/web.git' }] }
  const r = await pool.http('POST', '/v1/agents', { body })
  assert.equal(r.status, 201, r.text)
  isError(await pool.http('POST', '/v1/agents', { body: { ...body, repos: [{ url: 'file://host/acme/web.git' }] } }), 400, 'validation_error')
  await pool.stop()
  const open = new Proc(t, programs.bullpen, ['serve', '--config', pool.configFile, '--data', pool.data, '--listen', '0.0.0.0:0'])
  const [, port] = await open.says(/listening on http:\/\/0\.0\.0\.0:(\d+)$/m)
  const refused = await raw(`http://127.0.0.1:${port}`, 'POST', '/v1/agents', { body: JSON.stringify(body), headers: { authorization: `Bearer ${pool.userKey}`, 'content-type': 'application/json' } })
  isError(refused, 400, 'validation_error', /loopback/)
})

test('starting references: syntax is checked at once', async t => {
  const pool = await bullpen(t)
  const post = (startingRef, extra) => pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, repos: [{ url: REPO, startingRef }], ...extra } })
  const sha = '0123456789abcdef0123456789abcdef01234567'
  for (const ref of ['main', 'feature/x-1', 'v1.2.3', 'release_1', 'a.b/c', 'ünï', sha]) {
    const r = await post(ref)
    assert.equal(r.status, 201, `${ref}: ${r.text}`)
    assert.equal(r.json.agent.repos[0].startingRef, ref)
  }
  for (const ref of ['', '-x', '--upload-pack=x', 'a b', 'a..b', '/a', 'a/', 'a//b', '.a', 'a/.b', 'a.', 'a.lock', 'a.lock/b', 'a~1', 'a^', 'a:b', 'a?b', 'a*', 'a[b', 'a\\b', 'a@{1}', '@', 'a\u0001', 'a\nb', 'x'.repeat(256)])
    assert.ok(['invalid_branch_name', 'validation_error'].includes((await post(ref)).json.error?.code), `${JSON.stringify(ref)} is refused`)
  isError(await post('a b'), 400, 'invalid_branch_name')
  isError(await post(sha, { workOnCurrentBranch: true }), 400, 'invalid_branch_name', /commit/)
  const ok = await post('main', { workOnCurrentBranch: true })
  assert.equal(ok.json.agent.workOnCurrentBranch, true)
  isError(await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, repos: [{ url: REPO, prUrl: `${REPO}/pull/7` }] } }), 400, 'pr_resolution_failed')
})

test('where an agent may run: environments that cannot be had are refused and nothing is queued', async t => {
  const pool = await bullpen(t)
  const post = (env, repos = [{ url: REPO }], key) => pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, env, repos }, key })
  isError(await post({ type: 'pool', name: 'gpu' }), 400, 'validation_error', /gpu/)
  isError(await post({ type: 'pool', name: 'Default' }), 400, 'validation_error', /Default/)
  for (const env of [{ type: 'pool' }, { type: 'pool', name: 'default' }, { type: 'cloud' }, undefined]) {
    isError(await post(env, []), 400, 'repository_required')
    isError(await post(env, [{ url: REPO }, { url: `${REPO}2` }]), 400, 'validation_error', /any-repo pool/)
  }
  isError(await post({ type: 'machine' }, []), 400, 'repository_required')
  isError(await post({ type: 'machine' }, [{ url: REPO }, { url: `${REPO}2` }]), 400, 'validation_error')
  isError(await post({ type: 'machine', name: 'laptop' }), 400, 'validation_error', /you have no machine 'laptop'/)
  isError(await post({ type: 'machine' }), 400, 'validation_error', /acme\/web/)
  isError(await post({ type: 'machine' }, [{ url: REPO }], pool.poolKey), 403, 'user_required')
  assert.deepEqual(await agents(pool), [])
  assert.deepEqual(await agents(pool, pool.poolKey), [])
  const r = await post({ type: 'pool' })
  assert.deepEqual(r.json.agent.env, { type: 'pool', name: 'default' }, 'a pool without name is the default one')
  assert.deepEqual((await post(undefined)).json.agent.env, { type: 'cloud' })
})

test('without a cloud pool, cloud agents are refused and pools work', async t => {
  const pool = await bullpen(t, { config: '[pools]\ncloud_pool = ""\n' })
  isError(await pool.http('POST', '/v1/agents', { body: valid() }), 403, 'feature_unavailable', /pool/)
  assert.equal((await pool.http('POST', '/v1/agents', { body: valid({ env: { type: 'pool' } }) })).status, 201)
})

test('a body over the limit is 413, and the server goes on', async t => {
  const pool = await bullpen(t)
  const auth = { authorization: `Bearer ${pool.userKey}` }
  const a = (await pool.http('POST', '/v1/agents', { body: valid() })).json.agent
  const small = await raw(pool.url, 'POST', `/v1/agents/${a.id}/runs/${a.latestRunId}/cancel`, { headers: auth, body: Buffer.alloc(1024 * 1024 + 1, 0x20) })
  isError(small, 413, 'validation_error', /large/)
  assert.equal((await pool.http('GET', `/v1/agents/${a.id}`)).json.status, 'ACTIVE', 'and it was not cancelled')
  // The announced length is enough to know; nothing of it need be sent.
  const big = await new Promise((resolve, reject) => {
    const u = new URL(pool.url)
    let text = ''
    const s = connect(Number(u.port), u.hostname, () => s.write(`POST /v1/agents HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${pool.userKey}\r\nContent-Type: application/json\r\nContent-Length: ${128 * 1024 * 1024 + 1}\r\n\r\n`))
    t.after(() => s.destroy())
    s.on('data', d => { text += d; if (text.includes('}}')) resolve(text) }).on('error', reject).on('end', () => resolve(text))
  })
  assert.match(big, /^HTTP\/1\.1 413 /)
  assert.match(big, /"code":"validation_error"/)
  // Two megabytes are a body that agents take: this one fails for its prompt.
  isError(await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x'.repeat(2 << 20) } } }), 400, 'validation_error', /1 MiB/)
})

test('ids that are malformed or unknown are 404, never 400', async t => {
  const pool = await bullpen(t)
  const a = (await pool.http('POST', '/v1/agents', { body: valid() })).json.agent
  for (const id of [none, 'x', 'bc-1', 'bc_1', '123', '%00', '%ff', 'a%2Fb', '..%2f..', "';--", 'x'.repeat(3000)]) {
    for (const [method, path] of [['GET', ''], ['GET', '/runs'], ['GET', `/runs/${a.latestRunId}`], ['GET', `/runs/${a.latestRunId}/stream`], ['POST', `/runs/${a.latestRunId}/cancel`]]) {
      const r = await pool.http(method, `/v1/agents/${id}${path}`)
      assert.equal(r.status, 404, `${method} ${id.slice(0, 20)}${path}: ${r.status}`)
      assert.ok(['agent_not_found', 'not_found'].includes(r.json.error.code), r.text)
    }
    assert.equal((await pool.http('POST', `/v1/agents/${id}/runs`, { body: { prompt: { text: 'x' } } })).status, 404)
  }
  isError(await pool.http('GET', `/v1/agents/${none}`), 404, 'agent_not_found')
  for (const id of [noRun, 'x', 'run-1', a.id]) {
    for (const [method, path] of [['GET', ''], ['GET', '/stream'], ['POST', '/cancel']])
      isError(await pool.http(method, `/v1/agents/${a.id}/runs/${id}${path}`), 404, 'run_not_found')
  }
  isError(await pool.http('GET', `/v1/agents/${none}/runs/${noRun}`), 404, 'agent_not_found')
  const b = (await pool.http('POST', '/v1/agents', { body: valid() })).json.agent
  isError(await pool.http('GET', `/v1/agents/${b.id}/runs/${a.latestRunId}`), 404, 'run_not_found')
})

test('a wrong method is 405 with Allow, an unknown path 404, a slash at the end does not count', async t => {
  const pool = await bullpen(t)
  const a = (await pool.http('POST', '/v1/agents', { body: valid() })).json.agent
  const allow = async (method, path, wanted) => {
    const r = await pool.http(method, path)
    isError(r, 405, 'method_not_allowed')
    assert.deepEqual(r.headers.get('allow').split(/, */).sort(), wanted)
  }
  await allow('PUT', '/v1/agents', ['GET', 'POST'])
  await allow('DELETE', '/v1/me', ['GET'])
  await allow('PATCH', `/v1/agents/${a.id}/runs`, ['GET', 'POST'])
  await allow('GET', `/v1/agents/${a.id}/runs/${a.latestRunId}/cancel`, ['POST'])
  await allow('POST', `/v1/agents/${a.id}/runs/${a.latestRunId}/stream`, ['GET'])
  await allow('POST', '/healthz', ['GET'])
  for (const path of ['/v1', '/v2/agents', '/v1/agentsx', '/v1/Agents', `/v1/agents/${a.id}/nothing`, '/auth/exchange_user_api_key', '/v1/agents//runs'])
    isError(await pool.http('GET', path), 404, 'not_found')
  isError(await pool.http('POST', '/auth/exchange_user_api_key', { body: {} }), 404, 'not_found')
  for (const path of ['/v1/agents/', `/v1/agents/${a.id}/`, `/v1/agents/${a.id}/runs/`, '/v1/me/', '/healthz/', '//v1/agents'])
    assert.equal((await pool.http('GET', path)).status, 200, path)
  assert.equal((await pool.http('POST', '/v1/agents/', { body: valid() })).status, 201)
  const head = await raw(pool.url, 'HEAD', '/v1/me', { headers: { authorization: `Bearer ${pool.userKey}` } })
  assert.equal(head.status, 200)
  assert.equal(head.text, '')
})

test('credentials: Basic and Bearer are equal; everything else is the same 401', async t => {
  const pool = await bullpen(t)
  const basic = text => `Basic ${Buffer.from(text).toString('base64')}`
  const me = headers => raw(pool.url, 'GET', '/v1/me', { headers })
  const key = pool.userKey
  for (const authorization of [`Bearer ${key}`, `bearer ${key}`, basic(`${key}:`), basic(`${key}:ignored`), `basic ${Buffer.from(`${key}:`).toString('base64')}`])
    assert.equal((await me({ authorization })).json?.apiKeyName, 'dev', authorization.slice(0, 12))
  const revoked = await pool.createKey('user', 'old', 'old@example.test')
  assert.equal((await me({ authorization: `Bearer ${revoked}` })).status, 200)
  assert.equal((await run(t, programs.bullpen, ['admin', 'key', 'revoke', '--data', pool.data, revoked])).code, 0)
  await until('the key is revoked', async () => (await me({ authorization: `Bearer ${revoked}` })).status === 401)
  const texts = new Set()
  for (const headers of [{}, { authorization: '' }, { authorization: key }, { authorization: 'Bearer' }, { authorization: 'Bearer ' }, { authorization: `Bearer ${key}x` }, { authorization: `Bearer ${key.slice(0, -1)}` },
    { authorization: 'Basic !!!' }, { authorization: basic(key) + 'x' }, { authorization: basic(`:${key}`) }, { authorization: basic('') }, { authorization: `Token ${key}` }, { authorization: `Bearer ${key} ${key}` },
    { authorization: `Bearer ${revoked}` }, { authorization: basic(`${revoked}:`) }, { authorization: [`Bearer ${key}`, `Bearer ${key}`] }, { authorization: [`Bearer ${key}`, basic(`${key}:`)] }, { authorization: `Bearer ${'x'.repeat(20000)}` }]) {
    const r = await me(headers)
    if (r.status === 431) continue // a header that the HTTP layer refuses
    isError(r, 401, 'unauthorized')
    assert.equal(r.headers['www-authenticate'], 'Basic realm="api"')
    texts.add(r.text)
  }
  assert.equal(texts.size, 1, 'the answer does not tell what was wrong')
  for (const [method, path] of [['GET', '/v1/agents'], ['POST', '/v1/agents'], ['GET', `/v1/agents/${none}`], ['GET', `/v1/agents/${none}/runs/${noRun}/stream`], ['POST', `/v1/agents/${none}/runs/${noRun}/cancel`], ['GET', '/v1/models']])
    isError(await pool.http(method, path, { key: null, body: method === 'POST' ? '{' : undefined }), 401, 'unauthorized')
})

test('limit, cursor and booleans of a list are strict', async t => {
  const pool = await bullpen(t)
  const a = (await pool.http('POST', '/v1/agents', { body: valid() })).json.agent
  for (const path of ['/v1/agents', `/v1/agents/${a.id}/runs`]) {
    for (const limit of ['0', '101', '-1', '1.5', 'x', '', '1e1', '99999999999999999999', '%20 5', '0x10', '5%00'])
      isError(await pool.http('GET', `${path}?limit=${limit}`), 400, 'validation_error', /./)
    for (const limit of [1, 100]) assert.equal((await pool.http('GET', `${path}?limit=${limit}`)).json.items.length, 1)
    for (const cursor of ['', 'x', '%', '!!!!', Buffer.from('1').toString('base64url'), Buffer.from(',x').toString('base64url'), Buffer.from('x,y').toString('base64url'), Buffer.from('1,').toString('base64url'), 'A'.repeat(500)])
      isError(await pool.http('GET', `${path}?cursor=${cursor}`), 400, 'validation_error', /./)
  }
  for (const v of ['1', 'yes', 'TRUE', '', 'null']) isError(await pool.http('GET', `/v1/agents?includeArchived=${v}`), 400, 'validation_error', /includeArchived/)
  for (const v of ['true', 'false']) assert.equal((await pool.http('GET', `/v1/agents?includeArchived=${v}`)).json.items.length, 1)
  isError(await pool.http('GET', '/v1/agents?limit=%zz'), 400, 'validation_error')
  isError(await pool.http('GET', '/v1/agents?cursor=%ff'), 400, 'validation_error')
  assert.deepEqual((await pool.http('GET', `/v1/agents?prUrl=${encodeURIComponent(`${REPO}/pull/7`)}`)).json, { items: [] })
})

test('over the rate limit: 429 with the headers that say when, for one principal and class of requests only', async t => {
  const pool = await bullpen(t, { config: '[limits]\nreads_per_minute = 5\nmutations_per_minute = 2\n' })
  for (let i = 0; i < 5; i++) {
    const r = await pool.http('GET', '/v1/me')
    assert.equal(r.status, 200)
    assert.equal(r.headers.get('x-ratelimit-limit'), null, 'a good answer carries no such header')
  }
  const r = await pool.http('GET', '/v1/agents')
  isError(r, 429, 'rate_limit_exceeded')
  assert.equal(r.headers.get('x-ratelimit-limit'), '5')
  assert.equal(r.headers.get('x-ratelimit-remaining'), '0')
  const wait = Number(r.headers.get('retry-after')), reset = Number(r.headers.get('x-ratelimit-reset'))
  assert.ok(Number.isInteger(wait) && wait >= 1 && wait <= 13, `retry-after ${wait}`)
  assert.ok(reset * 1000 > Date.now() && reset * 1000 < Date.now() + 65000, `reset ${reset}`)
  assert.equal((await pool.http('POST', '/v1/agents', { body: valid() })).status, 201, 'mutations are counted apart')
  assert.equal((await pool.http('POST', '/v1/agents', { body: '{' })).status, 400, 'a bad request counts too')
  const m = await pool.http('POST', '/v1/agents', { body: valid() })
  isError(m, 429, 'rate_limit_exceeded')
  assert.equal(m.headers.get('x-ratelimit-limit'), '2')
  isError(await pool.http('GET', '/v1/me', { key: `${pool.userKey}x` }), 401, 'unauthorized')
  assert.equal((await pool.http('GET', '/v1/me', { key: pool.poolKey })).status, 200, 'another principal has its own')
  assert.equal((await pool.http('GET', '/healthz', { key: null })).status, 200, 'health is not counted')
})

test('every answer names its request; the client cannot choose that name', async t => {
  const pool = await bullpen(t)
  const ids = new Set()
  for (const path of ['/v1/me', '/v1/agents', '/healthz', '/nothing', `/v1/agents/${none}`]) {
    const r = await pool.http('GET', path, { headers: { 'x-request-id': 'mine', 'if-none-match': '*' } })
    hasHeaders(r)
    ids.add(r.headers.get('x-request-id'))
  }
  assert.equal(ids.size, 5)
})

test('HTTP/2: the same answers as HTTP/1.1, many on one connection', async t => {
  const pool = await bullpen(t)
  const c = h2(t, pool.url, pool.userKey)
  const made = await c.request('POST', '/v1/agents', { body: valid() })
  assert.equal(made.status, 201)
  hasHeaders(made)
  const a = made.json.agent
  assert.deepEqual((await c.request('GET', `/v1/agents/${a.id}`)).json, (await pool.http('GET', `/v1/agents/${a.id}`)).json)
  isError(await c.request('POST', '/v1/agents'), 400, 'missing_body')
  isError(await c.request('POST', '/v1/agents', { body: valid({ x: 1 }) }), 400, 'validation_error', /'x'/)
  isError(await c.request('GET', `/v1/agents/${none}`), 404, 'agent_not_found')
  isError(await c.request('PUT', '/v1/agents'), 405, 'method_not_allowed')
  isError(await h2(t, pool.url).request('GET', '/v1/me'), 401, 'unauthorized')
  isError(await c.request('POST', `/v1/agents/${a.id}/runs/${a.latestRunId}/cancel`, { body: 'x'.repeat((1 << 20) + 1) }), 413, 'validation_error')
  const all = await Promise.all(Array.from({ length: 100 }, (_, i) => c.request('GET', i % 2 ? '/v1/me' : '/v1/agents?limit=1')))
  assert.ok(all.every(r => r.status === 200))
})
