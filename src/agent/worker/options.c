#include "agent/worker/options.h"
#include "agent/endpoint.h"
#include "base/mem.h"
#include "base/options.h"
#include "base/text.h"
#include <ctype.h>
#include <string.h>
#include <sys/stat.h>

/* What the command line says; texts are argv's. */
struct given_options {
	const char *command;
	bool pool; /* --pool or --single-use */
	bool wait, verbose, json;
	const char *pool_value, *pool_name, *endpoint, *api_key, *name, *worker_id, *data_dir; /* the last one wins */
	const char *isolation, *memory, *cpus, *pids, *home;
	struct option_list dirs;
	const char *dirs_v[WORKER_MAX_DIRS];
	struct option_list shared;
	const char *shared_v[WORKER_MAX_DIRS];
};

#define ROWS 19
#define MIN_SESSION_MEMORY (16 * 1024 * 1024)

static void fill_rows(struct given_options *g, struct option_row rows[ROWS])
{
	const struct option_row all[ROWS] = {
	    {.name = "pool",
		.value = "NAME",
		.optional = true,
		.text = &g->pool_value,
		.given = &g->pool,
		.help = "serve the pool NAME (CURSOR_WORKER_POOL_NAME; default: default)"},
	    {.name = "pool-name", .value = "NAME", .text = &g->pool_name, .help = "name of the pool, with --pool"},
	    {.name = "single-use", .given = &g->pool, .help = "the same as --pool"},
	    {.name = "worker-dir",
		.value = "PATH",
		.list = &g->dirs,
		.help = "workspace root; may be repeated, the first is the primary one (default: .)"},
	    {.name = "endpoint",
		.letter = 'e',
		.value = "URL",
		.text = &g->endpoint,
		.help = "control plane (CURSOR_API_ENDPOINT, BULLPEN_URL, agent.toml;\n"
			"default: http://127.0.0.1:8787)"},
	    {.name = "api-key",
		.value = "KEY",
		.text = &g->api_key,
		.help = "service account key (CURSOR_API_KEY, which does not show in the process list)"},
	    {.name = "name",
		.value = "NAME",
		.text = &g->name,
		.help = "display name (CURSOR_WORKER_NAME; default: the host's)"},
	    {.name = "worker-id",
		.value = "ID",
		.text = &g->worker_id,
		.help = "identity (CURSOR_AGENT_WORKER_ID; default: generated once and kept)"},
	    {.name = "data-dir",
		.value = "PATH",
		.text = &g->data_dir,
		.help = "where the lock, the identity and scratch files live\n"
			"(default: ${XDG_DATA_HOME:-~/.local/share}/agent-worker)"},
	    {.name = "isolation",
		.value = "LEVEL",
		.text = &g->isolation,
		.help = "how a session's programs are kept apart: namespace, process or none\n"
			"(CURSOR_WORKER_ISOLATION; default: the best there is)"},
	    {.name = "session-memory",
		.value = "SIZE",
		.text = &g->memory,
		.help = "most memory of a session, such as 512M or 2G (CURSOR_WORKER_SESSION_MEMORY)"},
	    {.name = "session-cpus",
		.value = "N",
		.text = &g->cpus,
		.help = "most processors of a session, such as 1.5 (CURSOR_WORKER_SESSION_CPUS)"},
	    {.name = "session-pids",
		.value = "N",
		.text = &g->pids,
		.help = "most processes of a session (CURSOR_WORKER_SESSION_PIDS)"},
	    {.name = "session-home",
		.value = "HOW",
		.text = &g->home,
		.help = "overlay: what a session writes to ~ ends with it; shared: it stays\n"
			"(CURSOR_WORKER_SESSION_HOME; default: overlay where possible)"},
	    {.name = "session-share",
		.value = "PATH",
		.list = &g->shared,
		.help = "folder below ~ or /tmp that is the real one for every session, such as a cache;\n"
			"may be repeated (CURSOR_WORKER_SESSION_SHARE, separated by ':')"},
	    {.name = "wait", .given = &g->wait, .help = "wait for the lock of the data directory"},
	    {.name = "verbose", .given = &g->verbose, .help = "log more"},
	    {.name = "json", .given = &g->json, .help = "debug: the report as JSON"}, {.name = NULL}};

	memcpy(rows, all, sizeof all);
}

