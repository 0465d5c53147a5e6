/* The routes as an OpenAPI 3.1 document. It is built as JSON and written as YAML, which is JSON with another layout. */
#include "base/mem.h"
#include "server/api/answers.h"
#include "server/api/api_priv.h"
#include "server/api/routes.h"
#include "server/api/schema.h"
#include <ctype.h>
#include <string.h>

static json_t *of_type(const char *content_type, json_t *schema)
{
	return json_pack("{s:{s:o}}", content_type, "schema", schema);
}

/* `key` of an object in `o`, made if it is not there; borrowed. */
static json_t *member(json_t *o, const char *key)
{
	json_t *m = json_object_get(o, key);

	if (m == NULL) {
		m = json_object();
		json_put_new(o, key, m);
	}
	return m;
}

/* The errors that any route may give, said once. */
static const struct {
	int status;
	const char *name, *description;
} general[] = {
    {400, "BadRequest", "The request does not fit the description"},
    {401, "Unauthorized", "The key is missing or not valid"},
    {403, "ScopeRequired", "The key lacks the scope that the route needs, or its kind is not taken here"},
    {413, "TooLarge", "The body is too large"},
    {429, "TooManyRequests", "Over a limit; Retry-After says how long"},
    {500, "InternalError", "Our fault; the message gives the request's id"},
    {503, "Unavailable", "Not now: the store cannot be written, or the server is overloaded or stops"},
};

static json_t *error_response(const char *description)
{
	return json_pack("{s:s, s:o}", "description", description, "content",
	    of_type("application/json", json_pack("{s:s}", "$ref", "#/components/schemas/Error")));
}

static json_t *general_responses(void)
{
	json_t *out = json_object();

	for (size_t i = 0; i < ARRAY_LEN(general); i++)
		json_put_new(out, general[i].name, error_response(general[i].description));
	return out;
}

static bool may_give(const struct route *r, int status)
{
	switch (status) {
	case 401:
	case 403: /* also without a scope: some tokens open few routes */
		return !r->open;
	case 413:
		return r->body != BODY_NONE;
	case 429:
		return r->rate != RATE_NONE;
	default:
		return true;
	}
}

static json_t *form_of(const struct route_response *a)
{
	AUTO_STR ref = a->form != NULL ? str_printf("#/components/schemas/%s", a->form) : NULL;

	ENSURE(a->form == NULL || answer_is_known(a->form));
	return ref != NULL ? json_pack("{s:s}", "$ref", ref) : json_object();
}

/* One that is an error by its status has the form of errors, unless the route says that it has another. */
static json_t *own_response(const struct route_response *a)
{
	if (a->status >= 400 && a->content_type == NULL && a->form == NULL)
		return error_response(a->description);
	return json_pack("{s:s, s:o}", "description", a->description, "content",
	    of_type(a->content_type != NULL ? a->content_type : "application/json", form_of(a)));
}

static json_t *responses_of(const struct route *r)
{
	json_t *out = json_object();
	char code[12];

	for (size_t i = 0; i < ROUTE_RESPONSES_MAX && r->responses[i].status != 0; i++) {
		AUTO_JSON own = own_response(&r->responses[i]);
		json_t *before;

		snprintf(code, sizeof code, "%d", r->responses[i].status);
		/* One status may have several content types. */
		before = json_object_get(out, code);
		if (before != NULL)
			json_object_update(json_object_get(before, "content"), json_object_get(own, "content"));
		else
			json_object_set(out, code, own);
	}
	for (size_t i = 0; i < ARRAY_LEN(general); i++) {
		AUTO_STR ref = str_printf("#/components/responses/%s", general[i].name);

		snprintf(code, sizeof code, "%d", general[i].status);
		if (may_give(r, general[i].status) && json_object_get(out, code) == NULL)
			json_put_new(out, code, json_pack("{s:s}", "$ref", ref));
	}
	return out;
}

