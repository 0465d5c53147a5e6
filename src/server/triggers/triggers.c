/* Start and end of the pipeline, and its way in. */
#include "server/triggers/triggers.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "server/notices/notices.h"
#include "server/triggers/slack_priv.h"
#include "server/triggers/surface.h"
#include <stdatomic.h>
#include <string.h>

#define TRIGGERS_MAGIC 0x54524947u
#define WORKERS 4
#define FULL_PAUSE_MS (15 * 1000)
#define FORGET_EVERY_MS (60 * 60 * 1000)

METRIC_COUNTER(received, "bullpen_trigger_received_total", "Events that other services sent, by surface and result.",
    "surface", "result");

struct triggers {
	unsigned magic;
	struct triggers_config cfg;
	struct trigger_settings settings;
	struct linear *linear; /* NULL: not in the settings */
	struct redeliverer *redeliverer; /* NULL: no app */
	struct slack *slack;
	struct slack_socket *socket;
	struct progress *progress;
	struct api *api;
	struct outbox *processors[WORKERS], *senders[WORKERS];
	_Atomic int64_t forgotten_ms;
};

static const struct surface *const surfaces[] = {
    &surface_github, &surface_gitlab, &surface_gitea, &surface_linear, &surface_slack};
static const int64_t pauses[] = {1000, 5000, 30000, 120000, 600000};

const struct surface *surface_named(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(surfaces); i++)
		if (strcmp(surfaces[i]->name, name) == 0)
			return surfaces[i];
	return NULL;
}

const struct trigger_settings *triggers_settings(const struct triggers *t)
{
	return &t->settings;
}

const struct triggers_config *triggers_cfg(const struct triggers *t)
{
	return &t->cfg;
}

struct linear *triggers_linear(const struct triggers *t)
{
	return t->linear;
}

struct api *triggers_api(const struct triggers *t)
{
	return t->api;
}

struct slack *triggers_slack(struct triggers *t)
{
	return t->slack;
}

void triggers_wake_senders(struct triggers *t)
{
	for (size_t i = 0; i < WORKERS; i++)
		outbox_wake(t->senders[i]);
}

/* A run has ended: there may be something to say. */
static void hear_end(void *ctx, const struct note *note)
{
	struct triggers *t = OBJ_FROM(triggers, ctx, TRIGGERS_MAGIC);

	if (note->run_id != NULL)
		triggers_wake_senders(t);
}

/* The same, and what was made is to be said. */
static int process_and_wake(void *ctx, const struct outbox_item *item, struct why *why)
{
	struct triggers *t = OBJ_FROM(triggers, ctx, TRIGGERS_MAGIC);
	int rc = process_event(t, item, why);

	triggers_wake_senders(t);
	return rc;
}

int triggers_check(const struct triggers_config *cfg, struct why *why)
{
	struct trigger_settings s = {0};
	struct linear *linear = NULL;
	AUTO(slack) slack = NULL;
	int rc = trigger_settings_read(cfg->settings, &s, why);

	if (rc == OK)
		rc = linear_new(cfg->linear, &linear, why);
	if (rc == OK)
		rc = slack_new(cfg->slack, &slack, why);
	trigger_settings_fini(&s);
	linear_free(&linear);
	return rc;
}

int triggers_new(const struct triggers_config *cfg, struct triggers **ret, struct why *why)
{
	struct triggers *t = NEW(struct triggers);
	const struct outbox_config outbox = {.store = cfg->store,
	    .node_id = cfg->node_id,
	    .pauses_ms = pauses,
	    .n_pauses = ARRAY_LEN(pauses),
	    .full_pause_ms = FULL_PAUSE_MS};
	int rc;

	t->magic = TRIGGERS_MAGIC;
	t->cfg = *cfg;
	rc = trigger_settings_read(cfg->settings, &t->settings, why);
	if (rc == OK)
		rc = linear_new(cfg->linear, &t->linear, why);
	if (rc == OK)
		rc = slack_new(cfg->slack, &t->slack, why);
	linear_use(t->linear, cfg->store, cfg->seal);
	slack_use(t->slack, cfg->store, cfg->seal);
	if (rc != OK) {
		triggers_free(&t);
		return rc;
	}
	for (size_t i = 0; i < WORKERS; i++) {
		t->processors[i] = outbox_new(&outbox);
		outbox_handle(t->processors[i], TRIGGER_KIND, process_and_wake, t);
		t->senders[i] = outbox_new(&outbox);
		outbox_handle(t->senders[i], NOTICE_KIND, send_note, t);
	}
	if (cfg->notify != NULL)
		notify_listen(cfg->notify, NOTE_QUEUE_CHANGED, hear_end, t);
	*ret = t;
	return OK;
}

