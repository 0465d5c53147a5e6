/* The public API with its rooms: real routes, store, runs and fleet (without workers) behind a connection of HTTP/1.1.
 * The input is up to four requests, apart by NUL: a line "METHOD PATH", header lines, an empty line, the body. "{a}"
 * and
 * "{r}" in the path stand for an agent and a run that exist. A valid key is added unless there is an Authorization
 * line. Nothing a client sends may be answered 500, every answer of the REST API must be JSON of its form, and a
 * request with an Idempotency-Key that is sent again must get the first answer again. */
#include "folder.h"
#include "net_bed.h"
#include "base/id.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/seal.h"
#include "base/text.h"
#include "net/fetch.h"
#include "server/access/keys.h"
#include "server/api/api.h"
#include "server/artifacts/artifacts.h"
#include "server/models/models.h"
#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One thread: handlers run where the request is read. */
int pool_submit(struct pool *p, void (*fn)(void *arg), void *arg)
{
	fn(arg);
	return OK;
}

struct pool *pool_new(const char *name, unsigned threads, size_t bound)
{
	return NULL;
}

void pool_stop(struct pool *p)
{
}

void pool_free(struct pool **p)
{
}

struct start {
	void (*fn)(void *arg);
	void *arg;
};

static void *start_main(void *arg)
{
	struct start s = *(struct start *)arg;

	free(arg);
	s.fn(s.arg);
	return NULL;
}

int thread_start(const char *name, size_t stack_bytes, void (*fn)(void *arg), void *arg)
{
	struct start *s = NEW(struct start);
	pthread_t t;

	*s = (struct start){fn, arg};
	ENSURE(pthread_create(&t, NULL, start_main, s) == 0);
	return pthread_detach(t) == 0 ? OK : ERR_FULL;
}

/* Nothing here talks to the network. */
int fetch_url(const struct fetch_request *req, struct strbuf *ret, struct why *why)
{
	static const char png[] = "\x89PNG\r\n\x1a\n";

	*ret = STRBUF(req->max_bytes);
	if (strstr(req->url, "none") != NULL)
		return why_set(why, ERR_NET, "there is nothing");
	return strbuf_add(ret, png, sizeof png - 1);
}

int fetch_check_url(const char *url, bool allow_private, struct why *why)
{
	return strncmp(url, "http", 4) == 0 ? OK : why_set(why, ERR_INVALID, "it must be http or https");
}

int fetch_post(const struct post_request *req, long *ret_status, struct why *why)
{
	*ret_status = 204;
	return OK;
}

bool fetch_is_public(const struct sockaddr *address)
{
	return true;
}

bool fetch_is_own(const struct sockaddr *address)
{
	return false;
}

static struct {
	struct store *store;
	struct seal *seal;
	struct artifacts *artifacts;
	struct node node;
	struct notify *notify;
	struct fleet *fleet;
	struct runs *runs;
	struct api *api;
	char *key;
	char agent[64], run[64];
} rooms;

static int call_run(void *ctx, struct tx *tx, const char *call_id, char **ret)
{
	return ERR_EMPTY;
}

/* As a worker that serves any repository would leave it. */
static void make_pool(void)
{
	AUTO(tx) tx = NULL;

	ENSURE(tx_begin(rooms.store, TX_WRITE, &tx) == OK);
	ENSURE(tx_exec(tx,
		   "INSERT INTO pools(team_id, name, repo, repo_host, repo_name, first_seen_at, last_seen_at)"
		   " VALUES(1, 'cloud', '', '', '', 1, 1)",
		   "") == OK);
	ENSURE(tx_commit(&tx) == OK);
}

static int make_models(struct why *why)
{
	static const char table[] =
	    "{\"providers\":[{\"name\":\"p\",\"type\":\"openai\",\"base_url\":\"http://h/v1\",\"models\":["
	    "{\"id\":\"eye\",\"images\":true,\"options\":[{\"id\":\"effort\",\"values\":[\"low\",\"high\"],"
	    "\"default\":\"high\",\"field\":\"effort\"}]}]}]}";
	AUTO_JSON json = NULL;

	ENSURE(json_parse(table, sizeof table - 1, &json, why) == OK);
	return models_configure(json, why);
}

