/* agent logs and agent cancel. */
#include "agent/cli/find.h"
#include "agent/cli/follow.h"
#include "agent/cli/verbs.h"
#include "base/mem.h"

int verb_logs(int argc, char **argv)
{
	bool follow = false;
	const struct option_row rows[] = {{.name = "follow",
					      .letter = 'f',
					      .given = &follow,
					      .help = "follow it until it ends; Ctrl-C leaves it, the run goes on"},
	    {0}};
	const struct options verb = {.usage = "agent logs RUN|AGENT [options]",
	    .about = "Shows what a run did (of an agent: its latest run), in the order of its log.",
	    .rows = rows,
	    .footer = CLIENT_EXIT_STATUS ";\nwith -f those of the run: 1 it failed, 130 it was cancelled, or Ctrl-C."};
	struct option_words words;
	struct target t = {0};
	struct client c = {0};
	int status = EXIT_USAGE;

	if (client_parse(&c, argc, argv, &verb, 1, &words, &status) == OK) {
		if (words.n == 0)
			client_error("name a run or an agent: agent logs RUN|AGENT");
		else if (find_target(&c, words.v[0], &t, &status) == OK)
			status = follow_run(&c, t.agent_id, t.run_id, follow ? FOLLOW_WATCH : FOLLOW_STORED);
	}
	target_fini(&t);
	client_fini(&c);
	return status;
}

static int logs_cancel_run(struct client *c, const struct target *t)
{
	AUTO_STR path = str_printf("/v1/agents/%s/runs/%s/cancel", t->agent_id, t->run_id);
	AUTO_JSON answer = NULL;
	int status = 0;

	if (client_call(c, "POST", path, NULL, &answer, &status) != OK)
		return status;
	if (c->json)
		client_print_json(answer);
	else
		printf("cancelled %s\n", t->run_id);
	return EXIT_DONE;
}

int verb_cancel(int argc, char **argv)
{
	const struct options verb = {.usage = "agent cancel RUN|AGENT [options]",
	    .about = "Cancels a run (of an agent: its latest run).",
	    .footer = CLIENT_EXIT_STATUS "."};
	struct option_words words;
	struct target t = {0};
	struct client c = {0};
	int status = EXIT_USAGE;

	if (client_parse(&c, argc, argv, &verb, 1, &words, &status) == OK) {
		if (words.n == 0)
			client_error("name a run or an agent: agent cancel RUN|AGENT");
		else if (find_target(&c, words.v[0], &t, &status) == OK)
			status = logs_cancel_run(&c, &t);
	}
	target_fini(&t);
	client_fini(&c);
	return status;
}
