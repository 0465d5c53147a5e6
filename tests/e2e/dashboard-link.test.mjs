// The page of a link that connects an account: Chromium, real processes, the link as it stands in an answer at a forge.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, patience, programs, run, until } from './lib.mjs'
import { forged } from './forge-help.mjs'
import { browser, signIn } from './dashboard-help.mjs'
import { ownProvider, settings } from './oidc-help.mjs'

// Somebody who is not known here comments, and gets a link.
async function offered(pool, login = 'ann', id = 11) {
  const { forge } = pool, issue = forge.issue({ title: 'T' }), c = forge.comment({ thread: issue.number, body: '@cursor do it', by: login })
  const user = { login, id, type: 'User' }
  const [headers, body] = forge.delivery('issue_comment', { action: 'created', sender: user, repository: { id: 5, full_name: forge.name, default_branch: 'main', owner: { login: 'acme' } }, issue: { number: issue.number, title: 'T', user, author_association: 'OWNER' }, comment: { id: c.id, body: c.body, user, author_association: 'OWNER' } })
  assert.equal((await pool.http('POST', '/webhooks/github', { body, headers, key: null })).status, 200)
  const answer = await until('there is a link', () => forge.comments.find(x => x.thread === issue.number && /\/link#/.test(x.body)))
  return `${pool.url}/link#${/\/link#([0-9a-f]{64})/.exec(answer.body)[1]}`
}
const accounts = async (t, pool) => (await run(t, programs.bullpen, ['admin', 'account', 'list', '--data', pool.data])).stdout.trim().split('\n').filter(Boolean).map(l => l.split('\t').slice(2))

test('the link signs in first, says whose account it is, connects it once, and says what is wrong in words', async t => {
  const pool = await forged(t, 'github', bullpen, { worker: false }), page = await browser(t, pool), url = await offered(pool)
  await page.goto(url)
  await page.fill('#key', pool.userKey)
  assert.equal(page.url(), `${pool.url}/link`, 'what the link has is not left in the address')
  await page.isAccessible()
  await page.press('Sign in')
  await page.sees('Connect the GitHub account ann with dev@example.test?')
  assert.deepEqual(await accounts(t, pool), [], 'a person decides')
  await page.isAccessible()
  await page.press('Connect')
  await page.sees('Connected: the GitHub account ann is yours here.')
  await page.isAccessible()
  assert.deepEqual(await accounts(t, pool), [['11', 'ann', 'dev@example.test']])
  await page.reload()
  await page.sees('Open this page by the link in the answer that you got')
  await page.isAccessible()
  // The same once more, in the tab that is there, is over; another one is another account.
  await page.goto(url)
  await page.sees('this link was used, or is older than ten minutes: ask for another one where you got it')
  await page.isAccessible()
  await page.goto(await offered(pool, 'bob', 12))
  await page.sees('Connect the GitHub account bob with')
  // Somebody takes it meanwhile.
  const token = await page.evaluate(() => sessionStorage.getItem('bullpen-link'))
  assert.equal((await pool.http('POST', '/v1/account-links', { body: { token } })).status, 200)
  await page.press('Connect')
  await page.sees('this link was used')
  for (const asked of page.asked) assert.ok(!asked.includes(token) || asked.includes('#'), asked)
  assert.deepEqual(page.problems, [])
})

test('over single sign-on, which leads through another site, it comes back to the link', async t => {
  const provider = await ownProvider(t)
  const pool = await forged(t, 'github', bullpen, { worker: false, config: settings(provider.origin) }), page = await browser(t, pool)
  let location
  provider.token = () => provider.sign(provider.good(location))
  // Its page sends the browser back at once.
  await page.setRequestInterception(true)
  page.on('request', r => {
    const u = new URL(r.url())
    if (u.origin !== provider.origin) return void r.continue()
    location = r.url()
    void r.respond({ status: 302, headers: { location: `${pool.url}/v1/login/oidc/callback?code=c&state=${u.searchParams.get('state')}` } })
  })
  await page.goto(await offered(pool))
  await page.press('Sign in with single sign-on')
  // What is looked at while the page changes is gone.
  await page.waitForFunction(() => document.body?.innerText.includes('Connect the GitHub account ann with ann@corp.example?'), { timeout: 20000 * patience })
  await page.press('Connect')
  await page.sees('Connected: the GitHub account ann')
  assert.deepEqual(await accounts(t, pool), [['11', 'ann', 'ann@corp.example']])
})

test('a page that is signed in asks at once; without a link it says what to do', async t => {
  const pool = await forged(t, 'github', bullpen, { worker: false }), page = await browser(t, pool)
  await signIn(pool, page)
  await page.goto(`${pool.url}/link`)
  await page.sees('Open this page by the link')
  await page.goto(`${pool.url}/link#nonsense`)
  await page.sees('this link was used')
  await page.goto(await offered(pool))
  await page.sees('Connect the GitHub account ann with dev@example.test?')
})

test('the browser that a service sends back finds the address that the command wants, signed in or not', async t => {
  const pool = await bullpen(t), page = await browser(t, pool), url = `${pool.url}/link?code=abc%2F1&state=x.y-z_`
  await page.goto(url)
  await page.sees(`--answer '${url}'`)
  await page.isAccessible()
  assert.equal(page.url(), url)
  await page.goto(`${pool.url}/link?code=a';id;'&state=x`)
  await page.sees('--answer')
  const text = await page.evaluate(() => document.querySelector('pre').textContent)
  assert.equal(text.split("'").length, 3, text)
  await signIn(pool, page)
  await page.goto(url)
  await page.sees(`--answer '${url}'`)
  await page.goto(`${pool.url}/link?state=x`)
  await page.sees('Open this page by the link in the answer that you got')
})
