// The two wire formats: what a real server says for an answer, and what it refuses.
// answer: { text, thinking, thinkingField, signature, calls: [{ name, arguments }], stop, usage: { input, output, cached, written } }
// `text` may be an array of pieces. `arguments` may be a string, which is sent as it is.
const pieces = (text, n = 7) => Array.isArray(text) ? text : text ? text.match(new RegExp(`[^]{1,${n}}`, 'gu')) : []
const json = args => typeof args === 'string' ? args : JSON.stringify(args ?? {})
const sse = data => `data: ${typeof data === 'string' ? data : JSON.stringify(data)}\n\n`

export const openai = {
  stream(answer, body = {}) {
    const chunk = (delta, finish = null) => sse({ id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: body.model ?? 'm',
      choices: [{ index: 0, delta, logprobs: null, finish_reason: finish }], ...(body.stream_options?.include_usage ? { usage: null } : {}) })
    let out = chunk({ role: 'assistant', content: '', refusal: null })
    for (const p of pieces(answer.thinking)) out += chunk({ [answer.thinkingField ?? 'reasoning_content']: p })
    for (const p of pieces(answer.text)) out += chunk({ content: p })
    for (const p of pieces(answer.refusal)) out += chunk({ refusal: p })
    const calls = answer.calls ?? []
    calls.forEach((c, index) => {
      out += chunk({ tool_calls: [{ index, id: `call_${index}x`, type: 'function', function: { name: c.name, arguments: '' } }] })
      for (const p of pieces(json(c.arguments), 9)) out += chunk({ tool_calls: [{ index, function: { arguments: p } }] })
    })
    out += chunk({}, answer.stop ?? (calls.length ? 'tool_calls' : 'stop'))
    if (body.stream_options?.include_usage) out += sse({ id: 'chatcmpl-1', object: 'chat.completion.chunk', choices: [], usage: this.usage(answer) })
    return out + 'data: [DONE]\n\n'
  },
  usage({ usage: u = {} }) {
    return { prompt_tokens: u.input ?? 10, completion_tokens: u.output ?? 5, total_tokens: (u.input ?? 10) + (u.output ?? 5), prompt_tokens_details: { cached_tokens: u.cached ?? 0 } }
  },
  whole(answer) {
    const calls = answer.calls?.map((c, i) => ({ id: `call_${i}x`, type: 'function', function: { name: c.name, arguments: json(c.arguments) } }))
    return { id: 'chatcmpl-1', object: 'chat.completion', choices: [{ index: 0, finish_reason: answer.stop ?? (calls ? 'tool_calls' : 'stop'),
      message: { role: 'assistant', content: answer.text ?? null, ...(calls ? { tool_calls: calls } : {}) } }], usage: this.usage(answer) }
  },
  error: (status, message, code = null) => ({ error: { message, type: status === 429 ? 'rate_limit_exceeded' : status >= 500 ? 'server_error' : 'invalid_request_error', param: null, code } }),
  // The first thing a real server would complain about.
  complaint(body, headers) {
    if (!/^application\/json/.test(headers['content-type'] ?? '')) return 'content-type must be application/json'
    if (typeof body.model !== 'string') return 'you must provide a model parameter'
    if (!Array.isArray(body.messages) || !body.messages.length) return "'messages' must be a non-empty array"
    let open = []
    for (const [i, m] of body.messages.entries()) {
      const at = `messages[${i}]`
      if (open.length && m.role !== 'tool') return `An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id': ${open}`
      if (m.role === 'system' && i > 0) return `${at}: system must come first`
      if (m.role === 'user' && typeof m.content !== 'string' && !(Array.isArray(m.content) && m.content.every(p => p.type === 'text' || /^data:image\/[a-z]+;base64,[A-Za-z0-9+/=]+$/.test(p.image_url?.url ?? '')))) return `${at}: bad content`
      if (m.role === 'assistant') {
        if (m.content === null ? !m.tool_calls : typeof m.content !== 'string') return `${at}: expected content or tool_calls`
        if (m.tool_calls && !m.tool_calls.length) return `${at}: empty array`
        open = (m.tool_calls ?? []).map(c => {
          JSON.parse(c.function.arguments)
          if (c.type !== 'function' || c.id.length > 40 || !c.id || !c.function.name) throw new Error(`${at}: bad call`)
          return c.id
        })
        if (new Set(open).size !== open.length) return `${at}: duplicate ids`
      } else if (m.role === 'tool') {
        if (!open.includes(m.tool_call_id)) return `${at}: 'tool' must be a response to a preceding message with 'tool_calls'`
        if (typeof m.content !== 'string' || !m.content) return `${at}: content must be a text`
        open = open.filter(id => id !== m.tool_call_id)
      } else if (m.role !== 'user' && m.role !== 'system') return `${at}: unknown role`
    }
    if (open.length) return `tool_call_ids did not have response messages: ${open}`
    for (const t of body.tools ?? []) if (t.type !== 'function' || !/^[a-zA-Z0-9_-]{1,64}$/.test(t.function.name) || t.function.parameters?.type !== 'object') return `bad tool ${JSON.stringify(t)}`
    if (body.tools && !body.tools.length) return "'tools' must not be empty"
    return null
  },
}

