/* The room itself: its key, grants and links, and the thread that makes the storage forget. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/access/tokens.h"
#include "server/artifacts/artifacts_priv.h"
#include <string.h>
#include <strings.h>

#define KEY_NAME "artifacts"
#define LOOK_MS 1000
#define FORGET_AT_ONCE 100
#define SWEEP_MS ((int64_t)6 * 60 * 60 * 1000)
#define SWEEP_AGAIN_MS ((int64_t)10 * 60 * 1000) /* after one that failed */
#define ABANDONED_MS ((int64_t)24 * 60 * 60 * 1000) /* what arrived so long ago and is not complete never will be */

void artifacts_poke(struct artifacts *a)
{
	pthread_mutex_lock(&a->lock);
	a->poked = true;
	pthread_cond_signal(&a->changed);
	pthread_mutex_unlock(&a->lock);
}

/* True: go on. */
static bool wait_for_work(struct artifacts *a)
{
	int64_t until = clock_mono_ms() + LOOK_MS;
	const struct timespec at = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
	bool go_on;

	pthread_mutex_lock(&a->lock);
	while (!a->poked && !a->stop && clock_mono_ms() < until)
		pthread_cond_timedwait(&a->changed, &a->lock, &at);
	a->poked = false;
	go_on = !a->stop;
	pthread_mutex_unlock(&a->lock);
	return go_on;
}

struct keys {
	char *v[FORGET_AT_ONCE];
	size_t n;
};

static void keys_fini(struct keys *k)
{
	for (size_t i = 0; i < k->n; i++)
		free(k->v[i]);
	k->n = 0;
}

static int find_removals(struct artifacts *a, struct keys *k)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = tx_begin(a->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc =
		    tx_query(tx, &q, "SELECT generation FROM artifact_removals LIMIT $1", "i", (int64_t)FORGET_AT_ONCE);
	while (rc == OK && k->n < FORGET_AT_ONCE && (rc = query_next(q)) == OK)
		k->v[k->n++] = str_dup(query_str(q, 0));
	return rc == ERR_EMPTY ? OK : rc;
}

static int forget_rows(struct tx *tx, void *arg)
{
	const struct keys *k = arg;
	int rc = OK;

	for (size_t i = 0; rc == OK && i < k->n; i++)
		rc = tx_exec(tx, "DELETE FROM artifact_removals WHERE generation = $1", "s", k->v[i]);
	return rc;
}

/* First the content, then the row that says so: a crash in between only repeats it. */
static int forget_some(struct artifacts *a, size_t *ret_n)
{
	AUTO_FINI(keys) k = {0};
	int rc = find_removals(a, &k);

	for (size_t i = 0; rc == OK && i < k.n; i++)
		rc = a->storage->kind->forget(a->storage, k.v[i]);
	*ret_n = k.n;
	return rc != OK || k.n == 0 ? rc : store_write(a->cfg.store, forget_rows, &k);
}

static int drop_abandoned(struct artifacts *a)
{
	AUTO(tx) tx = NULL;
	AUTO_STR generation = NULL;
	int rc = tx_begin(a->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = tx_query_text(tx, &generation,
		    "SELECT generation FROM artifacts WHERE state = 'UPLOADING' AND updated_at < $1 LIMIT 1", "i",
		    clock_wall_ms() - ABANDONED_MS);
	if (rc == OK)
		rc = artifact_drop(tx, generation);
	return rc != OK ? rc : tx_commit(&tx);
}

static int drop_old(struct tx *tx, void *arg)
{
	const struct artifacts *a = arg;
	struct keys k = {0};
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT generation FROM artifacts WHERE state = 'READY' AND updated_at < $1 ORDER BY updated_at LIMIT $2",
	    "ii", clock_wall_ms() - a->cfg.keep_ms, (int64_t)FORGET_AT_ONCE);

	while (rc == OK && k.n < FORGET_AT_ONCE && (rc = query_next(q)) == OK)
		k.v[k.n++] = str_dup(query_str(q, 0));
	query_free(&q);
	if (rc == ERR_EMPTY && k.n > 0)
		rc = OK;
	for (size_t i = 0; rc == OK && i < k.n; i++)
		rc = artifact_drop(tx, k.v[i]);
	keys_fini(&k);
	return rc;
}

/* By the rule of the settings, few in a transaction. */
static int drop_expired(struct artifacts *a)
{
	int rc = a->cfg.keep_ms > 0 ? OK : ERR_EMPTY;

	while (rc == OK)
		rc = store_write(a->cfg.store, drop_old, a);
	return rc == ERR_EMPTY ? OK : rc;
}

/* Rows are written before content, so what has none has lost it: the store is an older copy, or an upload went on
 * while its artifact was deleted. Such a copy may only be tried, so nothing young goes. */
