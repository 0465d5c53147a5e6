/* Commands that were put into the background: afterShellExecution comes when one ends, or with the session. A thread
 * waits for them, from the first one on. */
#include "agent/hooks/hooks_priv.h"
#include "agent/session/session.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BACKGROUND_MAX 64
/* Of a log, which can be of any length; and of all hooks for one command. */
#define LOG_MAX ((size_t)4 * 1024 * 1024)
#define LOG_SHOWN ((size_t)32 * 1024)
#define BACKGROUND_MS 2000

struct background {
	char *command, *cwd, *log;
	int64_t since_ms;
	int end_fd; /* readable at its end; -1: only the session's end tells */
};

struct backgrounds {
	struct hooks *h;
	pthread_t thread;
	int wake_fd;
	pthread_mutex_t lock; /* a leaf; of all below */
	pthread_cond_t changed;
	bool stop, held, busy;
	struct background v[BACKGROUND_MAX];
	size_t n;
};

static void background_fini(struct background *b)
{
	free(b->command);
	free(b->cwd);
	free(b->log);
	if (b->end_fd >= 0)
		close(b->end_fd);
}

/* With what it had printed by then. */
static void tell(struct hooks *h, const struct background *b)
{
	const struct hook_run run = {.facts = h->facts, .env = (const char *const *)h->run_env};
	AUTO_FINI(hook_verdict) v = {0};
	AUTO_STR raw = NULL;
	AUTO_STR text = NULL;
	AUTO_STR clean = NULL;
	size_t len = 0;
	json_t *p = json_object();

	if (b->log != NULL && text_read_file(b->log, LOG_MAX, &raw, &len) == OK)
		text = text_to_utf8(raw, len);
	AUTO_STR cut = text != NULL ? text_cut_middle(text, strlen(text), LOG_SHOWN, NULL) : NULL;

	clean = hook_without_secrets(run.env, cut != NULL ? cut : "");
	json_put(p, "command", b->command);
	json_put(p, "output", clean);
	json_put(p, "cwd", b->cwd);
	json_put_int(p, "duration", clock_mono_ms() - b->since_ms);
	json_put_bool(p, "sandbox", false);
	hooks_run(h,
	    &(struct hook_request){.event = HOOK_AFTER_SHELL,
		.subject = b->command,
		.path = b->cwd,
		.payload = p,
		.run = &run,
		.limit_ms = BACKGROUND_MS},
	    &v);
}

/* One that has ended, taken out of the list; false: none has, or it is not the time. */
static bool take_ended(struct backgrounds *g, struct background *ret)
{
	bool found = false;

	pthread_mutex_lock(&g->lock);
	while (g->held && !g->stop)
		pthread_cond_wait(&g->changed, &g->lock);
	for (size_t i = 0; i < g->n && !found && !g->stop; i++) {
		struct pollfd p = {g->v[i].end_fd, POLLIN, 0};

		found = g->v[i].end_fd >= 0 && poll(&p, 1, 0) == 1;
		if (found) {
			*ret = g->v[i];
			memmove(&g->v[i], &g->v[i + 1], (--g->n - i) * sizeof g->v[0]);
		}
	}
	g->busy = found;
	pthread_mutex_unlock(&g->lock);
	return found;
}

static void wait_for_one(struct backgrounds *g)
{
	struct pollfd fds[BACKGROUND_MAX + 1];
	eventfd_t woken;
	nfds_t n = 0;

	fds[n++] = (struct pollfd){g->wake_fd, POLLIN, 0};
	pthread_mutex_lock(&g->lock);
	for (size_t i = 0; i < g->n; i++)
		fds[n++] = (struct pollfd){g->v[i].end_fd, POLLIN, 0};
	pthread_mutex_unlock(&g->lock);
	/* Descriptors are closed by this thread, or after it has ended. */
	if (poll(fds, n, -1) > 0 && (fds[0].revents & POLLIN) != 0)
		IGNORE(eventfd_read(g->wake_fd, &woken));
}

static bool is_stopped(struct backgrounds *g)
{
	bool stop;

	pthread_mutex_lock(&g->lock);
	stop = g->stop;
	pthread_mutex_unlock(&g->lock);
	return stop;
}

static void *watch_main(void *arg)
{
	struct backgrounds *g = arg;
	struct background b;

	while (!is_stopped(g)) {
		wait_for_one(g);
		while (take_ended(g, &b)) {
			tell(g->h, &b);
			background_fini(&b);
			pthread_mutex_lock(&g->lock);
			g->busy = false;
			pthread_cond_broadcast(&g->changed);
			pthread_mutex_unlock(&g->lock);
		}
	}
	return NULL;
}

static struct backgrounds *watch_start(struct hooks *h)
{
	struct backgrounds *g = NEW(struct backgrounds);

	g->h = h;
	g->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&g->lock, NULL);
	pthread_cond_init(&g->changed, NULL);
	ENSURE(g->wake_fd >= 0 && pthread_create(&g->thread, NULL, watch_main, g) == 0);
	return g;
}

void hooks_note_background(struct hooks *h, const char *command, const char *cwd, const char *log, int end_fd)
{
	struct background b = {str_dup(command), str_dup(cwd), str_dup(log), clock_mono_ms(), end_fd};
	struct backgrounds *g;
	bool room;

	pthread_mutex_lock(&h->lock);
	if (h->backgrounds == NULL)
		h->backgrounds = watch_start(h);
	g = h->backgrounds;
	pthread_mutex_unlock(&h->lock);
	pthread_mutex_lock(&g->lock);
	room = g->n < BACKGROUND_MAX;
	if (room)
		g->v[g->n++] = b;
	pthread_mutex_unlock(&g->lock);
	if (room)
		IGNORE(eventfd_write(g->wake_fd, 1));
	else
		background_fini(&b);
}

static struct backgrounds *of(struct hooks *h)
{
	struct backgrounds *g;

	pthread_mutex_lock(&h->lock);
	g = h->backgrounds;
	pthread_mutex_unlock(&h->lock);
	return g;
}

void hooks_hold(struct hooks *h)
{
	struct backgrounds *g = h != NULL ? of(h) : NULL;

	if (g == NULL)
		return;
	pthread_mutex_lock(&g->lock);
	g->held = true;
	while (g->busy)
		pthread_cond_wait(&g->changed, &g->lock);
	pthread_mutex_unlock(&g->lock);
}

void hooks_release(struct hooks *h)
{
	struct backgrounds *g = h != NULL ? of(h) : NULL;

	if (g == NULL)
		return;
	pthread_mutex_lock(&g->lock);
	g->held = false;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
}

void hooks_end_backgrounds(struct hooks *h)
{
	struct backgrounds *g = TAKE(h->backgrounds);

	if (g == NULL)
		return;
	pthread_mutex_lock(&g->lock);
	g->stop = true;
	pthread_cond_broadcast(&g->changed);
	pthread_mutex_unlock(&g->lock);
	IGNORE(eventfd_write(g->wake_fd, 1));
	pthread_join(g->thread, NULL);
	for (size_t i = 0; i < g->n; i++) {
		tell(h, &g->v[i]);
		background_fini(&g->v[i]);
	}
	close(g->wake_fd);
	pthread_cond_destroy(&g->changed);
	pthread_mutex_destroy(&g->lock);
	free(g);
}
