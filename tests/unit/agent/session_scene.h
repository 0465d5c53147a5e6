/* A session on a real repository with a bare remote, all in a folder of the test. */
#pragma once
#include "workbench.h"

static inline const char *url_of(struct bench *b)
{
	static char url[PATH_MAX];

	snprintf(url, sizeof url, "%.3000s/acme/web.git", b->dir);
	return url;
}

/* A remote acme/web.git with main (two commits, tag v1 on the first), and its clone as the root. */
static inline int setup_repo(void **state)
{
	struct bench *b = NEW(struct bench);

	bench_open(b);
	SH(b,
	    "git init -q --bare -b main acme/web.git && git init -q -b main seed && cd seed && echo 1 > f && git add f "
	    "&& git commit -qm one "
	    "&& git tag v1 && git tag -am note v1-annotated && echo 2 > f && git commit -qam two && git remote add "
	    "origin ../acme/web.git && git "
	    "push -q origin main v1 v1-annotated && cd .. && git clone -q '%s' work",
	    url_of(b));
	bench_session(b);
	*state = b;
	return 0;
}

static inline int open_with(struct bench *b, const char *agent, const char *ref, const char *branch, bool current,
    json_t **info, struct session_failure *fail)
{
	struct session_open want = {.agent_id = agent,
	    .repo_url = url_of(b),
	    .starting_ref = ref,
	    .branch = branch,
	    .work_on_current_branch = current};
	int rc;

	*info = NULL;
	rc = session_open(b->session, &want, b->cancel[0], clock_mono_ms() + 60000, info, fail);
	bench_follow(b);
	return rc;
}

static inline json_t *must_open(struct bench *b, const char *agent, const char *ref, const char *branch, bool current)
{
	json_t *info;
	AUTO_FINI(session_failure) fail = {0};

	if (open_with(b, agent, ref, branch, current, &info, &fail) != OK)
		fail_msg("%s", fail.why.text);
	return info;
}

/* Whether the reason was taken for the machine's. */
static inline bool refuse_open(struct bench *b, const char *ref, const char *branch, const char *part)
{
	json_t *info;
	AUTO_FINI(session_failure) fail = {0};

	assert_int_not_equal(open_with(b, "bc-1", ref, branch, false, &info, &fail), OK);
	if (strstr(fail.why.text, part) == NULL)
		fail_msg("no '%s' in: %s", part, fail.why.text);
	assert_string_equal(session_agent_id(b->session), "");
	return fail.machine;
}

static inline json_t *must_publish(struct bench *b)
{
	struct session_publish want = {.message = "Work", .author_name = "Ann", .author_email = "ann@acme.io"};
	json_t *info = NULL;
	AUTO_FINI(session_failure) fail = {0};

	session_touch(b->session);
	if (session_publish(b->session, &want, b->cancel[0], clock_mono_ms() + 60000, &info, &fail) != OK)
		fail_msg("%s", fail.why.text);
	return info;
}

/* *ret_kept (may be NULL): what was kept instead; a new reference. */
static inline int refuse_publish_and_keep(struct bench *b, const char *part, json_t **ret_kept)
{
	struct session_publish want = {.message = "-m Work", .author_name = "Ann", .author_email = "ann@acme.io"};
	json_t *info = NULL;
	AUTO_FINI(session_failure) fail = {0};
	int rc = session_publish(b->session, &want, b->cancel[0], clock_mono_ms() + 60000, &info, &fail);

	assert_int_not_equal(rc, OK);
	if (strstr(fail.why.text, part) == NULL && (fail.said == NULL || strstr(fail.said, part) == NULL))
		fail_msg("no '%s' in: %s / %s", part, fail.why.text, fail.said != NULL ? fail.said : "-");
	if (ret_kept != NULL)
		*ret_kept = json_incref(fail.kept);
	return rc;
}

static inline int refuse_publish(struct bench *b, const char *part)
{
	return refuse_publish_and_keep(b, part, NULL);
}

static inline const char *text_of(const json_t *info, const char *key)
{
	const char *s = json_string_value(json_object_get(info, key));

	assert_non_null(s);
	return s;
}

static inline bool flag_of(const json_t *info, const char *key)
{
	assert_true(json_is_boolean(json_object_get(info, key)));
	return json_is_true(json_object_get(info, key));
}

static inline int64_t number_of(const json_t *info, const char *key)
{
	assert_true(json_is_integer(json_object_get(info, key)));
	return json_integer_value(json_object_get(info, key));
}

static inline size_t n_warnings(const json_t *info)
{
	return json_array_size(json_object_get(info, "warnings"));
}

#define assert_sh(b, want, ...)                                                                                        \
	do {                                                                                                           \
		AUTO_STR out_ = sh(b, __VA_ARGS__);                                                                    \
		assert_string_equal(out_, want);                                                                       \
	} while (0)

/* A worker that was killed and started again. */
static inline void kill_worker(struct bench *b)
{
	struct session_config cfg = {.roots = b->roots, .n_roots = 1, .state_dir = b->state};
	struct session_leftovers left;

	b->session = NULL; /* all it has is what lies there */
	session_end_leftovers(&cfg, &left);
	bench_session(b);
}
