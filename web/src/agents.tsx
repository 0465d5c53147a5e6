// The list of agents, and how one is started.
import { useState } from 'preact/hooks'
import { Agent, ask, Page, Session } from './api'
import { usePictures } from './images'
import { Badge, Failure, go, Link, Time, useAsked } from './ui'

const repoName = (url: string) => url.replace(/^[a-z+]+:\/\/[^/]*\//, '').replace(/\.git$/, '')

export function Agents({ session, query }: { session: Session, query: URLSearchParams }) {
  const [archived, setArchived] = useState(false)
  const [words, setWords] = useState('')
  const all = session.role !== 'member' && query.get('of') === 'team'
  const list = useAsked<Page<Agent>>(`/v1/agents?limit=100&includeArchived=${archived}${all ? '&scope=team' : ''}`, 3000)
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean)
  const items = list.value?.items.filter(a => wanted.every(w => `${a.name} ${a.status} ${a.owner?.name ?? ''} ${a.repos.map(r => r.url).join(' ')}`.toLowerCase().includes(w)))
  return <main>
    <h1>Agents</h1>
    {session.role !== 'auditor' && <NewAgent />}
    <div class="bar">
      <input type="search" id="search" aria-label="Search agents" placeholder="Search" value={words} onInput={e => setWords(e.currentTarget.value)} />
      <label><input type="checkbox" checked={archived} onChange={e => setArchived(e.currentTarget.checked)} /> archived too</label>
      {session.role !== 'member' && <label>Of <select value={all ? 'team' : ''} onChange={e => go(e.currentTarget.value ? '/agents?of=team' : '/agents')}><option value="">mine</option><option value="team">all</option></select></label>}
    </div>
    <Failure error={list.error} />
    {items?.length === 0 && <p class="empty">{words ? 'No agent has these words.' : <>No agents yet. Start one above, or in a terminal: <code>agent run "Say hello."</code></>}</p>}
    <ul class="list" aria-label="Agents">
      {items?.map(a => <li key={a.id}><Link to={`/agents/${a.id}`}>
        <Badge status={a.status} /> <b>{a.name}</b>{a.owner && ` ${a.owner.name}`}
        <span class="dim">{a.repos.map(r => repoName(r.url)).join(', ')} · <Time at={a.updatedAt} /></span>
      </Link></li>)}
    </ul>
  </main>
}

function NewAgent() {
  const [text, setText] = useState('')
  const [repo, setRepo] = useState('')
  const [pool, setPool] = useState('')
  const [plan, setPlan] = useState(false)
  const [model, setModel] = useState('')
  const [error, setError] = useState<Error>()
  const [busy, setBusy] = useState(false)
  const pictures = usePictures(setError)
  const models = useAsked<Page<{ id: string, displayName: string }>>('/v1/models')
  const repos = useAsked<Page<{ url: string }>>('/v1/repositories')
  const start = async () => {
    setBusy(true)
    try {
      const r = await ask<{ agent: Agent }>('POST', '/v1/agents', {
        prompt: { text, ...pictures.body() }, ...(repo ? { repos: [{ url: repo }] } : {}), ...(pool ? { env: { type: 'pool', name: pool } } : {}),
        ...(plan ? { mode: 'plan' } : {}), ...(model ? { model: { id: model } } : {}),
      })
      go(`/agents/${r.agent.id}`)
    } catch (e) { setError(e as Error) } finally { setBusy(false) }
  }
  return <form class="card" onSubmit={e => { e.preventDefault(); void start() }}>
    <label for="prompt">What is to be done?</label>
    <textarea id="prompt" rows={3} value={text} required onInput={e => setText(e.currentTarget.value)} {...pictures.on}
      onKeyDown={e => { if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) { e.preventDefault(); if (text.trim()) void start() } }} />
    {pictures.shown}
    <div class="bar">
      <label>Repository <input list="repositories" value={repo} placeholder="https://…" onInput={e => setRepo(e.currentTarget.value)} /></label>
      <datalist id="repositories">{repos.value?.items.map(r => <option key={r.url} value={r.url} />)}</datalist>
      <label>Pool <input value={pool} placeholder="default" size={10} onInput={e => setPool(e.currentTarget.value)} /></label>
      <label>Model <select value={model} onChange={e => setModel(e.currentTarget.value)}>
        <option value="">default</option>{models.value?.items.map(m => <option key={m.id} value={m.id}>{m.displayName}</option>)}
      </select></label>
      <label><input type="checkbox" checked={plan} onChange={e => setPlan(e.currentTarget.checked)} /> plan first</label>
      <button class="primary" disabled={busy || !text.trim()}>Start</button>
    </div>
    <Failure error={error} />
  </form>
}
