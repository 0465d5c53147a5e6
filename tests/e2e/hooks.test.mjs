// Hooks: what a repository, a machine and a team attach to the agent loop.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, sh, file, tool, checkEvents, until } from './lib.mjs'
import { hooked, record, say, finished } from './hooks-help.mjs'

const ALL = ['sessionStart', 'sessionEnd', 'beforeSubmitPrompt', 'preToolUse', 'postToolUse', 'postToolUseFailure', 'beforeShellExecution', 'afterShellExecution', 'beforeMCPExecution', 'afterMCPExecution', 'beforeReadFile', 'afterFileEdit', 'subagentStart', 'subagentStop', 'preCompact', 'afterAgentResponse', 'afterAgentThought', 'stop']

const recordAll = (log, more = {}) => Object.fromEntries(ALL.map(e => [e, [record(log), ...(more[e] ?? [])]]))

test('a committed hook denies a command; the model hears why and is told not to look for a way around', async t => {
  const pool = await hooked(t, { beforeShellExecution: [{ matcher: 'curl|wget', ...say({ permission: 'deny', user_message: 'no network', agent_message: 'the network is off limits' }) }] })
  const { calls, r } = await finished(pool, sh('curl http://127.0.0.1:1/') + sh('echo fine'))
  assert.equal(calls.length, 2)
  assert.match(JSON.stringify(calls[0].result), /Blocked by hook cat >\/dev\/null; echo .*: no network/)
  assert.match(JSON.stringify(calls[0].result), /hook_denied/)
  assert.equal(calls[1].result.success.exitCode, 0)
  assert.match(r.result, /1 of 2/)
})

test('the order of events: commands that work and fail, reading, writing, editing, refusals', async t => {
  const pool = await hooked(t, log => recordAll(log, { preToolUse: [{ matcher: 'Delete', command: 'exit 2' }] }))
  const order = async prompt => {
    const before = pool.seen().length
    await finished(pool, prompt)
    return pool.seen().slice(before).filter(e => !e.hook_event_name.startsWith('session')).map(e => e.hook_event_name + (e.tool_name ? `(${e.tool_name})` : ''))
  }
  const around = list => ['beforeSubmitPrompt', ...list, 'afterAgentResponse', 'stop']
  assert.deepEqual(await order(sh('echo hi')), around(['preToolUse(Shell)', 'beforeShellExecution', 'afterShellExecution', 'postToolUse(Shell)']))
  assert.deepEqual(await order(sh('echo out; exit 3')), around(['preToolUse(Shell)', 'beforeShellExecution', 'afterShellExecution', 'postToolUseFailure(Shell)']))
  assert.deepEqual(await order(tool('read_file', { path: 'README.md' })), around(['preToolUse(Read)', 'beforeReadFile', 'postToolUse(Read)']))
  assert.deepEqual(await order(file('a.txt', 'one')), around(['preToolUse(Write)', 'afterFileEdit', 'postToolUse(Write)']))
  assert.deepEqual(await order(tool('edit_file', { path: 'README.md', oldText: 'hello', newText: 'bye' })),
    around(['preToolUse(Read)', 'beforeReadFile', 'postToolUse(Read)', 'preToolUse(Write)', 'afterFileEdit', 'postToolUse(Write)']))
  assert.deepEqual(await order(tool('delete_file', { path: 'README.md' })), around(['preToolUse(Delete)', 'postToolUseFailure(Delete)']))
  const all = pool.seen(), of = (e, type) => all.filter(x => x.hook_event_name === e && (!type || x.tool_name === type))
  for (const e of all) {
    assert.match(e.conversation_id, /^bc-/)
    assert.equal(e.session_id, e.conversation_id)
    assert.match(e.generation_id, /^run-/)
    assert.equal(e.model, 'playbook')
    assert.equal(e.user_email, 'dev@example.test')
    assert.equal(e.workspace_roots.length, 1)
  }
  const [failure] = of('postToolUseFailure', 'Shell')
  assert.equal(failure.failure_type, 'error')
  assert.match(failure.error_message, /out/)
  assert.equal(failure.is_interrupt, false)
  assert.equal(of('postToolUseFailure', 'Delete')[0].failure_type, 'permission_denied')
  assert.deepEqual(JSON.parse(of('postToolUse', 'Shell')[0].tool_output), { output: 'hi\n', exitCode: 0 })
  assert.deepEqual(of('preToolUse', 'Shell')[0].tool_input, { command: 'echo hi' })
  assert.equal(of('preToolUse', 'Shell')[0].cwd, all[0].workspace_roots[0])
  assert.equal(of('beforeReadFile')[0].content, 'hello\n')
  assert.deepEqual(of('afterFileEdit')[1].edits, [{ old_string: 'hello', new_string: 'bye' }])
  assert.deepEqual(of('afterFileEdit')[0].edits, [{ old_string: '', new_string: 'one\n' }])
  assert.equal(of('preToolUse', 'Write')[1].tool_input.content, 'bye\n')
  assert.equal(of('afterShellExecution')[0].output, 'hi\n')
})

