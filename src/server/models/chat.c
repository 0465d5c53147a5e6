/* One request over HTTP: ask, read the answer as it comes, and ask again as long as that may help. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "net/sse.h"
#include "server/models/wire_priv.h"
#include <ctype.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define REQUEST_MAX ((size_t)128 * 1024 * 1024)
#define ERROR_BODY_MAX ((size_t)256 * 1024)
#define ANSWER_MS (60 * 60 * 1000) /* one answer, however alive it is */
#define TRIES_MS (15 * 60 * 1000) /* no new try after that */
#define BACKOFF_FIRST_MS 500
#define BACKOFF_MAX_MS 30000
#define SLICE_MS 100
#define LINGER_MS 1000 /* for a server that does not end its stream */

/* One try. */
struct
try {
	const struct remote *p;
	struct answer answer;
	struct sse sse;
	struct http_client_response response;
	enum { FORM_UNKNOWN, FORM_STREAM, FORM_WHOLE } form;
	struct strbuf whole; /* an answer that is no stream */
	int64_t ended_ms; /* when the answer said that it is over, 0: not yet */
};

static int chat_on_event(void *ctx, const char *id, const char *event, const char *data)
{
	struct try *t = ctx;

	if (t->answer.ended)
		return OK;
	return t->p->wire->on_event(&t->answer, data, strlen(data));
}

/* The first character of the body says what it is: servers are wrong about content types more often than about that.
 */
static void recognise(struct try *t, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len && t->form == FORM_UNKNOWN; i++)
		if (!isspace((unsigned char)bytes[i]))
			t->form = bytes[i] == '{' || bytes[i] == '<' || bytes[i] == '[' ? FORM_WHOLE : FORM_STREAM;
}

static int chat_on_data(void *ctx, const void *bytes, size_t len)
{
	struct try *t = ctx;
	int rc;

	recognise(t, bytes, len);
	if (t->form != FORM_STREAM) {
		if (strbuf_add(&t->whole, bytes, len) == OK)
			return OK;
		return answer_fail(&t->answer, FAILURE_FINAL, "answered with more than %zu bytes", t->whole.max);
	}
	rc = sse_feed(&t->sse, bytes, len);
	if (rc == ERR_TOO_LARGE && t->answer.sink_rc == OK)
		rc = answer_fail(&t->answer, FAILURE_FINAL, "sent an event of more than %d bytes", SSE_EVENT_MAX);
	if (t->answer.ended && t->ended_ms == 0)
		t->ended_ms = clock_mono_ms();
	return rc;
}

static bool chat_is_cancelled(void *ctx)
{
	struct try *t = ctx;

	if (t->ended_ms > 0 && clock_mono_ms() - t->ended_ms >= LINGER_MS)
		return true;
	return t->answer.sink->cancelled(t->answer.sink->ctx);
}

#define HEADERS_MAX 40

static size_t make_headers(const struct remote *p, char *key_value, struct http_header *headers)
{
	size_t n = 0;
	const char *name;
	json_t *v;

	headers[n++] = (struct http_header){"content-type", "application/json"};
	headers[n++] = (struct http_header){"accept", "text/event-stream, application/json"};
	headers[n++] = (struct http_header){"user-agent", "bullpen/" BULLPEN_VERSION};
	for (const struct http_header *h = p->wire->fixed_headers; h != NULL && h->name != NULL; h++)
		headers[n++] = *h;
	if (key_value != NULL)
		headers[n++] = (struct http_header){p->wire->key_header, key_value};
	json_object_foreach(p->headers, name, v)
	{
		if (n < HEADERS_MAX)
			headers[n++] = (struct http_header){name, json_string_value(v)};
	}
	return n;
}

