/* What is to be set up at each service, with the addresses of this installation. */
#include "base/mem.h"
#include "base/strbuf.h"
#include "server/main/admin_connect_priv.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECRET_HINT "openssl rand -hex 32 makes one"

static const char *address(const struct connect *c)
{
	return c->url != NULL ? c->url : "https://BULLPEN";
}

/* As text in the query of an address; what stands in it is ours, or an address that was looked at. */
static void print_quoted(const char *text)
{
	for (const char *s = text; *s != '\0'; s++)
		if (strchr(":/&=+#%", *s) != NULL)
			printf("%%%02X", (unsigned char)*s);
		else
			putchar(*s);
}

/* GitHub fills its form in by the query: docs.github.com, "Registering a GitHub App using URL parameters". */
static void guide_github(const struct connect *c)
{
	static const char *const events[] = {CONNECT_GITHUB_EVENTS};
	size_t at = 0;
	struct forge *f = connect_forge(c, &at);
	AUTO_STR hook = str_printf("%s%s", address(c), c->path);

	printf("1. Register a GitHub App: this page has its form filled in (an organisation's:\n"
	       "   /organizations/ORG/settings/apps/new with the same query).\n\n   https://%s/settings/apps/new?name="
	       "Bullpen&public=false&webhook_active=true&contents=write&pull_requests=write&issues=write&metadata=read&"
	       "url=",
	    f != NULL ? forge_host(f) : "github.com");
	print_quoted(address(c));
	printf("&webhook_url=");
	print_quoted(hook);
	for (size_t i = 0; i < ARRAY_LEN(events); i++)
		printf("&events[]=%s", events[i]);
	printf("\n\n   Webhook secret: of your own (" SECRET_HINT
	       "). Then generate a private key and install the app for\n"
	       "   the repositories.\n"
	       "2. Without an app: a token that may read and write contents, issues and pull requests, and at each "
	       "repository\n"
	       "   or organisation a webhook to %s, content type application/json,\n   with the events ",
	    hook);
	for (size_t i = 0; i < ARRAY_LEN(events); i++)
		printf("%s%s", i > 0 ? ", " : "", events[i]);
	printf(".\n3. The settings:\n\n"
	       "   [[forges]]\n   kind = \"github\"\n"
	       "   app_id = \"NUMBER\"                                     # or token_file instead of these two, or "
	       "beside them\n"
	       "   private_key_file = \"/etc/bullpen/github-app.pem\"\n"
	       "   webhook_secret_file = \"/etc/bullpen/github-webhook\"\n\n");
}

static void guide_gitlab(const struct connect *c)
{
	printf("1. A token (of a group, a project or an account for agents): role Developer, scope api.\n"
	       "2. At the group or project a webhook: URL %s%s, triggers Comments and Issues events,\n   secret token "
	       "of your own "
	       "(" SECRET_HINT ").\n"
	       "3. The settings:\n\n"
	       "   [[forges]]\n   kind = \"gitlab\"\n   url = \"https://gitlab.com\"\n"
	       "   token_file = \"/etc/bullpen/gitlab-token\"\n"
	       "   webhook_secret_file = \"/etc/bullpen/gitlab-webhook\"\n\n",
	    address(c), c->path);
}

static void guide_gitea(const struct connect *c)
{
	printf("1. An account for agents that administers the repositories (only then is it told who may write), and "
	       "its token:\n   repository and issue, read and write; user, read.\n"
	       "2. At the repository or organisation a webhook of the type %s: URL %s%s,\n   content type "
	       "application/json, secret of your own (" SECRET_HINT "),\n"
	       "   events: issues (also assigned and labelled), issue comments, pull request comments, pull request "
	       "reviews.\n"
	       "3. The settings:\n\n"
	       "   [[forges]]\n   kind = \"%s\"\n   url = \"https://git.example.com\"\n"
	       "   token_file = \"/etc/bullpen/forge-token\"\n"
	       "   webhook_secret_file = \"/etc/bullpen/forge-webhook\"\n\n",
	    c->name, address(c), c->path, strcmp(c->name, "Forgejo") == 0 ? "forgejo" : "gitea");
}

static void guide_linear(const struct connect *c)
{
	printf("1. An OAuth application at https://linear.app/settings/api/applications/new: callback URL %s/link,\n"
	       "   webhooks on, URL %s%s, events: Agent session events; where the workspace has no\n"
	       "   agent sessions, Comments.\n"
	       "2. The settings:\n\n"
	       "   [linear]\n   client_id = \"ID\"\n"
	       "   client_secret_file = \"/etc/bullpen/linear-client\"     # the application's client secret\n"
	       "   webhook_secret_file = \"/etc/bullpen/linear-webhook\"   # the application's signing secret\n\n"
	       "3. This command again, with --data DIR: it prints an address by which the application is installed as\n"
	       "   an agent (actor=app; scopes read, write, app:assignable, app:mentionable).\n"
	       "   Instead of client_id and client_secret_file: token_file, with a token that does not end.\n\n",
	    address(c), address(c), c->path);
}

