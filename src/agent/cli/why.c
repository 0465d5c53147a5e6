/* agent why: why a run waits, and how near it is to a worker. */
#include "agent/cli/why.h"
#include "agent/cli/find.h"
#include "agent/cli/verbs.h"
#include "base/mem.h"
#include "base/terminal.h"
#include <string.h>

static void print_nearest(const json_t *worker, const char *indent)
{
	const char *name = json_field(worker, "name"), *id = json_field(worker, "workerId");
	AUTO_STR clean_name = terminal_clean(name[0] != '\0' ? name : "a worker", TERMINAL_LINE);
	AUTO_STR clean_id = terminal_clean(id, TERMINAL_LINE);
	const json_t *blocked = json_object_get(worker, "blockedBy");
	json_t *line;
	size_t i;

	printf("%s  %s%s%s%s\n", indent, clean_name, id[0] && strcmp(id, name) != 0 ? " (" : "",
	    id[0] && strcmp(id, name) != 0 ? clean_id : "", id[0] && strcmp(id, name) != 0 ? ")" : "");
	if (json_array_size(blocked) == 0)
		printf("%s    nothing stands in the way: it is being assigned\n", indent);
	json_array_foreach((json_t *)blocked, i, line)
	{
		AUTO_STR clean =
		    terminal_clean(json_string_value(line) != NULL ? json_string_value(line) : "", TERMINAL_LINE);

		printf("%s    %s\n", indent, clean);
	}
}

void why_print(const json_t *wait, const char *indent)
{
	AUTO_STR text = terminal_clean(json_field(wait, "text"), TERMINAL_LINE);
	AUTO_STR code = terminal_clean(json_field(wait, "code"), TERMINAL_LINE);
	AUTO_STR since = terminal_clean(json_field(wait, "since"), TERMINAL_LINE);
	const json_t *nearest = json_object_get(wait, "nearest");
	json_t *worker;
	size_t i;

	printf("%s%s (%s, since %.19s)\n", indent, text, code, since);
	if (json_array_size(nearest) > 0)
		printf("%snearest workers:\n", indent);
	json_array_foreach((json_t *)nearest, i, worker) print_nearest(worker, indent);
}

static void print_state(const json_t *agent, const json_t *run)
{
	AUTO_STR id = terminal_clean(json_field(agent, "id"), TERMINAL_LINE);
	AUTO_STR name = terminal_clean(json_field(agent, "name"), TERMINAL_LINE);
	AUTO_STR status = terminal_clean(json_field(run, "status"), TERMINAL_LINE);
	AUTO_STR error = terminal_clean(json_field(json_object_get(run, "error"), "message"), TERMINAL_LINE);
	const json_t *wait = json_object_get(run, "wait");
	AUTO_STR worker = terminal_clean(json_field(json_object_get(run, "worker"), "name"), TERMINAL_LINE);

	printf("%s  %s\n", id, name);
	if (wait != NULL) {
		printf("%s, it waits: ", status);
		why_print(wait, "");
	} else if (strcmp(status, "CREATING") == 0 || strcmp(status, "RUNNING") == 0) {
		printf("%s%s%s; it does not wait\n", status, worker[0] ? " on worker " : "", worker);
	} else {
		printf("%s%s%s; it does not wait\n", status, error[0] ? ": " : "", error);
	}
}

static int show_why(struct client *c, const struct target *t)
{
	AUTO_STR agent_path = str_printf("/v1/agents/%s", t->agent_id);
	AUTO_STR run_path = str_printf("/v1/agents/%s/runs/%s", t->agent_id, t->run_id);
	AUTO_JSON agent = NULL;
	AUTO_JSON run = NULL;
	int status = EXIT_FAILED;

	if (client_call(c, "GET", agent_path, NULL, &agent, &status) != OK ||
	    client_call(c, "GET", run_path, NULL, &run, &status) != OK)
		return status;
	if (c->json) {
		AUTO_JSON line = json_pack("{s:s, s:s, s:s, s:O?}", "id", t->agent_id, "runId", t->run_id, "status",
		    json_field(run, "status"), "wait", json_object_get(run, "wait"));

		client_print_json(line);
	} else {
		print_state(agent, run);
	}
	return EXIT_DONE;
}

int verb_why(int argc, char **argv)
{
	const struct options verb = {.usage = "agent why AGENT|RUN [options]",
	    .about = "Says why a run (of an agent: its latest run) waits, and which label, state or limit keeps the "
		     "nearest\n"
		     "workers from taking it.",
	    .footer = CLIENT_EXIT_STATUS "."};
	struct option_words words;
	struct target t = {0};
	struct client c = {0};
	int status = EXIT_USAGE;

	if (client_parse(&c, argc, argv, &verb, 1, &words, &status) == OK) {
		if (words.n == 0)
			client_error("name an agent or a run: agent why AGENT|RUN");
		else if (find_target(&c, words.v[0], &t, &status) == OK)
			status = show_why(&c, &t);
	}
	target_fini(&t);
	client_fini(&c);
	return status;
}
