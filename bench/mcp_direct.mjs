// The same calls by the official TypeScript client: node mcp_direct.mjs CALLS PROGRAM ARG... One JSON line, times in microseconds.
import path from 'node:path'

const sdk = path.join(import.meta.dirname, '../tests/e2e/node_modules/@modelcontextprotocol/sdk/dist/esm/client')
const { Client } = await import(path.join(sdk, 'index.js'))
const { StdioClientTransport } = await import(path.join(sdk, 'stdio.js'))
const [calls, command, ...args] = process.argv.slice(2)
const now = () => Number(process.hrtime.bigint()) / 1000

let from = now()
const client = new Client({ name: 'bench', version: '1' })
await client.connect(new StdioClientTransport({ command, args, stderr: 'ignore' }))
await client.listTools()
const open = now() - from
const times = []
for (let i = -20; i < Number(calls); i++) {
  from = now()
  const r = await client.callTool({ name: 'echo', arguments: { message: 'hello' } })
  if (r.isError) throw new Error(JSON.stringify(r))
  if (i >= 0) times.push(now() - from)
}
times.sort((a, b) => a - b)
console.log(JSON.stringify({ open_ms: open / 1000, p50: times[times.length >> 1], p99: times[Math.floor(times.length * 0.99)] }))
await client.close()
