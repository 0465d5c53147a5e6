/* The room itself: its key, grants and links, and the thread that makes the storage forget. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/access/tokens.h"
#include "server/artifacts/artifacts_priv.h"
#include <string.h>
#include <strings.h>

#define KEY_NAME "artifacts"
#define LOOK_MS 1000
#define FORGET_AT_ONCE 100
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

static void *artifacts_thread(void *arg)
{
	struct artifacts *a = OBJ_FROM(artifacts, arg, ARTIFACTS_MAGIC);
	int64_t next_ms = 0, complained_ms = 0;

	while (wait_for_work(a)) {
		int64_t now = clock_mono_ms();
		size_t n = FORGET_AT_ONCE;
		int rc = OK;

		if (now >= next_ms) {
			while (rc == OK)
				rc = drop_abandoned(a);
			rc = rc == ERR_EMPTY ? OK : rc;
			next_ms = now + 60 * 1000;
		}
		while (rc == OK && n == FORGET_AT_ONCE)
			rc = forget_some(a, &n);
		if (rc != OK && (complained_ms == 0 || now - complained_ms > 60000)) {
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

int artifacts_new(const struct artifacts_config *cfg, struct artifacts **ret, struct why *why)
{
	struct artifacts *a = NEW(struct artifacts);
	AUTO_STR folder = str_printf("%s/artifacts", cfg->data_dir);
	int rc;

	_Static_assert(ARTIFACT_KEY_LEN == INSTALLATION_KEY_LEN, "one key is the other");
	a->magic = ARTIFACTS_MAGIC;
	a->cfg = *cfg;
	a->upload_url = str_dup(cfg->upload_url);
	atomic_store(&a->download_url, str_dup(cfg->download_url));
	rc = storage_folder_new(folder, &a->storage, why);
	if (rc == OK)
		rc = installation_key(cfg->store, KEY_NAME, a->key);
	if (rc == OK)
		rc = start_thread(a);
	*ret = a;
	return rc;
}

void artifacts_free(struct artifacts **ap)
{
	struct artifacts *a = TAKE(*ap);

	if (a == NULL)
		return;
	if (a->started) {
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

char *artifact_link(struct artifacts *a, const char *generation, int64_t now_ms, int64_t *ret_expires_at)
{
	int64_t until = now_ms + ARTIFACT_LINK_MS;
	AUTO_STR signature = artifact_link_sign(a->key, generation, until);
	const char *base = atomic_load(&a->download_url);

	*ret_expires_at = until;
	return str_printf("%s/v1/artifact-files/%s?expires=%lld&signature=%s", base != NULL ? base : "", generation,
	    (long long)until, signature);
}

bool artifact_link_is_good(
    struct artifacts *a, const char *generation, const char *expires, const char *signature, int64_t now_ms)
{
	return artifact_link_verify(a->key, generation, expires, signature, now_ms);
}
