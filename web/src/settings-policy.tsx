// What holds for the team's runs: the policy, its quotas, the pools.
import { useEffect, useState } from 'preact/hooks'
import { ApiError, ask, askTagged, Pool } from './api'
import { CheckField, Done, Editor, Field, parseJson, Rest, useDoing } from './form'
import { Failure, Time, useAsked } from './ui'

interface PolicyBody { allow: boolean, require: boolean, secretSync: boolean, maxActivePerUser: number, publicArtifacts: boolean, followUps: 'disabled' | 'service_accounts' | 'all', mcpAllow?: object[] }

// The policy as it was read, and a way to put another in its place. Who was slower than another administrator is told so.
function usePolicy() {
  const [read, set] = useState<{ value: PolicyBody, tag: string }>()
  const [failed, setFailed] = useState<Error>()
  const doing = useDoing()
  const look = () => askTagged<PolicyBody>('GET', '/v1/policy').then(r => { set(r); doing.forget() }, setFailed)
  useEffect(() => { void look() }, [])
  const put = (next: () => PolicyBody) => doing.run(async () => set(await askTagged<PolicyBody>('PUT', '/v1/policy', next(), read!.tag)))
  const late = doing.error instanceof ApiError && doing.error.status === 412
  return { read, failed, doing, put, again: late && <button type="button" onClick={look}>Read it again</button> }
}

export function Policy() {
  const { read, failed, doing, put, again } = usePolicy()
  const [now, set] = useState<PolicyBody>()
  const [mcp, setMcp] = useState<'any' | 'none' | 'rules'>('any')
  const [rules, setRules] = useState('')
  useEffect(() => {
    if (!read) return
    const list = read.value.mcpAllow
    set(read.value); setMcp(!list ? 'any' : list.length ? 'rules' : 'none')
    if (list?.length) setRules(JSON.stringify(list, null, 2))
  }, [read])
  if (!now) return <Failure error={failed} />
  const next = () => {
    const { mcpAllow: _, ...rest } = now
    return { ...rest, ...(mcp === 'any' ? {} : { mcpAllow: mcp === 'none' ? [] : parseJson('mcpAllow', rules) }) }
  }
  return <form onSubmit={e => { e.preventDefault(); void put(next) }}>
    <p>Where the team's runs may work, and what they may use. It holds from the next run on.</p>
    <CheckField name="allow" label="Allow self-hosted agents" hint="Runs may ask for the team's own workers." error={doing.error} on={now.allow} set={allow => set({ ...now, allow })} />
    <CheckField name="require" label="Require self-hosted agents" hint="Every run goes to the team's own workers." error={doing.error} on={now.require} set={require => set({ ...now, require })} />
    <CheckField name="secretSync" label="Secret sync" hint="Variables of requests may go to workers that were started with --sync-dashboard-secrets." error={doing.error} on={now.secretSync} set={secretSync => set({ ...now, secretSync })} />
    <CheckField name="publicArtifacts" label="Artifacts in pull requests" hint="Pull requests show pictures and link to files of their agent. Anybody who has such an address can read the file, without a key." error={doing.error} on={now.publicArtifacts} set={publicArtifacts => set({ ...now, publicArtifacts })} />
    <fieldset><legend>Team follow-ups: with whose agents others of the team may go on</legend>
      {([['disabled', 'nobody\'s: the owner alone'], ['service_accounts', 'those of service accounts'], ['all', 'everybody\'s']] as const).map(([v, text]) => <label key={v}><input type="radio" name="followUps" checked={now.followUps === v} onChange={() => set({ ...now, followUps: v })} /> {text}</label>)}
      <p class="dim">A follow-up runs with the secrets and rights of the agent's owner, whoever writes it. Each one is in the audit log.</p>
    </fieldset>
    <fieldset><legend>MCP servers that runs may use</legend>
      {([['any', 'all'], ['none', 'none'], ['rules', 'those of a list']] as const).map(([v, text]) => <label key={v}><input type="radio" name="mcp" checked={mcp === v} onChange={() => setMcp(v)} /> {text}</label>)}
      {mcp === 'rules' && <Field name="mcpAllow" label="The list" error={doing.error} hint={<>Rules in JSON: <code>[{'{'}"serverUrl": "https://mcp.example.com/*", "toolAllowlist": ["search"]{'}'}]</code></>}>
        <Editor id="mcpAllow" value={rules} set={setRules} rows={8} /></Field>}
    </fieldset>
    <Rest error={doing.error} fields={['allow', 'require', 'secretSync', 'publicArtifacts', 'followUps', 'mcpAllow']} />
    <div class="bar"><button class="primary" disabled={doing.busy}>Save</button>{again}</div><Done text={doing.done} />
  </form>
}

