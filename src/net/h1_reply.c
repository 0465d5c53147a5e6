/* HTTP/1.1: writing responses. */
#include "base/id.h"
#include "base/mem.h"
#include "net/h1_priv.h"
#include <string.h>

static const char *h1_reply_reason(int status)
{
	switch (status) {
#define XX(number, name, string)                                                                                       \
	case number:                                                                                                   \
		return #string;
		HTTP_STATUS_MAP(XX)
#undef XX
	}
	return "Status";
}

/* "NOT_FOUND" reads "Not Found" on the status line. */
static void add_reason(struct strbuf *b, int status)
{
	bool start = true;

	if (status == 200) {
		strbuf_adds(b, "OK");
		return;
	}
	for (const char *p = h1_reply_reason(status); *p != '\0'; p++) {
		bool upper = *p >= 'A' && *p <= 'Z';

		strbuf_addc(b, *p == '_' ? ' ' : upper && !start ? (char)(*p - 'A' + 'a') : *p);
		start = *p == '_';
	}
}

void h1_fail(struct h1 *h, int status, const char *code, const char *text)
{
	AUTO_FINI(strbuf) head = STRBUF(1024);
	AUTO_STR body = error_body(code, text);
	bool answer = !h->started;
	char id[UUID_LEN];

	if (h->x != NULL)
		exchange_over(TAKE(h->x));
	if (!answer) {
		conn_close(h->c);
		return;
	}
	strbuf_addf(&head, "HTTP/1.1 %d ", status);
	add_reason(&head, status);
	id_uuid(id);
	strbuf_addf(&head,
	    "\r\ncontent-type: application/json\r\ncontent-length: %zu\r\ncache-control: no-store\r\nx-request-id: "
	    "%s\r\n"
	    "connection: close\r\n\r\n",
	    strlen(body), id);
	conn_queue(h->c, head.data, head.len);
	if (h->guard.matched < strlen(H1_HEAD_WORD))
		conn_queue(h->c, body, strlen(body));
	conn_finish(h->c);
}

static bool framing_header(const char *name)
{
	return strcmp(name, "content-length") == 0 || strcmp(name, "transfer-encoding") == 0 ||
	       strcmp(name, "connection") == 0;
}

static void add_fields(struct strbuf *b, const struct fields *f)
{
	for (size_t i = 0; f != NULL && i < f->n; i++)
		if (!framing_header(f->list[i].name))
			strbuf_addf(b, "%s: %s\r\n", f->list[i].name, f->list[i].value);
}

void h1_send_head(struct h1 *h, int status, const struct fields *f, int64_t len)
{
	AUTO_FINI(strbuf) b = STRBUF(SIZE_MAX / 2);
	bool old = h->parser.http_minor == 0, empty = status == 204 || status < 200;

	/* A request that is still arriving cannot be skipped reliably: the connection ends after the answer. */
	if (!h->x->request_done || h->x->discard || h->c->loop->draining || (h->c->eof && h->held.len == 0))
		h->keep_alive = false;
	h->started = true;
	h->no_body = h->x->is_head || empty || status == 304;
	h->chunked = len < 0 && !old && !h->no_body;
	strbuf_addf(&b, "HTTP/1.1 %d ", status);
	add_reason(&b, status);
	strbuf_adds(&b, "\r\n");
	add_fields(&b, f);
	if (len >= 0 && !empty && status != 304)
		strbuf_addf(&b, "content-length: %lld\r\n", (long long)len);
	else if (h->chunked)
		strbuf_adds(&b, "transfer-encoding: chunked\r\n");
	if (!h->keep_alive)
		strbuf_adds(&b, "connection: close\r\n");
	strbuf_adds(&b, "\r\n");
	conn_queue(h->c, b.data, b.len);
}

void h1_send_body(struct h1 *h, struct cmd *cmd, bool chunked)
{
	char size[24];

	if (h->no_body || cmd->len == 0) {
		exchange_release(cmd->x, cmd->len);
		return;
	}
	if (chunked)
		conn_queue(h->c, size, (size_t)snprintf(size, sizeof(size), "%zx\r\n", cmd->len));
	conn_queue(h->c, cmd->bytes, cmd->len);
	if (chunked)
		conn_queue(h->c, "\r\n", 2);
	exchange_queued(cmd->x, cmd->len);
}

void h1_send_end(struct h1 *h, const struct fields *trailers)
{
	AUTO_FINI(strbuf) b = STRBUF(SIZE_MAX / 2);

	if (!h->chunked)
		return;
	strbuf_adds(&b, "0\r\n");
	add_fields(&b, trailers);
	strbuf_adds(&b, "\r\n");
	conn_queue(h->c, b.data, b.len);
}
