// What the tests of the dashboard share: a browser that drives the page as a person does.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { createRequire } from 'node:module'
import puppeteer from 'puppeteer-core'
import { atEnd, programs, run, until } from './lib.mjs'

const axe = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

export async function browser(t, pool) {
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

export const signIn = async (pool, page, key = pool.userKey) => {
  await page.goto(`${pool.url}/`)
  await page.fill('#key', key)
  await page.press('Sign in')
  await page.sees('What is to be done?')
}
export const link = async (t, pool, ...more) => {
  const p = await run(t, programs.bullpen, ['admin', 'login-link', '--data', pool.data, '--email', 'ada@example.test', '--url', pool.url, ...more])
  assert.equal(p.code, 0, p.stderr)
  return p.stdout.trim()
}
