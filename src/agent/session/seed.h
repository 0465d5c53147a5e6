/* agent/session/seed.h: a folder that was given to the worker, as it is read before any session: whose checkout it is,
 * and what of its configuration git may use. The seed is never written.
 *
 * A session's git must not be told by a session where to push, what to run or which credentials to use. So the
 * configuration that the worker's git goes by is copied from the seed, which no session can write, into the *depot*
 * (depot.h) and into the session's own checkout.
 * Thread: one at a time. */
#pragma once
#include "base/errors.h"

struct seed {
	char *root; /* the folder that was given; a real path */
	char *top; /* of the checkout that it belongs to; the root itself if there is none */
	char *sub; /* root below top; "" if they are the same */
	bool is_repo;
	bool is_shallow;
	/* Of a checkout; where they can be read, see source. */
	char *git_dir; /* index and HEAD of this checkout */
	char *common_dir; /* objects, configuration, hooks */
	char *url; /* of origin as configured, with credentials: never shown; NULL: no origin */
	char
	    *config; /* as the text of a configuration file, without what could be harmful or belongs to one checkout */
	char *hooks_path; /* core.hooksPath; NULL: not set */
	char *object_format; /* "sha1" */
	bool sparse;
	bool has_user_name, has_user_email; /* git knows them, from the seed, the user or the machine */
	/* Where the files of `top` can be read: top itself, or another name for it while a session covers it. */
	char *source;
	int64_t config_stamp; /* of the files that config was read from */
};

/* Reads it. A folder that is no checkout is fine. ERR_DENIED, ERR_INVALID, ERR_NOT_FOUND with `why`: git does not want
 * it, it is damaged, or there is no git. */
int seed_read(const char *root, struct seed *ret, struct why *why) MUST_USE;
/* Reads again what may have changed since, if it did: the configuration. cancel_fd (-1: none): once it is readable this
 * ends soon with ERR_CANCELLED, and what is known stays. */
int seed_refresh(struct seed *s, int cancel_fd, struct why *why) MUST_USE;
/* From here on the files are read below `source`. */
void seed_move(struct seed *s, const char *source);
void seed_fini(struct seed *s);
/* The commit that is checked out; malloc'ed, "" if none. */
char *seed_head(const struct seed *s);

/* seed_config.c: `git config --list -z` as the text of a file, without what a session's repository must not inherit.
 * malloc'ed. *ret_url, *ret_hooks_path, *ret_format (malloc'ed or NULL) and *ret_sparse are set on the way. */
struct seed_config {
	char *text, *url, *hooks_path, *object_format;
	bool sparse, worktree_config;
};
void seed_config_add(struct seed_config *c, const char *list, size_t len);
void seed_config_fini(struct seed_config *c);
