/* agent archive, unarchive and delete. */
#include "agent/cli/find.h"
#include "agent/cli/verbs.h"
#include "base/id.h"
#include "base/mem.h"

static int change_agent(struct client *c, const char *agent, const char *method, const char *what, const char *done)
{
	AUTO_STR id = str_dup(agent);
	AUTO_STR path = NULL;
	AUTO_JSON answer = NULL;
	int status = 0;

	id_lower(id);
	if (!id_is(id, "bc-")) {
		client_error("'%.80s' is no agent (bc-…)", agent);
		return EXIT_USAGE;
	}
	path = str_printf("/v1/agents/%s%s", id, what);
	if (client_call(c, method, path, NULL, &answer, &status) != OK)
		return status;
	if (c->json)
		client_print_json(answer);
	else
		printf("%s %s\n", done, id);
	return EXIT_DONE;
}

static int lifecycle_verb(
    int argc, char **argv, const struct options *verb, const char *method, const char *what, const char *done)
{
	struct option_words words;
	struct client c = {0};
	int status = EXIT_USAGE;

	if (client_parse(&c, argc, argv, verb, 1, &words, &status) == OK) {
		if (words.n == 0)
			client_error("name an agent: agent %s AGENT", argv[0]);
		else
			status = change_agent(&c, words.v[0], method, what, done);
	}
	client_fini(&c);
	return status;
}

int verb_archive(int argc, char **argv)
{
	const struct options verb = {.usage = "agent archive AGENT [options]",
	    .about = "Puts an agent away: it can be read, and gets no new runs. An active run is cancelled.",
	    .footer = CLIENT_EXIT_STATUS "."};

	return lifecycle_verb(argc, argv, &verb, "POST", "/archive", "archived");
}

int verb_unarchive(int argc, char **argv)
{
	const struct options verb = {.usage = "agent unarchive AGENT [options]",
	    .about = "Brings an agent back that was put away.",
	    .footer = CLIENT_EXIT_STATUS "."};

	return lifecycle_verb(argc, argv, &verb, "POST", "/unarchive", "brought back");
}

int verb_delete(int argc, char **argv)
{
	const struct options verb = {.usage = "agent delete AGENT [options]",
	    .about = "Deletes an agent with its runs and their logs, for good. An active run is cancelled.",
	    .footer = CLIENT_EXIT_STATUS "."};

	return lifecycle_verb(argc, argv, &verb, "DELETE", "", "deleted");
}
