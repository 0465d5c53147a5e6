#include "server/webhooks/webhooks.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/text.h"
#include "net/fetch.h"
#include "server/outbox/outbox.h"
#include "server/webhooks/team.h"
#include "server/webhooks/webhooks_priv.h"
#include <stdatomic.h>
#include <string.h>

#define WEBHOOKS_MAGIC 0x57484f4bu
#define KIND "webhook"
#define SENDERS 4 /* so that one slow receiver does not keep the others waiting */
#define TIMEOUT_MS 10000
#define DAY_MS ((int64_t)24 * 60 * 60 * 1000)

struct webhooks {
	unsigned magic;
	struct webhooks_config cfg;
	struct outbox *senders[SENDERS], *team[SENDERS];
	atomic_bool stop;
};

static const int64_t pauses[WEBHOOK_ATTEMPTS - 1] = {
    10 * 1000, 60 * 1000, 5 * 60 * 1000, 30 * 60 * 1000, 2 * 60 * 60 * 1000};
#define HOUR_MS ((int64_t)60 * 60 * 1000)
static const int64_t team_pauses[] = {10 * 1000, 60 * 1000, 10 * 60 * 1000, HOUR_MS, 6 * HOUR_MS, 17 * HOUR_MS};

static char *seal_name(const char *agent_id)
{
	return str_printf("webhook/%s", agent_id);
}

int webhook_set(struct tx *tx, const struct seal *seal, const char *agent_id, const char *url, const char *secret,
    const char *agent_url)
{
	AUTO_STR of = seal_name(agent_id);
	AUTO_STR sealed = secret != NULL ? seal_text(seal, of, secret) : NULL;

	return tx_exec(tx, "INSERT INTO webhooks(agent_id, url, secret, agent_url) VALUES($1, $2, $3, $4)", "ssss",
	    agent_id, url, sealed, agent_url);
}

int webhook_drop(struct tx *tx, const char *agent_id)
{
	int rc = tx_exec(tx, "DELETE FROM webhooks WHERE agent_id = $1", "s", agent_id);

	return rc != OK ? rc : outbox_drop(tx, KIND, agent_id);
}

char *webhook_summary(const char *result)
{
	size_t i = 0;

	if (result == NULL || text_is_blank(result))
		return NULL;
	for (size_t n = 0; result[i] != '\0'; i++)
		if (((unsigned char)result[i] & 0xc0) != 0x80 && n++ == WEBHOOK_SUMMARY_MAX)
			break;
	return str_ndup(result, i);
}

void webhook_sign(const char *secret, const char *body, char out[WEBHOOK_SIGNATURE_LEN])
{
	unsigned char mac[HMAC_SHA256_LEN];
	size_t n = (size_t)snprintf(out, WEBHOOK_SIGNATURE_LEN, "sha256=");

	hmac_sha256(secret, strlen(secret), body, strlen(body), mac);
	for (size_t i = 0; i < sizeof mac; i++)
		snprintf(out + n + 2 * i, 3, "%02x", mac[i]);
}

static void put_text(json_t *o, const char *key, const char *value)
{
	if (value != NULL && value[0] != '\0')
		json_put(o, key, value);
}

char *webhook_body(const struct webhook_event *e, const char *agent_url)
{
	json_t *source = json_object(), *target = json_object();
	AUTO_JSON body = json_object();
	AUTO_STR summary = webhook_summary(e->summary);
	char when[CLOCK_ISO_LEN];

	clock_iso8601(e->at_ms, when);
	json_put(body, "event", "statusChange");
	json_put(body, "timestamp", when);
	json_put(body, "id", e->agent_id);
	json_put(body, "status", strcmp(e->status, "FINISHED") == 0 ? "FINISHED" : "ERROR");
	put_text(source, "repository", e->repository);
	put_text(source, "ref", e->ref);
	json_put_new(body, "source", source);
	json_put(target, "url", agent_url);
	put_text(target, "branchName", e->branch);
	put_text(target, "prUrl", e->pull_url);
	json_put_new(body, "target", target);
	put_text(body, "summary", summary);
	return json_text(body);
}

int webhook_event(struct tx *tx, const struct webhook_event *e)
{
	AUTO_STR agent_url = NULL;
	AUTO_STR body = NULL;
	int rc;

	if (strcmp(e->status, "CANCELLED") == 0)
		return OK;
	rc = team_webhook_event(tx, e);
	if (rc != OK)
		return rc;
	rc = tx_query_text(tx, &agent_url, "SELECT agent_url FROM webhooks WHERE agent_id = $1", "s", e->agent_id);
	if (rc != OK)
		return rc == ERR_EMPTY ? OK : rc;
	body = webhook_body(e, agent_url);
	return outbox_add_in_order(tx, KIND, e->agent_id, body, e->at_ms);
}

/* Address and secret of an agent; the secret must be wiped. */
static int load_target(struct webhooks *w, const char *agent_id, char **ret_url, char **ret_secret)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	AUTO_STR of = seal_name(agent_id);
	int rc = tx_begin(w->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q, "SELECT url, secret FROM webhooks WHERE agent_id = $1", "s", agent_id);
	if (rc == OK)
		rc = query_next(q);
	if (rc == OK && query_text(q, 1) != NULL)
		rc = seal_open(w->cfg.seal, of, query_text(q, 1), ret_secret);
	if (rc == OK)
		*ret_url = str_dup(query_str(q, 0));
	return rc;
}

