/* agent/session/session_priv.h: the body of a session, for the files that make it up. */
#pragma once
#include "agent/box/box.h"
#include "agent/tools/tool.h"
#include "agent/session/git.h"
#include "agent/session/depot.h"
#include "agent/session/depot_lock.h"
#include "agent/session/rules.h"
#include "agent/session/seed.h"
#include "agent/session/session.h"
#include "agent/session/tree.h"
#include <pthread.h>
#include <stdatomic.h>

/* A folder that was given to the worker. Roots of one checkout, or inside another root, share one copy: that of their
 * `holder`. */
struct session_root {
	struct seed seed;
	struct why unusable; /* why it cannot be read; "" if it can */
	size_t holder; /* index of the root whose seed.top is copied; its own if that is this one */
	struct depot depot; /* of a holder that is a checkout, while a session is open */
	struct tree *tree; /* of a holder, while a session is open */
	char *path; /* where the session has it; NULL: none is open */
};

struct session {
	uint32_t magic;
	struct session_config cfg;
	char *repos_dir; /* of depots */
	struct session_root *roots; /* as many as cfg.n_roots */
	size_t first; /* the root whose repository the session is for */
	const char **paths; /* of the roots, as the session has them, that one first: session_place_of */
	char *agent_id; /* "" if no agent */
	char *claim_id; /* of the last opening; "" if no agent */
	char *scratch; /* "" if no agent */
	char *agent_dir; /* holds everything of the session; removed with it */
	char *repo_url; /* without credentials; "" without repository */
	char *branch; /* "" without repository */
	char *start; /* the branch of origin that it left; NULL: none is known */
	char *top; /* top of the checkout, as the session has it */
	char *git_dir; /* the session's own */
	char *base; /* from which changes are counted: a commit, or the empty tree; "" if unknown */
	char *tip; /* the commit that the session began with, or that was published last; "" if none */
	struct box *box; /* of the agent's programs; NULL: none */
	struct box_usage used_before; /* in it, when the session was opened last */
	atomic_bool started; /* a program that may have left something running */
	bool has_kept; /* the depot had work of this agent when the session was opened */
	atomic_bool touched; /* since it was opened or published */
	bool lost; /* what it has could not be kept: its folder is set aside */
	struct rules *rules; /* has its own lock */
	const struct tool_hooks *hooks; /* session_set_hooks; NULL: none */
	void *hooks_state; /* NULL: none */
	void (*hooks_end)(void *state);
	pthread_mutex_t lock; /* a leaf: only for `background` */
	int *background;
	size_t n_background, cap_background;
	void *guests[GUESTS]; /* session_attach; NULL: nothing */
	void (*guest_ends[GUESTS])(void *what);
	pthread_t remover; /* if removing: of the folders of a session that has ended */
	bool removing;
};
#define SESSION_MAGIC 0x5e551041
#define CLOSE_TERM_MS 2000
#define CLOSE_GIVE_UP_MS 5000

