#include "agent/worker/options.h"
#include "agent/endpoint.h"
#include "agent/worker/options_priv.h"
#include "base/mem.h"
#include "base/text.h"
#include <ctype.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const char *option_env(const char *name)
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
	const char *direct = g->pool_value, *alias = g->pool_name, *env = option_env("CURSOR_WORKER_POOL_NAME"), *name;

	if (alias != NULL && !g->pool)
		return why_set(why, ERR_INVALID, "--pool-name needs --pool");
	if (!g->pool) {
		o->ignored_pool = str_dup(env);
		return OK;
	}
	if (direct != NULL && alias != NULL && strcmp(direct, alias) != 0)
		return why_set(why, ERR_INVALID, "--pool %.63s and --pool-name %.63s differ", direct, alias);
	name = direct != NULL ? direct : alias != NULL ? alias : env;
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

/* A label file that the environment names is not dropped silently either. */
static int check_label_sources(const struct given_options *g, struct worker_options *o, struct why *why)
{
	if (g->labels.n > 0 && g->labels_file != NULL)
		return why_set(why, ERR_INVALID, "--label and --labels-file exclude each other: put all labels in one");
	if (g->labels.n > 0 && option_env("CURSOR_WORKER_LABELS_FILE") != NULL)
		return why_set(why, ERR_INVALID,
		    "--label and CURSOR_WORKER_LABELS_FILE exclude each other: put all labels in one");
	return OK;
}

static int take_labels(const struct given_options *g, struct worker_options *o, struct why *why)
{
	const char *path = g->labels_file, *source = "--labels-file";
	int rc = OK;

	if (g->labels.n > OPTION_LABELS_MAX)
		return why_set(why, ERR_INVALID, "at most %d labels are possible", LABELS_MAX);
	for (size_t i = 0; i < g->labels.n && rc == OK; i++)
		rc = labels_add_text(&o->labels, g->labels_v[i], why);
	if (rc == OK)
		rc = labels_check_reserved(&o->labels, "--label", why);
	if (rc != OK || g->labels.n > 0)
		return rc;
	if (path == NULL) {
		source = "CURSOR_WORKER_LABELS_FILE";
		path = option_env(source);
	}
	if (path == NULL)
		return OK;
	rc = labels_add_file(&o->labels, path, why);
	return rc == OK ? labels_check_reserved(&o->labels, source, why) : rc;
}

static int take_idle_release(const struct given_options *g, struct worker_options *o, struct why *why)
{
	const char *source = "--idle-release-timeout", *text = g->idle_release;

	if (text == NULL) {
		source = "CURSOR_WORKER_IDLE_RELEASE_TIMEOUT";
		text = option_env(source);
	}
	o->idle_release_given = text != NULL;
	o->idle_release_s = o->pool != NULL ? WORKER_IDLE_RELEASE_POOL_S : WORKER_IDLE_RELEASE_PERSONAL_S;
	/* Digits only: "+5" and "-0" are numbers for text_parse_int. */
	if (text != NULL && (text[strspn(text, "0123456789")] != '\0' ||
				text_parse_int(text, 0, WORKER_IDLE_RELEASE_MAX_S, &o->idle_release_s) != OK))
		return why_set(why, ERR_INVALID,
		    "%s must be a whole number of seconds from 0 (never) to %d, not '%.40s'", source,
		    WORKER_IDLE_RELEASE_MAX_S, text);
	return OK;
}

/* ":port", "host:port", "[v6]:port". */
static int take_management(const struct given_options *g, struct worker_options *o, struct why *why)
{
	const char *text = g->management, *colon = text != NULL ? strrchr(text, ':') : NULL;
	AUTO_STR host = colon != NULL ? str_ndup(text, (size_t)(colon - text)) : NULL;
	int64_t port = 0;
	size_t len;
	bool bracketed;

	if (text == NULL)
		return OK;
	len = host != NULL ? strlen(host) : 0;
	bracketed = len > 2 && host[0] == '[' && host[len - 1] == ']';
	if (bracketed)
		str_set(&host, NULL);
	if (bracketed)
		host = str_ndup(text + 1, len - 2);
	if (host == NULL || colon[1 + strspn(colon + 1, "0123456789")] != '\0' ||
	    text_parse_int(colon + 1, 1, 65535, &port) != OK || (!bracketed && strpbrk(host, "[]:") != NULL) ||
	    strpbrk(host, " \t/@?#[]") != NULL || strlen(host) > 255 || !text_is_utf8(host, strlen(host)))
		return why_set(why, ERR_INVALID,
		    "the management address '%.100s' is not valid: it must be :PORT, HOST:PORT or [IPV6]:PORT, with a "
		    "port from 1 to "
		    "65535",
		    text);
	o->management_host = TAKE(host);
	o->management_port = (uint16_t)port;
	return OK;
}

static int take_name(const struct given_options *g, struct worker_options *o, struct why *why)
{
	const char *given = g->name != NULL ? g->name : option_env("CURSOR_WORKER_NAME");
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
		id = option_env("CURSOR_AGENT_WORKER_ID");
	if (id != NULL && !text_is_token(id, "._:-", 128))
		return why_set(why, ERR_INVALID,
		    "the worker id is not valid: letters, digits, '.', '_', ':' and '-', at most 128");
	o->worker_id = str_dup(id);
	return OK;
}

static int take_endpoint(const struct given_options *g, struct worker_options *o, struct why *why)
{
	const char *allow = option_env("BULLPEN_ALLOW_HTTP");
	AUTO_STR url = NULL;

	if (g->endpoint != NULL)
		url = str_dup(g->endpoint);
	else if (endpoint_find(&url, why) != OK)
		return ERR_INVALID;
	return endpoint_check(url, allow != NULL && strcmp(allow, "1") == 0, &o->endpoint, why);
}

