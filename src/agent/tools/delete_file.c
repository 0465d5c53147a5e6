#include "agent/tools/tool_io.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static void delete_file_report(struct tool_call *call, const struct place *p, off_t size)
{
	json_t *j = json_object(), *sdk = json_object();
	AUTO_STR said = str_printf("Deleted %s", p->abs);

	json_put(j, "path", p->abs);
	json_put(j, "deletedFile", p->abs);
	json_put_int(j, "fileSize", size);
	json_put_int(sdk, "fileSize", size);
	tool_succeed(call, j, sdk, said);
}

static void delete_file_run(struct tool_call *call)
{
	struct refusal r;
	struct place p;
	struct spot at;
	struct stat st;
	int rc;

	if (arg_place(call, "path", "", &p) != OK)
		return;
	/* A link is deleted itself, wherever it leads. */
	rc = place_spot(call->session, &p, false, false, &at, &r);
	if (rc == OK) {
		if (fstatat(at.dir_fd, at.name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			rc = refuse_errno(&r, errno, p.abs);
		else if (S_ISDIR(st.st_mode))
			rc = refuse_errno(&r, EISDIR, p.abs);
		else if (unlinkat(at.dir_fd, at.name, 0) != 0)
			rc = refuse_errno(&r, errno, p.abs);
		spot_fini(&at);
	}
	if (rc != OK)
		tool_refuse(call, &r);
	else
		delete_file_report(call, &p, st.st_size);
	place_fini(&p);
}

static const char *const aliases[] = {"target_file", "path", "file_path", "path", "filePath", "path", NULL};

static const struct tool delete_file = {
    .name = "delete_file",
    .aliases = {"delete", "remove_file"},
    .description = "Deletes one file of the workspace. Folders are refused; use the shell for them.",
    .parameters =
	"{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"path\"],\"properties\":{"
	"\"path\":{\"type\":\"string\",\"minLength\":1,\"description\":\"Absolute, or relative to the workspace\"}}}",
    .arg_alias = aliases,
    .class = TOOL_MUTATING,
    .sdk_type = "delete",
    .run = delete_file_run,
};
TOOL(delete_file);
