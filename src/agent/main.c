/* The `agent` program: finds the verb. */
#include "agent/cli/verb.h"
#include "agent/cli/verbs.h"
#include "agent/controller/controller.h"
#include "agent/exit_status.h"
#include "agent/worker/worker.h"
#include "base/log.h"
#include "base/macros.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/terminal.h"
#include <string.h>

/* `agent worker controller` has options of its own, which may stand before the word, too. It is the first word that is
 * not the value of one of them; --pool takes a value, but never this one. */
static bool is_controller(int argc, char **argv)
{
	static const char *const valued[] = {"--spawn", "--warm-idle", "--repository", "--api-key", "--endpoint", "-e",
	    "--pool-name", "--worker-dir", "--label", "--labels-file", "--name", "--worker-id", "--data-dir"};

	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		bool value = false;

		for (size_t k = 0; k < ARRAY_LEN(valued); k++)
			value |= strcmp(argv[i - 1], valued[k]) == 0;
		if (!value && strcmp(argv[i], "controller") == 0)
			return true;
	}
	return false;
}

static int worker_or_controller(int argc, char **argv)
{
	return is_controller(argc, argv) ? controller_main(argc, argv) : worker_main(argc, argv);
}

static const struct verb verbs[] = {
    {"run", "start an agent and show its run: agent run \"PROMPT\"", verb_run},
    {"send", "give an agent its next prompt: agent send AGENT \"PROMPT\"", verb_send},
    {"ls", "list your agents, and why those that wait do", verb_ls},
    {"logs", "show what a run did: agent logs RUN|AGENT [-f]", verb_logs},
    {"cancel", "cancel a run: agent cancel RUN|AGENT", verb_cancel},
    {"archive", "put an agent away: agent archive AGENT", verb_archive},
    {"unarchive", "bring it back: agent unarchive AGENT", verb_unarchive},
    {"delete", "delete an agent for good: agent delete AGENT", verb_delete},
    {"usage", "show the tokens that were used: agent usage AGENT|RUN", verb_usage},
    {"artifacts", "list the files an agent left, or get one: agent artifacts AGENT [get PATH]", verb_artifacts},
    {"why", "say why a run waits: agent why AGENT|RUN", verb_why},
    {"fleet", "show workers, pools and the queue: agent fleet [workers|pools|queue]", verb_fleet},
    {"automations", "show what begins by itself, or begin it: agent automations [run NAME]", verb_automations},
    {"mcp", "keep MCP servers, and log in to them: agent mcp [add|rm|login|logout|test]", verb_mcp},
    {"skills", "show or check the rules, skills, commands and subagents of a folder", verb_skills},
    {"hooks", "show or try the hooks of a folder: agent hooks ls|test EVENT", verb_hooks},
    {"completion", "print a script for the shell: agent completion bash|zsh|fish", verb_completion},
    {"worker", "serve agents on this machine: agent worker start [--pool NAME]", worker_or_controller},
};

static int print_usage(const struct options *o, FILE *to)
{
	options_help(o, to);
	fprintf(to, "\nVerbs; each has --help\n");
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		fprintf(to, "  %-11s %s\n", verbs[i].name, verbs[i].usage);
	fprintf(to, "  %-11s %s\n", "help", "this text, or that of a verb: agent help VERB");
	return to == stdout ? EXIT_DONE : EXIT_USAGE;
}

static const struct verb *verb_named(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

static int refuse_verb(const char *name)
{
	AUTO_STR clean = terminal_clean(name, TERMINAL_LINE);

	fprintf(stderr, "error: unknown command %.100s (see agent --help)\n", clean);
	return EXIT_USAGE;
}

/* `agent help worker start` is `agent worker help start`. */
static int help_verb(int argc, char **argv, int at, const struct options *o)
{
	const struct verb *verb = at + 1 < argc ? verb_named(argv[at + 1]) : NULL;

	if (at + 1 >= argc || strncmp(argv[at + 1], "-", 1) == 0)
		return print_usage(o, stdout);
	if (verb == NULL)
		return refuse_verb(argv[at + 1]);
	argv[at] = argv[at + 1];
	argv[at + 1] = (char[]){"help"};
	return verb->main(argc - at, argv + at);
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
		AUTO_STR clean = terminal_clean(why.text, TERMINAL_LINE);

		fprintf(stderr, "error: %s\n", clean);
		return EXIT_USAGE;
	}
	if (version) {
		puts(BULLPEN_VERSION);
		return 0;
	}
	if (at >= argc)
		return print_usage(&o, stderr);
	if (strcmp(argv[at], "help") == 0)
		return help_verb(argc, argv, at, &o);
	if (verb_named(argv[at]) == NULL)
		return refuse_verb(argv[at]);
	return run_verb(verb_named(argv[at]), argc, argv, at);
}
