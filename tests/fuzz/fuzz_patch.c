/* Patches as a model sends them, applied to a text: what is before the first NUL, the patch is what is behind it. */
#include "agent/tools/patch.h"
#include "base/mem.h"
#include <string.h>

#define MAX_BYTES (1024 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_STR text = str_ndup((const char *)data, size);
	const char *patch_text = strlen(text) < size ? text + strlen(text) + 1 : text;
	AUTO_FINI(patch) p = {0};
	AUTO_STR out = NULL;
	struct refusal r = {0};

	if (patch_parse(patch_text, &p, &r) != OK || patch_apply(&p, text, MAX_BYTES, &out, &r) != OK) {
		ENSURE(r.code != NULL && r.why.text[0] != '\0');
		return 0;
	}
	/* CRLF may double what the bound holds. */
	ENSURE(strlen(out) <= 2 * MAX_BYTES);
	return 0;
}