static void add_path_parameters(const struct known_route *k, json_t *list)
{
	for (size_t i = 0; i < k->n_parts; i++) {
		const struct path_part *part = &k->parts[i];

		if (part->kind != PART_NAME)
			json_array_append_new(
			    list, json_pack("{s:s%, s:s, s:b, s:{s:s}}", "name", part->text, part->len, "in", "path",
				      "required", 1, "schema", "type", "string"));
	}
}

static bool openapi_is_listed(const json_t *list, const char *name)
{
	size_t i;
	json_t *item;

	json_array_foreach((json_t *)list, i, item)
	{
		if (strcmp(json_string_value(item), name) == 0)
			return true;
	}
	return false;
}

static json_t *parameters_of(const struct known_route *k)
{
	json_t *list = json_array(), *rule;
	const char *name;

	add_path_parameters(k, list);
	json_object_foreach(json_object_get(k->query_schema, "properties"), name, rule)
	{
		json_t *p = json_pack("{s:s, s:s, s:b}", "name", name, "in", "query", "required",
		    openapi_is_listed(json_object_get(k->query_schema, "required"), name));
		json_t *schema = json_copy(rule);

		json_put(p, "description", json_string_value(json_object_get(rule, "description")));
		json_object_del(schema, "description");
		json_put_new(p, "schema", schema);
		json_array_append_new(list, p);
	}
	return list;
}

static json_t *body_of(const struct known_route *k)
{
	const struct route *r = k->route;
	json_t *content = json_object();

	if (r->body == BODY_JSON)
		json_object_update_new(content, of_type("application/json", json_ref(k->body_schema)));
	else if (r->body == BODY_FORM)
		json_object_update_new(content, of_type("application/x-www-form-urlencoded", json_ref(k->body_schema)));
	else if (r->content_types == NULL)
		json_put_new(content, "*/*", json_object());
	for (size_t i = 0; r->content_types != NULL && r->content_types[i] != NULL; i++)
		json_put_new(content, r->content_types[i], json_object());
	return json_pack("{s:b, s:o}", "required", 1, "content", content);
}

static const char *rate_name(enum route_rate rate)
{
	return rate == RATE_READ ? "read" : rate == RATE_MUTATION ? "mutation" : "none";
}

static json_t *operation_of(const struct known_route *k)
{
	const struct route *r = k->route;
	json_t *o = json_pack("{s:s, s:s, s:[s]}", "operationId", r->name, "summary", r->summary, "tags", r->tag);
	json_t *parameters = parameters_of(k);

	if (json_array_size(parameters) > 0)
		json_object_set(o, "parameters", parameters);
	json_decref(parameters);
	if (r->body != BODY_NONE)
		json_put_new(o, "requestBody", body_of(k));
	json_put_new(o, "responses", responses_of(r));
	if (r->open)
		json_put_new(o, "security", json_array());
	else if (r->open_on_loopback)
		json_put_new(o, "security", json_pack("[{}, {s:[]}, {s:[]}]", "bearer", "basic"));
	if (!r->open)
		json_put(o, "x-scope", r->scope != NULL ? r->scope : "any");
	if (r->service_account)
		json_put_bool(o, "x-service-account", true);
	if (r->open_on_loopback)
		json_put_bool(o, "x-open-on-loopback", true);
	json_put(o, "x-rate", rate_name(r->rate));
	if (r->streams)
		json_put_bool(o, "x-streams", true);
	return o;
}

/* "{path*}" has no form in OpenAPI. */
static char *documented_path(const char *path)
{
	AUTO_STR out = str_dup(path);
	char *to = out;

	for (const char *from = out; *from != '\0'; from++)
		if (*from != '*')
			*to++ = *from;
	*to = '\0';
	return TAKE(out);
}

