/* Many idle workers in one process: bench-workers ENDPOINT KEY POOL PREFIX N [labels]
 * Connects N workers PREFIX-0 …, says "ready" and keeps them alive until it is killed. Whose connection is lost comes
 * back by the rule of the product's own worker; when all have, it says "back" and how that went, as JSON. With `labels`
 * worker i has os=linux and host=PREFIX-i. */
#include "agent/worker/backoff.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "bench/measure.h"
#include "bench/peer.h"
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define DIALLING_MAX 16
#define LOOK_MS 20
#define TICK_MS 1000
#define BUCKET_MS 100
#define BUCKETS 6000 /* ten minutes */

struct member {
	struct peer *peer;
	struct backoff backoff;
	int64_t welcomed_ms; /* -1: not connected */
	int64_t redial_ms; /* INT64_MAX: it need not, or is at it */
};

static struct {
	uv_loop_t loop;
	uv_timer_t timer;
	struct peer_config cfg;
	const char *prefix;
	bool labels;
	struct member *member;
	size_t n, begun, ready, away;
	int64_t tick_ms;
	/* Since all were there for the last time: */
	size_t lost, attempts, refusals, fatal;
	int64_t lost_ms; /* the first */
	unsigned arrivals[BUCKETS]; /* since then, each BUCKET_MS */
	/* When they meant to dial, but the first of each, which is at once: what a busy machine makes of that is not
	 * the rule's doing. */
	unsigned planned[BUCKETS];
	char said[256]; /* the last refusal */
} crowd;

static void dial_more(void);

static void tell_back(void)
{
	unsigned most = 0, most_planned = 0;
	size_t first = BUCKETS, last = 0;

	for (size_t i = 0; i < BUCKETS; i++) {
		most = MAX(most, crowd.arrivals[i]);
		most_planned = MAX(most_planned, crowd.planned[i]);
		first = crowd.arrivals[i] > 0 ? MIN(first, i) : first;
		last = crowd.arrivals[i] > 0 ? i : last;
	}
	printf("back {\"n\":%zu,\"attempts\":%zu,\"refusals\":%zu,\"fatal\":%zu,\"lost_at\":%lld,\"at\":%lld,"
	       "\"first_ms\":%zu,\"last_ms\":%zu,\"most_in_100_ms\":%u,\"most_planned_in_100_ms\":%u}\n",
	    crowd.n, crowd.attempts, crowd.refusals, crowd.fatal, (long long)crowd.lost_ms, (long long)clock_wall_ms(),
	    first * BUCKET_MS, last * BUCKET_MS, most, most_planned);
	fflush(stdout);
	crowd.lost = crowd.attempts = crowd.refusals = crowd.fatal = 0;
	memset(crowd.arrivals, 0, sizeof crowd.arrivals);
	memset(crowd.planned, 0, sizeof crowd.planned);
}

static size_t bucket_of(int64_t wall_ms)
{
	return MIN((size_t)MAX(wall_ms - crowd.lost_ms, 0) / BUCKET_MS, (size_t)BUCKETS - 1);
}

static void on_ready(void *ctx, struct peer *p)
{
	struct member *m = &crowd.member[peer_number(p)];

	crowd.ready++;
	m->welcomed_ms = clock_mono_ms();
	if (crowd.lost > 0)
		crowd.arrivals[bucket_of(clock_wall_ms())]++;
	if (crowd.ready == crowd.n && crowd.lost == 0) {
		puts("ready");
		fflush(stdout);
	} else if (crowd.ready == crowd.n && crowd.lost >= crowd.n) {
		tell_back();
	}
	dial_more();
}

static void on_lost(void *ctx, struct peer *p, const char *said, int64_t asked_ms)
{
	struct member *m = &crowd.member[peer_number(p)];
	int64_t now = clock_mono_ms(), lived = m->welcomed_ms >= 0 ? now - m->welcomed_ms : -1;

	if (crowd.begun < crowd.n)
		bench_die("a connection ended before all were there: %s", said != NULL ? said : "");
	if (said != NULL) {
		crowd.refusals++;
		crowd.fatal += strncmp(said, "fatal", 5) == 0;
		if (crowd.refusals == 1)
			fprintf(stderr, "refused: %s\n", said);
	}
	if (lived >= 0) {
		crowd.ready--;
		if (crowd.lost++ == 0)
			crowd.lost_ms = clock_wall_ms();
	}
	m->welcomed_ms = -1;
	m->redial_ms = now + backoff_next(&m->backoff, lived, asked_ms, (uint32_t)id_random64());
	if (m->backoff.failures > 0)
		crowd.planned[bucket_of(clock_wall_ms() + m->redial_ms - now)]++;
	crowd.away++;
}

static void dial_more(void)
{
	while (crowd.begun < crowd.n && crowd.begun - crowd.ready < DIALLING_MAX) {
		AUTO_STR id = str_printf("%s-%zu", crowd.prefix, crowd.begun);
		struct member *m = &crowd.member[crowd.begun];

		*m = (struct member){.welcomed_ms = -1, .redial_ms = INT64_MAX};
		crowd.cfg.worker_id = id;
		crowd.cfg.label = crowd.labels ? id : NULL;
		crowd.cfg.number = crowd.begun++;
		m->peer = peer_new(&crowd.cfg);
	}
}

static void redial(int64_t now)
{
	for (size_t i = 0; crowd.away > 0 && i < crowd.begun; i++) {
		struct member *m = &crowd.member[i];

		if (m->redial_ms > now)
			continue;
		m->redial_ms = INT64_MAX;
		crowd.away--;
		crowd.attempts++;
		peer_dial(m->peer);
	}
}

static void on_timer(uv_timer_t *t)
{
	int64_t now = clock_mono_ms();

	redial(now);
	if (now < crowd.tick_ms)
		return;
	crowd.tick_ms = now + TICK_MS;
	for (size_t i = 0; i < crowd.begun; i++)
		peer_tick(crowd.member[i].peer);
}

int main(int argc, char **argv)
{
	struct rlimit lim;

	if (argc != 6 && !(argc == 7 && strcmp(argv[6], "labels") == 0))
		bench_die("see the head of bench/workers.c");
	id_init();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0) {
		lim.rlim_cur = lim.rlim_max;
		setrlimit(RLIMIT_NOFILE, &lim);
	}
	uv_loop_init(&crowd.loop);
	uv_timer_init(&crowd.loop, &crowd.timer);
	crowd.cfg = (struct peer_config){.loop = &crowd.loop,
	    .endpoint = argv[1],
	    .key = argv[2],
	    .pool = argv[3],
	    .on_ready = on_ready,
	    .on_lost = on_lost};
	crowd.prefix = argv[4];
	crowd.n = (size_t)bench_number("N", argv[5]);
	crowd.labels = argc == 7;
	crowd.member = mem_zalloc((crowd.n + 1) * sizeof *crowd.member);
	uv_timer_start(&crowd.timer, on_timer, LOOK_MS, LOOK_MS);
	dial_more();
	return uv_run(&crowd.loop, UV_RUN_DEFAULT);
}
