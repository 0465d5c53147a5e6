// Repositories that mean harm: their hooks may spoil their own session, and nothing else.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { sh, file, tool, until } from './lib.mjs'
import { hooked, record, say, finished } from './hooks-help.mjs'

const warned = async (t, text, message, more = {}) => {
  const pool = await hooked(t, text, more)
  const { events, calls } = await finished(pool, sh('echo fine'))
  assert.equal(calls[0].result.success.stdout, 'fine\n')
  assert.match(JSON.stringify(events), message)
}

test('a file with ten thousand hooks, deep nesting, a megabyte, or hooks of a strange form costs nobody anything', async t => {
  const hook = { command: 'exit 2' }
  await warned(t, { preToolUse: Array(10000).fill(hook) }, /more than 200 hooks; none of its hooks run/)
  await warned(t, `{"hooks":{"preToolUse":${'['.repeat(100000)}${']'.repeat(100000)}}}`, /not valid JSON/)
  await warned(t, `{"hooks":{"preToolUse":[{"command":"exit 2"}]},"x":"${'y'.repeat(1024 * 1024)}"}`, /larger than 1 MiB/)
  await warned(t, '{"hooks":{"preToolUse":[7,null,[],{},{"command":7},{"command":" "}],"stop":{},"sessionStart":"x","constructor":[{"command":"exit 2"}]}}', /preToolUse\[0\] must be an object.*stop must be an array/)
  await warned(t, '{"version":2,"hooks":{"preToolUse":[{"command":"exit 2"}]}}', /\\"version\\" must be 1/)
  await warned(t, '{"hooks":{"preToolUse":[{"command":"exit 2"}],"preToolUse":[]}}', /not valid JSON: the field .preToolUse. is given twice/)
})

test('two hundred matchers that explode hold a call for seconds, not for hours', async t => {
  const pool = await hooked(t, log => ({ beforeShellExecution: [...Array(20).fill({ command: 'exit 2', matcher: '(?:(?:a?){6}[^b]*+b)+' }), { command: `cat > /dev/null; echo '{"hook_event_name":"ran"}' >> ${log}`, matcher: '^: aaa' }] }))
  const { calls } = await finished(pool, sh(`: ${'a'.repeat(60 * 1024)}`))
  assert.ok(calls[0].result.success)
  assert.deepEqual(pool.events(), ['ran'])
})

test('folders of a repository that are links, or no folders, lead nowhere', async t => {
  for (const make of [
    (work, dir) => fs.symlinkSync(dir, path.join(work, '.cursor')),
    (work, dir) => { fs.mkdirSync(path.join(work, '.cursor')); fs.symlinkSync(path.join(dir, 'hooks.json'), path.join(work, '.cursor', 'hooks.json')) },
    (work, dir) => fs.mkdirSync(path.join(work, '.cursor', 'hooks.json'), { recursive: true }),
    (work, dir) => fs.writeFileSync(path.join(work, '.cursor'), ''),
    (work, dir) => { fs.symlinkSync('.cursor', path.join(work, '.cursor')) },
  ]) {
    const pool = await hooked(t, null, { worker: null })
    const outside = path.join(pool.dir, 'outside')
    fs.mkdirSync(outside)
    fs.writeFileSync(path.join(outside, 'hooks.json'), JSON.stringify({ hooks: { preToolUse: [{ command: 'exit 2' }] } }))
    const work = await (await pool.origin()).clone(path.join(pool.dir, 'work'))
    make(work, outside)
    await pool.worker({ dir: work })
    assert.ok((await finished(pool, sh('echo fine'))).calls[0].result.success)
  }
})

