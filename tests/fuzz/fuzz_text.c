/* Texts from outside that base reads: JSON, TOML, percent escapes, base64, repository addresses. */
#include "base/id.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include "base/text.h"
#include "base/toml.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void json(const char *s, size_t n)
{
	AUTO_JSON j = NULL;
	struct why why;

	if (json_parse(s, n, &j, &why) != OK)
		return;
	AUTO_STR text = json_text(j);
	AUTO_JSON again = NULL;

	ENSURE(json_parse(text, strlen(text), &again, NULL) == OK && json_equal(j, again));
}

static void encodings(const char *s, size_t n)
{
	AUTO_STR plain = NULL;
	AUTO_STR bytes = NULL;
	size_t len;

	if (text_percent_decode(s, n, &plain) == OK)
		ENSURE(text_is_utf8(plain, strlen(plain)));
	if (base64_decode(s, n, &bytes, &len) == OK) {
		AUTO_STR back = base64_encode(bytes, len);

		ENSURE(strlen(back) >= n);
	}
}

static void texts(const char *s, size_t n)
{
	AUTO_STR utf8 = text_to_utf8(s, n);
	AUTO_STR cut = text_cut_middle(utf8, strlen(utf8), 64, NULL);
	AUTO_STR host = NULL;
	AUTO_STR label = repo_url_label(s, &host);
	AUTO_STR redacted = repo_url_redact(s);

	ENSURE(text_is_utf8(utf8, strlen(utf8)) && text_is_utf8(cut, strlen(cut)));
	ENSURE(label == NULL || strchr(label, '/') != NULL);
	ENSURE(repo_url_same(s, s) || label == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_STR s = str_ndup((const char *)data, size);
	AUTO_JSON table = NULL;
	struct why why;

	json(s, size);
	encodings(s, size);
	texts(s, size);
	IGNORE(toml_parse(s, size, "fuzz.toml", &table, &why));
	return 0;
}
