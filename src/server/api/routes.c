/* The table of routes: collected from the linker's section, checked, parsed once, searched. */
#include "server/api/routes.h"
#include "base/mem.h"
#include "server/api/schema.h"
#include <pthread.h>
#include <string.h>

#define ROUTES_MAX 256

/* Ends of the section that ROUTE() fills; absent in a program that links no route. */
extern const struct route *const __start_route_table[] __attribute__((weak));
extern const struct route *const __stop_route_table[] __attribute__((weak));

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct known_route table[ROUTES_MAX];
static size_t n_routes;

char *route_clean_path(const char *path)
{
	size_t n;

	while (path[0] == '/' && path[1] == '/')
		path++;
	n = strlen(path);
	while (n > 1 && path[n - 1] == '/')
		n--;
	return str_ndup(path, n);
}

/* Mistakes in a description are ours, and show when the program starts. */
static void parse_path(struct known_route *k)
{
	const char *s = k->route->path;
	size_t params = 0;

	if (strcmp(s, "/") == 0) /* has no segment */
		return;
	while (*s != '\0') {
		struct path_part *part = &k->parts[k->n_parts++];
		size_t len = strcspn(s + 1, "/");

		ENSURE(s[0] == '/' && len > 0 && k->n_parts <= ARRAY_LEN(k->parts));
		*part = (struct path_part){.kind = PART_NAME, .text = s + 1, .len = len};
		s += len + 1;
		if (part->text[0] != '{')
			continue;
		ENSURE(len > 2 && part->text[len - 1] == '}' && ++params <= ROUTE_PARAMS_MAX);
		part->kind = part->text[len - 2] == '*' ? PART_REST : PART_PARAM;
		part->text++;
		part->len = len - (part->kind == PART_REST ? 3 : 2);
		ENSURE(part->kind == PART_PARAM || *s == '\0');
	}
}

static void check_description(const struct known_route *k)
{
	const struct route *r = k->route;
	bool has_schema = r->body == BODY_JSON || r->body == BODY_FORM;

	ENSURE(r->name != NULL && r->method != NULL && r->summary != NULL && r->tag != NULL && r->handler != NULL);
	ENSURE(has_schema == (r->body_schema != NULL));
	ENSURE(r->content_types == NULL || r->body == BODY_BYTES || r->body == BODY_UPLOAD);
	/* Nobody is known whose limits could count it, and there is nobody to have a scope. */
	ENSURE(!r->open || (r->rate == RATE_NONE && r->scope == NULL && !r->open_on_loopback));
	ENSURE(r->scope == NULL || access_scope_is_known(r->scope));
	ENSURE(r->responses[0].status != 0);
}

static int compare_routes(const void *a, const void *b)
{
	const struct known_route *x = a, *y = b;

	for (size_t i = 0; i < x->n_parts && i < y->n_parts; i++) {
		const struct path_part *p = &x->parts[i], *q = &y->parts[i];
		int order = (int)p->kind - (int)q->kind;

		/* Parameters match the same whatever their names. */
		if (order == 0 && p->kind == PART_NAME)
			order = strncmp(p->text, q->text, MIN(p->len, q->len));
		if (order == 0 && p->kind == PART_NAME)
			order = p->len < q->len ? -1 : p->len > q->len;
		if (order != 0)
			return order;
	}
	if (x->n_parts != y->n_parts)
		return x->n_parts < y->n_parts ? -1 : 1;
	return strcmp(x->route->method, y->route->method);
}

static void build_table(void)
{
	for (const struct route *const *r = __start_route_table; r != __stop_route_table; r++) {
		struct known_route *k = &table[n_routes++];

		ENSURE(n_routes <= ROUTES_MAX);
		k->route = *r;
		parse_path(k);
		check_description(k);
		if (k->route->query != NULL)
			k->query_schema = schema_parse(k->route->query);
		if (k->route->body_schema != NULL)
			k->body_schema = schema_parse(k->route->body_schema);
	}
	qsort(table, n_routes, sizeof table[0], compare_routes);
	for (size_t i = 1; i < n_routes; i++)
		ENSURE(compare_routes(&table[i - 1], &table[i]) != 0);
	for (size_t i = 0; i < n_routes; i++)
		for (size_t j = i + 1; j < n_routes; j++)
			ENSURE(strcmp(table[i].route->name, table[j].route->name) != 0);
}

const struct known_route *routes_all(size_t *ret_n)
{
	pthread_once(&once, build_table);
	*ret_n = n_routes;
	return table;
}

/* The segments of a path; the rest beyond the greatest number that a route has is one. */
struct segments {
	const char *at[11];
	size_t len[11];
	size_t n;
};

static void split_path(const char *path, struct segments *s)
{
	s->n = 0;
	while (*path == '/' && s->n < ARRAY_LEN(s->at)) {
		s->at[s->n] = path + 1;
		s->len[s->n] = strcspn(path + 1, "/");
		path += s->len[s->n++] + 1;
	}
}

static bool route_matches(const struct known_route *k, const struct segments *s, struct route_match *m)
{
	size_t n = 0;

	for (size_t i = 0; i < k->n_parts; i++) {
		const struct path_part *part = &k->parts[i];

		if (i >= s->n || s->len[i] == 0)
			return false;
		if (part->kind == PART_NAME) {
			if (s->len[i] != part->len || memcmp(s->at[i], part->text, part->len) != 0)
				return false;
			continue;
		}
		m->params[n] = s->at[i];
		m->lens[n++] = part->kind == PART_REST ? strlen(s->at[i]) : s->len[i];
		if (part->kind == PART_REST)
			return true;
	}
	return k->n_parts == 0 ? s->n == 1 && s->len[0] == 0 : k->n_parts == s->n;
}

void route_find(const char *method, const char *path, struct route_match *m)
{
	const char *wanted = strcmp(method, "HEAD") == 0 ? "GET" : method;
	struct segments s;
	size_t n;
	const struct known_route *all = routes_all(&n);

	*m = (struct route_match){.allowed = STRBUF(200)};
	split_path(path, &s);
	for (size_t i = 0; i < n; i++) {
		if (!route_matches(&all[i], &s, m))
			continue;
		if (strcmp(all[i].route->method, wanted) == 0) {
			m->known = &all[i];
			return;
		}
		/* A path may match a name and a parameter; no method is a part of another. */
		if (strstr(strbuf_str(&m->allowed), all[i].route->method) == NULL)
			strbuf_addf(&m->allowed, "%s%s", m->allowed.len > 0 ? ", " : "", all[i].route->method);
	}
}

void route_match_fini(struct route_match *m)
{
	strbuf_fini(&m->allowed);
}
