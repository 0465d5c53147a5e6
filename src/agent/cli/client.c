#include "agent/cli/client.h"
#include "agent/endpoint.h"
#include "base/id.h"
#include "base/mem.h"
#include "net/http_client.h"
#include <stdarg.h>
#include <string.h>

#define CALL_TIMEOUT_MS 60000

void client_error(const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("error: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

const char *json_field(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "";
}

void client_print_json(const json_t *o)
{
	AUTO_STR text = json_text(o);

	puts(text);
	fflush(stdout);
}

char *client_clean(const char *text)
{
	char *out = str_dup(text);

	for (char *c = out; *c != '\0'; c++) {
		if (*c == '\t' || *c == '\r')
			*c = ' ';
		else if ((unsigned char)*c < 0x20 && *c != '\n')
			*c = '?';
		else if (*c == 0x7f)
			*c = '?';
		else if ((unsigned char)c[0] == 0xc2 && (unsigned char)c[1] >= 0x80 && (unsigned char)c[1] <= 0x9f)
			c[0] = c[1] = '?'; /* C1 controls, which some terminals obey */
	}
	return out;
}

char *client_clean_line(const char *text)
{
	char *out = client_clean(text);

	for (char *c = out; *c != '\0'; c++)
		*c = *c == '\n' ? ' ' : *c;
	return out;
}

void client_fini(struct client *c)
{
	free(c->endpoint);
	free(c->api_key);
}

static int usage_problem(int *ret_status, const char *problem, const char *word)
{
	client_error("%s%s%s", problem, word != NULL ? " " : "", word != NULL ? word : "");
	*ret_status = 2;
	return ERR_INVALID;
}

static int connect_settings(struct client *c, const char *endpoint, const char *key, int *ret_status)
{
	AUTO_STR found = NULL;
	struct why why = {0};
	const char *from_env = getenv("CURSOR_API_KEY"), *allow = getenv("BULLPEN_ALLOW_HTTP");
	int rc = OK;

	if (endpoint == NULL && (rc = endpoint_find(&found, &why)) == OK)
		endpoint = found;
	if (rc == OK)
		rc = endpoint_check(endpoint, allow != NULL && strcmp(allow, "1") == 0, &c->endpoint, &why);
	if (rc != OK)
		return usage_problem(ret_status, why.text, NULL);
	if (key == NULL && from_env != NULL && from_env[0] != '\0')
		key = from_env;
	if (key == NULL)
		return usage_problem(ret_status, "no API key: give --api-key KEY or set CURSOR_API_KEY", NULL);
	c->api_key = str_dup(key);
	return OK;
}

int client_parse(struct client *c, int argc, char **argv, const struct options *verb, size_t max_words,
    struct option_words *words, int *ret_status)
{
	const char *endpoint = NULL, *key = NULL;
	const struct option_row common[] = {{.name = "json", .given = &c->json, .help = "one JSON object a line"},
	    {.name = "endpoint",
		.letter = 'e',
		.value = "URL",
		.text = &endpoint,
		.help = "the server; default: CURSOR_API_ENDPOINT, BULLPEN_URL, agent.toml,\nhttp://127.0.0.1:8787"},
	    {.name = "api-key", .value = "KEY", .text = &key, .help = "the API key; default: CURSOR_API_KEY"}, {0}};
	struct options o = *verb;
	struct why why = {0};
	int rc;

	o.common = common;
	rc = options_parse(&o, argc, argv, max_words, words, &why);
	if (rc == ERR_EMPTY) {
		options_help(&o, stdout);
		*ret_status = 0;
		return rc;
	}
	if (rc != OK)
		return usage_problem(ret_status, why.text, NULL);
	id_init();
	http_client_init();
	return connect_settings(c, endpoint, key, ret_status);
}

static int print_refusal(struct client *c, const struct http_client_response *r, int *ret_status)
{
	AUTO_JSON body = NULL;
	const json_t *error;

	if (r->body.len > 0)
		IGNORE(json_parse(r->body.data, r->body.len, &body, NULL));
	error = json_object_get(body, "error");
	if (c->json && json_is_object(body)) {
		client_print_json(body);
	} else {
		AUTO_STR message = client_clean(json_field(error, "message"));

		client_error("%s (%s, HTTP %d)", message[0] ? message : "the server refused the request",
		    json_field(error, "code")[0] ? json_field(error, "code") : "no code", r->status);
	}
	*ret_status = r->status == 400 ? 2 : 1;
	return ERR_DENIED;
}

int client_call(
    struct client *c, const char *method, const char *path, const json_t *body, json_t **ret, int *ret_status)
{
	AUTO_STR url = str_printf("%s%s", c->endpoint, path);
	AUTO_STR auth = str_printf("Bearer %s", c->api_key);
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
	int rc = http_client_do(&req, &r, &why);

	if (rc != OK) {
		client_error("%s", why.text);
		*ret_status = 1;
	} else if (r.status < 200 || r.status > 299) {
		rc = print_refusal(c, &r, ret_status);
	} else if (ret != NULL && json_parse(strbuf_str(&r.body), r.body.len, ret, &why) != OK) {
		client_error("the server's answer is no JSON: %s", why.text);
		*ret_status = 1;
		rc = ERR_PROTOCOL;
	}
	http_client_response_fini(&r);
	return rc;
}
