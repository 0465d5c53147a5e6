/* What a session of this worker may reach and take: isolation, limits, home, shared folders. */
#include "agent/worker/options_priv.h"
#include "base/mem.h"
#include "base/text.h"
#include <ctype.h>
#include <string.h>
#include <sys/stat.h>

#define MIN_SESSION_MEMORY (16 * 1024 * 1024)

int option_take_isolation(const struct given_options *g, struct worker_options *o, struct why *why)
{
	const char *level = g->isolation != NULL ? g->isolation : option_env("CURSOR_WORKER_ISOLATION");

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

int option_take_limits(const struct given_options *g, struct worker_options *o, struct why *why)
{
	const char *memory = g->memory != NULL ? g->memory : option_env("CURSOR_WORKER_SESSION_MEMORY");
	const char *cpus = g->cpus != NULL ? g->cpus : option_env("CURSOR_WORKER_SESSION_CPUS");
	const char *pids = g->pids != NULL ? g->pids : option_env("CURSOR_WORKER_SESSION_PIDS");

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

int option_take_home(const struct given_options *g, struct worker_options *o, struct why *why)
{
	const char *home = g->home != NULL ? g->home : option_env("CURSOR_WORKER_SESSION_HOME");

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

int option_take_shared(const struct given_options *g, struct worker_options *o, struct why *why)
{
	AUTO_STR list = str_dup(option_env("CURSOR_WORKER_SESSION_SHARE"));
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
