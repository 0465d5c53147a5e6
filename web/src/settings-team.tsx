// What agents have and are told: MCP servers, hooks, rules.
import { useEffect, useState } from 'preact/hooks'
import { ask, Page } from './api'
import { Check, Done, Editor, Field, FieldError, parseJson, Rest, useDoing } from './form'
import { PageProps } from './settings'
import { Badge, Failure, Time, useAsked } from './ui'

interface Server { id: string, scope: 'user' | 'team', name: string, type: string, url?: string, command?: string, args?: string[], loggedIn?: boolean }
interface Listing { state: string, reason?: string, tools: { name: string }[] }

// A person allows Bullpen to use a server: she opens a link, and types the code that the last page shows.
function Login({ server, done }: { server: Server, done: () => void }) {
  const [login, setLogin] = useState<{ id: string, authorizeUrl: string }>()
  const [code, setCode] = useState('')
  const doing = useDoing(), id = `code-${server.id}`
  const safe = login && /^https?:\/\//.test(login.authorizeUrl) // it comes from a server of somebody else's
  if (!login) return <><button disabled={doing.busy} aria-label={`Log in to ${server.name}`} onClick={() => void doing.run(async () => setLogin(await ask('POST', `/v1/mcp-servers/${server.id}/login`)))}>Log in</button><Failure error={doing.error} /></>
  return <form onSubmit={e => { e.preventDefault(); void doing.run(async () => { await ask('POST', `/v1/mcp-logins/${login.id}/confirm`, { code }); done() }) }}>
    <p>1. {safe ? <a href={login.authorizeUrl} target="_blank" rel="noopener noreferrer">Allow it at the server</a> : <code>{login.authorizeUrl}</code>}. 2. Type the code that the last page shows. Tell it to nobody.</p>
    <div class="bar"><label for={id}>Code</label><input id={id} value={code} size={10} autocomplete="one-time-code" onInput={e => setCode(e.currentTarget.value)} /><button disabled={!code || doing.busy}>Confirm</button></div>
    <Failure error={doing.error} />
  </form>
}

function ServerCard({ server, mayRemove, again }: { server: Server, mayRemove: boolean, again: () => void }) {
  const [listing, setListing] = useState<Listing>()
  const doing = useDoing()
  return <li class="card">
    <b>{server.name}</b> <Badge status={server.scope === 'team' ? 'team' : 'mine'} /> <span class="mono">{server.url ?? [server.command, ...(server.args ?? [])].join(' ')}</span>
    <div class="bar">
      {server.url && <button disabled={doing.busy} aria-label={`Test ${server.name}`} onClick={() => void doing.run(async () => setListing(await ask('POST', `/v1/mcp-servers/${server.id}/test`)), '')}>Test</button>}
      {server.url && !server.loggedIn && <Login server={server} done={again} />}
      {server.loggedIn && <button aria-label={`Log out of ${server.name}`} onClick={() => void doing.run(async () => { await ask('DELETE', `/v1/mcp-servers/${server.id}/login`); again() }, '')}>Log out</button>}
      {mayRemove && <button class="danger" aria-label={`Remove ${server.name}`} onClick={() => { if (confirm(`Remove ${server.name}? What was allowed there is forgotten, too.`)) void doing.run(async () => { await ask('DELETE', `/v1/mcp-servers/${server.id}`); again() }, '') }}>Remove</button>}
    </div>
    <Failure error={doing.error} />
    {listing && <p role="status">{listing.state === 'ready' ? `It works: ${listing.tools.length ? listing.tools.map(t => t.name).join(', ') : 'no tools'}.` : listing.state === 'auth_required' ? 'It wants a login.' : `It does not work: ${listing.reason ?? listing.state}`}</p>}
  </li>
}

// "Name: value" lines.
function pairs(field: string, text: string, between: string) {
  const out: Record<string, string> = {}
  for (const line of text.split('\n').filter(l => l.trim())) {
    const at = line.indexOf(between)
    if (at < 1) throw new FieldError(field, `each line must be a name, ${between === ':' ? 'a colon' : '='} and a value: "${line.slice(0, 40)}" is not`)
    out[line.slice(0, at).trim()] = line.slice(at + 1).trim()
  }
  return out
}

