/* The rows of artifacts: what a worker announces, what is complete, what there is. */
#include "base/artifact_path.h"
#include "base/clock.h"
#include "base/mem.h"
#include "server/artifacts/artifacts_priv.h"
#include <string.h>

/* Of one agent at once: a worker sends one after the other, and a generation that it has given up is not waited for. */
#define ARRIVING_MAX 4
#define LIST_MAX 100000

#define COLUMNS "generation, agent_id, path, state, size_bytes, sha256, updated_at"

void artifact_fini(struct artifact *f)
{
	free(f->agent_id);
	free(f->path);
	free(f->generation);
	free(f->sha256);
	*f = (struct artifact){0};
}

void artifact_from_row(struct query *q, struct artifact *ret)
{
	artifact_fini(ret);
	ret->generation = str_dup(query_str(q, 0));
	ret->agent_id = str_dup(query_str(q, 1));
	ret->path = str_dup(query_str(q, 2));
	ret->ready = strcmp(query_str(q, 3), "READY") == 0;
	ret->size_bytes = query_int(q, 4);
	ret->sha256 = str_dup(query_str(q, 5));
	ret->updated_at = query_int(q, 6);
}

static int read_one(struct query *q, struct artifact *ret)
{
	int rc = query_next(q);

	if (rc == OK)
		artifact_from_row(q, ret);
	return rc == ERR_EMPTY ? ERR_NOT_FOUND : rc;
}

static int agent_is_there(struct tx *tx, const char *agent_id)
{
	int64_t n = 0;
	int rc =
	    tx_query_int(tx, &n, "SELECT COUNT(*) FROM agents WHERE id = $1 AND status <> 'DELETED'", "s", agent_id);

	return rc != OK ? rc : n > 0 ? OK : ERR_NOT_FOUND;
}

int artifact_drop(struct tx *tx, const char *generation)
{
	int rc =
	    tx_exec(tx, "INSERT INTO artifact_removals(generation) VALUES($1) ON CONFLICT DO NOTHING", "s", generation);

	if (rc == OK)
		rc = tx_exec(
		    tx, "DELETE FROM public_artifacts WHERE generation = $1 AND revoked_at IS NULL", "s", generation);
	return rc != OK ? rc : tx_exec(tx, "DELETE FROM artifacts WHERE generation = $1", "s", generation);
}

static bool is_sha256(const char *s)
{
	return strlen(s) == SHA256_HEX_LEN - 1 && strspn(s, "0123456789abcdef") == SHA256_HEX_LEN - 1;
}

static int check_announced(
    const struct artifacts *a, const char *path, int64_t size, const char *sha256, struct why *why)
{
	if (artifact_path_check(path, why) != OK)
		return ERR_INVALID;
	if (!is_sha256(sha256))
		return why_set(why, ERR_INVALID, "sha256 must be 64 hexadecimal digits, small letters");
	if (size < 0)
		return why_set(why, ERR_INVALID, "sizeBytes must not be negative");
	if (size > a->cfg.max_file_bytes)
		return why_set(why, ERR_TOO_LARGE,
		    "the file is larger than %lld MiB, which is the limit of this server",
		    (long long)(a->cfg.max_file_bytes / (1024 * 1024)));
	return OK;
}

struct announcement {
	const char *agent_id, *path, *sha256;
	int64_t size;
	char generation[UUID_LEN]; /* of a new one */
	bool fresh; /* it is a new one: nothing can have come of it */
	struct artifact *ret;
};

/* The very same content: finished, or arriving. One that is finished is new again: it was written just now. */
static int find_same(struct tx *tx, const struct announcement *n)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT " COLUMNS " FROM artifacts WHERE agent_id = $1 AND path = $2 AND sha256 = $3 AND size_bytes = $4"
	    " ORDER BY state LIMIT 1",
	    "sssi", n->agent_id, n->path, n->sha256, n->size);

	if (rc == OK)
		rc = read_one(q, n->ret);
	if (rc != OK || !n->ret->ready)
		return rc;
	query_free(&q);
	return tx_exec(tx, "UPDATE artifacts SET updated_at = $2 WHERE generation = $1", "si", n->ret->generation,
	    clock_wall_ms());
}

