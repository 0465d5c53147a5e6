/* The `agent` program: finds the verb. */
#include "agent/cli/verb.h"
#include "agent/cli/verbs.h"
#include "agent/worker/worker.h"
#include "base/macros.h"
#include "base/mem.h"
#include <string.h>

static const struct verb verbs[] = {
    {"run", "start an agent and show its run: agent run \"PROMPT\"", verb_run},
    {"ls", "list your agents, and why those that wait do", verb_ls},
    {"logs", "show what a run did: agent logs RUN|AGENT [-f]", verb_logs},
    {"cancel", "cancel a run: agent cancel RUN|AGENT", verb_cancel},
    {"worker", "serve agents on this machine: agent worker start --pool NAME", worker_main},
};

static int usage(FILE *to)
{
	fprintf(to, "Usage: agent [--api-key KEY] VERB [options]\n\nVerbs\n");
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		fprintf(to, "  %-10s %s\n", verbs[i].name, verbs[i].usage);
	fprintf(to, "\n  -v, --version    print the version\n  -h, --help       this text; also after a verb\n");
	return to == stdout ? 0 : 2;
}

/* Options before the verb go behind it: `agent --api-key K worker …` is `agent worker --api-key K …`. */
static int run_verb(const struct verb *verb, int argc, char **argv, int at)
{
	char **moved = mem_alloc((size_t)(argc + 1) * sizeof *moved);
	int n = 0, status;

	moved[n++] = argv[at];
	for (int i = 1; i < at; i++)
		moved[n++] = argv[i];
	for (int i = at + 1; i < argc; i++)
		moved[n++] = argv[i];
	moved[n] = NULL;
	status = verb->main(n, moved);
	free(moved);
	return status;
}

int main(int argc, char **argv)
{
	int at = 1;

	while (at < argc && argv[at][0] == '-') {
		const char *arg = argv[at];

		if (strcmp(arg, "--version") == 0 || strcmp(arg, "-v") == 0) {
			puts(BULLPEN_VERSION);
			return 0;
		}
		if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)
			return usage(stdout);
		if (strcmp(arg, "--api-key") != 0 && strncmp(arg, "--api-key=", 10) != 0) {
			fprintf(stderr, "error: unknown option %.100s\n", arg);
			return 2;
		}
		at += strcmp(arg, "--api-key") == 0 ? 2 : 1;
	}
	if (at >= argc)
		return usage(stderr);
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (strcmp(verbs[i].name, argv[at]) == 0)
			return run_verb(&verbs[i], argc, argv, at);
	fprintf(stderr, "error: unknown command %.100s (see agent --help)\n", argv[at]);
	return 2;
}
