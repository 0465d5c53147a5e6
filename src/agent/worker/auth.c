/* Which token is shown next. */
#include "agent/worker/auth.h"
#include "agent/session/exec.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define RENEW_BEFORE_MS (10 * 60 * 1000)
/* What tokens live; more is not believed, so that a clock that is wrong does little harm. */
#define LIFETIME_MS (60 * 60 * 1000)
#define FILE_WAIT_MS 30000
#define FILE_REFUSED_MS (15 * 60 * 1000)
#define EXCHANGE_STACK ((size_t)256 * 1024)

/* One exchange; the thread's until it is done. */
struct exchange {
	char *endpoint, *key;
	void (*wake)(void *ctx);
	void *ctx;
	int rc;
	char *token, *type;
	int64_t lifetime_ms, wait_ms;
	struct why why;
	atomic_bool done; /* there is a result */
	atomic_bool gone; /* the thread touches nothing of this any more */
};

struct auth {
	const struct worker_options *options;
	void (*wake)(void *ctx);
	void *ctx;
	char *token; /* what was shown last; NULL: nothing */
	int64_t expires_ms; /* of an exchanged token, on the clock that counts sleep */
	bool direct; /* the control plane exchanges nothing: the key itself is shown */
	bool direct_accepted;
	struct why refusal; /* with renewed: why */
	bool renewed; /* after a refusal, and not accepted since */
	struct exchange *exchange; /* under way, or done and not looked at */
	int64_t started_ms;
	int64_t refused_since_ms; /* 0: not refused */
};