test('a hook changes the command that runs; the log shows both; what does not fit the tool fails the call', async t => {
  const pool = await hooked(t, { preToolUse: [
    { matcher: 'Shell', command: `if grep -q spoil; then echo '{"updated_input":{"command":7}}'; else echo '{"permission":"allow","updated_input":{"command":"echo changed"}}'; fi` }] })
  const { calls } = await finished(pool, sh('echo original') + sh('echo spoil'))
  assert.equal(calls[0].args.command, 'echo original')
  assert.equal(calls[0].result.success.stdout, 'changed\n')
  assert.deepEqual(calls[0].result.success.hookUpdatedInput, { command: 'echo changed' })
  assert.match(JSON.stringify(calls[1].result), /as a hook changed its input: 'command' must be a string.*invalid_arguments/)
})

test('stop has the agent go on until its limit; nobody is asked for these prompts', async t => {
  const pool = await hooked(t, log => recordAll(log, { stop: [{ loop_limit: 2, ...say({ followup_message: 'Again.\n' + sh('echo again') }) }] }))
  const { run, calls } = await finished(pool, sh('echo first'))
  assert.deepEqual(calls.map(c => c.result.success.stdout), ['first\n', 'again\n', 'again\n'])
  const stops = pool.seen().filter(e => e.hook_event_name === 'stop')
  assert.deepEqual(stops.map(e => [e.status, e.loop_count]), [['completed', 0], ['completed', 1], ['completed', 2]])
  assert.equal(pool.events().filter(e => e === 'beforeSubmitPrompt').length, 1)
  // A prompt of a person begins anew.
  const next = await run.followUp(sh('echo second'))
  assert.equal((await next.end()).status, 'FINISHED')
  assert.equal(pool.seen().filter(e => e.hook_event_name === 'stop').length, 6)
  assert.equal(pool.events().filter(e => e === 'beforeSubmitPrompt').length, 2)
  assert.equal(pool.events().filter(e => e === 'sessionStart').length, 1)
})

test('a blocked prompt ends the run before the model hears it', async t => {
  const pool = await hooked(t, log => recordAll(log, { beforeSubmitPrompt: [{ command: `if grep -q sesame; then echo '{"continue":true}'; else echo '{"continue":false,"user_message":"say the word"}'; fi` }] }))
  const run = await pool.run(sh('echo hi'))
  const r = await run.end()
  assert.equal(r.status, 'ERROR')
  assert.equal(r.error.code, 'prompt_blocked')
  assert.match(r.error.message, /say the word/)
  assert.deepEqual(pool.events(), ['sessionStart', 'beforeSubmitPrompt'])
  const next = await run.followUp('Open sesame.\n' + sh('echo hi'))
  assert.equal((await next.end()).status, 'FINISHED')
})

