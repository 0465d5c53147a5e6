/* One HTTP request of a connection: what is sent with it, and how its answer is read. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "mcp/headers.h"
#include "net/http_client.h"
#include "server/mcp/conn_priv.h"
#include <string.h>
#include <strings.h>

#define KEPT_OF_ERROR ((size_t)64 * 1024)

static int exchange_on_event(void *ctx, const char *id, const char *event, const char *data)
{
	struct exchange *x = ctx;
	int64_t deadline;

	if (id[0] != '\0' && strlen(id) <= 1024)
		str_set(&x->last_id, id);
	if (event[0] != '\0' && strcmp(event, "message") != 0)
		return x->on_other != NULL ? x->on_other(x, event, data) : OK;
	if (data[0] == '\0')
		return OK;
	/* What is no message is dropped there, and said in the log. */
	IGNORE(mcp_session_receive(x->conn->session, data, strlen(data), NULL));
	if (x->out == NULL || x->out->id == 0 || mcp_session_waits(x->conn->session, x->out->id, &deadline))
		return OK;
	x->answered = true;
	return ERR_CLOSED; /* the rest is of no use */
}

void exchange_init(struct exchange *x, struct conn *c, enum ask_kind kind, const struct mcp_out *out, const char *url)
{
	*x = (struct exchange){.conn = c, .kind = kind, .out = out, .url = url};
	x->answer.body = STRBUF(MCP_MESSAGE_MAX);
	x->transfer = (struct web_transfer){.rules = c->remotes->rules, .answer = &x->answer};
	sse_init(&x->sse, exchange_on_event, x);
	x->sse.line.max = x->sse.data.max = MCP_MESSAGE_MAX;
	x->sse.tells_ids = true;
}

void exchange_fini(struct exchange *x)
{
	web_answer_fini(&x->answer);
	sse_fini(&x->sse);
	str_free(&x->last_id);
}

/* The session that the answer to initialize opens. It is needed before the answer itself is handed on. */
static bool take_session_id(struct exchange *x)
{
	struct conn *c = x->conn;
	const char *id = x->answer.session_id;

	if (id == NULL || x->out == NULL || x->out->method == NULL || strcmp(x->out->method, "initialize") != 0)
		return true;
	for (const unsigned char *p = (const unsigned char *)id; *p != '\0'; p++)
		if (*p < 0x21 || *p > 0x7e)
			return false;
	if (id[0] == '\0' || strlen(id) > 1024)
		return false;
	pthread_mutex_lock(&c->lock);
	str_set(&c->session_id, id);
	pthread_mutex_unlock(&c->lock);
	return true;
}

static size_t exchange_on_body(char *bytes, size_t size, size_t n, void *ctx)
{
	struct exchange *x = ctx;
	size_t len = size * n;
	long status = 0;

	if (!x->begun) {
		CURL *e = x->transfer.easy;

		curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &status);
		x->begun = true;
		x->answer.status = (int)status;
		x->streams = status == 200 && web_is_type(&x->answer, "text/event-stream");
		if (!take_session_id(x))
			return 0;
		if (status / 100 != 2)
			x->answer.body.max = KEPT_OF_ERROR;
	}
	if (x->streams)
		return sse_feed(&x->sse, bytes, len) == OK ? len : 0;
	if (strbuf_add(&x->answer.body, bytes, len) == OK)
		return len;
	/* Of what says why there is no answer the beginning is enough. */
	return x->answer.status / 100 != 2 ? len : 0;
}

static int exchange_is_over(void *ctx, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	struct exchange *x = ctx;
	int64_t deadline;

	if (atomic_load(&x->conn->closing))
		return 1;
	if (x->deadline_ms != 0)
		return clock_mono_ms() >= x->deadline_ms;
	return x->out != NULL && x->out->id != 0 && !mcp_session_waits(x->conn->session, x->out->id, &deadline);
}

static CURL *take_handle(struct conn *c)
{
	CURL *e = NULL;

	pthread_mutex_lock(&c->lock);
	if (c->n_idle > 0)
		e = c->idle[--c->n_idle];
	pthread_mutex_unlock(&c->lock);
	if (e == NULL)
		e = curl_easy_init();
	ENSURE(e != NULL);
	return e;
}

