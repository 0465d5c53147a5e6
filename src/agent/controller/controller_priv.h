/* agent/controller/controller_priv.h: what the files of this folder share. */
#pragma once
#include "agent/exit_status.h"
#include "base/json.h"
#include "base/mailbox.h"
#include "base/map.h"

#define POOLS_MAX 20
#define STREAMS_MAX 4 /* of one service account; who watches more pools watches all, and picks */
#define HOOKS_MAX 32 /* processes at once */
#define RELIST_MS (5 * 60 * 1000) /* a cursor lives so long */

struct controller_options {
	const char *spawn;
	char *endpoint, *api_key;
	const char *pools[POOLS_MAX];
	size_t n_pools; /* 0: all of them */
	const char *repository; /* NULL: any */
	int64_t warm_idle; /* 0: claim mode */
	bool session_token;
};

/* options.c. OK, ERR_EMPTY (the help was printed), ERR_INVALID, ERR_UNAUTHORIZED (no key). Strings of argv are
 * borrowed. */
int controller_options_parse(int argc, char **argv, struct controller_options *ret, struct why *why) MUST_USE;
void controller_options_fini(struct controller_options *o);

/* fleet_api.c: one request; blocks at most 30 s. Any thread. */
struct reply {
	int status; /* 0: no answer */
	json_t *body; /* NULL: none, or not JSON */
	char *text; /* what is the matter, in a line; "" if it went well */
	int64_t retry_after_ms;
};
void reply_fini(struct reply *r);
void fleet_api(
    const struct controller_options *o, const char *method, const char *path, const json_t *body, struct reply *ret);
/* "?a=b&c=d" of those that are not NULL, percent-encoded; malloc'ed. Names and values in turn, NULL at the end. */
char *query_of(const char *name, ...) __attribute__((sentinel));

/* What reaches the main thread. */
enum event_kind {
	EVENT_UPSERT, /* `request`: it waits */
	EVENT_REMOVE, /* `id`: it does not wait any more; `claimed`: it has a worker */
	EVENT_RELIST, /* the watch of `pool` ended: list again */
	EVENT_HOOK_ENDED, /* `id`, `worker_id`, `status`, `text`: its last line */
	EVENT_STOP
};
struct event {
	enum event_kind kind;
	json_t *request;
	char *id, *worker_id, *text;
	int status;
	bool claimed;
};
void event_free(void *e);

/* warm.c's. Monotonic times. */
struct warm {
	int64_t look_ms; /* when the pools are looked at */
	int64_t not_before_ms[POOLS_MAX]; /* after failures of the program */
	unsigned failures[POOLS_MAX];
};

struct controller {
	struct controller_options o;
	struct mailbox *inbox;
	struct map *requests; /* id -> struct request, claim mode */
	struct map *starting; /* worker id -> struct starting, warm mode */
	struct warm warm;
	unsigned hooks; /* processes that run */
	int64_t full_said_ms; /* when it was said last that no more may run */
	int64_t away_until_ms; /* the control plane does not answer: no claim before then */
	int exit_status; /* decided: the loop ends */
	bool ended;
};

/* Ends the loop with this status, after one line. */
void controller_fail(struct controller *c, int status, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* An answer that ends the controller (401, 403) does; true then. */
bool controller_is_refused(struct controller *c, const struct reply *r, const char *what);

/* hook.c. Starts the program with the controller's environment and these variables (NULL value: unset); its output goes
 * to the log, line by line, and its end comes as EVENT_HOOK_ENDED with `id` and `worker_id`. ERR_FULL: HOOKS_MAX run;
 * ERR_IO with `why`. Main thread. */
struct hook_variable {
	const char *name, *value;
};
int hook_start(struct controller *c, const char *id, const char *worker_id, const struct hook_variable *v, size_t n,
    struct why *why) MUST_USE;

/* "default" if it names none. Borrowed. */
const char *request_pool(const json_t *request);

/* watch.c. A thread that follows the stream from the cursor and posts what it says, until it ends; then EVENT_RELIST.
 * `pool` NULL: all. Main thread. */
int watch_start(struct controller *c, const char *pool, const char *cursor) MUST_USE;
/* Lists what waits, to the end, calls `fn` for each, and starts a watch behind it. False: it could not be had, or the
 * controller is to end. */
bool watch_list(struct controller *c, const char *pool, void (*fn)(struct controller *c, const json_t *request));

/* claims.c and warm.c. Both return the monotonic time of what is to be done next. */
/* `listed`: the list has it, which is the truth; else the stream, which may say what was before our claim. */
void claims_take(struct controller *c, const json_t *request, bool listed);
void claims_drop(struct controller *c, const char *id, bool claimed);
void claims_hook_ended(struct controller *c, const struct event *e);
int64_t claims_tick(struct controller *c, int64_t now_ms);
int64_t warm_tick(struct controller *c, int64_t now_ms, bool now);
void warm_hook_ended(struct controller *c, const char *id, int status, const char *text);
