/* The reader of a run's stream: again after every drop, until the run has ended or the person leaves. */
#include "agent/cli/follow.h"
#include "agent/cli/show.h"
#include "agent/exit_status.h"
#include "base/mem.h"
#include "base/terminal.h"
#include "net/http_client.h"
#include "net/sse.h"
#include <signal.h>
#include <string.h>
#include <time.h>

#define STALL_MS 45000 /* the server says something every 15 s */
#define CAUGHT_UP_MS 700 /* without --follow: so long a silence means that the stored events are through */
#define RETRY_MAX_MS 10000

struct follow {
	struct client *c;
	struct show *show;
	const char *agent_id, *run_id;
	char *last_id;
	enum follow_mode mode;
	bool ended; /* `result` was seen */
	bool cancel_sent;
	int exit_status;
};

static volatile sig_atomic_t interrupted;

static void on_sigint(int sig)
{
	interrupted++;
}

/* For requests: the first Ctrl-C has a meaning of its own, the second is for leaving. */
static bool wants_to_leave(void *ctx)
{
	return interrupted > 1;
}

void follow_begin(struct client *c, enum follow_mode mode)
{
	const struct sigaction sa = {.sa_handler = on_sigint};

	if (mode == FOLLOW_STORED)
		return;
	sigaction(SIGINT, &sa, NULL);
	if (mode == FOLLOW_OWN)
		c->cancelled = wants_to_leave;
}

static int status_exit(const char *status)
{
	if (strcmp(status, "FINISHED") == 0)
		return EXIT_DONE;
	return strcmp(status, "CANCELLED") == 0 ? EXIT_INTERRUPTED : EXIT_FAILED;
}

static int follow_on_event(void *ctx, const char *id, const char *event, const char *text)
{
	struct follow *f = ctx;
	AUTO_JSON data = NULL;

	if (json_parse(text, strlen(text), &data, NULL) != OK || !json_is_object(data))
		return ERR_PROTOCOL;
	show_event(f->show, id, event, data);
	if (id[0] != '\0')
		str_set(&f->last_id, id);
	if (strcmp(event, "result") == 0) {
		f->ended = true;
		f->exit_status = status_exit(json_field(data, "status"));
	}
	return OK;
}

static int on_bytes(void *ctx, const void *bytes, size_t len)
{
	return sse_feed(ctx, bytes, len);
}

static void follow_cancel_run(struct follow *f)
{
	AUTO_STR path = str_printf("/v1/agents/%s/runs/%s/cancel", f->agent_id, f->run_id);
	int status = 0;

	f->cancel_sent = true;
	if (!f->c->json)
		fputs("cancelling the run (again to leave it)\n", stderr);
	IGNORE(client_call(f->c, "POST", path, NULL, NULL, &status));
}

/* The person pressed Ctrl-C and nothing was done about it yet. */
static bool is_interrupted(const struct follow *f)
{
	return f->mode != FOLLOW_STORED && interrupted > (f->cancel_sent ? 1 : 0);
}

static bool stop_reading(void *ctx)
{
	struct sse *s = ctx;

	return is_interrupted(s->ctx);
}

static int read_stream(struct follow *f, struct sse *s, struct http_client_response *r, struct why *why)
{
	AUTO_STR url = str_printf("%s/v1/agents/%s/runs/%s/stream", f->c->endpoint, f->agent_id, f->run_id);
	AUTO_STR auth = str_printf("Bearer %s", f->c->api_key);
	const struct http_header headers[] = {{"authorization", auth}, {"accept", "text/event-stream"},
	    {"last-event-id", f->last_id != NULL ? f->last_id : ""}};
	const struct http_client_request req = {.method = "GET",
	    .url = url,
	    .headers = headers,
	    .n_headers = f->last_id != NULL ? 3 : 2,
	    .stall_timeout_ms = f->mode != FOLLOW_STORED ? STALL_MS : CAUGHT_UP_MS,
	    .on_data = on_bytes,
	    .cancelled = stop_reading,
	    .ctx = s};

	sse_reset(s);
	return http_client_do(&req, r, why);
}