/* Keeps its connection open for the next one. */
static void give_handle(struct conn *c, CURL *e)
{
	curl_easy_reset(e);
	pthread_mutex_lock(&c->lock);
	if (c->n_idle < IDLE_HANDLES && !atomic_load(&c->closing)) {
		c->idle[c->n_idle++] = e;
		e = NULL;
	}
	pthread_mutex_unlock(&c->lock);
	curl_easy_cleanup(e);
}

static void add_header(struct curl_slist **list, const char *name, const char *value)
{
	AUTO_STR line = NULL;

	if (value == NULL || value[0] == '\0')
		return;
	line = str_printf("%s: %s", name, value);
	*list = curl_slist_append(*list, line);
}

/* What the body says, for whoever is between us and a modern server. */
static void add_modern_headers(struct curl_slist **list, const struct mcp_out *out)
{
	AUTO_STR name = out->tool != NULL ? mcp_header_value(out->tool) : NULL;
	const char *header;
	json_t *value;

	add_header(list, "Mcp-Method", out->method);
	add_header(list, "Mcp-Name", name);
	json_object_foreach((json_t *)out->params_headers, header, value)
	{
		AUTO_STR empty = str_printf("%s;", header); /* how libcurl is told of one without a value */

		if (json_string_length(value) == 0)
			*list = curl_slist_append(*list, empty);
		else
			add_header(list, header, json_string_value(value));
	}
}

static void exchange_wipe_list(struct curl_slist *list)
{
	for (struct curl_slist *i = list; i != NULL; i = i->next)
		explicit_bzero(i->data, strlen(i->data));
	curl_slist_free_all(list);
}

static struct curl_slist *exchange_headers(struct exchange *x, const char *token)
{
	struct conn *c = x->conn;
	struct curl_slist *list = curl_slist_append(NULL, "Expect:");
	char *bearer = token != NULL ? str_printf("Bearer %s", token) : NULL;

	add_header(&list, "Content-Type", x->kind == ASK_MESSAGE ? "application/json" : NULL);
	add_header(
	    &list, "Accept", x->kind == ASK_MESSAGE ? "application/json, text/event-stream" : "text/event-stream");
	if (c->session != NULL && !c->legacy)
		add_header(&list, "MCP-Protocol-Version", mcp_session_version(c->session));
	if (c->session != NULL && !c->legacy && mcp_session_is_modern(c->session)) {
		add_modern_headers(&list, x->out);
	} else {
		pthread_mutex_lock(&c->lock);
		add_header(&list, "MCP-Session-Id", c->session_id);
		pthread_mutex_unlock(&c->lock);
	}
	add_header(&list, "Last-Event-ID", x->kind != ASK_MESSAGE ? x->last_id : NULL);
	add_header(&list, "Authorization", bearer);
	for (char **h = c->headers; *h != NULL; h++)
		if (token == NULL || strncasecmp(*h, "authorization:", 14) != 0)
			list = curl_slist_append(list, *h);
	str_wipe(&bearer);
	return list;
}

static void forget_answer(struct exchange *x)
{
	web_answer_fini(&x->answer);
	x->answer.body.max = MCP_MESSAGE_MAX;
	sse_reset(&x->sse);
	x->streams = x->begun = false;
}

static size_t read_body(char *to, size_t size, size_t n, void *ctx)
{
	struct exchange *x = ctx;
	size_t len = MIN(size * n, x->out->len - x->read);

	memcpy(to, x->out->text + x->read, len);
	x->read += len;
	return len;
}

/* libcurl sends a request a second time when a connection that was used before is cut before any answer: whether the
 * first one was performed is not known then. A call may happen once only, so its body is one that cannot be read again.
 */
