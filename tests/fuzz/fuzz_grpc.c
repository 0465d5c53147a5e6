/* gRPC framing and its header texts. First byte: size of the pieces. The messages must be the same however the bytes
 * are cut, and what is framed must come back as it was. */
#include "base/errors.h"
#include "base/mem.h"
#include "net/grpc.h"
#include <string.h>

#define MESSAGE_MAX 300

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Takes what is there; OK or why it ended. */
static int take_messages(struct grpc_reader *r, struct strbuf *ret)
{
	const void *msg;
	size_t len;
	int rc;

	while ((rc = grpc_reader_next(r, &msg, &len)) == OK) {
		ENSURE(len <= MESSAGE_MAX);
		IGNORE(grpc_frame(ret, msg, len));
	}
	return rc == ERR_EMPTY ? OK : rc;
}

/* The messages framed again, and the error the reader ended with. */
static struct strbuf read_all(const uint8_t *data, size_t size, size_t piece, int *ret_rc)
{
	struct strbuf out = STRBUF((size_t)1024 * 1024);
	struct grpc_reader r;
	int rc = OK;

	grpc_reader_init(&r, MESSAGE_MAX);
	for (size_t at = 0; at < size && rc == OK; at += piece) {
		int fed = grpc_reader_feed(&r, data + at, MIN(piece, size - at));

		rc = take_messages(&r, &out);
		ENSURE(fed == rc);
	}
	/* A reader that ended stays so. */
	if (rc != OK)
		ENSURE(grpc_reader_feed(&r, "", 0) == rc);
	grpc_reader_fini(&r);
	*ret_rc = rc;
	return out;
}

static void check_texts(const char *s)
{
	AUTO_STR plain = grpc_message_decode(s);
	AUTO_STR encoded = grpc_message_encode(s);
	AUTO_STR back = grpc_message_decode(encoded);

	ENSURE(strlen(plain) <= strlen(s) && strcmp(back, s) == 0);
	for (const char *c = encoded; *c != '\0'; c++)
		ENSURE(*c >= 0x20 && *c <= 0x7e);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int rc_whole, rc_pieces;

	if (size == 0)
		return 0;
	AUTO_FINI(strbuf) whole = read_all(data + 1, size - 1, size, &rc_whole);
	AUTO_FINI(strbuf) pieces = read_all(data + 1, size - 1, (size_t)data[0] % 20 + 1, &rc_pieces);
	AUTO_STR text = str_ndup((const char *)data + 1, size - 1);

	ENSURE(rc_whole == rc_pieces && whole.len == pieces.len && whole.len <= size - 1);
	ENSURE(memcmp(strbuf_str(&whole), strbuf_str(&pieces), whole.len) == 0);
	ENSURE(memcmp(strbuf_str(&whole), data + 1, whole.len) == 0);
	check_texts(text);
	return 0;
}
