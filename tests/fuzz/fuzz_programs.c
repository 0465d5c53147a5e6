/* What git and ripgrep print, as the worker understands it: sessions are opened and published, files and texts are
 * searched, and every program is a script of the input: its plausible answer, or any bytes with any status. The
 * address of the repository has credentials, which must not come back in any sentence. */
#include "agent/tools/tool.h"
#include "agent/session/exec.h"
#include "agent/session/git.h"
#include "agent/session/session.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include "bytes.h"
#include "folder.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET "hunter2"
#define SHA "0123456789abcdef0123456789abcdef01234567"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct bytes in;
static char root[PATH_MAX];
static struct session *session;

static bool has_arg(const struct exec_spec *spec, const char *arg)
{
	for (size_t i = 0; spec->argv != NULL && spec->argv[i] != NULL; i++)
		if (strcmp(spec->argv[i], arg) == 0)
			return true;
	return false;
}

/* What `git rev-parse` says of the checkout, and its configuration with NUL bytes. */
static char place[3 * PATH_MAX + 64];
#define CONFIG "core.bare\nfalse\0remote.origin.url\nhttps://user:" SECRET "@h/o/r.git\0core.hookspath\n.hooks"

static const char *plausible(const struct exec_spec *spec)
{
	static const struct {
		const char *arg, *out;
	} answers[] = {{"--show-toplevel", place}, {"symbolic-ref", "refs/heads/main\n"},
	    {"ls-remote", "ref: refs/heads/main\tHEAD\n" SHA "\tHEAD\n" SHA "\trefs/heads/main\n"},
	    {"--stat=100", " a | 2 +-\n 1 file changed, 1 insertion(+), 1 deletion(-)\n"}, {"rev-parse", SHA "\n"},
	    {"merge-base", SHA "\n"}, {"status", " M a.c\n?? b\n"},
	    {"--json", "{\"type\":\"begin\",\"data\":{\"path\":{\"text\":\"a.c\"}}}\n"
		       "{\"type\":\"match\",\"data\":{\"path\":{\"text\":\"a.c\"},\"lines\":{\"text\":\"int x;\\n\"},"
		       "\"line_number\":1,\"submatches\":[]}}\n"},
	    {"--count", "a.c:3\n"}, {"--files", "a.c"}};

	for (size_t i = 0; i < ARRAY_LEN(answers); i++)
		if (has_arg(spec, answers[i].arg))
			return answers[i].out;
	return has_arg(spec, "--list") ? CONFIG : "";
}

static void say(const struct exec_spec *spec, const uint8_t *bytes, size_t len, size_t piece)
{
	for (size_t at = 0; spec->on_output != NULL && at < len; at += piece) {
		spec->on_output(spec->on_output_ctx, 1, bytes + at, MIN(piece, len - at));
		if (spec->stop != NULL && *spec->stop)
			return;
	}
}

int exec_run(const struct exec_spec *spec, struct exec_result *ret, struct why *why)
{
	uint8_t what = take_u8(&in), n = what & 1 ? take_u8(&in) : 0;
	const char *usual = plausible(spec);
	size_t len = has_arg(spec, "--list") ? sizeof CONFIG : strlen(usual);
	const uint8_t *bytes = what & 1 ? take_bytes(&in, n, &len) : (const uint8_t *)usual;

	if (what == 0xff)
		return why_set(why, ERR_NOT_FOUND, "there is no such program");
	say(spec, bytes, len, (size_t)(what >> 4) * 3 + 1);
	*ret = (struct exec_result){.exit_code = what & 2 ? 1 + (what >> 4) : 0,
	    .out = text_to_utf8((const char *)bytes, len),
	    .err = what & 2 ? text_to_utf8((const char *)bytes, len) : str_dup(""),
	    .both = str_dup(""),
	    .timed_out = what == 0xfd};
	return OK;
}

void exec_result_fini(struct exec_result *r)
{
	str_free(&r->out);
	str_free(&r->err);
	str_free(&r->both);
}

int exec_background(const struct exec_spec *spec, int log_fd, pid_t *ret_pid, struct why *why)
{
	return why_set(why, ERR_NOT_FOUND, "nothing is started here");
}

bool exec_kill_all(const char *mark, pid_t leader, int term_ms, int give_up_ms)
{
	return true;
}

size_t exec_count(const char *mark)
{
	return 0;
}

void exec_hide_secret(const char *value)
{
}

const char *exec_shell_name(void)
{
	return "bash";
}

