/* What matching costs, over the store alone: bench-match DIR N COUNT
 * With an empty store but for one worker, and with N idle workers of as many label shapes and N waiting requests that
 * none of them fits: COUNT requests that one worker fits, from the begin of the transaction to the claim's commit, the
 * match without the commit, and a freed worker that takes the oldest request that it fits. One JSON line. */
#include "base/labels.h"
#include "base/mem.h"
#include "bench/measure.h"
#include "server/fleet/match.h"
#include "server/fleet/slots.h"
#include "store/store.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define TEAM 1
#define SHAPES 500
#define AT_ONCE 1000 /* rows of a transaction, while the store is filled */

static struct store *st;

static void must(int rc, const char *what)
{
	if (rc != OK)
		bench_die("%s: %s", what, err_name(rc));
}

static struct tx *begin(void)
{
	struct tx *tx = NULL;

	must(tx_begin(st, TX_WRITE, &tx), "begin");
	return tx;
}

static void put_worker(struct tx *tx, const char *id, const char *host, int64_t now)
{
	AUTO_FINI(labels) labels = {0};
	const struct slot s = {"bench", "", ""};

	must(labels_add(&labels, "os", "linux", LABELS_MAX, NULL), "label");
	must(labels_add(&labels, "host", host, LABELS_MAX, NULL), "label");
	AUTO_STR text = labels_text(&labels);

	must(tx_exec(tx,
		 "INSERT INTO workers(team_id, id, link_epoch, name, pool, key_id, service_account_id, workspace_root, "
		 "busy, "
		 "draining, connected_at, idle_since, labels) VALUES($1, $2, 1, $2, 'bench', 'k', 'sa', '/', 0, 0, 0, "
		 "$3, $4)",
		 "isis", (int64_t)TEAM, id, now, text),
	    "worker");
	must(slots_put(tx, TEAM, id, &s, &labels, now), "slot");
	must(slots_follow(tx, TEAM, id, -1), "slot state");
}

/* The worker it got, or NULL. */
static char *put_request(struct tx *tx, const char *agent, const char *key, const char *value, int64_t now)
{
	AUTO_FINI(labels) labels = {0};
	AUTO_FINI(claim_left) left = {0};
	AUTO_STR run = str_printf("run-%s-%lld", agent, (long long)now);
	char *worker = NULL;
	const struct request r = {.agent_id = agent,
	    .run_id = run,
	    .team_id = TEAM,
	    .pool = "bench",
	    .repo = "",
	    .repo_host = "",
	    .labels = &labels};

	must(labels_add(&labels, "os", "linux", LABELS_MAX, NULL), "label");
	must(labels_add(&labels, key, value, LABELS_MAX, NULL), "label");
	must(queue_add(tx, &r, now, &worker, &left), "request");
	return worker;
}

/* Many workers, and as many requests that no worker fits. */
static void fill(int64_t n)
{
	struct tx *tx = begin();

	for (int64_t i = 0; i < n; i++) {
		AUTO_STR id = str_printf("w%lld", (long long)i);
		AUTO_STR agent = str_printf("waits%lld", (long long)i);
		AUTO_STR kind = str_printf("k%lld", (long long)(i % SHAPES));

		put_worker(tx, id, id, i);
		free(put_request(tx, agent, i % 2 == 0 ? "kind" : "arch", kind, i));
		if (i % AT_ONCE == AT_ONCE - 1) {
			must(tx_commit(&tx), "commit");
			tx = begin();
		}
	}
	must(tx_commit(&tx), "commit");
}

/* One round: a request for this worker, then the worker is freed while a second one waits for it. */
static void measure_one(const char *worker, int64_t i, int64_t *claim, int64_t *match, int64_t *freed)
{
	AUTO_FINI(claim_left) left = {0};
	AUTO_STR agent = str_printf("new%lld", (long long)i);
	AUTO_STR next = str_printf("next%lld", (long long)i);
	AUTO_STR run = NULL;
	int64_t from = bench_now_ns(), now = 1000000 + i * 10;
	struct tx *tx = begin();
	int64_t begun = bench_now_ns();
	AUTO_STR got = put_request(tx, agent, "host", worker, now);

	*match = bench_now_ns() - begun;
	must(tx_commit(&tx), "commit");
	*claim = bench_now_ns() - from;
	if (got == NULL || strcmp(got, worker) != 0)
		bench_die("the request for %s got %s", worker, got != NULL ? got : "none");
	tx = begin();
	free(put_request(tx, next, "host", worker, now + 1));
	must(tx_commit(&tx), "commit");
	tx = begin();
	must(queue_end(tx, agent, now + 2), "end");
	begun = bench_now_ns();
	must(queue_match_worker(tx, TEAM, worker, now + 3, &run, &left), "match of a freed worker");
	*freed = bench_now_ns() - begun;
	must(tx_commit(&tx), "commit");
	tx = begin();
	must(queue_end(tx, next, now + 4), "end");
	must(claim_end(tx, next, now + 5), "end of the claim");
	must(tx_commit(&tx), "commit");
}

static void measure(const char *name, int64_t workers, int64_t count)
{
	size_t n = (size_t)count;
	int64_t *claim = mem_zalloc(n * sizeof *claim), *match = mem_zalloc(n * sizeof *match),
		*freed = mem_zalloc(n * sizeof *freed);

	for (size_t i = 0; i < n; i++) {
		AUTO_STR id = str_printf("w%lld", (long long)((int64_t)i * 7919 % workers));

		measure_one(id, (int64_t)i, &claim[i], &match[i], &freed[i]);
	}
	printf("\"%s\":{", name);
	bench_print("claim", claim, n);
	putchar(',');
	bench_print("match", match, n);
	putchar(',');
	bench_print("freed", freed, n);
	putchar('}');
	free(claim);
	free(match);
	free(freed);
}

static void with_store(const char *dir, const char *name, int64_t n, int64_t workers, int64_t count)
{
	AUTO_STR folder = str_printf("%s/%s", dir, name);
	struct tx *tx;

	if (mkdir(folder, 0700) != 0)
		bench_die("cannot make %s", folder);
	must(store_open(folder, &st, NULL), "open the store");
	fill(n);
	if (n == 0) {
		tx = begin();
		put_worker(tx, "w0", "w0", 0);
		must(tx_commit(&tx), "commit");
	}
	measure(name, workers, count);
	store_close(&st);
}

int main(int argc, char **argv)
{
	int64_t n;

	if (argc != 4)
		bench_die("see the head of bench/match.c");
	n = bench_number("N", argv[2]);
	putchar('{');
	with_store(argv[1], "empty", 0, 1, bench_number("COUNT", argv[3]));
	putchar(',');
	with_store(argv[1], "full", n, n, bench_number("COUNT", argv[3]));
	puts("}");
	return 0;
}
