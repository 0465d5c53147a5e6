// How an agent is started. What is chosen is remembered in this browser, but for the prompt and what may be secret.
import { ComponentChildren } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { Agent, ApiError, ask, Page } from './api'
import { usePictures } from './images'
import { go, useAsked } from './ui'

interface Param { id: string, value: string }
interface Model {
  id: string, displayName: string, description?: string, variants: { params: Param[], displayName: string, isDefault?: boolean }[]
  parameters?: { id: string, displayName?: string, values: { value: string, displayName?: string }[] }[]
}
interface Choice {
  repos: { url: string, ref: string }[], where: '' | 'pool' | 'machine', place: string, labels: string, model: string, params: Record<string, string>
  mode: 'agent' | 'plan', name: string, current: boolean
}
const NOTHING: Choice = { repos: [{ url: '', ref: '' }], where: '', place: '', labels: '', model: '', params: {}, mode: 'agent', name: '', current: false }
const PLACE = 'bullpen-start'

function remembered(): Choice {
  try {
    const c = { ...NOTHING, ...JSON.parse(localStorage.getItem(PLACE) ?? '{}') }
    return Array.isArray(c.repos) && c.repos.length > 0 && c.repos.every((r: any) => typeof r?.url === 'string' && typeof r.ref === 'string') && c.params && typeof c.params === 'object' ? c : NOTHING
  } catch { return NOTHING }
}

// A line each: NAME=value.
function pairs(text: string): Record<string, string> {
  const out: Record<string, string> = {}
  for (const line of text.split('\n').filter(l => l.trim())) {
    const at = line.indexOf('=')
    if (at < 1) throw new ApiError(400, 'validation_error', `'envVars' has a line that is not NAME=value: ${line.slice(0, 40)}`)
    out[line.slice(0, at).trim()] = line.slice(at + 1)
  }
  return out
}

function json(field: string, text: string): unknown {
  try { return JSON.parse(text) } catch (e) { throw new ApiError(400, 'validation_error', `'${field}' is no JSON: ${(e as Error).message}`) }
}

// Which field an error is about: its message names the member of the body, and some codes have but one.
export function placeOf(e: Error): string {
  const named = e.message.match(/'([A-Za-z]+)((?:\[\d+\])?(?:\.[A-Za-z]+)?)[^']*'/)
  if (named) return named[1] === 'repos' && !named[2] ? 'repos[0].url' : named[1] === 'repos' || named[1] === 'env' ? named[1] + named[2] : named[1]
  const code = e instanceof ApiError ? e.code : ''
  return code === 'repository_required' ? 'repos[0].url' : code === 'invalid_model' ? 'model' : code === 'invalid_branch_name' ? 'repos[0].startingRef' : ''
}

