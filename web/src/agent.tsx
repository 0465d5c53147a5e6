// One agent: its runs, and the chosen one live or as it was.
import { useEffect, useRef, useState } from 'preact/hooks'
import { Agent, ask, Page, Run } from './api'
import { usePictures } from './images'
import { follow, Item, Log } from './stream'
import { Badge, duration, Failure, go, Link, Time, useAsked } from './ui'

const over = (status?: string) => status !== undefined && status !== 'CREATING' && status !== 'RUNNING'

export function AgentPage({ id, runId }: { id: string, runId?: string }) {
  const agent = useAsked<Agent>(`/v1/agents/${id}`, 3000)
  const runs = useAsked<Page<Run>>(`/v1/agents/${id}/runs?limit=50`, 5000)
  const shown = runId ?? agent.value?.latestRunId
  const run = useAsked<Run>(shown && `/v1/agents/${id}/runs/${shown}`, 2000)
  const [error, setError] = useState<Error>()
  const act = (fn: () => Promise<unknown>) => { setError(undefined); fn().then(() => { agent.again(); runs.again(); run.again() }, setError) }
  const archived = agent.value?.status === 'ARCHIVED'
  useEffect(() => { document.title = agent.value ? `${agent.value.name} · Bullpen` : 'Bullpen' }, [agent.value?.name])
  if (agent.error) return <main><Failure error={agent.error} /><Link to="/agents">All agents</Link></main>
  if (!agent.value) return <main aria-busy="true" />
  return <main>
    <h1>{agent.value.name} <Badge status={run.value?.status ?? agent.value.status} /></h1>
    <p class="dim">{agent.value.repos.map(r => r.url).join(', ') || 'no repository'}{run.value?.worker && <> · on {run.value.worker.name ?? run.value.worker.id}</>} · begun <Time at={agent.value.createdAt} /></p>
    <div class="bar">
      {!over(run.value?.status) && <button onClick={() => act(() => ask('POST', `/v1/agents/${id}/runs/${shown}/cancel`))}>Cancel</button>}
      {archived ? <button onClick={() => act(() => ask('POST', `/v1/agents/${id}/unarchive`))}>Unarchive</button>
        : <button onClick={() => act(() => ask('POST', `/v1/agents/${id}/archive`))}>Archive</button>}
      <button class="danger" onClick={() => { if (confirm(`Delete “${agent.value!.name}” and all that it left?`)) act(async () => { await ask('DELETE', `/v1/agents/${id}`); go('/agents') }) }}>Delete</button>
      {(runs.value?.items.length ?? 0) > 1 && <label>Run <select value={shown} onChange={e => go(`/agents/${id}?run=${e.currentTarget.value}`)}>
        {runs.value!.items.map(r => <option key={r.id} value={r.id}>{new Date(r.createdAt).toLocaleString()} · {r.status.toLowerCase()}</option>)}
      </select></label>}
    </div>
    <Failure error={error} />
    {run.value?.wait && <Waiting wait={run.value.wait} />}
    {shown && <Live key={shown} path={`/v1/agents/${id}/runs/${shown}/stream`} />}
    {run.value && over(run.value.status) && <End run={run.value} />}
    <Left id={id} done={over(run.value?.status)} />
    {!archived && over(run.value?.status) && <FollowUp id={id} done={() => { go(`/agents/${id}`); agent.again(); runs.again() }} />}
  </main>
}

function Waiting({ wait }: { wait: NonNullable<Run['wait']> }) {
  return <section class="card wait" aria-label="Why it waits">
    <b>It waits: {wait.text}</b>{wait.since && <> (since <Time at={wait.since} />)</>}
    {wait.nearest && wait.nearest.length > 0 && <ul>{wait.nearest.map((w, i) => <li key={i}>{w.name ?? w.workerId ?? 'a worker'}{w.pool && ` of ${w.pool}`}: {w.blockedBy.join('; ')}</li>)}</ul>}
  </section>
}

