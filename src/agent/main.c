/* The `agent` program: finds the verb. */
#include "agent/cli/verb.h"
#include "agent/cli/verbs.h"
#include "agent/worker/worker.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/mem.h"
#include "base/options.h"
#include <string.h>

static const struct verb verbs[] = {
    {"run", "start an agent and show its run: agent run \"PROMPT\"", verb_run},
    {"ls", "list your agents, and why those that wait do", verb_ls},
    {"logs", "show what a run did: agent logs RUN|AGENT [-f]", verb_logs},
    {"cancel", "cancel a run: agent cancel RUN|AGENT", verb_cancel},
    {"worker", "serve agents on this machine: agent worker start --pool NAME", worker_main},
};

static int print_usage(const struct options *o, FILE *to)
{
	options_help(o, to);
	fprintf(to, "\nVerbs; each has --help\n");
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		fprintf(to, "  %-10s %s\n", verbs[i].name, verbs[i].usage);
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
	const char *key = NULL; /* the verb reads it again */
	bool version = false;
	const struct option_row rows[] = {
	    {.name = "api-key", .value = "KEY", .text = &key, .help = "the API key; default: CURSOR_API_KEY"},
	    {.name = "version", .letter = 'v', .given = &version, .help = "print the version"}, {0}};
	const struct options o = {.usage = "agent [--api-key KEY] VERB [options]", .rows = rows, .stop_at_word = true};
	struct option_words words;
	struct why why = {0};
	int rc, at;

	log_hold_standard_files();
	rc = options_parse(&o, argc, argv, 0, &words, &why);
	at = words.end;
	if (rc == ERR_EMPTY)
		return print_usage(&o, stdout);
	if (rc != OK) {
		fprintf(stderr, "error: %s\n", why.text);
		return 2;
	}
	if (version) {
		puts(BULLPEN_VERSION);
		return 0;
	}
	if (at >= argc)
		return print_usage(&o, stderr);
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (strcmp(verbs[i].name, argv[at]) == 0)
			return run_verb(&verbs[i], argc, argv, at);
	fprintf(stderr, "error: unknown command %.100s (see agent --help)\n", argv[at]);
	return 2;
}
