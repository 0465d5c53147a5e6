// Stand-ins for forges that cannot be had here: GitHub, GitLab and Gitea as far as their documentation goes, each over one real git
// repository that is served by git's own HTTP backend. What they answer is in the forges' wire format, refusals included.
import http from 'node:http'
import path from 'node:path'
import { spawn } from 'node:child_process'
import { createHash, createVerify, generateKeyPairSync, createHmac, randomUUID } from 'node:crypto'
import fs from 'node:fs'
import { once } from 'node:events'
import { atEnd, git } from './lib.mjs'

const api = { github: '/api/v3', gitlab: '/api/v4', gitea: '/api/v1' }
// What did not change is not said again to who has it.
const etagOf = body => `W/"${createHash('sha256').update(JSON.stringify(body) ?? '').digest('hex')}"`
const json = (res, status, body, headers = {}) => {
  if (res.etags && status === 200) headers = { etag: etagOf(body), ...headers }
  if (headers.etag && res.etags?.asked.headers['if-none-match'] === headers.etag) { res.etags.unchanged.push(res.etags.asked.path); res.writeHead(304, { ...headers, date: new Date().toUTCString() }).end(); return }
  res.writeHead(status, { 'content-type': 'application/json; charset=utf-8', date: new Date().toUTCString(), ...headers })
  res.end(body === undefined ? '' : JSON.stringify(body))
}

// Git's CGI, so that clone, fetch and push are real.
function backend(root, req, res, url) {
  const child = spawn('git', ['-c', 'safe.directory=*', 'http-backend'], { env: { ...process.env, GIT_PROJECT_ROOT: root, GIT_HTTP_EXPORT_ALL: '1', PATH_INFO: decodeURIComponent(url.pathname), QUERY_STRING: url.search.slice(1), REQUEST_METHOD: req.method,
    CONTENT_TYPE: req.headers['content-type'] ?? '', REMOTE_USER: 'git', REMOTE_ADDR: '127.0.0.1', GIT_CONFIG_COUNT: '1', GIT_CONFIG_KEY_0: 'safe.directory', GIT_CONFIG_VALUE_0: '*', ...(req.headers['content-encoding'] ? { HTTP_CONTENT_ENCODING: req.headers['content-encoding'] } : {}), ...(req.headers['git-protocol'] ? { GIT_PROTOCOL: req.headers['git-protocol'] } : {}) }, stdio: ['pipe', 'pipe', 'ignore'] })
  let head = Buffer.alloc(0), begun = false
  req.pipe(child.stdin).on('error', () => {})
  child.stdout.on('data', d => {
    if (begun) { res.write(d); return }
    head = Buffer.concat([head, d])
    const end = head.indexOf('\r\n\r\n')
    if (end < 0) return
    begun = true
    const lines = head.subarray(0, end).toString().split('\r\n').map(l => [l.slice(0, l.indexOf(':')).toLowerCase(), l.slice(l.indexOf(':') + 1).trim()])
    const status = Number((lines.find(([k]) => k === 'status')?.[1] ?? '200').split(' ')[0])
    res.writeHead(status, Object.fromEntries(lines.filter(([k]) => k !== 'status')))
    res.write(head.subarray(end + 4))
  })
  child.on('close', () => res.end())
  res.on('close', () => child.kill())
}

