/* Socket Mode: a WebSocket that we open, by which Slack sends what it would else send to an address of ours.
 * docs.slack.dev, "Using Socket Mode".
 *
 * Threads: one of its own does everything but start and end. An envelope is acknowledged once what it has is stored;
 * one that was not is sent again by Slack, as over HTTP. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/seal.h"
#include "base/text.h"
#include "server/triggers/slack_priv.h"
#include <libwebsockets.h>
#include <string.h>
#include <time.h>

#define SOCKET_MAGIC 0x534f434bu
#define ENVELOPE_MAX (2 * SLACK_BODY_MAX)
#define ACKS_MAX 1000
#define OPEN_MS 15000
#define PAUSE_MIN_MS 1000
#define PAUSE_MAX_MS 60000
#define RECEIVE_PIECE 65536

METRIC_GAUGE(connected, "bullpen_slack_socket_connected", "1: Socket Mode has a connection to Slack.");

struct slack_socket {
	unsigned magic;
	struct triggers *triggers;
	pthread_t thread;
	pthread_mutex_t mtx; /* guards context and stopping between the threads */
	pthread_cond_t wake;
	bool stopping;
	struct lws_context *context; /* NULL: no connection is tried */
	/* The thread's own. */
	struct lws *wsi;
	struct strbuf in;
	json_t *acks; /* texts to be sent */
	bool ended, greeted;
	char reason[200];
};

/* Stores what an envelope has. OK: it may be acknowledged. */
static int take(struct slack_socket *s, const char *type, const json_t *payload)
{
	struct slack *slack = triggers_slack(s->triggers);
	AUTO_FINI(accepted) a = {0};
	struct inside_answer answer = {0};
	struct why why = {0};
	int rc;

	if (strcmp(type, "events_api") == 0)
		rc = slack_take_event(slack, payload, &a, &answer, &why);
	else if (strcmp(type, "interactive") == 0)
		rc = slack_take_interaction(slack, payload, &a, &why);
	else
		return OK;
	free(answer.text);
	if (rc != OK) {
		if (rc != ERR_EMPTY)
			log_warn("slack.refused", "type=%s reason=%s", type, log_quote(why.text));
		return OK; /* the same again would be refused again */
	}
	if (a.body == NULL)
		a.body = json_text(payload);
	rc = strlen(a.body) <= SLACK_BODY_MAX ? triggers_take(s->triggers, &surface_slack, &a, a.body, strlen(a.body))
					      : ERR_INVALID;
	return rc == ERR_CONFLICT || rc == ERR_INVALID ? OK : rc;
}

static void acknowledge(struct slack_socket *s, const char *id)
{
	AUTO_JSON ack = json_pack("{s:s}", "envelope_id", id);
	AUTO_STR text = json_text(ack);

	if (json_array_size(s->acks) < ACKS_MAX)
		json_array_append_new(s->acks, json_string(text));
	lws_callback_on_writable(s->wsi);
}

/* False: the connection is to end. */
static bool handle(struct slack_socket *s)
{
	AUTO_JSON envelope = NULL;
	const char *type, *id;

	if (json_parse(strbuf_str(&s->in), s->in.len, &envelope, NULL) != OK || !json_is_object(envelope)) {
		snprintf(s->reason, sizeof s->reason, "what came is no JSON object");
		return false;
	}
	type = json_word(envelope, "type");
	id = json_word(envelope, "envelope_id");
	if (strcmp(type, "hello") == 0) {
		s->greeted = true;
		metric_set(&connected, 1);
		log_info("slack.connected", "mode=socket");
	}
	if (strcmp(type, "disconnect") == 0) {
		AUTO_STR line = text_line(json_word(envelope, "reason"), 100);

		snprintf(s->reason, sizeof s->reason, "Slack asks for a new connection: %s", line);
		return false;
	}
	if (text_is_token(id, "-", 100) && take(s, type, json_object_get(envelope, "payload")) == OK)
		acknowledge(s, id);
	return true;
}

static int receive(struct slack_socket *s, struct lws *wsi, const void *in, size_t len)
{
	bool go_on;

	if (strbuf_add(&s->in, in, len) != OK) {
		snprintf(s->reason, sizeof s->reason, "an envelope has more than %zu bytes", ENVELOPE_MAX);
		return -1;
	}
	if (lws_remaining_packet_payload(wsi) > 0 || !lws_is_final_fragment(wsi))
		return 0;
	go_on = handle(s);
	strbuf_clear(&s->in);
	return go_on ? 0 : -1;
}

