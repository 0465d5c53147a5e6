// `agent mcp login` as a person does it.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { atEnd, programs, until } from './lib.mjs'
import { browse } from './mcp-remote-help.mjs'

// The login in a terminal, up to the URL.
export async function loginInTerminal(t, pool, name, { key = pool.userKey } = {}) {
  const child = spawn(programs.agent, ['mcp', 'login', name], { env: { PATH: process.env.PATH, CURSOR_API_KEY: key, CURSOR_API_ENDPOINT: pool.url } })
  const p = { out: '', err: '', child, done: new Promise(r => child.on('close', code => r(code))) }
  atEnd(t, () => child.kill('SIGKILL'))
  child.stdout.on('data', d => { p.out += d })
  child.stderr.on('data', d => { p.err += d })
  const ended = p.done.then(code => { p.code = code })
  p.url = await until(`the URL; ${p.out} ${p.err}`, () => { const m = p.out.match(/^ {2}(http\S+)$/m); if (!m && p.code !== undefined) throw new Error(`ended ${p.code}: ${p.out} ${p.err}`); return m?.[1] })
  p.type = text => child.stdin.write(`${text}\n`)
  p.ended = ended
  return p
}
export async function login(t, pool, name, o) {
  const p = await loginInTerminal(t, pool, name, o)
  const page = await browse(p.url)
  assert.ok(page.code, `${page.status} ${page.text}`)
  p.type(page.code)
  assert.equal(await p.done, 0, p.err)
  return { ...p, page }
}
