// Where the link leads that somebody got at a forge, a chat or a tracker: that account becomes hers here.
import { useEffect, useState } from 'preact/hooks'
import { ask, Session } from './api'
import { useDoing } from './form'
import { Failure, Link } from './ui'

interface Account { surface: string, login: string }

const names: Record<string, string> = { github: 'GitHub', gitlab: 'GitLab', gitea: 'Gitea', slack: 'Slack', linear: 'Linear' }
const KEPT = 'bullpen-link'

// What the link has stands behind the #, where no log sees it; it leaves the address at once, and waits in this tab while its
// person signs in, which may lead over another site.
function keep() {
  const token = location.hash.slice(1)
  if (location.pathname !== '/link' || !token) return
  sessionStorage.setItem(KEPT, token)
  history.replaceState(null, '', location.pathname)
  dispatchEvent(new PopStateEvent('popstate'))
}
keep()
addEventListener('hashchange', keep)
export const linkToken = () => sessionStorage.getItem(KEPT) ?? ''

// Where a service sends the browser of an administrator who has connected it: the command that she began with takes the
// address, whether or not she is signed in here.
export const isBrought = () => location.pathname === '/link' && /[?&](code|error)=/.test(location.search) && /[?&]state=/.test(location.search)
export function Brought() {
  // Without what stands behind the #: only there a browser leaves a quote as it is, and this goes into a shell.
  return <main><h1>One step is left</h1>
    <p>Give this address to the command that you began with, within the hour:</p>
    <pre>--answer '{location.origin + location.pathname + location.search}'</pre>
  </main>
}

function Asked({ token, session }: { token: string, session: Session }) {
  const [account, setAccount] = useState<Account>()
  const [error, setError] = useState<Error>()
  const [taken, setTaken] = useState(false)
  const doing = useDoing()
  const send = (look: boolean) => ask<Account>('POST', '/v1/account-links', look ? { token, look } : { token })
  useEffect(() => { send(true).then(setAccount, setError) }, [])
  if (error) return <Failure error={error} />
  if (!account) return <p role="status">One moment.</p>
  const whose = <>the {names[account.surface] ?? account.surface} account <strong>{account.login}</strong></>
  if (taken) return <><p role="status">Connected: {whose} is yours here. What it asks for runs in your name.</p><p><Link to="/agents">To the agents</Link></p></>
  return <div class="card">
    <p>Connect {whose} with <strong>{session.email ?? session.name}</strong>?</p>
    <p class="dim">Only if that account is your own: whoever has it starts agents in your name from then on.</p>
    <div class="bar"><button class="primary" disabled={doing.busy} onClick={() => { void doing.run(() => send(false)).then(good => { if (good) { sessionStorage.removeItem(KEPT); setTaken(true) } }) }}>Connect</button></div>
    <Failure error={doing.error} />
  </div>
}

export function LinkPage({ session }: { session: Session }) {
  const [token, setToken] = useState(linkToken())
  useEffect(() => {
    const changed = () => setToken(t => linkToken() || t) // what was taken stays on the page
    addEventListener('popstate', changed)
    return () => removeEventListener('popstate', changed)
  }, [])
  return <main><h1>Connect an account</h1>
    {token ? <Asked key={token} token={token} session={session} /> : <p>Open this page by the link in the answer that you got: it works once, within ten minutes.</p>}
  </main>
}
