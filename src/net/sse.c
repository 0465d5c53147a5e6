#include "net/sse.h"
#include "base/errors.h"
#include "base/mem.h"
#include <string.h>

void sse_init(struct sse *s, int (*on_event)(void *ctx, const char *id, const char *event, const char *data), void *ctx)
{
	*s = (struct sse){
	    .line = STRBUF(SSE_EVENT_MAX), .data = STRBUF(SSE_EVENT_MAX), .on_event = on_event, .ctx = ctx};
	sse_reset(s);
}

void sse_fini(struct sse *s)
{
	strbuf_fini(&s->line);
	strbuf_fini(&s->data);
	free(s->id);
	free(s->event);
}

void sse_reset(struct sse *s)
{
	strbuf_clear(&s->line);
	strbuf_clear(&s->data);
	str_set(&s->id, "");
	str_set(&s->event, "");
}

/* A blank line ends the event (WHATWG HTML, 9.2.6). */
static int sse_dispatch(struct sse *s)
{
	int rc =
	    s->event[0] != '\0' || s->data.len > 0 ? s->on_event(s->ctx, s->id, s->event, strbuf_str(&s->data)) : OK;

	strbuf_clear(&s->data);
	str_set(&s->id, "");
	str_set(&s->event, "");
	return rc;
}

static int take_line(struct sse *s)
{
	const char *line = strbuf_str(&s->line), *value;
	size_t name;

	if (line[0] == '\0')
		return sse_dispatch(s);
	name = strcspn(line, ":");
	value = line[name] == ':' ? line + name + 1 : line + name;
	value += *value == ' ';
	if (name == 2 && strncmp(line, "id", 2) == 0) {
		str_set(&s->id, value);
	} else if (name == 5 && strncmp(line, "event", 5) == 0) {
		str_set(&s->event, value);
	} else if (name == 4 && strncmp(line, "data", 4) == 0) {
		if (s->data.len > 0)
			strbuf_addc(&s->data, '\n');
		strbuf_adds(&s->data, value);
	}
	return s->data.overflowed ? ERR_TOO_LARGE : OK;
}

int sse_feed(struct sse *s, const char *bytes, size_t len)
{
	while (len > 0) {
		const char *nl = memchr(bytes, '\n', len);
		size_t n = nl != NULL ? (size_t)(nl - bytes) : len;
		int rc = strbuf_add(&s->line, bytes, n);

		if (rc != OK)
			return rc;
		bytes += n;
		len -= n;
		if (nl == NULL)
			break;
		bytes++;
		len--;
		if (s->line.len > 0 && s->line.data[s->line.len - 1] == '\r')
			s->line.data[--s->line.len] = '\0';
		rc = take_line(s);
		strbuf_clear(&s->line);
		if (rc != OK)
			return rc;
	}
	return OK;
}
