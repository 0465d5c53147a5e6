#include "agent/worker/debug.h"
#include "agent/worker/debug_priv.h"
#include "agent/exit_status.h"
#include "agent/session/health.h"
#include "agent/worker/prepare.h"
#include "agent/session/tree.h"
#include "agent/box/box.h"
#include "base/clock.h"
#include "base/folder.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/terminal.h"
#include <string.h>
#include <unistd.h>

#define LOOK_LIMIT_MS 20000

/* Where a trial copy of a folder can be made: the folder that the data directory would be made in, if there is none
 * yet. */
char *worker_scratch_folder(const struct worker_options *o)
{
	const char *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME"), *tmp = getenv("TMPDIR");
	AUTO_STR dir = o->data_dir != NULL		? str_dup(o->data_dir)
		       : xdg != NULL && xdg[0] == '/'	? str_printf("%s/agent-worker", xdg)
		       : home != NULL && home[0] == '/' ? str_printf("%s/.local/share/agent-worker", home)
							: str_dup("/tmp");
	char *made = NULL;

	while (strlen(dir) > 1 && access(dir, W_OK | X_OK) != 0) {
		char *slash = strrchr(dir, '/');

		if (slash == NULL || slash == dir)
			break;
		*slash = '\0';
	}
	if (access(dir, W_OK | X_OK) != 0)
		str_set(&dir, tmp != NULL && tmp[0] == '/' ? tmp : "/tmp");
	made = str_printf("%s/agent-worker-trial-XXXXXX", dir);
	if (mkdtemp(made) == NULL)
		str_free(&made);
	return made;
}

json_t *debug_check(const char *name, enum health_grade grade, const char *detail)
{
	return json_pack("{s:s, s:s, s:o}", "name", name, "status",
	    grade == HEALTH_UNFIT ? "fail" : health_grade_name(grade), "detail", json_lossy(detail, strlen(detail)));
}

/* How a copy of the first folder would be made here. An empty one stands for it. */
static const char *try_workspace(const char *scratch, bool may_mount)
{
	AUTO_STR seed = str_printf("%s/seed", scratch);
	AUTO_STR file = str_printf("%s/seed/file", scratch);
	AUTO_STR dir = str_printf("%s/copy", scratch);
	struct tree *t = NULL;
	const char *name = "none";
	FILE *f;

	if (folder_make(seed, NULL) != OK || (f = fopen(file, "w")) == NULL)
		return name;
	fputs("x", f);
	fclose(f);
	if (tree_new(&(struct tree_config){.seed = seed, .dir = dir, .may_mount = may_mount}, &t, NULL) == OK &&
	    tree_raise(t, -1, NULL) == OK)
		name = tree_method_name(tree_method(t));
	tree_remove(&t);
	return name;
}

static void add_isolation(const struct worker_options *o, const char *scratch, struct boxes **boxes, json_t *report)
{
	json_t *isolation = json_object(), *checks = json_object_get(report, "checks");
	AUTO_STR trial = scratch != NULL ? str_printf("%s/mounts", scratch) : NULL;
	struct why why = {""};
	int rc = boxes_start(o->isolation, o->isolation_named, trial, boxes, &why);
	const char *missing = rc == OK ? boxes_missing(*boxes) : why.text;

	json_put(isolation, "level", rc == OK ? box_level_name(boxes_level(*boxes)) : "none");
	json_put(isolation, "missing", missing);
	json_put(isolation, "workspace",
	    scratch != NULL ? try_workspace(scratch, rc == OK && boxes_may_mount(*boxes)) : "none");
	json_put(isolation, "mountsMissing", rc == OK ? boxes_no_mounts(*boxes) : "");
	json_put_bool(isolation, "limits", rc == OK && boxes_may_limit(*boxes, &why) == OK);
	json_put_new(report, "isolation", isolation);
	json_array_append_new(checks, debug_check("isolation",
					  rc != OK				? HEALTH_FATAL
					  : boxes_level(*boxes) < BOX_NAMESPACE ? HEALTH_WARN
										: HEALTH_PASS,
					  missing[0] != '\0'			 ? missing
					  : boxes_level(*boxes) == BOX_NAMESPACE ? "sessions run in namespaces"
										 : "it was asked for"));
}