function NewServer({ admin, again }: { admin: boolean, again: () => void }) {
  const [name, setName] = useState('')
  const [kind, setKind] = useState<'url' | 'command'>('url')
  const [where, setWhere] = useState('')
  const [args, setArgs] = useState('')
  const [more, setMore] = useState('')
  const [team, setTeam] = useState(admin)
  const doing = useDoing(), field = kind === 'url' ? 'headers' : 'env'
  const add = () => doing.run(async () => {
    const extra = more.trim() ? { [field]: pairs(field, more, kind === 'url' ? ':' : '=') } : {}
    await ask('POST', `/v1/mcp-servers?scope=${team ? 'team' : 'user'}`, { name, [kind]: where, ...(kind === 'command' && args.trim() ? { args: args.split('\n').filter(Boolean) } : {}), ...extra })
    setName(''); setWhere(''); setMore(''); setArgs(''); again()
  }, 'It is there for the runs that begin from now on.')
  return <form class="card" onSubmit={e => { e.preventDefault(); void add() }}>
    <h2>Add a server</h2>
    <Field name="name" label="Name" error={doing.error}><input id="name" value={name} required onInput={e => setName(e.currentTarget.value)} /></Field>
    <fieldset><legend>How it is reached</legend>
      <label><input type="radio" name="kind" checked={kind === 'url'} onChange={() => setKind('url')} /> by a URL, from this server</label>
      <label><input type="radio" name="kind" checked={kind === 'command'} onChange={() => setKind('command')} /> as a program, on the worker</label></fieldset>
    <Field name={kind} label={kind === 'url' ? 'URL' : 'Program'} error={doing.error}><input id={kind} value={where} required placeholder={kind === 'url' ? 'https://…' : 'npx'} onInput={e => setWhere(e.currentTarget.value)} /></Field>
    {kind === 'command' && <Field name="args" label="Arguments, one a line" error={doing.error}><Editor id="args" value={args} set={setArgs} rows={3} /></Field>}
    <Field name={field} label={kind === 'url' ? 'Headers, one a line' : 'Variables, one a line'} hint={kind === 'url' ? 'Authorization: Bearer … They are kept sealed, and never shown again.' : 'TOKEN=… They are kept sealed, and never shown again.'} error={doing.error}><Editor id={field} value={more} set={setMore} rows={3} /></Field>
    {admin && <Check label="for the whole team" on={team} set={setTeam} />}
    <Rest error={doing.error} fields={['name', kind, 'args', field]} />
    <div class="bar"><button class="primary" disabled={doing.busy}>Add</button></div><Done text={doing.done} />
  </form>
}