/* The oldest that arrives of this agent, if there are too many, or one of this path. ERR_EMPTY: there is none. */
static int drop_one_arriving(struct tx *tx, const struct announcement *n)
{
	AUTO_STR generation = NULL;
	int rc = tx_query_text(tx, &generation,
	    "SELECT generation FROM artifacts WHERE agent_id = $1 AND state = 'UPLOADING' AND (path = $2 OR (SELECT"
	    " COUNT(*) FROM artifacts WHERE agent_id = $1 AND state = 'UPLOADING') >= $3) ORDER BY updated_at LIMIT 1",
	    "ssi", n->agent_id, n->path, (int64_t)ARRIVING_MAX);

	return rc != OK ? rc : artifact_drop(tx, generation);
}

static int announce(struct tx *tx, void *arg)
{
	struct announcement *n = arg;
	int rc = agent_is_there(tx, n->agent_id);

	n->fresh = false;
	artifact_fini(n->ret);
	if (rc != OK)
		return rc;
	rc = find_same(tx, n);
	if (rc != ERR_NOT_FOUND)
		return rc;
	do
		rc = drop_one_arriving(tx, n);
	while (rc == OK);
	if (rc != ERR_EMPTY)
		return rc;
	rc = tx_exec(tx,
	    "INSERT INTO artifacts(generation, agent_id, path, state, size_bytes, sha256, updated_at)"
	    " VALUES($1, $2, $3, 'UPLOADING', $4, $5, $6)",
	    "sssisi", n->generation, n->agent_id, n->path, n->size, n->sha256, clock_wall_ms());
	if (rc == OK) {
		str_set(&n->ret->generation, n->generation);
		str_set(&n->ret->agent_id, n->agent_id);
		str_set(&n->ret->path, n->path);
		str_set(&n->ret->sha256, n->sha256);
		n->ret->size_bytes = n->size;
		n->fresh = true;
	}
	return rc;
}

static void announce_to_storage(struct artifacts *a, const char *generation, int64_t *ret_received)
{
	if (a->storage->kind->announce != NULL)
		a->storage->kind->announce(a->storage, generation);
	*ret_received = 0;
}

int artifact_announce(struct artifacts *a, const char *agent_id, const char *path, int64_t size, const char *sha256,
    struct artifact *ret, int64_t *ret_received, struct why *why)
{
	struct announcement n = {.agent_id = agent_id, .path = path, .sha256 = sha256, .size = size, .ret = ret};
	int rc = check_announced(a, path, size, sha256, why);

	if (rc != OK)
		return rc;
	id_uuid(n.generation);
	*ret = (struct artifact){0};
	rc = store_write(a->cfg.store, announce, &n);
	artifacts_poke(a);
	if (rc == OK && ret->ready)
		*ret_received = ret->size_bytes;
	else if (rc == OK && n.fresh)
		announce_to_storage(a, ret->generation, ret_received);
	else if (rc == OK)
		rc = a->storage->kind->received(a->storage, ret->generation, ret_received);
	return rc;
}

int artifact_find(struct artifacts *a, const char *agent_id, const char *generation, struct artifact *ret)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = tx_begin(a->cfg.store, TX_READ, &tx);

	*ret = (struct artifact){0};
	if (rc == OK)
		rc = tx_query(tx, &q, "SELECT " COLUMNS " FROM artifacts WHERE generation = $1", "s", generation);
	if (rc == OK)
		rc = read_one(q, ret);
	return rc == OK && agent_id != NULL && strcmp(ret->agent_id, agent_id) != 0 ? ERR_NOT_FOUND : rc;
}

struct completion {
	const struct artifacts *a;
	const struct artifact *f;
};

