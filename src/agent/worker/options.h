/* agent/worker/options.h: what `agent worker …` was asked to do: command line, environment and config file, checked.
 * Thread: before others start; reads the environment. */
#pragma once
#include "agent/box/box.h"
#include "agent/hooks/answer.h"
#include "agent/worker/labels.h"
#include "base/errors.h"

#define WORKER_MAX_DIRS 20
#define WORKER_STOP_GRACE_S 25
#define WORKER_STOP_GRACE_MAX_S 86400

#define WORKER_IDLE_RELEASE_MAX_S 31536000
/* How long a pool worker stays after its last call when nobody says. 0 would be never. */
#define WORKER_IDLE_RELEASE_POOL_S 3600
/* A personal machine is there until somebody stops it. */
#define WORKER_IDLE_RELEASE_PERSONAL_S 0
#define WORKER_MAX_SESSIONS_PERSONAL 8

enum worker_command {
	WORKER_START,
	WORKER_DEBUG,
	WORKER_HELP,
	WORKER_NONE /* nothing asked for: usage on stderr, exit 2 */
};

struct hook_settings;

struct worker_options {
	enum worker_command command;
	bool verbose;
	bool wait;
	bool json; /* debug: the report as JSON */
	bool debug; /* start: print the report of debug first */
	int64_t stop_grace_s; /* how long calls may go on after SIGTERM */
	char *pool; /* NULL: a personal machine */
	char *ignored_pool; /* CURSOR_WORKER_POOL_NAME without --pool, or NULL: worth a line in the log */
	struct labels labels; /* without repo and pool */
	int64_t idle_release_s; /* 0: never */
	bool idle_release_given;
	bool clone_git_repos;
	bool project_mcp; /* sessions start the MCP servers of .cursor/mcp.json, too */
	bool sync_secrets; /* --sync-dashboard-secrets: programs get the variables of agents */
	char *management_host; /* NULL: no management server; "" is every address */
	uint16_t management_port;
	char *name; /* NULL: not given */
	bool named; /* by the flag, not by the environment */
	char *endpoint; /* without trailing slash */
	/* The credential: one of them, the others are NULL; for debug there may be none. */
	char *api_key;
	char *auth_token;
	char *auth_token_file; /* absolute */
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
	char *on_session_start, *on_session_end; /* NULL: none */
	bool project_hooks, third_party_hooks, keep_transcripts;
	enum hook_ask hook_ask;
	char *enterprise_dir; /* of the machine's hooks.json */
	int64_t session_memory_bytes, session_cpu_milli, session_pids; /* 0: no limit */
};

/* argv[0] is skipped. OK; or ERR_INVALID (usage, exit 2) or ERR_UNAUTHORIZED (no credential, exit 3) with `why`. Give
 * *ret to worker_options_fini in any case. */
int worker_options_parse(int argc, char **argv, struct worker_options *ret, struct why *why) MUST_USE;
void worker_options_fini(struct worker_options *o);
/* Borrows from all three; the folders may be NULL (agent/hooks/hooks.h). */
struct hook_settings option_hook_settings(
    const struct worker_options *o, const char *team_dir, const char *transcripts);
/* What `agent worker --help` prints. */
void worker_help(FILE *to);
