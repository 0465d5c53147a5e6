// Workers, pools and the queue, as they are now and as they were. A member sees the workers that are hers.
import { useEffect, useState } from 'preact/hooks'
import { ask, leads, oversees, Pending, Pool, Session, Worker } from './api'
import { Plot } from './plot'
import { Badge, duration, Failure, Link, Time, useAsked } from './ui'

const V0 = '/v0/private-workers'

// The address says what is shown, so that each state has a link.
function address(query: URLSearchParams, change: Record<string, string | undefined>) {
  const q = new URLSearchParams(query)
  for (const [k, v] of Object.entries(change)) if (v) q.set(k, v); else q.delete(k)
  return `/fleet${q.size ? `?${q}` : ''}`
}

export function Fleet({ session, query }: { session: Session, query: URLSearchParams }) {
  const workers = useWorkers()
  const pools = useAsked<{ pools: Pool[] }>(oversees(session) ? `${V0}/pools` : undefined, 5000)
  const chosen = query.get('worker') ?? undefined, words = query.get('q') ?? '', state = query.get('state') ?? '', pool = query.get('pool') ?? ''
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean)
  const shown = workers.value?.filter(w => (!state || w.state === state) && (!pool || w.poolName === pool) &&
    wanted.every(x => `${w.name ?? ''} ${w.workerId} ${w.poolName ?? ''} ${w.repoUrl ?? ''} ${w.host ?? ''} ${w.version ?? ''} ${(w.tags ?? []).map(l => `${l.key}=${l.value}`).join(' ')}`.toLowerCase().includes(x)))
  const set = (change: Record<string, string | undefined>) => { history.replaceState(null, '', address(query, change)); dispatchEvent(new PopStateEvent('popstate')) }
  useEffect(() => { document.title = 'Fleet · Bullpen' }, [])
  const names = [...new Set([...(pools.value?.pools ?? []).map(p => p.poolName), ...(workers.value ?? []).flatMap(w => w.poolName ?? [])])].sort()
  return <main>
    <h1>{oversees(session) ? 'Fleet' : 'Your workers'}</h1>
    {chosen && <One id={chosen} session={session} close={address(query, { worker: undefined })} />}
    {oversees(session) && <h2>Workers {workers.value && <span class="dim">{workers.value.length}</span>}</h2>}
    <div class="bar">
      <input type="search" id="search" aria-label="Search workers" placeholder="Name, label, repository, host" value={words} onInput={e => set({ q: e.currentTarget.value })} />
      <label>State <select value={state} onChange={e => set({ state: e.currentTarget.value })}>
        <option value="">any</option>{['idle', 'busy', 'held', 'unfit', 'draining'].map(s => <option key={s}>{s}</option>)}</select></label>
      <label>Pool <select value={pool} onChange={e => set({ pool: e.currentTarget.value })}>
        <option value="">any</option>{names.map(n => <option key={n}>{n}</option>)}</select></label>
    </div>
    <Failure error={workers.error} />
    {workers.value?.length === 0 && (oversees(session) ? <p class="empty">No worker is connected. On a machine that has the code: <code>agent worker start --pool default</code></p>
      : <p class="empty">None of the connected workers is yours, and none has an agent of yours. On your machine: <code>agent worker start</code></p>)}
    {shown?.length === 0 && workers.value!.length > 0 && <p class="empty">No worker is like that. <Link to="/fleet">Show all</Link></p>}
    <ul class="list" aria-label="Workers">{shown?.map(w => <li key={w.workerId}><Link to={address(query, { worker: w.workerId })}>
      <Badge status={w.state} /> <b>{w.name ?? w.workerId}</b> <span>{w.isPersonal ? 'personal machine' : w.poolName}</span>
      <span class="dim">{w.repoUrl ?? w.workspaceRootPath}{w.unfit && ` · ${w.unfit.reason}`} · last active <Time at={w.lastActivityMs} /></span>
    </Link></li>)}</ul>
    {oversees(session) && <><Queue session={session} /><Pools pools={pools.value?.pools} error={pools.error} query={query} /><History names={names} query={query} set={set} /></>}
  </main>
}