/* One generation that is in the way: of the same path, or the oldest of too many. ERR_EMPTY: none is. */
static int drop_older(struct tx *tx, const struct completion *c)
{
	AUTO_STR generation = NULL;
	int rc = tx_query_text(tx, &generation,
	    "SELECT generation FROM artifacts WHERE agent_id = $1 AND path = $2 AND state = 'READY' AND generation <> "
	    "$3"
	    " LIMIT 1",
	    "sss", c->f->agent_id, c->f->path, c->f->generation);

	if (rc == ERR_EMPTY)
		rc = tx_query_text(tx, &generation,
		    "SELECT generation FROM artifacts WHERE agent_id = $1 AND state = 'READY' AND (SELECT COUNT(*) FROM"
		    " artifacts WHERE agent_id = $1 AND state = 'READY') > $2 ORDER BY updated_at, generation <> $3,"
		    " generation LIMIT 1",
		    "sis", c->f->agent_id, c->a->cfg.max_files, c->f->generation);
	return rc != OK ? rc : artifact_drop(tx, generation);
}

static int complete(struct tx *tx, void *arg)
{
	const struct completion *c = arg;
	int64_t n = 0;
	int rc = agent_is_there(tx, c->f->agent_id);

	if (rc == OK)
		rc = tx_change(tx, &n, "UPDATE artifacts SET state = 'READY', updated_at = $2 WHERE generation = $1",
		    "si", c->f->generation, clock_wall_ms());
	if (rc == OK && n == 0)
		rc = ERR_NOT_FOUND;
	while (rc == OK)
		rc = drop_older(tx, c);
	return rc == ERR_EMPTY ? OK : rc;
}

static int drop(struct tx *tx, void *arg)
{
	return artifact_drop(tx, arg);
}

int artifact_complete(struct artifacts *a, const struct artifact *f, struct storage_piece *p)
{
	struct completion c = {.a = a, .f = f};
	int rc = a->storage->kind->finish(p, f->size_bytes, f->sha256);

	if (rc == OK)
		rc = store_write(a->cfg.store, complete, &c);
	/* Also if its row is gone already: the thread may have looked for the content before it had its last name. */
	if (rc == ERR_INVALID || rc == ERR_NOT_FOUND) {
		int dropped = store_write(a->cfg.store, drop, f->generation);

		if (dropped != OK)
			rc = dropped;
	}
	artifacts_poke(a);
	return rc;
}

int artifacts_each(struct tx *tx, const char *agent_id, int (*fn)(void *ctx, const struct artifact *f), void *ctx)
{
	AUTO(query) q = NULL;
	AUTO_FINI(artifact) f = {0};
	int rc = tx_query(tx, &q,
	    "SELECT " COLUMNS " FROM artifacts WHERE agent_id = $1 AND state = 'READY' ORDER BY updated_at DESC, path"
	    " LIMIT $2",
	    "si", agent_id, (int64_t)LIST_MAX);

	while (rc == OK && (rc = query_next(q)) == OK) {
		artifact_from_row(q, &f);
		rc = fn(ctx, &f);
	}
	return rc == ERR_EMPTY ? OK : rc;
}

int artifacts_by_name(struct tx *tx, const char *agent_id, int64_t max, struct query **ret)
{
	return tx_query(tx, ret,
	    "SELECT " COLUMNS " FROM artifacts WHERE agent_id = $1 AND state = 'READY' ORDER BY path LIMIT $2", "si",
	    agent_id, max);
}

int artifact_by_path(struct tx *tx, const char *agent_id, const char *path, struct artifact *ret)
{
	AUTO(query) q = NULL;
	int rc =
	    tx_query(tx, &q, "SELECT " COLUMNS " FROM artifacts WHERE agent_id = $1 AND path = $2 AND state = 'READY'",
		"ss", agent_id, path);

	*ret = (struct artifact){0};
	return rc != OK ? rc : read_one(q, ret);
}
