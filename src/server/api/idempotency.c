/* Idempotency-Key: the same key with the same body gets the first answer again, for a day. */
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/api/api_priv.h"
#include <string.h>

#define KEEP_MS (24 * 60 * 60 * 1000)

static const char *idempotency_key_of(const struct api_request *rq)
{
	const char *key = http_header_get(rq->x, "idempotency-key");

	return key != NULL && key[0] != '\0' ? key : NULL;
}

void idempotency_prepare(struct api_request *rq)
{
	size_t len;
	const char *body = http_body(rq->x, &len);

	if (idempotency_key_of(rq) != NULL)
		sha256_hex(body, len, rq->body_hash);
}

/* The key stays taken for the rest of its day although its answer cannot be read: what it asked for was done, and to
 * forget it would let a client that repeats by itself do it twice. The sweep removes it like any other. */
static void refuse_damaged(struct api_request *rq, const char *endpoint)
{
	log_error("store.row.damaged", "table=idempotency principal=%s endpoint=%s key=%s req=%s", rq->who->owner,
	    log_quote(endpoint), log_quote(idempotency_key_of(rq)), rq->request_id);
	api_error(rq, API_internal_error,
	    "the first answer to this Idempotency-Key cannot be read any more, but what it asked for was done; use "
	    "another key to ask again; the request id is %s",
	    rq->request_id);
}

static int answer_again(struct api_request *rq, const char *endpoint, struct query *q)
{
	const char *response = query_str(q, 2);
	int64_t status = query_int(q, 1);
	AUTO_JSON body = NULL;

	if (strcmp(query_str(q, 0), rq->body_hash) != 0) {
		api_error(rq, API_idempotency_key_conflict, "this Idempotency-Key was used before with another body");
		return ERR_CONFLICT;
	}
	if (json_parse(response, strlen(response), &body, NULL) != OK || !json_is_object(body) || status < 200 ||
	    status > 299) {
		refuse_damaged(rq, endpoint);
		return ERR_CONFLICT;
	}
	rq->replayed = true;
	api_reply(rq, (int)status, TAKE(body));
	return ERR_EMPTY;
}

int idempotency_check(struct api_request *rq, struct tx *tx, const char *endpoint)
{
	const char *key = idempotency_key_of(rq);
	AUTO(query) q = NULL;
	int rc;

	/* Nobody can tell which of several was meant, and to choose wrongly is to do it twice. */
	if (http_header_count(rq->x, "idempotency-key") > 1) {
		api_error(rq, API_validation_error, "Idempotency-Key must be given once");
		return ERR_CONFLICT;
	}
	if (key == NULL)
		return OK;
	if (strlen(key) > 255 || !text_is_utf8(key, strlen(key))) {
		api_error(rq, API_validation_error, "Idempotency-Key must be at most 255 bytes of UTF-8");
		return ERR_CONFLICT;
	}
	rc = tx_query(tx, &q,
	    "SELECT body_hash, status, response FROM idempotency WHERE principal = $1 AND endpoint = $2 AND key = $3"
	    " AND created_at > $4",
	    "sssi", rq->who->owner, endpoint, key, clock_wall_ms() - KEEP_MS);
	if (rc == OK)
		rc = query_next(q);
	if (rc == OK)
		return answer_again(rq, endpoint, q);
	if (rc == ERR_EMPTY)
		return OK;
	api_refuse(rq, rc, NULL);
	return ERR_CONFLICT;
}

int idempotency_look(struct api_request *rq, const char *endpoint)
{
	AUTO(tx) tx = NULL;
	int rc;

	if (idempotency_key_of(rq) == NULL)
		return OK;
	rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);
	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return rc;
	}
	return idempotency_check(rq, tx, endpoint);
}

int idempotency_keep(struct api_request *rq, struct tx *tx, const char *endpoint, int status, const json_t *body)
{
	const char *key = idempotency_key_of(rq);
	AUTO_STR text = json_text(body);
	int64_t now = clock_wall_ms();
	int rc;

	if (key == NULL)
		return OK;
	/* One that is older than a day may stand here still: the sweep has not been by. */
	rc = tx_exec(tx, "DELETE FROM idempotency WHERE principal = $1 AND endpoint = $2 AND key = $3", "sss",
	    rq->who->owner, endpoint, key);
	if (rc == OK)
		rc = tx_exec(tx,
		    "INSERT INTO idempotency(principal, endpoint, key, body_hash, status, response, created_at)"
		    " VALUES($1, $2, $3, $4, $5, $6, $7)",
		    "ssssisi", rq->who->owner, endpoint, key, rq->body_hash, (int64_t)status, text, now);
	return rc;
}
