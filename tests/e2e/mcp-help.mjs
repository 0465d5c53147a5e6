// MCP servers for tests: published ones, and how their calls look in a run's events.
import fs from 'node:fs'
import path from 'node:path'

const modules = path.join(import.meta.dirname, 'node_modules/@modelcontextprotocol')
const published = (name, ...args) => ({ command: process.execPath, args: [path.join(modules, `server-${name}`, 'dist/index.js'), ...args] })

export const everything = (extra = {}) => ({ name: 'everything', ...published('everything', 'stdio'), ...extra })
export const filesystem = (...dirs) => ({ name: 'files', ...published('filesystem', ...dirs) })
export const memory = file => ({ name: 'memory', ...published('memory'), env: { MEMORY_FILE_PATH: file } })

// A server of our own that does what `how` says: see mcp-server.mjs.
export const odd = (how, name = 'odd', env = {}) => ({ name, command: process.execPath, args: [path.join(import.meta.dirname, 'mcp-server.mjs'), how], env })

// The ends of the calls of MCP tools, in order.
export const mcpCalls = events => events.filter(e => e.event === 'tool_call' && e.data.name === 'mcp' && e.data.status !== 'running').map(e => e.data)
// What the control plane says about the run, in lines.
export const lines = events => events.filter(e => e.event === 'interaction_update' && e.data.type === 'shell-output-delta').map(e => JSON.stringify(e.data)).filter(s => s.includes('MCP server'))
