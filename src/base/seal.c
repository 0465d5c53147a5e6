#include "base/seal.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NONCE_LEN crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_LEN crypto_aead_xchacha20poly1305_ietf_ABYTES
#define HEX_LEN (SEAL_KEY_LEN * 2)
#define B64 sodium_base64_VARIANT_URLSAFE_NO_PADDING

_Static_assert(SEAL_KEY_LEN == crypto_aead_xchacha20poly1305_ietf_KEYBYTES, "the cipher's own length");

struct seal {
	unsigned char key[SEAL_KEY_LEN];
};

void str_wipe(char **s)
{
	if (*s != NULL)
		sodium_memzero(*s, strlen(*s));
	str_free(s);
}

void seal_free(struct seal **s)
{
	if (*s != NULL)
		sodium_memzero(*s, sizeof **s);
	free(*s);
	*s = NULL;
}

/* Written beside its place and linked there: a crash leaves no half key, and of two servers that come at once the first
 * one's key is the key of both. */
static int make_key_file(const char *path, struct why *why)
{
	AUTO_STR beside = str_printf("%s.%ld.new", path, (long)getpid());
	unsigned char key[SEAL_KEY_LEN];
	char hex[HEX_LEN + 2];
	int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600), rc = OK;

	if (fd < 0)
		return why_set(why, ERR_IO, "%s cannot be made: %s", beside, strerror(errno));
	randombytes_buf(key, sizeof key);
	sodium_bin2hex(hex, sizeof hex, key, sizeof key);
	hex[HEX_LEN] = '\n';
	if (write(fd, hex, HEX_LEN + 1) != HEX_LEN + 1 || fsync(fd) < 0)
		rc = why_set(why, ERR_IO, "%s cannot be written: %s", beside, strerror(errno));
	close(fd);
	if (rc == OK && link(beside, path) < 0 && errno != EEXIST)
		rc = why_set(why, ERR_IO, "%s cannot be made: %s", path, strerror(errno));
	unlink(beside);
	sodium_memzero(key, sizeof key);
	sodium_memzero(hex, sizeof hex);
	return rc;
}

static int read_key(int fd, const char *path, struct seal *s, struct why *why)
{
	char hex[HEX_LEN + 2];
	size_t len = 0;
	struct stat st;
	ssize_t n = fstat(fd, &st) < 0 ? -1 : read(fd, hex, sizeof hex);
	bool ok;

	if (n < 0)
		return why_set(why, ERR_IO, "%s cannot be read: %s", path, strerror(errno));
	if ((st.st_mode & 077) != 0)
		return why_set(why, ERR_INVALID, "%s may be read by others: chmod 600", path);
	while (n > 0 && (hex[n - 1] == '\n' || hex[n - 1] == '\r'))
		n--;
	ok = n == HEX_LEN && sodium_hex2bin(s->key, sizeof s->key, hex, HEX_LEN, NULL, &len, NULL) == 0 &&
	     len == SEAL_KEY_LEN;
	sodium_memzero(hex, sizeof hex);
	return ok ? OK : why_set(why, ERR_INVALID, "%s must hold one line of 64 hexadecimal digits", path);
}

int seal_load(const char *path, bool make, struct seal **ret, struct why *why)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = OK;
	struct seal *s;

	if (fd < 0 && errno == ENOENT && make) {
		rc = make_key_file(path, why);
		if (rc != OK)
			return rc;
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	if (fd < 0)
		return why_set(why, ERR_IO, "%s cannot be opened: %s", path, strerror(errno));
	s = mem_zalloc(sizeof *s);
	rc = read_key(fd, path, s, why);
	close(fd);
	if (rc == OK)
		*ret = TAKE(s);
	seal_free(&s);
	return rc;
}

char *seal_text(const struct seal *s, const char *of, const char *plain)
{
	size_t len = strlen(plain), raw_len = NONCE_LEN + len + TAG_LEN, text_len;
	unsigned char *raw = mem_alloc(raw_len);
	char *text;

	randombytes_buf(raw, NONCE_LEN);
	crypto_aead_xchacha20poly1305_ietf_encrypt(raw + NONCE_LEN, NULL, (const unsigned char *)plain, len,
	    (const unsigned char *)of, strlen(of), NULL, raw, s->key);
	text_len = sodium_base64_ENCODED_LEN(raw_len, B64);
	text = mem_alloc(text_len);
	sodium_bin2base64(text, text_len, raw, raw_len, B64);
	free(raw);
	return text;
}

int seal_try(const struct seal *s, const char *of, const char *sealed, char **ret)
{
	size_t text_len = strlen(sealed), raw_len = 0;
	unsigned char *raw = mem_alloc(text_len + 1);
	char *plain = mem_zalloc(text_len + 1);
	bool ok = sodium_base642bin(raw, text_len, sealed, text_len, NULL, &raw_len, NULL, B64) == 0 &&
		  raw_len >= NONCE_LEN + TAG_LEN &&
		  crypto_aead_xchacha20poly1305_ietf_decrypt((unsigned char *)plain, NULL, NULL, raw + NONCE_LEN,
		      raw_len - NONCE_LEN, (const unsigned char *)of, strlen(of), raw, s->key) == 0;

	free(raw);
	if (ok) {
		*ret = plain;
		return OK;
	}
	free(plain);
	return ERR_INVALID;
}

int seal_open(const struct seal *s, const char *of, const char *sealed, char **ret)
{
	if (seal_try(s, of, sealed, ret) == OK)
		return OK;
	log_error("seal.not_opened", "of=%s reason=\"sealed with another key, or damaged\"", log_quote(of));
	return ERR_INTERNAL;
}
