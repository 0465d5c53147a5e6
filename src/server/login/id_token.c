#include "server/login/id_token.h"
#include "base/id.h"
#include "base/mem.h"
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <string.h>

#define TOKEN_MAX ((size_t)64 * 1024)
#define KEYS_MAX 100
#define SKEW_S 60
#define OLD_S ((int64_t)10 * 60)
#define RSA_BITS_MIN 2048
#define ES256_HALF 32

/* The three parts of a token: header and claims as JSON, the signature as bytes, and what was signed. */
struct parts {
	json_t *header, *claims;
	char *signature;
	size_t signature_len, signed_len;
};

static void parts_fini(struct parts *p)
{
	json_decref(p->header);
	json_decref(p->claims);
	free(p->signature);
}

static json_t *part_json(const char *s, size_t len)
{
	AUTO_STR text = NULL;
	json_t *o = NULL;
	size_t n;

	if (base64url_decode(s, len, &text, &n) != OK || json_parse_strict(text, n, &o, NULL) != OK)
		return NULL;
	if (json_is_object(o))
		return o;
	json_decref(o);
	return NULL;
}

static int take_apart_token(const char *token, struct parts *p)
{
	const char *a = strchr(token, '.'), *b = a != NULL ? strchr(a + 1, '.') : NULL;

	if (b == NULL || strchr(b + 1, '.') != NULL || strlen(token) > TOKEN_MAX)
		return ERR_INVALID;
	p->header = part_json(token, (size_t)(a - token));
	p->claims = part_json(a + 1, (size_t)(b - a - 1));
	p->signed_len = (size_t)(b - token);
	if (p->header == NULL || p->claims == NULL)
		return ERR_INVALID;
	return base64url_decode(b + 1, strlen(b + 1), &p->signature, &p->signature_len);
}

static const char *member(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s != NULL ? s : "";
}

/* A number of a JWK, big-endian. NULL: it has none of that name. */
static BIGNUM *number_of(const json_t *jwk, const char *name)
{
	const char *text = member(jwk, name);
	AUTO_STR bytes = NULL;
	size_t len;

	if (text[0] == '\0' || base64url_decode(text, strlen(text), &bytes, &len) != OK || len > 1024)
		return NULL;
	return BN_bin2bn((const unsigned char *)bytes, (int)len, NULL);
}

static EVP_PKEY *key_of_params(const char *type, OSSL_PARAM_BLD *b)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
	OSSL_PARAM *params = OSSL_PARAM_BLD_to_param(b);
	EVP_PKEY *key = NULL;

	if (ctx == NULL || params == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
	    EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
		key = NULL;
	OSSL_PARAM_free(params);
	EVP_PKEY_CTX_free(ctx);
	return key;
}

static EVP_PKEY *rsa_key(const json_t *jwk)
{
	BIGNUM *n = number_of(jwk, "n"), *e = number_of(jwk, "e");
	OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
	EVP_PKEY *key = NULL;

	ENSURE(b != NULL);
	if (n != NULL && e != NULL && BN_num_bits(n) >= RSA_BITS_MIN &&
	    OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_N, n) == 1 &&
	    OSSL_PARAM_BLD_push_BN(b, OSSL_PKEY_PARAM_RSA_E, e) == 1)
		key = key_of_params("RSA", b);
	OSSL_PARAM_BLD_free(b);
	BN_free(n);
	BN_free(e);
	return key;
}

static EVP_PKEY *ec_key(const json_t *jwk)
{
	BIGNUM *x = number_of(jwk, "x"), *y = number_of(jwk, "y");
	OSSL_PARAM_BLD *b = OSSL_PARAM_BLD_new();
	unsigned char point[1 + 2 * ES256_HALF] = {4}; /* not compressed */
	EVP_PKEY *key = NULL;

	ENSURE(b != NULL);
	/* That the point is on the curve is checked by fromdata. */
	if (strcmp(member(jwk, "crv"), "P-256") == 0 && x != NULL && y != NULL &&
	    BN_bn2binpad(x, point + 1, ES256_HALF) == ES256_HALF &&
	    BN_bn2binpad(y, point + 1 + ES256_HALF, ES256_HALF) == ES256_HALF &&
	    OSSL_PARAM_BLD_push_utf8_string(b, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) == 1 &&
	    OSSL_PARAM_BLD_push_octet_string(b, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof point) == 1)
		key = key_of_params("EC", b);
	OSSL_PARAM_BLD_free(b);
	BN_free(x);
	BN_free(y);
	return key;
}

/* "r || s" of a JWT as the DER that OpenSSL reads; malloc'ed by OpenSSL, NULL if it has not the length. */
static unsigned char *der_of(const char *raw, size_t len, size_t *ret_len)
{
	ECDSA_SIG *sig;
	unsigned char *der = NULL;
	BIGNUM *r, *s;
	int n;

	if (len != (size_t)2 * ES256_HALF)
		return NULL;
	sig = ECDSA_SIG_new();
	r = BN_bin2bn((const unsigned char *)raw, ES256_HALF, NULL);
	s = BN_bin2bn((const unsigned char *)raw + ES256_HALF, ES256_HALF, NULL);
	ENSURE(sig != NULL && r != NULL && s != NULL && ECDSA_SIG_set0(sig, r, s) == 1);
	n = i2d_ECDSA_SIG(sig, &der);
	ECDSA_SIG_free(sig);
	*ret_len = n > 0 ? (size_t)n : 0;
	return n > 0 ? der : NULL;
}

static bool verifies(EVP_PKEY *key, const char *text, size_t len, const unsigned char *sig, size_t sig_len)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx != NULL && EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
		  EVP_DigestVerify(ctx, sig, sig_len, (const unsigned char *)text, len) == 1;

	EVP_MD_CTX_free(ctx);
	return ok;
}

