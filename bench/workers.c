/* Many idle workers in one process: bench-workers ENDPOINT KEY POOL PREFIX N
 * Connects N workers PREFIX-0 …, says "ready" and keeps them alive until it is killed. */
#include "base/id.h"
#include "base/mem.h"
#include "bench/measure.h"
#include "bench/peer.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#define DIALLING_MAX 16

static struct {
	uv_loop_t loop;
	uv_timer_t timer;
	struct peer_config cfg;
	const char *prefix;
	struct peer **peer;
	size_t n, begun, ready;
} crowd;

static void dial_more(void);

static void on_ready(void *ctx, struct peer *p)
{
	crowd.ready++;
	if (crowd.ready == crowd.n) {
		puts("ready");
		fflush(stdout);
	}
	dial_more();
}

static void dial_more(void)
{
	while (crowd.begun < crowd.n && crowd.begun - crowd.ready < DIALLING_MAX) {
		AUTO_STR id = str_printf("%s-%zu", crowd.prefix, crowd.begun);

		crowd.cfg.worker_id = id;
		crowd.peer[crowd.begun++] = peer_new(&crowd.cfg);
	}
}

static void on_timer(uv_timer_t *t)
{
	for (size_t i = 0; i < crowd.begun; i++)
		peer_tick(crowd.peer[i]);
}

int main(int argc, char **argv)
{
	struct rlimit lim;

	if (argc != 6)
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
	crowd.cfg = (struct peer_config){
	    .loop = &crowd.loop, .endpoint = argv[1], .key = argv[2], .pool = argv[3], .on_ready = on_ready};
	crowd.prefix = argv[4];
	crowd.n = (size_t)bench_number("N", argv[5]);
	crowd.peer = mem_zalloc((crowd.n + 1) * sizeof *crowd.peer);
	uv_timer_start(&crowd.timer, on_timer, 1000, 1000);
	dial_more();
	return uv_run(&crowd.loop, UV_RUN_DEFAULT);
}