char *connect_slack_scopes(const struct connect *c, const char *between)
{
	static const char *const scopes[] = {CONNECT_SLACK_SCOPES};
	struct strbuf b = STRBUF(2000);

	for (size_t i = 0; i < ARRAY_LEN(scopes); i++)
		IGNORE(strbuf_addf(&b, "%s%s", i > 0 ? between : "", scopes[i]));
	if (json_is_true(json_object_get(json_object_get(c->root, "slack"), "link_by_email")))
		IGNORE(strbuf_addf(&b, "%susers:read.email", between));
	return strbuf_take(&b);
}

static json_t *slack_manifest(const struct connect *c, bool socket)
{
	static const char *const scopes[] = {CONNECT_SLACK_SCOPES};
	AUTO_STR events = str_printf("%s/webhooks/slack/events", address(c));
	AUTO_STR clicks = str_printf("%s/webhooks/slack/interactive", address(c));
	AUTO_STR redirect = str_printf("%s/link", address(c));
	json_t *list = json_array(), *redirects = json_object();
	json_t *subscriptions =
	    json_pack("{s:[s,s,s,s]}", "bot_events", "app_mention", "message.im", "app_uninstalled", "tokens_revoked");
	json_t *interactivity = json_pack("{s:b}", "is_enabled", 1);

	for (size_t i = 0; i < ARRAY_LEN(scopes); i++)
		json_array_append_new(list, json_string(scopes[i]));
	if (json_is_true(json_object_get(json_object_get(c->root, "slack"), "link_by_email")))
		json_array_append_new(list, json_string("users:read.email"));
	if (connect_by_browser(c))
		json_put_new(redirects, "redirect_urls", json_pack("[s]", redirect));
	json_put_new(redirects, "scopes", json_pack("{s:o}", "bot", list));
	if (!socket) {
		json_put(subscriptions, "request_url", events);
		json_put(interactivity, "request_url", clicks);
	}
	return json_pack("{s:{s:s}, s:{s:{s:b, s:b}, s:{s:s, s:b}}, s:o, s:{s:o, s:o, s:b}}", "display_information",
	    "name", "Bullpen", "features", "app_home", "messages_tab_enabled", 1, "messages_tab_read_only_enabled", 0,
	    "bot_user", "display_name", "bullpen", "always_online", 1, "oauth_config", redirects, "settings",
	    "event_subscriptions", subscriptions, "interactivity", interactivity, "socket_mode_enabled", socket);
}

/* With an app-level token in the settings nothing has to come in. */
static void guide_slack(const struct connect *c)
{
	bool socket = json_object_get(json_object_get(c->root, "slack"), "app_token_file") != NULL;
	AUTO_JSON manifest = slack_manifest(c, socket);
	AUTO_STR text = json_dumps(manifest, JSON_INDENT(2));

	printf("1. At https://api.slack.com/apps: Create New App, From a manifest, and there:\n\n%s\n\n"
	       "2. Install it to the workspace; its Bot User OAuth Token (xoxb-…) goes into a file. (For several\n"
	       "   workspaces: client_id and client_secret_file of Basic Information instead of bot_token_file, and\n"
	       "   this command with --data DIR, which prints an address for each.)\n"
	       "3. %s\n4. The settings:\n\n"
	       "   [slack]\n   bot_token_file = \"/etc/bullpen/slack-bot-token\"\n   %s\n\n",
	    text,
	    socket
		? "Socket Mode: an app-level token (xapp-…) with the scope connections:write goes into a file."
		: "Its Signing Secret (Basic Information) goes into a file. (If Slack cannot reach the server: give\n"
		  "   app_token_file, and this command prints the manifest for Socket Mode.)",
	    socket ? "app_token_file = \"/etc/bullpen/slack-app-token\""
		   : "signing_secret_file = \"/etc/bullpen/slack-signing-secret\"");
}

void connect_guide(const struct connect *c)
{
	static void (*const guides[])(const struct connect *) = {[CONNECT_GITHUB] = guide_github,
	    [CONNECT_GITLAB] = guide_gitlab,
	    [CONNECT_GITEA] = guide_gitea,
	    [CONNECT_LINEAR] = guide_linear,
	    [CONNECT_SLACK] = guide_slack};

	guides[c->surface](c);
}
