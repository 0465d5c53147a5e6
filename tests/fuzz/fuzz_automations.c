/* A schedule, a prompt with places, a webhook's body and the file of a time zone, apart by NUL (the file is the rest).
 */
#include "base/mem.h"
#include "base/text.h"
#include "server/automations/cron.h"
#include "server/automations/template.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The next time is later; in a zone that is one there is none in between. */
static void look_at_schedule(const char *text, const struct zone *z, bool is_sane)
{
	struct cron c;
	int64_t after = 1774700000000, first = 0, next = 0;

	if (cron_parse(text, &c, NULL) != OK || cron_next(&c, z, after, &first) != OK)
		return;
	ENSURE(first > after && first % 1000 == 0);
	if (cron_next(&c, z, first, &next) == OK)
		ENSURE(next > first);
	if (is_sane)
		ENSURE(cron_next(&c, z, first - 1000, &next) == OK && next == first);
}

/* Local time and back. */
static void look_at_zone(const struct zone *z)
{
	for (int64_t t = 1774700000; t < 1774700000 + 400 * 86400; t += 100000) {
		int64_t moments[2];
		int n = zone_moments(z, t, moments);

		ENSURE(n >= 0 && n <= 2);
		for (int i = 0; i < n; i++)
			ENSURE(moments[i] + zone_offset(z, moments[i]) == t);
		ENSURE(n < 2 || moments[0] < moments[1]);
	}
}

/* Each line of what is quoted has its mark; nothing becomes longer than it may. */
static void look_at_template(const char *text, const char *body)
{
	AUTO_JSON json = NULL;
	AUTO_STR filled = NULL;

	if (!text_is_utf8(text, strlen(text)) || json_parse(body, strlen(body), &json, NULL) != OK ||
	    template_fill(text, json, &filled) != OK)
		return;
	ENSURE(strlen(filled) <= TEMPLATE_PROMPT_MAX && text_is_utf8(filled, strlen(filled)));
	if (strstr(text, "{{") == NULL)
		ENSURE(strcmp(text, filled) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_STR text = str_ndup((const char *)data, size);
	AUTO(zone) utc = NULL;
	AUTO(zone) z = NULL;
	const char *part[4], *end = text + size;

	part[0] = text;
	for (int i = 1; i < 4; i++) {
		part[i] = part[i - 1] + strlen(part[i - 1]) + 1;
		if (part[i] > end)
			part[i] = end;
	}
	ENSURE(zone_load("UTC", &utc, NULL) == OK);
	look_at_schedule(part[0], utc, true);
	look_at_template(part[1], part[2]);
	if (zone_parse((const unsigned char *)part[3], (size_t)(end - part[3]), &z, NULL) == OK) {
		look_at_zone(z);
		look_at_schedule(part[0], z, false);
	}
	return 0;
}
