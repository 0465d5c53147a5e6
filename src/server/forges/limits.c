/* What a forge wants of those who ask it often: a distance between two writes, silence after a limit, and no more than
 * "has it changed?" for what was asked before. A GitHub App has limits of its own at each account that it is installed
 * for, so there all of it is counted for the owner of the repository. */
#include "base/clock.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/forges/forges_priv.h"
#include <string.h>
#include <time.h>

#define LANES_MAX 256
#define ALONE_MS 60000 /* to be left alone for so long, if the forge does not say it */
#define ALONE_MAX_MS ((int64_t)3600 * 1000)
#define WORTH_WAITING_MS 2000 /* a limit that is over so soon is waited for */
#define KEPT_MAX 256
#define KEPT_BODY_MAX ((size_t)128 * 1024)
#define KEPT_BYTES_MAX ((size_t)4 * 1024 * 1024)

struct lane {
	int64_t last_write_ms, quiet_until_ms; /* monotonic */
};

/* An answer that the forge said how to ask for again. */
struct kept {
	char *etag, *body, *cursor;
	size_t bytes;
	int64_t used; /* a count: the smallest goes first */
};

struct forge_limits {
	pthread_mutex_t mtx; /* a leaf */
	int64_t write_pause_ms;
	bool by_owner;
	struct map *lanes, *kept;
	size_t kept_bytes;
	int64_t uses;
};

static void kept_free(struct kept *k)
{
	if (k == NULL)
		return;
	free(k->etag);
	free(k->body);
	free(k->cursor);
	free(k);
}

struct forge_limits *forge_limits_new(int64_t write_pause_ms, bool by_owner)
{
	struct forge_limits *l = NEW(struct forge_limits);

	pthread_mutex_init(&l->mtx, NULL);
	l->write_pause_ms = write_pause_ms;
	l->by_owner = by_owner;
	l->lanes = map_new();
	l->kept = map_new();
	return l;
}

void forge_limits_free(struct forge_limits **lp)
{
	struct forge_limits *l = TAKE(*lp);
	const char *key;
	size_t at = 0;
	void *v;

	if (l == NULL)
		return;
	while (map_next(l->lanes, &at, &key, &v))
		free(v);
	at = 0;
	while (map_next(l->kept, &at, &key, &v))
		kept_free(v);
	map_free(&l->lanes);
	map_free(&l->kept);
	pthread_mutex_destroy(&l->mtx);
	free(l);
}

/* mtx held. Lanes where nothing is to be waited for any more. */
static void forget_lanes(struct forge_limits *l, int64_t now)
{
	const char *key;
	size_t at = 0;
	void *v;

	while (map_next(l->lanes, &at, &key, &v)) {
		const struct lane *lane = v;

		if (lane->quiet_until_ms > now || lane->last_write_ms + l->write_pause_ms > now)
			continue;
		map_remove(l->lanes, key);
		free(v);
	}
}

/* mtx held. */
static struct lane *lane_of(struct forge_limits *l, const struct forge_call *c)
{
	AUTO_STR owner = l->by_owner && !(c->by_token && c->forge->token != NULL)
			     ? str_ndup(c->repo, strcspn(c->repo, "/"))
			     : str_dup("");
	struct lane *lane = map_get(l->lanes, owner);

	if (lane != NULL)
		return lane;
	if (map_count(l->lanes) >= LANES_MAX)
		forget_lanes(l, clock_mono_ms());
	/* Too many at once: the last ones share one. */
	if (map_count(l->lanes) >= LANES_MAX && (lane = map_get(l->lanes, "")) != NULL)
		return lane;
	lane = NEW(struct lane);
	map_put(l->lanes, map_count(l->lanes) >= LANES_MAX ? "" : owner, lane);
	return lane;
}

static void pause_until(const struct forge_call *c, int64_t at)
{
	int64_t now;

	while ((c->stopped == NULL || !c->stopped(c->ctx)) && (now = clock_mono_ms()) < at) {
		const struct timespec t = {.tv_nsec = MIN(at - now, (int64_t)50) * 1000000};

		nanosleep(&t, NULL); /* interval of polling */
	}
}

int forge_limits_wait(struct forge_limits *l, struct forge_call *c, bool writes)
{
	int64_t now = clock_mono_ms(), quiet, at;
	struct lane *lane;

	pthread_mutex_lock(&l->mtx);
	lane = lane_of(l, c);
	quiet = lane->quiet_until_ms;
	at = MAX(now, quiet);
	if (writes)
		at = MAX(at, lane->last_write_ms + l->write_pause_ms);
	if (quiet <= now + WORTH_WAITING_MS && at <= c->deadline_mono_ms) {
		if (writes)
			lane->last_write_ms = at;
		pthread_mutex_unlock(&l->mtx);
		pause_until(c, at);
		return OK;
	}
	pthread_mutex_unlock(&l->mtx);
	if (quiet > now) {
		c->retry_ms = quiet - now;
		return why_set(&c->why, ERR_FULL, "%s limits its requests and is asked again in %lld s",
		    forge_host(c->forge), (long long)((quiet - now + 999) / 1000));
	}
	return why_set(&c->why, ERR_TIMEOUT, "%s was written to a moment ago, and there was no time to wait",
	    forge_host(c->forge));
}

