#include "agent/mcp/keep.h"
#include "agent/session/session.h"
#include "agent/session/workspace.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define HASH_SHOWN 16

static const char *const kinds[][2] = {{"audio/wav", "wav"}, {"audio/x-wav", "wav"}, {"audio/wave", "wav"},
    {"audio/mpeg", "mp3"}, {"audio/mp3", "mp3"}, {"audio/ogg", "ogg"}, {"audio/flac", "flac"}, {"audio/mp4", "m4a"},
    {"audio/aac", "aac"}, {"audio/webm", "weba"}, {"application/pdf", "pdf"}, {"application/zip", "zip"},
    {"application/gzip", "gz"}, {"application/json", "json"}, {"text/plain", "txt"}, {"text/csv", "csv"},
    {"image/png", "png"}, {"image/jpeg", "jpg"}, {"image/gif", "gif"}, {"image/webp", "webp"}, {"video/mp4", "mp4"}};

/* By its type; what is unknown is plain bytes, whatever the URI ends with: a file is not to be taken for a program. */
static const char *kind_of(const char *type)
{
	AUTO_STR word = str_ndup(type, strcspn(type, "; "));

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (strcasecmp(kinds[i][0], word) == 0)
			return kinds[i][1];
	return "bin";
}

char *mcp_keep_bytes(void *ctx, const char *data, const char *type, const char *uri)
{
	struct session *s = ctx;
	AUTO_STR bytes = NULL;
	AUTO_STR rel = NULL;
	struct place p = {0};
	struct refusal r;
	char hex[SHA256_HEX_LEN];
	size_t len;
	int rc;

	if (base64_decode(data, strlen(data), &bytes, &len) != OK)
		return NULL;
	sha256_hex(bytes, len, hex);
	rel = str_printf("artifacts/mcp/%.*s.%s", HASH_SHOWN, hex, kind_of(type));
	rc = place_find(s, rel, &p, &r);
	if (rc == OK)
		rc = place_write(s, &p, bytes, len, &r);
	place_fini(&p);
	if (rc == OK)
		return TAKE(rel);
	log_warn(
	    "mcp.result.not_kept", "type=%s uri=%s reason=%s", log_quote(type), log_quote(uri), log_quote(r.why.text));
	return NULL;
}
