// The pieces of a run: words, thinking, and each kind of call.
import { Component, ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import { Prose } from './prose'
import { CallItem, Item } from './stream'
import { duration } from './ui'

// What the pieces of one run know of each other: what was opened and shut by hand, and how links are made.
export interface Shown {
  opened: Map<string, boolean>
  toggled: (key: string, open: boolean) => void
  link: (callId: string) => string
  following: () => boolean
}

export const isOpen = (s: Shown, i: Item) => s.opened.get(i.key) ?? (i.kind === 'call' && i.call.status === 'running' && (i.output !== '' || i.call.name === 'task'))

export function headline(name: string, args: any): string {
  const a = args ?? {}
  switch (name) {
    case 'run_terminal_cmd': return a.command ?? ''
    case 'read_file': case 'write_file': case 'edit_file': case 'delete_file': case 'list_dir': return a.path ?? ''
    case 'grep_search': return a.pattern ?? ''
    case 'file_search': return a.globPattern ?? ''
    case 'task': return `${a.subagent_type ?? ''}${a.description ? `: ${a.description}` : ''}`
    case 'todo_write': return Array.isArray(a.todos) ? `${a.todos.filter((t: any) => t.status === 'completed').length} of ${a.todos.length} done` : ''
    case 'ask_question': return a.question ?? ''
    case 'fetch_rule': return a.name ?? ''
    case 'await': return Array.isArray(a.ids) ? a.ids.join(' ') : ''
    case 'mcp': return Object.keys(a.args ?? {}).length ? JSON.stringify(a.args) : ''
    default: return ''
  }
}

export const nameOf = (c: CallItem['call']) => c.name === 'mcp' ? `${c.args?.providerIdentifier ?? 'MCP'} › ${c.args?.toolName ?? c.args?.name ?? '?'}` : c.name

export const textOf = (i: Item): string => i.kind !== 'call' ? i.text : `${nameOf(i.call)} ${headline(i.call.name, i.call.args)}\n${resultText(i) ?? JSON.stringify(i.call.result ?? i.call.args ?? '')}`

const outcome = (r: any): [string, any] => {
  for (const k of ['success', 'failure', 'error', 'rejected']) if (r && typeof r === 'object' && k in r) return [k, r[k]]
  return ['', r]
}

function resultText(i: CallItem): string | undefined {
  const v = outcome(i.call.result)[1], shown = v?.diffString ?? v?.stdout ?? v?.content ?? v?.text ?? v?.message
  if (Array.isArray(shown)) return shown.map((b: any) => b?.text?.text ?? '').filter(Boolean).join('\n') || undefined
  return typeof shown === 'string' && shown !== '' ? shown : i.output || undefined
}

async function copy(text: string) {
  try { await navigator.clipboard.writeText(text) } catch {
    // Without https browsers keep the clipboard to themselves, but for this.
    const area = document.createElement('textarea')
    area.value = text
    document.body.append(area)
    area.select()
    document.execCommand('copy')
    area.remove()
  }
}

export function Copy({ text, what }: { text: string | (() => string), what: string }) {
  const [done, setDone] = useState(false)
  return <button type="button" class="small" onClick={() => { void copy(typeof text === 'string' ? text : text()).then(() => { setDone(true); setTimeout(() => setDone(false), 1500) }) }}>{done ? 'Copied' : `Copy ${what}`}</button>
}

const LINES = 200, CHARS = 20_000

// Of what is long the beginning (`tail`: the end), and all when asked for.
export function Long({ text, tail, draw }: { text: string, tail?: boolean, draw?: (text: string) => ComponentChildren }) {
  const [all, setAll] = useState(false)
  let short = tail ? text.slice(-CHARS) : text.slice(0, CHARS)
  const rows = short.split('\n')
  if (rows.length > LINES) short = (tail ? rows.slice(-LINES) : rows.slice(0, LINES)).join('\n')
  const cut = !all && short.length < text.length, shown = cut ? short : text
  const more = cut && <button type="button" class="small" onClick={() => setAll(true)}>Show all ({(text.length / 1024).toFixed(0)} KiB)</button>
  return <>{tail && more}{draw ? draw(shown) : <pre tabIndex={0}>{shown}</pre>}{!tail && more}</>
}

export function Diff({ text }: { text: string }) {
  return <Long text={text} draw={t => <pre class="diff" tabIndex={0}>{t.split('\n').map((l, i) =>
    <span key={i} class={/^(\+\+\+|---) /.test(l) ? 'hunk' : l[0] === '+' ? 'added' : l[0] === '-' ? 'removed' : l[0] === '@' ? 'hunk' : ''}>{l}{'\n'}</span>)}</pre>} />
}

function Todos({ todos }: { todos: any[] }) {
  return <ul class="todos">{todos.map((t, i) => <li key={i} class={t.status}><span aria-hidden="true">{t.status === 'completed' ? '✓' : t.status === 'in_progress' ? '▸' : t.status === 'cancelled' ? '–' : '○'}</span> {t.content} <span class="sr">{String(t.status ?? '').replace('_', ' ')}</span></li>)}</ul>
}

function Body({ item }: { item: CallItem }) {
  const { call } = item, [, value] = outcome(call.result), running = call.status === 'running', text = resultText(item)
  const blocks: any[] = Array.isArray(value?.content) ? value.content : []
  return <>
    {call.name === 'run_terminal_cmd' && typeof call.args?.command === 'string' && (call.args.command.includes('\n') || call.args.command.length > 90) && <Long text={call.args.command} />}
    {call.name === 'task' && typeof call.args?.prompt === 'string' && <details class="asked"><summary>What it was asked</summary><Prose text={call.args.prompt} /></details>}
    {call.name === 'mcp' && Object.keys(call.args?.args ?? {}).length > 0 && <Long text={JSON.stringify(call.args.args, null, 2)} />}
    {Array.isArray(value?.todos ?? call.args?.todos) ? <Todos todos={value?.todos ?? call.args.todos} />
      : call.name === 'ask_question' && call.args?.question ? <Prose text={call.args.question} />
      : value?.diffString ? <Diff text={value.diffString} />
      : running && item.output ? <Long text={item.output} tail />
      : text ? (call.name === 'task' ? <Prose text={text} /> : <Long text={text} />)
      : running ? null : <Long text={JSON.stringify(value ?? call.args ?? null, null, 2)} />}
    {blocks.map((b, i) => /^image\/(png|jpeg|gif|webp)$/.test(b?.image?.mimeType) && typeof b.image.data === 'string' && <img key={i} src={`data:${b.image.mimeType};base64,${b.image.data}`} alt="A picture that the tool gave" />)}
    {value?.stderr && <div class="stderr"><Long text={String(value.stderr)} /></div>}
    {call.truncated && <p class="dim">The log does not have all of this call: it is too large.</p>}
  </>
}

function Plan({ item, shown }: { item: CallItem, shown: Shown }) {
  const plan = String(item.call.args?.plan ?? item.call.args?.text ?? '')
  return <section class="card plan" aria-label="Plan"><div class="bar"><b>Plan</b><span class="grow" /><Copy text={plan} what="plan" /><a href={shown.link(item.key)}>Link</a></div><Prose text={plan} /></section>
}

function ToolCall({ item, shown }: { item: CallItem, shown: Shown }) {
  const { call } = item, [kind, value] = outcome(call.result), running = call.status === 'running', open = isOpen(shown, item), code = value?.exitCode
  if (call.name === 'create_plan' && kind !== 'error' && kind !== 'rejected') return <Plan item={item} shown={shown} />
  // The event comes later, when the piece may have gone on: what counts is what was drawn.
  return <details class={`call ${running ? 'running' : kind}`} open={open} onToggle={e => { if (e.currentTarget.open !== open) shown.toggled(item.key, e.currentTarget.open) }}>
    <summary><code>{nameOf(call)}</code> <span class="what">{headline(call.name, call.args)}</span>
      <span class="dim">{running ? '…' : kind !== 'success' && kind ? `${kind}${typeof code === 'number' && code ? ` (${code})` : ''}` : ''} {item.ended !== undefined ? duration(item.ended - item.began) : ''}</span></summary>
    {open && <Body item={item} />}
    {open && <div class="bar tools">{call.name === 'run_terminal_cmd' && <Copy text={call.args?.command ?? ''} what="command" />}
      <Copy text={() => resultText(item) ?? JSON.stringify(value ?? call.args ?? null, null, 2)} what={value?.diffString ? 'diff' : 'output'} /><a href={shown.link(item.key)}>Link</a></div>}
  </details>
}

function Thinking({ text, open, toggled }: { text: string, open: boolean, toggled: (open: boolean) => void }) {
  return <details class="thinking" open={open} onToggle={e => { if (e.currentTarget.open !== open) toggled(e.currentTarget.open) }}><summary>Thinking</summary>{open && <Long text={text} draw={t => <p>{t}</p>} />}</details>
}

interface RowProps { item: Item, v: number, index: number, size: number, open: boolean, mark: string, shown: Shown }

// One piece in the list; drawn anew only when something about it has changed.
export class Row extends Component<RowProps> {
  shouldComponentUpdate(n: RowProps) {
    const p = this.props
    return n.item !== p.item || n.v !== p.v || n.index !== p.index || n.size !== p.size || n.open !== p.open || n.mark !== p.mark || n.shown !== p.shown
  }
  componentDidUpdate(p: RowProps) {
    // What ends is not shut before the eyes of one who reads it.
    const { item, shown } = this.props
    if (p.item === item && p.open && !this.props.open && !shown.opened.has(item.key) && !shown.following()) shown.toggled(item.key, true)
  }
  render({ item, index, size, open, mark, shown }: RowProps) {
    return <article data-row={index} data-key={item.key} id={item.kind === 'call' ? `call-${item.key}` : undefined} tabIndex={-1} aria-posinset={index + 1} aria-setsize={size}
      aria-label={item.kind === 'call' ? `${nameOf(item.call)} ${headline(item.call.name, item.call.args).slice(0, 200)}` : item.kind === 'text' ? 'Text' : 'Thinking'}
      class={`row ${item.depth ? `below deep${Math.min(item.depth, 3)}` : ''} ${mark}`}>
      {item.kind === 'text' ? <Prose text={item.text} /> : item.kind === 'thinking' ? <Thinking text={item.text} open={open} toggled={o => shown.toggled(item.key, o)} /> : <ToolCall item={item as CallItem} shown={shown} />}
    </article>
  }
}
