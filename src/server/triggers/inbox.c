/* Events as rows: each delivery once. */
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "server/triggers/surface.h"
#include <sodium.h>
#include <string.h>

#define DAY_MS ((int64_t)24 * 60 * 60 * 1000)
#define FORGET_STEP 500

bool delivery_is_signed(const char *secret, const char *given, const struct inside_delivery *d)
{
	unsigned char mac[HMAC_SHA256_LEN];
	char hex[2 * sizeof mac + 1];

	if (secret == NULL || given == NULL || strlen(given) != sizeof hex - 1)
		return false;
	hmac_sha256(secret, strlen(secret), d->body, d->len, mac);
	sodium_bin2hex(hex, sizeof hex, mac, sizeof mac);
	return sodium_memcmp(hex, given, sizeof hex - 1) == 0;
}

void accepted_fini(struct accepted *a)
{
	str_free(&a->place);
	str_free(&a->delivery);
	str_free(&a->event);
	str_free(&a->thread);
	str_free(&a->body);
	json_drop(&a->seen_at);
}

void inbox_row_fini(struct inbox_row *r)
{
	char **const texts[] = {&r->id, &r->surface, &r->place, &r->event, &r->thread, &r->body};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		str_free(texts[i]);
}

static int add_in(struct tx *tx, const struct surface *s, const struct accepted *a, const char *body, int64_t now)
{
	AUTO_STR subject = str_printf("%s/%s/%s", s->name, a->place, a->thread);
	char id[UUID_LEN];
	int64_t n = 0;
	int rc;

	id_uuid(id);
	rc = tx_change(tx, &n,
	    "INSERT INTO inbox(id, surface, place, delivery, event, thread, body, state, reason, received_at, ended_at)"
	    " VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING",
	    "sssssssssii", id, s->name, a->place, a->delivery, a->event, a->thread, a->ignored ? NULL : body,
	    a->ignored ? "ignored" : "new", a->ignored ? "not an event that starts anything" : NULL, now,
	    a->ignored ? now : (int64_t)0);
	if (rc == OK && n == 0)
		return ERR_CONFLICT;
	if (rc != OK || a->ignored)
		return rc;
	if (a->seen_at != NULL) {
		AUTO_JSON note = json_pack("{s:s, s:s, s:s, s:O, s:s}", "tell", "seen", "surface", s->name, "place",
		    a->place, "at", a->seen_at, "event", id);

		rc = note_add(tx, id, note, now);
	}
	if (rc != OK)
		return rc;
	return a->thread[0] != '\0' ? outbox_add_in_order(tx, TRIGGER_KIND, subject, id, now)
				    : outbox_add(tx, TRIGGER_KIND, subject, id, now, now, NULL);
}

int inbox_add(struct store *st, const struct surface *s, const struct accepted *a, const char *body, size_t len)
{
	AUTO(tx) tx = NULL;
	int rc = a->body != NULL || strlen(body) == len ? tx_begin(st, TX_WRITE, &tx) : ERR_INVALID;

	if (rc == OK)
		rc = add_in(tx, s, a, a->body != NULL ? a->body : body, clock_wall_ms());
	return rc == OK ? tx_commit(&tx) : rc;
}

int inbox_load(struct store *st, const char *id, struct inbox_row *ret)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = tx_begin(st, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT id, surface, place, event, thread, body, received_at FROM inbox WHERE id = $1 AND state = "
		    "'new' AND "
		    "body IS NOT NULL",
		    "s", id);
	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	char **const texts[] = {&ret->id, &ret->surface, &ret->place, &ret->event, &ret->thread, &ret->body};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		*texts[i] = str_dup(query_str(q, (int)i));
	ret->received_at = query_int(q, 6);
	return OK;
}

int inbox_end(struct tx *tx, const char *id, const char *state, const char *reason, const char *agent_id)
{
	return tx_exec(tx, "UPDATE inbox SET state = $2, reason = $3, agent_id = $4, ended_at = $5 WHERE id = $1",
	    "ssssi", id, state, reason, agent_id, clock_wall_ms());
}

int inbox_forget(struct store *st, int64_t now_ms)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(st, TX_WRITE, &tx);

	if (rc == OK)
		rc = tx_exec(tx,
		    "UPDATE inbox SET body = NULL WHERE id IN (SELECT id FROM inbox WHERE received_at < $1 AND body IS "
		    "NOT NULL LIMIT $2)",
		    "ii", now_ms - 7 * DAY_MS, (int64_t)FORGET_STEP);
	if (rc == OK)
		rc = tx_exec(tx, "DELETE FROM inbox WHERE id IN (SELECT id FROM inbox WHERE received_at < $1 LIMIT $2)",
		    "ii", now_ms - 30 * DAY_MS, (int64_t)FORGET_STEP);
	if (rc == OK)
		rc = tx_exec(tx, "DELETE FROM linear_comments WHERE taken_at < $1", "i", now_ms - 30 * DAY_MS);
	return rc == OK ? tx_commit(&tx) : rc;
}
