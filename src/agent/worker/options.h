/* agent/worker/options.h: what `agent worker …` was asked to do: command line, environment and config file, checked.
 * Thread: before others start; reads the environment. */
#pragma once
#include "agent/box/box.h"
#include "base/errors.h"

#define WORKER_MAX_DIRS 20
#define WORKER_STOP_GRACE_S 25
#define WORKER_STOP_GRACE_MAX_S 86400

enum worker_command {
	WORKER_START,
	WORKER_DEBUG,
	WORKER_HELP,
	WORKER_NONE /* nothing asked for: usage on stderr, exit 2 */
};

struct worker_options {
	enum worker_command command;
	bool verbose;
	bool wait;
	bool json; /* debug: the report as JSON */
	int64_t stop_grace_s; /* how long calls may go on after SIGTERM */
	char *pool;
	char *name; /* NULL: not given */
	bool named; /* by the flag, not by the environment */
	char *endpoint; /* without trailing slash */
	char *api_key;
	char *worker_id; /* NULL: generated */
	char *data_dir; /* NULL: the user's */
	char *dirs[WORKER_MAX_DIRS]; /* real paths, primary first */
	size_t n_dirs;
	enum box_level isolation; /* at most this */
	bool isolation_named; /* and at least, since the user said it */
	char *shared[WORKER_MAX_DIRS]; /* real paths: folders that sessions share with the machine */
	size_t n_shared;
	bool home_named; /* "overlay" or "shared" was said */
	bool shared_home;
	int64_t session_memory_bytes, session_cpu_milli, session_pids; /* 0: no limit */
};

/* argv[0] is skipped. OK; or ERR_INVALID (usage, exit 2) or ERR_UNAUTHORIZED (no credential, exit 3) with `why`. Give
 * *ret to worker_options_fini in any case. */
int worker_options_parse(int argc, char **argv, struct worker_options *ret, struct why *why) MUST_USE;
void worker_options_fini(struct worker_options *o);
/* What `agent worker --help` prints. */
void worker_help(FILE *to);
