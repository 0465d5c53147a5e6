/* The request side of an exchange: built by a protocol, then constant. */
#include "base/json.h"
#include "base/clock.h"
#include "base/mem.h"
#include "net/http_priv.h"
#include <string.h>
#include <strings.h>

struct http_exchange *exchange_new(struct conn *c, int version)
{
	struct http_exchange *x = NEW(struct http_exchange);

	x->magic = EXCHANGE_MAGIC;
	atomic_init(&x->refs, 1);
	x->inbox = inbox_ref(c->loop->inbox);
	x->conn = c;
	x->version = version;
	x->text = STRBUF(2 * c->loop->limits->max_head_bytes + 4096);
	memcpy(x->peer, c->peer, sizeof(x->peer));
	node_init(&x->finishing);
	node_init(&x->unsent_node);
	return x;
}

int exchange_add_header(struct http_exchange *x, const char *name, size_t name_len, const char *value, size_t value_len)
{
	const struct server_limits *lim = x->conn->loop->limits;
	size_t at = x->text.len;

	x->head_bytes += name_len + value_len + 4;
	if (x->head_bytes > lim->max_head_bytes)
		return ERR_TOO_LARGE;
	if (x->n_headers >= lim->max_headers)
		return ERR_FULL;
	x->offsets = mem_grow(x->offsets, &x->cap_offsets, 2 * (x->n_headers + 1), sizeof(size_t));
	x->offsets[2 * x->n_headers] = at;
	x->offsets[2 * x->n_headers + 1] = at + name_len + 1;
	x->n_headers++;
	strbuf_add(&x->text, name, name_len);
	strbuf_add(&x->text, "", 1);
	strbuf_add(&x->text, value, value_len);
	strbuf_add(&x->text, "", 1);
	if (x->text.overflowed)
		return ERR_TOO_LARGE;
	for (char *p = x->text.data + at; p < x->text.data + at + name_len; p++)
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p - 'A' + 'a');
	return OK;
}

/* "http://host/path?q" is what a client sends that takes us for a proxy; RFC 9112 section 3.2.2 wants it served. */
static int skip_authority(const char **target, size_t *len)
{
	const char *end = *target + *len, *p = *target;

	if (*len >= 7 && strncasecmp(p, "http://", 7) == 0)
		p += 7;
	else if (*len >= 8 && strncasecmp(p, "https://", 8) == 0)
		p += 8;
	else
		return ERR_INVALID;
	while (p < end && *p != '/' && *p != '?')
		p++;
	*target = p;
	*len = (size_t)(end - p);
	return OK;
}

int exchange_seal(struct http_exchange *x, const char *method, const char *target, size_t len)
{
	const char *query;

	x->method = str_dup(method);
	x->is_head = strcmp(method, "HEAD") == 0;
	x->headers = mem_alloc((x->n_headers + 1) * sizeof(x->headers[0]));
	for (size_t i = 0; i < x->n_headers; i++) {
		x->headers[i].name = x->text.data + x->offsets[2 * i];
		x->headers[i].value = x->text.data + x->offsets[2 * i + 1];
	}
	free(TAKE(x->offsets));
	if (memchr(target, '\0', len) != NULL || memchr(target, '#', len) != NULL)
		return ERR_INVALID;
	if (len == 1 && target[0] == '*' && strcmp(method, "OPTIONS") == 0) {
		x->path = str_dup("*");
		x->query = str_dup("");
		return OK;
	}
	if ((len == 0 || target[0] != '/') && skip_authority(&target, &len) != OK)
		return ERR_INVALID;
	query = memchr(target, '?', len);
	x->path = str_ndup(target, query != NULL ? (size_t)(query - target) : len);
	x->query = query != NULL ? str_ndup(query + 1, len - (size_t)(query - target) - 1) : str_dup("");
	if (x->path[0] == '\0')
		str_set(&x->path, "/");
	return OK;
}

atomic_size_t exchange_buffered;

void exchange_discard(struct http_exchange *x)
{
	x->discard = true;
	atomic_store(&x->paused, false);
	/* The handler that answered may still look at a body that is whole. */
	if (x->request_done)
		return;
	atomic_fetch_sub(&exchange_buffered, x->body.len * x->plan.weight);
	strbuf_fini(&x->body);
}

static void too_large(struct http_exchange *x)
{
	const struct http_callbacks *cb = &x->conn->loop->limits->callbacks;

	exchange_discard(x);
	cb->on_too_large(cb->ctx, x);
}

static void check_over(struct http_exchange *x, uint64_t len)
{
	const struct http_callbacks *cb = &x->conn->loop->limits->callbacks;

	if (x->checked || x->plan.check_over == 0 || len <= x->plan.check_over)
		return;
	x->checked = true;
	atomic_store(&x->paused, true);
	cb->on_check(cb->ctx, x);
}

