// Webhooks of the team: addresses, and what could not be delivered.
import { useState } from 'preact/hooks'
import { ask, Page } from './api'
import { Check, Done, Field, Rest, useDoing } from './form'
import { Badge, Failure, Link, Time, useAsked } from './ui'

interface Webhook { id: string, name: string, url: string, events: string[], waiting: number, failed: number, createdAt: string, secret?: string }
interface Delivery { id: string, state: string, attempts: number, agentId: string, status: string, createdAt: string, nextAttemptAt?: string, error?: string }

function Deliveries({ of, again }: { of: Webhook, again: () => void }) {
  const list = useAsked<Page<Delivery>>(`/v1/webhooks/${of.id}/deliveries?limit=50`, 5000)
  const doing = useDoing()
  const redeliver = (d: Delivery) => doing.run(async () => { await ask('POST', `/v1/webhooks/${of.id}/deliveries/${d.id}/redeliver`); list.again(); again() }, 'It is sent again.')
  return <>
    <Failure error={list.error ?? doing.error} /><Done text={doing.done} />
    {list.value?.items.length === 0 && <p class="empty">Nothing was told there in the last days.</p>}
    {list.value && list.value.items.length > 0 && <div class="scroll" tabIndex={0} role="region" aria-label={`Deliveries to ${of.url}`}><table>
      <thead><tr><th>When</th><th>Agent</th><th>State</th><th>Attempts</th><th /></tr></thead>
      <tbody>{list.value.items.map(d => <tr key={d.id}><td><Time at={d.createdAt} /></td><td><Link to={`/agents/${d.agentId}`}>{d.status.toLowerCase()}</Link></td>
        <td><Badge status={d.state} />{d.error && <div class="dim">{d.error}</div>}{d.nextAttemptAt && <div class="dim">next <Time at={d.nextAttemptAt} /></div>}</td><td>{d.attempts}</td>
        <td>{d.state !== 'waiting' && <button disabled={doing.busy} aria-label={`Send ${d.id} again`} onClick={() => void redeliver(d)}>Send again</button>}</td></tr>)}</tbody></table></div>}
  </>
}

function Row({ of, again }: { of: Webhook, again: () => void }) {
  const [open, setOpen] = useState(false)
  const doing = useDoing()
  const remove = () => { if (confirm(`Delete the webhook to ${of.url}? What was not delivered never is.`)) void doing.run(async () => { await ask('DELETE', `/v1/webhooks/${of.id}`); again() }) }
  return <details class="card" onToggle={e => setOpen(e.currentTarget.open)}>
    <summary><b>{of.name || of.url}</b> <span class="dim">{of.waiting} waiting, {of.failed} dead</span></summary>
    <p class="mono">{of.url} <span class="dim">{of.events.join(', ')}</span></p>
    <Failure error={doing.error} />
    {open && <Deliveries of={of} again={again} />}
    <div class="bar"><button class="danger" onClick={remove} aria-label={`Delete ${of.name || of.url}`}>Delete</button></div>
  </details>
}

export function Webhooks() {
  const list = useAsked<Page<Webhook>>('/v1/webhooks', 10000)
  const [url, setUrl] = useState('')
  const [name, setName] = useState('')
  const [errors, setErrors] = useState(false)
  const [secret, setSecret] = useState<string>()
  const doing = useDoing()
  const create = () => doing.run(async () => {
    setSecret((await ask<Webhook>('POST', '/v1/webhooks', { url: url.trim(), name, events: [errors ? 'statusChange.ERROR' : 'statusChange'] })).secret)
    setUrl('')
    list.again()
  }, 'It is made.')
  return <>
    <p>Addresses that are told when a run of any agent of the team has ended. What cannot be delivered is tried for a day, and kept for a week.</p>
    <Failure error={list.error} />
    {list.value?.items.length === 0 && <p class="empty">There is none yet.</p>}
    {list.value?.items.map(w => <Row key={w.id} of={w} again={list.again} />)}
    <form class="card" onSubmit={e => { e.preventDefault(); void create() }}>
      <h2>New webhook</h2>
      <Field name="url" label="Address" error={doing.error}><input id="url" type="url" value={url} required onInput={e => setUrl(e.currentTarget.value)} /></Field>
      <Field name="name" label="Name" error={doing.error}><input id="name" value={name} maxLength={100} onInput={e => setName(e.currentTarget.value)} /></Field>
      <Check label="Errors only" on={errors} set={setErrors} />
      <Rest error={doing.error} fields={['url', 'name']} />
      <div class="bar"><button class="primary" disabled={doing.busy}>Make it</button></div><Done text={doing.done} />
      {secret && <p role="status">Its secret, shown this once: <code>{secret}</code></p>}
    </form>
  </>
}