static int judge_stored(void *ctx, const char *key, bool finished, int64_t changed_ms, bool *ret_needed)
{
	struct artifacts *a = ctx;
	AUTO(tx) tx = NULL;
	int64_t n = 0;
	int rc = OK;

	if (atomic_load(&a->stopping))
		return ERR_CANCELLED;
	*ret_needed = true;
	if (changed_ms > clock_wall_ms() - ABANDONED_MS)
		return OK;
	rc = tx_begin(a->cfg.store, TX_READ, &tx);
	if (rc == OK && finished)
		rc = tx_query_int(tx, &n, "SELECT COUNT(*) FROM artifacts WHERE generation = $1", "s", key);
	else if (rc == OK)
		rc = tx_query_int(
		    tx, &n, "SELECT COUNT(*) FROM artifacts WHERE generation = $1 AND state = 'UPLOADING'", "s", key);
	*ret_needed = rc != OK || n > 0;
	return rc;
}

/* When to sweep again. */
static int64_t sweep_storage(struct artifacts *a)
{
	const struct storage_kind *kind = a->storage->kind;
	struct why why = {0};
	int rc = kind->sweep != NULL ? kind->sweep(a->storage, judge_stored, a, &why) : OK;

	if (rc != OK && rc != ERR_CANCELLED)
		log_warn("artifacts.sweep.failed", "error=%s effect=\"%s\"",
		    log_quote(why.text[0] != '\0' ? why.text : err_text(rc)),
		    rc == ERR_DENIED ? "nothing is swept" : "it is tried again");
	return clock_mono_ms() + (rc == OK ? SWEEP_MS : SWEEP_AGAIN_MS);
}

static void *artifacts_thread(void *arg)
{
	struct artifacts *a = OBJ_FROM(artifacts, arg, ARTIFACTS_MAGIC);
	int64_t next_ms = 0, complained_ms = 0, sweep_ms = 0;

	while (wait_for_work(a)) {
		int64_t now = clock_mono_ms();
		size_t n = FORGET_AT_ONCE;
		int rc = OK;

		if (now >= next_ms) {
			while (rc == OK)
				rc = drop_abandoned(a);
			rc = rc == ERR_EMPTY ? drop_expired(a) : rc;
			next_ms = now + 60 * 1000;
		}
		while (rc == OK && n == FORGET_AT_ONCE)
			rc = forget_some(a, &n);
		if (rc == OK && now >= sweep_ms)
			sweep_ms = sweep_storage(a);
		if (rc != OK && rc != ERR_CANCELLED && (complained_ms == 0 || now - complained_ms > 60000)) {
			complained_ms = now;
			log_warn("artifacts.forget.failed", "error=%s effect=\"it is tried again\"", err_name(rc));
		}
	}
	return NULL;
}

static int start_thread(struct artifacts *a)
{
	pthread_condattr_t attr;

	pthread_mutex_init(&a->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&a->changed, &attr);
	pthread_condattr_destroy(&attr);
	a->started = pthread_create(&a->thread, NULL, artifacts_thread, a) == 0;
	return a->started ? OK : ERR_FULL;
}

static int make_storage(struct artifacts *a, struct why *why)
{
	AUTO_STR folder = str_printf("%s/artifacts", a->cfg.data_dir);
	AUTO_STR name = NULL;
	char installation[SHA256_HEX_LEN];
	int rc = OK;

	if (a->cfg.s3 == NULL)
		return storage_folder_new(folder, &a->storage, why);
	/* Of the key only what tells nothing of it. */
	name = artifact_link_sign(a->key, "installation", 0);
	sha256_hex(name, strlen(name), installation);
	rc = storage_s3_new(a->cfg.s3, installation, &a->storage, why);
	if (rc == OK && a->cfg.max_file_bytes > a->storage->kind->max_bytes)
		rc = why_set(why, ERR_INVALID, "artifacts.max_file_mib must be at most %lld with [s3]",
		    (long long)(a->storage->kind->max_bytes / (1024 * 1024)));
	return rc;
}

int artifacts_new(const struct artifacts_config *cfg, struct artifacts **ret, struct why *why)
{
	struct artifacts *a = NEW(struct artifacts);
	int rc;

	_Static_assert(ARTIFACT_KEY_LEN == INSTALLATION_KEY_LEN, "one key is the other");
	a->magic = ARTIFACTS_MAGIC;
	a->cfg = *cfg;
	a->upload_url = str_dup(cfg->upload_url);
	atomic_store(&a->download_url, str_dup(cfg->download_url));
	a->cfg.download_url = cfg->download_url != NULL ? atomic_load(&a->download_url) : NULL;
	rc = installation_key(cfg->store, KEY_NAME, a->key);
	if (rc == OK)
		rc = make_storage(a, why);
	if (rc == OK)
		rc = start_thread(a);
	*ret = a;
	return rc;
}