static void put_body(struct exchange *x, CURL *e)
{
	if (x->out->tool == NULL) {
		curl_easy_setopt(e, CURLOPT_POSTFIELDS, x->out->text);
		return;
	}
	x->read = 0;
	curl_easy_setopt(e, CURLOPT_POST, 1L);
	curl_easy_setopt(e, CURLOPT_READFUNCTION, read_body);
	curl_easy_setopt(e, CURLOPT_READDATA, x);
}

/* One transfer to one URL. */
static int exchange_once(struct exchange *x, const char *url, const char *token, struct why *why)
{
	CURL *e = take_handle(x->conn);
	struct curl_slist *headers = exchange_headers(x, token);
	long status = 0, sent = 0;
	CURLcode code;

	forget_answer(x);
	x->transfer.easy = e;
	web_prepare(e, &x->transfer, url);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, headers);
	if (x->kind == ASK_MESSAGE) {
		curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)x->out->len);
		put_body(x, e);
	}
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, exchange_on_body);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, x);
	curl_easy_setopt(e, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(e, CURLOPT_XFERINFOFUNCTION, exchange_is_over);
	curl_easy_setopt(e, CURLOPT_XFERINFODATA, x);
	code = curl_easy_perform(e);
	curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(e, CURLINFO_REQUEST_SIZE, &sent);
	x->answer.status = (int)status;
	x->sent = x->sent || sent > 0;
	x->transfer.easy = NULL;
	give_handle(x->conn, e);
	exchange_wipe_list(headers);
	if (x->answered)
		return OK;
	if (code == CURLE_OK && !x->begun && !take_session_id(x))
		code = CURLE_WRITE_ERROR;
	if (code == CURLE_OK)
		return OK;
	if (code == CURLE_WRITE_ERROR &&
	    (x->sse.data.overflowed || x->sse.line.overflowed || x->answer.body.overflowed))
		return why_set(why, ERR_TOO_LARGE, "one of its messages is larger than %zu MiB", MCP_MESSAGE_MAX >> 20);
	if (code == CURLE_WRITE_ERROR && x->answer.session_id != NULL && !x->streams)
		return why_set(why, ERR_PROTOCOL, "it gave a session id with characters that are not allowed");
	return web_explain(&x->transfer, code, why);
}

static int exchange_hops(struct exchange *x, const char *token, struct why *why)
{
	AUTO_STR url = str_dup(x->url);

	for (int hops = 0;; hops++) {
		AUTO_STR next = NULL;
		int rc = web_check_url(x->conn->remotes->rules, url, why);

		if (rc == OK)
			rc = exchange_once(x, url, token, why);
		if (rc == OK)
			rc = web_redirect(x->conn->remotes->rules, url, x->kind == ASK_MESSAGE ? "POST" : "GET",
			    &x->answer, &next, why);
		if (rc != OK || next == NULL)
			return rc;
		if (hops == WEB_REDIRECTS_MAX)
			return why_set(why, ERR_DENIED, "it redirects more than %d times", WEB_REDIRECTS_MAX);
		str_set(&url, next);
	}
}

/* ERR_EMPTY and ERR_UNAUTHORIZED: there is no token, which is fine until the server asks for one. */
static int exchange_token(struct exchange *x, int64_t rejected, char **ret, struct why *why)
{
	struct conn *c = x->conn;

	if (!c->authorizes || c->owner.user_id == 0)
		return ERR_EMPTY;
	return grant_token(c->remotes, &c->owner, c->canonical, rejected, ret, &x->token_version, why);
}

int exchange_do(struct exchange *x, struct why *why)
{
	char *token = NULL;
	int rc = exchange_token(x, 0, &token, why), again;

	http_client_init();
	if (rc == OK || rc == ERR_EMPTY || rc == ERR_UNAUTHORIZED)
		rc = exchange_hops(x, token, why);
	if (rc == OK && !x->answered && x->answer.status == 401 && token != NULL) {
		str_wipe(&token);
		again = exchange_token(x, x->token_version, &token, why);
		if (again == OK)
			rc = exchange_hops(x, token, why);
		else if (again != ERR_EMPTY && again != ERR_UNAUTHORIZED)
			rc = again;
	}
	str_wipe(&token);
	return rc;
}
