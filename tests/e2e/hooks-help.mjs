// A pool whose repository has hooks, and what they saw.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { bullpen, checkEvents } from './lib.mjs'

// A server and a worker in a checkout with these hooks. `hooks` gets the file that `seen` reads.
export async function hooked(t, hooks, { files = {}, args = [], env = {}, prepare, worker = {}, ...more } = {}) {
  const pool = await bullpen(t, more)
  const log = pool.log = path.join(pool.dir, 'seen.log')
  const config = typeof hooks === 'function' ? hooks(log, pool) : hooks
  const text = typeof config === 'string' ? config : JSON.stringify({ version: 1, hooks: config })
  pool.theOrigin = pool.remote({ files: { 'README.md': 'hello\n', ...(config ? { '.cursor/hooks.json': text } : {}), ...files } })
  pool.settings = lines => {
    const home = path.join(pool.dir, 'config')
    fs.mkdirSync(path.join(home, 'bullpen'), { recursive: true })
    fs.writeFileSync(path.join(home, 'bullpen', 'agent.toml'), lines)
    return { XDG_CONFIG_HOME: home }
  }
  pool.seen = () => fs.existsSync(log) ? fs.readFileSync(log, 'utf8').trim().split('\n').filter(Boolean).map(x => JSON.parse(x)) : []
  pool.events = () => pool.seen().map(e => e.hook_event_name)
  pool.of = event => pool.seen().filter(e => e.hook_event_name === event)
  const more_env = await prepare?.(pool, log)
  if (worker !== null) pool.w = await pool.worker({ args, env: { ...env, ...more_env }, ...worker })
  return pool
}
// One line at a time: hooks of calls that go on side by side do so, too.
export const record = log => ({ command: `flock ${log} sh -c '{ cat; echo; } >> ${log}'` })
export const say = answer => ({ command: `cat >/dev/null; echo '${JSON.stringify(answer)}'` })
export async function finished(pool, prompt, options) {
  const run = await pool.run(prompt, options)
  const r = await run.end()
  assert.equal(r.status, 'FINISHED', JSON.stringify(r))
  const events = await run.events()
  return { run, r, events, calls: [...checkEvents(events).completed.values()] }
}
