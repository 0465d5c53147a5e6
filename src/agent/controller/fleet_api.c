#include "agent/controller/controller_priv.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "net/http_client.h"
#include <ctype.h>
#include <stdarg.h>
#include <string.h>

#define CALL_TIMEOUT_MS 30000
#define QUERY_MAX 8192

void reply_fini(struct reply *r)
{
	json_decref(r->body);
	str_free(&r->text);
	*r = (struct reply){0};
}

/* Errors are {"error": "Title: detail"} of the fleet API, or {"error": {code, message}} of the rest. */
static char *error_text(const struct reply *r)
{
	const json_t *error = json_object_get(r->body, "error");
	const char *text = json_string_value(error), *message = json_string_value(json_object_get(error, "message"));

	if (text == NULL)
		text = message != NULL ? message : json_string_value(json_object_get(r->body, "code"));
	return text != NULL ? text_line(text, 500) : str_printf("HTTP %d", r->status);
}

void fleet_api(
    const struct controller_options *o, const char *method, const char *path, const json_t *body, struct reply *ret)
{
	AUTO_STR url = str_printf("%s%s", o->endpoint, path);
	AUTO_STR auth = str_printf("Bearer %s", o->api_key);
	AUTO_STR text = body != NULL ? json_text(body) : NULL;
	const struct http_header headers[] = {{"authorization", auth}, {"content-type", "application/json"}};
	const struct http_client_request req = {.method = method,
	    .url = url,
	    .headers = headers,
	    .n_headers = body != NULL ? 2 : 1,
	    .body = text != NULL ? text : "",
	    .body_len = text != NULL ? strlen(text) : 0,
	    .timeout_ms = CALL_TIMEOUT_MS};
	struct http_client_response r = {0};
	struct why why = {0};
	int64_t seconds;
	int rc = http_client_do(&req, &r, &why);

	*ret = (struct reply){0};
	if (rc != OK) {
		ret->text = text_line(why.text, 500);
	} else {
		ret->status = r.status;
		if (r.body.len > 0)
			IGNORE(json_parse(strbuf_str(&r.body), r.body.len, &ret->body, NULL));
		ret->text = r.status < 300 ? str_dup("") : error_text(ret);
		if (r.retry_after != NULL && text_parse_int(r.retry_after, 0, 3600, &seconds) == OK)
			ret->retry_after_ms = seconds * 1000;
	}
	http_client_response_fini(&r);
	explicit_bzero(auth, strlen(auth));
}

static void add_encoded(struct strbuf *b, const char *s)
{
	for (const unsigned char *c = (const unsigned char *)s; *c != '\0'; c++) {
		if (isalnum(*c) || strchr("-._~", *c) != NULL)
			strbuf_addc(b, (char)*c);
		else
			strbuf_addf(b, "%%%02X", *c);
	}
}

char *query_of(const char *name, ...)
{
	struct strbuf b = STRBUF(QUERY_MAX);
	va_list ap;

	va_start(ap, name);
	for (; name != NULL; name = va_arg(ap, const char *)) {
		const char *value = va_arg(ap, const char *);

		if (value == NULL)
			continue;
		strbuf_addf(&b, "%s%s=", b.len > 0 ? "&" : "?", name);
		add_encoded(&b, value);
	}
	va_end(ap);
	return strbuf_take(&b);
}
