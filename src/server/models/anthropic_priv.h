/* models/anthropic_priv.h: the wire format of /v1/messages. */
#pragma once
#include "server/models/wire_priv.h"

int anthropic_write_request(const struct remote *p, const struct model_request *req, struct strbuf *b);
int anthropic_event(struct answer *a, const char *data, size_t len);
int anthropic_whole(struct answer *a, const json_t *body);
/* {"blocks":[{"type":"thinking","thinking","signature"}, {"type":"redacted_thinking","data"},
 * {"type":"text","text"}, {"type":"tool_use"}…]} if there was thinking: what it thought must be given back as it was,
 * where it was. */
json_t *anthropic_native(const struct answer *a);
