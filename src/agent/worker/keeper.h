/* agent/worker/keeper.h: the worker's own repository beside a seed, which no session writes: it knows the true remote,
 * fetches from it and pushes to it, and keeps what an agent could not publish.
 *
 * Objects of the seed are read where they are (objects/info/alternates), new ones are stored here, so the next session
 * fetches only what is new. Refs:
 *   refs/remotes/origin/…          as in any clone
 *   refs/bullpen/session/…         the branches of the session at hand, taken over to be published
 *   refs/bullpen/agents/ID/base    the commit from which an agent's changes are counted
 *   refs/bullpen/agents/ID/work    what is not on the remote: the commit that was checked out, or, with the subject
 *                                  KEEPER_WIP, a commit of what was not committed, on top of it
 *   refs/bullpen/agents/ID/heads/… branches that were not published
 * Thread: one at a time. */
#pragma once
#include "agent/worker/git.h"
#include "agent/worker/seed.h"

#define KEEPER_WIP "bullpen: not committed when the session ended"

struct keeper {
	char *dir; /* a bare repository */
	char *hooks; /* its folder of hooks: the seed's pre-push, if any */
	char *session_hooks; /* the seed's hooks for commits, where no session can change them; NULL: the seed has none */
};

/* Makes or refreshes it below `repos_dir` from what the seed says now. */
int keeper_open(const char *repos_dir, const struct seed *seed, struct keeper *ret, struct why *why) MUST_USE;
void keeper_fini(struct keeper *k);
/* git in the keeper, for the session that `like` is for. */
struct git keeper_git(const struct keeper *k, const struct git *like);

/* What a session's checkout is to be. */
struct keeper_checkout {
	const char *branch;
	const char *tip; /* the commit that it is at; "": none yet */
	const char *start; /* a branch of origin that it has too, as a clone would; NULL: none */
};
/* keeper_session.c: a git directory for a session in `dir` (an existing, empty folder). Remote branches and tags are the
 * keeper's. */
int keeper_make_checkout(const struct keeper *k, const struct seed *seed, const struct git *g, const char *dir,
    const struct keeper_checkout *want, struct why *why) MUST_USE;
/* Takes the branches of the session's git directory over as refs/bullpen/session/heads/…, and its HEAD as
 * refs/bullpen/session/HEAD; earlier ones are gone. Its configuration is not asked. */
int keeper_take_over(const struct keeper *k, const struct git *g, const char *git_dir, struct why *why) MUST_USE;
/* The commit of a ref of the keeper; malloc'ed, "" if there is none. */
char *keeper_ref(const struct keeper *k, const struct git *g, const char *ref);
