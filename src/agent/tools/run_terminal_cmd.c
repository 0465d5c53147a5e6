#include "agent/tools/tool_io.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define DEFAULT_TIMEOUT_MS (10 * 60 * 1000)
#define MAX_TIMEOUT_MS (60 * 60 * 1000)

/* Where the command runs. The shell can go anywhere, so no root holds this path. *ret_fd is -1 where only the session's
 * box knows the folder. */
static int open_cwd(struct tool_call *call, int *ret_fd, char **ret_path)
{
	const char *given = arg_string(call, "workingDirectory", "");
	const char *root = session_primary_root(call->session), *home = getenv("HOME");
	AUTO_STR path = NULL;
	int fd = -1;

	if (given[0] == '/')
		path = str_dup(given);
	else if (home != NULL && given[0] == '~' && (given[1] == '/' || given[1] == '\0'))
		path = str_printf("%s%s", home, given + 1);
	else
		path = given[0] == '\0' ? str_dup(root) : str_printf("%s/%s", root, given);
	if (!session_has_own_view(call->session)) {
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd < 0) {
			tool_error(call, errno == EACCES ? "permission_denied" : "not_found",
			    "the working directory '%.300s' cannot be used: %s", path, strerror(errno));
			return ERR_NOT_FOUND;
		}
	}
	*ret_fd = fd;
	*ret_path = TAKE(path);
	return OK;
}

static struct exec_spec spec_of(const struct tool_call *call, int cwd_fd, const char *cwd)
{
	return EXEC_SPEC(.command = arg_string(call, "command", ""), .cwd_fd = cwd_fd, .cwd = cwd,
	    .box = session_box(call->session), .env = call->env, .agent_id = session_agent_id(call->session),
	    .scratch_dir = session_program_mark(call->session), .call_id = call->call_id, .cancel_fd = call->cancel_fd,
	    .on_output = call->on_output, .on_output_ctx = call->on_output_ctx);
}

static const char *signal_name(int sig, char buf[32])
{
	const char *abbrev = sigabbrev_np(sig);

	snprintf(buf, 32, abbrev != NULL ? "SIG%s" : "signal", abbrev);
	return buf;
}

static void add_outputs(json_t *to, const struct exec_result *r)
{
	json_put(to, "stdout", r->out);
	json_put(to, "stderr", r->err);
}

static json_t *terminal_public_result(const struct tool_call *call, const struct exec_result *r, const char *cwd)
{
	json_t *j = json_object();
	char name[32];

	json_put(j, "command", arg_string(call, "command", ""));
	json_put(j, "workingDirectory", cwd);
	json_put_int(j, "exitCode", r->exit_code);
	if (r->signal != 0)
		json_put(j, "signal", signal_name(r->signal, name));
	add_outputs(j, r);
	json_put(j, "interleavedOutput", r->both);
	json_put_int(j, "executionTime", r->duration_ms);
	json_put_int(j, "localExecutionTimeMs", r->duration_ms);
	if (r->cancelled)
		json_put_bool(j, "aborted", true);
	if (r->timed_out)
		json_put_bool(j, "timedOut", true);
	if (r->truncated)
		json_put_bool(j, "truncated", true);
	return j;
}

static json_t *sdk_result(const struct exec_result *r)
{
	json_t *j = json_object();
	char name[32];

	json_put_int(j, "exitCode", r->exit_code);
	json_put(j, "signal", r->signal != 0 ? signal_name(r->signal, name) : "");
	add_outputs(j, r);
	json_put_int(j, "executionTime", r->duration_ms);
	return j;
}

static char *terminal_text_for_model(const struct exec_result *r)
{
	struct strbuf b = STRBUF(EXEC_BOTH_MAX * 2);
	char name[32];

	if (r->timed_out)
		strbuf_addf(&b, "Timed out after %lld ms and was killed.\n", (long long)r->duration_ms);
	else if (r->cancelled)
		strbuf_adds(&b, "Cancelled; the command was killed.\n");
	if (r->signal != 0)
		strbuf_addf(&b, "Exit status: %d (%s)\n", r->exit_code, signal_name(r->signal, name));
	else
		strbuf_addf(&b, "Exit status: %d\n", r->exit_code);
	if (r->both[0] == '\0') {
		strbuf_adds(&b, "(no output)\n");
	} else {
		strbuf_adds(&b, "Output:\n");
		strbuf_adds(&b, r->both);
	}
	return strbuf_take(&b);
}

static void cannot_start(struct tool_call *call, int rc, const char *cwd, const struct why *why)
{
	/* Of a box: the folder was looked for there. */
	if (rc == ERR_INVALID)
		tool_error(call, "not_found", "the working directory '%.300s' cannot be used: %s", cwd,
		    strstr(why->text, ": ") != NULL ? strstr(why->text, ": ") + 2 : why->text);
	else
		tool_error(call, "cannot_start", "%s", why->text);
}

