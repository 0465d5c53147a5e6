/* A call from a thread like a run's, through the hub, to a worker and back, without a store transaction on the way.
 *   bench-call measure SERVER_CORE WORKER_CORE N DATA_DIR CERT KEY            the worker answers on its loop
 *   bench-call measure SERVER_CORE WORKER_CORE N DATA_DIR CERT KEY AGENT DIR  the worker is the program AGENT, which
 *                                                                             has a tool `echo`
 *   bench-call worker ENDPOINT                                                (started by the first)
 * DATA_DIR gets a store of its own, for the registration. CERT and KEY: files for TLS, or - and -; the worker trusts
 * SSL_CERT_FILE. */
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "bench/measure.h"
#include "bench/peer.h"
#include "server/fleet/fleet.h"
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define TEAM 1
#define WORKER "bench-1"
#define RUN "run-bench"
#define CLAIM "claim-1"
#define AGENT "bc-bench"
#define PAYLOAD 200
#define ANSWER_LIMIT_MS 20000
/* A worker that sends more than 5,000 messages in a second is cut off, so calls go in bursts, one a second; on a busy
 * machine two may meet in one second. */
#define BURST 2400
#define BURST_MS 1100
#define BURST_WARM_UP 50

static struct fleet *fleet;

static int authenticate(
    void *ctx, const char *authorization, struct fleet_identity *ret, const char **ret_code, struct why *why)
{
	*ret = (struct fleet_identity){
	    .team_id = TEAM, .account = str_dup("bench"), .key_id = str_dup("bench"), .connects_pool = true};
	return OK;
}

static int call_run(void *ctx, struct tx *tx, const char *call_id, char **ret_run_id)
{
	return ERR_EMPTY;
}

static void on_head(void *ctx, struct http_exchange *x, struct http_plan *plan)
{
	plan->mode = HTTP_BODY_STREAM;
}

static void on_request(void *ctx, struct http_exchange *x)
{
	fleet_connect(fleet, x, http_header_get(x, "authorization"));
}

static void on_too_large(void *ctx, struct http_exchange *x)
{
	http_abort(x);
}

/* files: certificate and key, or NULL. */
static uint16_t serve(const char *data_dir, char **files)
{
	struct why why = {""};
	struct store *st = NULL;
	struct http_server *http = NULL;
	static struct node node;
	const struct http_server_config web = {.host = "127.0.0.1",
	    .loops = 1,
	    .tls_cert = files != NULL ? files[0] : NULL,
	    .tls_key = files != NULL ? files[1] : NULL,
	    .callbacks = {.on_head = on_head, .on_request = on_request, .on_too_large = on_too_large}};
	struct fleet_config cfg = {.loss_grace_ms = 60000, .max_workers_per_team = 10, .call_run = call_run};

	mkdir(data_dir, 0700);
	if (store_open(data_dir, &st, &why) != OK)
		bench_die("%s", why.text);
	cfg.store = st;
	if (node_start(st, "bench", &node) != OK)
		bench_die("the store cannot be written");
	cfg.node = &node;
	cfg.notify = notify_new();
	cfg.jobs = pool_new("job", 2, 100);
	fleet = fleet_new(&cfg);
	fleet_set_authenticate(fleet, authenticate, NULL);
	fleet_start(fleet);
	if (http_server_start(&web, &http, &why) != OK)
		bench_die("%s", why.text);
	return http_server_port(http);
}