void exchange_head(struct http_exchange *x, int64_t announced)
{
	const struct http_callbacks *cb = &x->conn->loop->limits->callbacks;

	x->body_since_ms = clock_mono_ms();
	x->plan = (struct http_plan){.mode = HTTP_BODY_WHOLE, .max_body = (size_t)1024 * 1024, .weight = 1};
	cb->on_head(cb->ctx, x, &x->plan);
	if (x->plan.mode == HTTP_BODY_STREAM) {
		cb->on_request(cb->ctx, x);
		return;
	}
	x->body.max = x->plan.max_body;
	if (announced >= 0 && (uint64_t)announced > x->plan.max_body)
		too_large(x);
	else if (announced >= 0)
		check_over(x, (uint64_t)announced);
}

static void keep(struct http_exchange *x, const char *bytes, size_t len)
{
	const struct server_limits *lim = x->conn->loop->limits;

	if (atomic_load(&exchange_buffered) + len * x->plan.weight > lim->max_buffered) {
		x->no_room = true;
		too_large(x);
	} else if (strbuf_add(&x->body, bytes, len) != OK) {
		too_large(x);
	} else {
		atomic_fetch_add(&exchange_buffered, len * x->plan.weight);
		check_over(x, x->body.len);
	}
}

int64_t exchange_body_deadline(const struct http_exchange *x, int64_t last_ms)
{
	int64_t timeout = x->conn->loop->limits->body_timeout_ms, slowest;

	/* Not while it is we who do not read. */
	if (x->request_done || x->plan.mode != HTTP_BODY_WHOLE || atomic_load(&x->paused))
		return INT64_MAX;
	slowest = x->body_since_ms + timeout + (int64_t)(x->body_bytes * 1000 / BODY_RATE_MIN);
	return MIN(last_ms + timeout, slowest);
}

void exchange_data(struct http_exchange *x, const char *bytes, size_t len)
{
	x->body_bytes += len;
	if (x->discard || x->over)
		return;
	if (x->plan.mode == HTTP_BODY_WHOLE) {
		keep(x, bytes, len);
		return;
	}
	if (x->watch.on_data != NULL)
		x->watch.on_data(x->watch.ctx, x, bytes, len);
}

void exchange_request_done(struct http_exchange *x)
{
	const struct http_callbacks *cb = &x->conn->loop->limits->callbacks;

	if (x->request_done)
		return;
	x->request_done = true;
	if (x->discard || x->over)
		return;
	if (x->plan.mode == HTTP_BODY_WHOLE)
		cb->on_request(cb->ctx, x);
	else if (x->watch.on_end != NULL)
		x->watch.on_end(x->watch.ctx, x);
}

const char *http_method(const struct http_exchange *x)
{
	OBJ_CHECK(x, EXCHANGE_MAGIC);
	return x->method;
}

const char *http_path(const struct http_exchange *x)
{
	OBJ_CHECK(x, EXCHANGE_MAGIC);
	return x->path;
}

const char *http_query(const struct http_exchange *x)
{
	OBJ_CHECK(x, EXCHANGE_MAGIC);
	return x->query;
}

const char *http_header_get(const struct http_exchange *x, const char *name)
{
	OBJ_CHECK(x, EXCHANGE_MAGIC);
	for (size_t i = 0; i < x->n_headers; i++)
		if (strcmp(x->headers[i].name, name) == 0)
			return x->headers[i].value;
	return NULL;
}

unsigned http_header_count(const struct http_exchange *x, const char *name)
{
	unsigned n = 0;

	OBJ_CHECK(x, EXCHANGE_MAGIC);
	for (size_t i = 0; i < x->n_headers; i++)
		n += strcmp(x->headers[i].name, name) == 0;
	return n;
}

const char *http_body(const struct http_exchange *x, size_t *ret_len)
{
	OBJ_CHECK(x, EXCHANGE_MAGIC);
	if (ret_len != NULL)
		*ret_len = x->body.len;
	return strbuf_str(&x->body);
}

bool http_no_room(const struct http_exchange *x)
{
	OBJ_CHECK(x, EXCHANGE_MAGIC);
	return x->no_room;
}

const char *http_peer(const struct http_exchange *x)
{
	OBJ_CHECK(x, EXCHANGE_MAGIC);
	return x->peer;
}

int http_version(const struct http_exchange *x)
{
	OBJ_CHECK(x, EXCHANGE_MAGIC);
	return x->version;
}

char *error_body(const char *code, const char *message)
{
	AUTO_JSON j = json_object();
	json_t *error = json_object();

	json_put(error, "code", code);
	json_put(error, "message", message);
	json_put_new(j, "error", error);
	return json_text(j);
}
