/* agent mcp: the MCP servers that a person, or the team, keeps for all agents; and the person's part of OAuth. */
#include "agent/cli/client.h"
#include "agent/cli/verbs.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/terminal.h"
#include "base/text.h"
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define LIST_MAX 32
#define STATE_MS 2000 /* how often a login is looked after */
#define LINE_MAX_BYTES 200

struct mcp_view {
	struct client *c;
	const char *name, *url; /* the words behind the command; NULL: not given */
	const char *type, *protocol, *command, *client_id, *client_secret;
	struct option_list headers, env, args, scopes;
	const char *header_words[LIST_MAX], *env_words[LIST_MAX], *arg_words[LIST_MAX], *scope_words[LIST_MAX];
	int status;
};

static const char *target_of(const json_t *server)
{
	const char *url = json_field(server, "url");

	return url[0] != '\0' ? url : json_field(server, "command");
}

static const char *login_of(const json_t *server)
{
	const json_t *in = json_object_get(server, "loggedIn");

	return in == NULL ? "-" : json_is_true(in) ? "yes" : "no";
}

static int mcp_ls(struct mcp_view *v)
{
	AUTO_JSON answer = NULL;
	const json_t *s;
	size_t i;

	if (client_call(v->c, "GET", "/v1/mcp-servers", NULL, &answer, &v->status) != OK)
		return v->status;
	json_array_foreach(json_object_get(answer, "items"), i, s)
	{
		AUTO_STR name = terminal_clean(json_field(s, "name"), TERMINAL_LINE);
		AUTO_STR scope = terminal_clean(json_field(s, "scope"), TERMINAL_LINE);
		AUTO_STR type = terminal_clean(json_field(s, "type"), TERMINAL_LINE);
		AUTO_STR target = terminal_clean(target_of(s), TERMINAL_LINE);

		if (v->c->json) {
			client_print_json(s);
			continue;
		}
		if (i == 0)
			printf("%-20s  %-5s  %-5s  %-9s  %s\n", "NAME", "SCOPE", "TYPE", "LOGGED IN", "SERVER");
		printf("%-20s  %-5s  %-5s  %-9s  %s\n", name, scope, type, login_of(s), target);
	}
	if (!v->c->json && i == 0)
		puts("no MCP servers are kept (agent mcp add)");
	return EXIT_DONE;
}

/* The server of that name, or id: the person's own before the team's. *ret_id: malloc'ed. */
static int find_server(struct mcp_view *v, char **ret_id)
{
	AUTO_JSON answer = NULL;
	const json_t *s;
	size_t i;

	if (client_call(v->c, "GET", "/v1/mcp-servers", NULL, &answer, &v->status) != OK)
		return v->status;
	json_array_foreach(json_object_get(answer, "items"), i,
	    s) if (*ret_id == NULL &&
		   (strcmp(json_field(s, "name"), v->name) == 0 || strcmp(json_field(s, "id"), v->name) == 0)) *ret_id =
	    str_dup(json_field(s, "id"));
	if (*ret_id != NULL)
		return EXIT_DONE;
	client_error("no MCP server is kept with the name %s (agent mcp ls)", v->name);
	return EXIT_REFUSED;
}

/* "Name: value" or "NAME=VALUE" into the object. */
static int put_pairs(json_t *server, const char *member, const struct option_list *list, char between)
{
	json_t *o = json_object();

	json_object_set_new(server, member, o);
	for (size_t i = 0; i < list->n; i++) {
		const char *at = strchr(list->v[i], between);
		AUTO_STR name = at != NULL ? str_ndup(list->v[i], (size_t)(at - list->v[i])) : NULL;

		if (at == NULL || at == list->v[i]) {
			client_error("--%s must be %s", between == ':' ? "header" : "env",
			    between == ':' ? "'NAME: VALUE'" : "NAME=VALUE");
			return EXIT_USAGE;
		}
		at++;
		while (between == ':' && *at == ' ')
			at++;
		json_put(o, name, at);
	}
	return EXIT_DONE;
}

static void put_words(json_t *o, const char *member, const struct option_list *list)
{
	json_t *words = json_array();

	for (size_t i = 0; i < list->n; i++)
		json_array_append_new(words, json_lossy(list->v[i], strlen(list->v[i])));
	json_object_set_new(o, member, words);
}

static int too_many(const struct mcp_view *v)
{
	const struct option_list *all[] = {&v->headers, &v->env, &v->args, &v->scopes};

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (all[i]->n > LIST_MAX) {
			client_error("an option may be given %d times", LIST_MAX);
			return EXIT_USAGE;
		}
	return EXIT_DONE;
}

