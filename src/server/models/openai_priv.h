/* models/openai_priv.h: the wire format of /chat/completions. */
#pragma once
#include "server/models/wire_priv.h"

int openai_write_request(const struct remote *p, const struct model_request *req, struct strbuf *b);
int openai_event(struct answer *a, const char *data, size_t len);
int openai_whole(struct answer *a, const json_t *body);
json_t *openai_native(const struct answer *a);
