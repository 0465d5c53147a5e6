/* The functions for any thread. They change nothing but atomics: what they want travels to the loop as a command,
 * and exchange_command or the protocol carries it out there. */
#include "base/mem.h"
#include "base/text.h"
#include "net/http_priv.h"
#include <string.h>

struct cmd *cmd_new(enum cmd_kind kind, struct http_exchange *x, const void *bytes, size_t len)
{
	struct cmd *c = mem_alloc(sizeof(*c) + len);

	*c = (struct cmd){.kind = kind, .x = x != NULL ? http_exchange_ref(x) : NULL, .len = len};
	if (len > 0)
		memcpy(c->bytes, bytes, len);
	return c;
}

void cmd_free(struct cmd **c)
{
	if (*c == NULL)
		return;
	free((*c)->fields);
	http_exchange_free(&(*c)->x);
	free(TAKE(*c));
}

/* A line break in a value would let outside text add headers of its own. */
static char clean_byte(char ch, bool is_name)
{
	if (is_name && ch >= 'A' && ch <= 'Z')
		return (char)(ch - 'A' + 'a');
	return ch == '\r' || ch == '\n' ? ' ' : ch;
}

struct fields *fields_copy(const struct http_header *headers, size_t n)
{
	size_t text = 0;
	struct fields *f;
	char *p;

	for (size_t i = 0; i < n; i++)
		text += strlen(headers[i].name) + strlen(headers[i].value) + 2;
	f = mem_alloc(sizeof(*f) + n * sizeof(f->list[0]) + text);
	f->n = n;
	p = (char *)&f->list[n];
	for (size_t i = 0; i < n; i++) {
		f->list[i].name = p;
		for (const char *s = headers[i].name; *s != '\0'; s++)
			*p++ = clean_byte(*s, true);
		*p++ = '\0';
		f->list[i].value = p;
		for (const char *s = headers[i].value; *s != '\0'; s++)
			*p++ = clean_byte(*s, false);
		*p++ = '\0';
	}
	return f;
}

struct http_exchange *http_exchange_ref(struct http_exchange *x)
{
	OBJ_CHECK(x, EXCHANGE_MAGIC);
	atomic_fetch_add(&x->refs, 1);
	return x;
}

void http_exchange_free(struct http_exchange **xp)
{
	struct http_exchange *x = TAKE(*xp);

	if (x == NULL)
		return;
	OBJ_CHECK(x, EXCHANGE_MAGIC);
	if (atomic_fetch_sub(&x->refs, 1) > 1)
		return;
	x->magic = 0;
	strbuf_fini(&x->text);
	atomic_fetch_sub(&exchange_buffered, x->body.len * x->plan.weight);
	strbuf_fini(&x->body);
	free(x->offsets);
	free(x->headers);
	free(x->method);
	free(x->path);
	free(x->query);
	inbox_free(&x->inbox);
	if (x->on_free != NULL)
		x->on_free(x->on_free_ctx);
	free(x);
}

void http_on_free(struct http_exchange *x, void (*fn)(void *ctx), void *ctx)
{
	OBJ_CHECK(x, EXCHANGE_MAGIC);
	ENSURE(x->on_free == NULL);
	x->on_free_ctx = ctx;
	x->on_free = fn;
}

static bool on_loop(const struct http_exchange *x)
{
	return pthread_equal(x->inbox->thread, pthread_self()) != 0;
}

/* Moves the phase of the response on; ERR_CLOSED if it is not where the call expects it. */
static int advance(struct http_exchange *x, int from, int to)
{
	OBJ_CHECK(x, EXCHANGE_MAGIC);
	if (atomic_load(&x->closed))
		return ERR_CLOSED;
	if (from == to)
		return atomic_load(&x->phase) == from ? OK : ERR_CLOSED;
	return atomic_compare_exchange_strong(&x->phase, &from, to) ? OK : ERR_CLOSED;
}

/* `above` is set before the command is posted: these bytes are released later, so on_drain cannot be missed. */
static int put_bytes(struct cmd *c)
{
	struct http_exchange *x = c->x;
	size_t len = c->len;

	if (atomic_fetch_add(&x->unsent, len) + len >= DRAIN_MARK)
		atomic_store(&x->above, true);
	return inbox_put(x->inbox, c);
}

int http_reply(struct http_exchange *x, int status, const struct http_header *headers, size_t n_headers,
    const void *body, size_t len)
{
	struct cmd *c;
	int rc = advance(x, PHASE_NONE, PHASE_ENDED);

	if (rc != OK)
		return rc;
	c = cmd_new(CMD_REPLY, x, body, len);
	c->status = status;
	c->fields = fields_copy(headers, n_headers);
	rc = put_bytes(c);
	http_wake(x);
	return rc;
}

int http_reply_error(struct http_exchange *x, int status, const struct http_header *headers, size_t n_headers,
    const char *code, const char *message)
{
	AUTO_STR body = error_body(code, message);

	return http_reply(x, status, headers, n_headers, body, strlen(body));
}

/* What the headers announce as the length of the body; -1: nothing. */
static int64_t announced_length(const struct http_header *headers, size_t n)
{
	int64_t len = -1;

	for (size_t i = 0; i < n; i++)
		if (strcmp(headers[i].name, "content-length") == 0)
			ENSURE(text_parse_int(headers[i].value, 0, INT64_MAX, &len) == OK);
	return len;
}

