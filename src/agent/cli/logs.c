/* agent logs and agent cancel. */
#include "agent/cli/find.h"
#include "agent/cli/follow.h"
#include "agent/cli/verbs.h"
#include "base/mem.h"

static const char logs_usage[] =
    "Usage: agent logs RUN|AGENT [-f] [--json] [--endpoint URL] [--api-key KEY]\n"
    "Shows what a run did (of an agent: its latest run). -f follows it until it ends; Ctrl-C then\n"
    "cancels it.\n";
static const char cancel_usage[] = "Usage: agent cancel RUN|AGENT [--json] [--endpoint URL] [--api-key KEY]\n"
				   "Cancels a run (of an agent: its latest run).\n";

int verb_logs(int argc, char **argv)
{
	bool follow = false;
	const struct client_option options[] = {{"--follow", "-f", NULL, &follow}, {0}};
	struct target t = {0};
	struct client c = {0};
	const char *id = NULL;
	int status = 2;

	if (client_parse(&c, argc, argv, options, logs_usage, &id, 1, &status) == OK) {
		if (id == NULL)
			client_error("name a run or an agent: agent logs RUN|AGENT");
		else if (find_target(&c, id, &t, &status) == OK)
			status = follow_run(&c, t.agent_id, t.run_id, follow);
	}
	target_fini(&t);
	client_fini(&c);
	return status;
}

static int cancel(struct client *c, const struct target *t)
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
	return 0;
}

int verb_cancel(int argc, char **argv)
{
	const struct client_option options[] = {{0}};
	struct target t = {0};
	struct client c = {0};
	const char *id = NULL;
	int status = 2;

	if (client_parse(&c, argc, argv, options, cancel_usage, &id, 1, &status) == OK) {
		if (id == NULL)
			client_error("name a run or an agent: agent cancel RUN|AGENT");
		else if (find_target(&c, id, &t, &status) == OK)
			status = cancel(&c, &t);
	}
	target_fini(&t);
	client_fini(&c);
	return status;
}
