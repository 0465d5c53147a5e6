// Real models: the whole way from a prompt to a pushed branch, with a stand-in where the model would be.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, programs, root, run, tempDir, until } from './lib.mjs'
import { modelServer, provider } from './models-help.mjs'

const call = (name, args) => ({ name, arguments: args })
const key = 'sk-secret-0123456789'

for (const type of ['openai', 'anthropic']) {
  test(`${type}: a task with calls in parallel ends with a pushed branch`, async t => {
    const m = await modelServer(t, { key })
    const keyFile = path.join(tempDir(t), 'key')
    fs.writeFileSync(keyFile, `${key}\n`)
    const pool = await bullpen(t, { config: provider(m, type, { more: `api_key_file = "${keyFile}"\nheaders = { x-team = "blue" }`, model: 'parameters = { temperature = 0.25 }' }) })
    await pool.worker()
    m.next({ answer: { text: 'Ich schau nach: ä€😀.', thinking: 'What is there?', usage: { input: 100, output: 20, cached: type === 'openai' ? 40 : 60 },
      calls: [call('list_dir', { path: '.' }), call('read_file', { path: 'README.md' }), call('write_file', { path: 'NEW.md', fileText: 'größer "quoted"\n' })] }, split: 1 })
    m.next({ answer: { text: 'Done: NEW.md.', usage: { input: 30, output: 7 } } })
    const r = await pool.run('Add NEW.md')
    const end = await r.end()
    assert.equal(end.status, 'FINISHED', JSON.stringify(end))
    assert.equal(end.result, 'Done: NEW.md.')
    const branch = end.git.branches[0].branch
    assert.equal(await (await pool.origin()).show(branch, 'NEW.md'), 'größer "quoted"')

    assert.deepEqual(m.requests.map(q => q.refused), [null, null])
    const [first, second] = m.requests
    assert.equal(first.body.model, 'clever-1')
    assert.equal(first.body.temperature, 0.25)
    assert.equal(first.headers['x-team'], 'blue')
    assert.equal(m.connections, 1, 'the connection is kept')
    const text = JSON.stringify(second.body.messages)
    assert.match(text, /Ich schau nach: ä€😀\./)
    assert.match(text, /hello/)
    if (type === 'openai') {
      assert.deepEqual(second.body.messages.map(x => x.role), ['system', 'user', 'assistant', 'tool', 'tool', 'tool'])
      assert.deepEqual(second.body.messages.slice(0, 2), first.body.messages)
    } else {
      assert.deepEqual(second.body.messages.map(x => x.role), ['user', 'assistant', 'user'])
      assert.deepEqual(second.body.messages[2].content.map(b => b.type), ['tool_result', 'tool_result', 'tool_result'])
      assert.deepEqual(second.body.system, first.body.system)
    }
    assert.deepEqual(second.body.tools, first.body.tools)

    const events = await r.events()
    const ended = events.find(e => e.event === 'interaction_update' && e.data.type === 'turn-ended')
    // In the one format the cached tokens are part of the prompt's, in the other they are not.
    assert.deepEqual(ended.data.usage, { inputTokens: type === 'openai' ? 90 : 130, outputTokens: 27, cacheReadTokens: type === 'openai' ? 40 : 60, cacheWriteTokens: 0 })
    const everything = JSON.stringify(events) + pool.server.stderr + pool.server.stdout
    assert.ok(!everything.includes(key), 'the key is told to nobody')
  })

  test(`${type}: an answer in one piece does as well`, async t => {
    const m = await modelServer(t)
    const pool = await bullpen(t, { config: provider(m, type) })
    await pool.worker()
    m.next({ answer: { text: 'x', calls: [call('list_dir', { path: '.' })] }, whole: true })
    m.next({ answer: { text: 'Done.' }, whole: true, type: 'text/plain' })
    assert.equal((await (await pool.run('Go')).end()).result, 'Done.')
    assert.equal(m.requests.length, 2)
  })
}

