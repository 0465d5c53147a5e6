/* agent ls: the caller's agents, newest first, and why those that wait do. */
#include "agent/cli/find.h"
#include "agent/cli/verbs.h"
#include "base/mem.h"
#include "base/terminal.h"
#include "base/text.h"
#include <string.h>

#define NAME_COLUMN 83
#define NAME_LEAST 20 /* columns: a narrower window wraps */

struct listing {
	struct client *c;
	int status;
	size_t n;
};

static int load_run(struct listing *l, const json_t *agent, json_t **ret)
{
	AUTO_STR path = str_printf("/v1/agents/%s/runs/%s", json_field(agent, "id"), json_field(agent, "latestRunId"));

	return client_call(l->c, "GET", path, NULL, ret, &l->status);
}

static int show_agent(void *ctx, const json_t *agent)
{
	struct listing *l = ctx;
	AUTO_JSON run = NULL;
	int rc = load_run(l, agent, &run);

	if (rc != OK)
		return rc;
	if (l->c->json) {
		AUTO_JSON line = json_copy((json_t *)agent);

		json_object_set(line, "run", run);
		client_print_json(line);
		return OK;
	}
	const char *why = json_field(json_object_get(run, "wait"), "text");
	size_t columns = terminal_columns();

	if (why[0] == '\0')
		why = json_field(json_object_get(run, "error"), "message");
	AUTO_STR name = terminal_clean(json_field(agent, "name"), TERMINAL_LINE);
	AUTO_STR reason = terminal_clean(why, TERMINAL_LINE);
	AUTO_STR id = terminal_clean(json_field(agent, "id"), TERMINAL_LINE);
	AUTO_STR state = terminal_clean(json_field(agent, "status"), TERMINAL_LINE);
	AUTO_STR run_state = terminal_clean(json_field(run, "status"), TERMINAL_LINE);
	AUTO_STR created = terminal_clean(json_field(agent, "createdAt"), TERMINAL_LINE);

	if (columns > 0) {
		terminal_fit(&name, MAX(columns, (size_t)NAME_COLUMN + NAME_LEAST) - NAME_COLUMN);
		terminal_fit(&reason, MAX(columns, (size_t)NAME_COLUMN) - 41);
	}

	if (l->n++ == 0)
		printf("%-39s  %-8s  %-9s  %-19s  %s\n", "AGENT", "STATUS", "RUN", "CREATED", "NAME");
	printf("%-39s  %-8s  %-9s  %.19s  %s\n", id, state, run_state, created, name);
	if (reason[0] != '\0')
		printf("%41s%s\n", "", reason);
	return OK;
}

int verb_ls(int argc, char **argv)
{
	const char *limit_text = NULL;
	bool archived = false;
	const struct option_row rows[] = {
	    {.name = "archived", .given = &archived, .help = "also those that were put away"},
	    {.name = "limit", .letter = 'n', .value = "N", .text = &limit_text, .help = "at most so many; default: 20"},
	    {0}};
	const struct options verb = {.usage = "agent ls [options]",
	    .about = "Lists your agents, newest first, with the state of the latest run and, if it waits, why.",
	    .rows = rows,
	    .footer = CLIENT_EXIT_STATUS "."};
	struct option_words words;
	struct client c = {0};
	struct listing l = {.c = &c};
	int64_t limit = 20;
	int status = EXIT_USAGE;

	if (client_parse(&c, argc, argv, &verb, 0, &words, &status) == OK) {
		if (limit_text != NULL && text_parse_int(limit_text, 1, 100000, &limit) != OK)
			client_error("--limit must be a number from 1 to 100000");
		else
			status = each_agent(&c, archived, (size_t)limit, show_agent, &l, &l.status) == OK ? EXIT_DONE
													  : l.status;
		if (status == EXIT_DONE && l.n == 0 && !c.json)
			puts(archived ? "no agents yet" : "no agents (--archived shows those that were put away)");
	}
	client_fini(&c);
	return status;
}
