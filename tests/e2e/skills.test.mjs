// What an agent knows of its repository, its user and its team before it starts: skills, commands, subagents of files; and a question that ends a run.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, file, checkEvents, Proc, programs } from './lib.mjs'
import { modelServer, provider } from './models-help.mjs'

const call = (name, args) => ({ name, arguments: args })
const say = text => ({ answer: { text } })
const head = (fields, body) => `---\n${Object.entries(fields).map(([k, v]) => `${k}: ${v}`).join('\n')}\n---\n${body}\n`
const skill = (name, body, more = {}) => head({ name, description: `About ${name}.`, ...more }, body)
const system = body => body.messages.find(m => m.role === 'system').content
const users = body => body.messages.filter(m => m.role === 'user').map(m => m.content)
const results = body => body.messages.filter(m => m.role === 'tool').map(m => m.content)
const logOf = async run => JSON.stringify(await run.events())

async function scene(t, files, { model = true } = {}) {
  const m = model ? await modelServer(t) : null
  const pool = await bullpen(t, { config: m ? provider(m, 'openai') : '' })
  pool.theOrigin = pool.remote({ files: { 'README.md': 'hello\n', ...files } })
  return { m, pool }
}

test('skills are offered by name and description; one for some files comes with the first of them; the model reads the rest', async t => {
  const { m, pool } = await scene(t, {
    '.cursor/skills/deploy/SKILL.md': skill('deploy', 'Run the ship script.'),
    '.agents/skills/deploy/SKILL.md': skill('deploy', 'Hidden by the other.', { description: 'The other deploy.' }),
    '.claude/skills/group/lint/SKILL.md': skill('lint', 'Lint it.', { description: '>-\n  Over two\n  lines.\nmetadata:\n  a: b' }),
    '.cursor/skills/secret/SKILL.md': skill('secret', 'Not offered.', { 'disable-model-invocation': 'true' }),
    '.cursor/skills/sql/SKILL.md': skill('sql', 'Write SQL so.', { paths: '*.sql, db/**' }),
    'pkg/a/.cursor/skills/near/SKILL.md': skill('near', 'Only in a.'),
    'pkg/a/x.c': 'int x;\n', 'pkg/b/y.c': 'int y;\n', 'one.sql': 'select 1\n',
  })
  await pool.worker()
  const read = p => call('read_file', { path: p })
  m.next({ answer: { calls: [read('.cursor/skills/deploy/SKILL.md')] } }, { answer: { calls: [read('pkg/b/y.c'), read('pkg/a/x.c')] } }, { answer: { calls: [read('one.sql'), read('pkg/a/x.c')] } }, say('done'))
  const run = await pool.run('Deploy it')
  assert.equal((await run.end()).result, 'done')
  const offered = system(m.requests[0].body).split('## Skills')[1].split('\n').filter(l => l.startsWith('- '))
  assert.deepEqual(offered.sort(), ['- deploy: About deploy. (.cursor/skills/deploy/SKILL.md)', '- lint: Over two lines. (.claude/skills/group/lint/SKILL.md)'])
  const r = results(m.requests[3].body)
  assert.match(r[0], /Run the ship script/)
  assert.doesNotMatch(r[1], /near/)
  assert.match(r[2], /Skill near: About near\. \(pkg\/a\/\.cursor\/skills\/near\/SKILL\.md; read_file shows it\)/)
  assert.match(r[3], /Skill sql: About sql\./)
  assert.doesNotMatch(r[4], /Skill/, 'once in a conversation')
  for (const q of m.requests) assert.equal(system(q.body), system(m.requests[0].body), 'the beginning stays the same')
})