static int check_environment(const struct given_options *g, struct worker_options *o, struct why *why)
{
	const char *grace = option_env("CURSOR_WORKER_STOP_GRACE");
	const char *mcp = option_env("CURSOR_WORKER_PROJECT_MCP");
	int64_t seconds = WORKER_STOP_GRACE_S;

	if (grace != NULL && text_parse_int(grace, 0, WORKER_STOP_GRACE_MAX_S, &seconds) != OK)
		return why_set(why, ERR_INVALID,
		    "CURSOR_WORKER_STOP_GRACE must be a number of seconds from 0 to %d, not '%.40s'",
		    WORKER_STOP_GRACE_MAX_S, grace);
	o->stop_grace_s = seconds;
	if (mcp != NULL && strcmp(mcp, "true") != 0 && strcmp(mcp, "false") != 0)
		return why_set(why, ERR_INVALID, "CURSOR_WORKER_PROJECT_MCP must be true or false, not '%.40s'", mcp);
	o->project_mcp = g->project_mcp || (mcp != NULL && strcmp(mcp, "true") == 0);
	return OK;
}

static int check_credential_flags(const struct given_options *g, struct worker_options *o, struct why *why)
{
	if ((g->api_key != NULL) + (g->auth_token != NULL) + (g->auth_token_file != NULL) > 1)
		return why_set(why, ERR_INVALID,
		    "--api-key, --auth-token and --auth-token-file exclude each other: give one of them");
	return OK;
}

/* The file is read later, before each attempt to connect: it may not be there yet. */
static int take_token_file(const char *path, struct worker_options *o, struct why *why)
{
	char here[PATH_MAX];

	if (path[0] == '/')
		o->auth_token_file = str_dup(path);
	else if (getcwd(here, sizeof here) != NULL)
		o->auth_token_file = str_printf("%s/%s", here, path);
	else
		return why_set(why, ERR_INVALID, "--auth-token-file %.200s: there is no working directory", path);
	return OK;
}

static int take_credential(const struct given_options *g, struct worker_options *o, struct why *why)
{
	int rc;

	if (g->auth_token_file != NULL)
		return take_token_file(g->auth_token_file, o, why);
	if (g->auth_token != NULL) {
		rc = credential_check("the token of --auth-token", g->auth_token, &o->auth_token, why);
		return rc == ERR_EMPTY ? why_set(why, ERR_UNAUTHORIZED, "the token of --auth-token is empty") : rc;
	}
	rc = credential_find(g->api_key, &o->api_key, why);
	/* The report says so among the rest. */
	if (rc == ERR_EMPTY && o->command == WORKER_DEBUG)
		return OK;
	if (rc == ERR_EMPTY)
		return why_set(why, ERR_UNAUTHORIZED, "no credential: set CURSOR_API_KEY or give --api-key (%s)",
		    o->pool != NULL ? "pool workers need a service account API key"
				    : "a personal worker needs the API key of a user");
	return rc;
}

static int check_command(const struct given_options *g, struct worker_options *o, struct why *why)
{
	if (o->command == WORKER_START && strcmp(g->command, "start") != 0)
		return why_set(why, ERR_INVALID, "agent worker %.40s is not built in", g->command);
	if (g->json && o->command != WORKER_DEBUG)
		return why_set(why, ERR_INVALID, "--json belongs to agent worker debug");
	return OK;
}

/* In the order in which mistakes are told; the first one counts. Nothing here asks anybody on the network. */
static int (*const steps[])(const struct given_options *, struct worker_options *, struct why *) = {check_command,
    check_credential_flags, check_label_sources, take_pool, take_dirs, take_labels, take_idle_release, take_management,
    option_check_clone, option_check_pool_only, option_check_system, option_refuse_unbuilt, option_take_isolation,
    option_take_limits, option_take_hooks, option_take_home, option_take_shared, take_name, take_worker_id,
    take_endpoint, check_environment, option_check_git, take_credential};

int worker_options_parse(int argc, char **argv, struct worker_options *ret, struct why *why)
{
	struct given_options g = {0};
	int rc;

	*ret = (struct worker_options){.command = WORKER_START};
	rc = option_read_line(argc, argv, &g, why);
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
	ret->debug = g.debug;
	ret->clone_git_repos = g.clone_git_repos;
	ret->sync_secrets = g.sync_secrets;
	if (strcmp(g.command, "debug") == 0)
		ret->command = WORKER_DEBUG;
	ret->data_dir = str_dup(g.data_dir);
	for (size_t i = 0; i < ARRAY_LEN(steps) && rc == OK; i++)
		rc = steps[i](&g, ret, why);
	return rc;
}

static void forget(char **secret)
{
	if (*secret != NULL)
		explicit_bzero(*secret, strlen(*secret));
	str_free(secret);
}

void worker_options_fini(struct worker_options *o)
{
	str_free(&o->pool);
	str_free(&o->ignored_pool);
	str_free(&o->name);
	str_free(&o->endpoint);
	forget(&o->api_key);
	forget(&o->auth_token);
	str_free(&o->auth_token_file);
	str_free(&o->management_host);
	str_free(&o->worker_id);
	str_free(&o->data_dir);
	str_free(&o->on_session_start);
	str_free(&o->on_session_end);
	str_free(&o->enterprise_dir);
	labels_fini(&o->labels);
	for (size_t i = 0; i < o->n_dirs; i++)
		str_free(&o->dirs[i]);
	o->n_dirs = 0;
	for (size_t i = 0; i < o->n_shared; i++)
		str_free(&o->shared[i]);
	o->n_shared = 0;
}
