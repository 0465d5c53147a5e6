#include "base/text.h"
#include "base/terminal.h"
#include "base/errors.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Length of the valid sequence at s, or 0. Table 3-7 of the Unicode standard. */
static size_t utf8_sequence(const unsigned char *s, size_t len)
{
	unsigned char lo = 0x80, hi = 0xbf;
	size_t need;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		need = 2;
	else if (s[0] >= 0xe0 && s[0] <= 0xef)
		need = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		need = 4;
	else
		return 0;
	if (len < need)
		return 0;
	if (s[0] == 0xe0)
		lo = 0xa0;
	else if (s[0] == 0xed)
		hi = 0x9f;
	else if (s[0] == 0xf0)
		lo = 0x90;
	else if (s[0] == 0xf4)
		hi = 0x8f;
	if (s[1] < lo || s[1] > hi)
		return 0;
	for (size_t i = 2; i < need; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return need;
}

size_t text_utf8_decode(const char *s, size_t len, uint32_t *ret)
{
	size_t n = len > 0 ? utf8_sequence((const unsigned char *)s, len) : 0;
	uint32_t c;

	if (n == 0)
		return 0;
	c = (unsigned char)s[0];
	if (n > 1)
		c &= 0x7fu >> n;
	for (size_t i = 1; i < n; i++)
		c = c << 6 | ((unsigned char)s[i] & 0x3f);
	*ret = c;
	return n;
}

/* How many of the first bytes are ASCII, in eights: most text is nothing else. */
static size_t ascii_run(const char *s, size_t len)
{
	size_t n = 0;
	uint64_t eight;

	for (; len - n >= sizeof eight; n += sizeof eight) {
		memcpy(&eight, s + n, sizeof eight);
		if ((eight & UINT64_C(0x8080808080808080)) != 0)
			break;
	}
	return n;
}

bool text_is_utf8(const char *s, size_t len)
{
	for (size_t i = ascii_run(s, len); i < len;) {
		size_t n = utf8_sequence((const unsigned char *)s + i, len - i);

		if (n == 0)
			return false;
		i += n;
	}
	return true;
}

void text_utf8_mend(char *s)
{
	for (size_t i = 0, len = strlen(s); i < len;) {
		size_t n = utf8_sequence((const unsigned char *)s + i, len - i);

		if (n == 0)
			s[i] = '?';
		i += MAX(n, (size_t)1);
	}
}

size_t text_code_points(const char *s)
{
	size_t n = 0;

	for (; *s != '\0'; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

char *text_to_utf8(const char *s, size_t len)
{
	struct strbuf b = STRBUF(len * 3 + 1);

	for (size_t i = 0; i < len;) {
		size_t n = s[i] == '\0' ? 0 : utf8_sequence((const unsigned char *)s + i, len - i);

		if (n == 0) {
			strbuf_adds(&b, "\xef\xbf\xbd");
			i++;
		} else {
			strbuf_add(&b, s + i, n);
			i += n;
		}
	}
	return strbuf_take(&b);
}

size_t text_utf8_cut(const char *s, size_t len, size_t max)
{
	size_t n = MIN(len, max);

	if (n == len)
		return n;
	while (n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80)
		n--;
	return n;
}

size_t text_utf8_whole(const char *s, size_t len)
{
	/* A sequence has at most three bytes behind its first. */
	for (size_t back = 1; back <= 3 && back <= len; back++) {
		unsigned char c = (unsigned char)s[len - back];

		if ((c & 0xc0) == 0x80)
			continue;
		if ((c >= 0xc0 && back < 2) || (c >= 0xe0 && back < 3) || (c >= 0xf0 && back < 4))
			return len - back;
		break;
	}
	return len;
}

bool text_is_git_ref(const char *s)
{
	size_t n = strlen(s);

	if (n == 0 || n > 255 || s[0] == '-' || s[0] == '/' || s[n - 1] == '/' || s[n - 1] == '.' ||
	    strcmp(s, "@") == 0)
		return false;
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];

		if (c <= 0x20 || c == 0x7f || strchr("~^:?*[\\", c) != NULL)
			return false;
		if ((c == '.' || c == '/') && (i == 0 || s[i - 1] == '/' || s[i - 1] == '.') &&
		    !(c == '.' && i > 0 && s[i - 1] != '/' && s[i - 1] != '.'))
			return false;
	}
	return strstr(s, "@{") == NULL && strstr(s, ".lock/") == NULL && !text_has_suffix(s, ".lock");
}

bool text_is_blank(const char *s)
{
	for (; *s != '\0'; s++)
		if (!isspace((unsigned char)*s))
			return false;
	return true;
}

int text_parse_int(const char *s, int64_t min, int64_t max, int64_t *ret)
{
	char *end;
	long long v;

	if (!isdigit((unsigned char)s[0]) && !(s[0] == '-' && isdigit((unsigned char)s[1])))
		return ERR_INVALID;
	errno = 0;
	v = strtoll(s, &end, 10);
	if (errno != 0 || *end != '\0' || v < min || v > max)
		return ERR_INVALID;
	*ret = v;
	return OK;
}

bool text_is_token(const char *s, const char *extra, size_t max)
{
	size_t n = strlen(s);

	if (n == 0 || n > max)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!(isascii((unsigned char)s[i]) && isalnum((unsigned char)s[i])) && strchr(extra, s[i]) == NULL)
			return false;
	return true;
}