test('/name at the start of a line is a skill or a command, @name a rule: their text goes with the prompt, the same in later runs and after a crash', async t => {
  const { m, pool } = await scene(t, {
    '.cursor/skills/secret/SKILL.md': skill('secret', 'The secret steps.', { 'disable-model-invocation': 'true' }),
    '.cursor/commands/review.md': 'Review like this.\n', '.cursor/commands/secret.md': 'A skill goes before it.\n',
    '.cursor/rules/style.mdc': head({ alwaysApply: 'false' }, 'Style text.'),
  })
  await pool.worker()
  const prompt = 'Do it.\n/secret now\n/review\n/nothing here\n/usr/bin/true\nin /review no\n```\n/secret\n```\nas @style says, mail me@style'
  m.next({ answer: { calls: [call('write_file', { path: '.cursor/skills/secret/SKILL.md', fileText: 'changed' })] } }, say('one'), say('two'))
  const run = await pool.run(prompt)
  assert.equal((await run.end()).result, 'one')
  const first = users(m.requests[0].body)[0]
  assert.equal(first, `${prompt}\n\n# /secret: the skill .cursor/skills/secret/SKILL.md\nThe secret steps.\n\n\n# /review: the command .cursor/commands/review.md\nReview like this.\n\n\n# @style: the rule .cursor/rules/style.mdc\nStyle text.\n`)
  await pool.crash()
  await pool.restart()
  assert.equal((await (await run.followUp('go on')).end()).result, 'two')
  assert.deepEqual(users(m.requests[2].body), [first, 'go on'])
  const shown = (await run.events()).find(e => e.data.type === 'user-message-appended')
  assert.equal(shown.data.userMessage.text, prompt, 'people see what was written')
})

test('playbook performs the blocks of a skill that its prompt names', async t => {
  const { pool } = await scene(t, { '.cursor/commands/make-it.md': file('made.txt', 'BY COMMAND') }, { model: false })
  await pool.worker()
  const r = await (await pool.run('/make-it')).end()
  assert.equal(await (await pool.origin()).show(r.git.branches[0].branch, 'made.txt'), 'BY COMMAND')
})

test('what is wrong with a file is told with its line, and stops nothing else', async t => {
  const { m, pool } = await scene(t, {
    '.cursor/skills/good/SKILL.md': skill('good', 'Good.'),
    '.cursor/skills/other/SKILL.md': head({ description: 'Named otherwise.', name: 'Elsewhere' }, 'x'),
    '.cursor/skills/silent/SKILL.md': head({ name: 'silent' }, 'x'),
    '.cursor/skills/broken/SKILL.md': '---\nname: broken\ndescription: [a\n---\nx',
    '.cursor/skills/bad name/SKILL.md': skill('bad name', 'x'),
    '.cursor/agents/explore.md': head({ description: 'Mine.' }, 'x'),
    '.cursor/agents/empty.md': head({ description: 'Nothing.' }, ''),
    '.cursor/agents/fine.md': head({ description: 'Fine.' }, 'You are fine.'),
  })
  await pool.worker()
  m.next(say('done'))
  const run = await pool.run('x')
  assert.equal((await run.end()).status, 'FINISHED')
  const text = await logOf(run)
  for (const words of [/skill \.cursor\/skills\/other\/SKILL\.md, line 3: the name 'Elsewhere' is not that of its folder, 'other', which is used\./, /skill \.cursor\/skills\/silent\/SKILL\.md, line 1: it has no 'description'/,
    /skill \.cursor\/skills\/broken\/SKILL\.md, line 4: line 4 of the frontmatter cannot be read/, /skill \.cursor\/skills\/bad name\/SKILL\.md, line 1: 'bad name' is no name/,
    /subagent \.cursor\/agents\/explore\.md, line 1: the name 'explore' is that of a built-in subagent/, /subagent \.cursor\/agents\/empty\.md, line 1: there is no prompt/]) assert.match(text, words)
  const s = system(m.requests[0].body)
  for (const words of ['- good: About good.', '- other: Named otherwise.', '- fine: Fine.']) assert.ok(s.includes(words), words)
  for (const words of ['- silent', '- broken', 'bad name', '- explore', '- empty']) assert.ok(!s.includes(words), words)
})

