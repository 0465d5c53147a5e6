/* Comments and issues at GitLab: docs.gitlab.com, "Webhook events", comment and issue events. Its webhooks are not
 * signed: they carry the secret. */
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/triggers/hubs_priv.h"
#include <sodium.h>
#include <string.h>

#define NAME_MAX_BYTES 512

static bool has_secret(const struct forge *f, const char *given)
{
	const char *secret = forge_webhook_secret(f);
	unsigned char a[HMAC_SHA256_LEN], b[HMAC_SHA256_LEN];

	if (secret == NULL)
		return false;
	/* Hashes are of one length, whatever was given. */
	hmac_sha256("gitlab", 6, secret, strlen(secret), a);
	hmac_sha256("gitlab", 6, given, strlen(given), b);
	return sodium_memcmp(a, b, sizeof a) == 0;
}

static struct forge *find_sender(struct triggers *t, const char *given, bool *ret_any)
{
	const struct forges *all = triggers_cfg(t)->forges;
	struct forge *found = NULL;

	for (size_t i = 0; i < forges_count(all); i++) {
		struct forge *f = forges_at(all, i);

		if (forge_kind(f) != FORGE_GITLAB || forge_webhook_secret(f) == NULL)
			continue;
		*ret_any = true;
		if (found == NULL && given != NULL && has_secret(f, given))
			found = f;
	}
	return found;
}

static bool is_issue(const json_t *body)
{
	return strcmp(json_word(body, "object_kind"), "issue") == 0;
}

/* An issue that was opened, or whose labels or assignees are others now. */
static bool issue_is_of_use(const json_t *body)
{
	const char *action = json_word(json_object_get(body, "object_attributes"), "action");
	const json_t *changes = json_object_get(body, "changes");

	return strcmp(action, "open") == 0 ||
	       (strcmp(action, "update") == 0 &&
		   (json_object_get(changes, "labels") != NULL || json_object_get(changes, "assignees") != NULL));
}

/* A comment that was made, not edited, and by no machine of GitLab's own. */
static bool note_is_of_use(const json_t *body)
{
	const json_t *note = json_object_get(body, "object_attributes");

	return strcmp(json_word(body, "object_kind"), "note") == 0 && !json_is_true(json_object_get(note, "system")) &&
	       (!json_is_string(json_object_get(note, "action")) || strcmp(json_word(note, "action"), "create") == 0);
}

/* Number of the issue or merge request; 0: it is neither. */
static int64_t thread_of(const json_t *body, bool *ret_is_pull)
{
	const json_t *note = json_object_get(body, "object_attributes");
	const char *type = json_word(note, "noteable_type");

	if (is_issue(body))
		return json_integer_value(json_object_get(note, "iid"));
	*ret_is_pull = strcmp(type, "MergeRequest") == 0;
	if (!*ret_is_pull && strcmp(type, "Issue") != 0)
		return 0;
	return json_integer_value(
	    json_object_get(json_object_get(body, *ret_is_pull ? "merge_request" : "issue"), "iid"));
}

static int gitlab_accept(struct triggers *t, const struct inside_delivery *d, struct accepted *ret,
    struct inside_answer *answer, struct why *why)
{
	const char *delivery = d->header(d, "idempotency-key"), *event = d->header(d, "x-gitlab-event");
	AUTO_JSON body = NULL;
	bool any = false, is_pull = false;
	struct forge *f = find_sender(t, d->header(d, "x-gitlab-token"), &any);
	const json_t *note;
	int64_t number;
	int rc;

