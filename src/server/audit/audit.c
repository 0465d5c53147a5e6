#include "server/audit/audit.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include <string.h>

#define DATA_MAX ((size_t)16 * 1024)
#define READER_MS ((int64_t)12 * 3600 * 1000)
#define READERS_KEPT_MS ((int64_t)7 * 24 * 3600 * 1000)
#define NO_HASH "0000000000000000000000000000000000000000000000000000000000000000"
#define COLUMNS "seq, id, at, type, actor, actor_name, ip, data, prev_hash, hash"

/* What a record says; borrowed. */
struct record {
	int64_t team_id, seq, at;
	const char *id, *type, *actor, *name, *ip, *data, *prev;
};

static json_t *text_or_null(const char *s)
{
	return s != NULL ? json_string(s) : json_null();
}

/* Over a JSON array: no two different records have the same text. */
static void hash_of(const struct record *r, char ret[SHA256_HEX_LEN])
{
	AUTO_JSON all = json_array();
	AUTO_STR text = NULL;

	json_array_append_new(all, json_string(r->prev));
	json_array_append_new(all, json_integer(r->team_id));
	json_array_append_new(all, json_integer(r->seq));
	json_array_append_new(all, text_or_null(r->id));
	json_array_append_new(all, json_integer(r->at));
	json_array_append_new(all, text_or_null(r->type));
	json_array_append_new(all, text_or_null(r->actor));
	json_array_append_new(all, text_or_null(r->name));
	json_array_append_new(all, text_or_null(r->ip));
	json_array_append_new(all, text_or_null(r->data));
	text = json_text(all);
	sha256_hex(text, strlen(text), ret);
}

/* The update makes other writers of the team's chain wait, where writers run side by side. */
static int next_of_chain(struct tx *tx, int64_t team_id, int64_t *ret_seq, char **ret_prev)
{
	int rc = tx_exec(tx,
	    "INSERT INTO audit_chains(team_id, first_seq, first_prev, last_seq, last_hash) VALUES($1, 1, $2, 0, $2)"
	    " ON CONFLICT DO NOTHING",
	    "is", team_id, NO_HASH);

	if (rc == OK)
		rc = tx_exec(tx, "UPDATE audit_chains SET last_seq = last_seq + 1 WHERE team_id = $1", "i", team_id);
	if (rc == OK)
		rc = tx_query_int(tx, ret_seq, "SELECT last_seq FROM audit_chains WHERE team_id = $1", "i", team_id);
	if (rc == OK)
		rc = tx_query_text(tx, ret_prev, "SELECT last_hash FROM audit_chains WHERE team_id = $1", "i", team_id);
	return rc;
}

static char *data_text(const json_t *data)
{
	AUTO_STR text = json_text(data);
	char hash[SHA256_HEX_LEN];

	if (strlen(text) <= DATA_MAX)
		return TAKE(text);
	sha256_hex(text, strlen(text), hash);
	return str_printf("{\"bytes\":%zu,\"sha256\":\"%s\"}", strlen(text), hash);
}

int audit_write(struct tx *tx, const struct audit_by *by, const char *type, json_t *data)
{
	AUTO_JSON owned = data;
	AUTO_STR text = data_text(data);
	AUTO_STR prev = NULL;
	AUTO_STR id = id_new("evt-");
	char hash[SHA256_HEX_LEN];
	int64_t seq = 0;
	int rc = next_of_chain(tx, by->team_id, &seq, &prev);

	if (rc != OK)
		return rc;
	const struct record r = {.team_id = by->team_id,
	    .seq = seq,
	    .at = clock_wall_ms(),
	    .id = id,
	    .type = type,
	    .actor = by->actor,
	    .name = by->name,
	    .ip = by->ip,
	    .data = text,
	    .prev = prev};

	hash_of(&r, hash);
	rc = tx_exec(tx,
	    "INSERT INTO audit_log(team_id, seq, id, at, type, actor, actor_name, ip, data, prev_hash, hash)"
	    " VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
	    "iisisssssss", r.team_id, r.seq, r.id, r.at, r.type, r.actor, r.name, r.ip, r.data, r.prev, hash);
	return rc != OK
		   ? rc
		   : tx_exec(tx, "UPDATE audit_chains SET last_hash = $2 WHERE team_id = $1", "is", by->team_id, hash);
}

int audit_is_new_reader(struct tx *tx, const char *reader, bool *ret)
{
	int64_t at = 0;
	int rc = tx_query_int(tx, &at, "SELECT at FROM audit_readers WHERE id = $1", "s", reader);

	*ret = rc == ERR_EMPTY || clock_wall_ms() - at >= READER_MS;
	return rc == ERR_EMPTY ? OK : rc;
}