test('a subagent of a file: told, with its prompt, model and narrowed rights; the API\'s of the same name beats it; it is taken up again by its id', async t => {
  const m = await modelServer(t)
  const options = '[[models.providers.models.options]]\nid = "effort"\nvalues = ["low", "high"]\nfield = "reasoning.effort"'
  const pool = await bullpen(t, { config: provider(m, 'openai', { model: options }) })
  pool.theOrigin = pool.remote({ files: {
    '.cursor/agents/critic.md': head({ description: 'Finds faults.', model: 'clever[effort=high]', readonly: 'true' }, 'You are the critic.'),
    '.claude/agents/critic.md': head({ description: 'Hidden.' }, 'Hidden.'),
    '.claude/agents/rev.md': head({ description: 'Of the file.' }, 'From the file.'),
    '.codex/agents/lost.md': head({ description: 'Lost.', model: 'gpt-9' }, 'x'),
  } })
  await pool.worker()
  const task = (subagent_type, prompt, more = {}) => call('task', { description: 'd', prompt, subagent_type, ...more })
  m.next({ answer: { calls: [task('Critic', 'Look.'), task('lost', 'x')] } },
    { answer: { calls: [call('write_file', { path: 'x', fileText: 'x' })] } }, say('I saw much.'), say('main done'))
  const run = await pool.run('Go', { extra: { customSubagents: [{ name: 'rev', description: 'Of the request.', prompt: 'x' }] } })
  assert.equal((await run.end()).result, 'main done')
  const [main, critic, critic2] = m.requests.map(q => q.body)
  assert.match(system(main), /- rev: Of the request\.\n- critic: Finds faults\.\n- lost: Lost\./)
  assert.ok(!system(main).includes('Hidden') && !system(main).includes('Of the file'))
  assert.match(system(critic), /subagent `critic`.*You are the critic\./s)
  assert.equal(critic.reasoning.effort, 'high')
  assert.match(results(critic2)[0], /may only read/)
  const { completed } = checkEvents(await run.events())
  const [done, lost] = ['critic', 'lost'].map(x => [...completed.values()].find(c => c.args.subagent_type?.toLowerCase() === x))
  assert.match(lost.result.error.message, /there is no model 'gpt-9'; there are: .*clever/)
  const { agentId } = done.result.success
  assert.ok(results(m.requests[3].body)[0].endsWith(`I saw much.\n\n(agentId: ${agentId})`), 'the model is told how to name it')
  // Again, in another run: it knows what it did.
  m.next({ answer: { calls: [task('critic', 'And now?', { resume: agentId })] } }, say('Still I see it.'), say('all done'))
  const again = await run.followUp('Ask it again')
  assert.equal((await again.end()).result, 'all done')
  const resumed = m.requests.at(-2).body
  assert.deepEqual(users(resumed), ['Look.', 'And now?'])
  assert.ok(JSON.stringify(resumed.messages).includes('I saw much.'))
  const second = [...checkEvents(await again.events()).completed.values()].find(c => c.name === 'task')
  assert.equal(second.result.success.agentId, agentId)
  // Not another agent's, and not two at once.
  m.next({ answer: { calls: [task('explore', 'x', { resume: agentId })] } }, say('none'))
  const other = await pool.run('Other')
  await other.end()
  assert.match([...checkEvents(await other.events()).completed.values()][0].result.error.message, /agentId of an earlier task of this agent; '.*' is none/)
  m.otherwise = body => system(body).includes('subagent `') ? say('ok') : body.messages.at(-1).role === 'user' ? { answer: { calls: [task('explore', 'a', { resume: agentId }), task('explore', 'b', { resume: agentId })] } } : say('end')
  const both = await run.followUp('Both')
  await both.end()
  const codes = [...checkEvents(await both.events()).completed.values()].map(c => c.result.error?.code ?? 'success').sort()
  assert.deepEqual(codes, ['busy', 'success'])
})

test('ask_question ends the run with the question, the work is published, and the answer is a follow-up', async t => {
  const { m, pool } = await scene(t, {})
  await pool.worker()
  m.next({ answer: { calls: [call('write_file', { path: 'half.txt', fileText: 'half' }), call('ask_question', { question: 'Red or **blue**?' })] } }, say('Blue it is.'))
  const run = await pool.run('Paint it')
  const r = await run.end()
  assert.deepEqual([r.status, r.result], ['FINISHED', 'Red or **blue**?'], JSON.stringify(r))
  assert.equal(await (await pool.origin()).show(r.git.branches[0].branch, 'half.txt'), 'half')
  assert.equal(m.requests.length, 1)
  assert.equal((await run.events()).find(e => e.event === 'result').data.text, 'Red or **blue**?')
  assert.equal((await (await run.followUp('blue')).end()).result, 'Blue it is.')
  assert.ok(JSON.stringify(m.requests[1].body.messages).includes('Red or **blue**?'))
  // A subagent cannot ask, and without a question it goes on.
  m.next({ answer: { calls: [call('ask_question', {}), call('task', { description: 'd', prompt: 'x', subagent_type: 'generalPurpose' })] } }, say('nested'), say('end'))
  const next = await run.followUp('more')
  assert.equal((await next.end()).result, 'end')
  assert.ok(!m.requests.at(-2).body.tools.some(x => x.function.name === 'ask_question'))
  // Also in plan mode.
  m.next({ answer: { calls: [call('ask_question', { question: 'Which?' })] } })
  assert.equal((await (await pool.run('Plan', { extra: { mode: 'plan' } })).end()).result, 'Which?')
})

