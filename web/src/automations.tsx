// Automations of the person: what begins by itself, what became of it, and a new one.
import { useState } from 'preact/hooks'
import { ask, Page } from './api'
import { Check, Done, Field, Rest, useDoing } from './form'
import { Badge, Failure, Link, Time, useAsked } from './ui'

interface Automation {
  id: string, name: string, prompt: string, enabled: boolean, concurrency: 'skip' | 'queue', nextRunAt?: string, repos?: { url: string }[], env?: { type: string, name?: string }
  schedule?: { cron: string, timeZone: string, missed: string }, webhook?: { url: string, timestamp: boolean, secret?: string }
}
interface Tick { id: string, cause: string, state: string, at: string, reason?: string, agentId?: string }

function History({ of }: { of: Automation }) {
  const runs = useAsked<Page<Tick>>(`/v1/automations/${of.id}/runs?limit=50`, 3000)
  return <>
    <Failure error={runs.error} />
    {runs.value?.items.length === 0 && <p class="empty">It has not begun yet.</p>}
    {runs.value && runs.value.items.length > 0 && <div class="scroll" tabIndex={0} role="region" aria-label={`Runs of ${of.name}`}><table>
      <thead><tr><th>When</th><th>Why</th><th>State</th><th>More</th></tr></thead>
      <tbody>{runs.value.items.map(r => <tr key={r.id}><td><Time at={r.at} /></td><td>{r.cause}</td><td><Badge status={r.state} /></td>
        <td>{r.agentId && <Link to={`/agents/${r.agentId}`}>open</Link>} {r.reason}</td></tr>)}</tbody></table></div>}
  </>
}

function Row({ of, again }: { of: Automation, again: () => void }) {
  const [open, setOpen] = useState(false)
  const [secret, setSecret] = useState<string>()
  const doing = useDoing()
  const at = `/v1/automations/${of.id}`
  const change = (body: object) => doing.run(async () => { setSecret((await ask<Automation>('PATCH', at, body)).webhook?.secret); again() })
  return <details class="card" onToggle={e => setOpen(e.currentTarget.open)}>
    <summary><b>{of.name}</b> <span class="dim">{!of.enabled ? 'switched off' : of.nextRunAt ? <>next <Time at={of.nextRunAt} /></> : of.webhook ? 'by its webhook' : 'when asked'}</span></summary>
    {of.schedule && <p><code>{of.schedule.cron}</code> <span class="dim">{of.schedule.timeZone}{of.schedule.missed === 'once' && ', made up for once'}</span></p>}
    {of.webhook && <p class="mono">{of.webhook.url}</p>}
    {secret && <p role="status">The webhook's new secret, shown this once: <code>{secret}</code></p>}
    <pre>{of.prompt}</pre>
    <Failure error={doing.error} /><Done text={doing.done} />
    <div class="bar">
      <button disabled={doing.busy} onClick={() => void doing.run(() => ask('POST', `${at}/run`), 'It begins.')}>Run now</button>
      <button disabled={doing.busy} onClick={() => void change({ enabled: !of.enabled })}>{of.enabled ? 'Switch off' : 'Switch on'}</button>
      {of.webhook && <button disabled={doing.busy} onClick={() => void change({ webhook: { rotateSecret: true } })}>New secret</button>}
      <button class="danger" aria-label={`Delete ${of.name}`} disabled={doing.busy} onClick={() => { if (confirm(`Delete ${of.name} and its history? Its agents stay.`)) void doing.run(async () => { await ask('DELETE', at); again() }) }}>Delete</button>
    </div>
    {open && <History of={of} />}
  </details>
}

const NOTHING = { name: '', prompt: '', repo: '', pool: '', cron: '', timeZone: Intl.DateTimeFormat().resolvedOptions().timeZone, once: false, webhook: false, queue: false, pr: false }

export function Automations() {
  const list = useAsked<Page<Automation>>('/v1/automations?limit=100', 10000)
  const [form, setForm] = useState(NOTHING)
  const [secret, setSecret] = useState<string>()
  const doing = useDoing()
  const text = (name: 'name' | 'prompt' | 'repo' | 'pool' | 'cron' | 'timeZone') => ({ id: name, value: form[name], onInput: (e: { currentTarget: { value: string } }) => setForm({ ...form, [name]: e.currentTarget.value }) })
  const create = () => doing.run(async () => {
    const made = await ask<Automation>('POST', '/v1/automations', {
      name: form.name, prompt: form.prompt, concurrency: form.queue ? 'queue' : 'skip', ...(form.repo ? { repos: [{ url: form.repo.trim() }] } : {}), ...(form.pool ? { env: { type: 'pool', name: form.pool.trim() } } : {}), ...(form.pr ? { autoCreatePR: true } : {}),
      ...(form.cron.trim() ? { schedule: { cron: form.cron.trim(), timeZone: form.timeZone.trim() || 'UTC', missed: form.once ? 'once' : 'skip' } } : {}), ...(form.webhook ? { webhook: {} } : {}),
    })
    setSecret(made.webhook?.secret)
    setForm(NOTHING)
    list.again()
  }, 'It is made.')
  return <>
    <p>Agents that begin by themselves, as yours: by a schedule, or by a webhook that somebody signs.</p>
    <Failure error={list.error} />
    {list.value?.items.length === 0 && <p class="empty">There is none yet.</p>}
    {list.value?.items.map(a => <Row key={a.id} of={a} again={list.again} />)}
    <form class="card" onSubmit={e => { e.preventDefault(); void create() }}>
      <h2>New automation</h2>
      <Field name="name" label="Name" error={doing.error}><input {...text('name')} required maxLength={100} /></Field>
      <Field name="prompt" label="Prompt" error={doing.error} hint={<>With a webhook <code>{'{{path.to.value}}'}</code> stands for a value of what it brings.</>}><textarea {...text('prompt')} required rows={5} /></Field>
      <Field name="repo" label="Repository" hint="https://…, or git@…"><input {...text('repo')} /></Field>
      <Field name="pool" label="Pool" hint="Empty: managed machines, or what the team's policy says."><input {...text('pool')} /></Field>
      <Field name="cron" label="Schedule" hint={<>Minute, hour, day, month, weekday: <code>0 9 * * mon-fri</code>. Empty: none.</>}><input {...text('cron')} class="mono" /></Field>
      <Field name="timeZone" label="Time zone"><input {...text('timeZone')} /></Field>
      <Check label="Make up once for times that no server was there for" on={form.once} set={once => setForm({ ...form, once })} />
      <Check label="A webhook begins it, too" on={form.webhook} set={webhook => setForm({ ...form, webhook })} />
      <Check label="Wait while the last one runs, instead of leaving out" on={form.queue} set={queue => setForm({ ...form, queue })} />
      <Check label="Open a pull request" on={form.pr} set={pr => setForm({ ...form, pr })} />
      <Rest error={doing.error} fields={['name', 'prompt']} />
      <div class="bar"><button class="primary" disabled={doing.busy}>Make it</button></div><Done text={doing.done} />
      {secret && <p role="status">The webhook's secret, shown this once: <code>{secret}</code></p>}
    </form>
  </>
}
