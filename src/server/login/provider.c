#include "server/login/provider.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include <pthread.h>
#include <string.h>

#define KEEP_MS ((int64_t)60 * 60 * 1000)
#define PAUSE_MS 5000

/* Documents are kept as text: a JSON value is one thread's. */
struct kept {
	char *text;
	int64_t at_ms; /* monotonic */
};

struct provider {
	const char *issuer;
	struct web_rules *rules;
	pthread_mutex_t lock;
	struct kept document, keys;
	struct why failed; /* why it gave no document */
	int failed_rc;
	int64_t failed_ms; /* 0: it did not fail */
};

/* "host:port" of the issuer: an operator has named it, so it may be a host of the company's own. */
static char *host_of(const char *issuer)
{
	AUTO_STR origin = web_origin(issuer);
	const char *host = origin != NULL ? strstr(origin, "://") : NULL;

	return host != NULL ? str_dup(host + 3) : NULL;
}

int provider_new(const char *issuer, struct provider **ret, struct why *why)
{
	struct provider *p = NEW(struct provider);
	AUTO_STR host = host_of(issuer);
	int rc;

	p->issuer = issuer;
	pthread_mutex_init(&p->lock, NULL);
	rc = host == NULL ? why_set(why, ERR_INVALID, "login.oidc.issuer is not a URL")
			  : web_rules_new(host, &p->rules, why);
	if (rc != OK)
		provider_free(&p);
	else
		*ret = p;
	return rc;
}

void provider_free(struct provider **pp)
{
	struct provider *p = TAKE(*pp);

	if (p == NULL)
		return;
	web_rules_free(&p->rules);
	pthread_mutex_destroy(&p->lock);
	free(p->document.text);
	free(p->keys.text);
	free(p);
}

const struct web_rules *provider_rules(const struct provider *p)
{
	return p->rules;
}

/* A copy, parsed; NULL: nothing, or it is older than `age_ms`. */
static json_t *recall(struct provider *p, const struct kept *k, int64_t age_ms)
{
	AUTO_STR text = NULL;
	json_t *o = NULL;

	pthread_mutex_lock(&p->lock);
	if (k->text != NULL && clock_mono_ms() - k->at_ms < age_ms)
		text = str_dup(k->text);
	pthread_mutex_unlock(&p->lock);
	return text != NULL && json_parse(text, strlen(text), &o, NULL) == OK ? o : NULL;
}

static void keep(struct provider *p, struct kept *k, const json_t *doc)
{
	char *text = json_text(doc);

	pthread_mutex_lock(&p->lock);
	free(k->text);
	*k = (struct kept){text, clock_mono_ms()};
	pthread_mutex_unlock(&p->lock);
}

json_t *provider_kept(struct provider *p)
{
	return recall(p, &p->document, INT64_MAX);
}

/* Each who signs in while the provider is down would hold a thread for ten seconds. */
static int failed_just_now(struct provider *p, struct why *why)
{
	int rc = OK;

	pthread_mutex_lock(&p->lock);
	if (p->failed_ms != 0 && clock_mono_ms() - p->failed_ms < PAUSE_MS) {
		*why = p->failed;
		rc = p->failed_rc;
	}
	pthread_mutex_unlock(&p->lock);
	return rc;
}

static void note_result(struct provider *p, int rc, const struct why *why)
{
	pthread_mutex_lock(&p->lock);
	p->failed_ms = rc == OK ? 0 : clock_mono_ms();
	p->failed_rc = rc;
	p->failed = *why;
	pthread_mutex_unlock(&p->lock);
}

int provider_load(struct provider *p, json_t **ret_doc, struct why *why)
{
	int rc;

	*ret_doc = recall(p, &p->document, KEEP_MS);
	if (*ret_doc != NULL)
		return OK;
	rc = failed_just_now(p, why);
	if (rc != OK)
		return rc;
	rc = oauth_find_provider(p->rules, p->issuer, ret_doc, why);
	note_result(p, rc, why);
	if (rc == OK)
		keep(p, &p->document, *ret_doc);
	return rc;
}

int provider_keys(struct provider *p, const json_t *doc, bool fresh, json_t **ret, bool *ret_kept, struct why *why)
{
	const char *url = json_word(doc, "jwks_uri");
	int rc;

	*ret_kept = false;
	if (!fresh) {
		*ret = recall(p, &p->keys, KEEP_MS);
		*ret_kept = *ret != NULL;
	}
	if (*ret_kept)
		return OK;
	if (url[0] == '\0')
		return why_set(why, ERR_INVALID, "the provider names no jwks_uri");
	rc = web_check_url(p->rules, url, why);
	if (rc == OK)
		rc = oauth_get_document(p->rules, url, NULL, ret, why);
	if (rc == ERR_NOT_FOUND)
		return why_set(why, ERR_NET, "the provider gave no keys at its jwks_uri");
	if (rc == OK)
		keep(p, &p->keys, *ret);
	return rc;
}
