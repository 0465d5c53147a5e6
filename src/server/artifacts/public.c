/* Addresses without a key, for the pull requests that show artifacts: who reviews has none, and the forge fetches
 * pictures by itself. The store has a token's hash, and the token sealed; the text of a pull request that waits in the
 * store has a name in its place, so a copy of the store opens nothing. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/seal.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/artifacts/artifacts_priv.h"
#include <ctype.h>
#include <string.h>

#define TOKEN_LEN 64 /* hexadecimal digits: 256 bits */
#define SHOWN_MAX 20
#define PICTURE_MAX ((int64_t)5 * 1024 * 1024) /* forges' own proxies for pictures take no larger ones */
#define SECTION_MAX ((size_t)32 * 1024)
#define NAME_MAX_BYTES 200
#define PLACE "bullpen-artifact:" /* with an id behind it: where the address goes */

static char *seal_name(const char *id)
{
	return str_printf("public_artifact/%s", id);
}

static int is_switched_on(struct tx *tx, int64_t team_id, bool *ret)
{
	int64_t on = 0;
	int rc = tx_query_int(tx, &on, "SELECT public_artifacts FROM teams WHERE id = $1", "i", team_id);

	*ret = on != 0;
	return rc == ERR_EMPTY ? OK : rc;
}

static bool is_picture(const struct artifact *f)
{
	static const char *const ends[] = {".png", ".jpg", ".jpeg", ".gif", ".webp"};
	size_t len = strlen(f->path);

	for (size_t i = 0; i < ARRAY_LEN(ends); i++)
		if (len > strlen(ends[i]) && strcasecmp(f->path + len - strlen(ends[i]), ends[i]) == 0)
			return f->size_bytes <= PICTURE_MAX;
	return false;
}

/* The one there is of that content, or a new one. ERR_EMPTY: this path was taken back. */
static int find_or_make(
    const struct artifacts *a, struct tx *tx, const struct artifact_pull *of, const struct artifact *f, char **ret_id)
{
	const struct audit_by by = {.team_id = of->team_id, .actor = of->owner};
	char token[TOKEN_LEN + 1], hash[SHA256_HEX_LEN], uuid[UUID_LEN];
	int64_t revoked = 0;
	int rc = tx_query_int(tx, &revoked,
	    "SELECT COUNT(*) FROM public_artifacts WHERE agent_id = $1 AND path = $2 AND revoked_at IS NOT NULL", "ss",
	    f->agent_id, f->path);

	if (rc != OK || revoked > 0)
		return rc != OK ? rc : ERR_EMPTY;
	rc = tx_query_text(
	    tx, ret_id, "SELECT id FROM public_artifacts WHERE generation = $1 LIMIT 1", "s", f->generation);
	if (rc != ERR_EMPTY)
		return rc;
	id_hex(token, TOKEN_LEN / 2);
	id_uuid(uuid);
	sha256_hex(token, TOKEN_LEN, hash);
	AUTO_STR name = seal_name(uuid);
	AUTO_STR sealed = seal_text(a->cfg.seal, name, token);

	explicit_bzero(token, sizeof token);
	rc = tx_exec(tx,
	    "INSERT INTO public_artifacts(id, token_hash, token, team_id, agent_id, path, generation, created_at)"
	    " VALUES($1, $2, $3, $4, $5, $6, $7, $8)",
	    "sssisssi", uuid, hash, sealed, of->team_id, f->agent_id, f->path, f->generation, clock_wall_ms());
	if (rc == OK)
		rc = audit_write(tx, &by, "artifact_shared_public",
		    json_pack("{s:s, s:s, s:s, s:s}", "action", "created", "id", uuid, "agentId", f->agent_id, "path",
			f->path));
	if (rc == OK)
		*ret_id = str_dup(uuid);
	return rc;
}

/* As text of a link: nothing in it ends the link or calls anybody. */
static char *plain_name(const char *path)
{
	char *name = text_line(path, NAME_MAX_BYTES);

	for (unsigned char *c = (unsigned char *)name; *c != '\0'; c++)
		if (*c < 0x80 && !isalnum(*c) && strchr("._-/ ", *c) == NULL)
			*c = '_';
	return name;
}

