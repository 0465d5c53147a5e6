/* agent/worker/identity.h: who this worker is, and that nobody else is it: data directory, lock, stable id.
 * Thread: the one that starts the worker. */
#pragma once
#include "base/errors.h"

struct worker_options;

struct identity {
	char *data_dir; /* absolute; NULL: none could be made, so no lock and an id for this process only */
	char *state_dir; /* for sessions; exists */
	int lock_fd;
	char *worker_id;
	char *id_file; /* NULL: the id was given, or cannot be kept */
	bool generated; /* not given by the user: may be replaced */
	char *host;
};

/* Finds or makes the directories, takes the lock (waiting if asked to) and the id. ERR_CONFLICT: locked, `why` names
 * the holder (exit 5). ERR_IO etc.: no usable directory at all. What does not stop the worker is told in *ret_warning,
 * a malloc'ed sentence or NULL. */
int identity_take(const struct worker_options *o, struct identity *ret, char **ret_warning, struct why *why) MUST_USE;
/* Replaces a generated id, in the file too. */
void identity_renew(struct identity *id);
void identity_fini(struct identity *id);
/* For a look that takes and makes nothing. The id that a start would have; malloc'ed, NULL: a new one. */
char *identity_look(const struct worker_options *o);
/* The data directory as it would be used; malloc'ed, NULL: there is none. */
char *identity_data_dir(const struct worker_options *o);
/* The name of this machine; malloc'ed. */
char *identity_host(void);
