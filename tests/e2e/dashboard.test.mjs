// The dashboard as a person uses it: Chromium, real processes, nothing but what is on the screen.
import test from 'node:test'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { createRequire } from 'node:module'
import puppeteer from 'puppeteer-core'
import { atEnd, bullpen, file, programs, run, sh, tool, until } from './lib.mjs'
import { gate } from './api-help.mjs'
import { modelServer, provider } from './models-help.mjs'

const axe = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

async function browser(t, pool) {
  const b = await puppeteer.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu'], userDataDir: path.join(pool.dir, `chromium-${Math.random()}`) })
  atEnd(t, () => b.close())
  const page = await b.newPage()
  page.problems = []
  page.asked = []
  page.on('pageerror', e => page.problems.push(String(e)))
  page.on('console', m => { if (m.type() === 'error' && !/401|404|400/.test(m.text())) page.problems.push(m.text()) })
  page.on('request', r => page.asked.push(r.url()))
  page.fill = async (at, text) => { await page.waitForSelector(at); await page.type(at, text) }
  page.text = () => page.evaluate(() => document.body.innerText)
  page.sees = (what, seconds) => until(`the page shows ${what}`, async () => { const text = await page.text(); return typeof what === 'string' ? text.includes(what) : what.test(text) }, seconds).catch(async e => { throw new Error(`${e.message}; it shows: ${await page.text()} ${page.problems}`) })
  page.press = async label => { const [x] = await until(`there is a ${label}`, async () => { const all = await page.$$(`::-p-aria(${label})`); return all.length && all }); await x.click() }
  page.isAccessible = async () => {
    await page.evaluate(axe)
    const found = await page.evaluate(async () => (await window.axe.run()).violations.map(v => `${v.id}: ${v.nodes.map(n => n.html).slice(0, 3).join(' ')}`))
    assert.deepEqual(found, [])
  }
  return page
}

const signIn = async (pool, page, key = pool.userKey) => {
  await page.goto(`${pool.url}/`)
  await page.fill('#key', key)
  await page.press('Sign in')
  await page.sees('What is to be done?')
}
const link = async (t, pool, ...more) => {
  const p = await run(t, programs.bullpen, ['admin', 'login-link', '--data', pool.data, '--email', 'ada@example.test', '--url', pool.url, ...more])
  assert.equal(p.code, 0, p.stderr)
  return p.stdout.trim()
}

test('signing in with a key: a cookie that no script sees, nothing asked of others, and out again', async t => {
  const pool = await bullpen(t), page = await browser(t, pool)
  await page.goto(`${pool.url}/agents`)
  await page.fill('#key', 'crsr_nonsense-nonsense-nonsense')
  await page.press('Sign in')
  await page.sees('this is not the API key of a user')
  await page.isAccessible()
  await signIn(pool, page)
  assert.equal(await page.evaluate(() => document.cookie), '')
  const [cookie] = await page.cookies()
  assert.deepEqual([cookie.name, cookie.httpOnly, cookie.sameSite, cookie.path], ['bullpen_session', true, 'Strict', '/'])
  await page.reload()
  await page.sees('What is to be done?')
  await page.isAccessible()
  for (const url of page.asked) assert.ok(url.startsWith(`${pool.url}/`) || url.startsWith('data:'), url)
  await page.press('Sign out')
  await page.sees('API key')
  // One whose session ends elsewhere is asked again.
  await page.fill('#key', pool.userKey)
  await page.press('Sign in')
  await page.sees('What is to be done?')
  const [other] = await page.cookies()
  await pool.http('DELETE', '/v1/session', { key: null, headers: { cookie: `bullpen_session=${other.value}`, 'x-bullpen-request': '1' } })
  await page.sees('API key')
  const old = await pool.http('GET', '/v1/me', { key: null, headers: { cookie: `bullpen_session=${cookie.value}` } })
  assert.equal(old.status, 401, 'the session is over at the server, too')
  assert.deepEqual(page.problems, [])
})

