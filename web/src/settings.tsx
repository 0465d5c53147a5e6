// The settings: which pages there are, and for whom.
import { ComponentChildren } from 'preact'
import { leads, oversees, Session } from './api'
import { Automations } from './automations'
import { Audit } from './settings-audit'
import { Accounts, Keys, People } from './settings-keys'
import { Policy, Pools, Quotas } from './settings-policy'
import { Hooks, Mcp, Rules } from './settings-team'
import { Webhooks } from './settings-webhooks'
import { Link } from './ui'

export interface PageProps { admin: boolean, me: Session, query: URLSearchParams }

// Its address, its name for administrators, for members (none: not theirs), and what it shows. An auditor, who changes
// nothing, has the pages that only tell.
const pages: [string, string, string | undefined, (p: PageProps) => ComponentChildren][] = [
  ['policy', 'Policy', undefined, () => <Policy />], ['quotas', 'Quotas', undefined, () => <Quotas />], ['pools', 'Pools', undefined, () => <Pools />],
  ['accounts', 'Service accounts', undefined, () => <Accounts />], ['keys', 'Keys', 'My keys', p => <Keys {...p} />], ['automations', 'My automations', 'My automations', () => <Automations />], ['mcp', 'MCP servers', 'My MCP servers', p => <Mcp {...p} />],
  ['hooks', 'Hooks', undefined, () => <Hooks />], ['rules', 'Rules', 'My rules', p => <Rules {...p} />], ['webhooks', 'Webhooks', undefined, () => <Webhooks />], ['people', 'People', undefined, p => <People {...p} />], ['audit', 'Audit log', undefined, p => <Audit {...p} />],
]

export function Settings({ session, page, query }: { session: Session, page?: string, query: URLSearchParams }) {
  const admin = leads(session), reads = oversees(session) && !admin
  const mine = pages.filter(p => reads ? ['people', 'audit'].includes(p[0]) : admin || p[2])
  const here = page ? mine.find(p => p[0] === page) : mine[0]
  return <main>
    <h1>Settings</h1>
    <nav class="tabs" aria-label="Settings">{mine.map(p => <Link key={p[0]} to={`/settings/${p[0]}`} class={p === here ? 'here' : ''}>{admin || reads ? p[1] : p[2]}</Link>)}</nav>
    {here ? <div key={here[0]}>{here[3]({ admin, me: session, query })}</div> : <p class="empty">There is no such page, or it is for administrators: <code>bullpen admin login-link --role admin</code> makes one.</p>}
  </main>
}
