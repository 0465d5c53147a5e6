#include "base/id.h"
#include "base/errors.h"
#include "base/mem.h"
#include <ctype.h>
#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <unistd.h>

#define HASH_PIECE ((size_t)1024 * 1024)

void id_init(void)
{
	ENSURE(sodium_init() >= 0);
}

void id_hex(char *out, size_t n_bytes)
{
	unsigned char b[64];

	ENSURE(n_bytes <= sizeof b);
	randombytes_buf(b, n_bytes);
	sodium_bin2hex(out, n_bytes * 2 + 1, b, n_bytes);
}

void id_uuid(char out[UUID_LEN])
{
	unsigned char b[16];
	char hex[33];

	randombytes_buf(b, sizeof b);
	b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
	b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
	sodium_bin2hex(hex, sizeof hex, b, sizeof b);
	snprintf(out, UUID_LEN, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12, hex + 16, hex + 20);
}

char *id_new(const char *prefix)
{
	char u[UUID_LEN];

	id_uuid(u);
	return str_printf("%s%s", prefix, u);
}

uint64_t id_random64(void)
{
	uint64_t v;

	randombytes_buf(&v, sizeof v);
	return v;
}

uint32_t id_random_below(uint32_t bound)
{
	return randombytes_uniform(bound);
}

bool id_is(const char *s, const char *prefix)
{
	size_t n = strlen(prefix);

	if (strncmp(s, prefix, n) != 0 || strlen(s) != n + 36)
		return false;
	s += n;
	for (int i = 0; i < 36; i++) {
		bool dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? s[i] != '-' : !isxdigit((unsigned char)s[i]))
			return false;
	}
	return true;
}

void id_lower(char *s)
{
	for (; *s != '\0'; s++)
		*s = (char)tolower((unsigned char)*s);
}

void sha256_hex(const void *bytes, size_t len, char out[SHA256_HEX_LEN])
{
	unsigned char h[crypto_hash_sha256_BYTES];

	crypto_hash_sha256(h, bytes, len);
	sodium_bin2hex(out, SHA256_HEX_LEN, h, sizeof h);
}

bool sha256_hex_fd(int fd, bool (*stop)(void *ctx), void *ctx, char out[SHA256_HEX_LEN], int64_t *ret_len)
{
	unsigned char h[crypto_hash_sha256_BYTES];
	char *piece = mem_alloc(HASH_PIECE);
	crypto_hash_sha256_state st;
	int64_t at = 0;
	ssize_t n;

	crypto_hash_sha256_init(&st);
	while ((n = pread(fd, piece, HASH_PIECE, at)) > 0) {
		crypto_hash_sha256_update(&st, (const unsigned char *)piece, (unsigned long long)n);
		at += n;
		if (stop != NULL && stop(ctx)) {
			errno = ECANCELED;
			n = -1;
			break;
		}
	}
	free(piece);
	crypto_hash_sha256_final(&st, h);
	sodium_bin2hex(out, SHA256_HEX_LEN, h, sizeof h);
	if (ret_len != NULL)
		*ret_len = at;
	return n == 0;
}

void hmac_sha256(const void *key, size_t key_len, const void *bytes, size_t len, unsigned char out[HMAC_SHA256_LEN])
{
	crypto_auth_hmacsha256_state st;

	crypto_auth_hmacsha256_init(&st, key, key_len);
	crypto_auth_hmacsha256_update(&st, bytes, len);
	crypto_auth_hmacsha256_final(&st, out);
	sodium_memzero(&st, sizeof st);
}

bool secret_equal(const void *a, const void *b, size_t len)
{
	return sodium_memcmp(a, b, len) == 0;
}

static char *encode(const void *bytes, size_t len, int variant)
{
	size_t cap = sodium_base64_encoded_len(len, variant);
	char *out = mem_alloc(cap);

	return sodium_bin2base64(out, cap, bytes, len, variant);
}

char *base64_encode(const void *bytes, size_t len)
{
	return encode(bytes, len, sodium_base64_VARIANT_ORIGINAL);
}

char *base64url_encode(const void *bytes, size_t len)
{
	return encode(bytes, len, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

static int decode(const char *s, size_t len, int variant, char **ret_bytes, size_t *ret_len)
{
	size_t cap = len / 4 * 3 + 4;
	size_t got;
	AUTO_STR out = NULL;

	while (len > 0 && s[len - 1] == '=' && len % 4 != 1)
		len--;
	out = mem_alloc(cap);
	if (sodium_base642bin((unsigned char *)out, cap - 1, s, len, NULL, &got, NULL, variant) != 0)
		return ERR_INVALID;
	out[got] = '\0';
	*ret_bytes = TAKE(out);
	*ret_len = got;
	return OK;
}

int base64_decode(const char *s, size_t len, char **ret_bytes, size_t *ret_len)
{
	return decode(s, len, sodium_base64_VARIANT_ORIGINAL_NO_PADDING, ret_bytes, ret_len);
}

int base64url_decode(const char *s, size_t len, char **ret_bytes, size_t *ret_len)
{
	return decode(s, len, sodium_base64_VARIANT_URLSAFE_NO_PADDING, ret_bytes, ret_len);
}