static bool is_git(const struct worker_root *r)
{
	AUTO_STR git = str_printf("%s/.git", r->top);

	return access(git, F_OK) == 0;
}

static void add_label(json_t *list, const char *key, const char *value)
{
	json_array_append_new(list, json_pack("{s:s, s:o}", "key", key, "value", json_lossy(value, strlen(value))));
}

static void add_roots(const struct worker_options *o, const struct worker_roots *roots, json_t *report)
{
	json_t *list = json_array(), *labels = json_array();

	for (size_t i = 0; i < roots->n; i++) {
		const struct worker_root *r = &roots->root[i];

		json_array_append_new(list,
		    json_pack("{s:o, s:b, s:b, s:o, s:o}", "path", json_lossy(r->path, strlen(r->path)), "primary",
			i == 0, "git", is_git(r), "remote", json_lossy(r->remote_url, strlen(r->remote_url)), "repo",
			json_lossy(r->repo, strlen(r->repo))));
		if (r->repo[0] != '\0')
			add_label(labels, "repo", r->repo);
	}
	if (o->pool != NULL)
		add_label(labels, "pool", o->pool);
	for (size_t i = 0; i < o->labels.n; i++)
		add_label(labels, o->labels.v[i].key, o->labels.v[i].value);
	json_put_new(report, "roots", list);
	json_put_new(report, "labels", labels);
}

static void add_health(const struct worker_options *o, const struct worker_roots *roots, const char *scratch,
    struct boxes *boxes, json_t *report)
{
	AUTO_FINI(prepared) p = {.n_locks = 0};
	AUTO(health) h = NULL;
	struct health_report found;
	struct session *s;
	json_t *checks = json_object_get(report, "checks");

	prepare_session(o, roots, scratch, boxes, &p);
	s = session_new(&p.session);
	h = health_new(s);
	health_look(h, -1, clock_mono_ms() + LOOK_LIMIT_MS, &found);
	for (size_t i = 0; i < found.n; i++)
		json_array_append_new(checks, debug_check(found.v[i].check, found.v[i].grade, found.v[i].detail));
	health_report_fini(&found);
	session_free(&s);
}

static bool is_ok(const json_t *report)
{
	size_t i;
	json_t *c;

	json_array_foreach(json_object_get(report, "checks"), i, c)
	{
		if (strcmp(json_string_value(json_object_get(c, "status")), "fail") == 0)
			return false;
	}
	return true;
}

void debug_print_line(const char *label, const char *text)
{
	AUTO_STR clean = terminal_clean(text, TERMINAL_LINE);

	printf("%s: %s\n", label, clean);
}

static void print_member(const char *label, const json_t *object, const char *key)
{
	const json_t *v = json_object_get(object, key);

	if (json_is_string(v))
		debug_print_line(label, json_string_value(v));
	else if (json_is_integer(v))
		printf("%s: %lld\n", label, (long long)json_integer_value(v));
	else if (json_is_boolean(v))
		printf("%s: %s\n", label, json_is_true(v) ? "yes" : "no");
}

static void print_worker(const json_t *report)
{
	const json_t *worker = json_object_get(report, "worker"), *auth = json_object_get(report, "auth");
	size_t i;
	json_t *item;

	print_member("Version", report, "version");
	print_member("Worker id", worker, "id");
	print_member("Name", worker, "name");
	print_member("Mode", worker, "mode");
	print_member("Pool", worker, "pool");
	print_member("Idle release (seconds)", worker, "idleReleaseTimeoutSeconds");
	print_member("Data directory", worker, "dataDir");
	print_member("Credential", auth, "method");
	print_member("Key type", auth, "keyType");
	json_array_foreach(json_object_get(report, "roots"), i, item)
	{
		print_member(i == 0 ? "Root (primary)" : "Root", item, "path");
		print_member("Git", item, "git");
		if (json_string_length(json_object_get(item, "remote")) > 0)
			print_member("Remote", item, "remote");
	}
	json_array_foreach(json_object_get(report, "labels"), i, item)
	{
		AUTO_STR pair = str_printf("%s=%s", json_string_value(json_object_get(item, "key")),
		    json_string_value(json_object_get(item, "value")));

		debug_print_line("Label", pair);
	}
	print_member(
	    "Visible workers", json_object_get(json_object_get(report, "visibilityProbe"), "privacy"), "totalCount");
	print_member("Privacy", json_object_get(report, "privacy"), "mode");
	print_member("Computer use", json_object_get(report, "computerUse"), "requested");
}

