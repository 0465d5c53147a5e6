/* What forges send: the bodies of webhooks of GitHub, Gitea and GitLab, as JSON and as a form, from the signature to
 * what somebody wants. The first byte says from whom, of what kind, and whether it is signed. */
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/triggers/hubs_priv.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

#define SECRET "a-secret-of-the-forge"
#define HOST "forge.test"

static struct forges *forges;
static struct triggers *triggers;

static void write_secret(char *path)
{
	int fd = mkstemp(path);

	ENSURE(fd >= 0 && write(fd, SECRET "\n", strlen(SECRET) + 1) == (ssize_t)strlen(SECRET) + 1);
	close(fd);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const char *const kinds[] = {"github", "gitlab", "gitea"};
	const char *dir = getenv("TMPDIR");
	AUTO_STR path = str_printf("%s/fuzz-hooks-XXXXXX", dir != NULL ? dir : "/tmp");
	AUTO_JSON list = json_array();
	static json_t *settings;
	struct why why = {0};

	write_secret(path);
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		json_array_append_new(
		    list, json_pack("{s:s, s:s, s:s, s:s, s:s}", "kind", kinds[i], "name", kinds[i], "url",
			      "https://" HOST, "token_file", path, "webhook_secret_file", path));
	ENSURE(forges_new(list, &forges, &why) == OK);
	settings = json_pack("{s:[s, s]}", "labels", "agent", "for the agent");
	ENSURE(triggers_new(&(struct triggers_config){.forges = forges, .settings = settings, .cloud_pool = ""},
		   &triggers, &why) == OK);
	unlink(path);
	return 0;
}

struct sent {
	bool form;
	const char *event, *signature;
};

static const char *header_of(const struct inside_delivery *d, const char *name)
{
	const struct sent *s = d->ctx;

	if (strcmp(name, "content-type") == 0)
		return s->form ? "application/x-www-form-urlencoded" : "application/json";
	if (strstr(name, "delivery") != NULL || strcmp(name, "idempotency-key") == 0)
		return "0b2b1c0e-1111-4222-8333-444455556666";
	if (strstr(name, "event") != NULL)
		return s->event;
	return strstr(name, "signature") != NULL || strcmp(name, "x-gitlab-token") == 0 ? s->signature : NULL;
}

/* What the next steps of the pipeline take for granted. */
static void check_asked(const struct asked *a, const json_t *body, const struct surface *surface)
{
	const struct trigger_text text = {.text = a->text, .keys = surface->keys, .drops_comments = true};
	struct trigger_options o;
	struct why why = {0};
	int64_t account = 0;

	ENSURE(text_parse_int(a->account, 1, INT64_MAX, &account) == OK);
	ENSURE(a->login != NULL && strlen(a->login) <= 512 && a->text != NULL);
	ENSURE(text_has_prefix(a->repo_url, "https://" HOST "/"));
	ENSURE(json_word(a->at, "forge")[0] != '\0' && json_word(a->at, "repo")[0] != '\0' &&
	       json_integer_value(json_object_get(a->at, "thread")) > 0);
	ENSURE(!a->on_pull || a->pull_url != NULL);
	/* Without a word nobody is trusted before the forge was asked, and nothing that somebody wrote is the prompt.
	 */
	if (a->handed != HANDED_NOT)
		ENSURE(!a->trusted && !a->needs_mention && text_has_prefix(a->text, "Resolve issue #") &&
		       strchr(a->text, '\n') == NULL);
	else
		ENSURE(a->needs_mention);
	IGNORE(hub_handed_to(body, "bullpen"));
	IGNORE(gitlab_handed_to(body, "bullpen"));
	IGNORE(trigger_options_read(&text, &o, &why));
	trigger_options_fini(&o);
}

static void read_stored(const struct surface *surface, const struct accepted *a, const char *sent)
{
	const char *text = a->body != NULL ? a->body : sent;
	struct inbox_row row = {.surface = (char *)surface->name,
	    .place = a->place,
	    .event = a->event,
	    .thread = a->thread,
	    .body = (char *)text};
	struct asked asked = {0};
	struct why why = {0};
	AUTO_JSON body = NULL;
	int rc;

	ENSURE(json_parse(text, strlen(text), &body, &why) == OK && json_is_object(body));
	rc = surface->read(triggers, &row, body, &asked, &why);
	ENSURE(rc == OK || ((rc == ERR_EMPTY || rc == ERR_INVALID) && why.text[0] != '\0'));
	if (rc == OK)
		check_asked(&asked, body, surface);
	asked_fini(&asked);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct surface *const surfaces[] = {
	    &surface_github, &surface_gitea, &surface_gitlab, &surface_github};
	static const char *const events[] = {
	    "issue_comment", "issues", "pull_request_review_comment", "pull_request_review"};
	const struct surface *surface;
	struct accepted a = {0};
	struct inside_answer answer = {0};
	struct why why = {0};
	struct sent sent;
	unsigned char mac[HMAC_SHA256_LEN];
	char hex[2 * HMAC_SHA256_LEN + 1];
	bool is_signed;
	int rc;

	if (size < 1)
		return 0;
	AUTO_STR body = str_ndup((const char *)data + 1, strnlen((const char *)data + 1, size - 1));
	AUTO_STR signature = NULL;

	surface = surfaces[data[0] & 3];
	is_signed = (data[0] & 32) == 0;
	sent = (struct sent){
	    .form = data[0] & 16, .event = surface == &surface_gitlab ? "Note Hook" : events[data[0] >> 2 & 3]};
	hmac_sha256(SECRET, strlen(SECRET), body, strlen(body), mac);
	for (size_t i = 0; i < sizeof mac; i++)
		snprintf(hex + 2 * i, 3, "%02x", mac[i]);
	signature = surface == &surface_gitlab
			? str_dup(is_signed ? SECRET : body)
			: str_printf("%s%s", surface == &surface_github ? "sha256=" : "", is_signed ? hex : body);
	sent.signature = signature;
	const struct inside_delivery d = {
	    .path = surface->name, .header = header_of, .ctx = &sent, .body = body, .len = strlen(body)};

	rc = surface->accept(triggers, &d, &a, &answer, &why);
	if (!is_signed && strcmp(body, surface == &surface_gitlab ? SECRET : hex) != 0)
		ENSURE(rc == ERR_UNAUTHORIZED);
	else
		ENSURE(rc == OK || rc == ERR_EMPTY || (rc == ERR_INVALID && why.text[0] != '\0'));
	if (rc == OK) {
		ENSURE(strcmp(a.place, HOST) == 0 && a.delivery[0] != '\0' && a.event[0] != '\0');
		ENSURE(strlen(a.thread) < 700);
		if (!a.ignored)
			read_stored(surface, &a, body);
	}
	accepted_fini(&a);
	free(answer.text);
	return 0;
}
