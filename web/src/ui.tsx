// Small things that every page uses.
import { ComponentChildren } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import { ask } from './api'

export function go(path: string) { history.pushState(null, '', path); dispatchEvent(new PopStateEvent('popstate')) }

export function Link({ to, children, ...rest }: { to: string, children: ComponentChildren, class?: string }) {
  return <a href={to} {...rest} onClick={e => { if (!e.ctrlKey && !e.metaKey && !e.shiftKey && e.button === 0) { e.preventDefault(); go(to) } }}>{children}</a>
}

// The present answer of a GET, asked again every so often while the page is seen. `again` asks at once.
export function useAsked<T>(path: string | undefined, everyMs = 0): { value?: T, error?: Error, again: () => void } {
  const [state, set] = useState<{ path?: string, value?: T, error?: Error }>({})
  const [tick, setTick] = useState(0)
  useEffect(() => {
    if (!path) return
    let over = false, timer = 0
    const once = () => ask<T>('GET', path).then(value => { if (!over) set({ path, value }) }, error => { if (!over) set(s => ({ ...s, path, error })) })
      .finally(() => { if (!over && everyMs) timer = window.setTimeout(look, everyMs) })
    const look = () => { if (document.visibilityState === 'visible') void once(); else timer = window.setTimeout(look, everyMs) }
    void once()
    return () => { over = true; clearTimeout(timer) }
  }, [path, tick, everyMs])
  return { value: state.path === path ? state.value : undefined, error: state.path === path ? state.error : undefined, again: () => setTick(n => n + 1) }
}

const units: [Intl.RelativeTimeFormatUnit, number][] = [['day', 86400e3], ['hour', 3600e3], ['minute', 60e3], ['second', 1e3]]
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto' })
export function Time({ at }: { at: string | number }) {
  const d = new Date(at), ms = d.getTime() - Date.now(), [unit, size] = units.find(u => Math.abs(ms) >= u[1]) ?? units[3]
  return <time dateTime={d.toISOString()} title={d.toLocaleString(undefined, { dateStyle: 'full', timeStyle: 'long' })}>{relative.format(Math.round(ms / size), unit)}</time>
}

export function duration(ms: number) {
  return ms < 1000 ? `${Math.round(ms)} ms` : ms < 60e3 ? `${(ms / 1000).toFixed(1)} s` : `${Math.floor(ms / 60e3)} min ${Math.round(ms % 60e3 / 1000)} s`
}

export function Badge({ status }: { status: string }) { return <span class={`badge ${status.toLowerCase()}`}>{status.toLowerCase()}</span> }

export function Failure({ error }: { error?: Error }) { return error ? <p class="failure" role="alert">{error.message}</p> : null }