test('a personal machine brings its user\'s skills; a pool machine\'s home belongs to nobody', async t => {
  const { m, pool } = await scene(t, { '.agents/skills/both/SKILL.md': skill('both', 'Of the project.', { description: 'Of the project.' }) })
  const home = path.join(pool.dir, 'home')
  for (const [name, text] of Object.entries({ '.cursor/skills/mine/SKILL.md': skill('mine', 'My own way.'), '.cursor/skills/both/SKILL.md': skill('both', 'Of home.', { description: 'Of home.' }), '.cursor/agents/own.md': head({ description: 'Own.' }, 'Own prompt.'), '.cursor/skills/tf/SKILL.md': skill('tf', 'x', { paths: '*.tf' }) })) {
    fs.mkdirSync(path.dirname(path.join(home, name)), { recursive: true })
    fs.writeFileSync(path.join(home, name), text)
  }
  await pool.worker({ env: { HOME: home } })
  m.next(say('pool'))
  await (await pool.run('x')).end()
  assert.ok(!system(m.requests[0].body).includes('mine'))
  const work = await (await pool.origin()).clone(path.join(pool.dir, 'mine'))
  const w = new Proc(t, programs.agent, ['worker', 'start', '--worker-dir', work, '--endpoint', pool.url, '--data-dir', path.join(pool.dir, 'mine-data'), '--name', 'laptop'],
    { env: { CURSOR_API_KEY: pool.userKey, CURSOR_WORKER_SESSION_SHARE: pool.dir, HOME: home } })
  await w.says(/^Worker is now running$/m)
  m.next({ answer: { calls: [call('fetch_rule', { name: 'mine' }), call('fetch_rule', { name: '~/.cursor/skills/mine/SKILL.md' }), call('fetch_rule', { name: 'none' })] } }, say('machine'))
  const run = await pool.run('x\n/mine', { extra: { env: { type: 'machine', name: 'laptop' } } })
  assert.equal((await run.end()).result, 'machine')
  const s = system(m.requests[1].body)
  assert.match(s, /- both: Of the project\. \(\.agents\/skills\/both\/SKILL\.md\)\n- mine: About mine\. \(~\/\.cursor\/skills\/mine\/SKILL\.md\)/)
  assert.match(s, /- own: Own\./)
  assert.match(s, /- tf: About tf\./, 'no file below ~ brings it along later')
  assert.match(users(m.requests[1].body)[0], /# \/mine: the skill ~\/\.cursor\/skills\/mine\/SKILL\.md\nMy own way\./)
  const r = results(m.requests[2].body)
  assert.match(r[0], /My own way/)
  assert.match(r[1], /My own way/)
  assert.match(r[2], /there is no rule 'none'/)
})

test('agent skills shows what is there and where it is wrong; check says so by its status', async t => {
  const { pool } = await scene(t, {
    'AGENTS.md': 'x', '.cursor/rules/own.mdc': head({ alwaysApply: 'true' }, 'x'), '.cursor/rules/bad.mdc': '---\n{{\n---\n', '.cursor/skills/a/SKILL.md': skill('a', 'x'), '.claude/skills/a/SKILL.md': skill('a', 'x'),
    'pkg/b/.cursor/skills/near/SKILL.md': skill('near', 'x', { description: '"\\e[31mred"' }), '.cursor/commands/go.md': 'x', '.cursor/agents/who.md': head({ description: 'Who.' }, 'x'),
  })
  const dir = await (await pool.origin()).clone(path.join(pool.dir, 'clone')), home = path.join(pool.dir, 'home')
  fs.mkdirSync(path.join(home, '.cursor/skills/mine'), { recursive: true })
  fs.writeFileSync(path.join(home, '.cursor/skills/mine/SKILL.md'), skill('yours', 'x'))
  const cli = async (...args) => { const p = pool.cli(['skills', ...args], { cwd: dir, env: { HOME: home } }); const { code } = await p.exited; return { code, out: p.stdout, err: p.stderr } }
  const ls = await cli()
  assert.equal(ls.code, 0, ls.err)
  const rows = ls.out.split('\n\n')[0].split('\n').slice(1).map(l => l.split(/ {2,}/))
  assert.deepEqual(rows.map(r => r.slice(0, 3).join(' ')), ['rule AGENTS.md AGENTS.md', 'rule bad .cursor/rules/bad.mdc', 'rule own .cursor/rules/own.mdc', 'skill a .cursor/skills/a/SKILL.md', 'skill a .claude/skills/a/SKILL.md',
    'command go .cursor/commands/go.md', 'subagent who .cursor/agents/who.md', 'skill near pkg/b/.cursor/skills/near/SKILL.md', 'skill mine ~/.cursor/skills/mine/SKILL.md'])
  assert.equal(rows[4][3], '(hidden by .cursor/skills/a/SKILL.md)')
  assert.ok(!ls.out.includes('\u001b'))
  const wrong = ['.cursor/rules/bad.mdc:2: line 2 of the frontmatter cannot be read', "~/.cursor/skills/mine/SKILL.md:2: the name 'yours' is not that of its folder, 'mine', which is used"]
  assert.deepEqual(ls.out.split('What is wrong:\n')[1].trim().split('\n'), wrong)
  const check = await cli('check')
  assert.deepEqual([check.code, check.out.trim().split('\n')], [1, wrong])
  fs.rmSync(path.join(dir, '.cursor/rules/bad.mdc'))
  assert.deepEqual(await cli('check', '--no-home'), { code: 0, out: '7 looked at, nothing is wrong\n', err: '' })
  assert.equal(JSON.parse((await cli('--json')).out).faults.length, 1)
  for (const args of [['eat'], ['ls', 'x'], ['--worker-dir', '/nowhere'], ['--no']]) { const r = await cli(...args); assert.equal(r.code, 2, r.out); assert.match(r.err, /^error: .*\n$/) }
})

test('rules of the team: kept by an administrator, told before those of the project, with a file where they have a glob', async t => {
  const { m, pool } = await scene(t, { '.cursor/rules/own.mdc': head({ alwaysApply: 'true' }, 'Project text.'), 'a.sql': 'select 1\n', 'b.c': 'int b;\n' })
  await pool.worker()
  const admin = await pool.createKey('user', 'admin', 'admin@example.test', 'rules:write')
  const put = (rules, key = admin) => pool.http('PUT', '/v1/rules', { key, body: { rules } })
  assert.deepEqual((await pool.http('GET', '/v1/rules', { key: admin })).json, { rules: [] })
  assert.equal((await put([], pool.userKey)).status, 403)
  for (const [rules, words] of [[[{ name: 'a b', text: 'x' }], /rules\[0\]\.name must be/], [[{ name: 'a', text: 'x' }, { name: 'a', text: 'y' }], /rules\[1\]\.name is that of rules\[0\]/], [[{ name: 'a', text: ' ' }], /text must be/],
    [[{ name: 'a', text: 'x', glob: '' }], /glob must be/], [[{ name: 'a', text: 'x', enforced: 1 }], /enforced/], [[{ name: 'a', text: 'x', more: 1 }], /more/], [[{ name: 'a', text: 'x'.repeat(270000) }], /256 KiB/], ['x', /array/], [Array.from({ length: 101 }, (_, i) => ({ name: `n${i}`, text: 'x' })), /100/]]) {
    const r = await put(rules)
    assert.equal(r.status, 400, r.text)
    assert.match(r.json.error.message, words)
  }
  const kept = await put([{ name: 'tone', text: 'Team text.', enforced: true }, { name: 'sql', text: 'Team SQL.', glob: '*.sql, db/**' }])
  assert.equal(kept.status, 200, kept.text)
  assert.deepEqual(kept.json.rules, [{ name: 'tone', text: 'Team text.', enforced: true }, { name: 'sql', text: 'Team SQL.', glob: '*.sql, db/**', enforced: false }])
  assert.match(kept.json.updatedBy, /^user:/)
  // One after the other: reads of one turn go side by side, and a rule comes with either.
  m.next(...['b.c', 'a.sql', 'a.sql'].map(p => ({ answer: { calls: [call('read_file', { path: p })] } })), say('done'))
  await (await pool.run('x')).end()
  const s = system(m.requests[0].body)
  assert.match(s, /# Rules of the team.*Team text\..*Project text\./s)
  assert.ok(!s.includes('Team SQL'))
  const r = results(m.requests[3].body)
  assert.deepEqual(r.map(x => x.includes('Team SQL.')), [false, true, false])
  assert.match(r[1], /## team rule sql \(it goes before those of the project\)\nTeam SQL\./)
  // Taken away again.
  assert.deepEqual((await put([])).json, { rules: [] })
  m.next(say('done'))
  await (await pool.run('x')).end()
  assert.ok(!system(m.requests.at(-1).body).includes('Team text'))
})