export function Quotas() {
  const { read, failed, doing, put, again } = usePolicy()
  const [text, setText] = useState('')
  useEffect(() => { if (read) setText(String(read.value.maxActivePerUser)) }, [read])
  if (!read) return <Failure error={failed} />
  return <form onSubmit={e => { e.preventDefault(); void put(() => ({ ...read.value, maxActivePerUser: Number(text) })) }}>
    <p>How much one person may have of the team's workers at once. What is more waits, and holds nobody back.</p>
    <Field name="maxActivePerUser" label="Runs of one person that have a worker" hint="0: any number." error={doing.error}>
      <input id="maxActivePerUser" type="number" min={0} max={1000000} step={1} required value={text} onInput={e => setText(e.currentTarget.value)} /></Field>
    <Rest error={doing.error} fields={['maxActivePerUser']} />
    <div class="bar"><button class="primary" disabled={doing.busy}>Save</button>{again}</div><Done text={doing.done} />
    <p class="dim">How many workers a team and a person may connect is a setting of the server: <code>limits.max_workers_per_team</code>, <code>limits.max_workers_per_user</code>.</p>
  </form>
}

interface PoolRow extends Pool { repoOwner?: string, repoName?: string, workerReadyTimeoutSeconds?: number, lastSeenAtMs?: number }

export function Pools() {
  const list = useAsked<{ pools: PoolRow[] }>('/v0/private-workers/pools?includeStale=true', 5000)
  const [poolName, setName] = useState('')
  const [wait, setWait] = useState('')
  const doing = useDoing()
  const register = () => doing.run(() => ask('POST', '/v0/private-workers/pools', { scope: 'team', poolName, ...(wait ? { workerReadyTimeoutSeconds: Number(wait) } : {}) }), `${poolName} is registered.`).then(ok => { if (ok) { setName(''); list.again() } })
  const remove = (p: PoolRow) => {
    if (!confirm(`Deregister the pool ${p.poolName}? Its workers stay connected; requests for it are refused until it is registered again.`)) return
    const query = new URLSearchParams({ scope: 'team', pool_name: p.poolName, ...(p.repoOwner && p.repoName ? { repo_owner: p.repoOwner, repo_name: p.repoName } : {}) })
    void doing.run(() => ask('DELETE', `/v0/private-workers/pools?${query}`), `${p.poolName} is deregistered.`).then(list.again)
  }
  return <>
    <p>Groups of workers that requests name. A pool is known when a worker of it connects, or before that when it is registered here.</p>
    <Failure error={list.error} />
    {list.value?.pools.length === 0 && <p class="empty">No pool is known yet. On a machine that has the code: <code>agent worker start --pool default</code></p>}
    {list.value && list.value.pools.length > 0 && <div class="scroll" tabIndex={0} role="region" aria-label="Pools"><table>
      <thead><tr><th>Pool</th><th>Repository</th><th>Workers</th><th>Waits for a worker</th><th>Last seen</th><th><span class="dim">Action</span></th></tr></thead>
      <tbody>{list.value.pools.map(p => <tr key={`${p.poolName} ${p.repoOwner}/${p.repoName}`}>
        <td>{p.poolName}</td><td>{p.repoName ? `${p.repoOwner}/${p.repoName}` : 'any'}</td><td>{p.connectedWorkerCount}, {p.inUseWorkerCount} in use</td>
        <td>{p.workerReadyTimeoutSeconds ? `${p.workerReadyTimeoutSeconds} s` : 'no'}</td><td>{p.lastSeenAtMs ? <Time at={p.lastSeenAtMs} /> : ''}</td>
        <td><button class="danger" onClick={() => remove(p)} aria-label={`Deregister ${p.poolName}`}>Deregister</button></td>
      </tr>)}</tbody></table></div>}
    <form class="card" onSubmit={e => { e.preventDefault(); void register() }}>
      <h2>Register a pool</h2>
      <Field name="poolName" label="Name" error={doing.error}><input id="poolName" value={poolName} required onInput={e => setName(e.currentTarget.value)} /></Field>
      <Field name="workerReadyTimeoutSeconds" label="Seconds that a follow-up waits for the agent's own worker to come back" hint="Empty or 0: it takes another one at once." error={doing.error}>
        <input id="workerReadyTimeoutSeconds" type="number" min={0} max={3600} value={wait} onInput={e => setWait(e.currentTarget.value)} /></Field>
      <Rest error={doing.error} fields={['poolName', 'workerReadyTimeoutSeconds']} />
      <div class="bar"><button class="primary" disabled={doing.busy}>Register</button></div><Done text={doing.done} />
    </form>
  </>
}