// Every worker: pages are asked for one after the other.
function useWorkers() {
  const [state, setState] = useState<{ value?: Worker[], error?: Error }>({})
  useEffect(() => {
    let over = false, timer = 0, pages = 1
    const all = async () => {
      const found: Worker[] = []
      pages = 0
      for (let token: string | undefined = ''; token !== undefined && found.length < 2000;) {
        const page: { workers: Worker[], nextPageToken?: string } = await ask('GET', `${V0}?limit=100${token && `&pageToken=${encodeURIComponent(token)}`}`)
        found.push(...page.workers)
        pages++
        token = page.nextPageToken
      }
      return found
    }
    const look = () => (document.visibilityState === 'visible' ? all().then(value => { if (!over) setState({ value }) }, error => { if (!over) setState(s => ({ ...s, error })) }) : Promise.resolve())
      .finally(() => { if (!over) timer = window.setTimeout(look, 3000 * Math.max(1, pages)) }) // a large fleet is not asked for more often than the limit lets
    void look()
    return () => { over = true; clearTimeout(timer) }
  }, [])
  return state
}

function One({ id, session, close }: { id: string, session: Session, close: string }) {
  const asked = useAsked<{ worker: Worker }>(`${V0}/${encodeURIComponent(id)}`, 3000)
  const [error, setError] = useState<Error>()
  const w = asked.error ? undefined : asked.value?.worker
  const act = (question: string, fn: () => Promise<unknown>) => { if (!confirm(question)) return; setError(undefined); fn().then(asked.again, setError) }
  return <section class="card" aria-label={`Worker ${w?.name ?? id}`}>
    <div class="bar"><b>{w?.name ?? id}</b>{w && <Badge status={w.state} />}<span class="grow" /><Link to={close}>Close</Link></div>
    {asked.error && <p class="dim">This worker is not connected (any more), or not yours to see.</p>}
    {w && <><dl class="facts">
      <dt>Id</dt><dd><code>{w.workerId}</code></dd>
      <dt>Pool</dt><dd>{w.isPersonal ? 'none: a personal machine' : w.poolName}</dd>
      <dt>Serves</dt><dd>{w.repoUrl ?? 'any repository'} <span class="dim">{w.workspaceRootPath}</span></dd>
      <dt>Fitness</dt><dd>{w.unfit ? <>{w.unfit.reason} <code>{w.unfit.code}</code></> : 'it can work'}</dd>
      <dt>Sessions</dt><dd>{w.sessions} of {w.maxSessions}{w.activeBcId && <> · <Link to={`/agents/${w.activeBcId}`}>the agent</Link></>}</dd>
      <dt>Labels</dt><dd>{w.tags?.length ? w.tags.map(l => <code key={l.key}>{l.key}={l.value} </code>) : 'none'}</dd>
      <dt>Machine</dt><dd>{[w.host, w.os, w.arch].filter(Boolean).join(' · ') || 'it does not say'}</dd>
      <dt>Version</dt><dd>{w.version ?? 'it does not say'}</dd>
      {w.isolation && <><dt>Isolation</dt><dd>{w.isolation}</dd></>}
      <dt>Connected</dt><dd><Time at={w.connectedAtMs} /></dd>
      <dt>Last active</dt><dd><Time at={w.lastActivityMs} /></dd>
    </dl>
    {leads(session) && <div class="bar">
      {w.state !== 'draining' && <button onClick={() => act(`Drain ${w.name ?? w.workerId}? It gets nothing new, and exits when its runs are over.`, () => ask('POST', `${V0}/${encodeURIComponent(w.workerId)}/drain`))}>Drain</button>}
      {w.activeBcId && <button onClick={() => act('Release the claim? The agent loses its place here, and the worker exits.', () => ask('POST', `${V0}/claims/${w.activeBcId}/release`))}>Release claim</button>}
    </div>}</>}
    <Failure error={error} />
  </section>
}

// Of one that waits for a worker that is away: it may never come.
function Held({ request, again, failed }: { request: Pending, again: () => void, failed: (e: Error) => void }) {
  const on = (what: string, body?: object) => ask('POST', `${V0}/claims/${request.id}/${what}`, body).then(again, failed)
  const fail = () => { const message = prompt('The run ends with an error. What shall its owner be told?')?.trim(); if (message) void on('fail', { message }) }
  return <div class="bar"><span>held for {request.claimedWorkerId}</span>
    <button onClick={() => { if (confirm('Release the claim? Then any fitting worker may take it; a run that had begun ends.')) void on('release') }}>Release</button>
    <button class="danger" onClick={fail}>Fail</button></div>
}