test('models, their parameters and variants are listed, chosen and sent', async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'openai', { model: 'display_name = "Clever"\naliases = ["smart"]\n[[models.providers.models.options]]\nid = "effort"\nvalues = ["low", "high"]\ndefault = "low"\nfield = "reasoning.effort"' }) })
  const listed = (await pool.http('GET', '/v1/models')).json.items
  assert.deepEqual(listed.map(x => x.id), ['clever', 'playbook'])
  assert.deepEqual(listed[0].aliases, ['smart'])
  assert.deepEqual(listed[0].parameters, [{ id: 'effort', displayName: 'effort', values: [{ value: 'low', displayName: 'low' }, { value: 'high', displayName: 'high' }] }])
  assert.deepEqual(listed[0].variants.map(v => [v.params[0].value, v.isDefault]), [['low', true], ['high', false]])
  for (const x of listed) assert.equal(x.variants.filter(v => v.isDefault).length, 1)
  await pool.worker()
  const effort = async model => {
    const r = await pool.run('Go', { extra: model ? { model } : {} })
    await r.status('FINISHED')
    return m.requests.at(-1).body.reasoning.effort
  }
  assert.equal(await effort(), 'low')
  assert.equal(await effort({ id: 'smart', params: [{ id: 'effort', value: 'high' }] }), 'high')
  const refused = await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, repos: [{ url: (await pool.origin()).url }], model: { id: 'clever', params: [{ id: 'effort', value: 'max' }] } } })
  assert.equal(refused.status, 400)
  assert.match(refused.text, /must be one of low, high/)
})

test('a choice of a model is filled from its default variant, and must be one of its variants; it holds until another is made', async t => {
  const m = await modelServer(t)
  const options = 'aliases = ["smart"]\n[[models.providers.models.options]]\nid = "effort"\nvalues = ["low", "high"]\ndefault = "high"\nfield = "effort"\n[[models.providers.models.options]]\nid = "fast"\nvalues = [true, false]\nfield = "fast"\n'
  const pool = await bullpen(t, { config: `[models]\ndefault = "smart"\n${provider(m, 'openai').replaceAll('"stand-in"', '"first"').replaceAll('"clever"', '"plain"')}${provider(m, 'openai', { model: options })}` })
  await pool.worker()
  const items = (await pool.http('GET', '/v1/models')).json.items
  assert.deepEqual(items.map(x => x.id), ['clever', 'plain', 'playbook'], 'the default comes first, and no entry stands for it')
  assert.equal(items[0].variants.length, 4)
  assert.deepEqual(items.map(x => x.variants.filter(v => v.isDefault).map(v => v.params)), [[[{ id: 'effort', value: 'high' }, { id: 'fast', value: 'true' }]], [[]], [[]]])
  const chosen = () => { const b = m.requests.at(-1).body; return [b.effort, b.fast] }
  const param = (id, value) => ({ id, value })
  for (const [model, expected] of [[undefined, ['high', true]], [{ id: 'default' }, ['high', true]], [{ id: 'auto', params: [param('effort', 'low')] }, ['low', true]], [{ id: 'smart', params: [param('fast', 'false')] }, ['high', false]],
    [{ id: 'clever', params: [param('fast', 'false'), param('effort', 'low')] }, ['low', false]], [{ id: 'clever', params: [] }, ['high', true]], [{ id: 'plain' }, [undefined, undefined]]]) {
    await (await pool.run('Go', { extra: model ? { model } : {} })).status('FINISHED')
    assert.deepEqual(chosen(), expected, JSON.stringify(model))
  }
  const first = await pool.run('Go', { extra: { model: { id: 'clever', params: [param('effort', 'low')] } } })
  await first.status('FINISHED')
  const second = await first.followUp('And')
  await second.status('FINISHED')
  assert.deepEqual(chosen(), ['low', true], 'a follow-up without a model keeps it')
  const third = await second.followUp('And', { model: { id: 'default' } })
  await third.status('FINISHED')
  await (await third.followUp('And')).status('FINISHED')
  assert.deepEqual(chosen(), ['high', true], 'and one with a model changes it')
  const asked = m.requests.length, body = model => ({ prompt: { text: 'x' }, model })
  for (const [model, code, pattern] of [[{ id: 'Smart' }, 'invalid_model', /no model 'Smart'/], [{ id: 'clever', params: [param('effort', 'HIGH')] }, 'invalid_model', /must be one of low, high, not 'HIGH'/], [{ id: 'clever', params: [param('speed', '1')] }, 'invalid_model', /has no parameter 'speed'/],
    [{ id: 'clever', params: [param('effort', 'low'), param('effort', 'high')] }, 'invalid_model', /given twice/], [{ id: 'plain', params: [param('effort', 'low')] }, 'invalid_model', /has no parameter/], ['clever', 'validation_error', /'model' must be an object/],
    [{}, 'validation_error', /'model.id' is required/], [{ id: '' }, 'validation_error', /non-empty/], [{ id: 'clever', params: [{ id: 'fast', value: false }] }, 'validation_error', /must be a string/], [{ id: 'clever', params: [param('effort', '')] }, 'validation_error', /non-empty/], [{ id: 'clever', params: [{ id: 'effort' }] }, 'validation_error', /is required/]]) {
    for (const [path, more] of [['/v1/agents', { repos: [{ url: (await pool.origin()).url }] }], [`/v1/agents/${third.agentId}/runs`, {}]]) {
      const r = await pool.http('POST', path, { body: { ...body(model), ...more } })
      assert.deepEqual([r.status, r.json.error?.code], [400, code], JSON.stringify(model))
      assert.match(r.json.error.message, pattern)
    }
  }
  assert.equal(m.requests.length, asked)
})

