/* agent/worker/options_priv.h: what the options*.c files share. */
#pragma once
#include "agent/worker/options.h"
#include "base/options.h"

/* So many that a pair given twice does not count against LABELS_MAX. */
#define OPTION_LABELS_MAX (4 * LABELS_MAX)

/* What the command line says; texts are argv's, and the last one wins. */
struct given_options {
	const char *command;
	bool pool; /* --pool or --single-use */
	bool wait, verbose, json, debug;
	const char *pool_value, *pool_name, *endpoint, *api_key, *auth_token, *auth_token_file;
	const char *name, *worker_id, *data_dir;
	const char *labels_file, *idle_release, *management;
	const char *isolation, *memory, *cpus, *pids, *home;
	bool project_mcp;
	bool clone_git_repos, mint_github_token, sync_secrets, identity_socket, computer_use, share_desktop;
	const char *on_session_start, *on_session_end, *display, *share_mode;
	struct option_list dirs;
	const char *dirs_v[WORKER_MAX_DIRS];
	struct option_list labels;
	const char *labels_v[OPTION_LABELS_MAX];
	struct option_list shared;
	const char *shared_v[WORKER_MAX_DIRS];
};

/* The environment; NULL if it is not set, or empty. */
const char *option_env(const char *name);

/* options_table.c. OK, ERR_EMPTY (help), ERR_INVALID. */
int option_read_line(int argc, char **argv, struct given_options *g, struct why *why) MUST_USE;

/* options_session.c */
int option_take_isolation(const struct given_options *g, struct worker_options *o, struct why *why) MUST_USE;
int option_take_hooks(const struct given_options *g, struct worker_options *o, struct why *why) MUST_USE;
int option_take_limits(const struct given_options *g, struct worker_options *o, struct why *why) MUST_USE;
int option_take_home(const struct given_options *g, struct worker_options *o, struct why *why) MUST_USE;
int option_take_shared(const struct given_options *g, struct worker_options *o, struct why *why) MUST_USE;

/* options_rules.c: what goes together, and what is not built in. */
int option_check_clone(const struct given_options *g, struct worker_options *o, struct why *why) MUST_USE;
int option_check_pool_only(const struct given_options *g, struct worker_options *o, struct why *why) MUST_USE;
int option_check_system(const struct given_options *g, struct worker_options *o, struct why *why) MUST_USE;
int option_refuse_unbuilt(const struct given_options *g, struct worker_options *o, struct why *why) MUST_USE;
int option_check_git(const struct given_options *g, struct worker_options *o, struct why *why) MUST_USE;