static void print_text(const json_t *report)
{
	const json_t *isolation = json_object_get(report, "isolation");
	size_t i;
	json_t *c;

	print_worker(report);
	if (isolation != NULL) {
		debug_print_line("Isolation", json_string_value(json_object_get(isolation, "level")));
		const char *missing = json_string_value(json_object_get(isolation, "mountsMissing"));
		AUTO_STR workspace = str_printf("%s%s%s", json_string_value(json_object_get(isolation, "workspace")),
		    missing[0] != '\0' ? ": " : "", missing);

		debug_print_line("Workspace", workspace);
		debug_print_line("Limits", json_is_true(json_object_get(isolation, "limits")) ? "yes" : "no");
	}
	debug_print_hooks(report);
	json_array_foreach(json_object_get(report, "checks"), i, c)
	{
		AUTO_STR text = str_printf("%s: %s", json_string_value(json_object_get(c, "status")),
		    json_string_value(json_object_get(c, "detail")));

		debug_print_line(json_string_value(json_object_get(c, "name")), text);
	}
	debug_print_line("OK", json_is_true(json_object_get(report, "ok")) ? "yes" : "no");
}

static json_t *make_report(const struct worker_options *o, const char *scratch)
{
	json_t *report = json_object();
	struct worker_roots roots;
	AUTO(boxes) boxes = NULL;
	struct why why = {""};
	AUTO_STR host = identity_host();
	const char *name = o->name != NULL ? o->name : host;
	AUTO_STR data_dir = identity_data_dir(o);
	AUTO_STR id = identity_look(o);
	int rc;

	json_put(report, "version", BULLPEN_VERSION);
	json_put_bool(report, "ok", false);
	json_put_new(report, "worker",
	    json_pack("{s:s?, s:o, s:s, s:s?, s:I, s:s?}", "id", id, "name", json_lossy(name, strlen(name)), "mode",
		o->pool != NULL ? "pool" : "personal", "pool", o->pool, "idleReleaseTimeoutSeconds",
		(json_int_t)o->idle_release_s, "dataDir", data_dir));
	json_put_new(report, "computerUse", json_pack("{s:b, s:b, s:[]}", "requested", 0, "ready", 0, "checks"));
	json_put_new(report, "checks", json_array());
	/* Before anything that has threads. */
	add_isolation(o, scratch, &boxes, report);
	rc = roots_read(o, &roots, &why);
	if (rc != OK)
		json_array_append_new(json_object_get(report, "checks"), debug_check("folder", HEALTH_FATAL, why.text));
	else
		add_roots(o, &roots, report);
	if (rc == OK)
		debug_hooks(o, &roots, report);
	if (rc == OK && scratch != NULL)
		add_health(o, &roots, scratch, boxes, report);
	debug_remote(o, report);
	json_put_bool(report, "ok", is_ok(report));
	roots_fini(&roots);
	return report;
}

int worker_debug(const struct worker_options *o)
{
	AUTO_STR scratch = worker_scratch_folder(o);
	AUTO_JSON report = make_report(o, scratch);

	if (o->json) {
		AUTO_STR text = json_text(report);
		AUTO_STR safe = terminal_clean(text, TERMINAL_JSON);

		puts(safe);
	} else {
		print_text(report);
	}
	if (scratch != NULL)
		tree_delete(scratch);
	return json_is_true(json_object_get(report, "ok")) ? EXIT_DONE : EXIT_FAILED;
}
