#include "agent/artifacts/lookout.h"
#include "agent/artifacts/scan.h"
#include "agent/artifacts/upload.h"
#include "agent/session/beneath.h"
#include "base/artifact_path.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#define LOOKOUT_MAGIC 0x77617463u
#define LOOKOUT_STACK ((size_t)1024 * 1024) /* TLS */
#define LOOK_MS 1000 /* while something goes on */
#define REST_MS 15000 /* when no tool was heard of for BUSY_MS */
#define BUSY_MS 60000
#define SETTLE_MS 700 /* between two looks that find a file unchanged */
#define PAUSE_MAX_MS 60000
#define END_MS (5 * 60 * 1000) /* how long the end of a run may take; what is not there then is brought later */
#define QUIET_MS 20000 /* and how long without anything getting on: the host is busy with others */
#define FAILURES_AT_END 4 /* in a row, so many are enough to give up at the end of a run */
#define CHANGES_MAX 10
#define REASON_MORE "there are more files than are looked at: the others are not uploaded"

enum file_state {
	FILE_NEW, /* not settled yet */
	FILE_DUE, /* to be brought */
	FILE_DONE, /* brought as it is, or there before the agent */
	FILE_REFUSED /* never will be, as it is */
};

struct watched {
	char *path;
	struct scan_stamp stamp;
	enum file_state state;
	int64_t seen_ms; /* since when it is as it is */
	bool present; /* in the look that is under way */
	bool told; /* of one that is refused: that it is */
	unsigned changes; /* how often it changed under an upload */
	char *reason; /* why it was not brought, as far as was tried; NULL */
};

struct lookout {
	unsigned magic;
	char *root;
	pthread_t thread;
	/* Of the thread alone. */
	struct watched *files;
	size_t n, cap;
	struct http_client_pool *pool;
	unsigned failures; /* of the host in a row */
	int64_t next_try_ms; /* of the host */
	int64_t moved_ms; /* when it took something last */
	bool more, more_told;
	int64_t poked_ms;

	atomic_bool stop;
	pthread_mutex_t lock; /* for the rest */
	pthread_cond_t changed;
	char *url, *token;
	int64_t max_file_bytes;
	bool poked;
	uint64_t wanted, finished; /* ends of runs: asked for, done */
	json_t *left; /* what the last end could not bring */
};

static void why_left(struct watched *f, const char *reason)
{
	str_set(&f->reason, reason);
}

static struct watched *find_watched(struct lookout *w, const char *path)
{
	for (size_t i = 0; i < w->n; i++)
		if (strcmp(w->files[i].path, path) == 0)
			return &w->files[i];
	return NULL;
}

/* Why a thing of this kind and name is never brought; false: it may be. */
static bool is_refused(const char *path, const struct stat *st, int64_t max_bytes, struct why *why)
{
	if (S_ISLNK(st->st_mode))
		why_set(why, OK, "it is a symbolic link");
	else if (!S_ISREG(st->st_mode))
		why_set(why, OK, "it is not a regular file");
	else if (artifact_path_check(path, why) != OK)
		return true;
	else if (st->st_size > max_bytes)
		why_set(why, OK, "it is larger than %lld MiB, which is the limit of the server",
		    (long long)(max_bytes / (1024 * 1024)));
	else
		return false;
	return true;
}

struct look {
	struct lookout *w;
	bool first; /* nothing of it is the agent's */
	int64_t now_ms, max_bytes;
};

static void take_change(struct look *l, struct watched *f, const struct stat *st)
{
	struct why why = {""};

	f->stamp = scan_stamp_of(st);
	f->seen_ms = l->now_ms;
	f->told = false;
	str_free(&f->reason);
	f->state = l->first ? FILE_DONE : FILE_NEW;
	if (!l->first && is_refused(f->path, st, l->max_bytes, &why)) {
		f->state = FILE_REFUSED;
		why_left(f, why.text);
	}
}