static int send_request(struct try *t, const struct strbuf *body, struct why *why)
{
	const struct remote *p = t->p;
	AUTO_STR key = p->key != NULL ? str_printf("%s%s", p->wire->key_prefix, p->key) : NULL;
	AUTO_STR ca_setting = str_printf("ca_file of provider '%s'", p->name);
	struct http_header headers[HEADERS_MAX];
	const struct http_client_request req = {.method = "POST",
	    .url = p->url,
	    .pool = p->pool,
	    .ca_file = p->ca_file,
	    .ca_setting = ca_setting,
	    .headers = headers,
	    .n_headers = make_headers(p, key, headers),
	    .body = body->data,
	    .body_len = body->len,
	    .connect_timeout_ms = p->connect_timeout_ms,
	    .stall_timeout_ms = p->stall_timeout_ms,
	    .timeout_ms = ANSWER_MS,
	    .max_body = ERROR_BODY_MAX,
	    .on_data = chat_on_data,
	    .cancelled = chat_is_cancelled,
	    .ctx = t};

	return http_client_do(&req, &t->response, why);
}

/* The body is over: what came in one piece is read now, and a last event may lack its blank line. */
static int finish_body(struct try *t)
{
	AUTO_JSON body = NULL;

	if (t->form == FORM_STREAM)
		return t->answer.stopped || t->answer.ended ? OK : sse_feed(&t->sse, "\n\n", 2);
	if (t->form == FORM_WHOLE)
		body = answer_json(strbuf_str(&t->whole), t->whole.len);
	if (json_is_object(body))
		return t->p->wire->on_whole(&t->answer, body);
	if (t->whole.len == 0)
		return answer_fail(&t->answer, FAILURE_RETRY, "answered with nothing");
	return answer_fail(&t->answer, FAILURE_RETRY, "answered with %s (content type %.60s) instead of a message",
	    t->whole.data[0] == '<' ? "an HTML page" : "something",
	    t->response.content_type != NULL ? t->response.content_type : "not given");
}

static int fail_final_length(struct try *t)
{
	if (t->answer.out_of_context)
		return answer_fail(&t->answer, FAILURE_CONTEXT, "has no room left in its context window for an answer");
	return answer_fail(&t->answer, FAILURE_FINAL,
	    "spent its whole limit of output without an answer: raise max_output_tokens or lower the thinking");
}

/* After the transfer: is this a whole answer? */
static int chat_judge(struct try *t, int rc, const struct why *net)
{
	struct answer *a = &t->answer;
	int status = t->response.status;

	if (a->sink_rc != OK)
		return a->sink_rc;
	if (rc == OK && (status < 200 || status > 299)) {
		failure_of_status(t->p, status, t->response.retry_after, t->response.content_type,
		    strbuf_str(&t->response.body), t->response.body.len, &a->failure);
		return ERR_PROTOCOL;
	}
	if (rc == OK)
		rc = finish_body(t);
	if (a->sink_rc != OK)
		return a->sink_rc;
	/* A failure behind a whole answer takes nothing from it. */
	if (a->failure.kind != FAILURE_NONE && !a->stopped)
		return ERR_PROTOCOL;
	if (rc == ERR_CANCELLED && !a->ended)
		return rc;
	if (rc != OK && !a->stopped && !a->ended) {
		bool distrust = strcasestr(net->text, "certificate") != NULL;

		answer_fail(a, distrust ? FAILURE_FINAL : FAILURE_RETRY, "%s: %s",
		    a->n_parts > 0 ? "broke off its answer" : "gave no answer", net->text);
		return ERR_PROTOCOL;
	}
	if (!a->stopped && !(a->ended && !answer_is_empty(a)))
		return answer_fail(a, FAILURE_RETRY, "ended its answer in the middle");
	if (!answer_is_empty(a) || a->stop == MODEL_STOP_REFUSAL)
		return OK;
	if (a->stop == MODEL_STOP_LENGTH)
		return fail_final_length(t);
	return answer_fail(a, FAILURE_RETRY, "gave an empty answer");
}

static int run_try(struct try *t, const struct strbuf *body)
{
	struct why net = {0};
	int rc = send_request(t, body, &net);

	return chat_judge(t, rc, &net);
}

static void try_init(struct try *t, const struct remote *p, const struct model_sink *sink)
{
	*t = (struct try){.p = p, .whole = STRBUF(ANSWER_BYTES_MAX)};
	answer_init(&t->answer, sink);
	sse_init(&t->sse, chat_on_event, t);
}

