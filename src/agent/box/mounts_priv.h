/* agent/box/mounts_priv.h: the view of the files that a box gets, while it is put together. Thread: the init's. */
#pragma once
#include "base/errors.h"

#define QUIET (MS_NOSUID | MS_NODEV)
#define MAX_PLACES 4096

enum rule { RULE_TMP, RULE_OVERLAY, RULE_KEEP, RULE_READ_ONLY, RULE_HIDDEN };

struct place {
	const char *path;
	enum rule rule;
	int fd; /* what lies there before anything is mounted */
	int upper_fd, work_fd; /* of an overlay; else -1 */
};

struct view {
	struct place *v;
	size_t n, cap;
	const char *scratch;
	char **names; /* paths that are not the caller's */
	size_t n_names, cap_names;
	bool privileged;
	struct why *warning;
};

/* Takes the descriptor; a negative one, and one too many, are passed over. `path` is borrowed. */
void mounts_add_place(struct view *v, const char *path, enum rule rule, int fd);
/* An overlay over the folder, if it is there; its layers are NAME-upper and NAME-work in the scratch folder. */
void mounts_add_overlay(struct view *v, const char *path, const char *name);

/* mounts_machine.c: root can write the machine's folders, so overlays go over all of them but `home`, which has one:
 * what a session installs or breaks there ends with it. What is mounted in them stays as it is. */
void mounts_add_machine(struct view *v, const char *home);
/* Last: nothing new can be put beside those folders. */
void mounts_close_top(void);
