/* agent/session/depot.h: the worker's own repositories beside a seed, which no session writes.
 *
 * `dir` is what origin has. Objects of the seed are read where they are (objects/info/alternates); what is fetched is
 * stored here, so the next session fetches only what is new. Sessions read its objects.
 *
 * `own` is what came from sessions, which no other session can read. It sees the objects of `dir`, and pushes.
 *
 * Refs in `dir` are refs/remotes/origin and refs/tags, as in any clone. Those in `own`:
 *
 * - refs/remotes/origin: what was pushed from here
 *
 * - refs/bullpen/session: the branches of the session at hand, taken over to be published or kept
 *
 * - refs/bullpen/agents/ID/base: the commit from which an agent's changes are counted
 *
 * - refs/bullpen/agents/ID/work: what is not on the remote, the commit that was checked out or, with the subject
 *   DEPOT_WIP, a commit of what was not committed, on top of it
 *
 * - refs/bullpen/agents/ID/heads: branches that were not published
 *
 * Thread: one at a time, whoever holds the depot's lock (depot_lock.h). */
#pragma once
#include "agent/session/git.h"
#include "agent/session/seed.h"

#define DEPOT_WIP "bullpen: not committed when the session ended"

struct depot {
	char *dir, *own; /* bare repositories */
	char *hooks; /* a folder of hooks: the seed's pre-push, if any */
	char *session_hooks; /* the seed's hooks for commits, out of any session's reach; NULL: it has none */
};

/* The path of `dir`, by which a depot is locked; malloc'ed. */
char *depot_path(const char *repos_dir, const struct seed *seed);
/* Makes or refreshes them below `repos_dir` from what the seed says now. */
int depot_open(const char *repos_dir, const struct seed *seed, struct depot *ret, struct why *why) MUST_USE;
void depot_fini(struct depot *k);
/* git in `own` and in `dir`, for the session that `like` is for, outside of its box. */
struct git depot_git(const struct depot *k, const struct git *like);
struct git depot_git_origin(const struct depot *k, const struct git *like);

/* What a session's checkout is to be. */
struct depot_checkout {
	const char *branch;
	const char *tip; /* the commit that it is at; "": none yet */
	const char *start; /* a branch of origin that it has too, as a clone would; NULL: none */
};
/* depot_session.c: a git directory for a session in `dir` (an existing, empty folder). Remote branches and tags are the
 * depot's. */
int depot_make_checkout(const struct depot *k, const struct seed *seed, const char *dir,
    const struct depot_checkout *want, struct why *why) MUST_USE;
/* depot_index.c */
/* Copies an index, given as an open file or -1, with its time into an existing folder. Whether there was one. */
bool depot_copy_index(int from_fd, const char *to_dir, const char *to_name);
/* Whether the index in git_dir says all that git needs to know about its files: none is left alone whatever it holds
 * (assume-unchanged, skip-worktree), none is a submodule, and it leans on no other file. */
bool depot_index_is_plain(const char *git_dir);
/* Keeps a session's index for the next one, before anything of the session ran: what was found out about the seed's
 * files once need not be found out again. git compares its entries with the files as always. Good until the seed's own
 * index is another, or `anew`. */
void depot_remember_index(const struct depot *k, const struct seed *seed, const char *git_dir, bool anew);
/* Gives a session the index that was remembered, or the seed's own: it saves looking into every file. */
void depot_bring_index(const struct depot *k, const struct seed *seed, const char *dir);
/* Whether a session left its git directory such that it can be read: OK. ERR_INVALID with what is wrong: a link in it
 * could lead to refs that are not the session's (the worker sees more than the session does), a pipe would be waited
 * for. What still runs may change it after that. */
int depot_check_git_dir(const char *git_dir, struct why *why) MUST_USE;
/* Takes the branches of the session's git directory over as refs/bullpen/session/heads/…, and its HEAD as
 * refs/bullpen/session/HEAD if it has one; earlier ones are gone. Its configuration is not asked. A box of `g` is the
 * worker's own.
 */
int depot_take_over(
    const struct depot *k, const struct git *g, const char *git_dir, bool has_head, struct why *why) MUST_USE;
/* depot_refs.c: read from the files, without git. dir: one of the two repositories. */
/* What the ref names; malloc'ed, "" if there is none. Whether that object is there is not known. */
char *depot_read_ref(const char *dir, const char *ref);
/* Of a ref that nothing else writes. */
int depot_write_ref(const char *dir, const char *ref, const char *sha) MUST_USE;
struct strbuf;
/* "SHA REF" a line of all below the prefixes (without a slash at the end, NULL-terminated), sorted. */
void depot_list_refs(const char *dir, const char *const *prefixes, struct strbuf *out);
/* The commit of a ref, or of any name of a commit, in `own`; malloc'ed, "" if there is none. */
char *depot_ref(const struct depot *k, const struct git *g, const char *ref);