struct section {
	struct strbuf pictures, links;
};

static void section_fini(struct section *s)
{
	strbuf_fini(&s->pictures);
	strbuf_fini(&s->links);
}

/* `id` NULL: it has no address of its own. */
static void add_one(struct section *s, const struct artifact *f, const char *id, const char *agent_url)
{
	AUTO_STR name = plain_name(f->path);

	if (id != NULL && is_picture(f))
		IGNORE(strbuf_addf(&s->pictures, "\n![%s](" PLACE "%s)\n", name, id));
	else
		IGNORE(strbuf_addf(&s->links, "%s[`%s`](%s%s)", s->links.len > 0 ? ", " : "", name,
		    id != NULL ? PLACE : "", id != NULL ? id : agent_url));
}

static int list_shown(struct tx *tx, const char *agent_id, struct artifact *ret, size_t *ret_n, bool *ret_more)
{
	AUTO(query) q = NULL;
	int rc = artifacts_by_name(tx, agent_id, SHOWN_MAX + 1, &q);

	*ret_n = 0;
	*ret_more = false;
	while (rc == OK && (rc = query_next(q)) == OK) {
		if (*ret_n == SHOWN_MAX) {
			*ret_more = true;
			return OK;
		}
		artifact_from_row(q, &ret[(*ret_n)++]);
	}
	return rc == ERR_EMPTY ? OK : rc;
}

static int add_all(struct artifacts *a, struct tx *tx, const struct artifact_pull *of, const struct artifact *files,
    size_t n, struct section *s)
{
	bool on = false;
	int rc = is_switched_on(tx, of->team_id, &on);

	for (size_t i = 0; rc == OK && i < n; i++) {
		AUTO_STR id = NULL;

		if (on)
			rc = find_or_make(a, tx, of, &files[i], &id);
		if (rc == ERR_EMPTY)
			rc = OK;
		if (rc == OK)
			add_one(s, &files[i], id, of->agent_url);
	}
	return rc;
}

int artifacts_in_pull(void *ctx, struct tx *tx, const struct artifact_pull *of, char **ret)
{
	struct artifacts *a = OBJ_FROM(artifacts, ctx, ARTIFACTS_MAGIC);
	__attribute__((cleanup(section_fini))) struct section s = {STRBUF(SECTION_MAX), STRBUF(SECTION_MAX)};
	struct artifact files[SHOWN_MAX] = {0};
	bool more = false;
	size_t n = 0;
	int rc = list_shown(tx, of->agent_id, files, &n, &more);

	if (rc == OK)
		rc = add_all(a, tx, of, files, n, &s);
	for (size_t i = 0; i < n; i++)
		artifact_fini(&files[i]);
	if (rc != OK)
		return rc;
	if (more)
		IGNORE(strbuf_addf(&s.links, "%s[more](%s)", s.links.len > 0 ? ", " : "", of->agent_url));
	*ret = str_printf("%s%s%s%s", s.links.len > 0 ? "\nArtifacts: " : "", strbuf_str(&s.links),
	    s.links.len > 0 ? "\n" : "", strbuf_str(&s.pictures));
	return OK;
}

static int address_of(struct artifacts *a, struct tx *tx, const char *agent_id, const char *id, char **ret)
{
	const char *base = atomic_load(&a->download_url);
	AUTO_STR sealed = NULL;
	AUTO_STR token = NULL;
	AUTO_STR name = seal_name(id);
	/* After a restart it is not known before the server listens: then it is tried again. */
	int rc = base == NULL ? ERR_AGAIN : OK;

	if (rc == OK)
		rc = tx_query_text(tx, &sealed,
		    "SELECT token FROM public_artifacts WHERE id = $1 AND agent_id = $2 AND revoked_at IS NULL", "ss",
		    id, agent_id);

	if (rc == OK)
		rc = seal_open(a->cfg.seal, name, sealed, &token);
	if (rc == OK)
		*ret = str_printf("%s/public/artifacts/%s", base, token);
	str_wipe(&token);
	return rc;
}

