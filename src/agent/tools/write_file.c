#include "agent/tools/tool_io.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define MAX_FILE_BYTES (5 * 1024 * 1024)
#define MAX_OLD_BYTES (10 * 1024 * 1024)

static void write_file_report(struct tool_call *call, const struct place *p, const char *text, size_t len)
{
	json_t *j = json_object();
	AUTO_STR said = str_printf("Wrote %s (%zu bytes)", p->abs, len);

	json_decref(attach_rules(call, p));
	json_put(j, "path", p->abs);
	json_put_int(j, "linesCreated", count_lines(text, len));
	json_put_int(j, "fileSize", (int64_t)len);
	tool_succeed(call, j, NULL, said);
}

static void write_file_run(struct tool_call *call)
{
	const char *text = arg_string(call, "fileText", "");
	size_t len = strlen(text);
	AUTO_STR raw = NULL;
	AUTO_STR old = NULL;
	struct refusal r;
	struct place p;
	size_t raw_len;

	if (len > MAX_FILE_BYTES) {
		tool_error(call, "too_large", "the text has %zu bytes; at most %d can be written", len, MAX_FILE_BYTES);
		return;
	}
	if (arg_place(call, "path", "", &p) != OK)
		return;
	if (tool_is_watched(call) && place_read(call->session, &p, MAX_OLD_BYTES, &raw, &raw_len, &r) == OK)
		old = text_to_utf8(raw, raw_len);
	if (place_write(call->session, &p, text, len, &r) != OK) {
		tool_refuse(call, &r);
	} else {
		write_file_report(call, &p, text, len);
		IGNORE(tool_moment(
		    call, &(struct tool_moment){
			      .what = TOOL_WROTE, .path = p.abs, .text = text, .old = old != NULL ? old : ""}));
	}
	place_fini(&p);
}

static const char *const aliases[] = {"contents", "fileText", "content", "fileText", "file_text", "fileText",
    "file_path", "path", "target_file", "path", "filePath", "path", NULL};

static const struct tool write_file = {
    .name = "write_file",
    .aliases = {"write", "create_file"},
    .description =
	"Writes a whole file of the workspace, replacing what was there. Missing folders are made. For small changes "
	"to an existing file use edit_file.",
    .parameters =
	"{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"path\",\"fileText\"],\"properties\":{"
	"\"path\":{\"type\":\"string\",\"minLength\":1,\"description\":\"Absolute, or relative to the workspace\"},"
	"\"fileText\":{\"type\":\"string\",\"description\":\"The complete new content\"}}}",
    .arg_alias = aliases,
    .class = TOOL_MUTATING,
    .sdk_type = "write",
    .run = write_file_run,
};
TOOL(write_file);
