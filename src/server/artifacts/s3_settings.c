/* The table [s3] of the settings, and the files with the keys. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/seal.h"
#include "base/table.h"
#include "base/text.h"
#include "server/artifacts/s3_priv.h"
#include <string.h>

#define WHERE "s3"
#define HOST_MAX 253
#define PREFIX_MAX 200
#define REGION_MAX 60
#define SECRET_FILE_MAX (64 * 1024)
#define REREAD_MS 60000

void s3_credentials_fini(struct s3_credentials *c)
{
	str_wipe(&c->access_key);
	str_wipe(&c->secret_key);
	str_wipe(&c->session_token);
}

static int read_one(const struct table *t, const char *key, const char *file, char **ret)
{
	char *text = NULL;
	size_t len = 0;
	int rc;

	if (file == NULL)
		return OK;
	rc = text_read_file(file, SECRET_FILE_MAX, &text, &len);
	if (rc != OK)
		return why_set(t->why, ERR_INVALID, WHERE ".%s: cannot read %s: %s", key, file, err_text(rc));
	rc = table_secret_of(t, key, text, ret);
	str_wipe(&text);
	return rc;
}

static int read_credentials(const struct s3 *s, struct s3_credentials *ret, struct why *why)
{
	const struct table t = {.where = WHERE, .why = why};
	int rc = read_one(&t, "access_key_file", s->access_key_file, &ret->access_key);

	if (rc == OK)
		rc = read_one(&t, "secret_key_file", s->secret_key_file, &ret->secret_key);
	if (rc == OK)
		rc = read_one(&t, "session_token_file", s->session_token_file, &ret->session_token);
	return rc;
}

static bool same(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static void copy_credentials(const struct s3_credentials *from, struct s3_credentials *ret)
{
	ret->access_key = str_dup(from->access_key);
	ret->secret_key = str_dup(from->secret_key);
	ret->session_token = str_dup(from->session_token);
}

void s3_credentials_take(struct s3 *s, bool now, struct s3_credentials *ret, bool *ret_changed)
{
	int64_t at = clock_mono_ms();
	struct s3_credentials fresh = {0};
	struct why why = {0};
	bool changed = false, due;

	pthread_mutex_lock(&s->lock);
	due = now || at - s->credentials_ms >= REREAD_MS;
	if (due)
		s->credentials_ms = at;
	pthread_mutex_unlock(&s->lock);
	/* A file that is just being replaced is read the next time. */
	if (due && read_credentials(s, &fresh, &why) != OK) {
		log_warn("artifacts.s3.keys", "error=%s effect=\"the keys of before are used\"", log_quote(why.text));
		s3_credentials_fini(&fresh);
		due = false;
	}
	pthread_mutex_lock(&s->lock);
	if (due) {
		const struct s3_credentials was = s->credentials;

		changed = !same(was.access_key, fresh.access_key) || !same(was.secret_key, fresh.secret_key) ||
			  !same(was.session_token, fresh.session_token);
		s->credentials = fresh;
		fresh = was;
	}
	copy_credentials(&s->credentials, ret);
	pthread_mutex_unlock(&s->lock);
	s3_credentials_fini(&fresh);
	if (ret_changed != NULL)
		*ret_changed = changed;
}

static bool is_host(const char *s, size_t len)
{
	AUTO_STR host = str_ndup(s, len);
	const char *colon = strrchr(host, ':');
	int64_t port;

	if (len == 0 || len > HOST_MAX)
		return false;
	if (host[0] == '[')
		return strspn(host, "[]0123456789abcdefABCDEF:.") == len && strchr(host, ']') != NULL;
	if (colon != NULL && text_parse_int(colon + 1, 1, 65535, &port) != OK)
		return false;
	return strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-") ==
		   (colon != NULL ? (size_t)(colon - host) : len) &&
	       host[0] != ':';
}

/* "https://host:port" and nothing behind it. */
static int check_endpoint(const struct table *t, const char *key, const char *url)
{
	const char *host = text_has_prefix(url, "https://") ? url + 8 : text_has_prefix(url, "http://") ? url + 7 : "";

	return is_host(host, strlen(host))
		   ? OK
		   : table_wrong(t, key, "https:// or http://, a host and perhaps a port, with nothing behind them");
}

/* The port that its scheme implies is no part of what a client says as Host. */
static char *host_header(const char *authority, bool tls)
{
	const char *implied = tls ? ":443" : ":80";
	size_t len = strlen(authority) - (text_has_suffix(authority, implied) ? strlen(implied) : 0);

	return str_ndup(authority, len);
}

