/* From a name and a text to a tool that runs: the one way, with hooks on both sides of it. */
#include "agent/tools/catalogue.h"
#include "agent/tools/schema.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define SHOWN_MAX 64

static void dispatch_refuse_unknown(struct tool_call *call, const char *name)
{
	AUTO_STR shown = text_to_utf8(name, text_utf8_cut(name, strlen(name), SHOWN_MAX));
	AUTO_STR names = NULL;
	bool near = false;

	/* Bytes that are no UTF-8 grew to three. */
	shown[text_utf8_cut(shown, strlen(shown), SHOWN_MAX)] = '\0';
	names = catalogue_near(shown, &near);
	tool_error(
	    call, "unknown_tool", "there is no tool '%s'; %s %s", shown, near ? "did you mean" : "there are", names);
}

static int parse_arguments(const struct catalogue_entry *e, const char *text, json_t **ret, struct why *why)
{
	AUTO_JSON args = NULL;
	int rc = json_parse(text_is_blank(text) ? "{}" : text, text_is_blank(text) ? 2 : strlen(text), &args, why);

	if (rc == OK && !json_is_object(args))
		rc = why_set(why, ERR_INVALID, "the arguments must be an object");
	if (rc == OK)
		rc = schema_apply_aliases(args, e->tool->arg_alias, why);
	if (rc == OK)
		rc = schema_check(e->schema, args, why);
	if (rc == OK)
		*ret = TAKE(args);
	return rc;
}

/* Arguments that a hook put in the place of the model's. */
static bool take_new_args(struct tool_call *call, const struct catalogue_entry *e)
{
	AUTO_JSON args = TAKE(call->new_args);
	struct why why;
	int rc = OK;

	if (args == NULL)
		return true;
	rc = schema_apply_aliases(args, e->tool->arg_alias, &why);
	if (rc == OK)
		rc = schema_check(e->schema, args, &why);
	if (rc != OK) {
		tool_error(call, "invalid_arguments", "%s, as a hook changed its input: %s", e->tool->name, why.text);
		return false;
	}
	json_object_clear(call->args);
	json_object_update(call->args, args);
	return true;
}

/* The choke point: every tool that runs, runs here. What may forbid a tool stands before it, what has to know what came
 * of it behind it; nothing else calls `run`. */
static void run_between_hooks(struct tool_call *call, const struct catalogue_entry *e)
{
	const struct tool_hooks *h = call->hooks;
	const struct tool *t = e->tool;
	size_t n = h != NULL ? h->n : 0, asked = 0;
	bool allowed = true;

	for (; allowed && asked < n; asked++)
		allowed = (h->list[asked].before == NULL || h->list[asked].before(h->list[asked].ctx, call)) &&
			  take_new_args(call, e);
	/* A hook that refuses says why, one that allows leaves the outcome to the tool. */
	ENSURE(allowed == (call->outcome == 0));
	if (allowed)
		t->run(call);
	ENSURE(call->outcome != 0);
	/* Those that saw it begin see it end, the last first. */
	while (asked-- > 0)
		if (h->list[asked].after != NULL)
			h->list[asked].after(h->list[asked].ctx, call);
}

bool tool_is_watched(const struct tool_call *call)
{
	return call->hooks != NULL && call->hooks->n > 0;
}

bool tool_moment(struct tool_call *call, struct tool_moment *m)
{
	const struct tool_hooks *h = call->hooks;

	for (size_t i = 0; h != NULL && i < h->n; i++)
		if (h->list[i].moment != NULL && !h->list[i].moment(h->list[i].ctx, call, m)) {
			ENSURE(call->outcome != 0);
			return false;
		}
	return true;
}

static void run_entry(struct tool_call *call, const struct catalogue_entry *e, const char *arguments_json)
{
	AUTO_JSON args = NULL;
	struct why why;

	if (parse_arguments(e, arguments_json, &args, &why) != OK) {
		tool_error(call, "invalid_arguments", "%s: %s", e->tool->name, why.text);
		return;
	}
	if (tool_cancelled(call)) {
		tool_error(call, "cancelled", "the call was cancelled before it began");
		return;
	}
	call->tool = e->tool;
	call->args = args;
	run_between_hooks(call, e);
	call->args = NULL;
}

void tool_run(struct tool_call *call, const char *name, const char *arguments_json)
{
	struct catalogue_entry *e = catalogue_hold(name);

	ENSURE(call->outcome == 0);
	if (e == NULL) {
		dispatch_refuse_unknown(call, name);
		return;
	}
	run_entry(call, e, arguments_json);
	catalogue_release(e);
}
