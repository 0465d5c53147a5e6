// MCP servers from PyPI as they are published, on a worker: `make test-mcp`.
import test from 'node:test'
import assert from 'node:assert/strict'
import path from 'node:path'
import { bullpen, tool } from '../lib.mjs'
import { mcpCalls } from '../mcp-help.mjs'
import { listening } from '../mcp-remote-help.mjs'

const bin = process.env.MCP_SERVERS
const server = (name, args = [], env = {}) => ({ name, command: path.join(bin, `mcp-server-${name}`), args, env })

test('git, time and fetch: their tools are listed, called, and their failures told', async t => {
  const asked = []
  const web = await listening(t, (req, res) => {
    asked.push(req.url)
    if (req.url === '/robots.txt') return res.writeHead(404).end()
    res.writeHead(200, { 'content-type': 'text/plain' }).end('what the page says')
  })
  const pool = await bullpen(t)
  await pool.worker({})
  const call = (name, args) => tool(`mcp_${name}`, args)
  const r = await pool.run(
    call('git_git_status', { repo_path: '.' }) + call('git_git_log', { repo_path: '.', max_count: 1 }) + call('git_git_show', { repo_path: '.', revision: 'no-such-thing' }) +
    call('time_get_current_time', { timezone: 'Etc/UTC' }) + call('time_convert_time', { source_timezone: 'Europe/Berlin', time: '12:00', target_timezone: 'Asia/Tokyo' }) + call('time_get_current_time', {}) +
    call('fetch_fetch', { url: `${web.origin}/page`, raw: true }),
    { extra: { mcpServers: [server('git'), server('time', ['--local-timezone', 'Etc/UTC']), server('fetch', ['--ignore-robots-txt', '--allow-private-ips'], { NO_PROXY: '127.0.0.1', no_proxy: '127.0.0.1' })] } })
  const end = await r.end()
  assert.equal(end.status, 'FINISHED', JSON.stringify(end))
  const calls = mcpCalls(await r.events())
  assert.equal(calls.length, 7, JSON.stringify(calls))
  const said = calls.map(c => JSON.stringify(c.result))
  assert.match(said[0], /On branch |working tree/)
  assert.match(said[1], /Commit: /)
  assert.equal(calls[2].result.success?.isError ?? true, true, said[2])
  assert.match(said[3], /Etc\/UTC/)
  assert.match(said[4], /T(19|20):00/)
  assert.match(said[5], /timezone/, 'an argument that is missing')
  assert.match(said[6], /what the page says/)
  assert.ok(asked.includes('/page'))
})
