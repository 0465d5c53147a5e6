/* net/grpc.h: gRPC message framing (five byte prefix) and statuses, without I/O.
 * Source: the gRPC over HTTP/2 protocol document. Thread: the owner's. */
#pragma once
#include "base/strbuf.h"

enum grpc_status {
	GRPC_OK = 0,
	GRPC_CANCELLED = 1,
	GRPC_INVALID_ARGUMENT = 3,
	GRPC_DEADLINE_EXCEEDED = 4,
	GRPC_PERMISSION_DENIED = 7,
	GRPC_RESOURCE_EXHAUSTED = 8,
	GRPC_FAILED_PRECONDITION = 9,
	GRPC_UNIMPLEMENTED = 12,
	GRPC_INTERNAL = 13,
	GRPC_UNAVAILABLE = 14,
	GRPC_UNAUTHENTICATED = 16
};

/* Appends prefix and message. */
int grpc_frame(struct strbuf *out, const void *msg, size_t len);

struct grpc_reader {
	struct strbuf in;
	size_t taken; /* bytes of `in` handed out by the last grpc_reader_next */
	size_t max_msg; /* longer prefixes are refused before anything is stored */
};
void grpc_reader_init(struct grpc_reader *r, size_t max_msg);
void grpc_reader_fini(struct grpc_reader *r);
/* Stores bytes. ERR_TOO_LARGE as soon as a prefix names more than max_msg; ERR_PROTOCOL for the compressed flag. */
int grpc_reader_feed(struct grpc_reader *r, const void *bytes, size_t len) MUST_USE;
/* Next whole message, borrowed until the next call of any grpc_reader function; ERR_EMPTY if there is none; errors as
 * above. */
int grpc_reader_next(struct grpc_reader *r, const void **ret_msg, size_t *ret_len) MUST_USE;

/* grpc-message header value: percent-encoded as the protocol asks. malloc'ed. */
char *grpc_message_encode(const char *text);
char *grpc_message_decode(const char *value);
