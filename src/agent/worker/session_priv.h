/* agent/worker/session_priv.h: the body of a session, for the files that make it up. */
#pragma once
#include "agent/tools/tool.h"
#include "agent/worker/git.h"
#include "agent/worker/rules.h"
#include "agent/worker/session.h"
#include <pthread.h>
#include <stdatomic.h>

struct session {
	uint32_t magic;
	struct session_config cfg;
	char *agent_id; /* "" if no agent */
	char *claim_id; /* of the last opening; "" if no agent */
	char *scratch; /* "" if no agent */
	char *agent_dir; /* holds scratch; removed with it */
	char *repo_url; /* without credentials; "" without repository */
	char *branch; /* "" without repository */
	char *top; /* top of the checkout */
	atomic_bool started; /* a program that may have left something running */
	struct rules *rules; /* has its own lock */
	struct tool_hooks hooks; /* none are put there yet */
	pthread_mutex_t lock; /* a leaf: only for `background` */
	int *background;
	size_t n_background, cap_background;
};
#define SESSION_MAGIC 0x5e551041

/* session_checkout.c: brings the primary root's checkout to the wanted branch. */
struct checkout {
	char *top;
	char *branch;
	bool resumed;
};
int session_checkout(const struct session *s, const struct session_open *want, struct git *g, json_t *warnings,
    struct checkout *ret, struct why *why) MUST_USE;
/* Base of the branch as kept in git's own configuration: a commit, or the empty tree for a repository that had none. ""
 * if unknown. malloc'ed. */
char *session_base(const struct git *g, const char *branch);

/* session.c */
void session_remove_folder(const char *path);
#define CLOSE_TERM_MS 2000
#define CLOSE_GIVE_UP_MS 5000

void session_warn(json_t *warnings, const char *fmt, ...) PRINTF_LIKE(2, 3);