/* "1753900000" seconds by their clock; 0: not said, or over. */
static int64_t until_reset(const struct http_client_response *r)
{
	int64_t s = 0, skew = http_client_clock_skew_ms(r);

	if (r->limit_reset == NULL || text_parse_int(r->limit_reset, 1, INT64_MAX / 2000, &s) != OK)
		return 0;
	return MAX(s * 1000 - (clock_wall_ms() - (skew != INT64_MAX ? skew : 0)), 0);
}

int64_t forge_limits_wait_of(const struct http_client_response *r)
{
	int64_t s = 0;
	bool spent = r->limit_remaining != NULL && strcmp(r->limit_remaining, "0") == 0;

	if (r->retry_after != NULL && text_parse_int(r->retry_after, 0, 24 * 3600, &s) == OK)
		return MIN(s * 1000, ALONE_MAX_MS);
	if (spent && until_reset(r) > 0)
		return MIN(until_reset(r), ALONE_MAX_MS);
	return ALONE_MS;
}

void forge_limits_heed(
    struct forge_limits *l, const struct forge_call *c, const struct http_client_response *r, bool refused)
{
	int64_t wait = 0;

	if (refused)
		wait = forge_limits_wait_of(r);
	else if (r->limit_remaining != NULL && strcmp(r->limit_remaining, "0") == 0)
		wait = MIN(until_reset(r), ALONE_MAX_MS); /* that was the last one */
	if (wait == 0)
		return;
	pthread_mutex_lock(&l->mtx);
	struct lane *lane = lane_of(l, c);

	lane->quiet_until_ms = MAX(lane->quiet_until_ms, clock_mono_ms() + wait);
	pthread_mutex_unlock(&l->mtx);
}

char *forge_kept_etag(struct forge_limits *l, const char *path)
{
	const struct kept *k;
	char *etag;

	pthread_mutex_lock(&l->mtx);
	k = map_get(l->kept, path);
	etag = k != NULL ? str_dup(k->etag) : NULL;
	pthread_mutex_unlock(&l->mtx);
	return etag;
}

bool forge_kept_take(struct forge_limits *l, const char *path, const char *etag, char **ret_body, char **ret_cursor)
{
	struct kept *k;
	bool same;

	pthread_mutex_lock(&l->mtx);
	k = map_get(l->kept, path);
	same = k != NULL && strcmp(k->etag, etag) == 0;
	if (same) {
		k->used = ++l->uses;
		*ret_body = str_dup(k->body);
		*ret_cursor = str_dup(k->cursor);
	}
	pthread_mutex_unlock(&l->mtx);
	return same;
}

/* mtx held. */
static void drop_kept(struct forge_limits *l, const char *path)
{
	struct kept *k = map_remove(l->kept, path);

	if (k != NULL)
		l->kept_bytes -= k->bytes;
	kept_free(k);
}

/* mtx held. */
static void drop_oldest(struct forge_limits *l)
{
	AUTO_STR oldest = NULL;
	int64_t used = INT64_MAX;
	const char *key;
	size_t at = 0;
	void *v;

	while (map_next(l->kept, &at, &key, &v))
		if (((struct kept *)v)->used < used) {
			used = ((struct kept *)v)->used;
			str_set(&oldest, key);
		}
	if (oldest != NULL)
		drop_kept(l, oldest);
}

void forge_kept_put(struct forge_limits *l, const char *path, const struct http_client_response *r, const char *cursor)
{
	struct kept *k;
	size_t bytes = r->body.len + strlen(path) + 256;

	if (r->etag == NULL || strlen(r->etag) > 200 || r->body.len > KEPT_BODY_MAX || strlen(path) > 2048)
		return;
	k = NEW(struct kept);
	*k = (struct kept){.etag = str_dup(r->etag),
	    .body = str_ndup(strbuf_str(&r->body), r->body.len),
	    .cursor = str_dup(cursor),
	    .bytes = bytes};
	pthread_mutex_lock(&l->mtx);
	drop_kept(l, path);
	while (map_count(l->kept) >= KEPT_MAX || (l->kept_bytes + bytes > KEPT_BYTES_MAX && map_count(l->kept) > 0))
		drop_oldest(l);
	k->used = ++l->uses;
	l->kept_bytes += bytes;
	map_put(l->kept, path, k);
	pthread_mutex_unlock(&l->mtx);
}
