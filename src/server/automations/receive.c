/* Webhooks that start agents: POST /webhooks/automations/{id}. Nothing is parsed before the signature was checked over
 * the bytes. */
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/text.h"
#include "server/automations/runner_priv.h"
#include "server/automations/template.h"
#include <string.h>

#define PREFIX "automations/"
#define SIGNATURE_HEX 64

METRIC_COUNTER(received, "bullpen_automation_webhooks_total", "Webhooks for automations, by result.", "result");

bool automations_take(const char *path)
{
	return text_has_prefix(path, PREFIX) && strchr(path + strlen(PREFIX), '/') == NULL;
}

static const char *header(const struct inside_delivery *d, const char *name, const char *otherwise)
{
	const char *v = d->header(d, name);

	return v != NULL ? v : otherwise != NULL ? d->header(d, otherwise) : NULL;
}

/* "sha256=" and 64 digits. */
static bool read_signature(const char *text, unsigned char ret[HMAC_SHA256_LEN])
{
	if (text == NULL || !text_has_prefix(text, "sha256=") || strlen(text) != 7 + SIGNATURE_HEX ||
	    strspn(text + 7, "0123456789abcdefABCDEF") != SIGNATURE_HEX)
		return false;
	for (size_t i = 0; i < HMAC_SHA256_LEN; i++) {
		char digits[3] = {text[7 + 2 * i], text[8 + 2 * i], '\0'};

		ret[i] = (unsigned char)strtoul(digits, NULL, 16);
	}
	return true;
}

/* What is signed: the body, behind "TIME." if there is a time. */
struct signed_bytes {
	const char *bytes;
	size_t len;
};

static bool is_signed_with(const char *secret, const struct signed_bytes *s, const unsigned char *given)
{
	unsigned char mac[HMAC_SHA256_LEN];

	hmac_sha256(secret, strlen(secret), s->bytes, s->len, mac);
	return secret_equal(mac, given, sizeof mac);
}

static int check_signature(struct automations *m, const struct automation *a, const struct signed_bytes *s,
    const unsigned char *given, int64_t now_ms)
{
	bool good = false;

	for (int old = 0; old <= 1 && !good; old++) {
		char *secret = NULL;
		int rc = automation_secret(a, automations_cfg(m)->seal, old == 1, now_ms, &secret);

		good = rc == OK && is_signed_with(secret, s, given);
		str_wipe(&secret);
		if (rc != OK && rc != ERR_EMPTY)
			return rc;
	}
	return good ? OK : ERR_UNAUTHORIZED;
}

static int check_delivery(
    struct automations *m, const struct automation *a, const struct inside_delivery *d, int64_t now_ms)
{
	const char *at = d->header(d, "x-webhook-timestamp");
	unsigned char given[HMAC_SHA256_LEN];
	struct signed_bytes s = {d->body, d->len};
	AUTO_STR joined = NULL;
	int64_t at_s = 0;

	if (!read_signature(header(d, "x-hub-signature-256", "x-webhook-signature"), given))
		return ERR_UNAUTHORIZED;
	if (at == NULL && a->timestamped)
		return ERR_UNAUTHORIZED;
	if (at != NULL) {
		int64_t off;

		if (text_parse_int(at, 0, INT64_MAX / 2000, &at_s) != OK)
			return ERR_UNAUTHORIZED;
		off = now_ms - at_s * 1000;
		if (off > AUTOMATION_CLOCK_MS || off < -AUTOMATION_CLOCK_MS)
			return ERR_UNAUTHORIZED;
		size_t head = strlen(at) + 1;

		joined = mem_alloc(head + d->len + 1);
		memcpy(joined, at, head - 1);
		joined[head - 1] = '.';
		memcpy(joined + head, d->body, d->len);
		joined[head + d->len] = '\0';
		s = (struct signed_bytes){joined, head + d->len};
	}
	return check_signature(m, a, &s, given, now_ms);
}

static int read_prompt(const struct automation *a, const struct inside_delivery *d, char **ret_prompt, struct why *why)
{
	AUTO_JSON body = NULL;
	int rc = json_parse(d->body, d->len, &body, why);

	if (rc != OK)
		return rc;
	if (!json_is_object(body))
		return why_set(why, ERR_INVALID, "the body is no JSON object");
	rc = template_fill(a->prompt, body, ret_prompt);
	return rc == ERR_TOO_LARGE ? why_set(why, ERR_INVALID, "the prompt becomes too long with these values") : rc;
}