test('settings that are wrong refuse the start with one line that names the key', async t => {
  const pool = await bullpen(t, { start: false })
  fs.writeFileSync(pool.configFile, '[models]\n[[models.providers]]\nname = "a"\ntype = "openai"\nbase_url = "http://h/v1"\napi_key_file = "/nowhere/key"\n')
  const p = await run(t, programs.bullpen, ['serve', '--config', pool.configFile, '--data', pool.data])
  assert.equal(p.code, 2)
  assert.equal(p.stderr, 'error: models.providers[0].api_key_file: cannot read /nowhere/key: not found\n')
})

test('without a file the environment is enough, and the server is asked for its models', async t => {
  const m = await modelServer(t, { key })
  m.models = ['local/one', 'two']
  const pool = await bullpen(t, { start: false })
  await pool.start({ env: { OPENAI_BASE_URL: `${m.url}/v1`, OPENAI_API_KEY: key } })
  assert.deepEqual((await pool.http('GET', '/v1/models')).json.items.map(x => x.id), ['local/one', 'two', 'playbook'])
  await pool.worker()
  assert.equal((await (await pool.run('Go')).end()).result, 'Done.')
  assert.equal(m.requests[0].body.model, 'local/one')
  await pool.stop()
  await m.kill()
  await pool.start({ env: { OPENAI_BASE_URL: `${m.url}/v1`, OPENAI_API_KEY: key } })
  assert.deepEqual((await pool.http('GET', '/v1/models')).json.items.map(x => x.id), ['playbook'])
  await pool.stop()
  await pool.start({ env: { ANTHROPIC_API_KEY: key, ANTHROPIC_BASE_URL: m.url, ANTHROPIC_MODEL: 'c' } })
  assert.deepEqual((await pool.http('GET', '/v1/models')).json.items.map(x => x.id), ['c', 'playbook'])
})

test('a follow-up tells the model the whole conversation', async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'anthropic') })
  await pool.worker()
  const first = await pool.run('One')
  await first.status('FINISHED')
  const second = await first.followUp('Two')
  await second.status('FINISHED')
  assert.deepEqual(m.requests[1].body.messages.map(x => [x.role, x.content[0].text]), [['user', 'One'], ['assistant', 'Done.'], ['user', 'Two']])
  assert.equal(m.requests[1].body.messages.at(-1).content[0].cache_control.type, 'ephemeral')
})