/* The stream is not to be had any more: the run itself says how it ended. */
static int end_from_run(struct follow *f)
{
	AUTO_STR path = str_printf("/v1/agents/%s/runs/%s", f->agent_id, f->run_id);
	AUTO_JSON run = NULL;
	int status = EXIT_FAILED;

	if (client_call(f->c, "GET", path, NULL, &run, &status) != OK)
		return status;
	show_run(f->show, run);
	return status_exit(json_field(run, "status"));
}

static void pause_ms(int64_t ms)
{
	struct timespec ts = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

	nanosleep(&ts, NULL);
}

/* True: go on reading, to see how the run ends. */
static bool after_interrupt(struct follow *f)
{
	bool leave = f->mode == FOLLOW_WATCH || f->cancel_sent;

	if (!leave) {
		follow_cancel_run(f);
		leave = interrupted > 1;
	}
	if (!leave)
		return true;
	f->exit_status = EXIT_INTERRUPTED;
	show_end(f->show);
	fflush(stdout);
	if (f->mode == FOLLOW_WATCH)
		fprintf(stderr, "left; the run goes on. To cancel it: agent cancel %s\n", f->agent_id);
	else
		fprintf(stderr, "left; whether the run was cancelled, agent logs %s says\n", f->agent_id);
	return false;
}

/* True: try again. */
static bool after_drop(
    struct follow *f, int rc, const struct http_client_response *r, const struct why *why, int64_t *delay_ms)
{
	if (f->ended || (f->mode == FOLLOW_STORED && rc == ERR_TIMEOUT))
		return false;
	if (is_interrupted(f))
		return after_interrupt(f);
	if (rc == OK && r->status == 410) {
		f->exit_status = end_from_run(f);
		return false;
	}
	if (rc == OK && r->status >= 400 && r->status < 500 && r->status != 429) {
		f->exit_status = client_refused(f->c, r);
		return false;
	}
	if (f->mode == FOLLOW_STORED) {
		f->exit_status = EXIT_UNREACHABLE;
		client_error("%s", rc != OK ? why->text : "the stream ended early");
		return false;
	}
	if (*delay_ms == 0 && !f->c->json) {
		AUTO_STR reason = terminal_clean(rc != OK ? why->text : "the stream ended early", TERMINAL_LINE);

		fprintf(stderr, "the connection was lost, trying again (%s)\n", reason);
	}
	*delay_ms = *delay_ms == 0 ? 250 : MIN(*delay_ms * 2, RETRY_MAX_MS);
	pause_ms(*delay_ms);
	return true;
}

int follow_run(struct client *c, const char *agent_id, const char *run_id, enum follow_mode mode)
{
	struct follow f = {.c = c, .agent_id = agent_id, .run_id = run_id, .mode = mode, .show = show_new(c->json)};
	int64_t delay_ms = 0;
	bool again = true;
	struct sse s;

	f.exit_status = mode == FOLLOW_STORED ? EXIT_DONE : EXIT_FAILED;
	follow_begin(c, mode);
	sse_init(&s, follow_on_event, &f);
	while (again) {
		struct http_client_response r = {0};
		struct why why = {0};
		AUTO_STR before = str_dup(f.last_id);
		int rc = read_stream(&f, &s, &r, &why);

		if (f.last_id != NULL && (before == NULL || strcmp(before, f.last_id) != 0))
			delay_ms = 0; /* it got on: a later drop starts anew */
		again = after_drop(&f, rc, &r, &why, &delay_ms);
		http_client_response_fini(&r);
	}
	show_last(f.show);
	sse_fini(&s);
	show_free(&f.show);
	free(f.last_id);
	return f.exit_status;
}
