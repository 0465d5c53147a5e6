/* Names from outside that the worker compares and opens: addresses of repositories, refs, globs, paths of a model, the
 * head of a rule file, git's last words. Two texts, apart by NUL. */
#include "agent/session/beneath.h"
#include "agent/session/frontmatter.h"
#include "agent/session/git.h"
#include "agent/session/glob.h"
#include "agent/session/session.h"
#include "agent/session/workspace.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include "base/terminal.h"
#include "base/text.h"
#include "folder.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Bytes of the longest advice of git_reason, with some to spare. */
#define ADVICE_MAX 100

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char root[PATH_MAX];
static struct session *session;

static void make_folders(void)
{
	static const char *const roots[] = {root};
	char path[PATH_MAX + 32];

	ENSURE(snprintf(root, sizeof root, "%s/work", fuzz_folder()) > 0 && mkdir(root, 0700) == 0);
	snprintf(path, sizeof path, "%s/sub", root);
	ENSURE(mkdir(path, 0700) == 0);
	snprintf(path, sizeof path, "%s/out", root);
	ENSURE(symlink("/", path) == 0);
	snprintf(path, sizeof path, "%s/up", root);
	ENSURE(symlink("../..", path) == 0);
	snprintf(path, sizeof path, "%s/sub/down", root);
	ENSURE(symlink("../sub", path) == 0);
	session = session_new(&(struct session_config){.roots = roots, .n_roots = 1, .state_dir = root});
}

static void repository(const char *url)
{
	AUTO_STR host = NULL;
	AUTO_STR label = repo_url_label(url, &host);
	AUTO_STR redacted = repo_url_redact(url);
	AUTO_STR twice = repo_url_redact(redacted);
	const char *at;

	ENSURE(strcmp(redacted, twice) == 0 && strlen(redacted) <= strlen(url));
	/* No userinfo is left in any URL. */
	for (at = strstr(redacted, "://"); at != NULL; at = strstr(at + 3, "://"))
		ENSURE(at[3 + strcspn(at + 3, "/?# \t\r\n'\"<>@")] != '@');
	ENSURE((label == NULL) == (host == NULL));
	if (label == NULL)
		return;
	ENSURE(text_is_utf8(label, strlen(label)) && label[0] != '/' && strstr(label, "//") == NULL);
	ENSURE(repo_url_same(url, url));
	for (const char *c = host; *c != '\0'; c++)
		ENSURE(*c != '@' && (*c < 'A' || *c > 'Z'));
}

/* At most two lines of what a terminal may see, "; " between them, and our advice in brackets, or that alone. */
static void reason_of_git(const char *s)
{
	AUTO_STR reason = git_reason(s);
	AUTO_STR seen = terminal_clean(s, TERMINAL_TEXT);
	AUTO_STR again = terminal_clean(reason, TERMINAL_TEXT);
	size_t len = strlen(reason), max = strlen(seen) + 2;

	ENSURE(strcmp(reason, again) == 0 && strchr(reason, '\n') == NULL);
	if (len <= max)
		return;
	while (len > 0 && strncmp(reason + len, " (", 2) != 0)
		len--;
	ENSURE(len <= max && strlen(reason + len) <= ADVICE_MAX + 3);
	ENSURE(len > 0 ? reason[strlen(reason) - 1] == ')' : strncmp(reason, " (", 2) != 0);
}

static void words_of_git(const char *s)
{
	reason_of_git(s);
	ENSURE(!git_is_sha(s) || (strlen(s) <= 64 && strchr(s, '-') == NULL));
	ENSURE(!text_is_git_ref(s) || (s[0] != '-' && strstr(s, "..") == NULL && strpbrk(s, " ~^:?*[\\") == NULL));
}

static void pattern(const char *glob, const char *path)
{
	int budget = 1000;
	bool within = glob_matches_within(glob, path, &budget);

	/* What matches on a small budget matches on a large one. */
	ENSURE(!within || glob_matches(glob, path));
	ENSURE(budget >= -1000);
	if (path[0] != '\0' && strlen(path) < GLOB_PATTERN_MAX && strpbrk(path, "*?[]{},\\/") == NULL)
		ENSURE(glob_matches(path, path) && glob_matches("**", path) && glob_matches("*", path));
}

static void head_of_rule(const char *text)
{
	AUTO_JSON meta = NULL;
	const char *body = NULL, *key;
	struct why why = {""};
	json_t *v, *item;
	size_t i;
	int rc = frontmatter_parse(text, &meta, &body, &why);

	ENSURE(rc == OK || why.text[0] != '\0');
	if (rc != OK)
		return;
	ENSURE(json_is_object(meta) && body >= text && body <= text + strlen(text));
	json_object_foreach(meta, key, v)
	{
		ENSURE(json_is_string(v) || json_is_boolean(v) || json_is_array(v));
		json_array_foreach(v, i, item) ENSURE(json_is_string(item));
	}
}

static void check_inside(int fd)
{
	AUTO_STR path = NULL;
	size_t n = strlen(root);

	if (fd < 0)
		return;
	path = fd_path(fd);
	ENSURE(path != NULL && strncmp(path, root, n) == 0 && (path[n] == '\0' || path[n] == '/'));
	close(fd);
}

static void path_of_model(const char *path)
{
	struct place p = {0};
	struct refusal r = {0};
	int fd;

	check_inside(open_beneath(root, path, O_RDONLY));
	check_inside(open_without_links(root, path, O_RDONLY));
	if (place_find(session, path, &p, &r) != OK) {
		ENSURE(r.code != NULL && r.why.text[0] != '\0');
		return;
	}
	AUTO_STR framed = str_printf("/%s/", p.rel);

	ENSURE(strstr(framed, "/../") == NULL && strstr(framed, "//") == NULL && p.rel[0] != '/');
	ENSURE(strncmp(p.abs, root, strlen(root)) == 0);
	if (place_open(session, &p, O_RDONLY, &fd, &r) == OK)
		check_inside(fd);
	else
		ENSURE(r.code != NULL && r.why.text[0] != '\0');
	place_fini(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_STR text = str_ndup((const char *)data, size);
	const char *first = text, *second = first + strlen(first) < text + size ? first + strlen(first) + 1 : "";

	if (session == NULL)
		make_folders();
	repository(first);
	repo_url_same(first, second);
	ENSURE(repo_url_same(first, second) == repo_url_same(second, first));
	words_of_git(first);
	pattern(first, second);
	head_of_rule(first);
	path_of_model(first);
	return 0;
}
