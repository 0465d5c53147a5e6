// One agent: its runs, and the chosen one live or as it was.
import { useEffect, useState } from 'preact/hooks'
import { Agent, ApiError, ask, Page, Run } from './api'
import { usePictures } from './images'
import { Copy } from './pieces'
import { Live, Replay } from './run'
import { Badge, duration, Failure, go, Link, Time, useAsked } from './ui'

const over = (status?: string) => status !== undefined && status !== 'CREATING' && status !== 'RUNNING'

export function AgentPage({ id, runId, at }: { id: string, runId?: string, at?: string }) {
  const agent = useAsked<Agent>(`/v1/agents/${id}`, 3000)
  const runs = useAsked<Page<Run>>(`/v1/agents/${id}/runs?limit=50`, 5000)
  const shown = runId ?? agent.value?.latestRunId
  const run = useAsked<Run>(shown && `/v1/agents/${id}/runs/${shown}`, 2000)
  const [error, setError] = useState<Error>()
  const [whole, setWhole] = useState<string>() // the run whose log is here
  const act = (fn: () => Promise<unknown>) => { setError(undefined); fn().then(() => { agent.again(); runs.again(); run.again() }, setError) }
  const archived = agent.value?.status === 'ARCHIVED', own = agent.value?.isOwn !== false, continues = own || agent.value?.mayFollowUp === true
  useEffect(() => { document.title = agent.value ? `${agent.value.name} · Bullpen` : 'Bullpen' }, [agent.value?.name])
  if (agent.error && (!agent.value || (agent.error instanceof ApiError && agent.error.status === 404))) return <main><Failure error={agent.error} /><p class="dim">If it is a colleague's: only agents that are shared with the team can be seen, and only in the team.</p><Link to="/agents">All agents</Link></main>
  if (!agent.value) return <main aria-busy="true" />
  const ended = over(run.value?.status) && whole === shown
  const page = `/agents/${id}?run=${shown}`, path = `/v1/agents/${id}/runs/${shown}/stream`
  return <main>
    <h1>{agent.value.name} <Badge status={run.value?.status ?? agent.value.status} /></h1>
    <p class="dim">{agent.value.repos.map(r => r.url).join(', ') || 'no repository'}{run.value?.worker && <> · on {run.value.worker.name ?? run.value.worker.id}</>} · begun <Time at={agent.value.createdAt} />{!own && (continues ? ' · of a colleague: you can read it and go on with it, with the owner\'s rights' : ' · of a colleague: you can read it')}</p>
    <div class="bar">
      {continues && run.value && !over(run.value.status) && <button onClick={() => act(() => ask('POST', `/v1/agents/${id}/runs/${shown}/cancel`))}>Cancel</button>}
      {own && (archived ? <button onClick={() => act(() => ask('POST', `/v1/agents/${id}/unarchive`))}>Unarchive</button>
        : <button onClick={() => act(() => ask('POST', `/v1/agents/${id}/archive`))}>Archive</button>)}
      {own && <button class="danger" onClick={() => { if (confirm(`Delete “${agent.value!.name}” and all that it left?`)) act(async () => { await ask('DELETE', `/v1/agents/${id}`); go('/agents') }) }}>Delete</button>}
      {over(run.value?.status) && at === undefined && <button onClick={() => go(`${page}&at=0`)}>Replay</button>}
      {(runs.value?.items.length ?? 0) > 1 && <label>Run <select value={shown} onChange={e => go(`/agents/${id}?run=${e.currentTarget.value}`)}>
        {runs.value!.items.map(r => <option key={r.id} value={r.id}>{new Date(r.createdAt).toLocaleString()} · {r.status.toLowerCase()}</option>)}
      </select></label>}
      {own && agent.value.visibility && <label>Seen by <select value={agent.value.visibility} onChange={e => { const visibility = e.currentTarget.value; act(() => ask('PUT', `/v1/agents/${id}/sharing`, { visibility })) }}>
        <option value="private">me</option><option value="team">the team</option></select></label>}
      {shown && <Copy text={() => new URL(page, location.href).href} what="link" />}
    </div>
    <Failure error={error} />
    {run.value?.wait && <Waiting wait={run.value.wait} />}
    {shown && (at === undefined ? <Live key={shown} path={path} page={page} active={agent.value.status === 'ACTIVE' && shown === agent.value.latestRunId} whole={() => setWhole(shown)} /> : <Replay key={shown} path={path} page={page} start={at} leave={() => go(page)} whole={() => setWhole(shown)} />)}
    {run.value && ended && <End run={run.value} />}
    {/* Below a log that is still to come it would be pushed away. */}
    {run.value && (ended || !over(run.value.status)) && <Left id={id} done={over(run.value.status)} />}
    {continues && !archived && at === undefined && ended && <FollowUp id={id} done={() => { go(`/agents/${id}`); agent.again(); runs.again() }} />}
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
    {run.git?.branches.map(b => <p key={b.repoUrl}>Branch <code>{b.branch}</code>{b.branch && <> <Copy text={b.branch} what="branch" /></>}{b.prUrl && <> · <a href={b.prUrl} rel="noreferrer">pull request</a></>}</p>)}
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
