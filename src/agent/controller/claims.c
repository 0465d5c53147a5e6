/* Claim mode: a request that waits is claimed for a worker id that does not run yet, and the program is told to start a
 * worker with that id. A claimed request whose worker is away is woken in the same way. */
#include "agent/controller/controller_priv.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define PREFIX "ctrl-"
#define SKIP_MS 60000 /* after a failure the request is left to others */
#define AGAIN_MS 5000 /* the API could not be asked */
#define FULL_MS 1000 /* HOOKS_MAX run */
#define GONE_STATUS 3 /* of the program: the machine to be woken is gone */
#define LATE_MS (10 * 60 * 1000) /* a program that ran so long has started its worker */
static const int64_t hook_retry_ms[] = {5000, 30000};

enum stage { TO_CLAIM, TO_RUN, RUNNING, STARTED, SKIPPED };

struct request {
	char *id, *worker_id, *token, *token_expires;
	json_t *what; /* as the list has it */
	enum stage stage;
	int64_t due_ms; /* TO_CLAIM, TO_RUN: not before; SKIPPED: until; RUNNING: since */
	unsigned failures; /* of the program, for this claim */
	bool wake;
	bool told; /* the stream has told of the claim: what it says of this request now is later */
	bool runs; /* a program, for worker_id */
};

static void request_free(struct request *r)
{
	if (r == NULL)
		return;
	free(r->id);
	free(r->worker_id);
	free(r->token);
	free(r->token_expires);
	json_decref(r->what);
	free(r);
}

