#include "agent/tools/diff.h"
#include "agent/tools/edit_text.h"
#include "agent/tools/patch.h"
#include "agent/tools/tool_io.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define MAX_FILE_BYTES (10 * 1024 * 1024)
/* Whole contents are part of the result up to this size. */
#define MAX_FULL_BYTES (256 * 1024)

/* The kind of edit that the call asks for: exactly one of them. */
struct wish {
	json_t *edits; /* array of {oldText, newText, replaceAll} */
	struct patch patch;
	bool patches;
};

static void wish_fini(struct wish *w)
{
	json_drop(&w->edits);
	patch_fini(&w->patch);
}

static int wish_edits(const struct tool_call *call, json_t *one, json_t *many, struct wish *w, struct refusal *r)
{
	json_t *e;

	if (many != NULL) {
		if (json_array_size(many) == 0)
			return refuse(r, "invalid_arguments", "edit_file: 'multiStrReplace.edits' is empty");
		w->edits = json_incref(many);
		return OK;
	}
	w->edits = json_array();
	if (one != NULL) {
		json_array_append(w->edits, one);
		return OK;
	}
	e = json_object();
	json_object_set(e, "oldText", json_object_get(call->args, "oldText"));
	json_object_set(e, "newText", json_object_get(call->args, "newText"));
	json_put_bool(e, "replaceAll", arg_bool(call, "replaceAll"));
	json_array_append_new(w->edits, e);
	return OK;
}

/* The forms of the arguments; *w is to be given to wish_fini in any case. */
static int wish_find(const struct tool_call *call, struct wish *w, struct refusal *r)
{
	json_t *one = json_object_get(call->args, "strReplace"), *many = json_object_get(call->args, "multiStrReplace");
	json_t *patch = json_object_get(json_object_get(call->args, "applyPatch"), "patchContent");
	json_t *flat = json_object_get(call->args, "patchContent");
	bool texts = json_object_get(call->args, "oldText") != NULL && json_object_get(call->args, "newText") != NULL;

	if ((one != NULL) + (many != NULL) + (patch != NULL) + (flat != NULL) + texts != 1)
		return refuse(r, "invalid_arguments",
		    "edit_file: give exactly one of 'strReplace', 'multiStrReplace', 'applyPatch', or 'oldText' with "
		    "'newText'");
	if (patch == NULL && flat == NULL)
		return wish_edits(call, one, json_object_get(many, "edits"), w, r);
	w->patches = true;
	return patch_parse(json_string_value(patch != NULL ? patch : flat), &w->patch, r);
}

static bool creates(const struct wish *w)
{
	const char *old = json_string_value(json_object_get(json_array_get(w->edits, 0), "oldText"));

	return w->patches ? w->patch.creates : json_array_size(w->edits) == 1 && old[0] == '\0';
}

/* The patch says itself which file it is for; that must be the one the call names. */
static int check_path(const struct wish *w, const struct place *p, struct refusal *r)
{
	const char *named = w->patch.path;

	if (named == NULL)
		return OK;
	while (text_has_prefix(named, "./"))
		named += 2;
	if (strcmp(named, p->abs) == 0)
		return OK;
	if (text_has_suffix(p->abs, named) && named[0] != '\0' && p->abs[strlen(p->abs) - strlen(named) - 1] == '/')
		return OK;
	return refuse(r, "invalid_patch", "the patch is for '%.200s', not for '%.200s'", named, p->abs);
}

