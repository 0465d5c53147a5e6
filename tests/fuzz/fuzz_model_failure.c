/* Answers of model servers that are errors: status (two bytes), then Retry-After, Content-Type and body, apart by NUL.
 * What people read about it is short, printable and without the key, wherever the server repeats it. */
#include "base/mem.h"
#include "base/text.h"
#include "bytes.h"
#include "server/models/wire_priv.h"

#define KEY "sk-secret-0123456789"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *s, size_t max)
{
	ENSURE(s[0] != '\0' && strlen(s) < max && text_is_utf8(s, strlen(s)));
	for (const char *c = s; *c != '\0'; c++)
		ENSURE((unsigned char)*c >= 0x20 && *c != 0x7f);
	ENSURE(strstr(s, KEY) == NULL);
}

static void check(const struct remote *p, const struct failure *f)
{
	static struct upstream upstream = {.name = (char *)"u"};
	const struct model model = {.id = (char *)"m", .takes_images = true, .upstream = &upstream};
	const struct model_request req = {.model = &model};
	struct why why = {""};

	ENSURE(f->kind != FAILURE_NONE && f->wait_ms >= -1 && f->wait_ms <= RETRY_AFTER_MAX_MS);
	failure_explain(p, &req, f, 3, 5000, &why);
	check_text(why.text, sizeof why.text);
}

static void retry_after(const char *value)
{
	int64_t ms = failure_retry_after(value, 1700000000000);

	ENSURE(ms >= -1 && ms <= RETRY_AFTER_MAX_MS);
	ENSURE(failure_retry_after(NULL, 0) == -1);
}

static void inside_an_answer(const struct remote *p, const char *body, size_t len)
{
	static const struct model_sink sink;
	AUTO_JSON json = answer_json(body, len);
	struct answer a;

	answer_init(&a, &sink);
	if (json != NULL) {
		failure_of_error(&a, json);
		check(p, &a.failure);
	}
	answer_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct remote p = {.wire = &wire_openai,
	    .name = (char *)"p",
	    .base_url = (char *)"https://h/v1",
	    .url = (char *)"https://h/v1/x",
	    .key = (char *)KEY};
	struct bytes in = {data, size};
	int status = 300 + (take_u8(&in) << 8 | take_u8(&in)) % 700;
	AUTO_STR text = str_ndup((const char *)in.p, in.len);
	const char *end = text + in.len, *after = text, *type = MIN(after + strlen(after) + 1, end),
		   *body = MIN(type + strlen(type) + 1, end);
	struct failure f;

	retry_after(after);
	failure_of_status(&p, status, after, type, body, (size_t)(end - body), &f);
	ENSURE(f.status == status);
	check(&p, &f);
	inside_an_answer(&p, body, (size_t)(end - body));
	return 0;
}
