/* Tokens that are valid for a while. Two runs, or two nodes, may find at once that one is too old: only one fetches. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/seal.h"
#include "server/mcp/remotes_priv.h"
#include <string.h>
#include <time.h>

#define EARLY_MS (60 * 1000)
#define LOCK_MS (30 * 1000) /* longer than a fetch may take */
#define POLL_MS 50

struct refreshing {
	struct remotes *r;
	const struct kept_owner *o;
	const char *url;
	struct grant *grant;
	bool locked;
};

static int lock_in(struct tx *tx, void *arg)
{
	struct refreshing *f = arg;
	int64_t now = clock_wall_ms();

	return kept_grant_lock(tx, f->o, f->url, f->grant->version, now, now + LOCK_MS, &f->locked);
}

static int unlock_in(struct tx *tx, void *arg)
{
	struct refreshing *f = arg;

	return kept_grant_unlock(tx, f->o, f->url);
}

static int keep_in(struct tx *tx, void *arg)
{
	struct refreshing *f = arg;

	return kept_grant_set(tx, f->r->seal, f->o, f->url, f->grant, clock_wall_ms());
}

static int drop_in(struct tx *tx, void *arg)
{
	struct refreshing *f = arg;

	return kept_grant_drop(tx, f->o, f->url, f->grant->version);
}

/* We have the lock. */
static int refresh(struct refreshing *f, struct why *why)
{
	struct grant *g = f->grant;
	AUTO_FINI(oauth_tokens) fresh = {0};
	int rc, wrote;

	rc = oauth_refresh(f->r->rules, &g->server, &g->client, g->tokens.refresh, &fresh, why);
	if (rc == ERR_UNAUTHORIZED) {
		log_info("mcp.grant.withdrawn", "user=%lld issuer=%s", (long long)f->o->user_id,
		    log_quote(g->server.issuer));
		wrote = store_write(f->r->store, drop_in, f);
		return wrote != OK ? wrote : rc;
	}
	if (rc != OK) {
		IGNORE(store_write(f->r->store, unlock_in, f)); /* the lock ends by itself */
		return rc;
	}
	/* What the server does not give anew stays as it was. */
	if (fresh.refresh == NULL)
		fresh.refresh = TAKE(g->tokens.refresh);
	if (fresh.scope == NULL)
		fresh.scope = TAKE(g->tokens.scope);
	oauth_tokens_fini(&g->tokens);
	g->tokens = fresh;
	fresh = (struct oauth_tokens){0};
	rc = store_write(f->r->store, keep_in, f);
	g->version++;
	return rc;
}

static int load(struct remotes *r, const struct kept_owner *o, const char *url, struct grant *ret)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(r->store, TX_READ, &tx);

	return rc != OK ? rc : kept_grant(tx, r->seal, o, url, ret);
}

static bool is_too_old(const struct grant *g, int64_t rejected)
{
	return g->version == rejected ||
	       (g->tokens.expires_at_ms != 0 && g->tokens.expires_at_ms - EARLY_MS < clock_wall_ms());
}

int grant_token(struct remotes *r, const struct kept_owner *o, const char *url, int64_t rejected, char **ret,
    int64_t *ret_version, struct why *why)
{
	const struct timespec pause = {.tv_nsec = POLL_MS * 1000000L};
	int64_t deadline = clock_mono_ms() + LOCK_MS;

	for (;;) {
		AUTO_FINI(grant) g = {0};
		struct refreshing f = {.r = r, .o = o, .url = url, .grant = &g};
		int rc = load(r, o, url, &g);

		if (rc == OK && is_too_old(&g, rejected)) {
			/* One that nobody can renew is used until the server says no. */
			if (g.tokens.refresh == NULL) {
				if (g.version == rejected ||
				    (g.tokens.expires_at_ms != 0 && g.tokens.expires_at_ms <= clock_wall_ms()))
					return ERR_UNAUTHORIZED;
			} else {
				rc = store_write(r->store, lock_in, &f);
				if (rc == OK && !f.locked) {
					if (clock_mono_ms() >= deadline)
						return why_set(
						    why, ERR_TIMEOUT, "its token is being fetched for too long");
					nanosleep(&pause, NULL);
					continue;
				}
				if (rc == OK)
					rc = refresh(&f, why);
			}
		}
		if (rc == OK) {
			*ret = TAKE(g.tokens.access);
			*ret_version = g.version;
		}
		return rc;
	}
}

struct wanting {
	const struct kept_owner *o;
	const char *url, *scope;
};

static int want_in(struct tx *tx, void *arg)
{
	const struct wanting *w = arg;

	return kept_grant_want(tx, w->o, w->url, w->scope);
}

void grant_want(struct remotes *r, const struct kept_owner *o, const char *url, const char *scope)
{
	struct wanting w = {o, url, scope};
	int rc = store_write(r->store, want_in, &w);

	if (rc != OK)
		log_warn("mcp.grant.want", "error=%s", err_text(rc));
}