test('an agent is started, seen live, followed up and deleted', async t => {
  const pool = await bullpen(t), page = await browser(t, pool), g = gate(pool, fs)
  await pool.worker()
  const origin = await pool.origin()
  await signIn(pool, page)
  await page.fill('input[list=repositories]', origin.url)
  await page.$eval('#prompt', (el, text) => { el.value = text; el.dispatchEvent(new Event('input', { bubbles: true })) },
    `Make a file\n${file('a.txt', 'persimmon')}${tool('todo_write', { todos: [{ id: '1', content: 'Peel it', status: 'in_progress' }] })}${sh(`echo over the wire; ${g.command}`)}${sh('cat a.txt; exit 3')}`)
  await page.press('Start')
  await page.sees('over the wire')
  await page.sees('running')
  const at = await page.evaluate(() => location.pathname)
  assert.match(at, /^\/agents\/bc-/)
  await page.reload()
  await page.sees('over the wire')
  g.go()
  await page.sees(/finished/)
  await page.sees(/Branch\s+cursor\//)
  await page.evaluate(() => document.querySelectorAll('details').forEach(d => { d.open = true }))
  await page.sees('persimmon')
  await page.sees('Peel it')
  await page.isAccessible()
  await page.fill('#followup', 'And now?')
  await page.press('Send')
  await until('the second run ends', async () => (await pool.http('GET', `/v1${at}/runs`)).json.items.filter(r => r.status === 'FINISHED').length === 2)
  await page.sees(/Run/)
  page.on('dialog', d => d.accept())
  await page.press('Delete')
  await page.sees('What is to be done?')
  assert.equal((await pool.http('GET', `/v1${at}`)).status, 404)
  assert.deepEqual(page.problems, [])
})

test('pictures that are dropped into a prompt reach the model; artifacts are shown in place, a subagent below its call', async t => {
  const m = await modelServer(t), pool = await bullpen(t, { config: provider(m, 'openai', { model: 'images = true' }) }), page = await browser(t, pool)
  await pool.worker()
  const png = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='
  const call = (name, args) => ({ answer: { calls: [{ name, arguments: args }] } })
  m.next(call('run_terminal_cmd', { command: `mkdir -p artifacts && echo ${png} | base64 -d > artifacts/shot.png` }), call('task', { description: 'Look about', prompt: 'Look.', subagent_type: 'explore' }),
    call('list_dir', { path: '.' }), { answer: { text: 'It is a folder.' } }, { answer: { text: 'All done.' } })
  await signIn(pool, page)
  await page.fill('input[list=repositories]', (await pool.origin()).url)
  await page.fill('#prompt', 'What is in this picture?')
  await page.evaluate(data => {
    const to = new DataTransfer(), bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0))
    to.items.add(new File([bytes], 'dot.png', { type: 'image/png' }))
    to.items.add(new File(['x'], 'x.txt', { type: 'text/plain' }))
    document.querySelector('#prompt').dispatchEvent(new DragEvent('drop', { dataTransfer: to, bubbles: true, cancelable: true }))
  }, png)
  await page.sees('x.txt: only PNG')
  await page.waitForSelector('img[alt="dot.png"]')
  await page.press('Start')
  await page.sees('All done.')
  assert.match(JSON.stringify(m.requests[0].body), /"image_url"/)
  await page.sees(/finished/)
  await page.sees('shot.png')
  await until('the picture is seen', () => page.evaluate(() => document.querySelector('figure img')?.naturalWidth === 1))
  await page.evaluate(() => document.querySelectorAll('details').forEach(d => { d.open = true }))
  assert.equal(await page.evaluate(() => document.querySelector('.below summary code').textContent), 'list_dir')
  await page.sees(/tokens:/)
  await page.isAccessible()
  assert.deepEqual(page.problems, [])
})

test('a run that waits says why; archived agents are found; the search narrows', async t => {
  const pool = await bullpen(t), page = await browser(t, pool)
  const origin = await pool.origin()
  await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, name: 'Patience', repos: [{ url: origin.url }] } })
  const other = (await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'x' }, name: 'Tortoise', repos: [{ url: origin.url }] } })).json.agent
  await signIn(pool, page)
  await page.sees('Patience')
  await page.fill('#search', 'torto')
  await until('one is left', async () => !(await page.text()).includes('Patience'))
  await page.goto(`${pool.url}/agents/${other.id}`)
  await page.sees(/It waits: no worker is connected to pool default/)
  await page.press('Archive')
  await page.sees(/cancelled|archived/)
  await page.goto(`${pool.url}/agents`)
  await page.sees('Patience')
  await until('it is not among them', async () => !(await page.text()).includes('Tortoise'))
  await page.press('archived too')
  await page.sees('Tortoise')
})

