/* agent fleet: what the fleet API says, for an operator in a terminal. */
#include "agent/cli/client.h"
#include "agent/cli/verbs.h"
#include "agent/cli/why.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/terminal.h"
#include "base/text.h"
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROOT "/v0/private-workers"
#define PAGES_MAX 200 /* of a hundred */
#define CELL_MAX 60
#define WATCH_MS 2000
#define LABELS_SHOWN 400

struct fleet_view {
	struct client *c;
	const char *pool; /* NULL: all */
	bool watch;
	int status;
};

/* One cell of a table: cut and harmless, in a ring of eight. */
static const char *cell(const char *s)
{
	static _Thread_local char ring[8][CELL_MAX * 4 + 1];
	static _Thread_local unsigned at;
	AUTO_STR clean = terminal_clean(s, TERMINAL_LINE);
	char *to = ring[at++ % 8];

	clean[text_utf8_cut(clean, strlen(clean), CELL_MAX)] = '\0';
	snprintf(to, sizeof ring[0], "%s", clean[0] != '\0' ? clean : "-");
	return to;
}

static const char *age(int64_t since_ms)
{
	static _Thread_local char ring[4][24];
	static _Thread_local unsigned at;
	int64_t s = MAX(clock_wall_ms() - since_ms, 0) / 1000;
	char *to = ring[at++ % 4];

	if (since_ms == 0)
		snprintf(to, sizeof ring[0], "-");
	else if (s < 120)
		snprintf(to, sizeof ring[0], "%lld s", (long long)s);
	else if (s < 7200)
		snprintf(to, sizeof ring[0], "%lld min", (long long)(s / 60));
	else if (s < 172800)
		snprintf(to, sizeof ring[0], "%lld h", (long long)(s / 3600));
	else
		snprintf(to, sizeof ring[0], "%lld d", (long long)(s / 86400));
	return to;
}

static int64_t number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

/* All pages of a list; `fn` for each entry. */
static int each(
    struct fleet_view *v, const char *path, const char *list, void (*fn)(struct fleet_view *v, const json_t *o))
{
	AUTO_STR token = NULL;

	for (int page = 0; page < PAGES_MAX; page++) {
		AUTO_STR url = str_printf("%s%climit=100%s%s", path, strchr(path, '?') != NULL ? '&' : '?',
		    token != NULL ? "&pageToken=" : "", token != NULL ? token : "");
		AUTO_JSON body = NULL;
		json_t *entry;
		size_t i;
		int rc = client_call(v->c, "GET", url, NULL, &body, &v->status);

		if (rc != OK)
			return rc;
		json_array_foreach(json_object_get(body, list), i, entry) fn(v, entry);
		str_set(&token, json_string_value(json_object_get(body, "nextPageToken")));
		if (token == NULL)
			return OK;
	}
	return OK;
}

static char *labels_of(const json_t *list, bool all)
{
	struct strbuf b = STRBUF(LABELS_SHOWN);
	json_t *label;
	size_t i;

	json_array_foreach((json_t *)list, i, label)
	{
		const char *key = json_field(label, "key");

		if (all || (strcmp(key, "repo") != 0 && strcmp(key, "pool") != 0))
			strbuf_addf(&b, "%s%s=%s", b.len > 0 ? " " : "", key, json_field(label, "value"));
	}
	return strbuf_take(&b);
}

static const char *label_value(const json_t *list, const char *wanted)
{
	json_t *label;
	size_t i;

	json_array_foreach((json_t *)list, i,
	    label) if (strcmp(json_field(label, "key"), wanted) == 0) return json_field(label, "value");
	return "";
}

static char *repo_of(const json_t *o)
{
	const char *owner = json_field(o, "repoOwner");

	return owner[0] != '\0' ? str_printf("%s/%s", owner, json_field(o, "repoName")) : str_dup("any");
}

static bool is_of_pool(const struct fleet_view *v, const char *pool)
{
	return v->pool == NULL || strcmp(pool, v->pool) == 0;
}

static void show_worker(struct fleet_view *v, const json_t *w)
{
	const json_t *tags = json_object_get(w, "tags");
	const char *pool = json_field(w, "poolName");
	const char *unfit = json_field(json_object_get(w, "unfit"), "reason");
	AUTO_STR repo = repo_of(w);
	AUTO_STR labels = labels_of(tags, false);

	if (!is_of_pool(v, pool))
		return;
	if (v->c->json) {
		client_print_json(w);
		return;
	}
	printf("%-24s  %-12s  %-7s  %-20s  %-8s  %-39s  %s\n", cell(json_field(w, "name")),
	    pool[0] ? cell(pool) : "personal",
	    unfit[0]					  ? "unfit"
	    : json_is_true(json_object_get(w, "isInUse")) ? "in use"
							  : "idle",
	    cell(repo), age(number(w, "connectedAtMs")), cell(json_field(w, "activeBcId")), cell(labels));
	if (unfit[0])
		printf("    unfit: %s\n", cell(unfit));
}

