#include "agent/cli/client.h"
#include "agent/endpoint.h"
#include "net/advice.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/terminal.h"
#include "net/http_client.h"
#include <stdarg.h>
#include <string.h>

#define CALL_TIMEOUT_MS 60000

void client_error(const char *fmt, ...)
{
	AUTO_STR text = NULL;
	AUTO_STR clean = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = str_vprintf(fmt, ap);
	va_end(ap);
	clean = terminal_clean(text, TERMINAL_LINE);
	fflush(stdout);
	fprintf(stderr, "error: %s\n", clean);
}

const char *json_field(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "";
}

void client_print_json(const json_t *o)
{
	AUTO_STR text = json_text(o);
	AUTO_STR safe = terminal_clean(text, TERMINAL_JSON);

	puts(safe);
	fflush(stdout);
}

void client_fini(struct client *c)
{
	free(c->endpoint);
	free(c->api_key);
}

static int client_problem(int *ret_status, int status, const char *problem)
{
	client_error("%s", problem);
	*ret_status = status;
	return ERR_INVALID;
}

static int connect_settings(struct client *c, const char *endpoint, const char *key, int *ret_status)
{
	AUTO_STR found = NULL;
	struct why why = {0};
	const char *allow = getenv("BULLPEN_ALLOW_HTTP");
	int rc = OK;

	if (endpoint == NULL && (rc = endpoint_find(&found, &why)) == OK)
		endpoint = found;
	if (rc == OK)
		rc = endpoint_check(endpoint, allow != NULL && strcmp(allow, "1") == 0, &c->endpoint, &why);
	if (rc != OK)
		return client_problem(ret_status, EXIT_USAGE, why.text);
	rc = credential_find(key, &c->api_key, &why);
	if (rc == ERR_EMPTY)
		return client_problem(
		    ret_status, EXIT_CREDENTIAL, "no API key: give --api-key KEY or set CURSOR_API_KEY");
	return rc == OK ? OK : client_problem(ret_status, EXIT_CREDENTIAL, why.text);
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
	o.help_word = true;
	rc = options_parse(&o, argc, argv, max_words, words, &why);
	if (rc == ERR_EMPTY) {
		options_help(&o, stdout);
		*ret_status = EXIT_DONE;
		return rc;
	}
	if (rc != OK)
		return client_problem(ret_status, EXIT_USAGE, why.text);
	id_init();
	http_client_init();
	return connect_settings(c, endpoint, key, ret_status);
}

static int exit_of_http(int status)
{
	if (status == 400)
		return EXIT_USAGE;
	if (status == 401 || status == 403)
		return EXIT_CREDENTIAL;
	return status >= 500 || status < 400 ? EXIT_UNREACHABLE : EXIT_REFUSED;
}

int client_refused(struct client *c, const struct http_client_response *r)
{
	AUTO_JSON body = NULL;
	const json_t *error;
	const char *code, *message;

	if (r->body.len > 0)
		IGNORE(json_parse(r->body.data, r->body.len, &body, NULL));
	error = json_object_get(body, "error");
	code = json_field(error, "code");
	message = json_field(error, "message");
	/* The fleet API says it in one string, "Title: detail". */
	if (json_is_string(error)) {
		code = "fleet";
		message = json_string_value(error);
	}
	/* What has no envelope of ours is somebody else's: a page of a proxy, another program on the port. */
	if (code[0] == '\0') {
		AUTO_STR what = advice_not_ours(c->endpoint, r->status, r->content_type, strbuf_str(&r->body));

		client_error("%s", what);
		return EXIT_UNREACHABLE;
	}
	if (c->json)
		client_print_json(body);
	else
		client_error("%s%s (%s, HTTP %d)", message[0] ? message : "the server refused the request",
		    c->no_repo && strcmp(code, "repository_required") == 0 ? ": give --repo URL, or run it in a clone"
									   : "",
		    code, r->status);
	return exit_of_http(r->status);
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
	    .timeout_ms = CALL_TIMEOUT_MS,
	    .cancelled = c->cancelled};
	struct http_client_response r = {0};
	struct why why = {0};
	int rc = http_client_do(&req, &r, &why);

	if (rc != OK) {
		client_error("%s", why.text);
		*ret_status = rc == ERR_CANCELLED ? EXIT_INTERRUPTED : EXIT_UNREACHABLE;
	} else if (r.status < 200 || r.status > 299) {
		*ret_status = client_refused(c, &r);
		rc = ERR_DENIED;
	} else if (ret != NULL &&
		   (json_parse(strbuf_str(&r.body), r.body.len, ret, NULL) != OK || !json_is_object(*ret))) {
		AUTO_STR what = advice_not_ours(c->endpoint, r.status, r.content_type, strbuf_str(&r.body));

		client_error("%s", what);
		*ret_status = EXIT_UNREACHABLE;
		rc = ERR_PROTOCOL;
	}
	http_client_response_fini(&r);
	return rc;
}