export class Forge {
  constructor(kind, remote, name) {
    Object.assign(this, { kind, remote, name, token: `tok-${randomUUID()}`, secret: `hook-${randomUUID()}`, pulls: [], issues: [], comments: [], reactions: [], reviews: [], writers: new Set(['ann']), requests: [], unchanged: [], private: false, nextId: 100, number: 0, app: null, installed: true, minted: [], deliveries: [], deliveriesAPage: 2, redelivered: [] })
    // Asked before anything else: true means that it has answered.
    this.interfere = null
  }
  get url() { return `http://127.0.0.1:${this.port}` }
  get repoUrl() { return `${this.url}/${this.name}.git` }
  // The lines of the settings; `more` are further ones.
  settings(dir, more = '') {
    fs.writeFileSync(path.join(dir, 'forge-token'), this.token + '\n')
    fs.writeFileSync(path.join(dir, 'hook-secret'), this.secret + '\n')
    const credential = this.app ? `${this.both ? `token_file = "${path.join(dir, 'forge-token')}"\n` : ''}app_id = "${this.app.id}"\nprivate_key_file = "${path.join(dir, 'app.pem')}"` : `token_file = "${path.join(dir, 'forge-token')}"`
    if (this.app) fs.writeFileSync(path.join(dir, 'app.pem'), this.app.pem)
    return `\n[[forges]]\nkind = "${this.kind}"\nname = "${this.kind}"\nurl = "${this.url}"\n${credential}\nwebhook_secret_file = "${path.join(dir, 'hook-secret')}"\nwrite_pause_ms = 0\n${more}\n`
  }
  async start(t) {
    this.server = http.createServer((req, res) => { this.serve(req, res).catch(e => json(res, 500, { message: String(e.stack) })) })
    this.server.listen(0, '127.0.0.1')
    await once(this.server, 'listening')
    this.port = this.server.address().port
    atEnd(t, () => { this.server.closeAllConnections(); this.server.close() })
    await git(this.remote.bare, 'config', 'http.receivepack', 'true')
    return this
  }
  becomeApp() {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
    this.app = { id: '4711', pem: privateKey.export({ type: 'pkcs1', format: 'pem' }), publicKey }
  }

  async serve(req, res) {
    const url = new URL(req.url, this.url)
    if (!url.pathname.startsWith(api[this.kind])) return backend(path.join(path.dirname(this.remote.bare), '..'), req, res, url)
    let text = ''
    for await (const d of req) text += d
    const body = text ? JSON.parse(text) : undefined, asked = { method: req.method, path: url.pathname.slice(api[this.kind].length), query: url.searchParams, headers: req.headers, body }
    this.requests.push(asked)
    if (this.kind === 'github' && req.method === 'GET') res.etags = { asked, unchanged: this.unchanged }
    if (await this.interfere?.(asked, res)) return
    if (!this.allows(asked, res)) return
    await this[`${this.kind}_`](asked, res)
  }
  allows({ headers, path: p }, res) {
    const given = headers.authorization ?? headers['private-token'] ?? ''
    if (this.app && (p.startsWith('/app') || p.endsWith('/installation'))) {
      const [h, c, s] = given.replace('Bearer ', '').split('.')
      const claims = JSON.parse(Buffer.from(c ?? '', 'base64url').toString() || '{}'), now = Date.now() / 1000
      const good = s && createVerify('RSA-SHA256').update(`${h}.${c}`).verify(this.app.publicKey, s, 'base64url') && claims.iss === this.app.id && claims.iat <= now && claims.exp > now && claims.exp - claims.iat <= 600
      if (!good) json(res, 401, { message: 'A JSON web token could not be decoded' })
      return good
    }
    const good = this.app ? this.minted.some(m => given === `Bearer ${m}`) || (this.both === true && given === `Bearer ${this.token}`) : { github: `Bearer ${this.token}`, gitea: `token ${this.token}`, gitlab: this.token }[this.kind] === given
    if (!good) json(res, 401, { message: 'Bad credentials', documentation_url: 'https://docs.github.com/rest' })
    return good
  }
  commit(branch) { return git(this.remote.bare, 'rev-parse', '--verify', '-q', `refs/heads/${branch}`).catch(() => null) }
  async ahead(base, head) { return Number(await git(this.remote.bare, 'rev-list', '--count', `${base}..${head}`)) }
  thread(n) { return this.pulls.find(p => p.number === n) ?? this.issues.find(i => i.number === n) }
  // As people do it on the site.
  issue({ title, body = '', by = 'ann', association = 'OWNER' }) { const i = { number: ++this.number, title, body, by, association }; this.issues.push(i); return i }
  comment({ thread, body, by = 'ann', association = 'OWNER', line }) { const c = { id: ++this.nextId, thread, body, by, association, line }; this.comments.push(c); return c }
  // [headers, body] of the delivery of an event.
  delivery(event, payload, id = randomUUID()) {
    const body = JSON.stringify(payload)
    if (this.kind === 'gitlab') return [{ 'content-type': 'application/json', 'x-gitlab-event': event, 'x-gitlab-token': this.secret, 'x-gitlab-event-uuid': id }, body]
    const mac = createHmac('sha256', this.secret).update(body).digest('hex')
    const of = this.kind === 'gitea' ? { 'x-gitea-event': event, 'x-gitea-delivery': id, 'x-gitea-signature': mac } : {}
    return [{ 'content-type': 'application/json', 'x-github-event': event, 'x-github-delivery': id, 'x-hub-signature-256': `sha256=${mac}`, 'user-agent': 'GitHub-Hookshot/044aadd', ...of }, body]
  }