static void set_place(const struct s3 *s, const char *url, struct s3_place *ret)
{
	bool tls = text_has_prefix(url, "https://");
	const char *scheme = tls ? "https://" : "http://";
	AUTO_STR authority =
	    s->in_path ? str_dup(url + strlen(scheme)) : str_printf("%s.%s", s->bucket, url + strlen(scheme));

	ret->base = str_printf("%s%s", scheme, authority);
	ret->host = host_header(authority, tls);
}

static bool is_prefix(const char *s)
{
	return text_is_token(s, "._-/", PREFIX_MAX) && s[0] != '/' && !text_has_suffix(s, "/") &&
	       strstr(s, "//") == NULL && strstr(s, "..") == NULL;
}

static int read_texts(struct s3 *s, const struct table *t)
{
	const char *region = "us-east-1", *bucket = NULL, *prefix = "", *ca = NULL;
	const char *access = NULL, *secret = NULL, *session = NULL;
	int rc = table_text(t, "region", &region);

	if (rc == OK)
		rc = table_need_text(t, "bucket", &bucket);
	if (rc == OK)
		rc = table_text(t, "prefix", &prefix);
	if (rc == OK)
		rc = table_text(t, "ca_file", &ca);
	if (rc == OK)
		rc = table_need_text(t, "access_key_file", &access);
	if (rc == OK)
		rc = table_need_text(t, "secret_key_file", &secret);
	if (rc == OK)
		rc = table_text(t, "session_token_file", &session);
	if (rc != OK)
		return rc;
	if (!text_is_token(bucket, ".-_", 63) || strlen(bucket) < 3)
		return table_wrong(t, "bucket", "the name of a bucket: 3 to 63 letters, digits, '.' and '-'");
	if (!text_is_token(region, "-_", REGION_MAX))
		return table_wrong(t, "region", "the name of a region, such as eu-central-1");
	if (prefix[0] != '\0' && !is_prefix(prefix))
		return table_wrong(t, "prefix", "letters, digits, '.', '_', '-' and '/' in the middle");
	s->region = str_dup(region);
	s->bucket = str_dup(bucket);
	s->prefix = str_dup(prefix);
	s->ca_file = str_dup(ca);
	s->access_key_file = str_dup(access);
	s->secret_key_file = str_dup(secret);
	s->session_token_file = str_dup(session);
	return OK;
}

/* Amazon wants the bucket in the host's name, where its certificate allows that; servers of one's own have it in the
 * path. */
static int read_places(struct s3 *s, const struct table *t)
{
	const char *endpoint = NULL, *outer = NULL;
	AUTO_STR amazon = str_printf("https://s3.%s.amazonaws.com", s->region);
	int rc = table_text(t, "endpoint", &endpoint);

	if (rc == OK && endpoint != NULL)
		rc = check_endpoint(t, "endpoint", endpoint);
	if (rc == OK)
		rc = table_text(t, "public_endpoint", &outer);
	if (rc == OK && outer != NULL)
		rc = check_endpoint(t, "public_endpoint", outer);
	s->in_path = endpoint != NULL || strchr(s->bucket, '.') != NULL;
	if (rc == OK)
		rc = table_bool(t, "path_style", &s->in_path);
	s->direct = true;
	if (rc == OK)
		rc = table_bool(t, "direct_downloads", &s->direct);
	if (rc != OK)
		return rc;
	if (endpoint == NULL)
		endpoint = amazon;
	set_place(s, endpoint, &s->inner);
	set_place(s, outer != NULL ? outer : endpoint, &s->outer);
	return OK;
}

int s3_read_settings(struct s3 *s, const json_t *json, struct why *why)
{
	static const char *const keys[] = {"endpoint", "public_endpoint", "region", "bucket", "prefix", "path_style",
	    "direct_downloads", "ca_file", "access_key_file", "secret_key_file", "session_token_file", NULL};
	const struct table t = {.json = json, .where = WHERE, .why = why};
	int rc = table_keys(&t, keys);

	if (rc == OK)
		rc = read_texts(s, &t);
	if (rc == OK)
		rc = read_places(s, &t);
	if (rc == OK)
		rc = read_credentials(s, &s->credentials, why);
	s->credentials_ms = clock_mono_ms();
	return rc;
}

static void place_fini(struct s3_place *p)
{
	free(p->base);
	free(p->host);
}

void s3_settings_fini(struct s3 *s)
{
	place_fini(&s->inner);
	place_fini(&s->outer);
	free(s->region);
	free(s->bucket);
	free(s->prefix);
	free(s->ca_file);
	free(s->access_key_file);
	free(s->secret_key_file);
	free(s->session_token_file);
	s3_credentials_fini(&s->credentials);
}
