/* What a repository says to an agent: a .cursorignore, a rule and the path they are asked about, apart by NUL. */
#include "agent/session/context_file.h"
#include "agent/session/ignore.h"
#include "agent/session/rule_file.h"
#include "base/mem.h"
#include "base/text.h"
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[64];

static void make_dir(void)
{
	char path[128];

	snprintf(dir, sizeof dir, "/tmp/bullpen-fuzz-XXXXXX");
	ENSURE(mkdtemp(dir) != NULL);
	snprintf(path, sizeof path, "%s/.cursor", dir);
	ENSURE(mkdir(path, 0700) == 0);
	snprintf(path, sizeof path, "%s/.cursor/rules", dir);
	ENSURE(mkdir(path, 0700) == 0);
}

static void put(const char *name, const char *bytes, size_t len)
{
	char path[128];
	int fd;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ENSURE(fd >= 0 && write(fd, bytes, len) == (ssize_t)len);
	close(fd);
}

/* The same file as a skill and as a subagent. */
static void read_as_others(const char *path)
{
	static const enum context_kind kinds[] = {CONTEXT_SKILL, CONTEXT_AGENT, CONTEXT_COMMAND};

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		AUTO_FINI(context_file) f = {0};

		ENSURE(context_file_read(dir, ".cursor/rules/a.mdc", kinds[i], &f) == OK);
		ENSURE(strlen(f.body) <= CONTEXT_BODY_MAX && text_is_utf8(f.body, strlen(f.body)));
		ENSURE(strlen(f.description) <= CONTEXT_DESCRIPTION_MAX && strpbrk(f.description, "\n\r\033") == NULL);
		ENSURE(f.unusable || strlen(f.name) <= CONTEXT_NAME_MAX);
		context_file_is_for(&f, path);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_STR text = str_ndup((const char *)data, size);
	const char *ignore = text, *rule = ignore + strlen(ignore) + 1, *path = "src/a.c";
	AUTO(ignore) ig = NULL;
	AUTO_FINI(rule) r = {0};
	AUTO_STR shown = NULL;

	if (dir[0] == '\0')
		make_dir();
	if (rule > text + size)
		return 0;
	if (rule + strlen(rule) + 1 <= text + size && rule[strlen(rule) + 1] != '\0')
		path = rule + strlen(rule) + 1;
	put(".cursorignore", ignore, strlen(ignore));
	put(".cursor/rules/a.mdc", rule, strlen(rule));
	ig = ignore_new(dir, ".");
	ignore_find(ig, path, false);
	ignore_find(ig, "a/b/c", true);
	if (rule_read(dir, ".cursor/rules/a.mdc", &r) != OK)
		return 0;
	rule_matches(&r, path);
	shown = rule_text(dir, &r, NULL);
	ENSURE(text_is_utf8(shown, strlen(shown)));
	read_as_others(path);
	return 0;
}
