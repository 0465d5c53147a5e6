/* triggers/surface.h: what a surface is to the pipeline. One file a surface; for this folder only. */
#pragma once
#include "base/json.h"
#include "server/outbox/outbox.h"
#include "server/triggers/options.h"
#include "server/triggers/triggers.h"

/* An event as it was received, its signature checked. What `accept` fills; texts malloc'ed. */
struct accepted {
	char *place, *delivery, *event;
	char *thread; /* the conversation; "": none, its order does not matter */
	json_t
	    *seen_at; /* where it is said at once that it was seen, before anything is done about it; NULL: it is not */
	char *body; /* what is stored instead of the bytes that came; NULL: those */
	bool ignored; /* stored, and nothing is done about it */
};
void accepted_fini(struct accepted *a);

/* A stored event. */
struct inbox_row {
	char *id, *surface, *place, *event, *thread, *body;
	int64_t received_at;
};

/* An issue that was given to us without a word. */
enum handed { HANDED_NOT, HANDED_ASSIGNED, HANDED_LABELED };

/* What somebody wants; texts malloc'ed, NULL where there is none. */
struct asked {
	char *account, *login; /* who, there */
	char *text;
	char *names[2]; /* of ours there, which call us besides the words of the settings ("@bullpen"); NULL: none */
	char *agent_id; /* this one is meant, whatever is the newest of the conversation */
	char *email; /* of the account, verified there; who has it here is the asker if nobody is linked */
	char *default_pool; /* of the place, for requests that name none */
	char *default_machine; /* of the asker; goes before that pool */
	char *repo_instead; /* goes before what the text says */
	char *repo_url, *pull_url; /* of the thread */
	char *context; /* what stands around it, quoted, for the prompt */
	json_t *images; /* for the prompt */
	json_t *at; /* where to answer, in the surface's terms */
	char *note; /* to be said beside the answer */
	char *note_of_new; /* likewise, if that is a new agent */
	int64_t retry_ms; /* of `look`, with ERR_FULL: how long the service wants to be left alone */
	/* What stands around the text and holds where it says nothing else: labels. */
	char *pool, *worker, *repo;
	enum handed handed; /* begins an agent, and continues none */
	bool trusted; /* of a forge: may direct us here; elsewhere true */
	bool may_be_answered; /* a refusal may be said; false: strangers get no answer */
	bool needs_mention;
	bool forces_new; /* a new agent even in a conversation that has one */
	bool stops; /* cancels what runs */
	bool archives; /* and puts the agent away */
	bool closed_place; /* what is decided for the place is decided for all who see it, and this one not all see */
	bool shows_id; /* what is asked for is the id of the request that agent_id works on */
	bool on_pull; /* work on its branch */
};
void asked_fini(struct asked *a);

enum tell { TELL_SEEN, TELL_ALIVE, TELL_STARTED, TELL_QUEUED, TELL_REJECTED, TELL_ENDED, TELL_PROGRESS };

struct told {
	enum tell tell;
	const json_t *at;
	json_t *said; /* what was answered before in this conversation; changed in place and kept */
	const char *agent_id, *agent_url, *run_id; /* NULL: rejected */
	const char *text; /* the refusal, or a note */
	const char *id; /* a UUID of its own, the same each time that it is tried */
	const char *event; /* the row of the inbox that it answers; NULL: none */
	bool again; /* it may have been said before a crash */
	const char *status, *result, *error, *pull_url, *branch; /* TELL_ENDED; NULL: none */
	bool asks; /* TELL_ENDED: what it says is a question, and the next message is the answer */
	int64_t deadline_mono_ms;
	int64_t retry_ms; /* out, with ERR_FULL: how long the service wants to be left alone */
};

struct surface {
	const char *name;
	unsigned keys; /* the options that it reads */
	bool drops_comments;
	const char *allow_off; /* what is said where the policy forbids the team's own machines; NULL: the usual */
	int64_t alive_ms; /* how often it is said that a run goes on (TELL_ALIVE); 0: never */
	/* Whether a path of /webhooks/ is its own. */
	bool (*takes)(const char *path);
	/* Handler's thread: nothing but the check and what it takes to store the event. ERR_UNAUTHORIZED; ERR_INVALID
	 * with why; ERR_EMPTY: answered by *ret without storing anything; ERR_NOT_FOUND: not configured. */
	int (*accept)(struct triggers *t, const struct inside_delivery *d, struct accepted *ret,
	    struct inside_answer *answer, struct why *why);
	/* Processor: what the event says. ERR_EMPTY with why: nothing for us. */
	int (*read)(
	    struct triggers *t, const struct inbox_row *row, const json_t *body, struct asked *ret, struct why *why);
	/* Processor, once it is known to be for us: fills context and trust by asking the service. May be NULL. Codes
	 * as forges.h; others than ERR_EMPTY and ERR_INVALID are tried again. */
	int (*look)(struct triggers *t, const struct inbox_row *row, const json_t *body, struct asked *a,
	    int64_t deadline_mono_ms, struct why *why);
	/* Processor, once the asker is known: a command, done in this write transaction; *ret is said to her alone.
	 * ERR_EMPTY: it is none. May be NULL. */
	int (*command)(struct triggers *t, struct tx *tx, const struct principal *who, const struct inbox_row *row,
	    const struct asked *a, char **ret);
	/* Likewise: fills what the place decides (default_pool) and what stands in plain words (options). ERR_INVALID
	 * with a sentence for her. May be NULL. */
	int (*settle)(struct triggers *t, struct tx *tx, const struct principal *who, const struct inbox_row *row,
	    struct asked *a, struct trigger_options *o, struct why *why);
	/* How far a run is, as TELL_PROGRESS brings it: malloc'ed; "": there is nothing to say. NULL: it is not said.
	 */
	int (*describe)(struct tx *tx, const char *run_id, char **ret);
	/* Sender: says it there. Codes likewise. It may be done twice after a crash, and must look the same then. */
	int (*tell)(struct triggers *t, const char *place, struct told *told, struct why *why);
};
extern const struct surface surface_github, surface_gitlab, surface_gitea, surface_linear, surface_slack;
const struct surface *surface_named(const char *name);

