/* agent usage: what the runs of an agent cost in tokens. */
#include "agent/cli/find.h"
#include "agent/cli/verbs.h"
#include "base/mem.h"
#include "base/terminal.h"
#include <strings.h>

static void print_row(const char *of, const json_t *usage)
{
	static const char *const kinds[] = {
	    "inputTokens", "outputTokens", "cacheReadTokens", "cacheWriteTokens", "totalTokens"};
	AUTO_STR name = terminal_clean(of, TERMINAL_LINE);

	printf("%-40s", name);
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		printf("  %11lld", (long long)json_integer_value(json_object_get(usage, kinds[i])));
	putchar('\n');
}

static void print_usage_table(const json_t *answer)
{
	size_t i;
	json_t *run;

	printf("%-40s  %11s  %11s  %11s  %11s  %11s\n", "RUN", "INPUT", "OUTPUT", "CACHE READ", "CACHE WRITE", "TOTAL");
	json_array_foreach(json_object_get(answer, "runs"), i, run)
	{
		print_row(json_field(run, "id"), json_object_get(run, "usage"));
	}
	print_row("all", json_object_get(answer, "totalUsage"));
}

static int show_usage(struct client *c, const char *id)
{
	struct target t = {0};
	AUTO_JSON answer = NULL;
	int status = EXIT_USAGE;

	if (find_target(c, id, &t, &status) == OK) {
		bool one = strncasecmp(id, "run-", 4) == 0;
		AUTO_STR path =
		    str_printf("/v1/agents/%s/usage%s%s", t.agent_id, one ? "?runId=" : "", one ? t.run_id : "");

		if (client_call(c, "GET", path, NULL, &answer, &status) == OK) {
			status = EXIT_DONE;
			if (c->json)
				client_print_json(answer);
			else
				print_usage_table(answer);
		}
	}
	target_fini(&t);
	return status;
}

int verb_usage(int argc, char **argv)
{
	const struct options verb = {.usage = "agent usage AGENT|RUN [options]",
	    .about = "Shows the tokens that the runs of an agent, or one run, have used.",
	    .footer = CLIENT_EXIT_STATUS "."};
	struct option_words words;
	struct client c = {0};
	int status = EXIT_USAGE;

	if (client_parse(&c, argc, argv, &verb, 1, &words, &status) == OK) {
		if (words.n == 0)
			client_error("name an agent or a run: agent usage AGENT");
		else
			status = show_usage(&c, words.v[0]);
	}
	client_fini(&c);
	return status;
}