/* The type of key decides how it verifies, so no algorithm can be talked into another's key. */
static bool key_signed(const json_t *jwk, const char *alg, const char *token, const struct parts *p)
{
	bool ec = strcmp(alg, "ES256") == 0, ok = false;
	EVP_PKEY *key = ec ? ec_key(jwk) : rsa_key(jwk);
	unsigned char *der = NULL;
	size_t der_len = 0;

	if (key == NULL)
		return false;
	if (!ec) {
		ok = verifies(key, token, p->signed_len, (const unsigned char *)p->signature, p->signature_len);
	} else {
		der = der_of(p->signature, p->signature_len, &der_len);
		ok = der != NULL && verifies(key, token, p->signed_len, der, der_len);
		OPENSSL_free(der);
	}
	EVP_PKEY_free(key);
	return ok;
}

/* Whether the key is meant for such a token: its type, what it is for, its name if the token names one. */
static bool key_fits(const json_t *jwk, const char *alg, const char *kid)
{
	const char *use = member(jwk, "use"), *of = member(jwk, "alg");

	return strcmp(member(jwk, "kty"), strcmp(alg, "ES256") == 0 ? "EC" : "RSA") == 0 &&
	       (use[0] == '\0' || strcmp(use, "sig") == 0) && (of[0] == '\0' || strcmp(of, alg) == 0) &&
	       (kid == NULL || strcmp(member(jwk, "kid"), kid) == 0);
}

static int check_signature(const json_t *jwks, const char *token, const struct parts *p, struct why *why)
{
	const char *alg = member(p->header, "alg");
	const char *kid = json_string_value(json_object_get(p->header, "kid"));
	const json_t *keys = json_object_get(jwks, "keys"), *key;
	size_t i;

	if (strcmp(alg, "RS256") != 0 && strcmp(alg, "ES256") != 0)
		return why_set(why, ERR_DENIED, "the ID token is not signed with RS256 or ES256");
	if (json_object_get(p->header, "crit") != NULL)
		return why_set(why, ERR_DENIED, "the ID token demands extensions (crit)");
	json_array_foreach(
	    keys, i, key) if (i < KEYS_MAX && key_fits(key, alg, kid) && key_signed(key, alg, token, p)) return OK;
	return why_set(why, ERR_NOT_FOUND, "no key of the provider has signed the ID token");
}

static bool is_for(const json_t *claims, const char *client_id)
{
	const json_t *aud = json_object_get(claims, "aud"), *azp = json_object_get(claims, "azp"), *v;
	bool named = json_is_string(aud) && strcmp(json_string_value(aud), client_id) == 0;
	size_t i;

	json_array_foreach(aud, i, v) named |= json_is_string(v) && strcmp(json_string_value(v), client_id) == 0;
	if (azp != NULL || json_array_size(aud) > 1)
		named &= json_is_string(azp) && strcmp(json_string_value(azp), client_id) == 0;
	return named;
}

static bool seconds_of(const json_t *claims, const char *name, int64_t *ret)
{
	const json_t *v = json_object_get(claims, name);
	double d = json_is_number(v) ? json_number_value(v) : -1;

	if (!(d >= 0 && d < 1e12))
		return false;
	*ret = (int64_t)d;
	return true;
}

static int check_times(const json_t *claims, int64_t now_s, struct why *why)
{
	int64_t exp, iat, nbf;

	if (!seconds_of(claims, "exp", &exp) || !seconds_of(claims, "iat", &iat))
		return why_set(why, ERR_DENIED, "the ID token does not say when it was made and until when it holds");
	if (exp <= now_s - SKEW_S)
		return why_set(why, ERR_DENIED, "the ID token has expired");
	if (iat > now_s + SKEW_S ||
	    (json_object_get(claims, "nbf") != NULL && (!seconds_of(claims, "nbf", &nbf) || nbf > now_s + SKEW_S)))
		return why_set(why, ERR_DENIED, "the ID token is of the future: compare the clocks");
	if (iat < now_s - OLD_S)
		return why_set(why, ERR_DENIED, "the ID token is older than ten minutes: compare the clocks");
	return OK;
}

static int check_claims(const json_t *claims, const struct id_token_wants *w, struct why *why)
{
	const char *nonce = member(claims, "nonce"), *sub = member(claims, "sub");

	if (strcmp(member(claims, "iss"), w->issuer) != 0)
		return why_set(why, ERR_DENIED, "the ID token is of another issuer");
	if (!is_for(claims, w->client_id))
		return why_set(why, ERR_DENIED, "the ID token is for another client (aud, azp)");
	if (strlen(nonce) != strlen(w->nonce) || !secret_equal(nonce, w->nonce, strlen(nonce)))
		return why_set(why, ERR_DENIED, "the ID token is for another sign-in (nonce)");
	if (sub[0] == '\0' || strlen(sub) > 255)
		return why_set(why, ERR_DENIED, "the ID token names nobody (sub)");
	return check_times(claims, w->now_ms / 1000, why);
}

int id_token_check(const json_t *jwks, const char *token, const struct id_token_wants *w, json_t **ret, struct why *why)
{
	__attribute__((cleanup(parts_fini))) struct parts p = {0};
	int rc;

	if (take_apart_token(token, &p) != OK)
		return why_set(why, ERR_DENIED, "the ID token is not a signed JWT");
	rc = check_signature(jwks, token, &p, why);
	if (rc == OK)
		rc = check_claims(p.claims, w, why);
	if (rc == OK)
		*ret = TAKE(p.claims);
	return rc;
}
