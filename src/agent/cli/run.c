/* agent run: starts an agent and follows its first run. */
#include "agent/cli/follow.h"
#include "agent/cli/verbs.h"
#include "agent/worker/git.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <string.h>
#include <unistd.h>

#define PROMPT_MAX (1024 * 1024)

struct run_options {
	const char *prompt, *repo, *ref, *pool, *model;
	bool detach;
};

static int read_prompt(const char *from, char **ret)
{
	struct strbuf b = STRBUF(PROMPT_MAX);
	char chunk[8192];
	size_t n;

	if (strcmp(from, "-") != 0) {
		*ret = str_dup(from);
		return OK;
	}
	while ((n = fread(chunk, 1, sizeof chunk, stdin)) > 0)
		strbuf_add(&b, chunk, n);
	if (b.overflowed || text_is_blank(strbuf_str(&b))) {
		client_error(b.overflowed ? "the prompt on standard input is larger than 1 MiB"
					  : "there is no prompt on standard input");
		strbuf_fini(&b);
		return ERR_INVALID;
	}
	*ret = strbuf_take(&b);
	return OK;
}

/* origin of the folder we are in; NULL if it has none. */
static char *origin_here(void)
{
	const struct git g = {.dir = ".", .cancel_fd = -1, .deadline_mono_ms = clock_mono_ms() + 10000};
	char *url = NULL;

	return git_must(&g, GIT_ARGS("remote", "get-url", "origin"), &url, NULL) == OK ? url : NULL;
}

/* A path is a repository too, if it is on this machine: the API knows it as a file URL. */
static char *repo_as_url(const char *repo)
{
	return repo[0] == '/' ? str_printf("file://%s", repo) : str_dup(repo);
}

static json_t *make_body(const struct run_options *o, const char *prompt, const char *repo)
{
	json_t *body = json_object(), *p = json_object();

	json_put(p, "text", prompt);
	json_put_new(body, "prompt", p);
	if (repo != NULL) {
		json_t *r = json_object(), *list = json_array();
		AUTO_STR url = repo_as_url(repo);

		json_put(r, "url", url);
		json_put(r, "startingRef", o->ref);
		json_array_append_new(list, r);
		json_put_new(body, "repos", list);
	}
	if (o->pool != NULL)
		json_put_new(body, "env", json_pack("{s:s, s:s}", "type", "pool", "name", o->pool));
	if (o->model != NULL)
		json_put_new(body, "model", json_pack("{s:s}", "id", o->model));
	return body;
}

static int start_agent(struct client *c, const struct run_options *o)
{
	AUTO_STR prompt = NULL;
	AUTO_STR origin = NULL;
	AUTO_JSON body = NULL;
	AUTO_JSON created = NULL;
	int status = EXIT_USAGE;

	if (read_prompt(o->prompt, &prompt) != OK)
		return EXIT_USAGE;
	if (o->repo == NULL)
		origin = origin_here();
	body = make_body(o, prompt, o->repo != NULL ? o->repo : origin);
	if (client_call(c, "POST", "/v1/agents", body, &created, &status) != OK)
		return status;
	AUTO_STR agent_id = str_dup(json_field(json_object_get(created, "agent"), "id"));
	AUTO_STR run_id = str_dup(json_field(json_object_get(created, "run"), "id"));

	if (c->json)
		client_print_json(created);
	else
		printf("agent %s\nrun   %s\n", agent_id, run_id);
	fflush(stdout);
	return o->detach ? EXIT_FINISHED : follow_run(c, agent_id, run_id, true);
}

int verb_run(int argc, char **argv)
{
	struct run_options o = {0};
	const struct option_row rows[] = {{.name = "print",
					      .letter = 'p',
					      .value = "PROMPT",
					      .text = &o.prompt,
					      .help = "the prompt, in place of the argument"},
	    {.name = "repo",
		.value = "URL",
		.text = &o.repo,
		.help = "the repository; default: origin of the current folder, if it has one"},
	    {.name = "ref",
		.value = "REF",
		.text = &o.ref,
		.help = "the branch or commit to start from; default: the default branch"},
	    {.name = "pool", .value = "NAME", .text = &o.pool, .help = "the pool whose workers may take it"},
	    {.name = "model", .value = "ID", .text = &o.model, .help = "the model; default: the server's"},
	    {.name = "detach", .given = &o.detach, .help = "print the ids and do not follow"}, {0}};
	const struct options verb = {.usage = "agent run [options] PROMPT",
	    .about = "Starts an agent and shows its run until it ends. A prompt of - is read from standard input.",
	    .rows = rows,
	    .footer = "Exit status: 0 finished, 1 failed, 2 usage, 130 cancelled."};
	struct option_words words;
	struct client c = {0};
	int status = EXIT_USAGE;
	int rc = client_parse(&c, argc, argv, &verb, 1, &words, &status);
	const char *word = words.n > 0 ? words.v[0] : NULL;

	if (rc == OK && o.prompt != NULL && word != NULL) {
		client_error("two prompts were given");
	} else if (rc == OK && o.prompt == NULL && word == NULL) {
		client_error("a prompt is missing: agent run \"PROMPT\", or - to read it from standard input");
	} else if (rc == OK) {
		o.prompt = o.prompt != NULL ? o.prompt : word;
		status = start_agent(&c, &o);
	}
	client_fini(&c);
	return status;
}
