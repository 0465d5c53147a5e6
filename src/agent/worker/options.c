#include "agent/worker/options.h"
#include "agent/endpoint.h"
#include "base/mem.h"
#include "base/text.h"
#include <ctype.h>
#include <string.h>
#include <sys/stat.h>

const char worker_usage[] =
    "Usage: agent worker start --pool [NAME] [options]\n"
    "\n"
    "Connects this machine to the control plane and runs the tool calls of one agent at a time.\n"
    "\n"
    "Options\n"
    "  --pool [NAME]        serve the pool NAME (CURSOR_WORKER_POOL_NAME; default: default)\n"
    "  --pool-name NAME     name of the pool, with --pool\n"
    "  --single-use         the same as --pool\n"
    "  --worker-dir PATH    workspace root; may be repeated, the first is the primary one (default: .)\n"
    "  -e, --endpoint URL   control plane (CURSOR_API_ENDPOINT, BULLPEN_URL, agent.toml;\n"
    "                       default: http://127.0.0.1:8787)\n"
    "  --api-key KEY        service account key (CURSOR_API_KEY, which does not show in the process list)\n"
    "  --name NAME          display name (CURSOR_WORKER_NAME; default: the host's)\n"
    "  --worker-id ID       identity (CURSOR_AGENT_WORKER_ID; default: generated once and kept)\n"
    "  --data-dir PATH      where the lock, the identity and scratch files live\n"
    "                       (default: ${XDG_DATA_HOME:-~/.local/share}/agent-worker)\n"
    "  --wait               wait for the lock of the data directory\n"
    "  --verbose            log more\n"
    "  -h, --help           this text\n"
    "\n"
    "Exit status: 0 released or stopped, 1 failure, 2 usage, 3 credential, 4 registration refused,\n"
    "5 data directory locked.\n";

enum option_id {
	OPT_POOL,
	OPT_POOL_NAME,
	OPT_SINGLE_USE,
	OPT_WORKER_DIR,
	OPT_ENDPOINT,
	OPT_API_KEY,
	OPT_NAME,
	OPT_WORKER_ID,
	OPT_DATA_DIR,
	OPT_WAIT,
	OPT_VERBOSE,
	OPT_HELP
};

enum takes { TAKES_NOTHING, TAKES_VALUE, TAKES_OPTIONAL };

static const struct option_row {
	const char *name, *letter;
	enum takes takes;
} rows[] = {[OPT_POOL] = {"--pool", NULL, TAKES_OPTIONAL},
    [OPT_POOL_NAME] = {"--pool-name", NULL, TAKES_VALUE},
    [OPT_SINGLE_USE] = {"--single-use", NULL, TAKES_NOTHING},
    [OPT_WORKER_DIR] = {"--worker-dir", NULL, TAKES_VALUE},
    [OPT_ENDPOINT] = {"--endpoint", "-e", TAKES_VALUE},
    [OPT_API_KEY] = {"--api-key", NULL, TAKES_VALUE},
    [OPT_NAME] = {"--name", NULL, TAKES_VALUE},
    [OPT_WORKER_ID] = {"--worker-id", NULL, TAKES_VALUE},
    [OPT_DATA_DIR] = {"--data-dir", NULL, TAKES_VALUE},
    [OPT_WAIT] = {"--wait", NULL, TAKES_NOTHING},
    [OPT_VERBOSE] = {"--verbose", NULL, TAKES_NOTHING},
    [OPT_HELP] = {"--help", "-h", TAKES_NOTHING}};

static const char *const commands[] = {"start", "debug", "controller", "help"};

/* What the command line says; strings are argv's. */
struct given {
	const char *command;
	bool pool;
	const char *value[ARRAY_LEN(rows)]; /* last one wins */
	bool seen[ARRAY_LEN(rows)];
	const char *dirs[WORKER_MAX_DIRS];
	size_t n_dirs; /* may exceed WORKER_MAX_DIRS */
};

static bool is_command(const char *s)
{
	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (strcmp(s, commands[i]) == 0)
			return true;
	return false;
}

static const struct option_row *find_row(const char *token, size_t len)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (strlen(rows[i].name) == len && strncmp(rows[i].name, token, len) == 0)
			return &rows[i];
		if (rows[i].letter != NULL && len == 2 && strncmp(rows[i].letter, token, len) == 0)
			return &rows[i];
	}
	return NULL;
}

