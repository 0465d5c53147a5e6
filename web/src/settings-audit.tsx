// Who changed what.
import { useEffect, useState } from 'preact/hooks'
import { ask, Page } from './api'
import { PageProps } from './settings'
import { Failure, go, Time } from './ui'

interface Entry { id: string, seq: number, timestamp: string, eventType: string, actor: string, actorName?: string, ipAddress?: string, data: Record<string, unknown>, hash: string }

const TYPES = ['login', 'logout', 'login_link', 'add_user', 'update_user_role', 'user_api_key', 'service_account', 'service_account_key', 'self_hosted_policy', 'team_hook', 'team_rule', 'team_webhook', 'mcp_server_config',
  'oauth_connected', 'oauth_revoked', 'pool_registered', 'pool_deregistered', 'worker_drained', 'agent_deleted', 'session_token_minted', 'sub_token_minted', 'export_audit']
// A day begins where the person is.
const dayStart = (day: string, plus = 0) => { const [y, m, d] = day.split('-').map(Number); return new Date(y, m - 1, d + plus).toISOString() }

// What is looked for is in the address, so that it can be sent to somebody.
export function Audit({ query }: PageProps) {
  const asked = query.toString()
  const [words, setWords] = useState(query.get('search') ?? '')
  const [state, set] = useState<{ items?: Entry[], next?: string, error?: Error }>({})
  const load = (cursor?: string, before: Entry[] = []) => {
    const q = new URLSearchParams({ limit: '100', ...(query.get('search') ? { search: query.get('search')! } : {}), ...(query.get('type') ? { eventTypes: query.get('type')! } : {}),
      ...(query.get('from') ? { startTime: dayStart(query.get('from')!) } : {}), ...(query.get('to') ? { endTime: dayStart(query.get('to')!, 1) } : {}), ...(cursor ? { cursor } : {}) })
    return ask<Page<Entry>>('GET', `/v1/audit-log?${q}`).then(p => ({ items: [...before, ...p.items], next: p.nextCursor }), error => ({ items: before, error: error as Error }))
  }
  useEffect(() => {
    let over = false
    void load().then(s => { if (!over) set(s) })
    return () => { over = true }
  }, [asked])
  const look = (name: string, value: string) => {
    const q = new URLSearchParams(query)
    if (value) q.set(name, value); else q.delete(name)
    go(`/settings/audit${q.size ? `?${q}` : ''}`)
  }
  return <>
    <p>Who changed what, newest first. Each record has the hash of the one before it; <code>bullpen admin audit --data DIR --verify</code> says whether somebody rewrote one.</p>
    <form class="bar" role="search" onSubmit={e => { e.preventDefault(); look('search', words.trim()) }}>
      <input type="search" id="search" aria-label="Search the log" placeholder="Person, address, name" value={words} onInput={e => setWords(e.currentTarget.value)} />
      <label>What <select value={query.get('type') ?? ''} onChange={e => look('type', e.currentTarget.value)}><option value="">everything</option>{TYPES.map(t => <option key={t} value={t}>{t}</option>)}</select></label>
      <label>From <input type="date" value={query.get('from') ?? ''} onChange={e => look('from', e.currentTarget.value)} /></label>
      <label>to <input type="date" value={query.get('to') ?? ''} onChange={e => look('to', e.currentTarget.value)} /></label>
      <button>Search</button>
    </form>
    <Failure error={state.error} />
    {state.items?.length === 0 && !state.error && <p class="empty">Nothing like that is in the log. All of it, in a terminal: <code>bullpen admin audit --data DIR</code></p>}
    {state.items && state.items.length > 0 && <div class="scroll" tabIndex={0} role="region" aria-label="Records"><table>
      <thead><tr><th>When</th><th>Who</th><th>What</th><th>More</th></tr></thead>
      <tbody>{state.items.map(e => <tr key={e.id} title={`record ${e.seq}, hash ${e.hash}`}>
        <td><Time at={e.timestamp} /></td><td>{e.actorName ?? e.actor}{e.ipAddress && <div class="dim">{e.ipAddress}</div>}</td><td><code>{e.eventType}</code></td>
        <td class="wide">{Object.entries(e.data).map(([k, v]) => <div key={k}><span class="dim">{k}</span> <span class="mono">{typeof v === 'string' ? v : JSON.stringify(v)}</span></div>)}</td>
      </tr>)}</tbody></table></div>}
    {state.next && <div class="bar"><button onClick={() => void load(state.next, state.items).then(set)}>Older ones</button></div>}
  </>
}
