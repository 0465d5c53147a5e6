/* Where hooks come from. */
#include "agent/hooks/hooks_priv.h"
#include "agent/session/beneath.h"
#include "base/folder.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ENTERPRISE_DIR "/etc/cursor"
#define TEAM_MAX ((size_t)2 * 1024 * 1024)

/* A file of a folder that is not the session's. NULL: it is not there. */
static struct hook_source *read_file_at(enum hook_rank rank, const char *dir, const char *name, const char *work_dir)
{
	AUTO_STR path = str_printf("%s/%s", dir, name);
	AUTO_STR text = NULL;
	struct hook_source *s;
	size_t len = 0;
	int rc = text_read_file(path, HOOK_FILE_MAX + 1, &text, &len);

	if (rc == ERR_NOT_FOUND)
		return NULL;
	if (rc == OK || rc == ERR_TOO_LARGE)
		return hook_source_parse(rank, path, work_dir, NULL, text, rc == OK ? len : HOOK_FILE_MAX + 1);
	s = hook_source_parse(rank, path, work_dir, NULL, "{}", 2);
	s->invalid = true;
	hook_warn(s, "it cannot be read: %s", err_text(rc));
	return s;
}

/* The session could change what it is judged by. */
static void warn_writable(struct hook_source *s)
{
	struct stat st;

	if (stat(s->dir, &st) == 0 && geteuid() != 0 && access(s->dir, W_OK) == 0)
		hook_warn(s, "its folder can be written by the user of the sessions");
}

const char *hook_enterprise_dir(void)
{
	const char *other = getenv("CURSOR_ENTERPRISE_HOOKS_DIR");

	return other != NULL && other[0] == '/' && access(ENTERPRISE_DIR "/hooks.json", F_OK) != 0 ? other
												   : ENTERPRISE_DIR;
}

struct hook_source *hooks_read_enterprise(const struct hook_settings *set)
{
	struct hook_source *s = set->enterprise_dir != NULL ? read_file_at(HOOKS_ENTERPRISE, set->enterprise_dir,
								  "hooks.json", set->enterprise_dir)
							    : NULL;

	if (s != NULL)
		warn_writable(s);
	return s;
}

static bool hash_is(const char *text, size_t len, const char *hash)
{
	char hex[SHA256_HEX_LEN];

	sha256_hex(text, len, hex);
	return strcmp(hex, hash) == 0;
}

/* One file in one step, so that a hook that starts meanwhile finds the old or the new. */
static int put_file(const char *dir, const char *name, const char *text, size_t len, mode_t mode, struct why *why)
{
	AUTO_STR path = str_printf("%s/%s", dir, name);
	AUTO_STR draft = str_printf("%s/.draft-XXXXXX", dir);
	int fd = mkstemp(draft), rc = OK;
	size_t at = 0;

	if (fd < 0)
		return why_set(why, err_from_errno(errno), "cannot write to %.300s: %s", dir, strerror(errno));
	while (at < len) {
		ssize_t n = write(fd, text + at, len - at);

		if (n < 0 && errno != EINTR)
			break;
		at += n > 0 ? (size_t)n : 0;
	}
	if (at < len || fchmod(fd, mode) != 0 || rename(draft, path) != 0) {
		rc = why_set(why, err_from_errno(errno), "cannot write %.300s: %s", path, strerror(errno));
		unlink(draft);
	}
	close(fd);
	return rc;
}

static int put_scripts(const char *dir, const json_t *files, struct why *why)
{
	const char *name;
	json_t *text;
	int rc = OK;

	json_object_foreach((json_t *)files, name, text)
	{
		if (name[0] == '.' || !text_is_token(name, "._-", 128) || strcmp(name, "hooks.json") == 0 ||
		    !json_is_string(text))
			return why_set(why, ERR_INVALID, "the team's file %.100s has no usable name", name);
		if (rc == OK)
			rc = put_file(dir, name, json_string_value(text), json_string_length(text), 0555, why);
	}
	return rc;
}

/* The managed folder of that content: hooks.json and the scripts beside it. */
static int unpack_team(const char *dir, const json_t *content, struct why *why)
{
	AUTO_JSON config = json_object();
	AUTO_STR text = NULL;
	const json_t *hooks = json_object_get(content, "hooks");
	int rc = folder_make(dir, why);

	json_put_int(config, "version", 1);
	json_put_new(config, "hooks", hooks != NULL ? json_incref((json_t *)hooks) : json_object());
	text = json_text(config);
	if (rc == OK)
		rc = put_scripts(dir, json_object_get(content, "files"), why);
	return rc != OK ? rc : put_file(dir, "hooks.json", text, strlen(text), 0444, why);
}

/* What is kept under that hash, or came just now. ERR_EMPTY: neither. */
static int team_content(const char *base, const json_t *team, const char *hash, char **ret, struct why *why)
{
	const char *came = json_string_value(json_object_get(team, "content"));
	AUTO_STR name = str_printf("%s.json", hash);
	AUTO_STR path = str_printf("%s/%s", base, name);
	size_t len = 0;
	int rc;

	if (came != NULL) {
		if (strlen(came) > TEAM_MAX || !hash_is(came, strlen(came), hash))
			return why_set(why, ERR_INVALID, "the team's hooks came damaged: they do not have their hash");
		rc = put_file(base, name, came, strlen(came), 0444, why);
		if (rc == OK)
			*ret = str_dup(came);
		return rc;
	}
	rc = text_read_file(path, TEAM_MAX, ret, &len);
	if (rc == OK && hash_is(*ret, len, hash))
		return OK;
	if (rc == OK)
		str_free(ret);
	return ERR_EMPTY;
}

