#include "agent/worker/manage.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "net/http_server.h"
#include <arpa/inet.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#define HEAD_BYTES (8 * 1024)
#define CONNECTIONS 64
#define IDLE_MS 10000
#define METRIC(name) "cursor_self_hosted_worker_" name

struct manage {
	const struct worker_figures *figures;
	struct http_server *server;
};

static const char *const end_names[SESSION_ENDS] = {[SESSION_END_STREAM_END] = "stream_end",
    [SESSION_END_STREAM_ERROR] = "stream_error",
    [SESSION_END_SESSION_CLOSED] = "session_closed",
    [SESSION_END_SESSION_ERROR] = "session_error",
    [SESSION_END_CONNECTION_TIMEOUT] = "connection_timeout",
    [SESSION_END_SESSION_ABORTED] = "session_aborted"};

static const char *phase_reason(int phase)
{
	static const char *const reasons[] = {[PHASE_STARTING] = "starting",
	    [PHASE_DISCONNECTED] = "disconnected",
	    [PHASE_CLAIMED] = "claimed",
	    [PHASE_DRAINING] = "draining"};

	return reasons[phase];
}

static void add_family(struct strbuf *b, const char *name, const char *type, const char *help)
{
	strbuf_addf(b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void add_single(struct strbuf *b, const char *name, const char *type, const char *help, uint64_t value)
{
	add_family(b, name, type, help);
	strbuf_addf(b, "%s %llu\n", name, (unsigned long long)value);
}

char *manage_metrics(const struct worker_figures *f)
{
	struct strbuf b = STRBUF(16384);

	add_single(&b, METRIC("connected"), "gauge",
	    "1 while the outbound connection to the control plane is up, else 0.", atomic_load(&f->connected));
	add_single(&b, METRIC("session_active"), "gauge", "1 while an agent session occupies the worker, 0 when idle.",
	    atomic_load(&f->claimed));
	add_single(&b, METRIC("last_activity_unix_seconds"), "gauge",
	    "Unix time of the last frame or heartbeat from the control plane; 0 before any.",
	    (uint64_t)atomic_load(&f->last_activity_s));
	add_single(&b, METRIC("connect_attempts_total"), "counter", "Outbound connection attempts.",
	    atomic_load(&f->attempts));
	add_single(&b, METRIC("connect_retry_total"), "counter", "Connection attempts made after a failed attempt.",
	    atomic_load(&f->retries));
	add_family(&b, METRIC("session_ends_total"), "counter", "Sessions that ended on this worker, by reason.");
	for (int i = 0; i < SESSION_ENDS; i++)
		strbuf_addf(&b, METRIC("session_ends_total") "{reason=\"%s\"} %llu\n", end_names[i],
		    (unsigned long long)atomic_load(&f->ends[i]));
	return strbuf_take(&b);
}

/* In seconds: "2026-05-09T13:30:00Z". */
static void now_text(char out[CLOCK_ISO_LEN])
{
	clock_iso8601(clock_wall_ms(), out);
	snprintf(out + 19, CLOCK_ISO_LEN - 19, "Z");
}

static void answer(struct http_exchange *x, int status, const char *type, const char *body)
{
	const struct http_header headers[] = {
	    {"content-type", type}, {"cache-control", "no-store"}, {"allow", "GET, HEAD"}};

	IGNORE(http_reply(x, status, headers, status == 405 ? 3 : 2, body, strlen(body)));
}

static void answer_json(struct http_exchange *x, int status, const char *body)
{
	answer(x, status, "application/json", body);
}

static void answer_health(struct http_exchange *x)
{
	char now[CLOCK_ISO_LEN];
	AUTO_STR body = NULL;

	now_text(now);
	body = str_printf("{\"status\":\"ok\",\"timestamp\":\"%s\"}", now);
	answer_json(x, 200, body);
}

static void answer_ready(struct http_exchange *x, const struct worker_figures *f)
{
	int phase = atomic_load(&f->phase);
	const char *connected = atomic_load(&f->connected) ? "true" : "false";
	const char *claimed = atomic_load(&f->claimed) ? "true" : "false";
	char now[CLOCK_ISO_LEN];
	AUTO_STR body = NULL;

	now_text(now);
	if (phase == PHASE_READY)
		body = str_printf("{\"status\":\"ok\",\"connected\":true,\"claimed\":false,\"timestamp\":\"%s\"}", now);
	else
		body = str_printf("{\"status\":\"unavailable\",\"connected\":%s,\"claimed\":%s,\"reason\":\"%s\","
				  "\"timestamp\":\"%s\"}",
		    connected, claimed, phase_reason(phase), now);
	answer_json(x, phase == PHASE_READY ? 200 : 503, body);
}

static void on_request(void *ctx, struct http_exchange *x)
{
	struct manage *m = ctx;
	const char *method = http_method(x), *path = http_path(x);
	AUTO_STR metrics = NULL;

	if (strcmp(path, "/healthz") != 0 && strcmp(path, "/readyz") != 0 && strcmp(path, "/metrics") != 0) {
		answer_json(x, 404, "{\"error\":\"there is /healthz, /readyz and /metrics\"}");
	} else if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
		answer_json(x, 405, "{\"error\":\"only GET and HEAD are possible\"}");
	} else if (strcmp(path, "/healthz") == 0) {
		answer_health(x);
	} else if (strcmp(path, "/readyz") == 0) {
		answer_ready(x, m->figures);
	} else {
		metrics = manage_metrics(m->figures);
		answer(x, 200, "text/plain; version=0.0.4; charset=utf-8", metrics);
	}
}

static void on_head(void *ctx, struct http_exchange *x, struct http_plan *plan)
{
	plan->max_body = 1024;
}

static void on_too_large(void *ctx, struct http_exchange *x)
{
	answer_json(x, 413, "{\"error\":\"no body is expected\"}");
}

static int listen_on(struct manage *m, const char *address, uint16_t port, struct why *why)
{
	const struct http_server_config cfg = {.host = address,
	    .port = port,
	    .loops = 1,
	    .callbacks = {.ctx = m, .on_head = on_head, .on_request = on_request, .on_too_large = on_too_large},
	    .max_head_bytes = HEAD_BYTES,
	    .max_connections = CONNECTIONS,
	    .max_buffered = (size_t)64 * 1024,
	    .head_timeout_ms = IDLE_MS,
	    .idle_timeout_ms = IDLE_MS,
	    .body_timeout_ms = IDLE_MS};

	return http_server_start(&cfg, &m->server, why);
}

/* The first address that a name has. */
static int look_up(const char *host, char *ret, size_t len, struct why *why)
{
	const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
	struct addrinfo *found = NULL;
	int rc = getaddrinfo(host, NULL, &hints, &found);

	if (rc != 0)
		return why_set(why, ERR_NET, "%s", gai_strerror(rc));
	rc = getnameinfo(found->ai_addr, found->ai_addrlen, ret, (socklen_t)len, NULL, 0, NI_NUMERICHOST);
	freeaddrinfo(found);
	return rc == 0 ? OK : why_set(why, ERR_NET, "%s", gai_strerror(rc));
}

int manage_start(
    const char *host, uint16_t port, const struct worker_figures *figures, struct manage **ret, struct why *why)
{
	AUTO(manage) m = NEW(struct manage);
	struct why inner = {""};
	char address[128] = "";
	int rc = OK;

	m->figures = figures;
	if (host[0] != '\0') {
		rc = look_up(host, address, sizeof address, &inner);
		if (rc == OK)
			rc = listen_on(m, address, port, &inner);
	} else if (listen_on(m, "::", port, NULL) != OK) {
		/* "::" takes both families unless the machine says otherwise, or has no IPv6. */
		rc = listen_on(m, "0.0.0.0", port, &inner);
	}
	if (rc != OK)
		return why_set(
		    why, ERR_NET, "the management server cannot serve on %.200s:%u: %.200s", host, port, inner.text);
	*ret = TAKE(m);
	return OK;
}

void manage_free(struct manage **mp)
{
	struct manage *m = TAKE(*mp);

	if (m == NULL)
		return;
	http_server_free(&m->server);
	free(m);
}
