/* agent automations: what begins by itself, and beginning it now. */
#include "agent/cli/client.h"
#include "agent/cli/verbs.h"
#include "base/mem.h"
#include "base/terminal.h"
#include <string.h>

struct automations_view {
	struct client *c;
	const char *name; /* or id; NULL: not given */
	int status;
};

/* All there may be: an owner has at most a hundred. */
static int load_all(struct automations_view *v, json_t **ret)
{
	return client_call(v->c, "GET", "/v1/automations?limit=100", NULL, ret, &v->status);
}

static const char *starts_of(const json_t *a)
{
	const char *cron = json_field(json_object_get(a, "schedule"), "cron");

	if (!json_is_true(json_object_get(a, "enabled")))
		return "switched off";
	return cron[0] != '\0' ? cron : json_object_get(a, "webhook") != NULL ? "webhook" : "on request";
}

static int automations_ls(struct automations_view *v)
{
	AUTO_JSON answer = NULL;
	const json_t *a;
	size_t i;

	if (load_all(v, &answer) != OK)
		return v->status;
	json_array_foreach(json_object_get(answer, "items"), i, a)
	{
		AUTO_STR id = terminal_clean(json_field(a, "id"), TERMINAL_LINE);
		AUTO_STR starts = terminal_clean(starts_of(a), TERMINAL_LINE);
		AUTO_STR next = terminal_clean(json_field(a, "nextRunAt"), TERMINAL_LINE);
		AUTO_STR name = terminal_clean(json_field(a, "name"), TERMINAL_LINE);

		if (v->c->json) {
			client_print_json(a);
			continue;
		}
		if (i == 0)
			printf("%-41s  %-20s  %-19s  %s\n", "AUTOMATION", "STARTS", "NEXT (UTC)", "NAME");
		printf("%-41s  %-20s  %-19.19s  %s\n", id, starts, next[0] != '\0' ? next : "-", name);
	}
	if (!v->c->json && i == 0)
		puts("no automations (docs/automations.md)");
	return EXIT_DONE;
}

/* By id, or by a name that only one has. *ret_id: malloc'ed. */
static int find_automation(struct automations_view *v, char **ret_id)
{
	AUTO_JSON answer = NULL;
	AUTO_STR by_name = NULL;
	const json_t *a;
	size_t i, named = 0;

	if (load_all(v, &answer) != OK)
		return v->status;
	json_array_foreach(json_object_get(answer, "items"), i, a)
	{
		if (strcmp(json_field(a, "id"), v->name) == 0) {
			*ret_id = str_dup(v->name);
			return EXIT_DONE;
		}
		if (strcmp(json_field(a, "name"), v->name) == 0 && named++ == 0)
			by_name = str_dup(json_field(a, "id"));
	}
	if (named == 1) {
		*ret_id = TAKE(by_name);
		return EXIT_DONE;
	}
	client_error(named == 0
			 ? "you have no automation %s (agent automations ls)"
			 : "several of your automations are called %s: name one by its id (agent automations ls)",
	    v->name);
	return EXIT_REFUSED;
}

static void print_run(const struct automations_view *v, const json_t *r)
{
	AUTO_STR at = terminal_clean(json_field(r, "at"), TERMINAL_LINE);
	AUTO_STR cause = terminal_clean(json_field(r, "cause"), TERMINAL_LINE);
	AUTO_STR state = terminal_clean(json_field(r, "state"), TERMINAL_LINE);
	AUTO_STR agent = terminal_clean(json_field(r, "agentId"), TERMINAL_LINE);
	AUTO_STR reason = terminal_clean(json_field(r, "reason"), TERMINAL_LINE);

	if (v->c->json)
		client_print_json(r);
	else
		printf("%.19s  %-8s  %-7s  %s%s%s\n", at, cause, state, agent,
		    agent[0] != '\0' && reason[0] != '\0' ? "  " : "", reason);
}

static int automations_run(struct automations_view *v)
{
	AUTO_STR id = NULL;
	AUTO_STR path = NULL;
	AUTO_JSON answer = NULL;
	int status = find_automation(v, &id);

	if (status != EXIT_DONE)
		return status;
	path = str_printf("/v1/automations/%s/run", id);
	if (client_call(v->c, "POST", path, NULL, &answer, &v->status) != OK)
		return v->status;
	print_run(v, answer);
	return EXIT_DONE;
}

static int automations_log(struct automations_view *v)
{
	AUTO_STR id = NULL;
	AUTO_STR path = NULL;
	AUTO_JSON answer = NULL;
	const json_t *r;
	size_t i;
	int status = find_automation(v, &id);

	if (status != EXIT_DONE)
		return status;
	path = str_printf("/v1/automations/%s/runs?limit=100", id);
	if (client_call(v->c, "GET", path, NULL, &answer, &v->status) != OK)
		return v->status;
	json_array_foreach(json_object_get(answer, "items"), i, r) print_run(v, r);
	if (!v->c->json && i == 0)
		puts("it has not begun yet");
	return EXIT_DONE;
}

int verb_automations(int argc, char **argv)
{
	static const struct {
		const char *name;
		bool named;
		int (*run)(struct automations_view *v);
	} commands[] = {{"ls", false, automations_ls}, {"run", true, automations_run}, {"log", true, automations_log}};
	const struct option_row rows[] = {{0}};
	const struct options verb = {.usage = "agent automations [ls]\nagent automations run|log NAME|ID",
	    .about = "Your agents that begin by a schedule or a webhook: which there are, beginning one now, and what\n"
		     "became of its last hundred times.",
	    .rows = rows,
	    .footer = CLIENT_EXIT_STATUS "."};
	struct automations_view v = {0};
	struct option_words words;
	struct client c = {0};
	int status = EXIT_USAGE;

	v.c = &c;
	if (client_parse(&c, argc, argv, &verb, 2, &words, &status) == OK) {
		const char *name = words.n > 0 ? words.v[0] : "ls";
		size_t i = 0;

		v.name = words.n > 1 ? words.v[1] : NULL;
		status = EXIT_USAGE;
		while (i < ARRAY_LEN(commands) && strcmp(commands[i].name, name) != 0)
			i++;
		if (i == ARRAY_LEN(commands))
			client_error("unknown command '%s': ls, run or log", name);
		else if (commands[i].named && v.name == NULL)
			client_error("name the automation: agent automations %s NAME", name);
		else if (!commands[i].named && v.name != NULL)
			client_error("unexpected argument '%s'", v.name);
		else
			status = commands[i].run(&v);
	}
	client_fini(&c);
	return status;
}
