// Workers, pools and the queue, as they are now.
import { Pending, Pool, Worker } from './api'
import { Badge, Failure, Link, Time, useAsked } from './ui'

export function Fleet() {
  const workers = useAsked<{ workers: Worker[], totalCount: number }>('/v0/private-workers?limit=100', 3000)
  const pools = useAsked<{ pools: Pool[] }>('/v0/private-workers/pools', 5000)
  const queue = useAsked<{ requests: Pending[] }>('/v0/private-workers/pending-requests?nearest=true', 3000)
  return <main>
    <h1>Fleet</h1>
    <Failure error={workers.error} />
    <h2>Workers {workers.value && <span class="dim">{workers.value.totalCount}</span>}</h2>
    {workers.value?.workers.length === 0 && <p class="empty">No worker is connected. On a machine that has the code: <code>agent worker start --pool default</code></p>}
    {workers.value && workers.value.workers.length > 0 && <div class="scroll"><table>
      <thead><tr><th>Worker</th><th>State</th><th>Pool</th><th>Serves</th><th>Agent</th><th>Connected</th></tr></thead>
      <tbody>{workers.value.workers.map(w => <tr key={w.workerId}>
        <td title={w.workerId}>{w.name ?? w.workerId}</td>
        <td><Badge status={w.unfit ? 'unfit' : w.isDraining ? 'draining' : w.isInUse ? 'busy' : 'idle'} />{w.unfit && <div class="dim">{w.unfit.reason}</div>}</td>
        <td>{w.poolName}</td><td>{w.repoUrl ?? w.workspaceRootPath}</td>
        <td>{w.activeBcId && <Link to={`/agents/${w.activeBcId}`}>open</Link>}</td><td><Time at={w.connectedAtMs} /></td>
      </tr>)}</tbody>
    </table></div>}
    <h2>Queue {queue.value && <span class="dim">{queue.value.requests.length}</span>}</h2>
    {queue.value?.requests.length === 0 && <p class="empty">Nothing waits.</p>}
    <ul class="list" aria-label="Queue">{queue.value?.requests.map(r => <li key={r.id}><Link to={`/agents/${r.id}`}>
      {r.repoUrl ?? 'any repository'} <span class="dim">{r.labels.map(l => `${l.key}=${l.value}`).join(' ')} · since <Time at={r.createdAtMs} /></span>
      {r.wait && <div>{r.wait.text}</div>}
    </Link></li>)}</ul>
    <h2>Pools</h2>
    {pools.value && pools.value.pools.length > 0 && <div class="scroll"><table>
      <thead><tr><th>Pool</th><th>Connected</th><th>In use</th></tr></thead>
      <tbody>{pools.value.pools.map((p, i) => <tr key={i}><td>{p.poolName}</td><td>{p.connectedWorkerCount}</td><td>{p.inUseWorkerCount}</td></tr>)}</tbody>
    </table></div>}
  </main>
}