static void run_and_wait(struct tool_call *call, int cwd_fd, const char *cwd)
{
	int64_t timeout = MIN(arg_int(call, "timeout", DEFAULT_TIMEOUT_MS), MAX_TIMEOUT_MS);
	struct exec_spec spec = spec_of(call, cwd_fd, cwd);
	AUTO_FINI(exec_result) r = {0};
	AUTO_STR text = NULL;
	struct why why;
	int rc;

	spec.deadline_mono_ms = call_deadline(call, timeout);
	rc = exec_run(&spec, &r, &why);
	if (rc != OK) {
		cannot_start(call, rc, cwd, &why);
		return;
	}
	text = terminal_text_for_model(&r);
	if (r.cancelled) {
		tool_error(call, "cancelled", "the command was cancelled");
		add_outputs(call->result, &r);
		json_put_bool(call->result, "aborted", true);
		free(call->model_text);
		call->model_text = text_cut_middle(text, strlen(text), 32 * 1024 - 64, NULL);
	} else if (r.exit_code != 0 || r.timed_out) {
		tool_fail(call, terminal_public_result(call, &r, cwd), sdk_result(&r), text);
	} else {
		tool_succeed(call, terminal_public_result(call, &r, cwd), sdk_result(&r), text);
	}
}

static void run_in_background(struct tool_call *call, int cwd_fd, const char *cwd)
{
	struct exec_spec spec = spec_of(call, cwd_fd, cwd);
	char id[17];
	AUTO_STR log = NULL;
	AUTO_STR text = NULL;
	json_t *j, *sdk;
	struct why why;
	pid_t pid;
	int fd, rc;

	id_hex(id, 8);
	log = str_printf("%s/shell-%s.log", session_scratch_dir(call->session), id);
	fd = open(log, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0) {
		tool_error(call, "io_error", "cannot create '%.300s': %s", log, strerror(errno));
		return;
	}
	if (call->hooks != NULL)
		spec.ret_end_fd = &call->end_fd;
	rc = exec_background(&spec, fd, &pid, &why);
	close(fd);
	if (rc != OK) {
		cannot_start(call, rc, cwd, &why);
		return;
	}
	if (spec.box == NULL)
		session_add_background(call->session, pid);
	j = json_pack("{s:s, s:i, s:s}", "shellId", id, "pid", (int)pid, "logPath", log);
	json_put(j, "command", spec.command);
	json_put(j, "workingDirectory", cwd);
	sdk = json_pack(
	    "{s:i, s:s, s:s, s:s, s:i}", "exitCode", 0, "signal", "", "stdout", "", "stderr", "", "executionTime", 0);
	text = str_printf("Started in the background: shell %s, pid %d. Its output goes to %s", id, (int)pid, log);
	tool_succeed(call, j, sdk, text);
}

static void terminal_run(struct tool_call *call)
{
	AUTO_STR cwd = NULL;
	int fd;

	if (open_cwd(call, &fd, &cwd) != OK)
		return;
	if (arg_bool(call, "isBackground"))
		run_in_background(call, fd, cwd);
	else
		run_and_wait(call, fd, cwd);
	if (fd >= 0)
		close(fd);
}

static const char *const aliases[] = {"working_directory", "workingDirectory", "cwd", "workingDirectory",
    "is_background", "isBackground", "timeout_ms", "timeout", "explanation", "description", NULL};

static const struct tool run_terminal_cmd = {
    .name = "run_terminal_cmd",
    .aliases = {"shell", "bash", "run_command", "terminal"},
    .description =
	"Runs a command with bash (sh where there is none) on the worker and returns its exit status and output. Every "
	"call "
	"is a new shell: cd and variables do not carry over, so use workingDirectory or absolute paths. There is no "
	"terminal "
	"and stdin is empty; choose options that never ask. The default time limit is 10 minutes, the most is 60. With "
	"isBackground the call returns at once and output goes to a log file; the process is killed when the session "
	"ends.",
    .parameters =
	"{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"command\"],\"properties\":{"
	"\"command\":{\"type\":\"string\",\"minLength\":1,\"description\":\"The command line\"},"
	"\"workingDirectory\":{\"type\":\"string\",\"description\":\"Absolute, or relative to the workspace; default: "
	"the workspace\"},"
	"\"timeout\":{\"type\":\"integer\",\"minimum\":1,\"description\":\"Time limit in milliseconds\"},"
	"\"isBackground\":{\"type\":\"boolean\",\"description\":\"Start it and return at once\"},"
	"\"description\":{\"type\":\"string\",\"description\":\"What the command is for, in a few words\"}}}",
    .arg_alias = aliases,
    .class = TOOL_MUTATING,
    .sdk_type = "shell",
    .run = terminal_run,
};
TOOL(run_terminal_cmd);
