/* `bullpen admin connect`: what is to be set up at a forge, a chat or a tracker, and whether it is. */
#include "server/main/admin_connect_priv.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/seal.h"
#include "base/table.h"
#include "base/terminal.h"
#include "base/text.h"
#include "base/toml.h"
#include "net/http_client.h"
#include "server/main/admin_priv.h"
#include "server/main/commands.h"
#include <stdarg.h>
#include <string.h>

#define FILE_MAX (1024 * 1024)
#define ANSWER_MAX ((size_t)1024 * 1024)

static const struct {
	const char *word, *name, *path;
	enum connect_surface surface;
} surfaces[] = {{"github", "GitHub", "/webhooks/github", CONNECT_GITHUB},
    {"gitlab", "GitLab", "/webhooks/gitlab", CONNECT_GITLAB}, {"gitea", "Gitea", "/webhooks/gitea", CONNECT_GITEA},
    {"forgejo", "Forgejo", "/webhooks/forgejo", CONNECT_GITEA},
    {"linear", "Linear", "/webhooks/linear", CONNECT_LINEAR},
    {"slack", "Slack", "/webhooks/slack/events", CONNECT_SLACK}};

static void print_line(const char *word, const char *fmt, va_list ap)
{
	AUTO_STR text = str_vprintf(fmt, ap);
	AUTO_STR clean = terminal_clean(text, TERMINAL_LINE);

	printf("%-8s %s\n", word, clean);
}

void connect_ok(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	print_line("ok", fmt, ap);
	va_end(ap);
}

void connect_note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	print_line("note", fmt, ap);
	va_end(ap);
}

void connect_missing(struct connect *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	print_line("missing", fmt, ap);
	va_end(ap);
	c->missing = true;
}

struct forge *connect_forge(const struct connect *c, size_t *at)
{
	static const enum forge_kind kinds[] = {
	    [CONNECT_GITHUB] = FORGE_GITHUB, [CONNECT_GITLAB] = FORGE_GITLAB, [CONNECT_GITEA] = FORGE_GITEA};

	if (c->forges == NULL || c->surface >= ARRAY_LEN(kinds))
		return NULL;
	while (*at < forges_count(c->forges)) {
		struct forge *f = forges_at(c->forges, (*at)++);

		if (forge_kind(f) == kinds[c->surface])
			return f;
	}
	return NULL;
}

static void read_secret(struct connect *c, const struct table *t, const char *key, char **ret)
{
	if (table_secret(t, key, ret) != OK)
		connect_missing(c, "%s", t->why->text);
}

void connect_table_read(struct connect *c, struct connect_table *ret)
{
	bool slack = c->surface == CONNECT_SLACK;
	const char *where = slack ? "slack" : "linear";
	const json_t *json = json_object_get(c->root, where);
	struct why why = {0};
	const struct table t = {.json = json, .where = where, .why = &why};
	const char *api = slack ? "https://slack.com/api" : "https://api.linear.app/graphql", *ca = NULL;

	*ret = (struct connect_table){.is_there = json_is_object(json)};
	if (!ret->is_there)
		return;
	read_secret(c, &t, slack ? "bot_token_file" : "token_file", &ret->token);
	read_secret(c, &t, "client_secret_file", &ret->client_secret);
	ret->client_id = str_dup(json_string_value(json_object_get(json, "client_id")));
	read_secret(c, &t, slack ? "signing_secret_file" : "webhook_secret_file", &ret->secret);
	if (slack)
		read_secret(c, &t, "app_token_file", &ret->app_token);
	if (table_text(&t, "api_url", &api) != OK || table_text(&t, "ca_file", &ca) != OK)
		connect_missing(c, "%s", why.text);
	ret->api_url = str_ndup(api, strlen(api) - text_has_suffix(api, "/"));
	ret->ca_file = str_dup(ca);
}

void connect_table_fini(struct connect_table *t)
{
	str_wipe(&t->token);
	str_wipe(&t->secret);
	str_wipe(&t->app_token);
	str_wipe(&t->client_secret);
	str_free(&t->client_id);
	str_free(&t->api_url);
	str_free(&t->ca_file);
}

void connect_answer_fini(struct connect_answer *a)
{
	json_drop(&a->json);
	str_free(&a->text);
	str_free(&a->scopes);
}

int connect_post(const char *url, const char *ca_file, const char *token, const struct http_header *headers,
    size_t n_headers, const char *body, struct connect_answer *ret, struct why *why)
{
	struct http_header all[8] = {{"content-type", "application/json"}, {"user-agent", "bullpen"}};
	struct http_client_response resp = {0};
	AUTO_STR auth = token != NULL ? str_printf("Bearer %s", token) : NULL;
	size_t n = 2;
	int rc;

	ENSURE(n_headers <= 4);
	for (size_t i = 0; i < n_headers; i++)
		all[n++] = headers[i];
	if (auth != NULL)
		all[n++] = (struct http_header){"authorization", auth};
	const struct http_client_request req = {.method = body != NULL ? "POST" : "GET",
	    .url = url,
	    .ca_file = ca_file,
	    .headers = all,
	    .n_headers = n,
	    .body = body,
	    .body_len = body != NULL ? strlen(body) : 0,
	    .timeout_ms = CONNECT_TIMEOUT_MS,
	    .max_body = ANSWER_MAX};

	*ret = (struct connect_answer){.skew_ms = INT64_MAX};
	rc = http_client_do(&req, &resp, why);
	if (rc == OK) {
		ret->status = resp.status;
		ret->text = str_dup(strbuf_str(&resp.body));
		ret->skew_ms = http_client_clock_skew_ms(&resp);
		ret->scopes = TAKE(resp.oauth_scopes);
		IGNORE(json_parse(strbuf_str(&resp.body), resp.body.len, &ret->json, NULL));
	}
	http_client_response_fini(&resp);
	if (auth != NULL)
		explicit_bzero(auth, strlen(auth));
	return rc;
}

