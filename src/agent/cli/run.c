/* agent run: starts an agent and follows its first run. agent send, and agent run --agent: a further run of an agent.
 */
#include "agent/cli/find.h"
#include "agent/cli/follow.h"
#include "agent/cli/prompt.h"
#include "agent/cli/verbs.h"
#include "agent/session/git.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/terminal.h"
#include <string.h>

#define RUN_EXIT_STATUS                                                                                                \
	"Exit status: 0 finished, 1 the run failed or expired, 2 usage, 3 no key or refused,\n4 not found or "         \
	"refused, "                                                                                                    \
	"5 the server cannot be reached, 130 cancelled or Ctrl-C.\nCtrl-C cancels the run, a second one leaves at "    \
	"once."

#define LABELS_SHOWN_MAX 20 /* of a request */

struct run_options {
	struct prompt_options prompt;
	const char *agent, *repo, *ref, *pool, *machine;
	struct option_list labels;
	const char *labels_v[LABELS_SHOWN_MAX];
	bool detach;
};

/* origin of the folder we are in; NULL if it has none. */
static char *origin_here(void)
{
	const struct git g = {.dir = ".", .cancel_fd = -1, .deadline_mono_ms = clock_mono_ms() + 10000};
	char *url = NULL;

	return git_must(&g, GIT_ARGS("config", "--get", "remote.origin.url"), &url, NULL) == OK ? url : NULL;
}

/* A path is a repository too, if it is on this machine: the API knows it as a file URL. */
static char *repo_as_url(const char *repo)
{
	return repo[0] == '/' ? str_printf("file://%s", repo) : str_dup(repo);
}

static void put_repo(json_t *body, const char *repo, const char *ref)
{
	json_t *r = json_object(), *list = json_array();
	AUTO_STR url = repo_as_url(repo);

	json_put(r, "url", url);
	json_put(r, "startingRef", ref);
	json_array_append_new(list, r);
	json_put_new(body, "repos", list);
}

static int show_and_follow(struct client *c, const struct run_options *o, const char *agent_id, const json_t *created)
{
	AUTO_STR agent = terminal_clean(agent_id, TERMINAL_LINE);
	AUTO_STR run = terminal_clean(json_field(json_object_get(created, "run"), "id"), TERMINAL_LINE);

	if (c->json)
		client_print_json(created);
	else
		printf("agent %s\nrun   %s\n", agent, run);
	fflush(stdout);
	return o->detach ? EXIT_DONE : follow_run(c, agent, run, FOLLOW_OWN);
}

/* As they were given: the server says what is wrong with them. */
static json_t *labels_wanted(const struct option_list *l)
{
	json_t *list = json_array();

	for (size_t i = 0; i < MIN(l->n, l->max); i++)
		json_array_append_new(list, json_lossy(l->v[i], strlen(l->v[i])));
	return list;
}

static int start_agent(struct client *c, const struct run_options *o, json_t *body)
{
	AUTO_STR origin = o->repo == NULL ? origin_here() : NULL;
	const char *repo = o->repo != NULL ? o->repo : origin;
	AUTO_JSON created = NULL;
	int status = EXIT_USAGE;

	c->no_repo = repo == NULL;
	if (repo != NULL)
		put_repo(body, repo, o->ref);
	if (o->pool != NULL)
		json_put_new(body, "env", json_pack("{s:s, s:s}", "type", "pool", "name", o->pool));
	if (o->machine != NULL)
		json_put_new(body, "env", json_pack("{s:s, s:s}", "type", "machine", "name", o->machine));
	if (o->labels.n > 0)
		json_put_new(body, "labels", labels_wanted(&o->labels));
	if (client_call(c, "POST", "/v1/agents", body, &created, &status) != OK)
		return status;
	return show_and_follow(c, o, json_field(json_object_get(created, "agent"), "id"), created);
}

static int continue_agent(struct client *c, const struct run_options *o, json_t *body)
{
	struct target t = {0};
	AUTO_JSON created = NULL;
	int status = EXIT_USAGE;

	if (find_target(c, o->agent, &t, &status) == OK) {
		AUTO_STR path = str_printf("/v1/agents/%s/runs", t.agent_id);

		if (client_call(c, "POST", path, body, &created, &status) == OK)
			status = show_and_follow(c, o, t.agent_id, created);
	}
	target_fini(&t);
	return status;
}

