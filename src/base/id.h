/* base/id.h: random identifiers and small encodings of bytes.
 * Thread: any; call id_init() once at start. Randomness is libsodium's. */
#pragma once
#include "base/macros.h"

void id_init(void);

#define UUID_LEN 37
/* Random UUID (version 4), lowercase. */
void id_uuid(char out[UUID_LEN]);
/* `prefix` + uuid, malloc'ed: id_new("run-"). */
char *id_new(const char *prefix);
/* n random bytes as 2n hex digits plus NUL. */
void id_hex(char *out, size_t n_bytes);
uint64_t id_random64(void);
/* Uniform in [0, bound). */
uint32_t id_random_below(uint32_t bound);
/* True for `prefix` + uuid in any letter case. */
bool id_is(const char *s, const char *prefix);
/* Lowercases in place. */
void id_lower(char *s);

#define SHA256_HEX_LEN 65
void sha256_hex(const void *bytes, size_t len, char out[SHA256_HEX_LEN]);
/* Of an open file from its first byte to its end, whatever its offset; *ret_len (may be NULL): how many bytes those
 * were. `stop` (may be NULL) is asked after every MiB or so. False: it could not be read (errno), or was stopped. */
bool sha256_hex_fd(int fd, bool (*stop)(void *ctx), void *ctx, char out[SHA256_HEX_LEN], int64_t *ret_len);

#define HMAC_SHA256_LEN 32
void hmac_sha256(const void *key, size_t key_len, const void *bytes, size_t len, unsigned char out[HMAC_SHA256_LEN]);
/* Compares secrets: how long it takes says nothing about where they differ. */
bool secret_equal(const void *a, const void *b, size_t len);

/* Standard base64 (RFC 4648), with padding. malloc'ed. */
char *base64_encode(const void *bytes, size_t len);
/* URL-safe alphabet without padding. */
char *base64url_encode(const void *bytes, size_t len);
/* Padding optional; no line breaks. OK, or ERR_INVALID. *ret_bytes is malloc'ed and NUL-terminated. */
int base64_decode(const char *s, size_t len, char **ret_bytes, size_t *ret_len) MUST_USE;
int base64url_decode(const char *s, size_t len, char **ret_bytes, size_t *ret_len) MUST_USE;
