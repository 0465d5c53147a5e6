/* agent/box/box_priv.h: what worker, keeper and init say to each other, and the parts they share. */
#pragma once
#include "agent/box/box.h"
#include "agent/box/cgroup.h"
#include <stdatomic.h>

struct boxes {
	uint32_t magic;
	enum box_level level;
	bool may_mount, privileged;
	int sock; /* to the keeper; -1: none */
	pid_t keeper;
	struct cgroup *cgroup; /* the worker's own; NULL: none */
	struct why no_cgroup;
	atomic_uint next_group;
	struct why missing;
	struct why no_mounts; /* why not may_mount */
};
#define BOXES_MAGIC 0xb0c5e500

struct box {
	uint32_t magic;
	enum box_level level;
	int sock; /* to the init; its end is the end of the box */
	int pid_fd; /* of the init; owns nothing else */
	pid_t pid;
	char *group; /* path of its control group; NULL: none */
	struct why warning;
};
#define BOX_MAGIC 0xb0c5e501

/* wire.c: packets of one fixed struct, with descriptors; long texts in a memfd beside it. */
enum packet_kind {
	PACKET_HELLO = 1, /* keeper: level, text: what is missing */
	PACKET_OPEN, /* to the keeper: fds texts, init's socket */
	PACKET_MADE, /* keeper, on the box's socket: pid, fd pidfd; or code and text */
	PACKET_READY, /* init: code and text (an error, or a warning) */
	PACKET_SPAWN, /* to the init: fds texts, status socket, out, err[, stdin] */
	PACKET_BEGUN, /* the program itself, on the status socket: the kernel adds its pid */
	PACKET_STARTED, /* init, on the status socket: code is exec's errno or 0 */
	PACKET_ENDED, /* init, on the status socket: code is the wait status */
	PACKET_USAGE, /* to the init: fd of a socket for the answer; the answer */
	PACKET_CLOSE /* to the init */
};
#define PACKET_FDS 5
struct packet {
	uint32_t kind;
	int32_t code;
	uint32_t n_fds, n_texts;
	uint32_t count[4]; /* OPEN: keep, read_only, hidden. SPAWN: arguments, environment */
	uint64_t texts_bytes;
	int32_t level, term_ms, give_up_ms, pid;
	bool own_tmp, home;
	struct box_usage usage;
	char text[512];
	int fd[PACKET_FDS]; /* set by wire_recv; the receiver owns them */
};

int wire_send(int sock, const struct packet *p, const int *fds, size_t n_fds);
/* OK, ERR_CLOSED (the other end is gone), ERR_TIMEOUT, ERR_IO. *ret_pid (may be NULL) is the sender's pid where the
 * socket has SO_PASSCRED. */
int wire_recv(int sock, int timeout_ms, struct packet *ret, pid_t *ret_pid);
void wire_close_fds(struct packet *p);
/* A memfd with the texts, each with its NUL, is built up by... */
struct texts {
	char *v;
	size_t len, cap;
	uint32_t n;
};
void texts_add(struct texts *t, const char *s);
int texts_to_fd(const struct texts *t);
void texts_fini(struct texts *t);
/* ...and read back as pointers into *ret_block, with room for two NULLs. Both malloc'ed. */
int texts_read(int fd, uint64_t bytes, uint32_t n, char **ret_block, char ***ret);

/* keeper.c */
_Noreturn void keeper_run(int sock, enum box_level wanted, bool privileged);
/* Whether the kernel allows boxes of BOX_NAMESPACE, by making one. */
bool keeper_may_box(bool privileged, struct why *missing);

/* userns.c: where a trial in a child shows that overlays and boxes work there, takes this process, which has one
 * thread, into a user namespace and a mount namespace of its own; its user and group stay what they are, of all rights
 * in there it keeps that to mount. `dir` is a folder that is empty or is made. OK: either it did, or *ret_entered is
 * false and `why` says what is missing. ERR_…: it is half there, and of no use any more. */
int userns_enter(const char *dir, bool *ret_entered, struct why *why) MUST_USE;
/* It did, or the process that this one is a fork of. */
bool userns_entered(void);
/* For the init of a box, which was made in there because only there the worker's mounts can be covered (they would be
 * locked in another's): into a user namespace below it, which has no say over any mount. Elsewhere nothing. */
int userns_leave(void);

/* init.c. `sock` and the packet's descriptors are its own; everything else is closed. */
_Noreturn void init_run(int sock, struct packet *open, bool privileged);

/* mounts.c: the box's own view of the files, made by the init in its new mount namespace. `v` as in PACKET_OPEN. */
int mounts_make(const struct packet *open, char **v, bool privileged, struct why *warning, struct why *why);
/* All that mounts_make is going to need, for a process that ends after it. *ret_step names what failed, with errno. */
int mounts_probe(bool privileged, const char **ret_step);

/* mounts_ssh.c: makes ssh work where root's files are nobody's, with copies in `scratch`. Best effort. */
void mounts_own_ssh(const char *scratch);

/* privilege.c */
bool privilege_may_mount(void); /* CAP_SYS_ADMIN is effective */
bool privilege_has_any(void);
/* In a new user namespace: this uid and gid stay what they are. `uid` and `gid` from before. */
int privilege_map_ids(uid_t uid, gid_t gid);
/* Of all capabilities only CAP_SYS_ADMIN stays in effect; the others are there for privilege_mount. Calling thread. */
int privilege_only_mount(void);
/* mount(2) with all that is permitted in effect. */
int privilege_mount(const char *source, const char *at, const char *type, unsigned long flags, const char *options);
/* All that is permitted is in effect. */
int privilege_all(void);
/* What programs of the box may never have again. */
int privilege_drop(bool privileged);

/* tree.c: processes below one, by their parents. */
/* Signals all descendants of `root` (not itself) as they are seen; those below `except` are left out. How many there
 * were. */
size_t tree_signal(pid_t root, const pid_t *except, size_t n_except, int sig);
/* Stops all descendants until none of them runs: true. False: some still do after wait_ms. SIGCONT lets them go on. */
bool tree_stop(pid_t root, int wait_ms);
/* Adds what descendants of `root` have used so far. */
void tree_usage(pid_t root, struct box_usage *u);
