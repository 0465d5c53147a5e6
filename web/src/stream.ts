// One run's events, from the beginning and as they come. The browser reconnects by itself and says how far it has read
// (Last-Event-ID), so that nothing is missed or doubled.
export interface Call { callId: string, name: string, status: string, args: any, result?: any, parentCallId?: string }
export type Item =
  | { kind: 'text', key: string, text: string } | { kind: 'thinking', key: string, text: string }
  | { kind: 'call', key: string, call: Call, output: string, began: number, ended?: number }

export interface Log { items: Item[], status?: string, wait?: string, done: boolean, lost: boolean }

export function follow(path: string, changed: (log: Log) => void): () => void {
  const log: Log = { items: [], done: false, lost: false }
  const calls = new Map<string, number>()
  let n = 0, frame = 0
  const source = new EventSource(path)
  // A busy run has more events than a screen can show: it is drawn at most once a frame.
  const draw = () => { if (!frame) frame = requestAnimationFrame(() => { frame = 0; changed({ ...log, items: log.items.slice() }) }) }
  const on = (name: string, fn: (data: any, at: number) => void) => source.addEventListener(name, e => {
    const m = e as MessageEvent
    let data: any
    try { data = JSON.parse(m.data) } catch { return }
    log.lost = false
    fn(data, Number((m.lastEventId || '').split('-')[0]) || Date.now())
    draw()
  })
  const text = (kind: 'text' | 'thinking') => (d: any) => {
    const last = log.items.at(-1)
    if (last?.kind === kind) log.items[log.items.length - 1] = { ...last, text: last.text + (d.text ?? '') }
    else log.items.push({ kind, key: `${kind}${++n}`, text: d.text ?? '' })
  }
  on('assistant', text('text'))
  on('thinking', text('thinking'))
  on('tool_call', (d: Call, at) => {
    const i = calls.get(d.callId)
    if (i === undefined) {
      calls.set(d.callId, log.items.length)
      log.items.push({ kind: 'call', key: d.callId, call: d, output: '', began: at })
      return
    }
    const item = log.items[i]
    if (item.kind === 'call') log.items[i] = { ...item, call: { ...item.call, ...d }, ended: d.status === 'running' ? undefined : at }
  })
  on('interaction_update', (d: any) => {
    if (d.type !== 'shell-output-delta') return
    const i = calls.get(d.event?.callId), item = i === undefined ? undefined : log.items[i]
    if (item?.kind === 'call') log.items[i!] = { ...item, output: (item.output + d.event.data).slice(-200_000) }
  })
  on('status', d => { log.status = d.status ?? log.status; log.wait = d.message })
  on('result', d => { log.status = d.status ?? log.status })
  on('done', () => { log.done = true; source.close() })
  source.onerror = () => { log.lost = source.readyState !== EventSource.OPEN && !log.done; draw() }
  return () => { source.close(); cancelAnimationFrame(frame) }
}
