#include "agent/tools/tool_io.h"
#include "agent/session/rules.h"
#include "base/clock.h"
#include <string.h>

void tool_refuse(struct tool_call *call, const struct refusal *r)
{
	tool_error(call, r->code, "%s", r->why.text);
}

const char *arg_string(const struct tool_call *call, const char *name, const char *otherwise)
{
	const char *s = json_string_value(json_object_get(call->args, name));

	return s != NULL ? s : otherwise;
}

int64_t arg_int(const struct tool_call *call, const char *name, int64_t otherwise)
{
	json_t *v = json_object_get(call->args, name);

	return v != NULL ? json_integer_value(v) : otherwise;
}

bool arg_bool(const struct tool_call *call, const char *name)
{
	return json_is_true(json_object_get(call->args, name));
}

int arg_place(struct tool_call *call, const char *name, const char *otherwise, struct place *ret)
{
	struct refusal r;
	int rc = place_find(call->session, arg_string(call, name, otherwise), ret, &r);

	if (rc != OK)
		tool_refuse(call, &r);
	return rc;
}

json_t *attach_rules(struct tool_call *call, const struct place *p)
{
	json_t *found = rules_for(session_rules(call->session), call->session, p);

	tool_attach(call, rules_describe(found));
	return found;
}

int64_t call_deadline(const struct tool_call *call, int64_t limit_ms)
{
	int64_t mine = clock_mono_ms() + limit_ms;

	return call->deadline_mono_ms > 0 ? MIN(call->deadline_mono_ms, mine) : mine;
}

int64_t count_lines(const char *text, size_t len)
{
	int64_t n = 0;

	for (size_t i = 0; i < len; i++)
		n += text[i] == '\n';
	return n + (len > 0 && text[len - 1] != '\n');
}