static int take_option(int argc, char **argv, int *at, struct given *g, struct why *why)
{
	const char *token = argv[*at], *equals = strchr(token, '='), *value = NULL;
	size_t len = equals != NULL ? (size_t)(equals - token) : strlen(token);
	const struct option_row *row = find_row(token, len);
	const char *next = *at + 1 < argc ? argv[*at + 1] : NULL;
	size_t id;

	if (row == NULL)
		return why_set(why, ERR_INVALID, "unknown option %.*s", (int)MIN(len, 100), token);
	id = (size_t)(row - rows);
	if (equals != NULL && row->takes == TAKES_NOTHING)
		return why_set(why, ERR_INVALID, "option %s takes no value", row->name);
	if (equals != NULL)
		value = equals + 1;
	else if (row->takes == TAKES_VALUE && next != NULL && (next[0] != '-' || next[1] == '\0'))
		value = next;
	else if (row->takes == TAKES_OPTIONAL && next != NULL && next[0] != '-' &&
		 (g->command != NULL || !is_command(next)))
		value = next;
	if (row->takes == TAKES_VALUE && value == NULL)
		return why_set(why, ERR_INVALID, "option %s needs a value", row->name);
	if (value != NULL && value[0] == '\0')
		return why_set(why, ERR_INVALID, "option %s has an empty value", row->name);
	if (value != NULL && equals == NULL)
		++*at;
	g->seen[id] = true;
	if (value != NULL || id != OPT_POOL)
		g->value[id] = value;
	if (id == OPT_WORKER_DIR && g->n_dirs++ < WORKER_MAX_DIRS)
		g->dirs[g->n_dirs - 1] = value;
	return OK;
}

static int take_tokens(int argc, char **argv, struct given *g, struct why *why)
{
	bool options_over = false;

	for (int i = 1; i < argc; i++) {
		if (!options_over && strcmp(argv[i], "--") == 0) {
			options_over = true;
		} else if (!options_over && argv[i][0] == '-' && argv[i][1] != '\0') {
			if (take_option(argc, argv, &i, g, why) != OK)
				return ERR_INVALID;
		} else if (!options_over && g->command == NULL && is_command(argv[i])) {
			g->command = argv[i];
		} else if (!options_over && g->command != NULL && strcmp(g->command, "help") == 0) {
			continue; /* help COMMAND */
		} else if (g->command == NULL) {
			return why_set(why, ERR_INVALID, "unknown command %.100s", argv[i]);
		} else {
			return why_set(why, ERR_INVALID, "unexpected argument %.100s", argv[i]);
		}
	}
	g->pool = g->seen[OPT_POOL] || g->seen[OPT_SINGLE_USE];
	return OK;
}

static const char *env(const char *name)
{
	const char *v = getenv(name);

	return v != NULL && v[0] != '\0' ? v : NULL;
}

static int take_dirs(const struct given *g, struct worker_options *o, struct why *why)
{
	static const char *const here[] = {"."};
	const char *const *dirs = g->n_dirs > 0 ? g->dirs : here;

	if (g->n_dirs > WORKER_MAX_DIRS)
		return why_set(why, ERR_INVALID, "at most %d --worker-dir are possible", WORKER_MAX_DIRS);
	for (size_t i = 0; i < MAX(g->n_dirs, 1); i++) {
		struct stat st;
		char *real = realpath(dirs[i], NULL);
		bool twice = false;

		if (real == NULL || stat(real, &st) != 0 || !S_ISDIR(st.st_mode)) {
			str_free(&real);
			return why_set(why, ERR_INVALID, "--worker-dir %.300s is not a directory", dirs[i]);
		}
		for (size_t k = 0; k < o->n_dirs; k++)
			twice = twice || strcmp(o->dirs[k], real) == 0;
		if (twice)
			str_free(&real);
		else
			o->dirs[o->n_dirs++] = real;
	}
	return OK;
}

static bool is_pool_name(const char *s)
{
	return isalnum((unsigned char)s[0]) && text_is_token(s, "._-", 63);
}

static int take_pool(const struct given *g, struct worker_options *o, struct why *why)
{
	const char *direct = g->value[OPT_POOL], *alias = g->value[OPT_POOL_NAME], *name;

	if (direct != NULL && alias != NULL && strcmp(direct, alias) != 0)
		return why_set(why, ERR_INVALID, "--pool %.63s and --pool-name %.63s differ", direct, alias);
	name = direct != NULL ? direct : alias != NULL ? alias : env("CURSOR_WORKER_POOL_NAME");
	if (name == NULL)
		name = "default";
	if (!is_pool_name(name))
		return why_set(why, ERR_INVALID,
		    "the pool name %.80s is not valid: letters, digits, '.', '_' and '-', at most 63, "
		    "the first a letter or digit",
		    name);
	o->pool = str_dup(name);
	return OK;
}

