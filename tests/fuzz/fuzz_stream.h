/* The body of both targets; WIRE names the format. What comes out must be well-formed however it was cut. */
#include "base/mem.h"
#include "base/text.h"
#include "net/sse.h"
#include "server/models/wire_priv.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct heard {
	struct answer answer;
	struct strbuf text;
};

static int on_event(void *ctx, const char *id, const char *event, const char *data)
{
	struct heard *h = ctx;

	return h->answer.ended ? OK : WIRE.on_event(&h->answer, data, strlen(data));
}

static int on_text(void *ctx, const char *text, size_t len)
{
	struct heard *h = ctx;

	return strbuf_add(&h->text, text, len);
}

static void check_turn(struct heard *h)
{
	struct model_result turn = {0};

	answer_take(&h->answer, &turn);
	/* Blocks that are filled in turns are told in turns, and kept one after the other. */
	ENSURE(strlen(turn.text) == h->text.len && text_is_utf8(turn.text, strlen(turn.text)));
	for (size_t i = 0; i < json_array_size(turn.calls); i++) {
		const json_t *call = json_array_get(turn.calls, i);

		ENSURE(json_is_string(json_object_get(call, "name")) &&
		       json_is_object(json_object_get(call, "arguments")));
	}
	turn.native = WIRE.native != NULL ? WIRE.native(&h->answer) : NULL;
	if (turn.native != NULL)
		free(json_text(turn.native));
	ENSURE(turn.usage.input_tokens >= 0 && turn.usage.output_tokens >= 0);
	model_result_fini(&turn);
}

/* Returns all the text that was heard, malloc'ed. */
static char *read_in_pieces(const uint8_t *data, size_t size, size_t piece)
{
	struct heard h = {.text = STRBUF(ANSWER_BYTES_MAX)};
	const struct model_sink sink = {.on_text = on_text, .ctx = &h};
	struct sse sse;
	int rc = OK;

	answer_init(&h.answer, &sink);
	sse_init(&sse, on_event, &h);
	for (size_t at = 0; rc == OK && at < size; at += piece)
		rc = sse_feed(&sse, (const char *)data + at, MIN(piece, size - at));
	ENSURE(rc == OK || h.answer.failure.kind != FAILURE_NONE);
	check_turn(&h);
	sse_fini(&sse);
	answer_fini(&h.answer);
	return strbuf_take(&h.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_STR whole = read_in_pieces(data, size, size + 1);
	AUTO_STR pieces = read_in_pieces(data, size, 1);
	AUTO_JSON body = answer_json((const char *)data, size);
	struct heard h = {.text = STRBUF(ANSWER_BYTES_MAX)};
	const struct model_sink sink = {.on_text = on_text, .ctx = &h};

	ENSURE(strcmp(whole, pieces) == 0);
	answer_init(&h.answer, &sink);
	if (json_is_object(body)) {
		IGNORE(WIRE.on_whole(&h.answer, body));
		check_turn(&h);
	}
	answer_fini(&h.answer);
	strbuf_fini(&h.text);
	return 0;
}