static void put(const char *name, const char *text)
{
	AUTO_STR path = str_printf("%s/%s", root, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ENSURE(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static void make_session(void)
{
	static const char *const roots[] = {root};
	static char state[PATH_MAX];

	id_init();
	ENSURE(snprintf(root, sizeof root, "%s/work", fuzz_folder()) > 0 && mkdir(root, 0700) == 0);
	ENSURE(snprintf(state, sizeof state, "%s/state", fuzz_folder()) > 0 && mkdir(state, 0700) == 0);
	snprintf(place, sizeof place, "true\n%s\n%s/.git\n%s/.git\nfalse\n", root, root, root);
	put("a.c", "int x;\n");
	put("hidden", "secret\n");
	put(".cursorignore", "hidden\n");
	session = session_new(&(struct session_config){.roots = roots, .n_roots = 1, .state_dir = state});
}

static void check_text(const char *s)
{
	ENSURE(s != NULL && text_is_utf8(s, strlen(s)));
}

static void check_json(const json_t *j)
{
	AUTO_STR text = json_text(j);
	AUTO_JSON again = NULL;

	ENSURE(json_parse(text, strlen(text), &again, NULL) == OK && json_equal(j, again));
}

/* The remote may well print the secret itself; what is our own sentence may not have it. */
static void check_failure(const struct session_failure *f, bool raw)
{
	check_text(f->why.text);
	ENSURE(f->why.text[0] != '\0' && (raw || strstr(f->why.text, SECRET) == NULL));
	if (f->said == NULL)
		return;
	check_text(f->said);
	ENSURE(strlen(f->said) <= GIT_SAID_MAX && (raw || strstr(f->said, SECRET) == NULL));
	for (const char *c = f->said; *c != '\0'; c++)
		ENSURE((unsigned char)*c >= ' ' || *c == '\n' || *c == '\t');
}

static void open_session(bool raw)
{
	static const char *const refs[] = {"", "main", SHA, "v1"};
	uint8_t what = take_u8(&in);
	const struct session_open want = {.agent_id = "bc-1",
	    .repo_url = what & 16 ? "" : "https://user:" SECRET "@h/o/r",
	    .starting_ref = refs[what & 3],
	    .branch = what & 16	 ? ""
		      : what & 4 ? "main"
				 : "cursor/x",
	    .work_on_current_branch = what & 8};
	AUTO_JSON info = NULL;
	AUTO_FINI(session_failure) fail = {0};
	int rc = session_open(session, &want, -1, 0, &info, &fail);

	if (rc != OK) {
		check_failure(&fail, raw);
		return;
	}
	check_json(info);
	ENSURE(json_is_string(json_object_get(info, "branch")) && json_is_array(json_object_get(info, "warnings")));
}

static void publish(bool raw)
{
	const struct session_publish want = {.message = "m", .author_name = "a", .author_email = "a@a"};
	AUTO_JSON info = NULL;
	AUTO_FINI(session_failure) fail = {0};

	if (session_agent_id(session)[0] == '\0')
		return;
	if (session_publish(session, &want, -1, 0, &info, &fail) != OK) {
		check_failure(&fail, raw);
		return;
	}
	check_json(info);
	ENSURE(json_is_boolean(json_object_get(info, "pushed")));
}

static void search(const char *tool, const char *arguments)
{
	struct tool_call c = {.call_id = "c", .session = session, .deadline_mono_ms = INT64_MAX, .cancel_fd = -1};

	tool_run(&c, tool, arguments);
	ENSURE(c.outcome != 0);
	check_text(c.model_text);
	check_json(c.result);
	if (c.sdk_result != NULL)
		check_json(c.sdk_result);
	tool_call_fini(&c);
}

static void act(bool raw)
{
	switch (take_u8(&in) % 8) {
	case 0:
	case 1:
		open_session(raw);
		break;
	case 2:
		publish(raw);
		break;
	case 3:
		search("grep_search", "{\"pattern\":\"x\"}");
		break;
	case 4:
		search("grep_search", "{\"pattern\":\"x\",\"outputMode\":\"files_with_matches\"}");
		break;
	case 5:
		search("grep_search", "{\"pattern\":\"x\",\"outputMode\":\"count\",\"path\":\"a.c\"}");
		break;
	case 6:
		search("file_search", "{\"globPattern\":\"*.c\"}");
		break;
	default:
		session_close(session, NULL);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Whoever puts the secret into the mouth of git finds it there. */
	bool raw = memmem(data, size, SECRET, sizeof SECRET - 1) != NULL;

	if (session == NULL)
		make_session();
	in = (struct bytes){data, size};
	while (in.len > 0)
		act(raw);
	session_close(session, NULL);
	return 0;
}
