#include "agent/tools/diff.h"
#include "agent/tools/edit_text.h"
#include "agent/tools/tool_io.h"
#include "base/mem.h"
#include <string.h>

#define MAX_FILE_BYTES (10 * 1024 * 1024)
/* Whole contents are part of the result up to this size. */
#define MAX_FULL_BYTES (256 * 1024)

/* The forms of the arguments, as one array of {oldText, newText, replaceAll}. New reference, or NULL. */
static json_t *edits_of(const struct tool_call *call)
{
	json_t *one = json_object_get(call->args, "strReplace"), *list;
	json_t *many = json_object_get(json_object_get(call->args, "multiStrReplace"), "edits");
	json_t *flat_old = json_object_get(call->args, "oldText"), *flat_new = json_object_get(call->args, "newText");
	bool flat = flat_old != NULL && flat_new != NULL;

	if ((one != NULL) + (many != NULL) + flat != 1 || (many != NULL && json_array_size(many) == 0))
		return NULL;
	if (many != NULL)
		return json_incref(many);
	list = json_array();
	if (one != NULL) {
		json_array_append(list, one);
	} else {
		json_t *e = json_object();

		json_object_set(e, "oldText", flat_old);
		json_object_set(e, "newText", flat_new);
		json_put_bool(e, "replaceAll", arg_bool(call, "replaceAll"));
		json_array_append_new(list, e);
	}
	return list;
}

static bool creates(const json_t *edits)
{
	const char *old = json_string_value(json_object_get(json_array_get(edits, 0), "oldText"));

	return json_array_size(edits) == 1 && old[0] == '\0';
}

static json_t *public_result(
    const struct place *p, const struct diff *d, const char *old, const char *new, const char *message)
{
	json_t *j = json_object();

	json_put(j, "path", p->abs);
	json_put_int(j, "linesAdded", d->added);
	json_put_int(j, "linesRemoved", d->removed);
	json_put(j, "diffString", d->text);
	if (strlen(old) <= MAX_FULL_BYTES && strlen(new) <= MAX_FULL_BYTES) {
		json_put(j, "beforeFullFileContent", old);
		json_put(j, "afterFullFileContent", new);
	}
	json_put(j, "message", message);
	return j;
}

static void report(struct tool_call *call, const struct place *p, const char *old, const char *new)
{
	AUTO_FINI(diff) d = {0};
	AUTO_STR message = NULL;
	AUTO_STR text = NULL;
	json_t *sdk = json_object();

	diff_make(old, strlen(old), new, strlen(new), &d);
	message =
	    str_printf("Edited %s: %lld lines added, %lld removed", p->abs, (long long)d.added, (long long)d.removed);
	text = str_printf("%s\n%s", message, d.text);
	json_put_int(sdk, "linesAdded", d.added);
	json_put_int(sdk, "linesRemoved", d.removed);
	json_put(sdk, "diffString", d.text);
	tool_succeed(call, public_result(p, &d, old, new, message), sdk, text);
}

/* The text before the edits; "" if the edit creates the file. */
static int read_old(struct tool_call *call, const struct place *p, const json_t *edits, char **ret, struct refusal *r)
{
	size_t len;
	int rc = place_read(call->session, p, MAX_FILE_BYTES, ret, &len, r);

	if (rc != OK && creates(edits) && strcmp(r->code, "not_found") == 0) {
		*ret = str_dup("");
		return OK;
	}
	if (rc != OK)
		return rc;
	if (strlen(*ret) != len)
		rc = refuse(r, "binary_file", "'%.300s' is a binary file", p->abs);
	else if (creates(edits) && len > 0)
		rc = refuse(
		    r, "already_exists", "'%.300s' exists and is not empty; oldText must name what to replace", p->abs);
	if (rc != OK)
		str_free(ret);
	return rc;
}

static void edit(struct tool_call *call, const struct place *p, const json_t *edits)
{
	AUTO_STR old = NULL;
	AUTO_STR new = NULL;
	struct refusal r;
	int rc = read_old(call, p, edits, &old, &r);

	if (rc == OK)
		rc = edit_text(old, edits, MAX_FILE_BYTES, &new, &r);
	if (rc == OK)
		rc = place_write(call->session, p, new, strlen(new), &r);
	if (rc != OK)
		tool_refuse(call, &r);
	else
		report(call, p, old, new);
}

static void run(struct tool_call *call)
{
	AUTO_JSON edits = edits_of(call);
	struct place p;

	if (edits == NULL) {
		tool_error(call, "invalid_arguments",
		    "edit_file: give exactly one of 'strReplace', 'multiStrReplace' (with at least one edit), or "
		    "'oldText' with "
		    "'newText'");
		return;
	}
	if (arg_place(call, "path", "", &p) != OK)
		return;
	edit(call, &p, edits);
	place_fini(&p);
}

static const char *const aliases[] = {"file_path", "path", "target_file", "path", "filePath", "path", "old_string",
    "oldText", "new_string", "newText", "replace_all", "replaceAll", NULL};

#define EDIT                                                                                                           \
	"{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"oldText\",\"newText\"],\"properties\":{"  \
	"\"oldText\":{\"type\":\"string\",\"description\":\"Must occur exactly once, unless replaceAll\"},"            \
	"\"newText\":{\"type\":\"string\"},\"replaceAll\":{\"type\":\"boolean\"}}}"

static const struct tool edit_file = {
    .name = "edit_file",
    .aliases = {"search_replace", "StrReplace", "str_replace", "edit"},
    .description = "Replaces text in a file of the workspace: strReplace for one place, multiStrReplace for several, "
		   "in order, all or "
		   "nothing. oldText must match the file exactly, white space included, and occur once; give enough "
		   "lines around the "
		   "change, or set replaceAll. An empty oldText creates a file that is not there.",
    .parameters =
	"{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"path\"],\"properties\":{"
	"\"path\":{\"type\":\"string\",\"minLength\":1,\"description\":\"Absolute, or relative to the workspace\"},"
	"\"strReplace\":" EDIT ","
	"\"multiStrReplace\":{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"edits\"],"
	"\"properties\":{\"edits\":{\"type\":\"array\",\"items\":" EDIT "}}},"
	"\"oldText\":{\"type\":\"string\",\"description\":\"Short form of strReplace\"},"
	"\"newText\":{\"type\":\"string\"},\"replaceAll\":{\"type\":\"boolean\"}}}",
    .arg_alias = aliases,
    .class = TOOL_MUTATING,
    .sdk_type = "edit",
    .run = run,
};
TOOL(edit_file);