bool text_has_prefix(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool text_has_suffix(const char *s, const char *suffix)
{
	size_t n = strlen(s), m = strlen(suffix);

	return n >= m && strcmp(s + n - m, suffix) == 0;
}

char *text_trim(const char *s)
{
	size_t n;

	while (isspace((unsigned char)*s))
		s++;
	n = strlen(s);
	while (n > 0 && isspace((unsigned char)s[n - 1]))
		n--;
	return str_ndup(s, n);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int text_percent_decode(const char *s, size_t len, char **ret)
{
	AUTO_STR out = mem_alloc(len + 1);
	size_t o = 0;

	for (size_t i = 0; i < len; i++) {
		int hi, lo;

		if (s[i] != '%') {
			out[o++] = s[i];
			continue;
		}
		if (i + 2 >= len || (hi = hex_digit(s[i + 1])) < 0 || (lo = hex_digit(s[i + 2])) < 0)
			return ERR_INVALID;
		out[o++] = (char)(hi * 16 + lo);
		i += 2;
	}
	out[o] = '\0';
	if (memchr(out, '\0', o) != NULL || !text_is_utf8(out, o))
		return ERR_INVALID;
	*ret = TAKE(out);
	return OK;
}

int text_read_file(const char *path, size_t max, char **ret, size_t *ret_len)
{
	struct strbuf b = STRBUF(max);
	char chunk[16384];
	ssize_t n;
	int rc = OK;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_from_errno(errno);
	while ((n = read(fd, chunk, sizeof chunk)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		rc = n < 0 ? err_from_errno(errno) : strbuf_add(&b, chunk, (size_t)n);
		if (rc != OK)
			break;
	}
	close(fd);
	if (rc != OK) {
		strbuf_fini(&b);
		return rc;
	}
	*ret_len = b.len;
	*ret = strbuf_take(&b);
	return OK;
}

char *text_line(const char *s, size_t max)
{
	AUTO_STR whole = text_to_utf8(s != NULL ? s : "", s != NULL ? strlen(s) : 0);
	char *out = str_ndup(whole, text_utf8_cut(whole, strlen(whole), max));
	size_t o = 0;

	for (size_t i = 0; out[i] != '\0';) {
		size_t n = terminal_control_len(out + i);

		out[o++] = n > 0 ? ' ' : out[i];
		i += n > 0 ? n : 1;
	}
	out[o] = '\0';
	return out;
}

/* The longest text that says how much is left out. */
#define MARK_MAX ((size_t)48)

char *text_cut_middle(const char *s, size_t len, size_t max, bool *ret_cut)
{
	struct strbuf b = STRBUF(MAX(max, MARK_MAX));
	size_t head, tail, room = max > MARK_MAX ? max - MARK_MAX : 0;

	if (ret_cut != NULL)
		*ret_cut = len > max;
	if (len <= max)
		return str_ndup(s, len);
	head = text_utf8_cut(s, len, room * 2 / 3);
	tail = len - (room - room * 2 / 3);
	while (tail < len && ((unsigned char)s[tail] & 0xc0) == 0x80)
		tail++;
	strbuf_add(&b, s, head);
	strbuf_addf(&b, "\n[... %zu bytes left out ...]\n", tail - head);
	strbuf_add(&b, s + tail, len - tail);
	return strbuf_take(&b);
}
