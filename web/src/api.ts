// The public REST API, as the dashboard uses it. The browser's session is a cookie that no script sees; what changes something
// has the header that only our own page can send.
export class ApiError extends Error {
  constructor(readonly status: number, readonly code: string, message: string) { super(message) }
}

export const SIGNED_OUT = 'bullpen-signed-out'

export async function ask<T>(method: string, path: string, body?: unknown): Promise<T> { return (await askTagged<T>(method, path, body)).value }

// With the answer's ETag; `ifMatch`: only if it is still that one.
export async function askTagged<T>(method: string, path: string, body?: unknown, ifMatch?: string): Promise<{ value: T, tag: string }> {
  const res = await fetch(path, {
    method, credentials: 'same-origin',
    headers: { ...(method !== 'GET' ? { 'x-bullpen-request': '1' } : {}), ...(body !== undefined ? { 'content-type': 'application/json' } : {}), ...(ifMatch ? { 'if-match': ifMatch } : {}) },
    body: body === undefined ? undefined : JSON.stringify(body),
  })
  const text = await res.text()
  let json: any
  try { json = JSON.parse(text) } catch { json = undefined }
  if (res.ok) return { value: json as T, tag: res.headers.get('etag') ?? '*' }
  if (res.status === 401 && !path.startsWith('/v1/session')) dispatchEvent(new Event(SIGNED_OUT)) // its session is over
  const e = json?.error
  throw new ApiError(res.status, e?.code ?? json?.code ?? '', typeof e === 'string' ? e : e?.message ?? `the server answered ${res.status}`)
}

export interface Session { signedIn: boolean, userId: number, name: string, email?: string, role: 'member' | 'auditor' | 'admin' | 'owner' }
export const leads = (s: Session) => s.role === 'admin' || s.role === 'owner'
export const oversees = (s: Session) => s.role !== 'member'
export interface Wait { code: string, text: string, since?: string, position?: number, nearest?: { workerId?: string, name?: string, pool?: string, blockedBy: string[] }[] }
export interface Agent {
  id: string, name: string, status: 'ACTIVE' | 'IDLE' | 'ARCHIVED', env: { type: string, name?: string }, repos: { url: string, startingRef?: string }[]
  createdAt: string, updatedAt: string, latestRunId?: string, wait?: Wait, visibility?: 'private' | 'team', isOwn?: boolean, mayFollowUp?: boolean, owner?: { type: string, id: string, name: string }
}
export interface Run {
  id: string, agentId: string, status: 'CREATING' | 'RUNNING' | 'FINISHED' | 'ERROR' | 'CANCELLED' | 'EXPIRED', createdAt: string, updatedAt: string
  durationMs?: number, result?: string, error?: { message: string, code: string }, wait?: Wait
  git?: { branches: { repoUrl: string, branch?: string, prUrl?: string }[] }, worker?: { id: string, name?: string, host?: string }
}
export interface Page<T> { items: T[], nextCursor?: string }
export interface Label { key: string, value: string }
export interface Worker {
  workerId: string, name?: string, isInUse: boolean, state: 'idle' | 'busy' | 'held' | 'unfit' | 'draining', poolName?: string, repoUrl?: string, workspaceRootPath: string
  connectedAtMs: number, lastActivityMs: number, isPersonal: boolean, sessions: number, maxSessions: number, activeBcId?: string, isDraining?: boolean, unfit?: { code: string, reason: string }
  tags?: Label[], version?: string, os?: string, arch?: string, host?: string, isolation?: string
}
export interface Pool { poolName: string, connectedWorkerCount: number, inUseWorkerCount: number, isStale?: boolean, repoOwner?: string, repoName?: string }
export interface Pending { id: string, repoUrl?: string, userEmail?: string, claimedWorkerId?: string, labels: Label[], createdAtMs: number, wait?: Wait }
