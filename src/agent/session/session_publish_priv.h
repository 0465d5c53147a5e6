/* agent/session/session_publish_priv.h: one publication, for the files that make it up. Thread: the call's. */
#pragma once
#include "agent/session/session_priv.h"

#define MAX_OUT 100

/* A commit and the branch that it goes to. */
struct outgoing {
	char *branch; /* on the remote */
	char *commit;
	const char *from; /* how the session called it, for messages; borrowed from `heads` */
};

struct head {
	char *name; /* "" is a HEAD without a branch */
	char *commit;
	bool is_missing; /* on origin */
	bool is_new; /* and not what the session began with */
};

/* What was found out and done so far. */
struct publication {
	struct session_job *j;
	struct git inside, g;
	const struct session_publish *want;
	char *current; /* the branch that is checked out; "" if none */
	bool dirty, untracked, unborn, rules_changed; /* of what is ignored */
	size_t unmerged;
	char *first_unmerged;
	bool committed;
	json_t *not_published; /* [{"path","reason"}] */
	struct head *heads;
	size_t n_heads, cap_heads;
	struct outgoing out[MAX_OUT];
	size_t n_out;
	char *remote; /* what ls-remote said last; NULL: not asked */
};

#define WHY(p) (&(p)->j->fail->why)

/* session_commit.c: what is uncommitted becomes a commit of the session's own checkout. What is left unfinished is an
 * error. */
int publication_commit(struct publication *p) MUST_USE;
/* Left out, and why. */
void publication_leave_out(struct publication *p, const char *path, const char *reason);

/* session_push.c: to the true remote, outside of the box. */
int publication_push(struct publication *p, struct outgoing *o) MUST_USE;
/* Objects of git-lfs, which go along with a push. */
bool publication_has_large_files(const struct publication *p);
/* A push that said it was done is believed when the remote shows it; fills p->remote. */
int publication_verify(struct publication *p) MUST_USE;
/* The PublishInfo, a new reference. */
json_t *publication_report(struct publication *p);
