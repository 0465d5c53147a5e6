/* The failure of a try: whether another one may help, and the sentence for the person who has to mend it. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/models/wire_priv.h"
#include <curl/curl.h>
#include <string.h>
#include <strings.h>

#define MESSAGE_MAX 240

/* How servers say that the conversation is longer than the model can read. */
static const char *const overflow_words[] = {"context_length_exceeded", "maximum context length", "context length",
    "context window", "prompt is too long", "exceed_context_size", "exceeds the available context",
    "exceed context limit", "input is too long", "input length exceeds", "request_too_large", "too many input tokens",
    "max_model_len"};

static bool says_overflow(const char *text)
{
	for (size_t i = 0; i < ARRAY_LEN(overflow_words); i++)
		if (strcasestr(text, overflow_words[i]) != NULL)
			return true;
	return false;
}

int64_t failure_retry_after(const char *value, int64_t now_ms)
{
	int64_t seconds, when;

	if (value == NULL)
		return -1;
	if (text_parse_int(value, 0, INT32_MAX, &seconds) == OK)
		return MIN(seconds * 1000, RETRY_AFTER_MAX_MS);
	if (strpbrk(value, ":") == NULL)
		return -1;
	when = (int64_t)curl_getdate(value, NULL);
	if (when < 0)
		return -1;
	return MIN(MAX(when * 1000 - now_ms, 0), RETRY_AFTER_MAX_MS);
}

static enum failure_kind kind_of_status(int status)
{
	if (status == 413)
		return FAILURE_CONTEXT;
	if (status == 408 || status == 409 || status == 425 || status == 429 || status >= 500)
		return FAILURE_RETRY;
	return FAILURE_FINAL;
}

static void put_code(struct failure *f, const json_t *error)
{
	static const char *const keys[] = {"code", "type", "status"};

	for (size_t i = 0; i < ARRAY_LEN(keys) && f->code[0] == '\0'; i++) {
		size_t len;
		const char *s = member_str(error, keys[i], &len);

		if (len < sizeof f->code && text_is_token(s, "_-.", sizeof f->code - 1))
			memcpy(f->code, s, len + 1);
	}
}

/* {"error":{"message","type","code"}}, {"error":"…"}, {"message":…}, {"detail":…}: the message, "" if there is none. */
static const char *failure_message_of(const json_t *body, const json_t **ret_error)
{
	static const char *const keys[] = {"message", "detail", "error", "msg"};
	const json_t *error = json_object_get(body, "error");

	if (!json_is_object(error))
		error = body;
	*ret_error = error;
	if (json_is_string(error))
		return json_string_value(error);
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		size_t len;
		const char *s = member_str(error, keys[i], &len);

		if (len > 0)
			return s;
	}
	return "";
}

static bool looks_like_html(const char *content_type, const char *body)
{
	return (content_type != NULL && strcasestr(content_type, "html") != NULL) || body[0] == '<';
}

void failure_of_status(const struct remote *p, int status, const char *retry_after, const char *content_type,
    const char *body, size_t len, struct failure *ret)
{
	AUTO_JSON json = answer_json(body, len);
	const json_t *error = NULL;
	const char *message = json != NULL ? failure_message_of(json, &error) : "";
	AUTO_STR clean = NULL;

	*ret = (struct failure){.kind = kind_of_status(status),
	    .status = status,
	    .wait_ms = failure_retry_after(retry_after, clock_wall_ms())};
	put_code(ret, error);
	if (json == NULL && looks_like_html(content_type, body))
		message = "an HTML page";
	else if (json == NULL)
		message = body;
	clean = remote_clean(p, message, strlen(message), MESSAGE_MAX);
	snprintf(ret->what, sizeof ret->what, "answered %d%s%s", status, clean[0] != '\0' ? ": " : "", clean);
	if (status != 429 && (says_overflow(message) || says_overflow(ret->code)))
		ret->kind = FAILURE_CONTEXT;
	else if (strcmp(ret->code, "insufficient_quota") == 0)
		ret->kind = FAILURE_FINAL;
}