export function NewAgent() {
  const [text, setText] = useState('')
  const [c, setC] = useState(remembered)
  const [vars, setVars] = useState('')
  const [mcp, setMcp] = useState('')
  const [error, setError] = useState<Error>()
  const [busy, setBusy] = useState(false)
  const pictures = usePictures(setError)
  const models = useAsked<Page<Model>>('/v1/models')
  const repos = useAsked<Page<{ url: string }>>('/v1/repositories')
  const put = (more: Partial<Choice>) => setC(old => ({ ...old, ...more }))
  const putRepo = (i: number, more: Partial<Choice['repos'][0]>) => setC(old => ({ ...old, repos: old.repos.map((r, k) => k === i ? { ...r, ...more } : r) }))
  useEffect(() => { try { localStorage.setItem(PLACE, JSON.stringify({ ...c, name: '' })) } catch { /* a browser that keeps nothing */ } }, [c])
  const model = models.value?.items.find(m => m.id === c.model)
  const params = Object.entries(c.params).filter(([id, v]) => v && model?.parameters?.some(p => p.id === id && p.values.some(x => x.value === v))).map(([id, value]) => ({ id, value }))
  const labels = c.labels.split(/[\s,]+/).filter(Boolean)
  const body = () => ({
    prompt: { text, ...pictures.body() },
    ...(c.repos.some(r => r.url.trim()) ? { repos: c.repos.filter(r => r.url.trim()).map(r => ({ url: r.url.trim(), ...(r.ref.trim() ? { startingRef: r.ref.trim() } : {}) })) } : {}),
    ...(c.where ? { env: { type: c.where, ...(c.place.trim() ? { name: c.place.trim() } : {}) } } : {}),
    ...(c.where !== 'machine' && labels.length ? { labels } : {}),
    ...(c.mode === 'plan' ? { mode: 'plan' } : {}),
    ...(c.model ? { model: { id: c.model, ...(params.length ? { params } : {}) } } : {}),
    ...(c.name.trim() ? { name: c.name.trim() } : {}), ...(c.current ? { workOnCurrentBranch: true } : {}),
    ...(vars.trim() ? { envVars: pairs(vars) } : {}), ...(mcp.trim() ? { mcpServers: json('mcpServers', mcp) } : {}),
  })
  const start = async () => {
    if (busy) return
    setBusy(true)
    setError(undefined)
    try { go(`/agents/${(await ask<{ agent: Agent }>('POST', '/v1/agents', body())).agent.id}`) } catch (e) { setError(e as Error) } finally { setBusy(false) }
  }
  const place = error && placeOf(error), known = ['prompt', 'model', 'mode', 'env.name', 'env.type', 'labels', 'name', 'workOnCurrentBranch', 'envVars', 'mcpServers', ...c.repos.flatMap((_, i) => [`repos[${i}].url`, `repos[${i}].startingRef`])]
  const isHere = (...names: string[]) => place !== undefined && names.includes(place)
  const said = (...names: string[]) => isHere(...names) && <span class="failure" role="alert">{error!.message}</span>
  const hidden = isHere('name', 'workOnCurrentBranch', 'envVars', 'mcpServers', 'labels')
  const field = (label: string, names: string[], control: ComponentChildren) => <div class={`field ${isHere(...names) ? 'wrong' : ''}`}><label><span>{label}</span>{control}</label>{said(...names)}</div>
  return <form class="card" onSubmit={e => { e.preventDefault(); void start() }}>
    <label for="prompt">What is to be done?</label>
    <textarea id="prompt" rows={3} value={text} required onInput={e => setText(e.currentTarget.value)} {...pictures.on}
      onKeyDown={e => { if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) { e.preventDefault(); if (text.trim()) void start() } }} />
    {said('prompt')}
    {pictures.shown}
    <datalist id="repositories">{repos.value?.items.map(r => <option key={r.url} value={r.url} />)}</datalist>
    {c.repos.map((r, i) => <div class="bar" key={i}>
      {field(i ? `Repository ${i + 1}` : 'Repository', [`repos[${i}].url`, ...(i ? [] : ['repos'])], <input list="repositories" class="wide" value={r.url} placeholder="https://…" onInput={e => putRepo(i, { url: e.currentTarget.value })} />)}
      {field('from', [`repos[${i}].startingRef`], <input value={r.ref} aria-label={i ? `Branch, tag or commit of repository ${i + 1}` : 'Branch, tag or commit'} placeholder="default branch" size={14} onInput={e => putRepo(i, { ref: e.currentTarget.value })} />)}
      {i > 0 && <button type="button" aria-label={`Remove repository ${i + 1}`} onClick={() => put({ repos: c.repos.filter((_, k) => k !== i) })}>×</button>}
      {i === c.repos.length - 1 && i < 19 && <button type="button" onClick={() => put({ repos: [...c.repos, { url: '', ref: '' }] })}>Another repository</button>}
    </div>)}
    <div class="bar">
      {field('Works on', ['env', 'env.type'], <select value={c.where} onChange={e => put({ where: e.currentTarget.value as Choice['where'] })}>
        <option value="">what the server takes</option><option value="pool">a pool</option><option value="machine">my machine</option></select>)}
      {c.where && field(c.where === 'pool' ? 'Pool' : 'Machine', ['env.name'], <input value={c.place} placeholder={c.where === 'pool' ? 'default' : 'any of mine'} size={12} onInput={e => put({ place: e.currentTarget.value })} />)}
      {field('Model', ['model'], <select class="even" value={c.model} onChange={e => put({ model: e.currentTarget.value, params: {} })}>
        <option value="">default</option>{models.value?.items.map(m => <option key={m.id} value={m.id} selected={m.id === c.model} title={m.description}>{m.displayName}</option>)}</select>)}
      {model && model.variants.length > 1 && field('Variant', [], <select value="" onChange={e => { const v = model.variants[Number(e.currentTarget.value)]; if (v) put({ params: Object.fromEntries(v.params.map(p => [p.id, p.value])) }) }}>
        <option value="">{model.variants.find(v => v.params.length === params.length && v.params.every(p => c.params[p.id] === p.value))?.displayName ?? 'as chosen'}</option>{model.variants.map((v, i) => <option key={i} value={i}>{v.displayName}</option>)}</select>)}
      {model?.parameters?.map(p => <div class="field" key={p.id}><label><span>{p.displayName ?? p.id}</span><select value={c.params[p.id] ?? ''} onChange={e => put({ params: { ...c.params, [p.id]: e.currentTarget.value } })}>
        <option value="">default</option>{p.values.map(v => <option key={v.value} value={v.value} selected={v.value === c.params[p.id]}>{v.displayName ?? v.value}</option>)}</select></label></div>)}
      {field('Mode', ['mode'], <select value={c.mode} onChange={e => put({ mode: e.currentTarget.value as Choice['mode'] })}><option value="agent">does it</option><option value="plan">makes a plan</option></select>)}
      <span class="grow" />
      <button class="primary" disabled={busy || !text.trim()}>Start</button>
    </div>
    {/* A field that an error names must be seen. */}
    <details class="options" {...(hidden ? { open: true } : {})}><summary>More options</summary>
      <div class="bar">
        {c.where !== 'machine' && field('Labels of the worker', ['labels'], <input value={c.labels} placeholder="gpu=a100, os=linux" size={24} onInput={e => put({ labels: e.currentTarget.value })} />)}
        {field('Name', ['name'], <input value={c.name} placeholder="from the prompt" onInput={e => put({ name: e.currentTarget.value })} />)}
        {field('Push to the branch it begins from', ['workOnCurrentBranch'], <input type="checkbox" checked={c.current} onChange={e => put({ current: e.currentTarget.checked })} />)}
      </div>
      {field('Variables, a line each: NAME=value', ['envVars'], <textarea rows={2} value={vars} autocomplete="off" spellcheck={false} onInput={e => setVars(e.currentTarget.value)} />)}
      {field('MCP servers, as JSON', ['mcpServers'], <textarea rows={2} value={mcp} spellcheck={false} placeholder={'[{"name": "docs", "url": "https://…"}]'} onInput={e => setMcp(e.currentTarget.value)} />)}
    </details>
    {error && !known.includes(place!) && <p class="failure" role="alert">{error.message}</p>}
  </form>
}
