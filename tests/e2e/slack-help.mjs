// A stand-in for Slack as far as its documentation goes: the Web API, files, Socket Mode, and what it sends, signed.
import http from 'node:http'
import https from 'node:https'
import fs from 'node:fs'
import path from 'node:path'
import { createHmac, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { WebSocketServer } from 'ws'
import assert from 'node:assert/strict'
import { atEnd, bullpen, git, programs, run, until } from './lib.mjs'
import { Forge } from './forge-help.mjs'

const json = (res, body, status = 200, headers = {}) => { res.writeHead(status, { 'content-type': 'application/json; charset=utf-8', ...headers }); res.end(JSON.stringify(body)) }
const posts = new Set(['chat.postMessage', 'chat.update', 'chat.postEphemeral', 'reactions.add', 'reactions.remove', 'conversations.join', 'views.open', 'apps.connections.open'])

export class Slack {
  constructor() {
    Object.assign(this, { team: 'T0TEAM', app: 'A0APP', bot: 'U0BOT', botId: 'B0BOT', token: `xoxb-${randomUUID()}`, appToken: `xapp-${randomUUID()}`, secret: randomUUID(), messages: [], ephemerals: [], reactions: [], calls: [], views: [], files: new Map(), sockets: [], acks: [], closedChannels: new Set(), members: {}, fileRequests: [], tokens: new Map(), codes: new Map() })
    this.users = { U0ANN: { name: 'ann', email: 'dev@example.test' }, U0BOB: { name: 'bob', email: 'bob@example.test' }, U0EVE: { name: 'eve', email: 'eve@example.test' } }
    this.clock = Math.floor(Date.now() / 1000)
    this.n = 0
    // Asked before anything else: true means that it has answered.
    this.interfere = null
  }
  get url() { return this.tls ? `https://localhost:${this.port}` : `http://127.0.0.1:${this.port}` }
  ts() { return `${this.clock}.${String(++this.n).padStart(6, '0')}` }
  settings(dir, { socket = false, signed = true, more = '', install = false } = {}) {
    const file = (name, text) => { const p = path.join(dir, name); fs.writeFileSync(p, text + '\n'); return p }
    return `\n[slack]\n${install ? `client_id = "1.2"\nclient_secret_file = "${file('slack-client', 'client-secret')}"` : `bot_token_file = "${file('slack-bot', this.token)}"`}\n${signed ? `signing_secret_file = "${file('slack-secret', this.secret)}"\n` : ''}${socket ? `app_token_file = "${file('slack-app', this.appToken)}"\n` : ''}api_url = "${this.url}/api"\nfiles_url = "${this.url}/files"\napp_id = "${this.app}"\n${more}\n`
  }
  async start(t) {
    const serve = this.tls ? (...a) => https.createServer({ cert: fs.readFileSync(this.tls.cert), key: fs.readFileSync(this.tls.key) }, ...a) : (...a) => http.createServer(...a)
    this.server = serve((req, res) => { this.serve(req, res).catch(e => json(res, { ok: false, error: String(e.stack) }, 500)) })
    this.wss = new WebSocketServer({ server: this.server, path: '/link' })
    this.wss.on('connection', ws => {
      this.sockets.push(ws)
      ws.on('message', d => this.acks.push(JSON.parse(String(d))))
      ws.on('close', () => { this.sockets = this.sockets.filter(s => s !== ws) })
      ws.send(JSON.stringify({ type: 'hello', num_connections: 1, connection_info: { app_id: this.app } }))
    })
    this.server.listen(0, '127.0.0.1')
    await once(this.server, 'listening')
    this.port = this.server.address().port
    atEnd(t, () => { for (const s of this.wss.clients) s.terminate(); this.server.closeAllConnections(); this.server.close() })
    return this
  }

  async serve(req, res) {
    const url = new URL(req.url, this.url)
    if (url.pathname.startsWith('/files/')) {
      this.fileRequests.push({ path: url.pathname, authorization: req.headers.authorization })
      const f = this.files.get(url.pathname)
      if (!f || req.headers.authorization !== `Bearer ${this.token}`) { res.writeHead(302, { location: `${this.url}/login`, 'content-type': 'text/html' }); return res.end('<html>') }
      res.writeHead(200, { 'content-type': f.type })
      return res.end(f.bytes)
    }
    const method = url.pathname.replace('/api/', '')
    let text = ''
    for await (const d of req) text += d
    if (method === 'oauth.v2.access') return this.grant(req, new URLSearchParams(text), res)
    if (method !== 'auth.test' && posts.has(method) !== (req.method === 'POST')) return json(res, { ok: false, error: 'invalid_arguments' })
    const args = req.method === 'POST' ? JSON.parse(text || '{}') : Object.fromEntries(url.searchParams)
    const token = req.headers.authorization, installed = this.tokens.get(token?.replace('Bearer ', ''))
    this.calls.push({ method, args, at: Date.now(), team: installed })
    if (!installed && token !== `Bearer ${method === 'apps.connections.open' ? this.appToken : this.token}`) return json(res, { ok: false, error: 'invalid_auth' })
    if (await this.interfere?.(method, args, res)) return
    this[method.replaceAll('.', '_')](args, res)
  }
  // A workspace installs the app: a code is taken once.
  grant(req, form, res) {
    const team = this.codes.get(form.get('code'))
    this.granted = Object.fromEntries(form)
    if (req.headers['content-type'] !== 'application/x-www-form-urlencoded' || form.get('client_id') !== '1.2' || form.get('client_secret') !== 'client-secret') return json(res, { ok: false, error: 'bad_client_secret' })
    if (!team) return json(res, { ok: false, error: 'invalid_code' })
    this.codes.delete(form.get('code'))
    const token = `xoxb-${randomUUID()}`
    this.tokens.set(token, team)
    json(res, { ok: true, access_token: token, token_type: 'bot', scope: 'x', bot_user_id: this.bot, app_id: this.app, team: { id: team, name: `Workspace ${team}` }, enterprise: null, is_enterprise_install: false, ...this.grantMore })
  }
  auth_test(_, res) { json(res, { ok: true, url: 'https://acme.slack.com/', team_id: this.team, user_id: this.bot, bot_id: this.botId }) }
  apps_connections_open(_, res) { json(res, { ok: true, url: `${this.url.replace(/^http/, 'ws')}/link?ticket=${randomUUID()}&app_id=${this.app}` }) }
  users_info({ user }, res) {
    const u = this.users[user]
    if (!u) return json(res, { ok: false, error: 'user_not_found' })
    json(res, { ok: true, user: { id: user, team_id: this.team, name: u.name, deleted: false, is_bot: false, is_restricted: false, is_email_confirmed: true, ...u.more, profile: { display_name: u.name, email: u.email } } })
  }
  conversations_replies({ channel, ts, limit = 200, cursor }, res) {
    const all = this.messages.filter(m => m.channel === channel && (m.thread_ts ?? m.ts) === ts), from = cursor ? Number(Buffer.from(cursor, 'base64').toString()) : 0
    if (!all.length) return json(res, { ok: false, error: 'thread_not_found' })
    const page = all.slice(from, from + Math.min(Number(limit), this.pageSize ?? 200)), next = from + page.length < all.length ? Buffer.from(String(from + page.length)).toString('base64') : ''
    json(res, { ok: true, messages: page, has_more: next !== '', response_metadata: { next_cursor: next } })
  }
  conversations_info({ channel }, res) {
    if (this.closed?.[channel] || channel[0] === 'D') return json(res, { ok: true, channel: { id: channel, is_im: channel[0] === 'D', ...this.closed?.[channel] } })
    json(res, this.members[channel] ? { ok: true, channel: { id: channel, is_member: this.members[channel].includes(this.bot) } } : { ok: false, error: 'channel_not_found' }) }
  conversations_members({ channel, cursor }, res) { const all = this.members[channel], at = Number(cursor ?? 0); json(res, { ok: true, members: all.slice(at, at + 1), response_metadata: { next_cursor: at + 1 < all.length ? String(at + 1) : '' } }) }
  conversations_join({ channel }, res) { this.closedChannels.delete(channel); json(res, { ok: true, channel: { id: channel } }) }
  chat_postMessage(args, res) {
    if (this.closedChannels.has(args.channel)) return json(res, { ok: false, error: 'not_in_channel' })
    if (args.text.length > 4000) return json(res, { ok: false, error: 'msg_too_long' })
    for (const b of args.blocks ?? []) if (b.text && b.text.text.length > 3000) return json(res, { ok: false, error: 'invalid_blocks' })
    const m = { ...args, ts: this.ts(), user: this.bot, bot_id: this.botId, versions: [args.text] }
    this.messages.push(m)
    json(res, { ok: true, channel: args.channel, ts: m.ts, message: m })
  }
  chat_update(args, res) {
    const m = this.messages.find(m => m.channel === args.channel && m.ts === args.ts)
    if (!m) return json(res, { ok: false, error: 'message_not_found' })
    m.versions.push(args.text)
    Object.assign(m, args)
    json(res, { ok: true, channel: args.channel, ts: m.ts, text: m.text })
  }
  chat_postEphemeral(args, res) { this.ephemerals.push(args); json(res, { ok: true, message_ts: this.ts() }) }
  reactions_add(a, res) {
    if (this.reactions.some(r => r.timestamp === a.timestamp && r.name === a.name)) return json(res, { ok: false, error: 'already_reacted' })
    this.reactions.push(a)
    json(res, { ok: true })
  }
  reactions_remove(a, res) {
    const n = this.reactions.length
    this.reactions = this.reactions.filter(r => r.timestamp !== a.timestamp || r.name !== a.name)
    json(res, n === this.reactions.length ? { ok: false, error: 'no_reaction' } : { ok: true })
  }
  views_open(args, res) { this.views.push(args); json(res, { ok: true, view: args.view }) }

  // Somebody writes: the message is there; what Slack would send of it.
  event(text, { by = 'U0ANN', channel = 'C0GEN', thread, type = 'app_mention', mention = true, envelope = {}, ...more } = {}) {
    const ts = this.ts(), body = mention ? `<@${this.bot}> ${text}` : text
    const event = { type, user: by, text: body, ts, channel, event_ts: ts, ...(thread ? { thread_ts: thread } : {}), ...(type === 'message' ? { channel_type: 'im' } : {}), ...more }
    this.messages.push({ ...event })
    return { token: 'old', team_id: this.team, api_app_id: this.app, event, type: 'event_callback', event_id: `Ev${randomUUID().replaceAll('-', '').toUpperCase()}`, event_time: this.clock, authorizations: [{ enterprise_id: null, team_id: this.team, user_id: this.bot, is_bot: true }], is_ext_shared_channel: false, ...envelope }
  }
  click(message, action, { by = 'U0ANN' } = {}) {
    const element = message.blocks.find(b => b.type === 'actions').elements.find(e => e.action_id === action)
    return { type: 'block_actions', api_app_id: this.app, team: { id: this.team }, user: { id: by, team_id: this.team }, trigger_id: `1${++this.n}.2.${randomUUID().replaceAll('-', '')}`, container: { type: 'message', message_ts: message.ts, channel_id: message.channel, thread_ts: message.thread_ts }, actions: [{ type: 'button', action_id: action, value: element?.value, action_ts: this.ts() }] }
  }
  submit(opened, text, { by = 'U0ANN' } = {}) {
    return { type: 'view_submission', api_app_id: this.app, team: { id: this.team }, user: { id: by }, trigger_id: `1${++this.n}.2.${randomUUID().replaceAll('-', '')}`, view: { ...opened.view, id: 'V1', state: { values: { prompt: { text: { type: 'plain_text_input', value: text } } } } } }
  }
  signed(body, { at = Math.floor(Date.now() / 1000), secret = this.secret, headers = {} } = {}) {
    return { body, key: null, headers: { 'content-type': 'application/json', 'x-slack-request-timestamp': String(at), 'x-slack-signature': `v0=${createHmac('sha256', secret).update(`v0:${at}:${body}`).digest('hex')}`, ...headers } }
  }
  file(name, type, bytes) { const p = `/files/${randomUUID()}/${name}`; this.files.set(p, { type, bytes }); return { id: 'F1', name, mimetype: type, size: bytes.length, url_private: this.url + p } }
  mine() { return this.messages.filter(m => m.bot_id === this.botId) }
  reactionsAt(ts) { return this.reactions.filter(r => r.timestamp === ts).map(r => r.name) }
}

// Slack beside a forge, whose repository is what messages name.
export async function slacked(t, { config = '', worker = true, linked = true, ...how } = {}) {
  const slack = new Slack(), forge = new Forge('github', null, 'acme/web')
  await slack.start(t)
  const pool = await bullpen(t, { config, prepare: async p => {
    forge.remote = await p.origin()
    await forge.start(t)
    fs.appendFileSync(p.configFile, forge.settings(p.dir) + slack.settings(p.dir, how))
  } })
  Object.assign(pool, { slack, forge })
  const origin = { ...forge.remote, url: forge.repoUrl, clone: async to => { await git(pool.dir, 'clone', '-q', forge.repoUrl, to); return to } }
  pool.workerOf = name => pool.worker({ remote: origin, pool: name })
  if (worker) pool.theWorker = await pool.workerOf()
  if (linked) await link(pool, 'U0ANN')
  return pool
}
export const link = async (pool, account, email = 'dev@example.test') => {
  const p = await run(pool.t, programs.bullpen, ['admin', 'account', 'link', '--data', pool.data, '--email', email, '--surface', 'slack', '--place', pool.slack.team, '--account', account, '--login', account])
  assert.equal(p.code, 0, p.stderr)
}
export const post = (pool, body, how) => pool.http('POST', '/webhooks/slack/events', pool.slack.signed(typeof body === 'string' ? body : JSON.stringify(body), how))
export const interact = (pool, payload) => pool.http('POST', '/webhooks/slack/interactive', pool.slack.signed(`payload=${encodeURIComponent(JSON.stringify(payload)).replaceAll('%20', '+')}`, { headers: { 'content-type': 'application/x-www-form-urlencoded' } }))
export const say = async (pool, text, o) => {
  const body = pool.slack.event(text, o), r = await post(pool, body)
  assert.equal(r.status, 200, r.text)
  return body
}
// What there is when it gives up is part of the error.
export const seen = (pool, what, fn, seconds) => until(what, fn, seconds).catch(e => { throw new Error(`${e.message}; there are ${JSON.stringify(pool.slack.mine().map(m => m.versions))}, ${JSON.stringify(pool.slack.ephemerals.map(m => m.text))} ${pool.server.stderr.slice(-1500)}`) })
export const told = (pool, what, seconds = 20) => seen(pool, `a message says ${what}`, () => pool.slack.mine().find(m => what.test(m.text)), seconds)
export const whispered = (pool, what, by = 'U0ANN') => seen(pool, `she alone is told ${what}`, () => pool.slack.ephemerals.find(m => what.test(m.text) && m.user === by), 20)
export const agents = async pool => (await pool.http('GET', '/v1/agents')).json.items
export const talk = async (pool, id) => (await pool.http('GET', `/v0/agents/${id}/conversation`)).text