test('sessionStart: once a claim, with the repositories; its variables reach later hooks and not the shell', async t => {
  const pool = await hooked(t, log => ({
    sessionStart: [record(log), say({ env: { FROM_HOOK: 'yes', CURSOR_X: 'no', LD_PRELOAD: 'no' }, additional_context: 'The build needs make.' })],
    beforeShellExecution: [{ command: `printf '{"hook_event_name":"env","from":"%s","cursor":"%s%s","remote":"%s","dir":"%s","key":"%s"}\\n' "$FROM_HOOK" "$CURSOR_X" "$LD_PRELOAD" "$CURSOR_CODE_REMOTE" "$CURSOR_PROJECT_DIR" "$CURSOR_API_KEY" >> ${log}` }],
    sessionEnd: [record(log)],
  }), { args: ['--on-session-start', 'cat > "$CURSOR_PROJECT_DIR/started.json"; echo "{}"'] })
  const { run, calls } = await finished(pool, sh('echo "[$FROM_HOOK]"; test -s started.json && echo started'))
  assert.equal(calls[0].result.success.stdout, '[]\nstarted\n')
  const origin = await pool.origin()
  const [start, env] = pool.seen()
  assert.deepEqual(start.repo_urls, [origin.url])
  assert.deepEqual(start.repos, [{ repo_url: origin.url, primary: true }])
  assert.equal(start.composer_mode, 'agent')
  assert.equal(start.is_background_agent, true)
  assert.deepEqual(env, { hook_event_name: 'env', from: 'yes', cursor: '', remote: 'true', dir: start.workspace_roots[0], key: '' })
  const next = await run.followUp(sh('echo more'))
  assert.equal((await next.end()).status, 'FINISHED')
  assert.equal(pool.events().filter(e => e === 'sessionStart').length, 1)
  assert.equal(pool.events().filter(e => e === 'sessionEnd').length, 0)
  pool.w.child.kill('SIGTERM')
  await pool.w.exited
  const ends = pool.seen().filter(e => e.hook_event_name === 'sessionEnd')
  assert.deepEqual(ends.map(e => e.reason), ['aborted'])
  assert.ok(ends[0].duration_ms >= 0)
})

test('context of postToolUse reaches the model, what failed shows in the log of the run', async t => {
  const { modelServer, provider } = await import('./models-help.mjs')
  const m = await modelServer(t)
  const asked = []
  m.otherwise = body => {
    asked.push(body)
    const last = body.messages.at(-1)
    return last.role === 'user' ? { answer: { calls: [{ name: 'run_terminal_cmd', arguments: { command: 'echo hi' } }] } } : { answer: { text: 'Done.' } }
  }
  const pool = await hooked(t, { sessionStart: [say({ additional_context: 'Build with make.' }), { command: 'echo broken >&2; exit 7' }], postToolUse: [say({ additional_context: 'ONE' }), say({ additional_context: 'TWO' })] },
    { config: provider(m, 'openai') })
  const { events } = await finished(pool, 'Say hi')
  assert.match(asked[0].messages[0].content, /Build with make\./)
  assert.match(asked.at(-1).messages.at(-1).content, /ONE\n\n---\n\nTWO$/)
  assert.match(JSON.stringify(events), /hook echo broken >&2; exit 7 for sessionStart exited with 7: broken/)
})

test('subagents: Task, start and stop; a denied one is not begun', async t => {
  const pool = await hooked(t, log => recordAll(log, { subagentStart: [{ matcher: 'shell', ...say({ permission: 'deny', user_message: 'no shells' }) }] }))
  const task = (subagent_type, prompt) => tool('task', { description: 'A piece', prompt, subagent_type })
  const { calls, run } = await finished(pool, task('generalPurpose', file('x.txt', 'x')) + task('shell', sh('echo no')))
  const list = pool.seen().filter(e => e.hook_event_name !== 'sessionStart').map(e => e.hook_event_name + (e.tool_name ? `(${e.tool_name})` : ''))
  assert.deepEqual(list, ['beforeSubmitPrompt', 'preToolUse(Task)', 'subagentStart', 'preToolUse(Write)', 'afterFileEdit', 'postToolUse(Write)', 'afterAgentResponse', 'subagentStop', 'postToolUse(Task)',
    'preToolUse(Task)', 'subagentStart', 'postToolUseFailure(Task)', 'afterAgentResponse', 'stop'])
  const stop = pool.seen().find(e => e.hook_event_name === 'subagentStop')
  assert.equal(stop.status, 'completed')
  assert.equal(stop.subagent_type, 'generalPurpose')
  assert.equal(stop.tool_call_count, 1)
  assert.equal(stop.modified_files.length, 1)
  assert.notEqual(stop.conversation_id, run.agentId)
  const start = pool.seen().find(e => e.hook_event_name === 'subagentStart')
  assert.equal(start.parent_conversation_id, run.agentId)
  assert.match(JSON.stringify(calls.filter(c => c.name === 'task')[1].result), /no shells/)
})

