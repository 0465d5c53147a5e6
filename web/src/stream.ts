// One run's events, from the beginning and as they come, and what they amount to: a list of pieces. After a cut the reader says how
// far it has read (Last-Event-ID), so that nothing is missed or doubled.
import { SIGNED_OUT } from './api'

export interface Call { callId: string, name: string, status: string, args: any, result?: any, parentCallId?: string, truncated?: any }
// `v` counts the changes of a piece, `height` is what it took on the screen, `below` what a subagent does.
interface Piece { key: string, v: number, depth: number, height?: number, below?: Item[] }
export interface Words extends Piece { kind: 'text' | 'thinking', text: string }
export interface CallItem extends Piece { kind: 'call', call: Call, output: string, began: number, ended?: number }
export type Item = Words | CallItem
export interface Told { name: string, data: any, at: number }

const OUTPUT_MAX = 200_000, TEXT_PIECE = 3000

// A long text is cut at the end of a line into pieces of its own, outside of blocks of code: only what is on the screen is drawn.
// Where the first piece ends; 0: it is not long, or its end is not known yet.
function cutAt(text: string): number {
  for (let at = text.indexOf('\n', TEXT_PIECE) + 1; at > 0; at = text.indexOf('\n', at) + 1)
    if (text.slice(0, at).split(/^```/m).length & 1 || at > 8 * TEXT_PIECE) return at
  return text.length > 8 * TEXT_PIECE ? 8 * TEXT_PIECE : 0
}

export class RunLog {
  top: Item[] = []
  calls = new Map<string, CallItem>()
  status?: string
  wait?: string
  done = false
  lost = false
  gone?: string // why there is nothing to be read
  events = 0
  private parents: CallItem[] = [] // those with something below
  private n = 0

  // Whether a piece began or a call ended: the steps of a replay.
  take(name: string, d: any, at: number): boolean {
    this.events++
    switch (name) {
      case 'assistant': return this.say(this.top, 0, 'text', d.text)
      case 'thinking': return this.say(this.top, 0, 'thinking', d.text)
      case 'tool_call': return this.call(d, at)
      case 'interaction_update': return this.update(d)
      case 'status': this.status = d.status ?? this.status; this.wait = d.message; return false
      case 'result': this.status = d.status ?? this.status; return false
      case 'done': this.done = true; return false
    }
    return false
  }

  private say(list: Item[], depth: number, kind: Words['kind'], text: unknown): boolean {
    if (typeof text !== 'string' || text === '') return false
    let last = list.at(-1), begun = false
    if (last?.kind === kind) { last.text += text; last.v++ } else { list.push(last = { kind, key: `${kind}${++this.n}`, v: 0, depth, text }); begun = true }
    for (let cut; kind === 'text' && (cut = cutAt(last.text)) > 0;) {
      const rest: Words = { kind, key: `${kind}${++this.n}`, v: 0, depth, text: last.text.slice(cut) }
      last.text = last.text.slice(0, cut)
      list.push(last = rest)
    }
    return begun
  }

  private call(d: Call, at: number): boolean {
    const known = this.calls.get(d.callId)
    if (known) {
      known.call = { ...known.call, ...d }
      if (d.status !== 'running') known.ended = at
      if (typeof (d.result?.success ?? d.result?.failure)?.stdout === 'string') known.output = '' // the result has it
      known.v++
      return d.status !== 'running'
    }
    const parent = d.parentCallId !== undefined ? this.calls.get(d.parentCallId) : undefined
    const item: CallItem = { kind: 'call', key: d.callId, v: 0, depth: parent ? parent.depth + 1 : 0, call: d, output: '', began: at, ended: d.status === 'running' ? undefined : at }
    this.calls.set(d.callId, item)
    ;(parent ? this.below(parent) : this.top).push(item)
    return true
  }

  private below(parent: CallItem): Item[] {
    if (!parent.below) { parent.below = []; this.parents.push(parent) }
    return parent.below
  }

  private update(d: any): boolean {
    if (d.type === 'shell-output-delta') {
      const item = this.calls.get(d.event?.callId)
      if (!item || typeof d.event.data !== 'string') return false
      item.output = (item.output + d.event.data).slice(-OUTPUT_MAX)
      item.v++
      return false
    }
    // What a subagent says; its calls come as tool_call with their parent.
    const parent = d.type === 'tool-call-delta' ? this.calls.get(d.callId) : undefined, said = d.taskUpdate?.type
    if (!parent || (said !== 'text-delta' && said !== 'thinking-delta')) return false
    return this.say(this.below(parent), parent.depth + 1, said === 'text-delta' ? 'text' : 'thinking', d.taskUpdate.text)
  }

  // The pieces in the order in which they are shown. What a subagent does stands behind its call while that is open.
  rows(isOpen: (item: Item) => boolean): Item[] {
    if (!this.parents.some(isOpen)) return this.top
    const out: Item[] = []
    const add = (list: Item[]) => { for (const i of list) { out.push(i); if (i.below && isOpen(i)) add(i.below) } }
    add(this.top)
    return out
  }
}

function frame(text: string): { id: string, name: string, data: string } {
  const f = { id: '', name: '', data: '' }
  for (const line of text.split('\n')) {
    if (line.startsWith('data: ')) f.data += (f.data && '\n') + line.slice(6)
    else if (line.startsWith('event: ')) f.name = line.slice(7)
    else if (line.startsWith('id: ')) f.id = line.slice(4)
  }
  return f
}

const wait = (ms: number, stop: AbortSignal) => new Promise<void>(resolve => { const t = setTimeout(resolve, ms); stop.addEventListener('abort', () => { clearTimeout(t); resolve() }) })

// Hands on each event, and again and again whether the connection stands ('lost'), until the run's last one. The answer 'gone' says why
// there is none. What it gives stops it.
export function read(path: string, on: (e: Told) => void, news: (what: 'lost' | 'found' | 'gone', why?: string) => void): () => void {
  const stop = new AbortController()
  let last = '', over = false, pause = 500
  const take = (text: string) => {
    const f = frame(text)
    if (!f.name) return
    // `result` has the id of `done`: going on behind it would miss that.
    if (f.id && f.name !== 'result') last = f.id
    let data: any
    try { data = JSON.parse(f.data) } catch { return }
    if (typeof data !== 'object' || data === null) return
    if (f.name === 'done') over = true
    on({ name: f.name, data, at: Number(f.id.split('-')[0]) || Date.now() })
  }
  const once = async () => {
    const res = await fetch(path, { headers: last ? { 'last-event-id': last } : {}, signal: stop.signal, credentials: 'same-origin' })
    if (res.status === 401) dispatchEvent(new Event(SIGNED_OUT))
    if (res.status >= 400 && res.status < 500 && res.status !== 429) {
      over = true
      news('gone', (await res.json().catch(() => undefined))?.error?.message ?? `the server answered ${res.status}`)
      return
    }
    if (!res.ok || !res.body) throw new Error(`${res.status}`)
    news('found')
    const reader = res.body.pipeThrough(new TextDecoderStream()).getReader()
    for (let rest = ''; ;) {
      const { done, value } = await reader.read()
      if (done) return
      pause = 500
      rest += value
      let from = 0
      for (let end; (end = rest.indexOf('\n\n', from)) >= 0; from = end + 2) take(rest.slice(from, end))
      rest = rest.slice(from)
    }
  }
  const all = async () => {
    while (!over && !stop.signal.aborted) {
      try { await once() } catch { /* the connection; it is tried again */ }
      if (over || stop.signal.aborted) return
      news('lost')
      await wait(pause, stop.signal)
      pause = Math.min(pause * 2, 10_000)
    }
  }
  void all()
  return () => stop.abort()
}

// The log of a run as it comes. `changed` is called at most once a frame: a busy run has more events than a screen can show.
export function follow(path: string, log: RunLog, changed: () => void): () => void {
  let drawing = 0
  const draw = () => { drawing ||= requestAnimationFrame(() => { drawing = 0; changed() }) }
  const stop = read(path, e => { log.take(e.name, e.data, e.at); draw() }, (what, why) => {
    log.lost = what === 'lost'
    if (what === 'gone') { log.gone = why; log.done = true }
    draw()
  })
  return () => { stop(); cancelAnimationFrame(drawing) }
}
