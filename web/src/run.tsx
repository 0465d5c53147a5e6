// A run as a list of pieces: live, or step by step as it was.
import { useEffect, useMemo, useRef, useState } from 'preact/hooks'
import { List } from './list'
import { Copy, headline, isOpen, nameOf, Row, Shown, textOf } from './pieces'
import { follow, Item, read, RunLog, Told } from './stream'

export const RUN_KEYS: [string, string][] = [['j k', 'next and previous piece of a run'], ['Space ← → Home End', 'play, step, to the ends of a replay']]

const typing = (e: KeyboardEvent) => e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test((e.target as HTMLElement).tagName)

// Pieces, and what is done with them: searching, walking, opening, following the end.
function Pieces({ log, tick, past, follows, link, mark }: { log: RunLog, tick: number, past: boolean, follows: boolean, link: (callId: string) => string, mark?: Item }) {
  const list = useRef<List>(null)
  const [, again] = useState(0)
  const [following, setFollowing] = useState(follows)
  const now = useRef(following)
  now.current = following
  const shown = useMemo<Shown>(() => ({
    opened: new Map(), link, following: () => now.current,
    toggled: (key, open) => { shown.opened.set(key, open); if (!past) list.current?.follow(false); again(n => n + 1) },
  }), [past, link])
  const rows = log.rows(i => isOpen(shown, i))
  const [words, setWords] = useState('')
  const [at, setAt] = useState(-1)
  const wanted = words.trim().toLowerCase()
  const hits = useMemo(() => wanted.length < 2 ? [] : rows.flatMap((r, i) => textOf(r).toLowerCase().includes(wanted) ? [i] : []), [wanted, rows, log.done ? tick : 0])
  const to = (i: number, focus: boolean) => {
    list.current?.show(i)
    if (focus) requestAnimationFrame(() => document.querySelector<HTMLElement>(`[data-row="${i}"]`)?.focus({ preventScroll: true }))
  }
  const step = (by: number) => {
    if (!hits.length) return
    const next = (at + by + hits.length) % hits.length
    setAt(next)
    shown.opened.set(rows[hits[next]].key, true)
    to(hits[next], false)
    again(n => n + 1)
  }
  useEffect(() => {
    const pressed = (e: KeyboardEvent) => {
      if (typing(e) || (e.key !== 'j' && e.key !== 'k')) return
      const here = document.activeElement?.closest<HTMLElement>('[data-row]') ?? [...document.querySelectorAll<HTMLElement>('[data-row]')].find(x => x.getBoundingClientRect().bottom > 64)
      if (here) { e.preventDefault(); to(Math.max(0, Number(here.dataset.row) + (e.key === 'j' ? 1 : -1)), true) }
    }
    addEventListener('keydown', pressed)
    return () => removeEventListener('keydown', pressed)
  }, [])
  // A link to a call: once it is there, it is shown.
  const target = useRef(decodeURIComponent(location.hash).replace(/^#call-/, ''))
  useEffect(() => {
    const changed = () => { target.current = decodeURIComponent(location.hash).replace(/^#call-/, ''); again(n => n + 1) }
    addEventListener('hashchange', changed)
    return () => removeEventListener('hashchange', changed)
  }, [])
  useEffect(() => {
    const call = target.current ? log.calls.get(target.current) : undefined
    if (!call) return
    for (let c: typeof call | undefined = call; c; c = c.call.parentCallId ? log.calls.get(c.call.parentCallId) : undefined) shown.opened.set(c.key, true)
    const i = log.rows(x => isOpen(shown, x)).indexOf(call)
    if (!log.done && i < 0) return
    target.current = ''
    again(n => n + 1)
    requestAnimationFrame(() => list.current?.show(i))
  }, [tick, target.current])
  return <section aria-label="What it does">
    {rows.length > 15 && <div class="bar find" role="search"><input type="search" id="search" aria-label="Find in this run" placeholder="Find in this run" value={words} onInput={e => { setWords(e.currentTarget.value); setAt(-1) }}
      onKeyDown={e => { if (e.key === 'Enter') { e.preventDefault(); step(e.shiftKey ? -1 : 1) } }} />
      {wanted.length > 1 && <><span role="status" class="dim">{at >= 0 ? `${at + 1} of ` : ''}{hits.length} found</span>
        <button type="button" onClick={() => step(-1)} disabled={!hits.length}>Previous</button><button type="button" onClick={() => step(1)} disabled={!hits.length}>Next</button></>}</div>}
    <List ref={list} rows={rows} tick={tick} busy={!log.done} follows={follows} label="Steps of the run" followed={setFollowing}
      draw={(item, index) => <Row key={item.key} item={item} v={item.v} index={index} size={log.done ? rows.length : -1} open={isOpen(shown, item)} shown={shown}
        mark={item === mark ? 'now' : at >= 0 && hits[at] === index ? 'found' : ''} />} />
    {!past && !following && (!log.done || rows.length > 15) && <button class="toend" onClick={() => list.current?.follow(true)}>{log.done ? 'To the end' : 'Follow the end'}</button>}
  </section>
}

// `active`: it may still go on; then its end is followed. One that is over is read from its beginning.
// `whole` is called once it has all, or cannot have it: what stands below does not jump.
export function Live({ path, page, active, whole }: { path: string, page: string, active: boolean, whole: () => void }) {
  const log = useMemo(() => new RunLog(), [path])
  const [tick, setTick] = useState(0)
  useEffect(() => follow(path, log, () => { setTick(n => n + 1); if (log.done || log.lost) whole() }), [log])
  const link = useMemo(() => (id: string) => `${page}#call-${encodeURIComponent(id)}`, [page])
  return <>
    {log.lost && <p class="dim" role="status">The connection was lost; it comes back by itself.</p>}
    {log.gone && <p class="empty" role="status">There is no log to show: {log.gone}</p>}
    <Pieces log={log} tick={tick} past={false} follows={active && !location.hash} link={link} />
    <p class="sr" role="status">{log.done ? `The run has ended: ${log.status?.toLowerCase() ?? ''}` : ''}</p>
  </>
}

const clock = (ms: number) => { const s = Math.max(0, Math.round(ms / 1000)); return `${Math.floor(s / 60)}:${String(s % 60).padStart(2, '0')}` }
const SPEEDS = [0.5, 1, 2, 4, 8, 16], PAUSE_MAX = 2000 // of a long wait no more is shown

// All events of a run that is over. A step is where a piece begins or a call ends; at step N the page shows what there was then.
class Tape {
  events: Told[] = []
  ends: number[] = [] // of each step: how many events have happened
  times: number[] = [] // and when it begins
  log = new RunLog()
  private fed = 0
  close() {
    const all = new RunLog()
    this.events.forEach((e, i) => { if (all.take(e.name, e.data, e.at)) { if (this.times.length) this.ends.push(i); this.times.push(e.at) } })
    if (this.times.length) this.ends.push(this.events.length)
  }
  to(step: number) {
    const end = step === 0 ? 0 : this.ends[step - 1]
    if (end < this.fed) { this.log = new RunLog(); this.fed = 0 }
    for (; this.fed < end; this.fed++) { const e = this.events[this.fed]; this.log.take(e.name, e.data, e.at) }
  }
}

const lastOf = (items: Item[]): Item | undefined => { const i = items.at(-1); return i?.below?.length && i.kind === 'call' && i.call.status === 'running' ? lastOf(i.below) : i }

export function Replay({ path, page, start, leave, whole }: { path: string, page: string, start: string, leave: () => void, whole: () => void }) {
  const tape = useMemo(() => new Tape(), [path])
  const [gone, setGone] = useState<string>()
  const [ready, setReady] = useState(false)
  const [at, setAt] = useState(0)
  const [playing, setPlaying] = useState(false)
  const [speed, setSpeed] = useState(1)
  const n = tape.times.length
  const go = (to: number) => setAt(Math.min(Math.max(0, Math.round(to) || 0), n))
  useEffect(() => read(path, e => {
    tape.events.push(e)
    if (e.name !== 'done') return
    tape.close()
    setReady(true)
    whole()
    setAt(Math.min(Math.max(0, Math.round(Number(start)) || 0), tape.times.length))
  }, (what, why) => { if (what === 'gone') setGone(why); if (what !== 'found') whole() }), [tape])
  useEffect(() => {
    if (!playing || !ready) return
    if (at >= n) { setPlaying(false); return }
    const gap = at === 0 ? 0 : tape.times[at] - tape.times[at - 1]
    const timer = setTimeout(() => setAt(at + 1), Math.max(16, Math.min(PAUSE_MAX, gap) / speed))
    return () => clearTimeout(timer)
  }, [playing, at, speed, ready])
  // The address says which step it is; browsers let it change a few times a second only.
  const address = `${page}${page.includes('?') ? '&' : '?'}at=${at}`
  useEffect(() => {
    if (!ready) return
    const timer = setTimeout(() => history.replaceState(null, '', address), playing ? 1000 : 150)
    return () => clearTimeout(timer)
  }, [address, ready, playing])
  const toggle = () => { if (!playing && at >= n) setAt(0); setPlaying(!playing) }
  const keys = useRef<(e: KeyboardEvent) => void>(() => {})
  keys.current = e => {
    const what = e.target as HTMLElement
    if (e.ctrlKey || e.metaKey || e.altKey || (/^(INPUT|TEXTAREA|SELECT)$/.test(what.tagName) && what.id !== 'timeline')) return
    if (e.key === ' ' && /^(BUTTON|SUMMARY|A)$/.test(what.tagName)) return
    const act: Record<string, () => void> = { ' ': toggle, ArrowLeft: () => go(at - 1), ArrowRight: () => go(at + 1), Home: () => go(0), End: () => go(n) }
    if (act[e.key]) { e.preventDefault(); if (e.key !== ' ') setPlaying(false); act[e.key]() }
  }
  useEffect(() => {
    const pressed = (e: KeyboardEvent) => keys.current(e)
    addEventListener('keydown', pressed)
    return () => removeEventListener('keydown', pressed)
  }, [])
  if (ready) tape.to(at)
  const mark = lastOf(tape.log.top), began = tape.times[0] ?? 0, time = at ? tape.times[at - 1] - began : 0, length = n ? tape.times[n - 1] - began : 0
  const link = useMemo(() => (id: string) => `${page}#call-${encodeURIComponent(id)}`, [page])
  if (gone) return <p class="empty" role="status">There is no log to replay: {gone} <button onClick={leave}>Leave</button></p>
  const what = mark?.kind === 'call' ? `${nameOf(mark.call)} ${headline(mark.call.name, mark.call.args).slice(0, 80)}` : mark?.kind ?? 'the beginning'
  return <section aria-label="Replay">
    <div class="replay">
      <div class="bar">
        <button class="primary" onClick={toggle} disabled={!ready}>{playing ? 'Pause' : 'Play'}</button>
        <button onClick={() => { setPlaying(false); go(at - 1) }} disabled={at === 0} aria-label="Previous step">◂</button>
        <button onClick={() => { setPlaying(false); go(at + 1) }} disabled={at >= n} aria-label="Next step">▸</button>
        <label>Speed <select value={speed} onChange={e => setSpeed(Number(e.currentTarget.value))}>{SPEEDS.map(s => <option key={s} value={s}>{s}×</option>)}</select></label>
        <span class="dim">Step {at} of {n} · {clock(time)} of {clock(length)}</span>
        <span class="grow" />
        <Copy text={() => new URL(address, location.href).href} what="link to this step" />
        <button onClick={leave}>Leave</button>
      </div>
      <input type="range" id="timeline" aria-label="Time line" min={0} max={n} step={1} value={at} aria-valuetext={`step ${at} of ${n}, ${what}`} disabled={!ready}
        onInput={e => { setPlaying(false); go(Number(e.currentTarget.value)) }} />
    </div>
    <Pieces log={tape.log} tick={at + (ready ? 1 : 0)} past follows link={link} mark={mark} />
  </section>
}
