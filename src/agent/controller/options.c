#include "agent/controller/controller_priv.h"
#include "agent/endpoint.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/text.h"
#include <string.h>
#include <unistd.h>

/* What the command line says; texts are argv's. */
struct given {
	const char *spawn, *api_key, *warm_idle, *repository, *endpoint;
	struct option_list pools;
	const char *pools_v[POOLS_MAX];
	bool all_pools, session_token;
};

static bool is_command(const char *word)
{
	return strcmp(word, "controller") == 0;
}

static int read_command_line(int argc, char **argv, struct given *g, struct why *why)
{
	g->pools = (struct option_list){.v = g->pools_v, .max = POOLS_MAX};
	const struct option_row rows[] = {{.name = "spawn",
					      .value = "PATH",
					      .text = &g->spawn,
					      .help = "the program that starts a worker (required)"},
	    {.name = "pool", .value = "NAME", .list = &g->pools, .help = "pool to watch; may be repeated"},
	    {.name = "all-pools", .given = &g->all_pools, .help = "watch every pool of the team; not with --warm-idle"},
	    {.name = "warm-idle",
		.value = "COUNT",
		.text = &g->warm_idle,
		.help = "claim nothing, but keep so many workers idle in each --pool"},
	    {.name = "session-token",
		.given = &g->session_token,
		.help = "the program gets a token for its claim instead of the key"},
	    {.name = "repository", .value = "URL", .text = &g->repository, .help = "only requests for this repository"},
	    {.name = "api-key",
		.value = "KEY",
		.text = &g->api_key,
		.help = "service account key (CURSOR_API_KEY, which does not show in the process list)"},
	    {.name = "endpoint",
		.letter = 'e',
		.value = "URL",
		.text = &g->endpoint,
		.help =
		    "control plane (CURSOR_API_ENDPOINT, BULLPEN_URL, agent.toml;\ndefault: http://127.0.0.1:8787)"},
	    {0}};
	const struct options o = {
	    .usage = "agent worker controller --spawn PATH (--pool NAME … | --all-pools) [options]",
	    .about =
		"Runs a program for each waiting request that it claims, or so often that workers are always idle.\n"
		"docs/operating.md says what the program is told in its environment.",
	    .rows = rows,
	    .values_without_dash = true,
	    .is_command = is_command,
	    .help_word = true,
	    .footer =
		"Exit status of the program: 0 started, 3 the machine to be woken is gone, any other: try again."};
	struct option_words words;
	int rc = options_parse(&o, argc, argv, OPTION_WORDS_MAX, &words, why);

	if (rc == ERR_EMPTY)
		options_help(&o, stdout);
	if (rc != OK)
		return rc;
	if (words.n > 1)
		return why_set(why, ERR_INVALID, "unexpected argument %.100s", words.v[1]);
	return OK;
}

static int check_modes(const struct given *g, struct why *why)
{
	if (g->spawn == NULL)
		return why_set(why, ERR_INVALID, "--spawn PATH is required: the program that starts a worker");
	if (access(g->spawn, X_OK) != 0)
		return why_set(why, ERR_INVALID, "--spawn %.300s is not a program that can be run", g->spawn);
	if (g->pools.n > POOLS_MAX)
		return why_set(why, ERR_INVALID, "at most %d --pool are possible", POOLS_MAX);
	if (g->warm_idle != NULL && g->all_pools)
		return why_set(why, ERR_INVALID, "--warm-idle goes with --pool, not with --all-pools");
	if (g->warm_idle != NULL && g->session_token)
		return why_set(why, ERR_INVALID, "--session-token is for claims: --warm-idle makes none");
	if (g->all_pools == (g->pools.n > 0))
		return why_set(why, ERR_INVALID,
		    g->all_pools ? "--pool and --all-pools exclude each other"
				 : "name the pools to watch: --pool NAME or --all-pools");
	for (size_t i = 0; i < g->pools.n; i++)
		if (!text_is_token(g->pools_v[i], "._-", 63) || strchr("._-", g->pools_v[i][0]) != NULL)
			return why_set(why, ERR_INVALID,
			    "the pool name %.80s is not valid: letters, digits, '.', '_' and '-', at most 63, the "
			    "first a letter "
			    "or digit",
			    g->pools_v[i]);
	return OK;
}

static int find_endpoint(const struct given *g, char **ret, struct why *why)
{
	const char *allow = getenv("BULLPEN_ALLOW_HTTP");
	AUTO_STR url = str_dup(g->endpoint);

	if (url == NULL && endpoint_find(&url, why) != OK)
		return ERR_INVALID;
	return endpoint_check(url, allow != NULL && strcmp(allow, "1") == 0, ret, why);
}

int controller_options_parse(int argc, char **argv, struct controller_options *ret, struct why *why)
{
	struct given g = {0};
	int rc = read_command_line(argc, argv, &g, why);

	if (rc == OK)
		rc = check_modes(&g, why);
	if (rc == OK && g.warm_idle != NULL && text_parse_int(g.warm_idle, 1, 10000, &ret->warm_idle) != OK)
		rc = why_set(
		    why, ERR_INVALID, "--warm-idle must be a whole number from 1 to 10000, not '%.40s'", g.warm_idle);
	if (rc == OK)
		rc = find_endpoint(&g, &ret->endpoint, why);
	if (rc != OK)
		return rc;
	ret->spawn = g.spawn;
	ret->repository = g.repository;
	ret->session_token = g.session_token;
	for (size_t i = 0; i < g.pools.n; i++)
		ret->pools[ret->n_pools++] = g.pools_v[i];
	rc = credential_find(g.api_key, &ret->api_key, why);
	return rc == ERR_EMPTY ? why_set(why, ERR_UNAUTHORIZED,
				     "no credential: set CURSOR_API_KEY or give --api-key (a service account API key)")
			       : rc;
}

void controller_options_fini(struct controller_options *o)
{
	str_free(&o->endpoint);
	str_free(&o->api_key);
}
