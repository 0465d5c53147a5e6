// Row w: the dashboard in Chromium. Other dashboards beside it: PEERS="name=http://127.0.0.1:8080/,…", which are only loaded.
import { execFileSync } from 'node:child_process'
import path from 'node:path'
import { fresh, good, quick, root, scratch, Server, spread, times } from './lib.mjs'

const { default: puppeteer } = await import(path.join(root, 'tests/e2e/node_modules/puppeteer-core/lib/esm/puppeteer/puppeteer-core.js'))

// A log of n events in place of the run's own: words, and calls with their ends, each another.
function longLog(file, run, n) {
  execFileSync('python3', ['-c', `
import json, sqlite3, sys
db = sqlite3.connect(sys.argv[1]); run = sys.argv[2]; n = int(sys.argv[3])
rows = db.execute("SELECT seq, kind, data, twin FROM events WHERE run_id = ? ORDER BY seq", (run,)).fetchall()
last = rows[-1]; ms = db.execute("SELECT MAX(id_ms) FROM events WHERE run_id = ?", (run,)).fetchone()[0]
db.execute("DELETE FROM events WHERE run_id = ?", (run,))
def call(i, status, **more): return json.dumps({"callId": "call-%d" % i, "name": "read_file", "status": status, "args": {"path": "src/module-%d/file-%d.c" % (i % 97, i)}, **more})
def event(i):
    if i % 3 == 0: return ("assistant", json.dumps({"text": "Now I look at file %d. %s" % (i, "It has to do with what was said before. " * (i % 5))}))
    if i % 3 == 1: return ("tool_call", call(i, "running"))
    return ("tool_call", call(i - 1, "completed", result={"success": {"content": "line\\n" * (i % 40)}}))
db.executemany("INSERT INTO events(run_id, seq, id_ms, id_n, kind, data, twin) VALUES(?, ?, ?, ?, ?, ?, NULL)", ((run, i + 1, ms, i, *event(i)) for i in range(n)))
db.execute("INSERT INTO events(run_id, seq, id_ms, id_n, kind, data, twin) VALUES(?, ?, ?, 0, ?, ?, ?)", (run, n + 1, ms + 1, *last[1:]))
db.execute("UPDATE runs SET last_seq = ? WHERE id = ?", (n + 1, run)); db.commit()`, file, run, String(n)])
}

const open = () => puppeteer.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu', '--enable-precise-memory-info'], userDataDir: fresh(scratch, 'chromium'), defaultViewport: { width: 1280, height: 900 } })

// One first load in a profile of its own that has nothing cached: bytes as sent, first paint, script, and when `ready` holds.
async function load(browser, url, { ready, cookie } = {}) {
  const context = await browser.createBrowserContext(), page = await context.newPage(), cdp = await page.createCDPSession()
  let bytes = 0, requests = 0
  await cdp.send('Network.enable')
  cdp.on('Network.loadingFinished', e => { bytes += e.encodedDataLength; requests++ })
  if (cookie) await page.setCookie({ ...cookie, url })
  await page.evaluateOnNewDocument(what => {
    const look = () => { if (!window.readyAt && document.querySelector(what)) window.readyAt = performance.now() }
    new MutationObserver(look).observe(document, { childList: true, subtree: true })
  }, ready ?? 'input, button, a[href]')
  await page.goto(url, { waitUntil: 'networkidle2', timeout: 60_000 })
  await page.waitForFunction(() => window.readyAt && performance.getEntriesByName('first-contentful-paint').length, { timeout: 30_000 })
  const paint = await page.evaluate(() => performance.getEntriesByName('first-contentful-paint')[0].startTime), readyAt = await page.evaluate(() => window.readyAt), { ScriptDuration } = await page.metrics()
  await context.close()
  return { bytes: bytes / 1000, requests, paint, ready: readyAt, script: ScriptDuration * 1000 }
}

async function frames(page) {
  return page.evaluate(() => new Promise(done => {
    const gaps = []
    let before
    scrollTo(0, 0)
    const frame = now => {
      if (before !== undefined) gaps.push(now - before)
      before = now
      const y = scrollY
      scrollBy(0, 250)
      if (gaps.length > 5 && scrollY === y) done(gaps)
      else requestAnimationFrame(frame)
    }
    setTimeout(() => requestAnimationFrame(frame), 300)
  }))
}