static int send_ack(struct slack_socket *s, struct lws *wsi)
{
	const char *text = json_string_value(json_array_get(s->acks, 0));
	size_t n = text != NULL ? strlen(text) : 0;
	unsigned char *frame;
	int sent;

	if (n == 0)
		return 0;
	frame = mem_alloc(LWS_PRE + n);
	memcpy(frame + LWS_PRE, text, n);
	sent = lws_write(wsi, frame + LWS_PRE, n, LWS_WRITE_TEXT);
	free(frame);
	if (sent < (int)n)
		return -1;
	json_array_remove(s->acks, 0);
	if (json_array_size(s->acks) > 0)
		lws_callback_on_writable(wsi);
	return 0;
}

static bool is_stopping(struct slack_socket *s)
{
	bool stopping;

	pthread_mutex_lock(&s->mtx);
	stopping = s->stopping;
	pthread_mutex_unlock(&s->mtx);
	return stopping;
}

static int on_socket(struct lws *wsi, enum lws_callback_reasons why, void *user UNUSED, void *in, size_t len)
{
	struct slack_socket *s = lws_context_user(lws_get_context(wsi));

	switch (why) {
	case LWS_CALLBACK_CLIENT_RECEIVE:
		return receive(s, wsi, in, len);
	case LWS_CALLBACK_CLIENT_WRITEABLE:
		return send_ack(s, wsi);
	case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
		snprintf(s->reason, sizeof s->reason, "%.*s", in != NULL ? (int)len : 0, in != NULL ? (char *)in : "");
		s->ended = true;
		return 0;
	case LWS_CALLBACK_CLIENT_CLOSED:
		s->ended = true;
		return 0;
	default:
		return 0;
	}
}

static const struct lws_protocols protocols[] = {
    {.name = "slack", .callback = on_socket, .rx_buffer_size = RECEIVE_PIECE}, {0}};
/* Who says nothing for half a minute is asked, and given up after another. */
static const lws_retry_bo_t patience = {.secs_since_valid_ping = 30, .secs_since_valid_hangup = 60};

static int check_scheme(struct slack_socket *s, const char *scheme)
{
	bool plain_api = text_has_prefix(triggers_slack(s->triggers)->api_url, "http://");

	if (strcmp(scheme, "wss") == 0 || (strcmp(scheme, "ws") == 0 && plain_api))
		return OK;
	snprintf(s->reason, sizeof s->reason, "Slack answered with an address that is no wss://");
	return ERR_INVALID;
}

static int make_context(struct slack_socket *s, const char *proxy)
{
	const struct lws_context_creation_info info = {.port = CONTEXT_PORT_NO_LISTEN,
	    .protocols = protocols,
	    .options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
	    .client_ssl_ca_filepath = triggers_slack(s->triggers)->ca_file,
	    .http_proxy_address = proxy != NULL ? proxy : "",
	    .retry_and_idle_policy = &patience,
	    .user = s};
	struct lws_context *context = lws_create_context(&info);

	pthread_mutex_lock(&s->mtx);
	s->context = context;
	pthread_mutex_unlock(&s->mtx);
	return context != NULL ? OK : ERR_INTERNAL;
}

static const char *from_environment(const char *name)
{
	return getenv(name);
}

static int dial(struct slack_socket *s, char *url)
{
	const char *scheme, *host, *path;
	struct lws_client_connect_info c = {.pwsi = &s->wsi};
	struct why why = {0};
	char *proxy = NULL;
	int port, rc;

	if (lws_parse_uri(url, &scheme, &host, &port, &path) != 0 || check_scheme(s, scheme) != OK)
		return ERR_INVALID;
	rc = slack_proxy_for(host, strcmp(scheme, "wss") == 0, from_environment, &proxy, &why);
	if (rc != OK) {
		snprintf(s->reason, sizeof s->reason, "%.190s", why.text);
		return rc;
	}
	rc = make_context(s, proxy);
	str_wipe(&proxy);
	if (rc != OK)
		return rc;
	AUTO_STR full = str_printf("/%s", path);

	c.context = s->context;

	c.address = c.host = c.origin = host;
	c.port = port;
	c.path = full;
	c.ssl_connection = strcmp(scheme, "wss") == 0 ? LCCSCF_USE_SSL : 0;
	c.local_protocol_name = protocols[0].name;
	return lws_client_connect_via_info(&c) != NULL || s->wsi != NULL ? OK : ERR_NET;
}