json_t *openapi_document(void)
{
	static const char error_schema[] =
	    "{\"type\":\"object\",\"required\":[\"error\"],\"properties\":{\"error\":{\"oneOf\":[{\"type\":\"object\","
	    "\"required\":[\"code\",\"message\"],\"properties\":{\"code\":{\"type\":\"string\"},"
	    "\"message\":{\"type\":\"string\"},\"provider\":{\"type\":\"string\",\"description\":\"of "
	    "integration_not_connected\"},\"helpUrl\":{\"type\":\"string\",\"description\":\"likewise\"}}},"
	    "{\"type\":\"string\",\"description\":\"under /v0/private-workers: "
	    "Title: detail; under /v0/agents, /v0/me, /v0/models and /v0/repositories: the message\"}]},"
	    "\"message\":{\"type\":\"string\",\"description\":\"beside an error that is the message\"},"
	    "\"code\":{\"type\":\"string\"}}}";
	size_t n;
	const struct known_route *all = routes_all(&n);
	json_t *paths = json_object(), *schemas = json_object();

	json_put_new(schemas, "Error", schema_parse(error_schema));
	answers_describe(schemas);

	for (size_t i = 0; i < n; i++) {
		AUTO_STR path = documented_path(all[i].route->path);
		AUTO_STR method = str_dup(all[i].route->method);

		for (char *c = method; *c != '\0'; c++)
			*c = (char)tolower((unsigned char)*c);
		json_put_new(member(paths, path), method, operation_of(&all[i]));
	}
	return json_pack(
	    "{s:s, s:{s:s, s:s, s:s}, s:[{s:[]}, {s:[]}], s:o, s:{s:o, s:o, s:{s:{s:s, s:s}, s:{s:s, s:s}}}}",
	    "openapi", "3.1.0", "info", "title", "Bullpen", "version", BULLPEN_VERSION, "description",
	    "Generated from the routes' descriptions in src/server/api; do not edit.", "security", "bearer", "basic",
	    "paths", paths, "components", "schemas", schemas, "responses", general_responses(), "securitySchemes",
	    "bearer", "type", "http", "scheme", "bearer", "basic", "type", "http", "scheme", "basic");
}

static void add_yaml(struct strbuf *b, const json_t *v, size_t indent, bool in_list);

static void add_line_start(struct strbuf *b, size_t indent)
{
	strbuf_addf(b, "\n%*s", (int)indent, "");
}

/* A plain key is one that no reader of YAML could take for anything else. */
static void add_key(struct strbuf *b, const char *key)
{
	size_t n = strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-");

	if (n > 0 && key[n] == '\0' && key[0] != '-')
		strbuf_adds(b, key);
	else
		json_add_string(b, key);
	strbuf_addc(b, ':');
}

static void add_mapping(struct strbuf *b, const json_t *v, size_t indent, bool in_list)
{
	const char *key;
	json_t *item;

	json_object_foreach((json_t *)v, key, item)
	{
		if (!in_list)
			add_line_start(b, indent);
		in_list = false; /* the first key stands behind the dash */
		add_key(b, key);
		add_yaml(b, item, indent + 2, false);
	}
}

static void add_sequence(struct strbuf *b, const json_t *v, size_t indent)
{
	size_t i;
	json_t *item;

	json_array_foreach((json_t *)v, i, item)
	{
		add_line_start(b, indent);
		strbuf_addc(b, '-');
		add_yaml(b, item, indent + 2, true);
	}
}

static void add_yaml(struct strbuf *b, const json_t *v, size_t indent, bool in_list)
{
	if (json_is_object(v) && json_object_size(v) > 0) {
		if (in_list)
			strbuf_addc(b, ' ');
		add_mapping(b, v, indent, in_list);
	} else if (json_is_array(v) && json_array_size(v) > 0) {
		add_sequence(b, v, indent);
	} else if (json_is_string(v)) {
		strbuf_addc(b, ' ');
		json_add_string(b, json_string_value(v));
	} else {
		AUTO_STR text = json_text(v);

		strbuf_addf(b, " %s", text);
	}
}

char *openapi_text(void)
{
	struct strbuf b = STRBUF(4 * 1024 * 1024);
	AUTO_JSON doc = openapi_document();

	add_yaml(&b, doc, 0, true);
	strbuf_addc(&b, '\n');
	memmove(b.data, b.data + 1, b.len); /* the blank that a list's entry would have, up to the NUL behind */
	return strbuf_take(&b);
}
