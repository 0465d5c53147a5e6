/* What a worker says of itself: to the control plane in its Hello, and to the people who started it. */
#include "agent/tools/tool.h"
#include "agent/worker/worker_priv.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/terminal.h"
#include <string.h>
#include <sys/utsname.h>

static void print_pair(const char *name, const char *value)
{
	AUTO_STR clean = terminal_clean(value, TERMINAL_LINE);

	printf("%s: %s\n", name, clean);
}

static char *name_of(const struct worker_process *w)
{
	return w->cfg.options->name != NULL ? w->cfg.options->name : w->cfg.identity->host;
}

void worker_announce(struct worker_process *w)
{
	const struct worker_roots *roots = w->cfg.roots;
	const struct worker_options *o = w->cfg.options;

	if (w->announced)
		return;
	w->announced = true;
	puts("Worker is now running");
	if (o->pool != NULL)
		puts("Registering to worker pool");
	if (roots->n > 0 && roots->root[0].repo[0] != '\0')
		print_pair("Repo", roots->root[0].repo);
	if (o->pool != NULL) {
		print_pair("Pool", o->pool);
	} else {
		print_pair("Name", name_of(w));
		print_pair("Directory", o->dirs[0]);
		printf("Run agents: %s#workerId=%s\n", o->endpoint, w->cfg.identity->worker_id);
	}
	fflush(stdout);
}

/* What the lists of a Hello point to. */
struct hello_parts {
	Bullpen__Worker__V1__Root roots[WORKER_MAX_DIRS], *root_list[WORKER_MAX_DIRS];
	Bullpen__Worker__V1__Label labels[LABELS_MAX], *label_list[LABELS_MAX];
	Bullpen__Worker__V1__Fitness fitness;
	char *capabilities[2];
	struct utsname host;
};

static void add_roots(const struct worker_process *w, Bullpen__Worker__V1__Hello *h, struct hello_parts *p)
{
	for (size_t i = 0; i < w->cfg.roots->n; i++) {
		const struct worker_root *r = &w->cfg.roots->root[i];

		bullpen__worker__v1__root__init(&p->roots[i]);
		p->roots[i].path = r->path;
		p->roots[i].remote_url = r->remote_url;
		p->roots[i].host = r->host;
		p->roots[i].repo = r->repo;
		p->root_list[i] = &p->roots[i];
	}
	h->n_roots = w->cfg.roots->n;
	h->roots = p->root_list;
}

static void add_labels(const struct labels *l, Bullpen__Worker__V1__Hello *h, struct hello_parts *p)
{
	for (size_t i = 0; i < l->n; i++) {
		bullpen__worker__v1__label__init(&p->labels[i]);
		p->labels[i].key = l->v[i].key;
		p->labels[i].value = l->v[i].value;
		p->label_list[i] = &p->labels[i];
	}
	h->n_labels = l->n;
	h->labels = p->label_list;
}

static void add_mode(const struct worker_options *o, Bullpen__Worker__V1__Hello *h, struct hello_parts *p)
{
	h->personal = o->pool == NULL;
	h->max_sessions = o->pool == NULL ? WORKER_MAX_SESSIONS_PERSONAL : 0;
	if (o->pool != NULL)
		h->pool = o->pool;
	h->idle_release_s = (uint32_t)o->idle_release_s;
	h->idle_release_given = o->idle_release_given;
	h->capabilities = p->capabilities;
	if (o->clone_git_repos)
		p->capabilities[h->n_capabilities++] = (char *)(uintptr_t) "clone_git_repos";
	if (o->sync_secrets)
		p->capabilities[h->n_capabilities++] = (char *)(uintptr_t) "secret_sync";
}

static void add_machine(Bullpen__Worker__V1__Hello *h, struct utsname *host)
{
	if (uname(host) != 0)
		return;
	for (char *p = host->sysname; *p != '\0'; p++)
		*p = (char)(*p >= 'A' && *p <= 'Z' ? *p - 'A' + 'a' : *p);
	h->os = host->sysname;
	h->arch = host->machine;
}

static void add_fitness(struct worker_process *w, Bullpen__Worker__V1__Hello *h, struct hello_parts *p)
{
	bullpen__worker__v1__fitness__init(&p->fitness);
	if (w->unfit_code != NULL) {
		p->fitness.code = w->unfit_code;
		p->fitness.reason = w->unfit_reason;
		h->fitness = &p->fitness;
	}
	w->fitness_said = true;
}

void worker_send_hello(struct worker_process *w)
{
	Bullpen__Worker__V1__Hello h = BULLPEN__WORKER__V1__HELLO__INIT;
	struct hello_parts *p = NEW(struct hello_parts);
	AUTO_STR tools = w->tools_known ? NULL : tools_describe(NULL);

	h.worker_id = w->cfg.identity->worker_id;
	h.name = name_of(w);
	h.host = w->cfg.identity->host;
	h.isolation = (char *)(uintptr_t)w->cfg.isolation;
	h.version = (char *)(uintptr_t)BULLPEN_VERSION;
	add_roots(w, &h, p);
	add_labels(&w->cfg.options->labels, &h, p);
	add_mode(w->cfg.options, &h, p);
	add_machine(&h, &p->host);
	add_fitness(w, &h, p);
	calls_fill_hello(w->calls, &h);
	if (tools != NULL) {
		h.tools_json = tools;
		sha256_hex(tools, strlen(tools), w->tools_hash);
	}
	h.tools_hash = w->tools_hash;
	link_attach(w->link, &h, clock_mono_ms());
	free(p);
}
