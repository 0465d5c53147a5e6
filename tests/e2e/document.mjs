// Every answer that a test gets over the REST API is held against docs/openapi.yaml: its status must be one that the
// route gives, its content type and form what is written there. So code and document cannot differ unseen.
import fs from 'node:fs'
import Ajv from 'ajv/dist/2020.js'
import { parse } from 'yaml'

const document = parse(fs.readFileSync(new URL('../../docs/openapi.yaml', import.meta.url), 'utf8'))
const ajv = new Ajv({ strict: false, allErrors: true })
ajv.addSchema({ $id: 'doc', components: document.components })

// Templates with fewer parameters first: a segment by name is preferred to one by a parameter. `{path}` at the end may stand for several.
const operations = Object.entries(document.paths).flatMap(([template, methods]) => Object.entries(methods).map(([method, operation]) => ({
  method: method.toUpperCase(), template, operation,
  pattern: new RegExp(`^${template.replace(/\{path\}$/, '.+').replace(/\{[^}]*\}/g, '[^/]+')}$`),
}))).sort((a, b) => a.template.split('{').length - b.template.split('{').length)

const pointed = r => r?.$ref ? r.$ref.slice(2).split('/').reduce((o, key) => o[key], document) : r

// A request that does not reach an operation (no such path or method, a header that cannot be read) is answered with an error, whatever its path.
const anywhere = new Set([400, 404, 405, 413, 414, 415, 431, 500, 503, 505])

function formOf(method, pathname, status) {
  const found = operations.find(o => o.method === method && o.pattern.test(pathname))
  const response = pointed(found?.operation.responses[status])
  if (response) return response.content
  if (found && !anywhere.has(status)) throw new Error(`${method} ${pathname} answered ${status}, which docs/openapi.yaml does not have for ${found.operation.operationId}`)
  return document.components.responses.BadRequest.content
}

export function checkAnswer(method, target, { status, headers, json, text }) {
  if (method === 'HEAD' || method === 'OPTIONS' || status === 304) return
  const pathname = target.split('?')[0].replace(/\/+/g, '/').replace(/(?<=.)\/$/, '')
  if (pathname.startsWith('/trial/')) return // routes of tests/trial, which no document has
  const content = formOf(method, pathname, status)
  const type = (headers.get('content-type') ?? '').split(';')[0]
  const schema = content[type]?.schema
  if (!content[type] && !content['*/*']) throw new Error(`${method} ${pathname} answered ${status} with content type '${type}', docs/openapi.yaml has ${Object.keys(content)}`)
  if (type !== 'application/json' || !schema || Object.keys(schema).length === 0) return
  // A form is compiled once.
  const check = ajv.getSchema(schema.$ref ? `doc${schema.$ref}` : JSON.stringify(schema)) ?? ajv.compile({ $id: schema.$ref ? undefined : JSON.stringify(schema), ...schema })
  if (!check(json)) throw new Error(`${method} ${pathname} answered ${status} with another form than docs/openapi.yaml has: ${check.errors.slice(0, 5).map(e => `answer${e.instancePath} ${e.message} ${e.params.additionalProperty ?? ''}`).join(', ')}\n${text.slice(0, 2000)}`)
}
