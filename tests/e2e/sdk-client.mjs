// A program of its own for sdk.test.mjs: the SDK reads CURSOR_BACKEND_URL when it is loaded, so each server needs a
// process. Performs the body of an async function, its first argument, with the JSON of standard input, and prints what it
// returns as JSON.
import fs from 'node:fs'
import { createRequire } from 'node:module'

// The SDK loads a native addon that cloud agents never use, and that is not built here: a stand-in takes its place.
const require = createRequire(import.meta.url)
const native = require.resolve('sqlite3')
class Database { }
require.cache[native] = { id: native, filename: native, loaded: true, children: [], paths: [], exports: { Database, default: { Database }, verbose: () => ({ Database }) } }
const sdk = require('@cursor/sdk')

const body = new (Object.getPrototypeOf(async () => {}).constructor)('sdk', 'input', process.argv[2])
const plain = e => ({ class: e.name, code: e.code, status: e.status, message: e.message, isRetryable: e.isRetryable, requestId: e.requestId })
body(sdk, JSON.parse(fs.readFileSync(0, 'utf8'))).then(
  value => ({ value }), error => ({ error: plain(error), stack: error.stack }),
).then(answer => process.stdout.write(JSON.stringify(answer), () => process.exit(0)))
