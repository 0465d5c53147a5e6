#include "server/artifacts/sigv4.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include <ctype.h>
#include <string.h>
#include <time.h>

#define TEXT_MAX ((size_t)64 * 1024)
#define ALGORITHM "AWS4-HMAC-SHA256"
#define DATE_LEN 8

void sigv4_time(int64_t wall_ms, char out[SIGV4_TIME_LEN])
{
	time_t at = (time_t)(wall_ms / 1000);
	struct tm tm;

	ENSURE(gmtime_r(&at, &tm) != NULL && strftime(out, SIGV4_TIME_LEN, "%Y%m%dT%H%M%SZ", &tm) > 0);
}

static void add_encoded(struct strbuf *b, const char *text, bool slash)
{
	for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++)
		if (isascii(*c) && (isalnum(*c) || strchr("-._~", *c) != NULL || (*c == '/' && !slash)))
			strbuf_addc(b, (char)*c);
		else
			strbuf_addf(b, "%%%02X", *c);
}

char *sigv4_encode(const char *text, bool slash)
{
	struct strbuf b = STRBUF(TEXT_MAX);

	add_encoded(&b, text, slash);
	return strbuf_take(&b);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names and values are encoded before they are ordered. */
static int by_pair(const void *a, const void *b)
{
	const struct sigv4_pair *x = a, *y = b;
	int rc = strcmp(x->name, y->name);

	return rc != 0 ? rc : strcmp(x->value, y->value);
}

char *sigv4_query(const struct sigv4_pair *query, size_t n)
{
	struct sigv4_pair sorted[SIGV4_ITEMS_MAX];
	struct strbuf b = STRBUF(TEXT_MAX);

	ENSURE(n <= SIGV4_ITEMS_MAX);
	for (size_t i = 0; i < n; i++)
		sorted[i] = (struct sigv4_pair){sigv4_encode(query[i].name, true), sigv4_encode(query[i].value, true)};
	qsort(sorted, n, sizeof *sorted, by_pair);
	for (size_t i = 0; i < n; i++) {
		strbuf_addf(&b, "%s%s=%s", i > 0 ? "&" : "", sorted[i].name, sorted[i].value);
		free((char *)sorted[i].name);
		free((char *)sorted[i].value);
	}
	return strbuf_take(&b);
}

/* A header's value as it is signed: no blanks around it, one in the middle where there were several. */
static void add_value(struct strbuf *b, const char *value)
{
	bool gap = false, any = false;

	for (const char *c = value; *c != '\0'; c++) {
		if (*c == ' ') {
			gap = any;
			continue;
		}
		if (gap)
			strbuf_addc(b, ' ');
		strbuf_addc(b, *c);
		any = true;
		gap = false;
	}
}

/* "name:value\n" of each, ordered; *ret_names: "name;name", malloc'ed. */
static void add_headers(struct strbuf *b, const struct sigv4_request *rq, char **ret_names)
{
	char *lines[SIGV4_ITEMS_MAX];
	struct strbuf names = STRBUF(TEXT_MAX);

	ENSURE(rq->n_headers <= SIGV4_ITEMS_MAX);
	for (size_t i = 0; i < rq->n_headers; i++) {
		struct strbuf line = STRBUF(TEXT_MAX);

		strbuf_addf(&line, "%s:", rq->headers[i].name);
		add_value(&line, rq->headers[i].value);
		lines[i] = strbuf_take(&line);
	}
	qsort(lines, rq->n_headers, sizeof *lines, by_text);
	for (size_t i = 0; i < rq->n_headers; i++) {
		strbuf_addf(b, "%s\n", lines[i]);
		strbuf_addf(&names, "%s%.*s", i > 0 ? ";" : "", (int)strcspn(lines[i], ":"), lines[i]);
		free(lines[i]);
	}
	*ret_names = strbuf_take(&names);
}

static char *scope_of(const struct sigv4_who *who, const char *at)
{
	return str_printf("%.*s/%s/%s/aws4_request", DATE_LEN, at, who->region, who->service);
}

static void hex_of(const unsigned char mac[HMAC_SHA256_LEN], char out[SHA256_HEX_LEN])
{
	for (size_t i = 0; i < HMAC_SHA256_LEN; i++)
		snprintf(out + 2 * i, 3, "%02x", mac[i]);
}

static void signature_of(const struct sigv4_who *who, const char *at, const char *canonical, char out[SHA256_HEX_LEN])
{
	AUTO_STR scope = scope_of(who, at);
	AUTO_STR first = str_printf("AWS4%s", who->secret_key);
	AUTO_STR date = str_ndup(at, DATE_LEN);
	AUTO_STR text = NULL;
	const char *const steps[] = {date, who->region, who->service, "aws4_request"};
	unsigned char key[HMAC_SHA256_LEN];
	char hash[SHA256_HEX_LEN];

	sha256_hex(canonical, strlen(canonical), hash);
	text = str_printf(ALGORITHM "\n%s\n%s\n%s", at, scope, hash);
	hmac_sha256(first, strlen(first), steps[0], strlen(steps[0]), key);
	for (size_t i = 1; i < ARRAY_LEN(steps); i++) {
		unsigned char next[HMAC_SHA256_LEN];

		hmac_sha256(key, sizeof key, steps[i], strlen(steps[i]), next);
		memcpy(key, next, sizeof key);
	}
	hmac_sha256(key, sizeof key, text, strlen(text), key);
	hex_of(key, out);
	explicit_bzero(key, sizeof key);
	explicit_bzero(first, strlen(first));
}

/* *ret_names: of the headers that are signed, malloc'ed. */
static void sign_request(const struct sigv4_who *who, const struct sigv4_request *rq, const char *query, const char *at,
    char **ret_names, char out[SHA256_HEX_LEN])
{
	AUTO_FINI(strbuf) b = STRBUF(2 * TEXT_MAX);

	strbuf_addf(&b, "%s\n%s\n%s\n", rq->method, rq->path, query);
	add_headers(&b, rq, ret_names);
	strbuf_addf(&b, "\n%s\n%s", *ret_names, rq->payload);
	signature_of(who, at, strbuf_str(&b), out);
}

char *sigv4_authorization(const struct sigv4_who *who, const struct sigv4_request *rq, const char at[SIGV4_TIME_LEN])
{
	AUTO_STR query = sigv4_query(rq->query, rq->n_query);
	AUTO_STR scope = scope_of(who, at);
	AUTO_STR names = NULL;
	char signature[SHA256_HEX_LEN];

	sign_request(who, rq, query, at, &names, signature);
	return str_printf(
	    ALGORITHM " Credential=%s/%s,SignedHeaders=%s,Signature=%s", who->access_key, scope, names, signature);
}

char *sigv4_presign(
    const struct sigv4_who *who, const struct sigv4_request *rq, const char at[SIGV4_TIME_LEN], int64_t seconds)
{
	AUTO_STR scope = scope_of(who, at);
	AUTO_STR credential = str_printf("%s/%s", who->access_key, scope);
	AUTO_STR expires = str_printf("%lld", (long long)seconds);
	AUTO_STR query = NULL;
	AUTO_STR names = NULL;
	struct sigv4_pair all[SIGV4_ITEMS_MAX] = {{"X-Amz-Algorithm", ALGORITHM}, {"X-Amz-Credential", credential},
	    {"X-Amz-Date", at}, {"X-Amz-Expires", expires}, {"X-Amz-SignedHeaders", "host"}};
	size_t n = 5;
	char signature[SHA256_HEX_LEN];

	if (who->session_token != NULL)
		all[n++] = (struct sigv4_pair){"X-Amz-Security-Token", who->session_token};
	ENSURE(rq->n_query <= SIGV4_ITEMS_MAX - n && rq->n_headers == 1);
	for (size_t i = 0; i < rq->n_query; i++)
		all[n++] = rq->query[i];
	query = sigv4_query(all, n);
	sign_request(who, rq, query, at, &names, signature);
	return str_printf("%s&X-Amz-Signature=%s", query, signature);
}
