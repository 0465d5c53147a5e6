// Artifacts through the official SDK, in both of its published generations.
import assert from 'node:assert/strict'
import { bullpen, sh } from '../lib.mjs'
import { ISO } from '../api-help.mjs'
import { both, value } from './help.mjs'

both('listArtifacts and downloadArtifact', async (t, gen) => {
  const pool = await bullpen(t)
  await pool.worker()
  const v = await value(t, gen, pool, async (sdk, input) => {
    const agent = await sdk.Agent.create({ cloud: { repos: [{ url: input.url }] } })
    const before = await agent.listArtifacts()
    await (await agent.send(input.prompt)).wait()
    const items = await agent.listArtifacts()
    const bytes = Buffer.from(await agent.downloadArtifact('artifacts/out/data.bin'))
    let missing
    try { await agent.downloadArtifact('artifacts/none') } catch (e) { missing = { status: e.status, code: e.code } }
    return { before, items, hex: bytes.toString('hex'), missing }
  }, { url: (await pool.origin()).url, prompt: sh(`mkdir -p artifacts/out && printf '\\001\\377\\000\\n' > artifacts/out/data.bin && echo hi > 'artifacts/hi there.txt'`) })
  assert.deepEqual(v.before, [])
  assert.deepEqual(v.items.map(i => [i.path, i.sizeBytes]).sort(), [['artifacts/hi there.txt', 3], ['artifacts/out/data.bin', 4]])
  for (const i of v.items) assert.match(i.updatedAt, ISO)
  assert.equal(v.hex, '01ff000a')
  assert.equal(v.missing?.status, 404, JSON.stringify(v.missing))
})