	if (!any)
		return ERR_NOT_FOUND;
	if (f == NULL)
		return why_set(why, ERR_UNAUTHORIZED, "no secret, or a wrong one");
	if (delivery == NULL)
		delivery = d->header(d, "x-gitlab-event-uuid");
	if (delivery == NULL || event == NULL || !text_is_token(delivery, "-", 128) || strlen(event) > 64)
		return why_set(why, ERR_INVALID, "the headers that name event and delivery are missing or wrong");
	rc = json_parse(d->body, d->len, &body, why);
	if (rc == OK && !json_is_object(body))
		rc = why_set(why, ERR_INVALID, "the body is no JSON object");
	if (rc != OK)
		return rc;
	note = json_object_get(body, "object_attributes");
	number = thread_of(body, &is_pull);
	AUTO_STR repo = field_copy(json_object_get(body, "project"), "path_with_namespace", NAME_MAX_BYTES);
	AUTO_STR discussion = field_copy(note, "discussion_id", 128);

	id_lower(repo);
	ret->place = str_dup(forge_host(f));
	ret->delivery = str_dup(delivery);
	ret->event = str_dup(is_issue(body) ? "issue" : "note");
	/* The comments of a thread that has only one are the issue's own. */
	ret->thread = str_printf("%s%s%lld", repo, is_pull ? "!" : "#", (long long)number);
	ret->ignored =
	    !(is_issue(body) ? issue_is_of_use(body) : note_is_of_use(body)) || number <= 0 || repo[0] == '\0';
	return OK;
}

static int gitlab_read(
    struct triggers *t, const struct inbox_row *row, const json_t *body, struct asked *ret, struct why *why)
{
	const json_t *note = json_object_get(body, "object_attributes"), *user = json_object_get(body, "user");
	const json_t *project = json_object_get(body, "project");
	const char *said = json_word(note, is_issue(body) ? "description" : "note");
	struct forge *f = thread_forge(t, FORGE_GITLAB, row->place);
	AUTO_STR name = field_copy(project, "path_with_namespace", NAME_MAX_BYTES);
	AUTO_STR discussion = field_copy(note, "discussion_id", 128);
	bool is_pull = false;
	int64_t number = thread_of(body, &is_pull), id = json_integer_value(json_object_get(user, "id"));

	if (f == NULL)
		return why_set(why, ERR_EMPTY, "the forge is not in the settings any more");
	if (id <= 0 || name[0] == '\0' || number <= 0)
		return why_set(why, ERR_INVALID, "fields are missing");
	if (is_issue(body))
		ret->handed = gitlab_handed(triggers_settings(t), body);
	if (is_issue(body) && ret->handed == HANDED_NOT && strcmp(json_word(note, "action"), "open") != 0)
		return why_set(why, ERR_EMPTY, "it is not our label");
	if (ret->handed == HANDED_NOT && strstr(said, HUB_MARK) != NULL)
		return why_set(why, ERR_EMPTY, "a machine said it");
	ret->account = str_printf("%lld", (long long)id);
	ret->login = field_copy(user, "username", NAME_MAX_BYTES);
	ret->text = ret->handed != HANDED_NOT ? handed_text(name, number) : str_dup(said);
	ret->needs_mention = ret->handed == HANDED_NOT;
	ret->repo_url = forge_repo_url(f, name);
	if (is_pull)
		ret->pull_url = field_copy(json_object_get(body, "merge_request"), "url", 2048);
	ret->on_pull = is_pull;
	ret->at = json_pack("{s:s, s:s, s:I, s:b, s:I, s:b}", "forge", forge_name(f), "repo", name, "thread",
	    (json_int_t)number, "pull", is_pull, "comment",
	    (json_int_t)(is_issue(body) ? 0 : json_integer_value(json_object_get(note, "id"))), "line", 0);
	if (!is_issue(body))
		json_put(ret->at, "discussion", discussion);
	return OK;
}

static bool takes_gitlab(const char *path)
{
	return strcmp(path, "gitlab") == 0;
}

const struct surface surface_gitlab = {.name = "gitlab",
    .keys = HUB_KEYS,
    .drops_comments = true,
    .takes = takes_gitlab,
    .accept = gitlab_accept,
    .read = gitlab_read,
    .look = thread_look,
    .tell = thread_tell};
