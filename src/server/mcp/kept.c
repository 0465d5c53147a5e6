/* The rows of this room. */
#include "server/mcp/kept.h"
#include "base/log.h"
#include "base/mem.h"
#include <string.h>

/* Sealed JSON that belongs to `place`. *ret: new reference. */
static int open_json(const struct seal *seal, const char *place, const char *sealed, json_t **ret)
{
	char *plain = NULL;
	int rc = seal_open(seal, place, sealed, &plain);

	if (rc != OK)
		return rc;
	rc = json_parse(plain, strlen(plain), ret, NULL);
	str_wipe(&plain);
	if (rc == OK && json_is_object(*ret))
		return OK;
	log_error("store.row.damaged", "place=%s", log_quote(place));
	if (rc == OK)
		json_drop(ret);
	return ERR_INTERNAL;
}

static char *seal_json(const struct seal *seal, const char *place, const json_t *value)
{
	char *plain = json_text(value), *sealed = seal_text(seal, place, plain);

	str_wipe(&plain);
	return sealed;
}

static char *server_place(const char *id)
{
	return str_printf("mcp-server/%s", id);
}

/* Of the columns id, user_id, definition, created_at, updated_at. */
static int read_server(struct query *q, const struct seal *seal, json_t **ret)
{
	AUTO_STR place = server_place(query_str(q, 0));
	json_t *definition = NULL, *o;
	int rc = open_json(seal, place, query_str(q, 2), &definition);

	if (rc != OK)
		return rc;
	o = json_object();
	json_put(o, "id", query_str(q, 0));
	json_put(o, "scope", query_int(q, 1) == 0 ? "team" : "user");
	json_put_new(o, "definition", definition);
	json_put_int(o, "createdAt", query_int(q, 3));
	json_put_int(o, "updatedAt", query_int(q, 4));
	*ret = o;
	return OK;
}

int kept_servers(struct tx *tx, const struct seal *seal, const struct kept_owner *o, json_t **ret)
{
	AUTO_JSON all = json_array();
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT id, user_id, definition, created_at, updated_at FROM mcp_servers WHERE team_id = $1 AND (user_id = "
	    "0 OR"
	    " user_id = $2) ORDER BY user_id DESC, name",
	    "ii", o->team_id, o->user_id);

	while (rc == OK && (rc = query_next(q)) == OK) {
		json_t *one = NULL;

		rc = read_server(q, seal, &one);
		if (rc == OK)
			json_array_append_new(all, one);
	}
	if (rc != ERR_EMPTY)
		return rc;
	*ret = TAKE(all);
	return OK;
}

int kept_server(struct tx *tx, const struct seal *seal, const struct kept_owner *o, const char *id, json_t **ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT id, user_id, definition, created_at, updated_at FROM mcp_servers WHERE id = $1 AND team_id = $2 AND"
	    " (user_id = 0 OR user_id = $3)",
	    "sii", id, o->team_id, o->user_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc == ERR_EMPTY)
		return ERR_NOT_FOUND;
	return rc != OK ? rc : read_server(q, seal, ret);
}

int kept_server_add(struct tx *tx, const struct seal *seal, const struct kept_owner *o, const char *id,
    const json_t *definition, const char *by, int64_t now)
{
	const char *name = json_string_value(json_object_get(definition, "name"));
	AUTO_STR place = server_place(id);
	AUTO_STR sealed = seal_json(seal, place, definition);
	int64_t n = 0;
	int rc = tx_query_int(tx, &n, "SELECT COUNT(*) FROM mcp_servers WHERE team_id = $1 AND user_id = $2", "ii",
	    o->team_id, o->user_id);

	if (rc != OK)
		return rc;
	if (n >= KEPT_SERVERS_MAX)
		return ERR_FULL;
	return tx_exec(tx,
	    "INSERT INTO mcp_servers(id, team_id, user_id, name, definition, created_by, created_at, updated_at)"
	    " VALUES($1, $2, $3, $4, $5, $6, $7, $7)",
	    "siisssi", id, o->team_id, o->user_id, name, sealed, by, now);
}

static char *canonical_of(const json_t *server)
{
	const char *url = json_string_value(json_object_get(json_object_get(server, "definition"), "url"));

	return url != NULL ? web_canonical(url) : NULL;
}

