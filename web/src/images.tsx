// Pictures that are pasted or dropped into a prompt.
import { useState } from 'preact/hooks'

export interface Picture { data: string, mimeType: string, name: string }
const TYPES = ['image/png', 'image/jpeg', 'image/gif', 'image/webp'], MAX = 5, BYTES = 15 * 2 ** 20

const read = (file: File) => new Promise<Picture>((resolve, reject) => {
  const r = new FileReader()
  r.onload = () => resolve({ data: String(r.result).replace(/^[^,]*,/, ''), mimeType: file.type, name: file.name })
  r.onerror = () => reject(r.error)
  r.readAsDataURL(file)
})

export function usePictures(failed: (e: Error) => void) {
  const [pictures, set] = useState<Picture[]>([])
  const take = async (files?: FileList | null) => {
    for (const f of Array.from(files ?? [])) {
      if (!TYPES.includes(f.type)) { failed(new Error(`${f.name}: only PNG, JPEG, GIF and WebP pictures`)); continue }
      if (f.size > BYTES) { failed(new Error(`${f.name} is larger than 15 MiB`)); continue }
      const p = await read(f)
      set(all => { if (all.length < MAX) return [...all, p]; failed(new Error(`at most ${MAX} pictures`)); return all })
    }
  }
  return {
    pictures, clear: () => set([]),
    body: () => pictures.length ? { images: pictures.map(({ data, mimeType }) => ({ data, mimeType })) } : {},
    on: {
      onPaste: (e: ClipboardEvent) => { if (e.clipboardData?.files.length) { e.preventDefault(); void take(e.clipboardData.files) } },
      onDragOver: (e: DragEvent) => e.preventDefault(),
      onDrop: (e: DragEvent) => { e.preventDefault(); void take(e.dataTransfer?.files) },
    },
    shown: pictures.length > 0 && <div class="bar">{pictures.map((p, i) => <span class="picture" key={i}>
      <img src={`data:${p.mimeType};base64,${p.data}`} alt={p.name} height={64} />
      <button type="button" aria-label={`Remove ${p.name}`} onClick={() => set(all => all.filter((_, k) => k !== i))}>×</button></span>)}</div>,
  }
}