export const anthropic = {
  stream(answer, body = {}) {
    const event = o => `event: ${o.type}\n${sse(o)}`
    const u = answer.usage ?? {}
    let out = event({ type: 'message_start', message: { id: 'msg_1', type: 'message', role: 'assistant', model: body.model ?? 'm', content: [], stop_reason: null, stop_sequence: null,
      usage: { input_tokens: u.input ?? 10, cache_creation_input_tokens: u.written ?? 0, cache_read_input_tokens: u.cached ?? 0, output_tokens: 1 } } })
    out += event({ type: 'ping' })
    let index = 0
    const block = (start, deltas) => {
      out += event({ type: 'content_block_start', index, content_block: start })
      for (const d of deltas) out += event({ type: 'content_block_delta', index, delta: d })
      out += event({ type: 'content_block_stop', index: index++ })
    }
    if (answer.thinking) block({ type: 'thinking', thinking: '', signature: '' }, [...pieces(answer.thinking).map(thinking => ({ type: 'thinking_delta', thinking })), { type: 'signature_delta', signature: answer.signature ?? 'c2lnbmF0dXJl' }])
    if (answer.redacted) block({ type: 'redacted_thinking', data: answer.redacted }, [])
    if (answer.text?.length) block({ type: 'text', text: '' }, pieces(answer.text).map(text => ({ type: 'text_delta', text })))
    for (const [i, c] of (answer.calls ?? []).entries())
      block({ type: 'tool_use', id: `toolu_${i}`, name: c.name, input: {} }, ['', ...pieces(json(c.arguments), 9)].map(partial_json => ({ type: 'input_json_delta', partial_json })))
    out += event({ type: 'message_delta', delta: { stop_reason: answer.stop ?? (answer.calls ? 'tool_use' : 'end_turn'), stop_sequence: null }, usage: { output_tokens: u.output ?? 5 } })
    return out + event({ type: 'message_stop' })
  },
  whole(answer) {
    return { id: 'msg_1', type: 'message', role: 'assistant', stop_reason: answer.stop ?? (answer.calls ? 'tool_use' : 'end_turn'), usage: { input_tokens: 10, output_tokens: 5 },
      content: [...(answer.text ? [{ type: 'text', text: answer.text }] : []), ...(answer.calls ?? []).map((c, i) => ({ type: 'tool_use', id: `toolu_${i}`, name: c.name, input: c.arguments }))] }
  },
  error: (status, message, type) => ({ type: 'error', error: { type: type ?? ({ 401: 'authentication_error', 403: 'permission_error', 404: 'not_found_error', 413: 'request_too_large', 429: 'rate_limit_error', 529: 'overloaded_error' }[status] ?? (status >= 500 ? 'api_error' : 'invalid_request_error')), message }, request_id: 'req_1' }),
  complaint(body, headers) {
    if (headers['anthropic-version'] !== '2023-06-01') return 'anthropic-version: header is required'
    if (typeof body.model !== 'string') return 'model: Field required'
    if (!Number.isInteger(body.max_tokens) || body.max_tokens < 1) return 'max_tokens: Field required'
    if (body.thinking?.type === 'enabled' && !(body.thinking.budget_tokens >= 1024 && body.thinking.budget_tokens < body.max_tokens)) return '`max_tokens` must be greater than `thinking.budget_tokens`'
    if (!Array.isArray(body.messages) || !body.messages.length) return 'messages: at least one message is required'
    let cached = (body.system ?? []).filter(b => b.cache_control).length + (body.tools ?? []).filter(b => b.cache_control).length
    let open = [], last = 'assistant'
    for (const [i, m] of body.messages.entries()) {
      const at = `messages.${i}`
      if (m.role === last) return `${at}: roles must alternate between "user" and "assistant"`
      last = m.role
      if (!Array.isArray(m.content) || !m.content.length) return `${at}: content must be a non-empty array`
      if (m.role === 'user') for (const id of open) if (!m.content.some(b => b.type === 'tool_result' && b.tool_use_id === id)) return `${at}: \`tool_use\` ids were found without \`tool_result\` blocks immediately after: ${id}`
      for (const b of m.content) {
        cached += b.cache_control ? 1 : 0
        if (b.type === 'text' && !b.text.trim()) return `${at}: text content blocks must contain non-whitespace text`
        if (b.type === 'tool_result' && !open.includes(b.tool_use_id)) return `${at}: unexpected \`tool_use_id\` found in \`tool_result\` blocks: ${b.tool_use_id}`
        if (b.type === 'tool_use' && (m.role !== 'assistant' || !/^[a-zA-Z0-9_-]+$/.test(b.id) || typeof b.input !== 'object' || !b.name)) return `${at}: bad tool_use`
        if (b.type === 'thinking' && (!b.signature || !body.thinking)) return `${at}: Invalid \`signature\` in \`thinking\` block`
        if (b.type === 'image' && !(b.source?.type === 'base64' && /^image\//.test(b.source.media_type) && b.source.data)) return `${at}: bad image`
        if (!['text', 'image', 'tool_use', 'tool_result', 'thinking', 'redacted_thinking'].includes(b.type)) return `${at}: unknown block ${b.type}`
      }
      if (m.role === 'assistant' && body.thinking && m.content.some(b => b.type === 'tool_use') && i === body.messages.length - 2 && !/thinking/.test(m.content[0].type)) return `${at}: Expected \`thinking\` or \`redacted_thinking\`, but found \`${m.content[0].type}\``
      open = m.role === 'assistant' ? m.content.filter(b => b.type === 'tool_use').map(b => b.id) : []
    }
    if (last !== 'user') return 'messages: final message must be from the user'
    if (cached > 4) return 'A maximum of 4 blocks with cache_control may be provided'
    for (const t of body.tools ?? []) if (!/^[a-zA-Z0-9_-]{1,128}$/.test(t.name) || t.input_schema?.type !== 'object') return `bad tool ${JSON.stringify(t)}`
    return null
  },
}
