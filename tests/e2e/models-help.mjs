// What the tests with a stand-in model share.
import assert from 'node:assert/strict'
import { atEnd } from './lib.mjs'
import { ModelServer } from '../model-server/server.mjs'

export async function modelServer(t, options) {
  const m = await ModelServer.start(options)
  atEnd(t, async () => { await m.kill(); assert.deepEqual(m.faults, []) })
  return m
}

// The settings of a provider with one model, "clever".
export const provider = (m, type, { more = '', model = '' } = {}) =>
  `[[models.providers]]\nname = "stand-in"\ntype = "${type}"\nbase_url = "${m.url}/v1"\n${more}\n[[models.providers.models]]\nid = "clever"\nupstream = "clever-1"\n${model}\n`