/* An error inside a 200: its words decide, and what is not understood is worth another try. */
void failure_of_error(struct answer *a, const json_t *error)
{
	static const char *const final[] = {"invalid_request_error", "authentication_error", "permission_error",
	    "not_found_error", "billing_error", "insufficient_quota", "invalid_api_key", "model_not_found"};
	const json_t *inner;
	const char *message = failure_message_of(error, &inner);
	int64_t status = member_count(inner, "code");
	struct failure *f = &a->failure;

	if (f->kind != FAILURE_NONE)
		return;
	f->kind = status >= 400 && status < 600 ? kind_of_status((int)status) : FAILURE_RETRY;
	put_code(f, inner);
	for (size_t i = 0; i < ARRAY_LEN(final); i++)
		if (strcmp(f->code, final[i]) == 0)
			f->kind = FAILURE_FINAL;
	if (says_overflow(message) || says_overflow(f->code))
		f->kind = FAILURE_CONTEXT;
	snprintf(f->what, sizeof f->what, "sent an error: %s%s%.*s", f->code,
	    f->code[0] != '\0' && message[0] != '\0' ? ": " : "",
	    (int)text_utf8_cut(message, strlen(message), MESSAGE_MAX), message);
}

static void advise_400(
    const struct remote *p, const struct model_request *req, const char *what, char *out, size_t size)
{
	if (strstr(what, "stream_options") != NULL)
		snprintf(out, size, "set stream_usage = false for provider '%s'", p->name);
	else if (strstr(what, "max_completion_tokens") != NULL || strstr(what, "max_tokens") != NULL)
		snprintf(
		    out, size, "check max_tokens_field of provider '%s' and max_output_tokens of the model", p->name);
	else if (strstr(what, "reasoning") != NULL && strcasestr(what, "passed back") == NULL &&
		 strcasestr(what, "missing") == NULL && p->return_reasoning)
		snprintf(out, size, "set return_reasoning = false for provider '%s'", p->name);
	else if (strstr(what, "reasoning") != NULL && !p->return_reasoning)
		snprintf(out, size, "set return_reasoning = true for provider '%s'", p->name);
	else if (strstr(what, "image") != NULL && req->model->takes_images)
		snprintf(out, size, "if the model takes no images, set images = false for it");
	else
		snprintf(out, size, "check the parameters and options of model '%s'", req->model->id);
}

static bool has_path(const char *url)
{
	const char *host = strstr(url, "://");

	return strchr(host != NULL ? host + 3 : url, '/') != NULL;
}

/* Advice for a person. */
static void advise(
    const struct remote *p, const struct model_request *req, const struct failure *f, char *out, size_t size)
{
	const char *key = p->key_source != NULL ? p->key_source : "api_key_file";

	if (f->status == 401 || f->status == 403 || strstr(f->code, "authentication") != NULL ||
	    strcmp(f->code, "invalid_api_key") == 0 || strcmp(f->code, "permission_error") == 0)
		snprintf(out, size, "check %s of provider '%s'", key, p->name);
	else if (f->status == 404 || strstr(f->code, "not_found") != NULL)
		snprintf(out, size, "check base_url of provider '%s'%s and that it has a model '%s'", p->name,
		    p->wire != &wire_openai || has_path(p->base_url) ? "" : " (most servers want /v1 at its end)",
		    req->model->upstream->name);
	else if (strcmp(f->code, "insufficient_quota") == 0 || f->status == 402)
		snprintf(out, size, "the account of provider '%s' has no credit left", p->name);
	else if (f->status == 429 || strstr(f->code, "rate_limit") != NULL)
		snprintf(out, size, "wait, or ask for a higher limit");
	else if (f->status >= 300 && f->status < 400)
		snprintf(out, size, "it redirects, which is not followed: correct base_url of provider '%s'", p->name);
	else if (f->status >= 400 && f->status < 500)
		advise_400(p, req, f->what, out, size);
	else if (strcasestr(f->what, "certificate") != NULL)
		snprintf(out, size, "then start the run again");
	else if (f->kind == FAILURE_RETRY)
		snprintf(out, size, "look at that server, then start the run again");
	else
		snprintf(out, size, "see the settings of model '%s'", req->model->id);
}

void failure_explain(const struct remote *p, const struct model_request *req, const struct failure *f, int tries,
    int64_t took_ms, struct why *why)
{
	char advice[200], asked[80] = "";
	AUTO_STR what = remote_clean(p, f->what, strlen(f->what), MESSAGE_MAX + 60);
	AUTO_STR url = remote_clean(p, p->base_url, strlen(p->base_url), 100);

	if (f->kind == FAILURE_CONTEXT) {
		why_set(why, ERR_TOO_LARGE, "%s %s", url, what);
		return;
	}
	if (tries > 1)
		snprintf(asked, sizeof asked, " (asked %d times in %lld s)", tries, (long long)(took_ms / 1000));
	advise(p, req, f, advice, sizeof advice);
	why_set(why, ERR_PROTOCOL, "%s %s%s: %s", url, what, asked, advice);
}
