/* agent/box/box.h: the processes of one session in a box that nothing leaves.
 *
 * Three processes make it: the *worker* (the caller); the *keeper*, forked while the worker has one thread, which makes
 * boxes on request; and one *init* a box, the parent or grandparent of everything that runs in it. How strong a box is
 * depends on what the kernel allows:
 * - BOX_NAMESPACE: the init is process 1 of a PID namespace, so its end is the end of all; mounts, /tmp, ~ and System V
 *   IPC are the box's own. A privileged worker's programs lose the capabilities that lead out, those of an unprivileged
 * one get a user namespace and no_new_privs.
 * - BOX_PROCESS: no namespaces. The init is a child subreaper, so double forks come back to it, and closing walks the
 *   process tree below it until it is empty. A program may kill the init by its pid; the keeper, a subreaper too, then
 * ends what is left.
 * - BOX_NONE: there are no boxes.
 * If the worker ends, however it ends, the sockets of keeper and inits do, and so do they with all that runs.
 *
 * Thread: boxes_start with one thread; box_spawn and box_usage any; opening and closing one box is one thread's.
 * Nothing here changes after its opening, so there are no locks. */
#pragma once
#include "base/errors.h"
#include <sys/types.h>

enum box_level { BOX_NONE, BOX_PROCESS, BOX_NAMESPACE };

struct boxes;
struct box;

/* Picks the best level the kernel allows, at most `wanted`, by trying. If `required` (the user asked for the level by
 * name) and it is not to be had: ERR_DENIED with what is missing and how to allow it. ERR_INVALID: there are threads
 * already. With CAP_SYS_ADMIN and a level other than BOX_NONE the process gets a mount namespace of its own, in which /
 * is a slave of the host's (its mounts come, ours do not go) and shared with the boxes' (what the worker mounts later
 * is seen in boxes that are open; what they mount stays there). A process that is not root gets one too, in a user
 * namespace of its own, if it wants BOX_NAMESPACE, names a folder for a trial (empty or not there yet; the caller
 * removes it afterwards) and overlays work there: ids of others show as the overflow id from then on, programs that run
 * as another user do not (sudo), and ssh's configuration is that of now. */
int boxes_start(
    enum box_level wanted, bool required, const char *trial_dir, struct boxes **ret, struct why *why) MUST_USE;
void boxes_free(struct boxes **b);
enum box_level boxes_level(const struct boxes *b);
/* "namespace", "process", "none". */
const char *box_level_name(enum box_level level);
/* "" or one sentence: why not a better level, and how to allow it. */
const char *boxes_missing(const struct boxes *b);
/* The worker may mount, and what it mounts ends with it. */
bool boxes_may_mount(const struct boxes *b);
/* "" or one sentence: why it may not, where it might. */
const char *boxes_no_mounts(const struct boxes *b);
/* mount(2), for overlays: they work with the rights of who mounted them, and a worker in a user namespace has most of
 * its own not in effect. Any thread. */
int boxes_mount(
    const char *source, const char *at, const char *type, unsigned long flags, const char *options) MUST_USE;
/* Makes the mount at `path` read-only, and what is mounted below it where the kernel can (5.12). 0, or -1 with errno.
 */
int box_make_read_only(const char *path) MUST_USE;
/* Whether limits can be kept: the worker's control group is its own (cgroup v2). Otherwise `why` says how to get there.
 */
int boxes_may_limit(const struct boxes *b, struct why *why) MUST_USE;

/* Paths are absolute, without links in them. Lists end with NULL; a NULL list is empty. What does not exist is passed
 * over. Where folders lie in each other, the inner one's rule holds. Only BOX_NAMESPACE looks at other than the limits.
 */
struct box_config {
	const char
	    *scratch; /* a private folder of the session that exists; tmp/ and the layers of overlays are made in it */
	bool own_tmp; /* <scratch>/tmp becomes /tmp and /var/tmp */
	/* Writes to it stay in scratch (an overlay), and so do root's to the machine's folders; NULL: all is as it is.
	 */
	const char *home;
	const char *const *keep; /* folders that stay the real ones; scratch always does */
	const char *const *read_only;
	const char *const *hidden; /* folders that become empty */
	int64_t memory_bytes, cpu_milli, pids; /* 0: none */
};

/* At BOX_NONE *ret is NULL and the result OK. Errors: ERR_DENIED (limits that cannot be kept), ERR_IO etc. with `why`.
 */
int box_open(struct boxes *b, const struct box_config *cfg, struct box **ret, struct why *why) MUST_USE;
/* "" or one sentence: what could not be had (the overlay of the home). */
const char *box_warning(const struct box *x);
enum box_level box_level(const struct box *x);
/* Something killed it. */
bool box_has_ended(const struct box *x);

/* Descriptors are borrowed. A cwd_fd goes by its path, so that .. leads to the box's own folders: in the box that path
 * may be another folder. A cwd_fd or stdin_fd of 0 or less is not given (the worker's folder, /dev/null). */
struct box_spawn {
	const char *const *argv; /* argv[0] is looked up in the worker's PATH */
	char *const *env;
	const char *cwd; /* absolute, as the box sees it; NULL: cwd_fd */
	int cwd_fd, stdin_fd, out_fd, err_fd;
	pid_t *ret_inner_pid; /* the pid as the box sees it; may be NULL */
};
/* Starts a program with a session of its own (setsid), default signals and no descriptors but 0 to 2. *ret_pid is the
 * pid as the worker sees it. *ret_status_fd (owned by the caller) becomes readable when the program has ended: then
 * box_status. ERR_NOT_FOUND etc. from exec's errno with a sentence: it could not be started. ERR_INVALID: the working
 * directory cannot be used. */
int box_spawn(struct box *x, const struct box_spawn *s, pid_t *ret_pid, int *ret_status_fd, struct why *why) MUST_USE;
/* OK: *ret is as from waitpid; SIGKILL if the box ended before it could say. ERR_EMPTY: not yet. */
int box_status(int status_fd, int *ret);

struct box_usage {
	int64_t cpu_ms, peak_memory_bytes, written_bytes;
};
/* So far, of everything that ever ran in it. From the control group if there is one; otherwise of what has ended and
 * what runs, where the peak is that of the largest single process. */
int box_usage(struct box *x, struct box_usage *ret) MUST_USE;

/* Nothing that runs in it does so until box_resume, as far as the kernel lets us stop it; false: something goes on.
 * What is started meanwhile runs. NULL is fine: false. */
bool box_pause(struct box *x);
void box_resume(struct box *x);

/* TERM to all, after term_ms KILL to all, until nothing is left: OK. ERR_TIMEOUT: something still lives after
 * give_up_ms (the kernel holds it). *x is freed either way; NULL is fine. */
int box_close(struct box **x, int term_ms, int give_up_ms);