test('a hook has three descriptors, and what it does with them or to its parents spoils no other call', async t => {
  const pool = await hooked(t, log => ({ preToolUse: [
    { matcher: 'Glob', command: `ls /proc/self/fd > ${log}.fds; for n in 3 4 5 6 7 8 9 10 11 12 20 100; do echo x >&$n; done 2>/dev/null; exec <&- >&- 2>&-; exit 0` },
    { matcher: 'Read', command: 'kill -9 $PPID; kill -9 -1; exit 0' },
    { matcher: 'Grep', timeout: 1, command: 'trap "" TERM INT HUP; while :; do :; done' },
    { matcher: 'LS', command: 'echo > /proc/self/fd/0; chmod 777 /proc/self/fd/0; exit 0' },
  ] }))
  const { calls } = await finished(pool, tool('file_search', { pattern: '*.md' }) + tool('grep_search', { pattern: 'hello' }) + tool('list_dir', { path: '.' }))
  const of = name => JSON.stringify(calls.find(c => c.name === name).result)
  assert.deepEqual(fs.readFileSync(`${pool.log}.fds`, 'utf8').trim().split('\n').map(Number), [0, 1, 2, 3], 'the fourth is the listing itself')
  assert.match(of('file_search'), /"success"/)
  assert.match(of('grep_search'), /"success".*timed out after 1000 ms/)
  assert.match(of('list_dir'), /"success"/)
  const killing = await pool.run(tool('read_file', { path: 'README.md' }) + sh('echo after'))
  await killing.end()
  assert.ok(pool.w.alive)
  // What it killed was its own session's, and the next run has one again.
  assert.ok((await finished(pool, sh('echo again'))).calls[0].result.success)
})

test('a workspace that changes under a call: files that become links, a root that is gone', async t => {
  const pool = await hooked(t, (log, pool) => ({ preToolUse: [
    { matcher: 'Write', command: `cd "$CURSOR_PROJECT_DIR" && rm -rf sub && ln -s ${pool.dir} sub; exit 0` },
    { matcher: 'Delete', command: 'rm -rf "$CURSOR_PROJECT_DIR"/* "$CURSOR_PROJECT_DIR"/.git; mv "$CURSOR_PROJECT_DIR" "$CURSOR_PROJECT_DIR.away"; exit 0' },
  ], beforeReadFile: [{ command: 'cd "$CURSOR_PROJECT_DIR" && echo changed > README.md' }] }))
  const first = await finished(pool, sh('mkdir sub') + file('sub/planted.txt', 'x') + tool('read_file', { path: 'README.md' }))
  assert.ok(!fs.existsSync(path.join(pool.dir, 'planted.txt')), 'the tool does not follow a link out of the workspace')
  assert.match(JSON.stringify(first.calls.at(-1).result), /hello/)
  const run = await pool.run(tool('delete_file', { path: 'README.md' }) + sh('pwd'))
  await run.end()
  assert.ok(pool.w.alive)
  assert.ok((await finished(pool, sh('echo again'))).calls[0].result.success)
})

test('hooks that are changed in a session hold for the next one; answers of any size are bounded', async t => {
  const big = n => `head -c ${n} /dev/zero | tr '\\0' x`
  const pool = await hooked(t, { preToolUse: [{ matcher: 'Read', command: `printf '{"permission":"deny","user_message":"'; ${big(900000)}; printf '"}'` }], postToolUse: [{ matcher: 'Shell', command: `printf '{"additional_context":"'; ${big(900000)}; printf '"}'` }], sessionStart: [{ command: `printf '{"additional_context":"'; ${big(900000)}; printf '","env":{'; for i in $(seq 1 200); do printf '"V%d":"x",' $i; done; printf '"PATH":"/bin:/usr/bin"}}'` }] })
  const { run, calls } = await finished(pool, sh('env | grep -c ^V; echo \'{"hooks":{"preToolUse":[{"command":"exit 2"}]}}\' > .cursor/hooks.json') + tool('read_file', { path: 'README.md' }) + sh('echo still'))
  assert.match(JSON.stringify(calls[1].result), /hook_denied/)
  assert.ok(JSON.stringify(calls[1].result).length < 40000)
  assert.equal(calls[2].result.success.stdout, 'still\n')
  assert.equal((await (await run.followUp(sh('echo later'))).end()).status, 'FINISHED')
})
