/* agent/box/cgroup.h: control groups (cgroup v2) where the worker's own group was delegated to it: one for the worker's
 * processes, one for each box.
 * Thread: cgroup_take before others start; the rest any. */
#pragma once
#include "base/errors.h"
#include <sys/types.h>

struct cgroup;
struct box_usage;

/* The folder of a process's group from the texts of /proc/self/cgroup and /proc/self/mountinfo. OK: *ret malloc'ed.
 * ERR_NOT_FOUND: no cgroup2 is mounted that shows it. ERR_INVALID: malformed. */
int cgroup_find(const char *self_cgroup, const char *mountinfo, char **ret) MUST_USE;

/* OK if this process is alone in a group that is its to divide: then it moves into the group's leaf `worker`, and the
 * controllers that there are pass on to new groups. ERR_DENIED with a sentence: why not, and how to get there. */
int cgroup_take(struct cgroup **ret, struct why *why) MUST_USE;
void cgroup_free(struct cgroup **c);
/* Whether memory, cpu and pids can be limited. */
int cgroup_may_limit(const struct cgroup *c, struct why *why) MUST_USE;

/* A group for a box; 0 is no limit. OK: *ret_dir is its folder, malloc'ed. */
int cgroup_make(const struct cgroup *c, const char *name, int64_t memory_bytes, int64_t cpu_milli, int64_t pids,
    char **ret_dir, struct why *why) MUST_USE;
int cgroup_add(const char *dir, pid_t pid) MUST_USE;
/* KILL to all in it; whether it was empty within wait_ms. */
bool cgroup_kill(const char *dir, int wait_ms);
/* OK: the fields that the kernel tells are set, the others are left. ERR_NOT_FOUND: it tells none. */
int cgroup_usage(const char *dir, struct box_usage *u);
/* Removes the empty group. */
void cgroup_remove(const char *dir);