int audit_note_reader(struct tx *tx, const struct audit_by *by, const char *reader)
{
	int64_t now = clock_wall_ms();
	bool is_new = false;
	int rc = audit_is_new_reader(tx, reader, &is_new);

	if (rc != OK || !is_new)
		return rc;
	rc = tx_exec(tx, "DELETE FROM audit_readers WHERE at < $1", "i", now - READERS_KEPT_MS);
	if (rc == OK)
		rc = tx_exec(tx,
		    "INSERT INTO audit_readers(id, at) VALUES($1, $2) ON CONFLICT(id) DO UPDATE SET at = excluded.at",
		    "si", reader, now);
	return rc != OK ? rc : audit_write(tx, by, "export_audit", json_object());
}

static json_t *row_json(struct query *q)
{
	json_t *o = json_object(), *data = NULL;
	char when[CLOCK_ISO_LEN];

	clock_iso8601(query_int(q, 2), when);
	json_put(o, "id", query_str(q, 1));
	json_put_int(o, "seq", query_int(q, 0));
	json_put(o, "timestamp", when);
	json_put(o, "eventType", query_str(q, 3));
	json_put(o, "actor", query_str(q, 4));
	json_put(o, "actorName", query_text(q, 5));
	json_put(o, "ipAddress", query_text(q, 6));
	/* One that somebody changed by hand may be no JSON any more; it is shown all the same. */
	if (json_parse(query_str(q, 7), strlen(query_str(q, 7)), &data, NULL) != OK || !json_is_object(data)) {
		json_decref(data);
		data = json_pack("{s:s}", "damaged", query_str(q, 7));
		if (data == NULL)
			data = json_object();
	}
	json_put_new(o, "data", data);
	json_put(o, "prevHash", query_str(q, 8));
	json_put(o, "hash", query_str(q, 9));
	return o;
}

/* ",login,logout,": a row's type with commas around it is found in it, or it is empty and everything is. */
static char *types_text(const char *const *types)
{
	struct strbuf b = STRBUF(4096);

	for (size_t i = 0; types != NULL && types[i] != NULL && i < AUDIT_TYPES_MAX; i++)
		strbuf_addf(&b, ",%.64s,", types[i]);
	return strbuf_take(&b);
}

/* What LIKE takes for itself loses that meaning. */
static char *like_text(const char *search)
{
	struct strbuf b = STRBUF(4096);

	if (search == NULL)
		return str_dup("%");
	strbuf_addc(&b, '%');
	for (const char *c = search; *c != '\0'; c++) {
		if (*c == '%' || *c == '_' || *c == '!')
			strbuf_addc(&b, '!');
		strbuf_addc(&b, *c);
	}
	strbuf_addc(&b, '%');
	return strbuf_take(&b);
}

int audit_page(struct tx *tx, const struct audit_query *a, json_t **ret, int64_t *ret_next)
{
	AUTO_STR types = types_text(a->types);
	AUTO_STR like = like_text(a->search);
	AUTO_JSON rows = json_array();
	AUTO(query) q = NULL;
	int64_t last = 0;
	int rc = tx_query(tx, &q,
	    "SELECT " COLUMNS " FROM audit_log WHERE team_id = $1 AND seq < $2 AND at >= $3 AND at < $4"
	    " AND ($5 = '' OR $5 LIKE '%,' || type || ',%')"
	    " AND LOWER(actor || ' ' || COALESCE(actor_name, '') || ' ' || COALESCE(ip, '') || ' ' || data) LIKE"
	    " LOWER($6) ESCAPE '!' ORDER BY seq DESC LIMIT $7",
	    "iiiissi", a->team_id, a->before_seq, a->from_ms, a->until_ms, types, like, a->limit + 1);

	while (rc == OK && (rc = query_next(q)) == OK) {
		if ((int64_t)json_array_size(rows) == a->limit) {
			*ret_next = last;
			*ret = TAKE(rows);
			return OK;
		}
		last = query_int(q, 0);
		json_array_append_new(rows, row_json(q));
	}
	if (rc != ERR_EMPTY)
		return rc;
	*ret_next = 0;
	*ret = TAKE(rows);
	return OK;
}

int audit_each(struct tx *tx, int64_t team_id, void (*each)(void *ctx, const json_t *row), void *ctx)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q, "SELECT " COLUMNS " FROM audit_log WHERE team_id = $1 ORDER BY seq", "i", team_id);

	while (rc == OK && (rc = query_next(q)) == OK) {
		AUTO_JSON row = row_json(q);

		each(ctx, row);
	}
	return rc == ERR_EMPTY ? OK : rc;
}

static void broken(struct audit_verdict *v, int64_t seq, const char *what)
{
	v->whole = false;
	v->seq = seq;
	IGNORE(why_set(&v->why, ERR_INVALID, "record %lld %s", (long long)seq, what));
}

