/* What an S3 server answers: lists, errors, the id of an upload. And any text comes back as it was written. */
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/artifacts/s3_xml.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_page(const char *text, size_t size)
{
	AUTO_FINI(s3_page) p = {0};

	if (s3_xml_page(text, size, &p) != OK)
		return;
	ENSURE(p.n <= S3_PAGE_MAX);
	for (size_t i = 0; i < p.n; i++) {
		const struct s3_item *it = &p.items[i];

		ENSURE(it->size >= 0 && it->part >= 0 && it->part <= 10000);
		ENSURE(it->key == NULL || strlen(it->key) <= S3_XML_TEXT_MAX);
	}
	ENSURE(p.next == NULL || p.next[0] != '\0');
}

/* What people see of it is one line that no terminal obeys. */
static void read_error(const char *text, size_t size)
{
	struct s3_error e;

	IGNORE(s3_xml_error(text, size, &e));
	ENSURE(e.region[0] == '\0' || text_is_token(e.region, "-", sizeof e.region));
	ENSURE(text_is_utf8(e.message, strlen(e.message)));
	for (const char *c = e.message; *c != '\0'; c++)
		ENSURE((unsigned char)*c >= ' ' && *c != 0x7f);
	ENSURE(e.code[0] == '\0' || text_is_token(e.code, "", sizeof e.code));
}

static int take_key(void *ctx, const char *parent, const char *name, const char *value)
{
	if (strcmp(name, "Key") == 0)
		str_set(ctx, value);
	return OK;
}

static void write_and_read(const char *text, size_t size)
{
	struct strbuf b = STRBUF(16 * S3_XML_TEXT_MAX);
	AUTO_STR plain = str_ndup(text, MIN(size, (size_t)1000));
	AUTO_STR got = NULL;

	strbuf_adds(&b, "<?xml version=\"1.0\"?>\n<A><Key>");
	for (const char *c = plain; *c != '\0'; c++)
		if (*c == '<' || *c == '&' || *c == '>')
			strbuf_addf(&b, "&#x%x;", (unsigned char)*c);
		else
			strbuf_addc(&b, *c);
	strbuf_adds(&b, "</Key></A>");
	ENSURE(s3_xml_each(strbuf_str(&b), b.len, take_key, &got) == OK);
	ENSURE(strcmp(got, plain) == 0);
	strbuf_fini(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Its own size, so that a byte too far is seen. */
	char *text = mem_dup(data, size);
	AUTO_STR id = NULL;

	read_page(text, size);
	read_error(text, size);
	if (s3_xml_upload_id(text, size, &id) == OK)
		ENSURE(id[0] != '\0');
	write_and_read(text, size);
	free(text);
	return 0;
}
