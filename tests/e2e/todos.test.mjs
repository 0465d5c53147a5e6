// The list of what is to be done: it is the conversation's, over runs and a server that was killed.
import test from 'node:test'
import assert from 'node:assert/strict'
import { bullpen, tool, checkEvents } from './lib.mjs'
import { modelServer, provider } from './models-help.mjs'

const todos = (...list) => list.map(([id, content, status]) => ({ id, content, status }))
const write = args => tool('todo_write', args)
const twins = events => events.filter(e => e.event === 'interaction_update' && e.data.type === 'tool-call-completed').map(e => e.data.toolCall)

test('a list is written, changed by id, and goes on in a follow-up after a crash', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const run = await pool.run(write({ todos: todos(['a', 'Look', 'in_progress'], ['b', 'Mend', 'pending']) }) + write({ merge: true, todos: [{ id: 'a', status: 'completed' }, { id: 'b', status: 'TODO_STATUS_IN_PROGRESS' }, { id: 'c', content: 'Test' }] }))
  assert.equal((await run.end()).status, 'FINISHED')
  const events = await run.events(), calls = [...checkEvents(events).completed.values()].filter(c => c.name === 'todo_write')
  assert.deepEqual(calls.map(c => c.result.success), [
    { todos: todos(['a', 'Look', 'in_progress'], ['b', 'Mend', 'pending']), totalCount: 2 },
    { todos: todos(['a', 'Look', 'completed'], ['b', 'Mend', 'in_progress'], ['c', 'Test', 'pending']), totalCount: 3 }])
  const sdk = twins(events).filter(c => c.type === 'updateTodos').at(-1)
  assert.deepEqual(sdk, { type: 'updateTodos', args: { todos: [{ content: '', status: 'completed' }, { content: '', status: 'inProgress' }, { content: 'Test', status: 'pending' }] },
    result: { status: 'success', value: { todos: [{ content: 'Look', status: 'completed' }, { content: 'Mend', status: 'inProgress' }, { content: 'Test', status: 'pending' }], totalCount: 3 } } })
  await pool.crash()
  await pool.start()
  const next = await run.followUp(write({ merge: true, todos: [{ id: 'b', status: 'cancelled' }] }))
  assert.equal((await next.end()).status, 'FINISHED')
  const [call] = [...checkEvents(await next.events()).completed.values()]
  assert.deepEqual(call.result.success.todos, todos(['a', 'Look', 'completed'], ['b', 'Mend', 'cancelled'], ['c', 'Test', 'pending']))
})

test('lists that are none are told what is wrong with them, and the one before stays', async t => {
  const pool = await bullpen(t)
  await pool.worker()
  const bad = [
    [{ todos: 7 }, /'todos' must be a list/], [{}, /'todos' must be a list/], [{ todos: [], merge: 'yes' }, /'merge' must be true or false/],
    [{ todos: ['x'] }, /'todos\[0\]' must be an object/], [{ todos: [{ content: ' ' }] }, /'todos\[0\]\.content' must be a text/],
    [{ todos: [{ content: 'x', status: 'done' }] }, /'todos\[0\]\.status' must be pending, in_progress, completed or cancelled, not 'done'/],
    [{ todos: todos(['a', 'x', 'pending'], ['a', 'y', 'pending']) }, /'todos\[1\]\.id' 'a' stands there twice/],
    [{ todos: [{ id: 'i'.repeat(65), content: 'x' }] }, /'todos\[0\]\.id' must be at most 64 bytes/], [{ todos: [{ content: 'x'.repeat(2049) }] }, /at most 2048 bytes/],
    [{ todos: Array.from({ length: 201 }, (_, i) => ({ id: `${i}`, content: 'x' })) }, /at most 200 todos/]]
  const run = await pool.run(write({ todos: todos(['a', 'Stay', 'pending']) }) + bad.map(([args]) => tool('todo_write', args)).join('') + write({ merge: true, todos: [] }))
  await run.end()
  const calls = [...checkEvents(await run.events()).completed.values()]
  assert.equal(calls.length, bad.length + 2)
  for (const [i, [, pattern]] of bad.entries()) assert.match(JSON.stringify(calls[i + 1].result), pattern)
  assert.deepEqual(calls.at(-1).result.success.todos, todos(['a', 'Stay', 'pending']))
})

test('a model is offered the tool also in plan mode, under the names that models know, and told the whole list', async t => {
  const m = await modelServer(t), pool = await bullpen(t, { config: provider(m, 'openai') })
  await pool.worker()
  m.next({ answer: { calls: [{ name: 'TodoWrite', arguments: { todos: todos(['1', 'One', 'pending']) } }] } }, { answer: { text: 'Done.' } })
  const run = await pool.run('Go', { extra: { mode: 'plan' } })
  assert.equal((await run.end()).status, 'FINISHED')
  assert.ok(m.requests[0].body.tools.some(x => x.function.name === 'todo_write'))
  assert.match(JSON.stringify(m.requests[1].body.messages), /\[pending\] 1: One/)
})
