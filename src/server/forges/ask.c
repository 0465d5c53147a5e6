/* One request to a forge, and what its answer means. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/seal.h"
#include "base/text.h"
#include "server/forges/forges_priv.h"
#include <stdarg.h>
#include <string.h>

#define WORDS_MAX 300
#define CURSOR_MAX 200

METRIC_COUNTER(requests, "bullpen_forge_requests_total", "Requests to forges, by forge and result.", "forge", "result");

void forge_answer_fini(struct forge_answer *a)
{
	json_drop(&a->json);
	str_free(&a->scopes);
	str_free(&a->cursor);
}

char *forge_quote(const char *text)
{
	struct strbuf b = STRBUF(8192);

	for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++)
		if ((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
		    strchr("-._~", *c) != NULL)
			strbuf_addc(&b, (char)*c);
		else
			strbuf_addf(&b, "%%%02X", *c);
	return strbuf_take(&b);
}

char *forge_text(const json_t *o, const char *key, size_t max)
{
	const json_t *v = json_object_get(o, key);
	const char *s = json_string_value(v);

	if (s == NULL)
		return str_dup("");
	return str_ndup(s, text_utf8_cut(s, strlen(s), max));
}

const json_t *forge_object(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	return json_is_object(v) ? v : NULL;
}

int64_t forge_number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

/* "message", "error", and the texts of "errors", as forges answer a refusal. */
static void collect_words(const json_t *j, struct strbuf *b)
{
	static const char *const keys[] = {"message", "error", "error_description"};
	const json_t *errors = json_object_get(j, "errors"), *e;
	const char *field;
	json_t *v;
	size_t i;

	for (size_t k = 0; k < ARRAY_LEN(keys); k++) {
		const json_t *w = json_object_get(j, keys[k]);

		if (json_is_string(w))
			IGNORE(strbuf_addf(b, "%s%s", b->len > 0 ? ": " : "", json_string_value(w)));
		json_array_foreach((json_t *)w, i, e) if (json_is_string(e))
		    IGNORE(strbuf_addf(b, "%s%s", b->len > 0 ? ": " : "", json_string_value(e)));
		json_object_foreach((json_t *)w, field, v) if (json_is_string(json_array_get(v, 0))) IGNORE(
		    strbuf_addf(b, "%s%s %s", b->len > 0 ? ": " : "", field, json_string_value(json_array_get(v, 0))));
	}
	json_array_foreach((json_t *)errors, i, e)
	{
		const char *text =
		    json_is_string(e) ? json_string_value(e) : json_string_value(json_object_get(e, "message"));
		const char *of = json_string_value(json_object_get(e, "field"));

		if (text != NULL)
			IGNORE(strbuf_addf(b, ": %s", text));
		else if (of != NULL)
			IGNORE(strbuf_addf(b, ": %s %s", of, json_word(e, "code")));
	}
}

bool forge_said(const struct forge_answer *a, const char *text)
{
	struct strbuf b = STRBUF(4096);
	bool said;

	collect_words(a->json, &b);
	said = strcasestr(strbuf_str(&b), text) != NULL;
	strbuf_fini(&b);
	return said;
}

static bool is_rate_limit(const struct forge_answer *a, const struct http_client_response *r)
{
	return a->status == 429 || (a->status == 403 && (r->retry_after != NULL || forge_said(a, "rate limit")));
}

static int judge_answer(struct forge_call *c, const struct forge_answer *a, const struct http_client_response *r)
{
	struct strbuf words = STRBUF(WORDS_MAX * 4);
	AUTO_STR line = NULL;
	int code;

	if (a->status >= 200 && a->status < 300)
		return OK;
	collect_words(a->json, &words);
	line = text_line(strbuf_str(&words), WORDS_MAX);
	strbuf_fini(&words);
	if (is_rate_limit(a, r)) {
		c->retry_ms = forge_limits_wait_of(r);
		return why_set(&c->why, ERR_FULL, "%s limits its requests and is asked again in %lld s%s%s",
		    forge_host(c->forge), (long long)(c->retry_ms / 1000), line[0] != '\0' ? ": " : "", line);
	}
	code = a->status == 401			      ? ERR_UNAUTHORIZED
	       : a->status == 403		      ? ERR_DENIED
	       : a->status == 404 || a->status == 410 ? ERR_NOT_FOUND
	       : a->status == 409		      ? ERR_CONFLICT
	       : a->status / 100 == 5		      ? ERR_NET
						      : ERR_INVALID;
	return why_set(
	    &c->why, code, "%s answered %d%s%s", forge_host(c->forge), a->status, line[0] != '\0' ? ": " : "", line);
}

static bool is_stopped(void *ctx)
{
	const struct forge_call *c = ctx;

	return c->stopped != NULL && c->stopped(c->ctx);
}

/* Of `<https://…?per_page=100&cursor=v1_7>; rel="next"`: what stands in it is not followed but put into the next path.
 */
char *forge_next_cursor(const char *link)
{
	for (const char *at = link; at != NULL && (at = strchr(at, '<')) != NULL;) {
		const char *end = strchr(at, '>'), *cursor = strstr(at, "cursor=");

		if (end == NULL)
			return NULL;
		if (strncmp(end, ">; rel=\"next\"", 13) == 0 && cursor != NULL && cursor < end &&
		    strchr("?&", cursor[-1]) != NULL) {
			AUTO_STR value = str_ndup(cursor + 7, strcspn(cursor + 7, "&>"));

			return text_is_token(value, "-_.%=", CURSOR_MAX) ? TAKE(value) : NULL;
		}
		at = end;
	}
	return NULL;
}

