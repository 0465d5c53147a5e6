import { render } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { AgentPage } from './agent'
import { Agents } from './agents'
import { ApiError, ask, oversees, Session, SIGNED_OUT } from './api'
import { Fleet } from './fleet'
import { Brought, isBrought, LinkPage } from './link'
import { Login } from './login'
import { RUN_KEYS } from './run'
import { Settings } from './settings'
import { Failure, go, Link } from './ui'
import './style.css'

function useAddress() {
  const [, set] = useState(0)
  useEffect(() => {
    const changed = () => set(n => n + 1)
    addEventListener('popstate', changed)
    return () => removeEventListener('popstate', changed)
  }, [])
  return { path: location.pathname, query: new URLSearchParams(location.search) }
}

const keys: [string, string, () => void][] = [
  ['g a', 'agents', () => go('/agents')], ['g f', 'fleet', () => go('/fleet')], ['g s', 'settings', () => go('/settings')],
  ['n', 'new agent', () => { go('/agents'); requestAnimationFrame(() => document.getElementById('prompt')?.focus()) }],
  ['/', 'search', () => document.getElementById('search')?.focus()],
]

function useShortcuts(help: (on: boolean) => void) {
  useEffect(() => {
    let before = ''
    const pressed = (e: KeyboardEvent) => {
      const at = e.target as HTMLElement
      if (e.ctrlKey || e.metaKey || e.altKey || /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName)) return
      if (e.key === '?') { help(true); return }
      if (e.key === 'Escape') { help(false); return }
      const typed = before ? `${before} ${e.key}` : e.key, hit = keys.find(k => k[0] === typed)
      before = !hit && keys.some(k => k[0].startsWith(`${e.key} `)) ? e.key : ''
      if (hit) { e.preventDefault(); hit[2]() }
    }
    addEventListener('keydown', pressed)
    return () => removeEventListener('keydown', pressed)
  }, [])
}

function Help({ close }: { close: () => void }) {
  return <div class="help" role="dialog" aria-label="Shortcuts"><h2>Shortcuts</h2>
    <dl>{keys.map(([k, what]) => <><dt><kbd>{k}</kbd></dt><dd>{what}</dd></>)}{RUN_KEYS.map(([k, what]) => <><dt><kbd>{k}</kbd></dt><dd>{what}</dd></>)}<dt><kbd>Ctrl Enter</kbd></dt><dd>send what is typed</dd><dt><kbd>?</kbd></dt><dd>this list</dd></dl>
    <button onClick={close}>Close</button></div>
}

function App() {
  const { path, query } = useAddress()
  const [session, setSession] = useState<Session | null>()
  const [error, setError] = useState<Error>()
  const [help, setHelp] = useState(false)
  const [ended, setEnded] = useState<string>()
  useShortcuts(setHelp)
  const look = () => ask<Session>('GET', '/v1/session').then(s => { setSession(s); if (location.pathname === '/login' || location.pathname === '/') go('/agents') },
    e => e instanceof ApiError && e.status === 401 ? setSession(null) : setError(e))
  useEffect(() => { void look() }, [])
  useEffect(() => {
    const out = () => setSession(null)
    addEventListener(SIGNED_OUT, out)
    return () => removeEventListener(SIGNED_OUT, out)
  }, [])
  if (isBrought()) return <Brought />
  if (error) return <main><Failure error={error} /></main>
  if (session === undefined) return <main aria-busy="true" />
  if (session === null) return <Login entered={look} ended={ended} />
  const agent = path.match(/^\/agents\/([^/]+)$/)
  return <>
    <header><nav aria-label="Main">
      <Link to="/agents" class={path.startsWith('/agents') ? 'here' : ''}>Agents</Link>
      <Link to="/fleet" class={path === '/fleet' ? 'here' : ''}>{oversees(session) ? 'Fleet' : 'Workers'}</Link>
      <Link to="/settings" class={path.startsWith('/settings') ? 'here' : ''}>Settings</Link>
      <span class="grow" />
      <span class="dim">{session.email ?? session.name}</span>
      <button onClick={() => { void ask<{ endSessionUrl?: string }>('DELETE', '/v1/session').then(r => { setEnded(r.endSessionUrl); setSession(null); go('/login') }) }}>Sign out</button>
    </nav></header>
    {agent ? <AgentPage key={agent[1]} id={agent[1]} runId={query.get('run') ?? undefined} at={query.get('at') ?? undefined} /> : path === '/link' ? <LinkPage session={session} /> : path === '/fleet' ? <Fleet session={session} query={query} /> : path.startsWith('/settings') ? <Settings session={session} page={path.split('/')[2]} query={query} /> : <Agents session={session} query={query} />}
    {help && <Help close={() => setHelp(false)} />}
  </>
}

render(<App />, document.getElementById('app')!)