static int take_name(const struct given *g, struct worker_options *o, struct why *why)
{
	const char *given = g->value[OPT_NAME] != NULL ? g->value[OPT_NAME] : env("CURSOR_WORKER_NAME");
	AUTO_STR name = NULL;

	o->named = g->value[OPT_NAME] != NULL;
	if (given == NULL)
		return OK;
	name = text_trim(given);
	if (name[0] == '\0' || strlen(name) > 128 || !text_is_utf8(name, strlen(name)))
		return why_set(why, ERR_INVALID, "the name must have 1 to 128 bytes of UTF-8 text");
	for (const char *p = name; *p != '\0'; p++)
		if (iscntrl((unsigned char)*p))
			return why_set(why, ERR_INVALID, "the name must not contain control characters");
	o->name = TAKE(name);
	return OK;
}

static int take_worker_id(const struct given *g, struct worker_options *o, struct why *why)
{
	const char *id = g->value[OPT_WORKER_ID];

	if (id == NULL)
		id = env("CURSOR_AGENT_WORKER_ID");
	if (id != NULL && !text_is_token(id, "._:-", 128))
		return why_set(why, ERR_INVALID,
		    "the worker id is not valid: letters, digits, '.', '_', ':' and '-', at most 128");
	o->worker_id = str_dup(id);
	return OK;
}

static int take_endpoint(const struct given *g, struct worker_options *o, struct why *why)
{
	const char *allow = env("BULLPEN_ALLOW_HTTP");
	AUTO_STR url = NULL;

	if (g->value[OPT_ENDPOINT] != NULL)
		url = str_dup(g->value[OPT_ENDPOINT]);
	else if (endpoint_find(&url, why) != OK)
		return ERR_INVALID;
	return endpoint_check(url, allow != NULL && strcmp(allow, "1") == 0, &o->endpoint, why);
}

/* A header value: visible ASCII. */
static int take_key(const struct given *g, struct worker_options *o, struct why *why)
{
	const char *key = g->value[OPT_API_KEY] != NULL ? g->value[OPT_API_KEY] : env("CURSOR_API_KEY");

	if (key == NULL)
		return why_set(why, ERR_UNAUTHORIZED,
		    "no credential: set CURSOR_API_KEY or give --api-key (pool workers need a service account API "
		    "key)");
	for (const char *p = key; *p != '\0'; p++)
		if (*p <= ' ' || *p > '~')
			return why_set(why, ERR_UNAUTHORIZED, "the API key has characters that no key has");
	if (strlen(key) > 1024)
		return why_set(why, ERR_UNAUTHORIZED, "the API key is too long");
	o->api_key = str_dup(key);
	return OK;
}

static int check_command(const struct given *g, struct why *why)
{
	if (strcmp(g->command, "start") != 0)
		return why_set(why, ERR_INVALID, "agent worker %s is not built yet", g->command);
	if (g->seen[OPT_POOL_NAME] && !g->pool)
		return why_set(why, ERR_INVALID, "--pool-name needs --pool");
	if (!g->pool)
		return why_set(why, ERR_INVALID, "personal workers are not built yet: start a pool worker with --pool");
	return OK;
}

int worker_options_parse(int argc, char **argv, struct worker_options *ret, struct why *why)
{
	static int (*const steps[])(const struct given *, struct worker_options *, struct why *) = {
	    take_dirs, take_pool, take_name, take_worker_id, take_endpoint, take_key};
	struct given g = {0};
	int rc;

	*ret = (struct worker_options){.command = WORKER_START};
	rc = take_tokens(argc, argv, &g, why);
	if (rc != OK)
		return rc;
	if (g.seen[OPT_HELP] || (g.command != NULL && strcmp(g.command, "help") == 0)) {
		ret->command = WORKER_HELP;
		return OK;
	}
	if (g.command == NULL) {
		ret->command = WORKER_NONE;
		return OK;
	}
	ret->verbose = g.seen[OPT_VERBOSE];
	ret->wait = g.seen[OPT_WAIT];
	ret->data_dir = str_dup(g.value[OPT_DATA_DIR]);
	rc = check_command(&g, why);
	for (size_t i = 0; i < ARRAY_LEN(steps) && rc == OK; i++)
		rc = steps[i](&g, ret, why);
	return rc;
}

void worker_options_fini(struct worker_options *o)
{
	str_free(&o->pool);
	str_free(&o->name);
	str_free(&o->endpoint);
	if (o->api_key != NULL)
		explicit_bzero(o->api_key, strlen(o->api_key));
	str_free(&o->api_key);
	str_free(&o->worker_id);
	str_free(&o->data_dir);
	for (size_t i = 0; i < o->n_dirs; i++)
		str_free(&o->dirs[i]);
	o->n_dirs = 0;
}