static void end_context(struct slack_socket *s)
{
	struct lws_context *context;

	pthread_mutex_lock(&s->mtx);
	context = TAKE(s->context);
	pthread_mutex_unlock(&s->mtx);
	if (context != NULL)
		lws_context_destroy(context);
	s->wsi = NULL;
	strbuf_clear(&s->in);
	json_array_clear(s->acks);
}

/* One connection, until it ends. */
static void connect_once(struct slack_socket *s)
{
	struct slack_call call = {.slack = triggers_slack(s->triggers), .deadline_mono_ms = clock_mono_ms() + OPEN_MS};
	AUTO_STR url = NULL;
	int rc = slack_open_socket(&call, &url);

	s->ended = s->greeted = false;
	s->reason[0] = '\0';
	if (rc != OK)
		snprintf(s->reason, sizeof s->reason, "%.190s", call.why.text);
	if (rc == OK)
		rc = dial(s, url);
	while (rc == OK && !s->ended && !is_stopping(s))
		if (lws_service(s->context, 0) < 0)
			break;
	end_context(s);
	metric_set(&connected, 0);
}

static void pause_for(struct slack_socket *s, int64_t ms)
{
	int64_t until = clock_wall_ms() + ms;
	const struct timespec t = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};

	pthread_mutex_lock(&s->mtx);
	while (!s->stopping && clock_wall_ms() < until)
		pthread_cond_timedwait(&s->wake, &s->mtx, &t);
	pthread_mutex_unlock(&s->mtx);
}

static void *keep_connected(void *arg)
{
	struct slack_socket *s = OBJ_FROM(slack_socket, arg, SOCKET_MAGIC);
	int64_t pause = PAUSE_MIN_MS;

	while (!is_stopping(s)) {
		connect_once(s);
		if (is_stopping(s))
			break;
		log_info("slack.disconnected", "mode=socket reason=%s", log_quote(s->reason));
		/* One that worked is renewed at once: Slack ends them every few hours. */
		if (s->greeted) {
			pause = PAUSE_MIN_MS;
			continue;
		}
		pause_for(s, pause);
		pause = MIN(2 * pause, (int64_t)PAUSE_MAX_MS);
	}
	return NULL;
}

int slack_socket_start(struct triggers *t, struct slack_socket **ret, struct why *why)
{
	struct slack_socket *s;
	int rc;

	if (triggers_slack(t) == NULL || triggers_slack(t)->app_token == NULL)
		return OK;
	lws_set_log_level(0, NULL); /* what goes wrong is in our log */
	s = NEW(struct slack_socket);
	s->magic = SOCKET_MAGIC;
	s->triggers = t;
	s->in = STRBUF(ENVELOPE_MAX);
	s->acks = json_array();
	pthread_mutex_init(&s->mtx, NULL);
	pthread_cond_init(&s->wake, NULL);
	rc = pthread_create(&s->thread, NULL, keep_connected, s);
	if (rc != 0) {
		s->thread = 0;
		slack_socket_free(&s);
		return why_set(why, err_from_errno(rc), "no thread for Slack's Socket Mode could be started");
	}
	*ret = s;
	return OK;
}

void slack_socket_free(struct slack_socket **sp)
{
	struct slack_socket *s = TAKE(*sp);

	if (s == NULL)
		return;
	pthread_mutex_lock(&s->mtx);
	s->stopping = true;
	pthread_cond_broadcast(&s->wake);
	if (s->context != NULL)
		lws_cancel_service(s->context);
	pthread_mutex_unlock(&s->mtx);
	if (s->thread != 0)
		pthread_join(s->thread, NULL);
	pthread_mutex_destroy(&s->mtx);
	pthread_cond_destroy(&s->wake);
	strbuf_fini(&s->in);
	json_drop(&s->acks);
	s->magic = 0;
	free(s);
}
