// Row v: events of a forge. How many signed ones a second are stored, and how long it takes from a comment to the agent's first call.
import crypto from 'node:crypto'
import fs from 'node:fs'
import http from 'node:http'
import path from 'node:path'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { fresh, program, quick, scratch, Server, spread, times } from './lib.mjs'

const secret = 'a-secret-of-the-bench', repo = 'acme/web'

// As much of GitHub as a comment needs; it answers at once.
async function standIn() {
  const reactions = []
  const server = http.createServer((req, res) => {
    req.resume()
    const p = req.url, answer = o => { res.writeHead(200, { 'content-type': 'application/json' }); res.end(JSON.stringify(o)) }
    if (p.endsWith('/reactions')) reactions.push(p)
    answer(/\/comments(\?|$)/.test(p) && req.method === 'GET' ? [] : { id: 1, number: 1, title: 'T', body: '', user: { login: 'ann' } })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { server, port: server.address().port, stop: () => { server.closeAllConnections(); server.close() } }
}

let deliveries = 0
function event(text, { action = 'created', issue = 1 } = {}) {
  const body = JSON.stringify({ action, sender: { login: 'ann', id: 11, type: 'User' }, repository: { full_name: repo }, issue: { number: issue, title: 'T', body: '', user: { login: 'ann', id: 11 } }, comment: { id: ++deliveries, body: text, user: { login: 'ann', id: 11, type: 'User' }, author_association: 'OWNER' } })
  return { body, headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body), 'x-github-event': 'issue_comment', 'x-github-delivery': `d-${deliveries}-${process.pid}`, 'x-hub-signature-256': `sha256=${crypto.createHmac('sha256', secret).update(body).digest('hex')}` } }
}

const send = (port, agent, e) => new Promise((resolve, reject) => {
  const r = http.request({ port, host: '127.0.0.1', agent, method: 'POST', path: '/webhooks/github', headers: e.headers }, res => { res.resume().on('end', () => res.statusCode === 200 ? resolve() : reject(new Error(`answered ${res.statusCode}`))) })
  r.on('error', reject).end(e.body)
})

// All of `events`, over n connections; events a second.
async function rate(port, events, n) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: n })
  const begun = performance.now()
  let at = 0
  await Promise.all(Array.from({ length: n }, async () => { while (at < events.length) await send(port, agent, events[at++]) }))
  agent.destroy()
  return events.length / (performance.now() - begun) * 1000
}

export async function rowV(table, body, readStep) {
  const forge = await standIn(), dir = fresh(scratch, 'forge')
  fs.writeFileSync(path.join(dir, 'token'), 'token\n')
  fs.writeFileSync(path.join(dir, 'secret'), `${secret}\n`)
  const s = await Server.start({ settings: `[[forges]]\nkind = "github"\nurl = "http://127.0.0.1:${forge.port}"\ntoken_file = "${dir}/token"\nwebhook_secret_file = "${dir}/secret"\nwrite_pause_ms = 0\n` })
  execFileSync(program('bullpen'), ['admin', 'account', 'link', '--data', s.data, '--email', 'bench@example.test', '--surface', 'github', '--place', '127.0.0.1', '--account', '11', '--login', 'ann'])
  execFileSync(program('bullpen'), ['admin', 'policy', '--data', s.data, '--require', 'off'])
  const w = await s.workers(1), n = quick ? 2000 : 10000
  // Edits are stored like any other event, and nothing is done about them: it is the way in that is measured.
  const all = await times(quick ? 2 : 5, async () => {
    const edits = Array.from({ length: n }, () => event('x', { action: 'edited' }))
    const health = Array.from({ length: n }, () => 0)
    const agent = new http.Agent({ keepAlive: true, maxSockets: 64 }), begun = performance.now()
    let at = 0
    await Promise.all(Array.from({ length: 64 }, async () => { while (at < health.length) { at++; await new Promise((resolve, reject) => http.get({ port: s.port, host: '127.0.0.1', agent, path: '/healthz' }, r => r.resume().on('end', resolve)).on('error', reject)) } }))
    agent.destroy()
    return { floor: n / (performance.now() - begun) * 1000, many: await rate(s.port, edits, 64), one: await rate(s.port, Array.from({ length: n / 10 }, () => event('x', { action: 'edited' })), 1) }
  })
  const floor = { name: 'GET /healthz of the same client', values: all.map(x => x.floor) }
  table.add('v', 'signed events stored, 64 connections', '1/s', all.map(x => x.many), { floor, goal: { text: '2,000', ok: v => v >= 2000 } })
  table.add('v', 'the same, 1 connection', '1/s', all.map(x => x.one))
  const first = []
  for (let i = 0; i < (quick ? 30 : 200); i++) {
    const begun = Date.now(), agents = new Set((await s.get('/v1/agents?limit=5')).items.map(a => a.id))
    await send(s.port, undefined, event(`@cursor pool=bench autopr=false ${readStep}`, { issue: i + 1 }))
    let agent
    while (!(agent = (await s.get('/v1/agents?limit=1')).items[0]) || agents.has(agent.id)) await new Promise(r => setImmediate(r))
    // The stream says when the call was begun: its id begins with the time.
    const text = await s.text(`/v1/agents/${agent.id}/runs/${agent.latestRunId}/stream`)
    const id = text.split('\n\n').find(e => e.includes('event: tool_call'))?.match(/^id: (\d+)/m)
    if (!id) throw new Error(`no call: ${text.slice(0, 500)}`)
    first.push(Number(id[1]) - begun)
  }
  first.sort((a, b) => a - b)
  table.add('v', 'a comment to the first call of its agent, p50', 'ms', [first[first.length >> 1]], { note: `p99 ${first[Math.floor(first.length * 0.99)]} ms`, goal: { text: 'p99 50 ms', ok: () => first[Math.floor(first.length * 0.99)] <= 50 } })
  await s.stop(w)
  forge.stop()
}