static int mcp_add(struct mcp_view *v)
{
	AUTO_JSON server = json_object();
	AUTO_JSON answer = NULL;
	int status = too_many(v);

	if (status == EXIT_DONE && (v->url == NULL) == (v->command == NULL)) {
		client_error("give a URL, or --command: agent mcp add NAME URL");
		status = EXIT_USAGE;
	}
	json_put(server, "name", v->name);
	json_put(server, "type", v->type);
	json_put(server, "protocol", v->protocol);
	json_put(server, "url", v->url);
	json_put(server, "command", v->command);
	if (status == EXIT_DONE && v->headers.n > 0)
		status = put_pairs(server, "headers", &v->headers, ':');
	if (status == EXIT_DONE && v->env.n > 0)
		status = put_pairs(server, "env", &v->env, '=');
	if (v->args.n > 0)
		put_words(server, "args", &v->args);
	if (v->client_id != NULL) {
		json_t *auth = json_object();

		json_put(auth, "CLIENT_ID", v->client_id);
		json_put(auth, "CLIENT_SECRET", v->client_secret);
		if (v->scopes.n > 0)
			put_words(auth, "scopes", &v->scopes);
		json_object_set_new(server, "auth", auth);
	} else if (status == EXIT_DONE && (v->client_secret != NULL || v->scopes.n > 0)) {
		client_error("--client-secret and --scope go with --client-id");
		status = EXIT_USAGE;
	}
	if (status != EXIT_DONE || client_call(v->c, "POST", "/v1/mcp-servers", server, &answer, &status) != OK)
		return status;
	if (v->c->json)
		client_print_json(answer);
	else
		printf("added for %s\n", strcmp(json_field(answer, "scope"), "team") == 0 ? "the team" : "your agents");
	return EXIT_DONE;
}

static int act(struct mcp_view *v, const char *method, const char *what, json_t **ret)
{
	AUTO_STR id = NULL;
	AUTO_STR path = NULL;
	int status = find_server(v, &id);

	if (status != EXIT_DONE)
		return status;
	path = str_printf("/v1/mcp-servers/%s%s", id, what);
	if (client_call(v->c, method, path, NULL, ret, &v->status) != OK)
		return v->status;
	if (v->c->json)
		client_print_json(*ret);
	return EXIT_DONE;
}

static int mcp_rm(struct mcp_view *v)
{
	AUTO_JSON answer = NULL;
	int status = act(v, "DELETE", "", &answer);

	if (status == EXIT_DONE && !v->c->json)
		puts("removed");
	return status;
}

static int mcp_logout(struct mcp_view *v)
{
	AUTO_JSON answer = NULL;
	int status = act(v, "DELETE", "/login", &answer);

	if (status == EXIT_DONE && !v->c->json)
		puts("logged out");
	return status;
}

static int mcp_test(struct mcp_view *v)
{
	AUTO_JSON answer = NULL;
	int status = act(v, "POST", "/test", &answer);
	bool ready;
	const json_t *t;
	size_t i;

	if (status != EXIT_DONE)
		return status;
	ready = strcmp(json_field(answer, "state"), "ready") == 0;
	if (!v->c->json) {
		AUTO_STR state = terminal_clean(json_field(answer, "state"), TERMINAL_LINE);
		AUTO_STR reason = terminal_clean(json_field(answer, "reason"), TERMINAL_LINE);

		printf("%s%s%s\n", state, reason[0] != '\0' ? ": " : "", reason);
		json_array_foreach(json_object_get(answer, "tools"), i, t)
		{
			AUTO_STR name = terminal_clean(json_field(t, "name"), TERMINAL_LINE);
			AUTO_STR about = terminal_clean(json_field(t, "description"), TERMINAL_LINE);

			terminal_fit(&about, 90);
			printf("  %-28s  %s\n", name, about);
		}
	}
	return ready ? EXIT_DONE : EXIT_REFUSED;
}

/* The next line of standard input, if it comes in time. ERR_TIMEOUT, ERR_CLOSED. */
static int next_line(struct strbuf *b, int64_t ms, char **ret)
{
	int64_t until = clock_mono_ms() + ms;

	for (;;) {
		struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
		int64_t left = until - clock_mono_ms();
		char c;

		if (left <= 0 || poll(&p, 1, (int)left) <= 0)
			return ERR_TIMEOUT;
		if (read(STDIN_FILENO, &c, 1) != 1 || b->overflowed)
			return ERR_CLOSED;
		if (c == '\n') {
			AUTO_STR line = strbuf_take(b);

			*ret = text_trim(line);
			return OK;
		}
		strbuf_addc(b, c);
	}
}

/* Until the browser and the person are done. */
static int finish_login(struct mcp_view *v, const char *id)
{
	AUTO_STR look = str_printf("/v1/mcp-logins/%s", id);
	AUTO_STR confirm = str_printf("/v1/mcp-logins/%s/confirm", id);
	struct strbuf line = STRBUF(LINE_MAX_BYTES);
	int status = EXIT_REFUSED;

	for (;;) {
		AUTO_JSON answer = NULL;
		AUTO_STR code = NULL;
		const char *state;
		int rc = next_line(&line, STATE_MS, &code);

		if (rc == ERR_CLOSED) {
			client_error("no code was given");
			break;
		}
		if (rc == OK && code[0] != '\0') {
			AUTO_JSON body = json_object();

			json_put_new(body, "code", json_lossy(code, strlen(code)));
			if (client_call(v->c, "POST", confirm, body, NULL, &status) == OK) {
				status = EXIT_DONE;
				break;
			}
			/* A wrong code, or one too early, can be mended. */
			if (status != EXIT_USAGE && status != EXIT_REFUSED)
				break;
		}
		if (client_call(v->c, "GET", look, NULL, &answer, &status) != OK)
			break;
		state = json_field(answer, "state");
		status = EXIT_REFUSED;
		if (strcmp(state, "failed") == 0 || strcmp(state, "expired") == 0) {
			client_error("the login %s%s%s", strcmp(state, "failed") == 0 ? "failed" : "took too long",
			    json_field(answer, "message")[0] != '\0' ? ": " : "", json_field(answer, "message"));
			break;
		}
	}
	strbuf_fini(&line);
	return status;
}