int http_start(struct http_exchange *x, int status, const struct http_header *headers, size_t n_headers)
{
	struct cmd *c;
	int rc = advance(x, PHASE_NONE, PHASE_STARTED);

	if (rc != OK)
		return rc;
	c = cmd_new(CMD_START, x, NULL, 0);
	c->body_len = announced_length(headers, n_headers);
	c->status = status;
	c->fields = fields_copy(headers, n_headers);
	return inbox_post(x->inbox, c);
}

int http_put(struct http_exchange *x, const void *bytes, size_t len)
{
	int rc = advance(x, PHASE_STARTED, PHASE_STARTED);

	if (rc != OK || len == 0)
		return rc;
	return put_bytes(cmd_new(CMD_WRITE, x, bytes, len));
}

void http_wake(struct http_exchange *x)
{
	OBJ_CHECK(x, EXCHANGE_MAGIC);
	inbox_wake(x->inbox);
}

bool http_same_loop(const struct http_exchange *a, const struct http_exchange *b)
{
	OBJ_CHECK(a, EXCHANGE_MAGIC);
	OBJ_CHECK(b, EXCHANGE_MAGIC);
	return a->inbox == b->inbox;
}

int http_write(struct http_exchange *x, const void *bytes, size_t len)
{
	int rc = http_put(x, bytes, len);

	if (rc == OK && len > 0)
		http_wake(x);
	return rc;
}

int http_end(struct http_exchange *x, const struct http_header *trailers, size_t n_trailers)
{
	struct cmd *c;
	int rc = advance(x, PHASE_STARTED, PHASE_ENDED);

	if (rc != OK)
		return rc;
	c = cmd_new(CMD_END, x, NULL, 0);
	c->fields = fields_copy(trailers, n_trailers);
	return inbox_post(x->inbox, c);
}

void http_abort(struct http_exchange *x)
{
	OBJ_CHECK(x, EXCHANGE_MAGIC);
	atomic_store(&x->phase, PHASE_ENDED);
	IGNORE(inbox_post(x->inbox, cmd_new(CMD_ABORT, x, NULL, 0)));
}

size_t http_unsent(const struct http_exchange *x)
{
	OBJ_CHECK(x, EXCHANGE_MAGIC);
	return atomic_load(&x->unsent);
}

void http_pause(struct http_exchange *x, bool paused)
{
	OBJ_CHECK(x, EXCHANGE_MAGIC);
	if (atomic_exchange(&x->paused, paused) && !paused)
		IGNORE(inbox_post(x->inbox, cmd_new(CMD_RESUME, x, NULL, 0)));
}

void http_watch(struct http_exchange *x, const struct http_watch *w)
{
	struct cmd *c;

	OBJ_CHECK(x, EXCHANGE_MAGIC);
	if (on_loop(x) && !x->over) {
		x->watch = *w;
		x->watched = true;
		return;
	}
	c = cmd_new(CMD_WATCH, x, NULL, 0);
	c->watch = *w;
	/* With the loop gone there is no loop thread left to call it on, and none to race with. */
	if (inbox_post(x->inbox, c) != OK && w->on_close != NULL)
		w->on_close(w->ctx, x);
}

/* A command of an exchange that is over has no connection to go to. */
static void command_after_end(struct cmd *cmd)
{
	if (cmd->kind == CMD_WATCH && cmd->watch.on_close != NULL)
		cmd->watch.on_close(cmd->watch.ctx, cmd->x);
	exchange_release(cmd->x, cmd->len);
}

void exchange_command(struct cmd *cmd)
{
	struct http_exchange *x = cmd->x;

	if (x->over) {
		command_after_end(cmd);
		return;
	}
	if (cmd->kind == CMD_WATCH) {
		x->watch = cmd->watch;
		x->watched = true;
	}
	x->conn->proto->command(x->conn, x, cmd);
}

void exchange_queued(struct http_exchange *x, size_t len)
{
	if (len == 0)
		return;
	if (x->in_conn == 0)
		node_append(&x->conn->unsent, &x->unsent_node);
	x->in_conn += len;
}

void exchange_release(struct http_exchange *x, size_t len)
{
	size_t before;

	if (len == 0)
		return;
	before = atomic_fetch_sub(&x->unsent, len);
	ENSURE(before >= len);
	if (before - len >= DRAIN_MARK || !atomic_exchange(&x->above, false))
		return;
	if (!x->over && x->watch.on_drain != NULL)
		x->watch.on_drain(x->watch.ctx, x);
}

void exchange_over(struct http_exchange *x)
{
	struct http_watch w = x->watch;
	size_t left = x->in_conn;

	if (x->over)
		return;
	x->over = true;
	atomic_store(&x->closed, true);
	node_unlink(&x->unsent_node);
	node_unlink(&x->finishing);
	x->in_conn = 0;
	x->conn = NULL;
	x->watch = (struct http_watch){0};
	exchange_release(x, left);
	if (w.on_close != NULL)
		w.on_close(w.ctx, x);
	http_exchange_free(&x);
}
