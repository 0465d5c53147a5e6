#include "agent/worker/debug.h"
#include "agent/exit_status.h"
#include "agent/session/health.h"
#include "agent/worker/prepare.h"
#include "agent/session/tree.h"
#include "agent/box/box.h"
#include "base/clock.h"
#include "base/folder.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include "base/terminal.h"
#include "net/http_client.h"
#include <string.h>
#include <unistd.h>

#define LOOK_LIMIT_MS 20000
#define ASK_LIMIT_MS 10000

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

static json_t *check_json(const char *name, enum health_grade grade, const char *detail)
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
	json_array_append_new(checks, check_json("isolation",
					  rc != OK				? HEALTH_FATAL
					  : boxes_level(*boxes) < BOX_NAMESPACE ? HEALTH_WARN
										: HEALTH_PASS,
					  missing[0] != '\0'			 ? missing
					  : boxes_level(*boxes) == BOX_NAMESPACE ? "sessions run in namespaces"
										 : "it was asked for"));
}

static void add_roots(const struct worker_roots *roots, json_t *report)
{
	json_t *list = json_array(), *labels = json_array();

	for (size_t i = 0; i < roots->n; i++) {
		const struct worker_root *r = &roots->root[i];

		json_array_append_new(
		    list, json_pack("{s:o, s:b, s:b, s:o, s:o}", "path", json_lossy(r->path, strlen(r->path)),
			      "primary", i == 0, "git", r->remote_url[0] != '\0' || strcmp(r->top, r->path) != 0,
			      "remote", json_lossy(r->remote_url, strlen(r->remote_url)), "repo",
			      json_lossy(r->repo, strlen(r->repo))));
		if (r->repo[0] != '\0')
			json_array_append_new(labels,
			    json_pack("{s:s, s:o}", "key", "repo", "value", json_lossy(r->repo, strlen(r->repo))));
	}
	json_put_new(report, "roots", list);
	json_put_new(report, "labels", labels);
}

/* What /v1/me says of the key. A person's has a user; a worker needs a machine's. */
static json_t *judge_key(const struct http_client_response *r)
{
	AUTO_JSON me = NULL;

	if (r->status == 401)
		return check_json("auth", HEALTH_FATAL, "the key is not known to the control plane, or was revoked");
	if (r->status != 200 || json_parse(strbuf_str(&r->body), r->body.len, &me, NULL) != OK)
		return check_json("auth", HEALTH_FATAL, "the control plane refuses the key");
	if (json_object_get(me, "userId") != NULL)
		return check_json(
		    "auth", HEALTH_FATAL, "this is a person's key; pool workers need a service account API key");
	return check_json("auth", HEALTH_PASS, "the key is a service account's");
}

/* Whether the control plane answers, and what it thinks of the key. */
static void add_connection(const struct worker_options *o, json_t *report)
{
	AUTO_STR url = str_printf("%s/v1/me", o->endpoint);
	AUTO_STR bearer = str_printf("Bearer %s", o->api_key);
	const struct http_header headers[] = {{"authorization", bearer}};
	struct http_client_response r = {0};
	struct why why = {""};
	json_t *checks = json_object_get(report, "checks");
	int64_t start = clock_mono_ms();
	int rc = http_client_do(
	    &(struct http_client_request){
		.method = "GET", .url = url, .headers = headers, .n_headers = 1, .timeout_ms = ASK_LIMIT_MS},
	    &r, &why);
	AUTO_STR status = str_printf("%s answers in %lld ms", o->endpoint, (long long)(clock_mono_ms() - start));

	if (rc != OK) {
		json_array_append_new(checks, check_json("connectivity", HEALTH_FATAL, why.text));
	} else {
		json_array_append_new(checks, check_json("connectivity", HEALTH_PASS, status));
		json_array_append_new(checks, judge_key(&r));
	}
	http_client_response_fini(&r);
	explicit_bzero(bearer, strlen(bearer));
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
		json_array_append_new(checks, check_json(found.v[i].check, found.v[i].grade, found.v[i].detail));
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

static void print_line(const char *label, const char *text)
{
	AUTO_STR clean = terminal_clean(text, TERMINAL_LINE);

	printf("%s: %s\n", label, clean);
}

static void print_text(const json_t *report)
{
	const json_t *isolation = json_object_get(report, "isolation");
	size_t i;
	json_t *c;

	print_line("Version", json_string_value(json_object_get(report, "version")));
	print_line("Pool", json_string_value(json_object_get(json_object_get(report, "worker"), "pool")));
	if (isolation != NULL) {
		print_line("Isolation", json_string_value(json_object_get(isolation, "level")));
		const char *missing = json_string_value(json_object_get(isolation, "mountsMissing"));
		AUTO_STR workspace = str_printf("%s%s%s", json_string_value(json_object_get(isolation, "workspace")),
		    missing[0] != '\0' ? ": " : "", missing);

		print_line("Workspace", workspace);
		print_line("Limits", json_is_true(json_object_get(isolation, "limits")) ? "yes" : "no");
	}
	json_array_foreach(json_object_get(report, "checks"), i, c)
	{
		AUTO_STR text = str_printf("%s: %s", json_string_value(json_object_get(c, "status")),
		    json_string_value(json_object_get(c, "detail")));

		print_line(json_string_value(json_object_get(c, "name")), text);
	}
	print_line("OK", json_is_true(json_object_get(report, "ok")) ? "yes" : "no");
}

static json_t *make_report(const struct worker_options *o, const char *scratch)
{
	json_t *report = json_object();
	struct worker_roots roots;
	AUTO(boxes) boxes = NULL;
	struct why why = {""};
	char host[256] = "";
	int rc;

	IGNORE(gethostname(host, sizeof host - 1));
	json_put(report, "version", BULLPEN_VERSION);
	json_put_new(report, "worker",
	    json_pack("{s:s, s:s, s:s?, s:s?}", "name", o->name != NULL ? o->name : host, "mode",
		o->pool != NULL ? "pool" : "personal", "pool", o->pool, "dataDir", o->data_dir));
	json_put_new(report, "checks", json_array());
	/* Before anything that has threads. */
	add_isolation(o, scratch, &boxes, report);
	rc = roots_read(o, &roots, &why);
	if (rc != OK)
		json_array_append_new(json_object_get(report, "checks"), check_json("folder", HEALTH_FATAL, why.text));
	else
		add_roots(&roots, report);
	if (rc == OK && scratch != NULL)
		add_health(o, &roots, scratch, boxes, report);
	add_connection(o, report);
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