export function Mcp({ admin }: PageProps) {
  const list = useAsked<Page<Server>>('/v1/mcp-servers')
  return <>
    <p>Servers whose tools agents may use, besides those of their request and repository. {admin ? 'The team\'s are for everybody\'s agents.' : 'Yours are for your agents; the team\'s are for everybody\'s.'}</p>
    <Failure error={list.error} />
    {list.value?.items.length === 0 && <p class="empty">There is none yet. Add one below, or in a terminal: <code>agent mcp add docs https://…</code></p>}
    <ul class="plain">{list.value?.items.map(s => <ServerCard key={s.id} server={s} mayRemove={admin || s.scope === 'user'} again={list.again} />)}</ul>
    <NewServer admin={admin} again={list.again} />
  </>
}

interface HooksBody { hooks: object, files: Record<string, string>, updatedAt?: string, updatedBy?: string }

export function Hooks() {
  const [read, set] = useState<HooksBody>()
  const [text, setText] = useState('')
  const [failed, setFailed] = useState<Error>()
  const doing = useDoing()
  const show = (h: HooksBody) => { set(h); setText(JSON.stringify({ hooks: h.hooks, files: h.files }, null, 2)) }
  useEffect(() => { ask<HooksBody>('GET', '/v1/hooks').then(show, setFailed) }, [])
  if (!read) return <Failure error={failed} />
  const none = Object.keys(read.hooks).length === 0
  return <form onSubmit={e => { e.preventDefault(); void doing.run(async () => show(await ask<HooksBody>('PUT', '/v1/hooks', parseJson('hooks-text', text)))) }}>
    <p>Programs that every worker of the team runs around what agents do, and that may refuse it. They hold for runs that begin from then on.</p>
    {none && <p class="empty">The team has none. To try one on a worker first: <code>agent hooks test beforeShellExecution</code></p>}
    <Field name="hooks-text" label="hooks, and the files beside them" error={doing.error} hint={<>As in <code>hooks.json</code>: <code>{'{"hooks": {"beforeShellExecution": [{"command": "./check.sh"}]}, "files": {"check.sh": "…"}}'}</code></>}><Editor id="hooks-text" value={text} set={setText} rows={18} /></Field>
    <Rest error={doing.error} fields={['hooks-text']} />
    <div class="bar"><button class="primary" disabled={doing.busy}>Save</button>{read.updatedAt && <span class="dim">changed <Time at={read.updatedAt} /> by {read.updatedBy}</span>}</div><Done text={doing.done} />
  </form>
}

interface Rule { name: string, text: string, glob?: string, enforced: boolean }

function TeamRules() {
  const [rules, set] = useState<Rule[]>()
  const [failed, setFailed] = useState<Error>()
  const doing = useDoing()
  useEffect(() => { ask<{ rules: Rule[] }>('GET', '/v1/rules').then(r => set(r.rules), setFailed) }, [])
  if (!rules) return <Failure error={failed} />
  // "rules[2].name must …": beside that one's field.
  const wrong = doing.error?.message.match(/^'?rules\[(\d+)\](?:\.(\w+))?/)
  const beside = (i: number, member: string) => wrong && Number(wrong[1]) === i && (wrong[2] ?? 'text') === member ? <Failure error={doing.error} /> : null
  const change = (i: number, next: Partial<Rule>) => set(rules.map((r, n) => n === i ? { ...r, ...next } : r))
  const save = () => doing.run(async () => set((await ask<{ rules: Rule[] }>('PUT', '/v1/rules', { rules: rules.map(({ glob, ...r }) => ({ ...r, ...(glob ? { glob } : {}) })) })).rules))
  return <form onSubmit={e => { e.preventDefault(); void save() }}>
    <h2>Of the team</h2>
    <p>What every agent of the team is told, before the rules of the repository.</p>
    {rules.length === 0 && <p class="empty">The team has none. Add one, or keep rules in the repository: <code>.cursor/rules/NAME.mdc</code></p>}
    {rules.map((r, i) => <fieldset key={i}><legend>{r.name || 'new rule'}</legend>
      <Field name={`rule-name-${i}`} label="Name"><input id={`rule-name-${i}`} value={r.name} required onInput={e => change(i, { name: e.currentTarget.value })} />{beside(i, 'name')}</Field>
      <Field name={`rule-glob-${i}`} label="Only with files like" hint="Patterns with commas between them; empty: always."><input id={`rule-glob-${i}`} value={r.glob ?? ''} placeholder="*.sql, db/**" onInput={e => change(i, { glob: e.currentTarget.value })} />{beside(i, 'glob')}</Field>
      <Field name={`rule-text-${i}`} label="What agents are told"><Editor id={`rule-text-${i}`} value={r.text} set={text => change(i, { text })} rows={5} />{beside(i, 'text')}</Field>
      <button type="button" class="danger" aria-label={`Remove ${r.name || 'the new rule'}`} onClick={() => set(rules.filter((_, n) => n !== i))}>Remove</button>
    </fieldset>)}
    {!wrong && <Failure error={doing.error} />}
    <div class="bar"><button type="button" onClick={() => set([...rules, { name: '', text: '', enforced: false }])}>Add a rule</button><button class="primary" disabled={doing.busy}>Save the team's rules</button></div><Done text={doing.done} />
  </form>
}

export function Rules({ admin }: PageProps) {
  const [text, setText] = useState<string>()
  const [failed, setFailed] = useState<Error>()
  const doing = useDoing()
  useEffect(() => { ask<{ text: string }>('GET', '/v1/user-rules').then(r => setText(r.text), setFailed) }, [])
  return <>
    {admin && <TeamRules />}
    <Failure error={failed} />
    {text !== undefined && <form onSubmit={e => { e.preventDefault(); void doing.run(async () => setText((await ask<{ text: string }>('PUT', '/v1/user-rules', { text })).text)) }}>
      <h2>Mine</h2>
      <Field name="text" label="What each of my agents is told" hint="Behind the rules of team and repository. It holds for runs that begin from then on." error={doing.error}><Editor id="text" value={text} set={setText} rows={8} /></Field>
      {text === '' && <p class="empty">Nothing yet. Such as: <code>Answer in German.</code></p>}
      <Rest error={doing.error} fields={['text']} />
      <div class="bar"><button class="primary" disabled={doing.busy}>Save my rules</button></div><Done text={doing.done} />
    </form>}
  </>
}