static const char *text_at(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

const char *request_pool(const json_t *request)
{
	json_t *label;
	size_t i;

	json_array_foreach(json_object_get(request, "labels"), i, label)
	{
		const char *key = text_at(label, "key"), *value = text_at(label, "value");

		if (key != NULL && value != NULL && strcmp(key, "pool") == 0)
			return value;
	}
	return "default";
}

static void skip(struct request *r)
{
	r->stage = SKIPPED;
	r->due_ms = clock_mono_ms() + SKIP_MS;
}

static void release(struct controller *c, struct request *r)
{
	AUTO_STR path = str_printf("/v0/private-workers/claims/%s/release", r->id);
	__attribute__((cleanup(reply_fini))) struct reply reply = {0};

	fleet_api(&c->o, "POST", path, NULL, &reply);
	log_info("controller.released", "request=%s worker=%s http=%d %s", log_quote(r->id), log_quote(r->worker_id),
	    reply.status, reply.text);
	IGNORE(controller_is_refused(c, &reply, "releasing a claim"));
	skip(r);
}

/* The agent still waits: its turn ends with the reason. Otherwise the claim is of no use to anybody. */
static void report_failure(struct controller *c, struct request *r, const char *why)
{
	AUTO_STR path = str_printf("/v0/private-workers/claims/%s/fail", r->id);
	AUTO_STR message = text_line(why, 500);
	AUTO_JSON body = json_pack("{s:s}", "message", message);
	__attribute__((cleanup(reply_fini))) struct reply reply = {0};

	fleet_api(&c->o, "POST", path, body, &reply);
	log_warn("controller.failed", "request=%s worker=%s http=%d reason=%s", log_quote(r->id),
	    log_quote(r->worker_id), reply.status, log_quote(message));
	if (controller_is_refused(c, &reply, "reporting a failure"))
		return;
	if (reply.status == 400)
		release(c, r);
	else
		skip(r);
}

static void take_token(struct request *r, const json_t *body)
{
	str_set(&r->token, text_at(body, "token"));
	str_set(&r->token_expires, text_at(body, "expiresAt"));
}

/* For a held claim; true: there is one. */
static bool mint_token(struct controller *c, struct request *r)
{
	AUTO_JSON body = json_pack("{s:s, s:s}", "id", r->id, "workerId", r->worker_id);
	__attribute__((cleanup(reply_fini))) struct reply reply = {0};

	fleet_api(&c->o, "POST", "/v0/private-workers/tokens", body, &reply);
	if (controller_is_refused(c, &reply, "minting a session token"))
		return false;
	if (reply.status != 200) {
		log_warn("controller.token.failed", "request=%s http=%d reason=%s", log_quote(r->id), reply.status,
		    log_quote(reply.text));
		skip(r);
		return false;
	}
	take_token(r, reply.body);
	return true;
}

static void claim(struct controller *c, struct request *r)
{
	AUTO_STR uuid = id_new(PREFIX);
	AUTO_JSON body = json_pack("{s:s, s:s}", "id", r->id, "workerId", uuid);
	__attribute__((cleanup(reply_fini))) struct reply reply = {0};

	if (c->o.session_token)
		json_put_bool(body, "sessionToken", true);
	fleet_api(&c->o, "POST", "/v0/private-workers/claim", body, &reply);
	if (c->o.session_token && reply.status == 403)
		controller_fail(c, EXIT_CREDENTIAL, "session tokens cannot be had: %s", reply.text);
	else if (controller_is_refused(c, &reply, "claiming a request"))
		return;
	if (reply.status == 200) {
		str_set(&r->worker_id, uuid);
		take_token(r, reply.body);
		r->failures = 0;
		r->wake = r->told = r->runs = false;
		r->stage = TO_RUN;
		r->due_ms = 0;
		log_info("controller.claimed", "request=%s worker=%s", log_quote(r->id), r->worker_id);
	} else if ((reply.status == 409 || reply.status == 404) && r->runs) {
		r->stage = RUNNING; /* as it was */
		r->due_ms = clock_mono_ms();
	} else if (reply.status == 409 || reply.status == 404) {
		skip(r); /* somebody else has it, or it is gone */
	} else {
		if (reply.status == 0)
			c->away_until_ms = clock_mono_ms() + AGAIN_MS;
		log_warn("controller.claim.failed", "request=%s http=%d reason=%s", log_quote(r->id), reply.status,
		    log_quote(reply.text));
		r->due_ms = clock_mono_ms() + MAX(reply.retry_after_ms, AGAIN_MS);
	}
}

/* One variable a field of the request, as docs/operating.md lists them. */
static int start_hook(struct controller *c, struct request *r, struct why *why)
{
	char user[32];
	const json_t *user_id = json_object_get(r->what, "userId"), *urls = json_object_get(r->what, "repoUrls");
	AUTO_STR url_list = json_is_array(urls) ? json_text(urls) : NULL;
	bool session = c->o.session_token;

	snprintf(user, sizeof user, "%lld", (long long)json_integer_value(user_id));
	const struct hook_variable v[] = {{"CURSOR_REQUEST_ID", r->id},
	    {"CURSOR_USER_ID", user_id != NULL ? user : NULL}, {"CURSOR_REPO_URL", text_at(r->what, "repoUrl")},
	    {"CURSOR_REPO_OWNER", text_at(r->what, "repoOwner")}, {"CURSOR_REPO_NAME", text_at(r->what, "repoName")},
	    {"CURSOR_REPO_URLS", url_list}, {"CURSOR_POOL", request_pool(r->what)},
	    {"CURSOR_AGENT_WORKER_ID", r->worker_id}, {"CURSOR_WORKER_NAME", r->worker_id},
	    {"CURSOR_API_KEY", session ? NULL : c->o.api_key}, {"CURSOR_AUTH_TOKEN", session ? r->token : NULL},
	    {"CURSOR_AUTH_TOKEN_EXPIRES_AT", session ? r->token_expires : NULL}, {"CURSOR_API_URL", c->o.endpoint},
	    {"CURSOR_API_ENDPOINT", c->o.endpoint}, {"CURSOR_WAKE", r->wake ? "1" : NULL}};

	return hook_start(c, r->id, r->worker_id, v, ARRAY_LEN(v), why);
}

static void hook_failed(struct controller *c, struct request *r, int status, const char *text)
{
	if (status == GONE_STATUS && r->wake) {
		release(c, r);
	} else if (r->failures < ARRAY_LEN(hook_retry_ms)) {
		r->stage = TO_RUN;
		r->due_ms = clock_mono_ms() + hook_retry_ms[r->failures++];
	} else {
		AUTO_STR why = str_printf("%s ended with status %d%s%s", c->o.spawn, status,
		    text != NULL && text[0] ? ": " : "", text != NULL ? text : "");

		report_failure(c, r, why);
	}
}

static void run(struct controller *c, struct request *r)
{
	struct why why = {""};
	int rc;

	if (c->o.session_token && r->token == NULL && !mint_token(c, r))
		return;
	rc = start_hook(c, r, &why);
	if (rc == OK) {
		r->stage = RUNNING;
		r->runs = true;
		r->due_ms = clock_mono_ms();
		str_free(&r->token); /* the next start gets one of its own */
	} else if (rc == ERR_FULL) {
		r->due_ms = clock_mono_ms() + FULL_MS;
	} else {
		hook_failed(c, r, -1, why.text);
	}
}

/* Ours, and being started or run: unless the claim was ended since, by the control plane after its time or for another
 * agent. A worker that is to be woken is not while its program runs. */
static bool is_in_hand(const struct request *r, const char *held, bool listed)
{
	if (r->stage != RUNNING && r->stage != TO_RUN)
		return false;
	return held != NULL ? strcmp(held, r->worker_id) == 0 : !listed && !r->told;
}

void claims_take(struct controller *c, const json_t *request, bool listed)
{
	const char *id = text_at(request, "id"), *held = text_at(request, "claimedWorkerId");
	struct request *r = id != NULL ? map_get(c->requests, id) : NULL;

	if (id == NULL || (held != NULL && !text_has_prefix(held, PREFIX)))
		return;
	if (r != NULL && is_in_hand(r, held, listed))
		return;
	if (r != NULL && r->stage == SKIPPED && clock_mono_ms() < r->due_ms)
		return;
	if (r == NULL) {
		r = NEW(struct request);
		r->id = str_dup(id);
		map_put(c->requests, r->id, r);
	}
	json_decref(r->what);
	r->what = json_deep_copy(request);
	r->due_ms = 0;
	r->stage = held != NULL ? TO_RUN : TO_CLAIM;
	r->wake = held != NULL;
	r->told = false;
	r->failures = 0;
	if (held != NULL) {
		str_set(&r->worker_id, held);
		log_info("controller.wake", "request=%s worker=%s", log_quote(id), log_quote(held));
	}
}

/* Claimed by somebody, or gone; ours are claimed, too. */
void claims_drop(struct controller *c, const char *id, bool claimed)
{
	struct request *r = map_get(c->requests, id);

	if (r != NULL)
		r->told |= claimed;
	if (r == NULL || r->stage == RUNNING || r->stage == TO_RUN)
		return;
	map_remove(c->requests, id);
	request_free(r);
}

void claims_hook_ended(struct controller *c, const struct event *e)
{
	struct request *r = map_get(c->requests, e->id);

	log_info("controller.hook.ended", "request=%s worker=%s status=%d", log_quote(e->id), log_quote(e->worker_id),
	    e->status);
	/* Of an earlier claim of the request. */
	if (r == NULL || r->worker_id == NULL || strcmp(r->worker_id, e->worker_id) != 0)
		return;
	r->runs = false;
	if (r->stage != RUNNING)
		return; /* it waits for another worker meanwhile, or is to be woken anyway */
	if (e->status == 0 || clock_mono_ms() - r->due_ms > LATE_MS) {
		r->stage = STARTED;
		claims_drop(c, e->id, false);
		return;
	}
	hook_failed(c, r, e->status, e->text);
}

int64_t claims_tick(struct controller *c, int64_t now_ms)
{
	int64_t next = INT64_MAX;
	AUTO_JSON gone = json_array();
	size_t at = 0, i;
	const char *id;
	json_t *name;
	void *value;

	while (map_next(c->requests, &at, &id, &value) && !c->ended) {
		struct request *r = value;

		/* One that waits for an answer in vain is enough: there are programs to be started meanwhile. */
		if (r->stage == TO_CLAIM && c->away_until_ms > now_ms)
			r->due_ms = MAX(r->due_ms, c->away_until_ms);
		if (r->stage == TO_CLAIM && r->due_ms <= now_ms)
			claim(c, r);
		if (r->stage == TO_RUN && r->due_ms <= now_ms)
			run(c, r);
		if (r->stage == SKIPPED && r->due_ms <= now_ms)
			json_array_append_new(gone, json_string(r->id));
		if (r->stage != RUNNING && r->stage != STARTED)
			next = MIN(next, MAX(r->due_ms, now_ms + 10));
	}
	json_array_foreach(gone, i, name) claims_drop(c, json_string_value(name), false);
	return next;
}