void triggers_set_api(struct triggers *t, struct api *api)
{
	t->api = api;
}

int triggers_start(struct triggers *t, struct why *why)
{
	int rc = OK;

	ENSURE(t->api != NULL);
	for (size_t i = 0; rc == OK && i < WORKERS; i++) {
		rc = outbox_start(t->processors[i], why);
		if (rc == OK)
			rc = outbox_start(t->senders[i], why);
	}
	if (rc == OK)
		rc = redeliverer_start(t, &t->redeliverer, why);
	if (rc == OK)
		rc = slack_socket_start(t, &t->socket, why);
	if (rc == OK)
		rc = progress_start(t, &t->progress, why);
	return rc;
}

void triggers_free(struct triggers **tp)
{
	struct triggers *t = TAKE(*tp);

	if (t == NULL)
		return;
	redeliverer_stop(&t->redeliverer);
	slack_stop(t->slack);
	slack_socket_free(&t->socket);
	progress_free(&t->progress);
	for (size_t i = 0; i < WORKERS; i++) {
		outbox_free(&t->processors[i]);
		outbox_free(&t->senders[i]);
	}
	trigger_settings_fini(&t->settings);
	linear_free(&t->linear);
	slack_free(&t->slack);
	t->magic = 0;
	free(t);
}

/* Once an hour, by whoever comes. */
static void forget_old(struct triggers *t)
{
	int64_t now = clock_mono_ms(), last = atomic_load(&t->forgotten_ms);

	if (last != 0 && now - last < FORGET_EVERY_MS)
		return;
	if (atomic_compare_exchange_strong(&t->forgotten_ms, &last, now) &&
	    inbox_forget(t->cfg.store, clock_wall_ms()) != OK)
		log_warn("trigger.forget", "error=\"the store could not be written\"");
}

int triggers_take(struct triggers *t, const struct surface *s, const struct accepted *a, const char *body, size_t len)
{
	int rc = inbox_add(t->cfg.store, s, a, body, len);

	metric_add(&received, 1, s->name, rc == OK ? "stored" : rc == ERR_CONFLICT ? "repeated" : "failed");
	for (size_t i = 0; rc == OK && !a->ignored && i < WORKERS; i++)
		outbox_wake(t->processors[i]);
	if (rc == OK && a->seen_at != NULL)
		triggers_wake_senders(t);
	forget_old(t);
	return rc;
}

static void receive_for(
    struct triggers *t, const struct surface *s, const struct inside_delivery *d, struct inside_answer *ret)
{
	AUTO_FINI(accepted) a = {0};
	struct why why = {0};
	int rc = s->accept(t, d, &a, ret, &why);

	if (rc == OK) {
		rc = triggers_take(t, s, &a, d->body, d->len);
		ret->status = rc == OK || rc == ERR_CONFLICT ? 200 : rc == ERR_INVALID ? 400 : 503;
		return;
	}
	metric_add(&received, 1, s->name,
	    rc == ERR_UNAUTHORIZED ? "unsigned"
	    : rc == ERR_EMPTY	   ? "answered"
				   : "refused");
	if (rc == ERR_UNAUTHORIZED)
		log_warn("trigger.unsigned", "surface=%s reason=%s", s->name, log_quote(why.text));
	ret->status = rc == ERR_EMPTY ? 200 : rc == ERR_UNAUTHORIZED ? 401 : rc == ERR_NOT_FOUND ? 404 : 400;
	if (rc == ERR_INVALID)
		ret->text = str_dup(why.text);
}

void triggers_receive(void *ctx, const struct inside_delivery *d, struct inside_answer *ret)
{
	struct triggers *t = OBJ_FROM(triggers, ctx, TRIGGERS_MAGIC);

	for (size_t i = 0; i < ARRAY_LEN(surfaces); i++)
		if (surfaces[i]->takes(d->path)) {
			receive_for(t, surfaces[i], d, ret);
			return;
		}
	ret->status = 404;
}
