/* A run as text (or as JSON lines): the reader of its stream. */
#include "agent/cli/follow.h"
#include "net/sse.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "net/http_client.h"
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define STALL_MS 45000 /* the server says something every 15 s */
#define CAUGHT_UP_MS 700 /* without --follow: so long a silence means that the stored events are through */
#define RETRY_MAX_MS 10000
#define OPEN_CALLS 64

struct open_call {
	char *id;
	int64_t started_ms;
};

struct follow {
	struct client *c;
	const char *agent_id, *run_id;
	char *last_id;
	char *status; /* of the last status or result event */
	struct open_call calls[OPEN_CALLS];
	bool live, colour;
	bool at_line_start; /* of live command output */
	bool ended; /* `result` was seen */
	bool cancel_sent;
	int exit_status;
};

static volatile sig_atomic_t interrupted;

static void on_sigint(int sig)
{
	interrupted++;
}

static const char *paint(const struct follow *f, const char *code)
{
	return f->colour ? code : "";
}

static int64_t event_ms(const char *id)
{
	return strtoll(id, NULL, 10);
}

static void end_output_line(struct follow *f)
{
	if (!f->at_line_start)
		putchar('\n');
	f->at_line_start = true;
}

static void show_status(struct follow *f, const json_t *data)
{
	AUTO_STR message = client_clean(json_field(data, "message"));

	str_set(&f->status, json_field(data, "status"));
	end_output_line(f);
	printf("%s● %s%s%s%s\n", paint(f, "\033[1m"), f->status, paint(f, "\033[0m"), message[0] ? ": " : "", message);
}

static void remember_call(struct follow *f, const char *id, int64_t ms)
{
	for (size_t i = 0; i < OPEN_CALLS; i++) {
		if (f->calls[i].id != NULL)
			continue;
		f->calls[i] = (struct open_call){str_dup(id), ms};
		return;
	}
}

/* Milliseconds from running to completed, by the server's clock; -1 if the start was not seen. */
static int64_t forget_call(struct follow *f, const char *id, int64_t ms)
{
	for (size_t i = 0; i < OPEN_CALLS; i++) {
		if (f->calls[i].id == NULL || strcmp(f->calls[i].id, id) != 0)
			continue;
		str_free(&f->calls[i].id);
		return ms - f->calls[i].started_ms;
	}
	return -1;
}

/* What a call is about, in a line. */
static char *call_subject(const json_t *args)
{
	static const char *const keys[] = {
	    "command", "path", "file_path", "target_file", "globPattern", "pattern", "query"};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		const char *v = json_field(args, keys[i]);
		AUTO_STR line = NULL;

		if (v[0] == '\0')
			continue;
		line = str_ndup(v, text_utf8_cut(v, strcspn(v, "\n"), 100));
		return str_printf(" %s%s", line, strlen(line) < strlen(v) ? " …" : "");
	}
	return str_dup("");
}

static char *call_outcome(const json_t *result)
{
	const json_t *success = json_object_get(result, "success");
	const json_t *exit_code = json_object_get(success, "exitCode");

	if (success == NULL)
		return str_printf("failed: %s", json_field(json_object_get(result, "error"), "message"));
	if (json_is_true(json_object_get(success, "timedOut")))
		return str_dup("timed out");
	if (json_is_integer(exit_code) && json_integer_value(exit_code) != 0)
		return str_printf("exit status %lld", (long long)json_integer_value(exit_code));
	return str_dup("ok");
}

static void show_tool_call(struct follow *f, const char *id, const json_t *data)
{
	AUTO_STR subject = call_subject(json_object_get(data, "args"));
	AUTO_STR clean = client_clean(subject);
	AUTO_STR name = client_clean_line(json_field(data, "name")); /* the model's word */
	const char *call_id = json_field(data, "callId");

	end_output_line(f);
	if (strcmp(json_field(data, "status"), "running") == 0) {
		remember_call(f, call_id, event_ms(id));
		printf("%s→ %s%s%s\n", paint(f, "\033[36m"), name, clean, paint(f, "\033[0m"));
		return;
	}
	int64_t took = forget_call(f, call_id, event_ms(id));
	AUTO_STR outcome = call_outcome(json_object_get(data, "result"));
	AUTO_STR line = client_clean(outcome);
	bool good = strcmp(line, "ok") == 0;

	printf("%s%s %s: %s%s", paint(f, good ? "\033[32m" : "\033[31m"), good ? "✓" : "✗", name, line,
	    paint(f, "\033[0m"));
	if (took >= 0)
		printf(" (%lld ms)", (long long)took);
	putchar('\n');
}

/* Live output of a command, each line set in. */
static void show_output(struct follow *f, const json_t *update)
{
	const json_t *event = json_object_get(update, "event");
	AUTO_STR text = client_clean(json_field(event, "data"));

	if (strcmp(json_field(update, "type"), "shell-output-delta") != 0)
		return;
	for (const char *c = text; *c != '\0'; c++) {
		if (f->at_line_start)
			fputs("  │ ", stdout);
		putchar(*c);
		f->at_line_start = *c == '\n';
	}
}