static void take_entry(void *ctx, const char *path, const struct stat *st)
{
	struct look *l = ctx;
	struct lookout *w = l->w;
	struct watched *f = find_watched(w, path);
	const struct scan_stamp stamp = scan_stamp_of(st);

	if (f == NULL) {
		w->files = mem_grow(w->files, &w->cap, w->n + 1, sizeof *w->files);
		f = &w->files[w->n++];
		*f = (struct watched){.path = str_dup(path)};
		take_change(l, f, st);
	} else if (!scan_same(&f->stamp, &stamp)) {
		take_change(l, f, st);
	} else if (f->state == FILE_NEW && l->now_ms - f->seen_ms >= SETTLE_MS) {
		f->state = FILE_DUE;
	}
	f->present = true;
}

static void watched_fini(struct watched *f)
{
	free(f->path);
	free(f->reason);
}

static void drop_vanished(struct lookout *w)
{
	size_t kept = 0;

	for (size_t i = 0; i < w->n; i++) {
		if (w->files[i].present)
			w->files[kept++] = w->files[i];
		else
			watched_fini(&w->files[i]);
	}
	w->n = kept;
}

static void look(struct lookout *w, bool first)
{
	struct look l = {.w = w, .first = first, .now_ms = clock_mono_ms()};

	pthread_mutex_lock(&w->lock);
	l.max_bytes = w->max_file_bytes;
	pthread_mutex_unlock(&w->lock);
	for (size_t i = 0; i < w->n; i++)
		w->files[i].present = false;
	w->more = !scan_artifacts(w->root, take_entry, &l);
	drop_vanished(w);
}

static bool is_stopped(void *ctx)
{
	struct lookout *w = ctx;

	return atomic_load(&w->stop);
}

/* The file as it is now; a name that leads elsewhere meanwhile is not followed. */
static int bring_open(struct lookout *w, struct watched *f, int fd, bool *progress, struct why *why)
{
	AUTO_STR url = NULL;
	AUTO_STR token = NULL;
	struct stat st;
	struct look l = {.w = w, .now_ms = clock_mono_ms()};
	int rc;

	pthread_mutex_lock(&w->lock);
	url = str_dup(w->url);
	token = str_dup(w->token);
	l.max_bytes = w->max_file_bytes;
	pthread_mutex_unlock(&w->lock);
	if (fstat(fd, &st) != 0)
		return why_set(why, ERR_IO, "it cannot be read: %s", strerror(errno));
	/* What is brought is what is here now. */
	take_change(&l, f, &st);
	if (f->state == FILE_REFUSED)
		return why_set(why, ERR_DENIED, "%s", f->reason);
	const struct upload_host host = {
	    .url = url, .token = token, .pool = w->pool, .cancelled = is_stopped, .ctx = w};

	rc = upload_file(&host, f->path, fd, progress, why);
	explicit_bzero(token, strlen(token));
	return rc;
}

static void host_failed(struct lookout *w)
{
	int64_t pause = (int64_t)1000 << MIN(w->failures, 6u);

	w->failures++;
	w->next_try_ms = clock_mono_ms() + MIN(pause, (int64_t)PAUSE_MAX_MS);
}

static void settle(struct lookout *w, struct watched *f, int rc, bool progress, const struct why *why)
{
	if (progress || rc == OK) {
		w->failures = 0;
		w->moved_ms = clock_mono_ms();
	}
	if (rc == OK) {
		f->state = FILE_DONE;
		f->changes = 0;
		log_debug("worker.artifact", "path=%s bytes=%lld", log_quote(f->path), (long long)f->stamp.size);
		return;
	}
	why_left(f, why->text);
	if (rc == ERR_DENIED || (rc == ERR_CONFLICT && ++f->changes >= CHANGES_MAX))
		f->state = FILE_REFUSED;
	else
		f->state = rc == ERR_CONFLICT ? FILE_NEW : FILE_DUE;
	if (rc == ERR_NET)
		host_failed(w);
	else if (rc != ERR_DENIED)
		w->next_try_ms = clock_mono_ms() + LOOK_MS;
	if (rc != ERR_CANCELLED && w->failures <= 1)
		log_warn("worker.artifact.failed", "path=%s reason=%s", log_quote(f->path), log_quote(why->text));
}