  // GitHub's and Gitea's form.
  hub_pull(p) {
    const at = (ref, repo) => ({ label: `${repo?.split('/')[0]}:${ref}`, ref, sha: p.sha, repo: repo && { full_name: repo, fork: repo !== this.name } })
    return { id: p.id, number: p.number, node_id: 'PR_x', html_url: `${this.url}/${this.name}/${this.kind === 'gitea' ? 'pulls' : 'pull'}/${p.number}`, state: p.state, merged: p.merged ?? false, title: p.title, body: p.body, draft: p.draft ?? false, user: { login: p.by ?? 'bullpen[bot]' }, author_association: 'OWNER', head: at(p.head, p.fork ?? this.name), base: at(p.base, this.name) }
  }
  hub_comment(c) { return { id: c.id, body: c.body, user: { login: c.by, type: 'User' }, author_association: c.association, html_url: `${this.url}/${this.name}/issues/${c.thread}#issuecomment-${c.id}`, created_at: new Date().toISOString() } }
  async hub_create(body, res, exists) {
    const head = await this.commit(body.head), base = await this.commit(body.base)
    if (!head || !base) return json(res, this.kind === 'gitea' ? 404 : 422, { message: 'Validation Failed', errors: [{ resource: 'PullRequest', field: head ? 'base' : 'head', code: 'invalid' }] })
    if (this.pulls.some(p => p.state === 'open' && p.head === body.head && p.base === body.base)) return exists()
    if (await this.ahead(body.base, body.head) === 0) return json(res, 422, this.kind === 'gitea' ? { message: 'there are no changes between the head and the base' } : { message: 'Validation Failed', errors: [{ resource: 'PullRequest', code: 'custom', message: `No commits between ${body.base} and ${body.head}` }] })
    const p = { id: ++this.nextId, number: ++this.number, state: 'open', title: body.title, body: body.body, head: body.head, base: body.base, draft: body.draft, sha: head }
    this.pulls.push(p)
    json(res, 201, this.hub_pull(p))
  }
  async hub({ method, path: p, query, body }, res) {
    const is = (m, re) => method === m && p.match(new RegExp(`^/repos/${this.name}${re}$`))
    let m
    if (is('GET', '')) return json(res, 200, { full_name: this.name, default_branch: 'main', private: this.private, clone_url: this.repoUrl }), true
    if ((m = is('GET', '/branches/(.+)'))) {
      const sha = await this.commit(decodeURIComponent(m[1]))
      return sha ? json(res, 200, { name: m[1], commit: this.kind === 'gitea' ? { id: sha } : { sha } }) : json(res, 404, { message: 'Branch not found' }), true
    }
    if ((m = is('GET', '/pulls/(\\d+)'))) return json(res, ...(this.pulls.find(x => x.number === +m[1]) ? [200, this.hub_pull(this.pulls.find(x => x.number === +m[1]))] : [404, { message: 'Not Found' }])), true
    if ((m = is('PATCH', '/pulls/(\\d+)'))) return Object.assign(this.pulls.find(x => x.number === +m[1]), body), json(res, 200, this.hub_pull(this.pulls.find(x => x.number === +m[1]))), true
    if ((m = is('POST', '/pulls/(\\d+)/requested_reviewers'))) {
      if (!body.reviewers.every(r => this.writers.has(r))) return json(res, 422, { message: 'Reviews may only be requested from collaborators.' }), true
      this.reviews.push([+m[1], ...body.reviewers])
      return json(res, 201, {}), true
    }
    if ((m = is('GET', '/issues/(\\d+)'))) { const i = this.thread(+m[1]); return i ? json(res, 200, { number: i.number, title: i.title, body: i.body, user: { login: i.by ?? 'ann' }, author_association: i.association ?? 'OWNER' }) : json(res, 404, { message: 'Not Found' }), true }
    if ((m = is('GET', '/issues/(\\d+)/comments'))) {
      const all = this.comments.filter(c => c.thread === +m[1] && !c.line), size = Number(query.get('per_page') ?? 1e9), page = Number(query.get('page') ?? 1)
      return json(res, 200, (this.kind === 'gitea' ? all : all.slice((page - 1) * size, page * size)).map(c => this.hub_comment(c))), true
    }
    if ((m = is('POST', '/issues/(\\d+)/comments'))) { const c = this.comment({ thread: +m[1], body: body.body, by: 'bullpen[bot]', association: 'NONE' }); return json(res, 201, this.hub_comment(c)), true }
    if ((m = is('POST', '/pulls/(\\d+)/comments/(\\d+)/replies'))) { const c = this.comment({ thread: +m[1], body: body.body, by: 'bullpen[bot]', association: 'NONE', line: +m[2] }); return json(res, 201, this.hub_comment(c)), true }
    if ((m = is('PATCH', '/(?:issues|pulls)/comments/(\\d+)'))) { const c = this.comments.find(x => x.id === +m[1]); c.body = body.body; c.edits = (c.edits ?? 0) + 1; return json(res, 200, this.hub_comment(c)), true }
    if ((m = is('POST', '/(issues/comments|pulls/comments|issues)/(\\d+)/reactions'))) { this.reactions.push([m[1], +m[2], body.content]); return json(res, 201, { id: 1, content: body.content }), true }
    if ((m = is('GET', '/collaborators/([^/]+)/permission'))) return json(res, 200, { permission: this.writers.has(m[1]) ? 'write' : 'read' }), true
    return false
  }
  async github_(r, res) {
    const { method, path: p, query, body } = r
    let m
    if (method === 'GET' && p === '/user') return json(res, 200, { login: 'bullpen-bot', id: 9 }, this.scopes ? { 'x-oauth-scopes': this.scopes } : {})
    if (method === 'GET' && p === '/app') return json(res, 200, { slug: 'bullpen', id: Number(this.app.id), permissions: this.app.permissions ?? { contents: 'write', pull_requests: 'write', issues: 'write' }, events: this.app.events ?? ['issue_comment'] })
    if (method === 'GET' && p === '/app/hook/config') return json(res, 200, { content_type: 'json', insecure_ssl: '0', secret: '********', url: this.app.hookUrl ?? '' })
    // Newest first, some at a time; the cursor of the next page is in the header Link alone.
    if (method === 'GET' && p === '/app/hook/deliveries') {
      const all = [...this.deliveries].reverse(), from = Number((query.get('cursor') ?? 'v1_0').slice(3)), next = from + this.deliveriesAPage
      return json(res, 200, all.slice(from, next), next < all.length ? { link: `<${this.url}${api.github}/app/hook/deliveries?per_page=${query.get('per_page')}&cursor=v1_${next}>; rel="next"` } : {})
    }
    if ((m = method === 'POST' && p.match(/^\/app\/hook\/deliveries\/(\d+)\/attempts$/))) {
      const of = this.deliveries.find(d => d.id === +m[1])
      if (!of) return json(res, 404, { message: 'Not Found' })
      this.redelivered.push(of.id)
      await this.redeliver?.(of)
      return json(res, 202, {})
    }
    if (method === 'GET' && p === `/repos/${this.name}/installation`) return this.installed ? json(res, 200, { id: 77 }) : json(res, 404, { message: 'Not Found' })
    if (method === 'POST' && p === '/app/installations/77/access_tokens') {
      const token = `ghs_${randomUUID()}`
      this.minted.push(token)
      return json(res, 201, { token, expires_at: new Date(Date.now() + 3600e3).toISOString().replace(/\.\d+Z/, 'Z'), permissions: { contents: 'write' }, repositories: body.repositories.map(name => ({ name })) })
    }
    if (method === 'GET' && p === `/repos/${this.name}/pulls`) return json(res, 200, this.pulls.filter(x => x.state === (query.get('state') ?? 'open') && (!query.get('head') || query.get('head') === `${this.name.split('/')[0]}:${x.head}`) && (!query.get('base') || query.get('base') === x.base)).map(x => this.hub_pull(x)), { 'x-ratelimit-remaining': '4999' })
    if (method === 'POST' && p === `/repos/${this.name}/pulls`) return this.hub_create(body, res, () => json(res, 422, { message: 'Validation Failed', errors: [{ resource: 'PullRequest', code: 'custom', message: `A pull request already exists for ${this.name.split('/')[0]}:${body.head}.` }], documentation_url: 'https://docs.github.com/rest/pulls/pulls#create-a-pull-request', status: '422' }))
    if (!await this.hub(r, res)) json(res, 404, { message: 'Not Found', documentation_url: 'https://docs.github.com/rest', status: '404' })
  }
  async gitea_(r, res) {
    const { method, path: p, query, body } = r
    if (method === 'GET' && p === '/user') return json(res, 200, { login: 'bullpen', id: 2 })
    if (method === 'GET' && p === `/repos/${this.name}/pulls`) { const all = this.pulls.filter(x => x.state === (query.get('state') ?? 'open')), page = Number(query.get('page') ?? 1); return json(res, 200, all.slice((page - 1) * 50, page * 50).map(x => this.hub_pull(x))) }
    if (method === 'POST' && p === `/repos/${this.name}/pulls`) return this.hub_create(body, res, () => json(res, 409, { message: 'pull request already exists for these targets [id: 1]' }))
    if (!await this.hub(r, res)) json(res, 404, { message: 'The target couldn\'t be found.', errors: [] })
  }
  lab_pull(p) { return { id: p.id, iid: p.number, title: p.title, description: p.body, state: p.state === 'open' ? 'opened' : p.merged ? 'merged' : 'closed', web_url: `${this.url}/${this.name}/-/merge_requests/${p.number}`, source_branch: p.head, target_branch: p.base, sha: p.sha, source_project_id: p.fork ? 2 : 1, target_project_id: 1, author: { username: p.by ?? 'bullpen' } } }
  lab_note(c) { return { id: c.id, body: c.body, author: { username: c.by }, system: false } }
  async gitlab_({ method, path: p, query, body }, res) {
    const is = (m, re) => method === m && p.match(new RegExp(`^/projects/${encodeURIComponent(this.name)}${re}$`))
    const find = n => this.pulls.find(x => x.number === +n)
    let m
    if (method === 'GET' && p === '/user') return json(res, 200, { username: 'bullpen', id: 5 })
    if (method === 'GET' && p === '/personal_access_tokens/self') return json(res, 200, { scopes: ['api', 'write_repository'] })
    if (method === 'GET' && p === '/users') return json(res, 200, this.writers.has(query.get('username')) ? [{ id: 31, username: query.get('username') }] : [])
    if (is('GET', '')) return json(res, 200, { path_with_namespace: this.name, default_branch: 'main', visibility: this.private ? 'private' : 'public' })
    if ((m = is('GET', '/repository/branches/(.+)'))) { const id = await this.commit(decodeURIComponent(m[1])); return id ? json(res, 200, { name: m[1], commit: { id } }) : json(res, 404, { message: '404 Branch Not Found' }) }
    if (is('GET', '/repository/compare')) return json(res, 200, { commits: Array.from({ length: await this.ahead(query.get('from'), query.get('to')) }, () => ({})) })
    if (is('GET', '/merge_requests')) return json(res, 200, this.pulls.filter(x => x.state === 'open' && x.head === query.get('source_branch') && (!query.get('target_branch') || x.base === query.get('target_branch'))).map(x => this.lab_pull(x)))
    if (is('POST', '/merge_requests')) {
      const other = this.pulls.find(x => x.state === 'open' && x.head === body.source_branch && x.base === body.target_branch)
      if (other) return json(res, 409, { message: [`Another open merge request already exists for this source branch: !${other.number}`] })
      const n = { id: ++this.nextId, number: ++this.number, state: 'open', title: body.title, body: body.description, head: body.source_branch, base: body.target_branch, draft: body.title.startsWith('Draft: '), sha: await this.commit(body.source_branch) }
      this.pulls.push(n)
      return json(res, 201, this.lab_pull(n))
    }
    if ((m = is('GET', '/merge_requests/(\\d+)'))) return find(m[1]) ? json(res, 200, this.lab_pull(find(m[1]))) : json(res, 404, { message: '404 Not found' })
    if ((m = is('GET', '/issues/(\\d+)'))) { const i = this.thread(+m[1]); return json(res, 200, { iid: i.number, title: i.title, description: i.body, author: { username: i.by } }) }
    if ((m = is('PUT', '/merge_requests/(\\d+)'))) { if (body.reviewer_ids) this.reviews.push([+m[1], ...body.reviewer_ids]); if (body.description !== undefined) find(m[1]).body = body.description; return json(res, 200, this.lab_pull(find(m[1]))) }
    if ((m = is('GET', '/(?:merge_requests|issues)/(\\d+)/notes'))) return json(res, 200, this.comments.filter(c => c.thread === +m[1]).map(c => this.lab_note(c)))
    if ((m = is('POST', '/(?:merge_requests|issues)/(\\d+)/(?:discussions/([^/]+)/)?notes'))) { const c = this.comment({ thread: +m[1], body: body.body, by: 'bullpen', line: m[2] }); return json(res, 201, this.lab_note(c)) }
    if ((m = is('PUT', '/(?:merge_requests|issues)/(\\d+)/notes/(\\d+)'))) { const c = this.comments.find(x => x.id === +m[2]); c.body = body.body; return json(res, 200, this.lab_note(c)) }
    if ((m = is('POST', '/(merge_requests|issues)/(\\d+)/(?:notes/(\\d+)/)?award_emoji'))) { this.reactions.push([m[1], +(m[3] ?? m[2]), body.name]); return json(res, 201, { name: body.name }) }
    if ((m = is('GET', '/members/all/(\\d+)'))) return m[1] === '31' ? json(res, 200, { access_level: 40 }) : json(res, 404, { message: '404 Not found' })
    json(res, 404, { error: '404 Not Found' })
  }
}

// A server with a forge, a worker in a clone of its repository: what the tests of pull requests and triggers need.
export async function forged(t, kind, bullpen, { app = false, both = false, config = '', more = '', worker = true } = {}) {
  const forge = new Forge(kind, null, 'acme/web')
  const pool = await bullpen(t, { config, prepare: async p => {
    forge.remote = await p.origin()
    await forge.start(t)
    if (app || both) forge.becomeApp()
    forge.both = both
    fs.appendFileSync(p.configFile, forge.settings(p.dir, more))
  } })
  pool.forge = forge
  forge.origin = { ...forge.remote, url: forge.repoUrl, clone: async to => { await git(pool.dir, 'clone', '-q', forge.repoUrl, to); return to } }
  if (worker) pool.theWorker = await pool.worker({ remote: forge.origin })
  return pool
}
