#include "server/api/input.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/api/api_priv.h"
#include "server/api/schema.h"
#include <string.h>
#include <strings.h>

const char *route_param(const struct api_request *rq, const char *name)
{
	const char *s = rq->route->path;
	size_t len = strlen(name);

	for (size_t i = 0; (s = strchr(s, '{')) != NULL; i++) {
		s++;
		if (strncmp(s, name, len) == 0 && (s[len] == '}' || s[len] == '*'))
			return rq->params[i];
	}
	ensure_failed("the route has that parameter", __FILE__, __LINE__, name);
}

const char *query_text_of(const struct api_request *rq, const char *name)
{
	return json_string_value(json_object_get(rq->query, name));
}

int64_t query_int_of(const struct api_request *rq, const char *name, int64_t otherwise)
{
	const json_t *v = json_object_get(rq->query, name);

	return v != NULL ? json_integer_value(v) : otherwise;
}

bool input_read_params(struct api_request *rq, const struct route_match *m)
{
	for (size_t i = 0; i < ROUTE_PARAMS_MAX && m->params[i] != NULL; i++) {
		if (text_percent_decode(m->params[i], m->lens[i], &rq->params[i]) == OK)
			continue;
		api_error(rq, API_not_found, "the path is not valid percent-encoded UTF-8");
		return false;
	}
	return true;
}

/* A name or value of a query or form. NULL: it is not valid. */
static char *decode_piece(const char *s, size_t len)
{
	AUTO_STR spaced = str_ndup(s, len);
	char *out = NULL;

	for (char *c = spaced; *c != '\0'; c++)
		*c = *c == '+' ? ' ' : *c;
	return text_percent_decode(spaced, len, &out) == OK ? out : NULL;
}

/* `what` names the place for a sentence: "the query". */
static bool read_pair(
    struct api_request *rq, const json_t *schema, const char *what, const char *s, size_t len, json_t *values)
{
	const char *eq = memchr(s, '=', len);
	size_t key_len = eq != NULL ? (size_t)(eq - s) : len;
	AUTO_STR key = decode_piece(s, key_len);
	AUTO_STR value = eq != NULL ? decode_piece(eq + 1, len - key_len - 1) : str_dup("");
	const json_t *rule = key != NULL ? json_object_get(json_object_get(schema, "properties"), key) : NULL;
	json_t *v = NULL;
	struct why why;

	if (key == NULL || value == NULL)
		api_error(rq, API_validation_error, "%s is not valid percent-encoded UTF-8", what);
	else if (rule == NULL && json_is_true(json_object_get(schema, "additionalProperties")))
		return true; /* the route says that it leaves out what it does not know */
	else if (rule == NULL)
		api_error(rq, API_validation_error, "Unrecognized key(s) in %s: '%.100s'", what, key);
	else if (json_object_get(values, key) != NULL)
		api_error(rq, API_validation_error, "'%s' is given twice", key);
	else if (schema_read_text(rule, key, value, &v, &why) != OK)
		api_error(rq, API_validation_error, "%s", why.text);
	else
		json_put_new(values, key, v);
	return !rq->answered;
}

static bool read_pairs(struct api_request *rq, const json_t *schema, const char *what, const char *s, json_t *values)
{
	struct why why;

	while (*s != '\0') {
		size_t n = strcspn(s, "&");

		if (n > 0 && !read_pair(rq, schema, what, s, n, values))
			return false;
		s += n + (s[n] == '&');
	}
	if (schema == NULL)
		return true;
	schema_fill(schema, values);
	if (schema_check_body(schema, values, &why) == OK)
		return true;
	api_error(rq, API_validation_error, "%s", why.text);
	return false;
}

bool input_read_query(struct api_request *rq, const struct known_route *k)
{
	rq->query = json_object();
	return read_pairs(rq, k->query_schema, "the query", http_query(rq->x), rq->query);
}

static bool is_encoded(const struct http_exchange *x)
{
	const char *encoding = http_header_get(x, "content-encoding");

	return http_header_count(x, "content-encoding") > 1 ||
	       (encoding != NULL && strcasecmp(encoding, "identity") != 0);
}

/* Parameters of the type ("; charset=utf-8") do not count. */
static bool is_type(const char *given, const char *wanted)
{
	size_t n = strlen(wanted);

	return strncasecmp(given, wanted, n) == 0 && (given[n] == '\0' || strchr("; \t", given[n]) != NULL);
}

/* A JSON or form body without a type is taken for one; bytes must say what they are. */
static bool check_type(struct api_request *rq, const char *const *wanted, bool must)
{
	const char *given = http_header_get(rq->x, "content-type");
	struct strbuf list = STRBUF(500);

	if (given == NULL && !must)
		return true;
	for (size_t i = 0; wanted[i] != NULL; i++) {
		if (given != NULL && is_type(given, wanted[i])) {
			strbuf_fini(&list);
			return true;
		}
		strbuf_addf(&list, "%s%s", i > 0 ? " or " : "", wanted[i]);
	}
	api_error(rq, API_validation_error, "Content-Type must be %s", strbuf_str(&list));
	strbuf_fini(&list);
	return false;
}

static bool read_json(struct api_request *rq, const json_t *schema)
{
	size_t len;
	const char *body = http_body(rq->x, &len);
	struct why why = {0};

	if (json_parse_strict(body, len, &rq->body, &why) != OK || schema_check_body(schema, rq->body, &why) != OK) {
		api_error(rq, API_validation_error, "%s", why.text);
		return false;
	}
	idempotency_prepare(rq);
	return true;
}

static bool read_form(struct api_request *rq, const json_t *schema)
{
	size_t len;
	const char *body = http_body(rq->x, &len);

	rq->body = json_object();
	if (strlen(body) == len)
		return read_pairs(rq, schema, "the form", body, rq->body);
	api_error(rq, API_validation_error, "the form is not valid percent-encoded UTF-8");
	return false;
}

bool input_read_body(struct api_request *rq, const struct known_route *k)
{
	static const char *const json_type[] = {"application/json", NULL};
	static const char *const form_type[] = {"application/x-www-form-urlencoded", NULL};
	const struct route *r = k->route;
	size_t len = 0;

	if (r->body == BODY_NONE)
		return true;
	if (is_encoded(rq->x)) {
		api_reply(
		    rq, 415, api_error_body(rq, API_validation_error, "the body must come without Content-Encoding"));
		return false;
	}
	if (r->body == BODY_JSON || r->body == BODY_FORM) {
		IGNORE(http_body(rq->x, &len));
		if (len == 0) {
			api_error(
			    rq, API_missing_body, "a %s body is required", r->body == BODY_JSON ? "JSON" : "form");
			return false;
		}
		if (!check_type(rq, r->body == BODY_JSON ? json_type : form_type, false))
			return false;
		return r->body == BODY_JSON ? read_json(rq, k->body_schema) : read_form(rq, k->body_schema);
	}
	return r->content_types == NULL || check_type(rq, r->content_types, true);
}