static int mcp_login(struct mcp_view *v)
{
	AUTO_STR id = NULL;
	AUTO_STR path = NULL;
	AUTO_JSON begun = NULL;
	int status = find_server(v, &id);

	if (status != EXIT_DONE)
		return status;
	path = str_printf("/v1/mcp-servers/%s/login", id);
	if (client_call(v->c, "POST", path, NULL, &begun, &v->status) != OK)
		return v->status;
	if (v->c->json) {
		client_print_json(begun);
	} else {
		AUTO_STR url = terminal_clean(json_field(begun, "authorizeUrl"), TERMINAL_LINE);

		printf("Open this in your browser:\n\n  %s\n\nThen type the code that it shows: ", url);
	}
	fflush(stdout);
	status = finish_login(v, json_field(begun, "id"));
	if (status == EXIT_DONE && !v->c->json)
		puts("\nlogged in");
	return status;
}

static const struct {
	const char *name;
	size_t words; /* behind it */
	int (*run)(struct mcp_view *v);
} commands[] = {{"ls", 0, mcp_ls}, {"add", 2, mcp_add}, {"rm", 1, mcp_rm}, {"login", 1, mcp_login},
    {"logout", 1, mcp_logout}, {"test", 1, mcp_test}};

static int run_command(struct mcp_view *v, const struct option_words *words)
{
	const char *name = words->n > 0 ? words->v[0] : "ls";

	v->name = words->n > 1 ? words->v[1] : NULL;
	v->url = words->n > 2 ? words->v[2] : NULL;
	for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
		if (strcmp(commands[i].name, name) != 0)
			continue;
		if (commands[i].words > 0 && v->name == NULL) {
			client_error("name the server: agent mcp %s NAME", name);
			return EXIT_USAGE;
		}
		if (words->n > commands[i].words + 1) {
			client_error("unexpected argument '%s'", words->v[commands[i].words + 1]);
			return EXIT_USAGE;
		}
		return commands[i].run(v);
	}
	client_error("unknown command '%s': ls, add, rm, login, logout or test", name);
	return EXIT_USAGE;
}

int verb_mcp(int argc, char **argv)
{
	struct mcp_view v = {0};
	const struct option_row rows[] = {{.name = "type",
					      .value = "TYPE",
					      .text = &v.type,
					      .help = "add: http (the default), or sse for the older transport"},
	    {.name = "protocol",
		.value = "WHICH",
		.text = &v.protocol,
		.help = "add: auto (the default), legacy, or modern: revision 2026-07-28 only"},
	    {.name = "header",
		.value = "'NAME: VALUE'",
		.list = &v.headers,
		.help = "add: sent with each request; may be repeated"},
	    {.name = "client-id",
		.value = "ID",
		.text = &v.client_id,
		.help = "add: the OAuth client, if the server registers none"},
	    {.name = "client-secret", .value = "SECRET", .text = &v.client_secret, .help = "add: of that client"},
	    {.name = "scope",
		.value = "SCOPE",
		.list = &v.scopes,
		.help = "add: what to ask for at the login; may be repeated"},
	    {.name = "command",
		.value = "PROGRAM",
		.text = &v.command,
		.help = "add: instead of a URL, a program that workers start"},
	    {.name = "arg", .value = "ARG", .list = &v.args, .help = "add: its arguments, one each"},
	    {.name = "env", .value = "NAME=VALUE", .list = &v.env, .help = "add: its variables, one each"}, {0}};
	const struct options verb = {.usage = "agent mcp [ls] [options]\nagent mcp add NAME URL [options]\n"
					      "agent mcp rm|login|logout|test NAME",
	    .about =
		"Keeps MCP servers for all your agents; with a service account's key, for the team. `login` allows\n"
		"Bullpen to use a server in your name, `test` lists the tools of one with a URL.",
	    .rows = rows,
	    .footer = CLIENT_EXIT_STATUS "."};
	struct option_words words;
	struct client c = {0};
	int status = EXIT_USAGE;

	v.c = &c;
	v.headers = (struct option_list){.v = v.header_words, .max = LIST_MAX};
	v.env = (struct option_list){.v = v.env_words, .max = LIST_MAX};
	v.args = (struct option_list){.v = v.arg_words, .max = LIST_MAX};
	v.scopes = (struct option_list){.v = v.scope_words, .max = LIST_MAX};
	if (client_parse(&c, argc, argv, &verb, 3, &words, &status) == OK)
		status = run_command(&v, &words);
	client_fini(&c);
	return status;
}
