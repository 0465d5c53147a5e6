// Keys, the service accounts that have them, and people.
import { useState } from 'preact/hooks'
import { ask, leads, Page, Session } from './api'
import { Check, Done, Field, Rest, useDoing } from './form'
import { PageProps } from './settings'
import { Badge, Failure, Time, useAsked } from './ui'

interface Key { id: string, name: string, type: string, owner: string, suffix: string, scopes: string[], createdAt: string, lastUsedAt?: string, expiresAt?: string, revokedAt?: string }
interface KeyList { items: Key[], scopes: { name: string, default: boolean }[] }
interface Made { id: string, key: string }

function Shown({ made, close }: { made?: Made, close: () => void }) {
  const [copied, setCopied] = useState(false)
  return made ? <div class="card key" role="status">
    <p><b>This is the key. It is shown this once</b>: the server keeps only its hash.</p><code>{made.key}</code>
    <div class="bar"><button onClick={() => { void navigator.clipboard?.writeText(made.key).then(() => setCopied(true)) }}>{copied ? 'Copied' : 'Copy'}</button><button onClick={close}>I have it</button></div>
  </div> : null
}

const stateOf = (k: Key) => k.revokedAt ? 'revoked' : k.expiresAt && new Date(k.expiresAt).getTime() < Date.now() ? 'expired' : 'valid'

// Keys with what can be done to them, and, with `at`, a form for another one.
function KeyTable({ list, again, at, owners }: { list: KeyList, again: () => void, at?: string, owners?: boolean }) {
  const [made, setMade] = useState<Made>()
  const [all, setAll] = useState(false)
  const doing = useDoing()
  const shown = list.items.filter(k => all || stateOf(k) === 'valid'), gone = list.items.length - list.items.filter(k => stateOf(k) === 'valid').length
  const rotate = (k: Key) => { if (confirm(`Replace the key ${k.name} (…${k.suffix})? The old one is invalid at once.`)) void doing.run(async () => { setMade(await ask<Made>('POST', `/v1/api-keys/${k.id}/rotate`)); again() }, 'It is replaced.') }
  const revoke = (k: Key) => { if (confirm(`Revoke the key ${k.name} (…${k.suffix}) for good?`)) void doing.run(async () => { await ask('DELETE', `/v1/api-keys/${k.id}`); again() }, 'It is revoked.') }
  return <>
    <Shown made={made} close={() => setMade(undefined)} />
    {shown.length === 0 && <p class="empty">{at ? 'No valid key. Make one below; then, in a terminal: ' : 'No valid key. '}{at && <code>export CURSOR_API_KEY=…</code>}</p>}
    {shown.length > 0 && <div class="scroll" tabIndex={0} role="region" aria-label={owners ? 'Everybody\'s keys' : 'Keys'}><table>
      <thead><tr><th>Name</th>{owners && <th>Owner</th>}<th>Ends in</th><th>May</th><th>Made</th><th>Last used</th><th>Expires</th><th><span class="dim">Actions</span></th></tr></thead>
      <tbody>{shown.map(k => <tr key={k.id}>
        <td>{k.name}</td>{owners && <td>{k.owner}</td>}<td><code>…{k.suffix}</code></td><td class="wide mono">{k.scopes.join(' ') || 'nothing'}</td><td><Time at={k.createdAt} /></td>
        <td>{k.lastUsedAt ? <Time at={k.lastUsedAt} /> : 'never'}</td><td>{k.expiresAt ? <Time at={k.expiresAt} /> : 'never'}</td>
        <td class="both">{stateOf(k) !== 'valid' ? <Badge status={stateOf(k)} /> : <><button onClick={() => rotate(k)} aria-label={`Rotate ${k.name}`}>Rotate</button> <button class="danger" onClick={() => revoke(k)} aria-label={`Revoke ${k.name}`}>Revoke</button></>}</td>
      </tr>)}</tbody></table></div>}
    {gone > 0 && <Check label={`${gone} revoked or expired, too`} on={all} set={setAll} />}
    <Failure error={doing.error} /><Done text={doing.done} />
    {at && <NewKey at={at} offered={list.scopes} made={m => { setMade(m); again() }} />}
  </>
}

function NewKey({ at, offered, made }: { at: string, offered: KeyList['scopes'], made: (m: Made) => void }) {
  const usual = () => new Set(offered.filter(s => s.default).map(s => s.name))
  const [name, setName] = useState('')
  const [days, setDays] = useState('')
  const [scopes, setScopes] = useState(usual)
  const doing = useDoing(), id = `name-${at.replace(/\W/g, '')}`
  const toggle = (s: string, on: boolean) => setScopes(old => { const next = new Set(old); if (on) next.add(s); else next.delete(s); return next })
  const make = () => doing.run(async () => { made(await ask<Made>('POST', at, { name, scopes: [...scopes], ...(days ? { expiresInDays: Number(days) } : {}) })); setName(''); setScopes(usual()) }, 'It is made.')
  return <form class="card" onSubmit={e => { e.preventDefault(); void make() }}>
    <h2>New key</h2>
    <div class="field"><label for={id}>What it is for</label><input id={id} value={name} required maxLength={100} placeholder="laptop" onInput={e => setName(e.currentTarget.value)} /><Rest error={doing.error} fields={['scopes', 'expiresInDays']} /></div>
    <fieldset><legend>What it may do</legend>{offered.map(s => <Check key={s.name} label={s.name} on={scopes.has(s.name)} set={on => toggle(s.name, on)} />)}<Rest error={doing.error} fields={['name', 'expiresInDays']} /></fieldset>
    <div class="field"><label for={`${id}-days`}>Days until it expires</label><input id={`${id}-days`} type="number" min={1} max={3650} value={days} placeholder="never" onInput={e => setDays(e.currentTarget.value)} /></div>
    <div class="bar"><button class="primary" disabled={doing.busy || scopes.size === 0}>Make the key</button></div>
  </form>
}

