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
	char *root; /* below which places are mounted; NULL: / */
	bool privileged;
	struct why *warning;
};

/* Takes the descriptor; a negative one, and one too many, are passed over. `path` is borrowed. */
void mounts_add_place(struct view *v, const char *path, enum rule rule, int fd);
/* An overlay over the folder, if it is there; its layers are NAME-upper and NAME-work in the scratch folder. */
void mounts_add_overlay(struct view *v, const char *path, const char *name);

/* mounts_machine.c: root can write the machine's files, so it gets an overlay of them for its root, with layers in the
 * scratch folder; what is mounted in them comes along as it is. It is put together at *ret_root (malloc'ed), and places
 * are mounted below that, because only what lies in the old root can be mounted. */
int mounts_machine_begin(const char *scratch, char **ret_root) MUST_USE;
/* From here on it is the root, and the old one is gone. */
int mounts_machine_enter(const char *new_root) MUST_USE;