/* One opening or publication. */
struct session_job {
	struct session *s;
	struct git g; /* how git is run: limits, marks */
	json_t *warnings; /* an array, owned */
	struct session_failure *fail;
	char *status; /* of git, if nothing differed from s->tip when it was opened; NULL: not known. Owned */
};
void session_warn(json_t *warnings, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The failure is the machine's: no space, a remote that is not reached. */
int session_fail_machine(struct session_job *j, int rc);
/* git in the session's own checkout, as the agent would run it, and in the worker's own repository. */
struct git session_git_inside(const struct session_job *j);
struct git session_git_depot(const struct session_job *j);

/* The lock of that root's depot, for as long as the job has time. A wait that fails is the machine's: the session is as
 * good elsewhere. */
int session_lock_depot(struct session_job *j, const struct session_root *r, int *ret) MUST_USE;

/* Whether a program that was put into the background still runs. */
bool session_has_background(struct session *s);

/* session_box.c: opens the box if there is none, and remembers where the counting begins. */
int session_box_open(struct session_job *j) MUST_USE;
/* A box for the worker's own git, in which the seeds cannot be written: git gives a pack a new time when it is told to
 * store what the pack has. NULL where there is none, or no need: with leave to mount they cannot be written anyway. */
struct box *session_own_box(const struct session *s);
/* Ends all that runs in it. Returns whether nothing can be left outside of it. */
bool session_box_close(struct session *s);
static inline bool session_may_mount(const struct session *s)
{
	return s->cfg.boxes != NULL && boxes_may_mount(s->cfg.boxes);
}

/* session_roots.c */
void session_roots_read(struct session *s);
void session_roots_fini(struct session *s);
/* Shows a private copy of every root. With `repo` the first root's checkout is to be filled by session_fill. */
int session_roots_raise(struct session_job *j, bool repo) MUST_USE;
/* Takes the copies away; their files are the caller's to remove, with agent_dir. */
void session_roots_drop(struct session *s);
/* Paths that came with the seed because git ignores them there, and that are no longer ignored in the session: caches,
 * private files. A JSON array. Asked only where rules were changed: it looks through the whole seed. */
json_t *session_no_longer_ignored(const struct session_job *j);
/* Sessions at once cannot all be at the seeds' own paths. */
static inline bool session_has_company(const struct session *s)
{
	return s->cfg.place > 0;
}
static inline struct session_root *session_primary(const struct session *s)
{
	return &s->roots[s->roots[s->first].holder];
}
/* Where root i is in `paths`. */
static inline size_t session_place_of(const struct session *s, size_t i)
{
	return i == s->first ? 0 : i < s->first ? i + 1 : i;
}
/* Of several roots the one whose origin is this repository; the first if none is. While no session is open. */
void session_choose_first(struct session *s, const char *repo_url);
/* None of the roots is a checkout. */
bool session_serves_no_repo(const struct session *s);

/* session_remove.c: removes agent_dir, whose name is free when this returns. */
void session_remove_folder(struct session *s);
/* What could not be kept is left to a person: the folder goes to .lost in state_dir, and a line of the log names it.
 * False: it stays where it is, the log says why. */
static inline bool session_can_set_aside(int rc)
{
	/* On a full disk the folder would be what keeps it full, and the worker out of work. */
	return rc != ERR_NO_SPACE;
}
bool session_set_aside(const struct session_config *cfg, const char *agent_id, const char *agent_dir);
/* Nothing is left of former sessions. */
void session_await_removal(struct session *s);
/* The last of them, before the session object ends. */
void session_end_removals(struct session *s);
/* Where a killed worker may have left some; malloc'ed. */
char *session_gone_dir(const struct session_config *cfg);

/* session_checkout.c: which commit the session begins with. Talks to the remote. */
struct checkout {
	char *branch;
	char *start; /* the branch of origin that was started from; NULL: a tag, a commit, or nothing */
	char *tip; /* "": the remote has no commit */
	char *base; /* a commit, the empty tree, or "" */
};
int session_checkout(struct session_job *j, const struct session_open *want, struct checkout *ret) MUST_USE;
void checkout_fini(struct checkout *c);

/* session_fill.c: brings the private checkout to that commit. */
int session_fill(struct session_job *j, const struct session_open *want) MUST_USE;

/* session_leftovers.c: what is needed to keep the work of a session whose worker was killed. */
int session_note_down(const struct session *s, struct why *why) MUST_USE;

/* session_refs.c */
#define SESSION_HEADS "refs/bullpen/session/heads" /* in depot.own: the branches of the session that came over */
/* "SHA REF" a line of those below `prefix`, in *ret as from git_run_bytes. */
int session_list_refs(const struct git *g, const char *prefix, struct git_out *ret, struct why *why) MUST_USE;
/* The next line of such a list that is a ref below `prefix` (without a slash at the end), taken apart in place;
 * *ret_name is what follows the prefix. false: there is none. */
bool session_next_ref(char **at, const char *prefix, char **ret_sha, char **ret_name);
/* Whether the commit (of depot.own) is part of a branch of origin, as far as the worker has heard. */
bool session_is_on_origin(const struct session_job *j, const char *commit);
/* Of all that leads to `commits` (one a line) what is not part of such a branch, one a line; `one`: at most one. */
int session_news(
    const struct session_job *j, const char *commits, bool one, struct git_out *ret, struct why *why) MUST_USE;

/* While git-lfs runs in depot.own, that folder shows what branches origin has: what they have need not be sent. What it
 * shows for that alone is taken away again with *ret_undo, malloc'ed; NULL: nothing. The depot is locked. */
void session_show_origin(const struct session_job *j, char **ret_undo);
void session_hide_origin(const struct session_job *j, const char *undo);

/* session_keep.c: puts what is not on the remote into the depot. Also of a session whose checkout is damaged.
 * *ret_kept: as session_close. */
int session_keep(struct session_job *j, const char *reason, json_t **ret_kept) MUST_USE;
/* Everything is on the remote: nothing is kept any more. */
void session_forget_kept(struct session_job *j);
/* session_put_back.c: hands it to the agent's session, before its checkout is moved to a commit of it. */
int session_bring_kept(struct session_job *j) MUST_USE;
/* Puts it back into a checkout that is at the commit that session_checkout chose. */
int session_put_back(struct session_job *j) MUST_USE;
char *session_agent_ref(const struct session *s, const char *agent_id, const char *name);
/* Removes pipes that git would wait for: .gitattributes and the like, and those in git folders inside the checkout.
 * Before any git that looks at the session's files. */
void session_remove_pipes(const struct session *s);
/* Untracked folders that are repositories of their own: git can only store that they are there. Adds their paths, each
 * with a NUL behind it. ERR_TOO_LARGE. */
#define SESSION_PATHS_MAX (16 * 1024 * 1024)
int session_nested(const struct git *inside, struct strbuf *ret, struct why *why) MUST_USE;
/* `git add` of everything but them. */
int session_add_all(const struct git *g, const struct strbuf *left_out, struct why *why) MUST_USE;