export function Keys({ admin }: PageProps) {
  const own = useAsked<KeyList>('/v1/api-keys'), team = useAsked<KeyList>(admin ? '/v1/api-keys?scope=team' : undefined)
  const again = () => { own.again(); team.again() }
  return <>
    <p>Keys let programs act as you: <code>agent</code> in a terminal, scripts, your own machines.</p>
    <Failure error={own.error} />
    {own.value && <KeyTable list={own.value} again={again} at="/v1/api-keys" />}
    {admin && <><h2>Everybody's keys</h2><Failure error={team.error} />{team.value && <KeyTable list={team.value} again={again} owners />}</>}
  </>
}

interface Account { id: string, name: string, createdAt: string, archivedAt?: string, keys: number }

function AccountRow({ account, again }: { account: Account, again: () => void }) {
  const [open, setOpen] = useState(false)
  const keys = useAsked<KeyList>(open ? `/v1/service-accounts/${account.id}/keys` : undefined)
  const doing = useDoing()
  const archive = () => { if (confirm(`Archive ${account.name}? All its keys are revoked for good, and its workers are sent away.`)) void doing.run(async () => { await ask('POST', `/v1/service-accounts/${account.id}/archive`); keys.again(); again() }) }
  return <details class="card" onToggle={e => setOpen(e.currentTarget.open)}>
    <summary><b>{account.name}</b> <span class="dim">{account.archivedAt ? <>archived <Time at={account.archivedAt} /></> : `${account.keys} valid ${account.keys === 1 ? 'key' : 'keys'}`}</span></summary>
    <p class="dim mono">{account.id}</p>
    <Failure error={keys.error ?? doing.error} />
    {keys.value && <KeyTable list={keys.value} again={() => { keys.again(); again() }} at={account.archivedAt ? undefined : `/v1/service-accounts/${account.id}/keys`} />}
    {!account.archivedAt && <div class="bar"><button class="danger" onClick={archive} aria-label={`Archive ${account.name}`}>Archive</button></div>}
  </details>
}

export function Accounts() {
  const list = useAsked<Page<Account>>('/v1/service-accounts')
  const [name, setName] = useState('')
  const doing = useDoing()
  const create = () => doing.run(async () => { await ask('POST', '/v1/service-accounts', { name }); setName(''); list.again() }, 'It is made. Open it to give it a key.')
  return <>
    <p>Identities of machines: only a service account's key connects workers of a pool. Archiving one revokes its keys and keeps its record.</p>
    <Failure error={list.error} />
    {list.value?.items.length === 0 && <p class="empty">There is none yet. Make one below, or in a terminal: <code>bullpen admin key create --data DIR --type service_account --name pool</code></p>}
    {list.value?.items.map(a => <AccountRow key={a.id} account={a} again={list.again} />)}
    <form class="card" onSubmit={e => { e.preventDefault(); void create() }}>
      <h2>New service account</h2>
      <Field name="name" label="Name" error={doing.error}><input id="name" value={name} required maxLength={100} onInput={e => setName(e.currentTarget.value)} /></Field>
      <Rest error={doing.error} fields={['name']} />
      <div class="bar"><button class="primary" disabled={doing.busy}>Make it</button></div><Done text={doing.done} />
    </form>
  </>
}

interface Person { id: number, name: string, email?: string, role: Session['role'], createdAt: string, signsInWith?: string }

const roles: [Session['role'], string][] = [['member', 'a member'], ['auditor', 'an auditor'], ['admin', 'an administrator'], ['owner', 'an owner']]

export function People({ me, admin }: PageProps) {
  const list = useAsked<Page<Person>>('/v1/users')
  const doing = useDoing()
  const set = (p: Person, role: Session['role']) => {
    const words = roles.find(r => r[0] === role)![1]
    if (p.id === me.userId && leads(me) && !leads({ ...me, role }) && !confirm(`Make yourself ${words}? You lose these pages at once, and your keys with scopes of administrators.`)) { list.again(); return }
    void doing.run(() => ask('PUT', `/v1/users/${p.id}/role`, { role }), `${p.email ?? p.name} is ${words} now.`).then(ok => { if (ok && p.id === me.userId) location.reload(); else list.again() })
  }
  return <>
    <p>Who is in the team. Members have what is their own; auditors read everything and change nothing; administrators see and change everything; an owner is an administrator whose role nobody else changes.</p>
    <Failure error={list.error ?? doing.error} /><Done text={doing.done} />
    {list.value && <div class="scroll" tabIndex={0} role="region" aria-label="People"><table>
      <thead><tr><th>Person</th><th>E-mail</th><th>Role</th><th>Signs in with</th><th>Since</th></tr></thead>
      <tbody>{list.value.items.map(p => <tr key={`${p.id} ${p.role} ${doing.error}`}><td>{p.name}</td><td>{p.email}</td>
        <td><select aria-label={`Role of ${p.email ?? p.name}`} value={p.role} disabled={doing.busy || !admin} onChange={e => set(p, e.currentTarget.value as Session['role'])}>{roles.map(([r]) => <option key={r} value={r}>{r === 'admin' ? 'administrator' : r}</option>)}</select></td><td class="wide">{p.signsInWith ?? 'link or key'}</td>
        <td><Time at={p.createdAt} /></td></tr>)}</tbody></table></div>}
    <p class="dim">Somebody new: <code>bullpen admin login-link --data DIR --email ADDRESS --url {location.origin}</code></p>
  </>
}