int artifacts_fill(void *ctx, const char *agent_id, const char *text, char **ret)
{
	struct artifacts *a = OBJ_FROM(artifacts, ctx, ARTIFACTS_MAGIC);
	struct strbuf b = STRBUF(strlen(text) + SECTION_MAX);
	AUTO(tx) tx = NULL;
	int rc = tx_begin(a->cfg.store, TX_READ, &tx);
	const char *at, *from = text;

	while (rc == OK && (at = strstr(from, PLACE)) != NULL) {
		AUTO_STR id = str_ndup(at + strlen(PLACE), strnlen(at + strlen(PLACE), UUID_LEN - 1));
		AUTO_STR url = NULL;

		IGNORE(strbuf_add(&b, from, (size_t)(at - from)));
		rc = address_of(a, tx, agent_id, id, &url);
		/* Taken back, or text that only looks like it. */
		if (rc == ERR_EMPTY) {
			IGNORE(strbuf_adds(&b, "#"));
			rc = OK;
			from = at + strlen(PLACE);
		} else if (rc == OK) {
			IGNORE(strbuf_adds(&b, url));
			from = at + strlen(PLACE) + strlen(id);
		}
	}
	if (rc == OK)
		IGNORE(strbuf_adds(&b, from));
	if (rc == OK)
		*ret = strbuf_take(&b);
	strbuf_fini(&b);
	return rc;
}

int artifact_public_find(struct artifacts *a, const char *token, char **ret_id, struct artifact *ret)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	AUTO_STR generation = NULL;
	char hash[SHA256_HEX_LEN];
	int rc;

	if (strlen(token) != TOKEN_LEN)
		return ERR_NOT_FOUND;
	sha256_hex(token, TOKEN_LEN, hash);
	rc = tx_begin(a->cfg.store, TX_READ, &tx);
	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT p.id, p.generation FROM public_artifacts p JOIN teams t ON t.id = p.team_id"
		    " WHERE p.token_hash = $1 AND p.revoked_at IS NULL AND t.public_artifacts <> 0",
		    "s", hash);
	if (rc == OK)
		rc = query_next(q);
	if (rc == OK) {
		*ret_id = str_dup(query_str(q, 0));
		generation = str_dup(query_str(q, 1));
	}
	query_free(&q);
	tx_free(&tx);
	if (rc == OK)
		rc = artifact_find(a, NULL, generation, ret);
	return rc == ERR_EMPTY || (rc == OK && !ret->ready) ? ERR_NOT_FOUND : rc;
}

int artifact_public_each(
    struct tx *tx, const char *agent_id, void (*each)(void *ctx, const char *path, int64_t created_at), void *ctx)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT path, created_at FROM public_artifacts WHERE agent_id = $1 AND revoked_at IS NULL ORDER BY path",
	    "s", agent_id);

	while (rc == OK && (rc = query_next(q)) == OK)
		each(ctx, query_str(q, 0), query_int(q, 1));
	return rc == ERR_EMPTY ? OK : rc;
}

int artifact_public_revoke(
    struct tx *tx, const struct audit_by *by, const char *agent_id, const char *path, int64_t *ret_n)
{
	json_t *data;
	int rc = tx_change(tx, ret_n,
	    "UPDATE public_artifacts SET revoked_at = $2, token = '' WHERE agent_id = $1 AND revoked_at IS NULL"
	    " AND ($3 = '' OR path = $3)",
	    "sis", agent_id, clock_wall_ms(), path != NULL ? path : "");

	if (rc != OK || *ret_n == 0)
		return rc;
	data = json_pack("{s:s, s:s, s:I}", "action", "revoked", "agentId", agent_id, "count", (json_int_t)*ret_n);
	json_put(data, "path", path);
	return audit_write(tx, by, "artifact_shared_public", data);
}