static int bring(struct lookout *w, struct watched *f)
{
	struct why why = {""};
	bool progress = false;
	int fd = open_without_links(w->root, f->path, O_RDONLY), rc;

	if (fd < 0)
		rc = why_set(
		    &why, errno == ENOENT ? ERR_CONFLICT : ERR_DENIED, "it cannot be read: %s", strerror(errno));
	else
		rc = bring_open(w, f, fd, &progress, &why);
	if (fd >= 0)
		close(fd);
	settle(w, f, rc, progress, &why);
	/* What came in between a cut and now counts: the next try goes on there. */
	if (rc == ERR_NET && progress)
		w->next_try_ms = clock_mono_ms() + 200;
	return rc;
}

/* At the end of a run everything that is there, else what has settled. True: nothing more can be done now. */
static bool bring_all(struct lookout *w, bool at_end)
{
	for (size_t i = 0; i < w->n && !is_stopped(w); i++) {
		struct watched *f = &w->files[i];
		int rc;

		if (f->state != FILE_DUE && !(at_end && f->state == FILE_NEW))
			continue;
		if (clock_mono_ms() < w->next_try_ms && !(at_end && w->failures == 0))
			return false;
		rc = bring(w, f);
		if (rc != OK && rc != ERR_DENIED)
			return false;
	}
	return true;
}

static bool is_open(const struct watched *f)
{
	return f->state == FILE_NEW || f->state == FILE_DUE;
}

static void add_left(json_t *list, const char *path, const char *reason)
{
	json_t *o = json_object();

	json_put_new(o, "path", json_lossy(path, strlen(path)));
	json_put(o, "reason", reason);
	json_array_append_new(list, o);
}

/* A file that is refused is told once; one that the host does not get, at each end. */
static json_t *what_is_left(struct lookout *w)
{
	json_t *list = json_array();
	const char *of_host = NULL;

	for (size_t i = 0; i < w->n; i++)
		if (is_open(&w->files[i]) && w->files[i].reason != NULL)
			of_host = w->files[i].reason;
	for (size_t i = 0; i < w->n; i++) {
		struct watched *f = &w->files[i];

		if (f->state == FILE_REFUSED && !f->told)
			add_left(list, f->path, f->reason);
		else if (is_open(f))
			add_left(list, f->path,
			    f->reason != NULL ? f->reason
			    : of_host != NULL ? of_host
					      : "the run ended before it was uploaded");
		f->told = true;
	}
	if (w->more && !w->more_told)
		add_left(list, ARTIFACT_FOLDER "/", REASON_MORE);
	w->more_told = w->more;
	return list;
}

/* Until nothing is left, or the host has failed often enough. */
static void end_of_run(struct lookout *w)
{
	int64_t began = clock_mono_ms(), until = began + END_MS;
	json_t *list;
	bool tried = false;

	while (clock_mono_ms() < until) {
		look(w, false);
		if (bring_all(w, true) || is_stopped(w))
			break;
		/* It may have failed for long before: once more is enough. */
		if (tried && w->failures >= FAILURES_AT_END)
			break;
		if (clock_mono_ms() - MAX(began, w->moved_ms) >= QUIET_MS)
			break;
		tried = true;
		if (w->failures >= FAILURES_AT_END)
			w->next_try_ms = 0;
		while (clock_mono_ms() < w->next_try_ms && !is_stopped(w))
			poll(NULL, 0, (int)MIN(w->next_try_ms - clock_mono_ms() + 1, 100));
	}
	list = what_is_left(w);
	pthread_mutex_lock(&w->lock);
	json_decref(w->left);
	w->left = list;
	pthread_mutex_unlock(&w->lock);
}

