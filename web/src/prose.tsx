// What a model writes, with the little of Markdown that helps reading: headings, lists, code. It becomes elements, never HTML.
import { ComponentChildren } from 'preact'

function words(line: string): ComponentChildren[] {
  return line.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/).map((part, i) => i % 2 === 0 ? part : part[0] === '`' ? <code key={i}>{part.slice(1, -1)}</code> : <b key={i}>{part.slice(2, -2)}</b>)
}

function lines(text: string): ComponentChildren[] {
  return text.split('\n').map((line, i) => {
    const head = line.match(/^#{1,6} (.*)/), item = line.match(/^(\s*)(?:[-*]|(\d+[.)])) (.*)/)
    if (head) return <span key={i} class="head">{words(head[1])}</span>
    if (item) return <span key={i} class={`item deep${Math.min(3, item[1].length >> 1)}`}><span class="mark">{item[2] ?? '•'}</span><span>{words(item[3])}</span></span>
    return <span key={i}>{words(line)}{'\n'}</span>
  })
}

export function Prose({ text }: { text: string }) {
  const parts = text.split(/^```.*$/m)
  return <div class="said">{parts.map((p, i) => i % 2 === 1 ? <pre key={i} tabIndex={0}>{p.replace(/^\n|\n$/g, '')}</pre> : p.trim() ? <div key={i}>{lines(p.replace(/^\n+|\n+$/g, ''))}</div> : null)}</div>
}