int hooks_read_team(const struct hook_settings *set, const json_t *team, struct hook_source **ret, struct why *why)
{
	const char *hash = json_string_value(json_object_get(team, "hash"));
	AUTO_STR text = NULL;
	AUTO_STR dir = NULL;
	AUTO_JSON content = NULL;
	int rc;

	*ret = NULL;
	if (hash == NULL)
		return OK;
	if (strlen(hash) != 64 || !text_is_token(hash, "", 64))
		return why_set(why, ERR_INVALID, "the hash of the team's hooks is none");
	if (set->team_dir == NULL)
		return why_set(why, ERR_INVALID, "the team has hooks, and this worker has no folder to keep them in");
	rc = folder_make(set->team_dir, why);
	if (rc == OK)
		rc = team_content(set->team_dir, team, hash, &text, why);
	if (rc != OK)
		return rc;
	ENSURE(text != NULL);
	if (json_parse(text, strlen(text), &content, why) != OK || !json_is_object(content))
		return why_set(why, ERR_INVALID, "the team's hooks are not valid JSON");
	dir = str_printf("%s/%s", set->team_dir, hash);
	rc = unpack_team(dir, content, why);
	if (rc == OK)
		*ret = read_file_at(HOOKS_TEAM, dir, "hooks.json", dir);
	if (rc == OK && *ret != NULL)
		warn_writable(*ret);
	return rc;
}

bool hooks_team_is_known(const struct hook_settings *set, const json_t *facts)
{
	struct hook_source *s = NULL;
	int rc = hooks_read_team(set, json_object_get(facts, "teamHooks"), &s, NULL);

	hook_source_free(&s);
	return rc != ERR_EMPTY;
}

struct sources {
	struct hook_source **v;
	size_t n;
};

static void sources_add(struct sources *l, struct hook_source *s)
{
	if (s == NULL)
		return;
	if (l->n < HOOK_SOURCES_MAX)
		l->v[l->n++] = s;
	else
		hook_source_free(&s);
}

/* Of the repository: links that leave it are not followed. */
static struct hook_source *read_in_root(enum hook_rank rank, const char *root, const char *rel)
{
	AUTO_STR shown = str_printf("%s/%s", root, rel);
	size_t len = 0;
	AUTO_STR text = read_beneath(root, rel, HOOK_FILE_MAX + 1, &len);

	return text != NULL ? hook_source_parse(rank, shown, root, root, text, len) : NULL;
}

static void add_third_party(struct sources *l, const char *const *roots, size_t n_roots, bool user)
{
	static const char *const files[] = {".claude/settings.local.json", ".claude/settings.json"};
	const char *home = getenv("HOME");

	for (size_t i = 0; i < n_roots; i++)
		for (size_t k = 0; k < ARRAY_LEN(files); k++)
			sources_add(l, read_in_root(HOOKS_THIRD_PARTY, roots[i], files[k]));
	if (user && home != NULL && home[0] == '/' && n_roots > 0)
		sources_add(l, read_file_at(HOOKS_THIRD_PARTY, home, files[1], roots[0]));
}

size_t hooks_read_own(
    const struct hook_settings *set, const char *const *roots, size_t n_roots, struct hook_source ***ret)
{
	struct sources l = {.v = mem_zalloc(HOOK_SOURCES_MAX * sizeof(struct hook_source *))};
	const char *home = getenv("HOME"), *first = n_roots > 0 ? roots[0] : "/";

	if (set->on_session_start != NULL)
		sources_add(&l, hook_source_command(HOOKS_FLAGS, "--on-session-start", first, HOOK_SESSION_START,
				    set->on_session_start));
	if (set->on_session_end != NULL)
		sources_add(&l,
		    hook_source_command(HOOKS_FLAGS, "--on-session-end", first, HOOK_SESSION_END, set->on_session_end));
	for (size_t i = 0; set->project && i < n_roots; i++)
		sources_add(&l, read_in_root(HOOKS_PROJECT, roots[i], ".cursor/hooks.json"));
	if (set->user && home != NULL && home[0] == '/') {
		AUTO_STR dir = str_printf("%s/.cursor", home);

		sources_add(&l, read_file_at(HOOKS_USER, dir, "hooks.json", dir));
	}
	if (set->third_party && set->project)
		add_third_party(&l, roots, n_roots, set->user);
	*ret = l.v;
	return l.n;
}

size_t hooks_sources_read(const struct hook_settings *set, const char *const *roots, size_t n_roots, const json_t *team,
    struct hook_source ***ret)
{
	struct hook_source **own = NULL, *managed[2] = {hooks_read_enterprise(set), NULL};
	size_t n_own = hooks_read_own(set, roots, n_roots, &own), n = 0;
	struct hook_source **all = mem_zalloc((n_own + 2) * sizeof(struct hook_source *));

	IGNORE(hooks_read_team(set, team, &managed[1], NULL));
	for (size_t i = 0; i < ARRAY_LEN(managed); i++)
		if (managed[i] != NULL)
			all[n++] = managed[i];
	for (size_t i = 0; i < n_own; i++)
		all[n++] = own[i];
	free(own);
	*ret = all;
	return n;
}

void hooks_sources_free(struct hook_source ***list, size_t n)
{
	for (size_t i = 0; *list != NULL && i < n; i++)
		hook_source_free(&(*list)[i]);
	free(*list);
	*list = NULL;
}