static void start_worker(int core, const char *scheme, uint16_t port, char **agent)
{
	AUTO_STR endpoint = str_printf("%s://127.0.0.1:%u", scheme, port);
	pid_t pid = fork();

	if (pid != 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	bench_pin(core);
	if (agent[0] == NULL) {
		execl("/proc/self/exe", "bench-call", "worker", endpoint, NULL);
	} else {
		AUTO_STR data = str_printf("%s.data", agent[1]);

		dup2(STDERR_FILENO, STDOUT_FILENO); /* ours is for figures */
		execl(agent[0], agent[0], "worker", "start", "--pool", "--worker-dir", agent[1], "--data-dir", data,
		    "--endpoint", endpoint, "--api-key", "none", "--worker-id", WORKER, NULL);
	}
	_exit(127);
}

static struct fleet_msg *receive(struct mailbox *inbox, enum fleet_msg_kind kind)
{
	void *msg = NULL;
	struct fleet_msg *m;

	if (mailbox_receive(inbox, clock_mono_ms() + ANSWER_LIMIT_MS, &msg) != OK)
		bench_die("no answer from the worker");
	m = msg;
	if (m->kind != kind)
		bench_die("message %d instead of %d", (int)m->kind, (int)kind);
	return m;
}

static void call_once(struct mailbox *inbox, const struct fleet_call *c)
{
	struct fleet_msg *m;

	fleet_call(fleet, TEAM, WORKER, c);
	m = receive(inbox, FLEET_RESULT);
	if (strcmp(m->call_id, c->call_id) != 0 || m->outcome != 1)
		bench_die("call %s ended with outcome %d: %s", c->call_id, m->outcome, m->result_json);
	fleet_msg_free(&m);
}

static void drop(void *msg)
{
	struct fleet_msg *m = msg;

	fleet_msg_free(&m);
}

static uint64_t attach(struct mailbox *inbox)
{
	int64_t until = clock_mono_ms() + ANSWER_LIMIT_MS;
	struct fleet_msg *m;
	uint64_t incarnation;

	while (fleet_connected(fleet) == 0) {
		if (clock_mono_ms() > until)
			bench_die("no worker came");
		usleep(1000);
	}
	fleet_attach(fleet, TEAM, WORKER, RUN, CLAIM, inbox);
	m = receive(inbox, FLEET_ATTACHED);
	incarnation = m->incarnation;
	fleet_msg_free(&m);
	return incarnation;
}

/* One call; what it took. The worker may forget it afterwards, as after a commit. */
static int64_t timed_call(struct mailbox *inbox, struct fleet_call *c, size_t i)
{
	AUTO_STR id = str_printf("call-%zu", i);
	int64_t from = bench_now_ns(), took;

	c->call_id = id;
	call_once(inbox, c);
	took = bench_now_ns() - from;
	fleet_result_stored(fleet, TEAM, WORKER, id);
	return took;
}

static size_t burst(struct mailbox *inbox, struct fleet_call *c, size_t first, int64_t *t, size_t n)
{
	int64_t until = clock_mono_ms() + BURST_MS;
	size_t taken = 0;

	for (size_t i = 0; i < BURST; i++) {
		int64_t took = timed_call(inbox, c, first + i);

		if (t != NULL && i >= BURST_WARM_UP && taken < n)
			t[taken++] = took;
	}
	while (clock_mono_ms() < until)
		usleep(1000);
	return taken;
}

static void measure(size_t n)
{
	struct mailbox *inbox = mailbox_new(1000, drop);
	int64_t *t = mem_alloc(n * sizeof *t);
	char args[PAYLOAD + 1];
	struct fleet_call c = {.kind = CALL_OPEN_SESSION,
	    .call_id = "open",
	    .agent_id = AGENT,
	    .run_id = RUN,
	    .limit_ms = 60000,
	    .claim_id = CLAIM,
	    .arguments_json = "{}"};
	size_t done = 0, first = 0;

	snprintf(args, sizeof args, "{\"text\":\"%0*d\"}", PAYLOAD - 11, 0);
	c.incarnation = attach(inbox);
	call_once(inbox, &c);
	fleet_result_stored(fleet, TEAM, WORKER, c.call_id);
	c.kind = CALL_TOOL;
	c.name = "echo";
	c.arguments_json = args;
	IGNORE(burst(inbox, &c, first, NULL, 0));
	while (done < n)
		done += burst(inbox, &c, first += BURST, t + done, n - done);
	putchar('{');
	bench_print("call", t, n);
	puts("}");
	free(t);
}

static int be_worker(const char *endpoint)
{
	uv_loop_t loop;
	const struct peer_config cfg = {
	    .loop = &loop, .endpoint = endpoint, .key = "none", .worker_id = WORKER, .pool = ""};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	uv_loop_init(&loop);
	peer_new(&cfg);
	return uv_run(&loop, UV_RUN_DEFAULT);
}

int main(int argc, char **argv)
{
	uint16_t port;
	bool tls;

	id_init();
	log_set_level(LOG_ERROR);
	if (argc == 3 && strcmp(argv[1], "worker") == 0)
		return be_worker(argv[2]);
	if ((argc != 8 && argc != 10) || strcmp(argv[1], "measure") != 0)
		bench_die("see the head of bench/call.c");
	tls = strcmp(argv[6], "-") != 0;
	signal(SIGPIPE, SIG_IGN);
	bench_pin((int)bench_number("core", argv[2]));
	port = serve(argv[5], tls ? argv + 6 : NULL);
	start_worker((int)bench_number("core", argv[3]), tls ? "https" : "http", port, argv + 8);
	measure((size_t)bench_number("N", argv[4]));
	fflush(stdout);
	_exit(0); /* the worker dies with us */
}
