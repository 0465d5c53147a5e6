/* agent/session/health.h: whether this worker can do what a session needs, before it takes work and after a failure.
 * Thread: any, but one at a time: a look reads again what of the seeds has changed. A report belongs to one. */
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
/* Looks. Remotes that do not answer before the deadline are HEALTH_UNFIT. *ret is to be given to health_report_fini.
 * cancel_fd (-1: none): once it is readable the look ends soon, and what is in *ret says nothing. */
void health_look(struct health *h, int cancel_fd, int64_t deadline_mono_ms, struct health_report *ret);
/* The worst of the findings; NULL: there is none above `above`. Borrowed. */
const struct health_finding *health_worst(const struct health_report *r, enum health_grade above);
void health_report_fini(struct health_report *r);
const char *health_grade_name(enum health_grade g);