static json_t *edit_file_public_result(
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

static void edit_file_report(struct tool_call *call, const struct place *p, const char *old, const char *new)
{
	AUTO_FINI(diff) d = {0};
	AUTO_STR message = NULL;
	AUTO_STR text = NULL;
	json_t *sdk = json_object();

	json_decref(attach_rules(call, p));
	diff_make(old, strlen(old), new, strlen(new), &d);
	message =
	    str_printf("Edited %s: %lld lines added, %lld removed", p->abs, (long long)d.added, (long long)d.removed);
	text = str_printf("%s\n%s", message, d.text);
	json_put_int(sdk, "linesAdded", d.added);
	json_put_int(sdk, "linesRemoved", d.removed);
	json_put(sdk, "diffString", d.text);
	tool_succeed(call, edit_file_public_result(p, &d, old, new, message), sdk, text);
}

/* The text before the edits; "" if the edit creates the file. */
static int read_old(struct tool_call *call, const struct place *p, const struct wish *w, char **ret, struct refusal *r)
{
	size_t len;
	int rc = place_read(call->session, p, MAX_FILE_BYTES, ret, &len, r);

	if (rc != OK && creates(w) && strcmp(r->code, "not_found") == 0) {
		*ret = str_dup("");
		return OK;
	}
	if (rc != OK)
		return rc;
	if (strlen(*ret) != len)
		rc = refuse(r, "binary_file", "'%.300s' is a binary file", p->abs);
	else if (creates(w) && len > 0)
		rc = refuse(r, "already_exists", "'%.300s' exists and is not empty; the edit must name what to replace",
		    p->abs);
	if (rc != OK)
		str_free(ret);
	return rc;
}

/* Hooks see what is read and what is to be written; either may be refused. OK, or the call has its outcome. */
static int ask_hooks(struct tool_call *call, const struct place *p, const char *old, char **new)
{
	struct tool_moment change = {.what = TOOL_CHANGES, .path = p->abs, .text = *new, .old = old};

	if (!tool_moment(call, &change))
		return ERR_CANCELLED;
	if (change.replaced != NULL) {
		free(*new);
		*new = change.replaced;
	}
	return OK;
}

static void edit(struct tool_call *call, const struct place *p, const struct wish *w)
{
	AUTO_STR old = NULL;
	AUTO_STR new = NULL;
	struct refusal r;
	int rc = check_path(w, p, &r);

	if (rc == OK)
		rc = read_old(call, p, w, &old, &r);
	if (rc == OK && !tool_moment(call, &(struct tool_moment){.what = TOOL_READS, .path = p->abs, .text = old}))
		return;
	if (rc == OK && w->patches)
		rc = patch_apply(&w->patch, old, MAX_FILE_BYTES, &new, &r);
	else if (rc == OK)
		rc = edit_text(old, w->edits, MAX_FILE_BYTES, &new, &r);
	if (rc == OK && ask_hooks(call, p, old, &new) != OK)
		return;
	if (rc == OK)
		rc = place_write(call->session, p, new, strlen(new), &r);
	if (rc != OK) {
		tool_refuse(call, &r);
		return;
	}
	edit_file_report(call, p, old, new);
	IGNORE(tool_moment(call, &(struct tool_moment){.what = TOOL_WROTE, .path = p->abs, .text = new, .old = old}));
}

static void edit_file_run(struct tool_call *call)
{
	AUTO_FINI(wish) w = {0};
	AUTO_FINI(place) p = {0};
	struct refusal r;

	if (wish_find(call, &w, &r) != OK) {
		tool_refuse(call, &r);
		return;
	}
	if (json_object_get(call->args, "path") == NULL && w.patch.path == NULL) {
		tool_error(call, "invalid_arguments", "edit_file: 'path' is required");
		return;
	}
	if (arg_place(call, "path", w.patch.path, &p) == OK)
		edit(call, &p, &w);
}

static const char *const aliases[] = {"file_path", "path", "target_file", "path", "filePath", "path", "old_string",
    "oldText", "new_string", "newText", "replace_all", "replaceAll", "patch", "patchContent", "input", "patchContent",
    NULL};

#define EDIT                                                                                                           \
	"{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"oldText\",\"newText\"],\"properties\":{"  \
	"\"oldText\":{\"type\":\"string\",\"description\":\"Must occur exactly once, unless replaceAll\"},"            \
	"\"newText\":{\"type\":\"string\"},\"replaceAll\":{\"type\":\"boolean\"}}}"

static const struct tool edit_file = {
    .name = "edit_file",
    .aliases = {"search_replace", "StrReplace", "str_replace", "edit", "apply_patch", "ApplyPatch"},
    .description =
	"Changes a file of the workspace: strReplace replaces one text, multiStrReplace several, in order, all or "
	"nothing; applyPatch takes a unified diff. oldText and the context of a patch must match the file exactly, "
	"white space included; oldText must occur once, so give enough lines around the change, or set replaceAll. "
	"An empty oldText, or a patch from /dev/null, creates a file that is not there.",
    .parameters =
	"{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{"
	"\"path\":{\"type\":\"string\",\"minLength\":1,\"description\":\"Required unless a patch names it; absolute, "
	"or relative to the workspace\"},"
	"\"strReplace\":" EDIT ","
	"\"multiStrReplace\":{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"edits\"],"
	"\"properties\":{\"edits\":{\"type\":\"array\",\"items\":" EDIT "}}},"
	"\"applyPatch\":{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"patchContent\"],"
	"\"properties\":{\"patchContent\":{\"type\":\"string\",\"minLength\":1,\"description\":\"Unified diff of this "
	"one file\"}}},"
	"\"patchContent\":{\"type\":\"string\",\"minLength\":1,\"description\":\"Short form of applyPatch\"},"
	"\"oldText\":{\"type\":\"string\",\"description\":\"Short form of strReplace\"},"
	"\"newText\":{\"type\":\"string\"},\"replaceAll\":{\"type\":\"boolean\"}}}",
    .arg_alias = aliases,
    .class = TOOL_MUTATING,
    .sdk_type = "edit",
    .run = edit_file_run,
};
TOOL(edit_file);
