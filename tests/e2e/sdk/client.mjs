// A program of its own for the tests of this folder: the SDK reads CURSOR_BACKEND_URL when it is loaded, so each server needs a
// process. Arguments: the generation (18 or 32), the body of an async function. Performs that with the JSON of standard input,
// and prints what it returns as JSON.
import fs from 'node:fs'
import { createRequire } from 'node:module'

const [generation, text] = process.argv.slice(2)
const require = createRequire(import.meta.url)
const name = `cursor-sdk-${generation}`

// 1.0.18 loads a native addon that cloud agents never use, and that is not built here: a stand-in takes its place.
if (generation === '18') {
  const native = createRequire(require.resolve(name)).resolve('sqlite3')
  class Database { }
  require.cache[native] = { id: native, filename: native, loaded: true, children: [], paths: [], exports: { Database, default: { Database }, verbose: () => ({ Database }) } }
}
const sdk = require(name)

const plain = e => ({ class: e.name, code: e.code, status: e.status, message: e.message, isRetryable: e.isRetryable, requestId: e.requestId, operation: e.operation, endpoint: e.endpoint, configuration: e instanceof sdk.ConfigurationError })
// For bodies that go on after an error: its members, or what was returned.
const caught = async fn => { try { return { value: await fn() } } catch (e) { return { error: plain(e) } } }
const body = new (Object.getPrototypeOf(async () => {}).constructor)('sdk', 'input', 'caught', text)
body(sdk, JSON.parse(fs.readFileSync(0, 'utf8')), caught).then(
  value => ({ value }), error => ({ error: plain(error), stack: error.stack }),
).then(answer => process.stdout.write(JSON.stringify(answer), () => process.exit(0)))