static void show_result(struct follow *f, const json_t *data)
{
	const json_t *branches = json_object_get(json_object_get(data, "git"), "branches"), *branch;
	const json_t *error = json_object_get(data, "error");
	size_t i;

	if (error != NULL) {
		AUTO_STR message = client_clean(json_field(error, "message"));

		printf("%s%s: %s%s\n", paint(f, "\033[31m"), json_field(error, "code"), message, paint(f, "\033[0m"));
	}
	json_array_foreach((json_t *)branches, i, branch)
	{
		printf("branch %s of %s\n", json_field(branch, "branch"), json_field(branch, "repoUrl"));
	}
	printf("took %lld ms\n", (long long)json_integer_value(json_object_get(data, "durationMs")));
}

static int status_exit(const char *status)
{
	if (strcmp(status, "FINISHED") == 0)
		return EXIT_FINISHED;
	return strcmp(status, "CANCELLED") == 0 ? EXIT_CANCELLED : EXIT_FAILED;
}

static void show_event(struct follow *f, const char *id, const char *event, const json_t *data)
{
	if (strcmp(event, "status") == 0) {
		show_status(f, data);
	} else if (strcmp(event, "assistant") == 0) {
		AUTO_STR text = client_clean(json_field(data, "text"));

		end_output_line(f);
		fputs(text, stdout);
		f->at_line_start = text[0] == '\0' || text[strlen(text) - 1] == '\n';
	} else if (strcmp(event, "tool_call") == 0) {
		show_tool_call(f, id, data);
	} else if (strcmp(event, "interaction_update") == 0) {
		show_output(f, data);
	} else if (strcmp(event, "result") == 0) {
		show_result(f, data);
	}
	fflush(stdout);
}

static void print_event_json(const char *id, const char *event, json_t *data)
{
	AUTO_JSON line = json_pack("{s:s}", "event", event);

	if (id[0] != '\0')
		json_put(line, "id", id);
	json_object_set(line, "data", data);
	client_print_json(line);
}

static int follow_on_event(void *ctx, const char *id, const char *event, const char *text)
{
	struct follow *f = ctx;
	AUTO_JSON data = NULL;

	if (json_parse(text, strlen(text), &data, NULL) != OK || !json_is_object(data))
		return ERR_PROTOCOL;
	if (f->c->json)
		print_event_json(id, event, data);
	else
		show_event(f, id, event, data);
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

static bool stop_reading(void *ctx)
{
	struct sse *s = ctx;
	struct follow *f = s->ctx;

	return f->live && interrupted > (f->cancel_sent ? 1 : 0);
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
	    .stall_timeout_ms = f->live ? STALL_MS : CAUGHT_UP_MS,
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
	int status = 1;

	if (client_call(f->c, "GET", path, NULL, &run, &status) != OK)
		return status;
	AUTO_STR result = client_clean(json_field(run, "result"));

	if (f->c->json)
		client_print_json(run);
	else
		printf("● %s\n%s\n", json_field(run, "status"), result);
	return status_exit(json_field(run, "status"));
}

static void pause_ms(int64_t ms)
{
	struct timespec ts = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

	nanosleep(&ts, NULL);
}

/* True: try again. */
static bool after_drop(
    struct follow *f, int rc, const struct http_client_response *r, const struct why *why, int64_t *delay_ms)
{
	if (f->ended || (!f->live && rc == ERR_TIMEOUT))
		return false;
	if (interrupted > (f->cancel_sent ? 1 : 0)) {
		if (f->cancel_sent) {
			f->exit_status = EXIT_CANCELLED;
			return false;
		}
		follow_cancel_run(f);
		return true;
	}
	if (rc == OK && r->status == 410) {
		f->exit_status = end_from_run(f);
		return false;
	}
	if (rc == OK && r->status >= 400 && r->status < 500 && r->status != 429) {
		AUTO_JSON body = NULL;

		IGNORE(json_parse(strbuf_str(&r->body), r->body.len, &body, NULL));
		client_error("%s (HTTP %d)", json_field(json_object_get(body, "error"), "message"), r->status);
		return false;
	}
	if (!f->live) {
		client_error("%s", rc != OK ? why->text : "the stream ended early");
		return false;
	}
	if (*delay_ms == 0 && !f->c->json)
		fprintf(stderr, "the connection was lost, trying again (%s)\n",
		    rc != OK ? why->text : "the stream ended early");
	*delay_ms = *delay_ms == 0 ? 250 : MIN(*delay_ms * 2, RETRY_MAX_MS);
	pause_ms(*delay_ms);
	return true;
}

int follow_run(struct client *c, const char *agent_id, const char *run_id, bool live)
{
	struct follow f = {.c = c, .agent_id = agent_id, .run_id = run_id, .live = live, .at_line_start = true};
	struct sigaction sa = {.sa_handler = on_sigint};
	int64_t delay_ms = 0;
	bool again = true;
	struct sse s;

	f.colour = isatty(STDOUT_FILENO) && getenv("NO_COLOR") == NULL;
	f.exit_status = live ? EXIT_FAILED : EXIT_FINISHED;
	if (live)
		sigaction(SIGINT, &sa, NULL);
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
	if (!c->json)
		end_output_line(&f);
	sse_fini(&s);
	for (size_t i = 0; i < OPEN_CALLS; i++)
		free(f.calls[i].id);
	free(f.last_id);
	free(f.status);
	return f.exit_status;
}