test('a hook cannot hang a call, keep the session, or flood it', async t => {
  const pool = await hooked(t, log => ({ preToolUse: [
    { matcher: 'Glob', timeout: 1, command: "(trap '' TERM; sleep 31415926) & sleep 300" },
    { matcher: 'Read', command: 'head -c 10485760 /dev/zero | tr "\\0" x' },
    { matcher: 'Grep', command: 'exec <&-; exit 0' },
    { matcher: 'LS', command: 'setsid sleep 300 & exit 0' },
    { matcher: 'Write', command: "printf '{\"permission\":\"allow\",\"user_message\":\"\\377\"}'" },
  ] }))
  const { calls } = await finished(pool, tool('file_search', { pattern: '*.md' }) + tool('read_file', { path: 'README.md' }) + tool('grep_search', { pattern: 'hello' }) + tool('list_dir', { path: '.' }) + file('a.txt', 'a'))
  const [glob, read, grep, ls, write] = ['file_search', 'read_file', 'grep_search', 'list_dir', 'write_file'].map(name => JSON.stringify(calls.find(c => c.name === name).result))
  // The child that held the output is gone with it.
  const left = fs.readdirSync('/proc').filter(d => /^\d+$/.test(d)).filter(d => { try { return fs.readFileSync(`/proc/${d}/cmdline`, 'utf8').includes('31415926') && fs.readFileSync(`/proc/${d}/environ`, 'utf8').includes(pool.dir) } catch { return false } })
  assert.deepEqual(left, [])
  assert.match(glob, /"success".*timed out after 1000 ms/)
  assert.match(read, /hook_denied.*printed more than 1 MiB/)
  assert.match(grep, /"success"/)
  assert.match(ls, /"success"/)
  assert.match(write, /hook_denied.*printed invalid UTF-8/)
})

test('what never runs here starts no process, and is told; a file that is no JSON costs the run nothing', async t => {
  const pool = await hooked(t, log => ({ preToolUse: [{ type: 'prompt', prompt: 'Is it safe?' }, { ...record(log), matcher: '(' }, { ...record(log), matcher: '*' }], beforeTabFileRead: [record(log)], afterTabFileEdit: [record(log)], workspaceOpen: [record(log)], madeUp: [record(log)] }))
  const { events } = await finished(pool, sh('echo hi'))
  assert.deepEqual(pool.events(), ['preToolUse'])
  const said = JSON.stringify(events)
  for (const part of [/preToolUse\[0\] is a prompt hook/, /preToolUse\[1\]\.matcher is not a regular expression/, /beforeTabFileRead belongs to editors/, /madeUp is not an event/]) assert.match(said, part)
  const broken = await hooked(t, '{"version": 1,\n"hooks": {,}}')
  const second = await finished(broken, sh('echo hi'))
  assert.match(JSON.stringify(second.events), /hooks\.json: not valid JSON: .*line 2/)
})