void artifacts_stop(struct artifacts *a)
{
	atomic_store(&a->stopping, true);
	if (a->storage != NULL && a->storage->kind->stop != NULL)
		a->storage->kind->stop(a->storage);
}

void artifacts_free(struct artifacts **ap)
{
	struct artifacts *a = TAKE(*ap);

	if (a == NULL)
		return;
	if (a->started) {
		artifacts_stop(a);
		pthread_mutex_lock(&a->lock);
		a->stop = true;
		pthread_cond_signal(&a->changed);
		pthread_mutex_unlock(&a->lock);
		pthread_join(a->thread, NULL);
		pthread_cond_destroy(&a->changed);
		pthread_mutex_destroy(&a->lock);
	}
	if (a->storage != NULL)
		a->storage->kind->free(&a->storage);
	explicit_bzero(a->key, sizeof a->key);
	free(a->upload_url);
	free(atomic_load(&a->download_url));
	free(a);
}

void artifacts_set_base(struct artifacts *a, const char *url)
{
	if (atomic_load(&a->download_url) == NULL)
		atomic_store(&a->download_url, str_dup(url));
}

struct storage *artifacts_storage(struct artifacts *a)
{
	return a->storage;
}

json_t *artifacts_grant(void *ctx, const char *agent_id, const char *claim_id)
{
	struct artifacts *a = OBJ_FROM(artifacts, ctx, ARTIFACTS_MAGIC);
	AUTO_STR token = artifact_token_make(a->key, agent_id, claim_id, clock_wall_ms() + TOKEN_WEEK_MS);
	json_t *o = json_object();

	json_put(o, "url", a->upload_url);
	json_put(o, "token", token);
	json_put_int(o, "maxFileBytes", a->cfg.max_file_bytes);
	return o;
}

int artifacts_check_grant(struct artifacts *a, const char *authorization, char **ret_agent_id)
{
	static const char word[] = "Bearer ";
	AUTO(tx) tx = NULL;
	AUTO_STR agent = NULL;
	AUTO_STR claim = NULL;
	int64_t n = 0;
	int rc = ERR_UNAUTHORIZED;

	if (authorization != NULL && strncasecmp(authorization, word, strlen(word)) == 0)
		rc = artifact_token_read(a->key, authorization + strlen(word), clock_wall_ms(), &agent, &claim);
	if (rc == OK)
		rc = tx_begin(a->cfg.store, TX_READ, &tx);
	if (rc == OK)
		rc = tx_query_int(
		    tx, &n, "SELECT COUNT(*) FROM claims WHERE agent_id = $1 AND id = $2", "ss", agent, claim);
	if (rc == OK && n == 0)
		rc = ERR_UNAUTHORIZED;
	if (rc == OK)
		*ret_agent_id = TAKE(agent);
	return rc;
}

char *artifact_link(
    struct artifacts *a, const char *generation, const char *disposition, int64_t now_ms, int64_t *ret_expires_at)
{
	const struct storage_kind *kind = a->storage->kind;
	int64_t whole = now_ms / 1000 * 1000, until = now_ms + ARTIFACT_LINK_MS;
	char *direct =
	    kind->link != NULL ? kind->link(a->storage, generation, disposition, whole, ARTIFACT_LINK_MS / 1000) : NULL;

	if (direct != NULL) {
		*ret_expires_at = whole + ARTIFACT_LINK_MS;
		return direct;
	}
	AUTO_STR signature = artifact_link_sign(a->key, generation, until);
	const char *base = atomic_load(&a->download_url);

	*ret_expires_at = until;
	return str_printf("%s/v1/artifact-files/%s?expires=%lld&signature=%s", base != NULL ? base : "", generation,
	    (long long)until, signature);
}

char *artifacts_origin(struct artifacts *a)
{
	const struct storage_kind *kind = a->storage->kind;
	const char *url = a->cfg.download_url;
	size_t scheme, len;

	if (kind->origin != NULL && kind->origin(a->storage) != NULL)
		return str_dup(kind->origin(a->storage));
	if (url == NULL)
		return NULL;
	scheme = strcspn(url, "/") + 2;
	len = strcspn(url + scheme, "/?#");
	AUTO_STR host = str_ndup(url + scheme, len);

	/* It goes into a header where other characters mean something. */
	return text_is_token(host, ".-:[]", len) ? str_ndup(url, scheme + len) : NULL;
}

bool artifact_link_is_good(
    struct artifacts *a, const char *generation, const char *expires, const char *signature, int64_t now_ms)
{
	return artifact_link_verify(a->key, generation, expires, signature, now_ms);
}