/* The record that should come next. False: the chain breaks here. */
static bool check_row(struct query *q, int64_t team_id, struct audit_verdict *v)
{
	const struct record r = {.team_id = team_id,
	    .seq = query_int(q, 0),
	    .id = query_text(q, 1),
	    .at = query_int(q, 2),
	    .type = query_text(q, 3),
	    .actor = query_text(q, 4),
	    .name = query_text(q, 5),
	    .ip = query_text(q, 6),
	    .data = query_text(q, 7),
	    .prev = query_str(q, 8)};
	char hash[SHA256_HEX_LEN];

	hash_of(&r, hash);
	if (r.seq != v->seq + 1)
		broken(v, v->seq + 1, "is missing");
	else if (strcmp(query_str(q, 9), hash) != 0)
		broken(v, r.seq, "was changed: what it says does not have its hash");
	else if (strcmp(r.prev, v->hash) != 0)
		broken(v, r.seq, "does not follow the one before it: one of them was made anew");
	if (!v->whole)
		return false;
	v->seq = r.seq;
	v->records++;
	memcpy(v->hash, hash, sizeof v->hash);
	return true;
}

static int check_rows(struct tx *tx, int64_t team_id, struct audit_verdict *v)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q, "SELECT " COLUMNS " FROM audit_log WHERE team_id = $1 ORDER BY seq", "i", team_id);

	while (rc == OK && (rc = query_next(q)) == OK)
		if (!check_row(q, team_id, v))
			return OK;
	return rc == ERR_EMPTY ? OK : rc;
}

int audit_check(struct tx *tx, int64_t team_id, struct audit_verdict *ret)
{
	struct audit_verdict v = {.whole = true, .hash = NO_HASH};
	AUTO_STR last_hash = NULL;
	AUTO(query) q = NULL;
	int64_t last = 0;
	int rc = tx_query(tx, &q,
	    "SELECT first_seq, first_prev, last_seq, last_hash FROM audit_chains WHERE team_id = $1", "i", team_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc == OK) {
		v.seq = query_int(q, 0) - 1;
		snprintf(v.hash, sizeof v.hash, "%s", query_str(q, 1));
		last = query_int(q, 2);
		last_hash = str_dup(query_str(q, 3));
	}
	query_free(&q);
	if (rc == OK || rc == ERR_EMPTY)
		rc = check_rows(tx, team_id, &v);
	if (rc != OK)
		return rc;
	if (v.whole && v.seq < last)
		broken(&v, v.seq + 1, "is missing: the log goes on to a later one");
	else if (v.whole && v.seq > last)
		broken(&v, last + 1, "was put in later: the log ends before it");
	else if (v.whole && last_hash != NULL && strcmp(v.hash, last_hash) != 0)
		broken(&v, v.seq, "is not the one that was written last");
	*ret = v;
	return OK;
}

static int forget_of_team(struct tx *tx, int64_t team_id, int64_t before_ms, int64_t max, int64_t *ret_n)
{
	AUTO(query) q = NULL;
	AUTO_STR prev = NULL;
	int64_t seq = 0, n = 0;
	int rc = tx_query(
	    tx, &q, "SELECT seq, at, hash FROM audit_log WHERE team_id = $1 ORDER BY seq LIMIT $2", "ii", team_id, max);

	/* From the beginning on, so that no hole is made, whatever the clock did. */
	while (rc == OK && (rc = query_next(q)) == OK && query_int(q, 1) < before_ms) {
		seq = query_int(q, 0);
		str_set(&prev, query_str(q, 2));
		n++;
	}
	query_free(&q);
	if ((rc != OK && rc != ERR_EMPTY) || n == 0)
		return rc == ERR_EMPTY ? OK : rc;
	rc = tx_exec(tx, "DELETE FROM audit_log WHERE team_id = $1 AND seq <= $2", "ii", team_id, seq);
	if (rc == OK)
		rc = tx_exec(tx, "UPDATE audit_chains SET first_seq = $2, first_prev = $3 WHERE team_id = $1", "iis",
		    team_id, seq + 1, prev);
	*ret_n += n;
	return rc;
}

static int teams_of(struct tx *tx, json_t *ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q, "SELECT team_id FROM audit_chains", "");

	while (rc == OK && (rc = query_next(q)) == OK)
		json_array_append_new(ret, json_integer(query_int(q, 0)));
	return rc == ERR_EMPTY ? OK : rc;
}

int audit_forget(struct tx *tx, int64_t before_ms, int64_t max, int64_t *ret_n)
{
	AUTO_JSON teams = json_array();
	json_t *team;
	size_t i;
	int rc = teams_of(tx, teams);

	*ret_n = 0;
	json_array_foreach(teams, i, team) if (rc == OK) rc =
	    forget_of_team(tx, json_integer_value(team), before_ms, max, ret_n);
	return rc;
}