/* The answer as it was kept, if it still holds. */
static int take_answer(
    struct forge_call *c, const char *path, const char *etag, struct http_client_response *r, struct forge_answer *ret)
{
	struct forge_limits *limits = c->forge->limits;
	AUTO_STR body = NULL;
	int rc;

	ret->status = r->status;
	ret->clock_skew_ms = http_client_clock_skew_ms(r);
	ret->scopes = TAKE(r->oauth_scopes);
	if (etag != NULL && r->status == 304) {
		if (!forge_kept_take(limits, path, etag, &body, &ret->cursor))
			return why_set(
			    &c->why, ERR_NET, "what %s said before was forgotten meanwhile", forge_host(c->forge));
		ret->status = 200;
		IGNORE(json_parse(body, strlen(body), &ret->json, NULL));
	} else {
		ret->cursor = r->link != NULL ? forge_next_cursor(r->link) : NULL;
		IGNORE(json_parse(strbuf_str(&r->body), r->body.len, &ret->json, NULL));
	}
	rc = judge_answer(c, ret, r);
	forge_limits_heed(limits, c, r, rc == ERR_FULL);
	return rc;
}

int forge_ask_as(struct forge_call *c, const char *authorization, const char *method, const char *path,
    const json_t *body, struct forge_answer *ret)
{
	const struct forge *f = c->forge;
	AUTO_STR url = str_printf("%s%s", f->api_url, path);
	AUTO_STR text = body != NULL ? json_text(body) : NULL;
	bool reads = strcmp(method, "GET") == 0;
	AUTO_STR etag = reads ? forge_kept_etag(f->limits, path) : NULL;
	const char *auth_name = "authorization";
	struct http_header headers[7] = {{"user-agent", "bullpen"},
	    {"accept", f->kind == FORGE_GITHUB ? "application/vnd.github+json" : "application/json"}};
	struct http_client_response resp = {0};
	size_t n = 2;
	int rc;

	if (c->deadline_mono_ms <= clock_mono_ms())
		return why_set(&c->why, ERR_TIMEOUT, "there was no time left to ask %s", f->host);
	rc = forge_limits_wait(f->limits, c, !reads);
	if (rc != OK)
		return rc;
	if (f->kind == FORGE_GITLAB)
		auth_name = "private-token";
	if (authorization[0] != '\0')
		headers[n++] = (struct http_header){auth_name, authorization};
	if (f->kind == FORGE_GITHUB)
		headers[n++] = (struct http_header){"x-github-api-version", "2022-11-28"};
	if (text != NULL)
		headers[n++] = (struct http_header){"content-type", "application/json"};
	if (etag != NULL)
		headers[n++] = (struct http_header){"if-none-match", etag};
	const struct http_client_request req = {.method = method,
	    .url = url,
	    .pool = f->pool,
	    .ca_file = f->ca_file,
	    .ca_setting = "forges.ca_file",
	    .headers = headers,
	    .n_headers = n,
	    .body = text,
	    .body_len = text != NULL ? strlen(text) : 0,
	    .timeout_ms = MAX(c->deadline_mono_ms - clock_mono_ms(), (int64_t)1),
	    .max_body = FORGE_BODY_MAX,
	    .cancelled = is_stopped,
	    .ctx = c};

	*ret = (struct forge_answer){.clock_skew_ms = INT64_MAX};
	rc = http_client_do(&req, &resp, &c->why);
	if (rc == OK)
		rc = take_answer(c, path, etag, &resp, ret);
	if (rc == OK && reads && resp.status == 200)
		forge_kept_put(f->limits, path, &resp, ret->cursor);
	metric_add(&requests, 1, f->name, rc != OK ? err_name(rc) : resp.status == 304 ? "unchanged" : "ok");
	http_client_response_fini(&resp);
	return rc;
}

bool forge_call_is_apps(const struct forge_call *c)
{
	return c->forge->app != NULL && !(c->by_token && c->forge->token != NULL);
}

int forge_ask(struct forge_call *c, const char *method, const char *path, const json_t *body, struct forge_answer *ret)
{
	struct forge *f = c->forge;
	bool apps = forge_call_is_apps(c);

	for (int i = 0;; i++) {
		char *token = NULL, *auth = NULL;
		int rc = OK;

		*ret = (struct forge_answer){.clock_skew_ms = INT64_MAX};
		if (apps)
			rc = forge_app_token(c, f->app, &token);
		if (rc != OK)
			return rc;
		auth = apps			 ? str_printf("Bearer %s", token)
		       : f->token == NULL	 ? str_dup("")
		       : f->kind == FORGE_GITHUB ? str_printf("Bearer %s", f->token)
		       : f->kind == FORGE_GITEA	 ? str_printf("token %s", f->token)
						 : str_dup(f->token);
		rc = forge_ask_as(c, auth, method, path, body, ret);
		str_wipe(&auth);
		/* A token of an app may have been revoked before its time: once more with a new one. */
		if (rc == ERR_UNAUTHORIZED && apps && i == 0) {
			forge_app_forget(f->app, token);
			str_wipe(&token);
			forge_answer_fini(ret);
			continue;
		}
		str_wipe(&token);
		return rc;
	}
}

int forge_get(struct forge_call *c, struct forge_answer *ret, const char *fmt, ...)
{
	AUTO_STR path = NULL;
	va_list ap;

	va_start(ap, fmt);
	path = str_vprintf(fmt, ap);
	va_end(ap);
	return forge_ask(c, "GET", path, NULL, ret);
}
