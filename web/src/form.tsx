// What the forms of the settings share.
import { ComponentChildren } from 'preact'
import { useState } from 'preact/hooks'
import { ApiError } from './api'
import { Failure } from './ui'

// The server names the member that is wrong: "'name' must …".
const memberOf = (e?: Error) => e instanceof ApiError ? e.message.match(/^(?:[\w ]+: )?'(\w+)/)?.[1] : e instanceof FieldError ? e.field : undefined
export class FieldError extends Error { constructor(readonly field: string, message: string) { super(message) } }

export function Field({ name, label, hint, error, children }: { name: string, label: string, hint?: ComponentChildren, error?: Error, children: ComponentChildren }) {
  return <div class="field"><label for={name}>{label}</label>{children}{hint && <p class="dim">{hint}</p>}{memberOf(error) === name && <Failure error={error} />}</div>
}

// What no field shows.
export function Rest({ error, fields }: { error?: Error, fields: string[] }) { return fields.includes(memberOf(error) ?? '') ? null : <Failure error={error} /> }

export function CheckField({ name, hint, error, ...rest }: { name: string, label: string, hint: string, error?: Error, on: boolean, set: (on: boolean) => void }) {
  return <div class="field"><Check id={name} {...rest} /><p class="dim">{hint}</p>{memberOf(error) === name && <Failure error={error} />}</div>
}

export function Check({ id, label, on, set }: { id?: string, label: string, on: boolean, set: (on: boolean) => void }) {
  return <label class="check"><input id={id} type="checkbox" checked={on} onChange={e => set(e.currentTarget.checked)} /> {label}</label>
}

// One thing at a time that may fail. `done` says that the last one went well.
export function useDoing() {
  const [state, set] = useState<{ busy: boolean, error?: Error, done?: string }>({ busy: false })
  return { ...state, forget: () => set({ busy: false }), run: async (what: () => Promise<unknown>, done = 'Saved.') => {
    set({ busy: true })
    try { await what(); set({ busy: false, done }); return true } catch (e) { set({ busy: false, error: e as Error }); return false }
  } }
}
export function Done({ text }: { text?: string }) { return <p role="status" class="dim">{text}</p> }

export function parseJson(field: string, text: string) {
  try { return JSON.parse(text) } catch (e) { throw new FieldError(field, `this is not JSON: ${(e as Error).message}`) }
}

// Large text that a machine reads.
export function Editor({ id, value, set, rows = 14 }: { id: string, value: string, set: (s: string) => void, rows?: number }) {
  return <textarea id={id} class="mono" rows={rows} spellcheck={false} value={value} onInput={e => set(e.currentTarget.value)} />
}