test('a server with a certificate of an authority of one\'s own is trusted by ca_file only', async t => {
  const dir = tempDir(t), at = name => path.join(dir, name)
  const made = await run(t, 'openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=test',
    '-addext', 'subjectAltName=IP:127.0.0.1', '-keyout', at('key.pem'), '-out', at('cert.pem')])
  assert.equal(made.code, 0, made.stderr)
  const m = await modelServer(t, { tls: { key: fs.readFileSync(at('key.pem')), cert: fs.readFileSync(at('cert.pem')) } })
  const other = p => p.replaceAll('"stand-in"', '"other"').replaceAll('"clever"', '"distrusted"')
  const pool = await bullpen(t, { config: provider(m, 'openai', { more: `ca_file = "${at('cert.pem')}"` }) + other(provider(m, 'openai')) })
  await pool.worker()
  m.next({ answer: { text: 'x', calls: [call('list_dir', { path: '.' })] } })
  assert.equal((await (await pool.run('Go')).end()).result, 'Done.')
  assert.equal(m.connections, 1, 'the connection is kept')
  const r = await (await pool.run('Go', { extra: { model: { id: 'distrusted' } } })).end()
  assert.equal(r.status, 'ERROR')
  assert.match(r.error.message, /certificate.*: name a private CA's file in ca_file of provider 'other'/)
})

test('anthropic: what it thought is given back with its signature while it works', async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'anthropic', { model: 'thinking_budget = 2048\n' }) })
  await pool.worker()
  m.next({ answer: { thinking: 'I should look: ä.', signature: 'c2lnbmVk', redacted: 'cmVkYWN0ZWQ=', text: 'Looking.', calls: [call('list_dir', { path: '.' })] } })
  const r = await pool.run('Go')
  assert.equal((await r.end()).status, 'FINISHED')
  assert.deepEqual(m.requests.map(q => q.refused), [null, null])
  assert.deepEqual(m.requests[1].body.messages[1].content.slice(0, 3), [
    { type: 'thinking', thinking: 'I should look: ä.', signature: 'c2lnbmVk' }, { type: 'redacted_thinking', data: 'cmVkYWN0ZWQ=' }, { type: 'text', text: 'Looking.' }])
  assert.deepEqual(m.requests[1].body.thinking, { type: 'enabled', budget_tokens: 2048 })
})

for (const type of ['openai', 'anthropic']) {
  test(`${type}: a conversation that is too long is shortened and sent again`, async t => {
    const m = await modelServer(t)
    const pool = await bullpen(t, { config: provider(m, type) })
    await pool.worker()
    const look = n => ({ answer: { text: `Step ${n}.`, calls: [call('run_terminal_cmd', { command: `seq 1 3000; : ${n}` })] } })
    for (let n = 0; n < 8; n++) m.next(look(n))
    let refusals = 0
    m.otherwise = body => {
      if (JSON.stringify(body.messages).length < 60_000) return { answer: { text: 'Done.' } }
      refusals++
      return { status: 400, message: type === 'openai' ? "This model's maximum context length is 8192 tokens." : 'prompt is too long: 9000 tokens > 8192 maximum', code: type === 'openai' ? 'context_length_exceeded' : undefined }
    }
    const end = await (await pool.run('Go')).end()
    assert.equal(end.status, 'FINISHED', JSON.stringify(end))
    assert.ok(refusals > 0)
    assert.deepEqual(m.requests.map(q => q.refused).filter(Boolean), [])
  })

  test(`${type}: text that was said before a stream broke is not shown twice`, async t => {
    const m = await modelServer(t)
    const pool = await bullpen(t, { config: provider(m, type) })
    await pool.worker()
    const answer = { text: 'One sentence, and then another one, until it breaks off; it is long enough to be cut in the middle of it.' }
    m.next({ answer, split: 200, cutAt: type === 'openai' ? 2500 : 1500 }, { answer })
    const r = await pool.run('Go')
    assert.equal((await r.end()).result, answer.text)
    assert.equal(m.requests.length, 2)
    const said = (await r.events()).filter(e => e.event === 'assistant').map(e => e.data.text).join('')
    assert.equal(said, answer.text)
  })
}