function End({ run }: { run: Run }) {
  return <section class="card" aria-label="Result">
    <p><Badge status={run.status} /> {run.durationMs !== undefined && <span class="dim">after {duration(run.durationMs)}</span>}</p>
    {run.error && <p class="failure">{run.error.message} <code>{run.error.code}</code></p>}
    {run.git?.branches.map(b => <p key={b.repoUrl}>Branch <code>{b.branch}</code>{b.prUrl && <> · <a href={b.prUrl} rel="noreferrer">pull request</a></>}</p>)}
  </section>
}

interface Tokens { inputTokens: number, outputTokens: number, cacheReadTokens: number, totalTokens: number }

// What the agent left beside the code, and what it took. Pictures and videos are shown in place; a link is good for a quarter of an hour.
function Left({ id, done }: { id: string, done: boolean }) {
  const files = useAsked<Page<{ path: string, sizeBytes: number }>>(`/v1/agents/${id}/artifacts`, done ? 0 : 5000)
  const usage = useAsked<{ totalUsage: Tokens }>(`/v1/agents/${id}/usage`, done ? 0 : 5000), u = usage.value?.totalUsage
  return <>
    {(files.value?.items.length ?? 0) > 0 && <section class="card" aria-label="Artifacts"><b>Artifacts</b>
      {files.value!.items.map(f => <Artifact key={f.path} id={id} path={f.path} size={f.sizeBytes} />)}</section>}
    {u && u.totalTokens > 0 && <p class="dim">{u.totalTokens.toLocaleString()} tokens: {u.inputTokens.toLocaleString()} in, {u.outputTokens.toLocaleString()} out{u.cacheReadTokens > 0 && `, ${u.cacheReadTokens.toLocaleString()} of the cache`}</p>}
  </>
}

function Artifact({ id, path, size }: { id: string, path: string, size: number }) {
  const [url, setUrl] = useState<string>()
  const [error, setError] = useState<Error>()
  const link = () => ask<{ url: string }>('GET', `/v1/agents/${id}/artifacts/download?path=${encodeURIComponent(path)}`).then(r => r.url)
  const picture = /\.(png|jpe?g|gif|webp)$/i.test(path), video = /\.(mp4|webm)$/i.test(path)
  useEffect(() => { if (picture || video) link().then(setUrl, setError) }, [path, size])
  const name = path.replace(/^artifacts\//, '')
  return <figure>
    <figcaption><a href="#" onClick={e => { e.preventDefault(); link().then(u => { location.href = u }, setError) }}>{name}</a> <span class="dim">{(size / 1024).toFixed(1)} KiB</span></figcaption>
    {url && picture && <img src={url} alt={name} loading="lazy" />}
    {url && video && <video src={url} controls preload="metadata" />}
    <Failure error={error} />
  </figure>
}

function FollowUp({ id, done }: { id: string, done: () => void }) {
  const [text, setText] = useState('')
  const [error, setError] = useState<Error>()
  const pictures = usePictures(setError)
  const send = () => ask('POST', `/v1/agents/${id}/runs`, { prompt: { text, ...pictures.body() } }).then(() => { setText(''); pictures.clear(); setError(undefined); done() }, setError)
  return <form class="card" onSubmit={e => { e.preventDefault(); void send() }}>
    <label for="followup">And then?</label>
    <textarea id="followup" rows={2} value={text} required onInput={e => setText(e.currentTarget.value)} {...pictures.on}
      onKeyDown={e => { if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) { e.preventDefault(); if (text.trim()) void send() } }} />
    {pictures.shown}
    <div class="bar"><button class="primary" disabled={!text.trim()}>Send</button></div>
    <Failure error={error} />
  </form>
}

// A long run is shown from its end: the last pieces, and more on request, so that the page stays quick.
const PIECES = 300

