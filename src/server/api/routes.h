/* api/routes.h: the table of all routes, and which of them a request means; for this folder, and for the program that
 * writes docs/openapi.yaml.
 * Threads: any; the table is built once, at the first call, and constant afterwards. */
#pragma once
#include "base/strbuf.h"
#include "server/api/route.h"

/* A route, and what is read from its description only once. */
struct known_route {
	const struct route *route;
	json_t *query_schema, *body_schema; /* NULL: none */
	struct path_part {
		enum { PART_NAME, PART_PARAM, PART_REST } kind;
		const char *text; /* the name, or that of the parameter */
		size_t len;
	} parts[10];
	size_t n_parts;
};

/* Ordered by path, a name before a parameter, and method. */
const struct known_route *routes_all(size_t *ret_n);

struct route_match {
	const struct known_route *known; /* NULL: none */
	struct strbuf allowed; /* the methods of the path, while only the method is wrong */
	const char *params[ROUTE_PARAMS_MAX]; /* still encoded, pieces of the path */
	size_t lens[ROUTE_PARAMS_MAX];
};
/* `m` borrows from the path; route_match_fini frees the rest. */
void route_find(const char *method, const char *path, struct route_match *m);
void route_match_fini(struct route_match *m);
/* The path without doubled leading and trailing slashes: a client may join its base URL either way. malloc'ed. */
char *route_clean_path(const char *path);

/* openapi.c: the OpenAPI 3.1 description of all routes. New reference. */
json_t *openapi_document(void);
/* The same as YAML. malloc'ed. */
char *openapi_text(void);