static int take_url(struct connect *c, const char *given)
{
	const char *set = json_word(json_object_get(c->root, "server"), "public_url");
	const char *text = given != NULL ? given : set, *host = strstr(text, "://");
	size_t n = strlen(text);

	if (text[0] == '\0')
		return 0;
	if ((!text_has_prefix(text, "https://") && !text_has_prefix(text, "http://")) || host[3] == '\0' ||
	    host[3] == '/' || strpbrk(text, "\"'<>\\@?# ") != NULL || !text_is_utf8(text, n))
		return usage_error("%s must be where services reach the server, such as https://bullpen.corp.example",
		    given != NULL ? "--url" : "server.public_url");
	while (text[n - 1] == '/')
		n--;
	c->url = str_ndup(text, n);
	return 0;
}

static int load(struct connect *c, const char *url)
{
	struct why why = {0};
	AUTO_STR text = NULL;
	size_t len = 0;
	int rc = text_read_file(c->config, FILE_MAX, &text, &len);

	if (rc != OK)
		return usage_error("cannot read %s: %s", c->config, err_text(rc));
	if (toml_parse(text, len, c->config, &c->root, &why) != OK)
		return usage_error("%s", why.text);
	rc = take_url(c, url);
	if (rc == 0 && c->surface <= CONNECT_GITEA)
		IGNORE(forges_new(json_object_get(c->root, "forges"), &c->forges, &c->forges_why));
	return rc;
}

static int find_surface(struct connect *c, const char *word)
{
	for (size_t i = 0; i < ARRAY_LEN(surfaces); i++)
		if (strcmp(surfaces[i].word, word) == 0) {
			c->surface = surfaces[i].surface;
			c->name = surfaces[i].name;
			c->path = surfaces[i].path;
			return 0;
		}
	return usage_error("'%.40s' cannot be connected: github, gitlab, gitea, forgejo, linear or slack", word);
}

static int do_connect(struct connect *c, bool test, const char *url)
{
	int status = load(c, url);

	if (status == 0 && test && c->url == NULL)
		status = usage_error(
		    "--url URL is required: where %s reaches the server, such as https://bullpen.corp.example",
		    c->name);
	if (status == 0) {
		http_client_init();
		if (test) {
			connect_test(c);
		} else if (c->answer != NULL) {
			status = connect_take_answer(c);
		} else {
			connect_guide(c);
			status = connect_by_browser(c) ? connect_authorize(c) : 0;
			if (status == 0)
				connect_check(c);
		}
		if (status == 0)
			status = c->missing || fflush(stdout) != 0 || ferror(stdout) ? 1 : 0;
	}
	json_drop(&c->root);
	forges_free(&c->forges);
	free(c->url);
	return status;
}

int admin_connect(int argc, char **argv)
{
	const char *config = NULL, *url = NULL, *data = NULL, *answer = NULL;
	const struct option_row rows[] = {{.name = "config",
					      .value = "FILE",
					      .text = &config,
					      .help = "the settings that bullpen serve uses (required)"},
	    {.name = "url",
		.value = "URL",
		.text = &url,
		.help = "where services reach the server; default: server.public_url of the settings"},
	    {.name = "data",
		.value = "DIR",
		.text = &data,
		.help = "the server's data folder, where a token that a browser lets us have is kept"},
	    {.name = "answer",
		.value = "URL",
		.text = &answer,
		.help = "the address that the browser was sent to after you agreed there"},
	    {0}};
	const struct options o = {.usage = "bullpen admin connect github|gitlab|gitea|forgejo|linear|slack --config "
					   "FILE [--url URL] [--data DIR]\n"
					   "                             [--answer URL]\n"
					   "       bullpen admin connect test SURFACE --config FILE [--url URL]",
	    .about =
		"Prints what is to be set up there, then checks what the settings have; exit 1: something is "
		"missing.\n`test` sends a signed event through the server's true route and says what became of it.",
	    .rows = rows,
	    .help_word = true};
	struct connect c = {0};
	struct option_words words;
	struct why why = {0};
	bool test;
	int rc = options_parse(&o, argc, argv, 2, &words, &why);

	if (rc == ERR_EMPTY) {
		options_help(&o, stdout);
		return 0;
	}
	if (rc != OK)
		return usage_error("%s", why.text);
	test = words.n > 0 && strcmp(words.v[0], "test") == 0;
	if (words.n != 1 + (size_t)test)
		return usage_error("usage: bullpen admin connect [test] "
				   "github|gitlab|gitea|forgejo|linear|slack --config FILE [--url URL]");
	if (config == NULL)
		return usage_error("--config FILE is required: the settings that bullpen serve uses");
	if (answer != NULL && (test || data == NULL))
		return usage_error("--answer needs --data DIR, and is for connecting, not for a test");
	c.config = config;
	c.data_dir = data;
	c.answer = answer;
	rc = find_surface(&c, words.v[test ? 1 : 0]);
	return rc != 0 ? rc : do_connect(&c, test, url);
}