struct trigger_settings {
	bool strict;
	char **mentions; /* NULL-terminated */
	char **labels; /* that hand an issue over, NULL-terminated; NULL: none */
	char **trusted; /* associations of GitHub, NULL-terminated */
	bool asks_permission; /* instead: GitHub is asked who may write */
	bool cloud_pool_untrusted;
	int64_t redeliver_s; /* 0: failed deliveries are not asked for again */
};
/* linear.c: the table `linear`. */
struct linear;
int linear_new(const json_t *table, struct linear **ret, struct why *why) MUST_USE; /* *ret NULL: there is none */
void linear_free(struct linear **l);
/* Where its tokens are kept; both borrowed. NULL is fine. */
void linear_use(struct linear *l, struct store *store, const struct seal *seal);
struct linear *triggers_linear(const struct triggers *t);

int trigger_settings_read(const json_t *table, struct trigger_settings *ret, struct why *why) MUST_USE;
void trigger_settings_fini(struct trigger_settings *s);

const struct trigger_settings *triggers_settings(const struct triggers *t);
const struct triggers_config *triggers_cfg(const struct triggers *t);
struct api *triggers_api(const struct triggers *t);
/* Something is to be said. */
void triggers_wake_senders(struct triggers *t);
/* Stores what was accepted (body: what it came as, if accepted.body is NULL) and has it worked off. ERR_CONFLICT: it
 * was here before. */
int triggers_take(
    struct triggers *t, const struct surface *s, const struct accepted *a, const char *body, size_t len) MUST_USE;

/* inbox.c */
/* Whether `given` (NULL: nothing) is the HMAC-SHA256 of the bytes that came, in hexadecimal digits. No secret: no. */
bool delivery_is_signed(const char *secret, const char *given, const struct inside_delivery *d);
#define TRIGGER_KIND "trigger" /* of the outbox; its subject is the conversation */
/* Stores the event and what has it processed. ERR_CONFLICT: it is here already. */
int inbox_add(
    struct store *st, const struct surface *s, const struct accepted *a, const char *body, size_t len) MUST_USE;
int inbox_load(struct store *st, const char *id, struct inbox_row *ret) MUST_USE; /* ERR_EMPTY: gone, or done */
void inbox_row_fini(struct inbox_row *r);
int inbox_end(struct tx *tx, const char *id, const char *state, const char *reason, const char *agent_id) MUST_USE;
/* Forgets bodies after a week and rows after thirty days, some at a time. */
int inbox_forget(struct store *st, int64_t now_ms) MUST_USE;

/* redeliver.c: a thread, if there is a GitHub App; *ret NULL: there is none. */
struct redeliverer;
int redeliverer_start(struct triggers *t, struct redeliverer **ret, struct why *why) MUST_USE;
/* Waits until it is gone. NULL is fine. */
void redeliverer_stop(struct redeliverer **r);

/* progress.c: a thread that says how far runs are, where a surface does (describe). */
struct progress;
int progress_start(struct triggers *t, struct progress **ret, struct why *why) MUST_USE;
void progress_free(struct progress **p); /* NULL is fine */

/* process.c: the outbox' handler; ctx is the triggers. */
int process_event(void *ctx, const struct outbox_item *item, struct why *why);
/* notes.c: likewise, for what is said there. */
int send_note(void *ctx, const struct outbox_item *item, struct why *why);
int note_add(struct tx *tx, const char *subject, const json_t *payload, int64_t now_ms) MUST_USE;

/* target.c: where it runs. */
struct target {
	json_t *env; /* of POST /v1/agents */
	const char *note; /* a literal to be said beside; NULL: none */
};
/* ERR_INVALID with a sentence for the person; ERR_EMPTY: it is skipped, and nothing is said. */
int target_choose(struct triggers *t, struct tx *tx, const struct surface *s, const struct principal *who,
    const struct asked *a, const struct trigger_options *o, const char *repo_url, struct target *ret,
    struct why *why) MUST_USE;