static bool is_command(const char *word)
{
	static const char *const commands[] = {"start", "debug", "controller", "help"};

	for (size_t i = 0; i < ARRAY_LEN(commands); i++)
		if (strcmp(word, commands[i]) == 0)
			return true;
	return false;
}

static const struct options worker_command = {.usage = "agent worker start|debug --pool [NAME] [options]",
    .about = "start: connects this machine to the control plane and runs the tool calls of one agent at a time.\n"
	     "debug: says whether a worker started with the same options could work, and what is missing.",
    .values_without_dash = true,
    .is_command = is_command,
    .help_word = true,
    .footer = "Exit status: 0 released or stopped, 1 failure, 2 usage, 3 credential, 4 registration refused,\n"
	      "5 data directory locked."};

void worker_help(FILE *to)
{
	struct option_row rows[ROWS];
	struct options o = worker_command;
	struct given_options g;

	fill_rows(&g, rows);
	o.rows = rows;
	options_help(&o, to);
}

/* OK, ERR_EMPTY (help), ERR_INVALID. */
static int read_command_line(int argc, char **argv, struct given_options *g, struct why *why)
{
	struct option_row rows[ROWS];
	struct options o = worker_command;
	struct option_words words;
	int rc;

	g->dirs = (struct option_list){.v = g->dirs_v, .max = WORKER_MAX_DIRS};
	g->shared = (struct option_list){.v = g->shared_v, .max = WORKER_MAX_DIRS};
	fill_rows(g, rows);
	o.rows = rows;
	rc = options_parse(&o, argc, argv, OPTION_WORDS_MAX, &words, why);
	if (rc == ERR_INVALID)
		return rc;
	if (words.n > 0 && !is_command(words.v[0]))
		return why_set(why, ERR_INVALID, "unknown command %.100s", words.v[0]);
	if (words.n > 1)
		return why_set(why, ERR_INVALID, "unexpected argument %.100s", words.v[1]);
	g->command = words.n > 0 ? words.v[0] : NULL;
	return rc;
}

static const char *env_value(const char *name)
{
	const char *v = getenv(name);

	return v != NULL && v[0] != '\0' ? v : NULL;
}