test('the examples of docs/models.md are accepted', async t => {
  const blocks = fs.readFileSync(path.join(root, 'docs/models.md'), 'utf8').match(/(^ {4}.*\n|^\n(?= {4}))+/gm).filter(b => b.includes('[[models.providers]]'))
  assert.equal(blocks.length, 6)
  for (const block of blocks) {
    // Files and variables of the examples are not here.
    const config = block.replace(/^ {4}/gm, '').replace(/^(api_key_file|api_key_env|ca_file) = .*\n/gm, '')
    const pool = await bullpen(t, { config })
    const models = (await pool.http('GET', '/v1/models')).json.items
    assert.equal(models.at(-1).id, 'playbook')
    assert.ok(models.length > 1)
    await pool.stop()
  }
})

test('a tool call written as text is corrected once, then the run ends and names the parser', async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'openai') })
  await pool.worker()
  const asText = '<tool_call>\n{"name": "write_file", "arguments": {"path": "a.txt", "fileText": "A"}}\n</tool_call>'
  m.next({ answer: { text: asText } }, { answer: { text: '', calls: [call('write_file', { path: 'a.txt', fileText: 'A' })] } }, { answer: { text: 'Done.' } })
  const good = await pool.run('Write a.txt')
  const end = await good.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  assert.equal(end.result, 'Done.')
  assert.equal(await (await pool.origin()).show(end.git.branches[0].branch, 'a.txt'), 'A')
  assert.equal(m.requests.length, 3)
  const [said, told] = m.requests[1].body.messages.slice(-2)
  assert.deepEqual([said.role, said.content], ['assistant', asText])
  assert.equal(told.role, 'user')
  assert.match(told.content, /must come as the structured tool calls/)

  m.next({ answer: { text: asText } }, { answer: { text: `Again: [TOOL_CALLS][{"name": "read_file"}]` } })
  const bad = await (await pool.run('Write b.txt')).end()
  assert.equal(bad.status, 'ERROR')
  assert.equal(bad.error.code, 'tool_calls_as_text')
  assert.match(bad.error.message, /model clever .*parser of tool calls .*--enable-auto-tool-choice --tool-call-parser/)
  assert.equal(m.requests.length, 5)
  // What only shows such a call is an answer.
  m.next({ answer: { text: `Hermes writes \`${asText}\`.` } })
  assert.equal((await (await pool.run('Explain')).end()).status, 'FINISHED')
})

test('the correction is remembered over a crash of the server', async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'openai') })
  await pool.worker()
  const asText = '<function=read_file><parameter=path>README.md</parameter></function>'
  m.next({ answer: { text: asText } }, { answer: { text: 'x'.repeat(3000) }, stallAt: 200 })
  const run = await pool.run('Go')
  await until('the second request is under way', () => m.stalled === 1)
  await pool.crash()
  m.next({ answer: { text: asText } })
  await pool.restart()
  const end = await run.end()
  assert.equal(end.error?.code, 'tool_calls_as_text', JSON.stringify(end))
  assert.equal(m.requests.length, 3)
})

