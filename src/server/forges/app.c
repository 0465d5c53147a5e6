/* Tokens of a GitHub App: docs.github.com, "Generating an installation access token for a GitHub App". Each is good for
 * one repository and an hour, and is kept until five minutes before its end. */
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/seal.h"
#include "server/forges/forges_priv.h"
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <string.h>
#include <time.h>

#define KEPT_MAX 256
#define BEFORE_END_MS (5 * 60 * 1000)
#define JWT_LIFE_S 540
#define JWT_BACK_S 60 /* our clock may be ahead of theirs */

struct app_token {
	char *repo, *token;
	int64_t until_ms; /* wall time */
};

struct forge_app {
	char *id;
	EVP_PKEY *key;
	pthread_mutex_t mtx; /* a leaf; guards what follows */
	struct app_token kept[KEPT_MAX];
	size_t next; /* the one that makes room */
};

int forge_app_new(const char *id, const char *pem, struct forge_app **ret, struct why *why)
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	EVP_PKEY *key = bio != NULL ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)"") : NULL;
	struct forge_app *a;

	BIO_free(bio);
	if (key == NULL || EVP_PKEY_base_id(key) != EVP_PKEY_RSA) {
		EVP_PKEY_free(key);
		return why_set(why, ERR_INVALID, "it holds no RSA private key in PEM without a passphrase");
	}
	a = NEW(struct forge_app);
	a->id = str_dup(id);
	a->key = key;
	pthread_mutex_init(&a->mtx, NULL);
	*ret = a;
	return OK;
}

static void app_token_fini(struct app_token *t)
{
	str_wipe(&t->token);
	str_free(&t->repo);
}

void forge_app_free(struct forge_app **ap)
{
	struct forge_app *a = TAKE(*ap);

	if (a == NULL)
		return;
	for (size_t i = 0; i < KEPT_MAX; i++)
		app_token_fini(&a->kept[i]);
	EVP_PKEY_free(a->key);
	pthread_mutex_destroy(&a->mtx);
	free(a->id);
	free(a);
}

static char *sign(EVP_PKEY *key, const char *text)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char out[1024];
	size_t n = sizeof out;

	/* With a key that was read nothing of it can fail but memory. */
	ENSURE(ctx != NULL && EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
	       EVP_DigestSign(ctx, out, &n, (const unsigned char *)text, strlen(text)) == 1);
	EVP_MD_CTX_free(ctx);
	return base64url_encode(out, n);
}

char *forge_app_jwt(struct forge_app *a, int64_t now_ms)
{
	static const char header[] = "{\"alg\":\"RS256\",\"typ\":\"JWT\"}";
	int64_t now = (now_ms >= 0 ? now_ms : clock_wall_ms()) / 1000;
	AUTO_JSON claims = json_pack("{s:I, s:I, s:s}", "iat", (json_int_t)(now - JWT_BACK_S), "exp",
	    (json_int_t)(now + JWT_LIFE_S), "iss", a->id);
	AUTO_STR text = json_text(claims);
	AUTO_STR one = base64url_encode(header, strlen(header));
	AUTO_STR two = base64url_encode(text, strlen(text));
	AUTO_STR both = str_printf("%s.%s", one, two);
	AUTO_STR three = sign(a->key, both);

	return str_printf("%s.%s", both, three);
}

static char *find_kept(struct forge_app *a, const char *repo, int64_t now)
{
	char *token = NULL;

	pthread_mutex_lock(&a->mtx);
	for (size_t i = 0; i < KEPT_MAX && token == NULL; i++)
		if (a->kept[i].repo != NULL && a->kept[i].until_ms > now && strcasecmp(a->kept[i].repo, repo) == 0)
			token = str_dup(a->kept[i].token);
	pthread_mutex_unlock(&a->mtx);
	return token;
}

static void keep_token(struct forge_app *a, const char *repo, const char *token, int64_t until_ms)
{
	size_t at = KEPT_MAX;

	pthread_mutex_lock(&a->mtx);
	for (size_t i = 0; i < KEPT_MAX; i++)
		if (a->kept[i].repo != NULL && strcasecmp(a->kept[i].repo, repo) == 0)
			at = i;
	if (at == KEPT_MAX)
		at = a->next++ % KEPT_MAX;
	app_token_fini(&a->kept[at]);
	a->kept[at] = (struct app_token){str_dup(repo), str_dup(token), until_ms};
	pthread_mutex_unlock(&a->mtx);
}

void forge_app_forget(struct forge_app *a, const char *token)
{
	pthread_mutex_lock(&a->mtx);
	for (size_t i = 0; i < KEPT_MAX; i++)
		if (a->kept[i].token != NULL && strcmp(a->kept[i].token, token) == 0)
			app_token_fini(&a->kept[i]);
	pthread_mutex_unlock(&a->mtx);
}

/* "2026-01-02T03:04:05Z"; 0 if it is none. */
static int64_t time_of(const char *text)
{
	struct tm tm = {0};

	return strptime(text, "%Y-%m-%dT%H:%M:%S", &tm) != NULL ? (int64_t)timegm(&tm) * 1000 : 0;
}

static int find_installation(struct forge_call *c, const char *auth, int64_t *ret)
{
	AUTO_FINI(forge_answer) answer = {0};
	AUTO_STR path = str_printf("/repos/%s/installation", c->repo);
	int rc = forge_ask_as(c, auth, "GET", path, NULL, &answer);

	if (rc == ERR_NOT_FOUND)
		return why_set(
		    &c->why, ERR_DENIED, "the app is not installed for %s on %s", c->repo, forge_host(c->forge));
	*ret = forge_number(answer.json, "id");
	return rc;
}

int forge_app_token(struct forge_call *c, struct forge_app *a, char **ret)
{
	AUTO_FINI(forge_answer) answer = {0};
	AUTO_STR jwt = NULL;
	AUTO_STR auth = NULL;
	AUTO_STR path = NULL;
	AUTO_JSON body = NULL;
	const char *name = strrchr(c->repo, '/'), *token;
	int64_t now = clock_wall_ms(), installation = 0, until;
	int rc;

	*ret = find_kept(a, c->repo, now);
	if (*ret != NULL)
		return OK;
	jwt = forge_app_jwt(a, now);
	auth = str_printf("Bearer %s", jwt);
	rc = find_installation(c, auth, &installation);
	if (rc != OK)
		return rc;
	/* Narrowed to the one repository. */
	body = json_pack("{s:[s]}", "repositories", name != NULL ? name + 1 : c->repo);
	path = str_printf("/app/installations/%lld/access_tokens", (long long)installation);
	rc = forge_ask_as(c, auth, "POST", path, body, &answer);
	if (rc == ERR_DENIED)
		return why_set(&c->why, rc, "the installation of the app on %s is suspended", forge_host(c->forge));
	if (rc != OK)
		return rc;
	token = json_word(answer.json, "token");
	until = time_of(json_word(answer.json, "expires_at"));
	if (token[0] == '\0' || strpbrk(token, " \r\n") != NULL)
		return why_set(&c->why, ERR_PROTOCOL, "%s gave no token", forge_host(c->forge));
	keep_token(a, c->repo, token, until - BEFORE_END_MS);
	*ret = str_dup(token);
	return OK;
}
