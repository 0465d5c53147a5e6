/* agent/worker/worker.h: the worker while it serves: one loop that dials, answers, starts calls and stops.
 * Thread: the main one, which becomes the loop's. */
#pragma once
#include "agent/hooks/hooks.h"
#include "agent/worker/identity.h"
#include "agent/worker/manage.h"
#include "agent/worker/options.h"
#include "agent/worker/roots.h"

struct health;
struct session;
struct session_config;

struct worker_config { /* all borrowed */
	const struct worker_options *options;
	const struct worker_roots *roots;
	struct identity *identity;
	struct session *session; /* of the only place, or of the first of several */
	/* A personal worker: how many sessions it has at once, and what they are made of. 0 and NULL: a pool worker. */
	size_t max_sessions;
	const struct session_config *sessions;
	const char *clones_dir; /* with --clone-git-repos */
	bool takes_env; /* with --sync-dashboard-secrets */
	struct hook_settings hooks; /* its texts are borrowed */
	const char *isolation; /* a literal, for people */
	struct health *health;
	/* What the first look found; NULL: the worker is fit. */
	const char *unfit_code, *unfit_reason;
	struct worker_figures *figures; /* kept up to date */
};

/* Serves until released, stopped or refused; the result is the exit status. A forced stop does not return. */
int worker_run(const struct worker_config *cfg);

/* The verb `agent worker`. */
int worker_main(int argc, char **argv);