test('names and arguments that are nearly right are understood', async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'openai') })
  await pool.worker()
  m.next({ answer: { calls: [
    call('functions.write_file', { path: 'a.txt', fileText: 'A' }), call('write_file<|channel|>commentary', { path: 'b.txt', fileText: 'B' }),
    call('write_file', JSON.stringify(JSON.stringify({ path: 'c.txt', fileText: 'C' }))), call('read_file', { path: 'README.md', limit: '1' }),
  ] } }, { answer: { text: 'Done.' } })
  const run = await pool.run('Go')
  const end = await run.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  for (const [f, text] of [['a.txt', 'A'], ['b.txt', 'B'], ['c.txt', 'C']]) assert.equal(await (await pool.origin()).show(end.git.branches[0].branch, f), text)
  const calls = (await run.events()).filter(e => e.event === 'tool_call' && e.data.status === 'completed')
  assert.deepEqual(calls.map(c => c.data.name), ['write_file', 'write_file', 'write_file', 'read_file'])
  assert.ok(calls.every(c => c.data.result.success), JSON.stringify(calls))
})

for (const field of ['reasoning_content', 'reasoning']) {
  test(`what was thought before a call goes back as ${field}, also after a crash`, async t => {
    const m = await modelServer(t)
    const pool = await bullpen(t, { config: provider(m, 'openai') })
    await pool.worker()
    const gate = path.join(pool.dir, 'gate')
    m.next({ answer: { thinking: 'First I look.', thinkingField: field, calls: [call('run_terminal_cmd', { command: `touch ${gate}-reached; until test -e ${gate}; do sleep 0.05; done` })] } })
    const run = await pool.run('Go')
    await until('the command runs', () => fs.existsSync(`${gate}-reached`))
    await pool.crash()
    await pool.restart()
    fs.writeFileSync(gate, '')
    m.next({ answer: { thinking: 'And the end.', thinkingField: field, text: 'Done.' } })
    assert.equal((await run.end()).status, 'FINISHED')
    const other = field === 'reasoning' ? 'reasoning_content' : 'reasoning'
    const sent = m.requests[1].body.messages.find(x => x.role === 'assistant')
    assert.equal(sent[field], 'First I look.')
    assert.ok(!(other in sent))
    // Of an answer nobody wants it back, of the calls of an earlier run still.
    assert.equal((await (await run.followUp('More')).end()).status, 'FINISHED')
    assert.deepEqual(m.requests[2].body.messages.filter(x => x.role === 'assistant').map(x => x[field]), ['First I look.', undefined])
  })
}

test('a base_url without the /v1 that the server wants is told, one with a / at its end is taken', async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'openai').replace('/v1"', '/"') })
  await pool.worker()
  const end = await (await pool.run('Go')).end()
  assert.match(end.error.message, /answered 404.*: check base_url of provider 'stand-in' \(most servers want \/v1 at its end\)/)
  fs.writeFileSync(pool.configFile, fs.readFileSync(pool.configFile, 'utf8').replace(`${m.url}/"`, `${m.url}/v1/"`))
  await pool.stop()
  await pool.restart()
  assert.equal((await (await pool.run('Go')).end()).status, 'FINISHED')
})

test('in the terminal, output that does not follow its call says whose it is', async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'openai') })
  await pool.worker()
  m.next({ answer: { calls: [call('run_terminal_cmd', { command: 'echo one' }), call('list_dir', {})] } }, { answer: { calls: [call('run_terminal_cmd', { command: 'echo two' })] } })
  const run = await pool.run('Go')
  await run.end()
  const p = pool.cli(['logs', run.id])
  await p.exited
  assert.match(p.stdout, /^→ run_terminal_cmd echo one\n→ list_dir\n {2}┌ echo one\n {2}│ one\n✓ run_terminal_cmd/m)
  assert.match(p.stdout, /^→ run_terminal_cmd echo two\n {2}│ two\n✓ run_terminal_cmd/m)
})

test('return_reasoning = false keeps it to ourselves', async t => {
  const m = await modelServer(t)
  const pool = await bullpen(t, { config: provider(m, 'openai', { more: 'return_reasoning = false' }) })
  await pool.worker()
  m.next({ answer: { thinking: 'First I look.', calls: [call('list_dir', {})] } })
  assert.equal((await (await pool.run('Go')).end()).status, 'FINISHED')
  assert.doesNotMatch(m.requests[1].text, /First I look|reasoning/)
})