struct arriving {
	const struct automation_tick *tick;
	int64_t now_ms;
	char id[AUTOMATION_RUN_ID_LEN];
};

static int arrive_in(struct tx *tx, void *arg)
{
	struct arriving *r = arg;

	return automation_fire(tx, r->tick, r->now_ms, r->id);
}

static int load_of_path(struct automations *m, const char *path, struct automation **ret)
{
	AUTO(tx) tx = NULL;
	const char *id = path + strlen(PREFIX);
	int rc = text_is_token(id, "-", AUTOMATION_ID_LEN) ? tx_begin(automations_cfg(m)->store, TX_READ, &tx)
							   : ERR_NOT_FOUND;

	return rc == OK ? automation_load(tx, id, ret) : rc;
}

/* OK, ERR_EMPTY (switched off), ERR_CONFLICT (it was here before), or what is wrong. */
static int arrive(struct automations *m, const struct inside_delivery *d, struct arriving *r, struct why *why)
{
	const char *delivery = header(d, "x-webhook-id", "x-github-delivery");
	const char *signature = header(d, "x-hub-signature-256", "x-webhook-signature");
	AUTO(automation) a = NULL;
	AUTO_STR prompt = NULL;
	AUTO_STR tick = NULL;
	AUTO_STR hash = NULL;
	int rc = load_of_path(m, d->path, &a);

	if (rc == OK && a->secret == NULL)
		rc = ERR_NOT_FOUND;
	if (rc == OK)
		rc = check_delivery(m, a, d, r->now_ms);
	if (rc != OK)
		return rc;
	if (d->len > AUTOMATION_WEBHOOK_BODY_MAX)
		return why_set(why, ERR_INVALID, "the body is longer than 1 MiB");
	if (delivery != NULL && !text_is_token(delivery, "-_.:", 128))
		return why_set(why, ERR_INVALID, "X-Webhook-ID must be 1 to 128 of A-Z a-z 0-9 - _ . :");
	rc = read_prompt(a, d, &prompt, why);
	if (rc != OK)
		return rc;
	if (!a->enabled)
		return ERR_EMPTY;
	hash = str_dup(signature + 7);
	id_lower(hash);
	tick = str_printf("webhook/%s", delivery != NULL ? delivery : hash);
	const struct automation_tick t = {.automation_id = a->id,
	    .tick = tick,
	    .signature = hash,
	    .cause = "webhook",
	    .prompt = prompt,
	    .at_ms = r->now_ms};

	r->tick = &t;
	rc = store_write(automations_cfg(m)->store, arrive_in, r);
	r->tick = NULL;
	return rc;
}

void automations_receive(struct automations *m, const struct inside_delivery *d, struct inside_answer *ret)
{
	struct arriving r = {.now_ms = clock_wall_ms()};
	struct why why = {0};
	int rc = arrive(m, d, &r, &why);

	metric_add(&received, 1,
	    rc == OK		     ? "stored"
	    : rc == ERR_CONFLICT     ? "repeated"
	    : rc == ERR_EMPTY	     ? "off"
	    : rc == ERR_UNAUTHORIZED ? "unsigned"
				     : "refused");
	ret->status = 200;
	if (rc == OK) {
		ret->text = str_printf("{\"id\":\"%s\"}", r.id);
		automations_wake(m);
	} else if (rc == ERR_CONFLICT) {
		ret->text = str_dup("{\"repeated\":true}");
	} else if (rc == ERR_EMPTY) {
		ret->text = str_dup("{\"ignored\":\"the automation is switched off\"}");
	} else if (rc == ERR_UNAUTHORIZED) {
		log_warn("automation.unsigned", "path=%s", log_quote(d->path));
		ret->status = 401;
	} else if (rc == ERR_NOT_FOUND) {
		ret->status = 404;
	} else if (rc == ERR_INVALID) {
		ret->status = 400;
		ret->text = str_dup(why.text);
	} else {
		ret->status = 503;
	}
}
