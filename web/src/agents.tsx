// The list of agents.
import { useEffect, useState } from 'preact/hooks'
import { Agent, ask, oversees, Page, Session } from './api'
import { NewAgent } from './start'
import { Badge, Failure, go, Link, Time } from './ui'

const repoName = (url: string) => url.replace(/^[a-z+]+:\/\/[^/]*\//, '').replace(/\.git$/, '')
const PAGE = 50

// The first pages of the list, asked again and again while the page is seen, so that what changes shows.
function useAgents(pages: number, archived: boolean, team: boolean) {
  const [state, set] = useState<{ items?: Agent[], more: boolean, error?: Error }>({ more: false })
  useEffect(() => {
    let over = false, timer = 0
    const all = async () => {
      const items: Agent[] = []
      let cursor = ''
      for (let i = 0; i < pages; i++) {
        const p = await ask<Page<Agent>>('GET', `/v1/agents?limit=${PAGE}&includeArchived=${archived}${team ? '&scope=team' : ''}${cursor && `&cursor=${encodeURIComponent(cursor)}`}`)
        items.push(...p.items)
        cursor = p.nextCursor ?? ''
        if (!cursor) break
      }
      // One that was begun between two pages is on both.
      return { items: [...new Map(items.map(a => [a.id, a])).values()], more: cursor !== '' }
    }
    const look = () => {
      const next = () => { if (!over) timer = window.setTimeout(look, 3000 * Math.min(pages, 5)) }
      if (document.visibilityState !== 'visible') { next(); return }
      all().then(s => { if (!over) set(s) }, error => { if (!over) set(s => ({ ...s, error })) }).finally(next)
    }
    look()
    return () => { over = true; clearTimeout(timer) }
  }, [pages, archived, team])
  return state
}

export function Agents({ session, query }: { session: Session, query: URLSearchParams }) {
  const [archived, setArchived] = useState(false)
  const [words, setWords] = useState('')
  const [pages, setPages] = useState(1)
  const all = oversees(session) && query.get('of') === 'team'
  const list = useAgents(pages, archived, all)
  const wanted = words.toLowerCase().split(/\s+/).filter(Boolean)
  const items = list.items?.filter(a => wanted.every(w => `${a.name} ${a.status} ${a.owner?.name ?? ''} ${a.repos.map(r => r.url).join(' ')}`.toLowerCase().includes(w)))
  return <main>
    <h1>Agents</h1>
    {session.role !== 'auditor' && <NewAgent />}
    <div class="bar">
      <input type="search" id="search" aria-label="Search agents" placeholder="Search" value={words} onInput={e => setWords(e.currentTarget.value)} />
      <label><input type="checkbox" checked={archived} onChange={e => setArchived(e.currentTarget.checked)} /> archived too</label>
      {oversees(session) && <label>Of <select value={all ? 'team' : ''} onChange={e => go(e.currentTarget.value ? '/agents?of=team' : '/agents')}><option value="">mine</option><option value="team">all</option></select></label>}
    </div>
    <Failure error={list.error} />
    {items?.length === 0 && <p class="empty">{words ? `No agent ${list.more ? 'of those shown ' : ''}has these words.` : <>No agents yet. Start one above, or in a terminal: <code>agent run "Say hello."</code></>}</p>}
    <ul class="list" aria-label="Agents">
      {items?.map(a => <li key={a.id}><Link to={`/agents/${a.id}`}>
        <Badge status={a.status} /> <b>{a.name}</b>{a.owner && ` ${a.owner.name}`}
        <span class="dim">{a.repos.map(r => repoName(r.url)).join(', ')} · <Time at={a.updatedAt} /></span>
      </Link></li>)}
    </ul>
    {list.more && <button onClick={() => setPages(pages + 1)}>Older agents</button>}
  </main>
}
