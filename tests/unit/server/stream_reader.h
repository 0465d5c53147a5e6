/* Bytes of a model server through the reader of events into an answer, and what the sink hears. */
#pragma once
#include "base/mem.h"
#include "net/sse.h"
#include "server/models/wire_priv.h"
#include <string.h>

struct stream_reader {
	const struct wire *wire;
	struct sse sse;
	struct answer answer;
	struct strbuf text, thinking; /* as the sink heard them */
	int sink_rc; /* what the sink shall answer */
	struct model_sink sink;
};

static inline int reader_on_event(void *ctx, const char *id, const char *event, const char *data)
{
	struct stream_reader *r = ctx;

	return r->answer.ended ? OK : r->wire->on_event(&r->answer, data, strlen(data));
}

static inline int reader_on_text(void *ctx, const char *text, size_t len)
{
	struct stream_reader *r = ctx;

	strbuf_add(&r->text, text, len);
	return r->sink_rc;
}

static inline int reader_on_thinking(void *ctx, const char *text, size_t len)
{
	struct stream_reader *r = ctx;

	strbuf_add(&r->thinking, text, len);
	return r->sink_rc;
}

static inline void reader_init(struct stream_reader *r, const struct wire *wire)
{
	*r = (struct stream_reader){
	    .wire = wire, .text = STRBUF(ANSWER_BYTES_MAX), .thinking = STRBUF(ANSWER_BYTES_MAX)};
	r->sink = (struct model_sink){.on_text = reader_on_text, .on_thinking = reader_on_thinking, .ctx = r};
	answer_init(&r->answer, &r->sink);
	sse_init(&r->sse, reader_on_event, r);
}

static inline int reader_feed(struct stream_reader *r, const char *bytes, size_t len)
{
	return sse_feed(&r->sse, bytes, len);
}

static inline void reader_fini(struct stream_reader *r)
{
	answer_fini(&r->answer);
	sse_fini(&r->sse);
	strbuf_fini(&r->text);
	strbuf_fini(&r->thinking);
}
