/* Answers in the API's form. */
#include "base/log.h"
#include "base/mem.h"
#include "server/api/api_priv.h"
#include "server/api/routes.h"
#include <stdarg.h>
#include <string.h>

static const struct {
	const char *name;
	int status;
} codes[] = {
#define API_CODE(name, status) {#name, status},
#include "server/api/codes.tbl"
#undef API_CODE
};

static bool is_below(const char *clean, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(clean, prefix, n) == 0 && (clean[n] == '\0' || clean[n] == '/');
}

/* Errors have the form of the API that the path belongs to: clients of the fleet API switch on the title, clients of
 * the older agents API read a text. */
enum error_form { ERROR_OBJECT, ERROR_TITLE, ERROR_TEXT };

static enum error_form error_form_of(const char *path)
{
	static const char *const texts[] = {"/v0/agents", "/v0/me", "/v0/models", "/v0/repositories"};
	AUTO_STR clean = route_clean_path(path);

	if (is_below(clean, "/v0/private-workers"))
		return ERROR_TITLE;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (is_below(clean, texts[i]))
			return ERROR_TEXT;
	return ERROR_OBJECT;
}

static const char *title_of(enum api_code code)
{
	static const struct {
		enum api_code code;
		const char *title;
	} special[] = {{API_worker_in_use, "Worker in use"}, {API_no_turn_waiting, "No turn waiting"},
	    {API_worker_connected, "Worker connected"}, {API_too_many_streams, "Too many streams"},
	    {API_session_token_unavailable, "Session token unavailable"}};
	static const struct {
		int status;
		const char *title;
	} general[] = {{401, "Unauthorized"}, {403, "Forbidden"}, {404, "Not found"}, {405, "Method not allowed"},
	    {409, "Already claimed"}, {429, "Too many requests"}, {500, "Internal error"}, {503, "Unavailable"}};

	for (size_t i = 0; i < ARRAY_LEN(special); i++)
		if (special[i].code == code)
			return special[i].title;
	for (size_t i = 0; i < ARRAY_LEN(general); i++)
		if (general[i].status == codes[code].status)
			return general[i].title;
	return "Invalid request";
}

json_t *api_error_body(const struct api_request *rq, enum api_code code, const char *message)
{
	enum error_form form = error_form_of(http_path(rq->x));
	json_t *body = json_object(), *error = form == ERROR_OBJECT ? json_object() : body;

	if (form == ERROR_TITLE) {
		AUTO_STR line = str_printf("%s: %s", title_of(code), message);

		json_put(body, "error", line);
		return body;
	}
	if (form == ERROR_TEXT)
		json_put(body, "error", message);
	json_put(error, "code", codes[code].name);
	json_put(error, "message", message);
	if (form == ERROR_OBJECT)
		json_put_new(body, "error", error);
	return body;
}

void api_reply_bytes(struct api_request *rq, int status, const char *content_type, const void *bytes, size_t len,
    const struct http_header *extra, size_t n_extra)
{
	struct http_header h[10];
	size_t n = 0;

	ENSURE(!rq->answered && n_extra <= 6);
	rq->answered = true;
	if (content_type != NULL)
		h[n++] = (struct http_header){"content-type", content_type};
	h[n++] = (struct http_header){"cache-control", rq->cacheable ? "no-cache" : "no-store"};
	h[n++] = (struct http_header){"x-request-id", rq->request_id};
	if (rq->replayed)
		h[n++] = (struct http_header){"idempotent-replayed", "true"};
	for (size_t i = 0; i < n_extra; i++)
		h[n++] = extra[i];
	IGNORE(http_reply(rq->x, status, h, n, bytes, len));
}

static void send_json(
    struct api_request *rq, int status, const json_t *body, const struct http_header *extra, size_t n_extra)
{
	AUTO_STR text = json_text(body);

	api_reply_bytes(rq, status, "application/json; charset=utf-8", text, strlen(text), extra, n_extra);
}

void api_reply(struct api_request *rq, int status, json_t *body)
{
	AUTO_JSON owned = body;

	send_json(rq, status, owned, NULL, 0);
}

void api_error(struct api_request *rq, enum api_code code, const char *fmt, ...)
{
	struct why why;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why.text, sizeof why.text, fmt, ap);
	va_end(ap);
	AUTO_JSON body = api_error_body(rq, code, why.text);
	/* To Basic a browser answers with a dialogue of its own, while the page that asked waits. */
	bool browser = http_header_get(rq->x, "sec-fetch-mode") != NULL;
	const struct http_header auth = {"www-authenticate", browser ? "Bearer realm=\"api\"" : "Basic realm=\"api\""};

	send_json(rq, codes[code].status, body, &auth, code == API_unauthorized);
}

/* Not the client's fault. */
static void fail_request(struct api_request *rq, int rc)
{
	if (store_is_unavailable(rc)) {
		struct why gone;
		bool for_good = store_is_gone(rq->api->cfg.store, &gone);
		AUTO_JSON body = api_error_body(rq, API_service_unavailable,
		    for_good ? gone.text : "the store cannot be written now; nothing was changed, try again later");
		const struct http_header retry = {"retry-after", "5"};

		store_log_unavailable(rq->api->cfg.store, rc);
		send_json(rq, 503, body, &retry, 1);
		return;
	}
	log_error("request.failed", "req=%s method=%s path=%s error=%s", rq->request_id, http_method(rq->x),
	    log_quote(http_path(rq->x)), err_name(rc));
	api_error(rq, API_internal_error, "internal error; the request id is %s", rq->request_id);
}

int problem_set(struct problem *p, enum api_code code, const char *fmt, ...)
{
	struct why next; /* the arguments may be the text that is there */
	va_list ap;

	p->code = code;
	va_start(ap, fmt);
	vsnprintf(next.text, sizeof next.text, fmt, ap);
	va_end(ap);
	p->why = next;
	return ERR_INVALID;
}

/* What the official clients want to know besides: which provider, and where it says how it is connected. */
static void refuse_unconnected(struct api_request *rq, const struct problem *p)
{
	const char *base = atomic_load(&rq->api->web_base);
	AUTO_STR help = str_printf("%s/assets/forges.md", base != NULL ? base : "");
	AUTO_JSON body = api_error_body(rq, p->code, p->why.text);
	json_t *error = json_object_get(body, "error");

	/* The older API's errors have no more than a code and a message. */
	if (json_is_object(error)) {
		json_put(error, "provider", p->provider);
		json_put(error, "helpUrl", help);
	}
	send_json(rq, codes[p->code].status, body, NULL, 0);
}

void api_refuse(struct api_request *rq, int rc, const struct problem *p)
{
	if (rq->answered)
		return;
	/* Without a sentence nobody has understood the failure, so it is ours and not the client's. */
	if (rc == ERR_INVALID && p != NULL && p->code == API_integration_not_connected && p->provider[0] != '\0')
		refuse_unconnected(rq, p);
	else if (rc == ERR_INVALID && p != NULL && p->why.text[0] != '\0')
		api_error(rq, p->code, "%s", p->why.text);
	else
		fail_request(rq, rc);
}

void api_error_headers(
    struct api_request *rq, enum api_code code, const char *message, const struct http_header *h, size_t n)
{
	AUTO_JSON body = api_error_body(rq, code, message);

	send_json(rq, codes[code].status, body, h, n);
}