test('machine, repository and settings: all run, a denial of the lowest wins, a policy that cannot be read refuses the session', async t => {
  const pool = await hooked(t, log => ({ preToolUse: [say({ permission: 'deny', user_message: 'project says no' })] }), {
    prepare: pool => {
      pool.machine = path.join(pool.dir, 'etc')
      fs.mkdirSync(pool.machine)
      fs.writeFileSync(path.join(pool.machine, 'hooks.json'), JSON.stringify({ hooks: { preToolUse: [say({ permission: 'allow' }), { matcher: 'Write', ...say({ permission: 'deny', user_message: 'machine says no' }) }] } }))
      pool.env = { CURSOR_ENTERPRISE_HOOKS_DIR: pool.machine }
    }, worker: { ready: false },
  })
  await pool.w.kill()
  const w = await pool.worker({ env: pool.env })
  const { calls } = await finished(pool, file('a.txt', 'a'))
  assert.match(JSON.stringify(calls[0].result), /machine says no.*---.*project says no/)
  fs.writeFileSync(path.join(pool.machine, 'hooks.json'), '{')
  const run = await pool.run(sh('echo hi'))
  const r = await run.end()
  assert.equal(r.status, 'ERROR')
  assert.match(r.error.message, /hooks that are managed cannot be read/)
  await w.kill()
  fs.writeFileSync(path.join(pool.machine, 'hooks.json'), '{}')
  const home = path.join(pool.dir, 'config')
  fs.mkdirSync(path.join(home, 'bullpen'), { recursive: true })
  fs.writeFileSync(path.join(home, 'bullpen', 'agent.toml'), 'project_hooks = false\n')
  await pool.worker({ env: { ...pool.env, XDG_CONFIG_HOME: home } })
  const off = await finished(pool, file('a.txt', 'a'))
  assert.ok(off.calls[0].result.success)
})

test('the other format, where the worker is told to read it', async t => {
  const pool = await hooked(t, null, { files: { '.claude/settings.json': JSON.stringify({ hooks: {
    PreToolUse: [{ matcher: 'Bash', hooks: [{ type: 'command', command: 'cat >/dev/null; echo \'{"hookSpecificOutput":{"permissionDecision":"deny","permissionDecisionReason":"not here"}}\'' }] }],
    Stop: [{ hooks: [{ type: 'command', command: `if grep -q '"loop_count":0'; then echo '{"decision":"block","reason":"One more thing."}'; fi` }] }] } }) },
    prepare: pool => {
      fs.mkdirSync(path.join(pool.dir, 'config', 'bullpen'), { recursive: true })
      fs.writeFileSync(path.join(pool.dir, 'config', 'bullpen', 'agent.toml'), 'third_party_hooks = true\n')
    }, worker: { ready: false } })
  await pool.w.kill()
  await pool.worker({ env: { XDG_CONFIG_HOME: path.join(pool.dir, 'config') } })
  const { calls, events } = await finished(pool, sh('echo hi'))
  assert.match(JSON.stringify(calls[0].result), /not here/)
  assert.match(JSON.stringify(events), /One more thing\./)
})

test('a team keeps hooks on the control plane: workers get them by hash, scripts too; mistakes are refused', async t => {
  const pool = await hooked(t, log => ({ preToolUse: [record(log)] }))
  const admin = await pool.createKey('user', 'admin', 'admin@example.test', 'hooks:write')
  const put = body => pool.http('PUT', '/v1/hooks', { key: admin, body })
  assert.equal((await pool.http('PUT', '/v1/hooks', { body: { hooks: {} } })).status, 403)
  assert.deepEqual((await pool.http('GET', '/v1/hooks', { key: admin })).json, { hooks: {}, files: {}, hash: null })
  for (const [body, message] of [[{ hooks: { Stop: [] } }, /hooks\.Stop is not an event/], [{ hooks: { stop: [{}] } }, /hooks\.stop\[0\]\.command must be a text/], [{ hooks: { stop: [{ command: 'x', type: 'prompt' }] } }, /type must be "command"/], [{ files: { '../x': '' } }, /'\.\.\/x' must be a name/], [{ hooks: { stop: [{ command: 'x', loop_limit: -1 }] } }, /loop_limit/]]) {
    const r = await put(body)
    assert.equal(r.status, 400, r.text)
    assert.match(r.json.error.message, message)
  }
  const content = { hooks: { preToolUse: [{ matcher: 'Shell', command: './gate.sh' }] }, files: { 'gate.sh': '#!/bin/sh\ngrep -q forbidden && { echo "not in this team" >&2; exit 2; }\nexit 0\n' } }
  const kept = await put(content)
  assert.equal(kept.status, 200, kept.text)
  assert.match(kept.json.hash, /^[0-9a-f]{64}$/)
  const { calls } = await finished(pool, sh('echo forbidden') + sh('echo fine'))
  assert.match(JSON.stringify(calls[0].result), /Blocked by hook \.\/gate\.sh: not in this team/)
  assert.ok(calls[1].result.success)
  assert.match(pool.server.stderr, /audit\.team_hook/)
  // The next run knows them by their hash alone; what was changed since holds for it.
  const again = await finished(pool, sh('echo forbidden'))
  assert.match(JSON.stringify(again.calls[0].result), /not in this team/)
  assert.equal((await put({ hooks: {} })).json.hash, null)
  const free = await finished(pool, sh('echo forbidden'))
  assert.ok(free.calls[0].result.success)
})