/* What an answer means for the row. */
static int judge_status(long status, struct why *why)
{
	if (status / 100 == 2)
		return OK;
	return why_set(why, status == 408 || status == 429 || status / 100 == 5 ? ERR_NET : ERR_INVALID,
	    "the receiver answered %ld", status);
}

int webhook_post(const struct webhooks_config *cfg, const char *url, const char *body, const char *const *headers,
    const atomic_bool *stop, struct why *why)
{
	struct post_request req = {.url = url,
	    .body = body,
	    .headers = headers,
	    .timeout_ms = TIMEOUT_MS,
	    .allow_private = cfg->allow_private,
	    .stop = stop};
	long status = 0;
	int rc = fetch_post(&req, &status, why);

	if (rc == OK)
		return judge_status(status, why);
	/* Where nothing may be sent, nothing may be sent tomorrow. */
	return rc == ERR_DENIED ? ERR_INVALID : rc;
}

static int deliver_to(
    struct webhooks *w, const struct outbox_item *item, const char *url, const char *secret, struct why *why)
{
	char signature[WEBHOOK_SIGNATURE_LEN];
	AUTO_STR id = str_printf("X-Webhook-ID: %s", item->id);
	AUTO_STR signed_header = NULL;
	const char *headers[] = {"Content-Type: application/json", "X-Webhook-Event: statusChange",
	    "User-Agent: Cursor-Agent-Webhook/1.0", id, NULL, NULL};

	if (secret != NULL) {
		webhook_sign(secret, item->payload, signature);
		headers[4] = signed_header = str_printf("X-Webhook-Signature: %s", signature);
	}
	return webhook_post(&w->cfg, url, item->payload, headers, &w->stop, why);
}

/* Sender's thread. */
static int deliver(void *ctx, const struct outbox_item *item, struct why *why)
{
	struct webhooks *w = OBJ_FROM(webhooks, ctx, WEBHOOKS_MAGIC);
	AUTO_STR url = NULL;
	char *secret = NULL;
	int rc = load_target(w, item->subject, &url, &secret);

	if (rc == OK)
		rc = deliver_to(w, item, url, secret, why);
	else if (rc == ERR_EMPTY)
		rc = why_set(why, ERR_INVALID, "the agent is gone");
	str_wipe(&secret);
	return rc;
}

/* Sender's thread. */
static int deliver_for_team(void *ctx, const struct outbox_item *item, struct why *why)
{
	struct webhooks *w = OBJ_FROM(webhooks, ctx, WEBHOOKS_MAGIC);

	return team_deliver(&w->cfg, item, &w->stop, why);
}

/* A run has ended: there may be something to send. */
static void hear_end(void *ctx, const struct note *note)
{
	struct webhooks *w = OBJ_FROM(webhooks, ctx, WEBHOOKS_MAGIC);

	for (size_t i = 0; note->run_id != NULL && i < SENDERS; i++) {
		outbox_wake(w->senders[i]);
		outbox_wake(w->team[i]);
	}
}

struct webhooks *webhooks_new(const struct webhooks_config *cfg)
{
	struct webhooks *w = NEW(struct webhooks);
	const struct outbox_config outbox = {.store = cfg->store,
	    .node_id = cfg->node_id,
	    .pauses_ms = pauses,
	    .n_pauses = ARRAY_LEN(pauses),
	    .age_max_ms = 30 * DAY_MS}; /* a server that was away for long still tries as often as was promised */
	struct outbox_config team = outbox;

	team.pauses_ms = team_pauses;
	team.n_pauses = ARRAY_LEN(team_pauses);

	w->magic = WEBHOOKS_MAGIC;
	w->cfg = *cfg;
	for (size_t i = 0; i < SENDERS; i++) {
		w->senders[i] = outbox_new(&outbox);
		outbox_handle(w->senders[i], KIND, deliver, w);
		w->team[i] = outbox_new(&team);
		outbox_handle(w->team[i], TEAM_KIND, deliver_for_team, w);
	}
	if (cfg->notify != NULL)
		notify_listen(cfg->notify, NOTE_QUEUE_CHANGED, hear_end, w);
	return w;
}

int webhooks_start(struct webhooks *w, struct why *why)
{
	int rc = OK;

	for (size_t i = 0; rc == OK && i < SENDERS; i++) {
		rc = outbox_start(w->senders[i], why);
		if (rc == OK)
			rc = outbox_start(w->team[i], why);
	}
	return rc;
}

void webhooks_free(struct webhooks **wp)
{
	struct webhooks *w = TAKE(*wp);

	if (w == NULL)
		return;
	atomic_store(&w->stop, true);
	for (size_t i = 0; i < SENDERS; i++) {
		outbox_free(&w->senders[i]);
		outbox_free(&w->team[i]);
	}
	w->magic = 0;
	free(w);
}

int webhooks_send_one(struct webhooks *w, int64_t now_ms, int64_t *ret_next_ms)
{
	return outbox_send_one(w->senders[0], now_ms, ret_next_ms);
}

int webhooks_send_one_of_team(struct webhooks *w, int64_t now_ms, int64_t *ret_next_ms)
{
	return outbox_send_one(w->team[0], now_ms, ret_next_ms);
}
