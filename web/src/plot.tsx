// A line over time, drawn by hand. A point that is not there is a gap. Arrow keys and the pointer show exact values.
import { useState } from 'preact/hooks'

export interface Line { name: string, of: (p: any) => number | undefined, shown: (v: number) => string }

const WIDTH = 640, HEIGHT = 140, LEFT = 4

const when = (ms: number) => new Date(ms).toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' })

// "M… L…" for each unbroken stretch; a point that stands alone is a short dash.
function path(points: { atMs: number }[], line: Line, x: (ms: number) => number, y: (v: number) => number, stepMs: number) {
  let d = '', last = -Infinity
  for (const p of points) {
    const v = line.of(p)
    if (v === undefined) { last = -Infinity; continue }
    d += p.atMs - last > 1.5 * stepMs ? `M${x(p.atMs).toFixed(1)} ${y(v).toFixed(1)}h1.5` : `L${x(p.atMs).toFixed(1)} ${y(v).toFixed(1)}`
    last = p.atMs
  }
  return d
}

export function Plot({ name, points, lines, from, to, stepMs, top }: { name: string, points: { atMs: number }[], lines: Line[], from: number, to: number, stepMs: number, top?: number }) {
  const [at, setAt] = useState<number>()
  const max = top ?? Math.max(1, ...points.flatMap(p => lines.map(l => l.of(p) ?? 0)))
  const x = (ms: number) => LEFT + (ms - from) / Math.max(to - from, 1) * (WIDTH - 2 * LEFT), y = (v: number) => HEIGHT - 6 - v / max * (HEIGHT - 24)
  const shown = at === undefined ? undefined : points[Math.min(at, points.length - 1)]
  const said = (p: any) => `${when(p.atMs)}: ${lines.map(l => { const v = l.of(p); return `${l.name} ${v === undefined ? 'none' : l.shown(v)}` }).join(', ')}`
  const move = (n: number) => setAt(Math.max(0, Math.min(points.length - 1, n)))
  if (points.length === 0) return <figure class="plot"><figcaption><b>{name}</b></figcaption><p class="empty">Nothing is known of this time yet: the server looks once a minute.</p></figure>
  return <figure class="plot">
    <figcaption><b>{name}</b> {lines.map((l, i) => <span key={l.name} class={`legend line${i}`}>{l.name}</span>)} <span class="dim">up to {lines[0].shown(max)}</span></figcaption>
    <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" role="slider" tabIndex={0} aria-label={`${name}, by time`}
      aria-valuemin={0} aria-valuemax={points.length - 1} aria-valuenow={at ?? points.length - 1} aria-valuetext={said(shown ?? points[points.length - 1])}
      onFocus={() => { if (at === undefined) move(points.length - 1) }}
      onKeyDown={e => {
        const now = at ?? points.length - 1, to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: points.length - 1, PageUp: now - 10, PageDown: now + 10 }[e.key]
        if (to !== undefined) { e.preventDefault(); move(to) }
      }}
      onPointerMove={e => {
        const r = e.currentTarget.getBoundingClientRect(), ms = from + (e.clientX - r.left) / r.width * (to - from)
        move(points.reduce((best, p, i) => Math.abs(p.atMs - ms) < Math.abs(points[best].atMs - ms) ? i : best, 0))
      }} onPointerLeave={() => setAt(undefined)}>
      <path class="base" d={`M0 ${HEIGHT - 6}H${WIDTH}`} />
      {lines.map((l, i) => <path key={l.name} class={`line line${i}`} d={path(points, l, x, y, stepMs)} />)}
      {shown && <path class="cursor" d={`M${x(shown.atMs)} 0V${HEIGHT}`} />}
    </svg>
    <p class="dim values" aria-hidden="true">{shown ? said(shown) : `${when(from)} to ${when(to)}`}</p>
    <details><summary>{name} as a table</summary><div class="scroll" tabIndex={0} role="region" aria-label={`${name}, table`}><table>
      <thead><tr><th>When</th>{lines.map(l => <th key={l.name}>{l.name}</th>)}</tr></thead>
      <tbody>{points.slice(-200).reverse().map((p: any) => <tr key={p.atMs}><td>{when(p.atMs)}</td>{lines.map(l => { const v = l.of(p); return <td key={l.name}>{v === undefined ? '' : l.shown(v)}</td> })}</tr>)}</tbody>
    </table></div></details>
  </figure>
}