static int show_workers(struct fleet_view *v)
{
	if (!v->c->json)
		printf("%-24s  %-12s  %-7s  %-20s  %-8s  %-39s  %s\n", "WORKER", "POOL", "STATE", "REPOSITORY", "SINCE",
		    "AGENT", "LABELS");
	return each(v, ROOT, "workers", show_worker);
}

static void show_pool(struct fleet_view *v, const json_t *p)
{
	AUTO_STR repo = repo_of(p);
	int64_t connected = number(p, "connectedWorkerCount"), used = number(p, "inUseWorkerCount");

	if (!is_of_pool(v, json_field(p, "poolName")))
		return;
	if (v->c->json)
		client_print_json(p);
	else
		printf("%-20s  %-24s  %9lld  %6lld  %4lld  %8s  %6llds\n", cell(json_field(p, "poolName")), cell(repo),
		    (long long)connected, (long long)used, (long long)(connected - used),
		    age(number(p, "lastSeenAtMs")), (long long)number(p, "workerReadyTimeoutSeconds"));
}

static int show_pools(struct fleet_view *v)
{
	AUTO_JSON body = NULL;
	json_t *pool;
	size_t i;
	int rc;

	if (!v->c->json)
		printf("%-20s  %-24s  %9s  %6s  %4s  %8s  %7s\n", "POOL", "REPOSITORY", "CONNECTED", "IN USE", "IDLE",
		    "SEEN", "WINDOW");
	rc = client_call(v->c, "GET", ROOT "/pools", NULL, &body, &v->status);
	json_array_foreach(json_object_get(body, "pools"), i, pool) show_pool(v, pool);
	return rc;
}

static void show_request(struct fleet_view *v, const json_t *r)
{
	const json_t *labels = json_object_get(r, "labels"), *wait = json_object_get(r, "wait");
	AUTO_STR repo = repo_of(r);
	AUTO_STR custom = labels_of(labels, false);
	const char *who = json_field(r, "userEmail");

	if (!is_of_pool(v, label_value(labels, "pool")))
		return;
	if (v->c->json) {
		client_print_json(r);
		return;
	}
	printf("%-39s  %-8s  %-12s  %-20s  %-20s  %s\n", cell(json_field(r, "id")), age(number(r, "createdAtMs")),
	    cell(label_value(labels, "pool")), cell(repo), cell(who[0] ? who : json_field(r, "serviceAccountId")),
	    cell(custom));
	if (wait != NULL)
		why_print(wait, "    ");
}

static int show_queue(struct fleet_view *v)
{
	if (!v->c->json)
		printf(
		    "%-39s  %-8s  %-12s  %-20s  %-20s  %s\n", "AGENT", "WAITS", "POOL", "REPOSITORY", "WHO", "LABELS");
	return each(v, ROOT "/pending-requests?nearest=true", "requests", show_request);
}

static int show_summary(struct fleet_view *v)
{
	AUTO_JSON body = NULL;
	const json_t *team;
	int64_t all, used;
	int rc = client_call(v->c, "GET", ROOT "/summary", NULL, &body, &v->status);

	if (rc != OK)
		return rc;
	if (v->c->json) {
		client_print_json(body);
		return OK;
	}
	team = json_object_get(body, "teamSummary");
	all = number(team, "totalConnected");
	used = number(team, "inUse");
	printf("%lld worker%s connected, %lld in use, %lld idle", (long long)all, all == 1 ? "" : "s", (long long)used,
	    (long long)(all - used));
	printf(all > 0 ? " (%lld%% used)\n\n" : "\n\n", (long long)(all > 0 ? used * 100 / all : 0));
	rc = show_pools(v);
	if (rc != OK)
		return rc;
	puts("");
	return show_queue(v);
}

static const struct view {
	const char *name;
	int (*show)(struct fleet_view *v);
} views[] = {{"workers", show_workers}, {"pools", show_pools}, {"queue", show_queue}, {"summary", show_summary}};

static volatile sig_atomic_t left;

static void on_interrupt(int sig)
{
	left = 1;
}

/* Again and again until Ctrl-C. On a terminal each picture takes the place of the one before. A server that goes away
 * after the first picture is waited for: an upgrade is when people look. */