static int take_dirs(const struct given_options *g, struct worker_options *o, struct why *why)
{
	static const char *const here[] = {"."};
	const char *const *dirs = g->dirs.n > 0 ? g->dirs_v : here;

	if (g->dirs.n > WORKER_MAX_DIRS)
		return why_set(why, ERR_INVALID, "at most %d --worker-dir are possible", WORKER_MAX_DIRS);
	for (size_t i = 0; i < MAX(g->dirs.n, 1); i++) {
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

static int take_pool(const struct given_options *g, struct worker_options *o, struct why *why)
{
	const char *direct = g->pool_value, *alias = g->pool_name, *name;

	if (direct != NULL && alias != NULL && strcmp(direct, alias) != 0)
		return why_set(why, ERR_INVALID, "--pool %.63s and --pool-name %.63s differ", direct, alias);
	name = direct != NULL ? direct : alias != NULL ? alias : env_value("CURSOR_WORKER_POOL_NAME");
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

static int take_name(const struct given_options *g, struct worker_options *o, struct why *why)
{
	const char *given = g->name != NULL ? g->name : env_value("CURSOR_WORKER_NAME");
	AUTO_STR name = NULL;

	o->named = g->name != NULL;
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

static int take_worker_id(const struct given_options *g, struct worker_options *o, struct why *why)
{
	const char *id = g->worker_id;

	if (id == NULL)
		id = env_value("CURSOR_AGENT_WORKER_ID");
	if (id != NULL && !text_is_token(id, "._:-", 128))
		return why_set(why, ERR_INVALID,
		    "the worker id is not valid: letters, digits, '.', '_', ':' and '-', at most 128");
	o->worker_id = str_dup(id);
	return OK;
}

static int take_endpoint(const struct given_options *g, struct worker_options *o, struct why *why)
{
	const char *allow = env_value("BULLPEN_ALLOW_HTTP");
	AUTO_STR url = NULL;

	if (g->endpoint != NULL)
		url = str_dup(g->endpoint);
	else if (endpoint_find(&url, why) != OK)
		return ERR_INVALID;
	return endpoint_check(url, allow != NULL && strcmp(allow, "1") == 0, &o->endpoint, why);
}

static int take_isolation(const struct given_options *g, struct worker_options *o, struct why *why)
{
	const char *level = g->isolation != NULL ? g->isolation : env_value("CURSOR_WORKER_ISOLATION");

	o->isolation = BOX_NAMESPACE;
	o->isolation_named = level != NULL;
	if (level == NULL)
		return OK;
	for (enum box_level l = BOX_NONE; l <= BOX_NAMESPACE; l++)
		if (strcmp(level, box_level_name(l)) == 0) {
			o->isolation = l;
			return OK;
		}
	return why_set(
	    why, ERR_INVALID, "the isolation %.80s is not known: it can be namespace, process or none", level);
}

/* Bytes, with K, M, G or T for powers of 1024. */
static int parse_size(const char *text, int64_t *ret)
{
	static const char units[] = "KMGT";
	size_t len = strlen(text);
	const char *unit = len > 0 ? strchr(units, toupper((unsigned char)text[len - 1])) : NULL;
	int shift = unit != NULL ? (int)(unit - units + 1) * 10 : 0;
	AUTO_STR number = str_ndup(text, unit != NULL ? len - 1 : len);
	int rc = text_parse_int(number, 1, INT64_MAX >> shift, ret);

	if (rc == OK)
		*ret <<= shift;
	return rc;
}

/* A decimal number in thousandths: at most three digits behind the point. */
static int parse_milli(const char *text, int64_t *ret)
{
	const char *point = strchr(text, '.');
	AUTO_STR whole = str_ndup(text, point != NULL ? (size_t)(point - text) : strlen(text));
	int64_t units, part = 0;
	char digits[4] = "000";

	if (point != NULL && (strlen(point + 1) < 1 || strlen(point + 1) > 3))
		return ERR_INVALID;
	if (point != NULL)
		memcpy(digits, point + 1, strlen(point + 1));
	if (text_parse_int(whole, 0, 65536, &units) != OK || text_parse_int(digits, 0, 999, &part) != OK)
		return ERR_INVALID;
	*ret = units * 1000 + part;
	return OK;
}

static int take_limits(const struct given_options *g, struct worker_options *o, struct why *why)
{
	const char *memory = g->memory != NULL ? g->memory : env_value("CURSOR_WORKER_SESSION_MEMORY");
	const char *cpus = g->cpus != NULL ? g->cpus : env_value("CURSOR_WORKER_SESSION_CPUS");
	const char *pids = g->pids != NULL ? g->pids : env_value("CURSOR_WORKER_SESSION_PIDS");

	if (memory != NULL &&
	    (parse_size(memory, &o->session_memory_bytes) != OK || o->session_memory_bytes < MIN_SESSION_MEMORY))
		return why_set(why, ERR_INVALID,
		    "the session memory %.80s is not valid: bytes, or a number with K, M, G or T, at least 16M",
		    memory);
	if (cpus != NULL && (parse_milli(cpus, &o->session_cpu_milli) != OK || o->session_cpu_milli < 10))
		return why_set(why, ERR_INVALID,
		    "the session cpus %.80s are not valid: a number such as 2 or 1.5, at least 0.01", cpus);
	if (pids != NULL && text_parse_int(pids, 2, 4194304, &o->session_pids) != OK)
		return why_set(
		    why, ERR_INVALID, "the session pids %.80s are not valid: a whole number from 2 to 4194304", pids);
	return OK;
}

static int take_home(const struct given_options *g, struct worker_options *o, struct why *why)
{
	const char *home = g->home != NULL ? g->home : env_value("CURSOR_WORKER_SESSION_HOME");

	o->home_named = home != NULL;
	o->shared_home = home != NULL && strcmp(home, "shared") == 0;
	if (home != NULL && !o->shared_home && strcmp(home, "overlay") != 0)
		return why_set(
		    why, ERR_INVALID, "the session home %.80s is not known: it can be overlay or shared", home);
	return OK;
}

static int add_shared(struct worker_options *o, const char *path, struct why *why)
{
	char *real = realpath(path, NULL);
	struct stat st;

	if (real == NULL || stat(real, &st) != 0 || !S_ISDIR(st.st_mode)) {
		str_free(&real);
		return why_set(why, ERR_INVALID, "--session-share %.300s is not a directory", path);
	}
	if (o->n_shared == WORKER_MAX_DIRS) {
		str_free(&real);
		return why_set(why, ERR_INVALID, "at most %d --session-share are possible", WORKER_MAX_DIRS);
	}
	o->shared[o->n_shared++] = real;
	return OK;
}

static int take_shared(const struct given_options *g, struct worker_options *o, struct why *why)
{
	AUTO_STR list = str_dup(env_value("CURSOR_WORKER_SESSION_SHARE"));
	char *save, *word = list != NULL && g->shared.n == 0 ? strtok_r(list, ":", &save) : NULL;
	int rc = OK;

	if (g->shared.n > WORKER_MAX_DIRS)
		return why_set(why, ERR_INVALID, "at most %d --session-share are possible", WORKER_MAX_DIRS);
	for (size_t i = 0; i < g->shared.n && rc == OK; i++)
		rc = add_shared(o, g->shared_v[i], why);
	for (; word != NULL && rc == OK; word = strtok_r(NULL, ":", &save))
		rc = add_shared(o, word, why);
	return rc;
}

static int take_key(const struct given_options *g, struct worker_options *o, struct why *why)
{
	int rc = credential_find(g->api_key, &o->api_key, why);

	if (rc == ERR_EMPTY)
		return why_set(why, ERR_UNAUTHORIZED,
		    "no credential: set CURSOR_API_KEY or give --api-key (pool workers need a service account API "
		    "key)");
	return rc;
}

/* What asks for a feature that is not built is refused like its flag, rather than taken and forgotten. */
static int check_environment(const struct given_options *g, struct worker_options *o, struct why *why)
{
	static const char *const unbuilt[] = {"CURSOR_WORKER_LABELS_FILE", "CURSOR_WORKER_IDLE_RELEASE_TIMEOUT"};
	const char *grace = env_value("CURSOR_WORKER_STOP_GRACE");
	int64_t seconds = WORKER_STOP_GRACE_S;

	for (size_t i = 0; i < ARRAY_LEN(unbuilt); i++)
		if (env_value(unbuilt[i]) != NULL)
			return why_set(why, ERR_INVALID, "%s is set, which is not built yet: unset it", unbuilt[i]);
	if (grace != NULL && text_parse_int(grace, 0, WORKER_STOP_GRACE_MAX_S, &seconds) != OK)
		return why_set(why, ERR_INVALID,
		    "CURSOR_WORKER_STOP_GRACE must be a number of seconds from 0 to %d, not '%.40s'",
		    WORKER_STOP_GRACE_MAX_S, grace);
	o->stop_grace_s = seconds;
	return OK;
}

static int check_command(const struct given_options *g, struct why *why)
{
	if (strcmp(g->command, "start") != 0 && strcmp(g->command, "debug") != 0)
		return why_set(why, ERR_INVALID, "agent worker %s is not built yet", g->command);
	if (g->json && strcmp(g->command, "debug") != 0)
		return why_set(why, ERR_INVALID, "--json belongs to agent worker debug");
	if (g->pool_name != NULL && !g->pool)
		return why_set(why, ERR_INVALID, "--pool-name needs --pool");
	if (!g->pool)
		return why_set(why, ERR_INVALID, "personal workers are not built yet: start a pool worker with --pool");
	return OK;
}

int worker_options_parse(int argc, char **argv, struct worker_options *ret, struct why *why)
{
	static int (*const steps[])(const struct given_options *, struct worker_options *, struct why *) = {take_dirs,
	    take_pool, take_isolation, take_limits, take_home, take_shared, take_name, take_worker_id, take_endpoint,
	    check_environment, take_key};
	struct given_options g = {0};
	int rc;

	*ret = (struct worker_options){.command = WORKER_START};
	rc = read_command_line(argc, argv, &g, why);
	if (rc == ERR_EMPTY) {
		ret->command = WORKER_HELP;
		return OK;
	}
	if (rc != OK)
		return rc;
	if (g.command == NULL) {
		ret->command = WORKER_NONE;
		return OK;
	}
	ret->verbose = g.verbose;
	ret->wait = g.wait;
	ret->json = g.json;
	if (strcmp(g.command, "debug") == 0)
		ret->command = WORKER_DEBUG;
	ret->data_dir = str_dup(g.data_dir);
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
	for (size_t i = 0; i < o->n_shared; i++)
		str_free(&o->shared[i]);
	o->n_shared = 0;
}