/* How many ends of runs are asked for. */
static uint64_t wait_to_look(struct lookout *w)
{
	int64_t now = clock_mono_ms();
	int64_t until = now + (now - w->poked_ms < BUSY_MS ? LOOK_MS : REST_MS);
	const struct timespec at = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
	uint64_t wanted;

	pthread_mutex_lock(&w->lock);
	while (!is_stopped(w) && !w->poked && w->wanted == w->finished && clock_mono_ms() < until)
		pthread_cond_timedwait(&w->changed, &w->lock, &at);
	if (w->poked)
		w->poked_ms = clock_mono_ms();
	w->poked = false;
	wanted = w->wanted;
	pthread_mutex_unlock(&w->lock);
	return wanted;
}

static void *lookout_thread(void *arg)
{
	struct lookout *w = OBJ_FROM(lookout, arg, LOOKOUT_MAGIC);

	while (!is_stopped(w)) {
		uint64_t wanted = wait_to_look(w);

		if (is_stopped(w))
			break;
		if (wanted != w->finished) {
			end_of_run(w);
			pthread_mutex_lock(&w->lock);
			w->finished = wanted;
			pthread_cond_broadcast(&w->changed);
			pthread_mutex_unlock(&w->lock);
		} else {
			look(w, false);
			IGNORE(bring_all(w, false));
		}
	}
	return NULL;
}

static void lookout_free_parts(struct lookout *w)
{
	for (size_t i = 0; i < w->n; i++)
		watched_fini(&w->files[i]);
	free(w->files);
	http_client_pool_free(&w->pool);
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->lock);
	json_decref(w->left);
	free(w->root);
	free(w->url);
	free(w->token);
	free(w);
}

static bool start_watching(struct lookout *w)
{
	pthread_attr_t attr;
	bool ok;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, LOOKOUT_STACK);
	ok = pthread_create(&w->thread, &attr, lookout_thread, w) == 0;
	pthread_attr_destroy(&attr);
	return ok;
}

struct lookout *lookout_start(const char *root, const struct lookout_grant *grant)
{
	struct lookout *w = NEW(struct lookout);
	pthread_condattr_t attr;

	w->magic = LOOKOUT_MAGIC;
	w->root = str_dup(root);
	w->poked_ms = clock_mono_ms();
	w->left = json_array();
	w->pool = http_client_pool_new(1, 30000);
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->changed, &attr);
	pthread_condattr_destroy(&attr);
	lookout_renew(w, grant);
	look(w, true);
	if (start_watching(w))
		return w;
	lookout_free_parts(w);
	return NULL;
}

void lookout_renew(struct lookout *w, const struct lookout_grant *grant)
{
	pthread_mutex_lock(&w->lock);
	str_set(&w->url, grant->url);
	str_set(&w->token, grant->token);
	w->max_file_bytes = grant->max_file_bytes;
	pthread_mutex_unlock(&w->lock);
}

void lookout_poke(struct lookout *w)
{
	pthread_mutex_lock(&w->lock);
	w->poked = true;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

void lookout_finish(struct lookout *w)
{
	pthread_mutex_lock(&w->lock);
	w->wanted++;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

static bool is_readable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};

	return fd >= 0 && poll(&p, 1, 0) > 0;
}

json_t *lookout_await(struct lookout *w, int cancel_fd, int64_t deadline_mono_ms)
{
	json_t *left;

	pthread_mutex_lock(&w->lock);
	while (w->finished != w->wanted && clock_mono_ms() < deadline_mono_ms && !is_readable(cancel_fd)) {
		int64_t until = MIN(deadline_mono_ms, clock_mono_ms() + 200);

		pthread_cond_timedwait(&w->changed, &w->lock,
		    &(struct timespec){.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000});
	}
	left = w->finished == w->wanted ? json_incref(w->left) : json_array();
	pthread_mutex_unlock(&w->lock);
	return left;
}

void lookout_end(void *arg)
{
	struct lookout *w = OBJ_FROM(lookout, arg, LOOKOUT_MAGIC);

	pthread_mutex_lock(&w->lock);
	atomic_store(&w->stop, true);
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	lookout_free_parts(w);
}