function Queue({ session }: { session: Session }) {
  const [error, setError] = useState<Error>()
  const queue = useAsked<{ requests: Pending[] }>(`${V0}/pending-requests?nearest=true`, 3000)
  return <>
    <h2>Queue {queue.value && <span class="dim">{queue.value.requests.length}</span>}</h2>
    <Failure error={error ?? queue.error} />
    {queue.value?.requests.length === 0 && <p class="empty">Nothing waits.</p>}
    <ul class="list" aria-label="Queue">{queue.value?.requests.map(r => <li key={r.id}><Link to={`/agents/${r.id}`}>
      {r.repoUrl ?? 'any repository'} <span class="dim">{r.userEmail ?? ''} {r.labels.map(l => `${l.key}=${l.value}`).join(' ')} · since <Time at={r.createdAtMs} /></span>
      {r.wait && <div>{r.wait.text}</div>}
    </Link>
    {r.wait?.nearest && r.wait.nearest.length > 0 && <ul class="nearest" aria-label="Nearest workers">{r.wait.nearest.map((w, i) => <li key={i}>
      {w.workerId ? <Link to={`/fleet?worker=${encodeURIComponent(w.workerId)}`}>{w.name ?? w.workerId}</Link> : w.name ?? 'a worker'}{w.pool && ` of ${w.pool}`}: {w.blockedBy.join('; ')}</li>)}</ul>}
    {r.claimedWorkerId && leads(session) && <Held request={r} again={queue.again} failed={setError} />}
    </li>)}</ul>
  </>
}

function Pools({ pools, error, query }: { pools?: Pool[], error?: Error, query: URLSearchParams }) {
  return <>
    <h2>Pools</h2>
    <Failure error={error} />
    {pools?.length === 0 && <p class="empty">No pool is known yet. The first worker makes one: <code>agent worker start --pool NAME</code></p>}
    <ul class="list" aria-label="Pools">{pools?.map((p, i) => <li key={i}><Link to={address(query, { pool: p.poolName, worker: undefined })}>
      <b>{p.poolName}</b> <span>{p.inUseWorkerCount} of {p.connectedWorkerCount} in use</span>
      <span class="dim">{p.repoName ? `${p.repoOwner}/${p.repoName}` : 'any repository'}{p.isStale && ' · not seen for long'}</span>
    </Link></li>)}</ul>
  </>
}

interface Point { atMs: number, queued: number, queuedMax: number, oldestWaitMs: number, workers: number, busy: number, utilization?: number, started: number, waitP50Ms?: number, waitP95Ms?: number }
const spans: [string, string, number][] = [['hour', 'the last hour', 3600e3], ['day', 'the last day', 86400e3], ['week', 'the last week', 7 * 86400e3], ['month', 'the last 35 days', 35 * 86400e3]]

function History({ names, query, set }: { names: string[], query: URLSearchParams, set: (change: Record<string, string | undefined>) => void }) {
  const span = spans.find(s => s[0] === query.get('span')) ?? spans[1], pool = query.get('pool') ?? ''
  // The end moves with the minutes, so that the plots do.
  const [end, setEnd] = useState(Date.now())
  useEffect(() => { const t = window.setInterval(() => setEnd(Date.now()), 30e3); return () => clearInterval(t) }, [])
  const asked = useAsked<{ fromMs: number, toMs: number, stepSeconds: number, points: Point[] }>(`/v1/fleet/history?from=${end - span[2]}&to=${end}${pool && `&pool=${encodeURIComponent(pool)}`}`)
  const [kept, keep] = useState(asked.value)
  useEffect(() => { if (asked.value) keep(asked.value) }, [asked.value])
  const h = asked.value ?? kept, count = (v: number) => v.toLocaleString(undefined, { maximumFractionDigits: 2 })
  const common = h && { points: h.points, from: h.fromMs, to: h.toMs, stepMs: h.stepSeconds * 1000 }
  return <section aria-label="History">
    <h2>History {pool && <span class="dim">of {pool}</span>}</h2>
    <div class="bar"><label>Time <select value={span[0]} onChange={e => set({ span: e.currentTarget.value })}>{spans.map(s => <option key={s[0]} value={s[0]}>{s[1]}</option>)}</select></label>
      <label>Pool of the history <select value={pool} onChange={e => set({ pool: e.currentTarget.value })}><option value="">all</option>{names.map(n => <option key={n}>{n}</option>)}</select></label></div>
    <Failure error={asked.error} />
    {common && <>
      <Plot name="Queue" {...common} lines={[{ name: 'waiting', of: (p: Point) => p.queued, shown: count }]} />
      <Plot name="Waiting time" {...common} lines={[{ name: 'half waited less than', of: (p: Point) => p.waitP50Ms, shown: duration }, { name: '95 of 100 less than', of: (p: Point) => p.waitP95Ms, shown: duration }]} />
      <Plot name="Utilization" {...common} top={1} lines={[{ name: 'busy', of: (p: Point) => p.utilization, shown: v => `${Math.round(v * 100)} %` }]} />
    </>}
  </section>
}