static void try_fini(struct try *t)
{
	answer_fini(&t->answer);
	sse_fini(&t->sse);
	strbuf_fini(&t->whole);
	http_client_response_fini(&t->response);
}

/* Twice as long each time, and not all at the same moment. The server's own wish counts if it is longer. */
static int64_t wait_before(int tries, const struct failure *f)
{
	int64_t ms = BACKOFF_FIRST_MS;
	uint32_t r = 0;

	for (int i = 1; i < tries && ms < BACKOFF_MAX_MS; i++)
		ms *= 2;
	ms = MIN(ms, BACKOFF_MAX_MS);
	IGNORE(getrandom(&r, sizeof r, GRND_NONBLOCK));
	ms = ms / 2 + (int64_t)(r % (uint32_t)(ms / 2 + 1));
	return MAX(ms, f->wait_ms);
}

/* Nothing can wake this thread, so it looks. */
static int wait_for(int64_t ms, const struct model_sink *sink)
{
	int64_t until = clock_mono_ms() + ms, left;

	while ((left = until - clock_mono_ms()) > 0) {
		const struct timespec slice = {.tv_nsec = MIN(left, SLICE_MS) * 1000000};

		if (sink->cancelled(sink->ctx))
			return ERR_CANCELLED;
		nanosleep(&slice, NULL);
	}
	return OK;
}

/* Nobody else hears of it if the next try goes well. */
static void log_retry(const struct try *t, const struct model_request *req, int tries, int64_t wait_ms)
{
	AUTO_STR what = remote_clean(t->p, t->answer.failure.what, strlen(t->answer.failure.what), 200);

	log_warn("model.retry", "provider=%s model=%s tries=%d wait_ms=%lld reason=%s", t->p->name,
	    log_quote(req->model->id), tries, (long long)wait_ms, log_quote(what));
}

/* After a try that gave no answer: OK when it is time for the next, else what the request ends with. */
static int after_failure(
    const struct model_request *req, const struct try *t, int rc, int tries, int64_t began_ms, struct why *why)
{
	const struct failure *f = &t->answer.failure;
	const struct model_sink *sink = t->answer.sink;
	int64_t ms = wait_before(tries, f);

	if (f->kind == FAILURE_NONE) /* cancelled, or the sink wants no more */
		return why_set(why, rc, "%s", err_text(rc));
	if (f->kind != FAILURE_RETRY || tries > t->p->retries || clock_mono_ms() + ms - began_ms > TRIES_MS) {
		failure_explain(t->p, req, f, tries, clock_mono_ms() - began_ms, why);
		return f->kind == FAILURE_CONTEXT ? ERR_TOO_LARGE : ERR_PROTOCOL;
	}
	log_retry(t, req, tries, ms);
	rc = wait_for(ms, sink);
	if (rc == OK && t->answer.said)
		rc = sink->on_restart(sink->ctx);
	return rc;
}

static json_t *make_native(const struct remote *p, const struct answer *a)
{
	json_t *native = p->wire->native != NULL ? p->wire->native(a) : NULL;

	if (native != NULL)
		json_put(native, "provider", p->name);
	return native;
}

int remote_request(const struct provider *provider, const struct model_request *req, const struct model_sink *sink,
    struct model_result *ret, struct why *why)
{
	const struct remote *p = (const struct remote *)provider;
	struct strbuf body = STRBUF(REQUEST_MAX);
	int64_t began_ms = clock_mono_ms();
	bool answered = false;
	int rc = p->wire->write_request(p, req, &body);

	if (rc != OK)
		why_set(why, rc, "the conversation is larger than %zu bytes", REQUEST_MAX);
	for (int tries = 1; rc == OK && !answered; tries++) {
		struct try t;

		try_init(&t, p, sink);
		rc = run_try(&t, &body);
		answered = rc == OK;
		if (answered) {
			answer_take(&t.answer, ret);
			ret->native = make_native(p, &t.answer);
		} else {
			rc = after_failure(req, &t, rc, tries, began_ms, why);
		}
		try_fini(&t);
	}
	strbuf_fini(&body);
	return rc;
}