test('agent hooks: what there is and what is wrong with it; trying the hooks of an event by hand', async t => {
  const pool = await bullpen(t)
  const dir = path.join(pool.dir, 'folder')
  fs.mkdirSync(path.join(dir, '.cursor'), { recursive: true })
  const put = config => fs.writeFileSync(path.join(dir, '.cursor', 'hooks.json'), typeof config === 'string' ? config : JSON.stringify(config))
  const cli = async (...args) => { const p = pool.cli(['hooks', ...args], { env: { CURSOR_ENTERPRISE_HOOKS_DIR: path.join(pool.dir, 'none'), HOME: pool.dir, XDG_CONFIG_HOME: pool.dir }, cwd: dir }); await p.exited; return p }
  assert.match((await cli('ls')).stdout, /no hooks here/)
  put({ hooks: { preToolUse: [{ command: 'exit 2', matcher: 'Shell' }], stop: [{ command: 'cat' }] } })
  const list = await cli('ls', '--json')
  assert.equal(list.code, 0)
  assert.deepEqual(JSON.parse(list.stdout)[0].hooks, [{ event: 'preToolUse', command: 'exit 2', matcher: 'Shell', timeoutMs: 60000, failClosed: false }, { event: 'stop', command: 'cat', timeoutMs: 60000, failClosed: false, loopLimit: 5 }])
  const denied = await cli('test', 'preToolUse', '--subject', 'Shell')
  assert.equal(denied.code, 1)
  assert.match(denied.stdout, /means: refused/)
  const other = await cli('test', 'preToolUse', '--subject', 'Read')
  assert.equal(other.code, 0)
  assert.match(other.stdout, /"ran":0/)
  put('{"hooks": {\n"stop": [')
  const broken = await cli('ls')
  assert.equal(broken.code, 1)
  assert.match(broken.stdout, /not valid JSON: .*line 2/)
  for (const [args, message] of [[[], /needs ls, or test EVENT/], [['test'], /needs an EVENT/], [['ls', 'x'], /takes no word/], [['test', 'Stop'], /is not an event/], [['ls', '--worker-dir', '/nowhere'], /is not a folder/]]) {
    const p = await cli(...args)
    assert.equal(p.code, 2)
    assert.match(p.stderr, message)
    assert.equal(p.stderr.trim().split('\n').length, 1)
  }
})

test('sessionEnd says why: a deleted agent, a released claim; a command in the background is told before it', async t => {
  const pool = await hooked(t, log => ({ sessionEnd: [record(log)], afterShellExecution: [record(log)] }))
  const first = await finished(pool, tool('run_terminal_cmd', { command: 'echo from behind; sleep 300', isBackground: true }) + sh('echo front; until grep -q behind "$CURSOR_AGENT_SCRATCH"/shell-*.log; do sleep 0.05; done'))
  assert.ok(first.calls.every(c => c.result.success))
  assert.equal((await pool.http('DELETE', `/v1/agents/${first.run.agentId}`)).status, 200)
  await until('the session has ended', () => pool.events().includes('sessionEnd'))
  assert.deepEqual(pool.seen().map(e => [e.hook_event_name, e.reason ?? e.output]), [['afterShellExecution', 'front\n'], ['afterShellExecution', 'from behind\n'], ['sessionEnd', 'user_close']])
  const second = await finished(pool, sh('echo two'))
  const fleet = await pool.http('POST', `/v0/private-workers/claims/${second.run.agentId}/release`, { key: pool.poolKey })
  assert.equal(fleet.status, 200, fleet.text)
  await until('the session has ended', () => pool.events().filter(e => e === 'sessionEnd').length === 2)
  assert.equal(pool.seen().at(-1).reason, 'aborted')
})