export async function rowW(table, body, step) {
  const s = await Server.start(), w = await s.workers(1), n = quick ? 20_000 : 100_000
  good(await s.load('runs', body(step), 1, 2))
  const { items } = await s.get('/v1/agents'), runs = {}
  for (const [i, events] of [10_000, n].entries()) runs[events] = { agent: items[i].id, run: items[i].latestRunId }
  await s.proc.end('SIGTERM')
  for (const [events, r] of Object.entries(runs)) longLog(path.join(s.data, 'bullpen.db'), r.run, Number(events))
  await s.again()
  const signed = await fetch(`${s.url}/v1/session`, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ apiKey: s.user }) })
  const [name, value] = signed.headers.get('set-cookie').split(';')[0].split('='), cookie = { name, value }
  const browser = await open(), count = quick ? 3 : 7
  try {
    await load(browser, `${s.url}/agents`, { cookie, ready: '#prompt' }) // the browser itself is cold
    const first = await times(count, () => load(browser, `${s.url}/agents`, { cookie, ready: '#prompt' }))
    const m = (all, k) => all.map(x => x[k])
    table.add('w', 'dashboard, first load: bytes as sent', 'kB', m(first, 'bytes'), { goal: { text: '150 kB', ok: v => v <= 150 }, note: `${first[0].requests} requests, those to the API included` })
    table.add('w', 'first load: first paint with content', 'ms', m(first, 'paint'))
    table.add('w', 'first load: until the form is in the page', 'ms', m(first, 'ready'))
    table.add('w', 'first load: script', 'ms', m(first, 'script'), { goal: { text: '100 ms', ok: v => v <= 100 } })
    for (const peer of (process.env.PEERS ?? '').split(',').filter(Boolean)) {
      const [what, url] = [peer.slice(0, peer.indexOf('=')), peer.slice(peer.indexOf('=') + 1)]
      await load(browser, url)
      const all = await times(count, () => load(browser, url)), r = k => spread(m(all, k)).median.toFixed(0)
      table.add('w', `${what}, first load: bytes as sent`, 'kB', m(all, 'bytes'), { note: `${all[0].requests} requests; first paint ${r('paint')} ms, script ${r('script')} ms` })
    }
    const cookies = [{ ...cookie, url: s.url }]
    const shown = await times(quick ? 1 : 3, async () => {
      const context = await browser.createBrowserContext(), page = await context.newPage(), { agent } = runs[n]
      await page.setCookie(...cookies)
      const began = performance.now()
      await page.goto(`${s.url}/agents/${agent}`)
      await page.waitForFunction(n => { const f = document.querySelector('[role=feed]'); return f?.getAttribute('aria-busy') === 'false' && Number(f.lastElementChild?.ariaSetSize) > n / 2 }, { timeout: 120_000, polling: 'raf' }, n)
      const seconds = (performance.now() - began) / 1000, cdp = await page.createCDPSession()
      await cdp.send('HeapProfiler.collectGarbage')
      const heap = (await page.metrics()).JSHeapUsedSize / 2 ** 20
      await context.close()
      return { rate: n / seconds, heap }
    })
    table.add('w', `a run of ${n} events, from its address until all of it can be scrolled through`, 'events/s', m(shown, 'rate'))
    table.add('w', 'the same: JavaScript heap, after a collection', 'MiB', m(shown, 'heap'))
    const all = await times(quick ? 1 : 3, async () => {
      const context = await browser.createBrowserContext(), page = await context.newPage()
      await page.setCookie(...cookies)
      await page.goto(`${s.url}/agents/${runs[10_000].agent}`)
      await page.waitForFunction(() => document.querySelector('[role=feed]')?.getAttribute('aria-busy') === 'false')
      const gaps = (await frames(page)).sort((a, b) => a - b)
      await context.close()
      return { p50: gaps[gaps.length >> 1], p99: gaps[Math.floor(gaps.length * 0.99)], late: gaps.filter(g => g > 25).length / gaps.length * 100, n: gaps.length }
    })
    table.add('w', 'scrolling through 10,000 events: a frame, p50', 'ms', m(all, 'p50'), { goal: { text: '16.7 ms', ok: v => v <= 16.8 }, note: `p99 ${spread(m(all, 'p99')).median.toFixed(1)} ms; ${spread(m(all, 'late')).median.toFixed(1)} % of ${all[0].n} frames came later than 25 ms` })
  } finally {
    await browser.close()
    await s.stop(w)
  }
}
