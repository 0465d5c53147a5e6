#include "server/triggers/service_tokens.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include <ctype.h>
#include <string.h>

void service_token_fini(struct service_token *t)
{
	str_wipe(&t->access);
	str_wipe(&t->refresh);
	str_wipe(&t->before);
	str_free(&t->seed);
	json_drop(&t->more);
}

static char *seal_of(const char *service, const char *place)
{
	return str_printf("service-token/%s/%s", service, place);
}

static char *member(const json_t *o, const char *key)
{
	return str_dup(json_string_value(json_object_get(o, key)));
}

static int open_row(
    const struct seal *seal, const char *service, const char *place, const char *sealed, struct service_token *ret)
{
	AUTO_STR of = seal_of(service, place);
	AUTO_JSON o = NULL;
	char *plain = NULL;
	int rc = seal_open(seal, of, sealed, &plain);

	if (rc == OK)
		rc = json_parse(plain, strlen(plain), &o, NULL);
	str_wipe(&plain);
	if (rc != OK)
		return ERR_INTERNAL;
	ret->access = member(o, "access");
	ret->refresh = member(o, "refresh");
	ret->before = member(o, "before");
	ret->seed = member(o, "seed");
	ret->expires_at_ms = json_integer_value(json_object_get(o, "expiresAt"));
	ret->more = json_incref(json_object_get(o, "more"));
	return OK;
}

int service_token_load(
    struct tx *tx, const struct seal *seal, const char *service, const char *place, struct service_token *ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q, "SELECT sealed, version FROM service_tokens WHERE service = $1 AND place = $2", "ss",
	    service, place);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	ret->version = query_int(q, 1);
	return open_row(seal, service, place, query_str(q, 0), ret);
}

int service_token_keep(struct tx *tx, const struct seal *seal, const char *service, const char *place, const char *name,
    const struct service_token *t, int64_t now_ms)
{
	AUTO_STR of = seal_of(service, place);
	AUTO_JSON o = json_object();
	AUTO_STR sealed = NULL;
	int64_t n = 0;
	char *plain;
	int rc;

	json_put(o, "access", t->access);
	json_put(o, "refresh", t->refresh);
	json_put(o, "before", t->before);
	json_put(o, "seed", t->seed);
	json_put_int(o, "expiresAt", t->expires_at_ms);
	if (t->more != NULL)
		json_put_new(o, "more", json_incref(t->more));
	plain = json_text(o);
	sealed = seal_text(seal, of, plain);
	str_wipe(&plain);
	rc = tx_change(tx, &n,
	    "INSERT INTO service_tokens(service, place, name, sealed, version, refreshing_until, updated_at) "
	    "VALUES($1, "
	    "$2, $3, $4, 1, 0, $5) ON CONFLICT(service, place) DO UPDATE SET name = excluded.name, sealed = "
	    "excluded.sealed, version = service_tokens.version + 1, refreshing_until = 0, updated_at = "
	    "excluded.updated_at WHERE service_tokens.version = $6",
	    "ssssii", service, place, name, sealed, now_ms, t->version);
	return rc == OK && n == 0 ? ERR_CONFLICT : rc;
}

int service_token_lock(
    struct tx *tx, const char *service, const char *place, int64_t version, int64_t now_ms, int64_t until_ms, bool *ret)
{
	int64_t n = 0;
	int rc = tx_change(tx, &n,
	    "UPDATE service_tokens SET refreshing_until = $5 WHERE service = $1 AND place = $2 AND version = $3 AND "
	    "refreshing_until <= $4",
	    "ssiii", service, place, version, now_ms, until_ms);

	*ret = rc == OK && n > 0;
	return rc;
}

int service_token_unlock(struct tx *tx, const char *service, const char *place)
{
	return tx_exec(tx, "UPDATE service_tokens SET refreshing_until = 0 WHERE service = $1 AND place = $2", "ss",
	    service, place);
}

int service_token_drop(struct tx *tx, const char *service, const char *place, int64_t *ret_n)
{
	return tx_change(
	    tx, ret_n, "DELETE FROM service_tokens WHERE service = $1 AND place = $2", "ss", service, place);
}

void service_form_add(struct strbuf *form, const char *key, const char *value)
{
	IGNORE(strbuf_addf(form, "%s%s=", form->len > 0 ? "&" : "", key));
	for (const char *c = value; *c != '\0'; c++)
		if (isalnum((unsigned char)*c) || strchr("-._~", *c) != NULL)
			IGNORE(strbuf_addc(form, *c));
		else
			IGNORE(strbuf_addf(form, "%%%02X", (unsigned char)*c));
}