static void open_rooms(void)
{
	const struct fleet_config fleet = {.loss_grace_ms = 1000, .max_workers_per_team = 10, .call_run = call_run};
	struct fleet_config f = fleet;
	struct runs_config r = {.run_timeout_ms = 1000000,
	    .queue_timeout_ms = 1000000,
	    .loss_grace_ms = 1000,
	    .idle_release_ms = 1000,
	    .stream_retention_ms = 1000000,
	    .max_steps = 10,
	    .max_active = 4,
	    .max_readers = 4,
	    .branch_prefix = "b/",
	    .author_name = "a",
	    .author_email = "a@a"};
	struct api_config a = {.cloud_pool = "cloud", .allow_private_urls = true, .max_fetching = 4};
	struct key_made made = {0};
	struct why why;

	id_init();
	log_set_level(LOG_ERROR);
	ENSURE(store_open(fuzz_folder(), &rooms.store, &why) == OK);
	f.store = r.store = a.store = rooms.store;
	AUTO_STR key_file = str_printf("%s/secret.key", fuzz_folder());
	const struct artifacts_config artifacts = {
	    .store = rooms.store, .data_dir = fuzz_folder(), .max_files = 10, .max_file_bytes = 1024 * 1024};

	ENSURE(seal_load(key_file, true, &rooms.seal, &why) == OK);
	ENSURE(artifacts_new(&artifacts, &rooms.artifacts, &why) == OK);
	artifacts_set_base(rooms.artifacts, "http://fuzz");
	r.seal = a.seal = rooms.seal;
	a.artifacts = rooms.artifacts;
	rooms.notify = notify_new();
	f.node = r.node = &rooms.node;
	f.notify = r.notify = rooms.notify;
	ENSURE(make_models(&why) == OK && node_start(rooms.store, "fuzz", &rooms.node) == OK &&
	       fleet_recover(rooms.store, &rooms.node) == OK);
	ENSURE(access_key_create(rooms.store, &(struct audit_by){.team_id = 1, .actor = "fuzz"},
		   &(struct key_request){.type = KEY_USER, .name = "fuzz", .email = "f@f"}, &made, &why) == OK);
	rooms.key = made.key;
	make_pool();
	rooms.fleet = fleet_new(&f);
	ENSURE(runs_start(&r, rooms.fleet, &rooms.runs) == OK);
	a.fleet = rooms.fleet;
	a.runs = rooms.runs;
	ENSURE(api_new(&a, &rooms.api) == OK);
	fleet_start(rooms.fleet);
	api_set_web_base(rooms.api, "http://fuzz");
}

/* The path with its places filled in. */
static void put_path(struct strbuf *b, const char *path, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (len - i >= 3 && (memcmp(path + i, "{a}", 3) == 0 || memcmp(path + i, "{r}", 3) == 0)) {
			strbuf_adds(b, path[i + 1] == 'a' ? rooms.agent : rooms.run);
			i += 2;
		} else {
			strbuf_addc(b, path[i]);
		}
	}
}

struct text {
	const char *p;
	size_t len;
};

static struct text take_line(struct text *t)
{
	const char *nl = memchr(t->p, '\n', t->len);
	struct text line = {t->p, nl != NULL ? (size_t)(nl - t->p) : t->len};

	t->p += line.len + (nl != NULL);
	t->len -= line.len + (nl != NULL);
	return line;
}

static void write_request(struct strbuf *b, struct text t)
{
	struct text line = take_line(&t);
	bool keyed = false;

	put_path(b, line.p, line.len);
	strbuf_adds(b, " HTTP/1.1\r\nHost: fuzz\r\n");
	while (t.len > 0) {
		line = take_line(&t);
		if (line.len == 0)
			break;
		keyed |= line.len >= 14 && strncasecmp(line.p, "authorization:", 14) == 0;
		strbuf_add(b, line.p, line.len);
		strbuf_adds(b, "\r\n");
	}
	if (!keyed)
		strbuf_addf(b, "Authorization: Bearer %s\r\n", rooms.key);
	strbuf_addf(b, "Content-Length: %zu\r\n\r\n", t.len);
	strbuf_add(b, t.p, t.len);
}