static int start_run(struct client *c, const struct run_options *o)
{
	AUTO_JSON body = NULL;
	int status = EXIT_USAGE;

	if (prompt_body(&o->prompt, &body, &status) != OK)
		return status;
	/* Between asking for the run and following it a Ctrl-C must not leave it behind. */
	if (!o->detach)
		follow_begin(c, FOLLOW_OWN);
	return o->agent != NULL ? continue_agent(c, o, body) : start_agent(c, o, body);
}

/* NULL, or what is wrong. */
static const char *check_run(const struct run_options *o, const char *word)
{
	if (o->prompt.text != NULL && word != NULL)
		return "two prompts were given";
	if (o->prompt.text == NULL && word == NULL)
		return "a prompt is missing: agent run \"PROMPT\", or - to read it from standard input";
	if (o->agent != NULL &&
	    (o->repo != NULL || o->ref != NULL || o->pool != NULL || o->machine != NULL || o->labels.n > 0))
		return "--repo, --ref, --pool, --machine and --label are for a new agent: one with --agent keeps what "
		       "it has";
	if (o->pool != NULL && o->machine != NULL)
		return "--pool and --machine exclude each other";
	if (o->labels.n > o->labels.max)
		return "more than 20 --label";
	return NULL;
}

int verb_run(int argc, char **argv)
{
	struct run_options o = {0};
	const struct option_row rows[] = {PROMPT_OPTION_ROWS(&o.prompt),
	    {.name = "agent",
		.value = "ID",
		.text = &o.agent,
		.help = "a further run of this agent, in place of a new one (as agent send)"},
	    {.name = "repo",
		.value = "URL",
		.text = &o.repo,
		.help = "the repository; default: origin of the current folder, if it has one"},
	    {.name = "ref",
		.value = "REF",
		.text = &o.ref,
		.help = "the branch or commit to start from; default: the default branch"},
	    {.name = "pool", .value = "NAME", .text = &o.pool, .help = "the pool whose workers may take it"},
	    {.name = "label",
		.value = "KEY=VALUE",
		.list = &o.labels,
		.help = "a label that the worker must have; may be repeated"},
	    {.name = "machine", .value = "NAME", .text = &o.machine, .help = "a personal machine of yours"},
	    {.name = "detach", .given = &o.detach, .help = "print the ids and do not follow"},
	    {.name = "no-follow", .given = &o.detach, .help = "the same as --detach"}, {0}};
	const struct options verb = {.usage = "agent run [options] PROMPT",
	    .about = "Starts an agent and shows its run until it ends. A prompt of - is read from standard input.",
	    .rows = rows,
	    .footer = RUN_EXIT_STATUS};
	struct option_words words;
	struct client c = {0};
	int status = EXIT_USAGE;
	int rc;

	o.labels = (struct option_list){.v = o.labels_v, .max = LABELS_SHOWN_MAX};
	prompt_options_init(&o.prompt);
	rc = client_parse(&c, argc, argv, &verb, 1, &words, &status);
	if (rc == OK) {
		const char *word = words.n > 0 ? words.v[0] : NULL, *problem = check_run(&o, word);

		o.prompt.text = o.prompt.text != NULL ? o.prompt.text : word;
		if (problem != NULL)
			client_error("%s", problem);
		else
			status = start_run(&c, &o);
	}
	client_fini(&c);
	return status;
}

int verb_send(int argc, char **argv)
{
	struct run_options o = {0};
	const struct option_row rows[] = {PROMPT_OPTION_ROWS(&o.prompt),
	    {.name = "detach", .given = &o.detach, .help = "print the ids and do not follow"},
	    {.name = "no-follow", .given = &o.detach, .help = "the same as --detach"}, {0}};
	const struct options verb = {.usage = "agent send [options] AGENT PROMPT",
	    .about = "Gives an agent its next prompt and shows that run until it ends. A prompt of - is read from "
		     "standard\ninput.",
	    .rows = rows,
	    .footer = RUN_EXIT_STATUS};
	struct option_words words;
	struct client c = {0};
	int status = EXIT_USAGE;

	prompt_options_init(&o.prompt);
	if (client_parse(&c, argc, argv, &verb, 2, &words, &status) == OK) {
		o.agent = words.n > 0 ? words.v[0] : NULL;
		if (words.n == 2 && o.prompt.text != NULL) {
			client_error("two prompts were given");
		} else if (words.n == 0 || (words.n == 1 && o.prompt.text == NULL)) {
			client_error("name the agent and give a prompt: agent send AGENT \"PROMPT\"");
		} else {
			o.prompt.text = words.n == 2 ? words.v[1] : o.prompt.text;
			status = start_run(&c, &o);
		}
	}
	client_fini(&c);
	return status;
}
