// A long list of pieces of any height, of which only those are drawn that are near the screen. It scrolls with the page. What the
// reader looks at stays where it is when pieces above turn out higher or lower than was thought, and while she is at the end she stays there.
import { ComponentChildren, createRef, Component } from 'preact'
import { Item } from './stream'

const WHOLE = 200 // a short list is drawn whole
const AROUND = 900, SLACK = 400 // pixels that are drawn beyond the screen; of them those that may be used up before it is drawn anew
const TOP = 64 // what the header hides

function guess(i: Item): number {
  return i.height ?? (i.kind === 'text' ? 28 + 23 * Math.ceil(i.text.length / 100) : 42)
}

interface Props { rows: Item[], tick: number, busy: boolean, follows: boolean, label: string, draw: (item: Item, index: number) => ComponentChildren, followed: (on: boolean) => void }

export class List extends Component<Props, { from: number, to: number }> {
  state = { from: 0, to: WHOLE }
  private box = createRef<HTMLDivElement>()
  private tops = new Float64Array(1024) // where each row begins; one more for the end
  private known = 0 // so many of them are right
  private width = 0
  private stick = this.props.follows
  // A scroll is told a frame later than it is made. What the list does in between must not take the reader's scroll back,
  // so each place is kept with the scroll position it was taken at.
  private put = -1 // where the list itself scrolled to last
  private hers = false // she scrolled and it was not told yet
  private kept?: { key: string, y: number, at?: number } // the row that stays where it is; without `at`, where it is to come
  private size = new ResizeObserver(() => this.settle())

  componentDidMount() {
    addEventListener('scroll', this.scrolled, { passive: true })
    this.size.observe(this.box.current!)
    this.size.observe(document.body) // what comes below the list moves the end, too
    this.settle()
  }
  componentWillUnmount() { removeEventListener('scroll', this.scrolled); this.size.disconnect() }
  componentDidUpdate(before: Props) {
    if (before.rows !== this.props.rows) this.known = 0
    this.settle()
  }

  // The end is what she wants to see from now on, or not.
  follow(on: boolean) {
    if (this.stick !== on) { this.stick = on; this.props.followed(on) }
    if (on) { this.kept = undefined; this.place() ; this.toEnd() }
  }
  // Brings the row to the top of the screen.
  show(index: number) {
    const row = this.props.rows[index]
    if (!row) return
    this.follow(false)
    this.measure()
    this.kept = { key: row.key, y: TOP + 16 }
    const around = Math.ceil(innerHeight / 30)
    this.setState(this.props.rows.length <= WHOLE ? {} : { from: Math.max(0, index - around), to: Math.min(this.props.rows.length, index + 2 * around) })
  }

  private upTo(n: number) {
    const { rows } = this.props
    if (this.tops.length < rows.length + 1) { const wider = new Float64Array(rows.length * 2 + 2); wider.set(this.tops); this.tops = wider }
    for (let i = Math.min(this.known, n); i < n; i++) this.tops[i + 1] = this.tops[i] + guess(rows[i])
    this.known = Math.max(this.known, n)
    return this.tops[n]
  }
  private indexAt(y: number) {
    let a = 0, b = this.props.rows.length
    while (a < b) { const m = (a + b) >> 1; if (this.tops[m + 1] <= y) a = m + 1; else b = m }
    return a
  }
  // Takes the heights of what is drawn.
  private measure() {
    const box = this.box.current!, { rows } = this.props
    if (box.clientWidth !== this.width) {
      if (this.width) for (const r of rows) r.height = undefined
      this.width = box.clientWidth
      this.known = 0
    }
    for (let el = box.firstElementChild as HTMLElement | null; el; el = el.nextElementSibling as HTMLElement | null) {
      const i = Number(el.dataset.row), row = rows[i], h = el.getBoundingClientRect().height
      if (!row || row.key !== el.dataset.key || row.height === h) continue
      row.height = h
      this.known = Math.min(this.known, i)
    }
    this.upTo(rows.length)
  }
  private range() {
    const n = this.props.rows.length, { from, to } = this.state
    return { n, from: n <= WHOLE ? 0 : Math.min(from, n), to: n <= WHOLE ? n : Math.min(to, n) }
  }
  private pad() {
    const { n, from, to } = this.range(), s = this.box.current!.style
    s.paddingTop = `${this.tops[from]}px`
    s.paddingBottom = `${this.tops[n] - this.tops[to]}px`
  }
  private end() { return document.documentElement.scrollHeight - innerHeight }
  private toEnd() {
    const end = this.end()
    if (Math.abs(end - scrollY) > 1) { scrollTo(0, end); this.put = scrollY }
  }
  private toKept(kept: { key: string, y: number, at?: number }) {
    const el = [...this.box.current!.children].find(e => (e as HTMLElement).dataset.key === kept.key)
    if (!el) return
    const went = scrollY - (kept.at ?? scrollY)
    if (Math.abs(went) > 1) this.hers = true
    kept.y -= went
    const moved = el.getBoundingClientRect().top - kept.y
    if (Math.abs(moved) > 0.5 && scrollY + moved >= 0) {
      scrollBy(0, moved)
      this.put = scrollY
      kept.y = el.getBoundingClientRect().top
    }
    kept.at = scrollY
  }
  // Draws other rows if what is drawn does not reach beyond the screen.
  private place() {
    const { n, from, to } = this.range()
    if (n <= WHOLE) return
    const above = -this.box.current!.getBoundingClientRect().top, top = this.stick ? this.tops[n] - innerHeight : above, bottom = this.stick ? this.tops[n] : above + innerHeight
    if ((from === 0 || this.tops[from] <= top - AROUND + SLACK) && (to === n || this.tops[to] >= bottom + AROUND - SLACK) && to > from) return
    const a = this.indexAt(top - AROUND), b = Math.min(n, this.indexAt(bottom + AROUND) + 1)
    if (a !== from || b !== to) this.setState({ from: a, to: Math.max(b, a + 1) })
  }
  private keep() {
    this.kept = undefined
    for (let el = this.box.current!.firstElementChild as HTMLElement | null; el; el = el.nextElementSibling as HTMLElement | null) {
      const r = el.getBoundingClientRect()
      if (r.bottom > TOP) { this.kept = { key: el.dataset.key!, y: r.top, at: scrollY }; return }
    }
  }
  private settle() {
    if (!this.box.current) return
    this.measure()
    if (scrollY >= this.end() - 1) { // rows went before their room was made: the page got shorter and moved by itself
      this.put = Math.min(this.put, scrollY)
      if (this.kept?.at !== undefined) this.kept.at = Math.min(this.kept.at, scrollY)
    }
    this.pad()
    if (this.stick) {
      if (scrollY >= Math.min(this.put, this.end()) - 1) this.toEnd() // else she just left the end
    } else if (this.kept) this.toKept(this.kept)
    this.place()
  }
  private scrolled = () => {
    if (this.hers || Math.abs(scrollY - this.put) > 1) {
      this.hers = false
      const end = this.end() - scrollY < 80
      if (end !== this.stick) { this.stick = end; this.props.followed(end) }
    }
    if (!this.stick) this.keep()
    this.place()
  }

  render({ rows, busy, label, draw }: Props) {
    const { from, to } = this.range()
    return <div ref={this.box} role="feed" aria-busy={busy} aria-label={label} class="log">{rows.slice(from, to).map((r, i) => draw(r, from + i))}</div>
  }
}