/* Sends it and reads the answer; 0: there was none, or it is no JSON by its nature. */
static int ask(const struct strbuf *request, json_t **ret_body)
{
	const char *head, *body;
	int status;

	bed_open();
	bed_feed(strbuf_str(request), request->len);
	bed_pump();
	bed_close(false);
	head = strbuf_str(&bed.out);
	body = strstr(head, "\r\n\r\n");
	status = body != NULL && strncmp(head, "HTTP/1.1 ", 9) == 0 ? (int)strtol(head + 9, NULL, 10) : 0;
	if (status == 0 || strstr(head, "text/event-stream") != NULL || strstr(head, "content-type: text/") != NULL ||
	    strstr(head, "application/yaml") != NULL || request->data[0] == 'H') {
		bed_fini();
		return 0;
	}
	ENSURE(status != 500 && status != 503);
	ENSURE(json_parse(body + 4, strlen(body + 4), ret_body, NULL) == OK && json_is_object(*ret_body));
	bed_fini();
	return status;
}

static const char *member(const json_t *body, const char *object, const char *key)
{
	return json_string_value(json_object_get(json_object_get(body, object), key));
}

static void check_answer(int status, const json_t *body)
{
	const char *code = member(body, "error", "code"), *message = member(body, "error", "message");

	ENSURE((status >= 400) == (json_object_get(body, "error") != NULL));
	if (status >= 400)
		/* Below /v0 it is a text. */
		ENSURE(json_string_length(json_object_get(body, "error")) > 0 ||
		       (code != NULL && code[0] != '\0' && message != NULL && message[0] != '\0'));
}

/* The run would wait in the queue for ever. */
static void cancel(const json_t *body)
{
	AUTO_FINI(strbuf) b = STRBUF(4096);
	AUTO_JSON answer = NULL;
	const char *run = member(body, "run", "id"), *agent = member(body, "run", "agentId");

	ENSURE(run != NULL && agent != NULL);
	strbuf_addf(&b, "POST /v1/agents/%s/runs/%s/cancel HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\n\r\n",
	    agent, run, rooms.key);
	ENSURE(ask(&b, &answer) == 200);
	snprintf(rooms.agent, sizeof rooms.agent, "%s", agent);
	snprintf(rooms.run, sizeof rooms.run, "%s", run);
}

static void play(struct text t)
{
	AUTO_FINI(strbuf) b = STRBUF(1024 * 1024);
	AUTO_JSON body = NULL;
	AUTO_JSON again = NULL;
	int status;

	write_request(&b, t);
	status = ask(&b, &body);
	if (status == 0)
		return;
	check_answer(status, body);
	if (status != 201)
		return;
	if (strcasestr(b.data, "\nidempotency-key: k") != NULL) {
		ENSURE(ask(&b, &again) == 201 && json_equal(body, again));
	}
	/* A repeated request may tell of a run that is cancelled already. */
	if (member(body, "run", "id") != NULL && strcasestr(b.data, "\nidempotency-key") == NULL)
		cancel(body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char first[] = "POST /v1/agents\n\n{\"prompt\":{\"text\":\"x\"},\"env\":{\"type\":\"cloud\"}}";

	bed_init();
	if (rooms.api == NULL) {
		open_rooms();
		bed.limits.callbacks = api_callbacks(rooms.api);
		bed.limits.max_buffered = (size_t)64 * 1024 * 1024;
		play((struct text){first, sizeof first - 1});
		ENSURE(rooms.agent[0] != '\0');
	}
	for (int n = 0; n < 4 && size > 0; n++) {
		const uint8_t *nul = memchr(data, '\0', size);
		size_t len = nul != NULL ? (size_t)(nul - data) : size;

		play((struct text){(const char *)data, len});
		data += len + (nul != NULL);
		size -= len + (nul != NULL);
	}
	return 0;
}
