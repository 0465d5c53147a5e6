#include "server/node/relay.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include <stdatomic.h>
#include <string.h>

#define MISSED_MS 5000

struct relay {
	struct store *store;
	const struct node *node;
	struct notify *notify;
	struct store_channel *channel;
	atomic_bool has_peers, listening, stopped;
	int64_t missed_due_ms; /* of relay_look's thread */
};

/* Words, not numbers: nodes of two versions talk to each other while they are upgraded. */
static const char *const kind_names[NOTE_KINDS] = {[NOTE_RUN_CHANGED] = "run_changed",
    [NOTE_RUN_READY] = "run_ready",
    [NOTE_RUN_CANCELLED] = "run_cancelled",
    [NOTE_CLAIM_ENDED] = "claim_ended",
    [NOTE_QUEUE_CHANGED] = "queue_changed",
    [NOTE_KEY_REVOKED] = "key_revoked",
    [NOTE_AGENT_PRIVATE] = "agent_private",
    [NOTE_WORKER_RELEASED] = "worker_released",
    [NOTE_WORKER_MOVED] = "worker_moved",
    [NOTE_MISSED] = NULL}; /* each node's own */

/* What a reason may be: listeners keep the pointer. */
static const char *const reasons[] = {"aborted", "error", "user_close", "completed", NOTE_DRAINED, NOTE_CLAIM_RELEASED};

static const char hello[] = "{\"kind\":\"hello\"}";
static const char queue_changed[] = "{\"kind\":\"queue_changed\",\"worker\":\"\"}";

static void send_note(void *ctx, const struct note *n)
{
	struct relay *r = ctx;
	AUTO_JSON o = NULL;
	AUTO_STR text = NULL;

	if (kind_names[n->kind] == NULL || !atomic_load_explicit(&r->has_peers, memory_order_relaxed))
		return;
	/* Who told it pairs, too: the others only need to know that reasons to wait may have changed. */
	if (n->kind == NOTE_QUEUE_CHANGED) {
		store_channel_send(r->channel, queue_changed);
		return;
	}
	o = json_pack("{s:s, s:I, s:s*, s:s*, s:s*, s:s*, s:s*, s:s*, s:I}", "kind", kind_names[n->kind], "team",
	    (json_int_t)n->team_id, "worker", n->worker_id, "run", n->run_id, "agent", n->agent_id, "claim",
	    n->claim_id, "key", n->key_id, "reason", n->reason, "epoch", (json_int_t)n->epoch);
	text = o != NULL ? json_text(o) : NULL;
	if (text != NULL)
		store_channel_send(r->channel, text);
}

static const char *known_reason(const char *given)
{
	for (size_t i = 0; given != NULL && i < ARRAY_LEN(reasons); i++)
		if (strcmp(reasons[i], given) == 0)
			return reasons[i];
	return NULL;
}

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

/* Each kind with what its listeners take for granted. */
static bool is_whole(const struct note *n)
{
	switch (n->kind) {
	case NOTE_RUN_CHANGED:
	case NOTE_RUN_READY:
		return n->run_id != NULL;
	case NOTE_RUN_CANCELLED:
		return n->run_id != NULL && n->worker_id != NULL;
	case NOTE_CLAIM_ENDED:
		return n->worker_id != NULL && n->agent_id != NULL;
	case NOTE_KEY_REVOKED:
		return n->key_id != NULL;
	case NOTE_AGENT_PRIVATE:
		return n->agent_id != NULL;
	case NOTE_WORKER_RELEASED:
		return n->worker_id != NULL && n->reason != NULL;
	case NOTE_WORKER_MOVED:
		return n->worker_id != NULL;
	default:
		return n->kind == NOTE_QUEUE_CHANGED && n->worker_id != NULL && n->team_id == 0;
	}
}

static void hear_note(struct relay *r, const json_t *o, enum note_kind kind)
{
	const struct note n = {.kind = kind,
	    .team_id = json_integer_value(json_object_get(o, "team")),
	    .worker_id = text_of(o, "worker"),
	    .run_id = text_of(o, "run"),
	    .agent_id = text_of(o, "agent"),
	    .claim_id = text_of(o, "claim"),
	    .key_id = text_of(o, "key"),
	    .reason = known_reason(text_of(o, "reason")),
	    .epoch = json_integer_value(json_object_get(o, "epoch"))};

	if (is_whole(&n))
		notify_hear(r->notify, &n);
}

static void hear_word(void *ctx, const char *text)
{
	struct relay *r = ctx;
	AUTO_JSON o = NULL;
	const char *kind;

	if (!atomic_load(&r->listening))
		return;
	if (text == NULL) { /* the channel is there (again) */
		store_channel_send(r->channel, hello);
		notify_hear(r->notify, &(struct note){.kind = NOTE_MISSED});
		return;
	}
	o = json_loads(text, 0, NULL);
	kind = text_of(o, "kind");
	for (size_t i = 0; kind != NULL && i < NOTE_KINDS; i++)
		if (kind_names[i] != NULL && strcmp(kind_names[i], kind) == 0)
			hear_note(r, o, (enum note_kind)i);
	if (kind != NULL && strcmp(kind, "hello") == 0)
		atomic_store(&r->has_peers, true);
}

int relay_start(struct store *st, const struct node *node, struct notify *n, struct relay **ret)
{
	struct relay *r;
	int rc;

	*ret = NULL;
	if (!store_is_shared(st))
		return OK;
	r = NEW(struct relay);
	r->store = st;
	r->node = node;
	r->notify = n;
	/* Until it was looked there may be some. */
	atomic_store(&r->has_peers, true);
	rc = store_channel_open(st, hear_word, r, &r->channel);
	if (rc != OK) {
		free(r);
		return rc;
	}
	notify_set_relay(n, send_note, r);
	*ret = r;
	return OK;
}

void relay_listen(struct relay *r)
{
	if (r == NULL)
		return;
	atomic_store(&r->listening, true);
	/* The channel may have been there before. */
	store_channel_send(r->channel, hello);
}

void relay_stop(struct relay *r)
{
	if (r == NULL)
		return;
	atomic_store(&r->stopped, true);
	notify_set_relay(r->notify, NULL, NULL);
	store_channel_close(&r->channel);
}

void relay_free(struct relay **r)
{
	free(TAKE(*r));
}

void relay_look(struct relay *r, int64_t now_mono_ms)
{
	bool before;
	int64_t peers = 0;

	if (r == NULL || node_count_peers(r->store, r->node, &peers) != OK)
		return;
	before = atomic_exchange(&r->has_peers, peers > 0);
	if (before != (peers > 0))
		log_info("node.peers", "others=%lld", (long long)peers);
	if (peers > 0 && !atomic_load(&r->stopped) && now_mono_ms >= r->missed_due_ms) {
		r->missed_due_ms = now_mono_ms + MISSED_MS;
		notify_hear(r->notify, &(struct note){.kind = NOTE_MISSED});
	}
}
