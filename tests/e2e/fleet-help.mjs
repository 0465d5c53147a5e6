// What the tests of the fleet API share: the form of its errors, requests that wait, and its stream of events.
import assert from 'node:assert/strict'
import { hasHeaders } from './api-help.mjs'
import { until } from './lib.mjs'

export const FLEET = '/v0/private-workers'
export const REPO = 'https://git.example.test/acme/shop'

// An error is exactly {"error":"Title: detail"}.
export function isFleetError(r, status, title, detail) {
  assert.equal(r.status, status, `${status} ${title} was wanted; the answer was ${r.status} ${r.text}`)
  assert.deepEqual(Object.keys(r.json), ['error'], r.text)
  assert.ok(r.json.error.startsWith(`${title}: `) && r.json.error.length > title.length + 2, r.text)
  if (detail) assert.match(r.json.error, detail)
  hasHeaders(r)
}

export const fleet = (pool, method, path, options = {}) => pool.http(method, FLEET + path, { key: pool.poolKey, ...options })

export async function got(r) {
  const a = await r
  assert.equal(a.status, 200, a.text)
  return a.json
}

export const registerPool = (pool, poolName, more = {}) => got(fleet(pool, 'POST', '/pools', { body: { scope: 'team', poolName, ...more } }))

// An agent whose first run waits in that pool; its id is the request's.
export async function waiting(pool, name, { repos = [{ url: REPO }], extra = {}, key } = {}) {
  const r = await pool.http('POST', '/v1/agents', { body: { prompt: { text: 'hi' }, ...(repos ? { repos } : {}), env: { type: 'pool', name }, ...extra }, ...(key ? { key } : {}) })
  assert.equal(r.status, 201, r.text)
  return { id: r.json.agent.id, runId: r.json.run.id }
}

export const runOf = (pool, a, key) => got(pool.http('GET', `/v1/agents/${a.id}/runs/${a.runId}`, key ? { key } : {}))

// The stream of events, read by hand: the order of the lines is a part of the contract.
export class Watch {
  static async open(pool, query, { lastEventId, key = pool.poolKey } = {}) {
    const w = new Watch()
    w.abort = new AbortController()
    w.response = await pool.fetch(`${pool.url}${FLEET}/pending-requests/stream${query}`, {
      headers: { authorization: `Bearer ${key}`, ...(lastEventId !== undefined ? { 'last-event-id': lastEventId } : {}) }, signal: w.abort.signal,
    })
    w.status = w.response.status
    w.headers = w.response.headers
    w.frames = []
    if (w.status === 200) w.finished = w.#read().catch(e => { w.error = e })
    else { w.text = await w.response.text(); w.json = JSON.parse(w.text) }
    return w
  }
  async #read() {
    const decoder = new TextDecoder()
    let rest = ''
    for await (const chunk of this.response.body) {
      rest += decoder.decode(chunk, { stream: true })
      let at
      while ((at = rest.indexOf('\n\n')) >= 0) {
        const text = rest.slice(0, at)
        rest = rest.slice(at + 2)
        if (text.startsWith(':')) { this.comment = text; continue }
        const m = text.match(/^event: (\w+)\nid: ([\w-]+)\ndata: (.*)$/)
        if (!m) throw new Error(`not a frame: ${JSON.stringify(text)}`)
        this.frames.push({ event: m[1], id: m[2], data: JSON.parse(m[3]) })
      }
    }
    this.complete = true
  }
  get told() { return this.frames.filter(f => f.event !== 'heartbeat').map(f => `${f.event} ${f.data.id}`) }
  until(what, fn, seconds) { return until(`watch: ${what}; told ${this.told}; ${this.error ?? ''}`, () => fn(this.frames), seconds) }
  event(event, id) { return this.until(`${event} ${id}`, fs => fs.find(f => f.event === event && f.data.id === id)) }
  close() { this.abort.abort() }
}