static int64_t boot_ms(void)
{
	struct timespec t = {0};

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

struct auth *auth_new(const struct worker_options *o, void (*wake)(void *ctx), void *ctx)
{
	struct auth *a = NEW(struct auth);

	a->options = o;
	a->wake = wake;
	a->ctx = ctx;
	a->started_ms = clock_mono_ms();
	return a;
}

static void forget(char **secret)
{
	if (*secret != NULL)
		explicit_bzero(*secret, strlen(*secret));
	str_free(secret);
}

static void exchange_free(struct exchange **xp)
{
	struct exchange *x = TAKE(*xp);

	if (x == NULL)
		return;
	/* Between its last word and its end; it waits for nothing there. */
	while (atomic_load(&x->done) && !atomic_load(&x->gone))
		sched_yield();
	free(x->endpoint);
	free(x->type);
	forget(&x->key);
	forget(&x->token);
	free(x);
}

void auth_free(struct auth **ap)
{
	struct auth *a = TAKE(*ap);

	if (a == NULL)
		return;
	ENSURE(!auth_busy(a));
	exchange_free(&a->exchange);
	forget(&a->token);
	free(a);
}

bool auth_busy(const struct auth *a)
{
	return a->exchange != NULL && !atomic_load(&a->exchange->done);
}

static void exchange_thread(void *arg)
{
	struct exchange *x = arg;

	x->rc = auth_exchange(x->endpoint, x->key, &x->token, &x->type, &x->lifetime_ms, &x->wait_ms, &x->why);
	atomic_store(&x->done, true);
	x->wake(x->ctx);
	atomic_store(&x->gone, true);
}

static enum auth_answer start_exchange(struct auth *a, struct why *why)
{
	struct exchange *x = NEW(struct exchange);

	x->endpoint = str_dup(a->options->endpoint);
	x->key = str_dup(a->options->api_key);
	x->wake = a->wake;
	x->ctx = a->ctx;
	if (thread_start("exchange", EXCHANGE_STACK, exchange_thread, x) != OK) {
		exchange_free(&x);
		why_set(why, ERR_FULL, "there is no thread to exchange the API key on");
		return AUTH_LATER;
	}
	a->exchange = x;
	return AUTH_PENDING;
}

static void set_token(struct auth *a, char *token)
{
	/* Not for the programs of sessions, wherever it comes from. */
	if (a->token == NULL || strcmp(a->token, token) != 0)
		exec_hide_secret(token);
	forget(&a->token);
	a->token = token;
}

static enum auth_answer end_exchange(struct auth *a, int64_t *ret_wait_ms, struct why *why)
{
	__attribute__((cleanup(exchange_free))) struct exchange *x = TAKE(a->exchange);

	switch (x->rc) {
	case OK:
		if (auth_check_key_type(x->type, a->options->pool != NULL, why) != OK)
			return AUTH_OVER;
		set_token(a, TAKE(x->token));
		a->expires_ms = boot_ms() + MIN(x->lifetime_ms, LIFETIME_MS);
		log_debug("worker.token", "lifetime_ms=%lld", (long long)x->lifetime_ms);
		return AUTH_READY;
	case ERR_NOT_FOUND:
		a->direct = true;
		return AUTH_READY;
	case ERR_UNAUTHORIZED:
		/* If that was asked because the token was refused, the cause was told then. */
		why_set(why, ERR_UNAUTHORIZED, "%s", a->renewed ? a->refusal.text : x->why.text);
		return AUTH_OVER;
	default:
		*ret_wait_ms = x->wait_ms;
		why_set(why, x->rc, "%s", x->why.text);
		return AUTH_LATER;
	}
}

static enum auth_answer take_by_key(struct auth *a, int64_t *ret_wait_ms, struct why *why)
{
	enum auth_answer answer = AUTH_READY;

	if (a->exchange != NULL)
		return auth_busy(a) ? AUTH_PENDING : end_exchange(a, ret_wait_ms, why);
	if (!a->direct && (a->token == NULL || a->expires_ms - boot_ms() < RENEW_BEFORE_MS))
		answer = start_exchange(a, why);
	return answer;
}

/* Never kept across attempts: the file may be replaced at any time. */
static enum auth_answer take_from_file(struct auth *a, struct why *why)
{
	char *token = NULL;
	int rc = auth_read_file(a->options->auth_token_file, &token, why);
	bool first = a->token == NULL;

	if (rc == OK) {
		set_token(a, token);
		return AUTH_READY;
	}
	if (!first)
		return AUTH_LATER;
	return clock_mono_ms() - a->started_ms < FILE_WAIT_MS ? AUTH_SOON : AUTH_OVER;
}

enum auth_answer auth_take(struct auth *a, const char **ret_token, int64_t *ret_wait_ms, struct why *why)
{
	const struct worker_options *o = a->options;
	enum auth_answer answer = AUTH_READY;

	*ret_wait_ms = 0;
	if (o->auth_token_file != NULL)
		answer = take_from_file(a, why);
	else if (o->auth_token == NULL)
		answer = take_by_key(a, ret_wait_ms, why);
	if (answer == AUTH_READY)
		*ret_token = o->auth_token != NULL ? o->auth_token : a->direct ? o->api_key : a->token;
	return answer;
}

void auth_accepted(struct auth *a)
{
	a->renewed = false;
	a->direct_accepted = a->direct;
	a->refused_since_ms = 0;
}

bool auth_is_about(const char *code)
{
	static const char *const codes[] = {"unauthorized", "key_not_supported", "token_expired", "claim_ended",
	    "key_revoked", "wrong_worker", "wrong_endpoint"};

	for (size_t i = 0; i < ARRAY_LEN(codes); i++)
		if (strcmp(codes[i], code) == 0)
			return true;
	return false;
}

/* Somebody wrote another token meanwhile. */
static bool file_changed(const struct auth *a)
{
	AUTO_STR token = NULL;
	bool changed = auth_read_file(a->options->auth_token_file, &token, NULL) == OK &&
		       (a->token == NULL || strcmp(token, a->token) != 0);

	if (token != NULL)
		explicit_bzero(token, strlen(token));
	return changed;
}

static enum auth_answer refused_file(struct auth *a, bool expired)
{
	int64_t now = clock_mono_ms();

	if (file_changed(a))
		return AUTH_READY;
	if (expired)
		return AUTH_OVER;
	if (a->refused_since_ms == 0)
		a->refused_since_ms = now;
	return now - a->refused_since_ms < FILE_REFUSED_MS ? AUTH_LATER : AUTH_OVER;
}

enum auth_answer auth_refused(struct auth *a, const char *code, const char *message)
{
	const struct worker_options *o = a->options;
	bool expired = strcmp(code, "token_expired") == 0;

	if (!expired && strcmp(code, "unauthorized") != 0)
		return AUTH_OVER;
	if (o->auth_token_file != NULL)
		return refused_file(a, expired);
	if (o->auth_token != NULL || a->renewed)
		return AUTH_OVER;
	/* Nothing but the key was shown, and that by a control plane that was asked just now or was of that kind
	 * before. */
	if (a->direct && !a->direct_accepted)
		return AUTH_OVER;
	/* The key may get a token that counts. */
	a->renewed = true;
	why_set(&a->refusal, ERR_UNAUTHORIZED, "%s", message);
	a->direct = a->direct_accepted = false;
	forget(&a->token);
	return AUTH_READY;
}
