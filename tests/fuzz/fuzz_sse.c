/* Server-sent events as the client reads them, in pieces. */
#include "net/sse.h"
#include "base/errors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int on_event(void *ctx, const char *id, const char *event, const char *data)
{
	ENSURE(id != NULL && event != NULL && data != NULL);
	return OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sse s;
	size_t piece = size > 0 ? data[0] % 16 + 1 : 1;

	sse_init(&s, on_event, NULL);
	for (size_t at = 1; at < size; at += piece)
		if (sse_feed(&s, (const char *)data + at, MIN(piece, size - at)) != OK)
			break;
	sse_fini(&s);
	return 0;
}
