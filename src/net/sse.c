#include "net/sse.h"
#include "base/errors.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

void sse_init(struct sse *s, int (*on_event)(void *ctx, const char *id, const char *event, const char *data), void *ctx)
{
	*s = (struct sse){.line = STRBUF(SSE_EVENT_MAX),
	    .data = STRBUF(SSE_EVENT_MAX),
	    .retry_ms = -1,
	    .on_event = on_event,
	    .ctx = ctx};
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
	s->begun = s->after_cr = false;
}

/* A blank line ends the event (WHATWG HTML, 9.2.6). */
static int sse_dispatch(struct sse *s)
{
	bool told = s->event[0] != '\0' || s->data.len > 0 || (s->tells_ids && s->id[0] != '\0');
	int rc = told ? s->on_event(s->ctx, s->id, s->event, strbuf_str(&s->data)) : OK;

	strbuf_clear(&s->data);
	str_set(&s->id, "");
	str_set(&s->event, "");
	return rc;
}

/* Digits only; anything else is no number (WHATWG HTML, 9.2.6). */
static void take_retry(struct sse *s, const char *value)
{
	int64_t ms;

	if (value[strspn(value, "0123456789")] == '\0' && text_parse_int(value, 0, INT64_MAX, &ms) == OK)
		s->retry_ms = ms;
}

static int take_line(struct sse *s)
{
	const char *line = strbuf_str(&s->line), *value;
	size_t name;

	if (!s->begun && s->line.len >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0)
		line += 3;
	s->begun = true;
	if (line == s->line.data + s->line.len || s->line.len == 0)
		return sse_dispatch(s);
	name = strcspn(line, ":");
	value = line[name] == ':' ? line + name + 1 : line + name;
	value += *value == ' ';
	if (name == 2 && strncmp(line, "id", 2) == 0) {
		/* One with a NUL is none. */
		if (value + strlen(value) == s->line.data + s->line.len)
			str_set(&s->id, value);
	} else if (name == 5 && strncmp(line, "event", 5) == 0) {
		str_set(&s->event, value);
	} else if (name == 5 && strncmp(line, "retry", 5) == 0) {
		take_retry(s, value);
	} else if (name == 4 && strncmp(line, "data", 4) == 0) {
		if (s->data.len > 0)
			strbuf_addc(&s->data, '\n');
		strbuf_adds(&s->data, value);
	}
	return s->data.overflowed ? ERR_TOO_LARGE : OK;
}

/* A line ends with \n, \r\n or \r. */
static const char *line_end(const char *bytes, size_t len)
{
	const char *nl = memchr(bytes, '\n', len);
	const char *cr = memchr(bytes, '\r', nl != NULL ? (size_t)(nl - bytes) : len);

	return cr != NULL ? cr : nl;
}

int sse_feed(struct sse *s, const char *bytes, size_t len)
{
	while (len > 0) {
		const char *end;
		size_t n;
		int rc;

		if (s->after_cr && *bytes == '\n') {
			bytes++;
			len--;
			s->after_cr = false;
			continue;
		}
		s->after_cr = false;
		end = line_end(bytes, len);
		n = end != NULL ? (size_t)(end - bytes) : len;
		rc = strbuf_add(&s->line, bytes, n);
		if (rc != OK)
			return rc;
		if (end == NULL)
			break;
		s->after_cr = *end == '\r';
		bytes += n + 1;
		len -= n + 1;
		rc = take_line(s);
		strbuf_clear(&s->line);
		if (rc != OK)
			return rc;
	}
	return OK;
}