/* Grants are of a URL: another server that the same people see may have it, too. */
static int still_used(struct tx *tx, const struct seal *seal, const struct kept_owner *o, const char *url, bool *ret)
{
	AUTO_JSON all = NULL;
	json_t *s;
	size_t i;
	int rc = kept_servers(tx, seal, o, &all);

	*ret = false;
	json_array_foreach(all, i, s)
	{
		AUTO_STR other = canonical_of(s);

		*ret = *ret || (other != NULL && strcmp(other, url) == 0);
	}
	return rc;
}

int kept_server_remove(struct tx *tx, const struct seal *seal, const struct kept_owner *o, const char *id)
{
	AUTO_JSON server = NULL;
	AUTO_STR url = NULL;
	bool used = true;
	int64_t n = 0;
	int rc = kept_server(tx, seal, o, id, &server);

	if (rc == OK)
		rc = tx_change(tx, &n, "DELETE FROM mcp_servers WHERE id = $1 AND team_id = $2 AND user_id = $3", "sii",
		    id, o->team_id, o->user_id);
	if (rc != OK || n == 0)
		return rc != OK ? rc : ERR_NOT_FOUND;
	url = canonical_of(server);
	if (url == NULL)
		return OK;
	rc = still_used(tx, seal, o, url, &used);
	if (rc != OK || used)
		return rc;
	/* Of the team's server those of all its users. */
	return tx_exec(tx, "DELETE FROM mcp_grants WHERE team_id = $1 AND url = $2 AND ($3 = 0 OR user_id = $3)", "isi",
	    o->team_id, url, o->user_id);
}

static char *client_place(int64_t team_id, const char *issuer)
{
	return str_printf("mcp-client/%lld/%s", (long long)team_id, issuer);
}

int kept_client(struct tx *tx, const struct seal *seal, int64_t team_id, const char *issuer, const char *redirect_uri,
    int64_t now, struct oauth_client *ret)
{
	AUTO_STR place = client_place(team_id, issuer);
	AUTO_STR sealed = NULL;
	AUTO_JSON o = NULL;
	AUTO_FINI(oauth_client) c = {0};
	int rc = tx_query_text(tx, &sealed,
	    "SELECT client FROM mcp_clients WHERE team_id = $1 AND issuer = $2 AND redirect_uri = $3", "iss", team_id,
	    issuer, redirect_uri);

	if (rc == OK)
		rc = open_json(seal, place, sealed, &o);
	if (rc == OK && oauth_client_read(o, &c) != OK)
		rc = ERR_INTERNAL;
	if (rc != OK)
		return rc;
	if (c.expires_at_ms != 0 && c.expires_at_ms <= now)
		return ERR_EMPTY;
	*ret = c;
	c = (struct oauth_client){0};
	return OK;
}

int kept_client_set(struct tx *tx, const struct seal *seal, int64_t team_id, const char *issuer,
    const char *redirect_uri, const struct oauth_client *c, int64_t now)
{
	AUTO_STR place = client_place(team_id, issuer);
	AUTO_JSON o = oauth_client_json(c);
	AUTO_STR sealed = seal_json(seal, place, o);

	return tx_exec(tx,
	    "INSERT INTO mcp_clients(team_id, issuer, redirect_uri, client, created_at) VALUES($1, $2, $3, $4, $5)"
	    " ON CONFLICT(team_id, issuer, redirect_uri) DO UPDATE SET client = excluded.client, created_at ="
	    " excluded.created_at",
	    "isssi", team_id, issuer, redirect_uri, sealed, now);
}

void grant_fini(struct grant *g)
{
	oauth_server_fini(&g->server);
	oauth_client_fini(&g->client);
	oauth_tokens_fini(&g->tokens);
	str_free(&g->wanted_scope);
}

static char *grant_place(const struct kept_owner *o, const char *url)
{
	return str_printf("mcp-grant/%lld/%lld/%s", (long long)o->team_id, (long long)o->user_id, url);
}

static int read_grant(const json_t *o, struct grant *g)
{
	const json_t *t = json_object_get(o, "tokens");

	g->tokens = (struct oauth_tokens){.access = str_dup(json_string_value(json_object_get(t, "access"))),
	    .refresh = str_dup(json_string_value(json_object_get(t, "refresh"))),
	    .scope = str_dup(json_string_value(json_object_get(t, "scope"))),
	    .expires_at_ms = json_integer_value(json_object_get(t, "expiresAt"))};
	if (g->tokens.access == NULL || oauth_server_read(json_object_get(o, "server"), &g->server) != OK ||
	    oauth_client_read(json_object_get(o, "client"), &g->client) != OK)
		return ERR_INTERNAL;
	return OK;
}