static int watch(struct fleet_view *v, const struct view *view)
{
	const struct sigaction sa = {.sa_handler = on_interrupt};
	const struct timespec pause = {WATCH_MS / 1000, WATCH_MS % 1000 * 1000000L};
	bool terminal = isatty(STDOUT_FILENO) == 1, seen = false;
	int rc;

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	do {
		char now[CLOCK_ISO_LEN];

		if (terminal)
			fputs("\033[H\033[2J", stdout);
		clock_iso8601(clock_wall_ms(), now);
		if (!v->c->json)
			printf("%s\n", now);
		rc = view->show(v);
		fflush(stdout);
		if (rc == OK)
			seen = true;
		else if (seen && v->status == EXIT_UNREACHABLE)
			rc = OK;
		if (rc == OK && !left)
			nanosleep(&pause, NULL);
	} while (rc == OK && !left);
	return rc;
}

/* For people with the fleet's key, who may not see the agent itself. */
static int show_why_of(struct fleet_view *v, const char *id)
{
	AUTO_STR token = NULL;

	for (int page = 0; page < PAGES_MAX; page++) {
		AUTO_STR url = str_printf(ROOT "/pending-requests?nearest=true&limit=100%s%s",
		    token != NULL ? "&pageToken=" : "", token != NULL ? token : "");
		AUTO_JSON body = NULL;
		json_t *request;
		size_t i;

		if (client_call(v->c, "GET", url, NULL, &body, &v->status) != OK)
			return v->status;
		json_array_foreach(
		    json_object_get(body, "requests"), i, request) if (strcmp(json_field(request, "id"), id) == 0)
		{
			show_request(v, request);
			return EXIT_DONE;
		}
		str_set(&token, json_string_value(json_object_get(body, "nextPageToken")));
		if (token == NULL)
			break;
	}
	if (!v->c->json)
		puts("it is not waiting for a pool worker");
	return EXIT_DONE;
}

static int drain(struct fleet_view *v, const char *worker_id)
{
	AUTO_STR path = str_printf(ROOT "/%s/drain", worker_id);
	AUTO_JSON body = NULL;

	if (!text_is_token(worker_id, "._:-", 128)) {
		client_error("name a worker by its id: agent fleet drain ID (agent fleet workers --json lists them)");
		return EXIT_USAGE;
	}
	if (client_call(v->c, "POST", path, NULL, &body, &v->status) != OK)
		return v->status;
	if (v->c->json)
		client_print_json(body);
	else
		printf("%s gets nothing new, and exits when its runs are over\n", worker_id);
	return EXIT_DONE;
}

static int perform(struct fleet_view *v, const struct option_words *words)
{
	const char *name = words->n > 0 ? words->v[0] : "summary";

	if (strcmp(name, "why") == 0) {
		AUTO_STR id = str_dup(words->n > 1 ? words->v[1] : "");

		id_lower(id);
		if (!id_is(id, "bc-")) {
			client_error("name an agent: agent fleet why bc-…");
			return EXIT_USAGE;
		}
		return show_why_of(v, id);
	}
	if (strcmp(name, "drain") == 0)
		return drain(v, words->n > 1 ? words->v[1] : "");
	for (size_t i = 0; i < ARRAY_LEN(views); i++)
		if (strcmp(views[i].name, name) == 0 && words->n < 2) {
			int rc = v->watch ? watch(v, &views[i]) : views[i].show(v);

			return rc == OK ? EXIT_DONE : v->status;
		}
	if (words->n > 1)
		client_error("unexpected argument '%.80s'", words->v[1]);
	else
		client_error("unknown view '%.80s': it can be summary, workers, pools, queue, why or drain", name);
	return EXIT_USAGE;
}

int verb_fleet(int argc, char **argv)
{
	struct client c = {0};
	struct fleet_view v = {.c = &c, .status = EXIT_FAILED};
	const struct option_row rows[] = {
	    {.name = "pool", .value = "NAME", .text = &v.pool, .help = "only of this pool"},
	    {.name = "watch", .letter = 'w', .given = &v.watch, .help = "again every two seconds, until Ctrl-C"}, {0}};
	const struct options verb = {.usage = "agent fleet [summary|workers|pools|queue] [options]\nagent fleet why "
					      "AGENT [options]\nagent fleet drain WORKER [options]",
	    .about = "Shows the connected workers, the pools, and what waits and why. Needs a service account key.",
	    .rows = rows,
	    .footer = CLIENT_EXIT_STATUS "."};
	struct option_words words;
	int status = EXIT_USAGE;

	if (client_parse(&c, argc, argv, &verb, 2, &words, &status) == OK)
		status = perform(&v, &words);
	client_fini(&c);
	return status;
}