test('a login link signs in once; an admin sees the fleet, a member does not', async t => {
  const pool = await bullpen(t), page = await browser(t, pool)
  await pool.worker({ pool: 'gpu' })
  await page.goto(await link(t, pool, '--role', 'admin'))
  await page.sees('ada@example.test')
  assert.ok(!(await page.url()).includes('#'), 'the address has no secret any more')
  await page.press('Fleet')
  await page.sees('gpu')
  await page.sees('idle')
  await page.isAccessible()
  assert.equal((await pool.http('GET', '/v0/private-workers', { key: pool.userKey })).status, 403, 'others see no more than before')
  const own = await pool.createKey('user', 'ada', 'ada@example.test')
  assert.equal((await pool.http('GET', '/v0/private-workers', { key: own })).status, 403, 'nor does a key of the admin')
  const used = await link(t, pool)
  const secret = used.split('#')[1]
  const first = await pool.http('POST', '/v1/session', { key: null, body: { loginToken: secret } }), second = await pool.http('POST', '/v1/session', { key: null, body: { loginToken: secret } })
  assert.deepEqual([first.status, second.status], [200, 401])
  await link(t, pool, '--role', 'member')
  await page.reload()
  await page.sees('ada@example.test')
  await until('the fleet is gone', async () => !/^Fleet$/m.test(await page.text()))
  const cookie = (await page.cookies())[0]
  assert.equal((await pool.http('GET', '/v0/private-workers', { key: null, headers: { cookie: `bullpen_session=${cookie.value}` } })).status, 403)
})

test('a cookie alone changes nothing: another page cannot act for the person, nor show ours in a frame', async t => {
  const pool = await bullpen(t)
  const signed = await pool.http('POST', '/v1/session', { key: null, body: { apiKey: pool.userKey } })
  assert.equal(signed.status, 200, signed.text)
  const set = signed.headers.get('set-cookie'), cookie = set.split(';')[0]
  assert.match(set, /HttpOnly; SameSite=Strict/)
  assert.equal((await pool.http('GET', '/v1/session', { key: null, headers: { cookie: `a=b; ${cookie}; c=d` } })).json.signedIn, true)
  const body = { prompt: { text: 'x' } }
  assert.equal((await pool.http('POST', '/v1/agents', { key: null, headers: { cookie }, body })).status, 401)
  assert.notEqual((await pool.http('POST', '/v1/agents', { key: null, headers: { cookie, 'x-bullpen-request': '1' }, body })).status, 401)
  for (const bad of ['bullpen_session=', 'bullpen_session=' + 'g'.repeat(64), 'bullpen_session=' + '0'.repeat(64), 'bullpen_session=' + '0'.repeat(63), ';;;', 'x'.repeat(5000), `bullpen_session="${cookie}"`])
    assert.equal((await pool.http('GET', '/v1/session', { key: null, headers: { cookie: bad } })).status, 401, bad)
  const page = await pool.http('GET', '/agents', { key: null })
  assert.deepEqual([page.headers.get('vary'), page.headers.get('x-content-type-options')], ['accept-encoding', 'nosniff'])
  const tag = page.headers.get('etag'), again = await pool.http('GET', '/fleet', { key: null, headers: { 'if-none-match': tag } }), plain = await pool.http('GET', '/agents', { key: null, headers: { 'accept-encoding': 'identity' } })
  assert.deepEqual([again.status, again.text], [304, ''])
  assert.deepEqual([plain.text, plain.headers.get('content-encoding')], [page.text, null])
  assert.notEqual(plain.headers.get('etag'), tag, 'another form has another tag')
  assert.match(page.headers.get('content-security-policy'), /default-src 'none'.*frame-ancestors 'none'/)
  for (const [what, b] of [['a service account\'s key', { apiKey: pool.poolKey }], ['both', { apiKey: 'x', loginToken: 'y' }], ['none', {}]])
    assert.ok([400, 401].includes((await pool.http('POST', '/v1/session', { key: null, body: b })).status), what)
  await run(t, programs.bullpen, ['admin', 'key', 'revoke', '--data', pool.data, pool.userKey])
  assert.equal((await pool.http('GET', '/v1/session', { key: null, headers: { cookie } })).status, 401, 'a revoked key ends its sessions')
})