test('a server that was killed goes on behind what hooks have said', async t => {
  const pool = await hooked(t, log => recordAll(log, {
    beforeSubmitPrompt: [{ command: `echo x >> ${log}.prompts` }],
    stop: [{ command: `if grep -q '"loop_count":0'; then until [ -e ${log}.go ]; do sleep 0.05; done; echo '{"followup_message":"\`\`\`sh\\necho followed\\n\`\`\`"}'; fi` }] }))
  const log = path.join(pool.dir, 'seen.log')
  const run = await pool.run(sh('echo first'))
  await until('the hook of stop runs', () => pool.events().includes('stop'))
  await pool.crash()
  fs.writeFileSync(`${log}.go`, '')
  await pool.restart()
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  const { completed } = checkEvents(await run.events())
  assert.deepEqual([...completed.values()].map(c => c.result.success.stdout), ['first\n', 'followed\n'])
  assert.equal(fs.readFileSync(`${log}.prompts`, 'utf8'), 'x\n')
  assert.deepEqual(pool.seen().filter(e => e.hook_event_name === 'stop').map(e => e.loop_count), [0, 1])
})

test('several roots: a file goes by its own root\'s hooks, the session by the first', async t => {
  const pool = await bullpen(t)
  const log = path.join(pool.dir, 'seen.log'), who = name => ({ command: `cat >/dev/null; echo '{"hook_event_name":"${name}"}' >> ${log}` })
  const a = await pool.remote({ name: 'acme/a', files: { 'README.md': 'a\n', '.cursor/hooks.json': JSON.stringify({ hooks: { afterFileEdit: [who('a-edit')], stop: [who('a-stop')], beforeShellExecution: [who('a-shell')] } }) } })
  const b = await pool.remote({ name: 'acme/b', files: { 'README.md': 'b\n', '.cursor/hooks.json': JSON.stringify({ hooks: { afterFileEdit: [who('b-edit')], stop: [who('b-stop')], beforeShellExecution: [who('b-shell')] } }) } })
  pool.theOrigin = a
  const other = await b.clone(path.join(pool.dir, 'other'))
  await pool.worker({ args: ['--worker-dir', other] })
  const run = await pool.run(file('x.txt', 'x') + '```tool run_terminal_cmd\n' + JSON.stringify({ command: 'pwd' }) + '\n```\n', { repo: a.url })
  assert.equal((await run.end()).status, 'FINISHED')
  const { completed } = checkEvents(await run.events())
  const cwd = [...completed.values()][1].result.success.workingDirectory
  const next = await run.followUp(file(path.join(path.dirname(cwd), 'other', 'y.txt'), 'y') + tool('run_terminal_cmd', { command: 'pwd', workingDirectory: path.join(path.dirname(cwd), 'other') }))
  assert.equal((await next.end()).status, 'FINISHED')
  assert.deepEqual(fs.readFileSync(log, 'utf8').trim().split('\n').map(l => JSON.parse(l).hook_event_name), ['a-edit', 'a-shell', 'a-stop', 'b-edit', 'b-shell', 'a-stop'])
})

test('without a box hooks run all the same, and their children end with them', async t => {
  const pool = await hooked(t, log => ({ preToolUse: [{ ...record(log) }, { matcher: 'Shell', timeout: 1, failClosed: true, command: '(trap "" TERM; sleep 27182818) & sleep 300' }] }), { args: ['--isolation', 'none'] })
  const { calls } = await finished(pool, sh('echo hi') + tool('read_file', { path: 'README.md' }))
  assert.match(JSON.stringify(calls[0].result), /set to fail closed and it timed out after 1000 ms/)
  assert.ok(calls[1].result.success)
  const left = fs.readdirSync('/proc').filter(d => /^\d+$/.test(d)).filter(d => { try { return fs.readFileSync(`/proc/${d}/cmdline`, 'utf8').includes('27182818') && fs.readFileSync(`/proc/${d}/environ`, 'utf8').includes(pool.dir) } catch { return false } })
  assert.deepEqual(left, [])
})

