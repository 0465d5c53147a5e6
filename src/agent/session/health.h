/* agent/session/health.h: whether this worker can do what a session needs, before it takes work and after a failure.
 * Thread: a report belongs to one; health_look may run on any, the targets do not change. */
#pragma once
#include "base/errors.h"

struct session;

enum health_grade {
	HEALTH_PASS,
	HEALTH_WARN, /* work is possible, but not all of it */
	HEALTH_UNFIT, /* no work now; it may pass */
	HEALTH_FATAL /* no work, and only a person can change that */
};

struct health_finding {
	const char *check; /* "git", "folder", "remote", … */
	enum health_grade grade;
	char *detail; /* a sentence */
	const char *code; /* of HEALTH_UNFIT: what the control plane is told, see docs/worker-protocol.md */
};

#define HEALTH_MAX 128
struct health_report {
	struct health_finding v[HEALTH_MAX];
	size_t n;
};

struct health; /* what there is to look at */
/* Takes what it needs from the session, on the thread that made it and before it is opened. */
struct health *health_new(const struct session *s);
void health_free(struct health **h);
/* Looks. Remotes that do not answer before the deadline are HEALTH_UNFIT. *ret is to be given to health_report_fini. */
void health_look(const struct health *h, int64_t deadline_mono_ms, struct health_report *ret);
/* The worst of the findings; NULL: there is none above `above`. Borrowed. */
const struct health_finding *health_worst(const struct health_report *r, enum health_grade above);
void health_report_fini(struct health_report *r);
const char *health_grade_name(enum health_grade g);