int kept_grant(struct tx *tx, const struct seal *seal, const struct kept_owner *o, const char *url, struct grant *ret)
{
	AUTO_STR place = grant_place(o, url);
	AUTO_FINI(grant) g = {0};
	AUTO_JSON secret = NULL;
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT secret, version, wanted_scope FROM mcp_grants WHERE team_id = $1 AND user_id = $2 AND url = $3",
	    "iis", o->team_id, o->user_id, url);

	if (rc == OK)
		rc = query_next(q);
	if (rc == OK)
		rc = open_json(seal, place, query_str(q, 0), &secret);
	if (rc == OK)
		rc = read_grant(secret, &g);
	if (rc != OK)
		return rc;
	g.version = query_int(q, 1);
	g.wanted_scope = str_dup(query_text(q, 2));
	*ret = g;
	g = (struct grant){0};
	return OK;
}

int kept_grant_set(struct tx *tx, const struct seal *seal, const struct kept_owner *o, const char *url,
    const struct grant *g, int64_t now)
{
	AUTO_STR place = grant_place(o, url);
	AUTO_JSON secret = json_object();
	json_t *t = json_object();
	AUTO_STR sealed = NULL;

	json_put(t, "access", g->tokens.access);
	json_put(t, "refresh", g->tokens.refresh);
	json_put(t, "scope", g->tokens.scope);
	json_put_int(t, "expiresAt", g->tokens.expires_at_ms);
	json_put_new(secret, "tokens", t);
	json_put_new(secret, "server", oauth_server_json(&g->server));
	json_put_new(secret, "client", oauth_client_json(&g->client));
	sealed = seal_json(seal, place, secret);
	return tx_exec(tx,
	    "INSERT INTO mcp_grants(team_id, user_id, url, issuer, secret, expires_at, version, created_at, updated_at,"
	    " wanted_scope) VALUES($1, $2, $3, $4, $5, $6, 1, $7, $7, $8) ON CONFLICT(team_id, user_id, url) DO UPDATE "
	    "SET issuer ="
	    " excluded.issuer, secret = excluded.secret, expires_at = excluded.expires_at, version = "
	    "mcp_grants.version + 1,"
	    " refreshing_until = 0, wanted_scope = excluded.wanted_scope, updated_at = excluded.updated_at",
	    "iisssiis", o->team_id, o->user_id, url, g->server.issuer, sealed, g->tokens.expires_at_ms, now,
	    g->wanted_scope);
}

int kept_grant_remove(struct tx *tx, const struct kept_owner *o, const char *url)
{
	return tx_exec(tx, "DELETE FROM mcp_grants WHERE team_id = $1 AND user_id = $2 AND url = $3", "iis", o->team_id,
	    o->user_id, url);
}

int kept_grant_drop(struct tx *tx, const struct kept_owner *o, const char *url, int64_t version)
{
	return tx_exec(tx, "DELETE FROM mcp_grants WHERE team_id = $1 AND user_id = $2 AND url = $3 AND version = $4",
	    "iisi", o->team_id, o->user_id, url, version);
}

int kept_grant_lock(
    struct tx *tx, const struct kept_owner *o, const char *url, int64_t version, int64_t now, int64_t until, bool *ret)
{
	int64_t n = 0;
	int rc = tx_change(tx, &n,
	    "UPDATE mcp_grants SET refreshing_until = $5 WHERE team_id = $1 AND user_id = $2 AND url = $3 AND version "
	    "= $4"
	    " AND refreshing_until <= $6",
	    "iisiii", o->team_id, o->user_id, url, version, until, now);

	*ret = rc == OK && n > 0;
	return rc;
}

int kept_grant_unlock(struct tx *tx, const struct kept_owner *o, const char *url)
{
	return tx_exec(tx,
	    "UPDATE mcp_grants SET refreshing_until = 0 WHERE team_id = $1 AND user_id = $2 AND url = $3", "iis",
	    o->team_id, o->user_id, url);
}

int kept_grant_want(struct tx *tx, const struct kept_owner *o, const char *url, const char *scope)
{
	return tx_exec(tx, "UPDATE mcp_grants SET wanted_scope = $4 WHERE team_id = $1 AND user_id = $2 AND url = $3",
	    "iiss", o->team_id, o->user_id, url, scope);
}