test('a cancelled run: the failure is an interruption, and stop says aborted', async t => {
  const pool = await hooked(t, log => recordAll(log))
  const run = await pool.run(sh(`echo begun; touch ${pool.dir}/begun; sleep 300`))
  await until('the command runs', () => fs.existsSync(path.join(pool.dir, 'begun')))
  await run.cancel()
  assert.equal((await run.end()).status, 'CANCELLED')
  await until('stop was told', () => pool.events().includes('stop'))
  await until('the failure was told', () => pool.events().includes('postToolUseFailure'))
  const seen = pool.seen()
  assert.deepEqual(seen.filter(e => e.hook_event_name === 'stop').map(e => e.status), ['aborted'])
  const [failure] = seen.filter(e => e.hook_event_name === 'postToolUseFailure')
  assert.equal(failure.is_interrupt, true)
  assert.match(seen.find(e => e.hook_event_name === 'afterShellExecution').output, /begun/)
  const next = await run.followUp(sh('echo again'))
  assert.equal((await next.end()).status, 'FINISHED')
})

test('thoughts, answers and a conversation that is cut', async t => {
  const { modelServer, provider } = await import('./models-help.mjs')
  const m = await modelServer(t)
  let asked = 0
  m.otherwise = body => {
    if (/You write the handover/.test(JSON.stringify(body))) return { answer: { text: 'A summary.' } }
    asked++
    return asked < 8 ? { answer: { thinking: `Thought ${asked}.`, text: asked === 1 ? 'Looking.' : '', calls: [{ name: 'run_terminal_cmd', arguments: { command: 'seq 1 3000' } }], usage: { input: 100, output: 10 } } } : { answer: { text: 'Done.', usage: { input: 100, output: 10 } } }
  }
  const pool = await hooked(t, log => ({ ...Object.fromEntries(['afterAgentThought', 'afterAgentResponse'].map(e => [e, [record(log)]])), preCompact: [record(log), say({ user_message: 'it is cut now' })] }), { config: provider(m, 'openai', { model: 'context_window = 12000' }) })
  const { events } = await finished(pool, 'Work')
  const of = e => pool.seen().filter(x => x.hook_event_name === e)
  assert.deepEqual(of('afterAgentResponse').map(e => e.text), ['Looking.', 'Done.'])
  assert.equal(of('afterAgentThought')[0].text, 'Thought 1.')
  const [cut] = of('preCompact')
  assert.deepEqual([cut.trigger, cut.context_window_size, cut.is_first_compaction], ['auto', 12000, true])
  assert.ok(cut.context_tokens > 0 && cut.context_usage_percent > 50 && cut.message_count > 2)
  assert.match(JSON.stringify(events), /it is cut now/)
})

test('settings of the worker: what ask means, and what is no setting', async t => {
  const pool = await hooked(t, { beforeShellExecution: [say({ permission: 'ask', user_message: 'may I?' })] }, { worker: { ready: false } })
  await pool.w.kill()
  const config = path.join(pool.dir, 'config'), toml = path.join(config, 'bullpen', 'agent.toml')
  fs.mkdirSync(path.dirname(toml), { recursive: true })
  for (const [text, message] of [['hook_ask = "maybe"\n', /hook_ask must be "deny" or "allow"/], ['project_hooks = "yes"\n', /agent\.toml: .*project_hooks/]]) {
    fs.writeFileSync(toml, text)
    const w = await pool.worker({ env: { XDG_CONFIG_HOME: config }, ready: false })
    await w.exited
    assert.equal(w.code, 2)
    assert.match(w.stderr, message)
  }
  const asked = async text => {
    fs.writeFileSync(toml, text)
    const w = await pool.worker({ env: { XDG_CONFIG_HOME: config } })
    const { calls } = await finished(pool, sh('echo hi'))
    await w.kill()
    return JSON.stringify(calls[0].result)
  }
  assert.match(await asked(''), /needs an approval that cannot be given in this run: may I\?/)
  assert.match(await asked('hook_ask = "allow"\n'), /"stdout":"hi\\n".*hookFaults.*asks for approval/)
})