function Live({ path }: { path: string }) {
  const [log, setLog] = useState<Log>({ items: [], done: false, lost: false })
  const [all, setAll] = useState(PIECES)
  const end = useRef<HTMLDivElement>(null)
  const stick = useRef(true)
  useEffect(() => follow(path, setLog), [path])
  useEffect(() => {
    const see = () => { stick.current = innerHeight + scrollY >= document.body.scrollHeight - 80 }
    addEventListener('scroll', see, { passive: true })
    return () => removeEventListener('scroll', see)
  }, [])
  useEffect(() => { if (stick.current && !log.done) end.current?.scrollIntoView({ block: 'end' }) }, [log])
  const from = Math.max(0, log.items.length - all)
  return <section aria-label="What it does" aria-live="polite" class="log">
    {log.lost && <p class="dim" role="status">The connection was lost; it comes back by itself.</p>}
    {from > 0 && <button onClick={() => setAll(all + 1000)}>Show {Math.min(1000, from)} of {from} earlier steps</button>}
    {log.items.slice(from).filter(i => !(i.kind === 'call' && i.call.parentCallId)).map(item => <Piece key={item.key} item={item} all={log.items} />)}
    <div ref={end} />
  </section>
}

function Piece({ item, all }: { item: Item, all: Item[] }) {
  if (item.kind === 'text') return <p class="said">{item.text}</p>
  if (item.kind === 'thinking') return <details class="thinking"><summary>Thinking</summary><p>{item.text}</p></details>
  return item.kind === 'call' ? <ToolCall item={item} all={all} /> : null
}

function headline(name: string, args: any): string {
  const a = args ?? {}
  switch (name) {
    case 'run_terminal_cmd': return a.command ?? ''
    case 'read_file': case 'write_file': case 'edit_file': case 'delete_file': case 'list_dir': return a.path ?? ''
    case 'grep_search': return a.pattern ?? ''
    case 'file_search': return a.globPattern ?? ''
    case 'task': return a.description ?? ''
    case 'mcp': return `${a.providerIdentifier} ${a.toolName} ${JSON.stringify(a.args ?? {})}`
    default: return ''
  }
}

const outcome = (r: any): [string, any] => {
  for (const k of ['success', 'failure', 'error', 'rejected']) if (r && typeof r === 'object' && k in r) return [k, r[k]]
  return ['', r]
}

type CallItem = Extract<Item, { kind: 'call' }>

function ToolCall({ item, all }: { item: CallItem, all: Item[] }) {
  // What a subagent does stands below the call that began it.
  const below = item.call.name === 'task' ? all.filter((i): i is CallItem => i.kind === 'call' && i.call.parentCallId === item.call.callId) : []
  const { call } = item, [kind, value] = outcome(call.result), running = call.status === 'running'
  const shown = value?.diffString ?? value?.stdout ?? value?.content ?? value?.message ?? item.output
  const text = typeof shown === 'string' ? shown : ''
  return <details class={`call ${running ? 'running' : kind}`} open={running}>
    <summary><code>{call.name}</code> <span class="what">{headline(call.name, call.args)}</span>
      <span class="dim">{running ? '…' : kind !== 'success' && kind ? kind : ''} {item.ended ? duration(item.ended - item.began) : ''}</span></summary>
    {Array.isArray(value?.todos) && <ul class="todos">{value.todos.map((t: any, i: number) => <li key={i} class={t.status}>{t.content}</li>)}</ul>}
    {value?.diffString ? <Diff text={value.diffString} /> : (running && item.output) || text ? <pre>{running ? item.output : text}</pre>
      : <pre>{JSON.stringify(value ?? call.args, null, 2)}</pre>}
    {value?.stderr && <pre class="stderr">{value.stderr}</pre>}
    {below.length > 0 && <div class="below">{below.map(i => <ToolCall key={i.key} item={i} all={all} />)}</div>}
  </details>
}

function Diff({ text }: { text: string }) {
  return <pre class="diff">{text.split('\n').map((l, i) => <span key={i} class={l[0] === '+' ? 'added' : l[0] === '-' ? 'removed' : l[0] === '@' ? 'hunk' : ''}>{l}{'\n'}</span>)}</pre>
}
